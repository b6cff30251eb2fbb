//! URIs, recipients hashes, references, hops, blocks.

use mail::base64url::encode;
use mail::{Grant, ReferenceId, Xuid};
use serde_json::{Value, json};

use super::{bad, custody, ok};
use crate::hop::{HopMode, HopStatement, Link};
use crate::reference::Statement;
use crate::tests::vectors::{Case, File, judge};
use crate::tests::{
    NOW, OBJECT, address, addresses, domain, grant, hop_over, key_of, reference, relayed, secs, statement_for, uri_at,
};

pub(super) fn uris() -> File {
    let uri = uri_at("tbr.a.example").reveal();
    let with = |from: &str, to: &str| json!({ "uri": uri.replacen(from, to, 1) });
    let grant = grant().reveal();
    let (xuid, longest) = (Xuid::of(OBJECT.as_bytes()).to_string(), Grant::new(&[0x47; 32]).unwrap().reveal());
    File {
        name: "uris.json",
        title: "The eXAM URI",
        about: &["input.uri is the text after the forwarding count.", "outcome has its parts, or the reason."],
        judge: judge::uri,
        cases: vec![
            ok("usual", json!({ "uri": uri })),
            ok("a grant of 32 octets", with(&grant, &longest)),
            ok("an A-label host", with("tbr.a.example", "xn--bcher-kva.example")),
            bad("http", "not an https", with("https:", "http:")),
            bad("scheme in capitals", "not an https", with("https:", "HTTPS:")),
            bad("port", "host", with("a.example/", "a.example:443/")),
            bad("user", "host", with("tbr.", "user@tbr.")),
            bad("host in capitals", "host", with("tbr.", "TBR.")),
            bad("final dot", "host", with("example/", "example./")),
            bad("underscore", "host", with("tbr.", "_tbr.")),
            bad("IPv4 address", "host", with("tbr.a.example", "192.0.2.1")),
            bad("IPv6 address", "host", with("tbr.a.example", "[2001:db8::1]")),
            bad("one label", "host", with("tbr.a.example", "localhost")),
            bad("U-label", "host", with("tbr.a.example", "bücher.example")),
            bad("another path", "path", with("/tbr/m", "/tbr/n")),
            bad("escaped path", "path", with("/tbr/m", "/tbr/%6d")),
            bad("dot segments", "path", with("/.well-known", "/x/../.well-known")),
            bad(
                "parameters in the other order",
                "XUID",
                json!({
                    "uri": format!("https://tbr.a.example/.well-known/tbr/m?RCPT={grant}&XUID={xuid}"),
                }),
            ),
            bad("parameter names in small letters", "XUID", with("XUID=", "xuid=")),
            bad("XUID too short", "XUID", with(&xuid, &xuid[1..])),
            bad("XUID with padding", "XUID", with(&xuid, &format!("{xuid}="))),
            bad("XUID not canonical", "XUID", json!({ "uri": uri.replace(&xuid, &format!("{}B", "A".repeat(42))) })),
            bad("grant of 15 octets", "RCPT", with(&grant, &encode(&[0x47; 15]))),
            bad("grant of 33 octets", "RCPT", with(&grant, &encode(&[0x47; 33]))),
            bad("grant not canonical", "RCPT", with(&grant, "AAAAAAAAAAAAAAAAAAAAAB")),
            bad("a third parameter", "RCPT", json!({ "uri": format!("{uri}&X=1") })),
            bad("fragment", "RCPT", json!({ "uri": format!("{uri}#x") })),
            bad("space behind", "RCPT", json!({ "uri": format!("{uri} ") })),
        ],
    }
}

