//! Retrieval, claims and receipts, by what they mean.

use std::time::Duration;

use mail::ledger::{Action, ContentFacts, IndexState, Issued, Key, Leg, Phase, RecipientState, Row, RowBody};
use mail::{Domain, InstanceId, ReferenceId};
use queue::port::{
    CallId, ClaimAnswer, ClaimEntry, Input, JobEvent, JobId, Judged, Judgement, Located, Post, ReceiptEntry, Reply,
    Request, Retrieval, RetrieveFailure, claim_of,
};
use reference::Uri;
use reference::message_signature::SignedBy;

use crate::judge::Violation;
use crate::mutation::Mutation;
use crate::scenario::{Channel, Mood, ServerId};
use crate::server::{At, Caller, Question};
use crate::site;
use crate::smtp::issuer;
use crate::world::{Event, World, mutate_answer};

type Done = Result<(), Violation>;

/// What is found in every object.
pub(crate) const FACTS: ContentFacts =
    ContentFacts { is_object: true, eight_bit: false, tls_optional: false, received_fields: 0 };

/// Whose repository a host is.
pub(crate) fn repository(world: &World, host: &Domain) -> Option<ServerId> {
    world.scenario.topology.server_at(host)
}

/// A retrieval begins.
pub(crate) fn retrieve(world: &mut World, at: At, job: JobId, retrieval: &Retrieval) -> Done {
    let uri = Uri::parse(&retrieval.uri).ok();
    match (uri, repository(world, &retrieval.host)) {
        (Some(uri), Some(to)) => {
            world.ask(at, job, to, Channel::Https, Question::Fetch(uri.host, uri.xuid, uri.grant));
            Ok(())
        }
        _ => Err(Violation("a retrieval leads nowhere".into())),
    }
}

/// A judgement begins: the object must be durable here.
pub(crate) fn judge(world: &mut World, at: At, job: JobId, judgement: &Judgement) -> Done {
    let row = world.servers[at.server].disk.row(&judgement.key);
    let is_held = row.is_some_and(|row| match &row.body {
        RowBody::Inbound(inbound) => inbound.phase == Phase::Held && inbound.object.is_some(),
        RowBody::Leg(_) => false,
    });
    if !is_held {
        return Err(Violation(format!("{} is judged without being held", judgement.key)));
    }
    let event = match world.chance.permille(100) {
        true => JobEvent::JudgeFailed { text: "not now".into() },
        false => JobEvent::Judged(Judged {
            results: "Authentication-Results: x; none\r\n".into(),
            seal: String::new(),
            verdict: "clean".into(),
            refusal: None,
        }),
    };
    let time = world.chance.millis(1, 3_000);
    world.after(time, Event::Answer(at, job, event));
    Ok(())
}

/// Claims are posted: what they say must be durable here.
pub(crate) fn post_claims(world: &mut World, at: At, job: JobId, post: Post<ClaimEntry>) -> Done {
    for entry in &post.entries {
        let row = world.servers[at.server].disk.row(&Key::Inbound(entry.id, post.d.clone()));
        let Some(RowBody::Inbound(inbound)) = row.map(|row| &row.body) else {
            return Err(Violation(format!("a claim of {} without its row", entry.id)));
        };
        let recorded = match inbound.phase {
            Phase::Claiming { .. } => !entry.acted,
            Phase::Working => entry.acted,
            Phase::Delegating | Phase::Waiting | Phase::Held | Phase::Closed => false,
        };
        if inbound.evidence.is_some() {
            return Err(Violation(format!("a claim of {} was sent before its content was judged", entry.id)));
        }
        if !recorded {
            return Err(Violation(format!("a claim of {} was sent before that was durable", entry.id)));
        }
        let expires = inbound.expires;
        if !entry.acted {
            world.judge.posted(at.server, entry.id, expires, world.now)?;
        }
    }
    let acted = post.entries.iter().any(|entry| entry.acted);
    let swallowed = if acted { Mutation::ActedDropped } else { Mutation::DeliverWithoutClaim };
    if world.is_mutated(swallowed) {
        let all = |entry: &ClaimEntry| Some(entry.indexes.iter().map(|n| (*n, ClaimAnswer::Granted)).collect());
        let answers = post.entries.iter().map(all).collect();
        world.after(Duration::from_millis(5), Event::Answer(at, job, JobEvent::Claimed(answers)));
        return Ok(());
    }
    let Some(to) = repository(world, &post.host) else { return Ok(()) };
    world.ask(at, job, to, Channel::Https, Question::Claims(post));
    Ok(())
}

