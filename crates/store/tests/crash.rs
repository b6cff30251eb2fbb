//! The process is killed before and after every step on the disk. What was answered is there afterwards, what was
//! not is there in full or not at all, and nothing is left over.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use mail::ledger::{Representation, Row};
use store::{EmbeddedConfig, Store, Wanted};
use support::*;

const DIRECTORY: &str = "STORE_TEST_DIRECTORY";
const KILL_AT: &str = "STORE_TEST_KILL_AT";
const RUN: &str = "STORE_TEST_RUN";
/// Octets of a retrieval that breaks off.
const PART: usize = 70_000;
/// Small, small, large, large, and one leg of two.
const SIZES: [usize; 5] = [3000, 0, 70_000, 200_000, 66_000];

fn say(words: &str) {
    println!("\n> {words}");
    std::io::stdout().flush().unwrap();
}

/// The life of a few messages, each step told before and after.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run as a process of its own, to be killed"]
async fn child_lives() {
    let variable = |name| std::env::var(name).unwrap();
    let directory = variable(DIRECTORY);
    let kill_at = Some(variable(KILL_AT).parse().unwrap());
    let store = Store::open(EmbeddedConfig { kill_at, ..config(Path::new(&directory)) }).await.unwrap();
    let name = |n: usize| format!("{}m{n}", variable(RUN));
    for (n, size) in SIZES.iter().enumerate() {
        let object = object(&store, &content(*size, n as u8)).await;
        say(&format!("put {}", name(n)));
        let row = leg(&name(n), Some(&object), Some(1));
        store.commit(put([row.clone()])).await.unwrap();
        say("done");
        drop(support::object(&store, &content(80_000, 99)).await);
        if n == 3 {
            retrieve_in_part(&store).await;
        }
        if n % 2 == 0 {
            say(&format!("finish {}", name(n)));
            store.commit(put([finished(row)])).await.unwrap();
            say("done");
        }
    }
    say(&format!("delete {}", name(3)));
    store.commit(delete(&leg(&name(3), None, None))).await.unwrap();
    say("done");
    store.close().await;
    say("end");
}

/// A retrieval that breaks off; what was recorded is told.
async fn retrieve_in_part(store: &Store) {
    let content = content(90_000, 50);
    let mut intake = store.intake(wanted(&content)).await.unwrap();
    let representation = Representation { coding: None, tag: Some("\"t\"".into()), size: Some(content.len() as u64) };
    intake.begin(representation).await.unwrap();
    intake.write(&content[..PART]).await.unwrap();
    intake.keep().await.unwrap();
    println!("\nkept");
}

fn wanted(content: &[u8]) -> Wanted {
    let (origin, xuid, size) = ("a.example".parse().unwrap(), mail::Xuid::of(content), content.len() as u64);
    Wanted { origin, xuid, size, until: at(9_000_000), now: at(1000) }
}

/// Octets of a retrieval that were recorded: all of them or none.
async fn kept(store: &Store) -> bool {
    let content = content(90_000, 50);
    let mut intake = store.intake(wanted(&content)).await.unwrap();
    let Some(octets) = intake.held().map(|(_, octets)| octets) else { return false };
    assert_eq!(octets, PART as u64);
    intake.write(&content[PART..]).await.unwrap();
    let (object, _) = intake.finish().await.unwrap();
    assert_eq!(object.xuid, mail::Xuid::of(&content));
    store.discard(&object);
    true
}

/// What may be found of each message: the last state that was answered, and the one that was asked for.
#[derive(Default)]
struct Expected {
    states: BTreeMap<String, Vec<&'static str>>,
    /// A retrieval that broke off was recorded.
    kept: bool,
    ended: bool,
}

impl Expected {
    fn read(&mut self, output: &str) {
        let mut asked: Option<(&'static str, String)> = None;
        // One that begins anew forgets the one before.
        self.kept = output.lines().any(|line| line == "kept");
        for words in output.lines().filter_map(|line| line.strip_prefix("> ")) {
            match words.split_once(' ') {
                Some((verb, name)) => {
                    let state = match verb {
                        "put" => "whole",
                        "finish" => "finished",
                        _ => "gone",
                    };
                    self.states.entry(name.into()).or_insert_with(|| vec!["gone"]).push(state);
                    asked = Some((state, name.into()));
                }
                None if words == "end" => self.ended = true,
                None => {
                    let (state, name) = asked.take().unwrap();
                    self.states.insert(name, vec![state]);
                }
            }
        }
    }

    async fn compare(&self, directory: &Path, context: &str) {
        let store = embedded(directory).await;
        let rows = store.list("", None, 999).await.unwrap();
        for (name, allowed) in &self.states {
            let row = rows.iter().find(|row| row.key == key(name));
            let state = state(&store, row).await;
            assert!(allowed.contains(&state), "{context}: {name} is {state} instead of {allowed:?}");
        }
        assert!(rows.iter().all(|row| self.states.keys().any(|name| row.key == key(name))), "{context}");
        let report = store.check(false, |_| ()).await.unwrap();
        assert_eq!(report.faults, [], "{context}");
        let named = rows.iter().filter_map(Row::object).filter(|object| object.key.0.starts_with("f-")).count();
        let partial = files(directory).len() - named;
        assert!(partial <= 1, "{context}: files that nobody names");
        let kept = kept(&store).await;
        assert!(kept || !self.kept, "{context}: what was recorded of a retrieval is gone");
        assert_eq!(kept, partial == 1, "{context}");
        store.close().await;
    }
}

async fn state(store: &Store, row: Option<&Row>) -> &'static str {
    match row.map(|row| row.object()) {
        None => "gone",
        Some(None) => "finished",
        Some(Some(object)) => {
            let octets = octets(store, object).await;
            assert_eq!(mail::Xuid::of(&octets), object.xuid);
            "whole"
        }
    }
}

fn run(directory: &Path, kill_at: usize, run: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_lives", "--ignored", "--nocapture", "--test-threads=1"])
        .envs([(DIRECTORY, directory.to_str().unwrap()), (KILL_AT, &kill_at.to_string()), (RUN, run)])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn killed_at_every_step_nothing_answered_is_lost() {
    let mut kill_at = 1;
    loop {
        let directory = tempfile::tempdir().unwrap();
        let mut expected = Expected::default();
        expected.read(&run(directory.path(), kill_at, "x"));
        if expected.ended {
            break;
        }
        // Killed once more: while it recovers, or soon after.
        expected.read(&run(directory.path(), 1 + kill_at % 12, "y"));
        assert!(!expected.ended);
        expected.compare(directory.path(), &format!("killed at {kill_at}")).await;
        kill_at += 1;
    }
    assert!(kill_at > 40, "only {kill_at} kill points were reached");
}
