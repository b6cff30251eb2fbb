//! How fast is content taken in? `cargo run --release -p smtp --example content_throughput [rounds]`
//!
//! Feeds one session with DATA in chunks of 65 KB, without sockets, and prints gigabytes by second of processor time.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on says why by a panic")]

use std::sync::Arc;

use mail::{Domain, Timestamp};
use smtp::server::{Action, Config, Decision, Event, Server};

fn main() {
    let rounds = std::env::args().nth(1).map_or(20_000, |rounds| rounds.parse().unwrap());
    let now = Timestamp::from_secs(1_000_000);
    let mut config = Config::relay(Domain::parse("mx.example").unwrap());
    config.limits.message = u64::MAX;
    let mut session = Server::new(Arc::new(config), true, now);
    session.feed(now, b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@mx.example>\r\nDATA\r\n");
    take(&mut session, now);
    let chunk = b"The quick brown fox jumps over the lazy dog, and then it jumps once more....\r\n".repeat(840);
    let before = processor_seconds();
    let octets: usize = (0..rounds)
        .map(|_| {
            session.feed(now, &chunk);
            take(&mut session, now)
        })
        .sum();
    assert_eq!(octets, chunk.len() * rounds, "all of it is content");
    println!("{:.2} GB/s", octets as f64 / (processor_seconds() - before) / 1e9);
}

/// Accepts whatever is asked for; how many octets of content have come.
fn take(session: &mut Server, now: Timestamp) -> usize {
    let mut octets = 0;
    loop {
        match session.next_action(now) {
            Action::Event(Event::Content(chunk)) => octets += chunk.len(),
            Action::Event(event) if event.wants_decision() => session.decide(now, Decision::Accept).unwrap(),
            Action::Event(_) | Action::Write(_) => {}
            Action::Idle { .. } => return octets,
            Action::Decide | Action::StartTls | Action::Turn | Action::Close => panic!("the session is to go on"),
        }
    }
}

/// Of this process.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: Vec<f64> = stat.rsplit(')').next().unwrap().split(' ').filter_map(|word| word.parse().ok()).collect();
    (ticks[10] + ticks[11]) / 100.0
}
