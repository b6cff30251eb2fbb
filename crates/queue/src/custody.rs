//! The custody machines: what one recipient may become, at the origin and at the receiver.
//!
//! Pure and total: every state takes every event. A transition consumes the state and can be applied again to whatever
//! the ledger holds after a conflict. Whole rows, timers and reports are left to [`crate::origin`] and
//! [`crate::receiver`]; the tables are tested cell by cell in `tests.rs`.

use mail::ledger::{Action, Claim, IndexState, Offered, Outcome, RecipientState};
use mail::{InstanceId, ReferenceId, Timestamp};

use crate::port::ClaimAnswer;

use Action::{Delayed, Failed, Relayed};
use ClaimAnswer::{Gone, Granted, Taken};

pub use delegation::delegate;

/// The claimant that the origin knows only by the word of its SMTP reply (TBR §8). The first store that then claims
/// the index takes its name.
pub const BY_REPLY: InstanceId = InstanceId([0; 16]);

/// Runs a transition on a state where it stands, and hands on what it says.
pub(crate) fn turn<T>(state: &mut RecipientState, transition: impl FnOnce(RecipientState) -> (RecipientState, T)) -> T {
    let (next, word) = transition(std::mem::replace(state, RecipientState::Queued));
    *state = next;
    word
}

/// Who claims, reports or acts: a store, for one index of one reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimant {
    /// The reference.
    pub reference: ReferenceId,
    /// The recipient's position in the offer.
    pub index: u16,
    /// The store.
    pub instance: InstanceId,
}

impl Claimant {
    fn claim(self, at: Timestamp) -> Claim {
        Claim { reference: self.reference, index: self.index, instance: self.instance, at, told: false }
    }

    fn aims_at(self, claim: &Claim) -> bool {
        (self.reference, self.index) == (claim.reference, claim.index)
    }

    fn holds(self, claim: &Claim) -> bool {
        self.aims_at(claim) && self.instance == claim.instance
    }

    /// May it claim this? Whom the offer names at its top; or who delegated, which revokes what stands above.
    fn is_offered(self, offered: &Offered) -> bool {
        delegation::level(offered, &self)
            .is_some_and(|level| offered.delegations.get(level).is_none_or(|above| above.by == self.instance))
    }
}

/// Origin: a claim. The first claimant of an open index wins; its repetition is granted again.
pub fn claim(state: RecipientState, by: Claimant, now: Timestamp) -> (RecipientState, ClaimAnswer) {
    match state {
        RecipientState::Offered(offered) if by.is_offered(&offered) && !offered.closed => {
            (RecipientState::Claimed(by.claim(now)), Granted)
        }
        RecipientState::Claimed(held) if by.aims_at(&held) => {
            let (held, answer) = claim_again(held, by);
            (RecipientState::Claimed(held), answer)
        }
        RecipientState::Done { outcome, claim: Some(held) } if by.aims_at(&held) => {
            let (held, answer) = claim_again(held, by);
            (RecipientState::Done { outcome, claim: Some(held) }, answer)
        }
        other => (other, Gone),
    }
}

fn claim_again(held: Claim, by: Claimant) -> (Claim, ClaimAnswer) {
    if held.instance == BY_REPLY {
        return (Claim { instance: by.instance, ..held }, Granted);
    }
    let answer = if by.holds(&held) { Granted } else { Taken };
    (held, answer)
}

/// Origin: a claim that carries its own final outcome `failed`: refused after retrieval. Says whether that is news.
pub fn refuse(
    state: RecipientState,
    by: Claimant,
    outcome: Outcome,
    now: Timestamp,
) -> (RecipientState, (ClaimAnswer, bool)) {
    match claim(state, by, now) {
        (RecipientState::Claimed(held), Granted) => {
            (RecipientState::Done { outcome, claim: Some(held) }, (Granted, true))
        }
        (state, answer) => (state, (answer, false)),
    }
}

/// Origin: a store says that it took custody without an answer (TBR §6). Any word acknowledges that. `Granted` says that
/// the store is now the claimant of record; after another its receipts count beside the claimant's.
pub fn act(state: RecipientState, by: Claimant, now: Timestamp) -> (RecipientState, ClaimAnswer) {
    match state {
        RecipientState::Queued | RecipientState::Offered(_) => (RecipientState::Claimed(by.claim(now)), Granted),
        state => claim(state, by, now),
    }
}

