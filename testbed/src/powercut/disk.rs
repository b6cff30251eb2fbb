//! The model of the disk: what programs see now, and what would still be there after a power cut.
//!
//! Pure: no mounting, no clock, no threads; [`super::filesystem`] shows it to the kernel. The rules are the strict ones of
//! POSIX, as far as programs may rely on them:
//!
//! - octets of a file are safe once the file was synced after they were written;
//! - a name in a folder (made, replaced or removed) is safe once that folder was synced after the change;
//! - a rename is safe as a whole once the folder that the name left was synced; once only the folder it came to was synced, both
//!   names may be there. It never loses the file.
//!
//! Owners and modes are kept as they are; they are not worth losing.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use fuser::Errno;

use super::content::Content;
use super::random::Random;

/// Number of an inode; never given twice.
pub(super) type Number = u64;

/// The root folder.
pub(super) const ROOT: Number = 1;

/// What is lost when the power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Everything that was not synced.
    Everything,
    /// Of each file's unsynced pages some, by chance; of each folder's unsynced changes the later ones, by chance. The same
    /// seed loses the same.
    Some {
        /// Seed of the chance.
        seed: u64,
    },
}

/// The whole disk.
#[derive(Debug)]
pub(super) struct Disk {
    inodes: BTreeMap<Number, Inode>,
    next: Number,
}

/// A file, folder or link.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) mode: u16,
    pub(super) owner: u32,
    pub(super) group: u32,
    pub(super) modified: SystemTime,
    /// Names that lead here now.
    pub(super) links: u32,
    /// Open handles.
    opens: u32,
}

#[derive(Debug)]
pub(super) enum Kind {
    File(Content),
    Folder(Folder),
    Link(OsString),
}

/// Names, as they are now and as they are on the disk.
#[derive(Debug, Default)]
pub(super) struct Folder {
    now: BTreeMap<OsString, Number>,
    durable: BTreeMap<OsString, Number>,
    /// What leads from `durable` to `now`, in order.
    pending: Vec<Change>,
}

/// One change of a name.
#[derive(Debug, Clone)]
struct Change {
    name: OsString,
    to: Option<Number>,
    /// For a name that was renamed away: the folder and name where the file is now.
    moved: Option<(Number, OsString)>,
}

impl Disk {
    /// An empty disk; the root folder belongs to root and can be entered by all.
    pub(super) fn new(now: SystemTime) -> Self {
        let root = Inode {
            kind: Kind::Folder(Folder::default()),
            mode: 0o755,
            owner: 0,
            group: 0,
            modified: now,
            links: 1,
            opens: 0,
        };
        Self { inodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1 }
    }

    pub(super) fn inode(&self, number: Number) -> Result<&Inode, Errno> {
        self.inodes.get(&number).ok_or(Errno::ENOENT)
    }

