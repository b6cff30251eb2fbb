//! Names signed with DNSSEC, as Knot signs and serves them: what the resolver makes of every name and type of a tree, against
//! unbound; and mail by reference between servers that know each other through it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common {
    pub(crate) mod world;
}

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use common::world::{World, printed_tlsa};
use net::dns::{Anchors, DnsError, Dnssec, Resolver, Source};
use testbed::peers::Restante;
use testbed::samples::awkward;
use testbed::signed::{Fault, SignedTree, Signing, Zone};
use testbed::{Host, Record, Sandbox, wait};

/// What every zone of the tree has in it.
const CONTENT: &str = "
@ MX 10 mx
@ TXT \"hello\"
mx A 192.0.2.77
mx AAAA 2001:db8::77
_tbr TXT \"v=TBR1\"
k1._tbr TXT \"v=TBR1; a=ed25519\"
_25._tcp.mx TLSA 3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
*.wild A 192.0.2.9
*.wild TXT \"wild\"
deep.er.ent A 192.0.2.8
alias CNAME mx
alias2 CNAME alias
*.walias CNAME mx
to-unsigned CNAME mx.unsigned.example.
to-hashed CNAME mx.hashed.example.
to-wrong CNAME mx.wrongds.example.
to-nothing CNAME nothing.hashed.example.
to-nothing-here CNAME nothing
to-wild CNAME x.wild.hashed.example.
to-opt-out CNAME mx.plain.net.
away DNAME hashed.example.
out DNAME unsigned.example.
broken DNAME wrongds.Example.
alias-away CNAME mx.away
";

/// Names that are asked for in every zone, relative to it, and types.
const NAMES: [&str; 29] = [
    "",
    "mx",
    "_tbr",
    "k1._tbr",
    "k2._tbr",
    "_25._tcp.mx",
    "_tcp.mx",
    "x.wild",
    "x.y.wild",
    "wild",
    "ent",
    "deep.er.ent",
    "alias",
    "alias2",
    "x.walias",
    "to-unsigned",
    "to-hashed",
    "to-wrong",
    "to-nothing",
    "to-nothing-here",
    "to-wild",
    "to-opt-out",
    "away",
    "mx.away",
    "alias.away",
    "nothing.away",
    "mx.out",
    "mx.broken",
    "alias-away",
];
const ABSENT: [&str; 2] = ["nothing", "no.thing.mx"];
const TYPES: [&str; 9] = ["A", "AAAA", "MX", "TXT", "TLSA", "CNAME", "NS", "SOA", "DS"];

/// Of the zones that lack one denial: which. It denies a name, what is nearest to one, a wildcard, or that something below is signed.
const LACKING: [usize; 6] = [0, 4, 9, 13, 18, 22];
/// What is asked for in them.
const LACKING_TYPES: [&str; 3] = ["A", "TXT", "DS"];

fn tree(sandbox: &Sandbox) -> SignedTree {
    let mut tree = SignedTree::new(sandbox).unwrap();
    let mut set = |name: &str, signing, fault: Option<Fault>| {
        let zone = Zone::new(name, signing).with_records(CONTENT);
        tree.set(fault.into_iter().fold(zone, Zone::with_fault));
    };
    set("good.example", Signing::Nsec, None);
    set("sub.good.example", Signing::Unsigned, None);
    set("deep.good.example", Signing::Nsec3, None);
    set("hashed.example", Signing::Nsec3, None);
    set("iterated.example", Signing::Iterated, None);
    set("unsigned.example", Signing::Unsigned, None);
    set("island.example", Signing::Nsec, Some(Fault::NoDs));
    set("expired.example", Signing::Nsec, Some(Fault::SignedAt(-90)));
    set("future.example", Signing::Nsec3, Some(Fault::SignedAt(90)));
    set("forged.example", Signing::Nsec, Some(Fault::Forged("\"hello\"".to_owned(), "\"forged\"".to_owned())));
    set("wrongds.example", Signing::Nsec, Some(Fault::WrongDs));
    set("stripped.example", Signing::Unsigned, Some(Fault::WrongDs));
    set("unknown.example", Signing::Unsigned, Some(Fault::UnknownDs));
    set("nodenial.example", Signing::Nsec, Some(Fault::NoDenials));
    set("nodenial3.example", Signing::Nsec3, Some(Fault::NoDenials));
    // What is not signed may be passed over, or have to be denied.
    set("optout.example", Signing::OptOut, None);
    set("sub.optout.example", Signing::Unsigned, None);
    set("optlost.example", Signing::OptOut, Some(Fault::NoDenials));
    set("sub.optlost.example", Signing::Unsigned, None);
    for number in LACKING {
        set(&format!("lacks{number}.example"), Signing::Nsec, Some(Fault::NoDenial(number)));
        set(&format!("lacks{number}.hashed.example"), Signing::Nsec3, Some(Fault::NoDenial(number)));
        set(&format!("lacks{number}.optout.example"), Signing::OptOut, Some(Fault::NoDenial(number)));
    }
    set("good.net", Signing::Nsec3, None);
    set("plain.net", Signing::Unsigned, None);
    tree.serve(sandbox).unwrap();
    tree
}

