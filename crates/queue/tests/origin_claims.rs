//! Claims and receipts at the origin: who gets custody of an index, and who may say what became of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use mail::ledger::{Action, Outcome, RecipientState};
use mail::{Grant, InstanceId, ReferenceId};
use queue::port::ClaimAnswer::{Gone, Granted, Taken};
use queue::port::{ClaimEntry, Command, Located, ReceiptEntry, Reply, Request, Selection};
use reference::message_signature::SignedBy;
use support::{DAY, HOUR, MINUTE, Server, claim_of, domain, never, outcome, taken};

const BOB: &[&str] = &["bob@b.example"];
const BOB_AND_CAROL: &[&str] = &["bob@b.example", "carol@b.example"];

fn a() -> Server {
    Server::new("a.example", 1)
}

/// Policy insists on references: nothing falls back to by value.
fn insisting() -> Server {
    let mut config = support::config("a.example");
    config.default_policy.mode = queue::ReferenceMode::Require;
    Server::with(config, 1)
}

#[test]
fn the_first_claimant_of_an_index_wins_and_a_repetition_is_granted_again() {
    let mut a = a();
    let (_, issued) = a.offered(BOB_AND_CAROL);
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
    assert_eq!(a.claim(3, &issued, &[0, 1]), Some(vec![Taken, Granted]));
    assert_eq!(a.claim(2, &issued, &[0, 1]), Some(vec![Granted, Taken]));
    a.pass(HOUR);
    let commits = a.ledger.commits;
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
    assert_eq!(a.ledger.commits, commits, "a repetition changes nothing");
}

#[test]
fn a_claim_that_overtakes_the_reply_to_the_offer_stands() {
    let mut a = a();
    let (id, job, issued) = a.offer(BOB);
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
    a.finish(job, true, vec![(0, taken())]);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Claimed(_)));
    assert!(a.jobs.is_empty());
}

#[test]
fn a_claim_that_overtakes_a_refused_rcpt_stands() {
    let mut a = a();
    let (id, job, issued) = a.offer(BOB);
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
    a.finish(job, true, vec![(0, never(false))]);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Claimed(_)));
    assert!(a.report_texts().is_empty());
}

#[test]
fn a_claim_with_another_grant_domain_or_id_gets_no_answer() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    let right = claim_of(&issued, &[0]);
    let grant = Grant::new(&[9; 16]).unwrap();
    for wrong in [
        ClaimEntry { grant, ..right.clone() },
        ClaimEntry { to: domain("c.example"), ..right.clone() },
        ClaimEntry { id: ReferenceId([9; 16]), ..right.clone() },
    ] {
        assert_eq!(a.claim_as(2, wrong), None);
    }
    let beyond = a.claim_as(2, ClaimEntry { indexes: vec![7], ..right.clone() });
    assert_eq!(beyond.unwrap_or_default(), [], "an index that the offer does not have");
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Offered(_)));
    assert_eq!(a.claim_as(2, right), Some(vec![(0, Granted)]));
}

#[test]
fn one_request_may_claim_from_several_messages() {
    let mut a = a();
    let (_, first) = a.offered(BOB);
    let (_, second) = a.offered(BOB_AND_CAROL);
    let unknown = ClaimEntry { id: ReferenceId([9; 16]), ..claim_of(&first, &[0]) };
    let claims = vec![claim_of(&first, &[0]), unknown, claim_of(&second, &[0, 1])];
    let reply = a.ask(Request::Claims { instance: mail::InstanceId([2; 16]), claims, signed: SignedBy::default() });
    let Reply::Claims(answers) = reply else { panic!("{reply:?}") };
    assert_eq!(answers, [Some(vec![(0, Granted)]), None, Some(vec![(0, Granted), (1, Granted)])]);
}

