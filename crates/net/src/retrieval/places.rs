//! How many retrievals run at a time: for each registrable domain, for each network that they go to, and in all. Uploads are
//! counted likewise, without the networks: custodians are chosen by an operator.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mail::Domain;
use policy::budget::Prefix;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Hands out places, first come, first served. Whoever waits has the places that come before in [`Place`] and none of those
/// that come after: one busy domain, or one slow network, keeps no place from the others.
pub(super) struct Places {
    domains: Shares<String>,
    networks: Shares<Prefix>,
    all: Arc<Semaphore>,
}

/// One of its domain's places; given back on drop.
pub(super) struct Turn {
    permit: OwnedSemaphorePermit,
    each: usize,
}

impl Turn {
    /// How many the domain has taken now, this one included: they share a link.
    pub(super) fn at_once(&self) -> usize {
        self.each.saturating_sub(self.permit.semaphore().available_permits()).max(1)
    }
}

/// A place of one retrieval; given back on drop.
pub(super) struct Place {
    _network: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(all: usize, per_domain: usize, per_network: usize) -> Self {
        Self {
            domains: Shares::new(per_domain),
            networks: Shares::new(per_network),
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Waits for one of the domain's: to be had before [`Self::take`].
    pub(super) async fn turn(&self, domain: &Domain) -> Result<Turn, AcquireError> {
        let permit = self.domains.of(domain.registrable()).acquire_owned().await?;
        Ok(Turn { permit, each: self.domains.each })
    }

    /// Waits for one in a network, and one of all.
    pub(super) async fn take(&self, network: Option<Prefix>) -> Result<Place, AcquireError> {
        let network = match network {
            Some(network) => Some(self.networks.of(&network).acquire_owned().await?),
            None => None,
        };
        let all = Arc::clone(&self.all).acquire_owned().await?;
        Ok(Place { _network: network, _all: all })
    }
}

/// So many places for each.
struct Shares<K> {
    each: usize,
    holders: Mutex<HashMap<K, Weak<Semaphore>>>,
}

impl<K: Hash + Eq> Shares<K> {
    fn new(each: usize) -> Self {
        Self { each: each.min(Semaphore::MAX_PERMITS), holders: Mutex::default() }
    }

    fn of<Q>(&self, holder: &Q) -> Arc<Semaphore>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = holders.get(holder).and_then(Weak::upgrade) {
            return found;
        }
        holders.retain(|_, semaphore| semaphore.strong_count() > 0);
        let fresh = Arc::new(Semaphore::new(self.each));
        holders.insert(holder.to_owned(), Arc::downgrade(&fresh));
        fresh
    }
}
