//! The demo's promises: on its own message, on any other, on a large one, and as the program that others read.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Output};

use restante::cli::demo::{Options, run};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_by_reference_between_two_whole_domains() {
    let story = run(&Options::default()).await.unwrap();
    println!("{}", story.to_text());
    assert!(story.is_good());
    assert!(story.smtp_octets < 1800, "the offer and its replies took {} octets", story.smtp_octets);
    let fetched = (story.retrieved_octets, story.object_octets);
    assert!(0 < fetched.0 && fetched.0 < fetched.1, "coded, since that pays: {fetched:?}");
}

/// Whoever wrote it, and whatever it lacks: nothing is added, and nobody asks whose account it is from.
#[tokio::test(flavor = "multi_thread")]
async fn any_message_goes_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("message.eml");
    for message in [
        &b"From: Somebody Else <else@c.example>\nSubject: no date, no id\n\nhi\n"[..],
        b"Subject: nobody\r\n\r\n.\r\n..\r\nFrom here on\r\n",
        b"From: a@a.example\nFrom: b@b.example\n\ntwo of them, no end",
        b"From: not an address\nSubject: \xc3\xa4\n\n\xff\xfe\n",
    ] {
        std::fs::write(&file, message).unwrap();
        let story = run(&Options { message: Some(file.clone()), ..Options::default() }).await.unwrap();
        assert!(story.is_good(), "{}", story.to_text());
    }
}

/// Twice as many octets reach the store as the file has: nearly all its lines are empty, and end in LF.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_of_short_lines_goes_too() {
    const SIZE: usize = 64 << 20;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("message.eml");
    let mut out = BufWriter::new(File::create(&file).unwrap());
    out.write_all(b"Subject: short lines\n\n").unwrap();
    let lines = vec![b'\n'; 1 << 20];
    (0..SIZE >> 20).for_each(|_| out.write_all(&lines).unwrap());
    out.into_inner().unwrap();
    let story = run(&Options { message: Some(file), ..Options::default() }).await.unwrap();
    assert!(story.is_good(), "{}", story.to_text());
    assert!(story.object_octets > 2 * SIZE as u64, "{}", story.object_octets);
}

/// The program, and a folder for what it leaves.
fn restante(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restante"));
    command.args(arguments).current_dir(folder).env("TMPDIR", folder).env_remove("RUST_LOG");
    command.output().unwrap()
}

/// The object in the last line of what it prints.
fn last_line(output: &Output) -> Value {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn what_the_program_says_can_be_read_and_verified_without_the_servers() {
    let folder = tempfile::tempdir().unwrap();
    let shown = restante(folder.path(), &["demo", "--json", "--keep"]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let told = last_line(&shown);
    assert_eq!(told["transfer"], "reference", "{told:#}");
    assert_eq!(told["verified"], true, "{told:#}");
    assert_eq!(told["sender_sees"], "delivered", "{told:#}");
    assert_eq!(told["xuid"].as_str().unwrap().len(), 43, "{told:#}");
    for figure in ["object_octets", "smtp_octets", "retrieved_octets", "elapsed_ms"] {
        assert!(told[figure].as_u64().unwrap() > 0, "{figure}: {told:#}");
    }
    let delivered_to = told["delivered_to"].as_str().unwrap();
    assert!(Path::new(delivered_to).starts_with(folder.path()), "{told:#}");
    let verify_args = told["verify_args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
    let arguments: Vec<&str> = ["verify", delivered_to].into_iter().chain(verify_args).chain(["--json"]).collect();

    let verified = restante(folder.path(), &arguments);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let verdict: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((&verdict["verdict"], &verdict["found_xuid"]), (&Value::from("pass"), &told["xuid"]), "{verdict:#}");

    // One letter of it, and it is not what was signed.
    let mut copy = fs::read(delivered_to).unwrap();
    let last = copy.iter().rposition(u8::is_ascii_alphabetic).unwrap();
    copy[last] ^= 1;
    fs::write(delivered_to, copy).unwrap();
    let verified = restante(folder.path(), &arguments);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
}

#[test]
fn without_keep_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let told = last_line(&restante(folder.path(), &["demo", "--json"]));
    assert_eq!(told["transfer"], "reference", "{told:#}");
    assert!(told.get("verify_args").is_none(), "{told:#}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_is_no_message_gets_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    for (file, words) in [
        ("passwd", "passwd cannot be sent as a message: it has none of the header fields of a message"),
        ("missing", "cannot open missing"),
        (".", ". is a directory, not a message"),
    ] {
        let refused = restante(folder.path(), &["demo", "--json", "--message", file]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let error = &last_line(&refused)["error"];
        assert_eq!(error["exit"], 1, "{error:#}");
        assert!(error["message"].as_str().unwrap().starts_with(words), "{error:#}");
        let refused = restante(folder.path(), &["demo", "--message", file]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains(words), "{refused:?}");
    }
}
