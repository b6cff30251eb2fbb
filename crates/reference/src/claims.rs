//! Claims and receipts as they travel: JSON bodies of `POST /.well-known/tbr/claims` and `…/receipts` (TBR §6).
//!
//! Both sides use these types; limits hold for reading and for writing. Who may claim, and who wins, is the queue's;
//! HTTP is `net`'s. Members that are not known are passed over, so that later revisions can add some.

use mail::ledger::Action;
use mail::{Domain, EnhancedStatus, Grant, InstanceId, ReferenceId, StatusClass};
use serde::{Deserialize, Serialize};

use crate::body::{BodyError, JsonBody, MAX_RECIPIENTS, Revision1, Text, check_count, read};

/// Path of the claims resource.
pub const CLAIMS_PATH: &str = "/.well-known/tbr/claims";
/// Path of the receipts resource.
pub const RECEIPTS_PATH: &str = "/.well-known/tbr/receipts";

/// A request for custody: `POST /.well-known/tbr/claims`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsRequest {
    /// Revision.
    pub v: Revision1,
    /// The claiming store.
    pub instance: InstanceId,
    /// One entry for each reference.
    pub claims: Vec<ClaimEntry>,
}

/// What is claimed of one reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimEntry {
    /// The recipient domain, tag `to`.
    pub to: Domain,
    /// The reference, tag `i`.
    pub i: ReferenceId,
    /// Its grant.
    pub grant: Grant,
    /// Recipient indexes, ascending.
    pub n: Vec<u16>,
    /// Of these, the ones that are refused now that the message is known: claimed only to end them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedIndex>,
    /// Custody was taken after an hour without an answer, and acted upon.
    #[serde(default, skip_serializing_if = "is_false")]
    pub acted: bool,
}

/// A recipient refused after retrieval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedIndex {
    /// Its index, one of the entry's `n`.
    pub n: u16,
    /// A permanent status.
    pub status: EnhancedStatus,
    /// Why.
    #[serde(default)]
    pub text: Text,
}

/// The answer to a [`ClaimsRequest`]; entries that do not match anything are left out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsAnswer {
    /// Revision.
    pub v: Revision1,
    /// One entry for each reference that matched.
    pub claims: Vec<AnsweredClaim>,
}

/// The answers for one reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredClaim {
    /// The reference.
    pub i: ReferenceId,
    /// One for each index.
    pub answers: Vec<IndexAnswer>,
}

/// The answer for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexAnswer {
    /// The index.
    pub n: u16,
    /// The word.
    pub is: Word,
}

/// What the origin says to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Custody is the claimant's.
    Granted,
    /// Another store has it.
    Taken,
    /// Withdrawn, expired, refused, or sent by value.
    Gone,
    /// A word of a later revision: no answer at all. Never written.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// A report: `POST /.well-known/tbr/receipts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsRequest {
    /// Revision.
    pub v: Revision1,
    /// The reporting store: the one that claimed.
    pub instance: InstanceId,
    /// One entry for each reference.
    pub receipts: Vec<ReceiptEntry>,
}

/// What became of recipients of one reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptEntry {
    /// The recipient domain, tag `to`.
    pub to: Domain,
    /// The reference, tag `i`.
    pub i: ReferenceId,
    /// Its grant.
    pub grant: Grant,
    /// One for each recipient, indexes ascending.
    pub outcomes: Vec<WireOutcome>,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireOutcome {
    /// Its index.
    pub n: u16,
    /// RFC 3464 §2.3.3.
    pub action: Action,
    /// A status of the class that fits the action.
    pub status: EnhancedStatus,
    /// One plain sentence.
    #[serde(default)]
    pub text: Text,
    /// When, in whole seconds since the epoch.
    pub at: u64,
    /// A report has already gone to the author, because receipts found no hearing for 24 hours.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reported: bool,
}

/// The answer to a [`ReceiptsRequest`]: what is on disk there; entries of anybody but the claimant are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsAnswer {
    /// Revision.
    pub v: Revision1,
    /// One entry for each reference that matched.
    pub receipts: Vec<RecordedReceipt>,
}

/// The recipients of one reference whose outcome is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedReceipt {
    /// The reference.
    pub i: ReferenceId,
    /// Their indexes.
    pub recorded: Vec<u16>,
}

impl JsonBody for ClaimsRequest {
    fn check(&self) -> Result<(), BodyError> {
        check_count(self.claims.len())?;
        self.claims.iter().try_for_each(ClaimEntry::check)
    }
}

impl ClaimEntry {
    fn check(&self) -> Result<(), BodyError> {
        check_indexes(self.n.iter().copied())?;
        if !self.failed.is_empty() {
            check_indexes(self.failed.iter().map(|f| f.n))?;
        }
        if !self.failed.iter().all(|f| self.n.binary_search(&f.n).is_ok()) {
            return Err(BodyError::Indexes);
        }
        let permanent = self.failed.iter().all(|f| f.status.class() == StatusClass::Permanent);
        if permanent { Ok(()) } else { Err(BodyError::Status) }
    }
}

impl JsonBody for ClaimsAnswer {
    /// Words of later revisions are dropped: they are no answer.
    fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let mut answer: Self = read(body)?;
        answer.check()?;
        for claim in &mut answer.claims {
            claim.answers.retain(|a| a.is != Word::Unknown && a.n < MAX_RECIPIENTS);
        }
        Ok(answer)
    }

    fn check(&self) -> Result<(), BodyError> {
        check_count(self.claims.len())
    }
}

impl JsonBody for ReceiptsRequest {
    fn check(&self) -> Result<(), BodyError> {
        check_count(self.receipts.len())?;
        self.receipts.iter().try_for_each(|entry| {
            check_indexes(entry.outcomes.iter().map(|o| o.n))?;
            let fits = entry.outcomes.iter().all(WireOutcome::status_fits);
            if fits { Ok(()) } else { Err(BodyError::Status) }
        })
    }
}

impl WireOutcome {
    /// A success has class 2, a delay class 4; a failure may have been temporary for too long (4.4.7).
    fn status_fits(&self) -> bool {
        let class = self.status.class();
        match self.action {
            Action::Delivered | Action::Relayed | Action::Expanded => class == StatusClass::Success,
            Action::Delayed => class == StatusClass::Temporary,
            Action::Failed => class != StatusClass::Success,
        }
    }
}

impl JsonBody for ReceiptsAnswer {
    fn check(&self) -> Result<(), BodyError> {
        check_count(self.receipts.len())
    }
}

/// At least one, ascending without repetition, each below [`MAX_RECIPIENTS`].
fn check_indexes(indexes: impl Iterator<Item = u16>) -> Result<(), BodyError> {
    let mut last = None;
    for index in indexes {
        if index >= MAX_RECIPIENTS || last.is_some_and(|l| l >= index) {
            return Err(BodyError::Indexes);
        }
        last = Some(index);
    }
    last.map(|_| ()).ok_or(BodyError::Indexes)
}

fn is_false(flag: &bool) -> bool {
    !*flag
}
