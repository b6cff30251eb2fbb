//! A relay between two domains (TBR §7): custody goes on with a hop, and what becomes of the message comes back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use mail::QueueId;
use mail::ledger::{
    Action, ContentFacts, Inbound, IndexState, Issued, Key, Outcome, RecipientState, Route, RowBody, Target,
};
use queue::port::ClaimAnswer::{Granted, Taken};
use queue::port::{JobEvent, JobId, OfferAnswer, Proceed, ReceiptEntry, Reply, Request, Work};
use reference::{Block, HopMode};
use support::{DAY, FACTS, HOUR, Server, address, domain, inbound_of, never, object, secs, taken};

const CONTENT: &[u8] = b"A: b\r\n\r\nc\r\n";
const BOB: &[&str] = &["bob@b.example"];

/// A reference of a.example to recipients at b.example who are all forwarded to c.example.
fn forwarded(to: &[&str]) -> Inbound {
    let mut a = Server::new("a.example", 1);
    let (_, _, issued) = a.offer(to);
    let mut inbound = inbound_of(&issued.uri, &issued.block, to, "in1", a.now);
    for recipient in &mut inbound.recipients {
        let target = address(&format!("{}@c.example", recipient.recipient.address.local()));
        recipient.targets = vec![Target { route: Route::Mx(domain("c.example")), address: target }];
    }
    inbound
}

/// A server at b.example that has taken custody of it.
fn custodian(inbound: &Inbound) -> Server {
    let mut b = Server::new("b.example", 2);
    take(&mut b, inbound);
    b
}

fn take(b: &mut Server, inbound: &Inbound) {
    let answer = b.ask(Request::Offer(Box::new(inbound.clone())));
    assert!(matches!(answer, Reply::Offer(OfferAnswer::Pending(_))), "{answer:?}");
    let Some((job, Work::Retrieve(_))) = b.jobs.pop_front() else { panic!("no retrieval") };
    b.event(job, JobEvent::Retrieved { object: object(CONTENT), facts: FACTS, octets: 12 });
    let Some((job, Work::PostClaims(_))) = b.jobs.pop_front() else { panic!("no claims") };
    let granted = (0u16..).zip(&inbound.recipients).map(|(index, _)| (index, Granted)).collect();
    b.event(job, JobEvent::Claimed(vec![Some(granted)]));
}

fn queue_id() -> QueueId {
    "in1".parse().unwrap()
}

/// b.example offers to c.example, which takes it.
fn passed(b: &mut Server) -> Issued {
    let (job, word) = b.connect(true);
    assert!(matches!(word, Proceed::Offer { .. }), "{word:?}");
    let issued = b.issued(&queue_id());
    b.finish(job, true, issued.positions.iter().map(|p| (*p, taken())).collect());
    issued
}

fn receipts(b: &mut Server) -> (JobId, Vec<(u16, Outcome)>) {
    match b.jobs.pop_front() {
        Some((job, Work::PostReceipts(post))) => (job, post.entries.into_iter().flat_map(|e| e.outcomes).collect()),
        other => panic!("no receipts: {other:?}"),
    }
}

/// The origin records every receipt that is posted; says what they were.
fn acknowledge(b: &mut Server) -> Vec<(u16, Action)> {
    let (job, said) = receipts(b);
    b.event(job, JobEvent::Reported(vec![Some(said.iter().map(|(index, _)| *index).collect())]));
    said.into_iter().map(|(index, outcome)| (index, outcome.action)).collect()
}

#[test]
fn custody_goes_on_with_a_hop_that_continues_the_reference() {
    let inbound = forwarded(BOB);
    let mut b = custodian(&inbound);
    let issued = passed(&mut b);
    assert!(issued.block.ends_with(&inbound.block), "what came is unchanged below the hop");
    let block = Block::parse(issued.block.as_bytes()).unwrap();
    let [hop] = block.chain().hops() else { panic!("one hop") };
    let hop = hop.statement();
    assert_eq!((hop.domain.as_str(), hop.to.as_str(), hop.number), ("b.example", "c.example", 1));
    assert_eq!(hop.mode, HopMode::Custody(domain("tbr.b.example")));
    assert_eq!((&hop.mail_from, hop.expires), (&inbound.mail_from, issued.expires));
    assert!(issued.uri.starts_with("https://tbr.b.example/"), "the relay serves the object itself");
    assert_ne!(issued.grant, inbound.grant);
    assert!(!issued.block.contains("carol"), "nothing tells who is behind the alias");
}

