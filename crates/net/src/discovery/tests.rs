//! Discovery against domains that are slow, absent, broken, forged, or asked for too often.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mail::{Domain, Timestamp};
use policy::budget::Prefix;
use reference::{Assurance, DomainFacts, KeyRecord, Selector, SigningKey};
use tokio::task::JoinSet;

use super::{Config, Discovery, Failure, Found};
use crate::lookup::LookupError;
use crate::retrieval::{self, Client};
use crate::testing::{Authority, Play, Scripted, Table, domain};

const RECORD: &str = "_tbr.a.example";
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn selector(text: &str) -> Selector {
    text.parse().unwrap()
}

fn start() -> Timestamp {
    Timestamp::from_secs(1_795_000_000)
}

/// A key that is good for ever; which one does not matter here.
fn key(name: &str) -> KeyRecord {
    let key = SigningKey::from_seed(&[1; 32]).unwrap().verifying_key();
    KeyRecord::active(selector(name), key, Timestamp::from_secs(0), Timestamp::from_secs(u64::from(u32::MAX)))
}

fn document(of: &str, keys: &[&str]) -> Vec<u8> {
    let facts = DomainFacts {
        domain: domain(of),
        repo: vec![domain("tbr.a.example")],
        sub: true,
        keys: keys.iter().map(|k| key(k)).collect(),
        max_age: Duration::from_secs(3600),
    };
    facts.to_document().unwrap()
}

/// A signing domain with a web server whose document can be changed, and whoever asks for it.
struct World {
    table: Arc<Table>,
    server: Scripted,
    served: Arc<Mutex<Vec<u8>>>,
    down: Arc<AtomicBool>,
    discovery: Discovery,
    client: Client,
}

impl World {
    async fn new() -> Self {
        Self::with(&["tbr.a.example", "tbr.b.a.example"], |_| {}).await
    }

    async fn with(names: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let authority = Authority::new();
        let served = Arc::new(Mutex::new(document("a.example", &["k1"])));
        let down = Arc::new(AtomicBool::new(false));
        let (body, broken) = (Arc::clone(&served), Arc::clone(&down));
        let script = move |_: usize, request: &str| {
            assert!(request.starts_with("GET /.well-known/tbr/domain HTTP/1.1\r\n"));
            if broken.load(Ordering::Relaxed) {
                return Play::response("500 Oops\nContent-Length: 0", b"");
            }
            let body = body.lock().unwrap().clone();
            Play::response(&format!("200 OK\nContent-Type: application/json\nContent-Length: {}", body.len()), &body)
        };
        let server = Scripted::new(authority.server(names), Box::new(script)).await;
        let table = Table::new();
        table.set_txt(RECORD, &["v=TBR1"], false);
        let client = retrieval::Config { port: server.port, allow_private: true, ..retrieval::Config::default() };
        let client = Client::new(authority.client(), Arc::clone(&table) as _, client);
        let mut config = Config { session_budget: Duration::from_secs(30), ..Config::default() };
        change(&mut config);
        let discovery = Discovery::new(Arc::clone(&table) as _, client.clone(), config);
        Self { table, server, served, down, discovery, client }
    }

    /// As after a restart, with pins on disk.
    fn reopened(&self, folder: &std::path::Path, at: Timestamp) -> Discovery {
        let config = Config { session_budget: Duration::from_secs(30), ..Config::default() };
        Discovery::open(Arc::clone(&self.table) as _, self.client.clone(), config, folder, at).unwrap()
    }

    async fn find(&self, name: &str, after: Duration) -> Result<Found, Failure> {
        self.discovery.find(&domain("a.example"), &selector(name), start().after(after)).await
    }

    fn publish(&self, document: Vec<u8>) {
        *self.served.lock().unwrap() = document;
    }

    fn fetches(&self) -> usize {
        self.server.requests().len()
    }
}

fn is_known(found: &Found, name: &str) -> bool {
    found.facts.key(&selector(name)).is_some()
}

