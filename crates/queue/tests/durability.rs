//! Nothing leaves before its commit, conflicts are applied again to what is there now, a full ledger loses nothing, and
//! neither does a crash.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use mail::InstanceId;
use mail::ledger::{Action, Inbound, IndexState, Phase, RecipientState};
use queue::port::ClaimAnswer::{Gone, Granted, Taken};
use queue::port::{
    Command, DeliveryEnd, Input, JobEvent, JobId, OfferAnswer, Peer, Proceed, ReceiptEntry, Reply, Request, Selection,
    Work,
};
use reference::message_signature::SignedBy;
use support::{FACTS, HOUR, MINUTE, Server, claim_of, done, inbound_of, never, object, outcome, secs, taken};

const BOB: &[&str] = &["bob@b.example"];
const CONTENT: &[u8] = b"A: b\r\n\r\nc\r\n";

fn a() -> Server {
    Server::new("a.example", 1)
}

fn reference() -> Inbound {
    let (_, _, issued) = a().offer(BOB);
    inbound_of(&issued.uri, &issued.block, BOB, "in1", a().now)
}

/// b.example with an accepted reference, about to retrieve it.
fn b() -> (Server, JobId) {
    let mut b = Server::new("b.example", 2);
    b.ask(Request::Offer(Box::new(reference())));
    let (job, work) = b.jobs.pop_front().unwrap();
    assert!(matches!(work, Work::Retrieve(_)));
    (b, job)
}

fn retrieved() -> JobEvent {
    JobEvent::Retrieved { object: object(CONTENT), facts: FACTS, octets: 12 }
}

/// Holds the ledger back while this request is made; returns its reply.
fn ask_slowly(server: &mut Server, request: Request) -> Reply {
    let call = server.next_call();
    let commits = server.nothing_leaves_before_its_commit(Input::Call { call, request });
    assert!(commits > 0, "it writes");
    server.replies.remove(&call).expect("a reply")
}

fn event_slowly(server: &mut Server, job: JobId, event: JobEvent) {
    assert!(server.nothing_leaves_before_its_commit(Input::Job { job, event }) > 0, "it writes");
}

fn posted(server: &mut Server) -> (JobId, Work) {
    server.jobs.pop_front().expect("a post")
}

/// What is turned away because a commit of it is under way is not forgotten when that comes to nothing.
#[test]
fn what_comes_up_while_a_commit_of_it_fails_is_begun_afterwards() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    let (job, _) = a.delivery();
    a.unreachable(job);
    let due = a.wake.unwrap();
    a.hold = true;
    let call = a.next_call();
    a.input(Input::Call { call, request: Request::Command(Command::Hold(Selection::Leg(id, 0))) });
    while !a.wants_to_commit() {
        a.answer_the_last();
    }
    // It is due before the commit is answered, and the ledger says so first.
    a.now = due;
    a.input(Input::Tick);
    a.answer_the_last();
    assert!(a.jobs.is_empty(), "a change of it is under way");
    a.ledger.fail = 1;
    a.answer_the_last();
    assert!(matches!(a.replies[&call], Reply::Unavailable));
    a.answer_the_last();
    assert_eq!(a.delivery().1.leg.attempts, 1, "it is tried again");
}

/// Whatever a node has forgotten, the ledger has not.
#[test]
fn a_due_row_that_nobody_has_in_mind_is_found_all_the_same() {
    let mut b = Server::new("b.example", 2);
    b.input(Input::Tick);
    b.ledger.rows = self::b().0.ledger.rows;
    b.pass(MINUTE);
    assert!(b.jobs.is_empty(), "nobody has told the node of it");
    b.pass(10 * MINUTE);
    assert!(matches!(posted(&mut b).1, Work::Retrieve(_)));
}

#[test]
fn an_offer_leaves_after_its_reference_is_durable() {
    let mut a = a();
    a.submit("alice@a.example", BOB);
    let (job, _) = a.delivery();
    let peer = Peer { name: "mx.b.example".into(), tbr: true, ..Default::default() };
    event_slowly(&mut a, job, JobEvent::Connected(peer));
    assert!(matches!(a.words.pop_front(), Some((_, Proceed::Offer { .. }))));
}

#[test]
fn by_value_after_504_begins_after_the_record_is_won() {
    let mut a = a();
    let (_, job, _) = a.offer(BOB);
    event_slowly(&mut a, job, JobEvent::OfferDeclined { text: "504".into() });
    assert!(matches!(a.words.pop_front(), Some((_, Proceed::ByValue { .. }))));
}

