//! Policies on disk: one small file for each domain, replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mail::Domain;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::Entry;

/// Largest file that is read: a policy with the longest names.
const MAX_FILE: u64 = 128 * 1024;
/// How names of files end.
const SUFFIX: &str = ".json";

/// A folder.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    /// One file is written at a time.
    writing: Mutex<()>,
}

impl Shelf {
    /// Makes the folder if need be.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), writing: Mutex::default() })
    }

    /// What can be read, at most so many.
    pub(super) fn load(&self, most: usize) -> io::Result<Vec<Entry>> {
        let files = fs::read_dir(&self.folder)?.filter_map(Result::ok).map(|entry| entry.path());
        Ok(files.filter_map(|path| read(&path)).take(most).collect())
    }

    /// Writes and syncs an entry, and puts it in the place of the one before.
    pub(super) async fn put(&self, entry: Entry) -> io::Result<()> {
        let path = self.path(&entry.domain);
        let _turn = self.writing.lock().await;
        spawn_blocking(move || write(&path, &entry)).await.map_err(io::Error::other)?
    }

    /// What cannot be removed has ended all the same, and is passed over by the next start.
    pub(super) async fn remove(&self, domain: &Domain) {
        let path = self.path(domain);
        let _ = spawn_blocking(move || fs::remove_file(path)).await;
    }

    /// Letters, digits, hyphens, underscores and dots: a domain is a file name.
    fn path(&self, domain: &Domain) -> PathBuf {
        self.folder.join(format!("{domain}{SUFFIX}"))
    }
}

/// `None` for what is none of ours, or broken.
fn read(path: &Path) -> Option<Entry> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    if fs::metadata(path).ok()?.len() > MAX_FILE {
        return None;
    }
    let entry: Entry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(entry).filter(|entry| entry.domain.as_str() == name)
}

fn write(path: &Path, entry: &Entry) -> io::Result<()> {
    // An ending that is read by nobody.
    let draft = path.with_extension("json.new");
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec(entry)?)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}
