//! The files of large objects: one directory, one file each, under a name that is never used again.
//!
//! Because of that, no temporary name and no rename is needed: a file that no row names is no object yet, and
//! what a crash leaves is removed at the next open. The order is: write, sync the file, sync the directory,
//! then commit the row. Deciding which file is an object is left to the ledger.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use mail::ledger::ObjectKey;
use tokio::sync::{Mutex, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::disk::Disk;
use crate::error::StoreError;
use crate::staged::StagedFile;

/// Keys of objects in files begin with it; all others are in the ledger.
const PREFIX: &str = "f-";

/// The directory of object files.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    damaged: PathBuf,
    disk: Arc<Disk>,
    names: NameSync,
    remover: mpsc::Sender<Remove>,
}

enum Remove {
    File(ObjectKey),
    Stop(oneshot::Sender<()>),
}

/// Is the object of this key in a file? Any other answer than a plain name is no: keys come from rows, rows
/// from a file that somebody may have edited.
pub(crate) fn is_file_key(key: &ObjectKey) -> bool {
    let plain = |rest: &str| rest.bytes().all(|o| matches!(o, b'0'..=b'9' | b'a'..=b'z' | b'-'));
    key.0.len() <= 64 && key.0.strip_prefix(PREFIX).is_some_and(plain)
}

/// A file key of a number that was never used before.
pub(crate) fn file_key(number: &str) -> ObjectKey {
    ObjectKey(format!("{PREFIX}{number}"))
}

impl Files {
    /// Opens `<root>/objects`, creating it where needed. `lock` is held until the last removal is done.
    pub(crate) fn open(root: &Path, disk: Arc<Disk>, lock: Arc<File>) -> Result<Self, StoreError> {
        let directory = root.join("objects");
        create_directory(&directory, &disk)?;
        let (remover, queue) = mpsc::channel();
        let files = Self { damaged: root.join("damaged"), directory, disk, names: NameSync::default(), remover };
        let (disk, directory) = (files.disk.clone(), files.directory.clone());
        std::thread::Builder::new()
            .name("store-remover".into())
            .spawn(move || remove_files(&queue, &disk, &directory, lock))
            .map_err(StoreError::io("start a thread"))?;
        Ok(files)
    }

    /// Creates the file of a new object, for its owner's eyes only.
    pub(crate) async fn create(&self, key: &ObjectKey) -> Result<File, StoreError> {
        let path = self.path(key);
        let create = move || OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path);
        blocking(create).await?.map_err(StoreError::io("create an object file"))
    }

    /// Makes a finished file durable, once, together with its name.
    pub(crate) async fn sync(&self, staged: Arc<StagedFile>) -> Result<(), StoreError> {
        staged.synced.get_or_init(|| self.sync_now(staged.clone())).await.clone()
    }

    async fn sync_now(&self, staged: Arc<StagedFile>) -> Result<(), StoreError> {
        let disk = self.disk.clone();
        blocking(move || disk.sync_file(&staged.file)).await?.map_err(StoreError::io("sync an object file"))?;
        self.names.sync(&self.disk, &self.directory).await
    }

    /// Makes what was written to an open file durable, and its name.
    pub(crate) async fn sync_open(&self, file: File) -> Result<(File, io::Result<()>), StoreError> {
        let disk = self.disk.clone();
        let (file, synced) = blocking(move || {
            let synced = disk.sync_file(&file);
            (file, synced)
        })
        .await?;
        self.names.sync(&self.disk, &self.directory).await?;
        Ok((file, synced))
    }

    /// Opens the file of an object that is still to grow.
    pub(crate) async fn open_to_write(&self, key: &ObjectKey) -> Result<File, StoreError> {
        let path = self.path(key);
        let open = move || OpenOptions::new().write(true).read(true).open(path);
        blocking(open).await?.map_err(StoreError::io("open an object file"))
    }

    /// Opens the file of an object for reading.
    pub(crate) async fn open_object(&self, key: &ObjectKey) -> Result<File, StoreError> {
        let path = self.path(key);
        match blocking(move || File::open(path)).await? {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::MissingObject(key.clone())),
            result => result.map_err(StoreError::io("open an object file")),
        }
    }

    /// Removes a file in the background. Should the process end before, the next open does it.
    pub(crate) fn remove(&self, key: ObjectKey) {
        // The thread is gone only when the store is closed: then the next open removes the file.
        self.remover.send(Remove::File(key)).unwrap_or_default();
    }

    /// Waits for all removals asked for so far and ends the thread.
    pub(crate) async fn stop(&self) {
        let (done, wait) = oneshot::channel();
        if self.remover.send(Remove::Stop(done)).is_ok() {
            wait.await.unwrap_or_default();
        }
    }

    /// The keys of all files there are.
    pub(crate) fn list(&self) -> Result<HashSet<ObjectKey>, StoreError> {
        let failed = || StoreError::io("list the object files");
        let mut keys = HashSet::new();
        for entry in fs::read_dir(&self.directory).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            let key = name.to_str().map(|name| ObjectKey(name.to_owned()));
            keys.extend(key.filter(is_file_key));
        }
        Ok(keys)
    }

    /// Removes a file now, at open or in a repair.
    pub(crate) fn remove_now(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.disk.unlink(&self.path(key)).map_err(StoreError::io("remove an object file"))
    }

    /// Moves a damaged object out of the way, kept for whoever wants to look at it.
    pub(crate) fn set_aside(&self, key: &ObjectKey) -> Result<(), StoreError> {
        create_directory(&self.damaged, &self.disk)?;
        let failed = || StoreError::io("set a damaged object aside");
        self.disk.rename(&self.path(key), &self.damaged.join(&key.0)).map_err(failed())?;
        self.disk.sync_directory(&self.damaged).map_err(failed())
    }

    /// Keeps the octets of a damaged object that was not in a file.
    pub(crate) fn set_aside_octets(&self, key: &ObjectKey, octets: &[u8]) -> Result<(), StoreError> {
        create_directory(&self.damaged, &self.disk)?;
        // Any key of a row may have been damaged too: only its harmless characters make a file name.
        let name = key.0.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect::<String>();
        fs::write(self.damaged.join(name), octets).map_err(StoreError::io("set a damaged object aside"))
    }

    pub(crate) fn path(&self, key: &ObjectKey) -> PathBuf {
        self.directory.join(&key.0)
    }
}