/// Receipts are posted: what they say must be durable here.
pub(crate) fn post_receipts(world: &mut World, at: At, job: JobId, post: Post<ReceiptEntry>) -> Done {
    for entry in &post.entries {
        let row = world.servers[at.server].disk.row(&Key::Inbound(entry.id, post.d.clone()));
        let Some(RowBody::Inbound(inbound)) = row.map(|row| &row.body) else {
            return Err(Violation(format!("a receipt for {} without its row", entry.id)));
        };
        for (index, outcome) in entry.outcomes.iter().filter(|(_, outcome)| outcome.action.is_final()) {
            let state = inbound.recipients.get(usize::from(*index)).map(|recipient| &recipient.state);
            let known = match state {
                Some(IndexState::Final { outcome, .. } | IndexState::Delegated { failed: Some(outcome) }) => {
                    Some(outcome)
                }
                _ => None,
            };
            if known.is_none_or(|known| known.action != outcome.action) {
                return Err(Violation(format!("a receipt for {} was sent before it was durable", entry.id)));
            }
        }
    }
    let Some(to) = repository(world, &post.host) else { return Ok(()) };
    world.ask(at, job, to, Channel::Https, Question::Receipts(post));
    Ok(())
}

/// A request arrives at a repository.
pub(crate) fn arrives(world: &mut World, here: ServerId, from: At, job: JobId, question: Question) -> Done {
    if let Question::Claims(post) = &question
        && world.chance.permille(100)
    {
        steal(world, here, post)?;
    }
    let (caller, request) = match question {
        Question::Fetch(host, xuid, grant) => {
            if world.chance.permille(300) {
                let served = Request::Served { grant: grant.clone(), octets: 100 };
                world.input(world.here(here), Input::Call { call: CallId(0), request: served })?;
            }
            (Caller::Fetch { from, job }, Request::Locate { xuid, grant, signed: signed(world, from.server, &host) })
        }
        Question::Claims(post) => {
            let signed = signed(world, from.server, &post.host);
            let request = Request::Claims { instance: post.instance, claims: post.entries.clone(), signed };
            (Caller::Claims { from, job, post }, request)
        }
        Question::Receipts(post) => {
            let signed = signed(world, from.server, &post.host);
            let request = Request::Receipts { instance: post.instance, receipts: post.entries.clone(), signed };
            let is_late = world.is_mutated(Mutation::LateFailureForgotten) && is_late_failure(world, here, &post);
            if is_late || world.is_mutated(Mutation::ReceiptsBeforeCommit) {
                let all = |entry: &ReceiptEntry| Some(entry.outcomes.iter().map(|(n, _)| *n).collect());
                let recorded = JobEvent::Reported(post.entries.iter().map(all).collect());
                world.answer(here, from, job, Channel::Https, recorded);
            }
            if is_late {
                return Ok(());
            }
            (Caller::Receipts { from, job, post }, request)
        }
        Question::Connect | Question::Value(..) | Question::Offer(_) => return Ok(()),
        Question::Delegation(_) | Question::List(..) | Question::Part(..) => return Ok(()),
    };
    if world.servers[here].node.is_none() {
        return Ok(());
    }
    let call = world.servers[here].call(caller);
    world.input(world.here(here), Input::Call { call, request })
}

/// Does somebody down the chain report a failure of what came here by reference, and went on in custody?
fn is_late_failure(world: &World, here: ServerId, post: &Post<ReceiptEntry>) -> bool {
    post.entries.iter().any(|entry| {
        let fails = entry.outcomes.iter().any(|(_, outcome)| outcome.action == Action::Failed);
        let went_on = |row: &Row| matches!(&row.body, RowBody::Leg(leg) if leg.inbound.is_some());
        fails && issuer(world, here, &entry.id).iter().any(went_on)
    })
}

