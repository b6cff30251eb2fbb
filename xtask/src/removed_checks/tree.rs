//! A copy of the checkout in which checks are removed, and the test programs that are built from it.
//!
//! The copy and everything built from it lie below `target/removed-checks`, so that neither the checkout nor the programs in `target/release`
//! are ever without a check. The copy is kept: another run copies what has changed, and builds that only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::named_tests::{NamedTest, Program};
use crate::run;

/// The copy.
pub(super) struct Tree {
    /// Where the copy lies.
    pub(super) root: PathBuf,
    /// Where its programs are built.
    target: PathBuf,
    /// `--config` for cargo: our own packages are compiled without optimisation, which is quicker than running them with.
    config: Vec<String>,
    /// Held while the copy is in use.
    _lock: File,
}

impl Tree {
    /// Brings the copy up to date with the checkout, once nobody else uses it.
    ///
    /// # Errors
    /// git does not list the files, or one can't be copied.
    pub(super) fn copy() -> Result<Self> {
        let folder = run::root().join("target/removed-checks");
        let (root, target) = (folder.join("tree"), folder.join("target"));
        fs::create_dir_all(&root)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(run::root())
            .output()
            .context("git")?;
        ensure!(output.status.success(), "git ls-files: {}", output.status);
        let listed = String::from_utf8(output.stdout)?;
        let files: BTreeSet<&Path> = listed.split_terminator('\0').map(Path::new).collect();
        for file in &files {
            copy_changed(&run::root().join(file), &root.join(file))?;
        }
        remove_others(&root, &root, &files)?;
        let config = own_packages()?.iter().map(|name| format!("profile.release.package.{name}.opt-level=0")).collect();
        Ok(Self { root, target, config, _lock: lock })
    }

    /// Builds the test programs that hold these tests; each program's path by the test's package and program.
    ///
    /// # Errors
    /// It does not compile.
    pub(super) fn build(&self, tests: &BTreeSet<NamedTest>) -> Result<BTreeMap<(String, Program), PathBuf>> {
        let mut built = BTreeMap::new();
        let packages: BTreeSet<&str> = tests.iter().map(|test| test.package.as_str()).collect();
        for package in packages {
            let own = tests.iter().filter(|test| test.package == package);
            let programs: BTreeSet<&Program> = own.map(|test| &test.program).collect();
            for (program, path) in self.build_package(package, &programs)? {
                built.insert((package.to_owned(), program), path);
            }
        }
        Ok(built)
    }

    fn build_package(&self, package: &str, programs: &BTreeSet<&Program>) -> Result<Vec<(Program, PathBuf)>> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["test", "--release", "--no-run", "--message-format=json", "--package", package]);
        for setting in &self.config {
            command.args(["--config", setting]);
        }
        for program in programs {
            match program {
                Program::Library => command.arg("--lib"),
                Program::Binary => command.arg("--bins"),
                Program::Integration(name) => command.args(["--test", name]),
            };
        }
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        let output = command.stderr(Stdio::piped()).output().context("cargo")?;
        ensure!(output.status.success(), "it does not compile:\n{}", errors_of(&output.stdout));
        let messages = String::from_utf8(output.stdout)?;
        Ok(messages
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter_map(|m| test_program(&m))
            .collect())
    }
}

/// The test program that cargo says it has built.
fn test_program(message: &Value) -> Option<(Program, PathBuf)> {
    let target = &message["target"];
    let path = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let program = match target["kind"][0].as_str()? {
        "test" => Program::Integration(target["name"].as_str()?.to_owned()),
        "bin" => Program::Binary,
        _ => Program::Library,
    };
    Some((program, PathBuf::from(path)))
}

/// What the compiler complains of.
fn errors_of(messages: &[u8]) -> String {
    let messages = String::from_utf8_lossy(messages);
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let errors = parsed.filter(|message| message["message"]["level"] == "error");
    errors.filter_map(|message| message["message"]["rendered"].as_str().map(str::to_owned)).take(3).collect()
}

/// The names of the workspace's packages.
fn own_packages() -> Result<Vec<String>> {
    let metadata: Value =
        serde_json::from_str(&run::cargo_output(&["metadata", "--format-version", "1", "--no-deps"])?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    Ok(packages.iter().filter_map(|package| package["name"].as_str().map(str::to_owned)).collect())
}

/// Copies a file unless the copy is the same: what is not written needs no new build.
fn copy_changed(from: &Path, to: &Path) -> Result<()> {
    // A file that was removed from the checkout and not yet from the index.
    let Ok(content) = fs::read(from) else { return Ok(()) };
    if fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(to, content).with_context(|| to.display().to_string())
}

/// Removes what an earlier copy left and the checkout has no longer.
fn remove_others(root: &Path, folder: &Path, files: &BTreeSet<&Path>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(root, &path, files)?;
        } else if let Ok(relative) = path.strip_prefix(root)
            && (!files.contains(relative) || !run::root().join(relative).is_file())
        {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
