//! AUTH (RFC 4954 §4), and the base64 lines of the exchange that follows it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::SyntaxError;
use crate::secret::Secret;

/// `AUTH mechanism [initial-response]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The SASL mechanism's name, in capitals.
    pub mechanism: String,
    /// The initial response, decoded; `=` on the wire is an empty one.
    pub initial: Option<Secret>,
}

impl Auth {
    pub(super) fn parse(arguments: &str) -> Result<Self, SyntaxError> {
        const SYNTAX: SyntaxError = SyntaxError::Arguments("AUTH mechanism [initial-response]");
        let (mechanism, initial) = match arguments.split_once(' ') {
            Some((mechanism, initial)) => (mechanism, Some(initial.trim_start_matches(' '))),
            None => (arguments, None),
        };
        // RFC 4422 §3.1: 1 to 20 letters, digits, hyphens and underscores.
        let letter = |o: u8| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'_');
        if !(1..=20).contains(&mechanism.len()) || !mechanism.bytes().all(letter) {
            return Err(SYNTAX);
        }
        let initial = match initial {
            None => None,
            Some("=") => Some(Secret::default()),
            Some("") => return Err(SYNTAX),
            Some(text) => Some(decode(text.as_bytes())?),
        };
        Ok(Self { mechanism: mechanism.to_ascii_uppercase(), initial })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"AUTH ");
        out.extend_from_slice(self.mechanism.as_bytes());
        match &self.initial {
            None => {}
            Some(empty) if empty.reveal().is_empty() => out.extend_from_slice(b" ="),
            Some(initial) => {
                out.push(b' ');
                out.extend_from_slice(encode(initial.reveal()).as_bytes());
            }
        }
    }
}

/// Decodes a message of the exchange. RFC 4954 §4: strict base64 with padding.
pub(crate) fn decode(text: &[u8]) -> Result<Secret, SyntaxError> {
    STANDARD.decode(text).map(Secret::new).map_err(|_| SyntaxError::Base64)
}

/// Encodes a message of the exchange.
pub(crate) fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}
