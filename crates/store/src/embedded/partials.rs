//! Records of retrievals that broke off, in the database. What they mean is `intake`'s, how many there may be `partials`'.

use std::collections::HashMap;

use mail::Timestamp;
use mail::ledger::{ObjectKey, Representation};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::Embedded;
use super::ledger::Ledger;
use crate::batch::{millis, number, timestamp};
use crate::error::StoreError;
use crate::partials::{Brief, Partial, Portion};

impl Embedded {
    pub(crate) async fn partial(&self, name: &str) -> Result<Option<Partial>, StoreError> {
        let name = name.to_owned();
        self.visit("look for a retrieval that broke off", move |ledger| load(&ledger.conn, &name)).await
    }

    /// How far each of them is.
    pub(crate) async fn portions(&self) -> Result<HashMap<String, Portion>, StoreError> {
        self.visit("look how far retrievals are", |ledger| portions(&ledger.conn)).await
    }

    /// Writes one, and removes those that there is no room for any more.
    pub(crate) async fn record_partial(&self, partial: Partial) -> Result<(), StoreError> {
        let now = partial.since;
        self.change_partials(now, move |conn| put(conn, &partial)).await
    }

    pub(crate) async fn forget_partial(&self, name: &str) -> Result<(), StoreError> {
        let (name, disk) = (name.to_owned(), self.disk.clone());
        let remove = move |ledger: &mut Ledger| {
            disk.commit(|| ledger.conn.execute("DELETE FROM partials WHERE name = ?1", [name])).map(drop)
        };
        self.visit("forget a retrieval that broke off", remove).await
    }

    /// Removes those whose time is over.
    pub(crate) async fn sweep_partials(&self, now: Timestamp) -> Result<(), StoreError> {
        self.change_partials(now, |_| Ok(())).await
    }

    async fn change_partials(
        &self,
        now: Timestamp,
        change: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (disk, limits, in_use) = (self.disk.clone(), self.partials, self.objects.in_use.clone());
        let work = move |ledger: &mut Ledger| {
            let transaction = ledger.conn.transaction()?;
            change(&transaction)?;
            let victims = limits.victims(briefs(&transaction)?, now, |name| in_use.contains(name));
            let mut files = Vec::new();
            for name in victims {
                let sql = "DELETE FROM partials WHERE name = ?1 RETURNING object";
                files.push(ObjectKey(transaction.query_row(sql, [name], |row| row.get(0))?));
            }
            disk.commit(|| transaction.commit())?;
            Ok(files)
        };
        let files = self.visit("record a retrieval", work).await?;
        files.into_iter().for_each(|key| self.objects.remove_file(key));
        Ok(())
    }
}

fn load(conn: &Connection, name: &str) -> rusqlite::Result<Option<Partial>> {
    let sql = "SELECT name, origin, object, octets, since, until, representation FROM partials WHERE name = ?1";
    let read = |row: &SqlRow<'_>| {
        let representation = serde_json::from_str(&row.get::<_, String>(6)?).ok();
        let partial = |representation| {
            Ok(Partial {
                name: row.get(0)?,
                origin: row.get(1)?,
                object: ObjectKey(row.get(2)?),
                octets: row.get::<_, i64>(3)?.unsigned_abs(),
                since: timestamp(row.get(4)?),
                until: timestamp(row.get(5)?),
                representation,
            })
        };
        representation.map(partial).transpose()
    };
    // One whose representation cannot be read is none: the retrieval begins anew.
    conn.prepare_cached(sql)?.query_row([name], read).optional().map(Option::flatten)
}

fn portions(conn: &Connection) -> rusqlite::Result<HashMap<String, Portion>> {
    let read = |row: &SqlRow<'_>| {
        let representation: Option<Representation> = serde_json::from_str(&row.get::<_, String>(2)?).ok();
        let octets = row.get::<_, i64>(1)?.unsigned_abs();
        Ok((row.get(0)?, Portion { octets, of: representation.and_then(|representation| representation.size) }))
    };
    conn.prepare_cached("SELECT name, octets, representation FROM partials")?.query_map([], read)?.collect()
}

fn put(conn: &Connection, partial: &Partial) -> rusqlite::Result<()> {
    let representation = serde_json::to_string(&partial.representation).map_err(|_| rusqlite::Error::InvalidQuery)?;
    let sql = "INSERT OR REPLACE INTO partials (name, origin, object, octets, since, until, representation)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let Partial { name, origin, object, octets, since, until, .. } = partial;
    let values = params![name, origin, object.0, number(*octets), millis(*since), millis(*until), representation];
    conn.prepare_cached(sql)?.execute(values).map(drop)
}

fn briefs(conn: &Connection) -> rusqlite::Result<Vec<Brief>> {
    let read = |row: &SqlRow<'_>| {
        Ok(Brief {
            name: row.get(0)?,
            origin: row.get(1)?,
            octets: row.get::<_, i64>(2)?.unsigned_abs(),
            since: timestamp(row.get(3)?),
            until: timestamp(row.get(4)?),
        })
    };
    conn.prepare_cached("SELECT name, origin, octets, since, until FROM partials")?.query_map([], read)?.collect()
}