/// Every name and type of the tree.
fn questions(tree: &SignedTree) -> Vec<(String, &'static str)> {
    let mut all = Vec::new();
    for zone in tree.zones() {
        let names = NAMES.iter().chain(&ABSENT).map(|name| match (zone, *name) {
            ("", name) => format!("{name}."),
            (zone, "") => format!("{zone}."),
            (zone, name) => format!("{name}.{zone}."),
        });
        let types = if zone.starts_with("lacks") { &LACKING_TYPES[..] } else { &TYPES };
        all.extend(names.flat_map(|name| types.iter().map(move |kind| (name.clone(), *kind))));
    }
    // Nothing above the root could say whether it is signed.
    all.retain(|question| *question != (".".to_owned(), "DS"));
    all
}

/// `secure`, `insecure` or `bogus`, and whether the name exists.
fn unbounds_word(host: &Host, server: SocketAddr, questions: &[(String, &str)]) -> Vec<String> {
    let mut words = Vec::new();
    for some in questions.chunks(400) {
        let (server, port) = (format!("@{}", server.ip()), server.port().to_string());
        let mut command = vec!["kdig", server.as_str(), "-p", &port, "+noall", "+header", "+timeout=20", "+adflag"];
        command.extend(some.iter().flat_map(|(name, kind)| [name.as_str(), kind]));
        let text = host.run(&command).unwrap();
        let mut status = "";
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("status: ") {
                status = rest.split(';').next().unwrap();
            } else if let Some((_, flags)) = line.split_once("Flags: ") {
                let secure = flags.split(';').next().unwrap().split(' ').any(|flag| flag == "ad");
                words.push(word(status, secure));
            }
        }
    }
    assert_eq!(words.len(), questions.len(), "unbound did not answer everything");
    words
}

fn word(status: &str, secure: bool) -> String {
    let level = if secure { "secure" } else { "insecure" };
    match status {
        "NOERROR" => format!("{level}, exists"),
        "NXDOMAIN" => format!("{level}, does not exist"),
        _ => "bogus".to_owned(),
    }
}

/// Nobody signs the CNAME that name servers make of a DNAME, and unbound calls it bogus where it is asked for by its type. It is as good as
/// the DNAME.
fn where_it_is_signed((name, kind): &(String, &'static str)) -> (String, &'static str) {
    const DNAMES: [&str; 3] = ["away.", "out.", "broken."];
    match name.split_once('.') {
        Some((_, owner)) if *kind == "CNAME" && DNAMES.iter().any(|first| owner.starts_with(first)) => {
            (owner.to_owned(), "DNAME")
        }
        _ => (name.clone(), *kind),
    }
}

fn our_words(host: &Host, source: &Source, dnssec: &Dnssec, questions: &[(String, &str)]) -> Vec<String> {
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let resolver = Resolver::new(source, dnssec).unwrap();
            let mut words = Vec::new();
            for (name, kind) in questions {
                words.push(match resolver.examine(name, kind).await {
                    Ok(found) => word(if found.exists { "NOERROR" } else { "NXDOMAIN" }, found.secure),
                    Err(DnsError::Bogus(_)) => word("SERVFAIL", false),
                    Err(error) => error.to_string(),
                });
            }
            words
        })
    };
    host.inside(ask).unwrap()
}

