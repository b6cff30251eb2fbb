//! A site whose mail goes out by upload to its custodian.

use testbed::peers::restante::object;
use testbed::peers::{PartTime, RestanteConfig};
use testbed::samples::crlf;
use testbed::{Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// A site, its custodian and a server far away; `change` says what is different from such as are in order.
pub(crate) fn world_in(sandbox: Sandbox, change: impl Fn(&str, RestanteConfig) -> RestanteConfig) -> PartTime {
    let relay = "[[relay]]\nname = \"custodian\"\ncustodian = \"tbr.site.example\"\n";
    let world = PartTime::start_in(sandbox, PROGRAM, |name, config| {
        let config = change(name, config);
        if name == "site" { config.tables(relay).with("", "smart_host", "\"custodian\"") } else { config }
    });
    world.unwrap()
}

/// The same message, written by somebody at the site.
pub(crate) fn by_bob(message: &[u8]) -> Vec<u8> {
    let rest = message.strip_prefix(b"From: Alice <alice@a.example>").unwrap();
    [b"From: Bob <bob@site.example>", rest].concat()
}

/// The copy of a message by bob that came to alice, once it has; the only one of it, beside `others`.
pub(crate) fn copy_at_origin(world: &PartTime, message: &[u8], others: usize) -> Vec<u8> {
    let copies = world.origin.maildir("alice@a.example").wait_for(others + 1, wait::LONG).unwrap();
    assert_eq!(copies.len(), others + 1, "second copies");
    let is_it = |copy: &&Vec<u8>| object(copy).is_some_and(|object| object.ends_with(&crlf(message)));
    copies.iter().find(is_it).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&copies[others]))).clone()
}

/// Hands a message by bob in at the site.
pub(crate) fn write_at_site(world: &PartTime, to: &[&str], message: &[u8]) -> String {
    world.site.send("bob@site.example", to, message).unwrap()
}
