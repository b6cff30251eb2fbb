//! Several requests at a time on one connection: this crate's own client, and clients that ask and do not take.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use hyper::{Request, StatusCode};
use mail::{Domain, Xuid};
use reference::Uri;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Limits;
use super::tests::{HOST, PATIENCE, State, World, grant, object};
use crate::retrieval::{self, Client, Fetch, Outcome, Sink, SinkError};
use crate::testing::{LOCALHOST, Table, domain};
use crate::tls::HTTP_2;

/// A sink in memory.
#[derive(Default)]
struct Memory(Vec<u8>);

impl Sink for Memory {
    fn takes_codings(&self) -> bool {
        false
    }

    fn held(&self) -> Option<(mail::ledger::Representation, u64)> {
        None
    }

    async fn begin(&mut self, _: mail::ledger::Representation) -> Result<(), SinkError> {
        self.0.clear();
        Ok(())
    }

    async fn write(&mut self, chunk: Bytes) -> Result<(), SinkError> {
        self.0.extend_from_slice(&chunk);
        Ok(())
    }

    async fn finish(&mut self) -> Result<Xuid, SinkError> {
        Ok(Xuid::of(&self.0))
    }
}

/// One connection is all that a client of this world may have.
async fn alone(change: impl FnOnce(&mut Limits)) -> World {
    World::with(|limits| {
        limits.connections_per_peer = 1;
        change(limits);
    })
    .await
}

fn client(world: &World, several_at_once: Vec<Domain>) -> Client {
    client_with(world, several_at_once, |_| {})
}

fn client_with(world: &World, several_at_once: Vec<Domain>, change: impl FnOnce(&mut retrieval::Config)) -> Client {
    let mut config = retrieval::Config {
        port: world.port,
        allow_private: true,
        resumption_wait: Duration::from_millis(50),
        resumptions: 20,
        several_at_once,
        ..retrieval::Config::default()
    };
    change(&mut config);
    Client::new(world.authority.client(), Table::new(), config)
}

async fn fetch(client: &Client, octets: &Bytes, by: u8) -> Outcome {
    let uri = Uri { host: domain(HOST), xuid: Xuid::of(octets), grant: grant(by) };
    let (domain, budget) = (&domain("a.example"), PATIENCE);
    let fetch = Fetch { uri: &uri, domain, size: octets.len() as u64, budget, signer: None };
    client.fetch(fetch, &mut Memory::default()).await
}

#[tokio::test]
async fn several_objects_come_at_a_time_over_one_connection() {
    let world = alone(|_| {}).await;
    let (large, small) = (object(300_000), object(20_000));
    world.put(State::Gated, &large, &grant(1));
    world.put(State::Here, &small, &grant(2));
    let client = client(&world, vec![domain(HOST)]);
    let waiting = tokio::spawn({
        let (client, large) = (client.clone(), large.clone());
        async move { fetch(&client, &large, 1).await }
    });
    // It stands still.
    world.shelf.reading.notified().await;
    for _ in 0..3 {
        assert_eq!(fetch(&client, &small, 2).await, Outcome::Done { octets: 20_000 });
    }
    assert!(!waiting.is_finished());
    world.shelf.gate.add_permits(100);
    assert_eq!(waiting.await.unwrap(), Outcome::Done { octets: 300_000 });
}

#[tokio::test]
async fn the_smallest_of_what_was_asked_for_is_whole_first() {
    let world = alone(|_| {}).await;
    let sizes = [8_000_000, 2_000_000, 4_000_000, 30_000];
    let paths: Vec<String> = sizes.iter().map(|size| world.put(State::Here, &object(*size), &grant(1))).collect();
    let (mut sender, _connection) = other(&world, 1 << 20).await;
    let asked: Vec<ResponseFuture> = paths.iter().map(|path| ask(&mut sender, path).unwrap()).collect();
    let ended = Arc::new(std::sync::Mutex::new(Vec::new()));
    let reading = asked.into_iter().zip(sizes).map(|(response, size)| {
        let ended = Arc::clone(&ended);
        async move {
            let mut body = response.await.unwrap().into_body();
            while let Some(chunk) = body.data().await {
                body.flow_control().release_capacity(chunk.unwrap().len()).unwrap();
            }
            ended.lock().unwrap().push(size);
        }
    });
    futures_util::future::join_all(reading).await;
    let ended = ended.lock().unwrap().clone();
    assert_eq!(ended, [30_000, 2_000_000, 4_000_000, 8_000_000]);
}

