//! What a seed means: who there is, which mail is sent, and what goes wrong when.
//!
//! Worlds are [`Shape::Five`] or [`Shape::Network`]. In both, what becomes of a recipient follows from its local part, so that the
//! judge knows too. Who takes whose mail is in [`crate::topology`]. In the first there are four domains: `a.example` and `c.example` speak TBR, `b.example` has two servers without shared state, `d.example`
//! knows nothing of TBR; the server of `c.example` also hosts `e.example`. Each server has a repository of its own, and
//! recipients whose mail it passes on, some of them along a way drawn by chance through up to four domains: by custody, or in half of the worlds
//! by delegation at the origin. The second has more servers, and what [`crate::network`] draws of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mail::ledger::{Route, Target};
use mail::{Address, Domain, Timestamp};
use queue::{Policy, QueueConfig, ReferenceMode, Signer};
use reference::SigningKey;

use crate::chance::Chance;
use crate::network::Network;
use crate::topology::{Duty, Link, PRIMARY, Topology};

/// When every world begins.
pub const START: Timestamp = Timestamp::from_secs(1_800_000_000);

/// The servers, by place: name, domain, whether it speaks TBR. The first five are a world of their own.
pub const SERVERS: [(&str, &str, bool); 13] = [
    ("mx.a.example", "a.example", true),
    ("mx1.b.example", "b.example", true),
    ("mx2.b.example", "b.example", true),
    ("mx.c.example", "c.example", true),
    ("mx.d.example", "d.example", false),
    ("mx.f.example", "f.example", true),
    ("mx.g.example", "g.example", true),
    ("mx.h.example", "h.example", true),
    ("site.s.example", "s.example", true),
    ("site.t.example", "t.example", true),
    ("site.u.example", "u.example", true),
    ("mx.v.example", "v.example", true),
    ("backup.f.example", "f.example", true),
];

/// Their domains, for ways through several of them.
pub const DOMAINS: [&str; 12] = [
    "a.example",
    "b.example",
    "c.example",
    "d.example",
    "e.example",
    "f.example",
    "g.example",
    "h.example",
    "s.example",
    "t.example",
    "u.example",
    "v.example",
];

/// How wide a world is. A seed is another world in each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shape {
    /// Five servers, always connected but for faults.
    #[default]
    Five,
    /// Thirteen, three or four of which are sites that are connected by times; who takes whose mail, and ways between them, drawn by chance.
    Network,
}

impl Shape {
    /// How many of [`SERVERS`] there are.
    pub fn servers(self) -> usize {
        match self {
            Self::Five => 5,
            Self::Network => SERVERS.len(),
        }
    }

    /// Who sends, as often as it stands here.
    fn authors(self) -> &'static [ServerId] {
        match self {
            Self::Five => &[0, 0, 0, 3, 3, 4],
            Self::Network => &[0, 0, 0, 3, 4, 5, 6, 8, 9, 10, 11],
        }
    }

    /// Who receives.
    fn hosts(self) -> &'static [&'static str] {
        match self {
            Self::Five => &[
                "b.example",
                "b.example",
                "b.example",
                "c.example",
                "c.example",
                "e.example",
                "d.example",
                "a.example",
            ],
            Self::Network => &[
                "s.example",
                "s.example",
                "t.example",
                "u.example",
                "v.example",
                "v.example",
                "b.example",
                "c.example",
                "e.example",
                "f.example",
                "f.example",
                "g.example",
                "h.example",
                "d.example",
                "a.example",
            ],
        }
    }

    /// Where faults happen, as often as it stands here.
    fn places(self) -> &'static [ServerId] {
        match self {
            Self::Five => &[0, 0, 1, 1, 2, 2, 3, 4],
            Self::Network => &[0, 0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 7, 7, 8, 9, 10, 11, 12],
        }
    }

    /// Servers that a message passes at most after that of its recipient.
    fn longest_way(self) -> u64 {
        match self {
            Self::Five => 4,
            Self::Network => 6,
        }
    }

    /// How many of [`DOMAINS`] there are.
    fn domains(self) -> usize {
        match self {
            Self::Five => 5,
            Self::Network => DOMAINS.len(),
        }
    }
}

