//! What a thousand hostile offers a second leave of a receiver for everybody else: users who submit, and a peer that offers.
//!
//! Rounds without and with the flood alternate. It comes from twelve networks that are new in each round, so that no budget of a network is ever
//! spent and every offer is looked at as closely as the first; budgets are as they come. The flood's own program runs with low
//! priority: it stands for other machines. A submission is all of a session, TCP, TLS, password and reply, timed from when it was to begin.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use testbed::{Host, Sandbox};

use super::Effort;
use super::domains::{certify, common};
use super::figures::{Figure, Goal};
use super::under_test::{UnderTest, processor_times, program};

/// Hostile offers a second.
const FLOOD: &str = "1000";

/// Networks that it comes from, in each round others.
const NETWORKS: u8 = 12;

/// Submissions a second.
const SUBMISSIONS: &str = "40";

/// Offers a second of the peer that is welcome: below what a stranger may.
const OFFERS: &str = "5";

/// Octets of a submission.
const SIZE: &str = "4096";

const PASSWORD: &str = "correct horse battery staple";

/// What happened in one phase to those who are welcome.
#[derive(Debug, Clone, Copy)]
struct Times {
    failed: f64,
    median: f64,
    p99: f64,
}

/// What became of a flood.
struct Flood {
    answered: f64,
    accepted: f64,
}

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>> {
    let seconds = effort.amount(20);
    let world = World::start()?;
    let mut p99 = Figure::new("99th percentile of submissions, peer: idle", "ms", Goal::RatioAtMost(2.0));
    let mut median = Figure::new("median of submissions, peer: idle", "ms", Goal::Told);
    let mut offers = Figure::new("99th percentile of a good peer's offers, peer: idle", "ms", Goal::Told);
    let mut failed = Figure::new("submissions and good offers that failed", "", Goal::AtMost(0.0));
    let mut rate = Figure::new("hostile offers answered", "/s", Goal::Told);
    let mut accepted = Figure::new("hostile offers accepted", "", Goal::AtMost(0.0));
    let mut cost = Figure::new("processor time a hostile offer", "ms", Goal::Told);
    // The first makes the receiver look keys up.
    world.phase(2, None)?;
    for round in 0..effort.rounds.min(5) {
        let [before] = processor_times([&world.receiver])?;
        let idle = world.phase(seconds, None)?;
        let [between] = processor_times([&world.receiver])?;
        let hit = world.phase(seconds, Some(u8::try_from(round)?))?;
        let [after] = processor_times([&world.receiver])?;
        let flood = hit.flood.context("there was a flood")?;
        p99.round(hit.submissions.p99, idle.submissions.p99);
        median.round(hit.submissions.median, idle.submissions.median);
        offers.round(hit.offers.p99, idle.offers.p99);
        failed.alone(hit.submissions.failed + hit.offers.failed + idle.submissions.failed + idle.offers.failed);
        rate.alone(flood.answered / seconds as f64);
        accepted.alone(flood.accepted);
        let more = (after - between).saturating_sub(between - before);
        cost.alone(more.as_secs_f64() * 1000.0 / flood.answered.max(1.0));
    }
    Ok(vec![p99, median, offers, failed, rate, accepted, cost])
}

/// One phase.
struct Phase {
    submissions: Times,
    offers: Times,
    flood: Option<Flood>,
}

struct World {
    receiver: UnderTest,
    _origin: UnderTest,
    /// Where those are who are welcome.
    load: Host,
    /// Where those are who are not.
    bots: Host,
    good_key: String,
    spent_key: String,
    _sandbox: Sandbox,
}

impl World {
    fn start() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let (load, bots) = (sandbox.host("load.example", &[])?, sandbox.host("bots.example", &[])?);
        let (origin, receiver) = (sandbox.host("mx.a.example", &[])?, sandbox.host("mx.b.example", &[])?);
        for network in 0..u8::MAX {
            bots.run(&["ip", "address", "add", &format!("{}/32", address(network)), "dev", "eth0"])?;
        }
        receiver.run(&["ip", "route", "add", "10.66.0.0/16", "dev", "eth0"])?;
        let (good_key, spent_key) = publish(&sandbox, &origin, &receiver)?;
        let origin = start_origin(&sandbox, origin, [("a.example", &good_key), ("spent.example", &spent_key)])?;
        let receiver = start_receiver(&sandbox, receiver)?;
        let world = Self { receiver, _origin: origin, load, bots, good_key, spent_key, _sandbox: sandbox };
        world.spend()?;
        Ok(world)
    }

    fn at(&self, port: u16) -> String {
        format!("{}:{port}", self.receiver.host().ipv4())
    }

    /// A domain with good keys uses up what a stranger may have outstanding, with objects of the largest size that is taken.
    fn spend(&self) -> Result<()> {
        let (tool, at) = (program("examples/hostile_load")?, self.at(25));
        let octets = "50000000";
        self.load.run(&[&tool, "spend", &at, &self.spent_key, "spent.example", "b.example", octets]).map(drop)
    }

    fn phase(&self, seconds: usize, round: Option<u8>) -> Result<Phase> {
        let seconds = seconds.to_string();
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| round.map(|round| self.flood(round, &seconds)).transpose());
            let offers = scope.spawn(|| self.offers(&seconds));
            let submissions = self.submissions(&seconds)?;
            let ended = |_| anyhow::anyhow!("a load has panicked");
            let (offers, flood) = (offers.join().map_err(ended)??, flood.join().map_err(ended)??);
            Ok(Phase { submissions, offers, flood })
        })
    }

    fn submissions(&self, seconds: &str) -> Result<Times> {
        let (tool, at) = (program("examples/hostile_load")?, self.at(587));
        let from = ["alice@b.example", PASSWORD, "alice@b.example"];
        let argv =
            [tool.as_str(), "submit", &at, from[0], from[1], from[2], "bob@b.example", SIZE, SUBMISSIONS, seconds];
        times(&self.load.run(&argv)?)
    }

    fn offers(&self, seconds: &str) -> Result<Times> {
        let (tool, at) = (program("examples/hostile_load")?, self.at(25));
        times(&self.load.run(&[&tool, "offer", &at, &self.good_key, "a.example", "b.example", OFFERS, seconds])?)
    }

    fn flood(&self, round: u8, seconds: &str) -> Result<Flood> {
        let (tool, at) = (program("examples/hostile_load")?, self.at(25));
        let from: Vec<String> = (0..NETWORKS).map(|n| address(round * NETWORKS + n).to_string()).collect();
        let from = from.join(",");
        let who = [self.spent_key.as_str(), "spent.example", "b.example", FLOOD, seconds];
        let argv = [&["nice", "-n", "10", &tool, "attack", &at, "a.example"], &who[..], &[&from]].concat();
        let printed = self.bots.run(&argv)?;
        let numbers = numbers(&printed)?;
        Ok(Flood { answered: numbers[0], accepted: numbers[1] })
    }
}

