//! Look-ups under way: everybody who asks for the same meanwhile waits for the same answer, and nobody's leaving ends
//! it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

/// Waiting look-ups for each running one, at most.
const QUEUE: usize = 32;

/// Look-ups by key.
pub(super) struct Flights<K, T> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>,
    running: Arc<Semaphore>,
    most: usize,
}

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    pub(super) fn new(concurrent: usize) -> Self {
        let (under_way, running) = (Arc::default(), Arc::new(Semaphore::new(concurrent)));
        Self { under_way, running, most: concurrent.saturating_mul(QUEUE) }
    }

    /// The result of the look-up under way for this key; else this one is started, in a task of its own. `None` where
    /// there are too many.
    pub(super) async fn join(&self, key: &K, look_up: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut receiver = self.receiver(key, look_up)?;
        let result = receiver.wait_for(Option::is_some).await.ok()?;
        result.clone()
    }

    fn receiver(
        &self,
        key: &K,
        look_up: impl Future<Output = T> + Send + 'static,
    ) -> Option<watch::Receiver<Option<T>>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = under_way.get(key) {
            return Some(receiver.clone());
        }
        if under_way.len() >= self.most {
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.clone(), receiver.clone());
        let landing = Landing { under_way: Arc::clone(&self.under_way), key: key.clone() };
        let running = Arc::clone(&self.running);
        tokio::spawn(async move {
            let Ok(_place) = running.acquire().await else { return };
            let result = look_up.await;
            drop(landing);
            sender.send_replace(Some(result));
        });
        Some(receiver)
    }
}

/// Takes a look-up out of the list, however it ended.
struct Landing<K: Eq + Hash, T> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
