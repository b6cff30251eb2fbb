//! A certificate from a small authority of our own: it checks every signature and nonce, asks the name over real HTTP, and issues
//! for the key in the request.

use std::collections::HashSet;
use std::sync::Mutex;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::{Authority as Ca, Table, domain};

const NAME: &str = "mx.a.example";

/// RFC 8555, one account, one order for one name.
struct Pebble {
    base: String,
    /// Where http-01 is asked: port 80 but for tests.
    challenge_port: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nonces: HashSet<String>,
    drawn: usize,
    key: Option<Vec<u8>>,
    thumbprint: String,
    authorized: bool,
    problem: Option<Value>,
    certificate: Option<String>,
    /// Nonces to be refused once, though they are good.
    moody: usize,
    posts: usize,
}

/// The public key of a request.
struct Requested(Vec<u8>);

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Pebble {
    async fn start(ca: &Ca, challenge_port: u16) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://acme.example:{}", listener.local_addr().unwrap().port());
        let pebble = Arc::new(Self { base, challenge_port, state: Mutex::new(State { moody: 1, ..State::default() }) });
        let (acceptor, serving) = (TlsAcceptor::from(ca.server(&["acme.example"])), Arc::clone(&pebble));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let pebble = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = service_fn(|request| Arc::clone(&pebble).answer(request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        pebble
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<hyper::body::Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let path = request.uri().path().to_owned();
        let is_post = request.method() == hyper::Method::POST;
        let body = request.into_body().collect().await?.to_bytes();
        let (status, value) = match (path.as_str(), is_post) {
            ("/directory", false) => (200, self.directory()),
            ("/nonce", false) => (200, json!({})),
            (_, true) => match self.verify(&path, &body) {
                Err(problem) => (400, json!({ "type": format!("urn:ietf:params:acme:error:{problem}") })),
                Ok(payload) => self.post(&path, &payload).await,
            },
            _ => (404, json!({})),
        };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let place = if path == "/account" { "/account/1" } else { "/order/1" };
        let response = Response::builder().status(status).header("Replay-Nonce", self.nonce());
        Ok(response.header("Location", format!("{}{place}", self.base)).body(Full::new(text.into())).unwrap())
    }

    fn directory(&self) -> Value {
        let url = |path: &str| format!("{}{path}", self.base);
        json!({ "newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/order"), "revokeCert": url("/revoke"), "keyChange": url("/key") })
    }

    fn nonce(&self) -> String {
        let mut state = self.state.lock().unwrap();
        state.drawn += 1;
        let nonce = format!("nonce{}", state.drawn);
        state.nonces.insert(nonce.clone());
        nonce
    }

    /// RFC 8555 §6: signature, URL and nonce; the account's key comes with the first request.
    fn verify(&self, path: &str, body: &[u8]) -> Result<Value, &'static str> {
        let jws: Value = serde_json::from_slice(body).map_err(|_| "malformed")?;
        let part = |name: &str| jws[name].as_str().unwrap_or_default();
        let decoded = |name: &str| BASE64.decode(part(name)).map_err(|_| "malformed");
        let header: Value = serde_json::from_slice(&decoded("protected")?).map_err(|_| "malformed")?;
        let mut state = self.state.lock().unwrap();
        state.posts += 1;
        if !state.nonces.remove(header["nonce"].as_str().unwrap_or_default()) {
            return Err("badNonce");
        }
        if state.moody > 0 {
            state.moody -= 1;
            return Err("badNonce");
        }
        if header["url"] != format!("{}{path}", self.base) || header["alg"] != "ES256" {
            return Err("unauthorized");
        }
        if path == "/account" {
            let (x, y) = (header["jwk"]["x"].as_str().unwrap(), header["jwk"]["y"].as_str().unwrap());
            let octets = |text: &str| BASE64.decode(text).unwrap();
            state.key = Some([vec![4], octets(x), octets(y)].concat());
            let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
            state.thumbprint = BASE64.encode(digest);
        } else if header["kid"] != format!("{}/account/1", self.base) {
            return Err("accountDoesNotExist");
        }
        let key = state.key.clone().ok_or("accountDoesNotExist")?;
        let signed = format!("{}.{}", part("protected"), part("payload"));
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
        key.verify(signed.as_bytes(), &decoded("signature")?).map_err(|_| "malformed")?;
        Ok(serde_json::from_slice(&decoded("payload")?).unwrap_or_default())
    }

    async fn post(&self, path: &str, payload: &Value) -> (u16, Value) {
        match path {
            "/account" => (201, json!({ "status": "valid" })),
            "/order" if payload["identifiers"][0]["value"] != NAME => (403, json!({ "type": "rejectedIdentifier" })),
            "/order" => (201, self.order()),
            "/order/1" => (200, self.order()),
            "/authorization/1" => (200, self.authorization()),
            "/challenge/1" => {
                self.ask().await;
                (200, self.authorization()["challenges"][0].clone())
            }
            "/finalize/1" => {
                self.issue(&BASE64.decode(payload["csr"].as_str().unwrap()).unwrap());
                (200, self.order())
            }
            "/certificate/1" => (200, json!(self.state.lock().unwrap().certificate)),
            _ => (404, json!({})),
        }
    }

    fn order(&self) -> Value {
        let state = self.state.lock().unwrap();
        let status = match (&state.certificate, state.authorized, &state.problem) {
            (Some(_), ..) => "valid",
            (None, true, _) => "ready",
            (None, false, None) => "pending",
            (None, false, Some(_)) => "invalid",
        };
        let url = |path: &str| format!("{}{path}", self.base);
        json!({ "status": status, "authorizations": [url("/authorization/1")], "finalize": url("/finalize/1"), "certificate": url("/certificate/1") })
    }

    fn authorization(&self) -> Value {
        let state = self.state.lock().unwrap();
        let status = if state.authorized { "valid" } else { "pending" };
        let challenge = json!({ "type": "http-01", "url": format!("{}/challenge/1", self.base), "token": "t0ken", "status": "pending" });
        json!({ "status": status, "identifier": { "type": "dns", "value": NAME }, "challenges": [challenge] })
    }

    /// RFC 8555 §8.3, over a real connection.
    async fn ask(&self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.challenge_port)).await.unwrap();
        let request = format!("GET /.well-known/acme-challenge/t0ken HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let mut state = self.state.lock().unwrap();
        let wanted = format!("t0ken.{}", state.thumbprint);
        state.authorized = answer.starts_with("HTTP/1.1 200") && answer.split("\r\n\r\n").nth(1) == Some(&wanted);
        if !state.authorized {
            state.problem = Some(json!({ "type": "unauthorized" }));
        }
    }

    /// For the key in the request: the uncompressed point stands between its two names of the curve and what follows.
    fn issue(&self, csr: &[u8]) {
        let curve = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00];
        let at = csr.windows(curve.len()).position(|window| window == curve).unwrap() + curve.len();
        let requested = Requested(csr[at..at + 65].to_vec());
        let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::from_params(&params, &key);
        let issued = params.signed_by(&requested, &issuer).unwrap();
        self.state.lock().unwrap().certificate = Some(issued.pem());
    }
}

