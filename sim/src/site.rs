//! Sites that are connected some of the time (TBR §7.4): the link comes up, whatever waits is tried again, the custodian is asked what is
//! pending, page by page, and what is fetched goes on where the last link broke off.

use std::time::Duration;

use mail::ledger::{InboundRecipient, IndexState, Key, Leg, ObjectRef, Row, RowBody, by_pending};
use mail::{Recipient, Timestamp};
use queue::pending::waiting;
use queue::port::{Command, Input, JobEvent, JobId, Request, Selection};

use crate::http;
use crate::judge::Violation;
use crate::mutation::Mutation;
use crate::scenario::{self, Channel, SERVERS, ServerId};
use crate::server::{At, Caller, Offer};
use crate::smtp::{self, By};
use crate::stick::{self, StickEvent};
use crate::topology::Link;
use crate::upload::{self, UploadEvent};
use crate::world::{Event, World};

type Done = Result<(), Violation>;

/// Legs whose references are listed on one page.
const PAGE: usize = 3;

/// What happens between a site and its custodian.
pub(crate) enum SiteEvent {
    /// The link of this site to that custodian comes up.
    LinkUp(ServerId),
    /// Its question what is pending has come to the custodian: what stands behind this row.
    Asked(At, Link, Option<Key>),
    /// A page of the answer has come back, and where the next one begins.
    Listed(At, Link, Vec<Offer>, Option<Key>),
    /// The link went down in the middle of a retrieval of this job, when so many octets of it were there.
    Broken(At, JobId, ObjectRef, u64),
    /// Something of an upload.
    Upload(UploadEvent),
    /// Something of a bundle.
    Stick(Link, StickEvent),
}

/// Something of that happens.
pub(crate) fn happens(world: &mut World, site: ServerId, event: SiteEvent) -> Done {
    match event {
        SiteEvent::LinkUp(custodian) => link_up(world, site, custodian),
        SiteEvent::Asked(from, link, after) => asked(world, link, from, after.as_ref()),
        SiteEvent::Listed(at, link, offers, next) => listed(world, at, link, &offers, next),
        SiteEvent::Broken(at, job, object, octets) => broken(world, at, job, &object, octets),
        SiteEvent::Upload(event) => upload::happens(world, event),
        SiteEvent::Stick(link, event) => stick::happens(world, link, event),
    }
}

/// What `restante link up` does: everything is tried again, then the custodian is asked.
fn link_up(world: &mut World, site: ServerId, custodian: ServerId) -> Done {
    if world.servers[site].node.is_none() {
        return Ok(());
    }
    world.tell(|| format!("{} is connected", SERVERS[site].0));
    let (at, now) = (world.here(site), world.now);
    let selections: Vec<Selection> = world.servers[site].disk.rows().filter_map(|row| waits(row, now)).collect();
    for selection in selections {
        if !world.is_alive(at) {
            return Ok(());
        }
        let call = world.servers[site].call(Caller::Hurry);
        world.input(at, Input::Call { call, request: Request::Command(Command::Retry(selection)) })?;
    }
    let topology = world.topology();
    let links = topology.links().filter(|link| (link.site, link.custodian) == (site, custodian));
    links.for_each(|link| ask(world, at, link, None));
    Ok(())
}

/// Is something to be tried again that is not due yet?
fn waits(row: &Row, now: Timestamp) -> Option<Selection> {
    match (&row.key, &row.body) {
        (Key::Leg(id, number), RowBody::Leg(leg)) if !leg.held && leg.next_attempt > now => {
            Some(Selection::Leg(id.clone(), *number))
        }
        (Key::Inbound(..), RowBody::Inbound(inbound)) if inbound.next_attempt > now => {
            Some(Selection::Message(inbound.queue_id.clone()))
        }
        _ => None,
    }
}

fn ask(world: &mut World, at: At, link: Link, after: Option<Key>) {
    if let Some(delay) = world.cross(at.server, link.custodian, Channel::Https) {
        world.after(delay, Event::Site(at.server, SiteEvent::Asked(at, link, after)));
    }
}

/// The custodian answers from what is durable there.
fn asked(world: &mut World, link: Link, from: At, after: Option<&Key>) -> Done {
    let (now, site, place) = (world.now, link.site, link.custodian);
    if world.servers[place].node.is_none() {
        return Ok(());
    }
    let key = by_pending(&scenario::domain(link.domain).into());
    let rows = world.servers[place].disk.find(&[key], usize::MAX);
    let rows: Vec<Row> = rows.into_iter().filter(|row| after.is_none_or(|after| row.key > *after)).collect();
    let page = &rows[..rows.len().min(PAGE)];
    let mut offers: Vec<Offer> = page.iter().filter_map(leg_of).flat_map(|leg| offers(leg, now)).collect();
    if world.scenario.topology.is_site(place) {
        world.summary.behind += offers.len() as u64;
    }
    forget(world, place, Mutation::PendingForgotten, &mut offers);
    if world.is_mutated(Mutation::WrittenForgotten) {
        offers.retain(|offer| !world.servers[place].told.contains(&offer.uri));
    }
    let next = page.last().map(|row| row.key.clone()).filter(|_| rows.len() > PAGE);
    world.summary.pages += 1;
    if let Some(delay) = world.cross(place, site, Channel::Https) {
        world.after(delay, Event::Site(site, SiteEvent::Listed(from, link, offers, next)));
    }
    Ok(())
}