#[tokio::test]
async fn objects_do_not_come_over_the_connection_that_a_list_came_over() {
    let world = alone(|limits| limits.connections_per_peer = 2).await;
    let (large, small) = (object(300_000), object(20_000));
    world.put(State::Gated, &large, &grant(1));
    world.put(State::Here, &small, &grant(2));
    let client = client(&world, vec![domain(HOST)]);
    let said = async |client: &Client| client.document(&domain(HOST)).await.is_ok();
    assert!(said(&client).await);
    let waiting = async { fetch(&client, &large, 1).await };
    let others = async {
        world.shelf.reading.notified().await;
        let both = (fetch(&client, &small, 2).await, said(&client).await);
        world.shelf.gate.add_permits(100);
        both
    };
    let (waited, others) = tokio::join!(waiting, others);
    assert_eq!((waited, others), (Outcome::Done { octets: 300_000 }, (Outcome::Done { octets: 20_000 }, true)));
}

#[tokio::test]
async fn a_host_that_is_not_asked_for_it_takes_one_request_at_a_time() {
    let world = alone(|limits| limits.connections_per_peer = 2).await;
    let (large, small) = (object(300_000), object(20_000));
    world.put(State::Gated, &large, &grant(1));
    world.put(State::Here, &small, &grant(2));
    let client = client(&world, Vec::new());
    let waiting = async { fetch(&client, &large, 1).await };
    let others = async {
        let outcome = fetch(&client, &small, 2).await;
        world.shelf.gate.add_permits(100);
        outcome
    };
    let (waited, other) = tokio::join!(waiting, others);
    assert_eq!((waited, other), (Outcome::Done { octets: 300_000 }, Outcome::Done { octets: 20_000 }));
}

#[tokio::test]
async fn a_retrieval_goes_on_over_another_connection() {
    let world = alone(|limits| limits.requests = 3).await;
    let octets = object(5000);
    world.put(State::Here, &octets, &grant(1));
    let client = client(&world, vec![domain(HOST)]);
    // Each connection takes three requests, and then no more.
    for _ in 0..10 {
        assert_eq!(fetch(&client, &octets, 1).await, Outcome::Done { octets: 5000 });
    }
}

/// Leads to this world's server, so fast and no faster; the port.
async fn slowed(world: &World, octets: usize, pause: Duration) -> u16 {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let (port, to) = (listener.local_addr().unwrap().port(), world.port);
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = TcpStream::connect((LOCALHOST, to)).await.unwrap().into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let mut chunk = vec![0; octets];
        while let Ok(read @ 1..) = from_server.read(&mut chunk).await {
            to_client.write_all(&chunk[..read]).await.unwrap();
            tokio::time::sleep(pause).await;
        }
    });
    port
}

#[tokio::test]
async fn what_waits_behind_smaller_objects_is_not_given_up() {
    let world = alone(|_| {}).await;
    let (large, small) = (object(40_000_000), object(20_000_000));
    world.put(State::Here, &large, &grant(1));
    world.put(State::Here, &small, &grant(2));
    // The smaller one takes longer than a silence may last.
    let port = slowed(&world, 64 * 1024, Duration::from_millis(4)).await;
    let client = client_with(&world, vec![domain(HOST)], |config| {
        (config.port, config.resumptions, config.stall_time) = (port, 0, Duration::from_millis(300));
    });
    let smaller = async {
        world.shelf.reading.notified().await;
        fetch(&client, &small, 2).await
    };
    let (larger, smaller) = tokio::join!(fetch(&client, &large, 1), smaller);
    assert_eq!((larger, smaller), (Outcome::Done { octets: 40_000_000 }, Outcome::Done { octets: 20_000_000 }));
}

