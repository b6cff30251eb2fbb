//! What strangers can take of a server: hostile offers run into budgets, what is outstanding is no less after a restart, and
//! those who are known have more.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mail::{Address, Domain, Grant, ReferenceId, Timestamp, Xuid};
use reference::{RecipientsHash, SigningKey, Statement, Uri};
use testbed::peers::{Restante, RestanteConfig, clients};
use testbed::samples::crlf;
use testbed::{Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// A receiver on this machine, which takes references in clear.
struct Receiver {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Receiver {
    fn start(budgets: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "hostname = \"mx.b.example\"\ndata_dir = \"data\"\n[resolver]\nzone_file = \"zone\"\n\
             [[listener]]\nkind = \"relay\"\naddress = \"127.0.0.1:0\"\ntbr_without_tls = true\n\
             [[domain]]\nname = \"b.example\"\nrecipients = {{ list = [\"bob\"] }}\n{budgets}\n"
        );
        fs::write(directory.path().join("restante.toml"), text).unwrap();
        fs::write(directory.path().join("zone"), "\n").unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("serve").env("RESTANTE_CONFIG", directory.path().join("restante.toml"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split(' ').nth(2).unwrap().parse().unwrap();
        Self { child, address, _directory: directory }
    }

    /// The reply to an offer in the name of this domain, which publishes nothing.
    fn offer(&self, from: Ipv4Addr, domain: &str, number: u8) -> String {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let mut stream = BufReader::new(TcpStream::from(socket));
        let (line, block) = forged(domain, number);
        let all = format!(
            "EHLO x.example\r\nMAIL FROM:<alice@{domain}>\r\nRCPT TO:<bob@b.example>\r\nTBR {line}\r\n{block}.\r\n"
        );
        stream.get_mut().write_all(all.as_bytes()).unwrap();
        let mut reply = String::new();
        // The greeting, and four replies.
        for _ in 0..5 {
            loop {
                reply.clear();
                assert!(stream.read_line(&mut reply).unwrap() > 0);
                if reply.as_bytes()[3] == b' ' {
                    break;
                }
            }
        }
        reply
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Gone already, if it has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TBR line and its block, in perfect form.
fn forged(domain: &str, number: u8) -> (String, String) {
    let (domain, grant): (Domain, _) = (domain.parse().unwrap(), Grant::new(&[number; 16]).unwrap());
    let (id, xuid) = (ReferenceId([number; 16]), Xuid::of(b"whatever it is"));
    let issued = Timestamp::from_secs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    let (key, recipient): (_, Address) = (SigningKey::from_seed(&[1; 32]).unwrap(), "bob@b.example".parse().unwrap());
    let statement = Statement {
        domain: domain.clone(),
        selector: "k1".parse().unwrap(),
        algorithm: key.algorithm(),
        id,
        xuid,
        size: 100_000,
        issued,
        expires: issued.after(Duration::from_secs(3600)),
        to: "b.example".parse().unwrap(),
        mail_from: format!("alice@{domain}").parse().ok(),
        recipients: RecipientsHash::compute(&grant, &id, [&recipient]),
    };
    let uri = Uri { host: format!("tbr.{domain}").parse().unwrap(), xuid, grant };
    (format!("0 {}", uri.reveal()), statement.sign(&key).unwrap().encode())
}

#[test]
fn forgers_are_refused_before_anything_is_looked_up_and_others_are_heard() {
    let receiver = Receiver::start("[budgets.network]\nfailures_per_hour = 3");
    let bots = [Ipv4Addr::new(127, 0, 1, 1), Ipv4Addr::new(127, 0, 1, 200)];
    for number in 0..3 {
        let reply = receiver.offer(bots[0], "victim.example", number);
        assert!(reply.starts_with("550 5.7.80 "), "{reply}");
    }
    // Another address of the same network, another name.
    let reply = receiver.offer(bots[1], "other.example", 3);
    let sentence = "too many references of this network have failed lately, come back later";
    assert!(reply.starts_with(&format!("451 4.7.74 {sentence}")), "{reply}");
    let reply = receiver.offer(Ipv4Addr::new(127, 0, 2, 1), "victim.example", 4);
    assert!(reply.starts_with("550 5.7.80 "), "from elsewhere it is judged: {reply}");
}

fn server(sandbox: &Sandbox, domain: &str, with: &[(&str, &str, &str)]) -> Restante {
    let config = RestanteConfig::new(PROGRAM, &format!("mx.{domain}"), &[domain]).users(&["alice", "bob"]);
    let config = with.iter().fold(config, |config, (section, field, value)| config.with(section, field, value));
    Restante::start(sandbox, config).unwrap()
}

fn send(origin: &Restante, subject: &str) -> String {
    let message = format!("From: alice@a.example\nSubject: {subject}\n\nx\n");
    origin.send("alice@a.example", &["bob@b.example"], message.as_bytes()).unwrap()
}

#[test]
fn references_outstanding_are_limited_whatever_is_restarted() {
    let sandbox = Sandbox::new().unwrap();
    let limit = [
        ("transfer", "pause_retrieval", "true"),
        ("budgets.domain", "outstanding", "1"),
        ("policy", "kept_after", "\"1s\""),
    ];
    let mut receiver = server(&sandbox, "b.example", &limit);
    let origin = server(&sandbox, "a.example", &[]);
    let first = send(&origin, "first");
    wait::until("the first to be taken", wait::LONG, || receiver.log().contains("code=250").then_some(())).unwrap();
    let second = send(&origin, "second");
    let over = || receiver_is_over(&receiver);
    wait::until("the second to be refused", wait::LONG, over).unwrap();
    assert!(origin.trace(&second).unwrap().to_string().contains("too many references of this domain are pending"));

    receiver.stop().unwrap();
    receiver.run().unwrap();
    wait::until("it to be refused again", wait::LONG, || receiver_is_over(&receiver)).unwrap();

    receiver.stop().unwrap();
    receiver.set("transfer", "pause_retrieval", "false").unwrap();
    receiver.run().unwrap();
    for id in [first, second] {
        origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    }
    let known = || {
        let shown = receiver.json(&["reputation", "show", "www.a.example"], b"").ok()?;
        (shown[0]["score"].as_i64()? >= 2).then_some(())
    };
    wait::until("both to be points for the domain", wait::LONG, known).unwrap();
}

#[test]
fn what_readers_keep_is_good_for_its_domain_and_what_they_call_junk_is_not() {
    let sandbox = Sandbox::new().unwrap();
    let receiver = server(&sandbox, "b.example", &[("policy", "kept_after", "\"2s\"")]);
    let origin = server(&sandbox, "a.example", &[]);
    let score = |wanted: fn(i64) -> bool| {
        let shown = || receiver.json(&["reputation", "show", "a.example"], b"").ok()?[0]["score"].as_i64();
        wait::until("the points to change", wait::LONG, || shown().filter(|score| wanted(*score)))
    };
    send(&origin, "kept");
    let mailbox = receiver.maildir("bob@b.example");
    mailbox.wait_for(1, wait::LONG).unwrap();
    score(|score| score == 1).unwrap();

    send(&origin, "junk");
    mailbox.wait_for(2, wait::LONG).unwrap();
    let files = std::fs::read_dir(mailbox.path().join("new")).unwrap().map(|file| file.unwrap().path());
    let is_junk = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap().contains("Subject: junk");
    let junk = files.into_iter().find(is_junk).unwrap();
    let folder = mailbox.path().join(".Junk/cur");
    std::fs::create_dir_all(&folder).unwrap();
    // As an IMAP server does it: under another name.
    std::fs::rename(junk, folder.join("moved:2,S")).unwrap();
    score(|score| score == -4).unwrap();
}

fn receiver_is_over(receiver: &Restante) -> Option<()> {
    let log = receiver.log();
    (log.contains("domain-outstanding") && log.contains("status=4.7.74")).then_some(())
}

#[test]
fn strangers_wait_and_those_who_are_known_do_not() {
    let sandbox = Sandbox::new().unwrap();
    let receiver = server(&sandbox, "b.example", &[("policy", "stranger_delay", "\"1h\""), ("policy", "hint", "true")]);
    let origin = server(&sandbox, "a.example", &[]);
    let stranger = sandbox.host("mx.c.example", &[]).unwrap();
    sandbox.publish(&[Record::Txt("c.example".to_owned(), "v=spf1 a:mx.c.example -all".to_owned())]).unwrap();
    let by_value = |subject: &str| {
        let header = format!("Subject: {subject}");
        let words = ["--server", "mx.b.example", "--tls", "--from", "x@c.example", "--to", "bob@b.example", "--header"];
        let said = clients::swaks(&stranger, &[&words[..], &[&header]].concat()).unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };

    // By value a stranger is asked for a reference; by reference he is taken, and waits.
    let said = by_value("strange");
    assert!(said.contains("451 4.7.73 delayed; a reference (TBR) would be accepted without delay"), "{said}");
    let waiting = send(&origin, "waits");
    wait::until("the offer to be taken", wait::LONG, || receiver.log().contains("code=250").then_some(())).unwrap();

    for domain in ["a.example", "c.example"] {
        let shown = receiver.json(&["reputation", "good", domain], b"").unwrap();
        assert_eq!((shown["standing"].as_str(), shown["score"].as_i64()), (Some("known"), Some(30)));
    }
    let welcome = send(&origin, "welcome");
    origin.wait_for_state(&welcome, "delivered", wait::LONG).unwrap();
    let said = by_value("known");
    assert!(said.contains(" 250 2.0.0 "), "{said}");
    receiver.maildir("bob@b.example").wait_for(2, wait::LONG).unwrap();
    let listed = receiver.json(&["queue", "list"], b"").unwrap();
    let entry = &listed["entries"][0];
    assert_eq!(
        (entry["recipients"][0]["state"].as_str(), entry["attempts"].as_u64()),
        (Some("open"), Some(0)),
        "{listed}"
    );

    // Whoever runs the server need not wait.
    receiver.json(&["queue", "retry", entry["id"].as_str().unwrap()], b"").unwrap();
    origin.wait_for_state(&waiting, "delivered", wait::LONG).unwrap();
    let copy = receiver.maildir("bob@b.example").wait_for_text("Subject: waits", wait::LONG).unwrap();
    assert!(copy.ends_with(&crlf(b"\nx\n")));
}
