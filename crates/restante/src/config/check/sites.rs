//! Sites that are connected some of the time: domains that wait here for theirs, and custodians where ours wait.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use mail::{Domain, Holder};
use policy::allowance::Allowance;
use reference::{Selector, VerifyingKey};
use toml::de::DeValue;

use super::Read;
use super::peers;
use super::raw::{RawDeliver, RawOthers, RawRecipients};
use crate::config::read::{Cursor, FromToml, Wrong};
use crate::config::{
    Custodian, Deliver, DomainSite, DomainTbr, DomainUser, LocalDomain, Network, Schedule, TimeOfDay, Way,
};

/// Shortest time between two questions.
const SHORTEST: Duration = Duration::from_secs(1);

impl FromToml for VerifyingKey {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let text = String::from_toml(value, base)?;
        text.parse().map_err(|_| vec![Wrong::new(format!("`{text}` is no public key: 43 characters of base64url"))])
    }
}

impl FromToml for TimeOfDay {
    fn from_toml(value: &DeValue<'_>, base: &Path) -> Result<Self, Vec<Wrong>> {
        let text = String::from_toml(value, base)?;
        Self::parse(&text).ok_or_else(|| vec![Wrong::new(format!("`{text}` is no time of the day such as \"06:00\""))])
    }
}

/// `[domain.site]`; it means something only where the domain is delivered so.
pub(super) fn of_domain(
    table: &Cursor<'_>,
    deliver: Option<&RawDeliver>,
    recipients: Option<&RawRecipients>,
    has_key: bool,
) -> Option<Option<DomainSite>> {
    let site = table.optional_child("site").map(site_keys);
    let is_elsewhere = matches!(deliver, Some(RawDeliver::Site | RawDeliver::OnDemand));
    if is_elsewhere && recipients == Some(&RawRecipients::Accounts) {
        let help = "name them by a list or a file, or write \"any\"; the site refuses whom it does not know";
        table.mistake("recipients", "accounts here say nothing of who is at the site", help);
    }
    if deliver != Some(&RawDeliver::Site) {
        return Some(None);
    }
    if !has_key {
        let help = "add [domain.tbr] with a key of this server's own; the site publishes it under its selector";
        table.mistake("deliver", "a custodian signs in the name of its site", help);
    }
    let Some(site) = site else {
        let help = "add [domain.site] with the `keys` that `restante keys generate` printed at the site";
        table.mistake("deliver", "nobody could ask for what waits for this site", help);
        return None;
    };
    site.map(Some)
}

/// `[[domain.user]]`: users of a domain that wait for their own, whatever becomes of the others' mail.
pub(super) fn users(
    table: &Cursor<'_>,
    name: Option<&Domain>,
    deliver: Option<&RawDeliver>,
    tbr: Option<&DomainTbr>,
) -> Vec<DomainUser> {
    let tables = table.children("user");
    let is_elsewhere = matches!(deliver, Some(RawDeliver::Site | RawDeliver::OnDemand));
    if let Some(first) = tables.first() {
        if is_elsewhere {
            let help = "leave [[domain.user]] out, or deliver the others' mail in another way";
            first.mistake("name", "all mail of this domain waits for its site already", help);
        }
        if !tbr.is_some_and(|tbr| tbr.offers) {
            let help = "add [domain.tbr] with a key of this server's own, which the domain publishes";
            first.mistake("name", "a custodian signs in the name of its user's domain", help);
        }
    }
    let mut users: Vec<DomainUser> = Vec::new();
    for table in tables {
        users.extend(user(&table, name, &users, tbr));
        table.finish();
    }
    users
}

fn user(
    table: &Cursor<'_>,
    domain: Option<&Domain>,
    others: &[DomainUser],
    tbr: Option<&DomainTbr>,
) -> Option<DomainUser> {
    let name: Option<String> = table.get("name");
    let site = keys_of(table, "this user");
    let (holder, site) = (holder(table, &name?, domain?)?, site?);
    if others.iter().any(|other| other.holder == holder) {
        table.mistake("name", format!("`{holder}` is configured twice"), "put all of his keys into one table");
    }
    if let Some(taken) = site.keys.keys().find(|key| is_taken(key, others, tbr)) {
        let help = "every key of a domain and its users has a name of its own";
        table.mistake("keys", format!("`{taken}` is the name of another's key"), help);
    }
    Some(DomainUser { holder, site })
}

