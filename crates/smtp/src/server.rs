//! The server's side of a session, without a socket: octets, decisions and the time go in, actions come
//! out.
//!
//! The session knows the protocol: syntax, order, limits, timeouts, where a content ends. It knows no
//! policy: whether a sender, a recipient or a message is welcome is asked, one question at a time, and
//! the driver may take its time to answer. What a client sends meanwhile waits its turn.
//!
//! ```
//! use std::sync::Arc;
//! use mail::{Domain, QueueId, Timestamp};
//! use smtp::server::{Action, Config, Decision, Event, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Arc::new(Config::relay(Domain::parse("mx.example")?));
//! let mut now = Timestamp::from_secs(0);          // a driver asks its clock
//! let mut wire = &b"EHLO a.example\r\nMAIL FROM:<x@a.example>\r\nRCPT TO:<y@mx.example>\r\nDATA\r\n\
//!                   Subject: hello\r\n\r\n..dots\r\n.\r\nQUIT\r\n"[..]; // and reads from a socket
//! let (mut written, mut content) = (Vec::new(), Vec::new());
//!
//! let mut session = Server::new(config, false, now);
//! loop {
//!     match session.next_action(now) {
//!         Action::Write(octets) => written.extend_from_slice(&octets),
//!         Action::Event(Event::Content(chunk)) => content.extend_from_slice(&chunk),
//!         // Every other event with a question: here the answer is always yes.
//!         Action::Event(Event::ContentEnd { .. } | Event::Offer(_)) => {
//!             session.decide(now, Decision::Queued(QueueId::generate(now, [7; 8])))?;
//!         }
//!         Action::Event(event) if event.wants_decision() => session.decide(now, Decision::Accept)?,
//!         Action::Event(_) | Action::Decide => {}
//!         // Read with a timeout at `deadline`; an end of the stream is `session.end_of_input()`.
//!         Action::Idle { .. } => {
//!             let (some, rest) = wire.split_at(wire.len().min(20));
//!             session.feed(now, some);
//!             (wire, now) = (rest, now.after(std::time::Duration::from_millis(5)));
//!         }
//!         Action::StartTls => session.tls_established(now)?, // after the handshake
//!         Action::Turn | Action::Close => break,
//!     }
//! }
//! assert_eq!(content, b"Subject: hello\r\n\r\n.dots\r\n");
//! assert!(written.ends_with(b"221 2.0.0 bye\r\n"));
//! # Ok(()) }
//! ```

mod commands;
mod config;
mod decide;
mod event;
mod lines;
mod transaction;
mod transfer;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mail::Timestamp;

use crate::command::{Bdat, Tbr, Verb};
use crate::content::Unstuffer;
use crate::content::block::BlockReader;
use crate::reply::{Reply, catalogue};
use transaction::{Progress, Transaction};

pub use config::{Config, Limits, Role, Tbr as OfferTbr};
pub use event::{Action, AuthStep, Decision, Dropped, Event, Misuse, Offer, OfferedRecipient};

/// Replies that have gathered are written when they reach this many octets, or when nothing else is
/// to be done.
const FLUSH: usize = 8 << 10;

/// A session. See the [module](self) for how to drive it.
pub struct Server {
    config: Arc<Config>,
    /// The latest time we were told.
    now: Timestamp,
    deadline: Timestamp,
    input: BytesMut,
    /// Octets at the start of the input that hold no CR LF.
    scanned: usize,
    output: BytesMut,
    events: VecDeque<Event>,
    state: State,
    connection: Connection,
    transaction: Option<Transaction>,
    progress: Progress,
    tally: Tally,
    /// MAIL commands so far, over the whole connection.
    transactions: u32,
    stopping: bool,
}

/// What the next octets mean.
#[derive(Debug)]
enum State {
    /// A command line.
    Command,
    /// The rest of an overlong line.
    Skipping { verb: Option<Verb>, within_sasl: bool, octets: usize },
    /// The answer to a SASL challenge.
    Sasl,
    /// Content up to the lone dot.
    Data(Box<Unstuffer>),
    /// The rest of a counted chunk. With an answer it is thrown away, without one it is content.
    Chunk { remaining: u64, last: bool, answer: Option<Reply> },
    /// The block of an offer, and what is known of the offer already.
    Block { reader: BlockReader, verdict: Result<Tbr, Reply> },
    /// Nothing yet: the driver is asked first.
    Deciding(Question),
    /// Nothing: the TLS handshake comes first.
    Tls,
    /// Nothing any more: the roles are turned over.
    Turned,
    /// Nothing any more.
    Closed,
}

/// What the driver was asked.
#[derive(Debug, Clone, Copy)]
enum Question {
    Connect,
    Hello { extended: bool },
    Auth,
    Mail { smtputf8: bool },
    Rcpt,
    Data,
    FirstChunk(Bdat),
    ContentEnd,
    Offer,
    Etrn,
    Atrn,
}

/// What holds until the connection ends or TLS begins.
#[derive(Debug, Default)]
struct Connection {
    tls: bool,
    greeted: bool,
    /// Was TBR offered in the current EHLO?
    tbr: bool,
    authenticated: bool,
}

/// Counts since the start or the last accepted message.
#[derive(Debug, Default)]
struct Tally {
    commands: u32,
    errors: u32,
}

