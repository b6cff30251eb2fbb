//! Delivery to a custodian over HTTPS (TBR §7.4): what users of a site send is uploaded to it, and goes on where a break has stopped it.
//!
//! HTTPS, breaks and the order of list and octets are `net::retrieval`'s; when to try is the queue's.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::stream::try_unfold;
use mail::ledger::ObjectRef;
use mail::{Domain, EnhancedStatus, Recipient, Xuid};
use net::retrieval::{self, HandedOver, Octets, Source, Stopped};
use queue::port::{Delivery, DeliveryEnd, JobEvent, Peer, Proceed, RecipientEnd};
use reference::bundle::MailEntry;
use reference::message_signature::Signer;
use store::Store;

use super::WORTHWHILE;
use crate::letters;
use crate::request_keys::RequestKeys;
use crate::runtime::JobLine;

/// A custodian that mail is uploaded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Custodian {
    /// Its repository host.
    pub(super) host: Domain,
    /// The domains of ours whose custodian it is there; reports, which have no sender, go with the first.
    pub(super) sites: Vec<Domain>,
}

/// Uploads legs.
pub(super) struct UploadCourier {
    pub(super) client: retrieval::Client,
    pub(super) keys: RequestKeys,
    pub(super) store: Store,
    pub(super) underway: Underway,
}

/// Objects that are being uploaded: two uploads of one would take it from each other.
#[derive(Default)]
pub(super) struct Underway(Mutex<HashMap<Xuid, Weak<tokio::sync::Mutex<()>>>>);

impl Underway {
    /// Whoever locks it has the object to himself.
    fn of(&self, xuid: Xuid) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&xuid).and_then(Weak::upgrade) {
            return found;
        }
        all.retain(|_, one| one.strong_count() > 0);
        let fresh = Arc::default();
        all.insert(xuid, Arc::downgrade(&fresh));
        fresh
    }
}

impl UploadCourier {
    /// One attempt: asks the queue for whom, and uploads.
    pub(super) async fn deliver(&self, delivery: &Delivery, custodian: &Custodian, mut line: JobLine) -> DeliveryEnd {
        let leg = &delivery.leg;
        let Some(object) = &leg.object else { return unreachable("the content is gone") };
        if !leg.facts.is_object {
            return impossible("what is not well-formed cannot be uploaded", EnhancedStatus::permanent(6, 0));
        }
        let Some(site) = custodian.site_of(delivery) else {
            let text = format!("{} sends on only what a domain here sends whose custodian it is", custodian.host);
            return impossible(text, EnhancedStatus::permanent(7, 1));
        };
        let Some(signer) = self.keys.of(site) else { return unreachable(format!("{site} has no key here")) };
        let peer = Peer { name: custodian.host.to_string(), dsn: true, ..Peer::default() };
        let Some(Proceed::ByValue { positions, prefix }) = line.ask(JobEvent::Connected(peer)).await else {
            return ended(custodian, Vec::new(), 0);
        };
        let recipients: Vec<&Recipient> = positions
            .iter()
            .filter_map(|position| leg.recipients.get(usize::from(*position)).map(|one| &one.recipient))
            .collect();
        let prefix = prefix.as_deref().unwrap_or(&leg.prefix);
        let Some(entry) = letters::entry(&delivery.key, leg, object, recipients.iter().copied(), prefix) else {
            let text = "it has more recipients, or longer addresses, than what is uploaded may have";
            return impossible(text, EnhancedStatus::permanent(5, 3));
        };
        match self.upload(custodian, entry, &signer, object).await {
            Ok(HandedOver { failed, octets }) => {
                let outcomes = positions.iter().zip(recipients).map(|(position, recipient)| {
                    let failed = failed.iter().find(|one| one.rcpt == recipient.address);
                    let end = failed.map_or_else(accepted, |one| RecipientEnd::Permanent {
                        status: one.status,
                        text: one.text.as_str().to_owned(),
                        to_offer: false,
                    });
                    (*position, end)
                });
                ended(custodian, outcomes.collect(), octets)
            }
            Err(stopped) => not_taken(custodian, &stopped),
        }
    }

    async fn upload(
        &self,
        custodian: &Custodian,
        entry: MailEntry,
        signer: &Signer,
        object: &ObjectRef,
    ) -> Result<HandedOver, Stopped> {
        let underway = self.underway.of(entry.o);
        let _alone = underway.lock().await;
        self.client.hand_over(&custodian.host, entry, signer, &Stored { store: &self.store, object }).await
    }
}

impl Custodian {
    /// The domain that a message is sent for: its sender's.
    fn site_of(&self, delivery: &Delivery) -> Option<&Domain> {
        match &delivery.leg.mail_from {
            Some(sender) => {
                let domain = sender.domain()?;
                self.sites.iter().find(|site| domain.is_within(site))
            }
            None => self.sites.first(),
        }
    }
}

/// An object in the store.
struct Stored<'a> {
    store: &'a Store,
    object: &'a ObjectRef,
}

impl Source for Stored<'_> {
    async fn read(&self, from: u64) -> io::Result<Octets> {
        let reader = self.store.read(self.object, from..self.object.size).await.map_err(io::Error::other)?;
        Ok(Box::pin(try_unfold(reader, |mut reader| async move {
            let chunk = reader.next_chunk().await.map_err(io::Error::other)?;
            Ok(chunk.map(|chunk| (chunk, reader)))
        })))
    }
}

fn accepted() -> RecipientEnd {
    RecipientEnd::Accepted { final_delivery: false, text: "taken by the custodian".to_owned() }
}

/// What the custodian has got by now it keeps; the next attempt goes on there.
fn not_taken(custodian: &Custodian, Stopped { why: no_answer, octets }: &Stopped) -> DeliveryEnd {
    let text = match no_answer.status {
        Some(404) => format!("{} takes no uploads, or knows no such site or key", custodian.host),
        Some(429) => format!("{} takes no more of this site for now", custodian.host),
        Some(507) => format!("{} has no room for it now", custodian.host),
        _ => no_answer.text.clone(),
    };
    let status = match no_answer.status {
        Some(429) => EnhancedStatus::temporary(7, 0),
        Some(507) => EnhancedStatus::temporary(3, 1),
        Some(_) => EnhancedStatus::temporary(3, 0),
        None => EnhancedStatus::temporary(4, 2),
    };
    if *octets >= WORTHWHILE {
        DeliveryEnd::Interrupted { text, status }
    } else {
        DeliveryEnd::Unreachable { text, status }
    }
}

fn ended(custodian: &Custodian, outcomes: Vec<(u16, RecipientEnd)>, octets: u64) -> DeliveryEnd {
    DeliveryEnd::Transaction { offer: false, outcomes, peer: custodian.host.to_string(), octets }
}

fn unreachable(text: impl Into<String>) -> DeliveryEnd {
    DeliveryEnd::Unreachable { text: text.into(), status: EnhancedStatus::temporary(3, 0) }
}

fn impossible(text: impl Into<String>, status: EnhancedStatus) -> DeliveryEnd {
    DeliveryEnd::Impossible { text: text.into(), status }
}
