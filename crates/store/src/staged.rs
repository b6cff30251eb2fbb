//! Objects that are finished and not yet named by a row, and the small ones that were named lately.
//!
//! A small object waits here, in memory, for the transaction that names it, and stays a while afterwards:
//! the delivery that usually follows at once then reads no disk and waits for no transaction. A large object
//! waits here as an open file. What nobody commits within an hour is given up. Removing files is left to the caller.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail::ledger::ObjectKey;
use tokio::sync::OnceCell;

use crate::error::StoreError;

/// After this an object that nobody commits is given up.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often that is looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Content of a finished object.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// All its octets.
    Inline(Bytes),
    /// Its file.
    File(Arc<StagedFile>),
}

/// The file of a finished object, open since it was created, so that no write error can escape the sync.
#[derive(Debug)]
pub(crate) struct StagedFile {
    pub(crate) file: File,
    /// The one result of syncing: a second `fsync` after a failed one may lie.
    pub(crate) synced: OnceCell<Result<(), StoreError>>,
}

/// The register of both kinds.
#[derive(Debug)]
pub(crate) struct Staged {
    limit: u64,
    recent_limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    waiting: HashMap<ObjectKey, (Instant, Content)>,
    octets: u64,
    swept: Instant,
    recent: HashMap<ObjectKey, Bytes>,
    recent_order: VecDeque<ObjectKey>,
    recent_octets: usize,
}

impl Staged {
    /// At most `limit` octets waiting in memory, `recent_limit` kept after they were committed.
    pub(crate) fn new(limit: u64, recent_limit: usize) -> Self {
        let inner = Inner {
            waiting: HashMap::new(),
            octets: 0,
            swept: Instant::now(),
            recent: HashMap::new(),
            recent_order: VecDeque::new(),
            recent_octets: 0,
        };
        Self { limit, recent_limit, inner: Mutex::new(inner) }
    }

    /// Takes a finished object.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] where too many octets wait already.
    pub(crate) fn insert(&self, key: ObjectKey, content: Content) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let octets = content.octets();
        if octets > 0 && inner.octets + octets > self.limit {
            return Err(StoreError::Overloaded);
        }
        inner.octets += octets;
        let replaced = inner.waiting.insert(key, (Instant::now(), content));
        inner.octets -= replaced.map_or(0, |(_, content)| content.octets());
        Ok(())
    }

    /// What waits under this key.
    pub(crate) fn waiting(&self, key: &ObjectKey) -> Option<Content> {
        self.lock().waiting.get(key).map(|(_, content)| content.clone())
    }

    /// What waits or was committed lately.
    pub(crate) fn content(&self, key: &ObjectKey) -> Option<Content> {
        let inner = self.lock();
        let waiting = inner.waiting.get(key).map(|(_, content)| content.clone());
        waiting.or_else(|| inner.recent.get(key).cloned().map(Content::Inline))
    }

    /// Removes what waits: a row names it now, or nobody will.
    pub(crate) fn take(&self, key: &ObjectKey) -> Option<Content> {
        let mut inner = self.lock();
        let (_, content) = inner.waiting.remove(key)?;
        inner.octets -= content.octets();
        Some(content)
    }

    /// Puts back what was taken for a transaction that failed.
    pub(crate) fn restore(&self, key: ObjectKey, content: Content) {
        let mut inner = self.lock();
        inner.octets += content.octets();
        inner.waiting.insert(key, (Instant::now(), content));
    }

    /// Keeps a small object that was just committed.
    pub(crate) fn remember(&self, key: ObjectKey, octets: Bytes) {
        let mut inner = self.lock();
        inner.recent_octets += octets.len();
        if inner.recent.insert(key.clone(), octets).is_none() {
            inner.recent_order.push_back(key);
        }
        while inner.recent_octets > self.recent_limit {
            let Some(oldest) = inner.recent_order.pop_front() else { break };
            inner.forget(&oldest);
        }
    }

    /// The object was removed.
    pub(crate) fn forget(&self, key: &ObjectKey) {
        let mut inner = self.lock();
        inner.forget(key);
        // Removed ones leave gaps in the order: close them before it grows past what it orders.
        if inner.recent_order.len() > 2 * inner.recent.len() + 16 {
            let Inner { recent, recent_order, .. } = &mut *inner;
            recent_order.retain(|key| recent.contains_key(key));
        }
    }

    /// Gives up what has waited too long; answers with those that have files. Cheap to call often.
    pub(crate) fn sweep(&self) -> Vec<ObjectKey> {
        let mut inner = self.lock();
        if inner.swept.elapsed() < SWEEP_EVERY {
            return Vec::new();
        }
        inner.swept = Instant::now();
        let old = inner.waiting.extract_if(|_, (since, _)| since.elapsed() > PATIENCE).collect::<Vec<_>>();
        inner.octets -= old.iter().map(|(_, (_, content))| content.octets()).sum::<u64>();
        let files = old.into_iter().filter(|(_, (_, content))| matches!(content, Content::File(_)));
        files.map(|(key, _)| key).collect()
    }

    /// Objects waiting, and their octets in memory.
    pub(crate) fn size(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.waiting.len(), inner.octets)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, key: &ObjectKey) {
        if let Some(octets) = self.recent.remove(key) {
            self.recent_octets -= octets.len();
        }
    }
}

impl Content {
    fn octets(&self) -> u64 {
        match self {
            Self::Inline(octets) => octets.len() as u64,
            Self::File(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> ObjectKey {
        ObjectKey(format!("i-{n}"))
    }

    fn inline(octets: usize) -> Content {
        Content::Inline(vec![b'x'; octets].into())
    }

    #[test]
    fn what_waits_is_limited() {
        let staged = Staged::new(100, 0);
        staged.insert(key(1), inline(60)).unwrap();
        assert!(matches!(staged.insert(key(2), inline(60)), Err(StoreError::Overloaded)));
        let content = staged.take(&key(1)).unwrap();
        staged.insert(key(2), inline(60)).unwrap();
        staged.restore(key(1), content);
        assert_eq!(staged.size(), (2, 120));
    }

    #[test]
    fn the_oldest_recent_objects_make_room() {
        let staged = Staged::new(0, 100);
        for n in 0..1000 {
            staged.remember(key(n), vec![0; 30].into());
            if n % 2 == 0 {
                staged.forget(&key(n));
            }
        }
        let kept = (0..1000).filter(|n| staged.content(&key(*n)).is_some()).collect::<Vec<_>>();
        assert_eq!(kept, [995, 997, 999]);
        assert!(staged.lock().recent_order.len() < 30);
        assert_eq!(staged.lock().recent_octets, 90);
    }
}
