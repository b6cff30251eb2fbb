//! The power fails at every sync, on the origin's disk and on the receiver's: whatever was not synced is gone, the server is
//! started anew. By reference nothing is lost and nothing comes twice, and the author's server learns of the delivery; by
//! value nothing that was acknowledged is lost, and at most one copy is added for each failure.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::process::{Child, Stdio};

use serde_json::Value;
use testbed::peers::{Restante, RestanteConfig};
use testbed::powercut::{CutAt, Loss, PowerCut};
use testbed::samples::{body, crlf, large};
use testbed::{Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// Kept in the ledger.
const SMALL: usize = 10_000;

/// Kept in a file of its own.
const LARGE: usize = 100_000;

/// More syncs than one message takes on one side.
const TOO_MANY: u64 = 100;

/// Never.
const DISARMED: CutAt = CutAt::BeforeSync(u64::MAX);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Origin,
    Receiver,
}

/// Two servers with their data on disks that can lose power, and what was sent so far.
struct World {
    origin: Restante,
    receiver: Restante,
    origin_disk: PowerCut,
    receiver_disk: PowerCut,
    sent: Vec<Sent>,
    /// Each message suffers its own power cut only, and not also those of later ones: so copies can be counted.
    one_at_a_time: bool,
    name: &'static str,
    sandbox: Sandbox,
}

/// One message.
struct Sent {
    message: Vec<u8>,
    cut: CutAt,
    /// Its queue id, if the origin has acknowledged it.
    id: Option<String>,
}

impl World {
    /// `policy` is the origin's: `prefer` or `never`.
    fn new(name: &'static str, policy: &str) -> Self {
        let sandbox = Sandbox::new().unwrap();
        // Hosts see disks that were mounted before them.
        let disk = |name| PowerCut::mount(&sandbox.folder().join(name)).unwrap();
        let (origin_disk, receiver_disk) = (disk("disk-a"), disk("disk-b"));
        let server = |name: &str, domain: &str, disk: &PowerCut| {
            let config = RestanteConfig::new(PROGRAM, name, &[domain]).users(&["alice", "bob"]);
            let config = config.with("transfer", "policy", &format!("\"{policy}\""));
            Restante::start(&sandbox, config.data(disk.path())).unwrap()
        };
        let origin = server("mx.a.example", "a.example", &origin_disk);
        let receiver = server("mx.b.example", "b.example", &receiver_disk);
        let one_at_a_time = policy == "never";
        Self { origin, receiver, origin_disk, receiver_disk, sent: Vec::new(), one_at_a_time, name, sandbox }
    }

    fn disk(&self, side: Side) -> &PowerCut {
        match side {
            Side::Origin => &self.origin_disk,
            Side::Receiver => &self.receiver_disk,
        }
    }

    /// Cuts the power of one side at its first, second, … sync, with a new message of this size each time, until a whole message
    /// is through without a cut. Returns how often it was cut.
    fn cut_at_each(&mut self, side: Side, octets: usize, at: fn(u64) -> CutAt, loss: fn(u64) -> Loss) -> u64 {
        for number in 1..TOO_MANY {
            let cut = at(number);
            let message = large(&format!("{} number {} at {cut:?}", self.name, self.sent.len()), octets);
            self.disk(side).plan(cut);
            let mut sending = self.begin_to_send(&message);
            let ended = self.until_cut(side, || sending.try_wait().unwrap());
            let done = ended.is_some() && self.until_cut(side, || self.is_done(side).then_some(())).is_some();
            if done {
                self.disk(side).plan(DISARMED);
            } else {
                self.lose_power(side, loss(number));
            }
            let id = sending.wait().unwrap().success().then(|| self.id_of_sent());
            assert!(!done || id.is_some(), "{}: refused without a cut at {cut:?}", self.name);
            self.sent.push(Sent { message, cut, id });
            if done {
                return number - 1;
            }
            if self.one_at_a_time {
                self.settle();
            }
        }
        panic!("{}: {TOO_MANY} syncs and no end", self.name);
    }

    fn lose_power(&mut self, side: Side, loss: Loss) {
        let (server, disk) = match side {
            Side::Origin => (&mut self.origin, &self.origin_disk),
            Side::Receiver => (&mut self.receiver, &self.receiver_disk),
        };
        server.lose_power(disk, loss).unwrap();
        server.run().unwrap();
    }

    /// Waits for what `probe` finds; `None` if the power fails before.
    fn until_cut<T>(&self, side: Side, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
        let what = format!("{}: a cut, or the end of a message", self.name);
        let look = || if self.disk(side).is_cut() { Some(None) } else { probe().map(Some) };
        wait::until(&what, wait::LONG, look).unwrap()
    }

