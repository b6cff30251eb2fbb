//! Hostile peers, among real servers: one who sits on the path and changes what is said, one who makes references up. What comes of it is
//! counted: forgeries accepted 0, messages lost 0, connections to third parties on behalf of an unverified reference 0, and to a host
//! that has not consented 0. `docs/spec/attacker-matrix.md` has the whole matrix.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common {
    pub(crate) mod forger;
    pub(crate) mod now;
    pub(crate) mod talk;
}

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::forger::{Forger, Forgery, Innocent};
use mail::Timestamp;
use reference::SigningKey;
use testbed::peers::restante::{object, references};
use testbed::peers::{Middlebox, Restante, RestanteConfig};
use testbed::samples::{awkward, crlf};
use testbed::{Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

fn config(domains: &[&str]) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, &format!("mx.{}", domains[0]), domains).users(&["alice", "bob"])
}

/// The third party in the place of the origin's repository.
fn redirect(line: Vec<u8>) -> Vec<u8> {
    replace(line, "https://tbr.a.example/", "https://innocent.example/")
}

/// Another size than was signed.
fn tamper(line: Vec<u8>) -> Vec<u8> {
    replace(line, "; l=", "; l=1")
}

/// Somebody else gets it.
fn readdress(line: Vec<u8>) -> Vec<u8> {
    replace(line, "RCPT TO:<bob@", "RCPT TO:<alice@")
}

fn replace(line: Vec<u8>, what: &str, with: &str) -> Vec<u8> {
    String::from_utf8(line).map_or_else(|error| error.into_bytes(), |text| text.replace(what, with).into_bytes())
}

#[test]
fn who_sits_on_the_path_of_offers_in_clear_gains_nothing_and_nothing_is_lost() {
    let sandbox = Sandbox::new().unwrap();
    let innocent = Innocent::new(&sandbox);
    let required = "[[transfer.peer]]\ndomain = \"q.example\"\npolicy = \"require\"";
    let origin = Restante::start(&sandbox, config(&["a.example"]).tables(required)).unwrap();
    let domains = ["c.example", "r.example", "t.example", "q.example"];
    // He sees and changes everything: the worst that a receiver can configure.
    let receiver = config(&domains).with("relay listener", "tbr_without_tls", "true").preference(20);
    let receiver = Restante::start(&sandbox, receiver).unwrap();
    let server = (receiver.host().ipv4(), 25).into();
    let _boxes = [("r", redirect as fn(Vec<u8>) -> Vec<u8>), ("t", tamper), ("q", readdress)].map(|(label, change)| {
        let middlebox = Middlebox::start(&sandbox, &format!("between.{label}.example"), server, change).unwrap();
        sandbox.publish_mx(&format!("{label}.example"), middlebox.host().name()).unwrap();
        middlebox
    });

    let message = awkward("on its way");
    origin.send("alice@a.example", &["bob@r.example", "bob@t.example", "bob@q.example"], &message).unwrap();
    for mailbox in ["bob@r.example", "bob@t.example"] {
        let copy = receiver.maildir(mailbox).wait_for(1, wait::LONG).unwrap().remove(0);
        assert!(copy.ends_with(&crlf(&message)), "{}", String::from_utf8_lossy(&copy));
        assert_eq!(object(&copy), None, "by value, after the offer was refused");
    }
    // Who insists on references is told: nothing went to the wrong person, and nothing is lost.
    let report = origin.maildir("alice@a.example").wait_for_text("message/delivery-status", wait::LONG).unwrap();
    let report = String::from_utf8_lossy(&report).replace("\r\n ", " ");
    assert!(report.contains("bob@q.example") && report.contains("made for other recipients"), "{report}");
    assert_eq!(receiver.maildir("alice@q.example").messages().len(), 0);
    assert_eq!(receiver.maildir("bob@q.example").messages().len(), 0);
    innocent.assert_left_alone();
}

fn key(path: &Path) -> SigningKey {
    let pem = fs::read_to_string(path).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    SigningKey::from_pkcs8(&STANDARD.decode(base64).unwrap()).unwrap()
}

