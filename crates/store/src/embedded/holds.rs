//! Holds in the database. What they mean and how they are chained is `hold`'s.

use mail::Timestamp;
use mail::ledger::{HoldOrder, ObjectKey};
use rusqlite::{Connection, OptionalExtension, params};

use super::Embedded;
use super::ledger::Ledger;
use crate::batch::number;
use crate::error::StoreError;
use crate::hold::{Chain, Entry, Hold, HoldEnd, Holds, Link, ReleaseError, may_end};

impl Embedded {
    pub(crate) async fn holds(&self) -> Result<Holds, StoreError> {
        let read = |ledger: &mut Ledger| {
            let holds = in_force(&ledger.conn)?;
            let (links, head) = newest(&ledger.conn)?;
            Ok(Holds { holds, links, head })
        };
        self.visit("list the holds", read).await
    }

    /// Ends a hold, if its date has come or it has none.
    pub(crate) async fn release(&self, wanted: u64, why: String, now: Timestamp) -> Result<(), ReleaseError> {
        let hold = self.holds().await?.holds.into_iter().find(|hold| hold.number == wanted);
        let hold = hold.ok_or(ReleaseError::Unknown(wanted))?;
        may_end(&hold, now)?;
        self.end_holds(vec![hold], why, now).await?;
        Ok(())
    }

    /// Ends what is over in time.
    pub(crate) async fn sweep_holds(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut over = self.holds().await?.holds;
        over.retain(|hold| hold.until.is_some_and(|until| until <= now));
        if over.is_empty() {
            return Ok(());
        }
        self.end_holds(over, "its date has come".into(), now).await
    }

    async fn end_holds(&self, holds: Vec<Hold>, why: String, now: Timestamp) -> Result<(), StoreError> {
        self.visit("end a hold", move |ledger| ledger.end_holds(&holds, &why, now)).await
    }

    /// What is wrong with the chain: places and words.
    pub(crate) async fn hold_faults(&self) -> Result<Vec<(u64, String)>, StoreError> {
        self.visit("check the holds", |ledger| faults(&ledger.conn)).await
    }
}

/// Writes an order into the chain.
pub(super) fn put(conn: &Connection, order: &HoldOrder) -> rusqlite::Result<()> {
    let (links, _) = newest(conn)?;
    append(conn, Entry::held(links + 1, order), Some(&order.object.key))
}

/// Writes the end of a hold into the chain.
pub(super) fn end(conn: &Connection, hold: &Hold, why: &str, now: Timestamp) -> rusqlite::Result<()> {
    let (links, _) = newest(conn)?;
    let end = HoldEnd { number: links + 1, hold: hold.number, why: why.to_owned(), at: now };
    append(conn, Entry::Ended(end), None)?;
    conn.prepare_cached("UPDATE holds SET object = NULL WHERE number = ?1")?.execute([number(hold.number)]).map(drop)
}

/// Is this object held?
pub(super) fn is_held(conn: &Connection, object: &ObjectKey) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM holds WHERE object = ?1 LIMIT 1")?.exists([&object.0])
}

fn append(conn: &Connection, entry: Entry, object: Option<&ObjectKey>) -> rusqlite::Result<()> {
    let (_, head) = newest(conn)?;
    let link = Link::new(entry, &head).map_err(|_| rusqlite::Error::InvalidQuery)?;
    let sql = "INSERT INTO holds (number, object, record, digest) VALUES (?1, ?2, ?3, ?4)";
    let object = object.map(|object| object.0.as_str());
    let values = params![number(link.entry.number()), object, link.text, link.digest];
    conn.prepare_cached(sql)?.execute(values).map(drop)
}

/// How many links there are, and the digest of the last.
fn newest(conn: &Connection) -> rusqlite::Result<(u64, String)> {
    let sql = "SELECT number, digest FROM holds ORDER BY number DESC LIMIT 1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?));
    Ok(conn.prepare_cached(sql)?.query_row([], read).optional()?.unwrap_or_default())
}

fn in_force(conn: &Connection) -> rusqlite::Result<Vec<Hold>> {
    let sql = "SELECT record FROM holds WHERE object IS NOT NULL ORDER BY number";
    let mut statement = conn.prepare_cached(sql)?;
    let texts = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    // One that cannot be read still holds its object; a check finds it.
    let held = texts.iter().filter_map(|text| match serde_json::from_str(text) {
        Ok(Entry::Held(hold)) => Some(hold),
        _ => None,
    });
    Ok(held.collect())
}

fn faults(conn: &Connection) -> rusqlite::Result<Vec<(u64, String)>> {
    let (mut chain, mut faults) = (Chain::default(), Vec::new());
    let mut open: std::collections::BTreeMap<u64, ObjectKey> = std::collections::BTreeMap::new();
    let mut statement = conn.prepare("SELECT number, object, record, digest FROM holds ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut stored = Vec::new();
    while let Some(row) = rows.next()? {
        let (place, object) = (row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, Option<String>>(1)?);
        match chain.follow(&row.get::<_, String>(2)?, &row.get::<_, String>(3)?) {
            Ok(Entry::Held(hold)) => {
                open.insert(hold.number, hold.object.key);
            }
            Ok(Entry::Ended(end)) => {
                open.remove(&end.hold);
            }
            Err(fault) => faults.push((place, fault)),
        }
        stored.extend(object.map(|key| (place, ObjectKey(key))));
    }
    if stored.into_iter().collect::<std::collections::BTreeMap<_, _>>() != open {
        faults.push((0, "what is held is not what the chain says".into()));
    }
    Ok(faults)
}
