//! HELP (RFC 5321 §4.1.1.8): one answer for every argument.

use super::Command;

pub(super) fn parse(_ignored: &str) -> Command {
    Command::Help
}

pub(super) fn write(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HELP");
}
