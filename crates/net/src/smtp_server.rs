//! The SMTP server's sockets: accepts connections, drives [`smtp::server`] sessions over them, in clear and in
//! TLS, keeps limits, and stops gracefully.
//!
//! Every decision is a [`Handler`]'s, SASL is done here ([`crate::sasl`]). Content is handed on as it comes,
//! in chunks of up to 64 KiB, and never kept. A connection that waits holds no read buffer.

mod accept;
mod connection;
mod guesses;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mail::{Domain, QueueId, Recipient};
use smtp::Reply;
use smtp::command::{Etrn, HelloName, Mail};
use smtp::reply::catalogue;
use smtp::server::{Config, Offer, Role};
use tokio_util::sync::CancellationToken;

use crate::sasl::Credentials;
use crate::turned::Turned;

pub use accept::serve;
pub use connection::serve_turned;

/// What one listener speaks and permits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The protocol. `starttls` is offered only where [`Settings::tls`] is there, and not inside TLS.
    pub smtp: Config,
    /// Our side of TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// TLS from the first octet (RFC 8314); needs [`Settings::tls`].
    pub implicit_tls: bool,
    /// Limits beside those of the protocol.
    pub limits: Limits,
}

/// Limits of one listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at once; one more is told 421.
    pub connections: usize,
    /// Most connections at once from one address (IPv6: from one /64).
    pub connections_per_peer: usize,
    /// Most failed AUTH attempts of a connection.
    pub auth_failures: u32,
    /// Most failed AUTH attempts from one address (IPv6: from one /64) within an hour; 0: no limit.
    pub auth_failures_per_hour: u32,
    /// Longest a connection may last: then it is ended as at a shutdown.
    pub session: Duration,
    /// Longest a TLS handshake may take.
    pub handshake: Duration,
    /// Longest a write of replies may take.
    pub write: Duration,
    /// Longest that a shutdown waits for transactions to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            connections_per_peer: 100,
            auth_failures: 3,
            auth_failures_per_hour: 100,
            session: Duration::from_secs(6 * 3600),
            handshake: Duration::from_secs(60),
            write: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

/// Decides what the server may not. One for each listener, shared by its connections.
pub trait Handler: Send + Sync + 'static {
    /// What is remembered of one connection.
    type Session: Session;
    /// For AUTH.
    type Credentials: Credentials;

    /// A client is here; an error turns it away: the reply should be 421 or 554.
    fn connect(&self, connection: &Connection) -> impl Future<Output = Result<Self::Session, Reply>> + Send;

    /// The accounts. Asked only where `smtp.mechanisms` is not empty.
    fn credentials(&self) -> &Self::Credentials;
}

/// One connection's decisions. Errors are refusals: 4yz and 5yz; 421 ends the connection.
///
/// The order is: `mail`, any number of `rcpt`, then `begin_content`, `content`…, `end_content`, or `offer`. After
/// `end_content` and `offer`, whatever they say, and after `abort` the transaction is over. Every method may take
/// its time; the client waits. Dropped amid a transaction when the connection ends.
pub trait Session: Send {
    /// HELO or EHLO; `connection.helo` is set. A refusal turns this greeting away.
    fn hello(&mut self, connection: &Connection) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = connection;
        async { Ok(()) }
    }

    /// AUTH has succeeded; `connection.account` is set.
    fn authenticated(&mut self, connection: &Connection) {
        let _ = connection;
    }

    /// May this sender begin a transaction?
    fn mail(&mut self, connection: &Connection, mail: Mail) -> impl Future<Output = Result<(), Reply>> + Send;

    /// Is this recipient taken?
    fn rcpt(&mut self, connection: &Connection, recipient: Recipient)
    -> impl Future<Output = Result<(), Reply>> + Send;

    /// A content is about to come: is there a place for it?
    fn begin_content(&mut self, connection: &Connection) -> impl Future<Output = Result<(), Reply>> + Send;

    /// Octets of the content, without the dots of DATA, at least one. After an error the rest is thrown away, and
    /// the client gets the reply at its end; `abort` is called.
    fn content(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), Reply>> + Send;

    /// The content is complete. [`Accepted::Queued`] only once it is on disk.
    fn end_content(&mut self, connection: &Connection) -> impl Future<Output = Result<Accepted, Reply>> + Send;

    /// An offer (TBR §3). [`Accepted`] only once the reference is verified and on disk.
    fn offer(&mut self, connection: &Connection, offer: Offer) -> impl Future<Output = Result<Accepted, Reply>> + Send;

    /// ETRN (RFC 1985), which was offered: tries what waits for a domain now. 250 to 253, or 458 or 459.
    fn etrn(&mut self, connection: &Connection, etrn: Etrn) -> impl Future<Output = Reply> + Send {
        let _ = (connection, etrn);
        async { catalogue::not_implemented() }
    }

    /// ATRN (RFC 2645) of an account, for these domains or for all of its own: a yes turns the roles over, and [`Session::turned`]
    /// follows; else 450, 451 or 453.
    fn atrn(
        &mut self,
        connection: &Connection,
        domains: Vec<Domain>,
    ) -> impl Future<Output = Result<(), Reply>> + Send {
        let _ = (connection, domains);
        async { Err(catalogue::not_implemented()) }
    }

    /// The client is the server from now on: send it what it has asked for, and end. After `shutdown` begin nothing more.
    fn turned(self, turned: Turned, shutdown: CancellationToken) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        let _ = (turned, shutdown);
        async {}
    }

    /// The transaction is over without a message: throw away what came of it.
    fn abort(&mut self);
}

/// A yes to a content or an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// In the usual words with this id.
    Queued(QueueId),
    /// For offers only: a 2yz in other words, such as that it was fetched already.
    Said(Reply),
}

/// What is known of a connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The client.
    pub peer: SocketAddr,
    /// Our side.
    pub local: SocketAddr,
    /// What the listener is for.
    pub role: Role,
    /// Inside TLS: its version and cipher suite, such as `TLSv1.3 TLS13_AES_256_GCM_SHA384`.
    pub tls: Option<String>,
    /// What the client calls itself; none before HELO or EHLO, and after STARTTLS again.
    pub helo: Option<HelloName>,
    /// EHLO, not HELO.
    pub extended: bool,
    /// Who has authenticated.
    pub account: Option<String>,
}

impl Connection {
    /// The protocol keyword for the Received field of a transaction (RFC 3848; with SMTPUTF8 RFC 6531 §4.3).
    pub fn protocol_of(&self, smtputf8: bool) -> &'static str {
        match (smtputf8, self.protocol()) {
            (true, "ESMTP") => "UTF8SMTP",
            (true, "ESMTPA") => "UTF8SMTPA",
            (true, "ESMTPS") => "UTF8SMTPS",
            (true, "ESMTPSA") => "UTF8SMTPSA",
            (_, keyword) => keyword,
        }
    }

    /// The protocol keyword for the Received field (RFC 3848).
    pub fn protocol(&self) -> &'static str {
        match (self.extended, self.tls.is_some(), self.account.is_some()) {
            (false, ..) => "SMTP",
            (true, false, false) => "ESMTP",
            (true, false, true) => "ESMTPA",
            (true, true, false) => "ESMTPS",
            (true, true, true) => "ESMTPSA",
        }
    }
}
