//! Grants that are bound to the recipient domain's keys: when they are issued, and that nothing counts without its
//! signature (TBR §6.2).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use mail::ledger::{Action, Issued, RecipientState};
use mail::{Assurance, Domain, InstanceId, QueueId};
use queue::ReferenceMode;
use queue::port::{ClaimAnswer, Command, Located, Peer, Proceed, ReceiptEntry, Reply, Request, Selection};
use reference::message_signature::SignedBy;
use support::{Server, claim_of, domain, outcome, taken};

const BOB: &str = "bob@b.example";
const CONTENT: &[u8] = b"A: b\r\n\r\nc\r\n";

fn peer(keys: &[(&str, Assurance)]) -> Peer {
    let keys = keys.iter().map(|(name, level)| (domain(name), *level)).collect();
    Peer { tbr: true, keys, ..Peer::default() }
}

/// Offers a reference to a domain whose keys are known this surely; the peer takes it.
fn bound(a: &mut Server, level: Assurance) -> (QueueId, Issued) {
    let id = a.submit("alice@a.example", &[BOB]);
    let (job, word) = a.connect_to(peer(&[("c.example", Assurance::Dnssec), ("b.example", level)]));
    assert!(matches!(word, Proceed::Offer { .. }), "{word:?}");
    a.finish(job, true, vec![(0, taken())]);
    let issued = a.issued(&id);
    assert_eq!(issued.bound, Some(level));
    (id, issued)
}

fn a() -> Server {
    Server::new("a.example", 1)
}

fn host(issued: &Issued) -> Domain {
    reference::Uri::parse(&issued.uri).unwrap().host
}

fn by(name: &str, host: &Domain) -> SignedBy {
    let mut signed = SignedBy::default();
    signed.add(domain(name), host.clone());
    signed
}

fn locate(a: &mut Server, issued: &Issued, signed: SignedBy) -> Located {
    let (xuid, grant) = (support::object(CONTENT).xuid, issued.grant.clone());
    match a.ask(Request::Locate { xuid, grant, signed }) {
        Reply::Object(located) => located,
        other => panic!("{other:?}"),
    }
}

fn claim(a: &mut Server, issued: &Issued, signed: SignedBy) -> Option<Vec<(u16, ClaimAnswer)>> {
    let claims = vec![claim_of(issued, &[0])];
    match a.ask(Request::Claims { instance: InstanceId([2; 16]), claims, signed }) {
        Reply::Claims(mut answers) => answers.pop().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn report(a: &mut Server, issued: &Issued, signed: SignedBy) -> Option<Vec<u16>> {
    let outcomes = vec![(0, outcome(Action::Delivered, a.now))];
    let entry = ReceiptEntry { to: issued.to.clone(), id: issued.id, grant: issued.grant.clone(), outcomes };
    match a.ask(Request::Receipts { instance: InstanceId([2; 16]), receipts: vec![entry], signed }) {
        Reply::Receipts(mut answers) => answers.pop().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Every signature that is not the one that is needed.
fn not_enough(issued: &Issued) -> [SignedBy; 3] {
    let host = host(issued);
    [SignedBy::default(), by("c.example", &host), by("b.example", &domain("tbr.thief.example"))]
}

#[test]
fn a_bound_grant_alone_fetches_claims_and_reports_nothing() {
    let mut a = a();
    let (id, issued) = bound(&mut a, Assurance::Dnssec);
    let signed = by("b.example", &host(&issued));
    for thief in not_enough(&issued) {
        assert_eq!(locate(&mut a, &issued, thief.clone()), Located::Unknown, "{thief:?}");
        assert_eq!(claim(&mut a, &issued, thief.clone()), None, "{thief:?}");
    }
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Offered(_)));
    assert!(matches!(locate(&mut a, &issued, signed.clone()), Located::Object(_)));
    assert_eq!(claim(&mut a, &issued, signed.clone()), Some(vec![(0, ClaimAnswer::Granted)]));
    for thief in not_enough(&issued) {
        assert_eq!(report(&mut a, &issued, thief.clone()), None, "{thief:?}");
    }
    assert!(matches!(a.state(&id, 0, 0), RecipientState::Claimed(_)));
    assert_eq!(report(&mut a, &issued, signed), Some(vec![0]));
}

#[test]
fn that_it_is_gone_is_told_with_the_signature_only() {
    let mut a = a();
    let (id, issued) = bound(&mut a, Assurance::Webpki);
    a.command(Command::Withdraw(Selection::Message(id)));
    let signed = by("b.example", &host(&issued));
    assert_eq!(locate(&mut a, &issued, SignedBy::default()), Located::Unknown);
    assert_eq!(claim(&mut a, &issued, SignedBy::default()), None);
    assert_eq!(locate(&mut a, &issued, signed.clone()), Located::Gone);
    assert_eq!(claim(&mut a, &issued, signed), Some(vec![(0, ClaimAnswer::Gone)]));
}

#[test]
fn only_domains_of_bound_grants_are_named_for_looking_up() {
    let mut a = a();
    let (_, issued) = bound(&mut a, Assurance::Dnssec);
    let (_, open) = a.offered(&["bob@c.example"]);
    assert_eq!(open.bound, None);
    let mut asked = |grants| match a.ask(Request::Binding { grants }) {
        Reply::Binding(domains) => domains,
        other => panic!("{other:?}"),
    };
    let unknown = mail::Grant::new(&[9; 16]).unwrap();
    assert_eq!(asked(vec![unknown.clone(), open.grant.clone()]), []);
    assert_eq!(asked(vec![unknown, issued.grant.clone(), open.grant, issued.grant]), [domain("b.example")]);
}

#[test]
fn without_published_keys_the_grant_is_the_proof() {
    let mut a = a();
    let (_, issued) = a.offered(&[BOB]);
    assert_eq!(issued.bound, None);
    assert!(matches!(locate(&mut a, &issued, SignedBy::default()), Located::Object(_)));
    assert_eq!(claim(&mut a, &issued, SignedBy::default()), Some(vec![(0, ClaimAnswer::Granted)]));
    assert_eq!(report(&mut a, &issued, SignedBy::default()), Some(vec![0]));
}

#[test]
fn while_it_cannot_be_told_whether_there_are_keys_no_grant_is_issued() {
    let unknown = || Peer { tbr: true, keys_unknown: vec![domain("b.example")], ..Peer::default() };
    let mut preferring = a();
    let id = preferring.submit("alice@a.example", &[BOB]);
    let (_, word) = preferring.connect_to(unknown());
    assert!(matches!(word, Proceed::ByValue { .. }), "{word:?}");
    assert!(preferring.leg(&id, 0).issued.is_empty());

    let mut config = support::config("a.example");
    config.default_policy.mode = ReferenceMode::Require;
    let mut insisting = Server::with(config, 1);
    let id = insisting.submit("alice@a.example", &[BOB]);
    let (_, word) = insisting.connect_to(unknown());
    assert!(matches!(word, Proceed::Abandon), "{word:?}");
    assert!(insisting.leg(&id, 0).issued.is_empty());
}

#[test]
fn whether_a_grant_is_bound_is_fixed_when_it_is_issued() {
    let mut a = a();
    let (id, job, first) = a.offer(&[BOB]);
    a.finish(job, true, vec![(0, support::later(true))]);
    while a.jobs.is_empty() {
        a.pass(support::MINUTE);
    }
    let (_, word) = a.connect_to(peer(&[("b.example", Assurance::Dnssec)]));
    assert!(matches!(word, Proceed::Offer { uri, .. } if uri == first.uri), "offered again as it was");
    assert_eq!(a.issued(&id).bound, None);
}
