//! What sites send, against strangers and thieves; and the client of it, against a custodian that breaks.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use mail::{Address, Domain, EnhancedStatus, Grant, Holder, Timestamp, Xuid};
use reference::body::{JsonBody as _, Revision1, Text};
use reference::bundle::{self, MailEntry, MailList, TakenEntry};
use reference::claims::{ClaimsAnswer, ClaimsRequest, ReceiptsAnswer, ReceiptsRequest};
use reference::delegate::{DelegateAnswer, DelegateRequest};
use reference::message_signature::{Fields, KeyId, Nonce, Request, SignedBy, Signer, content_digest, sign};
use reference::upload::{MAIL_PATH, MailAnswer, PART_MEDIA, WantedObject, upload_path};
use reference::{DomainFacts, KeyRecord, SigningKey};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::tests::{Answer, read_answer};
use super::{Busy, Chunks, Limits, Located, NotTaken, Part, Replays, Repository, Uploaded, serve};
use crate::retrieval::{Client, Config, HandedOver, Octets, Source};
use crate::testing::{Authority, LOCALHOST, Table, domain};
use crate::wire::now;

const HOST: &str = "tbr.site.example";
const SITE: &str = "site.example";
const OBJECT: &[u8] = b"From: bob@site.example\r\n\r\nSome octets, and then some more.\r\n";

/// A custodian that keeps in memory what site.example sends.
#[derive(Default)]
struct Desk {
    held: Mutex<HashMap<Xuid, Vec<u8>>>,
    /// What to answer instead, once each, the last first.
    instead: Mutex<Vec<Uploaded>>,
    /// Most octets that it takes at a time.
    most: Mutex<Option<usize>>,
    /// Nothing is taken.
    refusal: Mutex<Option<NotTaken>>,
    /// Keys that were looked up, and where parts began.
    asked: Mutex<Vec<String>>,
    begun: Mutex<Vec<u64>>,
}

impl Desk {
    fn at(&self, xuid: &Xuid) -> u64 {
        self.held.lock().unwrap().get(xuid).map_or(0, |octets| octets.len() as u64)
    }
}

impl Repository for Desk {
    type Handle = ();

    async fn binding(&self, _: Vec<Grant>) -> Result<Vec<Domain>, Busy> {
        Ok(Vec::new())
    }

    async fn key(&self, id: &KeyId) -> Result<(Holder, KeyRecord), Busy> {
        self.asked.lock().unwrap().push(id.to_string());
        let for_ever = (Timestamp::default(), Timestamp::from_secs(1 << 40));
        let key = KeyRecord::active("k1".parse().unwrap(), signer(SITE).key.verifying_key(), for_ever.0, for_ever.1);
        Ok((id.domain.clone().into(), key))
    }

    async fn locate(&self, _: Xuid, _: &Grant, _: SignedBy) -> Located<()> {
        Located::Unknown
    }

    async fn read(&self, (): (), _: Option<mail::ledger::Coding>, _: Range<u64>) -> io::Result<Chunks> {
        Err(io::ErrorKind::NotFound.into())
    }

    async fn claims(&self, _: ClaimsRequest, _: SignedBy) -> Result<ClaimsAnswer, Busy> {
        Ok(ClaimsAnswer { v: Revision1, claims: Vec::new() })
    }

    async fn receipts(&self, _: ReceiptsRequest, _: SignedBy) -> Result<ReceiptsAnswer, Busy> {
        Ok(ReceiptsAnswer { v: Revision1, receipts: Vec::new() })
    }

    async fn delegate(&self, _: DelegateRequest, _: SignedBy) -> Result<Option<DelegateAnswer>, Busy> {
        Ok(None)
    }

    fn site(&self, id: &KeyId, host: &Domain) -> Option<Holder> {
        (id.domain.as_str() == SITE && host.as_str() == HOST).then(|| id.domain.clone().into())
    }

