//! Certificates by ACME (RFC 8555): an account, orders, and the answers to http-01 (§8.3) or tls-alpn-01 (RFC 8737) challenges;
//! and when the authority wants a certificate renewed ([`renewal`], RFC 9773).
//!
//! The protocol's messages are instant-acme's; over which connections they go is [`http`]'s; [`http_01`] and [`tls_alpn_01`] answer the
//! server's questions with what [`challenges`] holds. When to order what, and where keys are kept, is the caller's. Whatever an authority
//! sends, it costs a certificate at most, and never the process.

pub mod challenges;
mod http;
pub mod http_01;
pub mod renewal;
pub mod tls_alpn_01;

#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use instant_acme::{
    Account, AccountBuilder, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeHandle,
    ChallengeType, Error, Identifier, NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use mail::Domain;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use crate::lookup::Lookup;
use challenges::{Challenges, Kind, Proof};

/// An account with its key: a secret.
pub use instant_acme::AccountCredentials as Credentials;

/// Longest wait for the server to look at the challenges, and for the certificate.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest that one call here takes.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// How often an order is begun, where the authority wants none of its own nonces.
const ORDERS: usize = 3;
/// What it says then (RFC 8555 §6.5).
const STALE: &str = "urn:ietf:params:acme:error:badNonce";

/// Why there is no certificate: one plain sentence. All of it may be better later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct AcmeError {
    text: String,
    /// The authority has refused a nonce of its own once too often: the same again may go well.
    is_stale: bool,
}

impl AcmeError {
    fn new(text: &str) -> Self {
        Self { text: printable(text), is_stale: false }
    }
}

impl From<Error> for AcmeError {
    fn from(error: Error) -> Self {
        let Error::Api(problem) = error else { return Self::new(&error.to_string()) };
        let text = printable(&format!("the authority refuses: {}", words(&problem)));
        Self { text, is_stale: problem.r#type.as_deref() == Some(STALE) }
    }
}

/// What is ordered.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The names.
    pub names: &'a [Domain],
    /// The request for them, in DER (PKCS #10).
    pub csr: &'a [u8],
    /// The certificate in whose place it comes; the authority may treat the order better for it (RFC 9773 §5).
    pub replaces: Option<&'a CertificateDer<'a>>,
}

/// A certification authority.
#[derive(Clone)]
pub struct Authority {
    directory: String,
    http: http::Client,
    challenges: Challenges,
}

impl Authority {
    /// The one with this directory, an https URL. Its names are resolved with `lookup`; `tls` says whose certificate it must
    /// have. Questions about names are answered by `challenges`.
    pub fn new(directory: &str, lookup: Arc<dyn Lookup>, tls: Arc<ClientConfig>, challenges: Challenges) -> Self {
        Self { directory: directory.to_owned(), http: http::Client::new(lookup, tls), challenges }
    }

    /// Makes an account, and agrees to the terms: what comes back is a secret, to be kept.
    ///
    /// # Errors
    /// [`AcmeError`].
    pub async fn new_account(&self, contact: Option<&str>) -> Result<AccountCredentials, AcmeError> {
        let contact: Vec<&str> = contact.into_iter().collect();
        let account = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let made = self.builder().create(&account, self.directory.clone(), None);
        contained(async { Ok(made.await?.1) }).await
    }

    /// Orders a certificate and answers what is asked about its names. Answers the chain, PEM.
    ///
    /// # Errors
    /// [`AcmeError`].
    pub async fn issue(&self, account: AccountCredentials, request: &Request<'_>) -> Result<String, AcmeError> {
        contained(async {
            let account = self.builder().from_credentials(account).await?;
            let mut issued = self.order(&account, request).await;
            for _ in 1..ORDERS {
                if !issued.as_ref().is_err_and(|error| error.is_stale) {
                    break;
                }
                issued = self.order(&account, request).await;
            }
            issued
        })
        .await
    }

    fn builder(&self) -> AccountBuilder {
        Account::builder_with_http(Box::new(self.http.clone()))
    }

