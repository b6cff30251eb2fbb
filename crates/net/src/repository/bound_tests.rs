//! Bound grants against thieves: who has the grant and not the domain's key gets what everybody gets, a 404.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use mail::{Domain, Grant, Holder, InstanceId, ReferenceId, Timestamp, Xuid};
use reference::body::{JsonBody, Revision1};
use reference::claims::{
    AnsweredClaim, CLAIMS_PATH, ClaimsAnswer, ClaimsRequest, IndexAnswer, RECEIPTS_PATH, ReceiptsAnswer,
    ReceiptsRequest, RecordedReceipt, Word,
};
use reference::delegate::{DelegateAnswer, DelegateRequest};
use reference::message_signature::{Fields, KeyId, Nonce, Request, SignedBy, Signer, content_digest, sign};
use reference::pending::{Cursor, PENDING_PATH, Page, PendingList, PendingOffer};
use reference::{DomainFacts, KeyRecord, SigningKey};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::tests::{Answer, read_answer};
use super::{Busy, Chunks, Limits, Located, Replays, Repository, serve};
use crate::testing::{Authority, LOCALHOST, domain};
use crate::wire::now;

const HOST: &str = "tbr.a.example";
const OCTETS: &[u8] = b"A: b\r\n\r\nsecret\r\n";

/// One object for b.example under grant 1, one that is gone under grant 2; references to b.example and c.example.
#[derive(Default)]
struct Vault {
    keys: Mutex<HashMap<String, KeyRecord>>,
    asked: Mutex<Vec<String>>,
    /// A user's key has become his domain's.
    has_changed: Mutex<bool>,
}

fn grant(octet: u8) -> Grant {
    Grant::new(&[octet; 16]).unwrap()
}

/// One key of b.example is a user's.
fn holder(id: &KeyId) -> Holder {
    match id.selector.as_str() {
        "laptop" => Holder::user("alice", id.domain.clone()).unwrap(),
        _ => id.domain.clone().into(),
    }
}

impl Vault {
    fn is_let_in(to: &Domain, signed: &SignedBy) -> bool {
        signed.is_by(&to.clone().into(), &domain(HOST))
    }
}

impl Repository for Vault {
    type Handle = ();

    async fn binding(&self, grants: Vec<Grant>) -> Result<Vec<Domain>, Busy> {
        let of = |grant: &Grant| match grant.as_bytes()[0] {
            1 | 2 => Some(domain("b.example")),
            3 => Some(domain("c.example")),
            _ => None,
        };
        Ok(grants.iter().filter_map(of).collect())
    }

    async fn key(&self, id: &KeyId) -> Result<(Holder, KeyRecord), Busy> {
        self.asked.lock().unwrap().push(id.to_string());
        let whose = if *self.has_changed.lock().unwrap() { id.domain.clone().into() } else { holder(id) };
        let found = self.keys.lock().unwrap().get(&id.to_string()).cloned();
        found.map(|key| (whose, key)).ok_or(Busy { retry_after: Duration::from_secs(60) })
    }

    async fn locate(&self, xuid: Xuid, by: &Grant, signed: SignedBy) -> Located<()> {
        if xuid != Xuid::of(OCTETS) || !Self::is_let_in(&domain("b.example"), &signed) {
            return Located::Unknown;
        }
        match by.as_bytes()[0] {
            1 => Located::Object { xuid, size: OCTETS.len() as u64, coded: None, handle: () },
            2 => Located::Gone,
            _ => Located::Unknown,
        }
    }

    async fn read(&self, (): (), _: Option<mail::ledger::Coding>, range: Range<u64>) -> io::Result<Chunks> {
        let part = Bytes::from_static(&OCTETS[range.start as usize..range.end as usize]);
        Ok(Box::pin(stream::iter([Ok(part)])))
    }

    async fn claims(&self, request: ClaimsRequest, signed: SignedBy) -> Result<ClaimsAnswer, Busy> {
        let granted = |n: &u16| IndexAnswer { n: *n, is: Word::Granted };
        let known = request.claims.iter().filter(|entry| Self::is_let_in(&entry.to, &signed));
        let claims = known.map(|e| AnsweredClaim { i: e.i, answers: e.n.iter().map(granted).collect() }).collect();
        Ok(ClaimsAnswer { v: Revision1, claims })
    }