/// What a receipt means to the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptWord {
    /// Not from a store that holds this index: not recorded.
    NotYours,
    /// Recorded; nothing new in it.
    Known,
    /// Recorded, and the author may want to know. Ends nothing if it says `delayed`.
    News,
    /// Recorded, and what the author was told before was wrong. Another claimant stands back: its receipts still count
    /// as those of a store that acted.
    Corrects {
        /// The claimant of record until now.
        instead_of: Option<InstanceId>,
    },
}

/// Origin: a receipt for one index. `acted` says that this store once took custody of it without an answer.
pub fn receipt(state: RecipientState, by: Claimant, acted: bool, outcome: Outcome) -> (RecipientState, ReceiptWord) {
    match state {
        RecipientState::Claimed(held) if by.holds(&held) && outcome.action == Delayed => {
            (RecipientState::Claimed(held), ReceiptWord::News)
        }
        RecipientState::Claimed(held) if by.holds(&held) => {
            (RecipientState::Done { outcome, claim: Some(held) }, ReceiptWord::News)
        }
        RecipientState::Offered(offered) if outcome.action == Failed && delegation::is_delegator(&offered, &by) => {
            let claim = Some(by.claim(outcome.at));
            (RecipientState::Done { outcome, claim }, ReceiptWord::News)
        }
        RecipientState::Done { outcome: known, claim: Some(held) } if by.holds(&held) => {
            let late = known.action == Relayed && !matches!(outcome.action, Relayed | Delayed);
            let (outcome, word) = if late { (outcome, ReceiptWord::News) } else { (known, ReceiptWord::Known) };
            (RecipientState::Done { outcome, claim: Some(held) }, word)
        }
        state if acted => receipt_beside(state, by, outcome),
        state => (state, ReceiptWord::NotYours),
    }
}

/// A receipt of a store that is not the claimant of record. Only good news changes anything: one copy has arrived.
fn receipt_beside(state: RecipientState, by: Claimant, outcome: Outcome) -> (RecipientState, ReceiptWord) {
    let good = !matches!(outcome.action, Failed | Delayed);
    let instead_of = match &state {
        RecipientState::Claimed(held) if good => Some(held.instance),
        RecipientState::Done { outcome: known, claim } if good && known.action == Failed => {
            claim.as_ref().map(|c| c.instance)
        }
        _ => return (state, ReceiptWord::Known),
    };
    let claim = Some(by.claim(outcome.at));
    (RecipientState::Done { outcome, claim }, ReceiptWord::Corrects { instead_of })
}

/// Origin: the outcome of something that needs custody here: a delivery by value, a refusal, expiry, withdrawal. Says
/// whether it still mattered: custody that is elsewhere, and an outcome that is known, stay.
pub fn conclude(state: RecipientState, outcome: Outcome) -> (RecipientState, bool) {
    match state {
        RecipientState::Queued | RecipientState::Offered(_) => (RecipientState::Done { outcome, claim: None }, true),
        other => (other, false),
    }
}

/// Origin: a reference is issued for a recipient that nothing is out for.
pub fn offer(state: RecipientState, reference: ReferenceId, index: u16) -> (RecipientState, bool) {
    match state {
        RecipientState::Queued => {
            let offered = Offered { reference, index, accepted: None, closed: false, delegations: Vec::new() };
            (RecipientState::Offered(offered), true)
        }
        other => (other, false),
    }
}

/// Origin: the peer answered 250 to the offer of this reference.
pub fn accepted(state: RecipientState, reference: ReferenceId, now: Timestamp) -> (RecipientState, bool) {
    match state {
        RecipientState::Offered(o) if o.reference == reference && !o.closed => {
            (RecipientState::Offered(Offered { accepted: Some(now), ..o }), true)
        }
        other => (other, false),
    }
}

/// Origin, where by value is no choice: nobody claimed, so offer the same once more.
pub fn ask_again(state: RecipientState) -> (RecipientState, bool) {
    match state {
        RecipientState::Offered(o) if o.accepted.is_some() && !o.closed => {
            (RecipientState::Offered(Offered { accepted: None, ..o }), true)
        }
        other => (other, false),
    }
}

/// Origin: the record is won for by value; only the peer's word is still to be asked (TBR §8).
pub fn close(state: RecipientState) -> (RecipientState, bool) {
    match state {
        RecipientState::Offered(o) if !o.closed => (RecipientState::Offered(Offered { closed: true, ..o }), true),
        other => (other, false),
    }
}

