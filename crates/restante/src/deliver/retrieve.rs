//! The receiver's errands to a repository: fetch an object into the store, post claims, post receipts.
//!
//! Every request is signed by the recipient domain, where its key is here (TBR §6.2). HTTPS and its limits are
//! `net::retrieval`'s; when to go and what to conclude is the queue's.

use std::collections::{BTreeSet, HashMap};
use std::io;

use bytes::Bytes;
use mail::ledger::{ContentFacts, ObjectRef, Owner, Representation};
use mail::object::Checked;
use mail::{Domain, ReferenceId, Xuid};
use net::retrieval::{Client, Fetch, NoAnswer, Outcome, Repository, Sink, SinkError};
use queue::port::{self, ClaimAnswer, JobEvent, Post, Retrieval, RetrieveFailure};
use reference::Uri;
use reference::body::{Revision1, Text};
use reference::claims::{
    AnsweredClaim, ClaimEntry, ClaimsRequest, FailedIndex, ReceiptEntry, ReceiptsRequest, WireOutcome, Word,
};
use reference::message_signature::{MAX_SIGNATURES, Signer};
use store::{Intake, IntakeError, Purpose, Store, StoreError, Wanted};
use tracing::info;

use super::WORTHWHILE;
use crate::request_keys::RequestKeys;
use crate::runtime::now;

/// Fetches into the store, so that what is hashed is what is kept.
struct StoreSink<'a> {
    store: &'a Store,
    intake: Intake,
    finished: Option<(ObjectRef, Checked)>,
}

impl<'a> StoreSink<'a> {
    async fn open(store: &'a Store, retrieval: &Retrieval) -> Result<Self, StoreError> {
        let Retrieval { d, xuid, size, expires, .. } = retrieval;
        let wanted = Wanted { origin: d.clone().into(), xuid: *xuid, size: *size, until: *expires, now: now() };
        Ok(Self { store, intake: store.intake(wanted).await?, finished: None })
    }

    /// How much of it is here.
    fn octets(&self) -> u64 {
        self.intake.held().map_or(0, |(_, octets)| octets)
    }

    /// Nobody will commit it.
    fn discard(&mut self) {
        if let Some((object, _)) = self.finished.take() {
            self.store.discard(&object);
        }
    }

    /// A later retrieval goes on with what has come.
    async fn keep(self) {
        if let Err(error) = self.intake.keep().await {
            info!(%error, "what has come of an object is not kept");
        }
    }
}

impl Sink for StoreSink<'_> {
    fn takes_codings(&self) -> bool {
        self.intake.takes_codings()
    }

    fn held(&self) -> Option<(Representation, u64)> {
        self.intake.held().map(|(representation, octets)| (representation.clone(), octets))
    }

    async fn begin(&mut self, representation: Representation) -> Result<(), SinkError> {
        self.discard();
        self.intake.begin(representation).await.map_err(not_taken)
    }

    async fn write(&mut self, chunk: Bytes) -> Result<(), SinkError> {
        self.intake.write(&chunk).await.map_err(not_taken)
    }

    async fn finish(&mut self) -> Result<Xuid, SinkError> {
        let (object, checked) = self.intake.finish().await.map_err(not_taken)?;
        let xuid = object.xuid;
        self.finished = Some((object, checked));
        Ok(xuid)
    }
}

fn not_taken(error: IntakeError) -> SinkError {
    match error {
        IntakeError::Store(error) => SinkError::Ours(io::Error::other(error)),
        IntakeError::Bad(bad) => SinkError::Wrong(bad.to_string()),
    }
}

/// Fetches one object, or the rest of it. What it leaves in the store is not synced yet: the queue's commit does that.
pub(super) async fn retrieve(client: &Client, keys: &RequestKeys, store: &Store, retrieval: &Retrieval) -> JobEvent {
    let Ok(uri) = Uri::parse(&retrieval.uri) else {
        return failed(RetrieveFailure::NotFound, "the stored URI is not valid");
    };
    let owner = Owner { account: None, domain: Some(retrieval.to.clone()) };
    // It was accepted: new mail has left room for it.
    let _room = match store.reserve(owner, Purpose::Custody, retrieval.size) {
        Ok(room) => room,
        Err(full) => return failed(RetrieveFailure::NotMade, format!("the object cannot be kept here: {full}")),
    };
    let mut sink = match StoreSink::open(store, retrieval).await {
        Ok(sink) => sink,
        Err(error) => return failed(RetrieveFailure::NotMade, format!("the object cannot be kept here: {error}")),
    };
    let signer = keys.of(&retrieval.to);
    let Retrieval { d, size, budget, .. } = retrieval;
    let before = sink.octets();
    let fetch = Fetch { uri: &uri, domain: d, size: *size, budget: *budget, signer: signer.as_ref() };
    let event = match client.fetch(fetch, &mut sink).await {
        Outcome::Done { octets } => accept(&mut sink, retrieval, octets),
        Outcome::Temporary { text, .. } => {
            let brought = sink.octets().saturating_sub(before);
            sink.keep().await;
            let failure = if brought >= WORTHWHILE { RetrieveFailure::Interrupted } else { RetrieveFailure::Temporary };
            return failed(failure, text);
        }
        Outcome::LeftAlone { text } => {
            sink.keep().await;
            return failed(RetrieveFailure::NotMade, text);
        }
        Outcome::Gone => failed(RetrieveFailure::Gone, "the repository says that it was withdrawn or has expired"),
        Outcome::NotFound => failed(RetrieveFailure::NotFound, "the repository knows no such reference"),
        Outcome::Corrupt { text } => failed(RetrieveFailure::Corrupt, text),
    };
    sink.discard();
    event
}

