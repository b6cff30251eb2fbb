//! Judging an offer: from the TBR line and its block to a row of the ledger, in the order of TBR §3.5.
//!
//! Syntax and session come first and cost nothing; then the keys of the signing domain (cached), then the signature,
//! then consent of the host. Only a verified reference reaches the queue, which commits it before anybody reads 250.

use std::net::IpAddr;
use std::sync::Arc;

use mail::ledger::{Inbound, InboundRecipient, IndexState, Phase, Target};
use mail::trace::Reception;
use mail::{Address, Domain, EnhancedStatus, MailParams, QueueId, Recipient, Timestamp};
use net::discovery::{Discovery, Failure, Found};
use queue::port::{OfferAnswer, Reply, Request};
use reference::codes::{self, Code};
use reference::verify::{self, Matched, Outcome, Parsed, Refusal, Verified};
use reference::{Assurance, Uri};
use tracing::info;

use crate::runtime::{Custody, now};

/// The transaction in which an offer stands.
pub(crate) struct Transaction<'a> {
    /// Drawn by the session.
    pub(crate) queue_id: QueueId,
    /// Reverse-path.
    pub(crate) mail_from: Option<Address>,
    /// MAIL parameters.
    pub(crate) params: MailParams,
    /// Every RCPT in the order sent; those refused have no targets.
    pub(crate) recipients: Vec<(Recipient, Vec<Target>)>,
    /// What the client called itself.
    pub(crate) helo: &'a str,
    /// Its address.
    pub(crate) client: IpAddr,
    /// The protocol keyword of RFC 3848.
    pub(crate) with: &'static str,
}

/// A reply: code, enhanced code, text.
pub(crate) type Verdict = (u16, EnhancedStatus, String);

/// What judging an offer needs.
pub(crate) struct OfferDesk {
    /// The queue.
    pub(crate) custody: Custody,
    /// Keys and consent.
    pub(crate) discovery: Discovery,
    /// This server's name.
    pub(crate) hostname: Domain,
    /// Largest object in octets.
    pub(crate) max_size: u64,
    /// Is the mail of this domain ours?
    pub(crate) is_ours: Arc<dyn Fn(&Domain) -> bool + Send + Sync>,
}

impl OfferDesk {
    /// Judges an offer; the reply is the one to its lone dot.
    pub(crate) async fn judge(&self, transaction: Transaction<'_>, line: &str, block: &[u8]) -> Verdict {
        let id = transaction.queue_id.clone();
        let verdict = match self.verify(&transaction, line, block).await {
            Ok(verified) => self.commit(transaction, &verified).await,
            Err(verdict) => verdict,
        };
        info!(%id, code = verdict.0, status = %verdict.1, text = verdict.2, "offer judged");
        verdict
    }

    async fn verify(&self, transaction: &Transaction<'_>, line: &str, block: &[u8]) -> Result<Verified, Verdict> {
        let at = now();
        let matched = self.match_session(transaction, line, block, at).map_err(refuse)?;
        let mut known: Vec<(Domain, Found)> = Vec::new();
        for (domain, selector) in matched.needed_keys() {
            let found = self.discovery.find(&domain, &selector, at).await.map_err(look_up_failed)?;
            known.push((domain, found));
        }
        let outcome = check_signatures(matched, &known).map_err(refuse)?;
        self.authorise_host(outcome, at).await
    }

    /// Everything that costs no look-up.
    fn match_session(&self, t: &Transaction<'_>, line: &str, block: &[u8], at: Timestamp) -> Result<Matched, Refusal> {
        let recipients: Vec<Address> = t.recipients.iter().map(|(r, _)| r.address.clone()).collect();
        let session = verify::Session { mail_from: t.mail_from.as_ref(), recipients: &recipients };
        let is_ours = |domain: &Domain| (self.is_ours)(domain);
        let receiver = verify::Receiver { now: at, max_size: self.max_size, is_ours: &is_ours };
        Parsed::new(line, block)?.match_session(&session, &receiver)
    }

    async fn authorise_host(&self, outcome: Outcome, at: Timestamp) -> Result<Verified, Verdict> {
        let consent = match outcome {
            Outcome::Verified(verified) => return Ok(verified),
            Outcome::NeedsConsent(consent) => consent,
        };
        let consents = match consent.name() {
            Some(name) => self.discovery.consents(&name, at).await.map_err(look_up_failed)?,
            None => false,
        };
        consent.answer(consents).map_err(refuse)
    }

