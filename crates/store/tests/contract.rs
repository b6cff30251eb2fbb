//! What every backend promises. Each test runs on all of them, and one compares them step by step.
#![allow(clippy::unwrap_used)]

mod support;

use std::future::Future;

use mail::Xuid;
use mail::ledger::{Batch, HoldOrder, Key, ObjectKey, ObjectRef, Owner, Row, Source, by_pending, by_reference};
use mail::object::ObjectFault;
use proptest::prelude::*;
use store::{CommitError, Full, Purpose, Quotas, ReleaseError, Store, StoreError};
use support::*;

/// Runs a test on every backend; the embedded one also with everything in files and with everything in the database.
fn on_every_backend<F: Future<Output = ()>>(test: impl Fn(Store) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        test(memory()).await;
        for inline_limit in [64 << 10, 0, usize::MAX] {
            let directory = tempfile::tempdir().unwrap();
            let config = store::EmbeddedConfig { inline_limit, ..config(directory.path()) };
            let store = Store::open(config).await.unwrap();
            test(store.clone()).await;
            assert!(store.check(false, |_| ()).await.unwrap().is_clean());
            store.close().await;
        }
    });
}

async fn load(store: &Store, name: &str) -> Option<Row> {
    store.load(vec![key(name)]).await.unwrap().pop()
}

fn conflict(result: Result<(), CommitError>) -> Vec<Key> {
    match result {
        Err(CommitError::Conflict(keys)) => keys,
        other => panic!("{other:?}"),
    }
}

