//! What is in hand: the rows under a job, waiting for a place, or being written; and the places.
//!
//! In memory only. A crash empties the desk, and the ledger's due rows fill it again.

use std::collections::{HashMap, HashSet};

use mail::ledger::{Inbound, Key, Leg, Route, Row, Source};
use mail::{Domain, Xuid};

use crate::config::Limits;
use crate::lanes::Lanes;
use crate::port::JobId;
use crate::work::JobKind;

/// A repository: where posts go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Repository {
    pub(crate) host: Domain,
    pub(crate) d: Domain,
}

/// What a retrieval fetches, and from where: an object of a domain may be at several hosts, some of which serve something else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Fetched {
    d: Domain,
    host: Domain,
    xuid: Xuid,
    size: u64,
}

impl Fetched {
    pub(crate) fn of(inbound: &Inbound) -> Self {
        let Inbound { d, host, xuid, size, .. } = inbound;
        Self { d: d.clone(), host: host.clone(), xuid: *xuid, size: *size }
    }
}

/// Whose mail it is: senders share the places for deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    Account(String),
    /// A local user, by the address that he gave.
    Address(String),
    /// Everybody of a domain elsewhere: a list has a return path for each recipient. Reports have none.
    Domain(Option<Domain>),
}

impl Sender {
    pub(crate) fn of(leg: &Leg) -> Self {
        match (&leg.source, &leg.mail_from) {
            (Source::Submission(account), _) => Self::Account(account.clone()),
            (Source::Local, Some(address)) => Self::Address(address.to_string()),
            (_, address) => Self::Domain(address.as_ref().and_then(mail::Address::domain)),
        }
    }
}

/// What is in hand.
pub(crate) struct Desk {
    working: HashMap<Key, Working>,
    writing: HashMap<Key, Writes>,
    /// Rows that came up while a change of them was under way, which may come to nothing: they are looked at again then.
    turned_away: HashSet<Key>,
    waiting: usize,
    next_job: u64,
    pub(crate) jobs: HashMap<JobId, JobKind>,
    pub(crate) deliveries: Lanes<Route, Sender>,
    pub(crate) retrievals: Lanes<Domain>,
    pub(crate) judgements: Lanes<Domain>,
    pub(crate) delegations: Lanes<Repository>,
    pub(crate) claims: Lanes<Repository>,
    pub(crate) receipts: Lanes<Repository>,
    /// Which job fetches an object.
    pub(crate) fetching: HashMap<Fetched, JobId>,
}

enum Working {
    /// Waits for a place; without its row where too many do.
    Waiting(Option<Box<Row>>),
    /// A job runs for it; the row is as committed last.
    Running(Box<Row>, JobId),
    /// A change of it is under way that must be over first. These recipients may have been reached by value: until
    /// that is recorded nobody can withdraw them.
    Settling(Vec<u16>),
}

/// Commits of one row.
#[derive(Default)]
struct Writes {
    under_way: u32,
    newest: Option<u64>,
}

/// What is known of a row when a commit of it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Another commit of it is still under way.
    Later,
    /// This commit wrote the newest version, or there was none.
    Newest,
    /// A commit that was answered before has written a newer one, or somebody has seen one.
    Older,
}

/// What waited under a key.
pub(crate) enum Waited {
    /// Nothing: the row has changed since, or something else has begun.
    Gone,
    /// The row itself is still in the ledger.
    Key,
    Row(Box<Row>),
}

