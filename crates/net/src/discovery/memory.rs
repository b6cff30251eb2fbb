//! What was learnt, each with its time: bounded caches, and documents pinned for some days.
//!
//! Absences and failures are kept apart from documents, so that nobody pushes these out with made-up names.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use mail::{Domain, Timestamp};
use moka::sync::Cache;
use reference::Selector;
use reference::keys::MAX_MAX_AGE;

use super::plan::{Key, Pin, Record, View};
use super::{Config, Failure};

/// Bounds of what DNS says about lifetimes.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// All that is remembered.
pub(super) struct Memory {
    records: Timed<Domain, Record>,
    absences: Timed<Domain, Record>,
    keys: Timed<(Domain, Selector), Key>,
    misses: Timed<Domain, u32>,
    pins: Cache<Domain, Arc<Pin>>,
    failures: Timed<Domain, Failure>,
    consents: Timed<Domain, Result<bool, Failure>>,
    /// Since when answers about a name are bogus.
    bogus: Timed<Domain, Timestamp>,
    patience: Duration,
    pin: Duration,
    negative: Duration,
    failure: Duration,
    refetch: Duration,
    most_misses: u32,
}

impl Memory {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            records: Timed::new(config.capacity),
            absences: Timed::new(config.capacity),
            keys: Timed::new(config.capacity),
            misses: Timed::new(config.capacity),
            pins: Cache::new(config.capacity),
            failures: Timed::new(config.capacity),
            consents: Timed::new(config.capacity),
            bogus: Timed::new(config.capacity),
            patience: config.bogus,
            pin: config.pin.min(MAX_MAX_AGE),
            negative: config.negative,
            failure: config.failure,
            refetch: config.refetch,
            most_misses: config.misses,
        }
    }

    /// What counts now.
    pub(super) fn view(&self, domain: &Domain, selector: &Selector, now: Timestamp) -> View {
        View { key: self.key(domain, selector, now), ..self.view_of_domain(domain, now) }
    }

    /// The same, whatever its keys.
    pub(super) fn view_of_domain(&self, domain: &Domain, now: Timestamp) -> View {
        let pin = self.pins.get(domain).filter(|pin| now.since(pin.fetched) < self.pin);
        View {
            record: self.records.get(domain, now).or_else(|| self.absences.get(domain, now)),
            key: None,
            pin,
            failure: self.failures.get(domain, now),
        }
    }

    /// A domain that was asked for too many keys that it does not have counts as not having this one.
    fn key(&self, domain: &Domain, selector: &Selector, now: Timestamp) -> Option<Key> {
        let known = self.keys.get(&(domain.clone(), selector.clone()), now);
        let exhausted = || self.misses.get(domain, now).is_some_and(|misses| misses >= self.most_misses);
        known.or_else(|| exhausted().then_some(Key::Secure(None)))
    }

    /// An answer about this name is bogus: has it been for long? What was not asked about for as long begins anew.
    pub(super) fn lasts(&self, name: &Domain, now: Timestamp) -> bool {
        let since = self.bogus.get(name, now).unwrap_or(now);
        self.bogus.keep(name.clone(), since, now.after(self.patience).after(self.patience));
        now.since(since) >= self.patience
    }

    /// An answer about this name was not.
    pub(super) fn is_not_bogus(&self, name: &Domain) {
        self.bogus.forget(name);
    }

    pub(super) fn keep_record(&self, domain: &Domain, record: &Record, ttl: Duration, now: Timestamp) {
        let (cache, time) = match record {
            Record::Published { .. } => (&self.records, ttl.clamp(SHORTEST, LONGEST)),
            Record::Absent { .. } | Record::Unusable { .. } => (&self.absences, self.absence(ttl)),
            Record::Failed(_) => (&self.absences, self.failure),
        };
        cache.keep(domain.clone(), record.clone(), now.after(time));
    }

    pub(super) fn keep_key(&self, domain: &Domain, selector: &Selector, key: &Key, ttl: Duration, now: Timestamp) {
        let time = match key {
            Key::Secure(None) => {
                self.count_miss(domain, now);
                self.absence(ttl)
            }
            Key::Secure(Some(_)) | Key::Insecure => ttl.clamp(SHORTEST, LONGEST),
            Key::Failed(_) => self.failure,
        };
        self.keys.keep((domain.clone(), selector.clone()), key.clone(), now.after(time));
    }

    pub(super) fn keep_pin(&self, domain: &Domain, pin: &Arc<Pin>) {
        self.pins.insert(domain.clone(), Arc::clone(pin));
    }

    pub(super) fn keep_failure(&self, domain: &Domain, failure: &Failure, now: Timestamp) {
        self.failures.keep(domain.clone(), failure.clone(), now.after(self.failure));
    }

    pub(super) fn consent(&self, name: &Domain, now: Timestamp) -> Option<Result<bool, Failure>> {
        self.consents.get(name, now)
    }

    pub(super) fn keep_consent(&self, name: &Domain, consent: &Result<bool, Failure>, ttl: Duration, now: Timestamp) {
        let time = match consent {
            Ok(true) => ttl.clamp(SHORTEST, LONGEST),
            Ok(false) => self.absence(ttl),
            Err(_) => self.failure,
        };
        self.consents.keep(name.clone(), consent.clone(), now.after(time));
    }

    /// The window ends some time after the first miss.
    fn count_miss(&self, domain: &Domain, now: Timestamp) {
        let (misses, until) = self.misses.get_timed(domain, now).unwrap_or((0, now.after(self.refetch)));
        self.misses.keep(domain.clone(), misses + 1, until);
    }

    fn absence(&self, ttl: Duration) -> Duration {
        ttl.clamp(SHORTEST.min(self.negative), self.negative)
    }
}

/// A bounded cache whose entries count until a time.
struct Timed<K, V>(Cache<K, (V, Timestamp)>);

impl<K, V> Timed<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new(capacity: u64) -> Self {
        Self(Cache::new(capacity))
    }

    fn get(&self, key: &K, now: Timestamp) -> Option<V> {
        self.get_timed(key, now).map(|(value, _)| value)
    }

    fn get_timed(&self, key: &K, now: Timestamp) -> Option<(V, Timestamp)> {
        self.0.get(key).filter(|(_, until)| now < *until)
    }

    fn forget(&self, key: &K) {
        self.0.invalidate(key);
    }

    fn keep(&self, key: K, value: V, until: Timestamp) {
        self.0.insert(key, (value, until));
    }
}
