//! Who fails again and again is left alone for a while (TBR §5.5): pairs of signing domain and host, and networks in which host
//! after host fails.
//!
//! A signed reference costs its author little, a connection that comes to nothing costs a receiver more; and where a name leads
//! to somebody else's address, it costs that one. What fails for other reasons, such as a host that is down, has its own back-off
//! with the queue.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mail::Domain;
use moka::sync::Cache;
use policy::budget::Prefix;
use tokio::time::Instant;

/// Failures in a row that suspend.
const PATIENCE: u32 = 8;
/// The first suspension; each further one is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(60);
/// Well below the time for which a claim waits for its answer: a repository that works again is to hear of it before.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Pairs, networks and hosts that are remembered; what was used longest ago gives way.
const REMEMBERED: u64 = 10_000;
/// How long something is remembered that nothing is heard of.
const MEMORY: Duration = Duration::from_secs(2 * 3600);
/// How long a host that has worked is known for it in its network.
const GOOD_NAME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Remembers failures.
pub(super) struct Suspensions {
    pairs: Watch<(Domain, Domain)>,
    /// Failures of different hosts: one that is down says nothing about its neighbours.
    networks: Watch<Prefix>,
    /// Hosts that stand for one failure of their network already.
    counted: Cache<(Prefix, Domain), ()>,
    /// Hosts that have worked, each where it has: nobody can have them left alone by letting other names lead to where they
    /// are, and a name that once served a message is nobody's elsewhere.
    good: Cache<(Prefix, Domain), ()>,
}

impl Suspensions {
    pub(super) fn new() -> Self {
        Self {
            pairs: Watch::new(),
            networks: Watch::new(),
            counted: Cache::builder().max_capacity(REMEMBERED).time_to_live(MEMORY).build(),
            good: Cache::builder().max_capacity(REMEMBERED).time_to_idle(GOOD_NAME).build(),
        }
    }

    /// How long this pair is still left alone.
    pub(super) fn left(&self, d: &Domain, host: &Domain, now: Instant) -> Option<Duration> {
        self.pairs.left(&(d.clone(), host.clone()), now)
    }

    /// TLS failed, or the repository said 403 or 404.
    pub(super) fn failed(&self, d: &Domain, host: &Domain, now: Instant) {
        if let Some(pause) = self.pairs.failed((d.clone(), host.clone()), now) {
            tracing::info!(domain = %d, %host, ?pause, "requests to a repository are suspended");
        }
    }

    /// How long this network is still left alone by whoever wants this host.
    pub(super) fn network_left(&self, network: Prefix, host: &Domain, now: Instant) -> Option<Duration> {
        self.networks.left(&network, now).filter(|_| !self.good.contains_key(&(network, host.clone())))
    }

    /// A connection there came to nothing, or the host turned a request away.
    pub(super) fn network_failed(&self, network: Prefix, host: &Domain, now: Instant) {
        let entry = self.counted.entry((network, host.clone())).or_insert(());
        if entry.is_fresh()
            && let Some(pause) = self.networks.failed(network, now)
        {
            tracing::info!(%network, ?pause, "repositories in a network are suspended, but those that have worked");
        }
    }

    /// It works.
    pub(super) fn worked(&self, d: &Domain, host: &Domain, network: Option<Prefix>) {
        self.pairs.worked(&(d.clone(), host.clone()));
        if let Some(network) = network {
            self.good.insert((network, host.clone()), ());
            self.networks.worked(&network);
        }
    }
}

/// Why nobody asks.
pub(super) fn left_alone(d: &Domain, host: &Domain) -> String {
    format!("{host} has failed for {d} again and again, and is left alone for a while")
}

/// Counts failures in a row, and says when they are too many.
struct Watch<K> {
    seen: Cache<K, Seen>,
    /// One failure is counted after the other.
    counting: Mutex<()>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    failures: u32,
    until: Option<Instant>,
}

impl<K: Hash + Eq + Send + Sync + 'static> Watch<K> {
    fn new() -> Self {
        let seen = Cache::builder().max_capacity(REMEMBERED).time_to_idle(MEMORY).build();
        Self { seen, counting: Mutex::new(()) }
    }

    fn left(&self, key: &K, now: Instant) -> Option<Duration> {
        let left = self.seen.get(key)?.until?.checked_duration_since(now)?;
        (!left.is_zero()).then_some(left)
    }

    /// The pause that begins, if one does.
    fn failed(&self, key: K, now: Instant) -> Option<Duration> {
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = self.seen.get(&key).unwrap_or_default().failures.saturating_add(1);
        let more = failures.checked_sub(PATIENCE);
        let pause = more.map(|more| FIRST.saturating_mul(1 << more.min(10)).min(LONGEST));
        self.seen.insert(key, Seen { failures, until: pause.map(|pause| now + pause) });
        pause
    }

    fn worked(&self, key: &K) {
        if self.seen.contains_key(key) {
            self.seen.invalidate(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[test]
    fn a_pair_that_fails_again_and_again_is_left_alone_for_longer_and_longer() {
        let (suspensions, now) = (Suspensions::new(), Instant::now());
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
        suspensions.worked(&d, &host, None);
        assert_eq!(suspensions.left(&d, &host, now), None);
        suspensions.failed(&d, &host, now);
        assert_eq!(suspensions.left(&d, &host, now), None, "it begins anew");
    }

    #[test]
    fn a_network_in_which_host_after_host_fails_is_left_alone_but_not_by_those_whose_host_has_worked() {
        let (suspensions, now) = (Suspensions::new(), Instant::now());
        let network = |text: &str| Prefix::of(text.parse().unwrap());
        let (there, elsewhere) = (network("9.9.9.9"), network("9.9.8.9"));
        let (good, newcomer) = (domain("tbr.good.example"), domain("tbr.new.example"));
        suspensions.worked(&domain("good.example"), &good, Some(there));
        for _ in 0..100 {
            suspensions.network_failed(there, &domain("tbr.down.example"), now);
        }
        assert_eq!(suspensions.network_left(there, &newcomer, now), None, "one host that is down is one failure");
        for number in 1..PATIENCE {
            assert_eq!(suspensions.network_left(there, &newcomer, now), None);
            suspensions.network_failed(there, &domain(&format!("tbr.bot{number}.example")), now);
        }
        assert_eq!(suspensions.network_left(there, &newcomer, now), Some(FIRST));
        assert_eq!(suspensions.network_left(there, &good, now), None, "it has worked");
        assert_eq!(suspensions.network_left(elsewhere, &newcomer, now), None, "only this network");
        suspensions.worked(&domain("good.example"), &good, Some(there));
        assert_eq!(suspensions.network_left(there, &newcomer, now), None, "somebody there works");
    }

    #[test]
    fn names_that_have_worked_elsewhere_and_now_lead_to_a_victim_are_left_alone_there() {
        let (suspensions, now) = (Suspensions::new(), Instant::now());
        let network = |text: &str| Prefix::of(text.parse().unwrap());
        let (home, victim) = (network("9.9.9.9"), network("9.9.8.9"));
        let bot = |number: u32| domain(&format!("tbr.bot{number}.example"));
        (0..100).for_each(|number| suspensions.worked(&domain("bot.example"), &bot(number), Some(home)));
        let connected = (0..100).filter(|number| {
            let is_asked = suspensions.network_left(victim, &bot(*number), now).is_none();
            suspensions.network_failed(victim, &bot(*number), now);
            is_asked
        });
        assert_eq!(connected.count(), PATIENCE as usize);
        assert_eq!(suspensions.network_left(home, &bot(0), now), None);
    }
}
