//! What stands in bundles between a custodian and its site (TBR §7.5), and what is done with it where they are read. When they are
//! written, and what becomes of them on the way, is in [`crate::stick`].

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use mail::ledger::{Inbound, Key, Leg, ObjectRef, Phase, Row, RowBody, by_pending};
use mail::{Address, Domain, EnhancedStatus, Holder, InstanceId, ReferenceId};
use queue::bundle::{Recorded, heard, owed};
use queue::letters::{Letter, told};
use queue::port::{ClaimEntry, HeardEntry, Input, Post, ReceiptEntry, Reply, Request, TakenEntry};
use reference::verify::Parsed;

use crate::http::{self, FACTS};
use crate::judge::Violation;
use crate::mutation::Mutation;
use crate::scenario::{self, ServerId};
use crate::server::{At, Caller, Offer};
use crate::site::{self, SiteEvent};
use crate::smtp::By;
use crate::stick::StickEvent;
use crate::topology::Link;
use crate::upload;
use crate::world::{Event, World};

type Done = Result<(), Violation>;

/// The offers of a bundle are judged before the objects behind them are read.
const JUDGED: Duration = Duration::from_secs(3);

/// What a custodian writes for its site.
#[derive(Debug, Clone)]
pub(crate) struct ForSite {
    /// Of each store of the site's.
    heard: BTreeMap<InstanceId, Vec<HeardEntry>>,
    taken: Vec<TakenEntry>,
    pending: Vec<Enclosed>,
}

/// A message that waits for a site: its offers, and its object.
#[derive(Debug, Clone)]
pub(crate) struct Enclosed {
    offers: Vec<Offer>,
    object: ObjectRef,
    content: Option<Rc<[u8]>>,
    /// Octets of it that are in the file.
    octets: u64,
}

/// What a site writes for its custodian.
#[derive(Debug, Clone)]
pub(crate) struct FromSite {
    claims: Post<ClaimEntry>,
    receipts: Post<ReceiptEntry>,
    letters: Vec<Letter>,
}

impl ForSite {
    /// Where there is nothing to say, no bundle is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.heard.is_empty() && self.taken.is_empty() && self.pending.is_empty()
    }

    /// How many messages are in it.
    pub(crate) fn messages(&self) -> usize {
        self.pending.len()
    }

    /// The file ends in the middle of this message.
    pub(crate) fn tear(&mut self, message: usize) {
        self.pending.iter_mut().skip(message).for_each(|enclosed| enclosed.octets /= 2);
    }
}

impl FromSite {
    /// Where there is nothing to say, no bundle is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.claims.entries.is_empty() && self.receipts.entries.is_empty() && self.letters.is_empty()
    }
}

/// The custodian writes: what it has heard and taken, and what waits. All of that stays as it is.
pub(crate) fn write_for(world: &mut World, link: Link) -> Result<ForSite, Violation> {
    let (now, here, instance) = (world.now, link.custodian, world.servers[link.site].instance);
    let domain = scenario::domain(link.domain);
    let (disk, holder) = (&world.servers[here].disk, Holder::from(domain.clone()));
    let taken = disk.rows().filter_map(inbound_of).filter_map(|inbound| told(inbound, &holder)).map(taken_entry);
    let taken = taken.collect();
    let legs = || disk.rows().filter_map(site::leg_of);
    let mut recorded: Vec<Recorded> = legs().flat_map(|leg| heard(leg, &domain)).collect();
    if world.is_mutated(Mutation::HeardUnseen) {
        recorded.extend(legs().flat_map(|leg| unseen(leg, instance)));
    }
    let waiting = disk.find(&[by_pending(&holder)], usize::MAX);
    let waiting = waiting.iter().filter_map(site::leg_of);
    let waiting: Vec<(Vec<Offer>, ObjectRef)> =
        waiting.filter_map(|leg| Some((site::offers(leg, now), leg.object.clone()?))).collect();
    let mut pending = Vec::new();
    for (mut offers, object) in waiting {
        let Some(stored) = world.servers[here].disk.object(&object.key).cloned() else {
            return Err(Violation(format!("what waits for {domain} has lost its object {:?}", object.key)));
        };
        site::forget(world, here, Mutation::WrittenForgotten, &mut offers);
        if !offers.is_empty() {
            pending.push(Enclosed { offers, content: stored.content, octets: object.size, object });
        }
    }
    Ok(ForSite { heard: by_store(recorded, &domain), taken, pending })
}

