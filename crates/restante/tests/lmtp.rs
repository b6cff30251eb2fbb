//! LMTP to Dovecot: its recipients are asked at RCPT, and what a client reads by IMAP is what was sent, octet for octet.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use testbed::peers::clients::Imap;
use testbed::peers::{Dovecot, Restante, RestanteConfig, clients};
use testbed::samples::{awkward, crlf};
use testbed::{Host, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

struct World {
    server: Restante,
    imap: Imap,
    client: Host,
    _dovecot: Dovecot,
    sandbox: Sandbox,
}

impl World {
    fn new() -> Self {
        let sandbox = Sandbox::new().unwrap();
        let dovecot = Dovecot::start(&sandbox, "store.d.example", &[("alice", "secret")]).unwrap();
        let config = RestanteConfig::new(PROGRAM, "mx.d.example", &["d.example"])
            .with("domain", "deliver", "\"lmtp:store\"")
            .with("domain", "recipients", "\"probe\"")
            .tables("[[lmtp]]\nname = \"store\"\nhost = \"store.d.example\"\nport = 24");
        let server = Restante::start(&sandbox, config).unwrap();
        let client = sandbox.host("client.example", &[]).unwrap();
        Self { server, imap: dovecot.imap("alice", "secret"), client, _dovecot: dovecot, sandbox }
    }

    /// The only message of the mailbox, once it is there.
    fn read(&self) -> Vec<u8> {
        let count = || (self.imap.count(&self.client).ok()? == 1).then_some(());
        wait::until("the message", wait::LONG, count).unwrap_or_else(|error| panic!("{error}\n{}", self.server.log()));
        self.imap.fetch(&self.client, 1).unwrap()
    }
}

#[test]
fn recipients_are_asked_at_rcpt() {
    let world = World::new();
    let say = |to: &str| {
        let arguments =
            ["--server", "mx.d.example", "--from", "x@client.example", "--to", to, "--header", "Subject: by lmtp"];
        String::from_utf8_lossy(&clients::swaks(&world.client, &arguments).unwrap().stdout).into_owned()
    };
    let said = say("nobody@d.example");
    assert!(said.contains(" 550 5.1.1 "), "{said}");
    assert!(say("alice@d.example").contains(" 250 2.0.0 "), "{}", world.server.log());
    let copy = String::from_utf8(world.read()).unwrap();
    assert!(copy.contains("Subject: by lmtp\r\n") && copy.contains("by mx.d.example with ESMTP"), "{copy}");
}

#[test]
fn dots_and_8_bit_are_read_back_unchanged() {
    let world = World::new();
    let message = awkward("through LMTP");
    world.server.send("carol@d.example", &["alice@d.example"], &message).unwrap();
    let copy = world.read();
    assert!(copy.ends_with(&crlf(&message)), "{}", String::from_utf8_lossy(&copy));
}

#[test]
fn what_came_by_reference_is_read_back_unchanged() {
    let world = World::new();
    let config = RestanteConfig::new(PROGRAM, "mx.a.example", &["a.example"]).users(&["alice"]);
    let origin = Restante::start(&world.sandbox, config).unwrap();
    let message = awkward("by reference through LMTP");
    let id = origin.send("alice@a.example", &["alice@d.example"], &message).unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    let copy = world.read();
    let text = String::from_utf8_lossy(&copy);
    assert!(copy.ends_with(&crlf(&message)), "{text}");
    assert!(text.contains("tbr=pass") && text.contains("TBR-Reference:"), "{text}");
}
