//! By value between Restante and the mail servers of the world: Postfix, Exim and OpenSMTPD, as senders and as receivers. What
//! arrives is what was sent, octet for octet, and who wrote to nobody, or to a server that would damage the message, is told.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::time::Duration;

use testbed::maildir::Maildir;
use testbed::peers::restante::object;
use testbed::peers::{MailServer, PATIENCE, Restante, RestanteConfig, Site, clients};
use testbed::samples::{awkward, body, crlf, large, lf};
use testbed::{Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

fn restante(sandbox: &Sandbox) -> Restante {
    let config = RestanteConfig::new(PROGRAM, "mx.a.example", &["a.example"]).users(&["alice", "bob"]);
    Restante::start(sandbox, config).unwrap()
}

/// A peer's message has come: the whole of it stands at the end, under the trace fields of both.
fn assert_came(server: &Restante, message: &[u8], limit: Duration) -> String {
    let copy = server.maildir("bob@a.example").wait_for(1, limit).unwrap().remove(0);
    let text = String::from_utf8_lossy(&copy).into_owned();
    assert_eq!(body(&copy), body(&crlf(message)), "{text}");
    assert!(copy.ends_with(&crlf(message)), "its header was changed: {text}");
    assert!(text.starts_with("Return-Path: <alice@") && text.contains("by mx.a.example with ESMTPS id"), "{text}");
    text
}

/// Our message has come: the peer's mailbox has it with LF line ends, under trace fields.
fn assert_went(mailbox: &Maildir, message: &[u8], limit: Duration) {
    let copy = mailbox.wait_for(1, limit).unwrap().remove(0);
    let text = String::from_utf8_lossy(&copy).into_owned();
    assert_eq!(body(&lf(&copy)), body(message), "{text}");
    assert!(lf(&copy).ends_with(message), "its header was changed: {text}");
}

/// A message to nobody at the peer: the report comes to the author, with the peer's own words.
fn assert_report(server: &Restante, to: &str, words: &str, limit: Duration) {
    server.send("alice@a.example", &[to], &awkward("to nobody")).unwrap();
    assert_reported(server, to, words, limit);
}

fn assert_reported(server: &Restante, to: &str, words: &str, limit: Duration) {
    let report = server.maildir("alice@a.example").wait_for_text("message/delivery-status", limit).unwrap();
    let text = String::from_utf8_lossy(&report).into_owned();
    let recipient = format!("Final-Recipient: rfc822; {to}\r\n");
    for part in ["Return-Path: <>\r\n", &recipient, "Action: failed\r\n", "Status: 5.", words, "Subject: to nobody\r\n"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn postfix() {
    let sandbox = Sandbox::new().unwrap();
    let site = Site::new("mx.p.example", &["p.example"]);
    let (peer, ours) = (MailServer::postfix(&sandbox, &site).unwrap(), restante(&sandbox));

    let message = awkward("from Postfix");
    peer.inject("alice@p.example", &["bob@a.example"], &message).unwrap();
    assert_came(&ours, &message, wait::LONG);
    // Refused at RCPT, so that the report is Postfix's.
    peer.inject("alice@p.example", &["nobody@a.example"], &message).unwrap();
    peer.maildir("alice").wait_for_text("550 5.1.1", wait::LONG).unwrap();

    let message = awkward("to Postfix");
    let id = ours.send("alice@a.example", &["bob@p.example"], &message).unwrap();
    ours.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    assert_went(&peer.maildir("bob"), &message, wait::LONG);
    assert_report(&ours, "nobody@p.example", "5.1.1", wait::LONG);
}

#[test]
fn exim() {
    let sandbox = Sandbox::new().unwrap();
    let site = Site::new("mx.e.example", &["e.example"]).line("log_selector = +pipelining");
    let (peer, ours) = (MailServer::exim(&sandbox, &site).unwrap(), restante(&sandbox));

    let message = awkward("from Exim");
    peer.inject("alice@e.example", &["bob@a.example"], &message).unwrap();
    assert_came(&ours, &message, wait::LONG);
    let line = peer.wait_for_log("=> bob@a.example", wait::LONG).unwrap();
    assert!(line.contains(" K ") && line.contains(" L "), "not by CHUNKING and PIPELINING: {line}");
    peer.inject("alice@e.example", &["nobody@a.example"], &message).unwrap();
    peer.maildir("alice").wait_for_text("550 5.1.1", wait::LONG).unwrap();
    // In more than one chunk.
    let message = large("a large one from Exim", 3_000_000);
    peer.inject("alice@e.example", &["alice@a.example"], &message).unwrap();
    let copy = ours.maildir("alice@a.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(copy.ends_with(&crlf(&message)), "{} octets", copy.len());

    let message = awkward("to Exim");
    let id = ours.send("alice@a.example", &["bob@e.example"], &message).unwrap();
    ours.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    assert_went(&peer.maildir("bob"), &message, wait::LONG);
    assert_report(&ours, "nobody@e.example", "no such mailbox", wait::LONG);
}

#[test]
fn a_peer_that_cannot_take_8_bit_gets_no_damaged_message() {
    let sandbox = Sandbox::new().unwrap();
    let site = Site::new("mx.p.example", &["p.example"]).line("smtpd_discard_ehlo_keywords = 8bitmime");
    let (peer, ours) = (MailServer::postfix(&sandbox, &site).unwrap(), restante(&sandbox));
    ours.send("alice@a.example", &["bob@p.example"], &awkward("to nobody")).unwrap();
    assert_reported(&ours, "bob@p.example", "Status: 5.6.3\r\n", wait::LONG);

    let plain = large("in 7 bits", 2_000);
    ours.send("alice@a.example", &["bob@p.example"], &plain).unwrap();
    assert_went(&peer.maildir("bob"), &plain, wait::LONG);
    assert_eq!(peer.maildir("bob").messages().len(), 1, "the 8-bit one came too");
}

#[test]
fn opensmtpd() {
    let sandbox = Sandbox::new().unwrap();
    let site = Site::new("mx.o.example", &["o.example"]);
    let (peer, ours) = (MailServer::opensmtpd(&sandbox, &site).unwrap(), restante(&sandbox));

    let message = awkward("from OpenSMTPD");
    peer.inject("alice@o.example", &["bob@a.example"], &message).unwrap();
    assert_came(&ours, &message, PATIENCE);

    let message = awkward("to OpenSMTPD");
    ours.send("alice@a.example", &["bob@o.example"], &message).unwrap();
    assert_went(&peer.maildir("bob"), &message, PATIENCE);
    assert_report(&ours, "nobody@o.example", "524 5.2.4", PATIENCE);
}

/// RFC 5322 §4.5.8: to be understood, though nobody may send it. What has such a name is nothing of ours.
#[test]
fn obsolete_blanks_before_colons_are_taken_and_make_no_field_of_ours() {
    let sandbox = Sandbox::new().unwrap();
    let client = sandbox.host("mx.old.example", &[]).unwrap();
    let ours = restante(&sandbox);
    let message = "Subject : obsolete\r\nTBR-Reference : v=1; d=a.example\r\nReturn-Path : <x@a.example>\r\n\
                   Received : by nowhere\r\nFrom\t: alice@old.example\r\n\r\nhello\r\n";
    clients::curl_submit(&client, "smtp://mx.a.example", "alice@old.example", "bob@a.example", message.as_bytes(), &[])
        .unwrap();
    let copy = ours.maildir("bob@a.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(copy.ends_with(message.as_bytes()), "{}", String::from_utf8_lossy(&copy));
    assert_eq!(object(&copy), None);
    let file = sandbox.folder().join("copy.eml");
    std::fs::write(&file, &copy).unwrap();
    let judged = String::from_utf8(ours.cli(&["verify", file.to_str().unwrap()], b"").unwrap().stdout).unwrap();
    assert!(judged.contains("the message has no TBR-Reference field"), "{judged}");
    // What is submitted here is sent as it should be.
    let id = ours.send("alice@a.example", &["alice@a.example"], b"Subject : x\n\nsubmitted\n").unwrap();
    ours.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let copy = ours.maildir("alice@a.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(String::from_utf8_lossy(&copy).contains("\r\nSubject: x\r\n"), "{}", String::from_utf8_lossy(&copy));
}
