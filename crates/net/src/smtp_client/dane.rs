//! What a host's TLSA records (DANE, RFC 7672) make of connections to it.
//!
//! They are looked for only where DNSSEC vouches for the way to the host: for a name that an attacker chose, records that
//! he chose as well would prove nothing.

use std::sync::Arc;

use mail::tlsa::Service;
use mail::{Domain, EnhancedStatus};

use super::route::Exchangers;
use super::{ConnectError, Inner};
use crate::dns::{DnsError, TlsaSet};
use crate::tls::Dane;

/// What is published for a host.
#[derive(Debug, Clone)]
pub(super) enum Published {
    /// Nothing that counts.
    Nothing,
    /// Records, none of which can be used: there must be TLS, with whatever certificate (RFC 7672 §2.2).
    Unusable(TlsaSet),
    /// Records that say what the certificate must be.
    Usable(Arc<Dane>, TlsaSet),
}

impl Published {
    /// The records, for people.
    pub(super) fn records(&self) -> Vec<String> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Unusable(set) | Self::Usable(_, set) => set.records.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Inner {
    /// What a mail exchanger publishes (RFC 7672 §2.2.1).
    ///
    /// # Errors
    /// It cannot be told: the host is not to be used now.
    pub(super) async fn dane_of_exchanger(&self, of: &Exchangers, host: &Domain) -> Result<Published, ConnectError> {
        if !of.secure || !self.settings.dane {
            return Ok(Published::Nothing);
        }
        let found = self.resolver.tlsa(host, self.settings.mx_port).await;
        let found = found.inspect_err(|error| self.tell_untold(&of.domain, host, error));
        let Some(set) = found.map_err(|error| untold(host, &error))? else { return Ok(Published::Nothing) };
        let target = self.resolver.canonical(&of.domain).await.map_err(|error| untold(&of.domain, &error))?;
        // The names for which an issuer's word counts (RFC 7672 §3.2.2).
        Ok(published(set, [of.domain.clone(), target.value]))
    }

    /// What a host publishes that the operator named (RFC 7672 §2.2.2).
    ///
    /// # Errors
    /// As above.
    pub(super) async fn dane_of_host(&self, host: &Domain, port: u16) -> Result<Published, ConnectError> {
        if !self.settings.dane {
            return Ok(Published::Nothing);
        }
        let set = self.resolver.tlsa(host, port).await.map_err(|error| untold(host, &error))?;
        Ok(set.map_or(Published::Nothing, |set| published(set, [host.clone()])))
    }
}

fn published(set: TlsaSet, names: impl IntoIterator<Item = Domain>) -> Published {
    match Dane::new(&set, Service::Smtp, names) {
        Some(dane) => Published::Usable(Arc::new(dane), set),
        None => Published::Unusable(set),
    }
}

/// Whoever can keep answers away must not so turn the demand off: the host waits.
fn untold(host: &Domain, error: &DnsError) -> ConnectError {
    let text = format!("what certificate {host} must have (TLSA) cannot be looked up: {error}");
    ConnectError { temporary: true, text, status: EnhancedStatus::temporary(4, 3) }
}
