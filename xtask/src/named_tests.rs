//! Tests that documents name: where they stand in the source, and how one of them is run.
//!
//! A name is `crate::module::test` for a unit test, `crate::file::test` for a test in `tests/file.rs`, or `dialogue folder/name` for a
//! conversation in `tests/dialogues`, which the crate `smtp` plays. Whether a test exists is read from the source, so that it costs nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::run;

/// How a dialogue is named in documents.
const DIALOGUE: &str = "dialogue ";

/// A test that exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedTest {
    /// The folder of its package, relative to the project.
    pub(crate) folder: String,
    pub(crate) package: String,
    pub(crate) program: Program,
    /// Its name within the program, as `--exact` wants it.
    pub(crate) path: String,
    /// For a dialogue: what the output of a failure names.
    pub(crate) dialogue: Option<String>,
}

/// The test program that holds a test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    /// The unit tests of a library.
    Library,
    /// The unit tests of a program.
    Binary,
    /// A file of `tests`.
    Integration(String),
}

impl NamedTest {
    /// Finds the test that `name` means.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn find(name: &str) -> Result<Self> {
        match name.strip_prefix(DIALOGUE) {
            Some(dialogue) => Self::find_dialogue(dialogue),
            None => Self::find_function(name).with_context(|| format!("no test {name}")),
        }
    }

    fn find_dialogue(dialogue: &str) -> Result<Self> {
        let (folder, _) = dialogue.split_once('/').context("a dialogue is named folder/name")?;
        let file = format!("tests/dialogues/{dialogue}.smtp");
        ensure!(run::root().join(&file).is_file(), "no dialogue {file}");
        Ok(Self {
            folder: "crates/smtp".to_owned(),
            package: "smtp".to_owned(),
            program: Program::Integration("dialogues".to_owned()),
            path: format!("{folder}_dialogues"),
            dialogue: Some(format!("{dialogue}.smtp, fed")),
        })
    }

    fn find_function(name: &str) -> Result<Self> {
        let parts: Vec<&str> = name.split("::").collect();
        let [krate, modules @ .., test] = &parts[..] else { bail!("a test is named crate::module::test") };
        let (folder, package) = package(krate)?;
        let at = run::root().join(&folder);
        let found = |program, path: String| Ok(Self { folder: folder.clone(), package, program, path, dialogue: None });
        if let Some((file, inner)) = modules.split_first()
            && stands_in(&root_file(&at.join("tests"), file), inner, test)
        {
            return found(Program::Integration((*file).to_owned()), joined(inner, test));
        }
        let (source, path) = (at.join("src"), joined(modules, test));
        for (file, program) in [("lib", Program::Library), ("main", Program::Binary)] {
            if stands_in(&source.join(format!("{file}.rs")), modules, test) {
                return found(program, path);
            }
        }
        bail!("not found below {folder}");
    }
}

fn joined(modules: &[&str], test: &str) -> String {
    modules.iter().chain([&test]).copied().collect::<Vec<_>>().join("::")
}

/// The folder and the name of the package that documents call `krate`.
fn package(krate: &str) -> Result<(String, String)> {
    let folder = [format!("crates/{krate}"), krate.to_owned()]
        .into_iter()
        .find(|folder| run::root().join(folder).join("Cargo.toml").is_file())
        .with_context(|| format!("no crate {krate}"))?;
    let package = if krate == "fuzz" { "restante-fuzz" } else { krate };
    Ok((folder, package.to_owned()))
}

/// The root file of the test program `name`.
fn root_file(tests: &Path, name: &str) -> PathBuf {
    let folder = tests.join(name).join("main.rs");
    if folder.is_file() { folder } else { tests.join(format!("{name}.rs")) }
}

/// Does the test stand in the module that `modules` leads to from the crate's root file?
fn stands_in(root: &Path, modules: &[&str], test: &str) -> bool {
    if !root.is_file() {
        return false;
    }
    let (mut folder, mut file) = (root.with_file_name(""), root.to_owned());
    for module in modules {
        let beside = folder.join(format!("{module}.rs"));
        let below = folder.join(module).join("mod.rs");
        folder.push(module);
        match [beside, below].into_iter().find(|file| file.is_file()) {
            Some(next) => file = next,
            None if !text(&file).contains(&format!("mod {module} {{")) => return false,
            None => {}
        }
    }
    holds_test(&text(&file), test)
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// Does the source hold a function of this name with a test attribute above it?
fn holds_test(source: &str, test: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let is_function = |line: &&str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(test)).is_some_and(|rest| rest.starts_with('('))
    };
    let attributed = |at: usize| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        above.clone().any(|line| line.ends_with("test]") || line.contains("test("))
    };
    (0..lines.len()).any(|at| is_function(&lines[at]) && attributed(at))
}

/// Every code span of a line of a document that has the form of a test's name, or of a dialogue's. `::test` stands in the module of the
/// test before it.
#[cfg(test)]
pub(crate) fn named_in(line: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut module = String::new();
    for span in line.split('`').skip(1).step_by(2) {
        if span.starts_with("server/") || span.starts_with("client/") {
            names.push(format!("{DIALOGUE}{span}"));
        } else if let Some(test) = span.strip_prefix("::") {
            names.push(format!("{module}::{test}"));
        } else if let Some((before, _)) = span.rsplit_once("::") {
            module = before.to_owned();
            names.push(span.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_where_they_stand() {
        let unit = NamedTest::find("xtask::named_tests::tests::tests_are_found_where_they_stand").unwrap();
        assert_eq!((unit.program, unit.package.as_str()), (Program::Binary, "xtask"));
        let dialogue = NamedTest::find("dialogue server/tbr").unwrap();
        assert_eq!((dialogue.path.as_str(), dialogue.package.as_str()), ("server_dialogues", "smtp"));
        let integration = NamedTest::find("store::contract::backends_cannot_be_told_apart").unwrap();
        assert_eq!(integration.program, Program::Integration("contract".to_owned()));
        for missing in ["xtask::named_tests::tests::missing", "xtask::named_tests::holds_test", "nobody::x", "x"] {
            assert!(NamedTest::find(missing).is_err(), "{missing}");
        }
        assert!(NamedTest::find("dialogue server/missing").is_err());
    }

    #[test]
    fn names_are_read_from_documents() {
        let line = "| 1 | x `d` | dialogue `server/tbr`, `client/x` and `a::b::c`, `::d` | `e/f` |";
        assert_eq!(named_in(line), ["dialogue server/tbr", "dialogue client/x", "a::b::c", "a::b::d"]);
    }
}
