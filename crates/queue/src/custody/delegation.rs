//! An offered index that relays pass on by reference (TBR §7.3): who stands where, and who may do what meanwhile.
//!
//! The chain begins with the reference; each hop stands on the one before it. Only the top may be claimed or passed on,
//! and until that is claimed each relay may take back what it passed on, or say that it failed.

use mail::ReferenceId;
use mail::ledger::{Delegation, Offered, RecipientState};

use super::{Claimant, Gone, Granted, Taken};
use crate::port::ClaimAnswer;

/// Most hops by reference on one index: each is a relay that its receivers must look up.
const MAX_DELEGATIONS: usize = 16;

/// Whose index is meant: 0 for the reference itself, one more for each hop.
pub(super) fn level(offered: &Offered, by: &Claimant) -> Option<usize> {
    let meant = (by.reference, by.index);
    if meant == (offered.reference, offered.index) {
        return Some(0);
    }
    let hop = offered.delegations.iter().position(|delegation| (delegation.hop, delegation.index) == meant)?;
    Some(hop + 1)
}

/// Has this store passed on exactly this index, and can it still be claimed?
pub(super) fn is_delegator(offered: &Offered, by: &Claimant) -> bool {
    let above = level(offered, by).and_then(|level| offered.delegations.get(level));
    !offered.closed && above.is_some_and(|delegation| delegation.by == by.instance)
}

/// Origin: a relay passes on what it was offered. The first one wins, as with claims; whether it is a repetition is for
/// the caller to know, who has the hop.
pub fn delegate(state: RecipientState, by: Claimant, hop: ReferenceId, index: u16) -> (RecipientState, ClaimAnswer) {
    match state {
        RecipientState::Offered(mut offered) if !offered.closed => {
            let answer = match level(&offered, &by) {
                Some(level) if level < offered.delegations.len() => Taken,
                Some(_) if offered.delegations.len() < MAX_DELEGATIONS => {
                    offered.delegations.push(Delegation { hop, index, by: by.instance });
                    Granted
                }
                _ => Gone,
            };
            (RecipientState::Offered(offered), answer)
        }
        RecipientState::Claimed(held) => (RecipientState::Claimed(held), Taken),
        state => (state, Gone),
    }
}

#[cfg(test)]
mod tests {
    use mail::ledger::{Action, Outcome};
    use mail::{EnhancedStatus, InstanceId, Timestamp};

    use super::super::{ReceiptWord, claim, close, receipt};
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const REFERENCE: ReferenceId = ReferenceId([1; 16]);
    const HOP: ReferenceId = ReferenceId([2; 16]);
    const NEXT_HOP: ReferenceId = ReferenceId([3; 16]);
    const RELAY: InstanceId = InstanceId([11; 16]);
    const NEXT_RELAY: InstanceId = InstanceId([12; 16]);
    const STRANGER: InstanceId = InstanceId([13; 16]);

    fn offered() -> RecipientState {
        let delegations = Vec::new();
        RecipientState::Offered(Offered { reference: REFERENCE, index: 3, accepted: None, closed: false, delegations })
    }

    fn by(reference: ReferenceId, index: u16, instance: InstanceId) -> Claimant {
        Claimant { reference, index, instance }
    }

    /// RELAY has passed index 3 on as its 0, NEXT_RELAY that one as its 5.
    fn delegated_twice() -> RecipientState {
        let (state, first) = delegate(offered(), by(REFERENCE, 3, RELAY), HOP, 0);
        let (state, second) = delegate(state, by(HOP, 0, NEXT_RELAY), NEXT_HOP, 5);
        assert_eq!((first, second), (Granted, Granted));
        state
    }

    fn word(answer: (RecipientState, ClaimAnswer)) -> ClaimAnswer {
        answer.1
    }

