//! What happens during a day, written down as it happens: one file for each day, one JSON value a line.
//!
//! Lines are written and synced about once a second: a kill loses the last of them, and nothing else. What they mean is their
//! kind's; a line that was cut off is passed over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mail::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tracing::warn;

use super::day::{Day, Period};
use crate::private;
use crate::runtime::now;

/// Events that may wait to be written.
const WAITING: usize = 4096;
/// How long events are gathered for one write.
const GATHER: Duration = Duration::from_secs(1);
/// Largest file of one day, in octets; what comes after is counted and lost.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// How names of files end.
const SUFFIX: &str = ".jsonl";
/// In names of files that were ended before their day.
const ENDED: char = '_';

/// Takes events. Clones write into the same journal.
#[derive(Debug)]
pub(crate) struct Recorder<E> {
    messages: mpsc::Sender<Message<E>>,
    lost: Arc<AtomicU64>,
}

impl<E> Clone for Recorder<E> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone(), lost: Arc::clone(&self.lost) }
    }
}

impl<E> Recorder<E> {
    /// Takes an event, without waiting: where there is no room for it, it is counted as lost.
    pub(crate) fn record(&self, event: E) {
        if self.messages.try_send(Message::Event(event)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the file of this day: what was taken before is in a file that [`finished`] finds.
    pub(crate) async fn end_file(&self) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let closed = || io::Error::other("the journal is closed");
        self.messages.send(Message::EndFile(done)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

#[derive(Debug)]
enum Message<E> {
    Event(E),
    EndFile(oneshot::Sender<io::Result<()>>),
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    from: Timestamp,
}

/// Writes events down until the last [`Recorder`] is gone.
pub(crate) struct Journal<E> {
    folder: PathBuf,
    messages: mpsc::Receiver<Message<E>>,
    lost: Arc<AtomicU64>,
}

impl<E: Serialize + Send + 'static> Journal<E> {
    /// Over a folder, which is made if need be.
    pub(crate) fn open(folder: &Path) -> io::Result<(Self, Recorder<E>)> {
        private::create_directory(folder)?;
        let (sender, messages) = mpsc::channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let recorder = Recorder { messages: sender, lost: Arc::clone(&lost) };
        Ok((Self { folder: folder.to_owned(), messages, lost }, recorder))
    }

    /// Writes until `stop` resolves, then what has been taken so far.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut stopping = false;
        while !stopping {
            let first = tokio::select! {
                () = &mut stop => None,
                message = self.messages.recv() => match message {
                    Some(message) => Some(message),
                    None => return,
                },
            };
            match &first {
                None => stopping = true,
                Some(Message::EndFile(_)) => {}
                Some(Message::Event(_)) => stopping = gather(&mut stop, &self.messages).await,
            }
            self.turn(first).await;
        }
    }

    async fn turn(&mut self, first: Option<Message<E>>) {
        let (mut lines, mut asked) = (Vec::new(), Vec::new());
        let mut next = first.or_else(|| self.messages.try_recv().ok());
        while let Some(message) = next {
            match message {
                Message::Event(event) => write_line(&mut lines, &event),
                Message::EndFile(answer) => asked.push(answer),
            }
            next = self.messages.try_recv().ok();
        }
        if let Err(error) = self.append(lines).await {
            warn!(%error, folder = %self.folder.display(), "what reports are made of cannot be written down");
        }
        for answer in asked {
            let _ = answer.send(end_file(&self.folder, now()));
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!(lost, folder = %self.folder.display(), "more events than reports can be made of");
        }
    }

    async fn append(&self, lines: Vec<u8>) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let (folder, at) = (self.folder.clone(), now());
        spawn_blocking(move || append(&folder, &lines, at)).await.map_err(io::Error::other)?
    }
}

/// More events may follow the first one; `true` where the end comes before them.
async fn gather<E>(stop: &mut (impl Future<Output = ()> + Unpin), messages: &mpsc::Receiver<Message<E>>) -> bool {
    let full = async {
        let mut waits = 0;
        while waits < 20 && messages.len() < WAITING / 2 {
            tokio::time::sleep(GATHER / 20).await;
            waits += 1;
        }
    };
    tokio::select! {
        () = stop => true,
        () = full => false,
    }
}

fn write_line(lines: &mut Vec<u8>, event: &impl Serialize) {
    let length = lines.len();
    match serde_json::to_writer(&mut *lines, event) {
        Ok(()) => lines.push(b'\n'),
        Err(_) => lines.truncate(length),
    }
}

fn append(folder: &Path, lines: &[u8], at: Timestamp) -> io::Result<()> {
    let day = Day::of(at);
    let path = folder.join(format!("{day}{SUFFIX}"));
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
    let length = file.metadata()?.len();
    if length > MAX_FILE {
        return Err(io::Error::other("the file of this day is full"));
    }
    if length == 0 {
        let from = if has_ended_files(folder, day)? { at } else { day.start() };
        let mut head = serde_json::to_vec(&Head { from })?;
        head.push(b'\n');
        file.write_all(&head)?;
    } else {
        end_line(&mut file)?;
    }
    file.write_all(lines)?;
    file.sync_data()?;
    if length == 0 { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// A line that a kill has cut off takes no other with it.
fn end_line(file: &mut File) -> io::Result<()> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == [b'\n'] { Ok(()) } else { file.write_all(b"\n") }
}

fn has_ended_files(folder: &Path, day: Day) -> io::Result<bool> {
    let ended = format!("{day}{ENDED}");
    Ok(names(folder)?.iter().any(|name| name.starts_with(&ended)))
}

fn end_file(folder: &Path, at: Timestamp) -> io::Result<()> {
    let day = Day::of(at);
    let ended = folder.join(format!("{day}{ENDED}{}{SUFFIX}", at.as_millis()));
    match fs::rename(folder.join(format!("{day}{SUFFIX}")), ended) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

/// A file to which nothing is added any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) path: PathBuf,
    pub(crate) day: Day,
    /// It was ended then, within its day.
    ended: Option<Timestamp>,
}

impl Finished {
    /// When it may be reported of: at once if somebody ended it.
    pub(crate) fn report_at(&self, server: &mail::InstanceId) -> Timestamp {
        self.ended.unwrap_or_else(|| self.day.report_at(server))
    }

    /// Hands every event of it to `take`, in order, and answers what it covers.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read<E: DeserializeOwned>(&self, mut take: impl FnMut(E)) -> io::Result<Period> {
        let mut from = self.day.start();
        for (number, line) in BufReader::new(File::open(&self.path)?).split(b'\n').enumerate() {
            let line = line?;
            match serde_json::from_slice::<Head>(&line) {
                Ok(head) if number == 0 => from = head.from,
                _ => serde_json::from_slice(&line).into_iter().for_each(&mut take),
            }
        }
        Ok(Period { from, to: self.ended.unwrap_or_else(|| self.day.end()) })
    }
}

/// The files of days before today, and those that were ended, oldest first.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn finished(folder: &Path, now: Timestamp) -> io::Result<Vec<Finished>> {
    let mut found: Vec<Finished> = names(folder)?.iter().filter_map(|name| parse(folder, name)).collect();
    found.retain(|file| file.ended.is_some() || file.day < Day::of(now));
    // What was ended came before the rest of its day.
    found.sort_by_key(|file| (file.day, file.ended.is_none(), file.ended));
    Ok(found)
}

