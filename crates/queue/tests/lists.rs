//! A message to thousands of destinations: what is in memory stays bounded, nobody else waits for it, and everybody gets it
//! once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::collections::BTreeMap;

use mail::QueueId;
use mail::ledger::{Key, RecipientState, RowBody};
use queue::port::{Delivery, JobEvent, Peer, Proceed, Work};
use support::{MINUTE, Server, config, taken};

const LIST: &str = "list@a.example";
const DOMAINS: usize = 1000;

/// Few places, and little room in memory.
fn small() -> Server {
    let mut config = config("a.example");
    (config.limits.deliveries, config.limits.in_hand) = (16, 64);
    Server::with(config, 1)
}

/// Submits a message to one recipient in each of many domains.
fn submit_list(server: &mut Server, domains: usize) -> QueueId {
    let to: Vec<String> = (0..domains).map(|number| format!("user@d{number}.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    server.submit(LIST, &to)
}

/// Carries the next delivery out, by value. Says whose it was.
fn deliver(server: &mut Server) -> String {
    let (job, work) = server.jobs.pop_front().expect("a delivery");
    let Work::Deliver(delivery) = work else { panic!("{work:?}") };
    server.event(job, JobEvent::Connected(Peer::default()));
    let (_, word) = server.words.pop_front().expect("a word");
    let Proceed::ByValue { positions, .. } = word else { panic!("{word:?}") };
    server.finish(job, false, positions.iter().map(|position| (*position, taken())).collect());
    first_recipient(&delivery)
}

fn first_recipient(delivery: &Delivery) -> String {
    delivery.leg.recipients[0].recipient.address.to_string()
}

/// Delivers everything; how often each destination was served.
fn deliver_all(server: &mut Server, mut at_each: impl FnMut(&Server)) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    while !server.jobs.is_empty() {
        *served.entry(deliver(server)).or_default() += 1;
        at_each(server);
    }
    served
}

fn is_done(server: &Server, key: &Key) -> bool {
    let RowBody::Leg(leg) = &server.ledger.rows[key].body else { return false };
    leg.recipients.iter().all(|recipient| matches!(recipient.state, RecipientState::Done { .. }))
}

#[test]
fn what_is_not_under_way_stays_in_the_ledger() {
    let mut a = small();
    submit_list(&mut a, DOMAINS);
    assert!(a.node.rows_in_hand() <= 64, "{} rows in hand", a.node.rows_in_hand());
    let mut most = 0;
    let served = deliver_all(&mut a, |a| most = most.max(a.node.rows_in_hand()));
    assert!(most <= 64, "{most} rows in hand");
    assert_eq!((served.len(), served.values().max()), (DOMAINS, Some(&1)));
    assert!(a.ledger.rows.keys().all(|key| is_done(&a, key)));
}

#[test]
fn a_message_behind_a_list_goes_at_once() {
    let mut a = small();
    submit_list(&mut a, DOMAINS);
    // A list has half of the places.
    assert_eq!(a.jobs.len(), 8);
    a.submit("alice@a.example", &["bob@b.example"]);
    assert_eq!(a.jobs.len(), 9, "there is a place for others");
    let (_, work) = a.jobs.back().unwrap();
    assert!(matches!(work, Work::Deliver(delivery) if first_recipient(delivery) == "bob@b.example"), "{work:?}");
    // To a domain of the list as well.
    a.submit("alice@a.example", &["carol@d7.example"]);
    assert_eq!(a.jobs.len(), 10);
    // The sender's own next message takes turns with the list.
    a.submit(LIST, &["bob@c.example"]);
    let served: Vec<String> = (0..20).map(|_| deliver(&mut a)).collect();
    assert!(served.iter().any(|to| to == "bob@c.example"), "{served:?}");
}

#[test]
fn senders_who_come_later_find_places_too() {
    let mut a = small();
    let first = "a";
    for sender in [first, "b", "c", "d"] {
        let to: Vec<String> = (0..40).map(|number| format!("user@{sender}{number}.example")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        a.submit(&format!("{sender}@a.example"), &to);
    }
    let mut running: BTreeMap<String, usize> = BTreeMap::new();
    for (_, work) in &a.jobs {
        let Work::Deliver(delivery) = work else { panic!("{work:?}") };
        *running.entry(delivery.leg.mail_from.as_ref().unwrap().local().to_owned()).or_default() += 1;
    }
    assert_eq!(running.values().copied().collect::<Vec<_>>(), [8, 4, 2, 1], "{running:?}");
}

#[test]
fn a_list_survives_a_restart_amid_it() {
    let mut a = small();
    submit_list(&mut a, DOMAINS);
    let mut served: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..300 {
        *served.entry(deliver(&mut a)).or_default() += 1;
    }
    a.restart();
    for (to, times) in deliver_all(&mut a, |_| {}) {
        *served.entry(to).or_default() += times;
    }
    assert_eq!((served.len(), served.values().max()), (DOMAINS, Some(&1)));
}

#[test]
fn a_list_that_nobody_takes_is_tried_again_and_holds_nobody_up() {
    let mut a = small();
    submit_list(&mut a, DOMAINS);
    let mut tried = 0;
    while let Some((job, _)) = a.jobs.pop_front() {
        a.unreachable(job);
        tried += 1;
    }
    assert_eq!((tried, a.node.rows_in_hand()), (DOMAINS, 0), "all wait in the ledger");
    a.pass(5 * MINUTE);
    assert_eq!(a.jobs.len(), 8, "their time has come again");
    a.submit("alice@a.example", &["bob@b.example"]);
    assert_eq!(a.jobs.len(), 9);
    let served = deliver_all(&mut a, |a| assert!(a.node.rows_in_hand() <= 65));
    assert_eq!((served.len(), served.values().max()), (DOMAINS + 1, Some(&1)));
}

#[test]
fn many_messages_at_once_are_bounded_as_well() {
    let mut a = small();
    for number in 0..500 {
        a.submit(&format!("user{number}@a.example"), &[&format!("user@d{number}.example")]);
        assert!(a.node.rows_in_hand() <= 2 * 64, "{} rows in hand", a.node.rows_in_hand());
    }
    let served = deliver_all(&mut a, |_| {});
    assert_eq!((served.len(), served.values().max()), (500, Some(&1)));
}
