//! Writing and reading objects as streams: hashed and judged while they pass, small ones in memory, large ones
//! in a file from the moment they outgrow the limit; under a content coding where that is asked for and pays. Making
//! them durable is left to the commit that names them, objects that come from a repository to `intake`.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mail::Xuid;
use mail::ledger::{ObjectKey, ObjectRef};
use mail::object::{Checked, Checker};
use tokio::sync::{OnceCell, Semaphore};

use crate::chunks::{self, Buffers};
use crate::coding::{Coders, FRAME, Frames, Tally};
use crate::error::StoreError;
use crate::files::{Files, UnderWay, file_key, is_file_key};
use crate::intake::DECODING;
use crate::partials::InUseNames;
use crate::quota::Usage;
use crate::staged::{Content, Staged, StagedFile};

/// Octets written to a file at once.
pub const CHUNK: usize = 128 * 1024;

const ENCODE: &str = "encode an object";

/// Where new objects go.
#[derive(Debug)]
pub(crate) struct Objects {
    pub(crate) staged: Staged,
    /// `None`: everything stays in memory.
    pub(crate) files: Option<Files>,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) coders: Arc<Coders>,
    /// Places for intakes that decode.
    pub(crate) streams: Arc<Semaphore>,
    /// How much is stored, and for whom.
    pub(crate) usage: Usage,
    /// Retrievals that are gone on with.
    pub(crate) in_use: InUseNames,
    pub(crate) inline_limit: usize,
    /// Counts the times that the store was opened: part of every key, so that none is used twice.
    epoch: u64,
    drawn: AtomicU64,
}

impl Objects {
    pub(crate) fn new(staged: Staged, files: Option<Files>, inline_limit: usize, epoch: u64) -> Arc<Self> {
        Arc::new(Self {
            staged,
            files,
            buffers: Arc::default(),
            coders: Arc::default(),
            streams: Arc::new(Semaphore::new(DECODING)),
            usage: Usage::default(),
            in_use: InUseNames::default(),
            inline_limit,
            epoch,
            drawn: AtomicU64::new(0),
        })
    }

    /// A key of an object that is kept in the ledger.
    pub(crate) fn inline_key(&self) -> ObjectKey {
        ObjectKey(format!("i-{}", self.draw()))
    }

