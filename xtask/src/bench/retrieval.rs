//! Retrieval: 10 MiB objects over HTTPS, TLS 1.3, identity coding, from Restante's repository and from nginx.
//!
//! The same client fetches from both (`crates/net/examples/tbr_load.rs`); what counts is the servers' processor time.

use anyhow::{Context, Result, ensure};
use testbed::peers::Nginx;
use testbed::{Host, Sandbox};

use super::Effort;
use super::figures::{Figure, Goal};
use super::under_test::{processor_time, program};
use super::{domains, offers};

const SIZE: usize = 10 << 20;
const CONNECTIONS: usize = 10;

/// Recipient domains, each with a grant of its own: one grant has four reads at a time.
const DOMAINS: [&str; 3] = ["b.example", "c.example", "d.example"];

/// Fetches an object over and over.
struct Fetch<'a> {
    client: &'a Host,
    server: &'a Host,
    /// The server's name, for TLS.
    name: &'a str,
    /// Its paths, with a comma between them.
    paths: &'a str,
    /// Requests of each connection.
    each: usize,
}

impl Fetch<'_> {
    /// MiB a second of the server's processor time.
    fn measure(&self) -> Result<f64> {
        let (tool, address) = (program("examples/tbr_load")?, format!("{}:443", self.server.ipv4()));
        let numbers = [CONNECTIONS.to_string(), self.each.to_string()];
        let argv = [&tool, "fetch", &address, self.name, self.paths, &numbers[0], &numbers[1]];
        let (printed, used) = processor_time(self.server, || self.client.run(&argv))?;
        let octets: usize = printed.trim().parse()?;
        ensure!(octets >= SIZE * 99 / 100 * CONNECTIONS * self.each, "only {octets} octets came");
        Ok(octets as f64 / 1_048_576.0 / used.as_secs_f64())
    }
}

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>> {
    let sandbox = Sandbox::new()?;
    let client = sandbox.host("mx.b.example", &[])?;
    let nginx = Nginx::start(&sandbox, "www.example")?;
    let message = domains::message(1, SIZE);
    std::fs::write(nginx.files().join("m"), crlf(&message))?;
    let listener = client.listen(25)?;
    // Like nginx's file: what coded octets cost is in `attachment`.
    let plain = "[store]\ncompression = \"off\"\n";
    let hosts = [(DOMAINS.map(str::to_owned).to_vec(), client.ipv4())];
    let origin = domains::origin_with(&sandbox, &[], &hosts, plain)?;
    origin.send(&DOMAINS.map(|domain| format!("bob@{domain}")).each_ref().map(String::as_str), &message)?;
    let paths = DOMAINS.iter().map(|_| path(&offers::take_offer(&listener)?)).collect::<Result<Vec<_>>>()?.join(",");
    let each = effort.amount(20);
    let ours = Fetch { client: &client, server: origin.server.host(), name: origin.repository, paths: &paths, each };
    let theirs = Fetch { client: &client, server: nginx.host(), name: "www.example", paths: "/m", each };
    let mut figure = Figure::new("MiB a processor second", "", Goal::RatioAtLeast(0.8));
    ours.measure()?;
    theirs.measure()?;
    for _ in 0..effort.rounds {
        let peers = theirs.measure()?;
        figure.round(ours.measure()?, peers);
    }
    Ok(vec![figure])
}

fn path(offer: &offers::Offer) -> Result<String> {
    let at = offer.uri.find("/.well-known").context("another URI than expected")?;
    Ok(offer.uri[at..].to_owned())
}

fn crlf(message: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(message).replace('\n', "\r\n").into_bytes()
}
