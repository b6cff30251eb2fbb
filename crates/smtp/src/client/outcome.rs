//! What a client session tells its driver: actions, events, and what became of each recipient.

use std::fmt;

use bytes::Bytes;
use mail::{EnhancedStatus, Timestamp};

use crate::capability::Capabilities;
use crate::command::Tbr;
use crate::reply::Reply;
use crate::reply::reader::ReplyError;

/// What the driver does next. `Debug` leaves out what is written: it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Write these octets, within [`Timeouts::write`](super::Timeouts::write).
    Write(Bytes),
    /// Something happened.
    Event(Event),
    /// The session waits for an order: `start_tls`, `authenticate`, `begin`, `etrn`, `atrn`, `quit`. A connection can be
    /// kept for later in this state.
    Ready,
    /// The peer wants the content: hand in the next chunk with `content`, or say `content_end`.
    Content,
    /// Do the client's side of a TLS handshake, then call `tls_established`.
    StartTls,
    /// Read, and hand in what came with `feed`. When `deadline` has passed, ask for the next action again:
    /// the session will be lost.
    Idle {
        /// When the peer has taken too long.
        deadline: Timestamp,
    },
    /// The peer is the client from now on: hand the connection to a server's session, which greets it. This one is over.
    Turn,
    /// Close the connection.
    Close,
}

/// Something that happened in the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer has answered our EHLO, LHLO or HELO. [`Action::Ready`] follows.
    Hello(Capabilities),
    /// STARTTLS was refused; the session goes on in clear if the driver wants that.
    TlsRefused(Reply),
    /// AUTH succeeded.
    Authenticated(Reply),
    /// AUTH was refused.
    AuthRefused(Reply),
    /// What the peer said to ETRN.
    Etrn(Reply),
    /// What the peer said to ATRN: after 250 [`Action::Turn`] follows.
    Atrn(Reply),
    /// The transaction is over.
    Done(Outcome),
    /// The session is over; [`Action::Close`] follows.
    Ended(End),
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// We said QUIT.
    Quit,
    /// The peer turned us away in its greeting or in its answer to EHLO; its class says whether for good.
    Refused(Reply),
    /// The peer said 421.
    Closing(Reply),
    /// Something broke.
    Lost(Lost),
}

/// How a session broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The connection ended, or an error of the socket ended it.
    #[error("the connection was lost")]
    Closed,
    /// The peer took too long for a reply.
    #[error("the peer took too long")]
    Timeout,
    /// What came is no reply.
    #[error(transparent)]
    Garbage(#[from] ReplyError),
    /// A reply that can't follow on what we sent.
    #[error("the peer answered out of turn: {0}")]
    OutOfTurn(Reply),
}

/// What a transaction hands over.
#[derive(Debug, Clone)]
pub enum Transfer {
    /// The message itself.
    Value {
        /// Its length in octets, for SIZE.
        octets: u64,
    },
    /// A reference to it (TBR §3).
    Offer {
        /// The arguments of the TBR line.
        line: Tbr,
        /// The block: lines with CR LF, without the dot.
        block: Bytes,
    },
    /// Nothing: only whether sender and recipients would be accepted. RSET follows on the last RCPT, and a recipient's
    /// fate is the reply to it.
    Probe,
}

/// What became of the recipients, in the order of the envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// One for each recipient.
    pub fates: Vec<Fate>,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Accepted, with the reply to the content or the offer; in a probe, to RCPT.
    Accepted(Reply),
    /// Refused with 4yz: to be tried again.
    Temporary(Refusal),
    /// Refused with 5yz: for good, in this form.
    Permanent(Refusal),
    /// The connection was lost before the final dot: the peer has nothing, a repeat is safe.
    NotSent(Lost),
    /// The connection was lost between the final dot and the reply: the peer may have the message
    /// (RFC 1047). An offer can be repeated without harm.
    Unknown(Lost),
}

/// A refusal and where it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused.
    pub stage: Stage,
    /// In the peer's words.
    pub reply: Reply,
}

/// The stages of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The sender.
    Mail,
    /// This recipient.
    Rcpt,
    /// DATA, before any content.
    Data,
    /// The content, after the final dot.
    Content,
    /// The offer, after the final dot. 504: send by value (TBR §3).
    Offer,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(octets) => write!(f, "Write({} octets)", octets.len()),
            Self::Event(event) => write!(f, "Event({event:?})"),
            Self::Ready => f.write_str("Ready"),
            Self::Content => f.write_str("Content"),
            Self::StartTls => f.write_str("StartTls"),
            Self::Idle { deadline } => write!(f, "Idle({deadline})"),
            Self::Turn => f.write_str("Turn"),
            Self::Close => f.write_str("Close"),
        }
    }
}

impl Fate {
    /// A refusal of the class that the code says.
    pub(super) fn refused(stage: Stage, reply: Reply) -> Self {
        let permanent = reply.code() >= 500 && !is_too_many_recipients(stage, &reply);
        let refusal = Refusal { stage, reply };
        if permanent { Self::Permanent(refusal) } else { Self::Temporary(refusal) }
    }

    /// Was this recipient accepted?
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted(_))
    }
}

/// 552 to RCPT means 452 where it means too many recipients (RFC 5321 §4.5.3.1.10).
fn is_too_many_recipients(stage: Stage, reply: &Reply) -> bool {
    let says_so = reply.status().is_none_or(|status| status == EnhancedStatus::permanent(5, 3));
    stage == Stage::Rcpt && reply.code() == 552 && says_so
}

/// Why an order can't be carried out. Nothing was sent, the session is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotSend {
    /// The session is not [`Action::Ready`].
    #[error("the session is not ready for an order")]
    NotReady,
    /// The envelope has no recipient.
    #[error("there is no recipient")]
    NoRecipient,
    /// 8-bit content, and the peer lacks 8BITMIME.
    #[error("the message needs 8BITMIME, which the next hop does not offer")]
    EightBit,
    /// An address or header in UTF-8, and the peer lacks SMTPUTF8.
    #[error("the message needs SMTPUTF8, which the next hop does not offer")]
    SmtpUtf8,
    /// REQUIRETLS, and the peer does not offer it inside TLS.
    #[error("the message needs REQUIRETLS, which the next hop does not offer")]
    RequireTls,
    /// Over the SIZE that the peer announced.
    #[error("the message is over the next hop's limit of {0} octets")]
    TooBig(u64),
    /// An offer, and the peer does not say `TBR 1`.
    #[error("the next hop does not take references")]
    NoTbr,
    /// The block is not made of lines with CR LF, or one begins with a dot.
    #[error("the block of the offer is malformed")]
    Block,
    /// STARTTLS is not offered, or TLS is on.
    #[error("the next hop does not offer STARTTLS")]
    NoStartTls,
    /// ETRN is not offered.
    #[error("the next hop does not offer ETRN")]
    NoEtrn,
    /// ATRN is not offered.
    #[error("the next hop does not offer ATRN")]
    NoAtrn,
    /// AUTH PLAIN is not offered.
    #[error("the next hop does not offer AUTH PLAIN")]
    NoAuth,
}

impl CannotSend {
    /// The status of a report to the author, where the peer can't take the message as it is.
    pub fn status(self) -> Option<EnhancedStatus> {
        match self {
            Self::EightBit => Some(EnhancedStatus::permanent(6, 3)),
            Self::SmtpUtf8 => Some(EnhancedStatus::permanent(6, 7)),
            Self::RequireTls => Some(EnhancedStatus::permanent(7, 30)),
            Self::TooBig(_) => Some(EnhancedStatus::permanent(3, 4)),
            _ => None,
        }
    }
}
