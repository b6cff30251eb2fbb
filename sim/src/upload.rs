//! What a site uploads to its custodian (TBR §7.4): the list, the octets that are not there, the list once more, over a link that goes down and
//! between servers that crash. What both decide is the real code: `reference::handover` at the site, `queue::letters` at the custodian. HTTPS and
//! the custodian's store of octets are modelled by what they mean.

use std::time::Duration;

use mail::ledger::{Key, Leg, ObjectKey, ObjectRef, RecipientState, Row, RowBody};
use mail::{Timestamp, Xuid};
use queue::letters::{Answering, Letter, Octets, Step, Taking, Whole, told};
use queue::port::{Delivery, DeliveryEnd, Input, JobEvent, JobId, RecipientEnd, Reply, Request, Work};
use reference::bundle::NotTaken;
use reference::handover::{Handover, Next, Patience};
use reference::upload::MailAnswer;

use crate::bundle;
use crate::http::FACTS;
use crate::judge::Violation;
use crate::mutation::Mutation;
use crate::scenario::{self, Channel, Mood, ServerId};
use crate::server::{At, Caller, Errand, Question};
use crate::site::SiteEvent;
use crate::smtp;
use crate::world::{Event, World};

type Done = Result<(), Violation>;

/// As `net::retrieval` has it.
const PATIENCE: Patience = Patience { breaks: 4, pause: Duration::from_millis(250) };
/// Octets that have come are recorded so often: a crash loses those of the time since.
const RECORDED: Duration = Duration::from_secs(2);
/// Objects of a site that its custodian waits for.
const MOST_WANTED: usize = 64;
const MOST_OCTETS: u64 = 1 << 30;

/// An upload of a site's, as its courier has it.
pub(crate) struct Upload {
    letter: Letter,
    handover: Handover,
    positions: Vec<u16>,
}

/// What a site hears of a request.
pub(crate) enum Heard {
    /// The answer to a list.
    Answer(MailAnswer),
    /// The list is not taken now: 503.
    NotNow,
    /// The status of the answer to a part.
    Status(u16),
    /// The connection broke.
    Broken,
}

/// What happens between the two.
pub(crate) enum UploadEvent {
    /// The site's job hears this of its request of this number.
    Heard(At, JobId, u32, Heard),
    /// The pause after a break is over.
    Again(At, JobId),
    /// A part ends at the custodian: all of it is there, or the link went down.
    PartEnds { at: At, from: At, job: JobId, step: u32, xuid: Xuid, turn: u64 },
}

/// A message that the custodian's queue is to take: it counts once that is durable.
pub(crate) struct Listed {
    pub(crate) site: ServerId,
    /// The site's name for it.
    pub(crate) id: Key,
    /// Those whom it goes on to.
    pub(crate) recipients: Vec<String>,
    pub(crate) xuid: Xuid,
}

/// What a custodian has of an object that is not whole.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// Octets, on disk.
    held: u64,
    /// A list has named it, in this life.
    is_named: bool,
    /// A request that brings more.
    running: Option<Running>,
    /// Requests so far: whoever comes last has the object.
    turns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    since: Timestamp,
    rate: u64,
    size: u64,
}

impl Part {
    /// The connection is over: what has come by then is kept.
    fn end(&mut self, at: Timestamp) {
        let Some(running) = self.running.take() else { return };
        let octets = at.since(running.since).as_millis() as u64 * running.rate / 1000;
        self.held = (self.held + octets).min(running.size);
    }

    /// Power is lost.
    pub(crate) fn crash(&mut self, now: Timestamp) {
        if let Some(running) = self.running {
            self.end(now.before(RECORDED).max(running.since));
        }
        self.is_named = false;
    }
}

/// What of a leg goes to the custodian, as a list has it; `None`: nothing does.
pub(crate) fn letter(world: &World, site: ServerId, key: &Key, leg: &Leg) -> Option<Letter> {
    let object = leg.object.as_ref()?;
    let here = leg.recipients.iter().filter(|recipient| recipient.state == RecipientState::Queued);
    Some(Letter {
        site: world.servers[site].domain.clone().into(),
        id: key.clone(),
        at: Timestamp::from_secs(leg.accepted.as_secs()),
        mail_from: leg.mail_from.clone(),
        params: leg.params.clone(),
        recipients: here.map(|one| one.recipient.clone()).collect(),
        xuid: object.xuid,
        size: object.size,
        trace: String::new(),
    })
}

/// Does mail of this leg go to the custodian by upload? What a site forwards for others has a relay by submission.
pub(crate) fn is_uploaded(world: &World, site: ServerId, leg: &Leg) -> bool {
    let own = &world.servers[site].domain;
    let is_own = leg.mail_from.as_ref().is_none_or(|sender| sender.domain().as_ref() == Some(own));
    is_own && world.scenario.uploads(site)
}

