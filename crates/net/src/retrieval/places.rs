//! How many retrievals run at a time: in all, and for each registrable domain.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mail::Domain;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Hands out places, first come, first served.
pub(super) struct Places {
    all: Arc<Semaphore>,
    per_domain: usize,
    domains: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A place of one retrieval; given back on drop.
pub(super) struct Place {
    _domain: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(all: usize, per_domain: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), per_domain, domains: Mutex::default() }
    }

    /// Waits for a place. The domain's comes first, so that one busy domain keeps no place from the others.
    pub(super) async fn take(&self, domain: &Domain) -> Result<Place, AcquireError> {
        let domain = self.domain(domain).acquire_owned().await?;
        let all = Arc::clone(&self.all).acquire_owned().await?;
        Ok(Place { _domain: domain, _all: all })
    }

    fn domain(&self, domain: &Domain) -> Arc<Semaphore> {
        let key = domain.registrable();
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = domains.get(key).and_then(Weak::upgrade) {
            return found;
        }
        domains.retain(|_, semaphore| semaphore.strong_count() > 0);
        let fresh = Arc::new(Semaphore::new(self.per_domain));
        domains.insert(key.to_owned(), Arc::downgrade(&fresh));
        fresh
    }
}
