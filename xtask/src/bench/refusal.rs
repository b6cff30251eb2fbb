//! What an unwanted message costs who refuses it: an offer whose signature is not the domain's, beside Postfix refusing
//! the same message at RCPT (nobody of that name) and after its content (a header check).
//!
//! Sessions inside TLS are open already: each load runs with one refusal a session and with many, and the difference is
//! divided by the refusals that it has more. The offer is refused as late as can be, by its signature.
//!
//! What whoever is unwanted costs before that, by his TLS handshake, is told beside it: the difference between sessions that end after
//! EHLO, in clear and inside TLS, with a whole handshake each and with one that resumes an earlier one. STARTTLS and the second EHLO
//! are part of it.

use anyhow::Result;
use testbed::peers::{MailServer, Site};
use testbed::{Host, Sandbox};

use super::Effort;
use super::domains::{self, Receiver};
use super::figures::{Figure, Goal};
use super::under_test::{processor_time, program, wire_octets};

const SIZE: &str = "20480";

/// Sessions at once: Postfix, as it comes, takes 50 of one client.
const SESSIONS: usize = 45;

/// Refusals of a session besides its first; both servers close a session that has had twenty.
const MORE: usize = 18;

/// TLS handshakes that are divided by: so many at once, one after the other.
const HANDSHAKES: (usize, usize) = (5, 40);

/// What one refusal, or one handshake, takes of who refuses.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Both directions, all headers.
    octets: f64,
    /// Processor time in milliseconds.
    processor: f64,
}

/// A load that is refused, of any number of refusals a session.
struct Load<'a> {
    client: &'a Host,
    server: &'a Host,
    arguments: Vec<String>,
}

impl Load<'_> {
    fn refusal(&self) -> Result<Cost> {
        let (first, all) = (self.run(1)?, self.run(1 + MORE)?);
        let each = |first: f64, all: f64| (all - first) / (SESSIONS * MORE) as f64;
        Ok(Cost { octets: each(first.octets, all.octets), processor: each(first.processor, all.processor) })
    }

    fn run(&self, each: usize) -> Result<Cost> {
        let numbers = [SESSIONS.to_string(), each.to_string()];
        let arguments: Vec<&str> = self.arguments.iter().chain(&numbers).map(String::as_str).collect();
        cost(self.client, self.server, &arguments)
    }
}

/// Runs the load tool, and looks at what it takes of the server.
fn cost(client: &Host, server: &Host, arguments: &[&str]) -> Result<Cost> {
    let tool = program("examples/tbr_load")?;
    let before = wire_octets(server)?;
    let (_, used) = processor_time(server, || client.run(&[&[tool.as_str()], arguments].concat()))?;
    let octets = wire_octets(server)? - before;
    Ok(Cost { octets: octets as f64, processor: used.as_secs_f64() * 1000.0 })
}

/// What a TLS handshake takes of a server: a whole one, and one that resumes.
fn handshakes(client: &Host, server: &Host) -> Result<[Cost; 2]> {
    let (at, (sessions, each)) = (format!("{}:25", server.ipv4()), HANDSHAKES);
    let (sessions_text, each_text) = (sessions.to_string(), each.to_string());
    let run = |kind| cost(client, server, &["sessions", &at, kind, &sessions_text, &each_text]);
    let (clear, full, resumed) = (run("clear")?, run("full")?, run("resumed")?);
    // The first of each has nothing to resume.
    let (count, whole) = ((sessions * each) as f64, sessions as f64);
    let one = |all: f64, clear: f64| (all - clear) / count;
    let full = Cost { octets: one(full.octets, clear.octets), processor: one(full.processor, clear.processor) };
    let rest = |all: f64, clear: f64, full: f64| (all - clear - whole * full) / (count - whole);
    let resumed = Cost {
        octets: rest(resumed.octets, clear.octets, full.octets),
        processor: rest(resumed.processor, clear.processor, full.processor),
    };
    Ok([full, resumed])
}

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>> {
    let sandbox = Sandbox::new()?;
    let client = sandbox.host("load.example", &[])?;
    let host = sandbox.host("mx.b.example", &[])?;
    let domains = ["b.example".to_owned()];
    let _origin = domains::origin(&sandbox, &[], &[(domains.to_vec(), host.ipv4())])?;
    let told = Receiver { domains: &domains, deliver: "discard", pauses_retrieval: true, has_budgets: false };
    let restante = domains::receiver(&sandbox, host, told)?;
    let postfix = MailServer::postfix(&sandbox, &postfix_site())?;
    postfix.host().put("/etc/postfix/unwanted", b"/^Subject: not wanted/ REJECT\n")?;
    let forged = client.room().join("forged.pem").display().to_string();
    client.run(&[&program("restante")?, "keys", "generate", "--domain", "a.example", "--out", &forged])?;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let at = |host: &Host| format!("{}:25", host.ipv4());
    let at_postfix = |recipient: &str| Load {
        client: &client,
        server: postfix.host(),
        arguments: words(&["refused-messages", &at(postfix.host()), "alice@a.example", recipient, SIZE]),
    };
    let ours = Load {
        client: &client,
        server: restante.host(),
        arguments: words(&["refused-offers", &at(restante.host()), &forged, "a.example", "b.example"]),
    };
    let (at_rcpt, after_content) = (at_postfix("nobody@p.example"), at_postfix("bob@p.example"));
    // The first makes the receiver look the key up.
    for load in [&ours, &at_rcpt, &after_content] {
        load.run(1)?;
    }
    let mut octets = Figure::new("octets on the wire, peer: at RCPT", "", Goal::AtMost(1500.0));
    let mut octets_after = Figure::new("octets on the wire, peer: after content", "", Goal::Told);
    let mut rcpt = Figure::new("processor time, peer: at RCPT", "ms", Goal::RatioAtMost(1.0));
    let mut content = Figure::new("processor time, peer: after content", "ms", Goal::RatioAtMost(0.2));
    let kinds = ["TLS handshake", "TLS handshake that resumes"];
    let mut tls_octets = kinds.map(|kind| Figure::new(format!("octets on the wire of a {kind}"), "", Goal::Told));
    let mut tls_processor = kinds.map(|kind| Figure::new(format!("processor time of a {kind}"), "ms", Goal::Told));
    for _ in 0..effort.rounds {
        let (at_rcpt, ours, after_content) = (at_rcpt.refusal()?, ours.refusal()?, after_content.refusal()?);
        octets.round(ours.octets, at_rcpt.octets);
        octets_after.round(ours.octets, after_content.octets);
        rcpt.round(ours.processor, at_rcpt.processor);
        content.round(ours.processor, after_content.processor);
        let costs = handshakes(&client, restante.host())?.into_iter().zip(handshakes(&client, postfix.host())?);
        for (kind, (ours, peers)) in costs.enumerate() {
            tls_octets[kind].round(ours.octets, peers.octets);
            tls_processor[kind].round(ours.processor, peers.processor);
        }
    }
    Ok([octets, octets_after, rcpt, content].into_iter().chain(tls_octets).chain(tls_processor).collect())
}

/// Stock, but for the check of headers, and for no pauses after ten errors of a session, and when more messages come in than
/// go out.
fn postfix_site() -> Site {
    Site::new("mx.p.example", &["p.example"])
        .stock_timers()
        .line("smtpd_error_sleep_time = 0")
        .line("in_flow_delay = 0")
        .line("header_checks = regexp:/etc/postfix/unwanted")
}