fn holder(table: &Cursor<'_>, user: &str, domain: &Domain) -> Option<Holder> {
    let holder = Holder::user(&user.to_lowercase(), domain.clone());
    if holder.is_err() {
        table.mistake(
            "name",
            format!("`{user}` is no user's name"),
            "write what stands before the @, such as \"alice\"",
        );
    }
    holder.ok()
}

/// Is it the name of a key that is the domain's, or another user's? Nobody could tell then who has signed.
fn is_taken(key: &Selector, users: &[DomainUser], tbr: Option<&DomainTbr>) -> bool {
    let of_domain = tbr.is_some_and(|tbr| tbr.keys().any(|(own, ..)| own == key) || tbr.revoked.contains(key));
    of_domain || users.iter().any(|user| user.site.keys.contains_key(key))
}

/// `others`: the next hop for whoever is not in the domain here.
pub(super) fn others(
    table: &Cursor<'_>,
    deliver: Option<&RawDeliver>,
    recipients: Option<&RawRecipients>,
) -> Option<String> {
    let RawOthers(name) = table.get("others")?;
    if let Some(RawRecipients::Any | RawRecipients::Probe) = recipients {
        let help = "name by `recipients` who is here: accounts, a list or a file; or leave `others` out";
        table.mistake("others", "everybody of the domain is here already", help);
    }
    if table.has("catch_all") {
        table.mistake("others", "`catch_all` gets all other mail already", "leave one of the two out");
    }
    if deliver == Some(&RawDeliver::Relay(name.clone())) {
        let help = "leave `others` out, and write recipients = \"any\"";
        table.mistake("others", "all mail of the domain goes there already", help);
    }
    Some(name)
}

fn site_keys(table: Cursor<'_>) -> Option<DomainSite> {
    let site = keys_of(&table, "this site");
    table.finish();
    site
}

/// The keys of a site or a user, and how much may be uploaded with them.
fn keys_of(table: &Cursor<'_>, whose: &str) -> Option<DomainSite> {
    let keys = keys(table);
    if keys.as_ref().is_some_and(BTreeMap::is_empty) {
        table.mistake("keys", format!("nobody could ask for what waits for {whose}"), "give at least one key");
    }
    let messages_per_day: Option<u32> = table.get("messages_per_day");
    let recipients_per_day: Option<u32> = table.get("recipients_per_day");
    let allowance = Allowance {
        messages_per_day: NonZeroU32::new(messages_per_day?),
        recipients_per_day: NonZeroU32::new(recipients_per_day?),
        ..Allowance::default()
    };
    keys.map(|keys| DomainSite { keys, allowance })
}

/// Public keys by selector; `None` where they are missing or wrong.
fn keys(table: &Cursor<'_>) -> Option<BTreeMap<Selector, VerifyingKey>> {
    let raw: BTreeMap<String, VerifyingKey> = table.get("keys")?;
    let mut keys = BTreeMap::new();
    for (name, key) in raw {
        match name.parse() {
            Ok(selector) => drop(keys.insert(selector, key)),
            Err(error) => table.mistake("keys", format!("`{name}` is no selector: {error}"), "write it like home"),
        }
    }
    Some(keys)
}

/// `[[custodian]]`, in order.
pub(super) fn custodians(
    root: &Cursor<'_>,
    domains: &Read<'_, LocalDomain>,
    hops: &BTreeSet<&String>,
) -> Vec<Custodian> {
    let read = |table: Cursor<'_>| {
        let custodian = custodian(&table, domains);
        if let Some(name) = custodian.as_ref().and_then(|c| c.relay.as_ref()).filter(|name| !hops.contains(*name)) {
            table.mistake("relay", format!("there is no [[relay]] named `{name}`"), &super::names_of(hops));
        }
        table.finish();
        custodian
    };
    root.children("custodian").into_iter().filter_map(read).collect()
}

/// What is uploaded is signed by the domains whose custodian that is.
pub(super) fn check_uploads(root: &Cursor<'_>, uploads: &BTreeMap<String, Domain>, custodians: &[Custodian]) {
    for (name, host) in uploads {
        if !custodians.iter().any(|custodian| custodian.host == *host && custodian.way == Way::Reference) {
            let message = format!("[[relay]] `{name}`: {host} is no custodian of a domain here");
            let help = format!("add [[custodian]] with host = \"{host}\", or change `custodian` of the [[relay]]");
            root.mistake("relay", message, &help);
        }
    }
}

