//! A next hop by SMTP that is asked at RCPT whom it knows, `recipients = "probe"`: Postfix, whose log tells what it was asked.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::thread;

use testbed::peers::{MailServer, Restante, RestanteConfig, Site, clients};
use testbed::{Host, PackageSet, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// Where nothing listens at first.
const PORT: &str = "2525";

/// Postfix knows alice and bob in both domains; it thinks about bob for a while, and has no word on anybody called `later`.
const RESTRICTIONS: &str = "smtpd_recipient_restrictions = check_recipient_access static:INFO, \
    check_recipient_access inline:{{later@d.example=451 4.3.0 ask me again}, {bob@d.example=thinking}}, reject_unauth_destination";

struct World {
    front: Restante,
    next_hop: MailServer,
    client: Host,
    sandbox: Sandbox,
}

impl World {
    /// A server that asks Postfix about d.example, and that is to ask `later.example` about dead.example.
    fn new() -> Self {
        let sandbox = Sandbox::new().unwrap();
        let site = Site::new("next.d.example", &["d.example", "e.example"])
            .line("smtpd_restriction_classes = thinking")
            .line("thinking = sleep 2")
            .line(RESTRICTIONS);
        let next_hop = MailServer::postfix(&sandbox, &site).unwrap();
        let client = sandbox.host("client.example", &[PackageSet::Postfix]).unwrap();
        let dead = format!(
            "[[relay]]\nname = \"dead\"\nhost = \"client.example\"\nport = {PORT}\ntls = \"off\"\n\
             [[domain]]\nname = \"dead.example\"\ndeliver = \"relay:dead\"\nrecipients = \"probe\""
        );
        let config = config("d.example").with("domain", "aliases", "{ team = [\"alice\", \"nobody\"] }").tables(&dead);
        let front = Restante::start(&sandbox, config).unwrap();
        Self { front, next_hop, client, sandbox }
    }

    /// What the server says to RCPT.
    fn rcpt(&self, to: &str) -> String {
        rcpt(&self.client, "mx.d.example", to)
    }

    /// How often Postfix was asked about an address, always with the null sender. What it was asked before its last answer is
    /// in its log once a question after that is.
    fn times_asked(&self, address: &str, marker: &str) -> usize {
        self.rcpt(marker);
        self.next_hop.wait_for_log(&format!("to=<{marker}>"), wait::LONG).unwrap();
        let log = self.next_hop.log();
        let questions =
            |wanted: &str| log.lines().filter(|line| line.contains(": info: RCPT ") && line.contains(wanted)).count();
        let (asked, by_nobody) = (questions(&format!("to=<{address}>")), questions(&format!("from=<> to=<{address}>")));
        assert_eq!(asked, by_nobody, "{log}");
        asked
    }
}

fn config(domain: &str) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, &format!("mx.{domain}"), &[domain])
        .without_keys()
        .with("domain", "deliver", "\"relay:next\"")
        .with("domain", "recipients", "\"probe\"")
        .tables("[[relay]]\nname = \"next\"\nhost = \"next.d.example\"")
}

fn rcpt(client: &Host, server: &str, to: &str) -> String {
    let arguments = ["--server", server, "--from", "x@client.example", "--to", to, "--quit-after", "RCPT"];
    let output = clients::swaks(client, &arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let reply = said.lines().skip_while(|line| !line.contains("RCPT TO:")).nth(1);
    reply.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn an_answer_of_the_next_hop_counts_for_its_time() {
    let world = World::new();
    for _ in 0..2 {
        let said = world.rcpt("nobody@d.example");
        assert!(said.contains(" 550 5.1.1 "), "{said}\n{}", world.front.log());
        let said = world.rcpt("alice@d.example");
        assert!(said.contains(" 250 2.1.5 "), "{said}\n{}", world.front.log());
    }
    assert_eq!(world.times_asked("nobody@d.example", "one@d.example"), 1);
    assert_eq!(world.times_asked("alice@d.example", "two@d.example"), 1);
    // All of those behind an alias are asked for, though the first is known by now.
    let said = world.rcpt("team@d.example");
    assert!(said.contains(" 550 5.1.1 "), "{said}");

    let short = config("e.example").with("outgoing", "probe_lifetime", "\"1s\"");
    let forgetful = Restante::start(&world.sandbox, short).unwrap();
    for (to, reply) in [("alice@e.example", " 250 2.1.5 "), ("nobody@e.example", " 550 5.1.1 ")] {
        wait::until("the second question", wait::LONG, || {
            let said = rcpt(&world.client, "mx.e.example", to);
            assert!(said.contains(reply), "{said}\n{}", forgetful.log());
            (world.next_hop.log().matches(&format!("from=<> to=<{to}>")).count() > 1).then_some(())
        })
        .unwrap();
    }
}

#[test]
fn no_answer_is_a_451_and_is_asked_for_again() {
    let world = World::new();
    for _ in 0..2 {
        let said = world.rcpt("later@d.example");
        assert!(said.contains(" 451 4.") && said.contains("ask me again"), "{said}");
    }
    assert_eq!(world.times_asked("later@d.example", "one@d.example"), 2);

    let said = world.rcpt("anybody@dead.example");
    assert!(said.contains(" 451 4."), "{said}");
    let address = format!("0.0.0.0:{PORT}");
    let _sink = world.client.spawn("sink", &["/usr/sbin/smtp-sink", "-u", "postfix", &address, "10"]).unwrap();
    wait::until("the next hop to live", wait::LONG, || {
        world.rcpt("anybody@dead.example").contains(" 250 2.1.5 ").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}\n{}", world.front.log(), world.client.logs()));
}

#[test]
fn sessions_that_ask_at_once_share_a_question() {
    let world = World::new();
    let said: Vec<String> = thread::scope(|scope| {
        let sessions: Vec<_> = (0..3).map(|_| scope.spawn(|| world.rcpt("bob@d.example"))).collect();
        sessions.into_iter().map(|session| session.join().unwrap()).collect()
    });
    assert!(said.iter().all(|said| said.contains(" 250 2.1.5 ")), "{said:?}");
    assert_eq!(world.times_asked("bob@d.example", "one@d.example"), 1);
}
