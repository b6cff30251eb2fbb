//! A server is told to stop (SIGTERM) amid what it does: it ends well, what it has answered for is kept, and nothing comes twice.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::thread;

use testbed::peers::restante::{object, references};
use testbed::peers::{Restante, RestanteConfig};
use testbed::samples::{attachment, crlf};
use testbed::{Host, PackageSet, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

fn config(name: &str, domain: &str) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, name, &[domain]).users(&["alice", "bob"])
}

/// A session by hand.
struct Session {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Session {
    fn begin(from: &Host, server: &Restante) -> Self {
        let stream = from.connect((server.host().ipv4(), 25)).unwrap();
        let replies = BufReader::new(stream.try_clone().unwrap());
        let mut session = Self { stream, replies };
        assert!(session.reply().starts_with("220 "));
        assert!(session.say("EHLO mx.old.example\r\n").starts_with("250 "));
        session
    }

    fn say(&mut self, text: &str) -> String {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.reply()
    }

    /// The last line of the next reply; empty where the connection ends.
    fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.replies.read_line(&mut line).unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }
}

#[test]
fn a_transaction_amid_its_content_ends_with_its_reply_and_what_was_accepted_is_there() {
    let sandbox = Sandbox::new().unwrap();
    let client = sandbox.host("mx.old.example", &[]).unwrap();
    let mut server = Restante::start(&sandbox, config("mx.a.example", "a.example")).unwrap();
    let (mut waiting, mut amid) = (Session::begin(&client, &server), Session::begin(&client, &server));
    assert!(amid.say("MAIL FROM:<alice@old.example>\r\n").starts_with("250 "));
    assert!(amid.say("RCPT TO:<bob@a.example>\r\n").starts_with("250 "));
    assert!(amid.say("DATA\r\n").starts_with("354 "));
    amid.stream.write_all(b"From: alice@old.example\r\nSubject: amid a stop\r\n\r\nhalf of it\r\n").unwrap();
    let (accepted, closed) = thread::scope(|scope| {
        let stopping = scope.spawn(|| server.stop());
        // Whoever waits is sent away at once; whoever is in a transaction is not.
        assert!(waiting.reply().starts_with("421 4.3.2"), "at once");
        let accepted = amid.say("and the rest\r\n.\r\n");
        let closed = (amid.reply(), amid.reply());
        stopping.join().unwrap().unwrap();
        (accepted, closed)
    });
    assert!(accepted.starts_with("250 2.0.0"), "{accepted}");
    assert!(closed.0.starts_with("421 4.3.2") && closed.1.is_empty(), "{closed:?}");
    server.run().unwrap();
    let copies = server.maildir("bob@a.example").wait_for(1, wait::LONG).unwrap();
    let ends = copies.iter().filter(|copy| copy.ends_with(b"\r\n\r\nhalf of it\r\nand the rest\r\n")).count();
    assert_eq!((copies.len(), ends), (1, 1));
    let queue = server.json(&["queue", "list", "--finished"], b"").unwrap();
    let id = queue["entries"][0]["id"].as_str().unwrap();
    assert!(accepted.contains(id.split('/').next().unwrap()), "{accepted} {queue:#}");
    server.wait_for_state(id, "delivered", wait::LONG).unwrap();
    assert_eq!(server.maildir("bob@a.example").messages().len(), 1);
    assert_eq!(server.json(&["store", "check"], b"").unwrap()["clean"], true);
}

#[test]
fn a_retrieval_goes_on_after_either_side_was_stopped_amid_it() {
    const SIZE: usize = 3_000_000;
    let sandbox = Sandbox::new().unwrap();
    // What comes in to the receiver is counted.
    let receiver = config("mx.b.example", "b.example").packages(PackageSet::Firewall);
    let mut origin = Restante::start(&sandbox, config("mx.a.example", "a.example")).unwrap();
    let mut receiver = Restante::start(&sandbox, receiver).unwrap();
    receiver.host().count_from(443).unwrap();
    origin.host().slow_down("2mbit").unwrap();
    let message = attachment("amid two stops", SIZE);
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
    let came = |receiver: &Restante, octets: u64| {
        let counted = || (receiver.host().counted().unwrap().octets > octets).then_some(());
        wait::until("a part of the message to come", wait::LONG, counted).unwrap();
    };
    came(&receiver, SIZE as u64 / 8);
    receiver.stop().unwrap();
    assert!(receiver.maildir("bob@b.example").messages().is_empty(), "it was there before the stop");
    let before = receiver.host().counted().unwrap().octets;
    receiver.run().unwrap();
    came(&receiver, before + SIZE as u64 / 8);
    origin.stop().unwrap();
    origin.run().unwrap();

    origin.wait_for_state(&id, "delivered", wait::LONG * 2).unwrap();
    let copies = receiver.maildir("bob@b.example").messages();
    assert_eq!(copies.len(), 1);
    assert!(object(&copies[0]) == Some(&crlf(&message)[..]), "another message");
    let octets = receiver.host().counted().unwrap().octets;
    assert!(octets < SIZE as u64 * 5 / 4, "{octets} octets came: it began anew");
    let reference = references(&origin.trace(&id).unwrap()).remove(0);
    receiver.wait_for_state(&reference, "delivered", wait::LONG).unwrap();
    for server in [&origin, &receiver] {
        assert_eq!(server.json(&["store", "check"], b"").unwrap()["clean"], true);
    }
}