/// Creates a directory that only its owner may enter, and makes its name durable.
pub(crate) fn create_directory(path: &Path, disk: &Disk) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    let what = format!("create the directory {}", path.display());
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::io(what.clone()))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.sync_directory(parent).map_err(StoreError::io(what))
}

/// Work that goes on, on a thread that may block, while its owner does something else.
pub(crate) struct UnderWay<T>(JoinHandle<T>);

impl<T: Send + 'static> UnderWay<T> {
    pub(crate) fn start(work: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(spawn_blocking(work))
    }

    /// Waits for its end, once. Safe to be dropped: it goes on.
    pub(crate) async fn end(&mut self) -> Result<T, StoreError> {
        (&mut self.0).await.map_err(|_| StoreError::Closed)
    }
}

impl<A: Send + 'static, B: Send + 'static> UnderWay<Result<(A, B), StoreError>> {
    /// Two pieces of work at the same time.
    pub(crate) fn both(
        first: impl FnOnce() -> A + Send + 'static,
        second: impl FnOnce() -> B + Send + 'static,
    ) -> Self {
        let (first, second) = (spawn_blocking(first), spawn_blocking(second));
        Self(tokio::spawn(async { tokio::try_join!(first, second).map_err(|_| StoreError::Closed) }))
    }
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    UnderWay::start(work).end().await
}

fn remove_files(queue: &mpsc::Receiver<Remove>, disk: &Disk, directory: &Path, lock: Arc<File>) {
    for order in queue {
        match order {
            Remove::File(key) => {
                if let Err(error) = disk.unlink(&directory.join(&key.0)) {
                    tracing::warn!(object = key.0, %error, "an object file could not be removed; the next start tries again");
                }
            }
            Remove::Stop(done) => {
                drop(lock);
                done.send(()).unwrap_or_default();
                return;
            }
        }
    }
}

/// Syncs the directory for many sessions at once: who comes while a sync runs waits for the next one, which
/// then serves all who wait.
#[derive(Debug, Default)]
struct NameSync {
    asked: AtomicU64,
    done: Mutex<u64>,
}

impl NameSync {
    async fn sync(&self, disk: &Arc<Disk>, directory: &Path) -> Result<(), StoreError> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut done = self.done.lock().await;
        if *done >= ticket {
            return Ok(());
        }
        let covers = self.asked.load(Ordering::SeqCst);
        let (disk, directory) = (disk.clone(), directory.to_owned());
        let synced = blocking(move || disk.sync_directory(&directory)).await?;
        synced.map_err(StoreError::io("sync the object directory"))?;
        *done = covers;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_files() {
        assert!(is_file_key(&file_key("000001-0000000001")));
        for bad in ["f-../ledger", "i-1", "f-A", "f-.", "../f-1", "", "f-\0"] {
            assert!(!is_file_key(&ObjectKey(bad.into())), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn one_directory_sync_serves_many() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, names) = (Arc::new(Disk::default()), Arc::new(NameSync::default()));
        let blocker = names.done.lock().await;
        let wait = |names: Arc<NameSync>, disk: Arc<Disk>, path: PathBuf| async move {
            names.sync(&disk, &path).await.unwrap();
        };
        let path = directory.path().to_owned();
        let sessions =
            (0..20).map(|_| tokio::spawn(wait(names.clone(), disk.clone(), path.clone()))).collect::<Vec<_>>();
        while names.asked.load(Ordering::SeqCst) < 20 {
            tokio::task::yield_now().await;
        }
        drop(blocker);
        for session in sessions {
            session.await.unwrap();
        }
        assert_eq!(disk.counts().directory_syncs, 1);
    }
}
