//! Key records, documents, reply codes.

use mail::base64url::encode;
use serde_json::json;

use super::{bad, ok};
use crate::codes;
use crate::tests::vectors::{File, judge};
use crate::tests::{facts_of, key_of};

pub(super) fn keys() -> File {
    let p = key_of("a.example").verifying_key();
    let key = |txt: &[&str]| json!({ "kind": "key record", "domain": "a.example", "s": "k1", "txt": txt });
    let record = |txt: &str| json!({ "kind": "domain record", "domain": "a.example", "txt": [txt] });
    let text = |tags: &str| key(&[&format!("v=TBR1; a=ed25519; p={p}; {tags}")]);
    let seed = |name: &str| json!({ "kind": "seed", "domain": name, "seed": encode(&[name.as_bytes()[0]; 32]) });
    let document = String::from_utf8(facts_of("a.example").to_document().unwrap()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(document.contains(from));
        json!({ "kind": "document", "domain": "a.example", "document": document.replace(from, to) })
    };
    File {
        name: "keys.json",
        title: "What domains publish",
        about: &[
            "kind \"seed\": the Ed25519 seeds of the signing keys in these files, and their public keys.",
            "kind \"key record\": input.txt are the TXT records at <s>._tbr.<domain>, strings joined.",
            "kind \"domain record\": likewise at _tbr.<domain>.",
            "kind \"document\": what https://tbr.<domain>/.well-known/tbr/domain answered.",
        ],
        judge: judge::keys,
        cases: vec![
            ok("seed of a.example", seed("a.example")),
            ok("seed of b.example", seed("b.example")),
            ok("seed of c.example", seed("c.example")),
            ok("key", text("nb=1700000000; na=1800000000")),
            ok("key with a tag of the future", text("nb=1; na=2; x=y;")),
            ok("key among other records", key(&["v=spf1 -all", &format!("v=TBR1;na=2;nb=1;p={p};a=ed25519")])),
            ok("revoked key", key(&["v=TBR1; revoked"])),
            bad("no record", "no TBR1", key(&[])),
            bad("record of another version", "no TBR1", key(&["v=TBR2; revoked"])),
            bad("version not first", "no TBR1", key(&["revoked; v=TBR1"])),
            bad("two records", "more than one", key(&["v=TBR1; revoked", "v=TBR1; revoked"])),
            bad("window open at its end", "na is missing", text("nb=1")),
            bad("window reversed", "na", text("nb=2; na=1")),
            bad("window not a number", "nb", text("nb=now; na=2")),
            bad("window with a sign", "nb", text("nb=+1; na=2")),
            bad("window with a leading zero", "na", text("nb=1; na=02")),
            bad("window after the year 9999", "na", text("nb=1; na=253402300800")),
            bad("revoked with a value", "revoked", text("nb=1; na=2; revoked=yes")),
            bad("two final semicolons", "repeated", text("nb=1; na=2;;")),
            bad("repeated tag", "repeated", text("nb=1; nb=1; na=2")),
            bad("key of another algorithm", "algorithm", key(&["v=TBR1; a=rsa; p=AA; nb=1; na=2"])),
            bad("key too short", "value of p", key(&["v=TBR1; a=ed25519; p=AAAA; nb=1; na=2"])),
            ok("domain", record("v=TBR1; repo=tbr.a.example; sub=y")),
            ok("domain without repo", record("v=TBR1")),
            ok("two hosts", record("v=TBR1; repo=tbr.a.example,cdn.host.example; sub=n")),
            bad("host with a port", "repo", record("v=TBR1; repo=tbr.a.example:8443")),
            bad("host with underscore", "repo", record("v=TBR1; repo=_tbr.a.example")),
            bad("host in capitals", "repo", record("v=TBR1; repo=TBR.a.example")),
            bad("address as host", "repo", record("v=TBR1; repo=192.0.2.1")),
            bad("empty repo", "repo", record("v=TBR1; repo=")),
            bad("sub neither y nor n", "sub", record("v=TBR1; sub=1")),
            ok("document", with("TBR1", "TBR1")),
            ok("document with a member of the future", with("\"sub\"", "\"new\":[1],\"sub\"")),
            ok("document that wants to be believed for a year", with("\"max_age\":60", "\"max_age\":31536000")),
            ok("document that wants not to be believed", with("\"max_age\":60", "\"max_age\":0")),
            ok("document with a key of another algorithm", with("ed25519", "ml-dsa-44")),
            ok("document with a revoked key", with("\"revoked\":false", "\"revoked\":true")),
            bad("document of another domain", "another domain", with("\"domain\":\"a.", "\"domain\":\"b.")),
            bad("document of another version", "value of v", with("TBR1", "TBR2")),
            bad("document with a host in capitals", "repo", with("tbr.a.example", "TBR.a.example")),
            bad("document with an address as host", "repo", with("tbr.a.example", "192.0.2.1")),
            bad("document without keys", "not well-formed", with("\"keys\"", "\"kyes\"")),
            bad("document that is no JSON", "not well-formed", with("{", "(")),
        ],
    }
}

pub(super) fn reply_codes() -> File {
    let mut cases = Vec::new();
    for code in codes::ALL.iter().filter(|c| c.reply > 0) {
        let input = json!({ "reply": code.reply, "status": code.status.to_string() });
        cases.push(ok(code.text, input));
    }
    cases.push(ok("a 250 without enhanced code", json!({ "reply": 250 })));
    cases.push(ok("a 550 without enhanced code", json!({ "reply": 550 })));
    cases.push(ok("a 502 of a server that dropped TBR", json!({ "reply": 502, "status": "5.5.1" })));
    File {
        name: "codes.json",
        title: "Replies to an offer, and what the client takes them for",
        about: &[
            "Each reply that a receiver may give to TBR and its block; the name of a vector is the reply's text.",
            "pending: custody stays, wait for a claim. claimed: a claim was made. trylater: the same offer again later.",
            "byvalue: send by value, the reason concerns the reference only. refused: by value would fare no better.",
        ],
        judge: judge::code,
        cases,
    }
}
