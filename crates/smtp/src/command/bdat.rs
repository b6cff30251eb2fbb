//! BDAT (RFC 3030 §2): a chunk of counted octets follows the line at once.

use super::SyntaxError;

/// `BDAT size [LAST]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bdat {
    /// Octets that follow.
    pub size: u64,
    /// Is this the last chunk of the message?
    pub last: bool,
}

impl Bdat {
    pub(super) fn parse(arguments: &str) -> Result<Self, SyntaxError> {
        const SYNTAX: SyntaxError = SyntaxError::Arguments("BDAT size [LAST]");
        let mut words = arguments.split(' ').filter(|w| !w.is_empty());
        let size = words.next().and_then(number).ok_or(SYNTAX)?;
        let last = match words.next() {
            None => false,
            Some(word) if word.eq_ignore_ascii_case("LAST") => true,
            Some(_) => return Err(SYNTAX),
        };
        if words.next().is_some() { Err(SYNTAX) } else { Ok(Self { size, last }) }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("BDAT {}{}", self.size, if self.last { " LAST" } else { "" }).as_bytes());
    }
}

/// A decimal number of at most 20 digits.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|o| o.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}