/// Takes the object out of the sink, if it is what the reference names.
fn accept(sink: &mut StoreSink<'_>, retrieval: &Retrieval, octets: u64) -> JobEvent {
    let Some((object, checked)) = &sink.finished else {
        return failed(RetrieveFailure::Temporary, "the message was not kept");
    };
    if object.xuid != retrieval.xuid || object.size != retrieval.size {
        return failed(RetrieveFailure::Corrupt, "the stored octets are not the ones that were signed");
    }
    let (object, facts) = (object.clone(), facts(checked));
    if !facts.is_object {
        return failed(RetrieveFailure::Corrupt, "what the origin signed is not a message by the rules of TBR");
    }
    // The queue has it now.
    sink.finished = None;
    JobEvent::Retrieved { object, facts, octets }
}

/// What the queue needs to know of checked content.
pub(crate) fn facts(checked: &Checked) -> ContentFacts {
    let Checked { eight_bit, tls_optional, received_fields, .. } = *checked;
    ContentFacts { is_object: checked.verdict.is_ok(), eight_bit, tls_optional, received_fields }
}

fn failed(failure: RetrieveFailure, text: impl Into<String>) -> JobEvent {
    JobEvent::RetrieveFailed { failure, text: text.into() }
}

/// Posts claims. What the origin leaves out has no answer.
pub(super) async fn post_claims(client: &Client, keys: &RequestKeys, post: Post<port::ClaimEntry>) -> JobEvent {
    let (repository, instance) = (Repository { d: &post.d, host: &post.host }, post.instance);
    let send = |entries: Vec<port::ClaimEntry>, signers: Vec<Signer>| async move {
        let claims = entries.into_iter().map(claim_entry).collect();
        let answer =
            client.post_claims(repository, &ClaimsRequest { v: Revision1, instance, claims }, &signers).await?;
        let words = |claim: AnsweredClaim| {
            let words = claim.answers.into_iter().filter_map(|a| Some((a.n, as_answer(a.is)?)));
            (claim.i, words.collect::<Vec<_>>())
        };
        Ok(answer.claims.into_iter().map(words).collect())
    };
    let answers = in_batches(post.entries, keys, |entry| (entry.id, &entry.to), send).await;
    answers.map_or_else(|text| JobEvent::PostFailed { text }, JobEvent::Claimed)
}

/// Posts receipts, likewise.
pub(super) async fn post_receipts(client: &Client, keys: &RequestKeys, post: Post<port::ReceiptEntry>) -> JobEvent {
    let (repository, instance) = (Repository { d: &post.d, host: &post.host }, post.instance);
    let send = |entries: Vec<port::ReceiptEntry>, signers: Vec<Signer>| async move {
        let receipts = entries.into_iter().map(receipt_entry).collect();
        let answer =
            client.post_receipts(repository, &ReceiptsRequest { v: Revision1, instance, receipts }, &signers).await?;
        Ok(answer.receipts.into_iter().map(|receipt| (receipt.i, receipt.recorded)).collect())
    };
    let answers = in_batches(post.entries, keys, |entry| (entry.id, &entry.to), send).await;
    answers.map_or_else(|text| JobEvent::PostFailed { text }, JobEvent::Reported)
}

/// Posts entries, as many requests as they need, and answers in their order.
///
/// # Errors
/// No request had an answer: the last reason.
async fn in_batches<T, A, F>(
    entries: Vec<T>,
    keys: &RequestKeys,
    name: impl Fn(&T) -> (ReferenceId, &Domain),
    send: impl Fn(Vec<T>, Vec<Signer>) -> F,
) -> Result<Vec<Option<A>>, String>
where
    F: Future<Output = Result<Vec<(ReferenceId, A)>, NoAnswer>>,
{
    let (mut answers, mut failure) = (Vec::with_capacity(entries.len()), None);
    for (entries, signers) in batches(entries, keys, |entry| name(entry).1) {
        let ids: Vec<ReferenceId> = entries.iter().map(|entry| name(entry).0).collect();
        let answered = send(entries, signers).await.unwrap_or_else(|NoAnswer { text, .. }| {
            failure = Some(text);
            Vec::new()
        });
        answers.extend(in_order(&ids, answered.into_iter()));
    }
    match failure {
        Some(text) if answers.iter().all(Option::is_none) => Err(text),
        _ => Ok(answers),
    }
}

