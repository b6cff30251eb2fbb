//! Signed requests.

use mail::{Domain, Xuid};
use serde_json::{Value, json};

use super::{bad, ok};
use crate::claims::CLAIMS_PATH;
use crate::message_signature::{Fields, KeyId, Nonce, Request, Signer, content_digest, sign};
use crate::tests::vectors::{Case, File, judge};
use crate::tests::{NOW, domain, facts_of, key_of, secs, uri_at};
use crate::upload::upload_path;

const BODY: &str = "{\"v\":1,\"instance\":\"AQEBAQEBAQEBAQEBAQEBAQ\",\"claims\":[]}";

/// A request, signed by these domains, as the input of a vector.
fn request(method: &str, body: Option<&str>, signers: &[&str]) -> Value {
    let host: Domain = domain("tbr.a.example");
    let path = match body {
        Some(_) => CLAIMS_PATH.to_owned(),
        None => uri_at("tbr.a.example").path_and_query(),
    };
    let digest = body.map(|body| content_digest(body.as_bytes()));
    let content_digest = digest.as_deref();
    let covered = Request { method, host: &host, path_and_query: &path, content_digest, upload_offset: None };
    let signers: Vec<Signer> = signers.iter().map(|name| signer(name)).collect();
    let nonces = (0x4e..).map(|octet| Nonce([octet; 16]));
    let Fields { input, signature } = sign(&covered, signers.iter().zip(nonces), secs(NOW)).unwrap();
    json!({
        "method": method, "host": host.as_str(), "path_and_query": path, "body": body, "now": NOW,
        "fields": { "content-digest": digest, "signature-input": input, "signature": signature },
        "txt": {
            "k1._tbr.b.example": facts_of("b.example").keys[0].to_txt(),
            "k1._tbr.c.example": facts_of("c.example").keys[0].to_txt(),
            "old._tbr.b.example": "v=TBR1; revoked",
        },
    })
}

/// A part of an object, from an offset on; its octets are not signed.
fn part() -> Value {
    let (host, path) = (domain("tbr.a.example"), upload_path(&Xuid::of(BODY.as_bytes())));
    let covered = Request {
        method: "PATCH",
        host: &host,
        path_and_query: &path,
        content_digest: None,
        upload_offset: Some(4096),
    };
    let Fields { input, signature } = sign(&covered, [(&signer("b.example"), Nonce([0x4e; 16]))], secs(NOW)).unwrap();
    let fields = json!({ "upload-offset": "4096", "signature-input": input, "signature": signature });
    let unsigned = with(with(get(), "/method", json!("PATCH")), "/path_and_query", json!(path));
    with(unsigned, "/fields", fields)
}

fn signer(name: &str) -> Signer {
    let id = KeyId { domain: domain(name), selector: "k1".parse().unwrap() };
    Signer { id, key: std::sync::Arc::new(key_of(name)) }
}

fn with(mut input: Value, path: &str, value: Value) -> Value {
    *input.pointer_mut(path).unwrap() = value;
    input
}

/// The text at a place of the input, changed.
fn swap(input: Value, path: &str, from: &str, to: &str) -> Value {
    let text = input.pointer(path).unwrap().as_str().unwrap().to_owned();
    assert!(text.contains(from), "{text} has no {from}");
    with(input, path, text.replacen(from, to, 1).into())
}

fn twice(input: &Value) -> Value {
    let double = |path: &str| {
        let text = input.pointer(path).unwrap().as_str().unwrap();
        json!(format!("{text}, {text}"))
    };
    let (fields, signature) = (double("/fields/signature-input"), double("/fields/signature"));
    with(with(input.clone(), "/fields/signature-input", fields), "/fields/signature", signature)
}

pub(super) fn requests() -> File {
    File {
        name: "requests.json",
        title: "Signed requests",
        about: &[
            "input is a request to a repository: method, host, path and query, body, and its fields (null: absent).",
            "input.txt are the TXT records of keys by name; input.now is the repository's clock.",
            "Valid means: every signature with the tag tbr verifies; outcome.signed_by lists them, with signature bases.",
            "Which domain's signature a grant needs, and that nonces are not repeated, is not judged here.",
        ],
        judge: judge::request,
        cases: [valid(), for_another_request(), of_another_form()].into_iter().flatten().collect(),
    }
}

fn get() -> Value {
    request("GET", None, &["b.example"])
}

fn post() -> Value {
    request("POST", Some(BODY), &["b.example"])
}

/// A retrieval whose `Signature-Input` was changed.
fn input(from: &str, to: &str) -> Value {
    swap(get(), "/fields/signature-input", from, to)
}

