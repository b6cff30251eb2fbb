//! Objects that come from a repository: as received, over breaks and restarts, and nothing that is not the object.
#![allow(clippy::unwrap_used)]

mod support;

use std::future::Future;
use std::io::Write as _;
use std::path::Path;

use mail::ledger::{Coding, Representation};
use mail::{Timestamp, Xuid};
use store::{BadCoding, EmbeddedConfig, Intake, IntakeError, PartialLimits, Store, Wanted};
use support::*;

fn on_every_backend<F: Future<Output = ()>>(test: impl Fn(Store) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        test(memory()).await;
        for inline_limit in [64 << 10, 0] {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(EmbeddedConfig { inline_limit, ..config(directory.path()) }).await.unwrap();
            test(store.clone()).await;
            assert!(store.check(false, |_| ()).await.unwrap().is_clean());
            store.close().await;
        }
    });
}

fn wanted(content: &[u8]) -> Wanted {
    Wanted {
        origin: "a.example".parse().unwrap(),
        xuid: Xuid::of(content),
        size: content.len() as u64,
        until: at(9_000_000),
        now: at(1000),
    }
}

fn representation(coding: Option<Coding>, size: usize) -> Representation {
    Representation { coding, tag: Some("\"t\"".into()), size: Some(size as u64) }
}

/// What a repository would send.
async fn stored(content: &[u8]) -> Vec<u8> {
    let store = memory();
    let object = coded(&store, content).await;
    store.read_stored(&object, 0..u64::MAX).await.unwrap().collect(u64::MAX).await.unwrap().to_vec()
}

async fn take(intake: &mut Intake, octets: &[u8]) {
    for chunk in octets.chunks(30_000) {
        intake.write(chunk).await.unwrap();
    }
}

async fn begun(store: &Store, content: &[u8], coding: Option<Coding>, all: usize) -> Intake {
    let mut intake = store.intake(wanted(content)).await.unwrap();
    assert_eq!(intake.held(), None);
    intake.begin(representation(coding, all)).await.unwrap();
    intake
}

#[test]
fn an_object_is_kept_as_it_is_received() {
    on_every_backend(|store| async move {
        for size in [9000, 60_000, 400_000] {
            let content = content(size, 1);
            for coding in [None, Some(Coding::Zstd)] {
                let sent = if coding.is_some() { stored(&content).await } else { content.clone() };
                let mut intake = begun(&store, &content, coding, sent.len()).await;
                take(&mut intake, &sent).await;
                let (object, checked) = intake.finish().await.unwrap();
                assert_eq!((object.xuid, object.size), (Xuid::of(&content), content.len() as u64));
                assert_eq!((checked.verdict, object.stored_size()), (Ok(()), sent.len() as u64));
                assert_eq!(object.coded.is_some(), coding.is_some());
                store.commit(put([leg(&format!("m{size}{}", coding.is_some()), Some(&object), None)])).await.unwrap();
                assert!(octets(&store, &object).await == content);
            }
        }
    });
}

#[test]
fn what_is_coded_in_another_shape_is_kept_decoded() {
    on_every_backend(|store| async move {
        for size in [5000, 300_000] {
            let content = content(size, 1);
            let sent = zstd::bulk::compress(&content, 19).unwrap();
            let mut intake = begun(&store, &content, Some(Coding::Zstd), sent.len()).await;
            take(&mut intake, &sent).await;
            let (object, _) = intake.finish().await.unwrap();
            assert_eq!(object.xuid, Xuid::of(&content));
            assert_eq!(object.coded.is_some(), size < 128 * 1024);
            store.commit(put([leg(&format!("m{size}"), Some(&object), None)])).await.unwrap();
            assert!(octets(&store, &object).await == content);
        }
    });
}

