//! Where mail for an address goes: domains, aliases, accounts, sub-addresses, postmaster, smart host.
//!
//! Pure but for [`Router::load`], which reads the files that the configuration names. Asking LMTP servers and next hops
//! whether they know somebody is the caller's: see [`Resolution::Probe`].

pub mod files;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mail::ledger::{Route, Target};
use mail::{Address, Domain, Holder};

use crate::accounts::{Account, Accounts};
use crate::config::{Config, Deliver, LocalDomain, Recipients};

pub use files::{FileMistake, RoutingErrors};

/// Longest chain of aliases.
const MAX_DEPTH: usize = 16;
/// Most destinations of one address.
const MAX_TARGETS: usize = 1000;

/// Knows where mail goes. Made anew on reload.
#[derive(Debug, Clone)]
pub struct Router {
    domains: BTreeMap<Domain, Table>,
    smart_host: Option<String>,
    postmaster: Option<Address>,
    hostname: Domain,
    accounts: Accounts,
}

/// One local domain with what its files hold.
#[derive(Debug, Clone)]
struct Table {
    domain: LocalDomain,
    known: Known,
    /// Of the configuration and of the file; the former win.
    aliases: BTreeMap<String, Vec<Address>>,
}

/// Who is in a domain.
#[derive(Debug, Clone)]
enum Known {
    Accounts,
    Names(BTreeSet<String>),
    Probe,
    Any,
}

/// What becomes of an address at RCPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// It is ours and goes there.
    Local(Vec<Target>),
    /// It is ours and goes to `targets`, if those of them in `ask` are known to their server.
    Probe {
        /// All destinations.
        targets: Vec<Target>,
        /// The ones to ask for.
        ask: Vec<Target>,
    },
    /// The domain is ours, the recipient does not exist: 550 5.1.1.
    Unknown,
    /// The domain is not ours: [`Router::outgoing`], for those who may relay.
    NotOurs,
    /// Aliases lead in a circle, or to too many: 451 4.3.5, an operator has to mend it.
    Loop,
}

/// Aliases lead in a circle, are too deep or too many.
struct Circle;

/// Destinations found so far.
#[derive(Default)]
struct Found {
    targets: Vec<Target>,
    ask: Vec<Target>,
}

impl Found {
    fn add(&mut self, target: Target) {
        if !self.targets.contains(&target) {
            self.targets.push(target);
        }
    }
}

impl Router {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// All mistakes in them, with file and line.
    pub fn load(config: &Config, accounts: Accounts) -> Result<Self, RoutingErrors> {
        let mut mistakes = Vec::new();
        let mut domains = BTreeMap::new();
        for domain in config.domains.values() {
            let known = match &domain.recipients {
                Recipients::Accounts => Known::Accounts,
                Recipients::List(names) => Known::Names(names.clone()),
                Recipients::File(path) => Known::Names(files::recipients(path, &domain.name, &mut mistakes)),
                Recipients::Probe => Known::Probe,
                Recipients::Any => Known::Any,
            };
            let mut aliases = match &domain.alias_file {
                Some(path) => files::aliases(path, &domain.name, &mut mistakes),
                None => BTreeMap::new(),
            };
            aliases.extend(domain.aliases.clone());
            domains.insert(domain.name.clone(), Table { domain: domain.clone(), known, aliases });
        }
        if !mistakes.is_empty() {
            return Err(RoutingErrors(mistakes));
        }
        let (smart_host, postmaster) = (config.smart_host.clone(), config.postmaster.clone());
        Ok(Self { domains, smart_host, postmaster, hostname: config.hostname.clone(), accounts })
    }

    /// What becomes of this recipient?
    pub fn resolve(&self, address: &Address) -> Resolution {
        let Some(address) = self.placed(address) else {
            return if address.is_postmaster() { self.bare_postmaster() } else { Resolution::NotOurs };
        };
        if !self.is_ours(&address) {
            return Resolution::NotOurs;
        }
        let mut found = Found::default();
        match self.expand(&address, &mut Vec::new(), &mut found) {
            Err(Circle) => Resolution::Loop,
            Ok(()) if found.targets.is_empty() => Resolution::Unknown,
            Ok(()) if found.ask.is_empty() => Resolution::Local(found.targets),
            Ok(()) => Resolution::Probe { targets: found.targets, ask: found.ask },
        }
    }

    /// Where mail for somebody else's domain goes; `None` for an address literal without a smart host: such addresses
    /// name no domain whose mail exchangers could be asked for.
    pub fn outgoing(&self, address: &Address) -> Option<Target> {
        let route = match &self.smart_host {
            Some(name) => Route::Relay(name.clone()),
            None => Route::Mx(address.domain()?),
        };
        Some(Target { route, address: address.clone() })
    }

    /// Where mail that this server itself writes, or takes from those who may relay, goes: local recipients, or out.
    /// Nothing where there is no such recipient.
    pub fn targets(&self, address: &Address) -> Vec<Target> {
        match self.resolve(address) {
            Resolution::Local(targets) | Resolution::Probe { targets, .. } => targets,
            Resolution::NotOurs => self.outgoing(address).into_iter().collect(),
            Resolution::Unknown | Resolution::Loop => Vec::new(),
        }
    }

