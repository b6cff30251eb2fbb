//! SMTP, LMTP and mailboxes, by what they mean: who takes what, and which reply is lost.

use std::time::Duration;

use mail::ledger::{Inbound, InboundRecipient, IndexState, Key, Phase, Route, Source, Target, by_reference};
use mail::{Address, Domain, EnhancedStatus, QueueId, Recipient};
use queue::port::{
    Acceptance, Delivery, DeliveryEnd, Input, JobEvent, JobId, OfferAnswer, Peer, Proceed, RecipientEnd, Reply,
    Request, Work,
};
use reference::Assurance;
use reference::codes::{OfferReply, classify};
use reference::verify::{Outcome, Parsed, Receiver, Refusal, Session, Verified};

use crate::delegation;
use crate::judge::Violation;
use crate::scenario::{self, Channel, Mood, ServerId};
use crate::server::{At, Caller, Errand, Offer, Question, file_name};
use crate::upload;
use crate::world::{Arriving, Event, World};

type Done = Result<(), Violation>;
type Ends = Vec<(u16, RecipientEnd)>;

/// A delivery begins.
pub(crate) fn deliver(world: &mut World, at: At, job: JobId, delivery: &Delivery) -> Done {
    match &delivery.leg.route {
        Route::Maildir(_) => {
            let delay = world.chance.millis(1, 30);
            world.after(delay, Event::WriteMailbox(at, job));
        }
        Route::Lmtp(_) => {
            let peer = Peer { name: "lmtp".into(), ..Peer::default() };
            world.after(Duration::from_millis(1), Event::Answer(at, job, JobEvent::Connected(peer)));
        }
        Route::Site(site) => {
            // Nobody is connected to: the queue issues, and the site will ask.
            let keys = vec![(site.domain().clone(), Assurance::Webpki)];
            let peer = Peer { name: site.to_string(), tbr: true, keys, ..Peer::default() };
            world.after(Duration::from_millis(1), Event::Answer(at, job, JobEvent::Connected(peer)));
        }
        Route::Relay(_) if upload::is_uploaded(world, at.server, &delivery.leg) => {
            // Nobody is connected to before there is something to ask.
            let peer = Peer { name: "custodian".into(), dsn: true, ..Peer::default() };
            world.after(Duration::from_millis(1), Event::Answer(at, job, JobEvent::Connected(peer)));
        }
        Route::Relay(_) => {
            let next = world.scenario.topology.next_hops(at.server, &delivery.leg.route);
            return connect(world, at, job, &next);
        }
        Route::Mx(_) => {
            let mut exchangers = world.scenario.topology.next_hops(at.server, &delivery.leg.route);
            if exchangers.len() > 1 && world.chance.permille(400) {
                exchangers.reverse();
            }
            return connect(world, at, job, &exchangers);
        }
        Route::Discard | Route::Reports | Route::OnDemand(_) => {}
    }
    Ok(())
}

fn connect(world: &mut World, at: At, job: JobId, exchangers: &[ServerId]) -> Done {
    let up = |s: &&ServerId| {
        let cut = world.now < world.scenario.peace && world.scenario.is_cut(at.server, **s, Channel::Smtp, world.now);
        let is_linked = world.scenario.linked_until(at.server, **s, world.now).is_some();
        world.servers[**s].node.is_some() && is_linked && !cut
    };
    let Some(peer) = exchangers.iter().find(up).copied() else {
        let delay = world.chance.millis(10, 30_000);
        world.after(delay, Event::Answer(at, job, unreachable("connection refused")));
        return Ok(());
    };
    if let Some(errand) = world.servers[at.server].jobs.get_mut(&job) {
        errand.peer = Some(peer);
    }
    world.ask(at, job, peer, Channel::Smtp, Question::Connect);
    Ok(())
}

/// A client has connected.
pub(crate) fn connected(world: &mut World, here: ServerId, from: At, job: JobId) -> Done {
    let tbr = world.servers[here].tbr && !world.is_in_mood(here, Mood::Mute);
    let unknown = world.now < world.scenario.peace && world.chance.permille(30);
    let bound = world.scenario.bound();
    let (keys, keys_unknown) = if unknown { (Vec::new(), bound) } else { (known(bound), Vec::new()) };
    let peer = Peer { name: scenario::SERVERS[here].0.into(), tbr, keys, keys_unknown, ..Peer::default() };
    world.answer(here, from, job, Channel::Smtp, JobEvent::Connected(peer));
    Ok(())
}

fn known(domains: Vec<Domain>) -> Vec<(Domain, Assurance)> {
    domains.into_iter().map(|domain| (domain, Assurance::Dnssec)).collect()
}

