//! `cargo xtask test`: the stages, in order, each with its time.
//!
//! A stage that fails does not keep the later ones from running; the exit code tells. What ends the output is one line, `N passed, N failed`,
//! which sums up all tests, and counts every other stage that failed as one failure more.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::summary::Summary;
use crate::{imports, machine, run, summary};

/// One stage.
struct Stage {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<Summary>,
}

/// All stages, in the order in which they run.
const STAGES: [Stage; 6] = [
    Stage { name: "setup", about: "what the tests need: programs, the real peers, root", run: setup },
    Stage { name: "format", about: "cargo fmt --check", run: format },
    Stage { name: "imports", about: "which crate may use which", run: check_imports },
    Stage { name: "lints", about: "cargo clippy, warnings are errors", run: lints },
    Stage { name: "build", about: "all programs and tests, with optimisation", run: build },
    Stage { name: "test", about: "all tests", run: test },
];

/// Prints the stages.
pub(crate) fn list() -> Result<ExitCode> {
    for stage in &STAGES {
        println!("{:<8} {}", stage.name, stage.about);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs all stages, or the one named `only`.
pub(crate) fn run(only: Option<&str>) -> Result<ExitCode> {
    let chosen: Vec<&Stage> = STAGES.iter().filter(|stage| only.is_none_or(|name| name == stage.name)).collect();
    if let (Some(name), true) = (only, chosen.is_empty()) {
        anyhow::bail!("there is no stage {name:?}; `cargo xtask test --list` names them all");
    }
    let mut total = Summary::default();
    let mut report = Vec::new();
    for stage in chosen {
        println!("==> {}: {}", stage.name, stage.about);
        let start = Instant::now();
        let result = (stage.run)();
        let time = start.elapsed();
        match &result {
            Ok(summary) => total.add(*summary),
            Err(why) => {
                println!("{} failed: {why:#}", stage.name);
                total.failed += 1;
            }
        }
        println!("==> {} took {}", stage.name, seconds(time));
        let failed = result.map_or(true, |summary| summary.failed > 0);
        report.push((stage.name, time, failed));
    }
    finish(&report, total)
}

fn finish(report: &[(&str, Duration, bool)], total: Summary) -> Result<ExitCode> {
    println!();
    for (name, time, failed) in report {
        println!("{name:<8} {:>10}{}", seconds(*time), if *failed { "  FAILED" } else { "" });
    }
    println!("{:<8} {:>10}", "total", seconds(report.iter().map(|(_, time, _)| *time).sum()));
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn setup() -> Result<Summary> {
    machine::set_up().map(|()| Summary::default())
}

fn format() -> Result<Summary> {
    run::cargo(&["fmt", "--all", "--check"])?;
    Ok(Summary::default())
}

fn lints() -> Result<Summary> {
    run::cargo(&["clippy", "--release", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"])?;
    Ok(Summary::default())
}

fn check_imports() -> Result<Summary> {
    imports::check().map(|()| Summary::default())
}

fn build() -> Result<Summary> {
    run::cargo(&["test", "--release", "--workspace", "--no-run", "--quiet"])?;
    Ok(Summary::default())
}

fn test() -> Result<Summary> {
    let arguments = ["test", "--release", "--workspace", "--no-fail-fast"];
    let mut total = Summary::default();
    let success = run::cargo_lines(&arguments, |line| {
        println!("{line}");
        total.add(summary::of_line(line));
    })
    .context("cargo test")?;
    if !success && total.failed == 0 {
        anyhow::bail!("cargo test failed without a failed test: a test program did not build or ended early");
    }
    anyhow::ensure!(total.passed > 0, "no test ran");
    Ok(total)
}
