//! A whole server from a configuration: opens the store, starts the queue, listens; reloads; stops gracefully.
//!
//! Assembly only: every part is made here and knows nothing of the others but what it is handed.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, Result, bail};
use mail::Domain;
use net::discovery::Discovery;
use net::dns::{Resolver, Source};
use net::lookup::Lookup;
use net::smtp_server::{self, Settings};
use net::tls::{self, Certificates, ClientTls, Trust, Versions};
use net::{repository, retrieval, smtp_client};
use queue::{Node, QueueConfig, Router as ReportRouter};
use rustls::{ClientConfig, ServerConfig};
use smtp::server::{Config as SmtpConfig, OfferTbr};
use store::{EmbeddedConfig, Store};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::accounts::Accounts;
use crate::admin::api::{Message as Traced, Reloaded};
use crate::admin::{self, ReloadRequest};
use crate::config::{self, Config, ListenerKind, StoreKind, TlsVersion};
use crate::deliver::{Couriers, Hosts};
use crate::receive::{self, LiveRouter, OfferDesk, Prober, Reception};
use crate::repository::{Facts, LocalRepository};
use crate::routing::Router;
use crate::runtime::{Custody, Runtime, SystemEntropy, now};
use crate::settings;

/// A running server.
pub struct Server {
    listening: Vec<(ListenerKind, SocketAddr)>,
    custody: Custody,
    store: Store,
    live: Live,
    front: CancellationToken,
    back: CancellationToken,
    front_tasks: JoinSet<()>,
    back_tasks: JoinSet<()>,
    reload_sender: mpsc::Sender<ReloadRequest>,
    reloads: mpsc::Receiver<ReloadRequest>,
}

/// What a reload replaces.
struct Live {
    config: Arc<Config>,
    router: LiveRouter,
    hosts: Hosts,
    facts: Facts,
    resolver: Resolver,
}

impl Server {
    /// Starts everything; listeners are open when this returns.
    ///
    /// # Errors
    /// Whatever cannot be opened, read or bound, by name.
    pub async fn start(config: Config) -> Result<Self> {
        let config = Arc::new(config);
        let parts = Parts::open(&config).await?;
        let certificates = load_certificates(&config)?;
        let (front, back) = (CancellationToken::new(), CancellationToken::new());
        let (reload_sender, reloads) = mpsc::channel(4);
        let mut server = Self {
            listening: Vec::new(),
            custody: parts.custody.clone(),
            store: parts.store.clone(),
            live: parts.live,
            front,
            back: back.clone(),
            front_tasks: JoinSet::new(),
            back_tasks: JoinSet::new(),
            reload_sender,
            reloads,
        };
        server.back_tasks.spawn(parts.runtime.run(async move { back.cancelled().await }));
        let local = LocalRepository::new(parts.custody.clone(), parts.store, Arc::clone(&server.live.facts));
        server.listen(&parts.reception, &Arc::new(local), certificates.as_ref()).await?;
        server.open_admin_socket()?;
        Ok(server)
    }

    /// What is listened on; port 0 has become a real one.
    pub fn listening(&self) -> &[(ListenerKind, SocketAddr)] {
        &self.listening
    }

    /// All that is known of a message, by queue id or reference id; empty where nothing is.
    ///
    /// # Errors
    /// The store's.
    pub async fn trace(&self, id: &str) -> Result<Traced> {
        Ok(Traced::of(&admin::lookup(&self.store, id).await?))
    }

