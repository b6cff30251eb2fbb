//! From a host name to an open HTTP connection: resolve, filter, connect, TLS, once, with no second look at the name.
//! The certificate is the one that the host's TLSA records name, else one that the trusted CAs vouch for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use mail::Domain;
use mail::tlsa::Service;
use policy::budget::Prefix;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Config;
use super::address::{is_public, is_unicast};
use super::batched::Batched;
use super::places::{Place, Places};
use super::reach::Reached;
use super::sender::{Driver, Sender};
use super::suspend::Suspensions;
use crate::lookup::Lookup;
use crate::tls::{Dane, HTTP_1, HTTP_2, dane};
use crate::wire::{Buffered, buffered};

/// Most addresses of one host that are tried.
const MAX_ADDRESSES: usize = 6;
/// Octets of a TLS record that is sent. Of a record that a break cuts off nothing can be used (TBR §7.4); little but uploads is
/// longer, and their octets are worth the 22 of TLS.
const SMALL_RECORD: usize = 2048;

/// What somebody connects for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// To fetch from a repository: takes a place, and passes by networks that are left alone.
    Fetch,
    /// To tell a repository something: passes by such networks, and waits for no place behind long retrievals.
    Post,
    /// To ask whoever the operator, a look-up or a policy names.
    Other,
}

/// Opens connections.
pub(super) struct Connector {
    tls: Arc<ClientConfig>,
    /// The same for hosts that are asked for HTTP/2 first.
    several_tls: Arc<ClientConfig>,
    lookup: Arc<dyn Lookup>,
    places: Arc<Places>,
    suspensions: Arc<Suspensions>,
    port: u16,
    allow_private: bool,
    bound_special_networks: bool,
    dane: bool,
    connect_time: Duration,
    stall_time: Duration,
}

/// An open connection, pinned to the address that it was made to. Dropping it closes it.
pub(super) struct Connection {
    pub(super) sender: Sender,
    pub(super) opened: Instant,
    /// The address that it comes from here.
    pub(super) local: Option<IpAddr>,
    /// The network that it leads to, if that is one of those that are bounded.
    pub(super) network: Option<Prefix>,
    /// Who answered.
    pub(super) met: Reached,
    /// Octets of objects that have come over it.
    pub(super) taken: Arc<AtomicU64>,
    driver: Arc<Driver>,
}

impl Connection {
    /// The same connection for requests beside those of this one, where it carries several at a time.
    pub(super) fn share(&self) -> Option<Self> {
        let Self { opened, local, network, met, .. } = *self;
        let (sender, taken, driver) = (self.sender.share()?, Arc::clone(&self.taken), Arc::clone(&self.driver));
        Some(Self { sender, opened, local, network, met, taken, driver })
    }
}

/// Why there is no connection. All of it may be better later.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the name {0} cannot be looked up: {1}")]
    Lookup(Domain, String),
    #[error("{0} has no address")]
    NoAddress(Domain),
    #[error("{0} has only addresses that may not be connected to")]
    Forbidden(Domain),
    #[error("{0} is in a network where host after host has failed, and is left alone for a while")]
    LeftAlone(Domain),
    #[error("no connection to {0}: {1}")]
    Failed(Domain, String),
    #[error("no connection to {0}: {1}")]
    Tls(Domain, String),
    /// It shows a certificate that does not count.
    #[error("no connection to {0}: {1}")]
    Certificate(Domain, String),
}

impl Connector {
    pub(super) fn new(
        tls: Arc<ClientConfig>,
        lookup: Arc<dyn Lookup>,
        places: Arc<Places>,
        suspensions: Arc<Suspensions>,
        config: &Config,
    ) -> Self {
        let mut tls = ClientConfig::clone(&tls);
        tls.alpn_protocols = vec![HTTP_1.to_vec()];
        tls.max_fragment_size = Some(SMALL_RECORD);
        let mut several_tls = tls.clone();
        several_tls.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        let Config { port, allow_private, bound_special_networks, dane, connect_time, stall_time, .. } = *config;
        Self {
            tls: Arc::new(tls),
            several_tls: Arc::new(several_tls),
            lookup,
            places,
            suspensions,
            port,
            allow_private,
            bound_special_networks,
            dane,
            connect_time,
            stall_time,
        }
    }

    /// Opens a connection to the first address of the host that answers with the host's certificate; one for several requests at a
    /// time, where both want that.
    pub(super) async fn connect(
        &self,
        host: &Domain,
        errand: Errand,
        several: bool,
    ) -> Result<(Connection, Option<Place>), ConnectError> {
        // What failed says more than what was not tried.
        let (mut last, mut failed) = (ConnectError::NoAddress(host.clone()), false);
        let addresses = self.addresses(host).await?;
        let dane = self.records(host).await?;
        for address in addresses {
            let network = self.bounded(address);
            if errand != Errand::Other && network.is_some_and(|network| self.is_left_alone(network, host)) {
                if !failed {
                    last = ConnectError::LeftAlone(host.clone());
                }
                continue;
            }
            let place = self.place(host, errand, network).await?;
            match self.connect_to(host, address, dane.as_ref(), several).await {
                Ok(connection) => return Ok((connection, place)),
                Err(error) => (last, failed) = (error, true),
            }
            if let (Some(network), Errand::Fetch | Errand::Post) = (network, errand) {
                self.suspensions.network_failed(network, host, Instant::now());
            }
        }
        Err(last)
    }

