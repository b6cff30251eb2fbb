//! Sites that are connected some of the time (TBR §7.4): the link comes up, whatever waits is tried again, the custodian is asked what is
//! pending, page by page, and what is fetched goes on where the last link broke off.

use std::collections::BTreeSet;
use std::time::Duration;

use mail::ledger::{InboundRecipient, IndexState, Key, Leg, ObjectRef, Row, RowBody, by_pending};
use mail::{Recipient, Timestamp};
use queue::pending::{Place, Taken, URGENT, waiting};
use queue::port::{Command, Input, JobEvent, JobId, Request, Selection};
use reference::verify::Parsed;

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
    /// Its question what is pending has come to the custodian: the page that begins there.
    Asked(At, Link, Option<String>),
    /// A page of the answer has come back, and where the next one begins.
    Listed(At, Link, Vec<Offer>, Option<String>),
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
        SiteEvent::Asked(from, link, after) => asked(world, link, from, after.as_deref()),
        SiteEvent::Listed(at, link, offers, next) => listed(world, at, link, offers, next),
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
    for link in links {
        // A list that broke off goes on where it did.
        let after = world.servers[site].left.get(&(link.custodian, link.domain)).cloned();
        ask(world, at, link, after);
    }
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

fn ask(world: &mut World, at: At, link: Link, after: Option<String>) {
    if let Some(delay) = world.cross(at.server, link.custodian, Channel::Https) {
        world.after(delay, Event::Site(at.server, SiteEvent::Asked(at, link, after)));
    }
}

/// The custodian answers from what is durable there.
fn asked(world: &mut World, link: Link, from: At, after: Option<&str>) -> Done {
    let (now, site, place) = (world.now, link.site, link.custodian);
    if world.servers[place].node.is_none() {
        return Ok(());
    }
    let key = by_pending(&scenario::domain(link.domain).into());
    let mut rows = world.servers[place].disk.find(&[key], usize::MAX);
    rows.sort_by_key(|row| row.key.to_string());
    let mut begin = after.map_or_else(|| Place::start(now), |after| Place::parse(after, now));
    let (mut offers, mut legs) = (Vec::new(), 0);
    let next = loop {
        let behind: Vec<Row> =
            rows.iter().filter(|row| row.key.to_string().as_str() > begin.after()).cloned().collect();
        let taken = begin.take(&behind, true, |leg| {
            legs += 1;
            offers.extend(self::offers(leg, now).into_iter().filter(|_| legs <= PAGE));
            legs <= PAGE
        });
        match taken {
            Taken::Full if world.is_mutated(Mutation::CursorTooFar) => {
                let skipped = rows.iter().find(|row| row.key.to_string().as_str() > begin.after());
                begin.take(skipped.map_or(&[], std::slice::from_ref), false, |_| true);
                break Some(begin.cursor());
            }
            Taken::Full => break Some(begin.cursor()),
            Taken::More => {}
            Taken::All => break None,
        }
    };
    let uris = |offers: &[Offer]| -> BTreeSet<String> { offers.iter().map(|offer| offer.uri.clone()).collect() };
    let all: Vec<Offer> = rows.iter().filter_map(leg_of).flat_map(|leg| self::offers(leg, now)).collect();
    check_list(world, link, after.is_none(), uris(&all), uris(&offers), next.is_none())?;
    if world.scenario.topology.is_site(place) {
        world.summary.behind += offers.len() as u64;
    }
    forget(world, place, Mutation::PendingForgotten, &mut offers);
    if world.is_mutated(Mutation::WrittenForgotten) {
        offers.retain(|offer| !world.servers[place].told.contains(&offer.uri));
    }
    world.summary.pages += 1;
    if let Some(delay) = world.cross(place, site, Channel::Https) {
        world.after(delay, Event::Site(site, SiteEvent::Listed(from, link, offers, next)));
    }
    Ok(())
}

/// What waited when a list was begun, and still does at its end, must stand in it.
fn check_list(
    world: &mut World,
    link: Link,
    is_first: bool,
    waiting: BTreeSet<String>,
    page: BTreeSet<String>,
    is_last: bool,
) -> Done {
    if is_first {
        world.lists.insert(link, List { waited: waiting.clone(), listed: BTreeSet::new() });
    }
    let Some(list) = world.lists.get_mut(&link) else { return Ok(()) };
    list.listed.extend(page);
    let left_out = list.waited.iter().find(|uri| is_last && waiting.contains(*uri) && !list.listed.contains(*uri));
    match left_out {
        Some(uri) => Err(Violation(format!("a list for {} has left out {uri}", link.domain))),
        None => Ok(()),
    }
}

/// A list that is under way.
pub(crate) struct List {
    /// What waited when it was begun.
    waited: BTreeSet<String>,
    /// What its pages have named.
    listed: BTreeSet<String>,
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
fn listed(world: &mut World, at: At, link: Link, mut offers: Vec<Offer>, next: Option<String>) -> Done {
    let now = world.now;
    let parsed = |offer: &Offer| Parsed::new(&offer.line(), offer.block.as_bytes()).ok();
    offers.sort_by_key(|offer| parsed(offer).map(|parsed| (parsed.expires() > now.after(URGENT), parsed.size())));
    for offer in &offers {
        if !world.is_alive(at) {
            return Ok(());
        }
        judge(world, at, offer, By::Pending)?;
    }
    if world.is_alive(at) {
        let (left, list) = (&mut world.servers[at.server].left, (link.custodian, link.domain));
        match next {
            Some(next) => {
                left.insert(list, next.clone());
                ask(world, at, link, Some(next));
            }
            None => drop(left.remove(&list)),
        }
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
