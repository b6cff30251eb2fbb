//! Records and documents that domains publish.

use super::*;
use crate::keys::{
    DomainRecord, KeyState, MAX_KEYS, MAX_MAX_AGE, RecordError, consent_name, default_host, is_consent, key_name,
    record_name,
};
use crate::sign::Selector;

fn k1() -> Selector {
    "k1".parse().unwrap()
}

fn key_txt(text: &str) -> Result<Option<KeyRecord>, RecordError> {
    KeyRecord::from_txt(&k1(), [text])
}

fn domain_txt(text: &str) -> Result<Option<DomainRecord>, RecordError> {
    DomainRecord::from_txt(&domain("a.example"), [text])
}

#[test]
fn key_records_survive_their_text() {
    let record = facts_of("a.example").keys.remove(0);
    assert_eq!(key_txt(&record.to_txt()), Ok(Some(record)));
    let revoked = KeyRecord { selector: k1(), state: KeyState::Revoked };
    assert_eq!(key_txt(&revoked.to_txt()), Ok(Some(revoked)));
}

#[test]
fn records_may_be_spaced_ordered_and_extended() {
    let p = key_of("a.example").verifying_key();
    let record = key_txt(&format!("v=TBR1;na=20 ; nb=10;p={p};a=ed25519;x=new; ")).unwrap().unwrap();
    assert_eq!(record, KeyRecord::active(k1(), p, secs(10), secs(20)));
    let record = domain_txt("v=TBR1; sub=y; repo=tbr.a.example, cdn.host.example;").unwrap().unwrap();
    assert_eq!(record, DomainRecord { repo: vec![domain("tbr.a.example"), domain("cdn.host.example")], sub: true });
    assert_eq!(domain_txt(&record.to_txt()), Ok(Some(record)));
    assert_eq!(domain_txt("v=TBR1").unwrap().unwrap().repo, [domain("tbr.a.example")]);
}

#[test]
fn bad_key_records_are_refused() {
    let p = key_of("a.example").verifying_key();
    for (text, error) in [
        (format!("v=TBR1; a=ed25519; p={p}; nb=1"), RecordError::Missing("na")),
        (format!("v=TBR1; p={p}; nb=1; na=2"), RecordError::Missing("a")),
        (format!("v=TBR1; a=rsa; p={p}; nb=1; na=2"), RecordError::Algorithm),
        (format!("v=TBR1; a=ed25519; p={p}A; nb=1; na=2"), RecordError::Value("p")),
        (format!("v=TBR1; a=ed25519; p={p}; nb=x; na=2"), RecordError::Value("nb")),
        (format!("v=TBR1; a=ed25519; p={p}; nb=3; na=2"), RecordError::Value("na")),
        (format!("v=TBR1; a=ed25519; p={p}; nb=+1; na=2"), RecordError::Value("nb")),
        (format!("v=TBR1; a=ed25519; p={p}; nb=1; na=02"), RecordError::Value("na")),
        (format!("v=TBR1; a=ed25519; p={p}; nb=1; na=253402300800"), RecordError::Value("na")),
        (format!("v=TBR1; a=ed25519; p={p}; nb=1; na=2; revoked=yes"), RecordError::Value("revoked")),
        ("v=TBR1; revoked=no".to_owned(), RecordError::Value("revoked")),
        (format!("v=TBR1; {}", "x".repeat(3000)), RecordError::TooLong),
    ] {
        assert_eq!(key_txt(&text), Err(error), "{text}");
    }
    assert!(matches!(key_txt("v=TBR1;;a=1"), Err(RecordError::Syntax(_))));
    assert!(matches!(key_txt("v=TBR1; revoked;;"), Err(RecordError::Syntax(_))));
    assert!(matches!(key_txt("v=TBR1; a=1; a=1"), Err(RecordError::Syntax(_))));
}

#[test]
fn other_records_are_passed_over_and_two_of_ours_are_none() {
    assert_eq!(KeyRecord::from_txt(&k1(), ["v=spf1 -all", "v=TBR2; revoked"]), Ok(None));
    let two = ["v=TBR1; revoked", "v=TBR1; revoked"];
    assert_eq!(KeyRecord::from_txt(&k1(), two), Err(RecordError::Ambiguous));
    assert!(KeyRecord::from_txt(&k1(), ["v=spf1 -all", "v=TBR1; revoked"]).unwrap().is_some());
}

