//! What waits for one user of a domain that others use too (TBR §7.4): his key fetches, claims and reports it, and neither his
//! domain's nor another user's does.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use mail::ledger::{Action, Issued, Route, RowBody, Source, Target};
use mail::{Assurance, Holder, InstanceId, MailParams, QueueId, Recipient};
use queue::pending::waiting;
use queue::port::{Acceptance, ClaimAnswer, DelegationEntry, Located, Peer, Proceed, ReceiptEntry, Reply, Request};
use queue::{Policy, QueueConfig};
use reference::message_signature::SignedBy;
use reference::{Block, Uri};
use support::{FACTS, Server, address, claim_of, domain, object, outcome, taken};

const CONTENT: &[u8] = b"A: b\r\n\r\nc\r\n";

fn user(name: &str) -> Holder {
    Holder::user(name, domain("b.example")).unwrap()
}

/// Those who might sign with a key that has to do with b.example, all but alice.
fn others() -> [Holder; 3] {
    [user("bob"), domain("b.example").into(), domain("c.example").into()]
}

fn custodian() -> QueueConfig {
    let mut config = support::config("b.example");
    config.default_policy = Policy { may_delegate: true, ..Policy::default() };
    config
}

/// A message for alice and for bob waits for each of them.
fn waits() -> (Server, QueueId) {
    let mut b = Server::with(custodian(), 1);
    let recipients = ["alice", "bob"].map(|name| {
        let to = address(&format!("{name}@b.example"));
        (Recipient::plain(to.clone()), vec![Target { route: Route::Site(user(name)), address: to }])
    });
    let acceptance = Acceptance {
        queue_id: "q1".parse().unwrap(),
        mail_from: Some(address("x@v.example")),
        params: MailParams::default(),
        recipients: recipients.to_vec(),
        object: object(CONTENT),
        facts: FACTS,
        prefix: String::new(),
        seal: String::new(),
        source: Source::Relay,
        once: None,
    };
    let reply = b.ask(Request::Accept(Box::new(acceptance)));
    assert!(matches!(reply, Reply::Accepted), "{reply:?}");
    for _ in 0..2 {
        let keys = vec![(domain("b.example"), Assurance::Webpki)];
        let (job, word) = b.connect_to(Peer { tbr: true, keys, ..Peer::default() });
        let Proceed::Offer { positions, .. } = word else { panic!("{word:?}") };
        b.finish(job, true, positions.iter().map(|position| (*position, taken())).collect());
    }
    (b, "q1".parse().unwrap())
}

fn issued_to(b: &Server, id: &QueueId, name: &str) -> Issued {
    let legs = [0, 1].map(|number| b.leg(id, number));
    let leg = legs.into_iter().find(|leg| leg.route == Route::Site(user(name))).unwrap();
    leg.issued.last().unwrap().clone()
}

fn by(holder: &Holder, issued: &Issued) -> SignedBy {
    let mut signed = SignedBy::default();
    signed.add(holder.clone(), Uri::parse(&issued.uri).unwrap().host);
    signed
}

fn fetch(b: &mut Server, issued: &Issued, signed: SignedBy) -> Located {
    match b.ask(Request::Locate { xuid: object(CONTENT).xuid, grant: issued.grant.clone(), signed }) {
        Reply::Object(located) => located,
        other => panic!("{other:?}"),
    }
}

