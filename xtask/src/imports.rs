//! Which crate of the workspace may use which, and what pure crates must never reach.
//!
//! Protocol and decisions are pure; sockets, disks and clocks live at the edge. Uses in tests are free among the test equipment.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::run;

/// A crate of the workspace.
struct Rule {
    name: &'static str,
    /// The crates of the workspace that it may use.
    may_use: &'static [&'static str],
    /// Whether it must reach none of [`EFFECTS`], however indirectly.
    is_pure: bool,
}

const ALL: &[&str] = &["mail", "smtp", "reference", "policy", "queue", "store", "net"];

/// The whole workspace: a crate that is not here may not exist.
const RULES: [Rule; 12] = [
    Rule { name: "mail", may_use: &[], is_pure: true },
    Rule { name: "smtp", may_use: &["mail"], is_pure: true },
    Rule { name: "reference", may_use: &["mail"], is_pure: true },
    Rule { name: "policy", may_use: &["mail", "reference"], is_pure: true },
    Rule { name: "queue", may_use: &["mail", "reference"], is_pure: true },
    Rule { name: "store", may_use: &["mail"], is_pure: false },
    Rule { name: "net", may_use: &["mail", "smtp", "reference", "policy"], is_pure: false },
    Rule { name: "restante", may_use: ALL, is_pure: false },
    Rule {
        name: "sim",
        may_use: &["mail", "smtp", "reference", "policy", "queue", "store", "net", "restante"],
        is_pure: false,
    },
    Rule {
        name: "restante-fuzz",
        may_use: &["mail", "smtp", "reference", "policy", "queue", "store", "net", "restante"],
        is_pure: false,
    },
    Rule { name: "testbed", may_use: &[], is_pure: false },
    Rule { name: "xtask", may_use: &["testbed"], is_pure: false },
];

/// Crates that reach sockets, disks or clocks.
const EFFECTS: [&str; 4] = ["tokio", "rusqlite", "rustls", "hyper"];

/// Crates that any test may use.
const TEST_EQUIPMENT: [&str; 2] = ["testbed", "sim"];

/// Checks all rules.
///
/// # Errors
/// With one line for each breach.
pub(crate) fn check() -> Result<()> {
    let metadata: Value =
        serde_json::from_str(&run::cargo_output(&["metadata", "--format-version", "1", "--no-deps"])?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let mut breaches = direct_breaches(packages);
    for rule in RULES.iter().filter(|rule| rule.is_pure) {
        if packages.iter().any(|package| package["name"] == rule.name) {
            breaches.extend(reached_effects(rule.name)?);
        }
    }
    ensure!(breaches.is_empty(), "\n  {}", breaches.join("\n  "));
    Ok(())
}

fn direct_breaches(packages: &[Value]) -> Vec<String> {
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut breaches = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
            breaches.push(format!("{name} has no rule in xtask/src/imports.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let only_in_tests = dependency["kind"] == "dev";
            let allowed = !names.contains(used)
                || rule.may_use.contains(&used)
                || (only_in_tests && TEST_EQUIPMENT.contains(&used));
            if !allowed {
                breaches.push(format!("{name} uses {used}"));
            }
        }
    }
    breaches
}

/// The effect crates that a pure crate reaches, with all of its features and those of what it uses.
fn reached_effects(name: &str) -> Result<Vec<String>> {
    let arguments = ["tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = run::cargo_output(&arguments)?;
    let reached: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let breaches = EFFECTS.iter().filter(|effect| reached.contains(*effect));
    Ok(breaches.map(|effect| format!("{name}, which is pure, reaches {effect}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| serde_json::json!({ "name": name, "kind": kind })).collect();
        serde_json::json!({ "name": name, "dependencies": dependencies })
    }

    #[test]
    fn finds_breaches_and_leaves_the_rest_alone() {
        let packages = [
            package("mail", &[("smtp", None), ("thiserror", None)]),
            package("smtp", &[("mail", None), ("testbed", Some("dev"))]),
            package("restante", &[("sim", None), ("sim", Some("dev"))]),
            package("sim", &[("restante", None)]),
            package("testbed", &[]),
            package("helpers", &[]),
        ];
        let expected = ["mail uses smtp", "restante uses sim", "helpers has no rule in xtask/src/imports.rs"];
        assert_eq!(direct_breaches(&packages), expected);
    }
}
