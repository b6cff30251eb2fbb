//! Before, between and after the transactions: greeting, EHLO, STARTTLS, AUTH, ETRN, ATRN, QUIT.

use mail::{Domain, Timestamp};

use super::{CannotSend, Client, End, Event, Lost, Protocol, State};
use crate::capability::Capabilities;
use crate::command::{Auth, Command, Etrn, auth};
use crate::reply::{Reply, Severity};
use crate::secret::Secret;

/// The SASL mechanism that this client knows (RFC 4616).
const PLAIN: &str = "PLAIN";

/// Longest command line (RFC 5321 §4.5.3.1.4).
const MAX_LINE: usize = 512;

impl Client {
    /// Orders STARTTLS.
    ///
    /// # Errors
    /// [`CannotSend::NotReady`], [`CannotSend::NoStartTls`].
    pub fn start_tls(&mut self, now: Timestamp) -> Result<(), CannotSend> {
        self.check_ready()?;
        if self.tls || !self.capabilities.starttls {
            return Err(CannotSend::NoStartTls);
        }
        self.now = now;
        self.send(&Command::StartTls);
        self.wait(State::StartTls, self.config.timeouts.hello);
        Ok(())
    }

    /// The TLS handshake of [`Action::StartTls`](super::Action::StartTls) is done. What the peer said in clear
    /// is forgotten; EHLO follows anew (RFC 3207 §4.2).
    ///
    /// # Errors
    /// [`CannotSend::NotReady`] where no handshake was asked for.
    pub fn tls_established(&mut self, now: Timestamp) -> Result<(), CannotSend> {
        if !matches!(self.state, State::Tls) {
            return Err(CannotSend::NotReady);
        }
        self.now = now;
        self.tls = true;
        self.say_hello(true);
        Ok(())
    }

    /// Orders AUTH PLAIN (RFC 4616). Whether the connection is safe enough for a password is the driver's
    /// business.
    ///
    /// # Errors
    /// [`CannotSend::NotReady`], [`CannotSend::NoAuth`].
    pub fn authenticate(&mut self, now: Timestamp, user: &str, password: &Secret) -> Result<(), CannotSend> {
        self.check_ready()?;
        if !self.capabilities.auth.iter().any(|mechanism| mechanism == PLAIN) {
            return Err(CannotSend::NoAuth);
        }
        self.now = now;
        let message = Secret::new([b"\0", user.as_bytes(), b"\0", password.reveal()].concat());
        let mut line = Vec::new();
        let command = Auth { mechanism: PLAIN.to_owned(), initial: Some(message.clone()) };
        Command::Auth(command).write_to(&mut line);
        if line.len() <= MAX_LINE {
            self.gathered.extend_from_slice(&line);
            self.wait(State::Auth { response: None }, self.config.timeouts.hello);
        } else {
            self.send(&Command::Auth(Auth { mechanism: PLAIN.to_owned(), initial: None }));
            self.wait(State::Auth { response: Some(message) }, self.config.timeouts.hello);
        }
        Ok(())
    }

    /// Orders ETRN (RFC 1985): [`Event::Etrn`] has the answer.
    ///
    /// # Errors
    /// [`CannotSend::NotReady`], [`CannotSend::NoEtrn`].
    pub fn etrn(&mut self, now: Timestamp, etrn: &Etrn) -> Result<(), CannotSend> {
        self.check_ready()?;
        if !self.capabilities.etrn {
            return Err(CannotSend::NoEtrn);
        }
        self.now = now;
        self.send(&Command::Etrn(etrn.clone()));
        self.wait(State::Etrn, self.config.timeouts.hello);
        Ok(())
    }

    /// Orders ATRN (RFC 2645) for these domains; none: all that the account may ask for. [`Event::Atrn`] has the answer.
    ///
    /// # Errors
    /// [`CannotSend::NotReady`], [`CannotSend::NoAtrn`].
    pub fn atrn(&mut self, now: Timestamp, domains: &[Domain]) -> Result<(), CannotSend> {
        self.check_ready()?;
        if !self.capabilities.atrn {
            return Err(CannotSend::NoAtrn);
        }
        self.now = now;
        self.send(&Command::Atrn(domains.to_vec()));
        self.wait(State::Atrn, self.config.timeouts.atrn);
        Ok(())
    }

