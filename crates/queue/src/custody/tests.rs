//! Every cell of the custody tables. The names of the tests are what the specification cites.

use super::*;
use mail::EnhancedStatus;

const NOW: Timestamp = Timestamp::from_secs(1000);
const LATER: Timestamp = Timestamp::from_secs(2000);
const REFERENCE: ReferenceId = ReferenceId([1; 16]);
const ANOTHER: ReferenceId = ReferenceId([2; 16]);
const MX1: InstanceId = InstanceId([11; 16]);
const MX2: InstanceId = InstanceId([12; 16]);

fn outcome(action: Action) -> Outcome {
    Outcome {
        action,
        status: EnhancedStatus::success(0, 0),
        text: action.to_string(),
        at: NOW,
        reported: false,
        withdrawn: false,
    }
}

fn by(instance: InstanceId) -> Claimant {
    Claimant { reference: REFERENCE, index: 3, instance }
}

fn queued() -> RecipientState {
    RecipientState::Queued
}

fn offered(accepted: Option<Timestamp>, closed: bool) -> RecipientState {
    RecipientState::Offered(Offered { reference: REFERENCE, index: 3, accepted, closed, delegations: Vec::new() })
}

fn claimed(instance: InstanceId) -> RecipientState {
    RecipientState::Claimed(by(instance).claim(NOW))
}

fn done(action: Action, claimant: Option<InstanceId>) -> RecipientState {
    RecipientState::Done { outcome: outcome(action), claim: claimant.map(|instance| by(instance).claim(NOW)) }
}

/// One of each state that the origin knows.
fn origin_states() -> Vec<RecipientState> {
    let mut all = vec![queued(), offered(None, false), offered(Some(NOW), false), offered(Some(NOW), true)];
    all.extend([claimed(MX1), claimed(MX2), claimed(BY_REPLY)]);
    for action in [Action::Delivered, Action::Relayed, Action::Expanded, Failed] {
        all.extend([done(action, None), done(action, Some(MX1))]);
    }
    all
}

#[test]
fn origin_claim_is_granted_once_and_again_to_the_same_store() {
    for accepted in [None, Some(NOW)] {
        // A claim may come while the reply to the offer is still under way.
        assert_eq!(claim(offered(accepted, false), by(MX1), NOW), (claimed(MX1), Granted));
    }
    assert_eq!(claim(claimed(MX1), by(MX1), LATER), (claimed(MX1), Granted));
    assert_eq!(
        claim(done(Action::Delivered, Some(MX1)), by(MX1), LATER),
        (done(Action::Delivered, Some(MX1)), Granted)
    );
}

#[test]
fn origin_claim_is_taken_for_every_other_store() {
    assert_eq!(claim(claimed(MX1), by(MX2), LATER), (claimed(MX1), Taken));
    for action in [Action::Delivered, Relayed, Action::Expanded, Failed] {
        assert_eq!(claim(done(action, Some(MX1)), by(MX2), LATER), (done(action, Some(MX1)), Taken));
    }
}

#[test]
fn origin_claim_is_gone_where_the_record_was_won() {
    for state in [queued(), offered(Some(NOW), true), done(Failed, None), done(Relayed, None)] {
        assert_eq!(claim(state.clone(), by(MX1), NOW), (state, Gone));
    }
}

#[test]
fn origin_claim_is_gone_for_another_reference_or_index() {
    for wrong in [Claimant { reference: ANOTHER, ..by(MX1) }, Claimant { index: 4, ..by(MX1) }] {
        for state in origin_states() {
            assert_eq!(claim(state.clone(), wrong, NOW), (state, Gone));
        }
    }
}

#[test]
fn origin_claim_by_reply_takes_the_name_of_the_store_that_then_claims() {
    assert_eq!(claimed_by_reply(offered(None, true), REFERENCE, NOW), (claimed(BY_REPLY), true));
    assert_eq!(claim(claimed(BY_REPLY), by(MX1), LATER), (claimed(MX1), Granted));
    assert_eq!(act(claimed(BY_REPLY), by(MX1), LATER), (claimed(MX1), Granted));
    for state in [queued(), claimed(MX1), done(Failed, None)] {
        assert_eq!(claimed_by_reply(state.clone(), REFERENCE, NOW), (state, false));
    }
    assert_eq!(claimed_by_reply(offered(None, true), ANOTHER, NOW), (offered(None, true), false));
}

