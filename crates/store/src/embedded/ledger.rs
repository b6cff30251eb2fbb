//! The ledger's SQL: reading rows, and applying groups of batches in one transaction. Owned by the one writer thread.
//!
//! A batch is checked in full before its first write, so a conflict costs its group nothing. A database error rolls
//! the whole group back; then each batch is tried in a transaction of its own, and only the guilty ones fail.

use std::sync::Arc;

use bytes::Bytes;
use mail::ledger::{Key, ObjectKey, Owner};
use mail::{Domain, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::holds;
use crate::batch::{Delete, Prepared, Put, RawRow, millis, number, split, timestamp};
use crate::disk::Disk;
use crate::error::{CommitError, StoreError};
use crate::files::is_file_key;
use crate::hold::Hold;
use crate::object::Objects;
use crate::schedule::Schedule;
use crate::staged::Content;

/// The database with what is kept in memory beside it.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) conn: Connection,
    pub(super) schedule: Schedule<i64>,
    pub(super) legs: u64,
    pub(super) inbound: u64,
    pub(super) batches: u64,
    disk: Arc<Disk>,
    objects: Arc<Objects>,
}

/// What a batch was answered, or why the database could not.
type Applied = rusqlite::Result<Result<(), CommitError>>;

/// What a transaction did, to be carried out beside the database once it is committed, or undone.
#[derive(Debug, Default)]
struct Group {
    /// Objects that left the stage because a row names them.
    taken: Vec<(ObjectKey, Content)>,
    dropped: Vec<ObjectKey>,
    /// Octets that are stored from now on, and those that are no more.
    gained: Vec<(Owner, u64)>,
    lost: Vec<(Owner, u64)>,
    moved: Vec<Moved>,
}

#[derive(Debug)]
struct Moved {
    id: i64,
    is_leg: bool,
    /// Outer: is there a row? Inner: has it a due time?
    old: Option<Option<i64>>,
    new: Option<Option<i64>>,
}

/// A row as it stands, without its body.
struct Standing {
    id: i64,
    version: i64,
    due: Option<i64>,
    object: Option<ObjectKey>,
    alternates: String,
}

impl Ledger {
    /// Takes over an open database; reads all due times.
    pub(super) fn new(conn: Connection, disk: Arc<Disk>, objects: Arc<Objects>) -> Result<Self, StoreError> {
        let mut ledger = Self { conn, schedule: Schedule::default(), legs: 0, inbound: 0, batches: 0, disk, objects };
        ledger.fill_schedule().map_err(StoreError::ledger("read the due times"))?;
        ledger.count_octets().map_err(StoreError::ledger("count the octets"))?;
        Ok(ledger)
    }

