//! What waits for a site (TBR §7.4): references that are out for it and that nobody has claimed.
//!
//! Reads only. Who may ask is the repository's business, how it is written down `reference::pending`'s. What comes first in the list, and
//! where a page begins, is decided here.

use std::time::Duration;

use mail::ledger::{Issued, Leg, RecipientState, Row, RowBody};
use mail::{Recipient, Timestamp};

/// A reference that waits, with the recipients of its offer in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// The reference.
    pub issued: &'a Issued,
    /// Every recipient of it; the position is the index.
    pub recipients: Vec<&'a Recipient>,
}

/// The references of a leg that its site may still claim something of.
pub fn waiting(leg: &Leg, now: Timestamp) -> Vec<Waiting<'_>> {
    let is_open = |issued: &&Issued| {
        let is_out = |state: &RecipientState| matches!(state, RecipientState::Offered(offered) if offered.reference == issued.id && !offered.closed);
        now < issued.expires && leg.recipients.iter().any(|recipient| is_out(&recipient.state))
    };
    let recipients_of = |issued: &Issued| {
        let places = issued.positions.iter().filter_map(|position| leg.recipients.get(usize::from(*position)));
        places.map(|recipient| &recipient.recipient).collect()
    };
    let open = leg
        .issued
        .iter()
        .filter(|issued| leg.waits_for().is_some_and(|site| *site.domain() == issued.to))
        .filter(is_open);
    open.map(|issued| Waiting { issued, recipients: recipients_of(issued) }).collect()
}

/// What ends this soon is listed and fetched before everything else.
pub const URGENT: Duration = Duration::from_secs(24 * 3600);
/// What is so small is listed as early.
pub const SMALL: u64 = 64 * 1024;

/// A place in a list: first stands all that is small or urgent, then the rest, both in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// When the list was begun. What is urgent is told by that: what came to be so between two pages would be left out.
    since: Timestamp,
    first: bool,
    after: String,
}

/// What came of rows behind a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// There is no room for the next: here the next page begins.
    Full,
    /// All were taken, and there are more.
    More,
    /// All were taken, and they were the last.
    All,
}

impl Place {
    /// Where the list begins.
    pub fn start(now: Timestamp) -> Self {
        Self { since: now, first: true, after: String::new() }
    }

    /// The place that [`Place::cursor`] names. A cursor of nobody's lists what it can: whoever asks is shown nothing that is not his.
    pub fn parse(cursor: &str, now: Timestamp) -> Self {
        let mut words = cursor.splitn(3, '/');
        let first = words.next() == Some("first");
        let since = words.next().and_then(|since| since.parse::<u32>().ok());
        let since = since.map_or(now, |since| Timestamp::from_secs(since.into()));
        Self { since, first, after: words.next().unwrap_or_default().to_owned() }
    }

    /// Its name: letters, digits, slashes.
    pub fn cursor(&self) -> String {
        let part = if self.first { "first" } else { "then" };
        format!("{part}/{}/{}", self.since.as_secs(), self.after)
    }

    /// The rows that follow are those behind this key.
    pub fn after(&self) -> &str {
        &self.after
    }

    /// Takes the rows that follow, for as long as there is room.
    pub fn take(&mut self, rows: &[Row], are_last: bool, mut add: impl FnMut(&Leg) -> bool) -> Taken {
        for row in rows {
            if let RowBody::Leg(leg) = &row.body
                && self.comes_first(leg) == self.first
                && !add(leg)
            {
                return Taken::Full;
            }
            self.after = row.key.to_string();
        }
        match (are_last, self.first) {
            (true, true) => {
                (self.first, self.after) = (false, String::new());
                Taken::More
            }
            (true, false) => Taken::All,
            (false, _) => Taken::More,
        }
    }

    fn comes_first(&self, leg: &Leg) -> bool {
        let is_small = leg.object.as_ref().is_none_or(|object| object.size <= SMALL);
        is_small || leg.issued.iter().any(|issued| issued.expires <= self.since.after(URGENT))
    }
}
