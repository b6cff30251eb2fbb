//! Mail over bad links and from servers that are switched off: a chain of Restantes that relay by custody, by reference and by value, beside a chain
//! of Postfixes that forward by virtual aliases. Both try again after seconds.
//!
//! Both sides meet the same accidents: the same numbers that look random say when, and where.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use testbed::{Host, Process};

use super::Effort;
use super::figures::{Figure, Goal};
use super::under_test::wire_octets;

mod reference;
mod value;

/// Octets of each message, most of it an attachment.
const SIZE: usize = 60_000;
const RATE: &str = "4mbit";
/// Of a thousand packets so many are lost at each server.
const LOST: u32 = 20;
/// The links at both ends take so much longer each way. Those between them do not: they go down.
const DELAY: Duration = Duration::from_millis(25);
/// What is not there then is lost.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);
/// How long a server stays off: longer than what it had begun goes on without it.
const OFF: Duration = Duration::from_secs(3);

/// Servers that forward to each other; the last has the mailbox.
trait Chain {
    /// In the order of the way.
    fn hosts(&self) -> Vec<&Host>;
    /// Hands a message in at the first.
    fn send(&self, message: &[u8]) -> Result<()>;
    /// Switches the first off.
    fn switch_off(&mut self) -> Result<()>;
    /// And on.
    fn switch_on(&mut self) -> Result<()>;
    /// Where messages arrive.
    fn maildir(&self) -> PathBuf;
}

/// The domain of a server of the chain.
fn domain(number: usize) -> String {
    format!("d{number}.example")
}

/// Numbers that look random, the same at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What became of some messages.
struct Went {
    /// From handing the first in until all were there; or the mean of each alone.
    seconds: f64,
    /// At the interfaces of all servers, both ways, for each message.
    octets: f64,
    /// Messages that did not come, and copies beyond one.
    wrong: f64,
    /// Of all, so many were there while their origin was off.
    without: f64,
}

/// Five hops.
pub(super) fn hops(effort: Effort) -> Result<Vec<Figure>> {
    let messages = effort.amount(48);
    let our = through_accidents(&mut reference::Ours::start(6)?, messages)?;
    let their = through_accidents(&mut value::Postfixes::start(6)?, messages)?;
    let mut seconds = Figure::new("until all are in the mailbox", "s", Goal::Told);
    seconds.round(our.seconds, their.seconds);
    Ok([seconds].into_iter().chain(common(&our, &their)).collect())
}

/// From a server that is switched off.
pub(super) fn origins(effort: Effort) -> Result<Vec<Figure>> {
    let messages = effort.amount(24);
    let our = from_switched_off(&mut reference::Ours::start(2)?, messages)?;
    let their = from_switched_off(&mut value::Postfixes::start(2)?, messages)?;
    let mut seconds = Figure::new("until it is in the mailbox, mean", "s", Goal::Told);
    seconds.round(our.seconds, their.seconds);
    let mut without = Figure::new("there while its origin was off, share", "", Goal::Told);
    without.round(our.without, their.without);
    Ok([seconds, without].into_iter().chain(common(&our, &their)).collect())
}

fn common(our: &Went, their: &Went) -> [Figure; 3] {
    let mut octets = Figure::new("octets at all interfaces, a message", "KiB", Goal::RatioAtMost(1.0));
    octets.round(our.octets / 1024.0, their.octets / 1024.0);
    let mut wrong = Figure::new("lost, or copies too many", "", Goal::AtMost(0.0));
    wrong.alone(our.wrong);
    let mut theirs = Figure::new("lost, or copies too many, of Postfix", "", Goal::Told);
    theirs.alone(their.wrong);
    [octets, wrong, theirs]
}

fn message(number: usize) -> Vec<u8> {
    testbed::samples::attachment(&format!("number {number}"), SIZE)
}