/// What was listed once is not listed again (seeded bugs).
pub(crate) fn forget(world: &mut World, place: ServerId, mutation: Mutation, offers: &mut Vec<Offer>) {
    if world.is_mutated(mutation) {
        let told = &mut world.servers[place].told;
        offers.retain(|offer| told.insert(offer.uri.clone()));
    }
}

pub(crate) fn leg_of(row: &Row) -> Option<&Leg> {
    match &row.body {
        RowBody::Leg(leg) => Some(leg),
        RowBody::Inbound(_) => None,
    }
}

/// What of a leg waits, as it would have been offered by SMTP.
pub(crate) fn offers(leg: &Leg, now: Timestamp) -> Vec<Offer> {
    let offer = |waits: queue::pending::Waiting<'_>| Offer {
        mail_from: leg.mail_from.clone(),
        params: leg.params.clone(),
        uri: waits.issued.uri.clone(),
        block: waits.issued.block.clone(),
        recipients: waits.recipients.into_iter().zip(0u16..).map(|(to, n)| (n, Recipient::clone(to))).collect(),
    };
    waiting(leg, now).into_iter().map(offer).collect()
}

/// Every entry is judged as if it had been offered by SMTP; then the next page is asked for.
fn listed(world: &mut World, at: At, link: Link, offers: &[Offer], next: Option<Key>) -> Done {
    for offer in offers {
        if !world.is_alive(at) {
            return Ok(());
        }
        judge(world, at, offer, By::Pending)?;
    }
    if next.is_some() && world.is_alive(at) {
        ask(world, at, link, next);
    }
    Ok(())
}

pub(crate) fn judge(world: &mut World, at: At, offer: &Offer, by: By) -> Done {
    let verified = match smtp::verify(world, at.server, offer, by) {
        Ok(verified) => verified,
        Err(refusal) => {
            world.tell(|| format!("{} passes an entry over: {refusal:?}", SERVERS[at.server].0));
            return Ok(());
        }
    };
    // A recipient that does not exist is claimed with the others: nobody reads a reply.
    let topology = world.topology();
    let recipients = offer.recipients.iter().map(|(_, recipient)| InboundRecipient {
        recipient: recipient.clone(),
        targets: scenario::targets(&topology, at.server, &recipient.address).unwrap_or_default(),
        outcomes: Vec::new(),
        state: IndexState::Open,
    });
    let recipients = recipients.collect();
    let inbound = smtp::inbound(world, offer, &verified, recipients);
    let call = world.servers[at.server].call(Caller::Pending);
    world.input(at, Input::Call { call, request: Request::Offer(Box::new(inbound)) })
}

/// An object is on its way to a site: the part that is not there yet, as fast as its link is, for as long as that is up.
pub(crate) fn transfer(world: &mut World, from: ServerId, to: At, job: JobId, event: JobEvent) {
    let JobEvent::Retrieved { object, .. } = &event else { return };
    let rate = world.scenario.rate(from, to.server);
    let had = world.servers[to.server].partials.get(&object.xuid).copied().unwrap_or(0);
    let Some(up) = world.scenario.linked_until(from, to.server, world.now) else { return };
    if let Some(errand) = world.servers[to.server].jobs.get_mut(&job) {
        // The answer has begun: nobody waits for it any more.
        errand.step += 1;
    }
    world.summary.resumed += u64::from(had > 0);
    let takes = Duration::from_millis(object.size.saturating_sub(had) * 1000 / rate);
    if world.now.after(takes) < up {
        return world.after(takes, Event::Answer(to, job, event));
    }
    let octets = had + up.since(world.now).as_millis() as u64 * rate / 1000;
    let octets = octets.min(object.size.saturating_sub(1));
    let object = object.clone();
    world.at(up, Event::Site(to.server, SiteEvent::Broken(to, job, object, octets)));
}

fn broken(world: &mut World, at: At, job: JobId, object: &ObjectRef, octets: u64) -> Done {
    if !world.is_alive(at) {
        return Ok(());
    }
    world.servers[at.server].partials.insert(object.xuid, octets);
    if !world.is_mutated(Mutation::PartTakenForWhole) {
        return world.job_event(at, job, http::no_object("the link went down"));
    }
    if let Some(errand) = world.servers[at.server].jobs.get_mut(&job) {
        errand.brought = Some(octets);
    }
    let event = JobEvent::Retrieved { object: object.clone(), facts: http::FACTS, octets };
    world.job_event(at, job, event)
}