/// The queue has said for whom: the list is posted.
pub(crate) fn begin(world: &mut World, at: At, job: JobId, positions: Vec<u16>) -> Done {
    let Some(delivery) = delivery(world, at, job) else { return Ok(()) };
    let Some(letter) = letter(world, at.server, &delivery.key, &delivery.leg) else {
        return Err(Violation(format!("{} has no content", delivery.key)));
    };
    keep_content(world, at.server, &delivery.key);
    let handover = Handover::new(letter.size, PATIENCE);
    if let Some(errand) = world.servers[at.server].jobs.get_mut(&job) {
        errand.upload = Some(Box::new(Upload { letter, handover, positions }));
    }
    go_on(world, at, job, Next::List)
}

/// What the octets are, where somebody reads them.
pub(crate) fn keep_content(world: &mut World, site: ServerId, key: &Key) {
    let disk = &world.servers[site].disk;
    let stored = disk.row(key).and_then(Row::object).and_then(|object| disk.object(&object.key));
    let content = stored.and_then(|stored| Some((stored.object.xuid, stored.content.clone()?)));
    world.contents.extend(content);
}

fn delivery(world: &World, at: At, job: JobId) -> Option<Box<Delivery>> {
    match world.servers[at.server].jobs.get(&job) {
        Some(Errand { work: Work::Deliver(delivery), .. }) => Some(delivery.clone()),
        _ => None,
    }
}

/// Something of an upload happens.
pub(crate) fn happens(world: &mut World, event: UploadEvent) -> Done {
    match event {
        UploadEvent::Heard(at, job, step, heard) => {
            let is_current = world.servers[at.server].jobs.get(&job).is_some_and(|errand| errand.step == step);
            if world.is_alive(at) && is_current { hear(world, at, job, heard) } else { Ok(()) }
        }
        UploadEvent::Again(at, job) if world.is_alive(at) => go_on(world, at, job, Next::List),
        UploadEvent::Again(..) => Ok(()),
        UploadEvent::PartEnds { at, from, job, step, xuid, turn } => {
            part_ends(world, at, (from, job, step), xuid, turn)
        }
    }
}

/// The site hears something, or nothing for too long.
pub(crate) fn hear(world: &mut World, at: At, job: JobId, heard: Heard) -> Done {
    let is_too_early = world.is_mutated(Mutation::TakenTooEarly);
    let Some(errand) = world.servers[at.server].jobs.get_mut(&job) else { return Ok(()) };
    // Nobody waits for an answer any more.
    errand.step += 1;
    let Some(upload) = errand.upload.as_mut() else { return Ok(()) };
    let next = match heard {
        Heard::Answer(answer) => upload.handover.listed(answer),
        Heard::Status(204) if is_too_early => Next::Taken(Vec::new()),
        Heard::Status(status) => upload.handover.sent(status),
        Heard::Broken => upload.handover.broke(),
        Heard::NotNow => Next::Stop,
    };
    go_on(world, at, job, next)
}

fn go_on(world: &mut World, at: At, job: JobId, next: Next) -> Done {
    let Some(errand) = world.servers[at.server].jobs.get(&job) else { return Ok(()) };
    let (Some(upload), Some(to)) = (&errand.upload, world.scenario.topology.custodian(at.server)) else {
        return Ok(());
    };
    let (letter, step) = (upload.letter.clone(), errand.step + 1);
    match next {
        Next::List => world.ask(at, job, to, Channel::Https, Question::List(Box::new(letter), step)),
        Next::Part(offset) => {
            world.summary.uploads_resumed += u64::from(offset > 0);
            world.ask(at, job, to, Channel::Https, Question::Part(Box::new(letter), offset, step));
        }
        Next::ListAfter(pause) => {
            world.after(pause, Event::Site(at.server, SiteEvent::Upload(UploadEvent::Again(at, job))))
        }
        Next::Taken(failed) => {
            world.summary.uploaded += 1;
            let event = ended(upload, &failed);
            return world.job_event(at, job, event);
        }
        Next::Stop => return world.job_event(at, job, smtp::unreachable("the custodian takes it later")),
    }
    Ok(())
}

/// As the courier says it.
fn ended(upload: &Upload, failed: &[NotTaken]) -> JobEvent {
    let outcomes = upload.positions.iter().zip(&upload.letter.recipients).map(|(position, recipient)| {
        let failed = failed.iter().find(|one| one.rcpt == recipient.address);
        let end = failed.map_or_else(
            || RecipientEnd::Accepted { final_delivery: false, text: "taken by the custodian".into() },
            |one| RecipientEnd::Permanent { status: one.status, text: one.text.as_str().into(), to_offer: false },
        );
        (*position, end)
    });
    let (outcomes, peer) = (outcomes.collect(), "custodian".into());
    JobEvent::Delivered(DeliveryEnd::Transaction { offer: false, outcomes, peer, octets: upload.handover.brought() })
}

