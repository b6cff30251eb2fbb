//! By reference between two servers on hosts of their own, under their real names: the plain way, and everything that may come
//! between offer and receipt.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::thread;
use std::time::Duration;

use testbed::peers::restante::{self, PASSWORD, object, references, steps};
use testbed::peers::{MailServer, Middlebox, Restante, RestanteConfig, Site, clients};
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

/// Starts a server anew that has only taken offers so far.
fn begin_to_retrieve(receiver: &mut Restante) {
    receiver.stop().unwrap();
    receiver.set("transfer", "pause_retrieval", "false").unwrap();
    receiver.run().unwrap();
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
    let issued =
        |trace: &serde_json::Value| trace["entries"][0]["steps"].to_string().contains("bound to the keys of b.example");
    assert!(issued(&sent), "{sent:#}");
    let received = receiver.trace(&references(&sent)[0]).unwrap();
    for step in ["offered", "retrieved", "claimed", "delivered", "receipt"] {
        assert!(steps(&received).iter().any(|found| found == step), "{step}: {received:#}");
    }
    let text = String::from_utf8(receiver.cli(&["trace", &references(&sent)[0]], b"").unwrap().stdout).unwrap();
    assert!(text.contains("signed by a.example with key k1 (webpki)"), "{text}");
    let text = String::from_utf8(origin.cli(&["trace", &id], b"").unwrap().stdout).unwrap();
    assert!(text.contains("offered") && text.contains("delivered"), "{text}");
    let (log, other) = (origin.log(), receiver.log());
    assert!(!log.contains("RCPT=") && !other.contains("RCPT="), "a grant in a log:\n{log}\n{other}");
    let copies = receiver.maildir("bob@b.example").messages();
    let mailbox = String::from_utf8_lossy(&copies[0]);
    assert!(copies.len() == 1 && !mailbox.contains("RCPT="), "nobody is sent the URI, with its grant:\n{mailbox}");

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
    let paused = config("mx.b.example", &domains).with("transfer", "pause_retrieval", "true");
    let mut receiver = Restante::start(&sandbox, paused).unwrap();
    let message = large("for many", 300_000);
    let to = ["bob@b.example", "alice@b.example", "bob@c.example", "bob@d.example"];
    let id = origin.send("alice@a.example", &to, &message).unwrap();
    let offered = origin.wait_for_state(&id, "offered", wait::LONG).unwrap();
    let references = references(&offered);
    assert_eq!(references.len(), domains.len(), "one for each domain: {offered:#}");
    for id in &references {
        receiver.wait_for_step(id, "offered", wait::LONG).unwrap();
    }

    begin_to_retrieve(&mut receiver);
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    for address in to {
        assert_one_copy(&receiver, address, &message);
    }
    let fetched = references.iter().map(|id| fetched_octets(&receiver.trace(id).unwrap())).filter(|octets| *octets > 0);
    let fetched = fetched.collect::<Vec<u64>>();
    assert_eq!(fetched.len(), 1, "fetched more than once: {fetched:?}");
    assert!(fetched[0] < crlf(&message).len() as u64, "kept and served as text is: {fetched:?}");
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
    // Who comes second learns that it is taken, or, where the first was done before it could even fetch, that it is gone.
    let outcome = |trace: &serde_json::Value| {
        let states: Vec<_> = restante::states(trace).into_iter().map(|state| state.to_string()).collect();
        match states.iter().any(|state| state == "delivered") {
            true => "delivered",
            false if states.iter().all(|state| state == "taken" || state == "gone") => "not ours",
            false => "something else",
        }
    };
    let mut outcomes = [outcome(&first), outcome(&second)];
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["delivered", "not ours"], "{first:#}\n{second:#}");
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
    begin_to_retrieve(&mut receiver);
    origin.wait_for_state(&kept, "delivered", wait::LONG).unwrap();
    let finished = |trace: &serde_json::Value| trace["entries"][0]["finished"] == true;
    let look = || receiver.trace(&reference).ok().filter(finished);
    let trace = wait::until("the receiver to give the recalled message up", wait::LONG, look)
        .unwrap_or_else(|error| panic!("{error}: {:#}", receiver.trace(&reference).unwrap()));
    assert!(!steps(&trace).iter().any(|step| step == "delivered"), "{trace:#}");
    assert_one_copy(&receiver, "bob@b.example", &awkward("kept"));
    // Too late for the other: the answer tells the truth.
    let late = origin.json(&["queue", "withdraw", &kept], b"").unwrap_err().to_string();
    assert!(late.contains("nothing left to withdraw") && late.contains("delivered: 2.0.0"), "{late}");
}

