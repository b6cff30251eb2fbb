//! Relaying by reference (TBR §7.3): a.example offers to b.example, which delegates to c.example; whoever claims it reports
//! to a.example, and what b.example cannot pass on it takes, or says so.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use mail::ledger::{Action, Inbound, IndexState, Issued, Key, RecipientState, Route, Target};
use mail::{Assurance, Domain, InstanceId, QueueId, ReferenceId};
use queue::port::ClaimAnswer::{self, Gone, Granted, Taken};
use queue::port::{
    ClaimEntry, Delegating, DelegationEntry, Input, JobEvent, JobId, Located, OfferAnswer, Peer, Proceed, ReceiptEntry,
    Reply, Request, Work,
};
use queue::{Policy, QueueConfig};
use reference::message_signature::SignedBy;
use reference::{Block, HopMode, Uri};
use support::{DAY, FACTS, HOUR, Server, address, claim_of, domain, inbound_of, later, never, object, outcome, taken};

const CONTENT: &[u8] = b"A: b\r\n\r\nc\r\n";
const BOB: &[&str] = &["bob@b.example"];
const TWO: &[&str] = &["bob@b.example", "dora@b.example"];
const RELAY: u8 = 2;
const NEXT: u8 = 3;

fn accepting(name: &str) -> QueueConfig {
    let mut config = support::config(name);
    config.default_policy = Policy { may_delegate: true, ..Policy::default() };
    config
}

fn using(name: &str) -> QueueConfig {
    let mut config = support::config(name);
    config.default_policy = Policy { delegate_to: true, ..Policy::default() };
    config
}

/// a.example has offered to b.example, whose keys are known; b.example took it.
fn origin(to: &[&str]) -> (Server, Issued) {
    let mut a = Server::with(accepting("a.example"), 1);
    let id = a.submit("alice@a.example", to);
    let keys = vec![(domain("b.example"), Assurance::Webpki)];
    let (job, word) = a.connect_to(Peer { tbr: true, keys, ..Peer::default() });
    assert!(matches!(word, Proceed::Offer { .. }), "{word:?}");
    let issued = a.issued(&id);
    a.finish(job, true, issued.positions.iter().map(|p| (*p, taken())).collect());
    (a, issued)
}

/// What b.example makes of it: everybody is forwarded to c.example.
fn forwarded(issued: &Issued, to: &[&str], a: &Server) -> Inbound {
    let mut inbound = inbound_of(&issued.uri, &issued.block, to, "in1", a.now);
    for recipient in &mut inbound.recipients {
        let target = address(&format!("{}@c.example", recipient.recipient.address.local()));
        recipient.targets = vec![Target { route: Route::Mx(domain("c.example")), address: target }];
    }
    inbound
}

fn relay(inbound: &Inbound) -> (Server, JobId, Delegating) {
    let mut b = Server::with(using("b.example"), RELAY);
    let answer = b.ask(Request::Offer(Box::new(inbound.clone())));
    assert!(matches!(answer, Reply::Offer(OfferAnswer::Pending(_))), "{answer:?}");
    let (job, post) = posted(&mut b);
    (b, job, post)
}

fn posted(b: &mut Server) -> (JobId, Delegating) {
    match b.jobs.pop_front() {
        Some((job, Work::PostDelegation(post))) => (job, *post),
        other => panic!("no delegation: {other:?}"),
    }
}

fn by(name: &str, issued: &Issued) -> SignedBy {
    let mut signed = SignedBy::default();
    signed.add(domain(name), Uri::parse(&issued.uri).unwrap().host);
    signed
}

fn entry(post: &Delegating) -> DelegationEntry {
    let block = Block::parse(post.block.as_bytes()).unwrap();
    DelegationEntry {
        to: post.to.clone(),
        id: post.id,
        grant: post.grant.clone(),
        hop: block.chain().hops()[0].clone(),
        hop_grant: post.hop_grant.clone(),
        map: post.map.clone(),
        bound: None,
    }
}

