//! How mail of other domains has fared here: the records of `policy::reputation`, one for each registrable domain, kept in a
//! file and in bounds.
//!
//! What is noted comes from the queue (by reference), from sessions (by value, where DMARC shows whose the mail is), and from
//! `restante reputation`. A crash forgets the last minute.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mail::{Domain, Timestamp};
use policy::budget::Prefix;
use policy::rate::Rate;
use policy::reputation::{Event, POINTS_A_DAY, Record, Standing};
use tokio_util::sync::CancellationToken;

use crate::kept::{self, Kept};

/// Most domains that are remembered; those of which least is known give way, a tenth of them at once.
const MAX_RECORDS: usize = 50_000;
/// Most networks whose strangers' points are counted; beyond them strangers get none until the day has passed.
const MAX_NETWORKS: usize = 50_000;
const SAVE_EVERY: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

type Records = BTreeMap<String, Record>;

/// The records; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Reputation {
    records: Arc<Kept<Records>>,
    /// Points of strangers within a day, by the network that their mail came from.
    points: Arc<Mutex<HashMap<Prefix, Rate>>>,
}

impl Reputation {
    /// Records that are kept in this file.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        Ok(Self { records: Arc::new(Kept::open(path)?), points: Arc::default() })
    }

    /// Writes the records until the end.
    pub(crate) async fn keep(self, end: CancellationToken) {
        kept::keep(self.records, SAVE_EVERY, end).await;
    }

    /// How the registrable domain above this one stands.
    pub(crate) fn standing(&self, domain: &Domain, at: Timestamp) -> Standing {
        self.records.look(|all| all.get(domain.registrable()).map_or(Standing::Stranger, |known| known.standing(at)))
    }

    /// Its points, rounded.
    pub(crate) fn score(&self, domain: &Domain, at: Timestamp) -> i32 {
        let score = self.records.look(|all| all.get(domain.registrable()).map_or(0.0, |known| known.score(at)));
        // A score has six digits at most.
        score.round().clamp(-1e9, 1e9) as i32
    }

    /// Notes what happened to mail of a domain, which came from this network.
    pub(crate) fn note(&self, domain: &Domain, event: Event, network: Option<Prefix>, at: Timestamp) {
        if event == Event::Kept && self.standing(domain, at) <= Standing::Stranger && !self.has_points(network, at) {
            return;
        }
        let has_given = self.records.change(|all| {
            make_room(all, at);
            all.entry(domain.registrable().to_owned()).or_default().note(event, at)
        });
        if let (true, Some(network)) = (has_given, network) {
            let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
            points.entry(network).or_default().add(1, at, DAY);
        }
    }

    /// All domains, or the registrable one above this name, by name.
    pub(crate) fn list(&self, of: Option<&Domain>) -> Vec<(String, Record)> {
        let wanted = |name: &String| of.is_none_or(|domain| name == domain.registrable());
        self.records.look(|all| all.iter().filter(|(name, _)| wanted(name)).map(|(n, r)| (n.clone(), *r)).collect())
    }

    /// May strangers of this network be given a point yet?
    fn has_points(&self, network: Option<Prefix>, at: Timestamp) -> bool {
        let Some(network) = network else { return true };
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        if points.len() >= MAX_NETWORKS && !points.contains_key(&network) {
            points.retain(|_, rate| !rate.is_idle(at, DAY));
        }
        match points.get(&network) {
            Some(rate) => rate.count(at, DAY) < POINTS_A_DAY,
            None => points.len() < MAX_NETWORKS,
        }
    }
}

/// Forgets those of which least is known, where there are too many.
fn make_room(all: &mut Records, at: Timestamp) {
    if all.len() < MAX_RECORDS {
        return;
    }
    let mut weights: Vec<f64> = all.values().map(|record| record.weight(at)).collect();
    weights.sort_by(f64::total_cmp);
    let least = weights.get(MAX_RECORDS / 10).copied().unwrap_or_default();
    all.retain(|_, record| record.weight(at) > least);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    fn day(day: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + day * 2 * 86_400)
    }

    fn network(number: u8) -> Option<Prefix> {
        Some(Prefix::of([192, 0, number, 1].into()))
    }

    #[test]
    fn names_below_one_registrable_domain_are_one() {
        let reputation = Reputation::open(None).unwrap();
        for today in 0..4 {
            for number in 0..100 {
                let name = domain(&format!("d{number}.a.example"));
                reputation.note(&name, Event::Kept, network(2), day(today));
            }
        }
        assert_eq!(reputation.standing(&domain("other.a.example"), day(3)), Standing::Known);
        assert_eq!(reputation.list(None).len(), 1);
        assert_eq!(reputation.standing(&domain("b.example"), day(3)), Standing::Stranger);
    }

    #[test]
    fn a_hundred_cheap_domains_of_one_network_gain_no_more_than_one() {
        let reputation = Reputation::open(None).unwrap();
        for today in 0..30 {
            for number in 0..100 {
                for _ in 0..20 {
                    let name = domain(&format!("bot{number}.example"));
                    reputation.note(&name, Event::Kept, network(2), day(today));
                }
            }
        }
        let known = (0..100).filter(|number| {
            reputation.standing(&domain(&format!("bot{number}.example")), day(30)) > Standing::Stranger
        });
        assert!(known.count() <= 1);
        reputation.note(&domain("c.example"), Event::Kept, network(3), day(30));
        assert_eq!(reputation.score(&domain("c.example"), day(30)), 1, "another network has points of its own");
    }

    #[test]
    fn no_more_domains_are_remembered_than_there_is_room_for_and_the_known_stay() {
        let reputation = Reputation::open(None).unwrap();
        reputation.note(&domain("friend.example"), Event::Praised, None, day(0));
        for number in 0..=MAX_RECORDS {
            reputation.note(&domain(&format!("x{number}.example")), Event::Refused, None, day(0));
        }
        assert!(reputation.list(None).len() <= MAX_RECORDS);
        assert_eq!(reputation.standing(&domain("friend.example"), day(0)), Standing::Known);
    }

    #[test]
    fn what_is_known_outlives_the_process() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("reputation");
        let reputation = Reputation::open(Some(path.clone())).unwrap();
        reputation.note(&domain("a.example"), Event::Complained, None, day(0));
        reputation.records.save().unwrap();
        let again = Reputation::open(Some(path)).unwrap();
        assert_eq!(again.standing(&domain("www.a.example"), day(0)), Standing::Unwelcome);
    }
}
