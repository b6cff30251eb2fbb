//! Claims, receipts, stored messages.

use mail::{ReferenceId, Xuid};
use serde_json::{Value, json};

use super::{bad, ok};
use crate::hop::{Chain, HopMode};
use crate::tests::vectors::{File, judge};
use crate::tests::{NOW, OBJECT, facts_of, grant, reference, relayed};

/// The shortest entry, as JSON text.
fn entry(rest: &str) -> String {
    let id = ReferenceId([0x49; 16]);
    format!("{{\"to\":\"b.example\",\"i\":\"{id}\",\"grant\":\"{}\",{rest}}}", grant().reveal())
}

fn wrap(list: &str, entries: &str) -> String {
    format!("{{\"v\":1,\"instance\":\"AQEBAQEBAQEBAQEBAQEBAQ\",\"{list}\":[{entries}]}}")
}

pub(super) fn claims() -> File {
    let request = |rest: &str| json!({ "kind": "claims request", "body": wrap("claims", &entry(rest)) });
    let answer = |text: &str| {
        let id = ReferenceId([0x49; 16]);
        let body = format!("{{\"v\":1,\"claims\":[{{\"i\":\"{id}\",\"answers\":[{text}]}}]}}");
        json!({ "kind": "claims answer", "body": body })
    };
    let changed = |from: &str, to: &str| json!({ "kind": "claims request", "body": wrap("claims", &entry("\"n\":[0]")).replace(from, to) });
    let failed = |n: u16, status: &str| {
        request(&format!("\"n\":[0,2],\"failed\":[{{\"n\":{n},\"status\":\"{status}\",\"text\":\"no\"}}]"))
    };
    File {
        name: "claims.json",
        title: "Claims and their answers",
        about: &[
            "input.body is the body of POST /.well-known/tbr/claims, or of the answer.",
            "outcome.understood_as is what is left of it: unknown members and words dropped, texts cleaned.",
            "Invalid requests are answered 400, over 256 KiB 413; invalid answers are no answer.",
        ],
        judge: judge::body,
        cases: vec![
            ok("one recipient", request("\"n\":[0]")),
            ok("several, one refused after retrieval", failed(2, "5.7.1")),
            ok("acted upon without an answer", request("\"n\":[0],\"acted\":true")),
            ok("a member of the future", request("\"n\":[0],\"new\":{}")),
            ok(
                "two domains in one request",
                json!({
                    "kind": "claims request",
                    "body": wrap("claims", &[entry("\"n\":[0]"), entry("\"n\":[0]").replace("b.ex", "c.ex")].join(",")),
                }),
            ),
            ok(
                "a text with line ends and marks",
                request("\"n\":[0],\"failed\":[{\"n\":0,\"status\":\"5.7.1\",\"text\":\"a\\r\\nBcc: x\\u202e\"}]"),
            ),
            bad("no recipient", "indexes", request("\"n\":[]")),
            bad("recipients not ascending", "indexes", request("\"n\":[1,0]")),
            bad("recipient repeated", "indexes", request("\"n\":[0,0]")),
            bad("index over 999", "indexes", request("\"n\":[1000]")),
            bad("negative index", "well-formed", request("\"n\":[-1]")),
            bad("refused but not claimed", "indexes", failed(1, "5.7.1")),
            bad("refused for now", "status", failed(2, "4.7.1")),
            bad("another revision", "well-formed", changed("\"v\":1", "\"v\":2")),
            bad("grant too short", "well-formed", changed(&grant().reveal(), "AAAA")),
            bad("domain not a name", "well-formed", changed("b.example", "b..example")),
            bad("no instance", "well-formed", changed("\"instance\"", "\"instanze\"")),
            bad("member twice", "well-formed", changed("\"v\":1", "\"v\":1,\"v\":1")),
            ok("granted", answer("{\"n\":0,\"is\":\"granted\"}")),
            ok("taken and gone", answer("{\"n\":0,\"is\":\"taken\"},{\"n\":2,\"is\":\"gone\"}")),
            ok("a word of the future is no answer", answer("{\"n\":0,\"is\":\"later\"},{\"n\":1,\"is\":\"granted\"}")),
            bad("no word", "well-formed", answer("{\"n\":0}")),
        ],
    }
}

