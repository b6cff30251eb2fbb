//! Mailbox copies: finding the object below the topmost reference, and judging it.

use super::*;
use crate::judge::SignatureVerdict;
use crate::keys::KeyState;
use crate::stored::{LineEnds, StoredError, split_stored, split_stored_lf};

const TRACE: &str =
    "Return-Path: <alice@a.example>\r\nReceived: from a.example\r\n\tby b.example; Fri, 15 Jan 2027\r\n";

fn message() -> String {
    format!("{TRACE}{}{OBJECT}", reference().encode())
}

fn judged(message: &str, at: usize) -> (Xuid, u64) {
    let object = &message.as_bytes()[at..];
    (Xuid::of(object), object.len() as u64)
}

#[test]
fn what_stands_below_the_reference_is_the_object() {
    let message = message();
    let stored = split_stored(message.as_bytes()).unwrap();
    assert_eq!(&message[stored.object_at..], OBJECT);
    assert_eq!(stored.trace.len(), 2);
    let (xuid, size) = judged(&message, stored.object_at);
    let facts = facts_of("a.example");
    let judgement = stored.judge(xuid, size, facts.keys.first(), secs(NOW));
    assert!(judgement.holds() && !judgement.expired && !judgement.lf_copy);
    let years_later = stored.judge(xuid, size, facts.keys.first(), secs(NOW + 100_000_000));
    assert!(years_later.holds() && years_later.expired);
}

#[test]
fn trace_fields_on_top_disturb_nothing() {
    let message = format!("X-Spam: no\r\nReceived: by somebody\r\n{}", message());
    let stored = split_stored(message.as_bytes()).unwrap();
    assert_eq!(&message[stored.object_at..], OBJECT);
}

#[test]
fn the_head_alone_is_enough() {
    let message = message();
    let full = split_stored(message.as_bytes()).unwrap();
    for end in 0..message.len() {
        match split_stored(&message.as_bytes()[..end]) {
            Ok(stored) => assert_eq!(stored, full),
            Err(error) => assert!(error == StoredError::Incomplete && end <= full.object_at, "{end}: {error}"),
        }
    }
}

#[test]
fn a_changed_object_is_seen() {
    let message = message().replace("at the counter", "at the Counter");
    let stored = split_stored(message.as_bytes()).unwrap();
    let (xuid, size) = judged(&message, stored.object_at);
    let judgement = stored.judge(xuid, size, facts_of("a.example").keys.first(), secs(NOW));
    assert!(!judgement.intact && judgement.signature == SignatureVerdict::Valid && !judgement.holds());
}

#[test]
fn the_key_decides_about_the_signature() {
    let message = message();
    let stored = split_stored(message.as_bytes()).unwrap();
    let (xuid, size) = judged(&message, stored.object_at);
    let verdict = |state: Option<KeyState>| {
        let record = state.map(|state| KeyRecord { selector: "k1".parse().unwrap(), state });
        stored.judge(xuid, size, record.as_ref(), secs(NOW)).signature
    };
    let active = |name: &str, until: u64| {
        let key = key_of(name).verifying_key();
        Some(KeyState::Active { key, not_before: secs(0), not_after: secs(until) })
    };
    assert_eq!(verdict(None), SignatureVerdict::Unknown);
    assert_eq!(verdict(Some(KeyState::Revoked)), SignatureVerdict::Revoked);
    assert_eq!(verdict(active("a.example", NOW)), SignatureVerdict::Valid);
    assert_eq!(verdict(active("a.example", NOW - 5000)), SignatureVerdict::OutsideWindow);
    assert_eq!(verdict(active("b.example", NOW)), SignatureVerdict::Invalid);
}

#[test]
fn an_lf_copy_is_judged_and_named_as_one() {
    let copy = message().replace("\r\n", "\n");
    assert!(matches!(split_stored(copy.as_bytes()), Err(StoredError::Header(0))));
    let stored = split_stored_lf(copy.as_bytes()).unwrap();
    assert_eq!(stored.line_ends, LineEnds::Lf);
    let object = copy[stored.object_at..].replace('\n', "\r\n");
    let (xuid, size) = (Xuid::of(object.as_bytes()), object.len() as u64);
    let judgement = stored.judge(xuid, size, facts_of("a.example").keys.first(), secs(NOW));
    assert!(judgement.holds() && judgement.lf_copy);
    assert_eq!(split_stored_lf(message().as_bytes()), Err(StoredError::Header(0)), "a CRLF message is no LF copy");
}

#[test]
fn the_topmost_reference_counts() {
    let inner = format!("{}{OBJECT}", reference().encode());
    let mut statement = statement_for(&addresses(&["bob@b.example"]));
    (statement.xuid, statement.size) = (Xuid::of(inner.as_bytes()), inner.len() as u64);
    let outer = format!("{}{inner}", statement.sign(&key_of("a.example")).unwrap().encode());
    let stored = split_stored(outer.as_bytes()).unwrap();
    assert_eq!(&outer[stored.object_at..], inner);
}

#[test]
fn blanks_before_the_colon_make_no_field_of_ours() {
    // RFC 5322 §4.5.8 has other readers take it for one. Whose name has no blanks is found below it; nothing was signed of it.
    let forged = reference().encode().replacen("TBR-Reference:", "TBR-Reference :", 1);
    assert_eq!(split_stored(format!("{forged}{OBJECT}").as_bytes()), Err(StoredError::NoReference));
    let hop = relayed(HopMode::Value([9; 16])).hops()[0].encode().replacen("TBR-Hop:", "TBR-Hop\t:", 1);
    let message = format!("{forged}{hop}{}", message());
    let stored = split_stored(message.as_bytes()).unwrap();
    assert_eq!((&message[stored.object_at..], stored.chain.hops().len()), (OBJECT, 0));
}

#[test]
fn hops_are_found_among_the_trace() {
    let chain = relayed(HopMode::Value([9; 16]));
    let message = format!("{TRACE}{}{OBJECT}", chain.encode());
    let stored = split_stored(message.as_bytes()).unwrap();
    assert_eq!((&stored.chain, &message[stored.object_at..]), (&chain, OBJECT));
}

#[test]
fn messages_without_a_reference_say_so() {
    for (message, error) in [
        (OBJECT.to_owned(), StoredError::NoReference),
        ("\r\nTBR-Reference: v=1\r\n".to_owned(), StoredError::NoReference),
        (format!("no field\r\n{}", message()), StoredError::Header(0)),
        (
            message().replace("v=1", "v=9"),
            StoredError::Reference(crate::taglist::SyntaxError::Revision("9".to_owned())),
        ),
        (String::new(), StoredError::Incomplete),
    ] {
        assert_eq!(split_stored(message.as_bytes()), Err(error));
    }
}

#[test]
fn hops_without_end_are_not_read() {
    let hop = relayed(HopMode::Value([9; 16])).hops()[0].encode();
    let error = split_stored(hop.repeat(102).as_bytes()).unwrap_err();
    assert_eq!(error, StoredError::Chain(crate::hop::ChainError::TooLong));
}

#[test]
fn a_head_has_a_limit() {
    let field = "Received: by somebody\r\n";
    let above = |fields: usize| split_stored(format!("{}{}", field.repeat(fields), message()).as_bytes());
    assert!(above(10_000).is_ok());
    assert_eq!(above(crate::stored::MAX_HEAD / field.len() + 1), Err(StoredError::NoReference));
}
