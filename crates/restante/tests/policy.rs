//! What strangers can make a server believe: spoofed mail is refused with a plain sentence, genuine mail says what it is, in both
//! modes, and a genuine message replayed to strangers is no authenticated mail.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;

use testbed::peers::restante::{object, references};
use testbed::peers::{Restante, RestanteConfig, clients};
use testbed::samples::crlf;
use testbed::{Host, Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
const SENTENCE: &str =
    "neither SPF nor DKIM shows that this is from victim.example, which asks to refuse such mail (DMARC)";

fn server(sandbox: &Sandbox, domain: &str) -> Restante {
    let config = RestanteConfig::new(PROGRAM, &format!("mx.{domain}"), &[domain]).users(&["alice", "bob"]);
    Restante::start(sandbox, config).unwrap()
}

/// A domain that lets one host send its mail, and asks to refuse all other.
fn publish_victim(sandbox: &Sandbox) {
    let spf = Record::Txt("victim.example".to_owned(), "v=spf1 a:mx.victim.example -all".to_owned());
    let dmarc = Record::Txt("_dmarc.victim.example".to_owned(), "v=DMARC1; p=reject".to_owned());
    sandbox.publish(&[spf, dmarc]).unwrap();
}

/// Sends with swaks; the whole conversation.
fn send(host: &Host, envelope: &str, header: &[&str], body: &str) -> String {
    let mut arguments = vec!["--server", "mx.b.example", "--to", "bob@b.example", "--from", envelope, "--body", body];
    header.iter().for_each(|field| arguments.extend(["--header", field]));
    let output = clients::swaks(host, &arguments).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The topmost Authentication-Results field, unfolded.
fn results(copy: &[u8]) -> String {
    let text = String::from_utf8_lossy(copy).replace("\r\n\t", " ");
    let field = text.lines().find(|line| line.starts_with("Authentication-Results:"));
    field.unwrap_or_else(|| panic!("no results in {text}")).to_owned()
}

#[test]
fn spoofed_mail_is_refused_and_genuine_mail_says_what_it_is() {
    let sandbox = Sandbox::new().unwrap();
    publish_victim(&sandbox);
    let ours = server(&sandbox, "b.example");
    let spoofer = sandbox.host("mx.spoofer.example", &[]).unwrap();
    let genuine = sandbox.host("mx.victim.example", &[]).unwrap();
    let from = "From: The boss <boss@victim.example>";

    // In a domain of its own in the envelope, and in the victim's.
    for envelope in ["x@spoofer.example", "boss@victim.example"] {
        let said = send(&spoofer, envelope, &[from], "pay this");
        assert!(said.contains(&format!("550 5.7.1 {SENTENCE}")), "{said}");
    }
    // A final dot hides no domain, and a domain that nobody can read is nobody's.
    let said = send(&spoofer, "x@spoofer.example", &["From: The boss <boss@victim.example.>"], "pay this");
    assert!(said.contains(&format!("550 5.7.1 {SENTENCE}")), "{said}");
    let said = send(&spoofer, "x@spoofer.example", &["From: The boss <boss@victim..example>"], "pay this");
    assert!(said.contains("550 5.7.1 nobody can say who wrote this: From names no domain that can be read"), "{said}");
    // A second author does not help.
    let said = send(&spoofer, "x@spoofer.example", &["From: x@spoofer.example, boss@victim.example"], "pay this");
    assert!(said.contains("550 5.7.1 "), "{said}");

    let forged = "Authentication-Results: mx.b.example; dmarc=pass header.from=bank.example";
    send(&genuine, "boss@victim.example", &[from, forged], "genuine by value");
    let copy = ours.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let text = String::from_utf8_lossy(&copy).into_owned();
    let found = results(&copy);
    for result in [
        "spf=pass smtp.mailfrom=victim.example",
        "iprev=pass (mx.victim.example) policy.iprev=",
        "dkim=none",
        "dmarc=pass header.from=victim.example",
    ] {
        assert!(found.contains(result), "{result}: {text}");
    }
    assert!(text.contains(&format!("\r\nX-Untrusted-{forged}\r\n")), "{text}");
    assert_eq!(text.matches("\r\nAuthentication-Results: mx.b.example").count(), 1, "{text}");
    assert!(text.contains("genuine by value"), "the only one that came: {text}");
}

#[test]
fn by_reference_a_refusal_comes_after_retrieval_and_the_author_learns_of_it() {
    let sandbox = Sandbox::new().unwrap();
    publish_victim(&sandbox);
    let (origin, receiver) = (server(&sandbox, "a.example"), server(&sandbox, "b.example"));
    let spf = Record::Txt("a.example".to_owned(), "v=spf1 a:mx.a.example -all".to_owned());
    sandbox.publish(&[spf]).unwrap();

    let spoofed = b"From: The boss <boss@victim.example>\nSubject: spoofed\n\npay this\n";
    let id = origin.send("alice@a.example", &["bob@b.example"], spoofed).unwrap();
    origin.wait_for_state(&id, "failed", wait::LONG).unwrap();
    let report = origin.maildir("alice@a.example").wait_for_text("message/delivery-status", wait::LONG).unwrap();
    let report = String::from_utf8_lossy(&report).replace("\r\n ", " ");
    assert!(report.contains("Status: 5.7.1\r\n") && report.contains(SENTENCE), "{report}");

    let genuine = b"From: alice@a.example\nSubject: genuine\n\nby reference\n";
    let id = origin.send("alice@a.example", &["bob@b.example"], genuine).unwrap();
    let sent = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let seen = receiver.trace(&references(&sent)[0]).unwrap().to_string();
    assert!(seen.contains("taken: clean, dmarc=none"), "{seen}");
    let copy = receiver.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let found = results(&copy);
    for result in [
        "tbr=pass header.d=a.example policy.assurance=",
        "policy.aligned=yes",
        "spf=pass smtp.mailfrom=a.example",
        "dmarc=none header.from=a.example",
    ] {
        assert!(found.contains(result), "{result}: {found}");
    }

    // Somebody who has the copy sends it on to others, under the same envelope: it is what it was, and no more than that.
    let stranger = sandbox.host("mx.stranger.example", &[]).unwrap();
    let text = String::from_utf8(copy).unwrap();
    let kept = &text[text.find("TBR-Reference:").unwrap()..];
    let url = "smtp://mx.b.example";
    clients::curl_submit(&stranger, url, "alice@a.example", "alice@b.example", kept.as_bytes(), &[]).unwrap();
    let copy = receiver.maildir("alice@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(copy.ends_with(&crlf(genuine)), "{}", String::from_utf8_lossy(&copy));
    let found = results(&copy);
    assert!(found.contains("tbr=none (object intact) header.d=a.example"), "{found}");
    assert!(!found.contains("tbr=pass"), "{found}");
}

#[test]
fn what_users_submit_is_signed_before_it_is_an_object() {
    let sandbox = Sandbox::new().unwrap();
    let mut keys = String::new();
    for (selector, kind) in [("r1", "rsa"), ("e1", "ed25519")] {
        let file = sandbox.folder().join(format!("{selector}.pem"));
        let path = file.to_str().unwrap();
        let arguments = ["keys", "generate", "--domain", "a.example", "--selector", selector, "--dkim", kind];
        let made = Command::new(PROGRAM).args(arguments).args(["--out", path, "--json"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let text = |field: &str| made["records"][0][field].as_str().unwrap().to_owned();
        sandbox.publish(&[Record::Txt(text("name"), text("text"))]).unwrap();
        keys.push_str(&format!("{selector} = \"{path}\", "));
    }
    let dmarc = Record::Txt("_dmarc.a.example".to_owned(), "v=DMARC1; p=reject".to_owned());
    sandbox.publish(&[dmarc]).unwrap();
    let config = RestanteConfig::new(PROGRAM, "mx.a.example", &["a.example"]).users(&["alice", "bob"]);
    let config = config.with("domain", "dkim", &format!("{{ keys = {{ {keys} }} }}"));
    let _origin = Restante::start(&sandbox, config).unwrap();
    let receiver = server(&sandbox, "b.example");

    let client = sandbox.host("client.example", &[]).unwrap();
    let ca = sandbox.ca().certificate().to_str().unwrap().to_owned();
    let message = b"From: alice@a.example\r\nTo: bob@b.example\r\nSubject: signed here\r\n\r\nx\r\n";
    let options = ["--cacert", &ca, "--user", "alice@a.example:correct horse"];
    let url = "smtps://mx.a.example:465";
    clients::curl_submit(&client, url, "alice@a.example", "bob@b.example", message, &options).unwrap();
    let copy = receiver.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let found = results(&copy);
    for result in [
        "tbr=pass header.d=a.example",
        "dkim=pass header.d=a.example header.s=r1",
        "dkim=pass header.d=a.example header.s=e1",
        "dmarc=pass header.from=a.example",
    ] {
        assert!(found.contains(result), "{result}: {}", String::from_utf8_lossy(&copy));
    }
    assert!(object(&copy).unwrap().starts_with(b"DKIM-Signature: "), "the signatures are part of the object");
}

/// Puts an address on the list `bl.example` (RFC 5782 §2.1, §2.4), as its own servers would.
fn list(sandbox: &Sandbox, address: IpAddr) {
    let labels: Vec<String> = match address {
        IpAddr::V4(v4) => v4.octets().iter().rev().map(ToString::to_string).collect(),
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            nibbles.rev().map(|nibble| format!("{nibble:x}")).collect()
        }
    };
    let listed = Record::Host(format!("{}.bl.example", labels.join(".")), [127, 0, 0, 2].into(), Ipv6Addr::LOCALHOST);
    sandbox.publish(&[listed]).unwrap();
}

/// Whatever address it speaks from.
fn list_host(sandbox: &Sandbox, host: &Host) {
    list(sandbox, host.ipv4().into());
    list(sandbox, host.ipv6().into());
}

#[test]
fn what_an_operator_refuses_by_is_refused_before_content_and_so_are_references() {
    let sandbox = Sandbox::new().unwrap();
    publish_victim(&sandbox);
    let ours = RestanteConfig::new(PROGRAM, "mx.b.example", &["b.example"]).users(&["bob"]);
    let rules = [
        ("block_lists", "[\"bl.example\"]"),
        ("spf_fail", "\"refuse\""),
        ("no_reverse_name", "\"refuse\""),
        ("least_reputation", "-40"),
    ];
    let ours = rules.iter().fold(ours, |config, (field, value)| config.with("policy", field, value));
    let ours = Restante::start(&sandbox, ours).unwrap();
    let [listed, stranger, worn, good] =
        ["mx.listed.example", "mx.stranger.example", "mx.worn.example", "mx.victim.example"]
            .map(|name| sandbox.host(name, &[]).unwrap());
    list_host(&sandbox, &listed);
    sandbox.publish(&[Record::Txt("worn.example".to_owned(), "v=spf1 a:mx.worn.example -all".to_owned())]).unwrap();
    ours.json(&["reputation", "bad", "worn.example"], b"").unwrap();
    stranger.run(&["ip", "address", "add", "192.0.2.251/24", "dev", "eth0"]).unwrap();

    let server = ours.host().ipv4().to_string();
    let say = |host: &Host, from: &str, more: &[&str]| {
        let words = ["--server", &server, "--to", "bob@b.example", "--from", from, "--body", "unwanted"];
        let output = clients::swaks(host, &[&words[..], more].concat()).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let nameless = ["--local-interface", "192.0.2.251"];
    for (host, from, more, reply) in [
        (&listed, "x@listed.example", &[][..], "550 5.7.1 this server's address is listed by bl.example"),
        (
            &stranger,
            "boss@victim.example",
            &[],
            "550 5.7.23 victim.example does not let this server send its mail (SPF)",
        ),
        (
            &stranger,
            "x@stranger.example",
            &nameless,
            "550 5.7.25 this server's address has no name that leads back to it",
        ),
        (&worn, "x@worn.example", &[], "550 5.7.1 mail of this sender has not been welcome here"),
    ] {
        let said = say(host, from, more);
        assert!(said.contains(reply) && !said.contains("-> DATA"), "{reply}: {said}");
    }
    for (host, from) in [(&stranger, "x@stranger.example"), (&good, "boss@victim.example")] {
        let said = say(host, from, &[]);
        assert!(said.contains("-> DATA") && said.contains("250 2.0.0 "), "{said}");
    }
    assert_eq!(ours.maildir("bob@b.example").wait_for(2, wait::LONG).unwrap().len(), 2);

    // By reference: of a domain whose mail was not welcome, signed well, and from a client that is on the list.
    let origin = |domain: &str| {
        let config = RestanteConfig::new(PROGRAM, &format!("mx.{domain}"), &[domain]).users(&["alice"]);
        Restante::start(&sandbox, config.with("transfer", "policy", "\"require\"")).unwrap()
    };
    let (unwelcome, blocked) = (origin("unwelcome.example"), origin("blocked.example"));
    ours.json(&["reputation", "bad", "unwelcome.example"], b"").unwrap();
    list_host(&sandbox, blocked.host());
    for (origin, domain, words) in [
        (&unwelcome, "unwelcome.example", "mail of this sender has not been welcome here"),
        (&blocked, "blocked.example", "listed by bl.example"),
    ] {
        let from = format!("alice@{domain}");
        let message = format!("From: {from}\nSubject: by reference\n\nunwanted\n");
        let id = origin.send(&from, &["bob@b.example"], message.as_bytes()).unwrap();
        let failed = origin.wait_for_state(&id, "failed", wait::LONG).unwrap();
        assert!(failed.to_string().contains(words), "{failed:#}");
    }
    assert_eq!(ours.maildir("bob@b.example").messages().len(), 2);
}

#[test]
fn who_came_onto_a_list_while_his_reference_waited_is_not_fetched_from() {
    let sandbox = Sandbox::new().unwrap();
    let ours = RestanteConfig::new(PROGRAM, "mx.b.example", &["b.example"]).users(&["bob"]);
    let ours = ours.with("policy", "block_lists", "[\"bl.example\"]").with("policy", "stranger_delay", "\"1h\"");
    let ours = Restante::start(&sandbox, ours).unwrap();
    let origin = server(&sandbox, "a.example");
    let send = |subject: &str| {
        let message = format!("From: alice@a.example\nSubject: {subject}\n\nfrom a stranger\n");
        let id = origin.send("alice@a.example", &["bob@b.example"], message.as_bytes()).unwrap();
        let offered = origin.wait_for_step(&id, "offered", wait::LONG).unwrap();
        (id, references(&offered).remove(0))
    };
    let look = || {
        let listed = ours.json(&["queue", "list"], b"").unwrap();
        let entries = listed["entries"].as_array().unwrap().clone();
        entries
            .iter()
            .for_each(|entry| drop(ours.json(&["queue", "retry", entry["id"].as_str().unwrap()], b"").unwrap()));
    };
    let (before, reference) = send("before");
    look();
    origin.wait_for_state(&before, "delivered", wait::LONG).unwrap();
    assert!(ours.trace(&reference).unwrap().to_string().contains("\"retrieved\""));

    let (after, reference) = send("after");
    list_host(&sandbox, origin.host());
    look();
    let failed = origin.wait_for_state(&after, "failed", wait::LONG).unwrap();
    assert!(failed.to_string().contains("listed by bl.example"), "{failed:#}");
    let seen = ours.trace(&reference).unwrap().to_string();
    assert!(seen.contains("refused after it had waited") && !seen.contains("\"retrieved\""), "{seen}");
    assert_eq!(ours.maildir("bob@b.example").messages().len(), 1);
}