#[test]
fn origin_refusal_after_retrieval_is_a_claim_with_its_outcome() {
    let refuse = |state, instance| refuse(state, by(instance), outcome(Failed), NOW);
    assert_eq!(refuse(offered(Some(NOW), false), MX1), (done(Failed, Some(MX1)), (Granted, true)));
    assert_eq!(refuse(claimed(MX1), MX1), (done(Failed, Some(MX1)), (Granted, true)));
    assert_eq!(refuse(done(Failed, Some(MX1)), MX1), (done(Failed, Some(MX1)), (Granted, false)), "repeated");
    assert_eq!(refuse(claimed(MX2), MX1), (claimed(MX2), (Taken, false)));
    assert_eq!(refuse(queued(), MX1), (queued(), (Gone, false)));
}

#[test]
fn origin_acted_wins_over_everything_that_is_still_here() {
    for state in [queued(), offered(None, false), offered(Some(NOW), false), offered(Some(NOW), true)] {
        assert_eq!(act(state, by(MX1), NOW), (claimed(MX1), Granted));
    }
    assert_eq!(act(claimed(MX1), by(MX1), LATER), (claimed(MX1), Granted));
}

#[test]
fn origin_acted_stands_beside_whoever_was_first() {
    for state in [claimed(MX2), done(Action::Delivered, Some(MX2))] {
        assert_eq!(act(state.clone(), by(MX1), NOW), (state, Taken));
    }
    for state in [done(Relayed, None), done(Failed, None)] {
        assert_eq!(act(state.clone(), by(MX1), NOW), (state, Gone));
    }
}

#[test]
fn origin_receipt_of_the_claimant_ends_it() {
    for action in [Action::Delivered, Relayed, Action::Expanded, Failed] {
        let end = receipt(claimed(MX1), by(MX1), false, outcome(action));
        assert_eq!(end, (done(action, Some(MX1)), ReceiptWord::News));
    }
}

#[test]
fn origin_receipt_delayed_ends_nothing() {
    assert_eq!(receipt(claimed(MX1), by(MX1), false, outcome(Delayed)), (claimed(MX1), ReceiptWord::News));
    let known = done(Relayed, Some(MX1));
    assert_eq!(receipt(known.clone(), by(MX1), false, outcome(Delayed)), (known, ReceiptWord::Known));
}

#[test]
fn origin_receipt_is_idempotent_and_the_first_outcome_stands() {
    for known in [Action::Delivered, Action::Expanded, Failed] {
        for said in [Action::Delivered, Relayed, Action::Expanded, Failed] {
            let state = done(known, Some(MX1));
            assert_eq!(receipt(state.clone(), by(MX1), false, outcome(said)), (state, ReceiptWord::Known));
        }
    }
}

#[test]
fn origin_receipt_failed_after_relayed_is_news() {
    for late in [Failed, Action::Delivered, Action::Expanded] {
        let end = receipt(done(Relayed, Some(MX1)), by(MX1), false, outcome(late));
        assert_eq!(end, (done(late, Some(MX1)), ReceiptWord::News));
    }
}

#[test]
fn origin_receipt_of_anybody_else_is_not_recorded() {
    for state in origin_states() {
        let (after, word) = receipt(state.clone(), by(InstanceId([99; 16])), false, outcome(Failed));
        assert_eq!((after, word), (state, ReceiptWord::NotYours));
    }
    let wrong_index = Claimant { index: 4, ..by(MX1) };
    assert_eq!(receipt(claimed(MX1), wrong_index, false, outcome(Failed)).1, ReceiptWord::NotYours);
}

#[test]
fn origin_receipt_of_a_store_that_acted_corrects_only_for_the_better() {
    let good = |state| receipt(state, by(MX2), true, outcome(Action::Delivered));
    let corrected = |instead_of| (done(Action::Delivered, Some(MX2)), ReceiptWord::Corrects { instead_of });
    assert_eq!(good(done(Failed, None)), corrected(None));
    assert_eq!(good(done(Failed, Some(MX1))), corrected(Some(MX1)));
    assert_eq!(good(claimed(MX1)), corrected(Some(MX1)));
    assert_eq!(good(done(Relayed, None)), (done(Relayed, None), ReceiptWord::Known));
    for state in origin_states().into_iter().filter(|state| *state != claimed(MX2)) {
        let (after, word) = receipt(state.clone(), by(MX2), true, outcome(Failed));
        assert_eq!((after, word), (state, ReceiptWord::Known), "bad news of a second copy change nothing");
    }
}

#[test]
fn origin_conclusion_needs_custody_here() {
    for state in origin_states() {
        let here = matches!(state, RecipientState::Queued | RecipientState::Offered(_));
        let after = if here { done(Failed, None) } else { state.clone() };
        assert_eq!(conclude(state, outcome(Failed)), (after, here));
    }
}

