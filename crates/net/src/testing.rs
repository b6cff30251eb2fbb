//! What the tests of this crate share: a certificate authority, a table of names, a web server that follows a script.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mail::Domain;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::task::AbortOnDropHandle;

use crate::dns::TlsaSet;
use crate::lookup::{Lookup, LookupError, Txt};

pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

/// A certificate authority of one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Self { issuer: Issuer::new(params, key), roots: Arc::new(roots) }
    }

    /// TLS of a server that goes by these names.
    pub(crate) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]).with_no_client_auth();
        Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }

    /// TLS of a client that trusts this authority.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
        Arc::new(config.with_root_certificates(Arc::clone(&self.roots)).with_no_client_auth())
    }

    /// A TLS connection of its own to a port on this machine.
    pub(crate) async fn connect(&self, port: u16, name: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.try_connect(port, name).await.unwrap()
    }

    pub(crate) async fn try_connect(
        &self,
        port: u16,
        name: &str,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect((LOCALHOST, port)).await?;
        TlsConnector::from(self.client()).connect(name.to_owned().try_into().unwrap(), stream).await
    }
}

/// Names and what they lead to. Hosts that are not listed are on this machine; TXT records that are not listed do not
/// exist.
#[derive(Default)]
pub(crate) struct Table {
    texts: Mutex<HashMap<Domain, Result<Txt, LookupError>>>,
    hosts: Mutex<HashMap<Domain, Vec<IpAddr>>>,
    tlsa: Mutex<HashMap<Domain, Result<TlsaSet, LookupError>>>,
    asked: Mutex<Vec<Domain>>,
    gate: Mutex<Option<Arc<Semaphore>>>,
    silent: Mutex<Vec<Domain>>,
}

impl Table {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn set_txt(&self, name: &str, records: &[&str], secure: bool) {
        let records = records.iter().map(|r| (*r).to_owned()).collect();
        let txt = Txt { records, secure, ttl: Duration::from_secs(3600) };
        self.texts.lock().unwrap().insert(domain(name), Ok(txt));
    }

    pub(crate) fn set_error(&self, name: &str, error: LookupError) {
        self.texts.lock().unwrap().insert(domain(name), Err(error));
    }

    pub(crate) fn set_host(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.hosts.lock().unwrap().insert(domain(name), addresses);
    }

    pub(crate) fn set_tlsa(&self, name: &str, found: Result<TlsaSet, LookupError>) {
        self.tlsa.lock().unwrap().insert(domain(name), found);
    }

    /// Nobody ever answers about names within this.
    pub(crate) fn never_answers(&self, within: &str) {
        self.silent.lock().unwrap().push(domain(within));
    }

    /// Answers about TXT records wait until somebody adds permits to this.
    pub(crate) fn close_gate(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    /// How often TXT records were asked for at this name.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|n| n.as_str() == name).count()
    }

    /// All names whose TXT records were asked for.
    pub(crate) fn all_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Lookup for Table {
    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, Result<Txt, LookupError>> {
        self.asked.lock().unwrap().push(name.clone());
        let gate = self.gate.lock().unwrap().clone();
        let none = || Ok(Txt { records: Vec::new(), secure: false, ttl: Duration::from_secs(3600) });
        let answer = self.texts.lock().unwrap().get(name).cloned().unwrap_or_else(none);
        let is_silent = self.silent.lock().unwrap().iter().any(|zone| name.is_within(zone));
        Box::pin(async move {
            if is_silent {
                std::future::pending::<()>().await;
            }
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            answer
        })
    }

    fn addresses<'a>(&'a self, host: &'a Domain) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        let addresses = self.hosts.lock().unwrap().get(host).cloned().unwrap_or_else(|| vec![LOCALHOST]);
        Box::pin(async move { Ok(addresses) })
    }

    fn tlsa<'a>(&'a self, host: &'a Domain, _: u16) -> BoxFuture<'a, Result<Option<TlsaSet>, LookupError>> {
        let found = self.tlsa.lock().unwrap().get(host).cloned().transpose();
        Box::pin(async move { found })
    }
}

/// What a scripted server does on a connection, step by step.
#[derive(Clone)]
pub(crate) enum Play {
    /// Writes octets.
    Write(Vec<u8>),
    /// Closes the TCP connection at once.
    Cut,
    /// Says nothing more, and keeps the connection.
    Stall,
    /// Writes these octets until nobody takes them any more.
    Forever(Vec<u8>),
}

impl Play {
    /// A whole response: status and fields without their line ends, then a body.
    pub(crate) fn response(head: &str, body: &[u8]) -> Vec<Play> {
        vec![Self::Write(response(head, body))]
    }

    /// The same with a length and, at its end, a cut.
    pub(crate) fn cut_after(head: &str, body: &[u8]) -> Vec<Play> {
        vec![Self::Write(response(head, body)), Self::Cut]
    }
}

pub(crate) fn response(head: &str, body: &[u8]) -> Vec<u8> {
    let mut octets = format!("HTTP/1.1 {}\r\n\r\n", head.replace('\n', "\r\n")).into_bytes();
    octets.extend_from_slice(body);
    octets
}

/// Answers the n-th request (from 0), whose head and body are given.
pub(crate) type Script = Box<dyn Fn(usize, &str) -> Vec<Play> + Send + Sync>;

/// An HTTPS server that follows a script; gone when dropped.
pub(crate) struct Scripted {
    pub(crate) port: u16,
    seen: Arc<Seen>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: Mutex<usize>,
    requests: Mutex<Vec<String>>,
}

impl Scripted {
    pub(crate) async fn new(tls: Arc<ServerConfig>, script: Script) -> Self {
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, script) = (Arc::new(Seen::default()), Arc::new(script));
        let (all, acceptor) = (Arc::clone(&seen), TlsAcceptor::from(tls));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (all, script, acceptor) = (Arc::clone(&all), Arc::clone(&script), acceptor.clone());
                *all.connections.lock().unwrap() += 1;
                connections.spawn(async move { welcome(acceptor, stream, &all, &script).await });
            }
        });
        Self { port, seen, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn connections(&self) -> usize {
        *self.seen.connections.lock().unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }
}

async fn welcome(acceptor: TlsAcceptor, stream: TcpStream, seen: &Seen, script: &Script) {
    if let Ok(stream) = acceptor.accept(stream).await {
        play(stream, seen, script).await;
    }
}

async fn play(mut stream: TlsStream<TcpStream>, seen: &Seen, script: &Script) {
    while let Some(request) = read_request(&mut stream).await {
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        for step in script(number, &request) {
            match step {
                Play::Write(octets) => {
                    if stream.write_all(&octets).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
                Play::Cut => return,
                Play::Stall => std::future::pending().await,
                Play::Forever(octets) => while stream.write_all(&octets).await.is_ok() {},
            }
        }
    }
}

async fn read_request(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut octets = Vec::new();
    loop {
        if let Some(end) = octets.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(octets[..end + 4].to_vec()).unwrap();
            let length = header(&head, "content-length").map_or(0, |l| l.parse().unwrap());
            if octets.len() >= end + 4 + length {
                return Some(String::from_utf8(octets).unwrap());
            }
        }
        if stream.read_buf(&mut octets).await.ok()? == 0 {
            return None;
        }
    }
}

/// The value of a field in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let named = |line: &'a str| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name));
    head.split("\r\n").find_map(named).map(|(_, value)| value)
}
