//! From by reference to by value at the origin: refusals, silence, and the rule that the record is won first (TBR §8).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use mail::ledger::{Action, RecipientState};
use queue::ReferenceMode;
use queue::port::ClaimAnswer::{Gone, Granted};
use queue::port::{Command, JobEvent, JobId, Located, Proceed, Reply, Request, Selection};
use reference::message_signature::SignedBy;
use support::{DAY, HOUR, MINUTE, Server, done, later, never, secs, taken};

const BOB: &[&str] = &["bob@b.example"];
const BOB_AND_CAROL: &[&str] = &["bob@b.example", "carol@b.example"];

fn a() -> Server {
    Server::new("a.example", 1)
}

fn with_mode(mode: ReferenceMode) -> Server {
    let mut config = support::config("a.example");
    config.default_policy.mode = mode;
    Server::with(config, 1)
}

/// The next attempt, at once or when its pause is over.
fn next_attempt(a: &mut Server, tbr: bool) -> (JobId, Proceed) {
    while a.jobs.is_empty() {
        let wake = a.wake.expect("something will be due");
        a.pass(secs(wake.since(a.now).as_secs() + 1));
    }
    a.connect(tbr)
}

fn is_by_value(word: &Proceed, expected: &[u16]) -> bool {
    matches!(word, Proceed::ByValue { positions, .. } if positions == expected)
}

#[test]
fn a_rcpt_that_is_put_off_gets_a_new_reference_for_the_same_object() {
    let mut a = a();
    let (id, job, first) = a.offer(BOB_AND_CAROL);
    a.finish(job, true, vec![(0, taken()), (1, later(false))]);
    assert_eq!(a.claim(2, &first, &[0, 1]), Some(vec![Granted, Gone]));
    let (job, word) = next_attempt(&mut a, true);
    let Proceed::Offer { uri, block, positions } = word else { panic!("{word:?}") };
    assert_eq!(positions, [1]);
    let second = a.issued(&id);
    assert_eq!((&second.uri, &second.block, &second.positions), (&uri, &block, &vec![1]));
    assert!(second.id != first.id && second.grant != first.grant && block != first.block);
    let xuid = |uri: &str| reference::Uri::parse(uri).unwrap().xuid;
    assert_eq!(xuid(&first.uri), xuid(&second.uri));
    a.finish(job, true, vec![(1, taken())]);
    assert_eq!(a.claim(2, &first, &[1]), Some(vec![Gone]), "the old reference never gets it back");
    assert_eq!(a.claim(2, &second, &[0]), Some(vec![Granted]));
    assert!(matches!(a.state(&id, 0, 1), RecipientState::Claimed(_)));
}

#[test]
fn a_peer_that_answers_504_gets_it_by_value_in_the_same_session() {
    let mut a = a();
    let (id, job, issued) = a.offer(BOB_AND_CAROL);
    a.event(job, JobEvent::OfferDeclined { text: "504 5.5.4 cannot retrieve".into() });
    let (named, word) = a.words.pop_front().unwrap();
    assert!(named == job && is_by_value(&word, &[0, 1]), "{word:?}");
    assert_eq!(a.claim(2, &issued, &[0, 1]), Some(vec![Gone, Gone]));
    a.finish(job, false, vec![(0, taken()), (1, later(false))]);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { claim: None, .. }));
    let (_, word) = next_attempt(&mut a, true);
    assert!(is_by_value(&word, &[1]), "it stays by value: {word:?}");
}

#[test]
fn what_is_claimed_is_not_sent_by_value_after_504() {
    let mut a = a();
    let (_, job, issued) = a.offer(BOB_AND_CAROL);
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
    a.event(job, JobEvent::OfferDeclined { text: "504".into() });
    let (_, word) = a.words.pop_front().unwrap();
    assert!(is_by_value(&word, &[1]), "{word:?}");
    a.finish(job, false, vec![(1, taken())]);

    let (_, job, issued) = a.offer(BOB);
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
    a.event(job, JobEvent::OfferDeclined { text: "504".into() });
    let (_, word) = a.words.pop_front().unwrap();
    assert!(matches!(word, Proceed::Abandon), "{word:?}");
}

