//! The hint of TBR §3.8: a stranger by value is asked once to send a reference, or to come again after [`DELAY`].
//!
//! Pure: who has been asked when, and the time. Nobody loses mail by it: whoever comes again after the delay is let in, and
//! where there is no room to remember, nobody is asked. Whether a sender is a stranger, and how the pairs are kept, is left to
//! others.

use std::collections::BTreeMap;
use std::time::Duration;

use mail::Timestamp;
use serde::{Deserialize, Serialize};

/// From the hint until mail of the same sender to the same recipient gets its normal treatment.
pub const DELAY: Duration = Duration::from_secs(15 * 60);
/// Whoever has not come again by then is forgotten: longer than any sender waits between two attempts.
const PATIENCE: Duration = Duration::from_secs(2 * 24 * 3600);
/// Whoever has come again is asked no more for so long.
const MEMORY: Duration = Duration::from_secs(36 * 24 * 3600);
/// How often it is looked for those that are over, where there is no room.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Most pairs of sender and recipient that are remembered.
const MAX_PAIRS: usize = 100_000;

/// The pairs of sender and recipient that have been asked, by a short name of each pair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairs {
    seen: BTreeMap<String, Seen>,
    /// When those that are over were last looked for.
    swept: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    first: Timestamp,
    came_again: bool,
}

impl Pairs {
    /// Is the sender of a message, with these pairs, to be asked? All of them count as asked then.
    pub fn ask(&mut self, pairs: &[String], at: Timestamp) -> bool {
        let fits = |seen: &BTreeMap<String, Seen>| seen.len().saturating_add(pairs.len()) <= MAX_PAIRS;
        if !fits(&self.seen) && at.since(self.swept) >= SWEEP_EVERY {
            self.swept = at;
            self.seen.retain(|_, seen| !seen.is_over(at));
        }
        let has_room = fits(&self.seen);
        let mut asks = false;
        for pair in pairs {
            match self.seen.get_mut(pair) {
                Some(seen) if seen.is_over(at) => *seen = Seen { first: at, came_again: false },
                Some(seen) => {
                    seen.came_again |= at.since(seen.first) >= DELAY;
                    if seen.came_again {
                        continue;
                    }
                }
                None if has_room => drop(self.seen.insert(pair.clone(), Seen { first: at, came_again: false })),
                None => continue,
            }
            asks = true;
        }
        asks
    }
}

impl Seen {
    fn is_over(&self, at: Timestamp) -> bool {
        at.since(self.first) >= if self.came_again { MEMORY } else { PATIENCE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + minutes * 60)
    }

    fn pair(name: &str) -> Vec<String> {
        vec![name.to_owned()]
    }

    #[test]
    fn whoever_comes_again_after_the_delay_is_let_in_and_asked_no_more() {
        let mut pairs = Pairs::default();
        assert!(pairs.ask(&pair("a"), at(0)));
        assert!(pairs.ask(&pair("a"), at(14)), "too early: the delay began with the first");
        assert!(!pairs.ask(&pair("a"), at(15)));
        assert!(!pairs.ask(&pair("a"), at(30 * 24 * 60)));
        assert!(pairs.ask(&pair("a"), at(37 * 24 * 60)), "forgotten by then");
    }

    #[test]
    fn another_recipient_is_another_pair() {
        let mut pairs = Pairs::default();
        pairs.ask(&pair("a"), at(0));
        assert!(pairs.ask(&["a".to_owned(), "b".to_owned()], at(20)), "b is new");
        assert!(!pairs.ask(&["a".to_owned(), "b".to_owned()], at(35)));
    }

    #[test]
    fn where_there_is_no_room_nobody_is_asked_and_who_was_asked_is_let_in() {
        let mut pairs = Pairs::default();
        assert!(pairs.ask(&pair("honest"), at(0)));
        for number in 1..MAX_PAIRS {
            pairs.ask(&[format!("flood{number}")], at(1));
        }
        assert!(!pairs.ask(&pair("late"), at(2)));
        assert!(!pairs.ask(&pair("honest"), at(16)));
        assert!(pairs.ask(&pair("later"), at(3 * 24 * 60)), "those who never came again have been forgotten");
        assert!(pairs.seen.len() <= MAX_PAIRS);
    }
}