    async fn receipts(&self, request: ReceiptsRequest, signed: SignedBy) -> Result<ReceiptsAnswer, Busy> {
        let known = request.receipts.iter().filter(|entry| Self::is_let_in(&entry.to, &signed));
        let receipts = known.map(|e| RecordedReceipt { i: e.i, recorded: vec![0] }).collect();
        Ok(ReceiptsAnswer { v: Revision1, receipts })
    }

    async fn delegate(&self, _: DelegateRequest, _: SignedBy) -> Result<Option<DelegateAnswer>, Busy> {
        Ok(None)
    }

    fn site(&self, id: &KeyId, host: &Domain) -> Option<Holder> {
        (id.domain.as_str() == "b.example" && host.as_str() == HOST).then(|| holder(id))
    }

    async fn pending(&self, site: &Holder, after: Option<Cursor>) -> Result<PendingList, Busy> {
        let mut page = Page::default();
        page.add(vec![PendingOffer {
            mail: format!("FROM:<{}@a.example>", after.as_ref().map_or("first", Cursor::as_str)),
            rcpt: vec![format!("TO:<bob@{site}>")],
            tbr: String::new(),
            block: String::new(),
            trace: String::new(),
        }]);
        Ok(page.finish(None))
    }

    fn document(&self, _: &Domain) -> impl Future<Output = Option<DomainFacts>> + Send {
        std::future::ready(None)
    }

    fn mta_sts(&self, _: &Domain) -> Option<String> {
        None
    }

    fn served(&self, _: &Grant, _: u64) {}
}

struct World {
    port: u16,
    authority: Authority,
    vault: Arc<Vault>,
    nonce: Mutex<u8>,
}

/// The key of a domain and its name: the seed repeats the domain's first letter. Before an @ stands the name of another key.
fn signer(of: &str) -> Signer {
    let (selector, name) = of.split_once('@').unwrap_or(("k1", of));
    let id = KeyId { domain: domain(name), selector: selector.parse().unwrap() };
    Signer { id, key: Arc::new(SigningKey::from_seed(&[of.as_bytes()[0]; 32]).unwrap()) }
}

fn published(of: &str) -> KeyRecord {
    let for_ever = (Timestamp::default(), Timestamp::from_secs(1 << 40));
    KeyRecord::active("k1".parse().unwrap(), signer(of).key.verifying_key(), for_ever.0, for_ever.1)
}

fn path(by: u8) -> String {
    format!("/.well-known/tbr/m?XUID={}&RCPT={}", Xuid::of(OCTETS), grant(by).reveal())
}

fn lines(fields: &Fields) -> String {
    format!("Signature-Input: {}\r\nSignature: {}\r\n", fields.input, fields.signature)
}

