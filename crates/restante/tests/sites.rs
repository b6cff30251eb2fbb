//! Sites that are connected some of the time: what waits at their custodian, who may ask for it, what they do with it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;

use serde_json::Value;
use testbed::peers::restante::{object, references, states};
use testbed::peers::{PartTime, Restante, RestanteConfig};
use testbed::samples::{awkward, crlf, large};
use testbed::{PackageSet, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

fn config(name: &str, domains: &[&str]) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, name, domains).users(&["alice", "bob"])
}

fn world() -> PartTime {
    PartTime::start(PROGRAM, |_, config| config).unwrap()
}

fn world_with(change: impl Fn(RestanteConfig) -> RestanteConfig) -> PartTime {
    PartTime::start(PROGRAM, |name, config| if name == "site" { change(config) } else { config }).unwrap()
}

#[test]
fn mail_waits_at_the_custodian_until_the_site_asks_for_it() {
    let world = world();
    let message = awkward("for the site");
    let id = world.send("bob@site.example", &message).unwrap();
    world.until_kept(&id).unwrap();
    assert!(world.copies("bob@site.example").is_empty());

    let report = world.fetch().unwrap();
    assert_eq!(report["fetched"][0]["pending"], 1, "{report:#}");
    let copies = world.copies("bob@site.example");
    assert_eq!(copies.len(), 1);
    assert_eq!(object(&copies[0]), Some(&crlf(&message)[..]), "{}", String::from_utf8_lossy(&copies[0]));
    let text = String::from_utf8_lossy(&copies[0]).into_owned();
    assert!(text.contains("tbr=pass") && text.contains("TBR-Hop:"), "{text}");
    // The author hears what became of it, by way of the custodian.
    world.origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    // Nothing waits any more.
    let report = world.fetch().unwrap();
    assert_eq!(
        (&report["fetched"][0]["pending"], &report["fetched"][0]["known"]),
        (&0.into(), &0.into()),
        "{report:#}"
    );
    assert_eq!(world.copies("bob@site.example").len(), 1);
}

#[test]
fn what_came_to_the_custodian_by_value_waits_with_the_rest_and_says_so() {
    let world = world();
    let plain = config("mx.v.example", &["v.example"]).without_keys().with("transfer", "policy", "\"never\"");
    let plain = Restante::start(&world.sandbox, plain).unwrap();
    let message = large("by value", 40_000);
    let id = plain.send("alice@v.example", &["bob@site.example"], &message).unwrap();
    plain.wait_for_state(&id, "relayed", wait::LONG).unwrap();

    let report = world.fetch().unwrap();
    assert_eq!(report["fetched"][0]["pending"], 1, "{report:#}");
    let copy = world.copies("bob@site.example").pop().unwrap();
    let text = String::from_utf8_lossy(&copy).into_owned();
    assert!(copy.ends_with(&crlf(&message)));
    // The site believes of it what its custodian found, and no more.
    let above = &text[..text.find("TBR-Reference:").unwrap()];
    assert!(above.contains("tbr=none") && above.contains("by value to its custodian"), "{above}");
    assert!(above.contains("Authentication-Results: mx.cust.example"), "{above}");
    assert!(above.contains("Return-Path: <alice@v.example>"), "{above}");
}

#[test]
fn whom_the_site_does_not_know_its_author_is_told_of() {
    let world = world();
    let id = world.send("nobody@site.example", &awkward("to nobody")).unwrap();
    world.until_kept(&id).unwrap();
    world.fetch().unwrap();
    world.origin.wait_for_state(&id, "failed", wait::LONG).unwrap();
    let mailbox = || world.origin.maildir("alice@a.example").messages().pop();
    let report = wait::until("the report", wait::LONG, mailbox).unwrap();
    let report = String::from_utf8_lossy(&report).into_owned();
    assert!(report.contains("nobody@site.example") && report.contains("5.1.1"), "{report}");
}

#[test]
fn a_custodian_keeps_what_waits_and_tells_nobody_of_a_delay() {
    // In a world where everybody else is told after a second, and given up after three.
    let world = world();
    let mut custodian = world.custodian;
    custodian.stop().unwrap();
    for (field, value) in [("report_delay_after", "\"1s\""), ("expire_after", "\"3s\"")] {
        custodian.set("queue", field, value).unwrap();
    }
    custodian.set("transfer", "fall_back_without_claim", "\"1s\"").unwrap();
    custodian.run().unwrap();
    let id = world.origin.send("alice@a.example", &["bob@site.example"], &awkward("long waited for")).unwrap();
    world.origin.wait_for_state(&id, "claimed", wait::LONG).unwrap();
    // A message to somewhere that nobody can be reached at goes all the way meanwhile.
    let other = custodian.send("alice@cust.example", &["x@nowhere.example"], &awkward("elsewhere")).unwrap();
    custodian.wait_for_state(&other, "failed", wait::LONG).unwrap();
    let sent = world.origin.trace(&id).unwrap();
    let kept = custodian.trace(&references(&sent)[0]).unwrap();
    assert!(states(&kept).iter().any(|state| state == "offered"), "{kept:#}");
    assert!(!kept.to_string().contains("unclaimed"), "the site was asked why it is silent: {kept:#}");
    assert!(world.origin.maildir("alice@a.example").messages().is_empty());
    world.site.json(&["fetch", "--wait"], b"").unwrap();
    assert_eq!(world.site.maildir("bob@site.example").messages().len(), 1);
}

