//! A virtual disk: a ledger with versions, leases and secondary keys, and objects of which a crash keeps only what was
//! synced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use mail::Timestamp;
use mail::ledger::{Batch, Key, ObjectKey, ObjectRef, Row, RowBody, Source};
use queue::letters::told;
use queue::port::LedgerAnswer;

use crate::mutation::Mutation;

/// What a server finds again after a crash.
#[derive(Debug, Default)]
pub struct Disk {
    rows: BTreeMap<Key, Row>,
    due: BTreeSet<(Timestamp, Key)>,
    leased: BTreeMap<Key, Timestamp>,
    alternates: HashMap<String, BTreeSet<Key>>,
    objects: HashMap<ObjectKey, Stored>,
    users: HashMap<ObjectKey, usize>,
}

/// Nothing was committed: a row has another version than it was read at, or would come to name an object that is gone.
#[derive(Debug)]
pub struct Refused;

/// An object on disk. What the content is matters for reports only.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its name and size.
    pub object: ObjectRef,
    /// Its octets, where somebody reads them.
    pub content: Option<Rc<[u8]>>,
    /// How many octets of it are there.
    pub octets: u64,
    synced: bool,
}

impl Disk {
    /// Every durable row.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// One durable row.
    pub fn row(&self, key: &Key) -> Option<&Row> {
        self.rows.get(key)
    }

    /// Objects, synced or not.
    pub fn object(&self, key: &ObjectKey) -> Option<&Stored> {
        self.objects.get(key)
    }

    /// How many objects are durable. What was written and never committed is swept away by the store.
    pub fn object_count(&self) -> usize {
        self.objects.values().filter(|stored| stored.synced).count()
    }

    /// Writes an object without syncing it.
    pub fn write(&mut self, object: ObjectRef, content: Option<Rc<[u8]>>) {
        self.objects.insert(object.key.clone(), Stored { octets: object.size, object, content, synced: false });
    }

    /// Only so much of the object is there.
    pub fn cut(&mut self, key: &ObjectKey, octets: u64) {
        if let Some(stored) = self.objects.get_mut(key) {
            stored.octets = octets;
        }
    }

    /// Throws an object away.
    pub fn discard(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
    }

    /// Does a durable row name this object?
    pub fn is_named(&self, key: &ObjectKey) -> bool {
        self.users.get(key).is_some_and(|count| *count > 0)
    }

    /// Power is lost: what was not synced is gone, and so are leases.
    pub fn crash(&mut self) {
        self.leased.clear();
        self.objects.retain(|_, stored| stored.synced);
        self.due = self.rows.values().filter_map(|row| Some((row.due?, row.key.clone()))).collect();
    }

    /// Rows by key.
    pub fn load(&self, keys: &[Key]) -> Vec<Row> {
        keys.iter().filter_map(|key| self.rows.get(key)).cloned().collect()
    }

    /// Rows by secondary key.
    pub fn find(&self, alternates: &[String], limit: usize) -> Vec<Row> {
        let sets = alternates.iter().filter_map(|alternate| self.alternates.get(alternate));
        sets.flat_map(|keys| keys.iter().take(limit)).filter_map(|key| self.rows.get(key)).cloned().collect()
    }