fn delegate_as(a: &mut Server, instance: u8, entry: DelegationEntry, signed: SignedBy) -> Option<ClaimAnswer> {
    let instance = InstanceId([instance; 16]);
    match a.ask(Request::Delegate { instance, delegation: Box::new(entry), signed }) {
        Reply::Delegated(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn delegate(a: &mut Server, issued: &Issued, post: &Delegating) -> Option<ClaimAnswer> {
    delegate_as(a, RELAY, entry(post), by("b.example", issued))
}

/// Delegated at the origin, and b.example knows it.
fn delegated(to: &[&str]) -> (Server, Issued, Server, Delegating) {
    let (mut a, issued) = origin(to);
    let (mut b, job, post) = relay(&forwarded(&issued, to, &a));
    let answer = delegate(&mut a, &issued, &post).unwrap();
    assert_eq!(answer, Granted);
    b.event(job, JobEvent::Delegated(answer));
    (a, issued, b, post)
}

/// The hop as the origin has it.
fn hop(a: &Server, id: &QueueId) -> Issued {
    a.leg(id, 0).issued.iter().find(|issued| issued.delegated.is_some()).expect("a hop").clone()
}

fn first(a: &Server) -> QueueId {
    match a.ledger.rows.keys().next().unwrap() {
        Key::Leg(id, _) => id.clone(),
        Key::Inbound(..) => panic!("no leg"),
    }
}

fn claim(a: &mut Server, instance: u8, entry: ClaimEntry, signed: SignedBy) -> Option<Vec<ClaimAnswer>> {
    match a.ask(Request::Claims { instance: InstanceId([instance; 16]), claims: vec![entry], signed }) {
        Reply::Claims(mut answers) => Some(answers.pop().unwrap()?.into_iter().map(|(_, answer)| answer).collect()),
        other => panic!("{other:?}"),
    }
}

fn report(a: &mut Server, instance: u8, issued: &Issued, action: Action, signed: SignedBy) -> Option<Vec<u16>> {
    let outcomes = vec![(0, outcome(action, a.now))];
    let entry = ReceiptEntry { to: issued.to.clone(), id: issued.id, grant: issued.grant.clone(), outcomes };
    match a.ask(Request::Receipts { instance: InstanceId([instance; 16]), receipts: vec![entry], signed }) {
        Reply::Receipts(mut answers) => answers.pop().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn fetch(a: &mut Server, issued: &Issued, signed: SignedBy) -> Located {
    match a.ask(Request::Locate { xuid: object(CONTENT).xuid, grant: issued.grant.clone(), signed }) {
        Reply::Object(located) => located,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_hop_leaves_the_object_where_it_is_and_nothing_is_retrieved() {
    let (mut a, issued, mut b, _) = delegated(BOB);
    let (job, word) = b.connect(true);
    let Proceed::Offer { uri, block, .. } = word else { panic!("{word:?}") };
    assert!(uri.starts_with("https://tbr.a.example/"), "{uri}");
    let parsed = Block::parse(block.as_bytes()).unwrap();
    let [hop] = parsed.chain().hops() else { panic!("one hop") };
    assert_eq!((&hop.statement().mode, hop.statement().to.as_str()), (&HopMode::Reference, "c.example"));
    assert!(hop.statement().expires <= issued.expires, "it does not outlive what it stands on");
    assert!(block.ends_with(&issued.block));
    b.finish(job, true, vec![(0, taken())]);
    assert!(b.jobs.is_empty(), "no retrieval, no claim, no receipt: {:?}", b.jobs);
    assert_eq!(b.inbound().recipients[0].state, IndexState::Delegated { failed: None });
    // What c.example does with it is between c.example and the origin.
    let id = first(&a);
    let hop = self::hop(&a, &id);
    assert!(matches!(fetch(&mut a, &hop, SignedBy::default()), Located::Object(_)));
    assert_eq!(claim(&mut a, NEXT, claim_of(&hop, &[0]), SignedBy::default()), Some(vec![Granted]));
    assert_eq!(report(&mut a, NEXT, &hop, Action::Delivered, SignedBy::default()), Some(vec![0]));
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Done { outcome, .. } if outcome.action == Action::Delivered));
}

#[test]
fn the_hop_is_durable_before_it_is_posted_and_posted_before_it_is_offered() {
    let (a, issued) = origin(BOB);
    let inbound = forwarded(&issued, BOB, &a);
    let mut b = Server::with(using("b.example"), RELAY);
    let call = b.next_call();
    let input = Input::Call { call, request: Request::Offer(Box::new(inbound)) };
    assert_eq!(b.nothing_leaves_before_its_commit(input), 1);
    let (_, post) = posted(&mut b);
    b.restart();
    let (job, again) = posted(&mut b);
    assert_eq!((&again.block, &again.hop_grant), (&post.block, &post.hop_grant), "the same after a crash");
    assert_eq!(b.nothing_leaves_before_its_commit(Input::Job { job, event: JobEvent::Delegated(Granted) }), 1);
    assert!(matches!(b.connect(true).1, Proceed::Offer { .. }));
}

#[test]
fn delegation_is_durable_before_it_is_answered() {
    let (mut a, issued) = origin(BOB);
    let (_, _, post) = relay(&forwarded(&issued, BOB, &a));
    let call = a.next_call();
    let instance = InstanceId([RELAY; 16]);
    let signed = by("b.example", &issued);
    let request = Request::Delegate { instance, delegation: Box::new(entry(&post)), signed };
    assert_eq!(a.nothing_leaves_before_its_commit(Input::Call { call, request }), 1);
    a.restart();
    assert_eq!(delegate(&mut a, &issued, &post), Some(Granted), "a repetition gets the same answer");
    assert_eq!(claim(&mut a, NEXT, claim_of(&issued, &[0]), by("b.example", &issued)), Some(vec![Gone]));
}

#[test]
fn the_first_of_claim_and_delegation_wins() {
    let (mut a, issued) = origin(TWO);
    let (_, _, post) = relay(&forwarded(&issued, TWO, &a));
    let other = claim_of(&issued, &[1]);
    assert_eq!(claim(&mut a, 9, other, by("b.example", &issued)), Some(vec![Granted]));
    assert_eq!(delegate(&mut a, &issued, &post), Some(Taken), "all of its recipients or none");
    let only = DelegationEntry { map: vec![0], ..entry(&post) };
    assert_eq!(delegate_as(&mut a, RELAY, only.clone(), by("b.example", &issued)), Some(Granted));
    // Another store of the same domain comes too late, with the hop that it has made itself.
    let (_, _, theirs) = relay(&forwarded(&issued, TWO, &a));
    let mut second = Server::with(using("b.example"), 9);
    second.ask(Request::Offer(Box::new(forwarded(&issued, TWO, &a))));
    let (_, theirs_too) = posted(&mut second);
    assert_ne!(theirs.block, theirs_too.block);
    let late = DelegationEntry { map: vec![0], ..entry(&theirs_too) };
    assert_eq!(delegate_as(&mut a, 9, late, by("b.example", &issued)), Some(Taken));
    a.pass(3 * HOUR);
    assert_eq!(delegate_as(&mut a, RELAY, only, by("b.example", &issued)), Some(Granted), "repetition");
}

#[test]
fn nobody_delegates_without_the_grant_the_signature_and_leave() {
    let (mut a, issued) = origin(BOB);
    let (_, _, post) = relay(&forwarded(&issued, BOB, &a));
    let good = || entry(&post);
    let signed = || by("b.example", &issued);
    let stolen = mail::Grant::new(&[9; 16]).unwrap();
    for (entry, signed) in [
        (DelegationEntry { grant: stolen.clone(), ..good() }, signed()),
        (DelegationEntry { to: domain("c.example"), ..good() }, signed()),
        (DelegationEntry { id: ReferenceId([9; 16]), ..good() }, signed()),
        (DelegationEntry { map: vec![1], ..good() }, signed()),
        (good(), SignedBy::default()),
        (good(), by("c.example", &issued)),
    ] {
        assert_eq!(delegate_as(&mut a, RELAY, entry, signed), None);
    }
    // An origin that has not opted in.
    let mut refusing = support::config("a.example");
    refusing.default_policy = Policy::default();
    a.node.reconfigure(refusing);
    assert_eq!(delegate(&mut a, &issued, &post), None);
    a.node.reconfigure(accepting("a.example"));
    assert_eq!(delegate(&mut a, &issued, &post), Some(Granted));
    // Under the same id something else.
    let other = DelegationEntry { hop_grant: stolen, ..good() };
    assert_eq!(delegate_as(&mut a, RELAY, other, signed()), None);
}

#[test]
fn a_relay_without_keys_has_nothing_to_sign_a_hop_with() {
    let mut a = Server::with(accepting("a.example"), 1);
    let (_, issued) = a.offered(BOB);
    assert!(issued.bound.is_none());
    let (_, _, post) = relay(&forwarded(&issued, BOB, &a));
    assert_eq!(delegate(&mut a, &issued, &post), None);
}

#[test]
fn a_hop_must_continue_what_it_is_delegated_from() {
    let (mut a, issued) = origin(BOB);
    let (_, _, post) = relay(&forwarded(&issued, BOB, &a));
    // Of another reference, here one with other random parts.
    let mut third = Server::with(accepting("a.example"), 7);
    let (_, theirs) = third.offered(BOB);
    let (_, _, invented) = relay(&forwarded(&theirs, BOB, &third));
    let wrong = DelegationEntry { hop: entry(&invented).hop, ..entry(&post) };
    assert_eq!(delegate_as(&mut a, RELAY, wrong, by("b.example", &issued)), None);
    assert_eq!(delegate(&mut a, &issued, &post), Some(Granted));
}

#[test]
fn what_the_origin_does_not_delegate_is_taken_into_custody() {
    let answers: [fn() -> JobEvent; 4] = [
        || JobEvent::Delegated(Taken),
        || JobEvent::Delegated(Gone),
        || JobEvent::PostFailed { text: "answers 404".into() },
        || JobEvent::PostFailed { text: "no answer in time".into() },
    ];
    for answer in answers {
        let (a, issued) = origin(BOB);
        let (mut b, job, _) = relay(&forwarded(&issued, BOB, &a));
        b.event(job, answer());
        let Some((job, Work::Retrieve(_))) = b.jobs.pop_front() else { panic!("custody instead") };
        b.event(job, JobEvent::Retrieved { object: object(CONTENT), facts: FACTS, octets: 12 });
        assert!(matches!(b.jobs.pop_front(), Some((_, Work::PostClaims(_)))));
    }
}

#[test]
fn only_those_who_are_forwarded_are_delegated() {
    let (a, issued) = origin(TWO);
    let mut inbound = forwarded(&issued, TWO, &a);
    inbound.recipients[0].targets = vec![Target { route: Route::Maildir("bob".into()), address: address(TWO[0]) }];
    let (mut b, job, post) = relay(&inbound);
    assert_eq!(post.map, [1]);
    b.event(job, JobEvent::Delegated(Granted));
    let works: Vec<Work> = b.jobs.iter().map(|(_, work)| work.clone()).collect();
    assert!(works.iter().any(|work| matches!(work, Work::Deliver(delivery) if delivery.leg.delegated)));
    assert!(works.iter().any(|work| matches!(work, Work::Retrieve(_))), "the other one is fetched: {works:?}");
}

#[test]
fn custody_is_taken_where_the_next_server_takes_no_references() {
    let (mut a, issued, mut b, _) = delegated(BOB);
    let (job, word) = b.connect(false);
    assert!(matches!(word, Proceed::Abandon), "{word:?}");
    b.finish(job, false, Vec::new());
    let id = first(&a);
    let hop = hop(&a, &id);
    assert_eq!(retrieve_and_claim(&mut a, &mut b, &issued), [Granted], "the claim revokes the delegation");
    assert_eq!(claim(&mut a, NEXT, claim_of(&hop, &[0]), SignedBy::default()), Some(vec![Gone]));
    assert_eq!(fetch(&mut a, &hop, SignedBy::default()), Located::Gone);
    let (_, word) = b.connect(false);
    assert!(matches!(word, Proceed::ByValue { .. }), "{word:?}");
}

/// b.example fetches and claims; returns what the origin said to it.
fn retrieve_and_claim(a: &mut Server, b: &mut Server, issued: &Issued) -> Vec<ClaimAnswer> {
    let Some((job, Work::Retrieve(_))) = b.jobs.pop_front() else { panic!("no retrieval: {:?}", b.jobs) };
    b.event(job, JobEvent::Retrieved { object: object(CONTENT), facts: FACTS, octets: 12 });
    let Some((job, Work::PostClaims(post))) = b.jobs.pop_front() else { panic!("no claim") };
    let indexes = post.entries[0].indexes.clone();
    let answers = claim(a, RELAY, post.entries[0].clone(), by("b.example", issued)).unwrap();
    b.event(job, JobEvent::Claimed(vec![Some(indexes.into_iter().zip(answers.clone()).collect())]));
    answers
}

#[test]
fn custody_is_taken_where_the_offer_fares_ill() {
    for end in [never(true), support::later(false)] {
        let (mut a, issued, mut b, _) = delegated(BOB);
        let (job, _) = b.connect(true);
        b.finish(job, true, vec![(0, end)]);
        assert_eq!(retrieve_and_claim(&mut a, &mut b, &issued), [Granted]);
    }
    let (mut a, issued, mut b, _) = delegated(BOB);
    let mut hours = 0;
    while !b.jobs.iter().any(|(_, work)| matches!(work, Work::Retrieve(_))) {
        if b.jobs.is_empty() {
            b.pass(HOUR / 4);
            hours += 1;
            assert!(hours < 40, "for an hour, and then custody");
            continue;
        }
        let (job, word) = b.connect(true);
        assert!(matches!(word, Proceed::Offer { .. }));
        b.finish(job, true, vec![(0, later(true))]);
    }
    assert_eq!(retrieve_and_claim(&mut a, &mut b, &issued), [Granted]);
}

#[test]
fn custody_that_somebody_has_claimed_cannot_be_recalled() {
    let (mut a, issued, mut b, _) = delegated(BOB);
    let id = first(&a);
    let hop = hop(&a, &id);
    assert_eq!(claim(&mut a, NEXT, claim_of(&hop, &[0]), SignedBy::default()), Some(vec![Granted]));
    // The reply to the offer was lost, and the next session meets a server without TBR.
    let (job, _) = b.connect(false);
    b.finish(job, false, Vec::new());
    assert_eq!(retrieve_and_claim(&mut a, &mut b, &issued), [Gone]);
    assert!(b.jobs.is_empty());
    assert!(b.report_texts().is_empty());
}

#[test]
fn what_the_next_server_refuses_the_origin_is_told_and_tells_its_author() {
    let (mut a, issued, mut b, _) = delegated(BOB);
    let id = first(&a);
    let (job, _) = b.connect(true);
    b.finish(job, true, vec![(0, never(false))]);
    let Some((job, Work::PostReceipts(post))) = b.jobs.pop_front() else { panic!("no receipt: {:?}", b.jobs) };
    let said = &post.entries[0].outcomes;
    assert_eq!(said.iter().map(|(n, outcome)| (*n, outcome.action)).collect::<Vec<_>>(), [(0, Action::Failed)]);
    assert!(!said[0].1.text.contains("c.example"), "{}", said[0].1.text);
    assert_eq!(report(&mut a, RELAY, &issued, Action::Failed, by("b.example", &issued)), Some(vec![0]));
    b.event(job, JobEvent::Reported(vec![Some(vec![0])]));
    assert!(matches!(&b.inbound().recipients[0].state, IndexState::Final { acknowledged: true, .. }));
    assert_eq!(a.report_texts().len(), 1, "the author is told by his own server");
    assert!(b.report_texts().is_empty());
    let hop = hop(&a, &id);
    assert_eq!(claim(&mut a, NEXT, claim_of(&hop, &[0]), SignedBy::default()), Some(vec![Gone]));
}

#[test]
fn only_the_delegator_speaks_for_what_it_delegated() {
    let (mut a, issued, _, _) = delegated(BOB);
    let signed = || by("b.example", &issued);
    assert_eq!(report(&mut a, 9, &issued, Action::Failed, signed()), None);
    assert_eq!(report(&mut a, RELAY, &issued, Action::Failed, SignedBy::default()), None);
    assert_eq!(report(&mut a, RELAY, &issued, Action::Delivered, signed()), None, "it holds nothing");
    let id = first(&a);
    let hop = hop(&a, &id);
    assert_eq!(report(&mut a, NEXT, &hop, Action::Failed, SignedBy::default()), None, "nor does the next domain yet");
    claim(&mut a, NEXT, claim_of(&hop, &[0]), SignedBy::default()).unwrap();
    assert_eq!(report(&mut a, RELAY, &issued, Action::Failed, signed()), None, "too late");
}

#[test]
fn the_grant_of_a_hop_is_bound_to_the_next_domain() {
    let (mut a, issued) = origin(BOB);
    let (_, _, post) = relay(&forwarded(&issued, BOB, &a));
    let bound = DelegationEntry { bound: Some(Assurance::Webpki), ..entry(&post) };
    assert_eq!(delegate_as(&mut a, RELAY, bound, by("b.example", &issued)), Some(Granted));
    let id = first(&a);
    let hop = hop(&a, &id);
    for signed in [SignedBy::default(), by("b.example", &issued)] {
        assert_eq!(fetch(&mut a, &hop, signed.clone()), Located::Unknown);
        assert_eq!(claim(&mut a, NEXT, claim_of(&hop, &[0]), signed), None);
    }
    let next: Domain = domain("c.example");
    assert_eq!(hop.to, next);
    assert_eq!(claim(&mut a, NEXT, claim_of(&hop, &[0]), by("c.example", &issued)), Some(vec![Granted]));
}

#[test]
fn two_relays_in_a_row_delegate_at_the_same_origin() {
    let (mut a, issued, mut b, _) = delegated(BOB);
    let (job, word) = b.connect(true);
    let Proceed::Offer { uri, block, .. } = word else { panic!("{word:?}") };
    b.finish(job, true, vec![(0, taken())]);
    // c.example's grant must be bound for it to delegate in turn; the origin found no keys when it was recorded.
    let id = first(&a);
    assert!(hop(&a, &id).bound.is_none());
    let mut onward = inbound_of(&uri, &block, &["bob@c.example"], "in1", b.now);
    onward.recipients[0].targets =
        vec![Target { route: Route::Mx(domain("d.example")), address: address("x@d.example") }];
    let mut c = Server::with(using("c.example"), NEXT);
    c.ask(Request::Offer(Box::new(onward)));
    let (_, post) = posted(&mut c);
    assert_eq!(delegate_as(&mut a, NEXT, entry(&post), by("c.example", &issued)), None);

    let (mut a, issued) = origin(BOB);
    let (_, _, first_hop) = relay(&forwarded(&issued, BOB, &a));
    let bound = DelegationEntry { bound: Some(Assurance::Webpki), ..entry(&first_hop) };
    assert_eq!(delegate_as(&mut a, RELAY, bound, by("b.example", &issued)), Some(Granted));
    let uri = Uri { grant: first_hop.hop_grant.clone(), ..Uri::parse(&issued.uri).unwrap() }.reveal();
    let mut onward = inbound_of(&uri, &first_hop.block, &["bob@c.example"], "in1", a.now);
    onward.recipients[0].targets =
        vec![Target { route: Route::Mx(domain("d.example")), address: address("x@d.example") }];
    let mut c = Server::with(using("c.example"), NEXT);
    c.ask(Request::Offer(Box::new(onward)));
    let (_, second_hop) = posted(&mut c);
    assert_eq!(delegate_as(&mut a, NEXT, entry(&second_hop), by("c.example", &issued)), Some(Granted));
    let id = first(&a);
    let last = a.leg(&id, 0).issued.last().unwrap().clone();
    assert_eq!((last.to.as_str(), Block::parse(last.block.as_bytes()).unwrap().chain().hops().len()), ("d.example", 2));
    assert_eq!(claim(&mut a, 4, claim_of(&last, &[0]), SignedBy::default()), Some(vec![Granted]));
    assert_eq!(report(&mut a, 4, &last, Action::Delivered, SignedBy::default()), Some(vec![0]));
}

#[test]
fn what_nobody_claims_falls_back_at_the_origin_and_the_hop_is_worth_nothing_then() {
    let (mut a, issued, mut b, _) = delegated(BOB);
    let id = first(&a);
    let hop = hop(&a, &id);
    a.pass(2 * HOUR);
    let (job, word) = a.connect(true);
    assert!(matches!(word, Proceed::Offer { .. }), "the same once more: {word:?}");
    // b.example holds nothing.
    let again = forwarded(&issued, BOB, &a);
    let answer = b.ask(Request::Offer(Box::new(again)));
    assert!(matches!(answer, Reply::Offer(OfferAnswer::StillPending(_))), "{answer:?}");
    a.finish(job, true, vec![(0, taken())]);
    assert_eq!(claim(&mut a, NEXT, claim_of(&hop, &[0]), SignedBy::default()), Some(vec![Gone]));
    assert!(matches!(a.connect(true).1, Proceed::ByValue { .. }));
}

#[test]
fn after_its_end_a_delegation_is_let_go_of_without_a_word() {
    let (_, issued, mut b, _) = delegated(BOB);
    b.pass_unreachable(issued.expires.since(b.now) + DAY);
    assert!(b.report_texts().is_empty());
    assert!(!b.ledger.rows.keys().any(|key| matches!(key, Key::Inbound(..))), "forgotten");
    b.pass_unreachable(30 * DAY);
    assert!(b.ledger.rows.is_empty(), "{:?}", b.ledger.rows.keys());
}

#[test]
fn a_crash_at_any_time_loses_nothing() {
    let (_, _, mut b, _) = delegated(BOB);
    b.restart();
    let (job, word) = b.connect(true);
    assert!(matches!(word, Proceed::Offer { .. }));
    b.restart();
    let _ = job;
    let (job, word) = b.connect(true);
    assert!(matches!(word, Proceed::Offer { .. }), "identical, once more");
    b.finish(job, true, vec![(0, taken())]);
    b.restart();
    assert!(b.jobs.is_empty());
}
