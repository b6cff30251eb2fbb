//! The client against repositories that lie, break, stall and lead astray.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mail::ledger::{Coding, Representation};
use mail::tlsa::Tlsa;
use mail::{Domain, EnhancedStatus, Grant, InstanceId, ReferenceId, Timestamp, Xuid};
use reference::Uri;
use reference::body::{JsonBody, MAX_BODY, Revision1, Text};
use reference::claims::{
    ClaimEntry, ClaimsAnswer, ClaimsRequest, ReceiptEntry, ReceiptsAnswer, ReceiptsRequest, WireOutcome, Word,
};
use reference::keys::MAX_DOCUMENT;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;

use super::{Client, Config, Fetch, NoAnswer, Outcome, Repository, Sink, SinkError};
use crate::dns::TlsaSet;
use crate::lookup::{Lookup, LookupError, Txt};
use crate::testing::{Authority, LOCALHOST, Play, Script, Scripted, Table, domain, header};

const HOST: &str = "tbr.a.example";

/// A sink in memory. What it takes for a coding turns every octet round.
#[derive(Default)]
struct Memory {
    octets: Vec<u8>,
    restarts: usize,
    takes_codings: bool,
    representation: Option<Representation>,
    begun: bool,
}

fn turned(octets: &[u8]) -> Vec<u8> {
    octets.iter().map(|octet| !octet).collect()
}

impl Sink for Memory {
    fn takes_codings(&self) -> bool {
        self.takes_codings
    }

    fn held(&self) -> Option<(Representation, u64)> {
        self.representation.clone().map(|representation| (representation, self.octets.len() as u64))
    }

    async fn begin(&mut self, representation: Representation) -> Result<(), SinkError> {
        self.octets.clear();
        self.representation = Some(representation);
        self.restarts += usize::from(std::mem::replace(&mut self.begun, true));
        Ok(())
    }

    async fn write(&mut self, chunk: Bytes) -> Result<(), SinkError> {
        if chunk.starts_with(b"bomb") {
            return Err(SinkError::Wrong("too much of it".to_owned()));
        }
        self.octets.extend_from_slice(&chunk);
        Ok(())
    }

    async fn finish(&mut self) -> Result<Xuid, SinkError> {
        if self.representation.as_ref().is_some_and(|r| r.coding.is_some()) {
            self.octets = turned(&self.octets);
        }
        Ok(Xuid::of(&self.octets))
    }
}

fn config(port: u16) -> Config {
    Config {
        port,
        allow_private: true,
        resumptions: 3,
        resumption_wait: Duration::ZERO,
        rate_grace: Duration::from_secs(20),
        ..Config::default()
    }
}

/// A client and the one scripted repository that it talks to.
struct World {
    server: Scripted,
    client: Client,
    table: Arc<Table>,
    object: Vec<u8>,
    uri: Uri,
}

impl World {
    async fn new(object: &[u8], script: Script) -> Self {
        Self::with(object, script, |_| {}).await
    }

    async fn with(object: &[u8], script: Script, change: impl FnOnce(&mut Config)) -> Self {
        let authority = Authority::new();
        let server = Scripted::new(authority.server(&[HOST]), script).await;
        let table = Table::new();
        let mut config = config(server.port);
        change(&mut config);
        let client = Client::new(authority.client(), Arc::clone(&table) as _, config);
        let grant = Grant::new(&[7; 16]).unwrap();
        let uri = Uri { host: domain(HOST), xuid: Xuid::of(object), grant };
        Self { server, client, table, object: object.to_vec(), uri }
    }

    async fn fetch(&self) -> (Outcome, Memory) {
        self.fetch_within(Duration::from_secs(60)).await
    }

    async fn fetch_within(&self, budget: Duration) -> (Outcome, Memory) {
        self.fetch_into(Memory::default(), budget).await
    }

    /// With a sink that decodes.
    async fn fetch_coded(&self) -> (Outcome, Memory) {
        self.fetch_into(Memory { takes_codings: true, ..Memory::default() }, Duration::from_secs(60)).await
    }

    async fn fetch_into(&self, mut sink: Memory, budget: Duration) -> (Outcome, Memory) {
        let signer = domain("a.example");
        let fetch = Fetch { uri: &self.uri, domain: &signer, size: self.object.len() as u64, budget, signer: None };
        (self.client.fetch(fetch, &mut sink).await, sink)
    }

    async fn expect_done(&self, octets: usize) {
        let (outcome, sink) = self.fetch().await;
        assert_eq!(outcome, Outcome::Done { octets: octets as u64 });
        assert!(sink.octets == self.object);
    }

    async fn expect_temporary(&self, part: &str) {
        let (outcome, _) = self.fetch().await;
        assert_temporary(&outcome, part);
    }

    async fn expect_corrupt(&self, part: &str, requests: usize) {
        let (outcome, _) = self.fetch().await;
        let Outcome::Corrupt { text } = outcome else { panic!("{outcome:?}") };
        assert!(text.contains(part), "{text}");
        assert_eq!(self.server.requests().len(), requests);
    }
}

fn assert_temporary(outcome: &Outcome, part: &str) {
    let Outcome::Temporary { text, .. } = outcome else { panic!("{outcome:?}") };
    assert!(text.contains(part), "{text}");
    assert!(!text.contains(&Grant::new(&[7; 16]).unwrap().reveal()));
}

fn object(size: usize) -> Vec<u8> {
    b"A: b\r\n".iter().copied().cycle().take(size).collect()
}

