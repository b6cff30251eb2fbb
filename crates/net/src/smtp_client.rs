//! The SMTP and LMTP client's sockets: finds a destination's hosts, connects, begins TLS, logs in, and carries
//! [`smtp::client`] transactions out, over connections that are kept for the next message.
//!
//! What to send to whom, and when to try again, is the caller's business.

mod ask;
mod connect;
mod dane;
mod examine;
mod link;
mod pool;
mod results;
mod route;
mod security;
mod session;
mod sts;

#[cfg(test)]
mod sharing_tests;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mail::{Domain, EnhancedStatus};
use smtp::Secret;

use crate::dns::Resolver;
use crate::mta_sts::MtaSts;
use crate::tls::{ClientTls, Security};
use connect::Obtained;
use pool::{Known, Pool};

pub use ask::Atrn;
pub use examine::{Examined, Met};
pub use results::{Observer, TlsFault, TlsPolicyFound, TlsResult};
pub use session::{Session, Transaction};
pub use smtp::client::{Fate, Lost, Protocol, Refusal, Stage, Timeouts};

/// Settings of all connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What we call ourselves. An MX record of this name is ours: it and those behind it are not tried
    /// (RFC 5321 §5.1).
    pub name: Domain,
    /// Port of mail exchangers: 25 but for tests.
    pub mx_port: u16,
    /// Whose certificates are believed.
    pub tls: ClientTls,
    /// How long the peer may take for its replies.
    pub timeouts: Timeouts,
    /// Longest that connecting to one address may take.
    pub connect: Duration,
    /// Longest that a TLS handshake may take.
    pub handshake: Duration,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// Most transactions of one connection.
    pub uses: u32,
    /// Most connections at once, idle ones included.
    pub connections: usize,
    /// Most of them to one address of a host.
    pub connections_per_host: usize,
    /// Source address of IPv4 connections.
    pub bind_ipv4: Option<Ipv4Addr>,
    /// Source address of IPv6 connections.
    pub bind_ipv6: Option<Ipv6Addr>,
    /// Do TLSA records count (DANE, RFC 7672)?
    pub dane: bool,
    /// Finds the MTA-STS policies of domains; without it none counts.
    pub mta_sts: Option<MtaSts>,
    /// Hears how TLS went with mail exchangers.
    pub tls_results: Option<Observer>,
}

impl Settings {
    /// The defaults under this name.
    pub fn new(name: Domain, tls: ClientTls) -> Self {
        Self {
            name,
            mx_port: 25,
            tls,
            timeouts: Timeouts::default(),
            connect: Duration::from_secs(30),
            handshake: Duration::from_secs(60),
            idle: Duration::from_secs(8),
            uses: 1000,
            connections: 500,
            connections_per_host: 20,
            bind_ipv4: None,
            bind_ipv6: None,
            dane: true,
            mta_sts: None,
            tls_results: None,
        }
    }
}

/// Where to connect, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The hosts.
    pub route: Route,
    /// What they speak.
    pub protocol: Protocol,
    /// How they are protected.
    pub tls: TlsPolicy,
    /// AUTH PLAIN, inside TLS only.
    pub login: Option<Login>,
    /// What the message asks of TLS.
    pub asks: MessageTls,
}

impl Destination {
    /// The mail exchangers of a domain, with opportunistic TLS.
    pub fn exchangers_of(domain: Domain) -> Self {
        let (route, tls) = (Route::Exchangers(domain), TlsPolicy::Opportunistic);
        Self { route, protocol: Protocol::Smtp, tls, login: None, asks: MessageTls::AsUsual }
    }

    /// An LMTP server, in clear.
    pub fn lmtp(route: Route) -> Self {
        Self { route, protocol: Protocol::Lmtp, tls: TlsPolicy::Off, login: None, asks: MessageTls::AsUsual }
    }
}