#[test]
fn octets_that_cannot_be_the_object_are_told_from_a_full_disk() {
    on_every_backend(|store| async move {
        let content = content(1000, 1);
        let size = content.len();
        let bomb = zstd::bulk::compress(&vec![b'A'; 10_000_000], 3).unwrap();
        for sent in [bomb, stored(&support::content(9000, 1)).await] {
            let mut intake = begun(&store, &content, Some(Coding::Zstd), sent.len()).await;
            let written = intake.write(&sent).await;
            let Err(IntakeError::Bad(bad)) = (if written.is_ok() { intake.finish().await.map(drop) } else { written })
            else {
                panic!("taken")
            };
            assert_eq!(bad, BadCoding::TooLong(size as u64));
            // And the same intake takes it as it is.
            intake.begin(representation(None, size)).await.unwrap();
            take(&mut intake, &content).await;
            assert_eq!(intake.finish().await.unwrap().0.xuid, Xuid::of(&content));
        }
        let sent = stored(&support::content(9000, 1)).await;
        let mut intake = begun(&store, &support::content(9000, 1), Some(Coding::Zstd), sent.len()).await;
        intake.write(&sent[..sent.len() - 1]).await.unwrap();
        assert!(matches!(intake.finish().await, Err(IntakeError::Bad(BadCoding::Incomplete))));
    });
}

#[test]
fn a_retrieval_goes_on_where_the_last_one_stopped() {
    on_every_backend(|store| async move {
        let content = content(400_000, 1);
        for coding in [None, Some(Coding::Zstd)] {
            let sent = if coding.is_some() { stored(&content).await } else { content.clone() };
            let part = sent.len() / 3;
            let mut intake = begun(&store, &content, coding, sent.len()).await;
            take(&mut intake, &sent[..part]).await;
            let second = store.intake(wanted(&content)).await.unwrap();
            assert_eq!(second.held(), None, "one at a time goes on with it");
            drop(second);
            intake.keep().await.unwrap();

            let other = Wanted { origin: "b.example".parse().unwrap(), ..wanted(&content) };
            assert_eq!(store.intake(other).await.unwrap().held(), None, "what another origin has sent is its own");
            let mut intake = store.intake(wanted(&content)).await.unwrap();
            assert_eq!(intake.held(), Some((&representation(coding, sent.len()), part as u64)));
            take(&mut intake, &sent[part..]).await;
            let (object, _) = intake.finish().await.unwrap();
            assert_eq!((object.xuid, object.coded.is_some()), (Xuid::of(&content), coding.is_some()));
            store.commit(put([leg(&format!("m{}", coding.is_some()), Some(&object), None)])).await.unwrap();
            assert!(octets(&store, &object).await == content);
            drop(intake);
            assert_eq!(store.intake(wanted(&content)).await.unwrap().held(), None, "it is whole");
        }
    });
}

#[test]
fn without_a_strong_tag_or_after_its_time_nothing_is_kept() {
    on_every_backend(|store| async move {
        let content = content(400_000, 1);
        let mut intake = store.intake(wanted(&content)).await.unwrap();
        intake.begin(Representation { tag: None, ..representation(None, content.len()) }).await.unwrap();
        take(&mut intake, &content[..200_000]).await;
        intake.keep().await.unwrap();
        assert_eq!(store.intake(wanted(&content)).await.unwrap().held(), None);

        let keep = async || {
            let mut intake = begun(&store, &content, None, content.len()).await;
            take(&mut intake, &content[..200_000]).await;
            intake.keep().await.unwrap();
        };
        keep().await;
        let mut intake = store.intake(wanted(&content)).await.unwrap();
        intake.begin(representation(None, content.len())).await.unwrap();
        drop(intake);
        assert_eq!(store.intake(wanted(&content)).await.unwrap().held(), None, "begun anew");
        keep().await;
        store.sweep(at(9_000_000)).await.unwrap();
        assert!(store.intake(wanted(&content)).await.unwrap().held().is_some());
        store.sweep(at(9_000_001)).await.unwrap();
        assert_eq!(store.intake(wanted(&content)).await.unwrap().held(), None);
    });
}

async fn opened(directory: &Path) -> Store {
    Store::open(EmbeddedConfig { inline_limit: 1000, ..config(directory) }).await.unwrap()
}

