//! What authors are told, and when: failures, delays, expiry, who holds a message; and what operators can order.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use mail::ledger::{Action, RecipientState, Route, RowBody, Source, Target, by_on_demand};
use mail::{EnhancedStatus, MailParams, Notify, Recipient};
use queue::ReferenceMode;
use queue::port::ClaimAnswer::{Gone, Granted};
use queue::port::{Acceptance, Command, DeliveryEnd, JobEvent, Peer, Proceed, RecipientEnd, Request, Selection, Work};
use support::{DAY, HOUR, MINUTE, Server, address, domain, done, later, never, secs, taken};

const BOB: &[&str] = &["bob@b.example"];
const BOB_AND_CAROL: &[&str] = &["bob@b.example", "carol@b.example"];

fn a() -> Server {
    Server::new("a.example", 1)
}

fn insisting() -> Server {
    let mut config = support::config("a.example");
    config.default_policy.mode = ReferenceMode::Require;
    Server::with(config, 1)
}

fn actions(a: &Server, action: &str) -> usize {
    a.report_texts().iter().filter(|report| report.contains(&format!("Action: {action}"))).count()
}

/// Deliveries under way, but for those of reports.
fn deliveries(a: &Server) -> usize {
    let own = |work: &Work| matches!(work, Work::Deliver(delivery) if delivery.leg.source != Source::Report);
    a.jobs.iter().filter(|(_, work)| own(work)).count()
}

#[test]
fn temporary_refusals_are_tried_again_after_growing_pauses() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let (job, _) = a.connect(false);
        let before = a.now;
        a.finish(job, false, vec![(0, later(false))]);
        assert!(a.jobs.is_empty(), "not at once");
        while a.jobs.is_empty() {
            let wake = a.wake.expect("something will be due");
            a.pass(wake.since(a.now));
        }
        pauses.push(a.now.since(before));
    }
    assert!(pauses.windows(2).all(|two| two[0] < two[1]), "{pauses:?}");
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Queued));
    assert!(a.report_texts().is_empty());
}

#[test]
fn only_those_who_were_put_off_are_tried_again() {
    let mut a = a();
    a.submit("alice@a.example", BOB_AND_CAROL);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, taken()), (1, later(false))]);
    a.pass(HOUR);
    let (_, word) = a.connect(false);
    assert!(matches!(word, Proceed::ByValue { positions, .. } if positions == [1]));
}

#[test]
fn a_report_on_an_alias_to_another_domain_does_not_name_its_target() {
    let target = Target { route: Route::Mx(domain("c.example")), address: address("robert@c.example") };
    let notify = Notify::On { success: true, failure: true, delay: true };
    let recipient = Recipient { notify, ..Recipient::plain(address("bob@a.example")) };
    for failed in [false, true] {
        let mut a = a();
        a.accept("alice@a.example", vec![(recipient.clone(), vec![target.clone()])]);
        let (job, _) = a.connect(false);
        let text = "mx.c.example: <robert@c.example> and so on".to_owned();
        let end = match failed {
            false => RecipientEnd::Accepted { final_delivery: false, text },
            true => RecipientEnd::Permanent { status: "5.1.1".parse().unwrap(), text, to_offer: false },
        };
        a.finish(job, false, vec![(0, end)]);
        let reports = a.report_texts();
        let (report, status) = (reports.concat(), if failed { "Status: 5.1.1" } else { "Status: 2.0.0" });
        assert_eq!(reports.len(), 1);
        assert!(report.contains("bob@a.example") && report.contains(status), "{report}");
        assert!(!report.contains("c.example"), "{report}");
    }
}

#[test]
fn a_permanent_refusal_is_reported_to_the_author_at_once() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, never(false))]);
    let reports = a.report_texts();
    assert_eq!(reports.len(), 1);
    for part in ["To: <alice@a.example>", "Action: failed", "Status: 5.1.1", "bob@b.example"] {
        assert!(reports[0].contains(part), "{part}: {}", reports[0]);
    }
    assert!(a.leg(&id, 0).object.is_none());
    let report = a.reports()[0].clone();
    assert_eq!((report.mail_from, report.recipients[0].recipient.notify), (None, Notify::Never));
}

