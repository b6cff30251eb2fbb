//! The ordered checks of an offer: what passes, what each check refuses, and in which order.

use super::*;
use crate::block::{BlockError, LineError, MAX_BLOCK};
use crate::codes;
use crate::keys::KeyState;
use crate::taglist::SyntaxError;
use crate::verify::Fault;

#[test]
fn a_good_offer_passes() {
    let verified = Offer::good().judge().unwrap();
    assert_eq!(verified.uri().host, domain("tbr.a.example"));
    assert_eq!(verified.signer(), &domain("a.example"));
    assert_eq!(verified.reference().statement().size, OBJECT.len() as u64);
    assert_eq!(verified.assurance(), Assurance::Webpki);
}

#[test]
fn an_offer_for_several_recipients_and_postmaster_passes() {
    let list = ["bob@b.example", "Bob@b.example", "postmaster"];
    let reference = reference_for(&addresses(&list));
    assert!(Offer::of(reference, &uri_at("tbr.a.example"), &list).judge().is_ok());
}

#[test]
fn the_null_sender_is_signed_by_the_reporting_domain() {
    assert!(Offer::stating(|s| s.mail_from = None).judge().is_ok());
}

#[test]
fn count_and_uri_belong_to_the_block() {
    let good = Offer::good();
    let line = |change: &dyn Fn(&str) -> String| Offer { line: change(&good.line), ..good.clone() }.refusal();
    assert_eq!(line(&|l| l.replacen('0', "1", 1)), Refusal::Count { said: 1, found: 0 });
    assert_eq!(line(&|l| l.replacen('0', "00", 1)), Refusal::Line(LineError::Count));
    assert_eq!(line(&|l| l.replacen('0', "-1", 1)), Refusal::Line(LineError::Count));
    assert_eq!(line(&|l| l.replacen('0', "101", 1)), Refusal::Line(LineError::Loop));
    assert_eq!(line(&|l| l.replacen("0 ", "0  ", 1)), Refusal::Line(LineError::Uri(crate::uri::UriError::Scheme)));
    assert_eq!(line(&|l| format!("{l} ")), Refusal::Line(LineError::Uri(crate::uri::UriError::Rcpt)));
    assert_eq!(line(&|_| "0".to_owned()), Refusal::Line(LineError::Arguments));
    let other = Uri { xuid: Xuid::of(b"other"), ..uri_at("tbr.a.example") };
    assert_eq!(line(&|_| format!("0 {}", other.reveal())), Refusal::OtherXuid);
}

#[test]
fn a_block_holds_hops_and_one_reference() {
    let good = Offer::good();
    let block = |text: String| match (Offer { block: text, ..good.clone() }).refusal() {
        Refusal::Block(error) => error,
        other => panic!("{other}"),
    };
    let one = &good.block;
    assert_eq!(block(String::new()), BlockError::NoReference);
    assert_eq!(block(format!("{one}{one}")), BlockError::NoReference);
    assert_eq!(block(format!("Received: x\r\n{one}")), BlockError::Field);
    assert_eq!(block(format!("{one}Subject: x\r\n")), BlockError::NoReference);
    assert_eq!(block(format!(" {one}")), BlockError::Line(1));
    assert_eq!(block(format!("{one}\r\n")), BlockError::Line(one.lines().count() + 1));
    assert_eq!(block(one.replace("\r\n", "\n")), BlockError::Line(1));
    assert_eq!(block(one.trim_end().to_owned()), BlockError::Line(one.lines().count()));
    assert_eq!(block(one.replace("TBR-Reference:", "TBR-Reference :")), BlockError::NoReference);
    assert_eq!(block(format!("TBR-Reference: {}\r\n", "x".repeat(990))), BlockError::Line(1));
    assert_eq!(block("x".repeat(MAX_BLOCK + 1)), BlockError::TooLong);
    assert_eq!(block(one.replace("v=1", "v=1;v=1")), BlockError::Reference(SyntaxError::Duplicate("v")));
}

#[test]
fn field_names_are_compared_in_any_case() {
    let good = Offer::good();
    assert!(Offer { block: good.block.replace("TBR-Reference", "tbr-reference"), ..good }.judge().is_ok());
}