fn differences(questions: &[(String, &str)], ours: &[String], unbounds: &[String]) -> String {
    let mut text = String::new();
    for ((question, ours), unbounds) in questions.iter().zip(ours).zip(unbounds) {
        let (name, kind) = question;
        if ours != unbounds {
            writeln!(text, "{name} {kind}: here {ours}; unbound {unbounds}").unwrap();
        }
    }
    text
}

#[test]
fn every_name_and_type_of_the_tree_is_what_unbound_says() {
    let sandbox = Sandbox::new().unwrap();
    let tree = tree(&sandbox);
    let questions = questions(&tree);
    let unbounds = unbounds_word(tree.host(), tree.oracle(), &questions);
    let mut counts = BTreeMap::<&str, usize>::new();
    unbounds.iter().for_each(|word| *counts.entry(word).or_default() += 1);
    assert_eq!(counts.len(), 5, "the tree has names of every kind: {counts:?}");

    let signed: Vec<_> = questions.iter().map(where_it_is_signed).collect();
    let of_signed = unbounds_word(tree.host(), tree.oracle(), &signed);

    let validate = Dnssec::Validate(Anchors::File(tree.anchors()));
    for (source, dnssec, step, unbounds) in [
        (tree.resolver(), &validate, 1, &of_signed),
        // A server that validates hands out what it thinks forged to whoever validates.
        (tree.oracle(), &validate, 7, &of_signed),
        (tree.oracle_at_home(), &Dnssec::Trust, 1, &unbounds),
    ] {
        let questions: Vec<_> = questions.iter().step_by(step).cloned().collect();
        let unbounds: Vec<_> = unbounds.iter().step_by(step).cloned().collect();
        let ours = our_words(tree.host(), &Source::NameServers(vec![source]), dnssec, &questions);
        let differences = differences(&questions, &ours, &unbounds);
        assert!(differences.is_empty(), "{source} {dnssec:?}:\n{differences}");
    }
}

#[test]
fn the_word_of_a_server_elsewhere_is_not_trusted() {
    let source = Source::NameServers(vec!["192.0.2.1:53".parse().unwrap()]);
    let error = Resolver::new(&source, &Dnssec::Trust).unwrap_err().to_string();
    assert!(error.contains("192.0.2.1:53 is not on this machine"), "{error}");
    assert!(Resolver::new(&Source::NameServers(vec!["[::1]:53".parse().unwrap()]), &Dnssec::Trust).is_ok());
}

#[test]
fn by_reference_between_signed_domains_and_never_weaker_while_names_are_bogus() {
    let mut world = World::new(|_, _, _| {});
    let id = world.send();
    world.assert_delivered(&id, "dnssec");
    let seen = world.a.json(&["check", "peer", "b.example"], b"").unwrap();
    assert_eq!(seen["tbr"]["assurance"], "dnssec", "{seen:#}");

    // The keys' signatures are over; the document of the same domain, under a good certificate, counts for nothing.
    let expired = Zone::new("a.example", Signing::Nsec).with_fault(Fault::SignedAt(-90));
    world.change(|tree| tree.set(expired));
    let id = world.send();
    world.wait_for_answer(&id, "4.7.80");
    assert_eq!(world.copies(), 1);
    world.change(|tree| tree.set(Zone::new("a.example", Signing::Nsec3)));
    world.assert_delivered(&id, "dnssec");

    // Provably unsigned: by the document.
    world.change(|tree| tree.set(Zone::new("a.example", Signing::Unsigned)));
    let id = world.send();
    world.assert_delivered(&id, "webpki");
}