/// The queue has said how to go on.
pub(crate) fn proceed(world: &mut World, at: At, job: JobId, how: Proceed) -> Done {
    let Some(errand) = world.servers[at.server].jobs.get_mut(&job) else { return Ok(()) };
    let Work::Deliver(delivery) = &mut errand.work else { return Ok(()) };
    let is_mailbox = matches!(delivery.leg.route, Route::Lmtp(_));
    let is_relay = matches!(delivery.leg.route, Route::Relay(_));
    let peer = errand.peer;
    world.summary.count_way(&delivery.leg, &how);
    if let Route::Site(_) = delivery.leg.route {
        return keep(world, at, job, how);
    }
    match (how, peer) {
        (Proceed::ByValue { positions, .. }, None) if is_relay => return upload::begin(world, at, job, positions),
        (Proceed::ByValue { positions, .. }, _) if is_mailbox => {
            delivery.positions = positions;
            world.after(Duration::from_millis(2), Event::WriteMailbox(at, job));
        }
        (Proceed::ByValue { positions, .. }, Some(peer)) => {
            let question = Question::Value(delivery.clone(), positions);
            world.ask(at, job, peer, Channel::Smtp, question);
        }
        (Proceed::Offer { uri, block, positions }, Some(peer)) => {
            let recipients = positions.iter().map(|p| (*p, delivery.leg.recipients[usize::from(*p)].recipient.clone()));
            let offer = Offer {
                mail_from: delivery.leg.mail_from.clone(),
                params: delivery.leg.params.clone(),
                uri,
                block,
                recipients: recipients.collect(),
            };
            world.summary.backed_up += u64::from(is_relay);
            let key = delivery.key.clone();
            check_issued(world, at, &key, &offer.uri)?;
            world.ask(at, job, peer, Channel::Smtp, Question::Offer(Box::new(offer)));
        }
        (Proceed::Abandon, _) | (_, None) => {
            world.after(Duration::from_millis(1), Event::Answer(at, job, transaction(false, Vec::new())));
        }
    }
    Ok(())
}

/// What waits for a site is issued, and kept until it asks.
fn keep(world: &mut World, at: At, job: JobId, how: Proceed) -> Done {
    let key = match world.servers[at.server].jobs.get(&job) {
        Some(Errand { work: Work::Deliver(delivery), .. }) => delivery.key.clone(),
        _ => return Ok(()),
    };
    let event = match how {
        Proceed::Offer { uri, positions, .. } => {
            check_issued(world, at, &key, &uri)?;
            transaction(true, positions.iter().map(|position| (*position, taken(false))).collect())
        }
        Proceed::ByValue { .. } => return Err(Violation(format!("{key} is to go to a site by value"))),
        Proceed::Abandon => transaction(false, Vec::new()),
    };
    world.after(Duration::from_millis(1), Event::Answer(at, job, event));
    Ok(())
}

/// No offer leaves before the reference is durable.
fn check_issued(world: &World, at: At, key: &Key, uri: &str) -> Done {
    let durable = world.servers[at.server].disk.row(key).is_some_and(|row| match &row.body {
        mail::ledger::RowBody::Leg(leg) => {
            let issued = leg.issued.iter().find(|issued| issued.uri == *uri);
            issued.is_some_and(|issued| !leg.delegated || delegation::is_recorded(world, issued))
        }
        mail::ledger::RowBody::Inbound(_) => false,
    });
    if durable { Ok(()) } else { Err(Violation(format!("{key} offered a reference that was not durable"))) }
}

/// What RCPT answers: where it goes, or why not. A site may relay through its custodian.
fn rcpt(world: &mut World, here: ServerId, from: ServerId, to: &Address) -> Result<Vec<Target>, RecipientEnd> {
    let topology = world.topology();
    let busy = scenario::kind(to) == "busy" && world.now < world.scenario.peace && world.chance.permille(500);
    if busy {
        return Err(later("4.2.1", "try again", false));
    }
    let ours = to.domain().is_some_and(|domain| topology.takes(here, &domain));
    let relays = topology.custodians(from).any(|custodian| custodian == here);
    let targets = scenario::targets(&topology, here, to).filter(|_| ours || relays);
    targets.ok_or_else(|| never("5.1.1", "no such mailbox", false))
}

/// What a client sends comes over a connection that needs both ends.
fn is_open(world: &World, from: At, job: JobId) -> bool {
    world.is_alive(from) && world.servers[from.server].jobs.contains_key(&job)
}

