//! Bugs that can be seeded into a world, to show that the simulation would find them. All of them sit where the queue
//! meets the outside: in what the edge does with its actions, or in the store.

use std::fmt;
use std::str::FromStr;

use crate::scenario::Shape;

/// A seeded bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The ledger says `Committed` before it is.
    CommittedTooSoon,
    /// Objects are not synced before the rows that name them.
    ObjectsNotSynced,
    /// An object is deleted as soon as one of its rows lets go of it.
    ObjectsReleasedEarly,
    /// The store overwrites rows whatever their version.
    VersionsIgnored,
    /// Rows of new reports are left out of the commit.
    ReportsLost,
    /// A second claimant is granted what the first one has.
    ClaimGrantedTwice,
    /// A claim is granted although the origin had won the record back.
    FallBackWithoutWinning,
    /// The receiver delivers without having claimed.
    DeliverWithoutClaim,
    /// After a restart the receiver has forgotten that it sent a claim.
    FirstSentForgotten,
    /// A restart draws a new instance id.
    NewInstanceAtRestart,
    /// Two servers of one domain give the same instance id.
    SharedInstance,
    /// Nobody tells the origin that custody was taken without an answer.
    ActedDropped,
    /// Receipts are acknowledged before they are recorded.
    ReceiptsBeforeCommit,
    /// Mailbox files are not synced.
    MailboxNotSynced,
    /// A claim under a bound grant counts without its domain's signature.
    UnsignedClaimAccepted,
    /// A delegation is granted that came after a claim or another delegation: it does not contend.
    DelegationDoesNotContend,
    /// A delegation is granted before it is recorded.
    DelegationBeforeCommit,
    /// A relay offers on what the origin has not delegated to it.
    DelegationNotAwaited,
    /// What a custodian has listed once it lists no more, claimed or not.
    PendingForgotten,
    /// The link breaks in the middle of a retrieval, and what has come is taken for the whole.
    PartTakenForWhole,
    /// A relay acknowledges that what it had passed on has failed, and tells nobody.
    LateFailureForgotten,
    /// A custodian sends on what its site has uploaded, and does not remember that.
    TakenForgotten,
    /// A custodian says of a message that it is taken before that is on disk.
    TakenBeforeCommit,
    /// A site takes it for the word that its custodian has all octets.
    TakenTooEarly,
    /// The cursor of a page names the row behind the one where the next page begins.
    CursorTooFar,
    /// What a custodian has written into a bundle it lists no more, whether the bundle comes or not.
    WrittenForgotten,
    /// A bundle says that claims are recorded which the custodian has never heard of.
    HeardUnseen,
    /// A bundle ends in the middle of an object, and what has come is taken for the whole.
    TornTakenForWhole,
    /// The object of a bundle is thrown away, although the queue has taken it.
    CarriedThrownAway,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::CommittedTooSoon,
        Self::ObjectsNotSynced,
        Self::ObjectsReleasedEarly,
        Self::VersionsIgnored,
        Self::ReportsLost,
        Self::ClaimGrantedTwice,
        Self::FallBackWithoutWinning,
        Self::DeliverWithoutClaim,
        Self::FirstSentForgotten,
        Self::NewInstanceAtRestart,
        Self::SharedInstance,
        Self::ActedDropped,
        Self::ReceiptsBeforeCommit,
        Self::MailboxNotSynced,
        Self::UnsignedClaimAccepted,
        Self::DelegationDoesNotContend,
        Self::DelegationBeforeCommit,
        Self::DelegationNotAwaited,
        Self::PendingForgotten,
        Self::PartTakenForWhole,
        Self::LateFailureForgotten,
        Self::TakenForgotten,
        Self::TakenBeforeCommit,
        Self::TakenTooEarly,
        Self::CursorTooFar,
        Self::WrittenForgotten,
        Self::HeardUnseen,
        Self::TornTakenForWhole,
        Self::CarriedThrownAway,
    ];

    /// The worlds in which it can show.
    pub fn shape(self) -> Shape {
        match self {
            Self::PendingForgotten
            | Self::PartTakenForWhole
            | Self::LateFailureForgotten
            | Self::TakenForgotten
            | Self::TakenBeforeCommit
            | Self::TakenTooEarly
            | Self::CursorTooFar
            | Self::WrittenForgotten
            | Self::HeardUnseen
            | Self::TornTakenForWhole
            | Self::CarriedThrownAway => Shape::Network,
            _ => Shape::Five,
        }
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Mutation {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mutation| mutation.to_string() == text);
        found.ok_or_else(|| format!("no such bug; there are: {:?}", Self::ALL))
    }
}
