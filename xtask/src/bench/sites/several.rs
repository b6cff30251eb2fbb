//! How many messages a site fetches at a time, and over how many connections, where the link is slow and where its other end is far away.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testbed::Process;
use testbed::peers::PartTime;

use super::{LOOK, MAIL, message, quiet_octets, readable};
use crate::bench::Effort;
use crate::bench::figures::{Figure, Goal};
use crate::bench::under_test::{program, wire_octets};

/// The slower link carries a part of the mail.
const FEW: usize = 8;
/// What has not come then does not come.
const LIMIT: Duration = Duration::from_secs(120);

/// So many at a time: over one connection, or each over its own.
const OURS: (usize, bool) = (4, true);
const OTHERS: [(&str, (usize, bool)); 2] = [("one at a time", (1, true)), ("four connections", (4, false))];

/// Links: their rate, a round trip, and how much of the mail comes over them.
const LINKS: [(&str, &str, Duration, usize); 2] = [
    ("64 kbit/s and 50 ms", "64kbit", Duration::from_millis(50), FEW),
    ("512 kbit/s and 300 ms", "512kbit", Duration::from_millis(300), MAIL.len()),
];

/// A site that fetches in one of these ways.
struct Site {
    world: PartTime,
    _delay: Process,
}

struct Taken {
    half: f64,
    all: f64,
    octets: f64,
}

pub(in crate::bench) fn run(effort: Effort) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (link, rate, round_trip, count) in LINKS {
        let mut ours = Site::start(OURS, rate, round_trip)?;
        for (name, way) in OTHERS {
            let mut other = Site::start(way, rate, round_trip)?;
            let named = |what: &str, unit| Figure::new(format!("{link}: {what}, peer: {name}"), unit, Goal::Told);
            let (mut half, mut all) = (named("until half is readable", "s"), named("until all is readable", "s"));
            let mut octets = named("octets on the wire", "KiB");
            for round in 0..effort.rounds.min(3) {
                let (our, their) = (ours.fetch(round, count)?, other.fetch(round, count)?);
                half.round(our.half, their.half);
                all.round(our.all, their.all);
                octets.round(our.octets, their.octets);
            }
            figures.extend([half, all, octets]);
        }
    }
    Ok(figures)
}

impl Site {
    fn start((at_once, http2): (usize, bool), rate: &str, round_trip: Duration) -> Result<Self> {
        let world = PartTime::start(&program("restante")?, |name, config| match name {
            "site" => {
                let config = config.with("transfer", "max_retrievals_per_domain", &at_once.to_string());
                config.tables(&format!("http2 = {http2}"))
            }
            _ => config,
        })?;
        world.custodian.host().slow_down(rate)?;
        let delay = world.site.host().delay(round_trip)?;
        Ok(Self { world, _delay: delay })
    }

    /// Mail waits while the site's server is not there; then it comes.
    fn fetch(&mut self, round: usize, count: usize) -> Result<Taken> {
        self.world.site.stop()?;
        let mail = MAIL.iter().take(count).enumerate().map(|(n, size)| message(round * 100 + n, *size));
        let sent: Vec<String> =
            mail.map(|message| self.world.send("bob@site.example", &message)).collect::<Result<_>>()?;
        sent.iter().try_for_each(|id| self.world.until_kept(id))?;
        self.world.site.run()?;
        let maildir = self.world.site.maildir("bob@site.example").path().to_owned();
        let (had, octets, begun) = (readable(&maildir), wire_octets(self.world.site.host())?, Instant::now());
        self.world.site.json(&["link", "up"], b"")?;
        let until = |number: usize| -> Result<f64> {
            while readable(&maildir) < had + number {
                ensure!(begun.elapsed() < LIMIT, "{} of {number} messages came", readable(&maildir) - had);
                thread::sleep(LOOK);
            }
            Ok(begun.elapsed().as_secs_f64())
        };
        let (half, all) = (until(count / 2)?, until(count)?);
        let octets = quiet_octets(self.world.site.host())? - octets;
        Ok(Taken { half, all, octets: octets as f64 / 1024.0 })
    }
}
