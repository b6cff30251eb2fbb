//! The real binary among real peers: by reference with its own kind, by value with Postfix, LMTP to Dovecot, submission by
//! swaks and curl.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use support::{MAILDIRS, Restante};
use testbed::peers::{Dovecot, Postfix, PostfixConfig, clients};
use testbed::{Sandbox, wait};

/// Dots, 8-bit, a long line, and no final line end.
const MESSAGE: &str = "From: alice@a.example\nSubject: among peers\n\n.\n..dots\nh\u{e9}llo\n.";

fn message() -> Vec<u8> {
    format!("{MESSAGE}\n{}\nend", "x".repeat(990)).into_bytes()
}

fn in_crlf(message: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(message.to_vec()).unwrap();
    (text.replace('\n', "\r\n") + "\r\n").into_bytes()
}

fn postfix(sandbox: &Sandbox) -> Postfix {
    let config = PostfixConfig {
        name: "mx.p.example".to_owned(),
        domains: vec!["p.example".to_owned()],
        users: vec!["alice".to_owned(), "bob".to_owned()],
        ..PostfixConfig::default()
    };
    Postfix::start(sandbox, &config).unwrap()
}

#[test]
fn by_reference_between_two_servers_whose_mailbox_copy_verifies() {
    let sandbox = Sandbox::new().unwrap();
    let a = Restante::start(&sandbox, "a.example", MAILDIRS, "[transfer]\nby_value_below = 0");
    let b = Restante::start(&sandbox, "b.example", MAILDIRS, "");
    let id = a.send("alice@a.example", "bob@b.example", &message());
    let trace = a.wait_for_state(&id, "delivered");
    let steps: Vec<_> =
        trace["entries"][0]["steps"].as_array().unwrap().iter().map(|s| s["what"].to_string()).collect();
    assert!(steps.iter().any(|s| s == "\"offered\""), "{steps:?}");
    let copies = b.maildir("bob").wait_for(1, wait::LONG).unwrap();
    let copy = String::from_utf8_lossy(&copies[0]).into_owned();
    assert!(copy.contains("tbr=pass") && copy.contains("TBR-Reference:"), "{copy}");
    let ends = in_crlf(&message());
    assert!(ends.starts_with(b"From:") && copies[0].ends_with(&ends[ends.len() - 900..]), "{copy}");
    assert!(copy.contains("\r\n\r\n.\r\n..dots\r\nh\u{e9}llo\r\n.\r\n"), "{copy}");
    let file = std::fs::read_dir(b.maildir("bob").path().join("new")).unwrap().next().unwrap().unwrap().path();
    let verdict = b.json(&["verify", file.to_str().unwrap()], b"");
    assert_eq!((&verdict["intact"], &verdict["signature"]), (&true.into(), &"valid".into()), "{verdict}");
    assert!(!a.log().contains("RCPT="), "a grant stands in the log");
}

#[test]
fn by_value_to_and_from_postfix() {
    let sandbox = Sandbox::new().unwrap();
    let p = postfix(&sandbox);
    let a = Restante::start(&sandbox, "a.example", MAILDIRS, "");
    let id = a.send("alice@a.example", "bob@p.example", &message());
    a.wait_for_state(&id, "relayed");
    let copy = p.maildir("bob").wait_for_text("among peers", wait::LONG).unwrap();
    assert!(copy.ends_with(&[&message()[..], b"\n"].concat()), "{}", String::from_utf8_lossy(&copy));

    p.inject("alice@p.example", &["bob@a.example"], b"Subject: from postfix\n\nhello\n.\n").unwrap();
    let copy = a.maildir("bob").wait_for_text("from postfix", wait::LONG).unwrap();
    let copy = String::from_utf8(copy).unwrap();
    assert!(copy.starts_with("Return-Path: <alice@p.example>\r\nReceived: from mx.p.example"), "{copy}");
    assert!(copy.contains("with ESMTPS id "), "{copy}");
    p.wait_for_empty_queue().unwrap();

    // Unknown on either side: refused at RCPT, and each author is told by the own server.
    a.send("alice@a.example", "nobody@p.example", b"Subject: lost\n\nx\n");
    let report = a.maildir("alice").wait_for_text("nobody@p.example", wait::LONG).unwrap();
    let report = String::from_utf8(report).unwrap();
    assert!(report.contains("multipart/report") && report.contains("Status: 5.1.1"), "{report}");
    p.inject("alice@p.example", &["nobody@a.example"], b"Subject: lost\n\nx\n").unwrap();
    p.maildir("alice").wait_for_text("5.1.1", wait::LONG).unwrap();
}