fn custodian(table: &Cursor<'_>, domains: &Read<'_, LocalDomain>) -> Option<Custodian> {
    let host: Option<Domain> = table.get("host");
    let named: Option<Vec<Domain>> = table.get("domains");
    let every: Option<Duration> = table.get("every");
    let times: Option<Vec<TimeOfDay>> = table.get("times");
    let from: Option<Vec<Network>> = table.get("from");
    let (relay, keys) = (table.get("relay"), keys(table));
    let http2: Option<bool> = table.get("http2");
    let way = way(table, host.as_ref());
    if every.is_some_and(|every| every < SHORTEST) {
        table.mistake("every", "that is too often", "at least 1s; minutes or hours are usual");
    }
    if let Some(wide) = from.iter().flatten().find(|network| network.is_too_wide_to_trust()) {
        table.mistake("from", format!("`{wide}` would let everybody's mail in unjudged"), "name the custodian's own");
    }
    let way = way?;
    let domains = match &way {
        Way::Reference => by_reference(table, named, domains),
        Way::Etrn(_) | Way::Odmr(_) => by_value(table, named, domains),
    };
    let schedule = Schedule { every, times: times.unwrap_or_default() };
    Some(Custodian {
        host: host?,
        domains,
        schedule,
        relay,
        keys: keys.unwrap_or_default(),
        way,
        http2: http2?,
        from: from?,
    })
}

fn way(table: &Cursor<'_>, host: Option<&Domain>) -> Option<Way> {
    const WAYS: [(&str, Named); 3] = [("reference", Named::Reference), ("etrn", Named::Etrn), ("odmr", Named::Odmr)];
    #[derive(Clone, Copy)]
    enum Named {
        Reference,
        Etrn,
        Odmr,
    }
    let named = table.choice("by", &WAYS);
    // It is read in any case: by reference it is known too, and means nothing.
    let server = peers::custodian(table, host, if matches!(named, Some(Named::Odmr)) { 366 } else { 25 });
    match named? {
        Named::Etrn => server.map(Way::Etrn),
        Named::Odmr => server.map(Way::Odmr),
        Named::Reference => server.map(|_| Way::Reference),
    }
}

/// The domains that a custodian by reference is asked for: each signs its request.
fn by_reference(table: &Cursor<'_>, named: Option<Vec<Domain>>, domains: &Read<'_, LocalDomain>) -> Vec<Domain> {
    let has_key = |name: &Domain| domains.iter().any(|(_, domain)| domain.name == *name && domain.tbr.is_some());
    let all = domains
        .iter()
        .map(|(_, domain)| domain)
        .filter(|domain| domain.tbr.is_some() && domain.site.is_none() && domain.users.is_empty());
    let chosen = named.unwrap_or_else(|| all.map(|domain| domain.name.clone()).collect());
    if let Some(without) = chosen.iter().find(|domain| !has_key(domain)) {
        let help = "the request is signed by the domain's key: add [domain.tbr] to that [[domain]]";
        table.mistake("domains", format!("{without} has no key here"), help);
    }
    if chosen.is_empty() {
        let help = "add [domain.tbr] to the [[domain]] whose mail waits there";
        table.mistake("host", "no domain of this server has a key to ask with", help);
    }
    chosen
}

/// The domains that a custodian by value is asked for.
fn by_value(table: &Cursor<'_>, named: Option<Vec<Domain>>, domains: &Read<'_, LocalDomain>) -> Vec<Domain> {
    let is_ours = |name: &Domain| domains.iter().any(|(_, domain)| domain.name == *name);
    let waits = |domain: &LocalDomain| matches!(domain.deliver, Deliver::Site | Deliver::OnDemand);
    let all = domains.iter().map(|(_, domain)| domain).filter(|domain| !waits(domain));
    let chosen = named.unwrap_or_else(|| all.map(|domain| domain.name.clone()).collect());
    if let Some(foreign) = chosen.iter().find(|domain| !is_ours(domain)) {
        table.mistake("domains", format!("mail for {foreign} would be refused here"), "add a [[domain]] for it");
    }
    if chosen.is_empty() {
        table.mistake("host", "this server takes mail for no domain", "add the [[domain]] whose mail waits there");
    }
    chosen
}
