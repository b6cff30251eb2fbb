//! Name resolution, through one type: [`Resolver`], chosen by configuration.
//!
//! Answers come from the system's name servers, from given ones, or from a zone file ([`zone`]). What an
//! answer means to mail (MX order, implicit MX, null MX) is decided here, once for all sources; connecting
//! is left to others.

mod servers;
pub mod zone;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::rand;
use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use mail::Domain;

use crate::lookup::{Lookup, LookupError, Txt};
use zone::{Zone, ZoneError};

/// Most hosts of one MX answer that are considered (RFC 5321 §5.1 lets a client give up at some point).
pub const MAX_EXCHANGES: usize = 20;
/// Most addresses of one host that are considered.
pub const MAX_ADDRESSES: usize = 16;
/// Most TXT records of one name that are considered.
const MAX_TEXTS: usize = 64;
/// How long answers of a zone file may be kept elsewhere: a reload should soon be seen everywhere.
const ZONE_TTL: Duration = Duration::from_secs(5);
/// How long the absence of records is believed.
const NO_RECORDS_TTL: Duration = Duration::from_secs(60);

/// Where answers come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The name servers of `/etc/resolv.conf`, and `/etc/hosts`.
    System,
    /// These name servers, by UDP and TCP, and nothing else.
    NameServers(Vec<SocketAddr>),
    /// A file in master format (RFC 1035 §5), and nothing else.
    ZoneFile(PathBuf),
}

/// Resolves names. Cheap to clone; clones share the cache and the zone.
#[derive(Clone)]
pub struct Resolver {
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    Servers(Arc<TokioResolver>),
    Zone { path: Arc<PathBuf>, zone: Arc<RwLock<Arc<Zone>>> },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was found.
    pub value: T,
    /// Was it validated by DNSSEC? Always false as yet.
    pub secure: bool,
    /// How long it may be kept.
    pub ttl: Duration,
}

impl<T> Answer<T> {
    fn with<U>(&self, value: U) -> Answer<U> {
        Answer { value, secure: self.secure, ttl: self.ttl }
    }
}

/// Where the mail of a domain goes (RFC 5321 §5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchanges {
    /// To one of these, tried in this order: by preference, equal ones shuffled at each query. For a domain
    /// without MX record the domain itself.
    Hosts(Vec<Exchange>),
    /// Nowhere: the domain says that it takes no mail (null MX, RFC 7505).
    Null,
}

/// A host that takes a domain's mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Lower ones come first; 0 for an implicit MX.
    pub preference: u16,
    /// Its name.
    pub host: Domain,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name does not exist.
    #[error("no such domain")]
    NoSuchDomain,
    /// The name exists, but has no such records.
    #[error("the domain has no such records")]
    NoRecords,
    /// Nobody could say; a later try may succeed.
    #[error("name resolution failed: {0}")]
    Temporary(String),
}

/// The configured source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// `/etc/resolv.conf` cannot be read, or no name server is given.
    #[error("name servers cannot be set up: {0}")]
    Servers(String),
    /// The zone file.
    #[error(transparent)]
    Zone(#[from] ZoneError),
}

impl Resolver {
    /// A resolver that answers from `source`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SourceError`]: the operator's to mend.
    pub fn new(source: &Source) -> Result<Self, SourceError> {
        let backend = match source {
            Source::System => Backend::Servers(Arc::new(servers::system()?)),
            Source::NameServers(addresses) => Backend::Servers(Arc::new(servers::given(addresses)?)),
            Source::ZoneFile(path) => {
                let zone = Arc::new(RwLock::new(Arc::new(Zone::load(path)?)));
                Backend::Zone { path: Arc::new(path.clone()), zone }
            }
        };
        Ok(Self { backend })
    }

    /// Reads the zone file again, or forgets what is cached.
    ///
    /// # Errors
    /// [`ZoneError`]: the zone stays as it was.
    pub fn reload(&self) -> Result<(), ZoneError> {
        match &self.backend {
            Backend::Servers(resolver) => resolver.clear_cache(),
            Backend::Zone { path, zone } => {
                let fresh = Arc::new(Zone::load(path)?);
                *zone.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            }
        }
        Ok(())
    }

    /// Where the mail of `domain` goes. Whether the hosts have addresses is not looked at, but for an
    /// implicit MX it is known that the domain exists.
    ///
    /// # Errors
    /// [`DnsError::NoSuchDomain`] and [`DnsError::Temporary`]; without MX record the domain itself is answered.
    pub async fn mx(&self, domain: &Domain) -> Result<Answer<Exchanges>, DnsError> {
        match self.lookup(domain, RecordType::MX).await {
            Ok(answer) => Ok(answer.with(exchanges(&answer.value)?)),
            Err(DnsError::NoRecords) => Ok(Answer {
                value: Exchanges::Hosts(vec![Exchange { preference: 0, host: domain.clone() }]),
                secure: false,
                ttl: NO_RECORDS_TTL,
            }),
            Err(error) => Err(error),
        }
    }

