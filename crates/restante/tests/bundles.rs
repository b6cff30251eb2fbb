//! Bundles: a custodian and its site with no network between them, and a folder that stands for the stick.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common {
    pub(crate) mod stick;
}

use std::fs;
use std::path::Path;

use common::stick::{SITE, World, by_bob, config, export, hear_custodian, import, write_at_site};
use serde_json::Value;
use testbed::peers::Restante;
use testbed::peers::restante::{object, states};
use testbed::samples::{awkward, crlf, large};
use testbed::{Sandbox, wait};

impl World {
    fn new() -> Self {
        Self::with(Sandbox::new().unwrap(), |site| site, |custodian| custodian)
    }

    /// The site's answer reaches the custodian.
    fn answer(&self) -> Value {
        let file = self.file("answer.tar");
        export(&self.site, &file, &[]);
        import(&self.custodian, &file)
    }
}

/// Reads one that is not good: the exit status, and what was said.
fn import_bad(by: &Restante, file: &Path) -> (Option<i32>, Value) {
    let output = by.cli(&["bundle", "import", file.to_str().unwrap(), "--json"], b"").unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// Where a file begins in an archive, and where its octets do.
fn find(archive: &[u8], name: &str) -> usize {
    let at = archive.chunks(512).position(|block| block.starts_with(name.as_bytes())).unwrap();
    (at + 1) * 512
}

#[test]
fn mail_goes_to_a_site_without_network_and_its_author_hears_of_it() {
    let world = World::new();
    let plain = config("mx.v.example", &["v.example"]).without_keys().with("transfer", "policy", "\"never\"");
    let plain = Restante::start(&world.sandbox, plain).unwrap();
    let (small, big, by_value) = (awkward("small"), large("big", 300_000), large("by value", 40_000));
    let ids = [world.send("bob@site.example", &small), world.send("alice@site.example", &big)];
    let id = plain.send("alice@v.example", &["bob@site.example"], &by_value).unwrap();
    plain.wait_for_state(&id, "relayed", wait::LONG).unwrap();

    let file = world.file("out.tar");
    let written = export(&world.custodian, &file, &[]);
    assert_eq!((&written["bundles"][0]["messages"], &written["more"]), (&3.into(), &false.into()), "{written:#}");
    let read = import(&world.site, &file);
    assert_eq!((&read["messages"], &read["missing"]), (&3.into(), &0.into()), "{read:#}");
    // They are in the mailboxes when the command ends.
    let copies = world.copies("bob@site.example");
    assert_eq!(copies.len(), 2);
    let copy = copies.iter().find(|copy| object(copy) == Some(&crlf(&small)[..])).unwrap();
    let text = String::from_utf8_lossy(copy);
    // The site knows the key by which its custodian signed, and what the custodian says of the origin.
    assert!(text.contains("tbr=pass") && text.contains("header.d=site.example"), "{text}");
    assert!(text.contains("Authentication-Results: mx.cust.example") && text.contains("header.d=a.example"), "{text}");
    assert!(copies.iter().any(|copy| copy.ends_with(&crlf(&by_value))));
    assert_eq!(object(&world.copies("alice@site.example")[0]), Some(&crlf(&big)[..]));

    // Nobody else knows yet; custody is where it was.
    assert!(states(&world.origin.trace(&ids[0]).unwrap()).iter().all(|state| state == "claimed" || state == "relayed"));
    let heard = world.answer();
    assert_eq!(
        (&heard["claims"], &heard["receipts"], &heard["unknown"]),
        (&3.into(), &3.into(), &0.into()),
        "{heard:#}"
    );
    for id in &ids {
        world.origin.wait_for_state(id, "delivered", wait::LONG).unwrap();
    }
    // The custodian says that it has heard, and nothing is left to be said.
    let written = export(&world.custodian, &file, &[]);
    assert_eq!(
        (&written["bundles"][0]["messages"], &written["bundles"][0]["heard"]),
        (&0.into(), &3.into()),
        "{written:#}"
    );
    assert_eq!(import(&world.site, &file)["heard"], 3);
    let nothing = export(&world.site, &world.file("none.tar"), &[]);
    assert!(nothing["bundles"][0]["file"].is_null() && !world.file("none.tar").exists(), "{nothing:#}");
}

#[test]
fn what_is_read_twice_or_fetched_meanwhile_comes_once() {
    let world = World::new();
    let (first, second) = (awkward("first"), large("second", 100_000));
    let id = world.send("bob@site.example", &first);
    let file = world.file("out.tar");
    export(&world.custodian, &file, &[]);
    import(&world.site, &file);
    let again = import(&world.site, &file);
    assert_eq!((&again["messages"], &again["known"]), (&0.into(), &1.into()), "{again:#}");
    // A stick that was thought lost is written once more, with what has come since; and the link comes up before it arrives.
    let other = world.send("bob@site.example", &second);
    let written = export(&world.custodian, &file, &[]);
    assert_eq!(written["bundles"][0]["messages"], 2, "{written:#}");
    world.site.host().plug_in().unwrap();
    world.site.json(&["fetch", "--wait"], b"").unwrap();
    for id in [&id, &other] {
        world.origin.wait_for_state(id, "delivered", wait::LONG).unwrap();
    }
    let again = import(&world.site, &file);
    assert_eq!((&again["messages"], &again["known"]), (&0.into(), &2.into()), "{again:#}");
    let copies = world.copies("bob@site.example");
    assert_eq!(copies.len(), 2, "a second copy");
    assert!([&first, &second].iter().all(|wanted| copies.iter().any(|copy| object(copy) == Some(&crlf(wanted)[..]))));
}

#[test]
fn a_damaged_bundle_brings_what_is_whole_and_a_good_one_the_rest() {
    let world = World::new();
    let messages: Vec<Vec<u8>> = (0..3).map(|n| large(&format!("number {n}"), 50_000)).collect();
    for message in &messages {
        world.send("bob@site.example", message);
    }
    let file = world.file("out.tar");
    export(&world.custodian, &file, &[]);
    let whole = fs::read(&file).unwrap();

    // Torn off in the second message.
    let torn = world.file("torn.tar");
    let objects: Vec<usize> = (0..whole.len()).step_by(512).filter(|at| whole[*at..].starts_with(b"000/")).collect();
    fs::write(&torn, &whole[..objects[1] + 20_000]).unwrap();
    let (exit, report) = import_bad(&world.site, &torn);
    assert_eq!(exit, Some(1), "{report:#}");
    let read = &report["bundles"][0];
    assert_eq!(
        (&read["whole"], &read["messages"], &read["missing"]),
        (&false.into(), &1.into(), &2.into()),
        "{read:#}"
    );
    assert!(read["error"].as_str().unwrap().contains("ends too early"), "{read:#}");
    assert_eq!(world.copies("bob@site.example").len(), 1);

    // One octet of a message is another one: everything else comes.
    let mut damaged = whole.clone();
    damaged[objects[2] + 512 + 30_000] ^= 1;
    fs::write(&torn, &damaged).unwrap();
    let report = world.site.json(&["bundle", "import", torn.to_str().unwrap()], b"").unwrap();
    assert_eq!(
        (&report["bundles"][0]["messages"], &report["bundles"][0]["missing"]),
        (&1.into(), &1.into()),
        "{report:#}"
    );

    let read = import(&world.site, &file);
    assert_eq!((&read["messages"], &read["known"]), (&1.into(), &2.into()), "{read:#}");
    let copies = world.copies("bob@site.example");
    assert_eq!(copies.len(), 3);
    for message in &messages {
        assert!(copies.iter().any(|copy| object(copy) == Some(&crlf(message)[..])));
    }
}

#[test]
fn what_is_forged_or_for_somebody_else_brings_nothing() {
    let world = World::new();
    world.send("bob@site.example", &awkward("genuine"));
    let file = world.file("out.tar");
    export(&world.custodian, &file, &[]);
    let whole = fs::read(&file).unwrap();
    let forged = world.file("forged.tar");
    let refused = |octets: &[u8], why: &str| {
        fs::write(&forged, octets).unwrap();
        let (exit, report) = import_bad(&world.site, &forged);
        assert_eq!(exit, Some(1), "{report:#}");
        assert!(report.to_string().contains(why), "{why}: {report:#}");
    };
    let with = |place: usize, from: &str, to: &str| {
        let mut octets = whole.clone();
        let at = place + octets[place..].windows(from.len()).position(|found| found == from.as_bytes()).unwrap();
        octets[at..at + to.len()].copy_from_slice(to.as_bytes());
        octets
    };
    // Another manifest than the one that was signed, another part than the manifest names, another signature.
    refused(&with(find(&whole, "bundle.json"), "\"objects\":1", "\"objects\":2"), "does not verify");
    let part = find(&whole, "000-pending.json");
    refused(&with(part, "mx.cust.example;", "mx.dust.example;"), "does not hold what its manifest says");
    refused(
        &with(find(&whole, "bundle.sig"), "keyid=\"cust.", "keyid=\"home."),
        "no key that this server's configuration",
    );
    refused(b"not a bundle at all", "this is no bundle");
    refused(&[], "this is no bundle");
    // The site's own answers, and what is for the site, are nothing to others.
    let outcome = world.origin.cli(&["bundle", "import", file.to_str().unwrap(), "--json"], b"").unwrap();
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("no such [[custodian]]"));
    assert!(world.copies("bob@site.example").is_empty());
    // Nothing of all that has done any harm.
    assert_eq!(import(&world.site, &file)["messages"], 1);
    let answer = world.file("answer.tar");
    export(&world.site, &answer, &[]);
    let (_, report) = import_bad(&world.site, &answer);
    assert!(report.to_string().contains("whose custodian"), "{report:#}");
    assert_eq!(import(&world.custodian, &answer)["claims"], 1);
}

