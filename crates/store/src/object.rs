//! Writing and reading objects as streams: hashed and judged while they pass, small ones in memory, large ones
//! in a file from the moment they outgrow the limit. Making them durable is left to the commit that names them.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mail::Xuid;
use mail::ledger::{ObjectKey, ObjectRef};
use mail::object::{Checked, Checker};
use tokio::sync::OnceCell;

use crate::error::StoreError;
use crate::files::{Files, blocking, file_key, is_file_key};
use crate::staged::{Content, Staged, StagedFile};

/// Octets written to or read from a file at once.
pub const CHUNK: usize = 128 * 1024;

/// Where new objects go.
#[derive(Debug)]
pub(crate) struct Objects {
    pub(crate) staged: Staged,
    /// `None`: everything stays in memory.
    pub(crate) files: Option<Files>,
    inline_limit: usize,
    /// Counts the times that the store was opened: part of every key, so that none is used twice.
    epoch: u64,
    drawn: AtomicU64,
}

impl Objects {
    pub(crate) fn new(staged: Staged, files: Option<Files>, inline_limit: usize, epoch: u64) -> Arc<Self> {
        Arc::new(Self { staged, files, inline_limit, epoch, drawn: AtomicU64::new(0) })
    }

    fn draw(&self) -> String {
        format!("{:06x}-{:010x}", self.epoch, self.drawn.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Takes a small object that was made in memory, under a key that the caller chose.
    pub(crate) fn stage(&self, object: &ObjectRef, octets: Bytes) -> Result<(), StoreError> {
        if object.key.0.is_empty() || object.key.0.len() > 64 || is_file_key(&object.key) {
            return Err(StoreError::Misuse("the object key is none, or one of a file"));
        }
        if octets.len() as u64 != object.size || Xuid::of(&octets) != object.xuid {
            return Err(StoreError::Misuse("the octets are not the object"));
        }
        self.staged.insert(object.key.clone(), Content::Inline(octets))
    }

    /// Forgets an object that no row will name.
    pub(crate) fn discard(&self, key: &ObjectKey) {
        if let Some(Content::File(_)) = self.staged.take(key) {
            self.remove_file(key.clone());
        }
    }

    /// Was this key drawn since the store was opened?
    pub(crate) fn is_of_this_run(&self, key: &ObjectKey) -> bool {
        key.0.split('-').nth(1) == Some(&format!("{:06x}", self.epoch))
    }

    fn sweep(&self) {
        for key in self.staged.sweep() {
            self.remove_file(key);
        }
    }

    pub(crate) fn remove_file(&self, key: ObjectKey) {
        if let Some(files) = &self.files {
            files.remove(key);
        }
    }
}

/// A new object on its way into the store. Dropped before [`ObjectWriter::finish`], it leaves nothing behind.
pub struct ObjectWriter {
    objects: Arc<Objects>,
    /// Absent while a write is under way: a write that was cancelled leaves nothing that could be finished.
    checker: Option<Checker>,
    buffer: Vec<u8>,
    file: Option<NewFile>,
}

impl ObjectWriter {
    pub(crate) fn new(objects: Arc<Objects>) -> Self {
        objects.sweep();
        Self { objects, checker: Some(Checker::default()), buffer: Vec::new(), file: None }
    }

    /// Appends octets. Uses at most [`CHUNK`] octets of memory once the object has outgrown the inline limit.
    ///
    /// # Errors
    /// [`StoreError::Io`], for instance when the disk is full: drop the writer then.
    pub async fn write(&mut self, mut octets: &[u8]) -> Result<(), StoreError> {
        while !octets.is_empty() {
            if self.file.is_none() && self.buffer.len() + octets.len() <= self.objects.inline_limit {
                self.buffer.extend_from_slice(octets);
                return Ok(());
            }
            let taken = octets.len().min(CHUNK.saturating_sub(self.buffer.len()));
            self.buffer.extend_from_slice(&octets[..taken]);
            octets = &octets[taken..];
            if self.buffer.len() >= CHUNK || self.file.is_none() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// The end of the object: its name, size and place, and what the octets are. The object is not durable yet
    /// and vanishes with the process, or after an hour, unless a row that names it is committed.
    ///
    /// # Errors
    /// As [`ObjectWriter::write`]; [`StoreError::Overloaded`] when too many finished objects wait for a commit.
    pub async fn finish(mut self) -> Result<(ObjectRef, Checked), StoreError> {
        if self.file.is_some() {
            self.flush().await?;
        }
        let mut checker = self.checker.take().ok_or(StoreError::Misuse("a write was cancelled"))?;
        let (key, content) = match &mut self.file {
            Some(new) => {
                let staged = StagedFile { file: new.file()?, synced: OnceCell::new() };
                (new.key.clone(), Content::File(Arc::new(staged)))
            }
            None => {
                checker.update(&self.buffer);
                let octets = Bytes::from(std::mem::take(&mut self.buffer));
                (ObjectKey(format!("i-{}", self.objects.draw())), Content::Inline(octets))
            }
        };
        self.objects.staged.insert(key.clone(), content)?;
        if let Some(new) = self.file.take() {
            new.keep();
        }
        let checked = checker.finish();
        Ok((ObjectRef { key, xuid: checked.xuid, size: checked.size }, checked))
    }

    /// Hashes, judges and writes what is buffered, on a thread that may block.
    async fn flush(&mut self) -> Result<(), StoreError> {
        let mut checker = self.checker.take().ok_or(StoreError::Misuse("a write was cancelled"))?;
        let mut file = match &mut self.file {
            Some(new) => new.file()?,
            None => self.file.insert(NewFile::create(self.objects.clone()).await?).file()?,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let work = move || {
            checker.update(&buffer);
            let written = file.write_all(&buffer);
            buffer.clear();
            (checker, file, buffer, written)
        };
        let (checker, file, buffer, written) = blocking(work).await?;
        written.map_err(StoreError::io("write an object file"))?;
        if let Some(new) = &mut self.file {
            new.file = Some(file);
        }
        (self.checker, self.buffer) = (Some(checker), buffer);
        Ok(())
    }
}

impl fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectWriter")
    }
}

/// A file that is removed unless it is kept.
struct NewFile {
    objects: Arc<Objects>,
    key: ObjectKey,
    file: Option<File>,
    keep: bool,
}

impl NewFile {
    async fn create(objects: Arc<Objects>) -> Result<Self, StoreError> {
        let key = file_key(&objects.draw());
        // The guard comes first: a caller that is cancelled while the file is created leaves nothing.
        let mut new = Self { objects, key, file: None, keep: false };
        let files = new.objects.files.as_ref().ok_or(StoreError::Misuse("this store has no files"))?;
        new.file = Some(files.create(&new.key).await?);
        Ok(new)
    }

    fn file(&mut self) -> Result<File, StoreError> {
        self.file.take().ok_or(StoreError::Misuse("a write was cancelled"))
    }

    fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.keep {
            self.objects.remove_file(self.key.clone());
        }
    }
}

/// The octets of an object, or of a range of it, chunk by chunk. Goes on even when the object is removed meanwhile.
pub struct ObjectReader {
    source: Source,
    rest: Range<u64>,
}

enum Source {
    Octets(Bytes),
    File(ObjectKey, Arc<File>),
}

impl ObjectReader {
    pub(crate) fn of_octets(object: &ObjectRef, octets: Bytes, range: Range<u64>) -> Result<Self, StoreError> {
        if octets.len() as u64 != object.size {
            let detail = format!("it has {} octets instead of {}", octets.len(), object.size);
            return Err(StoreError::DamagedObject { key: object.key.clone(), detail });
        }
        Ok(Self { source: Source::Octets(octets), rest: clip(range, object.size) })
    }

    pub(crate) fn of_file(object: &ObjectRef, file: File, range: Range<u64>) -> Self {
        Self { source: Source::File(object.key.clone(), Arc::new(file)), rest: clip(range, object.size) }
    }

    /// Octets still to come.
    pub fn remaining(&self) -> u64 {
        self.rest.end - self.rest.start
    }

    /// The next at most [`CHUNK`] octets; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::DamagedObject`] where the file ends too early; [`StoreError::Io`].
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        let (from, length) = (self.rest.start, self.remaining().min(CHUNK as u64));
        if length == 0 {
            return Ok(None);
        }
        let chunk = match &self.source {
            Source::Octets(octets) => octets.slice(from as usize..(from + length) as usize),
            Source::File(key, file) => read_at(key, file.clone(), from, length as usize).await?,
        };
        self.rest.start += length;
        Ok(Some(chunk))
    }

    /// All octets that are still to come, if they are at most `limit`.
    ///
    /// # Errors
    /// As [`ObjectReader::next_chunk`]; [`StoreError::Misuse`] for more than `limit` octets.
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, StoreError> {
        if self.remaining() > limit {
            return Err(StoreError::Misuse("the object is larger than the caller's limit"));
        }
        if let Source::Octets(octets) = &self.source {
            return Ok(octets.slice(self.rest.start as usize..self.rest.end as usize));
        }
        let mut all = Vec::with_capacity(self.remaining() as usize);
        while let Some(chunk) = self.next_chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.into())
    }
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectReader({:?})", self.rest)
    }
}

fn clip(range: Range<u64>, size: u64) -> Range<u64> {
    let end = range.end.min(size);
    range.start.min(end)..end
}

async fn read_at(key: &ObjectKey, file: Arc<File>, from: u64, length: usize) -> Result<Bytes, StoreError> {
    let read = move || {
        let mut octets = vec![0; length];
        file.read_exact_at(&mut octets, from).map(|()| Bytes::from(octets))
    };
    match blocking(read).await? {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(StoreError::DamagedObject { key: key.clone(), detail: "its file is too short".into() })
        }
        result => result.map_err(StoreError::io("read an object file")),
    }
}
