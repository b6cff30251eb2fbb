//! Verifying a stored message: is what stands below TBR-Reference what the origin signed?
//!
//! Reads the file as a stream, so size does not matter. Where the origin's key comes from is the caller's choice; what the
//! answer means is `reference::judge`'s.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use mail::object::{Checker, Normaliser};
use mail::{Domain, Timestamp};
use reference::stored::{MAX_HEAD, StoredError};
use reference::{Judgement, KeyRecord, LineEnds, Selector, Stored, split_stored, split_stored_lf};

/// A stored message whose head has been read, and the octets of its object counted and hashed.
#[derive(Debug)]
pub struct StoredMessage {
    /// The parts of its head.
    pub stored: Stored,
    /// SHA-256 over the object with CRLF line ends.
    pub xuid: mail::Xuid,
    /// Its octets, likewise.
    pub octets: u64,
}

/// Why a file cannot be judged at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file system.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// It is no stored message with a reference.
    #[error("{0}")]
    Stored(#[from] StoredError),
}

impl StoredMessage {
    /// Reads a message from a file, whatever its size.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn open(path: &Path) -> Result<Self, VerifyError> {
        Self::read(File::open(path)?)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn read(mut source: impl Read) -> Result<Self, VerifyError> {
        let mut head = Vec::new();
        source.by_ref().take(MAX_HEAD as u64 + 1).read_to_end(&mut head)?;
        let stored = split(&head)?;
        let mut hasher = ObjectHasher::new(stored.line_ends);
        hasher.update(&head[stored.object_at..]);
        let mut chunk = vec![0; 256 * 1024];
        loop {
            match source.read(&mut chunk)? {
                0 => break,
                read => hasher.update(&chunk[..read]),
            }
        }
        let checked = hasher.finish();
        Ok(Self { stored, xuid: checked.xuid, octets: checked.size })
    }

    /// Who signed the reference, with which key.
    pub fn signer(&self) -> (&Domain, &Selector) {
        let statement = self.stored.chain.reference().statement();
        (&statement.domain, &statement.selector)
    }

    /// The verdict, given what the signer publishes under that selector.
    pub fn judge(&self, key: Option<&KeyRecord>, now: Timestamp) -> Judgement {
        self.stored.judge(self.xuid, self.octets, key, now)
    }
}

/// A file whose first line ends in a bare LF is an LF copy.
fn split(head: &[u8]) -> Result<Stored, StoredError> {
    let first_end = head.iter().position(|octet| *octet == b'\n');
    match first_end {
        Some(at) if at == 0 || head[at - 1] != b'\r' => split_stored_lf(head),
        _ => split_stored(head),
    }
}

/// Hashes an object, bringing an LF copy back to CRLF.
struct ObjectHasher {
    checker: Checker,
    normaliser: Option<Normaliser>,
    buffer: Vec<u8>,
}

impl ObjectHasher {
    fn new(line_ends: LineEnds) -> Self {
        let normaliser = (line_ends == LineEnds::Lf).then(Normaliser::default);
        Self { checker: Checker::default(), normaliser, buffer: Vec::new() }
    }

    fn update(&mut self, chunk: &[u8]) {
        match &mut self.normaliser {
            None => self.checker.update(chunk),
            Some(normaliser) => {
                self.buffer.clear();
                normaliser.push(chunk, &mut self.buffer);
                self.checker.update(&self.buffer);
            }
        }
    }

    fn finish(self) -> mail::object::Checked {
        self.checker.finish()
    }
}
