//! Forwarding from domains that ask to refuse what is not theirs (DMARC `p=reject`): authenticated at the end by custody, by value and
//! through Postfix; and no replay of what was forwarded, to strangers or through a relay of one's own, is.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::process::Command;

use testbed::peers::{MailServer, Restante, RestanteConfig, Site, clients};
use testbed::{Host, PackageSet, Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
const REFUSED: &str = "550 5.7.1 neither SPF nor DKIM shows that this is from plain.example";

fn config(domains: &[&str]) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, &format!("mx.{}", domains[0]), domains).users(&["alice", "bob"])
}

/// Only its MX may send for it; all else is to be refused.
fn publish_strict(sandbox: &Sandbox, domain: &str) {
    let spf = Record::Txt(domain.to_owned(), format!("v=spf1 a:mx.{domain} -all"));
    let dmarc = Record::Txt(format!("_dmarc.{domain}"), "v=DMARC1; p=reject".to_owned());
    sandbox.publish(&[spf, dmarc]).unwrap();
}

/// A DKIM key of a domain, published; for `[domain.dkim]`.
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

/// The topmost Authentication-Results field, unfolded.
fn results(copy: &[u8]) -> String {
    let text = String::from_utf8_lossy(copy).replace("\r\n\t", " ");
    let field = text.lines().find(|line| line.starts_with("Authentication-Results:"));
    field.unwrap_or_else(|| panic!("no results in {text}")).to_owned()
}

fn assert_says(copy: &[u8], wanted: &[&str]) {
    let found = results(copy);
    wanted.iter().for_each(|result| assert!(found.contains(result), "{result}: {}", String::from_utf8_lossy(copy)));
}

fn copy_with(server: &Restante, address: &str, text: &str) -> Vec<u8> {
    server.maildir(address).wait_for_text(text, wait::LONG).unwrap()
}

#[test]
fn what_is_signed_is_authenticated_behind_forwarders_of_every_kind() {
    let sandbox = Sandbox::new().unwrap();
    publish_strict(&sandbox, "a.example");
    let a = config(&["a.example"]).with("domain", "dkim", &dkim(&sandbox, "a.example"));
    let origin = Restante::start(&sandbox, a).unwrap();
    let aliases = "{ custody = [\"bob@c.example\"], value = [\"bob@v.example\"] }";
    let f = config(&["f.example"]).with("domain", "aliases", aliases);
    let f = f.with("domain", "dkim", &dkim(&sandbox, "f.example"));
    let _forwarder =
        Restante::start(&sandbox, f.tables("[[transfer.peer]]\ndomain = \"v.example\"\npolicy = \"never\"")).unwrap();
    let site = Site::new("mx.p.example", &["p.example"]);
    let site = site.line("virtual_alias_maps = inline:{{forwarded@p.example=alice@c.example}}");
    let _postfix = MailServer::postfix(&sandbox, &site).unwrap();
    let receiver = Restante::start(&sandbox, config(&["c.example", "v.example"])).unwrap();

    let message = b"From: alice@a.example\nSubject: forwarded\n\nhello\n";
    origin.send("alice@a.example", &["custody@f.example", "value@f.example", "forwarded@p.example"], message).unwrap();
    let authentic = ["dkim=pass header.d=a.example header.s=r1", "dmarc=pass header.from=a.example"];
    let by_relay = [
        "tbr=pass header.d=f.example",
        "policy.aligned=no",
        "tbr=none (object intact) header.d=a.example",
        "spf=fail smtp.mailfrom=a.example",
    ];
    let custody = copy_with(&receiver, "bob@c.example", "hello");
    assert_says(&custody, &[&authentic[..], &by_relay[..]].concat());
    let value = copy_with(&receiver, "bob@v.example", "hello");
    assert_says(&value, &[&authentic[..], &by_relay[..], &["arc=pass (sealed by f.example)"]].concat());
    let postfix = copy_with(&receiver, "alice@c.example", "hello");
    assert_says(&postfix, &[&authentic[..], &["spf=fail smtp.mailfrom=a.example"]].concat());

    // The copy that came by value, sent on by somebody to others: whose object it is can be seen, no more. What its author's domain has signed is
    // signed for them too: DKIM says nothing of recipients.
    let stranger = sandbox.host("mx.stranger.example", &[]).unwrap();
    let text = String::from_utf8(value).unwrap();
    let kept = &text[text.find("TBR-Hop:").unwrap()..];
    let url = "smtp://mx.c.example";
    clients::curl_submit(&stranger, url, "alice@a.example", "alice@v.example", kept.as_bytes(), &[]).unwrap();
    let replayed = copy_with(&receiver, "alice@v.example", "hello");
    let no_longer = ["tbr=none (object intact) header.d=f.example", "spf=fail smtp.mailfrom=a.example"];
    assert_says(&replayed, &[&authentic[..], &no_longer[..]].concat());
    assert!(!results(&replayed).contains("tbr=pass"), "{}", results(&replayed));
}