/// Origin: the record of this reference is won: its index can't be claimed any more, nothing is out.
pub fn win_back(state: RecipientState, reference: ReferenceId) -> (RecipientState, bool) {
    match state {
        RecipientState::Offered(o) if o.reference == reference => (RecipientState::Queued, true),
        other => (other, false),
    }
}

/// Origin: the peer's reply to a repeated offer says that custody is there: that counts as the claim.
pub fn claimed_by_reply(state: RecipientState, reference: ReferenceId, now: Timestamp) -> (RecipientState, bool) {
    match state {
        RecipientState::Offered(o) if o.reference == reference => {
            let by = Claimant { reference, index: o.index, instance: BY_REPLY };
            (RecipientState::Claimed(by.claim(now)), true)
        }
        other => (other, false),
    }
}

/// Receiver: the origin's answer to a claim. To one that said `acted`, any answer is the acknowledgement.
#[must_use]
pub fn answered(state: IndexState, answer: ClaimAnswer) -> IndexState {
    match (state, answer) {
        (IndexState::Open, Granted) => IndexState::Mine { acted: false },
        (IndexState::Open, Taken) => IndexState::Taken,
        (IndexState::Open, Gone) => IndexState::Gone,
        (IndexState::Mine { .. }, _) => IndexState::Mine { acted: false },
        (IndexState::Final { outcome, acknowledged, .. }, _) => {
            IndexState::Final { outcome, acknowledged, acted: false }
        }
        (state @ (IndexState::Refused | IndexState::Taken | IndexState::Gone | IndexState::Delegated { .. }), _) => {
            state
        }
    }
}

/// Receiver: an hour without an answer; custody is taken, and the origin is told until it acknowledges that.
#[must_use]
pub fn acted(state: IndexState) -> IndexState {
    match state {
        IndexState::Open => IndexState::Mine { acted: true },
        state => state,
    }
}

/// Receiver: nothing can be claimed any more: `e` has passed, or the origin said 410.
#[must_use]
pub fn given_up(state: IndexState) -> IndexState {
    match state {
        IndexState::Open => IndexState::Gone,
        state => state,
    }
}

/// Receiver: the outcome of an index whose custody is here; a late one may follow `relayed`.
#[must_use]
pub fn finished(state: IndexState, outcome: Outcome) -> IndexState {
    match state {
        IndexState::Mine { acted } => IndexState::Final { outcome, acknowledged: false, acted },
        IndexState::Final { outcome: known, acted, .. } if known.action == Relayed && outcome.action != Relayed => {
            IndexState::Final { outcome, acknowledged: false, acted }
        }
        // Whoever claims it reports anything else.
        IndexState::Delegated { failed: None } if outcome.action == Failed => {
            IndexState::Delegated { failed: Some(outcome) }
        }
        state => state,
    }
}

/// Receiver: the origin has recorded this outcome. A newer one than was posted stays to be reported.
#[must_use]
pub fn acknowledged(state: IndexState, posted: Action) -> IndexState {
    match state {
        IndexState::Final { outcome, acted, .. } if outcome.action == posted => {
            IndexState::Final { outcome, acknowledged: true, acted }
        }
        IndexState::Delegated { failed: Some(outcome) } if outcome.action == posted => {
            IndexState::Final { outcome, acknowledged: true, acted: false }
        }
        state => state,
    }
}

/// Receiver: the origin has recorded that it is passed on by reference.
#[must_use]
pub fn delegated(state: IndexState) -> IndexState {
    match state {
        IndexState::Open => IndexState::Delegated { failed: None },
        state => state,
    }
}

/// Receiver: it cannot be passed on by reference after all. Custody is wanted instead: the claim revokes the delegation.
#[must_use]
pub fn recalled(state: IndexState) -> IndexState {
    match state {
        IndexState::Delegated { failed: None } => IndexState::Open,
        state => state,
    }
}

/// Receiver: a repeated offer of something done: the origin may have lost the receipt, send it again.
#[must_use]
pub fn asked_again(state: IndexState) -> IndexState {
    match state {
        IndexState::Final { outcome, acted, .. } => IndexState::Final { outcome, acknowledged: false, acted },
        state => state,
    }
}

mod delegation;
#[cfg(test)]
mod tests;