pub(super) fn uploads() -> File {
    let xuid = Xuid::of(OBJECT.as_bytes());
    let entry = format!(
        "{{\"id\":\"leg/1m8jcqt1efbkkrmt/0\",\"at\":{NOW},\"mail\":\"FROM:<bob@b.example>\",\
         \"rcpt\":[\"TO:<alice@a.example>\"],\"o\":\"{xuid}\",\"l\":{}}}",
        OBJECT.len()
    );
    let list = |entries: &str| json!({ "kind": "mail list", "body": format!("{{\"v\":1,\"mail\":[{entries}]}}") });
    let changed = |from: &str, to: &str| {
        assert!(entry.contains(from), "{entry} has no {from}");
        list(&entry.replacen(from, to, 1))
    };
    let answer = |text: &str| json!({ "kind": "mail answer", "body": format!("{{\"v\":1,{text}}}") });
    let failed = |status: &str| {
        let one = format!("{{\"rcpt\":\"x@a.example\",\"status\":\"{status}\",\"text\":\"a\\r\\nb\"}}");
        answer(&format!("\"taken\":[{{\"id\":\"leg/1m8jcqt1efbkkrmt/0\",\"failed\":[{one}]}}]"))
    };
    let wanted = |at: &str| answer(&format!("\"taken\":[],\"wanted\":[{{\"o\":\"{xuid}\",\"at\":{at}}}]"));
    File {
        name: "uploads.json",
        title: "Lists of what a site sends, and their answers",
        about: &[
            "input.body is the body of POST /.well-known/tbr/mail, also of a mail part of a bundle, or of the answer.",
            "outcome.understood_as is what is left of it: unknown members dropped, texts cleaned.",
            "Invalid lists are answered 400, over 256 KiB 413; invalid answers are no answer.",
            "Whether an answer is one to the list that was posted is not judged here.",
        ],
        judge: judge::body,
        cases: vec![
            ok("a message", list(&entry)),
            ok("with trace", changed("\"o\":", "\"trace\":\"Received: x\\r\\n\",\"o\":")),
            ok("nothing", list("")),
            bad("no recipient", "indexes", changed("\"TO:<alice@a.example>\"", "")),
            bad(
                "a name of another kind",
                "indexes",
                changed("leg/1m8jcqt1efbkkrmt/0", "in/SUlJSUlJSUlJSUlJSUlJSQ/b.example"),
            ),
            bad("no name at all", "well-formed", changed("leg/1m8jcqt1efbkkrmt/0", "leg")),
            bad("no XUID", "well-formed", changed(&xuid.to_string(), "AAAA")),
            bad("negative size", "well-formed", changed("\"l\":", "\"l\":-")),
            bad("a line that is too long", "longer", changed("FROM:<bob@b.example>", &"x".repeat(2049))),
            ok("taken", answer("\"taken\":[{\"id\":\"leg/1m8jcqt1efbkkrmt/0\"}]")),
            ok("taken, but not for all", failed("5.1.1")),
            ok("octets are wanted", wanted("4096")),
            ok("neither", answer("\"taken\":[]")),
            bad("failed for now", "status", failed("4.1.1")),
            bad("a negative offset", "well-formed", wanted("-1")),
            bad("an offset that is no whole number", "well-formed", wanted("1.5")),
        ],
    }
}

pub(super) fn receipts() -> File {
    let request = |outcome: &str| json!({ "kind": "receipts request", "body": wrap("receipts", &entry(&format!("\"outcomes\":[{outcome}]"))) });
    let outcome = |action: &str, status: &str| {
        request(&format!("{{\"n\":0,\"action\":\"{action}\",\"status\":\"{status}\",\"text\":\"x\",\"at\":{NOW}}}"))
    };
    let answer = |text: &str| json!({ "kind": "receipts answer", "body": text });
    let id = ReferenceId([0x49; 16]);
    File {
        name: "receipts.json",
        title: "Receipts and their answers",
        about: &[
            "input.body is the body of POST /.well-known/tbr/receipts, or of the answer.",
            "outcome.understood_as is what is left of it: unknown members dropped, texts cleaned.",
            "Invalid requests are answered 400, over 256 KiB 413; invalid answers are no answer.",
        ],
        judge: judge::body,
        cases: vec![
            ok("delivered", outcome("delivered", "2.0.0")),
            ok("relayed", outcome("relayed", "2.0.0")),
            ok("expanded", outcome("expanded", "2.0.0")),
            ok("delayed", outcome("delayed", "4.4.1")),
            ok("failed", outcome("failed", "5.2.2")),
            ok("failed after a temporary error lasted too long", outcome("failed", "4.4.7")),
            ok(
                "already reported to the author",
                request("{\"n\":0,\"action\":\"failed\",\"status\":\"5.2.2\",\"at\":1800000000,\"reported\":true}"),
            ),
            bad("delivered with a failure's status", "status", outcome("delivered", "5.0.0")),
            bad("delayed with a permanent status", "status", outcome("delayed", "5.0.0")),
            bad("failed with a success's status", "status", outcome("failed", "2.0.0")),
            bad("unknown action", "well-formed", outcome("bounced", "5.0.0")),
            bad("no status code", "well-formed", outcome("failed", "5.0")),
            bad("no outcome", "indexes", request("")),
            bad("outcome repeated", "indexes", {
                let one = "{\"n\":0,\"action\":\"delivered\",\"status\":\"2.0.0\",\"at\":1}";
                request(&format!("{one},{one}"))
            }),
            bad("no time", "well-formed", request("{\"n\":0,\"action\":\"delivered\",\"status\":\"2.0.0\"}")),
            ok("recorded", answer(&format!("{{\"v\":1,\"receipts\":[{{\"i\":\"{id}\",\"recorded\":[0]}}]}}"))),
            bad("answer without list", "well-formed", answer("{\"v\":1}")),
        ],
    }
}

