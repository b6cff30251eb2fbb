//! Neighbours by value that are online some of the time: Postfix as the custodian of a Restante site, Restante as the custodian of a
//! Postfix site, by ETRN; On-Demand Mail Relay between two Restante, and to Postfix; and who may ask for what.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use testbed::peers::restante::{PASSWORD, states};
use testbed::peers::{MailServer, Restante, RestanteConfig, Site};
use testbed::samples::{awkward, crlf, large};
use testbed::{Host, PackageSet, Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// Longer than any test: what is tried again within it was asked for.
const NEVER: &str = "\"1h\"";

fn config(name: &str, domains: &[&str]) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, name, domains).users(&["alice", "bob"]).without_keys()
}

/// Tries nothing again by itself.
fn patient(config: RestanteConfig) -> RestanteConfig {
    config.with("queue", "retry_first", NEVER).with("queue", "retry_longest", NEVER)
}

/// The custodian of post.example, which is a Postfix.
fn custodian_of_postfix(sandbox: &Sandbox) -> Restante {
    let tables = "[[domain]]\nname = \"post.example\"\ndeliver = \"relay:post\"\nrecipients = \"any\"\n\
                  [[relay]]\nname = \"post\"\nhost = \"mx.post.example\"\ntls = \"opportunistic\"\n";
    Restante::start(sandbox, patient(config("mx.cust.example", &["cust.example"])).tables(tables)).unwrap()
}

/// An SMTP session in clear, line by line.
struct Talk {
    stream: BufReader<TcpStream>,
}

impl Talk {
    fn new(from: &Host, to: &Host, port: u16) -> Self {
        let stream = from.connect((to.ipv4(), port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut talk = Self { stream: BufReader::new(stream) };
        assert!(talk.reply().starts_with("220 "));
        talk
    }

    /// Says a line; all lines of the reply.
    fn say(&mut self, line: &str) -> String {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        self.reply()
    }

    fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let begin = reply.len();
            assert!(self.stream.read_line(&mut reply).unwrap() > 0, "the connection has ended after {reply:?}");
            if reply.as_bytes().get(begin + 3) != Some(&b'-') {
                return reply;
            }
        }
    }
}

#[test]
fn a_restante_site_asks_its_postfix_custodian_by_etrn() {
    let sandbox = Sandbox::new().unwrap();
    let postfix = Site::new("mx.post.example", &["post.example"])
        .stock_timers()
        .line("relay_domains = site.example")
        .line("fast_flush_domains = site.example")
        .line("transport_maps = inline:{ {site.example = relay:[mx.site.example]} }");
    let postfix = MailServer::postfix(&sandbox, &postfix).unwrap();
    // What it keeps for the site comes from its own address, whatever the author's domain says of senders.
    sandbox
        .publish(&[
            Record::Txt("strict.example".to_owned(), "v=spf1 -all".to_owned()),
            Record::Txt("_dmarc.strict.example".to_owned(), "v=DMARC1; p=reject".to_owned()),
        ])
        .unwrap();
    let custodian = format!(
        "[[custodian]]\nhost = \"mx.post.example\"\nby = \"etrn\"\nfrom = [\"{}\", \"{}\"]\n",
        postfix.host().ipv4(),
        postfix.host().ipv6()
    );
    let mut site =
        Restante::prepare(&sandbox, config("mx.site.example", &["site.example"]).tables(&custodian)).unwrap();
    let message = b"From: alice@strict.example\nTo: bob@site.example\nSubject: waits\n\nfor the site\n";
    postfix.inject("alice@strict.example", &["bob@site.example"], message).unwrap();
    postfix.wait_for_log("status=deferred", wait::LONG).unwrap();

    site.run().unwrap();
    let report = site.json(&["link", "up"], b"").unwrap();
    let said = report["fetched"][0]["said"].as_str().unwrap_or_default();
    assert!(said.starts_with("250 "), "{report:#}");
    let copy = site.maildir("bob@site.example").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(copy.ends_with(b"\r\n\r\nfor the site\r\n"), "{}", String::from_utf8_lossy(&copy));
    postfix.wait_for_log("status=sent", wait::LONG).unwrap();
    // What does not work is said.
    let text = String::from_utf8(site.cli(&["fetch"], b"").unwrap().stdout).unwrap();
    assert!(text.starts_with("mx.post.example for site.example: 250 "), "{text}");
}

