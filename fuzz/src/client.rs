//! Whole client sessions, SMTP and LMTP, with a peer that says anything, line by line: the same whether a line comes at once or octet
//! by octet, and no recipient is told more than what was sent allows.
//!
//! An input is what the peer says. The last line of all is followed by the end of the connection.

use bytes::Bytes;
use mail::{Address, Domain, Envelope, MailParams, Recipient, Timestamp};
use smtp::Secret;
use smtp::client::{Action, CannotSend, Client, Config, Event, Fate, Outcome, Protocol, Transfer};
use smtp::command::{Etrn, HelloName, Tbr};

use crate::sasl::PASSWORD;

/// All happens at once: timeouts are not what is looked for here.
const NOW: Timestamp = Timestamp::from_secs(0);

/// What goes by value, in chunks.
const CONTENT: [&str; 2] = ["Subject: a\r\n\r\n..", "\r\n.\r\nthe last line\r\n"];
/// It ends with these octets, dots or not.
const LAST_LINE: &str = "the last line\r\n";
/// What goes by reference.
const BLOCK: &str = "TBR-Reference: v=1;\r\n d=a.example\r\n";

/// What the driver orders, one thing after the other; what the peer does not offer is left out.
#[derive(Debug, Clone, Copy)]
enum Order {
    StartTls,
    Authenticate,
    Value,
    Offer,
    Probe,
    Etrn,
    Atrn,
}

/// By value, twice over one connection.
pub fn smtp_client(data: &[u8]) {
    both(data, Protocol::Smtp, &[Order::Value, Order::Value]);
}

/// An offer, inside TLS if there is any, then by value what was not taken, and a question.
pub fn smtp_client_offer(data: &[u8]) {
    both(data, Protocol::Smtp, &[Order::StartTls, Order::Offer, Order::Value, Order::Probe]);
}

/// A customer, who logs in and fetches what waits.
pub fn smtp_client_customer(data: &[u8]) {
    both(data, Protocol::Smtp, &[Order::StartTls, Order::Authenticate, Order::Etrn, Order::Atrn]);
}

/// Into mailboxes: each recipient has an answer of its own.
pub fn lmtp_client(data: &[u8]) {
    both(data, Protocol::Lmtp, &[Order::Value, Order::Offer, Order::Value]);
}

fn both(data: &[u8], protocol: Protocol, orders: &[Order]) {
    let lines = || data.split_inclusive(|octet| *octet == b'\n');
    let by_line = run(&mut lines(), protocol, orders);
    assert_eq!(by_line, run(&mut lines().flat_map(|line| line.chunks(1)), protocol, orders));
}

/// All that came of a session.
#[derive(Debug, Default, PartialEq)]
struct Transcript {
    written: Vec<u8>,
    events: Vec<String>,
}

fn run(pieces: &mut dyn Iterator<Item = &[u8]>, protocol: Protocol, orders: &[Order]) -> Transcript {
    let name = HelloName::from(&"a.example".parse::<Domain>().expect("a name"));
    let mut session = Client::new(Config::new(name, protocol), false, NOW);
    let mut transcript = Transcript::default();
    let (mut orders, mut chunks) = (orders.iter(), CONTENT.iter());
    // The transaction that is on its way, and where it begins in what was written.
    let mut under_way = None;
    loop {
        match session.next_action(NOW) {
            Action::Write(octets) => transcript.written.extend_from_slice(&octets),
            Action::Ready => {
                assert!(under_way.is_none(), "a transaction without an outcome");
                let Some(order) = orders.next() else {
                    session.quit(NOW).expect("ready");
                    continue;
                };
                match carry_out(&mut session, *order) {
                    Ok(transfer) => under_way = transfer.then_some((*order, transcript.written.len())),
                    Err(error) => assert!(error != CannotSend::NotReady && session.is_ready()),
                }
                chunks = CONTENT.iter();
            }
            Action::Content => match chunks.next() {
                Some(chunk) => session.content(Bytes::from_static(chunk.as_bytes())),
                None => session.content_end(NOW),
            },
            Action::Event(event) => {
                transcript.events.push(format!("{event:?}"));
                if let Event::Done(outcome) = event {
                    let (order, from) = under_way.take().expect("an outcome for each transaction, and one only");
                    check(&outcome, order, &transcript.written[from..]);
                }
            }
            Action::StartTls => session.tls_established(NOW).expect("asked for"),
            Action::Idle { .. } => match pieces.next() {
                Some(piece) => session.feed(NOW, piece),
                None => session.lost(),
            },
            Action::Turn | Action::Close => break,
        }
    }
    assert!(under_way.is_none(), "a transaction without an outcome");
    transcript
}

