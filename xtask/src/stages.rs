//! `cargo xtask test`: the stages, in order, each with its time.
//!
//! A stage that fails does not keep the later ones from running; the exit code tells. What ends the output is one line, `N passed, N failed`,
//! which sums up all tests, and counts every other stage that failed as one failure more. A run that takes longer than all stages are to is told of,
//! and no failure: machines differ.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::summary::Summary;
use crate::{imports, machine, run, summary};

/// One stage.
struct Stage {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<Summary>,
    /// Seconds that it may take on two cores: what takes longer has failed.
    most: Option<u64>,
}

impl Stage {
    const fn new(name: &'static str, about: &'static str, run: fn() -> Result<Summary>) -> Self {
        Self { name, about, run, most: None }
    }

    const fn within(self, seconds: u64) -> Self {
        Self { most: Some(seconds), ..self }
    }

    /// What is to be said if it took that long.
    fn overrun(&self, time: Duration) -> Option<String> {
        overrun(Duration::from_secs(self.most?), time)
    }
}

/// What is to be said of what may take `most`, if it took longer.
fn overrun(most: Duration, time: Duration) -> Option<String> {
    (time > most).then(|| format!("it may take {} and took {}", seconds(most), seconds(time)))
}

/// What all stages together are to take on two cores.
const MOST: Duration = Duration::from_secs(60 * 60);

/// All stages, in the order in which they run.
const STAGES: [Stage; 8] = [
    Stage::new("setup", "what the tests need: programs, the real peers, root", setup),
    Stage::new("format", "cargo fmt --check", format),
    Stage::new("imports", "which crate may use which", check_imports),
    Stage::new("lints", "cargo clippy, warnings are errors", lints),
    Stage::new("build", "all programs and tests, with optimisation", build),
    Stage::new("simulation", "simulated worlds, and bugs seeded into them", simulation).within(5 * 60),
    Stage::new("kills", "servers and stores killed at every sync and commit", kills).within(8 * 60),
    Stage::new("test", "all other tests", test),
];

/// Test programs that are a stage of their own.
const SIMULATION: [&str; 2] = ["mutations", "seeds"];
const KILLS: [&str; 3] = ["crash", "power", "power_sites"];

/// Prints the stages.
pub(crate) fn list() -> Result<ExitCode> {
    for stage in &STAGES {
        println!("{:<10} {}", stage.name, stage.about);
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
        let overrun = stage.overrun(time);
        if let Some(overrun) = &overrun {
            println!("{} failed: {overrun}", stage.name);
            total.failed += 1;
        }
        let failed = overrun.is_some() || result.map_or(true, |summary| summary.failed > 0);
        report.push((stage.name, time, failed));
    }
    finish(&report, total)
}

fn finish(report: &[(&str, Duration, bool)], total: Summary) -> Result<ExitCode> {
    println!();
    for (name, time, failed) in report {
        println!("{name:<10} {:>10}{}", seconds(*time), if *failed { "  FAILED" } else { "" });
    }
    let time = report.iter().map(|(_, time, _)| *time).sum();
    println!("{:<10} {:>10}", "total", seconds(time));
    if let Some(overrun) = overrun(MOST, time) {
        println!("the whole run is slow: {overrun}");
    }
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

fn simulation() -> Result<Summary> {
    run_tests(&only(&SIMULATION))
}

fn kills() -> Result<Summary> {
    run_tests(&only(&KILLS))
}

/// cargo knows no "all but these", so the others are named. Examples in documentation are tests that no name selects.
fn test() -> Result<Summary> {
    let names = test_programs()?;
    let others: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !SIMULATION.contains(name) && !KILLS.contains(name)).collect();
    let mut total = run_tests(&[&["--lib", "--bins"], &*only(&others)].concat())?;
    total.add(run_tests(&["--doc"])?);
    Ok(total)
}

fn only<'a>(names: &[&'a str]) -> Vec<&'a str> {
    names.iter().flat_map(|name| ["--test", name]).collect()
}

/// The names of all test programs of the workspace.
fn test_programs() -> Result<BTreeSet<String>> {
    let metadata: Value =
        serde_json::from_str(&run::cargo_output(&["metadata", "--format-version", "1", "--no-deps"])?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let targets = packages.iter().filter_map(|package| package["targets"].as_array()).flatten();
    let tests = targets.filter(|target| target["kind"][0] == "test");
    Ok(tests.filter_map(|target| Some(target["name"].as_str()?.to_owned())).collect())
}

fn run_tests(selection: &[&str]) -> Result<Summary> {
    let arguments = [&["test", "--release", "--workspace", "--no-fail-fast"], selection].concat();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_run_every_test_program_once() {
        let names = test_programs().unwrap();
        for name in SIMULATION.iter().chain(&KILLS) {
            assert!(names.contains(*name), "{name}");
        }
        assert!(names.len() > SIMULATION.len() + KILLS.len());
    }

    #[test]
    fn a_stage_that_takes_too_long_has_failed() {
        let stage = Stage::new("a", "b", setup).within(60);
        assert_eq!(stage.overrun(Duration::from_secs(60)), None);
        assert_eq!(stage.overrun(Duration::from_secs(61)).as_deref(), Some("it may take 60.0 s and took 61.0 s"));
        assert_eq!(Stage::new("a", "b", setup).overrun(Duration::from_secs(10_000)), None);
    }
}
