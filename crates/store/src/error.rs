//! What can go wrong in a store, and whose fault it is.
//!
//! Errors are cheap to clone: one failed disk write answers every batch of its group.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mail::ledger::{Key, ObjectKey};

/// A store could not do what it was asked to. Nothing was acknowledged, and nothing is half done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process (or another `Store` of this one) has the directory open.
    #[error("the store in {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The store was written by a newer version of this program.
    #[error("the store has schema {found}, this program knows schemas up to {known}: a newer version has written it")]
    Newer {
        /// Schema found.
        found: i64,
        /// Newest schema known here.
        known: i64,
    },
    /// The file system refused: disk full, permissions, I/O error.
    #[error("the store could not {what}: {source}")]
    Io {
        /// What was tried, as in "could not …".
        what: String,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// The ledger's database refused: disk full, I/O error, damaged file.
    #[error("the ledger could not {what}: {source}")]
    Ledger {
        /// What was tried, as in "could not …".
        what: &'static str,
        /// The database's answer.
        source: Arc<rusqlite::Error>,
    },
    /// No such object: nothing has named it for some time, or its file is missing.
    #[error("there is no object {}", .0.0)]
    MissingObject(ObjectKey),
    /// An object is not what its row says; `restante store check` tells more.
    #[error("the object {} is damaged: {detail}", .key.0)]
    DamagedObject {
        /// Which.
        key: ObjectKey,
        /// In plain words.
        detail: String,
    },
    /// A row cannot be read; `restante store check` tells more.
    #[error("the row {key} is damaged: {detail}")]
    DamagedRow {
        /// Its key, as stored.
        key: String,
        /// In plain words.
        detail: String,
    },
    /// Too many objects were finished without being committed: the caller should answer 452 and try later.
    #[error("too much content is waiting to be committed")]
    Overloaded,
    /// The caller's mistake: a batch that names a row twice, an object key that is none, an unfinished write.
    #[error("misuse of the store: {0}")]
    Misuse(&'static str),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source: Arc::new(source) }
    }

    pub(crate) fn ledger(what: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Ledger { what, source: Arc::new(source) }
    }

    /// Is the disk full? Worth telling the operator in so many words.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Ledger { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            _ => false,
        }
    }
}

/// A batch was not committed: none of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// These rows have another version than the batch says: load them again, decide again.
    #[error("{} rows were changed by somebody else", .0.len())]
    Conflict(Vec<Key>),
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] StoreError),
}
