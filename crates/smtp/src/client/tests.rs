//! A client and a server of ours talk to each other: what is handed in comes out.

use std::sync::Arc;

use mail::{Address, Envelope, MailParams, Recipient};
use proptest::prelude::*;

use super::*;
use crate::command::{HelloName, Tbr};
use crate::server::{self, Decision, Server};

fn now() -> Timestamp {
    Timestamp::from_secs(1_000_000)
}

struct Link {
    client: Client,
    server: Server,
    events: Vec<Event>,
    contents: Vec<Vec<u8>>,
    content: Vec<u8>,
    offers: Vec<server::Offer>,
    /// Octets from client to server.
    upstream: usize,
    /// How octets are cut on the way.
    cut: usize,
}

impl Link {
    fn new(cut: usize, chunking: bool) -> Self {
        let mut config = server::Config::relay(mail::Domain::parse("mx.example").unwrap());
        config.chunking = chunking;
        let name = HelloName::new("a.example").unwrap();
        Self {
            client: Client::new(Config::new(name, Protocol::Smtp), true, now()),
            server: Server::new(Arc::new(config), true, now()),
            events: Vec::new(),
            contents: Vec::new(),
            content: Vec::new(),
            offers: Vec::new(),
            upstream: 0,
            cut,
        }
    }

    /// Runs both until the client waits for an order or for content, or has closed.
    fn run(&mut self) -> Action {
        loop {
            self.run_server();
            match self.client.next_action(now()) {
                Action::Write(octets) => {
                    self.upstream += octets.len();
                    for piece in octets.chunks(self.cut) {
                        self.server.feed(now(), piece);
                        self.run_server();
                    }
                }
                Action::Event(event) => self.events.push(event),
                Action::Idle { .. } => {}
                action => return action,
            }
        }
    }

    fn run_server(&mut self) {
        loop {
            match self.server.next_action(now()) {
                server::Action::Write(octets) => octets.chunks(self.cut).for_each(|p| self.client.feed(now(), p)),
                server::Action::Event(event) => self.server_event(event),
                _ => return,
            }
        }
    }

    fn server_event(&mut self, event: server::Event) {
        let wants_decision = event.wants_decision();
        let decision = match event {
            server::Event::Content(chunk) => {
                self.content.extend_from_slice(&chunk);
                Decision::Accept
            }
            server::Event::ContentEnd { octets } => {
                assert_eq!(octets, self.content.len() as u64);
                self.contents.push(std::mem::take(&mut self.content));
                Decision::Queued("q".parse().unwrap())
            }
            server::Event::Offer(offer) => {
                self.offers.push(offer);
                Decision::Queued("q".parse().unwrap())
            }
            _ => Decision::Accept,
        };
        if wants_decision {
            self.server.decide(now(), decision).unwrap();
        }
    }

    fn send(&mut self, message: &[u8]) -> Outcome {
        self.run();
        self.client.begin(now(), &envelope(1), Transfer::Value { octets: message.len() as u64 }).unwrap();
        assert_eq!(self.run(), Action::Content);
        for chunk in message.chunks(self.cut) {
            self.client.content(Bytes::copy_from_slice(chunk));
            self.run();
        }
        self.client.content_end(now());
        self.outcome()
    }

    fn outcome(&mut self) -> Outcome {
        assert_eq!(self.run(), Action::Ready);
        match self.events.pop() {
            Some(Event::Done(outcome)) => outcome,
            other => panic!("{other:?}"),
        }
    }
}

fn envelope(recipients: usize) -> Envelope {
    let recipient = |n| Recipient::plain(Address::parse(&format!("r{n}@mx.example")).unwrap());
    Envelope {
        mail_from: Some(Address::parse("x@a.example").unwrap()),
        params: MailParams::default(),
        recipients: (0..recipients).map(recipient).collect(),
    }
}

fn lines() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof!["\\.{0,3}[ -~]{0,20}", Just(".".to_owned()), Just(String::new()), "\\PC{0,20}"];
    proptest::collection::vec(line, 0..20)
        .prop_map(|lines| lines.iter().flat_map(|l| [l.as_bytes(), b"\r\n"].concat()).collect())
}

proptest! {
    #[test]
    fn any_message_passes_unchanged(
        messages in proptest::collection::vec(lines(), 1..4),
        cut in 1usize..50,
        chunking: bool,
    ) {
        let mut link = Link::new(cut, chunking);
        for message in &messages {
            prop_assert!(link.send(message).fates[0].is_accepted());
        }
        prop_assert_eq!(&link.contents, &messages);
    }
}

