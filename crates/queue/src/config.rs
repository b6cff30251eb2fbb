//! What the queue is told once: names, keys, policies, limits and timers.
//!
//! Parsed and checked elsewhere (`restante::config`): every value here is meant. All timers can be scaled, so that
//! tests live through a week in a second.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mail::ledger::Target;
use mail::{Address, Domain};
use reference::{Selector, SigningKey};

/// Where a report to this address goes; nothing for a local address that does not exist.
pub type Router = Arc<dyn Fn(&Address) -> Vec<Target> + Send + Sync>;

/// The fields that sign a whole message, to stand on top of it; empty where nobody signs. At most a few milliseconds.
pub type ReportSigner = Arc<dyn Fn(&[u8]) -> String + Send + Sync>;

/// Configuration of a [`crate::Node`].
#[derive(Clone)]
pub struct QueueConfig {
    /// This server's name, in reports.
    pub hostname: Domain,
    /// The domains that this server signs for.
    pub signers: HashMap<Domain, Signer>,
    /// The signer among them for messages with the null sender; without it they go by value.
    pub reporting_domain: Option<Domain>,
    /// Routes the server's own reports.
    pub route: Router,
    /// Signs reports.
    pub sign: ReportSigner,
    /// By reference or by value, for recipient domains that differ from the default.
    pub policies: HashMap<Domain, Policy>,
    /// And for all others.
    pub default_policy: Policy,
    /// Next hops, by name, that are offered references; all other relays get mail by value.
    pub relays_by_reference: HashSet<String>,
    /// Whose messages are held by rule.
    pub holds: HoldRules,
    /// When failed attempts are repeated.
    pub retry: Retry,
    /// The clocks of TBR §6 and §8.
    pub timers: Timers,
    /// How much at once.
    pub limits: Limits,
}

impl QueueConfig {
    /// Defaults for a server that signs for nobody.
    pub fn new(hostname: Domain, route: Router) -> Self {
        Self {
            hostname,
            signers: HashMap::new(),
            reporting_domain: None,
            route,
            sign: Arc::new(|_| String::new()),
            policies: HashMap::new(),
            default_policy: Policy::default(),
            relays_by_reference: HashSet::new(),
            holds: HoldRules::default(),
            retry: Retry::default(),
            timers: Timers::default(),
            limits: Limits::default(),
        }
    }

    /// The policy for mail to a domain.
    pub fn policy(&self, domain: &Domain) -> &Policy {
        self.policies.get(domain).unwrap_or(&self.default_policy)
    }

    /// Who signs for this reverse-path: its domain, an ancestor that signs for subdomains, or for the null sender the
    /// reporting domain (TBR §4).
    pub fn signer(&self, mail_from: Option<&Address>) -> Option<&Signer> {
        let Some(address) = mail_from else {
            return self.signers.get(self.reporting_domain.as_ref()?);
        };
        let domain = address.domain()?;
        if let Some(signer) = self.signers.get(&domain) {
            return Some(signer);
        }
        std::iter::successors(domain.parent(), Domain::parent)
            .find_map(|ancestor| self.signers.get(&ancestor).filter(|signer| signer.subdomains))
    }
}

impl fmt::Debug for QueueConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueConfig")
            .field("hostname", &self.hostname)
            .field("signers", &self.signers)
            .finish_non_exhaustive()
    }
}

/// Whose messages are held, and for how long from their acceptance on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HoldRules {
    /// What these accounts submit.
    pub accounts: HashMap<String, Duration>,
    /// What comes from these domains or goes to them.
    pub domains: HashMap<Domain, Duration>,
}

impl HoldRules {
    /// The longest that applies.
    pub(crate) fn of(&self, account: Option<&str>, domains: impl Iterator<Item = Domain>) -> Option<Duration> {
        let by_account = account.and_then(|account| self.accounts.get(account));
        let by_domain = domains.filter_map(|domain| self.domains.get(&domain)).max();
        by_account.max(by_domain).copied()
    }
}

