//! What one connection's TLS must be for its peer to count as the one that was meant.
//!
//! The sources of such a demand (the operator's word for a next hop, a domain's policy, its records) come together in
//! one value, made anew for each host; how a connection lives up to it is the connection's business.

use std::sync::Arc;

use super::Dane;

/// What a connection needs before it may carry mail. Demands that are met differently are never weighed against each
/// other: whoever has two decides which one holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    /// Nothing, and TLS is not tried.
    Off,
    /// TLS where it is offered, any certificate; where the handshake fails, in clear (RFC 7435).
    Opportunistic,
    /// TLS, any certificate: nobody can only listen.
    Encrypted,
    /// TLS with a certificate that the trusted CAs vouch for, for the name that is connected to (RFC 9525).
    WebPki,
    /// TLS with a certificate that the host's TLSA records name (RFC 7672).
    Dane(Arc<Dane>),
}

impl Security {
    /// Must there be TLS? Then nothing is ever sent in clear.
    pub fn needs_tls(&self) -> bool {
        !matches!(self, Self::Off | Self::Opportunistic)
    }

    /// Does the connection end at nobody but the one whose name was given?
    pub fn authenticates(&self) -> bool {
        matches!(self, Self::WebPki | Self::Dane(_))
    }
}
