//! NOOP (RFC 5321 §4.1.1.9): does nothing, whatever its argument.

use super::Command;

pub(super) fn parse(_ignored: &str) -> Command {
    Command::Noop
}

pub(super) fn write(out: &mut Vec<u8>) {
    out.extend_from_slice(b"NOOP");
}
