//! Connections that wait for the next message, and the count of all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::Destination;
use super::link::Link;

/// How often idle connections are looked through.
const LOOK: Duration = Duration::from_millis(500);
/// Longest that a connection is seen off.
const FAREWELL: Duration = Duration::from_secs(10);

pub(super) struct Pool {
    idle: Mutex<HashMap<Destination, Vec<Idle>>>,
    keep: Duration,
    permits: Arc<Semaphore>,
    /// Callers that wait for a permit.
    waiting: AtomicUsize,
}

struct Idle {
    link: Box<Link>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(connections: usize, keep: Duration) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(connections.max(1)));
        let pool = Arc::new(Self { idle: Mutex::default(), keep, permits, waiting: AtomicUsize::new(0) });
        tokio::spawn(close_old(Arc::downgrade(&pool)));
        pool
    }

    /// A living connection to this destination, the one used last.
    pub(super) async fn take(&self, destination: &Destination) -> Option<Box<Link>> {
        loop {
            let mut idle = self.pop(destination)?;
            if idle.since.elapsed() < self.keep && idle.link.is_alive().await {
                return Some(idle.link);
            }
        }
    }

    fn pop(&self, destination: &Destination) -> Option<Idle> {
        let mut all = self.lock();
        let links = all.get_mut(destination)?;
        let last = links.pop();
        if links.is_empty() {
            all.remove(destination);
        }
        last
    }

    /// Keeps a connection that is ready; unless somebody waits for its place.
    pub(super) fn put(&self, destination: Destination, link: Box<Link>) {
        let idle = Idle { link, since: Instant::now() };
        self.lock().entry(destination).or_default().push(idle);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.make_room();
        }
    }

    /// The right to open a connection. Waits for one to close where there are too many; idle ones give way.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        // Counted first: whoever puts a connection back from now on sees us, and what is there already we see.
        let _waiter = Waiter::new(&self.waiting);
        self.make_room();
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Closes the connection that has been idle for longest.
    fn make_room(&self) {
        let mut all = self.lock();
        let oldest = all.iter().min_by_key(|(_, links)| links.first().map(|idle| idle.since));
        let Some(destination) = oldest.map(|(destination, _)| destination.clone()) else { return };
        let Some(links) = all.get_mut(&destination) else { return };
        let idle = links.remove(0);
        if links.is_empty() {
            all.remove(&destination);
        }
        drop(all);
        see_off(idle);
    }

    /// Lets all idle connections go, without a farewell that nobody may hear.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn take_old(&self) -> Vec<Idle> {
        let mut old = Vec::new();
        self.lock().retain(|_, links| {
            let fresh = links.partition_point(|idle| idle.since.elapsed() >= self.keep);
            old.extend(links.drain(..fresh));
            !links.is_empty()
        });
        old
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Destination, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn close_old(pool: Weak<Pool>) {
    loop {
        sleep(LOOK).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.take_old().into_iter().for_each(see_off);
    }
}

fn see_off(idle: Idle) {
    tokio::spawn(tokio::time::timeout(FAREWELL, idle.link.quit()));
}