    /// Says QUIT; the peer's answer is not waited for long.
    ///
    /// # Errors
    /// [`CannotSend::NotReady`]: amid a transaction, just drop the connection.
    pub fn quit(&mut self, now: Timestamp) -> Result<(), CannotSend> {
        self.check_ready()?;
        self.now = now;
        self.send(&Command::Quit);
        self.wait(State::Quitting, self.config.timeouts.quit);
        Ok(())
    }

    pub(super) fn check_ready(&self) -> Result<(), CannotSend> {
        if self.is_ready() { Ok(()) } else { Err(CannotSend::NotReady) }
    }

    pub(super) fn greeting(&mut self, reply: Reply) {
        match reply.severity() {
            Severity::Success => self.say_hello(true),
            Severity::Intermediate => self.end(End::Lost(Lost::OutOfTurn(reply))),
            Severity::Temporary | Severity::Permanent => self.end(End::Refused(reply)),
        }
    }

    fn say_hello(&mut self, extended: bool) {
        let name = self.config.name.clone();
        self.send(&match (self.config.protocol, extended) {
            (Protocol::Lmtp, _) => Command::Lhlo(name),
            (Protocol::Smtp, true) => Command::Ehlo(name),
            (Protocol::Smtp, false) => Command::Helo(name),
        });
        self.wait(State::Hello { extended }, self.config.timeouts.hello);
    }

    pub(super) fn hello_reply(&mut self, extended: bool, reply: Reply) {
        match reply.severity() {
            Severity::Success => {
                self.capabilities = if extended { Capabilities::parse(&reply) } else { Capabilities::default() };
                self.events.push_back(Event::Hello(self.capabilities.clone()));
                self.state = State::Ready;
            }
            Severity::Permanent if extended && self.config.protocol == Protocol::Smtp => self.say_hello(false),
            Severity::Intermediate => self.end(End::Lost(Lost::OutOfTurn(reply))),
            Severity::Temporary | Severity::Permanent => self.end(End::Refused(reply)),
        }
    }

    pub(super) fn start_tls_reply(&mut self, reply: Reply) {
        if reply.code() == 220 {
            // Replies in clear behind the 220 are not the peer's (CVE-2011-0411).
            self.input.clear();
            self.reader = Default::default();
            self.state = State::Tls;
        } else {
            self.state = State::Ready;
            self.events.push_back(Event::TlsRefused(reply));
        }
    }

    pub(super) fn etrn_reply(&mut self, reply: Reply) {
        if reply.severity() == Severity::Intermediate {
            return self.end(End::Lost(Lost::OutOfTurn(reply)));
        }
        self.state = State::Ready;
        self.events.push_back(Event::Etrn(reply));
    }

    pub(super) fn atrn_reply(&mut self, reply: Reply) {
        match reply.severity() {
            Severity::Success if reply.code() == 250 => {
                // The peer waits for our greeting: what it has said before is nothing.
                self.input.clear();
                self.state = State::Turned;
            }
            Severity::Success | Severity::Intermediate => return self.end(End::Lost(Lost::OutOfTurn(reply))),
            Severity::Temporary | Severity::Permanent => self.state = State::Ready,
        }
        self.events.push_back(Event::Atrn(reply));
    }

    pub(super) fn auth_reply(&mut self, response: Option<Secret>, reply: Reply) {
        match (reply.severity(), response) {
            (Severity::Success, _) => {
                self.state = State::Ready;
                self.events.push_back(Event::Authenticated(reply));
            }
            (Severity::Intermediate, Some(message)) if reply.code() == 334 => {
                self.gathered.extend_from_slice(auth::encode(message.reveal()).as_bytes());
                self.gathered.extend_from_slice(b"\r\n");
                self.wait(State::Auth { response: None }, self.config.timeouts.hello);
            }
            (Severity::Intermediate, _) => self.end(End::Lost(Lost::OutOfTurn(reply))),
            (Severity::Temporary | Severity::Permanent, _) => {
                self.state = State::Ready;
                self.events.push_back(Event::AuthRefused(reply));
            }
        }
    }
}
