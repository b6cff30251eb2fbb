//! VRFY (RFC 5321 §4.1.1.6): never confirms nor denies an address.

use super::{Command, SyntaxError};

pub(super) fn parse(arguments: &str) -> Result<Command, SyntaxError> {
    if arguments.is_empty() {
        return Err(SyntaxError::Arguments("VRFY name"));
    }
    Ok(Command::Vrfy(arguments.to_owned()))
}

pub(super) fn write(word: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"VRFY ");
    out.extend(word.bytes().filter(|o| !o.is_ascii_control()));
}
