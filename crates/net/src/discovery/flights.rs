//! Look-ups under way: everybody who asks for the same meanwhile waits for the same answer, and nobody's leaving ends
//! it. What is asked for by strangers is one thing, and what is asked for by others another: these do not wait for places that
//! only strangers want.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use mail::Domain;
use tokio::sync::watch;

use super::crowd::{Asker, Crowd};

/// Waiting look-ups for each running one, at most.
const QUEUE: usize = 32;

/// Look-ups by key.
pub(super) struct Flights<K, T> {
    ours: Receivers<K, T>,
    strangers: Receivers<K, T>,
    crowd: Arc<Crowd>,
    most: usize,
}

type Receivers<K, T> = Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>;

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// In places of this crowd, of which there are so many.
    pub(super) fn new(crowd: &Arc<Crowd>, concurrent: usize) -> Self {
        let most = concurrent.saturating_mul(QUEUE);
        Self { ours: Arc::default(), strangers: Arc::default(), crowd: Arc::clone(crowd), most }
    }

    /// The result of the look-up under way for this key; else this one is started, in a task of its own. `None` where
    /// there are too many. It is about a name of this domain.
    pub(super) async fn join(
        &self,
        asker: Asker,
        domain: &Domain,
        key: &K,
        look_up: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut receiver = self.receiver(asker, domain, key, look_up)?;
        let result = receiver.wait_for(Option::is_some).await.ok()?;
        result.clone()
    }

    fn receiver(
        &self,
        asker: Asker,
        domain: &Domain,
        key: &K,
        look_up: impl Future<Output = T> + Send + 'static,
    ) -> Option<watch::Receiver<Option<T>>> {
        let all = if asker == Asker::Ours { &self.ours } else { &self.strangers };
        let mut under_way = all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = under_way.get(key) {
            return Some(receiver.clone());
        }
        if under_way.len() >= self.most {
            return None;
        }
        let ticket = self.crowd.enter(asker, domain)?;
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.clone(), receiver.clone());
        let landing = Landing { under_way: Arc::clone(all), key: key.clone() };
        tokio::spawn(async move {
            let result = ticket.run(look_up).await;
            drop(landing);
            sender.send_replace(result);
        });
        Some(receiver)
    }
}

/// Takes a look-up out of the list, however it ended.
struct Landing<K: Eq + Hash, T> {
    under_way: Receivers<K, T>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