#[test]
fn what_only_spf_vouches_for_is_believed_from_trusted_forwarders_and_from_nobody_else() {
    let sandbox = Sandbox::new().unwrap();
    ["a.example", "plain.example"].iter().for_each(|domain| publish_strict(&sandbox, domain));
    let origin = Restante::start(&sandbox, config(&["a.example"])).unwrap();
    // All hosts before the servers run: a new one starts the name server anew, and what is asked meanwhile has no answer.
    let plain = sandbox.host("mx.plain.example", &[]).unwrap();
    let stranger = sandbox.host("mx.stranger.example", &[]).unwrap();
    let aliases = "{ trusted = [\"bob@c.example\"], stranger = [\"bob@d.example\"] }";
    let f = config(&["f.example"]).with("domain", "aliases", aliases);
    let f = f.with("domain", "dkim", &dkim(&sandbox, "f.example"));
    let forwarder = Restante::start(&sandbox, f).unwrap();
    let c = config(&["c.example"]).with("policy", "trusted_sealers", "[\"f.example\"]");
    let trusting = Restante::start(&sandbox, c).unwrap();
    let other = Restante::start(&sandbox, config(&["d.example"])).unwrap();

    // By reference, and by custody on: a relay that nobody trusts launders nothing, whoever runs it.
    let message = b"From: alice@a.example\nSubject: x\n\nby custody\n";
    origin.send("alice@a.example", &["trusted@f.example"], message).unwrap();
    let by_custody = copy_with(&trusting, "bob@c.example", "by custody");
    assert_says(&by_custody, &["tbr=pass header.d=f.example", "tbr=pass (through trusted relays) header.d=a.example"]);
    assert_says(&by_custody, &["policy.aligned=yes", "dmarc=fail (p=reject; done: none) header.from=a.example"]);
    let id = origin.send("alice@a.example", &["stranger@f.example"], message).unwrap();
    origin.wait_for_state(&id, "failed", wait::LONG).unwrap();

    // By value, and by value on, under a seal.
    let message = "From: x@plain.example\r\nSubject: x\r\n\r\nunder a seal\r\n";
    let url = "smtp://mx.f.example";
    for to in ["trusted@f.example", "stranger@f.example"] {
        clients::curl_submit(&plain, url, "x@plain.example", to, message.as_bytes(), &[]).unwrap();
    }
    let copy = copy_with(&trusting, "bob@c.example", "under a seal");
    assert_says(&copy, &["arc=pass (sealed by f.example)", "dmarc=fail (p=reject; done: none)"]);
    wait::until("the other to refuse", wait::LONG, || other.log().contains("dmarc-reject").then_some(())).unwrap();

    // The sealed copy, sent on by somebody else.
    let text = String::from_utf8(copy).unwrap();
    let sealed = &text[text.find("ARC-Seal:").unwrap()..];
    let url = "smtp://mx.c.example";
    let arguments = ["-v"];
    let refused =
        clients::curl_submit(&stranger, url, "x@plain.example", "alice@c.example", sealed.as_bytes(), &arguments);
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(refused.contains(REFUSED), "{refused}");
    // The copy of what nobody signed with DKIM, sent on in the same way to whom it was not meant for: where the forwarder is trusted, too.
    let text = String::from_utf8(by_custody).unwrap();
    let kept = &text[text.find("TBR-Hop:").unwrap()..];
    for to in ["alice@c.example", "alice@d.example"] {
        let url = format!("smtp://mx.{}", to.split_once('@').unwrap().1);
        let refused = clients::curl_submit(&stranger, &url, "alice@a.example", to, kept.as_bytes(), &arguments);
        let refused = format!("{:#}", refused.unwrap_err());
        assert!(refused.contains(&REFUSED.replace("plain.example", "a.example")), "{refused}");
    }
    assert_eq!(other.maildir("bob@d.example").messages().len(), 0, "nothing that was not authenticated came");
    drop(forwarder);
}

