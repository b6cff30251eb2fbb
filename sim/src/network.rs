//! What is drawn of a wide world: how each server passes mail on to each domain, who speaks TBR and publishes keys, and when
//! the links of sites are up.
//!
//! A wide world has ten servers. Two of them are sites (TBR §7.4): reached by nobody, connected by times to their custodian and to nobody
//! else; what their users send goes there by submission or by upload (and then in a bundle as well). The others are relays to each other
//! in any order, by custody, by reference or by value, so that a message goes through chains of two to five servers that mix all three.

use std::collections::BTreeMap;
use std::time::Duration;

use mail::{Domain, Timestamp};
use queue::{Policy, QueueConfig, ReferenceMode};

use crate::chance::Chance;
use crate::scenario::{self, DOMAINS, SERVERS, START, ServerId, Span};

/// Sites, and the custodian of each.
const SITES: [(ServerId, ServerId); 2] = [(8, 7), (9, 3)];

/// Until when links come up. Everything has ended long before.
const CALENDAR: Duration = Duration::from_secs(100 * 24 * 3600);

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How a server passes on what came by reference (TBR §7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By custody.
    Custody,
    /// By delegation at the origin.
    Reference,
    /// By value.
    Value,
}

/// What is drawn of a wide world.
#[derive(Debug)]
pub struct Network {
    ways: BTreeMap<(ServerId, &'static str), Way>,
    /// Servers without TBR.
    plain: Vec<ServerId>,
    /// Servers whose domain publishes no keys: they sign nothing, and grants for them are bound to nothing.
    keyless: Vec<ServerId>,
    /// The links of sites.
    pub calendars: Vec<Calendar>,
    /// How long a site waits for the answer to a claim.
    site_patience: Duration,
    /// Sites that upload what their users send; the others submit it.
    uploading: Vec<ServerId>,
    /// When custodians write bundles for their sites, besides those that answer others.
    pub bundles: Vec<(ServerId, Timestamp)>,
}

/// When a site is connected to its custodian, and how fast.
#[derive(Debug)]
pub struct Calendar {
    /// Who is connected some of the time.
    pub site: ServerId,
    /// The times, in order; none overlap.
    pub spans: Vec<Span>,
    /// Octets a second.
    pub rate: u64,
}

/// The custodian of a site; nothing for any other server.
pub fn custodian(site: ServerId) -> Option<ServerId> {
    SITES.iter().find(|(of, _)| *of == site).map(|(_, custodian)| *custodian)
}

/// Is this server connected some of the time only?
pub fn is_site(server: ServerId) -> bool {
    custodian(server).is_some()
}

/// Is `own` the domain of a site?
pub fn is_sites(own: &Domain) -> bool {
    SITES.iter().any(|(site, _)| SERVERS[*site].1 == own.as_str())
}

/// Does the server of the first domain keep mail for the second, which is a site's?
pub fn keeps(own: &Domain, domain: &Domain) -> bool {
    let is_pair = |(site, custodian): &(ServerId, ServerId)| {
        SERVERS[*site].1 == domain.as_str() && SERVERS[*custodian].1 == own.as_str()
    };
    SITES.iter().any(is_pair)
}

/// Whose keys this server has: its own, and those of the sites that it keeps mail for.
pub fn keys_at(server: ServerId) -> impl Iterator<Item = ServerId> {
    std::iter::once(server)
        .chain(SITES.iter().filter(move |(_, custodian)| *custodian == server).map(|(site, _)| *site))
}

impl Network {
    /// Draws one.
    pub fn new(chance: &mut Chance) -> Self {
        let mut ways = BTreeMap::new();
        for server in 0..SERVERS.len() {
            for domain in DOMAINS {
                let way = chance.pick(&[Way::Custody, Way::Custody, Way::Reference, Way::Reference, Way::Value]);
                ways.insert((server, domain), way);
            }
        }
        let some = |of: &[ServerId], chance: &mut Chance| -> Vec<ServerId> {
            of.iter().copied().filter(|_| chance.permille(250)).collect()
        };
        Self {
            uploading: SITES.iter().map(|(site, _)| *site).filter(|_| chance.permille(700)).collect(),
            ways,
            plain: some(&[5, 6], chance),
            keyless: some(&[5, 6], chance),
            calendars: SITES.iter().map(|(site, _)| Calendar::new(*site, chance)).collect(),
            site_patience: chance.pick(&[HOUR, 3 * DAY]),
            bundles: SITES.iter().flat_map(|(site, _)| bundles(*site, chance)).collect(),
        }
    }

    /// Does it say `TBR 1`?
    pub fn speaks_tbr(&self, server: ServerId) -> bool {
        !self.plain.contains(&server)
    }

    /// Does its domain publish keys?
    pub fn publishes_keys(&self, server: ServerId) -> bool {
        !self.keyless.contains(&server) && self.speaks_tbr(server)
    }

    /// Does this site upload what its users send?
    pub fn uploads(&self, site: ServerId) -> bool {
        self.uploading.contains(&site)
    }

    /// What the network says in a server's configuration.
    pub fn configure(&self, server: ServerId, config: &mut QueueConfig) {
        for domain in DOMAINS {
            let way = self.ways.get(&(server, domain)).copied().unwrap_or(Way::Custody);
            let policy = Policy {
                mode: if way == Way::Value { ReferenceMode::Never } else { ReferenceMode::Prefer },
                delegate_to: way == Way::Reference,
                may_delegate: true,
                ..Policy::default()
            };
            config.policies.insert(scenario::domain(domain), policy);
        }
        if is_site(server) {
            config.timers.claim_patience = self.site_patience;
        }
    }

    /// Until when the one reaches the other, if it does now.
    pub fn linked_until(&self, one: ServerId, other: ServerId, now: Timestamp) -> Option<Timestamp> {
        let Some(calendar) = self.calendars.iter().find(|c| c.site == one || c.site == other) else {
            return Some(now.after(CALENDAR));
        };
        let ends = if calendar.site == one { other } else { one };
        let up = calendar.spans.iter().find(|span| span.contains(now))?;
        (custodian(calendar.site) == Some(ends)).then_some(up.1)
    }
}

/// For every other site, and most of them while links have not come up yet.
fn bundles(site: ServerId, chance: &mut Chance) -> Vec<(ServerId, Timestamp)> {
    let count = if chance.permille(500) { 1 + chance.below(6) } else { 0 };
    (0..count).map(|_| (site, START.after(chance.up_to(6 * DAY)))).collect()
}

impl Calendar {
    /// Links from minutes to hours, pauses from minutes to two days. At some sites nothing comes before they have been without any for
    /// long.
    fn new(site: ServerId, chance: &mut Chance) -> Self {
        let longest_pause = chance.pick(&[2 * HOUR, 12 * HOUR, 2 * DAY]);
        let longest_link = chance.pick(&[10 * MINUTE, 3 * HOUR]);
        let silence = chance.pick(&[Duration::ZERO, Duration::ZERO, 10 * DAY]);
        let (mut spans, mut at) = (Vec::new(), START.after(silence));
        while at < START.after(CALENDAR) {
            // Later on there is less to see.
            let shortest_pause = if at < START.after(3 * DAY) { 10 * MINUTE } else { 3 * HOUR };
            let begin = at.after(shortest_pause).after(chance.up_to(longest_pause));
            let end = begin.after(MINUTE).after(chance.up_to(longest_link));
            spans.push(Span(begin, end));
            at = end;
        }
        Self { site, spans, rate: chance.pick(&[100, 1_000, 100_000]) }
    }
}