/// Entries in order, cut so that no request speaks for more domains than it can carry signatures, with those domains'
/// keys.
fn batches<T>(entries: Vec<T>, keys: &RequestKeys, to: impl Fn(&T) -> &Domain) -> Vec<(Vec<T>, Vec<Signer>)> {
    let mut batches: Vec<(Vec<T>, BTreeSet<Domain>)> = Vec::new();
    for entry in entries {
        let domain = to(&entry).clone();
        match batches.last_mut() {
            Some((batch, domains)) if domains.contains(&domain) || domains.len() < MAX_SIGNATURES => {
                domains.insert(domain);
                batch.push(entry);
            }
            _ => batches.push((vec![entry], BTreeSet::from([domain]))),
        }
    }
    let signed = |(batch, domains): (Vec<T>, BTreeSet<Domain>)| {
        (batch, domains.iter().filter_map(|domain| keys.of(domain)).collect())
    };
    batches.into_iter().map(signed).collect()
}

/// A peer may leave entries out and answer in any order; what it adds is not ours.
fn in_order<T>(ids: &[ReferenceId], answers: impl Iterator<Item = (ReferenceId, T)>) -> Vec<Option<T>> {
    let mut by_id: HashMap<ReferenceId, T> = answers.collect();
    ids.iter().map(|id| by_id.remove(id)).collect()
}

pub(crate) fn claim_entry(entry: port::ClaimEntry) -> ClaimEntry {
    let failed = entry.failed.into_iter().map(|(n, outcome)| FailedIndex {
        n,
        status: outcome.status,
        text: Text::new(&outcome.text),
    });
    let failed = failed.collect();
    ClaimEntry { to: entry.to, i: entry.id, grant: entry.grant, n: entry.indexes, failed, acted: entry.acted }
}

pub(crate) fn receipt_entry(entry: port::ReceiptEntry) -> ReceiptEntry {
    let outcomes = entry.outcomes.into_iter().map(|(n, outcome)| WireOutcome {
        n,
        action: outcome.action,
        status: outcome.status,
        text: Text::new(&outcome.text),
        at: outcome.at.as_secs(),
        reported: outcome.reported,
    });
    ReceiptEntry { to: entry.to, i: entry.id, grant: entry.grant, outcomes: outcomes.collect() }
}

pub(super) fn as_answer(word: Word) -> Option<ClaimAnswer> {
    match word {
        Word::Granted => Some(ClaimAnswer::Granted),
        Word::Taken => Some(ClaimAnswer::Taken),
        Word::Gone => Some(ClaimAnswer::Gone),
        Word::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use queue::config::Signer as DomainKey;
    use reference::SigningKey;

    use super::*;

    fn domain(number: usize) -> Domain {
        format!("d{number}.example").parse().unwrap()
    }

    #[test]
    fn a_request_speaks_for_no_more_domains_than_it_has_room_for_signatures() {
        let key = |number: usize| DomainKey {
            domain: domain(number),
            selector: "k1".parse().unwrap(),
            key: Arc::new(SigningKey::from_seed(&[1; 32]).unwrap()),
            repository: domain(number),
            subdomains: false,
        };
        let signers: HashMap<Domain, DomainKey> = (1..40).map(|number| (domain(number), key(number))).collect();
        let keys = RequestKeys::new(&signers);
        let entries: Vec<Domain> = (0..40).flat_map(|number| [domain(number), domain(number)]).collect();
        let made = batches(entries.clone(), &keys, |entry| entry);
        let sizes: Vec<(usize, usize)> = made.iter().map(|(batch, signers)| (batch.len(), signers.len())).collect();
        // The first domain has no key here.
        assert_eq!(sizes, [(32, 15), (32, 16), (16, 8)]);
        assert_eq!(made.into_iter().flat_map(|(batch, _)| batch).collect::<Vec<_>>(), entries, "in order");
    }

    #[test]
    fn facts_of_earlier_rows_are_read() {
        let earlier: ContentFacts = serde_json::from_str(r#"{"is_object":true,"eight_bit":false}"#).unwrap();
        let none = ContentFacts { is_object: true, eight_bit: false, tls_optional: false, received_fields: 0 };
        assert_eq!(earlier, none);
        assert_eq!(serde_json::to_string(&earlier).unwrap(), r#"{"is_object":true,"eight_bit":false}"#);
        let optional = ContentFacts { tls_optional: true, received_fields: 3, ..earlier };
        let text = serde_json::to_string(&optional).unwrap();
        assert_eq!(serde_json::from_str::<ContentFacts>(&text).unwrap(), optional);
    }
}