pub(super) fn recipients() -> File {
    let id = ReferenceId([0x49; 16]);
    let of = |list: &[&str]| json!({ "grant": judge::grant_text(&grant()), "i": id.to_string(), "recipients": list });
    File {
        name: "recipients.json",
        title: "The recipients hash rh",
        about: &[
            "input.recipients are the RCPT addresses of a transaction, refused ones included, in the order sent.",
            "input.grant (or input.opener, in a by-value hop) and input.i go into the hash decoded.",
            "outcome.hashed_as are the octets that stand for each recipient.",
            "rh = SHA-256(\"tbr-rh-1\" 00 | u16 len(grant) | grant | i | SHA-256(u32 count | for each: u32 len | octets)), \
             numbers with the most significant octet first.",
        ],
        judge: judge::recipients,
        cases: vec![
            ok("one", of(&["bob@b.example"])),
            ok("local part in capitals is another recipient", of(&["Bob@b.example"])),
            ok("domain in capitals is the same recipient", of(&["bob@B.Example"])),
            ok("several", of(&["bob@b.example", "carol@b.example"])),
            ok("several in another order", of(&["carol@b.example", "bob@b.example"])),
            ok("the same twice", of(&["bob@b.example", "bob@b.example"])),
            ok("none", of(&[])),
            ok("quoted local part", of(&["\"a b\"@b.example"])),
            ok("SMTPUTF8", of(&["jürgen@bücher.example"])),
            ok("address literal", of(&["bob@[IPv6:2001:DB8::1]"])),
            ok("bare postmaster", of(&["Postmaster"])),
            ok(
                "another id",
                json!({
                    "grant": grant().reveal(), "i": ReferenceId([0x4a; 16]).to_string(), "recipients": ["bob@b.example"],
                }),
            ),
            ok(
                "a grant of 32 octets",
                json!({
                    "grant": encode(&[0x47; 32]), "i": id.to_string(), "recipients": ["bob@b.example"],
                }),
            ),
            ok(
                "a by-value hop",
                json!({
                    "opener": encode(&[9; 16]), "i": id.to_string(), "recipients": ["carol@c.example"],
                }),
            ),
            bad("not an address", "no domain", of(&["bob"])),
            bad("a line end in it", "local part", of(&["a\r\nb@b.example"])),
        ],
    }
}

pub(super) fn references() -> File {
    File {
        name: "references.json",
        title: "TBR-Reference: form and signature",
        about: &[
            "input.field is a whole header field; input.key is the public key that its selector names.",
            "input.uri is the URI of the offer, for the idempotence key only.",
            "Valid means: well-formed, and signed by that key. Clocks and sessions are not judged here.",
            "outcome.canonical is what the signature covers, after \"TBR-Reference:\" (outcome.signature_input).",
        ],
        judge: judge::reference,
        cases: reference_cases(),
    }
}

