//! Rows and objects for tests.
#![allow(dead_code)] // Each test binary uses its part.

use std::path::Path;

use mail::ledger::*;
use mail::{EnhancedStatus, Grant, InstanceId, QueueId, ReferenceId, Timestamp};
use serde_json::json;
use store::{EmbeddedConfig, ObjectWriter, Store};

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn key(name: &str) -> Key {
    Key::Leg(name.parse::<QueueId>().unwrap(), 0)
}

/// A new leg, as it comes from an SMTP session. Written as JSON, as an older version may have left it: fields that
/// were added later have defaults.
pub(crate) fn leg(name: &str, object: Option<&ObjectRef>, due: Option<u64>) -> Row {
    let leg = json!({
        "route": { "mx": "b.example" },
        "mail_from": "alice@a.example",
        "params": {},
        "recipients": [{ "recipient": { "address": "bob@b.example" }, "state": "queued" }],
        "object": object,
        "facts": { "is_object": true, "eight_bit": false },
        "source": "relay",
        "accepted": 1_800_000_000_000u64,
        "expires": 1_800_432_000_000u64,
        "steps": [{ "at": 1_800_000_000_000u64, "what": "accepted", "detail": "from relay" }],
    });
    let body = RowBody::Leg(serde_json::from_value(leg).unwrap());
    Row { key: key(name), version: 0, due: due.map(at), body }
}

/// The same row with a reference of this id.
pub(crate) fn with_reference(mut row: Row, id: u8) -> Row {
    let issued = json!({
        "id": ReferenceId([id; 16]),
        "signer": "a.example",
        "to": "b.example",
        "grant": Grant::new(&[id; 16]).unwrap(),
        "uri": "https://tbr.a.example/",
        "block": "TBR-Reference: v=1\r\n",
        "positions": [0],
        "issued": 1,
        "expires": 2,
    });
    leg_of(&mut row).issued.push(serde_json::from_value(issued).unwrap());
    row
}

/// The row on its way to a site, its first recipient offered.
pub(crate) fn waiting_for(site: &mail::Holder, mut row: Row) -> Row {
    let leg = leg_of(&mut row);
    leg.route = Route::Site(site.clone());
    let reference = leg.issued[0].id;
    leg.recipients[0].state = RecipientState::Offered(Offered {
        reference,
        index: 0,
        accepted: None,
        closed: false,
        delegations: Vec::new(),
    });
    row
}

pub(crate) fn leg_of(row: &mut Row) -> &mut Leg {
    match &mut row.body {
        RowBody::Leg(leg) => leg,
        RowBody::Inbound(_) => panic!("no leg"),
    }
}

/// The row without its object, all recipients served, at the version that it now has.
pub(crate) fn finished(mut row: Row) -> Row {
    row.version += 1;
    row.due = None;
    let leg = leg_of(&mut row);
    leg.object = None;
    let status = EnhancedStatus::success(0, 0);
    let outcome = Outcome {
        action: Action::Delivered,
        status,
        text: "250 ok".into(),
        at: at(5),
        reported: false,
        withdrawn: false,
    };
    leg.recipients[0].state = RecipientState::Done { outcome, claim: None };
    row
}

pub(crate) fn put(rows: impl IntoIterator<Item = Row>) -> Batch {
    let put = rows.into_iter().collect::<Vec<_>>();
    Batch { objects: put.iter().filter_map(Row::object).cloned().collect(), put, ..Batch::default() }
}

pub(crate) fn delete(row: &Row) -> Batch {
    Batch { delete: vec![(row.key.clone(), row.version + 1)], ..Batch::default() }
}

/// An object of so many octets, of a pattern that depends on `seed`.
pub(crate) fn content(octets: usize, seed: u8) -> Vec<u8> {
    let mut content = format!("Subject: {seed}\r\n\r\n").into_bytes();
    while content.len() < octets {
        content.extend_from_slice(format!("line {} of {seed}\r\n", content.len()).as_bytes());
    }
    content
}

pub(crate) async fn object(store: &Store, octets: &[u8]) -> ObjectRef {
    written(store.create(), octets).await
}

/// The same, coded.
pub(crate) async fn coded(store: &Store, octets: &[u8]) -> ObjectRef {
    written(store.create_coded(), octets).await
}

async fn written(mut writer: ObjectWriter, octets: &[u8]) -> ObjectRef {
    for chunk in octets.chunks(10_000) {
        writer.write(chunk).await.unwrap();
    }
    let (object, checked) = writer.finish().await.unwrap();
    assert_eq!((object.size, object.xuid), (octets.len() as u64, checked.xuid));
    object
}

pub(crate) async fn octets(store: &Store, object: &ObjectRef) -> Vec<u8> {
    store.read(object, 0..u64::MAX).await.unwrap().collect(u64::MAX).await.unwrap().to_vec()
}

pub(crate) fn memory() -> Store {
    Store::memory(InstanceId([1; 16]))
}

pub(crate) async fn embedded(directory: &Path) -> Store {
    Store::open(config(directory)).await.unwrap()
}

pub(crate) fn config(directory: &Path) -> EmbeddedConfig {
    EmbeddedConfig::new(directory.join("store"))
}

/// Object files of the store in this directory.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("store/objects")).unwrap();
    let mut names = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
    names.sort();
    names
}