/// An address of the flood, each in a network of its own.
fn address(network: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 66, network, 7)
}

fn times(printed: &str) -> Result<Times> {
    let numbers = numbers(printed)?;
    let [count, failed, median, p99] = numbers[..] else { anyhow::bail!("four numbers: {printed}") };
    anyhow::ensure!(count > 0.0, "nothing has come through");
    Ok(Times { failed, median, p99 })
}

fn numbers(printed: &str) -> Result<Vec<f64>> {
    printed.split_whitespace().map(|word| word.parse().with_context(|| printed.to_owned())).collect()
}

/// Keys and zone. The files with the keys of the good domain and of the spent one.
fn publish(sandbox: &Sandbox, origin: &Host, receiver: &Host) -> Result<(String, String)> {
    let restante = program("restante")?;
    let mut zone = String::from("$ORIGIN example.\n$TTL 300\n");
    let mut key = |domain: &str| -> Result<String> {
        let file = origin.room().join(format!("{domain}.pem")).display().to_string();
        let printed = origin.run(&[&restante, "keys", "generate", "--domain", domain, "--out", &file])?;
        for line in printed.lines().filter(|line| line.contains(" IN TXT ")) {
            writeln!(zone, "{line}")?;
        }
        writeln!(zone, "{domain}. IN MX 10 mx.a\ntbr.{domain}. IN A {}", origin.ipv4())?;
        Ok(file)
    };
    let keys = (key("a.example")?, key("spent.example")?);
    writeln!(zone, "mx.a IN A {}\nb IN MX 10 mx.b\nmx.b IN A {}", origin.ipv4(), receiver.ipv4())?;
    fs::write(sandbox.folder().join("zone"), zone)?;
    Ok(keys)
}

/// Serves the documents of both domains.
fn start_origin(sandbox: &Sandbox, host: Host, domains: [(&str, &String); 2]) -> Result<UnderTest> {
    certify(sandbox, &host, &["mx.a.example", "tbr.a.example", "tbr.spent.example"])?;
    let mut text = common(sandbox, &host);
    for (domain, key) in domains {
        writeln!(text, "[[domain]]\nname = \"{domain}\"\nrecipients = \"any\"\ndeliver = \"discard\"")?;
        writeln!(text, "[domain.tbr]\nselector = \"k1\"\nkey = \"{key}\"\nrepository = \"tbr.{domain}\"")?;
    }
    UnderTest::start(host, &text, 443)
}

fn start_receiver(sandbox: &Sandbox, host: Host) -> Result<UnderTest> {
    certify(sandbox, &host, &["mx.b.example"])?;
    let mut text = common(sandbox, &host);
    // One address and one account stand for many.
    text.push_str("[[listener]]\nkind = \"submission\"\naddress = \"0.0.0.0:587\"\nmax_connections_per_ip = 1000\n");
    text.push_str("[[domain]]\nname = \"b.example\"\nrecipients = \"any\"\ndeliver = \"discard\"\n");
    // Nothing is fetched: what was accepted stays outstanding.
    text.push_str("[transfer]\npause_retrieval = true\n");
    for limit in ["messages_per_hour", "messages_per_day", "recipients_per_hour", "recipients_per_day"] {
        let field = if limit == "messages_per_hour" { "[submission]\n" } else { "" };
        writeln!(text, "{field}{limit} = 1000000")?;
    }
    let server = UnderTest::start(host, &text, 587)?;
    let (restante, config) = (program("restante")?, server.config());
    let add = [restante.as_str(), "--config", &config, "accounts", "add", "alice@b.example"];
    server.host().run_with_input(&add, format!("{PASSWORD}\n").as_bytes())?;
    Ok(server)
}