#[test]
fn two_refusals_in_one_session_make_one_report() {
    let mut a = a();
    a.submit("alice@a.example", BOB_AND_CAROL);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, never(false)), (1, never(false))]);
    let reports = a.report_texts();
    assert!(reports.len() == 1 && reports[0].contains("bob@b.example") && reports[0].contains("carol@b.example"));
}

#[test]
fn a_report_that_cannot_be_delivered_makes_no_report() {
    let mut a = a();
    a.submit("alice@a.example", BOB);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, never(false))]);
    let (job, delivery) = a.delivery();
    assert!(delivery.leg.mail_from.is_none());
    a.finish(job, false, vec![(0, never(false))]);
    assert_eq!(a.report_texts().len(), 1);
}

#[test]
fn the_null_sender_and_notify_never_get_no_report() {
    for (from, notify) in [("", Notify::Unspecified), ("alice@a.example", Notify::Never)] {
        let mut a = a();
        let id = a.submit_with(from, BOB, notify);
        let (job, _) = a.connect(false);
        a.finish(job, false, vec![(0, later(false))]);
        a.pass_unreachable(6 * DAY);
        assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.action == Action::Failed));
        assert!(a.report_texts().is_empty(), "{from:?} {notify:?}");
    }
}

#[test]
fn notify_success_is_served_by_this_server_where_the_next_hop_does_not_speak_dsn() {
    let mut a = a();
    let notify = Notify::On { success: true, failure: false, delay: false };
    a.submit_with("alice@a.example", BOB, notify);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, taken())]);
    assert_eq!(actions(&a, "relayed"), 1);
    a.submit_with("alice@a.example", &["x@c.example"], notify);
    a.jobs.retain(|(_, work)| matches!(work, Work::Deliver(d) if d.leg.mail_from.is_some()));
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, never(false))]);
    assert_eq!(actions(&a, "failed"), 0, "only of success");
}

#[test]
fn what_could_not_be_delivered_in_time_is_reported_once_after_one_report_of_the_delay() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    a.pass_unreachable(4 * HOUR - MINUTE);
    assert!(a.report_texts().is_empty());
    a.pass_unreachable(2 * MINUTE);
    assert_eq!(actions(&a, "delayed"), 1);
    a.pass_unreachable(4 * DAY);
    assert_eq!((actions(&a, "delayed"), actions(&a, "failed")), (1, 0));
    a.pass_unreachable(DAY);
    assert_eq!((actions(&a, "delayed"), actions(&a, "failed")), (1, 1));
    let reports = a.report_texts();
    let failed = reports.iter().find(|report| report.contains("Action: failed")).unwrap();
    assert!(failed.contains("Status: 5.4.7") || failed.contains("Status: 4.4.7"), "{failed}");
    assert!(a.leg(&id, 0).object.is_none());
    a.pass_unreachable(30 * DAY);
    assert_eq!(a.report_texts().len(), 2);
    assert!(a.ledger.rows.is_empty());
}

#[test]
fn nothing_claimed_at_e_and_a_grace_is_a_failure_told_to_the_author() {
    let mut a = insisting();
    let (id, issued) = a.offered(BOB_AND_CAROL);
    assert_eq!(a.claim(2, &issued, &[1]), Some(vec![Granted]));
    a.receipt(2, &issued, 1, Action::Delivered);
    let grace = 15 * MINUTE;
    let left = issued.expires.after(grace).since(a.now);
    a.pass_unreachable(left - secs(1));
    assert_eq!(actions(&a, "failed"), 0);
    a.pass_unreachable(secs(1));
    assert_eq!(actions(&a, "failed"), 1);
    let reports = a.report_texts();
    let failed = reports.iter().find(|report| report.contains("Action: failed")).unwrap();
    assert!(failed.contains("bob@b.example") && failed.contains(".4.7"), "{failed}");
    assert!(a.leg(&id, 0).object.is_none());
    assert_eq!(a.claim(2, &issued, &[0, 1]), Some(vec![Gone, Granted]));
}