#[test]
fn selectors_may_be_aliases_and_revoked_or_late_keys_count_for_nothing() {
    const KEY: &str = "k1._tbr.a.example";
    let mut world = World::new(|_, tree, _| {
        tree.set(Zone::new("provider.example", Signing::Nsec3));
        tree.set(Zone::new("provider.net", Signing::Unsigned));
        tree.moved(KEY, "a.keys.provider.example");
    });
    let id = world.send();
    world.assert_delivered(&id, "dnssec");

    // The alias leads out of what is signed: the key counts by the document only.
    world.change(|tree| tree.moved(KEY, "a.keys.provider.net"));
    let id = world.send();
    world.assert_delivered(&id, "webpki");

    // Signed zones decide alone: the document still has the key.
    world.change(|tree| tree.replaced(KEY, "TXT \"v=TBR1; revoked\""));
    let seen = world.b.json(&["check", "peer", "a.example"], b"").unwrap();
    assert_eq!(seen["tbr"]["keys"], serde_json::json!(["k1 revoked"]), "{seen:#}");
    let id = world.send();
    world.wait_for_answer(&id, "5.7.72");
    world.change(|tree| {
        let key = "p=qrG8XcAYMRVjOWh7oVVqSZDN4nmd0qIGqhwqzzlFfBY";
        tree.replaced(KEY, &format!("TXT \"v=TBR1; a=ed25519; {key}; nb=1; na=2\""));
    });
    let id = world.send();
    world.wait_for_answer(&id, "5.7.72");
    // And a denial is one.
    world.change(|tree| tree.replaced(KEY, ""));
    let id = world.send();
    world.wait_for_answer(&id, "4.7.72");
    assert_eq!(world.copies(), 2);
}

#[test]
fn hosts_outside_the_domain_consent_in_their_own_zone() {
    const CONSENT: &str = "a.example._tbr-host.tbr.provider.example";
    let mut world = World::new(|sandbox, tree, a| {
        let names = ["mx.a.example", "tbr.a.example", "tbr.provider.example"];
        let (identity, room) = (sandbox.ca().issue(&names).unwrap(), a.host().room());
        std::fs::write(room.join("tls/cert.pem"), identity.certificate).unwrap();
        std::fs::write(room.join("tls/key.pem"), identity.key).unwrap();
        let host = Record::Host("tbr.provider.example".to_owned(), a.host().ipv4(), a.host().ipv6());
        sandbox.publish(&[host, Record::Txt(CONSENT.to_owned(), "v=TBR1".to_owned())]).unwrap();
        a.set("domain.tbr", "repository", "\"tbr.provider.example\"").unwrap();
        tree.set(Zone::new("provider.example", Signing::Nsec3));
        tree.replaced("_tbr.a.example", "TXT \"v=TBR1; repo=tbr.provider.example\"");
    });
    let id = world.send();
    world.assert_delivered(&id, "dnssec");

    // A consent that is not validated is no consent, and none is none; whatever the domain itself says.
    world.change(|tree| tree.set(Zone::new("provider.example", Signing::Nsec).with_fault(Fault::SignedAt(-90))));
    let id = world.send();
    world.wait_for_answer(&id, "4.7.80");
    world.change(|tree| {
        tree.set(Zone::new("provider.example", Signing::Nsec3));
        tree.replaced(CONSENT, "");
    });
    world.wait_for_answer(&id, "5.7.78");
    assert_eq!(world.copies(), 1);

    world.change(|tree| {
        tree.set(Zone::new("a.example", Signing::Unsigned));
        tree.replaced(CONSENT, "TXT \"v=TBR1\"");
    });
    let id = world.send();
    world.assert_delivered(&id, "webpki");
}

#[test]
fn a_domain_signs_for_those_below_it_where_its_record_says_so() {
    let mut world = World::new(|_, tree, a| {
        a.set("domain.tbr", "subdomains", "true").unwrap();
        tree.replaced("_tbr.a.example", "TXT \"v=TBR1; sub=y\"");
    });
    let send =
        |world: &World| world.a.send("alice@news.a.example", &["bob@b.example"], &awkward("from below")).unwrap();
    let id = send(&world);
    world.assert_delivered(&id, "dnssec");
    world.change(|tree| tree.replaced("_tbr.a.example", "TXT \"v=TBR1\""));
    let id = send(&world);
    world.wait_for_answer(&id, "5.7.76");
    // The document says so too.
    world.change(|tree| tree.set(Zone::new("a.example", Signing::Unsigned)));
    let id = send(&world);
    world.assert_delivered(&id, "webpki");
}