    /// The addresses of `host`, at most [`MAX_ADDRESSES`], IPv6 and IPv4 taking turns, so that a network
    /// without the one costs one failure.
    ///
    /// # Errors
    /// [`DnsError`]; one failing family is passed over where the other has an answer.
    pub async fn addresses(&self, host: &Domain) -> Result<Answer<Vec<IpAddr>>, DnsError> {
        let (v6, v4) = tokio::join!(self.lookup(host, RecordType::AAAA), self.lookup(host, RecordType::A));
        let (v6, v4) = match (v6, v4) {
            (Ok(v6), Ok(v4)) => (v6, v4),
            (Ok(v6), Err(_)) => (v6.clone(), v6.with(Vec::new())),
            (Err(_), Ok(v4)) => (v4.with(Vec::new()), v4),
            (Err(temporary @ DnsError::Temporary(_)), Err(_)) | (Err(_), Err(temporary)) => return Err(temporary),
        };
        let value = alternate(&v6.value, &v4.value);
        Ok(Answer { value, secure: v6.secure && v4.secure, ttl: v6.ttl.min(v4.ttl) })
    }

    /// The TXT records of `name`, the strings of each joined (as RFC 7208 §3.3 does). Records that are not
    /// UTF-8 are passed over.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn txt(&self, name: &Domain) -> Result<Answer<Vec<String>>, DnsError> {
        let answer = self.lookup(name, RecordType::TXT).await?;
        let texts = answer.value.iter().take(MAX_TEXTS).filter_map(|data| match data {
            RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).ok(),
            _ => None,
        });
        Ok(answer.with(texts.collect()))
    }

    async fn lookup(&self, name: &Domain, kind: RecordType) -> Result<Answer<Vec<RData>>, DnsError> {
        let name = absolute(name)?;
        let (value, ttl) = match &self.backend {
            Backend::Servers(resolver) => servers::lookup(resolver, name, kind).await?,
            Backend::Zone { zone, .. } => {
                let zone = Arc::clone(&zone.read().unwrap_or_else(PoisonError::into_inner));
                (zone.lookup(&name, kind)?, ZONE_TTL)
            }
        };
        if value.is_empty() { Err(DnsError::NoRecords) } else { Ok(Answer { value, secure: false, ttl }) }
    }
}

impl Lookup for Resolver {
    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, Result<Txt, LookupError>> {
        Box::pin(async move {
            match self.txt(name).await {
                Ok(answer) => Ok(Txt { records: answer.value, secure: answer.secure, ttl: answer.ttl }),
                Err(DnsError::NoSuchDomain | DnsError::NoRecords) => {
                    Ok(Txt { records: Vec::new(), secure: false, ttl: NO_RECORDS_TTL })
                }
                Err(DnsError::Temporary(why)) => Err(LookupError::Temporary(why)),
            }
        })
    }

    fn addresses<'a>(&'a self, host: &'a Domain) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        Box::pin(async move {
            match self.addresses(host).await {
                Ok(answer) => Ok(answer.value),
                Err(DnsError::NoSuchDomain | DnsError::NoRecords) => Ok(Vec::new()),
                Err(DnsError::Temporary(why)) => Err(LookupError::Temporary(why)),
            }
        })
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.backend {
            Backend::Servers(_) => f.write_str("Resolver(name servers)"),
            Backend::Zone { path, .. } => write!(f, "Resolver({})", path.display()),
        }
    }
}

fn absolute(name: &Domain) -> Result<Name, DnsError> {
    // A `Domain` is always a DNS name: the error is unreachable in practice, and harmless.
    let mut name = Name::from_ascii(name.as_str()).map_err(|e| DnsError::Temporary(e.to_string()))?;
    name.set_fqdn(true);
    Ok(name)
}

/// MX records in the order of trying. Records whose host is no mail name are passed over.
fn exchanges(records: &[RData]) -> Result<Exchanges, DnsError> {
    let mut hosts = Vec::new();
    let mut null = false;
    for record in records.iter().take(MAX_EXCHANGES) {
        let RData::MX(mx) = record else { continue };
        if mx.exchange.is_root() {
            null = true;
        } else if let Ok(host) = Domain::parse(mx.exchange.to_ascii().trim_end_matches('.')) {
            hosts.push((mx.preference, random(), host));
        }
    }
    if hosts.is_empty() {
        return if null { Ok(Exchanges::Null) } else { Err(DnsError::Temporary("no MX names a usable host".into())) };
    }
    hosts.sort();
    Ok(Exchanges::Hosts(hosts.into_iter().map(|(preference, _, host)| Exchange { preference, host }).collect()))
}

/// For the order among equals only: a failing generator costs the shuffle, nothing else.
fn random() -> [u8; 4] {
    let mut octets = [0; 4];
    let _ = rand::fill(&mut octets);
    octets
}

fn alternate(v6: &[RData], v4: &[RData]) -> Vec<IpAddr> {
    let v6 = v6.iter().filter_map(RData::ip_addr);
    let mut v4 = v4.iter().filter_map(RData::ip_addr);
    let mut both = Vec::new();
    for address in v6 {
        both.push(address);
        both.extend(v4.next());
    }
    both.extend(v4);
    both.truncate(MAX_ADDRESSES);
    both
}
