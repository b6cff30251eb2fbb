//! Which representation of an object a request is answered with (RFC 9110 §12.5.3): the coded one only where the client asks
//! for its coding by name, and not for the plain one rather.

use hyper::header::{ACCEPT_ENCODING, HeaderMap};
use mail::ledger::Coding;

/// Quality values in thousandths (RFC 9110 §12.4.2).
const MOST: u16 = 1000;

/// Does the client want this coding?
pub(super) fn is_wanted(headers: &HeaderMap, coding: Coding) -> bool {
    let (mut wanted, mut plain) = (0, 0);
    let fields = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|field| field.to_str().ok());
    for (name, quality) in fields.flat_map(|field| field.split(',')).filter_map(element) {
        if name.eq_ignore_ascii_case(coding.token()) {
            wanted = quality;
        } else if name.eq_ignore_ascii_case("identity") {
            plain = quality;
        }
    }
    wanted > 0 && wanted >= plain
}

/// One element of the list; `None` for what cannot be read.
fn element(text: &str) -> Option<(&str, u16)> {
    match text.split_once(';') {
        None => Some((text.trim(), MOST)),
        Some((name, weight)) => Some((name.trim(), quality(weight.trim())?)),
    }
}

/// `q=0`, `q=0.5`, `q=1.000`.
fn quality(weight: &str) -> Option<u16> {
    let value = weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q="))?;
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    let whole = match whole {
        "0" => 0,
        "1" => MOST,
        _ => return None,
    };
    if part.len() > 3 || !part.bytes().all(|o| o.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{part:0<3}").parse().ok()?;
    Some(whole + thousandths).filter(|quality| *quality <= MOST)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn of(fields: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(field).unwrap());
        }
        is_wanted(&headers, Coding::Zstd)
    }

    #[test]
    fn a_coding_is_for_who_asks_for_it() {
        for fields in [
            ["zstd"].as_slice(),
            &["gzip, ZSTD"],
            &["gzip", "zstd;q=0.5"],
            &["zstd ; q=1.000, identity;q=0.5"],
            &["identity, zstd"],
        ] {
            assert!(of(fields), "{fields:?}");
        }
        for fields in [
            [].as_slice(),
            &[""],
            &["identity"],
            &["*"],
            &["gzip, br"],
            &["zstd;q=0"],
            &["zstd;q=0.000"],
            &["zstd;q=0.5, identity"],
            &["xzstd"],
        ] {
            assert!(!of(fields), "{fields:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_asks_for_nothing() {
        for field in ["zstd;q=2", "zstd;q=1.001", "zstd;q=0.5000", "zstd;q=x", "zstd;v=1", "zstd;q=", "zstd;q=0.+5"] {
            assert!(!of(&[field]), "{field}");
        }
    }
}
