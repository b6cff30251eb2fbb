//! The receiver's errands to a repository: fetch an object into the store, post claims, post receipts.
//!
//! HTTPS and its limits are `net::retrieval`'s; when to go and what to conclude is the queue's.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use mail::ReferenceId;
use mail::ledger::ContentFacts;
use mail::object::Checked;
use net::retrieval::{Client, Fetch, NoAnswer, Outcome, Sink};
use queue::port::{self, ClaimAnswer, JobEvent, Post, Retrieval, RetrieveFailure};
use reference::Uri;
use reference::claims::{
    ClaimEntry, ClaimsRequest, FailedIndex, ReceiptEntry, ReceiptsRequest, Revision1, Text, WireOutcome, Word,
};
use store::{ObjectWriter, Store};

/// Fetches into the store, so that what is hashed is what is kept.
struct StoreSink<'a> {
    store: &'a Store,
    writer: ObjectWriter,
}

impl Sink for StoreSink<'_> {
    async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        self.writer.write(&chunk).await.map_err(io::Error::other)
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.writer = self.store.create();
        Ok(())
    }
}

/// Fetches one object. What it leaves in the store is not synced yet: the queue's commit does that.
pub(super) async fn retrieve(client: &Client, store: &Store, retrieval: &Retrieval) -> JobEvent {
    let Ok(uri) = Uri::parse(&retrieval.uri) else {
        return failed(RetrieveFailure::NotFound, "the stored URI is not valid");
    };
    let mut sink = StoreSink { store, writer: store.create() };
    let fetch = Fetch { uri: &uri, domain: &retrieval.d, size: retrieval.size, budget: retrieval.budget };
    match client.fetch(fetch, &mut sink).await {
        Outcome::Done { octets } => finish(sink.writer, retrieval, octets).await,
        Outcome::Temporary { text, .. } => failed(RetrieveFailure::Temporary, text),
        Outcome::Gone => failed(RetrieveFailure::Gone, "the repository says that it was withdrawn or has expired"),
        Outcome::NotFound => failed(RetrieveFailure::NotFound, "the repository knows no such reference"),
        Outcome::Corrupt { text } => failed(RetrieveFailure::Corrupt, text),
    }
}

async fn finish(writer: ObjectWriter, retrieval: &Retrieval, octets: u64) -> JobEvent {
    match writer.finish().await {
        Ok((object, checked)) if object.xuid == retrieval.xuid && object.size == retrieval.size => {
            match facts(&checked) {
                facts if facts.is_object => JobEvent::Retrieved { object, facts, octets },
                _ => failed(RetrieveFailure::Corrupt, "what the origin signed is not a message by the rules of TBR"),
            }
        }
        Ok(_) => failed(RetrieveFailure::Corrupt, "the stored octets are not the ones that were signed"),
        Err(error) => failed(RetrieveFailure::Temporary, format!("cannot store the message: {error}")),
    }
}

/// What the queue needs to know of checked content.
pub(crate) fn facts(checked: &Checked) -> ContentFacts {
    ContentFacts { is_object: checked.verdict.is_ok(), eight_bit: checked.eight_bit }
}

fn failed(failure: RetrieveFailure, text: impl Into<String>) -> JobEvent {
    JobEvent::RetrieveFailed { failure, text: text.into() }
}

/// Posts claims; the answers come back in the order of the entries.
pub(super) async fn post_claims(client: &Client, post: Post<port::ClaimEntry>) -> JobEvent {
    let ids: Vec<ReferenceId> = post.entries.iter().map(|entry| entry.id).collect();
    let claims = post.entries.into_iter().map(claim_entry).collect();
    let request = ClaimsRequest { v: Revision1, instance: post.instance, claims };
    match client.post_claims(&post.host, &request).await {
        Err(NoAnswer { text, .. }) => JobEvent::PostFailed { text },
        Ok(answer) => {
            let answered = answer.claims.into_iter().map(|claim| {
                let words = claim.answers.into_iter().filter_map(|a| Some((a.n, as_answer(a.is)?)));
                (claim.i, words.collect::<Vec<_>>())
            });
            JobEvent::Claimed(in_order(&ids, answered))
        }
    }
}

/// Posts receipts, likewise.
pub(super) async fn post_receipts(client: &Client, post: Post<port::ReceiptEntry>) -> JobEvent {
    let ids: Vec<ReferenceId> = post.entries.iter().map(|entry| entry.id).collect();
    let receipts = post.entries.into_iter().map(receipt_entry).collect();
    let request = ReceiptsRequest { v: Revision1, instance: post.instance, receipts };
    match client.post_receipts(&post.host, &request).await {
        Err(NoAnswer { text, .. }) => JobEvent::PostFailed { text },
        Ok(answer) => JobEvent::Reported(in_order(&ids, answer.receipts.into_iter().map(|r| (r.i, r.recorded)))),
    }
}

/// A peer may leave entries out and answer in any order; what it adds is not ours.
fn in_order<T>(ids: &[ReferenceId], answers: impl Iterator<Item = (ReferenceId, T)>) -> Vec<Option<T>> {
    let mut by_id: HashMap<ReferenceId, T> = answers.collect();
    ids.iter().map(|id| by_id.remove(id)).collect()
}

fn claim_entry(entry: port::ClaimEntry) -> ClaimEntry {
    let failed = entry.failed.into_iter().map(|(n, outcome)| FailedIndex {
        n,
        status: outcome.status,
        text: Text::new(&outcome.text),
    });
    let failed = failed.collect();
    ClaimEntry { to: entry.to, i: entry.id, grant: entry.grant, n: entry.indexes, failed, acted: entry.acted }
}

fn receipt_entry(entry: port::ReceiptEntry) -> ReceiptEntry {
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

fn as_answer(word: Word) -> Option<ClaimAnswer> {
    match word {
        Word::Granted => Some(ClaimAnswer::Granted),
        Word::Taken => Some(ClaimAnswer::Taken),
        Word::Gone => Some(ClaimAnswer::Gone),
        Word::Unknown => None,
    }
}
