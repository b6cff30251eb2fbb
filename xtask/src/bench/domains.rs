//! Two Restante servers on a network of their own: `a.example` sends by reference, the other receives for any number
//! of domains. All names are in one zone file, all certificates from the sandbox's authority.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use testbed::{Host, Sandbox, wait};

use super::under_test::{UnderTest, program};

/// Longest that a transfer may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The sending server; `a.example` is its domain.
pub(super) struct Origin {
    pub(super) server: UnderTest,
    /// Its certificate's and repository's name.
    pub(super) repository: &'static str,
    /// The file with its signing key.
    pub(super) key: String,
}

/// What the receiving server is told beside names, certificates and listeners.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receiver<'a> {
    pub(super) domains: &'a [String],
    /// The field `deliver` of all domains.
    pub(super) deliver: &'a str,
    pub(super) pauses_retrieval: bool,
    /// What one sender may take of it is limited, as by default.
    pub(super) has_budgets: bool,
}

/// Starts the origin. It sends to `hosts`: the receiving host of each domain, by its address.
pub(super) fn origin(
    sandbox: &Sandbox,
    by_value_domains: &[&str],
    hosts: &[(Vec<String>, Ipv4Addr)],
) -> Result<Origin> {
    origin_with(sandbox, by_value_domains, hosts, "")
}

/// The same, with more of a configuration.
pub(super) fn origin_with(
    sandbox: &Sandbox,
    by_value_domains: &[&str],
    hosts: &[(Vec<String>, Ipv4Addr)],
    more: &str,
) -> Result<Origin> {
    let host = sandbox.host("mx.a.example", &[])?;
    let repository = "tbr.a.example";
    certify(sandbox, &host, &["mx.a.example", repository])?;
    let key = host.room().join("k1.pem").display().to_string();
    let restante = program("restante")?;
    let printed = host.run(&[&restante, "keys", "generate", "--domain", "a.example", "--out", &key])?;
    let mut zone = String::from("$ORIGIN example.\n$TTL 300\n");
    printed.lines().filter(|line| line.contains(" IN TXT ")).for_each(|line| {
        zone.push_str(line);
        zone.push('\n');
    });
    writeln!(zone, "a IN MX 10 mx.a\nmx.a IN A {0}\n{repository}. IN A {0}", host.ipv4())?;
    for (number, (domains, address)) in hosts.iter().enumerate() {
        writeln!(zone, "host{number} IN A {address}")?;
        for domain in domains {
            writeln!(zone, "{domain}. IN MX 10 host{number}")?;
        }
    }
    fs::write(sandbox.folder().join("zone"), zone)?;
    let mut text = common(sandbox, &host);
    text.push_str("[[domain]]\nname = \"a.example\"\nrecipients = \"any\"\ndeliver = \"discard\"\n");
    writeln!(text, "[domain.tbr]\nselector = \"k1\"\nkey = \"{key}\"\nrepository = \"{repository}\"")?;
    text.push_str("[transfer]\nby_value_below = 0\n");
    for domain in by_value_domains {
        writeln!(text, "[[transfer.peer]]\ndomain = \"{domain}\"\npolicy = \"never\"")?;
    }
    text.push_str(more);
    Ok(Origin { server: UnderTest::start(host, &text, 443)?, repository, key })
}

/// Starts the receiver on `host`.
pub(super) fn receiver(sandbox: &Sandbox, host: Host, receiver: Receiver<'_>) -> Result<UnderTest> {
    certify(sandbox, &host, &[host.name()])?;
    let mut text = common(sandbox, &host);
    for domain in receiver.domains {
        writeln!(text, "[[domain]]\nname = \"{domain}\"\nrecipients = \"any\"\ndeliver = \"{}\"", receiver.deliver)?;
        if receiver.deliver == "maildir" {
            writeln!(text, "maildir = \"{}/mail/{{domain}}/{{user}}\"", host.room().display())?;
        }
    }
    writeln!(text, "[transfer]\npause_retrieval = {}", receiver.pauses_retrieval)?;
    writeln!(text, "[budgets]\nenabled = {}", receiver.has_budgets)?;
    UnderTest::start(host, &text, 25)
}

pub(super) fn certify(sandbox: &Sandbox, host: &Host, names: &[&str]) -> Result<()> {
    let identity = sandbox.ca().issue(names)?;
    fs::write(host.room().join("tls/cert.pem"), identity.certificate)?;
    let key = host.room().join("tls/key.pem");
    fs::write(&key, identity.key)?;
    host.run(&["chmod", "600", &key.display().to_string()]).map(|_| ())
}

pub(super) fn common(sandbox: &Sandbox, host: &Host) -> String {
    let (room, zone, ca) = (host.room().display(), sandbox.folder().join("zone"), sandbox.ca().certificate().display());
    format!(
        r#"relay_from = ["127.0.0.0/8"]

[resolver]
zone_file = "{zone}"

[outgoing]
allow_private_addresses = true
ca_file = "{ca}"

[[certificate]]
cert = "{room}/tls/cert.pem"
key = "{room}/tls/key.pem"

[[listener]]
kind = "relay"
address = "0.0.0.0:25"
max_connections_per_ip = 200

[[listener]]
kind = "repository"
address = "0.0.0.0:443"

"#,
        zone = zone.display(),
    )
}

impl Origin {
    /// Hands in a message, through the admin socket as any local program would.
    pub(super) fn send(&self, to: &[&str], message: &[u8]) -> Result<()> {
        let (restante, config) = (program("restante")?, self.server.config());
        let mut argv = vec![restante.as_str(), "--config", &config, "send", "-i", "-f", "alice@a.example"];
        argv.extend_from_slice(to);
        self.server.host().run_with_input(&argv, message).map(|_| ())
    }

    /// Waits until the origin knows of this many recipients, in all, that they were delivered to.
    pub(super) fn wait_until_delivered(&self, count: usize) -> Result<()> {
        let (restante, config) = (program("restante")?, self.server.config());
        let argv =
            [restante.as_str(), "--config", &config, "queue", "list", "--finished", "--json", "--limit", "10000"];
        wait::until("all receipts", LIMIT, || {
            let list: Value = serde_json::from_str(&self.server.host().run(&argv).ok()?).ok()?;
            let recipients = list["entries"].as_array()?.iter().flat_map(|entry| entry["recipients"].as_array());
            (recipients.flatten().filter(|to| to["state"] == "delivered").count() >= count).then_some(())
        })
        .with_context(|| self.server.log())
    }
}

/// A message of about `size` octets that has not been sent before, with LF line ends.
pub(super) fn message(number: usize, size: usize) -> Vec<u8> {
    let mut message = format!("From: alice@a.example\nTo: bob@b.example\nSubject: number {number}\n");
    message.push_str("Date: Tue, 24 Nov 2026 12:00:00 +0000\nMessage-ID: <");
    message.push_str(&format!("{number}.{}@a.example>\n\n", std::process::id()));
    let lines = size.saturating_sub(message.len()) / 78;
    let mut letters = base64_letters(number);
    for _ in 0..lines {
        message.extend(letters.by_ref().take(76));
        message.push('\n');
    }
    message.into_bytes()
}

/// What an attachment looks like that was compressed before it was attached: letters of base64 by chance.
fn base64_letters(seed: usize) -> impl Iterator<Item = char> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(ALPHABET[(state >> 58) as usize])
    })
}
