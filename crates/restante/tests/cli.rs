//! The binary as its users have it: a server in a directory of its own, and the commands that talk to it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
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
        self.serve_at().0
    }

    /// The server, and the port of its first listener.
    fn serve_at(&self) -> (Running, u16) {
        let mut child = self.command(Path::new(PROGRAM), &["serve"]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.strip_prefix("listening on 127.0.0.1:").expect(&line);
        let port = port.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
        (Running(child), port)
    }

    fn maildir(&self, user: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(&format!("mail/{user}/new"))).into_iter().flatten();
        entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }

    /// Waits for the first message of a mailbox.
    fn first_mail(&self, user: &str) -> String {
        for _ in 0..3000 {
            if let Some(mail) = self.maildir(user).pop() {
                return mail;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{user} gets no mail");
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
    let as_listed = format!("{id}/0");
    assert!(listed.contains(&as_listed), "{listed}");
    assert_eq!(site.json(&["trace", &as_listed], "")["entries"][0]["id"], id);
    let held = site.json(&["queue", "hold", &as_listed], "");
    assert_eq!(held["recipients"][0]["address"], "x@nowhere.example");
    assert_eq!(site.json(&["queue", "show", id], "")["entries"][0]["held"], true);
    site.json(&["queue", "release", id], "");
    assert_eq!(site.json(&["queue", "show", id], "")["entries"][0]["held"], false);
    site.json(&["queue", "withdraw", id], "");
    let finished = site.finished(id);
    assert_eq!(finished["entries"][0]["recipients"][0]["state"], "withdrawn", "{finished:#}");
    let shown = [site.text(&["queue", "show", id]), site.text(&["trace", id])].concat();
    assert!(shown.contains("withdrawn") && !shown.contains("5.0.0") && !shown.contains("failed"), "{shown}");
    let steps = finished["entries"][0]["steps"].clone();
    for verb in ["fail", "retry", "withdraw"] {
        let late = site.run(&["queue", verb, id], "");
        assert_eq!(late.status.code(), Some(1), "{late:?}");
        let said = stderr(&late);
        assert!(said.contains("there is nothing left to") && said.contains("withdrawn before"), "{said}");
    }
    assert_eq!(site.finished(id)["entries"][0]["steps"], steps, "nothing is noted of what was not done");
    assert_eq!(site.json(&["queue", "list"], "")["entries"].as_array().unwrap().len(), 0);
    let missing = site.run(&["queue", "show", "1aaaaaaaaaaaaaaa"], "");
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
}

#[test]
fn a_message_that_the_operator_gives_up_fails_and_its_author_is_told() {
    let site = Site::new("");
    site.json(&["accounts", "add", "alice@a.example"], "secret\n");
    let _server = site.serve();
    let sent = site.json(&["send", "x@nowhere.example", "y@nowhere.example"], "Subject: given up\n\nhello\n");
    let id = sent["id"].as_str().unwrap();
    site.json(&["queue", "fail", id], "");
    let trace = site.finished(id);
    for recipient in trace["entries"][0]["recipients"].as_array().unwrap() {
        assert_eq!(recipient["state"], "failed", "{trace:#}");
    }
    assert!(site.text(&["trace", id]).contains("given up by the operator"), "{trace:#}");
    let report = site.first_mail("alice");
    for part in [
        "Return-Path: <>\r\n",
        "message/delivery-status",
        "Final-Recipient: rfc822; x@nowhere.example\r\n",
        "Final-Recipient: rfc822; y@nowhere.example\r\n",
        "Action: failed\r\n",
        "Status: 5.",
        "given up by the operator",
        "Subject: given up\r\n",
    ] {
        assert!(report.contains(part), "{part}:\n{report}");
    }
    assert_eq!(site.maildir("alice").len(), 1, "one report for both");
    assert_eq!(site.text(&["queue", "list"]), "The queue is empty.\n");
}

#[test]
fn what_is_discarded_counts_as_delivered_and_says_so() {
    let site = Site::new("[[domain]]\nname = \"sink.example\"\ndeliver = \"discard\"\nrecipients = \"any\"\n");
    let _server = site.serve();
    let sent = site.json(&["send", "anybody@sink.example"], "Subject: for nobody\n\nhello\n");
    let id = sent["id"].as_str().unwrap();
    let trace = site.finished(id);
    assert_eq!(trace["entries"][0]["recipients"][0]["state"], "delivered", "{trace:#}");
    let text = site.text(&["trace", id]);
    assert!(text.contains("anybody@sink.example") && text.contains("discarded"), "{text}");
    assert!(!site.path("mail/anybody").exists(), "it is in a mailbox");
    assert_eq!(site.text(&["queue", "list"]), "The queue is empty.\n");
    assert_eq!(site.json(&["store", "check"], "")["clean"], true);
}

#[test]
fn without_a_server_commands_say_so() {
    let site = Site::new("");
    for arguments in [&["queue", "list"][..], &["trace", "abc"], &["fetch"], &["link", "up"]] {
        let output = site.run(arguments, "A: b\n\n");
        assert_eq!(output.status.code(), Some(69), "{arguments:?}");
        assert!(stderr(&output).contains("no server is running here"), "{}", stderr(&output));
    }
    let json = site.run(&["queue", "list", "--json"], "");
    let error: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(error["error"]["exit"], 69);
    // A message is kept for the next one.
    let kept = site.json(&["send", "x@a.example"], "A: b\n\n");
    assert_eq!(kept["waits"], true, "{kept:#}");
    let said = site.run(&["send", "x@a.example"], "A: b\n\n");
    assert!(String::from_utf8_lossy(&said.stdout).contains("in the outbox"), "{said:?}");
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

/// A signing domain, and a server that may be looked at by others.
const SIGNING: &str = "[domain.tbr]\nselector = \"k1\"\nkey = \"k1.pem\"\n[[listener]]\nkind = \"repository\"\n\
                       address = \"127.0.0.1:0\"\n[[certificate]]\ncert = \"c.pem\"\nkey = \"c.key\"\n";

fn with_key_and_certificate(site: &Site) {
    site.json(&["keys", "generate", "--domain", "a.example", "--out", "k1.pem"], "");
    let names = ["mx.a.example", "tbr.a.example"].map(str::to_owned);
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(site.path("c.pem"), certified.cert.pem()).unwrap();
    fs::write(site.path("c.key"), certified.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(site.path("c.key"), PermissionsExt::from_mode(0o600)).unwrap();
}

/// A port that nobody listens at now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The repository listens where everybody looks for it, and its certificate is believed.
fn serve_repository_at(site: &Site, port: u16) {
    let text = fs::read_to_string(site.path("restante.toml")).unwrap();
    let listener = "kind = \"repository\"\naddress = \"127.0.0.1:";
    let text = text.replace(&format!("{listener}0\""), &format!("{listener}{port}\""));
    let outgoing = format!("smtp_port = 1\nhttps_port = {port}\nca_file = \"c.pem\"\nallow_private_addresses = true\n");
    fs::write(site.path("restante.toml"), text.replace("smtp_port = 1\n", &outgoing)).unwrap();
}

#[test]
fn all_keys_of_the_configuration_are_shown() {
    let dkim = "[domain.dkim]\nkeys = { s1 = \"s1.pem\", s2 = \"s2.pem\" }\n";
    let site = Site::new(&format!("{dkim}{SIGNING}"));
    with_key_and_certificate(&site);
    for (kind, selector) in [("rsa", "s1"), ("ed25519", "s2")] {
        let file = format!("{selector}.pem");
        let more = ["--dkim", kind, "--selector", selector, "--out", &file];
        site.json(&[&["keys", "generate", "--domain", "a.example"], &more[..]].concat(), "");
    }
    let shown = site.json(&["keys", "show"], "");
    let kinds: Vec<_> = shown.as_array().unwrap().iter().map(|key| (&key["kind"], &key["selector"])).collect();
    let (tbr, dkim) = ("tbr".into(), "dkim".into());
    assert_eq!(kinds, [(&tbr, &"k1".into()), (&dkim, &"s1".into()), (&dkim, &"s2".into())], "{shown:#}");
    // What is shown is what `dns print` wants published.
    let printed = site.json(&["dns", "print"], "");
    let wanted = |name: &str| {
        let found = printed.as_array().unwrap().iter().find(|record| record["name"] == name);
        found.unwrap()["text"].clone()
    };
    for (n, selector) in [(1, "s1"), (2, "s2")] {
        let (name, record) = (format!("{selector}._domainkey.a.example"), &shown[n]["records"][0]);
        assert_eq!((&record["name"], &record["text"]), (&name.as_str().into(), &wanted(&name)), "{shown:#}");
    }
    let text = site.text(&["keys", "show"]);
    for part in ["; a.example (", "DKIM, ", "k1._tbr.a.example. IN TXT", "s2._domainkey.a.example. IN TXT \"v=DKIM1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_printed_records_are_the_ones_that_check_wants() {
    let site = Site::new(SIGNING);
    with_key_and_certificate(&site);
    serve_repository_at(&site, free_port());
    let running = site.serve();
    let printed = site.text(&["dns", "print"]);
    assert!(printed.contains("_1._tcp.mx.a.example. IN TLSA 3 1 1 "), "the port of the configuration: {printed}");
    // What there is no setting for is no mistake, and is not passed over in silence.
    for missing in ["; a.example has no DKIM keys, ", "; a.example has no MTA-STS policy, "] {
        assert!(printed.contains(missing), "{missing}: {printed}");
    }
    let publish =
        |records: &str| fs::write(site.path("zone"), format!("{records}mx.a.example. IN A 127.0.0.1\n")).unwrap();
    publish(&printed);
    let good = site.text(&["dns", "check"]);
    assert!(good.contains("as it should be"), "{good}");
    assert!(good.contains("missing  a.example has no DKIM keys, "), "{good}");

    // Without one of them, that one is asked for, and no other.
    let without: String =
        printed.lines().filter(|line| !line.contains("_dmarc")).map(|line| format!("{line}\n")).collect();
    publish(&without);
    let bad = site.run(&["dns", "check", "a.example", "--json"], "");
    assert_eq!(bad.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&bad.stdout).unwrap();
    let records = report["records"].as_array().unwrap();
    let changes: Vec<_> = records.iter().filter(|record| record["verdict"] == "change").collect();
    assert_eq!((report["verdict"].as_str(), changes.len()), (Some("change"), 1), "{report}");
    assert_eq!(changes[0]["name"], "_dmarc.a.example");
    assert!(changes[0]["advice"].as_str().unwrap().contains("v=DMARC1; p=none"), "{report}");
    let missing: Vec<_> = report["missing"].as_array().unwrap().iter().map(|missing| &missing["table"]).collect();
    assert_eq!(missing, [&Value::from("domain.dkim"), &"domain.mta_sts".into()], "{report}");

    // The document that is served is what strangers know the keys by: an old one, and none at all.
    let changes = || {
        let output = site.run(&["dns", "check", "--json"], "");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let records = report["records"].as_array().unwrap().clone();
        let changes = records.into_iter().filter(|record| record["verdict"] == "change");
        changes
            .map(|record| (record["name"].clone(), record["advice"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    site.json(&["keys", "generate", "--domain", "a.example", "--selector", "k2", "--out", "k2.pem"], "");
    let text = fs::read_to_string(site.path("restante.toml")).unwrap();
    let next = text.replace("selector = \"k1\"\nkey = \"k1.pem\"", "selector = \"k2\"\nkey = \"k2.pem\"");
    fs::write(site.path("restante.toml"), next).unwrap();
    publish(&site.text(&["dns", "print"]));
    let found = changes();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "tbr.a.example", "{found:?}");
    assert!(found[0].1.contains("the document lacks the key k2; "), "{found:?}");
    running.stop();
    let found = changes();
    assert_eq!((found.len(), &found[0].0), (1, &"tbr.a.example".into()), "{found:?}");
    let words = "https://tbr.a.example/.well-known/tbr/domain cannot be fetched as others would: ";
    assert!(found[0].1.contains(words), "{found:?}");

    let stranger = site.run(&["dns", "print", "b.example"], "");
    assert_eq!(stranger.status.code(), Some(2));
    assert!(stderr(&stranger).contains("restante check peer b.example"), "{}", stderr(&stranger));
}

#[test]
fn a_peer_is_looked_at_as_a_delivery_would() {
    let peer = Site::new(SIGNING);
    with_key_and_certificate(&peer);
    let (_running, port) = peer.serve_at();
    let site = Site::new("");
    let text = fs::read_to_string(site.path("restante.toml")).unwrap();
    fs::write(site.path("restante.toml"), text.replace("smtp_port = 1", &format!("smtp_port = {port}"))).unwrap();
    let zone = "far.example. IN MX 10 mx.a.example.\nmx.a.example. IN A 127.0.0.1\nnone.example. IN MX 0 .\n\
                mute.example. IN MX 10 gone.a.example.\n";
    fs::write(site.path("zone"), zone).unwrap();

    // An exchanger of our own name would be ourselves.
    let text = fs::read_to_string(site.path("restante.toml")).unwrap();
    fs::write(site.path("restante.toml"), text.replace("mx.a.example", "mx2.a.example")).unwrap();
    let far = site.json(&["check", "peer", "far.example"], "");
    assert_eq!(far["way"], "by-value", "{far}");
    let exchanger = &far["exchangers"][0];
    assert_eq!((&exchanger["tls"], &exchanger["tbr"]), (&Value::Bool(true), &Value::Bool(true)), "{far}");
    assert!(exchanger["certificate_problem"].is_string(), "it is self-signed: {far}");
    assert!(far["sentence"].as_str().unwrap().contains("no [domain.tbr] here signs"), "{far}");

    assert_eq!(site.json(&["check", "peer", "a.example"], "")["way"], "here");
    let null = site.run(&["check", "peer", "none.example"], "");
    assert_eq!(null.status.code(), Some(1), "{null:?}");
    let mute = site.run(&["check", "peer", "mute.example"], "");
    assert_eq!(mute.status.code(), Some(75), "{mute:?}");
    assert!(String::from_utf8_lossy(&mute.stdout).contains("gone.a.example"), "{mute:?}");
}
