//! One message from end to end: by value, and by reference between two servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::time::Duration;

use mail::ledger::{Action, IndexState, Key, Phase, RecipientState, Route, Source, Target};
use mail::{MailParams, Recipient, ReferenceId};
use queue::port::{Acceptance, Input, JobEvent, Located, OfferAnswer, Proceed, Reply, Request, Work};
use queue::remembered::Remembered;
use reference::message_signature::SignedBy;
use support::{FACTS, Server, address, domain, done, inbound_of, object, taken};

#[test]
fn by_value_to_a_peer_without_tbr() {
    let mut a = Server::new("a.example", 1);
    let id = a.submit("alice@a.example", &["bob@b.example", "carol@b.example", "dave@c.example"]);
    let (job, word) = a.connect(false);
    assert!(matches!(word, Proceed::ByValue { positions, .. } if positions == [0, 1]));
    a.finish(job, false, vec![(0, taken()), (1, taken())]);
    assert!(
        matches!(a.state(&id, 0, 1), RecipientState::Done { outcome, claim: None } if outcome.action == Action::Relayed)
    );
    assert!(a.leg(&id, 0).object.is_none(), "nobody needs it for this leg");
    assert!(a.leg(&id, 1).object.is_some());
    a.connect(false);
    assert!(a.reports().is_empty());
}

#[test]
fn by_reference_from_submission_to_receipt() {
    let mut a = Server::new("a.example", 1);
    let mut b = Server::new("b.example", 2);
    let id = a.submit("alice@a.example", &["bob@b.example"]);

    let (job, word) = a.connect(true);
    let Proceed::Offer { uri, block, positions } = word else { panic!("{word:?}") };
    assert_eq!(positions, [0]);
    let issued = a.leg(&id, 0).issued[0].clone();
    assert_eq!((&issued.uri, &issued.block), (&uri, &block));

    let inbound = inbound_of(&uri, &block, &["bob@b.example"], "in1", b.now);
    let Reply::Offer(OfferAnswer::Pending(_)) = b.ask(Request::Offer(Box::new(inbound))) else { panic!() };
    a.finish(job, true, vec![(0, taken())]);

    let Some((job, Work::Retrieve(wanted))) = b.jobs.pop_front() else { panic!() };
    let located =
        a.ask(Request::Locate { xuid: wanted.xuid, grant: issued.grant.clone(), signed: SignedBy::default() });
    let Reply::Object(Located::Object(found)) = located else { panic!("{located:?}") };
    assert_eq!(found, object(b"A: b\r\n\r\nc\r\n"));
    b.event(job, JobEvent::Retrieved { object: found, facts: FACTS, octets: 12 });

    let Some((job, Work::PostClaims(post))) = b.jobs.pop_front() else { panic!() };
    let Reply::Claims(answers) =
        a.ask(Request::Claims { instance: post.instance, claims: post.entries, signed: SignedBy::default() })
    else {
        panic!()
    };
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Claimed(_)));
    b.event(job, JobEvent::Claimed(answers));
    assert!(matches!(b.inbound().recipients[0].state, IndexState::Mine { acted: false }));

    let (job, delivery) = b.delivery();
    assert!(delivery.leg.prefix.starts_with("Received: x\r\nTBR-Reference: "));
    b.finish(job, false, vec![(0, done())]);

    let Some((job, Work::PostReceipts(post))) = b.jobs.pop_front() else { panic!() };
    let Reply::Receipts(answers) =
        a.ask(Request::Receipts { instance: post.instance, receipts: post.entries, signed: SignedBy::default() })
    else {
        panic!()
    };
    b.event(job, JobEvent::Reported(answers));
    assert_eq!(b.inbound().phase, Phase::Closed);
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.action == Action::Delivered));
    assert!(a.leg(&id, 0).object.is_none() && b.inbound().object.is_none());
    let located = a.ask(Request::Locate { xuid: wanted.xuid, grant: issued.grant, signed: SignedBy::default() });
    assert!(matches!(located, Reply::Object(Located::Gone)));

    for server in [&mut a, &mut b] {
        server.pass(Duration::from_secs(60 * 24 * 3600));
        assert!(server.ledger.rows.is_empty(), "everything is forgotten in the end: {:?}", server.ledger.rows);
        assert_eq!(server.node.rows_in_hand(), 0);
    }
}

/// A message under a hop by value that counts once.
fn counts_once(server: &Server, name: &str) -> Request {
    let (queue_id, content) = (name.parse().unwrap(), object(b"A: b\r\n\r\nc\r\n"));
    let carol = Recipient::plain(address("carol@c.example"));
    let target = Target { route: Route::Maildir("carol".to_owned()), address: carol.address.clone() };
    let once = Remembered {
        queue_id,
        d: domain("b.example"),
        i: ReferenceId([9; 16]),
        to: domain("c.example"),
        fingerprint: "hop".to_owned(),
        xuid: content.xuid,
        size: content.size,
        until: server.now.after(Duration::from_secs(3600)),
        mail_from: Some(address("alice@a.example")),
        recipients: vec![(carol.clone(), IndexState::Refused)],
    };
    Request::Accept(Box::new(Acceptance {
        queue_id: once.queue_id.clone(),
        mail_from: once.mail_from.clone(),
        params: MailParams::default(),
        recipients: vec![(carol, vec![target])],
        object: content,
        facts: FACTS,
        prefix: String::new(),
        seal: String::new(),
        source: Source::Relay,
        once: Some(once),
    }))
}

/// Rows of what is remembered, and legs.
fn rows(server: &Server) -> (usize, usize) {
    let remembered = server.ledger.rows.keys().filter(|key| matches!(key, Key::Inbound(..))).count();
    (remembered, server.ledger.rows.len() - remembered)
}

#[test]
fn what_counts_once_is_remembered_with_the_message_and_not_without_it() {
    let mut c = Server::new("c.example", 3);
    c.ledger.fail = 1;
    let request = counts_once(&c, "q1");
    assert!(matches!(c.ask(request), Reply::Unavailable));
    assert_eq!(rows(&c), (0, 0), "what is not accepted leaves nothing");
    let (call, request) = (c.next_call(), counts_once(&c, "q2"));
    assert_eq!(c.nothing_leaves_before_its_commit(Input::Call { call, request }), 1);
    assert_eq!(rows(&c), (1, 1));
    assert!(matches!(c.replies.remove(&call), Some(Reply::Accepted)));
    let request = counts_once(&c, "q3");
    assert!(matches!(c.ask(request), Reply::Repeated));
    assert_eq!(rows(&c), (1, 1), "what is not accepted leaves nothing");
    c.pass(Duration::from_secs(3600 + 301));
    assert_eq!(rows(&c).0, 0, "when it has expired it is forgotten");
}

#[test]
fn of_two_copies_at_once_one_is_the_repetition() {
    let mut c = Server::new("c.example", 3);
    c.hold = true;
    let calls = [c.next_call(), c.next_call()];
    for (call, name) in calls.into_iter().zip(["q1", "q2"]) {
        let request = counts_once(&c, name);
        c.input(Input::Call { call, request });
        // Neither knows of the other.
        while !c.wants_to_commit() {
            c.answer_the_last();
        }
    }
    c.answer_the_last();
    assert!(matches!(c.replies.remove(&calls[1]), Some(Reply::Accepted)));
    c.answer_all();
    assert!(matches!(c.replies.remove(&calls[0]), Some(Reply::Repeated)));
    assert_eq!(rows(&c), (1, 1));
}
