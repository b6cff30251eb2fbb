//! Whole offers.

use mail::{Grant, Xuid};
use serde_json::{Value, json};

use super::{bad, custody, ok};
use crate::hop::HopMode;
use crate::keys::{DomainFacts, KeyState};
use crate::reference::Statement;
use crate::tests::vectors::{Case, File, judge};
use crate::tests::{
    NOW, OBJECT, Offer, address, addresses, domain, facts_of, key_of, reference, reference_for, secs, uri_at,
};
use crate::uri::Uri;

fn offer_input(offer: &Offer) -> Value {
    let recipients: Vec<&str> = offer.recipients.iter().map(mail::Address::as_str).collect();
    let facts: Vec<Value> =
        offer.facts.iter().map(|f| serde_json::from_slice(&f.to_document().unwrap()).unwrap()).collect();
    json!({
        "now": offer.now, "our_domain": offer.ours, "max_size": offer.max_size,
        "mail_from": offer.mail_from.as_ref().map(mail::Address::as_str).unwrap_or_default(),
        "recipients": recipients, "line": format!("TBR {}", offer.line), "block": offer.block, "facts": facts,
        "txt": if offer.consents { json!({ "a.example._tbr-host.cdn.host.example": ["v=TBR1"] }) } else { json!({}) },
    })
}

const OFFER_ABOUT: &[&str] = &[
    "One SMTP transaction that ends in TBR, and everything that its receiver knows: the time, its domain, its size limit,",
    "what the signing domains publish (input.facts, each the domain document) and other TXT records (input.txt).",
    "An empty mail_from is the null sender. Every recipient was accepted at RCPT.",
    "Valid means: connect and retrieve, after local policy. Else outcome has the SMTP reply; its text is free.",
];

pub(super) fn offers() -> File {
    let sections = [accepted(), by_form(), by_clock_and_sender(), by_session(), by_keys_and_host()];
    File {
        name: "offers.json",
        title: "Offers and the verdicts of the ordered checks",
        about: OFFER_ABOUT,
        judge: judge::offer,
        cases: sections.into_iter().flatten().collect(),
    }
}

const SEVERAL: [&str; 2] = ["bob@b.example", "carol@b.example"];

/// The good offer with one change.
fn case(change: &dyn Fn(&mut Offer)) -> Value {
    let mut offer = Offer::good();
    change(&mut offer);
    offer_input(&offer)
}

/// The good offer with one change in what is signed.
fn stating(change: &dyn Fn(&mut Statement)) -> Value {
    offer_input(&Offer::stating(change))
}

fn from(sender: &str) -> Offer {
    Offer::stating(|s| s.mail_from = Some(address(sender)))
}

fn to_both() -> Offer {
    Offer::of(reference_for(&addresses(&SEVERAL)), &uri_at("tbr.a.example"), &SEVERAL)
}

fn elsewhere(listed: bool, consents: bool) -> Value {
    let mut offer = Offer::of(reference(), &uri_at("cdn.host.example"), &["bob@b.example"]);
    offer.facts[0].repo.extend(listed.then(|| domain("cdn.host.example")));
    offer.consents = consents;
    offer_input(&offer)
}

fn accepted() -> Vec<Case> {
    let mut below = from("bounce+1@out.a.example");
    below.facts[0].sub = true;
    vec![
        ok("one recipient", offer_input(&Offer::good())),
        ok("two recipients", offer_input(&to_both())),
        ok("null sender", stating(&|s| s.mail_from = None)),
        ok("issued 300 s from now", case(&|o| o.now = NOW - 1300)),
        ok("last second", case(&|o| o.now = NOW - 1000 + 431_999)),
        ok("sender below the signer, with sub=y", offer_input(&below)),
        ok("a host elsewhere that consents", elsewhere(true, true)),
        ok("exactly the largest size", case(&|o| o.max_size = OBJECT.len() as u64)),
    ]
}

fn by_form() -> Vec<Case> {
    let other = Uri { xuid: Xuid::of(b"x"), ..uri_at("tbr.a.example") };
    let block = |from: &str, to: &str| case(&|o| o.block = o.block.replace(from, to));
    vec![
        bad("count disagrees", "forwarding count", case(&|o| o.line = o.line.replacen('0', "1", 1))),
        bad("count over 100", "more than 100", case(&|o| o.line = o.line.replacen('0', "101", 1))),
        bad("count with leading zero", "count", case(&|o| o.line = o.line.replacen('0', "00", 1))),
        bad("URI of another object", "another object", case(&|o| o.line = format!("0 {}", other.reveal()))),
        bad("malformed reference", "TBR-Reference", block("v=1", "v=0x1")),
        bad("another revision", "revision", block("v=1", "v=2")),
        bad("another algorithm", "algorithm", block("ed25519", "ed448")),
    ]
}