/// Who waits for the answer to a request.
pub(crate) type Asker = (At, JobId, u32);

fn tell(world: &mut World, here: ServerId, (from, job, step): Asker, heard: Heard) {
    if let Some(delay) = world.cross(here, from.server, Channel::Https) {
        let event = UploadEvent::Heard(from, job, step, heard);
        world.after(delay, Event::Site(from.server, SiteEvent::Upload(event)));
    }
}

/// A list arrives. Whoever sends octets of what it names ends.
pub(crate) fn list_arrives(world: &mut World, here: ServerId, asker: Asker, letter: Letter) -> Done {
    let now = world.now;
    let part = world.servers[here].parts.entry((asker.0.server, letter.xuid)).or_default();
    part.end(now);
    part.is_named = true;
    part.turns += 1;
    let answering = Answering::new([letter], MOST_OCTETS, MOST_WANTED);
    answer(world, here, asker, Box::new(answering))
}

/// Goes on with an answer until it is complete, or the queue has to be asked.
fn answer(world: &mut World, here: ServerId, asker: Asker, mut answering: Box<Answering>) -> Done {
    loop {
        let letter = match answering.step() {
            None => break,
            Some(Step::Recall(letter)) => {
                let (row, was_taken) = (recall(world, here, letter), world.judge.was_taken(asker.0.server, &letter.id));
                if was_taken && row.is_none() {
                    return Err(Violation(format!("{} was taken, and its custodian has forgotten that", letter.id)));
                }
                answering.recalled(row.as_ref());
                continue;
            }
            Some(Step::Look(letter)) => {
                let part = world.servers[here].parts.entry((asker.0.server, letter.xuid)).or_default();
                if answering.looked(part.held) == Octets::Dropped {
                    part.held = 0;
                }
                continue;
            }
            Some(Step::Take(letter)) => letter.clone(),
        };
        if world.is_mutated(Mutation::TakenBeforeCommit) {
            let entry = reference::bundle::TakenEntry { id: letter.id.clone(), failed: Vec::new() };
            let taken = MailAnswer { taken: vec![entry], ..MailAnswer::default() };
            say(world, here, asker, taken)?;
        }
        let site = asker.0.server;
        let caller = Caller::Letter { asker: Some((asker, answering)), letter: letter.clone() };
        return take(world, here, site, &letter, caller);
    }
    say(world, here, asker, answering.finish())
}

/// The answer leaves: what it calls taken must be durable by then.
fn say(world: &mut World, here: ServerId, asker: Asker, answer: MailAnswer) -> Done {
    let site = &world.servers[asker.0.server].domain.clone().into();
    let is_durable = |id: &Key| {
        let rows = world.servers[here].disk.rows();
        rows.filter_map(bundle::inbound_of).any(|row| told(row, site).is_some_and(|entry| entry.id == *id))
    };
    let lie = answer.taken.iter().map(|entry| &entry.id).find(|id| !is_durable(id));
    if let Some(id) = lie.filter(|_| !world.is_mutated(Mutation::TakenForgotten)) {
        return Err(Violation(format!("{id} was called taken before that was durable")));
    }
    tell(world, here, asker, Heard::Answer(answer));
    Ok(())
}

/// What is durable of it.
pub(crate) fn recall(world: &World, here: ServerId, letter: &Letter) -> Option<Row> {
    world.servers[here].disk.row(&letter.key()).cloned()
}

/// A message is whole: the queue is to take it.
pub(crate) fn take(world: &mut World, here: ServerId, site: ServerId, letter: &Letter, caller: Caller) -> Done {
    let topology = world.topology();
    let content = world.contents.get(&letter.xuid).cloned();
    let object = ObjectRef { key: ObjectKey(String::new()), xuid: letter.xuid, size: letter.size, coded: None };
    let (mut recipients, mut failed) = (Vec::new(), Vec::new());
    for recipient in &letter.recipients {
        match scenario::targets(&topology, here, &recipient.address) {
            Some(targets) => recipients.push((recipient.clone(), targets)),
            None => failed.push((recipient.clone(), smtp::parsed("5.1.1"), "no such recipient".to_owned())),
        }
    }
    let go_on = recipients.iter().map(|(recipient, _)| recipient.address.to_string()).collect();
    world.letters.insert(letter.key(), Listed { site, id: letter.id.clone(), recipients: go_on, xuid: letter.xuid });
    let server = &mut world.servers[here];
    let object = server.store(&object, content);
    let taking = Taking { letter: letter.clone(), object, facts: FACTS, prefix: String::new(), recipients, failed };
    let call = server.call(caller);
    world.input(world.here(here), Input::Call { call, request: Request::Letter(Box::new(taking)) })
}