#[test]
fn a_reference_that_is_put_off_is_offered_again_in_every_octet_and_goes_by_value_after_an_hour() {
    let mut a = a();
    let (id, mut job, issued) = a.offer(BOB);
    let began = a.now;
    loop {
        a.finish(job, true, vec![(0, later(true))]);
        let (next, word) = next_attempt(&mut a, true);
        job = next;
        match word {
            Proceed::Offer { uri, block, positions } => {
                assert_eq!((uri, block, positions), (issued.uri.clone(), issued.block.clone(), vec![0]));
                assert!(a.now.since(began) < 3 * HOUR, "for ever by reference");
            }
            word => {
                assert!(is_by_value(&word, &[0]), "{word:?}");
                break;
            }
        }
    }
    assert!(a.now.since(began) >= HOUR, "only after an hour");
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Gone]));
    assert_eq!(a.leg(&id, 0).issued.len(), 1);
    a.finish(job, false, vec![(0, taken())]);
}

#[test]
fn a_claim_during_the_hour_ends_the_offers() {
    let mut a = a();
    let (_, job, issued) = a.offer(BOB);
    a.finish(job, true, vec![(0, later(true))]);
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
    a.pass(DAY);
    assert!(a.jobs.is_empty());
}

#[test]
fn a_refusal_of_the_reference_alone_means_by_value_at_once() {
    let mut a = a();
    let (id, job, issued) = a.offer(BOB);
    a.finish(job, true, vec![(0, never(true))]);
    assert!(a.report_texts().is_empty());
    let (job, word) = a.connect(true);
    assert!(is_by_value(&word, &[0]), "{word:?}");
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Gone]));
    a.finish(job, false, vec![(0, taken())]);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.action == Action::Relayed));
}

#[test]
fn an_offer_whose_answer_was_lost_is_repeated_in_every_octet() {
    let mut a = a();
    let (id, job, issued) = a.offer(BOB_AND_CAROL);
    a.unreachable(job);
    let (job, word) = next_attempt(&mut a, true);
    let Proceed::Offer { uri, block, positions } = word else { panic!("{word:?}") };
    assert_eq!((uri, block, positions), (issued.uri.clone(), issued.block.clone(), vec![0, 1]));
    a.unreachable(job);
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
    let (job, word) = next_attempt(&mut a, true);
    let Proceed::Offer { block, positions, .. } = word else { panic!("{word:?}") };
    assert_eq!((block, positions), (issued.block, vec![0, 1]), "the list of recipients is signed");
    a.finish(job, true, vec![(0, taken()), (1, taken())]);
    assert_eq!(a.leg(&id, 0).issued.len(), 1);
}

#[test]
fn an_offer_repeated_after_a_crash_is_the_same() {
    let mut a = a();
    let (_, _, issued) = a.offer(BOB);
    a.restart();
    let (_, word) = next_attempt(&mut a, true);
    let Proceed::Offer { uri, block, .. } = word else { panic!("{word:?}") };
    assert_eq!((uri, block), (issued.uri, issued.block));
}

#[test]
fn a_reference_that_is_out_is_won_back_before_a_peer_without_tbr_gets_the_message() {
    let mut a = a();
    let (_, job, issued) = a.offer(BOB);
    a.unreachable(job);
    let (_, word) = next_attempt(&mut a, false);
    assert!(is_by_value(&word, &[0]), "{word:?}");
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Gone]));
}

#[test]
fn two_hours_after_250_without_a_claim_it_is_offered_once_more_and_then_goes_by_value() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.pass(2 * HOUR - secs(1));
    assert!(a.jobs.is_empty());
    a.pass(secs(1));
    let (job, word) = a.connect(true);
    let Proceed::Offer { uri, block, .. } = word else { panic!("{word:?}") };
    assert_eq!((uri, block), (issued.uri.clone(), issued.block.clone()));
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Gone]), "the record was won first");
    a.finish(job, true, vec![(0, taken())]);
    let (job, word) = a.connect(true);
    assert!(is_by_value(&word, &[0]), "{word:?}");
    a.finish(job, false, vec![(0, taken())]);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { claim: None, .. }));
}

#[test]
fn the_word_done_to_the_offer_once_more_counts_as_the_claim() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.pass(2 * HOUR);
    let (job, word) = a.connect(true);
    assert!(matches!(word, Proceed::Offer { .. }));
    a.finish(job, true, vec![(0, done())]);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Claimed(_)));
    assert!(a.jobs.is_empty());
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]), "the first store that claims takes its name");
    assert_eq!(a.claim(3, &issued, &[0]), Some(vec![queue::port::ClaimAnswer::Taken]));
    assert_eq!(a.receipt(2, &issued, 0, Action::Delivered), Some(vec![0]));
}

