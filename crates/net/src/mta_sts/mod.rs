//! MTA-STS (RFC 8461): finds the policies by which domains demand TLS of their senders, and keeps them.
//!
//! A policy counts from its fetch to the end of its age, whatever DNS says meanwhile: that is what protects those who have
//! sent mail before. It is kept on disk across restarts and fetched anew before it ends. Living up to it is the SMTP
//! client's.

mod shelf;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail::mta_sts::{HOST_LABEL, Policy, RECORD_LABEL, policy_id};
use mail::{Domain, Timestamp};
use moka::future::Cache;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::lookup::Lookup;
use crate::retrieval::{Client, NoAnswer};
use shelf::Shelf;

/// Most policies that are kept; the one that ends first gives way.
const CAPACITY: usize = 8_192;
/// For so long a policy counts without a look at the record that announces it.
const LOOK: Duration = Duration::from_secs(300);
/// For so long a fetch that failed is not repeated (RFC 8461 §3.3 asks for five minutes or more), and for so long one that
/// succeeded serves all who wait for it.
const PAUSE: Duration = Duration::from_secs(300);
/// Most fetches at a time.
const FETCHES: usize = 32;
/// At the latest, a policy in use is fetched anew at this age.
const REFRESH: Duration = Duration::from_secs(24 * 3600);
/// Longest wait for the record's look-up.
const RECORD_TIME: Duration = Duration::from_secs(20);

/// Finds and keeps policies. Clones share one store.
#[derive(Clone)]
pub struct MtaSts {
    shared: Arc<Shared>,
}

struct Shared {
    lookup: Arc<dyn Lookup>,
    client: Client,
    shelf: Option<Shelf>,
    kept: Mutex<HashMap<Domain, Kept>>,
    /// Fetches under way or just done, by domain and id.
    fetched: Cache<(Domain, String), Result<Policy, Unfetched>>,
    permits: Semaphore,
}

/// A policy that counts.
#[derive(Debug, Clone)]
struct Kept {
    entry: Entry,
    /// When its record was last looked at.
    looked: Option<Timestamp>,
    /// Was it asked for since it was fetched?
    used: bool,
    /// When a refresh was last tried.
    tried: Timestamp,
}

/// A policy as it lies on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    domain: Domain,
    /// Of the record that announced it.
    id: String,
    fetched: Timestamp,
    policy: Policy,
}

impl Entry {
    fn ends(&self) -> Timestamp {
        self.fetched.after(self.policy.max_age())
    }
}

/// What is known of a domain's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It has none.
    None,
    /// This one counts.
    Policy(Policy),
    /// It announces one that cannot be had, and none is known from before: as if there were none (RFC 8461 §3.3), but worth
    /// a report.
    Unfetched(Unfetched),
}

/// Why an announced policy cannot be had, each in one plain sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfetched {
    /// Its host cannot be reached, or does not answer with it.
    #[error("{0}")]
    Fetch(String),
    /// Its host shows a certificate that does not count (RFC 8461 §3.3): whoever answers there may be anybody.
    #[error("{0}")]
    Certificate(String),
    /// It was fetched, and is no policy.
    #[error("{0}")]
    Invalid(String),
}

impl From<NoAnswer> for Unfetched {
    fn from(none: NoAnswer) -> Self {
        if none.bad_certificate { Self::Certificate(none.text) } else { Self::Fetch(none.text) }
    }
}

impl fmt::Debug for MtaSts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MtaSts({} policies)", self.shared.lock().len())
    }
}

impl MtaSts {
    /// Asks DNS with `lookup` and fetches policies with `client`, under that client's rules on addresses, time and trust.
    /// Policies are kept in `folder`, and read from there; without one in memory only.
    ///
    /// # Errors
    /// The folder cannot be made or read. A file in it that is not as it should be is passed over.
    pub fn new(lookup: Arc<dyn Lookup>, client: Client, folder: Option<&Path>, now: Timestamp) -> io::Result<Self> {
        let shelf = folder.map(Shelf::open).transpose()?;
        let entries = shelf.as_ref().map(|shelf| shelf.load(CAPACITY)).transpose()?.unwrap_or_default();
        let counts = entries.into_iter().filter(|entry| entry.fetched <= now && now < entry.ends());
        let kept = counts.map(|entry| (entry.domain.clone(), Kept::new(entry, None)));
        let kept = Mutex::new(kept.collect());
        let fetched = Cache::builder().max_capacity(CAPACITY as u64).time_to_live(PAUSE).build();
        let permits = Semaphore::new(FETCHES);
        Ok(Self { shared: Arc::new(Shared { lookup, client, shelf, kept, fetched, permits }) })
    }

