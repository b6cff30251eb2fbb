//! The client's side of a session, without a socket, for SMTP and for LMTP.
//!
//! The driver gives orders when the session is [`Action::Ready`], any number of transactions one after
//! the other, and learns for each recipient what became of it. The session pipelines where the peer
//! allows it. A message goes by value in one BDAT where the peer takes it: counted octets, in which nothing
//! can be taken for an end or a command; else with DATA. Both cost two round trips. An offer goes in one
//! write from MAIL to the dot.
//!
//! ```
//! use bytes::Bytes;
//! use mail::{Address, Domain, Envelope, MailParams, Recipient, Timestamp};
//! use smtp::client::{Action, Client, Config, Event, Protocol, Transfer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let name = smtp::command::HelloName::from(&Domain::parse("a.example")?);
//! let envelope = Envelope {
//!     mail_from: Some(Address::parse("x@a.example")?),
//!     params: MailParams::default(),
//!     recipients: vec![Recipient::plain(Address::parse("y@b.example")?)],
//! };
//! let mut message = [Bytes::from_static(b"Subject: hello\r\n\r\n"), Bytes::from_static(b".dots\r\n")].into_iter();
//! // What the peer will say; a driver reads it from a socket.
//! let mut peer = ["220 b.example\r\n", "250-b.example\r\n250 PIPELINING\r\n", "250 ok\r\n250 ok\r\n354 go\r\n",
//!     "250 queued\r\n", "221 bye\r\n"].into_iter();
//! let (mut written, mut outcome, now) = (Vec::new(), None, Timestamp::from_secs(0));
//!
//! let mut session = Client::new(Config::new(name, Protocol::Smtp), false, now);
//! loop {
//!     match session.next_action(now) {
//!         Action::Write(octets) => written.extend_from_slice(&octets),
//!         Action::Ready if outcome.is_none() => session.begin(now, &envelope, Transfer::Value { octets: 25 })?,
//!         Action::Ready => session.quit(now)?,
//!         Action::Content => match message.next() {
//!             Some(chunk) => session.content(chunk),
//!             None => session.content_end(now),
//!         },
//!         Action::Event(Event::Done(done)) => outcome = Some(done),
//!         Action::Event(_) => {}
//!         // Read with a timeout at `deadline`; an error or the end of the stream is `session.lost()`.
//!         Action::Idle { .. } => session.feed(now, peer.next().unwrap_or_default().as_bytes()),
//!         Action::StartTls => session.tls_established(now)?, // after the handshake
//!         Action::Turn | Action::Close => break,
//!     }
//! }
//! assert!(outcome.is_some_and(|o| o.fates[0].is_accepted()));
//! assert!(String::from_utf8(written)?.contains("\r\n..dots\r\n.\r\n"));
//! # Ok(()) }
//! ```

mod config;
mod exchange;
mod framing;
mod handshake;
mod outcome;
mod transaction;

use std::collections::VecDeque;
use std::fmt;

use bytes::{Bytes, BytesMut};
use mail::Timestamp;

use crate::capability::Capabilities;
use crate::command::Command;
use crate::reply::reader::ReplyReader;
use crate::reply::{Reply, Severity};
use crate::secret::Secret;
use exchange::Exchange;
use framing::Framing;

pub use config::{Config, Protocol, Timeouts};
pub use outcome::{Action, CannotSend, End, Event, Fate, Lost, Outcome, Refusal, Stage, Transfer};

/// Octets that gather before they are written while more is to come.
const FLUSH: usize = 16 << 10;

/// A session. See the [module](self) for how to drive it.
pub struct Client {
    config: Config,
    now: Timestamp,
    deadline: Timestamp,
    input: BytesMut,
    reader: ReplyReader,
    /// Whole chunks of content, in front of `gathered`.
    writes: VecDeque<Bytes>,
    gathered: Vec<u8>,
    events: VecDeque<Event>,
    state: State,
    tls: bool,
    capabilities: Capabilities,
    /// Was a transaction left open, so that RSET has to come before the next?
    dirty: bool,
}

/// Whose turn it is.
#[derive(Debug)]
enum State {
    Greeting,
    Hello {
        extended: bool,
    },
    Ready,
    StartTls,
    Tls,
    /// AUTH PLAIN; the response is kept where it did not go with the command.
    Auth {
        response: Option<Secret>,
    },
    /// ETRN.
    Etrn,
    /// ATRN.
    Atrn,
    /// The roles are turned over.
    Turned,
    /// A transaction, waiting for replies.
    Exchange(Exchange),
    /// A transaction, waiting for the driver's content.
    Content(Exchange, Framing),
    Quitting,
    Closed,
}

