//! Hops: form, links, delegated and custodian offers, and what came by value.

use super::*;
use crate::block::{Block, BlockError};
use crate::hop::{ChainError, Hop};
use crate::judge::{SignatureVerdict, judge_chain, sent_by_value_to};
use crate::keys::KeyRecord;
use crate::taglist::SyntaxError;
use crate::verify::Parsed;

fn custody() -> HopMode {
    HopMode::Custody(domain("tbr.b.example"))
}

fn with_hop(change: impl FnOnce(&mut HopStatement)) -> Result<Chain, ChainError> {
    let reference = reference();
    let mut hop = hop_over(Link::Reference(&reference), 1, "c.example", custody(), &addresses(&["carol@c.example"]));
    change(&mut hop);
    Chain::new(vec![hop.sign(&key_of("b.example")).unwrap()], reference)
}

#[test]
fn hops_of_every_mode_survive_encoding() {
    for mode in [custody(), HopMode::Reference, HopMode::Value([9; 16])] {
        let chain = relayed(mode);
        let block = Block::parse(chain.encode().as_bytes()).unwrap();
        assert_eq!(block.chain(), &chain);
        let encoded = chain.hops()[0].encode();
        let value = encoded.trim_start_matches("TBR-Hop:").trim_end_matches("\r\n");
        assert_eq!(Hop::parse(value.as_bytes()).as_ref(), Ok(&chain.hops()[0]));
        assert!(chain.hops()[0].signed_by(&key_of("b.example").verifying_key()));
    }
}

#[test]
fn each_link_is_checked() {
    assert!(with_hop(|_| {}).is_ok());
    assert_eq!(with_hop(|h| h.number = 2), Err(ChainError::Number(1)));
    assert_eq!(with_hop(|h| h.previous = [0; 32]), Err(ChainError::Previous(1)));
    assert_eq!(with_hop(|h| h.domain = domain("z.example")), Err(ChainError::Domain(1)));
    assert_eq!(with_hop(|h| h.mail_from = None), Err(ChainError::Sender(1)));
    assert_eq!(with_hop(|h| h.issued = secs(NOW - 1001)), Err(ChainError::Time(1)));
    assert_eq!(with_hop(|h| h.issued = secs(NOW + 432_000)), Err(ChainError::Time(1)));
    assert_eq!(with_hop(|h| h.expires = h.issued), Err(ChainError::Time(1)));
}

#[test]
fn a_relay_cannot_invent_the_chain_below_it() {
    let chain = relayed(custody());
    let mut statement = statement_for(&addresses(&["bob@b.example"]));
    statement.size += 1;
    let forged = statement.sign(&key_of("a.example")).unwrap();
    assert_eq!(Chain::new(chain.hops().to_vec(), forged), Err(ChainError::Previous(1)));
}

#[test]
fn nothing_is_delegated_on_top_of_a_value() {
    let chain = relayed(HopMode::Value([9; 16]));
    let recipients = addresses(&["dave@d.example"]);
    let above = hop_over(chain.topmost(), 2, "d.example", HopMode::Reference, &recipients);
    let hops = vec![above.sign(&key_of("c.example")).unwrap(), chain.hops()[0].clone()];
    assert_eq!(Chain::new(hops, chain.reference().clone()), Err(ChainError::Mode(2)));
}

#[test]
fn a_custodian_answers_for_its_own_offer_alone() {
    let mut offer = Offer::relayed(custody(), "tbr.b.example");
    offer.facts.truncate(1);
    let verified = offer.judge().unwrap();
    assert_eq!(verified.signer(), &domain("b.example"));
    let elsewhere = Offer::relayed(custody(), "tbr.a.example");
    assert!(matches!(elsewhere.refusal(), Refusal::Host { .. }), "not the host that the custodian signed");
    let mut another = Offer::relayed(custody(), "tbr2.b.example");
    another.facts[0].repo.push(domain("tbr2.b.example"));
    assert!(matches!(another.refusal(), Refusal::Host { .. }), "one of its hosts, but not the signed one");
}

#[test]
fn a_delegation_needs_the_keys_down_to_the_repository() {
    let offer = Offer::relayed(HopMode::Reference, "tbr.a.example");
    assert!(offer.judge().is_ok());
    let missing = Offer { facts: vec![facts_of("b.example")], ..offer.clone() };
    assert_eq!(missing.refusal(), Refusal::NoAssurance { domain: domain("a.example") });
    let mut forged = offer;
    forged.facts[1].keys[0] = KeyRecord::active("k1".parse().unwrap(), key_of("z").verifying_key(), secs(0), secs(NOW));
    assert_eq!(forged.refusal(), Refusal::Signature { domain: domain("a.example") });
}