/// A domain's key and repository.
#[derive(Debug, Clone)]
pub struct Signer {
    /// Tag `d`.
    pub domain: Domain,
    /// Tag `s`.
    pub selector: Selector,
    /// The private key.
    pub key: Arc<SigningKey>,
    /// Host of the reference URIs.
    pub repository: Domain,
    /// The domain's record says `sub=y`: it signs for senders in subdomains too.
    pub subdomains: bool,
}

/// How mail goes to a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Whether references are offered.
    pub mode: ReferenceMode,
    /// Smaller objects go by value, in octets. Not looked at under [`ReferenceMode::Require`].
    pub by_value_below: u64,
    /// The domain may, as a relay, pass on by reference what is offered to it (TBR §7.3).
    pub may_delegate: bool,
    /// What came by reference and goes on to the domain is delegated at its origin. The origin learns where to.
    pub delegate_to: bool,
}

/// Whether references are offered (TBR §8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReferenceMode {
    /// Where the peer speaks TBR; by value otherwise.
    #[default]
    Prefer,
    /// Only by reference: a peer without TBR defers the message.
    Require,
    /// Only by value.
    Never,
}

/// Exponential back-off with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// After the first failure.
    pub first: Duration,
    /// Never longer than this; doubles until then.
    pub most: Duration,
    /// Up to this many per cent are added or taken away.
    pub jitter_percent: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Duration::from_secs(300), most: Duration::from_secs(4 * 3600), jitter_percent: 20 }
    }
}

impl Retry {
    /// How long to wait after this many failures; `random` spreads it.
    pub fn delay(&self, failures: u32, random: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let millis = u64::try_from(doubled.min(self.most).as_millis()).unwrap_or(u64::MAX);
        let jitter = u64::from(self.jitter_percent.min(100));
        let percent = 100 - jitter + u64::from(random) % (2 * jitter + 1);
        Duration::from_millis((millis / 100).saturating_mul(percent).max(1))
    }
}

/// The clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// How long a message is tried before it fails.
    pub message_lifetime: Duration,
    /// The same for a message that waits for a site.
    pub site_lifetime: Duration,
    /// From `t` to `e` of a reference, at most 30 days; never past the end of the message's own life.
    pub reference_lifetime: Duration,
    /// A reference that could not live this long is not issued: the message goes by value.
    pub shortest_reference: Duration,
    /// Expiry of a reference is recorded this long after `e`: claims sent just before it may still be under way.
    pub expiry_grace: Duration,
    /// By value after 4yz to TBR for this long.
    pub refused_fall_back: Duration,
    /// By value when nobody has claimed this long after 250.
    pub unclaimed_fall_back: Duration,
    /// A receiver whose claim gets no answer for this long takes custody by itself.
    pub claim_patience: Duration,
    /// This long after `e` without a receipt the author is told who holds the message.
    pub overdue: Duration,
    /// A receipt that found no hearing for this long is replaced by a report to the verified sender.
    pub unheard: Duration,
    /// The author is told of a delay after this long.
    pub delay_report: Option<Duration>,
    /// A closed inbound row is remembered this long after `e`, against replays.
    pub replay_memory: Duration,
    /// Finished legs are kept this long, for `trace`.
    pub retention: Duration,
    /// The content of a leg that issued references is kept so long after the last final outcome, and after the end of the last
    /// reference. Nobody can fetch it then.
    pub object_grace: Duration,
    /// A leg that issued references answers `gone` and `taken` this long after the last of them expired.
    pub answer_memory: Duration,
    /// `relayed`, or claimed without any receipt: kept this long after `t`, so that a late `failed` finds its author.
    pub long_memory: Duration,
    /// Time for one delivery attempt, or one retrieval.
    pub attempt_budget: Duration,
    /// Rows are leased for this long, and the ledger is asked for due rows at least this often. A job may take longer: the node
    /// knows what it has in hand.
    pub lease: Duration,
    /// Pause after the ledger has failed.
    pub ledger_pause: Duration,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Timers {
    fn default() -> Self {
        Self {
            message_lifetime: 5 * DAY,
            site_lifetime: 30 * DAY,
            reference_lifetime: 5 * DAY,
            shortest_reference: HOUR / 4,
            expiry_grace: HOUR / 4,
            refused_fall_back: HOUR,
            unclaimed_fall_back: 2 * HOUR,
            claim_patience: HOUR,
            overdue: DAY,
            unheard: DAY,
            delay_report: Some(4 * HOUR),
            replay_memory: Duration::from_secs(300),
            retention: 7 * DAY,
            object_grace: Duration::ZERO,
            answer_memory: 2 * DAY,
            long_memory: 37 * DAY,
            attempt_budget: HOUR,
            lease: HOUR / 6,
            ledger_pause: Duration::from_secs(5),
        }
    }
}