async fn is_gone(store: &Store, object: &ObjectRef) -> bool {
    // The file is removed in the background.
    for _ in 0..1000 {
        match store.read(object, 0..1).await {
            Err(StoreError::MissingObject(key)) => return key == object.key,
            _ => tokio::task::yield_now().await,
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    false
}

#[test]
fn objects_come_back_as_they_were() {
    on_every_backend(|store| async move {
        for size in [20, 4096, 65_536, 65_537, 131_072, 300_000] {
            let content = content(size, 1);
            let object = object(&store, &content).await;
            assert_eq!(object.xuid, Xuid::of(&content));
            assert_eq!(octets(&store, &object).await, content, "before the commit");
            let name = format!("m{size}");
            store.commit(put([leg(&name, Some(&object), None)])).await.unwrap();
            assert_eq!(octets(&store, &object).await, content, "after it");
            let whole = content.len() as u64;
            for (from, to) in [(0, 1), (7, 7), (10, whole), (whole - 1, whole + 100), (whole + 5, whole + 9), (5, 3)] {
                let reader = store.read(&object, from..to).await.unwrap();
                let expected = content.get(from as usize..to.min(whole) as usize).unwrap_or_default();
                assert_eq!(reader.remaining(), expected.len() as u64);
                assert_eq!(reader.collect(u64::MAX).await.unwrap(), expected, "{from}..{to}");
            }
        }
    });
}

#[test]
fn a_coded_object_reads_like_any_other() {
    on_every_backend(|store| async move {
        for size in [5000, 65_537, 131_072, 300_000] {
            let content = content(size, 1);
            let object = coded(&store, &content).await;
            assert!(object.stored_size() < object.size / 2, "{} of {}", object.stored_size(), object.size);
            store.commit(put([leg(&format!("m{size}"), Some(&object), None)])).await.unwrap();
            let read = store.load(vec![key(&format!("m{size}"))]).await.unwrap().pop().unwrap();
            assert_eq!(read.object(), Some(&object), "the row says how it is kept");
            assert!(octets(&store, &object).await == content);
            let whole = content.len() as u64;
            for (from, to) in
                [(0, 1), (70_000, 70_001), (10, whole), (whole - 1, whole + 9), (whole, whole + 9), (5, 3)]
            {
                let read = store.read(&object, from..to).await.unwrap().collect(u64::MAX).await.unwrap();
                assert!(read == content.get(from as usize..to.min(whole) as usize).unwrap_or_default(), "{from}..{to}");
            }
            let stored = store.read_stored(&object, 0..u64::MAX).await.unwrap().collect(u64::MAX).await.unwrap();
            let coded = object.coded.unwrap();
            assert_eq!((stored.len() as u64, Xuid::of(&stored)), (coded.size, coded.digest));
            let part = store.read_stored(&object, 7..99).await.unwrap().collect(u64::MAX).await.unwrap();
            assert_eq!(part, stored[7..99]);
        }
        assert!(store.check(false, |_| ()).await.unwrap().is_clean());
        assert_eq!(coded(&store, &content(900, 1)).await.coded, None, "too small to be worth it");
    });
}

#[test]
fn content_is_judged_while_it_is_written() {
    on_every_backend(|store| async move {
        for (content, verdict) in [
            (b"A: b\r\n\r\nc\r\n".to_vec(), Ok(())),
            (vec![], Err(ObjectFault::Empty)),
            ([content(200_000, 1), b"x".to_vec()].concat(), Err(ObjectFault::NoFinalLineEnd)),
        ] {
            let mut writer = store.create();
            writer.write(&content).await.unwrap();
            let (_, checked) = writer.finish().await.unwrap();
            assert_eq!((checked.verdict, checked.size), (verdict, content.len() as u64));
        }
    });
}

#[test]
fn a_row_is_written_only_at_the_version_that_was_read() {
    on_every_backend(|store| async move {
        store.commit(put([leg("a", None, None)])).await.unwrap();
        assert_eq!(conflict(store.commit(put([leg("a", None, None), leg("b", None, None)])).await), [key("a")]);
        assert_eq!(load(&store, "b").await, None);
        let read = load(&store, "a").await.unwrap();
        assert_eq!(read, Row { version: 1, ..leg("a", None, None) });
        let changed = Row { due: Some(at(9)), ..read.clone() };
        store.commit(put([changed.clone()])).await.unwrap();
        assert_eq!(load(&store, "a").await, Some(Row { version: 2, ..changed }));
        assert_eq!(conflict(store.commit(put([read.clone()])).await), [key("a")]);
        assert_eq!(conflict(store.commit(Batch { delete: vec![(key("a"), 1)], ..Batch::default() }).await), [key("a")]);
        let missing = Batch { delete: vec![(key("x"), 1)], put: vec![leg("c", None, None)], ..Batch::default() };
        assert_eq!(conflict(store.commit(missing).await), [key("x")]);
        store.commit(Batch { delete: vec![(key("a"), 2)], ..Batch::default() }).await.unwrap();
        assert_eq!((load(&store, "a").await, load(&store, "c").await), (None, None));
        // A name that was deleted begins anew.
        store.commit(put([leg("a", None, None)])).await.unwrap();
    });
}

#[test]
fn of_many_writers_of_one_version_exactly_one_wins() {
    on_every_backend(|store| async move {
        store.commit(put([leg("a", None, None)])).await.unwrap();
        let read = load(&store, "a").await.unwrap();
        let tasks = (0..40).map(|n| {
            let (store, row, own) =
                (store.clone(), Row { due: Some(at(n)), ..read.clone() }, leg(&format!("b{n}"), None, None));
            tokio::spawn(async move { store.commit(put([own, row])).await.map(|()| n) })
        });
        let mut winners = vec![];
        for task in tasks.collect::<Vec<_>>() {
            winners.extend(task.await.unwrap().ok());
        }
        assert_eq!(winners.len(), 1);
        let rows = store.list("leg/", None, 100).await.unwrap();
        assert_eq!(
            rows.iter().map(|r| r.key.to_string()).collect::<Vec<_>>(),
            ["leg/a/0".into(), format!("leg/b{}/0", winners[0])]
        );
        assert_eq!(rows[0].due, Some(at(winners[0])));
    });
}

#[test]
fn a_batch_that_names_a_row_twice_is_refused() {
    on_every_backend(|store| async move {
        let twice = Batch { delete: vec![(key("a"), 0)], ..put([leg("a", None, None)]) };
        let result = store.commit(twice).await;
        assert!(matches!(result, Err(CommitError::Failed(StoreError::Misuse(_)))), "{result:?}");
    });
}

#[test]
fn an_object_lives_as_long_as_a_row_names_it() {
    on_every_backend(|store| async move {
        let content = content(70_000, 2);
        let object = object(&store, &content).await;
        let (a, b) = (leg("a", Some(&object), None), leg("b", Some(&object), None));
        store.commit(put([a.clone(), b.clone()])).await.unwrap();
        store.commit(put([finished(a.clone())])).await.unwrap();
        assert_eq!(octets(&store, &object).await, content);
        // Named anew by a row of the same batch that drops it elsewhere.
        store.commit(put([finished(b), leg("c", Some(&object), None)])).await.unwrap();
        assert_eq!(octets(&store, &object).await, content);
        let mut reader = store.read(&object, 0..u64::MAX).await.unwrap();
        let first = reader.next_chunk().await.unwrap().unwrap();
        store.commit(delete(&leg("c", None, None))).await.unwrap();
        assert!(is_gone(&store, &object).await);
        let rest = reader.collect(u64::MAX).await.unwrap();
        assert_eq!([first, rest].concat(), content, "a reader goes on");
        let result = store.commit(put([leg("d", Some(&object), None)])).await;
        assert!(matches!(result, Err(CommitError::Failed(StoreError::MissingObject(_)))), "{result:?}");
    });
}

fn order(object: &ObjectRef, until: Option<u64>) -> HoldOrder {
    let until = until.map(at);
    HoldOrder { object: object.clone(), id: "q".parse().unwrap(), until, why: "a test".into(), at: at(5) }
}

#[test]
fn a_held_object_stays_until_its_date() {
    on_every_backend(|store| async move {
        for size in [900, 100_000] {
            let content = content(size, 3);
            let object = object(&store, &content).await;
            let name = format!("m{size}");
            // Held in the very commit that accepts it.
            let batch = Batch { holds: vec![order(&object, Some(1000))], ..put([leg(&name, Some(&object), None)]) };
            store.commit(batch).await.unwrap();
            store.commit(put([finished(leg(&name, Some(&object), None))])).await.unwrap();
            assert_eq!(octets(&store, &object).await, content, "its row has let it go");
            let hold = store.holds().await.unwrap().holds.pop().unwrap();
            assert_eq!((hold.object.xuid, hold.until), (object.xuid, Some(at(1000))));
            let early = store.release(hold.number, "early", at(999)).await;
            assert!(matches!(early, Err(ReleaseError::NotBefore { .. })), "{early:?}");
            store.sweep(at(999)).await.unwrap();
            assert_eq!(octets(&store, &object).await, content);
            assert!(store.check(true, |_| ()).await.unwrap().is_clean(), "it is no orphan");
            store.sweep(at(1000)).await.unwrap();
            assert!(is_gone(&store, &object).await);
            assert_eq!(store.holds().await.unwrap().holds, []);
        }
        assert_eq!(store.counts().await.unwrap().octets, 0);
        assert_eq!(store.holds().await.unwrap().links, 4);
    });
}

#[test]
fn a_hold_without_a_date_waits_for_its_release_and_what_is_gone_cannot_be_held() {
    on_every_backend(|store| async move {
        let object = object(&store, &content(100_000, 4)).await;
        let hold = |until| Batch { holds: vec![order(&object, until)], ..Batch::default() };
        let result = store.commit(hold(None)).await;
        assert!(
            matches!(result, Err(CommitError::Failed(StoreError::MissingObject(_)))),
            "no row names it: {result:?}"
        );
        store.commit(put([leg("a", Some(&object), None)])).await.unwrap();
        store.commit(hold(None)).await.unwrap();
        store.commit(hold(Some(9))).await.unwrap();
        store.commit(delete(&leg("a", None, None))).await.unwrap();
        store.sweep(at(1_000_000)).await.unwrap();
        assert_eq!(store.holds().await.unwrap().holds.len(), 1);
        assert!(octets(&store, &object).await.len() >= 100_000);
        store.release(1, "over", at(10)).await.unwrap();
        assert!(matches!(store.release(1, "over", at(10)).await, Err(ReleaseError::Unknown(1))));
        assert!(is_gone(&store, &object).await);
    });
}

#[test]
fn what_is_stored_counts_for_whose_it_is() {
    on_every_backend(|store| async move {
        let domain = "a.example".parse::<mail::Domain>().unwrap();
        store.set_quotas(Quotas { account: Some(150_000), ..Quotas::default() });
        let object = object(&store, &content(100_000, 5)).await;
        let mut row = leg("a", Some(&object), None);
        leg_of(&mut row).source = Source::Submission("alice".into());
        let owner = Owner { account: Some("alice".into()), domain: Some(domain) };
        assert_eq!(row.owner(), owner);
        let room = store.reserve(owner.clone(), Purpose::New, object.size).unwrap();
        store.commit(put([row.clone()])).await.unwrap();
        drop(room);
        assert_eq!(store.counts().await.unwrap().octets, object.size);
        assert_eq!(store.reserve(owner.clone(), Purpose::New, 100_000).unwrap_err(), Full::Account);
        store.reserve(Owner { account: Some("bob".into()), ..owner.clone() }, Purpose::New, 100_000).unwrap();
        store.commit(put([finished(row)])).await.unwrap();
        store.reserve(owner, Purpose::New, 100_000).unwrap();
        assert_eq!(store.counts().await.unwrap().octets, 0);
    });
}

#[test]
fn a_discarded_or_unfinished_object_is_gone() {
    on_every_backend(|store| async move {
        let object = object(&store, &content(70_000, 3)).await;
        store.discard(&object);
        assert!(is_gone(&store, &object).await);
        let mut writer = store.create();
        writer.write(&content(300_000, 3)).await.unwrap();
        drop(writer);
        let kept = support::object(&store, &content(70_000, 4)).await;
        store.commit(put([leg("a", Some(&kept), None)])).await.unwrap();
        store.discard(&kept);
        assert_eq!(octets(&store, &kept).await, content(70_000, 4));
        assert_eq!(store.counts().await.unwrap().staged, 0);
    });
}

#[test]
fn a_conflict_leaves_the_object_on_the_stage() {
    on_every_backend(|store| async move {
        store.commit(put([leg("a", None, None)])).await.unwrap();
        let object = object(&store, &content(70_000, 5)).await;
        conflict(store.commit(put([leg("a", Some(&object), None)])).await);
        store.commit(put([leg("b", Some(&object), None)])).await.unwrap();
        assert_eq!(octets(&store, &object).await, content(70_000, 5));
    });
}

#[test]
fn reports_are_staged_under_the_callers_key() {
    on_every_backend(|store| async move {
        let content = content(900, 6);
        let object = ObjectRef {
            key: ObjectKey("report-1".into()),
            xuid: Xuid::of(&content),
            size: content.len() as u64,
            coded: None,
        };
        let wrong = ObjectRef { size: 1, ..object.clone() };
        assert!(matches!(store.stage(&wrong, content.clone()), Err(StoreError::Misuse(_))));
        let file = ObjectRef { key: ObjectKey("f-1".into()), ..object.clone() };
        assert!(matches!(store.stage(&file, content.clone()), Err(StoreError::Misuse(_))));
        store.stage(&object, content.clone()).unwrap();
        store.commit(put([leg("a", Some(&object), None)])).await.unwrap();
        assert_eq!(octets(&store, &object).await, content);
    });
}

#[test]
fn due_rows_are_leased_once() {
    on_every_backend(|store| async move {
        let rows = [("a", Some(30)), ("b", Some(10)), ("c", Some(20)), ("d", None), ("e", Some(99))];
        store.commit(put(rows.map(|(name, due)| leg(name, None, due)))).await.unwrap();
        let names = |rows: &[Row]| rows.iter().map(|r| r.key.to_string()[4..5].to_owned()).collect::<String>();
        let first = store.lease(at(50), 2, at(200)).await.unwrap();
        assert_eq!((names(&first.rows).as_str(), first.next_due), ("bc", Some(at(30))));
        let second = store.lease(at(50), 9, at(100)).await.unwrap();
        assert_eq!((names(&second.rows).as_str(), second.next_due), ("a", Some(at(99))));
        assert_eq!(store.counts().await.unwrap().leased, 3);
        // A commit ends the lease; a conflict does not.
        let b = first.rows[0].clone();
        conflict(store.commit(put([Row { version: 7, ..b.clone() }])).await);
        assert_eq!(store.lease(at(50), 9, at(100)).await.unwrap().rows, []);
        store.commit(put([Row { due: Some(at(40)), ..b }])).await.unwrap();
        assert_eq!(names(&store.lease(at(50), 9, at(300)).await.unwrap().rows), "b");
        // Time ends it too.
        let late = store.lease(at(150), 9, at(300)).await.unwrap();
        assert_eq!((names(&late.rows).as_str(), late.next_due), ("ae", Some(at(200))));
        store.commit(delete(&leg("e", None, None))).await.unwrap();
        let counts = store.counts().await.unwrap();
        assert_eq!((counts.scheduled, counts.leased, counts.legs), (3, 3, 4));
        assert_eq!(counts.under_way, 0, "none has a content");
        let content = object(&store, &content(100, 1)).await;
        store.commit(put([leg("with", Some(&content), None)])).await.unwrap();
        let counts = store.counts().await.unwrap();
        assert_eq!((counts.legs, counts.under_way), (5, 1));
    });
}

#[test]
fn secondary_keys_follow_the_row() {
    on_every_backend(|store| async move {
        let row = with_reference(leg("a", None, None), 1);
        let found = async |id: u8| {
            let rows = store.find(&by_reference(&mail::ReferenceId([id; 16])), 9).await.unwrap();
            rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
        };
        store.commit(put([row.clone(), with_reference(leg("b", None, None), 1)])).await.unwrap();
        let mut both = found(1).await;
        both.sort();
        assert_eq!(both, [key("a"), key("b")]);
        assert_eq!(store.find(&by_reference(&mail::ReferenceId([1; 16])), 1).await.unwrap().len(), 1);
        store.commit(put([with_reference(Row { version: 1, ..leg("a", None, None) }, 2)])).await.unwrap();
        assert_eq!((found(1).await, found(2).await), (vec![key("b")], vec![key("a")]));
        store.commit(delete(&leg("b", None, None))).await.unwrap();
        assert_eq!(found(1).await, []);
    });
}

#[test]
fn what_waits_for_a_site_is_found_page_by_page_until_it_is_claimed() {
    on_every_backend(|store| async move {
        let site = "site.example".parse().unwrap();
        let rows = ["c", "a", "b", "d"].map(|name| waiting_for(&site, with_reference(leg(name, None, None), 1)));
        store.commit(put(rows)).await.unwrap();
        store.commit(put([leg("e", None, None)])).await.unwrap();
        let page = async |after: &str| {
            let rows = store.find_after(&by_pending(&site), after, 3).await.unwrap();
            rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
        };
        let first = page("").await;
        assert_eq!(first, [key("a"), key("b"), key("c")]);
        assert_eq!(page(&first[2].to_string()).await, [key("d")]);
        // Nothing is out for it any more.
        store.commit(put([Row { version: 1, ..leg("b", None, None) }])).await.unwrap();
        assert_eq!(page("").await, [key("a"), key("c"), key("d")]);
    });
}

#[test]
fn lists_are_ordered_and_go_on_where_they_stopped() {
    on_every_backend(|store| async move {
        let names = ["b", "a", "aa", "c", "ab"];
        store.commit(put(names.map(|name| leg(name, None, None)))).await.unwrap();
        let mut seen = vec![];
        let mut after = None;
        loop {
            let page = store.list("leg/a", after.as_ref(), 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            seen.extend(page.iter().map(|row| row.key.to_string()));
        }
        assert_eq!(seen, ["leg/a/0", "leg/aa/0", "leg/ab/0"]);
        assert_eq!(store.list("", None, 99).await.unwrap().len(), 5);
        assert_eq!(store.list("in/", None, 99).await.unwrap(), []);
        assert_eq!(store.list("leg/", Some(&key("b")), 99).await.unwrap().len(), 1);
    });
}

/// What a random caller does.
#[derive(Debug, Clone)]
enum Step {
    Put { names: Vec<u8>, object: Option<u8>, due: Option<u64>, reference: u8, stale: bool },
    Delete { name: u8 },
    Lease { now: u64, limit: usize, until: u64 },
    Find { reference: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let names = proptest::collection::vec(0u8..6, 1..3);
    let step = prop_oneof![
        4 => (names, proptest::option::of(0u8..4), proptest::option::of(0u64..50), 0u8..3, proptest::bool::weighted(0.1))
            .prop_map(|(names, object, due, reference, stale)| Step::Put { names, object, due, reference, stale }),
        1 => (0u8..6).prop_map(|name| Step::Delete { name }),
        1 => (0u64..60, 0usize..4, 0u64..80).prop_map(|(now, limit, until)| Step::Lease { now, limit, until }),
        1 => (0u8..3).prop_map(|reference| Step::Find { reference }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Carries out a step; what it answers is comparable between backends.
async fn play(store: &Store, step: &Step) -> String {
    match step {
        Step::Put { names, object, due, reference, stale } => {
            let object = object.map(|n| {
                let content = content(50 * usize::from(n), n);
                let object = ObjectRef {
                    key: ObjectKey(format!("o{n}")),
                    xuid: Xuid::of(&content),
                    size: content.len() as u64,
                    coded: None,
                };
                (object, content)
            });
            if let Some((object, content)) = &object
                && store.read(object, 0..1).await.is_err()
            {
                store.stage(object, content.clone()).unwrap();
            }
            let mut rows = vec![];
            for name in names {
                // Rows due in the same millisecond have no order: none are.
                let due = due.map(|due| due * 8 + u64::from(*name));
                let mut row = with_reference(leg(&format!("r{name}"), object.as_ref().map(|o| &o.0), due), *reference);
                row.version = load(store, &format!("r{name}")).await.map_or(0, |row| row.version) + u64::from(*stale);
                rows.push(row);
            }
            let result = store.commit(put(rows)).await;
            object.iter().for_each(|(object, _)| store.discard(object));
            format!("{result:?}")
        }
        Step::Delete { name } => {
            let version = load(store, &format!("r{name}")).await.map_or(1, |row| row.version);
            let batch = Batch { delete: vec![(key(&format!("r{name}")), version)], ..Batch::default() };
            format!("{:?}", store.commit(batch).await)
        }
        Step::Lease { now, limit, until } => {
            format!("{:?}", store.lease(at(now * 8), *limit, at(until * 8)).await.unwrap())
        }
        Step::Find { reference } => {
            let found = store.find(&by_reference(&mail::ReferenceId([*reference; 16])), 99).await.unwrap();
            let mut keys = found.into_iter().map(|row| (row.key, row.version)).collect::<Vec<_>>();
            keys.sort();
            format!("{keys:?}")
        }
    }
}

async fn state(store: &Store) -> String {
    let rows = store.list("", None, 999).await.unwrap();
    let mut objects = vec![];
    for object in rows.iter().filter_map(Row::object) {
        objects.push(octets(store, object).await.len());
    }
    let counts = store.counts().await.unwrap();
    format!("{rows:?} {objects:?} {} {}", counts.scheduled, counts.legs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn backends_cannot_be_told_apart(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let (one, mut two) = (memory(), embedded(directory.path()).await);
            for (n, step) in steps.iter().enumerate() {
                let (a, b) = (play(&one, step).await, play(&two, step).await);
                prop_assert_eq!(a, b, "{:?}", step);
                prop_assert_eq!(state(&one).await, state(&two).await);
                if n == 20 && !steps.iter().any(|s| matches!(s, Step::Lease { .. })) {
                    two.close().await;
                    two = embedded(directory.path()).await;
                }
            }
            prop_assert!(one.check(false, |_| ()).await.unwrap().is_clean());
            prop_assert_eq!(two.check(false, |_| ()).await.unwrap().faults, []);
            two.close().await;
            Ok(())
        })?;
    }
}