impl Desk {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            working: HashMap::new(),
            writing: HashMap::new(),
            turned_away: HashSet::new(),
            waiting: 0,
            next_job: 0,
            jobs: HashMap::new(),
            deliveries: Lanes::shared(limits.deliveries, limits.per_destination),
            retrievals: Lanes::new(limits.retrievals, limits.per_origin),
            judgements: Lanes::new(limits.judgements, limits.per_origin),
            delegations: Lanes::new(limits.posts, limits.per_origin),
            claims: Lanes::new(limits.posts, 1),
            receipts: Lanes::new(limits.posts, 1),
            fetching: HashMap::new(),
        }
    }

    /// May nothing be started for this row now?
    pub(crate) fn is_busy(&self, key: &Key) -> bool {
        self.working.contains_key(key) || self.writing.contains_key(key)
    }

    /// Rows in hand, with and without a job.
    pub(crate) fn len(&self) -> usize {
        self.working.len()
    }

    pub(crate) fn next_job(&mut self) -> JobId {
        self.next_job += 1;
        JobId(self.next_job)
    }

    /// Lets a row wait. Beyond `most` rows only the key is kept.
    pub(crate) fn wait(&mut self, row: Row, most: usize) {
        let key = row.key.clone();
        let row = (self.waiting < most).then(|| Box::new(row));
        self.waiting += usize::from(row.is_some());
        self.working.insert(key, Working::Waiting(row));
    }

    pub(crate) fn run(&mut self, row: Row, job: JobId) {
        self.working.insert(row.key.clone(), Working::Running(Box::new(row), job));
    }

    pub(crate) fn settle(&mut self, key: &Key) {
        self.working.insert(key.clone(), Working::Settling(Vec::new()));
    }

    /// Takes what waits under this key.
    pub(crate) fn take_waiting(&mut self, key: &Key) -> Waited {
        if self.writing.contains_key(key) || !matches!(self.working.get(key), Some(Working::Waiting(_))) {
            return Waited::Gone;
        }
        match self.working.remove(key) {
            Some(Working::Waiting(Some(row))) => {
                self.waiting -= 1;
                Waited::Row(row)
            }
            Some(Working::Waiting(None)) => Waited::Key,
            _ => Waited::Gone,
        }
    }

    /// The job is over, what it means is under way: takes the row out of it. `reached` may have it by value.
    pub(crate) fn take_running(&mut self, key: &Key, reached: Vec<u16>) -> Option<Row> {
        if !matches!(self.working.get(key), Some(Working::Running(..))) {
            return None;
        }
        match self.working.insert(key.clone(), Working::Settling(reached)) {
            Some(Working::Running(row, _)) => Some(*row),
            _ => None,
        }
    }

    /// The row of a running job.
    pub(crate) fn running(&self, key: &Key) -> Option<&Row> {
        match self.working.get(key) {
            Some(Working::Running(row, _)) => Some(row),
            _ => None,
        }
    }

    pub(crate) fn is_running(&self, key: &Key) -> bool {
        self.running(key).is_some()
    }

    /// The row came up, and nothing can be begun for it now. A job for it, or whoever waits for one, goes on to a commit; a
    /// change may end with nothing written.
    pub(crate) fn turn_away(&mut self, key: &Key) {
        if self.writing.contains_key(key) || matches!(self.working.get(key), Some(Working::Settling(_))) {
            self.turned_away.insert(key.clone());
        }
    }

    /// A change that held the row is over. Says if the row has to be looked at.
    pub(crate) fn release(&mut self, key: &Key) -> bool {
        if matches!(self.working.get(key), Some(Working::Settling(_))) {
            self.working.remove(key);
        }
        !self.is_busy(key) && self.turned_away.remove(key)
    }

    /// The row is about to be written: what waits with the old one is out of date. Says if something did.
    pub(crate) fn displace(&mut self, key: &Key) -> bool {
        !matches!(self.take_waiting(key), Waited::Gone)
    }

    /// A newer version of a running row.
    pub(crate) fn renew(&mut self, row: &Row) {
        match self.working.get_mut(&row.key) {
            Some(Working::Running(known, _)) if known.version < row.version => **known = row.clone(),
            _ => {}
        }
    }

    /// A commit of the row is under way.
    pub(crate) fn writing(&mut self, key: &Key) {
        self.writing.entry(key.clone()).or_default().under_way += 1;
    }

    /// A commit of the row is over; it has this version now, or nothing was written. Answers of the ledger may overtake
    /// each other: only the last one to come in says what is known.
    pub(crate) fn written(&mut self, key: &Key, version: Option<u64>) -> Known {
        let Some(writes) = self.writing.get_mut(key) else { return Known::Later };
        writes.under_way -= 1;
        writes.newest = writes.newest.max(version);
        if writes.under_way > 0 {
            return Known::Later;
        }
        let newest = self.writing.remove(key).and_then(|writes| writes.newest);
        let was_seen = self.turned_away.remove(key);
        if newest == version && !was_seen { Known::Newest } else { Known::Older }
    }

    /// Positions of a leg that may be on the wire by value this very moment, or may have arrived without that being
    /// recorded yet: nobody can withdraw those.
    pub(crate) fn in_flight(&self, key: &Key) -> &[u16] {
        match self.working.get(key) {
            Some(Working::Running(_, job)) => match self.jobs.get(job) {
                Some(JobKind::Delivery { mode, .. }) => mode.reaches(),
                _ => &[],
            },
            Some(Working::Settling(reached)) => reached,
            _ => &[],
        }
    }
}
