//! The store in memory: the same promises, and a second opinion on the embedded one in tests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mail::id::XuidHasher;
use mail::ledger::{Batch, HoldOrder, Key, ObjectKey, ObjectRef, Owner, Row, RowBody};
use mail::{InstanceId, Timestamp, Xuid};

use crate::check::{CheckReport, Done, FaultKind};
use crate::error::{CommitError, StoreError};
use crate::hold::{Entry, Hold, HoldEnd, Holds, Link, ReleaseError, may_end};
use crate::object::{ObjectReader, Objects, Octets};
use crate::partials::{Partial, PartialLimits, Portion};
use crate::schedule::Schedule;
use crate::staged::{Content, Staged};
use crate::{Counts, Leased};

/// Everything, behind one lock that is never held across an await.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) instance: InstanceId,
    pub(crate) objects: Arc<Objects>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the text of their keys.
    rows: BTreeMap<String, Row>,
    alternates: BTreeSet<(String, String)>,
    /// Which rows name which object.
    named: BTreeSet<(ObjectKey, String)>,
    /// With whose they are.
    contents: HashMap<ObjectKey, (Bytes, Owner)>,
    schedule: Schedule<String>,
    partials: HashMap<String, (Partial, Bytes)>,
    /// The chain of holds, and those in force.
    chain: Vec<Link>,
    holds: Vec<Hold>,
    batches: u64,
}

impl Memory {
    pub(crate) fn new(instance: InstanceId) -> Self {
        let objects = Objects::new(Staged::new(u64::MAX, 0), None, usize::MAX, 1);
        Self { instance, objects, state: Mutex::default() }
    }

    pub(crate) fn read(
        &self,
        object: &ObjectRef,
        octets: Octets,
        range: Range<u64>,
    ) -> Result<ObjectReader, StoreError> {
        let stored = match self.objects.staged.content(&object.key) {
            Some(Content::Inline(octets)) => Some(octets),
            _ => self.lock().contents.get(&object.key).map(|(octets, _)| octets.clone()),
        };
        let stored = stored.ok_or_else(|| StoreError::MissingObject(object.key.clone()))?;
        ObjectReader::of_octets(object, stored, &self.objects.coders, octets, range)
    }

    pub(crate) fn load(&self, keys: &[Key]) -> Vec<Row> {
        let state = self.lock();
        keys.iter().filter_map(|key| state.rows.get(&key.to_string()).cloned()).collect()
    }

    pub(crate) fn find(&self, alternate: &str, limit: usize) -> Vec<Row> {
        let state = self.lock();
        let from = (alternate.to_owned(), String::new());
        let keys = state.alternates.range(from..).take_while(|(a, _)| a == alternate).take(limit);
        keys.filter_map(|(_, key)| state.rows.get(key).cloned()).collect()
    }

    pub(crate) fn find_after(&self, alternate: &str, after: &str, limit: usize) -> Vec<Row> {
        let state = self.lock();
        let from = (alternate.to_owned(), after.to_owned());
        let keys = state.alternates.range(from..).take_while(|(a, _)| a == alternate);
        let keys = keys.filter(|(_, key)| key.as_str() > after).take(limit);
        keys.filter_map(|(_, key)| state.rows.get(key).cloned()).collect()
    }

