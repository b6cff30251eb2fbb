//! Signed requests: the RFC's own vector, and every way in which a signature fails to count.

use super::*;
use crate::keys::KeyState;
use crate::message_signature::{
    FieldError, Fields, KeyId, MAX_FIELD, Nonce, Presented, Refusal, Request, Signer, content_digest, parse, sign,
};

const BODY: &[u8] = b"{}";

fn signer(name: &str) -> Signer {
    let id = KeyId { domain: domain(name), selector: "k1".parse().unwrap() };
    Signer { id, key: std::sync::Arc::new(key_of(name)) }
}

fn host() -> Domain {
    domain("tbr.a.example")
}

fn get(host: &Domain) -> Request<'_> {
    Request {
        method: "GET",
        host,
        path_and_query: "/.well-known/tbr/m?XUID=x&RCPT=y",
        content_digest: None,
        upload_offset: None,
    }
}

fn signed(request: &Request<'_>, names: &[&str]) -> Fields {
    let signers: Vec<Signer> = names.iter().map(|name| signer(name)).collect();
    let nonces = (0..).map(|n| Nonce([n; 16]));
    sign(request, signers.iter().zip(nonces), secs(NOW)).unwrap()
}

fn read(fields: &Fields) -> Result<Vec<Presented>, FieldError> {
    parse(&fields.input, &fields.signature)
}

fn one(fields: &Fields) -> Presented {
    read(fields).unwrap().remove(0)
}

fn judged(presented: &Presented, request: &Request<'_>, name: &str) -> Result<(), Refusal> {
    presented.check(request, secs(NOW))?;
    presented.verify(request, &facts_of(name).keys[0])
}

#[test]
fn a_signed_request_verifies_for_each_of_its_domains() {
    let (host, digest) = (host(), content_digest(BODY));
    let claims = Request {
        method: "POST",
        path_and_query: crate::claims::CLAIMS_PATH,
        content_digest: Some(&digest),
        ..get(&host)
    };
    let presented = read(&signed(&claims, &["b.example", "c.example"])).unwrap();
    for (presented, name) in presented.iter().zip(["b.example", "c.example"]) {
        assert_eq!(presented.id.to_string(), format!("k1._tbr.{name}"));
        assert_eq!(judged(presented, &claims, name), Ok(()));
        assert_eq!(judged(presented, &claims, "a.example"), Err(Refusal::Wrong), "another domain's key");
    }
    assert_ne!(presented[0].nonce, presented[1].nonce);
}

#[test]
fn a_signature_is_good_for_one_request_only() {
    let (host, other, digest) = (host(), domain("tbr.other.example"), content_digest(BODY));
    let presented = one(&signed(&get(&host), &["b.example"]));
    assert_eq!(judged(&presented, &get(&host), "b.example"), Ok(()));
    let head = Request { method: "HEAD", ..get(&host) };
    let elsewhere = get(&other);
    let another = Request { path_and_query: "/.well-known/tbr/m?XUID=x&RCPT=z", ..get(&host) };
    for request in [&head, &elsewhere, &another] {
        assert_eq!(judged(&presented, request, "b.example"), Err(Refusal::Wrong), "{request:?}");
    }
    let with_body = Request { content_digest: Some(&digest), ..get(&host) };
    assert_eq!(judged(&presented, &with_body, "b.example"), Err(Refusal::Components));

    let presented = one(&signed(&with_body, &["b.example"]));
    let changed = content_digest(b"[]");
    let another_body = Request { content_digest: Some(&changed), ..with_body };
    assert_eq!(judged(&presented, &another_body, "b.example"), Err(Refusal::Wrong));
    assert_eq!(judged(&presented, &get(&host), "b.example"), Err(Refusal::Components));
}

#[test]
fn time_and_window_and_revocation_count() {
    let host = host();
    let (request, facts) = (get(&host), facts_of("b.example"));
    let presented = one(&signed(&request, &["b.example"]));
    for (now, expected) in [
        (NOW - 301, Err(Refusal::NotTimely)),
        (NOW - 300, Ok(())),
        (NOW + 300, Ok(())),
        (NOW + 301, Err(Refusal::NotTimely)),
    ] {
        assert_eq!(presented.check(&request, secs(now)), expected, "{now}");
    }
    let KeyState::Active { key, .. } = facts.keys[0].state else { unreachable!() };
    let early = KeyRecord::active("k1".parse().unwrap(), key, secs(NOW + 1), secs(NOW + 2));
    assert_eq!(presented.verify(&request, &early), Err(Refusal::OutsideWindow));
    let revoked = KeyRecord { selector: "k1".parse().unwrap(), state: KeyState::Revoked };
    assert_eq!(presented.verify(&request, &revoked), Err(Refusal::Revoked));
}

