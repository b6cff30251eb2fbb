//! Paths that mix the three ways of relaying (TBR §7), over servers that know TBR and one that never heard of it, over links that
//! are slow, take their time, lose packets and go down.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::thread;
use std::time::{Duration, Instant};

use testbed::peers::restante::{object, references};
use testbed::peers::{MailServer, Restante, RestanteConfig, Site};
use testbed::samples::{awkward, crlf, large};
use testbed::{Host, PackageSet, Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

fn config(name: &str, domains: &[&str]) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, name, domains).users(&["alice", "bob"]).packages(PackageSet::Firewall)
}

/// `sales` of this server's domain is bob of another one.
fn forwarding(name: &str, domain: &str, to: &str) -> RestanteConfig {
    config(name, &[domain]).with("domain", "aliases", &format!("{{ sales = [\"{to}\"] }}"))
}

fn delegating(config: RestanteConfig, word: &str) -> RestanteConfig {
    config.with("transfer", "delegation", &format!("\"{word}\""))
}

/// What stands above the object in the one copy of this message.
fn fields_of_one_copy(server: &Restante, address: &str, message: &[u8]) -> String {
    let copies = server.maildir(address).messages();
    let is_ours = |copy: &&Vec<u8>| copy.ends_with(&crlf(message));
    let ours: Vec<&Vec<u8>> = copies.iter().filter(is_ours).collect();
    assert_eq!(ours.len(), 1, "copies for {address} of {} messages", copies.len());
    assert_eq!(object(ours[0]), Some(&crlf(message)[..]), "{}", String::from_utf8_lossy(ours[0]));
    String::from_utf8_lossy(&ours[0][..ours[0].len() - crlf(message).len()]).into_owned()
}

fn verify(server: &Restante, address: &str) -> serde_json::Value {
    let folder = std::fs::read_dir(server.maildir(address).path().join("new")).unwrap();
    let file = folder.map(|entry| entry.unwrap().path()).next().unwrap();
    server.json(&["verify", file.to_str().unwrap()], b"").unwrap()
}

/// The hops on top, the newest first: by which way.
fn ways(fields: &str) -> Vec<&'static str> {
    let hops = fields.split("TBR-Hop:").skip(1).map(|hop| hop.split("TBR-Reference:").next().unwrap_or_default());
    let way = |hop: &str| match hop {
        hop if hop.contains(" at=") => "custody",
        hop if hop.contains(" g=") => "value",
        _ => "reference",
    };
    hops.map(way).collect()
}

#[test]
fn a_gateway_that_never_heard_of_tbr_leaves_everything_to_be_verified() {
    through_a_gateway("(Postfix)", |sandbox| {
        let gateway = Site::new("mx.gateway.example", &[]).line("relay_domains = c.example");
        let gateway = gateway.line("transport_maps = inline:{ c.example=smtp:[mx.c.example] }");
        MailServer::postfix(sandbox, &gateway).unwrap()
    });
}

#[test]
fn so_does_one_of_another_make() {
    through_a_gateway("with esmtps", |sandbox| {
        let gateway = Site::new("mx.gateway.example", &[]).relay("mx.c.example", 25);
        MailServer::exim(sandbox, &gateway.relays_for("192.0.2.0/24").relays_for("2001:db8::/32")).unwrap()
    });
}

/// A server that sends all mail for c.example on, and writes these words into its Received field.
fn through_a_gateway(words: &str, start: impl FnOnce(&Sandbox) -> MailServer) {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let forwarder = forwarding("mx.b.example", "b.example", "bob@c.example");
    let _forwarder = Restante::start(&sandbox, forwarder).unwrap();
    let gateway = start(&sandbox);
    sandbox.publish_mx("c.example", gateway.host().name()).unwrap();
    let end = Restante::start(&sandbox, config("mx.c.example", &["c.example"]).preference(20)).unwrap();
    let message = awkward("through a stranger");
    let id = origin.send("alice@a.example", &["sales@b.example"], &message).unwrap();

    end.maildir("bob@c.example").wait_for(1, wait::LONG).unwrap();
    let fields = fields_of_one_copy(&end, "bob@c.example", &message);
    let is_its = |field: &str| field.contains("by mx.gateway.example") && field.contains(words);
    assert!(fields.split("Received:").any(is_its), "{fields}");
    assert_eq!(ways(&fields), ["value"], "{fields}");
    // The forwarder vouches; that the object is the origin's is known, and is no authentication of the origin.
    let here = fields.split("Received:").next().unwrap();
    assert!(here.contains("tbr=pass header.d=b.example"), "{fields}");
    assert!(here.contains("tbr=none (object intact) header.d=a.example"), "{fields}");
    let judged = verify(&end, "bob@c.example");
    assert_eq!(judged["verdict"], "pass", "{judged:#}");
    origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();
}

