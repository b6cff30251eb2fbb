//! EXPN (RFC 5321 §4.1.1.7): known, and not implemented.

use super::{Command, SyntaxError};

pub(super) fn parse(arguments: &str) -> Result<Command, SyntaxError> {
    if arguments.is_empty() {
        return Err(SyntaxError::Arguments("EXPN name"));
    }
    Ok(Command::Expn(arguments.to_owned()))
}

pub(super) fn write(word: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"EXPN ");
    out.extend(word.bytes().filter(|o| !o.is_ascii_control()));
}
