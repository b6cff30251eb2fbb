//! 8-bit content on its way to a server that takes none: read twice, once for how long it becomes, once to be sent.
//!
//! How a message is converted is `mail::seven_bit`'s; whether it is, the configuration's.

use std::io;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use mail::Domain;
use mail::ledger::{Key, ObjectRef};
use mail::seven_bit::{CannotConvert, SevenBit, without_fields};
use store::{ObjectReader, Store, StoreError};

/// What does not stand above another message than the one that was signed: of references (TBR §8.3), and our own seal (RFC 8617),
/// which would say of a good message that its chain is broken.
const DROPPED: [(&str, &[&str]); 2] = [
    ("TBR-Reference", &["TBR-Hop", "TBR-Reference"]),
    ("ARC set", &["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"]),
];

/// What stands above a converted message: the trace without what was signed, and a field that says so, in the form that gateways have
/// long written (`X-MIME-Autoconverted`).
pub(super) fn above(prefix: &str, hostname: &Domain, id: &Key) -> String {
    let (mut kept, mut dropped) = (prefix.to_owned(), String::new());
    for (what, fields) in DROPPED {
        let without = without_fields(&kept, fields);
        if without.len() < kept.len() {
            dropped.push_str(&format!("\r\n\t({what} dropped: it is of the message as it was)"));
        }
        kept = without;
    }
    format!("X-MIME-Autoconverted: from 8bit to 7bit by {hostname} id {}{dropped}\r\n{kept}", name(id))
}

/// The queue id in the name of a leg.
fn name(key: &Key) -> String {
    match key {
        Key::Leg(id, _) => id.to_string(),
        Key::Inbound(id, _) => id.to_string(),
    }
}

/// Why there is no 7-bit form.
pub(super) enum NotConverted {
    /// There can be none.
    Never(CannotConvert),
    /// The content cannot be read now.
    Store(StoreError),
}

/// Octets of the converted message.
pub(super) async fn size(store: &Store, object: &ObjectRef) -> Result<u64, NotConverted> {
    let mut reader = store.read(object, 0..object.size).await.map_err(NotConverted::Store)?;
    let (mut converter, mut out, mut size) = (SevenBit::default(), Vec::new(), 0);
    while let Some(chunk) = reader.next_chunk().await.map_err(NotConverted::Store)? {
        out.clear();
        converter.update(&chunk, &mut out).map_err(NotConverted::Never)?;
        size += out.len() as u64;
    }
    out.clear();
    converter.finish(&mut out).map_err(NotConverted::Never)?;
    Ok(size + out.len() as u64)
}

/// The converted message as a stream of chunks.
pub(super) fn chunks(reader: ObjectReader) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    Box::pin(try_unfold((reader, Some(SevenBit::default())), |(mut reader, converter)| async move {
        let Some(mut converter) = converter else { return Ok(None) };
        let mut out = Vec::new();
        loop {
            let Some(chunk) = reader.next_chunk().await.map_err(io::Error::other)? else {
                converter.finish(&mut out).map_err(io::Error::other)?;
                return Ok((!out.is_empty()).then(|| (Bytes::from(out), (reader, None))));
            };
            converter.update(&chunk, &mut out).map_err(io::Error::other)?;
            if !out.is_empty() {
                return Ok(Some((Bytes::from(out), (reader, Some(converter)))));
            }
        }
    }))
}
