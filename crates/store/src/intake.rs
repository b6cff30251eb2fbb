//! Objects that come from a repository: kept as they are received, decoded and hashed while they pass, and not lost with
//! the connection.
//!
//! A retrieval may break off, and the process may end: what has come is recorded now and then, synced first, and the next
//! retrieval of the same object from the same origin goes on behind it. How many of these there may be is said in
//! `partials`; asking for octets, and what is wrong with those that came, is left to the caller.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mail::ledger::{Coded, Coding, ObjectKey, ObjectRef, Representation, by_held_object};
use mail::object::{Checked, Checker};
use mail::{Holder, Timestamp, Xuid};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Store;
use crate::coding::{BadCoding, Stream, Tally};
use crate::error::StoreError;
use crate::files::{UnderWay, blocking};
use crate::object::{CHUNK, NewFile, Objects};
use crate::partials::{InUse, Partial};
use crate::staged::Content;

/// Octets are recorded when the last record is so old.
const RECORD_EVERY: Duration = Duration::from_secs(2);
/// Fewer octets are not worth a record.
const WORTH_RECORDING: u64 = 4096;
/// Most intakes at a time that decode: each may need a window of 8 MiB.
pub(crate) const DECODING: usize = 32;

/// Which object is wanted, and where from.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The signing domain, or the site that uploads: what another one has sent is never gone on with.
    pub origin: Holder,
    /// The object.
    pub xuid: Xuid,
    /// Its size, in octets: no more are decoded.
    pub size: u64,
    /// After this it cannot be retrieved any more, and what was kept of it is thrown away.
    pub until: Timestamp,
    /// The time.
    pub now: Timestamp,
}

/// Why octets were not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IntakeError {
    /// The store failed: not the sender's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// They cannot be the object.
    #[error(transparent)]
    Bad(#[from] BadCoding),
}

/// An object on its way in from a repository. Dropped, it leaves what was recorded; [`Intake::keep`] records all.
pub struct Intake {
    store: Store,
    wanted: Wanted,
    /// Nobody else goes on with the same object now; otherwise nothing is recorded.
    in_use: Option<InUse>,
    decoding: Option<OwnedSemaphorePermit>,
    representation: Option<Representation>,
    /// Absent while a write is under way.
    progress: Option<Progress>,
    /// Octets received that are in no file yet.
    buffer: Vec<u8>,
    file: Option<NewFile>,
    /// The last part that went to the file: the next one comes in meanwhile.
    under_way: Option<UnderWay<Taken>>,
    /// Octets in the file or on the way into it, and those of them that are recorded.
    filed: u64,
    recorded: u64,
    since: Instant,
}

/// A part that was looked at, and written: at the same time, for either takes about as long.
type Taken = Result<(LookedAt, Written), StoreError>;
type LookedAt = (Decoded, Result<(), BadCoding>);
/// Its buffer as well.
type Written = (Received, File, Arc<Vec<u8>>, io::Result<()>);

/// What is known of the octets so far.
struct Progress {
    decoded: Decoded,
    received: Received,
}

/// What they are octets of.
struct Decoded {
    checker: Checker,
    /// Where they are coded.
    stream: Option<Stream>,
}

/// The octets as received: counted where they are coded.
struct Received(Option<Tally>);

impl Progress {
    fn new(coding: Option<Coding>, size: u64) -> Result<Self, BadCoding> {
        let stream = coding.map(|Coding::Zstd| Stream::new(size)).transpose()?;
        let received = Received(stream.is_some().then(Tally::default));
        Ok(Self { decoded: Decoded { checker: Checker::default(), stream }, received })
    }

    fn take(&mut self, octets: &[u8]) -> Result<(), BadCoding> {
        self.received.add(octets);
        self.decoded.take(octets)
    }
}

impl Decoded {
    fn take(&mut self, received: &[u8]) -> Result<(), BadCoding> {
        let Some(stream) = &mut self.stream else {
            self.checker.update(received);
            return Ok(());
        };
        stream.push(received, |octets| self.checker.update(octets))
    }
}

impl Received {
    fn add(&mut self, octets: &[u8]) {
        if let Some(tally) = &mut self.0 {
            tally.add(octets);
        }
    }
}

impl Intake {
    pub(crate) async fn open(store: Store, wanted: Wanted) -> Result<Self, StoreError> {
        let objects = store.objects().clone();
        objects.sweep();
        let name = by_held_object(&wanted.origin, &wanted.xuid);
        let decoding = objects.streams.clone().try_acquire_owned().ok();
        let mut intake = Self {
            in_use: objects.in_use.take(name),
            store,
            wanted,
            decoding,
            representation: None,
            progress: None,
            buffer: Vec::new(),
            file: None,
            under_way: None,
            filed: 0,
            recorded: 0,
            since: Instant::now(),
        };
        if let Some(in_use) = &intake.in_use
            && let Some((partial, octets)) = intake.store.partial(in_use.name()).await?
        {
            intake.go_on(partial, octets, &objects.streams).await?;
        }
        Ok(intake)
    }

