//! What a signing domain publishes, and how sure that is (TBR §6): DNS records, the document, consent of hosts.
//!
//! Look-ups are coalesced, bounded and cached, failures too. Only names of the domain itself are asked for and only
//! `tbr.<domain>` is connected to, and not before its TXT record was seen: whoever makes up a reference makes nobody
//! contact a third party. What a key is good for is `reference`'s to judge.

mod ask;
mod crowd;
mod flights;
mod memory;
mod plan;
mod publishes;
mod shelf;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mail::{Domain, Timestamp};
use policy::budget::Prefix;
use reference::keys::MAX_MAX_AGE;
use reference::{Assurance, DomainFacts, Selector};
use tokio::time::timeout;

use crate::lookup::Lookup;
use crate::retrieval::Client;
use crowd::{Asker, Crowd};
use flights::Flights;
use memory::Memory;
use plan::Step;
use shelf::Shelf;

/// Finds facts of domains. Clones share one set of caches. It asks for this server itself; for others that is
/// [`Discovery::for_stranger`].
#[derive(Clone)]
pub struct Discovery {
    shared: Arc<Shared>,
    asker: Asker,
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
    /// It has no `_tbr` record.
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
        /// Has it been so, whenever it was asked, for [`Config::bogus`]? Then it is no temporary failure any more.
        lasting: bool,
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
    /// How long each step of a look-up may take in the background: a question to DNS, a document.
    pub step_time: Duration,
    /// Domains looked up at a time for strangers, and for others.
    pub concurrent: usize,
    /// Domains, keys, and consents that are remembered, of each so many.
    pub capacity: u64,
    /// Longest time for which a document counts after it was fetched, when it cannot be fetched again (at most 7 days).
    pub pin: Duration,
    /// How long the absence of a record is remembered at most.
    pub negative: Duration,
    /// How long a failure is remembered.
    pub failure: Duration,
    /// How long bogus answers are put down to something that will pass (TBR §5.3).
    pub bogus: Duration,
    /// Shortest time between two fetches of one document that unknown selectors cause.
    pub refetch: Duration,
    /// Unknown selectors of one domain that DNS is asked for within `refetch`.
    pub misses: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session_budget: Duration::from_secs(5),
            step_time: Duration::from_secs(20),
            concurrent: 64,
            capacity: 100_000,
            pin: Duration::from_secs(7 * 24 * 3600),
            negative: Duration::from_secs(600),
            failure: Duration::from_secs(60),
            bogus: Duration::from_secs(24 * 3600),
            refetch: Duration::from_secs(300),
            misses: 16,
        }
    }
}

struct Shared {
    lookup: Arc<dyn Lookup>,
    client: Client,
    config: Config,
    memory: Memory,
    shelf: Option<Shelf>,
    domains: Flights<Domain, (Selector, Result<Found, Failure>)>,
    consents: Flights<Domain, Result<bool, Failure>>,
    publishing: Flights<Domain, Result<Option<Assurance>, Failure>>,
}

impl Discovery {
    /// Asks DNS with `lookup` and fetches documents with `client`, under that client's rules on addresses and trust.
    /// Documents are pinned in memory only.
    pub fn new(lookup: Arc<dyn Lookup>, client: Client, config: Config) -> Self {
        Self::with(lookup, client, config, None)
    }

    /// The same, but pins are kept in `folder` across restarts. What is there is read, at once.
    ///
    /// # Errors
    /// The folder cannot be made or read. A file in it that is not as it should be is passed over.
    pub fn open(
        lookup: Arc<dyn Lookup>,
        client: Client,
        config: Config,
        folder: &Path,
        now: Timestamp,
    ) -> io::Result<Self> {
        let (shelf, pins) = Shelf::open(folder, config.pin.min(MAX_MAX_AGE), now)?;
        let discovery = Self::with(lookup, client, config, Some(shelf));
        for (domain, pin) in pins {
            discovery.shared.memory.keep_pin(&domain, &pin);
        }
        Ok(discovery)
    }