    /// Leases due rows.
    pub fn lease(&mut self, now: Timestamp, limit: usize, until: Timestamp) -> LedgerAnswer {
        let ended: Vec<Key> = self.leased.iter().filter(|(_, end)| **end <= now).map(|(key, _)| key.clone()).collect();
        for key in ended {
            self.leased.remove(&key);
            if let Some(due) = self.rows.get(&key).and_then(|row| row.due) {
                self.due.insert((due, key));
            }
        }
        let mut rows = Vec::new();
        while rows.len() < limit && self.due.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.due.pop_first() else { break };
            rows.extend(self.rows.get(&key).cloned());
            self.leased.insert(key, until);
        }
        LedgerAnswer::Leased { rows, next_due: self.next_due() }
    }

    /// When a row is due next, or a lease ends.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due).into_iter().chain(self.leased.values().copied()).min()
    }

    /// Commits a batch: syncs its objects, then its rows, all or nothing.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn commit(
        &mut self,
        mut batch: Batch,
        created: Vec<(ObjectRef, Vec<u8>)>,
        mutation: Option<Mutation>,
    ) -> Result<(), Refused> {
        let version = |key: &Key| self.rows.get(key).map_or(0, |row| row.version);
        let read = batch.put.iter().map(|row| (&row.key, row.version));
        let mut read = read.chain(batch.delete.iter().map(|(key, version)| (key, *version)));
        if read.any(|(key, v)| version(key) != v) && mutation != Some(Mutation::VersionsIgnored) {
            return Err(Refused);
        }
        if batch.put.iter().any(|row| self.is_gone(row, &created)) {
            return Err(Refused);
        }
        if mutation == Some(Mutation::ReportsLost) {
            batch.put.retain(
                |row| !matches!(&row.body, RowBody::Leg(leg) if leg.source == Source::Report && row.version == 0),
            );
        }
        if mutation == Some(Mutation::TakenForgotten) {
            let remembers = |row: &Row| matches!(&row.body, RowBody::Inbound(inbound) if told(inbound, &inbound.d.clone().into()).is_some());
            batch.put.retain(|row| !remembers(row));
        }
        for (object, content) in created {
            self.write(object, Some(content.into()));
        }
        for object in batch.objects.iter().filter(|_| mutation != Some(Mutation::ObjectsNotSynced)) {
            if let Some(stored) = self.objects.get_mut(&object.key) {
                stored.synced = true;
            }
        }
        let mut released = Vec::new();
        for row in batch.put {
            let kept = row.object().map(|object| object.key.clone());
            released.extend(self.remove(&row.key).filter(|object| Some(object) != kept.as_ref()));
            self.insert(Row { version: row.version + 1, ..row });
        }
        for (key, _) in batch.delete {
            released.extend(self.remove(&key));
        }
        for key in released {
            let unused = self.users.get(&key).is_none_or(|count| *count == 0);
            if unused || mutation == Some(Mutation::ObjectsReleasedEarly) {
                self.users.remove(&key);
                self.objects.remove(&key);
            }
        }
        Ok(())
    }

    /// Would this row come to name an object that is not there?
    fn is_gone(&self, row: &Row, created: &[(ObjectRef, Vec<u8>)]) -> bool {
        let Some(ObjectRef { key, .. }) = row.object() else { return false };
        let named_before = self.rows.get(&row.key).and_then(Row::object).is_some_and(|before| before.key == *key);
        let is_here = self.objects.contains_key(key) || created.iter().any(|(object, _)| object.key == *key);
        !named_before && !is_here
    }

    fn insert(&mut self, row: Row) {
        self.leased.remove(&row.key);
        if let Some(due) = row.due {
            self.due.insert((due, row.key.clone()));
        }
        for alternate in row.alternates() {
            self.alternates.entry(alternate).or_default().insert(row.key.clone());
        }
        if let Some(object) = row.object() {
            *self.users.entry(object.key.clone()).or_default() += 1;
        }
        self.rows.insert(row.key.clone(), row);
    }

    /// Removes a row; returns the object that it named.
    fn remove(&mut self, key: &Key) -> Option<ObjectKey> {
        let row = self.rows.remove(key)?;
        self.leased.remove(key);
        if let Some(due) = row.due {
            self.due.remove(&(due, key.clone()));
        }
        for alternate in row.alternates() {
            if let Some(keys) = self.alternates.get_mut(&alternate) {
                keys.remove(key);
                if keys.is_empty() {
                    self.alternates.remove(&alternate);
                }
            }
        }
        let object = row.object()?.key.clone();
        if let Some(count) = self.users.get_mut(&object) {
            *count = count.saturating_sub(1);
        }
        Some(object)
    }
}
