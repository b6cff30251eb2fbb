//! From the checked configuration to what the queue, the repository and the clients are told.
//!
//! Pure translation but for reading the signing keys. All of it is made anew on reload.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mail::{Domain, Timestamp};
use net::authentication::signer as dkim;
use net::{discovery, retrieval, smtp_server};
use queue::config::{
    HoldRules, Limits, Policy, QueueConfig, ReferenceMode, ReportSigner, Retry, Router, Signer, Timers,
};
use reference::{DomainFacts, KeyRecord, KeyState, Selector};
use smtp::server;

use crate::config::{Config, Delegation, DomainTbr, LocalDomain, TransferPolicy, Way};
use crate::keys::{self, KeyFileError};

/// How long a key is published beyond now, and how long before: the document is made anew at every start and reload,
/// and a reference lives for 30 days at most.
pub(crate) const KEY_WINDOW: Duration = Duration::from_secs(366 * 24 * 3600);

/// Longest that a custodian may go on sending.
const TURNED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long peers may keep the domain document.
const DOCUMENT_AGE: Duration = Duration::from_secs(3600);

/// The domains that sign here, each with the key that does at this time.
///
/// # Errors
/// A key file that cannot be read, by name.
pub(crate) fn signers(config: &Config, now: Timestamp) -> Result<HashMap<Domain, Signer>, KeyFileError> {
    let signing = config.domains.values().filter_map(|domain| Some((domain, domain.tbr.as_ref()?)));
    signing
        .map(|(domain, tbr)| {
            let (selector, key) = tbr.signing_at(now);
            let signer = Signer {
                domain: domain.name.clone(),
                selector: selector.clone(),
                key: Arc::new(keys::read(key)?),
                repository: tbr.repository.clone(),
                subdomains: tbr.subdomains,
            };
            Ok((domain.name.clone(), signer))
        })
        .collect()
}

/// Those of them that send by reference from here. The others sign requests only.
pub(crate) fn senders(config: &Config, signers: &HashMap<Domain, Signer>) -> HashMap<Domain, Signer> {
    let offers = |domain: &Domain| config.domain(domain).and_then(|d| d.tbr.as_ref()).is_some_and(|tbr| tbr.offers);
    signers
        .iter()
        .filter(|(domain, _)| offers(domain))
        .map(|(domain, signer)| (domain.clone(), signer.clone()))
        .collect()
}

/// Who signs what users send, by DKIM.
pub(crate) fn dkim_signers(config: &Config) -> anyhow::Result<HashMap<Domain, dkim::Signer>> {
    let mut signers = HashMap::new();
    for domain in config.domains.values() {
        let Some(settings) = &domain.dkim else { continue };
        let mut keys = Vec::new();
        for (selector, path) in &settings.keys {
            keys.push((selector.clone(), keys::read_pkcs8(path)?));
        }
        let signer = dkim::Signer::new(&domain.name, &keys);
        signers.insert(domain.name.clone(), signer.with_context(|| format!("a DKIM key of {}", domain.name))?);
    }
    Ok(signers)
}

/// When the next of the configured keys takes over.
pub(crate) fn next_change(config: &Config, now: Timestamp) -> Option<Timestamp> {
    let tbr = config.domains.values().filter_map(|domain| domain.tbr.as_ref());
    tbr.filter_map(|tbr| Some(tbr.next.as_ref()?.from)).filter(|from| *from > now).min()
}

/// What each domain that sends from here publishes about itself.
///
/// # Errors
/// A key file that cannot be read, by name.
pub(crate) fn facts(config: &Config, now: Timestamp) -> Result<HashMap<Domain, DomainFacts>, KeyFileError> {
    let signing = config.domains.values().filter_map(|domain| Some((domain, domain.tbr.as_ref()?)));
    let sending = signing.filter(|(_, tbr)| tbr.offers);
    sending.map(|(domain, tbr)| Ok((domain.name.clone(), domain_facts(domain, tbr, now)?))).collect()
}