    /// May what is received be coded? Only so many retrievals decode at a time.
    pub fn takes_codings(&self) -> bool {
        self.decoding.is_some()
    }

    /// What is here of the object, and under which representation: the octets to come are those behind it.
    pub fn held(&self) -> Option<(&Representation, u64)> {
        let octets = self.filed + self.buffer.len() as u64;
        self.representation.as_ref().filter(|_| octets > 0).map(|representation| (representation, octets))
    }

    /// The octets to come are the first of this representation; those that came before are forgotten.
    ///
    /// # Errors
    /// [`IntakeError::Store`]; [`IntakeError::Bad`] where nothing can be decoded now.
    pub async fn begin(&mut self, representation: Representation) -> Result<(), IntakeError> {
        self.forget().await?;
        self.progress = Some(Progress::new(representation.coding, self.wanted.size)?);
        self.representation = Some(representation);
        self.since = Instant::now();
        Ok(())
    }

    /// Takes the next octets, and looks at them while others come.
    ///
    /// # Errors
    /// [`IntakeError::Bad`] where those before decode to more than the object's size, or not at all.
    pub async fn write(&mut self, mut octets: &[u8]) -> Result<(), IntakeError> {
        while !octets.is_empty() {
            let room = if self.has_files() { CHUNK.saturating_sub(self.buffer.len()) } else { usize::MAX };
            let taken = octets.len().min(room);
            self.buffer.extend_from_slice(&octets[..taken]);
            octets = &octets[taken..];
            if self.has_files() && self.buffer.len() >= CHUNK {
                self.flush().await?;
            }
        }
        if self.since.elapsed() >= RECORD_EVERY {
            self.record().await?;
        }
        Ok(())
    }

    /// All octets have come: the object, as [`crate::ObjectWriter::finish`] has it. Whether it is the one that was wanted
    /// is the caller's to see.
    ///
    /// # Errors
    /// As [`Intake::write`]; [`IntakeError::Bad`] also where the coded octets end too early.
    pub async fn finish(&mut self) -> Result<(ObjectRef, Checked), IntakeError> {
        let objects = self.store.objects().clone();
        if self.has_files() && (self.file.is_some() || self.buffer.len() > objects.inline_limit) {
            self.flush().await?;
            self.settle().await?;
        }
        let mut progress = self.progress.take().ok_or(StoreError::Misuse("a write was cancelled"))?;
        if self.file.is_none() {
            progress.take(&self.buffer)?;
        }
        if let (false, true, Some(in_use)) = (self.has_files(), self.recorded > 0, &self.in_use) {
            self.store.forget_partial(in_use.name()).await?;
        }
        let Progress { decoded: Decoded { checker, stream }, received: Received(tally) } = progress;
        let has_our_shape = stream.map(|stream| stream.finish()).transpose()?;
        if has_our_shape == Some(false) {
            self.decode().await?;
        }
        let coded = tally.filter(|_| has_our_shape == Some(true)).map(Tally::finish);
        self.stage(&objects, checker.finish(), coded)
    }

    /// Records everything that has come, so that another retrieval can go on, also after a power cut.
    ///
    /// # Errors
    /// [`IntakeError::Store`]: what was recorded before still is.
    pub async fn keep(mut self) -> Result<(), IntakeError> {
        self.record().await
    }

    /// Does nobody else go on with the same object now? Otherwise nothing of this intake is recorded.
    pub fn is_alone(&self) -> bool {
        self.in_use.is_some()
    }

    /// Records everything that has come, however little; it is durable then, and can still be gone on with.
    ///
    /// # Errors
    /// [`IntakeError::Store`]; [`StoreError::Misuse`] where it cannot be recorded.
    pub async fn secure(&mut self) -> Result<(), IntakeError> {
        let octets = self.filed + self.buffer.len() as u64;
        if octets > self.recorded {
            self.record_all(octets).await?;
        }
        let is_recorded = self.recorded == octets;
        if is_recorded {
            Ok(())
        } else {
            Err(StoreError::Misuse("what has come of an object cannot be recorded").into())
        }
    }

    /// Is what has come the object that is wanted, as it is and to its last octet?
    ///
    /// # Errors
    /// [`IntakeError::Store`] where it cannot be written.
    pub async fn is_wanted(&mut self) -> Result<bool, IntakeError> {
        self.settle().await?;
        let Some(progress) = &self.progress else { return Ok(false) };
        let mut checker = progress.decoded.checker.clone();
        // What is in no file yet has not been looked at.
        checker.update(&self.buffer);
        let is_plain = progress.decoded.stream.is_none();
        Ok(is_plain && checker.finish().xuid == self.wanted.xuid)
    }

