//! Answers of name servers as they come: which server is asked, how long an answer is kept.
//!
//! Everybody who asks the same meanwhile waits for the same answer. Failures are never kept: a name server that comes
//! up late is asked again at once. Whether an answer is genuine is left to [`super::validate`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::Hosts;
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use moka::Expiry;
use moka::future::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::exchange::{self, Flags};
use super::{DnsError, Found, MAX_ALIASES, SourceError, alias};

/// Octets of answers that are kept.
const CAPACITY: u64 = 32 << 20;
/// Longest time for which a positive answer is kept, and a negative one.
const LONGEST: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(3_600));
/// How long a server has to answer, in the first round and in the second.
const ROUNDS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
/// Questions under way at a time for each of [`Lane`].
const QUESTIONS: usize = 256;

/// Who has places of its own for questions: names of strangers that nobody answers for keep no mail of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// What this server wants to know: where mail goes, and what it has accepted.
    Ours,
    /// What is looked up because somebody has connected.
    Strangers,
}

/// A question, as answers are kept.
pub(super) type Key = (LowerName, RecordType);

/// Some name servers that answer alike, and what they answered.
pub(super) struct Servers {
    addresses: Vec<SocketAddr>,
    flags: Flags,
    hosts: Hosts,
    /// The one that answered last is asked first.
    good: AtomicUsize,
    places: [Semaphore; 2],
    kept: Cache<Key, Arc<Kept>>,
}

/// An answer with its time.
pub(super) struct Kept {
    pub(super) message: Message,
    pub(super) at: Instant,
    /// How long it counts, from then on.
    ttl: Duration,
    octets: u32,
}

/// Why nothing was answered.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Silence {
    /// A server says that it cannot or will not.
    #[error("the name server says {0}")]
    Code(ResponseCode),
    /// No server could be talked to.
    #[error("{0}")]
    Nobody(String),
}

impl Servers {
    /// The name servers of `/etc/resolv.conf`, and `/etc/hosts`.
    pub(super) fn system(flags: Flags) -> Result<Self, SourceError> {
        let (config, _) = read_system_conf().map_err(|error| SourceError::Servers(error.to_string()))?;
        let address = |ip: IpAddr| SocketAddr::new(ip, 53);
        let addresses = config.name_servers().iter().map(|server| address(server.ip)).collect();
        Ok(Self { hosts: Hosts::from_system().unwrap_or_default(), ..Self::given(addresses, flags)? })
    }

    /// These servers only.
    pub(super) fn given(addresses: Vec<SocketAddr>, flags: Flags) -> Result<Self, SourceError> {
        if addresses.is_empty() {
            return Err(SourceError::Servers("the list of name servers is empty".into()));
        }
        let kept = Cache::builder()
            .max_capacity(CAPACITY)
            .weigher(|_, kept: &Arc<Kept>| kept.octets)
            .expire_after(Lifetime)
            .build();
        let (good, places) = (AtomicUsize::new(0), [(); 2].map(|()| Semaphore::new(QUESTIONS)));
        Ok(Self { addresses, flags, hosts: Hosts::default(), good, places, kept })
    }

    /// The first server that is not on this machine.
    pub(super) fn elsewhere(&self) -> Option<SocketAddr> {
        self.addresses.iter().copied().find(|address| !address.ip().to_canonical().is_loopback())
    }

    /// What this machine knows without asking: `/etc/hosts`, and names that no server is asked for (RFC 6761 §6).
    pub(super) fn at_home(&self, name: &Name, kind: RecordType) -> Option<Found> {
        let found = |records, exists| Found { records, exists, secure: false, ttl: super::NO_RECORDS_TTL };
        if let Some(lookup) = self.hosts.lookup_static_host(&Query::query(name.clone(), kind)) {
            return Some(found(lookup.answers().iter().map(|record| record.data.clone()).collect(), true));
        }
        let last = name.iter().next_back()?.to_ascii_lowercase();
        match (last.as_slice(), kind) {
            (b"localhost", RecordType::A) => Some(found(vec![RData::A(Ipv4Addr::LOCALHOST.into())], true)),
            (b"localhost", RecordType::AAAA) => Some(found(vec![RData::AAAA(Ipv6Addr::LOCALHOST.into())], true)),
            (b"localhost", _) => Some(found(Vec::new(), true)),
            (b"invalid" | b"onion", _) => Some(found(Vec::new(), false)),
            _ => None,
        }
    }

    /// The answer to a question, kept or fresh. A question that is under way has its place: whoever joins it waits for the name
    /// servers only.
    pub(super) async fn answer(&self, name: &Name, kind: RecordType, lane: Lane) -> Result<Arc<Kept>, Silence> {
        if let Some(kept) = self.kept.get(&key(name, kind)).await {
            return Ok(kept);
        }
        let _place = self.place(lane).await?;
        let answer = self.kept.try_get_with(key(name, kind), async {
            let (message, octets) = self.ask(&Query::query(name.clone(), kind), self.flags).await?;
            Ok(Arc::new(Kept::new(message, octets)))
        });
        answer.await.map_err(|silence: Arc<Silence>| Silence::clone(&silence))
    }

    /// Would there be an answer if nobody validated?
    pub(super) async fn answers_unchecked(&self, name: &Name, kind: RecordType, lane: Lane) -> bool {
        let Ok(_place) = self.place(lane).await else { return false };
        let flags = Flags { checking_disabled: true, ..self.flags };
        self.ask(&Query::query(name.clone(), kind), flags).await.is_ok()
    }

    pub(super) async fn forget(&self, key: &Key) {
        self.kept.invalidate(key).await;
    }

    pub(super) fn forget_all(&self) {
        self.kept.invalidate_all();
    }