#[test]
fn fetchmail_asks_restante_for_what_waits_for_a_postfix_site() {
    let sandbox = Sandbox::new().unwrap();
    let custodian = custodian_of_postfix(&sandbox);
    let site = Site::new("mx.post.example", &["post.example"]).packages(PackageSet::Fetchmail);
    let postfix = MailServer::postfix(&sandbox, &site).unwrap();
    postfix.host().run(&["postfix", "stop"]).unwrap();
    let message = awkward("for Postfix");
    let id = custodian.send("alice@cust.example", &["bob@post.example"], &message).unwrap();
    custodian.wait_for_step(&id, "deferred", wait::LONG).unwrap();

    let mut again = postfix.host().spawn("postfix-again", &["postfix", "start-fg"]).unwrap();
    postfix.host().wait_for_port(25, &mut again).unwrap();
    let rc = "poll mx.cust.example protocol ETRN fetchdomains post.example\n";
    postfix.host().put("/etc/fetchmailrc", rc.as_bytes()).unwrap();
    postfix.host().run(&["chmod", "600", "/etc/fetchmailrc"]).unwrap();
    let asked =
        postfix.host().output(&["fetchmail", "--verbose", "--nosyslog", "-f", "/etc/fetchmailrc"], b"").unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&asked.stdout), String::from_utf8_lossy(&asked.stderr));
    assert!(said.contains("253 2.0.0 1 pending message(s) for post.example started"), "{said}");
    let copy = postfix.maildir("bob").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(crlf(&copy).ends_with(&crlf(&message)), "{}", String::from_utf8_lossy(&copy));
    custodian.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    let known = custodian.trace(&id).unwrap();
    assert!(known.to_string().contains("its next server has asked for it"), "{known:#}");
}

#[test]
fn nobody_gets_more_out_of_etrn_than_an_attempt_now_and_then() {
    let sandbox = Sandbox::new().unwrap();
    let custodian = custodian_of_postfix(&sandbox);
    let stranger = sandbox.host("stranger.example", &[]).unwrap();
    let id = custodian.send("alice@cust.example", &["bob@post.example"], &awkward("waits")).unwrap();
    custodian.wait_for_step(&id, "deferred", wait::LONG).unwrap();

    let mut talk = Talk::new(&stranger, custodian.host(), 25);
    assert!(talk.say("EHLO stranger.example").contains("250-ETRN\r\n"));
    assert!(talk.say("ETRN cust.example").starts_with("459 4.7.1 "), "a domain that is delivered here");
    assert!(talk.say("ETRN elsewhere.example").starts_with("459 4.7.1 "));
    assert!(talk.say("ETRN example").starts_with("459 4.7.1 "), "only with @ are those below meant");
    assert!(talk.say("ETRN @example").starts_with("253 2.0.0 1 "));
    assert!(talk.say("ETRN post.example").starts_with("458 4.3.0 "));
    let mut other = Talk::new(&stranger, custodian.host(), 25);
    other.say("EHLO stranger.example");
    assert!(other.say("ETRN post.example").starts_with("458 4.3.0 "), "another session has no pause of its own");
    // One attempt more, and no other.
    let attempts = || {
        let known = custodian.trace(&id).unwrap().to_string();
        known.matches("\"deferred\"").count()
    };
    wait::until("the attempt that was asked for", wait::LONG, || (attempts() == 2).then_some(())).unwrap();
    assert_eq!(states(&custodian.trace(&id).unwrap()), ["queued"]);
}