#[test]
fn a_claim_ends_the_duty_of_the_origin_and_of_nobody_else() {
    let mut b = custodian(&forwarded(BOB));
    let issued = passed(&mut b);
    assert!(b.jobs.is_empty(), "nothing is reported while custody is here");
    assert_eq!(b.claim(3, &issued, &[0]), Some(vec![Granted]));
    let (job, said) = receipts(&mut b);
    assert_eq!(said.iter().map(|(n, o)| (*n, o.action)).collect::<Vec<_>>(), [(0, Action::Relayed)]);
    assert!(!said[0].1.text.contains("c.example"), "{}", said[0].1.text);
    b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
    assert_eq!(b.claim(4, &issued, &[0]), Some(vec![Taken]));
    assert_eq!(b.claim(3, &issued, &[0]), Some(vec![Granted]));
    assert!(b.jobs.is_empty(), "told once");
    assert!(b.leg(&queue_id(), 0).object.is_some(), "it serves the object on");
}

#[test]
fn a_late_outcome_goes_back_to_whoever_it_came_from() {
    for (late, text) in [(Action::Failed, "could not be delivered"), (Action::Delivered, "delivered")] {
        let mut b = custodian(&forwarded(BOB));
        let issued = passed(&mut b);
        b.claim(3, &issued, &[0]).unwrap();
        assert_eq!(acknowledge(&mut b), [(0, Action::Relayed)]);
        b.pass(DAY);
        assert_eq!(b.receipt(3, &issued, 0, late), Some(vec![0]));
        let (_, said) = receipts(&mut b);
        assert_eq!((said[0].0, said[0].1.action), (0, late));
        assert!(said[0].1.text.contains(text) && !said[0].1.text.contains("c.example"), "{}", said[0].1.text);
        assert!(b.report_texts().is_empty(), "the author hears of it from the origin");
    }
}

#[test]
fn what_is_refused_after_retrieval_is_failed_at_once() {
    let mut b = custodian(&forwarded(BOB));
    let issued = passed(&mut b);
    let refusal = support::outcome(Action::Failed, b.now);
    let entry = queue::port::ClaimEntry { failed: vec![(0, refusal)], ..support::claim_of(&issued, &[0]) };
    assert_eq!(b.claim_as(3, entry), Some(vec![(0, Granted)]));
    assert_eq!(acknowledge(&mut b), [(0, Action::Failed)]);
}

#[test]
fn recipients_of_one_reference_are_told_apart() {
    let mut b = custodian(&forwarded(&["bob@b.example", "dora@b.example"]));
    let issued = passed(&mut b);
    assert_eq!(b.claim(3, &issued, &[1]), Some(vec![Granted]));
    assert_eq!(acknowledge(&mut b), [(1, Action::Relayed)]);
    assert_eq!(b.claim(3, &issued, &[0]), Some(vec![Granted]));
    assert_eq!(acknowledge(&mut b), [(0, Action::Relayed)]);
    assert_eq!(b.receipt(3, &issued, 0, Action::Failed), Some(vec![0]));
    assert_eq!(acknowledge(&mut b), [(0, Action::Failed)]);
}

