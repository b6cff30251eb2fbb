//! TLSA records (RFC 6698 §2.1): what they say of a server's certificate, and which of them count for which service.
//!
//! Pure. Looking them up is the resolver's, holding a certificate against them is done where TLS is.

use std::fmt;

/// Most records of one name that are considered; they come in the order of the answer.
pub const MAX_RECORDS: usize = 32;

/// A record as it is published, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// Certificate usage (RFC 7218 §2.1).
    pub usage: u8,
    /// Selector (RFC 7218 §2.2).
    pub selector: u8,
    /// Matching type (RFC 7218 §2.3).
    pub matching: u8,
    /// Certificate association data.
    pub data: Vec<u8>,
}

/// How a certificate is tied to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// PKIX-EE(1): the server's certificate, which a trusted CA vouches for as well.
    PkixEe,
    /// DANE-TA(2): the trust anchor of the server's chain.
    DaneTa,
    /// DANE-EE(3): the server's certificate, whatever it says of names and dates (RFC 7671 §5.1).
    DaneEe,
}

/// Which part of the certificate is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Cert(0): all of it.
    Certificate,
    /// SPKI(1): its public key.
    PublicKey,
}

/// How it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matching {
    /// Full(0): octet by octet.
    Full,
    /// SHA2-256(1).
    Sha256,
    /// SHA2-512(2).
    Sha512,
}

/// A record that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Association {
    /// How the certificate is tied to it.
    pub usage: Usage,
    /// Which part is compared.
    pub selector: Selector,
    /// How it is compared.
    pub matching: Matching,
    /// With what.
    pub data: Vec<u8>,
}

/// For whom records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// SMTP between servers (RFC 7672 §3.1): DANE-TA and DANE-EE. What names a public CA is unusable, because there is no
    /// list of CAs that all mail servers share (§3.1.3).
    Smtp,
    /// Repositories (TBR §5.5): PKIX-EE too. PKIX-TA is unusable, since a chain seldom carries the root that it may name;
    /// WebPKI holds there as without a record.
    Https,
}

impl Service {
    fn uses(self, usage: Usage) -> bool {
        match usage {
            Usage::DaneTa | Usage::DaneEe => true,
            Usage::PkixEe => self == Self::Https,
        }
    }
}

impl Tlsa {
    /// The record with everything understood: `None` where a number is unassigned, a digest has another length than its
    /// algorithm gives, or there is nothing to compare with (RFC 6698 §4.1: unusable).
    pub fn association(&self) -> Option<Association> {
        let usage = match self.usage {
            1 => Usage::PkixEe,
            2 => Usage::DaneTa,
            3 => Usage::DaneEe,
            _ => return None,
        };
        let selector = match self.selector {
            0 => Selector::Certificate,
            1 => Selector::PublicKey,
            _ => return None,
        };
        let matching = match (self.matching, self.data.len()) {
            (0, 1..) => Matching::Full,
            (1, 32) => Matching::Sha256,
            (2, 64) => Matching::Sha512,
            _ => return None,
        };
        Some(Association { usage, selector, matching, data: self.data.clone() })
    }
}

/// The records that count for a service; none: all are unusable. Where one usage and selector has digests by several
/// algorithms, only those by the strongest count (RFC 7671 §9).
pub fn usable(records: &[Tlsa], service: Service) -> Vec<Association> {
    let all = records.iter().take(MAX_RECORDS).filter_map(Tlsa::association);
    let all: Vec<Association> = all.filter(|found| service.uses(found.usage)).collect();
    let has_stronger = |one: &Association| {
        let rival = |other: &&Association| (other.usage, other.selector) == (one.usage, one.selector);
        one.matching == Matching::Sha256 && all.iter().filter(rival).any(|other| other.matching == Matching::Sha512)
    };
    all.iter().filter(|one| !has_stronger(one)).cloned().collect()
}

