//! Every step that makes something durable or removes it goes through [`Disk`]: so that they can be counted,
//! and so that a test can end the process before and after each of them.
//!
//! Kill points: each step has two, one before and one after it, counted from 1 in the order in which they are
//! reached by any thread. At the chosen one the process aborts: no destructor runs, nothing is flushed.
//! `EmbeddedConfig::kill_at` chooses it; with the cargo feature `faults` so does `RESTANTE_KILL_AT=<n>`.
//! What the kernel would lose in a power cut is left to tests that stand below the file system.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps done since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Object files synced.
    pub file_syncs: u64,
    /// Directories synced.
    pub directory_syncs: u64,
    /// Transactions of the ledger: one for each group of batches.
    pub commits: u64,
    /// Object files removed.
    pub unlinks: u64,
    /// Object files set aside by a repair.
    pub renames: u64,
}

/// The one owner of syncs, commits, renames and unlinks.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    kill_at: Option<u64>,
    points: AtomicU64,
    file_syncs: AtomicU64,
    directory_syncs: AtomicU64,
    commits: AtomicU64,
    unlinks: AtomicU64,
    renames: AtomicU64,
}

impl Disk {
    pub(crate) fn new(kill_at: Option<u64>) -> Self {
        Self { kill_at: kill_at.or_else(kill_at_from_environment), ..Self::default() }
    }

    /// Content of a file and its length: `fdatasync`.
    pub(crate) fn sync_file(&self, file: &File) -> io::Result<()> {
        self.step(&self.file_syncs, || file.sync_data())
    }

    /// The names in a directory.
    pub(crate) fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.step(&self.directory_syncs, || File::open(path)?.sync_all())
    }

    /// A transaction of the ledger.
    pub(crate) fn commit<T>(&self, commit: impl FnOnce() -> T) -> T {
        self.step(&self.commits, commit)
    }

    /// Removes a file; one that is gone already is fine.
    pub(crate) fn unlink(&self, path: &Path) -> io::Result<()> {
        self.step(&self.unlinks, || match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        })
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(&self.renames, || fs::rename(from, to))
    }

    pub(crate) fn counts(&self) -> DiskCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskCounts {
            file_syncs: read(&self.file_syncs),
            directory_syncs: read(&self.directory_syncs),
            commits: read(&self.commits),
            unlinks: read(&self.unlinks),
            renames: read(&self.renames),
        }
    }

    fn step<T>(&self, counter: &AtomicU64, work: impl FnOnce() -> T) -> T {
        self.kill_point();
        let result = work();
        counter.fetch_add(1, Ordering::Relaxed);
        self.kill_point();
        result
    }

    fn kill_point(&self) {
        if self.kill_at.is_some() && self.kill_at == Some(self.points.fetch_add(1, Ordering::SeqCst) + 1) {
            std::process::abort();
        }
    }
}

#[cfg(feature = "faults")]
fn kill_at_from_environment() -> Option<u64> {
    std::env::var("RESTANTE_KILL_AT").ok()?.parse().ok()
}

#[cfg(not(feature = "faults"))]
fn kill_at_from_environment() -> Option<u64> {
    None
}
