//! What a server session tells its driver, and what it is told.

use std::fmt;

use bytes::Bytes;
use mail::{Address, Domain, EnhancedStatus, QueueId, Recipient, Timestamp};

use crate::command::{Etrn, HelloName, Mail, Tbr};
use crate::reply::Reply;
use crate::secret::Secret;

/// What the driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write these octets. Replies of a pipelined group come together.
    Write(Bytes),
    /// Something happened. Where [`Event::wants_decision`] says so, answer with `Server::decide`, now or
    /// later.
    Event(Event),
    /// A decision is outstanding; nothing else happens before `Server::decide`.
    Decide,
    /// Do the server's side of a TLS handshake, then call `Server::tls_established`. Octets that the client
    /// sent before it are gone.
    StartTls,
    /// Read, and hand in what came with `Server::feed`. When `deadline` has passed, ask for the next action
    /// again: it will be the end.
    Idle {
        /// When the client has been silent for too long.
        deadline: Timestamp,
    },
    /// The client is the server from now on: hand the connection to a client's session, which waits for its greeting. This one is over.
    Turn,
    /// Close the connection.
    Close,
}

/// Something that happened in the session. `Debug` counts content instead of showing it.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// The client is here. *Decide*: greeted with 220, or turned away: a refusal closes the connection.
    Connect,
    /// HELO or EHLO. *Decide.* A transaction that was open is over ([`Event::Reset`] came before).
    Hello {
        /// What the client calls itself.
        name: HelloName,
        /// EHLO, not HELO.
        extended: bool,
    },
    /// A step of a SASL exchange. *Decide*: [`Decision::Challenge`], accept, or refuse.
    Auth(AuthStep),
    /// The client gave the SASL exchange up; it has had its answer.
    AuthCancelled,
    /// MAIL. *Decide.* Accepted, it opens a transaction.
    Mail(Mail),
    /// RCPT. *Decide.*
    Rcpt(Recipient),
    /// DATA or the first BDAT, with at least one accepted recipient. *Decide*: is there a place to put the
    /// content?
    ContentStart,
    /// Octets of the content, without the dots of DATA. At least one.
    Content(Bytes),
    /// The content is refused for a reason of the session's own: throw away what came of it. Nothing more
    /// comes of it; the client has its answer at the real end, and the transaction is over.
    ContentDropped(Dropped),
    /// The content is complete, and free of bare CR and LF. *Decide*: [`Decision::Queued`] once it is on
    /// disk, or refuse. The transaction is over.
    ContentEnd {
        /// Its length in octets.
        octets: u64,
    },
    /// TBR and its block, with at least one accepted recipient. *Decide*: [`Decision::Queued`] once the
    /// reference is verified and on disk, or refuse. The transaction is over.
    Offer(Offer),
    /// ETRN, outside a transaction. *Decide*, by a reply: 250 to 253 (see `reply::catalogue`) where what waits is tried now,
    /// else 458 or 459.
    Etrn(Etrn),
    /// ATRN of a client that has authenticated, with its domains; none: all that it may ask for. *Decide*: accepted, the roles are
    /// turned over, and [`Action::Turn`] follows; else 450, 451 or 453 (RFC 2645 §5.2.2).
    Atrn(Vec<Domain>),
    /// The open transaction is over without a message: RSET, HELO, EHLO, STARTTLS or QUIT came, a chunk was
    /// refused, or an offer was malformed. Throw away what came of it, content included.
    Reset,
    /// QUIT. The end follows.
    Quit,
}

/// A step of a SASL exchange (RFC 4954).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthStep {
    /// AUTH with one of the mechanisms on offer.
    Start {
        /// Its name.
        mechanism: String,
        /// The initial response, if one came with it.
        initial: Option<Secret>,
    },
    /// The answer to a challenge.
    Response(Secret),
}