/// How much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deliveries to one destination.
    pub per_destination: usize,
    /// Deliveries in all. No sender has more of them than are left for others.
    pub deliveries: usize,
    /// Retrievals from one signing domain.
    pub per_origin: usize,
    /// Retrievals in all; 0 pauses retrieval.
    pub retrievals: usize,
    /// Judgements of content in all.
    pub judgements: usize,
    /// Posts of claims, and as many of receipts, in all; one at a time to each repository.
    pub posts: usize,
    /// Hops and Received fields together beyond which a retrieved message is in a loop (TBR §3.4).
    pub hops: usize,
    /// Rows that wait in memory for a place; beyond that their keys do.
    pub waiting: usize,
    /// Rows and keys in hand, with a job or waiting. Beyond that nothing is read from the ledger that is due, and at twice as
    /// many what is new waits there too.
    pub in_hand: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_destination: 20,
            deliveries: 500,
            per_origin: 8,
            retrievals: 64,
            judgements: 64,
            posts: 64,
            hops: 100,
            waiting: 4096,
            in_hand: 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_double_up_to_the_most_and_spread() {
        let retry = Retry { first: Duration::from_secs(100), most: Duration::from_secs(1000), jitter_percent: 20 };
        let spread = |failures| (retry.delay(failures, 0).as_secs(), retry.delay(failures, 40).as_secs());
        assert_eq!([spread(1), spread(2), spread(4), spread(99)], [(80, 120), (160, 240), (640, 960), (800, 1200)]);
    }

    #[test]
    fn clocks_run_as_long_as_the_specification_says() {
        // TBR §10.5; how long is waited for a fetch keeps needless notices away.
        let timers = Timers::default();
        assert_eq!((timers.refused_fall_back, timers.unclaimed_fall_back), (HOUR, 2 * HOUR));
        assert_eq!((timers.reference_lifetime, timers.expiry_grace), (5 * DAY, HOUR / 4));
        assert_eq!((timers.claim_patience, timers.overdue, timers.unheard), (HOUR, DAY, DAY));
        assert_eq!((timers.answer_memory, timers.long_memory), (2 * DAY, 37 * DAY));
        assert_eq!(timers.replay_memory, Duration::from_secs(300));
        assert_eq!(Retry::default(), Retry { first: HOUR / 12, most: 4 * HOUR, jitter_percent: 20 });
    }

    #[test]
    fn a_subdomain_is_signed_for_only_where_the_record_says_so() {
        let mut config = QueueConfig::new(Domain::parse("mx.a.example").unwrap(), Arc::new(|_| Vec::new()));
        let signer = |domain: &str, subdomains| Signer {
            domain: Domain::parse(domain).unwrap(),
            selector: "k1".parse().unwrap(),
            key: Arc::new(SigningKey::from_seed(&[1; 32]).unwrap()),
            repository: Domain::parse("tbr.a.example").unwrap(),
            subdomains,
        };
        for s in [signer("a.example", true), signer("b.example", false)] {
            config.signers.insert(s.domain.clone(), s);
        }
        let found = |config: &QueueConfig, address: &str| {
            config.signer(Some(&Address::parse(address).unwrap())).map(|s| s.domain.to_string())
        };
        assert_eq!(found(&config, "x@a.example").as_deref(), Some("a.example"));
        assert_eq!(found(&config, "x@bounce.a.example").as_deref(), Some("a.example"));
        assert_eq!(found(&config, "x@b.example").as_deref(), Some("b.example"));
        assert_eq!(found(&config, "x@bounce.b.example"), None);
        assert!(config.signer(None).is_none());
        config.reporting_domain = Some(Domain::parse("a.example").unwrap());
        assert!(config.signer(None).is_some());
    }
}