fn claims(to: &[(&str, u8)]) -> String {
    let (id, instance) = (ReferenceId([1; 16]), InstanceId([2; 16]));
    let entry =
        |(to, by): &(&str, u8)| format!(r#"{{"to":"{to}","i":"{id}","grant":"{}","n":[0]}}"#, grant(*by).reveal());
    let entries: Vec<String> = to.iter().map(entry).collect();
    format!(r#"{{"v":1,"instance":"{instance}","claims":[{}]}}"#, entries.join(","))
}

fn receipts() -> String {
    claims(&[("b.example", 1)])
        .replace("claims", "receipts")
        .replace("\"n\":[0]", "\"outcomes\":[{\"n\":0,\"action\":\"delivered\",\"status\":\"2.0.0\",\"at\":1}]")
}

impl World {
    async fn new() -> Self {
        let authority = Authority::new();
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let vault = Arc::new(Vault::default());
        for name in ["b.example", "c.example"] {
            vault.keys.lock().unwrap().insert(format!("k1._tbr.{name}"), published(name));
        }
        vault.keys.lock().unwrap().insert("laptop._tbr.b.example".into(), published("laptop@b.example"));
        let (tls, replays) = (authority.server(&[HOST]), Arc::new(Replays::new(now())));
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, tls, Arc::clone(&vault), replays, Limits::default(), stop));
        Self { port, authority, vault, nonce: Mutex::new(0) }
    }

    fn fresh(&self) -> Nonce {
        let mut nonce = self.nonce.lock().unwrap();
        *nonce += 1;
        Nonce([*nonce; 16])
    }

    /// Signed now by these domains, for this host.
    fn sign(&self, method: &str, host: &str, path: &str, body: Option<&str>, by: &[&str]) -> Fields {
        self.sign_at(now(), method, host, path, body, by)
    }

    fn sign_at(&self, at: Timestamp, method: &str, host: &str, path: &str, body: Option<&str>, by: &[&str]) -> Fields {
        let (host, digest) = (domain(host), body.map(|body| content_digest(body.as_bytes())));
        let content_digest = digest.as_deref();
        let request = Request { method, host: &host, path_and_query: path, content_digest, upload_offset: None };
        let signers: Vec<(Signer, Nonce)> = by.iter().map(|name| (signer(name), self.fresh())).collect();
        sign(&request, signers.iter().map(|(signer, nonce)| (signer, *nonce)), at).unwrap()
    }

    async fn ask(&self, request: String, head_only: bool) -> Answer {
        let mut stream = self.authority.connect(self.port, HOST).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut stream, head_only).await
    }

    async fn get(&self, path: &str, fields: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"), false).await
    }

    async fn post(&self, path: &str, fields: &str, body: &str) -> Answer {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n{fields}");
        self.ask(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()), false).await
    }

    /// Posts with the digest of the body and signatures of these domains.
    async fn post_signed(&self, path: &str, body: &str, by: &[&str]) -> Answer {
        let fields = lines(&self.sign("POST", HOST, path, Some(body), by));
        self.post(path, &format!("{fields}Content-Digest: {}\r\n", content_digest(body.as_bytes())), body).await
    }

    /// What a stranger gets.
    async fn nothing(&self) -> (String, Vec<u8>) {
        let nothing = self.get(&path(9), "").await.without_date();
        assert!(nothing.0.starts_with("HTTP/1.1 404 "));
        nothing
    }
}

#[tokio::test]
async fn the_domain_s_signature_opens_what_the_grant_alone_does_not() {
    let world = World::new().await;
    let nothing = world.nothing().await;
    assert_eq!(world.get(&path(1), "").await.without_date(), nothing);
    assert_eq!(world.get(&path(2), "").await.without_date(), nothing, "that it is gone is told to its owner only");
    let signed = lines(&world.sign("GET", HOST, &path(1), None, &["b.example"]));
    let answer = world.get(&path(1), &signed).await;
    assert_eq!((answer.status(), &answer.body[..]), ("200", OCTETS));
    let signed = lines(&world.sign("GET", HOST, &path(2), None, &["b.example"]));
    assert_eq!(world.get(&path(2), &signed).await.status(), "410");
    let signed = lines(&world.sign("HEAD", HOST, &path(1), None, &["b.example"]));
    let head = format!("HEAD {} HTTP/1.1\r\nHost: {HOST}\r\n{signed}\r\n", path(1));
    assert_eq!(world.ask(head, true).await.status(), "200");
    let signed = lines(&world.sign("GET", HOST, &path(1), None, &["b.example"]));
    let part = world.get(&path(1), &format!("{signed}Range: bytes=3-\r\n")).await;
    assert_eq!((part.status(), &part.body[..]), ("206", &OCTETS[3..]));
}

