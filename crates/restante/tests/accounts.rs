//! What a stolen password is worth: limits on what an account may send, which no restart resets, and one command that takes
//! back what it has sent and nobody has claimed.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
/// Domains that a message goes to: each is a row of the ledger, all together are more than one page of them.
const VICTIMS: usize = 600;
/// PLAIN: alice with the password `correct horse`.
const LOGIN: &str = "AUTH PLAIN AGFsaWNlAGNvcnJlY3QgaG9yc2U=\r\n";

/// A server at which alice submits; mail for other domains waits, since nobody listens there.
struct Site {
    directory: TempDir,
    running: Option<(Child, String)>,
}

impl Site {
    fn new(submission: &str) -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap(), running: None };
        let text = format!(
            "hostname = \"mx.a.example\"\ndata_dir = \"data\"\n[resolver]\nzone_file = \"zone\"\n[outgoing]\nsmtp_port = 1\n[queue]\nretry_first = \"1h\"\n\
             [[listener]]\nkind = \"submission\"\naddress = \"127.0.0.1:0\"\nauth_without_tls = true\n\
             [[domain]]\nname = \"a.example\"\nmaildir = \"mail/{{user}}\"\n[submission]\n{submission}\n"
        );
        fs::write(site.directory.path().join("restante.toml"), text).unwrap();
        let names = (0..VICTIMS).map(|number| format!("d{number}.example. 60 IN A 127.0.0.1\n"));
        let zone = names.collect::<String>() + "b.example. 60 IN A 127.0.0.1\n";
        fs::write(site.directory.path().join("zone"), zone).unwrap();
        assert!(site.run(&["accounts", "add", "alice", "--address", "alice@a.example"]).status.success());
        site
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("RESTANTE_CONFIG", self.directory.path().join("restante.toml"));
        command.env_remove("RUST_LOG").current_dir(self.directory.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Only some commands ask for a password.
        let _ = child.stdin.take().unwrap().write_all(b"correct horse\n");
        child.wait_with_output().unwrap()
    }

    /// One JSON value a line.
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(&[arguments, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn start(&mut self) {
        let mut child = self.command(&["serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.running = Some((child, line.split(' ').nth(2).unwrap().to_owned()));
    }

    fn stop(&mut self) {
        let (mut child, _) = self.running.take().unwrap();
        assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
        assert!(child.wait().unwrap().success());
    }

    /// A session of alice's.
    fn session(&self) -> Smtp {
        let mut smtp = Smtp(BufReader::new(TcpStream::connect(&self.running.as_ref().unwrap().1).unwrap()));
        assert!(smtp.hear().starts_with("220 "));
        smtp.say("EHLO x.example\r\n");
        smtp
    }

    fn logged_in(&self) -> Smtp {
        let mut smtp = self.session();
        assert!(smtp.say(LOGIN).starts_with("235 "));
        smtp
    }

    /// What has been counted of alice: messages and recipients within a day.
    fn used(&self) -> (u64, u64) {
        let list = self.json(&["accounts", "list"]);
        let sent = &list[0][0]["use"]["sent"];
        (sent["messages_day"].as_u64().unwrap(), sent["recipients_day"].as_u64().unwrap())
    }

    fn trace_is_finished(&self, id: &str) -> bool {
        let trace = self.json(&["trace", id]);
        trace[0]["entries"].as_array().unwrap().iter().all(|entry| entry["finished"] == true)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            // Gone already after a graceful stop.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Smtp(BufReader<TcpStream>);

impl Smtp {
    fn hear(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "after {all}");
            all.push_str(&line);
            if line.as_bytes().get(3) == Some(&b' ') {
                return all;
            }
        }
    }

    fn say(&mut self, text: &str) -> String {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
        self.hear()
    }

    /// Up to the content, which is asked for.
    fn begin(&mut self, to: &[&str]) {
        assert!(self.say("MAIL FROM:<alice@a.example>\r\n").starts_with("250 "));
        for to in to {
            let reply = self.say(&format!("RCPT TO:<{to}>\r\n"));
            assert!(reply.starts_with("250 "), "{to}: {reply}");
        }
        assert!(self.say("DATA\r\n").starts_with("354 "));
    }

    fn end(&mut self) -> String {
        self.say("From: alice@a.example\r\nSubject: x\r\n\r\nx\r\n.\r\n")
    }

    /// The message's name at the server.
    fn send(&mut self, to: &[&str]) -> String {
        self.begin(to);
        let reply = self.end();
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
        reply.rsplit(' ').next().unwrap().trim().to_owned()
    }
}

#[test]
fn an_account_sends_no_more_than_it_may_whatever_is_restarted() {
    let mut site = Site::new("messages_per_hour = 2\nrecipients_per_day = 3");
    site.start();
    let mut smtp = site.logged_in();
    smtp.send(&["bob@b.example"]);
    // What comes to nothing is not counted.
    smtp.begin(&["bob@b.example"]);
    drop(smtp);
    let mut smtp = site.logged_in();
    assert!(smtp.say("MAIL FROM:<alice@a.example>\r\n").starts_with("250 "));
    for to in ["bob@b.example", "carol@b.example"] {
        assert!(smtp.say(&format!("RCPT TO:<{to}>\r\n")).starts_with("250 "));
    }
    let reply = smtp.say("RCPT TO:<dave@b.example>\r\n");
    let sentence = "this account may send 3 recipients within a day, and has; there is room again in ";
    assert!(reply.starts_with(&format!("452 4.5.3 {sentence}")), "{reply}");
    assert!(smtp.say("DATA\r\n").starts_with("354 "));
    assert!(smtp.end().starts_with("250 "));
    assert_eq!(site.used(), (2, 3));

    site.stop();
    site.start();
    assert_eq!(site.used(), (2, 3));
    let mut smtp = site.logged_in();
    let reply = smtp.say("MAIL FROM:<alice@a.example>\r\n");
    let sentence = "this account may send 2 messages within an hour, and has; there is room again in ";
    assert!(reply.starts_with(&format!("451 4.7.1 {sentence}")), "{reply}");
    let limit = ["accounts", "limit", "alice", "--messages-per-hour", "0", "--recipients-per-day", "9"];
    assert!(site.run(&limit).status.success());
    smtp.send(&["bob@b.example"]);
    let shown = String::from_utf8(site.run(&["accounts", "list"]).stdout).unwrap();
    for word in ["3 of 1000", "4 of 9", "alice@a.example"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn what_a_stolen_password_has_sent_is_taken_back_and_it_sends_no_more() {
    let mut site = Site::new("recipients_per_hour = 0");
    site.start();
    let mut thief = site.logged_in();
    let id = thief.send(&["alice@a.example"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !site.trace_is_finished(&id) {
        assert!(Instant::now() < deadline, "not delivered");
        std::thread::sleep(Duration::from_millis(10));
    }
    let victims: Vec<String> = (0..VICTIMS).map(|number| format!("bob@d{number}.example")).collect();
    let id = thief.send(&victims.iter().map(String::as_str).collect::<Vec<_>>());
    // Under way while the account is suspended.
    thief.begin(&["bob@b.example"]);
    let mut idle = site.logged_in();

    let mistyped = site.run(&["accounts", "recall", "alcie@a.example"]);
    assert_eq!(mistyped.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&mistyped.stderr).contains("no account `alcie@a.example`"), "{mistyped:?}");

    let told = site.json(&["accounts", "recall", "Alice@a.example"]);
    let (totals, lines) = told.split_last().unwrap();
    let count = |field: &str| totals[field].as_u64().unwrap();
    assert_eq!((count("withdrawn"), count("too_late"), count("under_way")), (600, 0, 0), "{totals}");
    assert_eq!((count("settled_before"), totals["suspended"].as_bool()), (1, Some(true)), "{totals}");
    assert!(lines.len() == 600 && lines.iter().all(|line| line["holds"] == "withdrawn"));
    assert!(lines[0]["id"] == id.as_str() && site.trace_is_finished(&id));

    assert!(thief.end().starts_with("550 5.7.1 this account is suspended"));
    assert!(idle.say("MAIL FROM:<alice@a.example>\r\n").starts_with("550 5.7.1 "));
    assert!(site.session().say(LOGIN).starts_with("535 "));
    assert!(site.run(&["accounts", "resume", "alice"]).status.success());
    site.logged_in().send(&["bob@b.example"]);
    // An age that leaves nothing; nobody is suspended.
    let told = site.json(&["accounts", "recall", "alice", "--since", "0s", "--keep-active"]);
    assert_eq!((told.len(), &told[0]["withdrawn"], &told[0]["suspended"]), (1, &0.into(), &false.into()));
    site.logged_in().send(&["bob@b.example"]);
    // What an account leaves can be withdrawn when it is gone.
    assert!(site.run(&["accounts", "remove", "alice"]).status.success());
    let told = site.json(&["accounts", "recall", "alice"]);
    let totals = told.last().unwrap();
    assert!(totals["removed"] == true && totals["withdrawn"].as_u64() > Some(1), "{totals}");
}