#[test]
fn after_a_withdrawal_a_claim_is_told_gone_and_after_a_claim_a_withdrawal_comes_too_late() {
    let mut a = a();
    let (id, issued) = a.offered(BOB_AND_CAROL);
    assert_eq!(a.claim(2, &issued, &[1]), Some(vec![Granted]));
    let words = a.command(Command::Withdraw(Selection::Message(id.clone())));
    assert!(words[0].contains("withdrawn") && words[1].contains("claimed"), "{words:?}");
    assert_eq!(a.claim(2, &issued, &[0, 1]), Some(vec![Gone, Granted]));
    assert!(a.report_texts().is_empty(), "whoever withdraws knows");
    assert_eq!(a.receipt(2, &issued, 1, Action::Delivered), Some(vec![1]));
    let located = a.ask(Request::Locate {
        xuid: support::object(b"A: b\r\n\r\nc\r\n").xuid,
        grant: issued.grant,
        signed: SignedBy::default(),
    });
    assert!(matches!(located, Reply::Object(Located::Gone)), "{located:?}");
}

#[test]
fn the_origin_grants_until_it_has_recorded_the_expiry() {
    let mut a = insisting();
    let (_, first) = a.offered(BOB);
    let (id, second) = a.offered(BOB);
    a.pass_unreachable(5 * DAY + 10 * MINUTE);
    assert!(a.now > first.expires);
    assert_eq!(a.claim(2, &first, &[0]), Some(vec![Granted]));
    a.pass_unreachable(10 * MINUTE);
    assert_eq!(a.claim(2, &second, &[0]), Some(vec![Gone]));
    assert!(
        matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, claim: None } if outcome.action == Action::Failed)
    );
}

#[test]
fn a_refused_rcpt_closes_its_index_and_no_other() {
    let mut a = a();
    let (id, job, issued) = a.offer(BOB_AND_CAROL);
    a.finish(job, true, vec![(0, never(false)), (1, taken())]);
    assert_eq!(a.claim(2, &issued, &[0, 1]), Some(vec![Gone, Granted]));
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { claim: None, .. }));
    let reports = a.report_texts();
    assert!(reports.len() == 1 && reports[0].contains("bob@b.example") && reports[0].contains("Status: 5.1.1"));
}

#[test]
fn a_claim_that_carries_failed_ends_the_index_and_is_reported_once() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    let failed = vec![(0, outcome(Action::Failed, a.now))];
    let entry = ClaimEntry { failed, ..claim_of(&issued, &[0]) };
    assert_eq!(a.claim_as(2, entry.clone()), Some(vec![(0, Granted)]));
    assert_eq!(a.claim_as(2, entry.clone()), Some(vec![(0, Granted)]));
    assert_eq!(a.claim_as(3, entry), Some(vec![(0, Taken)]));
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { claim: Some(_), .. }));
    assert_eq!(a.report_texts().len(), 1);
    assert!(a.leg(&id, 0).object.is_none());
}

#[test]
fn only_the_claimant_may_report() {
    let mut a = a();
    let (id, issued) = a.offered(BOB_AND_CAROL);
    assert_eq!(a.receipt(2, &issued, 0, Action::Delivered), None, "nobody has claimed");
    a.claim(2, &issued, &[0]);
    a.claim(3, &issued, &[1]);
    assert_eq!(a.receipt(3, &issued, 0, Action::Delivered), None);
    assert_eq!(a.receipt(2, &issued, 1, Action::Delivered), None);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Claimed(_)));
    let stolen = mail::ledger::Issued { grant: Grant::new(&[9; 16]).unwrap(), ..issued.clone() };
    assert_eq!(a.receipt(2, &stolen, 0, Action::Delivered), None);
    assert_eq!(a.receipt(2, &issued, 0, Action::Delivered), Some(vec![0]));
}

#[test]
fn a_receipt_is_recorded_once_however_often_it_comes() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    assert_eq!(a.receipt(2, &issued, 0, Action::Failed), Some(vec![0]));
    a.pass(HOUR);
    assert_eq!(a.receipt(2, &issued, 0, Action::Failed), Some(vec![0]));
    assert_eq!(a.receipt(2, &issued, 0, Action::Delivered), Some(vec![0]), "known, but the first word stays");
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.action == Action::Failed));
    assert_eq!(a.report_texts().len(), 1);
}

