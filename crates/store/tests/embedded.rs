//! What only the embedded store promises: that it is there again after reopening, that nobody else opens it
//! meanwhile, that a check finds what is wrong, and what it costs.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mail::ledger::{Batch, HoldOrder, ObjectKey, ObjectRef, Owner, Row, by_reference};
use rusqlite::Connection;
use store::{CheckReport, CommitError, Done, EmbeddedConfig, FaultKind, Full, Purpose, Quotas, Store, StoreError};
use support::*;

async fn reopen(store: Store, directory: &Path) -> Store {
    store.close().await;
    embedded(directory).await
}

/// Changes a closed store's database behind its back.
fn tamper(directory: &Path, sql: &str) {
    let database = Connection::open(directory.join("store/ledger.sqlite")).unwrap();
    assert!(database.execute(sql, []).unwrap() > 0, "{sql}");
}

#[tokio::test]
async fn everything_is_there_again_but_leases_and_what_was_not_committed() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path()).await;
    let (small, large) = (content(4000, 1), content(100_000, 2));
    let objects = [object(&store, &small).await, object(&store, &large).await];
    let rows = [with_reference(leg("a", Some(&objects[0]), Some(1)), 1), leg("b", Some(&objects[1]), None)];
    store.commit(put(rows.clone())).await.unwrap();
    assert_eq!(store.lease(at(5), 9, at(1_000_000)).await.unwrap().rows.len(), 1);
    let lost = object(&store, &content(90_000, 3)).await;
    let mut unfinished = store.create();
    unfinished.write(&large).await.unwrap();
    let instance = store.instance();
    let store = reopen(store, directory.path()).await;

    assert_eq!(store.instance(), instance);
    let rows = rows.map(|row| Row { version: 1, ..row });
    assert_eq!(store.list("", None, 9).await.unwrap(), rows);
    assert_eq!(store.find(&by_reference(&mail::ReferenceId([1; 16])), 9).await.unwrap(), rows[..1]);
    assert_eq!((octets(&store, &objects[0]).await, octets(&store, &objects[1]).await), (small, large));
    assert_eq!(store.lease(at(5), 9, at(1_000_000)).await.unwrap().rows, rows[..1]);
    assert_eq!(files(directory.path()), [objects[1].key.0.clone()]);
    assert!(matches!(store.read(&lost, 0..1).await, Err(StoreError::MissingObject(_))));
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.legs, counts.inbound, counts.scheduled, counts.staged), (2, 0, 1, 0));
    // Keys are never used again, not even those of objects that were lost.
    let new = object(&store, &content(90_000, 4)).await;
    assert!(new.key != lost.key && new.key != objects[1].key);
    store.close().await;
}

#[tokio::test]
async fn holds_outlive_the_process_and_their_record_shows_what_was_changed() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path()).await;
    let content = content(100_000, 2);
    let object = object(&store, &content).await;
    let until = Some(at(1000));
    let order = HoldOrder { object: object.clone(), id: "q".parse().unwrap(), until, why: "w".into(), at: at(5) };
    let holds = vec![order.clone(), HoldOrder { until: None, ..order }];
    store.commit(Batch { holds, ..put([leg("a", Some(&object), None)]) }).await.unwrap();
    store.commit(delete(&leg("a", None, None))).await.unwrap();
    let before = store.holds().await.unwrap();
    let store = reopen(store, directory.path()).await;
    assert_eq!(store.holds().await.unwrap(), before);
    assert_eq!(octets(&store, &object).await, content);
    assert_eq!(store.counts().await.unwrap().octets, object.size, "it still takes its room");

    for (change, back) in [
        (
            r#"UPDATE holds SET record = replace(record, '"until":1000', '"until":10') WHERE number = 1"#,
            r#"UPDATE holds SET record = replace(record, '"until":10', '"until":1000') WHERE number = 1"#,
        ),
        ("UPDATE holds SET object = NULL WHERE number = 1", ""),
        ("DELETE FROM holds WHERE number = 1", ""),
    ] {
        store.close().await;
        let database = Connection::open(directory.path().join("store/ledger.sqlite")).unwrap();
        assert!(database.execute(change, []).unwrap() > 0, "{change}");
        drop(database);
        let store = embedded(directory.path()).await;
        let kinds = kinds(&store.check(false, |_| ()).await.unwrap());
        assert!(kinds.contains(&FaultKind::Hold), "{change}: {kinds:?}");
        store.close().await;
        if !back.is_empty() {
            tamper(directory.path(), back);
        }
    }
}