fn whole(size: usize) -> String {
    format!("200 OK\nETag: \"x\"\nContent-Length: {size}")
}

#[tokio::test]
async fn an_object_is_fetched_and_the_connection_used_again() {
    let content = object(200_000);
    let body = content.clone();
    let world = World::new(&content, Box::new(move |_, _| Play::response(&whole(body.len()), &body))).await;
    world.expect_done(200_000).await;
    world.expect_done(200_000).await;
    assert_eq!(world.server.connections(), 1);
    let request = world.server.requests().remove(0);
    assert!(request.starts_with(&format!("GET {} HTTP/1.1\r\n", world.uri.path_and_query())));
    assert_eq!(header(&request, "host"), Some(HOST));
    assert_eq!(header(&request, "accept-encoding"), Some("identity"));
    assert_eq!(header(&request, "range"), None);
}

#[tokio::test]
async fn a_kept_connection_that_the_host_closed_is_replaced() {
    let content = object(100);
    let body = content.clone();
    // Each connection serves one request and is then cut without a word.
    let script = move |_: usize, _: &str| Play::cut_after(&whole(body.len()), &body);
    let world = World::with(&content, Box::new(script), |c| c.resumptions = 0).await;
    world.expect_done(100).await;
    world.expect_done(100).await;
    assert_eq!(world.server.connections(), 2);
}

#[tokio::test]
async fn a_kept_connection_that_breaks_at_the_next_request_costs_no_attempt() {
    let content = object(100);
    let body = content.clone();
    let script = move |n: usize, _: &str| {
        if n == 1 { vec![Play::Cut] } else { Play::response(&whole(body.len()), &body) }
    };
    let world = World::with(&content, Box::new(script), |c| c.resumptions = 0).await;
    world.expect_done(100).await;
    world.expect_done(100).await;
    assert_eq!((world.server.requests().len(), world.server.connections()), (3, 2));
}

#[tokio::test]
async fn a_break_is_resumed_by_range_under_the_same_etag() {
    let content = object(300_000);
    let body = content.clone();
    let script = move |_: usize, request: &str| match header(request, "range") {
        None => Play::cut_after(&whole(body.len()), &body[..100_000]),
        Some(range) => {
            assert_eq!(header(request, "if-range"), Some("\"x\""));
            let from: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
            let (all, rest) = (body.len(), body.len() - from);
            let head = format!(
                "206 Partial Content\nETag: \"x\"\nContent-Range: bytes {from}-{}/{all}\nContent-Length: {rest}",
                all - 1
            );
            Play::response(&head, &body[from..])
        }
    };
    let world = World::new(&content, Box::new(script)).await;
    let (outcome, sink) = world.fetch().await;
    assert_eq!(outcome, Outcome::Done { octets: 300_000 });
    assert!(sink.octets == content);
    assert_eq!((sink.restarts, world.server.requests().len()), (0, 2));
}

