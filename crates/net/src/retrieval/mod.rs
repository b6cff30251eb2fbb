//! The retrieval client (TBR §7): fetches objects from repositories that nobody here controls, posts claims and
//! receipts to them, and hands what users of a site send over to its custodian.
//!
//! Every host is hostile until shown otherwise: its addresses are filtered, no redirect is followed, octets, time and
//! concurrency are bounded, and what came is believed only by its digest. Which references deserve a fetch is judged
//! before; where octets go is the caller's [`Sink`].

mod address;
mod batched;
mod connect;
mod exchange;
mod fetch;
mod link;
mod places;
mod pool;
mod post;
mod reach;
pub mod represent;
mod sender;
mod signed;
mod suspend;
#[cfg(test)]
mod tests;
mod upload;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use mail::ledger::Representation;
use mail::{Domain, Xuid};
use policy::budget::Prefix;
use reference::Uri;
use reference::message_signature::Signer;
use tokio::time::Instant;

use crate::lookup::Lookup;
use connect::Connector;
use link::Link;
use places::Places;
use pool::Pool;
use suspend::Suspensions;

pub use address::is_public;
pub use reach::{Obstacle, Reached, Unreached};
pub use upload::{HandedOver, Octets, Source, Stopped};

/// Fetches, posts and uploads. Clones share one pool of connections and one set of budgets.
#[derive(Clone)]
pub struct Client {
    shared: Arc<RwLock<Arc<Shared>>>,
    link: Arc<Link>,
}

struct Shared {
    pool: Pool,
    places: Arc<Places>,
    /// What is sent has places of its own.
    uploads: Places,
    suspensions: Arc<Suspensions>,
    /// Survives [`Client::replace`]: what is under way ends as it began, and has to hear of a new link too.
    link: Arc<Link>,
    config: Config,
}

/// What a client may do and take. Times are for one step each; a fetch as a whole has [`Fetch::budget`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Port of repositories (TBR §5.5): 443 unless a test network says otherwise.
    pub port: u16,
    /// Ask for content codings, where the sink decodes.
    pub codings: bool,
    /// May private, loopback and other special addresses be connected to? For test networks and closed sites.
    pub allow_private: bool,
    /// Are networks of such addresses bounded like those of the Internet? They are the operator's own: only tests say yes.
    pub bound_special_networks: bool,
    /// Do TLSA records count (TBR §5.5)? Where a host has some, its certificate must be one that they name; else one of the
    /// trusted CAs.
    pub dane: bool,
    /// Hosts that are asked for HTTP/2: a site fetches all that waits at its custodian over one connection, several at a time. Claims, lists
    /// and uploads have another.
    pub several_at_once: Vec<Domain>,
    /// For a TCP connection to one address, and for its TLS handshake.
    pub connect_time: Duration,
    /// From sending a request to the end of the response's header.
    pub head_time: Duration,
    /// For a whole POST, or a domain document, connecting included.
    pub exchange_time: Duration,
    /// Slowest rate, in octets a second, averaged from the body's beginning and after `rate_grace`.
    pub minimum_rate: u64,
    /// See `minimum_rate`.
    pub rate_grace: Duration,
    /// Longest time without an octet of a body: whatever came before, the connection is given up then.
    pub stall_time: Duration,
    /// How long something under way has to show that it is alive, after [`Client::link_is_new`]. The first answer over a
    /// connection that has survived may need a repetition and a round trip by satellite.
    pub sign_of_life: Duration,
    /// How often a broken retrieval is taken up again, by range where that is safe.
    pub resumptions: u32,
    /// Wait before the first resumption; doubled for each further one.
    pub resumption_wait: Duration,
    /// Retrievals at a time; and so many uploads.
    pub concurrent: usize,
    /// Retrievals at a time for signing domains under one registrable domain; and so many uploads to custodians under one.
    pub concurrent_per_domain: usize,
    /// Retrievals at a time from hosts of one network of the Internet ([`policy::budget::Prefix`]).
    pub concurrent_per_network: usize,
    /// Idle connections kept, over all hosts.
    pub idle_connections: usize,
    /// Idle connections kept to one host.
    pub idle_per_host: usize,
    /// How long an idle connection is kept, unless it is one of `several_at_once`: that host closes it.
    pub idle_time: Duration,
    /// How long a connection is used at most, so that addresses are looked up again.
    pub connection_age: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 443,
            codings: true,
            allow_private: false,
            bound_special_networks: false,
            dane: true,
            several_at_once: Vec::new(),
            connect_time: Duration::from_secs(10),
            head_time: Duration::from_secs(30),
            exchange_time: Duration::from_secs(60),
            minimum_rate: 2 * 1024,
            rate_grace: Duration::from_secs(20),
            stall_time: Duration::from_secs(20),
            sign_of_life: Duration::from_secs(3),
            resumptions: 4,
            resumption_wait: Duration::from_millis(250),
            concurrent: 64,
            concurrent_per_domain: 8,
            concurrent_per_network: 32,
            idle_connections: 256,
            idle_per_host: 8,
            idle_time: Duration::from_secs(45),
            connection_age: Duration::from_secs(600),
        }
    }
}