#[test]
fn origin_offer_needs_that_nothing_is_out() {
    for state in origin_states() {
        let free = state == queued();
        let after = if free { offered(None, false) } else { state.clone() };
        assert_eq!(offer(state, REFERENCE, 3), (after, free));
    }
}

#[test]
fn origin_250_starts_the_clock_of_an_open_offer_only() {
    assert_eq!(accepted(offered(None, false), REFERENCE, NOW), (offered(Some(NOW), false), true));
    assert_eq!(accepted(offered(None, true), REFERENCE, NOW), (offered(None, true), false));
    assert_eq!(accepted(offered(None, false), ANOTHER, NOW), (offered(None, false), false));
    for state in [queued(), claimed(MX1), done(Failed, None)] {
        assert_eq!(accepted(state.clone(), REFERENCE, NOW), (state, false));
    }
}

#[test]
fn origin_fall_back_wins_the_record_or_asks_again() {
    assert_eq!(close(offered(Some(NOW), false)), (offered(Some(NOW), true), true));
    assert_eq!(ask_again(offered(Some(NOW), false)), (offered(None, false), true));
    for state in [queued(), offered(Some(NOW), true), claimed(MX1), done(Failed, None)] {
        assert_eq!(close(state.clone()), (state.clone(), false));
        assert_eq!(ask_again(state.clone()), (state, false));
    }
}

#[test]
fn origin_wins_back_only_what_is_still_offered() {
    assert_eq!(win_back(offered(Some(NOW), true), REFERENCE), (queued(), true));
    assert_eq!(win_back(offered(None, false), ANOTHER), (offered(None, false), false));
    for state in [queued(), claimed(MX1), done(Failed, None)] {
        assert_eq!(win_back(state.clone(), REFERENCE), (state, false));
    }
}

fn last(action: Action, acknowledged: bool, acted: bool) -> IndexState {
    IndexState::Final { outcome: outcome(action), acknowledged, acted }
}

/// One of each state that the receiver knows.
fn receiver_states() -> Vec<IndexState> {
    let mut all = vec![IndexState::Refused, IndexState::Open, IndexState::Taken, IndexState::Gone];
    all.extend([IndexState::Mine { acted: false }, IndexState::Mine { acted: true }]);
    for action in [Action::Delivered, Relayed, Action::Expanded, Failed] {
        all.extend([last(action, false, false), last(action, true, false), last(action, false, true)]);
    }
    all
}

#[test]
fn receiver_answer_decides_an_open_index() {
    assert_eq!(answered(IndexState::Open, Granted), IndexState::Mine { acted: false });
    assert_eq!(answered(IndexState::Open, Taken), IndexState::Taken);
    assert_eq!(answered(IndexState::Open, Gone), IndexState::Gone);
}

#[test]
fn receiver_any_answer_acknowledges_acted_and_takes_nothing_back() {
    for answer in [Granted, Taken, Gone] {
        assert_eq!(answered(IndexState::Mine { acted: true }, answer), IndexState::Mine { acted: false });
        assert_eq!(answered(last(Failed, false, true), answer), last(Failed, false, false));
        for state in [IndexState::Refused, IndexState::Taken, IndexState::Gone] {
            assert_eq!(answered(state.clone(), answer), state);
        }
    }
}

#[test]
fn receiver_acts_and_gives_up_on_open_indexes_only() {
    for state in receiver_states() {
        let open = state == IndexState::Open;
        assert_eq!(acted(state.clone()), if open { IndexState::Mine { acted: true } } else { state.clone() });
        assert_eq!(given_up(state.clone()), if open { IndexState::Gone } else { state });
    }
}

#[test]
fn receiver_outcome_needs_custody() {
    for state in receiver_states() {
        let after = finished(state.clone(), outcome(Failed));
        match state {
            IndexState::Mine { acted } => assert_eq!(after, last(Failed, false, acted)),
            IndexState::Final { outcome, acted, .. } if outcome.action == Relayed => {
                assert_eq!(after, last(Failed, false, acted), "a late failure after relayed");
            }
            state => assert_eq!(after, state),
        }
    }
}

#[test]
fn receiver_acknowledgement_is_of_what_was_posted() {
    for state in receiver_states() {
        let after = acknowledged(state.clone(), Failed);
        match state {
            IndexState::Final { outcome, acted, .. } if outcome.action == Failed => {
                assert_eq!(after, last(Failed, true, acted));
            }
            state => assert_eq!(after, state),
        }
    }
}

#[test]
fn receiver_repeated_offer_sends_lost_receipts_again() {
    for state in receiver_states() {
        let after = asked_again(state.clone());
        match state {
            IndexState::Final { outcome, acted, .. } => assert_eq!(after, last(outcome.action, false, acted)),
            state => assert_eq!(after, state),
        }
    }
}
