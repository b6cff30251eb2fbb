//! STARTTLS (RFC 3207): the rest of the connection inside TLS.

use super::{Command, SyntaxError, no_arguments};

pub(super) fn parse(arguments: &str) -> Result<Command, SyntaxError> {
    no_arguments(arguments, "STARTTLS", Command::StartTls)
}

pub(super) fn write(out: &mut Vec<u8>) {
    out.extend_from_slice(b"STARTTLS");
}
