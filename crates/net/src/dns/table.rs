//! For tests: answers from a table that says for itself what DNSSEC would say of them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use hickory_resolver::proto::rr::{Name, RData, RecordType};
use mail::Domain;

use super::servers::Lane;
use super::zone::Zone;
use super::{Backend, DnsError, Found, MAX_ALIASES, Resolver, from_zone};

/// Names, those that stand in no signed zone, and those that cannot be had.
#[derive(Debug, Default)]
pub(crate) struct Table {
    zone: Zone,
    unsigned: Vec<Domain>,
    failing: HashMap<Domain, DnsError>,
}

impl Table {
    /// Everything in this zone file, validated.
    pub(crate) fn signed(zone: &str) -> Self {
        Self { zone: Zone::parse(zone, Path::new("table")).unwrap(), ..Self::default() }
    }

    /// But not at and below this name.
    pub(crate) fn unsigned(mut self, below: &str) -> Self {
        self.unsigned.push(below.parse().unwrap());
        self
    }

    /// And not at this name at all.
    pub(crate) fn failing(mut self, name: &str, error: DnsError) -> Self {
        self.failing.insert(name.parse().unwrap(), error);
        self
    }

    pub(crate) fn resolver(self) -> Resolver {
        Resolver { backend: Backend::Table(Arc::new(self)), lane: Lane::Ours }
    }

    pub(super) fn lookup(&self, name: &Name, kind: RecordType) -> Result<Found, DnsError> {
        let (mut at, mut secure) = (name.clone(), true);
        for _ in 0..MAX_ALIASES {
            let domain: Domain = at.to_ascii().trim_end_matches('.').parse().unwrap();
            if let Some(error) = self.failing.get(&domain) {
                return Err(error.clone());
            }
            secure &= !self.unsigned.iter().any(|zone| domain.is_within(zone));
            match self.zone.lookup(&at, RecordType::CNAME).as_deref() {
                Ok([RData::CNAME(alias)]) if kind != RecordType::CNAME => at = alias.0.clone(),
                _ => return from_zone(self.zone.lookup(&at, kind)).map(|found| Found { secure, ..found }),
            }
        }
        Err(DnsError::Temporary("a chain of CNAMEs is too long".into()))
    }
}
