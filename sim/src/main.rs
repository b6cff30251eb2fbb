//! Runs worlds: `cargo run --release -p sim -- --seeds 0..1000 [--network] [--mutation NAME] [--verbose]`.

use std::process::ExitCode;
use std::time::Instant;

use sim::{Mutation, Options, Shape, Summary, run};

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Ok((seeds, options)) => play(seeds, options),
        Err(wrong) => {
            eprintln!("{wrong}\nusage: sim --seeds FROM..TO [--network] [--mutation NAME] [--verbose]");
            ExitCode::from(2)
        }
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<(std::ops::Range<u64>, Options), String> {
    let (mut seeds, mut options) = (0..1000, Options::default());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seeds" => seeds = range(&words.next().unwrap_or_default())?,
            "--mutation" => options.mutation = Some(words.next().unwrap_or_default().parse::<Mutation>()?),
            "--network" => options.shape = Shape::Network,
            "--verbose" => options.verbose = true,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok((seeds, options))
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let wrong = |_| format!("{text} is no range of seeds");
    match text.split_once("..") {
        Some((from, to)) => Ok(from.parse().map_err(wrong)?..to.parse().map_err(wrong)?),
        None => text.parse().map(|seed| seed..seed + 1).map_err(wrong),
    }
}

fn play(seeds: std::ops::Range<u64>, options: Options) -> ExitCode {
    let (begun, mut total, mut wrong) = (Instant::now(), Summary::default(), 0);
    let count = seeds.end.saturating_sub(seeds.start);
    for seed in seeds {
        match run(seed, options) {
            Ok(summary) => total += summary,
            Err(violation) => {
                wrong += 1;
                let shape = if options.shape == Shape::Network { " --network" } else { "" };
                let mutation = options.mutation.map(|m| format!(" --mutation {m}")).unwrap_or_default();
                println!(
                    "seed {seed}: {violation}\n  replay: cargo run --release -p sim -- --seeds {seed}{shape}{mutation} --verbose"
                );
            }
        }
    }
    println!("{count} seeds in {:.1} s, {wrong} with a violation\n{total:#?}", begun.elapsed().as_secs_f64());
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
