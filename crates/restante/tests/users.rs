//! One user of a domain that others use too: her mail waits for her laptop, theirs does not (TBR §7.4).

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common {
    pub(crate) mod now;
    pub(crate) mod thief;
}

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::thief::Thief;
use reference::body::JsonBody as _;
use reference::message_signature::Signer;
use reference::pending::{PENDING_PATH, PendingList, PendingOffer};
use reference::{Block, Uri};
use serde_json::Value;
use testbed::peers::restante::{object, references, states};
use testbed::peers::{Restante, RestanteConfig};
use testbed::samples::{awkward, crlf, large};
use testbed::{Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
const ALICE: &str = "alice@b.example";
const BOB: &str = "bob@b.example";
const CAROL: &str = "carol@b.example";
const HOST: &str = "tbr.b.example";

/// a.example, which writes; the server of b.example, where bob reads, and where the mail of alice and carol waits; alice's laptop, on which
/// no server runs. carol's device is off.
struct World {
    origin: Restante,
    custodian: Restante,
    laptop: Restante,
    keys: [PathBuf; 2],
    sandbox: Sandbox,
}

fn config(name: &str, domain: &str) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, name, &[domain])
}

impl World {
    fn new() -> Self {
        let sandbox = Sandbox::new().unwrap();
        let origin = config("mx.a.example", "a.example").users(&["alice"]);
        let origin = Restante::start(&sandbox, origin).unwrap();
        let made = ["alice", "carol"].map(|user| Self::key_of(&origin, sandbox.folder(), user));
        let tables = made.each_ref().map(|(_, table)| table.clone()).concat();
        let custodian = config("mx.b.example", "b.example").users(&["alice", "bob", "carol"]).tables(&tables);
        let custodian = Restante::start(&sandbox, custodian).unwrap();
        let keys = made.map(|(file, _)| file);
        let tables = format!(
            "[domain.tbr]\nselector = \"alice1\"\nkey = \"{}\"\noffers = false\n[[custodian]]\nhost = \"{HOST}\"\n\
             [[relay]]\nname = \"custodian\"\ncustodian = \"{HOST}\"\n",
            keys[0].display()
        );
        let laptop = config("laptop.b.example", "b.example").users(&["alice"]).without_keys().private("alice1");
        let laptop = laptop.with("domain", "others", "\"relay:custodian\"").with("", "smart_host", "\"custodian\"");
        let laptop = Restante::prepare(&sandbox, laptop.tables(&tables)).unwrap();
        Self { origin, custodian, laptop, keys, sandbox }
    }

    /// A key as it is made on a user's device, and what that says for the custodian.
    fn key_of(by: &Restante, folder: &Path, user: &str) -> (PathBuf, String) {
        let (file, selector) = (folder.join(format!("{user}.pem")), format!("{user}1"));
        let arguments = ["keys", "generate", "--domain", "b.example", "--user", user, "--selector", &selector, "--out"];
        let made = by.cli(&[&arguments[..], &[file.to_str().unwrap()]].concat(), b"").unwrap();
        let said = String::from_utf8(made.stdout).unwrap();
        let table = said[said.find("[[domain.user]]").unwrap()..].to_owned();
        assert!(!said.contains("Publish in DNS"), "{said}");
        (file, table)
    }

    fn signer(&self, selector: &str, file: &Path) -> Signer {
        let key = restante::keys::read(file).unwrap();
        Signer { id: format!("{selector}._tbr.b.example").parse().unwrap(), key: Arc::new(key) }
    }

    /// From alice at a.example, to somebody for whom it waits among others; when the server of b.example has it for all of them.
    fn send(&self, to: &[&str], message: &[u8]) -> String {
        let id = self.origin.send("alice@a.example", to, message).unwrap();
        let has = || {
            let sent = self.origin.trace(&id).ok()?;
            let kept = self.custodian.trace(references(&sent).first()?).ok()?;
            let there = |state: &String| ["claimed", "delivered"].contains(&state.as_str());
            (states(&sent).iter().all(there) && states(&kept).contains(&"offered".to_owned())).then_some(())
        };
        wait::until("it to be with its custodian", wait::LONG, has).unwrap();
        id
    }

    /// `restante sync` on the laptop: what it prints.
    fn sync(&self) -> Value {
        let ended = self.laptop.cli(&["sync", "--json"], b"").unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
        serde_json::from_slice(&ended.stdout).unwrap()
    }

    /// On the laptop, while no server runs.
    fn write(&self, from: &str, to: &[&str], message: &[u8]) -> String {
        self.laptop.send(from, to, message).unwrap()
    }

    fn copies(&self) -> Vec<Vec<u8>> {
        self.laptop.maildir(ALICE).messages()
    }

    fn at_server(&self, address: &str, count: usize) -> Vec<Vec<u8>> {
        let copies = self.custodian.maildir(address).wait_for(count, wait::LONG).unwrap();
        assert_eq!(copies.len(), count);
        copies
    }
}