#[test]
fn custody_then_reference_then_value_on_one_path() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let start = |config| Restante::start(&sandbox, config).unwrap();
    let _custodian = start(delegating(forwarding("mx.b.example", "b.example", "sales@c.example"), "accept"));
    let _relay = start(delegating(forwarding("mx.c.example", "c.example", "sales@d.example"), "use"));
    let last = forwarding("mx.d.example", "d.example", "bob@e.example").with("transfer", "policy", "\"never\"");
    let _last = start(last);
    let end = start(config("mx.e.example", &["e.example"]));
    let message = awkward("three ways");
    let id = origin.send("alice@a.example", &["sales@b.example"], &message).unwrap();

    end.maildir("bob@e.example").wait_for(1, wait::LONG).unwrap();
    let fields = fields_of_one_copy(&end, "bob@e.example", &message);
    assert_eq!(ways(&fields), ["value", "reference", "custody"], "{fields}");
    assert!(fields.contains("tbr=pass header.d=d.example"), "{fields}");
    assert_eq!(verify(&end, "bob@e.example")["verdict"], "pass");
    let sent = origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    assert!(!sent.to_string().contains("c.example"), "custody hides where it went: {sent:#}");
}

#[test]
fn a_failure_goes_back_along_two_custodians_to_its_author() {
    let sandbox = Sandbox::new().unwrap();
    let start = |config| Restante::start(&sandbox, config).unwrap();
    let origin = start(config("mx.a.example", &["a.example"]));
    let _one = start(forwarding("mx.b.example", "b.example", "sales@c.example"));
    let _two = start(forwarding("mx.c.example", "c.example", "nobody@d.example"));
    let _end = start(config("mx.d.example", &["d.example"]));
    let id = origin.send("alice@a.example", &["sales@b.example"], &awkward("to nobody")).unwrap();
    origin.wait_for_state(&id, "failed", wait::LONG).unwrap();
    let report = wait::until("the report", wait::LONG, || origin.maildir("alice@a.example").messages().pop()).unwrap();
    let report = String::from_utf8_lossy(&report).into_owned();
    assert!(report.contains("sales@b.example"), "{report}");
    assert!(!report.contains("c.example") && !report.contains("d.example"), "{report}");
    assert_eq!(origin.maildir("alice@a.example").messages().len(), 1, "told once");
}

/// Takes the link down for a while.
fn outage(host: &Host, time: Duration) {
    host.unplug().unwrap();
    thread::sleep(time);
    host.plug_in().unwrap();
}

