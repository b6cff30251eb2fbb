//! The strict tag list of `TBR-Reference`, `TBR-Hop` (TBR §4.2): `name=value` pairs in a fixed order, each once.
//!
//! White space, folded or not, may stand before a tag and anywhere inside a base64url value, nowhere else. What the
//! values mean is left to `reference` and `hop`.

use std::fmt;
use std::str::FromStr;

use mail::{Domain, Timestamp, base64url};

/// Most octets of one field's value, white space included: room for a post-quantum signature (TBR §4.2).
pub const MAX_FIELD: usize = 32 * 1024;
/// Most octets of one encoded line, without CRLF (RFC 5322 §2.1.1).
pub const MAX_LINE: usize = 998;
/// The line length that encoders aim at (RFC 5322 §2.1.1).
const GOOD_LINE: usize = 78;
/// Latest second that a tag may name: the last of the year 9999.
pub(crate) const MAX_SECONDS: u64 = 253_402_300_799;
/// Largest size that a tag may name: 2^53 − 1, the largest integer that every JSON reader keeps.
pub const MAX_SIZE: u64 = 9_007_199_254_740_991;

/// Why a text is no tag list, or not the one that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// Longer than [`MAX_FIELD`].
    #[error("the field is longer than {MAX_FIELD} octets")]
    FieldTooLong,
    /// An octet that is neither printable ASCII nor white space, or a CR or LF that folds nothing.
    #[error("the field holds an octet that is not allowed there")]
    Octet,
    /// A part between two semicolons without `=`, or nothing at all.
    #[error("a tag without name or value")]
    NotATag,
    /// A tag that this field does not know.
    #[error("unknown tag {0}")]
    Unknown(String),
    /// A tag that came before.
    #[error("tag {0} stands twice")]
    Duplicate(&'static str),
    /// A tag that comes, but not here.
    #[error("tag {0} is not in its place")]
    Misordered(&'static str),
    /// A tag that does not come at all.
    #[error("tag {0} is missing")]
    Missing(&'static str),
    /// A value that is not what its tag asks for, or not in its canonical form.
    #[error("the value of tag {0} is not valid")]
    Value(&'static str),
    /// `v` names another revision.
    #[error("revision {0} is not supported")]
    Revision(String),
    /// `a` names an algorithm that is not known here.
    #[error("signature algorithm {0} is not supported")]
    Algorithm(String),
}

/// Hands out the tags of one field in order.
pub(crate) struct TagReader<'a> {
    tags: Vec<(&'a str, &'a str)>,
    next: usize,
    /// Every tag name that this kind of field may hold.
    known: &'static [&'static str],
}

impl<'a> TagReader<'a> {
    /// Splits a field's value, still folded, into its tags.
    pub(crate) fn new(value: &'a [u8], known: &'static [&'static str]) -> Result<Self, SyntaxError> {
        if value.len() > MAX_FIELD {
            return Err(SyntaxError::FieldTooLong);
        }
        let text = std::str::from_utf8(value).map_err(|_| SyntaxError::Octet)?;
        check_octets(text)?;
        // One tag more than can be known is enough to see that there are too many.
        let tags = text.splitn(known.len() + 2, ';').map(split_tag).collect::<Result<_, _>>()?;
        Ok(Self { tags, next: 0, known })
    }

    /// The text of the next tag, which must be `name`, as it stands: no value that is not binary has a form with white
    /// space in it, so that whoever compares or parses it refuses that too.
    pub(crate) fn plain(&mut self, name: &'static str) -> Result<&'a str, SyntaxError> {
        match self.tags.get(self.next) {
            Some((found, value)) if *found == name => {
                self.next += 1;
                Ok(value)
            }
            Some((found, _)) => Err(self.surprise(found, Some(name))),
            None => Err(SyntaxError::Missing(name)),
        }
    }

    /// The next tag parsed, which must be `name`; its text must be the one that the value displays as.
    pub(crate) fn canonical<T: FromStr + fmt::Display>(&mut self, name: &'static str) -> Result<T, SyntaxError> {
        let text = self.plain(name)?;
        let value = text.parse::<T>().map_err(|_| SyntaxError::Value(name))?;
        if value.to_string() == text { Ok(value) } else { Err(SyntaxError::Value(name)) }
    }

    /// A host-like domain name in lower-case A-labels.
    pub(crate) fn domain(&mut self, name: &'static str) -> Result<Domain, SyntaxError> {
        let domain = self.canonical::<Domain>(name)?;
        if is_host_name(&domain) { Ok(domain) } else { Err(SyntaxError::Value(name)) }
    }

    /// A whole number of seconds since the epoch.
    pub(crate) fn time(&mut self, name: &'static str) -> Result<Timestamp, SyntaxError> {
        let seconds = self.canonical::<u64>(name)?;
        if seconds <= MAX_SECONDS { Ok(Timestamp::from_secs(seconds)) } else { Err(SyntaxError::Value(name)) }
    }

    /// A base64url value, white space dropped.
    pub(crate) fn binary(&mut self, name: &'static str) -> Result<Vec<u8>, SyntaxError> {
        let text: String = self.plain(name)?.chars().filter(|c| !is_white_space(*c)).collect();
        base64url::decode(&text).map_err(|_| SyntaxError::Value(name))
    }

    /// A base64url value of exactly `N` octets.
    pub(crate) fn octets<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], SyntaxError> {
        self.binary(name)?.try_into().map_err(|_| SyntaxError::Value(name))
    }

    /// Is the next tag this one? For tags that may be absent.
    pub(crate) fn next_is(&self, name: &str) -> bool {
        self.tags.get(self.next).is_some_and(|(found, _)| *found == name)
    }

    /// Nothing may follow.
    pub(crate) fn finish(self) -> Result<(), SyntaxError> {
        match self.tags.get(self.next) {
            None => Ok(()),
            Some((found, _)) => Err(self.surprise(found, None)),
        }
    }

    /// Says what is wrong with a tag that stands where another one, or none, belongs.
    fn surprise(&self, found: &str, wanted: Option<&'static str>) -> SyntaxError {
        let Some(found) = self.known.iter().find(|known| **known == found) else {
            return SyntaxError::Unknown(found.chars().take(16).collect());
        };
        if self.tags[..self.next].iter().any(|(seen, _)| seen == found) {
            return SyntaxError::Duplicate(found);
        }
        match wanted {
            Some(wanted) if !self.tags.iter().any(|(name, _)| *name == wanted) => SyntaxError::Missing(wanted),
            Some(wanted) => SyntaxError::Misordered(wanted),
            None => SyntaxError::Misordered(found),
        }
    }
}

/// May this name stand where a host or mail domain must: at least two labels, no underscore, and not an IPv4 address
/// in disguise (a last label of digits only)?
pub(crate) fn is_host_name(domain: &Domain) -> bool {
    match domain.as_str().rsplit_once('.') {
        Some((_, last)) => !domain.as_str().contains('_') && !last.bytes().all(|o| o.is_ascii_digit()),
        None => false,
    }
}

fn split_tag(part: &str) -> Result<(&str, &str), SyntaxError> {
    let part = part.trim_start_matches(is_white_space);
    match part.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        _ => Err(SyntaxError::NotATag),
    }
}

fn is_white_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Printable ASCII, space, tab, and CRLF where white space and then something printable follows.
fn check_octets(text: &str) -> Result<(), SyntaxError> {
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = match first {
            b'\t' | b' '..=b'~' => tail,
            b'\r' if matches!(tail, [b'\n', b' ' | b'\t', ..]) && !is_blank_line(&tail[1..]) => &tail[1..],
            _ => return Err(SyntaxError::Octet),
        };
    }
    Ok(())
}