/// The same message in the name of somebody at b.example.
fn by(author: &str, message: &[u8]) -> Vec<u8> {
    let rest = message.strip_prefix(b"From: Alice <alice@a.example>").unwrap();
    [format!("From: Somebody <{author}>").as_bytes(), rest].concat()
}

fn is_copy_of(copy: &[u8], message: &[u8]) -> bool {
    copy.ends_with(&crlf(message))
}

#[test]
fn her_mail_waits_for_her_laptop_and_his_is_in_his_mailbox() {
    let world = World::new();
    let message = awkward("for both");
    let id = world.send(&[ALICE, BOB], &message);
    let plain = config("mx.v.example", "v.example").without_keys().with("transfer", "policy", "\"never\"");
    let plain = Restante::start(&world.sandbox, plain.users(&["alice"])).unwrap();
    let by_value = large("by value", 40_000);
    let other = plain.send("alice@v.example", &["alice+lists@b.example", BOB], &by_value).unwrap();
    plain.wait_for_state(&other, "relayed", wait::LONG).unwrap();
    for copy in world.at_server(BOB, 2) {
        assert!(is_copy_of(&copy, &message) || is_copy_of(&copy, &by_value));
    }
    let listed = world.custodian.json(&["queue", "list"], b"").unwrap().to_string();
    assert!(listed.contains("site:alice@b.example") && !listed.contains("site:b.example"), "{listed}");

    let report = world.sync();
    assert_eq!(report["fetched"][0]["pending"], 2, "{report:#}");
    let copies = world.copies();
    assert_eq!(copies.len(), 2);
    let referenced = copies.iter().find(|copy| object(copy) == Some(&crlf(&message)[..])).expect("by reference");
    let text = String::from_utf8_lossy(referenced).into_owned();
    assert!(text.contains("tbr=pass") && text.contains("TBR-Hop:"), "{text}");
    let valued = copies.iter().find(|copy| is_copy_of(copy, &by_value)).expect("by value");
    let text = String::from_utf8_lossy(valued).into_owned();
    assert!(
        text.contains("by value to its custodian") && text.contains("Authentication-Results: mx.b.example"),
        "{text}"
    );
    // Both ends are the author's to know, and nothing is left.
    world.origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert_eq!(world.sync()["fetched"][0]["pending"], 0);
    assert_eq!((world.copies().len(), world.custodian.maildir(ALICE).messages().len()), (2, 0));
    let listed = world.custodian.json(&["queue", "list"], b"").unwrap().to_string();
    assert!(!listed.contains("site:"), "{listed}");
}

#[test]
fn what_she_writes_offline_goes_to_bob_too_and_nothing_goes_in_his_name() {
    let world = World::new();
    for server in [&world.custodian, &world.laptop] {
        let checked = server.cli(&["check", "config"], b"").unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    let written = by(ALICE, &large("written on the airplane", 50_000));
    let id = world.write(ALICE, &[BOB, "alice@a.example", "nobody@b.example"], &written);
    let forged = [by(BOB, &awkward("in his name")), awkward("in a stranger's name")];
    let false_author = world.write(ALICE, &["alice@a.example"], &forged[0]);
    let both =
        [&b"From: Bob <bob@b.example>, Alice <alice@b.example>\r\nSender: alice@b.example\r\n"[..], b"\r\nx\r\n"]
            .concat();
    let co_author = world.write(ALICE, &["alice@a.example"], &both);
    let false_sender = world.write(BOB, &["alice@a.example"], &forged[0]);
    world.sync();
    let copy = world.at_server(BOB, 1).remove(0);
    assert!(is_copy_of(&copy, &written));
    let copy = world.origin.maildir("alice@a.example").wait_for(1, wait::LONG).unwrap().remove(0);
    let text = String::from_utf8_lossy(&copy).into_owned();
    assert!(is_copy_of(&copy, &written), "{text}");
    assert!(text.contains("tbr=pass") && text.contains("header.d=b.example"), "{text}");

    let mut laptop = world.laptop;
    laptop.run().unwrap();
    let mut ended = states(&laptop.trace(&id).unwrap());
    ended.sort();
    assert_eq!(ended, ["failed", "relayed", "relayed"]);
    for (id, why) in [
        (false_author, "the author is not the user whose key this is"),
        (co_author, "the author is not the user whose key this is"),
        (false_sender, "the sender is not the user whose key this is"),
    ] {
        let trace = laptop.wait_for_state(&id, "failed", wait::LONG).unwrap().to_string();
        assert!(trace.contains(why), "{trace}");
    }
    // She is told on the laptop whom it did not reach.
    laptop.maildir(ALICE).wait_for_text("nobody@b.example", wait::LONG).unwrap();
    assert_eq!(world.origin.maildir("alice@a.example").messages().len(), 1, "a forgery has come");
    // What is for whole domains says so.
    let file = world.sandbox.folder().join("hers.tar");
    for (server, arguments, why) in [
        (
            &laptop,
            vec!["bundle", "export", "b.example", "--out", file.to_str().unwrap()],
            "bundles are for whole domains",
        ),
        (
            &world.custodian,
            vec!["bundle", "export", ALICE, "--out", file.to_str().unwrap()],
            "bundles are for whole domains",
        ),
        (&laptop, vec!["keys", "rotate", "--domain", "b.example"], "published nowhere"),
    ] {
        let refused = server.cli(&arguments, b"").unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why), "{arguments:?}: {said}");
    }
    assert!(!file.exists());
    assert_eq!(world.custodian.maildir(BOB).messages().len(), 1);
}

