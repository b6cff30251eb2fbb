//! Pinned documents on disk: one file for each domain, replaced as a whole, so that a restart forgets no pin (TBR §5.3).
//!
//! A pin that cannot be written still counts in memory. How long one counts is [`super::memory`]'s.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mail::{Domain, Timestamp};
use reference::DomainFacts;
use reference::keys::MAX_DOCUMENT;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::plan::Pin;

/// Most files that are kept: more pins count in memory only.
const MAX_FILES: usize = 20_000;
/// Largest file that is read: a document within another, escaped.
const MAX_FILE: u64 = 2 * MAX_DOCUMENT as u64 + 1024;
/// How names of files end.
const SUFFIX: &str = ".json";

/// A folder of pins.
pub(super) struct Shelf {
    folder: PathBuf,
    files: AtomicUsize,
    /// One file is written at a time.
    writing: Mutex<()>,
}

/// A pin as it lies on disk.
#[derive(Serialize, Deserialize)]
struct Entry {
    domain: Domain,
    fetched: Timestamp,
    document: String,
}

/// What counts, by domain.
type Pins = Vec<(Domain, Arc<Pin>)>;

impl Shelf {
    /// Opens the folder, made if need be, and reads what counts: what was fetched within `pin` before `now`. The rest is
    /// removed.
    pub(super) fn open(folder: &Path, pin: Duration, now: Timestamp) -> io::Result<(Self, Pins)> {
        fs::create_dir_all(folder)?;
        let mut pins = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match read(&path).filter(|(_, found)| found.fetched <= now && now.since(found.fetched) < pin) {
                Some(found) if pins.len() < MAX_FILES => pins.push(found),
                // What cannot be removed is passed over by the next start as well.
                _ => drop(fs::remove_file(path)),
            }
        }
        let files = AtomicUsize::new(pins.len());
        Ok((Self { folder: folder.to_owned(), files, writing: Mutex::default() }, pins))
    }

    /// Writes and syncs a pin, and puts it in the place of the one before.
    pub(super) async fn put(&self, domain: &Domain, pin: &Pin) -> io::Result<()> {
        let document = pin.facts.to_document().map_err(io::Error::other)?;
        let document = String::from_utf8(document).map_err(io::Error::other)?;
        let entry = Entry { domain: domain.clone(), fetched: pin.fetched, document };
        let path = self.folder.join(format!("{domain}{SUFFIX}"));
        let _turn = self.writing.lock().await;
        if !path.exists() {
            if self.files.load(Ordering::Relaxed) >= MAX_FILES {
                return Err(io::Error::other("there are too many pins"));
            }
            self.files.fetch_add(1, Ordering::Relaxed);
        }
        spawn_blocking(move || write(&path, &entry)).await.map_err(io::Error::other)?
    }
}

/// `None` for what is none of ours, or broken.
fn read(path: &Path) -> Option<(Domain, Arc<Pin>)> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    if fs::metadata(path).ok()?.len() > MAX_FILE {
        return None;
    }
    let entry: Entry = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let facts = DomainFacts::from_document(&entry.domain, entry.document.as_bytes()).ok()?;
    // A document from before a restart is asked for again as soon as its own age says so.
    let pin = Pin { facts: Arc::new(facts), fetched: entry.fetched, asked: entry.fetched };
    (entry.domain.as_str() == name).then(|| (entry.domain, Arc::new(pin)))
}

fn write(path: &Path, entry: &Entry) -> io::Result<()> {
    // An ending that is read by nobody.
    let draft = path.with_extension("json.new");
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec(entry)?)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}
