//! What a response says of the representation that its body is, or is a part of: coding, strong ETag, length (RFC 9110 §8); and when to
//! come again.
//!
//! Decoding is the sink's, asking again `fetch`'s.

use std::time::Duration;

use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, RETRY_AFTER};
use mail::ledger::{Coding, Representation};

/// Longest strong ETag that is kept and sent back.
pub const MAX_TAG: usize = 256;

/// Longest wish of a repository that is granted.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Why a body is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is under a coding that was not asked for.
    Unasked(String),
    /// It cannot be the object.
    Wrong(String),
}

/// Most octets that an object of this size takes under a coding: one that does not shrink takes a little more than it is.
pub fn most_coded(size: u64) -> u64 {
    size.saturating_add(size / 128).saturating_add(1024)
}

/// Of a 200 to a request for an object of this size.
///
/// # Errors
/// [`Unfit`].
pub fn whole(headers: &HeaderMap, size: u64, takes_codings: bool) -> Result<Representation, Unfit> {
    let coding = coding(headers)?;
    if coding.is_some() && !takes_codings {
        return Err(unasked());
    }
    let length = length(headers);
    match (coding, length) {
        (None, Some(length)) if length != size => {
            Err(Unfit::Wrong(format!("the repository has {length} octets for an object of {size}")))
        }
        (Some(_), Some(length)) if length > most_coded(size) => {
            Err(Unfit::Wrong(format!("the repository has {length} coded octets for an object of {size}")))
        }
        (None, _) => Ok(Representation { coding, tag: strong_tag(headers), size: Some(size) }),
        (Some(_), size) => Ok(Representation { coding, tag: strong_tag(headers), size }),
    }
}

/// Of a 206 to a request for what stands behind `held`: the length of the whole representation; `None` where it is not what
/// was asked for. It need not repeat its coding (RFC 9110 §15.3.7).
pub fn part(headers: &HeaderMap, asked: &Representation, held: u64, size: u64) -> Option<u64> {
    let is_same_coding = !headers.contains_key(CONTENT_ENCODING) || coding(headers) == Ok(asked.coding);
    let all = match asked.size {
        Some(all) => all,
        None => total(headers).filter(|all| *all > held && *all <= most_coded(size))?,
    };
    let wanted = format!("bytes {held}-{}/{all}", all.checked_sub(1)?);
    let is_right_range = headers.get(CONTENT_RANGE).is_some_and(|v| v.as_bytes() == wanted.as_bytes());
    let is_right_length = length(headers).is_none_or(|length| length == all - held);
    let is_right = is_right_range && is_right_length && is_same_coding && strong_tag(headers) == asked.tag;
    is_right.then_some(all)
}

/// `Retry-After` in seconds, at most [`MAX_RETRY_AFTER`]; dates are passed over.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Unfit> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    match (codings.next().map(|value| value.as_bytes().to_ascii_lowercase()).as_deref(), codings.next()) {
        (None | Some(b"identity"), None) => Ok(None),
        (Some(b"zstd"), None) => Ok(Some(Coding::Zstd)),
        _ => Err(unasked()),
    }
}

fn unasked() -> Unfit {
    Unfit::Unasked("the repository uses a content coding that was not asked for".to_owned())
}

fn strong_tag(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(ETAG)?.to_str().ok()?;
    (tag.starts_with('"') && tag.len() <= MAX_TAG).then(|| tag.to_owned())
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The number behind the slash of Content-Range.
fn total(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_part_has_octets_and_a_bound() {
        let of = |range: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_str(range).unwrap());
            let asked = Representation { coding: Some(Coding::Zstd), tag: None, size: None };
            part(&headers, &asked, 50, 90)
        };
        assert_eq!(of("bytes 50-59/60"), Some(60));
        assert_eq!(of("bytes 50-1113/1114"), Some(most_coded(90)));
        for bad in ["bytes 50-49/50", "bytes 50-1114/1115", "bytes 50-39/40", "bytes 50-59/*", "bytes 51-59/60"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