#[test]
fn a_sync_that_is_killed_goes_on_and_each_message_is_there_once() {
    let world = World::new();
    let messages: Vec<Vec<u8>> = (0..6).map(|n| large(&format!("number {n}"), 300_000)).collect();
    let sent: Vec<String> = messages.iter().map(|message| world.send(&[ALICE, BOB], message)).collect();
    world.custodian.host().slow_down("8mbit").unwrap();
    for _ in 0..3 {
        let before = world.copies().len();
        let mut sync = world.laptop.host().spawn_command("sync", world.laptop.command(&["sync"])).unwrap();
        let one_more = || (world.copies().len() > before || !sync.is_alive()).then_some(());
        wait::until("another message", wait::LONG, one_more).unwrap();
        sync.kill().unwrap();
    }
    world.sync();
    let copies = world.copies();
    assert_eq!(copies.len(), messages.len());
    for message in &messages {
        assert_eq!(copies.iter().filter(|copy| object(copy) == Some(&crlf(message)[..])).count(), 1);
    }
    sent.iter().for_each(|id| drop(world.origin.wait_for_state(id, "delivered", wait::LONG).unwrap()));
    assert_eq!(world.at_server(BOB, messages.len()).len(), messages.len());
}

/// What the holder of a key is shown as waiting; nothing where he is nobody.
fn pending(thief: &Thief, signer: &Signer) -> Option<Vec<PendingOffer>> {
    let answer = thief.ask(PENDING_PATH, None, Some(signer));
    if answer.starts_with("HTTP/1.1 404") {
        return None;
    }
    let body = answer.lines().last().unwrap();
    Some(PendingList::parse(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {answer}")).pending)
}

#[test]
fn whoever_has_her_key_has_nothing_of_the_others() {
    let world = World::new();
    world.send(&[ALICE], &awkward("for alice"));
    let id = world.send(&[CAROL], &awkward("for carol"));
    let [alice, carol] = [("alice1", 0), ("carol1", 1)].map(|(name, place)| world.signer(name, &world.keys[place]));
    let own = world.signer("k1", &world.custodian.key("b.example"));
    let somewhere = format!("https://{HOST}/.well-known/tbr/m?XUID={}&RCPT={}", mail::Xuid::of(b"x"), "A".repeat(22));
    let mut thief = Thief {
        host: world.sandbox.host("thief.hub.example", &[]).unwrap(),
        ca: world.sandbox.ca().certificate().display().to_string(),
        uri: Uri::parse(&somewhere).unwrap(),
    };
    let told = |offers: Vec<PendingOffer>| offers.into_iter().map(|offer| offer.rcpt.concat()).collect::<Vec<_>>();
    let hers = pending(&thief, &alice).map(told).unwrap();
    assert!(hers.len() == 1 && hers[0].contains(ALICE), "{hers:?}");
    // The domain itself is no site here, and the name of another's key does not help.
    assert_eq!(pending(&thief, &own), None);
    let as_carol = Signer { id: carol.id.clone(), key: Arc::clone(&alice.key) };
    assert_eq!(pending(&thief, &as_carol), None);

    // What she may have seen of carol's: all but carol's key.
    let [offer] = pending(&thief, &carol).unwrap().try_into().unwrap();
    let (_, uri) = offer.tbr.split_once(' ').unwrap();
    thief.uri = Uri::parse(uri).unwrap();
    let reference = Block::parse(offer.block.as_bytes()).unwrap().chain().hops()[0].statement().id.to_string();
    let signers =
        [("alice", Some(&alice)), ("alice as carol", Some(&as_carol)), ("the domain", Some(&own)), ("nobody", None)];
    thief.gets_what_everybody_gets(&reference, "b.example", &signers);
    let held = world.custodian.trace(&references(&world.origin.trace(&id).unwrap())[0]).unwrap();
    assert!(states(&held).contains(&"offered".to_owned()), "somebody has claimed it: {held:#}");
    // carol's own key would open it.
    let path = uri.strip_prefix(&format!("https://{HOST}")).unwrap();
    assert!(thief.ask(path, None, Some(&carol)).starts_with("HTTP/1.1 200"));
}
