//! Mail of a site that goes to its custodian in a bundle (TBR §7.5): it leaves on a stick that arrives late, twice or never, and so does the
//! answer. The operator has what is not answered uploaded all the same, so that one message comes both ways.

use std::time::Duration;

use mail::ledger::{Key, RowBody};
use mail::{Address, EnhancedStatus};
use queue::letters::{Letter, told};
use queue::port::{Command, Input, Reply, Request, Selection, TakenEntry};

use crate::judge::Violation;
use crate::network::custodian;
use crate::scenario::ServerId;
use crate::server::Caller;
use crate::site::SiteEvent;
use crate::upload;
use crate::world::{Event, World};

type Done = Result<(), Violation>;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Somebody looks for a machine that is down again.
const LATER: Duration = Duration::from_secs(3600);
/// What was carried is committed by then.
const WRITTEN: Duration = Duration::from_secs(60);

/// What happens to sticks.
pub(crate) enum StickEvent {
    /// The site begins a bundle: what waits is to leave in it. Where all of it is under way just then, so often again.
    Begins(u8),
    /// It is written.
    Leaves(u8),
    /// It has come to the custodian.
    Arrives(Vec<Letter>),
    /// The custodian writes what it has taken.
    Answers,
    /// The custodian's answer has come to the site.
    Answered(Vec<TakenEntry>),
    /// Nobody waits for the answer any more.
    GivenUp(Vec<Key>),
}

/// Something of that happens to a stick of this site.
pub(crate) fn happens(world: &mut World, site: ServerId, event: StickEvent) -> Done {
    let Some(to) = custodian(site) else { return Ok(()) };
    let is_there = matches!(event, StickEvent::Arrives(_) | StickEvent::Answers);
    let place = if is_there { to } else { site };
    if world.servers[place].node.is_none() {
        world.after(LATER, Event::Site(site, SiteEvent::Stick(event)));
        return Ok(());
    }
    match event {
        StickEvent::Begins(again) => begins(world, site, again),
        StickEvent::Leaves(again) => leaves(world, site, again),
        StickEvent::Arrives(letters) => arrives(world, site, to, letters),
        StickEvent::Answers => answers(world, site, to),
        StickEvent::Answered(entries) => ask(world, site, Request::Taken { entries }),
        StickEvent::GivenUp(keys) => keys.iter().try_for_each(|key| command(world, site, key, Command::Retry)),
    }
}

fn later(world: &mut World, site: ServerId, after: Duration, event: StickEvent) {
    world.after(after, Event::Site(site, SiteEvent::Stick(event)));
}

fn begins(world: &mut World, site: ServerId, again: u8) -> Done {
    let rows = world.servers[site].disk.rows();
    let keys: Vec<Key> =
        rows.filter_map(|row| upload::waits_for_custodian(world, site, row)).map(|(key, _)| key.clone()).collect();
    keys.iter().try_for_each(|key| command(world, site, key, Command::Carry))?;
    later(world, site, WRITTEN, StickEvent::Leaves(again));
    Ok(())
}

/// What is marked by now is written, and nothing else.
fn leaves(world: &mut World, site: ServerId, again: u8) -> Done {
    let rows = world.servers[site].disk.rows();
    let waiting = rows.filter_map(|row| upload::waits_for_custodian(world, site, row));
    let carried = waiting.filter(|(_, leg)| leg.carried.is_some());
    let letters: Vec<Letter> = carried.filter_map(|(key, leg)| upload::letter(world, site, key, leg)).collect();
    if letters.is_empty() {
        if let Some(left) = again.checked_sub(1) {
            later(world, site, WRITTEN, StickEvent::Begins(left));
        }
        return Ok(());
    }
    world.summary.carried += letters.len() as u64;
    let keys: Vec<Key> = letters.iter().map(|letter| letter.id.clone()).collect();
    keys.iter().for_each(|key| upload::keep_content(world, site, key));
    let patience = DAY + world.chance.up_to(6 * DAY);
    later(world, site, patience, StickEvent::GivenUp(keys));
    for _ in 0..world.chance.pick(&[0, 1, 1, 2]) {
        let way = world.chance.up_to(12 * DAY);
        later(world, site, way, StickEvent::Arrives(letters.clone()));
    }
    Ok(())
}

/// The custodian reads a bundle, and perhaps writes one.
fn arrives(world: &mut World, site: ServerId, here: ServerId, letters: Vec<Letter>) -> Done {
    let at = world.here(here);
    for letter in letters {
        if !world.is_alive(at) {
            return Ok(());
        }
        if upload::recall(world, here, &letter).is_none() {
            let caller = Caller::Letter { asker: None, letter: letter.clone() };
            upload::take(world, here, site, &letter, caller)?;
        }
    }
    if world.chance.permille(700) {
        later(world, site, WRITTEN, StickEvent::Answers);
    }
    Ok(())
}

fn answers(world: &mut World, site: ServerId, here: ServerId) -> Done {
    let domain = &world.servers[site].domain;
    let entries = world.servers[here].disk.rows().filter_map(|row| match &row.body {
        RowBody::Inbound(inbound) => told(inbound, domain),
        RowBody::Leg(_) => None,
    });
    let one = |entry: reference::bundle::TakenEntry| {
        let failed = entry.failed.into_iter().map(|one| (one.rcpt, one.status, one.text.into()));
        TakenEntry { key: entry.id, failed: failed.collect::<Vec<(Address, EnhancedStatus, String)>>() }
    };
    let entries: Vec<TakenEntry> = entries.map(one).collect();
    let way = world.chance.up_to(5 * DAY);
    later(world, site, way, StickEvent::Answered(entries));
    Ok(())
}

fn command(world: &mut World, site: ServerId, key: &Key, command: fn(Selection) -> Command) -> Done {
    let Key::Leg(id, number) = key else { return Ok(()) };
    ask(world, site, Request::Command(command(Selection::Leg(id.clone(), *number))))
}

fn ask(world: &mut World, site: ServerId, request: Request) -> Done {
    if world.servers[site].node.is_none() {
        return Ok(());
    }
    let call = world.servers[site].call(Caller::Hurry);
    world.input(world.here(site), Input::Call { call, request })
}

/// The custodian's queue has answered of a message of a bundle.
pub(crate) fn taken(world: &World, here: ServerId, letter: &Letter, reply: &Reply) -> Done {
    if matches!(reply, Reply::Letter { .. }) { upload::check_taken(world, here, letter) } else { Ok(()) }
}
