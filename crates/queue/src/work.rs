//! Jobs that run at the edge, as the queue remembers them.

use mail::ledger::{Action, Key, Route};
use mail::{Domain, EnhancedStatus, ReferenceId};

use crate::desk::{Fetched, Repository, Sender};
use crate::port::Peer;

/// A job under way.
pub(crate) enum JobKind {
    /// Ends in `Delivered`.
    Delivery {
        key: Key,
        /// Whose place in which lane it takes.
        place: (Route, Sender),
        mode: Mode,
        /// Known once the session is open; never for mailboxes.
        peer: Option<Peer>,
    },
    /// One retrieval for every row that wants this object.
    Retrieval { d: Domain, fetched: Fetched, keys: Vec<Key> },
    /// The judgement of one reference's content.
    Judgement { d: Domain, key: Key },
    /// The delegation of one hop of one reference.
    Delegation { repository: Repository, key: Key, hop: ReferenceId },
    /// One entry for each row.
    Claims { repository: Repository, keys: Vec<Key> },
    /// One entry for each row, with what it said.
    Receipts { repository: Repository, entries: Vec<(Key, Vec<(u16, Action)>)> },
}

/// What a delivery is doing in its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Connecting; these recipients want to go.
    Undecided(Vec<u16>),
    /// An ordinary transaction, or writing to mailboxes.
    ByValue(Vec<u16>),
    /// An offer of this reference.
    Offer(ReferenceId),
    /// Policy does not let it go now.
    Postponed(EnhancedStatus, &'static str),
    /// Nothing was left to do.
    Idle,
}

impl Mode {
    /// Recipients that this may reach by value.
    pub(crate) fn reaches(&self) -> &[u16] {
        match self {
            Self::Undecided(positions) | Self::ByValue(positions) => positions,
            Self::Offer(_) | Self::Postponed(..) | Self::Idle => &[],
        }
    }
}
