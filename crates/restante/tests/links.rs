//! Sites behind slow links that break (TBR §7.4, issue texts of docs/offline.md): what crosses the link twice, what a short window
//! brings, what happens when the author's server is switched off.
//!
//! The breaking link breaks after so many octets, not after so much time: on a busy machine the same happens.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use testbed::peers::restante::object;
use testbed::peers::{PartTime, RestanteConfig};
use testbed::samples::{attachment, awkward, crlf};
use testbed::{Counted, PackageSet, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// For a site that fetches one message at a time, and octets counted.
fn world() -> PartTime {
    world_with(1, true)
}

/// For a site that fetches so many messages at a time, over one connection or over as many.
fn world_with(at_once: usize, http2: bool) -> PartTime {
    let world = PartTime::start(PROGRAM, |name, config: RestanteConfig| match name {
        "site" => {
            let config = config.packages(PackageSet::Firewall).tables(&format!("http2 = {http2}"));
            config.with("transfer", "max_retrievals_per_domain", &at_once.to_string())
        }
        "custodian" => config.packages(PackageSet::Firewall),
        _ => config,
    });
    let world = world.unwrap();
    world.site.host().count_from(443).unwrap();
    world
}

/// Exactly these messages are in the site's mailbox, each once.
fn assert_each_once(world: &PartTime, messages: &[Vec<u8>]) {
    let copies = world.copies("bob@site.example");
    assert_eq!(copies.len(), messages.len());
    for message in messages {
        assert!(copies.iter().any(|copy| object(copy) == Some(&crlf(message)[..])));
    }
}

/// Octets and connections that came to the site from custodians.
fn counted(world: &PartTime) -> Counted {
    world.site.host().counted().unwrap()
}

/// Octets that the link's coming up takes while nothing is fetched: a connection, and the list of what waits. A first connection
/// takes more, because TLS remembers the next ones.
fn octets_of_asking(world: &PartTime) -> u64 {
    world.site.json(&["link", "up"], b"").unwrap();
    let before = counted(world).octets;
    world.site.json(&["link", "up"], b"").unwrap();
    counted(world).octets - before
}

fn pause_retrieval(world: &mut PartTime, pause: bool) {
    world.site.stop().unwrap();
    world.site.set("transfer", "pause_retrieval", &pause.to_string()).unwrap();
}

/// Half a minute of 64 kbit/s.
const WINDOW: u64 = 240_000;

#[test]
fn a_slow_link_that_breaks_again_and_again_carries_next_to_nothing_twice() {
    carries_next_to_nothing_twice(1, &[2_600_000], true);
}

#[test]
fn nor_does_it_where_several_messages_come_at_a_time_over_one_connection() {
    carries_next_to_nothing_twice(4, &SEVERAL, true);
}

#[test]
fn nor_over_several_connections() {
    carries_next_to_nothing_twice(4, &SEVERAL, false);
}

const SEVERAL: [usize; 4] = [500_000, 600_000, 700_000, 800_000];

/// Messages of these sizes, so many at a time, over one connection or over as many.
fn carries_next_to_nothing_twice(at_once: usize, sizes: &[usize], http2: bool) {
    // Of a small record, and what it has beside: by HTTP/2 the header of a frame too.
    let (record, header) = if http2 { (4096, 22 + 9) } else { (1024, 22) };
    let mut world = world_with(at_once, http2);
    let batch = |link: &str| -> Vec<Vec<u8>> {
        sizes.iter().map(|size| attachment(&format!("{size} octets over a {link} link"), *size)).collect()
    };
    let send = |world: &PartTime, batch: &[Vec<u8>]| -> Vec<String> {
        let sent: Vec<String> = batch.iter().map(|message| world.send("bob@site.example", message).unwrap()).collect();
        sent.iter().for_each(|id| world.until_kept(id).unwrap());
        sent
    };
    let (good, bad) = (batch("good"), batch("bad"));
    send(&world, &good);
    let before = counted(&world).octets;
    world.fetch().unwrap();
    let whole = counted(&world).octets - before;
    let connecting = octets_of_asking(&world);
    let sent = send(&world, &bad);
    world.custodian.host().slow_down("900kbit").unwrap();
    pause_retrieval(&mut world, true);
    world.site.run().unwrap();
    let asking = octets_of_asking(&world);
    pause_retrieval(&mut world, false);
    world.site.host().unplug().unwrap();
    world.site.run().unwrap();

    let before = counted(&world);
    let messages = [good, bad].concat();
    let windows = world
        .break_after(
            WINDOW,
            || counted(&world).octets,
            LIMIT,
            || world.copies("bob@site.example").len() == messages.len(),
        )
        .unwrap();
    sent.iter().for_each(|id| drop(world.origin.wait_for_state(id, "delivered", wait::LONG).unwrap()));
    let after = counted(&world);
    let (all, connections) = (after.octets - before.octets, after.connections - before.connections);
    let apart = u64::from(windows) * asking + connections.saturating_sub(windows.into()) * connecting;
    let records = whole / record * header;
    let again = all.saturating_sub(whole + apart + records);
    let percent = again as f64 * 100.0 / whole as f64;
    println!(
        "{at_once} at a time{}: {windows} windows, {connections} connections: {all} octets of TCP for {whole}, {apart} of them for \
         connections and lists, {records} for small records, {again} came again ({percent:.2} %)",
        if http2 { " over one connection" } else { "" }
    );
    assert_each_once(&world, &messages);
    assert!(windows >= 8, "the link broke {windows} times");
    assert!(percent <= 3.0, "{percent:.2} % of the messages came again");
}

#[test]
fn a_long_list_crosses_a_slow_link_that_breaks_page_by_page_while_what_it_names_is_fetched() {
    const MESSAGES: usize = 100;
    // As many at a time as by default, at the true rate.
    let world = PartTime::start(PROGRAM, |name, config: RestanteConfig| match name {
        "origin" => config.with("submission", "messages_per_hour", "1000"),
        _ => config.packages(PackageSet::Firewall),
    });
    let world = world.unwrap();
    world.site.host().count_from(443).unwrap();
    world.site.host().unplug().unwrap();
    let mut messages: Vec<Vec<u8>> = (0..MESSAGES).map(|number| awkward(&format!("number {number}"))).collect();
    // Sent first: it would be listed first, were it small.
    messages.insert(0, attachment("a larger one", 300_000));
    let sent: Vec<String> = messages.iter().map(|message| world.send("bob@site.example", message).unwrap()).collect();
    sent.iter().for_each(|id| world.until_kept(id).unwrap());
    world.custodian.host().slow_down("64kbit").unwrap();
    // How many there were when the larger one came.
    let place = Cell::new(0);
    let is_done = || {
        let copies = world.copies("bob@site.example");
        if place.get() == 0 && copies.iter().any(|copy| copy.len() > 300_000) {
            place.set(copies.len());
        }
        copies.len() == messages.len()
    };
    let windows = world.break_after(WINDOW, || counted(&world).octets, LIMIT * 2, is_done).unwrap();
    let (octets, place) = (counted(&world).octets, place.get());
    println!("{windows} windows, {octets} octets, {place} of {} messages when the larger one came", messages.len());
    assert_each_once(&world, &messages);
    assert!((2..=6).contains(&windows), "{windows} windows");
    assert!(place > MESSAGES / 2, "the larger one was the {place}th that came");
}

#[test]
fn a_sync_that_was_killed_again_and_again_amid_a_fetch_goes_on_where_it_stopped() {
    const SIZE: usize = 1_500_000;
    // Base64 that crosses the link coded; the small ones, connections and lists.
    const WHOLE: u64 = SIZE as u64 * 77 / 100;
    const REST: u64 = 60_000;
    // A kill costs what came since it was last written down how much is there: every two seconds, which takes a busy disk another.
    const OF_A_KILL: u64 = 3 * 600_000 / 8;
    let mut world = world();
    world.site.stop().unwrap();
    world.custodian.host().slow_down("600kbit").unwrap();
    let mut messages = vec![awkward("in its mailbox before"), attachment("another", 20_000)];
    messages.push(attachment("over a laptop that falls", SIZE));
    let sent: Vec<String> = messages.iter().map(|message| world.send("bob@site.example", message).unwrap()).collect();
    sent.iter().for_each(|id| world.until_kept(id).unwrap());

    let before = counted(&world).octets;
    for part in [WHOLE / 3, WHOLE * 2 / 3] {
        let mut sync = world.site.host().spawn_command("sync", world.site.command(&["sync"])).unwrap();
        let reached = || (counted(&world).octets - before > part).then_some(());
        wait::until("a part of the message to be here", wait::LONG, reached).unwrap();
        sync.kill().unwrap();
        assert_eq!(world.copies("bob@site.example").len(), 2, "the smaller ones come first");
    }
    let ended = world.site.cli(&["sync", "--json"], b"").unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    // Two thirds were here when it began: it counts what was left.
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let counted_left = report["octets"].as_u64().unwrap();
    assert!((1..SIZE as u64 * 6 / 10).contains(&counted_left), "{report:#}");
    let all = counted(&world).octets - before;
    println!("{all} octets of TCP for a message of {WHOLE} and small ones, over two kills");
    assert!(all < WHOLE + REST + 2 * OF_A_KILL, "{all} octets came for {WHOLE}: it began anew");
    assert_each_once(&world, &messages);
    sent.iter().for_each(|id| drop(world.origin.wait_for_state(id, "delivered", wait::LONG).unwrap()));
    // A further one finds nothing to do.
    let ended = world.site.cli(&["sync", "--json"], b"").unwrap();
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(report["fetched"][0]["pending"], 0, "{report:#}");
    assert_each_once(&world, &messages);
}

/// Days in which the link is up for ten minutes: when it is up and when it is down. The first is scaled to two minutes, in which every pause
/// and every wait of the server's ends, those that follow to three seconds; or all to what `RESTANTE_DAY` says. Four fifths of a second
/// are up at least.
fn days() -> impl Iterator<Item = (Duration, Duration)> {
    let told = std::env::var("RESTANTE_DAY").ok().and_then(|text| text.parse().ok());
    let (first, others) = told.map_or((120.0, 3.0), |seconds| (seconds, seconds));
    let scaled = |seconds: f64| {
        let up = f64::max(seconds * 10.0 / (24.0 * 60.0), 0.8);
        (Duration::from_secs_f64(up), Duration::from_secs_f64(seconds - up))
    };
    std::iter::once(first).chain(std::iter::repeat(others)).map(scaled)
}

#[test]
fn a_day_with_one_window_after_the_other_brings_everything_once_the_smallest_first() {
    let world = world();
    let sizes = [300_000, 3_000, 200_000, 20_000, 700_000, 90_000];
    let messages: Vec<Vec<u8>> = sizes.iter().map(|size| attachment(&format!("of {size} octets"), *size)).collect();
    let sent: Vec<String> = messages.iter().map(|message| world.send("bob@site.example", message).unwrap()).collect();
    sent.iter().for_each(|id| world.until_kept(id).unwrap());
    world.custodian.host().limit_rate("4mbit").unwrap();
    let mut first = Vec::new();
    for (number, (up, down)) in (100_u8..).zip(days()) {
        world.site.host().dial_in(number).unwrap();
        let mut hook = world.link_up().unwrap();
        // What a window brings is what it is about: no state is waited for.
        thread::sleep(up);
        world.site.host().unplug().unwrap();
        hook.kill().unwrap();
        hook.wait().unwrap();
        thread::sleep(down);
        let copies = world.copies("bob@site.example");
        if first.is_empty() {
            first = copies.clone();
        }
        if copies.len() >= messages.len() {
            println!("{} days", number - 99);
            break;
        }
        assert!(number < 160, "{} of {} messages are there", copies.len(), messages.len());
    }
    assert_each_once(&world, &messages);
    // The smallest is among what came on the first day with mail. Of the others a claim may have been open when the link went down.
    let smallest = crlf(messages.iter().min_by_key(|message| message.len()).unwrap());
    assert!(first.iter().any(|copy| object(copy) == Some(&smallest[..])), "{} messages came", first.len());
    // Receipts that no window carried any more are sent with the next one.
    world.site.host().dial_in(99).unwrap();
    world.site.json(&["link", "up", "--wait"], b"").unwrap();
    sent.iter().for_each(|id| drop(world.origin.wait_for_state(id, "delivered", wait::LONG).unwrap()));
    assert_eq!(world.copies("bob@site.example").len(), messages.len(), "second copies");
}

/// Numbers that look random, the same at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// `RESTANTE_LINK_MESSAGES=200` makes it longer.
fn rounds() -> u64 {
    std::env::var("RESTANTE_LINK_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

#[test]
fn an_author_s_server_may_be_switched_off_after_the_offer_and_after_the_claim() {
    let mut world = world();
    world.custodian.host().lose_packets(20).unwrap();
    world.site.host().lose_packets(20).unwrap();
    let (mut dice, mut messages) = (Dice(1), Vec::new());
    for number in 0..rounds() {
        let message = attachment(&format!("number {number}"), 60_000);
        let id = world.send("bob@site.example", &message).unwrap();
        messages.push(message);
        if number % 2 == 0 {
            // At a random time after the offer: the claim may have come before, or comes when it is back.
            world.origin.wait_for_step(&id, "offered", wait::LONG).unwrap();
            thread::sleep(Duration::from_millis(dice.below(150)));
            world.origin.kill().unwrap();
            world.origin.run().unwrap();
            world.until_kept(&id).unwrap();
        } else {
            // Custody has moved: the site gets it without the origin.
            world.until_kept(&id).unwrap();
            world.origin.kill().unwrap();
        }
        world.site.json(&["link", "up", "--wait"], b"").unwrap();
        assert_eq!(world.copies("bob@site.example").len(), messages.len());
        if number % 2 == 1 {
            world.origin.run().unwrap();
        }
        world.origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    }
    assert_each_once(&world, &messages);
}