fn claim(b: &mut Server, issued: &Issued, signed: SignedBy) -> Option<Vec<(u16, ClaimAnswer)>> {
    let claims = vec![claim_of(issued, &[0])];
    match b.ask(Request::Claims { instance: InstanceId([7; 16]), claims, signed }) {
        Reply::Claims(mut answers) => answers.pop().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn report(b: &mut Server, issued: &Issued, signed: SignedBy) -> Option<Vec<u16>> {
    let outcomes = vec![(0, outcome(Action::Delivered, b.now))];
    let entry = ReceiptEntry { to: issued.to.clone(), id: issued.id, grant: issued.grant.clone(), outcomes };
    match b.ask(Request::Receipts { instance: InstanceId([7; 16]), receipts: vec![entry], signed }) {
        Reply::Receipts(mut answers) => answers.pop().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_user_has_a_reference_of_his_own_and_his_key_alone_opens_it() {
    let (mut b, id) = waits();
    let of_alice = issued_to(&b, &id, "alice");
    assert_eq!((of_alice.to.clone(), of_alice.bound.is_some()), (domain("b.example"), true));
    assert_ne!(of_alice.grant, issued_to(&b, &id, "bob").grant);
    for other in others() {
        assert_eq!(fetch(&mut b, &of_alice, by(&other, &of_alice)), Located::Unknown, "{other}");
        assert_eq!(claim(&mut b, &of_alice, by(&other, &of_alice)), None, "{other}");
        assert_eq!(report(&mut b, &of_alice, by(&other, &of_alice)), None, "{other}");
    }
    let alice = by(&user("alice"), &of_alice);
    assert!(matches!(fetch(&mut b, &of_alice, alice.clone()), Located::Object(_)));
    assert_eq!(claim(&mut b, &of_alice, alice.clone()), Some(vec![(0, ClaimAnswer::Granted)]));
    for other in others() {
        assert_eq!(report(&mut b, &of_alice, by(&other, &of_alice)), None, "{other} reports what alice has claimed");
    }
    assert_eq!(report(&mut b, &of_alice, alice), Some(vec![0]));
}

#[test]
fn what_waits_for_one_user_is_found_under_his_name_only() {
    let (b, id) = waits();
    let keys = |name: &str| {
        let key = mail::ledger::by_pending(&name.parse().unwrap());
        b.ledger.rows.values().filter(|row| row.alternates().contains(&key)).count()
    };
    assert_eq!((keys("alice@b.example"), keys("bob@b.example"), keys("b.example")), (1, 1, 0));
    let leg = b.leg(&id, 0);
    let shown: Vec<_> = waiting(leg, b.now).iter().map(|one| one.issued.id).collect();
    assert_eq!(shown, [leg.issued[0].id]);
    assert!(b.ledger.rows.values().all(|row| matches!(&row.body, RowBody::Leg(leg) if leg.recipients.len() == 1)));
}

#[test]
fn a_user_s_key_passes_nothing_on_in_his_domain_s_name() {
    // alice passes on what waits for her by a hop that is in order, and would do for a domain.
    let (mut b, id) = waits();
    let of_alice = issued_to(&b, &id, "alice");
    let mut relay = Server::with(
        {
            let mut config = support::config("b.example");
            config.default_policy = Policy { delegate_to: true, ..Policy::default() };
            config
        },
        2,
    );
    let mut inbound = support::inbound_of(&of_alice.uri, &of_alice.block, &["alice@b.example"], "in1", b.now);
    for recipient in &mut inbound.recipients {
        let target = Target { route: Route::Mx(domain("c.example")), address: address("alice@c.example") };
        recipient.targets = vec![target];
    }
    relay.ask(Request::Offer(Box::new(inbound)));
    let Some((_, queue::port::Work::PostDelegation(post))) = relay.jobs.pop_front() else { panic!("no delegation") };
    let block = Block::parse(post.block.as_bytes()).unwrap();
    let entry = DelegationEntry {
        to: post.to.clone(),
        id: post.id,
        grant: post.grant.clone(),
        hop: block.chain().hops()[0].clone(),
        hop_grant: post.hop_grant.clone(),
        map: post.map.clone(),
        bound: None,
    };
    for holder in others().into_iter().chain([user("alice")]) {
        let delegation = Box::new(entry.clone());
        let signed = by(&holder, &of_alice);
        let answer = b.ask(Request::Delegate { instance: InstanceId([2; 16]), delegation, signed });
        assert!(matches!(answer, Reply::Delegated(None)), "{holder}: {answer:?}");
    }
}
