//! The outbox: messages written while no server runs, one file each, until a server takes them.
//!
//! A file is a line with the envelope (as in [`crate::admin::api::ENVELOPE`]) and the message, lines ended by CRLF. It is
//! synced, then given its name: what has a name is whole. The name is the queue id, so that a server that dies between
//! taking a message and removing its file does not take it twice.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};

use mail::{Envelope, QueueId};

use crate::admin::api;
use crate::private;

/// Longest line with an envelope.
const MAX_ENVELOPE: u64 = 1 << 20;
/// What is being written.
const PART: &str = "part";
/// What the server has refused; a file beside it says why.
const REFUSED: &str = "refused";

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(PathBuf);

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) id: QueueId,
    pub(crate) envelope: Envelope,
    /// Positioned at the message.
    pub(crate) content: BufReader<File>,
}

impl Outbox {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Writes a message durably; `content` writes its octets.
    ///
    /// # Errors
    /// The file system's; nothing is left then.
    pub(crate) fn put(
        &self,
        id: &QueueId,
        envelope: &Envelope,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        private::create_directory(&self.0)?;
        let (part, file) = (self.0.join(format!("{id}.{PART}")), self.0.join(id.as_str()));
        let written = write(&part, envelope, content).and_then(|()| fs::rename(&part, &file));
        if written.is_err() {
            // It has no name; leaving it would only take room.
            let _ = fs::remove_file(&part);
        }
        written?;
        File::open(&self.0)?.sync_all()
    }

    /// The names of what waits, oldest first: queue ids begin with their time.
    ///
    /// # Errors
    /// The file system's; a folder that is not there is empty.
    pub(crate) fn list(&self) -> io::Result<Vec<QueueId>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut ids: Vec<QueueId> = Vec::new();
        for entry in entries {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            ids.extend(id.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())));
        }
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }

    /// Opens one.
    ///
    /// # Errors
    /// The file system's, or that its first line is no envelope.
    pub(crate) fn open(&self, id: &QueueId) -> io::Result<Waiting> {
        let mut content = BufReader::new(File::open(self.0.join(id.as_str()))?);
        let mut line = String::new();
        io::Read::take(&mut content, MAX_ENVELOPE).read_line(&mut line)?;
        let envelope = line.strip_suffix('\n').and_then(api::decode_envelope);
        let envelope = envelope.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "there is no envelope"))?;
        Ok(Waiting { id: id.clone(), envelope, content })
    }

    /// It is taken: forgets it.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn remove(&self, id: &QueueId) -> io::Result<()> {
        fs::remove_file(self.0.join(id.as_str()))?;
        File::open(&self.0)?.sync_all()
    }

    /// It will never be taken: sets it aside, with the reason beside it.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn set_aside(&self, id: &QueueId, why: &str) -> io::Result<PathBuf> {
        let folder = self.0.join(REFUSED);
        private::create_directory(&folder)?;
        fs::write(folder.join(format!("{id}.why")), format!("{why}\n"))?;
        let place = folder.join(id.as_str());
        fs::rename(self.0.join(id.as_str()), &place)?;
        Ok(place)
    }
}

fn write(path: &Path, envelope: &Envelope, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let header = api::encode_envelope(envelope).map_err(io::Error::other)?;
    let mut file = io::BufWriter::new(private::open(path, true)?);
    writeln!(file, "{header}")?;
    content(&mut file)?;
    file.into_inner().map_err(|error| error.into_error())?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use mail::{MailParams, Recipient, Timestamp};

    use super::*;

    fn id(second: u64) -> QueueId {
        QueueId::generate(Timestamp::from_secs(1_800_000_000 + second), [1; 8])
    }

    fn envelope() -> Envelope {
        let recipients = vec![Recipient::plain("bob@b.example".parse().unwrap())];
        Envelope { mail_from: None, params: MailParams::default(), recipients }
    }

    #[test]
    fn what_was_put_comes_out_oldest_first_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(folder.path().join("outbox"));
        assert!(outbox.list().unwrap().is_empty());
        for second in [2, 1] {
            outbox.put(&id(second), &envelope(), |to| to.write_all(b"A: b\r\n\r\nline\n")).unwrap();
        }
        assert_eq!(outbox.list().unwrap(), [id(1), id(2)]);
        let mut waiting = outbox.open(&id(1)).unwrap();
        assert_eq!((&waiting.id, &waiting.envelope), (&id(1), &envelope()));
        let mut text = String::new();
        waiting.content.read_to_string(&mut text).unwrap();
        assert_eq!(text, "A: b\r\n\r\nline\n");
        outbox.remove(&id(1)).unwrap();
        let place = outbox.set_aside(&id(2), "nobody is there").unwrap();
        assert!(place.exists() && outbox.list().unwrap().is_empty());
    }

    #[test]
    fn what_is_not_whole_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(folder.path().to_owned());
        let broken = outbox.put(&id(1), &envelope(), |_| Err(io::Error::other("broken off")));
        assert!(broken.is_err() && fs::read_dir(folder.path()).unwrap().next().is_none());
        fs::write(folder.path().join(id(2).as_str()), "no envelope").unwrap();
        assert_eq!(outbox.open(&id(2)).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
