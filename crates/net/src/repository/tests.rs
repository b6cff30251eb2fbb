//! The server against clients that guess, lie, stall and crowd.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::stream;
use mail::ledger::{Coded, Coding};
use mail::{Domain, Grant, Holder, InstanceId, ReferenceId, Xuid};
use reference::body::{JsonBody, MAX_BODY, MAX_ENTRIES, Revision1};
use reference::claims::{
    AnsweredClaim, ClaimsAnswer, ClaimsRequest, IndexAnswer, ReceiptsAnswer, ReceiptsRequest, RecordedReceipt, Word,
};
use reference::delegate::{DELEGATE_PATH, DelegateAnswer, DelegateRequest};
use reference::message_signature::{KeyId, SignedBy};
use reference::{DomainFacts, KeyRecord};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{Busy, Chunks, Limits, Located, Replays, Repository, serve};
use crate::acme::tls_alpn_01;
use crate::testing::{Authority, LOCALHOST, domain, header};
use crate::tls::{HTTP_1, HTTP_2};
use crate::wire::now;

pub(super) const HOST: &str = "tbr.a.example";
/// Nothing here takes longer, unless a check is missing.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq)]
pub(super) enum State {
    Here,
    Gone,
    Unavailable,
    /// Its grant leads to another object than the one that was asked for.
    Swapped,
    /// Its chunks come only after permits were added to the gate.
    Gated,
    /// Its chunks end before its size.
    Short,
    /// Stored as [`CODED`].
    Coded,
}

/// The server never looks into it.
const CODED: &[u8] = b"these are coded octets";

fn coded() -> Coded {
    Coded { coding: Coding::Zstd, digest: Xuid::of(CODED), size: CODED.len() as u64 }
}

/// A repository in memory.
pub(super) struct Shelf {
    objects: Mutex<HashMap<(Xuid, String), (State, Bytes)>>,
    served: mpsc::UnboundedSender<u64>,
    pub(super) gate: Arc<Semaphore>,
    pub(super) reading: Arc<Notify>,
}

impl Repository for Shelf {
    type Handle = (State, Bytes);

    async fn binding(&self, _: Vec<Grant>) -> Result<Vec<Domain>, Busy> {
        Ok(Vec::new())
    }

    async fn key(&self, id: &KeyId) -> Result<(Holder, KeyRecord), Busy> {
        panic!("nobody is bound, and {id} is looked up")
    }

    async fn locate(&self, xuid: Xuid, grant: &Grant, _: SignedBy) -> Located<Self::Handle> {
        let found = self.objects.lock().unwrap().get(&(xuid, grant.reveal())).cloned();
        let busy = Busy { retry_after: Duration::from_millis(6001) };
        match found {
            None => Located::Unknown,
            Some((State::Gone, _)) => Located::Gone,
            Some((State::Unavailable, _)) => Located::Unavailable(busy),
            Some(found @ (State::Swapped, _)) => {
                Located::Object { xuid: Xuid::of(b"x"), size: 1, coded: None, handle: found }
            }
            Some(found) => {
                let coded = (found.0 == State::Coded).then(coded);
                Located::Object { xuid, size: found.1.len() as u64, coded, handle: found }
            }
        }
    }

    async fn read(
        &self,
        (state, octets): Self::Handle,
        coding: Option<Coding>,
        range: Range<u64>,
    ) -> io::Result<Chunks> {
        let octets = if coding.is_some() { Bytes::from_static(CODED) } else { octets };
        let mut octets = octets.slice(range.start as usize..range.end as usize);
        if state == State::Short {
            octets.truncate(octets.len() / 2);
        }
        self.reading.notify_one();
        let gate = Arc::clone(&self.gate);
        Ok(Box::pin(stream::unfold(octets, move |mut octets| {
            let gate = Arc::clone(&gate);
            async move {
                if state == State::Gated {
                    gate.acquire().await.unwrap().forget();
                }
                let chunk = octets.split_to(octets.len().min(64 * 1024));
                (!chunk.is_empty()).then_some((Ok(chunk), octets))
            }
        })))
    }

