//! The tables of the ledger, and how older ones become newer ones.
//!
//! `PRAGMA user_version` counts the steps of [`STEPS`] that a database has taken; steps are only ever added.
//! The bodies of rows are JSON whose optional fields have defaults; a change that needs more gets a step.

use rusqlite::Connection;

use crate::error::StoreError;

/// Every step from nothing to now.
const STEPS: &[&str] = &[
    "
    CREATE TABLE facts (
        name TEXT PRIMARY KEY,
        value ANY NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- One row of the ledger. `object` and `alternates` (one per line) are derived from `body`.
    -- Due times have no index: the schedule is kept in memory.
    CREATE TABLE rows (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        due INTEGER,
        object TEXT,
        alternates TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX rows_object ON rows (object) WHERE object IS NOT NULL;

    CREATE TABLE alternates (
        alternate TEXT NOT NULL,
        row INTEGER NOT NULL,
        PRIMARY KEY (alternate, row)
    ) STRICT, WITHOUT ROWID;

    -- Objects up to the inline limit, apart from the rows: a row changes often, an object never.
    CREATE TABLE blobs (
        key TEXT PRIMARY KEY,
        octets BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Retrievals that broke off: as many octets of the file as are surely there, times in milliseconds.
    CREATE TABLE partials (
        name TEXT PRIMARY KEY,
        origin TEXT NOT NULL,
        object TEXT NOT NULL UNIQUE,
        octets INTEGER NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        representation TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Objects that some row names: on whose account, and how many octets are stored of each.
    CREATE TABLE objects (
        key TEXT PRIMARY KEY,
        account TEXT,
        domain TEXT,
        octets INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT OR IGNORE INTO objects (key, account, domain, octets)
    SELECT object,
        json_extract(body, '$.leg.source.submission'),
        json_extract(body, '$.inbound.to'),
        coalesce(json_extract(body, '$.leg.object.size'), json_extract(body, '$.inbound.object.size'), 0)
    FROM rows WHERE object IS NOT NULL AND json_valid(body);
",
    "
    -- Legal holds and their ends, a chain of digests. `object` while the hold is in force.
    CREATE TABLE holds (
        number INTEGER PRIMARY KEY,
        object TEXT,
        record TEXT NOT NULL,
        digest TEXT NOT NULL
    ) STRICT;
    CREATE INDEX holds_object ON holds (object) WHERE object IS NOT NULL;
",
];

/// Takes the steps that are missing, in one transaction.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    let failed = || StoreError::ledger("read its schema");
    let known = STEPS.len() as i64;
    let found = conn.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).map_err(failed())?;
    if found > known || found < 0 {
        return Err(StoreError::Newer { found, known });
    }
    if found == known {
        return Ok(());
    }
    let failed = || StoreError::ledger("bring its tables up to date");
    let transaction = conn.transaction().map_err(failed())?;
    for step in &STEPS[found as usize..] {
        transaction.execute_batch(step).map_err(failed())?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(failed())?;
    transaction.commit().map_err(failed())
}
