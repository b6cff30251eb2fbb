//! How TLS went with the exchangers of a domain, connection by connection: what TLS reports (RFC 8460) are made of.
//!
//! Told to a [`Observer`] as it happens. Collecting, and reporting to whom, are others'. Connections to next hops that the
//! operator named, and ones that were never made because nobody answered, are nobody's news.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use mail::Domain;
use mail::mta_sts::{Mode, Policy};
use rustls::{CertificateError, OtherError};
use serde::{Deserialize, Serialize};

use super::connect::Failure;
use super::link::Link;
use super::route::Place;
use super::{Destination, Inner, Route, TlsPolicy};
use crate::dns::DnsError;
use crate::mta_sts::{Found, Unfetched};
use crate::tls::Security;
use crate::tls::dane::{self, Mismatch};
use crate::wire::Stream;

/// One connection, or why there was none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsResult {
    /// The recipient domain.
    pub domain: Domain,
    /// The policy that it was made under.
    pub policy: TlsPolicyFound,
    /// The exchanger.
    pub host: Domain,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// The address that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// What was wrong; the connection may have been used all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<TlsFault>,
    /// More about it, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// The policy of a domain that a connection was made under (RFC 8460 §4.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsPolicyFound {
    /// None.
    NoPolicyFound,
    /// MTA-STS: the lines of the policy; none where it could not be had.
    Sts(Vec<String>),
    /// DANE: TLSA records, as text.
    Tlsa(Vec<String>),
}

/// What can be wrong, in the words of RFC 8460 §4.3. Its `dane-required` is of senders that insist on DANE; nothing here does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsFault {
    /// No STARTTLS.
    StarttlsNotSupported,
    /// The certificate is for another name.
    CertificateHostMismatch,
    /// The certificate has ended, or not begun.
    CertificateExpired,
    /// Nobody who is trusted has issued the certificate.
    CertificateNotTrusted,
    /// Anything else.
    ValidationFailure,
    /// There are TLSA records, and none of them can be used.
    TlsaInvalid,
    /// DNSSEC says that answers were forged or broken.
    DnssecInvalid,
    /// The MTA-STS policy cannot be fetched.
    StsPolicyFetchError,
    /// The MTA-STS policy is no policy.
    StsPolicyInvalid,
    /// The host of the MTA-STS policy has no good certificate.
    StsWebpkiInvalid,
}

/// Hears of every connection. Must not block.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(TlsResult) + Send + Sync>);

impl Observer {
    /// Tells this function.
    pub fn new(tell: impl Fn(TlsResult) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// A handshake that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) fault: TlsFault,
    why: String,
}

impl Broken {
    pub(super) fn other(why: impl Into<String>) -> Self {
        Self { fault: TlsFault::ValidationFailure, why: why.into() }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        Self { fault: of_tls.map_or(TlsFault::ValidationFailure, fault_of), why: dane::explain(&error) }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// RFC 8460's word for an error of TLS.
fn fault_of(error: &rustls::Error) -> TlsFault {
    use CertificateError as E;
    match error {
        rustls::Error::InvalidCertificate(E::NotValidForName | E::NotValidForNameContext { .. }) => {
            TlsFault::CertificateHostMismatch
        }
        rustls::Error::InvalidCertificate(
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. },
        ) => TlsFault::CertificateExpired,
        rustls::Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => TlsFault::CertificateNotTrusted,
        rustls::Error::InvalidCertificate(E::Other(OtherError(other))) => {
            other.downcast_ref().map_or(TlsFault::ValidationFailure, fault_of_mismatch)
        }
        _ => TlsFault::ValidationFailure,
    }
}

/// The same for an MTA-STS policy that is announced and cannot be had (RFC 8460 §4.3.2.2).
fn fault_of_policy(why: &Unfetched) -> TlsFault {
    match why {
        Unfetched::Fetch(_) => TlsFault::StsPolicyFetchError,
        Unfetched::Certificate(_) => TlsFault::StsWebpkiInvalid,
        Unfetched::Invalid(_) => TlsFault::StsPolicyInvalid,
    }
}

/// The same for a certificate that TLSA records do not name.
fn fault_of_mismatch(mismatch: &Mismatch) -> TlsFault {
    match mismatch {
        Mismatch::NoRecord(_) => TlsFault::ValidationFailure,
        Mismatch::Chain(_, webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) => {
            TlsFault::CertificateExpired
        }
        Mismatch::Chain(..) => TlsFault::CertificateNotTrusted,
        Mismatch::Name(_) => TlsFault::CertificateHostMismatch,
    }
}

impl Inner {
    /// Tells how TLS went at a place; a connection that was never answered tells nothing.
    pub(super) async fn tell(&self, destination: &Destination, place: &Place, outcome: Result<&Link, &Failure>) {
        let (Some(observer), Route::Exchangers(domain)) = (&self.settings.tls_results, &destination.route) else {
            return;
        };
        // Reports on TLS are no news themselves.
        if destination.tls == TlsPolicy::Heedless {
            return;
        }
        let Some((fault, text)) = fault_at(outcome) else { return };
        let Some((host, peer)) = place.host() else { return };
        let (policy, watched) = match place.security() {
            Security::Dane(dane) => (TlsPolicyFound::Tlsa(dane.records().to_vec()), None),
            _ => self.policy_found(domain, observer, &host).await,
        };
        let (mut fault, mut text) = (fault, text);
        if let (None, Some(policy), Ok(link)) = (fault, &watched, outcome)
            && let Some(would) = self.would_fail(policy, &host, place, link)
        {
            (fault, text) = (Some(would.fault), would.why);
        }
        let local = outcome.ok().and_then(|link| link.stream.local_ip());
        let domain = domain.clone();
        (observer.0)(TlsResult { domain, policy, host, peer: Some(peer), local, fault, text });
    }