    async fn mail(&self, site: &Holder, list: MailList) -> Result<MailAnswer, NotTaken> {
        assert_eq!(site.to_string(), SITE);
        if let Some(refusal) = *self.refusal.lock().unwrap() {
            return Err(refusal);
        }
        let mut answer = MailAnswer::default();
        for entry in list.mail {
            let held = self.held.lock().unwrap().get(&entry.o).cloned().unwrap_or_default();
            if Xuid::of(&held) == entry.o {
                answer.taken.push(TakenEntry { id: entry.id, failed: vec![failed()] });
            } else {
                answer.wanted.push(WantedObject { o: entry.o, at: held.len() as u64 });
            }
        }
        Ok(answer)
    }

    async fn upload(&self, site: &Holder, mut part: Part) -> Uploaded {
        assert_eq!(site.to_string(), SITE);
        self.begun.lock().unwrap().push(part.offset);
        if let Some(instead) = self.instead.lock().unwrap().pop() {
            return instead;
        }
        let at = self.at(&part.xuid);
        if part.offset != at {
            return Uploaded::Elsewhere(at);
        }
        let most = self.most.lock().unwrap().unwrap_or(usize::MAX);
        let mut taken = 0;
        while let Some(chunk) = part.octets.next().await {
            let Ok(chunk) = chunk else { return Uploaded::Elsewhere(self.at(&part.xuid)) };
            let chunk = chunk.slice(..chunk.len().min(most - taken));
            taken += chunk.len();
            self.held.lock().unwrap().entry(part.xuid).or_default().extend_from_slice(&chunk);
            if taken == most {
                return Uploaded::Elsewhere(self.at(&part.xuid));
            }
        }
        Uploaded::At(self.at(&part.xuid))
    }

    async fn document(&self, _: &Domain) -> Option<DomainFacts> {
        None
    }

    fn mta_sts(&self, _: &Domain) -> Option<String> {
        None
    }

    fn served(&self, _: &Grant, _: u64) {}
}

fn failed() -> bundle::NotTaken {
    let rcpt = Address::parse("nobody@a.example").unwrap();
    bundle::NotTaken { rcpt, status: EnhancedStatus::permanent(1, 1), text: Text::new("there is no such recipient") }
}

/// The key of a domain and its name: the seed repeats the domain's first letter.
fn signer(of: &str) -> Signer {
    let id = KeyId { domain: domain(of), selector: "k1".parse().unwrap() };
    Signer { id, key: Arc::new(SigningKey::from_seed(&[of.as_bytes()[0]; 32]).unwrap()) }
}

fn entry(object: &[u8]) -> MailEntry {
    MailEntry {
        id: "leg/abc/0".parse().unwrap(),
        at: 1_800_000_000,
        mail: "FROM:<bob@site.example>".to_owned(),
        rcpt: vec!["TO:<alice@a.example>".to_owned()],
        o: Xuid::of(object),
        l: object.len() as u64,
        trace: String::new(),
    }
}

fn list() -> String {
    let list = MailList { v: Revision1, mail: vec![entry(OBJECT)] };
    String::from_utf8(list.encode().unwrap()).unwrap()
}

struct World {
    port: u16,
    authority: Authority,
    desk: Arc<Desk>,
    nonce: Mutex<u8>,
}