    /// The policy for mail to this domain. Takes at most about as long as one exchange of the client.
    pub async fn find(&self, domain: &Domain, now: Timestamp) -> Found {
        let shared = &self.shared;
        let known = shared.known(domain, now);
        if let Some(kept) = known.as_ref().filter(|kept| kept.looked.is_some_and(|at| now < at.after(LOOK))) {
            return Found::Policy(kept.entry.policy.clone());
        }
        let known = known.map(|kept| kept.entry);
        let announced = shared.announced(domain).await;
        match (announced, known) {
            // A record that is gone or cannot be had takes no policy back.
            (None, Some(entry)) => {
                shared.looked(domain, now);
                Found::Policy(entry.policy)
            }
            (None, None) => Found::None,
            (Some(id), Some(entry)) if id == entry.id => {
                shared.looked(domain, now);
                Found::Policy(entry.policy)
            }
            (Some(id), entry) => match (shared.fetch_once(domain, id, now).await, entry) {
                (Ok(policy), _) => Found::Policy(policy),
                (Err(_), Some(entry)) => {
                    shared.looked(domain, now);
                    Found::Policy(entry.policy)
                }
                (Err(why), None) => Found::Unfetched(why),
            },
        }
    }

    /// Fetches policies anew that are in use and getting old, and forgets those that have ended. To be called now and then,
    /// every hour or so.
    pub async fn refresh(&self, now: Timestamp) {
        for ended in self.shared.take_ended(now) {
            if let Some(shelf) = &self.shared.shelf {
                shelf.remove(&ended).await;
            }
        }
        for entry in self.shared.getting_old(now) {
            let id = self.shared.announced(&entry.domain).await.unwrap_or(entry.id);
            if let Err(why) = self.shared.fetch(&entry.domain, id, now).await {
                tracing::warn!(domain = %entry.domain, %why, "the MTA-STS policy cannot be fetched anew; the one before counts on");
            }
        }
    }
}

impl Kept {
    fn new(entry: Entry, looked: Option<Timestamp>) -> Self {
        let tried = entry.fetched;
        Self { entry, looked, used: false, tried }
    }

    fn is_old(&self, now: Timestamp) -> bool {
        let age = REFRESH.min(self.entry.policy.max_age() / 2);
        now.since(self.entry.fetched) >= age && now.since(self.tried) >= PAUSE
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Domain, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What counts now; marks it as used.
    fn known(&self, domain: &Domain, now: Timestamp) -> Option<Kept> {
        let mut kept = self.lock();
        let found = kept.get_mut(domain).filter(|kept| now < kept.entry.ends())?;
        found.used = true;
        Some(found.clone())
    }

    fn looked(&self, domain: &Domain, now: Timestamp) {
        if let Some(kept) = self.lock().get_mut(domain) {
            kept.looked = Some(now);
        }
    }

    /// The id of the record that announces a policy.
    async fn announced(&self, domain: &Domain) -> Option<String> {
        let name = domain.child(RECORD_LABEL).ok()?;
        let answer = tokio::time::timeout(RECORD_TIME, self.lookup.txt(&name)).await.ok()?.ok()?;
        policy_id(answer.records.iter().map(String::as_str)).map(str::to_owned)
    }

    /// Everybody who waits for this policy gets it from one fetch; a failure holds for a while.
    async fn fetch_once(&self, domain: &Domain, id: String, now: Timestamp) -> Result<Policy, Unfetched> {
        let key = (domain.clone(), id.clone());
        self.fetched.get_with(key, self.fetch(domain, id, now)).await
    }

    async fn fetch(&self, domain: &Domain, id: String, now: Timestamp) -> Result<Policy, Unfetched> {
        if let Some(kept) = self.lock().get_mut(domain) {
            kept.tried = now;
        }
        let policy = self.download(domain).await?;
        let entry = Entry { domain: domain.clone(), id, fetched: now, policy: policy.clone() };
        if let Some(shelf) = &self.shelf
            && let Err(error) = shelf.put(entry.clone()).await
        {
            tracing::warn!(%domain, %error, "the MTA-STS policy cannot be kept on disk");
        }
        self.keep(entry, now).await;
        Ok(policy)
    }

    async fn download(&self, domain: &Domain) -> Result<Policy, Unfetched> {
        let host = domain.child(HOST_LABEL).map_err(|error| Unfetched::Fetch(error.to_string()))?;
        let _permit = self.permits.acquire().await.map_err(|error| Unfetched::Fetch(error.to_string()))?;
        let body = self.client.policy(&host).await?;
        Policy::parse(&body).map_err(|error| Unfetched::Invalid(format!("{host}: {error}")))
    }

    async fn keep(&self, entry: Entry, now: Timestamp) {
        let displaced = {
            let mut kept = self.lock();
            let full = kept.len() >= CAPACITY && !kept.contains_key(&entry.domain);
            let first = || kept.values().min_by_key(|kept| kept.entry.ends()).map(|kept| kept.entry.domain.clone());
            let displaced = if full { first() } else { None };
            displaced.iter().for_each(|domain| drop(kept.remove(domain)));
            kept.insert(entry.domain.clone(), Kept::new(entry, Some(now)));
            displaced
        };
        if let (Some(domain), Some(shelf)) = (displaced, &self.shelf) {
            shelf.remove(&domain).await;
        }
    }

    fn take_ended(&self, now: Timestamp) -> Vec<Domain> {
        let mut ended = Vec::new();
        self.lock().retain(|domain, kept| {
            let counts = now < kept.entry.ends();
            if !counts {
                ended.push(domain.clone());
            }
            counts
        });
        ended
    }

    fn getting_old(&self, now: Timestamp) -> Vec<Entry> {
        self.lock().values().filter(|kept| kept.used && kept.is_old(now)).map(|kept| kept.entry.clone()).collect()
    }
}
