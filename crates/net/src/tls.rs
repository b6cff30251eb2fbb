//! TLS configurations for servers and clients, by rustls over aws-lc-rs.
//!
//! [`certificates`] holds the operator's certificates and notices when their files change, [`server_config`]
//! and [`trust`] make configurations of them, [`dane`] those that go by DNS; [`security`] says what one connection needs. Handshakes are made by whoever owns the connection.

pub mod certificates;
pub mod dane;
pub mod security;
pub mod trust;

#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::ResolvesServerCert;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

pub use certificates::{CertificateFiles, Certificates};
pub use dane::Dane;
pub use security::Security;
pub use trust::{ClientTls, Trust};

/// What is wrong with the operator's TLS files or this machine's.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {problem}; {remedy}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// No certificate is configured where one is needed.
    #[error("no certificate is configured; name a certificate file and its key file")]
    NoCertificate,
    /// The system's CAs cannot be had, or the library refuses.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// Which versions of TLS are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    /// TLS 1.3 and 1.2: SMTP meets old peers.
    #[default]
    From12,
    /// TLS 1.3 only: the default for retrieval (TBR §5.5).
    Only13,
}

static FROM_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];

impl Versions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::From12 => &FROM_12,
            Self::Only13 => &ONLY_13,
        }
    }
}

/// HTTP/1.1 in ALPN (RFC 7301 §6).
pub const HTTP_1: &[u8] = b"http/1.1";
/// HTTP/2 in ALPN (RFC 9113 §3.2).
pub const HTTP_2: &[u8] = b"h2";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A server configuration: these certificates ([`Certificates`], mostly), sessions resumed by tickets, no client certificates, `alpn`
/// (empty for SMTP).
///
/// # Errors
/// [`TlsError::Library`] only.
pub fn server_config(
    certificates: Arc<impl ResolvesServerCert + 'static>,
    versions: Versions,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions.list())?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificates);
    config.ticketer = Ticketer::new()?;
    // One ticket is enough for clients that resume one session at a time, and saves octets.
    config.send_tls13_tickets = 1;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}
