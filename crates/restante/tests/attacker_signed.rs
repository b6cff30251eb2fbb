//! The attacker on the path, among real servers whose names are signed: he forges, lies in the place of name servers, takes
//! signatures away, sits between mail servers and in the place of a repository, and has old keys. What comes of it is
//! counted as in `attacker.rs`, and `docs/spec/attacker-matrix.md` has the whole matrix.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common {
    pub(crate) mod forger;
    pub(crate) mod impostor;
    pub(crate) mod now;
    pub(crate) mod replay;
    pub(crate) mod talk;
    pub(crate) mod thief;
    pub(crate) mod world;
}

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::forger::{Forger, Forgery, Innocent};
use common::impostor::Impostor;
use common::now::now;
use common::replay::replay;
use common::thief::Thief;
use common::world::{World, printed_tlsa};
use reference::message_signature::Signer;
use reference::{KeyRecord, SigningKey, Uri};
use testbed::peers::Middlebox;
use testbed::peers::restante::references;
use testbed::signed::{Liar, Lie, Signing, Zone};
use testbed::{Sandbox, wait};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The key of this number.
fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32]).unwrap()
}

/// A key's record for a zone file, good from `begin` to `end` before now.
fn published(selector: &str, key: &SigningKey, begin: Duration, end: Duration) -> String {
    let (from, to) = (now().before(begin), now().before(end));
    let record = KeyRecord::active(selector.parse().unwrap(), key.verifying_key(), from, to);
    format!("{selector}._tbr TXT \"{}\"\n", record.to_txt())
}

/// The same of a key that is good for now.
fn good(selector: &str, key: &SigningKey) -> String {
    let record =
        KeyRecord::active(selector.parse().unwrap(), key.verifying_key(), now().before(DAY), now().after(30 * DAY));
    format!("{selector}._tbr TXT \"{}\"\n", record.to_txt())
}

/// Two signed domains, of which the receiver takes references in clear: the worst that it can configure.
fn open_world(change: impl FnOnce(&Sandbox, &mut testbed::signed::SignedTree)) -> World {
    let mut world = World::new(|sandbox, tree, _| change(sandbox, tree));
    world.b.set("relay listener", "tbr_without_tls", "true").unwrap();
    world
}

