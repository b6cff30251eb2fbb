//! Quotas: who brings more than there is room for is put off, before the content where its size is known, and nothing that was
//! accepted suffers from it.

use std::fs;

use testbed::peers::restante::{PASSWORD, object};
use testbed::peers::{Restante, RestanteConfig, clients};
use testbed::samples::{crlf, large};
use testbed::{Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

fn config(name: &str, domain: &str) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, name, &[domain]).users(&["alice", "bob"])
}

/// A message is put off by value and by reference, and comes once there is room.
#[test]
fn a_full_receiver_puts_mail_off() {
    for policy in ["\"never\"", "\"prefer\""] {
        let sandbox = Sandbox::new().unwrap();
        let origin = config("mx.a.example", "a.example").with("transfer", "policy", policy);
        let origin = Restante::start(&sandbox, origin).unwrap();
        let small = config("mx.b.example", "b.example").with("store", "quota", "\"100 KB\"");
        let mut receiver = Restante::start(&sandbox, small).unwrap();
        let message = large("too much", 300_000);
        let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
        let trace = origin.wait_for_step(&id, "deferred", wait::LONG).unwrap();
        assert!(trace.to_string().contains("4.3.1"), "{trace:#}");

        receiver.stop().unwrap();
        receiver.set("store", "quota", "\"1 MB\"").unwrap();
        receiver.run().unwrap();
        origin.cli(&["queue", "retry", &id], b"").unwrap();
        let copies = receiver.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap();
        assert!(copies[0].ends_with(&crlf(&message)));
    }
}

#[test]
fn an_account_has_a_quota_of_its_own() {
    let sandbox = Sandbox::new().unwrap();
    let server = config("mx.a.example", "a.example").with("store", "quota_per_account", "\"100 KB\"");
    let server = Restante::start(&sandbox, server).unwrap();
    let client = sandbox.host("client.example", &[]).unwrap();
    let ca = sandbox.ca().certificate().to_str().unwrap().to_owned();
    let file = sandbox.folder().join("body");
    let submit = |octets: usize| {
        std::fs::write(&file, "line of a body\n".repeat(octets / 15)).unwrap();
        let body = format!("@{}", file.display());
        let to = ["--server", "mx.a.example", "--port", "587", "--tls", "--tls-verify", "--tls-ca-path", &ca];
        let by = ["--auth", "PLAIN", "--auth-user", "alice@a.example", "--auth-password", PASSWORD];
        let what = ["--from", "alice@a.example", "--to", "bob@a.example", "--body", &body];
        let arguments = [&to[..], &by, &what];
        String::from_utf8_lossy(&clients::swaks(&client, &arguments.concat()).unwrap().stdout).into_owned()
    };
    let said = submit(200_000);
    assert!(said.contains(" 452 4.3.1 "), "{said}");
    let said = submit(50_000);
    assert!(said.contains(" 250 2.0.0 "), "{said}");
    server.maildir("bob@a.example").wait_for(1, wait::LONG).unwrap();
    // What was delivered takes no room any more.
    let said = submit(80_000);
    assert!(said.contains(" 250 2.0.0 "), "{said}");
}

#[test]
fn a_domain_has_a_quota_of_its_own() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", "a.example")).unwrap();
    let receiver = config("mx.b.example", "b.example").with("domain", "quota", "\"100 KB\"");
    let receiver = Restante::start(&sandbox, receiver).unwrap();
    let put_off = origin.send("alice@a.example", &["bob@b.example"], &large("too large", 200_000)).unwrap();
    let trace = origin.wait_for_step(&put_off, "deferred", wait::LONG).unwrap();
    assert!(trace.to_string().contains("4.3.1"), "{trace:#}");
    let fits = origin.send("alice@a.example", &["bob@b.example"], &large("small enough", 50_000)).unwrap();
    origin.wait_for_state(&fits, "delivered", wait::LONG).unwrap();
    assert_eq!(receiver.maildir("bob@b.example").messages().len(), 1);
}