#[tokio::test]
async fn a_thief_gets_what_everybody_gets() {
    let world = World::new().await;
    let nothing = world.nothing().await;
    let right = || world.sign("GET", HOST, &path(1), None, &["b.example"]);
    let swap = |from: &str, to: &str| {
        let right = right();
        assert!(right.input.contains(from));
        Fields { input: right.input.replacen(from, to, 1), ..right }
    };
    let (earlier, later) = (now().before(Duration::from_secs(302)), now().after(Duration::from_secs(302)));
    let unsigned_label = Fields { signature: right().signature.replacen("tbr1", "tbr2", 1), ..right() };
    let twice = Fields { input: format!("{0}, {0}", right().input), signature: format!("{0}, {0}", right().signature) };
    let oversized = Fields { input: format!("x=\"{}\", {}", "x".repeat(12_000), right().input), ..right() };
    let cases = [
        ("another domain's key", world.sign("GET", HOST, &path(1), None, &["c.example"])),
        ("another domain's key under this one's name", {
            let other = world.sign("GET", HOST, &path(1), None, &["c.example"]);
            Fields { input: other.input.replace("c.example", "b.example"), ..other }
        }),
        ("another method", world.sign("HEAD", HOST, &path(1), None, &["b.example"])),
        ("another grant", world.sign("GET", HOST, &path(2), None, &["b.example"])),
        ("another host", world.sign("GET", "tbr.thief.example", &path(1), None, &["b.example"])),
        ("a body that is not there", world.sign("GET", HOST, &path(1), Some(""), &["b.example"])),
        ("too old", world.sign_at(earlier, "GET", HOST, &path(1), None, &["b.example"])),
        ("too new", world.sign_at(later, "GET", HOST, &path(1), None, &["b.example"])),
        ("time changed", swap("created=1", "created=2")),
        ("target not covered", swap(" \"@target-uri\"", "")),
        ("method not covered", swap("\"@method\" ", "")),
        ("algorithm of a shared secret", swap("ed25519", "hmac-sha256")),
        ("no algorithm", swap(";alg=\"ed25519\"", "")),
        ("no nonce", swap(";nonce=", ";nonse=")),
        ("another tag", swap("tag=\"tbr\"", "tag=\"tbx\"")),
        ("a label without its signature", unsigned_label),
        ("a label twice", twice),
        ("an oversized field", oversized),
        ("fields that are no dictionary", Fields { input: "((((".into(), signature: "))))".into() }),
    ];
    for (what, fields) in cases {
        assert_eq!(world.get(&path(1), &lines(&fields)).await.without_date(), nothing, "{what}");
    }
    let two_lines = format!("{}{}", lines(&right()), lines(&right()));
    assert_eq!(world.get(&path(1), &two_lines).await.without_date(), nothing, "the same label in two lines");
    let right = lines(&right());
    let as_another = format!("GET {} HTTP/1.1\r\nHost: tbr.thief.example\r\n{right}\r\n", path(1));
    assert_eq!(world.ask(as_another, false).await.without_date(), nothing, "the name of another host");
    assert_eq!(world.get(&path(1), &right).await.status(), "200", "and the right one still works");
}

#[tokio::test]
async fn a_signature_made_for_another_host_does_not_count_under_its_name() {
    let world = World::new().await;
    let stolen = lines(&world.sign("GET", "tbr.thief.example", &path(1), None, &["b.example"]));
    let passed_on = format!("GET {} HTTP/1.1\r\nHost: tbr.thief.example\r\n{stolen}\r\n", path(1));
    assert_eq!(world.ask(passed_on, false).await.without_date(), world.nothing().await);
}

#[tokio::test]
async fn a_nonce_is_good_for_one_request() {
    let world = World::new().await;
    let signed = lines(&world.sign("GET", HOST, &path(1), None, &["b.example"]));
    assert_eq!(world.get(&path(1), &signed).await.status(), "200");
    assert_eq!(world.get(&path(1), &signed).await.without_date(), world.nothing().await);
    let again = lines(&world.sign("GET", HOST, &path(1), None, &["b.example"]));
    assert_eq!(world.get(&path(1), &again).await.status(), "200");
}

