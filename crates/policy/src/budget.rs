//! What a sender of references may take of this server: offers by the minute, references and octets outstanding, failures by
//! the hour; for each signing domain, each registrable domain above, each network that clients come from, and in all.
//!
//! Pure: what is used and the time in, a yes or the named reason out. Counts of a domain grow by what its good signature
//! stands under only, so nobody can use up the budget of another; what is not signed well counts against the network that it
//! came from. Who keeps the counts, and in how much memory, is left to `restante`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use mail::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rate::Rate;
use crate::reputation::Standing;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The limits of one holder, for a stranger. Others have a multiple of them: [`Standing::share`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Offers within a minute.
    pub offers_per_minute: u64,
    /// References accepted whose claim has no answer yet.
    pub outstanding: u64,
    /// Octets of those.
    pub octets: u64,
    /// Failures within an hour: signatures that do not verify and domains without keys (of a network), retrievals that fail
    /// or bring something else than was signed (of a domain).
    pub failures_per_hour: u64,
}

/// The limits of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// Of one signing domain.
    pub domain: Budget,
    /// Of all signing domains below one registrable domain.
    pub registrable: Budget,
    /// Of all clients of one [`Prefix`].
    pub network: Budget,
    /// References outstanding in all.
    pub outstanding: u64,
}

/// Who holds a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The network of the client.
    Network,
    /// The signing domain.
    Domain,
    /// The registrable domain above it.
    Registrable,
    /// Everybody together.
    All,
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// Failures.
    Failures,
    /// Offers.
    Offers,
    /// References outstanding.
    Outstanding,
    /// Octets outstanding.
    Octets,
}

/// A budget that is used up. Displays as one plain sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// Whose.
    pub scope: Scope,
    /// Of what.
    pub what: What,
}

/// What one holder uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    offers: Rate,
    failures: Rate,
    outstanding: u64,
    octets: u64,
}

/// The network of a client: an IPv4 /24, an IPv6 /48: about what one customer of a provider is given at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Prefix(IpAddr);

impl Prefix {
    /// Of this client; an IPv4-mapped address counts as IPv4.
    pub fn of(client: IpAddr) -> Self {
        Self(match client.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
            }
            IpAddr::V6(v6) => {
                let [a, b, c, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
            }
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 48 })
    }
}

impl Used {
    /// Is there room for one more offer of a reference to so many octets? `octets` is nothing for a reference that is
    /// outstanding already: being offered again it takes nothing more.
    ///
    /// # Errors
    /// What is used up.
    pub fn room(&self, budget: &Budget, standing: Standing, octets: Option<u64>, at: Timestamp) -> Result<(), What> {
        let limit = |limit| standing.share(limit);
        if self.failures.count(at, HOUR) >= limit(budget.failures_per_hour) {
            return Err(What::Failures);
        }
        if self.offers.count(at, MINUTE) >= limit(budget.offers_per_minute) {
            return Err(What::Offers);
        }
        let Some(octets) = octets else { return Ok(()) };
        if self.outstanding >= limit(budget.outstanding) {
            return Err(What::Outstanding);
        }
        // One reference always fits, however large the messages are that this server takes.
        if self.outstanding > 0 && self.octets.saturating_add(octets) > limit(budget.octets) {
            return Err(What::Octets);
        }
        Ok(())
    }

    /// An offer has come.
    pub fn offered(&mut self, at: Timestamp) {
        self.offers.add(1, at, MINUTE);
    }

    /// Something has failed.
    pub fn failed(&mut self, at: Timestamp) {
        self.failures.add(1, at, HOUR);
    }

    /// A reference to so many octets is outstanding.
    pub fn accepted(&mut self, octets: u64) {
        self.outstanding = self.outstanding.saturating_add(1);
        self.octets = self.octets.saturating_add(octets);
    }

    /// It is not any more.
    pub fn settled(&mut self, octets: u64) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.octets = self.octets.saturating_sub(octets);
    }

    /// References outstanding.
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Is there nothing to remember?
    pub fn is_idle(&self, at: Timestamp) -> bool {
        self.outstanding == 0 && self.offers.is_idle(at, MINUTE) && self.failures.is_idle(at, HOUR)
    }
}

