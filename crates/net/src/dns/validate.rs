//! Validation by DNSSEC (RFC 4033 to 4035, 5155, 6840): secure, insecure, or bogus.
//!
//! Signatures and denials are checked by hickory's validator, one owner name at a time: a chain of CNAMEs is followed
//! here, each link proven on its own, because an answer that spans zones has the proofs of all of them in one heap. Where a
//! DNAME leads elsewhere that record is proven, and what it says of the name is worked out here (RFC 6672): nobody signs the CNAME
//! that name servers make of it.
//! What that validator lets through is looked at once more ([`judge`]): an answer counts as insecure only where the
//! name's own zone is, whatever else an answer has in it.
//!
//! Failures are never kept. An answer that looks forged is asked for once more, past everything kept, and where a
//! question on the way had no answer at all the outcome is [`DnsError::Temporary`].

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, Stream};
use hickory_resolver::net::NetError;
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer as _};
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Message, Query};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use moka::Expiry;
use moka::future::Cache;
use tokio::time::timeout;

use super::judge::{Proven, Verdict, judge};
use super::servers::{Kept, Key, Lane, Servers, key};
use super::{DnsError, Found, MAX_ALIASES, alias, dname};

/// Outcomes that are kept.
const CAPACITY: u64 = 16_384;
/// How long one look-up may take, with all that it has to ask for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Questions that one look-up may lead to.
const MAX_QUESTIONS: usize = 96;
/// Signatures that are remembered within one look-up.
const SIGNATURES: usize = 256;
/// More iterations of NSEC3 mean insecure (RFC 9276 §3.2).
pub(super) const NSEC3_ITERATIONS: u16 = 150;

/// Validates what name servers answer.
pub(super) struct Validator {
    servers: Arc<Servers>,
    anchors: Arc<TrustAnchors>,
    /// What was found for anybody, and for ourselves: these do not wait for a look-up that strangers wait for.
    found: [Cache<Key, Arc<Outcome>>; 2],
}

/// What was found, and when.
struct Outcome {
    found: Found,
    at: Instant,
}

impl Validator {
    pub(super) fn new(servers: Servers, anchors: TrustAnchors) -> Self {
        let found = [(); 2].map(|()| Cache::builder().max_capacity(CAPACITY).expire_after(Lifetime).build());
        Self { servers: Arc::new(servers), anchors: Arc::new(anchors), found }
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Is one of the root's keys a trust anchor?
    pub(super) fn starts_at_root(&self) -> bool {
        !self.anchors.is_empty()
    }

    pub(super) fn forget_all(&self) {
        self.servers.forget_all();
        self.found.iter().for_each(Cache::invalidate_all);
    }

    /// The records of one type, CNAMEs followed.
    pub(super) async fn find(&self, name: &Name, kind: RecordType, lane: Lane) -> Result<Found, DnsError> {
        let [ours, theirs] = &self.found;
        let (own, other) = if lane == Lane::Ours { (ours, theirs) } else { (theirs, ours) };
        let outcome = match other.get(&key(name, kind)).await {
            Some(known) => known,
            None => self.found_in(own, name, kind, lane).await?,
        };
        let ttl = outcome.found.ttl.saturating_sub(outcome.at.elapsed());
        Ok(Found { ttl, ..outcome.found.clone() })
    }

    async fn found_in(
        &self,
        cache: &Cache<Key, Arc<Outcome>>,
        name: &Name,
        kind: RecordType,
        lane: Lane,
    ) -> Result<Arc<Outcome>, DnsError> {
        let outcome = cache.try_get_with(key(name, kind), async {
            let late = || DnsError::Temporary(format!("looking up {name} {kind} takes too long"));
            let found = timeout(PATIENCE, self.look_up(name, kind, lane)).await.unwrap_or_else(|_| Err(late()))?;
            Ok(Arc::new(Outcome { found, at: Instant::now() }))
        });
        outcome.await.map_err(|error: Arc<DnsError>| DnsError::clone(&error))
    }

    /// What looks forged may only be old: signatures end, keys change.
    async fn look_up(&self, name: &Name, kind: RecordType, lane: Lane) -> Result<Found, DnsError> {
        let started = Instant::now();
        for _ in 0..2 {
            let journal = Journal::new(lane);
            let result = self.chain(name, kind, &journal).await;
            let Err(DnsError::Bogus(why)) = result else { return result };
            let asked = journal.take();
            for (key, _) in &asked.answers {
                self.servers.forget(key).await;
            }
            if let Some(trouble) = asked.trouble {
                return Err(DnsError::Temporary(format!("{why}; {trouble}")));
            }
            if asked.answers.iter().all(|(_, at)| *at >= started) {
                return Err(DnsError::Bogus(why));
            }
        }
        Err(DnsError::Temporary(format!("what is found about {name} {kind} changes while it is looked up")))
    }

    async fn chain(&self, name: &Name, kind: RecordType, journal: &Journal) -> Result<Found, DnsError> {
        let (mut name, mut secure, mut ttl) = (name.clone(), true, Duration::MAX);
        for _ in 0..MAX_ALIASES {
            let kept = self.servers.answer(&name, kind, journal.lane).await;
            let kept = kept.map_err(|silence| DnsError::Temporary(silence.to_string()))?;
            journal.note(key(&name, kind), kept.at);
            if let Some(owner) = dname::above(&kept.message.answers, &name) {
                let link = self.prove(&owner, RecordType::DNAME, journal).await?;
                (secure, ttl) = (secure && link.secure, ttl.min(link.ttl));
                let next = dname::leads_to(&link.records, &owner, &name)
                    .ok_or_else(|| DnsError::Temporary(format!("the DNAME at {owner} leads {name} nowhere")))?;
                if kind == RecordType::CNAME {
                    return Ok(Found { records: vec![RData::CNAME(CNAME(next))], exists: true, secure, ttl });
                }
                name = next;
                continue;
            }
            let is_alias = kind != RecordType::CNAME && alias(&kept.message.answers, &name).is_some();
            let link = self.prove(&name, if is_alias { RecordType::CNAME } else { kind }, journal).await?;
            (secure, ttl) = (secure && link.secure, ttl.min(link.ttl));
            if !is_alias {
                let records = link.records.into_iter().map(|record| record.data).collect();
                return Ok(Found { records, exists: link.exists, secure, ttl });
            }
            let next = alias(&link.records, &name);
            name = next.ok_or_else(|| DnsError::Temporary(format!("the CNAME at {name} is there and is not there")))?;
        }
        Err(DnsError::Temporary("a chain of CNAMEs is too long".into()))
    }

    /// The records at exactly this name, or their absence, proven one way or the other.
    async fn prove(&self, name: &Name, kind: RecordType, journal: &Journal) -> Result<Proven, DnsError> {
        let questions = Questions { servers: Arc::clone(&self.servers), journal: journal.clone() };
        let handle = DnssecDnsHandle::with_trust_anchor(questions, Arc::clone(&self.anchors))
            .validation_cache_size(SIGNATURES)
            .nsec3_iteration_limits(Some(NSEC3_ITERATIONS), None);
        let mut options = DnsRequestOptions::default();
        options.edns_set_dnssec_ok = true;
        let answer = handle.lookup(Query::query(name.clone(), kind), options).first_answer().await;
        match judge(name, kind, answer) {
            Verdict::Proven(proven) => Ok(proven),
            Verdict::Bogus => {
                Err(DnsError::Bogus(format!("no chain of signatures leads from a trust anchor to {name} {kind}")))
            }
            Verdict::Unknown(why) => Err(DnsError::Temporary(why)),
        }
    }
}

/// What one look-up asked for. Clones share it.
#[derive(Clone)]
struct Journal {
    lane: Lane,
    asked: Arc<Mutex<Asked>>,
}

#[derive(Default)]
struct Asked {
    /// Questions that had an answer, and when that came from a server.
    answers: Vec<(Key, Instant)>,
    /// A question that had none.
    trouble: Option<String>,
}

impl Journal {
    fn new(lane: Lane) -> Self {
        Self { lane, asked: Arc::default() }
    }