    #[test]
    fn only_the_top_is_claimed_and_delegators_may_take_it_back() {
        let claims = [
            (by(NEXT_HOP, 5, STRANGER), Granted),
            (by(REFERENCE, 3, RELAY), Granted),
            (by(HOP, 0, NEXT_RELAY), Granted),
            (by(REFERENCE, 3, STRANGER), Gone),
            (by(HOP, 0, RELAY), Gone),
            (by(HOP, 1, NEXT_RELAY), Gone),
            (by(NEXT_HOP, 0, STRANGER), Gone),
        ];
        for (claimant, answer) in claims {
            let (state, said) = claim(delegated_twice(), claimant, NOW);
            assert_eq!(said, answer, "{claimant:?}");
            assert_eq!(matches!(state, RecipientState::Claimed(_)), answer == Granted);
        }
        let (revoked, _) = claim(delegated_twice(), by(REFERENCE, 3, RELAY), NOW);
        assert_eq!(claim(revoked, by(NEXT_HOP, 5, STRANGER), NOW).1, Gone, "it was revoked");
    }

    #[test]
    fn delegation_contends_with_claims_and_with_delegation() {
        let (state, _) = delegate(offered(), by(REFERENCE, 3, RELAY), HOP, 0);
        assert_eq!(word(delegate(state, by(REFERENCE, 3, STRANGER), NEXT_HOP, 0)), Taken);
        let (claimed, _) = claim(offered(), by(REFERENCE, 3, STRANGER), NOW);
        assert_eq!(word(delegate(claimed, by(REFERENCE, 3, RELAY), HOP, 0)), Taken);
        let (closed, _) = close(offered());
        assert_eq!(word(delegate(closed, by(REFERENCE, 3, RELAY), HOP, 0)), Gone);
        let others = [RecipientState::Queued, offered()];
        assert_eq!(others.map(|state| word(delegate(state, by(HOP, 3, RELAY), NEXT_HOP, 0))), [Gone, Gone]);
        assert_eq!(word(delegate(offered(), by(REFERENCE, 2, RELAY), HOP, 0)), Gone);
    }

    #[test]
    fn a_chain_ends_somewhere() {
        let mut state = offered();
        let mut below = (REFERENCE, 3);
        for n in 0..MAX_DELEGATIONS {
            let hop = ReferenceId([100 + n as u8; 16]);
            let (next, answer) = delegate(state, by(below.0, below.1, RELAY), hop, 0);
            assert_eq!(answer, Granted);
            (state, below) = (next, (hop, 0));
        }
        assert_eq!(word(delegate(state, by(below.0, 0, RELAY), HOP, 0)), Gone);
    }

    #[test]
    fn whoever_delegated_may_say_that_it_failed_and_nothing_else() {
        let outcome = |action| Outcome {
            action,
            status: EnhancedStatus::permanent(1, 1),
            text: "no".into(),
            at: NOW,
            reported: false,
            withdrawn: false,
        };
        let said = |claimant, action| receipt(delegated_twice(), claimant, false, outcome(action));
        for (claimant, is_heard) in [
            (by(REFERENCE, 3, RELAY), true),
            (by(HOP, 0, NEXT_RELAY), true),
            (by(REFERENCE, 3, NEXT_RELAY), false),
            (by(HOP, 0, RELAY), false),
            (by(NEXT_HOP, 5, STRANGER), false),
        ] {
            let (state, word) = said(claimant, Action::Failed);
            assert_eq!(word == ReceiptWord::News, is_heard, "{claimant:?}");
            assert_eq!(matches!(&state, RecipientState::Done { .. }), is_heard);
            if is_heard {
                let again = receipt(state, claimant, false, outcome(Action::Failed));
                assert_eq!(again.1, ReceiptWord::Known);
            }
        }
        for action in [Action::Delivered, Action::Relayed, Action::Delayed] {
            assert_eq!(said(by(REFERENCE, 3, RELAY), action).1, ReceiptWord::NotYours, "{action}");
        }
        let (closed, _) = close(delegated_twice());
        let late = receipt(closed, by(REFERENCE, 3, RELAY), false, outcome(Action::Failed));
        assert_eq!(late.1, ReceiptWord::NotYours, "it goes by value by now");
    }
}
