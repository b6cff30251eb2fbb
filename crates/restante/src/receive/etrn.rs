//! ETRN (RFC 1985): a neighbour that gets its mail by SMTP is back, and wants what waits for it.
//!
//! Nothing goes to whoever asks: mail goes where the configuration says. So asking proves nothing and gains nothing but an attempt
//! now, and how often that may be had is counted here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mail::ledger::{Leg, Route};
use mail::{Domain, Timestamp};
use queue::port::Command;
use smtp::Reply;
use smtp::command::Etrn;
use smtp::reply::catalogue;
use tracing::{info, warn};

use super::Reception;
use crate::config::{Config, Deliver};
use crate::runtime::now;
use crate::waiting::{self, LegName};

/// What is due this soon anyway is not hurried.
const SOON: Duration = Duration::from_millis(500);

/// When mail of each domain was asked for last. As many entries as the configuration has domains, at most.
#[derive(Debug, Default)]
pub(crate) struct AskedFor(Mutex<HashMap<Domain, Timestamp>>);

impl AskedFor {
    /// Those of the domains whose mail may be asked for again; their pause begins now.
    fn admit(&self, domains: Vec<(Domain, String)>, pause: Duration, now: Timestamp) -> Vec<(Domain, String)> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not make the pause longer.
        last.retain(|_, at| *at <= now && now.since(*at) < pause);
        let fresh: Vec<_> = domains.into_iter().filter(|(domain, _)| !last.contains_key(domain)).collect();
        last.extend(fresh.iter().map(|(domain, _)| (domain.clone(), now)));
        fresh
    }
}

impl Reception {
    /// The answer to ETRN. What waits is tried while the answer is on its way.
    pub(super) async fn etrn(&self, client: IpAddr, etrn: &Etrn) -> Reply {
        let (node, config) = (etrn.node(), self.config.get());
        let asked = may_ask(&config, client, etrn);
        if asked.is_empty() {
            return catalogue::node_not_allowed(&node, "its mail does not go from here, or not at your word");
        }
        let asked = self.asked_for.admit(asked, config.limits.etrn_pause, now());
        if asked.is_empty() {
            return catalogue::cannot_queue(&node, "it was asked for a moment ago, try again later");
        }
        let soon = now().after(SOON);
        let (mut messages, mut hurried): (Vec<_>, Vec<LegName>) = Default::default();
        let found = waiting::each_leg(&self.store, |name, leg| {
            if waiting::is_open(leg) && goes_to(leg, &asked) {
                messages.push(name.0.clone());
                hurried.extend(waiting::waits(leg, soon).then(|| name.clone()));
            }
        });
        if let Err(error) = found.await {
            warn!(%error, "cannot look up what waits for a neighbour");
            return catalogue::cannot_queue(&node, "the queue cannot be read now");
        }
        // The legs of a message stand together.
        messages.dedup();
        info!(%client, %node, messages = messages.len(), "asked for mail by ETRN");
        if messages.is_empty() {
            return catalogue::nothing_waits(&node);
        }
        let custody = self.custody.clone();
        tokio::spawn(async move { waiting::hurry(&custody, hurried, Command::AskedFor).await });
        catalogue::messages_tried(&node, messages.len() as u64)
    }
}

/// The domains that the client asks for and may ask for, each with the next hop that it goes to.
fn may_ask(config: &Config, client: IpAddr, etrn: &Etrn) -> Vec<(Domain, String)> {
    let hop = |deliver: &Deliver| match deliver {
        Deliver::Relay(name) => Some(name.clone()),
        _ => None,
    };
    let asked = config.domains.values().filter(|domain| etrn.asks_for(&domain.name) && domain.etrn.permits(client));
    asked.filter_map(|domain| Some((domain.name.clone(), hop(&domain.deliver)?))).collect()
}

fn goes_to(leg: &Leg, asked: &[(Domain, String)]) -> bool {
    let Route::Relay(hop) = &leg.route else { return false };
    let domains = || leg.recipients.iter().filter_map(|recipient| recipient.recipient.address.domain());
    asked.iter().any(|(domain, by)| by == hop && domains().any(|of| of == *domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_asked_for_once_in_a_pause() {
        let asked = AskedFor::default();
        let named = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| (Domain::parse(name).unwrap(), "hop".to_owned())).collect()
        };
        let admit =
            |names: &[&str], at: u64| asked.admit(named(names), Duration::from_secs(30), Timestamp::from_secs(at));
        assert_eq!(admit(&["a.example"], 1000), named(&["a.example"]));
        assert_eq!(admit(&["a.example"], 1029), named(&[]));
        // Asking too early does not begin the pause anew.
        assert_eq!(admit(&["a.example", "b.example"], 1030), named(&["a.example", "b.example"]));
        assert_eq!(admit(&["a.example", "b.example", "c.example"], 1031), named(&["c.example"]));
        // The clock was set back.
        assert_eq!(admit(&["a.example"], 500), named(&["a.example"]));
    }

    #[test]
    fn only_what_is_relayed_is_asked_for_and_by_who_may() {
        let text = "hostname = \"mx.a.example\"\npostmaster = \"x@y.example\"\n[[relay]]\nname = \"r\"\nhost = \"r.example\"\n\
                    [[domain]]\nname = \"a.example\"\n\
                    [[domain]]\nname = \"b.example\"\ndeliver = \"relay:r\"\nrecipients = \"any\"\n\
                    [[domain]]\nname = \"c.b.example\"\ndeliver = \"relay:r\"\nrecipients = \"any\"\netrn = [\"192.0.2.0/24\"]\n\
                    [[domain]]\nname = \"d.b.example\"\ndeliver = \"relay:r\"\nrecipients = \"any\"\netrn = \"nobody\"\n";
        let config = Config::parse(text, std::path::Path::new("/etc/restante/restante.toml")).unwrap();
        let ask = |line: &str, client: &str| {
            let Ok(smtp::Command::Etrn(etrn)) = smtp::Command::parse(line.as_bytes()) else { panic!("{line}") };
            let domains = may_ask(&config, client.parse().unwrap(), &etrn).into_iter();
            domains.map(|(domain, hop)| format!("{domain} by {hop}")).collect::<Vec<_>>().join(", ")
        };
        for client in ["192.0.2.7", "198.51.100.7"] {
            assert_eq!(ask("ETRN b.example", client), "b.example by r");
            for nothing in ["ETRN a.example", "ETRN x.b.example", "ETRN d.b.example", "ETRN #b.example"] {
                assert_eq!(ask(nothing, client), "", "{nothing}");
            }
        }
        assert_eq!(ask("ETRN c.b.example", "192.0.2.7"), "c.b.example by r");
        assert_eq!(ask("ETRN c.b.example", "198.51.100.7"), "");
        assert_eq!(ask("ETRN @example", "192.0.2.7"), "b.example by r, c.b.example by r");
        assert_eq!(ask("ETRN @example", "198.51.100.7"), "b.example by r");
    }
}
