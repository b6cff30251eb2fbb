//! What strangers can make a server believe: spoofed mail is refused with a plain sentence, genuine mail says what it is, in both
//! modes, and a genuine message replayed to strangers is no authenticated mail.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::process::Command;

use testbed::peers::restante::{object, references};
use testbed::peers::{Restante, RestanteConfig, clients};
use testbed::samples::crlf;
use testbed::{Host, Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
const SENTENCE: &str =
    "neither SPF nor DKIM shows that this is from victim.example, which asks to refuse such mail (DMARC)";

fn server(sandbox: &Sandbox, domain: &str) -> Restante {
    let config = RestanteConfig::new(PROGRAM, &format!("mx.{domain}"), &[domain]).users(&["alice", "bob"]);
    Restante::start(sandbox, config).unwrap()
}

/// A domain that lets one host send its mail, and asks to refuse all other.
fn publish_victim(sandbox: &Sandbox) {
    let spf = Record::Txt("victim.example".to_owned(), "v=spf1 a:mx.victim.example -all".to_owned());
    let dmarc = Record::Txt("_dmarc.victim.example".to_owned(), "v=DMARC1; p=reject".to_owned());
    sandbox.publish(&[spf, dmarc]).unwrap();
}

/// Sends with swaks; the whole conversation.
fn send(host: &Host, envelope: &str, header: &[&str], body: &str) -> String {
    let mut arguments = vec!["--server", "mx.b.example", "--to", "bob@b.example", "--from", envelope, "--body", body];
    header.iter().for_each(|field| arguments.extend(["--header", field]));
    let output = clients::swaks(host, &arguments).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The topmost Authentication-Results field, unfolded.
fn results(copy: &[u8]) -> String {
    let text = String::from_utf8_lossy(copy).replace("\r\n\t", " ");
    let field = text.lines().find(|line| line.starts_with("Authentication-Results:"));
    field.unwrap_or_else(|| panic!("no results in {text}")).to_owned()
}

#[test]
fn spoofed_mail_is_refused_and_genuine_mail_says_what_it_is() {
    let sandbox = Sandbox::new().unwrap();
    publish_victim(&sandbox);
    let ours = server(&sandbox, "b.example");
    let spoofer = sandbox.host("mx.spoofer.example", &[]).unwrap();
    let genuine = sandbox.host("mx.victim.example", &[]).unwrap();
    let from = "From: The boss <boss@victim.example>";

    // In a domain of its own in the envelope, and in the victim's.
    for envelope in ["x@spoofer.example", "boss@victim.example"] {
        let said = send(&spoofer, envelope, &[from], "pay this");
        assert!(said.contains(&format!("550 5.7.1 {SENTENCE}")), "{said}");
    }
    // A second From does not help.
    let said = send(&spoofer, "x@spoofer.example", &["From: x@spoofer.example, boss@victim.example"], "pay this");
    assert!(said.contains("550 5.7.1 "), "{said}");

    let forged = "Authentication-Results: mx.b.example; dmarc=pass header.from=bank.example";
    send(&genuine, "boss@victim.example", &[from, forged], "genuine by value");
    let copy = ours.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let text = String::from_utf8_lossy(&copy).into_owned();
    let found = results(&copy);
    for result in [
        "spf=pass smtp.mailfrom=victim.example",
        "iprev=pass (mx.victim.example) policy.iprev=",
        "dkim=none",
        "dmarc=pass header.from=victim.example",
    ] {
        assert!(found.contains(result), "{result}: {text}");
    }
    assert!(text.contains(&format!("\r\nX-Untrusted-{forged}\r\n")), "{text}");
    assert_eq!(text.matches("\r\nAuthentication-Results: mx.b.example").count(), 1, "{text}");
    assert!(text.contains("genuine by value"), "the only one that came: {text}");
}

#[test]
fn by_reference_a_refusal_comes_after_retrieval_and_the_author_learns_of_it() {
    let sandbox = Sandbox::new().unwrap();
    publish_victim(&sandbox);
    let (origin, receiver) = (server(&sandbox, "a.example"), server(&sandbox, "b.example"));
    let spf = Record::Txt("a.example".to_owned(), "v=spf1 a:mx.a.example -all".to_owned());
    sandbox.publish(&[spf]).unwrap();

    let spoofed = b"From: The boss <boss@victim.example>\nSubject: spoofed\n\npay this\n";
    let id = origin.send("alice@a.example", &["bob@b.example"], spoofed).unwrap();
    origin.wait_for_state(&id, "failed", wait::LONG).unwrap();
    let report = origin.maildir("alice@a.example").wait_for_text("message/delivery-status", wait::LONG).unwrap();
    let report = String::from_utf8_lossy(&report).replace("\r\n ", " ");
    assert!(report.contains("Status: 5.7.1\r\n") && report.contains(SENTENCE), "{report}");

    let genuine = b"From: alice@a.example\nSubject: genuine\n\nby reference\n";
    let id = origin.send("alice@a.example", &["bob@b.example"], genuine).unwrap();
    let sent = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let seen = receiver.trace(&references(&sent)[0]).unwrap().to_string();
    assert!(seen.contains("taken: clean, dmarc=none"), "{seen}");
    let copy = receiver.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let found = results(&copy);
    for result in [
        "tbr=pass header.d=a.example policy.assurance=",
        "policy.aligned=yes",
        "spf=pass smtp.mailfrom=a.example",
        "dmarc=none header.from=a.example",
    ] {
        assert!(found.contains(result), "{result}: {found}");
    }

    // Somebody who has the copy sends it on to others, under the same envelope: it is what it was, and no more than that.
    let stranger = sandbox.host("mx.stranger.example", &[]).unwrap();
    let text = String::from_utf8(copy).unwrap();
    let kept = &text[text.find("TBR-Reference:").unwrap()..];
    let url = "smtp://mx.b.example";
    clients::curl_submit(&stranger, url, "alice@a.example", "alice@b.example", kept.as_bytes(), &[]).unwrap();
    let copy = receiver.maildir("alice@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(copy.ends_with(&crlf(genuine)), "{}", String::from_utf8_lossy(&copy));
    let found = results(&copy);
    assert!(found.contains("tbr=none (object intact) header.d=a.example"), "{found}");
    assert!(!found.contains("tbr=pass"), "{found}");
}

#[test]
fn what_users_submit_is_signed_before_it_is_an_object() {
    let sandbox = Sandbox::new().unwrap();
    let mut keys = String::new();
    for (selector, kind) in [("r1", "rsa"), ("e1", "ed25519")] {
        let file = sandbox.folder().join(format!("{selector}.pem"));
        let path = file.to_str().unwrap();
        let arguments = ["keys", "generate", "--domain", "a.example", "--selector", selector, "--dkim", kind];
        let made = Command::new(PROGRAM).args(arguments).args(["--out", path, "--json"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let text = |field: &str| made["records"][0][field].as_str().unwrap().to_owned();
        sandbox.publish(&[Record::Txt(text("name"), text("text"))]).unwrap();
        keys.push_str(&format!("{selector} = \"{path}\", "));
    }
    let dmarc = Record::Txt("_dmarc.a.example".to_owned(), "v=DMARC1; p=reject".to_owned());
    sandbox.publish(&[dmarc]).unwrap();
    let config = RestanteConfig::new(PROGRAM, "mx.a.example", &["a.example"]).users(&["alice", "bob"]);
    let config = config.with("domain", "dkim", &format!("{{ keys = {{ {keys} }} }}"));
    let _origin = Restante::start(&sandbox, config).unwrap();
    let receiver = server(&sandbox, "b.example");

    let client = sandbox.host("client.example", &[]).unwrap();
    let ca = sandbox.ca().certificate().to_str().unwrap().to_owned();
    let message = b"From: alice@a.example\r\nTo: bob@b.example\r\nSubject: signed here\r\n\r\nx\r\n";
    let options = ["--cacert", &ca, "--user", "alice@a.example:correct horse"];
    let url = "smtps://mx.a.example:465";
    clients::curl_submit(&client, url, "alice@a.example", "bob@b.example", message, &options).unwrap();
    let copy = receiver.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let found = results(&copy);
    for result in [
        "tbr=pass header.d=a.example",
        "dkim=pass header.d=a.example header.s=r1",
        "dkim=pass header.d=a.example header.s=e1",
        "dmarc=pass header.from=a.example",
    ] {
        assert!(found.contains(result), "{result}: {}", String::from_utf8_lossy(&copy));
    }
    assert!(object(&copy).unwrap().starts_with(b"DKIM-Signature: "), "the signatures are part of the object");
}
