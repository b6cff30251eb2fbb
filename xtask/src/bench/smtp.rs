//! smtp-source and smtp-sink, the load that comes with Postfix: from one host through a server to a sink on the same host.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::{Host, PackageSet, Process, Sandbox};

/// Where sinks listen.
pub(super) const SINK_PORT: u16 = 2525;

/// Longest that a round may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The messages of one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) messages: usize,
    /// Octets of each message.
    pub(super) size: usize,
    pub(super) connections: usize,
    /// Whether a connection carries many messages, or one.
    pub(super) keeps_connections: bool,
}

/// The host that sends and receives.
pub(super) fn host(sandbox: &Sandbox) -> Result<Host> {
    sandbox.host("load.example", &[PackageSet::Postfix])
}

/// Sends a load through `server`, until all of it is at the sink. How long it took.
pub(super) fn through(client: &Host, server: &Host, load: Load) -> Result<Duration> {
    let mut sink = sink(client, load)?;
    let start = Instant::now();
    send(client, server, load)?;
    let status = sink.wait(LIMIT).context("not all messages have come to the sink")?;
    ensure!(status.success(), "smtp-sink: {status}\n{}", sink.log());
    Ok(start.elapsed())
}

/// A sink that ends when it has all messages.
fn sink(client: &Host, load: Load) -> Result<Process> {
    let (count, listen) = (load.messages.to_string(), format!("0.0.0.0:{SINK_PORT}"));
    let mut sink = client.spawn("smtp-sink", &["smtp-sink", "-u", "vmail", "-M", &count, &listen, "100"])?;
    client.wait_for_port(SINK_PORT, &mut sink)?;
    Ok(sink)
}

fn send(client: &Host, server: &Host, load: Load) -> Result<()> {
    let numbers = [load.connections, load.messages, load.size].map(|number| number.to_string());
    let target = format!("{}:25", server.ipv4());
    let mut argv = vec!["smtp-source", "-s", &numbers[0], "-m", &numbers[1], "-l", &numbers[2]];
    if load.keeps_connections {
        argv.push("-d");
    }
    argv.extend(["-f", "sender@x.example", "-t", "recipient@y.example", &target]);
    client.run(&argv).map(|_| ())
}
