//! The DNS records that the domains of a configuration need: for mail to arrive, to be believed, and to go by reference.
//!
//! [`wanted`] derives them from configuration, keys and certificates and looks nothing up; [`zone`] writes them down;
//! [`compare`] says what has to change in what the world sees.

pub mod compare;
pub mod zone;

mod certificates;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use mail::{Domain, DomainError, Timestamp, mta_sts, tls_rpt};
use net::authentication::signer;
use reference::{DomainRecord, KeyRecord, KeyState, Selector, VerifyingKey};
use serde::Serialize;

use crate::config::{Config, DomainTbr, ListenerKind, LocalDomain};
use crate::keys::{self, KeyFileError};
use crate::settings::KEY_WINDOW;

/// How long before now the window of a printed key begins, for clocks that are slow.
const BEFORE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// Preference of this server among mail exchangers.
const PREFERENCE: u16 = 10;

/// A record to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its owner, without a final dot.
    pub name: Domain,
    /// What it says.
    #[serde(flatten)]
    pub data: Data,
    /// What it is there for.
    pub purpose: Purpose,
}

impl Record {
    /// Its type, for people.
    pub fn kind(&self) -> &'static str {
        match &self.data {
            Data::Mx { .. } => "MX",
            Data::Txt { .. } => "TXT",
            Data::Tlsa { .. } => "TLSA",
            Data::Alias { .. } => "CNAME, or A and AAAA",
            Data::Addresses { .. } => "A, AAAA",
        }
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
pub enum Data {
    /// A mail exchanger.
    #[serde(rename = "MX")]
    Mx {
        /// Lower ones come first.
        preference: u16,
        /// Its name.
        host: Domain,
    },
    /// A text, its strings joined.
    #[serde(rename = "TXT")]
    Txt {
        /// The text.
        text: String,
    },
    /// A certificate (RFC 6698): `3 1 1` and the digest of its public key.
    #[serde(rename = "TLSA")]
    Tlsa {
        /// In the form of a zone file.
        text: String,
    },
    /// Another name of this server; where that cannot be, the same addresses serve as well.
    #[serde(rename = "CNAME")]
    Alias {
        /// This server.
        target: Domain,
    },
    /// Addresses of this server; none where the configuration does not tell them.
    #[serde(rename = "A/AAAA")]
    Addresses {
        /// Those that are known.
        addresses: Vec<IpAddr>,
    },
}

/// What a record is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// This server can be found.
    Host,
    /// Mail arrives.
    Mail,
    /// Receivers know who may send for the domain (RFC 7208).
    Spf,
    /// Receivers know what to think of mail that only pretends to be the domain's (RFC 7489).
    Dmarc,
    /// Receivers find the keys that sign what the domain's users send (RFC 6376).
    Dkim,
    /// The domain sends by reference (TBR §6).
    Tbr,
    /// Senders insist on TLS (RFC 8461).
    MtaSts,
    /// Senders report how TLS went (RFC 8460).
    TlsRpt,
    /// Peers know this server's certificate (RFC 7672, TBR §5.5); counts in zones signed with DNSSEC only.
    Dane,
}

/// Why records cannot be derived.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// A signing key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A DKIM key.
    #[error("{}: {fault}", .path.display())]
    Dkim {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        fault: signer::KeyFault,
    },
    /// A certificate.
    #[error(transparent)]
    Certificate(#[from] net::tls::TlsError),
    /// A name that would be too long.
    #[error("the names of the records would not be valid: {0}")]
    Name(#[from] DomainError),
}

/// Everything that the domains of a configuration need, or only this one: first the records of the server itself.
///
/// # Errors
/// [`RecordsError`]: a file that cannot be read, by name.
pub fn wanted(config: &Config, only: Option<&Domain>, now: Timestamp) -> Result<Vec<Record>, RecordsError> {
    let mut records = host(config)?;
    for domain in config.domains.values().filter(|domain| only.is_none_or(|only| *only == domain.name)) {
        records.extend(of_domain(config, domain, now)?);
    }
    Ok(records)
}

/// What a domain could have published, and has no setting for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Whose.
    pub domain: Domain,
    /// The table of the configuration that is not there.
    pub table: &'static str,
    /// What it would be good for, and how to get it: a plain sentence.
    pub advice: String,
}

