//! ETRN (RFC 1985): asks a server to try what waits for a domain.

use ::mail::Domain;

use super::{Command, SyntaxError};

/// Whose mail is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Etrn {
    /// Of exactly this domain.
    Domain(Domain),
    /// `@domain`: of this one and of those below it.
    Subdomains(Domain),
    /// `#queue`: a queue that only the server knows by its name, which nothing looks at.
    Queue(String),
}

impl Etrn {
    /// The name as it is written, with its mark.
    pub fn node(&self) -> String {
        match self {
            Self::Domain(domain) => domain.to_string(),
            Self::Subdomains(domain) => format!("@{domain}"),
            Self::Queue(name) => format!("#{name}"),
        }
    }

    /// Does it ask for this domain?
    pub fn asks_for(&self, domain: &Domain) -> bool {
        match self {
            Self::Domain(asked) => domain == asked,
            Self::Subdomains(asked) => domain.is_within(asked),
            Self::Queue(_) => false,
        }
    }
}

pub(super) fn parse(arguments: &str) -> Result<Command, SyntaxError> {
    const SYNTAX: SyntaxError = SyntaxError::Arguments("ETRN [@]domain");
    let domain = |text: &str| Domain::parse(text).map_err(|_| SYNTAX);
    let etrn = match arguments.split_at_checked(1) {
        Some(("@", name)) => Etrn::Subdomains(domain(name)?),
        Some(("#", name)) if !name.is_empty() && !name.contains(' ') => Etrn::Queue(name.to_owned()),
        _ => Etrn::Domain(domain(arguments)?),
    };
    Ok(Command::Etrn(etrn))
}

pub(super) fn write(etrn: &Etrn, out: &mut Vec<u8>) {
    out.extend_from_slice(b"ETRN ");
    out.extend_from_slice(etrn.node().as_bytes());
}
