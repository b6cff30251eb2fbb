//! A relay that invents a chain, among real servers: by reference and by value, with fields of others and with made-up ones. Nobody passes as
//! who did not send, and what cannot be is refused by its name. `docs/spec/attacker-matrix.md` has the whole matrix.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common {
    pub(crate) mod now;
    pub(crate) mod talk;
}

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::now::{now, rand};
use common::talk::say;
use mail::{Address, Domain, Grant, ReferenceId, Timestamp, Xuid};
use reference::{Hop, HopMode, HopStatement, Link, RecipientsHash, Reference, SigningKey, Statement, Uri};
use testbed::peers::{Restante, RestanteConfig};
use testbed::{Host, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
const ALICE: &str = "alice@a.example";
const BOB: &str = "bob@c.example";
const DAY: i64 = 86_400;
const GRANT: [u8; 16] = [7; 16];

fn config(domains: &[&str]) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, &format!("mx.{}", domains[0]), domains).users(&["alice", "bob"])
}

fn key(path: &Path) -> SigningKey {
    let pem = fs::read_to_string(path).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    SigningKey::from_pkcs8(&STANDARD.decode(base64).unwrap()).unwrap()
}

/// So many seconds from now.
fn at(seconds: i64) -> Timestamp {
    let time = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { now().before(time) } else { now().after(time) }
}

fn grant() -> Grant {
    Grant::new(&GRANT).unwrap()
}

/// The origin, an honest relay, who invents, and whom they write to.
struct World {
    _origin: Restante,
    _liar: Restante,
    receiver: Restante,
    host: Host,
    /// Of a.example, which sends.
    a: SigningKey,
    /// Of r.example, which relays.
    r: SigningKey,
    /// Of x.example, which invents.
    x: SigningKey,
    _sandbox: Sandbox,
}

impl World {
    fn new() -> Self {
        let sandbox = Sandbox::new().unwrap();
        let host = sandbox.host("mx.stranger.example", &[]).unwrap();
        let origin = Restante::start(&sandbox, config(&["a.example", "r.example"])).unwrap();
        let liar = Restante::start(&sandbox, config(&["x.example"])).unwrap();
        let receiver = config(&["c.example"]).with("relay listener", "tbr_without_tls", "true");
        let receiver = Restante::start(&sandbox, receiver).unwrap();
        let [a, r] = ["a.example", "r.example"].map(|domain| key(&origin.key(domain)));
        let x = key(&liar.key("x.example"));
        Self { _origin: origin, _liar: liar, receiver, host, a, r, x, _sandbox: sandbox }
    }

    /// The reply to an offer of these fields.
    fn offer(&self, chain: &Fields, host: &str) -> String {
        let xuid = Xuid::of(chain.object.as_bytes());
        let uri = Uri { host: Domain::parse(host).unwrap(), xuid, grant: grant() };
        let block = format!("TBR {} {}\r\n{}.\r\n", chain.hops.len(), uri.reveal(), chain.text());
        let envelope = [format!("MAIL FROM:<{ALICE}>\r\n"), format!("RCPT TO:<{BOB}>\r\n")];
        say(&self.host, &self.receiver, &["EHLO mx.x.example\r\n", &envelope[0], &envelope[1], &block])
    }

    /// The reply to a message by value under these fields, with more above them.
    fn send(&self, above: &str, chain: &Fields, to: &str) -> String {
        let content = format!("{above}{}{}.\r\n", chain.text(), chain.object);
        let envelope = [format!("MAIL FROM:<{ALICE}>\r\n"), format!("RCPT TO:<{to}>\r\n")];
        let words = ["EHLO mx.x.example\r\n", &envelope[0], &envelope[1], "DATA\r\n", &content];
        say(&self.host, &self.receiver, &words)
    }

    /// What the receiver says of the copy that came last.
    fn results(&self, chain: &Fields, to: &str, before: usize) -> String {
        let copies = || {
            let all = self.receiver.maildir(to).messages();
            let of_object = |copy: &Vec<u8>| String::from_utf8_lossy(copy).contains(&chain.object);
            let copies: Vec<_> = all.into_iter().filter(of_object).collect();
            (copies.len() > before).then_some(copies)
        };
        let copies = wait::until(&chain.object, wait::LONG, copies).unwrap();
        let newest = copies.iter().max_by_key(|copy| received(copy)).unwrap();
        let text = String::from_utf8_lossy(newest).replace("\r\n\t", " ");
        text.lines()
            .find(|line| line.starts_with("Authentication-Results:"))
            .unwrap_or_else(|| panic!("{text}"))
            .to_owned()
    }
}

/// When the receiver took a copy: its queue ids grow.
fn received(copy: &[u8]) -> String {
    let text = String::from_utf8_lossy(copy).replace("\r\n\t", " ");
    let field = text.lines().find(|line| line.starts_with("Received:")).unwrap().to_owned();
    field.split(" id ").nth(1).unwrap().split([' ', ';']).next().unwrap().to_owned()
}

