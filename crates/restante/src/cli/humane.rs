//! Times, sizes and tables for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use mail::Timestamp;

/// The time.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `42 s`, `5 min`, `3 h`, `2 d`.
pub(super) fn span(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..=89 => format!("{secs} s"),
        90..=5_399 => format!("{} min", (secs + 30) / 60),
        5_400..=129_599 => format!("{} h", (secs + 1_800) / 3_600),
        _ => format!("{} d", (secs + 43_200) / 86_400),
    }
}

/// How long ago, or when: `3 h`, `in 5 min`, `now`.
pub(super) fn when(at: Timestamp, now: Timestamp) -> String {
    match () {
        () if at > now.after(Duration::from_secs(1)) => format!("in {}", span(at.since(now))),
        () if now.since(at) < Duration::from_secs(2) => "now".to_owned(),
        () => format!("{} ago", span(now.since(at))),
    }
}

/// Time passed since the beginning: `+12 ms`, `+3.4 s`, `+5 min`.
#[allow(clippy::cast_precision_loss)]
pub(super) fn passed(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 0..=999 => format!("+{millis} ms"),
        millis @ 1_000..=89_999 => format!("+{:.1} s", millis as f64 / 1000.0),
        _ => format!("+{}", span(duration)),
    }
}

/// Date and time of day in UTC, to the second: `2027-01-15 08:00:00`.
pub(super) fn date(at: Timestamp) -> String {
    at.to_rfc3339()[..19].replace('T', " ")
}

/// A table without lines, as `ls -l` has it; wraps where the terminal ends.
pub(super) fn table(header: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    for &column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The table's text without the blanks at line ends.
pub(super) fn print(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let secs = Duration::from_secs;
        let spans = [0, 89, 90, 5_399, 5_400, 129_600].map(|s| span(secs(s)));
        assert_eq!(spans, ["0 s", "89 s", "2 min", "90 min", "2 h", "2 d"]);
        let now = Timestamp::from_secs(1_000_000);
        assert_eq!(when(now.after(secs(300)), now), "in 5 min");
        assert_eq!(when(now.before(secs(300)), now), "5 min ago");
        assert_eq!(when(now, now), "now");
        assert_eq!([12, 3_400, 300_000].map(|m| passed(Duration::from_millis(m))), ["+12 ms", "+3.4 s", "+5 min"]);
        assert_eq!(date(Timestamp::from_secs(1_800_000_000)), "2027-01-15 08:00:00");
    }
}
