//! Which rows are due when, and which are leased: in memory, because leases end with the process anyway and
//! an index on disk would be written twice per message for nothing.
//!
//! An entry costs some 30 octets where the id is a number. Filling it at open and keeping it in step with
//! what was committed is left to the backend.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use mail::Timestamp;

/// Rows by due time, without those that are leased.
#[derive(Debug)]
pub(crate) struct Schedule<Id> {
    ready: BTreeSet<(Timestamp, Id)>,
    leased: HashMap<Id, Lease>,
    ends: BTreeSet<(Timestamp, Id)>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    due: Timestamp,
    until: Timestamp,
}

impl<Id> Default for Schedule<Id> {
    fn default() -> Self {
        Self { ready: BTreeSet::new(), leased: HashMap::new(), ends: BTreeSet::new() }
    }
}

impl<Id: Ord + Hash + Clone> Schedule<Id> {
    /// The row was committed: its lease is over, it is due at `new` instead of `old`.
    pub(crate) fn moved(&mut self, id: Id, old: Option<Timestamp>, new: Option<Timestamp>) {
        if let Some(lease) = self.leased.remove(&id) {
            self.ends.remove(&(lease.until, id.clone()));
        } else if let Some(old) = old {
            self.ready.remove(&(old, id.clone()));
        }
        if let Some(new) = new {
            self.ready.insert((new, id));
        }
    }

    /// Leases up to `limit` rows due at or before `now`, earliest first.
    pub(crate) fn lease(&mut self, now: Timestamp, limit: usize, until: Timestamp) -> Vec<Id> {
        self.end_leases(now);
        let mut taken = Vec::new();
        while taken.len() < limit && self.ready.first().is_some_and(|(due, _)| *due <= now) {
            let Some((due, id)) = self.ready.pop_first() else { break };
            self.leased.insert(id.clone(), Lease { due, until });
            self.ends.insert((until, id.clone()));
            taken.push(id);
        }
        taken
    }

    /// When leasing can next find something: a row is due, or a lease runs out.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let (due, end) = (self.ready.first().map(|(t, _)| *t), self.ends.first().map(|(t, _)| *t));
        due.into_iter().chain(end).min()
    }

    /// How many rows have a due time, leased ones included.
    pub(crate) fn len(&self) -> usize {
        self.ready.len() + self.leased.len()
    }

    /// How many rows are leased.
    pub(crate) fn leased(&self) -> usize {
        self.leased.len()
    }

    fn end_leases(&mut self, now: Timestamp) {
        while self.ends.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, id)) = self.ends.pop_first() else { break };
            if let Some(lease) = self.leased.remove(&id) {
                self.ready.insert((lease.due, id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_lease_ends_by_commit_or_by_time() {
        let mut schedule = Schedule::default();
        for id in 1..=3 {
            schedule.moved(id, None, Some(at(id)));
        }
        assert_eq!(schedule.lease(at(2), 9, at(10)), [1, 2]);
        assert_eq!(schedule.lease(at(2), 9, at(10)), [0; 0]);
        schedule.moved(1, Some(at(1)), Some(at(5)));
        assert_eq!(schedule.next(), Some(at(3)));
        assert_eq!(schedule.lease(at(9), 9, at(20)), [3, 1]);
        assert_eq!(schedule.next(), Some(at(10)));
        assert_eq!(schedule.lease(at(10), 9, at(20)), [2]);
        schedule.moved(2, Some(at(2)), None);
        assert_eq!((schedule.len(), schedule.leased()), (2, 2));
    }
}
