//! Domains with one mail exchanger: what they share, and what they do not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use smtp::command::Tbr;

use super::*;
use crate::loopback::{Scripted, Server, World, domain, envelope, relay};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nend\r\n";

/// Any number of domains with `mx.b.example` for their exchanger.
fn zone(domains: &[String]) -> String {
    let exchangers: String = domains.iter().map(|domain| format!("{domain} MX 10 mx.b.example\n")).collect();
    format!("{exchangers}mx.b.example A 127.0.0.1\nmx.c.example A 127.0.0.1\n")
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("d{number}.example")).collect()
}

fn to(name: &str) -> Destination {
    Destination::exchangers_of(domain(name))
}

async fn send(client: &Client, name: &str) -> Result<Fate, ConnectError> {
    let mut session = client.connect(&to(name)).await?;
    let content = stream::iter([Ok::<_, io::Error>(Bytes::from_static(MESSAGE))]);
    let recipient = format!("bob@{name}");
    let done = session.by_value(&envelope(&[&recipient]), Bytes::new(), content, MESSAGE.len() as u64).await;
    session.release();
    Ok(done.fates[0].clone())
}

async fn offer(client: &Client, name: &str) -> Fate {
    let mut session = client.connect(&to(name)).await.unwrap();
    assert!(session.capabilities().tbr);
    let line = Tbr::parse("0 https://tbr.a.example/.well-known/tbr/m?XUID=x&RCPT=y").unwrap();
    let block = Bytes::from_static(b"TBR-Reference: v=1\r\n");
    let done = session.offer(&envelope(&[&format!("bob@{name}")]), line, block).await;
    session.release();
    done.fates[0].clone()
}

async fn all_accepted(client: &Client, names: &[String]) -> bool {
    let fates = join_all(names.iter().map(|name| send(client, name))).await;
    fates.iter().all(|fate| fate.as_ref().is_ok_and(Fate::is_accepted))
}

/// Whom a server was given something for, in no order.
fn recipients(server: &Server) -> Vec<String> {
    let mut all: Vec<String> = server.recorder.received().into_iter().flat_map(|got| got.recipients).collect();
    all.sort();
    all
}

#[tokio::test]
async fn domains_with_one_exchanger_share_its_connections() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let names = names(5);
    let client = Client::new(world.settings(server.address.port()), world.resolver(&zone(&names)));
    for name in &names {
        assert!(send(&client, name).await.unwrap().is_accepted());
    }
    assert_eq!(server.recorder.connects(), 1);
    assert_eq!(recipients(&server), names.iter().map(|name| format!("bob@{name}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn over_a_new_link_only_what_is_in_use_is_used_on() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let names = names(2);
    let client = Client::new(world.settings(server.address.port()), world.resolver(&zone(&names)));
    let [first, second] = [&names[0], &names[1]];
    assert!(send(&client, first).await.unwrap().is_accepted());
    client.link_is_new();
    assert!(send(&client, second).await.unwrap().is_accepted());
    assert_eq!(server.recorder.connects(), 2, "the idle one is not used any more");
    let content = stream::iter([Ok::<_, io::Error>(Bytes::from_static(MESSAGE))]);
    let mut session = client.connect(&to(first)).await.unwrap();
    client.link_is_new();
    let envelope = envelope(&[&format!("bob@{first}")]);
    let done = session.by_value(&envelope, Bytes::new(), content, MESSAGE.len() as u64).await;
    assert!(done.fates[0].is_accepted());
    session.release();
    assert!(send(&client, second).await.unwrap().is_accepted());
}

#[tokio::test]
async fn many_offers_at_once_need_few_connections() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let names = names(60);
    let client = Client::new(world.settings(server.address.port()), world.resolver(&zone(&names)));
    let fates = join_all(names.iter().map(|name| offer(&client, name))).await;
    assert!(fates.iter().all(Fate::is_accepted), "{fates:?}");
    assert_eq!(recipients(&server).len(), names.len());
    assert!(server.recorder.connects() <= 8, "{} connections", server.recorder.connects());
}

#[tokio::test]
async fn no_host_gets_more_connections_than_it_may() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let names = names(30);
    let settings = Settings { connections_per_host: 3, ..world.settings(server.address.port()) };
    let client = Client::new(settings, world.resolver(&zone(&names)));
    assert!(all_accepted(&client, &names).await);
    assert!(server.recorder.connects() <= 3, "{} connections", server.recorder.connects());
}

#[tokio::test]
async fn a_host_that_lets_us_have_one_connection_is_used_with_one() {
    let world = World::new();
    let greeted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&greeted);
    let peer = Scripted::start(move |line| match line.split(' ').next().unwrap_or_default() {
        "EHLO" if count.fetch_add(1, Ordering::SeqCst) > 0 => "421 4.7.0 one is enough\r\n".to_owned(),
        "EHLO" => "250-peer.example\r\n250 PIPELINING\r\n".to_owned(),
        "DATA" => "354 go\r\n".to_owned(),
        _ => "250 ok\r\n".to_owned(),
    })
    .await;
    let names = names(10);
    let client = Client::new(world.settings(peer.address.port()), world.resolver(&zone(&names)));
    assert!(all_accepted(&client, &names).await);
    assert!(greeted.load(Ordering::SeqCst) <= 2, "it is not asked again and again");
}