    /// Throws away what has come, for good.
    ///
    /// # Errors
    /// [`StoreError`] where the record of it cannot be removed.
    pub async fn forget(&mut self) -> Result<(), StoreError> {
        (self.progress, self.representation, self.under_way) = (None, None, None);
        self.buffer.clear();
        if let (true, Some(in_use)) = (self.recorded > 0, &self.in_use) {
            self.store.forget_partial(in_use.name()).await?;
        }
        if let Some(mut file) = self.file.take() {
            file.keep = false;
        }
        (self.filed, self.recorded) = (0, 0);
        Ok(())
    }

    fn has_files(&self) -> bool {
        self.store.objects().files.is_some()
    }

    /// Goes on with what was recorded, if it is still what it was.
    async fn go_on(
        &mut self,
        partial: Partial,
        octets: Option<Bytes>,
        streams: &Arc<Semaphore>,
    ) -> Result<(), StoreError> {
        if partial.representation.coding.is_some() && self.decoding.is_none() {
            self.decoding = streams.clone().acquire_owned().await.ok();
        }
        self.recorded = partial.octets;
        match self.replay(&partial, octets).await {
            Ok(()) => {
                self.representation = Some(partial.representation);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "what was kept of a retrieval cannot be gone on with");
                self.store.objects().remove_file(partial.object);
                self.forget().await
            }
        }
    }

    /// Hashes what was recorded, once more.
    async fn replay(&mut self, partial: &Partial, octets: Option<Bytes>) -> Result<(), IntakeError> {
        let mut progress = Progress::new(partial.representation.coding, self.wanted.size)?;
        if let Some(octets) = octets {
            // What is in no file is looked at in the end.
            (self.progress, self.buffer) = (Some(progress), octets.to_vec());
            return Ok(());
        }
        let objects = self.store.objects().clone();
        let mut file = NewFile::open(objects, partial.object.clone()).await?;
        let (mut handle, length) = (file.file()?, partial.octets);
        let work = move || {
            let replayed = replay_file(&mut handle, length, &mut progress);
            (progress, handle, replayed)
        };
        let (progress, handle, replayed) = blocking(work).await?;
        file.file = Some(handle);
        replayed.map_err(StoreError::io("read an object file"))??;
        (self.progress, self.file, self.filed) = (Some(progress), Some(file), length);
        Ok(())
    }

    /// Decodes, hashes and writes what is buffered, on threads that may block, and does not wait for it.
    async fn flush(&mut self) -> Result<(), IntakeError> {
        let spare = self.settle().await?;
        let progress = self.progress.take().ok_or(StoreError::Misuse("a write was cancelled"))?;
        let mut file = match &mut self.file {
            Some(file) => file.file()?,
            None => self.file.insert(NewFile::create(self.store.objects().clone()).await?).file()?,
        };
        let octets = Arc::new(std::mem::replace(&mut self.buffer, spare));
        self.filed += octets.len() as u64;
        let (Progress { mut decoded, mut received }, seen) = (progress, octets.clone());
        let look_at = move || {
            let judged = decoded.take(&seen);
            drop(seen);
            (decoded, judged)
        };
        let write = move || {
            received.add(&octets);
            let written = file.write_all(&octets);
            (received, file, octets, written)
        };
        self.under_way = Some(UnderWay::both(look_at, write));
        Ok(())
    }

    /// Waits until what was flushed is written; answers with its buffer.
    async fn settle(&mut self) -> Result<Vec<u8>, IntakeError> {
        let Some(under_way) = &mut self.under_way else { return Ok(Vec::new()) };
        let ended = under_way.end().await;
        self.under_way = None;
        let ((decoded, judged), (received, file, octets, written)) = ended??;
        if let Some(new) = &mut self.file {
            new.file = Some(file);
        }
        written.map_err(StoreError::io("write an object file"))?;
        judged?;
        self.progress = Some(Progress { decoded, received });
        let mut spare = Arc::unwrap_or_clone(octets);
        spare.clear();
        Ok(spare)
    }

    /// Makes what has come durable, and then its record.
    async fn record(&mut self) -> Result<(), IntakeError> {
        let octets = self.filed + self.buffer.len() as u64;
        if octets < self.recorded + WORTH_RECORDING {
            self.since = Instant::now();
            return Ok(());
        }
        self.record_all(octets).await
    }

    async fn record_all(&mut self, octets: u64) -> Result<(), IntakeError> {
        self.since = Instant::now();
        let is_known = self.representation.as_ref().is_some_and(|r| r.tag.is_some());
        if self.in_use.is_none() || !is_known {
            return Ok(());
        }
        let memory = match self.has_files() {
            true => {
                self.flush().await?;
                self.settle().await?;
                self.sync().await?;
                None
            }
            false => Some(Bytes::copy_from_slice(&self.buffer)),
        };
        let object = self.file.as_ref().map_or_else(|| ObjectKey(String::new()), |file| file.key.clone());
        if let (Some(in_use), Some(representation)) = (&self.in_use, &self.representation) {
            let partial = Partial {
                name: in_use.name().to_owned(),
                origin: self.wanted.origin.to_string(),
                object,
                octets,
                since: self.wanted.now,
                until: self.wanted.until,
                representation: representation.clone(),
            };
            // Once a record names the file it outlives this intake; better a file too many than a record without one.
            if let Some(file) = &mut self.file {
                file.keep = true;
            }
            self.store.record_partial(partial, memory).await?;
            self.recorded = octets;
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), StoreError> {
        let objects = self.store.objects().clone();
        let (Some(new), Some(files)) = (&mut self.file, &objects.files) else { return Ok(()) };
        let (file, synced) = files.sync_open(new.file()?).await?;
        new.file = Some(file);
        synced.map_err(StoreError::io("sync an object file"))
    }

    /// Replaces coded octets of a shape that is not read here by the object's own.
    async fn decode(&mut self) -> Result<(), IntakeError> {
        let objects = self.store.objects().clone();
        let (size, mut stream) = (self.wanted.size, Stream::new(self.wanted.size)?);
        let Some(mut old) = self.file.take() else {
            let coded = std::mem::take(&mut self.buffer);
            if size > objects.inline_limit as u64 {
                return self.decode_into_file(io::Cursor::new(coded), stream).await;
            }
            stream.push(&coded, |octets| self.buffer.extend_from_slice(octets))?;
            return Ok(());
        };
        let mut source = old.file()?;
        source.seek(SeekFrom::Start(0)).map_err(StoreError::io("read an object file"))?;
        self.decode_into_file(source, stream).await?;
        if let (true, Some(in_use)) = (self.recorded > 0, &self.in_use) {
            self.store.forget_partial(in_use.name()).await?;
        }
        (self.recorded, old.keep) = (0, false);
        Ok(())
    }

    async fn decode_into_file(
        &mut self,
        mut source: impl io::Read + Send + 'static,
        mut stream: Stream,
    ) -> Result<(), IntakeError> {
        let mut new = NewFile::create(self.store.objects().clone()).await?;
        let mut file = new.file()?;
        let work = move || decode_all(&mut source, &mut stream, &mut file).map(|decoded| (file, decoded));
        let (file, decoded) = blocking(work).await?.map_err(StoreError::io("decode an object"))?;
        decoded?;
        new.file = Some(file);
        self.file = Some(new);
        Ok(())
    }

    /// Hands the object over to the commit that will name it.
    fn stage(
        &mut self,
        objects: &Objects,
        checked: Checked,
        coded: Option<Coded>,
    ) -> Result<(ObjectRef, Checked), IntakeError> {
        let (key, content) = match &mut self.file {
            Some(file) => (file.key.clone(), file.staged()?),
            None => (objects.inline_key(), Content::Inline(std::mem::take(&mut self.buffer).into())),
        };
        objects.staged.insert(key.clone(), content)?;
        if let Some(file) = self.file.take() {
            file.keep();
        }
        Ok((ObjectRef { key, xuid: checked.xuid, size: checked.size, coded }, checked))
    }
}