fn kinds(report: &CheckReport) -> Vec<FaultKind> {
    report.faults.iter().map(|fault| fault.kind).collect()
}

#[tokio::test]
async fn an_older_store_learns_whose_its_objects_are() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path()).await;
    let object = object(&store, &content(100_000, 2)).await;
    let mut row = leg("a", Some(&object), None);
    leg_of(&mut row).source = mail::ledger::Source::Submission("alice".into());
    store.commit(put([row])).await.unwrap();
    store.close().await;
    // As it was before there were partial objects, quotas and holds.
    let database = Connection::open(directory.path().join("store/ledger.sqlite")).unwrap();
    database
        .execute_batch("DROP TABLE partials; DROP TABLE objects; DROP TABLE holds; PRAGMA user_version = 1")
        .unwrap();
    drop(database);
    let store = embedded(directory.path()).await;
    assert_eq!(store.counts().await.unwrap().octets, object.size);
    store.set_quotas(Quotas { account: Some(object.size), ..Quotas::default() });
    let owner = Owner { account: Some("alice".into()), domain: None };
    assert_eq!(store.reserve(owner, Purpose::New, 1).unwrap_err(), Full::Account);
    store.close().await;
}

#[tokio::test]
async fn nobody_else_can_open_it_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path()).await;
    let second = Store::open(config(directory.path())).await;
    let error = second.unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("store"), mode("store/objects")), (0o700, 0o700));
    store.close().await;
    let closed = store.commit(put([leg("a", None, None)])).await;
    assert!(matches!(closed, Err(CommitError::Failed(StoreError::Closed))));
    embedded(directory.path()).await.close().await;
}

#[tokio::test]
async fn dropping_the_last_clone_closes_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path()).await;
    let reader = store.create();
    drop((store.clone(), store, reader));
    loop {
        match Store::open(config(directory.path())).await {
            Ok(store) => break store.close().await,
            Err(StoreError::Locked(_)) => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    embedded(directory.path()).await.close().await;
    let database = Connection::open(directory.path().join("store/ledger.sqlite")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let error = Store::open(config(directory.path())).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn small_objects_touch_no_file_and_large_ones_are_synced_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path()).await;
    let before = store.counts().await.unwrap().disk;
    let small = object(&store, &content(65_000, 1)).await;
    store.commit(put([leg("a", Some(&small), None)])).await.unwrap();
    let disk = store.counts().await.unwrap().disk;
    assert_eq!((disk.file_syncs, disk.directory_syncs), (0, before.directory_syncs));
    assert_eq!(disk.commits, before.commits + 1);
    assert_eq!(files(directory.path()), [""; 0]);

    let large = object(&store, &content(66_000, 2)).await;
    assert_eq!(store.counts().await.unwrap().disk.file_syncs, 0, "only the commit syncs");
    store.commit(put([leg("b", Some(&large), None)])).await.unwrap();
    store.commit(put([leg("c", Some(&large), None)])).await.unwrap();
    let disk = store.counts().await.unwrap().disk;
    assert_eq!((disk.file_syncs, disk.directory_syncs), (1, before.directory_syncs + 1));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_batches_share_one_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path()).await;
    let before = store.counts().await.unwrap().disk.commits;
    let commit = |n: usize| {
        let store = store.clone();
        async move { store.commit(put([leg(&format!("m{n}"), None, None)])).await }
    };
    let tasks = (0..400).map(|n| tokio::spawn(commit(n))).collect::<Vec<_>>();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let commits = store.counts().await.unwrap().disk.commits - before;
    assert!(commits < 200, "{commits} transactions for 400 batches");
    store.close().await;
}

#[tokio::test]
async fn too_much_waiting_content_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { staged_limit: 10_000, ..config(directory.path()) };
    let store = Store::open(config).await.unwrap();
    let first = object(&store, &content(6000, 1)).await;
    let mut second = store.create();
    second.write(&content(6000, 2)).await.unwrap();
    assert!(matches!(second.finish().await, Err(StoreError::Overloaded)));
    store.discard(&first);
    object(&store, &content(6000, 3)).await;
    store.close().await;
}

/// A store with one small and one large object, closed.
async fn sample(directory: &Path) -> [ObjectRef; 2] {
    let store = embedded(directory).await;
    let objects = [object(&store, &content(4000, 1)).await, object(&store, &content(100_000, 2)).await];
    let rows = [with_reference(leg("a", Some(&objects[0]), None), 1), leg("b", Some(&objects[1]), None)];
    store.commit(put(rows)).await.unwrap();
    assert!(store.check(false, |_| ()).await.unwrap().faults.is_empty());
    store.close().await;
    objects
}