/// What a signature covers beside method and target.
#[derive(Clone, Copy)]
enum Over<'a> {
    Body(&'a str),
    Offset(u64),
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let authority = Authority::new();
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let desk = Arc::new(Desk::default());
        let mut limits = Limits::default();
        change(&mut limits);
        let (tls, replays) = (authority.server(&[HOST]), Arc::new(Replays::new(now())));
        tokio::spawn(serve(listener, tls, Arc::clone(&desk), replays, limits, CancellationToken::new()));
        Self { port, authority, desk, nonce: Mutex::new(0) }
    }

    /// The fields of a signature, for this host, by this domain.
    fn sign(&self, host: &str, path: &str, over: Over<'_>, by: &str) -> String {
        let mut nonce = self.nonce.lock().unwrap();
        *nonce += 1;
        let (host, digest) =
            (domain(host), if let Over::Body(body) = over { Some(content_digest(body.as_bytes())) } else { None });
        let (method, offset) = match over {
            Over::Body(_) => ("POST", None),
            Over::Offset(offset) => ("PATCH", Some(offset)),
        };
        let content_digest = digest.as_deref();
        let request = Request { method, host: &host, path_and_query: path, content_digest, upload_offset: offset };
        let Fields { input, signature } = sign(&request, [(&signer(by), Nonce([*nonce; 16]))], now()).unwrap();
        let digest = digest.map(|digest| format!("Content-Digest: {digest}\r\n")).unwrap_or_default();
        format!("Signature-Input: {input}\r\nSignature: {signature}\r\n{digest}")
    }

    async fn ask(&self, request: &[u8]) -> Answer {
        let mut stream = self.authority.connect(self.port, HOST).await;
        stream.write_all(request).await.unwrap();
        read_answer(&mut stream, false).await
    }

    async fn post(&self, host: &str, fields: &str, body: &str) -> Answer {
        let head = format!("POST {MAIL_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{fields}");
        self.ask(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await
    }

    async fn patch(&self, path: &str, fields: &str, octets: &[u8]) -> Answer {
        let head = format!("PATCH {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {PART_MEDIA}\r\n{fields}");
        let head = format!("{head}Content-Length: {}\r\n\r\n", octets.len());
        self.ask(&[head.as_bytes(), octets].concat()).await
    }

    /// What everybody gets.
    async fn nothing(&self) -> (String, Vec<u8>) {
        self.ask(format!("GET /nothing HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.without_date()
    }

    fn client(&self) -> Client {
        let table = Table::new();
        table.set_host(HOST, &["127.0.0.1"]);
        let wait = Duration::from_millis(1);
        let config = Config { port: self.port, allow_private: true, resumption_wait: wait, ..Config::default() };
        Client::new(self.authority.client(), table as _, config)
    }
}

/// An object in memory.
struct Whole(Bytes);

impl Source for Whole {
    async fn read(&self, from: u64) -> io::Result<Octets> {
        let rest = self.0.slice(usize::try_from(from).map_err(io::Error::other)?..);
        let chunks: Vec<io::Result<Bytes>> = rest.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        Ok(Box::pin(stream::iter(chunks)))
    }
}

#[tokio::test]
async fn a_list_and_its_octets_are_taken_from_the_site() {
    let world = World::new().await;
    let list = list();
    let signed = |body| world.sign(HOST, MAIL_PATH, Over::Body(body), SITE);
    let answer = world.post(HOST, &signed(&list), &list).await;
    assert_eq!(answer.status(), "200");
    let answer = MailAnswer::parse(&answer.body).unwrap();
    assert_eq!(answer.wanted, [WantedObject { o: Xuid::of(OBJECT), at: 0 }]);
    let path = upload_path(&Xuid::of(OBJECT));
    let part = |offset| world.sign(HOST, &path, Over::Offset(offset), SITE) + &format!("Upload-Offset: {offset}\r\n");
    let answer = world.patch(&path, &part(0), &OBJECT[..20]).await;
    assert_eq!((answer.status(), answer.field("upload-offset")), ("204", Some("20")));
    let answer = world.patch(&path, &part(5), &OBJECT[5..]).await;
    assert_eq!((answer.status(), answer.field("upload-offset")), ("409", Some("20")));
    let answer = world.patch(&path, &part(20), &OBJECT[20..]).await;
    assert_eq!(answer.status(), "204");
    let answer = MailAnswer::parse(&world.post(HOST, &signed(&list), &list).await.body).unwrap();
    assert_eq!((answer.taken.len(), answer.wanted.len()), (1, 0));
}

#[tokio::test]
async fn nobody_else_sends_in_a_site_s_name_or_learns_that_it_sends() {
    let world = World::new().await;
    let (list, nothing) = (list(), world.nothing().await);
    let other = list.replace("bob@site", "bop@site");
    let good = world.sign(HOST, MAIL_PATH, Over::Body(&list), SITE);
    assert_eq!(world.post(HOST, "", &list).await.without_date(), nothing);
    assert_eq!(world.post(HOST, &good, &other).await.without_date(), nothing, "another list");
    assert_eq!(world.post(HOST, &good, &list).await.without_date(), nothing, "its nonce was used");
    // A good key, of a domain that is no site here: it is not even looked up.
    world.desk.asked.lock().unwrap().clear();
    let stranger = world.sign(HOST, MAIL_PATH, Over::Body(&list), "c.example");
    assert_eq!(world.post(HOST, &stranger, &list).await.without_date(), nothing);
    assert!(world.desk.asked.lock().unwrap().is_empty());
    let forged = world.sign(HOST, MAIL_PATH, Over::Body(&list), "c.example").replace("c.example", SITE);
    assert_eq!(world.post(HOST, &forged, &list).await.without_date(), nothing);
    // Another custodian could pass the request on.
    let stolen = world.sign("tbr.thief.example", MAIL_PATH, Over::Body(&list), SITE);
    assert_eq!(world.post("tbr.thief.example", &stolen, &list).await.without_date(), nothing);

    let path = upload_path(&Xuid::of(OBJECT));
    let sign = |path: &str, offset| world.sign(HOST, path, Over::Offset(offset), SITE);
    let at = |offset: u64| format!("Upload-Offset: {offset}\r\n");
    for (path, fields) in [
        (path.clone(), at(0)),
        (path.clone(), sign(&path, 0)),
        (path.clone(), sign(&path, 0) + &at(1)),
        (path.clone(), sign(&path, 0) + "Upload-Offset: 00\r\n"),
        (path.clone(), sign(&path, 0) + &at(0) + &at(0)),
        (path.clone(), sign(&upload_path(&Xuid::of(b"x")), 0) + &at(0)),
        (path.clone(), world.sign(HOST, &path, Over::Offset(0), "c.example") + &at(0)),
        (format!("{path}?x"), sign(&format!("{path}?x"), 0) + &at(0)),
        ("/.well-known/tbr/upload/x".to_owned(), sign("/.well-known/tbr/upload/x", 0) + &at(0)),
    ] {
        assert_eq!(world.patch(&path, &fields, OBJECT).await.without_date(), nothing, "{path} {fields}");
    }
    let good = sign(&path, 0) + &at(0);
    assert_eq!(world.patch(&path, &good, &OBJECT[..1]).await.status(), "204");
    assert_eq!(world.patch(&path, &good, &OBJECT[..1]).await.without_date(), nothing, "its nonce was used");
    assert_eq!(*world.desk.begun.lock().unwrap(), [0], "a forged part got through");
}

#[tokio::test]
async fn a_part_has_its_media_type_and_length_and_what_breaks_off_is_told_from_an_end() {
    let world = World::with(|limits| limits.part_stall = Duration::from_millis(200)).await;
    let path = upload_path(&Xuid::of(OBJECT));
    let signed = |offset| world.sign(HOST, &path, Over::Offset(offset), SITE) + &format!("Upload-Offset: {offset}\r\n");
    let ask =
        async |fields: String| world.ask(format!("PATCH {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}").as_bytes()).await;
    let other = signed(0) + "Content-Type: application/octet-stream\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(ask(other).await.status(), "415");
    let kind = format!("Content-Type: {PART_MEDIA}\r\n");
    let chunked = signed(0) + &kind + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(ask(chunked).await.status(), "411");
    // It stalls: what has come stays.
    let stalled = signed(0) + &kind + "Content-Length: 10\r\n\r\nabc";
    let answer = ask(stalled).await;
    assert_eq!((answer.status(), answer.field("upload-offset")), ("409", Some("3")));
    for (result, status) in [
        (Uploaded::TooLong, "413"),
        (Uploaded::Wrong, "422"),
        (Uploaded::Unknown, "404"),
        (Uploaded::NotTaken(NotTaken::Full(Busy { retry_after: Duration::from_secs(9) })), "507"),
        (Uploaded::NotTaken(NotTaken::Busy(Busy { retry_after: Duration::from_secs(9) })), "503"),
    ] {
        world.desk.instead.lock().unwrap().push(result);
        assert_eq!(world.patch(&path, &signed(3), b"d").await.status(), status);
    }
}

#[tokio::test]
async fn the_client_goes_on_where_a_break_has_stopped_it() {
    let world = World::new().await;
    let object: Bytes = (0..200_000_u32).map(|n| b"abcdefghij"[n as usize % 10]).collect();
    *world.desk.most.lock().unwrap() = Some(70_000);
    let (client, host, signer) = (world.client(), domain(HOST), signer(SITE));
    let handed = client.hand_over(&host, entry(&object), &signer, &Whole(object.clone())).await.unwrap();
    assert_eq!(handed, HandedOver { failed: vec![failed()], octets: 200_000 });
    assert_eq!(*world.desk.begun.lock().unwrap(), [0, 70_000, 140_000], "octets were sent twice");
    // What is there already is not sent at all.
    let again = client.hand_over(&host, entry(&object), &signer, &Whole(object)).await.unwrap();
    assert_eq!(again, HandedOver { failed: vec![failed()], octets: 0 });
}

#[tokio::test]
async fn many_breaks_do_not_matter_as_long_as_octets_come_through() {
    let world = World::new().await;
    let object: Bytes = (0..400_000_u32).map(|n| b"abcdefghij"[n as usize % 10]).collect();
    *world.desk.most.lock().unwrap() = Some(20_000);
    let (client, host, signer) = (world.client(), domain(HOST), signer(SITE));
    let handed = client.hand_over(&host, entry(&object), &signer, &Whole(object.clone())).await.unwrap();
    assert_eq!(handed.octets, 400_000);
    assert_eq!(world.desk.begun.lock().unwrap().len(), 20);
    // The next one has too short a breath, and the one after it goes on there.
    world.desk.held.lock().unwrap().clear();
    *world.desk.most.lock().unwrap() = Some(1000);
    let hand_over = async || client.hand_over(&host, entry(&object), &signer, &Whole(object.clone())).await;
    assert!(hand_over().await.is_err());
    let held = world.desk.at(&Xuid::of(&object));
    assert!((1000..100_000).contains(&held), "{held}");
    *world.desk.most.lock().unwrap() = None;
    assert_eq!(hand_over().await.unwrap().octets, 400_000 - held);
}

#[tokio::test]
async fn the_client_gives_up_in_the_end_and_says_why() {
    let world = World::new().await;
    let (client, host, signer) = (world.client(), domain(HOST), signer(SITE));
    let source = Whole(Bytes::from_static(OBJECT));
    let hand_over = || client.hand_over(&host, entry(OBJECT), &signer, &source);
    // A custodian that has forgotten the list, has got other octets once, and then goes on.
    *world.desk.instead.lock().unwrap() = vec![Uploaded::Wrong, Uploaded::Unknown];
    assert!(hand_over().await.is_ok());
    world.desk.held.lock().unwrap().clear();
    *world.desk.instead.lock().unwrap() = vec![Uploaded::Wrong, Uploaded::Wrong];
    assert_eq!(hand_over().await.unwrap_err().why.status, Some(422), "wrong octets for ever");
    *world.desk.instead.lock().unwrap() = vec![Uploaded::Elsewhere(0); 100];
    assert!(hand_over().await.unwrap_err().why.text.contains("409"));
    assert!(world.desk.instead.lock().unwrap().len() > 80, "no end of tries");
    world.desk.instead.lock().unwrap().clear();
    *world.desk.refusal.lock().unwrap() = Some(NotTaken::Full(Busy { retry_after: Duration::from_secs(9) }));
    assert_eq!(hand_over().await.unwrap_err().why.status, Some(507));
}
