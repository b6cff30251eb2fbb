//! Enhanced status codes (RFC 3463): `class.subject.detail`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The first digit: what the code says of success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// 2: it succeeded.
    Success,
    /// 4: it failed, a later try may succeed.
    Temporary,
    /// 5: it failed for good.
    Permanent,
}

/// An enhanced status code such as `2.1.5`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnhancedStatus {
    class: u8,
    subject: u16,
    detail: u16,
}

/// The text is no enhanced status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an enhanced status code looks like 2.1.5, its class is 2, 4 or 5")]
pub struct NotStatus;

impl EnhancedStatus {
    /// `2.subject.detail`.
    pub const fn success(subject: u16, detail: u16) -> Self {
        Self { class: 2, subject, detail }
    }

    /// `4.subject.detail`.
    pub const fn temporary(subject: u16, detail: u16) -> Self {
        Self { class: 4, subject, detail }
    }

    /// `5.subject.detail`.
    pub const fn permanent(subject: u16, detail: u16) -> Self {
        Self { class: 5, subject, detail }
    }

    /// What the first digit says.
    pub const fn class(self) -> StatusClass {
        match self.class {
            2 => StatusClass::Success,
            4 => StatusClass::Temporary,
            _ => StatusClass::Permanent,
        }
    }

    /// The second number: what the code is about (RFC 3463 §3).
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// The third number.
    pub const fn detail(self) -> u16 {
        self.detail
    }
}

impl FromStr for EnhancedStatus {
    type Err = NotStatus;
    fn from_str(text: &str) -> Result<Self, NotStatus> {
        let mut parts = text.split('.');
        let mut number = |most: u16| {
            let part = parts.next().filter(|p| (1..=3).contains(&p.len()) && p.bytes().all(|o| o.is_ascii_digit()));
            part.and_then(|p| p.parse().ok()).filter(|n| *n <= most).ok_or(NotStatus)
        };
        let (class, subject, detail) = (number(5)?, number(999)?, number(999)?);
        if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
            return Err(NotStatus);
        }
        Ok(Self { class: class as u8, subject, detail })
    }
}

impl TryFrom<String> for EnhancedStatus {
    type Error = NotStatus;
    fn try_from(text: String) -> Result<Self, NotStatus> {
        text.parse()
    }
}

impl From<EnhancedStatus> for String {
    fn from(status: EnhancedStatus) -> Self {
        status.to_string()
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Debug for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_codes_parse() {
        assert_eq!("5.7.27".parse(), Ok(EnhancedStatus::permanent(7, 27)));
        for bad in ["", "5", "5.7", "5.7.1.1", "3.1.1", "5.1000.1", "5..1", "5.7.x", "+5.7.1", "5.7.1 "] {
            assert_eq!(bad.parse::<EnhancedStatus>(), Err(NotStatus), "{bad:?}");
        }
    }
}