/// With the key before and the key after: references of the one are still on their way, those of the other may begin any time.
/// A site has keys of its own beside the one that it has delegated to this server.
fn domain_facts(domain: &LocalDomain, tbr: &DomainTbr, now: Timestamp) -> Result<DomainFacts, KeyFileError> {
    let (earliest, latest) = (now.before(KEY_WINDOW), now.after(KEY_WINDOW));
    let record =
        |selector: &Selector, key, to: Timestamp| KeyRecord::active(selector.clone(), key, earliest.min(to), to);
    let mut published = Vec::new();
    for (selector, file, until) in tbr.keys() {
        published.push(record(selector, keys::read(file)?.verifying_key(), until.unwrap_or(latest)));
    }
    let revoked = |selector: &Selector| KeyRecord { selector: selector.clone(), state: KeyState::Revoked };
    published.extend(tbr.revoked.iter().map(revoked));
    let of_site = domain.site.iter().flat_map(|site| &site.keys);
    published.extend(of_site.map(|(selector, key)| record(selector, *key, latest)));
    Ok(DomainFacts {
        domain: domain.name.clone(),
        repo: std::iter::once(&tbr.repository).chain(&tbr.other_repositories).cloned().collect(),
        sub: tbr.subdomains,
        keys: published,
        max_age: DOCUMENT_AGE,
    })
}

/// The MTA-STS policies that domains publish, as they are served.
pub(crate) fn policies(config: &Config) -> HashMap<Domain, String> {
    let publishing = config.domains.values().filter_map(|domain| Some((domain, domain.mta_sts.as_ref()?)));
    publishing.map(|(domain, policy)| (domain.name.clone(), policy.to_string())).collect()
}

/// What the queue is told.
pub(crate) fn queue_config(
    config: &Config,
    signers: HashMap<Domain, Signer>,
    route: Router,
    sign: ReportSigner,
) -> QueueConfig {
    let mut queue = QueueConfig::new(config.hostname.clone(), route);
    queue.sign = sign;
    queue.reporting_domain = reporting_domain(config, &signers);
    queue.signers = signers;
    queue.default_policy = policy(config, config.transfer.policy, config.transfer.delegation);
    let transfer = &config.transfer;
    let of_peer = |peer: &Domain| policy(config, transfer.policy_for(peer), transfer.delegation_for(peer));
    queue.policies = transfer.peers.keys().map(|peer| (peer.clone(), of_peer(peer))).collect();
    queue.holds = HoldRules {
        accounts: config.store.held_accounts.clone().into_iter().collect(),
        domains: config.store.held_domains.clone().into_iter().collect(),
    };
    queue.relays_by_reference = config.relays.values().filter(|r| r.tbr).map(|r| r.name.clone()).collect();
    queue.retry = retry(config);
    queue.timers = timers(config);
    queue.limits = limits(config);
    queue
}

/// Reports are signed by the domain that this server is named in, or by the only one that signs.
fn reporting_domain(config: &Config, signers: &HashMap<Domain, Signer>) -> Option<Domain> {
    let around = |domain: &&Domain| config.hostname.is_within(domain);
    signers.keys().find(around).or_else(|| signers.keys().min()).cloned()
}

fn policy(config: &Config, mode: TransferPolicy, delegation: Delegation) -> Policy {
    let mode = match mode {
        TransferPolicy::Prefer => ReferenceMode::Prefer,
        TransferPolicy::Require => ReferenceMode::Require,
        TransferPolicy::Never => ReferenceMode::Never,
    };
    let by_value_below = config.transfer.by_value_below;
    Policy { mode, by_value_below, may_delegate: delegation.accepts(), delegate_to: delegation.uses() }
}

fn retry(config: &Config) -> Retry {
    let queue = &config.queue;
    // The configuration has been checked: a share between 0 and 1.
    let jitter_percent = (queue.retry_jitter * 100.0).round().clamp(0.0, 100.0) as u32;
    Retry { first: queue.retry_first, most: queue.retry_longest, jitter_percent }
}

fn timers(config: &Config) -> Timers {
    let (transfer, queue) = (&config.transfer, &config.queue);
    Timers {
        message_lifetime: queue.expire_after,
        site_lifetime: queue.expire_for_sites_after,
        reference_lifetime: transfer.lifetime,
        expiry_grace: transfer.expiry_grace,
        refused_fall_back: transfer.fall_back_after_refusals,
        unclaimed_fall_back: transfer.fall_back_without_claim,
        claim_patience: transfer.claim_patience,
        unheard: transfer.receipt_patience,
        delay_report: queue.report_delay_after,
        retention: queue.keep_finished,
        object_grace: config.store.grace,
        ..Timers::default()
    }
}

