//! RSET (RFC 5321 §4.1.1.5): gives the transaction up.

use super::{Command, SyntaxError, no_arguments};

pub(super) fn parse(arguments: &str) -> Result<Command, SyntaxError> {
    no_arguments(arguments, "RSET", Command::Rset)
}

pub(super) fn write(out: &mut Vec<u8>) {
    out.extend_from_slice(b"RSET");
}