/// Does this text's first line hold white space only?
fn is_blank_line(text: &[u8]) -> bool {
    let printable = text.iter().find(|o| !matches!(o, b' ' | b'\t'));
    printable.is_none_or(|o| *o == b'\r')
}

/// One tag for encoding.
pub(crate) struct Tag {
    name: &'static str,
    value: String,
    /// A base64url value may be folded inside.
    breakable: bool,
}

impl Tag {
    /// A tag whose value must stay whole.
    pub(crate) fn plain(name: &'static str, value: impl fmt::Display) -> Self {
        Self { name, value: value.to_string(), breakable: false }
    }

    /// A tag that holds octets.
    pub(crate) fn binary(name: &'static str, octets: &[u8]) -> Self {
        Self { name, value: base64url::encode(octets), breakable: true }
    }
}

/// The canonical text: the tags joined by `;` without white space (TBR §4.3).
pub(crate) fn canonical_text(tags: &[Tag]) -> String {
    let mut text = String::with_capacity(512);
    for tag in tags {
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(tag.name);
        text.push('=');
        text.push_str(&tag.value);
    }
    text
}

/// A header field of these tags, folded at 78 columns where a value allows it, with its final CRLF.
pub(crate) fn encode_field(name: &str, tags: &[Tag]) -> String {
    let mut folder = Folder { text: format!("{name}:"), column: name.len() + 1 };
    for (place, tag) in tags.iter().enumerate() {
        let end = if place + 1 < tags.len() { ";" } else { "" };
        folder.push(&format!("{}={}{end}", tag.name, tag.value), tag.breakable);
    }
    folder.text.push_str("\r\n");
    folder.text
}

struct Folder {
    text: String,
    column: usize,
}

impl Folder {
    fn push(&mut self, tag: &str, breakable: bool) {
        if self.column + 1 + tag.len() <= GOOD_LINE {
            self.text.push(' ');
            self.column += 1;
        } else {
            self.new_line();
        }
        let mut rest = tag;
        while breakable && self.column + rest.len() > GOOD_LINE {
            let (line, tail) = rest.split_at(GOOD_LINE - self.column);
            self.text.push_str(line);
            self.new_line();
            rest = tail;
        }
        self.text.push_str(rest);
        self.column += rest.len();
    }

    fn new_line(&mut self) {
        self.text.push_str("\r\n ");
        self.column = 1;
    }
}
