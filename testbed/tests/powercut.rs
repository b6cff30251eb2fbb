//! The disk that loses power, mounted: what was synced survives, what was not is gone, for plain files and for SQLite.
//!
//! The SQLite tests run a process of their own (this test program, told by its environment to be [`worker`]) that is killed, and
//! which says on standard output what was committed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use rusqlite::Connection;
use testbed::powercut::{CutAt, Loss, PowerCut};
use testbed::{Sandbox, wait};

const DATABASE: &str = "POWERCUT_TEST_DATABASE";
const SYNCHRONOUS: &str = "POWERCUT_TEST_SYNCHRONOUS";

fn sync_folder(path: &Path) -> Result<()> {
    Ok(File::open(path)?.sync_all()?)
}

#[test]
fn files_behave_and_only_what_was_synced_survives() {
    let place = tempfile::tempdir().unwrap();
    let disk = PowerCut::mount(&place.path().join("disk")).unwrap();
    let root = disk.path().to_owned();
    fs::create_dir(root.join("folder")).unwrap();
    let mut file = File::create(root.join("folder/synced")).unwrap();
    file.write_all(b"first ").unwrap();
    file.sync_data().unwrap();
    sync_folder(&root.join("folder")).unwrap();
    sync_folder(&root).unwrap();
    file.write_all(b"second").unwrap();
    fs::write(root.join("unsynced"), b"x").unwrap();
    fs::rename(root.join("unsynced"), root.join("folder/renamed")).unwrap();
    std::os::unix::fs::symlink("synced", root.join("folder/link")).unwrap();
    assert_eq!(fs::read(root.join("folder/link")).unwrap(), b"first second");
    assert_eq!(fs::read_dir(root.join("folder")).unwrap().count(), 3);
    let octets = vec![7; 3_000_000];
    fs::write(root.join("large"), &octets).unwrap();
    assert_eq!(fs::read(root.join("large")).unwrap(), octets);
    assert_eq!(disk.syncs(), 3);

    disk.restore(Loss::Everything);
    assert!(file.write_all(b"through a handle from before").is_err());
    assert_eq!(fs::read(root.join("folder/synced")).unwrap(), b"first ");
    assert_eq!(fs::read_dir(root.join("folder")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);

    File::options().append(true).open(root.join("folder/synced")).unwrap().write_all(b"third").unwrap();
    assert_eq!(fs::read(root.join("folder/synced")).unwrap(), b"first third");
    drop(disk);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "still mounted");
}

/// The process under test: commits row after row and says so, until it is killed.
#[test]
fn worker() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let synchronous = std::env::var(SYNCHRONOUS).unwrap();
    let connection = open(Path::new(&path), &synchronous).unwrap();
    connection.execute("CREATE TABLE IF NOT EXISTS row (number INTEGER PRIMARY KEY, filling BLOB)", []).unwrap();
    // The name of the database is the program's to sync; SQLite syncs the names of its logs.
    sync_folder(Path::new(&path).parent().unwrap()).unwrap();
    for number in 1..=500 {
        connection.execute("INSERT INTO row VALUES (?1, randomblob(3000))", [number]).unwrap();
        println!("committed {number}");
    }
}

fn open(path: &Path, synchronous: &str) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    // Often, so that cuts hit checkpoints as well.
    connection.pragma_update(None, "wal_autocheckpoint", 20)?;
    Ok(connection)
}

/// Runs the worker until the planned cut, kills it, restores, and returns (committed, found).
fn run_worker(disk: &PowerCut, cut: CutAt, loss: Loss, synchronous: &str) -> Result<(i64, i64)> {
    let path = disk.path().join("database");
    disk.plan(cut);
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "worker", "--nocapture"])
        .env(DATABASE, &path)
        .env(SYNCHRONOUS, synchronous)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(child.stdout.take().context("no output")?);
    let reader = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        let numbers = lines.filter_map(|line| line.strip_prefix("committed ")?.parse().ok());
        numbers.max().unwrap_or(0)
    });
    disk.wait_for_cut(wait::LONG)?;
    child.kill()?;
    disk.restore(loss);
    child.wait()?;
    let committed = reader.join().map_err(|_| anyhow!("the reader panicked"))?;
    if !path.exists() {
        return Ok((committed, 0));
    }
    let connection = open(&path, synchronous)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(verdict == "ok", "{cut:?} {loss:?}: {verdict}");
    let count = connection.query_row("SELECT count(*) FROM row", [], |row| row.get(0));
    Ok((committed, count.unwrap_or(0)))
}

#[test]
fn sqlite_keeps_every_commit_wherever_the_power_is_cut() {
    let place = tempfile::tempdir().unwrap();
    let cuts =
        (1..=40).step_by(3).flat_map(|n| [CutAt::BeforeSync(n), CutAt::AfterSync(n + 1), CutAt::BeforeChange(4 * n)]);
    for (index, cut) in cuts.enumerate() {
        let disk = PowerCut::mount(&place.path().join(format!("disk{index}"))).unwrap();
        let seed = index as u64;
        let loss = if index % 2 == 0 { Loss::Everything } else { Loss::Some { seed } };
        let (committed, found) = run_worker(&disk, cut, loss, "FULL").unwrap();
        assert!(found == committed || found == committed + 1, "{cut:?} {loss:?}: {committed} committed, {found} found");
    }
}

#[test]
fn sqlite_without_syncs_loses_what_it_said_was_committed() {
    let place = tempfile::tempdir().unwrap();
    let disk = PowerCut::mount(&place.path().join("disk")).unwrap();
    let (committed, found) = run_worker(&disk, CutAt::BeforeChange(100), Loss::Everything, "OFF").unwrap();
    assert!(committed > 3 && found < committed, "{committed} committed, {found} found");
}

#[test]
fn a_process_on_a_host_can_be_killed_in_the_dark() {
    let sandbox = Sandbox::new().unwrap();
    let disk = PowerCut::mount(&sandbox.folder().join("disk")).unwrap();
    let host = sandbox.host("one.example", &[]).unwrap();
    disk.plan(CutAt::AfterSync(3));
    let folder = disk.path().to_str().unwrap();
    let script = "cd $0; for n in 1 2 3 4; do echo $n > $n; sync $n; sync .; echo done $n; done";
    let mut writer = host.spawn("writer", &["sh", "-c", script, folder]).unwrap();
    disk.wait_for_cut(wait::LONG).unwrap();
    host.kill_all().unwrap();
    disk.restore(Loss::Everything);
    writer.wait(wait::LONG).unwrap();
    assert_eq!(writer.log(), "done 1\n");
    assert_eq!(host.run(&["ls", folder]).unwrap(), "1\n");
    assert_eq!(fs::read(disk.path().join("1")).unwrap(), b"1\n");
}