    pub(super) fn inode_mut(&mut self, number: Number) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    pub(super) fn file_mut(&mut self, number: Number) -> Result<&mut Content, Errno> {
        match &mut self.inode_mut(number)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Folder(_) => Err(Errno::EISDIR),
            Kind::Link(_) => Err(Errno::EINVAL),
        }
    }

    fn folder(&self, number: Number) -> Result<&Folder, Errno> {
        match &self.inode(number)?.kind {
            Kind::Folder(folder) => Ok(folder),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn folder_mut(&mut self, number: Number) -> Result<&mut Folder, Errno> {
        match &mut self.inode_mut(number)?.kind {
            Kind::Folder(folder) => Ok(folder),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn lookup(&self, folder: Number, name: &OsStr) -> Result<Number, Errno> {
        self.folder(folder)?.now.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(super) fn names(&self, folder: Number) -> Result<Vec<(OsString, Number)>, Errno> {
        let names = &self.folder(folder)?.now;
        Ok(names.iter().map(|(name, number)| (name.clone(), *number)).collect())
    }

    /// Puts a new inode under a name that is free.
    pub(super) fn create(&mut self, folder: Number, name: &OsStr, mut inode: Inode) -> Result<Number, Errno> {
        if self.folder(folder)?.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        inode.links = 1;
        let modified = inode.modified;
        self.inodes.insert(number, inode);
        self.set(folder, Change { name: name.to_owned(), to: Some(number), moved: None }, modified)?;
        Ok(number)
    }

    pub(super) fn link(&mut self, number: Number, folder: Number, name: &OsStr, now: SystemTime) -> Result<(), Errno> {
        if self.folder(folder)?.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.inode_mut(number)?.links += 1;
        self.set(folder, Change { name: name.to_owned(), to: Some(number), moved: None }, now)
    }

    /// Removes a name of a file or link (`folder` false), or of an empty folder (`folder` true).
    pub(super) fn remove(&mut self, parent: Number, name: &OsStr, folder: bool, now: SystemTime) -> Result<(), Errno> {
        let number = self.lookup(parent, name)?;
        match &self.inode(number)?.kind {
            Kind::Folder(_) if !folder => return Err(Errno::EISDIR),
            Kind::Folder(found) if !found.now.is_empty() => return Err(Errno::ENOTEMPTY),
            Kind::File(_) | Kind::Link(_) if folder => return Err(Errno::ENOTDIR),
            _ => {}
        }
        self.set(parent, Change { name: name.to_owned(), to: None, moved: None }, now)?;
        self.unlinked(number);
        Ok(())
    }

    /// Renames, replacing what had the new name unless `keep`.
    pub(super) fn rename(
        &mut self,
        from: (Number, &OsStr),
        to: (Number, &OsStr),
        keep: bool,
        now: SystemTime,
    ) -> Result<(), Errno> {
        let number = self.lookup(from.0, from.1)?;
        match self.lookup(to.0, to.1) {
            Ok(_) if keep => return Err(Errno::EEXIST),
            Ok(same) if same == number => return Ok(()),
            Ok(old) => {
                let folder = matches!(self.inode(old)?.kind, Kind::Folder(_));
                self.remove(to.0, to.1, folder, now)?;
                // Replacing is one step: no moment without the name is ever on the disk.
                self.folder_mut(to.0)?.pending.pop();
            }
            Err(_) => {}
        }
        self.set(to.0, Change { name: to.1.to_owned(), to: Some(number), moved: None }, now)?;
        let moved = Some((to.0, to.1.to_owned()));
        self.set(from.0, Change { name: from.1.to_owned(), to: None, moved }, now)
    }

    fn set(&mut self, folder: Number, change: Change, now: SystemTime) -> Result<(), Errno> {
        let found = self.folder_mut(folder)?;
        match change.to {
            Some(number) => found.now.insert(change.name.clone(), number),
            None => found.now.remove(&change.name),
        };
        found.pending.push(change);
        self.inode_mut(folder)?.modified = now;
        Ok(())
    }

    pub(super) fn open(&mut self, number: Number) -> Result<(), Errno> {
        self.inode_mut(number)?.opens += 1;
        Ok(())
    }

    pub(super) fn close(&mut self, number: Number) {
        if let Ok(inode) = self.inode_mut(number) {
            inode.opens = inode.opens.saturating_sub(1);
            self.forget_unless_needed(number);
        }
    }

    fn unlinked(&mut self, number: Number) {
        if let Ok(inode) = self.inode_mut(number) {
            inode.links = inode.links.saturating_sub(1);
            self.forget_unless_needed(number);
        }
    }

    /// Frees a file that has no name, no handle, and no name on the disk either.
    fn forget_unless_needed(&mut self, number: Number) {
        let unused = self.inodes.get(&number).is_some_and(|inode| inode.links == 0 && inode.opens == 0);
        if unused && !self.folders().any(|folder| folder.may_lead_to(number)) {
            self.inodes.remove(&number);
        }
    }

    fn folders(&self) -> impl Iterator<Item = &Folder> {
        self.inodes.values().filter_map(|inode| match &inode.kind {
            Kind::Folder(folder) => Some(folder),
            _ => None,
        })
    }

    /// What `fsync` on a file or a folder does.
    pub(super) fn sync(&mut self, number: Number) -> Result<(), Errno> {
        match &mut self.inode_mut(number)?.kind {
            Kind::File(content) => {
                content.sync();
                Ok(())
            }
            Kind::Folder(folder) => {
                let count = folder.pending.len();
                self.sync_changes(number, count)
            }
            Kind::Link(_) => Ok(()),
        }
    }

    /// Makes the first `count` pending changes of a folder durable, and what they moved elsewhere.
    fn sync_changes(&mut self, number: Number, count: usize) -> Result<(), Errno> {
        let folder = self.folder_mut(number)?;
        let done: Vec<Change> = folder.pending.drain(..count).collect();
        for change in &done {
            folder.apply(change);
        }
        for (there, name) in done.into_iter().filter_map(|change| change.moved) {
            if let Ok(folder) = self.folder_mut(there) {
                folder.sync_arrival(&name);
            }
        }
        Ok(())
    }

    /// The power is cut and comes back: what was not synced is gone.
    pub(super) fn cut(&mut self, loss: Loss) {
        let mut random = match loss {
            Loss::Everything => None,
            Loss::Some { seed } => Some(Random::new(seed)),
        };
        let numbers: Vec<Number> = self.inodes.keys().copied().collect();
        for number in numbers {
            let Some(inode) = self.inodes.get_mut(&number) else { continue };
            inode.opens = 0;
            match (&mut inode.kind, &mut random) {
                (Kind::File(content), random) => content.cut(random.as_mut()),
                (Kind::Folder(folder), Some(random)) => {
                    let kept = random.below(folder.pending.len() + 1);
                    // Only a number that is not a folder's can fail.
                    let _ = self.sync_changes(number, kept);
                }
                _ => {}
            }
        }
        self.keep_only_what_has_a_name();
    }

    /// What programs see becomes what is on the disk, from the root down. A folder has one name.
    fn keep_only_what_has_a_name(&mut self) {
        let mut links: BTreeMap<Number, u32> = BTreeMap::from([(ROOT, 1)]);
        let mut to_visit = vec![ROOT];
        while let Some(number) = to_visit.pop() {
            let Ok(folder) = self.folder(number) else { continue };
            let mut kept = folder.durable.clone();
            kept.retain(|_, child| {
                let Some(inode) = self.inodes.get(child) else { return false };
                let count = links.entry(*child).or_default();
                if *count > 0 && matches!(inode.kind, Kind::Folder(_)) {
                    return false;
                }
                *count += 1;
                if *count == 1 {
                    to_visit.push(*child);
                }
                true
            });
            if let Ok(folder) = self.folder_mut(number) {
                *folder = Folder { now: kept.clone(), durable: kept, pending: Vec::new() };
            }
        }
        self.inodes.retain(|number, inode| {
            inode.links = links.get(number).copied().unwrap_or(0);
            inode.links > 0
        });
    }
}

impl Folder {
    fn apply(&mut self, change: &Change) {
        match change.to {
            Some(number) => self.durable.insert(change.name.clone(), number),
            None => self.durable.remove(&change.name),
        };
    }

    /// Makes the latest pending arrival of `name` durable, with what happened to that name before.
    fn sync_arrival(&mut self, name: &OsStr) {
        let arrival = self.pending.iter().rposition(|change| change.name == name && change.to.is_some());
        if let Some(position) = arrival {
            let change = self.pending[position].clone();
            self.apply(&change);
            let mut index = 0;
            self.pending.retain(|change| {
                index += 1;
                index > position + 1 || change.name != name
            });
        }
    }

    fn may_lead_to(&self, number: Number) -> bool {
        self.durable.values().any(|found| *found == number)
            || self.pending.iter().any(|change| change.to == Some(number))
    }
}

impl Inode {
    /// A new inode without a name.
    pub(super) fn new(kind: Kind, mode: u16, (owner, group): (u32, u32), modified: SystemTime) -> Self {
        Self { kind, mode, owner, group, modified, links: 0, opens: 0 }
    }
}