#[test]
fn a_failure_that_its_holder_has_reported_is_recorded_and_not_reported_again() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    let told = Outcome { reported: true, ..outcome(Action::Failed, a.now) };
    let entry =
        ReceiptEntry { to: issued.to.clone(), id: issued.id, grant: issued.grant.clone(), outcomes: vec![(0, told)] };
    let reply =
        a.ask(Request::Receipts { instance: InstanceId([2; 16]), receipts: vec![entry], signed: SignedBy::default() });
    assert!(matches!(reply, Reply::Receipts(recorded) if recorded == [Some(vec![0])]));
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.action == Action::Failed));
    assert!(a.report_texts().is_empty());
}

#[test]
fn delayed_ends_nothing() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    assert_eq!(a.receipt(2, &issued, 0, Action::Delayed), Some(vec![0]));
    assert_eq!(a.receipt(2, &issued, 0, Action::Delayed), Some(vec![0]));
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Claimed(_)));
    assert!(a.leg(&id, 0).object.is_some());
    let reports = a.report_texts();
    assert_eq!(reports.iter().filter(|r| r.contains("Action: delayed")).count(), 1, "one is enough");
    assert_eq!(a.receipt(2, &issued, 0, Action::Delivered), Some(vec![0]));
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.action == Action::Delivered));
}

#[test]
fn a_late_failed_after_relayed_still_reaches_the_author() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    assert_eq!(a.receipt(2, &issued, 0, Action::Relayed), Some(vec![0]));
    assert!(a.report_texts().is_empty());
    a.pass_unreachable(30 * DAY);
    assert!(a.leg(&id, 0).object.is_none(), "the record is kept, the object is not");
    assert_eq!(a.receipt(2, &issued, 0, Action::Failed), Some(vec![0]));
    assert_eq!(a.receipt(2, &issued, 0, Action::Relayed), Some(vec![0]), "an old one comes late");
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.action == Action::Failed));
    assert_eq!(a.report_texts().len(), 1);
    a.pass_unreachable(30 * DAY);
    assert!(a.ledger.rows.is_empty());
}

#[test]
fn a_failure_that_is_told_long_after_it_happened_is_remembered_from_then_on() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    let happened = a.now;
    assert_eq!(a.receipt(2, &issued, 0, Action::Relayed), Some(vec![0]));
    a.pass_unreachable(20 * DAY);
    for _ in 0..2 {
        // The first answer was lost: without another the receiver would tell the author by mail.
        assert_eq!(a.receipt_of(2, &issued, 0, outcome(Action::Failed, happened)), Some(vec![0]));
        a.pass_unreachable(DAY);
    }
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.at == happened));
    assert_eq!(a.report_texts().len(), 1);
    a.pass_unreachable(30 * DAY);
    assert!(a.ledger.rows.is_empty());
}

#[test]
fn a_relayed_message_is_remembered_for_37_days() {
    let mut a = a();
    let (_, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    a.receipt(2, &issued, 0, Action::Relayed);
    a.pass_unreachable(37 * DAY - MINUTE);
    assert_eq!(a.ledger.rows.len(), 1);
    a.pass_unreachable(2 * MINUTE);
    assert!(a.ledger.rows.is_empty());
}

#[test]
fn who_acted_without_an_answer_is_accepted_over_taken_and_over_gone() {
    let mut a = a();
    let (id, issued) = a.offered(BOB_AND_CAROL);
    a.claim(2, &issued, &[0]);
    a.receipt(2, &issued, 0, Action::Failed);
    let failed_report = a.report_texts().len();
    assert_eq!(failed_report, 1);
    a.command(Command::Fail(Selection::Message(id.clone())));
    assert_eq!(a.report_texts().len(), 2, "carol is given up");
    assert_eq!(a.claim(3, &issued, &[0, 1]), Some(vec![Taken, Gone]));
    let acted = ClaimEntry { acted: true, ..claim_of(&issued, &[0, 1]) };
    assert_eq!(a.claim_as(3, acted.clone()), Some(vec![(0, Taken), (1, Gone)]), "noted all the same");
    assert_eq!(a.claim_as(3, acted), Some(vec![(0, Taken), (1, Gone)]));
    assert_eq!(a.receipt(3, &issued, 0, Action::Delivered), Some(vec![0]));
    assert_eq!(a.receipt(3, &issued, 1, Action::Delivered), Some(vec![1]));
    for position in [0, 1] {
        let state = a.state(&id, 0, position);
        assert!(
            matches!(state, RecipientState::Done { outcome, .. } if outcome.action == Action::Delivered),
            "{state:?}"
        );
    }
    let corrections = a.report_texts().iter().filter(|report| report.contains("Action: delivered")).count();
    assert_eq!(corrections, 2, "the author was told otherwise");
    assert_eq!(a.receipt(4, &issued, 0, Action::Failed), None, "a store that neither claimed nor acted");
}

#[test]
fn the_word_of_a_store_that_acted_and_failed_changes_nothing_for_the_claimant() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    a.claim_as(3, ClaimEntry { acted: true, ..claim_of(&issued, &[0]) });
    assert_eq!(a.receipt(3, &issued, 0, Action::Failed), Some(vec![0]));
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Claimed(_)));
    assert!(a.report_texts().is_empty());
    assert_eq!(a.receipt(2, &issued, 0, Action::Delivered), Some(vec![0]));
}

