//! The store: objects (immutable content) and the ledger (rows of [`mail::ledger`]), behind one type.
//!
//! [`Store`] is chosen once at open: in memory, or embedded (files and SQLite in one directory). Every backend keeps
//! the same promises, and one test suite holds all of them to it:
//!
//! - [`Store::commit`] is all or nothing, compare-and-set on the version of every row, and durable when it answers:
//!   files and directories of the objects first, then the rows, in one transaction.
//! - An object lives as long as some row names it ([`Row::object`]), and not longer. Finished objects that
//!   no row names vanish when the store is opened again, after an hour at the latest, or by [`Store::discard`].
//! - An object may be kept under a content coding ([`ObjectRef::coded`]); whoever reads it does not see that.
//! - A held object ([`Batch::holds`]) is kept until its date, whatever becomes of its rows.
//! - What has come of an object that is being retrieved outlives the connection and the process ([`Store::intake`]).
//! - A leased row is handed out to nobody else until it is committed or the lease runs out; leases end
//!   with the process.
//!
//! What rows mean and what follows from a conflict is left to the `queue` crate.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use mail::ledger::{Batch, Key, ObjectRef, Owner, Row};
use mail::{InstanceId, Timestamp};

pub use check::{CheckReport, Done, Fault, FaultKind, Progress};
pub use coding::BadCoding;
pub use disk::DiskCounts;
pub use embedded::EmbeddedConfig;
pub use error::{CommitError, StoreError};
pub use hold::{Hold, HoldEnd, Holds, ReleaseError};
pub use intake::{Intake, IntakeError, Wanted};
pub use object::{CHUNK, ObjectReader, ObjectWriter};
pub use partials::{PartialLimits, Portion};
pub use quota::{Full, Purpose, Quotas, Reservation};

mod batch;
mod check;
mod chunks;
pub mod coding;
mod disk;
mod embedded;
mod error;
mod files;
mod hold;
mod intake;
mod memory;
mod object;
mod partials;
mod quota;
mod schedule;
mod staged;

use object::Octets;
use partials::Partial;

/// A store. Clones are cheap and mean the same store.
#[derive(Debug, Clone)]
pub struct Store(Backend);

#[derive(Debug, Clone)]
enum Backend {
    Memory(Arc<memory::Memory>),
    Embedded(Arc<embedded::Embedded>),
}

/// What [`Store::lease`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// Rows that are the caller's now, earliest due first.
    pub rows: Vec<Row>,
    /// When to ask again at the latest: the earliest row not leased is due then, or a lease runs out. May lie in
    /// the past when `limit` left something over. `None`: nothing is due, ever.
    pub next_due: Option<Timestamp>,
}

/// Figures for metrics, as of now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows of messages on their way.
    pub legs: u64,
    /// Those whose content is still needed: the others are finished and only remembered.
    pub under_way: u64,
    /// Rows of references accepted.
    pub inbound: u64,
    /// Rows with a due time, leased ones included.
    pub scheduled: u64,
    /// Rows that are leased.
    pub leased: u64,
    /// Objects finished and not named by a row yet.
    pub staged: u64,
    /// Their octets in memory.
    pub staged_octets: u64,
    /// Octets of all objects that a row names, as they are stored.
    pub octets: u64,
    /// Batches committed since open.
    pub batches: u64,
    /// Steps on the disk since open; all zero for a memory store.
    pub disk: DiskCounts,
}

impl Store {
    /// A store that forgets everything with its last clone.
    pub fn memory(instance: InstanceId) -> Self {
        Self(Backend::Memory(Arc::new(memory::Memory::new(instance))))
    }

    /// Opens the store in a directory, creating it where it is missing. Ends all leases, removes objects that no
    /// row names. Needs a tokio runtime, as all other methods do.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open, [`StoreError::Newer`], [`StoreError::Io`],
    /// [`StoreError::Ledger`].
    pub async fn open(config: EmbeddedConfig) -> Result<Self, StoreError> {
        Ok(Self(Backend::Embedded(Arc::new(embedded::Embedded::open(config).await?))))
    }

    /// The name of this store in claims and receipts (TBR §6): random, kept for the life of the store.
    pub fn instance(&self) -> InstanceId {
        match &self.0 {
            Backend::Memory(memory) => memory.instance,
            Backend::Embedded(embedded) => embedded.instance,
        }
    }

    /// Begins a new object. Touches no file before the object has outgrown the inline limit.
    pub fn create(&self) -> ObjectWriter {
        ObjectWriter::new(self.objects().clone(), false)
    }

    /// Begins a new object that is going to be served to others: it is kept under a content coding if that makes it at
    /// least a tenth smaller, by the first 128 KiB of it.
    pub fn create_coded(&self) -> ObjectWriter {
        ObjectWriter::new(self.objects().clone(), true)
    }