/// A transaction by value arrives, with its content.
pub(crate) fn value_arrives(
    world: &mut World,
    here: ServerId,
    from: At,
    job: JobId,
    delivery: &Delivery,
    positions: &[u16],
) -> Done {
    if !is_open(world, from, job) {
        return Ok(());
    }
    let leg = &delivery.leg;
    let (mut outcomes, mut open, mut recipients) = (Ends::new(), Vec::new(), Vec::new());
    for position in positions {
        let recipient = &leg.recipients[usize::from(*position)].recipient;
        match rcpt(world, here, from.server, &recipient.address) {
            Ok(targets) => {
                open.push(*position);
                recipients.push((recipient.clone(), targets));
            }
            Err(end) => outcomes.push((*position, end)),
        }
    }
    if open.is_empty() {
        world.answer(here, from, job, Channel::Smtp, transaction(false, outcomes));
        return Ok(());
    }
    let Some(object) = &leg.object else { return Err(Violation(format!("{} has no content", delivery.key))) };
    let Some(stored) = world.servers[from.server].disk.object(&object.key).cloned() else {
        return Err(Violation(format!("{} delivers an object that is gone", delivery.key)));
    };
    let queue_id = queue_id(world);
    let addresses = recipients.iter().map(|(recipient, _)| recipient.address.clone()).collect();
    let arriving = Arriving { from, key: delivery.key.clone(), recipients: addresses, xuid: object.xuid };
    world.arriving.insert(queue_id.clone(), arriving);
    let server = &mut world.servers[here];
    let acceptance = Acceptance {
        queue_id,
        mail_from: leg.mail_from.clone(),
        params: leg.params.clone(),
        recipients,
        object: server.store(object, stored.content),
        facts: leg.facts,
        prefix: String::new(),
        seal: String::new(),
        source: Source::Relay,
        once: None,
    };
    let call = server.call(Caller::Value { from, job, outcomes, open });
    world.input(world.here(here), Input::Call { call, request: Request::Accept(Box::new(acceptance)) })
}

/// The reply to the final dot.
pub(crate) fn value_answered(
    world: &mut World,
    here: ServerId,
    from: At,
    job: JobId,
    mut outcomes: Ends,
    open: &[u16],
    reply: &Reply,
) {
    let accepted = matches!(reply, Reply::Accepted);
    outcomes.extend(open.iter().map(|p| (*p, if accepted { taken(false) } else { later("4.3.0", "ledger", false) })));
    world.answer(here, from, job, Channel::Smtp, transaction(false, outcomes));
}

/// An offer arrives: it is judged in the session.
pub(crate) fn offer_arrives(world: &mut World, here: ServerId, from: At, job: JobId, offer: &Offer) -> Done {
    if !is_open(world, from, job) {
        return Ok(());
    }
    let (mut outcomes, mut recipients, mut open) = (Ends::new(), Vec::new(), Vec::new());
    for (position, recipient) in &offer.recipients {
        let (targets, state) = match rcpt(world, here, from.server, &recipient.address) {
            Ok(targets) => {
                open.push(*position);
                (targets, IndexState::Open)
            }
            Err(end) => {
                outcomes.push((*position, end));
                (Vec::new(), IndexState::Refused)
            }
        };
        recipients.push(InboundRecipient { recipient: recipient.clone(), targets, outcomes: Vec::new(), state });
    }
    let mut answer_all = |world: &mut World, end: RecipientEnd| {
        outcomes.extend(open.iter().map(|p| (*p, end.clone())));
        world.answer(here, from, job, Channel::Smtp, transaction(true, std::mem::take(&mut outcomes)));
        Ok(())
    };
    if open.is_empty() || world.is_in_mood(here, Mood::OfferLater) {
        return answer_all(world, later("4.7.70", "later", true));
    }
    if world.is_in_mood(here, Mood::OfferNever) {
        return answer_all(world, never("5.7.80", "unknown keys", true));
    }
    if world.is_in_mood(here, Mood::Decline) {
        let event = JobEvent::OfferDeclined { text: "504 by value please".into() };
        world.answer(here, from, job, Channel::Smtp, event);
        return Ok(());
    }
    match verify(world, here, offer, By::Smtp) {
        Err(refusal) => {
            let (reply, status, text) = refusal.reply();
            let to_offer = classify(reply, Some(status)) == OfferReply::ByValue;
            answer_all(world, RecipientEnd::Permanent { status, text, to_offer })
        }
        Ok(verified) => {
            let inbound = inbound(world, offer, &verified, recipients);
            world.tell(|| format!("{} is offered {} for {}", scenario::SERVERS[here].0, inbound.i, inbound.xuid));
            let call = world.servers[here].call(Caller::Offer { from, job, outcomes, open });
            world.input(world.here(here), Input::Call { call, request: Request::Offer(Box::new(inbound)) })
        }
    }
}

