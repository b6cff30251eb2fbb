//! Where a domain wants reports about its mail: the URIs in its records (`rua=`), as RFC 7489 and RFC 8460 have them.
//!
//! Text in, values out. Whether a report may go there, and how, is others'.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::domain::Domain;

/// Longest URI that is read, in octets.
pub const MAX_URI: usize = 1024;

/// One place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ReportUri {
    /// `mailto:`; fields that the URI wants in the header are passed over.
    Mail(Address),
    /// `https:`, on the port that HTTPS has.
    Https {
        /// The host.
        host: Domain,
        /// Path and query, from the first slash on: printable ASCII.
        path: String,
    },
}

/// Why a text is no place for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReportUriError {
    /// Over [`MAX_URI`].
    #[error("the URI is too long")]
    TooLong,
    /// Neither `mailto:` nor `https:`.
    #[error("reports go to mailto: and https: only")]
    Scheme,
    /// No address after `mailto:`, or one that is not of a domain.
    #[error("that is not the address of a mailbox")]
    Address,
    /// A host, a port or a path that is not valid.
    #[error("that is not an https URI of a host by its name, on the usual port")]
    Https,
}

impl FromStr for ReportUri {
    type Err = ReportUriError;

    fn from_str(text: &str) -> Result<Self, ReportUriError> {
        if text.len() > MAX_URI {
            return Err(ReportUriError::TooLong);
        }
        let (scheme, rest) = text.split_once(':').ok_or(ReportUriError::Scheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "mailto" => mailbox(rest).map(Self::Mail),
            "https" => https(rest.strip_prefix("//").ok_or(ReportUriError::Https)?),
            _ => Err(ReportUriError::Scheme),
        }
    }
}

/// RFC 6068: percent-encoded; several addresses, or fields, are more than a report needs.
fn mailbox(text: &str) -> Result<Address, ReportUriError> {
    let address = text.split('?').next().unwrap_or_default();
    let decoded = percent_decoded(address).ok_or(ReportUriError::Address)?;
    let address = Address::parse(&decoded).map_err(|_| ReportUriError::Address)?;
    if address.domain().is_none() { Err(ReportUriError::Address) } else { Ok(address) }
}

fn https(text: &str) -> Result<ReportUri, ReportUriError> {
    let text = text.split('#').next().unwrap_or_default();
    let end = text.find(['/', '?']).unwrap_or(text.len());
    let (authority, path) = text.split_at(end);
    let host = authority.strip_suffix(":443").unwrap_or(authority);
    let host = Domain::parse(host).map_err(|_| ReportUriError::Https)?;
    if !path.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(ReportUriError::Https);
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(ReportUri::Https { host, path })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            octets.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        octets.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        rest = &tail[2..];
    }
    String::from_utf8(octets).ok()
}

impl fmt::Display for ReportUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(address) => {
                f.write_str("mailto:")?;
                let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"@.-_+=~'".contains(&octet);
                address.as_str().bytes().try_for_each(|octet| match plain(octet) {
                    true => write!(f, "{}", char::from(octet)),
                    false => write!(f, "%{octet:02X}"),
                })
            }
            Self::Https { host, path } => write!(f, "https://{host}{path}"),
        }
    }
}

impl TryFrom<String> for ReportUri {
    type Error = ReportUriError;

    fn try_from(text: String) -> Result<Self, ReportUriError> {
        text.parse()
    }
}

impl From<ReportUri> for String {
    fn from(uri: ReportUri) -> Self {
        uri.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_and_written() {
        for (text, written) in [
            ("mailto:reports@b.example", "mailto:reports@b.example"),
            ("MAILTO:tls%2Breports@B.example?subject=x", "mailto:tls+reports@b.example"),
            ("mailto:a%2Cb@b.example", ""),
            ("https://r.b.example/v1/tlsrpt?k=1#x", "https://r.b.example/v1/tlsrpt?k=1"),
            ("https://R.b.example:443", "https://r.b.example/"),
            ("https://r.b.example?k", "https://r.b.example/?k"),
        ] {
            let read = text.parse::<ReportUri>().map(|uri| uri.to_string()).unwrap_or_default();
            assert_eq!(read, written, "{text}");
            assert!(written.is_empty() || written.parse::<ReportUri>().unwrap().to_string() == written);
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let long = format!("mailto:{}@b.example", "x".repeat(MAX_URI));
        for bad in [
            "",
            "reports@b.example",
            "mailto:",
            "mailto:postmaster",
            "mailto:a@b.example%0d%0aBcc:x@y.example",
            "mailto:a%+1@b.example",
            "http://b.example/",
            "https:/b.example",
            "https://b.example:8443/",
            "https://u@b.example/",
            "https://b.example/\u{e9}",
            "https://b.example/ x",
            &long,
        ] {
            assert!(bad.parse::<ReportUri>().is_err(), "{bad}");
        }
    }
}