/// What is held stays when the message is delivered, is not served, and is released by nobody before its date.
#[test]
fn a_held_message_stays_until_its_date() {
    let sandbox = Sandbox::new().unwrap();
    let mut origin = Restante::start(&sandbox, config("mx.a.example", "a.example")).unwrap();
    let paused = config("mx.b.example", "b.example").with("transfer", "pause_retrieval", "true");
    let mut receiver = Restante::start(&sandbox, paused).unwrap();
    let id = origin.send("alice@a.example", &["bob@b.example"], &large("to be held", 100_000)).unwrap();
    origin.wait_for_state(&id, "offered", wait::LONG).unwrap();
    let past = origin.cli(&["store", "hold", &id, "--until", "2001-12-31"], b"").unwrap();
    assert!(!past.status.success() && String::from_utf8_lossy(&past.stderr).contains("is past"), "{past:?}");
    let list = origin.json(&["store", "hold", &id, "--until", "2199-12-31", "--why", "case 7"], b"").unwrap();
    assert_eq!(
        (list["holds"][0]["id"].as_str(), list["holds"][0]["why"].as_str()),
        (Some(id.as_str()), Some("case 7"))
    );
    receiver.stop().unwrap();
    receiver.set("transfer", "pause_retrieval", "false").unwrap();
    receiver.run().unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();

    let refused = origin.cli(&["store", "hold", "release", "1"], b"").unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("2199-12-31"), "{said}");
    origin.kill().unwrap();
    origin.run().unwrap();
    let checked = origin.json(&["store", "check"], b"").unwrap();
    assert_eq!((checked["clean"].as_bool(), checked["objects"].as_u64()), (Some(true), Some(1)), "{checked:#}");
    let list = origin.json(&["store", "hold", "list"], b"").unwrap();
    assert_eq!((list["holds"].as_array().map(Vec::len), list["records"].as_u64()), (Some(1), Some(1)), "{list:#}");
}

/// What nobody may fetch any more is here for its grace, and longer where it is held, and comes out as it was sent.
#[test]
fn what_is_in_its_grace_or_held_can_be_brought_back() {
    let sandbox = Sandbox::new().unwrap();
    let origin = config("mx.a.example", "a.example").with("store", "grace", "\"1h\"");
    let mut origin = Restante::start(&sandbox, origin).unwrap();
    let receiver = Restante::start(&sandbox, config("mx.b.example", "b.example")).unwrap();
    let message = large("to be brought back", 100_000);
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let copy = receiver.maildir("bob@b.example").messages().remove(0);
    let sent = object(&copy).unwrap();

    let file = origin.host().room().join("back.eml");
    let export = ["store", "export", &id, "--out", file.to_str().unwrap()];
    let written = origin.json(&export, b"").unwrap();
    assert_eq!(fs::read(&file).unwrap(), sent, "{written:#}");
    let again = origin.cli(&export, b"").unwrap();
    assert!(
        !again.status.success() && String::from_utf8_lossy(&again.stderr).contains("is there already"),
        "{again:?}"
    );

    origin.json(&["store", "hold", &id, "--until", "2199-12-31"], b"").unwrap();
    origin.stop().unwrap();
    origin.set("store", "grace", "\"0s\"").unwrap();
    origin.run().unwrap();
    let xuid = written["xuid"].as_str().unwrap();
    assert_eq!(origin.cli(&["store", "export", xuid], b"").unwrap().stdout, sent);
    let nothing = origin.cli(&["store", "export", "nosuchmessage"], b"").unwrap();
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(
        nothing.status.code() == Some(1) && said.contains("no content is here by the name nosuchmessage"),
        "{said}"
    );

    // Where nothing is held, and no grace: it is known, and gone.
    let id = origin.send("alice@a.example", &["bob@b.example"], &large("to be gone", 50_000)).unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let gone = origin.cli(&["store", "export", &id], b"").unwrap();
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(gone.status.code() == Some(1) && said.contains("is not here any more"), "{said}");
}
