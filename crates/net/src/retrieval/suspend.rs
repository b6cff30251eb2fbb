//! Pairs of signing domain and host that fail again and again: left alone for a while (TBR §5.5).
//!
//! A signed reference costs its author little, a connection that comes to nothing costs a receiver more. What fails for
//! other reasons, such as a host that is down, has its own back-off with the queue.

use std::sync::Mutex;
use std::time::Duration;

use mail::Domain;
use moka::sync::Cache;
use tokio::time::Instant;

/// Failures in a row that suspend a pair.
const PATIENCE: u32 = 8;
/// The first suspension; each further one is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);
/// Pairs that are remembered; the one that was used longest ago gives way.
const PAIRS: u64 = 10_000;
/// How long a pair is remembered that nothing is heard of.
const MEMORY: Duration = Duration::from_secs(2 * 3600);

/// Remembers failures.
pub(super) struct Suspensions {
    pairs: Cache<(Domain, Domain), u32>,
    until: Cache<(Domain, Domain), Instant>,
    /// One failure is counted after the other.
    counting: Mutex<()>,
}

impl Suspensions {
    pub(super) fn new() -> Self {
        let cache = || Cache::builder().max_capacity(PAIRS).time_to_idle(MEMORY);
        Self {
            pairs: cache().build(),
            until: Cache::builder().max_capacity(PAIRS).time_to_idle(MEMORY).build(),
            counting: Mutex::new(()),
        }
    }

    /// How long this pair is still left alone.
    pub(super) fn left(&self, d: &Domain, host: &Domain, now: Instant) -> Option<Duration> {
        let until = self.until.get(&(d.clone(), host.clone()))?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// TLS failed, or the repository said 403 or 404.
    pub(super) fn failed(&self, d: &Domain, host: &Domain, now: Instant) {
        let key = (d.clone(), host.clone());
        let _counting = self.counting.lock();
        let failures = self.pairs.get(&key).unwrap_or(0).saturating_add(1);
        self.pairs.insert(key.clone(), failures);
        if let Some(more) = failures.checked_sub(PATIENCE) {
            let pause = FIRST.saturating_mul(1 << more.min(10)).min(LONGEST);
            tracing::info!(domain = %d, %host, ?pause, "retrievals are suspended");
            self.until.insert(key, now + pause);
        }
    }

    /// It works.
    pub(super) fn worked(&self, d: &Domain, host: &Domain) {
        let key = (d.clone(), host.clone());
        if self.pairs.contains_key(&key) {
            self.pairs.invalidate(&key);
            self.until.invalidate(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_fails_again_and_again_is_left_alone_for_longer_and_longer() {
        let (suspensions, now) = (Suspensions::new(), Instant::now());
        let domain = |text: &str| Domain::parse(text).unwrap();
        let (d, host) = (domain("a.example"), domain("tbr.a.example"));
        for _ in 1..PATIENCE {
            suspensions.failed(&d, &host, now);
            assert_eq!(suspensions.left(&d, &host, now), None);
        }
        suspensions.failed(&d, &host, now);
        assert_eq!(suspensions.left(&d, &host, now), Some(FIRST));
        assert_eq!(suspensions.left(&d, &domain("other.example"), now), None, "only this pair");
        assert_eq!(suspensions.left(&domain("b.example"), &host, now), None, "only this pair");
        assert_eq!(suspensions.left(&d, &host, now + FIRST), None);
        suspensions.failed(&d, &host, now + FIRST);
        assert_eq!(suspensions.left(&d, &host, now + FIRST), Some(2 * FIRST));
        for _ in 0..100 {
            suspensions.failed(&d, &host, now);
        }
        assert_eq!(suspensions.left(&d, &host, now), Some(LONGEST));
        suspensions.worked(&d, &host);
        assert_eq!(suspensions.left(&d, &host, now), None);
        suspensions.failed(&d, &host, now);
        assert_eq!(suspensions.left(&d, &host, now), None, "it begins anew");
    }
}
