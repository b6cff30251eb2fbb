//! From the checked configuration to what the queue, the repository and the clients are told.
//!
//! Pure translation but for reading the signing keys. All of it is made anew on reload.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mail::{Domain, Timestamp};
use net::{discovery, retrieval};
use queue::config::{Limits, Policy, QueueConfig, ReferenceMode, Retry, Router, Signer, Timers};
use reference::{DomainFacts, KeyRecord};

use crate::config::{Config, TransferPolicy};
use crate::keys::{self, KeyFileError};

/// How long a key is published beyond now, and how long before: the document is made anew at every start and reload,
/// and a reference lives for 30 days at most.
const KEY_WINDOW: Duration = Duration::from_secs(366 * 24 * 3600);

/// How long peers may keep the domain document.
const DOCUMENT_AGE: Duration = Duration::from_secs(3600);

/// The domains that sign here, with their keys.
///
/// # Errors
/// A key file that cannot be read, by name.
pub(crate) fn signers(config: &Config) -> Result<HashMap<Domain, Signer>, KeyFileError> {
    let signing = config.domains.values().filter_map(|domain| Some((domain, domain.tbr.as_ref()?)));
    signing
        .map(|(domain, tbr)| {
            let signer = Signer {
                domain: domain.name.clone(),
                selector: tbr.selector.clone(),
                key: Arc::new(keys::read(&tbr.key)?),
                repository: tbr.repository.clone(),
                subdomains: tbr.subdomains,
            };
            Ok((domain.name.clone(), signer))
        })
        .collect()
}

/// What each signing domain publishes about itself.
pub(crate) fn facts(signers: &HashMap<Domain, Signer>, now: Timestamp) -> HashMap<Domain, DomainFacts> {
    signers.values().map(|signer| (signer.domain.clone(), domain_facts(signer, now))).collect()
}

fn domain_facts(signer: &Signer, now: Timestamp) -> DomainFacts {
    let (from, to) = (now.before(KEY_WINDOW), now.after(KEY_WINDOW));
    let key = KeyRecord::active(signer.selector.clone(), signer.key.verifying_key(), from, to);
    DomainFacts {
        domain: signer.domain.clone(),
        repo: vec![signer.repository.clone()],
        sub: signer.subdomains,
        keys: vec![key],
        max_age: DOCUMENT_AGE,
    }
}

/// What the queue is told.
pub(crate) fn queue_config(config: &Config, signers: HashMap<Domain, Signer>, route: Router) -> QueueConfig {
    let mut queue = QueueConfig::new(config.hostname.clone(), route);
    queue.reporting_domain = reporting_domain(config, &signers);
    queue.signers = signers;
    queue.default_policy = policy(config, config.transfer.policy);
    let peers = config.transfer.peers.iter();
    queue.policies = peers.map(|(domain, mode)| (domain.clone(), policy(config, *mode))).collect();
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

fn policy(config: &Config, mode: TransferPolicy) -> Policy {
    let mode = match mode {
        TransferPolicy::Prefer => ReferenceMode::Prefer,
        TransferPolicy::Require => ReferenceMode::Require,
        TransferPolicy::Never => ReferenceMode::Never,
    };
    Policy { mode, by_value_below: config.transfer.by_value_below }
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
        reference_lifetime: transfer.lifetime,
        expiry_grace: transfer.expiry_grace,
        refused_fall_back: transfer.fall_back_after_refusals,
        unclaimed_fall_back: transfer.fall_back_without_claim,
        claim_patience: transfer.claim_patience,
        unheard: transfer.receipt_patience,
        delay_report: queue.report_delay_after,
        retention: queue.keep_finished,
        ..Timers::default()
    }
}

fn limits(config: &Config) -> Limits {
    let transfer = &config.transfer;
    Limits {
        per_destination: config.queue.max_per_destination,
        deliveries: config.outgoing.max_connections,
        per_origin: transfer.max_retrievals_per_domain,
        retrievals: if transfer.pause_retrieval { 0 } else { transfer.max_retrievals },
        ..Limits::default()
    }
}

/// What the retrieval client may do.
pub(crate) fn retrieval_config(config: &Config) -> retrieval::Config {
    retrieval::Config {
        port: config.outgoing.https_port,
        allow_private: config.outgoing.allow_private_addresses,
        concurrent: config.transfer.max_retrievals,
        concurrent_per_domain: config.transfer.max_retrievals_per_domain,
        ..retrieval::Config::default()
    }
}

/// What discovery may do.
pub(crate) fn discovery_config(config: &Config) -> discovery::Config {
    discovery::Config { session_budget: config.transfer.verification_budget, ..discovery::Config::default() }
}
