//! How often something has happened lately: a sliding window in two numbers.
//!
//! The count of the window before fades out while the current one fills, so nothing is ever forgotten all at once and
//! nobody gains by waiting for the turn of an hour. Whose rate it is, and how much is too much, is left to others.

use std::time::Duration;

use mail::Timestamp;
use serde::{Deserialize, Serialize};

/// A count over a sliding window. The window's length is the caller's, and always the same for one rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// When the current window began.
    begun: Timestamp,
    before: u64,
    current: u64,
}

impl Rate {
    /// How often within `window` before `at`, rounded up. Exact while all of it lies in one window, else as if what
    /// happened in the one before had been spread evenly.
    pub fn count(&self, at: Timestamp, window: Duration) -> u64 {
        let rolled = self.rolled(at, window);
        rolled.current.saturating_add(faded(rolled.before, at.since(rolled.begun), window))
    }

    /// It has happened so often more.
    pub fn add(&mut self, often: u64, at: Timestamp, window: Duration) {
        *self = self.rolled(at, window);
        self.current = self.current.saturating_add(often);
    }

    /// So many of those that were added have not happened after all.
    pub fn take_back(&mut self, often: u64, at: Timestamp, window: Duration) {
        *self = self.rolled(at, window);
        let of_before = often.saturating_sub(self.current);
        self.current = self.current.saturating_sub(often);
        self.before = self.before.saturating_sub(of_before);
    }

    /// How long until `often` more fit below `limit`; nothing if they do now. `often` over `limit` never fit: then it
    /// is the time until nothing is left.
    pub fn wait(&self, often: u64, limit: u64, at: Timestamp, window: Duration) -> Option<Duration> {
        let rolled = self.rolled(at, window);
        if rolled.count(at, window).saturating_add(often) <= limit {
            return None;
        }
        let elapsed = at.since(rolled.begun);
        let wait = match limit.checked_sub(often.saturating_add(rolled.current)) {
            Some(room) => until_faded_to(rolled.before, room, window).saturating_sub(elapsed),
            None => {
                let next = until_faded_to(rolled.current, limit.saturating_sub(often), window);
                window.saturating_sub(elapsed) + next
            }
        };
        Some(wait)
    }

    /// Has nothing happened for so long that this says the same as a new one?
    pub fn is_idle(&self, at: Timestamp, window: Duration) -> bool {
        let rolled = self.rolled(at, window);
        rolled.before == 0 && rolled.current == 0
    }

    /// With the window that `at` lies in as the current one. A clock that was set back leaves everything as it is.
    fn rolled(self, at: Timestamp, window: Duration) -> Self {
        match at.since(self.begun) {
            since if since < window => self,
            since if since < window * 2 => Self { begun: self.begun.after(window), before: self.current, current: 0 },
            _ => Self { begun: at, before: 0, current: 0 },
        }
    }
}

/// What is left of a count after this much of the next window, rounded up.
fn faded(count: u64, elapsed: Duration, window: Duration) -> u64 {
    let left = window.saturating_sub(elapsed).as_millis();
    let faded = (u128::from(count) * left).div_ceil(window.as_millis().max(1));
    u64::try_from(faded).unwrap_or(u64::MAX)
}

/// After how much of the next window no more than `room` is left of a count.
fn until_faded_to(count: u64, room: u64, window: Duration) -> Duration {
    let excess = u128::from(count.saturating_sub(room));
    let millis = (window.as_millis() * excess).div_ceil(u128::from(count.max(1)));
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn what_happened_fades_out_over_the_next_window() {
        let mut rate = Rate::default();
        rate.add(100, at(0), HOUR);
        assert_eq!([0, 3_599].map(|s| rate.count(at(s), HOUR)), [100, 100]);
        assert_eq!([3_600, 5_400, 7_199, 7_200].map(|s| rate.count(at(s), HOUR)), [100, 50, 1, 0]);
        rate.add(10, at(5_400), HOUR);
        assert_eq!(rate.count(at(5_400), HOUR), 60);
        assert!(!rate.is_idle(at(10_000), HOUR) && rate.is_idle(at(20_000), HOUR));
    }

    #[test]
    fn what_did_not_happen_is_taken_back() {
        let mut rate = Rate::default();
        rate.add(3, at(0), HOUR);
        rate.take_back(1, at(10), HOUR);
        assert_eq!(rate.count(at(10), HOUR), 2);
        rate.take_back(9, at(10), HOUR);
        assert_eq!(rate.count(at(10), HOUR), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_forgives_nothing() {
        let mut rate = Rate::default();
        rate.add(5, at(9_000), HOUR);
        assert_eq!(rate.count(at(0), HOUR), 5);
        rate.add(5, at(0), HOUR);
        assert_eq!(rate.count(at(9_000), HOUR), 10);
    }

    proptest! {
        /// Whoever keeps to the limit by this count never has more than twice the limit within any window; whoever
        /// waits as long as is said is let in, and not a second earlier than needed.
        #[test]
        fn the_wait_is_long_enough_and_no_longer(
            steps in prop::collection::vec((0_u64..5_000, 1_u64..20), 1..40),
            often in 1_u64..30,
        ) {
            let (mut rate, mut now, limit) = (Rate::default(), 0, 40);
            for (pause, count) in steps {
                now += pause;
                if rate.wait(count, limit, at(now), HOUR).is_none() {
                    rate.add(count, at(now), HOUR);
                    prop_assert!(rate.count(at(now), HOUR) <= limit);
                }
            }
            if let Some(wait) = rate.wait(often, limit, at(now), HOUR) {
                prop_assert!(wait <= HOUR * 2);
                prop_assert_eq!(rate.wait(often, limit, at(now).after(wait), HOUR), None);
                let early = wait.saturating_sub(Duration::from_secs(1));
                prop_assert!(early.is_zero() || rate.wait(often, limit, at(now).after(early), HOUR).is_some());
            }
        }
    }
}