fn reference_cases() -> Vec<Case> {
    let good = reference();
    let key = key_of("a.example").verifying_key().to_string();
    let field = good.encode();
    let uri = uri_at("tbr.a.example").reveal();
    let input = |field: String| json!({ "field": field, "key": key, "uri": uri });
    let flat = |canonical: &str| format!("TBR-Reference: {canonical};b={}\r\n", encode(good.signature().as_bytes()));
    let canonical = good.statement().canonical();
    let with = |from: &str, to: &str| {
        assert!(canonical.contains(from), "{from}");
        input(flat(&canonical.replacen(from, to, 1)))
    };
    let stating = |change: &dyn Fn(&mut Statement)| {
        let mut statement = statement_for(&addresses(&["bob@b.example"]));
        change(&mut statement);
        input(statement.sign(&key_of("a.example")).unwrap().encode())
    };
    let mailbox = format!("f={}", encode(b"alice@a.example"));
    let named = |text: &str| format!("f={}", encode(text.as_bytes()));
    let size = format!("l={}", OBJECT.len());
    let mut cases = vec![
        ok("as encoded", input(field.clone())),
        ok("without any white space but one", input(flat(&canonical))),
        ok("white space before every tag", input(flat(&canonical.replace(';', "; \t")))),
        ok("folded before every tag", input(flat(&canonical.replace(';', ";\r\n ")))),
        ok(
            "folded inside every binary value",
            input({
                let signature = encode(good.signature().as_bytes());
                let (head, tail) = signature.split_at(9);
                let text = canonical.replace("i=SUlJ", "i=SU\r\n lJ").replace(";rh=", ";rh=\r\n\t");
                format!("TBR-Reference: {text};b={head} {tail}\r\n ")[..].trim_end_matches("\r\n ").to_owned() + "\r\n"
            }),
        ),
        ok("null sender", stating(&|s| s.mail_from = None)),
        ok("SMTPUTF8 sender", stating(&|s| s.mail_from = Some(address("ünï@a.example")))),
        ok("largest size", stating(&|s| s.size = 9_007_199_254_740_991)),
        ok("last second", stating(&|s| s.expires = secs(253_402_300_799))),
        ok("dotted selector", stating(&|s| s.selector = "2027.k1".parse().unwrap())),
        bad(
            "signed by another key",
            "signature",
            json!({
                "field": field, "key": key_of("b.example").verifying_key().to_string(), "uri": uri,
            }),
        ),
        bad(
            "signature with one bit changed",
            "signature",
            input({
                let mut octets = good.signature().as_bytes().to_vec();
                octets[63] ^= 1;
                format!("TBR-Reference: {canonical};b={}\r\n", encode(&octets))
            }),
        ),
        bad("size changed", "signature", with(&size, "l=1")),
        bad("recipient domain changed", "signature", with("to=b.example", "to=c.example")),
        bad("sender changed", "signature", with(&mailbox, &named("eve@a.example"))),
    ];
    cases.extend(malformed_references(&canonical, &with, &|text| input(flat(text))));
    cases
}

