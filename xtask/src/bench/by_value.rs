//! By value through one server: smtp-source → Restante or Postfix → smtp-sink. Both sync to disk before they answer.

use anyhow::Result;
use testbed::peers::{MailServer, Site};
use testbed::{Host, Sandbox};

use super::Effort;
use super::figures::{Figure, Goal};
use super::smtp::{self, Load, SINK_PORT};
use super::under_test::{UnderTest, processor_time};

/// Postfix and Restante, both relaying to the sink on one client host.
struct Relays {
    restante: UnderTest,
    postfix: MailServer,
    client: Host,
    _sandbox: Sandbox,
}

impl Relays {
    fn start() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let client = smtp::host(&sandbox)?;
        let postfix = MailServer::postfix(&sandbox, &postfix_site(&client))?;
        let restante = UnderTest::start(sandbox.host("mx.r.example", &[])?, &configuration(&client), 25)?;
        Ok(Self { restante, postfix, client, _sandbox: sandbox })
    }

    /// One load through a server: messages a second, and processor milliseconds a message.
    fn measure(&self, server: &Host, load: Load) -> Result<(f64, f64)> {
        let (wall, used) = processor_time(server, || smtp::through(&self.client, server, load))?;
        let messages = load.messages as f64;
        Ok((messages / wall.as_secs_f64(), used.as_secs_f64() * 1000.0 / messages))
    }

    fn compare(&self, load: Load, rounds: usize, rate: &mut Figure, cost: &mut Figure) -> Result<()> {
        // The first messages start processes and open connections.
        let first = Load { messages: load.messages.div_ceil(10), ..load };
        self.measure(self.restante.host(), first)?;
        self.measure(self.postfix.host(), first)?;
        for _ in 0..rounds {
            let peers = self.measure(self.postfix.host(), load)?;
            let ours = self.measure(self.restante.host(), load)?;
            rate.round(ours.0, peers.0);
            cost.round(ours.1, peers.1);
        }
        Ok(())
    }
}

/// 4 KiB at 50 connections: many messages on each, then a connection for each message.
pub(super) fn small(effort: Effort) -> Result<Vec<Figure>> {
    let relays = Relays::start()?;
    let load = Load { messages: effort.amount(4000), size: 4096, connections: 50, keeps_connections: true };
    let mut figures = vec![
        Figure::new("messages", "/s", Goal::RatioAtLeast(3.0)),
        Figure::new("processor time a message", "ms", Goal::RatioAtMost(0.25)),
        Figure::new("messages, a connection each", "/s", Goal::RatioAtLeast(3.0)),
        Figure::new("processor time, a connection each", "ms", Goal::RatioAtMost(0.25)),
    ];
    let (kept, each) = figures.split_at_mut(2);
    if let [rate, cost] = kept {
        relays.compare(load, effort.rounds, rate, cost)?;
    }
    if let [rate, cost] = each {
        relays.compare(Load { keeps_connections: false, ..load }, effort.rounds, rate, cost)?;
    }
    Ok(figures)
}

/// 10 MiB at 50 connections.
pub(super) fn large(effort: Effort) -> Result<Vec<Figure>> {
    let relays = Relays::start()?;
    let load = Load { messages: 100, size: 10 << 20, connections: 50, keeps_connections: true };
    let mut rate = Figure::new("messages", "/s", Goal::RatioAtLeast(1.0));
    let mut cost = Figure::new("processor time a message", "ms", Goal::RatioAtMost(0.5));
    let mut memory = Figure::new("peak memory", "MiB", Goal::AtMost(64.0));
    relays.compare(load, effort.rounds.min(3), &mut rate, &mut cost)?;
    memory.alone(relays.restante.peak_mebibytes()?);
    Ok(vec![rate, cost, memory])
}

/// Stock, but for what a relay needs to be told, the delay that Postfix puts on fast senders, and room for the large messages.
fn postfix_site(client: &Host) -> Site {
    Site::new("mx.p.example", &[])
        .relay(&client.ipv4().to_string(), SINK_PORT)
        .relays_for("192.0.2.0/24")
        .stock_timers()
        .line("in_flow_delay = 0")
        .line("message_size_limit = 50000000")
}

fn configuration(client: &Host) -> String {
    format!(
        r#"relay_from = ["192.0.2.0/24"]
smart_host = "sink"

[[listener]]
kind = "relay"
address = "0.0.0.0:25"
max_connections_per_ip = 200

[[relay]]
name = "sink"
host = "{}"
port = {SINK_PORT}
tls = "opportunistic"
"#,
        client.ipv4()
    )
}
