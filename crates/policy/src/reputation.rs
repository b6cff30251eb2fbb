//! How welcome the mail of a domain has been here: points for mail that was delivered and kept, against it for mail that was
//! refused or that recipients complained of; both fade, half of them within [`HALF_LIFE`].
//!
//! Pure, and about registrable domains: names below one cost nothing. Points come slowly, so many a day and no more, and
//! from the networks that mail came from so many a day too: whoever buys a hundred domains gains no more with all of them
//! than with one. Who counts, and where it is kept, is left to `restante`.

use std::time::Duration;

use mail::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rate::Rate;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// In which points lose half of their weight.
pub const HALF_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most points that a domain, or all strangers of one network together, are given for kept mail within a day.
pub const POINTS_A_DAY: u64 = 10;
/// From which a domain is known: after three days of welcome mail at the earliest.
pub const KNOWN: f64 = 25.0;
/// From which it is trusted: after ten days at the earliest.
pub const TRUSTED: f64 = 80.0;
/// Below which it is not welcome.
pub const UNWELCOME: f64 = -10.0;

/// How a domain stands here, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Its mail has been refused and complained of.
    Unwelcome,
    /// Nothing is known of it, or too little.
    Stranger,
    /// Its mail has been kept.
    Known,
    /// For long.
    Trusted,
}

impl Standing {
    /// The share of a stranger's limit: a tenth, all of it, ten times, a hundred times as much; never nothing.
    pub fn share(self, limit: u64) -> u64 {
        match self {
            Self::Unwelcome => (limit / 10).max(1),
            Self::Stranger => limit,
            Self::Known => limit.saturating_mul(10),
            Self::Trusted => limit.saturating_mul(100),
        }
    }

    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unwelcome => "unwelcome",
            Self::Stranger => "stranger",
            Self::Known => "known",
            Self::Trusted => "trusted",
        }
    }
}

/// What happened to a domain's mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A message was delivered, and kept as far as anybody can see.
    Kept,
    /// Its reader has put it where unwanted mail goes.
    Junked,
    /// A message was refused after it was looked at.
    Refused,
    /// Something else was served than was signed.
    Forged,
    /// A recipient, or the operator, says that its mail is welcome.
    Praised,
    /// A recipient, or the operator, says that it is not.
    Complained,
}

/// The history of one registrable domain, in a few numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    good: f64,
    bad: f64,
    /// What `good` and `bad` are as of.
    at: Timestamp,
    /// Points for kept mail within a day.
    given: Rate,
}

impl Record {
    /// Notes what happened; says whether that gave a point for kept mail.
    pub fn note(&mut self, event: Event, at: Timestamp) -> bool {
        (self.good, self.bad) = self.faded(at);
        self.at = self.at.max(at);
        match event {
            Event::Kept if self.given.count(at, DAY) >= POINTS_A_DAY => return false,
            Event::Kept => {
                self.given.add(1, at, DAY);
                self.good += 1.0;
                return true;
            }
            Event::Refused => self.bad += 2.0,
            // One of six, and nothing is gained.
            Event::Junked => self.bad += 5.0,
            Event::Forged => self.bad += 5.0,
            // Known for eight days, whatever else happens.
            Event::Praised => self.good += 1.2 * KNOWN,
            Event::Complained => self.bad += 2.0 * KNOWN,
        }
        false
    }

    /// Points for it less points against it.
    pub fn score(&self, at: Timestamp) -> f64 {
        let (good, bad) = self.faded(at);
        good - bad
    }

    /// How it stands.
    pub fn standing(&self, at: Timestamp) -> Standing {
        match self.score(at) {
            score if score >= TRUSTED => Standing::Trusted,
            score if score >= KNOWN => Standing::Known,
            score if score <= UNWELCOME => Standing::Unwelcome,
            _ => Standing::Stranger,
        }
    }

    /// How much would be lost by forgetting it.
    pub fn weight(&self, at: Timestamp) -> f64 {
        let (good, bad) = self.faded(at);
        good + bad
    }

    fn faded(&self, at: Timestamp) -> (f64, f64) {
        let halves = at.since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let left = 0.5_f64.powf(halves);
        (self.good * left, self.bad * left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000).after(DAY * u32::try_from(day).unwrap())
    }

    /// After so many days with a hundred kept messages each.
    fn after(days: u64) -> Record {
        let mut record = Record::default();
        for today in 0..days {
            for _ in 0..100 {
                record.note(Event::Kept, day(today * 2));
            }
        }
        record
    }

    #[test]
    fn a_good_name_takes_days_whatever_the_number_of_messages() {
        let standing = |days| after(days).standing(day((days - 1) * 2));
        assert_eq!([1, 2].map(standing), [Standing::Stranger; 2]);
        assert_eq!([3, 4, 20].map(standing), [Standing::Known, Standing::Known, Standing::Trusted]);
        let burst = after(1);
        assert!(burst.score(day(0)) <= 10.0, "{burst:?}");
    }

    #[test]
    fn a_complaint_weighs_more_than_what_anybody_has_kept_in_a_day() {
        let mut record = after(4);
        record.note(Event::Complained, day(6));
        assert_eq!(record.standing(day(6)), Standing::Unwelcome);
        let mut stranger = Record::default();
        stranger.note(Event::Praised, day(0));
        assert_eq!(
            [0, 7, 9].map(|later| stranger.standing(day(later))),
            [Standing::Known, Standing::Known, Standing::Stranger]
        );
        let mut forger = after(1);
        for _ in 0..4 {
            forger.note(Event::Forged, day(0));
        }
        assert_eq!(forger.standing(day(0)), Standing::Unwelcome);
    }

    #[test]
    fn everything_fades() {
        let mut record = Record::default();
        record.note(Event::Complained, day(0));
        let score = record.score(day(30));
        assert!((score + KNOWN).abs() < 0.001, "{score}");
        assert_eq!(record.standing(day(90)), Standing::Stranger);
        assert!(record.weight(day(3_000)) < 0.001);
    }

    #[test]
    fn a_clock_that_is_set_back_changes_nothing() {
        let mut record = after(4);
        let before = record.score(day(6));
        assert!((record.score(day(0)) - before).abs() < f64::EPSILON);
        record.note(Event::Refused, day(0));
        assert!((record.score(day(6)) - (before - 2.0)).abs() < 0.001);
    }
}
