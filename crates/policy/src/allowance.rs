//! What an account may send: messages and recipients by the hour and by the day, so that a stolen password is worth little.
//!
//! Pure: counts and the time in, a yes or the reason out. Whose counts they are and how they are kept is left to `restante`.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use mail::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rate::Rate;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The limits of one account. `None`: there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Messages within an hour.
    pub messages_per_hour: Option<NonZeroU32>,
    /// Messages within a day.
    pub messages_per_day: Option<NonZeroU32>,
    /// Recipients within an hour, each counted once a message, before aliases.
    pub recipients_per_hour: Option<NonZeroU32>,
    /// Recipients within a day.
    pub recipients_per_day: Option<NonZeroU32>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Messages.
    Message,
    /// Recipients.
    Recipient,
}

/// Over which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Period {
    fn window(self) -> Duration {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }
}

/// What an account has sent lately. Messages under way count from their MAIL on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    messages_hour: Rate,
    messages_day: Rate,
    recipients_hour: Rate,
    recipients_day: Rate,
}

/// The limit that an account has reached. Displays as one plain sentence for its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Of what.
    pub unit: Unit,
    /// Over which time.
    pub period: Period,
    /// The limit.
    pub limit: u32,
    /// After which there is room for one more.
    pub wait: Duration,
}

/// Figures for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Messages within the last hour.
    pub messages_hour: u64,
    /// Messages within the last day.
    pub messages_day: u64,
    /// Recipients within the last hour.
    pub recipients_hour: u64,
    /// Recipients within the last day.
    pub recipients_day: u64,
}

impl Allowance {
    fn limit(&self, unit: Unit, period: Period) -> Option<u32> {
        let limit = match (unit, period) {
            (Unit::Message, Period::Hour) => self.messages_per_hour,
            (Unit::Message, Period::Day) => self.messages_per_day,
            (Unit::Recipient, Period::Hour) => self.recipients_per_hour,
            (Unit::Recipient, Period::Day) => self.recipients_per_day,
        };
        limit.map(NonZeroU32::get)
    }
}

impl Sent {
    /// Counts one more, if the allowance has room for it.
    ///
    /// # Errors
    /// The limit that is reached; nothing is counted then.
    pub fn take(&mut self, unit: Unit, allowance: &Allowance, at: Timestamp) -> Result<(), Spent> {
        // The longer wait is the one that helps.
        for period in [Period::Day, Period::Hour] {
            let Some(limit) = allowance.limit(unit, period) else { continue };
            if let Some(wait) = self.rate(unit, period).wait(1, limit.into(), at, period.window()) {
                return Err(Spent { unit, period, limit, wait });
            }
        }
        for period in [Period::Day, Period::Hour] {
            self.rate(unit, period).add(1, at, period.window());
        }
        Ok(())
    }

    /// So many of those counted were not sent after all.
    pub fn give_back(&mut self, unit: Unit, often: u64, at: Timestamp) {
        for period in [Period::Day, Period::Hour] {
            self.rate(unit, period).take_back(often, at, period.window());
        }
    }

    /// What it comes to now.
    pub fn figures(&self, at: Timestamp) -> Figures {
        Figures {
            messages_hour: self.messages_hour.count(at, HOUR),
            messages_day: self.messages_day.count(at, DAY),
            recipients_hour: self.recipients_hour.count(at, HOUR),
            recipients_day: self.recipients_day.count(at, DAY),
        }
    }

    /// Is nothing left to remember?
    pub fn is_idle(&self, at: Timestamp) -> bool {
        self.messages_day.is_idle(at, DAY) && self.recipients_day.is_idle(at, DAY)
    }

    fn rate(&mut self, unit: Unit, period: Period) -> &mut Rate {
        match (unit, period) {
            (Unit::Message, Period::Hour) => &mut self.messages_hour,
            (Unit::Message, Period::Day) => &mut self.messages_day,
            (Unit::Recipient, Period::Hour) => &mut self.recipients_hour,
            (Unit::Recipient, Period::Day) => &mut self.recipients_day,
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Message => "messages",
            Unit::Recipient => "recipients",
        };
        let period = match self.period {
            Period::Hour => "an hour",
            Period::Day => "a day",
        };
        let minutes = self.wait.as_secs().div_ceil(60).max(1);
        write!(f, "this account may send {} {unit} within {period}, and has; there is room again in ", self.limit)?;
        match minutes {
            0..=119 => write!(f, "{minutes} min"),
            _ => write!(f, "{} h", minutes.div_ceil(60)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    fn limits(hour: u32, day: u32) -> Allowance {
        let (hour, day) = (NonZeroU32::new(hour), NonZeroU32::new(day));
        Allowance { messages_per_hour: hour, messages_per_day: day, ..Allowance::default() }
    }

    #[test]
    fn a_stolen_password_cannot_send_a_million() {
        let (mut sent, allowance) = (Sent::default(), limits(200, 1000));
        // A message every second, for two days.
        let passed = (0..2 * 86_400).filter(|s| sent.take(Unit::Message, &allowance, at(*s)).is_ok()).count();
        assert!((1000..=3000).contains(&passed), "{passed}");
    }

    #[test]
    fn the_limit_that_is_reached_is_named_with_the_time_to_wait() {
        let (mut sent, allowance) = (Sent::default(), limits(2, 3));
        for _ in 0..2 {
            sent.take(Unit::Message, &allowance, at(0)).unwrap();
        }
        let spent = sent.take(Unit::Message, &allowance, at(0)).unwrap_err();
        assert_eq!((spent.unit, spent.period, spent.limit), (Unit::Message, Period::Hour, 2));
        assert_eq!(
            spent.to_string(),
            "this account may send 2 messages within an hour, and has; there is room again in 90 min"
        );
        sent.take(Unit::Message, &allowance, at(5_400)).unwrap();
        let spent = sent.take(Unit::Message, &allowance, at(7_200)).unwrap_err();
        assert_eq!(spent.period, Period::Day);
        assert!(spent.to_string().ends_with(" h"), "{spent}");
        assert_eq!(sent.take(Unit::Recipient, &allowance, at(0)), Ok(()), "no limit is none");
    }

    #[test]
    fn what_was_refused_is_not_counted_and_what_was_not_sent_is_given_back() {
        let (mut sent, allowance) = (Sent::default(), limits(1, 10));
        sent.take(Unit::Message, &allowance, at(0)).unwrap();
        for _ in 0..5 {
            sent.take(Unit::Message, &allowance, at(0)).unwrap_err();
        }
        let figures = Figures { messages_hour: 1, messages_day: 1, ..Figures::default() };
        assert_eq!(sent.figures(at(0)), figures);
        sent.give_back(Unit::Message, 1, at(1));
        sent.take(Unit::Message, &allowance, at(1)).unwrap();
        assert!(!sent.is_idle(at(1)) && sent.is_idle(at(2 * 86_400)));
    }
}