#[test]
fn only_the_canonical_form_is_read() {
    let host = host();
    let good = signed(&get(&host), &["b.example"]);
    let again = signed(&get(&host), &["c.example"]);
    let input = |text: String| Fields { input: text, ..good.clone() };
    let swap = |from: &str, to: &str| input(good.input.replacen(from, to, 1));
    // A label twice: a reader that takes the first and one that takes the last would disagree.
    let twice = Fields {
        input: format!("{}, {}", good.input, again.input),
        signature: format!("{}, {}", good.signature, again.signature),
    };
    for bad in [
        twice,
        input(format!("{};tag=\"tbr\"", good.input)),
        input(format!(" {}", good.input)),
        input(good.input.replace(";created", "; created")),
        input(format!("{},", good.input)),
        input("tbr1".to_owned() + &"(".repeat(2000)),
        Fields { signature: good.signature.replace("==:", "=:"), ..good.clone() },
        Fields { signature: "tbr1".to_owned(), ..good.clone() },
    ] {
        let error = read(&bad).unwrap_err();
        assert!(matches!(error, FieldError::NotCanonical | FieldError::Signature), "{bad:?}: {error}");
    }
    for (bad, expected) in [
        (swap("alg=\"ed25519\"", "alg=\"hmac-sha256\""), FieldError::Parameter("alg")),
        (swap(";alg=\"ed25519\"", ""), FieldError::Parameter("alg")),
        (swap("alg=\"ed25519\"", "alg=ed25519"), FieldError::Parameter("alg")),
        (swap("keyid=\"k1._tbr.", "keyid=\"k1."), FieldError::Parameter("keyid")),
        (swap("keyid=\"k1._tbr.b.example\"", "keyid=\"k1._tbr.B.example\""), FieldError::Parameter("keyid")),
        (swap("keyid=\"k1._tbr.b.example\"", "keyid=\"k1._tbr._tbr.b.example\""), FieldError::Parameter("keyid")),
        (swap("created=1800000000", "created=-1"), FieldError::Parameter("created")),
        (swap("created=1800000000", "created=1800000000.0"), FieldError::Parameter("created")),
        (swap("nonce=\"AA", "nonce=\"A"), FieldError::Parameter("nonce")),
        (swap(";tag", ";expires=1800000001;tag"), FieldError::Parameter("of another name")),
        (swap("\"@method\"", "\"@method\";req"), FieldError::Components),
        (Fields { signature: good.signature.replace("tbr1", "tbr2"), ..good.clone() }, FieldError::Signature),
        (Fields { signature: "tbr1=:AAAA:".to_owned(), ..good.clone() }, FieldError::Signature),
        (input(format!("tbr1=\"{}\"", "x".repeat(MAX_FIELD))), FieldError::TooLong),
        (signed(&get(&host), &["b.example"; 17]), FieldError::TooMany),
    ] {
        assert_eq!(read(&bad).unwrap_err(), expected, "{bad:?}");
    }
}

#[test]
fn a_missing_component_is_noticed() {
    let host = host();
    let good = signed(&get(&host), &["b.example"]);
    for (from, to) in [
        (" \"@target-uri\"", ""),
        ("\"@method\" ", ""),
        ("\"@method\" \"@target-uri\"", "\"@target-uri\" \"@method\""),
        ("\"@target-uri\"", "\"@target-uri\" \"date\""),
    ] {
        let bad = Fields { input: good.input.replacen(from, to, 1), ..good.clone() };
        assert_eq!(one(&bad).check(&get(&host), secs(NOW)), Err(Refusal::Components), "{}", bad.input);
    }
}

#[test]
fn signatures_of_others_are_passed_over() {
    let host = host();
    let ours = signed(&get(&host), &["b.example"]);
    let fields = Fields {
        input: format!("proxy=(\"@authority\");keyid=\"x\";tag=\"edge\", {}", ours.input),
        signature: format!("proxy=:AAAA:, {}", ours.signature),
    };
    assert_eq!(judged(&one(&fields), &get(&host), "b.example"), Ok(()));
    assert_eq!(read(&Fields { input: "a=()".into(), signature: "a=:AAAA:".into() }).unwrap().len(), 0);
}