#[test]
fn a_reference_that_expires_before_the_message_is_followed_by_another_way() {
    let mut config = support::config("a.example");
    config.timers.reference_lifetime = 2 * HOUR;
    config.timers.unclaimed_fall_back = DAY;
    let mut a = Server::with(config, 1);
    let (id, issued) = a.offered(BOB);
    a.pass(2 * HOUR + 15 * MINUTE);
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Gone]));
    let (_, word) = a.connect(true);
    assert!(!matches!(word, Proceed::Abandon), "{word:?}");
    assert!(a.report_texts().is_empty());
    assert!(!matches!(a.state(&id, 0, 0), RecipientState::Done { .. }));
}

#[test]
fn claimed_without_a_receipt_a_day_after_e_the_author_is_told_who_holds_it_once() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    let due = issued.expires.after(DAY).since(a.now);
    a.pass_unreachable(due - secs(1));
    assert!(a.report_texts().is_empty());
    a.pass_unreachable(secs(1));
    let reports = a.report_texts();
    assert!(reports.len() == 1 && reports[0].contains("b.example"), "{reports:?}");
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Claimed(claim) if claim.told));
    a.pass_unreachable(DAY);
    assert_eq!(a.report_texts().len(), 1);
    assert_eq!(a.receipt(2, &issued, 0, Action::Failed), Some(vec![0]), "a late receipt still counts");
    assert_eq!(actions(&a, "failed"), 1);
}

#[test]
fn held_stands_still_and_released_goes_at_once() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, later(false))]);
    let all = || Selection::Message(id.clone());
    assert_eq!(a.command(Command::Hold(all())), ["held"]);
    a.pass(DAY);
    assert_eq!(deliveries(&a), 0);
    a.pass(7 * DAY);
    assert_eq!(deliveries(&a), 0);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Queued), "time stands still for it");
    assert_eq!(a.command(Command::Release(all())), ["waits for delivery"]);
    assert_eq!(deliveries(&a), 1);
}

#[test]
fn retry_does_not_wait_for_the_pause() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, later(false))]);
    assert!(a.jobs.is_empty());
    a.command(Command::Retry(Selection::Leg(id, 0)));
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, taken())]);
}

#[test]
fn retry_offers_again_what_nobody_has_claimed() {
    let mut a = a();
    let (id, issued) = a.offered(BOB);
    a.pass(MINUTE);
    assert!(a.jobs.is_empty());
    assert!(a.carries_out(Command::Retry(Selection::Message(id.clone()))));
    let (job, word) = a.connect(true);
    assert!(matches!(&word, Proceed::Offer { uri, .. } if *uri == issued.uri), "the same in every octet: {word:?}");
    a.finish(job, true, vec![(0, taken())]);
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Granted]));
}

#[test]
fn what_is_finished_or_claimed_is_beyond_commands() {
    let mut a = a();
    let (claimed, issued) = a.offered(BOB);
    a.claim(2, &issued, &[0]);
    let finished = a.submit("alice@a.example", BOB);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, taken())]);
    for id in [claimed, finished] {
        let before = a.leg(&id, 0).clone();
        let commands = [Command::Hold, Command::Release, Command::Retry, Command::Fail, Command::Withdraw];
        for command in commands {
            assert!(!a.carries_out(command(Selection::Message(id.clone()))));
        }
        assert_eq!(*a.leg(&id, 0), before, "nothing is noted of what was not done");
    }
    assert!(a.report_texts().is_empty());
}

#[test]
fn of_what_is_held_no_delay_is_reported() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, later(false))]);
    a.command(Command::Hold(Selection::Message(id)));
    a.pass(2 * DAY);
    assert!(a.report_texts().is_empty(), "{:?}", a.report_texts());
}

