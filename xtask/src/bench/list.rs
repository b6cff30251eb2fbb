//! A list: one message of 100 KiB to 10,000 recipients in 2,000 domains, in one transaction, as list software hands it in.
//!
//! By reference, and from Postfix to Postfix; to a receiver that hosts all domains, and to twenty that share them. What
//! must not grow with the number of recipients is held against the same message to 100 recipients in 20 domains, each on
//! a server of its own: memory is the highest resident size of the origin's process, store what lies in its folder at
//! most. Connections are those that the receivers have accepted.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::peers::{MailServer, Site};
use testbed::{Host, Record, Sandbox, wait};

use super::Effort;
use super::domains::{self, Origin, Receiver};
use super::figures::{Figure, Goal};
use super::under_test::{UnderTest, program, wire_octets};

const SIZE: usize = 100 << 10;
const EACH: usize = 5;
const LIMIT: Duration = Duration::from_secs(300);
/// How often is looked: each look has its price.
const LOOK: Duration = Duration::from_millis(250);

/// Who gets the message.
#[derive(Debug, Clone, Copy)]
struct List {
    domains: usize,
    receivers: usize,
}

const SHORT: List = List { domains: 20, receivers: 1 };
const LONG: List = List { domains: 2000, receivers: 1 };
const SPREAD: List = List { domains: 2000, receivers: 20 };

/// What it took.
struct Taken {
    seconds: f64,
    /// Until a message that somebody else handed in right behind it was in its mailbox.
    other: f64,
    connections: f64,
    wire: f64,
    memory: f64,
    receiver: f64,
    store: f64,
}

/// One round, or the whole would take too long.
pub(super) fn run(_: Effort) -> Result<Vec<Figure>> {
    let theirs = Peers::start(LONG)?.send()?;
    let [short, long, spread] = [SHORT, LONG, SPREAD].map(|list| Ours::start(list)?.send());
    Ok(figures(&short?, &long?, &spread?, &theirs))
}

fn figures(short: &Taken, long: &Taken, spread: &Taken, theirs: &Taken) -> Vec<Figure> {
    let beside = |name: &str, unit, goal, ours, peers| {
        let mut figure = Figure::new(name, unit, goal);
        figure.round(ours, peers);
        figure
    };
    let alone = |name: &str, unit, goal, ours| {
        let mut figure = Figure::new(name, unit, goal);
        figure.alone(ours);
        figure
    };
    let more = ((LONG.domains - SHORT.domains) * EACH) as f64;
    let each = spread.connections / SPREAD.receivers as f64;
    let stored = (long.store - short.store) * 1_048_576.0 / more;
    vec![
        beside("seconds", "s", Goal::RatioAtMost(1.0), long.seconds, theirs.seconds),
        beside("connections", "", Goal::AtMost(20.0), long.connections, theirs.connections),
        beside("octets on the wire", "MiB", Goal::RatioAtMost(0.1), long.wire, theirs.wire),
        beside("memory of the origin, peer: 100", "MiB", Goal::RatioAtMost(2.0), long.memory, short.memory),
        beside("memory of the receiver, peer: 100", "MiB", Goal::Told, long.receiver, short.receiver),
        beside("store of the origin, peer: 100", "MiB", Goal::Told, long.store, short.store),
        alone("stored for each recipient more", "octets", Goal::AtMost(4096.0), stored),
        alone("a message of somebody else behind it", "s", Goal::AtMost(2.0), long.other),
        alone("20 receivers: seconds", "s", Goal::Told, spread.seconds),
        alone("20 receivers: connections to each", "", Goal::AtMost(20.0), each),
    ]
}

impl List {
    /// The domains of one receiver.
    fn domains_of(self, receiver: usize) -> Vec<String> {
        (0..self.domains).skip(receiver).step_by(self.receivers).map(|number| format!("d{number}.example")).collect()
    }

    fn recipients(self) -> Vec<String> {
        let of_domain = |number| (0..EACH).map(move |user| format!("user{user}@d{number}.example"));
        (0..self.domains).flat_map(of_domain).collect()
    }
}