/// The custodian's queue has answered.
pub(crate) fn taken(
    world: &mut World,
    here: ServerId,
    (asker, mut answering): (Asker, Box<Answering>),
    letter: &Letter,
    reply: Reply,
) -> Done {
    let Reply::Letter { told, .. } = reply else {
        tell(world, here, asker, Heard::NotNow);
        return Ok(());
    };
    check_taken(world, here, letter)?;
    world.servers[here].parts.remove(&(asker.0.server, letter.xuid));
    answering.took(Whole::Told(told));
    answer(world, here, asker, answering)
}

/// "Taken" is said of what is durable.
pub(crate) fn check_taken(world: &World, here: ServerId, letter: &Letter) -> Done {
    match recall(world, here, letter) {
        Some(_) => Ok(()),
        None if world.is_mutated(Mutation::TakenForgotten) => Ok(()),
        None => Err(Violation(format!("{} was called taken before that was durable", letter.id))),
    }
}

/// A part arrives, and its octets begin to flow.
pub(crate) fn part_arrives(world: &mut World, here: ServerId, asker: Asker, letter: &Letter, offset: u64) -> Done {
    let (now, (from, job, step)) = (world.now, asker);
    let Some(up) = world.scenario.linked_until(here, from.server, now) else { return Ok(()) };
    let is_open = world.servers[from.server].jobs.get(&job).is_some_and(|errand| errand.step == step);
    if !world.is_alive(from) || !is_open {
        return Ok(());
    }
    let rate = world.scenario.rate(here, from.server);
    let part = world.servers[here].parts.entry((from.server, letter.xuid)).or_default();
    if !part.is_named {
        tell(world, here, asker, Heard::Status(404));
        return Ok(());
    }
    part.end(now);
    part.turns += 1;
    if part.held != offset {
        tell(world, here, asker, Heard::Status(409));
        return Ok(());
    }
    part.running = Some(Running { since: now, rate, size: letter.size });
    let turn = part.turns;
    if let Some(errand) = world.servers[from.server].jobs.get_mut(&job) {
        // The octets flow: nobody waits for an answer yet.
        errand.step += 1;
    }
    let takes = Duration::from_millis((letter.size - offset) * 1000 / rate + 1);
    let event = UploadEvent::PartEnds { at: world.here(here), from, job, step: step + 1, xuid: letter.xuid, turn };
    world.at(now.after(takes).min(up), Event::Site(from.server, SiteEvent::Upload(event)));
    Ok(())
}

/// All octets of a part are there, or the link has gone down; or one of the two has crashed meanwhile.
fn part_ends(world: &mut World, at: At, asker: Asker, xuid: Xuid, turn: u64) -> Done {
    let (now, (from, job, step)) = (world.now, asker);
    let is_alive = world.is_alive(from);
    let wrong = world.is_in_mood(from.server, Mood::Corrupt);
    let cut = world.chance.permille(500);
    let mut heard = Heard::Broken;
    if let Some(part) = world.servers[at.server].parts.get_mut(&(from.server, xuid)).filter(|part| part.turns == turn)
        && let Some(running) = part.running
    {
        // A site that has crashed has sent a part of it only.
        let until =
            if is_alive { now } else { Timestamp::from_millis((running.since.as_millis() + now.as_millis()) / 2) };
        part.end(until);
        let is_whole = is_alive && part.held == running.size;
        if is_whole && wrong && cut {
            part.held = 0;
        }
        heard = match is_whole {
            true if wrong && cut => Heard::Status(422),
            true => Heard::Status(204),
            false => Heard::Broken,
        };
    }
    if !world.is_alive(at) || matches!(heard, Heard::Broken) {
        // The site's end of the connection is over as well.
        let event = UploadEvent::Heard(from, job, step, Heard::Broken);
        world.after(Duration::ZERO, Event::Site(from.server, SiteEvent::Upload(event)));
        return Ok(());
    }
    let patience = world.chance.millis(60_000, 300_000);
    let event = UploadEvent::Heard(from, job, step, Heard::Broken);
    world.after(patience, Event::Site(from.server, SiteEvent::Upload(event)));
    tell(world, at.server, asker, heard);
    Ok(())
}

/// For bundles: does a row's message go to the custodian, and is nothing in its way?
pub(crate) fn waits_for_custodian<'a>(world: &World, site: ServerId, row: &'a Row) -> Option<(&'a Key, &'a Leg)> {
    let RowBody::Leg(leg) = &row.body else { return None };
    let is_there = matches!(leg.route, mail::ledger::Route::Relay(_)) && is_uploaded(world, site, leg);
    let is_open = !leg.held && leg.recipients.iter().any(|recipient| recipient.state == RecipientState::Queued);
    (is_there && is_open).then_some((&row.key, &**leg))
}
