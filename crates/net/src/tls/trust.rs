//! Whom clients believe: the system's CAs or a file of them, or, for opportunistic STARTTLS, anybody.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::certificates::read_chain;
use super::{Security, TlsError, Versions, dane, provider};

/// Sessions that a client remembers in order to resume them, over all peers.
const REMEMBERED_SESSIONS: usize = 1_024;

/// Which CAs are believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Those of the system.
    #[default]
    System,
    /// Those in this PEM file, and no others.
    CaFile(PathBuf),
}

/// Configurations for the clients of this server. Made once; clones share the remembered sessions.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// Certificate and name are verified (RFC 9525).
    pub verified: Arc<ClientConfig>,
    /// Any certificate will do: protection against listeners only (RFC 7435).
    pub opportunistic: Arc<ClientConfig>,
    verifier: Arc<dyn ServerCertVerifier>,
}

impl ClientTls {
    /// Both configurations.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what to do.
    pub fn new(trust: &Trust) -> Result<Self, TlsError> {
        let anybody = Arc::new(Anybody::new());
        let verifier = verifier(trust)?;
        Ok(Self {
            verified: build(Arc::clone(&verifier), Versions::From12, &[])?,
            opportunistic: build(anybody, Versions::From12, &[])?,
            verifier,
        })
    }

    /// Would this chain do for the name, where certificate and name are verified? For connections that were made under a
    /// lesser demand.
    ///
    /// # Errors
    /// Why it would not.
    pub fn judge(&self, chain: &[CertificateDer<'_>], name: &ServerName<'_>) -> Result<(), rustls::Error> {
        let Some((own, others)) = chain.split_first() else { return Err(rustls::Error::NoCertificatesPresented) };
        self.verifier.verify_server_cert(own, others, name, &[], UnixTime::now()).map(|_| ())
    }

    /// The configuration whose handshake succeeds only if this demand is met. Sessions are resumed only under the
    /// demand that they were made under.
    pub fn config(&self, security: &Security) -> Arc<ClientConfig> {
        match security {
            Security::Off | Security::Opportunistic | Security::Encrypted => Arc::clone(&self.opportunistic),
            Security::WebPki => Arc::clone(&self.verified),
            Security::Dane(records) => dane::under(&self.verified, Arc::clone(records)),
        }
    }
}

/// A client configuration that verifies certificate and name.
///
/// # Errors
/// [`TlsError`] names the file and what to do.
pub fn client_config(trust: &Trust, versions: Versions, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    build(verifier(trust)?, versions, alpn)
}

fn verifier(trust: &Trust) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    Ok(match trust {
        Trust::System => Arc::new(rustls_platform_verifier::Verifier::new(provider())?),
        Trust::CaFile(path) => of_file(path)?,
    })
}

fn build(
    verifier: Arc<dyn ServerCertVerifier>,
    versions: Versions,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions.list())?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(REMEMBERED_SESSIONS);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn of_file(path: &Path) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|error| TlsError::Content {
            path: path.to_owned(),
            problem: format!("a certificate in it cannot be used as a CA ({error})"),
            remedy: "list CA certificates only",
        })?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    verifier.build().map_err(|error| TlsError::Content {
        path: path.to_owned(),
        problem: error.to_string(),
        remedy: "list CA certificates only",
    })
}

/// Believes every certificate, but checks that the peer holds its key.
#[derive(Debug)]
pub(super) struct Anybody(Arc<CryptoProvider>);

impl Anybody {
    pub(super) fn new() -> Self {
        Self(provider())
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
