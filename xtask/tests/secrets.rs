//! Secrets are compared in constant time, and in one place for each kind: no run of the server shows that, so the source is read.

use std::fs;
use std::path::{Path, PathBuf};

const IN_CONSTANT_TIME: &str = "verify_slices_are_equal(";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The source of a file, without its unit tests.
fn source(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// From this head of an item to the end of its body, as rustfmt sets it.
fn item<'a>(source: &'a str, head: &str) -> &'a str {
    let (before, after) = source.split_once(head).unwrap_or_else(|| panic!("no {head}"));
    let line = before.rsplit('\n').next().unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start().len()];
    after.split(&format!("\n{indent}}}\n")).next().unwrap_or_default()
}

/// All Rust files below a folder that are no tests.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            files(&entry, found);
        } else if entry.extension().is_some_and(|end| end == "rs") && !entry.ends_with("tests.rs") {
            found.push(entry);
        }
    }
}

#[test]
fn grants_are_equal_in_constant_time() {
    let source = source(&root().join("crates/mail/src/id.rs"));
    let (before, _) = source.split_once("pub struct Grant(").expect("grants");
    let derived = before.rsplit("#[derive(").next().unwrap_or_default();
    assert!(
        !derived.contains("PartialEq") && !derived.contains("Ord"),
        "derived, it stops at the first octet that differs"
    );
    assert!(item(&source, "impl PartialEq for Grant {").contains(IN_CONSTANT_TIME));
}

#[test]
fn passwords_and_proofs_are_judged_in_constant_time() {
    let source = source(&root().join("crates/net/src/sasl/verifier.rs"));
    for judge in ["pub fn fits(", "pub(super) fn fits_proof("] {
        let body = item(&source, judge);
        assert!(body.contains(IN_CONSTANT_TIME) && !body.contains("==") && !body.contains("!="), "{judge}{body}");
    }
}

/// The octets and the text of a grant, and the keys of a verifier, are compared nowhere else.
#[test]
fn nobody_compares_what_a_secret_is_made_of() {
    let mut all = Vec::new();
    let crates = fs::read_dir(root().join("crates")).expect("crates");
    crates.for_each(|one| files(&one.expect("a crate").path().join("src"), &mut all));
    assert!(all.len() > 100, "{} files", all.len());
    let parts = ["grant.as_bytes()", "grant.0", "grant.reveal()", "stored_key", "server_key", "password.reveal()"];
    let compares = |line: &&str| {
        let code = line.trim_start();
        let asked = code.contains("==") || code.contains("!=");
        asked && !code.starts_with("//") && parts.iter().any(|part| code.contains(part))
    };
    for file in all {
        let source = source(&file);
        let found: Vec<_> = source.lines().filter(compares).collect();
        assert!(found.is_empty(), "{}: {found:#?}", file.display());
    }
}
