//! Delivering: the queue's jobs, each carried out by the part that knows the destination.
//!
//! When, to whom and whether by reference is the queue's; here is only how.

mod convert;
mod delegate;
mod judge;
mod mailbox;
mod maildir;
mod on_demand;
mod reports;
mod retrieve;
mod site;
mod smtp;
mod upload;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mail::ledger::Route;
use mail::{Domain, EnhancedStatus, Timestamp};
use net::discovery::Discovery;
use net::{retrieval, smtp_client};
use queue::port::{Delivery, DeliveryEnd, JobEvent, Judgement, Retrieval, RetrieveFailure, Work};
use store::Store;

use crate::budgets::Budgets;
use crate::live::Live;
use crate::receive::{Filters, Gate, LiveRouter, Signers};
use crate::reports::inbox::Archive;
use crate::request_keys::RequestKeys;
use crate::runtime::{Courier, JobLine, now};
use mailbox::Mailboxes;

pub(crate) use on_demand::{Attempt, Lines, Open};
pub(crate) use retrieve::{claim_entry, facts, receipt_entry};
pub(crate) use smtp::{Hosts, relay_destination};

/// An attempt that broke off after it had brought so many octets was no failure: on a slow link a large message takes many.
const WORTHWHILE: u64 = 64 * 1024;

/// What reaches other servers.
pub(crate) struct Outward {
    pub(crate) smtp: Live<smtp_client::Client>,
    pub(crate) repositories: retrieval::Client,
    /// Connections that others have opened, and turned over.
    pub(crate) lines: Lines,
    /// Which recipient domains have keys.
    pub(crate) discovery: Discovery,
    /// With which requests are signed.
    pub(crate) keys: RequestKeys,
    /// Judges what was retrieved.
    pub(crate) gate: Gate,
    /// Seals what is forwarded.
    pub(crate) signers: Signers,
    /// Where failures are counted.
    pub(crate) budgets: Budgets,
}

/// Carries out every job of the queue.
pub(crate) struct Couriers {
    router: LiveRouter,
    mailboxes: Mailboxes,
    reports: reports::Intake,
    smtp: smtp::SmtpCourier,
    upload: upload::UploadCourier,
    lines: Lines,
    repositories: retrieval::Client,
    keys: RequestKeys,
    store: Store,
    filters: Filters,
    gate: Gate,
    signers: Signers,
    budgets: Budgets,
}

impl Couriers {
    /// Over these clients and this store.
    pub(crate) fn new(
        hostname: Domain,
        store: Store,
        router: LiveRouter,
        hosts: Hosts,
        outward: Outward,
        filters: Filters,
        archive: Archive,
    ) -> Self {
        let started: Timestamp = now();
        let readers = outward.budgets.readers().clone();
        let mailboxes = Mailboxes { store: store.clone(), hostname, started, readers };
        let Outward { smtp, lines, repositories, discovery, keys, gate, signers, budgets } = outward;
        let smtp = smtp::SmtpCourier { client: smtp, hosts, store: store.clone(), discovery, signers: signers.clone() };
        let upload = upload::UploadCourier {
            client: repositories.clone(),
            keys: keys.clone(),
            store: store.clone(),
            underway: upload::Underway::default(),
        };
        let reports = reports::Intake::new(store.clone(), archive);
        Self {
            router,
            mailboxes,
            reports,
            smtp,
            upload,
            lines,
            repositories,
            keys,
            store,
            filters,
            gate,
            signers,
            budgets,
        }
    }

