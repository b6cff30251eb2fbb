//! The mail servers with each other: each sends to and receives from Postfix.

use testbed::peers::{MailServer, PATIENCE, Site};
use testbed::{Sandbox, wait};

const MESSAGE: &[u8] = b"Subject: between servers\n\nhello\n.\n..\nbye\n";

fn postfix(sandbox: &Sandbox) -> anyhow::Result<MailServer> {
    MailServer::postfix(sandbox, &Site::new("mx.p.example", &["p.example"]))
}

fn assert_whole(message: &[u8]) {
    let text = String::from_utf8_lossy(message);
    assert!(text.ends_with("\n\nhello\n.\n..\nbye\n"), "{text}");
}

#[test]
fn exim_and_postfix() {
    let sandbox = Sandbox::new().unwrap();
    let postfix = postfix(&sandbox).unwrap();
    let exim = MailServer::exim(&sandbox, &Site::new("mx.e.example", &["e.example"])).unwrap();

    exim.inject("alice@e.example", &["bob@p.example"], MESSAGE).unwrap();
    let there = postfix.maildir("bob");
    assert_whole(&there.wait_for(1, wait::LONG).unwrap()[0]);

    postfix.inject("alice@p.example", &["bob@e.example"], MESSAGE).unwrap();
    let back = exim.maildir("bob");
    assert_whole(&back.wait_for(1, wait::LONG).unwrap()[0]);
    let text = String::from_utf8(back.messages().remove(0)).unwrap();
    assert!(text.starts_with("Return-path: <alice@p.example>"), "{text}");
    assert!(text.contains("with esmtps"), "{text}");

    postfix.inject("alice@p.example", &["nobody@e.example"], MESSAGE).unwrap();
    let report = postfix.maildir("alice");
    report.wait_for_text("550 no such mailbox", wait::LONG).unwrap();
}

#[test]
fn opensmtpd_and_postfix() {
    let sandbox = Sandbox::new().unwrap();
    let postfix = postfix(&sandbox).unwrap();
    let opensmtpd = MailServer::opensmtpd(&sandbox, &Site::new("mx.o.example", &["o.example"])).unwrap();

    opensmtpd.inject("alice@o.example", &["bob@p.example"], MESSAGE).unwrap();
    let there = postfix.maildir("bob").wait_for(1, PATIENCE).unwrap();
    assert_whole(&there[0]);
    assert!(String::from_utf8_lossy(&there[0]).contains("with ESMTPS"));

    postfix.inject("alice@p.example", &["bob@o.example"], MESSAGE).unwrap();
    let back = opensmtpd.maildir("bob").wait_for(1, PATIENCE).unwrap();
    assert_whole(&back[0]);
}
