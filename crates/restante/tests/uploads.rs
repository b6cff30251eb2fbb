//! A site that uploads what its users send to its custodian, over links and custodians that break (TBR §7.4).

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common {
    pub(crate) mod uploading;
}

use std::fs;

use common::uploading::{by_bob, copy_at_origin, world_in, write_at_site};
use serde_json::Value;
use testbed::peers::restante::{object, states};
use testbed::peers::{PartTime, RestanteConfig};
use testbed::samples::{attachment, awkward, crlf, large};
use testbed::{PackageSet, Sandbox, wait};

/// A site whose mail goes out by upload, and is tried again after seconds.
fn world() -> PartTime {
    world_with(|_, config| config)
}

fn world_with(change: impl Fn(&str, RestanteConfig) -> RestanteConfig) -> PartTime {
    world_in(Sandbox::new().unwrap(), change)
}

#[test]
fn mail_from_a_site_goes_by_upload_and_leaves_its_custodian_by_reference() {
    let world = world();
    for (others, message) in [awkward("small"), large("large", 400_000)].iter().enumerate() {
        let message = by_bob(message);
        let id = world.site.send("bob@site.example", &["alice@a.example"], &message).unwrap();
        let trace = world.site.wait_for_state(&id, "relayed", wait::LONG).unwrap();
        assert!(trace.to_string().contains("tbr.site.example"), "{trace:#}");
        let copy = copy_at_origin(&world, &message, others);
        let text = String::from_utf8_lossy(&copy).into_owned();
        // The custodian signs in the site's name.
        assert!(text.contains("tbr=pass") && text.contains("header.d=site.example"), "{text}");
    }
}

/// What the author at the site is told.
fn report(world: &PartTime) -> String {
    let report = world.site.maildir("bob@site.example").wait_for(1, wait::LONG).unwrap().remove(0);
    String::from_utf8_lossy(&report).into_owned()
}

#[test]
fn the_author_hears_whom_it_did_not_reach_and_a_site_speaks_for_its_own_domain_only() {
    let world = world();
    let message = by_bob(&awkward("for two"));
    let id = write_at_site(&world, &["alice@a.example", "nobody@cust.example"], &message);
    copy_at_origin(&world, &message, 0);
    let ended = || {
        let mut ended = states(&world.site.trace(&id).ok()?);
        ended.sort();
        (ended == ["failed", "relayed"]).then_some(())
    };
    wait::until("both recipients to have an end", wait::LONG, ended).unwrap();
    let told = report(&world);
    assert!(told.contains("nobody@cust.example") && told.contains("5.1.1"), "{told}");

    let forged = b"From: ceo@cust.example\r\nSubject: transfer\r\n\r\nPay at once.\r\n";
    let id = write_at_site(&world, &["alice@a.example"], forged);
    world.site.wait_for_state(&id, "failed", wait::LONG).unwrap();
    let told =
        world.site.maildir("bob@site.example").wait_for_text("the author is not of the site's domain", wait::LONG);
    assert!(String::from_utf8_lossy(&told.unwrap()).contains("5.7.1"));
    // Of another sender nothing leaves at all.
    let id = world.site.send("ceo@cust.example", &["alice@a.example"], &message).unwrap();
    let trace = world.site.wait_for_state(&id, "failed", wait::LONG).unwrap();
    assert!(trace.to_string().contains("whose custodian it is"), "{trace:#}");
    assert_eq!(world.origin.maildir("alice@a.example").messages().len(), 1);
}

#[test]
fn what_came_in_a_bundle_is_not_uploaded_once_more() {
    let mut world = world();
    let file = world.site.host().room().join("restante.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("host = \"tbr.site.example\"\n", "host = \"tbr.site.example\"\nrelay = \"custodian\"\n");
    world.site.stop().unwrap();
    fs::write(&file, text).unwrap();
    world.site.run().unwrap();
    world.custodian.stop().unwrap();
    let message = by_bob(&large("carried", 100_000));
    let id = write_at_site(&world, &["alice@a.example"], &message);
    world.site.wait_for_step(&id, "deferred", wait::LONG).unwrap();
    let stick = world.sandbox.folder().join("mail.tar");
    let stick = stick.to_str().unwrap();
    world.site.json(&["bundle", "export", "site.example", "--out", stick], b"").unwrap();
    world.custodian.run().unwrap();
    world.custodian.json(&["bundle", "import", stick], b"").unwrap();
    copy_at_origin(&world, &message, 0);
    // The stick seemed lost, and the operator has it sent over the link: not an octet of it is sent.
    world.site.json(&["queue", "retry", &id], b"").unwrap();
    let trace = world.site.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    assert!(trace.to_string().contains("\"octets\":0"), "{trace:#}");
    let again = world.custodian.json(&["bundle", "import", stick], b"").unwrap();
    assert_eq!(again["bundles"][0]["known"], 1, "{again:#}");
    copy_at_origin(&world, &message, 0);
}

