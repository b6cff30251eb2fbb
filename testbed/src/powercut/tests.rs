//! The rules of the model, one by one, without mounting anything.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::SystemTime;

use super::content::Content;
use super::disk::{Disk, Folder, Inode, Kind, Loss, Number, ROOT};
use super::random::Random;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

fn file(disk: &mut Disk, folder: Number, called: &str, octets: &[u8]) -> Number {
    let inode = Inode::new(Kind::File(Content::default()), 0o644, (0, 0), NOW);
    let number = disk.create(folder, name(called), inode).unwrap();
    disk.file_mut(number).unwrap().write(0, octets);
    number
}

fn folder(disk: &mut Disk, parent: Number, called: &str) -> Number {
    let inode = Inode::new(Kind::Folder(Folder::default()), 0o755, (0, 0), NOW);
    disk.create(parent, name(called), inode).unwrap()
}

fn read(disk: &mut Disk, folder: Number, called: &str) -> Option<Vec<u8>> {
    let number = disk.lookup(folder, name(called)).ok()?;
    Some(disk.file_mut(number).unwrap().read(0, 1 << 20).to_vec())
}

#[test]
fn octets_need_a_sync_of_the_file_and_a_name_one_of_the_folder() {
    let mut disk = Disk::new(NOW);
    let both = file(&mut disk, ROOT, "both", b"one");
    disk.sync(both).unwrap();
    file(&mut disk, ROOT, "only the name", b"one");
    disk.sync(ROOT).unwrap();
    let only_octets = file(&mut disk, ROOT, "only the octets", b"one");
    disk.sync(only_octets).unwrap();
    disk.file_mut(both).unwrap().write(1, b"xxxxx");
    disk.cut(Loss::Everything);
    assert_eq!(read(&mut disk, ROOT, "both").unwrap(), b"one");
    assert_eq!(read(&mut disk, ROOT, "only the name").unwrap(), b"");
    assert_eq!(read(&mut disk, ROOT, "only the octets"), None);
}

#[test]
fn truncation_and_removal_come_back() {
    let mut disk = Disk::new(NOW);
    let octets: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    let number = file(&mut disk, ROOT, "a", &octets);
    disk.sync(number).unwrap();
    disk.sync(ROOT).unwrap();
    disk.file_mut(number).unwrap().set_length(5);
    disk.file_mut(number).unwrap().write(9_000, b"yyy");
    disk.remove(ROOT, name("a"), false, NOW).unwrap();
    assert_eq!(read(&mut disk, ROOT, "a"), None);
    disk.cut(Loss::Everything);
    assert_eq!(read(&mut disk, ROOT, "a").unwrap(), octets);
}

#[test]
fn a_folder_without_its_own_name_takes_everything_along() {
    let mut disk = Disk::new(NOW);
    let inner = folder(&mut disk, ROOT, "new");
    let number = file(&mut disk, inner, "a", b"one");
    disk.sync(number).unwrap();
    disk.sync(inner).unwrap();
    disk.cut(Loss::Everything);
    assert_eq!(disk.lookup(ROOT, name("new")).ok(), None);
}

#[test]
fn a_rename_never_loses_the_file() {
    let moves = |sync_old: bool, sync_new: bool| {
        let mut disk = Disk::new(NOW);
        let (old, new) = (folder(&mut disk, ROOT, "tmp"), folder(&mut disk, ROOT, "new"));
        let number = file(&mut disk, old, "a", b"one");
        disk.sync(number).unwrap();
        disk.sync(old).unwrap();
        disk.sync(ROOT).unwrap();
        disk.rename((old, name("a")), (new, name("b")), false, NOW).unwrap();
        for (wanted, number) in [(sync_old, old), (sync_new, new)] {
            if wanted {
                disk.sync(number).unwrap();
            }
        }
        disk.cut(Loss::Everything);
        (read(&mut disk, old, "a").is_some(), read(&mut disk, new, "b").is_some())
    };
    assert_eq!(moves(false, false), (true, false));
    assert_eq!(moves(false, true), (true, true));
    assert_eq!(moves(true, false), (false, true));
    assert_eq!(moves(true, true), (false, true));
}

#[test]
fn replacing_by_rename_leaves_the_old_or_the_new() {
    for synced in [false, true] {
        let mut disk = Disk::new(NOW);
        let old = file(&mut disk, ROOT, "a", b"old");
        disk.sync(old).unwrap();
        disk.sync(ROOT).unwrap();
        let new = file(&mut disk, ROOT, "a.new", b"new");
        disk.sync(new).unwrap();
        disk.rename((ROOT, name("a.new")), (ROOT, name("a")), false, NOW).unwrap();
        if synced {
            disk.sync(ROOT).unwrap();
        }
        disk.cut(Loss::Everything);
        let expected: &[u8] = if synced { b"new" } else { b"old" };
        assert_eq!(read(&mut disk, ROOT, "a").unwrap(), expected);
        assert_eq!(read(&mut disk, ROOT, "a.new"), None);
    }
}

#[test]
fn some_loss_is_repeatable_and_differs_by_seed() {
    let run = |seed| {
        let mut disk = Disk::new(NOW);
        let number = file(&mut disk, ROOT, "a", &[1; 40_960]);
        disk.sync(number).unwrap();
        disk.sync(ROOT).unwrap();
        disk.file_mut(number).unwrap().write(0, &[2; 40_960]);
        for other in 0..10 {
            file(&mut disk, ROOT, &format!("f{other}"), b"");
        }
        disk.cut(Loss::Some { seed });
        let octets = read(&mut disk, ROOT, "a").unwrap();
        assert!(octets.chunks(4096).all(|page| page == [1; 4096] || page == [2; 4096]));
        (octets, disk.names(ROOT).unwrap().len())
    };
    assert_eq!(run(7), run(7));
    let different: BTreeSet<_> = (0..20).map(run).collect();
    assert!(different.len() > 15);
}

/// Any sequence of writes, truncations and syncs, cut at the end, leaves exactly what the last sync saw.
#[test]
fn content_always_goes_back_to_the_last_sync() {
    let mut random = Random::new(42);
    for _ in 0..2_000 {
        let mut content = Content::default();
        let mut synced = Vec::new();
        for _ in 0..random.below(12) {
            let (position, size) = (random.below(20_000), random.below(9_000));
            match random.below(4) {
                0 => content.set_length(position),
                1 => {
                    content.sync();
                    synced = content.read(0, 1 << 20).to_vec();
                }
                _ => content.write(position, &vec![position as u8 | 1; size]),
            }
        }
        content.cut(None);
        assert_eq!(content.read(0, 1 << 20), synced);
    }
}