/// How an offer has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Smtp,
    /// In a custodian's list of what is pending.
    Pending,
    /// In such a list in a bundle: no keys are known there but those of the configuration.
    Bundle,
}

pub(crate) fn verify(world: &World, here: ServerId, offer: &Offer, by: By) -> Result<Verified, Refusal> {
    let parsed = Parsed::new(&offer.line(), offer.block.as_bytes())?;
    let addresses: Vec<Address> = offer.recipients.iter().map(|(_, r)| r.address.clone()).collect();
    let session = Session { mail_from: offer.mail_from.as_ref(), recipients: &addresses };
    let is_ours = |domain: &Domain| world.scenario.topology.takes(here, domain);
    let receiver = Receiver { now: world.now, max_size: 1 << 30, is_ours: &is_ours };
    let matched = match by {
        By::Smtp => parsed.match_session(&session, &receiver)?,
        By::Pending | By::Bundle => parsed.match_pending(&session, &receiver)?,
    };
    let facts = |domain: &Domain| {
        let is_known = by != By::Bundle || world.scenario.topology.keys_at(here).any(|own| own == *domain);
        let facts = world.facts.get(domain).filter(|_| is_known)?;
        Some((facts, Assurance::Dnssec))
    };
    match matched.verify_with(&facts)? {
        Outcome::Verified(verified) => Ok(verified),
        Outcome::NeedsConsent(consent) => consent.answer(false),
    }
}

pub(crate) fn inbound(
    world: &mut World,
    offer: &Offer,
    verified: &Verified,
    recipients: Vec<InboundRecipient>,
) -> Inbound {
    let (statement, topmost, uri) = (verified.reference().statement(), verified.topmost(), verified.uri());
    Inbound {
        queue_id: queue_id(world),
        d: topmost.domain().clone(),
        i: topmost.id(),
        to: topmost.to().clone(),
        fingerprint: mail::base64url::encode(verified.idempotence_key().as_bytes()),
        uri: offer.uri.clone(),
        grant: uri.grant.clone(),
        host: uri.host.clone(),
        block: offer.block.clone(),
        xuid: statement.xuid,
        size: statement.size,
        expires: topmost.expires(),
        mail_from: statement.mail_from.clone(),
        params: offer.params.clone(),
        recipients,
        trace: String::new(),
        seal: String::new(),
        accepted: world.now,
        client: None,
        not_before: None,
        phase: Phase::Waiting,
        hops: Vec::new(),
        object: None,
        facts: None,
        carried: false,
        // Every other one is judged before it is claimed.
        evidence: (topmost.id().0[0] % 2 == 0).then(|| "of the session".to_owned()),
        refusal: None,
        legs: 0,
        attempts: 0,
        next_attempt: world.now,
        unheard_since: None,
        steps: Vec::new(),
    }
}

fn queue_id(world: &mut World) -> QueueId {
    QueueId::generate(world.now, world.chance.next().to_be_bytes())
}

/// The reply to the lone dot of an offer.
pub(crate) fn offer_answered(
    world: &mut World,
    here: ServerId,
    from: At,
    job: JobId,
    mut outcomes: Ends,
    open: &[u16],
    reply: &Reply,
) -> Done {
    let end = match reply {
        Reply::Offer(OfferAnswer::Pending(id) | OfferAnswer::StillPending(id)) => {
            check_durable(world, here, id)?;
            taken(false)
        }
        Reply::Offer(OfferAnswer::Claimed(_) | OfferAnswer::Done(_)) => taken(true),
        Reply::Offer(OfferAnswer::Refused(_)) => never("5.7.1", "refused after retrieval", false),
        Reply::Offer(OfferAnswer::Mismatch) => never("5.7.79", "id reused", true),
        _ => later("4.3.1", "ledger", true),
    };
    outcomes.extend(open.iter().map(|p| (*p, end.clone())));
    world.answer(here, from, job, Channel::Smtp, transaction(true, outcomes));
    Ok(())
}

pub(crate) fn check_durable(world: &World, here: ServerId, id: &QueueId) -> Done {
    if world.servers[here].disk.find(&[format!("id/{id}")], 1).is_empty() {
        return Err(Violation(format!("the offer {id} was answered before it was durable")));
    }
    Ok(())
}