/// A stolen password has sent references, which a receiver holds and has not claimed: one command at the origin, and nobody gets them.
#[test]
fn what_an_account_has_offered_is_recalled_with_one_command() {
    let sandbox = Sandbox::new().unwrap();
    let client = sandbox.host("client.example", &[]).unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let paused = config("mx.b.example", &["b.example"]).with("transfer", "pause_retrieval", "true");
    let mut receiver = Restante::start(&sandbox, paused).unwrap();
    let message_of = |user: &str, subject: &str| {
        let message = awkward(subject);
        let rest = message.strip_prefix(b"From: Alice <alice@a.example>").unwrap();
        [format!("From: <{user}@a.example>").as_bytes(), rest].concat()
    };
    let submit = |user: &str, subject: &str| {
        let (login, ca) = (format!("{user}@a.example:{PASSWORD}"), sandbox.ca().certificate());
        let options = ["--cacert", ca.to_str().unwrap(), "--ssl-reqd", "--user", &login];
        let (from, url) = (format!("{user}@a.example"), "smtps://mx.a.example:465");
        let message = crlf(&message_of(user, subject));
        clients::curl_submit(&client, url, &from, "bob@b.example", &message, &options).unwrap();
    };
    (0..3).for_each(|number| submit("alice", &format!("stolen {number}")));
    submit("bob", "genuine");
    let offered = wait::until("four offers", wait::LONG, || {
        let listed = origin.json(&["queue", "list"], b"").ok()?;
        let ids: Vec<String> =
            listed["entries"].as_array()?.iter().filter_map(|entry| Some(entry["id"].as_str()?.to_owned())).collect();
        let traces: Vec<_> = ids.iter().filter_map(|id| origin.trace(id).ok()).collect();
        let offered: Vec<_> = traces.iter().filter(|trace| steps(trace).iter().any(|step| step == "offered")).collect();
        (offered.len() == 4).then(|| offered.iter().map(|trace| references(trace).remove(0)).collect::<Vec<_>>())
    })
    .unwrap();
    offered.iter().for_each(|reference| drop(receiver.wait_for_step(reference, "offered", wait::LONG).unwrap()));

    let told = origin.cli(&["accounts", "recall", "alice@a.example", "--json"], b"").unwrap();
    assert!(told.status.success(), "{told:?}");
    let told = String::from_utf8(told.stdout).unwrap();
    let totals: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!((&totals["withdrawn"], &totals["too_late"]), (&3.into(), &0.into()), "{told}");
    assert_eq!(totals["suspended"], true, "{told}");

    begin_to_retrieve(&mut receiver);
    let finished = |trace: &serde_json::Value| trace["entries"][0]["finished"] == true;
    let traces: Vec<_> = offered
        .iter()
        .map(|reference| {
            let look = || receiver.trace(reference).ok().filter(finished);
            wait::until("the receiver to have done with it", wait::LONG, look).unwrap()
        })
        .collect();
    let delivered = |trace: &&serde_json::Value| steps(trace).iter().any(|step| step == "delivered");
    assert_eq!(traces.iter().filter(delivered).count(), 1, "{traces:#?}");
    let told_gone = |trace: &&serde_json::Value| trace.to_string().contains("withdrawn or has expired");
    assert_eq!(traces.iter().filter(told_gone).count(), 3, "{traces:#?}");
    assert_one_copy(&receiver, "bob@b.example", &message_of("bob", "genuine"));
}

