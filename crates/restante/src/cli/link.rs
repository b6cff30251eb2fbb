//! `restante fetch` and `restante link up`: for sites that are connected some of the time.
//!
//! Custodians are asked, and where it is waited, asked again as long as something of their lists is left.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use hyper::Method;
use mail::Domain;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::{FetchArgs, Global, WaitArgs};
use super::client::Client;
use super::output::{Exit, Failure, Outcome, Output};
use super::progress::Progress;
use crate::admin::api::{self, Fetched, LinkUp, UnderWay};
use crate::config::format_size;

/// For an answer: reading what waits may take long over a slow link, and it is looked meanwhile whether the server is there.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Between two looks: at first, and after some time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// How long a look comes soon after the other.
const SOON: Duration = Duration::from_secs(10);
/// Before a custodian is asked again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often in a row it may bring nothing, where no limit was given: some four minutes.
const FRUITLESS: u32 = 10;

/// What is printed.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// What custodians had.
    fetched: Vec<Fetched>,
    /// The time was up before all had told what waits.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
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
    /// Octets that crossed the link meanwhile, to be fetched and sent: most that were left at a time, less what is left now.
    #[serde(skip_serializing_if = "Option::is_none")]
    octets: Option<u64>,
}

/// `restante fetch`.
pub(super) fn fetch(args: &FetchArgs, global: &Global, output: Output) -> Outcome {
    let client = Client::new(global)?;
    let mut watch = Watch::new(&client, &args.wait, output);
    let mut report = Report::default();
    match watch.ask(fetch_path(args.custodian.as_ref()))? {
        Some(fetched) => report.fetched = fetched,
        None => report.incomplete = true,
    }
    finish(watch, report, output)
}

fn fetch_path(custodian: Option<&Domain>) -> String {
    let query = custodian.map(|host| format!("?custodian={host}")).unwrap_or_default();
    format!("{}{query}", api::FETCH)
}

/// `restante link up`.
pub(super) fn up(args: &WaitArgs, global: &Global, output: Output) -> Outcome {
    link_up(&Client::new(global)?, args, output)
}

/// Tells a server that the link is up.
pub(super) fn link_up(client: &Client, args: &WaitArgs, output: Output) -> Outcome {
    let mut watch = Watch::new(client, args, output);
    let mut report = Report::default();
    match watch.ask(api::LINK_UP.to_owned())? {
        Some(LinkUp { taken, refused, retried, fetched }) => {
            report = Report { fetched, taken: Some(taken), refused, retried: Some(retried), ..report };
        }
        None => report.incomplete = true,
    }
    finish(watch, report, output)
}

fn finish(mut watch: Watch<'_>, mut report: Report, output: Output) -> Outcome {
    if watch.args.wait {
        watch.wait(&mut report)?;
        report.octets = Some(watch.whole.saturating_sub(watch.left));
    }
    drop(watch);
    let refused = report.fetched.iter().any(|fetched| fetched.refused > 0 || fetched.error.is_some());
    let failed = refused || !report.refused.is_empty();
    let late = report.incomplete || report.wants_more() || report.left.as_ref().is_some_and(|left| !left.is_done());
    output.print(&report, || text(&report));
    Ok(match (failed, late) {
        (_, true) => Exit::Later,
        (true, false) => Exit::Failed,
        (false, false) => Exit::Done,
    })
}

/// Looks how much is left while a server works, and shows it.
struct Watch<'a> {
    client: &'a Client,
    args: &'a WaitArgs,
    began: Instant,
    progress: Progress,
    /// Most octets that were left at a time, and those left now.
    whole: u64,
    left: u64,
}

impl<'a> Watch<'a> {
    fn new(client: &'a Client, args: &'a WaitArgs, output: Output) -> Self {
        Self { client, args, began: Instant::now(), progress: Progress::new(output), whole: 0, left: 0 }
    }

    /// Has a server ask custodians; nothing where the time is up before it answers.
    fn ask<T: DeserializeOwned + Send + 'static>(&mut self, path: String) -> Result<Option<T>, Failure> {
        let (answer, heard) = mpsc::channel();
        let client = self.client.clone();
        // Whoever has waited for it may be gone.
        thread::spawn(move || drop(answer.send(client.ask_for(PATIENCE, Method::POST, &path))));
        loop {
            match heard.recv_timeout(self.pause()) {
                Ok(answered) => return answered.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::new("an internal error broke it off")),
                Err(RecvTimeoutError::Timeout) if self.is_over() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    self.look("custodians are asked, ")?;
                }
            }
        }
    }

    /// Waits until nothing is left, here and on the lists of custodians, or the time is up.
    fn wait(&mut self, report: &mut Report) -> Result<(), Failure> {
        let (mut pause, mut fruitless) = (AGAIN.0, 0);
        loop {
            report.left = Some(self.until_done()?);
            let is_enough = self.args.limit.is_none() && fruitless >= FRUITLESS;
            if self.is_over() || is_enough || !report.wants_more() {
                return Ok(());
            }
            thread::sleep(self.within(pause));
            (pause, fruitless) = match self.ask_again(report)? {
                0 => (AGAIN.1.min(pause * 2), fruitless + 1),
                _ => (AGAIN.0, 0),
            };
        }
    }

    /// Asks custodians once more of whose lists something is left: how many offers are new.
    fn ask_again(&mut self, report: &mut Report) -> Result<u64, Failure> {
        let mut new = 0;
        for host in report.unfinished() {
            match self.ask(fetch_path(Some(&host)))? {
                Some(fetched) => new += report.merge(fetched),
                None => report.incomplete = true,
            }
        }
        Ok(new)
    }

    /// Waits until nothing is left here or the time is up: what is left.
    fn until_done(&mut self) -> Result<UnderWay, Failure> {
        loop {
            let left = self.look("")?;
            if left.is_done() || self.is_over() {
                return Ok(left);
            }
            thread::sleep(self.pause());
        }
    }

    fn look(&mut self, doing: &str) -> Result<UnderWay, Failure> {
        let left: UnderWay = self.client.ask(Method::GET, api::UNDER_WAY)?;
        self.left = left.octets_to_retrieve + left.octets_to_send;
        self.whole = self.whole.max(self.left);
        self.progress.show(self.whole - self.left, self.whole, format!("{doing}{}", describe(&left)));
        Ok(left)
    }

    fn pause(&self) -> Duration {
        let is_soon = self.began.elapsed() < SOON;
        self.within(if is_soon { PAUSES.0 } else { PAUSES.1 })
    }

    /// No longer than the time that is left.
    fn within(&self, pause: Duration) -> Duration {
        self.args.limit.map_or(pause, |limit| pause.min(limit.saturating_sub(self.began.elapsed())))
    }

    fn is_over(&self) -> bool {
        self.args.limit.is_some_and(|limit| self.began.elapsed() >= limit)
    }
}