#[test]
fn whom_the_site_does_not_know_the_author_is_told_of_and_too_large_a_bundle_becomes_several() {
    let world = World::new();
    let lost = world.send("nobody@site.example", &awkward("to nobody"));
    for number in 0..3 {
        world.send("bob@site.example", &large(&format!("number {number}"), 150_000));
    }
    let one = export(&world.custodian, &world.file("one.tar"), &["--limit", "400k"]);
    assert_eq!(one["more"], true, "{one:#}");
    assert!(fs::metadata(world.file("one.tar")).unwrap().len() <= 400_000);
    let folder = world.file("folder");
    fs::create_dir(&folder).unwrap();
    let several = export(&world.custodian, &folder, &["--limit", "400k"]);
    let bundles = several["bundles"].as_array().unwrap();
    assert!(bundles.len() >= 2 && several["more"] == false, "{several:#}");
    let files: Vec<&str> = bundles.iter().map(|bundle| bundle["file"].as_str().unwrap()).collect();
    let report = world.site.json(&[&["bundle", "import"], files.as_slice()].concat(), b"").unwrap();
    let brought: u64 =
        report["bundles"].as_array().unwrap().iter().map(|read| read["messages"].as_u64().unwrap()).sum();
    assert_eq!(brought, 4, "{report:#}");
    assert_eq!(world.copies("bob@site.example").len(), 3);
    world.answer();
    world.origin.wait_for_state(&lost, "failed", wait::LONG).unwrap();
    let mailbox = || world.origin.maildir("alice@a.example").messages().pop();
    let report = String::from_utf8(wait::until("the report", wait::LONG, mailbox).unwrap()).unwrap();
    assert!(report.contains("nobody@site.example") && report.contains("5.1.1"), "{report}");
    // A file that is no bundle is not written over.
    fs::write(world.file("precious"), "precious").unwrap();
    let out = world.file("precious");
    let refused = world.custodian.json(&["bundle", "export", SITE, "--out", out.to_str().unwrap()], b"").unwrap_err();
    assert!(refused.to_string().contains("not written over"), "{refused}");
    assert_eq!(fs::read(out).unwrap(), b"precious");
}

