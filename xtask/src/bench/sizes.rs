//! From which size on by reference is cheaper: one message to one recipient, one after the other, over connections
//! that are open already, by reference and by value. Claim and receipt are counted.
//!
//! The default of `by_value_below` follows from it.

use anyhow::Result;

use super::Effort;
use super::between::{Way, World};
use super::figures::{Figure, Goal};
use super::under_test::{processor_times, wire_octets};

const KIBIBYTES: [usize; 5] = [1, 4, 16, 64, 256];

/// Messages of one round.
const MESSAGES: usize = 24;

/// What a message costs.
struct Cost {
    octets: f64,
    sender: f64,
    receiver: f64,
}

pub(super) fn run(effort: Effort) -> Result<Vec<Figure>> {
    let world = World::start()?;
    let (mut figures, mut number) = (Vec::new(), 0);
    let mut series = |way: Way, kibibytes: usize, count: usize| {
        number += count;
        measure(&world, way, number - count..number, kibibytes << 10)
    };
    for kibibytes in KIBIBYTES {
        let figure = |what: &str, unit| Figure::new(format!("{kibibytes} KiB: {what}"), unit, Goal::Told);
        let mut octets = figure("octets on the wire", "");
        let mut sender = figure("processor time of the sender", "ms");
        let mut receiver = figure("processor time of the receiver", "ms");
        series(Way::Value, kibibytes, 1)?;
        series(Way::Reference, kibibytes, 1)?;
        for _ in 0..effort.rounds.min(3) {
            let value = series(Way::Value, kibibytes, effort.amount(MESSAGES))?;
            let reference = series(Way::Reference, kibibytes, effort.amount(MESSAGES))?;
            octets.round(reference.octets, value.octets);
            sender.round(reference.sender, value.sender);
            receiver.round(reference.receiver, value.receiver);
        }
        figures.extend([octets, sender, receiver]);
    }
    Ok(figures)
}

/// 10 MiB of base64, which the origin keeps and serves under zstd.
pub(super) fn attachment(effort: Effort) -> Result<Vec<Figure>> {
    const SIZE: usize = 10 << 20;
    let world = World::start()?;
    let mut octets = Figure::new("octets on the wire", "", Goal::RatioAtMost(0.8));
    let mut sender = Figure::new("processor time of the sender", "ms", Goal::Told);
    let mut receiver = Figure::new("processor time of the receiver", "ms", Goal::Told);
    let each = effort.amount(8);
    for round in 0..effort.rounds {
        let numbers = |half: usize| (2 * round + half) * each..(2 * round + half + 1) * each;
        let value = measure(&world, Way::Value, numbers(0), SIZE)?;
        let reference = measure(&world, Way::Reference, numbers(1), SIZE)?;
        octets.round(reference.octets, value.octets);
        sender.round(reference.sender, value.sender);
        receiver.round(reference.receiver, value.receiver);
    }
    Ok(vec![octets, sender, receiver])
}

/// Sends these messages and waits until all that follows from them is over.
fn measure(world: &World, way: Way, numbers: std::ops::Range<usize>, size: usize) -> Result<Cost> {
    let servers = [&world.origin.server, &world.receiver];
    let count = numbers.len() as f64;
    let used = processor_times(servers)?;
    let octets = wire_octets(world.receiver.host())?;
    for number in numbers {
        world.send(way, number, size)?;
    }
    let [sender, receiver] = processor_times(servers)?;
    let octets = wire_octets(world.receiver.host())? - octets;
    let milliseconds = |now: std::time::Duration, before| now.saturating_sub(before).as_secs_f64() * 1000.0 / count;
    Ok(Cost {
        octets: octets as f64 / count,
        sender: milliseconds(sender, used[0]),
        receiver: milliseconds(receiver, used[1]),
    })
}
