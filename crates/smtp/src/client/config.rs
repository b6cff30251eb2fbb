//! What a client session is told once.

use std::time::Duration;

use crate::command::HelloName;

/// The settings of a session.
#[derive(Debug, Clone)]
pub struct Config {
    /// What we call ourselves in EHLO.
    pub name: HelloName,
    /// What the peer speaks.
    pub protocol: Protocol,
    /// How long the peer may take.
    pub timeouts: Timeouts,
}

/// What the peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// SMTP: EHLO, with HELO to fall back to.
    Smtp,
    /// LMTP (RFC 2033): LHLO, and one reply for each recipient after the content.
    Lmtp,
}

/// How long the peer may take for each of its replies (RFC 5321 §4.5.3.2).
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// The greeting, 5 minutes.
    pub greeting: Duration,
    /// EHLO, STARTTLS, AUTH, ETRN and RSET, 5 minutes.
    pub hello: Duration,
    /// MAIL, 5 minutes.
    pub mail: Duration,
    /// RCPT, 5 minutes.
    pub rcpt: Duration,
    /// DATA, 2 minutes.
    pub data_start: Duration,
    /// One [`Action::Write`](super::Action::Write), 3 minutes: the driver keeps this one.
    pub write: Duration,
    /// The final dot, 10 minutes.
    pub data_end: Duration,
    /// The block of an offer, 5 minutes; a server has a budget of 5 seconds (TBR §3).
    pub offer: Duration,
    /// ATRN, 10 minutes (RFC 2645 §5.2.2): the provider looks through its queue.
    pub atrn: Duration,
    /// QUIT, 10 seconds: nothing depends on it.
    pub quit: Duration,
}

impl Config {
    /// With the timeouts of RFC 5321.
    pub fn new(name: HelloName, protocol: Protocol) -> Self {
        Self { name, protocol, timeouts: Timeouts::default() }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            greeting: minutes(5),
            hello: minutes(5),
            mail: minutes(5),
            rcpt: minutes(5),
            data_start: minutes(2),
            write: minutes(3),
            data_end: minutes(10),
            offer: minutes(5),
            atrn: minutes(10),
            quit: Duration::from_secs(10),
        }
    }
}
