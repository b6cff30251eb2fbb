//! Points in time, as data. Nobody reads a clock here: the edge does, and hands the value in.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From seconds since the epoch, saturating at the last whole second.
    pub const fn from_secs(secs: u64) -> Self {
        const LAST: u64 = u64::MAX / 1000;
        Self(if secs < LAST { secs } else { LAST } * 1000)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This much later (saturating).
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This much earlier (saturating at the epoch).
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Time from `earlier` to this; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The date-time of RFC 5322 §3.3, in UTC: `Mon, 23 Nov 2026 23:14:54 +0000`.
    pub fn to_rfc5322(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let c = Civil::of(self.as_secs());
        let (weekday, month) = (DAYS[(c.days % 7) as usize], MONTHS[c.month as usize - 1]);
        format!("{weekday}, {} {month} {} {:02}:{:02}:{:02} +0000", c.day, c.year, c.hour, c.minute, c.second)
    }

    /// The date-time of RFC 3339 in UTC, with milliseconds: `2026-11-23T23:14:54.000Z`.
    pub fn to_rfc3339(self) -> String {
        let c = Civil::of(self.as_secs());
        let (date, millis) = (format!("{:04}-{:02}-{:02}", c.year, c.month, c.day), self.0 % 1000);
        format!("{date}T{:02}:{:02}:{:02}.{millis:03}Z", c.hour, c.minute, c.second)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// A calendar date and time of day in UTC, proleptic Gregorian.
struct Civil {
    days: u64,
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    fn of(secs: u64) -> Self {
        let (days, time) = (secs / 86_400, secs % 86_400);
        // Count in eras of 400 years from 1 March 0000, so that the leap day ends a year.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            days,
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            hour: time / 3_600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_the_calendar_has_them() {
        for (secs, mail, iso) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000", "1970-01-01T00:00:00.000Z"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000", "2000-02-29T00:00:00.000Z"),
            (1_795_475_694, "Mon, 23 Nov 2026 23:14:54 +0000", "2026-11-23T23:14:54.000Z"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 +0000", "2100-02-28T23:59:59.000Z"),
        ] {
            let time = Timestamp::from_secs(secs);
            assert_eq!((time.to_rfc5322().as_str(), time.to_rfc3339().as_str()), (mail, iso));
        }
    }
}
