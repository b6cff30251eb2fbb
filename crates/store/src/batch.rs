//! A batch made ready for a backend: checked, serialised, its objects gathered. Done by the caller's thread, so that the
//! one thread that writes does nothing else.

use std::collections::HashSet;

use mail::Timestamp;
use mail::ledger::{Batch, HoldOrder, Key, ObjectKey, ObjectRef, Owner, Row, RowBody};

use crate::error::StoreError;

/// Refuses what no caller should ask for.
pub(crate) fn check(batch: &Batch) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    let twice = keys(batch).any(|key| !seen.insert(key));
    if twice { Err(StoreError::Misuse("a batch names a row twice")) } else { Ok(()) }
}

fn keys(batch: &Batch) -> impl Iterator<Item = &Key> {
    batch.put.iter().map(|row| &row.key).chain(batch.delete.iter().map(|(key, _)| key))
}

/// The objects that a batch needs to be durable.
pub(crate) fn objects(batch: &Batch) -> HashSet<&ObjectKey> {
    let named = batch.put.iter().filter_map(Row::object);
    batch.objects.iter().chain(named).map(|object: &ObjectRef| &object.key).collect()
}

/// A batch as the ledger writes it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) put: Vec<Put>,
    pub(crate) delete: Vec<Delete>,
    pub(crate) holds: Vec<HoldOrder>,
}

#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) key: Key,
    pub(crate) text: String,
    /// The version that it was read at.
    pub(crate) version: i64,
    pub(crate) due: Option<i64>,
    pub(crate) object: Option<ObjectKey>,
    /// Of that object: on whose account it is, and how many octets are stored of it.
    pub(crate) owner: Owner,
    pub(crate) octets: u64,
    pub(crate) alternates: String,
    pub(crate) body: String,
}

#[derive(Debug)]
pub(crate) struct Delete {
    pub(crate) key: Key,
    pub(crate) text: String,
    pub(crate) version: i64,
}

impl Prepared {
    pub(crate) fn new(batch: Batch) -> Result<Self, StoreError> {
        let put = batch.put.into_iter().map(Put::new).collect::<Result<_, _>>()?;
        let delete = |(key, version): (Key, u64)| Delete { text: key.to_string(), key, version: number(version) };
        Ok(Self { put, delete: batch.delete.into_iter().map(delete).collect(), holds: batch.holds })
    }
}

impl Put {
    fn new(row: Row) -> Result<Self, StoreError> {
        let body = serde_json::to_string(&row.body).map_err(|_| StoreError::Misuse("a row cannot be serialised"))?;
        let (text, alternates) = (row.key.to_string(), join(row.alternates()));
        let (owner, octets) = (row.owner(), row.object().map_or(0, ObjectRef::stored_size));
        let (object, due) = (row.object().map(|o| o.key.clone()), row.due.map(millis));
        Ok(Self { key: row.key, text, version: number(row.version), due, object, owner, octets, alternates, body })
    }
}

/// A row as the ledger holds it, read back by the caller's thread.
#[derive(Debug)]
pub(crate) struct RawRow {
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) due: Option<i64>,
    pub(crate) body: String,
}

impl RawRow {
    /// Parses it.
    pub(crate) fn row(&self) -> Result<Row, StoreError> {
        let damaged = |detail: String| StoreError::DamagedRow { key: self.key.clone(), detail };
        let key = self.key.parse::<Key>().map_err(|e| damaged(e.to_string()))?;
        let mut body = serde_json::from_str::<RowBody>(&self.body).map_err(|e| damaged(e.to_string()))?;
        body.shrink();
        match (&key, &body) {
            (Key::Leg(..), RowBody::Leg(_)) | (Key::Inbound(..), RowBody::Inbound(_)) => {}
            _ => return Err(damaged("its key is of another kind than its body".into())),
        }
        let version = u64::try_from(self.version).map_err(|_| damaged("its version is negative".into()))?;
        Ok(Row { key, version, due: self.due.map(timestamp), body })
    }
}

/// The secondary keys of a row as one text, sorted, so that two rows can be compared at a glance.
pub(crate) fn join(mut alternates: Vec<String>) -> String {
    alternates.sort_unstable();
    alternates.dedup();
    alternates.join("\n")
}

/// The secondary keys of a joined text.
pub(crate) fn split(alternates: &str) -> impl Iterator<Item = &str> {
    alternates.split('\n').filter(|a| !a.is_empty())
}

pub(crate) fn millis(time: Timestamp) -> i64 {
    number(time.as_millis())
}

pub(crate) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