fn faults(report: &CheckReport) -> Vec<(FaultKind, &str, Done)> {
    report.faults.iter().map(|fault| (fault.kind, fault.subject.as_str(), fault.done)).collect()
}

/// Checks, repairs, checks again: what is found first, and what is still found in the end.
async fn check_twice(directory: &Path) -> (CheckReport, CheckReport) {
    let store = embedded(directory).await;
    let found = store.check(false, |_| ()).await.unwrap();
    let repaired = store.check(true, |_| ()).await.unwrap();
    assert_eq!(found.faults.len(), repaired.faults.len());
    let after = store.check(false, |_| ()).await.unwrap();
    store.close().await;
    (repaired, after)
}

#[tokio::test]
async fn a_flipped_octet_in_a_file_is_found_and_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let [_, large] = sample(directory.path()).await;
    let path = directory.path().join("store/objects").join(&large.key.0);
    let mut octets = fs::read(&path).unwrap();
    octets[77_777] ^= 1;
    fs::write(&path, octets).unwrap();
    let (found, after) = check_twice(directory.path()).await;
    assert_eq!(faults(&found), [(FaultKind::DamagedObject, "leg/b/0", Done::SetAside)]);
    assert_eq!(faults(&after), [(FaultKind::MissingObject, "leg/b/0", Done::Nothing)]);
    assert!(directory.path().join("store/damaged").join(&large.key.0).exists());
    let store = embedded(directory.path()).await;
    assert!(matches!(store.read(&large, 0..1).await, Err(StoreError::MissingObject(_))), "never sent");
    store.close().await;
}

#[tokio::test]
async fn a_flipped_octet_in_the_database_is_found_and_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let [small, _] = sample(directory.path()).await;
    tamper(directory.path(), "UPDATE blobs SET octets = CAST('x' || substr(octets, 2) AS BLOB)");
    let (found, after) = check_twice(directory.path()).await;
    assert_eq!(faults(&found), [(FaultKind::DamagedObject, "leg/a/0", Done::SetAside)]);
    assert_eq!(faults(&after), [(FaultKind::MissingObject, "leg/a/0", Done::Nothing)]);
    let kept = fs::read(directory.path().join("store/damaged").join(&small.key.0)).unwrap();
    assert_eq!(kept.len() as u64, small.size);
}

#[tokio::test]
async fn missing_and_truncated_files_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let [_, large] = sample(directory.path()).await;
    let path = directory.path().join("store/objects").join(&large.key.0);
    fs::File::options().write(true).open(&path).unwrap().set_len(70_000).unwrap();
    let store = embedded(directory.path()).await;
    let read = store.read(&large, 0..u64::MAX).await.unwrap().collect(u64::MAX).await;
    assert!(matches!(read, Err(StoreError::DamagedObject { .. })), "{read:?}");
    let report = store.check(false, |_| ()).await.unwrap();
    assert_eq!(faults(&report), [(FaultKind::DamagedObject, "leg/b/0", Done::Nothing)]);
    assert!(report.faults[0].detail.contains("70000 octets"), "{report:?}");
    fs::remove_file(&path).unwrap();
    let report = store.check(true, |_| ()).await.unwrap();
    assert_eq!(faults(&report), [(FaultKind::MissingObject, "leg/b/0", Done::Nothing)]);
    assert!(!report.is_clean());
    store.close().await;
}