/// What somebody says who has a signed domain `x.example` with the key `own`, and keys of a.example: one whose window ended 40 days ago, one
/// that is revoked, and one whose window ended yesterday. And what he is answered.
fn false_words<'a>(
    own: &'a SigningKey,
    old: &'a SigningKey,
    stolen: &'a SigningKey,
    careless: &'a SigningKey,
) -> [(&'static str, Forgery<'a>, &'static str); 14] {
    let forgery = Forgery {
        domain: "a.example",
        selector: "k1",
        key: own,
        host: "tbr.a.example",
        signed_for: "bob@b.example",
        sent_to: "bob@b.example",
        age: Duration::ZERO,
        lifetime: DAY,
    };
    let month = 30 * DAY;
    [
        ("forge", Forgery { ..forgery }, "550 5.7.75 "),
        ("forge under a name that no key has", Forgery { selector: "k9", ..forgery }, "451 4.7.72 "),
        (
            "forge in the name of one without a record",
            Forgery { domain: "victim.example", host: "tbr.victim.example", ..forgery },
            "550 5.7.80 ",
        ),
        (
            "replay to others",
            Forgery { domain: "x.example", host: "tbr.x.example", sent_to: "alice@b.example", ..forgery },
            "550 5.7.77 ",
        ),
        (
            "replay after its time",
            Forgery { domain: "x.example", host: "tbr.x.example", age: 30 * HOUR, ..forgery },
            "550 5.7.71 ",
        ),
        (
            "redirect, by the sender itself",
            Forgery { domain: "x.example", host: "innocent.example", ..forgery },
            "550 5.7.78 ",
        ),
        ("redirect, in another's name", Forgery { host: "innocent.example", ..forgery }, "550 5.7.75 "),
        (
            "redirect to one that is not listed",
            Forgery { domain: "x.example", host: "tbr.victim.example", ..forgery },
            "550 5.7.78 ",
        ),
        ("sign for others", Forgery { domain: "x.example", host: "tbr.x.example", key: old, ..forgery }, "550 5.7.75 "),
        ("an old key, now", Forgery { selector: "old", key: old, ..forgery }, "550 5.7.72 "),
        (
            "an old key, back-dated as far as a reference may live",
            Forgery { selector: "old", key: old, age: month - HOUR, lifetime: month, ..forgery },
            "550 5.7.72 ",
        ),
        (
            "an old key, back-dated into its window",
            Forgery { selector: "old", key: old, age: 45 * DAY, lifetime: 60 * DAY, ..forgery },
            "550 5.7.71 ",
        ),
        (
            "a revoked key, back-dated",
            Forgery { selector: "revoked", key: stolen, age: 2 * DAY, lifetime: month, ..forgery },
            "550 5.7.72 ",
        ),
        ("a key that nobody revoked, now", Forgery { selector: "careless", key: careless, ..forgery }, "550 5.7.72 "),
    ]
}

#[test]
fn nobody_speaks_for_a_signed_domain_with_other_keys_or_old_ones() {
    let [own, old, stolen, careless] = [1, 2, 3, 4].map(key);
    let mut innocent = None;
    let mut world = open_world(|sandbox, tree| {
        let innocent = innocent.insert(Innocent::new(sandbox));
        innocent.answers_to(sandbox, "tbr.victim.example");
        tree.set(Zone::new("innocent.example", Signing::Nsec3));
        tree.set(Zone::new("victim.example", Signing::Nsec));
        let spammer = format!("_tbr TXT \"v=TBR1; repo=innocent.example\"\n{}", good("k1", &own));
        tree.set(Zone::new("x.example", Signing::Nsec).with_records(&spammer));
        let keys = format!(
            "{}revoked._tbr TXT \"v=TBR1; revoked\"\n{}",
            published("old", &old, 60 * DAY, 40 * DAY),
            published("careless", &careless, 60 * DAY, DAY)
        );
        tree.set(Zone::new("a.example", Signing::Nsec).with_records(&keys));
    });
    let innocent = innocent.unwrap();
    world.change(|_| {});
    let forger = Forger { host: world.sandbox.host("forger.example", &[]).unwrap(), server: &world.b };
    let attacks = false_words(&own, &old, &stolen, &careless);
    for (attack, forgery, code) in &attacks {
        let said = forger.offer(forgery);
        assert!(said.starts_with(code), "{attack}: {said}\n{}", world.b.log());
    }
    innocent.assert_left_alone();

    // What the forger did costs nobody's mail.
    let genuine = world.send();
    world.assert_delivered(&genuine, "dnssec");
    assert_eq!(world.copies(), 1, "only the genuine one");
    innocent.assert_left_alone();

    // Back-dated into the last days of a window, the signature of a stolen key is good as long as its record is there. But
    // the repository is the domain's own, and has no such object: nothing comes of it.
    let careless = Forgery { selector: "careless", key: &careless, age: 2 * DAY, lifetime: 3 * DAY, ..attacks[0].1 };
    let said = forger.offer(&careless);
    assert!(said.starts_with("250 2.5.0 "), "{said}");
    let id = said.split(' ').nth(2).unwrap().to_owned();
    wait::until("the retrieval of nothing", wait::LONG, || {
        let known = world.b.trace(&id).ok()?;
        known.to_string().contains("knows no such reference").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:#}", world.b.trace(&id).unwrap()));
    assert_eq!(world.copies(), 1, "forgeries accepted");
    let revoked = "careless._tbr TXT \"v=TBR1; revoked\"";
    let forger = forger.host;
    world.change(|tree| tree.set(Zone::new("a.example", Signing::Nsec).with_records(revoked)));
    let said = Forger { host: forger, server: &world.b }.offer(&careless);
    assert!(said.starts_with("550 5.7.72 "), "{said}");
    assert_eq!(world.copies(), 1);
}

/// Signatures of a name are checked with those of all zones above it. Whoever owns a domain can have as many as fit into a name.
#[test]
fn names_below_many_zones_bring_nobody_down() {
    const LEVELS: usize = 24;
    let own = key(1);
    let mut names = vec!["x.example".to_owned()];
    let mut world = open_world(|_, tree| {
        let records = format!("_tbr TXT \"v=TBR1\"\n{}", good("k1", &own));
        for level in 0..LEVELS {
            tree.set(Zone::new(&names[level], Signing::Nsec).with_records(&records));
            names.push(format!("z.{}", names[level]));
        }
    });
    let forger = world.sandbox.host("forger.example", &[]).unwrap();
    world.change(|_| {});
    let mut replies = Vec::new();
    let forger = Forger { host: forger, server: &world.b };
    // The deepest first: nothing is remembered of the zones above.
    for name in names[..LEVELS].iter().rev() {
        let host = format!("tbr.{name}");
        replies.push(forger.offer(&Forgery {
            domain: name,
            selector: "k1",
            key: &own,
            host: &host,
            signed_for: "bob@b.example",
            sent_to: "bob@b.example",
            age: Duration::ZERO,
            lifetime: DAY,
        }));
    }
    assert!(replies.last().unwrap().starts_with("250 2.5.0 "), "a domain like others: {replies:#?}");
    assert!(replies[0].starts_with("451 4.7.80 "), "too deep for anybody to tell: {replies:#?}");
    assert!(replies.iter().all(|reply| reply.starts_with(['2', '4', '5'])), "{replies:#?}");
    assert!(world.b.is_running(), "{}", world.b.log());
    let id = world.send();
    world.assert_delivered(&id, "dnssec");
}

/// A domain that signs with `key`, and whose names lead to somebody innocent: who believes a lie about it knocks there.
fn victim(name: &str, key: &SigningKey, innocent: &Innocent) -> Zone {
    let address = innocent.host.ipv4();
    let records = format!("_tbr TXT \"v=TBR1\"\ntbr A {address}\n{}", good("k1", key));
    Zone::new(name, Signing::Nsec).with_records(&records)
}

/// A verified reference does not lead where a liar says that its repository is.
fn a_false_address_of_a_repository_leads_nowhere(world: &mut World, liar: &Liar, innocent: &Innocent) {
    // No connection is left over.
    liar.says("tbr.a.example", Lie::Address(innocent.host.ipv4()));
    world.change(|_| {});
    let id = world.send();
    let offered = world.a.wait_for_step(&id, "offered", wait::LONG).unwrap();
    let words = "validation";
    let mut last = String::new();
    wait::until(words, wait::LONG, || {
        last = world.b.trace(references(&offered).first()?).ok()?.to_string();
        last.contains(words).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}: {last}"));
    innocent.assert_left_alone();
    liar.repents();
    world.assert_delivered(&id, "dnssec");
}

#[test]
fn lies_about_a_senders_names_put_its_offers_off_and_weaken_nothing() {
    const LIED_ABOUT: [&str; 6] = ["v0.example", "v1.example", "v2.example", "v3.example", "v4.example", "v5.example"];
    let (own, theirs) = (key(1), key(2));
    let mut innocent = None;
    let mut world = open_world(|sandbox, tree| {
        let innocent = innocent.insert(Innocent::new(sandbox));
        tree.set(victim("x.example", &own, innocent));
        LIED_ABOUT.iter().for_each(|name| tree.set(victim(name, &theirs, innocent)));
    });
    let innocent = innocent.unwrap();
    let liar = Liar::start(&world.sandbox, "liar.hub.example", world.tree.resolver()).unwrap();
    world.b.set("resolver", "servers", &format!("[\"{}\"]", liar.address())).unwrap();
    world.b.set("transfer", "bogus_patience", "\"1m\"").unwrap();
    let forger = world.sandbox.host("forger.example", &[]).unwrap();
    world.change(|_| {});
    let forger = Forger { host: forger, server: &world.b };

    let record = good("k1", &own).split('"').nth(1).unwrap().to_owned();
    liar.says("k1._tbr.v0.example", Lie::Text(record.clone()));
    liar.says("forged._tbr.v1.example", Lie::Text(record));
    liar.says("_tbr.v2.example", Lie::Text("v=TBR1; repo=innocent.example".to_owned()));
    liar.says("_tbr.v3.example", Lie::Nothing);
    liar.says("v4.example", Lie::Stripped);
    liar.says("k1._tbr.v5.example", Lie::Alias("k1._tbr.x.example".to_owned()));
    let forgery = |number: usize| Forgery {
        domain: LIED_ABOUT[number],
        selector: "k1",
        key: &own,
        host: [
            "tbr.v0.example",
            "tbr.v1.example",
            "innocent.example",
            "tbr.v3.example",
            "tbr.v4.example",
            "tbr.v5.example",
        ][number],
        signed_for: "bob@b.example",
        sent_to: "bob@b.example",
        age: Duration::ZERO,
        lifetime: DAY,
    };
    let attacks = [
        ("poison: another key", forgery(0)),
        ("poison: one key more", Forgery { selector: "forged", ..forgery(1) }),
        ("poison: another host", Forgery { key: &theirs, ..forgery(2) }),
        ("downgrade: no record", forgery(3)),
        ("strip: no signatures", Forgery { key: &theirs, ..forgery(4) }),
        ("redirect: the key is an alias", forgery(5)),
    ];
    for (attack, forgery) in &attacks {
        let before = liar.lies_told();
        let said = forger.offer(forgery);
        assert!(said.starts_with("451 4.7.80 "), "{attack}: {said}\n{}", world.b.log());
        assert!(liar.lies_told() > before, "{attack}: nobody listened");
    }
    // Whoever goes on lying is refused in the end. He is asked again when his last answer is forgotten, after a minute.
    wait::until("the refusal", 2 * wait::LONG, || {
        thread::sleep(Duration::from_secs(1));
        forger.offer(&attacks[0].1).starts_with("550 5.7.80 ").then_some(())
    })
    .unwrap();

    // Genuine mail is put off while he lies, whatever the document says, and comes afterwards.
    liar.says("a.example", Lie::Stripped);
    let id = world.send();
    world.wait_for_answer(&id, "4.7.80");
    liar.repents();
    world.change(|_| {});
    world.assert_delivered(&id, "dnssec");

    a_false_address_of_a_repository_leads_nowhere(&mut world, &liar, &innocent);
    assert_eq!(world.copies(), 2, "only what is genuine, and all of it");
}

#[test]
fn lies_about_a_recipients_names_keep_mail_back_and_lead_nowhere() {
    let mut innocent = None;
    let mut world = open_world(|sandbox, tree| {
        innocent = Some(Innocent::new(sandbox));
        tree.set(Zone::new("innocent.example", Signing::Nsec));
    });
    let innocent = innocent.unwrap();
    let liar = Liar::start(&world.sandbox, "liar.hub.example", world.tree.resolver()).unwrap();
    world.a.set("resolver", "servers", &format!("[\"{}\"]", liar.address())).unwrap();
    world.a.set("transfer", "policy", "\"prefer\"").unwrap();
    let of_b = printed_tlsa(&world.b);
    world.publish("", &of_b);

    let lies = [
        ("poison: another exchanger", "b.example", Lie::Exchanger("innocent.example".to_owned()), "MX of b.example"),
        ("poison: another address", "mx.b.example", Lie::Address(innocent.host.ipv4()), "mx.b.example"),
        ("redirect: an alias", "mx.b.example", Lie::Alias("innocent.example".to_owned()), "mx.b.example"),
        ("downgrade: no certificate is named", "_25._tcp.mx.b.example", Lie::Nothing, "_25._tcp.mx.b.example"),
        ("strip: no signatures", "b.example", Lie::Stripped, "MX of b.example"),
    ];
    let mut ids = Vec::new();
    for (attack, name, lie, words) in lies {
        world.a.stop().unwrap();
        liar.repents();
        liar.says(name, lie);
        let before = liar.lies_told();
        world.a.run().unwrap();
        let id = world.send();
        let known =
            world.a.wait_for_step(&id, "deferred", wait::LONG).unwrap_or_else(|error| panic!("{attack}: {error:#}"));
        let text = known.to_string();
        assert!(text.contains(words) && text.contains("no chain of signatures"), "{attack}: {known:#}");
        assert!(references(&known).is_empty(), "{attack}: nothing was offered: {known:#}");
        assert!(liar.lies_told() > before, "{attack}: nobody listened");
        ids.push(id);
    }
    assert_eq!(world.copies(), 0);

    // Whether there are keys that a grant is to be bound to cannot be told: nobody makes one that is not bound. By value the mail
    // goes to the server with the right certificate, where policy lets it.
    world.a.stop().unwrap();
    liar.repents();
    liar.says("_tbr.b.example", Lie::Nothing);
    let before = liar.lies_told();
    world.a.run().unwrap();
    ids.push(world.send());
    for id in &ids {
        let sent = world.a.wait_for_state(id, "relayed", wait::LONG).unwrap();
        assert!(references(&sent).is_empty(), "a grant that is not bound: {sent:#}");
    }
    assert!(liar.lies_told() > before, "nobody listened");
    assert_eq!(world.copies(), ids.len(), "messages lost");

    // Where it does not, nothing goes before he is gone.
    world.a.stop().unwrap();
    world.a.set("transfer", "policy", "\"require\"").unwrap();
    world.a.run().unwrap();
    let id = world.send();
    let waiting = world.a.wait_for_step(&id, "deferred", wait::LONG).unwrap();
    assert!(references(&waiting).is_empty(), "{waiting:#}");
    assert_eq!(world.copies(), ids.len());
    world.a.stop().unwrap();
    liar.repents();
    world.a.run().unwrap();
    let sent = world.a.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert!(sent.to_string().contains("bound to the keys of b.example (dnssec)"), "{sent:#}");
    assert_eq!(world.copies(), ids.len() + 1);
    innocent.assert_left_alone();
}

/// What clients said to the box in the way.
static SAID: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static OFFERED: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn said(line: Vec<u8>) -> Vec<u8> {
    SAID.lock().unwrap().push(line.clone());
    line
}

fn offered(line: Vec<u8>) -> Vec<u8> {
    OFFERED.lock().unwrap().push(line.clone());
    line
}

fn text(lines: &Mutex<Vec<Vec<u8>>>) -> String {
    String::from_utf8_lossy(&lines.lock().unwrap().concat()).into_owned()
}

#[test]
fn who_hides_starttls_where_a_certificate_is_named_hears_nothing() {
    let mut world = open_world(|_, _| {});
    world.a.set("transfer", "policy", "\"prefer\"").unwrap();
    let (of_b, server) = (printed_tlsa(&world.b), world.b.host().ipv4());
    let middlebox = Middlebox::start(&world.sandbox, "between.hub.example", (server, 25).into(), said).unwrap();
    let way = |address: std::net::Ipv4Addr| format!("A {address}");
    let through = way(middlebox.host().ipv4());
    world.tree.replaced("mx.b.example", &through);
    world.publish("", &of_b);
    let id = world.send();
    world.wait_for_answer(&id, "TLS");
    let known = world.a.wait_for_step(&id, "deferred", wait::LONG).unwrap();
    assert!(references(&known).is_empty(), "{known:#}");
    let heard = text(&SAID);
    assert!(heard.contains("EHLO ") && !heard.contains("MAIL FROM"), "{heard}");
    assert_eq!(world.copies(), 0);

    world.tree.replaced("mx.b.example", &way(server));
    world.publish("", &of_b);
    world.assert_delivered(&id, "dnssec");
    assert_eq!(world.copies(), 1);
}

#[test]
fn an_offer_that_was_seen_in_clear_is_of_no_use_to_others_whatever_they_sign() {
    let own = Arc::new(key(1));
    let mut world = open_world(|_, tree| {
        let records = format!("_tbr TXT \"v=TBR1\"\n{}", good("k1", &own));
        tree.set(Zone::new("x.example", Signing::Nsec).with_records(&records));
    });
    let server = world.b.host().ipv4();
    let middlebox = Middlebox::start(&world.sandbox, "between.hub.example", (server, 25).into(), offered).unwrap();
    let through = format!("A {}", middlebox.host().ipv4());
    world.b.set("transfer", "pause_retrieval", "true").unwrap();
    world.change(|tree| tree.replaced("mx.b.example", &through));
    let id = world.send();
    world.wait_for_answer(&id, "accepted by the peer");

    let captured = text(&OFFERED);
    let line = captured.lines().find(|line| line.starts_with("TBR 0 ")).unwrap();
    let sent = world.a.trace(&id).unwrap();
    let reference = references(&sent).remove(0);
    let thief = Thief {
        host: world.sandbox.host("thief.hub.example", &[]).unwrap(),
        ca: world.sandbox.ca().certificate().display().to_string(),
        uri: Uri::parse(line["TBR 0 ".len()..].trim()).unwrap(),
    };
    let signer = |id: &str| Signer { id: id.parse().unwrap(), key: Arc::clone(&own) };
    let (as_himself, as_another) = (signer("k1._tbr.x.example"), signer("k1._tbr.b.example"));
    let signers =
        [("nobody", None), ("a domain of his own", Some(&as_himself)), ("the name of another", Some(&as_another))];
    thief.gets_what_everybody_gets(&reference, "b.example", &signers);
    // To others it was not made; to the same it is the same, and pending.
    let again = replay(&thief.host, &world.b, &captured, "alice@b.example");
    assert!(again.starts_with("550 5.7.77 "), "{again}");
    let again = replay(&thief.host, &world.b, &captured, "bob@b.example");
    assert!(again.starts_with("250 2.5.0 "), "{again}");

    world.b.set("transfer", "pause_retrieval", "false").unwrap();
    world.change(|_| {});
    world.assert_delivered(&id, "dnssec");
    // Custody is taken and told of; nobody else can say otherwise, and the offer brings nothing more.
    thief.gets_what_everybody_gets(&reference, "b.example", &signers);
    let again = replay(&thief.host, &world.b, &captured, "bob@b.example");
    assert!(again.starts_with("250 "), "{again}");
    let known = world.a.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert!(!known.to_string().contains("5.1.1"), "{known:#}");
    assert_eq!((world.copies(), world.b.maildir("alice@b.example").messages().len()), (1, 0));
}

#[test]
fn a_repository_whose_certificate_is_not_the_one_that_is_named_is_asked_for_nothing() {
    let mut world = open_world(|_, _| {});
    let impostor = Impostor::start(&world.sandbox, "tbr.a.example");
    let of_a = printed_tlsa(&world.a);
    let theirs = format!("A {}", impostor.host.ipv4());
    world.tree.replaced("tbr.a.example", &theirs);
    world.publish(&of_a, "");
    let id = world.send();
    let sent = world.a.wait_for_step(&id, "offered", wait::LONG).unwrap();
    let words = "no TLSA record of tbr.a.example matches the certificate";
    let mut last = String::new();
    wait::until(words, wait::LONG, || {
        last = world.b.trace(references(&sent).first()?).ok()?.to_string();
        last.contains(words).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error:#}: {last}"));
    assert!(impostor.greeted.load(Ordering::SeqCst) > 0, "nobody came");
    assert_eq!((impostor.asked.load(Ordering::SeqCst), world.copies()), (0, 0), "no grant was shown to him");
    let genuine = format!("A {}", world.a.host().ipv4());
    world.tree.replaced("tbr.a.example", &genuine);
    world.publish(&of_a, "");
    world.assert_delivered(&id, "dnssec");
    assert_eq!(world.copies(), 1);
}
