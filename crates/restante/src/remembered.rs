//! What was taken once and must not count as new again: noted in the ledger as a reference that wants nothing, until a date.
//!
//! A hop by value that was accepted, a message of a site's. What is made of a repetition is the caller's.

use mail::ledger::{Inbound, InboundRecipient, IndexState, Phase};
use mail::{Address, Domain, Grant, MailParams, QueueId, Recipient, ReferenceId, Timestamp, Xuid};
use queue::port::{OfferAnswer, Reply, Request};

use crate::runtime::Custody;

/// One such thing. `d` and `i` name it; another of the same name and fingerprint is a repetition.
pub(crate) struct Remembered {
    pub(crate) queue_id: QueueId,
    pub(crate) d: Domain,
    pub(crate) i: ReferenceId,
    pub(crate) to: Domain,
    pub(crate) fingerprint: String,
    pub(crate) xuid: Xuid,
    pub(crate) size: u64,
    pub(crate) until: Timestamp,
    pub(crate) mail_from: Option<Address>,
    /// None of them open: nothing is retrieved.
    pub(crate) recipients: Vec<(Recipient, IndexState)>,
}

impl Remembered {
    /// Notes it, durably. Says if it was not noted before; `None` where the ledger cannot tell now.
    pub(crate) async fn note(self, custody: &Custody, at: Timestamp) -> Option<bool> {
        match custody.ask(Request::Offer(Box::new(self.row(at)?))).await {
            Reply::Offer(answer) => Some(matches!(answer, OfferAnswer::Pending(_))),
            _ => None,
        }
    }

    fn row(self, at: Timestamp) -> Option<Inbound> {
        let one = |(recipient, state)| InboundRecipient { recipient, targets: Vec::new(), outcomes: Vec::new(), state };
        Some(Inbound {
            queue_id: self.queue_id,
            host: self.d.clone(),
            d: self.d,
            i: self.i,
            to: self.to,
            fingerprint: self.fingerprint,
            uri: String::new(),
            grant: Grant::new(&[0; 16])?,
            block: String::new(),
            xuid: self.xuid,
            size: self.size,
            expires: self.until,
            mail_from: self.mail_from,
            params: MailParams::default(),
            recipients: self.recipients.into_iter().map(one).collect(),
            trace: String::new(),
            seal: String::new(),
            accepted: at,
            client: None,
            not_before: None,
            phase: Phase::Waiting,
            hops: Vec::new(),
            object: None,
            facts: None,
            carried: false,
            evidence: None,
            refusal: None,
            legs: 0,
            attempts: 0,
            next_attempt: at,
            unheard_since: None,
            steps: Vec::new(),
        })
    }
}
