//! Domain names as mail uses them: lower-case A-labels (RFC 5890), without a final dot.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A domain name: at most 253 octets, labels of 1 to 63 letters, digits, hyphens and underscores
/// (underscores occur in DNS names such as `_tbr.example`), in lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

/// Why a text is no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// Nothing, or nothing between two dots.
    #[error("a domain name has an empty label")]
    Empty,
    /// Over 253 octets, or a label over 63 (RFC 1035 §2.3.4).
    #[error("a domain name or one of its labels is too long")]
    TooLong,
    /// A character that no label may hold, or a hyphen at its edge.
    #[error("a domain name holds a character that is not allowed there")]
    Character,
    /// A U-label that IDNA (UTS 46) refuses.
    #[error("an internationalised domain name is not valid")]
    Idna,
}

impl Domain {
    /// Parses a name in any case, U-labels included.
    ///
    /// # Errors
    /// [`DomainError`]; a final dot is an error too: mail names carry none (RFC 5321 §2.3.5).
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        if text.is_ascii() {
            let lower = text.to_ascii_lowercase();
            check_ascii(&lower)?;
            return Ok(Self(lower));
        }
        let ascii = idna::domain_to_ascii_strict(text).map_err(|_| DomainError::Idna)?;
        check_ascii(&ascii)?;
        Ok(Self(ascii))
    }

    /// The name in lower-case A-labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<label>.<self>`, such as `_tbr.a.example`.
    ///
    /// # Errors
    /// [`DomainError`] where the longer name would break a limit.
    pub fn child(&self, label: &str) -> Result<Self, DomainError> {
        Self::parse(&format!("{label}.{}", self.0))
    }

    /// The name without its first label; none above a single label.
    pub fn parent(&self) -> Option<Self> {
        self.0.split_once('.').map(|(_, rest)| Self(rest.to_owned()))
    }

    /// The registrable domain: the part that one owner answers for, by the [Public Suffix List](https://publicsuffix.org). The whole
    /// name where it is a public suffix itself.
    pub fn registrable(&self) -> &str {
        psl::domain_str(&self.0).unwrap_or(&self.0)
    }

    /// Do strangers register names below this one, by the same list?
    pub fn is_public_suffix(&self) -> bool {
        psl::suffix_str(&self.0) == Some(&self.0)
    }

    /// Is this name `ancestor` or below it?
    pub fn is_within(&self, ancestor: &Self) -> bool {
        match self.0.strip_suffix(ancestor.as_str()) {
            Some(rest) => rest.is_empty() || rest.ends_with('.'),
            None => false,
        }
    }
}

fn check_ascii(name: &str) -> Result<(), DomainError> {
    if name.len() > 253 {
        return Err(DomainError::TooLong);
    }
    name.split('.').try_for_each(check_label)
}

fn check_label(label: &str) -> Result<(), DomainError> {
    let octets = label.as_bytes();
    let allowed = |o: &u8| o.is_ascii_lowercase() || o.is_ascii_digit() || matches!(o, b'-' | b'_');
    match octets {
        [] => Err(DomainError::Empty),
        [..] if octets.len() > 63 => Err(DomainError::TooLong),
        [b'-', ..] | [.., b'-'] => Err(DomainError::Character),
        [..] if !octets.iter().all(allowed) => Err(DomainError::Character),
        [..] => Ok(()),
    }
}

impl FromStr for Domain {
    type Err = DomainError;
    fn from_str(text: &str) -> Result<Self, DomainError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Domain {
    type Error = DomainError;
    fn try_from(text: String) -> Result<Self, DomainError> {
        Self::parse(&text)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowered_and_converted() {
        assert_eq!(Domain::parse("A.Example").unwrap().as_str(), "a.example");
        assert_eq!(Domain::parse("bücher.example").unwrap().as_str(), "xn--bcher-kva.example");
        for bad in ["", ".", "a.", "a..b", "-a.example", "a-.example", "a b", "a\r\n", &"a".repeat(64)] {
            assert!(Domain::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Domain::parse(&["a"; 128].join(".")).is_err());
    }

    #[test]
    fn within_needs_a_label_border() {
        let d = |t| Domain::parse(t).unwrap();
        assert!(d("x.a.example").is_within(&d("a.example")));
        assert!(d("a.example").is_within(&d("a.example")));
        assert!(!d("xa.example").is_within(&d("a.example")));
        assert_eq!(d("a.example").parent(), Some(d("example")));
        assert_eq!(d("example").parent(), None);
    }
}