struct Ours {
    list: List,
    origin: Origin,
    receivers: Vec<UnderTest>,
    other: UnderTest,
    _sandbox: Sandbox,
}

impl Ours {
    fn start(list: List) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let host = |number: usize| sandbox.host(&format!("mx{number}.b.example"), &[]);
        let hosts = (0..list.receivers).map(host).collect::<Result<Vec<_>>>()?;
        let other = sandbox.host("mx.other.example", &[])?;
        let mut names: Vec<_> = hosts.iter().enumerate().map(|(n, host)| (list.domains_of(n), host.ipv4())).collect();
        names.push((vec!["other.example".to_owned()], other.ipv4()));
        let origin = domains::origin_with(&sandbox, &[], &names, "[limits]\nrecipients = 10000\n")?;
        let start = |host, domains: &[String], deliver| {
            let told = Receiver { domains, deliver, pauses_retrieval: false, has_budgets: false };
            domains::receiver(&sandbox, host, told)
        };
        let receivers = hosts.into_iter().zip(&names).map(|(host, (domains, _))| start(host, domains, "discard"));
        let receivers = receivers.collect::<Result<Vec<_>>>()?;
        let other = start(other, &["other.example".to_owned()], "maildir")?;
        Ok(Self { list, origin, receivers, other, _sandbox: sandbox })
    }

    fn send(&self) -> Result<Taken> {
        let server = &self.origin.server;
        let hosts: Vec<&Host> = self.receivers.iter().map(UnderTest::host).collect();
        let (accepted, wire) = (total(&hosts, connections)?, total(&hosts, wire_octets)?);
        let start = Instant::now();
        hand_in(server.host(), "alice@a.example", &self.list.recipients(), &domains::message(1, SIZE))?;
        hand_in(server.host(), "bob@c.example", &["bob@other.example".to_owned()], &domains::message(2, 2000))?;
        let (other, seconds, store) = self.watch(start)?;
        Ok(Taken {
            seconds,
            other,
            store,
            connections: (total(&hosts, connections)? - accepted) as f64,
            wire: mebibytes(total(&hosts, wire_octets)? - wire),
            memory: server.peak_mebibytes()?,
            receiver: self.receivers[0].peak_mebibytes()?,
        })
    }

    /// Waits until the other message has come and the list is done: when that was, and the most that was stored.
    fn watch(&self, start: Instant) -> Result<(f64, f64, f64)> {
        let server = &self.origin.server;
        let mailbox = self.other.host().room().join("mail/other.example/bob/new");
        let (restante, config) = (program("restante")?, server.config());
        let argv = [restante.as_str(), "--config", &config, "queue", "list", "--json", "--limit", "1"];
        let (mut other, mut store) = (None, 0);
        let seconds = wait::until("the list to be delivered", LIMIT, || {
            if other.is_none() && fs::read_dir(&mailbox).is_ok_and(|mut entries| entries.next().is_some()) {
                other = Some(start.elapsed().as_secs_f64());
            }
            store = store.max(octets_in(&server.host().room().join("data")));
            std::thread::sleep(LOOK);
            other?;
            let list: Value = serde_json::from_str(&server.host().run(&argv).ok()?).ok()?;
            list["entries"].as_array()?.is_empty().then(|| start.elapsed().as_secs_f64())
        });
        let seconds = seconds.with_context(|| server.log())?;
        // The other message went by value: nobody signs for its sender.
        self.origin.wait_until_delivered(self.list.domains * EACH)?;
        Ok((other.unwrap_or(f64::NAN), seconds, mebibytes(store)))
    }
}

struct Peers {
    list: List,
    sender: MailServer,
    receiver: MailServer,
    _sandbox: Sandbox,
}

