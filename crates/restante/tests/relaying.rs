//! Relaying by reference between servers on hosts of their own (TBR §7.3): the forwarder delegates at the origin, the last server
//! fetches there, and everybody learns what they should.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use testbed::peers::restante::{object, references, steps};
use testbed::peers::{Restante, RestanteConfig};
use testbed::samples::{awkward, crlf};
use testbed::{Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
const ALIASES: &str = "{ sales = [\"bob@c.example\"], gone = [\"nobody@c.example\"] }";

fn config(name: &str, domains: &[&str]) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, name, domains).users(&["alice", "bob"])
}

fn delegating(config: RestanteConfig, word: &str) -> RestanteConfig {
    config.with("transfer", "delegation", &format!("\"{word}\""))
}

/// An origin that lets others delegate, and a forwarder that does.
fn origin_and_forwarder(sandbox: &Sandbox) -> (Restante, Restante) {
    let origin = delegating(config("mx.a.example", &["a.example"]), "accept");
    let forwarder = delegating(config("mx.b.example", &["b.example"]), "use").with("domain", "aliases", ALIASES);
    (Restante::start(sandbox, origin).unwrap(), Restante::start(sandbox, forwarder).unwrap())
}

fn assert_one_copy(server: &Restante, address: &str, message: &[u8]) -> String {
    let copies = server.maildir(address).messages();
    assert_eq!(copies.len(), 1, "copies for {address}");
    assert_eq!(object(&copies[0]), Some(&crlf(message)[..]), "{}", String::from_utf8_lossy(&copies[0]));
    String::from_utf8_lossy(&copies[0][..copies[0].len() - crlf(message).len()]).into_owned()
}

#[test]
fn what_is_delegated_is_fetched_from_its_origin_who_is_named_in_the_end() {
    let sandbox = Sandbox::new().unwrap();
    let (origin, forwarder) = origin_and_forwarder(&sandbox);
    let end = Restante::start(&sandbox, config("mx.c.example", &["c.example"])).unwrap();
    let message = awkward("delegated");
    let id = origin.send("alice@a.example", &["sales@b.example"], &message).unwrap();

    let sent = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    for step in ["delegated", "served", "claimed"] {
        assert!(steps(&sent).iter().any(|found| found == step), "{step}: {sent:#}");
    }
    let fields = assert_one_copy(&end, "bob@c.example", &message);
    assert!(fields.contains("tbr=pass header.d=a.example"), "{fields}");
    let hop = &fields[fields.find("TBR-Hop:").unwrap()..fields.find("TBR-Reference:").unwrap()];
    assert!(hop.contains("d=b.example") && !hop.contains(" at=") && !hop.contains(" g="), "{hop}");

    // Nothing but the reference has passed the forwarder.
    let passing = forwarder.trace(&references(&sent)[0]).unwrap();
    let passed = steps(&passing);
    assert!(passed.iter().any(|step| step == "delegated"), "{passing:#}");
    assert!(!passed.iter().any(|step| step == "retrieved" || step == "claimed"), "{passing:#}");

    // Both keys were needed for it, and the trace says so.
    let id = hop.split("i=").nth(1).unwrap().split(';').next().unwrap();
    let offered = end.trace(id).unwrap().to_string();
    assert!(offered.contains("signed by b.example with key k1 over a.example with key k1 (webpki)"), "{offered}");

    let files = std::fs::read_dir(end.maildir("bob@c.example").path().join("new")).unwrap();
    let file = files.map(|entry| entry.unwrap().path()).next().unwrap();
    let judged = end.json(&["verify", file.to_str().unwrap()], b"").unwrap();
    assert_eq!(judged["verdict"], "pass", "{judged:#}");
}

#[test]
fn what_is_delegated_is_authenticated_though_its_domain_asks_to_refuse_what_others_bring() {
    let sandbox = Sandbox::new().unwrap();
    let spf = Record::Txt("a.example".to_owned(), "v=spf1 a:mx.a.example -all".to_owned());
    let dmarc = Record::Txt("_dmarc.a.example".to_owned(), "v=DMARC1; p=reject".to_owned());
    sandbox.publish(&[spf, dmarc]).unwrap();
    let (origin, _forwarder) = origin_and_forwarder(&sandbox);
    let end = Restante::start(&sandbox, config("mx.c.example", &["c.example"])).unwrap();
    let message = b"From: alice@a.example\nSubject: strict\n\nhello\n";
    let id = origin.send("alice@a.example", &["sales@b.example"], message).unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let copy = String::from_utf8_lossy(&end.maildir("bob@c.example").messages()[0]).replace("\r\n\t", " ");
    for result in ["tbr=pass header.d=a.example", "policy.aligned=yes", "dmarc=fail (p=reject; done: none)"] {
        assert!(copy.contains(result), "{result}: {copy}");
    }
}

#[test]
fn what_cannot_be_passed_on_by_reference_is_taken_into_custody() {
    let sandbox = Sandbox::new().unwrap();
    let (origin, forwarder) = origin_and_forwarder(&sandbox);
    let end = config("mx.c.example", &["c.example"]).with("relay listener", "tbr", "false");
    let end = Restante::start(&sandbox, end).unwrap();
    let message = awkward("recalled");
    let id = origin.send("alice@a.example", &["sales@b.example"], &message).unwrap();
    let sent = origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    end.maildir("bob@c.example").wait_for(1, wait::LONG).unwrap();
    assert_one_copy(&end, "bob@c.example", &message);
    let passing = forwarder.trace(&references(&sent)[0]).unwrap();
    for step in ["delegated", "recalled", "retrieved", "claimed"] {
        assert!(steps(&passing).iter().any(|found| found == step), "{step}: {passing:#}");
    }
}

#[test]
fn an_origin_that_does_not_want_it_is_relayed_by_custody() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let forwarder = delegating(config("mx.b.example", &["b.example"]), "use").with("domain", "aliases", ALIASES);
    let _forwarder = Restante::start(&sandbox, forwarder).unwrap();
    let end = Restante::start(&sandbox, config("mx.c.example", &["c.example"])).unwrap();
    let message = awkward("not delegated");
    let id = origin.send("alice@a.example", &["sales@b.example"], &message).unwrap();
    let sent = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert!(!sent.to_string().contains("c.example"), "{sent:#}");
    let fields = assert_one_copy(&end, "bob@c.example", &message);
    assert!(fields.contains(" at=tbr.b.example"), "{fields}");
    assert!(fields.contains("tbr=pass header.d=b.example"), "{fields}");
}

#[test]
fn the_author_hears_of_what_the_last_server_refuses() {
    let sandbox = Sandbox::new().unwrap();
    let (origin, _forwarder) = origin_and_forwarder(&sandbox);
    let _end = Restante::start(&sandbox, config("mx.c.example", &["c.example"])).unwrap();
    let id = origin.send("alice@a.example", &["gone@b.example"], &awkward("to nobody")).unwrap();
    origin.wait_for_state(&id, "failed", wait::LONG).unwrap();
    let report = wait::until("the report", wait::LONG, || origin.maildir("alice@a.example").messages().pop()).unwrap();
    let report = String::from_utf8_lossy(&report).into_owned();
    assert!(report.contains("gone@b.example") && !report.contains("nobody@c.example"), "{report}");
}
