//! The project's own commands: `cargo xtask <command>`.
//!
//! One module a command. `test` runs all that must pass before a change lands; `peers` fetches what the tests use from Debian. What a
//! command does in detail is in its module; here is only the command line.

mod bench;
mod imports;
mod machine;
mod named_tests;
mod removed_checks;
mod run;
#[cfg(test)]
mod spec;
mod stages;
mod summary;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Development commands of Restante")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sets up what the tests need on this machine and runs all checks and tests.
    Test {
        /// Runs one stage only.
        #[arg(long, value_name = "STAGE")]
        only: Option<String>,
        /// Lists the stages and runs none.
        #[arg(long)]
        list: bool,
    },
    /// Measures Restante beside Postfix and nginx, and says which goals are met.
    Bench {
        /// Runs these only; an unknown name lists them all.
        names: Vec<String>,
        /// Prints one JSON object instead of lines.
        #[arg(long)]
        json: bool,
        /// Fewer rounds and messages.
        #[arg(long)]
        quick: bool,
        /// Measures the programs as they were built last.
        #[arg(long)]
        no_build: bool,
        /// Writes the figures into docs/performance.md, too.
        #[arg(long)]
        write_docs: bool,
    },
    /// Removes checks against hostile peers one by one, in a copy, and shows that a test fails each time.
    RemovedChecks {
        /// Those whose name contains one of these; without, all of them.
        names: Vec<String>,
        /// Lists the checks and removes none.
        #[arg(long)]
        list: bool,
    },
    /// Fetches and unpacks the real mail servers that the tests talk to (Debian packages, not installed).
    Peers,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Test { list: true, .. } => stages::list(),
        Command::Test { only, list: false } => stages::run(only.as_deref()),
        Command::Bench { names, json, quick, no_build, write_docs } => {
            if !no_build {
                bench::build()?;
            }
            bench::run(&names, bench::Telling { as_json: json, into_docs: write_docs }, quick)
        }
        Command::RemovedChecks { names, list } => removed_checks::run(&names, list),
        Command::Peers => {
            machine::set_up()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