/// What [`wanted`] leaves out because nothing is configured.
pub fn missing(config: &Config, only: Option<&Domain>) -> Vec<Missing> {
    let domains = config.domains.values().filter(|domain| only.is_none_or(|only| *only == domain.name));
    domains.flat_map(missing_of).collect()
}

fn missing_of(domain: &LocalDomain) -> Vec<Missing> {
    let name = &domain.name;
    let missing = |table, advice| Missing { domain: name.clone(), table, advice };
    let mut found = Vec::new();
    if domain.dkim.is_none() {
        let how = format!("restante keys generate --domain {name} --dkim rsa --selector s1 --out s1.pem");
        let advice = format!(
            "{name} has no DKIM keys, so nothing that its users send is signed. Make one ({how}), and name it in [domain.dkim]."
        );
        found.push(missing("domain.dkim", advice));
    }
    let is_elsewhere = domain.tbr.as_ref().is_some_and(|tbr| !tbr.offers);
    if domain.mta_sts.is_none() && !is_elsewhere {
        let advice = format!(
            "{name} has no MTA-STS policy, so senders without DANE insist on no certificate. Add [domain.mta_sts], at first with mode = \"testing\"."
        );
        found.push(missing("domain.mta_sts", advice));
    }
    found
}

/// The server under its own name.
fn host(config: &Config) -> Result<Vec<Record>, RecordsError> {
    let name = &config.hostname;
    let mut records = vec![
        Record { name: name.clone(), data: Data::Addresses { addresses: addresses(config) }, purpose: Purpose::Host },
        // Reports have no sender: receivers then look at the server's name (RFC 7208 §2.4).
        txt(name.clone(), "v=spf1 a -all", Purpose::Spf),
    ];
    if listens(config, ListenerKind::Relay) {
        records.extend(certificates::tlsa(config, name, config.outgoing.smtp_port)?);
    }
    Ok(records)
}

/// Addresses that listeners name and that the world can reach.
fn addresses(config: &Config) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = config
        .listeners
        .iter()
        .map(|listener| listener.address.ip())
        .filter(|address| net::retrieval::is_public(*address))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn listens(config: &Config, kind: ListenerKind) -> bool {
    config.listeners.iter().any(|listener| listener.kind == kind)
}

fn of_domain(config: &Config, domain: &LocalDomain, now: Timestamp) -> Result<Vec<Record>, RecordsError> {
    let name = &domain.name;
    if let Some(tbr) = domain.tbr.as_ref().filter(|tbr| !tbr.offers) {
        // Everything else leads to its custodian, who prints it.
        if domain.is_of_one_user() {
            return of_dkim(domain);
        }
        return Ok([of_dkim(domain)?, of_keys(name, tbr, now)?].concat());
    }
    let reports = domain.report_address.as_deref().unwrap_or("postmaster");
    let exchanger = Data::Mx { preference: PREFERENCE, host: config.hostname.clone() };
    let mut records = vec![
        Record { name: name.clone(), data: exchanger, purpose: Purpose::Mail },
        txt(name.clone(), spf(config), Purpose::Spf),
        txt(name.child("_dmarc")?, format!("v=DMARC1; p=none; rua=mailto:{reports}@{name}"), Purpose::Dmarc),
    ];
    let text = format!("v=TLSRPTv1; rua=mailto:{reports}@{name}");
    records.push(txt(Domain::parse(&format!("{}.{name}", tls_rpt::RECORD_LABELS))?, text, Purpose::TlsRpt));
    records.extend(of_dkim(domain)?);
    if let Some(tbr) = &domain.tbr {
        records.extend(of_keys(name, tbr, now)?);
        for (selector, key) in domain.site.iter().flat_map(|site| &site.keys) {
            records.push(key_record(name, selector, *key, now)?);
        }
        // The document of the domain is at its default host, wherever its messages are.
        let mut hosts = vec![tbr.repository.clone(), reference::keys::default_host(name)?];
        hosts.dedup();
        for host in hosts {
            records.extend(certificates::tlsa(config, &host, config.outgoing.https_port)?);
            if host != config.hostname {
                let data = Data::Alias { target: config.hostname.clone() };
                records.push(Record { name: host, data, purpose: Purpose::Tbr });
            }
        }
    }
    if let Some(policy) = &domain.mta_sts {
        let text = format!("v=STSv1; id={}", policy_id(policy));
        records.push(txt(name.child(mta_sts::RECORD_LABEL)?, text, Purpose::MtaSts));
        let host = name.child(mta_sts::HOST_LABEL)?;
        let data = Data::Alias { target: config.hostname.clone() };
        records.push(Record { name: host, data, purpose: Purpose::MtaSts });
    }
    Ok(records)
}

