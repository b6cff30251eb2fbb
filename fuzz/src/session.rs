//! Whole server sessions, one target for each kind of listener: the same verdicts however the octets are cut, one answer to each
//! command, and nothing taken before its time.
//!
//! An input is an octet that says how the second of two runs is cut, and what the client sends: up to the first NUL in clear, behind it
//! inside TLS, if the client has asked for that. The driver refuses whoever is called `no…` and `later…`, and everybody logs in with the
//! same password.

mod in_step;
mod promises;

use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use mail::{Address, Domain, QueueId, Timestamp};
use net::sasl::{Exchange, Failure, MECHANISMS, Step};
use reference::{Block, OfferLine};
use smtp::reply::catalogue;
use smtp::reply::reader::ReplyReader;
use smtp::server::{Action, AuthStep, Config, Decision, Event, Offer, OfferTbr, Server};
use smtp::{Reply, Secret};
use tokio::runtime::{Builder, Runtime};

use crate::sasl::{Everybody, PASSWORD};
use promises::Promises;

/// All happens at once: deadlines are not what is looked for here.
const NOW: Timestamp = Timestamp::from_secs(0);

/// A listener for other servers, in clear: mail by value, offers, ETRN.
pub fn smtp_server(data: &[u8]) {
    both(data, Config { tbr: OfferTbr::Always, etrn: true, ..Config::relay(host()) });
}

/// A listener for other servers that takes offers inside TLS only, and REQUIRETLS and SMTPUTF8 there.
pub fn smtp_offers(data: &[u8]) {
    both(data, Config { smtputf8: true, requiretls: true, ..Config::relay(host()) });
}

/// A listener for users, who log in inside TLS only.
pub fn smtp_submission(data: &[u8]) {
    both(data, Config { smtputf8: true, ..Config::submission(host(), MECHANISMS) });
}

/// A listener for customers that fetch their mail by ATRN.
pub fn smtp_on_demand(data: &[u8]) {
    both(data, Config::on_demand(host(), MECHANISMS));
}

fn host() -> Domain {
    "mx.b.example".parse().expect("a name")
}

fn both(data: &[u8], mut config: Config) {
    // Small enough for inputs to reach them.
    (config.limits.message, config.limits.block, config.limits.recipients) = (4096, 2048, 3);
    config.limits.transactions = Some(4);
    let config = Arc::new(config);
    let Some(input) = Input::read(data) else { return };
    let whole = serve(&config, [input.clear, input.inside].map(std::iter::once));
    assert_eq!(whole, serve(&config, [input.clear, input.inside].map(|part| part.chunks(input.piece))));
    in_step::check(&input, &whole.replies, whole.closed);
}

/// What a client sends.
struct Input<'a> {
    /// Octets of a piece, in the second run.
    piece: usize,
    clear: &'a [u8],
    /// Behind the handshake; where there is none, behind the rest.
    inside: &'a [u8],
}

impl<'a> Input<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let (piece, sent) = data.split_first()?;
        let (clear, inside) = match sent.iter().position(|octet| *octet == 0) {
            Some(at) => (&sent[..at], &sent[at + 1..]),
            None => (sent, &sent[sent.len()..]),
        };
        Some(Self { piece: usize::from(*piece).max(1), clear, inside })
    }
}

/// All that came of a session.
#[derive(Debug, Default, PartialEq)]
struct Transcript {
    replies: Vec<Reply>,
    /// In order, but for content.
    events: Vec<String>,
    /// What was taken, messages and blocks.
    content: Vec<u8>,
    /// The session is over.
    closed: bool,
}

fn serve<'a>(config: &Arc<Config>, parts: [impl Iterator<Item = &'a [u8]>; 2]) -> Transcript {
    let mut driver = Driver {
        session: Server::new(Arc::clone(config), false, NOW),
        promises: Promises::new(Arc::clone(config)),
        transcript: Transcript::default(),
        written: Vec::new(),
        question: None,
        exchange: None,
        refuses_content: false,
        wants_tls: false,
    };
    driver.advance();
    for part in parts {
        // In clear until here. Further octets behind STARTTLS go nowhere.
        if std::mem::take(&mut driver.wants_tls) {
            driver.session.tls_established(NOW).expect("asked for");
            driver.promises.inside_tls();
            driver.advance();
        }
        for piece in part {
            if driver.transcript.closed {
                break;
            }
            driver.session.feed(NOW, piece);
            driver.advance();
        }
    }
    driver.transcript.replies = replies(&driver.written);
    driver.transcript
}

/// What was written is replies, and nothing else. What a challenge says is random.
fn replies(written: &[u8]) -> Vec<Reply> {
    let (mut reader, mut input, mut replies) = (ReplyReader::default(), BytesMut::from(written), Vec::new());
    while let Some(reply) = reader.read(&mut input).expect("what we write are replies") {
        replies.push(if reply.code() == 334 { Reply::new(334, None, "") } else { reply });
    }
    assert!(input.is_empty() && !reader.is_amid(), "a reply without its end");
    replies
}