fn valid() -> Vec<Case> {
    vec![
        ok("retrieval", get()),
        ok("retrieval of the head", request("HEAD", None, &["b.example"])),
        ok("claims", post()),
        ok("claims of two domains", request("POST", Some(BODY), &["b.example", "c.example"])),
        ok("a part of an object that is uploaded", part()),
        ok("300 s old", with(get(), "/now", json!(NOW + 300))),
        ok("300 s ahead", with(get(), "/now", json!(NOW - 300))),
        ok(
            "beside the signature of somebody else",
            swap(
                swap(get(), "/fields/signature-input", "tbr1=", "cdn=(\"@authority\");tag=\"cdn\", tbr1="),
                "/fields/signature",
                "tbr1=",
                "cdn=:AAAA:, tbr1=",
            ),
        ),
        ok("by another implementation, its parameters in another order", {
            let input = "sig=(\"@method\" \"@target-uri\");created=1800000000;keyid=\"k1._tbr.b.example\"\
                             ;alg=\"ed25519\";nonce=\"Tk5OTk5OTk5OTk5OTk5OTg\";tag=\"tbr\"";
            let signature =
                "sig=:MtlG7i42nu6+dV/HX0aO/IPEnA3HganBfQr9lorYeAX5a01KXsRIaR4nBNGzgAllUeBgnCYbWqu0FdYY6gJ0Aw==:";
            with(with(get(), "/fields/signature-input", json!(input)), "/fields/signature", json!(signature))
        }),
    ]
}

fn for_another_request() -> Vec<Case> {
    vec![
        bad("301 s old", "300 s", with(get(), "/now", json!(NOW + 301))),
        bad("301 s ahead", "300 s", with(get(), "/now", json!(NOW - 301))),
        bad("another method", "does not verify", with(get(), "/method", json!("HEAD"))),
        bad("another host", "does not verify", with(get(), "/host", json!("tbr.other.example"))),
        bad("another grant", "does not verify", swap(get(), "/path_and_query", "RCPT=R0", "RCPT=R1")),
        bad("another offset", "does not verify", with(part(), "/fields/upload-offset", json!("4097"))),
        bad("an offset of another form", "does not cover", with(part(), "/fields/upload-offset", json!("04096"))),
        bad("another resource", "does not verify", with(post(), "/path_and_query", json!("/.well-known/tbr/receipts"))),
        bad("another body", "digest", swap(post(), "/body", "\"v\":1", "\"v\": 1")),
        bad("another digest", "digest", swap(post(), "/fields/content-digest", "sha-256=:", "sha-256=:A")),
        bad("digest by another algorithm", "digest", swap(post(), "/fields/content-digest", "sha-256", "sha-512")),
        bad("body without digest", "digest", with(post(), "/fields/content-digest", Value::Null)),
        bad("digest not covered", "components", swap(post(), "/fields/signature-input", " \"content-digest\"", "")),
        bad("target not covered", "components", input(" \"@target-uri\"", "")),
        bad("method not covered", "components", input("\"@method\" ", "")),
        bad("more covered", "components", input("\"@method\"", "\"@method\" \"@authority\"")),
        bad(
            "components in another order",
            "components",
            input("\"@method\" \"@target-uri\"", "\"@target-uri\" \"@method\""),
        ),
        bad("component with a parameter", "components", input("\"@method\"", "\"@method\";req")),
    ]
}

fn of_another_form() -> Vec<Case> {
    vec![
        bad("another time", "does not verify", input("created=1800000000", "created=1800000001")),
        bad("another nonce", "does not verify", input("nonce=\"Tk", "nonce=\"Tl")),
        bad("another domain's key", "does not verify", input("._tbr.b.example", "._tbr.c.example")),
        bad("unknown key", "not known", input("\"k1.", "\"k2.")),
        bad("revoked key", "revoked", input("\"k1.", "\"old.")),
        bad("key id of another form", "keyid", input("k1._tbr.b.example", "k1")),
        bad("key id in upper case", "keyid", input("k1._tbr.b.example", "k1._tbr.B.example")),
        bad("another algorithm", "alg", input("ed25519", "hmac-sha256")),
        bad("no algorithm", "alg", input(";alg=\"ed25519\"", "")),
        bad("no time", "created", input(";created=1800000000", "")),
        bad("no nonce", "nonce", input(";nonce=\"Tk5OTk5OTk5OTk5OTk5OTg\"", "")),
        bad("nonce too short", "nonce", input("Tk5OTk5OTk5OTk5OTk5OTg", "Tk5OTg")),
        bad("a parameter of another name", "another name", input(";tag", ";expires=1800000001;tag")),
        bad("another tag", "no signature", input("tag=\"tbr\"", "tag=\"tb\"")),
        bad("a parameter twice", "canonical", input(";tag", ";tag=\"x\";tag")),
        bad("a label twice", "canonical", twice(&get())),
        bad("white space where none belongs", "canonical", input(";created", "; created")),
        bad("signature under another label", "missing", swap(get(), "/fields/signature", "tbr1", "tbr2")),
        bad("signature of 3 octets", "length", with(get(), "/fields/signature", json!("tbr1=:AAAA:"))),
        bad("17 signatures", "more than 16", request("GET", None, &["b.example"; 17])),
        bad("no signature", "no signature", request("GET", None, &[])),
    ]
}