fn assert_temporary(result: &Result<Found, Failure>, part: &str) {
    match result {
        Err(Failure::Temporary { text, .. }) => assert!(text.contains(part), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_document_is_fetched_once_and_believed_for_its_age() {
    let world = World::new().await;
    for after in [Duration::ZERO, MINUTE, 59 * MINUTE] {
        let found = world.find("k1", after).await.unwrap();
        assert_eq!((found.assurance, found.facts.sub), (Assurance::Webpki, true));
        assert!(is_known(&found, "k1"));
    }
    assert_eq!((world.table.all_asked(), world.fetches()), (1, 1));
    world.publish(document("a.example", &["k1", "k2"]));
    assert!(is_known(&world.find("k1", 61 * MINUTE).await.unwrap(), "k2"));
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn nobody_is_connected_to_without_a_record() {
    let world = World::new().await;
    for records in [[].as_slice(), &["v=spf1 -all"], &["v=TBR2"]] {
        let world = World::new().await;
        world.table.set_txt(RECORD, records, false);
        assert_eq!(world.find("k1", Duration::ZERO).await.unwrap_err(), Failure::NotPublished(domain("a.example")));
        assert_eq!(world.server.connections(), 0);
    }
    for records in [["v=TBR1; sub=perhaps"].as_slice(), &["v=TBR1", "v=TBR1; sub=y"]] {
        world.table.set_txt(RECORD, records, false);
        assert!(matches!(world.find("k1", Duration::ZERO).await, Err(Failure::Unusable { .. })));
    }
    world.table.set_error(RECORD, LookupError::Temporary("SERVFAIL".to_owned()));
    let world = World::new().await;
    world.table.set_error(RECORD, LookupError::Temporary("SERVFAIL".to_owned()));
    assert_temporary(&world.find("k1", Duration::ZERO).await, "SERVFAIL");
    assert_eq!(world.server.connections(), 0);
}

#[tokio::test]
async fn absence_is_remembered_for_a_while() {
    let world = World::new().await;
    world.table.set_txt(RECORD, &[], false);
    for after in [Duration::ZERO, MINUTE, 9 * MINUTE] {
        assert!(matches!(world.find("k1", after).await, Err(Failure::NotPublished(_))));
    }
    assert_eq!(world.table.asked(RECORD), 1);
    world.table.set_txt(RECORD, &["v=TBR1"], false);
    assert!(world.find("k1", 11 * MINUTE).await.is_ok());
}

#[tokio::test]
async fn a_failed_fetch_is_remembered_for_a_while() {
    let world = World::new().await;
    world.down.store(true, Ordering::Relaxed);
    for after in [0, 30] {
        assert_temporary(&world.find("k1", Duration::from_secs(after)).await, "500");
    }
    assert_eq!(world.fetches(), 1);
    world.down.store(false, Ordering::Relaxed);
    assert!(world.find("k1", 2 * MINUTE).await.is_ok());
}

#[tokio::test]
async fn a_certificate_for_another_name_vouches_for_nothing() {
    let world = World::with(&["a.example", "www.a.example"], |_| {}).await;
    assert_temporary(&world.find("k1", Duration::ZERO).await, "certificate");
    assert_eq!(world.fetches(), 0);
}

#[tokio::test]
async fn a_private_address_is_not_asked() {
    let world = World::new().await;
    let authority = Authority::new();
    let client = retrieval::Config { port: world.server.port, ..retrieval::Config::default() };
    let client = Client::new(authority.client(), Arc::clone(&world.table) as _, client);
    let discovery = Discovery::new(Arc::clone(&world.table) as _, client, Config::default());
    let result = discovery.find(&domain("a.example"), &selector("k1"), start()).await;
    assert_temporary(&result, "may not be connected to");
    assert_eq!(world.server.connections(), 0);
}

#[tokio::test]
async fn a_document_that_speaks_for_another_or_is_malformed_is_unusable() {
    for body in [document("b.example", &["k1"]), b"{}".to_vec(), vec![b' '; 100]] {
        let world = World::new().await;
        world.publish(body);
        assert!(matches!(world.find("k1", Duration::ZERO).await, Err(Failure::Unusable { .. })));
    }
    let world = World::new().await;
    world.publish(vec![b' '; 70_000]);
    assert_temporary(&world.find("k1", Duration::ZERO).await, "limit");
}

#[tokio::test]
async fn an_unknown_selector_causes_one_fetch_in_a_while() {
    let world = World::new().await;
    assert!(is_known(&world.find("k1", Duration::ZERO).await.unwrap(), "k1"));
    world.publish(document("a.example", &["k1", "k2"]));
    // Fetched just now: not again.
    assert!(!is_known(&world.find("k2", MINUTE).await.unwrap(), "k2"));
    assert_eq!(world.fetches(), 1);
    assert!(is_known(&world.find("k2", 6 * MINUTE).await.unwrap(), "k2"));
    assert_eq!(world.fetches(), 2);
    for number in 0..50 {
        assert!(!is_known(&world.find(&format!("x{number}"), 12 * MINUTE).await.unwrap(), "x"));
    }
    assert_eq!(world.fetches(), 3);
    assert!(is_known(&world.find("k1", 12 * MINUTE).await.unwrap(), "k1"));
}

#[tokio::test]
async fn unknown_selectors_do_not_hammer_a_server_that_is_down() {
    let world = World::new().await;
    assert!(world.find("k1", Duration::ZERO).await.is_ok());
    world.down.store(true, Ordering::Relaxed);
    for number in 0..50 {
        assert!(world.find(&format!("x{number}"), 10 * MINUTE).await.is_ok());
    }
    // The failure is forgotten, but the wait is not over.
    assert!(world.find("x", 12 * MINUTE).await.is_ok());
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn a_pin_outlives_outages_and_unsigned_denials_for_seven_days_only() {
    for break_it in [
        (|world: &World| world.down.store(true, Ordering::Relaxed)) as fn(&World),
        |world| world.table.set_txt(RECORD, &[], false),
        |world| world.table.set_txt(RECORD, &["v=TBR1; sub=perhaps"], false),
        |world| world.table.set_error(RECORD, LookupError::Temporary("SERVFAIL".to_owned())),
    ] {
        let world = World::new().await;
        assert!(world.find("k1", Duration::ZERO).await.is_ok());
        break_it(&world);
        for days in [1, 3, 6] {
            let found = world.find("k1", days * DAY).await.unwrap();
            assert!(is_known(&found, "k1"));
            assert_eq!(found.assurance, Assurance::Webpki);
        }
        assert!(world.find("k1", 7 * DAY + MINUTE).await.is_err());
    }
}

#[tokio::test]
async fn a_bogus_answer_never_leads_to_a_weaker_level() {
    let world = World::new().await;
    assert!(world.find("k1", Duration::ZERO).await.is_ok());
    world.table.set_error(RECORD, LookupError::Bogus("bad signature".to_owned()));
    assert!(matches!(world.find("k1", 2 * DAY).await, Err(Failure::Bogus { .. })));
    world.table.set_txt(RECORD, &["v=TBR1"], true);
    world.table.set_error("k1._tbr.a.example", LookupError::Bogus("bad signature".to_owned()));
    assert!(matches!(world.find("k1", 4 * DAY).await, Err(Failure::Bogus { .. })));
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn validated_records_need_no_document_and_override_it() {
    let world = World::new().await;
    assert_eq!(world.find("k1", Duration::ZERO).await.unwrap().assurance, Assurance::Webpki);
    world.table.set_txt(RECORD, &["v=TBR1; repo=tbr.other.example"], true);
    world.table.set_txt("k1._tbr.a.example", &[&key("k1").to_txt()], true);
    let found = world.find("k1", 2 * DAY).await.unwrap();
    assert_eq!(found.assurance, Assurance::Dnssec);
    assert_eq!((found.facts.repo.as_slice(), found.facts.sub), ([domain("tbr.other.example")].as_slice(), false));
    assert!(is_known(&found, "k1"));
    // A validated denial of a key, though the pinned document would have it.
    world.table.set_txt("k1._tbr.a.example", &[], true);
    let found = world.find("k1", 4 * DAY).await.unwrap();
    assert!(found.assurance == Assurance::Dnssec && !is_known(&found, "k1"));
    // A validated denial of the domain.
    world.table.set_txt(RECORD, &[], true);
    assert!(matches!(world.find("k1", 6 * DAY).await, Err(Failure::NotPublished(_))));
    assert_eq!(world.fetches(), 1);
}

#[tokio::test]
async fn a_selector_in_an_unsigned_zone_is_vouched_for_by_the_document() {
    let world = World::new().await;
    world.table.set_txt(RECORD, &["v=TBR1"], true);
    world.table.set_txt("k1._tbr.a.example", &[&key("k1").to_txt()], false);
    assert_eq!(world.find("k1", Duration::ZERO).await.unwrap().assurance, Assurance::Webpki);
}

#[tokio::test]
async fn made_up_selectors_of_a_signed_domain_are_asked_for_so_often() {
    let world = World::with(&[], |config| config.misses = 5).await;
    world.table.set_txt(RECORD, &["v=TBR1"], true);
    for number in 0..50 {
        let name = format!("x{number}");
        world.table.set_txt(&format!("{name}._tbr.a.example"), &[], true);
        assert!(!is_known(&world.find(&name, Duration::ZERO).await.unwrap(), &name));
    }
    assert_eq!(world.table.all_asked(), 1 + 5);
    world.table.set_txt("k1._tbr.a.example", &[&key("k1").to_txt()], true);
    assert!(is_known(&world.find("k1", 6 * MINUTE).await.unwrap(), "k1"));
}

#[tokio::test]
async fn a_public_suffix_has_no_document() {
    let world = World::new().await;
    world.table.set_txt("_tbr.co.uk", &["v=TBR1"], false);
    let result = world.discovery.find(&domain("co.uk"), &selector("k1"), start()).await;
    assert!(matches!(result, Err(Failure::Unusable { .. })));
    assert_eq!(world.server.connections(), 0);
}

#[tokio::test]
async fn everybody_who_asks_meanwhile_shares_one_look_up() {
    let world = World::new().await;
    let gate = world.table.close_gate();
    let all = futures_util::future::join_all((0..50).map(|_| world.find("k1", Duration::ZERO)));
    let open = async { gate.add_permits(100) };
    let (results, ()) = tokio::join!(all, open);
    assert!(results.iter().all(|r| r.as_ref().is_ok_and(|found| is_known(found, "k1"))));
    assert_eq!((world.table.all_asked(), world.fetches()), (1, 1));
}

#[tokio::test]
async fn different_selectors_of_one_domain_share_what_can_be_shared() {
    let world = World::new().await;
    world.publish(document("a.example", &["k1", "k2"]));
    let (first, second) = tokio::join!(world.find("k1", Duration::ZERO), world.find("k2", Duration::ZERO));
    assert!(is_known(&first.unwrap(), "k1") && is_known(&second.unwrap(), "k2"));
    assert_eq!((world.table.all_asked(), world.fetches()), (1, 1));
}

#[tokio::test]
async fn a_slow_look_up_goes_on_without_the_session() {
    let world = World::with(&["tbr.a.example"], |config| config.session_budget = Duration::from_millis(50)).await;
    let gate = world.table.close_gate();
    let late = world.find("k1", Duration::ZERO).await.unwrap_err();
    assert_eq!(late, Failure::StillLooking(domain("a.example")));
    gate.add_permits(1);
    let there = async { while world.find("k1", Duration::ZERO).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), there).await.expect("it is never there");
    assert_eq!((world.table.all_asked(), world.fetches()), (1, 1));
}

#[tokio::test]
async fn look_ups_under_way_are_bounded() {
    let world = World::with(&[], |config| config.concurrent = 1).await;
    let _gate = world.table.close_gate();
    let names: Vec<Domain> = (0..40).map(|n| domain(&format!("d{n}.example"))).collect();
    let name = selector("k1");
    let mut all: futures_util::stream::FuturesUnordered<_> =
        names.iter().map(|domain| world.discovery.find(domain, &name, start())).collect();
    let first = futures_util::StreamExt::next(&mut all).await.unwrap();
    assert_temporary(&first, "too many look-ups");
    assert!(world.table.all_asked() <= 1);
}

/// The network of this number.
fn network(number: u8) -> Option<Prefix> {
    Some(Prefix::of(Ipv4Addr::new(198, 18, number, 1).into()))
}

/// Begins so many look-ups from this network, of names that nobody answers for: each below a domain of its own.
fn flood(
    world: &World,
    network: Option<Prefix>,
    names: impl IntoIterator<Item = String>,
) -> JoinSet<Result<Found, Failure>> {
    let mut all = JoinSet::new();
    for name in names {
        let (discovery, domain) = (world.discovery.for_stranger(network), domain(&name));
        all.spawn(async move { discovery.find(&domain, &selector("k1"), start()).await });
    }
    all
}

/// So many names are asked for, and no more.
async fn asked_for(world: &World, names: usize) {
    let asked = async {
        while world.table.all_asked() < names {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(MINUTE / 3, asked).await;
    assert!(in_time.is_ok(), "{} of {names}", world.table.all_asked());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.table.all_asked(), names);
}

fn slow(of: &str) -> Vec<String> {
    (0..100).map(|number| format!("slow{number}{of}.example")).collect()
}

#[tokio::test]
async fn slow_names_of_strangers_stop_neither_what_is_known_nor_what_this_server_wants() {
    let world = World::new().await;
    (0..20).flat_map(|number| slow(&format!("-{number}"))).for_each(|name| world.table.never_answers(&name));
    let mut floods: Vec<_> = (0..20).map(|n| flood(&world, network(n), slow(&format!("-{n}")))).collect();
    // They have all places of strangers.
    asked_for(&world, 64).await;
    let _waits = flood(&world, network(50), ["a.example".to_owned()]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ours =
        tokio::time::timeout(MINUTE / 6, world.find("k1", Duration::ZERO)).await.expect("it waits for strangers");
    assert!(is_known(&ours.unwrap(), "k1"));
    // And what is known now is known to strangers too.
    let theirs = world.discovery.for_stranger(network(99));
    assert!(theirs.find(&domain("a.example"), &selector("k1"), start()).await.is_ok());
    let refused = floods[0].join_next().await.unwrap().unwrap();
    assert_temporary(&refused, "too many look-ups");
}

#[tokio::test]
async fn slow_names_of_one_network_or_of_one_domain_leave_places_to_other_strangers() {
    let world = World::new().await;
    slow("").iter().for_each(|name| world.table.never_answers(name));
    world.table.never_answers("example.net");
    let _of_a_network = flood(&world, network(1), slow(""));
    let subdomains = |from: u8| (0..10).map(move |number| format!("{from}-{number}.example.net"));
    let _of_a_domain: Vec<_> = (2..20).map(|from| flood(&world, network(from), subdomains(from))).collect();
    asked_for(&world, 8 + 8).await;
    let other = world.discovery.for_stranger(network(99));
    let found = tokio::time::timeout(MINUTE / 6, other.find(&domain("a.example"), &selector("k1"), start())).await;
    assert!(is_known(&found.expect("it waits for others").unwrap(), "k1"));
}

fn impatient(config: &mut Config) {
    (config.session_budget, config.step_time) = (Duration::from_millis(200), Duration::from_millis(300));
}

#[tokio::test]
async fn who_has_slow_names_looked_up_again_and_again_is_told_only_what_is_known() {
    let world = World::with(&[], impatient).await;
    world.table.never_answers("example");
    let asks = |network: Option<Prefix>, name: String| {
        let discovery = world.discovery.for_stranger(network);
        async move { discovery.find(&domain(&name), &selector("k1"), start()).await }
    };
    let turned_away = |result: &Result<Found, Failure>| matches!(result, Err(Failure::Temporary { .. }));
    for number in 0..18 {
        // Others are answered meanwhile: it is not our name servers.
        let quick = asks(network(2), format!("q{number}.test"));
        let (slow, quick) = tokio::join!(asks(network(1), format!("slow{number}.example")), quick);
        assert_eq!(quick.unwrap_err(), Failure::NotPublished(domain(&format!("q{number}.test"))));
        assert_eq!(turned_away(&slow), number >= 16, "{number}: {slow:?}");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert!(turned_away(&asks(network(1), "quick.test".to_owned()).await));
    let known = asks(network(1), "q0.test".to_owned()).await;
    assert_eq!(known.unwrap_err(), Failure::NotPublished(domain("q0.test")));
}

#[tokio::test]
async fn name_servers_of_ours_that_are_slow_are_nobodys_fault() {
    let world = World::with(&[], impatient).await;
    world.table.never_answers("example");
    for number in 0..18 {
        let name = domain(&format!("slow{number}.example"));
        let slow = world.discovery.for_stranger(network(1)).find(&name, &selector("k1"), start()).await;
        assert_eq!(slow.unwrap_err(), Failure::StillLooking(name));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

#[tokio::test]
async fn hosts_consent_by_record_and_the_answer_is_remembered() {
    let world = World::new().await;
    let (yes, no, ever) = ("a.example._tbr-host.h.example", "b.example._tbr-host.h.example", Duration::ZERO);
    world.table.set_txt(yes, &["v=TBR1"], false);
    let ask = |name: &str, after: Duration| {
        let (discovery, name) = (world.discovery.clone(), domain(name));
        async move { discovery.consents(&name, start().after(after)).await }
    };
    for _ in 0..3 {
        assert_eq!(ask(yes, ever).await, Ok(true));
        assert_eq!(ask(no, ever).await, Ok(false));
    }
    assert_eq!((world.table.asked(yes), world.table.asked(no)), (1, 1));
    world.table.set_txt(no, &["v=TBR1"], false);
    assert_eq!(ask(no, 11 * MINUTE).await, Ok(true));
    world.table.set_error(yes, LookupError::Bogus("bad signature".to_owned()));
    assert!(matches!(ask(yes, 2 * DAY).await, Err(Failure::Bogus { .. })));
    assert!(matches!(ask(yes, 2 * DAY).await, Err(Failure::Bogus { .. })));
    assert_eq!(world.table.asked(yes), 2);
}

async fn publishes(world: &World, after: Duration) -> Result<Option<Assurance>, Failure> {
    world.discovery.publishes(&domain("a.example"), start().after(after), MINUTE).await
}

#[tokio::test]
async fn whether_a_domain_has_keys_is_known_as_surely_as_its_keys() {
    let world = World::new().await;
    assert_eq!(publishes(&world, Duration::ZERO).await, Ok(Some(Assurance::Webpki)));
    assert_eq!(publishes(&world, MINUTE).await, Ok(Some(Assurance::Webpki)));
    assert_eq!((world.table.asked(RECORD), world.fetches()), (1, 1), "both answers are remembered");
    assert!(is_known(&world.find("k1", MINUTE).await.unwrap(), "k1"));
    assert_eq!(world.fetches(), 1, "and serve for finding a key");

    let world = World::new().await;
    world.table.set_txt(RECORD, &["v=TBR1"], true);
    assert_eq!(publishes(&world, Duration::ZERO).await, Ok(Some(Assurance::Dnssec)));
    assert_eq!(world.fetches(), 0);

    let world = World::new().await;
    world.publish(document("a.example", &[]));
    assert_eq!(publishes(&world, Duration::ZERO).await, Ok(None), "a document without keys");

    let world = World::new().await;
    world.table.set_txt(RECORD, &[], false);
    assert_eq!(publishes(&world, Duration::ZERO).await, Ok(None));
    assert_eq!(world.fetches(), 0, "nobody is connected to without a record");
}

#[tokio::test]
async fn what_cannot_be_told_is_no_absence_of_keys() {
    let world = World::new().await;
    world.down.store(true, Ordering::Relaxed);
    assert!(matches!(publishes(&world, Duration::ZERO).await, Err(Failure::Temporary { .. })));

    for error in [LookupError::Temporary("silence".into()), LookupError::Bogus("forged".into())] {
        let world = World::new().await;
        world.table.set_error(RECORD, error);
        assert!(publishes(&world, Duration::ZERO).await.is_err());
        assert_eq!(world.fetches(), 0);
    }

    let world = World::new().await;
    world.table.set_txt(RECORD, &["v=TBR1; repo="], false);
    assert!(matches!(publishes(&world, Duration::ZERO).await, Err(Failure::Unusable { .. })));
}

#[tokio::test]
async fn unsigned_dns_cannot_talk_pinned_keys_away() {
    let world = World::new().await;
    assert_eq!(publishes(&world, Duration::ZERO).await, Ok(Some(Assurance::Webpki)));
    world.table.set_txt(RECORD, &[], false);
    assert_eq!(publishes(&world, 2 * DAY).await, Ok(Some(Assurance::Webpki)));
    assert_eq!(publishes(&world, 8 * DAY).await, Ok(None), "longer than it may be pinned");
}

#[tokio::test]
async fn bogus_answers_that_last_for_a_day_are_no_temporary_failure_any_more() {
    const HOUR: Duration = Duration::from_secs(3600);
    let world = World::new().await;
    let lasting = async |after: Duration| match world.find("k1", after).await {
        Err(Failure::Bogus { lasting, .. }) => lasting,
        other => panic!("{other:?}"),
    };
    world.table.set_error(RECORD, LookupError::Bogus("bad signature".to_owned()));
    for (hours, expected) in [(0, false), (12, false), (23, false), (25, true), (30, true)] {
        assert_eq!(lasting(hours * HOUR).await, expected, "after {hours} hours");
    }
    // An answer that is none begins the time anew.
    world.table.set_txt(RECORD, &["v=TBR1"], false);
    assert!(world.find("k1", 31 * HOUR).await.is_ok());
    world.table.set_error(RECORD, LookupError::Bogus("bad signature".to_owned()));
    assert!(!lasting(60 * HOUR).await);
    // So does a time without questions.
    assert!(!lasting(200 * HOUR).await);
}

#[tokio::test]
async fn pins_outlive_a_restart_but_not_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new().await;
    let open = |at| world.reopened(folder.path(), at);
    let first = open(start());
    assert!(first.find(&domain("a.example"), &selector("k1"), start()).await.is_ok());
    // Another process, while neither name servers nor the web server are what they were.
    world.down.store(true, Ordering::Relaxed);
    world.table.set_txt(RECORD, &[], false);
    for (days, known) in [(1, true), (6, true), (7, false)] {
        let at = start().after(days * DAY);
        let found = open(at).find(&domain("a.example"), &selector("k1"), at).await;
        assert_eq!(found.is_ok(), known, "after {days} days: {found:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "what has ended is removed");
    // What is broken, or was put there under another's name, is passed over.
    for (name, text) in [("a.example.json", "{}"), ("b.example.json", "x"), ("other", "")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    assert!(open(start()).find(&domain("a.example"), &selector("k1"), start()).await.is_err());
}