#[test]
fn references_that_are_made_up_or_aim_at_others_are_refused_before_anybody_is_asked() {
    let sandbox = Sandbox::new().unwrap();
    let innocent = Innocent::new(&sandbox);
    let origin = Restante::start(&sandbox, config(&["a.example"])).unwrap();
    let spammer = Restante::start(&sandbox, config(&["x.example"])).unwrap();
    let receiver = config(&["c.example"]).with("relay listener", "tbr_without_tls", "true");
    let receiver = Restante::start(&sandbox, receiver).unwrap();
    let forger = Forger { host: sandbox.host("forger.example", &[]).unwrap(), server: &receiver };
    // Whoever answers for DNS can say anything there: a key of his own in the victim's name, and where the victim is.
    let (theirs, own) = (key(&origin.key("a.example")), key(&spammer.key("x.example")));
    let record = reference::KeyRecord::active(
        "forged".parse().unwrap(),
        own.verifying_key(),
        Timestamp::from_secs(1),
        Timestamp::from_secs(4_000_000_000),
    );
    sandbox.publish(&[Record::Txt("forged._tbr.a.example".to_owned(), record.to_txt())]).unwrap();
    innocent.answers_to(&sandbox, "tbr.victim.example");

    let hour = Duration::from_secs(3600);
    let genuine = Forgery {
        domain: "a.example",
        selector: "k1",
        key: &theirs,
        host: "tbr.a.example",
        signed_for: "bob@c.example",
        sent_to: "bob@c.example",
        age: Duration::ZERO,
        lifetime: 24 * hour,
    };
    let attacks = [
        ("forge", Forgery { key: &own, ..genuine }, "550 5.7.75 "),
        // What cannot be told apart from a key that is not there yet is to come again.
        ("poison: a key in unsigned DNS", Forgery { key: &own, selector: "forged", ..genuine }, "451 4.7.72 "),
        (
            "forge in the name of one without a record",
            Forgery { domain: "victim.example", host: "tbr.victim.example", key: &own, ..genuine },
            "550 5.7.80 ",
        ),
        ("replay to others", Forgery { sent_to: "alice@c.example", ..genuine }, "550 5.7.77 "),
        ("replay after its time", Forgery { age: 30 * hour, ..genuine }, "550 5.7.71 "),
        (
            "redirect, by the sender itself",
            Forgery { domain: "x.example", key: &own, host: "innocent.example", ..genuine },
            "550 5.7.78 ",
        ),
        ("redirect, in another's name", Forgery { host: "innocent.example", ..genuine }, "550 5.7.78 "),
        (
            "sign for others",
            Forgery { domain: "x.example", key: &theirs, host: "tbr.x.example", ..genuine },
            "550 5.7.75 ",
        ),
    ];
    for (attack, forgery, code) in &attacks {
        let said = forger.offer(forgery);
        assert!(said.starts_with(code), "{attack}: {said}");
    }
    innocent.assert_left_alone();
    assert_eq!(receiver.maildir("bob@c.example").messages().len(), 0);

    // What the forger did costs nobody's mail.
    let message = awkward("genuine after all");
    let id = origin.send("alice@a.example", &["bob@c.example"], &message).unwrap();
    let sent = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert_eq!(references(&sent).len(), 1);
    let copies = receiver.maildir("bob@c.example").messages();
    assert_eq!(copies.len(), 1, "only the genuine one");
    assert_eq!(object(&copies[0]), Some(&crlf(&message)[..]));
    // The others were refused for what was wrong with them: signed by who may, and for whom it is sent to, such an offer is taken.
    let said = forger.offer(&genuine);
    assert!(said.starts_with("250 2.5.0 "), "{said}");
    innocent.assert_left_alone();
}

#[test]
fn keys_that_were_stolen_or_have_had_their_time_sign_nothing_more() {
    let sandbox = Sandbox::new().unwrap();
    let mut origin = Restante::start(&sandbox, config(&["a.example"])).unwrap();
    let receiver = config(&["c.example"]).with("relay listener", "tbr_without_tls", "true");
    let receiver = Restante::start(&sandbox, receiver).unwrap();
    let forger = Forger { host: sandbox.host("forger.example", &[]).unwrap(), server: &receiver };
    // The domain has a new key since three hours ago, and knows of a theft; its document, under its own certificate, says both.
    let (old, stolen) = (key(&origin.key("a.example")), SigningKey::generate().unwrap());
    let next = origin.key("a.example").with_file_name("a.example.k2.pem").display().to_string();
    origin.json(&["keys", "generate", "--domain", "a.example", "--selector", "k2", "--out", &next], b"").unwrap();
    let since = origin.host().run(&["date", "-u", "-d", "-3 hours", "+%Y-%m-%d %H:%M:%S"]).unwrap();
    for (field, value) in [
        ("next_selector", "\"k2\""),
        ("next_key", &format!("\"{next}\"")),
        ("next_from", &format!("\"{}\"", since.trim())),
        ("revoked", "[\"stolen\"]"),
    ] {
        origin.set("domain.tbr", field, value).unwrap();
    }
    origin.stop().unwrap();
    origin.run().unwrap();
    let new = key(next.as_ref());

    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    let genuine = Forgery {
        domain: "a.example",
        selector: "k2",
        key: &new,
        host: "tbr.a.example",
        signed_for: "bob@c.example",
        sent_to: "bob@c.example",
        age: Duration::ZERO,
        lifetime: 24 * hour,
    };
    let old = Forgery { selector: "k1", key: &old, ..genuine };
    let stolen = Forgery { selector: "stolen", key: &stolen, ..genuine };
    for (attack, forgery) in [
        ("a key whose time is over", old),
        ("the same, a minute after it was", Forgery { age: 119 * minute, ..old }),
        ("a stolen key", stolen),
        ("the same, back-dated into its time", Forgery { age: 20 * hour, ..stolen }),
        ("the new key, for a time beyond that of any reference", Forgery { age: 31 * 24 * hour, ..genuine }),
    ] {
        let said = forger.offer(&forgery);
        assert!(said.starts_with("550 5.7.7"), "{attack}: {said}");
        let is_of_key = said.starts_with("550 5.7.72 ");
        assert_eq!(is_of_key, forgery.selector != "k2", "{attack}: {said}");
    }
    // They were refused for their time only: within it the old key counts, for mail on its way (the matrix says what comes of it).
    for forgery in [Forgery { age: 150 * minute, ..old }, genuine] {
        let said = forger.offer(&forgery);
        assert!(said.starts_with("250 2.5.0 "), "{said}");
    }
    assert_eq!(receiver.maildir("bob@c.example").messages().len(), 0);
}
