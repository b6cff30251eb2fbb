//! QUIT (RFC 5321 §4.1.1.10): ends the session.

use super::{Command, SyntaxError, no_arguments};

pub(super) fn parse(arguments: &str) -> Result<Command, SyntaxError> {
    no_arguments(arguments, "QUIT", Command::Quit)
}

pub(super) fn write(out: &mut Vec<u8>) {
    out.extend_from_slice(b"QUIT");
}