#[test]
fn a_claimed_message_is_delivered_while_its_origin_is_away() {
    let sandbox = Sandbox::new().unwrap();
    let (mut origin, receiver) = pair(&sandbox);
    // Where the mailboxes of the domain should be stands a file: claimed, but not to be delivered.
    let obstacle = receiver.data().join("mail/b.example");
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
    // Once that b.example has keys is known, it may be away.
    let first = large("before", 1000);
    let mut sent = vec![(origin.send("alice@a.example", &["bob@b.example"], &first).unwrap(), first)];
    origin.wait_for_state(&sent[0].0, "delivered", wait::LONG).unwrap();
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

/// Makes the reference one of a revision that nobody speaks yet.
fn from_the_future(line: Vec<u8>) -> Vec<u8> {
    match line.strip_prefix(b"TBR-Reference: v=1;") {
        Some(rest) => [b"TBR-Reference: v=9;", rest].concat(),
        None => line,
    }
}

#[test]
fn an_offer_answered_504_goes_by_value_in_the_same_session() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let receiver = config("mx.b.example", &["b.example"]).with("relay listener", "tbr_without_tls", "true");
    let receiver = Restante::start(&sandbox, receiver.preference(20)).unwrap();
    let port = (receiver.host().ipv4(), 25).into();
    let between = Middlebox::start(&sandbox, "between.b.example", port, from_the_future).unwrap();
    sandbox.publish_mx("b.example", between.host().name()).unwrap();
    let message = awkward("not by reference");
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();

    let trace = origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    assert!(receiver.log().contains("code=504 status=5.5.5"), "{}\n{trace:#}", receiver.log());
    let copies = receiver.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap();
    assert_eq!(copies.len(), 1);
    assert_eq!(object(&copies[0]), None, "{}", String::from_utf8_lossy(&copies[0]));
    assert!(copies[0].ends_with(&crlf(&message)), "{}", String::from_utf8_lossy(&copies[0]));
    assert_eq!(trace["entries"][0]["attempts"], 0, "an attempt failed: {trace:#}");
}