/// A server has the keys of its own domain and of the sites that it keeps mail for, and of no other; what it sends it signs.
pub(crate) fn signed(world: &World, server: ServerId, host: &Domain) -> SignedBy {
    signed_by(world.scenario.topology.keys_at(server), host)
}

pub(crate) fn signed_by(domains: impl IntoIterator<Item = Domain>, host: &Domain) -> SignedBy {
    let mut signed = SignedBy::default();
    domains.into_iter().for_each(|domain| signed.add(domain, host.clone()));
    signed
}

/// Somebody has read the bound grants of this claim, and comes first. Whoever got an answer would have the mail.
fn steal(world: &mut World, here: ServerId, post: &Post<ClaimEntry>) -> Done {
    let bound = world.scenario.bound();
    let claims: Vec<ClaimEntry> = post.entries.iter().filter(|entry| bound.contains(&entry.to)).cloned().collect();
    if claims.is_empty() || world.servers[here].node.is_none() {
        return Ok(());
    }
    let forged = world.is_mutated(Mutation::UnsignedClaimAccepted);
    let signed = if forged { signed_by([claims[0].to.clone()], &post.host) } else { SignedBy::default() };
    let call = world.servers[here].call(Caller::Thief);
    let request = Request::Claims { instance: InstanceId([0xee; 16]), claims, signed };
    world.input(world.here(here), Input::Call { call, request })
}

/// What the thief is told must be nothing.
pub(crate) fn thief_answered(reply: &Reply) -> Done {
    match reply {
        Reply::Claims(answers) if answers.iter().any(Option::is_some) => {
            Err(Violation("a claim under a bound grant was answered without its domain's signature".into()))
        }
        _ => Ok(()),
    }
}

/// The repository knows what the grant may fetch.
pub(crate) fn located(world: &mut World, here: ServerId, from: At, job: JobId, reply: Reply) -> Done {
    let event = match reply {
        Reply::Object(Located::Object(object)) => {
            // Let go of between the question to the ledger and its answer.
            let Some(stored) = world.servers[here].disk.object(&object.key).cloned() else {
                world.answer(here, from, job, Channel::Https, no_object("not there any more"));
                return Ok(());
            };
            match world.is_in_mood(here, Mood::Corrupt) {
                true => failed(RetrieveFailure::Corrupt, "other octets"),
                false => {
                    world.contents.extend(stored.content.map(|content| (object.xuid, content)));
                    JobEvent::Retrieved { octets: object.size, object, facts: FACTS }
                }
            }
        }
        Reply::Object(Located::Gone) => failed(RetrieveFailure::Gone, "gone"),
        Reply::Object(Located::Unknown) => failed(RetrieveFailure::NotFound, "not found"),
        _ => no_object("unavailable"),
    };
    if world.scenario.topology.is_site(from.server) && matches!(event, JobEvent::Retrieved { .. }) {
        site::transfer(world, here, from, job, event);
        return Ok(());
    }
    world.answer(here, from, job, Channel::Https, event);
    Ok(())
}

/// The origin has decided on claims: what it grants must be durable there.
pub(crate) fn claimed(
    world: &mut World,
    here: ServerId,
    from: At,
    job: JobId,
    post: &Post<ClaimEntry>,
    reply: Reply,
) -> Done {
    let Reply::Claims(mut answers) = reply else {
        world.answer(here, from, job, Channel::Https, no_answer());
        return Ok(());
    };
    check_claimed(world, here, post, &answers)?;
    for (_, answer) in answers.iter_mut().flatten().flatten() {
        *answer = mutate_answer(*answer, world.options.mutation);
    }
    let event = if answers.iter().all(Option::is_none) { no_answer() } else { JobEvent::Claimed(answers) };
    world.answer(here, from, job, Channel::Https, event);
    Ok(())
}

pub(crate) fn check_claimed(
    world: &mut World,
    here: ServerId,
    post: &Post<ClaimEntry>,
    answers: &[Option<Vec<(u16, ClaimAnswer)>>],
) -> Done {
    for (entry, answers) in post.entries.iter().zip(answers) {
        for (index, answer) in answers.iter().flatten() {
            match answer {
                ClaimAnswer::Granted => check_granted(world, here, post.instance, entry, *index)?,
                ClaimAnswer::Taken => world.summary.lost_to_another += 1,
                ClaimAnswer::Gone => count_gone(world, here, entry, *index),
            }
        }
    }
    Ok(())
}

