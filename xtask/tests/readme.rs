//! The README's first command, as cargo reads it: no program has to be named.

use std::process::Command;

use serde_json::Value;

#[test]
fn cargo_run_finds_one_program_and_that_is_the_server() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).expect("a README");
    assert!(readme.contains("\ncargo run --release -- demo "), "the README begins with another command");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let asked = Command::new(cargo).args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(root).output();
    let metadata: Value = serde_json::from_slice(&asked.expect("cargo").stdout).expect("JSON");
    let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let members = all(&metadata["workspace_default_members"]);
    let packages = all(&metadata["packages"]).into_iter().filter(|package| members.contains(&package["id"]));
    let targets = packages.flat_map(|package| all(&package["targets"]));
    let programs = targets.filter(|target| all(&target["kind"]).contains(&"bin".into()));
    assert_eq!(programs.map(|program| program["name"].clone()).collect::<Vec<_>>(), ["restante"]);
}
