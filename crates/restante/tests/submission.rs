//! Submission by mail programs of others (swaks, curl, msmtp): with every mechanism of AUTH, in TLS from the first octet and after
//! STARTTLS; and what the server refuses to them.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::process::Output;

use testbed::peers::restante::PASSWORD;
use testbed::peers::{Restante, RestanteConfig, clients};
use testbed::samples::{awkward, crlf};
use testbed::{Host, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

struct World {
    server: Restante,
    client: Host,
    sandbox: Sandbox,
}

impl World {
    fn new() -> Self {
        let sandbox = Sandbox::new().unwrap();
        let config = RestanteConfig::new(PROGRAM, "mx.a.example", &["a.example"]).users(&["alice", "bob"]);
        let server = Restante::start(&sandbox, config).unwrap();
        let client = sandbox.host("client.example", &[]).unwrap();
        Self { server, client, sandbox }
    }

    fn ca(&self) -> &str {
        self.sandbox.ca().certificate().to_str().unwrap()
    }

    /// From alice, at port 587 in TLS; the conversation.
    fn swaks(&self, arguments: &[&str]) -> String {
        let common =
            ["--server", "mx.a.example", "--from", "alice@a.example", "--tls-verify", "--tls-ca-path", self.ca()];
        let output = clients::swaks(&self.client, &[&common[..], arguments].concat()).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// From alice to bob by SCRAM.
    fn msmtp(&self, port: &str, starttls: &str, password: &str, message: &[u8]) -> Output {
        let (trust, starttls) = (format!("--tls-trust-file={}", self.ca()), format!("--tls-starttls={starttls}"));
        let (port, password) = (format!("--port={port}"), format!("--passwordeval=echo {password}"));
        let argv = [
            "msmtp",
            "--debug",
            "--host=mx.a.example",
            &port,
            "--tls=on",
            &starttls,
            &trust,
            "--timeout=60",
            "--auth=scram-sha-256",
            "--user=alice@a.example",
            &password,
            "--from=alice@a.example",
            "bob@a.example",
        ];
        self.client.output(&argv, message).unwrap()
    }

    fn assert_came(&self, number: usize, message: &[u8]) {
        let copies = self.server.maildir("bob@a.example").wait_for(number, wait::LONG).unwrap();
        let same = copies.iter().filter(|copy| copy.ends_with(&crlf(message))).count();
        assert_eq!((copies.len(), same), (number, 1));
    }
}

#[test]
fn passwords_in_clear_within_tls() {
    let world = World::new();
    let login = |mechanism, password| {
        let auth = ["--auth", mechanism, "--auth-user", "alice@a.example", "--auth-password", password];
        world.swaks(&[&["--port", "587", "--tls", "--to", "bob@a.example"], &auth[..]].concat())
    };
    for (number, mechanism) in (1..).zip(["PLAIN", "LOGIN"]) {
        let said = login(mechanism, PASSWORD);
        assert!(said.contains(" 235 2.7.0 ") && said.contains(" 250 2.0.0 "), "{said}");
        world.server.maildir("bob@a.example").wait_for(number, wait::LONG).unwrap();
        let said = login(mechanism, "wrong");
        assert!(said.contains(" 535 5.7.8 "), "{said}");
    }
    let said = world.swaks(&["--port", "587", "--tls", "--to", "bob@a.example"]);
    assert!(said.contains(" 530 5.7.0 "), "{said}");
    let said = world.swaks(&["--port", "25", "--to", "x@elsewhere.example"]);
    assert!(said.contains(" 550 5.7.1 "), "{said}");
}

#[test]
fn curl_in_both_kinds_of_tls() {
    let world = World::new();
    let login = format!("alice@a.example:{PASSWORD}");
    let options = ["--cacert", world.ca(), "--ssl-reqd", "--user", &login];
    for (number, url) in (1..).zip(["smtps://mx.a.example:465", "smtp://mx.a.example:587"]) {
        let message = awkward(&format!("by curl to {url}"));
        let to = ("alice@a.example", "bob@a.example");
        clients::curl_submit(&world.client, url, to.0, to.1, &crlf(&message), &options).unwrap();
        world.assert_came(number, &message);
    }
}

#[test]
fn scram_in_both_kinds_of_tls() {
    let world = World::new();
    for (number, (port, starttls)) in (1..).zip([("465", "off"), ("587", "on")]) {
        let message = awkward(&format!("by msmtp to {port}"));
        let output = world.msmtp(port, starttls, PASSWORD, &message);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("--> AUTH SCRAM-SHA-256") && said.contains("<-- 235 2.7.0 "), "{said}");
        world.assert_came(number, &message);
    }
    let output = world.msmtp("465", "off", "wrong", &awkward("by a thief"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("<-- 535 5.7.8 "), "{said}");
}

#[test]
fn whoever_knows_a_password_is_not_everybody() {
    let world = World::new();
    let login = ["--port", "587", "--tls", "--auth-user", "alice@a.example", "--auth-password", PASSWORD];
    let say = |more: &[&str]| world.swaks(&[&login[..], &["--to", "bob@a.example"], more].concat());
    let said = say(&["--header", "From: ceo@b.example"]);
    assert!(said.contains(" 550 5.7.1 this account may not send as ceo@b.example"), "{said}");
    let said = say(&["--from", "ceo@b.example"]);
    assert!(said.contains(" 550 5.7.1 "), "{said}");
    let said = say(&["--from", "<>", "--header", "From: ceo@b.example"]);
    assert!(said.contains(" 550 5.7.1 "), "{said}");
    // A receipt for a person comes from nobody (RFC 8098), and says from whom.
    let said = say(&["--from", "<>", "--header", "From: alice@a.example", "--header", "Subject: was read"]);
    assert!(said.contains(" 250 2.0.0 "), "{said}");
    world.server.maildir("bob@a.example").wait_for_text("Subject: was read", wait::LONG).unwrap();
}

#[test]
fn a_message_that_has_passed_too_many_servers_is_refused() {
    let world = World::new();
    let login = ["--port", "587", "--tls", "--auth-user", "alice@a.example", "--auth-password", PASSWORD];
    let passed = |servers: usize| {
        let received = "Received: from x.example by y.example; Mon, 01 Jan 2024 00:00:00 +0000\n".repeat(servers);
        let data = format!("{received}From: alice@a.example\nSubject: round and round\n\nx\n");
        world.swaks(&[&login[..], &["--to", "bob@a.example", "--data", &data]].concat())
    };
    let said = passed(101);
    assert!(said.contains(" 554 5.4.6 the message has passed too many servers"), "{said}");
    let said = passed(100);
    assert!(said.contains(" 250 2.0.0 queued"), "{said}");
}

#[test]
fn what_a_submission_lacks_is_added() {
    let world = World::new();
    let login = format!("alice@a.example:{PASSWORD}");
    let options = ["--cacert", world.ca(), "--ssl-reqd", "--user", &login];
    let url = "smtps://mx.a.example:465";
    let bare = b"Subject: bare\r\n\r\nx\r\n";
    clients::curl_submit(&world.client, url, "alice@a.example", "bob@a.example", bare, &options).unwrap();
    let copy = world.server.maildir("bob@a.example").wait_for_text("Subject: bare", wait::LONG).unwrap();
    let copy = String::from_utf8(copy).unwrap();
    for field in ["\r\nFrom: alice@a.example\r\n", "\r\nDate: ", "\r\nMessage-ID: <"] {
        assert!(copy.contains(field), "{field}: {copy}");
    }
    assert!(copy.ends_with("\r\nSubject: bare\r\n\r\nx\r\n"), "{copy}");
}