#[test]
fn what_waits_until_its_domain_asks_is_neither_tried_nor_reported_meanwhile() {
    let mut a = a();
    let bob = address("bob@b.example");
    let target = Target { route: Route::OnDemand(domain("b.example")), address: bob.clone() };
    let id = "q1".parse().unwrap();
    let acceptance = Acceptance {
        queue_id: id,
        mail_from: Some(address("alice@a.example")),
        params: MailParams::default(),
        recipients: vec![(Recipient::plain(bob), vec![target])],
        object: support::object(b"A: b\r\n\r\nc\r\n"),
        facts: support::FACTS,
        prefix: String::new(),
        seal: String::new(),
        source: Source::Relay,
        once: None,
    };
    let id = acceptance.queue_id.clone();
    a.ask(Request::Accept(Box::new(acceptance)));
    let waits = by_on_demand(&domain("b.example"));
    let is_found = |a: &Server| a.ledger.rows.values().any(|row| row.alternates().contains(&waits));
    // Nobody is connected; then nothing happens for longer than any other message would live.
    let (job, _) = a.delivery();
    a.unreachable(job);
    a.pass(20 * DAY);
    assert!(a.jobs.is_empty() && a.report_texts().is_empty() && is_found(&a));
    // It is asked for, by value whatever the peer speaks, and its connection breaks.
    for outcome in [later(false), taken()] {
        assert!(a.carries_out(Command::AskedFor(Selection::Leg(id.clone(), 0))));
        let (job, word) = a.connect(true);
        assert!(matches!(word, Proceed::ByValue { positions, .. } if positions == [0]));
        a.finish(job, false, vec![(0, outcome)]);
        assert!(a.jobs.is_empty(), "not again by itself");
    }
    assert!(!is_found(&a), "{:?}", a.state(&id, 0, 0));
    assert!(!a.carries_out(Command::AskedFor(Selection::Leg(id, 0))), "it is gone");
}

#[test]
fn who_is_given_up_by_the_operator_was_not_refused_by_anybody() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, later(false))]);
    a.command(Command::Fail(Selection::Message(id)));
    let report = a.report_texts().remove(0);
    assert!(report.contains("given up") && !report.contains("The recipient's mail system"), "{report}");
}

#[test]
fn fail_tells_the_author_and_withdraw_does_not() {
    for (fail, expected) in [(true, 1), (false, 0)] {
        let mut a = a();
        let id = a.submit("alice@a.example", BOB);
        let (job, _) = a.connect(false);
        a.finish(job, false, vec![(0, later(false))]);
        let selection = Selection::Message(id.clone());
        let words = a.command(if fail { Command::Fail(selection) } else { Command::Withdraw(selection) });
        assert!(words[0].starts_with(if fail { "failed: 5.0.0 " } else { "withdrawn " }), "{words:?}");
        assert_eq!(a.report_texts().len(), expected);
        assert!(a.leg(&id, 0).object.is_none());
        a.pass_unreachable(5 * DAY);
        assert_eq!(a.report_texts().len(), expected);
    }
}

#[test]
fn nobody_can_withdraw_what_is_on_the_wire_by_value() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    let (job, _) = a.connect(false);
    let words = a.command(Command::Withdraw(Selection::Message(id.clone())));
    assert!(words[0].contains("right now"), "{words:?}");
    a.finish(job, false, vec![(0, taken())]);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.action == Action::Relayed));
}

#[test]
fn what_is_offered_can_be_withdrawn_while_the_offer_is_on_the_wire() {
    let mut a = a();
    let (id, job, issued) = a.offer(BOB);
    let words = a.command(Command::Withdraw(Selection::Message(id.clone())));
    assert_eq!(a.claim(2, &issued, &[0]), Some(vec![Gone]), "{words:?}");
    a.finish(job, true, vec![(0, taken())]);
    a.pass(5 * DAY);
    assert!(a.jobs.is_empty() && a.report_texts().is_empty());
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { claim: None, .. }));
}

#[test]
fn a_command_for_a_message_that_is_not_there_says_nothing() {
    let mut a = a();
    let nobody = Selection::Message("nobody".parse().unwrap());
    assert!(a.command(Command::Withdraw(nobody)).is_empty());
}