#[test]
fn an_act_on_an_open_index_is_a_claim() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim_as(3, ClaimEntry { acted: true, ..claim_of(&issued, &[0]) });
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Taken]));
    assert_eq!(a.receipt(3, &issued, 0, Action::Delivered), Some(vec![0]));
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { .. }));
}

#[test]
fn the_object_is_released_with_the_last_outcome_and_not_before() {
    let mut a = a();
    let (id, issued) = a.offered(BOB_AND_CAROL);
    a.claim(2, &issued, &[0, 1]);
    a.receipt(2, &issued, 0, Action::Delivered);
    assert!(a.leg(&id, 0).object.is_some());
    a.receipt(2, &issued, 1, Action::Expanded);
    assert!(a.leg(&id, 0).object.is_none());
    let key = mail::ledger::Key::Leg(id, 0);
    assert!(a.ledger.rows[&key].object().is_none());
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]), "who asks again hears the same");
}

#[test]
fn a_grant_fetches_its_own_object_while_it_may_be_needed() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    let object = support::object(b"A: b\r\n\r\nc\r\n");
    let mut locate = |xuid, grant: &Grant| match a.ask(Request::Locate {
        xuid,
        grant: grant.clone(),
        signed: SignedBy::default(),
    }) {
        Reply::Object(located) => located,
        other => panic!("{other:?}"),
    };
    assert_eq!(locate(object.xuid, &issued.grant), Located::Object(object.clone()));
    assert_eq!(locate(mail::Xuid::of(b"another"), &issued.grant), Located::Unknown);
    assert_eq!(locate(object.xuid, &Grant::new(&[9; 16]).unwrap()), Located::Unknown);
    a.claim(2, &issued, &[0]);
    let located =
        a.ask(Request::Locate { xuid: object.xuid, grant: issued.grant.clone(), signed: SignedBy::default() });
    assert!(matches!(located, Reply::Object(Located::Object(_))), "a claimant may fetch again");
    a.receipt(2, &issued, 0, Action::Delivered);
    let located = a.ask(Request::Locate { xuid: object.xuid, grant: issued.grant, signed: SignedBy::default() });
    assert!(matches!(located, Reply::Object(Located::Gone)));
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { .. }));
}

#[test]
fn only_so_many_stores_are_remembered_to_have_acted() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    for store in 3..100 {
        a.claim_as(store, ClaimEntry { acted: true, ..claim_of(&issued, &[0]) });
    }
    assert_eq!(a.leg(&id, 0).issued[0].acted.len(), 16);
}

