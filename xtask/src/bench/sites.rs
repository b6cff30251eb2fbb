//! Mail that waits for a site behind a slow link that breaks: a Restante site and its custodian, beside Postfix at both ends with
//! ETRN, and beside an IMAP synchroniser (mbsync from Dovecot). And the same mail the other way: uploaded by the site, beside Postfix that
//! sends it to its relay host.
//!
//! When the link breaks both ends know at once, and when it is up again the site's hook runs: nobody waits for timeouts, which
//! favours the peers. What breaks cost is what the same mail took more than over the same link without breaks.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use testbed::Host;

use super::Effort;
use super::figures::{Figure, Goal};
use super::under_test::wire_octets;

mod imap;
mod reference;
mod several;
mod upload;
mod value;

/// What the end that has the mail sends over a link that breaks.
const RATE: &str = "512kbit";
/// And over one that is up once a day: some of the mail fits into a window.
const DAILY_RATE: &str = "3mbit";
/// Looks at mailboxes and counters.
const LOOK: Duration = Duration::from_millis(20);
/// Nothing more comes when nothing came for so long.
const QUIET: Duration = Duration::from_millis(700);

/// Octets of the mail that waits: letters, and attachments that fit into one window each.
const MAIL: [usize; 12] = [2_000, 3_000, 4_000, 6_000, 8_000, 12_000, 20_000, 30_000, 45_000, 70_000, 90_000, 150_000];
/// One that does not.
const LARGER: usize = 400_000;
/// A round takes two minutes: there is no time for more, nor for less.
const ROUNDS: usize = 1;
/// How often the link is up for it.
const WINDOWS: usize = 2;

/// When the link is up.
#[derive(Debug, Clone, Copy)]
struct Times {
    up: Duration,
    down: Duration,
    /// After this a transfer is given up, and counts as if it had ended then.
    limit: Duration,
}

/// At this rate, what 30 seconds are at 64 kbit/s; and so again and again.
const BREAKING: Times =
    Times { up: Duration::from_millis(3750), down: Duration::from_millis(500), limit: Duration::from_secs(45) };
/// Ten minutes a day, where a day has 120 seconds.
const DAILY: Times = Times {
    up: Duration::from_micros(833_333),
    down: Duration::from_micros(119_166_667),
    limit: Duration::from_secs(8 * 120),
};
/// Contenders that wait for their windows at the same time have them one after the other.
const APART: Duration = Duration::from_secs(30);

/// A site and where its mail waits; or, the other way, is to arrive.
trait Contender: Send {
    /// The site's machine.
    fn site(&self) -> &Host;
    /// The one at the far end of the link.
    fn far(&self) -> &Host;
    /// Lets this mail wait for the site, or at the site; its link is down.
    fn put(&mut self, mail: &[Vec<u8>]) -> Result<()>;
    /// What the site's hook does when the link comes up.
    fn link_is_up(&mut self) -> Result<()>;
    /// The Maildir in which mail is readable while the link is down; or the one at the custodian that it is to arrive in.
    fn maildir(&self) -> PathBuf;
}

/// What some mail took.
struct Taken {
    /// Until all of it was readable.
    seconds: f64,
    /// How often the link was up for it.
    windows: f64,
    /// At the site's interface, both ways.
    octets: f64,
}

