//! Plays the conversations in `tests/dialogues` of the workspace against the real sessions. The format
//! is described in `tests/dialogues/README.md`.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod client;
mod script;
mod server;

use std::path::PathBuf;

use script::Script;

/// Every script of one folder, cut into pieces of several sizes: the outcome must not depend on it.
fn play_all(folder: &str, play: impl Fn(&Script, usize) -> Result<(), String>) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogues").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "smtp"));
    paths.sort();
    assert!(!paths.is_empty(), "no dialogues in {}", root.display());
    let mut failures = Vec::new();
    for path in &paths {
        let script = Script::parse(&std::fs::read_to_string(path).unwrap());
        for step in [usize::MAX, 1, 7] {
            if let Err(why) = play(&script, step) {
                failures.push(format!("{}, fed {step} octets at a time:\n{why}", path.display()));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} dialogues failed\n\n{}", failures.len(), paths.len(), failures.join("\n\n"));
}

#[test]
fn server_dialogues() {
    play_all("server", server::play);
}

#[test]
fn client_dialogues() {
    play_all("client", client::play);
}
