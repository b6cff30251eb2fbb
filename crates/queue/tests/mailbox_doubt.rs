//! A crash between a mailbox write and its commit: what may be in a mailbox is looked for before anything else ends it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use mail::QueueId;
use mail::ledger::{Action, RecipientState};
use queue::port::{Command, Delivery, JobId, RecipientEnd, Selection};
use support::{DAY, HOUR, MINUTE, Server, done, later};

const AUTHOR: &str = "alice@b.example";
const MAILBOX: &str = "bob@a.example";

/// A message was being written into its mailbox when power failed; nothing that is due has begun anew.
fn crashed() -> (Server, QueueId) {
    let mut a = Server::new("a.example", 1);
    let id = a.submit_to_mailbox(AUTHOR, MAILBOX);
    let (_, delivery) = a.delivery();
    assert!(!delivery.looks_only, "there is nothing to look for");
    a.now = a.now.after(MINUTE);
    a.ledger.leases_nothing = true;
    a.restart();
    (a, id)
}

fn withdraw(a: &mut Server, id: &QueueId) -> String {
    a.command(Command::Withdraw(Selection::Message(id.clone()))).remove(0)
}

fn end(a: &mut Server, job: JobId, end: RecipientEnd) {
    a.finish(job, false, vec![(0, end)]);
}

/// The attempt that looks, after an order that it has put off.
fn put_off(a: &mut Server, id: &QueueId, order: fn(Selection) -> Command) -> (JobId, Delivery) {
    let said = a.command(order(Selection::Message(id.clone()))).remove(0);
    assert!(said.contains("looked for: try again"), "{said}");
    assert_eq!(*a.state(id, 0, 0), RecipientState::Queued);
    let (job, delivery) = a.delivery();
    assert_eq!(delivery.positions, [0]);
    (job, delivery)
}

fn outcome(a: &Server, id: &QueueId) -> Option<Action> {
    match a.state(id, 0, 0) {
        RecipientState::Done { outcome, .. } => Some(outcome.action),
        _ => None,
    }
}

#[test]
fn what_a_crash_left_in_a_mailbox_cannot_be_withdrawn() {
    for order in [Command::Withdraw, Command::Fail] {
        let (mut a, id) = crashed();
        let (job, delivery) = put_off(&mut a, &id, order);
        assert!(!delivery.looks_only, "where nothing is there, it is delivered");
        end(&mut a, job, done());
        assert_eq!(outcome(&a, &id), Some(Action::Delivered));
        assert!(withdraw(&mut a, &id).starts_with("delivered"));
        assert!(a.report_texts().is_empty());
    }
}

#[test]
fn what_is_not_there_can_be_withdrawn_once_that_is_known() {
    let (mut a, id) = crashed();
    let (job, _) = put_off(&mut a, &id, Command::Withdraw);
    end(&mut a, job, later(false));
    assert!(withdraw(&mut a, &id).contains("withdrawn"));
    assert_eq!(outcome(&a, &id), Some(Action::Failed));
    // Who waits for his next attempt when power fails was not under way.
    let (mut a, id) = crashed();
    let (job, _) = put_off(&mut a, &id, Command::Withdraw);
    end(&mut a, job, later(false));
    a.restart();
    assert!(withdraw(&mut a, &id).contains("withdrawn"));
}

#[test]
fn what_is_held_is_looked_for_and_not_delivered() {
    for (found, ends_as) in [(done(), Action::Delivered), (later(false), Action::Failed)] {
        let (mut a, id) = crashed();
        a.command(Command::Hold(Selection::Message(id.clone())));
        assert!(a.jobs.is_empty(), "it is held: {:?}", a.jobs);
        let (job, delivery) = put_off(&mut a, &id, Command::Withdraw);
        assert!(delivery.looks_only);
        end(&mut a, job, found);
        withdraw(&mut a, &id);
        assert_eq!(outcome(&a, &id), Some(ends_as));
    }
}

#[test]
fn neither_retry_nor_release_forgets_that_it_may_be_there() {
    let (mut a, id) = crashed();
    for order in [Command::Hold, Command::Retry, Command::Release, Command::Retry] {
        a.command(order(Selection::Message(id.clone())));
    }
    // The attempt that these have begun has not ended when power fails once more.
    a.jobs.clear();
    a.now = a.now.after(MINUTE);
    a.restart();
    let (job, _) = put_off(&mut a, &id, Command::Withdraw);
    end(&mut a, job, done());
    assert_eq!(outcome(&a, &id), Some(Action::Delivered));
}

#[test]
fn nothing_expires_that_may_have_arrived() {
    for (found, ends_as) in [(done(), Action::Delivered), (later(false), Action::Failed)] {
        let (mut a, id) = crashed();
        a.ledger.leases_nothing = false;
        a.now = a.now.after(10 * DAY);
        a.restart();
        assert_eq!(outcome(&a, &id), None, "first it is looked for");
        let (job, delivery) = a.delivery();
        assert!(delivery.looks_only, "its time is over");
        end(&mut a, job, found);
        a.pass(HOUR);
        assert_eq!(outcome(&a, &id), Some(ends_as));
        let is_told = a.report_texts().iter().any(|report| report.contains("Action: failed"));
        assert_eq!(is_told, ends_as == Action::Failed);
    }
}

#[test]
fn what_goes_elsewhere_or_was_looked_for_is_withdrawn_at_once() {
    let mut a = Server::new("a.example", 1);
    let to_next_hop = a.submit(AUTHOR, &["carol@c.example"]);
    // What is on the wire when power fails cannot be looked for at the next hop (RFC 1047).
    a.connect(true);
    a.now = a.now.after(MINUTE);
    a.ledger.leases_nothing = true;
    a.restart();
    assert!(withdraw(&mut a, &to_next_hop).contains("withdrawn"));
    let fresh = a.submit_to_mailbox(AUTHOR, MAILBOX);
    let (job, _) = a.delivery();
    end(&mut a, job, later(false));
    assert!(withdraw(&mut a, &fresh).contains("withdrawn"));
}
