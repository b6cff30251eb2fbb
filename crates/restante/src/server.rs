//! A whole server from a configuration: opens the store, starts the queue, listens; reloads; stops gracefully.
//!
//! Assembly only: every part is made here and knows nothing of the others but what it is handed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mail::Domain;
use net::acme::challenges::{Challenges, Kind};
use net::acme::{http_01, tls_alpn_01};
use net::authentication::{self, Authenticator};
use net::discovery::Discovery;
use net::dns::{DnsError, Resolver, Source, SourceError};
use net::lookup::Lookup;
use net::mta_sts::MtaSts;
use net::repository::Replays;
use net::smtp_client::Observer;
use net::smtp_server::{self, Settings};
use net::tls::{self, Certificates, ClientTls, Trust, Versions};
use net::{repository, retrieval, smtp_client};
use queue::config::ReportSigner;
use queue::{Node, Router as ReportRouter};
use rustls::{ClientConfig, ServerConfig};
use smtp::server::{Config as SmtpConfig, OfferTbr};
use store::{EmbeddedConfig, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::accounts::Accounts;
use crate::acme;
use crate::admin::api::{Message as Traced, Reloaded};
use crate::admin::{self, ReloadRequest};
use crate::budgets::Budgets;
use crate::bundle::Bundles;
use crate::config::{self, Config, ListenerKind, StoreKind, TlsVersion};
use crate::custodians::{Arrivals, Custodians, Wish};
use crate::deliver::{Couriers, Hosts, Lines, Outward};
use crate::letters::Letters;
use crate::live::Live;
use crate::private;
use crate::readers::Readers;
use crate::receive::{
    self, AskedFor, Exchangers, Filters, Gate, Hints, LiveConfig, LiveRouter, Memory, OfferDesk, Prober, Reception,
    Sending, Signers,
};
use crate::reports::inbox::Archive;
use crate::reports::{self, Desk, Journals, Post};
use crate::repository::{Facts, LocalRepository, Policies};
use crate::reputation::Reputation;
use crate::request_keys::RequestKeys;
use crate::routing::Router;
use crate::runtime::{Custody, Runtime, SystemEntropy, now};
use crate::settings;
use crate::sockets::Sockets;
use crate::uploads::Uploads;

/// How often the MTA-STS policies of others are looked through for old ones.
const REFRESH_EVERY: Duration = Duration::from_secs(3600);
/// How often the store is looked through for what is over in time.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How long a sleep until a configured time lasts at most.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A running server.
pub struct Server {
    listening: Vec<(ListenerKind, SocketAddr)>,
    custody: Custody,
    store: Store,
    live: InForce,
    front: CancellationToken,
    back: CancellationToken,
    front_tasks: JoinSet<()>,
    back_tasks: JoinSet<()>,
    reload_sender: mpsc::Sender<ReloadRequest>,
    reloads: mpsc::Receiver<ReloadRequest>,
}

/// What a reload replaces.
struct InForce {
    /// As it was at the start: what takes a restart is still this.
    started_with: Arc<Config>,
    config: LiveConfig,
    router: LiveRouter,
    hosts: Hosts,
    facts: Facts,
    policies: Policies,
    keys: RequestKeys,
    signers: Signers,
    resolver: Resolver,
    mta_sts: Option<MtaSts>,
    tls_results: Option<Observer>,
    smtp: Live<smtp_client::Client>,
    repositories: retrieval::Client,
    certificates: Option<Arc<Certificates>>,
    /// What ACME is answered.
    challenges: Challenges,
    /// Those that speak SMTP.
    listeners: Vec<(config::Listener, watch::Sender<Settings>)>,
}

impl Server {
    /// Starts everything; listeners are open when this returns.
    ///
    /// # Errors
    /// Whatever cannot be opened, read or bound, by name.
    pub async fn start(config: Config) -> Result<Self> {
        let config = Arc::new(config);
        private::create_directory(&config.data_dir)
            .with_context(|| format!("cannot create {}", config.data_dir.display()))?;
        let parts = Parts::open(&config).await?;
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
        tokio::spawn(check_resolver(server.live.resolver.clone()));
        server.back_tasks.spawn(sweep(server.store.clone(), server.back.clone()));
        if let Some(policies) = server.live.mta_sts.clone() {
            server.back_tasks.spawn(keep_fresh(policies, server.back.clone()));
        }
        let desk = server.report(parts.journals, &parts.reception)?;
        let (facts, policies) = (server.live.facts.clone(), server.live.policies.clone());
        let config = server.live.config.clone();
        let letters = Letters::new(Arc::clone(&parts.reception));
        let sending = parts.reception.sending.clone();
        let uploads = Uploads::new(letters.clone(), parts.store.clone(), config.clone(), sending);
        let (custody, store) = (parts.custody.clone(), parts.store);
        let local = LocalRepository::new(custody, store, facts, policies, parts.discovery, config, uploads);
        let sending = parts.reception.sending.clone();
        server.back_tasks.spawn(sending.clone().keep(server.back.clone()));
        server.back_tasks.spawn(parts.reception.gate.reputation.clone().keep(server.back.clone()));
        server.back_tasks.spawn(parts.readers.keep(server.back.clone()));
        server.back_tasks.spawn(parts.reception.hints.clone().keep(server.back.clone()));
        let reputation = parts.reception.gate.reputation.clone();
        server.listen(&parts.reception, &Arc::new(local)).await?;
        let live = &server.live;
        let (config, resolver, challenges) = (live.config.clone(), live.resolver.clone(), live.challenges.clone());
        // One that comes by a reload waits for the restart: nobody would answer the authority's questions before.
        if config.get().acme.is_some() {
            server.back_tasks.spawn(acme::keep(config, resolver, challenges, server.back.clone()));
        }
        let (wishes, received) = mpsc::channel(4);
        let (client, keys) = (server.live.repositories.clone(), server.live.keys.clone());
        let bundles = Arc::new(Bundles::new(Arc::clone(&parts.reception), keys.clone(), letters));
        let custodians = Custodians::new(client, keys, parts.reception, server.back.clone());
        let arrivals = custodians.arrivals();
        server.back_tasks.spawn(custodians.run(received));
        server.open_admin_socket(sending, reputation, desk, (wishes, arrivals), bundles)?;
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
            let next_key = self.next_key();
            tokio::select! {
                () = &mut stop => return Ok(()),
                Some(_) = self.back_tasks.join_next() => bail!("the queue has died of an internal error"),
                Some(_) = self.front_tasks.join_next() => bail!("a listener has died of an internal error"),
                () = next_key => self.change_keys().await,
                Some(answer) = self.reloads.recv() => {
                    let outcome = self.reload().await.map_err(|error| format!("{error:#}"));
                    let _ = answer.send(outcome.map(|restart_needed| Reloaded { restart_needed }));
                }
            }
        }
    }

    /// Waits until a configured key takes over from the one before it.
    fn next_key(&self) -> impl Future<Output = ()> + use<> {
        let now = now();
        // Looked at again every day, should the clock be set.
        let wait = settings::next_change(&self.live.config.get(), now).map(|at| at.since(now).min(DAY));
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Signs with the keys of this time. Where one cannot be read, all stays as it was.
    async fn change_keys(&mut self) {
        let config = self.live.config.get();
        let signers = match settings::signers(&config, now()) {
            Ok(signers) => signers,
            Err(error) => return warn!(%error, "the next key cannot be read: the one before goes on signing"),
        };
        self.live.keys.replace(&signers);
        let senders = settings::senders(&config, &signers);
        let (route, sign) = (report_router(&self.live.router), report_signer(&self.live.signers));
        self.custody.reconfigure(settings::queue_config(&config, senders, route, sign)).await;
        info!("keys were changed as configured");
    }

    /// Reads the configuration and the files it names again. What cannot be changed without a restart stays, and is
    /// answered by name.
    ///
    /// # Errors
    /// The first mistake; everything stays as it was.
    pub async fn reload(&mut self) -> Result<Vec<String>> {
        let reloaded = self.read_again().await;
        reloaded.map_err(|error| match format!("{error:#}").contains("ermission denied") {
            true => error
                .context("a file that was not named at the start, and lies elsewhere, takes a restart (`landlock`)"),
            false => error,
        })
    }

    async fn read_again(&mut self) -> Result<Vec<String>> {
        let config = Config::load(&self.live.started_with.origin)?;
        let router = load_router(&config)?;
        let facts = settings::facts(&config, now())?;
        let signers = settings::signers(&config, now())?;
        let dkim = settings::dkim_signers(&config)?;
        if matches!(config.resolver.source, Source::ZoneFile(_)) {
            self.live.resolver.reload()?;
        }
        self.live.reach_out_anew(&config)?;
        self.live.keys.replace(&signers);
        self.live.signers.replace(dkim);
        let senders = settings::senders(&config, &signers);
        self.live.facts.replace(facts);
        self.live.policies.replace(settings::policies(&config));
        let (route, sign) = (report_router(&self.live.router), report_signer(&self.live.signers));
        self.custody.reconfigure(settings::queue_config(&config, senders, route, sign)).await;
        self.store.set_quotas(settings::quotas(&config));
        self.live.router.replace(router);
        self.live.hosts.replace(&config);
        let restart_needed = self.live.started_with.restart_needed(&config);
        let hostname = self.live.started_with.hostname.clone();
        self.live.config.replace(Config { hostname, ..config });
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

    async fn listen(&mut self, reception: &Arc<Reception>, local: &Arc<LocalRepository>) -> Result<()> {
        let config = Arc::clone(&self.live.started_with);
        let certificates = self.live.certificates.clone();
        let certificates = certificates.as_ref();
        let replays = Arc::new(Replays::new(now()));
        let mut sockets = Sockets::from_environment().context("cannot take over the sockets that were handed over")?;
        for listener in &config.listeners {
            let address = listener.address;
            let socket = sockets.listen(address);
            let socket = socket.with_context(|| format!("cannot listen on {address} ({})", listener.kind.as_str()))?;
            let local_address = socket.local_addr()?;
            info!(kind = listener.kind.as_str(), address = %local_address, "listening");
            self.listening.push((listener.kind, local_address));
            let shutdown = self.front.clone();
            if listener.kind == ListenerKind::Acme {
                self.front_tasks.spawn(http_01::serve(socket, self.live.challenges.clone(), shutdown));
            } else if listener.kind == ListenerKind::Repository {
                let tls = repository_server_tls(&config, certificates, &self.live.challenges)?;
                let limits = repository_limits(&config, listener);
                self.front_tasks.spawn(repository::serve(
                    socket,
                    tls,
                    Arc::clone(local),
                    Arc::clone(&replays),
                    limits,
                    shutdown,
                ));
            } else {
                let tls = smtp_server_tls(&config, certificates)?;
                let handler = Arc::new(receive::Listener::new(Arc::clone(reception)));
                let (sender, settings) = watch::channel(smtp_settings(&config, listener, tls));
                self.live.listeners.push((listener.clone(), sender));
                self.front_tasks.spawn(smtp_server::serve(socket, settings, handler, shutdown));
            }
        }
        for address in sockets.unused() {
            warn!(%address, "a socket was handed over that no listener of the configuration wants");
        }
        Ok(())
    }

    /// Begins to report to others.
    fn report(&mut self, journals: Journals, reception: &Reception) -> Result<Desk> {
        let config = Arc::clone(&self.live.started_with);
        let Some(from) = config.reports_from() else { return Ok(Desk::default()) };
        let post = Post {
            store: self.store.clone(),
            custody: self.custody.clone(),
            router: self.live.router.clone(),
            signers: reception.signers.clone(),
            https: self.live.repositories.clone(),
            domain: from.domain().unwrap_or_else(|| config.mail_domain().clone()),
            from,
        };
        let desk = Desk::start(journals, &config, &self.live.resolver, &post, &mut self.back_tasks, &self.back);
        desk.context("cannot keep reports")
    }

    fn open_admin_socket(
        &mut self,
        sending: Sending,
        reputation: Reputation,
        reports: Desk,
        (wishes, arrivals): (mpsc::Sender<Wish>, Arrivals),
        bundles: Arc<Bundles>,
    ) -> Result<()> {
        let path = self.live.started_with.admin_socket.clone();
        let office = admin::Office {
            custody: self.custody.clone(),
            store: self.store.clone(),
            router: self.live.router.clone(),
            config: self.live.config.clone(),
            signers: self.live.signers.clone(),
            listening: self.listening.clone(),
            started: now(),
            reloads: self.reload_sender.clone(),
            sending,
            reports,
            wishes,
            arrivals,
            repositories: self.live.repositories.clone(),
            smtp: self.live.smtp.clone(),
            outbox: Arc::default(),
            reputation,
            bundles,
        };
        let socket = admin::bind(&path).with_context(|| format!("cannot open the admin socket {}", path.display()))?;
        let (outbox, end) = (office.clone(), self.front.clone());
        tokio::spawn(async move { end.run_until_cancelled(admin::take_outbox_at_start(outbox)).await });
        self.front_tasks.spawn(admin::serve(socket, path, office, self.front.clone()));
        Ok(())
    }
}

impl InForce {
    /// Connections to others, certificates, and what clients of the listeners may ask for. Nothing is replaced before
    /// everything that can fail has been made.
    fn reach_out_anew(&mut self, config: &Config) -> Result<()> {
        let trust = trust(config);
        let (tls, mut settings) = (repository_tls(config, &trust)?, smtp_client_settings(config, &trust)?);
        settings.mta_sts.clone_from(&self.mta_sts);
        settings.tls_results.clone_from(&self.tls_results);
        let files = certificate_files(config)?;
        if let Some(certificates) = self.certificates.as_ref().filter(|_| !files.is_empty()) {
            certificates.replace(&files)?;
        }
        let before = self.config.get();
        let is_changed = before.outgoing != config.outgoing;
        if is_changed {
            self.smtp.replace(smtp_client::Client::new(settings, self.resolver.clone()));
        }
        if is_changed || settings::several_at_once(&before) != settings::several_at_once(config) {
            self.repositories.replace(tls, Arc::new(self.resolver.clone()), settings::retrieval_config(config));
        }
        for (listener, sender) in &self.listeners {
            let tls = sender.borrow().tls.clone();
            sender.send_replace(smtp_settings_of(&self.started_with.hostname, config, listener, tls));
        }
        Ok(())
    }
}

/// Everything behind the listeners, made but not running.
struct Parts {
    store: Store,
    custody: Custody,
    runtime: Runtime,
    reception: Arc<Reception>,
    discovery: Discovery,
    journals: Journals,
    readers: Readers,
    live: InForce,
}

impl Parts {
    async fn open(config: &Arc<Config>) -> Result<Self> {
        let router = LiveRouter::new(load_router(config)?);
        let signers = settings::signers(config, now())?;
        let senders = settings::senders(config, &signers);
        let facts: Facts = Live::new(settings::facts(config, now())?);
        let current = LiveConfig::new(Config::clone(config));
        let journals = Journals::open(config).context("cannot keep what reports are made of")?;
        let tls_results = journals.tls_results();
        let Reach { resolver, mta_sts, repositories, smtp, lines } = Reach::open(config, tls_results.clone())?;
        let hosts = Hosts::new(config);

        let store = open_store(config).await?;
        store.set_quotas(settings::quotas(config));
        let (gate, budgets, readers) = judges(config, &current, &resolver, &journals, &store).await?;
        let dkim = Signers::new(settings::dkim_signers(config)?, gate.authenticator.clone());
        let discovery = discovery(config, &resolver, &repositories)?;
        let keys = RequestKeys::new(&signers);
        let outward = Outward {
            smtp: smtp.clone(),
            lines: lines.clone(),
            repositories: repositories.clone(),
            discovery: discovery.clone(),
            keys: keys.clone(),
            gate: gate.clone(),
            signers: dkim.clone(),
            budgets: budgets.clone(),
        };
        let filters = Filters::new(config);
        let couriers = couriers(config, &store, &router, &hosts, outward, &filters);
        let queue_config = settings::queue_config(config, senders, report_router(&router), report_signer(&dkim));
        let node = Node::new(queue_config, Box::new(SystemEntropy::default()), store.instance());
        let (runtime, custody) = Runtime::new(node, store.clone(), budgets.clone(), Arc::new(couriers));

        let exchangers = Exchangers { client: smtp.clone(), hosts: hosts.clone() };
        let memory = Memory { discovery: discovery.clone(), custody: custody.clone(), store: store.clone() };
        let reception = Arc::new(Reception {
            config: current.clone(),
            router: router.clone(),
            store: store.clone(),
            custody: custody.clone(),
            desk: offer_desk(&current, router.clone(), &memory, &keys, &gate, exchangers, (budgets, store.clone())),
            hints: Hints::open(config.hints_file()).context("cannot read who has been asked for references")?,
            prober: Prober::new(smtp.clone(), hosts.clone(), config.outgoing.probe_lifetime),
            filters,
            gate,
            signers: dkim.clone(),
            memory,
            asked_for: AskedFor::default(),
            lines,
            smtp: smtp.clone(),
            sending: Sending::open(config.sending_file()).context("cannot read what accounts have sent lately")?,
        });
        let live = InForce {
            started_with: Arc::clone(config),
            config: current,
            router,
            hosts,
            facts,
            policies: Live::new(settings::policies(config)),
            keys,
            signers: dkim,
            resolver,
            mta_sts,
            tls_results,
            smtp,
            repositories,
            certificates: load_certificates(config)?,
            challenges: Challenges::new(acme::challenge(config)),
            listeners: Vec::new(),
        };
        Ok(Self { store, custody, runtime, reception, discovery, journals, readers, live })
    }
}

/// What is believed of mail, and how much of it is taken from whom: both go by how domains have fared here.
async fn judges(
    config: &Config,
    current: &LiveConfig,
    resolver: &Resolver,
    journals: &Journals,
    store: &Store,
) -> Result<(Gate, Budgets, Readers)> {
    let reputation = Reputation::open(config.reputation_file()).context("cannot read how domains have fared here")?;
    let gate = gate(config, resolver, reputation.clone(), journals)?;
    let readers = Readers::open(config.readers_file(), current.clone(), reputation.clone());
    let readers = readers.context("cannot read which mail is to be looked for in mailboxes")?;
    let budgets = Budgets::new(current.clone(), reputation, readers.clone());
    budgets.load(store).await.context("cannot count the references that are outstanding")?;
    Ok((gate, budgets, readers))
}

/// How others are found and connected to.
struct Reach {
    resolver: Resolver,
    mta_sts: Option<MtaSts>,
    repositories: retrieval::Client,
    smtp: Live<smtp_client::Client>,
    /// And those who have connected to us, and turned that over.
    lines: Lines,
}

impl Reach {
    fn open(config: &Config, tls_results: Option<Observer>) -> Result<Self> {
        let (resolver, trust) = (resolver(config)?, trust(config));
        let repositories = repository_client(config, &trust, &resolver)?;
        let mta_sts = match config.outgoing.mta_sts {
            true => Some(mta_sts(config, &trust, &resolver, Some(&config.mta_sts_dir()))?),
            false => None,
        };
        let mut settings = smtp_client_settings(config, &trust)?;
        settings.mta_sts.clone_from(&mta_sts);
        settings.tls_results = tls_results;
        let smtp = Live::new(smtp_client::Client::new(settings, resolver.clone()));
        Ok(Self { resolver, mta_sts, repositories, smtp, lines: Lines::default() })
    }
}

/// What carries out the queue's jobs.
fn couriers(
    config: &Config,
    store: &Store,
    router: &LiveRouter,
    hosts: &Hosts,
    outward: Outward,
    filters: &Filters,
) -> Couriers {
    let archive = Archive::new(reports::received_dir(&config.reports_dir()));
    let hostname = config.hostname.clone();
    Couriers::new(hostname, store.clone(), router.clone(), hosts.clone(), outward, filters.clone(), archive)
}

/// What finds out about domains that sign; its pins outlive the process.
fn discovery(config: &Config, resolver: &Resolver, repositories: &retrieval::Client) -> Result<Discovery> {
    let (limits, pins) = (settings::discovery_config(config), config.pins_dir());
    Discovery::open(Arc::new(resolver.clone()), repositories.clone(), limits, &pins, now())
        .with_context(|| format!("cannot keep documents of domains in {}", pins.display()))
}

/// What judges mail of strangers.
fn gate(config: &Config, resolver: &Resolver, reputation: Reputation, journals: &Journals) -> Result<Gate> {
    let policy = &config.policy;
    let settings = authentication::Settings {
        hostname: config.hostname.clone(),
        block_lists: policy.block_lists.clone(),
        allow_lists: policy.allow_lists.clone(),
        header_octets: usize::try_from(policy.header_memory).unwrap_or(usize::MAX),
        patience: policy.patience,
    };
    Ok(Gate {
        authenticator: Authenticator::new(settings, resolver.for_strangers())?,
        rules: Arc::new(policy.rules.clone()),
        hostname: config.hostname.clone(),
        enabled: policy.enabled,
        reputation,
        found: journals.dmarc_results(),
    })
}

fn offer_desk(
    config: &LiveConfig,
    router: LiveRouter,
    memory: &Memory,
    keys: &RequestKeys,
    gate: &Gate,
    exchangers: Exchangers,
    (budgets, store): (Budgets, Store),
) -> OfferDesk {
    OfferDesk {
        keys: keys.clone(),
        memory: memory.clone(),
        hostname: config.get().hostname.clone(),
        config: config.clone(),
        is_ours: Arc::new(move |domain: &Domain| router.get().serves(domain)),
        exchangers,
        gate: gate.clone(),
        budgets,
        store,
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

fn report_signer(signers: &Signers) -> ReportSigner {
    let signers = signers.clone();
    Arc::new(move |message| signers.fields(message))
}

/// Where names are looked up.
pub(crate) fn resolver(config: &Config) -> Result<Resolver, SourceError> {
    Resolver::new(&config.resolver.source, &config.resolver.dnssec)
}

/// Says so where no name can be validated: mail would wait, and nothing else would tell why.
async fn check_resolver(resolver: Resolver) {
    match resolver.check_anchors().await {
        Ok(()) => {}
        Err(error @ DnsError::Bogus(_)) => warn!(
            %error,
            "the name servers pass no DNSSEC signatures on, or the trust anchors are not theirs: every name looks forged, \
             and mail waits; ask others ([resolver] servers), or set dnssec = \"off\""
        ),
        Err(error) => warn!(%error, "the name servers cannot be asked for the root's keys as yet"),
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
            embedded.partials = embedded.partials.with_room_for(config.limits.message_size);
            Store::open(embedded).await.context("cannot open the store")
        }
    }
}

/// Whose certificates are believed.
fn trust(config: &Config) -> Trust {
    config.outgoing.ca_file.clone().map_or(Trust::System, Trust::CaFile)
}

/// The client of repositories and domain documents.
pub(crate) fn repository_client(config: &Config, trust: &Trust, resolver: &Resolver) -> Result<retrieval::Client> {
    let tls = repository_tls(config, trust)?;
    Ok(retrieval::Client::new(tls, Arc::new(resolver.clone()), settings::retrieval_config(config)))
}

fn repository_tls(config: &Config, trust: &Trust) -> Result<Arc<ClientConfig>> {
    Ok(tls::trust::client_config(trust, repository_versions(config), &[])?)
}

/// The finder of MTA-STS policies, which keeps them in this folder. Their hosts need not speak TLS 1.3.
pub(crate) fn mta_sts(
    config: &Config,
    trust: &Trust,
    resolver: &Resolver,
    folder: Option<&std::path::Path>,
) -> Result<MtaSts> {
    let tls = tls::trust::client_config(trust, versions(config), &[])?;
    let lookup: Arc<dyn Lookup> = Arc::new(resolver.clone());
    // The certificate of a policy's host is WebPKI's alone to vouch for (RFC 8461 §3.3).
    let settings = retrieval::Config { dane: false, ..settings::retrieval_config(config) };
    let client = retrieval::Client::new(tls, Arc::clone(&lookup), settings);
    let opened = MtaSts::new(lookup, client, folder, now());
    opened.with_context(|| format!("cannot keep MTA-STS policies in {}", config.mta_sts_dir().display()))
}

/// Lets go of what the store keeps for a time only, until the end.
async fn sweep(store: Store, end: CancellationToken) {
    let sweeping = async {
        loop {
            if let Err(error) = store.sweep(now()).await {
                warn!(%error, "the store could not be swept");
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    };
    end.run_until_cancelled(sweeping).await;
}

/// Looks after the policies of others until the end.
async fn keep_fresh(policies: MtaSts, end: CancellationToken) {
    let refreshing = async {
        loop {
            tokio::time::sleep(REFRESH_EVERY).await;
            policies.refresh(now()).await;
        }
    };
    end.run_until_cancelled(refreshing).await;
}

/// Which versions are spoken, but with repositories.
fn versions(config: &Config) -> Versions {
    match config.tls.min_version {
        TlsVersion::V1_3 => Versions::Only13,
        TlsVersion::V1_2 => Versions::From12,
    }
}

/// Which versions are spoken with repositories, by ours and with those of others (TBR §5.5).
fn repository_versions(config: &Config) -> Versions {
    match config.tls.repository_min_version {
        TlsVersion::V1_3 => Versions::Only13,
        TlsVersion::V1_2 => versions(config),
    }
}

/// The SMTP client's settings.
pub(crate) fn smtp_client_settings(config: &Config, trust: &Trust) -> Result<smtp_client::Settings> {
    let mut settings = smtp_client::Settings::new(config.hostname.clone(), ClientTls::new(trust)?);
    settings.mx_port = config.outgoing.smtp_port;
    settings.dane = config.outgoing.dane;
    settings.idle = config.outgoing.idle_timeout;
    settings.connections = config.outgoing.max_connections;
    settings.connections_per_host = config.outgoing.max_connections_per_host;
    settings.bind_ipv4 = config.outgoing.bind_ipv4;
    settings.bind_ipv6 = config.outgoing.bind_ipv6;
    Ok(settings)
}

fn certificate_files(config: &Config) -> Result<Vec<tls::CertificateFiles>> {
    let files = config.tls.certificates.iter();
    let files = files.map(|f| tls::CertificateFiles { certificate: f.cert.clone(), key: f.key.clone() });
    Ok(files.chain(acme::files(config)?).collect())
}

fn load_certificates(config: &Config) -> Result<Option<Arc<Certificates>>> {
    let files = certificate_files(config)?;
    Ok(if files.is_empty() { None } else { Some(Certificates::load(&files)?) })
}

fn smtp_server_tls(config: &Config, certificates: Option<&Arc<Certificates>>) -> Result<Option<Arc<ServerConfig>>> {
    let Some(certificates) = certificates else { return Ok(None) };
    Ok(Some(tls::server_config(Arc::clone(certificates), versions(config), &[])?))
}

/// HTTP, and where names are proven by TLS what an authority asks.
fn repository_server_tls(
    config: &Config,
    certificates: Option<&Arc<Certificates>>,
    challenges: &Challenges,
) -> Result<Arc<ServerConfig>> {
    let certificates = Arc::clone(certificates.context("a repository needs a certificate")?);
    let versions = repository_versions(config);
    // Sites alone ask for several objects at a time, so nobody else is offered it.
    let has_sites = config.domains.values().any(|domain| domain.site.is_some() || !domain.users.is_empty());
    let mut protocols: Vec<&[u8]> = has_sites.then_some(tls::HTTP_2).into_iter().collect();
    protocols.push(tls::HTTP_1);
    if config.acme.is_none() || challenges.kind() != Kind::TlsAlpn01 {
        return Ok(tls::server_config(certificates, versions, &protocols)?);
    }
    protocols.push(tls_alpn_01::PROTOCOL);
    let answering = tls_alpn_01::Answering::new(certificates, challenges.clone());
    Ok(tls::server_config(Arc::new(answering), versions, &protocols)?)
}

fn repository_limits(config: &Config, listener: &config::Listener) -> repository::Limits {
    repository::Limits {
        minimum_rate: config.limits.repository_rate,
        connections: listener.max_connections,
        connections_per_peer: listener.max_connections_per_ip,
        ..repository::Limits::default()
    }
}

fn smtp_settings(config: &Config, listener: &config::Listener, tls: Option<Arc<ServerConfig>>) -> Settings {
    smtp_settings_of(&config.hostname, config, listener, tls)
}

/// Under this name, which takes a restart to change, as the listener itself does.
fn smtp_settings_of(
    hostname: &Domain,
    config: &Config,
    listener: &config::Listener,
    tls: Option<Arc<ServerConfig>>,
) -> Settings {
    let hostname = hostname.clone();
    let mut smtp = match listener.kind {
        ListenerKind::Odmr => SmtpConfig::on_demand(hostname, net::sasl::MECHANISMS),
        kind if kind.is_submission() => SmtpConfig::submission(hostname, net::sasl::MECHANISMS),
        _ => SmtpConfig::relay(hostname),
    };
    smtp.auth_in_clear = listener.auth_without_tls;
    smtp.tbr = match (listener.kind, listener.tbr, listener.tbr_without_tls) {
        (ListenerKind::Relay, true, true) => OfferTbr::Always,
        (ListenerKind::Relay, true, false) => OfferTbr::InsideTls,
        _ => OfferTbr::Never,
    };
    smtp.etrn = listener.kind == ListenerKind::Relay && config.may_be_asked_for_mail();
    (smtp.smtputf8, smtp.requiretls) = (true, true);
    settings::limit_sessions(config, &mut smtp.limits);
    let limits = smtp_server::Limits {
        connections: listener.max_connections,
        connections_per_peer: listener.max_connections_per_ip,
        auth_failures: u32::try_from(config.limits.auth_failures).unwrap_or(u32::MAX),
        auth_failures_per_hour: u32::try_from(config.limits.auth_failures_per_hour).unwrap_or(u32::MAX),
        session: config.limits.session_time,
        ..smtp_server::Limits::default()
    };
    Settings { smtp, tls, implicit_tls: listener.kind == ListenerKind::Submissions, limits }
}

/// Tells an error of binding apart for callers that want to try another port.
pub fn is_address_in_use(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::AddrInUse)
}
