//! The keys with which requests to other domains' repositories are signed: those of the domains served here (TBR §6.2).

use std::collections::HashMap;
use std::sync::Arc;

use mail::Domain;
use queue::config::Signer as DomainKey;
use reference::message_signature::{KeyId, Signer};

use crate::live::Live;

/// The keys in force; replaced as a whole on reload.
#[derive(Clone)]
pub(crate) struct RequestKeys(Live<HashMap<Domain, Signer>>);

impl RequestKeys {
    pub(crate) fn new(signers: &HashMap<Domain, DomainKey>) -> Self {
        Self(Live::new(of(signers)))
    }

    pub(crate) fn replace(&self, signers: &HashMap<Domain, DomainKey>) {
        self.0.replace(of(signers));
    }

    /// The key of a domain, if it is here.
    pub(crate) fn of(&self, domain: &Domain) -> Option<Signer> {
        self.0.get().get(domain).cloned()
    }
}

fn of(signers: &HashMap<Domain, DomainKey>) -> HashMap<Domain, Signer> {
    let signer = |key: &DomainKey| {
        let id = KeyId { domain: key.domain.clone(), selector: key.selector.clone() };
        (key.domain.clone(), Signer { id, key: Arc::clone(&key.key) })
    };
    signers.values().map(signer).collect()
}