    /// The Maildir of [`Route::Maildir`]; `None` where the configuration has none for it any more.
    pub fn maildir(&self, mailbox: &str) -> Option<PathBuf> {
        let (user, domain) = mailbox.rsplit_once('@')?;
        let domain = Domain::parse(domain).ok()?;
        match &self.domains.get(&domain)?.domain.deliver {
            Deliver::Maildir(pattern) => Some(pattern.path(&domain, user)),
            _ => None,
        }
    }

    /// Is the mail of this domain ours?
    pub fn serves(&self, domain: &Domain) -> bool {
        self.domains.contains_key(domain)
    }

    /// The accounts.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// May this account send as this address?
    pub fn may_send_as(&self, account: &Account, address: &Address) -> bool {
        let table = address.domain().and_then(|domain| self.domains.get(&domain));
        account.may_send_as(address, table.and_then(|table| table.domain.subaddress_separator))
    }

    /// Is this an address of a site: of its domain or one below it, or of its one user, sub-addresses included?
    pub fn is_of_site(&self, address: &Address, site: &Holder) -> bool {
        let Some(domain) = address.domain() else { return false };
        let Some(user) = site.user_name() else { return domain.is_within(site.domain()) };
        let separator = self.domains.get(&domain).and_then(|table| table.domain.subaddress_separator);
        let base = without_subaddress(address, separator);
        domain == *site.domain() && local_key(base.as_ref().unwrap_or(address)) == user
    }

    /// Aliases in local domains that lead nowhere or in a circle: for `restante check config`.
    pub fn dangling(&self) -> Vec<Address> {
        let names = |table: &Table| {
            let domain = table.domain.name.clone();
            table.aliases.keys().filter_map(|name| unkey(name, &domain)).collect::<Vec<_>>()
        };
        let bad = |address: &Address| matches!(self.resolve(address), Resolution::Unknown | Resolution::Loop);
        self.domains.values().flat_map(names).filter(bad).collect()
    }

    /// Names in the configuration that mail is to go to and that nobody here has: domain by domain its catch-all, and the
    /// postmaster of all; for `restante check config`.
    pub fn nobody_at(&self) -> Vec<(&'static str, Address)> {
        let unknown = |address: &&Address| matches!(self.resolve(address), Resolution::Unknown | Resolution::Loop);
        let catch_alls =
            self.domains.values().filter_map(|table| Some(("catch_all", table.domain.catch_all.as_ref()?)));
        let postmaster = self.postmaster.as_ref().map(|address| ("postmaster", address));
        let all = catch_alls.chain(postmaster);
        all.filter(|(_, address)| unknown(address)).map(|(field, address)| (field, address.clone())).collect()
    }

    /// The address with a domain: a bare postmaster is this server's own.
    fn placed(&self, address: &Address) -> Option<Address> {
        if address.domain().is_some() {
            return Some(address.clone());
        }
        let around = |domain: &&Domain| self.hostname.is_within(domain);
        let domain = self.domains.keys().find(around).or_else(|| self.domains.keys().next());
        Address::new(address.is_postmaster().then_some("postmaster")?, domain?).ok()
    }

    /// A server without local domains has a postmaster, if one is configured.
    fn bare_postmaster(&self) -> Resolution {
        match self.postmaster.as_ref().and_then(|address| self.outgoing(address)) {
            Some(target) => Resolution::Local(vec![target]),
            None => Resolution::Unknown,
        }
    }

    fn is_ours(&self, address: &Address) -> bool {
        address.domain().is_some_and(|domain| self.serves(&domain))
    }

    /// Adds the destinations of an address; none if it does not exist. `path` holds the aliases on the way: an alias that
    /// names itself means its own mailbox.
    fn expand(&self, address: &Address, path: &mut Vec<Address>, found: &mut Found) -> Result<(), Circle> {
        let table = address.domain().and_then(|domain| self.domains.get(&domain));
        let Some(table) = table else {
            self.outgoing(address).into_iter().for_each(|target| found.add(target));
            return Ok(());
        };
        if path.len() >= MAX_DEPTH || found.targets.len() >= MAX_TARGETS {
            return Err(Circle);
        }
        let base = without_subaddress(address, table.domain.subaddress_separator);
        for candidate in std::iter::once(address).chain(base.as_ref()) {
            let visited =
                path.iter().any(|seen| seen.host() == candidate.host() && local_key(seen) == local_key(candidate));
            if let Some(targets) = table.aliases.get(&local_key(candidate)).filter(|_| !visited) {
                return self.follow(candidate, targets, path, found);
            }
            if takes_reports(table, candidate) && !self.is_somebody(table, candidate) {
                found.add(Target { route: Route::Reports, address: address.clone() });
                return Ok(());
            }
            if self.is_known(table, candidate) {
                self.deliver(table, address, candidate, found);
                return Ok(());
            }
            if visited {
                return Err(Circle);
            }
        }
        self.nobody(table, address, path, found)
    }

