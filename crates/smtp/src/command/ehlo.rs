//! EHLO (RFC 5321 §4.1.1.1): the greeting that asks for extensions.

use super::{HelloName, SyntaxError};

pub(super) fn parse(arguments: &str) -> Result<HelloName, SyntaxError> {
    HelloName::new(arguments).ok_or(SyntaxError::Arguments("EHLO name"))
}

pub(super) fn write(name: &HelloName, out: &mut Vec<u8>) {
    out.extend_from_slice(b"EHLO ");
    out.extend_from_slice(name.as_str().as_bytes());
}
