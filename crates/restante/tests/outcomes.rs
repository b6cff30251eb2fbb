//! The log at `info`: a line for each message that is accepted and for each outcome, without names of people and without grants.

use testbed::peers::{MailServer, Restante, RestanteConfig, Site};
use testbed::{Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
const MESSAGE: &[u8] = b"Subject: x\n\nhello\n";

fn config(domain: &str) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, &format!("mx.{domain}"), &[domain]).users(&["alice", "bob"])
}

/// A line of the log with all of these in it.
fn line(server: &Restante, parts: &[&str]) -> String {
    let found = || server.log().lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned);
    wait::until(&format!("{parts:?}"), wait::LONG, found).unwrap_or_else(|error| panic!("{error}\n{}", server.log()))
}

#[test]
fn every_message_has_a_line_and_every_outcome() {
    let sandbox = Sandbox::new().unwrap();
    let site = Site::new("mx.p.example", &["p.example"])
        .line("smtpd_recipient_restrictions = check_recipient_access inline:{{bob@p.example=451 4.3.0 \u{fc}ber <bob@p.example> later}}");
    let postfix = MailServer::postfix(&sandbox, &site).unwrap();
    let receiver = Restante::start(&sandbox, config("b.example")).unwrap();
    let origin = Restante::start(&sandbox, config("a.example")).unwrap();
    let send = |to: &str| origin.send("alice@a.example", &[to], MESSAGE).unwrap();

    let id = send("bob@b.example");
    let named = format!("id={id}/0");
    let common = ["outcome", r#"from="a.example""#, r#"to="b.example""#, "recipients=1"];
    let reference =
        [&named, r#"relay="b.example""#, r#"by="reference""#, r#"status="delivered""#, "code=2.0.0", "delay="];
    line(&origin, &[&common[..], &reference[..]].concat());
    line(
        &origin,
        &["accepted from a user of this machine", &format!("id={id}"), r#"from="a.example" recipients=1 octets="#],
    );
    line(&receiver, &["offer judged", r#"from="a.example" recipients=1 code=250"#]);
    let arrived = [r#"relay="maildir""#, r#"by="reference""#, r#"status="delivered""#, "code=2.0.0"];
    line(&receiver, &[&common[..], &arrived[..]].concat());

    line(&origin, &[&format!("id={}/0", send("nobody@b.example")), r#"status="failed""#, "code=5.1.1"]);
    let relayed = [r#"to="p.example""#, "mx.p.example", r#"by="value""#, r#"status="relayed""#, "code=2.0.0"];
    line(&origin, &[&[&format!("id={}/0", send("alice@p.example"))[..]], &relayed[..]].concat());
    let waits = [r#"by="value""#, r#"status="deferred""#, "code=4.3.0", "<…@p.example>"];
    line(&origin, &[&[&format!("id={}/0", send("bob@p.example"))[..]], &waits[..]].concat());

    postfix.inject("alice@p.example", &["bob@a.example"], MESSAGE).unwrap();
    let taken = line(&origin, &["accepted by value", "client=", r#"from="p.example" recipients=1 octets="#]);
    assert!(!taken.contains('\u{1b}'), "{taken}");
    line(&origin, &[r#"from="p.example" to="a.example""#, r#"relay="maildir" by="value" status="delivered""#]);

    for log in [origin.log(), receiver.log()] {
        let named = ["alice@", "bob@", "nobody@", "RCPT="].into_iter().find(|part| log.contains(part));
        assert_eq!(named, None, "{log}");
    }
}