    fn follow(
        &self,
        alias: &Address,
        targets: &[Address],
        path: &mut Vec<Address>,
        found: &mut Found,
    ) -> Result<(), Circle> {
        path.push(alias.clone());
        let done = targets.iter().try_for_each(|target| self.expand(target, path, found));
        path.pop();
        done
    }

    fn is_known(&self, table: &Table, address: &Address) -> bool {
        let is_known = match &table.known {
            Known::Accounts => self.owner(address).is_some(),
            Known::Names(names) => names.contains(&local_key(address)),
            Known::Probe | Known::Any => true,
        };
        is_known || table.domain.user(&local_key(address)).is_some()
    }

    /// Is it known to be somebody's own name?
    fn is_somebody(&self, table: &Table, address: &Address) -> bool {
        match &table.known {
            Known::Probe | Known::Any => false,
            Known::Accounts | Known::Names(_) => self.is_known(table, address),
        }
    }

    fn owner(&self, address: &Address) -> Option<&Account> {
        self.accounts.iter().find(|account| account.receives(address))
    }

    /// To somebody who exists. `address` as it was written, `known` as it was found: without the sub-address perhaps.
    fn deliver(&self, table: &Table, address: &Address, known: &Address, found: &mut Found) {
        let primary = match &table.known {
            Known::Accounts => self.owner(known).and_then(Account::primary),
            _ => None,
        };
        let elsewhere = primary.and_then(|primary| Some((primary, self.domains.get(&primary.domain()?)?)));
        match elsewhere {
            Some((primary, other)) if primary.host() != known.host() || local_key(primary) != local_key(known) => {
                found.add(mailbox(other, primary, primary));
            }
            _ => {
                let target = mailbox(table, address, known);
                let is_elsewhere = matches!(table.known, Known::Probe) && !matches!(target.route, Route::Site(_));
                if is_elsewhere && !address.is_postmaster() {
                    found.ask.push(target.clone());
                }
                found.add(target);
            }
        }
    }

    /// Nobody has the name: postmaster, catch-all, and where the others are. RFC 5321 §4.5.1: postmaster is never refused.
    fn nobody(
        &self,
        table: &Table,
        address: &Address,
        path: &mut Vec<Address>,
        found: &mut Found,
    ) -> Result<(), Circle> {
        let fallback = if address.is_postmaster() { self.postmaster.as_ref() } else { None };
        let fallback = fallback.or(table.domain.catch_all.as_ref());
        let visited = path.iter().any(|seen| seen == address);
        if let Some(fallback) = fallback.filter(|fallback| *fallback != address && !visited) {
            return self.follow(address, std::slice::from_ref(fallback), path, found);
        }
        if let Some(name) = &table.domain.others {
            found.add(Target { route: Route::Relay(name.clone()), address: address.clone() });
            return Ok(());
        }
        if address.is_postmaster() {
            let first = self.accounts.iter().filter_map(Account::primary).find(|a| a.host() == address.host());
            let person = first.filter(|_| matches!(table.known, Known::Accounts)).unwrap_or(address);
            found.add(mailbox(table, person, person));
        }
        Ok(())
    }
}

/// Is it the domain's address for reports?
fn takes_reports(table: &Table, address: &Address) -> bool {
    table.domain.report_address.as_ref().is_some_and(|name| *name == local_key(address))
}

/// The destination of mail for a recipient of a local domain.
fn mailbox(table: &Table, address: &Address, known: &Address) -> Target {
    let base = without_subaddress(known, table.domain.subaddress_separator);
    let base = base.filter(|_| matches!(table.known, Known::Any | Known::Probe));
    let owner = base.as_ref().unwrap_or(known);
    if let Some(user) = table.domain.user(&local_key(owner)) {
        return Target { route: Route::Site(user.holder.clone()), address: address.clone() };
    }
    let route = match &table.domain.deliver {
        Deliver::Maildir(_) => Route::Maildir(format!("{}@{}", local_key(owner), owner.host())),
        Deliver::Lmtp(name) => Route::Lmtp(name.clone()),
        Deliver::Relay(name) => Route::Relay(name.clone()),
        Deliver::Site => Route::Site(table.domain.name.clone().into()),
        Deliver::OnDemand => Route::OnDemand(table.domain.name.clone()),
        Deliver::Discard => Route::Discard,
    };
    Target { route, address: address.clone() }
}

/// What a local part is looked up by: quotes removed, lower case.
pub fn local_key(address: &Address) -> String {
    address.unquoted_local().to_lowercase()
}

/// An address for a name as it is looked up by.
fn unkey(name: &str, domain: &Domain) -> Option<Address> {
    let quoted = || format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    Address::new(name, domain).or_else(|_| Address::new(&quoted(), domain)).ok()
}

/// `alice+lists@a.example` → `alice@a.example`; `None` where there is no sub-address.
pub fn without_subaddress(address: &Address, separator: Option<char>) -> Option<Address> {
    let local = address.unquoted_local();
    let (base, _) = local.split_once(separator?)?;
    unkey(base, &address.domain()?).filter(|_| !base.is_empty())
}