    /// Sets what may be stored. What is stored already stays.
    pub fn set_quotas(&self, quotas: Quotas) {
        self.objects().usage.set(quotas);
    }

    /// Room for octets that are about to be written, until the reservation is dropped: after the commit that names them.
    /// Writing itself does not ask.
    ///
    /// # Errors
    /// [`Full`] says whose quota is used up.
    pub fn reserve(&self, owner: Owner, purpose: Purpose, octets: u64) -> Result<Reservation, Full> {
        self.objects().usage.reserve(owner, purpose, octets)
    }

    /// Begins to take an object from a repository, or goes on where an earlier retrieval of it from the same origin has
    /// stopped.
    ///
    /// # Errors
    /// [`StoreError::Ledger`], [`StoreError::Closed`].
    pub async fn intake(&self, wanted: Wanted) -> Result<Intake, StoreError> {
        Intake::open(self.clone(), wanted).await
    }

    /// How far retrievals are that have begun, as far as it is recorded, by [`mail::ledger::by_held_object`].
    ///
    /// # Errors
    /// [`StoreError::Ledger`], [`StoreError::Closed`].
    pub async fn portions(&self) -> Result<HashMap<String, Portion>, StoreError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.portions()),
            Backend::Embedded(embedded) => embedded.portions().await,
        }
    }

    /// The legal holds in force.
    ///
    /// # Errors
    /// [`StoreError::Ledger`], [`StoreError::Closed`].
    pub async fn holds(&self) -> Result<Holds, StoreError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.holds()),
            Backend::Embedded(embedded) => embedded.holds().await,
        }
    }

    /// Ends a hold. Its object is removed if no row names it and nothing else holds it.
    ///
    /// # Errors
    /// [`ReleaseError::NotBefore`] until its date.
    pub async fn release(&self, number: u64, why: &str, now: Timestamp) -> Result<(), ReleaseError> {
        match &self.0 {
            Backend::Memory(memory) => memory.release(number, why, now),
            Backend::Embedded(embedded) => embedded.release(number, why.to_owned(), now).await,
        }
    }

    /// Gives up what was kept of retrievals whose time is over, and ends holds whose date has come. To be called now and then.
    ///
    /// # Errors
    /// [`StoreError::Ledger`], [`StoreError::Closed`].
    pub async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        match &self.0 {
            Backend::Memory(memory) => {
                memory.sweep_partials(now);
                memory.sweep_holds(now).map_err(|_| StoreError::Misuse("a hold cannot be ended"))
            }
            Backend::Embedded(embedded) => {
                embedded.sweep_partials(now).await?;
                embedded.sweep_holds(now).await
            }
        }
    }

    /// Takes a small object that was made in memory (a report), under a key that the caller drew and that does not
    /// begin with `f-` or `i-`. As good as one from [`ObjectWriter::finish`]: it waits for the commit that names it.
    ///
    /// # Errors
    /// [`StoreError::Misuse`] where the octets are not what `object` says; [`StoreError::Overloaded`].
    pub fn stage(&self, object: &ObjectRef, octets: impl Into<Bytes>) -> Result<(), StoreError> {
        self.objects().stage(object, octets.into())
    }

    /// Forgets a finished object that will not be committed after all: what a caller does after a commit failed
    /// or content was refused. Objects that a row names stay.
    pub fn discard(&self, object: &ObjectRef) {
        self.objects().discard(&object.key);
    }

    /// Reads a range of an object, clipped to its size (`0..u64::MAX` for all of it); also before it is committed.
    ///
    /// # Errors
    /// [`StoreError::MissingObject`], [`StoreError::DamagedObject`] where the size is wrong, [`StoreError::Io`].
    pub async fn read(&self, object: &ObjectRef, range: Range<u64>) -> Result<ObjectReader, StoreError> {
        self.read_octets(object, Octets::Decoded, range).await
    }

    /// Reads a range of the octets that are stored of an object: the coded ones, where it has some
    /// ([`ObjectRef::stored_size`]).
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn read_stored(&self, object: &ObjectRef, range: Range<u64>) -> Result<ObjectReader, StoreError> {
        self.read_octets(object, Octets::AsStored, range).await
    }

    async fn read_octets(
        &self,
        object: &ObjectRef,
        octets: Octets,
        range: Range<u64>,
    ) -> Result<ObjectReader, StoreError> {
        match &self.0 {
            Backend::Memory(memory) => memory.read(object, octets, range),
            Backend::Embedded(embedded) => embedded.read(object, octets, range).await,
        }
    }

    /// The rows of these keys that exist, in the order of the keys.
    ///
    /// # Errors
    /// [`StoreError::DamagedRow`], [`StoreError::Ledger`].
    pub async fn load(&self, keys: Vec<Key>) -> Result<Vec<Row>, StoreError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.load(&keys)),
            Backend::Embedded(embedded) => embedded.load(keys).await,
        }
    }

    /// At most `limit` rows with this secondary key ([`Row::alternates`]), in no particular order.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub async fn find(&self, alternate: &str, limit: usize) -> Result<Vec<Row>, StoreError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.find(alternate, limit)),
            Backend::Embedded(embedded) => embedded.find(alternate, limit).await,
        }
    }

    /// At most `limit` rows with this secondary key whose primary key comes after `after`, in order of their keys as texts:
    /// page by page from `""` on.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub async fn find_after(&self, alternate: &str, after: &str, limit: usize) -> Result<Vec<Row>, StoreError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.find_after(alternate, after, limit)),
            Backend::Embedded(embedded) => embedded.find_after(alternate, after, limit).await,
        }
    }

    /// Takes up to `limit` rows that are due at or before `now` and not leased; they are the caller's until they are
    /// committed, or until `until`. Rows that cannot be read are logged and left out.
    ///
    /// # Errors
    /// [`StoreError::Ledger`].
    pub async fn lease(&self, now: Timestamp, limit: usize, until: Timestamp) -> Result<Leased, StoreError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.lease(now, limit, until)),
            Backend::Embedded(embedded) => embedded.lease(now, limit, until).await,
        }
    }

    /// Writes a batch, all or nothing, and answers when it is durable. Ends the leases of its rows. Objects that
    /// its rows name must be staged or named by a row already; those that no row names any more are removed.
    /// Dropping the future may leave the batch committed or not.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] names the rows whose version differs; nothing was written. [`CommitError::Failed`]:
    /// nothing was written either; objects that were staged still are.
    pub async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        batch::check(&batch)?;
        match &self.0 {
            Backend::Memory(memory) => memory.commit(batch),
            Backend::Embedded(embedded) => embedded.commit(batch).await,
        }
    }

    /// Up to `limit` rows whose key begins with `prefix` (`leg/`, `leg/<queue id>/`, `in/`, or nothing), in the order of
    /// the keys' text, beginning after `after`.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let after = after.map(Key::to_string).unwrap_or_default();
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.list(prefix, &after, limit)),
            Backend::Embedded(embedded) => embedded.list(prefix, after, limit).await,
        }
    }

    /// Figures for metrics; cheap.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.counts()),
            Backend::Embedded(embedded) => embedded.counts().await,
        }
    }

    /// Checks every object against its digest, every row against its object, and looks for what nobody names; works
    /// beside normal operation. With `repair`, orphans are removed, columns derived from a row are derived again,
    /// and what is damaged is set aside in `damaged/`: its rows stay, reading their object then says that it is missing,
    /// so that nothing damaged is ever sent. `progress` is called now and then.
    ///
    /// # Errors
    /// Only where checking itself fails; what it finds is in the report.
    pub async fn check(&self, repair: bool, progress: impl FnMut(Progress) + Send) -> Result<CheckReport, StoreError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.check()),
            Backend::Embedded(embedded) => check::run(embedded, repair, progress).await,
        }
    }

    /// Closes the store: what is under way is finished, everything later fails with [`StoreError::Closed`], and the
    /// directory can be opened again. Dropping the last clone does the same in the background.
    pub async fn close(&self) {
        if let Backend::Embedded(embedded) = &self.0 {
            embedded.close().await;
        }
    }

    /// What was recorded of a retrieval; its octets, where they are in memory.
    async fn partial(&self, name: &str) -> Result<Option<(Partial, Option<Bytes>)>, StoreError> {
        match &self.0 {
            Backend::Memory(memory) => Ok(memory.partial(name).map(|(partial, octets)| (partial, Some(octets)))),
            Backend::Embedded(embedded) => Ok(embedded.partial(name).await?.map(|partial| (partial, None))),
        }
    }

    async fn record_partial(&self, partial: Partial, octets: Option<Bytes>) -> Result<(), StoreError> {
        match &self.0 {
            Backend::Memory(memory) => {
                memory.record_partial(partial, octets.unwrap_or_default());
                Ok(())
            }
            Backend::Embedded(embedded) => embedded.record_partial(partial).await,
        }
    }

    async fn forget_partial(&self, name: &str) -> Result<(), StoreError> {
        match &self.0 {
            Backend::Memory(memory) => {
                memory.forget_partial(name);
                Ok(())
            }
            Backend::Embedded(embedded) => embedded.forget_partial(name).await,
        }
    }

    fn objects(&self) -> &Arc<object::Objects> {
        match &self.0 {
            Backend::Memory(memory) => &memory.objects,
            Backend::Embedded(embedded) => &embedded.objects,
        }
    }
}