/// Fields as they are sent, whether they fit or not, and what they are about.
#[derive(Clone)]
struct Fields {
    /// Newest first.
    hops: Vec<Hop>,
    reference: Reference,
    object: String,
}

impl Fields {
    /// alice's message for somebody at `to`, signed by `key`, good from `issued` to `expires`.
    fn new(subject: &str, to: &str, key: &SigningKey, [issued, expires]: [i64; 2]) -> Self {
        let object = format!("From: {ALICE}\r\nSubject: {subject}\r\n\r\nalong a chain\r\n");
        let id = ReferenceId(rand());
        let recipient: Address = if to == "c.example" { BOB.to_owned() } else { format!("bob@{to}") }.parse().unwrap();
        let statement = Statement {
            domain: "a.example".parse().unwrap(),
            selector: "k1".parse().unwrap(),
            algorithm: key.algorithm(),
            id,
            xuid: Xuid::of(object.as_bytes()),
            size: object.len() as u64,
            issued: at(issued),
            expires: at(expires),
            to: to.parse().unwrap(),
            mail_from: Some(ALICE.parse().unwrap()),
            recipients: RecipientsHash::compute(&grant(), &id, &[recipient]),
        };
        Self { hops: Vec::new(), reference: statement.sign(key).unwrap(), object }
    }

    /// With a hop on top, signed by `key`; `change` says what is not as it should be.
    fn hop(mut self, to: &str, mode: HopMode, key: &SigningKey, change: impl FnOnce(&mut HopStatement)) -> Self {
        let below = self.hops.first().map_or(Link::Reference(&self.reference), Link::Hop);
        let (id, bob) = (ReferenceId(rand()), [BOB.parse().unwrap()]);
        let recipients = match &mode {
            HopMode::Value(opener) => RecipientsHash::compute_opened(opener, &id, &bob),
            _ => RecipientsHash::compute(&grant(), &id, &bob),
        };
        let mut statement = HopStatement {
            number: u16::try_from(self.hops.len() + 1).unwrap(),
            domain: below.to().clone(),
            selector: "k1".parse().unwrap(),
            algorithm: key.algorithm(),
            id,
            previous: below.signature_hash(),
            to: to.parse().unwrap(),
            mail_from: below.mail_from().cloned(),
            recipients,
            mode,
            issued: at(-1),
            expires: at(DAY),
        };
        change(&mut statement);
        self.hops.insert(0, statement.sign(key).unwrap());
        self
    }

    /// Without the hop of this place, newest first.
    fn without(mut self, place: usize) -> Self {
        self.hops.remove(place);
        self
    }

    fn text(&self) -> String {
        self.hops.iter().map(Hop::encode).collect::<String>() + &self.reference.encode()
    }
}

fn as_it_should_be(_: &mut HopStatement) {}

/// The lifetime of a reference that was just made.
const FRESH: [i64; 2] = [-60, DAY];

fn custody(host: &str) -> HopMode {
    HopMode::Custody(Domain::parse(host).unwrap())
}

#[test]
fn chains_that_are_invented_are_refused_by_reference() {
    let world = World::new();
    let World { a, r, x, .. } = &world;
    let own = |change: fn(&mut HopStatement)| {
        Fields::new("for x", "x.example", a, FRESH).hop("c.example", HopMode::Reference, x, change)
    };
    let for_r = || Fields::new("for r", "r.example", a, FRESH);
    let over_two = for_r().hop("x.example", HopMode::Reference, r, as_it_should_be).hop(
        "c.example",
        HopMode::Reference,
        x,
        as_it_should_be,
    );
    let another = for_r();
    let of_r = for_r().hop("c.example", HopMode::Reference, r, as_it_should_be);
    let old = [-31 * DAY, -DAY];
    let eternal = Fields::new("old", "x.example", a, old);
    let eternal = eternal.hop("c.example", custody("tbr.x.example"), x, |hop| hop.issued = at(-2 * DAY));
    let made_up = Fields::new("made up", "x.example", x, FRESH);
    let attacks = [
        ("a made-up origin", made_up.hop("c.example", HopMode::Reference, x, as_it_should_be), "550 5.7.75 "),
        (
            "a relay that nobody asked",
            for_r().hop("c.example", HopMode::Reference, x, |hop| hop.domain = "x.example".parse().unwrap()),
            "550 5.7.81 ",
        ),
        (
            "in the name of the relay that was asked",
            for_r().hop("c.example", HopMode::Reference, x, as_it_should_be),
            "550 5.7.75 ",
        ),
        ("truncated", over_two.clone().without(1), "550 5.7.81 "),
        ("re-parented", Fields { reference: another.reference, ..of_r }, "550 5.7.81 "),
        ("back-dated to before it was sent", own(|hop| hop.issued = at(-DAY)), "550 5.7.81 "),
        ("for another sender", own(|hop| hop.mail_from = None), "550 5.7.81 "),
        ("a reference that is kept alive for over 30 days", eternal, "550 5.7.71 "),
        ("a hop that lives for ever", own(|hop| hop.expires = at(200 * 365 * DAY)), "550 5.7.71 "),
        ("a hop from the future", own(|hop| hop.issued = at(600)), "451 4.7.71 "),
        ("a reference from the future", Fields::new("soon", "c.example", a, [600, DAY]), "451 4.7.71 "),
    ];
    for (attack, chain, code) in &attacks {
        let said = world.offer(chain, if attack.contains("kept alive") { "tbr.x.example" } else { "tbr.a.example" });
        assert!(said.starts_with(code), "{attack}: {said}");
    }
    let elsewhere = Fields::new("elsewhere", "x.example", a, FRESH);
    let elsewhere = elsewhere.hop("c.example", custody("tbr.a.example"), x, as_it_should_be);
    let said = world.offer(&elsewhere, "tbr.a.example");
    assert!(said.starts_with("550 5.7.78 "), "custody at another's host: {said}");
    // They were refused for what was wrong with them.
    let clocks_differ = Fields::new("in a moment", "c.example", a, [200, DAY]);
    for (what, chain) in [("delegated", own(as_it_should_be)), ("twice", over_two), ("clocks differ", clocks_differ)] {
        let said = world.offer(&chain, "tbr.a.example");
        assert!(said.starts_with("250 2.5.0 "), "{what}: {said}");
    }
    assert_eq!(world.receiver.maildir(BOB).messages().len(), 0);
}