/// Why the session refuses a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Over the limit: 552 5.3.4.
    TooBig,
    /// A bare CR or LF: 554 5.6.0.
    BareLineEnd,
    /// A line over its limit: 554 5.6.0.
    LongLine,
}

/// An offer as it came (TBR §3). `Debug` hides the grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The arguments of the line.
    pub line: Tbr,
    /// The lines of the block with their CR LF, without the dot. No bare CR or LF, no line over 1000
    /// octets, none that begins with a dot; beyond that nothing has been looked at.
    pub block: Bytes,
    /// Every RCPT of the transaction in the order sent, refused ones included (TBR §4).
    pub recipients: Vec<OfferedRecipient>,
}

/// A RCPT of an offer. Its position is the recipient's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedRecipient {
    /// The address.
    pub address: Address,
    /// Was it accepted?
    pub accepted: bool,
}

/// The driver's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes, in the usual words. Not for [`Event::ContentEnd`] and [`Event::Offer`]: their 250 carries a
    /// queue id.
    Accept,
    /// Yes: what came is on disk under this id. For [`Event::ContentEnd`] and [`Event::Offer`] only.
    Queued(QueueId),
    /// These words: 4yz and 5yz refuse, 421 ends the session, 2yz accepts. HELO, EHLO and contents are
    /// accepted in the session's own words only.
    Reply(Reply),
    /// Ask the client for more, for [`Event::Auth`] only; not base64 yet.
    Challenge(Secret),
}

impl Decision {
    /// A refusal, or an acceptance, in one line.
    pub fn reply(code: u16, status: EnhancedStatus, text: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::Reply(Reply::new(code, status, text))
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("Connect"),
            Self::Hello { name, extended } => write!(f, "Hello {{ name: {name:?}, extended: {extended} }}"),
            Self::Auth(step) => f.debug_tuple("Auth").field(step).finish(),
            Self::AuthCancelled => f.write_str("AuthCancelled"),
            Self::Mail(mail) => f.debug_tuple("Mail").field(mail).finish(),
            Self::Rcpt(recipient) => f.debug_tuple("Rcpt").field(recipient).finish(),
            Self::ContentStart => f.write_str("ContentStart"),
            Self::Content(octets) => write!(f, "Content({} octets)", octets.len()),
            Self::ContentDropped(why) => f.debug_tuple("ContentDropped").field(why).finish(),
            Self::ContentEnd { octets } => write!(f, "ContentEnd {{ octets: {octets} }}"),
            Self::Offer(offer) => f.debug_tuple("Offer").field(offer).finish(),
            Self::Etrn(etrn) => f.debug_tuple("Etrn").field(etrn).finish(),
            Self::Atrn(domains) => f.debug_tuple("Atrn").field(domains).finish(),
            Self::Reset => f.write_str("Reset"),
            Self::Quit => f.write_str("Quit"),
        }
    }
}

impl Event {
    /// Does the session wait for `Server::decide` after this?
    pub fn wants_decision(&self) -> bool {
        match self {
            Self::Connect
            | Self::Hello { .. }
            | Self::Auth(_)
            | Self::Mail(_)
            | Self::Rcpt(_)
            | Self::ContentStart
            | Self::ContentEnd { .. }
            | Self::Offer(_)
            | Self::Etrn(_)
            | Self::Atrn(_) => true,
            Self::AuthCancelled | Self::Content(_) | Self::ContentDropped(_) | Self::Reset | Self::Quit => false,
        }
    }
}

/// A call that does not fit what the session waits for. The fault is the driver's; the session is as it
/// was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// No decision is outstanding.
    #[error("the session did not ask for a decision")]
    NotAsked,
    /// A decision is outstanding, but not one of this kind.
    #[error("the session did not ask for a decision of this kind")]
    OtherQuestion,
    /// The session did not ask for TLS.
    #[error("the session did not ask for TLS")]
    NoTls,
    /// No content is on its way.
    #[error("no content is on its way")]
    NoContent,
}