/// A server, by its place in [`SERVERS`].
pub type ServerId = usize;

/// Everything that will happen to a world.
#[derive(Debug)]
pub struct Scenario {
    /// How many servers there are.
    pub shape: Shape,
    /// Who takes whose mail.
    pub topology: Arc<Topology>,
    /// What else is drawn of a wide world.
    pub network: Option<Network>,
    /// Mail to be sent.
    pub mails: Vec<Mail>,
    /// Until when things go wrong.
    pub peace: Timestamp,
    /// Lost packets, in a thousand.
    pub loss: u64,
    /// Links that are cut.
    pub partitions: Vec<Partition>,
    /// Servers that are in a bad mood.
    pub moods: Vec<(ServerId, Span, Mood)>,
    /// Crashes at a time, and how long until restart.
    pub crashes: Vec<(ServerId, Timestamp, Duration)>,
    /// Crashes in the middle of an action, and how long until restart.
    pub crashes_at_action: Vec<(ServerId, u64, Duration)>,
    /// Life of a reference.
    pub reference_lifetime: Duration,
    /// Life of a message.
    pub message_lifetime: Duration,
    /// Which domain gets mail by reference only.
    pub required: Option<usize>,
    /// What came by reference and is passed on to another domain is delegated at its origin.
    pub delegation: bool,
}

/// A message to be sent.
#[derive(Debug)]
pub struct Mail {
    /// When.
    pub at: Timestamp,
    /// By which server.
    pub server: ServerId,
    /// `None` for the null sender.
    pub author: Option<Address>,
    /// To whom.
    pub recipients: Vec<Address>,
    /// Its octets.
    pub size: u64,
    /// The author wants to hear of success too.
    pub success: bool,
    /// When a bundle is written that may take it, if it is written at a site.
    pub stick: Option<Timestamp>,
    /// Operators' commands on it.
    pub orders: Vec<(Timestamp, Order)>,
}

/// What operators do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Recall.
    Withdraw,
    /// Give up.
    Fail,
    /// Hold, and release after a while.
    Hold,
    /// Release.
    Release,
    /// Try now.
    Retry,
}

/// From when until when.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub Timestamp, pub Timestamp);

impl Span {
    /// Is this time in it?
    pub fn contains(&self, now: Timestamp) -> bool {
        self.0 <= now && now < self.1
    }
}

/// Two servers cannot reach each other.
#[derive(Debug)]
pub struct Partition {
    /// One of them.
    pub one: ServerId,
    /// The other.
    pub other: ServerId,
    /// When.
    pub span: Span,
    /// By which protocol.
    pub channel: Option<Channel>,
    /// Only what `one` sends to `other` is lost.
    pub one_way: bool,
}

/// How servers talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Mail and offers.
    Smtp,
    /// Retrieval, claims, receipts.
    Https,
}