    async fn claims(&self, request: ClaimsRequest, _: SignedBy) -> Result<ClaimsAnswer, Busy> {
        let granted = |n: &u16| IndexAnswer { n: *n, is: Word::Granted };
        let known = request.claims.iter().filter(|entry| entry.to.as_str() == "b.example");
        let claims = known.map(|e| AnsweredClaim { i: e.i, answers: e.n.iter().map(granted).collect() }).collect();
        Ok(ClaimsAnswer { v: Revision1, claims })
    }

    async fn receipts(&self, request: ReceiptsRequest, _: SignedBy) -> Result<ReceiptsAnswer, Busy> {
        if request.instance == InstanceId([9; 16]) {
            return Err(Busy { retry_after: Duration::from_secs(3) });
        }
        let known = request.receipts.iter().filter(|entry| entry.to.as_str() == "b.example");
        let receipts = known.map(|e| RecordedReceipt { i: e.i, recorded: vec![0] }).collect();
        Ok(ReceiptsAnswer { v: Revision1, receipts })
    }

    async fn delegate(&self, request: DelegateRequest, _: SignedBy) -> Result<Option<DelegateAnswer>, Busy> {
        Ok((request.to.as_str() == "b.example").then_some(DelegateAnswer { v: Revision1, is: Word::Taken }))
    }

    async fn document(&self, domain: &Domain) -> Option<DomainFacts> {
        (domain.as_str() == "a.example").then(|| DomainFacts {
            domain: domain.clone(),
            repo: vec![HOST.parse().unwrap()],
            sub: false,
            keys: Vec::new(),
            max_age: Duration::from_secs(600),
        })
    }

    fn mta_sts(&self, domain: &Domain) -> Option<String> {
        (domain.as_str() == "a.example").then(|| "version: STSv1\r\n".to_owned())
    }

    fn served(&self, _: &Grant, octets: u64) {
        // Nobody may be listening any more.
        let _ = self.served.send(octets);
    }
}

pub(super) struct World {
    pub(super) port: u16,
    pub(super) authority: Authority,
    pub(super) shelf: Arc<Shelf>,
    served: mpsc::UnboundedReceiver<u64>,
    pub(super) shutdown: CancellationToken,
    pub(super) server: JoinHandle<()>,
}

pub(super) fn grant(octet: u8) -> Grant {
    Grant::new(&[octet; 16]).unwrap()
}

pub(super) fn object(size: usize) -> Bytes {
    (0..size).map(|n| b"abcdefghij"[n % 10]).collect()
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let authority = Authority::new();
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, served) = mpsc::unbounded_channel();
        let shelf = Shelf {
            objects: Mutex::default(),
            served: sender,
            gate: Arc::new(Semaphore::new(0)),
            reading: Arc::default(),
        };
        let (shelf, shutdown) = (Arc::new(shelf), CancellationToken::new());
        let mut limits = Limits::default();
        change(&mut limits);
        let mut tls = ServerConfig::clone(&authority.server(&[HOST, "tbr.other.example", "www.a.example"]));
        tls.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec(), tls_alpn_01::PROTOCOL.to_vec()];
        let tls = Arc::new(tls);
        let replays = Arc::new(Replays::new(now()));
        let server = tokio::spawn(serve(listener, tls, Arc::clone(&shelf), replays, limits, shutdown.clone()));
        Self { port, authority, shelf, served, shutdown, server }
    }

    /// Puts an object on the shelf; its path.
    pub(super) fn put(&self, state: State, octets: &Bytes, by: &Grant) -> String {
        let xuid = Xuid::of(octets);
        self.shelf.objects.lock().unwrap().insert((xuid, by.reveal()), (state, octets.clone()));
        path(xuid, by)
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.authority.connect(self.port, HOST).await
    }

    /// Sends a request on a connection of its own and reads the response to the end.
    async fn ask(&self, request: &str) -> Answer {
        self.ask_by(HOST, request).await
    }

    async fn ask_by(&self, sni: &str, request: &str) -> Answer {
        let mut stream = self.authority.connect(self.port, sni).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut stream, request.starts_with("HEAD")).await
    }

    async fn get(&self, path: &str, fields: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")).await
    }

    async fn post(&self, path: &str, kind: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {kind}\r\nContent-Length: {length}");
        self.ask(&format!("{head}\r\n\r\n{body}")).await
    }
}

