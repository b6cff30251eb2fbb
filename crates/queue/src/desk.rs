//! What is in hand: the rows under a job, waiting for a place, or being written; and the places.
//!
//! In memory only. A crash empties the desk, and the ledger's due rows fill it again.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use mail::ledger::{Key, Route, Row};
use mail::{Domain, Xuid};

use crate::config::Limits;
use crate::port::JobId;
use crate::work::JobKind;

/// A repository: where posts go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Repository {
    pub(crate) host: Domain,
    pub(crate) d: Domain,
}

/// What is in hand.
pub(crate) struct Desk {
    working: HashMap<Key, Working>,
    writing: HashMap<Key, Writes>,
    waiting: usize,
    next_job: u64,
    pub(crate) jobs: HashMap<JobId, JobKind>,
    pub(crate) deliveries: Lanes<Route>,
    pub(crate) retrievals: Lanes<Domain>,
    pub(crate) judgements: Lanes<Domain>,
    pub(crate) delegations: Lanes<Repository>,
    pub(crate) claims: Lanes<Repository>,
    pub(crate) receipts: Lanes<Repository>,
    /// Which job fetches an object.
    pub(crate) fetching: HashMap<(Domain, Xuid), JobId>,
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
    /// A commit that was answered before has written a newer one.
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
            waiting: 0,
            next_job: 0,
            jobs: HashMap::new(),
            deliveries: Lanes::new(limits.deliveries, limits.per_destination),
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

    /// A change that held the row is over.
    pub(crate) fn release(&mut self, key: &Key) {
        if matches!(self.working.get(key), Some(Working::Settling(_))) {
            self.working.remove(key);
        }
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
        if newest == version { Known::Newest } else { Known::Older }
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

/// What goes first within a lane: the least. Whoever has none goes in the order of arrival.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// There is time.
    pub(crate) can_wait: bool,
    pub(crate) octets: u64,
}

/// Places, and who waits for one: so many in all, so many for each lane. By rank and then first come, first served within a
/// lane, lanes in turn.
pub(crate) struct Lanes<L> {
    lanes: HashMap<L, Lane>,
    /// Lanes with somebody waiting and room for him, but for the total.
    ready: VecDeque<L>,
    running: usize,
    total: usize,
    each: usize,
}

#[derive(Default)]
struct Lane {
    running: usize,
    /// In order.
    waiting: VecDeque<(Rank, Key)>,
    is_ready: bool,
}

impl<L: Eq + Hash + Clone> Lanes<L> {
    pub(crate) fn new(total: usize, each: usize) -> Self {
        Self { lanes: HashMap::new(), ready: VecDeque::new(), running: 0, total, each }
    }

    /// Is there a place, with nobody waiting for it?
    pub(crate) fn has_room(&self, name: &L) -> bool {
        let lane = self.lanes.get(name);
        self.running < self.total && lane.is_none_or(|lane| lane.running < self.each && lane.waiting.is_empty())
    }

    /// No place will ever be free.
    pub(crate) fn is_closed(&self) -> bool {
        self.total == 0
    }

    /// Waits for a place.
    pub(crate) fn queue(&mut self, name: &L, key: Key) {
        self.queue_by(name, Rank::default(), key);
    }

    /// Waits for a place, before all of a higher rank.
    pub(crate) fn queue_by(&mut self, name: &L, rank: Rank, key: Key) {
        let waiting = &mut self.lanes.entry(name.clone()).or_default().waiting;
        let place = waiting.partition_point(|(before, _)| *before <= rank);
        waiting.insert(place, (rank, key));
        self.make_ready(name);
    }

    /// Gives a place back.
    pub(crate) fn leave(&mut self, name: &L) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        lane.running = lane.running.saturating_sub(1);
        self.running = self.running.saturating_sub(1);
        if lane.running == 0 && lane.waiting.is_empty() {
            self.lanes.remove(name);
        } else {
            self.make_ready(name);
        }
    }

    /// Who may go now; he has his place already.
    pub(crate) fn next(&mut self) -> Option<(L, Key)> {
        while self.running < self.total {
            let name = self.ready.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&name) else { continue };
            lane.is_ready = false;
            if lane.running >= self.each {
                continue;
            }
            let Some((_, key)) = lane.waiting.pop_front() else { continue };
            lane.running += 1;
            self.running += 1;
            self.make_ready(&name);
            return Some((name, key));
        }
        None
    }

    /// Others who wait in this lane, to share a place that was just taken.
    pub(crate) fn share(&mut self, name: &L, most: usize) -> Vec<Key> {
        let Some(lane) = self.lanes.get_mut(name) else { return Vec::new() };
        let count = lane.waiting.len().min(most);
        lane.waiting.drain(..count).map(|(_, key)| key).collect()
    }

    fn make_ready(&mut self, name: &L) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        if !lane.is_ready && !lane.waiting.is_empty() && lane.running < self.each {
            lane.is_ready = true;
            self.ready.push_back(name.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Key {
        Key::Leg("q".parse().unwrap(), number)
    }

    #[test]
    fn what_is_urgent_goes_first_then_the_smallest_then_who_came_first() {
        let mut lanes = Lanes::new(9, 9);
        for (number, (can_wait, octets)) in (0..).zip([(true, 9), (true, 3), (true, 9), (false, 50), (true, 3)]) {
            lanes.queue_by(&"a", Rank { can_wait, octets }, key(number));
        }
        let order = std::iter::from_fn(|| lanes.next()).map(|(_, key)| key).collect::<Vec<_>>();
        assert_eq!(order, [3, 1, 4, 0, 2].map(key));
    }

    #[test]
    fn lanes_keep_their_limits_and_take_turns() {
        let mut lanes = Lanes::new(3, 2);
        for number in 0..4 {
            lanes.queue(&"a", key(number));
        }
        assert_eq!([lanes.next(), lanes.next()], [Some(("a", key(0))), Some(("a", key(1)))]);
        assert_eq!(lanes.next(), None, "two each");
        assert!(lanes.has_room(&"b") && !lanes.has_room(&"a"));
        lanes.queue(&"b", key(4));
        lanes.queue(&"c", key(5));
        assert_eq!(lanes.next(), Some(("b", key(4))));
        assert_eq!(lanes.next(), None, "three in all");
        lanes.leave(&"b");
        assert_eq!(lanes.next(), Some(("c", key(5))));
        lanes.leave(&"a");
        assert!(!lanes.has_room(&"a"), "who waits comes first");
        assert_eq!(lanes.next(), Some(("a", key(2))));
        assert_eq!(lanes.share(&"a", 9), [key(3)]);
        lanes.leave(&"a");
        assert_eq!(lanes.next(), None);
    }
}
