//! Offers: how many a receiver accepts durably with a second of processor time, and how many octets one takes.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use testbed::Sandbox;

use super::Effort;
use super::domains::{self, Receiver};
use super::figures::{Figure, Goal};
use super::under_test::{processor_time, program};

/// Offers of one TLS session.
const PER_SESSION: usize = 100;

/// Sessions at once.
const SESSIONS: usize = 50;

/// Offers with signatures of their own, 100 a TLS session, to a receiver that has the key of the domain and retrieves nothing.
pub(super) fn accepted(effort: Effort) -> Result<Vec<Figure>> {
    let sandbox = Sandbox::new()?;
    let domains = ["b.example".to_owned()];
    let host = sandbox.host("mx.b.example", &[])?;
    let load = sandbox.host("load.example", &[])?;
    let origin = domains::origin(&sandbox, &[], &[(domains.to_vec(), host.ipv4())])?;
    let told = Receiver { domains: &domains, deliver: "discard", pauses_retrieval: true, has_budgets: false };
    let receiver = domains::receiver(&sandbox, host, told)?;
    let (tool, target) = (program("examples/tbr_load")?, format!("{}:25", receiver.host().ipv4()));
    let offer = |sessions: usize, each: usize| -> Result<f64> {
        let numbers = [sessions.to_string(), each.to_string()];
        let start = Instant::now();
        load.run(&[&tool, "offers", &target, &origin.key, "a.example", "b.example", &numbers[0], &numbers[1]])?;
        Ok((sessions * each) as f64 / start.elapsed().as_secs_f64())
    };
    // The first makes the receiver look the key up.
    offer(1, 1)?;
    let mut cost = Figure::new("offers a processor second", "", Goal::AtLeast(2000.0));
    let mut rate = Figure::new("offers a second (client included)", "/s", Goal::Told);
    let sessions = effort.amount(SESSIONS);
    for _ in 0..effort.rounds {
        let (pace, used) = processor_time(receiver.host(), || offer(sessions, PER_SESSION))?;
        cost.alone((sessions * PER_SESSION) as f64 / used.as_secs_f64());
        rate.alone(pace);
    }
    Ok(vec![cost, rate])
}

/// What the client sends for one recipient, from MAIL to the lone dot.
pub(super) fn octets(_: Effort) -> Result<Vec<Figure>> {
    let sandbox = Sandbox::new()?;
    let host = sandbox.host("mx.b.example", &[])?;
    let listener = host.listen(25)?;
    let origin = domains::origin(&sandbox, &[], &[(vec!["b.example".to_owned()], host.ipv4())])?;
    origin.send(&["bob@b.example"], &domains::message(1, 10 << 20))?;
    let mut figure = Figure::new("client octets, MAIL to dot", "", Goal::AtMost(800.0));
    figure.alone(take_offer(&listener)?.octets as f64);
    Ok(vec![figure])
}

/// An offer as it was on the wire.
pub(super) struct Offer {
    /// From MAIL to the lone dot, line ends included.
    pub(super) octets: usize,
    /// Where the object is, grant included.
    pub(super) uri: String,
}

/// Is the receiver of the next connection, in clear: takes one offer, answers 250, and ends.
pub(super) fn take_offer(listener: &TcpListener) -> Result<Offer> {
    let (mut stream, _) = listener.accept()?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let (mut octets, mut uri) = (0, None);
    stream.write_all(b"220 mx.b.example ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        ensure!(lines.read_line(&mut line)? > 0, "the connection ended before the offer");
        if octets > 0 || line.starts_with("MAIL") {
            octets += line.len();
        }
        if let Some(arguments) = line.strip_prefix("TBR ") {
            uri = arguments.split_whitespace().nth(1).map(str::to_owned);
        }
        let reply: &[u8] = match line.trim_end() {
            hello if hello.starts_with("EHLO") => {
                b"250-mx.b.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 TBR 1\r\n"
            }
            mail if mail.starts_with("MAIL") => b"250 2.1.0 ok\r\n",
            rcpt if rcpt.starts_with("RCPT") => b"250 2.1.5 ok\r\n",
            "." => b"250 2.5.0 0 reference accepted, retrieval pending\r\n",
            _ => continue,
        };
        stream.write_all(reply)?;
        if line == ".\r\n" {
            return Ok(Offer { octets, uri: uri.context("the offer has no URI")? });
        }
    }
}
