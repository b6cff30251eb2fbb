//! What the log is told: each fate once, when it is durable, and of those who share it in one line.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use mail::ledger::Action;
use queue::port::{Command, Selection};
use queue::told::Told;
use support::{DAY, HOUR, Server, done, later, never, taken};

const THREE: &[&str] = &["bob@b.example", "carol@b.example", "dave@b.example"];

fn a() -> Server {
    Server::new("a.example", 1)
}

/// Fate, code, how many, and whether by reference.
fn shown(told: &Told) -> (&'static str, String, usize, bool) {
    let code = told.status.map(|status| status.to_string()).unwrap_or_default();
    (told.fate, code, told.recipients, told.by_reference)
}

fn all(server: &mut Server) -> Vec<(&'static str, String, usize, bool)> {
    std::mem::take(&mut server.told).iter().map(shown).collect()
}

#[test]
fn recipients_with_one_fate_share_a_line() {
    let mut a = a();
    a.submit("alice@a.example", THREE);
    let (job, _) = a.connect(false);
    assert!(a.told.is_empty());
    a.hold = true;
    a.finish(job, false, vec![(0, taken()), (1, never(false)), (2, taken())]);
    assert!(a.told.is_empty(), "nothing before it is durable");
    while !a.held.is_empty() {
        a.answer_the_last();
    }
    a.hold = false;
    let first = a.told[0].clone();
    assert_eq!(all(&mut a), [("relayed", "2.0.0".into(), 2, false), ("failed", "5.1.1".into(), 1, false)]);
    assert_eq!((first.first.host(), first.mail_from.unwrap().host()), ("b.example", "a.example"));
    a.pass(5 * DAY);
    assert!(a.told.iter().all(|told| told.mail_from.is_none()), "only of the report");
}

#[test]
fn who_waits_is_told_with_the_reason_and_how_long_it_took_in_the_end() {
    let mut a = a();
    let id = a.submit("alice@a.example", &THREE[..1]);
    let (job, _) = a.connect(false);
    a.finish(job, false, vec![(0, later(false))]);
    assert_eq!((a.told[0].text.as_str(), a.told[0].peer.is_some()), ("4.3.0 later", true));
    assert_eq!(all(&mut a), [("deferred", "4.3.0".into(), 1, false)]);
    a.pass(HOUR);
    let (job, _) = a.delivery();
    a.unreachable(job);
    assert_eq!(a.told.len(), 1);
    assert_eq!((a.told[0].fate, &a.told[0].peer), ("deferred", &None));
    a.told.clear();
    a.command(Command::Withdraw(Selection::Message(id)));
    assert!(a.told[0].delay >= HOUR, "{:?}", a.told[0].delay);
    assert_eq!(all(&mut a), [("withdrawn", String::new(), 1, false)]);
}

#[test]
fn by_reference_the_receipt_tells() {
    let mut a = a();
    let (_, issued) = a.offered(&THREE[..2]);
    a.claim(2, &issued, &[0, 1]);
    assert!(a.told.is_empty(), "custody is no outcome");
    a.receipt(2, &issued, 0, Action::Delivered);
    assert_eq!(a.told[0].peer.as_deref(), Some("b.example"));
    assert_eq!(all(&mut a), [("delivered", "2.0.0".into(), 1, true)]);
    a.receipt(2, &issued, 0, Action::Delivered);
    assert!(a.told.is_empty(), "a repetition is no news");
}

#[test]
fn what_is_refused_while_it_is_offered_was_tried_by_reference() {
    let mut a = a();
    let (_, job, _) = a.offer(&THREE[..2]);
    a.finish(job, true, vec![(0, never(false)), (1, later(true))]);
    let told = all(&mut a);
    assert_eq!(told, [("deferred", "4.3.0".into(), 1, true), ("failed", "5.1.1".into(), 1, true)]);
}

#[test]
fn a_mailbox_says_how_it_came() {
    let mut a = a();
    a.submit_to_mailbox("alice@a.example", "bob@a.example");
    let (job, _) = a.delivery();
    a.finish(job, false, vec![(0, done())]);
    assert_eq!(all(&mut a), [("delivered", "2.0.0".into(), 1, false)]);
}
