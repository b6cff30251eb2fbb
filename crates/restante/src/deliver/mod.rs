//! Delivering: the queue's jobs, each carried out by the part that knows the destination.
//!
//! When, to whom and whether by reference is the queue's; here is only how.

mod mailbox;
mod maildir;
mod retrieve;
mod smtp;

use mail::ledger::Route;
use mail::{Domain, EnhancedStatus, Timestamp};
use net::{retrieval, smtp_client};
use queue::port::{Delivery, DeliveryEnd, JobEvent, Work};
use store::Store;

use crate::receive::LiveRouter;
use crate::runtime::{Courier, JobLine, now};
use mailbox::Mailboxes;

pub(crate) use retrieve::facts;
pub(crate) use smtp::Hosts;

/// Carries out every job of the queue.
pub(crate) struct Couriers {
    router: LiveRouter,
    mailboxes: Mailboxes,
    smtp: smtp::SmtpCourier,
    repositories: retrieval::Client,
    store: Store,
}

impl Couriers {
    /// Over these clients and this store.
    pub(crate) fn new(
        hostname: Domain,
        store: Store,
        router: LiveRouter,
        hosts: Hosts,
        smtp: smtp_client::Client,
        repositories: retrieval::Client,
    ) -> Self {
        let started: Timestamp = now();
        let mailboxes = Mailboxes { store: store.clone(), hostname, started };
        let smtp = smtp::SmtpCourier { client: smtp, hosts, store: store.clone() };
        Self { router, mailboxes, smtp, repositories, store }
    }

    async fn deliver(&self, delivery: Delivery, line: JobLine) -> DeliveryEnd {
        match &delivery.leg.route {
            Route::Discard => mailbox::discard(&delivery),
            Route::Maildir(name) => match self.router.get().maildir(name) {
                Some(path) => self.mailboxes.deliver(&delivery, path).await,
                None => unreachable_mailbox(name),
            },
            Route::Mx(_) | Route::Relay(_) | Route::Lmtp(_) => self.smtp.deliver(&delivery, line).await,
        }
    }
}

impl Courier for Couriers {
    async fn run(&self, work: Work, line: JobLine) -> JobEvent {
        match work {
            Work::Deliver(delivery) => {
                let budget = delivery.budget;
                match tokio::time::timeout(budget, self.deliver(*delivery, line)).await {
                    Ok(end) => JobEvent::Delivered(end),
                    Err(_) => JobEvent::Delivered(DeliveryEnd::Unreachable {
                        text: "the attempt took longer than it may".to_owned(),
                        status: EnhancedStatus::temporary(4, 7),
                    }),
                }
            }
            Work::Retrieve(retrieval) => retrieve::retrieve(&self.repositories, &self.store, &retrieval).await,
            Work::PostClaims(post) => retrieve::post_claims(&self.repositories, post).await,
            Work::PostReceipts(post) => retrieve::post_receipts(&self.repositories, post).await,
        }
    }
}

/// A mailbox that the configuration has no place for any more: an operator may mend that.
fn unreachable_mailbox(name: &str) -> DeliveryEnd {
    let domain = name.rsplit_once('@').map_or("", |(_, domain)| domain);
    DeliveryEnd::Unreachable {
        text: format!("the configuration has no Maildir for {domain} any more"),
        status: EnhancedStatus::temporary(3, 5),
    }
}
