//! The offer: the arguments of the `TBR` line, and the block of header fields that follows it (TBR §3).
//!
//! The SMTP machine has already cut both out of the session: the line without verb and CRLF, the block without the
//! final dot. What they mean for the session is `verify`'s.

use crate::hop::{self, Chain, ChainError, Hop, MAX_HOPS};
use crate::reference::{self, Reference};
use crate::taglist::{MAX_LINE, SyntaxError};
use crate::uri::{Uri, UriError};

/// Most octets of a block that a server must take (TBR §3.4).
pub const MAX_BLOCK: usize = 64 * 1024;

/// The arguments of a `TBR` line: forwarding count and URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferLine {
    /// How many hops the block has, 0 to [`MAX_HOPS`].
    pub count: u16,
    /// Where the object is.
    pub uri: Uri,
}

/// Why the arguments of a `TBR` line are not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Not exactly a count, one space, and a URI.
    #[error("TBR takes a forwarding count and a reference URI")]
    Arguments,
    /// The count is no number of 1 to 3 digits without leading zero.
    #[error("the forwarding count is not valid")]
    Count,
    /// The count is over [`MAX_HOPS`].
    #[error("the message has passed more than {MAX_HOPS} relays")]
    Loop,
    /// The URI is wrong.
    #[error(transparent)]
    Uri(#[from] UriError),
}

impl OfferLine {
    /// Reads what follows `TBR` and one space.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn parse(arguments: &str) -> Result<Self, LineError> {
        let (count, uri) = arguments.split_once(' ').ok_or(LineError::Arguments)?;
        Ok(Self { count: parse_count(count)?, uri: Uri::parse(uri)? })
    }

    /// The whole line with its CRLF. Holds the grant: for the wire only.
    pub fn encode(&self) -> String {
        format!("TBR {} {}\r\n", self.count, self.uri.reveal())
    }
}

fn parse_count(text: &str) -> Result<u16, LineError> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|o| o.is_ascii_digit());
    let count = text.parse::<u16>().ok().filter(|c| digits && c.to_string() == text).ok_or(LineError::Count)?;
    if count <= MAX_HOPS { Ok(count) } else { Err(LineError::Loop) }
}

/// Why octets are no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Longer than [`MAX_BLOCK`].
    #[error("the block is longer than {MAX_BLOCK} octets")]
    TooLong,
    /// A line over 998 octets, without CRLF at its end, or the first one folded.
    #[error("line {0} of the block is not a line of a header field")]
    Line(usize),
    /// A field that has no place in a block.
    #[error("a block holds TBR-Hop fields and one TBR-Reference, nothing else")]
    Field,
    /// No `TBR-Reference` at the end, or something after it.
    #[error("the block does not end in one TBR-Reference")]
    NoReference,
    /// A `TBR-Hop` is malformed.
    #[error("TBR-Hop: {0}")]
    Hop(SyntaxError),
    /// The `TBR-Reference` is malformed.
    #[error("TBR-Reference: {0}")]
    Reference(SyntaxError),
    /// The fields are well-formed, each, but do not belong together.
    #[error("TBR-Hop: {0}")]
    Chain(#[from] ChainError),
}

/// A well-formed block: zero or more `TBR-Hop`, newest on top, then one `TBR-Reference`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    text: String,
    chain: Chain,
}

impl Block {
    /// Reads a block, every line with its CRLF, without the final dot.
    ///
    /// # Errors
    /// [`BlockError`] names the first fault.
    pub fn parse(octets: &[u8]) -> Result<Self, BlockError> {
        if octets.len() > MAX_BLOCK {
            return Err(BlockError::TooLong);
        }
        let text = std::str::from_utf8(octets).map_err(|_| BlockError::Field)?;
        let fields = split_fields(text)?;
        let (last, above) = fields.split_last().ok_or(BlockError::NoReference)?;
        if above.len() > usize::from(MAX_HOPS) {
            return Err(ChainError::TooLong.into());
        }
        let hops = above.iter().map(|field| parse_hop(field)).collect::<Result<_, _>>()?;
        let value = last.value_of(reference::FIELD).ok_or(BlockError::NoReference)?;
        let reference = Reference::parse(value.as_bytes()).map_err(BlockError::Reference)?;
        Ok(Self { text: text.to_owned(), chain: Chain::new(hops, reference)? })
    }

    /// A block of this chain, as an offering server writes it.
    pub fn of(chain: Chain) -> Self {
        Self { text: chain.encode(), chain }
    }

    /// The exact octets: what is stored above the object, and sent again when the offer is repeated.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it says.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }
}

fn parse_hop(field: &Field<'_>) -> Result<Hop, BlockError> {
    match field.value_of(hop::FIELD) {
        Some(value) => Hop::parse(value.as_bytes()).map_err(BlockError::Hop),
        None if field.value_of(reference::FIELD).is_some() => Err(BlockError::NoReference),
        None => Err(BlockError::Field),
    }
}

/// One header field as it stands: folded, without its final CRLF.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a>(&'a str);

impl<'a> Field<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The value, if the field has this name (in any case, no white space before the colon).
    pub(crate) fn value_of(self, name: &str) -> Option<&'a str> {
        let (found, value) = self.0.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value)
    }
}

fn split_fields(text: &str) -> Result<Vec<Field<'_>>, BlockError> {
    let mut fields = Vec::new();
    let (mut start, mut at) = (0, 0);
    for (number, line) in (1..).zip(text.split_inclusive("\r\n")) {
        let content = line.strip_suffix("\r\n").ok_or(BlockError::Line(number))?;
        let folded = content.starts_with([' ', '\t']);
        if content.len() > MAX_LINE || content.trim().is_empty() || (folded && at == 0) {
            return Err(BlockError::Line(number));
        }
        if !folded && at > 0 {
            fields.push(Field(&text[start..at - 2]));
            start = at;
        }
        at += line.len();
    }
    if at > 0 {
        fields.push(Field(&text[start..at - 2]));
    }
    Ok(fields)
}
