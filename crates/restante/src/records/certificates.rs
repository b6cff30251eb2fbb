//! TLSA records of the operator's certificates.

use aws_lc_rs::digest::{SHA256, digest};
use mail::Domain;
use mail::tlsa::Tlsa;
use net::tls::TlsError;
use net::tls::certificates::end_entity;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;

use super::{Data, Purpose, Record};
use crate::config::Tls;

/// `_<port>._tcp.<host>` of each configured certificate that is for this host: `3 1 1`, which outlives renewals that keep
/// the key.
pub(super) fn tlsa(tls: &Tls, host: &Domain, port: u16) -> Result<Vec<Record>, super::RecordsError> {
    let mut records = Vec::new();
    for files in &tls.certificates {
        let Some(text) = of_certificate(&files.cert, host)? else { continue };
        let name = Domain::parse(&format!("_{port}._tcp.{host}"))?;
        records.push(Record { name, data: Data::Tlsa { text }, purpose: Purpose::Dane });
    }
    Ok(records)
}

/// `None` where it is not for the host.
fn of_certificate(path: &std::path::Path, host: &Domain) -> Result<Option<String>, TlsError> {
    let der = end_entity(path)?;
    let Ok(name) = ServerName::try_from(host.as_str()) else { return Ok(None) };
    let Ok(certificate) = ParsedCertificate::try_from(&der) else { return Ok(None) };
    if rustls::client::verify_server_name(&certificate, &name).is_err() {
        return Ok(None);
    }
    let key = digest(&SHA256, &certificate.subject_public_key_info());
    let record = Tlsa { usage: 3, selector: 1, matching: 1, data: key.as_ref().to_vec() };
    Ok(Some(record.to_string()))
}