#[tokio::test]
async fn a_key_that_is_not_known_yet_is_asked_for_later() {
    let world = World::new().await;
    let unknown = |by: u8| {
        let fields = world.sign("GET", HOST, &path(by), None, &["b.example"]);
        lines(&Fields { input: fields.input.replace("k1._tbr", "k2._tbr"), ..fields })
    };
    let answer = world.get(&path(1), &unknown(1)).await;
    assert_eq!((answer.status(), answer.field("retry-after")), ("503", Some("60")));
    assert_eq!(*world.vault.asked.lock().unwrap(), ["k2._tbr.b.example"]);
    // Without a grant nobody is asked anything, and there is nothing to come back for.
    assert_eq!(world.get(&path(9), &unknown(9)).await.without_date(), world.nothing().await);
    let strangers = lines(&world.sign("GET", HOST, &path(1), None, &["c.example", "d.example"]));
    assert_eq!(world.get(&path(1), &strangers).await.without_date(), world.nothing().await);
    assert_eq!(world.vault.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_revoked_key_and_one_whose_time_is_over_do_not_count() {
    let world = World::new().await;
    let key = signer("b.example").key.verifying_key();
    let past = KeyRecord::active("k1".parse().unwrap(), key, Timestamp::default(), Timestamp::from_secs(1));
    let revoked = KeyRecord { selector: "k1".parse().unwrap(), state: reference::KeyState::Revoked };
    for record in [past, revoked] {
        world.vault.keys.lock().unwrap().insert("k1._tbr.b.example".into(), record);
        let signed = lines(&world.sign("GET", HOST, &path(1), None, &["b.example"]));
        assert_eq!(world.get(&path(1), &signed).await.without_date(), world.nothing().await);
    }
}

#[tokio::test]
async fn claims_and_receipts_need_it_too() {
    let world = World::new().await;
    let nothing = world.nothing().await;
    let body = claims(&[("b.example", 1)]);
    assert_eq!(world.post(CLAIMS_PATH, "", &body).await.without_date(), nothing);
    assert_eq!(world.post(RECEIPTS_PATH, "", &receipts()).await.without_date(), nothing);
    assert_eq!(world.post_signed(CLAIMS_PATH, &body, &["c.example"]).await.without_date(), nothing);
    assert_eq!(world.post_signed(CLAIMS_PATH, &body, &["b.example"]).await.status(), "200");
    assert_eq!(world.post_signed(RECEIPTS_PATH, &receipts(), &["b.example"]).await.status(), "200");
}

#[tokio::test]
async fn the_digest_is_that_of_the_body_and_it_is_covered() {
    let world = World::new().await;
    let (nothing, body) = (world.nothing().await, claims(&[("b.example", 1)]));
    let other = body.replace("\"n\":[0]", "\"n\":[1]");
    let digest = |of: &str| format!("Content-Digest: {}\r\n", content_digest(of.as_bytes()));
    let signed = |path: &str| lines(&world.sign("POST", HOST, path, Some(&body), &["b.example"]));
    let without = lines(&world.sign("POST", HOST, CLAIMS_PATH, None, &["b.example"]));
    for (what, fields, body) in [
        ("the digest of another body", signed(CLAIMS_PATH) + &digest(&body), &other),
        ("another body with its own digest", signed(CLAIMS_PATH) + &digest(&other), &other),
        ("no digest", signed(CLAIMS_PATH), &body),
        ("a digest twice", signed(CLAIMS_PATH) + &digest(&body) + &digest(&body), &body),
        ("a digest that is not covered", without + &digest(&body), &body),
        ("for another resource", signed(RECEIPTS_PATH) + &digest(&body), &body),
    ] {
        assert_eq!(world.post(CLAIMS_PATH, &fields, body).await.without_date(), nothing, "{what}");
    }
    let answer = world.post(CLAIMS_PATH, &(signed(CLAIMS_PATH) + &digest(&body)), &body).await;
    assert_eq!(answer.status(), "200");
}

#[tokio::test]
async fn one_request_may_speak_for_several_domains_each_by_its_own_signature() {
    let world = World::new().await;
    let body = claims(&[("b.example", 1), ("c.example", 3)]);
    let answered = |answer: &Answer| ClaimsAnswer::parse(&answer.body).unwrap().claims.len();
    let both = world.post_signed(CLAIMS_PATH, &body, &["b.example", "c.example"]).await;
    assert_eq!((both.status(), answered(&both)), ("200", 2));
    let one = world.post_signed(CLAIMS_PATH, &body, &["c.example"]).await;
    assert_eq!((one.status(), answered(&one)), ("200", 1), "whose domain did not sign is left out");
    // A key that cannot be had now keeps its own entries waiting, and nobody else's.
    world.vault.keys.lock().unwrap().remove("k1._tbr.b.example");
    let both = world.post_signed(CLAIMS_PATH, &body, &["b.example", "c.example"]).await;
    assert_eq!((both.status(), answered(&both)), ("200", 1));
    let alone = world.post_signed(CLAIMS_PATH, &claims(&[("b.example", 1)]), &["b.example"]).await;
    assert_eq!((alone.status(), alone.field("retry-after")), ("503", Some("60")));
}

/// The offers of a page.
fn offers(answer: &Answer) -> Vec<PendingOffer> {
    assert_eq!(answer.status(), "200");
    PendingList::parse(&answer.body).unwrap().pending
}

#[tokio::test]
async fn a_site_learns_what_waits_for_it_page_by_page() {
    let world = World::new().await;
    let signed = |path: &str| lines(&world.sign("GET", HOST, path, None, &["b.example"]));
    let first = offers(&world.get(PENDING_PATH, &signed(PENDING_PATH)).await);
    assert_eq!((first[0].mail.as_str(), first[0].rcpt[0].as_str()), ("FROM:<first@a.example>", "TO:<bob@b.example>"));
    let next = format!("{PENDING_PATH}?after=leg");
    assert_eq!(offers(&world.get(&next, &signed(&next)).await)[0].mail, "FROM:<leg@a.example>");
    let odd = format!("{PENDING_PATH}?before=leg");
    assert_eq!(world.get(&odd, &signed(&odd)).await.without_date(), world.nothing().await);
}

#[tokio::test]
async fn nobody_learns_what_waits_for_others_or_that_something_does() {
    let world = World::new().await;
    let nothing = world.nothing().await;
    assert_eq!(world.get(PENDING_PATH, "").await.without_date(), nothing);
    // A good key, of a domain that is no site here: it is not even looked up.
    let stranger = lines(&world.sign("GET", HOST, PENDING_PATH, None, &["c.example"]));
    assert_eq!(world.get(PENDING_PATH, &stranger).await.without_date(), nothing);
    assert!(world.vault.asked.lock().unwrap().is_empty());
    let forged = world.sign("GET", HOST, PENDING_PATH, None, &["c.example"]);
    let forged = lines(&Fields { input: forged.input.replace("c.example", "b.example"), ..forged });
    assert_eq!(world.get(PENDING_PATH, &forged).await.without_date(), nothing);
    // What the site signed for another resource, or another page, does not open this one.
    let other = lines(&world.sign("GET", HOST, &path(1), None, &["b.example"]));
    assert_eq!(world.get(PENDING_PATH, &other).await.without_date(), nothing);
    let page = lines(&world.sign("GET", HOST, &format!("{PENDING_PATH}?after=x"), None, &["b.example"]));
    assert_eq!(world.get(PENDING_PATH, &page).await.without_date(), nothing);
}

#[tokio::test]
async fn a_request_for_what_is_pending_is_answered_once_and_at_its_host_only() {
    let world = World::new().await;
    let signed = lines(&world.sign("GET", HOST, PENDING_PATH, None, &["b.example"]));
    assert_eq!(offers(&world.get(PENDING_PATH, &signed).await).len(), 1);
    assert_eq!(world.get(PENDING_PATH, &signed).await.without_date(), world.nothing().await, "a replay was answered");
    // Another custodian that the site asks could pass its request on.
    let stolen = lines(&world.sign("GET", "tbr.thief.example", PENDING_PATH, None, &["b.example"]));
    let passed_on = format!("GET {PENDING_PATH} HTTP/1.1\r\nHost: tbr.thief.example\r\n{stolen}\r\n");
    assert_eq!(world.ask(passed_on, false).await.without_date(), world.nothing().await);
}

#[tokio::test]
async fn a_user_s_key_is_good_for_him_and_not_for_his_domain() {
    let world = World::new().await;
    let (nothing, body) = (world.nothing().await, claims(&[("b.example", 1)]));
    let by_user = ["laptop@b.example"];
    let signed = lines(&world.sign("GET", HOST, &path(1), None, &by_user));
    assert_eq!(world.get(&path(1), &signed).await.without_date(), nothing);
    assert_eq!(world.post_signed(CLAIMS_PATH, &body, &by_user).await.without_date(), nothing);
    assert_eq!(world.post_signed(RECEIPTS_PATH, &receipts(), &by_user).await.without_date(), nothing);
    // He is shown what waits for him, and the domain what waits for it.
    for (by, whose) in [("laptop@b.example", "alice@b.example"), ("b.example", "b.example")] {
        let signed = lines(&world.sign("GET", HOST, PENDING_PATH, None, &[by]));
        assert_eq!(offers(&world.get(PENDING_PATH, &signed).await)[0].rcpt[0], format!("TO:<bob@{whose}>"));
    }
    // Whose a key is may change while it is asked for: then it is nobody's.
    *world.vault.has_changed.lock().unwrap() = true;
    let signed = lines(&world.sign("GET", HOST, PENDING_PATH, None, &by_user));
    assert_eq!(world.get(PENDING_PATH, &signed).await.without_date(), nothing);
}