/// Numbers that look random, the same at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// `RESTANTE_MIXED_MESSAGES=200` makes it longer.
fn messages() -> u64 {
    std::env::var("RESTANTE_MIXED_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// By custody, by reference, by custody, by value; while links fail and whoever has the object is switched off.
#[test]
fn five_hops_over_bad_links_lose_nothing_and_double_nothing() {
    let sandbox = Sandbox::new().unwrap();
    let mut origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let start = |config| Restante::start(&sandbox, config).unwrap();
    let mut custodian = start(delegating(forwarding("mx.b.example", "b.example", "sales@c.example"), "accept"));
    let relay = start(delegating(forwarding("mx.c.example", "c.example", "sales@d.example"), "use"));
    let second = start(forwarding("mx.d.example", "d.example", "sales@e.example"));
    let last = forwarding("mx.e.example", "e.example", "bob@f.example").with("transfer", "policy", "\"never\"");
    let last = start(last);
    let end = start(config("mx.f.example", &["f.example"]));
    // Every domain's keys are known before anything goes wrong.
    let first = awkward("while all is well");
    origin.send("alice@a.example", &["sales@b.example"], &first).unwrap();
    end.maildir("bob@f.example").wait_for(1, wait::LONG).unwrap();
    assert_eq!(ways(&fields_of_one_copy(&end, "bob@f.example", &first)), ["value", "custody", "reference", "custody"]);

    for server in [&origin, &custodian, &relay, &second, &last] {
        server.host().limit_rate("4mbit").unwrap();
        server.host().lose_packets(20).unwrap();
    }
    // The first link goes over a satellite. (Those that are unplugged have to stay as they are.)
    let _satellite = origin.host().delay(Duration::from_millis(300)).unwrap();
    let (mut dice, begun) = (Dice(1), Instant::now());
    let mut sent = Vec::new();
    for number in 0..messages() {
        let message = large(&format!("number {number}"), 20_000);
        let id = origin.send("alice@a.example", &["sales@b.example"], &message).unwrap();
        sent.push(message);
        match number % 3 {
            // Switched off at a random time after the offer.
            0 => {
                origin.wait_for_step(&id, "offered", wait::LONG).unwrap();
                thread::sleep(Duration::from_millis(dice.below(150)));
                origin.kill().unwrap();
                outage(relay.host(), Duration::from_millis(200 + dice.below(400)));
                origin.run().unwrap();
            }
            // Switched off right after the claim; back only when the message has gone through.
            1 => {
                origin.wait_for_step(&id, "claimed", wait::LONG).unwrap();
                origin.kill().unwrap();
                // This one: another may still wait for its origin.
                let subject = format!("Subject: number {number}\r\n");
                end.maildir("bob@f.example").wait_for_text(&subject, wait::LONG).unwrap();
                origin.run().unwrap();
            }
            // The custodian instead, while links are down.
            _ => {
                thread::sleep(Duration::from_millis(dice.below(300)));
                custodian.kill().unwrap();
                outage(second.host(), Duration::from_millis(200 + dice.below(400)));
                custodian.run().unwrap();
            }
        }
    }
    end.maildir("bob@f.example").wait_for(sent.len() + 1, wait::LONG).unwrap();
    for message in &sent {
        fields_of_one_copy(&end, "bob@f.example", message);
    }
    // Nothing more is under way that could bring a second copy: every server says that it is done.
    for server in [&origin, &custodian, &relay, &second, &last] {
        wait::until("the queues to be empty", wait::LONG, || {
            let listed = server.json(&["queue", "list"], b"").ok()?;
            (!listed.to_string().contains("\"finished\":false")).then_some(())
        })
        .unwrap();
    }
    assert_eq!(end.maildir("bob@f.example").messages().len(), sent.len() + 1, "second copies");
    println!("{} messages over five hops in {:.1} s", sent.len(), begun.elapsed().as_secs_f64());
}

/// A backup exchanger with a name, a store and a repository of its own; both servers publish both repositories.
#[test]
fn a_backup_exchanger_takes_custody_for_a_domain_that_is_away() {
    let sandbox = Sandbox::new().unwrap();
    // The backup is no server of a.example's: what it brings is believed because it is the domain's own.
    let spf = Record::Txt("a.example".to_owned(), "v=spf1 a:mx.a.example -all".to_owned());
    let dmarc = Record::Txt("_dmarc.a.example".to_owned(), "v=DMARC1; p=reject".to_owned());
    sandbox.publish(&[spf, dmarc]).unwrap();
    let mut origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let others =
        |config: RestanteConfig, host: &str| config.with("domain.tbr", "other_repositories", &format!("[\"{host}\"]"));
    let primary = others(config("mx.b.example", &["b.example"]), "backup.b.example");
    let mut primary = Restante::start(&sandbox, primary).unwrap();
    let backup = others(config("backup.b.example", &["b.example"]).preference(20), "tbr.b.example");
    let backup =
        backup.with("domain.tbr", "repository", "\"backup.b.example\"").with("domain", "recipients", "\"any\"");
    let backup = backup.with("domain", "deliver", "\"relay:primary\"");
    let backup = backup.tables("[[relay]]\nname = \"primary\"\nhost = \"mx.b.example\"\nport = 25\ntbr = true");
    let backup = Restante::start(&sandbox, backup).unwrap();
    // While all is well the backup gets nothing, and the domain's keys become known.
    let first = awkward("while all is well");
    let id = origin.send("alice@a.example", &["bob@b.example"], &first).unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    primary.stop().unwrap();

    let message = awkward("while the domain is away");
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
    let claimed = origin.wait_for_state(&id, "claimed", wait::LONG).unwrap();
    backup.wait_for_step(&references(&claimed)[0], "claimed", wait::LONG).unwrap();
    // From here the origin is not needed any more.
    origin.kill().unwrap();
    primary.run().unwrap();
    primary.maildir("bob@b.example").wait_for(2, wait::LONG).unwrap();
    let fields = fields_of_one_copy(&primary, "bob@b.example", &message);
    assert_eq!(ways(&fields), ["custody"], "{fields}");
    assert!(fields.contains(" at=backup.b.example"), "{fields}");
    origin.run().unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert_eq!(primary.maildir("bob@b.example").messages().len(), 2);
}

#[test]
fn an_exchanger_without_its_domain_s_key_passes_the_offer_on_to_the_one_that_has_it() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let with_key = config("mx1.b.example", &["b.example"]).preference(20);
    let with_key = Restante::start(&sandbox, with_key).unwrap();
    let without = config("mx2.b.example", &["b.example"]).without_keys().with("domain", "pass_offers_to", "\"mx1\"");
    let without = without.tables("[[relay]]\nname = \"mx1\"\nhost = \"mx1.b.example\"\nport = 25");
    let without = Restante::start(&sandbox, without).unwrap();
    let message = awkward("to the one with the key");
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
    let sent = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert!(sent.to_string().contains("mx2.b.example"), "it was offered to the first exchanger: {sent:#}");
    fields_of_one_copy(&with_key, "bob@b.example", &message);
    assert!(without.trace(&references(&sent)[0]).is_err(), "nothing is kept of it");
    assert!(without.maildir("bob@b.example").messages().is_empty());

    // While that one cannot be reached it goes by value.
    let (mut with_key, message) = (with_key, awkward("by value then"));
    with_key.stop().unwrap();
    let id = origin.send("alice@a.example", &["bob@b.example"], &message).unwrap();
    origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    without.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap();
}

#[test]
fn eight_bit_content_is_converted_where_that_is_wanted_and_is_no_object_then() {
    let sandbox = Sandbox::new().unwrap();
    let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
    let forwarder = forwarding("mx.b.example", "b.example", "bob@p.example").with("transfer", "convert_8bit", "true");
    let _forwarder = Restante::start(&sandbox, forwarder).unwrap();
    let old = Site::new("mx.p.example", &["p.example"]).line("smtpd_discard_ehlo_keywords = 8bitmime");
    let old = MailServer::postfix(&sandbox, &old).unwrap();
    let message = "Subject: seven bits\nFrom: alice@a.example\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
                   Content-Transfer-Encoding: 8bit\n\nGr\u{fc}\u{df}e\n";
    let id = origin.send("alice@a.example", &["sales@b.example"], message.as_bytes()).unwrap();
    let copy = old.maildir("bob").wait_for(1, wait::LONG).unwrap().remove(0);
    let copy = String::from_utf8(copy).unwrap();
    assert!(copy.contains("Content-Transfer-Encoding: quoted-printable") && copy.contains("Gr=C3=BC=C3=9Fe"), "{copy}");
    assert!(!copy.contains("TBR-Reference:") && !copy.contains("TBR-Hop:"), "{copy}");
    let said = copy.replace("\n\t", " ");
    assert!(said.contains("\nX-MIME-Autoconverted: from 8bit to 7bit by mx.b.example id "), "{copy}");
    assert!(said.contains(" (TBR-Reference dropped: it is of the message as it was)\n"), "{copy}");
    origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();

    // Without leave the author is told.
    let id = origin.send("alice@a.example", &["bob@p.example"], message.as_bytes()).unwrap();
    let failed = origin.wait_for_state(&id, "failed", wait::LONG).unwrap();
    assert!(failed.to_string().contains("5.6.3"), "{failed:#}");
}
