//! What a signing domain publishes, and how sure that is (TBR §6): DNS records, the document, consent of hosts.
//!
//! Look-ups are coalesced, bounded and cached, failures too. Only names of the domain itself are asked for and only
//! `tbr.<domain>` is connected to, and not before its TXT record was seen: whoever makes up a reference makes nobody
//! contact a third party. What a key is good for is `reference`'s to judge.

use std::sync::Arc;
use std::time::Duration;

use mail::{Domain, Timestamp};
use reference::{Assurance, DomainFacts, Selector};

use crate::lookup::Lookup;
use crate::retrieval::Client;

/// Finds facts of domains. Clones share one set of caches.
#[derive(Clone)]
pub struct Discovery {
    shared: Arc<Shared>,
}

/// What is known of a domain.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its facts. If the selector asked for is not among the keys, the domain was asked for it, or too recently to be
    /// asked again: [`reference::Refusal::UnknownKey`], a temporary refusal.
    pub facts: Arc<DomainFacts>,
    /// How sure they are.
    pub assurance: Assurance,
}

/// Why nothing is known of a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It has no `_tbr` record, or is a name under which strangers register.
    #[error("{0} publishes no TBR record")]
    NotPublished(Domain),
    /// It publishes something that cannot be used: records or document malformed, or speaking for another domain.
    #[error("what {domain} publishes cannot be used: {text}")]
    Unusable {
        /// Which.
        domain: Domain,
        /// Why.
        text: String,
    },
    /// DNSSEC says that somebody forges. A temporary refusal first, then a permanent one; never a weaker level.
    #[error("what {domain} publishes failed DNSSEC validation: {text}")]
    Bogus {
        /// Which.
        domain: Domain,
        /// Why.
        text: String,
    },
    /// Name servers or its web server do not answer, or no certificate fits: try again later.
    #[error("{domain} cannot be looked up now: {text}")]
    Temporary {
        /// Which.
        domain: Domain,
        /// Why.
        text: String,
    },
    /// The budget of the session is used up; the look-up goes on and its result will be there for the next try.
    #[error("looking up {0} takes longer than a session may")]
    StillLooking(Domain),
}

/// Limits and lifetimes.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long one question may keep a session waiting (TBR §4: 5 s in all).
    pub session_budget: Duration,
    /// How long a look-up may take in the background.
    pub lookup_budget: Duration,
    /// Look-ups at a time.
    pub concurrent: usize,
    /// Domains, and consents, that are remembered.
    pub capacity: u64,
    /// Longest time for which a document counts after it was fetched, when it cannot be fetched again (at most 7 days).
    pub pin: Duration,
    /// How long the absence of a record is remembered at most.
    pub negative: Duration,
    /// How long a failure is remembered.
    pub failure: Duration,
    /// Shortest time between two fetches of one document that unknown selectors cause.
    pub refetch: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session_budget: Duration::from_secs(5),
            lookup_budget: Duration::from_secs(60),
            concurrent: 64,
            capacity: 100_000,
            pin: Duration::from_secs(7 * 24 * 3600),
            negative: Duration::from_secs(600),
            failure: Duration::from_secs(60),
            refetch: Duration::from_secs(300),
        }
    }
}

struct Shared {
    _lookup: Arc<dyn Lookup>,
    _client: Client,
    _config: Config,
}

impl Discovery {
    /// Asks DNS with `lookup` and fetches documents with `client`, under that client's rules on addresses and trust.
    pub fn new(lookup: Arc<dyn Lookup>, client: Client, config: Config) -> Self {
        Self { shared: Arc::new(Shared { _lookup: lookup, _client: client, _config: config }) }
    }

    /// The facts of a signing domain, with the key of this name where it has one. Answers within
    /// [`Config::session_budget`]; a slower look-up goes on in the background.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn find(&self, domain: &Domain, selector: &Selector, now: Timestamp) -> Result<Found, Failure> {
        let _ = (selector, now, &self.shared);
        Err(Failure::NotPublished(domain.clone()))
    }

    /// Does a host outside the signing domain consent to serve it? `name` is [`reference::verify::Consent::name`].
    ///
    /// # Errors
    /// [`Failure::Bogus`], [`Failure::Temporary`], [`Failure::StillLooking`].
    pub async fn consents(&self, name: &Domain, now: Timestamp) -> Result<bool, Failure> {
        let _ = now;
        Err(Failure::Temporary { domain: name.clone(), text: "not asked".to_owned() })
    }
}
