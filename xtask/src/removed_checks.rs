//! `cargo xtask removed-checks`: removes one check after the other, in a copy, and runs the test that must fail then.
//!
//! What the checks are stands in `docs/spec/removed-checks`. First every named test must pass with all checks in place. A check counts as
//! tested when the test program compiles without it, runs, and says that the test failed; neither a program that does not compile nor a
//! test that does not end shows anything.

mod table;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::named_tests::{NamedTest, Program};
use table::Row;
#[cfg(test)]
pub(crate) use table::names;
use tree::Tree;

/// What a test may take.
const LONGEST: Duration = Duration::from_secs(120);

/// Test programs by package and kind.
type Programs = BTreeMap<(String, Program), PathBuf>;

/// Removes the checks whose name contains one of `chosen`, or all of them.
///
/// # Errors
/// The list is wrong, or a test fails though nothing was removed.
pub(crate) fn run(chosen: &[String], list: bool) -> Result<ExitCode> {
    let mut rows = table::read()?;
    rows.retain(|row| chosen.is_empty() || chosen.iter().any(|name| row.name.contains(name)));
    ensure!(!rows.is_empty(), "no check has such a name; --list names them all");
    if list {
        rows.iter().for_each(|row| println!("{:<44} {}", row.name, row.against));
        return Ok(ExitCode::SUCCESS);
    }
    let tests = rows.iter().map(Row::test).collect::<Result<Vec<_>>>()?;
    let tree = Tree::copy()?;
    println!("{} tests with every check in place", tests.iter().collect::<BTreeSet<_>>().len());
    all_pass(&tree, &tests)?;
    let mut untested = Vec::new();
    for (row, test) in rows.iter().zip(&tests) {
        let start = Instant::now();
        match without(&tree, row, test) {
            Ok(()) => println!("{:<44} {} fails ({:.1} s)", row.name, row.test, start.elapsed().as_secs_f64()),
            Err(error) => {
                println!("{:<44} NOT SHOWN: {error:#}", row.name);
                untested.push(&row.name);
            }
        }
    }
    println!("{} of {} removed checks made their test fail", rows.len() - untested.len(), rows.len());
    untested.iter().for_each(|name| println!("not shown: {name}"));
    Ok(if untested.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// With every check in place, every test passes.
fn all_pass(tree: &Tree, tests: &[NamedTest]) -> Result<()> {
    let tests: BTreeSet<NamedTest> = tests.iter().cloned().collect();
    let programs = tree.build(&tests)?;
    // All dialogues of a folder are one test.
    let functions: BTreeSet<NamedTest> = tests.into_iter().map(|test| NamedTest { dialogue: None, ..test }).collect();
    let mut failures = Vec::new();
    for test in &functions {
        let verdict = play(tree, &programs, test)?;
        if !verdict.passed {
            failures.push(format!("{} {}:\n{}", test.package, test.path, verdict.output));
        }
    }
    ensure!(failures.is_empty(), "tests fail though nothing is removed\n{}", failures.join("\n"));
    Ok(())
}

/// Without the check, its test fails.
fn without(tree: &Tree, row: &Row, test: &NamedTest) -> Result<()> {
    let file = tree.root.join(&row.file);
    let source = fs::read_to_string(&file).with_context(|| row.file.clone())?;
    fs::write(&file, row.remove_from(&source)?)?;
    let result = tree.build(&BTreeSet::from([test.clone()])).and_then(|programs| play(tree, &programs, test));
    fs::write(&file, source)?;
    let verdict = result?;
    ensure!(!verdict.passed, "{} passes all the same", row.test);
    if let Some(dialogue) = &test.dialogue {
        ensure!(verdict.output.contains(dialogue), "others than {} fail:\n{}", row.test, verdict.output);
    }
    Ok(())
}

/// What a test said.
struct Verdict {
    passed: bool,
    output: String,
}

/// Runs one test.
///
/// # Errors
/// It does not end, or its program says neither that it passed nor that it failed.
fn play(tree: &Tree, programs: &Programs, test: &NamedTest) -> Result<Verdict> {
    let key = (test.package.clone(), test.program.clone());
    let program = programs.get(&key).with_context(|| format!("no test program for {}", test.path))?;
    let log = tree.root.with_file_name("output");
    let output = File::create(&log)?;
    let mut child = Command::new(program)
        .args(["--exact", &test.path])
        .env("RUST_BACKTRACE", "0")
        .current_dir(tree.root.join(&test.folder))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > LONGEST {
            child.kill()?;
            child.wait()?;
            bail!("{} did not end within {} s", test.path, LONGEST.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if output.contains("test result: ok. 1 passed; 0 failed") {
        Ok(Verdict { passed: true, output })
    } else if output.contains("test result: FAILED. 0 passed; 1 failed") {
        Ok(Verdict { passed: false, output })
    } else {
        bail!("{} gave no verdict:\n{output}", test.path)
    }
}