/// Everything that is out is said to be claimed (a seeded bug).
fn unseen(leg: &Leg, instance: InstanceId) -> Vec<Recorded> {
    let all = leg.issued.iter().flat_map(|issued| {
        let indexes = (0u16..).zip(&issued.positions);
        indexes.map(move |(index, _)| Recorded { instance, reference: issued.id, index, outcome: None })
    });
    all.collect()
}

pub(crate) fn inbound_of(row: &Row) -> Option<&Inbound> {
    match &row.body {
        RowBody::Inbound(inbound) => Some(inbound),
        RowBody::Leg(_) => None,
    }
}

fn taken_entry(entry: reference::bundle::TakenEntry) -> TakenEntry {
    let failed = entry.failed.into_iter().map(|one| (one.rcpt, one.status, one.text.into()));
    TakenEntry { key: entry.id, failed: failed.collect::<Vec<(Address, EnhancedStatus, String)>>() }
}

fn by_store(recorded: Vec<Recorded>, site: &Domain) -> BTreeMap<InstanceId, Vec<HeardEntry>> {
    let mut all: BTreeMap<(InstanceId, ReferenceId), HeardEntry> = BTreeMap::new();
    for Recorded { instance, reference, index, outcome } in recorded {
        let key = Key::Inbound(reference, site.clone());
        let empty = HeardEntry { key, claimed: Vec::new(), recorded: Vec::new() };
        let entry = all.entry((instance, reference)).or_insert(empty);
        if !entry.claimed.contains(&index) {
            entry.claimed.push(index);
        }
        entry.recorded.extend(outcome.map(|action| (index, action)));
    }
    let mut by_store: BTreeMap<InstanceId, Vec<HeardEntry>> = BTreeMap::new();
    all.into_iter().for_each(|((instance, _), entry)| by_store.entry(instance).or_default().push(entry));
    by_store
}

/// The site writes: what its custodian may not know, and these messages.
pub(crate) fn write_from(world: &World, link: Link, letters: Vec<Letter>) -> FromSite {
    let (host, domain) = (world.topology().host(link.custodian, link.domain), scenario::domain(link.domain));
    let server = &world.servers[link.site];
    let ours = server.disk.rows().filter_map(inbound_of);
    let ours = ours.filter(|inbound| inbound.host == host && inbound.to == domain);
    let (claims, receipts): (Vec<_>, Vec<_>) = ours.map(owed).unzip();
    FromSite {
        claims: post((&host, &domain), server.instance, claims.into_iter().flatten().collect()),
        receipts: post((&host, &domain), server.instance, receipts.into_iter().flatten().collect()),
        letters,
    }
}

fn post<T>((host, d): (&Domain, &Domain), instance: InstanceId, entries: Vec<T>) -> Post<T> {
    Post { host: host.clone(), d: d.clone(), instance, entries }
}

/// The site reads a bundle: the word of its custodian, then what waits, then the objects of that.
pub(crate) fn read_at_site(world: &mut World, link: Link, bundle: ForSite) -> Done {
    let at = world.here(link.site);
    let ForSite { mut heard, taken, pending } = bundle;
    if let Some(entries) = heard.remove(&world.servers[link.site].instance) {
        ask(world, at, Request::Heard { entries }, Caller::Bundle)?;
    }
    ask(world, at, Request::Taken { entries: taken }, Caller::Bundle)?;
    for offer in pending.iter().flat_map(|enclosed| &enclosed.offers) {
        if !world.is_alive(at) {
            return Ok(());
        }
        site::judge(world, at, offer, By::Bundle)?;
    }
    world.after(JUDGED, Event::Site(at.server, SiteEvent::Stick(link, StickEvent::Unpacked(at, pending))));
    Ok(())
}

