//! tls-alpn-01 (RFC 8737): an authority asks a name's port 443, by a protocol of its own, for a certificate that holds a token's key
//! authorization. Nothing else is said in such a connection; whoever owns it closes it when the handshake is done.

use std::sync::Arc;

use mail::Domain;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::AcmeError;
use super::challenges::Challenges;
use crate::tls::Certificates;

/// The protocol's name in ALPN (RFC 8737 §6.2).
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// A listener's certificates, and for an authority's questions the answers that are under way. Implements rustls'
/// [`ResolvesServerCert`].
#[derive(Debug)]
pub struct Answering {
    certificates: Arc<Certificates>,
    challenges: Challenges,
}

impl Answering {
    /// For a listener that has these certificates.
    pub fn new(certificates: Arc<Certificates>, challenges: Challenges) -> Self {
        Self { certificates, challenges }
    }
}

impl ResolvesServerCert for Answering {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if is_question(&hello) {
            return self.challenges.certificate(&hello.server_name()?.to_ascii_lowercase());
        }
        self.certificates.resolve(hello)
    }
}

/// An authority offers this one protocol, and nobody else does (RFC 8737 §3).
fn is_question(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.next() == Some(PROTOCOL) && offered.next().is_none())
}

/// The answer for a name: signed by itself, for this name only, with the digest (SHA-256) of the key authorization.
pub(super) fn certificate(name: &Domain, digest: &[u8]) -> Result<CertifiedKey, AcmeError> {
    let made = || -> Result<CertifiedKey, Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new(vec![name.to_string()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let chain = vec![params.self_signed(&key)?.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // Whether both belong together could not be asked: who checks that knows nothing of the extension, which is critical.
        Ok(CertifiedKey::new(chain, default_provider().key_provider.load_private_key(key)?))
    };
    made().map_err(|error| AcmeError::new(&format!("no answer for {name} can be made: {error}")))
}
