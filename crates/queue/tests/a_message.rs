//! One message from end to end: by value, and by reference between two servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::time::Duration;

use mail::ledger::{Action, IndexState, Phase, RecipientState};
use queue::port::{JobEvent, Located, OfferAnswer, Proceed, Reply, Request, Work};
use reference::message_signature::SignedBy;
use support::{FACTS, Server, done, inbound_of, object, taken};

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