#[test]
fn refusals_and_a_peer_without_tbr_end_the_question_too() {
    for answer in [later(true), never(true)] {
        let mut a = a();
        a.offered(BOB);
        a.pass(2 * HOUR);
        let (job, _) = a.connect(true);
        a.finish(job, true, vec![(0, answer.clone())]);
        let (_, word) = a.connect(true);
        assert!(is_by_value(&word, &[0]), "{answer:?}: {word:?}");
    }
    let mut a = a();
    a.offered(BOB);
    a.pass(2 * HOUR);
    let (_, word) = a.connect(false);
    assert!(is_by_value(&word, &[0]), "{word:?}");
}

#[test]
fn a_question_that_finds_nobody_is_put_again_before_anything_goes_by_value() {
    let mut a = a();
    let (_, issued) = a.offered(BOB);
    a.pass(2 * HOUR);
    let (job, _) = a.connect(true);
    a.unreachable(job);
    let (_, word) = next_attempt(&mut a, true);
    let Proceed::Offer { block, .. } = word else { panic!("{word:?}") };
    assert_eq!(block, issued.block);
}

#[test]
fn policy_never_sends_by_value_and_policy_require_waits() {
    let mut a = with_mode(ReferenceMode::Never);
    let id = a.submit("alice@a.example", BOB);
    let (_, word) = a.connect(true);
    assert!(is_by_value(&word, &[0]) && a.leg(&id, 0).issued.is_empty());

    let mut a = with_mode(ReferenceMode::Require);
    let id = a.submit("alice@a.example", BOB);
    let (job, word) = a.connect(false);
    assert!(matches!(word, Proceed::Abandon), "{word:?}");
    a.unreachable(job);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Queued));
    let (job, word) = next_attempt(&mut a, true);
    assert!(matches!(word, Proceed::Offer { .. }));
    a.event(job, JobEvent::OfferDeclined { text: "504".into() });
    let (_, word) = a.words.pop_front().unwrap();
    assert!(matches!(word, Proceed::Abandon), "{word:?}");
}

#[test]
fn policy_require_never_wins_an_unclaimed_reference_back() {
    let mut a = with_mode(ReferenceMode::Require);
    let (_, issued) = a.offered(BOB);
    a.pass(2 * HOUR);
    let (job, word) = a.connect(true);
    assert!(matches!(word, Proceed::Offer { .. }));
    a.finish(job, true, vec![(0, taken())]);
    assert!(a.jobs.is_empty());
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
}

#[test]
fn small_messages_and_foreign_senders_go_by_value() {
    let mut config = support::config("a.example");
    config.default_policy.by_value_below = 1000;
    let mut a = Server::with(config, 1);
    a.submit("alice@a.example", BOB);
    let (_, word) = a.connect(true);
    assert!(is_by_value(&word, &[0]), "{word:?}");

    let mut a = Server::new("a.example", 1);
    a.submit("mallory@elsewhere.example", BOB);
    let (_, word) = a.connect(true);
    assert!(is_by_value(&word, &[0]), "{word:?}");
}

#[test]
fn a_withdrawal_before_the_session_is_open_leaves_nothing_to_send() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    a.jobs.clear();
    a.restart();
    a.command(Command::Hold(Selection::Message(id.clone())));
    a.jobs.clear();
    a.restart();
    a.command(Command::Withdraw(Selection::Message(id.clone())));
    a.pass(MINUTE);
    assert!(a.jobs.is_empty());
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { claim: None, .. }));
    assert!(a.leg(&id, 0).object.is_none());
}

#[test]
fn what_is_won_back_can_no_longer_be_fetched() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.pass(2 * HOUR + MINUTE);
    let (_, word) = next_attempt(&mut a, true);
    assert!(matches!(word, Proceed::Offer { .. }), "it is offered once more: {word:?}");
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Offered(offered) if offered.closed));
    let xuid = support::object(b"A: b\r\n\r\nc\r\n").xuid;
    let located = a.ask(Request::Locate { xuid, grant: issued.grant, signed: SignedBy::default() });
    assert!(matches!(located, Reply::Object(Located::Gone)), "{located:?}");
}