    /// An exchanger that the domain's policy forbids is not connected to.
    pub(super) fn tell_forbidden(&self, domain: &Domain, host: &Domain, policy: &Policy) {
        let Some(observer) = &self.settings.tls_results else { return };
        (observer.0)(TlsResult {
            domain: domain.clone(),
            policy: TlsPolicyFound::Sts(policy.lines().collect()),
            host: host.clone(),
            peer: None,
            local: None,
            fault: Some(TlsFault::ValidationFailure),
            text: "the policy does not name this mail exchanger".to_owned(),
        });
    }

    /// An exchanger whose records are bogus is not connected to.
    pub(super) fn tell_untold(&self, domain: &Domain, host: &Domain, error: &DnsError) {
        let (Some(observer), DnsError::Bogus(text)) = (&self.settings.tls_results, error) else { return };
        (observer.0)(TlsResult {
            domain: domain.clone(),
            policy: TlsPolicyFound::Tlsa(Vec::new()),
            host: host.clone(),
            peer: None,
            local: None,
            fault: Some(TlsFault::DnssecInvalid),
            text: text.clone(),
        });
    }

    /// None of an exchanger's records can be used: it is connected to, but no record says what its certificate must be.
    pub(super) fn tell_unusable(&self, domain: &Domain, host: &Domain, records: Vec<String>) {
        let Some(observer) = &self.settings.tls_results else { return };
        (observer.0)(TlsResult {
            domain: domain.clone(),
            policy: TlsPolicyFound::Tlsa(records),
            host: host.clone(),
            peer: None,
            local: None,
            fault: Some(TlsFault::TlsaInvalid),
            text: "none of the TLSA records can be used for SMTP".to_owned(),
        });
    }

    /// The policy of the domain, and it again where it is under test.
    async fn policy_found(
        &self,
        domain: &Domain,
        observer: &Observer,
        host: &Domain,
    ) -> (TlsPolicyFound, Option<Policy>) {
        let Some(finder) = &self.settings.mta_sts else { return (TlsPolicyFound::NoPolicyFound, None) };
        match finder.find(domain, crate::wire::now()).await {
            Found::Policy(policy) if policy.mode == Mode::None => (TlsPolicyFound::NoPolicyFound, None),
            Found::Policy(policy) => {
                let found = TlsPolicyFound::Sts(policy.lines().collect());
                (found, Some(policy).filter(|policy| policy.mode == Mode::Testing))
            }
            Found::None => (TlsPolicyFound::NoPolicyFound, None),
            Found::Unfetched(why) => {
                (observer.0)(TlsResult {
                    domain: domain.clone(),
                    policy: TlsPolicyFound::Sts(Vec::new()),
                    host: host.clone(),
                    peer: None,
                    local: None,
                    fault: Some(fault_of_policy(&why)),
                    text: why.to_string(),
                });
                (TlsPolicyFound::NoPolicyFound, None)
            }
        }
    }

    /// What an enforced policy would have kept back (RFC 8461 §5).
    fn would_fail(&self, policy: &Policy, host: &Domain, place: &Place, link: &Link) -> Option<Broken> {
        if !policy.names(host) {
            return Some(Broken::other("the policy does not name this mail exchanger"));
        }
        let Stream::Client(stream) = &link.stream else { return None };
        let Place::Tcp { name, .. } = place else { return None };
        let chain = stream.get_ref().1.peer_certificates()?;
        let wrong = self.settings.tls.judge(chain, name).err()?;
        Some(Broken { fault: fault_of(&wrong), why: wrong.to_string() })
    }
}

/// What was wrong, if anything; `None` where TLS was not tried, or not reached.
fn fault_at(outcome: Result<&Link, &Failure>) -> Option<(Option<TlsFault>, String)> {
    match outcome {
        Ok(link) if link.smtp.is_tls() => Some((None, String::new())),
        // What else the message needs is no matter of TLS.
        Err(Failure::NoRequireTls) => Some((None, String::new())),
        Ok(_) | Err(Failure::NoTls) => Some((Some(TlsFault::StarttlsNotSupported), String::new())),
        Err(Failure::Tls(broken)) => Some((Some(broken.fault), broken.why.clone())),
        Err(Failure::Unreachable(_) | Failure::Refused(_) | Failure::Auth(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_cannot_be_had_is_told_by_its_kind() {
        let why = || "a sentence".to_owned();
        let words = [
            (Unfetched::Fetch(why()), "\"sts-policy-fetch-error\""),
            (Unfetched::Certificate(why()), "\"sts-webpki-invalid\""),
            (Unfetched::Invalid(why()), "\"sts-policy-invalid\""),
        ];
        for (why, word) in words {
            assert_eq!(serde_json::to_string(&fault_of_policy(&why)).unwrap(), word);
        }
    }
}
