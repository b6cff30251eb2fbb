//! Days as reports count them: whole days of UTC, from midnight to midnight (RFC 8460 §4.1, RFC 7489 §7.2).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use mail::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

const LENGTH: Duration = Duration::from_secs(24 * 3600);
/// Reports of a day are made so long after it at the earliest: clocks differ.
const MARGIN: Duration = Duration::from_secs(10 * 60);
/// And at the latest so much later: not all the world reports at midnight (RFC 8460 §4.1).
const SPREAD: Duration = Duration::from_secs(4 * 3600);

/// A day, counted from the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(u64);

impl Day {
    /// The day of this moment.
    pub(crate) fn of(at: Timestamp) -> Self {
        Self(at.as_secs() / LENGTH.as_secs())
    }

    /// Its first moment.
    pub(crate) fn start(self) -> Timestamp {
        Timestamp::from_secs(self.0.saturating_mul(LENGTH.as_secs()))
    }

    /// The first moment after it.
    pub(crate) fn end(self) -> Timestamp {
        self.start().after(LENGTH)
    }

    /// When its reports are made: another time for each day and each server, and after a restart the same.
    pub(crate) fn report_at(self, server: &InstanceId) -> Timestamp {
        let seed = digest(&SHA256, format!("reports {server} {}", self.0).as_bytes());
        let draw = seed.as_ref().iter().take(4).fold(0_u64, |draw, octet| draw << 8 | u64::from(*octet));
        let spread = u64::try_from(SPREAD.as_millis()).unwrap_or(u64::MAX);
        self.end().after(MARGIN).after(Duration::from_millis(draw % spread))
    }
}

impl fmt::Display for Day {
    /// As in a calendar: `2026-11-28`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.start().to_rfc3339();
        f.write_str(text.split('T').next().unwrap_or_default())
    }
}

impl FromStr for Day {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-').map(|part| part.parse::<u64>().map_err(|_| ()));
        let mut next = || parts.next().ok_or(())?;
        let (year, month, day) = (next()?, next()?, next()?);
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
            return Err(());
        }
        // Years that begin in March, so that the leap day ends one.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
        let found = Self(days.checked_sub(719_469).ok_or(())?);
        if found.to_string() == text { Ok(found) } else { Err(()) }
    }
}

/// What a report covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Period {
    /// From then on.
    pub(crate) from: Timestamp,
    /// Until before then.
    pub(crate) to: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for text in ["1970-01-01", "2000-02-29", "2026-11-28", "2026-12-31", "2027-01-01", "2100-02-28", "2100-03-01"] {
            let day: Day = text.parse().unwrap();
            assert_eq!(day.to_string(), text);
            assert_eq!((Day::of(day.start()), Day::of(day.end())), (day, Day(day.0 + 1)));
            assert_eq!(Day::of(day.end().before(Duration::from_millis(1))), day);
        }
        for bad in ["", "2026", "2026-02-29", "2026-13-01", "2026-00-01", "2026-1-1", "2026-11-28x", "1969-12-31"] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
    }

    #[test]
    fn reports_are_spread_and_keep_their_time() {
        let day: Day = "2026-11-28".parse().unwrap();
        let times: Vec<_> = (0..50).map(|n| day.report_at(&InstanceId([n; 16]))).collect();
        assert!(times.iter().all(|at| *at >= day.end().after(MARGIN) && *at < day.end().after(MARGIN).after(SPREAD)));
        assert!(times.iter().max().unwrap().since(*times.iter().min().unwrap()) > SPREAD / 2);
        assert_eq!(day.report_at(&InstanceId([7; 16])), times[7]);
    }
}