/// A client of another make, and what drives its connection until that ends.
async fn other(world: &World, window: u32) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let mut tls = ClientConfig::clone(&world.authority.client());
    tls.alpn_protocols = vec![HTTP_2.to_vec()];
    let stream = TcpStream::connect((LOCALHOST, world.port)).await.unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect(HOST.try_into().unwrap(), stream).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (sender, connection) = builder.initial_window_size(window).handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn ask(sender: &mut SendRequest<Bytes>, path: &str) -> Result<ResponseFuture, h2::Error> {
    let request = Request::builder().uri(format!("https://{HOST}{path}")).body(()).unwrap();
    Ok(sender.send_request(request, true)?.0)
}

/// Soon there is no connection any more.
async fn expect_end(connection: JoinHandle<Result<(), h2::Error>>) {
    let _ = timeout(PATIENCE, connection).await.expect("the server keeps the connection");
}

#[tokio::test]
async fn who_asks_and_takes_nothing_is_cut_off() {
    let world = alone(|limits| limits.rate_grace = Duration::from_millis(300)).await;
    let path = world.put(State::Here, &object(100_000), &grant(1));
    let (mut sender, connection) = other(&world, 0).await;
    let response = ask(&mut sender, &path).unwrap().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    expect_end(connection).await;
    // Somebody else has the only place now.
    let (mut sender, connection) = other(&world, 1 << 20).await;
    let mut body = ask(&mut sender, &path).unwrap().await.unwrap().into_body();
    let mut taken = 0;
    while let Some(chunk) = body.data().await {
        let length = chunk.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
        taken += length;
    }
    assert_eq!(taken, 100_000);
    assert!(!connection.is_finished());
}

#[tokio::test]
async fn who_asks_for_nothing_any_more_has_to_go() {
    let world = alone(|limits| {
        limits.rate_grace = Duration::from_millis(100);
        limits.header_time = Duration::from_millis(300);
    })
    .await;
    let (mut sender, connection) = other(&world, 1 << 16).await;
    let response = ask(&mut sender, "/nothing").unwrap().await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    drop(response);
    expect_end(connection).await;
}

#[tokio::test]
async fn who_begins_and_resets_without_end_is_cut_off() {
    let world = alone(|limits| limits.requests = 200).await;
    let path = world.put(State::Gated, &object(100_000), &grant(1));
    let (sender, connection) = other(&world, 1 << 16).await;
    let mut begun = 0;
    while begun < 10_000 && !connection.is_finished() {
        let Ok(mut ready) = sender.clone().ready().await else { break };
        // Dropped at once: reset.
        let _ = ask(&mut ready, &path);
        begun += 1;
        tokio::task::yield_now().await;
    }
    assert!(begun < 10_000, "nothing ends it");
    drop(sender.ready().await);
    expect_end(connection).await;
}

#[tokio::test]
async fn after_shutdown_what_is_under_way_comes_to_its_end() {
    let world = alone(|_| {}).await;
    let octets = object(100_000);
    world.put(State::Gated, &octets, &grant(1));
    let client = client(&world, vec![domain(HOST)]);
    let (shutdown, gate) = (world.shutdown.clone(), Arc::clone(&world.shelf.gate));
    let ending = async {
        world.shelf.reading.notified().await;
        shutdown.cancel();
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.add_permits(100);
    };
    let (outcome, ()) = tokio::join!(fetch(&client, &octets, 1), ending);
    assert_eq!(outcome, Outcome::Done { octets: 100_000 });
    timeout(PATIENCE, world.server).await.expect("the server ends").unwrap();
}