impl Peers {
    fn start(list: List) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let exchanger = "mx.b.example";
        let domains = list.domains_of(0);
        let records: Vec<Record> = domains.into_iter().map(|name| Record::Mx(name, 10, exchanger.to_owned())).collect();
        let site = |name: &str| {
            Site::new(name, &[]).stock_timers().line("in_flow_delay = 0").line("smtpd_recipient_limit = 10000")
        };
        let receiver =
            site(exchanger).line("virtual_mailbox_domains = static:all").line("virtual_transport = discard:");
        let receiver = MailServer::postfix(&sandbox, &receiver.line("virtual_mailbox_maps = static:any/"))?;
        sandbox.publish(&records)?;
        let sender = MailServer::postfix(&sandbox, &site("mx.a.example"))?;
        Ok(Self { list, sender, receiver, _sandbox: sandbox })
    }

    fn send(&self) -> Result<Taken> {
        let host = self.receiver.host();
        let (accepted, wire) = (connections(host)?, wire_octets(host)?);
        let start = Instant::now();
        let recipients = self.list.recipients();
        hand_in(self.sender.host(), "alice@a.example", &recipients, &domains::message(1, SIZE))?;
        let seconds = wait::until("all deliveries of Postfix", LIMIT, || {
            std::thread::sleep(LOOK);
            let done = self.receiver.log().matches("relay=none, ").count() >= recipients.len();
            done.then(|| start.elapsed().as_secs_f64())
        })?;
        let connections = (connections(host)? - accepted) as f64;
        let wire = mebibytes(wire_octets(host)? - wire);
        let [other, memory, receiver, store] = [f64::NAN; 4];
        Ok(Taken { seconds, other, connections, wire, memory, receiver, store })
    }
}

/// Hands a message (LF line ends) in at port 25 of the host itself, all recipients in one transaction.
fn hand_in(host: &Host, from: &str, to: &[String], message: &[u8]) -> Result<()> {
    let stream = host.connect(([127, 0, 0, 1], 25))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut client = Client { reader: BufReader::new(stream.try_clone()?), stream };
    client.expect(1, "220")?;
    client.say("EHLO list.a.example\r\n", 1, "250")?;
    client.say(&format!("MAIL FROM:<{from}>\r\n"), 1, "250")?;
    for group in to.chunks(100) {
        let lines: String = group.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
        client.say(&lines, group.len(), "250")?;
    }
    client.say("DATA\r\n", 1, "354")?;
    let text = String::from_utf8_lossy(message).replace('\n', "\r\n");
    client.say(&format!("{text}.\r\n"), 1, "250")?;
    client.say("QUIT\r\n", 1, "221")
}

struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    fn say(&mut self, text: &str, replies: usize, code: &str) -> Result<()> {
        self.stream.write_all(text.as_bytes())?;
        self.expect(replies, code)
    }

    fn expect(&mut self, replies: usize, code: &str) -> Result<()> {
        for _ in 0..replies {
            let mut line = String::new();
            while line.as_bytes().get(3) != Some(&b' ') {
                line.clear();
                ensure!(self.reader.read_line(&mut line)? > 0, "the server has closed");
                ensure!(line.starts_with(code), "the server said {line}");
            }
        }
        Ok(())
    }
}

/// Connections that a host has accepted since it is there.
fn connections(host: &Host) -> Result<u64> {
    let table = host.run(&["cat", "/proc/net/snmp"])?;
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = lines.next().zip(lines.next()).context("no TCP in /proc/net/snmp")?;
    let mut fields = names.split(' ').zip(values.split(' '));
    let (_, count) = fields.find(|(name, _)| *name == "PassiveOpens").context("no count of connections")?;
    Ok(count.parse()?)
}

fn total(hosts: &[&Host], of: impl Fn(&Host) -> Result<u64>) -> Result<u64> {
    hosts.iter().map(|host| of(host)).sum()
}

/// Octets of all files below a folder; what vanishes meanwhile counts as nothing.
fn octets_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => octets_in(&entry.path()),
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => 0,
    };
    entries.flatten().map(of_entry).sum()
}

fn mebibytes(octets: u64) -> f64 {
    octets as f64 / 1_048_576.0
}
