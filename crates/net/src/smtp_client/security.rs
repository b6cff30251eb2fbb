//! How TLS must be with each host: the destination's policy, and what the domain says of itself.

use mail::{Domain, EnhancedStatus};

use super::dane::Published;
use super::route::Exchangers;
use super::sts::{Sts, forbidden};
use super::{ConnectError, Destination, Inner, MessageTls, Protocol, TlsPolicy};
use crate::tls::Security;

impl Inner {
    /// The demand on connections to this exchanger of the domain. DANE comes before MTA-STS (RFC 8461 §2).
    ///
    /// # Errors
    /// Why the exchanger may not be used now; the next one is tried.
    pub(super) async fn security_of(
        &self,
        destination: &Destination,
        exchangers: &Exchangers,
        host: &Domain,
    ) -> Result<Security, ConnectError> {
        let Destination { tls: policy, asks, .. } = *destination;
        // What the operator says of TLS is not weakened.
        if policy != TlsPolicy::Opportunistic || asks == MessageTls::Optional {
            return Ok(policy.security());
        }
        let least = match self.dane_of_exchanger(exchangers, host).await? {
            Published::Usable(dane, _) => return Ok(Security::Dane(dane)),
            unusable @ Published::Unusable(_) => {
                self.tell_unusable(&exchangers.domain, host, unusable.records());
                Security::Encrypted
            }
            Published::Nothing => policy.security(),
        };
        let domain = &exchangers.domain;
        match self.sts(domain, host).await {
            Sts::Enforced => Ok(Security::WebPki),
            Sts::Forbidden => Err(forbidden(domain, host)),
            // The name must be as sure as the certificate.
            Sts::Silent | Sts::Watched if asks == MessageTls::Required => match exchangers.secure {
                true => Ok(Security::WebPki),
                false => Err(unsure(domain, host)),
            },
            Sts::Silent | Sts::Watched => Ok(least),
        }
    }

    /// The demand on connections to a host that the operator named.
    ///
    /// # Errors
    /// Why it may not be used now.
    pub(super) async fn security_of_host(
        &self,
        destination: &Destination,
        host: &Domain,
        port: u16,
    ) -> Result<Security, ConnectError> {
        let Destination { tls: policy, protocol, asks, .. } = *destination;
        if policy != TlsPolicy::Opportunistic || protocol == Protocol::Lmtp || asks == MessageTls::Optional {
            return Ok(by_policy(destination));
        }
        Ok(match self.dane_of_host(host, port).await? {
            Published::Usable(dane, _) => Security::Dane(dane),
            Published::Unusable(_) if asks != MessageTls::Required => Security::Encrypted,
            Published::Unusable(_) | Published::Nothing => by_policy(destination),
        })
    }
}

/// The demand on connections to a place that the operator named, where nobody else has a say.
pub(super) fn by_policy(destination: &Destination) -> Security {
    let Destination { tls, protocol, asks, .. } = destination;
    let security = tls.security();
    let raised = (*protocol, *asks) == (Protocol::Smtp, MessageTls::Required) && !security.authenticates();
    if raised { Security::WebPki } else { security }
}

/// Whoever can forge the exchangers' names needs no forged certificate.
fn unsure(domain: &Domain, host: &Domain) -> ConnectError {
    let text = format!(
        "the message needs REQUIRETLS, and neither DNSSEC nor an enforced MTA-STS policy says that {host} takes mail for {domain}"
    );
    ConnectError { temporary: false, text, status: EnhancedStatus::permanent(7, 30) }
}