    fn fill_schedule(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.conn.prepare("SELECT id, due, key >= 'leg/' FROM rows")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, due) = (row.get(0)?, row.get::<_, Option<i64>>(1)?);
            self.schedule.moved(id, None, due.map(timestamp));
            if row.get(2)? { self.legs += 1 } else { self.inbound += 1 }
        }
        Ok(())
    }

    fn count_octets(&self) -> rusqlite::Result<()> {
        let sql = "SELECT account, domain, sum(octets) FROM objects GROUP BY account, domain";
        let mut statement = self.conn.prepare(sql)?;
        for sum in statement.query_map([], owned)? {
            let (owner, octets) = sum?;
            self.objects.usage.add(&owner, octets);
        }
        Ok(())
    }

    /// Commits many batches with one sync; the answers come in their order.
    pub(super) fn commit(&mut self, batches: &[&Prepared]) -> Vec<Result<(), CommitError>> {
        match self.transaction(batches) {
            Ok(answers) => answers,
            Err(error) => match batches {
                [_] => vec![Err(StoreError::ledger("commit")(error).into())],
                _ => batches.iter().flat_map(|batch| self.commit(&[batch])).collect(),
            },
        }
    }

    fn transaction(&mut self, batches: &[&Prepared]) -> rusqlite::Result<Vec<Result<(), CommitError>>> {
        let mut group = Group::default();
        match self.write(batches, &mut group) {
            Ok(answers) => {
                self.batches += answers.iter().filter(|a| a.is_ok()).count() as u64;
                self.committed(group);
                Ok(answers)
            }
            Err(error) => {
                group.taken.into_iter().for_each(|(key, content)| self.objects.staged.restore(key, content));
                if !self.conn.is_autocommit() {
                    self.conn.execute_batch("ROLLBACK")?;
                }
                Err(error)
            }
        }
    }

    fn write(&self, batches: &[&Prepared], group: &mut Group) -> rusqlite::Result<Vec<Result<(), CommitError>>> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let answers = batches.iter().map(|batch| self.apply(batch, group)).collect::<Result<Vec<_>, _>>()?;
        let mut commit = self.conn.prepare_cached("COMMIT")?;
        self.disk.commit(|| commit.execute([]))?;
        Ok(answers)
    }

    fn committed(&mut self, group: Group) {
        for moved in group.moved {
            let due = |row: Option<Option<i64>>| row.flatten().map(timestamp);
            self.schedule.moved(moved.id, due(moved.old), due(moved.new));
            let count = if moved.is_leg { &mut self.legs } else { &mut self.inbound };
            *count = *count + u64::from(moved.new.is_some()) - u64::from(moved.old.is_some());
        }
        group.gained.iter().for_each(|(owner, octets)| self.objects.usage.add(owner, *octets));
        group.lost.iter().for_each(|(owner, octets)| self.objects.usage.remove(owner, *octets));
        for (key, content) in group.taken {
            if let Content::Inline(octets) = content {
                self.objects.staged.remember(key, octets);
            }
        }
        for key in group.dropped {
            if is_file_key(&key) {
                self.objects.remove_file(key);
            } else {
                self.objects.staged.forget(&key);
            }
        }
    }

    fn apply(&self, batch: &Prepared, group: &mut Group) -> Applied {
        let put = batch.put.iter().map(|put| self.standing(&put.text)).collect::<Result<Vec<_>, _>>()?;
        let delete = batch.delete.iter().map(|delete| self.standing(&delete.text)).collect::<Result<Vec<_>, _>>()?;
        let conflicts = conflicts(batch, &put, &delete);
        if !conflicts.is_empty() {
            return Ok(Err(CommitError::Conflict(conflicts)));
        }
        for (row, old) in batch.put.iter().zip(&put) {
            if let Some(missing) = self.missing_object(row, old.as_ref())? {
                return Ok(Err(missing.into()));
            }
        }
        for order in &batch.holds {
            let object = &order.object.key;
            // What no row names may be gone any moment.
            if !batch.put.iter().any(|row| row.object.as_ref() == Some(object)) && !self.is_named(object)? {
                return Ok(Err(StoreError::MissingObject(object.clone()).into()));
            }
        }
        let mut candidates = Vec::new();
        for (row, old) in batch.put.iter().zip(put) {
            candidates.extend(self.put(row, old, group)?);
        }
        for (row, old) in batch.delete.iter().zip(delete) {
            candidates.extend(self.delete(row, old, group)?);
        }
        for order in &batch.holds {
            holds::put(&self.conn, order)?;
        }
        for object in candidates {
            self.drop_unless_named(object, group)?;
        }
        Ok(Ok(()))
    }

    fn standing(&self, key: &str) -> rusqlite::Result<Option<Standing>> {
        let sql = "SELECT id, version, due, object, alternates FROM rows WHERE key = ?1";
        let read = |row: &SqlRow<'_>| {
            let object = row.get::<_, Option<String>>(3)?.map(ObjectKey);
            let (id, version, due) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Standing { id, version, due, object, alternates: row.get(4)? })
        };
        self.conn.prepare_cached(sql)?.query_row([key], read).optional()
    }

    /// Would this row name an object that is not there?
    fn missing_object(&self, row: &Put, old: Option<&Standing>) -> rusqlite::Result<Option<StoreError>> {
        let Some(object) = &row.object else { return Ok(None) };
        if old.is_some_and(|old| old.object.as_ref() == Some(object)) {
            return Ok(None);
        }
        match self.objects.staged.waiting(object) {
            Some(Content::Inline(_)) => Ok(None),
            Some(Content::File(file)) if matches!(file.synced.get(), Some(Ok(()))) => Ok(None),
            Some(Content::File(_)) => Ok(Some(StoreError::Misuse("an object was not synced before its row"))),
            None if self.is_named(object)? => Ok(None),
            None => Ok(Some(StoreError::MissingObject(object.clone()))),
        }
    }

    fn put(&self, row: &Put, old: Option<Standing>, group: &mut Group) -> rusqlite::Result<Option<ObjectKey>> {
        if let Some(object) = &row.object {
            self.bring_in(object, row, group)?;
        }
        let object = row.object.as_ref().map(|object| object.0.as_str());
        let (id, old_due, old_object, old_alternates) = match old {
            Some(old) => {
                let sql =
                    "UPDATE rows SET version = ?2, due = ?3, object = ?4, alternates = ?5, body = ?6 WHERE id = ?1";
                let values = params![old.id, row.version + 1, row.due, object, row.alternates, row.body];
                self.conn.prepare_cached(sql)?.execute(values)?;
                (old.id, Some(old.due), old.object, old.alternates)
            }
            None => {
                let sql =
                    "INSERT INTO rows (key, version, due, object, alternates, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let values = params![row.text, row.version + 1, row.due, object, row.alternates, row.body];
                (self.conn.prepare_cached(sql)?.insert(values)?, None, None, String::new())
            }
        };
        if row.alternates != old_alternates {
            self.remove_alternates(id, &old_alternates)?;
            let mut statement = self.conn.prepare_cached("INSERT INTO alternates (alternate, row) VALUES (?1, ?2)")?;
            for alternate in split(&row.alternates) {
                statement.execute(params![alternate, id])?;
            }
        }
        group.moved.push(Moved { id, is_leg: is_leg(&row.key), old: old_due, new: Some(row.due) });
        Ok(old_object.filter(|old| Some(old) != row.object.as_ref()))
    }

    fn delete(&self, row: &Delete, old: Option<Standing>, group: &mut Group) -> rusqlite::Result<Option<ObjectKey>> {
        let Some(old) = old else { return Ok(None) };
        self.conn.prepare_cached("DELETE FROM rows WHERE id = ?1")?.execute([old.id])?;
        self.remove_alternates(old.id, &old.alternates)?;
        group.moved.push(Moved { id: old.id, is_leg: is_leg(&row.key), old: Some(old.due), new: None });
        Ok(old.object)
    }

    fn remove_alternates(&self, id: i64, alternates: &str) -> rusqlite::Result<()> {
        if alternates.is_empty() {
            return Ok(());
        }
        let sql = "DELETE FROM alternates WHERE alternate = ?1 AND row = ?2";
        let mut statement = self.conn.prepare_cached(sql)?;
        split(alternates).try_for_each(|alternate| statement.execute(params![alternate, id]).map(drop))
    }

    /// Takes an object off the stage, into this transaction.
    fn bring_in(&self, object: &ObjectKey, row: &Put, group: &mut Group) -> rusqlite::Result<()> {
        let Some(content) = self.objects.staged.take(object) else { return Ok(()) };
        group.taken.push((object.clone(), content.clone()));
        let domain = row.owner.domain.as_ref().map(Domain::as_str);
        let sql = "INSERT OR REPLACE INTO objects (key, account, domain, octets) VALUES (?1, ?2, ?3, ?4)";
        self.conn.prepare_cached(sql)?.execute(params![object.0, row.owner.account, domain, number(row.octets)])?;
        group.gained.push((row.owner.clone(), row.octets));
        match content {
            Content::Inline(octets) => {
                let sql = "INSERT INTO blobs (key, octets) VALUES (?1, ?2)";
                self.conn.prepare_cached(sql)?.execute(params![object.0, &octets[..]])?;
            }
            // No retrieval needs to go on with it any more.
            Content::File(_) => {
                self.conn.prepare_cached("DELETE FROM partials WHERE object = ?1")?.execute([&object.0])?;
            }
        }
        Ok(())
    }

    fn drop_unless_named(&self, object: ObjectKey, group: &mut Group) -> rusqlite::Result<()> {
        if self.is_named(&object)? || holds::is_held(&self.conn, &object)? {
            return Ok(());
        }
        if !is_file_key(&object) {
            self.conn.prepare_cached("DELETE FROM blobs WHERE key = ?1")?.execute([&object.0])?;
        }
        let sql = "DELETE FROM objects WHERE key = ?1 RETURNING account, domain, octets";
        group.lost.extend(self.conn.prepare_cached(sql)?.query_row([&object.0], owned).optional()?);
        group.dropped.push(object);
        Ok(())
    }

    /// Writes the ends of holds, and removes what nobody needs then.
    pub(super) fn end_holds(&mut self, holds: &[Hold], why: &str, now: Timestamp) -> rusqlite::Result<()> {
        let mut group = Group::default();
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let written = holds.iter().try_for_each(|hold| {
            holds::end(&self.conn, hold, why, now)?;
            self.drop_unless_named(hold.object.key.clone(), &mut group)
        });
        let ended = written.and_then(|()| self.disk.commit(|| self.conn.execute_batch("COMMIT")));
        match ended {
            Ok(()) => self.committed(group),
            Err(_) => self.conn.execute_batch("ROLLBACK")?,
        }
        ended
    }

    /// Legs whose content is still needed.
    pub(super) fn legs_under_way(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT count(*) FROM rows WHERE object IS NOT NULL AND key >= 'leg/'";
        Ok(self.conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Does anything need this file: a row, or a retrieval that may go on?
    pub(super) fn is_kept(&self, object: &ObjectKey) -> rusqlite::Result<bool> {
        let is_partial = "SELECT 1 FROM partials WHERE object = ?1";
        Ok(self.is_named(object)?
            || holds::is_held(&self.conn, object)?
            || self.conn.prepare_cached(is_partial)?.exists([&object.0])?)
    }

    /// Does any row name this object?
    pub(super) fn is_named(&self, object: &ObjectKey) -> rusqlite::Result<bool> {
        self.conn.prepare_cached("SELECT 1 FROM rows WHERE object = ?1 LIMIT 1")?.exists([&object.0])
    }
}

/// Reading.
impl Ledger {
    pub(super) fn load(&self, keys: &[Key]) -> rusqlite::Result<Vec<RawRow>> {
        let mut statement = self.conn.prepare_cached("SELECT key, version, due, body FROM rows WHERE key = ?1")?;
        let mut row = |key: &Key| statement.query_row([key.to_string()], raw_row).optional().transpose();
        keys.iter().filter_map(&mut row).collect()
    }

    pub(super) fn find(&self, alternate: &str, limit: usize) -> rusqlite::Result<Vec<RawRow>> {
        let sql = "SELECT key, version, due, body FROM alternates JOIN rows ON rows.id = alternates.row
                   WHERE alternate = ?1 LIMIT ?2";
        self.conn.prepare_cached(sql)?.query_map(params![alternate, rows_at_most(limit)], raw_row)?.collect()
    }

    pub(super) fn find_after(&self, alternate: &str, after: &str, limit: usize) -> rusqlite::Result<Vec<RawRow>> {
        let sql = "SELECT key, version, due, body FROM alternates JOIN rows ON rows.id = alternates.row
                   WHERE alternate = ?1 AND key > ?2 ORDER BY key LIMIT ?3";
        let parameters = params![alternate, after, rows_at_most(limit)];
        self.conn.prepare_cached(sql)?.query_map(parameters, raw_row)?.collect()
    }

    pub(super) fn list(&self, prefix: &str, after: &str, limit: usize) -> rusqlite::Result<Vec<RawRow>> {
        let sql = "SELECT key, version, due, body FROM rows WHERE key >= ?1 AND key < ?2 AND key > ?3
                   ORDER BY key LIMIT ?4";
        // Keys are ASCII, so this stands above all that begin with the prefix.
        let end = format!("{prefix}\u{7f}");
        self.conn.prepare_cached(sql)?.query_map(params![prefix, end, after, rows_at_most(limit)], raw_row)?.collect()
    }

    pub(super) fn lease(&mut self, now: i64, limit: usize, until: i64) -> rusqlite::Result<Vec<RawRow>> {
        let ids = self.schedule.lease(timestamp(now), limit, timestamp(until));
        let mut statement = self.conn.prepare_cached("SELECT key, version, due, body FROM rows WHERE id = ?1")?;
        ids.iter().filter_map(|id| statement.query_row([id], raw_row).optional().transpose()).collect()
    }

    pub(super) fn blob(&self, object: &ObjectKey) -> rusqlite::Result<Option<Bytes>> {
        let mut statement = self.conn.prepare_cached("SELECT octets FROM blobs WHERE key = ?1")?;
        statement.query_row([&object.0], |row| Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?))).optional()
    }

    pub(super) fn next_due(&self) -> Option<i64> {
        self.schedule.next().map(millis)
    }
}

