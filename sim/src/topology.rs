//! Who takes whose mail: at which server a domain's mailboxes are, who keeps its mail until that server asks or is back, and where what a server
//! sends goes.
//!
//! A domain has stations. The last one has its mailboxes. Before it stand custodians, one behind the other or side by side, whom
//! the next station asks for what they keep (TBR §7.4); or a backup exchanger, which passes on to the next station by itself (TBR §5).

use mail::Domain;
use mail::ledger::Route;

use crate::chance::Chance;
use crate::scenario::{self, DOMAINS, SERVERS, ServerId};

/// Where a custodian's site sends what its users write, in routes.
const CUSTODIAN: &str = "custodian";
/// Where a backup exchanger passes mail on to.
pub const PRIMARY: &str = "primary";
/// The backup exchanger, for the domain of this server.
const BACKUP: (ServerId, ServerId) = (12, 5);
/// Servers that may keep mail for sites.
const CUSTODIANS: [ServerId; 3] = [0, 3, 7];

/// What a server does with mail for a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// The mailboxes are here.
    Deliver,
    /// It waits until this server asks.
    Keep(ServerId),
    /// It goes on to this server.
    PassOn(ServerId),
}

/// A site's link to a custodian, for the mail of one domain: its own, or that of a site behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    /// Who asks.
    pub site: ServerId,
    /// Who keeps it.
    pub custodian: ServerId,
    /// Whose mail.
    pub domain: &'static str,
}

/// Who takes whose mail.
#[derive(Debug, Default)]
pub struct Topology {
    stations: Vec<(&'static str, ServerId, Duty)>,
}

impl Topology {
    /// Servers that have mailboxes, and nothing else.
    pub fn plain(servers: usize) -> Self {
        let own =
            SERVERS.iter().take(servers).enumerate().map(|(server, (_, domain, _))| (*domain, server, Duty::Deliver));
        let mut stations: Vec<_> = own.filter(|(_, server, _)| *server != BACKUP.0).collect();
        stations.push(("e.example", 3, Duty::Deliver));
        Self { stations }
    }

    /// Draws one with sites.
    pub fn draw(chance: &mut Chance) -> Self {
        let mut topology = Self::plain(SERVERS.len());
        for site in [8, 9, 10] {
            topology.add_site(site, chance);
        }
        if chance.permille(500) {
            topology.add_site_behind(11, chance);
        }
        if chance.permille(600) {
            topology.stations.push((SERVERS[BACKUP.1].1, BACKUP.0, Duty::PassOn(BACKUP.1)));
        }
        topology
    }

    /// A site with one custodian, or with two.
    fn add_site(&mut self, site: ServerId, chance: &mut Chance) {
        let first = chance.below(3) as usize;
        self.stations.push((SERVERS[site].1, CUSTODIANS[first], Duty::Keep(site)));
        if chance.permille(300) {
            self.stations.push((SERVERS[site].1, CUSTODIANS[(first + 1) % 3], Duty::Keep(site)));
        }
    }

    /// A site whose custodian is itself a site: what is for it waits first where that one's mail does.
    fn add_site_behind(&mut self, site: ServerId, chance: &mut Chance) {
        let (domain, before) = (SERVERS[site].1, chance.pick(&[8, 9, 10]));
        let keepers: Vec<ServerId> = self.custodians(before).collect();
        self.stations.extend(keepers.into_iter().map(|keeper| (domain, keeper, Duty::Keep(before))));
        self.stations.push((domain, before, Duty::Keep(site)));
    }

    /// What a server does with mail for a domain; `None`: nothing, it is another's.
    pub fn duty(&self, server: ServerId, domain: &str) -> Option<Duty> {
        let found = self.stations.iter().find(|(of, at, _)| *of == domain && *at == server);
        found.map(|(_, _, duty)| *duty)
    }

    /// The servers that others send a domain's mail to, the best first.
    pub fn exchangers(&self, domain: &str) -> Vec<ServerId> {
        let is_best = |duty: &Duty| !matches!(duty, Duty::PassOn(_));
        let here = self.stations.iter().filter(|(of, at, _)| *of == domain && !self.is_site(*at));
        let (best, backup): (Vec<_>, Vec<_>) = here.partition(|(_, _, duty)| is_best(duty));
        best.into_iter().chain(backup).map(|(_, at, _)| at).collect()
    }

