//! The embedded store: one directory with a SQLite database, a directory of large objects, and a lock.
//!
//! ```text
//! lock              held by the process that has the store open
//! ledger.sqlite     rows and small objects (with -wal beside it): the grants in it make it secret, the directory is 0700
//! objects/f-…       one file for each large object
//! damaged/          what a repair has set aside
//! ```
//!
//! Reads that need the database wait for the group that is being committed, because `locking_mode=EXCLUSIVE` (no shared
//! memory, so it works on any file system) allows one connection only. Rows are small and cached by SQLite; what would be
//! slow, parsing and serialising, happens on the callers' threads, and small objects are kept in memory for a while.

use std::fs::{File, TryLockError};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand;
use mail::ledger::{Batch, Key, ObjectRef, Row};
use mail::{InstanceId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot};

use self::ledger::Ledger;
use self::writer::Order;
use crate::batch::{self, Prepared, RawRow, millis, timestamp};
use crate::disk::Disk;
use crate::error::{CommitError, StoreError};
use crate::files::{Files, blocking, create_directory, is_file_key};
use crate::object::{ObjectReader, Objects, Octets};
use crate::partials::PartialLimits;
use crate::staged::{Content, Staged};
use crate::{Counts, Leased};

pub(crate) mod examine;
mod holds;
mod ledger;
mod partials;
mod schema;
mod writer;

/// How an embedded store is opened.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Its directory; created (mode 0700) where it is missing.
    pub directory: PathBuf,
    /// Objects up to this many octets live in the database instead of a file. 64 KiB.
    pub inline_limit: usize,
    /// Octets of small objects that may wait in memory for their commit. 128 MiB.
    pub staged_limit: u64,
    /// Octets of small objects kept in memory after their commit. 4 MiB.
    pub recent_limit: usize,
    /// What is kept of retrievals that broke off.
    pub partials: PartialLimits,
    /// Octets that nothing uses any more, beyond which the database is written anew when it is opened, if they are the
    /// greater part of it. 64 MiB.
    pub slack: u64,
    /// For tests: the process aborts at this kill point. With the cargo feature `faults`, `RESTANTE_KILL_AT`
    /// in the environment does the same.
    pub kill_at: Option<u64>,
}

impl EmbeddedConfig {
    /// The defaults for a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            inline_limit: 64 << 10,
            staged_limit: 128 << 20,
            recent_limit: 4 << 20,
            partials: PartialLimits::default(),
            slack: 64 << 20,
            kill_at: None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Embedded {
    pub(crate) instance: InstanceId,
    pub(crate) objects: Arc<Objects>,
    disk: Arc<Disk>,
    partials: PartialLimits,
    orders: mpsc::Sender<Order>,
}

impl Embedded {
    pub(crate) async fn open(config: EmbeddedConfig) -> Result<Self, StoreError> {
        blocking(move || open(&config)).await?
    }

    pub(crate) async fn read(
        &self,
        object: &ObjectRef,
        octets: Octets,
        range: Range<u64>,
    ) -> Result<ObjectReader, StoreError> {
        if is_file_key(&object.key) {
            let file = self.files()?.open_object(&object.key).await?;
            return Ok(ObjectReader::of_file(object, file, &self.objects, octets, range));
        }
        let key = object.key.clone();
        let stored = match self.objects.staged.content(&key) {
            Some(Content::Inline(stored)) => Some(stored),
            _ => self.visit("read an object", move |ledger| ledger.blob(&key)).await?,
        };
        let stored = stored.ok_or_else(|| StoreError::MissingObject(object.key.clone()))?;
        ObjectReader::of_octets(object, stored, &self.objects.coders, octets, range)
    }

    pub(crate) async fn load(&self, keys: Vec<Key>) -> Result<Vec<Row>, StoreError> {
        rows(&self.visit("load rows", move |ledger| ledger.load(&keys)).await?)
    }

    pub(crate) async fn find(&self, alternate: &str, limit: usize) -> Result<Vec<Row>, StoreError> {
        let alternate = alternate.to_owned();
        rows(&self.visit("find rows", move |ledger| ledger.find(&alternate, limit)).await?)
    }