#[test]
fn the_clock_may_differ_by_five_minutes_and_no_lifetime_exceeds_thirty_days() {
    let good = Offer::good();
    let at = |now: u64| Offer { now, ..good.clone() }.judge();
    let (issued, expires) = (NOW - 1000, NOW - 1000 + 432_000);
    let a = domain("a.example");
    assert!(at(issued - 300).is_ok());
    assert_eq!(at(issued - 301), Err(Refusal::NotYetValid { domain: a.clone() }));
    assert!(at(expires - 1).is_ok());
    assert_eq!(at(expires), Err(Refusal::Expired { domain: a.clone() }));
    let month = 30 * 86_400;
    assert!(Offer::stating(|s| s.expires = s.issued.after(std::time::Duration::from_secs(month))).judge().is_ok());
    let long = Offer::stating(|s| s.expires = secs(NOW - 1000 + month + 1));
    assert_eq!(long.judge(), Err(Refusal::Lifetime { domain: a.clone() }));
    assert_eq!(Offer::stating(|s| s.expires = s.issued).judge(), Err(Refusal::Lifetime { domain: a }));
}

#[test]
fn the_sender_is_the_one_that_was_signed() {
    let other = Offer { mail_from: Some(address("Alice@a.example")), ..Offer::good() };
    assert_eq!(other.refusal(), Refusal::OtherSender);
    assert_eq!(Offer { mail_from: None, ..Offer::good() }.refusal(), Refusal::OtherSender);
    let elsewhere = Offer::stating(|s| s.mail_from = Some(address("alice@z.example")));
    assert!(matches!(elsewhere.refusal(), Refusal::Signer { .. }));
}

#[test]
fn an_ancestor_signs_only_if_its_record_says_so() {
    let mut offer = Offer::stating(|s| s.mail_from = Some(address("bounce+1@out.a.example")));
    assert_eq!(offer.refusal(), Refusal::NoSub { signer: domain("a.example") });
    offer.facts[0].sub = true;
    assert!(offer.judge().is_ok());
    let child = Offer::stating(|s| s.mail_from = Some(address("alice@xa.example")));
    assert!(matches!(child.refusal(), Refusal::Signer { .. }));
}

#[test]
fn a_public_suffix_never_signs_for_names_below_it() {
    for suffix in ["co.uk", "github.io"] {
        let mut offer = Offer::stating(|s| {
            s.domain = domain(suffix);
            s.mail_from = Some(address(&format!("alice@victim.{suffix}")));
        });
        offer.facts = vec![DomainFacts { sub: true, domain: domain(suffix), ..facts_of("a.example") }];
        assert!(matches!(offer.refusal(), Refusal::Signer { .. }), "{suffix}");
    }
}

#[test]
fn a_reference_for_another_domain_is_refused() {
    assert_eq!(
        Offer { ours: "z.example".to_owned(), ..Offer::good() }.refusal(),
        Refusal::NotOurs(domain("b.example"))
    );
    for stranger in ["eve@z.example", "bob@[127.0.0.1]"] {
        let list = ["bob@b.example", stranger];
        let offer = Offer::of(reference_for(&addresses(&list)), &uri_at("tbr.a.example"), &list);
        assert_eq!(offer.refusal(), Refusal::OtherRecipientDomain(domain("b.example")), "{stranger}");
    }
}

#[test]
fn too_large_a_message_is_refused_before_it_moves() {
    let size = OBJECT.len() as u64;
    assert!(Offer { max_size: size, ..Offer::good() }.judge().is_ok());
    let offer = Offer { max_size: size - 1, ..Offer::good() };
    assert_eq!(offer.refusal(), Refusal::TooLarge { size, limit: size - 1 });
    assert_eq!(offer.refusal().code(), &codes::TOO_LARGE);
}

#[test]
fn replay_to_other_recipients_is_refused() {
    for list in [&["eve@b.example"][..], &["bob@b.example", "eve@b.example"], &["Bob@b.example"], &[]] {
        let offer = Offer { recipients: addresses(list), ..Offer::good() };
        assert_eq!(offer.refusal(), Refusal::OtherRecipients, "{list:?}");
    }
    let swapped = addresses(&["eve@b.example", "bob@b.example"]);
    let list = ["bob@b.example", "eve@b.example"];
    let offer = Offer::of(reference_for(&addresses(&list)), &uri_at("tbr.a.example"), &list);
    assert!(offer.judge().is_ok());
    assert_eq!(Offer { recipients: swapped, ..offer }.refusal(), Refusal::OtherRecipients);
}