/// What dkimpy says of the chain of a message.
fn chain(verifier: &Host, message: &str) -> String {
    let wire = message.replace('\n', "\r\n");
    let output = verifier.output(&["arcverify"], wire.as_bytes()).unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn what_is_converted_is_sealed_as_it_goes_on() {
    let sandbox = Sandbox::new().unwrap();
    let verifier = sandbox.host("notary.example", &[PackageSet::Dkim]).unwrap();
    let origin = Restante::start(&sandbox, config(&["a.example"])).unwrap();
    let f = config(&["f.example"]).with("domain", "aliases", "{ sales = [\"bob@p.example\"] }");
    let f = f.with("domain", "dkim", &dkim(&sandbox, "f.example")).with("transfer", "convert_8bit", "true");
    let _forwarder = Restante::start(&sandbox, f).unwrap();
    let g = config(&["g.example"]).with("domain", "aliases", "{ sales = [\"sales@f.example\"] }");
    let g = g.with("domain", "dkim", &dkim(&sandbox, "g.example"));
    let _first =
        Restante::start(&sandbox, g.tables("[[transfer.peer]]\ndomain = \"f.example\"\npolicy = \"never\"")).unwrap();
    let old = Site::new("mx.p.example", &["p.example"]).line("smtpd_discard_ehlo_keywords = 8bitmime");
    let old = MailServer::postfix(&sandbox, &old).unwrap();
    let copy_of = |encoding: &str, subject: &str, to: &str, body: &str| {
        let message = format!(
            "From: alice@a.example\nSubject: {subject}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
             Content-Transfer-Encoding: {encoding}\n\n{body}\n"
        );
        origin.send("alice@a.example", &[to], message.as_bytes()).unwrap();
        let copy = old.maildir("bob").wait_for_text(&format!("Subject: {subject}"), wait::LONG).unwrap();
        String::from_utf8(copy).unwrap()
    };
    let as_it_was = copy_of("7bit", "plain", "sales@f.example", "Gruss");
    assert_eq!(as_it_was.matches("\nARC-").count(), 3, "{as_it_was}");
    assert!(chain(&verifier, &as_it_was).contains("cv=b'pass'"), "{}", chain(&verifier, &as_it_was));

    // Once by reference to the forwarder that converts; and once through another, whose own set does not fit what was converted any more.
    for (subject, to, sets) in [("once", "sales@f.example", 1), ("twice", "sales@g.example", 2)] {
        let converted = copy_of("8bit", subject, to, "Gr\u{fc}\u{df}e");
        let shown = converted.replace("\n\t", " ");
        assert!(converted.contains("Gr=C3=BC=C3=9Fe"), "{converted}");
        assert_eq!(converted.matches("\nARC-").count(), 3 * sets, "{converted}");
        let word = if sets == 1 { "none" } else { "pass" };
        assert!(shown.contains(&format!("\nARC-Seal: i={sets}; a=rsa-sha256; cv={word}; d=f.example;")), "{shown}");
        assert!(!shown.contains("ARC set dropped"), "{shown}");
        let said = chain(&verifier, &converted);
        assert!(said.contains("cv=b'pass'"), "{said}\n{converted}");
        let damaged = chain(&verifier, &converted.replace("Gr=C3=BC=C3=9Fe", "Gr=C3=BC=C3=9Fe!"));
        assert!(damaged.contains("cv=b'fail'"), "{damaged}");
    }
}
