//! Mail of a site at its custodian: taken once, with what remembers it in the same commit, and called taken by nothing else.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::time::Duration;

use mail::ledger::{Key, Route, Row, RowBody, Target};
use mail::{EnhancedStatus, MailParams, Recipient, Timestamp};
use queue::letters::{Answering, Letter, Octets, Step, Taking, Whole};
use queue::port::{Input, Reply, Request};
use reference::bundle::TakenEntry;
use support::{FACTS, START, Server, address, domain, object};

const CONTENT: &[u8] = b"From: bob@site.example\r\n\r\nc\r\n";

fn letter(number: u32, content: &[u8]) -> Letter {
    Letter {
        site: domain("site.example").into(),
        id: format!("leg/abc/{number}").parse().unwrap(),
        at: Timestamp::from_secs(START),
        mail_from: Some(address("bob@site.example")),
        params: MailParams::default(),
        recipients: ["alice@a.example", "nobody@cust.example"].map(|to| Recipient::plain(address(to))).to_vec(),
        xuid: object(content).xuid,
        size: content.len() as u64,
        trace: String::new(),
    }
}

/// For alice it goes on, nobody is unknown.
fn taking() -> Box<Taking> {
    let letter = letter(0, CONTENT);
    let [alice, nobody] = letter.recipients.clone().try_into().unwrap();
    let target = Target { route: Route::Mx(domain("a.example")), address: alice.address.clone() };
    let failed = vec![(nobody, EnhancedStatus::permanent(1, 1), "no such recipient".to_owned())];
    let recipients = vec![(alice, vec![target])];
    Box::new(Taking { object: object(CONTENT), facts: FACTS, prefix: String::new(), recipients, failed, letter })
}

fn take(server: &mut Server, taking: Box<Taking>) -> (TakenEntry, bool) {
    match server.ask(Request::Letter(taking)) {
        Reply::Letter { told, is_kept } => (told, is_kept),
        other => panic!("{other:?}"),
    }
}

fn legs(server: &Server) -> usize {
    server.ledger.rows.keys().filter(|key| matches!(key, Key::Leg(..))).count()
}

#[test]
fn a_message_and_what_remembers_it_are_one_commit_and_nothing_is_said_before() {
    let mut custodian = Server::new("cust.example", 1);
    let (call, request) = (custodian.next_call(), Request::Letter(taking()));
    let commits = custodian.nothing_leaves_before_its_commit(Input::Call { call, request });
    assert_eq!((commits, legs(&custodian)), (1, 1));
    assert!(custodian.ledger.rows.contains_key(&taking().letter.key()));
}

#[test]
fn it_is_taken_once_also_when_everything_else_of_it_is_forgotten() {
    let mut custodian = Server::new("cust.example", 1);
    let (first, is_kept) = take(&mut custodian, taking());
    assert!(is_kept);
    assert_eq!(first.failed[0].rcpt, address("nobody@cust.example"));
    custodian.restart();
    assert_eq!(take(&mut custodian, taking()), (first.clone(), false));
    // Alice cannot be reached, and in the end the message has been given up and forgotten.
    custodian.pass_unreachable(Duration::from_secs(50 * 24 * 3600));
    assert_eq!(legs(&custodian), 0);
    assert_eq!(take(&mut custodian, taking()), (first, false));
    assert_eq!(legs(&custodian), 0, "taken twice");
    custodian.pass(Duration::from_secs(60 * 24 * 3600));
    assert!(custodian.ledger.rows.is_empty(), "{:?}", custodian.ledger.rows.keys());
}

#[test]
fn one_that_goes_nowhere_is_remembered_and_its_object_is_nobodys() {
    let mut custodian = Server::new("cust.example", 1);
    let nobody = |mut taking: Box<Taking>| {
        taking
            .failed
            .extend(taking.recipients.drain(..).map(|(to, _)| (to, "5.7.1".parse().unwrap(), "no".to_owned())));
        taking
    };
    let (told, is_kept) = take(&mut custodian, nobody(taking()));
    assert_eq!((told.failed.len(), is_kept, legs(&custodian)), (2, false, 0));
    assert_eq!(take(&mut custodian, taking()), (told, false), "and stays so");
}

#[test]
fn what_the_ledger_does_not_take_is_not_called_taken() {
    let mut custodian = Server::new("cust.example", 1);
    custodian.ledger.fail = 1;
    assert!(matches!(custodian.ask(Request::Letter(taking())), Reply::Unavailable));
    let mut aimless = taking();
    aimless.recipients[0].1.clear();
    assert!(matches!(custodian.ask(Request::Letter(aimless)), Reply::Unavailable), "a recipient would be lost");
    assert!(custodian.ledger.rows.is_empty());
    assert!(take(&mut custodian, taking()).1);
}

fn answering(letters: Vec<Letter>) -> Answering {
    Answering::new(letters, 1000, 2)
}