#[test]
fn another_grant_is_another_reference() {
    let uri = Uri { grant: Grant::new(&[0x48; 16]).unwrap(), ..uri_at("tbr.a.example") };
    assert_eq!(Offer::of(reference(), &uri, &["bob@b.example"]).refusal(), Refusal::OtherRecipients);
}

#[test]
fn keys_must_be_published_and_good_at_the_time() {
    let (d, selector) = (domain("a.example"), "k1".parse().unwrap());
    let with = |change: &dyn Fn(&mut DomainFacts)| {
        let mut offer = Offer::good();
        change(&mut offer.facts[0]);
        offer.refusal()
    };
    let (domain, unknown) = (d, selector);
    let key = key_of("a.example").verifying_key();
    assert_eq!(with(&|f| f.keys.clear()), Refusal::UnknownKey { domain: domain.clone(), selector: unknown });
    let selector: crate::sign::Selector = "k1".parse().unwrap();
    let other_name = Refusal::UnknownKey { domain: domain.clone(), selector: selector.clone() };
    assert_eq!(with(&|f| f.keys[0].selector = "k2".parse().unwrap()), other_name);
    let named = |state: KeyState| with(&|f| f.keys[0].state = state);
    let window = |from: u64, until: u64| KeyState::Active { key, not_before: secs(from), not_after: secs(until) };
    assert_eq!(named(KeyState::Revoked), Refusal::KeyRevoked { domain: domain.clone(), selector: selector.clone() });
    let outside = Refusal::KeyWindow { domain: domain.clone(), selector };
    assert_eq!(named(window(NOW - 999, NOW)), outside);
    assert_eq!(named(window(NOW - 2000, NOW - 1001)), outside);
    let other =
        KeyState::Active { key: key_of("b.example").verifying_key(), not_before: secs(0), not_after: secs(NOW) };
    assert_eq!(named(other), Refusal::Signature { domain: domain.clone() });
    assert_eq!(Offer { facts: vec![], ..Offer::good() }.refusal(), Refusal::NoAssurance { domain });
}

#[test]
fn a_key_may_sign_on_the_edges_of_its_window() {
    let key = key_of("a.example").verifying_key();
    let mut offer = Offer::good();
    let issued = secs(NOW - 1000);
    offer.facts[0].keys[0].state = KeyState::Active { key, not_before: issued, not_after: issued };
    assert!(offer.judge().is_ok());
}

#[test]
fn hosts_are_listed_and_strangers_consent() {
    let victim = Offer::of(reference(), &uri_at("www.victim.example"), &["bob@b.example"]);
    assert!(matches!(victim.refusal(), Refusal::Host { .. }), "a host that the domain does not list");
    let mut listed = victim.clone();
    listed.facts[0].repo.push(domain("www.victim.example"));
    assert!(matches!(listed.refusal(), Refusal::NoConsent { .. }), "listed, but it does not consent");
    listed.consents = true;
    assert!(listed.judge().is_ok());
}

#[test]
fn checks_come_in_order_cheapest_first() {
    let mut offer = Offer::stating(|s| s.expires = secs(NOW - 10));
    offer.mail_from = None;
    offer.recipients.clear();
    offer.max_size = 1;
    offer.ours = "z.example".to_owned();
    offer.facts.clear();
    assert!(matches!(offer.refusal(), Refusal::Expired { .. }));
    offer.now = NOW - 500;
    assert_eq!(offer.refusal(), Refusal::OtherSender);
    offer.mail_from = Some(address("alice@a.example"));
    assert!(matches!(offer.refusal(), Refusal::NotOurs(_)));
    offer.ours = "b.example".to_owned();
    assert!(matches!(offer.refusal(), Refusal::TooLarge { .. }));
    offer.max_size = 1_000_000;
    assert_eq!(offer.refusal(), Refusal::OtherRecipients);
    offer.recipients = addresses(&["bob@b.example"]);
    assert!(matches!(offer.refusal(), Refusal::NoAssurance { .. }));
    offer.facts = vec![facts_of("a.example")];
    assert!(offer.judge().is_ok());
}