fn malformed_references(
    canonical: &str,
    with: &dyn Fn(&str, &str) -> Value,
    whole: &dyn Fn(&str) -> Value,
) -> Vec<Case> {
    let named = |text: &str| format!("f={}", encode(text.as_bytes()));
    let mailbox = named("alice@a.example");
    let size = format!("l={}", OBJECT.len());
    vec![
        bad("another revision", "revision 2", with("v=1", "v=2")),
        bad("no revision", "tag v", with("v=1", "v=")),
        bad("another algorithm", "ml-dsa-44", with("a=ed25519", "a=ml-dsa-44")),
        bad("algorithm in capitals", "tag a", with("a=ed25519", "a=ED25519")),
        bad("missing tag", "i is missing", with("i=SUlJSUlJSUlJSUlJSUlJSQ;", "")),
        bad("repeated tag", "d stands twice", with("s=k1", "d=a.example;s=k1")),
        bad("tags out of order", "not in its place", with("d=a.example;s=k1", "s=k1;d=a.example")),
        bad("unknown tag", "unknown tag x", with("t=", "x=1;t=")),
        bad("tag name in capitals", "unknown tag D", with("d=", "D=")),
        bad("final semicolon", "without name", whole(&format!("{canonical};b=AA;"))),
        bad("empty field", "without name", json!({ "field": "TBR-Reference:\r\n", "key": "", "uri": "" })),
        bad("white space in a name", "unknown tag", with("s=k1", "s =k1")),
        bad("white space before a value", "tag s", with("s=k1", "s= k1")),
        bad("white space before a semicolon", "tag s", with("s=k1", "s=k1 ")),
        bad("folded inside a domain", "tag d", with("d=a.example", "d=a.\r\n example")),
        bad("bare LF", "octet", with(";s=k1", ";\n s=k1")),
        bad("bare CR", "octet", with(";s=k1", ";\r s=k1")),
        bad("folded with an empty line", "octet", with(";s=k1", ";\r\n \r\n s=k1")),
        bad("octet over 127", "octet", with("s=k1", "s=ké")),
        bad("domain in capitals", "tag d", with("d=a.example", "d=A.example")),
        bad("domain with final dot", "tag to", with("to=b.example", "to=b.example.")),
        bad("domain with underscore", "tag d", with("d=a.example", "d=_tbr.example")),
        bad("domain of one label", "tag d", with("d=a.example", "d=example")),
        bad("address as domain", "tag d", with("d=a.example", "d=192.0.2.1")),
        bad("U-label", "octet", with("d=a.example", "d=bücher.example").to_owned()),
        bad("selector in capitals", "tag s", with("s=k1", "s=K1")),
        bad("selector too long", "tag s", with("s=k1", &format!("s={}", "k".repeat(64)))),
        bad("id too short", "tag i", with("i=SUlJSUlJSUlJSUlJSUlJSQ", "i=SUlJSUlJSUlJSUlJSUlJ")),
        bad("id not canonical", "tag i", with("i=SUlJSUlJSUlJSUlJSUlJSQ", "i=SUlJSUlJSUlJSUlJSUlJSR")),
        bad("id with padding", "tag i", with("i=SUlJSUlJSUlJSUlJSUlJSQ", "i=SUlJSUlJSUlJSUlJSUlJSQ==")),
        bad("standard base64", "tag rh", whole(&format!("{}/;b=AA", &canonical[..canonical.len() - 1]))),
        bad("size zero", "tag l", with(&size, "l=0")),
        bad("size with leading zero", "tag l", with("l=", "l=0")),
        bad("size with sign", "tag l", with("l=", "l=+")),
        bad("size over 2^53-1", "tag l", with(&size, "l=9007199254740992")),
        bad("time after the year 9999", "tag t", with("t=1799999000", "t=253402300800")),
        bad("sender without domain", "tag f", with(&mailbox, &named("alice"))),
        bad("sender is bare postmaster", "tag f", with(&mailbox, &named("postmaster"))),
        bad("sender at an address literal", "tag f", with(&mailbox, &named("alice@[192.0.2.1]"))),
        bad("sender domain in capitals", "tag f", with(&mailbox, &named("alice@A.example"))),
        bad("sender with a line end", "tag f", with(&mailbox, &named("alice\r\n@a.example"))),
        bad(
            "signature too short",
            "tag b",
            json!({
                "field": format!("TBR-Reference: {canonical};b=AAAA\r\n"), "key": "", "uri": "",
            }),
        ),
    ]
}

pub(super) fn hops() -> File {
    let key = key_of("b.example").verifying_key().to_string();
    let field = |mode: HopMode| relayed(mode).hops()[0].encode();
    let input = |field: String| json!({ "field": field, "key": key });
    let with = |from: &str, to: &str| {
        let chain = relayed(custody());
        let (text, signature) = (chain.hops()[0].statement().canonical(), chain.hops()[0].signature().clone());
        assert!(text.contains(from), "{from}");
        input(format!("TBR-Hop: {};b={}\r\n", text.replacen(from, to, 1), encode(signature.as_bytes())))
    };
    File {
        name: "hops.json",
        title: "TBR-Hop: form and signature",
        about: &[
            "input.field is a whole header field; input.key is the public key that its selector names.",
            "The signature covers \"TBR-Hop:\" and outcome.canonical.",
            "Each hop lies on the reference \"as encoded\" of references.json.",
        ],
        judge: judge::hop,
        cases: vec![
            ok("by custody", input(field(custody()))),
            ok("by reference", input(field(HopMode::Reference))),
            ok("by value", input(field(HopMode::Value([9; 16])))),
            bad("number changed", "signature", with("n=1", "n=2")),
            bad("host changed", "signature", with("at=tbr.b.example", "at=tbr.c.example")),
            bad("number zero", "tag n", with("n=1", "n=0")),
            bad("number over 100", "tag n", with("n=1", "n=101")),
            bad("both g and at", "not in its place", with("at=", "g=CQkJCQkJCQkJCQkJCQkJCQ;at=")),
            bad("g too short", "tag g", with("at=tbr.b.example", "g=AAAA")),
            bad("p missing", "p is missing", {
                let chain = relayed(custody());
                let p = format!("p={};", encode(&chain.hops()[0].statement().previous));
                with(&p, "")
            }),
            bad("a tag of the reference", "unknown tag o", with(";t=", ";o=1;t=")),
        ],
    }
}