#[test]
fn a_site_without_a_server_reads_and_answers() {
    let mut world = World::new();
    let id = world.send("bob@site.example", &awkward("to a laptop"));
    let file = world.file("out.tar");
    export(&world.custodian, &file, &[]);
    world.site.stop().unwrap();
    assert_eq!(import(&world.site, &file)["messages"], 1);
    assert_eq!(world.copies("bob@site.example").len(), 1);
    world.answer();
    world.origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert!(world.site.json(&["queue", "list"], b"").is_err(), "a server is left behind");
}

#[test]
fn mail_from_a_site_goes_out_once_and_its_author_hears_whom_it_did_not_reach() {
    let world = World::new();
    let message = by_bob(&awkward("from the site"));
    let id = write_at_site(&world, &["alice@a.example", "nobody@cust.example"], &message);
    let file = world.file("mail.tar");
    // Written twice: the first stick may be lost.
    export(&world.site, &world.file("lost.tar"), &[]);
    let written = export(&world.site, &file, &[]);
    assert_eq!(written["bundles"][0]["messages"], 1, "{written:#}");
    let read = import(&world.custodian, &file);
    assert_eq!((&read["messages"], &read["known"]), (&1.into(), &0.into()), "{read:#}");
    let again = import(&world.custodian, &world.file("lost.tar"));
    assert_eq!((&again["messages"], &again["known"]), (&0.into(), &1.into()), "{again:#}");
    let copy = world.origin.maildir("alice@a.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let text = String::from_utf8_lossy(&copy).into_owned();
    assert!(object(&copy).is_some_and(|object| object.ends_with(&crlf(&message))), "{text}");
    // The custodian signs in the site's name.
    assert!(text.contains("tbr=pass") && text.contains("header.d=site.example"), "{text}");

    // It waits for the custodian's word, even where the link comes up: nobody gets it twice.
    let states_of = |id: &str| states(&world.site.trace(id).unwrap());
    assert!(states_of(&id).iter().all(|state| state == "queued"), "{:?}", states_of(&id));
    world.site.host().plug_in().unwrap();
    let up = world.site.json(&["link", "up"], b"").unwrap();
    assert_eq!(up["retried"], 0, "{up:#}");
    world.site.host().unplug().unwrap();
    let heard = hear_custodian(&world);
    assert_eq!(heard["taken"], 1, "{heard:#}");
    let mut ended = states_of(&id);
    ended.sort();
    assert_eq!(ended, ["failed", "relayed"]);
    let report = world.site.maildir("bob@site.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let report = String::from_utf8_lossy(&report).into_owned();
    assert!(report.contains("nobody@cust.example") && report.contains("5.1.1"), "{report}");
    assert_eq!(hear_custodian(&world)["taken"], 0);
    let nothing = export(&world.site, &world.file("none.tar"), &[]);
    assert!(nothing["bundles"][0]["file"].is_null(), "{nothing:#}");
    assert_eq!(world.origin.maildir("alice@a.example").messages().len(), 1);
}

#[test]
fn what_waits_in_the_outbox_leaves_at_once() {
    let mut world = World::new();
    world.site.stop().unwrap();
    let message = by_bob(&awkward("written on the way to the door"));
    let kept = world.site.send("bob@site.example", &["alice@a.example"], &message).unwrap();
    assert!(world.site.data().join("outbox").join(&kept).exists());
    let file = world.file("mail.tar");
    let written = export(&world.site, &file, &[]);
    let bundle = &written["bundles"][0];
    assert_eq!((&bundle["messages"], &bundle["under_way"]), (&1.into(), &0.into()), "{written:#}");
    assert_eq!(import(&world.custodian, &file)["messages"], 1);
    let copy = world.origin.maildir("alice@a.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(object(&copy).is_some_and(|object| object.ends_with(&crlf(&message))));
}

#[test]
fn what_is_being_sent_is_waited_for_or_counted() {
    let world = World::new();
    // Handed in, and under a first attempt that gets nowhere.
    let id = world.site.send("bob@site.example", &["alice@a.example"], &by_bob(&awkward("under way"))).unwrap();
    let file = world.file("mail.tar");
    let written = || {
        let output =
            world.site.cli(&["bundle", "export", SITE, "--out", file.to_str().unwrap(), "--json"], b"").unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = |what: &str| report["bundles"][0][what].as_u64().unwrap();
        let (messages, under_way) = (of("messages"), of("under_way"));
        assert_eq!(messages + under_way, 1, "it is left out without a word: {report:#}");
        assert_eq!(output.status.code(), Some(if under_way > 0 { 75 } else { 0 }), "{report:#}");
        (messages == 1).then_some(())
    };
    wait::until("the bundle with the message", wait::LONG, written).unwrap();
    assert_eq!(import(&world.custodian, &file)["messages"], 1);
    assert_eq!(hear_custodian(&world)["taken"], 1);
    world.site.wait_for_state(&id, "relayed", wait::LONG).unwrap();
}

#[test]
fn a_site_speaks_for_its_own_domain_only() {
    let world = World::new();
    let forged = b"From: ceo@cust.example\r\nSubject: transfer\r\n\r\nPay at once.\r\n";
    let id = write_at_site(&world, &["alice@a.example"], forged);
    let file = world.file("mail.tar");
    export(&world.site, &file, &[]);
    import(&world.custodian, &file);
    assert_eq!(hear_custodian(&world)["taken"], 1);
    let arrived = wait::until("an end", wait::LONG, || {
        let arrived = !world.origin.maildir("alice@a.example").messages().is_empty();
        let failed = states(&world.site.trace(&id).ok()?).iter().all(|state| state == "failed");
        (arrived || failed).then_some(arrived)
    });
    assert!(!arrived.unwrap(), "a site writes in the name of others");
    let report = world.site.maildir("bob@site.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(String::from_utf8_lossy(&report).contains("5.7.1"), "{}", String::from_utf8_lossy(&report));
    assert!(world.origin.maildir("alice@a.example").messages().is_empty());
}

#[test]
fn what_a_lost_stick_had_goes_by_the_link_when_the_operator_says_so() {
    let mut world = World::new();
    let network = format!("[\"{}/32\", \"{}/128\"]", world.site.host().ipv4(), world.site.host().ipv6());
    world.custodian.stop().unwrap();
    world.custodian.set("", "relay_from", &network).unwrap();
    world.custodian.run().unwrap();
    let id = write_at_site(&world, &["alice@a.example"], &awkward("carried in vain"));
    export(&world.site, &world.file("lost.tar"), &[]);
    world.site.host().plug_in().unwrap();
    world.site.json(&["queue", "retry", &id], b"").unwrap();
    world.site.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    world.origin.maildir("alice@a.example").wait_for(1, wait::LONG).unwrap();
}
