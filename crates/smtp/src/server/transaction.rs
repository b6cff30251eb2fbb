//! What a session remembers of one transaction, and of the pace of its content.

use mail::Timestamp;

use super::config::Limits;
use super::event::{Dropped, OfferedRecipient};
use crate::content::{LineFault, LineRules};
use crate::reply::{Reply, catalogue};

/// Between an accepted MAIL and the end.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) smtputf8: bool,
    pub(super) accepted: usize,
    /// Every RCPT in order, kept only where an offer may come.
    pub(super) tried: Vec<OfferedRecipient>,
    /// A RCPT could not be parsed (TBR §4).
    pub(super) void: bool,
    /// The content, once it has begun.
    pub(super) content: Option<Content>,
}

impl Transaction {
    pub(super) fn new(smtputf8: bool) -> Self {
        Self { smtputf8, accepted: 0, tried: Vec::new(), void: false, content: None }
    }
}

/// A content on its way.
#[derive(Debug)]
pub(super) struct Content {
    rules: LineRules,
    /// Octets that came, without the dots of DATA.
    pub(super) octets: u64,
    pub(super) fault: Option<Fault>,
}

/// Why a content will be refused at its end.
#[derive(Debug)]
pub(super) enum Fault {
    Session(Dropped),
    Driver(Reply),
}

impl Content {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { rules: LineRules::new(limits.text_line), octets: 0, fault: None }
    }

    /// Looks at the next octets; `Some` where they break a rule: the first that is broken, wherever chunks are cut.
    pub(super) fn watch(&mut self, chunk: &[u8], limits: &Limits) -> Option<Dropped> {
        let room = limits.message.saturating_sub(self.octets);
        let within = usize::try_from(room).map_or(chunk.len(), |room| room.min(chunk.len()));
        self.octets = self.octets.saturating_add(chunk.len() as u64);
        if let Err(fault) = self.rules.watch(&chunk[..within]) {
            return Some(fault.into());
        }
        if self.octets > limits.message {
            return Some(Dropped::TooBig);
        }
        None
    }

    /// Looks at the end.
    pub(super) fn finish(&self) -> Option<Dropped> {
        self.rules.finish().err().map(Dropped::from)
    }
}

impl From<LineFault> for Dropped {
    fn from(fault: LineFault) -> Self {
        match fault {
            LineFault::BareLineEnd => Self::BareLineEnd,
            LineFault::TooLong => Self::LongLine,
        }
    }
}

impl Fault {
    pub(super) fn into_reply(self, limits: &Limits) -> Reply {
        match self {
            Self::Session(Dropped::TooBig) => catalogue::too_big(limits.message),
            Self::Session(Dropped::BareLineEnd) => catalogue::bare_line_end(),
            Self::Session(Dropped::LongLine) => catalogue::long_line(),
            Self::Driver(reply) => reply,
        }
    }
}

/// How fast a content comes: a client that sends an octet a minute is cut off in the end.
#[derive(Debug)]
pub(super) struct Progress {
    started: Timestamp,
    pub(super) octets: u64,
}

impl Progress {
    pub(super) fn start(now: Timestamp) -> Self {
        Self { started: now, octets: 0 }
    }

    /// The next octet must come within the idle time, and before the pace is broken.
    pub(super) fn deadline(&self, limits: &Limits, now: Timestamp) -> Timestamp {
        let earned = std::time::Duration::from_secs(self.octets / limits.content_pace.max(1));
        let pace = self.started.after(limits.content_grace).after(earned);
        now.after(limits.idle).min(pace)
    }
}