    async fn commit(&self, transaction: Transaction<'_>, verified: &Verified) -> Verdict {
        let queue_id = transaction.queue_id.clone();
        let inbound = self.row(transaction, verified);
        match self.custody.ask(Request::Offer(Box::new(inbound))).await {
            Reply::Offer(OfferAnswer::Pending(id) | OfferAnswer::StillPending(id)) => accept(&id, &codes::ACCEPTED),
            Reply::Offer(OfferAnswer::Claimed(id)) => accept(&id, &codes::RETRIEVED),
            Reply::Offer(OfferAnswer::Done(id)) => accept(&id, &codes::DONE),
            Reply::Offer(OfferAnswer::Mismatch) => refuse(Refusal::IdReused { domain: verified.signer().clone() }),
            _ => (codes::FULL.reply, codes::FULL.status, format!("{queue_id} the queue cannot take it now")),
        }
    }

    fn row(&self, transaction: Transaction<'_>, verified: &Verified) -> Inbound {
        let (uri, topmost): (&Uri, _) = (verified.uri(), verified.topmost());
        let statement = verified.reference().statement();
        let accepted = now();
        let trace = self.trace(&transaction, verified, accepted);
        let recipients = transaction.recipients.into_iter().map(|(recipient, targets)| {
            let state = if targets.is_empty() { IndexState::Refused } else { IndexState::Open };
            InboundRecipient { recipient, targets, outcomes: Vec::new(), state }
        });
        Inbound {
            recipients: recipients.collect(),
            queue_id: transaction.queue_id,
            d: verified.signer().clone(),
            i: topmost.id(),
            to: topmost.to().clone(),
            fingerprint: mail::base64url::encode(verified.idempotence_key().as_bytes()),
            uri: uri.reveal(),
            grant: uri.grant.clone(),
            host: uri.host.clone(),
            block: verified.block().as_str().to_owned(),
            xuid: statement.xuid,
            size: statement.size,
            expires: topmost.expires(),
            mail_from: transaction.mail_from,
            params: transaction.params,
            trace,
            accepted,
            phase: Phase::Waiting,
            object: None,
            facts: None,
            refusal: None,
            legs: 0,
            attempts: 0,
            next_attempt: accepted,
            unheard_since: None,
            steps: Vec::new(),
        }
    }

    /// Received and Authentication-Results, to stand above the block.
    fn trace(&self, transaction: &Transaction<'_>, verified: &Verified, at: Timestamp) -> String {
        let only_recipient = match transaction.recipients.as_slice() {
            [(recipient, _)] => Some(&recipient.address),
            _ => None,
        };
        let reception = Reception {
            helo: transaction.helo,
            client: Some(transaction.client),
            by: self.hostname.as_str(),
            with: transaction.with,
            id: &transaction.queue_id,
            only_recipient,
            at,
        };
        format!("{}{}", reception.field(), self.authentication_results(verified))
    }

    /// RFC 8601 with the method `tbr` (TBR §9). The origin is named only where no relay stands between.
    fn authentication_results(&self, verified: &Verified) -> String {
        let level = match verified.assurance() {
            Assurance::Dnssec => "dnssec",
            Assurance::Webpki => "webpki",
        };
        let (host, signer) = (&self.hostname, verified.signer());
        format!("Authentication-Results: {host};\r\n\ttbr=pass policy.assurance={level} header.d={signer}\r\n")
    }
}

fn check_signatures(matched: Matched, known: &[(Domain, Found)]) -> Result<Outcome, Refusal> {
    matched.verify_with(&|domain| {
        let (_, found) = known.iter().find(|(known, _)| known == domain)?;
        Some((&*found.facts, found.assurance))
    })
}

fn refuse(refusal: Refusal) -> Verdict {
    refusal.reply()
}

fn accept(id: &QueueId, code: &Code) -> Verdict {
    (code.reply, code.status, format!("{id} {}", code.text))
}

fn look_up_failed(failure: Failure) -> Verdict {
    let code = match &failure {
        Failure::NotPublished(_) | Failure::Unusable { .. } => &codes::NO_ASSURANCE,
        Failure::Bogus { .. } => &codes::NO_ASSURANCE_NOW,
        Failure::Temporary { .. } => &codes::LOOKUP_FAILED,
        Failure::StillLooking(_) => &codes::VERIFYING,
    };
    (code.reply, code.status, failure.to_string())
}
