//! The attacker where names are not signed and keys come by HTTPS: he answers for DNS whatever he likes, reads offers in clear, and is in the
//! place of a repository. What comes of it is counted as in `attacker.rs`, and `docs/spec/attacker-matrix.md` has the whole matrix.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common {
    pub(crate) mod impostor;
    pub(crate) mod now;
    pub(crate) mod replay;
    pub(crate) mod talk;
    pub(crate) mod thief;
}

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use common::impostor::Impostor;
use common::replay::replay;
use common::thief::Thief;
use reference::message_signature::Signer;
use reference::{SigningKey, Uri};
use testbed::peers::restante::references;
use testbed::peers::{Middlebox, Restante, RestanteConfig};
use testbed::samples::awkward;
use testbed::{Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// What clients said to the box in the way.
static SAID: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn said(line: Vec<u8>) -> Vec<u8> {
    SAID.lock().unwrap().push(line.clone());
    line
}

fn server(sandbox: &Sandbox, domain: &str) -> Restante {
    let config = RestanteConfig::new(PROGRAM, &format!("mx.{domain}"), &[domain]).users(&["alice", "bob"]);
    // In clear: the worst that a receiver can configure.
    let config = config.with("transfer", "policy", "\"require\"").with("relay listener", "tbr_without_tls", "true");
    Restante::start(sandbox, config).unwrap()
}

fn restart(server: &mut Restante, pause: &str) {
    server.set("transfer", "pause_retrieval", pause).unwrap();
    server.stop().unwrap();
    server.run().unwrap();
}

fn send(origin: &Restante, subject: &str) -> String {
    origin.send("alice@a.example", &["bob@b.example"], &awkward(subject)).unwrap()
}

#[test]
fn unsigned_names_that_hide_keys_leave_grants_bound_and_an_offer_seen_in_clear_useless() {
    let sandbox = Sandbox::new().unwrap();
    let (mut a, mut b) = (server(&sandbox, "a.example"), server(&sandbox, "b.example"));
    let _own_domain = server(&sandbox, "x.example");
    // They have met: each has the other's keys.
    let met = send(&a, "before");
    a.wait_for_state(&met, "delivered", wait::LONG).unwrap();

    // He says that b.example publishes no keys, and where its mail goes: through him.
    let middlebox = Middlebox::start(&sandbox, "between.hub.example", (b.host().ipv4(), 25).into(), said).unwrap();
    let through = Record::Host("mx.b.example".to_owned(), middlebox.host().ipv4(), middlebox.host().ipv6());
    sandbox.lie(&["_tbr.b.example", "k1._tbr.b.example", "mx.b.example"], &[through]).unwrap();
    restart(&mut a, "false");
    restart(&mut b, "true");
    let id = send(&a, "while he lies");
    let sent = a.wait_for_step(&id, "offered", wait::LONG).unwrap();
    let reference = references(&sent).remove(0);

    let heard = String::from_utf8_lossy(&SAID.lock().unwrap().concat()).into_owned();
    let line = heard.lines().find(|line| line.starts_with("TBR 0 ")).unwrap();
    let thief = Thief {
        host: sandbox.host("thief.hub.example", &[]).unwrap(),
        ca: sandbox.ca().certificate().display().to_string(),
        uri: Uri::parse(line["TBR 0 ".len()..].trim()).unwrap(),
    };
    let own = Arc::new(SigningKey::from_seed(&[1; 32]).unwrap());
    let signer = |id: &str| Signer { id: id.parse().unwrap(), key: Arc::clone(&own) };
    let (as_himself, as_another) = (signer("k1._tbr.x.example"), signer("k1._tbr.b.example"));
    let signers =
        [("nobody", None), ("a domain of his own", Some(&as_himself)), ("the name of another", Some(&as_another))];
    thief.gets_what_everybody_gets(&reference, "b.example", &signers);
    let again = replay(&thief.host, &b, &heard, "alice@b.example");
    assert!(again.starts_with("550 5.7.77 "), "{again}");

    restart(&mut b, "false");
    a.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    thief.gets_what_everybody_gets(&reference, "b.example", &signers);
    assert_eq!((b.maildir("bob@b.example").messages().len(), b.maildir("alice@b.example").messages().len()), (2, 0));
}

#[test]
fn whoever_answers_in_the_place_of_a_repository_without_its_certificate_is_asked_for_nothing() {
    let sandbox = Sandbox::new().unwrap();
    let (a, mut b) = (server(&sandbox, "a.example"), server(&sandbox, "b.example"));
    let met = send(&a, "before");
    a.wait_for_state(&met, "delivered", wait::LONG).unwrap();
    // A good certificate, of another name.
    let impostor = Impostor::start(&sandbox, "impostor.hub.example");
    let place = |host: &testbed::Host| Record::Host("tbr.a.example".to_owned(), host.ipv4(), host.ipv6());
    sandbox.lie(&["tbr.a.example"], &[place(&impostor.host)]).unwrap();
    restart(&mut b, "false");

    let id = send(&a, "while he is there");
    let sent = a.wait_for_step(&id, "offered", wait::LONG).unwrap();
    let words = "no connection to tbr.a.example";
    let failed = || b.trace(references(&sent).first()?).ok()?.to_string().contains(words).then_some(());
    wait::until(words, wait::LONG, failed).unwrap();
    assert!(impostor.greeted.load(Ordering::SeqCst) > 0, "nobody came");
    assert_eq!(impostor.asked.load(Ordering::SeqCst), 0, "no grant was shown to him");
    assert_eq!(b.maildir("bob@b.example").messages().len(), 1);

    sandbox.lie(&["tbr.a.example"], &[place(a.host())]).unwrap();
    a.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert_eq!(b.maildir("bob@b.example").messages().len(), 2);
}