#[test]
fn of_several_targets_one_elsewhere_keeps_the_origin_listening() {
    let mut inbound = forwarded(BOB);
    let mailbox = Target { route: Route::Maildir("bob".into()), address: address("bob@b.example") };
    inbound.recipients[0].targets.push(mailbox);
    let mut b = custodian(&inbound);
    while let Some((job, work)) = b.jobs.pop_front() {
        let Work::Deliver(delivery) = work else { panic!("{work:?}") };
        if delivery.leg.route == Route::Maildir("bob".into()) {
            b.finish(job, false, vec![(0, support::done())]);
        } else {
            let peer = queue::port::Peer { name: "mx.c.example".into(), tbr: true, ..Default::default() };
            b.event(job, JobEvent::Connected(peer));
            b.finish(job, true, vec![(0, taken())]);
        }
    }
    let legs = (0..2).map(|number| b.leg(&queue_id(), number));
    let issued = legs.flat_map(|leg| &leg.issued).next().unwrap().clone();
    assert!(b.jobs.is_empty(), "one of two targets is open");
    assert_eq!(b.claim(3, &issued, &[0]), Some(vec![Granted]));
    assert_eq!(acknowledge(&mut b), [(0, Action::Relayed)]);
    assert_eq!(b.receipt(3, &issued, 0, Action::Failed), Some(vec![0]));
    assert_eq!(acknowledge(&mut b), [(0, Action::Failed)]);
}

#[test]
fn a_crash_at_any_time_loses_neither_custody_nor_the_receipt() {
    let mut b = custodian(&forwarded(BOB));
    let issued = passed(&mut b);
    b.restart();
    assert_eq!(b.claim(3, &issued, &[0]), Some(vec![Granted]));
    b.restart();
    assert_eq!(acknowledge(&mut b), [(0, Action::Relayed)]);
    b.restart();
    assert!(b.jobs.is_empty());
    assert!(matches!(b.state(&queue_id(), 0, 0), RecipientState::Claimed(_)));
}

#[test]
fn claim_and_receipt_are_one_commit() {
    let mut b = custodian(&forwarded(BOB));
    let issued = passed(&mut b);
    let call = b.next_call();
    let claims = vec![support::claim_of(&issued, &[0])];
    let request = Request::Claims { instance: mail::InstanceId([3; 16]), claims, signed: Default::default() };
    assert_eq!(b.nothing_leaves_before_its_commit(queue::port::Input::Call { call, request }), 1);
    assert!(
        matches!(&b.inbound().recipients[0].state, IndexState::Final { outcome, .. } if outcome.action == Action::Relayed)
    );
}

#[test]
fn what_nobody_claims_fails_here_and_the_origin_tells_its_author() {
    let mut b = custodian(&forwarded(BOB));
    let (job, _) = b.connect(true);
    b.finish(job, true, vec![(0, never(false))]);
    assert_eq!(acknowledge(&mut b), [(0, Action::Failed)]);
    assert!(b.report_texts().is_empty());
}

#[test]
fn a_peer_without_tbr_gets_it_by_value_with_hop_and_reference_on_top() {
    let inbound = forwarded(BOB);
    let mut b = custodian(&inbound);
    let (_, word) = b.connect(false);
    let Proceed::ByValue { prefix: Some(prefix), .. } = word else { panic!("{word:?}") };
    let block = prefix.strip_prefix("Received: x\r\n").expect("trace on top");
    assert!(block.ends_with(&inbound.block));
    let block = Block::parse(block.as_bytes()).unwrap();
    let (to, other) = (address("bob@c.example"), address("eve@c.example"));
    let sent_to = |to| {
        let recipients = std::slice::from_ref(to);
        let session = reference::Session { mail_from: inbound.mail_from.as_ref(), recipients };
        reference::judge::sent_by_value_to(block.chain(), &session, b.now)
    };
    assert!(sent_to(&to) && !sent_to(&other), "it names its recipient, and nobody else");
    assert!(!prefix.contains(&reference::Uri::parse(&inbound.uri).unwrap().reveal()), "no grant travels");
}

#[test]
fn several_recipients_in_one_transaction_go_without_a_hop_of_ours() {
    let inbound = forwarded(&["bob@b.example", "dora@b.example"]);
    let mut b = custodian(&inbound);
    let (_, word) = b.connect(false);
    assert!(matches!(&word, Proceed::ByValue { positions, prefix: None } if positions == &[0, 1]), "{word:?}");
    assert!(b.leg(&queue_id(), 0).prefix.ends_with(&inbound.block));
}