#[test]
fn a_grant_fetches_nothing_once_its_own_recipients_are_done() {
    let mut a = a();
    let (id, job, first) = a.offer(BOB_AND_CAROL);
    a.finish(job, true, vec![(0, taken()), (1, support::later(false))]);
    a.pass(HOUR);
    let (job, _) = a.connect(true);
    let second = a.issued(&id);
    a.finish(job, true, vec![(1, taken())]);
    let xuid = support::object(b"A: b\r\n\r\nc\r\n").xuid;
    let locate = |a: &mut Server, issued: &mail::ledger::Issued| {
        matches!(
            a.ask(Request::Locate { xuid, grant: issued.grant.clone(), signed: SignedBy::default() }),
            Reply::Object(Located::Object(_))
        )
    };
    assert!(locate(&mut a, &first) && locate(&mut a, &second));
    a.claim(2, &first, &[0]);
    a.receipt(2, &first, 0, Action::Delivered);
    assert!(!locate(&mut a, &first) && locate(&mut a, &second), "the second is offered");
    a.claim(2, &second, &[0]);
    assert!(!locate(&mut a, &first) && locate(&mut a, &second), "the second is claimed");
    a.receipt(2, &second, 0, Action::Delivered);
    assert!(!locate(&mut a, &first) && !locate(&mut a, &second));
}

#[test]
fn content_is_kept_for_a_grace_in_which_nobody_can_fetch_it() {
    let mut config = support::config("a.example");
    config.timers.object_grace = 2 * HOUR;
    let mut a = Server::with(config, 1);
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    a.receipt(2, &issued, 0, Action::Delivered);
    let xuid = support::object(b"A: b\r\n\r\nc\r\n").xuid;
    let asked = Request::Locate { xuid, grant: issued.grant.clone(), signed: SignedBy::default() };
    assert!(matches!(a.ask(asked), Reply::Object(Located::Gone)));
    a.pass(HOUR);
    assert!(a.leg(&id, 0).object.is_some());
    a.pass(HOUR + MINUTE);
    assert!(a.leg(&id, 0).object.is_none(), "its time is over");
}

#[test]
fn the_grace_begins_when_a_receipt_is_here_however_late_it_is() {
    let mut config = support::config("a.example");
    config.timers.object_grace = 2 * HOUR;
    let mut a = Server::with(config, 1);
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    let delivered = outcome(Action::Delivered, a.now);
    // A site, whose link was down.
    a.pass(3 * DAY);
    let (to, grant) = (issued.to.clone(), issued.grant.clone());
    let entry = ReceiptEntry { to, id: issued.id, grant, outcomes: vec![(0, delivered)] };
    a.ask(Request::Receipts { instance: InstanceId([2; 16]), receipts: vec![entry], signed: SignedBy::default() });
    a.pass(HOUR);
    assert!(a.leg(&id, 0).object.is_some());
    a.pass(HOUR + MINUTE);
    assert!(a.leg(&id, 0).object.is_none(), "its time is over");
}

#[test]
fn what_the_configuration_holds_is_held_in_the_commit_that_accepts_it() {
    let mut config = support::config("a.example");
    config.holds.domains.insert(domain("b.example"), 9 * DAY);
    let mut a = Server::with(config, 1);
    let id = a.submit("alice@a.example", BOB);
    assert_eq!((a.ledger.commits, a.ledger.holds.len()), (1, 1));
    let order = &a.ledger.holds[0];
    assert_eq!((&order.id, order.until), (&id, Some(a.now.after(9 * DAY))));
    a.submit("alice@a.example", &["carol@c.example"]);
    assert_eq!(a.ledger.holds.len(), 1, "that is no mail of the domain");
}

#[test]
fn a_delay_that_somebody_else_reports_is_not_recorded() {
    let mut a = a();
    let (_, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    assert_eq!(a.receipt(3, &issued, 0, Action::Delayed), None);
    assert!(a.report_texts().is_empty());
}

#[test]
fn a_receipt_from_the_future_is_of_now() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    let late = outcome(Action::Delivered, a.now.after(400 * DAY));
    let (to, grant) = (issued.to.clone(), issued.grant.clone());
    let entry = ReceiptEntry { to, id: issued.id, grant, outcomes: vec![(0, late)] };
    a.ask(Request::Receipts { instance: InstanceId([2; 16]), receipts: vec![entry], signed: SignedBy::default() });
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.at == a.now));
}