#[tokio::test]
async fn a_host_that_turns_us_away_is_asked_once_for_all_who_wait() {
    let world = World::new();
    let peer = Scripted::start(|_| "421 4.3.2 not now\r\n".to_owned()).await;
    let names = names(20);
    let client = Client::new(world.settings(peer.address.port()), world.resolver(&zone(&names)));
    let sent = join_all(names.iter().map(|name| send(&client, name))).await;
    assert!(sent.iter().all(|sent| sent.as_ref().is_err_and(|error| error.text.contains("not now"))), "{sent:?}");
    assert!(peer.connects.load(Ordering::SeqCst) < 5, "{} connections", peer.connects.load(Ordering::SeqCst));
}

/// Policies of domains as they would lie on disk from an earlier run.
async fn with_policies(world: &World, port: u16, zone: &str, policies: &[(&str, &str)]) -> Client {
    let folder = world.ca.folder.path().join("policies");
    std::fs::create_dir_all(&folder).unwrap();
    let now = crate::wire::Clock::new().now();
    let fetched = serde_json::to_string(&now).unwrap();
    for (domain, mx) in policies {
        let policy = format!(r#"{{"mode":"enforce","mx":["{mx}"],"max_age":86400}}"#);
        let entry = format!(r#"{{"domain":"{domain}","id":"1","fetched":{fetched},"policy":{policy}}}"#);
        std::fs::write(folder.join(format!("{domain}.json")), entry).unwrap();
    }
    let lookup = Arc::new(world.resolver(zone));
    let tls = ClientTls::new(&crate::tls::Trust::CaFile(world.ca.ca_file())).unwrap();
    let retrieval = crate::retrieval::Client::new(tls.verified, lookup.clone(), crate::retrieval::Config::default());
    let policies = MtaSts::new(lookup, retrieval, Some(&folder), now).unwrap();
    Client::new(Settings { mta_sts: Some(policies), ..world.settings(port) }, world.resolver(zone))
}

#[tokio::test]
async fn a_connection_serves_those_who_demand_the_same() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let zone = "b.example MX 10 mx.b.example\nd.example MX 10 mx.b.example\nc.example MX 10 mx.b.example
e.example MX 10 mx.c.example\nmx.b.example A 127.0.0.1\nmx.c.example A 127.0.0.1\n";
    let host = "mx.b.example";
    let policies = [("b.example", host), ("d.example", host), ("e.example", "mx.c.example")];
    let client = with_policies(&world, server.address.port(), zone, &policies).await;
    let demand = async |name: &str| client.connect(&to(name)).await.map(|session| session.security().clone());
    // Nobody asks for more than TLS: that does not do for those who ask for a certificate.
    assert!(send(&client, "c.example").await.unwrap().is_accepted());
    assert_eq!(demand("b.example").await, Ok(Security::WebPki));
    assert!(send(&client, "b.example").await.unwrap().is_accepted());
    assert_eq!(server.recorder.connects(), 2);
    // Two who ask for the same of the same host share.
    assert!(send(&client, "d.example").await.unwrap().is_accepted());
    assert!(send(&client, "c.example").await.unwrap().is_accepted());
    assert_eq!(server.recorder.connects(), 2);
    // The same address by another name: the certificate that was shown is not for that.
    let refused = send(&client, "e.example").await;
    assert!(refused.as_ref().is_err_and(|error| error.text.contains("TLS cannot be negotiated")), "{refused:?}");
    assert!(!recipients(&server).contains(&"bob@e.example".to_owned()));
}

#[tokio::test]
async fn what_requires_tls_shares_no_connection_that_does_not_promise_it() {
    let world = World::new();
    let mut settings = relay(&world.ca);
    settings.smtp.requiretls = true;
    let server = Server::start(settings).await;
    let zone = zone(&["b.example".to_owned()]);
    let client = with_policies(&world, server.address.port(), &zone, &[("b.example", "mx.b.example")]).await;
    assert!(send(&client, "b.example").await.unwrap().is_accepted());
    let required = Destination { asks: MessageTls::Required, ..to("b.example") };
    client.connect(&required).await.unwrap().release();
    assert_eq!(server.recorder.connects(), 2);
    let optional = Destination { asks: MessageTls::Optional, ..to("b.example") };
    assert_eq!(client.connect(&optional).await.unwrap().security(), &Security::Opportunistic);
    assert_eq!(server.recorder.connects(), 3);
}

#[tokio::test]
async fn a_login_is_shared_with_nobody() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let port = server.address.port();
    let client = world.client(port);
    let open = Destination { route: Route::Host(domain("mx.b.example"), port), ..to("b.example") };
    client.connect(&open).await.unwrap().release();
    let login = Some(Login { user: "alice".into(), password: Secret::new("secret") });
    // The relay has no AUTH: had the open connection been taken, this would go well.
    assert!(client.connect(&Destination { login, ..open }).await.is_err());
}
