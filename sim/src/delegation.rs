//! Relaying by reference: what a relay posts to the origin, what the origin answers, and what must be true of both.

use mail::ReferenceId;
use mail::ledger::{Issued, Row, RowBody};
use queue::port::{ClaimAnswer, Delegating, DelegationEntry, Input, JobEvent, JobId, Reply, Request, Work};
use reference::{Assurance, Block, Hop, Uri};

use crate::http::{no_answer, repository, signed};
use crate::judge::Violation;
use crate::mutation::Mutation;
use crate::scenario::{Channel, ServerId};
use crate::server::{At, Caller, Question};
use crate::smtp::issuer;
use crate::world::World;

type Done = Result<(), Violation>;

/// A delegation is posted: its hop must be durable here.
pub(crate) fn post(world: &mut World, at: At, job: JobId, post: Box<Delegating>) -> Done {
    let is_durable = world.servers[at.server].disk.row(&post.key).is_some_and(|row| match &row.body {
        RowBody::Inbound(inbound) => inbound.hops.iter().any(|hop| hop.issued.block == post.block),
        RowBody::Leg(_) => false,
    });
    if !is_durable {
        return Err(Violation(format!("a hop on {} was posted before it was durable", post.id)));
    }
    let Some(to) = repository(world, &post.host) else { return Ok(()) };
    world.ask(at, job, to, Channel::Https, Question::Delegation(post));
    Ok(())
}

/// It arrives at the origin.
pub(crate) fn arrives(world: &mut World, here: ServerId, from: At, job: JobId, post: &Delegating) -> Done {
    let Some(hop) = hop(&post.block) else { return Err(Violation("a relay posts what is no hop".into())) };
    let is_unknown = world.now < world.scenario.peace && world.chance.permille(50);
    if is_unknown {
        world.answer(here, from, job, Channel::Https, no_answer());
        return Ok(());
    }
    let id = hop.statement().id;
    let bound = world.scenario.bound().contains(&hop.statement().to).then_some(Assurance::Dnssec);
    let entry = DelegationEntry {
        to: post.to.clone(),
        id: post.id,
        grant: post.grant.clone(),
        hop,
        hop_grant: post.hop_grant.clone(),
        map: post.map.clone(),
        bound,
    };
    if world.is_mutated(Mutation::DelegationBeforeCommit) {
        world.answer(here, from, job, Channel::Https, JobEvent::Delegated(ClaimAnswer::Granted));
    }
    let signed = signed(world, from.server, &post.host);
    let call = world.servers[here].call(Caller::Delegation { from, job, hop: id });
    let request = Request::Delegate { instance: post.instance, delegation: Box::new(entry), signed };
    world.input(world.here(here), Input::Call { call, request })
}

/// The origin has decided: what it grants must be durable there.
pub(crate) fn answered(
    world: &mut World,
    here: ServerId,
    from: At,
    job: JobId,
    hop: &ReferenceId,
    reply: &Reply,
) -> Done {
    let event = match reply {
        Reply::Delegated(Some(ClaimAnswer::Granted)) => {
            if !issuer(world, here, hop).iter().any(|row| has_hop(row, hop)) {
                return Err(Violation(format!("the hop {hop} was delegated before that was durable")));
            }
            JobEvent::Delegated(ClaimAnswer::Granted)
        }
        Reply::Delegated(Some(_)) if world.is_mutated(Mutation::DelegationDoesNotContend) => {
            JobEvent::Delegated(ClaimAnswer::Granted)
        }
        Reply::Delegated(Some(answer)) => JobEvent::Delegated(*answer),
        _ => no_answer(),
    };
    world.answer(here, from, job, Channel::Https, event);
    Ok(())
}

/// The relay does not wait for an answer that counts (a seeded bug).
pub(crate) fn mutate(world: &World, at: At, job: JobId, event: &mut JobEvent) {
    let delegates =
        world.servers[at.server].jobs.get(&job).is_some_and(|errand| matches!(errand.work, Work::PostDelegation(_)));
    if delegates && world.is_mutated(Mutation::DelegationNotAwaited) {
        *event = JobEvent::Delegated(ClaimAnswer::Granted);
    }
}

/// Has the origin recorded this hop, so that it may be offered on?
pub(crate) fn is_recorded(world: &World, hop: &Issued) -> bool {
    let host = Uri::parse(&hop.uri).map(|uri| uri.host);
    let origin = host.ok().and_then(|host| repository(world, &host));
    // By the time it is offered on, the origin may have finished with it, and forgotten.
    origin.is_some_and(|origin| {
        let rows = issuer(world, origin, &hop.id);
        hop.expires <= world.now || rows.iter().any(|row| has_hop(row, &hop.id))
    })
}

fn has_hop(row: &Row, id: &ReferenceId) -> bool {
    match &row.body {
        RowBody::Leg(leg) => leg.issued.iter().any(|issued| issued.id == *id && issued.delegated.is_some()),
        RowBody::Inbound(_) => false,
    }
}

fn hop(block: &str) -> Option<Hop> {
    Block::parse(block.as_bytes()).ok()?.chain().hops().first().cloned()
}