struct World {
    pebble: Arc<Pebble>,
    authority: Authority,
    stop: CancellationToken,
}

impl World {
    /// `answers`: are the challenges served?
    async fn new(answers: bool) -> Self {
        let (ca, table, stop) = (Ca::new(), Table::new(), CancellationToken::new());
        table.set_host("acme.example", &["127.0.0.1"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let challenges = Challenges::default();
        let served = if answers { challenges.clone() } else { Challenges::default() };
        tokio::spawn(challenges::serve(listener, served, stop.clone()));
        let pebble = Pebble::start(&ca, port).await;
        let authority = Authority::new(&format!("{}/directory", pebble.base), table, ca.client(), challenges);
        Self { pebble, authority, stop }
    }

    async fn issue(&self, name: &str, key: &KeyPair) -> Result<String, AcmeError> {
        let account = self.authority.new_account(Some("mailto:postmaster@a.example")).await?;
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let csr = params.serialize_request(key).unwrap();
        self.authority.issue(account, &[domain(name)], csr.der()).await
    }
}

#[tokio::test]
async fn a_certificate_is_issued_for_our_key_after_the_name_has_answered() {
    let world = World::new(true).await;
    let key = KeyPair::generate().unwrap();
    let chain = world.issue(NAME, &key).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.pem");
    std::fs::write(&path, format!("{chain}{}", key.serialize_pem())).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let files = crate::tls::CertificateFiles { certificate: path.clone(), key: path };
    crate::tls::Certificates::load(&[files]).unwrap();
    assert!(world.pebble.state.lock().unwrap().posts > 5, "one of them was for a nonce that was refused");
    let left = world.authority.challenges.find("/.well-known/acme-challenge/t0ken");
    assert_eq!(left, None, "the answer was taken back");
    world.stop.cancel();
}

#[tokio::test]
async fn a_name_that_does_not_answer_and_one_that_is_not_ours_get_none() {
    let world = World::new(false).await;
    let key = KeyPair::generate().unwrap();
    let refused = world.issue(NAME, &key).await.unwrap_err();
    assert!(refused.to_string().contains("refuses"), "{refused}");
    let world = World::new(true).await;
    assert!(world.issue("mx.other.example", &key).await.is_err());
}

#[tokio::test]
async fn a_stranger_at_the_door_gets_nothing() {
    let (challenges, stop) = (Challenges::default(), CancellationToken::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _answer = challenges.answer("t", "t.thumb");
    tokio::spawn(challenges::serve(listener, challenges.clone(), stop.clone()));
    for (request, status) in [
        ("GET /.well-known/acme-challenge/t HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("POST /.well-known/acme-challenge/t HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "404"),
        ("GET /.well-known/acme-challenge/../t HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    stop.cancel();
}

#[tokio::test]
async fn a_directory_that_leads_to_http_is_not_followed() {
    let (ca, table) = (Ca::new(), Table::new());
    table.set_host("acme.example", &["127.0.0.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://acme.example:{}/directory", listener.local_addr().unwrap().port());
    let authority = Authority::new(&url, table, ca.client(), Challenges::default());
    let refused = authority.new_account(None).await.err().unwrap();
    assert!(refused.to_string().contains("not https"), "{refused}");
}
