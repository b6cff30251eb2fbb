//! Shows the disk to the kernel: one method a request, each admitted by the power first.
//!
//! Nothing is cached by the kernel (lifetimes of zero, direct I/O), so that the disk may change under it when the power comes back.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::content::Content;
use super::disk::{Disk, Folder, Inode, Kind, Number};
use super::state::{Effect, Shared, State};

/// How long the kernel may believe an answer.
const NEVER: Duration = Duration::ZERO;

/// The largest file: all of it is in memory.
const LARGEST: u64 = 4 << 30;

/// Flags of open files, as Linux numbers them on every architecture that the tests run on.
const O_TRUNC: i32 = 0o1000;
const O_APPEND: i32 = 0o2000;
const O_DSYNC: i32 = 0o10000;

/// The file system.
#[derive(Debug)]
pub(super) struct Mounted {
    shared: Arc<Shared>,
    listings: Mutex<Listings>,
}

/// What open folders list, fixed when they are opened.
#[derive(Debug, Default)]
struct Listings {
    next: u64,
    open: HashMap<u64, Vec<(Number, FileType, OsString)>>,
}

impl Mounted {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, listings: Mutex::default() }
    }

    fn listings(&self) -> std::sync::MutexGuard<'_, Listings> {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` if there is power, and answers.
    fn answer<R, T>(
        &self,
        effect: Effect,
        reply: R,
        work: impl FnOnce(&mut State) -> Result<T, Errno>,
        send: impl FnOnce(R, Result<T, Errno>),
    ) where
        R: Send + 'static,
    {
        let mut state = self.shared.lock();
        let Some(reply) = state.admit(effect, reply) else { return };
        let result = work(&mut state);
        let reply = if effect == Effect::Sync { state.release(reply) } else { Some(reply) };
        drop(state);
        if let Some(reply) = reply {
            send(reply, result);
        }
    }

    fn entry(
        &self,
        effect: Effect,
        reply: ReplyEntry,
        work: impl FnOnce(&mut Disk, SystemTime) -> Result<Number, Errno>,
    ) {
        let found = |state: &mut State| {
            let number = work(&mut state.disk, SystemTime::now())?;
            attributes(number, state.disk.inode(number)?)
        };
        self.answer(effect, reply, found, |reply, result| match result {
            Ok(attributes) => reply.entry(&NEVER, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        });
    }

    fn empty(&self, effect: Effect, reply: ReplyEmpty, work: impl FnOnce(&mut State) -> Result<(), Errno>) {
        self.answer(effect, reply, work, |reply, result| match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        });
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(Effect::None, reply, |disk, _| disk.lookup(parent.0, name));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let found = |state: &mut State| attributes(number.0, state.disk.inode(number.0)?);
        self.answer(Effect::None, reply, found, send_attributes);
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        owner: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let work = |state: &mut State| {
            if let Some(handle) = handle {
                check(state, handle)?;
            }
            if let Some(size) = size {
                state.disk.file_mut(number.0)?.set_length(length(size)?);
            }
            let inode = state.disk.inode_mut(number.0)?;
            inode.mode = mode.map_or(inode.mode, permissions);
            inode.owner = owner.unwrap_or(inode.owner);
            inode.group = group.unwrap_or(inode.group);
            match modified {
                Some(TimeOrNow::SpecificTime(time)) => inode.modified = time,
                Some(TimeOrNow::Now) => inode.modified = SystemTime::now(),
                None if size.is_some() => inode.modified = SystemTime::now(),
                None => {}
            }
            attributes(number.0, inode)
        };
        self.answer(Effect::Change, reply, work, send_attributes);
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        let work = |state: &mut State| match &state.disk.inode(number.0)?.kind {
            Kind::Link(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        };
        self.answer(Effect::None, reply, work, |reply, result| match result {
            Ok(target) => reply.data(target.as_bytes()),
            Err(error) => reply.error(error),
        });
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let owner = (request.uid(), request.gid());
        self.entry(Effect::Change, reply, |disk, now| {
            let kind = Kind::Folder(Folder::default());
            disk.create(parent.0, name, Inode::new(kind, permissions(mode & !umask), owner, now))
        });
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let owner = (request.uid(), request.gid());
        self.entry(Effect::Change, reply, |disk, now| {
            let kind = Kind::Link(target.as_os_str().to_owned());
            disk.create(parent.0, name, Inode::new(kind, 0o777, owner, now))
        });
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(Effect::Change, reply, |disk, now| {
            disk.link(number.0, parent.0, name, now)?;
            Ok(number.0)
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(Effect::Change, reply, |state| state.disk.remove(parent.0, name, false, SystemTime::now()));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(Effect::Change, reply, |state| state.disk.remove(parent.0, name, true, SystemTime::now()));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.empty(Effect::Change, reply, |state| {
            let keep = flags == RenameFlags::RENAME_NOREPLACE;
            if !keep && !flags.is_empty() {
                return Err(Errno::EINVAL);
            }
            let (from, to) = ((parent.0, name), (new_parent.0, new_name));
            state.disk.rename(from, to, keep, SystemTime::now())
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let owner = (request.uid(), request.gid());
        let work = |state: &mut State| {
            let kind = Kind::File(Content::default());
            let inode = Inode::new(kind, permissions(mode & !umask), owner, SystemTime::now());
            let number = state.disk.create(parent.0, name, inode)?;
            state.disk.open(number)?;
            Ok((attributes(number, state.disk.inode(number)?)?, FileHandle(state.epoch)))
        };
        self.answer(Effect::Change, reply, work, |reply, result| match result {
            Ok((attributes, handle)) => {
                reply.created(&NEVER, &attributes, Generation(0), handle, FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(error),
        });
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let truncate = flags.0 & O_TRUNC != 0;
        let work = |state: &mut State| {
            if truncate {
                state.disk.file_mut(number.0)?.set_length(0);
            }
            state.disk.open(number.0)?;
            Ok(FileHandle(state.epoch))
        };
        let effect = if truncate { Effect::Change } else { Effect::None };
        self.answer(effect, reply, work, |reply, result| match result {
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        });
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let work = |state: &mut State| {
            check(state, handle)?;
            let size = length(size.into())?;
            Ok(state.disk.file_mut(number.0)?.read(length(offset)?, size).to_vec())
        };
        self.answer(Effect::None, reply, work, |reply, result| match result {
            Ok(octets) => reply.data(&octets),
            Err(error) => reply.error(error),
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let synced = flags.0 & O_DSYNC != 0;
        let work = |state: &mut State| {
            check(state, handle)?;
            let content = state.disk.file_mut(number.0)?;
            let offset = if flags.0 & O_APPEND != 0 { content.length() } else { length(offset)? };
            length(offset as u64 + data.len() as u64)?;
            content.write(offset, data);
            if synced {
                content.sync();
            }
            state.disk.inode_mut(number.0)?.modified = SystemTime::now();
            u32::try_from(data.len()).map_err(|_| Errno::EINVAL)
        };
        let effect = if synced { Effect::Sync } else { Effect::Change };
        self.answer(effect, reply, work, |reply, result| match result {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(error),
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.empty(Effect::None, reply, |_| Ok(()));
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        // Not held back without power: nobody waits for it, and the handle is worth nothing later.
        let mut state = self.shared.lock();
        if check(&state, handle).is_ok() {
            state.disk.close(number.0);
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.empty(Effect::Sync, reply, |state| {
            check(state, handle)?;
            state.disk.sync(number.0)
        });
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let work = |state: &mut State| {
            let names = state.disk.names(number.0)?;
            let kinds = names.into_iter().map(|(name, child)| Ok((child, kind(state.disk.inode(child)?), name)));
            kinds.collect::<Result<Vec<_>, Errno>>()
        };
        self.answer(Effect::None, reply, work, |reply, result| match result {
            Ok(names) => {
                let mut listings = self.listings();
                listings.next += 1;
                let handle = listings.next;
                let own = [".", ".."].map(|name| (number.0, FileType::Directory, OsString::from(name)));
                listings.open.insert(handle, own.into_iter().chain(names).collect());
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        });
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listings = self.listings();
        let Some(names) = listings.open.get(&handle.0) else {
            reply.error(Errno::EBADF);
            return;
        };
        let mut next = offset;
        for (number, kind, name) in names.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            next += 1;
            if reply.add(INodeNo(*number), next, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings().open.remove(&handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.empty(Effect::Sync, reply, |state| state.disk.sync(number.0));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (blocks, files) = (LARGEST / 4096, 1 << 20);
        reply.statfs(blocks, blocks, blocks, files, files, 4096, 255, 4096);
    }
}

/// Refuses handles from before the last power cut.
fn check(state: &State, handle: FileHandle) -> Result<(), Errno> {
    if handle.0 == state.epoch { Ok(()) } else { Err(Errno::EIO) }
}

fn length(size: u64) -> Result<usize, Errno> {
    if size > LARGEST {
        return Err(Errno::EFBIG);
    }
    usize::try_from(size).map_err(|_| Errno::EFBIG)
}

fn permissions(mode: u32) -> u16 {
    // The mask leaves twelve bits.
    (mode & 0o7777) as u16
}

fn kind(inode: &Inode) -> FileType {
    match inode.kind {
        Kind::File(_) => FileType::RegularFile,
        Kind::Folder(_) => FileType::Directory,
        Kind::Link(_) => FileType::Symlink,
    }
}

fn attributes(number: Number, inode: &Inode) -> Result<FileAttr, Errno> {
    let size = match &inode.kind {
        Kind::File(content) => content.length(),
        Kind::Folder(_) => 4096,
        Kind::Link(target) => target.len(),
    };
    let size = u64::try_from(size).map_err(|_| Errno::EFBIG)?;
    let kind = kind(inode);
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: inode.modified,
        mtime: inode.modified,
        ctime: inode.modified,
        crtime: inode.modified,
        kind,
        perm: inode.mode,
        nlink: inode.links + u32::from(kind == FileType::Directory),
        uid: inode.owner,
        gid: inode.group,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn send_attributes(reply: ReplyAttr, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.attr(&NEVER, &attributes),
        Err(error) => reply.error(error),
    }
}
