//! LHLO (RFC 2033 §4.1): the greeting of LMTP. Only the client says it.

use super::{HelloName, SyntaxError};

pub(super) fn parse(arguments: &str) -> Result<HelloName, SyntaxError> {
    HelloName::new(arguments).ok_or(SyntaxError::Arguments("LHLO name"))
}

pub(super) fn write(name: &HelloName, out: &mut Vec<u8>) {
    out.extend_from_slice(b"LHLO ");
    out.extend_from_slice(name.as_str().as_bytes());
}