/// The hosts of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Route {
    /// Those that the domain's MX records name (RFC 5321 §5.1).
    Exchangers(Domain),
    /// This host; its MX records are not asked for.
    Host(Domain, u16),
    /// This address.
    Address(IpAddr, u16),
    /// A UNIX socket.
    Unix(PathBuf),
    /// A connection that the other side has opened, and turned over (RFC 2645): once lost it cannot be had again from here.
    Turned,
}

/// What a message itself asks of the TLS on its way. Nothing where LMTP is spoken: that way ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MessageTls {
    /// Nothing.
    #[default]
    AsUsual,
    /// REQUIRETLS (RFC 8689 §4.2.1): a host that DNSSEC, an enforced MTA-STS policy or the operator names, TLS with its
    /// certificate verified, and REQUIRETLS offered there.
    Required,
    /// `TLS-Required: No` (RFC 8689 §4.2.2): what domains publish of DANE and MTA-STS is passed over. The operator's policy
    /// is not.
    Optional,
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsPolicy {
    /// Not at all.
    Off,
    /// STARTTLS where it is offered, any certificate; where the handshake fails, in clear (RFC 7435). What the other side
    /// publishes (DANE, MTA-STS) asks for more.
    Opportunistic,
    /// The same, whatever the domain demands: for reports on its TLS (RFC 8460 §5.3).
    Heedless,
    /// STARTTLS or nothing, any certificate.
    Required,
    /// STARTTLS or nothing, with a valid certificate for the host's name.
    Verified,
    /// TLS from the first octet (RFC 8314), with a valid certificate for the host's name.
    Implicit,
}

impl TlsPolicy {
    /// The demand on each connection, as far as the policy alone says it.
    pub fn security(self) -> Security {
        match self {
            Self::Off => Security::Off,
            Self::Opportunistic | Self::Heedless => Security::Opportunistic,
            Self::Required => Security::Encrypted,
            Self::Verified | Self::Implicit => Security::WebPki,
        }
    }
}

/// Name and password at a smart host. `Debug` shows no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The account.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

impl Hash for Login {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.user.hash(state);
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchangers(domain) => domain.fmt(f),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Address(IpAddr::V6(address), port) => write!(f, "[{address}]:{port}"),
            Self::Address(address, port) => write!(f, "{address}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
            Self::Turned => f.write_str("a connection that was turned over"),
        }
    }
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ConnectError {
    /// Can a later try succeed? Not where the domain does not exist, takes no mail, or all its hosts refuse for good.
    pub temporary: bool,
    /// One plain sentence, of the last host that was tried.
    pub text: String,
    /// For a report.
    pub status: EnhancedStatus,
}

/// Connects, and keeps connections. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    settings: Settings,
    resolver: Resolver,
    pool: Arc<Pool>,
}

impl Client {
    /// A client without connections. Must be called within a tokio runtime: a task closes idle connections until
    /// the last clone is gone.
    pub fn new(settings: Settings, resolver: Resolver) -> Self {
        let pool = Pool::new(settings.connections, settings.connections_per_host, settings.idle);
        Self { inner: Arc::new(Inner { settings, resolver, pool }) }
    }

    /// A session that is ready for a transaction: there is a connection to the first host that can be had, greeted, in
    /// TLS and logged in as the destination asks for. It is shared with all destinations that ask for the same there,
    /// transaction by transaction. Waits while there are as many connections as there may be.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, destination: &Destination) -> Result<Session, ConnectError> {
        // Apart: looking names up takes more memory than all that follows.
        let places = Box::pin(self.inner.places(destination)).await?;
        let found = match self.inner.known(destination, &places).await {
            Some(found) => found,
            None => {
                let Obtained { link, place, .. } = self.inner.obtain(destination, places.clone(), false).await?;
                let known = Known::of(&link);
                self.inner.pool.put(link);
                (place, known)
            }
        };
        Ok(Session::new(Arc::clone(&self.inner), destination.clone(), places, found))
    }

    /// The link to the world has come up, maybe as another one: idle connections are not used any more.
    pub fn link_is_new(&self) {
        self.inner.pool.clear();
    }
}
