//! How sure it is that something is a domain's own word (TBR §5.4).

use std::fmt;

use serde::{Deserialize, Serialize};

/// How sure it is that facts are the domain's own. Unsigned DNS alone is no assurance at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assurance {
    /// The document came from `tbr.<domain>` under a certificate that the public CAs vouch for.
    Webpki,
    /// The records were validated with DNSSEC.
    Dnssec,
}

impl fmt::Display for Assurance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Webpki => "webpki",
            Self::Dnssec => "dnssec",
        })
    }
}