fn parse(folder: &Path, name: &str) -> Option<Finished> {
    let stem = name.strip_suffix(SUFFIX)?;
    let (day, ended) = match stem.split_once(ENDED) {
        Some((day, at)) => (day, Some(Timestamp::from_millis(at.parse().ok()?))),
        None => (stem, None),
    };
    Some(Finished { path: folder.join(name), day: day.parse().ok()?, ended })
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?.filter_map(Result::ok);
    Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn noon() -> Timestamp {
        "2026-11-28".parse::<Day>().unwrap().start().after(12 * HOUR)
    }

    fn events(file: &Finished) -> (Vec<u32>, Period) {
        let mut events = Vec::new();
        let period = file.read(|event| events.push(event)).unwrap();
        (events, period)
    }

    #[test]
    fn a_day_is_finished_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        append(folder.path(), b"1\n2\n", noon()).unwrap();
        append(folder.path(), b"3\n", noon().after(HOUR)).unwrap();
        append(folder.path(), b"4\n", noon().after(12 * HOUR)).unwrap();
        assert_eq!(finished(folder.path(), noon()).unwrap(), []);
        let found = finished(folder.path(), noon().after(24 * HOUR)).unwrap();
        assert_eq!(found.len(), 1);
        let (events, period) = events(&found[0]);
        assert_eq!((events, period.from, period.to), (vec![1, 2, 3], Day::of(noon()).start(), Day::of(noon()).end()));
    }

    #[test]
    fn an_ended_file_is_finished_and_the_next_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        append(folder.path(), b"1\n", noon()).unwrap();
        end_file(folder.path(), noon().after(HOUR)).unwrap();
        end_file(folder.path(), noon().after(HOUR)).unwrap();
        append(folder.path(), b"2\n", noon().after(2 * HOUR)).unwrap();
        let found = finished(folder.path(), noon().after(3 * HOUR)).unwrap();
        assert_eq!(found.len(), 1);
        let (first, period) = events(&found[0]);
        assert_eq!((first, period.from, period.to), (vec![1], Day::of(noon()).start(), noon().after(HOUR)));
        let found = finished(folder.path(), noon().after(24 * HOUR)).unwrap();
        assert_eq!((found.len(), events(&found[1]).1.from), (2, noon().after(2 * HOUR)));
    }

    #[test]
    fn a_line_that_was_cut_off_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        append(folder.path(), b"1\n22", noon()).unwrap();
        append(folder.path(), b"3\n\"x\n", noon()).unwrap();
        let found = finished(folder.path(), noon().after(24 * HOUR)).unwrap();
        assert_eq!(events(&found[0]).0, [1, 22, 3]);
    }

    #[tokio::test]
    async fn what_was_taken_is_written_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, recorder) = Journal::open(folder.path()).unwrap();
        for event in 0..10 {
            recorder.record(event);
        }
        let running = tokio::spawn(journal.run(std::future::pending()));
        recorder.end_file().await.unwrap();
        let ended = finished(folder.path(), now()).unwrap();
        assert_eq!(events(&ended[0]).0, (0..10).collect::<Vec<_>>());
        recorder.record(10);
        drop(recorder);
        running.await.unwrap();
        let all = finished(folder.path(), now().after(24 * HOUR)).unwrap();
        assert_eq!(events(&all[1]).0, [10]);
    }
}
