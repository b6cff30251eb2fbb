//! `cargo xtask bench`: the goals of docs/performance.md, each measured beside its peer in the same run.
//!
//! Every server under test runs in a sandbox of its own network (crate `testbed`), with its store on the real disk.
//! Rounds alternate between Restante and its peer. A round of most benchmarks takes seconds, one with links that are down most of the time
//! takes minutes: each benchmark says how long it took.
//! What a figure means is in its benchmark's module; timings of a busy machine are worth little, ratios more.

mod between;
mod by_value;
mod document;
mod domains;
mod fan_out;
mod figures;
mod hostile;
mod list;
mod offers;
mod paths;
mod refusal;
mod retrieval;
mod sites;
mod sizes;
mod smtp;
mod under_test;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::{machine, run};
use document::Document;
use figures::Figure;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Rounds of each benchmark.
    rounds: usize,
    /// Fewer messages and requests.
    is_quick: bool,
}

impl Effort {
    /// `whole`, or a fraction of it when time is short.
    fn amount(self, whole: usize) -> usize {
        if self.is_quick { whole / 2 } else { whole }
    }
}

struct Benchmark {
    name: &'static str,
    about: &'static str,
    /// What it is measured beside.
    peer: &'static str,
    run: fn(Effort) -> Result<Vec<Figure>>,
}

const BENCHMARKS: [Benchmark; 18] = [
    Benchmark {
        name: "small",
        about: "4 KiB by value, 50 connections, beside Postfix",
        peer: "Postfix",
        run: by_value::small,
    },
    Benchmark {
        name: "large",
        about: "10 MiB by value, 50 connections, beside Postfix",
        peer: "Postfix",
        run: by_value::large,
    },
    Benchmark {
        name: "offers",
        about: "offers durably accepted, 100 per TLS session",
        peer: "",
        run: offers::accepted,
    },
    Benchmark { name: "octets", about: "client octets of an offer to one recipient", peer: "", run: offers::octets },
    Benchmark {
        name: "hostile",
        about: "a thousand hostile offers a second, beside submissions",
        peer: "idle",
        run: hostile::run,
    },
    Benchmark {
        name: "refusal",
        about: "an offer refused, beside Postfix refusing at RCPT and after 20 KiB",
        peer: "Postfix",
        run: refusal::run,
    },
    Benchmark { name: "retrieval", about: "10 MiB objects by HTTPS, beside nginx", peer: "nginx", run: retrieval::run },
    Benchmark {
        name: "between",
        about: "10 MiB from domain to domain, beside by value",
        peer: "by value",
        run: between::run,
    },
    Benchmark {
        name: "sizes",
        about: "small messages from domain to domain, beside by value",
        peer: "by value",
        run: sizes::run,
    },
    Benchmark {
        name: "attachment",
        about: "10 MiB of base64 from domain to domain, coded, beside by value",
        peer: "by value",
        run: sizes::attachment,
    },
    Benchmark {
        name: "fanout",
        about: "10 MiB to 50 domains of one receiver, beside Postfix",
        peer: "Postfix",
        run: fan_out::run,
    },
    Benchmark {
        name: "sites",
        about: "mail that waits for a site behind a slow link that breaks, beside ETRN and IMAP",
        peer: "by value",
        run: sites::run,
    },
    Benchmark {
        name: "daily",
        about: "the same mail where the link is up once a day, beside ETRN and IMAP",
        peer: "by value",
        run: sites::a_window_a_day,
    },
    Benchmark {
        name: "several",
        about: "several messages at a time over one connection, beside one at a time and several connections",
        peer: "otherwise",
        run: sites::several_at_a_time,
    },
    Benchmark {
        name: "uploads",
        about: "mail from such a site to its custodian, beside Postfix by SMTP",
        peer: "Postfix",
        run: sites::uploads,
    },
    Benchmark {
        name: "hops",
        about: "60 KB over five hops, whose links lose packets and go down, beside Postfix",
        peer: "Postfix",
        run: paths::hops,
    },
    Benchmark {
        name: "origins",
        about: "60 KB from a server that is switched off at any moment, beside Postfix",
        peer: "Postfix",
        run: paths::origins,
    },
    Benchmark {
        name: "list",
        about: "100 KiB to 10,000 recipients in 2,000 domains, beside Postfix",
        peer: "Postfix",
        run: list::run,
    },
];

/// How a run tells what it found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Telling {
    /// One JSON object instead of lines.
    pub(crate) as_json: bool,
    /// Into docs/performance.md, too.
    pub(crate) into_docs: bool,
}

/// Fetches the peers and builds what is measured.
pub(crate) fn build() -> Result<()> {
    machine::set_up()?;
    run::cargo(&["build", "--release", "--quiet", "--package", "restante", "--bin", "restante"])?;
    run::cargo(&["build", "--release", "--quiet", "--package", "net", "--example", "tbr_load"])?;
    run::cargo(&["build", "--release", "--quiet", "--package", "net", "--example", "hostile_load"])
}

/// Runs the benchmarks named, or all; fails where a goal is missed.
pub(crate) fn run(names: &[String], telling: Telling, is_quick: bool) -> Result<ExitCode> {
    if let Some(unknown) = names.iter().find(|name| BENCHMARKS.iter().all(|b| b.name != name.as_str())) {
        let known: Vec<String> = BENCHMARKS.iter().map(|b| format!("  {:<10} {}", b.name, b.about)).collect();
        bail!("there is no benchmark {unknown:?}; there are\n{}", known.join("\n"));
    }
    let effort = Effort { rounds: if is_quick { 3 } else { 5 }, is_quick };
    let mut document = telling.into_docs.then(Document::open).transpose()?;
    let (mut report, mut all_met) = (Vec::new(), true);
    for benchmark in BENCHMARKS.iter().filter(|b| names.is_empty() || names.iter().any(|name| name == b.name)) {
        let start = Instant::now();
        let figures = (benchmark.run)(effort)?;
        all_met &= figures.iter().all(|figure| figure.is_met() != Some(false));
        let seconds = start.elapsed().as_secs_f64();
        if !telling.as_json {
            println!("{}: {} ({seconds:.0} s)", benchmark.name, benchmark.about);
            figures.iter().for_each(|figure| println!("{}", figure.line()));
        }
        if let Some(document) = &mut document {
            document.put(benchmark.name, benchmark.peer, &figures)?;
        }
        let figures: Vec<Value> = figures.iter().map(Figure::to_json).collect();
        report
            .push(json!({ "name": benchmark.name, "about": benchmark.about, "seconds": seconds, "figures": figures }));
    }
    if let Some(document) = document {
        document.close()?;
    }
    if telling.as_json {
        println!("{:#}", json!({ "rounds": effort.rounds, "benchmarks": report }));
    }
    Ok(if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
