//! Manifests of bundles and their signatures.

use serde_json::{Value, json};

use super::{bad, ok};
use crate::body::Revision1;
use crate::bundle::{End, Kind, Manifest, Part, seal};
use crate::message_signature::{KeyId, Nonce, Signer};
use crate::tests::vectors::{File, judge};
use crate::tests::{NOW, domain, facts_of, key_of, secs};

const HOST: &str = "tbr.b.example";
const PART: &[u8] = b"{\"v\":1,\"pending\":[]}";
const DAY: u64 = 86_400;

fn manifest(from: End, kind: Kind) -> Manifest {
    let parts = vec![Part::of(kind, PART)];
    Manifest { v: Revision1, from, site: domain("b.example"), host: domain(HOST), parts, objects: 2, octets: 5000 }
}

/// The two files with which a bundle begins, as the input of a vector.
fn bundle(manifest: &Manifest) -> Value {
    let id = KeyId { domain: domain("b.example"), selector: "k1".parse().unwrap() };
    let signer = Signer { id, key: std::sync::Arc::new(key_of("b.example")) };
    let body = serde_json::to_string(manifest).unwrap();
    let signature = seal(body.as_bytes(), &domain(HOST), &signer, Nonce([0x4e; 16]), secs(NOW)).unwrap();
    json!({
        "bundle.json": body, "bundle.sig": signature, "now": NOW,
        "keys": { "k1._tbr.b.example": facts_of("b.example").keys[0].to_txt() },
    })
}

fn good() -> Value {
    bundle(&manifest(End::Custodian, Kind::Pending))
}

fn swap(file: &str, from: &str, to: &str) -> Value {
    let mut input = good();
    let text = input[file].as_str().unwrap().to_owned();
    assert!(text.contains(from), "{text} has no {from}");
    input[file] = text.replacen(from, to, 1).into();
    input
}

fn at(now: u64) -> Value {
    let mut input = good();
    input["now"] = now.into();
    input
}

pub(super) fn bundles() -> File {
    let signature = |from: &str, to: &str| swap("bundle.sig", from, to);
    let long = Manifest { parts: vec![Part::of(Kind::Pending, PART); 65], ..manifest(End::Custodian, Kind::Pending) };
    File {
        name: "bundles.json",
        title: "Manifests of bundles and their signatures",
        about: &[
            "input has the first two files of a bundle, the reader's clock, and the TXT records of the keys that it knows.",
            "Valid means: the manifest is well-formed, and signed by a known key; outcome.signature_base is what was signed.",
            "Whether the other files are those that the manifest names is not judged here.",
        ],
        judge: judge::bundle,
        cases: vec![
            ok("from a custodian", good()),
            ok("from a site", bundle(&manifest(End::Site, Kind::Receipts))),
            ok("30 days old", at(NOW + 30 * DAY)),
            ok("of a clock that is 300 s ahead", at(NOW - 300)),
            ok("with a member of a later revision", {
                let mut manifest = serde_json::to_value(manifest(End::Custodian, Kind::Heard)).unwrap();
                manifest["priority"] = 1.into();
                let id = KeyId { domain: domain("b.example"), selector: "k1".parse().unwrap() };
                let signer = Signer { id, key: std::sync::Arc::new(key_of("b.example")) };
                let (body, mut input) = (manifest.to_string(), good());
                let seal = seal(body.as_bytes(), &domain(HOST), &signer, Nonce([0x4e; 16]), secs(NOW)).unwrap();
                (input["bundle.json"], input["bundle.sig"]) = (body.into(), seal.into());
                input
            }),
            bad("over 30 days old", "30 days", at(NOW + 30 * DAY + 1)),
            bad("of a time to come", "time to come", at(NOW - 301)),
            bad("another number of objects", "does not verify", swap("bundle.json", "\"objects\":2", "\"objects\":3")),
            bad("another site", "does not verify", swap("bundle.json", "b.example", "c.example")),
            bad("another host", "does not verify", swap("bundle.json", "tbr.b", "tbr.c")),
            bad("from the other end", "does not belong", swap("bundle.json", "custodian", "site")),
            bad("a part that is too long", "does not belong", swap("bundle.json", "\"size\":20", "\"size\":262145")),
            bad("a part of another kind", "cannot be read", swap("bundle.json", "pending", "keys")),
            bad("another revision", "cannot be read", swap("bundle.json", "\"v\":1", "\"v\":2")),
            bad("65 parts", "more than 64", bundle(&long)),
            bad("another time", "does not verify", signature("created=1800000000", "created=1800000001")),
            bad("an unknown key", "no key", signature("k1._tbr", "k2._tbr")),
            bad("two signatures", "cannot be read", {
                let one = good()["bundle.sig"].as_str().unwrap().to_owned();
                let (input, signature) = one.trim_end().split_once("\r\n").unwrap();
                let twice = |line: &str| {
                    let (name, value) = line.split_once(": ").unwrap();
                    format!("{name}: {value}, {}\r\n", value.replacen("tbr1", "tbr2", 1))
                };
                let mut both = good();
                both["bundle.sig"] = (twice(input) + &twice(signature)).into();
                both
            }),
            bad("lines in another order", "cannot be read", signature("Signature-Input: ", "Signature: ")),
            bad("a line more", "cannot be read", signature(":\r\n", ":\r\nX: y\r\n")),
            bad("lines without CR", "cannot be read", signature("\r\n", "\n")),
        ],
    }
}
