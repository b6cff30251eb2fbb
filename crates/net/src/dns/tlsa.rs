//! TLSA records of a host's service, and under which name they count (RFC 7671 §7, RFC 7672 §2.2).
//!
//! Only what DNSSEC vouches for counts. A look-up that fails is an error, never an absence: whoever can drop answers must
//! not so turn a demand off.

use hickory_resolver::proto::rr::{RData, RecordType};
use mail::Domain;
use mail::tlsa::{MAX_RECORDS, Tlsa};

use super::{Answer, DnsError, MAX_ALIASES, Resolver};

/// Records that DNSSEC vouches for, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsaSet {
    /// The TLSA base domain: the host, or what its aliases lead to. The server is asked for this name.
    pub base: Domain,
    /// What is published there, usable or not.
    pub records: Vec<Tlsa>,
}

/// Where the aliases at a name lead.
struct Alias {
    /// The end of the chain.
    target: Domain,
    /// Is the first link validated?
    is_first_secure: bool,
    /// Are all of them?
    is_secure: bool,
}

impl Resolver {
    /// What a host publishes of the certificates of its service on this TCP port; `None`: nothing that DNSSEC vouches for.
    /// Where the host is an alias, the records of its target come first; those of the alias itself count where there are
    /// none, or where only the alias stands in a signed zone.
    ///
    /// # Errors
    /// [`DnsError::Temporary`] and bogus answers: nothing is known, and nothing may be concluded.
    pub async fn tlsa(&self, host: &Domain, port: u16) -> Result<Option<TlsaSet>, DnsError> {
        for base in self.tlsa_bases(host).await? {
            let Ok(name) = base.child(&format!("_{port}._tcp")) else { continue };
            match self.tlsa_at(&name).await {
                Ok(answer) if answer.secure => return Ok(Some(TlsaSet { base, records: answer.value })),
                Ok(_) | Err(DnsError::NoRecords | DnsError::NoSuchDomain) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The TLSA records at exactly this name, such as `_25._tcp.mx.a.example`, whoever vouches for them; at most
    /// [`MAX_RECORDS`].
    ///
    /// # Errors
    /// [`DnsError`]; none is [`DnsError::NoRecords`].
    pub async fn tlsa_at(&self, name: &Domain) -> Result<Answer<Vec<Tlsa>>, DnsError> {
        let answer = self.lookup(name, RecordType::TLSA).await?;
        let records: Vec<Tlsa> = answer.value.iter().filter_map(read).take(MAX_RECORDS).collect();
        if records.is_empty() { Err(DnsError::NoRecords) } else { Ok(answer.with(records)) }
    }

    /// The end of the aliases at `name`, itself where there is none, and whether every link is validated.
    ///
    /// # Errors
    /// [`DnsError`], but not that there is no alias.
    pub async fn canonical(&self, name: &Domain) -> Result<Answer<Domain>, DnsError> {
        let alias = self.aliases(name).await?;
        let (value, secure) = alias.map_or((name.clone(), true), |alias| (alias.target, alias.is_secure));
        Ok(Answer { value, secure, ttl: super::NO_RECORDS_TTL })
    }

    /// The names under which TLSA records would count, best first.
    async fn tlsa_bases(&self, host: &Domain) -> Result<Vec<Domain>, DnsError> {
        let is_secure = match self.addresses(host).await {
            Ok(answer) => answer.secure,
            // A host that nobody can connect to.
            Err(DnsError::NoRecords | DnsError::NoSuchDomain) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let Some(alias) = self.aliases(host).await? else {
            return Ok(if is_secure { vec![host.clone()] } else { Vec::new() });
        };
        Ok(match (is_secure && alias.is_secure, alias.is_first_secure) {
            (true, _) => vec![alias.target, host.clone()],
            (false, true) => vec![host.clone()],
            (false, false) => Vec::new(),
        })
    }

    async fn aliases(&self, name: &Domain) -> Result<Option<Alias>, DnsError> {
        let mut alias: Option<Alias> = None;
        for _ in 0..MAX_ALIASES {
            let at = alias.as_ref().map_or(name, |alias| &alias.target);
            let answer = match self.lookup(at, RecordType::CNAME).await {
                Ok(answer) => answer,
                Err(DnsError::NoRecords | DnsError::NoSuchDomain) => return Ok(alias),
                Err(error) => return Err(error),
            };
            let Some(target) = answer.value.iter().find_map(target) else { return Ok(alias) };
            alias = Some(match alias {
                None => Alias { target, is_first_secure: answer.secure, is_secure: answer.secure },
                Some(alias) => Alias { target, is_secure: alias.is_secure && answer.secure, ..alias },
            });
        }
        Err(DnsError::Temporary(format!("the aliases at {name} have no end")))
    }
}

fn target(data: &RData) -> Option<Domain> {
    let RData::CNAME(target) = data else { return None };
    Domain::parse(target.0.to_ascii().trim_end_matches('.')).ok()
}

fn read(data: &RData) -> Option<Tlsa> {
    let RData::TLSA(tlsa) = data else { return None };
    let (usage, selector, matching) = (tlsa.cert_usage.into(), tlsa.selector.into(), tlsa.matching.into());
    Some(Tlsa { usage, selector, matching, data: tlsa.cert_data.clone() })
}