#[tokio::test]
async fn what_was_recorded_is_there_after_a_restart_and_nothing_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let content = content(400_000, 1);
    let store = opened(directory.path()).await;
    let mut intake = begun(&store, &content, None, content.len()).await;
    take(&mut intake, &content[..150_000]).await;
    intake.keep().await.unwrap();
    store.close().await;
    let names = files(directory.path());
    assert_eq!(names.len(), 1);
    // What a power cut may leave of octets that were written and not recorded.
    let path = directory.path().join("store/objects").join(&names[0]);
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(&[0; 500_000]).unwrap();

    let store = opened(directory.path()).await;
    assert!(store.check(false, |_| ()).await.unwrap().is_clean(), "it is no orphan");
    let mut intake = store.intake(wanted(&content)).await.unwrap();
    assert_eq!(intake.held().map(|(_, octets)| octets), Some(150_000));
    take(&mut intake, &content[150_000..]).await;
    let (object, _) = intake.finish().await.unwrap();
    assert_eq!(object.xuid, Xuid::of(&content));
    store.commit(put([leg("a", Some(&object), None)])).await.unwrap();
    assert!(octets(&store, &object).await == content);
    drop(intake);
    store.close().await;
    assert_eq!(files(directory.path()), names);
}

#[tokio::test]
async fn a_record_whose_file_is_gone_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let content = content(400_000, 1);
    let store = opened(directory.path()).await;
    let mut intake = begun(&store, &content, None, content.len()).await;
    take(&mut intake, &content[..150_000]).await;
    intake.keep().await.unwrap();
    let path = directory.path().join("store/objects").join(&files(directory.path())[0]);
    std::fs::write(&path, &content[..100_000]).unwrap();
    assert_eq!(store.intake(wanted(&content)).await.unwrap().held(), None, "too short");
    store.close().await;
    assert_eq!(files(directory.path()), [""; 0]);
}

#[tokio::test]
async fn too_many_that_broke_off_make_room() {
    let directory = tempfile::tempdir().unwrap();
    let partials = PartialLimits { number: 3, ..PartialLimits::default() };
    let store = Store::open(EmbeddedConfig { inline_limit: 0, partials, ..config(directory.path()) }).await.unwrap();
    let contents: Vec<Vec<u8>> = (0..5).map(|seed| content(100_000, seed)).collect();
    for (content, second) in contents.iter().zip(1..) {
        let wanted = Wanted { now: Timestamp::from_secs(second), ..wanted(content) };
        let mut intake = store.intake(wanted).await.unwrap();
        intake.begin(representation(None, content.len())).await.unwrap();
        take(&mut intake, &content[..50_000]).await;
        intake.keep().await.unwrap();
    }
    for (number, content) in contents.iter().enumerate() {
        let held = store.intake(wanted(content)).await.unwrap().held().is_some();
        assert_eq!(held, number >= 2, "{number}");
    }
    store.close().await;
    assert_eq!(files(directory.path()).len(), 3);
}

#[test]
fn what_was_secured_is_there_however_little_it_is_and_the_whole_is_told_from_another() {
    on_every_backend(|store| async move {
        let content = content(5000, 1);
        let mut intake = begun(&store, &content, None, content.len()).await;
        assert!(intake.is_alone() && !store.intake(wanted(&content)).await.unwrap().is_alone());
        intake.write(&content[..100]).await.unwrap();
        intake.secure().await.unwrap();
        assert!(!intake.is_wanted().await.unwrap(), "a part of it");
        drop(intake);
        let mut intake = store.intake(wanted(&content)).await.unwrap();
        assert_eq!(intake.held().map(|(_, octets)| octets), Some(100));
        intake.write(&content[100..]).await.unwrap();
        assert!(intake.is_wanted().await.unwrap());
        intake.secure().await.unwrap();
        drop(intake);
        let mut intake = store.intake(wanted(&content)).await.unwrap();
        assert!(intake.is_wanted().await.unwrap(), "also when it was gone on with");
        let (object, _) = intake.finish().await.unwrap();
        assert_eq!(object.xuid, Xuid::of(&content));

        let other = support::content(5000, 2);
        let mut wrong = begun(&store, &other, None, content.len()).await;
        wrong.write(&content).await.unwrap();
        assert!(!wrong.is_wanted().await.unwrap());
        let mut second = store.intake(wanted(&other)).await.unwrap();
        second.begin(representation(None, other.len())).await.unwrap();
        second.write(&other).await.unwrap();
        assert!(second.secure().await.is_err(), "nothing of a second writer is recorded");
    });
}
