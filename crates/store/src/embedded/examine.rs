//! What a check asks of the database, and the repairs inside it. Deciding is left to `check`.

use bytes::Bytes;
use mail::ledger::{ObjectKey, Row};
use rusqlite::{Connection, params};

use super::Embedded;
use super::ledger::{Ledger, raw_row, rows_at_most};
use crate::batch::{RawRow, join, split};
use crate::error::StoreError;
use crate::files::is_file_key;

/// A row with what was derived from it when it was written.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) id: i64,
    pub(crate) raw: RawRow,
    object: Option<String>,
    alternates: String,
    /// Every one of `alternates` is in its table.
    found: bool,
}

impl Examined {
    /// Does what was derived still follow from the body?
    pub(crate) fn indexed(&self, row: &Row) -> bool {
        let object = row.object().map(|object| object.key.0.as_str());
        self.found && self.object.as_deref() == object && self.alternates == join(row.alternates())
    }
}

impl Embedded {
    /// Faults of the database file itself; writers wait meanwhile.
    pub(crate) async fn database_faults(&self) -> Result<Vec<String>, StoreError> {
        let lines =
            self.visit("check its database", |ledger| strings(&ledger.conn, "PRAGMA integrity_check(100)")).await?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// The next rows, in the order in which they were made.
    pub(crate) async fn examine(&self, after: i64, limit: usize) -> Result<Vec<Examined>, StoreError> {
        self.visit("read its rows", move |ledger| examine(&ledger.conn, after, limit)).await
    }

    /// A small object as the database has it.
    pub(crate) async fn stored_blob(&self, key: &ObjectKey) -> Result<Option<Bytes>, StoreError> {
        let key = key.clone();
        self.visit("read an object", move |ledger| ledger.blob(&key)).await
    }

    pub(crate) async fn is_kept(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        let key = key.clone();
        self.visit("look for an object's rows", move |ledger| ledger.is_kept(&key)).await
    }

    /// Was this file begun since the store was opened? Then its writer removes it.
    pub(crate) fn is_being_written(&self, key: &ObjectKey) -> bool {
        self.objects.is_of_this_run(key)
    }

    /// Derives a row's object column and secondary keys again; `false` if the row has changed meanwhile.
    pub(crate) async fn index_again(&self, id: i64, row: &Row) -> Result<bool, StoreError> {
        let (object, alternates) = (row.object().map(|o| o.key.0.clone()), join(row.alternates()));
        let version = row.version as i64;
        let disk = self.disk.clone();
        let repair = move |ledger: &mut Ledger| {
            let transaction = ledger.conn.transaction()?;
            let set = "UPDATE rows SET object = ?3, alternates = ?4 WHERE id = ?1 AND version = ?2";
            if transaction.execute(set, params![id, version, object, alternates])? == 0 {
                return Ok(false);
            }
            transaction.execute("DELETE FROM alternates WHERE row = ?1", [id])?;
            for alternate in split(&alternates) {
                transaction
                    .execute("INSERT INTO alternates (alternate, row) VALUES (?1, ?2)", params![alternate, id])?;
            }
            disk.commit(|| transaction.commit()).map(|()| true)
        };
        self.visit("repair a row", repair).await
    }

    /// Moves a damaged object to `damaged/`.
    pub(crate) async fn set_aside(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let files = self.files()?;
        if is_file_key(key) {
            return files.set_aside(key);
        }
        if let Some(octets) = self.stored_blob(key).await? {
            files.set_aside_octets(key, &octets)?;
        }
        self.objects.staged.forget(key);
        let (key, disk) = (key.0.clone(), self.disk.clone());
        let remove = move |ledger: &mut Ledger| {
            disk.commit(|| ledger.conn.execute("DELETE FROM blobs WHERE key = ?1", [key])).map(drop)
        };
        self.visit("set a damaged object aside", remove).await
    }

    /// Small objects that no row names.
    pub(crate) async fn orphan_blobs(&self, repair: bool, limit: usize) -> Result<Vec<String>, StoreError> {
        const ORPHANS: &str =
            "SELECT key FROM blobs WHERE NOT EXISTS (SELECT 1 FROM rows WHERE rows.object = blobs.key)
                AND NOT EXISTS (SELECT 1 FROM holds WHERE holds.object = blobs.key)";
        let disk = self.disk.clone();
        let find = move |ledger: &mut Ledger| {
            let keys = strings(&ledger.conn, &format!("{ORPHANS} LIMIT {limit}"))?;
            if repair && !keys.is_empty() {
                let remove = format!("DELETE FROM blobs WHERE key IN ({ORPHANS})");
                disk.commit(|| ledger.conn.execute_batch(&remove))?;
            }
            Ok(keys)
        };
        self.visit("look for orphans", find).await
    }

    /// Secondary keys that lead to a row which has none such.
    pub(crate) async fn orphan_alternates(&self, repair: bool, limit: usize) -> Result<Vec<String>, StoreError> {
        const WRONG: &str = "FROM alternates WHERE NOT EXISTS (SELECT 1 FROM rows WHERE id = alternates.row
            AND instr(char(10) || alternates || char(10), char(10) || alternate || char(10)))";
        let disk = self.disk.clone();
        let find = move |ledger: &mut Ledger| {
            let found = strings(&ledger.conn, &format!("SELECT alternate {WRONG} LIMIT {limit}"))?;
            if repair && !found.is_empty() {
                disk.commit(|| ledger.conn.execute_batch(&format!("DELETE {WRONG}")))?;
            }
            Ok(found)
        };
        self.visit("look for orphans", find).await
    }
}

fn strings(conn: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn examine(conn: &Connection, after: i64, limit: usize) -> rusqlite::Result<Vec<Examined>> {
    let sql = "SELECT key, version, due, body, id, object, alternates FROM rows WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut exists = conn.prepare_cached("SELECT 1 FROM alternates WHERE alternate = ?1 AND row = ?2")?;
    let mut rows = Vec::new();
    let mut statement = conn.prepare_cached(sql)?;
    let mut found = statement.query(params![after, rows_at_most(limit)])?;
    while let Some(row) = found.next()? {
        let (id, alternates) = (row.get(4)?, row.get::<_, String>(6)?);
        let all = split(&alternates).map(|a| exists.exists(params![a, id])).collect::<rusqlite::Result<Vec<_>>>()?;
        let found = all.into_iter().all(|yes| yes);
        rows.push(Examined { id, raw: raw_row(row)?, object: row.get(5)?, alternates, found });
    }
    Ok(rows)
}