/// What a server does for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// 4yz to TBR.
    OfferLater,
    /// 5yz to TBR for a reason that by value does not have.
    OfferNever,
    /// 504.
    Decline,
    /// No TBR in EHLO.
    Mute,
    /// Its repository serves other octets.
    Corrupt,
    /// Its ledger refuses everything.
    DiskFull,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Scenario {
    /// The scenario of a seed.
    pub fn new(shape: Shape, chance: &mut Chance) -> Self {
        let topology = Arc::new(match shape {
            Shape::Five => Topology::plain(shape.servers()),
            Shape::Network => Topology::draw(chance),
        });
        let network = (shape == Shape::Network).then(|| Network::new(&topology, chance));
        let chaos = chance.pick(&[HOUR / 2, 6 * HOUR, 40 * HOUR]);
        let peace = START.after(chaos);
        let mails = 2 + chance.below(9);
        let crashing = chance.permille(750);
        let cut = chance.permille(700);
        Self {
            shape,
            mails: (0..mails).map(|number| mail(shape, number, chaos, chance)).collect(),
            peace,
            loss: chance.pick(&[0, 0, 20, 200]),
            partitions: (0..if cut { 1 + chance.below(6) } else { 0 })
                .map(|_| partition(shape, chaos, chance))
                .collect(),
            moods: (0..chance.below(4)).map(|_| mood(shape, chaos, chance)).collect(),
            crashes: (0..if crashing { chance.below(5) } else { 0 })
                .map(|_| (server(shape, chance), START.after(chance.up_to(chaos)), downtime(chaos, chance)))
                .collect(),
            crashes_at_action: (0..if crashing { 1 + chance.below(5) } else { 0 })
                .map(|_| (server(shape, chance), 1 + chance.below(120), downtime(chaos, chance)))
                .collect(),
            reference_lifetime: chance.pick(&[3 * HOUR, 24 * HOUR, 120 * HOUR]),
            message_lifetime: chance.pick(&[24 * HOUR, 120 * HOUR]),
            required: chance.permille(150).then(|| chance.pick(&[1, 3])).filter(|_| shape == Shape::Five),
            delegation: chance.permille(500),
            topology,
            network,
        }
    }

    /// Does it say `TBR 1`?
    pub fn speaks_tbr(&self, server: ServerId) -> bool {
        SERVERS[server].2 && self.network.as_ref().is_none_or(|network| network.speaks_tbr(server))
    }

    /// The domains whose published keys grants are bound to. `e.example` has none, though its server speaks TBR.
    pub fn bound(&self) -> Vec<Domain> {
        let publishes = |server: &ServerId| {
            SERVERS[*server].2 && self.network.as_ref().is_none_or(|network| network.publishes_keys(*server))
        };
        let domains: BTreeSet<&str> =
            (0..self.shape.servers()).filter(publishes).map(|server| SERVERS[server].1).collect();
        domains.into_iter().map(domain).collect()
    }

    /// Until when the one reaches the other by the calendars of their links, if it does now.
    pub fn linked_until(&self, one: ServerId, other: ServerId, now: Timestamp) -> Option<Timestamp> {
        match &self.network {
            Some(network) => network.linked_until(&self.topology, one, other, now),
            None => Some(now.after(1000 * HOUR)),
        }
    }

    /// When links of sites come up, and to which custodian.
    pub fn links(&self) -> Vec<(ServerId, ServerId, Timestamp)> {
        let calendars = self.network.iter().flat_map(|network| &network.calendars);
        let of_sites = calendars.filter(|calendar| self.topology.is_site(calendar.one));
        of_sites.flat_map(|one| one.spans.iter().map(|span| (one.one, one.other, span.0))).collect()
    }

    /// When sites write bundles with mail of theirs.
    pub fn sticks(&self) -> impl Iterator<Item = (Link, Timestamp)> {
        let uploaded = self.mails.iter().filter(|mail| self.uploads(mail.server));
        let first = |site: ServerId| self.topology.links().find(|link| link.site == site);
        uploaded.filter_map(move |mail| Some((first(mail.server)?, mail.stick?)))
    }

    /// When custodians write bundles for their sites.
    pub fn bundles(&self) -> Vec<(Link, Timestamp)> {
        self.network.iter().flat_map(|network| network.bundles.iter().copied()).collect()
    }

    /// Does this site upload what its users send?
    pub fn uploads(&self, site: ServerId) -> bool {
        self.network.as_ref().is_some_and(|network| network.uploads(site))
    }

    /// How fast the link between two servers is, in octets a second.
    pub fn rate(&self, one: ServerId, other: ServerId) -> u64 {
        let calendar = self.network.as_ref().and_then(|network| network.calendar(one, other));
        calendar.map_or(u64::from(u32::MAX), |calendar| calendar.rate)
    }

    /// Is what the one sends to the other lost now?
    pub fn is_cut(&self, from: ServerId, to: ServerId, channel: Channel, now: Timestamp) -> bool {
        self.partitions.iter().any(|cut| {
            let pair = (cut.one, cut.other) == (from, to) || (!cut.one_way && (cut.one, cut.other) == (to, from));
            pair && cut.span.contains(now) && cut.channel.is_none_or(|c| c == channel)
        })
    }

    /// Is this server in this mood now?
    pub fn is_in_mood(&self, server: ServerId, mood: Mood, now: Timestamp) -> bool {
        self.moods.iter().any(|(who, span, what)| *who == server && *what == mood && span.contains(now))
    }

    /// The configuration of a server.
    pub fn config(&self, server: ServerId) -> QueueConfig {
        let topology = self.topology.clone();
        let route = move |address: &Address| targets(&topology, server, address).unwrap_or_default();
        let mut config = QueueConfig::new(domain(SERVERS[server].0), Arc::new(route));
        config.relays_by_reference.insert(PRIMARY.into());
        config.timers.reference_lifetime = self.reference_lifetime;
        config.timers.message_lifetime = self.message_lifetime;
        let publishes_keys = self.network.as_ref().is_none_or(|network| network.publishes_keys(server));
        if self.speaks_tbr(server) && publishes_keys {
            let signers = self.topology.keys_at(server).filter_map(|own| self.signer(server, own));
            config.signers.extend(signers.map(|signer| (signer.domain.clone(), signer)));
        }
        if let Some(network) = &self.network {
            network.configure(server, self.topology.is_site(server), &mut config);
        }
        config.default_policy.may_delegate = self.delegation;
        config.default_policy.delegate_to = self.delegation;
        if let Some(required) = self.required {
            let policy = Policy { mode: ReferenceMode::Require, ..config.default_policy.clone() };
            config.policies.insert(domain(SERVERS[required].1), policy);
        }
        config
    }

    /// The key of a domain for what a server offers in its name: what a site's users send its custodian offers.
    fn signer(&self, server: ServerId, own: Domain) -> Option<Signer> {
        let is_sites_own =
            self.topology.duty(server, own.as_str()) == Some(Duty::Deliver) && self.topology.is_site(server);
        (!is_sites_own).then(|| Signer {
            selector: selector(),
            key: Arc::new(key(&own)),
            repository: self.topology.host(server, own.as_str()),
            domain: own,
            subdomains: false,
        })
    }
}