#[test]
fn a_message_for_both_kinds_goes_both_ways() {
    let sandbox = Sandbox::new().unwrap();
    let (origin, receiver) = pair(&sandbox);
    let postfix = MailServer::postfix(&sandbox, &Site::new("mx.p.example", &["p.example"])).unwrap();
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

#[test]
fn a_forwarder_takes_custody_and_passes_it_on_with_a_hop() {
    let sandbox = Sandbox::new().unwrap();
    let mut origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let aliases = "{ sales = [\"bob@c.example\"], gone = [\"nobody@c.example\"] }";
    let forwarder = config("mx.b.example", &["b.example"]).with("domain", "aliases", aliases);
    let forwarder = Restante::start(&sandbox, forwarder).unwrap();
    let end = config("mx.c.example", &["c.example"]).with("transfer", "pause_retrieval", "true");
    let mut end = Restante::start(&sandbox, end).unwrap();
    let message = awkward("forwarded");
    let id = origin.send("alice@a.example", &["sales@b.example"], &message).unwrap();

    // The forwarder has fetched it and offers it on; from here the origin is not needed any more.
    let sent = origin.wait_for_step(&id, "claimed", wait::LONG).unwrap();
    let reference = references(&sent).remove(0);
    let passing = forwarder.wait_for_step(&reference, "issued", wait::LONG).unwrap();
    let hop = references(&passing).into_iter().find(|id| *id != reference).expect("a reference of the forwarder");
    end.wait_for_step(&hop, "offered", wait::LONG).unwrap();
    origin.stop().unwrap();
    end.set("transfer", "pause_retrieval", "false").unwrap();
    end.stop().unwrap();
    end.spawn().unwrap();
    end.wait_for_step(&hop, "delivered", wait::LONG).unwrap();
    assert_one_copy(&end, "bob@c.example", &message);
    let copy = &end.maildir("bob@c.example").messages()[0];
    let fields = String::from_utf8_lossy(&copy[..copy.len() - crlf(&message).len()]).into_owned();
    let (above, below) = (fields.find("TBR-Hop:").unwrap(), fields.find("TBR-Reference:").unwrap());
    assert!(above < below, "{fields}");

    // The author hears of it when his server is back, and not where it went.
    origin.spawn().unwrap();
    let sent = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert!(!sent.to_string().contains("c.example"), "{sent:#}");
    let failing = origin.send("alice@a.example", &["gone@b.example"], &message).unwrap();
    let sent = origin.wait_for_state(&failing, "failed", wait::LONG).unwrap();
    assert!(!sent.to_string().contains("c.example"), "{sent:#}");
    let report = wait::until("the report", wait::LONG, || origin.maildir("alice@a.example").messages().pop()).unwrap();
    let report = String::from_utf8_lossy(&report).into_owned();
    assert!(report.contains("gone@b.example") && !report.contains("c.example"), "{report}");
}

#[test]
fn a_loop_is_found_after_retrieval_and_the_author_hears_of_it() {
    let sandbox = Sandbox::new().unwrap();
    let (origin, receiver) = pair(&sandbox);
    let received = b"Received: from x.example by y.example; Mon, 01 Jan 2024 00:00:00 +0000\n";
    let looping = [received.repeat(150), awkward("round and round")].concat();
    let id = origin.send("alice@a.example", &["bob@b.example"], &looping).unwrap();
    let sent = origin.wait_for_state(&id, "failed", wait::LONG).unwrap();
    let seen = receiver.trace(&references(&sent)[0]).unwrap();
    for step in ["retrieved", "refused"] {
        assert!(steps(&seen).iter().any(|found| found == step), "{step}: {seen:#}");
    }
    let report = origin.maildir("alice@a.example").wait_for_text("message/delivery-status", wait::LONG).unwrap();
    let report = String::from_utf8_lossy(&report).into_owned();
    assert!(report.contains("Status: 5.4.6") && report.contains("passed too many servers"), "{report}");
    assert!(files(&receiver, "bob@b.example").is_empty());
}

#[test]
fn a_forwarder_that_sends_by_value_says_so_above_the_unchanged_object() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let forwarder = config("mx.b.example", &["b.example"]).with("transfer", "policy", "\"never\"");
    let forwarder = forwarder.with("domain", "aliases", "{ sales = [\"bob@c.example\"] }");
    let _forwarder = Restante::start(&sandbox, forwarder).unwrap();
    let end = Restante::start(&sandbox, config("mx.c.example", &["c.example"])).unwrap();
    let message = awkward("forwarded by value");
    let id = origin.send("alice@a.example", &["sales@b.example"], &message).unwrap();
    origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();

    wait::until("the copy", wait::LONG, || end.maildir("bob@c.example").messages().pop()).unwrap();
    assert_one_copy(&end, "bob@c.example", &message);
    let copy = &end.maildir("bob@c.example").messages()[0];
    let fields = String::from_utf8_lossy(&copy[..copy.len() - crlf(&message).len()]).into_owned();
    let (above, below) = (fields.find("TBR-Hop:").unwrap(), fields.find("TBR-Reference:").unwrap());
    assert!(above < below && fields[above..below].contains(" g="), "{fields}");
    let file = files(&end, "bob@c.example").remove(0);
    let judged = end.json(&["verify", file.to_str().unwrap()], b"").unwrap();
    assert_eq!(judged["verdict"], "pass", "{judged:#}");
}

