//! Delivery of reports to this server itself: read, and kept for `restante reports`.
//!
//! What is in them is `reports::inbox`'s. Mail without a report is taken and forgotten: its sender may be forged, and whoever
//! publishes an address for reports gets such mail.

use mail::ledger::Route;
use mail::{Address, EnhancedStatus};
use queue::port::{Delivery, DeliveryEnd, RecipientEnd};
use store::Store;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tracing::info;

use crate::reports::inbox::{Archive, MAX_MESSAGE, Received, find, signed_by};
use crate::runtime::now;

/// Takes reports in.
pub(super) struct Intake {
    store: Store,
    archive: Archive,
    /// One at a time: each may need some memory.
    turn: Mutex<()>,
}

impl Intake {
    pub(super) fn new(store: Store, archive: Archive) -> Self {
        Self { store, archive, turn: Mutex::default() }
    }

    /// Reads the message once, whoever of the domain's addresses it is for.
    pub(super) async fn take(&self, delivery: &Delivery) -> DeliveryEnd {
        let leg = &delivery.leg;
        let recipients = delivery.positions.iter().filter_map(|p| leg.recipients.get(usize::from(*p)));
        let to = recipients.map(|r| r.recipient.address.clone()).next();
        let end = match to {
            Some(to) => self.read(delivery, to).await,
            None => Ok(()),
        };
        let outcome = match end {
            Ok(()) => RecipientEnd::Accepted { final_delivery: true, text: "read as a report".to_owned() },
            Err(error) => RecipientEnd::Temporary {
                status: EnhancedStatus::temporary(3, 0),
                text: format!("the report cannot be kept: {error}"),
                to_offer: false,
            },
        };
        let outcomes = delivery.positions.iter().map(|p| (*p, outcome.clone())).collect();
        let octets = leg.object.as_ref().map_or(0, |object| object.size);
        DeliveryEnd::Transaction { offer: false, outcomes, peer: Route::Reports.to_string(), octets }
    }

    async fn read(&self, delivery: &Delivery, to: Address) -> std::io::Result<()> {
        let leg = &delivery.leg;
        let Some(object) = &leg.object else { return Err(std::io::Error::other("the content is gone")) };
        if object.size > MAX_MESSAGE {
            info!(octets = object.size, "a message too large for a report was thrown away");
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let reader = self.store.read(object, 0..object.size).await.map_err(std::io::Error::other)?;
        let message = reader.collect(MAX_MESSAGE).await.map_err(std::io::Error::other)?;
        let (sender, prefix, archive) = (leg.mail_from.clone(), leg.prefix.clone(), self.archive.clone());
        let keeping = move || match find(&message) {
            Some(Ok((kind, report))) => {
                let signed_by = signed_by(&prefix);
                info!(kind, sender = sender.as_ref().map_or("", |s| s.host()), "a report was received");
                archive.keep(kind, &Received { received: now(), to, sender, signed_by, report })
            }
            Some(Err(error)) => {
                info!(%error, sender = sender.as_ref().map_or("", |s| s.host()), "a report was thrown away");
                Ok(())
            }
            None => {
                info!(sender = sender.as_ref().map_or("", |s| s.host()), "mail without a report was thrown away");
                Ok(())
            }
        };
        spawn_blocking(keeping).await.map_err(std::io::Error::other)?
    }
}