#[tokio::test]
async fn orphans_and_wrong_indexes_are_put_right() {
    let directory = tempfile::tempdir().unwrap();
    let objects = sample(directory.path()).await;
    tamper(directory.path(), "INSERT INTO blobs VALUES ('i-lost', x'00')");
    tamper(directory.path(), "INSERT INTO alternates VALUES ('ref/other', 2)");
    tamper(directory.path(), "UPDATE rows SET object = NULL, alternates = '' WHERE key = 'leg/a/0'");
    let store = embedded(directory.path()).await;
    fs::write(directory.path().join("store/objects/f-000000-1"), b"x").unwrap();
    let mut beginning = store.create();
    beginning.write(&content(100_000, 1)).await.unwrap();
    let staged = object(&store, &content(100_000, 3)).await;
    let mut progress = 0;
    let found = store.check(true, |p| progress = p.rows).await.unwrap();
    let kinds = faults(&found);
    assert_eq!(progress, 2);
    assert!(kinds.contains(&(FaultKind::WrongIndex, "leg/a/0", Done::Repaired)), "{kinds:?}");
    assert!(kinds.contains(&(FaultKind::WrongIndex, "ref/other", Done::Repaired)), "{kinds:?}");
    assert!(kinds.contains(&(FaultKind::OrphanObject, "i-lost", Done::Repaired)), "{kinds:?}");
    assert!(kinds.contains(&(FaultKind::OrphanObject, "f-000000-1", Done::Repaired)), "{kinds:?}");
    assert_eq!(store.check(false, |_| ()).await.unwrap().faults, []);
    // What is being written or waits for its commit is no orphan.
    beginning.finish().await.unwrap();
    store.commit(put([leg("c", Some(&staged), None)])).await.unwrap();
    assert_eq!(octets(&store, &objects[0]).await, content(4000, 1));
    assert_eq!(octets(&store, &staged).await, content(100_000, 3));
    store.close().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_reported_and_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    sample(directory.path()).await;
    tamper(directory.path(), "UPDATE rows SET due = 1");
    tamper(directory.path(), "UPDATE rows SET body = '{' WHERE key = 'leg/a/0'");
    let store = embedded(directory.path()).await;
    let leased = store.lease(at(5), 9, at(9)).await.unwrap();
    assert_eq!(leased.rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), [key("b")]);
    assert!(matches!(store.load(vec![key("a")]).await, Err(StoreError::DamagedRow { .. })));
    let report = store.check(true, |_| ()).await.unwrap();
    assert_eq!(faults(&report), [(FaultKind::DamagedRow, "leg/a/0", Done::Nothing)]);
    store.close().await;
}

#[tokio::test]
async fn a_key_that_leads_elsewhere_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path()).await;
    let object = object(&store, &content(10, 1)).await;
    let evil = ObjectRef { key: ObjectKey("f-../../etc/passwd".into()), ..object };
    assert!(matches!(store.read(&evil, 0..1).await, Err(StoreError::MissingObject(_))));
    store.close().await;
}

/// Not a test of its own: run as a process whose memory can be measured.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by streaming_takes_constant_memory"]
async fn child_streams() {
    let directory = tempfile::tempdir().unwrap();
    let store = embedded(directory.path()).await;
    let (chunk, mut writer) = (content(50_000, 1), store.create());
    for _ in 0..4000 {
        writer.write(&chunk).await.unwrap();
    }
    let (object, _) = writer.finish().await.unwrap();
    store.commit(put([leg("a", Some(&object), None)])).await.unwrap();
    let mut reader = store.read(&object, 0..u64::MAX).await.unwrap();
    let mut total = 0;
    while let Some(chunk) = reader.next_chunk().await.unwrap() {
        total += chunk.len() as u64;
    }
    assert!(total == object.size && total > 200_000_000);
    assert!(store.check(false, |_| ()).await.unwrap().is_clean());
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    println!("peak {}", peak.split_whitespace().nth(1).unwrap());
    store.close().await;
}

#[test]
fn streaming_takes_constant_memory() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", "child_streams", "--ignored", "--nocapture"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let peak = text.lines().find_map(|line| line.split("peak ").nth(1)).unwrap_or_else(|| panic!("{text}"));
    let kibibytes = peak.trim().parse::<u64>().unwrap();
    assert!(kibibytes < 32 << 10, "{kibibytes} KiB for an object of 200 MB");
}

#[tokio::test]
async fn a_peak_of_mail_does_not_leave_its_size_behind() {
    let directory = tempfile::tempdir().unwrap();
    let slack = EmbeddedConfig { slack: 1 << 20, ..config(directory.path()) };
    let store = Store::open(slack.clone()).await.unwrap();
    let mut names = Vec::new();
    for number in 0..64_u8 {
        let object = object(&store, &content(40_000, number)).await;
        let row = leg(&format!("m{number}"), Some(&object), None);
        store.commit(put([row.clone()])).await.unwrap();
        names.push(row);
    }
    let kept = names.pop().unwrap();
    for row in names {
        store.commit(delete(&row)).await.unwrap();
    }
    store.close().await;
    let size = || fs::metadata(directory.path().join("store/ledger.sqlite")).unwrap().len();
    let before = size();
    assert!(before > 2 << 20, "{before}");
    let store = Store::open(slack).await.unwrap();
    assert!(size() < before / 4, "{} of {before}", size());
    let found = store.load(vec![kept.key.clone()]).await.unwrap();
    assert_eq!(octets(&store, found[0].object().unwrap()).await, content(40_000, 63));
    store.close().await;
}