    pub(crate) async fn find_after(&self, alternate: &str, after: &str, limit: usize) -> Result<Vec<Row>, StoreError> {
        let (alternate, after) = (alternate.to_owned(), after.to_owned());
        rows(&self.visit("find rows", move |ledger| ledger.find_after(&alternate, &after, limit)).await?)
    }

    pub(crate) async fn list(&self, prefix: &str, after: String, limit: usize) -> Result<Vec<Row>, StoreError> {
        let prefix = prefix.to_owned();
        rows(&self.visit("list rows", move |ledger| ledger.list(&prefix, &after, limit)).await?)
    }

    pub(crate) async fn lease(&self, now: Timestamp, limit: usize, until: Timestamp) -> Result<Leased, StoreError> {
        let lease =
            move |ledger: &mut Ledger| Ok((ledger.lease(millis(now), limit, millis(until))?, ledger.next_due()));
        let (raw, next_due) = self.visit("lease rows", lease).await?;
        let readable = |raw: &RawRow| raw.row().inspect_err(|error| tracing::error!(%error, "a row is left out")).ok();
        Ok(Leased { rows: raw.iter().filter_map(readable).collect(), next_due: next_due.map(timestamp) })
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        for key in batch::objects(&batch) {
            if is_file_key(key)
                && let Some(Content::File(file)) = self.objects.staged.waiting(key)
            {
                self.files()?.sync(file).await?;
            }
        }
        let (answer, answered) = oneshot::channel();
        self.order(Order::Commit(Prepared::new(batch)?, answer)).await?;
        answered.await.unwrap_or(Err(StoreError::Closed.into()))
    }

    pub(crate) async fn counts(&self) -> Result<Counts, StoreError> {
        let read = |ledger: &mut Ledger| {
            let (scheduled, leased) = (ledger.schedule.len() as u64, ledger.schedule.leased() as u64);
            let (legs, inbound, batches) = (ledger.legs, ledger.inbound, ledger.batches);
            let under_way = ledger.legs_under_way()?;
            Ok(Counts { legs, under_way, inbound, scheduled, leased, batches, ..Counts::default() })
        };
        let counts = self.visit("count", read).await?;
        let (staged, staged_octets) = self.objects.staged.size();
        let octets = self.objects.usage.octets().0;
        Ok(Counts { staged: staged as u64, staged_octets, octets, disk: self.disk.counts(), ..counts })
    }

    pub(crate) async fn close(&self) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Close(done)).await.is_ok() {
            wait.await.unwrap_or_default();
        }
        if let Some(files) = &self.objects.files {
            files.stop().await;
        }
    }

    pub(crate) fn files(&self) -> Result<&Files, StoreError> {
        self.objects.files.as_ref().ok_or(StoreError::Closed)
    }

    /// Runs something short on the writer thread, between two groups.
    async fn visit<T, F>(&self, what: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        // Nobody may be waiting any more; then the answer is dropped.
        let visit = move |ledger: &mut Ledger| drop(answer.send(work(ledger)));
        self.order(Order::Visit(Box::new(visit))).await?;
        answered.await.map_err(|_| StoreError::Closed)?.map_err(StoreError::ledger(what))
    }

    async fn order(&self, order: Order) -> Result<(), StoreError> {
        self.orders.send(order).await.map_err(|_| StoreError::Closed)
    }
}

fn rows(raw: &[RawRow]) -> Result<Vec<Row>, StoreError> {
    raw.iter().map(RawRow::row).collect()
}