#[tokio::test]
async fn without_a_strong_etag_a_break_means_from_zero() {
    for etag in ["", "\nETag: W/\"x\""] {
        let content = object(1000);
        let body = content.clone();
        let head = format!("200 OK{etag}\nContent-Length: 1000");
        let script = move |n: usize, request: &str| {
            assert_eq!(header(request, "range"), None);
            if n == 0 { Play::cut_after(&head, &body[..500]) } else { Play::response(&head, &body) }
        };
        let world = World::new(&content, Box::new(script)).await;
        let (outcome, sink) = world.fetch().await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        assert!(sink.octets == content && sink.restarts == 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_the_range_asked_for_means_from_zero() {
    for head in [
        "206 Partial Content\nETag: \"x\"\nContent-Range: bytes 400-999/1000\nContent-Length: 600",
        "206 Partial Content\nETag: \"x\"\nContent-Range: bytes 500-998/1000\nContent-Length: 500",
        "206 Partial Content\nETag: \"y\"\nContent-Range: bytes 500-999/1000\nContent-Length: 500",
        "206 Partial Content\nETag: \"x\"\nContent-Length: 500",
        "416 Range Not Satisfiable\nContent-Length: 0",
    ] {
        let content = object(1000);
        let body = content.clone();
        let script = move |n: usize, request: &str| match n {
            0 => Play::cut_after(&whole(1000), &body[..500]),
            1 => Play::response(head, &body[500..]),
            _ => {
                assert_eq!(header(request, "range"), None);
                Play::response(&whole(1000), &body)
            }
        };
        let world = World::new(&content, Box::new(script)).await;
        let (outcome, sink) = world.fetch().await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?} {head}");
        assert!(sink.octets == content && sink.restarts == 1, "{head}");
    }
}

#[tokio::test]
async fn a_200_to_a_range_begins_again() {
    let content = object(1000);
    let body = content.clone();
    let script = move |n: usize, _: &str| match n {
        0 => Play::cut_after(&whole(1000), &[b'z'; 500]),
        _ => Play::response("200 OK\nETag: \"y\"\nContent-Length: 1000", &body),
    };
    World::new(&content, Box::new(script)).await.expect_done(1500).await;
}

#[tokio::test]
async fn a_repository_that_keeps_breaking_is_given_up() {
    let content = object(1000);
    let script = |_: usize, _: &str| Play::cut_after(&whole(1000), b"A: b\r\n");
    let world = World::new(&content, Box::new(script)).await;
    world.expect_temporary("broke").await;
    assert_eq!(world.server.requests().len(), 4);
}

#[tokio::test]
async fn octets_received_are_capped_even_if_every_attempt_brings_many() {
    let content = object(100_000);
    let body = content.clone();
    let script = move |_: usize, _: &str| Play::cut_after("200 OK\nContent-Length: 100000", &body[..90_000]);
    let world = World::new(&content, Box::new(script)).await;
    world.expect_temporary("broke").await;
    // 4 × 100,000 + 64 KiB are passed by the sixth.
    assert_eq!(world.server.requests().len(), 6);
}

#[tokio::test]
async fn a_length_that_is_not_the_signed_one_is_refused_before_the_body() {
    for length in ["999", "1001", "1000000000000"] {
        let script = move |_: usize, _: &str| {
            vec![Play::Write(crate::testing::response(&format!("200 OK\nContent-Length: {length}"), b"")), Play::Stall]
        };
        World::new(&object(1000), Box::new(script)).await.expect_corrupt(length, 2).await;
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_signed_size() {
    let script = |_: usize, _: &str| {
        let head = crate::testing::response("200 OK\nTransfer-Encoding: chunked", b"");
        vec![Play::Write(head), Play::Forever(b"6\r\nA: b\r\n\r\n".repeat(100))]
    };
    World::new(&object(1000), Box::new(script)).await.expect_corrupt("more than 1000", 2).await;
}

#[tokio::test]
async fn more_octets_than_were_signed_are_wrong() {
    let body = [b"7d0\r\n", object(2000).as_slice(), b"\r\n0\r\n\r\n"].concat();
    let script = move |_: usize, _: &str| Play::response("200 OK\nTransfer-Encoding: chunked", &body);
    World::new(&object(1000), Box::new(script)).await.expect_corrupt("more than 1000", 2).await;
}

#[tokio::test]
async fn a_body_that_ends_early_is_wrong() {
    let script =
        |_: usize, _: &str| Play::response("200 OK\nTransfer-Encoding: chunked", b"6\r\nA: b\r\n\r\n0\r\n\r\n");
    World::new(&object(1000), Box::new(script)).await.expect_corrupt("6 of 1000", 2).await;
}

#[tokio::test]
async fn a_wrong_digest_is_fetched_once_more_then_believed_wrong() {
    let content = object(1000);
    let (wrong, right) = (vec![b'x'; 1000], content.clone());
    let always = wrong.clone();
    let world = World::new(&content, Box::new(move |_, _| Play::response(&whole(1000), &always))).await;
    world.expect_corrupt("not those", 2).await;

    let once = move |n: usize, _: &str| Play::response(&whole(1000), if n == 0 { &wrong } else { &right });
    let world = World::new(&content, Box::new(once)).await;
    let (outcome, sink) = world.fetch().await;
    assert_eq!(outcome, Outcome::Done { octets: 2000 });
    assert!(sink.octets == content && sink.restarts == 1);
}

#[tokio::test]
async fn statuses_have_their_outcomes() {
    for (head, expected) in [
        ("404 Not Found\nContent-Length: 0", Outcome::NotFound),
        ("410 Gone\nContent-Length: 0", Outcome::Gone),
        (
            "429 Too Many Requests\nRetry-After: 7\nContent-Length: 0",
            Outcome::Temporary {
                text: "the repository answers 429".to_owned(),
                retry_after: Some(Duration::from_secs(7)),
            },
        ),
        (
            "503 Service Unavailable\nRetry-After: 99999999\nContent-Length: 0",
            Outcome::Temporary {
                text: "the repository answers 503".to_owned(),
                retry_after: Some(Duration::from_secs(86_400)),
            },
        ),
        (
            "206 Partial Content\nContent-Range: bytes 0-99/100\nContent-Length: 100",
            Outcome::Temporary { text: "the repository answers 206".to_owned(), retry_after: None },
        ),
    ] {
        let world = World::new(&object(100), Box::new(move |_, _| Play::response(head, &object(100)))).await;
        assert_eq!(world.fetch().await.0, expected);
        assert_eq!(world.server.requests().len(), 1);
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let head = format!("{status}\nLocation: https://{HOST}/elsewhere\nContent-Length: 0");
        let world = World::new(&object(10), Box::new(move |_, _| Play::response(&head, b""))).await;
        world.expect_temporary("redirects are not followed").await;
        assert_eq!(world.server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_coding_that_was_not_asked_for_is_refused() {
    let content = object(10);
    let body = content.clone();
    let head = "200 OK\nContent-Encoding: gzip\nContent-Length: 10";
    let world = World::new(&content, Box::new(move |_, _| Play::response(head, &body))).await;
    world.expect_temporary("content coding").await;
}

fn zstd(length: usize) -> String {
    format!("200 OK\nContent-Encoding: zstd\nETag: \"z\"\nContent-Length: {length}")
}

#[tokio::test]
async fn a_coding_is_asked_for_where_the_sink_decodes_and_refused_elsewhere() {
    let content = object(100_000);
    let body = turned(&content);
    let world = World::new(&content, Box::new(move |_, _| Play::response(&zstd(100_000), &body))).await;
    let (outcome, sink) = world.fetch_coded().await;
    assert_eq!(outcome, Outcome::Done { octets: 100_000 });
    assert!(sink.octets == content);
    assert_eq!(header(&world.server.requests()[0], "accept-encoding"), Some("zstd"));
    world.expect_temporary("content coding").await;
    assert_eq!(header(&world.server.requests()[1], "accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn a_break_is_resumed_over_the_coded_octets() {
    let content = object(50_000);
    // The length is known from the beginning, or only from the range.
    let chunked = "200 OK\nContent-Encoding: zstd\nETag: \"z\"\nTransfer-Encoding: chunked";
    for (head, before) in [(zstd(50_000), b"".as_slice()), (chunked.to_owned(), b"c350\r\n")] {
        let body = turned(&content);
        let script = move |_: usize, request: &str| match header(request, "range") {
            None => Play::cut_after(&head, &[before, &body[..20_000]].concat()),
            Some(range) => {
                assert_eq!((range, header(request, "if-range")), ("bytes=20000-", Some("\"z\"")));
                assert_eq!(header(request, "accept-encoding"), Some("zstd"));
                // A 206 to If-Range need not say its coding again.
                let range = "bytes 20000-49999/50000";
                let head = format!("206 Partial Content\nETag: \"z\"\nContent-Range: {range}\nContent-Length: 30000");
                Play::response(&head, &body[20_000..])
            }
        };
        let world = World::new(&content, Box::new(script)).await;
        let (outcome, sink) = world.fetch_coded().await;
        assert_eq!(outcome, Outcome::Done { octets: 50_000 });
        assert!(sink.octets == content);
        assert_eq!((sink.restarts, world.server.requests().len()), (0, 2));
    }
}

#[tokio::test]
async fn what_an_earlier_retrieval_has_left_is_gone_on_with() {
    for (coding, name) in [(None, "identity"), (Some(Coding::Zstd), "zstd")] {
        let content = object(1000);
        let stored = if coding.is_some() { turned(&content) } else { content.clone() };
        let body = stored.clone();
        let script = move |_: usize, request: &str| {
            assert_eq!((header(request, "range"), header(request, "if-range")), (Some("bytes=400-"), Some("\"x\"")));
            assert_eq!(header(request, "accept-encoding"), Some(name));
            let head = "206 Partial Content\nETag: \"x\"\nContent-Range: bytes 400-999/1000\nContent-Length: 600";
            Play::response(head, &body[400..])
        };
        let world = World::new(&content, Box::new(script)).await;
        let representation = Representation { coding, tag: Some("\"x\"".into()), size: Some(1000) };
        let left = |held: usize| Memory {
            takes_codings: true,
            octets: stored[..held].to_vec(),
            representation: Some(representation.clone()),
            ..Memory::default()
        };
        let (outcome, sink) = world.fetch_into(left(400), Duration::from_secs(60)).await;
        assert_eq!(outcome, Outcome::Done { octets: 600 });
        assert!(sink.octets == content);
        let (outcome, sink) = world.fetch_into(left(1000), Duration::from_secs(60)).await;
        assert_eq!(outcome, Outcome::Done { octets: 0 }, "all of it was here");
        assert!(sink.octets == content);
        assert_eq!(world.server.requests().len(), 1);
    }
}

#[tokio::test]
async fn what_does_not_decode_is_fetched_once_more_as_it_is() {
    for wrong in [b"bomb".repeat(200), turned(&object(999))] {
        let content = object(1000);
        let body = content.clone();
        let script = move |n: usize, request: &str| match n {
            0 => Play::response(&zstd(wrong.len()), &wrong),
            _ => {
                assert_eq!(header(request, "accept-encoding"), Some("identity"));
                Play::response(&whole(1000), &body)
            }
        };
        let world = World::new(&content, Box::new(script)).await;
        let (outcome, sink) = world.fetch_coded().await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        assert!(sink.octets == content);
        assert_eq!(world.server.requests().len(), 2);
    }
}

#[tokio::test]
async fn coded_octets_are_limited_by_the_signed_size() {
    let chunked = "200 OK\nContent-Encoding: zstd\nTransfer-Encoding: chunked";
    for (head, then) in
        [(zstd(10_000), Play::Stall), (chunked.to_owned(), Play::Forever(b"6\r\nA: b\r\n\r\n".repeat(100)))]
    {
        let script = move |_: usize, _: &str| vec![Play::Write(crate::testing::response(&head, b"")), then.clone()];
        let hasty = |c: &mut Config| (c.resumptions, c.rate_grace) = (3, Duration::from_millis(100));
        let world = World::with(&object(1000), Box::new(script), hasty).await;
        assert_temporary(&world.fetch_coded().await.0, "content coding");
        assert_eq!(world.server.requests().len(), 2, "cut off, and asked for as it is");
    }
}

#[tokio::test]
async fn private_addresses_are_not_connected_to() {
    let content = object(10);
    let body = content.clone();
    let script = move |_: usize, _: &str| Play::response(&whole(10), &body);
    let world = World::with(&content, Box::new(script), |c| c.allow_private = false).await;
    for addresses in [
        ["127.0.0.1"].as_slice(),
        &["::ffff:127.0.0.1"],
        &["10.0.0.1", "192.168.0.1", "fe80::1", "169.254.169.254", "100.64.0.1", "fd00::1", "0.0.0.0"],
    ] {
        world.table.set_host(HOST, addresses);
        world.expect_temporary("may not be connected to").await;
    }
    assert_eq!(world.server.connections(), 0);
}

/// Leads to this machine the first time, and to a victim whenever it is asked again.
#[derive(Default)]
struct Rebinding(AtomicUsize);

impl Lookup for Rebinding {
    fn txt<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, Result<Txt, LookupError>> {
        Box::pin(async { Err(LookupError::Temporary("nobody asks for texts here".to_owned())) })
    }

    fn addresses<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        let again = self.0.fetch_add(1, Ordering::Relaxed) > 0;
        Box::pin(async move { Ok(vec![if again { VICTIM } else { LOCALHOST }]) })
    }

    fn tlsa<'a>(&'a self, _: &'a Domain, _: u16) -> BoxFuture<'a, Result<Option<TlsaSet>, LookupError>> {
        Box::pin(async { Ok(None) })
    }
}

const VICTIM: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[tokio::test]
async fn a_name_that_changes_after_it_was_checked_leads_nowhere_else() {
    let (content, authority) = (object(10), Authority::new());
    let body = content.clone();
    let server =
        Scripted::new(authority.server(&[HOST]), Box::new(move |_, _| Play::response(&whole(10), &body))).await;
    let victim = TcpListener::bind((VICTIM, server.port)).await.unwrap();
    let client = Client::new(authority.client(), Arc::new(Rebinding::default()), config(server.port));
    let uri = Uri { host: domain(HOST), xuid: Xuid::of(&content), grant: Grant::new(&[7; 16]).unwrap() };
    let signer = domain("a.example");
    let fetch = Fetch { uri: &uri, domain: &signer, size: 10, budget: Duration::from_secs(20), signer: None };
    let outcome = client.fetch(fetch, &mut Memory::default()).await;
    assert!(victim.accept().now_or_never().is_none(), "somebody else was connected to");
    assert_eq!(outcome, Outcome::Done { octets: 10 });
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    for fields in [80, 100_000] {
        let script = move |_: usize, _: &str| {
            let fields = "\nX: y".repeat(fields);
            Play::response(&format!("200 OK\nContent-Length: 10{fields}"), &object(10))
        };
        World::new(&object(10), Box::new(script)).await.expect_temporary("broke").await;
    }
    let script = |_: usize, _: &str| {
        Play::response(&format!("200 OK\nContent-Length: 10\nX: {}", "y".repeat(100_000)), &object(10))
    };
    World::new(&object(10), Box::new(script)).await.expect_temporary("broke").await;
}

#[tokio::test]
async fn a_certificate_for_another_name_or_from_nobody_is_refused() {
    let content = object(10);
    let authority = Authority::new();
    for (tls, trust) in [
        (authority.server(&["tbr.other.example"]), authority.client()),
        (Authority::new().server(&[HOST]), authority.client()),
    ] {
        let body = content.clone();
        let server = Scripted::new(tls, Box::new(move |_, _| Play::response(&whole(10), &body))).await;
        let client = Client::new(trust, Table::new(), config(server.port));
        let uri = Uri { host: domain(HOST), xuid: Xuid::of(&content), grant: Grant::new(&[7; 16]).unwrap() };
        let signer = domain("a.example");
        let fetch = Fetch { uri: &uri, domain: &signer, size: 10, budget: Duration::from_secs(60), signer: None };
        assert_temporary(&client.fetch(fetch, &mut Memory::default()).await, "certificate");
        assert_eq!(server.requests().len(), 0);
    }
}

#[tokio::test]
async fn a_repository_slower_than_the_minimum_rate_is_left() {
    let content = object(1000);
    let script =
        |_: usize, _: &str| vec![Play::Write(crate::testing::response(&whole(1000), b"A: b\r\n")), Play::Stall];
    let slow = |c: &mut Config| (c.rate_grace, c.resumptions) = (Duration::from_millis(50), 0);
    World::with(&content, Box::new(script), slow).await.expect_temporary("too slow").await;
}

/// The first half, and then nothing; the rest for a range.
fn half(content: &[u8]) -> Script {
    let body = content.to_vec();
    Box::new(move |_, request| match header(request, "range") {
        None => vec![Play::Write(crate::testing::response(&whole(body.len()), &body[..body.len() / 2])), Play::Stall],
        Some(range) => {
            let from: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
            let all = body.len();
            let head = "206 Partial Content\nETag: \"x\"\nContent-Range: bytes";
            let head = format!("{head} {from}-{}/{all}\nContent-Length: {}", all - 1, all - from);
            Play::response(&head, &body[from..])
        }
    })
}

#[tokio::test]
async fn a_connection_over_which_nothing_comes_any_more_is_left_whatever_came_before() {
    let content = object(200_000);
    // At this rate it has earned a minute.
    let quick = |c: &mut Config| (c.minimum_rate, c.stall_time) = (2_000, Duration::from_millis(500));
    let world = World::with(&content, half(&content), quick).await;
    let fetched = tokio::time::timeout(Duration::from_secs(20), world.expect_done(200_000)).await;
    assert!(fetched.is_ok(), "it waits");
    assert!(world.server.connections() >= 2);
}

#[tokio::test]
async fn what_hangs_when_the_link_is_renewed_goes_on_over_a_new_connection() {
    let content = object(200_000);
    let patient = |c: &mut Config| {
        (c.stall_time, c.rate_grace) = (Duration::from_secs(3600), Duration::from_secs(3600));
        c.sign_of_life = Duration::from_millis(500);
    };
    let world = World::with(&content, half(&content), patient).await;
    let renew = async || loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.client.link_is_new();
    };
    for connections in [2, 4] {
        // The second time the idle connection is one of an old link.
        tokio::select! {
            fetched = tokio::time::timeout(Duration::from_secs(20), world.expect_done(200_000)) => {
                assert!(fetched.is_ok(), "it waits");
            }
            () = renew() => {}
        }
        assert!(world.server.connections() >= connections, "{} connections", world.server.connections());
        world.client.link_is_new();
    }
}

#[tokio::test]
async fn a_repository_that_does_not_answer_is_left() {
    let silent = |c: &mut Config| (c.head_time, c.resumptions) = (Duration::from_millis(50), 0);
    let world = World::with(&object(10), Box::new(|_, _| vec![Play::Stall]), silent).await;
    world.expect_temporary("does not answer").await;
}

#[tokio::test]
async fn the_budget_ends_every_retrieval() {
    let script =
        |_: usize, _: &str| vec![Play::Write(crate::testing::response(&whole(1000), b"A: b\r\n")), Play::Stall];
    let patient = |c: &mut Config| (c.rate_grace, c.resumptions) = (Duration::from_secs(5), 0);
    let world = World::with(&object(1000), Box::new(script), patient).await;
    let (outcome, _) = world.fetch_within(Duration::from_millis(100)).await;
    assert_temporary(&outcome, "takes too long");
}

#[tokio::test]
async fn one_domain_has_no_more_than_its_places() {
    let stall = |c: &mut Config| c.concurrent_per_domain = 1;
    let world = World::with(&object(10), Box::new(|_, _| vec![Play::Stall]), stall).await;
    let first = world.fetch();
    let second = async {
        while world.server.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        world.fetch_within(Duration::from_millis(100)).await
    };
    tokio::select! {
        _ = first => panic!("the first has no answer"),
        (outcome, _) = second => assert_temporary(&outcome, "takes too long"),
    }
    assert_eq!(world.server.requests().len(), 1);
}

#[tokio::test]
async fn one_network_has_no_more_than_its_places_whatever_the_domains() {
    let stall = |c: &mut Config| (c.concurrent_per_network, c.bound_special_networks) = (1, true);
    let world = World::with(&object(10), Box::new(|_, _| vec![Play::Stall]), stall).await;
    let other = domain("b.example");
    let second = async {
        while world.server.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        let budget = Duration::from_millis(100);
        let fetch = Fetch { uri: &world.uri, domain: &other, size: 10, budget, signer: None };
        world.client.fetch(fetch, &mut Memory::default()).await
    };
    tokio::select! {
        _ = world.fetch() => panic!("the first has no answer"),
        outcome = second => assert_temporary(&outcome, "takes too long"),
    }
    assert_eq!(world.server.requests().len(), 1);
}

#[tokio::test]
async fn a_network_where_names_of_many_domains_lead_to_somebody_else_is_left_alone() {
    let bound = |c: &mut Config| c.bound_special_networks = true;
    let world = World::with(&object(10), Box::new(|_, _| Play::response(&whole(10), &object(10))), bound).await;
    let mut outcomes = Vec::new();
    for number in 0..12 {
        // Their certificate is nobody's there: it is not their host.
        let (d, host) = (domain(&format!("bot{number}.example")), domain(&format!("tbr.bot{number}.example")));
        let uri = Uri { host, ..world.uri.clone() };
        let fetch = Fetch { uri: &uri, domain: &d, size: 10, budget: Duration::from_secs(10), signer: None };
        outcomes.push(world.client.fetch(fetch, &mut Memory::default()).await);
    }
    let left_alone = |outcome: &Outcome| matches!(outcome, Outcome::LeftAlone { text } if text.contains("left alone"));
    let asked = outcomes.iter().filter(|outcome| !left_alone(outcome)).count();
    assert_eq!(asked, 8, "{outcomes:?}");
    assert!(outcomes[8..].iter().all(left_alone), "{outcomes:?}");
    let (outcome, _) = world.fetch().await;
    assert!(left_alone(&outcome), "nobody knows yet that this one works: {outcome:?}");
}

#[tokio::test]
async fn a_host_that_has_worked_is_not_left_alone_for_its_neighbours() {
    let bound = |c: &mut Config| (c.bound_special_networks, c.idle_connections) = (true, 0);
    let world = World::with(&object(10), Box::new(|_, _| Play::response(&whole(10), &object(10))), bound).await;
    world.expect_done(10).await;
    for number in 0..12 {
        let (d, host) = (domain(&format!("bot{number}.example")), domain(&format!("tbr.bot{number}.example")));
        let uri = Uri { host, ..world.uri.clone() };
        let fetch = Fetch { uri: &uri, domain: &d, size: 10, budget: Duration::from_secs(10), signer: None };
        assert_ne!(world.client.fetch(fetch, &mut Memory::default()).await, Outcome::Done { octets: 10 });
    }
    world.expect_done(10).await;
}

#[tokio::test]
async fn posts_leave_alone_what_turns_them_away_again_and_again() {
    let script =
        |_: usize, _: &str| vec![Play::Write(crate::testing::response("403 Forbidden\nContent-Length: 0", b""))];
    let world = World::new(b"x", Box::new(script)).await;
    for number in 0..12 {
        let posted = if number % 2 == 0 { world.post_claims().await.err() } else { world.post_receipts().await.err() };
        let none = posted.unwrap();
        assert_eq!(none.status.is_some(), number < 8, "{number}: {none}");
        assert_eq!(none.retry_after.is_some(), number >= 8, "{number}: {none}");
    }
    assert_eq!(world.server.requests().len(), 8);
    let (outcome, _) = world.fetch().await;
    assert!(matches!(&outcome, Outcome::LeftAlone { text } if text.contains("left alone")), "{outcome:?}");
    assert_eq!(world.server.requests().len(), 8, "retrievals leave the pair alone, too");
}

#[tokio::test]
async fn a_sink_that_fails_is_our_own_fault() {
    struct Full;
    impl Sink for Full {
        fn takes_codings(&self) -> bool {
            false
        }
        fn held(&self) -> Option<(Representation, u64)> {
            None
        }
        async fn begin(&mut self, _: Representation) -> Result<(), SinkError> {
            Ok(())
        }
        async fn write(&mut self, _: Bytes) -> Result<(), SinkError> {
            Err(io::Error::from(io::ErrorKind::StorageFull).into())
        }
        async fn finish(&mut self) -> Result<Xuid, SinkError> {
            Ok(Xuid::of(b""))
        }
    }
    let content = object(10);
    let body = content.clone();
    let world = World::new(&content, Box::new(move |_, _| Play::response(&whole(10), &body))).await;
    let signer = domain("a.example");
    let fetch = Fetch { uri: &world.uri, domain: &signer, size: 10, budget: Duration::from_secs(60), signer: None };
    assert_temporary(&world.client.fetch(fetch, &mut Full).await, "cannot be written here");
}

const ID: ReferenceId = ReferenceId([1; 16]);

fn claims() -> ClaimsRequest {
    let grant = Grant::new(&[7; 16]).unwrap();
    let entry = ClaimEntry { to: domain("b.example"), i: ID, grant, n: vec![0, 2], failed: Vec::new(), acted: false };
    ClaimsRequest { v: Revision1, instance: InstanceId([2; 16]), claims: vec![entry] }
}

fn receipts() -> ReceiptsRequest {
    let outcome = WireOutcome {
        n: 0,
        action: mail::ledger::Action::Delivered,
        status: EnhancedStatus::success(0, 0),
        text: Text::default(),
        at: Timestamp::from_secs(1).as_secs(),
        reported: false,
    };
    let grant = Grant::new(&[7; 16]).unwrap();
    let entry = ReceiptEntry { to: domain("b.example"), i: ID, grant, outcomes: vec![outcome] };
    ReceiptsRequest { v: Revision1, instance: InstanceId([2; 16]), receipts: vec![entry] }
}

fn json(body: &str) -> Vec<Play> {
    Play::response(&format!("200 OK\nContent-Type: application/json\nContent-Length: {}", body.len()), body.as_bytes())
}

impl World {
    async fn post_claims(&self) -> Result<ClaimsAnswer, NoAnswer> {
        self.client.post_claims(Repository { d: &domain("a.example"), host: &domain(HOST) }, &claims(), &[]).await
    }

    async fn post_receipts(&self) -> Result<ReceiptsAnswer, NoAnswer> {
        self.client.post_receipts(Repository { d: &domain("a.example"), host: &domain(HOST) }, &receipts(), &[]).await
    }
}

#[tokio::test]
async fn claims_and_receipts_get_their_answers() {
    let script = |_: usize, request: &str| match request.split(' ').nth(1) {
        Some("/.well-known/tbr/claims") => {
            json(&format!(r#"{{"v":1,"claims":[{{"i":"{ID}","answers":[{{"n":2,"is":"granted"}}]}}]}}"#))
        }
        _ => json(&format!(r#"{{"v":1,"receipts":[{{"i":"{ID}","recorded":[0]}}]}}"#)),
    };
    let world = World::new(b"x", Box::new(script)).await;
    let answer = world.post_claims().await.unwrap();
    assert_eq!(answer.claims[0].answers[0].is, Word::Granted);
    let answer = world.post_receipts().await.unwrap();
    assert_eq!(answer.receipts[0].recorded, [0]);
    assert_eq!(world.server.connections(), 1);
    let sent = world.server.requests().remove(0);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert_eq!(header(head, "content-type"), Some("application/json"));
    assert_eq!(ClaimsRequest::parse(body.as_bytes()).unwrap(), claims());
}

#[tokio::test]
async fn whatever_is_not_a_well_formed_answer_is_none() {
    let other = ReferenceId([9; 16]);
    let granted = |i: ReferenceId, n: u16| format!(r#"{{"i":"{i}","answers":[{{"n":{n},"is":"granted"}}]}}"#);
    let good = format!(r#"{{"v":1,"claims":[{}]}}"#, granted(ID, 0));
    let length = good.len();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "status",
            crate::testing::response(
                &format!("201 Created\nContent-Type: application/json\nContent-Length: {length}"),
                good.as_bytes(),
            ),
        ),
        ("status", crate::testing::response("404 Not Found\nContent-Length: 0", b"")),
        ("status", crate::testing::response("500 Oops\nContent-Length: 0", b"")),
        ("status", crate::testing::response("302 Found\nLocation: /x\nContent-Length: 0", b"")),
        (
            "type",
            crate::testing::response(
                &format!("200 OK\nContent-Type: text/html\nContent-Length: {length}"),
                good.as_bytes(),
            ),
        ),
        ("type", crate::testing::response(&format!("200 OK\nContent-Length: {length}"), good.as_bytes())),
    ];
    let bodies = [
        "{}".to_owned(),
        "granted".to_owned(),
        good.replace("\"v\":1", "\"v\":2"),
        format!(r#"{{"v":1,"claims":[{}]}}"#, granted(other, 0)),
        format!(r#"{{"v":1,"claims":[{}]}}"#, granted(ID, 1)),
        format!(r#"{{"v":1,"claims":[{},{}]}}"#, granted(ID, 0), granted(ID, 0).replace("granted", "gone")),
        format!("{good}{}", " ".repeat(MAX_BODY)),
    ];
    let as_response = |body: &String| {
        let head = format!("200 OK\nContent-Type: application/json\nContent-Length: {}", body.len());
        ("body", crate::testing::response(&head, body.as_bytes()))
    };
    for (what, octets) in cases.into_iter().chain(bodies.iter().map(as_response)) {
        let shown = String::from_utf8_lossy(&octets[..octets.len().min(300)]).into_owned();
        let world = World::new(b"x", Box::new(move |_, _| vec![Play::Write(octets.clone())])).await;
        let none = world.post_claims().await.expect_err(&shown);
        assert_eq!(none.status.is_some(), what == "status", "{shown}");
    }
}

#[tokio::test]
async fn a_post_that_hangs_or_never_ends_is_given_up() {
    let head = "200 OK\nContent-Type: application/json\nTransfer-Encoding: chunked";
    let endless = move |_: usize, _: &str| {
        vec![Play::Write(crate::testing::response(head, b"")), Play::Forever(b"4\r\n    \r\n".repeat(1000))]
    };
    let world = World::new(b"x", Box::new(endless)).await;
    let none = world.post_claims().await.unwrap_err();
    assert!(none.text.contains("limit"), "{none}");

    let short = |c: &mut Config| c.exchange_time = Duration::from_millis(100);
    let world = World::with(b"x", Box::new(|_, _| vec![Play::Stall]), short).await;
    let none = world.post_receipts().await.unwrap_err();
    assert!(none.text.contains("in time"), "{none}");
}

#[tokio::test]
async fn a_document_longer_than_its_limit_is_none() {
    let of = |octets: usize| json(&" ".repeat(octets));
    let world = World::new(b"x", Box::new(move |n, _| of(MAX_DOCUMENT + n))).await;
    assert_eq!(world.client.document(&domain(HOST)).await.unwrap().len(), MAX_DOCUMENT);
    assert!(world.client.document(&domain(HOST)).await.is_err());
}

/// A record of the scripted repository's kind: `usage 1 1` of this certificate's key.
fn record(usage: u8, certificate: &CertificateDer<'_>) -> Tlsa {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate).unwrap();
    let key = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parsed.subject_public_key_info());
    Tlsa { usage, selector: 1, matching: 1, data: key.as_ref().to_vec() }
}

/// The certificate that a server shows.
async fn shown(authority: &Authority, port: u16) -> CertificateDer<'static> {
    let stream = authority.connect(port, HOST).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// TBR §5.5: by DANE where validated records exist, by the trusted CAs otherwise.
#[tokio::test]
async fn validated_records_say_what_certificate_a_repository_has() {
    let object = b"Subject: x\r\n\r\n".as_slice();
    let (trusted, stranger) = (Authority::new(), Authority::new());
    let script = || -> Script { Box::new(|_, _| Play::response("200 OK\nContent-Length: 14", b"Subject: x\r\n\r\n")) };
    let ours = Scripted::new(trusted.server(&[HOST]), script()).await;
    let theirs = Scripted::new(stranger.server(&[HOST]), script()).await;
    let (our_key, their_key) = (shown(&trusted, ours.port).await, shown(&stranger, theirs.port).await);
    let uri = Uri { host: domain(HOST), xuid: Xuid::of(object), grant: Grant::new(&[7; 16]).unwrap() };
    let fetch = async |server: &Scripted, records: Option<Result<Vec<Tlsa>, LookupError>>, dane: bool| {
        let table = Table::new();
        if let Some(records) = records {
            table.set_tlsa(HOST, records.map(|records| TlsaSet { base: domain(HOST), records }));
        }
        let config = Config { dane, resumptions: 0, ..config(server.port) };
        let client = Client::new(trusted.client(), table as _, config);
        let signer = domain("a.example");
        let budget = Duration::from_secs(60);
        let fetch = Fetch { uri: &uri, domain: &signer, size: object.len() as u64, budget, signer: None };
        match client.fetch(fetch, &mut Memory::default()).await {
            Outcome::Done { .. } => "done".to_owned(),
            Outcome::Temporary { text, .. } => text,
            other => format!("{other:?}"),
        }
    };
    let only = |usage, key: &CertificateDer<'_>| Some(Ok(vec![record(usage, key)]));
    assert_eq!(fetch(&ours, None, true).await, "done");
    assert!(fetch(&theirs, None, true).await.contains("certificate"));
    // No CA is asked where the domain names the certificate itself, and none can vouch for another one.
    assert_eq!(fetch(&theirs, only(3, &their_key), true).await, "done");
    assert_eq!(fetch(&ours, only(3, &our_key), true).await, "done");
    assert!(fetch(&ours, only(3, &their_key), true).await.contains("no TLSA record"));
    // PKIX-EE: both.
    assert_eq!(fetch(&ours, only(1, &our_key), true).await, "done");
    assert!(fetch(&ours, only(1, &their_key), true).await.contains("no TLSA record"));
    assert!(fetch(&theirs, only(1, &their_key), true).await.contains("certificate"));
    // Records that cannot be used are none; those that cannot be had let nobody connect.
    assert_eq!(fetch(&ours, only(0, &their_key), true).await, "done");
    assert!(fetch(&theirs, only(0, &their_key), true).await.contains("certificate"));
    let connections = ours.connections();
    let bogus = || Some(Err(LookupError::Bogus("forged".into())));
    assert!(fetch(&ours, bogus(), true).await.contains("forged"));
    assert_eq!(ours.connections(), connections);
    assert_eq!(fetch(&ours, bogus(), false).await, "done");
}
