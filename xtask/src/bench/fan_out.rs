//! 10 MiB to one recipient in each of 50 domains that one receiver hosts, which discards them: by reference, and from Postfix to
//! Postfix, both in TLS.
//!
//! The clock runs from handing the message in until the origin has all receipts, or all deliveries are in the
//! receiving Postfix's log. Octets are counted at the receiver's network interface, both ways.

use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::peers::{MailServer, Site};
use testbed::{Host, Sandbox, wait};

use super::Effort;
use super::domains::{self, Origin, Receiver};
use super::figures::{Figure, Goal};
use super::under_test::{UnderTest, disk_writes, processor_time, wire_octets};

const SIZE: usize = 10 << 20;
const DOMAINS: usize = 50;
const LIMIT: Duration = Duration::from_secs(120);

/// What one round of one side took.
struct Taken {
    seconds: f64,
    wire: f64,
    disk: f64,
    processor: f64,
}

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>> {
    let ours = Ours::start()?;
    let peers = Peers::start()?;
    let mut wall = Figure::new("seconds", "s", Goal::RatioAtMost(0.5));
    let mut wire = Figure::new("octets on the wire", "MiB", Goal::RatioAtMost(0.05));
    let mut disk = Figure::new("disk writes of the receiver", "MiB", Goal::RatioAtMost(0.05));
    let mut processor = Figure::new("processor time of the receiver", "s", Goal::Told);
    let mut retrievals = Figure::new("objects' worth of octets on the wire", "", Goal::AtMost(1.5));
    for number in 0..effort.rounds {
        let theirs = peers.send(number)?;
        let taken = ours.send(number)?;
        wall.round(taken.seconds, theirs.seconds);
        wire.round(taken.wire, theirs.wire);
        disk.round(taken.disk, theirs.disk);
        processor.round(taken.processor, theirs.processor);
        retrievals.alone(taken.wire * 1_048_576.0 / SIZE as f64);
    }
    Ok(vec![wall, wire, disk, processor, retrievals])
}

fn domain_names() -> Vec<String> {
    (1..=DOMAINS).map(|number| format!("d{number}.example")).collect()
}

fn recipients() -> Vec<String> {
    domain_names().iter().map(|domain| format!("bob@{domain}")).collect()
}

fn measure(receiver: &Host, work: impl FnOnce() -> Result<()>) -> Result<Taken> {
    let (wire, disk) = (wire_octets(receiver)?, disk_writes(receiver)?);
    let (seconds, processor) = processor_time(receiver, || {
        let start = Instant::now();
        work().map(|()| start.elapsed().as_secs_f64())
    })?;
    let mebibytes = |octets: u64| octets as f64 / 1_048_576.0;
    let wire = mebibytes(wire_octets(receiver)? - wire);
    let disk = mebibytes(disk_writes(receiver)? - disk);
    Ok(Taken { seconds, wire, disk, processor: processor.as_secs_f64() })
}

struct Ours {
    origin: Origin,
    receiver: UnderTest,
    _sandbox: Sandbox,
}

impl Ours {
    fn start() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let host = sandbox.host("mx.b.example", &[])?;
        let origin = domains::origin(&sandbox, &[], &[(domain_names(), host.ipv4())])?;
        let told =
            Receiver { domains: &domain_names(), deliver: "discard", pauses_retrieval: false, has_budgets: false };
        Ok(Self { origin, receiver: domains::receiver(&sandbox, host, told)?, _sandbox: sandbox })
    }

    fn send(&self, number: usize) -> Result<Taken> {
        let (to, message) = (recipients(), domains::message(number, SIZE));
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        measure(self.receiver.host(), || {
            self.origin.send(&to, &message)?;
            self.origin.wait_until_delivered((number + 1) * DOMAINS)
        })
    }
}

struct Peers {
    sender: MailServer,
    receiver: MailServer,
    _sandbox: Sandbox,
}

impl Peers {
    fn start() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let domains = domain_names();
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        let receiver = site("mx.b.example", &domains).line("virtual_transport = discard:");
        let receiver = receiver.line("virtual_mailbox_maps = static:any/");
        let receiver = MailServer::postfix(&sandbox, &receiver)?;
        let sender = MailServer::postfix(&sandbox, &site("mx.a.example", &[]))?;
        Ok(Self { sender, receiver, _sandbox: sandbox })
    }

    fn send(&self, number: usize) -> Result<Taken> {
        let (to, message) = (recipients(), domains::message(number, SIZE));
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let before = self.discarded();
        measure(self.receiver.host(), || {
            self.sender.inject("alice@a.example", &to, &message)?;
            wait::until("all deliveries of Postfix", LIMIT, || (self.discarded() >= before + DOMAINS).then_some(()))
        })
    }

    fn discarded(&self) -> usize {
        self.receiver.log().matches("relay=none, ").count()
    }
}

fn site(name: &str, domains: &[&str]) -> Site {
    Site::new(name, domains).stock_timers().line("in_flow_delay = 0").line("message_size_limit = 50000000")
}