    /// Each way in a box of its own: hundreds of deliveries wait at a time, none of them with room for all ways.
    async fn deliver(&self, delivery: Delivery, line: JobLine) -> DeliveryEnd {
        match &delivery.leg.route {
            Route::Discard => mailbox::discard(&delivery),
            Route::Reports => self.reports.take(&delivery).boxed().await,
            Route::Maildir(name) => match self.router.get().maildir(name) {
                Some(path) => self.mailboxes.deliver(&delivery, path).boxed().await,
                None => unreachable_mailbox(name),
            },
            Route::Site(site) => site::keep(site, line).await,
            Route::OnDemand(domain) => {
                on_demand::deliver(&self.smtp, &self.lines, domain, &delivery, line).boxed().await
            }
            Route::Relay(name) => match self.smtp.hosts.custodian(name) {
                Some(custodian) => self.upload.deliver(&delivery, &custodian, line).boxed().await,
                None => self.smtp.deliver(&delivery, line).boxed().await,
            },
            Route::Mx(_) | Route::Lmtp(_) => self.smtp.deliver(&delivery, line).boxed().await,
        }
    }
}

impl Couriers {
    async fn deliver_in_time(&self, delivery: Delivery, line: JobLine) -> JobEvent {
        let budget = delivery.budget;
        JobEvent::Delivered(tokio::time::timeout(budget, self.deliver(delivery, line)).await.unwrap_or_else(|_| {
            DeliveryEnd::Unreachable {
                text: "the attempt took longer than it may".to_owned(),
                status: EnhancedStatus::temporary(4, 7),
            }
        }))
    }

    async fn retrieve(&self, retrieval: Retrieval) -> JobEvent {
        if let Some(client) = retrieval.recheck
            && let Err(reason) = self.gate.look_again(client).await
        {
            let text = format!("refused after it had waited: {reason}");
            return JobEvent::RetrieveFailed { failure: RetrieveFailure::Refused, text };
        }
        let event = retrieve::retrieve(&self.repositories, &self.keys, &self.store, &retrieval).await;
        if is_failure(&event) {
            self.budgets.retrieval_failed(&retrieval.d);
        }
        event
    }

    async fn judge(&self, judgement: Judgement) -> JobEvent {
        judge::judge(&self.gate, &self.filters, &self.signers, &self.store, &judgement).await
    }
}

// Each kind of work is a future of its own: as one, they are nested too deeply for the compiler.
impl Courier for Couriers {
    fn run(&self, work: Work, line: JobLine) -> BoxFuture<'_, JobEvent> {
        match work {
            Work::Deliver(delivery) => self.deliver_in_time(*delivery, line).boxed(),
            Work::Retrieve(retrieval) => self.retrieve(*retrieval).boxed(),
            Work::Judge(judgement) => self.judge(*judgement).boxed(),
            Work::PostClaims(post) => retrieve::post_claims(&self.repositories, &self.keys, post).boxed(),
            Work::PostDelegation(post) => delegate::post(&self.repositories, &self.keys, *post).boxed(),
            Work::PostReceipts(post) => retrieve::post_receipts(&self.repositories, &self.keys, post).boxed(),
        }
    }
}

/// Has a retrieval cost something and brought nothing? To be told that a reference was withdrawn is no failure, and what nobody was
/// asked for is none either.
fn is_failure(event: &JobEvent) -> bool {
    use RetrieveFailure::{Gone, Interrupted, NotMade};
    matches!(event, JobEvent::RetrieveFailed { failure, .. } if !matches!(failure, Gone | Interrupted | NotMade))
}

/// A mailbox that the configuration has no place for any more: an operator may mend that.
fn unreachable_mailbox(name: &str) -> DeliveryEnd {
    let domain = name.rsplit_once('@').map_or("", |(_, domain)| domain);
    DeliveryEnd::Unreachable {
        text: format!("the configuration has no Maildir for {domain} any more"),
        status: EnhancedStatus::temporary(3, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_retrieval_that_was_made_and_brought_nothing_is_a_failure_of_its_domain() {
        use RetrieveFailure::{Corrupt, Gone, Interrupted, NotFound, NotMade, Refused, Temporary};
        let counts = |failure| is_failure(&JobEvent::RetrieveFailed { failure, text: String::new() });
        for failure in [Temporary, NotFound, Corrupt, Refused] {
            assert!(counts(failure), "{failure:?}");
        }
        for failure in [Gone, Interrupted, NotMade] {
            assert!(!counts(failure), "{failure:?}");
        }
    }
}
