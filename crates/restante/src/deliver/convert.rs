//! 8-bit content on its way to a server that takes none: read twice, once for how long it becomes and to seal it
//! again, once to be sent.
//!
//! How a message is converted is `mail::seven_bit`'s; whether it is, the configuration's.

use std::io;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use mail::Domain;
use mail::ledger::{Key, ObjectRef};
use mail::seven_bit::{CannotConvert, SevenBit, without_fields};
use net::authentication::content::{Content, ContentFault, ContentReader};
use store::{ObjectReader, Store, StoreError};

/// What does not stand above another message than the one that was signed: of references (TBR §8.3), and the ARC set of what came
/// (RFC 8617), which would say of a good message that its chain is broken.
const DROPPED: [(&str, &[&str]); 2] = [
    ("TBR-Reference", &["TBR-Hop", "TBR-Reference"]),
    ("ARC set", &["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"]),
];

/// What stands above a converted message: a seal of it where there is one, and the trace without what was signed, under a field that
/// says so, in the form that gateways have long written (`X-MIME-Autoconverted`).
pub(super) fn above(prefix: &str, seal: &str, hostname: &Domain, id: &Key) -> String {
    let (mut kept, mut dropped) = (prefix.to_owned(), String::new());
    for (what, fields) in DROPPED {
        let without = without_fields(&kept, fields);
        if without.len() < kept.len() && (fields[0] != "ARC-Seal" || seal.is_empty()) {
            dropped.push_str(&format!("\r\n\t({what} dropped: it is of the message as it was)"));
        }
        kept = without;
    }
    format!("{seal}X-MIME-Autoconverted: from 8bit to 7bit by {hostname} id {}{dropped}\r\n{kept}", name(id))
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
    /// There is no memory for its header now, which would be sealed.
    Busy(ContentFault),
}

/// Octets of the converted message, and what is sealed of it where a reader for that is given.
pub(super) async fn measure(
    store: &Store,
    object: &ObjectRef,
    mut sealing: Option<ContentReader>,
) -> Result<(u64, Option<Content>), NotConverted> {
    let mut reader = store.read(object, 0..object.size).await.map_err(NotConverted::Store)?;
    let (mut converter, mut size) = (SevenBit::default(), 0);
    let mut take = |out: &[u8]| {
        size += out.len() as u64;
        if let Some(sealing) = &mut sealing {
            sealing.push(out);
        }
    };
    let mut out = Vec::new();
    while let Some(chunk) = reader.next_chunk().await.map_err(NotConverted::Store)? {
        out.clear();
        converter.update(&chunk, &mut out).map_err(NotConverted::Never)?;
        take(&out);
    }
    out.clear();
    converter.finish(&mut out).map_err(NotConverted::Never)?;
    take(&out);
    let content = sealing.map(ContentReader::finish).transpose().map_err(NotConverted::Busy)?;
    Ok((size, content))
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