#[test]
fn an_offer_passes_unchanged() {
    let mut link = Link::new(usize::MAX, false);
    link.run();
    let line = Tbr::parse("0 https://tbr.a.example/.well-known/tbr/m?XUID=x&RCPT=y").unwrap();
    let block = Bytes::from_static(b"TBR-Reference: v=1;\r\n b=x\r\n");
    for recipients in [1, 3, 900] {
        let transfer = Transfer::Offer { line: line.clone(), block: block.clone() };
        link.client.begin(now(), &envelope(recipients), transfer).unwrap();
        assert!(link.outcome().fates.iter().all(Fate::is_accepted));
        let offer = link.offers.pop().unwrap();
        assert_eq!((&offer.line, &offer.block, offer.recipients.len()), (&line, &block, recipients));
    }
}

#[test]
fn an_offer_is_one_write() {
    let mut link = Link::new(usize::MAX, false);
    link.run();
    let line = Tbr::parse("0 https://tbr.a.example/.well-known/tbr/m?XUID=x&RCPT=y").unwrap();
    let block = Bytes::from_static(b"TBR-Reference: v=1\r\n");
    link.client.begin(now(), &envelope(3), Transfer::Offer { line, block }).unwrap();
    match link.client.next_action(now()) {
        Action::Write(octets) => assert!(octets.starts_with(b"MAIL") && octets.ends_with(b"\r\n.\r\n")),
        other => panic!("{other:?}"),
    }
    assert!(matches!(link.client.next_action(now()), Action::Idle { .. }));
}

fn begin_value(link: &mut Link, octets: u64) {
    link.run();
    link.client.begin(now(), &envelope(1), Transfer::Value { octets }).unwrap();
    assert_eq!(link.run(), Action::Content);
}

#[test]
fn a_small_message_ends_in_one_write_with_its_dot() {
    let mut link = Link::new(usize::MAX, false);
    begin_value(&mut link, 8);
    link.client.content(Bytes::from_static(b"a: "));
    link.client.content(Bytes::from_static(b"b\r\n\r\n"));
    link.client.content_end(now());
    assert_eq!(link.client.next_action(now()), Action::Write(Bytes::from_static(b"a: b\r\n\r\n.\r\n")));
}

#[test]
fn a_small_message_is_one_write_with_its_bdat() {
    let mut link = Link::new(usize::MAX, true);
    begin_value(&mut link, 8);
    link.client.content(Bytes::from_static(b"a: b\r\n\r\n"));
    link.client.content_end(now());
    assert_eq!(link.client.next_action(now()), Action::Write(Bytes::from_static(b"BDAT 8 LAST\r\na: b\r\n\r\n")));
}

#[test]
fn a_large_message_is_not_copied() {
    for chunking in [false, true] {
        let mut link = Link::new(usize::MAX, chunking);
        let chunk = Bytes::from(b"0123456789\r\n".repeat(10_000));
        begin_value(&mut link, chunk.len() as u64);
        link.client.content(chunk.clone());
        let written = std::iter::repeat_with(|| link.client.next_action(now()));
        let whole = written.take(2).any(|a| matches!(a, Action::Write(octets) if octets.as_ptr() == chunk.as_ptr()));
        assert!(whole, "chunking: {chunking}");
    }
}

#[test]
fn a_count_that_does_not_hold_loses_the_session_and_nothing_else() {
    let text = Bytes::from_static(b"a: b\r\n\r\n");
    for (announced, fate) in [(9, Fate::NotSent(Lost::Closed)), (7, Fate::NotSent(Lost::Closed))] {
        let mut link = Link::new(usize::MAX, true);
        begin_value(&mut link, announced);
        link.client.content(text.clone());
        link.client.content_end(now());
        assert_eq!(link.run(), Action::Close);
        assert!(link.events.contains(&Event::Done(Outcome { fates: vec![fate] })));
        assert!(link.contents.is_empty());
    }
}

#[test]
fn once_the_last_counted_octet_is_out_nobody_knows() {
    let chunk = Bytes::from(b"0123456789\r\n".repeat(10_000));
    for (held_back, fate) in [(0, Fate::Unknown(Lost::Closed)), (1, Fate::NotSent(Lost::Closed))] {
        let mut link = Link::new(usize::MAX, true);
        begin_value(&mut link, chunk.len() as u64);
        link.client.content(chunk.slice(..chunk.len() - held_back));
        while matches!(link.client.next_action(now()), Action::Write(_)) {}
        link.client.lost();
        assert_eq!(link.run(), Action::Close);
        assert!(link.events.contains(&Event::Done(Outcome { fates: vec![fate] })));
    }
}