    pub(crate) fn draw(&self) -> String {
        format!("{:06x}-{:010x}", self.epoch, self.drawn.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Takes a small object that was made in memory, under a key that the caller chose.
    pub(crate) fn stage(&self, object: &ObjectRef, octets: Bytes) -> Result<(), StoreError> {
        if object.key.0.is_empty() || object.key.0.len() > 64 || is_file_key(&object.key) {
            return Err(StoreError::Misuse("the object key is none, or one of a file"));
        }
        if octets.len() as u64 != object.size || Xuid::of(&octets) != object.xuid || object.coded.is_some() {
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

    pub(crate) fn sweep(&self) {
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
    progress: Option<Progress>,
    buffer: Vec<u8>,
    file: Option<NewFile>,
    /// The last part of what is coded: the next one comes in meanwhile.
    under_way: Option<UnderWay<Written>>,
}

/// A part that was written, or was not: what is known, the file, the buffer, emptied.
type Written = (Progress, File, Vec<u8>, io::Result<()>);

/// What is known of the octets so far.
struct Progress {
    checker: Checker,
    form: Form,
}

/// How the octets are kept.
enum Form {
    Plain,
    /// Coded, if that pays for the first of them.
    ToBeTried,
    Coded(Tally),
}

impl ObjectWriter {
    pub(crate) fn new(objects: Arc<Objects>, is_coded: bool) -> Self {
        objects.sweep();
        let form = if is_coded { Form::ToBeTried } else { Form::Plain };
        let progress = Some(Progress { checker: Checker::default(), form });
        Self { objects, progress, buffer: Vec::new(), file: None, under_way: None }
    }

    /// Appends octets. Uses at most [`CHUNK`] octets of memory once the object has outgrown the inline limit, and two and a
    /// half times as much where it encodes.
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
            // Not an octet more than is used: growing by doubling would, with every connection.
            self.buffer.reserve_exact(CHUNK.saturating_sub(self.buffer.len()));
            self.buffer.extend_from_slice(&octets[..taken]);
            octets = &octets[taken..];
            if self.buffer.len() >= CHUNK {
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
        if self.file.is_some() || self.buffer.len() > self.objects.inline_limit {
            self.flush().await?;
            self.settle().await?;
        }
        let mut progress = self.progress.take().ok_or(StoreError::Misuse("a write was cancelled"))?;
        let (key, content, coded) = match &mut self.file {
            Some(new) => {
                let coded = match progress.form {
                    Form::Coded(tally) => Some(tally.finish()),
                    Form::Plain | Form::ToBeTried => None,
                };
                (new.key.clone(), new.staged()?, coded)
            }
            None => {
                progress.checker.update(&self.buffer);
                let octets = std::mem::take(&mut self.buffer);
                let coded = match progress.form {
                    Form::ToBeTried => self.objects.coders.try_whole(&octets).map_err(StoreError::io(ENCODE))?,
                    Form::Plain | Form::Coded(_) => None,
                };
                let description = coded.as_deref().map(Tally::of);
                let content = Content::Inline(coded.unwrap_or(octets).into());
                (self.objects.inline_key(), content, description)
            }
        };
        self.objects.staged.insert(key.clone(), content)?;
        if let Some(new) = self.file.take() {
            new.keep();
        }
        let checked = progress.checker.finish();
        Ok((ObjectRef { key, xuid: checked.xuid, size: checked.size, coded }, checked))
    }

    /// Hashes, judges, encodes and writes what is buffered, on a thread that may block. Only where that takes long, encoding,
    /// is it worth a second buffer not to wait for it.
    async fn flush(&mut self) -> Result<(), StoreError> {
        let spare = self.settle().await?;
        let mut progress = self.progress.take().ok_or(StoreError::Misuse("a write was cancelled"))?;
        let mut file = match &mut self.file {
            Some(new) => new.file()?,
            None => self.file.insert(NewFile::create(self.objects.clone()).await?).file()?,
        };
        let (mut buffer, coders) = (std::mem::replace(&mut self.buffer, spare), self.objects.coders.clone());
        let goes_on = matches!(progress.form, Form::Coded(_));
        self.under_way = Some(UnderWay::start(move || {
            progress.checker.update(&buffer);
            let written = progress.form.write(&buffer, &coders, &mut file);
            buffer.clear();
            (progress, file, buffer, written)
        }));
        if !goes_on {
            self.buffer = self.settle().await?;
        }
        Ok(())
    }

    /// Waits until what was flushed is written; answers with its buffer.
    async fn settle(&mut self) -> Result<Vec<u8>, StoreError> {
        let Some(under_way) = &mut self.under_way else { return Ok(Vec::new()) };
        let ended = under_way.end().await;
        self.under_way = None;
        let (progress, file, buffer, written) = ended?;
        written.map_err(StoreError::io("write an object file"))?;
        if let Some(new) = &mut self.file {
            new.file = Some(file);
        }
        self.progress = Some(progress);
        Ok(buffer)
    }
}

impl Form {
    /// Writes at most [`FRAME`] octets in this form; the first ones decide about it.
    fn write(&mut self, octets: &[u8], coders: &Coders, file: &mut File) -> io::Result<()> {
        const { assert!(CHUNK <= FRAME) }
        let coded = match self {
            Self::Plain => None,
            Self::ToBeTried => coders.try_first(octets)?,
            Self::Coded(_) => Some(coders.encode(octets)?),
        };
        let Some(coded) = coded else {
            *self = Self::Plain;
            return file.write_all(octets);
        };
        let mut tally = match std::mem::replace(self, Self::Plain) {
            Self::Coded(tally) => tally,
            Self::Plain | Self::ToBeTried => Tally::default(),
        };
        tally.add(&coded);
        *self = Self::Coded(tally);
        file.write_all(&coded)
    }
}

impl fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectWriter")
    }
}

/// A file that is removed unless it is kept.
pub(crate) struct NewFile {
    objects: Arc<Objects>,
    pub(crate) key: ObjectKey,
    /// Absent while something is written to it.
    pub(crate) file: Option<File>,
    pub(crate) keep: bool,
}

impl NewFile {
    pub(crate) async fn create(objects: Arc<Objects>) -> Result<Self, StoreError> {
        let key = file_key(&objects.draw());
        // The guard comes first: a caller that is cancelled while the file is created leaves nothing.
        let mut new = Self { objects, key, file: None, keep: false };
        let files = new.objects.files.as_ref().ok_or(StoreError::Misuse("this store has no files"))?;
        new.file = Some(files.create(&new.key).await?);
        Ok(new)
    }

    /// A file that was begun before and is named by a record.
    pub(crate) async fn open(objects: Arc<Objects>, key: ObjectKey) -> Result<Self, StoreError> {
        let files = objects.files.as_ref().ok_or(StoreError::Misuse("this store has no files"))?;
        if !is_file_key(&key) {
            return Err(StoreError::Misuse("the object key is none of a file"));
        }
        let file = Some(files.open_to_write(&key).await?);
        Ok(Self { objects, key, file, keep: true })
    }

    pub(crate) fn file(&mut self) -> Result<File, StoreError> {
        self.file.take().ok_or(StoreError::Misuse("a write was cancelled"))
    }

    /// The finished file as content.
    pub(crate) fn staged(&mut self) -> Result<Content, StoreError> {
        Ok(Content::File(Arc::new(StagedFile { file: self.file()?, synced: OnceCell::new() })))
    }

    pub(crate) fn keep(mut self) {
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
    key: ObjectKey,
    source: Source,
    rest: Range<u64>,
    decoding: Option<Decoding>,
}

enum Source {
    Octets(Bytes),
    File(Arc<File>, Arc<Buffers>),
}

/// Decodes what the source has.
struct Decoding {
    coders: Arc<Coders>,
    frames: Frames,
    /// Coded octets not read yet.
    coded: Range<u64>,
    /// Decoded ones at hand, and where in the object the next ones stand.
    ready: Bytes,
    at: u64,
}

/// Which octets of an object are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Octets {
    /// Its own.
    Decoded,
    /// Those that are stored.
    AsStored,
}

impl ObjectReader {
    pub(crate) fn of_octets(
        object: &ObjectRef,
        stored: Bytes,
        coders: &Arc<Coders>,
        octets: Octets,
        range: Range<u64>,
    ) -> Result<Self, StoreError> {
        if stored.len() as u64 != object.stored_size() {
            let detail = format!("it has {} octets instead of {}", stored.len(), object.stored_size());
            return Err(StoreError::DamagedObject { key: object.key.clone(), detail });
        }
        Ok(Self::new(object, Source::Octets(stored), coders, octets, range))
    }

    pub(crate) fn of_file(
        object: &ObjectRef,
        file: File,
        objects: &Objects,
        octets: Octets,
        range: Range<u64>,
    ) -> Self {
        let source = Source::File(Arc::new(file), objects.buffers.clone());
        Self::new(object, source, &objects.coders, octets, range)
    }

    fn new(object: &ObjectRef, source: Source, coders: &Arc<Coders>, octets: Octets, range: Range<u64>) -> Self {
        let decoding = object.coded.filter(|_| octets == Octets::Decoded).map(|coded| Decoding {
            coders: coders.clone(),
            frames: Frames::default(),
            coded: 0..coded.size,
            ready: Bytes::new(),
            at: 0,
        });
        let size = if octets == Octets::Decoded { object.size } else { object.stored_size() };
        Self { key: object.key.clone(), source, rest: clip(range, size), decoding }
    }

    /// Octets still to come.
    pub fn remaining(&self) -> u64 {
        self.rest.end - self.rest.start
    }

    /// The next octets, at most 64 KiB; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::DamagedObject`] where the file ends too early or cannot be decoded; [`StoreError::Io`].
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        let length = self.remaining().min(chunks::READ as u64);
        if length == 0 {
            return Ok(None);
        }
        let chunk = match &mut self.decoding {
            None => self.source.read(&self.key, self.rest.start, length as usize).await?,
            Some(decoding) => decoding.read(&self.source, &self.key, self.rest.start, length as usize).await?,
        };
        self.rest.start += chunk.len() as u64;
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
        if let (Source::Octets(octets), None) = (&self.source, &self.decoding) {
            return Ok(octets.slice(self.rest.start as usize..self.rest.end as usize));
        }
        let mut all = Vec::with_capacity(self.remaining() as usize);
        while let Some(chunk) = self.next_chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.into())
    }
}

impl Source {
    /// At most `length` octets from `from` on, and one at least.
    async fn read(&self, key: &ObjectKey, from: u64, length: usize) -> Result<Bytes, StoreError> {
        match self {
            Self::Octets(octets) => Ok(octets.slice(from as usize..from as usize + length)),
            Self::File(file, buffers) => {
                chunks::read(buffers, file, from, length).await?.map_err(|error| failed(key, error))
            }
        }
    }
}

impl Decoding {
    /// At most `length` decoded octets from `from` on, and one at least; positions only grow.
    async fn read(&mut self, source: &Source, key: &ObjectKey, from: u64, length: usize) -> Result<Bytes, StoreError> {
        let damaged = |detail: String| StoreError::DamagedObject { key: key.clone(), detail };
        while self.at + self.ready.len() as u64 <= from {
            self.at += self.ready.len() as u64;
            match self.frames.next(&self.coders).map_err(|bad| damaged(bad.to_string()))? {
                Some(octets) => self.ready = octets.into(),
                None => {
                    self.ready = Bytes::new();
                    let more = (self.coded.end - self.coded.start).min(chunks::READ as u64);
                    if more == 0 {
                        return Err(damaged("its coded octets end too early".into()));
                    }
                    let coded = source.read(key, self.coded.start, more as usize).await?;
                    self.coded.start += coded.len() as u64;
                    self.frames.push(&coded);
                    // Whoever wants the end of a large object lets others run meanwhile.
                    tokio::task::coop::consume_budget().await;
                }
            }
        }
        let skipped = (from - self.at) as usize;
        let chunk = self.ready.slice(skipped..self.ready.len().min(skipped + length));
        Ok(chunk)
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

fn failed(key: &ObjectKey, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            StoreError::DamagedObject { key: key.clone(), detail: "its file is too short".into() }
        }
        _ => StoreError::io("read an object file")(error),
    }
}