fn conflicts(batch: &Prepared, put: &[Option<Standing>], delete: &[Option<Standing>]) -> Vec<Key> {
    let put = batch.put.iter().map(|row| (&row.key, row.version)).zip(put);
    let delete = batch.delete.iter().map(|row| (&row.key, row.version)).zip(delete);
    let stands = |old: &Option<Standing>| old.as_ref().map_or(0, |old| old.version);
    let other = put.chain(delete).filter(|((_, read_at), old)| stands(old) != *read_at);
    other.map(|((key, _), _)| key.clone()).collect()
}

/// Account, domain, octets.
fn owned(row: &SqlRow<'_>) -> rusqlite::Result<(Owner, u64)> {
    let domain = row.get::<_, Option<String>>(1)?.and_then(|name| Domain::parse(&name).ok());
    Ok((Owner { account: row.get(0)?, domain }, row.get::<_, i64>(2)?.unsigned_abs()))
}

fn is_leg(key: &Key) -> bool {
    matches!(key, Key::Leg(..))
}

pub(super) fn raw_row(row: &SqlRow<'_>) -> rusqlite::Result<RawRow> {
    Ok(RawRow { key: row.get(0)?, version: row.get(1)?, due: row.get(2)?, body: row.get(3)? })
}

pub(super) fn rows_at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