impl Client {
    /// A session on a connection that was just made; `tls`: a handshake has been done already.
    pub fn new(config: Config, tls: bool, now: Timestamp) -> Self {
        let deadline = now.after(config.timeouts.greeting);
        Self {
            config,
            now,
            deadline,
            input: BytesMut::new(),
            reader: ReplyReader::default(),
            writes: VecDeque::new(),
            gathered: Vec::new(),
            events: VecDeque::new(),
            state: State::Greeting,
            tls,
            capabilities: Capabilities::default(),
            dirty: false,
        }
    }

    /// Hands in octets that came.
    pub fn feed(&mut self, now: Timestamp, octets: &[u8]) {
        self.now = now;
        // Octets in clear that came in front of the handshake must never be taken for replies.
        if !matches!(self.state, State::Tls | State::Turned | State::Closed) {
            self.input.extend_from_slice(octets);
        }
    }

    /// The connection has ended, or reading or writing failed.
    pub fn lost(&mut self) {
        // A reply that came before its time, such as a refusal amid the content, is the better reason.
        while !matches!(self.state, State::Closed) {
            match self.reader.read(&mut self.input) {
                Ok(Some(reply)) => self.last_words(reply),
                Ok(None) | Err(_) => self.end(End::Lost(Lost::Closed)),
            }
        }
    }

    /// What the peer offers; nothing before [`Event::Hello`].
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Is the connection inside TLS?
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Is the session ready for an order?
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// What is to be done next. Never waits.
    pub fn next_action(&mut self, now: Timestamp) -> Action {
        self.now = now;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Action::Event(event);
            }
            if let Some(chunk) = self.writes.pop_front() {
                return Action::Write(chunk);
            }
            if self.gathered.len() >= FLUSH {
                return self.write();
            }
            if !self.step()
                && let Some(action) = self.rest()
            {
                return action;
            }
        }
    }

    /// Nothing can be done with the octets at hand. `None`: time made something happen.
    fn rest(&mut self) -> Option<Action> {
        // What has gathered waits for the rest of the content, else it is due.
        if matches!(self.state, State::Content(..)) {
            return Some(Action::Content);
        }
        if !self.gathered.is_empty() {
            return Some(self.write());
        }
        match self.state {
            State::Ready => Some(Action::Ready),
            State::Tls => Some(Action::StartTls),
            State::Turned => Some(Action::Turn),
            State::Closed => Some(Action::Close),
            _ if self.now >= self.deadline => {
                self.end(End::Lost(Lost::Timeout));
                None
            }
            _ => Some(Action::Idle { deadline: self.deadline }),
        }
    }

    fn write(&mut self) -> Action {
        Action::Write(Bytes::from(std::mem::take(&mut self.gathered)))
    }

    /// Takes one reply from the input; `false` where more octets are needed, or none.
    fn step(&mut self) -> bool {
        if matches!(self.state, State::Tls | State::Turned | State::Closed | State::Content(..)) {
            return false;
        }
        match self.reader.read(&mut self.input) {
            Ok(Some(reply)) => self.take(reply),
            Ok(None) => return false,
            Err(error) => self.end(End::Lost(Lost::Garbage(error))),
        }
        true
    }

    fn take(&mut self, reply: Reply) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Quitting => self.end(End::Quit),
            State::Exchange(exchange) => self.exchange_reply(exchange, reply),
            state if reply.code() == 421 => {
                self.state = state;
                self.end(End::Closing(reply));
            }
            State::Greeting => self.greeting(reply),
            State::Hello { extended } => self.hello_reply(extended, reply),
            State::StartTls => self.start_tls_reply(reply),
            State::Auth { response } => self.auth_reply(response, reply),
            State::Etrn => self.etrn_reply(reply),
            State::Atrn => self.atrn_reply(reply),
            // Nothing was asked.
            state @ (State::Ready | State::Tls | State::Turned | State::Closed | State::Content(..)) => {
                self.state = state;
                self.end(End::Lost(Lost::OutOfTurn(reply)));
            }
        }
    }

    /// A reply that was still in the input when the connection ended.
    fn last_words(&mut self, reply: Reply) {
        let refusal = matches!(reply.severity(), Severity::Temporary | Severity::Permanent);
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Content(exchange, _) if refusal => self.content_refused(exchange, reply),
            state => {
                self.state = state;
                self.take(reply);
            }
        }
    }

    fn send(&mut self, command: &Command) {
        command.write_to(&mut self.gathered);
    }

    fn wait(&mut self, state: State, timeout: std::time::Duration) {
        self.state = state;
        self.deadline = self.now.after(timeout);
    }

    /// The session is over, and with it the transaction that was on its way.
    fn end(&mut self, end: End) {
        if let State::Exchange(exchange) | State::Content(exchange, _) =
            std::mem::replace(&mut self.state, State::Closed)
        {
            self.events.push_back(Event::Done(exchange.broken_off(&end)));
        }
        self.writes.clear();
        self.gathered.clear();
        self.input.clear();
        self.events.push_back(Event::Ended(end));
    }
}

/// Without the buffers: they may hold a password or somebody's mail.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state).field("tls", &self.tls).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
