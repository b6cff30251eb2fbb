//! By reference between two servers on hosts of their own, under their real names: the plain way, and everything that may come
//! between offer and receipt.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::thread;
use std::time::Duration;

use testbed::peers::restante::{self, object, references, steps};
use testbed::peers::{Postfix, PostfixConfig, Restante, RestanteConfig};
use testbed::samples::{awkward, crlf, large, lf};
use testbed::{Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

fn config(name: &str, domains: &[&str]) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, name, domains).users(&["alice", "bob"])
}

fn pair(sandbox: &Sandbox) -> (Restante, Restante) {
    let origin = Restante::start(sandbox, config("mx.a.example", &["a.example"])).unwrap();
    (origin, Restante::start(sandbox, config("mx.b.example", &["b.example"])).unwrap())
}

/// The files of a mailbox, with their paths.
fn files(server: &Restante, address: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(server.maildir(address).path().join("new")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn assert_one_copy(server: &Restante, address: &str, message: &[u8]) {
    let copies = server.maildir(address).messages();
    assert_eq!(copies.len(), 1, "copies for {address}");
    assert_eq!(object(&copies[0]), Some(&crlf(message)[..]), "{}", String::from_utf8_lossy(&copies[0]));
}

#[test]
fn a_message_arrives_unchanged_and_both_sides_can_tell_how() {
    let sandbox = Sandbox::new().unwrap();
    let (origin, receiver) = pair(&sandbox);
    let message = awkward("by reference");
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();

    let sent = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert_one_copy(&receiver, "bob@b.example", &message);
    for step in ["accepted", "offered", "claimed", "delivered"] {
        assert!(steps(&sent).iter().any(|found| found == step), "{step}: {sent:#}");
    }
    let received = receiver.trace(&references(&sent)[0]).unwrap();
    for step in ["offered", "retrieved", "claimed", "delivered", "receipt"] {
        assert!(steps(&received).iter().any(|found| found == step), "{step}: {received:#}");
    }
    let text = String::from_utf8(origin.cli(&["trace", &id], b"").unwrap().stdout).unwrap();
    assert!(text.contains("offered") && text.contains("delivered"), "{text}");
    let (log, other) = (origin.log(), receiver.log());
    assert!(!log.contains("RCPT=") && !other.contains("RCPT="), "a grant in a log:\n{log}\n{other}");

    // Keys from DNS and the origin's web server, as a stranger would get them.
    let file = files(&receiver, "bob@b.example").remove(0);
    let judged = receiver.json(&["verify", file.to_str().unwrap()], b"").unwrap();
    assert_eq!(judged["verdict"], "pass", "{judged:#}");
    let copy = file.with_extension("lf");
    fs::write(&copy, lf(&fs::read(&file).unwrap())).unwrap();
    let judged = receiver.json(&["verify", copy.to_str().unwrap()], b"").unwrap();
    assert_eq!((&judged["verdict"], &judged["lf_copy"]), (&"pass".into(), &true.into()), "{judged:#}");
    let mut octets = fs::read(&file).unwrap();
    *octets.last_mut().unwrap() = b'\r';
    let last = octets.len() - 9;
    octets[last] ^= 1;
    fs::write(&copy, octets).unwrap();
    assert_eq!(receiver.cli(&["verify", copy.to_str().unwrap()], b"").unwrap().status.code(), Some(1));

    for server in [&origin, &receiver] {
        assert_eq!(server.json(&["store", "check"], b"").unwrap()["clean"], true);
    }
}

#[test]
fn one_retrieval_serves_recipients_in_several_domains() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let domains = ["b.example", "c.example", "d.example"];
    let receiver = Restante::start(&sandbox, config("mx.b.example", &domains)).unwrap();
    let message = large("for many", 300_000);
    let to = ["bob@b.example", "alice@b.example", "bob@c.example", "bob@d.example"];
    let id = origin.send("alice@a.example", &to, &message).unwrap();

    let sent = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    for address in to {
        assert_one_copy(&receiver, address, &message);
    }
    let references = references(&sent);
    assert_eq!(references.len(), domains.len(), "one for each domain: {sent:#}");
    let fetched = references.iter().map(|id| fetched_octets(&receiver.trace(id).unwrap())).sum::<u64>();
    assert_eq!(fetched, crlf(&message).len() as u64, "fetched more than once");
}

/// The octets of all retrievals in what a receiver knows.
fn fetched_octets(trace: &serde_json::Value) -> u64 {
    let entries = trace["entries"].as_array().into_iter().flatten();
    let steps = entries.flat_map(|entry| entry["steps"].as_array().into_iter().flatten());
    steps.filter(|step| step["what"] == "retrieved").filter_map(|step| step["octets"].as_u64()).sum()
}

#[test]
fn two_exchangers_without_shared_state_deliver_once() {
    let sandbox = Sandbox::new().unwrap();
    let paused = |name: &str| config(name, &["b.example"]).with("transfer", "pause_retrieval", "true");
    // An origin that insists: what is not claimed within seconds is offered again.
    let origin = config("mx.a.example", &["a.example"]).with("transfer", "policy", "\"require\"");
    let origin = origin.with("transfer", "fall_back_without_claim", "\"2s\"");
    let origin = Restante::start(&sandbox, origin).unwrap();
    let mut one = Restante::start(&sandbox, paused("mx1.b.example")).unwrap();
    let mut two = Restante::start(&sandbox, paused("mx2.b.example").preference(20)).unwrap();
    let message = awkward("once");
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();

    // The first takes the offer and goes down; the offer is made again, and the second takes it too.
    let offered = origin.wait_for_step(&id, "offered", wait::LONG).unwrap();
    let reference = references(&offered).remove(0);
    one.wait_for_step(&reference, "offered", wait::LONG).unwrap();
    one.kill().unwrap();
    two.wait_for_step(&reference, "offered", wait::LONG).unwrap();

    // Now both fetch and claim.
    two.stop().unwrap();
    for server in [&mut one, &mut two] {
        server.set("transfer", "pause_retrieval", "false").unwrap();
        server.spawn().unwrap();
    }
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let finished = |server: &Restante| {
        let what = format!("the reference to be finished at {}", server.host().name());
        let done = |trace: &serde_json::Value| {
            trace["entries"].as_array().is_some_and(|e| e.iter().all(|e| e["finished"] == true))
        };
        wait::until(&what, wait::LONG, || server.trace(&reference).ok().filter(done))
            .unwrap_or_else(|error| panic!("{error}: {:#}", server.trace(&reference).unwrap()))
    };
    let (first, second) = (finished(&one), finished(&two));
    let taken =
        [&first, &second].iter().flat_map(|trace| restante::states(trace)).filter(|state| state == "taken").count();
    assert_eq!(taken, 1, "{first:#}\n{second:#}");
    let copies = [&one, &two].map(|server| server.maildir("bob@b.example").messages().len());
    assert_eq!(copies.iter().sum::<usize>(), 1, "{copies:?}");
}

#[test]
fn what_nobody_has_claimed_can_be_recalled() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let paused = config("mx.b.example", &["b.example"]).with("transfer", "pause_retrieval", "true");
    let mut receiver = Restante::start(&sandbox, paused).unwrap();
    let recalled = origin.send("alice@a.example", &["bob@b.example"], &awkward("recalled")).unwrap();
    let kept = origin.send("alice@a.example", &["bob@b.example"], &awkward("kept")).unwrap();
    let offered = origin.wait_for_step(&recalled, "offered", wait::LONG).unwrap();
    origin.wait_for_step(&kept, "offered", wait::LONG).unwrap();
    let reference = references(&offered).remove(0);
    receiver.wait_for_step(&reference, "offered", wait::LONG).unwrap();

    let answer = origin.json(&["queue", "withdraw", &recalled], b"").unwrap();
    assert_eq!(answer["recipients"][0]["address"], "bob@b.example", "{answer:#}");
    receiver.stop().unwrap();
    receiver.set("transfer", "pause_retrieval", "false").unwrap();
    receiver.run().unwrap();
    origin.wait_for_state(&kept, "delivered", wait::LONG).unwrap();
    let finished = |trace: &serde_json::Value| trace["entries"][0]["finished"] == true;
    let look = || receiver.trace(&reference).ok().filter(finished);
    let trace = wait::until("the receiver to give the recalled message up", wait::LONG, look)
        .unwrap_or_else(|error| panic!("{error}: {:#}", receiver.trace(&reference).unwrap()));
    assert!(!steps(&trace).iter().any(|step| step == "delivered"), "{trace:#}");
    assert_one_copy(&receiver, "bob@b.example", &awkward("kept"));
    // Too late for the other: the answer tells the truth.
    let late = origin.json(&["queue", "withdraw", &kept], b"").unwrap();
    assert!(late["recipients"][0]["text"].as_str().unwrap().contains("delivered"), "{late:#}");
}