#[test]
fn keys_are_changed_with_overlap_and_nothing_is_refused() {
    let mut world = World::new(|_, _, _| {});
    let id = world.send();
    world.assert_delivered(&id, "dnssec");

    let rotate = ["keys", "rotate", "--domain", "a.example", "--after", "1h"];
    let made = world.a.json(&rotate, b"").unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let record = &made["records"][0];
    assert_eq!((&made["next_selector"], &record["name"]), (&"k2".into(), &"k2._tbr.a.example".into()), "{made:#}");
    world.sandbox.publish(&[Record::Txt(text(&record["name"]), text(&record["text"]))]).unwrap();
    world.change(|_| {});

    // It takes over within seconds, by itself; until then and afterwards everything is believed.
    let soon = world.a.host().run(&["date", "-u", "-d", "+3 seconds", "+%Y-%m-%d %H:%M:%S"]).unwrap();
    world.a.set("domain.tbr", "next_selector", "\"k2\"").unwrap();
    world.a.set("domain.tbr", "next_key", &format!("\"{}\"", text(&made["next_key"]))).unwrap();
    world.a.set("domain.tbr", "next_from", &format!("\"{}\"", soon.trim())).unwrap();
    world.a.stop().unwrap();
    world.a.run().unwrap();
    let found = wait::until("the next key to sign", wait::LONG, || {
        let id = world.send();
        world.assert_delivered(&id, "dnssec");
        let copies = world.b.maildir("bob@b.example").messages();
        copies.iter().any(|copy| String::from_utf8_lossy(copy).contains(" s=k2;")).then_some(())
    });
    assert!(found.is_ok(), "{}", world.a.log());

    // Whatever keys are called, whoever asks sees each of them as DNS has it, with both ends of its window.
    let seen = world.b.json(&["check", "peer", "a.example", "--selector", "k9"], b"").unwrap();
    let keys: Vec<&str> = seen["tbr"]["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    assert_eq!((keys.len(), keys[0]), (3, "k9 is not published"), "{seen:#}");
    for (selector, key) in ["k1", "k2"].iter().zip(&keys[1..]) {
        let window = key.strip_prefix(&format!("{selector} from ")).and_then(|window| window.strip_suffix(" UTC"));
        let (from, until) =
            window.and_then(|window| window.split_once(" until ")).unwrap_or_else(|| panic!("{seen:#}"));
        assert!(from < until && from.starts_with("20"), "{seen:#}");
    }
    assert_eq!(seen["tbr"]["note"], "as the document lists them, each validated in DNS", "{seen:#}");

    let checked = world.a.cli(&["dns", "check", "a.example", "--json"], b"").unwrap();
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    for name in ["_tbr.a.example", "k1._tbr.a.example", "k2._tbr.a.example"] {
        let records = checked["records"].as_array().unwrap();
        let verdicts: Vec<_> = records.iter().filter(|r| r["name"] == name).map(|r| &r["verdict"]).collect();
        assert_eq!(verdicts, [&serde_json::Value::from("good")], "{name}: {checked:#}");
    }
    assert!(!world.a.cli(&rotate, b"").unwrap().status.success(), "one rotation at a time");
}

/// The same records of certificates that nobody has.
fn of_others(lines: &str) -> String {
    let other = |line: &str| format!("{}{}\n", &line[..line.len() - 64], "0".repeat(64));
    lines.lines().map(other).collect()
}

/// DANE from end to end: between exchangers (RFC 7672), at the repository (TBR §5.5), and as what REQUIRETLS needs.
#[test]
fn only_the_certificates_that_signed_records_name_will_do() {
    let mut world = World::new(|_, _, _| {});
    let (of_a, of_b) = (printed_tlsa(&world.a), printed_tlsa(&world.b));
    assert!(of_a.contains("_443._tcp.tbr.a.example. ") && of_b.contains("_25._tcp.mx.b.example. "), "{of_a}{of_b}");
    world.publish(&of_a, &of_b);
    let seen = world.a.json(&["check", "peer", "b.example"], b"").unwrap();
    assert_eq!((&seen["exchangers"][0]["demand"], &seen["exchangers"][0]["signed"]), (&"dane".into(), &true.into()));
    let checked = world.b.cli(&["dns", "check", "--json"], b"").unwrap();
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let records = checked["records"].as_array().unwrap().iter().filter(|record| record["type"] == "TLSA");
    let verdicts: Vec<_> = records.map(|record| record["verdict"].as_str().unwrap()).collect();
    assert!(verdicts.len() >= 2 && verdicts.iter().all(|verdict| *verdict == "good"), "{checked:#}");
    let arguments = ["send", "-i", "--require-tls", "-f", "alice@a.example", "bob@b.example"];
    let accepted = world.a.json(&arguments, &awkward("guarded")).unwrap();
    world.assert_delivered(accepted["id"].as_str().unwrap(), "dnssec");

    // The exchanger has a good certificate of the CA that all believe, and not the one that its domain names.
    world.publish(&of_a, &of_others(&of_b));
    let id = world.send();
    world.wait_for_answer(&id, "no TLSA record of mx.b.example matches the certificate");
    let seen = world.a.cli(&["check", "peer", "b.example"], b"").unwrap();
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.contains("no TLSA record of mx.b.example"), "{seen}");

    // The same of the origin's repository: the offer is taken, but nothing is fetched from there.
    world.publish(&of_others(&of_a), &of_b);
    let words = "no TLSA record of tbr.a.example matches the certificate";
    let mut last = String::new();
    let found = wait::until(words, wait::LONG, || {
        let trace = world.a.trace(&id).ok()?.to_string();
        let reference = trace.split("reference ").nth(1)?.get(..22)?.to_owned();
        last = world.b.trace(&reference).ok()?.to_string();
        last.contains(words).then_some(())
    });
    assert!(found.is_ok(), "no {words}: {last}\n{}", world.b.log());
    assert_eq!(world.copies(), 1);
    world.publish(&of_a, &of_b);
    world.assert_delivered(&id, "dnssec");
}

/// What `check peer` says of a domain, whatever it is.
fn peer(server: &Restante, domain: &str) -> serde_json::Value {
    let said = server.cli(&["check", "peer", domain, "--json"], b"").unwrap();
    serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[test]
fn whoever_asks_sees_which_repositories_can_be_reached_and_how_mail_would_really_go() {
    const HOSTS: &str = "tbr.a.example,nowhere.a.example,silent.a.example,other.a.example,tbr.provider.example";
    let mut silent = String::new();
    let mut world = World::new(|_, tree, _| {
        silent = format!("silent A {}\nother CNAME mx\n", tree.host().ipv4());
        tree.set(Zone::new("a.example", Signing::Nsec).with_records(&silent));
        tree.set(Zone::new("provider.example", Signing::Nsec));
        tree.set(Zone::new("wrong.example", Signing::Nsec).with_fault(Fault::WrongDs));
        tree.replaced("_tbr.a.example", &format!("TXT \"v=TBR1; repo={HOSTS}\""));
        // Only whether it has keys is bogus of this domain.
        tree.moved("_tbr.b.example", "b.wrong.example");
    });
    let of_host = |seen: &serde_json::Value, host: &str| {
        let all = seen["tbr"]["reach"].as_array().unwrap_or_else(|| panic!("{seen:#}"));
        all.iter().find(|reach| reach["host"] == host).unwrap_or_else(|| panic!("{host}: {seen:#}")).clone()
    };
    let seen = peer(&world.b, "a.example");
    let own = of_host(&seen, "tbr.a.example");
    assert_eq!((&own["reachable"], &own["certificate"]), (&true.into(), &"webpki".into()), "{seen:#}");
    assert_eq!((&own["tls"], own["address"].is_string()), (&"TLS 1.3".into(), true), "{seen:#}");
    for (host, problem) in [
        ("nowhere.a.example", "has no address"),
        ("silent.a.example", "no connection to silent.a.example"),
        ("other.a.example", "no connection to other.a.example"),
        ("tbr.provider.example", "tbr.provider.example does not consent"),
    ] {
        let reach = of_host(&seen, host);
        assert_eq!(reach["reachable"], false, "{reach:#}");
        let said = [reach["problem"].as_str().unwrap_or_default(), reach["advice"].as_str().unwrap_or_default()];
        assert!(said[0].contains(problem) && !said[1].is_empty(), "{reach:#}");
    }
    let text = world.b.cli(&["check", "peer", "a.example"], b"").unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("tbr.a.example can be reached at ") && text.contains(", by TLS 1.3, with a certificate"),
        "{text}"
    );
    assert!(text.contains("nowhere.a.example CANNOT be reached: "), "{text}");

    // TBR is offered, but no grant is issued while nobody can say whether there are keys: by value, or not at all.
    let seen = peer(&world.a, "b.example");
    let exchanger = &seen["exchangers"][0];
    assert_eq!((&seen["way"], &exchanger["tbr"]), (&"not-now".into(), &true.into()), "{seen:#}");
    assert!(seen["sentence"].as_str().unwrap().contains("whether the domain has keys"), "{seen:#}");
    assert!(exchanger["size"].is_u64() && exchanger["limits"]["recipients"].is_u64(), "{seen:#}");
    world.a.set("transfer", "policy", "\"prefer\"").unwrap();
    let seen = peer(&world.a, "b.example");
    assert_eq!(seen["way"], "by-value", "{seen:#}");
    assert!(seen["tbr"]["keys_unknown"].is_string(), "{seen:#}");

    // With TLSA records they alone vouch for the certificate, or against it.
    let of_a = printed_tlsa(&world.a);
    for (records, reachable) in [(of_a.clone(), true), (of_others(&of_a), false)] {
        world.publish(&format!("{silent}{records}"), "");
        let seen = peer(&world.b, "a.example");
        let own = of_host(&seen, "tbr.a.example");
        assert_eq!(own["reachable"], reachable, "{seen:#}");
        match reachable {
            true => assert_eq!(own["certificate"], "dane", "{seen:#}"),
            false => {
                let problem = own["problem"].as_str().unwrap();
                assert!(problem.contains("no TLSA record of tbr.a.example matches the certificate"), "{seen:#}");
            }
        }
    }
}

/// TLSRPT (RFC 8460) of DANE, sent and received: what went with the certificate that signed records name, and what did not.
#[test]
fn a_domain_hears_how_often_its_records_and_its_certificate_agreed() {
    const WANTED: &str = "_smtp._tls TXT \"v=TLSRPTv1; rua=mailto:reports@b.example\"\n";
    let mut world = World::new(|_, _, _| {});
    world.b.set("domain", "report_address", "\"reports\"").unwrap();
    let (of_a, of_b) = (printed_tlsa(&world.a), printed_tlsa(&world.b));
    world.publish(&of_a, &format!("{WANTED}{of_b}"));
    let id = world.send();
    world.assert_delivered(&id, "dnssec");
    world.publish(&of_a, &format!("{WANTED}{}", of_others(&of_b)));
    let id = world.send();
    world.wait_for_answer(&id, "no TLSA record of mx.b.example matches the certificate");
    world.publish(&of_a, &format!("{WANTED}{of_b}"));
    world.assert_delivered(&id, "dnssec");

    let sent = world.a.json(&["reports", "send"], b"").unwrap();
    let tls = sent["kinds"].as_array().unwrap().iter().find(|kind| kind["kind"] == "tls").unwrap();
    assert_eq!(tls["handed_over"], 1, "{sent:#}");
    let shown = wait::until("the report", wait::LONG, || {
        let shown = world.b.json(&["reports", "tls"], b"").ok()?;
        (!shown.as_array()?.is_empty()).then_some(shown)
    })
    .unwrap_or_else(|error| panic!("{error}\n{}\n{}", world.a.log(), world.b.log()));
    let policies = shown[0]["report"]["policies"].as_array().unwrap();
    assert!(
        policies.iter().all(|policy| (&policy["kind"], &policy["domain"]) == (&"tlsa".into(), &"b.example".into()))
    );
    let sum = |field: &str| policies.iter().map(|policy| policy[field].as_u64().unwrap()).sum::<u64>();
    assert!(sum("good") >= 2 && sum("bad") >= 1, "{shown:#}");
    let failures: Vec<_> = policies.iter().flat_map(|policy| policy["failures"].as_array().unwrap()).collect();
    assert!(
        !failures.is_empty() && failures.iter().all(|failure| failure["kind"] == "validation-failure"),
        "{shown:#}"
    );
}
