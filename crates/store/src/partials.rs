//! Records of retrievals that broke off, and how many of them are kept: a peer that never finishes must not fill the disk.
//!
//! Where records are kept is left to the backends.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mail::Timestamp;
use mail::ledger::{ObjectKey, Representation};

/// Limits on what is kept of retrievals that broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialLimits {
    /// How many.
    pub number: usize,
    /// Their octets, all together.
    pub octets: u64,
    /// How long one is kept that nobody has gone on with.
    pub age: Duration,
    /// How many of one origin: a site, say, that uploads.
    pub number_per_origin: usize,
    /// Their octets.
    pub octets_per_origin: u64,
}

impl Default for PartialLimits {
    fn default() -> Self {
        Self {
            number: 256,
            octets: 1 << 30,
            age: Duration::from_secs(7 * 24 * 3600),
            number_per_origin: 64,
            octets_per_origin: 1 << 29,
        }
    }
}

impl PartialLimits {
    /// With room for an object of this size, of one origin and beside others: what has come of the largest message is not given up.
    #[must_use]
    pub fn with_room_for(self, size: u64) -> Self {
        Self {
            octets: self.octets.max(size.saturating_mul(2)),
            octets_per_origin: self.octets_per_origin.max(size),
            ..self
        }
    }
}

/// How much of an object has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// Octets of its representation.
    pub octets: u64,
    /// All octets of that, where it is known.
    pub of: Option<u64>,
}

impl Portion {
    /// How many octets of an object of this size are still to come, about.
    pub fn left(&self, size: u64) -> u64 {
        let of = self.of.unwrap_or(size).max(1);
        let left = u128::from(size) * u128::from(of.saturating_sub(self.octets)) / u128::from(of);
        u64::try_from(left).unwrap_or(size)
    }
}

/// What is recorded of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partial {
    /// Origin and object.
    pub(crate) name: String,
    pub(crate) origin: String,
    /// Where its octets are.
    pub(crate) object: ObjectKey,
    /// How many of them are surely there.
    pub(crate) octets: u64,
    /// When a retrieval went on with it last.
    pub(crate) since: Timestamp,
    /// When it is worthless.
    pub(crate) until: Timestamp,
    pub(crate) representation: Representation,
}

impl Partial {
    pub(crate) fn brief(&self) -> Brief {
        let Self { name, origin, octets, since, until, .. } = self.clone();
        Brief { name, origin, octets, since, until }
    }
}

/// A record as far as limits are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Brief {
    pub(crate) name: String,
    pub(crate) origin: String,
    pub(crate) octets: u64,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

impl PartialLimits {
    /// The names of those that have to go: what is over in time, then as long as there is too much the oldest one of the origin
    /// that has most, of one origin or of all. `spared` is under way.
    pub(crate) fn victims(&self, mut all: Vec<Brief>, now: Timestamp, spared: impl Fn(&str) -> bool) -> Vec<String> {
        let mut gone = Vec::new();
        all.sort_by_key(|brief| brief.since);
        let is_over = |brief: &Brief| brief.until < now || now.since(brief.since) > self.age;
        gone.extend(all.extract_if(.., |brief| is_over(brief) && !spared(&brief.name)).map(|brief| brief.name));
        let origins: BTreeSet<String> = all.iter().map(|brief| brief.origin.clone()).collect();
        for origin in origins {
            let of_one = all.extract_if(.., |brief| brief.origin == origin).collect();
            all.extend(shorten(of_one, (self.number_per_origin, self.octets_per_origin), &spared, &mut gone));
        }
        all.sort_by_key(|brief| brief.since);
        shorten(all, (self.number, self.octets), &spared, &mut gone);
        gone
    }
}

/// Lets as many go as it takes to have no more than so many, with no more than so many octets; what is left.
fn shorten(
    mut oldest_first: Vec<Brief>,
    (number, most): (usize, u64),
    spared: impl Fn(&str) -> bool,
    gone: &mut Vec<String>,
) -> Vec<Brief> {
    let mut octets: u64 = oldest_first.iter().map(|brief| brief.octets).sum();
    while oldest_first.len() > number || octets > most {
        let Some(place) = next_victim(&oldest_first, &spared) else { break };
        let brief = oldest_first.remove(place);
        octets -= brief.octets;
        gone.push(brief.name);
    }
    oldest_first
}

fn next_victim(oldest_first: &[Brief], spared: impl Fn(&str) -> bool) -> Option<usize> {
    let mut by_origin: HashMap<&str, u64> = HashMap::new();
    for brief in oldest_first {
        *by_origin.entry(&brief.origin).or_default() += brief.octets;
    }
    let can_go = oldest_first.iter().enumerate().filter(|(_, brief)| !spared(&brief.name));
    // Of equals the last one wins: so the oldest comes last.
    can_go.rev().max_by_key(|(_, brief)| by_origin.get(brief.origin.as_str()).copied()).map(|(place, _)| place)
}