#[test]
fn a_custodian_killed_in_the_middle_goes_on_with_what_it_has_and_sends_on_once() {
    const SIZE: usize = 1_500_000;
    let mut world = world_with(|name, config| match name {
        "custodian" => config.packages(PackageSet::Firewall),
        _ => config,
    });
    world.custodian.host().count_to(443).unwrap();
    world.site.host().slow_down("1200kbit").unwrap();
    let counted = |world: &PartTime| world.custodian.host().counted().unwrap().octets;
    let message = by_bob(&attachment("over a custodian that falls", SIZE));
    let id = write_at_site(&world, &["alice@a.example"], &message);
    let half = || (counted(&world) > SIZE as u64 / 2).then_some(());
    wait::until("half of the message to be there", wait::LONG, half).unwrap();
    world.custodian.kill().unwrap();
    let before = counted(&world);
    world.custodian.run().unwrap();
    world.site.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    copy_at_origin(&world, &message, 0);
    let after = counted(&world) - before;
    assert!(after < SIZE as u64 * 9 / 10, "{after} octets came after the fall: it began anew");
    assert_eq!(world.custodian.json(&["store", "check"], b"").unwrap()["clean"], true);
}

/// `restante sync` at a laptop: what it prints, and the status that it ends with.
fn sync(world: &PartTime) -> (Value, Option<i32>) {
    let ended = world.site.cli(&["sync", "--json"], b"").unwrap();
    let report = serde_json::from_slice(&ended.stdout);
    (report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ended.stderr))), ended.status.code())
}

#[test]
fn a_laptop_without_a_server_syncs_with_a_custodian_that_it_uploads_to() {
    let mut world = world();
    world.site.stop().unwrap();
    let waits = awkward("waits");
    let id = world.send("bob@site.example", &waits).unwrap();
    world.until_kept(&id).unwrap();
    let written = ["first", "second"].map(|subject| by_bob(&large(subject, 50_000)));
    let kept = written.each_ref().map(|message| write_at_site(&world, &["alice@a.example"], message));
    let outbox = world.site.data().join("outbox");
    assert!(kept.iter().all(|id| outbox.join(id).exists()), "nobody was there to take them");

    let (report, status) = sync(&world);
    assert_eq!(
        (status, &report["taken"], &report["fetched"][0]["pending"]),
        (Some(0), &2.into(), &1.into()),
        "{report:#}"
    );
    let copies = world.copies("bob@site.example");
    assert_eq!(copies.len(), 1);
    assert_eq!(object(&copies[0]), Some(&crlf(&waits)[..]));
    // It ended when the custodian had taken them: nothing is left to do here.
    world.origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    world.origin.maildir("alice@a.example").wait_for(2, wait::LONG).unwrap();
    let copies = written.each_ref().map(|message| copy_at_origin(&world, message, 1));
    assert!(copies.iter().all(|copy| String::from_utf8_lossy(copy).contains("tbr=pass")));
    assert!(kept.iter().all(|id| !outbox.join(id).exists()));
    assert!(world.site.json(&["queue", "list"], b"").is_err(), "a server is left behind");
    let (report, status) = sync(&world);
    assert_eq!((status, &report["taken"], &report["retried"]), (Some(0), &0.into(), &0.into()), "{report:#}");
}

#[test]
fn a_sync_that_was_killed_amid_an_upload_goes_on_where_it_stopped() {
    const SIZE: usize = 1_500_000;
    let mut world = world_with(|name, config| match name {
        "custodian" => config.packages(PackageSet::Firewall),
        _ => config,
    });
    world.custodian.host().count_to(443).unwrap();
    world.site.stop().unwrap();
    world.site.host().slow_down("1200kbit").unwrap();
    let waits = awkward("waits");
    let id = world.send("bob@site.example", &waits).unwrap();
    world.until_kept(&id).unwrap();
    let message = by_bob(&attachment("written on the train", SIZE));
    write_at_site(&world, &["alice@a.example"], &message);

    let before = counted(&world);
    let mut process = world.site.host().spawn_command("sync", world.site.command(&["sync"])).unwrap();
    let most = || (counted(&world) - before > SIZE as u64 * 2 / 3).then_some(());
    wait::until("most of the message to be there", wait::LONG, most).unwrap();
    process.kill().unwrap();
    assert!(world.origin.maildir("alice@a.example").messages().is_empty());

    let before = counted(&world);
    let (report, status) = sync(&world);
    // The first one had taken it out of the outbox.
    assert_eq!((status, &report["taken"]), (Some(0), &0.into()), "{report:#}");
    let came = counted(&world) - before;
    assert!(came < SIZE as u64 * 2 / 3, "{came} octets came after the kill: it began anew");
    copy_at_origin(&world, &message, 0);
    let copies = world.copies("bob@site.example");
    assert_eq!(copies.len(), 1, "what waited came once");
    assert_eq!(object(&copies[0]), Some(&crlf(&waits)[..]));
    world.origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
}