type Peer = (&'static str, Box<dyn Contender>);

/// What waits for the site.
pub(super) fn run(_: Effort) -> Result<Vec<Figure>> {
    let (mut ours, mut peers) = fetching(RATE)?;
    let mut figures = measure(&mut ours, &mut peers, "readable", BREAKING)?;
    let mut larger =
        named(&peers, "of one message larger than a window, readable after two windows", "", Goal::AtLeast(1.0));
    compare_larger(&mut ours, &mut peers, &mut larger)?;
    figures.extend(larger);
    Ok(figures)
}

/// The same where the link is up once a day.
pub(super) fn a_window_a_day(_: Effort) -> Result<Vec<Figure>> {
    let (mut ours, mut peers) = fetching(DAILY_RATE)?;
    measure(&mut ours, &mut peers, "readable", DAILY)
}

/// What users of the site send.
pub(super) fn uploads(_: Effort) -> Result<Vec<Figure>> {
    let mut ours = upload::Ours::start()?;
    let mut peers: [Peer; 1] = [("SMTP", Box::new(upload::Relayed::start()?))];
    for contender in std::iter::once(&ours as &dyn Contender).chain(peers.iter().map(|(_, peer)| &**peer)) {
        contender.site().slow_down(RATE)?;
    }
    let mut figures = measure(&mut ours, &mut peers, "at the custodian", BREAKING)?;
    let larger = "of one message larger than a window, at the custodian after two windows";
    let mut larger = named(&peers, larger, "", Goal::AtLeast(1.0));
    compare_larger(&mut ours, &mut peers, &mut larger)?;
    figures.extend(larger);
    Ok(figures)
}

/// Who brings mail to a site, over a link of this rate.
fn fetching(rate: &str) -> Result<(reference::Ours, [Peer; 2])> {
    let ours = reference::Ours::start()?;
    let peers: [Peer; 2] = [("ETRN", Box::new(value::Etrn::start()?)), ("IMAP", Box::new(imap::Imap::start()?))];
    for contender in std::iter::once(&ours as &dyn Contender).chain(peers.iter().map(|(_, peer)| &**peer)) {
        contender.far().slow_down(rate)?;
    }
    Ok((ours, peers))
}

/// A figure beside each of the peers.
fn named(peers: &[Peer], what: &str, unit: &'static str, goal: Goal) -> Vec<Figure> {
    peers.iter().map(|(name, _)| Figure::new(format!("{what}, peer: {name}"), unit, goal)).collect()
}

fn measure(ours: &mut dyn Contender, peers: &mut [Peer], there: &str, times: Times) -> Result<Vec<Figure>> {
    let mut seconds = named(peers, &format!("until all is {there}"), "s", Goal::RatioAtMost(1.0));
    let mut windows = named(peers, "windows until then", "", Goal::RatioAtMost(1.0));
    let mut octets = named(peers, "octets on the wire", "KiB", Goal::RatioAtMost(1.0));
    let mut wasted = named(peers, "octets that breaks cost", "KiB", Goal::RatioAtMost(1.0));
    for round in 0..ROUNDS {
        let all = all(ours, peers, round, times)?;
        let (our, their) = all.split_first().context("nobody was measured")?;
        for (number, their) in their.iter().enumerate() {
            seconds[number].round(our.1.seconds, their.1.seconds);
            windows[number].round(our.1.windows, their.1.windows);
            octets[number].round(our.1.octets, their.1.octets);
            wasted[number].round(our.1.octets - our.0.octets, their.1.octets - their.0.octets);
        }
    }
    Ok([seconds, windows, octets, wasted].into_iter().flatten().collect())
}

/// All contenders, ours first: one after the other, or beside each other where they mostly wait.
fn all(ours: &mut dyn Contender, peers: &mut [Peer], round: usize, times: Times) -> Result<Vec<(Taken, Taken)>> {
    let mut contenders: Vec<&mut dyn Contender> = vec![ours];
    for (_, peer) in peers {
        contenders.push(&mut **peer);
    }
    if times.down < APART {
        return contenders.into_iter().map(|contender| both(contender, round, times)).collect();
    }
    thread::scope(|scope| {
        let begin = |(number, contender): (u32, _)| {
            scope.spawn(move || {
                thread::sleep(APART * number);
                both(contender, round, times)
            })
        };
        let begun: Vec<_> = (0..).zip(contenders).map(begin).collect();
        begun.into_iter().map(|one| one.join().map_err(|_| anyhow!("a contender has panicked"))?).collect()
    })
}

/// One message larger than a window, of each.
fn compare_larger(ours: &mut dyn Contender, peers: &mut [Peer], figures: &mut [Figure]) -> Result<()> {
    let our = one_larger(ours)?;
    for (figure, (_, peer)) in figures.iter_mut().zip(peers) {
        figure.round(our, one_larger(&mut **peer)?);
    }
    Ok(())
}

/// The same amount of mail over a link that does not break, and over one that does.
fn both(contender: &mut dyn Contender, round: usize, times: Times) -> Result<(Taken, Taken)> {
    let mail = |offset: usize| -> Vec<Vec<u8>> {
        MAIL.iter().enumerate().map(|(n, size)| message(round * 100 + offset + n, *size)).collect()
    };
    let unbroken = Times { up: times.limit, ..times };
    Ok((transfer(contender, &mail(0), unbroken)?, transfer(contender, &mail(50), times)?))
}

fn message(number: usize, size: usize) -> Vec<u8> {
    testbed::samples::attachment(&format!("number {number}"), size)
}

/// Lets mail wait, and brings the link up until all of it is readable.
fn transfer(contender: &mut dyn Contender, mail: &[Vec<u8>], times: Times) -> Result<Taken> {
    contender.site().hang_up(contender.far())?;
    contender.put(mail)?;
    let wanted = readable(&contender.maildir()) + mail.len();
    let (before, start) = (wire_octets(contender.site())?, Instant::now());
    let mut windows = 0.0;
    let seconds = loop {
        windows += 1.0;
        if window(contender, wanted, times.up)? {
            break start.elapsed().as_secs_f64();
        }
        if start.elapsed() > times.limit {
            break times.limit.as_secs_f64();
        }
        contender.site().hang_up(contender.far())?;
        thread::sleep(times.down);
    };
    let octets = quiet_octets(contender.site())? - before;
    Ok(Taken { seconds, windows, octets: octets as f64 / 1024.0 })
}

/// The link is up until so much mail is readable, at most for a time. Is it?
fn window(contender: &mut dyn Contender, wanted: usize, up: Duration) -> Result<bool> {
    let begun = Instant::now();
    contender.site().plug_in()?;
    contender.link_is_up()?;
    while begun.elapsed() < up {
        if readable(&contender.maildir()) >= wanted {
            return Ok(true);
        }
        thread::sleep(LOOK);
    }
    Ok(false)
}

/// Is a message that is larger than a window readable after some? 1 or 0.
fn one_larger(contender: &mut dyn Contender) -> Result<f64> {
    contender.site().hang_up(contender.far())?;
    contender.put(&[message(999, LARGER)])?;
    for _ in 0..WINDOWS {
        window(contender, usize::MAX, BREAKING.up)?;
        contender.site().hang_up(contender.far())?;
        thread::sleep(BREAKING.down);
    }
    let maildir = contender.maildir();
    let files = ["new", "cur"].into_iter().filter_map(|part| fs::read_dir(maildir.join(part)).ok()).flatten();
    let is_it = |file: fs::DirEntry| file.metadata().is_ok_and(|found| found.len() >= LARGER as u64);
    Ok(if files.flatten().any(is_it) { 1.0 } else { 0.0 })
}

pub(super) use several::run as several_at_a_time;

fn readable(maildir: &std::path::Path) -> usize {
    let count = |part: &str| fs::read_dir(maildir.join(part)).map_or(0, Iterator::count);
    count("new") + count("cur")
}

/// The count of octets once it stands still: claims and receipts of what is readable already are counted too.
fn quiet_octets(site: &Host) -> Result<u64> {
    let (mut octets, mut since) = (wire_octets(site)?, Instant::now());
    while since.elapsed() < QUIET {
        thread::sleep(LOOK);
        let now = wire_octets(site)?;
        // Neighbours are asked for their addresses now and then.
        if now > octets + 200 {
            (octets, since) = (now, Instant::now());
        }
    }
    Ok(octets)
}