/// The reference URI, which only ledgers hold, as one who reads the disk would find it.
fn stolen_uri(server: &Restante) -> String {
    let begin = b"https://tbr.a.example/.well-known/tbr/m?XUID=";
    let mut files: Vec<_> = fs::read_dir(server.data().join("store")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    let found = files.iter().find_map(|path| {
        let octets = fs::read(path).unwrap();
        let at = octets.windows(begin.len()).position(|window| window == begin)?;
        let end = octets[at..].iter().position(|octet| *octet == b'"')?;
        String::from_utf8(octets[at..at + end].to_vec()).ok()
    });
    found.unwrap_or_else(|| panic!("no URI in {files:?}"))
}

#[test]
fn a_thief_of_the_uri_gets_what_a_stranger_gets_and_the_domain_gets_its_mail() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let paused = config("mx.b.example", &["b.example"]).with("transfer", "pause_retrieval", "true");
    let mut receiver = Restante::start(&sandbox, paused).unwrap();
    let thief = sandbox.host("thief.example", &[]).unwrap();
    let message = awkward("not for thieves");
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
    let offered = origin.wait_for_step(&id, "offered", wait::LONG).unwrap();
    receiver.wait_for_step(&references(&offered)[0], "offered", wait::LONG).unwrap();

    let uri = stolen_uri(&receiver);
    let ca = sandbox.ca().certificate().to_str().unwrap().to_owned();
    let fetch = |uri: &str| {
        let answer = thief.output(&["curl", "--silent", "--include", "--cacert", &ca, uri], b"").unwrap();
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let lines = text.lines().filter(|line| !line.to_lowercase().starts_with("date:"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let (xuid, grant) = uri.rsplit_once("&RCPT=").unwrap();
    let guessed = fetch(&format!("{xuid}&RCPT={}", "A".repeat(grant.len())));
    assert!(guessed.starts_with("HTTP/1.1 404"), "{guessed}");
    assert_eq!(fetch(&uri), guessed, "the stolen grant alone opens something");

    receiver.stop().unwrap();
    receiver.set("transfer", "pause_retrieval", "false").unwrap();
    receiver.run().unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert_one_copy(&receiver, "bob@b.example", &message);
}

/// As by value: one round trip for the envelope and what was offered with it. Then the content, the claim, and the receipt, on
/// connections that are open.
#[test]
fn over_a_long_link_an_offer_takes_one_round_trip_and_the_rest_two() {
    let sandbox = Sandbox::new().unwrap();
    let (origin, _receiver) = pair(&sandbox);
    let round_trip = Duration::from_millis(600);
    let _link = origin.host().delay(round_trip).unwrap();
    let times = |number: usize| {
        let id = origin.send("alice@a.example", &["bob@b.example"], &awkward(&format!("far {number}"))).unwrap();
        // A session that waited too long for the first look-ups comes again after a pause.
        let sent = origin.wait_for_state(&id, "delivered", wait::LONG * 3).unwrap();
        let steps = sent["entries"][0]["steps"].as_array().unwrap();
        let at = |what| steps.iter().find(|step| step["what"] == what).and_then(|step| step["at"].as_u64()).unwrap();
        let between = |first, last| Duration::from_millis(at(last) - at(first));
        (between("issued", "offered"), between("offered", "delivered"))
    };
    times(0);
    // What a busy machine adds says nothing: the first that is quick enough counts.
    let mut tried = Vec::new();
    while !tried.last().is_some_and(|(offer, rest)| *offer < round_trip * 2 && *rest < round_trip * 3) {
        assert!(tried.len() < 8, "{tried:?}");
        tried.push(times(tried.len() + 1));
    }
    assert!(tried.iter().all(|(offer, rest)| *offer >= round_trip && *rest >= round_trip), "{tried:?}");
}

#[test]
fn an_exchanger_without_its_domain_s_key_asks_for_the_message_by_value() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let _with_key = Restante::start(&sandbox, config("mx1.b.example", &["b.example"]).preference(20)).unwrap();
    let without = Restante::start(&sandbox, config("mx2.b.example", &["b.example"]).without_keys()).unwrap();
    let message = awkward("to the one without");
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
    let copy = without.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert_eq!(object(&copy), None, "{}", String::from_utf8_lossy(&copy));
    assert!(copy.ends_with(&crlf(&message)), "{}", String::from_utf8_lossy(&copy));
    origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    assert!(without.log().contains("5.7.4"), "{}", without.log());
}

#[test]
fn without_published_keys_references_are_not_bound() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let receiver = Restante::start(&sandbox, config("mx.b.example", &["b.example"]).without_keys()).unwrap();
    let message = awkward("by the grant alone");
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
    let sent = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert!(!sent.to_string().contains("bound to"), "{sent:#}");
    assert_one_copy(&receiver, "bob@b.example", &message);
}