/// One message that nothing happens to: names and keys are known then. The delay lasts as long as what is returned.
fn warm_up(chain: &dyn Chain) -> Result<Vec<Process>> {
    chain.send(&message(0))?;
    until(&chain.maildir(), 1);
    let hosts = chain.hosts();
    for host in &hosts {
        host.limit_rate(RATE)?;
        host.lose_packets(LOST)?;
    }
    [hosts.first(), hosts.last()].into_iter().flatten().map(|host| host.delay(DELAY)).collect()
}

/// Every message is sent while a link in the middle goes down for a while.
fn through_accidents(chain: &mut dyn Chain, messages: usize) -> Result<Went> {
    let _delays = warm_up(chain)?;
    let (mut dice, before, begun) = (Dice(1), octets(chain)?, Instant::now());
    for number in 1..=messages {
        chain.send(&message(number))?;
        thread::sleep(Duration::from_millis(dice.below(300)));
        let hosts = chain.hosts();
        let middle = hosts.len() as u64 - 2;
        let host = hosts[1 + dice.below(middle) as usize];
        host.unplug()?;
        thread::sleep(Duration::from_millis(200 + dice.below(400)));
        host.plug_in()?;
    }
    until(&chain.maildir(), messages + 1);
    let seconds = begun.elapsed().as_secs_f64();
    went(chain, messages, before, seconds, 0.0)
}

/// After every message the first server is switched off at some moment, and stays so for a while.
fn from_switched_off(chain: &mut dyn Chain, messages: usize) -> Result<Went> {
    let _delays = warm_up(chain)?;
    let (mut dice, before) = (Dice(1), octets(chain)?);
    let (mut seconds, mut without) = (0.0, 0.0);
    for number in 1..=messages {
        let begun = Instant::now();
        chain.send(&message(number))?;
        thread::sleep(Duration::from_millis(dice.below(400)));
        chain.switch_off()?;
        let off = Instant::now();
        let mut there = None;
        while off.elapsed() < OFF {
            if there.is_none() && readable(&chain.maildir()) > number {
                there = Some(begun.elapsed().as_secs_f64());
                without += 1.0 / messages as f64;
            }
            thread::sleep(LOOK);
        }
        chain.switch_on()?;
        until(&chain.maildir(), number + 1);
        seconds += there.unwrap_or_else(|| begun.elapsed().as_secs_f64()) / messages as f64;
    }
    went(chain, messages, before, seconds, without)
}

/// Counts once nothing moves any more.
fn went(chain: &dyn Chain, messages: usize, before: u64, seconds: f64, without: f64) -> Result<Went> {
    // Second copies and late reports are on their way for no longer.
    thread::sleep(OFF);
    let maildir = chain.maildir();
    let files = ["new", "cur"].into_iter().filter_map(|part| fs::read_dir(maildir.join(part)).ok()).flatten();
    let copies: Vec<String> =
        files.map(|file| Ok(String::from_utf8_lossy(&fs::read(file?.path())?).into_owned())).collect::<Result<_>>()?;
    let of = |number: usize| {
        let subject = format!("\nSubject: number {number}");
        copies.iter().filter(|copy| copy.lines().any(|line| line == subject.trim_start())).count()
    };
    let wrong: usize = (0..=messages).map(|number| of(number).abs_diff(1)).sum();
    let octets = (octets(chain)? - before) as f64 / messages as f64;
    Ok(Went { seconds, octets, wrong: wrong as f64, without })
}

fn octets(chain: &dyn Chain) -> Result<u64> {
    chain.hosts().into_iter().map(wire_octets).sum()
}

fn until(maildir: &Path, messages: usize) {
    let begun = Instant::now();
    while readable(maildir) < messages && begun.elapsed() < LIMIT {
        thread::sleep(LOOK);
    }
}

fn readable(maildir: &Path) -> usize {
    let count = |part: &str| fs::read_dir(maildir.join(part)).map_or(0, Iterator::count);
    count("new") + count("cur")
}
