//! What the JSON bodies of TBR's resources have in common (TBR §6.3): reading and writing them under the same limits. What is in
//! them is each one's own.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Largest body, request or answer, in octets.
pub const MAX_BODY: usize = 256 * 1024;
/// Most entries in one request.
pub const MAX_ENTRIES: usize = 1000;
/// Most recipients of one reference: indexes are 0 to 999.
pub const MAX_RECIPIENTS: u16 = 1000;
/// Longest text in characters; longer ones are cut.
pub const MAX_TEXT: usize = 500;

/// A body. Both sides use it: limits hold for reading and for writing.
pub trait JsonBody: Serialize + DeserializeOwned {
    /// Checks its limits.
    ///
    /// # Errors
    /// [`BodyError`]: the first that is broken.
    fn check(&self) -> Result<(), BodyError>;

    /// Reads it and checks its limits.
    ///
    /// # Errors
    /// [`BodyError`].
    fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let parsed: Self = read(body)?;
        parsed.check()?;
        Ok(parsed)
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`BodyError`] where a limit is broken: split it.
    fn encode(&self) -> Result<Vec<u8>, BodyError> {
        self.check()?;
        write(self)
    }
}

/// Why a body is refused as a whole (HTTP 400, or 413 for the first).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Over [`MAX_BODY`].
    #[error("the body is longer than {MAX_BODY} octets")]
    TooLong,
    /// Over [`MAX_ENTRIES`].
    #[error("the body has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// Not the JSON that is expected here.
    #[error("the body is not well-formed: {0}")]
    Json(String),
    /// Indexes of an entry are not ascending, over the limit, or missing.
    #[error("the recipient indexes of an entry are not valid")]
    Indexes,
    /// An outcome whose status does not fit its action.
    #[error("the status of an outcome does not fit its action")]
    Status,
}

/// The number 1, as member `v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Revision1;

impl TryFrom<u64> for Revision1 {
    type Error = &'static str;
    fn try_from(number: u64) -> Result<Self, Self::Error> {
        if number == 1 { Ok(Self) } else { Err("only revision 1 is supported") }
    }
}

impl From<Revision1> for u64 {
    fn from(_: Revision1) -> Self {
        1
    }
}

/// A text for people: printable, one line, at most [`MAX_TEXT`] characters. Whatever else comes in is made so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// Makes any text one: control characters, line separators and directional marks become spaces.
    pub fn new(text: &str) -> Self {
        let plain = |c: char| if is_hidden(c) { ' ' } else { c };
        Self(text.chars().take(MAX_TEXT).map(plain).collect::<String>().trim().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// Characters that could break a line or reorder what a reader sees.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    if body.len() > MAX_BODY {
        return Err(BodyError::TooLong);
    }
    serde_json::from_slice(body).map_err(|e| BodyError::Json(fault(&e)))
}

/// Where and what kind, but none of the peer's text: it may hold a grant.
fn fault(error: &serde_json::Error) -> String {
    format!("{:?} error in line {}, column {}", error.classify(), error.line(), error.column()).to_lowercase()
}

pub(crate) fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, BodyError> {
    let body = serde_json::to_vec(value).map_err(|e| BodyError::Json(fault(&e)))?;
    if body.len() > MAX_BODY { Err(BodyError::TooLong) } else { Ok(body) }
}

pub(crate) fn check_count(entries: usize) -> Result<(), BodyError> {
    if entries > MAX_ENTRIES { Err(BodyError::TooMany) } else { Ok(()) }
}