#[test]
fn a_custodian_without_room_puts_mail_off() {
    let mut world = world_with(
        |name, config| if name == "custodian" { config.with("store", "quota", "\"100 KB\"") } else { config },
    );
    let message = by_bob(&large("too much", 300_000));
    let id = write_at_site(&world, &["alice@a.example"], &message);
    let trace = world.site.wait_for_step(&id, "deferred", wait::LONG).unwrap();
    assert!(trace.to_string().contains("no room"), "{trace:#}");
    world.custodian.stop().unwrap();
    world.custodian.set("store", "quota", "\"2 MB\"").unwrap();
    world.custodian.run().unwrap();
    world.site.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    copy_at_origin(&world, &message, 0);
}

#[test]
fn a_stolen_key_of_a_site_sends_no_more_than_the_custodian_lets_it() {
    let mut world = world();
    world.custodian.stop().unwrap();
    let file = world.custodian.host().room().join("restante.toml");
    let text = fs::read_to_string(&file).unwrap().replace("[domain.site]\n", "[domain.site]\nmessages_per_day = 1\n");
    fs::write(&file, text).unwrap();
    world.custodian.run().unwrap();
    let messages = ["the first", "the second"].map(|subject| by_bob(&awkward(subject)));
    let id = write_at_site(&world, &["alice@a.example"], &messages[0]);
    world.site.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    let id = write_at_site(&world, &["alice@a.example"], &messages[1]);
    let judged = || {
        let trace = world.site.trace(&id).ok()?.to_string();
        (trace.contains("deferred") || trace.contains("relayed")).then_some(trace)
    };
    let trace = wait::until("the second to be judged", wait::LONG, judged).unwrap();
    assert!(trace.contains("no more of this site for now"), "{trace}");
    copy_at_origin(&world, &messages[0], 0);
}

/// Octets that came to the custodian's repository.
fn counted(world: &PartTime) -> u64 {
    world.custodian.host().counted().unwrap().octets
}

/// The same, without those that TCP itself has sent twice because the link is slow.
fn counted_once(world: &PartTime) -> u64 {
    // Without headers.
    const SEGMENT: u64 = 1428;
    counted(world).saturating_sub(world.custodian.host().duplicates().unwrap() * SEGMENT)
}

/// Octets that a new connection takes on which the site asks for what waits.
fn octets_of_asking(world: &PartTime) -> u64 {
    let before = counted(world);
    world.site.json(&["link", "up"], b"").unwrap();
    counted(world) - before
}

/// Octets that a message takes over that connection: its own, two lists and the head of a part.
fn octets_of_sending(world: &PartTime, message: &[u8]) -> u64 {
    let before = counted_once(world);
    let id = write_at_site(world, &["alice@a.example"], message);
    world.site.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    counted_once(world) - before
}

#[test]
fn over_a_slow_link_that_breaks_a_message_gets_out_and_next_to_nothing_is_sent_twice() {
    const SIZE: usize = 640 * 1024;
    // Thirty seconds of 64 kbit/s.
    const WINDOW: u64 = 240_000;
    let mut world = world_with(|name, config| match name {
        "custodian" => config.packages(PackageSet::Firewall),
        // What is tried by itself is not what is measured.
        _ => config.with("queue", "retry_first", "\"10m\"").with("queue", "retry_longest", "\"10m\""),
    });
    world.custodian.host().count_to(443).unwrap();
    let messages = ["while it lasts", "while it breaks"].map(|subject| by_bob(&attachment(subject, SIZE)));
    world.site.host().slow_down("64kbit").unwrap();
    // The first connection knows no TLS session yet.
    octets_of_asking(&world);
    let asking = octets_of_asking(&world);
    let whole = octets_of_sending(&world, &messages[0]);

    world.site.host().unplug().unwrap();
    let id = write_at_site(&world, &["alice@a.example"], &messages[1]);
    world.site.wait_for_step(&id, "deferred", wait::LONG).unwrap();
    let connections = || world.custodian.host().counted().unwrap().connections;
    let before = (counted_once(&world), connections());
    let is_done = || world.site.trace(&id).is_ok_and(|trace| states(&trace).iter().all(|state| state == "relayed"));
    let windows = world.break_after(WINDOW, || counted(&world), wait::LONG, is_done).unwrap();
    let (all, connections) = (counted_once(&world) - before.0, connections() - before.1);
    // Each time the site asks what waits for it. The connection and the list that a break costs are among what came again.
    let apart = u64::from(windows) * asking;
    let again = all.saturating_sub(whole + apart);
    let percent = again as f64 * 100.0 / whole as f64;
    println!(
        "{windows} windows, {connections} connections: {all} octets of TCP for {whole}, {apart} of them for the \
         question what waits, {again} came again ({percent:.2} %)"
    );
    copy_at_origin(&world, &messages[1], 1);
    assert!(windows >= 3, "the link broke {windows} times");
    assert!(percent <= 3.0, "{percent:.2} % of the message came again");
    world.site.stop().unwrap();
}
