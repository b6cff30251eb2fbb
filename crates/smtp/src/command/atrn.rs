//! ATRN (RFC 2645 §5.2.2): asks a provider to turn the roles of the connection over, and to send what waits for domains.

use ::mail::Domain;

use super::{Command, SyntaxError};

/// Most domains of one ATRN; so many names fit the line in any case.
pub const MAX_DOMAINS: usize = 64;

/// An empty list means all domains that the customer may ask for.
pub(super) fn parse(arguments: &str) -> Result<Command, SyntaxError> {
    const SYNTAX: SyntaxError = SyntaxError::Arguments("ATRN [domain[,domain]...]");
    if arguments.is_empty() {
        return Ok(Command::Atrn(Vec::new()));
    }
    let mut domains = Vec::new();
    for name in arguments.split(',') {
        let domain = Domain::parse(name).map_err(|_| SYNTAX)?;
        if domains.len() >= MAX_DOMAINS || domains.contains(&domain) {
            return Err(SYNTAX);
        }
        domains.push(domain);
    }
    Ok(Command::Atrn(domains))
}

pub(super) fn write(domains: &[Domain], out: &mut Vec<u8>) {
    out.extend_from_slice(b"ATRN");
    for (domain, mark) in domains.iter().zip(std::iter::once(b' ').chain(std::iter::repeat(b','))) {
        out.push(mark);
        out.extend_from_slice(domain.as_str().as_bytes());
    }
}