/// As in a zone file.
impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlsa(usage: u8, selector: u8, matching: u8, length: usize) -> Tlsa {
        Tlsa { usage, selector, matching, data: vec![0xAB; length] }
    }

    fn count(records: &[Tlsa], service: Service) -> usize {
        usable(records, service).len()
    }

    #[test]
    fn what_is_not_understood_is_unusable() {
        for (selector, matching, length) in [(0, 0, 1), (0, 1, 32), (0, 2, 64), (1, 0, 700), (1, 1, 32), (1, 2, 64)] {
            for usage in [2, 3] {
                let record = tlsa(usage, selector, matching, length);
                assert_eq!(count(std::slice::from_ref(&record), Service::Smtp), 1, "{record}");
                assert_eq!(count(&[record], Service::Https), 1);
            }
        }
        for (usage, selector, matching, length) in [
            (3, 1, 1, 31),
            (3, 1, 1, 33),
            (3, 1, 1, 64),
            (3, 1, 2, 32),
            (3, 1, 2, 0),
            (3, 1, 0, 0),
            (3, 2, 1, 32),
            (3, 255, 1, 32),
            (3, 1, 3, 48),
            (3, 1, 255, 32),
            (4, 1, 1, 32),
            (255, 1, 1, 32),
        ] {
            let record = tlsa(usage, selector, matching, length);
            assert_eq!(count(std::slice::from_ref(&record), Service::Smtp), 0, "{record}");
            assert_eq!(count(&[record], Service::Https), 0);
        }
    }

    /// RFC 7672 §3.1.3, and our choice for repositories.
    #[test]
    fn public_cas_count_for_repositories_only_and_only_with_the_certificate() {
        assert_eq!(count(&[tlsa(0, 1, 1, 32), tlsa(1, 1, 1, 32)], Service::Smtp), 0);
        let found = usable(&[tlsa(0, 1, 1, 32), tlsa(1, 1, 1, 32)], Service::Https);
        assert_eq!(found.iter().map(|one| one.usage).collect::<Vec<_>>(), [Usage::PkixEe]);
    }

    /// The first two records of RFC 6698 §2.3, which name public CAs, and a third as there, of the certificate itself and whole.
    #[test]
    fn the_examples_of_the_standard() {
        let hex = |text: &str| {
            let octet = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(octet).collect::<Vec<u8>>()
        };
        let ca = "d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971";
        let key = "92003ba34942dc74152e2f2c408d29eca5a520e7f2e06bb944f4dca346baf63c\
                   1b177615d466f6c4b71c216a50292bd58c9ebdd2f74e38fe51ffd48c43326cbc";
        let record = |usage, selector, matching, data| Tlsa { usage, selector, matching, data };
        let records = [record(0, 0, 1, hex(ca)), record(1, 1, 2, hex(key)), record(3, 0, 0, vec![0x30; 779])];
        assert_eq!(records[0].to_string(), format!("0 0 1 {ca}"));
        assert_eq!(records[1].to_string(), format!("1 1 2 {key}"));
        let verdicts = |service| {
            let counts = |record: &Tlsa| usable(std::slice::from_ref(record), service).len() == 1;
            records.iter().map(counts).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(Service::Https), [false, true, true]);
        assert_eq!(verdicts(Service::Smtp), [false, false, true]);
    }

    /// RFC 7671 §9.
    #[test]
    fn the_strongest_digest_counts_for_each_usage_and_selector() {
        let records = [tlsa(3, 1, 1, 32), tlsa(3, 1, 2, 64), tlsa(3, 0, 1, 32), tlsa(2, 1, 1, 32), tlsa(3, 1, 0, 9)];
        let found: Vec<_> = usable(&records, Service::Smtp).iter().map(|a| (a.usage, a.selector, a.matching)).collect();
        assert_eq!(
            found,
            [
                (Usage::DaneEe, Selector::PublicKey, Matching::Sha512),
                (Usage::DaneEe, Selector::Certificate, Matching::Sha256),
                (Usage::DaneTa, Selector::PublicKey, Matching::Sha256),
                (Usage::DaneEe, Selector::PublicKey, Matching::Full),
            ]
        );
        // A digest that cannot be one pushes none aside.
        assert_eq!(count(&[tlsa(3, 1, 1, 32), tlsa(3, 1, 2, 63)], Service::Smtp), 1);
    }

    #[test]
    fn a_flood_of_records_is_cut() {
        assert_eq!(count(&vec![tlsa(3, 1, 1, 32); 1000], Service::Smtp), MAX_RECORDS);
    }

    #[test]
    fn records_are_written_as_in_a_zone_file() {
        assert_eq!(tlsa(3, 1, 1, 3).to_string(), "3 1 1 ababab");
    }
}
