//! Bundles (TBR §7.5): what a custodian and its site have to say to each other, in a file, for links without TCP.
//!
//! Writing is [`export`]'s, reading [`import`]'s, the container [`archive`]'s. Nothing is decided here: offers, claims and
//! receipts are judged where those that come over HTTPS are.

pub mod archive;
mod export;
mod import;

use std::sync::Arc;

use mail::Domain;
use reference::bundle::End;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::config::Config;
use crate::letters::Letters;
use crate::receive::Reception;
use crate::request_keys::RequestKeys;

pub(crate) use export::{NotExported, Wanted};
pub(crate) use import::NotImported;

/// What was written into a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Whose domain it is about.
    pub site: Domain,
    /// The custodian's host.
    pub custodian: Domain,
    /// Who has written it.
    pub from: End,
    /// The bundle's name; none where there was nothing to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Messages in it.
    pub messages: u64,
    /// References that claims and receipts in it are about.
    pub answers: u64,
    /// References of which it says that claims and receipts were heard.
    pub heard: u64,
    /// Messages from the site of which it says that they were taken.
    pub taken: u64,
    /// Octets of the file, at most.
    pub octets: u64,
    /// Messages that are larger than the limit by themselves.
    pub too_large: u64,
    /// Messages that are not in it because they were still being sent otherwise.
    #[serde(default)]
    pub under_way: u64,
    /// There is more: go on with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Exported {
    /// Of which nothing is written yet.
    pub(crate) fn new(site: Domain, custodian: Domain, from: End) -> Self {
        Self {
            site,
            custodian,
            from,
            name: None,
            messages: 0,
            answers: 0,
            heard: 0,
            taken: 0,
            octets: 0,
            too_large: 0,
            under_way: 0,
            next: None,
        }
    }
}

/// What came of reading a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The bundle's name.
    pub name: String,
    /// Whose domain it is about.
    pub site: Domain,
    /// The custodian's host.
    pub custodian: Domain,
    /// Who has written it.
    pub from: End,
    /// Whether all of it could be read.
    pub whole: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Messages that it brought.
    pub messages: u64,
    /// Octets of them.
    pub octets: u64,
    /// Messages that were here already.
    pub known: u64,
    /// Messages whose content did not come with it, or was not what the reference names.
    pub missing: u64,
    /// Messages that cannot be judged now.
    pub later: u64,
    /// Messages that are not what they must be.
    pub refused: u64,
    /// References for which claims were recorded.
    pub claims: u64,
    /// References for which receipts were recorded.
    pub receipts: u64,
    /// References of claims and receipts that nothing is known of here.
    pub unknown: u64,
    /// References whose claims and receipts the custodian has heard, which was news.
    pub heard: u64,
    /// Messages from here that the custodian has taken, which was news.
    pub taken: u64,
}

/// Writes and reads bundles.
pub(crate) struct Bundles {
    reception: Arc<Reception>,
    keys: RequestKeys,
    letters: Letters,
    /// One bundle is read at a time: what it brings is looked for first, and then taken.
    reading: Mutex<()>,
}

impl Bundles {
    pub(crate) fn new(reception: Arc<Reception>, keys: RequestKeys, letters: Letters) -> Self {
        Self { reception, keys, letters, reading: Mutex::default() }
    }
}

/// The host at which this server is the custodian of a domain, if it is.
fn custodian_of(config: &Config, site: &Domain) -> Option<Domain> {
    let domain = config.domain(site).filter(|domain| domain.site.is_some())?;
    domain.tbr.as_ref().map(|tbr| tbr.repository.clone())
}