impl Report {
    /// Is something left of what custodians have listed, or of their lists?
    fn wants_more(&self) -> bool {
        self.fetched.iter().any(wants_more)
    }

    /// Whom to ask again.
    fn unfinished(&self) -> Vec<Domain> {
        let mut hosts: Vec<Domain> =
            self.fetched.iter().filter(|f| wants_more(f)).map(|f| f.custodian.clone()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// Adds what another question brought: how many offers are new.
    fn merge(&mut self, again: Vec<Fetched>) -> u64 {
        let mut new = 0;
        for fetched in again {
            let is_same = |earlier: &&mut Fetched| {
                (&earlier.custodian, &earlier.domain) == (&fetched.custodian, &fetched.domain)
                    && earlier.said.is_some() == fetched.said.is_some()
            };
            let Some(earlier) = self.fetched.iter_mut().find(is_same) else { continue };
            new += fetched.pending;
            let Fetched { pending, octets, known, later, refused, more, .. } = *earlier;
            let (pending, octets) = (pending + fetched.pending, octets + fetched.octets);
            // A custodian that cannot be asked any more takes nothing back of what it has said.
            let is_unheard = fetched.error.is_some() && !fetched.more;
            let (later, more) = if is_unheard { (later, more) } else { (fetched.later, fetched.more) };
            let (known, refused) = (known + fetched.known, refused.max(fetched.refused));
            *earlier = Fetched { pending, octets, known, later, refused, more, ..fetched };
        }
        new
    }
}

fn wants_more(fetched: &Fetched) -> bool {
    fetched.later > 0 || fetched.more
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
    if report.incomplete {
        lines.push("The time was up before all custodians had said what waits.".to_owned());
    } else if report.fetched.is_empty() {
        lines.push("The configuration has no [[custodian]].".to_owned());
    }
    lines.extend(report.taken.filter(|count| *count > 0).map(|count| format!("{count} message(s) of the outbox.")));
    lines.extend(report.refused.iter().map(|refused| format!("Refused: {refused}")));
    lines.extend(report.retried.map(|count| format!("{count} other message(s) are tried now.")));
    lines.extend(report.left.as_ref().map(|left| format!("{}.", describe(left))));
    lines.join("\n")
}

fn line(fetched: &Fetched) -> String {
    let Fetched { custodian, domain, pending, octets, later, refused, said, error, more, .. } = fetched;
    if let (Some(said), None) = (said, error) {
        return format!("{custodian} for {domain}: {said}");
    }
    let mut line = format!("{custodian} for {domain}: {pending} message(s), {}", format_size(*octets));
    for (count, what) in [(later, "cannot be taken now and waits on"), (refused, "refused, see the log")] {
        if *count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    if *more {
        line.push_str("; the list was not read to its end");
    }
    if let Some(error) = error {
        line.push_str(&format!("; {error}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(later: u64, refused: u64, more: bool, error: Option<&str>) -> Fetched {
        Fetched {
            custodian: "tbr.site.example".parse().unwrap(),
            domain: "site.example".parse().unwrap(),
            pending: 1,
            octets: 1,
            known: 0,
            later,
            refused,
            more,
            said: None,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn a_question_that_got_no_answer_takes_nothing_back() {
        let mut report = Report { fetched: vec![fetched(5, 2, false, None)], ..Report::default() };
        report.merge(vec![fetched(0, 0, false, Some("no connection"))]);
        assert_eq!((report.fetched[0].later, report.fetched[0].refused, report.fetched[0].pending), (5, 2, 2));
        assert!(report.wants_more() && report.fetched[0].error.is_some());
        report.merge(vec![fetched(0, 0, true, Some("broken off"))]);
        assert!(report.wants_more(), "its list goes on");
        report.merge(vec![fetched(0, 0, false, None)]);
        assert!(!report.wants_more());
        assert_eq!(report.fetched[0].refused, 2);
    }
}