/// The selector of every key.
pub fn selector() -> reference::Selector {
    parsed("k1")
}

/// The key of a domain.
pub fn key(own: &Domain) -> SigningKey {
    let seed = [own.as_str().as_bytes()[0]; 32];
    SigningKey::from_seed(&seed).unwrap_or_else(|error| unreachable!("a seed is a key: {error}"))
}

/// A name that is known to be good.
pub fn domain(text: &str) -> Domain {
    parsed(text)
}

/// An address that is known to be good.
pub fn address(text: &str) -> Address {
    parsed(text)
}

fn parsed<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| unreachable!("{text} is valid"))
}

/// Where an address leads at a server; `None` if there is no such recipient.
pub fn targets(topology: &Topology, server: ServerId, to: &Address) -> Option<Vec<Target>> {
    let at = |route: Route, address: Address| Target { route, address };
    let there = to.domain()?;
    let route = |there: &str| topology.route(server, domain(there));
    if topology.duty(server, there.as_str()) != Some(Duty::Deliver) {
        return Some(vec![at(route(there.as_str()), to.clone())]);
    }
    let local = to.local();
    let mailbox = |name: String| at(Route::Maildir(name.clone()), address(&format!("{name}@{there}")));
    match kind(to) {
        "nobody" => None,
        "lmtp" => Some(vec![at(Route::Lmtp("store".into()), to.clone())]),
        "list" => Some(vec![mailbox(format!("{local}-x")), mailbox(format!("{local}-y"))]),
        "fwd" => {
            let onward = address(&format!("bob-{local}@d.example"));
            Some(vec![at(route("d.example"), onward)])
        }
        "pass" | "passx" | "via" | "viaf" => {
            let onward = passed_to(to);
            Some(vec![at(route(onward.host()), onward)])
        }
        "many" => {
            let all = spread_to(to).into_iter();
            Some(all.map(|onward| at(route(onward.host()), onward)).collect())
        }
        _ => Some(vec![mailbox(local.to_owned())]),
    }
}