pub(super) fn blocks() -> File {
    let one = reference().encode();
    let chain = relayed(custody());
    let input = |block: String| json!({ "block": block });
    let linked = |change: &dyn Fn(&mut HopStatement)| {
        let reference = reference();
        let carol = addresses(&["carol@c.example"]);
        let mut hop = hop_over(Link::Reference(&reference), 1, "c.example", custody(), &carol);
        change(&mut hop);
        input(hop.sign(&key_of("b.example")).unwrap().encode() + &reference.encode())
    };
    let twice = |second: HopMode, first: HopMode| {
        let chain = relayed(first);
        let dave = addresses(&["dave@d.example"]);
        let hop = hop_over(chain.topmost(), 2, "d.example", second, &dave).sign(&key_of("c.example")).unwrap();
        input(hop.encode() + &chain.encode())
    };
    let long = format!("TBR-Reference: {}\r\n", "x".repeat(990));
    File {
        name: "blocks.json",
        title: "The block of an offer",
        about: &[
            "input.block is what stands between the TBR line and the final dot.",
            "Valid means: well-formed fields that link. Signatures, clocks and sessions are not judged here.",
            "outcome.signers are the domains of the fields, newest first; outcome.repository_of is the one whose host serves the object.",
        ],
        judge: judge::block,
        cases: vec![
            ok("a reference", input(one.clone())),
            ok("field name in small letters", input(one.replace("TBR-Reference", "tbr-reference"))),
            ok("a custodian", input(chain.encode())),
            ok("a delegation", input(relayed(HopMode::Reference).encode())),
            ok("sent by value", input(relayed(HopMode::Value([9; 16])).encode())),
            ok("two hops", twice(HopMode::Custody(domain("tbr.c.example")), HopMode::Reference)),
            bad("empty", "one TBR-Reference", input(String::new())),
            bad("two references", "one TBR-Reference", input(format!("{one}{one}"))),
            bad("hop below the reference", "one TBR-Reference", input(one.clone() + &chain.hops()[0].encode())),
            bad("another field", "nothing else", input(format!("Received: x\r\n{one}"))),
            bad("begins folded", "line 1", input(format!(" {one}"))),
            bad("empty line behind", "line", input(format!("{one}\r\n"))),
            bad("LF line ends", "line 1", input(one.replace("\r\n", "\n"))),
            bad("no final CRLF", "line", input(one.trim_end().to_owned())),
            bad("space before the colon", "one TBR-Reference", input(one.replacen(':', " :", 1))),
            bad("a line of over 998 octets", "line 1", input(long)),
            bad("hop numbered 2 alone", "not numbered", linked(&|h| h.number = 2)),
            bad("hop that continues another reference", "does not continue", linked(&|h| h.previous = [0; 32])),
            bad("hop of a stranger", "another domain", linked(&|h| h.domain = domain("z.example"))),
            bad("hop that changes the sender", "changes the sender", linked(&|h| h.mail_from = None)),
            bad("hop from before the reference", "lifetime", linked(&|h| h.issued = secs(NOW - 1001))),
            bad("hop from after the reference", "lifetime", linked(&|h| h.issued = secs(NOW + 432_000))),
            bad("hop that ends at once", "lifetime", linked(&|h| h.expires = h.issued)),
            bad("delegation of what came by value", "delegates", twice(HopMode::Reference, HopMode::Value([9; 16]))),
        ],
    }
}