    /// Those who keep mail for a server until it asks: a site. What its users send goes to them, and first to the first.
    pub fn custodians(&self, site: ServerId) -> impl Iterator<Item = ServerId> {
        let own = SERVERS[site].1;
        let keepers = self.stations.iter().filter(move |(of, _, duty)| *of == own && *duty == Duty::Keep(site));
        keepers.map(|(_, at, _)| *at)
    }

    /// The first custodian of a site.
    pub fn custodian(&self, site: ServerId) -> Option<ServerId> {
        self.custodians(site).next()
    }

    /// Is this server connected to its custodians only, and by times?
    pub fn is_site(&self, server: ServerId) -> bool {
        self.custodian(server).is_some()
    }

    /// What sites ask for, and whom.
    pub fn links(&self) -> impl Iterator<Item = Link> {
        self.stations.iter().filter_map(|(domain, custodian, duty)| match duty {
            Duty::Keep(site) => Some(Link { site: *site, custodian: *custodian, domain }),
            Duty::Deliver | Duty::PassOn(_) => None,
        })
    }

    /// How many stations mail for a domain still passes after this server; `None`: it is no station of it.
    pub fn stations_left(&self, server: ServerId, domain: &str) -> Option<usize> {
        match self.duty(server, domain)? {
            Duty::Deliver => Some(0),
            Duty::Keep(next) | Duty::PassOn(next) => Some(1 + self.stations_left(next, domain)?),
        }
    }

    /// The domains whose keys a server has: its own, and those that it is a station of. `e.example` has none.
    pub fn keys_at(&self, server: ServerId) -> impl Iterator<Item = Domain> {
        let here = self.stations.iter().filter(move |(domain, at, _)| *at == server && *domain != "e.example");
        here.map(|(domain, ..)| scenario::domain(domain))
    }

    /// How a server sends to a domain whose mailboxes are elsewhere.
    pub fn route(&self, server: ServerId, there: Domain) -> Route {
        match self.duty(server, there.as_str()) {
            Some(Duty::Keep(_)) => Route::Site(there.into()),
            Some(Duty::PassOn(_)) => Route::Relay(PRIMARY.into()),
            Some(Duty::Deliver) | None if self.is_site(server) => Route::Relay(CUSTODIAN.into()),
            Some(Duty::Deliver) | None => Route::Mx(there),
        }
    }

    /// Whom a server connects to for a route.
    pub fn next_hops(&self, server: ServerId, route: &Route) -> Vec<ServerId> {
        match route {
            Route::Mx(domain) => self.exchangers(domain.as_str()),
            Route::Relay(name) if name == PRIMARY => vec![BACKUP.1],
            Route::Relay(_) => self.custodians(server).collect(),
            _ => Vec::new(),
        }
    }

    /// The host under which a server serves what it offers in the name of a domain.
    pub fn host(&self, server: ServerId, domain: &str) -> Domain {
        let (name, own, _) = SERVERS[server];
        let is_own = own == domain && self.duty(server, domain) == Some(Duty::Deliver);
        scenario::domain(&if is_own { format!("tbr.{name}") } else { format!("tbr{server}.{domain}") })
    }

    /// All of these hosts of a domain. A site serves nothing of its own.
    pub fn hosts(&self, domain: &str) -> Vec<Domain> {
        let serving = self
            .stations
            .iter()
            .filter(|(of, at, duty)| *of == domain && (*duty != Duty::Deliver || !self.is_site(*at)));
        serving.map(|(_, at, _)| self.host(*at, domain)).collect()
    }

    /// Whose host that is.
    pub fn server_at(&self, host: &Domain) -> Option<ServerId> {
        let found = self.stations.iter().find(|(domain, at, _)| self.host(*at, domain) == *host);
        found.map(|(_, at, _)| *at)
    }

    /// Those whose mail a server takes from others.
    pub fn takes(&self, server: ServerId, domain: &Domain) -> bool {
        self.duty(server, domain.as_str()).is_some()
    }

    /// Domains, each once, that users of a server could write to.
    pub fn domains(&self) -> impl Iterator<Item = &'static str> {
        DOMAINS.into_iter().filter(|domain| self.stations.iter().any(|(of, ..)| of == domain))
    }
}