impl Over {
    /// Its name, for logs and metrics.
    pub fn name(self) -> &'static str {
        match (self.scope, self.what) {
            (Scope::Network, What::Failures) => "network-failures",
            (Scope::Network, What::Offers) => "network-offers",
            (Scope::Network, What::Outstanding) => "network-outstanding",
            (Scope::Network, What::Octets) => "network-octets",
            (Scope::Domain, What::Failures) => "domain-failures",
            (Scope::Domain, What::Offers) => "domain-offers",
            (Scope::Domain, What::Outstanding) => "domain-outstanding",
            (Scope::Domain, What::Octets) => "domain-octets",
            (Scope::Registrable, What::Failures) => "registrable-failures",
            (Scope::Registrable, What::Offers) => "registrable-offers",
            (Scope::Registrable, What::Outstanding) => "registrable-outstanding",
            (Scope::Registrable, What::Octets) => "registrable-octets",
            (Scope::All, _) => "all-outstanding",
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.scope {
            Scope::Network => "of this network",
            Scope::Domain => "of this domain",
            Scope::Registrable => "of this domain and those beside it",
            Scope::All => "of all domains together",
        };
        match self.what {
            What::Failures => write!(f, "too many references {whose} have failed lately, come back later"),
            What::Offers => write!(f, "too many offers {whose} at a time, come back later"),
            What::Outstanding | What::Octets => write!(f, "too many references {whose} are pending, come back later"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { offers_per_minute: 3, outstanding: 2, octets: 1000, failures_per_hour: 2 };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    fn room(used: &Used, octets: u64, seconds: u64) -> Result<(), What> {
        used.room(&BUDGET, Standing::Stranger, Some(octets), at(seconds))
    }

    #[test]
    fn offers_are_limited_by_the_minute() {
        let mut used = Used::default();
        for _ in 0..3 {
            assert_eq!(room(&used, 1, 0), Ok(()));
            used.offered(at(0));
        }
        assert_eq!(room(&used, 1, 0), Err(What::Offers));
        assert_eq!(room(&used, 1, 90), Ok(()));
    }

    #[test]
    fn references_outstanding_are_limited_until_they_are_settled() {
        let mut used = Used::default();
        used.accepted(10);
        used.accepted(10);
        assert_eq!(room(&used, 1, 0), Err(What::Outstanding));
        assert_eq!(used.room(&BUDGET, Standing::Stranger, None, at(0)), Ok(()), "one that is outstanding, once more");
        used.settled(10);
        assert_eq!(room(&used, 1, 0), Ok(()));
    }

    #[test]
    fn octets_outstanding_are_limited_but_one_message_always_fits() {
        let mut used = Used::default();
        assert_eq!(room(&used, 5000, 0), Ok(()));
        used.accepted(900);
        assert_eq!((room(&used, 100, 0), room(&used, 101, 0)), (Ok(()), Err(What::Octets)));
    }

    #[test]
    fn failures_are_limited_by_the_hour() {
        let mut used = Used::default();
        used.failed(at(0));
        assert_eq!(room(&used, 1, 0), Ok(()));
        used.failed(at(0));
        assert_eq!(room(&used, 1, 0), Err(What::Failures));
        assert!(!used.is_idle(at(3_601)) && used.is_idle(at(7_200)));
        assert_eq!(room(&used, 1, 5_401), Ok(()));
    }

    #[test]
    fn those_who_are_known_have_more_and_those_who_are_not_welcome_less() {
        let mut used = Used::default();
        for _ in 0..5 {
            used.failed(at(0));
        }
        let room = |standing| used.room(&BUDGET, standing, Some(1), at(0)).is_ok();
        let all = [Standing::Unwelcome, Standing::Stranger, Standing::Known, Standing::Trusted];
        assert_eq!(all.map(room), [false, false, true, true]);
        let none = Used::default().room(&BUDGET, Standing::Unwelcome, Some(1), at(0));
        assert_eq!(none, Ok(()), "some is left to everybody, to become better");
    }

    #[test]
    fn a_network_is_what_one_customer_holds() {
        let of = |text: &str| Prefix::of(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(of("::ffff:192.0.2.77"), "192.0.2.0/24");
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1::/48");
    }
}
