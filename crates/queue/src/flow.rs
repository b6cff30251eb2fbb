//! From a change to its effects: load the rows, apply, commit, release; after a conflict reload and apply again.
//!
//! A [`Change`] is one thing that happened. It is a function of the rows as they are now, so that it can be applied
//! again to newer ones; what it wants the world to see is in its [`Plan`] and is released only after `Committed`.
//! How flows run is [`crate::node`]'s.

use std::collections::HashMap;

use mail::Timestamp;
use mail::ledger::{Batch, Inbound, Key, Leg, ObjectKey, ObjectRef, Row, RowBody};

use crate::config::QueueConfig;
use crate::desk::Desk;
use crate::port::{CallId, Entropy, JobId, Proceed, Reply};
use crate::report::Report;
use crate::stats::{Count, Stats};
use crate::told::Told;
use crate::work::Mode;

/// Conflicts in a row after which a request is answered `Unavailable`.
pub(crate) const MAX_TRIES: u32 = 16;

/// One thing that happened, as a function of the rows that it concerns.
pub(crate) trait Change: Send {
    /// The rows to load before applying it.
    fn wants(&self) -> Wants;

    /// Applies it. May be called again, with newer rows: it must not remember what it said before.
    fn apply(&mut self, rows: Rows, context: &mut Context<'_>) -> Plan;

    /// What to do when the ledger cannot take it.
    fn otherwise(&self) -> Otherwise;
}

/// Rows to load: by key, and by secondary key. A leg always comes with the row of the reference by which its message
/// came, while there is one.
#[derive(Default)]
pub(crate) struct Wants {
    pub(crate) keys: Vec<Key>,
    pub(crate) alternates: Vec<String>,
}

impl Wants {
    pub(crate) fn keys(keys: impl IntoIterator<Item = Key>) -> Self {
        Self { keys: keys.into_iter().collect(), alternates: Vec::new() }
    }

    pub(crate) fn alternates(alternates: Vec<String>) -> Self {
        Self { keys: Vec::new(), alternates }
    }
}

/// What to do with a change when the ledger fails.
pub(crate) enum Otherwise {
    /// Tell whoever asked.
    Refuse(CallId),
    /// A fact that must not be forgotten: try again until the ledger takes it.
    TryAgain,
    /// The job waits for a word: end it.
    Abandon(JobId),
}

/// What a change may look at besides its rows.
pub(crate) struct Context<'a> {
    pub(crate) now: Timestamp,
    /// When this node began: what was under way before broke off, wherever it stood.
    pub(crate) started: Timestamp,
    pub(crate) config: &'a QueueConfig,
    pub(crate) desk: &'a Desk,
    pub(crate) random: &'a mut Random,
}

/// The source of randomness, with the shapes that the queue needs.
pub(crate) struct Random(pub(crate) Box<dyn Entropy>);

impl Random {
    pub(crate) fn octets<const N: usize>(&mut self) -> [u8; N] {
        let mut octets = [0; N];
        self.0.fill(&mut octets);
        octets
    }

    pub(crate) fn number(&mut self) -> u32 {
        u32::from_be_bytes(self.octets())
    }
}

/// What a change writes, and what it releases once that is durable.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) batch: Batch,
    /// Reports to be written in the same commit.
    pub(crate) reports: Vec<Report>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) stats: Stats,
}

impl Plan {
    /// Nothing to write.
    pub(crate) fn only(effect: Effect) -> Self {
        Self { effects: vec![effect], ..Self::default() }
    }

    pub(crate) fn count(&mut self, count: Count) {
        self.stats.add(count, 1);
    }

    /// Takes out the changed row of an inbound reference, to change it once more.
    pub(crate) fn take_inbound(&mut self, key: &Key) -> Option<(Sheet, Box<Inbound>)> {
        let place = self.batch.put.iter().position(|row| row.key == *key)?;
        Rows::new(vec![self.batch.put.swap_remove(place)]).take_inbound(key)
    }

    pub(crate) fn writes_nothing(&self) -> bool {
        self.batch.put.is_empty() && self.batch.delete.is_empty() && self.reports.is_empty()
    }
}

/// What the world may see after the commit.
pub(crate) enum Effect {
    /// Answer a request.
    Reply(CallId, Reply),
    /// Let a delivery go on; the mode remembers how.
    Proceed(JobId, Proceed, Mode),
    /// The object is not held yet: fetch it for this row.
    Retrieve(Box<Row>),
    /// Begin whatever this row is due for.
    Consider(Box<Row>),
    /// Read this row again, and begin whatever it is due for.
    Look(Key),
    /// A look at due rows is over.
    Looked,
    /// For the log.
    Tell(Box<Told>),
}

/// Rows as loaded, to be taken out by key.
pub(crate) struct Rows(Vec<Row>);

impl Rows {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self(rows)
    }

    pub(crate) fn take_leg(&mut self, key: &Key) -> Option<(Sheet, Box<Leg>)> {
        match self.take(key)? {
            Row { key, version, due, body: RowBody::Leg(leg) } => Some((Sheet { key, version, due }, leg)),
            _ => None,
        }
    }

    pub(crate) fn take_inbound(&mut self, key: &Key) -> Option<(Sheet, Box<Inbound>)> {
        match self.take(key)? {
            Row { key, version, due, body: RowBody::Inbound(inbound) } => Some((Sheet { key, version, due }, inbound)),
            _ => None,
        }
    }

    /// Takes the row out.
    pub(crate) fn take(&mut self, key: &Key) -> Option<Row> {
        let place = self.0.iter().position(|row| row.key == *key)?;
        Some(self.0.swap_remove(place))
    }

    /// All of them, in no order.
    pub(crate) fn into_all(self) -> Vec<Row> {
        self.0
    }
}

/// A row without its body: where to put it back.
pub(crate) struct Sheet {
    pub(crate) key: Key,
    pub(crate) version: u64,
    pub(crate) due: Option<Timestamp>,
}

impl Sheet {
    /// A row that is not in the ledger yet.
    pub(crate) fn new(key: Key) -> Self {
        Self { key, version: 0, due: None }
    }

    pub(crate) fn with(self, body: RowBody) -> Row {
        Row { key: self.key, version: self.version, due: self.due, body }
    }
}

/// The first octets of objects, read for reports.
pub(crate) type Heads = HashMap<ObjectKey, Vec<u8>>;

/// A change on its way.
pub(crate) struct Flow {
    pub(crate) change: Box<dyn Change>,
    /// Rows that nothing else may be started for until this is over.
    pub(crate) holds: Vec<Key>,
    pub(crate) tries: u32,
    pub(crate) heads: Heads,
    /// The rows of the references by which the messages of its legs came have been asked for.
    pub(crate) followed: bool,
}

/// Which answer of the ledger a flow waits for.
pub(crate) enum Stage {
    /// Rows read so far, and secondary keys still to be looked up.
    Reading(Flow, Vec<Row>, Vec<String>),
    Heading(Flow, ObjectRef),
    Writing(Box<Writing>),
}

/// A commit under way.
pub(crate) struct Writing {
    pub(crate) flow: Flow,
    pub(crate) effects: Vec<Effect>,
    pub(crate) stats: Stats,
    pub(crate) written: Vec<Written>,
    /// Rows that waited with an older version: to be looked at again if the commit fails.
    pub(crate) displaced: Vec<Key>,
}

/// A row of a commit, as far as it will be needed again.
pub(crate) enum Written {
    /// Someone works on it, or may at once.
    Row(Box<Row>),
    /// Nobody does before this.
    Due(Key, u64, Option<Timestamp>),
    Deleted(Key),
}