#[test]
fn the_offer_once_more_leaves_after_the_record_is_won() {
    let mut a = a();
    let (_, issued) = a.offered(BOB);
    a.now = a.now.after(2 * HOUR);
    assert!(a.nothing_leaves_before_its_commit(Input::Tick) > 0);
    assert_eq!(a.jobs.len(), 1);
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Gone]));
}

#[test]
fn claims_receipts_and_commands_are_answered_after_their_commit() {
    let mut a = a();
    let (id, issued) = a.offered(&["bob@b.example", "carol@b.example"]);
    let instance = InstanceId([2; 16]);
    let reply = ask_slowly(
        &mut a,
        Request::Claims { instance, claims: vec![claim_of(&issued, &[0])], signed: SignedBy::default() },
    );
    assert!(matches!(&reply, Reply::Claims(answers) if answers[0] == Some(vec![(0, Granted)])), "{reply:?}");
    let outcomes = vec![(0, outcome(Action::Failed, a.now))];
    let entry = ReceiptEntry { to: issued.to.clone(), id: issued.id, grant: issued.grant.clone(), outcomes };
    let reply = ask_slowly(&mut a, Request::Receipts { instance, receipts: vec![entry], signed: SignedBy::default() });
    assert!(matches!(&reply, Reply::Receipts(answers) if answers[0] == Some(vec![0])), "{reply:?}");
    assert_eq!(a.report_texts().len(), 1, "the report is in the same commit");
    let reply = ask_slowly(&mut a, Request::Command(Command::Withdraw(Selection::Message(id))));
    assert!(matches!(reply, Reply::Commanded(_)), "{reply:?}");
}

#[test]
fn offers_are_answered_claims_sent_and_mail_delivered_after_their_commits() {
    let mut b = Server::new("b.example", 2);
    let reply = ask_slowly(&mut b, Request::Offer(Box::new(reference())));
    assert!(matches!(reply, Reply::Offer(OfferAnswer::Pending(_))), "{reply:?}");
    let (job, _) = posted(&mut b);

    event_slowly(&mut b, job, retrieved());
    let (job, work) = posted(&mut b);
    assert!(matches!(work, Work::PostClaims(_)) && matches!(b.inbound().phase, Phase::Claiming { .. }));

    event_slowly(&mut b, job, JobEvent::Claimed(vec![Some(vec![(0, Granted)])]));
    let (job, work) = posted(&mut b);
    assert!(matches!(work, Work::Deliver(_)));

    let outcomes = vec![(0, done())];
    let end = DeliveryEnd::Transaction { offer: false, outcomes, peer: "maildir".into(), octets: 12 };
    event_slowly(&mut b, job, JobEvent::Delivered(end));
    let (_, work) = posted(&mut b);
    assert!(matches!(work, Work::PostReceipts(_)));
}

#[test]
fn custody_without_an_answer_is_durable_before_the_delivery() {
    let (mut b, job) = b();
    b.event(job, retrieved());
    b.pass_unreachable(HOUR - secs(1));
    b.now = b.now.after(secs(1));
    assert!(b.nothing_leaves_before_its_commit(Input::Tick) > 0);
    assert_eq!(b.inbound().recipients[0].state, IndexState::Mine { acted: true });
    assert!(b.jobs.iter().any(|(_, work)| matches!(work, Work::Deliver(_))));
}

#[test]
fn a_conflict_is_applied_again_with_the_same_result() {
    let run = |conflict: usize| {
        let (mut a, instance) = (a(), InstanceId([2; 16]));
        a.ledger.conflict = conflict;
        let id = a.submit("alice@a.example", BOB);
        a.ledger.conflict = conflict;
        let (job, word) = a.connect(true);
        assert!(matches!(word, Proceed::Offer { .. }), "{word:?}");
        a.ledger.conflict = conflict;
        a.finish(job, true, vec![(0, taken())]);
        let issued = a.issued(&id);
        a.ledger.conflict = conflict;
        assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
        assert_eq!(a.claim(3, &issued, &[0]), Some(vec![Taken]));
        a.ledger.conflict = conflict;
        assert_eq!(a.receipt(2, &issued, 0, Action::Failed), Some(vec![0]));
        assert_eq!(a.ledger.conflict, 0, "every commit was put to the test");
        let RecipientState::Done { outcome, claim: Some(claim) } = a.state(&id, 0, 0).clone() else { panic!() };
        assert_eq!((outcome.action, claim.instance), (Action::Failed, instance));
        let steps: Vec<String> = a.leg(&id, 0).steps.iter().map(|step| step.what.clone()).collect();
        (a.reports().len(), steps)
    };
    let expected = run(0);
    assert_eq!(run(1), expected);
    assert_eq!(run(3), expected);
}

