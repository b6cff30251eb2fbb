//! A site that uploads what its users send to its custodian, over links and custodians that break (TBR §7.4).

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use testbed::peers::restante::object;
use testbed::peers::{PartTime, RestanteConfig};
use testbed::samples::{awkward, crlf, large};
use testbed::wait;

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// A site whose mail goes out by upload, and is tried again after seconds.
fn world() -> PartTime {
    world_with(|_, config| config)
}

fn world_with(change: impl Fn(&str, RestanteConfig) -> RestanteConfig) -> PartTime {
    let relay = "[[relay]]\nname = \"custodian\"\ncustodian = \"tbr.site.example\"\n";
    let world = PartTime::start(PROGRAM, |name, config| {
        let config = change(name, config);
        if name == "site" { config.tables(relay).with("", "smart_host", "\"custodian\"") } else { config }
    });
    world.unwrap()
}

/// The same message, written by somebody at the site.
fn by_bob(message: &[u8]) -> Vec<u8> {
    let rest = message.strip_prefix(b"From: Alice <alice@a.example>").unwrap();
    [b"From: Bob <bob@site.example>", rest].concat()
}

/// The copy of a message by bob that came to alice, once it has; the only one of it, beside `others`.
fn copy_at_origin(world: &PartTime, message: &[u8], others: usize) -> Vec<u8> {
    let copies = world.origin.maildir("alice@a.example").wait_for(others + 1, wait::LONG).unwrap();
    assert_eq!(copies.len(), others + 1, "second copies");
    let is_it = |copy: &&Vec<u8>| object(copy).is_some_and(|object| object.ends_with(&crlf(message)));
    copies.iter().find(is_it).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&copies[others]))).clone()
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
