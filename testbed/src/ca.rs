//! A throw-away certificate authority, for the sandbox it was made for.
//!
//! It leaves to the peers where certificates are put and who may read them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// The authority: its own certificate stands in a file.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
}

/// A certificate with its key, as PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, followed by nothing: the authority is its issuer.
    pub certificate: String,
    /// The private key (PKCS #8).
    pub key: String,
}

impl Ca {
    /// Makes an authority and writes its certificate to `ca.pem` in `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Testbed CA");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let certificate = folder.join("ca.pem");
        fs::write(&certificate, params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The authority's certificate: what clients are to trust.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// A new key (ECDSA P-256) with a certificate for all of `names` (DNS names or IP addresses).
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue(&self, names: &[&str]) -> Result<Identity> {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(first) = names.first() {
            params.distinguished_name.push(DnType::CommonName, *first);
        }
        let key = KeyPair::generate()?;
        Ok(Identity { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }
}