fn by_clock_and_sender() -> Vec<Case> {
    let mut suffix = Offer::stating(|s| {
        s.domain = domain("co.uk");
        s.mail_from = Some(address("alice@victim.co.uk"));
    });
    suffix.facts = vec![DomainFacts { sub: true, domain: domain("co.uk"), ..facts_of("a.example") }];
    let too_long = NOW - 1000 + 30 * 86_400 + 1;
    let sender = |text: &str| case(&|o| o.mail_from = Some(address(text)));
    vec![
        bad("issued 301 s from now", "not valid yet", case(&|o| o.now = NOW - 1301)),
        bad("expired this second", "expired", case(&|o| o.now = NOW - 1000 + 432_000)),
        bad("lifetime of 30 days and a second", "30 days", stating(&|s| s.expires = secs(too_long))),
        bad("ends as it begins", "30 days", stating(&|s| s.expires = s.issued)),
        bad("another MAIL FROM", "another sender", sender("eve@a.example")),
        bad("local part in other case", "another sender", sender("Alice@a.example")),
        bad("null MAIL FROM", "another sender", case(&|o| o.mail_from = None)),
        bad("sender of another domain", "does not answer", offer_input(&from("alice@z.example"))),
        bad("sender whose domain only ends alike", "does not answer", offer_input(&from("alice@za.example"))),
        bad("sender below the signer, without sub=y", "below it", offer_input(&from("alice@out.a.example"))),
        bad("signer is a public suffix", "does not answer", offer_input(&suffix)),
    ]
}

fn by_session() -> Vec<Case> {
    let mixed = ["bob@b.example", "eve@z.example"];
    let mixed = Offer::of(reference_for(&addresses(&mixed)), &uri_at("tbr.a.example"), &mixed);
    let recipients = |list: &[&str]| case(&|o| o.recipients = addresses(list));
    let of_both = |list: &[&str]| offer_input(&Offer { recipients: addresses(list), ..to_both() });
    let other = Uri { grant: Grant::new(&[1; 16]).unwrap(), ..uri_at("tbr.a.example") };
    vec![
        bad("not our domain", "not served here", case(&|o| o.ours = "z.example".to_owned())),
        bad("a recipient in another domain", "a recipient is not in", offer_input(&mixed)),
        bad("too large", "octets, the limit", case(&|o| o.max_size = 10)),
        bad("another recipient", "other recipients", recipients(&["eve@b.example"])),
        bad("one recipient more", "other recipients", recipients(&SEVERAL)),
        bad("one recipient less", "other recipients", of_both(&SEVERAL[..1])),
        bad("recipients in another order", "other recipients", of_both(&[SEVERAL[1], SEVERAL[0]])),
        bad("another grant", "other recipients", case(&|o| o.line = format!("0 {}", other.reveal()))),
    ]
}

fn by_keys_and_host() -> Vec<Case> {
    let key = key_of("a.example").verifying_key();
    let state = |state: KeyState| case(&|o| o.facts[0].keys[0].state = state);
    let window = |from, until| state(KeyState::Active { key, not_before: secs(from), not_after: secs(until) });
    let other = || vec![DomainFacts { domain: domain("a.example"), ..facts_of("b.example") }];
    vec![
        bad("nothing known of the signer", "cannot be authenticated", case(&|o| o.facts.clear())),
        bad("unknown selector", "publishes no key", case(&|o| o.facts[0].keys.clear())),
        bad("revoked key", "revoked", state(KeyState::Revoked)),
        bad("issued before the key's window", "at that time", window(NOW, NOW + 1)),
        bad("issued after the key's window: a back-dated use of an old key", "at that time", window(1, NOW - 1001)),
        bad("signed by another key", "signature", case(&|o| o.facts = other())),
        bad("a host that the domain does not list", "is not a repository", elsewhere(false, true)),
        bad("a host elsewhere that does not consent", "does not consent", elsewhere(true, false)),
    ]
}

pub(super) fn offers_by_relays() -> File {
    let from = |mode: HopMode, host: &str, change: &dyn Fn(&mut Offer)| {
        let mut offer = Offer::relayed(mode, host);
        change(&mut offer);
        offer_input(&offer)
    };
    let (b, a) = ("tbr.b.example", "tbr.a.example");
    File {
        name: "offers-by-relays.json",
        title: "Offers with TBR-Hop fields",
        about: OFFER_ABOUT,
        judge: judge::offer,
        cases: vec![
            ok("by custody", from(custody(), b, &|_| {})),
            ok("by custody, the origin's keys gone", from(custody(), b, &|o| o.facts.truncate(1))),
            ok("by reference", from(HopMode::Reference, a, &|_| {})),
            bad("by custody, at a host that the custodian did not sign", "not a repository", {
                from(custody(), "tbr2.b.example", &|o| o.facts[0].repo.push(domain("tbr2.b.example")))
            }),
            bad("by custody, at the origin's host", "not a repository", from(custody(), a, &|_| {})),
            bad("by reference, at the relay's host", "not a repository", from(HopMode::Reference, b, &|_| {})),
            bad("by reference, the origin's keys gone", "cannot be authenticated", {
                from(HopMode::Reference, a, &|o| o.facts.truncate(1))
            }),
            bad("by reference, the origin's signature forged", "signature of a.example", {
                from(HopMode::Reference, a, &|o| {
                    o.facts[1] = DomainFacts {
                        domain: domain("a.example"),
                        repo: o.facts[1].repo.clone(),
                        ..facts_of("z.example")
                    }
                })
            }),
            bad("by value", "nothing to retrieve", from(HopMode::Value([9; 16]), b, &|_| {})),
            ok("the reference is 30 days old", offer_input(&Offer::renewed(NOW - 1000 + 30 * 86_400))),
            bad("the reference is a second older", "30 days", {
                offer_input(&Offer { now: NOW - 999 + 30 * 86_400, ..Offer::renewed(NOW - 1000 + 30 * 86_400) })
            }),
            bad("replayed to a stranger", "other recipients", {
                from(custody(), b, &|o| o.recipients = addresses(&["eve@c.example"]))
            }),
            bad("the relay's key revoked", "revoked", {
                from(custody(), b, &|o| o.facts[0].keys[0].state = KeyState::Revoked)
            }),
        ],
    }
}
