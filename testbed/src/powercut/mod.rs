//! A disk that loses power: a mounted file system on which whatever was not synced can be made to vanish.
//!
//! A server runs on [`PowerCut::path`]. At a chosen sync or change ([`PowerCut::plan`]), or at once ([`PowerCut::cut`]), the power
//! fails: from then on no request is answered. The test then, in this order,
//!
//! 1. waits for the cut ([`PowerCut::wait_for_cut`]),
//! 2. sends SIGKILL to every process that uses the disk,
//! 3. calls [`PowerCut::restore`], which drops what was not synced and lets the killed processes die,
//! 4. waits for their end, and starts the server anew.
//!
//! Between 1 and 3 the test must not look at the disk itself: it would hang like everyone else.
//!
//! It is kept in memory, so it suits tests, not measurements. Files cannot be mapped shared (SQLite: WAL with
//! `locking_mode=EXCLUSIVE`, which needs no shared memory); extended attributes do not exist; `sync` and `syncfs` save
//! nothing, only `fsync`, `fdatasync` and `O_DSYNC` do. What a power cut takes is told in [`disk`], and is stricter than ext4.
//! Hosts see a disk that was mounted before them.

mod content;
mod disk;
mod filesystem;
mod random;
mod state;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use fuser::{BackgroundSession, Config, MountOption, SessionACL};

use crate::wait;
use disk::Disk;
use filesystem::Mounted;
use state::Shared;

pub use disk::Loss;
pub use state::CutAt;

/// A mounted disk; dropping it unmounts it.
#[derive(Debug)]
pub struct PowerCut {
    path: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

impl PowerCut {
    /// Mounts an empty disk at `path`, which is made if need be.
    ///
    /// # Errors
    /// When not root, or the kernel has no FUSE.
    pub fn mount(path: &Path) -> Result<Self> {
        ensure!(Path::new("/dev/fuse").exists(), "/dev/fuse is missing: the power-cut tests need FUSE in the kernel");
        std::fs::create_dir_all(path)?;
        let shared = Arc::new(Shared::new(Disk::new(SystemTime::now())));
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("powercut".to_owned()), MountOption::DefaultPermissions, MountOption::NoAtime];
        config.acl = SessionACL::All;
        let session = fuser::spawn_mount(Mounted::new(Arc::clone(&shared)), path, &config)
            .with_context(|| format!("mounting at {} (it takes root)", path.display()))?;
        Ok(Self { path: path.to_owned(), shared, session: Some(session) })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Plans the next power cut, in place of one that was planned.
    pub fn plan(&self, cut: CutAt) {
        self.shared.lock().plan(cut);
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.shared.lock().cut();
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.shared.lock().is_cut()
    }

    /// Waits for the planned power cut.
    ///
    /// # Errors
    /// When it has not come by the deadline.
    pub fn wait_for_cut(&self, limit: Duration) -> Result<()> {
        wait::until("the planned power cut", limit, || self.is_cut().then_some(()))
    }

    /// The disk loses what it must and works again; the power is cut first if it was on.
    pub fn restore(&self, loss: Loss) {
        self.shared.lock().restore(loss);
    }

    /// How many syncs were asked for so far, of files and folders.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.shared.lock().counts().0
    }

    /// How many changes of any kind were asked for so far, syncs included.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shared.lock().counts().1
    }
}

impl Drop for PowerCut {
    fn drop(&mut self) {
        self.shared.lock().take_away();
        // Lazily: a process or a host may still be on it; the mount ends with the last of them.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
        drop(self.session.take());
    }
}
