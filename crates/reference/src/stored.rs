//! A stored message: trace fields, then `TBR-Hop` fields, then `TBR-Reference`, then the object (TBR §4.6).
//!
//! Finds the topmost `TBR-Reference` in the head of a message, and says where the object below it begins, so that a
//! mailbox copy can be checked years later. Reading files and hashing the object are the caller's; the verdict is
//! `judge`'s.

use std::borrow::Cow;
use std::ops::Range;

use crate::block::Field;
use crate::hop::{self, Chain, ChainError, Hop, MAX_HOPS};
use crate::reference::{self, Reference};
use crate::taglist::SyntaxError;

/// How much of a message's head is searched for a `TBR-Reference`, in octets. A caller need not hand in more.
pub const MAX_HEAD: usize = 1024 * 1024;

/// The line ends that a stored message was found to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnds {
    /// As mail travels: the octets can be compared as they are.
    Crlf,
    /// A copy with local line ends: the object must be brought back to CRLF before it is hashed.
    Lf,
}

/// The parts of a stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What line ends the head has.
    pub line_ends: LineEnds,
    /// Where every field above the reference stands that is no `TBR-Hop`: ranges of the head, line end included.
    pub trace: Vec<Range<usize>>,
    /// The hops, newest first, and the reference; their links are sound.
    pub chain: Chain,
    /// Where the object begins, counted in the octets that were handed in.
    pub object_at: usize,
}

/// Why no object could be found under a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// The header ended, or [`MAX_HEAD`] was reached, without one.
    #[error("the message has no TBR-Reference field")]
    NoReference,
    /// The octets end before it is sure where the object begins: hand in more, if there is more.
    #[error("the message ends in its header")]
    Incomplete,
    /// A line that cannot stand in a header, at this octet.
    #[error("the message's header is not well-formed at octet {0}")]
    Header(usize),
    /// A `TBR-Hop` is malformed.
    #[error("TBR-Hop: {0}")]
    Hop(SyntaxError),
    /// The `TBR-Reference` is malformed.
    #[error("TBR-Reference: {0}")]
    Reference(SyntaxError),
    /// The fields do not belong together.
    #[error("TBR-Hop: {0}")]
    Chain(#[from] ChainError),
}

/// Splits the head of a message whose lines end in CRLF. `head` may reach into the object, or end anywhere after its
/// first line.
///
/// # Errors
/// [`StoredError`].
pub fn split_stored(head: &[u8]) -> Result<Stored, StoredError> {
    split(head, LineEnds::Crlf)
}

/// The same for a copy whose lines end in LF; the answer says so, and [`Stored::object_at`] counts its octets.
///
/// # Errors
/// [`StoredError`].
pub fn split_stored_lf(head: &[u8]) -> Result<Stored, StoredError> {
    split(head, LineEnds::Lf)
}

fn split(head: &[u8], line_ends: LineEnds) -> Result<Stored, StoredError> {
    let (mut at, mut trace, mut hops) = (0, Vec::new(), Vec::new());
    loop {
        let end = field_end(head, at, line_ends)?;
        let text = field_text(&head[at..end], line_ends);
        let field = Field::new(&text);
        if let Some(value) = field.value_of(reference::FIELD) {
            let reference = Reference::parse(value.as_bytes()).map_err(StoredError::Reference)?;
            return Ok(Stored { line_ends, trace, chain: Chain::new(hops, reference)?, object_at: end });
        }
        match field.value_of(hop::FIELD) {
            Some(_) if hops.len() == usize::from(MAX_HOPS) => return Err(ChainError::TooLong.into()),
            Some(value) => hops.push(Hop::parse(value.as_bytes()).map_err(StoredError::Hop)?),
            None => trace.push(at..end),
        }
        at = end;
    }
}

/// Where the field that begins here ends: behind the line end that no white space follows.
fn field_end(head: &[u8], start: usize, line_ends: LineEnds) -> Result<usize, StoredError> {
    let mut at = start;
    loop {
        if at >= MAX_HEAD {
            return Err(StoredError::NoReference);
        }
        let line = line_at(head, at, line_ends)?;
        let blank = line.iter().all(|o| matches!(o, b'\r' | b'\n'));
        if blank && at == start {
            return Err(StoredError::NoReference);
        }
        if at == start && !line.contains(&b':') {
            return Err(StoredError::Header(start));
        }
        at += line.len();
        match head.get(at) {
            None => return Err(StoredError::Incomplete),
            Some(b' ' | b'\t') => {}
            Some(_) => return Ok(at),
        }
    }
}

/// The line that begins here, its end included.
fn line_at(head: &[u8], at: usize, line_ends: LineEnds) -> Result<&[u8], StoredError> {
    let rest = &head[at..];
    let end = rest.iter().position(|o| *o == b'\n').ok_or(StoredError::Incomplete)? + 1;
    let line = &rest[..end];
    let fine = match line_ends {
        LineEnds::Crlf => line.ends_with(b"\r\n"),
        LineEnds::Lf => !line.contains(&b'\r'),
    };
    if fine { Ok(line) } else { Err(StoredError::Header(at)) }
}

/// A field with CRLF inside and none at its end.
fn field_text(octets: &[u8], line_ends: LineEnds) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(octets);
    match line_ends {
        LineEnds::Crlf => match text {
            Cow::Borrowed(t) => Cow::Borrowed(t.trim_end_matches("\r\n")),
            Cow::Owned(t) => Cow::Owned(t.trim_end_matches("\r\n").to_owned()),
        },
        LineEnds::Lf => Cow::Owned(text.trim_end_matches('\n').replace('\n', "\r\n")),
    }
}
