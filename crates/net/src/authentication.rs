//! Evidence about inbound mail: asks DNS and reads content, so that `policy` can decide.
//!
//! Nothing is decided here. SPF is `policy`'s own function of answers; DKIM, ARC and DMARC are judged by the library
//! mail-auth, which is given keys and records and asks nobody itself. Content is hashed as it streams past: only its header
//! is kept, and all headers in memory together are limited ([`Settings::header_octets`]).

pub mod content;
mod line_ends;
mod lists;
mod records;
pub mod seal;
mod signatures;
pub mod signer;
mod tags;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use mail::{Address, Domain, Timestamp};
use mail_auth::MessageAuthenticator;
use mail_auth::hickory_resolver::TokioResolver;
use mail_auth::hickory_resolver::config::ResolverConfig;
use mail_auth::hickory_resolver::net::runtime::TokioRuntimeProvider;
use policy::ContentEvidence;
use policy::evidence::{Identity, Listing, Reverse, Spf, Verdict};
use policy::spf::{self, Answers, Query, Step};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dns::Resolver;
use content::{Content, ContentFault, ContentReader};

/// What the operator chose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This server's name.
    pub hostname: Domain,
    /// DNS lists whose entries are refused (RFC 5782).
    pub block_lists: Vec<Domain>,
    /// DNS lists that vouch for their entries.
    pub allow_lists: Vec<Domain>,
    /// Most octets of headers in memory, of all messages together.
    pub header_octets: usize,
    /// Time for the look-ups of one stage: session or content. What is not known by then is a temporary error.
    pub patience: Duration,
}

/// Gathers evidence. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    settings: Arc<Settings>,
    resolver: Resolver,
    library: Arc<MessageAuthenticator>,
    headers: Arc<Semaphore>,
}

/// What is known of a client as such: the same for all transactions of its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEvidence {
    /// Its name.
    pub reverse: Reverse,
    /// The lists that it stands on.
    pub listings: Vec<Listing>,
}

/// The library could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the verification of signatures: {0}")]
pub struct SetupError(String);

impl Authenticator {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(settings: Settings, resolver: Resolver) -> Result<Self, SetupError> {
        // A resolver without servers: the library finds what it needs in what it is given, or nowhere.
        let config = ResolverConfig::from_name_servers(Vec::new());
        let nobody = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build();
        let nobody = nobody.map_err(|error| SetupError(error.to_string()))?;
        let headers = Arc::new(Semaphore::new(settings.header_octets.min(Semaphore::MAX_PERMITS)));
        Ok(Self { settings: Arc::new(settings), resolver, library: Arc::new(MessageAuthenticator(nobody)), headers })
    }

    /// Looks up what there is to know of a client.
    pub async fn client(&self, address: IpAddr) -> ClientEvidence {
        let address = address.to_canonical();
        let both = future::join(self.reverse(address), lists::listings(self, address));
        let unknown =
            || ClientEvidence { reverse: Reverse { verdict: Verdict::TempError, name: None }, listings: Vec::new() };
        let found = tokio::time::timeout(self.settings.patience, both).await;
        found.map_or_else(|_| unknown(), |(reverse, listings)| ClientEvidence { reverse, listings })
    }

    /// `iprev` (RFC 8601 §2.7.3).
    async fn reverse(&self, address: IpAddr) -> Reverse {
        let names = match self.ask(&spf::Question::Names(address)).await {
            spf::Answer::Names(names) => names,
            spf::Answer::Temporary => return Reverse { verdict: Verdict::TempError, name: None },
            _ => return Reverse { verdict: Verdict::PermError, name: None },
        };
        let family = if address.is_ipv4() { spf::Family::V4 } else { spf::Family::V6 };
        let mut verdict = Verdict::Fail;
        // The library and RFC 8601 look at a few; a host has one name as a rule.
        for name in names.into_iter().take(4) {
            match self.ask(&spf::Question::Addresses(name.clone(), family)).await {
                spf::Answer::Addresses(addresses) if addresses.contains(&address) => {
                    return Reverse { verdict: Verdict::Pass, name: Domain::parse(&name).ok() };
                }
                spf::Answer::Temporary => verdict = Verdict::TempError,
                _ => {}
            }
        }
        Reverse { verdict, name: None }
    }

    /// SPF for the reverse-path, or for the name in HELO where it is null. Nothing where neither is a name.
    pub async fn spf(&self, client: IpAddr, helo: &str, mail_from: Option<&Address>, now: Timestamp) -> Option<Spf> {
        let (identity, domain) = match mail_from {
            Some(address) => (Identity::MailFrom, address.host().to_owned()),
            None => (Identity::Helo, helo.to_owned()),
        };
        if domain.is_empty() || domain.starts_with('[') {
            return None;
        }
        let sender = mail_from.map(Address::as_str).unwrap_or_default();
        let query = Query { client, helo, mail_from: sender, receiver: self.settings.hostname.as_str(), now };
        let outcome = tokio::time::timeout(self.settings.patience, self.check(&query)).await;
        let verdict = outcome.map_or(spf::Verdict::TempError, |outcome| outcome.verdict);
        Some(Spf { verdict, identity, domain })
    }

    /// Runs a check to its end, however long the look-ups take.
    pub async fn check(&self, query: &Query<'_>) -> spf::Outcome {
        let mut answers = Answers::new();
        loop {
            match spf::check(query, &answers) {
                Step::Done(outcome) => return outcome,
                Step::Ask(question) => {
                    let answer = self.ask(&question).await;
                    answers.insert(question, answer);
                }
            }
        }
    }

    /// Draws memory for so many octets of headers, until the permit is dropped: for whoever reads content elsewhere.
    ///
    /// # Errors
    /// [`ContentFault::Busy`]: there is no more now.
    pub fn draw(&self, octets: usize) -> Result<OwnedSemaphorePermit, ContentFault> {
        content::draw(&self.headers, octets)
    }

    /// Begins to read content.
    pub fn content(&self) -> ContentReader {
        ContentReader::new(Arc::clone(&self.headers))
    }

    /// Judges content: its signatures, their chain, and what the domain of From asks for. `spf` as it was found in the
    /// session.
    pub async fn judge(&self, content: &Content, spf: Option<&Spf>) -> ContentEvidence {
        signatures::judge(self, content, spf).await
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("settings", &self.settings).finish_non_exhaustive()
    }
}