    pub(crate) fn list(&self, prefix: &str, after: &str, limit: usize) -> Vec<Row> {
        let state = self.lock();
        let from = state.rows.range(prefix.max(after).to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        from.filter(|(key, _)| *key != after).take(limit).map(|(_, row)| row.clone()).collect()
    }

    pub(crate) fn lease(&self, now: Timestamp, limit: usize, until: Timestamp) -> Leased {
        let mut state = self.lock();
        let keys = state.schedule.lease(now, limit, until);
        let rows = keys.iter().filter_map(|key| state.rows.get(key).cloned()).collect();
        Leased { rows, next_due: state.schedule.next() }
    }

    pub(crate) fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let mut state = self.lock();
        let conflicts = state.conflicts(&batch);
        if !conflicts.is_empty() {
            return Err(CommitError::Conflict(conflicts));
        }
        for object in batch.put.iter().filter_map(Row::object) {
            if !state.is_named(&object.key) && self.objects.staged.waiting(&object.key).is_none() {
                return Err(StoreError::MissingObject(object.key.clone()).into());
            }
        }
        for order in &batch.holds {
            let is_put = batch.put.iter().any(|row| row.object().is_some_and(|object| object.key == order.object.key));
            if !is_put && !state.is_named(&order.object.key) {
                return Err(StoreError::MissingObject(order.object.key.clone()).into());
            }
            state.hold(order)?;
        }
        let mut dropped = Vec::new();
        for mut row in batch.put {
            if let Some(object) = row.object()
                && let Some(Content::Inline(octets)) = self.objects.staged.take(&object.key)
            {
                let owner = row.owner();
                self.objects.usage.add(&owner, octets.len() as u64);
                state.contents.insert(object.key.clone(), (octets, owner));
            }
            row.version += 1;
            dropped.extend(state.replace(&row.key.to_string(), Some(row)));
        }
        for (key, _) in batch.delete {
            dropped.extend(state.replace(&key.to_string(), None));
        }
        for object in dropped {
            if !state.is_kept(&object)
                && let Some((octets, owner)) = state.contents.remove(&object)
            {
                self.objects.usage.remove(&owner, octets.len() as u64);
            }
        }
        state.batches += 1;
        Ok(())
    }

    pub(crate) fn holds(&self) -> Holds {
        let state = self.lock();
        let head = state.chain.last().map(|link| link.digest.clone()).unwrap_or_default();
        Holds { holds: state.holds.clone(), links: state.chain.len() as u64, head }
    }

    pub(crate) fn release(&self, wanted: u64, why: &str, now: Timestamp) -> Result<(), ReleaseError> {
        let mut state = self.lock();
        let place = state.holds.iter().position(|hold| hold.number == wanted).ok_or(ReleaseError::Unknown(wanted))?;
        may_end(&state.holds[place], now)?;
        let hold = state.holds.remove(place);
        state.link(|number| Entry::Ended(HoldEnd { number, hold: wanted, why: why.to_owned(), at: now }))?;
        if !state.is_kept(&hold.object.key)
            && let Some((octets, owner)) = state.contents.remove(&hold.object.key)
        {
            self.objects.usage.remove(&owner, octets.len() as u64);
        }
        Ok(())
    }

    pub(crate) fn sweep_holds(&self, now: Timestamp) -> Result<(), ReleaseError> {
        let is_over = |hold: &Hold| hold.until.is_some_and(|until| until <= now);
        let over: Vec<u64> = self.lock().holds.iter().filter(|hold| is_over(hold)).map(|hold| hold.number).collect();
        over.into_iter().try_for_each(|number| self.release(number, "its date has come", now))
    }

    pub(crate) fn partial(&self, name: &str) -> Option<(Partial, Bytes)> {
        self.lock().partials.get(name).cloned()
    }

    pub(crate) fn portions(&self) -> HashMap<String, Portion> {
        let state = self.lock();
        let portion = |partial: &Partial| Portion { octets: partial.octets, of: partial.representation.size };
        state.partials.iter().map(|(name, (partial, _))| (name.clone(), portion(partial))).collect()
    }

    pub(crate) fn record_partial(&self, partial: Partial, octets: Bytes) {
        let now = partial.since;
        self.lock().partials.insert(partial.name.clone(), (partial, octets));
        self.sweep_partials(now);
    }

    pub(crate) fn forget_partial(&self, name: &str) {
        self.lock().partials.remove(name);
    }

