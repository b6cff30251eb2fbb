//! What waits in the ledger for its next attempt, and trying it now.
//!
//! Who may ask for that, and of what, is decided by those who call this: the admin API and sessions.

use mail::ledger::{Key, Leg, RecipientState, Row, RowBody};
use mail::{QueueId, Timestamp};
use queue::port::{Command, Request, Selection};
use store::{Store, StoreError};

use crate::runtime::Custody;

/// Rows that are read at a time.
const PAGE: usize = 500;

/// A leg by name.
pub(crate) type LegName = (QueueId, u32);

/// Looks at every row of the ledger, a page at a time.
pub(crate) async fn each(store: &Store, mut look: impl FnMut(&Row)) -> Result<(), StoreError> {
    each_of(store, "leg/", &mut look).await?;
    each_of(store, "in/", &mut look).await
}

/// Looks at every leg; those of one message follow each other.
pub(crate) async fn each_leg(store: &Store, mut look: impl FnMut(LegName, &Leg)) -> Result<(), StoreError> {
    each_of(store, "leg/", |row| {
        if let (Key::Leg(id, number), RowBody::Leg(leg)) = (&row.key, &row.body) {
            look((id.clone(), *number), leg);
        }
    })
    .await
}

/// Looks at every row of one kind: `leg/` or `in/`.
pub(crate) async fn each_of(store: &Store, prefix: &str, mut look: impl FnMut(&Row)) -> Result<(), StoreError> {
    let mut after: Option<Key> = None;
    loop {
        let rows = store.list(prefix, after.as_ref(), PAGE).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.key.clone());
        rows.iter().for_each(&mut look);
    }
}

/// Is there a recipient that an attempt would do something for, and neither a hold nor a bundle that it is in?
pub(crate) fn is_open(leg: &Leg) -> bool {
    let wants = |state: &RecipientState| match state {
        RecipientState::Queued => true,
        RecipientState::Offered(offered) => offered.accepted.is_none() || offered.closed,
        RecipientState::Claimed(_) | RecipientState::Done { .. } => false,
    };
    !leg.held && leg.carried.is_none() && leg.recipients.iter().any(|recipient| wants(&recipient.state))
}

/// The same, and the next attempt is not due before this time.
pub(crate) fn waits(leg: &Leg, soon: Timestamp) -> bool {
    leg.next_attempt > soon && is_open(leg)
}

/// Tries these now, by this command.
pub(crate) async fn hurry(custody: &Custody, legs: Vec<LegName>, command: fn(Selection) -> Command) {
    for (id, number) in legs {
        custody.ask(Request::Command(command(Selection::Leg(id, number)))).await;
    }
}