    fn note(&self, key: Key, at: Instant) {
        self.with(|asked| asked.answers.push((key, at)));
    }

    fn is_full(&self) -> bool {
        self.with(|asked| asked.answers.len() >= MAX_QUESTIONS)
    }

    fn trouble(&self, words: String) -> NetError {
        self.with(|asked| asked.trouble = Some(words.clone()));
        NetError::from(words)
    }

    fn take(&self) -> Asked {
        self.with(std::mem::take)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Asked) -> T) -> T {
        work(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The name servers, as the validator asks them.
#[derive(Clone)]
struct Questions {
    servers: Arc<Servers>,
    journal: Journal,
}

impl DnsHandle for Questions {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let this = self.clone();
        Box::pin(stream::once(async move {
            let Some(query) = request.queries.first() else { return Err(NetError::Message("no question")) };
            if this.journal.is_full() {
                return Err(this.journal.trouble("too many questions".to_owned()));
            }
            let (name, kind) = (query.name(), query.query_type());
            match this.servers.answer(name, kind, this.journal.lane).await {
                Ok(kept) => {
                    this.journal.note(key(name, kind), kept.at);
                    DnsResponse::from_message(relevant(&kept, query)).map_err(NetError::from)
                }
                Err(silence) => Err(this.journal.trouble(silence.to_string())),
            }
        }))
    }
}

/// Of an answer, what is about the question: the records asked for, denials, and signatures of both.
fn relevant(kept: &Kept, query: &Query) -> Message {
    let mut message = kept.message.clone();
    message.queries = vec![query.clone()];
    message.additionals.clear();
    let signs = |record: &Record| record.record_type() == RecordType::RRSIG;
    let asked = |kind: RecordType| kind == query.query_type() || kind == RecordType::CNAME;
    message.answers.retain(|record| record.name == query.name && (signs(record) || asked(record.record_type())));
    message.authorities.retain(|record| {
        let kind = record.record_type();
        signs(record) || matches!(kind, RecordType::SOA | RecordType::NSEC | RecordType::NSEC3)
    });
    let age = u32::try_from(kept.at.elapsed().as_secs()).unwrap_or(u32::MAX);
    for record in message.answers.iter_mut().chain(&mut message.authorities) {
        record.ttl = record.ttl.saturating_sub(age);
        dname::canonical(record);
    }
    message
}

/// Outcomes leave at the end of their time.
struct Lifetime;

impl Expiry<Key, Arc<Outcome>> for Lifetime {
    fn expire_after_create(&self, _: &Key, outcome: &Arc<Outcome>, _: Instant) -> Option<Duration> {
        Some(outcome.found.ttl)
    }
}