    /// A place for this errand, where it takes one.
    pub(super) async fn place(
        &self,
        host: &Domain,
        errand: Errand,
        network: Option<Prefix>,
    ) -> Result<Option<Place>, ConnectError> {
        if errand != Errand::Fetch {
            return Ok(None);
        }
        let place = self.places.take(network).await;
        place.map(Some).map_err(|error| ConnectError::Failed(host.clone(), error.to_string()))
    }

    /// The network of this address, to be bounded. Special addresses are the operator's own, who has allowed them.
    fn bounded(&self, address: IpAddr) -> Option<Prefix> {
        (self.bound_special_networks || is_public(address)).then(|| Prefix::of(address))
    }

    fn is_left_alone(&self, network: Prefix, host: &Domain) -> bool {
        self.suspensions.network_left(network, host, Instant::now()).is_some()
    }

    async fn addresses(&self, host: &Domain) -> Result<Vec<IpAddr>, ConnectError> {
        let answer = timeout(self.connect_time, self.lookup.addresses(host)).await;
        let found = match answer {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(ConnectError::Lookup(host.clone(), error.to_string())),
            Err(_) => return Err(ConnectError::Lookup(host.clone(), "no answer in time".to_owned())),
        };
        if found.is_empty() {
            return Err(ConnectError::NoAddress(host.clone()));
        }
        let mut allowed = found;
        allowed.retain(|address| is_public(*address) || (self.allow_private && is_unicast(*address)));
        allowed.truncate(MAX_ADDRESSES);
        if allowed.is_empty() { Err(ConnectError::Forbidden(host.clone())) } else { Ok(allowed) }
    }

    /// What the host's certificate must be by its records. Where none can be used WebPKI holds, as without any (RFC 6698
    /// §4.1); where they cannot be had nobody is connected to.
    async fn records(&self, host: &Domain) -> Result<Option<Arc<Dane>>, ConnectError> {
        if !self.dane {
            return Ok(None);
        }
        let found = match timeout(self.connect_time, self.lookup.tlsa(host, self.port)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("no answer about its certificate in time".to_owned()),
        };
        let found = found.map_err(|text| ConnectError::Lookup(host.clone(), text))?;
        Ok(found.and_then(|set| Dane::new(&set, Service::Https, [host.clone()])).map(Arc::new))
    }

    async fn connect_to(
        &self,
        host: &Domain,
        address: IpAddr,
        dane: Option<&Arc<Dane>>,
        several: bool,
    ) -> Result<Connection, ConnectError> {
        let failed = |text: String| ConnectError::Failed(host.clone(), text);
        let stream = timeout(self.connect_time, TcpStream::connect(SocketAddr::new(address, self.port)))
            .await
            .map_err(|_| failed(format!("{address} does not answer")))?
            .map_err(|error| failed(format!("{address}: {error}")))?;
        // Only hints to the kernel: a failure here changes little. What is sent and not acknowledged ends the connection: it
        // may be large, and of a dead link nobody else tells.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(self.stall_time));
        let asked = dane.map_or(host, |dane| dane.base());
        let name = ServerName::try_from(asked.as_str().to_owned()).map_err(|error| failed(error.to_string()))?;
        let tls = if several { &self.several_tls } else { &self.tls };
        let config = dane.map_or_else(|| Arc::clone(tls), |records| dane::under(tls, Arc::clone(records)));
        let stream = timeout(self.connect_time, TlsConnector::from(config).connect(name, buffered(stream)))
            .await
            .map_err(|_| ConnectError::Tls(host.clone(), format!("{address} does not finish TLS")))?
            .map_err(|error| broken_tls(host, address, &error))?;
        if let Some(records) = dane {
            let constrained = constrain(records, &stream);
            constrained.map_err(|error| ConnectError::Certificate(host.clone(), format!("{address}: {error}")))?;
        }
        let by_dane = dane.is_some_and(|records| !records.needs_web_pki());
        let met = Reached { address, tls: version(&stream), by_dane };
        self.speak_http(stream, met).await.map_err(failed)
    }

    async fn speak_http(&self, stream: TlsStream<Buffered>, met: Reached) -> Result<Connection, String> {
        let network = self.bounded(met.address);
        let local = stream.get_ref().0.get_ref().local_addr().ok();
        let several = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        let (sender, driver) = Sender::over(Batched(stream), several).await.map_err(|error| error.to_string())?;
        let (local, driver) = (local.map(|address| address.ip()), Arc::new(driver));
        Ok(Connection { sender, opened: Instant::now(), local, network, met, taken: Arc::default(), driver })
    }
}

fn version(stream: &TlsStream<Buffered>) -> &'static str {
    match stream.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    }
}

/// A handshake that failed, here or there.
fn broken_tls(host: &Domain, address: IpAddr, error: &io::Error) -> ConnectError {
    let text = format!("{address}: {}", dane::explain(error));
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => ConnectError::Certificate(host.clone(), text),
        _ => ConnectError::Tls(host.clone(), text),
    }
}

/// Where the records leave the chain to WebPKI, they still say which certificate it is.
fn constrain(dane: &Dane, stream: &TlsStream<Buffered>) -> Result<(), String> {
    if !dane.needs_web_pki() {
        return Ok(());
    }
    let certificates = stream.get_ref().1.peer_certificates();
    let end_entity = certificates.and_then(<[_]>::first).ok_or("it shows no certificate")?;
    dane.constrain(end_entity).map_err(|mismatch| mismatch.to_string())
}