#[test]
fn no_hop_is_made_that_a_receiver_would_refuse() {
    // The reference has expired since: a hop must be made within its lifetime.
    let inbound = forwarded(BOB);
    let mut config = support::config("b.example");
    config.timers.message_lifetime = 20 * DAY;
    let mut b = Server::with(config, 2);
    take(&mut b, &inbound);
    b.pass_unreachable(secs(inbound.expires.since(b.now).as_secs()) + HOUR);
    while b.jobs.is_empty() {
        b.pass(HOUR);
    }
    let (_, word) = b.connect(true);
    assert!(matches!(word, Proceed::ByValue { .. }), "{word:?}");
    // A server that does not sign for the domain that the reference names.
    let mut config = support::config("b.example");
    config.signers.clear();
    let mut b = Server::with(config, 2);
    take(&mut b, &inbound);
    let (_, word) = b.connect(true);
    assert!(matches!(word, Proceed::ByValue { .. }), "{word:?}");
}

#[test]
fn three_domains_in_a_row_make_two_hops() {
    let mut b = custodian(&forwarded(BOB));
    let issued = passed(&mut b);
    let mut onward = inbound_of(&issued.uri, &issued.block, &["bob@c.example"], "in1", b.now);
    onward.recipients[0].targets =
        vec![Target { route: Route::Mx(domain("d.example")), address: address("x@d.example") }];
    let mut c = Server::new("c.example", 3);
    take(&mut c, &onward);
    let last = passed(&mut c);
    let block = Block::parse(last.block.as_bytes()).unwrap();
    let hops: Vec<_> = block.chain().hops().iter().map(|hop| hop.statement().domain.to_string()).collect();
    assert_eq!(hops, ["c.example", "b.example"]);
    assert_eq!(c.claim(4, &last, &[0]), Some(vec![Granted]));
    let (_, said) = receipts(&mut c);
    let entry = ReceiptEntry { to: issued.to.clone(), id: issued.id, grant: issued.grant.clone(), outcomes: said };
    b.claim(3, &issued, &[0]).unwrap();
    assert_eq!(acknowledge(&mut b), [(0, Action::Relayed)]);
    let instance = mail::InstanceId([3; 16]);
    let reply = b.ask(Request::Receipts { instance, receipts: vec![entry], signed: Default::default() });
    assert!(matches!(&reply, Reply::Receipts(recorded) if recorded[0] == Some(vec![0])), "{reply:?}");
    assert!(matches!(&b.ledger.rows[&Key::Leg(queue_id(), 0)].body, mail::ledger::RowBody::Leg(_)));
}

#[test]
fn hops_count_towards_a_loop_and_of_one_object_each_reference_has_its_own() {
    let hop = passed(&mut custodian(&forwarded(BOB)));
    let mut author = Server::new("b.example", 9);
    let id = author.submit("carol@b.example", &["bob@c.example"]);
    author.connect(true);
    let direct = author.issued(&id);
    let mut c = Server::new("c.example", 3);
    for (issued, id) in [(&hop, "in1"), (&direct, "in2")] {
        let inbound = inbound_of(&issued.uri, &issued.block, &["bob@c.example"], id, c.now);
        assert!(matches!(c.ask(Request::Offer(Box::new(inbound))), Reply::Offer(OfferAnswer::Pending(_))));
    }
    let Some((job, Work::Retrieve(_))) = c.jobs.pop_front() else { panic!("no retrieval") };
    let facts = ContentFacts { received_fields: 100, ..FACTS };
    c.event(job, JobEvent::Retrieved { object: object(CONTENT), facts, octets: 12 });
    let refusal = |issued: &Issued| match &c.ledger.rows[&Key::Inbound(issued.id, domain("b.example"))].body {
        RowBody::Inbound(inbound) => inbound.refusal.as_ref().map(|outcome| outcome.status.to_string()),
        RowBody::Leg(leg) => panic!("{leg:?}"),
    };
    assert_eq!((refusal(&hop).as_deref(), refusal(&direct)), (Some("5.4.6"), None));
}
