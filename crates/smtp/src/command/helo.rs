//! HELO (RFC 5321 §4.1.1.1), and the name that all three greetings of a client carry.

use std::fmt;

use ::mail::Domain;

use super::SyntaxError;

/// What a client calls itself: any 1 to 255 printable characters without space. Clients greet with
/// names that are no domain names, so this promises nothing; policy may look closer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloName(String);

impl HelloName {
    /// Takes the name if it is one.
    pub fn new(name: &str) -> Option<Self> {
        let fine = |c: char| !c.is_control() && !c.is_whitespace();
        ((1..=255).contains(&name.len()) && name.chars().all(fine)).then(|| Self(name.to_owned()))
    }

    /// The name as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Domain> for HelloName {
    fn from(domain: &Domain) -> Self {
        Self(domain.as_str().to_owned())
    }
}

impl fmt::Display for HelloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn parse(arguments: &str) -> Result<HelloName, SyntaxError> {
    HelloName::new(arguments).ok_or(SyntaxError::Arguments("HELO name"))
}

pub(super) fn write(name: &HelloName, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HELO ");
    out.extend_from_slice(name.as_str().as_bytes());
}