#[test]
fn a_claimed_message_is_delivered_while_its_origin_is_away() {
    let sandbox = Sandbox::new().unwrap();
    let (mut origin, receiver) = pair(&sandbox);
    // Where the mailbox should be stands a file: claimed, but not to be delivered.
    let obstacle = receiver.data().join("mail");
    fs::write(&obstacle, "in the way").unwrap();
    let message = awkward("from an origin that goes away");
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
    origin.wait_for_state(&id, "claimed", wait::LONG).unwrap();

    origin.kill().unwrap();
    fs::remove_file(obstacle).unwrap();
    receiver.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap();
    origin.run().unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert_one_copy(&receiver, "bob@b.example", &message);
}

#[test]
fn a_receiver_killed_again_and_again_delivers_once() {
    let sandbox = Sandbox::new().unwrap();
    let (origin, mut receiver) = pair(&sandbox);
    let mut sent = Vec::new();
    // At times by chance, the same at every run.
    for number in 0..12_u64 {
        let message = large(&format!("number {number}"), 200_000);
        sent.push((origin.send("alice@a.example", &["bob@b.example"], &message).unwrap(), message));
        thread::sleep(Duration::from_millis((number * 37) % 90));
        receiver.kill().unwrap();
        receiver.run().unwrap();
    }
    for (id, _) in &sent {
        origin.wait_for_state(id, "delivered", wait::LONG).unwrap();
    }
    let copies = receiver.maildir("bob@b.example").messages();
    assert_eq!(copies.len(), sent.len());
    for (_, message) in sent {
        assert!(copies.iter().any(|copy| object(copy) == Some(&crlf(&message)[..])));
    }
    receiver.stop().unwrap();
}

