//! Relaying by reference between servers on hosts of their own (TBR §7.3): the forwarder delegates at the origin, the last server
//! fetches there, and everybody learns what they should.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;

use testbed::peers::restante::{object, references, steps};
use testbed::peers::{MailServer, Nginx, Restante, RestanteConfig, Site, clients};
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
    let stranger = sandbox.host("mx.stranger.example", &[]).unwrap();
    let (origin, _forwarder) = origin_and_forwarder(&sandbox);
    let end = Restante::start(&sandbox, config("mx.c.example", &["c.example"])).unwrap();
    let message = b"From: alice@a.example\nSubject: strict\n\nhello\n";
    let id = origin.send("alice@a.example", &["sales@b.example"], message).unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let copy = String::from_utf8_lossy(&end.maildir("bob@c.example").messages()[0]).replace("\r\n\t", " ");
    for result in ["tbr=pass header.d=a.example", "policy.aligned=yes", "dmarc=fail (p=reject; done: none)"] {
        assert!(copy.contains(result), "{result}: {copy}");
    }

    // The copy, sent on by somebody: a reference in it is worth nothing, and DMARC refuses it, for strangers and for whom it was meant.
    let copy = String::from_utf8(end.maildir("bob@c.example").messages().remove(0)).unwrap();
    let fields = &copy[copy.find("TBR-Hop:").unwrap()..];
    for to in ["alice@c.example", "bob@c.example"] {
        let url = "smtp://mx.c.example";
        let sent = clients::curl_submit(&stranger, url, "alice@a.example", to, fields.as_bytes(), &[]);
        let said = format!("{:#}", sent.unwrap_err());
        assert!(said.contains("550"), "{to}: {said}");
    }
    assert_eq!(
        (end.maildir("alice@c.example").messages().len(), end.maildir("bob@c.example").messages().len()),
        (0, 1)
    );
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

/// A chain of servers, each of which an enforced policy names: a.example sends, b.example and c.example forward, and the last,
/// Postfix for d.example, has good TLS too, but offers no REQUIRETLS.
struct Guarded {
    origin: Restante,
    middle: Restante,
    end: Restante,
    last: MailServer,
    _others: (Nginx, Sandbox),
}

impl Guarded {
    /// Each server is set up by `set_up`, in its order.
    fn new(set_up: [fn(RestanteConfig) -> RestanteConfig; 3]) -> Self {
        let sandbox = Sandbox::new().unwrap();
        let web = Nginx::start(&sandbox, "mta-sts.d.example").unwrap();
        let folder = web.files().join(".well-known");
        fs::create_dir_all(&folder).unwrap();
        let policy = "version: STSv1\nmode: enforce\nmx: mx.d.example\nmax_age: 86400\n";
        fs::write(folder.join("mta-sts.txt"), policy).unwrap();
        sandbox.publish(&[Record::Txt("_mta-sts.d.example".to_owned(), "v=STSv1; id=1;".to_owned())]).unwrap();
        let last = MailServer::postfix(&sandbox, &Site::new("mx.d.example", &["d.example"])).unwrap();
        let aliases = [
            "{}",
            "{ sales = [\"bob@c.example\"], lost = [\"bob@d.example\"], away = [\"away@c.example\"] }",
            "{ away = [\"bob@d.example\"] }",
        ];
        let start = |(name, aliases, set_up): (&str, &str, fn(RestanteConfig) -> RestanteConfig)| {
            let config = config(&format!("mx.{name}"), &[name]).with("domain", "aliases", aliases);
            let config = set_up(config.with("domain", "mta_sts", "{ mode = \"enforce\" }"));
            let server = Restante::start(&sandbox, config).unwrap();
            let records = server.json(&["dns", "print", name], b"").unwrap();
            let policy = format!("_mta-sts.{name}");
            let record = records.as_array().unwrap().iter().find(|record| record["name"] == policy.as_str()).unwrap();
            sandbox.publish(&[Record::Txt(policy, record["text"].as_str().unwrap().to_owned())]).unwrap();
            server
        };
        let [origin, middle, end] = [
            ("a.example", aliases[0], set_up[0]),
            ("b.example", aliases[1], set_up[1]),
            ("c.example", aliases[2], set_up[2]),
        ]
        .map(start);
        Self { origin, middle, end, last, _others: (web, sandbox) }
    }

    /// Hands in a message from alice, over proven TLS only.
    fn send(&self, to: &str, subject: &str) -> String {
        let arguments = ["send", "-i", "--require-tls", "-f", "alice@a.example", to];
        self.origin.json(&arguments, &awkward(subject)).unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// It comes through where every server keeps the promise, and comes back from the first that finds none that does, however far on.
    /// The id of what comes through.
    fn assert_keeps_to_tls(&self) -> String {
        let promised = self.send("sales@b.example", "promised");
        let copy = self.end.maildir("bob@c.example").wait_for_text("promised", wait::LONG);
        copy.unwrap_or_else(|error| panic!("{error}\n{}", self.end.log()));
        for (to, subject) in [("lost@b.example", "one hop on"), ("away@b.example", "two hops on")] {
            let id = self.send(to, subject);
            let reports = || {
                let reports = self.origin.maildir("alice@a.example").messages();
                let mut reports = reports.into_iter().map(|report| String::from_utf8_lossy(&report).into_owned());
                reports.find(|report| report.contains("Action: failed") && report.contains(to))
            };
            let report = wait::until("a report", wait::LONG, reports).unwrap_or_else(|error| {
                let sent = self.origin.trace(&id).unwrap();
                panic!("{error}\n{sent:#}\n{}\n{}", self.middle.log(), self.end.log());
            });
            assert!(report.contains("Status: 5.7.30\r\n"), "{report}");
            // The words of the message stay away from a way back that may be another.
            assert!(!report.contains("From here"), "{report}");
        }
        assert_eq!(self.last.maildir("bob").messages().len(), 0);
        assert!(!self.last.log().contains("from=<"), "{}", self.last.log());
        promised
    }
}

#[test]
fn what_requires_tls_keeps_to_it_behind_custodians() {
    let guarded = Guarded::new([|config| config; 3]);
    guarded.assert_keeps_to_tls();
}

#[test]
fn what_requires_tls_keeps_to_it_where_the_reference_alone_is_passed_on() {
    let (accept, uses) = (|config| delegating(config, "accept"), |config| delegating(config, "use"));
    let guarded = Guarded::new([accept, uses, uses]);
    let id = guarded.assert_keeps_to_tls();
    let sent = guarded.origin.trace(&id).unwrap();
    assert!(steps(&sent).iter().any(|step| step == "delegated"), "{sent:#}");
}

#[test]
fn what_requires_tls_keeps_to_it_by_value() {
    let guarded = Guarded::new([|config| config.with("transfer", "policy", "\"never\""); 3]);
    guarded.assert_keeps_to_tls();
}
