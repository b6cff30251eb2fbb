//! 10 MiB from one domain to another, by reference and by value: the same two servers, two domains of the receiver.
//!
//! The clock runs from handing the message in until it stands in the mailbox. The same world with small messages is
//! `sizes`.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use testbed::Sandbox;

use super::Effort;
use super::domains::{self, Origin, Receiver};
use super::figures::{Figure, Goal};
use super::under_test::UnderTest;

const SIZE: usize = 10 << 20;

/// Longest that one message may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How often the mailbox is looked at: much less than what is measured.
const LOOK: Duration = Duration::from_millis(1);

/// How a message goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Reference,
    Value,
}

/// Two servers with two ways between them.
pub(super) struct World {
    pub(super) origin: Origin,
    pub(super) receiver: UnderTest,
    by_reference: PathBuf,
    by_value: PathBuf,
    _sandbox: Sandbox,
}

impl World {
    pub(super) fn start() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let domains = ["reference.example".to_owned(), "value.example".to_owned()];
        let host = sandbox.host("mx.b.example", &[])?;
        let [by_reference, by_value] =
            domains.clone().map(|domain| host.room().join("mail").join(domain).join("bob/new"));
        let origin = domains::origin(&sandbox, &["value.example"], &[(domains.to_vec(), host.ipv4())])?;
        let told = Receiver { domains: &domains, deliver: "maildir", pauses_retrieval: false, has_budgets: false };
        let receiver = domains::receiver(&sandbox, host, told)?;
        Ok(Self { origin, receiver, by_reference, by_value, _sandbox: sandbox })
    }

    /// Sends a message and waits until it is the only one in the mailbox; takes it out. Seconds.
    pub(super) fn send(&self, way: Way, number: usize, size: usize) -> Result<f64> {
        let (to, mailbox) = match way {
            Way::Reference => ("bob@reference.example", &self.by_reference),
            Way::Value => ("bob@value.example", &self.by_value),
        };
        let message = domains::message(number, size);
        let start = Instant::now();
        self.origin.send(&[to], &message)?;
        let file = loop {
            if let Some(file) = fs::read_dir(mailbox).ok().and_then(|mut entries| entries.next()) {
                break file?.path();
            }
            if start.elapsed() > LIMIT {
                return Err(anyhow!("no message for {to} after {LIMIT:?}:\n{}", self.origin.server.log()));
            }
            std::thread::sleep(LOOK);
        };
        let took = start.elapsed();
        fs::remove_file(file)?;
        Ok(took.as_secs_f64())
    }
}

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>> {
    let world = World::start()?;
    let mut figure = Figure::new("seconds", "", Goal::RatioAtMost(1.1));
    // Connections are opened and keys looked up with the first. Then each goes first every other time.
    for number in 0..=effort.amount(60) {
        let (reference, value) = if number % 2 == 0 {
            let value = world.send(Way::Value, number, SIZE)?;
            (world.send(Way::Reference, number, SIZE)?, value)
        } else {
            (world.send(Way::Reference, number, SIZE)?, world.send(Way::Value, number, SIZE)?)
        };
        if number > 0 {
            figure.round(reference, value);
        }
    }
    Ok(vec![figure])
}
