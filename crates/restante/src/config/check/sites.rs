//! Sites that are connected some of the time: domains that wait here for theirs, and custodians where ours wait.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mail::Domain;
use reference::{Selector, VerifyingKey};
use toml::de::DeValue;

use super::Read;
use super::raw::{RawDeliver, RawRecipients};
use crate::config::read::{Cursor, FromToml, Wrong};
use crate::config::{Custodian, DomainSite, LocalDomain, Relay, Schedule, TimeOfDay};

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
    if deliver != Some(&RawDeliver::Site) {
        return Some(None);
    }
    if !has_key {
        let help = "add [domain.tbr] with a key of this server's own; the site publishes it under its selector";
        table.mistake("deliver", "a custodian signs in the name of its site", help);
    }
    if recipients == Some(&RawRecipients::Accounts) {
        let help = "name them by a list or a file, or write \"any\"; the site refuses whom it does not know";
        table.mistake("recipients", "accounts here say nothing of who is at the site", help);
    }
    let Some(site) = site else {
        let help = "add [domain.site] with the `keys` that `restante keys generate` printed at the site";
        table.mistake("deliver", "nobody could ask for what waits for this site", help);
        return None;
    };
    site.map(Some)
}

fn site_keys(table: Cursor<'_>) -> Option<DomainSite> {
    let keys = keys(&table);
    if keys.as_ref().is_some_and(BTreeMap::is_empty) {
        table.mistake("keys", "nobody could ask for what waits for this site", "give at least one key of the site");
    }
    table.finish();
    keys.map(|keys| DomainSite { keys })
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
    relays: &BTreeMap<String, Relay>,
) -> Vec<Custodian> {
    let has_key = |name: &Domain| domains.iter().any(|(_, domain)| domain.name == *name && domain.tbr.is_some());
    let all = || domains.iter().filter(|(_, domain)| domain.tbr.is_some() && domain.site.is_none());
    let read = |table: Cursor<'_>| {
        let custodian = custodian(&table, &has_key, || all().map(|(_, domain)| domain.name.clone()).collect());
        if let Some(name) = custodian.as_ref().and_then(|c| c.relay.as_ref()).filter(|name| !relays.contains_key(*name))
        {
            table.mistake("relay", format!("there is no [[relay]] named `{name}`"), &super::names_of(relays));
        }
        table.finish();
        custodian
    };
    root.children("custodian").into_iter().filter_map(read).collect()
}

fn custodian(
    table: &Cursor<'_>,
    has_key: &dyn Fn(&Domain) -> bool,
    all: impl Fn() -> Vec<Domain>,
) -> Option<Custodian> {
    let host: Option<Domain> = table.get("host");
    let named: Option<Vec<Domain>> = table.get("domains");
    let every: Option<Duration> = table.get("every");
    let times: Option<Vec<TimeOfDay>> = table.get("times");
    let domains = named.unwrap_or_else(all);
    if let Some(without) = domains.iter().find(|domain| !has_key(domain)) {
        let help = "the request is signed by the domain's key: add [domain.tbr] to that [[domain]]";
        table.mistake("domains", format!("{without} has no key here"), help);
    }
    if domains.is_empty() {
        let help = "add [domain.tbr] to the [[domain]] whose mail waits there";
        table.mistake("host", "no domain of this server has a key to ask with", help);
    }
    if every.is_some_and(|every| every < SHORTEST) {
        table.mistake("every", "that is too often", "at least 1s; minutes or hours are usual");
    }
    let schedule = Schedule { every, times: times.unwrap_or_default() };
    let (relay, keys) = (table.get("relay"), keys(table).unwrap_or_default());
    Some(Custodian { host: host?, domains, schedule, relay, keys })
}