fn limits(config: &Config) -> Limits {
    let transfer = &config.transfer;
    Limits {
        hops: config.limits.hops,
        per_destination: config.queue.max_per_destination,
        deliveries: config.outgoing.max_connections,
        per_origin: transfer.max_retrievals_per_domain,
        retrievals: if transfer.pause_retrieval { 0 } else { transfer.max_retrievals },
        ..Limits::default()
    }
}

/// What clients of SMTP may use up.
pub(crate) fn limit_sessions(config: &Config, limits: &mut server::Limits) {
    limits.message = config.limits.message_size;
    limits.transactions = config.limits.transactions;
    limits.recipients = config.limits.recipients;
    limits.errors = u32::try_from(config.limits.errors).unwrap_or(u32::MAX);
    // Whoever may name so many recipients needs a command for each.
    let commands = config.limits.commands.max(config.limits.recipients.saturating_add(100));
    limits.commands = u32::try_from(commands).unwrap_or(u32::MAX);
    limits.idle = config.limits.command_timeout;
}

/// How mail is taken on a connection to a custodian that was turned over: as at a relay listener, by value.
pub(crate) fn turned_over(config: &Config) -> smtp_server::Settings {
    let mut smtp = server::Config::relay(config.hostname.clone());
    (smtp.starttls, smtp.tbr) = (false, server::OfferTbr::Never);
    (smtp.smtputf8, smtp.requiretls) = (true, true);
    limit_sessions(config, &mut smtp.limits);
    // As many as there are, and for as long as it takes: it was this server that asked.
    smtp.limits.transactions = None;
    let limits = smtp_server::Limits { session: TURNED, ..smtp_server::Limits::default() };
    smtp_server::Settings { smtp, tls: None, implicit_tls: false, limits }
}

/// What the retrieval client may do.
pub(crate) fn retrieval_config(config: &Config) -> retrieval::Config {
    retrieval::Config {
        port: config.outgoing.https_port,
        codings: config.store.compression,
        allow_private: config.outgoing.allow_private_addresses,
        dane: config.outgoing.dane,
        several_at_once: several_at_once(config),
        concurrent: config.transfer.max_retrievals,
        concurrent_per_domain: config.transfer.max_retrievals_per_domain,
        concurrent_per_network: config.transfer.max_retrievals_per_network,
        minimum_rate: config.transfer.minimum_rate,
        ..retrieval::Config::default()
    }
}

/// The custodians that messages are fetched from several at a time, over one connection to each.
pub(crate) fn several_at_once(config: &Config) -> Vec<Domain> {
    let wanted = config.custodians.iter().filter(|custodian| custodian.way == Way::Reference && custodian.http2);
    wanted.map(|custodian| custodian.host.clone()).collect()
}

/// What may be stored.
pub(crate) fn quotas(config: &Config) -> store::Quotas {
    let domains = config.domains.values().filter_map(|domain| Some((domain.name.clone(), domain.quota?)));
    let kept = &config.store;
    store::Quotas {
        total: kept.quota,
        reserve: kept.reserve,
        account: kept.quota_per_account,
        domains: domains.collect(),
    }
}

/// What discovery may do.
pub(crate) fn discovery_config(config: &Config) -> discovery::Config {
    let transfer = &config.transfer;
    let (session_budget, bogus) = (transfer.verification_budget, transfer.bogus_patience);
    discovery::Config { session_budget, bogus, ..discovery::Config::default() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn whoever_sets_nothing_waits_as_long_as_the_specification_says() {
        let config = Config::parse("hostname = \"mx.a.example\"", Path::new("restante.toml")).unwrap();
        let queue = queue_config(&config, HashMap::new(), Arc::new(|_| Vec::new()), Arc::new(|_| String::new()));
        // TBR §10.5.
        let (first, most) = (Duration::from_secs(300), Duration::from_secs(4 * 3600));
        assert_eq!(queue.retry, Retry { first, most, jitter_percent: 20 });
        let (set, said) = (&queue.timers, Timers::default());
        assert_eq!((set.reference_lifetime, set.expiry_grace), (said.reference_lifetime, said.expiry_grace));
        assert_eq!(
            (set.refused_fall_back, set.unclaimed_fall_back),
            (said.refused_fall_back, said.unclaimed_fall_back)
        );
        assert_eq!((set.claim_patience, set.unheard), (said.claim_patience, said.unheard));
    }
}