/// Files are written, or LMTP takes the content.
pub(crate) fn write_mailbox(world: &mut World, at: At, job: JobId) -> Done {
    let Some(Errand { work: Work::Deliver(delivery), .. }) = world.servers[at.server].jobs.get(&job) else {
        return Ok(());
    };
    let delivery = delivery.clone();
    let outcomes = delivery.positions.iter().map(|position| {
        let recipient = &delivery.leg.recipients[usize::from(*position)].recipient;
        Ok((*position, write_one(world, at, &delivery, recipient)?))
    });
    let outcomes: Ends = outcomes.collect::<Result<_, Violation>>()?;
    let delay = world.chance.millis(1, 20);
    world.after(delay, Event::Answer(at, job, transaction(false, outcomes)));
    Ok(())
}

fn write_one(world: &mut World, at: At, delivery: &Delivery, to: &Recipient) -> Result<RecipientEnd, Violation> {
    let (kind, mailbox) = (scenario::kind(&to.address), to.address.to_string());
    let is_file = !matches!(delivery.leg.route, Route::Lmtp(_));
    let file = format!("{}/{}", at.server, file_name(delivery, &to.address));
    // What an attempt has left that a crash broke off is found, whatever state the mailbox is in.
    if is_file && world.servers[at.server].files.contains_key(&(mailbox.clone(), file.clone())) {
        return Ok(taken(true));
    }
    if delivery.looks_only {
        return Ok(later("4.2.0", "not there", false));
    }
    if kind == "full" {
        return Ok(never("5.2.2", "mailbox full", false));
    }
    if kind == "slow" && world.now < world.scenario.peace && world.chance.permille(700) {
        return Ok(later("4.2.0", "mailbox locked", false));
    }
    let stored = delivery.leg.object.as_ref().and_then(|o| world.servers[at.server].disk.object(&o.key)).cloned();
    let Some(stored) = stored else {
        return Err(Violation(format!("{} delivers an object that is gone", delivery.key)));
    };
    let xuid = stored.object.xuid;
    if stored.octets < stored.object.size {
        return Err(Violation(format!("{} delivers {} octets of {xuid} for the whole", delivery.key, stored.octets)));
    }
    if !is_file {
        world.judge.handed(at, &delivery.key, &to.address, &xuid)?;
    }
    world.tell(|| format!("copy of {xuid} in {mailbox}: {file}"));
    if let Some(content) = &stored.content {
        world.judge.reported(content);
    }
    world.judge.delivered(&xuid, &mailbox, file.clone(), is_file);
    let now = world.now;
    world.servers[at.server].files.insert((mailbox, file), (now, xuid));
    Ok(taken(true))
}

/// A job has ended: what its server knows now.
pub(crate) fn note_told(world: &mut World, server: ServerId, errand: Option<&Errand>, event: &JobEvent) {
    let Some(Errand { work: Work::Deliver(delivery), .. }) = errand else { return };
    let JobEvent::Delivered(DeliveryEnd::Transaction { offer: false, outcomes, .. }) = event else { return };
    for (position, _) in outcomes.iter().filter(|(_, end)| matches!(end, RecipientEnd::Accepted { .. })) {
        let to = &delivery.leg.recipients[usize::from(*position)].recipient.address;
        world.judge.told(server, &delivery.key, to);
    }
}

pub(crate) fn unreachable(text: &str) -> JobEvent {
    let status = EnhancedStatus::temporary(4, 1);
    JobEvent::Delivered(DeliveryEnd::Unreachable { text: text.into(), status })
}

fn transaction(offer: bool, outcomes: Ends) -> JobEvent {
    JobEvent::Delivered(DeliveryEnd::Transaction { offer, outcomes, peer: "peer".into(), octets: 1000 })
}

fn taken(final_delivery: bool) -> RecipientEnd {
    RecipientEnd::Accepted { final_delivery, text: "ok".into() }
}

fn later(status: &str, text: &str, to_offer: bool) -> RecipientEnd {
    RecipientEnd::Temporary { status: parsed(status), text: text.into(), to_offer }
}

fn never(status: &str, text: &str, to_offer: bool) -> RecipientEnd {
    RecipientEnd::Permanent { status: parsed(status), text: text.into(), to_offer }
}

pub(crate) fn parsed(status: &str) -> EnhancedStatus {
    status.parse().unwrap_or(EnhancedStatus::permanent(0, 0))
}

/// For checks: the row that issued a reference.
pub(crate) fn issuer(world: &World, here: ServerId, id: &mail::ReferenceId) -> Vec<mail::ledger::Row> {
    world.servers[here].disk.find(&[by_reference(id)], 1)
}