    async fn place(&self, lane: Lane) -> Result<SemaphorePermit<'_>, Silence> {
        self.places[lane as usize].acquire().await.map_err(|_| Silence::Nobody("closed".to_owned()))
    }

    /// Asks one server after the other until one has an answer; those that were silent are asked once more. In a place.
    async fn ask(&self, query: &Query, flags: Flags) -> Result<(Message, usize), Silence> {
        let mut failure = None;
        for patience in ROUNDS {
            let mut silent = false;
            let first = self.good.load(Ordering::Relaxed);
            for number in 0..self.addresses.len() {
                let index = (first + number) % self.addresses.len();
                match exchange::ask(self.addresses[index], query, flags, patience).await {
                    Ok((message, octets)) => match message.metadata.response_code {
                        ResponseCode::NoError | ResponseCode::NXDomain => {
                            self.good.store(index, Ordering::Relaxed);
                            return Ok((message, octets));
                        }
                        code => failure = Some(Silence::Code(code)),
                    },
                    Err(words) => {
                        silent = true;
                        failure.get_or_insert(Silence::Nobody(words));
                    }
                }
            }
            if !silent {
                break;
            }
        }
        Err(failure.unwrap_or_else(|| Silence::Nobody("no name server".to_owned())))
    }

    /// The records of one type, CNAMEs followed, as the servers say. With `trusted` a server's word counts that it
    /// validated them (the AD bit).
    pub(super) async fn plain(
        &self,
        name: &Name,
        kind: RecordType,
        trusted: bool,
        lane: Lane,
    ) -> Result<Found, DnsError> {
        let (mut name, mut secure, mut ttl) = (name.clone(), trusted, Duration::MAX);
        for _ in 0..MAX_ALIASES {
            let kept = match self.answer(&name, kind, lane).await {
                Ok(kept) => kept,
                Err(silence) => return Err(self.meaning(silence, &name, kind, trusted, lane).await),
            };
            secure &= kept.message.metadata.authentic_data;
            ttl = ttl.min(kept.left());
            match end_of_chain(&kept.message, &name, kind) {
                End::Records(records) => return Ok(Found { records, exists: true, secure, ttl }),
                End::Nothing { exists } => return Ok(Found { records: Vec::new(), exists, secure, ttl }),
                End::Elsewhere(next) => name = next,
            }
        }
        Err(DnsError::Temporary("a chain of CNAMEs is too long".into()))
    }

    /// A validating server keeps a forged answer to itself, but hands it out to whoever validates.
    async fn meaning(&self, silence: Silence, name: &Name, kind: RecordType, trusted: bool, lane: Lane) -> DnsError {
        let refused = matches!(silence, Silence::Code(ResponseCode::ServFail));
        if trusted && refused && self.answers_unchecked(name, kind, lane).await {
            return DnsError::Bogus(format!("the local name server does not vouch for {name} {kind}"));
        }
        DnsError::Temporary(silence.to_string())
    }
}

pub(super) fn key(name: &Name, kind: RecordType) -> Key {
    (LowerName::new(name), kind)
}

impl Kept {
    fn new(message: Message, octets: usize) -> Self {
        let ttl = lifetime(&message);
        Self { message, at: Instant::now(), ttl, octets: u32::try_from(octets).unwrap_or(u32::MAX) }
    }

    /// How long it still counts.
    pub(super) fn left(&self) -> Duration {
        self.ttl.saturating_sub(self.at.elapsed())
    }
}

/// RFC 2181 §5.2, RFC 2308 §5.
fn lifetime(message: &Message) -> Duration {
    let least = message.answers.iter().map(|record| record.ttl).min();
    let positive = least.map(|seconds| Duration::from_secs(seconds.into()).min(LONGEST.0));
    let denies = message.authorities.iter().any(|record| record.record_type() == RecordType::SOA);
    match positive {
        Some(positive) if !denies => positive,
        Some(positive) => positive.min(absence(&message.authorities)),
        None => absence(&message.authorities),
    }
}

/// How long the absence of records may be believed; not at all where nobody says.
pub(super) fn absence(authorities: &[Record]) -> Duration {
    let seconds = authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    Duration::from_secs(seconds.unwrap_or(0).into()).min(LONGEST.1)
}

/// Answers leave at the end of their time.
struct Lifetime;

impl Expiry<Key, Arc<Kept>> for Lifetime {
    fn expire_after_create(&self, _: &Key, kept: &Arc<Kept>, _: Instant) -> Option<Duration> {
        Some(kept.ttl)
    }
}

/// What a chain of CNAMEs within one answer ends with.
enum End {
    Records(Vec<RData>),
    Nothing {
        exists: bool,
    },
    /// At a name that the answer says nothing about.
    Elsewhere(Name),
}

fn end_of_chain(message: &Message, name: &Name, kind: RecordType) -> End {
    let mut current = name.clone();
    for _ in 0..MAX_ALIASES {
        let records: Vec<RData> = of(&message.answers, &current, kind).map(|record| record.data.clone()).collect();
        if !records.is_empty() {
            return End::Records(records);
        }
        match alias(&message.answers, &current) {
            Some(next) => current = next,
            None => break,
        }
    }
    let exists = message.metadata.response_code != ResponseCode::NXDomain;
    let said = !exists || message.authorities.iter().any(|record| record.record_type() == RecordType::SOA);
    if said || current == *name { End::Nothing { exists } } else { End::Elsewhere(current) }
}

/// The records of this name and type.
pub(super) fn of<'a>(records: &'a [Record], name: &'a Name, kind: RecordType) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(move |record| record.record_type() == kind && record.name == *name)
}
