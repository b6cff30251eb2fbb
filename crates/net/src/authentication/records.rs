//! Questions of `policy` and of the library, put to the resolver.
//!
//! Names are a stranger's: anything in them may be asked for, nothing in them is believed.

use std::net::IpAddr;

use hickory_resolver::proto::rr::{Name, RData, RecordType};
use policy::spf::{Answer, Family, Question};

use super::Authenticator;
use crate::dns::DnsError;

/// Most records of one answer that are considered.
const MAX_RECORDS: usize = 64;

impl Authenticator {
    /// Answers one question.
    pub(super) async fn ask(&self, question: &Question) -> Answer {
        match question {
            Question::Txt(name) => self.records(name, RecordType::TXT).await.map_or_else(from_error, texts),
            Question::Addresses(name, family) => {
                let kind = if *family == Family::V4 { RecordType::A } else { RecordType::AAAA };
                self.records(name, kind).await.map_or_else(from_error, addresses)
            }
            Question::Exchanges(name) => self.records(name, RecordType::MX).await.map_or_else(from_error, exchanges),
            Question::Names(address) => {
                self.records(&reverse_name(*address), RecordType::PTR).await.map_or_else(from_error, pointers)
            }
        }
    }

    /// Does a name exist at all, with such records or without? Nothing: nobody could say.
    pub(super) async fn exists(&self, name: &str) -> Option<bool> {
        match self.records(name, RecordType::A).await {
            Ok(_) | Err(DnsError::NoRecords) => Some(true),
            Err(DnsError::NoSuchDomain) => Some(false),
            Err(_) => None,
        }
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, DnsError> {
        let name = absolute(name).ok_or(DnsError::NoSuchDomain)?;
        let mut records = self.resolver.records(name, kind).await?;
        records.truncate(MAX_RECORDS);
        Ok(records)
    }
}

/// Any octets may be in a label: a local part can be one.
fn absolute(name: &str) -> Option<Name> {
    let labels = name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The name that an address has in DNS, under `zone`: RFC 1035 §3.5, RFC 3596 §2.5, RFC 5782 §2.1.
pub(super) fn name_under(address: IpAddr, zone: &str) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.{zone}")
        }
        IpAddr::V6(v6) => {
            let digits: Vec<String> = format!("{:032x}", v6.to_bits()).chars().rev().map(String::from).collect();
            format!("{}.{zone}", digits.join("."))
        }
    }
}

fn reverse_name(address: IpAddr) -> String {
    name_under(address, if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" })
}

fn from_error(error: DnsError) -> Answer {
    match error {
        DnsError::NoSuchDomain | DnsError::NoRecords => Answer::Nothing,
        _ => Answer::Temporary,
    }
}

fn texts(records: Vec<RData>) -> Answer {
    let texts = records.into_iter().filter_map(|data| match data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    });
    Answer::Texts(texts.collect())
}

fn addresses(records: Vec<RData>) -> Answer {
    Answer::Addresses(records.iter().filter_map(RData::ip_addr).collect())
}

fn exchanges(records: Vec<RData>) -> Answer {
    let mut hosts: Vec<(u16, String)> = records
        .into_iter()
        .filter_map(|data| match data {
            RData::MX(mx) => Some((mx.preference, plain(&mx.exchange))),
            _ => None,
        })
        .collect();
    hosts.sort_by_key(|(preference, _)| *preference);
    Answer::Names(hosts.into_iter().map(|(_, host)| host).collect())
}

fn pointers(records: Vec<RData>) -> Answer {
    let names = records.into_iter().filter_map(|data| match data {
        RData::PTR(name) => Some(plain(&name.0)),
        _ => None,
    });
    Answer::Names(names.collect())
}

fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_their_names() {
        assert_eq!(reverse_name([192, 0, 2, 1].into()), "1.2.0.192.in-addr.arpa");
        let v6 = reverse_name("2001:db8::1".parse().unwrap());
        assert!(v6.starts_with("1.0.0.0.") && v6.ends_with(".8.b.d.0.1.0.0.2.ip6.arpa"), "{v6}");
        assert_eq!(v6.matches('.').count(), 33);
    }
}
