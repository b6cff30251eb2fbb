//! TLSA records of the certificates that the server shows: the operator's own, and those by ACME.

use aws_lc_rs::digest::{SHA256, digest};
use mail::Domain;
use mail::tlsa::Tlsa;
use net::tls::TlsError;
use net::tls::certificates::end_entity;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use super::{Data, Purpose, Record};
use crate::acme;
use crate::config::Config;

/// `_<port>._tcp.<host>` of each certificate that is for this host: `3 1 1`, which outlives renewals that keep the key.
/// Certificates by ACME count from their first key on, made at the server's first start: it stays when one is issued.
pub(super) fn tlsa(config: &Config, host: &Domain, port: u16) -> Result<Vec<Record>, super::RecordsError> {
    let mut keys = Vec::new();
    for files in &config.tls.certificates {
        let certificate = end_entity(&files.cert)?;
        keys.extend(parsed(&certificate).filter(|it| is_for(it, host)).map(|it| of_key(&it)));
    }
    // What the file says may be older than the configuration, but the next certificate has all names, and the same key.
    for wanted in acme::wanted(config).into_iter().filter(|wanted| wanted.names.contains(host)) {
        keys.extend(of_file_if_any(&wanted.file(config))?);
    }
    keys.dedup();
    let name = Domain::parse(&format!("_{port}._tcp.{host}"))?;
    let record = |text| Record { name: name.clone(), data: Data::Tlsa { text }, purpose: Purpose::Dane };
    Ok(keys.into_iter().map(record).collect())
}

/// `None` where there is no such file yet. One that may not be read is an error: whoever publishes must not miss it.
fn of_file_if_any(path: &std::path::Path) -> Result<Option<String>, TlsError> {
    if matches!(path.try_exists(), Ok(false)) {
        return Ok(None);
    }
    let certificate = end_entity(path)?;
    Ok(parsed(&certificate).map(|it| of_key(&it)))
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Option<ParsedCertificate<'a>> {
    ParsedCertificate::try_from(certificate).ok()
}

fn is_for(certificate: &ParsedCertificate<'_>, host: &Domain) -> bool {
    let name = ServerName::try_from(host.as_str());
    name.is_ok_and(|name| rustls::client::verify_server_name(certificate, &name).is_ok())
}

fn of_key(certificate: &ParsedCertificate<'_>) -> String {
    let key = digest(&SHA256, &certificate.subject_public_key_info());
    Tlsa { usage: 3, selector: 1, matching: 1, data: key.as_ref().to_vec() }.to_string()
}