#[test]
fn a_domain_that_does_not_exist_fails_all_its_recipients_at_once() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB_AND_CAROL);
    let (job, _) = a.delivery();
    let end = DeliveryEnd::Impossible { text: "no such domain".into(), status: "5.1.2".parse().unwrap() };
    a.event(job, JobEvent::Delivered(end));
    assert!((0..2).all(|p| matches!(a.state(&id, 0, p), RecipientState::Done { .. })));
    assert_eq!(a.report_texts().len(), 1);
}

#[test]
fn mail_to_a_mailbox_here_is_delivered() {
    let mut a = a();
    a.submit("alice@a.example", BOB);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, never(false))]);
    let (job, report) = a.delivery();
    a.finish(job, false, vec![(0, done())]);
    let key = report.key.clone();
    let RowBody::Leg(leg) = &a.ledger.rows[&key].body else { panic!() };
    assert!(
        matches!(&leg.recipients[0].state, RecipientState::Done { outcome, .. } if outcome.action == Action::Delivered)
    );
}

/// RFC 9422: what does not fit one transaction follows in the next.
#[test]
fn no_more_recipients_at_a_time_than_the_peer_announces() {
    for tbr in [false, true] {
        let mut a = a();
        a.submit("alice@a.example", &["b1@b.example", "b2@b.example", "b3@b.example"]);
        let peer = || Peer { tbr, most_recipients: Some(2), most_domains: Some(1), ..Peer::default() };
        let positions = |word| match word {
            Proceed::ByValue { positions, .. } | Proceed::Offer { positions, .. } => positions,
            Proceed::Abandon => panic!("nothing is sent"),
        };
        for expected in [vec![0, 1], vec![2]] {
            let (job, word) = a.connect_to(peer());
            assert_eq!(positions(word), expected);
            a.finish(job, tbr, expected.into_iter().map(|position| (position, taken())).collect());
        }
        assert!(a.jobs.is_empty());
    }
}

/// RFC 8689 §5.
#[test]
fn a_report_of_what_requires_tls_requires_it_too() {
    let mut a = a();
    let target = Target { route: Route::Mx(support::domain("b.example")), address: support::address(BOB[0]) };
    let acceptance = Acceptance {
        queue_id: "id".parse().unwrap(),
        mail_from: Some(support::address("alice@a.example")),
        params: MailParams { requiretls: true, ..MailParams::default() },
        recipients: vec![(Recipient::plain(support::address(BOB[0])), vec![target])],
        object: support::object(b"A: b\r\n\r\nc\r\n"),
        facts: support::FACTS,
        prefix: String::new(),
        seal: String::new(),
        source: Source::Local,
        once: None,
    };
    a.ask(Request::Accept(Box::new(acceptance)));
    let (job, delivery) = a.delivery();
    assert!(delivery.leg.params.requiretls);
    let end = DeliveryEnd::Impossible { text: "no REQUIRETLS".into(), status: EnhancedStatus::permanent(7, 30) };
    a.event(job, JobEvent::Delivered(end));
    assert!(a.report_texts()[0].contains("Status: 5.7.30"));
    let (_, report) = a.delivery();
    assert!(report.leg.source == Source::Report && report.leg.params.requiretls);
}

#[test]
fn attempts_that_brought_much_before_they_broke_do_not_make_the_pauses_grow() {
    let mut a = a();
    let id = a.submit("alice@a.example", BOB);
    let mut pause = |interrupted: bool| {
        let (job, _) = a.delivery();
        let (text, status) = ("the link broke".to_owned(), "4.4.2".parse().unwrap());
        let end = match interrupted {
            true => DeliveryEnd::Interrupted { text, status },
            false => DeliveryEnd::Unreachable { text, status },
        };
        a.event(job, JobEvent::Delivered(end));
        let pause = a.leg(&id, 0).next_attempt.since(a.now);
        a.pass(pause);
        pause
    };
    let failed: Vec<_> = (0..4).map(|_| pause(false)).collect();
    assert!(failed[3] > failed[0] * 4, "{failed:?}");
    let interrupted: Vec<_> = (0..4).map(|_| pause(true)).collect();
    assert!(interrupted.iter().all(|pause| *pause < failed[1]), "{interrupted:?} after {failed:?}");
}