#[test]
fn a_domain_says_who_may_ask_for_its_mail() {
    let sandbox = Sandbox::new().unwrap();
    let (near, far) = (sandbox.host("near.example", &[]).unwrap(), sandbox.host("far.example", &[]).unwrap());
    let tables = |etrn: &str| {
        format!(
            "[[domain]]\nname = \"post.example\"\ndeliver = \"relay:post\"\nrecipients = \"any\"\netrn = {etrn}\n\
             [[relay]]\nname = \"post\"\nhost = \"mx.post.example\"\n"
        )
    };
    let some = config("mx.some.example", &["some.example"]).tables(&tables(&format!("[\"{}\"]", near.ipv4())));
    let some = Restante::start(&sandbox, some).unwrap();
    for (from, code) in [(&far, "459 "), (&near, "251 ")] {
        let mut talk = Talk::new(from, some.host(), 25);
        talk.say("EHLO client.example");
        assert!(talk.say("ETRN post.example").starts_with(code), "{}", from.name());
    }
    let none = config("mx.none.example", &["none.example"]).tables(&tables("\"nobody\""));
    let none = Restante::start(&sandbox, none).unwrap();
    let mut talk = Talk::new(&near, none.host(), 25);
    assert!(!talk.say("EHLO client.example").contains("ETRN"));
    assert!(talk.say("ETRN post.example").starts_with("502 "));
}

/// A provider where mail for site.example waits for the account `site`; `other` is somebody else's. Passwords may travel in clear at
/// port 1366.
struct Provider {
    sandbox: Sandbox,
    provider: Restante,
}

impl Provider {
    const SITE: &str = "AUTH PLAIN AHNpdGUAY29ycmVjdCBob3JzZQ==";
    const OTHER: &str = "AUTH PLAIN AG90aGVyAGNvcnJlY3QgaG9yc2U=";

    fn new() -> Self {
        let sandbox = Sandbox::new().unwrap();
        sandbox.publish(&[Record::Mx("site.example".to_owned(), 10, "mx.isp.example".to_owned())]).unwrap();
        let tables = "[[domain]]\nname = \"site.example\"\ndeliver = \"odmr\"\nrecipients = \"any\"\n\
                      [[domain]]\nname = \"post.example\"\ndeliver = \"odmr\"\nrecipients = \"any\"\n\
                      [[listener]]\nkind = \"odmr\"\naddress = \"0.0.0.0:366\"\n\
                      [[listener]]\nkind = \"odmr\"\naddress = \"[::]:366\"\n\
                      [[listener]]\nkind = \"odmr\"\naddress = \"0.0.0.0:1366\"\nauth_without_tls = true\n";
        let mut provider =
            Restante::prepare(&sandbox, config("mx.isp.example", &["isp.example"]).tables(tables)).unwrap();
        for (account, addresses) in [("site", "@site.example"), ("other", "@post.example")] {
            let add = ["accounts", "add", account, "--address", addresses];
            let added = provider.cli(&add, PASSWORD.as_bytes()).unwrap();
            assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        }
        provider.run().unwrap();
        Self { sandbox, provider }
    }

    /// A Restante with no name that anybody knows, which is the customer.
    fn site(&self) -> Restante {
        let name = "home.site.example";
        let file = self.sandbox.folder().join("odmr.password");
        std::fs::write(&file, PASSWORD).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let custodian = format!(
            "[[custodian]]\nhost = \"mx.isp.example\"\nby = \"odmr\"\nusername = \"site\"\npassword_file = \"{}\"\n",
            file.display()
        );
        Restante::start(
            &self.sandbox,
            config(name, &["site.example"]).private("none").without_keys().tables(&custodian),
        )
        .unwrap()
    }

    /// Hands a message in, which then waits.
    fn keep(&self, message: &[u8]) -> String {
        let id = self.provider.send("alice@isp.example", &["bob@site.example"], message).unwrap();
        self.provider.wait_for_step(&id, "deferred", wait::LONG).unwrap();
        id
    }

    /// Logs in, in clear.
    fn talk(&self, from: &Host, login: &str) -> Talk {
        let mut talk = Talk::new(from, self.provider.host(), 1366);
        assert!(talk.say("EHLO client.example").contains("250-ATRN\r\n"));
        assert!(talk.say(login).starts_with("235 "));
        talk
    }
}

