//! Whole sessions: the same verdicts however the octets are cut, and no state that cannot be left.

use std::sync::Arc;

use bytes::Bytes;
use mail::{Address, Domain, Envelope, MailParams, Recipient, Timestamp};
use smtp::client::{self, Client, Transfer};
use smtp::server::{self, Decision, Event, OfferTbr, Server};

/// A server session with a driver that accepts everything. The first octet is the size of the pieces in the second of
/// two runs, whose actions must be the same but for how content is cut.
pub fn smtp_server(data: &[u8]) {
    let Some((piece, input)) = data.split_first() else { return };
    let piece = usize::from(*piece).max(1);
    assert_eq!(serve(&mut std::iter::once(input)), serve(&mut input.chunks(piece)));
}

/// Replies as one text, events in order; content as one text between its start and its end.
#[derive(Debug, Default, PartialEq)]
struct Transcript {
    replies: Vec<u8>,
    events: Vec<String>,
    content: Vec<u8>,
    /// Where the content that is on its way begins: how much of a dropped one was seen may differ.
    content_from: usize,
    closed: bool,
}

fn serve(pieces: &mut dyn Iterator<Item = &[u8]>) -> Transcript {
    let mut config = server::Config::relay(Domain::parse("mx.b.example").expect("a name"));
    config.tbr = OfferTbr::Always;
    config.etrn = true;
    config.limits.message = 4096;
    let now = Timestamp::from_secs(0);
    let mut session = Server::new(Arc::new(config), false, now);
    let mut transcript = Transcript::default();
    advance(&mut session, &mut transcript);
    for piece in pieces {
        if transcript.closed {
            break;
        }
        session.feed(now, piece);
        advance(&mut session, &mut transcript);
    }
    transcript
}

fn advance(session: &mut Server, transcript: &mut Transcript) {
    let now = Timestamp::from_secs(0);
    let mut question = None;
    loop {
        match session.next_action(now) {
            server::Action::Write(octets) => transcript.replies.extend_from_slice(&octets),
            server::Action::Event(Event::Content(octets)) => transcript.content.extend_from_slice(&octets),
            server::Action::Event(event) => {
                match event {
                    Event::ContentStart => transcript.content_from = transcript.content.len(),
                    Event::ContentDropped(_) => transcript.content.truncate(transcript.content_from),
                    _ => {}
                }
                transcript.events.push(format!("{event:?}"));
                question = event.wants_decision().then_some(event);
            }
            server::Action::Decide => {
                let decision = match question.take() {
                    Some(Event::ContentEnd { .. } | Event::Offer(_)) => Decision::Queued("q1".parse().expect("an id")),
                    _ => Decision::Accept,
                };
                session.decide(now, decision).expect("the session asked");
            }
            server::Action::Idle { .. } => return,
            // What was sent behind STARTTLS is thrown away, what comes after the handshake is not: here cuts do matter.
            server::Action::StartTls | server::Action::Turn | server::Action::Close => {
                transcript.closed = true;
                return;
            }
        }
    }
}

/// A client session whose peer says anything: it ends, or waits for more, and never gives a recipient two fates.
pub fn smtp_client(data: &[u8]) {
    let now = Timestamp::from_secs(0);
    let name = smtp::command::HelloName::from(&Domain::parse("a.example").expect("a name"));
    let mut session = Client::new(client::Config::new(name, client::Protocol::Smtp), false, now);
    let mut pieces = data.split_inclusive(|octet| *octet == b'\n');
    let (mut begun, mut done, mut chunks) = (false, 0, 2);
    for _ in 0..data.len() + 64 {
        match session.next_action(now) {
            client::Action::Ready if begun => session.quit(now).expect("ready"),
            client::Action::Ready => {
                begun = true;
                let _ = session.begin(now, &envelope(), Transfer::Value { octets: 10 });
            }
            client::Action::Content if chunks > 0 => {
                chunks -= 1;
                session.content(Bytes::from_static(b"a: b\r\n"));
            }
            client::Action::Content => session.content_end(now),
            client::Action::Event(client::Event::Done(outcome)) => {
                done += 1;
                assert_eq!(outcome.fates.len(), 2);
            }
            client::Action::Event(_) | client::Action::Write(_) => {}
            client::Action::StartTls => session.tls_established(now).expect("asked"),
            client::Action::Idle { .. } => match pieces.next() {
                Some(piece) => session.feed(now, piece),
                None => session.lost(),
            },
            client::Action::Turn | client::Action::Close => break,
        }
    }
    assert!(done <= 1);
}

fn envelope() -> Envelope {
    let recipient = |text| Recipient::plain(Address::parse(text).expect("an address"));
    Envelope {
        mail_from: None,
        params: MailParams::default(),
        recipients: vec![recipient("x@b.example"), recipient("y@b.example")],
    }
}
