//! When something is done without being told to: every so often, and at times of the day.
//!
//! Pure: what time it is, and when it was done last, come in. Times are UTC: a calendar of links has no summer time.

use std::time::Duration;

use mail::Timestamp;

const DAY: u64 = 24 * 3600;

/// Neither field: never.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// This long after the last time.
    pub every: Option<Duration>,
    /// At these minutes of the day, UTC.
    pub times: Vec<TimeOfDay>,
}

/// Minutes since midnight, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Reads `HH:MM`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let number = |text: &str, most: u16| {
            let number: u16 = text.parse().ok().filter(|_| text.len() == 2 && !text.starts_with('+'))?;
            (number < most).then_some(number)
        };
        Some(Self(number(hours, 24)? * 60 + number(minutes, 60)?))
    }

    /// The first such time after this one.
    fn after(self, at: Timestamp) -> Timestamp {
        let midnight = at.as_secs() / DAY * DAY;
        let today = Timestamp::from_secs(midnight + u64::from(self.0) * 60);
        if today > at { today } else { Timestamp::from_secs(today.as_secs() + DAY) }
    }
}

impl Schedule {
    /// The first time after `last`, when it was done last; `None`: only when somebody asks.
    pub fn next(&self, last: Timestamp) -> Option<Timestamp> {
        let times = self.times.iter().map(|time| time.after(last));
        times.chain(self.every.map(|every| last.after(every))).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_the_nearest_of_all() {
        let times = ["06:00", "18:30"].map(|text| TimeOfDay::parse(text).unwrap()).to_vec();
        let at = |hours: u64, minutes: u64| Timestamp::from_secs(DAY * 20_000 + hours * 3600 + minutes * 60);
        let daily = Schedule { every: None, times: times.clone() };
        assert_eq!(daily.next(at(5, 59)), Some(at(6, 0)));
        assert_eq!(daily.next(at(6, 0)), Some(at(18, 30)));
        assert_eq!(daily.next(at(23, 0)), Some(at(24 + 6, 0)));
        let often = Schedule { every: Some(Duration::from_secs(3600)), times };
        assert_eq!((often.next(at(5, 30)), often.next(at(7, 0))), (Some(at(6, 0)), Some(at(8, 0))));
        assert_eq!(Schedule::default().next(at(1, 0)), None);
    }

    #[test]
    fn times_have_two_digits_each() {
        for bad in ["6:00", "24:00", "06:60", "0600", "06:0", "+6:00", "06:00:00", ""] {
            assert_eq!(TimeOfDay::parse(bad), None, "{bad}");
        }
    }
}
