//! What accounts send, counted against their allowance: a message from its MAIL on, a recipient from its RCPT on, so that
//! many sessions at once get no more than one; what comes to nothing is given back.
//!
//! How much is too much is `policy::allowance`'s. The counts outlive a restart; a crash forgets the last second of them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use policy::allowance::{Allowance, Figures, Sent, Spent, Unit};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::kept::{self, Kept};
use crate::runtime::now;

/// How often the counts are written.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// The counts of all accounts; clones share them. There are no more of them than accounts.
#[derive(Debug, Clone)]
pub(crate) struct Sending(Arc<Kept<BTreeMap<String, Sent>>>);

/// A message under way.
#[derive(Debug)]
pub(crate) struct Booked {
    sending: Sending,
    account: String,
    allowance: Allowance,
    recipients: u64,
    is_sent: bool,
}

impl Sending {
    /// Counts that are kept in this file.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let kept: Kept<BTreeMap<String, Sent>> = Kept::open(path)?;
        Ok(Self(Arc::new(kept)))
    }

    /// Writes the counts until the end.
    pub(crate) async fn keep(self, end: CancellationToken) {
        kept::keep(self.0, SAVE_EVERY, end).await;
    }

    /// An account begins a message.
    ///
    /// # Errors
    /// The limit that it has reached.
    pub(crate) fn begin(&self, account: &str, allowance: Allowance) -> Result<Booked, Spent> {
        self.take(account, &allowance, Unit::Message)?;
        let account = account.to_owned();
        Ok(Booked { sending: self.clone(), account, allowance, recipients: 0, is_sent: false })
    }

    /// What the accounts that have sent something lately have sent.
    pub(crate) fn figures(&self) -> BTreeMap<String, Figures> {
        let at = now();
        self.0.look(|all| all.iter().map(|(name, sent)| (name.clone(), sent.figures(at))).collect())
    }

    fn take(&self, account: &str, allowance: &Allowance, unit: Unit) -> Result<(), Spent> {
        let at = now();
        let taken = self.0.change(|all| {
            if !all.contains_key(account) {
                all.retain(|_, sent| !sent.is_idle(at));
            }
            all.entry(account.to_owned()).or_default().take(unit, allowance, at)
        });
        taken.inspect_err(|spent| warn!(account, limit = spent.limit, %spent, "an account has reached its limit"))
    }
}

impl Booked {
    /// One more recipient.
    ///
    /// # Errors
    /// The limit that the account has reached.
    pub(crate) fn recipient(&mut self) -> Result<(), Spent> {
        self.sending.take(&self.account, &self.allowance, Unit::Recipient)?;
        self.recipients += 1;
        Ok(())
    }

    /// It is sent.
    pub(crate) fn sent(mut self) {
        self.is_sent = true;
    }
}

impl Drop for Booked {
    fn drop(&mut self) {
        if self.is_sent {
            return;
        }
        let at = now();
        self.sending.0.change(|all| {
            if let Some(sent) = all.get_mut(&self.account) {
                sent.give_back(Unit::Message, 1, at);
                sent.give_back(Unit::Recipient, self.recipients, at);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn two() -> Allowance {
        Allowance {
            messages_per_day: NonZeroU32::new(2),
            recipients_per_day: NonZeroU32::new(3),
            ..Allowance::default()
        }
    }

    #[test]
    fn sessions_at_once_share_one_allowance_and_what_is_not_sent_is_given_back() {
        let sending = Sending::open(None).unwrap();
        let mut first = sending.begin("alice", two()).unwrap();
        let second = sending.begin("alice", two()).unwrap();
        assert!(sending.begin("alice", two()).is_err(), "both are under way");
        let _of_another = sending.begin("bob", two()).unwrap();
        for _ in 0..3 {
            first.recipient().unwrap();
        }
        assert!(first.recipient().is_err());
        drop(second);
        let mut third = sending.begin("alice", two()).unwrap();
        assert!(third.recipient().is_err());
        first.sent();
        drop(third);
        let figures = sending.figures();
        assert_eq!((figures["alice"].messages_day, figures["alice"].recipients_day), (1, 3));
    }

    #[test]
    fn a_restart_resets_nothing() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("sending");
        let sending = Sending::open(Some(path.clone())).unwrap();
        sending.begin("alice", two()).unwrap().sent();
        sending.begin("alice", two()).unwrap().sent();
        sending.0.save().unwrap();
        assert!(Sending::open(Some(path)).unwrap().begin("alice", two()).is_err());
    }
}