    /// Carries out wishes to reload that come by the admin API, until `stop` resolves.
    ///
    /// # Errors
    /// The queue or a listener has died: what is acknowledged is in the ledger, and a new process goes on from there.
    pub async fn run_until(&mut self, stop: impl Future<Output = ()>) -> Result<()> {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                Some(_) = self.back_tasks.join_next() => bail!("the queue has died of an internal error"),
                Some(_) = self.front_tasks.join_next() => bail!("a listener has died of an internal error"),
                Some(answer) = self.reloads.recv() => {
                    let outcome = self.reload().await.map_err(|error| format!("{error:#}"));
                    let _ = answer.send(outcome.map(|restart_needed| Reloaded { restart_needed }));
                }
            }
        }
    }

    /// Reads the configuration and the files it names again. What cannot be changed without a restart stays, and is
    /// answered by name.
    ///
    /// # Errors
    /// The first mistake; everything stays as it was.
    pub async fn reload(&mut self) -> Result<Vec<String>> {
        let config = Config::load(&self.live.config.origin)?;
        let router = load_router(&config)?;
        let signers = settings::signers(&config)?;
        if matches!(config.resolver, config::Resolver::ZoneFile(_)) {
            self.live.resolver.reload()?;
        }
        *self.live.facts.write().unwrap_or_else(PoisonError::into_inner) = settings::facts(&signers, now());
        self.custody.reconfigure(settings::queue_config(&config, signers, report_router(&self.live.router))).await;
        self.live.router.replace(router);
        self.live.hosts.replace(&config);
        let restart_needed = self.live.config.restart_needed(&config);
        info!("the configuration was read again");
        if !restart_needed.is_empty() {
            warn!(fields = restart_needed.join(", "), "changed, but only the next start takes that over");
        }
        Ok(restart_needed)
    }

    /// Stops: no new connections, open transactions end, the queue and its deliveries after them. What is not
    /// finished within the listeners' limits is taken up again by the next start.
    pub async fn stop(mut self) {
        self.front.cancel();
        while self.front_tasks.join_next().await.is_some() {}
        self.back.cancel();
        while self.back_tasks.join_next().await.is_some() {}
        self.store.close().await;
    }

    async fn listen(
        &mut self,
        reception: &Arc<Reception>,
        local: &Arc<LocalRepository>,
        certificates: Option<&Arc<Certificates>>,
    ) -> Result<()> {
        let config = Arc::clone(&self.live.config);
        for listener in &config.listeners {
            let address = listener.address;
            let socket = bind(address);
            let socket = socket.with_context(|| format!("cannot listen on {address} ({})", listener.kind.as_str()))?;
            let local_address = socket.local_addr()?;
            info!(kind = listener.kind.as_str(), address = %local_address, "listening");
            self.listening.push((listener.kind, local_address));
            let shutdown = self.front.clone();
            if listener.kind == ListenerKind::Repository {
                let tls =
                    server_tls(&config, certificates, Versions::Only13)?.context("a repository needs a certificate")?;
                let limits = repository_limits(listener);
                self.front_tasks.spawn(repository::serve(socket, tls, Arc::clone(local), limits, shutdown));
            } else {
                let tls = server_tls(&config, certificates, Versions::From12)?;
                let handler = Arc::new(receive::Listener::new(Arc::clone(reception)));
                let settings = smtp_settings(&config, listener, tls);
                self.front_tasks.spawn(smtp_server::serve(socket, settings, handler, shutdown));
            }
        }
        Ok(())
    }

    fn open_admin_socket(&mut self) -> Result<()> {
        let path = self.live.config.admin_socket.clone();
        let office = admin::Office {
            custody: self.custody.clone(),
            store: self.store.clone(),
            router: self.live.router.clone(),
            config: Arc::clone(&self.live.config),
            listening: self.listening.clone(),
            started: now(),
            reloads: self.reload_sender.clone(),
        };
        let socket = admin::bind(&path).with_context(|| format!("cannot open the admin socket {}", path.display()))?;
        self.front_tasks.spawn(admin::serve(socket, office, self.front.clone()));
        Ok(())
    }
}

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// `[::]` is IPv6 alone, so that it stands beside `0.0.0.0` whatever the system's default is.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if address.is_ipv6() {
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    // A restarted server does not wait for the last connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Everything behind the listeners, made but not running.
struct Parts {
    store: Store,
    custody: Custody,
    runtime: Runtime<Couriers>,
    reception: Arc<Reception>,
    live: Live,
}

impl Parts {
    async fn open(config: &Arc<Config>) -> Result<Self> {
        let router = LiveRouter::new(load_router(config)?);
        let signers = settings::signers(config)?;
        let facts: Facts = Arc::new(RwLock::new(settings::facts(&signers, now())));
        let resolver = Resolver::new(&resolver_source(config))?;
        let trust = config.outgoing.ca_file.clone().map_or(Trust::System, Trust::CaFile);
        let repositories = repository_client(config, &trust, &resolver)?;
        let smtp = smtp_client::Client::new(smtp_client_settings(config, &trust)?, resolver.clone());
        let hosts = Hosts::new(config);

        let store = open_store(config).await?;
        let couriers = Couriers::new(
            config.hostname.clone(),
            store.clone(),
            router.clone(),
            hosts.clone(),
            smtp.clone(),
            repositories.clone(),
        );
        let queue_config: QueueConfig = settings::queue_config(config, signers, report_router(&router));
        let node = Node::new(queue_config, Box::new(SystemEntropy::default()), store.instance());
        let (runtime, custody) = Runtime::new(node, store.clone(), Arc::new(couriers));

        let lookup: Arc<dyn Lookup> = Arc::new(resolver.clone());
        let discovery = Discovery::new(lookup, repositories, settings::discovery_config(config));
        let prober = Prober::new(smtp, hosts.clone(), config.outgoing.probe_lifetime);
        let reception = Arc::new(Reception {
            config: Arc::clone(config),
            router: router.clone(),
            store: store.clone(),
            custody: custody.clone(),
            desk: offer_desk(config, router.clone(), custody.clone(), discovery),
            prober,
        });
        let live = Live { config: Arc::clone(config), router, hosts, facts, resolver };
        Ok(Self { store, custody, runtime, reception, live })
    }
}

fn offer_desk(config: &Config, router: LiveRouter, custody: Custody, discovery: Discovery) -> OfferDesk {
    OfferDesk {
        custody,
        discovery,
        hostname: config.hostname.clone(),
        max_size: config.limits.message_size,
        is_ours: Arc::new(move |domain: &Domain| router.get().serves(domain)),
    }
}

fn load_router(config: &Config) -> Result<Router> {
    let accounts = Accounts::load(&config.accounts_file())?;
    Ok(Router::load(config, accounts)?)
}