/// Each of these is there, whole; how many copies there are.
fn assert_all_came(site: &Restante, messages: &[Vec<u8>]) -> usize {
    let copies = site.maildir("bob@site.example").messages();
    for message in messages {
        assert!(copies.iter().any(|copy| copy.ends_with(&crlf(message))), "{}", String::from_utf8_lossy(message));
    }
    copies.len()
}

#[test]
fn odmr_brings_what_waits_on_the_connection_that_asked_for_it() {
    let world = Provider::new();
    let messages: Vec<Vec<u8>> = vec![awkward("one"), large("two", 200_000), awkward("three")];
    let ids: Vec<String> = messages.iter().map(|message| world.keep(message)).collect();
    // What comes to the provider by reference waits with the rest, and goes on by value.
    let origin = RestanteConfig::new(PROGRAM, "mx.a.example", &["a.example"]).users(&["alice"]);
    let origin = Restante::start(&world.sandbox, origin).unwrap();
    let referred = awkward("by reference");
    let id = origin.send("alice@a.example", &["bob@site.example"], &referred).unwrap();
    let sent = origin.wait_for_state(&id, "claimed", wait::LONG).unwrap();
    let site = world.site();
    let report = site.json(&["fetch", "--wait"], b"").unwrap();
    assert!(report["fetched"][0]["said"].as_str().unwrap().starts_with("250 "), "{report:#}");
    assert_eq!(report["left"]["arriving"], 0, "{report:#}");
    let all = [messages.as_slice(), &[referred]].concat();
    assert_eq!(assert_all_came(&site, &all), all.len());
    for id in &ids {
        world.provider.wait_for_state(id, "relayed", wait::LONG).unwrap();
    }
    origin.wait_for_state(&id, "relayed", wait::LONG).unwrap_or_else(|error| panic!("{error:#}\n{sent:#}"));

    let report = site.json(&["fetch", "--wait"], b"").unwrap();
    assert!(report["fetched"][0]["said"].as_str().unwrap().starts_with("453 "), "{report:#}");
    // The provider has judged it, and is believed: its address is in nobody's SPF record.
    let copy = site.maildir("bob@site.example").wait_for_text("Subject: one", wait::LONG).unwrap();
    assert!(String::from_utf8_lossy(&copy).contains("from mx.isp.example"), "{}", String::from_utf8_lossy(&copy));
}

#[test]
fn nobody_gets_the_mail_of_others_by_atrn() {
    let world = Provider::new();
    let stranger = world.sandbox.host("stranger.example", &[]).unwrap();
    let id = world.keep(&awkward("for the site"));
    let mut talk = Talk::new(&stranger, world.provider.host(), 1366);
    talk.say("EHLO client.example");
    assert!(talk.say("ATRN site.example").starts_with("530 5.7.0 "));
    assert!(talk.say("AUTH PLAIN AHNpdGUAd3Jvbmc=").starts_with("535 "), "a wrong password");
    assert!(talk.say("ATRN").starts_with("530 5.7.0 "));
    let mut talk = world.talk(&stranger, Provider::OTHER);
    assert!(talk.say("ATRN site.example").starts_with("450 4.7.1 "));
    assert!(talk.say("ATRN post.example,site.example").starts_with("450 4.7.1 "), "all or none");
    assert!(talk.say("ATRN isp.example").starts_with("450 4.7.1 "), "delivered here, not kept");
    assert!(talk.say("ATRN").starts_with("453 4.2.0 "), "what is its own is empty");
    assert!(talk.say("MAIL FROM:<x@post.example>").starts_with("502 "));
    assert_eq!(states(&world.provider.trace(&id).unwrap()), ["queued"]);
    // In clear no password is taken where that was not said.
    let mut talk = Talk::new(&stranger, world.provider.host(), 366);
    assert!(talk.say("EHLO client.example").contains("250-STARTTLS\r\n"));
    assert!(talk.say(Provider::SITE).starts_with("538 "));
}

