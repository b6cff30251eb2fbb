//! What was taken once and must not count as new again: remembered in the ledger as a reference that wants nothing, until a date.
//!
//! A hop by value that was accepted, a message of a site's: each in the commit that accepts the message, so that what is refused
//! leaves nothing behind, and of two copies at once one is the repetition. What is made of it is said elsewhere.

use mail::ledger::{Inbound, InboundRecipient, IndexState, Key, Phase};
use mail::{Address, Domain, Grant, MailParams, QueueId, Recipient, ReferenceId, Timestamp, Xuid};

/// One such thing. `d` and `i` name it; another of the same name and fingerprint is a repetition.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// What `trace` finds it by.
    pub queue_id: QueueId,
    /// Whose name it has.
    pub d: Domain,
    /// The name.
    pub i: ReferenceId,
    /// For whom it was.
    pub to: Domain,
    /// What a repetition has in common with it.
    pub fingerprint: String,
    /// The content.
    pub xuid: Xuid,
    /// Its octets.
    pub size: u64,
    /// How long it is remembered, at least.
    pub until: Timestamp,
    /// Reverse-path.
    pub mail_from: Option<Address>,
    /// None of them open: nothing is retrieved.
    pub recipients: Vec<(Recipient, IndexState)>,
}

impl Remembered {
    /// Its row.
    pub fn key(&self) -> Key {
        Key::Inbound(self.i, self.d.clone())
    }

    /// As the ledger has it.
    pub fn row(self, at: Timestamp) -> Inbound {
        let one = |(recipient, state)| InboundRecipient { recipient, targets: Vec::new(), outcomes: Vec::new(), state };
        Inbound {
            queue_id: self.queue_id,
            host: self.d.clone(),
            d: self.d,
            i: self.i,
            to: self.to,
            fingerprint: self.fingerprint,
            uri: String::new(),
            grant: Grant::from([0; 16]),
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
        }
    }
}