/// The server's own reports go where the router in force says.
fn report_router(router: &LiveRouter) -> ReportRouter {
    let router = router.clone();
    Arc::new(move |address| router.get().targets(address))
}

fn resolver_source(config: &Config) -> Source {
    match &config.resolver {
        config::Resolver::System => Source::System,
        config::Resolver::Servers(servers) => Source::NameServers(servers.clone()),
        config::Resolver::ZoneFile(path) => Source::ZoneFile(path.clone()),
    }
}

async fn open_store(config: &Config) -> Result<Store> {
    match config.store.kind {
        StoreKind::Memory => {
            warn!("the store is in memory: nothing survives this process");
            let mut instance = [0; 16];
            queue::Entropy::fill(&mut SystemEntropy::default(), &mut instance);
            Ok(Store::memory(mail::InstanceId(instance)))
        }
        StoreKind::Embedded => {
            let mut embedded = EmbeddedConfig::new(config.store_dir());
            embedded.inline_limit = usize::try_from(config.store.inline_limit).unwrap_or(usize::MAX);
            Store::open(embedded).await.context("cannot open the store")
        }
    }
}

fn repository_client(config: &Config, trust: &Trust, resolver: &Resolver) -> Result<retrieval::Client> {
    let tls: Arc<ClientConfig> = tls::trust::client_config(trust, versions(config, Versions::Only13), &[b"http/1.1"])?;
    Ok(retrieval::Client::new(tls, Arc::new(resolver.clone()), settings::retrieval_config(config)))
}

/// The configured lowest version, where it is stricter or looser than the default of the use.
fn versions(config: &Config, default: Versions) -> Versions {
    match (config.tls.min_version, default) {
        (TlsVersion::V1_3, _) => Versions::Only13,
        (TlsVersion::V1_2, default) => default,
    }
}

fn smtp_client_settings(config: &Config, trust: &Trust) -> Result<smtp_client::Settings> {
    let mut settings = smtp_client::Settings::new(config.hostname.clone(), ClientTls::new(trust)?);
    settings.mx_port = config.outgoing.smtp_port;
    settings.idle = config.outgoing.idle_timeout;
    settings.connections = config.outgoing.max_connections;
    settings.bind_ipv4 = config.outgoing.bind_ipv4;
    settings.bind_ipv6 = config.outgoing.bind_ipv6;
    Ok(settings)
}

fn load_certificates(config: &Config) -> Result<Option<Arc<Certificates>>> {
    let files = config.tls.certificates.iter();
    let files = files.map(|f| tls::CertificateFiles { certificate: f.cert.clone(), key: f.key.clone() });
    let files: Vec<_> = files.collect();
    Ok(if files.is_empty() { None } else { Some(Certificates::load(&files)?) })
}

fn server_tls(
    config: &Config,
    certificates: Option<&Arc<Certificates>>,
    default: Versions,
) -> Result<Option<Arc<ServerConfig>>> {
    let Some(certificates) = certificates else { return Ok(None) };
    let alpn: &[&[u8]] = if default == Versions::Only13 { &[b"http/1.1"] } else { &[] };
    Ok(Some(tls::server_config(Arc::clone(certificates), versions(config, default), alpn)?))
}

fn repository_limits(listener: &config::Listener) -> repository::Limits {
    repository::Limits {
        connections: listener.max_connections,
        connections_per_peer: listener.max_connections_per_ip,
        ..repository::Limits::default()
    }
}

fn smtp_settings(config: &Config, listener: &config::Listener, tls: Option<Arc<ServerConfig>>) -> Settings {
    let hostname = config.hostname.clone();
    let mut smtp = match listener.kind.is_submission() {
        true => SmtpConfig::submission(hostname, net::sasl::MECHANISMS),
        false => SmtpConfig::relay(hostname),
    };
    smtp.auth_in_clear = listener.auth_without_tls;
    smtp.tbr = match (listener.kind, listener.tbr, listener.tbr_without_tls) {
        (ListenerKind::Relay, true, true) => OfferTbr::Always,
        (ListenerKind::Relay, true, false) => OfferTbr::InsideTls,
        _ => OfferTbr::Never,
    };
    smtp.limits.message = config.limits.message_size;
    smtp.limits.recipients = config.limits.recipients;
    smtp.limits.errors = u32::try_from(config.limits.errors).unwrap_or(u32::MAX);
    smtp.limits.commands = u32::try_from(config.limits.commands).unwrap_or(u32::MAX);
    smtp.limits.idle = config.limits.command_timeout;
    let limits = smtp_server::Limits {
        connections: listener.max_connections,
        connections_per_peer: listener.max_connections_per_ip,
        auth_failures: u32::try_from(config.limits.auth_failures).unwrap_or(u32::MAX),
        session: config.limits.session_time,
        ..smtp_server::Limits::default()
    };
    Settings { smtp, tls, implicit_tls: listener.kind == ListenerKind::Submissions, limits }
}

/// Tells an error of binding apart for callers that want to try another port.
pub fn is_address_in_use(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::AddrInUse)
}