#[test]
fn chains_that_are_invented_are_no_pass_by_value() {
    const OPENER: HopMode = HopMode::Value([9; 16]);
    let world = World::new();
    let World { a, r, x, .. } = &world;
    let value = |subject: &str, lifetime: [i64; 2], change: fn(&mut HopStatement)| {
        Fields::new(subject, "x.example", a, lifetime).hop("c.example", OPENER, x, change)
    };
    let for_r = |subject: &str| Fields::new(subject, "r.example", a, FRESH);
    let (intact, fail) = ("tbr=none (object intact) header.d=x.example", "tbr=fail (bad signature) header.d=");
    let another = for_r("re-parented");
    let of_r = for_r("re-parented").hop("c.example", OPENER, r, as_it_should_be);
    let over_two = for_r("truncated").hop("x.example", HopMode::Reference, r, as_it_should_be);
    let over_two = over_two.hop("c.example", custody("tbr.x.example"), x, as_it_should_be);
    let attacks = [
        (value("eternal", FRESH, |hop| hop.expires = at(200 * 365 * DAY)), intact.to_owned()),
        (value("future", FRESH, |hop| hop.issued = at(600)), intact.to_owned()),
        (value("back-dated", [-31 * DAY, DAY], |hop| hop.issued = at(-31 * DAY)), intact.to_owned()),
        (value("over an old reference", [-31 * DAY, DAY], as_it_should_be), intact.to_owned()),
        (for_r("in another's name").hop("c.example", OPENER, x, as_it_should_be), format!("{fail}r.example")),
        (
            for_r("unasked").hop("c.example", OPENER, x, |hop| hop.domain = "x.example".parse().unwrap()),
            "tbr=permerror".to_owned(),
        ),
        (Fields { reference: another.reference, ..of_r }, "tbr=permerror".to_owned()),
        (over_two.without(1), "tbr=permerror".to_owned()),
    ];
    for (chain, wanted) in &attacks {
        let said = world.send("", chain, BOB);
        assert!(said.starts_with("250 "), "{said}");
        let results = world.results(chain, BOB, 0);
        assert!(results.contains(wanted.as_str()) && !results.contains("tbr=pass"), "{wanted}: {results}");
    }
    // With an origin that is made up a relay vouches for itself only.
    let made_up = Fields::new("made up", "x.example", x, FRESH).hop("c.example", OPENER, x, as_it_should_be);
    world.send("", &made_up, BOB);
    let results = world.results(&made_up, BOB, 0);
    let own = "tbr=pass header.d=x.example";
    assert!(results.contains(own) && results.contains(&format!("{fail}a.example")), "{results}");
    // To others than it was made for it is none; and what is refused has not been accepted, but what is accepted counts once.
    let genuine = value("genuine", FRESH, as_it_should_be);
    world.send("", &genuine, "alice@c.example");
    let results = world.results(&genuine, "alice@c.example", 0);
    assert!(results.contains(intact) && !results.contains("tbr=pass"), "{results}");
    let said = world.send(&"Received: from loop.example by loop.example; now\r\n".repeat(120), &genuine, BOB);
    assert!(said.starts_with("554 5.4.6 "), "{said}");
    for (before, wanted) in [(0, own), (1, intact)] {
        let said = world.send("", &genuine, BOB);
        assert!(said.starts_with("250 "), "{said}");
        let results = world.results(&genuine, BOB, before);
        assert!(results.contains(wanted), "{before}: {results}");
    }
}
