//! `restante fetch` and `restante link up`: for sites that are connected some of the time.

use std::thread;
use std::time::{Duration, Instant};

use hyper::Method;
use serde::Serialize;

use super::args::{FetchArgs, Global, WaitArgs};
use super::client::Client;
use super::output::{Exit, Failure, Outcome, Output};
use crate::admin::api::{self, Fetched, LinkUp, UnderWay};
use crate::config::format_size;

/// For an answer: listing what waits may take long over a slow link.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    /// What custodians had.
    fetched: Vec<Fetched>,
    /// Messages of the outbox that were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<u64>,
    /// Those that were refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<String>,
    /// What was tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retried: Option<u64>,
    /// What is left, where it was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<UnderWay>,
}

/// `restante fetch`.
pub(super) fn fetch(args: &FetchArgs, global: &Global, output: Output) -> Outcome {
    let client = Client::new(global)?;
    let query = args.custodian.as_ref().map(|host| format!("?custodian={host}")).unwrap_or_default();
    let fetched: Vec<Fetched> = client.ask_for(PATIENCE, Method::POST, &format!("{}{query}", api::FETCH))?;
    let report = Report { fetched, taken: None, refused: Vec::new(), retried: None, left: None };
    finish(&client, report, &args.wait, output)
}

/// `restante link up`.
pub(super) fn up(args: &WaitArgs, global: &Global, output: Output) -> Outcome {
    link_up(&Client::new(global)?, args, output)
}

/// Tells a server that the link is up.
pub(super) fn link_up(client: &Client, args: &WaitArgs, output: Output) -> Outcome {
    let LinkUp { taken, refused, retried, fetched } = client.ask_for(PATIENCE, Method::POST, api::LINK_UP)?;
    let report = Report { fetched, taken: Some(taken), refused, retried: Some(retried), left: None };
    finish(client, report, args, output)
}

fn finish(client: &Client, mut report: Report, args: &WaitArgs, output: Output) -> Outcome {
    if args.wait {
        report.left = Some(wait(client, args.limit, output)?);
    }
    let failed = !report.refused.is_empty() || report.fetched.iter().any(|fetched| fetched.error.is_some());
    let late = report.left.as_ref().is_some_and(|left| !left.is_done());
    output.print(&report, || text(&report));
    Ok(match (failed, late) {
        (_, true) => Exit::Later,
        (true, false) => Exit::Failed,
        (false, false) => Exit::Done,
    })
}

/// Waits until nothing is left, showing how much is; what is left at the limit.
pub(super) fn wait(client: &Client, limit: Option<Duration>, output: Output) -> Result<UnderWay, Failure> {
    let began = Instant::now();
    let bar = output.bar(0);
    let mut whole = 0;
    let left = loop {
        let left: UnderWay = client.ask(Method::GET, api::UNDER_WAY)?;
        let octets = left.octets_to_retrieve + left.octets_to_send;
        whole = whole.max(octets);
        bar.set_length(whole);
        bar.set_position(whole - octets);
        bar.set_message(describe(&left));
        if left.is_done() || limit.is_some_and(|limit| began.elapsed() >= limit) {
            break left;
        }
        thread::sleep(PAUSE);
    };
    bar.finish_and_clear();
    Ok(left)
}

/// What is left, in words.
pub(super) fn describe(left: &UnderWay) -> String {
    let parts = [
        (left.arriving, "connection(s) with mail from custodians"),
        (left.to_retrieve, "to fetch"),
        (left.to_claim, "to claim"),
        (left.to_deliver, "to deliver"),
        (left.to_report, "to report"),
        (left.to_send, "to send"),
    ];
    let words: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if words.is_empty() { "nothing left".to_owned() } else { words.join(", ") }
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report.fetched.iter().map(line).collect();
    if report.fetched.is_empty() {
        lines.push("The configuration has no [[custodian]].".to_owned());
    }
    lines.extend(report.taken.filter(|count| *count > 0).map(|count| format!("{count} message(s) of the outbox.")));
    lines.extend(report.refused.iter().map(|refused| format!("Refused: {refused}")));
    lines.extend(report.retried.map(|count| format!("{count} other message(s) are tried now.")));
    lines.extend(report.left.as_ref().map(|left| format!("{}.", describe(left))));
    lines.join("\n")
}

fn line(fetched: &Fetched) -> String {
    let Fetched { custodian, domain, pending, octets, later, refused, said, error, .. } = fetched;
    if let (Some(said), None) = (said, error) {
        return format!("{custodian} for {domain}: {said}");
    }
    let mut line = format!("{custodian} for {domain}: {pending} message(s), {}", format_size(*octets));
    for (count, what) in [(later, "cannot be judged now"), (refused, "refused, see the log")] {
        if *count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(error) = error {
        line.push_str(&format!("; {error}"));
    }
    line
}
