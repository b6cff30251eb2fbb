//! Postfix by itself: takes mail from swaks and from another Postfix, delivers it, refuses what it should.

use std::time::Duration;

use testbed::peers::{MailServer, Site, clients};
use testbed::{Sandbox, wait};

fn postfix(sandbox: &Sandbox, name: &str, domain: &str) -> anyhow::Result<MailServer> {
    MailServer::postfix(sandbox, &Site::new(name, &[domain]))
}

#[test]
fn takes_mail_from_swaks_and_refuses_strangers() {
    let sandbox = Sandbox::new().unwrap();
    let client = sandbox.host("client.example", &[]).unwrap();
    let postfix = postfix(&sandbox, "mx.p.example", "p.example").unwrap();

    let arguments = ["--tls", "--tls-verify", "--tls-ca-path"];
    let ca = sandbox.ca().certificate().to_str().unwrap();
    let mut all = arguments.to_vec();
    all.extend([ca, "--from", "x@client.example", "--to", "alice@p.example"]);
    all.extend(["--server", "mx.p.example", "--header", "Subject: by swaks"]);
    let output = clients::swaks(&client, &all).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    postfix.maildir("alice").wait_for_text("Subject: by swaks", wait::LONG).unwrap();

    let output = clients::swaks(&client, &["--server", "mx.p.example", "--to", "nobody@p.example"]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(" 550 5.1.1 "), "{said}");
    let output = clients::swaks(&client, &["--server", "mx.p.example", "--to", "a@elsewhere.example"]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(" 454 4.7.1 ") || said.contains(" 554 5.7.1 "), "{said}");
}

#[test]
fn sends_by_mx_over_tls_to_another() {
    let sandbox = Sandbox::new().unwrap();
    let one = postfix(&sandbox, "mx.p.example", "p.example").unwrap();
    let two = postfix(&sandbox, "mx.q.example", "q.example").unwrap();
    one.inject("alice@p.example", &["bob@q.example"], b"Subject: by mx\n\nhello\n").unwrap();
    let message = two.maildir("bob").wait_for_text("Subject: by mx", wait::LONG).unwrap();
    let message = String::from_utf8(message).unwrap();
    assert!(message.starts_with("Return-Path: <alice@p.example>\n"));
    assert!(message.contains("with ESMTPS"), "{message}");
    one.wait_for_log(": removed", wait::LONG).unwrap();
    assert!(one.host().cpu_time().unwrap() > Duration::ZERO);
    assert!(one.host().resident_octets().unwrap() > 1_000_000);
}

#[test]
fn relays_from_smtp_source_to_smtp_sink_as_benchmarks_do() {
    let sandbox = Sandbox::new().unwrap();
    let site = Site::new("mx.p.example", &[]).relay("127.0.0.1", 2525).stock_timers().line("in_flow_delay = 0");
    let postfix = MailServer::postfix(&sandbox, &site).unwrap();
    let host = postfix.host();
    let dump = host.room().join("mail/received");
    let dump = dump.to_str().unwrap();
    let sink = ["/usr/sbin/smtp-sink", "-u", "vmail", "-D", dump, "0.0.0.0:2525", "50"];
    let mut sink = host.spawn("smtp-sink", &sink).unwrap();
    host.wait_for_port(2525, &mut sink).unwrap();
    let source = ["smtp-source", "-s", "4", "-m", "20", "-l", "4096"];
    let ends = ["-f", "a@x.example", "-t", "b@y.example", "127.0.0.1:25"];
    host.run(&[&source[..], &ends[..]].concat()).unwrap();
    wait::until("20 messages at the sink", wait::LONG, || {
        let text = std::fs::read_to_string(dump).ok()?;
        (text.matches("\nX-Mail-Args: <a@x.example>").count() == 20).then_some(())
    })
    .unwrap();
    assert!(sink.is_alive());
}