fn wanted(answering: Answering) -> Vec<u64> {
    let answer = answering.finish();
    assert!(answer.taken.is_empty());
    answer.wanted.iter().map(|wanted| wanted.at).collect()
}

/// Nothing is remembered, and so many octets are here.
fn look(answering: &mut Answering, held: u64) -> Octets {
    assert!(matches!(answering.step(), Some(Step::Recall(_))));
    answering.recalled(None);
    assert!(matches!(answering.step(), Some(Step::Look(_))));
    answering.looked(held)
}

#[test]
fn a_list_is_answered_message_by_message() {
    let size = CONTENT.len() as u64;
    let mut part = answering(vec![letter(0, CONTENT)]);
    assert_eq!(look(&mut part, 7), Octets::Kept);
    assert!(part.step().is_none());
    assert_eq!(wanted(part), [7]);
    let mut more = answering(vec![letter(0, CONTENT)]);
    assert_eq!(look(&mut more, size + 1), Octets::Dropped);
    assert_eq!(wanted(more), [0]);
    let mut other = answering(vec![letter(0, CONTENT)]);
    assert_eq!(look(&mut other, size), Octets::Whole);
    assert!(matches!(other.step(), Some(Step::Take(_))), "all octets are not the word");
    other.took(Whole::Other);
    assert_eq!(wanted(other), [0]);
    let mut whole = answering(vec![letter(0, CONTENT), letter(1, b"x")]);
    assert_eq!(look(&mut whole, size), Octets::Whole);
    whole.took(Whole::Told(TakenEntry { id: letter(0, CONTENT).id, failed: Vec::new() }));
    assert_eq!(look(&mut whole, 0), Octets::Kept);
    let answer = whole.finish();
    assert_eq!((answer.taken.len(), answer.wanted.len()), (1, 1));
}

#[test]
fn what_would_never_do_is_refused_for_everybody_at_once() {
    let too_large = Letter { size: 1001, ..letter(0, CONTENT) };
    let empty = Letter { size: 0, ..letter(1, b"") };
    let mut answering = answering(vec![too_large, empty, letter(2, CONTENT)]);
    for _ in 0..2 {
        assert!(matches!(answering.step(), Some(Step::Recall(_))));
        answering.recalled(None);
    }
    assert_eq!(look(&mut answering, CONTENT.len() as u64), Octets::Whole);
    answering.took(Whole::NoObject);
    let answer = answering.finish();
    let status = |entry: &TakenEntry| entry.failed.iter().map(|one| one.status.to_string()).collect::<Vec<_>>();
    let said: Vec<_> = answer.taken.iter().map(status).collect();
    assert_eq!(said, [["5.3.4"; 2], ["5.6.0"; 2], ["5.6.0"; 2]]);
}

#[test]
fn one_content_is_asked_for_once_and_no_more_than_there_is_room_for() {
    let mut answering = answering(vec![letter(0, b"x"), letter(1, b"x"), letter(2, b"y"), letter(3, b"z")]);
    assert_eq!(look(&mut answering, 0), Octets::Kept);
    let Some(Step::Recall(next)) = answering.step() else { panic!("the end") };
    assert_eq!(next.id, letter(2, b"y").id);
    assert_eq!(look(&mut answering, 0), Octets::Kept);
    assert!(answering.step().is_none());
    assert_eq!(wanted(answering).len(), 2);
}

#[test]
fn only_the_row_that_remembers_it_says_that_it_was_taken() {
    let mut custodian = Server::new("cust.example", 1);
    let (told, _) = take(&mut custodian, taking());
    let row: Row = custodian.ledger.rows[&taking().letter.key()].clone();
    let mut answering = answering(vec![letter(0, CONTENT)]);
    answering.step();
    answering.recalled(Some(&row));
    assert_eq!(answering.finish().taken, [told]);
    let RowBody::Inbound(inbound) = &row.body else { panic!("{row:?}") };
    assert_eq!(queue::letters::told(inbound, &domain("other.example").into()), None);
}

#[test]
fn what_one_user_has_sent_is_nothing_to_another_or_to_their_domain() {
    let mut custodian = Server::new("cust.example", 1);
    let of = |site: &str| {
        let mut taking = taking();
        taking.letter.site = site.parse().unwrap();
        taking
    };
    let sites = ["site.example", "alice@site.example", "bob@site.example"];
    for (place, site) in sites.into_iter().enumerate() {
        assert!(take(&mut custodian, of(site)).1, "{site} is taken for another");
        assert!(!take(&mut custodian, of(site)).1, "{site} is taken twice");
        assert_eq!(legs(&custodian), place + 1);
    }
    let rows: Vec<_> = custodian
        .ledger
        .rows
        .values()
        .filter_map(|row| match &row.body {
            RowBody::Inbound(inbound) => Some(inbound),
            RowBody::Leg(_) => None,
        })
        .collect();
    for site in sites {
        let site = site.parse().unwrap();
        assert_eq!(rows.iter().filter(|row| queue::letters::told(row, &site).is_some()).count(), 1, "{site}");
    }
}
