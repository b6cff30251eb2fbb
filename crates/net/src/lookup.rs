//! The border to name resolution: the few questions that retrieval and discovery ask.
//!
//! Who answers (the validating resolver, a zone file, a table in a test) is the caller's choice.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mail::Domain;

use crate::dns::TlsaSet;

/// Answers questions about names. Implementations bound their own time and cache what they like.
pub trait Lookup: Send + Sync + 'static {
    /// The TXT records at a name, CNAMEs followed, the strings of each record joined; records that are not UTF-8 left
    /// out. A name that does not exist and a name without TXT records are both an answer without records.
    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, Result<Txt, LookupError>>;

    /// The IPv4 and IPv6 addresses of a host, in the order in which they should be tried. None: the host has none.
    fn addresses<'a>(&'a self, host: &'a Domain) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>>;

    /// What a host publishes of the certificates of its service on this TCP port, where DNSSEC vouches for it (RFC 6698);
    /// `None`: nothing.
    fn tlsa<'a>(&'a self, host: &'a Domain, port: u16) -> BoxFuture<'a, Result<Option<TlsaSet>, LookupError>>;
}

/// TXT records, or their absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txt {
    /// The records; empty where there are none.
    pub records: Vec<String>,
    /// Was the answer, every CNAME on the way and a denial included, validated with DNSSEC?
    pub secure: bool,
    /// How long it may be kept.
    pub ttl: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No server answered, or none could.
    #[error("{0}")]
    Temporary(String),
    /// DNSSEC says that the answer is forged or broken. Never to be taken for a weaker answer (TBR §6.4).
    #[error("the answer failed DNSSEC validation: {0}")]
    Bogus(String),
}