/// Gives an order: `true` where a transaction begins.
fn carry_out(session: &mut Client, order: Order) -> Result<bool, CannotSend> {
    let count = CONTENT.iter().map(|chunk| chunk.len() as u64).sum();
    match order {
        Order::StartTls => session.start_tls(NOW).map(|()| false),
        Order::Authenticate => session.authenticate(NOW, "alice", &Secret::new(PASSWORD.as_bytes())).map(|()| false),
        Order::Etrn => session.etrn(NOW, &Etrn::Domain("a.example".parse().expect("a name"))).map(|()| false),
        Order::Atrn => session.atrn(NOW, &[]).map(|()| false),
        Order::Value => session.begin(NOW, &envelope(), Transfer::Value { octets: count }).map(|()| true),
        Order::Probe => session.begin(NOW, &envelope(), Transfer::Probe).map(|()| true),
        Order::Offer => {
            let line = Tbr::parse("1 https://tbr.a.example/.well-known/tbr/m?x").expect("a line");
            let block = Bytes::from_static(BLOCK.as_bytes());
            session.begin(NOW, &envelope(), Transfer::Offer { line, block }).map(|()| true)
        }
    }
}

fn envelope() -> Envelope {
    let recipient = |text| Recipient::plain(Address::parse(text).expect("an address"));
    Envelope {
        mail_from: None,
        params: MailParams::default(),
        recipients: vec![recipient("x@b.example"), recipient("y@b.example")],
    }
}

/// One fate for each recipient, by the code that the peer has said. Nobody is taken for served who cannot have the message, and nobody
/// gets it again who may have it.
fn check(outcome: &Outcome, order: Order, written: &[u8]) {
    assert_eq!(outcome.fates.len(), 2);
    let is_whole = match order {
        Order::Offer => contains(written, &[BLOCK, ".\r\n"].concat()),
        _ if contains(written, "BDAT ") => contains(written, LAST_LINE),
        _ => contains(written, &[LAST_LINE, ".\r\n"].concat()),
    };
    for fate in &outcome.fates {
        match fate {
            Fate::Accepted(reply) => {
                assert!(reply.is_success() && (is_whole || matches!(order, Order::Probe)), "{fate:?}");
            }
            Fate::Temporary(refusal) => assert!(matches!(refusal.reply.code(), 400..500 | 552), "{fate:?}"),
            Fate::Permanent(refusal) => assert!(refusal.reply.code() >= 500, "{fate:?}"),
            Fate::NotSent(_) => assert!(!is_whole, "{fate:?}"),
            Fate::Unknown(_) => {}
        }
    }
}

fn contains(octets: &[u8], text: &str) -> bool {
    octets.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever mutates these begins at sessions that get far.
    #[test]
    fn the_sessions_of_the_corpora_get_to_their_ends() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let events = |name: &str, protocol, orders: &[Order]| {
            let data = std::fs::read(corpus.join(name)).unwrap();
            run(&mut data.split_inclusive(|octet| *octet == b'\n'), protocol, orders).events.join("\n")
        };
        let offer = events("smtp_client_offer/taken", Protocol::Smtp, &[Order::StartTls, Order::Offer]);
        assert!(offer.contains("Accepted(250 2.0.0 taken)"), "{offer}");
        let customer = [Order::StartTls, Order::Authenticate, Order::Etrn, Order::Atrn];
        let turned = events("smtp_client_customer/turned", Protocol::Smtp, &customer);
        assert!(turned.contains("Atrn(250"), "{turned}");
        let lmtp = events("lmtp_client/each", Protocol::Lmtp, &[Order::Value]);
        assert!(lmtp.contains("Accepted(250 2.0.0 x)") && lmtp.contains("Permanent"), "{lmtp}");
    }
}
