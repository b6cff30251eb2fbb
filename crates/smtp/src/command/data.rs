//! DATA (RFC 5321 §4.1.1.4): content up to the lone dot follows the 354.

use super::{Command, SyntaxError, no_arguments};

pub(super) fn parse(arguments: &str) -> Result<Command, SyntaxError> {
    no_arguments(arguments, "DATA", Command::Data)
}

pub(super) fn write(out: &mut Vec<u8>) {
    out.extend_from_slice(b"DATA");
}