#[test]
fn what_breaks_amid_odmr_is_neither_lost_nor_sent_twice() {
    let mut world = Provider::new();
    let messages: Vec<Vec<u8>> = (0..6).map(|n| large(&format!("number {n}"), 300_000)).collect();
    for message in &messages {
        world.keep(message);
    }
    let mut site = world.site();
    // The customer breaks off twice, the provider once, wherever they are.
    for round in 0..3 {
        site.json(&["fetch"], b"").unwrap();
        if round == 1 {
            world.provider.kill().unwrap();
            world.provider.run().unwrap();
        } else {
            site.kill().unwrap();
            site.run().unwrap();
        }
    }
    fetch_all(&site);
    let copies = assert_all_came(&site, &messages);
    // SMTP itself cannot tell whether a message has come whose 250 was lost: at most one for each break.
    assert!((messages.len()..=messages.len() + 3).contains(&copies), "{copies} copies");
    let report = site.json(&["fetch", "--wait"], b"").unwrap();
    assert!(report["fetched"][0]["said"].as_str().unwrap().starts_with("453 "), "{report:#}");
    assert_eq!(assert_all_came(&site, &messages), copies);
}

/// Until the provider has nothing any more: it may still believe in a connection that is gone.
fn fetch_all(site: &Restante) {
    let fetch = || {
        let report = site.json(&["fetch", "--wait"], b"").unwrap();
        report["fetched"][0]["said"].as_str().is_some_and(|said| said.starts_with("453 ")).then_some(())
    };
    wait::until("the provider to have no mail", wait::LONG, fetch).unwrap();
}

#[test]
fn a_customer_that_comes_again_is_not_kept_waiting_by_its_broken_connection() {
    let world = Provider::new();
    let message = awkward("for the site");
    world.keep(&message);
    let site = world.site();
    // The link breaks amid a message, and the provider does not know.
    let lost = world.sandbox.host("lost.example", &[]).unwrap();
    let mut lost = world.talk(&lost, Provider::SITE);
    assert!(lost.say("ATRN site.example").starts_with("250 "));
    assert!(lost.say("220 lost.example").starts_with("EHLO mx.isp.example"));
    assert!(lost.say("250-lost.example\r\n250 8BITMIME").starts_with("MAIL FROM:<alice@isp.example>"));
    fetch_all(&site);
    assert_eq!(assert_all_came(&site, &[message]), 1);
}

#[test]
fn postfix_takes_what_odmr_brings() {
    let world = Provider::new();
    let postfix = MailServer::postfix(&world.sandbox, &Site::new("mx.post.example", &["post.example"])).unwrap();
    let message = awkward("for Postfix");
    let id = world.provider.send("alice@isp.example", &["bob@post.example"], &message).unwrap();
    world.provider.wait_for_step(&id, "deferred", wait::LONG).unwrap();
    // As fetchmail does it: asks, and is a pipe between the provider and its own mail server from then on.
    let mut talk = world.talk(postfix.host(), Provider::OTHER);
    assert!(talk.say("ATRN").starts_with("250 "));
    let provider = talk.stream.into_inner();
    let postfix_itself = postfix.host().connect((postfix.host().ipv4(), 25)).unwrap();
    let (mut down, mut into) = (provider.try_clone().unwrap(), postfix_itself.try_clone().unwrap());
    let pipe = std::thread::spawn(move || std::io::copy(&mut down, &mut into));
    // Until Postfix has said goodbye.
    let (mut up, mut out) = (postfix_itself, provider);
    std::io::copy(&mut up, &mut out).unwrap();
    out.shutdown(std::net::Shutdown::Both).unwrap();
    let _ = pipe.join().unwrap();
    let copy = postfix.maildir("bob").wait_for(1, wait::LONG).unwrap().remove(0);
    assert!(crlf(&copy).ends_with(&crlf(&message)), "{}", String::from_utf8_lossy(&copy));
    world.provider.wait_for_state(&id, "relayed", wait::LONG).unwrap();
}
