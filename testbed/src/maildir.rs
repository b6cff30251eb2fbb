//! Reading what a peer delivered into a Maildir.
//!
//! It leaves delivering and removing to others.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;

use crate::wait;

/// A Maildir that may not exist yet.
#[derive(Debug, Clone)]
pub struct Maildir {
    path: PathBuf,
}

impl Maildir {
    /// The Maildir at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All messages in `new` and `cur`, those written first before the others: names say nothing of that, some are random.
    #[must_use]
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let mut files: Vec<(SystemTime, PathBuf)> = ["new", "cur"]
            .iter()
            .filter_map(|part| fs::read_dir(self.path.join(part)).ok())
            .flat_map(|entries| entries.flatten())
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        files.iter().filter_map(|(_, file)| fs::read(file).ok()).collect()
    }

    /// Waits until at least `count` messages are there.
    ///
    /// # Errors
    /// When there are fewer by the deadline.
    pub fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<Vec<u8>>> {
        let what = format!("{count} messages in {}", self.path.display());
        wait::until(&what, limit, || {
            let found = self.messages();
            (found.len() >= count).then_some(found)
        })
    }

    /// Waits for one message that contains `text`.
    ///
    /// # Errors
    /// When there is none by the deadline.
    pub fn wait_for_text(&self, text: &str, limit: Duration) -> Result<Vec<u8>> {
        let what = format!("a message with {text:?} in {}", self.path.display());
        wait::until(&what, limit, || self.messages().into_iter().find(|message| contains(message, text.as_bytes())))
    }
}

fn contains(message: &[u8], text: &[u8]) -> bool {
    message.windows(text.len().max(1)).any(|part| part == text)
}
