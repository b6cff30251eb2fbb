//! The binary as its users have it: a server in a directory of its own, and the commands that talk to it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// A directory with a configuration.
struct Site {
    directory: TempDir,
}

impl Site {
    fn new(more: &str) -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap() };
        let text = format!(
            "hostname = \"mx.a.example\"\ndata_dir = \"data\"\n[resolver]\nzone_file = \"zone\"\n\
             [outgoing]\nsmtp_port = 1\n[queue]\nretry_first = \"1h\"\n[[listener]]\nkind = \"relay\"\naddress = \"127.0.0.1:0\"\n\
             [[domain]]\nname = \"a.example\"\naliases = {{ root = \"alice\" }}\nmaildir = \"mail/{{user}}\"\n{more}"
        );
        fs::write(site.path("restante.toml"), text).unwrap();
        fs::write(site.path("zone"), "nowhere.example. 60 IN A 127.0.0.1\n").unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("RESTANTE_CONFIG", self.path("restante.toml")).env("LOGNAME", "alice");
        command.env_remove("RUST_LOG").current_dir(self.directory.path());
        command
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        feed(self.command(Path::new(PROGRAM), arguments), input)
    }

    /// A command that must succeed, with --json; its answer.
    fn json(&self, arguments: &[&str], input: &str) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat(), input);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, "");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn serve(&self) -> Running {
        let mut child = self.command(Path::new(PROGRAM), &["serve"]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on 127.0.0.1:"), "{line}");
        Running(child)
    }

    fn maildir(&self, user: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(&format!("mail/{user}/new"))).into_iter().flatten();
        entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }

    /// Waits until a trace says that everything is done; the trace.
    fn finished(&self, id: &str) -> Value {
        for _ in 0..3000 {
            let trace = self.json(&["trace", id], "");
            if trace["entries"].as_array().unwrap().iter().all(|entry| entry["finished"] == true) {
                return trace;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{id} is never finished: {}", self.text(&["trace", id]));
    }
}

/// A server, stopped at the end.
struct Running(Child);

impl Running {
    fn stop(mut self) {
        let told = Command::new("kill").arg("-TERM").arg(self.0.id().to_string()).status().unwrap();
        assert!(told.success());
        assert!(self.0.wait().unwrap().success(), "a graceful stop");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already after a graceful stop.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn feed(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that fails early reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_message_is_handed_in_delivered_and_traced() {
    let site = Site::new("");
    assert_eq!(site.json(&["accounts", "add", "alice@a.example"], "secret\n")["name"], "alice@a.example");
    let server = site.serve();

    let sent = site.json(&["send", "alice@a.example"], "Subject: one\n\nHello\n..\n");
    let id = sent["id"].as_str().unwrap();
    let trace = site.finished(id);
    assert_eq!(trace["entries"][0]["recipients"][0]["state"], "delivered");
    let text = site.text(&["trace", id]);
    assert!(text.contains("● accepted") && text.contains("delivered"), "{text}");
    let mail = site.maildir("alice");
    assert_eq!(mail.len(), 1);
    for part in [
        "Return-Path: <alice@a.example>\r\n",
        "Received:",
        "From: alice@a.example\r\n",
        "Message-ID: <",
        "\r\n\r\nHello\r\n..\r\n",
    ] {
        assert!(mail[0].contains(part), "{part}:\n{}", mail[0]);
    }
    assert_eq!(site.text(&["queue", "list"]), "The queue is empty.\n");
    assert!(site.text(&["queue", "list", "--finished"]).contains(id));

    // An account that is added while the server runs can get mail at once.
    site.json(&["accounts", "add", "bob@a.example"], "secret\n");
    let output =
        feed(site.command(Path::new(PROGRAM), &["send", "-t", "-f", "<>"]), "To: bob@a.example\nBcc: root\n\nhi\n");
    assert!(output.status.success(), "{output:?}");
    let id = String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned();
    site.finished(&id);
    let bob = site.maildir("bob");
    assert!(bob[0].starts_with("Return-Path: <>\r\n") && !bob[0].contains("Bcc"), "{}", bob[0]);
    assert_eq!(site.maildir("alice").len(), 2, "the alias root");

    let unknown = site.run(&["send", "nobody@a.example"], "A: b\n\n");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("nobody@a.example: there is no such recipient"), "{}", stderr(&unknown));

    assert_eq!(site.json(&["store", "check"], "")["clean"], true, "by the running server");
    server.stop();
    assert_eq!(site.json(&["store", "check"], "")["clean"], true, "by itself");
}

#[test]
fn cron_finds_a_sendmail() {
    let site = Site::new("");
    site.json(&["accounts", "add", "alice@a.example"], "secret\n");
    let _server = site.serve();
    let sendmail = site.path("sendmail");
    symlink(PROGRAM, &sendmail).unwrap();
    let input = "From: root (Cron Daemon)\nTo: root\nSubject: Cron\n\nok\n";
    let output =
        feed(site.command(&sendmail, &["-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "root"]), input);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let queue = site.json(&["queue", "list", "--finished"], "");
    let id = queue["entries"][0]["id"].as_str().unwrap();
    site.finished(id);
    assert!(site.maildir("alice")[0].starts_with("Return-Path: <root@a.example>\r\n"));
}

#[test]
fn a_message_that_waits_can_be_held_released_and_withdrawn() {
    let site = Site::new("");
    let _server = site.serve();
    let sent = site.json(&["send", "x@nowhere.example"], "A: b\n\n");
    let id = sent["id"].as_str().unwrap();
    let listed = site.text(&["queue", "list"]);
    assert!(listed.contains(id) && listed.contains("x@nowhere.example"), "{listed}");
    let held = site.json(&["queue", "hold", id], "");
    assert_eq!(held["recipients"][0]["address"], "x@nowhere.example");
    assert_eq!(site.json(&["queue", "show", id], "")["entries"][0]["held"], true);
    site.json(&["queue", "release", id], "");
    assert_eq!(site.json(&["queue", "show", id], "")["entries"][0]["held"], false);
    site.json(&["queue", "withdraw", id], "");
    site.finished(id);
    let missing = site.run(&["queue", "show", "1aaaaaaaaaaaaaaa"], "");
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
}

#[test]
fn without_a_server_commands_say_so() {
    let site = Site::new("");
    for arguments in [&["queue", "list"][..], &["trace", "abc"], &["send", "x@a.example"]] {
        let output = site.run(arguments, "A: b\n\n");
        assert_eq!(output.status.code(), Some(69), "{arguments:?}");
        assert!(stderr(&output).contains("no server is running here"), "{}", stderr(&output));
    }
    let json = site.run(&["queue", "list", "--json"], "");
    let error: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(error["error"]["exit"], 69);
}

#[test]
fn mistakes_have_their_place_and_exit_code() {
    let site = Site::new("[quueue]\n");
    let output = site.run(&["check", "config"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("help: did you mean `queue`?"), "{}", stderr(&output));
    let json = site.run(&["check", "config", "--json"], "");
    let error: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(error["error"]["details"]["mistakes"][0]["place"]["line"], 16);
    let usage = site.run(&["frobnicate", "--json"], "");
    assert_eq!(usage.status.code(), Some(2));
    assert!(serde_json::from_slice::<Value>(&usage.stdout).unwrap()["error"]["message"].is_string());
    let nobody = site.run(&["send"], "");
    assert_eq!(nobody.status.code(), Some(2));
}

#[test]
fn the_printed_configuration_is_one() {
    let site = Site::new("");
    fs::write(site.path("restante.toml"), site.text(&["config"])).unwrap();
    assert!(site.text(&["check", "config"]).contains("is in order"));
    assert!(site.json(&["config"], "").as_array().unwrap().len() > 60);
    assert!(site.text(&["completions", "bash"]).contains("restante"));
    assert!(site.text(&["--help"]).contains("Exit status"));
}

#[test]
fn keys_are_made_once_and_shown() {
    let site = Site::new("");
    let made = site.json(&["keys", "generate", "--domain", "a.example", "--selector", "k7"], "");
    assert_eq!(made["records"][1]["name"], "k7._tbr.a.example");
    assert_eq!(made["records"][0]["text"], "v=TBR1; repo=tbr.a.example");
    let again = site.run(&["keys", "generate", "--domain", "a.example", "--selector", "k7"], "");
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("never overwritten"), "{}", stderr(&again));
    let shown = site.text(&["keys", "show", "a.example.k7.pem", "--domain", "a.example", "--selector", "k7"]);
    assert!(shown.contains("k7._tbr.a.example. IN TXT \"v=TBR1; a=ed25519; p="), "{shown}");
    assert!(shown.contains(made["public_key"].as_str().unwrap()), "{shown}");
}
