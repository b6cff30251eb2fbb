//! Messages to many domains, as lists send them: one copy here, few connections, one retrieval for many domains, everybody
//! served once; and nobody else has to wait.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use serde_json::Value;
use testbed::peers::restante::{object, steps};
use testbed::peers::{MailServer, Restante, RestanteConfig, Site};
use testbed::samples::{awkward, crlf};
use testbed::{Host, Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
const USERS: usize = 5;

fn origin(sandbox: &Sandbox, config: impl FnOnce(RestanteConfig) -> RestanteConfig) -> Restante {
    let plain = RestanteConfig::new(PROGRAM, "mx.a.example", &["a.example"]).users(&["alice", "bob"]);
    Restante::start(sandbox, config(plain)).unwrap()
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}.example")).collect()
}

fn recipients(domains: &[String]) -> Vec<String> {
    domains.iter().flat_map(|domain| (0..USERS).map(move |user| format!("user{user}@{domain}"))).collect()
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// A server that takes everything for its domains, and fetches nothing yet.
fn receiver(sandbox: &Sandbox, name: &str, domains: &[String]) -> Restante {
    let config = RestanteConfig::new(PROGRAM, name, &texts(domains)).without_keys();
    let config = config.with("domain", "recipients", "\"any\"").with("transfer", "pause_retrieval", "true");
    Restante::start(sandbox, config).unwrap()
}

/// Connections that a host has accepted since it is there.
fn connections(host: &Host) -> usize {
    let table = host.run(&["cat", "/proc/net/snmp"]).unwrap();
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = lines.next().zip(lines.next()).unwrap();
    let count = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "PassiveOpens").unwrap();
    count.1.parse().unwrap()
}

/// How often the object has been served.
fn served(trace: &Value) -> usize {
    steps(trace).iter().filter(|step| *step == "served").count()
}

#[test]
fn a_list_is_offered_over_few_connections_and_fetched_once_for_many_domains() {
    let sandbox = Sandbox::new().unwrap();
    let origin = origin(&sandbox, |config| config);
    let domains = [names("b", 30), names("c", 30)];
    let mut receivers = ["mx.b.example", "mx.c.example"]
        .into_iter()
        .zip(&domains)
        .map(|(name, domains)| receiver(&sandbox, name, domains))
        .collect::<Vec<_>>();
    let to: Vec<String> = domains.iter().flat_map(|domains| recipients(domains)).collect();
    let message = awkward("to everybody");
    let id = origin.send("alice@a.example", &texts(&to), &message).unwrap();

    wait::until("all offers to be taken", wait::LONG, || {
        let taken = steps(&origin.trace(&id).ok()?).iter().filter(|step| *step == "offered").count();
        (taken >= 60).then_some(())
    })
    .unwrap();
    for receiver in &receivers {
        let count = connections(receiver.host());
        assert!(count <= 8, "{count} connections for 30 domains");
    }
    for receiver in &mut receivers {
        receiver.stop().unwrap();
        receiver.set("transfer", "pause_retrieval", "false").unwrap();
        receiver.run().unwrap();
    }
    let done = origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    assert!((2..=10).contains(&served(&done)), "served {} times to two receivers", served(&done));
    for (receiver, domains) in receivers.iter().zip(&domains) {
        for to in recipients(domains) {
            let copies = receiver.maildir(&to).messages();
            assert_eq!(copies.len(), 1, "for {to}");
            assert_eq!(object(&copies[0]), Some(&crlf(&message)[..]));
        }
    }
}

#[test]
fn by_value_a_list_shares_the_connections_to_one_exchanger() {
    let sandbox = Sandbox::new().unwrap();
    let domains = names("p", 40);
    let postfix = MailServer::postfix(&sandbox, &Site::new("mx.p.example", &texts(&domains))).unwrap();
    let origin = origin(&sandbox, |config| config.with("outgoing", "max_connections_per_host", "4"));
    let before = connections(postfix.host());
    let to: Vec<String> = domains.iter().map(|domain| format!("bob@{domain}")).collect();
    let id = origin.send("alice@a.example", &texts(&to), &awkward("to everybody")).unwrap();

    origin.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    postfix.maildir("bob").wait_for(domains.len(), wait::LONG).unwrap();
    let count = connections(postfix.host()) - before;
    // A connection that Postfix closes meanwhile is replaced.
    assert!(count <= 8, "{count} connections for 40 domains");
    assert_eq!(postfix.maildir("bob").messages().len(), domains.len());
}

#[test]
fn what_an_operator_orders_reaches_all_of_a_list_however_many_domains_it_has() {
    const DOMAINS: usize = 1100;
    let sandbox = Sandbox::new().unwrap();
    // Nobody listens there.
    let away = sandbox.host("mx.away.example", &[]).unwrap();
    let domains = names("w", DOMAINS);
    let records = domains.iter().map(|domain| Record::Mx(domain.clone(), 10, away.name().to_owned()));
    sandbox.publish(&records.collect::<Vec<_>>()).unwrap();
    let origin = origin(&sandbox, |config| config.with("submission", "recipients_per_hour", "10000"));
    let to: Vec<String> = domains.iter().map(|domain| format!("bob@{domain}")).collect();
    let id = origin.send("alice@a.example", &texts(&to), &awkward("to everybody")).unwrap();
    let order = |verb: &str| origin.json(&["queue", verb, &id], b"").unwrap()["reached"].clone();
    assert_eq!(order("hold"), DOMAINS);
    let entries = origin.trace(&id).unwrap()["entries"].as_array().unwrap().clone();
    assert_eq!(entries.iter().filter(|entry| entry["held"] == true).count(), DOMAINS);
    assert_eq!(order("release"), DOMAINS);
    let said = origin.cli(&["queue", "hold", &id], b"").unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.ends_with("\n1100 of 1100 recipients.\n"), "{said}");
}

#[test]
fn nobody_waits_for_a_list_that_gets_nowhere() {
    let sandbox = Sandbox::new().unwrap();
    let stuck = sandbox.host("mx.stuck.example", &[]).unwrap();
    // Connections are made, and nobody ever greets.
    let _listener = stuck.listen(25).unwrap();
    let domains = names("s", 60);
    for domain in &domains {
        sandbox.publish_mx(domain, stuck.name()).unwrap();
    }
    let receiver = RestanteConfig::new(PROGRAM, "mx.b.example", &["b.example"]).users(&["bob"]);
    let receiver = Restante::start(&sandbox, receiver).unwrap();
    let origin = origin(&sandbox, |config| config.with("outgoing", "max_connections", "8"));
    let to = recipients(&domains);
    let list = origin.send("alice@a.example", &texts(&to), &awkward("to nobody")).unwrap();
    let message = awkward("behind the list");
    let id = origin.send("bob@a.example", &["bob@b.example"], &message).unwrap();

    receiver.maildir("bob@b.example").wait_for(1, wait::LONG).unwrap();
    origin.wait_for_state(&id, "delivered", wait::LONG).unwrap();
    origin.wait_for_state(&list, "queued", wait::LONG).unwrap();
    assert!(connections(&stuck) <= 8, "one connection is tried for all");
}