/// The objects of a bundle, for what is in the ledger by now and waits for them.
pub(crate) fn unpacked(world: &mut World, at: At, pending: Vec<Enclosed>) -> Done {
    for Enclosed { offers, object, content, octets } in pending {
        let is_torn = octets < object.size && !world.is_mutated(Mutation::TornTakenForWhole);
        if !world.is_alive(at) || is_torn {
            return Ok(());
        }
        let server = &mut world.servers[at.server];
        let keys: Vec<Key> = offers.iter().filter_map(key_of).filter(|key| waits(server.disk.row(key))).collect();
        if keys.is_empty() {
            continue;
        }
        let object =
            if octets < object.size { server.store_part(&object, octets) } else { server.store(&object, content) };
        let request = Request::Carried { keys, object: object.clone(), facts: FACTS };
        ask(world, at, request, Caller::Carried { object })?;
    }
    Ok(())
}

fn key_of(offer: &Offer) -> Option<Key> {
    let parsed = Parsed::new(&offer.line(), offer.block.as_bytes()).ok()?;
    Some(Key::Inbound(parsed.id(), parsed.signer().clone()))
}

fn waits(row: Option<&Row>) -> bool {
    row.and_then(inbound_of).is_some_and(|inbound| inbound.phase == Phase::Waiting)
}

fn ask(world: &mut World, at: At, request: Request, caller: Caller) -> Done {
    if !world.is_alive(at) {
        return Ok(());
    }
    let call = world.servers[at.server].call(caller);
    world.input(at, Input::Call { call, request })
}

/// The site's queue has answered to an object: where it took none, the object is thrown away.
pub(crate) fn carried(world: &mut World, here: ServerId, object: &ObjectRef, reply: &Reply) -> Done {
    let disk = &mut world.servers[here].disk;
    match reply {
        Reply::Carried(taken) if *taken > 0 => {
            world.summary.unpacked += taken;
            if world.is_mutated(Mutation::CarriedThrownAway) {
                world.servers[here].disk.discard(&object.key);
            }
            Ok(())
        }
        _ if disk.is_named(&object.key) => Err(Violation(format!("{:?} was not taken, and is named", object.key))),
        _ => {
            disk.discard(&object.key);
            Ok(())
        }
    }
}

/// The site's queue has answered to its custodian's word.
pub(crate) fn heard_of(world: &mut World, reply: &Reply) {
    if let Reply::Heard(news) = reply {
        world.summary.heard += news;
    }
}

/// The custodian reads a bundle: claims, receipts once those are answered, and mail.
pub(crate) fn read_at_custodian(world: &mut World, link: Link, bundle: FromSite) -> Done {
    let (at, site, here) = (world.here(link.custodian), link.site, link.custodian);
    let FromSite { claims, receipts, letters } = bundle;
    let signed = http::signed_by([claims.d.clone()], &claims.host);
    let request = Request::Claims { instance: claims.instance, claims: claims.entries.clone(), signed };
    ask(world, at, request, Caller::CarriedClaims { claims, receipts })?;
    for letter in letters {
        if !world.is_alive(at) {
            return Ok(());
        }
        if upload::recall(world, here, &letter).is_none() {
            let caller = Caller::Letter { asker: None, letter: letter.clone() };
            upload::take(world, here, site, &letter, caller)?;
        }
    }
    Ok(())
}

/// The custodian's queue has answered to claims: what it grants must be durable.
pub(crate) fn claimed(
    world: &mut World,
    here: ServerId,
    (claims, receipts): (&Post<ClaimEntry>, Post<ReceiptEntry>),
    reply: &Reply,
) -> Done {
    let Reply::Claims(answers) = reply else { return Ok(()) };
    http::check_claimed(world, here, claims, answers)?;
    let at = world.here(here);
    let signed = http::signed_by([receipts.d.clone()], &receipts.host);
    let request = Request::Receipts { instance: receipts.instance, receipts: receipts.entries.clone(), signed };
    ask(world, at, request, Caller::CarriedReceipts { receipts })
}

/// The custodian's queue has answered to receipts: what it has recorded must be durable.
pub(crate) fn recorded(world: &World, here: ServerId, receipts: &Post<ReceiptEntry>, reply: &Reply) -> Done {
    let Reply::Receipts(answers) = reply else { return Ok(()) };
    http::check_reported(world, here, receipts, answers)
}
