//! Delivery into a Maildir: written to `tmp/`, synced, renamed into `new/`, directory synced.
//!
//! The file's name is made from the message and the recipient, not from chance: a delivery that is repeated after a
//! crash finds the first copy, in `new/` or already moved to `cur/` by a reader, and adds no second one (TBR §6).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Octets gathered for one write: a message's head. Its content comes in larger pieces, which go to the file as they are.
const BUFFER: usize = 16 * 1024;

/// A mailbox and the name that one message has in it.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// The Maildir itself: the directory that holds `tmp`, `new` and `cur`.
    pub(super) maildir: PathBuf,
    /// Unique for message and recipient, the same at every try; no `/`, no `:`.
    pub(super) name: String,
}

/// A message being written into its slot. Dropped before [`Writer::finish`] has succeeded, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Writer {
    slot: Slot,
    file: BufWriter<File>,
    is_finished: bool,
}

/// Makes the three directories where they are missing. Mail is nobody else's to read: strangers are shut out, and the
/// umask says whether the group is in.
///
/// # Errors
/// Those of the file system.
pub(super) fn prepare(maildir: &Path) -> io::Result<()> {
    for part in ["tmp", "new", "cur"] {
        let directory = maildir.join(part);
        if !directory.is_dir() {
            make_durably(&directory)?;
        }
    }
    Ok(())
}

impl Slot {
    /// The copy that an earlier try left, wherever the reader has put it since. One that is still in `new/` is durable when
    /// this returns: that try may have broken off between name and sync.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn existing(&self) -> io::Result<Option<PathBuf>> {
        let directory = self.maildir.join("new");
        let new = directory.join(&self.name);
        if new.try_exists()? {
            File::open(&directory)?.sync_all()?;
            return Ok(Some(new));
        }
        // A reader adds ":2,<flags>" and may add ",S=<size>"-like parts: compare up to the first of both.
        for entry in fs::read_dir(self.maildir.join("cur"))? {
            let entry = entry?;
            let name = entry.file_name();
            let unique = name.to_str().and_then(|n| n.split([':', ',']).next());
            if unique == Some(self.name.as_str()) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    /// Begins to write; what an earlier try left in `tmp/` is overwritten.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn create(self) -> io::Result<Writer> {
        let path = self.temporary();
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o660).open(path)?;
        Ok(Writer { slot: self, file: BufWriter::with_capacity(BUFFER, file), is_finished: false })
    }

    fn temporary(&self) -> PathBuf {
        self.maildir.join("tmp").join(&self.name)
    }
}

impl Writer {
    /// Adds octets.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_all(octets)
    }

    /// Makes the message durable and visible, in this order.
    ///
    /// # Errors
    /// Those of the file system; the message is then not in the mailbox, or is there and will be found.
    pub(super) fn finish(mut self) -> io::Result<PathBuf> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        let new = self.slot.maildir.join("new");
        let path = new.join(&self.slot.name);
        fs::rename(self.slot.temporary(), &path)?;
        self.is_finished = true;
        File::open(&new)?.sync_all()?;
        Ok(path)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_finished {
            // What cannot be removed now is overwritten by the next try.
            let _ = fs::remove_file(self.slot.temporary());
        }
    }
}

/// Makes a directory and what is missing above it, and syncs each with the one that holds its name: a mailbox must not
/// vanish with a message in it.
fn make_durably(directory: &Path) -> io::Result<()> {
    let missing = directory.ancestors().take_while(|d| !d.is_dir()).count();
    DirBuilder::new().recursive(true).mode(0o770).create(directory)?;
    let holders = directory.ancestors().take(missing + 1);
    holders.filter(|d| !d.as_os_str().is_empty()).try_for_each(|d| File::open(d)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(root: &Path) -> Slot {
        Slot { maildir: root.join("bob"), name: "1.x.host".into() }
    }

    fn deliver(slot: Slot) -> PathBuf {
        let mut writer = slot.create().unwrap();
        writer.write(b"A: b\r\n").unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn a_repeat_finds_the_first_copy_in_new_and_in_cur() {
        let root = tempfile::tempdir().unwrap();
        let slot = slot(root.path());
        prepare(&slot.maildir).unwrap();
        assert_eq!(slot.existing().unwrap(), None);
        let path = deliver(slot.clone());
        assert_eq!(slot.existing().unwrap(), Some(path.clone()));
        let seen = slot.maildir.join("cur/1.x.host:2,S");
        fs::rename(path, &seen).unwrap();
        assert_eq!(slot.existing().unwrap(), Some(seen));
        fs::write(slot.maildir.join("cur/1.x.host2:2,S"), "").unwrap();
        fs::remove_file(slot.maildir.join("cur/1.x.host:2,S")).unwrap();
        assert_eq!(slot.existing().unwrap(), None);
    }

    #[test]
    fn strangers_do_not_read_mailboxes() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let slot = Slot { maildir: root.path().join("mail/a.example/bob"), name: "1.x.host".into() };
        prepare(&slot.maildir).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o007;
        assert_eq!(mode(&root.path().join("mail")), 0);
        assert_eq!(mode(&slot.maildir.join("new")), 0);
        assert_eq!(mode(&deliver(slot)), 0);
    }

    #[test]
    fn an_unfinished_write_is_invisible() {
        let root = tempfile::tempdir().unwrap();
        let slot = slot(root.path());
        prepare(&slot.maildir).unwrap();
        let mut writer = slot.clone().create().unwrap();
        writer.write(b"A: b\r\n").unwrap();
        drop(writer);
        assert_eq!(slot.existing().unwrap(), None);
        assert_eq!(fs::read_dir(slot.maildir.join("tmp")).unwrap().count(), 0, "nothing is left of it");
        assert_eq!(fs::read(deliver(slot)).unwrap(), b"A: b\r\n");
    }
}