#[test]
fn every_refusal_has_a_fault_a_code_and_a_sentence_without_secrets() {
    let secret = grant().reveal();
    let offers = [
        Offer { mail_from: None, ..Offer::good() },
        Offer { facts: vec![], ..Offer::good() },
        Offer { now: NOW + 9_000_000, ..Offer::good() },
        Offer { line: "0 x".to_owned(), ..Offer::good() },
    ];
    let faults = [Fault::Client, Fault::Unknown, Fault::Signer, Fault::Client];
    for (offer, fault) in offers.iter().zip(faults) {
        let refusal = offer.refusal();
        let (code, status, text) = refusal.reply();
        assert_eq!(refusal.fault(), fault, "{text}");
        assert!(codes::ALL.iter().any(|c| c.reply == code && c.status == status));
        assert!(!text.contains(&secret) && !text.contains("alice@") && text.is_ascii());
    }
}

#[test]
fn facts_of_another_domain_vouch_for_nobody() {
    let offer = Offer::good();
    let is_ours = |_: &Domain| true;
    let receiver = Receiver { now: secs(NOW), max_size: 1_000_000, is_ours: &is_ours };
    let session = Session { mail_from: offer.mail_from.as_ref(), recipients: &offer.recipients };
    let matched = Parsed::new(&offer.line, offer.block.as_bytes()).unwrap().match_session(&session, &receiver).unwrap();
    let poisoned = DomainFacts { domain: domain("z.example"), ..facts_of("a.example") };
    let answer = matched.verify_with(&|_| Some((&poisoned, Assurance::Dnssec)));
    assert_eq!(answer, Err(Refusal::NoAssurance { domain: domain("a.example") }));
}

/// What b.example's custodian took by value from alice@a.example, signed by b.example's own key.
fn by_value_before() -> Offer {
    let mut statement = statement_for(&addresses(&["bob@b.example"]));
    statement.domain = domain("b.example");
    let reference = statement.sign(&key_of("b.example")).unwrap();
    let facts = vec![facts_of("b.example"), facts_of("a.example")];
    Offer { facts, ..Offer::of(reference, &uri_at("tbr.b.example"), &["bob@b.example"]) }
}

#[test]
fn only_what_is_pending_may_be_signed_by_its_recipients_domain() {
    let judge_pending = |offer: &Offer| {
        let is_ours = |d: &Domain| *d == domain("b.example");
        let receiver = Receiver { now: secs(offer.now), max_size: offer.max_size, is_ours: &is_ours };
        let session = Session { mail_from: offer.mail_from.as_ref(), recipients: &offer.recipients };
        let matched = Parsed::new(&offer.line, offer.block.as_bytes())?.match_pending(&session, &receiver)?;
        let known = |d: &Domain| offer.facts.iter().find(|f| f.domain == *d).map(|f| (f, Assurance::Webpki));
        match matched.verify_with(&known)? {
            Outcome::Verified(verified) => Ok(verified),
            Outcome::NeedsConsent(consent) => consent.answer(false),
        }
    };
    let offer = by_value_before();
    assert!(matches!(offer.refusal(), Refusal::Signer { .. }), "in a session");
    assert!(judge_pending(&offer).unwrap().is_by_value_before());
    // What its sender's own domain signed is that domain's, in whatever way it comes.
    assert!(!judge_pending(&Offer::good()).unwrap().is_by_value_before());
    // The sender that was signed is still the one that is named, and nobody else may sign.
    let other = Offer { mail_from: Some(addresses(&["eve@a.example"]).remove(0)), ..by_value_before() };
    assert_eq!(judge_pending(&other), Err(Refusal::OtherSender));
    let stranger = Offer::stating(|statement| statement.domain = domain("z.example"));
    assert!(matches!(judge_pending(&stranger), Err(Refusal::Signer { .. })));
    let forged = Offer::stating(|statement| statement.domain = domain("b.example"));
    let forged = Offer { facts: by_value_before().facts, ..forged };
    assert!(matches!(judge_pending(&forged), Err(Refusal::Signature { .. })));
}