/// Where the recipient's mail is passed on to: another domain that speaks TBR. From `passx` it goes on once more. From `via`
/// it goes the way that its digits say, each a domain of [`DOMAINS`]: through servers without TBR and domains without keys too;
/// from `viaf` to a mailbox that is full.
fn passed_to(recipient: &Address) -> Address {
    let there = if recipient.host() == "b.example" { "c.example" } else { "b.example" };
    let local = recipient.local();
    if let Some((way, number)) = local.strip_prefix("via").and_then(|rest| rest.split_once('-')) {
        let (way, kind, end) = way.strip_prefix('f').map_or((way, "via", "bob"), |way| (way, "viaf", "full"));
        let place = way.chars().next().and_then(|digit| digit.to_ascii_lowercase().to_digit(36));
        let there = place.and_then(|place| DOMAINS.get(place as usize)).copied().unwrap_or(there);
        return match way.get(1..).filter(|onward| !onward.is_empty()) {
            Some(onward) => address(&format!("{kind}{onward}-{number}@{there}")),
            None => address(&format!("{end}-via-{number}@{there}")),
        };
    }
    match local.strip_prefix("passx") {
        Some(number) => address(&format!("pass{number}@{there}")),
        None => address(&format!("bob-{local}@{there}")),
    }
}

/// A list with a member in each of two to five other domains.
fn spread_to(recipient: &Address) -> Vec<Address> {
    let local = recipient.local();
    let number = local.bytes().fold(0, |sum, octet| sum + usize::from(octet));
    let all = (0..DOMAINS.len()).map(|n| DOMAINS[(number + 5 * n) % DOMAINS.len()]);
    let elsewhere = all.filter(|domain| host_of(domain) != host_of(recipient.host()));
    elsewhere.take(2 + number % 4).map(|domain| address(&format!("bob-{local}@{domain}"))).collect()
}

/// `c.example` hosts `e.example` too.
fn host_of(domain: &str) -> &str {
    if domain == "e.example" { "c.example" } else { domain }
}

/// What kind of recipient it is.
pub fn kind(address: &Address) -> &str {
    let local = address.local();
    let end = local.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(local.len());
    &local[..end]
}

/// The mailboxes in which a copy for this recipient ends up.
pub fn mailboxes(recipient: &Address) -> Vec<String> {
    let (local, host) = (recipient.local(), recipient.host());
    match kind(recipient) {
        "nobody" => Vec::new(),
        "list" => vec![format!("{local}-x@{host}"), format!("{local}-y@{host}")],
        "fwd" => vec![format!("bob-{local}@d.example")],
        "pass" | "passx" | "via" | "viaf" => mailboxes(&passed_to(recipient)),
        "many" => spread_to(recipient).iter().map(Address::to_string).collect(),
        _ => vec![recipient.to_string()],
    }
}

/// Every address on the way to the mailboxes, the recipient's own first.
pub fn names(recipient: &Address) -> Vec<String> {
    let own = recipient.to_string();
    let onward = match kind(recipient) {
        "pass" | "passx" | "via" | "viaf" => names(&passed_to(recipient)),
        _ => mailboxes(recipient).into_iter().filter(|mailbox| *mailbox != own).collect(),
    };
    std::iter::once(own).chain(onward).collect()
}

fn mail(shape: Shape, number: u64, chaos: Duration, chance: &mut Chance) -> Mail {
    let server = chance.pick(shape.authors());
    let own = SERVERS[server].1;
    let at = START.after(chance.up_to(chaos));
    let many = shape == Shape::Network && chance.permille(100);
    let count = if many { 5 + chance.below(20) } else { 1 + chance.below(4) };
    let recipients = (0..count).map(|n| recipient(shape, &format!("{number}-{n}"), chance)).collect();
    let orders = if chance.permille(250) { orders(at, chance) } else { Vec::new() };
    let stick = (shape == Shape::Network && chance.permille(400)).then(|| at.after(chance.up_to(3 * HOUR)));
    let author = (!chance.permille(80)).then(|| address(&format!("alice@{own}")));
    let size = 100 + chance.below(100_000);
    Mail { at, server, author, recipients, size, success: chance.permille(100), stick, orders }
}