/// The names of those that somebody goes on with now.
#[derive(Debug, Clone, Default)]
pub(crate) struct InUseNames(Arc<Mutex<HashSet<String>>>);

/// The right to go on with one. Given back when dropped.
#[derive(Debug)]
pub(crate) struct InUse {
    name: String,
    names: InUseNames,
}

impl InUseNames {
    /// `None` while somebody else has it.
    pub(crate) fn take(&self, name: String) -> Option<InUse> {
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        is_free.then(|| InUse { name, names: self.clone() })
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

impl InUse {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.names.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(name: &str, octets: u64, since: u64) -> Brief {
        let (origin, at) = (name[..1].to_owned(), Timestamp::from_secs(since));
        Brief { name: name.into(), origin, octets, since: at, until: Timestamp::from_secs(1000) }
    }

    fn victims(limits: (usize, u64, u64), all: &[(&str, u64, u64)], now: u64) -> Vec<String> {
        let (number, octets, age) = limits;
        let limits = PartialLimits { number, octets, age: Duration::from_secs(age), ..PartialLimits::default() };
        let all = all.iter().map(|(name, octets, since)| brief(name, *octets, *since)).collect();
        limits.victims(all, Timestamp::from_secs(now), |name| name == "a0")
    }

    #[test]
    fn what_is_too_old_goes() {
        let all = [("a0", 1, 1), ("a1", 1, 1), ("b1", 1, 50)];
        assert_eq!(victims((9, 9, 60), &all, 61), [""; 0]);
        assert_eq!(victims((9, 9, 60), &all, 62), ["a1"], "and nothing that is in use");
        assert_eq!(victims((9, 9, 9999), &all, 1001), ["a1", "b1"], "what cannot be retrieved any more");
    }

    #[test]
    fn who_has_most_loses_his_oldest() {
        let all = [("a0", 9, 1), ("a1", 5, 7), ("a2", 5, 3), ("b1", 9, 2), ("c1", 1, 1)];
        assert_eq!(victims((9, 99, 99), &all, 9), [""; 0]);
        assert_eq!(victims((4, 99, 99), &all, 9), ["a2"]);
        assert_eq!(victims((9, 16, 99), &all, 9), ["a2", "a1", "b1"]);
        assert_eq!(victims((0, 0, 99), &all, 9).len(), 4, "and nothing that is in use");
    }

    #[test]
    fn one_origin_has_no_more_than_its_share_though_there_is_room() {
        let limits = PartialLimits { number_per_origin: 2, octets_per_origin: 10, ..PartialLimits::default() };
        let all = [("a1", 1, 3), ("a2", 1, 1), ("a3", 1, 2), ("b1", 9, 1), ("b2", 2, 2), ("c1", 99, 1)];
        let all = all.map(|(name, octets, since)| brief(name, octets, since)).to_vec();
        assert_eq!(limits.victims(all, Timestamp::from_secs(9), |name| name == "c1"), ["a2", "b1"]);
    }

    #[test]
    fn what_is_left_is_counted_in_octets_of_the_object() {
        assert_eq!(Portion { octets: 0, of: None }.left(1000), 1000);
        assert_eq!(Portion { octets: 300, of: None }.left(1000), 700);
        assert_eq!(Portion { octets: 300, of: Some(400) }.left(1000), 250, "coded");
        assert_eq!(Portion { octets: 9, of: Some(0) }.left(1000), 0);
        assert_eq!(Portion { octets: 1, of: Some(u64::MAX) }.left(u64::MAX), u64::MAX - 1);
    }

    #[test]
    fn what_has_come_of_the_largest_message_outlives_a_break() {
        let size = 3 << 30;
        let all = vec![brief("a1", size - 1, 1), brief("b1", 5, 2)];
        let limits = PartialLimits::default();
        assert_eq!(limits.victims(all.clone(), Timestamp::from_secs(9), |_| false), ["a1"]);
        assert_eq!(limits.with_room_for(size).victims(all, Timestamp::from_secs(9), |_| false), [""; 0]);
        assert_eq!(limits.with_room_for(0), limits);
    }

    #[test]
    fn one_at_a_time_goes_on() {
        let names = InUseNames::default();
        let first = names.take("x".into()).unwrap();
        assert!(names.take("x".into()).is_none() && names.contains("x"));
        drop(first);
        assert!(names.take("x".into()).is_some() && !names.contains("x"));
    }
}
