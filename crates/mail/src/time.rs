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

    /// The first moment of a day in UTC, written as in RFC 3339: `2026-11-23`. `None` for what is no such day since 1970.
    pub fn from_date(text: &str) -> Option<Self> {
        let is_in_form = text.len() == 10
            && text.bytes().enumerate().all(|(place, octet)| match place {
                4 | 7 => octet == b'-',
                _ => octet.is_ascii_digit(),
            });
        let (year, month, day) =
            is_in_form.then(|| (text[..4].parse().ok(), text[5..7].parse().ok(), text[8..].parse().ok()))?;
        let (year, month, day): (u64, u64, u64) = (year?, month?, day?);
        // Counted as in `Civil::of`; what is no day there is none.
        let march_year = if month <= 2 { year.checked_sub(1)? } else { year };
        let march_month = (month + 9) % 12;
        let days = march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400;
        let days = (days + (153 * march_month + 2) / 5 + day).checked_sub(719_469)?;
        let found = Civil::of(days * 86_400);
        ((found.year, found.month, found.day) == (year, month, day)).then(|| Self::from_secs(days * 86_400))
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
    fn days_are_read_as_they_are_written() {
        for days in [0, 1, 58, 59, 789, 11_016, 11_017, 20_000, 47_541, 100_000] {
            let day = Timestamp::from_secs(days * 86_400);
            assert_eq!(Timestamp::from_date(&day.to_rfc3339()[..10]), Some(day), "{day}");
        }
        for bad in [
            "",
            "2026-11",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "1969-12-31",
            "0000-01-01",
            "2026-1-001",
            "+026-01-01",
        ] {
            assert_eq!(Timestamp::from_date(bad), None, "{bad}");
        }
    }

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
