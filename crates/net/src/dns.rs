//! Name resolution, through one type: [`Resolver`], chosen by configuration.
//!
//! Answers come from the system's name servers, from given ones, or from a zone file ([`zone`]). What an
//! answer means to mail (MX order, implicit MX, null MX) is decided here, once for all sources; connecting
//! is left to others.

pub mod dname;
mod exchange;
pub mod judge;
mod servers;
mod tlsa;
mod validate;
pub mod zone;

#[cfg(test)]
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::rand;
use futures_util::future::BoxFuture;
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use mail::Domain;

use crate::lookup::{Lookup, LookupError, Txt};
use exchange::Flags;
use servers::{Lane, Servers};
use validate::Validator;
use zone::{Zone, ZoneError};

pub use tlsa::TlsaSet;

/// Most hosts of one MX answer that are considered (RFC 5321 §5.1 lets a client give up at some point).
pub const MAX_EXCHANGES: usize = 20;
/// Most addresses of one host that are considered.
pub const MAX_ADDRESSES: usize = 16;
/// Longest chain of CNAMEs.
const MAX_ALIASES: usize = 8;
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

/// Who validates answers of name servers. A zone file is never validated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Dnssec {
    /// This resolver does, from these trust anchors down.
    Validate(Anchors),
    /// The name servers do, which must all be on this machine: their word counts.
    Trust,
    /// Nobody: no answer is secure and none is bogus.
    #[default]
    Off,
}

/// The keys that validation begins with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Anchors {
    /// Those of the root, as IANA publishes them.
    #[default]
    Iana,
    /// Those of this file and no others: DNSKEY records in master format.
    File(PathBuf),
}

/// Resolves names. Cheap to clone; clones share the cache and the zone.
#[derive(Clone)]
pub struct Resolver {
    backend: Backend,
    lane: Lane,
}

#[derive(Clone)]
enum Backend {
    Validating(Arc<Validator>),
    Servers {
        servers: Arc<Servers>,
        trusted: bool,
    },
    Zone {
        path: Arc<PathBuf>,
        zone: Arc<RwLock<Arc<Zone>>>,
    },
    #[cfg(test)]
    Table(Arc<table::Table>),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was found.
    pub value: T,
    /// Was it validated with DNSSEC, every CNAME on the way included?
    pub secure: bool,
    /// How long it may be kept.
    pub ttl: Duration,
}

impl<T> Answer<T> {
    fn with<U>(&self, value: U) -> Answer<U> {
        Answer { value, secure: self.secure, ttl: self.ttl }
    }
}

/// All that is known of a name and a type, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The records as text; none where there are none.
    pub records: Vec<String>,
    /// Does the name exist, with records of other types perhaps?
    pub exists: bool,
    /// Was that validated with DNSSEC, every CNAME on the way and a denial included?
    pub secure: bool,
}

/// The records of one type at the end of a chain of CNAMEs, or that there are none.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Empty where there are none.
    pub(crate) records: Vec<RData>,
    /// Does the name exist, with other records perhaps?
    pub(crate) exists: bool,
    /// Was that validated with DNSSEC, every CNAME on the way and a denial included?
    pub(crate) secure: bool,
    /// How long it may be kept.
    pub(crate) ttl: Duration,
}

