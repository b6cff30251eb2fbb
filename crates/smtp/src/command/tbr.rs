//! TBR (TBR §3): the line of an offer, `TBR count uri`. The grammar of the URI, and the block of header
//! fields that follows the line up to a lone dot, belong to the crate `reference`.

use std::fmt;

use super::SyntaxError;

/// Longest arguments in octets: three digits, a space, and the longest URI there can be (400 octets),
/// with room.
const MAX_ARGUMENTS: usize = 512;

/// The arguments of a TBR line: a count of one to three digits, one space, and one word that begins with
/// `https://`. The word holds a grant, so `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Tbr {
    arguments: String,
}

impl Tbr {
    /// Checks the outer form of the arguments.
    ///
    /// # Errors
    /// [`SyntaxError::Arguments`].
    pub fn parse(arguments: &str) -> Result<Self, SyntaxError> {
        const SYNTAX: SyntaxError = SyntaxError::Arguments("TBR count https-uri");
        let (count, uri) = arguments.split_once(' ').ok_or(SYNTAX)?;
        let is_count = (1..=3).contains(&count.len()) && count.bytes().all(|o| o.is_ascii_digit());
        let is_uri = uri.starts_with("https://") && uri.bytes().all(|o| o.is_ascii_graphic());
        if !is_count || !is_uri || arguments.len() > MAX_ARGUMENTS {
            return Err(SYNTAX);
        }
        Ok(Self { arguments: arguments.to_owned() })
    }

    /// `count uri`, grant included. For parsing and for the wire, never for a log.
    pub fn reveal(&self) -> &str {
        &self.arguments
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"TBR ");
        out.extend_from_slice(self.arguments.as_bytes());
    }
}

impl fmt::Debug for Tbr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.arguments.split('?').next().unwrap_or_default();
        write!(f, "Tbr({shown}?…)")
    }
}
