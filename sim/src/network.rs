//! What is drawn of a wide world besides its [`Topology`]: how each server passes mail on to each domain, who speaks TBR and publishes keys, and
//! when links are up.
//!
//! A wide world has thirteen servers. Three or four of them are sites (TBR §7.4): reached by nobody, connected by times to their custodians, one
//! or two, and to nobody else; what their users send goes there by submission or by upload (and then in a bundle as well). The custodian of a
//! site may be a site. Some relays have a link to each other that is up by times, and in some worlds one of them has a backup exchanger.
//! All others are relays to each other in any order, by custody, by reference or by value, so that a message goes through chains of
//! servers that mix all three.

use std::collections::BTreeMap;
use std::time::Duration;

use mail::Timestamp;
use queue::{Policy, QueueConfig, ReferenceMode};

use crate::chance::Chance;
use crate::scenario::{self, DOMAINS, SERVERS, START, ServerId, Span};
use crate::topology::{Link, Topology};

/// Until when links come up. Everything has ended before.
const CALENDAR: Duration = Duration::from_secs(180 * 24 * 3600);

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Servers that may be without TBR or keys: the primary of a backup exchanger, with that, and one more.
const DIFFERENT: [ServerId; 2] = [5, 6];
const BACKUP: (ServerId, ServerId) = (5, 12);
/// Relays that may be connected to each other by times.
const RELAYS: [ServerId; 6] = [0, 3, 4, 5, 6, 7];

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
    /// Links that are up by times.
    pub calendars: Vec<Calendar>,
    /// How long a site waits for the answer to a claim.
    site_patience: Duration,
    /// Sites that upload what their users send; the others submit it.
    uploading: Vec<ServerId>,
    /// When custodians write bundles for their sites, besides those that answer others.
    pub bundles: Vec<(Link, Timestamp)>,
}

/// When two servers are connected, and how fast.
#[derive(Debug)]
pub struct Calendar {
    /// A site, or a relay.
    pub one: ServerId,
    /// Its custodian, or another relay.
    pub other: ServerId,
    /// The times, in order; none overlap.
    pub spans: Vec<Span>,
    /// Octets a second.
    pub rate: u64,
}

impl Network {
    /// Draws one.
    pub fn new(topology: &Topology, chance: &mut Chance) -> Self {
        let mut ways = BTreeMap::new();
        for server in 0..SERVERS.len() {
            for domain in DOMAINS {
                let way = chance.pick(&[Way::Custody, Way::Custody, Way::Reference, Way::Reference, Way::Value]);
                ways.insert((server, domain), way);
            }
        }
        let sites: Vec<ServerId> = (0..SERVERS.len()).filter(|server| topology.is_site(*server)).collect();
        Self {
            uploading: sites.iter().copied().filter(|_| chance.permille(700)).collect(),
            ways,
            plain: different(chance),
            keyless: different(chance),
            calendars: calendars(topology, chance),
            site_patience: chance.pick(&[HOUR, 3 * DAY]),
            bundles: topology.links().flat_map(|link| bundles(link, chance)).collect(),
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
    pub fn configure(&self, server: ServerId, is_site: bool, config: &mut QueueConfig) {
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
        if is_site {
            config.timers.claim_patience = self.site_patience;
        }
    }

    /// When two servers are connected, if that is by times.
    pub fn calendar(&self, one: ServerId, other: ServerId) -> Option<&Calendar> {
        self.calendars.iter().find(|c| (c.one, c.other) == (one, other) || (c.one, c.other) == (other, one))
    }

    /// Until when the one reaches the other, if it does now.
    pub fn linked_until(
        &self,
        topology: &Topology,
        one: ServerId,
        other: ServerId,
        now: Timestamp,
    ) -> Option<Timestamp> {
        match self.calendar(one, other) {
            Some(calendar) => calendar.up_until(now),
            None if topology.is_site(one) || topology.is_site(other) => None,
            None => Some(now.after(CALENDAR)),
        }
    }
}

fn different(chance: &mut Chance) -> Vec<ServerId> {
    let mut servers: Vec<ServerId> = DIFFERENT.into_iter().filter(|_| chance.permille(250)).collect();
    if servers.contains(&BACKUP.0) {
        servers.push(BACKUP.1);
    }
    servers
}

/// Of every site with each of its custodians, and of some relays.
fn calendars(topology: &Topology, chance: &mut Chance) -> Vec<Calendar> {
    let mut calendars: Vec<Calendar> = Vec::new();
    for Link { site, custodian, .. } in topology.links() {
        if !calendars.iter().any(|known| (known.one, known.other) == (site, custodian)) {
            calendars.push(Calendar::of_site(site, custodian, chance));
        }
    }
    for _ in 0..chance.below(3) {
        let one = chance.below(RELAYS.len() as u64) as usize;
        let other = (one + 1 + chance.below(RELAYS.len() as u64 - 1) as usize) % RELAYS.len();
        calendars.push(Calendar::of_relays(RELAYS[one], RELAYS[other], chance));
    }
    calendars
}

/// For every other link, and most of them while it has not come up yet.
fn bundles(link: Link, chance: &mut Chance) -> Vec<(Link, Timestamp)> {
    let count = if chance.permille(500) { 1 + chance.below(6) } else { 0 };
    (0..count).map(|_| (link, START.after(chance.up_to(6 * DAY)))).collect()
}

impl Calendar {
    /// Links from minutes to hours, pauses from minutes to two days. At some sites nothing comes before they have been without any for
    /// long.
    fn of_site(one: ServerId, other: ServerId, chance: &mut Chance) -> Self {
        let longest_pause = chance.pick(&[2 * HOUR, 12 * HOUR, 2 * DAY]);
        let longest_link = chance.pick(&[10 * MINUTE, 3 * HOUR]);
        let silence = chance.pick(&[Duration::ZERO, Duration::ZERO, 10 * DAY]);
        let (mut at, mut spans) = (START.after(silence), Vec::new());
        while at < START.after(CALENDAR) {
            // Later on there is less to see.
            let shortest_pause = match at.since(START) {
                early if early < 3 * DAY => 10 * MINUTE,
                later if later < 20 * DAY => 3 * HOUR,
                _ => 12 * HOUR,
            };
            let begin = at.after(shortest_pause).after(chance.up_to(longest_pause));
            at = begin.after(MINUTE).after(chance.up_to(longest_link));
            spans.push(Span(begin, at));
        }
        Self { one, other, spans, rate: chance.pick(&[100, 1_000, 100_000]) }
    }

    /// Nobody is told when it comes up: it is up for longer than the longest pause between two tries, and sooner than a receiver
    /// rests that nobody hears.
    fn of_relays(one: ServerId, other: ServerId, chance: &mut Chance) -> Self {
        let (mut at, mut spans) = (START, Vec::new());
        while at < START.after(CALENDAR) {
            let begin = at.after(chance.up_to(15 * HOUR));
            at = begin.after(5 * HOUR).after(chance.up_to(DAY));
            spans.push(Span(begin, at));
        }
        Self { one, other, spans, rate: u64::from(u32::MAX) }
    }

    fn up_until(&self, now: Timestamp) -> Option<Timestamp> {
        let first = self.spans.partition_point(|span| span.1 <= now);
        self.spans.get(first).filter(|span| span.contains(now)).map(|span| span.1)
    }
}
