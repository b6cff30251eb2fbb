//! For whom names are looked up, and how many at a time: look-ups that take long, however many somebody has made, keep no place
//! from others (TBR §11.7).
//!
//! What this server's own ledger wants, and what senders want who are known here, has places of its own; strangers wait behind strangers.
//! Among these one network that clients come from has so many at a time, and one registrable domain that is asked about; who has had
//! slow ones made again and again waits for a while, and is answered only what is known already.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail::Domain;
use policy::budget::Prefix;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Look-ups that run at a time for one network, and about names below one registrable domain.
const RUNNING: usize = 8;
/// The same with those that wait.
const UNDER_WAY: usize = 64;
/// Slow ones within [`WINDOW`] after which there are no more until its end.
const SLOW: u32 = 16;
/// From the first slow one on.
const WINDOW: Duration = Duration::from_secs(600);
/// Networks and domains that are kept before it is looked for those of which there is nothing to say any more.
const SWEEP: usize = 1024;

/// For whom something is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// For this server: the ledger, an operator, or a sender that is known.
    Ours,
    /// For anybody who comes, from this network where there is one.
    Stranger(Option<Prefix>),
}

/// All places.
pub(super) struct Crowd {
    ours: Lane,
    strangers: Lane,
    networks: Holders<Prefix>,
    /// Look-ups that were not slow.
    answered: Arc<AtomicU64>,
    /// From when on one is slow.
    patience: Duration,
}

struct Lane {
    places: Arc<Semaphore>,
    domains: Holders<String>,
}

impl Lane {
    fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))), domains: Holders::default() }
    }
}

impl Crowd {
    pub(super) fn new(places: usize, patience: Duration) -> Self {
        let (networks, answered) = (Holders::default(), Arc::default());
        Self { ours: Lane::new(places), strangers: Lane::new(places), networks, answered, patience }
    }

    /// One more look-up, about a name of this domain; `None` where there are too many.
    pub(super) fn enter(&self, asker: Asker, domain: &Domain) -> Option<Ticket> {
        let (lane, network) = match asker {
            Asker::Ours => (&self.ours, None),
            Asker::Stranger(network) => (&self.strangers, network),
        };
        let counts = asker != Asker::Ours;
        let network = match network {
            Some(network) => Some(self.networks.enter(network)?),
            None => None,
        };
        let domain = lane.domains.enter(domain.registrable().to_owned())?;
        let (places, answered) = (Arc::clone(&lane.places), Arc::clone(&self.answered));
        Some(Ticket { network, domain, places, answered, patience: self.patience, counts })
    }
}

/// A look-up that was let in.
pub(super) struct Ticket {
    network: Option<Holding<Prefix>>,
    domain: Holding<String>,
    places: Arc<Semaphore>,
    answered: Arc<AtomicU64>,
    patience: Duration,
    /// What is slow counts.
    counts: bool,
}

impl Ticket {
    /// Makes it, once there are places. Who waits for a place of all has those of its network and domain.
    pub(super) async fn run<T>(self, look_up: impl Future<Output = T>) -> Option<T> {
        let _of_network = match &self.network {
            Some(network) => Some(network.place().await?),
            None => None,
        };
        let _of_domain = self.domain.place().await?;
        let _of_all = self.places.acquire().await.ok()?;
        let (begun, answered) = (Instant::now(), self.answered.load(Ordering::Relaxed));
        let result = look_up.await;
        if begun.elapsed() < self.patience {
            self.answered.fetch_add(1, Ordering::Relaxed);
        } else if self.counts && self.answered.load(Ordering::Relaxed) > answered {
            // Others were answered meanwhile: it is not our own name servers that are slow.
            self.network.iter().for_each(Holding::was_slow);
            self.domain.was_slow();
        }
        Some(result)
    }
}

/// Who has look-ups under way.
struct Holders<K>(Arc<Mutex<HashMap<K, Holder>>>);

impl<K> Default for Holders<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

struct Holder {
    places: Arc<Semaphore>,
    under_way: usize,
    slow: u32,
    since: Instant,
}

impl Holder {
    fn is_idle(&self, now: Instant) -> bool {
        self.under_way == 0 && (self.slow == 0 || now.duration_since(self.since) >= WINDOW)
    }
}

impl<K: Eq + Hash + Clone> Holders<K> {
    fn enter(&self, key: K) -> Option<Holding<K>> {
        let (now, mut held) = (Instant::now(), lock(&self.0));
        if held.len() >= SWEEP {
            held.retain(|_, holder| !holder.is_idle(now));
        }
        let new = || Holder { places: Arc::new(Semaphore::new(RUNNING)), under_way: 0, slow: 0, since: now };
        let holder = held.entry(key.clone()).or_insert_with(new);
        if now.duration_since(holder.since) >= WINDOW {
            holder.slow = 0;
        }
        if holder.under_way >= UNDER_WAY || holder.slow >= SLOW {
            return None;
        }
        holder.under_way += 1;
        Some(Holding { holders: Arc::clone(&self.0), places: Arc::clone(&holder.places), key })
    }
}

/// One look-up of a holder; over on drop.
struct Holding<K: Eq + Hash> {
    holders: Arc<Mutex<HashMap<K, Holder>>>,
    places: Arc<Semaphore>,
    key: K,
}

impl<K: Eq + Hash> Holding<K> {
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    fn was_slow(&self) {
        if let Some(holder) = lock(&self.holders).get_mut(&self.key) {
            if holder.slow == 0 {
                holder.since = Instant::now();
            }
            holder.slow = holder.slow.saturating_add(1);
        }
    }
}

impl<K: Eq + Hash> Drop for Holding<K> {
    fn drop(&mut self) {
        let mut held = lock(&self.holders);
        let Some(holder) = held.get_mut(&self.key) else { return };
        holder.under_way = holder.under_way.saturating_sub(1);
        if holder.is_idle(Instant::now()) {
            held.remove(&self.key);
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