    /// Whoever waits for an answer from a server without power waits in vain: files and a process, nothing that blocks here.
    fn begin_to_send(&self, message: &[u8]) -> Child {
        let file = self.sandbox.folder().join("message");
        fs::write(&file, message).unwrap();
        let mut command = self.origin.command(&["send", "--json", "-i", "-f", "alice@a.example", "bob@b.example"]);
        command.stdin(File::open(file).unwrap()).stdout(File::create(self.sandbox.folder().join("sent")).unwrap());
        command.stderr(Stdio::null()).spawn().unwrap()
    }

    fn id_of_sent(&self) -> String {
        let answer: Value = serde_json::from_slice(&fs::read(self.sandbox.folder().join("sent")).unwrap()).unwrap();
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Neither side has anything left to do; false also if the power fails.
    fn is_done(&self, side: Side) -> bool {
        [&self.origin, &self.receiver].into_iter().all(|server| {
            let file = self.sandbox.folder().join("queue");
            let mut command = server.command(&["queue", "list", "--json"]);
            let mut child = command.stdout(File::create(&file).unwrap()).stderr(Stdio::null()).spawn().unwrap();
            let ended = self.until_cut(side, || child.try_wait().unwrap());
            if ended.is_none() {
                // It ends with the server that it waits for.
                child.kill().unwrap();
            }
            child.wait().unwrap();
            let queue: Option<Value> = serde_json::from_slice(&fs::read(&file).unwrap()).ok();
            ended.is_some() && queue.is_some_and(|queue| queue["entries"].as_array().is_some_and(Vec::is_empty))
        })
    }

    /// Waits until neither side has anything left to do.
    fn settle(&self) {
        let done = || self.is_done(Side::Origin).then_some(());
        wait::until("both queues to be empty", wait::LONG, done).unwrap_or_else(|error| {
            let queues = [&self.origin, &self.receiver].map(|server| server.json(&["queue", "list"], b"").unwrap());
            panic!("{}: {error}: {queues:#?}", self.name);
        });
    }

    /// Judges everything that was sent.
    fn judge(&self, copies: RangeInclusive<usize>, state: &str) {
        self.settle();
        let mailbox = self.receiver.maildir("bob@b.example").messages();
        for Sent { message, cut, id } in &self.sent {
            let wanted = crlf(message);
            let found = mailbox.iter().filter(|copy| copy.ends_with(&wanted) && body(copy) == body(&wanted)).count();
            let least = if id.is_some() { *copies.start() } else { 0 };
            assert!((least..=*copies.end()).contains(&found), "{}: {found} copies after {cut:?}, {id:?}", self.name);
            if let Some(id) = id {
                self.origin.wait_for_state(id, state, wait::LONG).unwrap();
            }
        }
        assert!(mailbox.len() <= self.sent.len() * copies.end(), "more copies than messages");
        let reports = self.origin.maildir("alice@a.example").messages();
        assert!(reports.is_empty(), "{}", String::from_utf8_lossy(&reports[0]));
        for server in [&self.origin, &self.receiver] {
            let checked = server.json(&["store", "check"], b"").unwrap();
            assert_eq!(checked["clean"], true, "{checked:#}");
        }
    }
}

fn everything(_: u64) -> Loss {
    Loss::Everything
}

fn some(seed: u64) -> Loss {
    Loss::Some { seed }
}

fn sweep(name: &'static str, policy: &str, side: Side) -> World {
    let mut world = World::new(name, policy);
    for octets in [SMALL, LARGE] {
        let before = world.cut_at_each(side, octets, CutAt::BeforeSync, everything);
        let after = world.cut_at_each(side, octets, CutAt::AfterSync, everything);
        let partly = world.cut_at_each(side, octets, |n| CutAt::BeforeChange(5 * n), some);
        println!("{name}, {octets} octets: {before} cuts before and {after} after a sync, {partly} at other changes");
        assert!(before >= 2 && after >= 2, "{before} and {after} syncs: are the data on the disk?");
    }
    world
}

#[test]
fn by_reference_at_the_origin() {
    sweep("by reference, origin", "prefer", Side::Origin).judge(1..=1, "delivered");
}

#[test]
fn by_reference_at_the_receiver() {
    sweep("by reference, receiver", "prefer", Side::Receiver).judge(1..=1, "delivered");
}

#[test]
fn by_value_at_the_origin() {
    sweep("by value, origin", "never", Side::Origin).judge(1..=2, "relayed");
}

#[test]
fn by_value_at_the_receiver() {
    sweep("by value, receiver", "never", Side::Receiver).judge(1..=2, "relayed");
}