#[test]
fn a_conflict_at_the_receiver_is_applied_again_with_the_same_result() {
    let run = |conflict: usize| {
        let mut b = Server::new("b.example", 2);
        b.ledger.conflict = conflict;
        let reply = b.ask(Request::Offer(Box::new(reference())));
        assert!(matches!(reply, Reply::Offer(OfferAnswer::Pending(_))), "{reply:?}");
        let (job, _) = posted(&mut b);
        b.ledger.conflict = conflict;
        b.event(job, retrieved());
        let (job, _) = posted(&mut b);
        b.ledger.conflict = conflict;
        b.event(job, JobEvent::Claimed(vec![Some(vec![(0, Granted)])]));
        let (job, work) = posted(&mut b);
        assert!(matches!(work, Work::Deliver(_)) && b.jobs.is_empty(), "one delivery");
        b.ledger.conflict = conflict;
        b.finish(job, false, vec![(0, never(false))]);
        let (job, _) = posted(&mut b);
        b.ledger.conflict = conflict;
        b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
        assert_eq!((b.ledger.conflict, b.inbound().phase.clone()), (0, Phase::Closed));
        assert!(b.jobs.is_empty());
        let steps: Vec<String> = b.inbound().steps.iter().map(|step| step.what.clone()).collect();
        (b.ledger.rows.len(), steps)
    };
    let expected = run(0);
    assert_eq!(run(1), expected);
    assert_eq!(run(3), expected);
}

#[test]
fn when_the_ledger_fails_whoever_asks_is_told_and_facts_are_kept_until_it_works() {
    let mut a = a();
    let (id, job, issued) = a.offer(BOB);
    a.ledger.fail = 1;
    let request = Request::Claims {
        instance: InstanceId([2; 16]),
        claims: vec![claim_of(&issued, &[0])],
        signed: SignedBy::default(),
    };
    assert!(matches!(a.ask(request), Reply::Unavailable));
    a.ledger.fail = 3;
    a.finish(job, true, vec![(0, taken())]);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Offered(offered) if offered.accepted.is_none()));
    a.pass(MINUTE);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Offered(offered) if offered.accepted.is_some()));
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
}

#[test]
fn when_the_ledger_fails_nothing_is_offered_in_the_open_session() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    a.ledger.fail = 1;
    let (job, word) = a.connect(true);
    assert!(matches!(word, Proceed::Abandon), "{word:?}");
    a.finish(job, false, Vec::new());
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Queued));
    a.pass(HOUR);
    assert!(matches!(a.connect(true).1, Proceed::Offer { .. }));
}

#[test]
fn a_crash_of_the_origin_keeps_every_claim() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    a.restart();
    assert_eq!(a.claim(3, &issued, &[0]), Some(vec![Taken]));
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
    a.pass(6 * HOUR);
    assert!(a.jobs.is_empty(), "custody is elsewhere");
    assert_eq!(a.receipt(2, &issued, 0, Action::Delivered), Some(vec![0]));
    assert!(a.leg(&id, 0).object.is_none());
}

#[test]
fn a_crash_of_the_receiver_at_any_point_goes_on_where_the_ledger_stands() {
    let (mut b, _) = b();
    b.restart();
    let (job, work) = posted(&mut b);
    assert!(matches!(work, Work::Retrieve(_)));
    b.event(job, retrieved());
    let Phase::Claiming { first_sent } = b.inbound().phase else { panic!() };
    b.now = b.now.after(MINUTE);
    b.restart();
    assert_eq!(b.inbound().phase, Phase::Claiming { first_sent }, "the hour runs from the first claim");
    let (job, work) = posted(&mut b);
    assert!(matches!(work, Work::PostClaims(_)));
    b.event(job, JobEvent::Claimed(vec![Some(vec![(0, Granted)])]));
    b.restart();
    let (job, work) = posted(&mut b);
    assert!(matches!(work, Work::Deliver(_)) && b.jobs.is_empty());
    b.finish(job, false, vec![(0, done())]);
    b.restart();
    let (job, work) = posted(&mut b);
    assert!(matches!(work, Work::PostReceipts(_)) && b.jobs.is_empty());
    b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
    b.restart();
    assert!(b.jobs.is_empty());
    assert_eq!(b.inbound().phase, Phase::Closed);
}

#[test]
fn what_was_reached_by_value_cannot_be_given_up_before_that_is_recorded() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    let (job, _) = a.connect(false);
    a.ledger.fail = 1;
    a.finish(job, false, vec![(0, taken())]);
    let all = || Selection::Message(id.clone());
    for command in [Command::Fail(all()), Command::Withdraw(all())] {
        let said = a.command(command);
        assert!(said[0].contains("too late"), "{said:?}");
    }
    a.pass(MINUTE);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.action == Action::Relayed));
    assert!(a.report_texts().is_empty());
}