    async fn order(&self, account: &Account, request: &Request<'_>) -> Result<String, AcmeError> {
        let mut order = begin(account, request).await?;
        // They are taken back at the end, however it comes.
        let _answers = self.answer(&mut order, request.names).await?;
        let patience = RetryPolicy::default().timeout(PATIENCE);
        if !matches!(order.state().status, OrderStatus::Ready | OrderStatus::Valid) {
            let polled = order.poll_ready(&patience).await;
            match polled {
                Ok(OrderStatus::Ready) => {}
                Err(error) if order.state().status != OrderStatus::Invalid => return Err(error.into()),
                Ok(_) | Err(_) => return Err(AcmeError::new(&refusal(&mut order).await)),
            }
        }
        order.finalize_csr(request.csr).await?;
        Ok(order.poll_certificate(&patience).await?)
    }

    async fn answer(&self, order: &mut Order, names: &[Domain]) -> Result<Vec<challenges::Answer>, AcmeError> {
        let (kind, mut answers) = (self.challenges.kind(), Vec::new());
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let asked = authorization.identifier().to_string();
            let name = names.iter().find(|name| name.as_str().eq_ignore_ascii_case(&asked));
            let name = name.ok_or_else(|| AcmeError::new(&format!("{asked} was not ordered, and is asked about")))?;
            let challenge = authorization.challenge(kind.into());
            let mut challenge = challenge
                .ok_or_else(|| AcmeError::new(&format!("the authority does not offer {} for {name}", kind.as_str())))?;
            answers.push(self.prepare(name, &challenge)?);
            challenge.set_ready().await?;
        }
        Ok(answers)
    }

    /// From now on the question is answered.
    fn prepare(&self, name: &Domain, challenge: &ChallengeHandle<'_>) -> Result<challenges::Answer, AcmeError> {
        let authorization = challenge.key_authorization();
        Ok(match self.challenges.kind() {
            Kind::Http01 => self.challenges.answer(&challenge.token, Proof::Text(authorization.as_str().to_owned())),
            Kind::TlsAlpn01 => {
                let certificate = tls_alpn_01::certificate(name, authorization.digest().as_ref())?;
                self.challenges.answer(name.as_str(), Proof::Certificate(Arc::new(certificate)))
            }
        })
    }
}

/// Begins an order; one in another's place, if the authority wants to hear of that.
async fn begin(account: &Account, request: &Request<'_>) -> Result<Order, AcmeError> {
    let identifiers: Vec<_> = request.names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
    if let Some(old) = request.replaces.and_then(|old| CertificateIdentifier::try_from(old).ok()) {
        // It may be another authority's, or replaced already: a certificate is needed all the same.
        match account.new_order(&NewOrder::new(&identifiers).replaces(old)).await.map_err(AcmeError::from) {
            Err(error) if !error.is_stale => {}
            begun => return begun,
        }
    }
    Ok(account.new_order(&NewOrder::new(&identifiers)).await?)
}

impl From<Kind> for ChallengeType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Http01 => Self::Http01,
            Kind::TlsAlpn01 => Self::TlsAlpn01,
        }
    }
}

/// Why it refuses: it says so with the challenge that failed.
async fn refusal(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let _ = authorization.refresh().await;
        let failed = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = failed {
            return format!("the authority refuses {}: {}", authorization.identifier(), words(problem));
        }
    }
    let why = order.state().error.as_ref().map_or_else(|| "the whole order".to_owned(), words);
    format!("the authority refuses: {why}")
}

/// What an authority says is wrong, without the library's own words.
fn words(problem: &Problem) -> String {
    let text = problem.to_string();
    text.strip_prefix("API error").unwrap_or(&text).trim_start_matches([':', ' ']).to_owned()
}

/// Ends in time, and without a panic: the library has those for URLs that are none and for times beyond every clock, which an
/// authority may send.
async fn contained<T>(work: impl Future<Output = Result<T, AcmeError>>) -> Result<T, AcmeError> {
    match timeout(LONGEST, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(AcmeError::new("the authority has sent what nobody can use")),
        Err(_) => Err(AcmeError::new("the authority takes too long")),
    }
}

/// What a server says goes into logs.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
