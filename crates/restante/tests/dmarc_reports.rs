//! DMARC aggregate reports among real servers: a domain learns who used its name, genuine and spoofed, in a signed report; a place outside
//! that has not agreed gets nothing.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::process::Command;

use testbed::peers::{Restante, RestanteConfig, clients};
use testbed::{Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

fn config(domain: &str) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, &format!("mx.{domain}"), &[domain]).users(&["alice", "bob"])
}

/// A DKIM key, published; for `[domain.dkim]`.
fn dkim(sandbox: &Sandbox, domain: &str) -> String {
    let file = sandbox.folder().join(format!("dkim-{domain}.pem"));
    let path = file.to_str().unwrap();
    let arguments =
        ["keys", "generate", "--domain", domain, "--selector", "r1", "--dkim", "rsa", "--out", path, "--json"];
    let made = Command::new(PROGRAM).args(arguments).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let text = |field: &str| made["records"][0][field].as_str().unwrap().to_owned();
    sandbox.publish(&[Record::Txt(text("name"), text("text"))]).unwrap();
    format!("{{ keys = {{ r1 = \"{path}\" }} }}")
}

#[test]
fn a_domain_learns_who_used_its_name_and_nobody_else_does() {
    let sandbox = Sandbox::new().unwrap();
    let victim = config("victim.example").with("domain", "report_address", "\"reports\"");
    let victim = Restante::start(&sandbox, victim).unwrap();
    let outside =
        Restante::start(&sandbox, config("outside.example").with("domain", "report_address", "\"reports\"")).unwrap();
    let reporter = config("b.example").with("domain", "dkim", &dkim(&sandbox, "b.example"));
    let reporter = Restante::start(&sandbox, reporter).unwrap();
    let spoofer = sandbox.host("mx.spoofer.example", &[]).unwrap();
    let places = "rua=mailto:reports@victim.example,mailto:reports@outside.example";
    sandbox
        .publish(&[
            Record::Txt("victim.example".to_owned(), "v=spf1 a:mx.victim.example -all".to_owned()),
            Record::Txt("_dmarc.victim.example".to_owned(), format!("v=DMARC1; p=reject; {places}")),
        ])
        .unwrap();

    let message = "From: boss@victim.example\r\nSubject: x\r\n\r\npay this\r\n";
    let url = "smtp://mx.b.example";
    for _ in 0..2 {
        clients::curl_submit(&spoofer, url, "x@spoofer.example", "bob@b.example", message.as_bytes(), &[]).unwrap_err();
    }
    let id =
        victim.send("alice@victim.example", &["bob@b.example"], b"From: alice@victim.example\n\ngenuine\n").unwrap();
    victim.wait_for_state(&id, "delivered", wait::LONG).unwrap();

    let sent = reporter.json(&["reports", "send"], b"").unwrap();
    let kind = sent["kinds"].as_array().unwrap().iter().find(|kind| kind["kind"] == "dmarc").unwrap();
    assert_eq!((&kind["handed_over"], &kind["waiting"]), (&1.into(), &0.into()), "{sent}");
    let shown = wait::until("the report", wait::LONG, || {
        let shown = victim.json(&["reports", "dmarc", "victim.example"], b"").ok()?;
        (!shown.as_array()?.is_empty()).then_some(shown)
    })
    .unwrap_or_else(|why| panic!("{why:#}\n{}\n{}", reporter.log(), victim.log()));
    let report = &shown[0]["report"];
    assert_eq!((&report["organization"], &report["policy"]), (&"b.example".into(), &"reject".into()), "{shown}");
    assert_eq!(shown[0]["signed_by"], serde_json::json!(["b.example"]), "{shown}");
    let row = |sender: &str| {
        let mut rows = report["rows"].as_array().unwrap().iter();
        rows.find(|row| row["envelope_from"] == sender).unwrap_or_else(|| panic!("{shown}")).clone()
    };
    let spoofed = row("spoofer.example");
    assert_eq!((&spoofed["count"], &spoofed["done"], &spoofed["spf"]), (&2.into(), &"reject".into(), &false.into()));
    let genuine = row("victim.example");
    assert_eq!((&genuine["count"], &genuine["spf"]), (&1.into(), &true.into()), "{shown}");
    let text = String::from_utf8(victim.cli(&["reports", "dmarc"], b"").unwrap().stdout).unwrap();
    assert!(text.contains("DKIM fail, SPF fail, reject (victim.example)"), "{text}");
    // What a place outside would have got is nobody's but the domain's; and reports are no news.
    let sent = reporter.json(&["reports", "send"], b"").unwrap();
    assert!(sent["kinds"].as_array().unwrap().iter().all(|kind| kind["handed_over"] == 0), "{sent}");
    assert_eq!(outside.json(&["reports", "dmarc"], b"").unwrap(), serde_json::json!([]));
}