/// Who answers the session's questions.
struct Driver {
    session: Server,
    promises: Promises,
    transcript: Transcript,
    written: Vec<u8>,
    question: Option<Event>,
    exchange: Option<Exchange>,
    /// A recipient of this transaction has no room.
    refuses_content: bool,
    wants_tls: bool,
}

impl Driver {
    fn advance(&mut self) {
        loop {
            match self.session.next_action(NOW) {
                Action::Write(octets) => self.written.extend_from_slice(&octets),
                Action::Event(event) => self.note(event),
                Action::Decide => self.decide(),
                Action::Idle { .. } => return,
                Action::StartTls => {
                    self.wants_tls = true;
                    return;
                }
                Action::Turn | Action::Close => {
                    self.transcript.closed = true;
                    return;
                }
            }
        }
    }

    fn note(&mut self, event: Event) {
        self.promises.note(&event);
        match &event {
            Event::Content(_) => return,
            Event::Mail(_) => self.refuses_content = false,
            Event::AuthCancelled => self.exchange = None,
            _ => {}
        }
        self.transcript.events.push(format!("{event:?}"));
        self.question = event.wants_decision().then_some(event);
    }

    fn decide(&mut self) {
        let question = self.question.take().expect("a question");
        let decision = match &question {
            Event::Mail(mail) => mail.from.as_ref().map_or(Decision::Accept, judge),
            Event::Rcpt(recipient) => {
                self.refuses_content |= recipient.address.local() == "full";
                judge(&recipient.address)
            }
            Event::Atrn(domains) if domains.iter().any(|domain| domain.as_str().starts_with("no")) => {
                Decision::Reply(catalogue::no_mail())
            }
            Event::Auth(step) => self.authenticate(step),
            Event::ContentEnd { .. } => {
                self.transcript.content.extend_from_slice(self.promises.content());
                Decision::Queued(queue_id())
            }
            Event::Offer(offer) => self.judge_offer(offer),
            _ => Decision::Accept,
        };
        self.promises.answered(&question, &decision);
        self.session.decide(NOW, decision).expect("the session asked");
        if self.refuses_content && question == Event::ContentStart {
            self.session.refuse_content(catalogue::local_error()).expect("content is on its way");
            self.promises.content_refused();
        }
    }

    fn judge_offer(&mut self, offer: &Offer) -> Decision {
        self.transcript.content.extend_from_slice(&offer.block);
        let is_fine = OfferLine::parse(offer.line.reveal()).is_ok() && Block::parse(&offer.block).is_ok();
        if is_fine { Decision::Queued(queue_id()) } else { Decision::Reply(catalogue::malformed_block()) }
    }

    fn authenticate(&mut self, step: &AuthStep) -> Decision {
        let message = match step {
            AuthStep::Start { mechanism, initial } => {
                self.exchange = Exchange::new(mechanism);
                initial.as_ref()
            }
            AuthStep::Response(response) => Some(response),
        };
        let exchange = self.exchange.as_mut().expect("a mechanism that was offered");
        match waiter().block_on(exchange.step(&Everybody, message.map(Secret::reveal))) {
            Ok(Step::Challenge(challenge)) => Decision::Challenge(challenge),
            Ok(Step::Authenticated(name)) => {
                let said = message.map(Secret::reveal).unwrap_or_default();
                assert!(said.ends_with(PASSWORD.as_bytes()), "{name} came in without the password");
                Decision::Accept
            }
            Err(Failure::Malformed) => Decision::Reply(Reply::new(501, None, "malformed")),
            Err(_) => Decision::Reply(catalogue::auth_failed()),
        }
    }
}

fn queue_id() -> QueueId {
    "q1".parse().expect("an id")
}

fn judge(address: &Address) -> Decision {
    match address.local() {
        no if no.starts_with("no") => Decision::Reply(catalogue::no_such_mailbox()),
        later if later.starts_with("later") => Decision::Reply(catalogue::local_error()),
        _ => Decision::Accept,
    }
}

/// Passwords are checked beside the session.
fn waiter() -> &'static Runtime {
    static WAITER: LazyLock<Option<Runtime>> = LazyLock::new(|| Builder::new_current_thread().build().ok());
    WAITER.as_ref().expect("a runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever mutates these begins at sessions that get far.
    #[test]
    fn the_sessions_of_the_corpora_get_to_their_ends() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let events = |name: &str, config: Config| {
            let data = std::fs::read(corpus.join(name)).unwrap();
            let input = Input::read(&data).unwrap();
            serve(&Arc::new(config), [input.clear, input.inside].map(std::iter::once)).events.join("\n")
        };
        for (name, end) in [("plain", "ContentEnd"), ("login", "ContentEnd"), ("scram", "Auth(Response")] {
            let events = events(&format!("smtp_submission/{name}"), Config::submission(host(), MECHANISMS));
            assert!(events.contains(end), "{name}: {events}");
        }
        let offers = events("smtp_offers/one", Config::relay(host()));
        assert!(offers.contains("Offer("), "{offers}");
        let turned = events("smtp_on_demand/turned", Config::on_demand(host(), MECHANISMS));
        assert!(turned.contains("Atrn("), "{turned}");
    }
}