/// Decodes all of `source` into `file`; within, what is wrong with its octets.
fn decode_all(source: &mut impl io::Read, stream: &mut Stream, file: &mut File) -> io::Result<Result<(), BadCoding>> {
    let (mut buffer, mut written) = (vec![0; CHUNK], Ok(()));
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            return Ok(Ok(()));
        }
        let decoded = stream.push(&buffer[..read], |octets| {
            if written.is_ok() {
                written = file.write_all(octets);
            }
        });
        std::mem::replace(&mut written, Ok(()))?;
        if decoded.is_err() {
            return Ok(decoded);
        }
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("wanted", &self.wanted).field("held", &self.held()).finish_non_exhaustive()
    }
}

/// Reads so many octets from the beginning of a file and leaves it at their end; what lies behind them was never
/// recorded, and may be anything.
fn replay_file(file: &mut File, length: u64, progress: &mut Progress) -> io::Result<Result<(), BadCoding>> {
    if file.metadata()?.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.set_len(length)?;
    file.seek(SeekFrom::Start(0))?;
    let (mut buffer, mut left) = (vec![0; CHUNK], length);
    while left > 0 {
        let part = &mut buffer[..left.min(CHUNK as u64) as usize];
        file.read_exact(part)?;
        left -= part.len() as u64;
        if let Err(bad) = progress.take(part) {
            return Ok(Err(bad));
        }
    }
    Ok(Ok(()))
}