/// What to fetch.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    /// Where, what, and the grant.
    pub uri: &'a Uri,
    /// The signing domain whose repository it is, for budgets.
    pub domain: &'a Domain,
    /// Octets to expect: no more are taken.
    pub size: u64,
    /// Time the whole retrieval may take, waiting for its turn included.
    pub budget: Duration,
    /// The recipient domain's key: every request is signed by it (TBR §6.2).
    pub signer: Option<&'a Signer>,
}

/// Where posts go: pools, budgets and suspensions are of both.
#[derive(Debug, Clone, Copy)]
pub struct Repository<'a> {
    /// The signing domain.
    pub d: &'a Domain,
    /// Its host.
    pub host: &'a Domain,
}

/// Where a fetched object goes. It takes octets as they are received, and decodes them: so that what is hashed is what is
/// kept, and what is kept can be gone on with.
pub trait Sink: Send {
    /// May the octets be coded? Otherwise the client asks for the object as it is.
    fn takes_codings(&self) -> bool;

    /// What is here already, from a retrieval that broke off: its representation, and how many octets of that.
    fn held(&self) -> Option<(Representation, u64)>;

    /// Forgets all octets taken, also after the end: the ones that follow are the first of this representation.
    fn begin(&mut self, representation: Representation) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Takes the next octets.
    fn write(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// All octets have come: the name of what they decode to. It decides if they are the object.
    fn finish(&mut self) -> impl Future<Output = Result<Xuid, SinkError>> + Send;
}

/// Why a sink did not take octets.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Our own fault (disk full): the fetch ends as [`Outcome::Temporary`].
    #[error(transparent)]
    Ours(#[from] io::Error),
    /// They cannot be the object: they decode to too many octets, or not at all.
    #[error("{0}")]
    Wrong(String),
}

/// How a retrieval ended. The sink has the object if it is `Done`, and a part of it that can be gone on with if it is
/// `Temporary`; otherwise its content is worthless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The sink holds exactly the octets that the XUID names.
    Done {
        /// Octets of body received over the network, those fetched twice included.
        octets: u64,
    },
    /// Try again later.
    Temporary {
        /// One plain sentence, without grant.
        text: String,
        /// The repository's wish, at most a day.
        retry_after: Option<Duration>,
    },
    /// Nobody was asked: the host, or its network, has failed too often. Try again later; the sink is as it was.
    LeftAlone {
        /// One plain sentence.
        text: String,
    },
    /// 410: withdrawn or expired.
    Gone,
    /// 404: nothing for this grant.
    NotFound,
    /// Wrong size or digest, also after a second try from zero.
    Corrupt {
        /// One plain sentence.
        text: String,
    },
}

/// A post that got no answer that counts (TBR §8): nothing may be concluded from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NoAnswer {
    /// One plain sentence.
    pub text: String,
    /// The HTTP status, where there was one other than 200.
    pub status: Option<u16>,
    /// The repository's wish, at most a day.
    pub retry_after: Option<Duration>,
    /// Nobody was asked: TLS failed.
    pub bad_tls: bool,
    /// It failed because the host shows a certificate that does not count.
    pub bad_certificate: bool,
}

impl NoAnswer {
    /// By TLS, 403 or 404: what suspends a repository when it goes on (TBR §5.5).
    fn is_turned_away(&self) -> bool {
        self.bad_tls || matches!(self.status, Some(403 | 404))
    }
}

impl Client {
    /// A client that trusts what `tls` trusts (protocol versions included) and resolves names with `lookup`.
    pub fn new(tls: Arc<rustls::ClientConfig>, lookup: Arc<dyn Lookup>, config: Config) -> Self {
        let link = Arc::new(Link::new(config.sign_of_life));
        Self { shared: Arc::new(RwLock::new(Shared::new(tls, lookup, config, Arc::clone(&link)))), link }
    }

    /// Goes on in this way, in all clones. What is under way ends as it began.
    pub fn replace(&self, tls: Arc<rustls::ClientConfig>, lookup: Arc<dyn Lookup>, config: Config) {
        let shared = Shared::new(tls, lookup, config, Arc::clone(&self.link));
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = shared;
    }

    /// The link to the world has come up, maybe as another one: idle connections are closed, and what is under way has
    /// seconds to show that it is alive. Then it is done again over a new connection, retrievals from where they stopped.
    pub fn link_is_new(&self) {
        self.link.renew();
        self.shared().pool.clear();
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    fn new(tls: Arc<rustls::ClientConfig>, lookup: Arc<dyn Lookup>, config: Config, link: Arc<Link>) -> Arc<Self> {
        let places = || Places::new(config.concurrent, config.concurrent_per_domain, config.concurrent_per_network);
        let (retrievals, suspensions) = (Arc::new(places()), Arc::new(Suspensions::new()));
        let (shares, suspends) = (Arc::clone(&retrievals), Arc::clone(&suspensions));
        let pool = Pool::new(Connector::new(tls, lookup, shares, suspends, &config), &config);
        Arc::new(Self { pool, places: retrievals, uploads: places(), suspensions, link, config })
    }

    /// TLS failed, or the repository said 403 or 404.
    fn turned_away(&self, d: &Domain, host: &Domain, network: Option<Prefix>) {
        let now = Instant::now();
        self.suspensions.failed(d, host, now);
        if let Some(network) = network {
            self.suspensions.network_failed(network, host, now);
        }
    }
}
