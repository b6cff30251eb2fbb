//! Mailbox addresses of the SMTP envelope (RFC 5321 §4.1.2, RFC 6531 §3.3).
//!
//! The local part keeps its exact octets: only the receiving domain may interpret them. The domain is
//! held as a lower-case A-label. The null sender is `Option::<Address>::None`, written `<>`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::{Domain, DomainError};

/// Longest local part in octets. RFC 5321 §4.5.3.1.1 asks for 64; longer ones are in use (VERP, SRS).
pub const MAX_LOCAL: usize = 128;

/// A mailbox: `local@domain`, `local@[literal]`, or a bare `postmaster` (RFC 5321 §4.5.1).
///
/// Displays as its exact envelope form. `Debug` shows the domain only: addresses are personal data and
/// do not belong into logs by accident.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    text: String,
    /// Where the local part ends, and the `@` stands unless the address is bare.
    at: usize,
}

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@`, and not the word postmaster.
    #[error("the address has no domain")]
    NoDomain,
    /// The local part is empty, too long, or not a dot-string or quoted string.
    #[error("the local part of the address is not valid")]
    Local,
    /// The part after the `@` is no domain name.
    #[error("the domain of the address is not valid: {0}")]
    Domain(#[from] DomainError),
    /// The part in brackets is no IPv4 or `IPv6:` address.
    #[error("the address literal is not valid")]
    Literal,
}

impl Address {
    /// Parses what stands between `<` and `>`, without source route.
    ///
    /// # Errors
    /// [`AddressError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.eq_ignore_ascii_case("postmaster") {
            let text = text.to_ascii_lowercase();
            return Ok(Self { at: text.len(), text });
        }
        let at = text.rfind('@').ok_or(AddressError::NoDomain)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if !is_local_part(local) {
            return Err(AddressError::Local);
        }
        let domain = match domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
            Some(literal) => canonical_literal(literal)?,
            None => Domain::parse(domain)?.into(),
        };
        Ok(Self { text: format!("{local}@{domain}"), at })
    }

    /// `local@domain` from parts.
    ///
    /// # Errors
    /// [`AddressError::Local`] where the local part is not one.
    pub fn new(local: &str, domain: &Domain) -> Result<Self, AddressError> {
        if !is_local_part(local) {
            return Err(AddressError::Local);
        }
        Ok(Self { text: format!("{local}@{domain}"), at: local.len() })
    }

    /// The envelope form: exact local part, lower-case domain.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part, exact octets, quotes included.
    pub fn local(&self) -> &str {
        &self.text[..self.at]
    }

    /// The local part as it is meant: quotes and quoting backslashes removed.
    pub fn unquoted_local(&self) -> String {
        let local = self.local();
        let Some(inner) = local.strip_prefix('"').and_then(|l| l.strip_suffix('"')) else {
            return local.to_owned();
        };
        let mut plain = String::with_capacity(inner.len());
        let mut characters = inner.chars();
        while let Some(c) = characters.next() {
            plain.extend(if c == '\\' { characters.next() } else { Some(c) });
        }
        plain
    }

    /// The domain name; none for an address literal and for bare postmaster.
    pub fn domain(&self) -> Option<Domain> {
        Domain::parse(self.text.get(self.at + 1..)?).ok()
    }

    /// The text after the `@`: a domain name or a bracketed literal; empty for bare postmaster.
    pub fn host(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// Does the local part need SMTPUTF8 (RFC 6531)?
    pub fn needs_smtputf8(&self) -> bool {
        !self.text.is_ascii()
    }

    /// Is this postmaster, of whatever domain or of none (RFC 5321 §4.5.1)?
    pub fn is_postmaster(&self) -> bool {
        self.local().eq_ignore_ascii_case("postmaster")
    }
}

/// RFC 5321 §4.1.2 `Local-part`: dot-string or quoted-string, UTF-8 allowed in both (RFC 6531).
fn is_local_part(local: &str) -> bool {
    if local.is_empty() || local.len() > MAX_LOCAL {
        return false;
    }
    match local.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').is_some_and(is_quoted_content),
        None => local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext)),
    }
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_printable_unicode(c)
}

fn is_quoted_content(content: &str) -> bool {
    let mut characters = content.chars();
    while let Some(c) = characters.next() {
        let fine = match c {
            '\\' => characters.next().is_some_and(|q| matches!(q, ' '..='~')),
            '"' => false,
            c => matches!(c, ' '..='~') || is_printable_unicode(c),
        };
        if !fine {
            return false;
        }
    }
    true
}

fn is_printable_unicode(c: char) -> bool {
    !c.is_ascii() && !c.is_control()
}

fn canonical_literal(literal: &str) -> Result<String, AddressError> {
    let lower = literal.to_ascii_lowercase();
    let valid = match lower.strip_prefix("ipv6:") {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => lower.parse::<Ipv4Addr>().is_ok(),
    };
    if valid { Ok(format!("[{lower}]")) } else { Err(AddressError::Literal) }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "…@{}", self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_forms_keep_their_local_part() {
        for (text, local, host) in [
            ("Alice@A.Example", "Alice", "a.example"),
            ("\"a b\"@a.example", "\"a b\"", "a.example"),
            ("\"a@b\"@a.example", "\"a@b\"", "a.example"),
            ("x@[127.0.0.1]", "x", "[127.0.0.1]"),
            ("x@[IPv6:::1]", "x", "[ipv6:::1]"),
            ("jürgen@bücher.example", "jürgen", "xn--bcher-kva.example"),
            ("Postmaster", "postmaster", ""),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.local(), address.host()), (local, host));
            assert_eq!(Address::parse(address.as_str()), Ok(address));
        }
    }

    #[test]
    fn refused_forms() {
        for bad in [
            "",
            "a",
            "@a.example",
            "a@",
            ".a@b.example",
            "a.@b.example",
            "a..b@c.example",
            "a b@c.example",
            "\"a@b.example",
            "\"a\"b\"@c.example",
            "a\r\n@b.example",
            "a\0@b.example",
            "a@[1.2.3]",
            "a@[::1]",
            "<a@b.example>",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_local_part_has_a_limit() {
        assert!(Address::parse(&format!("{}@b.example", "a".repeat(MAX_LOCAL))).is_ok());
        assert!(Address::parse(&format!("{}@b.example", "a".repeat(MAX_LOCAL + 1))).is_err());
    }

    #[test]
    fn quoting_is_removed_for_looking_up() {
        assert_eq!(Address::parse("\"a\\\" b\"@c.example").unwrap().unquoted_local(), "a\" b");
        assert_eq!(Address::parse("ab@c.example").unwrap().unquoted_local(), "ab");
    }

    #[test]
    fn debug_hides_the_person() {
        assert_eq!(format!("{:?}", Address::parse("bob@b.example").unwrap()), "…@b.example");
    }
}