pub(super) fn delegations() -> File {
    let text = |mode: HopMode| relayed(mode).hops()[0].canonical();
    let hop = text(HopMode::Reference);
    let of = |hop: &str, map: &str| {
        let (id, grant) = (ReferenceId([0x49; 16]), grant().reveal());
        let body = format!(
            "{{\"v\":1,\"instance\":\"AQEBAQEBAQEBAQEBAQEBAQ\",\"to\":\"b.example\",\"i\":\"{id}\",\"grant\":\"{grant}\",\
             \"hop\":\"{hop}\",\"hop_grant\":\"{}\",\"map\":[{map}]}}",
            mail::Grant::new(&[4; 16]).unwrap().reveal()
        );
        json!({ "kind": "delegate request", "body": body })
    };
    let answer = |text: &str| json!({ "kind": "delegate answer", "body": text });
    File {
        name: "delegations.json",
        title: "Delegations and their answers",
        about: &[
            "input.body is the body of POST /.well-known/tbr/delegate, or of the answer.",
            "outcome.understood_as is what is left of it: unknown members dropped.",
            "That the hop continues the field below, and its signature, are not judged here.",
            "Invalid requests are answered 400, over 256 KiB 413; invalid answers are no answer.",
        ],
        judge: judge::body,
        cases: vec![
            ok("one recipient", of(&hop, "0")),
            ok("several, in the order of the hop", of(&hop, "2,0")),
            bad("no recipient", "indexes", of(&hop, "")),
            bad("recipient repeated", "indexes", of(&hop, "1,0,1")),
            bad("index over 999", "indexes", of(&hop, "1000")),
            bad("a hop by custody", "well-formed", of(&text(HopMode::Custody("tbr.b.example".parse().unwrap())), "0")),
            bad("a hop by value", "well-formed", of(&text(HopMode::Value([9; 16])), "0")),
            bad("a hop with a space", "well-formed", of(&hop.replace(";n=", "; n="), "0")),
            bad("a hop without signature", "well-formed", of(hop.split(";b=").next().unwrap(), "0")),
            bad("no hop", "well-formed", of("", "0")),
            ok("granted", answer("{\"v\":1,\"is\":\"granted\"}")),
            ok("taken", answer("{\"v\":1,\"is\":\"taken\"}")),
            ok("gone", answer("{\"v\":1,\"is\":\"gone\"}")),
            bad("a word of the future is no answer", "well-formed", answer("{\"v\":1,\"is\":\"later\"}")),
            bad("no word", "well-formed", answer("{\"v\":1}")),
        ],
    }
}

pub(super) fn stored() -> File {
    let trace = "Return-Path: <alice@a.example>\r\nReceived: from a.example\r\n\tby b.example; Fri, 15 Jan 2027\r\n";
    let message = format!("{trace}{}{OBJECT}", reference().encode());
    let facts: Value = serde_json::from_slice(&facts_of("a.example").to_document().unwrap()).unwrap();
    let of = |message: String| json!({ "message": message, "line_ends": "crlf", "now": NOW, "facts": facts });
    let not_shown = "not shown";
    let chain: Chain = relayed(HopMode::Value([9; 16]));
    File {
        name: "stored.json",
        title: "Stored messages",
        about: &[
            "input.message is a mailbox copy: trace fields, TBR-Hop fields, TBR-Reference, object.",
            "input.facts is what the origin publishes, if it is still to be had.",
            "Valid means: what stands below the topmost TBR-Reference is what the origin signed. Expiry does not matter.",
            "Of a copy with LF line ends the object is hashed with CRLF line ends, and the outcome says so.",
        ],
        judge: judge::stored,
        cases: vec![
            ok("as delivered", of(message.clone())),
            ok(
                "years later",
                json!({ "message": message, "line_ends": "crlf", "now": NOW + 100_000_000, "facts": facts }),
            ),
            ok("more trace fields on top", of(format!("X-Folder: in\r\n{message}"))),
            ok("a hop above the reference", of(format!("{trace}{}{OBJECT}", chain.encode()))),
            ok(
                "LF copy",
                json!({
                    "message": message.replace("\r\n", "\n"), "line_ends": "lf", "now": NOW, "facts": facts,
                }),
            ),
            bad("one letter changed", not_shown, of(message.replace("counter", "Counter"))),
            bad("a field added below the reference", not_shown, of(message.replace("From: ", "X-A: b\r\nFrom: "))),
            bad("last line cut off", not_shown, of(message.replace(".A line that begins with a dot.\r\n", ""))),
            bad("reference changed", not_shown, of(message.replace("to=b.example", "to=c.example"))),
            bad("keys not to be had", not_shown, json!({ "message": message, "line_ends": "crlf", "now": NOW })),
            bad("no reference", "no TBR-Reference", of(OBJECT.to_owned())),
            bad("reference in the body only", "no TBR-Reference", of(format!("A: b\r\n\r\n{message}"))),
            bad("malformed reference", "TBR-Reference", of(message.replace("v=1;", ""))),
            bad("LF copy taken for the original", "not well-formed", of(message.replace("\r\n", "\n"))),
        ],
    }
}