/// The keys that sign what its users send.
fn of_dkim(domain: &LocalDomain) -> Result<Vec<Record>, RecordsError> {
    let mut records = Vec::new();
    for (selector, path) in domain.dkim.iter().flat_map(|dkim| &dkim.keys) {
        let text = signer::record(&keys::read_pkcs8(path)?);
        let text = text.map_err(|fault| RecordsError::Dkim { path: path.clone(), fault })?;
        records.push(txt(keys::dkim_name(selector, &domain.name)?, text, Purpose::Dkim));
    }
    Ok(records)
}

/// The record of a key.
fn key_record(domain: &Domain, selector: &Selector, key: VerifyingKey, now: Timestamp) -> Result<Record, RecordsError> {
    let record = KeyRecord::active(selector.clone(), key, now.before(BEFORE), now.after(KEY_WINDOW));
    Ok(txt(reference::keys::key_name(selector, domain)?, record.to_txt(), Purpose::Tbr))
}

/// The domain's record and those of its keys, the one before and the one after included; of a site only those of its keys:
/// its messages are its custodian's to announce.
fn of_keys(domain: &Domain, tbr: &DomainTbr, now: Timestamp) -> Result<Vec<Record>, RecordsError> {
    let repo = std::iter::once(&tbr.repository).chain(&tbr.other_repositories).cloned().collect();
    let facts = DomainRecord { repo, sub: tbr.subdomains };
    let mut records: Vec<Record> = Vec::new();
    for (selector, file, until) in tbr.keys() {
        let (from, to) = (now.before(BEFORE), until.unwrap_or_else(|| now.after(KEY_WINDOW)));
        let key = KeyRecord::active(selector.clone(), keys::read(file)?.verifying_key(), from.min(to), to);
        let own = reference::keys::key_name(selector, domain)?;
        for record in keys::records(domain, &facts, &key)? {
            let record = txt(record.name, record.text, Purpose::Tbr);
            if (tbr.offers || record.name == own) && !records.contains(&record) {
                records.push(record);
            }
        }
    }
    for selector in &tbr.revoked {
        let text = KeyRecord { selector: selector.clone(), state: KeyState::Revoked }.to_txt();
        records.push(txt(reference::keys::key_name(selector, domain)?, text, Purpose::Tbr));
    }
    Ok(records)
}

/// Another policy has another id, and the same one the same on every server of the domain.
fn policy_id(policy: &mta_sts::Policy) -> String {
    let digest = digest(&SHA256, policy.to_string().as_bytes());
    digest.as_ref()[..10].iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Softer where a smart host sends, whose addresses nobody here knows.
fn spf(config: &Config) -> String {
    let mut text = "v=spf1 mx".to_owned();
    if let Some(address) = config.outgoing.bind_ipv4 {
        text.push_str(&format!(" ip4:{address}"));
    }
    if let Some(address) = config.outgoing.bind_ipv6 {
        text.push_str(&format!(" ip6:{address}"));
    }
    text + if config.smart_host.is_some() { " ~all" } else { " -all" }
}

fn txt(name: Domain, text: impl Into<String>, purpose: Purpose) -> Record {
    Record { name, data: Data::Txt { text: text.into() }, purpose }
}