impl Found {
    /// None are an error.
    fn into_answer(self) -> Result<Answer<Vec<RData>>, DnsError> {
        match (self.records.is_empty(), self.exists) {
            (false, _) => Ok(Answer { value: self.records, secure: self.secure, ttl: self.ttl }),
            (true, true) => Err(DnsError::NoRecords),
            (true, false) => Err(DnsError::NoSuchDomain),
        }
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
    /// There is an answer, and DNSSEC says that it is forged or broken. A later try may succeed; never to be taken for
    /// an insecure answer or for an absence.
    #[error("the answer failed DNSSEC validation: {0}")]
    Bogus(String),
}

/// The configured source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// `/etc/resolv.conf` cannot be read, or no name server is given.
    #[error("name servers cannot be set up: {0}")]
    Servers(String),
    /// The file of trust anchors cannot be read, or has none.
    #[error("trust anchors in {}: {problem}", path.display())]
    Anchors {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The zone file.
    #[error(transparent)]
    Zone(#[from] ZoneError),
}

impl Resolver {
    /// A resolver that answers from `source`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SourceError`]: the operator's to mend.
    pub fn new(source: &Source, dnssec: &Dnssec) -> Result<Self, SourceError> {
        let servers = match source {
            Source::System => Servers::system(flags(dnssec))?,
            Source::NameServers(addresses) => Servers::given(addresses.clone(), flags(dnssec))?,
            Source::ZoneFile(path) => {
                let zone = Arc::new(RwLock::new(Arc::new(Zone::load(path)?)));
                return Ok(Self { backend: Backend::Zone { path: Arc::new(path.clone()), zone }, lane: Lane::Ours });
            }
        };
        let backend = match dnssec {
            Dnssec::Validate(from) => Backend::Validating(Arc::new(Validator::new(servers, anchors(from)?))),
            Dnssec::Trust => Backend::Servers { servers: Arc::new(all_here(servers)?), trusted: true },
            Dnssec::Off => Backend::Servers { servers: Arc::new(servers), trusted: false },
        };
        Ok(Self { backend, lane: Lane::Ours })
    }

    /// The same for what is looked up because somebody has connected: however many names nobody answers for, questions of this
    /// server's own do not wait for them.
    #[must_use]
    pub fn for_strangers(&self) -> Self {
        Self { backend: self.backend.clone(), lane: Lane::Strangers }
    }

    /// Reads the zone file again, or forgets what is cached.
    ///
    /// # Errors
    /// [`ZoneError`]: the zone stays as it was.
    pub fn reload(&self) -> Result<(), ZoneError> {
        match &self.backend {
            Backend::Validating(validator) => validator.forget_all(),
            Backend::Servers { servers, .. } => servers.forget_all(),
            Backend::Zone { path, zone } => {
                let fresh = Arc::new(Zone::load(path)?);
                *zone.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            }
            #[cfg(test)]
            Backend::Table(_) => {}
        }
        Ok(())
    }

    /// Where answers are validated: can the root's own keys be had and validated through these name servers? If not,
    /// no name can be.
    ///
    /// # Errors
    /// [`DnsError`]: name servers that pass no signatures on make everything [`DnsError::Bogus`].
    pub async fn check_anchors(&self) -> Result<(), DnsError> {
        match &self.backend {
            Backend::Validating(validator) if validator.starts_at_root() => {
                validator.find(&Name::root(), RecordType::DNSKEY, self.lane).await.map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Where the mail of `domain` goes. Whether the hosts have addresses is not looked at, but for an
    /// implicit MX it is known that the domain exists.
    ///
    /// # Errors
    /// [`DnsError::NoSuchDomain`] and [`DnsError::Temporary`]; without MX record the domain itself is answered.
    pub async fn mx(&self, domain: &Domain) -> Result<Answer<Exchanges>, DnsError> {
        let found = self.find(absolute(domain)?, RecordType::MX).await?;
        if found.exists && found.records.is_empty() {
            let value = Exchanges::Hosts(vec![Exchange { preference: 0, host: domain.clone() }]);
            return Ok(Answer { value, secure: found.secure, ttl: found.ttl });
        }
        let answer = found.into_answer()?;
        Ok(answer.with(exchanges(&answer.value)?))
    }

    /// The addresses of `host`, at most [`MAX_ADDRESSES`], IPv6 and IPv4 taking turns, so that a network
    /// without the one costs one failure.
    ///
    /// # Errors
    /// [`DnsError`]; a family without an answer is passed over where the other has one, a forged one is not.
    pub async fn addresses(&self, host: &Domain) -> Result<Answer<Vec<IpAddr>>, DnsError> {
        let (v6, v4) = tokio::join!(self.lookup(host, RecordType::AAAA), self.lookup(host, RecordType::A));
        let (v6, v4) = match (v6, v4) {
            (Ok(v6), Ok(v4)) => (v6, v4),
            (Err(bogus @ DnsError::Bogus(_)), _) | (_, Err(bogus @ DnsError::Bogus(_))) => return Err(bogus),
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
        Ok(answer.with(texts(&answer.value)))
    }

    /// The records of one type at any name, CNAMEs followed; none is [`DnsError::NoRecords`].
    ///
    /// # Errors
    /// [`DnsError`].
    pub(crate) async fn records(&self, name: Name, kind: RecordType) -> Result<Vec<RData>, DnsError> {
        self.find(name, kind).await?.into_answer().map(|answer| answer.value)
    }

    /// Any records at any name, for people: `kind` is the type's mnemonic, such as `TLSA`.
    ///
    /// # Errors
    /// [`DnsError`], also for what is no name or no type.
    pub async fn examine(&self, name: &str, kind: &str) -> Result<Examined, DnsError> {
        let wrong = |what: &str| DnsError::Temporary(format!("`{what}` is no name, or no type of records"));
        let mut parsed = Name::from_ascii(name).map_err(|_| wrong(name))?;
        parsed.set_fqdn(true);
        let found = self.find(parsed, kind.parse().map_err(|_| wrong(kind))?).await?;
        let records = found.records.iter().map(ToString::to_string).collect();
        Ok(Examined { records, exists: found.exists, secure: found.secure })
    }

    /// The same, or that there are none, and how sure that is.
    ///
    /// # Errors
    /// [`DnsError::Temporary`] and [`DnsError::Bogus`].
    pub(crate) async fn find(&self, name: Name, kind: RecordType) -> Result<Found, DnsError> {
        match &self.backend {
            Backend::Validating(validator) => match validator.servers().at_home(&name, kind) {
                Some(found) => Ok(found),
                None => validator.find(&name, kind, self.lane).await,
            },
            Backend::Servers { servers, trusted } => match servers.at_home(&name, kind) {
                Some(found) => Ok(found),
                None => servers.plain(&name, kind, *trusted, self.lane).await,
            },
            Backend::Zone { zone, .. } => {
                let zone = Arc::clone(&zone.read().unwrap_or_else(PoisonError::into_inner));
                from_zone(zone.lookup(&name, kind))
            }
            #[cfg(test)]
            Backend::Table(table) => table.lookup(&name, kind),
        }
    }

    async fn lookup(&self, name: &Domain, kind: RecordType) -> Result<Answer<Vec<RData>>, DnsError> {
        self.find(absolute(name)?, kind).await?.into_answer()
    }
}

/// What name servers are told, so that they tell what is needed.
fn flags(dnssec: &Dnssec) -> Flags {
    let (validates, trusts) = (matches!(dnssec, Dnssec::Validate(_)), *dnssec == Dnssec::Trust);
    Flags { dnssec_ok: validates, checking_disabled: validates, authentic_data: trusts }
}

fn anchors(from: &Anchors) -> Result<TrustAnchors, SourceError> {
    let Anchors::File(path) = from else { return Ok(TrustAnchors::default()) };
    let wrong = |problem: String| SourceError::Anchors { path: path.clone(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let has_keys = text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with(';'));
    if !has_keys {
        return Err(wrong("there is no DNSKEY record in it".to_owned()));
    }
    text.parse().map_err(|error: hickory_resolver::proto::serialize::txt::ParseError| wrong(error.to_string()))
}

/// Nobody on the way may change what a server says about its own validation.
fn all_here(servers: Servers) -> Result<Servers, SourceError> {
    match servers.elsewhere() {
        Some(address) => Err(SourceError::Servers(format!(
            "{address} is not on this machine, so its word that an answer is validated cannot be trusted; validate here, \
             or use a server at a loopback address"
        ))),
        None => Ok(servers),
    }
}

fn from_zone(result: Result<Vec<RData>, DnsError>) -> Result<Found, DnsError> {
    let found = |records, exists, ttl| Ok(Found { records, exists, secure: false, ttl });
    match result {
        Ok(records) => found(records, true, ZONE_TTL),
        Err(DnsError::NoRecords) => found(Vec::new(), true, NO_RECORDS_TTL),
        Err(DnsError::NoSuchDomain) => found(Vec::new(), false, NO_RECORDS_TTL),
        Err(error) => Err(error),
    }
}

/// Where the CNAME at this name leads to.
fn alias(records: &[Record], name: &Name) -> Option<Name> {
    records.iter().find_map(|record| match &record.data {
        RData::CNAME(alias) if record.name == *name => Some(alias.0.clone()),
        _ => None,
    })
}

impl Lookup for Resolver {
    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, Result<Txt, LookupError>> {
        Box::pin(async move {
            let found = self.find(absolute(name)?, RecordType::TXT).await?;
            Ok(Txt { records: texts(&found.records), secure: found.secure, ttl: found.ttl })
        })
    }

    fn addresses<'a>(&'a self, host: &'a Domain) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        Box::pin(async move {
            match self.addresses(host).await {
                Ok(answer) => Ok(answer.value),
                Err(DnsError::NoSuchDomain | DnsError::NoRecords) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn tlsa<'a>(&'a self, host: &'a Domain, port: u16) -> BoxFuture<'a, Result<Option<TlsaSet>, LookupError>> {
        Box::pin(async move {
            match self.tlsa(host, port).await {
                Err(DnsError::NoSuchDomain | DnsError::NoRecords) => Ok(None),
                answer => Ok(answer?),
            }
        })
    }
}

impl From<DnsError> for LookupError {
    fn from(error: DnsError) -> Self {
        match error {
            DnsError::Bogus(why) => Self::Bogus(why),
            DnsError::Temporary(why) => Self::Temporary(why),
            absent @ (DnsError::NoSuchDomain | DnsError::NoRecords) => Self::Temporary(absent.to_string()),
        }
    }
}

fn texts(records: &[RData]) -> Vec<String> {
    let texts = records.iter().take(MAX_TEXTS).filter_map(|data| match data {
        RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).ok(),
        _ => None,
    });
    texts.collect()
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.backend {
            Backend::Validating(_) => f.write_str("Resolver(name servers, validating)"),
            Backend::Servers { .. } => f.write_str("Resolver(name servers)"),
            Backend::Zone { path, .. } => write!(f, "Resolver({})", path.display()),
            #[cfg(test)]
            Backend::Table(_) => f.write_str("Resolver(table)"),
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