#[test]
fn lmtp_to_dovecot_whose_recipients_are_asked_at_rcpt() {
    let sandbox = Sandbox::new().unwrap();
    let dovecot = Dovecot::start(&sandbox, "store.d.example", &[("alice", "secret")]).unwrap();
    let in_domain = "deliver = \"lmtp:store\"\nrecipients = \"probe\"";
    let lmtp = "[[lmtp]]\nname = \"store\"\nhost = \"store.d.example\"\nport = 24";
    let d = Restante::start(&sandbox, "d.example", in_domain, lmtp);
    let client = sandbox.host("client.example", &[]).unwrap();
    let say = |to: &str| {
        let arguments =
            ["--server", "mx.d.example", "--from", "x@client.example", "--to", to, "--header", "Subject: by lmtp"];
        String::from_utf8_lossy(&clients::swaks(&client, &arguments).unwrap().stdout).into_owned()
    };
    assert!(say("alice@d.example").contains(" 250 2.0.0 "), "{}", d.log());
    let said = say("nobody@d.example");
    assert!(said.contains(" 550 5.1.1 "), "{said}");
    let imap = dovecot.imap("alice", "secret");
    wait::until("the message", wait::LONG, || (imap.count(&client).ok()? == 1).then_some(())).unwrap();
    let copy = String::from_utf8(imap.fetch(&client, 1).unwrap()).unwrap();
    assert!(copy.contains("Subject: by lmtp\r\n") && copy.contains("by mx.d.example with ESMTP"), "{copy}");
}

#[test]
fn submission_by_swaks_and_curl() {
    let sandbox = Sandbox::new().unwrap();
    let a = Restante::start(&sandbox, "a.example", MAILDIRS, "");
    let client = sandbox.host("client.example", &[]).unwrap();
    let ca = sandbox.ca().certificate().to_str().unwrap();
    let swaks = |more: &[&str]| {
        let all =
            [&["--server", "mx.a.example", "--from", "alice@a.example", "--tls-verify", "--tls-ca-path", ca], more]
                .concat();
        String::from_utf8_lossy(&clients::swaks(&client, &all).unwrap().stdout).into_owned()
    };
    for (number, mechanism) in ["PLAIN", "LOGIN"].into_iter().enumerate() {
        let auth = [
            "--port",
            "587",
            "--tls",
            "--auth",
            mechanism,
            "--auth-user",
            "alice@a.example",
            "--auth-password",
            "secret",
        ];
        let said = swaks(&[&auth[..], &["--to", "bob@a.example"]].concat());
        assert!(said.contains(" 235 2.7.0 ") && said.contains(" 250 2.0.0 "), "{said}");
        a.maildir("bob").wait_for(number + 1, wait::LONG).unwrap();
    }
    let wrong =
        ["--port", "587", "--tls", "--auth", "PLAIN", "--auth-user", "alice@a.example", "--auth-password", "wrong"];
    let said = swaks(&[&wrong[..], &["--to", "bob@a.example"]].concat());
    assert!(said.contains(" 535 5.7.8 "), "{said}");
    let said = swaks(&["--port", "587", "--tls", "--to", "bob@a.example"]);
    assert!(said.contains(" 530 5.7.0 "), "{said}");
    let said = swaks(&["--port", "25", "--to", "x@elsewhere.example"]);
    assert!(said.contains(" 550 5.7.1 "), "{said}");

    let options = ["--cacert", ca, "--user", "alice@a.example:secret"];
    let url = "smtps://mx.a.example:465";
    clients::curl_submit(&client, url, "alice@a.example", "bob@a.example", b"Subject: by curl\r\n\r\nx\r\n", &options)
        .unwrap();
    a.maildir("bob").wait_for_text("by curl", wait::LONG).unwrap();
}