    pub(crate) fn sweep_partials(&self, now: Timestamp) {
        let mut state = self.lock();
        let all = state.partials.values().map(|(partial, _)| partial.brief()).collect();
        for name in PartialLimits::default().victims(all, now, |name| self.objects.in_use.contains(name)) {
            state.partials.remove(&name);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        let legs = || state.rows.values().filter(|row| matches!(row.body, RowBody::Leg(_)));
        let under_way = legs().filter(|row| row.object().is_some()).count() as u64;
        let legs = legs().count() as u64;
        let (staged, staged_octets) = self.objects.staged.size();
        Counts {
            legs,
            under_way,
            inbound: state.rows.len() as u64 - legs,
            scheduled: state.schedule.len() as u64,
            leased: state.schedule.leased() as u64,
            staged: staged as u64,
            staged_octets,
            octets: self.objects.usage.octets().0,
            batches: state.batches,
            ..Counts::default()
        }
    }

    pub(crate) fn check(&self) -> CheckReport {
        let state = self.lock();
        let mut report = CheckReport { rows: state.rows.len() as u64, ..CheckReport::default() };
        for (key, (octets, _)) in &state.contents {
            report.objects += 1;
            report.octets += octets.len() as u64;
            if !state.is_kept(key) {
                report.note(FaultKind::OrphanObject, key.0.clone(), "no row names it".into(), Done::Nothing);
            }
        }
        for row in state.rows.values() {
            let Some(object) = row.object() else { continue };
            match state.contents.get(&object.key) {
                Some((octets, _)) if self.digest(object, octets) == Some(object.xuid) => {}
                Some(_) => {
                    report.note(FaultKind::DamagedObject, row.key.to_string(), "wrong digest".into(), Done::Nothing)
                }
                None => {
                    report.note(FaultKind::MissingObject, row.key.to_string(), "no such object".into(), Done::Nothing)
                }
            }
        }
        report
    }

    fn digest(&self, object: &ObjectRef, stored: &Bytes) -> Option<Xuid> {
        if object.coded.is_none() {
            return Some(Xuid::of(stored));
        }
        let mut hasher = XuidHasher::default();
        self.objects.coders.decode_all(&stored[..], |octets| hasher.update(octets)).ok()?.ok()?;
        Some(hasher.finish())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn conflicts(&self, batch: &Batch) -> Vec<Key> {
        let version = |key: &Key| self.rows.get(&key.to_string()).map_or(0, |row| row.version);
        let put = batch.put.iter().map(|row| (&row.key, row.version));
        let all = put.chain(batch.delete.iter().map(|(key, read_at)| (key, *read_at)));
        all.filter(|(key, read_at)| version(key) != *read_at).map(|(key, _)| key.clone()).collect()
    }

    /// Puts or removes a row with all that hangs on it; answers with the object that it named before.
    fn replace(&mut self, text: &str, row: Option<Row>) -> Option<ObjectKey> {
        let old = self.rows.remove(text);
        for alternate in old.as_ref().map(Row::alternates).unwrap_or_default() {
            self.alternates.remove(&(alternate, text.to_owned()));
        }
        let old_object = old.as_ref().and_then(Row::object).map(|object| object.key.clone());
        if let Some(object) = &old_object {
            self.named.remove(&(object.clone(), text.to_owned()));
        }
        let due = |row: &Option<Row>| row.as_ref().and_then(|row| row.due);
        self.schedule.moved(text.to_owned(), due(&old), due(&row));
        if let Some(row) = row {
            self.alternates.extend(row.alternates().into_iter().map(|a| (a, text.to_owned())));
            self.named.extend(row.object().map(|object| (object.key.clone(), text.to_owned())));
            self.rows.insert(text.to_owned(), row);
        }
        old_object
    }

    fn hold(&mut self, order: &HoldOrder) -> Result<(), StoreError> {
        if let Entry::Held(hold) = self.link(|number| Entry::held(number, order))? {
            self.holds.push(hold);
        }
        Ok(())
    }

    fn link(&mut self, entry: impl FnOnce(u64) -> Entry) -> Result<Entry, StoreError> {
        let head = self.chain.last().map(|link| link.digest.clone()).unwrap_or_default();
        let link = Link::new(entry(self.chain.len() as u64 + 1), &head)?;
        let entry = link.entry.clone();
        self.chain.push(link);
        Ok(entry)
    }

    fn is_kept(&self, object: &ObjectKey) -> bool {
        self.is_named(object) || self.holds.iter().any(|hold| hold.object.key == *object)
    }

    fn is_named(&self, object: &ObjectKey) -> bool {
        self.named.range((object.clone(), String::new())..).next().is_some_and(|(key, _)| key == object)
    }
}