#[test]
fn a_site_killed_while_it_fetches_has_everything_once() {
    let mut world = world();
    let messages: Vec<Vec<u8>> = (0..6).map(|n| large(&format!("number {n}"), 300_000)).collect();
    for message in &messages {
        let id = world.send("bob@site.example", message).unwrap();
        world.until_kept(&id).unwrap();
    }
    for _ in 0..3 {
        world.site.json(&["fetch"], b"").unwrap();
        world.site.kill().unwrap();
        world.site.run().unwrap();
    }
    world.fetch().unwrap();
    let copies = world.copies("bob@site.example");
    assert_eq!(copies.len(), messages.len());
    for message in &messages {
        assert!(copies.iter().any(|copy| object(copy) == Some(&crlf(message)[..])));
    }
}

#[test]
fn what_cannot_be_taken_at_once_is_asked_for_again_and_is_not_called_done() {
    const MESSAGES: usize = 6;
    // Of its own domain a site takes whatever comes, be strangers ever so limited; in all no more than it has room for.
    let mut world = world_with(|site| {
        let site = site.with("budgets", "outstanding", "1").with("transfer", "pause_retrieval", "true");
        site.with("budgets.domain", "offers_per_minute", "1").with("budgets.registrable", "offers_per_minute", "1")
    });
    let messages: Vec<Vec<u8>> = (0..MESSAGES).map(|n| awkward(&format!("number {n}"))).collect();
    for message in &messages {
        let id = world.send("bob@site.example", message).unwrap();
        world.until_kept(&id).unwrap();
    }
    let run = |world: &PartTime, arguments: &[&str]| -> (Option<i32>, Value) {
        let ended = world.site.cli(&[arguments, &["--json"]].concat(), b"").unwrap();
        (ended.status.code(), serde_json::from_slice(&ended.stdout).unwrap())
    };
    let (code, report) = run(&world, &["fetch"]);
    let fetched = &report["fetched"][0];
    assert_eq!((code, &fetched["pending"], &fetched["later"]), (Some(75), &1.into(), &5.into()), "{report:#}");
    let (code, report) = run(&world, &["fetch", "--wait", "--limit", "3s"]);
    assert_eq!((code, &report["left"]["to_retrieve"]), (Some(75), &1.into()), "{report:#}");

    world.site.stop().unwrap();
    world.site.set("transfer", "pause_retrieval", "false").unwrap();
    world.site.run().unwrap();
    let (code, report) = run(&world, &["fetch", "--wait"]);
    assert_eq!((code, &report["fetched"][0]["later"]), (Some(0), &0.into()), "{report:#}");
    assert_eq!(world.copies("bob@site.example").len(), MESSAGES);
}

#[test]
fn a_limit_bounds_the_reading_of_the_list_too() {
    let mut world = PartTime::start(PROGRAM, |name, config| match name {
        "custodian" => config.packages(PackageSet::Firewall),
        _ => config,
    })
    .unwrap();
    // It is there, and says nothing.
    world.custodian.host().lose_packets(999).unwrap();
    let is_cut_short = |arguments: &[&str]| {
        let ended = world.site.cli(&[arguments, &["--limit", "2s", "--json"]].concat(), b"").unwrap();
        let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!((ended.status.code(), &report["incomplete"]), (Some(75), &true.into()), "{arguments:?}: {report:#}");
    };
    is_cut_short(&["fetch", "--wait"]);
    is_cut_short(&["link", "up", "--wait"]);
    is_cut_short(&["sync"]);
    world.site.stop().unwrap();
    let ended = world.site.cli(&["sync", "--limit", "2s"], b"").unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(75), "{said}");
    assert!(said.contains("The time was up before all custodians had said what waits."), "{said}");
}

#[test]
fn small_mail_that_comes_while_a_list_is_broken_off_is_listed_when_it_is_gone_on_with() {
    const MESSAGES: usize = 80;
    let mut world = PartTime::start(PROGRAM, |name, config| match name {
        "origin" => config.with("submission", "messages_per_hour", "1000"),
        "site" => config.packages(PackageSet::Firewall).with("transfer", "pause_retrieval", "true"),
        _ => config,
    })
    .unwrap();
    world.site.host().count_from(443).unwrap();
    // Larger than what comes first on a list.
    let messages = (0..MESSAGES).map(|number| large(&format!("number {number}"), 70_000));
    let sent: Vec<String> = messages.map(|message| world.send("bob@site.example", &message).unwrap()).collect();
    sent.iter().for_each(|id| world.until_kept(id).unwrap());
    world.custodian.host().slow_down("300kbit").unwrap();
    let mut asking = world.site.host().spawn_command("fetch", world.site.command(&["fetch"])).unwrap();
    // The first page and some of the next.
    let reached = || (world.site.host().counted().unwrap().octets > 45_000).then_some(());
    wait::until("a page to be here", wait::LONG, reached).unwrap();
    world.custodian.kill().unwrap();
    asking.wait(wait::LONG).unwrap();
    let listed = || {
        let queue = world.site.json(&["queue", "list"], b"").unwrap();
        queue["entries"].as_array().unwrap().len()
    };
    assert!((1..MESSAGES).contains(&listed()), "the list was broken off");

    world.custodian.run().unwrap();
    let small = world.send("bob@site.example", &awkward("small, and late")).unwrap();
    world.until_kept(&small).unwrap();
    let report = world.site.json(&["fetch"], b"").unwrap();
    assert_eq!(report["fetched"][0]["more"], Value::Null, "{report:#}");
    assert_eq!(listed(), MESSAGES + 1, "{report:#}");
}

