//! Judging the content of a reference between retrieval and claim: by policy, from what the session left with the row, and by
//! milters, who see the object as they see content by value.
//!
//! What is looked at and what follows is `receive::Gate`'s, who is asked `receive::Filters`'s; a refusal becomes a claim that says
//! `failed`, which is the queue's.

use mail::EnhancedStatus;
use mail::ledger::{Inbound, IndexState, ObjectRef};
use net::authentication::content::{Content, ContentFault};
use queue::port::{JobEvent, Judged, Judgement};
use smtp::Reply;
use store::{Store, StoreError};

use crate::receive::{Caller, Filtering, Filters, Gate, Left, Passed, Signers, forwarder, unreadable};

/// Judges one reference.
pub(super) async fn judge(
    gate: &Gate,
    filters: &Filters,
    signers: &Signers,
    store: &Store,
    judgement: &Judgement,
) -> JobEvent {
    let inbound = &judgement.inbound;
    let left = inbound.evidence.as_deref().and_then(|text| serde_json::from_str::<Left>(text).ok());
    let (Some(left), Some(object)) = (left, &inbound.object) else {
        return later("what is known of the session cannot be read any more");
    };
    let (mut judged, mut found) = (Judged::default(), None);
    if let Some(mut evidence) = left.evidence {
        let targets = inbound.recipients.iter().map(|one| (&one.recipient.address, &one.targets[..]));
        let forwarder = forwarder(targets).filter(|domain| signers.seals(domain));
        let content = match read(gate, store, object, forwarder.is_some()).await {
            Err(error) => return unread(&error),
            Ok(Err(ContentFault::Busy)) => return later(ContentFault::Busy.to_string()),
            Ok(Err(fault)) => return refused(&unreadable(fault)),
            Ok(Ok(content)) => content,
        };
        gate.examine(&mut evidence, &content).await;
        let approved = match gate.conclude(&evidence) {
            Err(reply) => {
                gate.report(&evidence);
                return refused(&reply);
            }
            Ok(approved) => approved,
        };
        found = Some(evidence);
        judged.seal = forwarder.map(|domain| signers.seal(&domain, &content, &approved)).unwrap_or_default();
        (judged.results, judged.verdict) = (approved.results, approved.verdict);
    }
    let event = match left.caller {
        None => JobEvent::Judged(judged),
        Some(caller) => by_filters(filters, store, inbound, object, caller, judged).await,
    };
    // What is judged once more is reported once.
    if let (JobEvent::Judged(_), Some(evidence)) = (&event, found) {
        gate.report(&evidence);
    }
    event
}

async fn read(
    gate: &Gate,
    store: &Store,
    object: &ObjectRef,
    to_be_sealed: bool,
) -> Result<Result<Content, ContentFault>, StoreError> {
    let mut source = store.read(object, 0..object.size).await?;
    let mut reader = gate.content();
    if to_be_sealed {
        reader = reader.to_be_sealed();
    }
    while let Some(chunk) = source.next_chunk().await? {
        reader.push(&chunk);
    }
    Ok(reader.finish())
}

async fn by_filters(
    filters: &Filters,
    store: &Store,
    inbound: &Inbound,
    object: &ObjectRef,
    caller: Caller,
    judged: Judged,
) -> JobEvent {
    let mut filtering = filters.begin(caller, inbound.mail_from.as_ref());
    filtering.is_named(inbound.queue_id.as_str());
    let mut refused = None;
    for recipient in inbound.recipients.iter().filter(|recipient| recipient.state == IndexState::Open) {
        // One of several was taken in the session; what is refused now is the message.
        refused = refused.or(filtering.rcpt(&recipient.recipient.address).await.err());
    }
    match refused {
        Some(reply) => decided(Err(reply), judged),
        None => match filter(filtering, store, object).await {
            Ok(passed) => decided(passed, judged),
            Err(error) => unread(&error),
        },
    }
}

async fn filter(
    mut filtering: Filtering,
    store: &Store,
    object: &ObjectRef,
) -> Result<Result<Passed, Reply>, StoreError> {
    let mut source = store.read(object, 0..object.size).await?;
    while let Some(chunk) = source.next_chunk().await? {
        if let Err(reply) = filtering.content(&chunk).await {
            return Ok(Err(reply));
        }
    }
    Ok(filtering.end().await)
}

fn decided(answer: Result<Passed, Reply>, judged: Judged) -> JobEvent {
    match answer {
        Ok(Passed { fields, discards: false }) => {
            let verdict = if judged.verdict.is_empty() { "taken".to_owned() } else { judged.verdict };
            let verdict = verdict + " and passed by every filter";
            JobEvent::Judged(Judged { results: judged.results + &fields, verdict, ..judged })
        }
        // The origin wants an outcome, and its author is known: nobody is misled by the truth.
        Ok(_) => refusal(EnhancedStatus::permanent(7, 1), "thrown away by a filter".to_owned()),
        Err(reply) if reply.code() < 500 => later(reply.to_string()),
        Err(reply) => refused(&reply),
    }
}

fn refused(reply: &Reply) -> JobEvent {
    refusal(reply.status().unwrap_or(EnhancedStatus::permanent(7, 1)), reply.to_string())
}

fn refusal(status: EnhancedStatus, text: String) -> JobEvent {
    JobEvent::Judged(Judged { refusal: Some((status, text)), ..Judged::default() })
}

fn unread(error: &StoreError) -> JobEvent {
    later(format!("the retrieved message cannot be read now: {error}"))
}

fn later(text: impl Into<String>) -> JobEvent {
    JobEvent::JudgeFailed { text: text.into() }
}
