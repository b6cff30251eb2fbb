//! Failed logins of one place, all its connections together: whoever guesses passwords from there is told to come back later.
//!
//! A place is an address, of IPv6 a /64, as for connections: behind a larger prefix are people who can do nothing for each other. In
//! memory only; what failed longest ago is forgotten where there are too many places.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use crate::peers::peer_key;

/// For so long failures are counted, from the first one on.
const WINDOW: Duration = Duration::from_secs(3600);
/// Places that are remembered.
const REMEMBERED: u64 = 100_000;

/// Counts failed logins.
pub(super) struct Guesses {
    most: u32,
    failed: Cache<IpAddr, (u32, Instant)>,
    /// One failure is counted after the other.
    counting: Mutex<()>,
}

impl Guesses {
    /// So many within an hour; 0: without end.
    pub(super) fn new(most: u32) -> Self {
        let failed = Cache::builder().max_capacity(REMEMBERED).time_to_idle(WINDOW).build();
        Self { most, failed, counting: Mutex::new(()) }
    }

    /// May nobody log in from there now?
    pub(super) fn are_too_many(&self, address: IpAddr, now: Instant) -> bool {
        let found = self.failed.get(&peer_key(address.to_canonical()));
        self.most > 0 && found.is_some_and(|(count, since)| count >= self.most && now.duration_since(since) < WINDOW)
    }

    /// A login was refused.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let place = peer_key(address.to_canonical());
        let known = self.failed.get(&place).filter(|(_, since)| now.duration_since(*since) < WINDOW);
        let (count, since) = known.unwrap_or((0, now));
        self.failed.insert(place, (count.saturating_add(1), since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_so_many_guesses_an_hour_and_another_its_own() {
        let (guesses, now) = (Guesses::new(3), Instant::now());
        let [here, there] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        for minute in 0..3 {
            assert!(!guesses.are_too_many(here, now));
            guesses.failed(here, now + Duration::from_secs(60 * minute));
        }
        assert!(guesses.are_too_many(here, now) && !guesses.are_too_many(there, now));
        assert!(guesses.are_too_many("::ffff:192.0.2.1".parse().unwrap(), now), "the same address");
        assert!(!guesses.are_too_many(here, now + WINDOW));
        guesses.failed(here, now + WINDOW);
        assert!(!guesses.are_too_many(here, now + WINDOW), "it begins anew");
        let in_64 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        (0..3).for_each(|last| guesses.failed(in_64(last), now));
        assert!(guesses.are_too_many(in_64(9), now) && !guesses.are_too_many("2001:db8:0:2::9".parse().unwrap(), now));
        let free = Guesses::new(0);
        (0..1000).for_each(|_| free.failed(here, now));
        assert!(!free.are_too_many(here, now));
    }
}
