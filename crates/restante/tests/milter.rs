//! Real milters (one on libmilter, and rspamd, both from Debian) are asked about mail by value and by reference: what they refuse is
//! refused, what they add stands on top, and without them mail waits.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;

use testbed::peers::restante::object;
use testbed::peers::{Restante, RestanteConfig, Rspamd};
use testbed::samples::{body, crlf, large};
use testbed::{Host, PackageSet, Process, Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
const PORT: u16 = 8890;

/// What every filter that knows the Generic Test for Unsolicited Bulk Email refuses.
const GTUBE: &str = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";

/// An origin, and a receiver that asks a milter.
struct World {
    origin: Restante,
    receiver: Restante,
    filter: Option<Process>,
    host: Host,
    sandbox: Sandbox,
}

impl World {
    /// `policy` is the origin's.
    fn new(policy: &str) -> Self {
        let sandbox = Sandbox::new().unwrap();
        let host = sandbox.host("filter.example", &[PackageSet::Milter]).unwrap();
        let config = |name: &str, domain: &str| {
            let config = RestanteConfig::new(PROGRAM, name, &[domain]).users(&["alice", "bob", "carol"]);
            config.with("transfer", "policy", &format!("\"{policy}\""))
        };
        let milter = format!("[[milter]]\naddress = \"{}:{PORT}\"\ntimeout = \"60s\"", host.ipv4());
        let receiver = Restante::start(&sandbox, config("mx.b.example", "b.example").tables(&milter)).unwrap();
        let origin = Restante::start(&sandbox, config("mx.a.example", "a.example")).unwrap();
        Self { origin, receiver, filter: None, host, sandbox }
    }

    fn start_filter(&mut self) {
        let script = self.host.room().join("filter.py");
        fs::write(&script, include_str!("filter.py")).unwrap();
        let mut process = self.host.spawn("milter", &["/usr/bin/python3", script.to_str().unwrap()]).unwrap();
        self.host.wait_for_port(PORT, &mut process).unwrap();
        self.filter = Some(process);
    }

    /// From alice to somebody at the receiver; its id.
    fn send(&self, to: &str, subject: &str) -> (String, Vec<u8>) {
        let message = large(subject, 200_000);
        let id = self.origin.send("alice@a.example", &[to], &message).unwrap();
        (id, crlf(&message))
    }

    fn assert_reported(&self, to: &str, subject: &str, status: &str, words: &str) {
        self.send(to, subject);
        let report = self.origin.maildir("alice@a.example").wait_for_text(words, wait::LONG);
        let report = report.unwrap_or_else(|error| panic!("{error}\n{}", self.receiver.log()));
        let text = String::from_utf8_lossy(&report).into_owned();
        assert!(text.contains(&format!("Status: {status}\r\n")) && text.contains("Action: failed"), "{text}");
    }

    /// The message has come, under what the filter says of it.
    fn assert_came(&self, sent: &[u8]) -> Vec<u8> {
        let copy = self.receiver.maildir("carol@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
        let seen = format!("X-Filter: <alice@a.example> {} octets\r\n", body(sent).len());
        let text = String::from_utf8_lossy(&copy).into_owned();
        assert!(copy.ends_with(sent) && text.contains(&seen), "no {seen:?} in {}", &text[..1500]);
        copy
    }
}

#[test]
fn by_value_it_refuses_discards_and_adds() {
    let mut world = World::new("never");
    world.start_filter();
    world.assert_reported("bob@b.example", "for bob", "5.7.9", "bob is not at home");
    world.assert_reported("carol@b.example", "with a virus", "5.7.8", "a virus is in it");
    let (noise, _) = world.send("carol@b.example", "noise");
    world.origin.wait_for_state(&noise, "relayed", wait::LONG).unwrap();
    let (_, sent) = world.send("carol@b.example", "fine");
    world.assert_came(&sent);
    assert_eq!(world.receiver.maildir("carol@b.example").messages().len(), 1);
}

#[test]
fn by_reference_it_judges_before_the_claim() {
    let mut world = World::new("require");
    world.start_filter();
    world.assert_reported("bob@b.example", "for bob", "5.7.9", "bob is not at home");
    let (virus, _) = world.send("carol@b.example", "with a virus");
    world.origin.wait_for_state(&virus, "failed", wait::LONG).unwrap();
    world.origin.maildir("alice@a.example").wait_for_text("a virus is in it", wait::LONG).unwrap();
    let (noise, _) = world.send("carol@b.example", "noise");
    world.origin.wait_for_state(&noise, "failed", wait::LONG).unwrap();
    let (fine, sent) = world.send("carol@b.example", "fine");
    world.origin.wait_for_state(&fine, "delivered", wait::LONG).unwrap();
    let copy = world.assert_came(&sent);
    assert_eq!(object(&copy), Some(&sent[..]), "the object is not what was sent");
    assert_eq!(world.receiver.maildir("carol@b.example").messages().len(), 1);
}

#[test]
fn without_it_mail_waits() {
    let mut world = World::new("never");
    let (id, sent) = world.send("carol@b.example", "early");
    let deferred = || world.receiver.log().contains("deferred for want of a milter's verdict").then_some(());
    wait::until("a deferral", wait::LONG, deferred).unwrap();
    world.start_filter();
    world.origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    world.assert_came(&sent);
}

/// What is judged again because a milter had no verdict is one message to the domain that it came from.
#[test]
fn what_is_judged_once_more_is_reported_once() {
    let mut world = World::new("require");
    let wish = Record::Txt("_dmarc.a.example".to_owned(), "v=DMARC1; p=none; rua=mailto:reports@a.example".to_owned());
    world.sandbox.publish(&[wish]).unwrap();
    world.origin.stop().unwrap();
    world.origin.set("domain", "report_address", "\"reports\"").unwrap();
    world.origin.run().unwrap();
    let (id, sent) = world.send("carol@b.example", "early");
    let deferred =
        || (world.receiver.log().matches("deferred for want of a milter's verdict").count() > 2).then_some(());
    wait::until("deferrals", wait::LONG, deferred).unwrap();
    world.start_filter();
    world.origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    world.assert_came(&sent);
    let told = world.receiver.json(&["reports", "send"], b"").unwrap();
    let dmarc = told["kinds"].as_array().unwrap().iter().find(|kind| kind["kind"] == "dmarc").unwrap();
    assert_eq!(dmarc["handed_over"], 1, "{told:#}");
    let shown = wait::until("the report", wait::LONG, || {
        let shown = world.origin.json(&["reports", "dmarc"], b"").ok()?;
        (!shown.as_array()?.is_empty()).then_some(shown)
    })
    .unwrap_or_else(|error| panic!("{error}\n{}\n{}", world.receiver.log(), world.origin.log()));
    let rows = shown[0]["report"]["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["count"]), (1, &1.into()), "{shown:#}");
}

/// An origin whose mail a receiver has judged by rspamd.
struct Scanned {
    origin: Restante,
    receiver: Restante,
    rspamd: Rspamd,
    _sandbox: Sandbox,
}

impl Scanned {
    /// `policy` is the origin's.
    fn new(policy: &str) -> Self {
        let sandbox = Sandbox::new().unwrap();
        let rspamd = Rspamd::start(&sandbox, "rspamd.b.example").unwrap();
        let config = |name: &str, domain: &str| {
            let config = RestanteConfig::new(PROGRAM, name, &[domain]).users(&["alice", "carol"]);
            config.with("transfer", "policy", &format!("\"{policy}\""))
        };
        let milter = format!("[[milter]]\naddress = \"{}\"\ntimeout = \"60s\"", rspamd.address());
        let receiver = Restante::start(&sandbox, config("mx.b.example", "b.example").tables(&milter)).unwrap();
        let origin = Restante::start(&sandbox, config("mx.a.example", "a.example")).unwrap();
        Self { origin, receiver, rspamd, _sandbox: sandbox }
    }

    fn send(&self, message: &[u8]) -> String {
        self.origin.send("alice@a.example", &["carol@b.example"], message).unwrap()
    }

    /// What is spam comes back with a report of this state; what is not comes to carol, and rspamd knows all there is to know of it.
    fn assert_judges(&self, good: &str) {
        let spam = [large("bulk", 2_000), format!("{GTUBE}\n").into_bytes()].concat();
        let refused = self.send(&spam);
        self.origin
            .wait_for_state(&refused, "failed", wait::LONG)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
        let report = self.origin.maildir("alice@a.example").wait_for_text("Gtube pattern", wait::LONG).unwrap();
        let report = String::from_utf8_lossy(&report).into_owned();
        assert!(report.contains("Status: 5.7.1\r\n") && report.contains("Action: failed"), "{report}");

        let message = large("fine", 200_000);
        let id = self.send(&message);
        self.origin.wait_for_state(&id, good, wait::LONG).unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
        let copy = self.receiver.maildir("carol@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
        assert!(copy.ends_with(&crlf(&message)), "another message came");
        let text = String::from_utf8_lossy(&copy[..copy.len() - message.len()]).into_owned();
        let text = text.replace("\r\n ", " ").replace("\r\n\t", " ");
        let seen = text.lines().find_map(|line| line.strip_prefix("X-Seen: ")).unwrap_or_else(|| panic!("{text}"));
        for fact in [
            &format!("ip={}", self.origin.host().ipv6()),
            "name=mx.a.example",
            "helo=mx.a.example",
            "tls=TLSv1.3",
            "cipher=TLS_AES_",
            "from=alice@a.example",
            "to=carol@b.example",
        ] {
            assert!(seen.contains(fact), "no {fact} in {seen}");
        }
        let id = seen.split(' ').find_map(|word| word.strip_prefix("id=")).unwrap();
        assert!(self.receiver.log().contains(id) && self.receiver.trace(id).is_ok(), "{id} names no message here");
        assert!(text.contains("Authentication-Results: "), "{text}");
        assert_eq!(self.receiver.maildir("carol@b.example").messages().len(), 1);
    }

    fn logs(&self) -> String {
        format!("{}\n{}", self.receiver.log(), self.rspamd.log())
    }
}

#[test]
fn rspamd_judges_by_value() {
    Scanned::new("never").assert_judges("relayed");
}

#[test]
fn rspamd_judges_by_reference_before_the_claim() {
    let scanned = Scanned::new("require");
    scanned.assert_judges("delivered");
}