/// Which race has this claim lost?
fn count_gone(world: &mut World, here: ServerId, entry: &ClaimEntry, index: u16) {
    let is_withdrawn = |state: &RecipientState| match state {
        RecipientState::Done { outcome, .. } => outcome.text.contains("withdrawn"),
        _ => false,
    };
    let now = world.now;
    let withdrawn = with_recipient(world, here, &entry.id, index, |state, _| is_withdrawn(state));
    let expired = with_recipient(world, here, &entry.id, index, |_, issued| issued.expires <= now);
    world.summary.lost_to_withdrawal += u64::from(withdrawn);
    world.summary.lost_to_expiry += u64::from(expired && !withdrawn);
}

fn check_granted(world: &World, here: ServerId, instance: InstanceId, entry: &ClaimEntry, index: u16) -> Done {
    let durable = with_recipient(world, here, &entry.id, index, |state, issued| {
        claim_of(state).is_some_and(|claim| claim.instance == instance && claim.reference == entry.id)
            || issued.acted.contains(&(index, instance))
    });
    if durable { Ok(()) } else { Err(Violation(format!("{} was granted before that was durable", entry.id))) }
}

/// The origin has recorded receipts: they must be durable there.
pub(crate) fn recorded(
    world: &mut World,
    here: ServerId,
    from: At,
    job: JobId,
    post: &Post<ReceiptEntry>,
    reply: Reply,
) -> Done {
    let event = match reply {
        Reply::Receipts(answers) if answers.iter().any(Option::is_some) => {
            check_reported(world, here, post, &answers)?;
            JobEvent::Reported(answers)
        }
        _ => no_answer(),
    };
    world.answer(here, from, job, Channel::Https, event);
    Ok(())
}

pub(crate) fn check_reported(
    world: &World,
    here: ServerId,
    post: &Post<ReceiptEntry>,
    answers: &[Option<Vec<u16>>],
) -> Done {
    let pairs = post.entries.iter().zip(answers);
    let mut all = pairs.flat_map(|(entry, recorded)| recorded.iter().flatten().map(move |index| (entry, *index)));
    all.try_for_each(|(entry, index)| check_recorded(world, here, entry, index))
}

fn check_recorded(world: &World, here: ServerId, entry: &ReceiptEntry, index: u16) -> Done {
    let is_final = entry.outcomes.iter().any(|(n, outcome)| *n == index && outcome.action.is_final());
    let durable = with_recipient(world, here, &entry.id, index, |state, issued| {
        let concluded = matches!(state, RecipientState::Done { .. });
        // Beside the claimant, a store that acted is heard too; what it says may change nothing.
        concluded || issued.acted.iter().any(|(n, _)| *n == index)
    });
    if !is_final || durable {
        Ok(())
    } else {
        Err(Violation(format!("a receipt for {} was acknowledged before it was durable", entry.id)))
    }
}

pub(crate) fn with_recipient(
    world: &World,
    here: ServerId,
    id: &ReferenceId,
    index: u16,
    holds: impl Fn(&RecipientState, &Issued) -> bool,
) -> bool {
    let found = |leg: &Leg| {
        let issued = leg.issued.iter().find(|issued| issued.id == *id)?;
        let position = issued.positions.get(usize::from(index))?;
        Some(holds(&leg.recipients.get(usize::from(*position))?.state, issued))
    };
    issuer(world, here, id).iter().any(|row| match &row.body {
        RowBody::Leg(leg) => found(leg).unwrap_or(false),
        RowBody::Inbound(_) => false,
    })
}

pub(crate) fn no_answer() -> JobEvent {
    JobEvent::PostFailed { text: "no answer that counts".into() }
}

pub(crate) fn no_object(text: &str) -> JobEvent {
    failed(RetrieveFailure::Temporary, text)
}

fn failed(failure: RetrieveFailure, text: &str) -> JobEvent {
    JobEvent::RetrieveFailed { failure, text: text.into() }
}
