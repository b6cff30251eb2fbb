//! The bodies of all fuzz targets: hand a parser or a session anything, and check what must hold of its answer.
//!
//! `cargo fuzz run --features libfuzzer TARGET` looks for new inputs; `cargo test -p restante-fuzz` replays `corpus/` and
//! a few thousand mutations of it. A target panics when a promise is broken, and for no other reason.

mod session;

use bytes::BytesMut;
use mail::object::Checker;
use mail::{Address, Domain};
use reference::claims::{ClaimsAnswer, ClaimsRequest, ReceiptsAnswer, ReceiptsRequest};
use reference::{Block, DomainFacts, DomainRecord, Hop, KeyRecord, OfferLine, Reference, Uri};
use smtp::Command;
use smtp::reply::reader::ReplyReader;

pub use session::{smtp_client, smtp_server};

/// A target's name and body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("address", address),
    ("object", object),
    ("uri", uri),
    ("offer", offer),
    ("block", block),
    ("hop", hop),
    ("stored", stored),
    ("records", records),
    ("document", document),
    ("claims", claims),
    ("receipts", receipts),
    ("smtp_command", smtp_command),
    ("smtp_reply", smtp_reply),
    ("smtp_server", smtp_server),
    ("smtp_client", smtp_client),
];

/// What parses as an address or a domain is written back to itself, and cannot break a line.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(address) = Address::parse(text) {
        assert_eq!(Address::parse(address.as_str()).as_ref(), Ok(&address));
        assert!(!address.as_str().contains(['\r', '\n', '\0']));
    }
    if let Ok(domain) = Domain::parse(text) {
        assert_eq!(Domain::parse(domain.as_str()).as_ref(), Ok(&domain));
    }
}

/// The verdict on content does not depend on how it is cut. The first octet says where.
pub fn object(data: &[u8]) {
    let Some((cut, content)) = data.split_first() else { return };
    let cut = usize::from(*cut).min(content.len());
    let (mut whole, mut parts) = (Checker::default(), Checker::default());
    whole.update(content);
    parts.update(&content[..cut]);
    content[cut..].chunks(3).for_each(|chunk| parts.update(chunk));
    assert_eq!(whole.finish(), parts.finish());
}

/// A URI has one form.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(uri) = Uri::parse(text) {
        assert_eq!(uri.reveal(), text);
    }
}

/// The arguments of a TBR line have one form.
pub fn offer(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(line) = OfferLine::parse(text) {
        assert_eq!(line.encode(), format!("TBR {text}\r\n"));
    }
}

/// What a block says survives being written anew.
pub fn block(data: &[u8]) {
    if let Ok(block) = Block::parse(data) {
        assert_eq!(block.as_str().as_bytes(), data);
        let again = Block::of(block.chain().clone());
        let parsed = Block::parse(again.as_str().as_bytes()).expect("what we write, we read");
        assert_eq!(parsed.chain(), block.chain());
    }
}

/// What a reference or a hop says survives being written anew.
pub fn hop(data: &[u8]) {
    if let Ok(reference) = Reference::parse(data) {
        let field = reference.encode();
        let value = field.strip_prefix("TBR-Reference:").and_then(|f| f.strip_suffix("\r\n")).expect("a field");
        assert_eq!(Reference::parse(value.as_bytes()).as_ref(), Ok(&reference));
    }
    if let Ok(hop) = Hop::parse(data) {
        let field = hop.encode();
        let value = field.strip_prefix("TBR-Hop:").and_then(|f| f.strip_suffix("\r\n")).expect("a field");
        assert_eq!(Hop::parse(value.as_bytes()).as_ref(), Ok(&hop));
    }
}

/// The object of a stored message lies within it.
pub fn stored(data: &[u8]) {
    for stored in [reference::split_stored(data), reference::split_stored_lf(data)].into_iter().flatten() {
        assert!(stored.object_at <= data.len());
    }
}

/// Records survive being written anew.
pub fn records(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (Ok(domain), Ok(selector)) = (Domain::parse("a.example"), "k1".parse()) else { return };
    if let Ok(Some(record)) = DomainRecord::from_txt(&domain, [text]) {
        let again = record.to_txt();
        assert_eq!(DomainRecord::from_txt(&domain, [again.as_str()]), Ok(Some(record)));
    }
    if let Ok(Some(record)) = KeyRecord::from_txt(&selector, [text]) {
        let again = record.to_txt();
        assert_eq!(KeyRecord::from_txt(&selector, [again.as_str()]), Ok(Some(record)));
    }
}

/// A document survives being written anew.
pub fn document(data: &[u8]) {
    let Ok(domain) = Domain::parse("a.example") else { return };
    if let Ok(facts) = DomainFacts::from_document(&domain, data) {
        let again = facts.to_document().expect("what we read, we write");
        assert_eq!(DomainFacts::from_document(&domain, &again), Ok(facts));
    }
}

/// Claims and their answers survive being written anew.
pub fn claims(data: &[u8]) {
    if let Ok(request) = ClaimsRequest::parse(data) {
        let again = request.encode().expect("what we read, we write");
        assert_eq!(ClaimsRequest::parse(&again), Ok(request));
    }
    let _ = ClaimsAnswer::parse(data);
}

/// Receipts and their answers survive being written anew.
pub fn receipts(data: &[u8]) {
    if let Ok(request) = ReceiptsRequest::parse(data) {
        let again = request.encode().expect("what we read, we write");
        assert_eq!(ReceiptsRequest::parse(&again), Ok(request));
    }
    let _ = ReceiptsAnswer::parse(data);
}

/// What parses as a command survives being written anew.
pub fn smtp_command(data: &[u8]) {
    if let Ok(command) = Command::parse(data) {
        let mut written = Vec::new();
        command.write_to(&mut written);
        let line = written.strip_suffix(b"\r\n").expect("a line");
        assert_eq!(Command::parse(line).as_ref(), Ok(&command));
    }
}

/// Replies are read alike however they are cut.
pub fn smtp_reply(data: &[u8]) {
    let read = |chunks: &mut dyn Iterator<Item = &[u8]>| {
        let (mut reader, mut input, mut replies) = (ReplyReader::default(), BytesMut::new(), Vec::new());
        for chunk in chunks {
            input.extend_from_slice(chunk);
            loop {
                match reader.read(&mut input) {
                    Ok(Some(reply)) => replies.push(format!("{reply:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        replies.push(format!("{error:?}"));
                        return replies;
                    }
                }
            }
        }
        replies
    };
    assert_eq!(read(&mut std::iter::once(data)), read(&mut data.chunks(1)));
}
