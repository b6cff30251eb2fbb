//! The way of bundles between a site and its custodian (TBR §7.5): they leave on a stick that arrives late, twice, torn off or never. The operator
//! has mail from the site that is not answered uploaded all the same, so that one message comes both ways.

use std::time::Duration;

use mail::ledger::Key;
use queue::letters::Letter;
use queue::port::{Command, Input, Reply, Request, Selection};

use crate::bundle::{self, Enclosed, ForSite, FromSite};
use crate::judge::Violation;
use crate::scenario::{SERVERS, ServerId};
use crate::server::{At, Caller};
use crate::site::SiteEvent;
use crate::topology::Link;
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
    Arrives(FromSite),
    /// The custodian writes one.
    Answers,
    /// It has come to the site.
    Answered(ForSite),
    /// The offers of it are judged: the objects follow.
    Unpacked(At, Vec<Enclosed>),
    /// Nobody waits for the answer any more.
    GivenUp(Vec<Key>),
}

/// Something of that happens to a stick of this site.
pub(crate) fn happens(world: &mut World, link: Link, event: StickEvent) -> Done {
    let is_there = matches!(event, StickEvent::Arrives(_) | StickEvent::Answers);
    let place = if is_there { link.custodian } else { link.site };
    if world.servers[place].node.is_none() {
        world.after(LATER, Event::Site(link.site, SiteEvent::Stick(link, event)));
        return Ok(());
    }
    match event {
        StickEvent::Begins(again) => begins(world, link, again),
        StickEvent::Leaves(again) => leaves(world, link, again),
        StickEvent::Arrives(bundle) => arrives(world, link, bundle),
        StickEvent::Answers => answers(world, link),
        StickEvent::Answered(bundle) => answered(world, link, bundle),
        StickEvent::Unpacked(at, enclosed) => bundle::unpacked(world, at, enclosed),
        StickEvent::GivenUp(keys) => keys.iter().try_for_each(|key| command(world, link.site, key, Command::Retry)),
    }
}

fn later(world: &mut World, link: Link, after: Duration, event: StickEvent) {
    world.after(after, Event::Site(link.site, SiteEvent::Stick(link, event)));
}

/// What users of a site send goes to its first custodian.
fn takes_letters(world: &World, link: Link) -> bool {
    SERVERS[link.site].1 == link.domain && world.scenario.topology.custodian(link.site) == Some(link.custodian)
}

fn begins(world: &mut World, link: Link, again: u8) -> Done {
    let (site, takes_letters) = (link.site, takes_letters(world, link));
    let rows = world.servers[site].disk.rows().filter(|_| takes_letters);
    let keys: Vec<Key> =
        rows.filter_map(|row| upload::waits_for_custodian(world, site, row)).map(|(key, _)| key.clone()).collect();
    keys.iter().try_for_each(|key| command(world, site, key, Command::Carry))?;
    later(world, link, WRITTEN, StickEvent::Leaves(again));
    Ok(())
}

/// Of what users send, that is written which is marked by now, and nothing else.
fn leaves(world: &mut World, link: Link, again: u8) -> Done {
    let (site, takes_letters) = (link.site, takes_letters(world, link));
    let rows = world.servers[site].disk.rows().filter(|_| takes_letters);
    let waiting = rows.filter_map(|row| upload::waits_for_custodian(world, site, row));
    let carried = waiting.filter(|(_, leg)| leg.carried.is_some());
    let letters: Vec<Letter> = carried.filter_map(|(key, leg)| upload::letter(world, site, key, leg)).collect();
    if let Some(left) = again.checked_sub(1).filter(|_| letters.is_empty()) {
        later(world, link, WRITTEN, StickEvent::Begins(left));
    }
    world.summary.carried += letters.len() as u64;
    let keys: Vec<Key> = letters.iter().map(|letter| letter.id.clone()).collect();
    keys.iter().for_each(|key| upload::keep_content(world, site, key));
    let bundle = bundle::write_from(world, link, letters);
    if bundle.is_empty() {
        return Ok(());
    }
    let patience = DAY + world.chance.up_to(6 * DAY);
    later(world, link, patience, StickEvent::GivenUp(keys));
    for way in ways(world) {
        later(world, link, way, StickEvent::Arrives(bundle.clone()));
    }
    Ok(())
}

/// How long a stick is on its way: it gets lost, or is read once or twice.
fn ways(world: &mut World) -> Vec<Duration> {
    let longest = world.chance.pick(&[DAY, 12 * DAY]);
    (0..world.chance.pick(&[0, 1, 1, 2])).map(|_| world.chance.up_to(longest)).collect()
}

/// The custodian reads a bundle, and perhaps writes one.
fn arrives(world: &mut World, link: Link, bundle: FromSite) -> Done {
    bundle::read_at_custodian(world, link, bundle)?;
    if world.chance.permille(700) {
        later(world, link, WRITTEN, StickEvent::Answers);
    }
    Ok(())
}

fn answers(world: &mut World, link: Link) -> Done {
    let bundle = bundle::write_for(world, link)?;
    if bundle.is_empty() {
        return Ok(());
    }
    for way in ways(world) {
        let mut bundle = bundle.clone();
        if world.chance.permille(200) {
            bundle.tear(world.chance.below(bundle.messages() as u64) as usize);
        }
        later(world, link, way, StickEvent::Answered(bundle));
    }
    Ok(())
}

/// The site reads a bundle, and perhaps writes one.
fn answered(world: &mut World, link: Link, bundle: ForSite) -> Done {
    bundle::read_at_site(world, link, bundle)?;
    if world.chance.permille(700) {
        let read = world.chance.up_to(DAY);
        later(world, link, WRITTEN + read, StickEvent::Begins(0));
    }
    Ok(())
}

fn command(world: &mut World, site: ServerId, key: &Key, command: fn(Selection) -> Command) -> Done {
    let Key::Leg(id, number) = key else { return Ok(()) };
    if world.servers[site].node.is_none() {
        return Ok(());
    }
    let request = Request::Command(command(Selection::Leg(id.clone(), *number)));
    let call = world.servers[site].call(Caller::Hurry);
    world.input(world.here(site), Input::Call { call, request })
}

/// The custodian's queue has answered of a message of a bundle.
pub(crate) fn taken(world: &World, here: ServerId, letter: &Letter, reply: &Reply) -> Done {
    if matches!(reply, Reply::Letter { .. }) { upload::check_taken(world, here, letter) } else { Ok(()) }
}
