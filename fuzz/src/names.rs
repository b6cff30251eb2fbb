//! TLSA records and chains of certificates, both made up: no certificate does that no record names.

use mail::Xuid;
use mail::tlsa::{Association, MAX_RECORDS, Matching, Selector, Service, Tlsa, Usage, usable};
use net::dns::TlsaSet;
use net::tls::Dane;
use rustls::pki_types::{CertificateDer, UnixTime};

/// Stands where no more records follow.
const END: u8 = 0xff;
/// When all this happens: within the lifetime of the certificates in the corpus.
const NOW: std::time::Duration = std::time::Duration::from_secs(1_800_000_000);

/// For SMTP or HTTPS (the first octet); records, each of usage, selector, matching, length and data, up to an octet 255 in the place of a
/// usage; certificates, the server's first, each with its length in two octets.
struct Input<'a> {
    service: Service,
    records: Vec<Tlsa>,
    chain: Vec<CertificateDer<'a>>,
}

impl<'a> Input<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let (first, mut rest) = data.split_first()?;
        let mut records = Vec::new();
        loop {
            match rest {
                [END, after @ ..] => break rest = after,
                [usage, selector, matching, length, after @ ..] => {
                    let (data, after) = after.split_at_checked(usize::from(*length))?;
                    records.push(Tlsa { usage: *usage, selector: *selector, matching: *matching, data: data.to_vec() });
                    rest = after;
                }
                _ => return None,
            }
        }
        let mut chain = Vec::new();
        while let [high, low, after @ ..] = rest {
            let (der, after) = after.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
            chain.push(CertificateDer::from(der));
            rest = after;
        }
        Some(Self { service: if first & 1 == 0 { Service::Smtp } else { Service::Https }, records, chain })
    }
}

/// What counts is whole and of the service; what a chain is worth does not depend on the order of records, and it is nothing where
/// no record names one of its certificates.
pub fn tlsa(data: &[u8]) {
    let Some(Input { service, records, chain }) = Input::read(data) else { return };
    let associations = usable(&records, service);
    assert!(associations.len() <= MAX_RECORDS);
    for Association { usage, matching, data, .. } in &associations {
        assert!(matches!(
            (matching, data.len()),
            (Matching::Full, 1..) | (Matching::Sha256, 32) | (Matching::Sha512, 64)
        ));
        assert!(*usage != Usage::PkixEe || service == Service::Https);
    }
    let Some(dane) = dane(records.clone(), service) else {
        assert!(associations.is_empty());
        return;
    };
    assert_eq!(dane.needs_web_pki(), associations.iter().all(|one| one.usage == Usage::PkixEe));
    let Some((end_entity, intermediates)) = chain.split_first() else { return };
    let does = |dane: &Dane| dane.verify(end_entity, intermediates, UnixTime::since_unix_epoch(NOW)).is_ok();
    let named = |usage, der: &CertificateDer<'_>| {
        associations.iter().filter(|one| one.usage == usage).any(|one| may_name(one, der))
    };
    let issuer = || {
        let whole = |one: &Association| one.usage == Usage::DaneTa && one.matching == Matching::Full;
        intermediates.iter().any(|der| named(Usage::DaneTa, der)) || associations.iter().any(whole)
    };
    assert!(!does(&dane) || named(Usage::DaneEe, end_entity) || issuer());
    assert!(dane.constrain(end_entity).is_err() || named(Usage::PkixEe, end_entity));
    if records.len() <= MAX_RECORDS {
        let reversed = self::dane(records.into_iter().rev().collect(), service);
        assert_eq!(reversed.map(|reversed| does(&reversed)), Some(does(&dane)));
    }
}

fn dane(records: Vec<Tlsa>, service: Service) -> Option<Dane> {
    Dane::new(&TlsaSet { base: "mx.a.example".parse().ok()?, records }, service, [])
}

/// `false` where a record cannot name this certificate. Public keys and SHA-512 are not looked into here.
fn may_name(association: &Association, der: &CertificateDer<'_>) -> bool {
    match (association.selector, association.matching) {
        (Selector::Certificate, Matching::Full) => association.data == der.as_ref(),
        (Selector::Certificate, Matching::Sha256) => association.data == Xuid::of(der).as_bytes(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever mutates these begins at chains that do, and at others.
    #[test]
    fn some_chains_of_the_corpus_do() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/tlsa");
        let does = |name: &str| {
            let data = std::fs::read(corpus.join(name)).ok()?;
            let Input { service, records, chain } = Input::read(&data)?;
            let (end_entity, intermediates) = chain.split_first()?;
            Some(dane(records, service)?.verify(end_entity, intermediates, UnixTime::since_unix_epoch(NOW)).is_ok())
        };
        assert_eq!(["00", "01", "06"].map(does), [Some(true); 3], "by key, by issuer, by certificate");
        assert_eq!(["02", "03"].map(does), [Some(false); 2], "WebPKI's to judge, and a stronger digest of another");
        assert_eq!(does("04"), None, "nothing that counts for SMTP");
    }
}
