//! What a session is told beside transactions: ETRN, and ATRN, which turns its roles over; and sessions on connections that were
//! turned over to us.

use std::sync::Arc;

use mail::{Domain, EnhancedStatus};
use smtp::Reply;
use smtp::client::{Client as Smtp, Config, End, Event, Lost};
use smtp::command::{Etrn, HelloName};

use super::connect::hello;
use super::link::{Link, Turn};
use super::pool::Known;
use super::{Client, ConnectError, Destination, MessageTls, Protocol, Route, Session, TlsPolicy};
use crate::tls::Security;
use crate::turned::Turned;
use crate::wire::Clock;

/// What a provider said to ATRN.
pub enum Atrn {
    /// 250, in these words: we are the server now.
    Turned(Reply, Turned),
    /// Anything else; the session goes on.
    Said(Reply),
}

impl Client {
    /// A session on a connection that its other side has turned over to us: greeted, and ready for a transaction. Lost, it cannot be
    /// had again.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn over(&self, turned: Turned) -> Result<Session, ConnectError> {
        let settings = &self.inner.settings;
        let timeouts = settings.timeouts.clone();
        let (write_time, clock) = (timeouts.write, Clock::new());
        let config = Config { timeouts, ..Config::new(HelloName::from(&settings.name), Protocol::Smtp) };
        let smtp = Smtp::new(config, turned.tls().is_some(), clock.now());
        let (peer, stream, security) = (format!("[{}], turned over", turned.peer().ip()), turned.stream, Security::Off);
        let mut link = Box::new(Link {
            stream,
            smtp,
            clock,
            peer,
            security,
            write_time,
            sent: 0,
            received: 0,
            uses: 0,
            ticket: None,
        });
        if let Err(failure) = hello(&mut link).await {
            return Err(failure.explain(&link.peer));
        }
        let (route, protocol, tls) = (Route::Turned, Protocol::Smtp, TlsPolicy::Opportunistic);
        let destination = Destination { route, protocol, tls, login: None, asks: MessageTls::AsUsual };
        let Known { capabilities, tls, security } = Known::of(&link);
        let (inner, peer) = (Arc::clone(&self.inner), link.peer.clone());
        let (places, link) = (None, Some(link));
        Ok(Session { inner, destination, places, link, reused: false, peer, capabilities, tls, security })
    }
}

impl Session {
    /// Asks the peer to try now what waits there for a domain (RFC 1985); what it says, be it yes or no. An idle connection that
    /// turns out to be closed is replaced by another.
    ///
    /// # Errors
    /// The peer does not offer ETRN, or the connection was lost.
    pub async fn etrn(&mut self, etrn: &Etrn) -> Result<Reply, ConnectError> {
        loop {
            let answer = ask(self.link(true).await?, etrn).await;
            if !self.is_stale(&answer) {
                return self.answered(answer);
            }
        }
    }

    /// Asks a provider to turn the roles over, and to send what waits for these domains (RFC 2645). An idle connection that turns
    /// out to be closed is replaced by another.
    ///
    /// # Errors
    /// The peer does not offer ATRN, or the connection was lost.
    pub async fn atrn(&mut self, domains: &[Domain]) -> Result<Atrn, ConnectError> {
        let answer = loop {
            let answer = turn_over(self.link(true).await?, domains).await;
            if !self.is_stale(&answer) {
                break answer;
            }
        };
        let reply = self.answered(answer)?;
        if !reply.is_success() {
            return Ok(Atrn::Said(reply));
        }
        let link = self.link.take().ok_or_else(|| lost("the connection was lost"))?;
        let turned = Turned::new(link.stream).map_err(|error| lost(&error.to_string()))?;
        Ok(Atrn::Turned(reply, turned))
    }

    /// Had the peer closed the connection before it was asked?
    fn is_stale(&mut self, answer: &Result<Reply, Unasked>) -> bool {
        let stale = std::mem::take(&mut self.reused) && matches!(answer, Err(Unasked::Lost(_)));
        if stale {
            self.link = None;
        }
        stale
    }

    fn answered(&mut self, answer: Result<Reply, Unasked>) -> Result<Reply, ConnectError> {
        answer.map_err(|unasked| {
            let (detail, why) = match unasked {
                Unasked::Never(why) => (0, why),
                Unasked::Lost(why) => {
                    self.link = None;
                    (2, why)
                }
            };
            let text = format!("{}: {why}", self.peer());
            ConnectError { temporary: true, text, status: EnhancedStatus::temporary(4, detail) }
        })
    }
}

/// Why there is no answer.
enum Unasked {
    /// The peer does not know the verb; the session is as it was.
    Never(String),
    /// The connection is gone.
    Lost(String),
}

async fn ask(link: &mut Link, etrn: &Etrn) -> Result<Reply, Unasked> {
    link.smtp.etrn(link.now(), etrn).map_err(|error| Unasked::Never(error.to_string()))?;
    let mut said = None;
    loop {
        match link.next().await {
            Turn::Ready => return said.ok_or_else(|| Unasked::Lost(Lost::Closed.to_string())),
            Turn::Event(Event::Etrn(reply)) => said = Some(reply),
            Turn::Event(Event::Ended(end)) => return Err(Unasked::Lost(why(end))),
            Turn::Event(_) | Turn::Content => {}
            Turn::StartTls | Turn::Over | Turn::Closed => return Err(Unasked::Lost(Lost::Closed.to_string())),
        }
    }
}

async fn turn_over(link: &mut Link, domains: &[Domain]) -> Result<Reply, Unasked> {
    link.smtp.atrn(link.now(), domains).map_err(|error| Unasked::Never(error.to_string()))?;
    let mut said = None;
    loop {
        match link.next().await {
            Turn::Ready | Turn::Over => return said.ok_or_else(|| Unasked::Lost(Lost::Closed.to_string())),
            Turn::Event(Event::Atrn(reply)) => said = Some(reply),
            Turn::Event(Event::Ended(end)) => return Err(Unasked::Lost(why(end))),
            Turn::Event(_) | Turn::Content => {}
            Turn::StartTls | Turn::Closed => return Err(Unasked::Lost(Lost::Closed.to_string())),
        }
    }
}

fn lost(text: &str) -> ConnectError {
    ConnectError { temporary: true, text: text.to_owned(), status: EnhancedStatus::temporary(4, 2) }
}

fn why(end: End) -> String {
    match end {
        End::Refused(reply) | End::Closing(reply) => format!("it said {reply}"),
        End::Lost(lost) => lost.to_string(),
        End::Quit => Lost::Closed.to_string(),
    }
}