#[test]
fn the_link_coming_up_sends_what_waited_and_a_schedule_asks_by_itself() {
    let relay = "[[relay]]\nname = \"custodian\"\nhost = \"mx.cust.example\"\ntls = \"required\"\n";
    let mut world = world_with(|site| {
        let site = site.tables(relay).with("", "smart_host", "\"custodian\"");
        site.with("queue", "retry_first", "\"10m\"").with("queue", "retry_longest", "\"10m\"")
    });
    // The custodian lets the site send, and signs in its name.
    let network = format!("[\"{}/32\", \"{}/128\"]", world.site.host().ipv4(), world.site.host().ipv6());
    world.custodian.stop().unwrap();
    world.custodian.set("", "relay_from", &network).unwrap();
    let message = awkward("from the site");
    let id = world.site.send("bob@site.example", &["alice@a.example"], &message).unwrap();
    world.site.wait_for_step(&id, "deferred", wait::LONG).unwrap();
    world.custodian.run().unwrap();
    let report = world.site.json(&["link", "up", "--wait"], b"").unwrap();
    assert_eq!(report["retried"], 1, "{report:#}");
    let copy = world.origin.maildir("alice@a.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let text = String::from_utf8_lossy(&copy).into_owned();
    assert!(object(&copy).is_some_and(|object| object.ends_with(&crlf(&message))), "{text}");
    assert!(text.contains("tbr=pass") && text.contains("header.d=site.example"), "{text}");

    world.site.stop().unwrap();
    let answer = world.send("bob@site.example", &awkward("the answer")).unwrap();
    world.until_kept(&answer).unwrap();
    let file = world.site.host().room().join("restante.toml");
    let scheduled = fs::read_to_string(&file).unwrap().replace("[[custodian]]", "[[custodian]]\nevery = \"1s\"");
    fs::write(&file, scheduled).unwrap();
    world.site.run().unwrap();
    world.site.maildir("bob@site.example").wait_for(1, wait::LONG).unwrap();
    world.origin.wait_for_state(&answer, "delivered", wait::LONG).unwrap();
}

#[test]
fn a_laptop_without_a_server_syncs_and_ends() {
    let relay = "[[relay]]\nname = \"custodian\"\nhost = \"mx.cust.example\"\ntls = \"required\"\n";
    let mut world = world_with(|site| site.tables(relay).with("", "smart_host", "\"custodian\""));
    let network = format!("[\"{}/32\", \"{}/128\"]", world.site.host().ipv4(), world.site.host().ipv6());
    world.custodian.stop().unwrap();
    world.custodian.set("", "relay_from", &network).unwrap();
    world.custodian.run().unwrap();
    world.site.stop().unwrap();
    let (waits, written) = (awkward("waits"), awkward("written on the airplane"));
    let id = world.send("bob@site.example", &waits).unwrap();
    world.until_kept(&id).unwrap();

    // Nobody is there to take it, and it is kept.
    let kept = world.site.send("bob@site.example", &["alice@a.example"], &written).unwrap();
    let outbox = world.site.data().join("outbox");
    assert!(outbox.join(&kept).exists());
    let lost = world.site.send("bob@site.example", &["nobody@site.example"], &written).unwrap();

    let synced = world.site.cli(&["sync", "--json"], b"").unwrap();
    let report: Value = serde_json::from_slice(&synced.stdout).unwrap();
    assert_eq!(synced.status.code(), Some(1), "one message was refused: {report:#}");
    assert_eq!((&report["taken"], &report["fetched"][0]["pending"]), (&1.into(), &1.into()), "{report:#}");
    assert_eq!(object(&world.copies("bob@site.example")[0]), Some(&crlf(&waits)[..]));
    world.origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let copy = world.origin.maildir("alice@a.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(copy.ends_with(&crlf(&written)), "{}", String::from_utf8_lossy(&copy));
    // What nobody can take is set aside, and said.
    assert!(report["refused"][0].as_str().unwrap().contains("no such recipient"), "{report:#}");
    assert!(outbox.join("refused").join(lost).exists() && !outbox.join(kept).exists());
    assert!(world.site.json(&["queue", "list"], b"").is_err(), "a server is left behind");
}
