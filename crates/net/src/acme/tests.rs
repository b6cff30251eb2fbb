//! What no real authority shows: one that leads elsewhere, or sends what would bring a client down. How certificates are had of a real
//! one, Pebble, is in `crates/restante/tests/acme.rs`.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use mail::Timestamp;
use rcgen::{CertificateParams, Issuer, KeyPair, SerialNumber};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::{Authority as Ca, Play, Scripted, Table, domain, header};
use crate::tls::tests::{Ca as FileCa, handshake};
use crate::tls::{Certificates, Versions, server_config};

const NAME: &str = "mx.a.example";

/// What an authority is asked; signatures are not looked at.
struct Asked {
    base: String,
    path: String,
    payload: Value,
}

impl Asked {
    fn read(request: &str) -> Self {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let jws: Value = serde_json::from_str(body).unwrap_or_default();
        let payload = BASE64.decode(jws["payload"].as_str().unwrap_or_default()).unwrap();
        Self {
            base: format!("https://{}", header(head, "host").unwrap()),
            path: head.split(' ').nth(1).unwrap().to_owned(),
            payload: serde_json::from_slice(&payload).unwrap_or_default(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn directory(&self) -> Value {
        json!({ "newNonce": self.url("/nonce"), "newAccount": self.url("/account"), "newOrder": self.url("/order") })
    }

    /// An order whose names were proven before.
    fn order(&self, status: &str) -> Value {
        json!({ "status": status, "authorizations": [], "finalize": self.url("/finalize"),
            "certificate": self.url("/certificate") })
    }
}

/// Status, further fields (each ends the line before it) and body.
type Answer = (&'static str, String, Value);

fn fine(body: Value) -> Answer {
    ("200 OK", String::new(), body)
}

/// An authority of which a script says what it answers.
struct Odd {
    authority: Authority,
    server: Scripted,
}

impl Odd {
    async fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let (ca, table) = (Ca::new(), Table::new());
        let script = move |_: usize, request: &str| {
            let asked = Asked::read(request);
            let (status, fields, body) = answer(&asked);
            let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
            let body = if request.starts_with("HEAD") { "" } else { &body };
            let place = asked.url("/somewhere");
            let head = format!(
                "{status}\nReplay-Nonce: n\nLocation: {place}\nConnection: close\nContent-Length: {}{fields}",
                body.len()
            );
            Play::cut_after(&head, body.as_bytes())
        };
        let server = Scripted::new(ca.server(&["acme.example"]), Box::new(script)).await;
        let directory = format!("https://acme.example:{}/directory", server.port);
        Self { authority: Authority::new(&directory, table, ca.client(), Challenges::default()), server }
    }

    async fn issue(&self) -> Result<String, AcmeError> {
        self.issue_after(None).await
    }

    /// In the place of another certificate.
    async fn issue_after(&self, replaces: Option<&CertificateDer<'_>>) -> Result<String, AcmeError> {
        let account = self.authority.new_account(Some("mailto:postmaster@a.example")).await?;
        let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
        let request = Request { names: &[domain(NAME)], csr: csr.der(), replaces };
        self.authority.issue(account, &request).await
    }

    /// How often a path was asked for.
    fn count(&self, path: &str) -> usize {
        let line = format!("POST {path} ");
        self.server.requests().iter().filter(|request| request.starts_with(&line)).count()
    }
}

#[tokio::test]
async fn a_wait_beyond_every_clock_and_urls_that_are_none_cost_a_certificate_and_no_more() {
    let endless = Odd::new(|asked| match asked.path.as_str() {
        "/directory" => fine(asked.directory()),
        "/order" => fine(asked.order("pending")),
        _ => ("200 OK", format!("\nRetry-After: {}", u64::MAX), asked.order("pending")),
    });
    let endless = endless.await;
    let refused = endless.issue().await.unwrap_err();
    assert!(refused.to_string().contains("nobody can use"), "{refused}");
    let broken = Odd::new(|asked| match asked.path.as_str() {
        "/directory" => fine(json!({ "newNonce": "\u{1}", "newAccount": "", "newOrder": "" })),
        _ => fine(json!({})),
    });
    let refused = broken.await.issue().await.unwrap_err();
    assert!(refused.to_string().contains("nobody can use"), "{refused}");
}

#[tokio::test]
async fn an_order_is_begun_again_where_the_authority_wants_none_of_its_nonces_and_not_for_ever() {
    let moody = Odd::new(|asked| match asked.path.as_str() {
        "/directory" => fine(asked.directory()),
        "/order" => {
            let problem = json!({ "type": STALE });
            ("400 Bad Request", String::new(), problem)
        }
        _ => fine(json!({})),
    });
    let moody = moody.await;
    let refused = moody.issue().await.unwrap_err();
    assert!(refused.to_string().contains("badNonce"), "{refused}");
    // The library asks three times for each.
    assert_eq!(moody.count("/order"), 3 * ORDERS);
}

#[tokio::test]
async fn nothing_is_said_of_a_name_that_was_not_ordered() {
    let curious = Odd::new(|asked| match asked.path.as_str() {
        "/directory" => fine(asked.directory()),
        "/order" => {
            let mut order = asked.order("pending");
            order["authorizations"] = json!([asked.url("/authorization")]);
            fine(order)
        }
        "/authorization" => {
            let (status, url) = ("pending", asked.url("/challenge"));
            let challenge = json!({ "type": "http-01", "url": url, "token": "t", "status": status });
            let identifier = json!({ "type": "dns", "value": "mx.other.example" });
            fine(json!({ "status": status, "identifier": identifier, "challenges": [challenge] }))
        }
        _ => fine(json!({})),
    });
    let curious = curious.await;
    let refused = curious.issue().await.unwrap_err();
    assert!(refused.to_string().contains("mx.other.example was not ordered"), "{refused}");
    assert_eq!(curious.count("/challenge"), 0);
}

#[tokio::test]
async fn a_stranger_at_the_door_gets_nothing() {
    let (challenges, stop) = (Challenges::default(), CancellationToken::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = challenges.answer("t", Proof::Text("t.thumb".to_owned()));
    tokio::spawn(http_01::serve(listener, challenges.clone(), stop.clone()));
    for (request, status) in [
        ("GET /.well-known/acme-challenge/t HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("POST /.well-known/acme-challenge/t HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "404"),
        ("GET /.well-known/acme-challenge/../t HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
    ] {
        let answered = ask(port, request).await;
        assert!(answered.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answered}");
    }
    drop(answer);
    let answered = ask(port, "GET /.well-known/acme-challenge/t HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answered.starts_with("HTTP/1.1 404"), "it was taken back: {answered}");
    stop.cancel();
}

async fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
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

/// Takes any certificate, as an authority does: the critical extension of a proof is beyond every ordinary client.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[test]
fn a_proof_is_shown_to_who_asks_by_its_protocol_and_only_while_it_counts() {
    let ca = FileCa::new();
    let certificates = Certificates::load(&[ca.issue(NAME, "mx")]).unwrap();
    let challenges = Challenges::new(Kind::TlsAlpn01);
    let answering = Arc::new(tls_alpn_01::Answering::new(certificates, challenges.clone()));
    let (http, question) = (&b"http/1.1"[..], tls_alpn_01::PROTOCOL);
    let server = server_config(answering, Versions::Only13, &[http, question]).unwrap();
    let shown = |protocols: &[&[u8]], name: &str| {
        let client = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]).dangerous();
        let mut client = client.with_custom_certificate_verifier(Arc::new(Anything)).with_no_client_auth();
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        handshake(&server, &Arc::new(client), name)
    };
    let usual = shown(&[http], NAME).unwrap();
    assert!(shown(&[question], NAME).is_err(), "nobody has ordered anything");
    let digest = [7; 32];
    let proof = tls_alpn_01::certificate(&domain(NAME), &digest).unwrap();
    let answer = challenges.answer(NAME, Proof::Certificate(Arc::new(proof)));
    let proof = shown(&[question], NAME).unwrap();
    // id-pe-acmeIdentifier, critical, an OCTET STRING within an OCTET STRING (RFC 8737 §3).
    let extension = [&[6, 8, 43, 6, 1, 5, 5, 7, 1, 31, 1, 1, 255, 4, 34, 4, 32][..], &digest].concat();
    assert!(proof.windows(extension.len()).any(|window| window == extension), "{proof:?}");
    assert_eq!(shown(&[question], &NAME.to_ascii_uppercase()).unwrap(), proof);
    assert!(shown(&[question], "mx.b.example").is_err(), "another name");
    assert_eq!(shown(&[http], NAME).unwrap(), usual);
    assert_eq!(shown(&[question, http], NAME).unwrap(), usual, "whoever can do more is no authority");
    drop(answer);
    assert!(shown(&[question], NAME).is_err(), "it was taken back");
}

/// A certificate that names its authority's key.
fn certificate() -> CertificateDer<'static> {
    let issuer = Issuer::new(CertificateParams::new(Vec::new()).unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(&[0x87, 1]));
    params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
}

/// An authority with renewal information, which it answers with these fields and this window.
async fn adviser(fields: &'static str, window: Value) -> Odd {
    Odd::new(move |asked| {
        let (url, renewal) = (asked.url("/renewal"), asked.path.starts_with("/renewal/"));
        let mut directory = asked.directory();
        directory["renewalInfo"] = json!(url);
        match asked.path.as_str() {
            "/directory" => fine(directory),
            _ if renewal => {
                let why = "https://acme.example/why\u{7}";
                ("200 OK", fields.to_owned(), json!({ "suggestedWindow": window, "explanationURL": why }))
            }
            // It has replaced that one already, and issues nothing.
            "/order" if asked.payload["replaces"].is_string() => {
                ("409 Conflict", String::new(), json!({ "type": "urn:ietf:params:acme:error:alreadyReplaced" }))
            }
            "/order" => ("403 Forbidden", String::new(), json!({ "detail": "closed today" })),
            _ => fine(json!({})),
        }
    })
    .await
}

impl Odd {
    async fn suggestion(&self, of: &CertificateDer<'_>) -> Result<Option<renewal::Suggestion>, AcmeError> {
        let account = self.authority.new_account(None).await?;
        self.authority.suggestion(account, of).await
    }
}

#[tokio::test]
async fn an_authority_says_when_a_certificate_is_to_be_renewed() {
    let of = certificate();
    let window = json!({ "start": "2027-01-02T04:00:00Z", "end": "2027-01-03T04:00:00Z" });
    let odd = adviser("\nRetry-After: 21600", window.clone()).await;
    let found = odd.suggestion(&of).await.unwrap().unwrap();
    let (start, end) = (Timestamp::from_secs(1_798_862_400), Timestamp::from_secs(1_798_948_800));
    let explanation = Some("https://acme.example/why".to_owned());
    assert_eq!(found.window, renewal::Window { start, end, explanation });
    assert!(found.pause.as_secs().abs_diff(21600) < 60, "{:?}", found.pause);
    // Asked without a signature, by key identifier and serial number, with the zero that a positive number needs (RFC 9773 §4.1).
    let asked = odd.server.requests().into_iter().find(|request| request.starts_with("GET /renewal/")).unwrap();
    assert!(asked.split(' ').nth(1).unwrap().ends_with(".AIcB"), "{asked}");
    for (fields, pause) in
        [("\nRetry-After: 0", renewal::LEAST_PAUSE), ("\nRetry-After: 9999999", renewal::LONGEST_PAUSE)]
    {
        assert_eq!(adviser(fields, window.clone()).await.suggestion(&of).await.unwrap().unwrap().pause, pause);
    }
    for (fields, start) in [
        ("", "2027-01-02T04:00:00Z"),
        ("\nRetry-After: 60", "2027-01-03T04:00:00Z"),
        ("\nRetry-After: 18446744073709551615", "2027-01-02T04:00:00Z"),
    ] {
        let broken = json!({ "start": start, "end": "2027-01-03T04:00:00Z" });
        assert!(adviser(fields, broken).await.suggestion(&of).await.is_err(), "{fields} {start}");
    }
    let silent = Odd::new(|asked| fine(if asked.path == "/directory" { asked.directory() } else { json!({}) })).await;
    assert_eq!(silent.suggestion(&of).await.unwrap(), None);
}

#[tokio::test]
async fn an_order_says_which_certificate_it_replaces_and_does_without_where_that_is_refused() {
    let odd = adviser("", json!({})).await;
    let refused = odd.issue_after(Some(&certificate())).await.unwrap_err();
    assert!(refused.to_string().contains("closed today"), "{refused}");
    let requests = odd.server.requests();
    let orders = requests.iter().filter(|request| request.starts_with("POST /order "));
    let replaced: Vec<_> = orders.map(|request| Asked::read(request).payload["replaces"].clone()).collect();
    assert!(replaced.len() == 2 && replaced[1].is_null(), "{replaced:?}");
    assert!(replaced[0].as_str().unwrap().ends_with(".AIcB"), "{replaced:?}");
}
