//! Which octets a request asks for (RFC 9110 §14.2 and §13.1.5): single ranges of octets, guarded by `If-Range`.
//!
//! What is not understood is passed over, as the RFC has it: the whole object is never a wrong answer.

use std::ops::Range;

use hyper::header::{HeaderMap, IF_RANGE, RANGE};

/// The part of an object that a response carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it: 200.
    Whole,
    /// These octets: 206.
    Part(Range<u64>),
    /// A range that begins behind the end: 416.
    Unsatisfiable,
}

/// Reads the fields of a GET for a representation of this size and strong ETag.
pub(super) fn select(headers: &HeaderMap, etag: &str, size: u64) -> Selection {
    let mut fields = headers.get_all(RANGE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Selection::Whole };
    // A date, a weak tag and several tags all differ from the one strong tag.
    if headers.get_all(IF_RANGE).iter().any(|v| v.as_bytes() != etag.as_bytes()) {
        return Selection::Whole;
    }
    field.to_str().ok().and_then(|text| parse(text, size)).unwrap_or(Selection::Whole)
}

fn parse(text: &str, size: u64) -> Option<Selection> {
    let (unit, set) = text.split_once('=')?;
    let (first, last) = set.trim().split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let range = match (first, last) {
        ("", suffix) => size.saturating_sub(number(suffix)?)..size,
        (first, "") => number(first)?..size,
        (first, last) if number(first)? <= number(last)? => number(first)?..number(last)?.saturating_add(1).min(size),
        _ => return None,
    };
    Some(if range.is_empty() { Selection::Unsatisfiable } else { Selection::Part(range) })
}

/// Digits only; what does not fit counts as the greatest number there is.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|o| o.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const ETAG: &str = "\"x\"";

    fn of(range: &str, if_range: Option<&str>) -> Selection {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(range).unwrap());
        if let Some(tag) = if_range {
            headers.insert(IF_RANGE, HeaderValue::from_str(tag).unwrap());
        }
        select(&headers, ETAG, 10)
    }

    #[test]
    fn single_ranges_are_served() {
        for (text, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=3-7", 3..8),
            ("Bytes=3-7", 3..8),
            ("bytes=0-", 0..10),
            ("bytes=9-", 9..10),
            ("bytes=5-100", 5..10),
            ("bytes=0-99999999999999999999999", 0..10),
            ("bytes=-3", 7..10),
            ("bytes=-100", 0..10),
        ] {
            assert_eq!(of(text, None), Selection::Part(range), "{text}");
        }
    }

    #[test]
    fn ranges_behind_the_end_are_refused() {
        for text in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(of(text, None), Selection::Unsatisfiable, "{text}");
        }
    }

    #[test]
    fn whatever_else_gets_the_whole() {
        for text in ["bytes=", "bytes=-", "bytes=3-1", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2", "bytes=a-b", "0-1"] {
            assert_eq!(of(text, None), Selection::Whole, "{text}");
        }
    }

    #[test]
    fn a_range_counts_only_for_the_representation_that_was_meant() {
        assert_eq!(of("bytes=0-0", Some(ETAG)), Selection::Part(0..1));
        for tag in ["\"y\"", "W/\"x\"", "x", "Mon, 23 Nov 2026 23:14:54 GMT"] {
            assert_eq!(of("bytes=0-0", Some(tag)), Selection::Whole, "{tag}");
        }
    }
}