impl Server {
    /// A session on a connection that was just accepted; `tls`: a handshake has been done already
    /// (port 465). The first action is [`Event::Connect`].
    pub fn new(config: Arc<Config>, tls: bool, now: Timestamp) -> Self {
        let deadline = now.after(config.limits.idle);
        Self {
            config,
            now,
            deadline,
            input: BytesMut::new(),
            scanned: 0,
            output: BytesMut::new(),
            events: VecDeque::from([Event::Connect]),
            state: State::Deciding(Question::Connect),
            connection: Connection { tls, ..Connection::default() },
            transaction: None,
            progress: Progress::start(now),
            tally: Tally::default(),
            transactions: 0,
            stopping: false,
        }
    }

    /// Hands in octets that came. They are copied once and worked on in `next_action`. Feed after
    /// [`Action::Idle`], or at any time while [`Server::wants_input`].
    pub fn feed(&mut self, now: Timestamp, octets: &[u8]) {
        self.now = now;
        match self.state {
            // Octets in clear that came in front of the handshake must never be taken for commands.
            State::Tls | State::Turned | State::Closed => {}
            _ => self.input.extend_from_slice(octets),
        }
        if matches!(self.state, State::Data(_) | State::Chunk { .. }) {
            self.progress.octets += octets.len() as u64;
            self.deadline = self.progress.deadline(&self.config.limits, now);
        }
    }

    /// May octets be fed now? False while a decision is outstanding and as much as
    /// [`Limits::input`] waits behind it, and when the session is over.
    pub fn wants_input(&self) -> bool {
        match self.state {
            State::Closed | State::Turned | State::Tls => false,
            State::Deciding(_) => self.input.len() < self.config.limits.input,
            _ => true,
        }
    }

    /// The client has closed its side: no reply will reach it, and a message without its end is none.
    pub fn end_of_input(&mut self) {
        self.output.clear();
        self.events.clear();
        self.close();
    }

    /// Asks the session to end with 421 as soon as no message, no block and no decision is on its way.
    pub fn shut_down(&mut self) {
        self.stopping = true;
    }

    /// The TLS handshake of [`Action::StartTls`] is done. The session starts anew, without greeting
    /// (RFC 3207 §4.2).
    ///
    /// # Errors
    /// [`Misuse::NoTls`].
    pub fn tls_established(&mut self, now: Timestamp) -> Result<(), Misuse> {
        if !matches!(self.state, State::Tls) {
            return Err(Misuse::NoTls);
        }
        self.now = now;
        self.connection = Connection { tls: true, ..Connection::default() };
        self.state = State::Command;
        self.restart_timer();
        Ok(())
    }

    /// What is to be done next. Never waits.
    pub fn next_action(&mut self, now: Timestamp) -> Action {
        self.now = now;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Action::Event(event);
            }
            if self.output.len() >= FLUSH {
                return self.write();
            }
            if !self.step() {
                return self.rest();
            }
        }
    }

    /// Is the connection inside TLS?
    pub fn is_tls(&self) -> bool {
        self.connection.tls
    }

    /// Nothing can be done with the octets at hand.
    fn rest(&mut self) -> Action {
        if matches!(self.state, State::Command) && self.stopping {
            self.answer(catalogue::shutting_down());
        }
        if !self.output.is_empty() {
            return self.write();
        }
        match self.state {
            State::Closed => Action::Close,
            State::Turned => Action::Turn,
            State::Tls => Action::StartTls,
            State::Deciding(_) => Action::Decide,
            _ if self.now >= self.deadline => {
                self.answer(catalogue::timeout());
                self.write()
            }
            _ => Action::Idle { deadline: self.deadline },
        }
    }

    fn write(&mut self) -> Action {
        Action::Write(Bytes::from(self.output.split()))
    }

    /// Takes one line, chunk or block from the input; `false` where more octets are needed, or none.
    fn step(&mut self) -> bool {
        match self.state {
            State::Command | State::Sasl => self.step_line(),
            State::Skipping { .. } => self.step_skipping(),
            State::Data(_) => self.step_data(),
            State::Chunk { .. } => self.step_chunk(),
            State::Block { .. } => self.step_block(),
            State::Deciding(_) | State::Tls | State::Turned | State::Closed => false,
        }
    }

    /// Asks the driver.
    fn ask(&mut self, question: Question, event: Event) {
        self.events.push_back(event);
        self.state = State::Deciding(question);
    }

    /// Says a reply. Refusals are counted, 421 ends the session.
    fn answer(&mut self, reply: Reply) {
        let errors = self.tally.errors.saturating_add(u32::from(reply.code() >= 500));
        self.tally.errors = errors;
        if errors > self.config.limits.errors {
            self.say(&catalogue::too_many_errors());
        } else {
            self.say(&reply);
        }
    }

    /// Says a reply that is no fault of the client.
    fn say(&mut self, reply: &Reply) {
        reply.write_to(&mut self.output);
        self.restart_timer();
        if reply.code() == 421 {
            self.close();
        }
    }

    /// The last reply has been said.
    fn close(&mut self) {
        self.state = State::Closed;
        self.transaction = None;
        self.drop_input();
    }

    fn drop_input(&mut self) {
        self.input.clear();
        self.scanned = 0;
    }

    fn restart_timer(&mut self) {
        self.deadline = self.now.after(self.config.limits.idle);
    }

    /// Ends a transaction that has not become a message.
    fn reset(&mut self) {
        if self.transaction.take().is_some() {
            self.events.push_back(Event::Reset);
        }
    }
}

/// Without the buffers: they may hold a password or somebody's mail.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("state", &self.state)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