#[test]
fn bad_domain_records_are_refused() {
    for (text, value) in [
        ("v=TBR1; repo=", "repo"),
        ("v=TBR1; repo=127.0.0.1", "repo"),
        ("v=TBR1; repo=tbr.a.example:8443", "repo"),
        ("v=TBR1; repo=_tbr.a.example", "repo"),
        ("v=TBR1; repo=TBR.a.example", "repo"),
        ("v=TBR1; sub=yes", "sub"),
    ] {
        assert_eq!(domain_txt(text), Err(RecordError::Value(value)), "{text}");
    }
    let many = format!("v=TBR1; repo={}", ["h.a.example"; 9].join(","));
    assert_eq!(domain_txt(&many), Err(RecordError::Value("repo")));
}

#[test]
fn documents_survive_and_are_bounded() {
    let mut facts = facts_of("a.example");
    facts.keys.push(KeyRecord { selector: "old".parse().unwrap(), state: KeyState::Revoked });
    let json = facts.to_document().unwrap();
    assert_eq!(DomainFacts::from_document(&facts.domain, &json), Ok(facts.clone()));
    assert_eq!(DomainFacts::from_document(&domain("b.example"), &json), Err(RecordError::OtherDomain));
    assert_eq!(DomainFacts::from_document(&facts.domain, &[b' '; 70_000]), Err(RecordError::TooLong));
    let text = String::from_utf8(json).unwrap();
    let with = |from: &str, to: &str| DomainFacts::from_document(&facts.domain, text.replace(from, to).as_bytes());
    assert_eq!(with("\"max_age\":60", "\"max_age\":99999999").unwrap().max_age, MAX_MAX_AGE);
    assert_eq!(with("TBR1", "TBR2"), Err(RecordError::Value("v")));
    assert_eq!(with("\"s\":\"old\"", "\"s\":\"k1\""), Err(RecordError::Value("s")));
    assert_eq!(with("\"nb\"", "\"xx\""), Err(RecordError::Missing("nb")));
    assert_eq!(with("tbr.a.example", "10.0.0.1"), Err(RecordError::Value("repo")));
    assert_eq!(with("ed25519", "other").unwrap().keys.len(), 1, "a key of another algorithm is left out");
    assert!(matches!(with("{", "["), Err(RecordError::Syntax(_))));
    let many =
        (0..=MAX_KEYS).map(|n| KeyRecord { selector: format!("k{n}").parse().unwrap(), state: KeyState::Revoked });
    let many = DomainFacts { keys: many.collect(), ..facts.clone() }.to_document().unwrap();
    assert_eq!(DomainFacts::from_document(&facts.domain, &many), Err(RecordError::Value("keys")));
}

#[test]
fn names_of_records() {
    let (a, host) = (domain("a.example"), domain("cdn.host.example"));
    assert_eq!(record_name(&a).unwrap().as_str(), "_tbr.a.example");
    assert_eq!(key_name(&k1(), &a).unwrap().as_str(), "k1._tbr.a.example");
    assert_eq!(consent_name(&a, &host).unwrap().as_str(), "a.example._tbr-host.cdn.host.example");
    assert_eq!(default_host(&a).unwrap().as_str(), "tbr.a.example");
    assert!(is_consent(["v=TBR1"]) && !is_consent(["v=spf1"]) && !is_consent([]));
}

#[test]
fn a_revoked_key_is_no_key_whatever_else_is_said() {
    let facts = facts_of("a.example");
    let text = format!("{}; revoked", facts.keys[0].to_txt());
    assert_eq!(key_txt(&text).unwrap().unwrap().state, KeyState::Revoked);
    let json =
        String::from_utf8(facts.to_document().unwrap()).unwrap().replace("\"revoked\":false", "\"revoked\":true");
    let facts = DomainFacts::from_document(&facts.domain, json.as_bytes()).unwrap();
    assert_eq!(facts.keys[0].state, KeyState::Revoked);
}