fn path(xuid: Xuid, by: &Grant) -> String {
    format!("/.well-known/tbr/m?XUID={xuid}&RCPT={}", by.reveal())
}

pub(super) struct Answer {
    head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// All but the date.
    pub(super) fn without_date(&self) -> (String, Vec<u8>) {
        let lines = self.head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
        (lines.collect::<Vec<_>>().join("\r\n"), self.body.clone())
    }
}

/// One response; what a cut connection still brought, if it breaks.
pub(super) async fn read_answer(stream: &mut TlsStream<TcpStream>, head_only: bool) -> Answer {
    let mut octets = Vec::new();
    let end = loop {
        if let Some(end) = octets.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        assert_ne!(timeout(PATIENCE, stream.read_buf(&mut octets)).await.unwrap().unwrap(), 0, "no response");
    };
    let mut body = octets.split_off(end);
    let head = String::from_utf8(octets).unwrap();
    let length: usize = header(&head, "content-length").map_or(0, |l| l.parse().unwrap());
    while !head_only && body.len() < length {
        match timeout(PATIENCE, stream.read_buf(&mut body)).await.unwrap() {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    Answer { head, body }
}

/// Reads until the server closes.
async fn expect_close(stream: &mut TlsStream<TcpStream>) {
    let mut rest = Vec::new();
    // An abrupt end is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the server keeps the connection");
}

#[tokio::test]
async fn an_authority_that_asks_for_a_name_is_served_nothing() {
    let world = World::new().await;
    let mut tls = ClientConfig::clone(&world.authority.client());
    tls.alpn_protocols = vec![tls_alpn_01::PROTOCOL.to_vec()];
    let stream = TcpStream::connect((LOCALHOST, world.port)).await.unwrap();
    let connector = TlsConnector::from(Arc::new(tls));
    let mut stream = connector.connect(HOST.to_owned().try_into().unwrap(), stream).await.unwrap();
    // It may be closed before, while, or after that is sent.
    let _ = stream.write_all(format!("GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await;
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the server keeps the connection");
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn the_coded_octets_are_served_to_who_asks_for_their_coding() {
    let world = World::new().await;
    let octets = object(3000);
    let path = world.put(State::Coded, &octets, &grant(1));
    let plain = world.get(&path, "Accept-Encoding: identity\r\n").await;
    assert!(plain.body == octets && plain.field("content-encoding").is_none());
    let etag = plain.field("etag").unwrap().to_owned();
    assert_eq!(
        (etag.as_str(), plain.field("vary")),
        (format!("\"{}\"", Xuid::of(&octets)).as_str(), Some("accept-encoding"))
    );

    let answer = world.get(&path, "Accept-Encoding: gzip, zstd\r\n").await;
    assert_eq!((answer.status(), answer.field("content-encoding")), ("200", Some("zstd")));
    assert!(answer.body == CODED);
    let digest = base64::engine::general_purpose::STANDARD.encode(coded().digest.as_bytes());
    assert_eq!(answer.field("repr-digest"), Some(format!("sha-256=:{digest}:").as_str()));
    let tag = answer.field("etag").unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", coded().digest));
    let head = world.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept-Encoding: zstd\r\n\r\n")).await;
    assert_eq!(head.field("content-length"), Some(CODED.len().to_string().as_str()));

    let range = |tag: &str| format!("Accept-Encoding: zstd\r\nRange: bytes=6-\r\nIf-Range: {tag}\r\n");
    let part = world.get(&path, &range(&tag)).await;
    assert_eq!((part.status(), part.field("content-range")), ("206", Some("bytes 6-21/22")));
    assert!(part.body == CODED[6..]);
    let whole = world.get(&path, &range(&etag)).await;
    assert_eq!(whole.status(), "200", "that is the tag of another representation");
}

#[tokio::test]
async fn an_object_is_served_to_its_grant() {
    let mut world = World::new().await;
    let octets = object(300_000);
    let path = world.put(State::Here, &octets, &grant(1));
    let answer = world.get(&path, "").await;
    assert_eq!(answer.status(), "200");
    assert!(answer.body == octets);
    let digest = base64::engine::general_purpose::STANDARD.encode(Xuid::of(&octets).as_bytes());
    for (name, value) in [
        ("content-type", "message/rfc822".to_owned()),
        ("content-length", "300000".to_owned()),
        ("etag", format!("\"{}\"", Xuid::of(&octets))),
        ("accept-ranges", "bytes".to_owned()),
        ("repr-digest", format!("sha-256=:{digest}:")),
        ("cache-control", "private, no-store".to_owned()),
    ] {
        assert_eq!(answer.field(name), Some(value.as_str()), "{name}");
    }
    assert_eq!(world.served.recv().await, Some(300_000));

    let head = world.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!((head.without_date().0, head.body.len()), (answer.without_date().0, 0));
}

#[tokio::test]
async fn ranges_are_served_and_refused() {
    let world = World::new().await;
    let octets = object(1000);
    let path = world.put(State::Here, &octets, &grant(1));
    let etag = format!("\"{}\"", Xuid::of(&octets));
    let part = world.get(&path, &format!("Range: bytes=500-\r\nIf-Range: {etag}\r\n")).await;
    assert_eq!((part.status(), part.field("content-range")), ("206", Some("bytes 500-999/1000")));
    assert_eq!((part.field("content-length"), part.field("etag")), (Some("500"), Some(etag.as_str())));
    assert_eq!(part.body, octets[500..]);
    assert!(part.field("repr-digest").is_some());

    let other = world.get(&path, "Range: bytes=500-\r\nIf-Range: \"other\"\r\n").await;
    assert_eq!((other.status(), other.body.len()), ("200", 1000));
    let behind = world.get(&path, "Range: bytes=1000-\r\n").await;
    assert_eq!((behind.status(), behind.field("content-range")), ("416", Some("bytes */1000")));
    let head = world.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: {HOST}\r\nRange: bytes=0-1\r\n\r\n")).await;
    assert_eq!((head.status(), head.field("content-length")), ("200", Some("1000")));
}

#[tokio::test]
async fn whoever_has_no_grant_gets_one_and_the_same_404() {
    let world = World::new().await;
    let (octets, other) = (object(1000), object(1001));
    let here = world.put(State::Here, &octets, &grant(1));
    let gone = world.put(State::Gone, &other, &grant(1));
    let xuid = Xuid::of(&octets);
    let reference = world.get("/", "").await.without_date();
    assert!(reference.0.starts_with("HTTP/1.1 404 "));
    let requests = [
        // No such object; one that exists, by another grant; one by the grant of another; one that is gone.
        path(Xuid::of(b"none"), &grant(1)),
        path(xuid, &grant(2)),
        path(xuid, &Grant::new(&[1; 17]).unwrap()),
        path(Xuid::of(&other), &grant(2)),
        // Malformed ones.
        "/.well-known/tbr/m".to_owned(),
        format!("/.well-known/tbr/m?XUID={xuid}"),
        format!("/.well-known/tbr/m?XUID={xuid}&RCPT="),
        format!("/.well-known/tbr/m?RCPT={}&XUID={xuid}", grant(1).reveal()),
        format!("{here}&x=1"),
        here.replace("/m?", "/m/?"),
        here.replace("/tbr/m", "/tbr/M"),
        format!("/.well-known/tbr/../tbr/m?{}", here.split_once('?').unwrap().1),
        // Anything that could list something.
        "/.well-known/tbr/".to_owned(),
        "/.well-known/tbr/pending".to_owned(),
        "/.well-known/".to_owned(),
        "/.well-known/tbr/claims".to_owned(),
        "/.well-known/tbr/receipts".to_owned(),
    ];
    for request in requests {
        assert_eq!(world.get(&request, "").await.without_date(), reference, "{request}");
        let ranged = world.get(&request, "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n").await;
        assert_eq!(ranged.without_date(), reference, "{request}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
        let request = format!("{method} {here} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(world.ask(&request).await.without_date(), reference, "{method}");
    }
    assert_eq!(world.get(&here, "").await.status(), "200");
    assert_eq!(world.get(&gone, "").await.status(), "410");
}

#[tokio::test]
async fn a_grant_for_another_object_gets_the_same_404() {
    let world = World::new().await;
    let path = world.put(State::Swapped, &object(1000), &grant(1));
    let nothing = world.get("/", "").await.without_date();
    assert_eq!(world.get(&path, "").await.without_date(), nothing);
}

#[tokio::test]
async fn what_cannot_be_served_now_says_when() {
    let world = World::new().await;
    let path = world.put(State::Unavailable, &object(10), &grant(1));
    let answer = world.get(&path, "").await;
    assert_eq!((answer.status(), answer.field("retry-after")), ("503", Some("7")));
}

#[tokio::test]
async fn an_object_that_ends_early_breaks_the_connection() {
    let mut world = World::new().await;
    let path = world.put(State::Short, &object(100_000), &grant(1));
    let mut stream = world.connect().await;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    expect_close(&mut stream).await;
    assert_eq!(world.served.recv().await, Some(50_000));
}

#[tokio::test]
async fn several_requests_share_a_connection_up_to_the_limit() {
    let world = World::with(|limits| limits.requests = 3).await;
    let path = world.put(State::Here, &object(10), &grant(1));
    let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let mut stream = world.connect().await;
    for number in 1..=3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream, false).await;
        assert_eq!((answer.status(), answer.body.len()), ("200", 10));
        assert_eq!(answer.field("connection"), (number == 3).then_some("close"));
    }
    expect_close(&mut stream).await;
}

const CLAIMS: &str = "/.well-known/tbr/claims";
const RECEIPTS: &str = "/.well-known/tbr/receipts";
const JSON: &str = "application/json";

fn claims(to: &str, count: usize, indexes: &str) -> String {
    let (id, by) = (ReferenceId([1; 16]), grant(1).reveal());
    let entry = format!(r#"{{"to":"{to}","i":"{id}","grant":"{by}","n":[{indexes}]}}"#);
    let instance = InstanceId([2; 16]);
    format!(r#"{{"v":1,"instance":"{instance}","claims":[{}]}}"#, vec![entry; count].join(","))
}

fn receipts(to: &str, instance: InstanceId) -> String {
    let (id, by) = (ReferenceId([1; 16]), grant(1).reveal());
    let outcome = r#"{"n":0,"action":"delivered","status":"2.0.0","text":"","at":1}"#;
    let entry = format!(r#"{{"to":"{to}","i":"{id}","grant":"{by}","outcomes":[{outcome}]}}"#);
    format!(r#"{{"v":1,"instance":"{instance}","receipts":[{entry}]}}"#)
}

#[tokio::test]
async fn claims_and_receipts_are_answered() {
    let world = World::new().await;
    let answer = world.post(CLAIMS, "Application/JSON; charset=utf-8", &claims("b.example", 1, "0,2")).await;
    assert_eq!((answer.status(), answer.field("content-type")), ("200", Some(JSON)));
    assert_eq!(ClaimsAnswer::parse(&answer.body).unwrap().claims[0].answers.len(), 2);
    let answer = world.post(RECEIPTS, JSON, &receipts("b.example", InstanceId([2; 16]))).await;
    assert_eq!(ReceiptsAnswer::parse(&answer.body).unwrap().receipts[0].recorded, [0]);

    let nothing = world.get("/", "").await.without_date();
    assert_eq!(world.post(CLAIMS, JSON, &claims("c.example", 1, "0")).await.without_date(), nothing);
    assert_eq!(world.post(CLAIMS, JSON, &claims("c.example", 0, "0")).await.without_date(), nothing);
    assert_eq!(world.post(RECEIPTS, JSON, &receipts("c.example", InstanceId([2; 16]))).await.without_date(), nothing);
    let busy = world.post(RECEIPTS, JSON, &receipts("b.example", InstanceId([9; 16]))).await;
    assert_eq!((busy.status(), busy.field("retry-after")), ("503", Some("3")));
}

#[tokio::test]
async fn delegations_are_answered_in_one_word_or_with_the_same_404() {
    let world = World::new().await;
    let vectors = include_str!("../../../../docs/spec/vectors/delegations.json");
    let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
    let body = vectors["vectors"][0]["input"]["body"].as_str().unwrap();
    let answer = world.post(DELEGATE_PATH, JSON, body).await;
    assert_eq!((answer.status(), &answer.body[..]), ("200", &br#"{"v":1,"is":"taken"}"#[..]));
    let nothing = world.get("/", "").await.without_date();
    let other = body.replace("\"to\":\"b.example\"", "\"to\":\"c.example\"");
    assert_eq!(world.post(DELEGATE_PATH, JSON, &other).await.without_date(), nothing);
    assert_eq!(world.get(DELEGATE_PATH, "").await.without_date(), nothing);
    assert_eq!(world.post(DELEGATE_PATH, JSON, &body.replace("\"map\":[0]", "\"map\":[]")).await.status(), "400");
}

#[tokio::test]
async fn bodies_that_are_wrong_or_too_large_are_refused() {
    let world = World::new().await;
    let good = claims("b.example", 1, "0");
    let over = format!("{good}{}", " ".repeat(MAX_BODY));
    for (kind, body, status) in [
        ("text/plain", good.clone(), "415"),
        ("application/jsonx", good.clone(), "415"),
        (JSON, String::new(), "400"),
        (JSON, "{".to_owned(), "400"),
        (JSON, good.replace("\"v\":1", "\"v\":2"), "400"),
        (JSON, claims("b.example", 1, ""), "400"),
        (JSON, claims("b.example", 1, "2,0"), "400"),
        (JSON, claims("b.example", MAX_ENTRIES + 1, "0"), "400"),
        (JSON, over, "413"),
        (JSON, "[".repeat(100_000), "400"),
    ] {
        let shown = &body[..body.len().min(100)];
        let answer = world.post(CLAIMS, kind, &body).await;
        assert_eq!(answer.status(), status, "{shown}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(&grant(1).reveal()));
        if kind == JSON {
            assert_eq!(world.post(RECEIPTS, kind, &body).await.status(), status, "{shown}");
        }
    }
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_before_its_end() {
    let world = World::with(|limits| limits.body_time = Duration::from_secs(10)).await;
    let chunk = format!("{:x}\r\n{}", MAX_BODY + 1, " ".repeat(MAX_BODY + 1));
    let head = format!("POST {CLAIMS} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {JSON}");
    let answer = world.ask(&format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}")).await;
    assert_eq!(answer.status(), "413");
}

#[tokio::test]
async fn an_endless_body_is_cut() {
    let world = World::new().await;
    let mut stream = world.connect().await;
    let head =
        format!("POST {CLAIMS} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let endless = async {
        while writer.write_all(&b"4\r\n    \r\n".repeat(1000)).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let mut octets = [0; 12];
    let read = tokio::select! {
        () = endless => unreachable!(),
        read = timeout(PATIENCE, reader.read_exact(&mut octets)) => read.expect("the server takes all of it"),
    };
    // Octets under way may reset the connection before the status is read.
    assert!(read.is_err() || &octets == b"HTTP/1.1 413");
}

#[tokio::test]
async fn an_answer_too_long_for_one_body_leaves_entries_out() {
    let world = World::new().await;
    let indexes = (0..200).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let answer = world.post(CLAIMS, JSON, &claims("b.example", 200, &indexes)).await;
    let entries = ClaimsAnswer::parse(&answer.body).unwrap().claims;
    assert!((1..200).contains(&entries.len()));
}

#[tokio::test]
async fn the_document_is_served_under_its_own_name_only() {
    let world = World::new().await;
    let ask = |host: &str| format!("GET /.well-known/tbr/domain HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for host in [HOST, "TBR.A.example", "tbr.a.example:8443"] {
        let answer = world.ask(&ask(host)).await;
        assert_eq!((answer.status(), answer.field("cache-control")), ("200", Some("max-age=600")), "{host}");
        assert_eq!(DomainFacts::from_document(&domain("a.example"), &answer.body).unwrap().repo, [domain(HOST)]);
    }
    let nothing = world.get("/", "").await.without_date();
    for (sni, host) in [
        ("www.a.example", "www.a.example"),
        ("tbr.other.example", "tbr.other.example"),
        ("tbr.other.example", HOST),
        (HOST, "a.example"),
        (HOST, ""),
        (HOST, "tbr."),
    ] {
        assert_eq!(world.ask_by(sni, &ask(host)).await.without_date(), nothing, "{sni} {host}");
    }
}

#[tokio::test]
async fn a_header_too_large_is_refused() {
    let world = World::with(|limits| limits.header_octets = 2000).await;
    assert_eq!(world.get("/", &format!("X: {}\r\n", "x".repeat(1000))).await.status(), "404");
    assert_eq!(world.get("/", &format!("X: {}\r\n", "x".repeat(3000))).await.status(), "431");
    let mut stream = world.connect().await;
    stream.write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(600_000)).as_bytes()).await.ok();
    expect_close(&mut stream).await;
}

#[tokio::test]
async fn whoever_does_not_speak_is_cut_off() {
    let world = World::with(|limits| {
        limits.handshake_time = Duration::from_millis(50);
        limits.header_time = Duration::from_millis(50);
        limits.body_time = Duration::from_millis(50);
    })
    .await;
    let mut silent = TcpStream::connect((LOCALHOST, world.port)).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, silent.read_to_end(&mut rest)).await.expect("the handshake may take for ever");

    let mut idle = world.connect().await;
    expect_close(&mut idle).await;

    let mut dribbling = world.connect().await;
    dribbling.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    expect_close(&mut dribbling).await;

    let half = format!("POST {CLAIMS} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {JSON}\r\nContent-Length: 9\r\n\r\n{{");
    assert_eq!(world.ask(&half).await.status(), "408");
}

#[tokio::test]
async fn whoever_reads_too_slowly_is_cut_off() {
    let mut world = World::with(|limits| {
        limits.minimum_rate = u64::MAX;
        limits.rate_grace = Duration::from_millis(100);
    })
    .await;
    let size = 64 * 1024 * 1024;
    let path = world.put(State::Here, &object(size), &grant(1));
    let mut stream = world.connect().await;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    let sent = timeout(PATIENCE, world.served.recv()).await.expect("the server waits for ever");
    assert!(sent.is_some_and(|sent| sent < size as u64));
}

#[tokio::test]
async fn one_peer_has_no_more_than_its_connections() {
    let world = World::with(|limits| limits.connections_per_peer = 2).await;
    let (first, _second) = (world.connect().await, world.connect().await);
    assert!(world.authority.try_connect(world.port, HOST).await.is_err());
    drop(first);
    let again = async {
        while world.authority.try_connect(world.port, HOST).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("a place is never given back");
}

#[tokio::test]
async fn all_together_have_no_more_than_the_connections() {
    let world = World::with(|limits| limits.connections = 1).await;
    let first = world.connect().await;
    let (authority, port) = (&world.authority, world.port);
    let mut second = Box::pin(authority.try_connect(port, HOST));
    assert!(timeout(Duration::from_millis(200), &mut second).await.is_err(), "a second one was accepted");
    drop(first);
    assert!(timeout(PATIENCE, second).await.unwrap().is_ok());
}

#[tokio::test]
async fn shutdown_lets_a_response_end_and_then_closes() {
    let world = World::new().await;
    let octets = object(200_000);
    let path = world.put(State::Gated, &octets, &grant(1));
    let (mut idle, mut busy) = (world.connect().await, world.connect().await);
    busy.write_all(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    world.shelf.reading.notified().await;
    world.shutdown.cancel();
    expect_close(&mut idle).await;
    world.shelf.gate.add_permits(100);
    assert!(read_answer(&mut busy, false).await.body == octets);
    timeout(PATIENCE, world.server).await.expect("the server does not end").unwrap();
    assert!(TcpStream::connect((LOCALHOST, world.port)).await.is_err());
}

#[tokio::test]
async fn shutdown_ends_even_if_a_response_does_not() {
    let world = World::with(|limits| limits.drain_time = Duration::from_millis(100)).await;
    let path = world.put(State::Gated, &object(200_000), &grant(1));
    let mut busy = world.connect().await;
    busy.write_all(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    world.shelf.reading.notified().await;
    world.shutdown.cancel();
    timeout(PATIENCE, world.server).await.expect("the server does not end").unwrap();
}