#[test]
fn the_needed_keys_end_at_the_repository() {
    let needed = |offer: &Offer| {
        let is_ours = |_: &Domain| true;
        let receiver = Receiver { now: secs(NOW), max_size: 1_000_000, is_ours: &is_ours };
        let session = Session { mail_from: offer.mail_from.as_ref(), recipients: &offer.recipients };
        let matched =
            Parsed::new(&offer.line, offer.block.as_bytes()).unwrap().match_session(&session, &receiver).unwrap();
        matched.needed_keys().into_iter().map(|(d, _)| d.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(needed(&Offer::good()), ["a.example"]);
    assert_eq!(needed(&Offer::relayed(custody(), "tbr.b.example")), ["b.example"]);
    assert_eq!(needed(&Offer::relayed(HopMode::Reference, "tbr.a.example")), ["b.example", "a.example"]);
}

#[test]
fn who_makes_up_a_chain_has_one_key_looked_up() {
    let (mut hops, reference) = (Vec::<Hop>::new(), reference());
    for number in 1..=100 {
        let below = hops.first().map_or(Link::Reference(&reference), Link::Hop);
        let mut hop = hop_over(below, number, &format!("relay{number}.example"), HopMode::Reference, &[]);
        hop.issued = below.issued();
        hops.insert(0, hop.sign(&key_of("z")).unwrap());
    }
    let recipients = addresses(&["carol@relay100.example"]);
    let mut top = hops.remove(0).statement().clone();
    top.recipients = RecipientsHash::compute(&grant(), &top.id, &recipients);
    hops.insert(0, top.sign(&key_of("z")).unwrap());
    let block = Chain::new(hops, reference).unwrap().encode();
    let line = format!("100 {}", uri_at("tbr.a.example").reveal());
    let from = address("alice@a.example");
    let session = Session { mail_from: Some(&from), recipients: &recipients };
    let receiver = Receiver { now: secs(NOW), max_size: 1_000_000, is_ours: &|_: &Domain| true };
    let matched = Parsed::new(&line, block.as_bytes()).unwrap().match_session(&session, &receiver).unwrap();
    assert_eq!(matched.needed_keys().len(), 101);
    let mut verifying = matched.begin();
    let mut asked = Vec::new();
    while let Some((domain, _)) = verifying.wants() {
        asked.push(domain.to_string());
        // What each of them publishes is another key.
        let facts = DomainFacts { domain, ..facts_of("relay.example") };
        if verifying.check(&facts, Assurance::Webpki).is_err() {
            break;
        }
    }
    assert_eq!(asked, ["relay99.example"]);
    assert_eq!(verifying.finish().unwrap_err(), Refusal::NoAssurance { domain: domain("relay99.example") });
}

#[test]
fn a_value_hop_cannot_be_offered() {
    assert_eq!(Offer::relayed(HopMode::Value([9; 16]), "tbr.b.example").refusal(), Refusal::NoRepository);
}

#[test]
fn hops_cannot_prolong_a_reference_past_thirty_days() {
    let month = 30 * 86_400;
    let mut offer = Offer::renewed(NOW - 1000 + month);
    assert!(offer.judge().is_ok());
    offer.now += 1;
    assert_eq!(offer.refusal(), Refusal::Lifetime { domain: domain("b.example") });
}

#[test]
fn a_hop_replayed_to_strangers_is_refused() {
    let offer = Offer { recipients: addresses(&["eve@c.example"]), ..Offer::relayed(custody(), "tbr.b.example") };
    assert_eq!(offer.refusal(), Refusal::OtherRecipients);
}

#[test]
fn what_came_by_value_names_its_one_recipient() {
    let chain = relayed(HopMode::Value([9; 16]));
    let from = address("alice@a.example");
    let to = |list: &[&str], now: u64| {
        let recipients = addresses(list);
        sent_by_value_to(&chain, &Session { mail_from: Some(&from), recipients: &recipients }, secs(now))
    };
    assert!(to(&["carol@c.example"], NOW));
    assert!(!to(&["eve@c.example"], NOW));
    assert!(!to(&["carol@c.example", "eve@c.example"], NOW));
    assert!(!to(&["carol@c.example"], NOW + 9_000_000));
    let recipients = addresses(&["carol@c.example"]);
    assert!(!sent_by_value_to(&chain, &Session { mail_from: None, recipients: &recipients }, secs(NOW)));
    let custodian = relayed(custody());
    assert!(!sent_by_value_to(&custodian, &Session { mail_from: Some(&from), recipients: &recipients }, secs(NOW)));
}

/// A hop by value over a reference of `born`, made at `issued` and good until `expires`: does it count at `NOW`?
fn by_value_counts(born: u64, issued: u64, expires: u64) -> bool {
    let mut statement = statement_for(&addresses(&["bob@b.example"]));
    (statement.issued, statement.expires) = (secs(born), secs(issued + 1));
    let reference = statement.sign(&key_of("a.example")).unwrap();
    let (from, carol) = (address("alice@a.example"), addresses(&["carol@c.example"]));
    let mut hop = hop_over(Link::Reference(&reference), 1, "c.example", HopMode::Value([9; 16]), &carol);
    (hop.issued, hop.expires) = (secs(issued), secs(expires));
    let chain = Chain::new(vec![hop.sign(&key_of("b.example")).unwrap()], reference).unwrap();
    sent_by_value_to(&chain, &Session { mail_from: Some(&from), recipients: &carol }, secs(NOW))
}

#[test]
fn the_clock_of_an_offer_is_that_of_what_came_by_value_too() {
    let month = 30 * 86_400;
    assert!(by_value_counts(NOW - 100, NOW - 50, NOW - 50 + month));
    assert!(!by_value_counts(NOW - 100, NOW - 50, NOW - 49 + month), "a hop that lives for over 30 days");
    assert!(!by_value_counts(NOW - 100, NOW - 50, 253_402_300_799), "one that lives for ever");
    assert!(by_value_counts(NOW - 100, NOW + 300, NOW + 1000), "the clock of the relay is 5 minutes fast");
    assert!(!by_value_counts(NOW - 100, NOW + 301, NOW + 1000), "one from the future");
    assert!(by_value_counts(NOW - month, NOW - 50, NOW + 1000));
    assert!(!by_value_counts(NOW - month - 1, NOW - 50, NOW + 1000), "over a reference of more than 30 days");
    assert!(!by_value_counts(NOW - month - 1, NOW - month - 1, NOW + 1000), "back-dated with what lies below it");
}

#[test]
fn keys_below_a_custodian_that_cannot_be_had_are_unknown_not_bad() {
    let chain = relayed(custody());
    let (a, b) = (facts_of("a.example"), facts_of("b.example"));
    let all = |link: Link<'_>| [&a, &b].into_iter().find(|f| f.domain == *link.domain()).and_then(|f| f.keys.first());
    assert_eq!(judge_chain(&chain, &all), [SignatureVerdict::Valid, SignatureVerdict::Valid]);
    let gone = |link: Link<'_>| (*link.domain() == b.domain).then(|| &b.keys[0]);
    assert_eq!(judge_chain(&chain, &gone), [SignatureVerdict::Valid, SignatureVerdict::Unknown]);
}

#[test]
fn hops_are_numbered_as_they_lie_and_limited() {
    let chain = relayed(custody());
    let twice = format!("{}{}", chain.hops()[0].encode(), chain.encode());
    assert!(matches!(Block::parse(twice.as_bytes()), Err(BlockError::Chain(ChainError::Number(2)))));
    let many = chain.hops()[0].encode().repeat(101) + &chain.reference().encode();
    assert!(matches!(Block::parse(many.as_bytes()), Err(BlockError::Chain(ChainError::TooLong) | BlockError::TooLong)));
    // They are counted before any is looked at.
    let many = "TBR-Hop: x\r\n".repeat(101) + &chain.reference().encode();
    assert_eq!(Block::parse(many.as_bytes()), Err(BlockError::Chain(ChainError::TooLong)));
}

#[test]
fn a_chain_is_as_sure_as_its_weakest_link() {
    let offer = Offer::relayed(HopMode::Reference, "tbr.a.example");
    let assured = |of_b: Assurance, of_a: Assurance| {
        let is_ours = |_: &Domain| true;
        let receiver = Receiver { now: secs(NOW), max_size: 1_000_000, is_ours: &is_ours };
        let session = Session { mail_from: offer.mail_from.as_ref(), recipients: &offer.recipients };
        let matched =
            Parsed::new(&offer.line, offer.block.as_bytes()).unwrap().match_session(&session, &receiver).unwrap();
        let known = |d: &Domain| {
            let facts = offer.facts.iter().find(|f| f.domain == *d)?;
            Some((facts, if d.as_str() == "a.example" { of_a } else { of_b }))
        };
        match matched.verify_with(&known).unwrap() {
            Outcome::Verified(verified) => verified.assurance(),
            Outcome::NeedsConsent(_) => panic!("the host is within the domain"),
        }
    };
    assert_eq!(assured(Assurance::Dnssec, Assurance::Dnssec), Assurance::Dnssec);
    assert_eq!(assured(Assurance::Webpki, Assurance::Dnssec), Assurance::Webpki);
    assert_eq!(assured(Assurance::Dnssec, Assurance::Webpki), Assurance::Webpki);
}

#[test]
fn a_hop_has_a_number_from_one_to_a_hundred() {
    let field = relayed(custody()).hops()[0].encode();
    let numbered = |number: &str| {
        let value = field.replace("TBR-Hop:", "").replace("n=1;", &format!("n={number};"));
        Hop::parse(value.trim_end_matches("\r\n").as_bytes()).map(|hop| hop.statement().number)
    };
    assert_eq!(numbered("100"), Ok(100));
    for bad in ["0", "101", "01", "65536"] {
        assert_eq!(numbered(bad), Err(SyntaxError::Value("n")), "{bad}");
    }
}