#[test]
fn an_exchanger_that_takes_no_references_gets_it_by_value() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let plain = config("mx.b.example", &["b.example"]).with("relay listener", "tbr", "false");
    let plain = Restante::start(&sandbox, plain).unwrap();
    let message = awkward("to the plain one");
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
    let copy = plain.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert_eq!(object(&copy), None, "{}", String::from_utf8_lossy(&copy));
    assert!(copy.ends_with(&crlf(&message)), "{}", String::from_utf8_lossy(&copy));
    origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();
}

#[test]
fn a_message_for_both_kinds_goes_both_ways() {
    let sandbox = Sandbox::new().unwrap();
    let (origin, receiver) = pair(&sandbox);
    let settings = PostfixConfig {
        name: "mx.p.example".to_owned(),
        domains: vec!["p.example".to_owned()],
        users: vec!["bob".to_owned()],
        ..PostfixConfig::default()
    };
    let postfix = Postfix::start(&sandbox, &settings).unwrap();
    let message = awkward("both ways");
    let id = origin.send("alice@a.example", &["bob@b.example", "bob@p.example"], &message).unwrap();
    let copy = postfix.maildir("bob").wait_for(1, wait::LONG).unwrap().remove(0);
    let text = String::from_utf8_lossy(&copy).into_owned();
    assert!(copy.ends_with(&message), "{text}");
    assert!(text.contains("using TLSv1") || text.contains("with ESMTPS"), "{text}");
    receiver.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap();
    assert_one_copy(&receiver, "bob@b.example", &message);
    let trace = origin.trace(&id).unwrap();
    assert_eq!(trace["entries"].as_array().unwrap().len(), 2, "{trace:#}");
}
