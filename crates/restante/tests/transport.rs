//! What protects mail on its way between servers, among real peers: MTA-STS policies of others and of our own, REQUIRETLS,
//! `TLS-Required: No`, versions of TLS; and addresses beyond ASCII.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;

use testbed::peers::restante::{references, steps};
use testbed::peers::{MailServer, Nginx, Restante, RestanteConfig, Site};
use testbed::samples::awkward;
use testbed::{Host, PackageSet, Process, Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

fn restante(name: &str) -> RestanteConfig {
    let domain = name.strip_prefix("mx.").unwrap();
    RestanteConfig::new(PROGRAM, name, &[domain]).users(&["alice", "bob"])
}

/// A web server for the policy of p.example.
fn policy_host(sandbox: &Sandbox, mode: &str) -> Nginx {
    policy_at(sandbox, "mta-sts.p.example", mode)
}

/// The same with another name, which stands in its certificate.
fn policy_at(sandbox: &Sandbox, name: &str, mode: &str) -> Nginx {
    let web = Nginx::start(sandbox, name).unwrap();
    let folder = web.files().join(".well-known");
    fs::create_dir_all(&folder).unwrap();
    let policy = format!("version: STSv1\nmode: {mode}\nmx: *.p.example\nmax_age: 86400\n");
    fs::write(folder.join("mta-sts.txt"), policy).unwrap();
    let record = Record::Txt("_mta-sts.p.example".to_owned(), "v=STSv1; id=1;".to_owned());
    sandbox.publish(&[record]).unwrap();
    web
}

/// Postfix with a good certificate for a name that is not its own.
fn misnamed(sandbox: &Sandbox) -> MailServer {
    let identity = sandbox.ca().issue(&["mx.other.example"]).unwrap();
    let (certificate, key) = (sandbox.folder().join("wrong.pem"), sandbox.folder().join("wrong.key"));
    fs::write(&certificate, identity.certificate).unwrap();
    fs::write(&key, identity.key).unwrap();
    let site = Site::new("mx.p.example", &["p.example"]);
    let site = site.line(&format!("smtpd_tls_cert_file = {}", certificate.display()));
    MailServer::postfix(sandbox, &site.line(&format!("smtpd_tls_key_file = {}", key.display()))).unwrap()
}

#[test]
fn an_enforced_policy_lets_mail_go_to_postfix_with_the_right_name() {
    let sandbox = Sandbox::new().unwrap();
    let web = policy_host(&sandbox, "enforce");
    let peer = MailServer::postfix(&sandbox, &Site::new("mx.p.example", &["p.example"])).unwrap();
    let a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    let id = a.send("alice@a.example", &["bob@p.example"], &awkward("guarded")).unwrap();
    a.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    peer.maildir("bob").wait_for(1, wait::LONG).unwrap();
    let report = a.json(&["check", "peer", "p.example"], b"").unwrap();
    assert_eq!((&report["mta_sts"]["mode"], &report["exchangers"][0]["demand"]), (&"enforce".into(), &"webpki".into()));
    drop(web);
}

#[test]
fn an_enforced_policy_keeps_mail_from_postfix_with_the_wrong_name_or_with_none() {
    let sandbox = Sandbox::new().unwrap();
    let _web = policy_host(&sandbox, "enforce");
    let peer = misnamed(&sandbox);
    let a = Restante::start(&sandbox, restante("mx.a.example").with("queue", "expire_after", "\"4s\"")).unwrap();
    let id = a.send("alice@a.example", &["bob@p.example"], &awkward("kept back")).unwrap();
    let trace = a.wait_for_state(&id, "failed", wait::LONG).unwrap();
    assert!(!steps(&trace).iter().any(|step| step == "offered"), "{trace}");
    let why = trace.to_string();
    assert!(why.contains("TLS cannot be negotiated") && why.contains("mx.p.example"), "{trace:#}");
    a.maildir("alice@a.example").wait_for_text("kept back", wait::LONG).unwrap();
    assert_eq!(peer.maildir("bob").messages().len(), 0);
    // Nothing was said in it but EHLO and STARTTLS.
    assert!(!peer.log().contains("from=<alice@a.example>"), "{}", peer.log());

    // An MX that the policy does not name: whoever forged the answer gets no mail.
    sandbox.publish(&[Record::Mx("p.example".to_owned(), 1, "mx.a2.example".to_owned())]).unwrap();
    let report = a.cli(&["check", "peer", "p.example", "--json"], b"").unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let forged = &report["exchangers"][0];
    assert_eq!(forged["host"], "mx.a2.example", "{report}");
    assert!(forged["problem"].as_str().unwrap().contains("not among the hosts"), "{report}");
}

#[test]
fn a_policy_under_test_keeps_no_mail_back() {
    let sandbox = Sandbox::new().unwrap();
    let _web = policy_host(&sandbox, "testing");
    let peer = misnamed(&sandbox);
    let a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    let id = a.send("alice@a.example", &["bob@p.example"], &awkward("watched")).unwrap();
    a.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    peer.maildir("bob").wait_for(1, wait::LONG).unwrap();
}

/// A policy of p.example under test, Postfix with a certificate for another name, and reports to bob there: he learns what would
/// fail, by mail that goes through all the same.
#[test]
fn a_domain_learns_what_its_policy_would_keep_back() {
    let sandbox = Sandbox::new().unwrap();
    let _web = policy_host(&sandbox, "testing");
    let peer = misnamed(&sandbox);
    let record = Record::Txt("_smtp._tls.p.example".to_owned(), "v=TLSRPTv1; rua=mailto:bob@p.example".to_owned());
    sandbox.publish(&[record]).unwrap();
    let a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    let id = a.send("alice@a.example", &["bob@p.example"], &awkward("watched")).unwrap();
    a.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    let sent = a.json(&["reports", "send"], b"").unwrap();
    assert_eq!(sent["kinds"][0]["handed_over"], 1, "{sent}");
    let letter = peer.maildir("bob").wait_for_text("report-type=tlsrpt", wait::LONG).unwrap();
    let Some(Ok((kind, report))) = restante::reports::inbox::find(&letter) else { panic!("no report") };
    assert_eq!(kind, "tls");
    let policy = &report["policies"][0];
    assert_eq!((&policy["kind"], &policy["bad"]), (&"sts".into(), &1.into()), "{report}");
    assert_eq!(policy["failures"][0]["kind"], "certificate-host-mismatch", "{report}");
    // There is nothing new to tell; the report itself is no news.
    let sent = a.json(&["reports", "send"], b"").unwrap();
    assert_eq!((&sent["kinds"][0]["handed_over"], &sent["kinds"][0]["waiting"]), (&0.into(), &0.into()), "{sent}");
}

/// A web server that takes reports, and may be closed.
struct ReportDesk {
    host: Host,
    _process: Process,
}

impl ReportDesk {
    fn start(sandbox: &Sandbox, name: &str) -> Self {
        // It brings Python.
        let host = sandbox.host(name, &[PackageSet::Milter]).unwrap();
        sandbox.certify(&host).unwrap();
        let (script, room) = (host.room().join("report_desk.py"), host.room().display().to_string());
        fs::write(&script, include_str!("report_desk.py")).unwrap();
        let mut process = host.spawn("desk", &["/usr/bin/python3", script.to_str().unwrap(), &room]).unwrap();
        host.wait_for_port(443, &mut process).unwrap();
        Self { host, _process: process }
    }

    fn close(&self) {
        fs::write(self.host.room().join("taken/closed"), "").unwrap();
    }

    fn open(&self) {
        fs::remove_file(self.host.room().join("taken/closed")).unwrap();
    }

    /// How many were turned away.
    fn turned_away(&self) -> usize {
        fs::read_to_string(self.host.room().join("turned-away")).map_or(0, |paths| paths.lines().count())
    }

    /// The first two reports: path, media type and octets of each.
    fn taken(&self) -> Vec<(String, String, Vec<u8>)> {
        let files = (0..2).map_while(|n| fs::read(self.host.room().join(format!("taken/{n}.report"))).ok());
        let parts = files.map(|file| {
            let mut parts = file.splitn(3, |octet| *octet == b'\n').map(<[u8]>::to_vec);
            let (path, media, body) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            (String::from_utf8(path).unwrap(), String::from_utf8(media).unwrap(), body)
        });
        parts.collect()
    }

    /// The one report that it has taken.
    fn only_report(&self) -> serde_json::Value {
        let [(path, media, body)] = &self.taken()[..] else { panic!("not one report") };
        assert_eq!((path.as_str(), media.as_str()), ("/tls?from=all", "application/tlsrpt+gzip"));
        serde_json::from_slice(&restante::reports::inbox::gunzip(body).unwrap()).unwrap()
    }
}

/// p.example announces a policy, and whoever answers at its policy host has a good certificate for another name: his policy is none, and
/// p.example learns of him.
#[test]
fn a_policy_host_with_a_certificate_for_another_name_is_told_of() {
    let sandbox = Sandbox::new().unwrap();
    let web = policy_at(&sandbox, "web.other.example", "enforce");
    let (v4, v6) = (web.host().ipv4(), web.host().ipv6());
    let place = "v=TLSRPTv1; rua=https://desk.p.example/tls?from=all";
    let record = Record::Txt("_smtp._tls.p.example".to_owned(), place.to_owned());
    sandbox.publish(&[Record::Host("mta-sts.p.example".to_owned(), v4, v6), record]).unwrap();
    // It would be kept from there by the policy, if it counted.
    let peer = misnamed(&sandbox);
    let desk = ReportDesk::start(&sandbox, "desk.p.example");
    let a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    let id = a.send("alice@a.example", &["bob@p.example"], &awkward("no policy")).unwrap();
    a.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    peer.maildir("bob").wait_for(1, wait::LONG).unwrap();

    let sent = a.json(&["reports", "send"], b"").unwrap();
    assert_eq!((&sent["kinds"][0]["handed_over"], &sent["kinds"][0]["waiting"]), (&1.into(), &0.into()), "{sent}");
    let report = desk.only_report();
    let policies = report["policies"].as_array().unwrap();
    let sts = policies.iter().find(|policy| policy["policy"]["policy-type"] == "sts").unwrap();
    assert_eq!(sts["policy"]["policy-domain"], "p.example", "{report:#}");
    assert_eq!(sts["failure-details"][0]["result-type"], "sts-webpki-invalid", "{report:#}");
}

/// p.example announces a policy, and serves what is none; it wants reports by HTTPS, at a web server that is closed at first.
#[test]
fn a_report_goes_by_https_and_waits_while_nobody_takes_it() {
    let sandbox = Sandbox::new().unwrap();
    let web = policy_host(&sandbox, "enforce");
    fs::write(web.files().join(".well-known/mta-sts.txt"), "soon to come\n").unwrap();
    let peer = MailServer::postfix(&sandbox, &Site::new("mx.p.example", &["p.example"])).unwrap();
    let desk = ReportDesk::start(&sandbox, "desk.p.example");
    let place = "v=TLSRPTv1; rua=https://desk.p.example/tls?from=all";
    sandbox.publish(&[Record::Txt("_smtp._tls.p.example".to_owned(), place.to_owned())]).unwrap();
    let a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    let id = a.send("alice@a.example", &["bob@p.example"], &awkward("counted")).unwrap();
    a.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    peer.maildir("bob").wait_for(1, wait::LONG).unwrap();

    desk.close();
    let sent = a.json(&["reports", "send"], b"").unwrap();
    assert_eq!((&sent["kinds"][0]["handed_over"], &sent["kinds"][0]["waiting"]), (&0.into(), &1.into()), "{sent}");
    assert_eq!((desk.turned_away(), desk.taken().len()), (1, 0));
    desk.open();
    let sent = a.json(&["reports", "send"], b"").unwrap();
    assert_eq!((&sent["kinds"][0]["handed_over"], &sent["kinds"][0]["waiting"]), (&1.into(), &0.into()), "{sent}");
    // Once it is taken it is gone here.
    let sent = a.json(&["reports", "send"], b"").unwrap();
    assert_eq!((&sent["kinds"][0]["handed_over"], &sent["kinds"][0]["waiting"]), (&0.into(), &0.into()), "{sent}");

    let report = desk.only_report();
    assert_eq!(report["contact-info"].as_str().unwrap().split('@').nth(1), Some("a.example"), "{report:#}");
    let policies = report["policies"].as_array().unwrap();
    let sts = policies.iter().find(|policy| policy["policy"]["policy-type"] == "sts").unwrap();
    assert_eq!(sts["policy"]["policy-domain"], "p.example", "{report:#}");
    assert_eq!(sts["failure-details"][0]["result-type"], "sts-policy-invalid", "{report:#}");
}

/// A report that nobody can take yet is on disk, and goes after a kill.
#[test]
fn reports_of_others_are_received_and_shown_also_after_a_kill() {
    let sandbox = Sandbox::new().unwrap();
    let b = restante("mx.b.example").with("domain", "report_address", "\"reports\"");
    let b = Restante::start(&sandbox, b).unwrap();
    let mut a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    let id = a.send("alice@a.example", &["bob@b.example"], &awkward("counted")).unwrap();
    a.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let printed = b.json(&["dns", "print", "b.example"], b"").unwrap();
    let record = printed.as_array().unwrap().iter().find(|record| record["purpose"] == "tls-rpt").unwrap();
    let (name, text) = (record["name"].as_str().unwrap(), record["text"].as_str().unwrap());
    assert_eq!(text, "v=TLSRPTv1; rua=mailto:reports@b.example");
    // What happened is on disk within a second or two.
    wait::until("the journal is written", wait::LONG, || {
        let folder = fs::read_dir(a.data().join("reports/tls")).ok()?;
        let mut texts = folder.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
        texts.any(|text| text.contains("mx.b.example")).then_some(())
    })
    .unwrap();
    a.kill().unwrap();
    sandbox.publish(&[Record::Txt(name.to_owned(), text.to_owned())]).unwrap();
    a.run().unwrap();
    let sent = a.json(&["reports", "send"], b"").unwrap();
    assert_eq!(sent["kinds"][0]["handed_over"], 1, "{sent}");
    let shown = wait::until("the report is there", wait::LONG, || {
        let shown = b.json(&["reports", "tls"], b"").ok()?;
        (!shown.as_array()?.is_empty()).then_some(shown)
    })
    .unwrap();
    let report = &shown[0]["report"];
    assert_eq!(
        (&report["organization"], &shown[0]["to"]),
        (&"a.example".into(), &"reports@b.example".into()),
        "{shown}"
    );
    let policy = &report["policies"][0];
    assert_eq!((&policy["kind"], &policy["domain"]), (&"no-policy-found".into(), &"b.example".into()), "{shown}");
    assert!(policy["good"].as_u64().unwrap() >= 1 && policy["bad"] == 0, "{shown}");
}

#[test]
fn our_own_policy_is_served_and_lived_up_to() {
    let sandbox = Sandbox::new().unwrap();
    let b = restante("mx.b.example").with("domain", "mta_sts", "{ mode = \"enforce\" }");
    let b = Restante::start(&sandbox, b).unwrap();
    let a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    let printed = b.json(&["dns", "print", "b.example"], b"").unwrap();
    let record = printed.as_array().unwrap().iter().find(|record| record["name"] == "_mta-sts.b.example").unwrap();
    let text = record["text"].as_str().unwrap().to_owned();
    sandbox.publish(&[Record::Txt("_mta-sts.b.example".to_owned(), text)]).unwrap();
    let id = a.send("alice@a.example", &["bob@b.example"], &awkward("guarded")).unwrap();
    a.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let report = a.json(&["check", "peer", "b.example"], b"").unwrap();
    assert_eq!((&report["mta_sts"]["mode"], &report["way"]), (&"enforce".into(), &"by-reference".into()), "{report}");
    // What it publishes is what is served; the records that nobody publishes here are named.
    let check = b.cli(&["dns", "check", "--json"], b"").unwrap();
    let check: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    let verdict = |name: &str| {
        let found = check["records"].as_array().unwrap().iter().find(|record| record["name"] == name);
        found.unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (verdict("mta-sts.b.example"), verdict("_mta-sts.b.example")),
        ("good".into(), "good".into()),
        "{check}"
    );
    assert_eq!(verdict("_dmarc.b.example"), "change");
}

/// Hands in a message from alice that is to go over proven TLS only.
fn require_tls(server: &Restante, to: &str, subject: &str) -> String {
    let arguments = ["send", "-i", "--require-tls", "-f", "alice@a.example", to];
    server.json(&arguments, &awkward(subject)).unwrap()["id"].as_str().unwrap().to_owned()
}

#[test]
fn what_requires_tls_goes_by_reference_where_a_policy_names_the_server_and_nowhere_else() {
    let sandbox = Sandbox::new().unwrap();
    let b = restante("mx.b.example").with("domain", "mta_sts", "{ mode = \"enforce\" }");
    let b = Restante::start(&sandbox, b).unwrap();
    let a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    // Nothing proves the exchanger: the author has it back, the body not, and nobody else has anything.
    let id = require_tls(&a, "bob@b.example", "unproven");
    let trace = a.wait_for_state(&id, "failed", wait::LONG).unwrap();
    assert!(trace.to_string().contains("5.7.30"), "{trace:#}");
    a.maildir("alice@a.example").wait_for_text("5.7.30", wait::LONG).unwrap();
    assert_eq!(b.maildir("bob@b.example").messages().len(), 0);

    let printed = b.json(&["dns", "print", "b.example"], b"").unwrap();
    let record = printed.as_array().unwrap().iter().find(|record| record["name"] == "_mta-sts.b.example").unwrap();
    let text = record["text"].as_str().unwrap().to_owned();
    sandbox.publish(&[Record::Txt("_mta-sts.b.example".to_owned(), text)]).unwrap();
    let id = require_tls(&a, "bob@b.example", "proven");
    let trace = a.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert!(steps(&trace).iter().any(|step| step == "claimed"), "{trace:#}");
    b.maildir("bob@b.example").wait_for_text("proven", wait::LONG).unwrap();
}

#[test]
fn postfix_does_not_promise_to_keep_to_tls_and_gets_nothing_that_requires_it() {
    let sandbox = Sandbox::new().unwrap();
    let _web = policy_host(&sandbox, "enforce");
    let peer = MailServer::postfix(&sandbox, &Site::new("mx.p.example", &["p.example"])).unwrap();
    let a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    let id = require_tls(&a, "bob@p.example", "unpromised");
    let trace = a.wait_for_state(&id, "failed", wait::LONG).unwrap();
    assert!(trace.to_string().contains("5.7.30"), "{trace:#}");
    assert!(!peer.log().contains("from=<alice@a.example>"), "{}", peer.log());
    assert_eq!(peer.maildir("bob").messages().len(), 0);
}

#[test]
fn an_author_may_prefer_arrival_to_tls() {
    let sandbox = Sandbox::new().unwrap();
    let _web = policy_host(&sandbox, "enforce");
    let peer = misnamed(&sandbox);
    let a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    let message = b"From: alice@a.example\r\nTLS-Required: No\r\nSubject: whatever\r\n\r\nhello\r\n";
    let id = a.send("alice@a.example", &["bob@p.example"], message).unwrap();
    a.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    peer.maildir("bob").wait_for_text("whatever", wait::LONG).unwrap();
}

/// An origin whose repository stands behind nginx that speaks TLS 1.2 alone, as old equipment does.
fn behind_old_equipment(sandbox: &Sandbox) -> (Restante, Nginx) {
    let key = sandbox.folder().join("c.pem");
    let domain = format!(
        "[[domain]]\nname = \"c.example\"\n[domain.tbr]\nselector = \"k1\"\nkey = \"{}\"\nrepository = \"front.c.example\"\n",
        key.display()
    );
    let config = restante("mx.a.example").names(&["tbr.c.example"]).tables(&domain);
    let mut origin = Restante::prepare(sandbox, config).unwrap();
    let arguments = ["keys", "generate", "--domain", "c.example", "--repository", "front.c.example", "--out"];
    let made = origin.json(&[&arguments[..], &[key.to_str().unwrap()]].concat(), b"").unwrap();
    let records = made["records"].as_array().unwrap().iter();
    let text = |record: &serde_json::Value, field: &str| record[field].as_str().unwrap().to_owned();
    let records: Vec<_> = records.map(|record| Record::Txt(text(record, "name"), text(record, "text"))).collect();
    sandbox.publish(&records).unwrap();
    let front = Nginx::in_front_of(sandbox, "front.c.example", origin.host()).unwrap();
    origin.run().unwrap();
    (origin, front)
}

#[test]
fn tls_1_2_is_spoken_with_repositories_where_that_is_configured_and_nowhere_else() {
    let sandbox = Sandbox::new().unwrap();
    let (origin, _front) = behind_old_equipment(&sandbox);
    let mut b = Restante::start(&sandbox, restante("mx.b.example")).unwrap();
    // As old clients ask our own repository: is the document served?
    let old_client = || {
        let ca = sandbox.ca().certificate().display().to_string();
        let url = "https://tbr.b.example/.well-known/tbr/domain";
        let argv = ["curl", "--silent", "--fail", "--tls-max", "1.2", "--cacert", &ca, url];
        origin.host().output(&argv, b"").unwrap().status.code()
    };
    let id = origin.send("alice@c.example", &["bob@b.example"], &awkward("old equipment")).unwrap();
    let refused = || {
        let reference = references(&origin.trace(&id).ok()?).pop()?;
        b.trace(&reference).ok()?.to_string().contains("ProtocolVersion").then_some(())
    };
    wait::until("the retrieval to be refused", wait::LONG, refused).unwrap();
    assert_eq!(old_client(), Some(35), "a handshake that fails");
    assert_eq!(b.maildir("bob@b.example").messages().len(), 0);

    b.stop().unwrap();
    b.set("tls", "repository_min_version", "\"1.2\"").unwrap();
    b.run().unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap_or_else(|error| panic!("{error}\n{}", b.log()));
    assert_eq!(old_client(), Some(0));

    // What holds for everybody holds here too.
    b.stop().unwrap();
    b.set("tls", "min_version", "\"1.3\"").unwrap();
    b.run().unwrap();
    assert_eq!(old_client(), Some(35));
}

#[test]
fn addresses_beyond_ascii_go_in_both_modes_or_come_back() {
    let sandbox = Sandbox::new().unwrap();
    let b = RestanteConfig::new(PROGRAM, "mx.b.example", &["b.example"]).users(&["bob", "j\u{fc}rgen"]);
    let b = Restante::start(&sandbox, b).unwrap();
    let a = Restante::start(&sandbox, restante("mx.a.example")).unwrap();
    let by_value = restante("mx.c.example").with("transfer", "policy", "\"never\"");
    let c = Restante::start(&sandbox, by_value).unwrap();
    let mailbox = b.maildir("j%C3%BCrgen@b.example");
    let message = "Subject: gr\u{fc}\u{df}e\r\n\r\nhallo\r\n".as_bytes();
    for (server, from, state) in [(&a, "alice@a.example", "delivered"), (&c, "alice@c.example", "relayed")] {
        let id = server.send(from, &["j\u{fc}rgen@b.example"], message).unwrap();
        server.wait_for_state(&id, state, wait::LONG).unwrap();
    }
    mailbox.wait_for(2, wait::LONG).unwrap();
    mailbox.wait_for_text("with UTF8SMTPS", wait::LONG).unwrap();
    // A peer that lacks SMTPUTF8 is asked for nothing.
    let old = Site::new("mx.p.example", &["p.example"]).line("smtputf8_enable = no");
    let _peer = MailServer::postfix(&sandbox, &old).unwrap();
    let id = a.send("alice@a.example", &["j\u{fc}rgen@p.example"], b"Subject: x\r\n\r\n").unwrap();
    let trace = a.wait_for_state(&id, "failed", wait::LONG).unwrap();
    assert!(trace.to_string().contains("5.6.7"), "{trace:#}");
}
