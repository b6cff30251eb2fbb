//! 10 MiB from one domain to another, by reference and by value: the same two servers, two domains of the receiver.
//!
//! The clock runs from handing the message in until it stands in the mailbox.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use testbed::Sandbox;

use super::Effort;
use super::domains::{self, Origin, Receiver};
use super::figures::{Figure, Goal};

const SIZE: usize = 10 << 20;

/// Longest that one message may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How often the mailbox is looked at: much less than what is measured.
const LOOK: Duration = Duration::from_millis(1);

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>> {
    let sandbox = Sandbox::new()?;
    let domains = ["reference.example".to_owned(), "value.example".to_owned()];
    let host = sandbox.host("mx.b.example", &[])?;
    let mailboxes = domains.clone().map(|domain| host.room().join("mail").join(domain).join("bob/new"));
    let origin = domains::origin(&sandbox, &["value.example"], &[(domains.to_vec(), host.ipv4())])?;
    let told = Receiver { domains: &domains, deliver: "maildir", pauses_retrieval: false };
    let _receiver = domains::receiver(&sandbox, host, told)?;
    let [by_reference, by_value] = mailboxes;
    let mut figure = Figure::new("seconds, peer: by value", "s", Goal::RatioAtMost(1.1));
    // Connections are opened and keys looked up with the first.
    for number in 0..=effort.amount(20) {
        let value = send(&origin, "bob@value.example", number, &by_value)?;
        let reference = send(&origin, "bob@reference.example", number, &by_reference)?;
        if number > 0 {
            figure.round(reference, value);
        }
    }
    Ok(vec![figure])
}

/// Sends a message and waits until it is the only one in the mailbox; takes it out. Seconds.
fn send(origin: &Origin, to: &str, number: usize, mailbox: &PathBuf) -> Result<f64> {
    let message = domains::message(number, SIZE);
    let start = Instant::now();
    origin.send(&[to], &message)?;
    let file = loop {
        if let Some(file) = fs::read_dir(mailbox).ok().and_then(|mut entries| entries.next()) {
            break file?.path();
        }
        if start.elapsed() > LIMIT {
            return Err(anyhow!("no message for {to} after {LIMIT:?}:\n{}", origin.server.log()));
        }
        std::thread::sleep(LOOK);
    };
    let took = start.elapsed();
    fs::remove_file(file)?;
    Ok(took.as_secs_f64())
}