fn recipient(shape: Shape, suffix: &str, chance: &mut Chance) -> Address {
    let host = chance.pick(shape.hosts());
    if shape == Shape::Network && chance.permille(400) {
        let kind = if chance.permille(200) { "viaf" } else { "via" };
        return address(&format!("{kind}{}-{suffix}@{host}", way(shape, host, chance)));
    }
    if shape == Shape::Network && chance.permille(60) {
        return address(&format!("many{suffix}@{host}"));
    }
    let kind = match chance.below(100) {
        0..50 => "bob",
        50..54 if host != "d.example" => "pass",
        54..60 => return address(&format!("via{}-{suffix}@{host}", way(shape, host, chance))),
        50..70 => "lmtp",
        70..75 => "nobody",
        75..80 => "busy",
        80..85 => "full",
        85..90 => "slow",
        90..95 => "list",
        _ if host == "d.example" => "bob",
        95..97 => "fwd",
        97..99 => "pass",
        _ => "passx",
    };
    address(&format!("{kind}{suffix}@{host}"))
}

/// A way through several domains, a digit for each. No server passes on to itself.
fn way(shape: Shape, from: &'static str, chance: &mut Chance) -> String {
    let (mut here, mut digits) = (from, String::new());
    for _ in 0..1 + chance.below(shape.longest_way()) {
        let elsewhere: Vec<usize> =
            (0..shape.domains()).filter(|place| host_of(DOMAINS[*place]) != host_of(here)).collect();
        let next = chance.pick(&elsewhere);
        digits.extend(char::from_digit(next as u32, 36).map(|digit| digit.to_ascii_uppercase()));
        here = DOMAINS[next];
    }
    digits
}

fn orders(at: Timestamp, chance: &mut Chance) -> Vec<(Timestamp, Order)> {
    let when = at.after(chance.up_to(3 * HOUR));
    match chance.below(10) {
        0..5 => vec![(when, Order::Withdraw)],
        5..7 => vec![(when, Order::Fail)],
        7..8 => vec![(when, Order::Retry)],
        _ => vec![(when, Order::Hold), (when.after(chance.up_to(6 * HOUR)), Order::Release)],
    }
}

fn server(shape: Shape, chance: &mut Chance) -> ServerId {
    chance.pick(shape.places())
}

fn span(chaos: Duration, chance: &mut Chance) -> Span {
    let from = START.after(chance.up_to(chaos));
    let long = if chance.permille(500) { chance.up_to(chaos) } else { chance.millis(0, chaos.as_millis() as u64) };
    Span(from, from.after(long).min(START.after(chaos)))
}

fn partition(shape: Shape, chaos: Duration, chance: &mut Chance) -> Partition {
    let (one, count) = (server(shape, chance), shape.servers());
    let other = (one + 1 + chance.below(count as u64 - 1) as usize) % count;
    let channel = chance.pick(&[None, Some(Channel::Https), Some(Channel::Https), Some(Channel::Smtp)]);
    Partition { one, other, span: span(chaos, chance), channel, one_way: chance.permille(400) }
}

fn mood(shape: Shape, chaos: Duration, chance: &mut Chance) -> (ServerId, Span, Mood) {
    let all = [Mood::OfferLater, Mood::OfferNever, Mood::Decline, Mood::Mute, Mood::Corrupt, Mood::DiskFull];
    (server(shape, chance), span(chaos, chance), chance.pick(&all))
}

fn downtime(chaos: Duration, chance: &mut Chance) -> Duration {
    chance.up_to(chaos / 4).max(Duration::from_millis(10))
}
