//! `restante accounts recall`: asks the server page by page to withdraw what an account has sent, says of each recipient what
//! holds, and goes through the queue again for what was on its way at that moment.

use std::collections::BTreeSet;
use std::time::Duration;

use mail::ledger::Key;
use mail::{Address, QueueId, Timestamp};
use serde::Serialize;

use super::client::Client;
use super::output::{Exit, Failure, Output};
use crate::admin::api::{self, Holds, RecallRequest, Recalled, RecalledFrom};

/// Times that the queue is gone through. Twice at least: for what was just being accepted.
const PASSES: std::ops::RangeInclusive<u32> = 2..=5;
/// Between them, for deliveries under way to end.
const PAUSE: Duration = Duration::from_secs(1);

/// Whose mail is recalled.
pub(super) enum Standing {
    /// It sends no more.
    Suspended(String),
    /// It goes on sending.
    Active(String),
    /// There is no such account: removed perhaps, or mistyped.
    Missing(String),
}

impl Standing {
    fn name(&self) -> &str {
        match self {
            Self::Suspended(name) | Self::Active(name) | Self::Missing(name) => name,
        }
    }

    pub(super) fn is_suspended(&self) -> bool {
        matches!(self, Self::Suspended(_))
    }

    fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

/// What a recall came to. Counts are of recipients.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    account: String,
    suspended: bool,
    /// There is no such account any more.
    removed: bool,
    withdrawn: u64,
    too_late: u64,
    under_way: u64,
    settled_before: u64,
}

/// One line of the JSON form.
#[derive(Serialize)]
struct Line<'a> {
    id: Option<&'a QueueId>,
    recipient: &'a Address,
    holds: Holds,
    text: &'a str,
}

/// A recall on its way through the queue.
pub(super) struct Recall<'a> {
    client: &'a Client,
    output: Output,
    since: Option<Timestamp>,
    totals: Totals,
    /// Being delivered when they were last seen: no more than there are deliveries at once.
    under_way: BTreeSet<(Key, Address)>,
}

impl<'a> Recall<'a> {
    /// Of what this account has sent since then.
    pub(super) fn new(client: &'a Client, output: Output, standing: Standing, since: Option<Timestamp>) -> Self {
        let totals = Totals {
            account: standing.name().to_owned(),
            suspended: standing.is_suspended(),
            removed: standing.is_missing(),
            ..Totals::default()
        };
        Self { client, output, since, totals, under_way: BTreeSet::new() }
    }

    /// Withdraws, prints, and sums up.
    ///
    /// # Errors
    /// The server cannot be asked; what was withdrawn stays so. Or nobody knows of such an account.
    pub(super) fn run(mut self) -> Result<Exit, Failure> {
        for pass in 1..=*PASSES.end() {
            self.pass(pass == 1)?;
            if self.under_way.is_empty() && pass >= *PASSES.start() {
                break;
            }
            std::thread::sleep(if self.under_way.is_empty() { Duration::ZERO } else { PAUSE });
        }
        self.totals.under_way = self.under_way.len() as u64;
        let totals = &self.totals;
        if totals.removed && totals.is_nothing() {
            let text = format!("there is no account `{}`, and no message in the queue is from one", totals.account);
            return Err(Failure::new(text).help("`restante accounts list` shows the names and addresses of all"));
        }
        self.output.print(totals, || totals.text());
        Ok(match (totals.under_way, totals.too_late) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::Failed,
            _ => Exit::Later,
        })
    }

    fn pass(&mut self, is_first: bool) -> Result<(), Failure> {
        let mut waited_for = std::mem::take(&mut self.under_way);
        let mut after = None;
        loop {
            let request = RecallRequest { account: self.totals.account.clone(), since: self.since, after };
            let page: Recalled = self.client.ask_with(api::RECALL, &request)?;
            if is_first {
                self.totals.settled_before += page.settled;
            }
            for found in &page.recipients {
                let was_under_way = waited_for.remove(&(found.key.clone(), found.address.clone()));
                self.take(found, is_first || was_under_way);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        // Those that are on no page any more have got where they went.
        for (key, address) in waited_for {
            let text = "too late: delivered".to_owned();
            let id = api::name(&key);
            self.take(&RecalledFrom { key, id, address, holds: Holds::TooLate, text }, true);
        }
        Ok(())
    }

    fn take(&mut self, found: &RecalledFrom, is_new: bool) {
        match found.holds {
            Holds::UnderWay => {
                self.under_way.insert((found.key.clone(), found.address.clone()));
                return;
            }
            Holds::Withdrawn => self.totals.withdrawn += 1,
            Holds::TooLate if is_new => self.totals.too_late += 1,
            Holds::TooLate => return,
        }
        let RecalledFrom { id, address, holds, text, .. } = found;
        let line = Line { id: id.as_ref(), recipient: address, holds: *holds, text };
        let name = id.as_ref().map(QueueId::to_string).unwrap_or_default();
        self.output.print(&line, || format!("{name} {address}: {text}"));
    }
}

impl Totals {
    fn is_nothing(&self) -> bool {
        self.withdrawn + self.too_late + self.under_way + self.settled_before == 0
    }

    fn text(&self) -> String {
        let mut text = format!("{} withdrawn, too late for {}", self.withdrawn, self.too_late);
        if self.under_way > 0 {
            text.push_str(&format!(", {} still being delivered: run it again", self.under_way));
        }
        let before = match self.settled_before {
            0 => String::new(),
            n => format!(" For {n} more the outcome was known before."),
        };
        let account = match (self.suspended, self.removed) {
            (true, _) => format!(" {} is suspended: it can neither log in nor send.", self.account),
            (_, true) => format!(" There is no account {} any more.", self.account),
            _ => String::new(),
        };
        format!("{text}.{before}{account}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_sums_up() {
        let totals = Totals { account: "alice".into(), withdrawn: 3, too_late: 1, ..Totals::default() };
        assert_eq!(totals.text(), "3 withdrawn, too late for 1.");
        let totals = Totals { suspended: true, under_way: 2, settled_before: 7, ..totals };
        assert_eq!(
            totals.text(),
            "3 withdrawn, too late for 1, 2 still being delivered: run it again. For 7 more the outcome was known before. \
             alice is suspended: it can neither log in nor send."
        );
        let totals = Totals { account: "alice".into(), removed: true, withdrawn: 1, ..Totals::default() };
        assert_eq!(totals.text(), "1 withdrawn, too late for 0. There is no account alice any more.");
        assert!(!totals.is_nothing() && Totals { withdrawn: 0, ..totals }.is_nothing());
    }
}