    fn with(lookup: Arc<dyn Lookup>, client: Client, config: Config, shelf: Option<Shelf>) -> Self {
        let memory = Memory::new(&config);
        let crowd = Arc::new(Crowd::new(config.concurrent, config.session_budget));
        let (domains, consents) = (Flights::new(&crowd, config.concurrent), Flights::new(&crowd, config.concurrent));
        let publishing = Flights::new(&crowd, config.concurrent);
        let shared = Shared { lookup, client, config, memory, shelf, domains, consents, publishing };
        Self { shared: Arc::new(shared), asker: Asker::Ours }
    }

    /// The same for somebody who is not known here, from this network: such look-ups wait behind those of other strangers only, and
    /// have their limits. What is known already is known to everybody.
    #[must_use]
    pub fn for_stranger(&self, network: Option<Prefix>) -> Self {
        Self { shared: Arc::clone(&self.shared), asker: Asker::Stranger(network) }
    }

    /// The facts of a signing domain, with the key of this name where it has one. Answers within
    /// [`Config::session_budget`]; a slower look-up goes on in the background. Call within a tokio runtime.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn find(&self, domain: &Domain, selector: &Selector, now: Timestamp) -> Result<Found, Failure> {
        let found = timeout(self.shared.config.session_budget, self.find_in_time(domain, selector, now));
        found.await.unwrap_or_else(|_| Err(Failure::StillLooking(domain.clone())))
    }

    /// Names of keys, as the domain's document lists them (at most [`reference::keys::MAX_KEYS`]): DNS has no such list. What the keys
    /// are and whether they count is [`Discovery::find`]'s to say of each. Budget as there; nothing is remembered.
    ///
    /// # Errors
    /// [`Failure::Unusable`], [`Failure::Temporary`], [`Failure::StillLooking`].
    pub async fn selectors(&self, domain: &Domain) -> Result<Vec<Selector>, Failure> {
        let document = timeout(self.shared.config.session_budget, self.shared.fetch_document(domain)).await;
        let document = document.unwrap_or_else(|_| Err(Failure::StillLooking(domain.clone())))?;
        Ok(document.keys.into_iter().map(|key| key.selector).collect())
    }

    /// Does a host outside the signing domain consent to serve it? `name` is [`reference::verify::Consent::name`];
    /// ask only once the signature was found good. Budget as for [`Discovery::find`].
    ///
    /// # Errors
    /// [`Failure::Bogus`], [`Failure::Temporary`], [`Failure::StillLooking`].
    pub async fn consents(&self, name: &Domain, now: Timestamp) -> Result<bool, Failure> {
        if let Some(answer) = self.shared.memory.consent(name, now) {
            return answer;
        }
        let (shared, asked) = (Arc::clone(&self.shared), name.clone());
        let flight =
            self.shared.consents.join(self.asker, name, name, async move { shared.ask_consent(&asked, now).await });
        match timeout(self.shared.config.session_budget, flight).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(busy(name)),
            Err(_) => Err(Failure::StillLooking(name.clone())),
        }
    }

    async fn find_in_time(&self, domain: &Domain, selector: &Selector, now: Timestamp) -> Result<Found, Failure> {
        loop {
            if let Step::Done(result) = self.shared.plan(domain, selector, now) {
                return result;
            }
            let (shared, asked) = (Arc::clone(&self.shared), (domain.clone(), selector.clone()));
            let flight = self.shared.domains.join(self.asker, domain, domain, async move {
                let result = shared.look_up(&asked.0, &asked.1, now).await;
                (asked.1, result)
            });
            match flight.await {
                Some((found, result)) if found == *selector => return result,
                // Somebody asked for another key of the domain: what that brought to light may do.
                Some(_) => {}
                None => return Err(busy(domain)),
            }
        }
    }
}

fn busy(domain: &Domain) -> Failure {
    Failure::Temporary { domain: domain.clone(), text: "too many look-ups are under way".to_owned() }
}
