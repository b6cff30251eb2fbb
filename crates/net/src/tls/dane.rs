//! Certificates by the TLSA records of their host (DANE: RFC 6698, RFC 7671; for SMTP RFC 7672 §3).
//!
//! Whoever looked the records up has seen to it that DNSSEC vouches for them; which ones count is [`mail::tlsa`]'s. Here
//! a server's chain is held against them. Revocation lists and public CAs play no part, except with PKIX-EE, which leaves
//! the chain to WebPKI.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use mail::Domain;
use mail::tlsa::{Association, Matching, Selector, Service, Usage, usable};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::provider;
use super::trust::Anybody;
use crate::dns::TlsaSet;

/// Most certificates of a chain, behind the server's own, that are looked at.
const MAX_CHAIN: usize = 16;

/// What a server's certificate must be by its records: at least one of them matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dane {
    base: Domain,
    names: Vec<Domain>,
    associations: Vec<Association>,
    /// All that is published, for people.
    records: Vec<String>,
}

/// Why a chain does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is what no record names.
    #[error("no TLSA record of {0} matches the certificate")]
    NoRecord(Domain),
    /// A record names an issuer, but the chain does not lead there, has expired, or is not for servers.
    #[error("the chain to the issuer that a TLSA record of {0} names does not hold: {1}")]
    Chain(Domain, webpki::Error),
    /// The chain holds, but is for another server.
    #[error("the certificate is issued as a TLSA record of {0} says, but not for that host")]
    Name(Domain),
}

impl Dane {
    /// What follows from records; `None` where none of them can be used. `also` are names beside the base domain for which
    /// a certificate may be that an issuer vouches for (RFC 7672 §3.2.2).
    pub fn new(set: &TlsaSet, service: Service, also: impl IntoIterator<Item = Domain>) -> Option<Self> {
        let associations = usable(&set.records, service);
        let mut names = vec![set.base.clone()];
        for name in also {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let records = set.records.iter().map(ToString::to_string).collect();
        (!associations.is_empty()).then(|| Self { base: set.base.clone(), names, associations, records })
    }

    /// The TLSA base domain: what the server is asked for (SNI, RFC 7672 §8.1).
    pub fn base(&self) -> &Domain {
        &self.base
    }

    /// The records, usable or not, as in a zone file.
    pub fn records(&self) -> &[String] {
        &self.records
    }

    /// Is the chain what a record says? PKIX-EE is not looked at.
    ///
    /// # Errors
    /// [`Mismatch`].
    pub fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Mismatch> {
        if self.names_end_entity(Usage::DaneEe, end_entity) {
            return Ok(());
        }
        let issuers = self.issuers(intermediates);
        let anchors: Vec<TrustAnchor<'_>> =
            issuers.iter().filter_map(|der| anchor_from_trusted_cert(der).ok()).collect();
        if anchors.is_empty() {
            return Err(Mismatch::NoRecord(self.base.clone()));
        }
        self.verify_chain(end_entity, intermediates, &anchors, now)
    }

    /// Where WebPKI has vouched for this certificate: do the records let it do? They do where none is of that usage.
    ///
    /// # Errors
    /// [`Mismatch::NoRecord`].
    pub fn constrain(&self, end_entity: &CertificateDer<'_>) -> Result<(), Mismatch> {
        match self.names_end_entity(Usage::PkixEe, end_entity) {
            true => Ok(()),
            false => Err(Mismatch::NoRecord(self.base.clone())),
        }
    }

    /// Do the records leave the chain to WebPKI? Those that do not decide alone where both kinds stand side by side.
    pub fn needs_web_pki(&self) -> bool {
        self.associations.iter().all(|association| association.usage == Usage::PkixEe)
    }

    fn names_end_entity(&self, usage: Usage, end_entity: &CertificateDer<'_>) -> bool {
        self.of(usage).any(|association| matches(association, end_entity))
    }

    fn of(&self, usage: Usage) -> impl Iterator<Item = &Association> {
        self.associations.iter().filter(move |association| association.usage == usage)
    }

    /// The certificates that records name as trust anchors: of the chain, or whole in a record (`2 0 0`).
    fn issuers<'a>(&'a self, intermediates: &'a [CertificateDer<'_>]) -> Vec<CertificateDer<'a>> {
        let sent = intermediates.iter().take(MAX_CHAIN);
        let named = sent.filter(|der| self.of(Usage::DaneTa).any(|association| matches(association, der)));
        let whole = self.of(Usage::DaneTa).filter(|association| {
            (association.selector, association.matching) == (Selector::Certificate, Matching::Full)
        });
        let named = named.map(|der| CertificateDer::from(der.as_ref()));
        named.chain(whole.map(|association| CertificateDer::from(association.data.as_slice()))).collect()
    }

    /// RFC 7672 §3.1.2, §3.2.2: the chain leads to the anchor, and the certificate is for one of the names.
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        anchors: &[TrustAnchor<'_>],
        now: UnixTime,
    ) -> Result<(), Mismatch> {
        let broken = |error| Mismatch::Chain(self.base.clone(), error);
        let certificate = EndEntityCert::try_from(end_entity).map_err(broken)?;
        let algorithms = provider().signature_verification_algorithms.all;
        certificate
            .verify_for_usage(algorithms, anchors, intermediates, now, KeyUsage::server_auth(), None, None)
            .map_err(broken)?;
        let mut names = self.names.iter().filter_map(|name| ServerName::try_from(name.as_str()).ok());
        match names.any(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok()) {
            true => Ok(()),
            false => Err(Mismatch::Name(self.base.clone())),
        }
    }
}

/// Is this the certificate, or does it hold the key, that the record names?
fn matches(association: &Association, certificate: &CertificateDer<'_>) -> bool {
    let key;
    let part: &[u8] = match association.selector {
        Selector::Certificate => certificate,
        Selector::PublicKey => match ParsedCertificate::try_from(certificate) {
            Ok(parsed) => {
                key = parsed.subject_public_key_info();
                &key
            }
            Err(_) => return false,
        },
    };
    match association.matching {
        Matching::Full => part == association.data,
        Matching::Sha256 => digest(&SHA256, part).as_ref() == association.data,
        Matching::Sha512 => digest(&SHA512, part).as_ref() == association.data,
    }
}

/// The same configuration, but whose handshake succeeds only with a certificate that these records name. No session is
/// resumed: the records may have changed since.
pub(crate) fn under(config: &ClientConfig, dane: Arc<Dane>) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = Resumption::disabled();
    if !dane.needs_web_pki() {
        let signatures = Anybody::new();
        config.dangerous().set_certificate_verifier(Arc::new(Verifier { dane, signatures }));
    }
    Arc::new(config)
}

/// Why a handshake failed: a mismatch in its own words, all else in those of the library.
pub(crate) fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) => other.to_string(),
        _ => error.to_string(),
    }
}

/// Believes what the records name, and checks that the peer holds its key.
#[derive(Debug)]
struct Verifier {
    dane: Arc<Dane>,
    signatures: Anybody,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.dane.verify(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(mismatch) => {
                let other = CertificateError::Other(OtherError(Arc::new(mismatch)));
                Err(rustls::Error::InvalidCertificate(other))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