fn open(config: &EmbeddedConfig) -> Result<Embedded, StoreError> {
    let (directory, disk) = (&config.directory, Arc::new(Disk::new(config.kill_at)));
    create_directory(directory, &disk)?;
    let lock = Arc::new(lock(directory)?);
    let mut conn = open_database(&directory.join("ledger.sqlite"))?;
    schema::migrate(&mut conn)?;
    shrink(&conn, config.slack)?;
    let (instance, epoch) = disk.commit(|| begin(&mut conn)).map_err(StoreError::ledger("begin"))?;
    let files = Files::open(directory, disk.clone(), lock.clone())?;
    // The names of the database, its directories and the lock.
    disk.sync_directory(directory).map_err(StoreError::io("sync the store's directory"))?;
    let staged = Staged::new(config.staged_limit, config.recent_limit);
    let objects = Objects::new(staged, Some(files), config.inline_limit, epoch);
    let ledger = Ledger::new(conn, disk.clone(), objects.clone())?;
    remove_orphans(&ledger, &objects)?;
    let orders = writer::start(ledger, lock)?;
    Ok(Embedded { instance, objects, disk, partials: config.partials, orders })
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let file = File::create(directory.join("lock")).map_err(StoreError::io("create its lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock its directory")(error)),
    }
}

/// `FULL` syncs the log with every commit: without it, a commit that was answered could be lost. The log is moved into the
/// database every 16 MiB, which is often enough to keep it small and seldom enough to write most short-lived pages
/// once; it is cut back to that size afterwards.
fn open_database(path: &Path) -> Result<Connection, StoreError> {
    const PRAGMAS: &str = "
        PRAGMA page_size = 4096;
        PRAGMA locking_mode = EXCLUSIVE;
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        PRAGMA wal_autocheckpoint = 4096;
        PRAGMA journal_size_limit = 16777216;
        PRAGMA cache_size = -8192;
        PRAGMA mmap_size = 0;
        PRAGMA temp_store = MEMORY;
        PRAGMA foreign_keys = OFF;
        PRAGMA secure_delete = OFF;
    ";
    let failed = || StoreError::ledger("open its database");
    let conn = Connection::open(path).map_err(failed())?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.execute_batch(PRAGMAS).map_err(failed())?;
    Ok(conn)
}

/// Space that was used once is used again, but never given back while the store is open: a peak of mail would leave its
/// size behind. What is written anew here is the smaller part. It takes as much room again meanwhile, in SQLite's
/// temporary directory and in the log.
fn shrink(conn: &Connection, slack: u64) -> Result<(), StoreError> {
    let failed = || StoreError::ledger("give back the space that nothing uses");
    let pragma = |name| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).map_err(failed());
    let (page, all, free) = (pragma("page_size")?, pragma("page_count")?, pragma("freelist_count")?);
    if (free * page).unsigned_abs() <= slack || free * 2 <= all {
        return Ok(());
    }
    tracing::info!(octets = free * page, "giving back the space of the ledger that nothing uses");
    let vacuum = "PRAGMA temp_store = FILE; VACUUM; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA temp_store = MEMORY;";
    conn.execute_batch(vacuum).map_err(failed())
}

/// The store's name, drawn when it is opened for the first time, and how often it has been opened.
fn begin(conn: &mut Connection) -> rusqlite::Result<(InstanceId, u64)> {
    let transaction = conn.transaction()?;
    let fact = "SELECT value FROM facts WHERE name = ?1";
    let instance = transaction.query_row(fact, ["instance"], |row| row.get::<_, [u8; 16]>(0)).optional()?;
    let instance = match instance {
        Some(octets) => octets,
        None => draw_instance().ok_or(rusqlite::Error::InvalidQuery)?,
    };
    let epoch = transaction.query_row(fact, ["epoch"], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0) + 1;
    let set = "INSERT INTO facts (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    transaction.execute(set, params!["instance", instance])?;
    transaction.execute(set, params!["epoch", epoch])?;
    transaction.commit()?;
    Ok((InstanceId(instance), epoch.unsigned_abs()))
}

fn draw_instance() -> Option<[u8; 16]> {
    let mut octets = [0; 16];
    rand::fill(&mut octets).ok().map(|()| octets)
}

/// Files of objects that were finished and never committed, or whose removal did not happen.
fn remove_orphans(ledger: &Ledger, objects: &Objects) -> Result<(), StoreError> {
    let Some(files) = &objects.files else { return Ok(()) };
    for key in files.list()? {
        if !ledger.is_kept(&key).map_err(StoreError::ledger("look for orphans"))? {
            files.remove_now(&key)?;
            tracing::info!(object = key.0, "removed an object that no row names");
        }
    }
    Ok(())
}
