//! The client over real sockets, against the server of this crate and against peers that follow a script.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use mail::Body;
use smtp::command::Tbr;
use smtp::server::OfferTbr;

use super::*;
use crate::dns::DnsError;
use crate::dns::table::Table;
use crate::loopback::{Scripted, Server, World, converse, domain, envelope, relay, submission};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\n.dot\r\nend\r\n";

fn to_b() -> Destination {
    Destination::exchangers_of(domain("b.example"))
}

fn to(port: u16, tls: TlsPolicy) -> Destination {
    Destination { route: Route::Host(domain("mx.b.example"), port), tls, ..to_b() }
}

fn content(octets: &'static [u8]) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    stream::iter(octets.chunks(7).map(|chunk| Ok(Bytes::from_static(chunk))))
}

async fn send(session: &mut Session, recipients: &[&str]) -> Transaction {
    session.by_value(&envelope(recipients), Bytes::new(), content(MESSAGE), MESSAGE.len() as u64).await
}

fn refusal(fate: &Fate) -> (Stage, String) {
    match fate {
        Fate::Permanent(refusal) | Fate::Temporary(refusal) => (refusal.stage, refusal.reply.to_string()),
        other => panic!("{other:?}"),
    }
}

fn offer_line() -> Tbr {
    Tbr::parse("0 https://tbr.a.example/.well-known/tbr/m?XUID=x&RCPT=y").unwrap()
}

#[tokio::test]
async fn messages_go_by_value_over_one_connection() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let client = world.client(server.address.port());
    for _ in 0..3 {
        let mut session = client.connect(&to_b()).await.unwrap();
        assert!(session.is_tls() && session.peer().starts_with("mx.b.example [127.0.0.1]:"));
        let prefix = Bytes::from_static(b"Received: here\r\n");
        let done = session
            .by_value(&envelope(&["bob@b.example", "no@b.example"]), prefix, content(MESSAGE), MESSAGE.len() as u64)
            .await;
        assert!(matches!(&done.fates[0], Fate::Accepted(reply) if reply.to_string().contains("queued as")));
        assert_eq!(refusal(&done.fates[1]).0, Stage::Rcpt);
        // MAIL, two RCPT, DATA, the content with one dot more and the lone dot; five replies.
        assert!((250..700).contains(&done.octets), "{}", done.octets);
        session.release();
    }
    assert_eq!(server.recorder.connects(), 1);
    let received = server.recorder.received();
    assert_eq!((received.len(), received[0].protocol.as_str()), (3, "ESMTPS"));
    assert_eq!(received[0].content, [b"Received: here\r\n", MESSAGE].concat());
    assert_eq!(received[0].recipients, ["bob@b.example"]);
}

#[tokio::test]
async fn offers_go_in_tls_and_their_octets_are_counted() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let client = world.client(server.address.port());
    let mut session = client.connect(&to_b()).await.unwrap();
    assert!(session.capabilities().tbr);
    let block = Bytes::from_static(b"TBR-Reference: v=1\r\n");
    let done = session.offer(&envelope(&["bob@b.example"]), offer_line(), block.clone()).await;
    assert!(done.fates[0].is_accepted());
    let client_octets = b"MAIL FROM:<alice@a.example>\r\nRCPT TO:<bob@b.example>\r\nTBR \r\n.\r\n".len()
        + offer_line().reveal().len()
        + block.len();
    assert!(done.octets > client_octets as u64 && done.octets < client_octets as u64 + 200, "{}", done.octets);
    // By value over the same connection.
    assert!(send(&mut session, &["bob@b.example"]).await.fates[0].is_accepted());
    let received = server.recorder.received();
    assert_eq!(received[0].offer, Some((offer_line().reveal().to_owned(), block.to_vec())));
    assert_eq!((received.len(), server.recorder.connects()), (2, 1));

    let mut settings = relay(&world.ca);
    settings.smtp.tbr = OfferTbr::Never;
    let server = Server::start(settings).await;
    let mut session = world.client(server.address.port()).connect(&to_b()).await.unwrap();
    let done = session.offer(&envelope(&["bob@b.example"]), offer_line(), block).await;
    let (stage, reply) = refusal(&done.fates[0]);
    assert!(stage == Stage::Offer && reply.starts_with("504"), "{reply}");
    assert!(send(&mut session, &["bob@b.example"]).await.fates[0].is_accepted());
}

#[tokio::test]
async fn ten_megabytes_arrive_whole() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let line = Bytes::from(".x234567890".repeat(6) + "\r\n");
    let chunk = Bytes::from(line.repeat(1 << 10));
    let (count, size) = (152, 152 * chunk.len() as u64);
    for tls in [TlsPolicy::Off, TlsPolicy::Verified] {
        let client = world.client(server.address.port());
        let mut session = client.connect(&to(server.address.port(), tls)).await.unwrap();
        assert_eq!(session.is_tls(), tls == TlsPolicy::Verified);
        let content = stream::iter(vec![chunk.clone(); count].into_iter().map(Ok));
        let done = session.by_value(&envelope(&["bob@b.example"]), Bytes::new(), content, size).await;
        assert!(done.fates[0].is_accepted());
        assert!((size + 60..size + 400).contains(&done.octets), "counted octets: no dots are added");
    }
    let received = server.recorder.received();
    assert!(
        received.iter().all(|r| r.content.chunks(chunk.len()).all(|c| c == chunk) && r.content.len() as u64 == size)
    );
}

#[tokio::test]
async fn tls_policies() {
    let world = World::new();
    let stranger = World::new();
    let with_tls = Server::start(relay(&world.ca)).await;
    let in_clear = Server::start(crate::smtp_server::Settings { tls: None, ..relay(&world.ca) }).await;
    let (with, without) = (with_tls.address.port(), in_clear.address.port());
    let outcome = async |world: &World, port, tls| match world.client(port).connect(&to(port, tls)).await {
        Ok(session) => Ok(session.is_tls()),
        Err(error) => Err((error.temporary, error.status.to_string())),
    };
    let refused = |status: &str| Err((true, status.to_owned()));
    assert_eq!(outcome(&world, with, TlsPolicy::Verified).await, Ok(true));
    assert_eq!(outcome(&stranger, with, TlsPolicy::Verified).await, refused("4.7.5"));
    assert_eq!(outcome(&stranger, with, TlsPolicy::Required).await, Ok(true));
    assert_eq!(outcome(&stranger, with, TlsPolicy::Opportunistic).await, Ok(true));
    assert_eq!(outcome(&world, with, TlsPolicy::Off).await, Ok(false));
    assert_eq!(outcome(&world, without, TlsPolicy::Opportunistic).await, Ok(false));
    assert_eq!(outcome(&world, without, TlsPolicy::Required).await, refused("4.7.4"));
    assert_eq!(outcome(&world, without, TlsPolicy::Verified).await, refused("4.7.4"));
}

fn answers(line: &str) -> String {
    match line.split(' ').next().unwrap_or_default() {
        "EHLO" => "250-peer.example\r\n250 PIPELINING\r\n",
        "DATA" => "354 go\r\n",
        "QUIT" => "221 bye\r\n",
        _ => "250 ok\r\n",
    }
    .to_owned()
}

#[tokio::test]
async fn where_the_handshake_fails_opportunists_go_on_in_clear() {
    let world = World::new();
    let peer = Scripted::start(|line| match line {
        "EHLO mx.a.example" => "250-peer.example\r\n250 STARTTLS\r\n".to_owned(),
        "STARTTLS" => "220 go\r\nthis is no TLS\r\n".to_owned(),
        line => answers(line),
    })
    .await;
    let client = world.client(peer.address.port());
    let mut session = client.connect(&to_b()).await.unwrap();
    assert!(!session.is_tls() && send(&mut session, &["bob@b.example"]).await.fates[0].is_accepted());
    assert_eq!(peer.connects.load(Ordering::SeqCst), 2);
    let required = to(peer.address.port(), TlsPolicy::Required);
    assert_eq!(client.connect(&required).await.err().unwrap().status.to_string(), "4.7.5");
}

#[tokio::test]
async fn logging_in_at_a_smart_host() {
    let world = World::new();
    let mut settings = submission(&world.ca);
    settings.implicit_tls = true;
    let server = Server::start(settings).await;
    let login = |password: &str| Some(Login { user: "alice".into(), password: Secret::new(password) });
    let port = server.address.port();
    let client = world.client(port);
    let destination = Destination { login: login("secret"), ..to(port, TlsPolicy::Implicit) };
    let mut session = client.connect(&destination).await.unwrap();
    assert!(send(&mut session, &["bob@c.example"]).await.fates[0].is_accepted());
    assert_eq!(server.recorder.received()[0].account.as_deref(), Some("alice"));
    session.release();
    // Another login is another destination.
    let wrong = Destination { login: login("wrong"), ..destination };
    let error = client.connect(&wrong).await.err().unwrap();
    assert!(error.temporary && error.status.to_string() == "4.7.8", "{error:?}");

    let mut settings = submission(&world.ca);
    settings.smtp.auth_in_clear = true;
    let server = Server::start(settings).await;
    let destination = Destination { login: login("secret"), ..to(server.address.port(), TlsPolicy::Off) };
    let error = client.connect(&destination).await.err().unwrap();
    assert!(error.text.contains("in clear"), "{error:?}");
}

#[tokio::test]
async fn what_the_peer_cannot_take_is_not_sent() {
    let world = World::new();
    let peer = Scripted::start(|line| match line {
        "EHLO mx.a.example" => "250-peer.example\r\n250 SIZE 20\r\n".to_owned(),
        line => answers(line),
    })
    .await;
    let mut session = world.client(peer.address.port()).connect(&to_b()).await.unwrap();
    let mut eight_bit = envelope(&["bob@b.example"]);
    eight_bit.params.body = Body::EightBit;
    let utf8 = envelope(&["jürgen@b.example"]);
    let plain = envelope(&["bob@b.example"]);
    for (envelope, size, status) in [(&eight_bit, 5, "5.6.3"), (&utf8, 5, "5.6.7"), (&plain, 21, "5.3.4")] {
        let done = session.by_value(envelope, Bytes::new(), content(MESSAGE), size).await;
        assert!(matches!(&done.fates[0], Fate::Permanent(_)) && done.octets == 0);
        assert!(refusal(&done.fates[0]).1.contains(status), "{done:?}");
    }
    assert_eq!(peer.heard(), ["EHLO mx.a.example"]);
    // The session is as good as before.
    let done = session.by_value(&plain, Bytes::new(), content(b"A: b\r\n"), 6).await;
    assert!(done.fates[0].is_accepted());
}

#[tokio::test]
async fn lmtp_answers_for_each_recipient_over_tcp_and_unix_sockets() {
    let world = World::new();
    let answer = |line: &str| match line.split(' ').next().unwrap_or_default() {
        "LHLO" => "250-lmtp.example\r\n250-8BITMIME\r\n250 PIPELINING\r\n".to_owned(),
        "RCPT" if line.contains("no@") => "550 5.1.1 who?\r\n".to_owned(),
        "." => "250 2.1.5 kept\r\n452 4.2.2 full\r\n".to_owned(),
        _ => answers(line),
    };
    let peer = Scripted::start(answer).await;
    let path = world.ca.folder.path().join("lmtp");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        converse(stream, Arc::new(answer), Arc::new(Mutex::default())).await;
    });
    let client = world.client(25);
    for route in [Route::Address(peer.address.ip(), peer.address.port()), Route::Unix(path)] {
        let mut session = client.connect(&Destination::lmtp(route)).await.unwrap();
        let done = send(&mut session, &["bob@b.example", "no@b.example", "full@b.example"]).await;
        assert!(done.fates[0].is_accepted());
        assert_eq!(refusal(&done.fates[1]), (Stage::Rcpt, "550 5.1.1 who?".to_owned()));
        assert_eq!(refusal(&done.fates[2]), (Stage::Content, "452 4.2.2 full".to_owned()));
        session.release();
    }
}

#[tokio::test]
async fn a_probe_asks_for_recipients_and_takes_its_leave() {
    let world = World::new();
    let peer = Scripted::start(|line| match line.split(' ').next().unwrap_or_default() {
        "RCPT" if line.contains("no@") => "550 5.1.1 who?\r\n".to_owned(),
        _ => answers(line),
    })
    .await;
    let settings = Settings { idle: Duration::from_millis(1), ..world.settings(peer.address.port()) };
    let client = world.client_with(settings);
    let mut session = client.connect(&to_b()).await.unwrap();
    let fates = session.probe(&envelope(&["bob@b.example", "no@b.example"])).await;
    assert!(fates[0].is_accepted(), "{fates:?}");
    assert_eq!(refusal(&fates[1]), (Stage::Rcpt, "550 5.1.1 who?".to_owned()));
    session.release();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !peer.heard().iter().any(|line| line == "QUIT") {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let verbs: Vec<_> = peer.heard().iter().filter_map(|line| line.get(..4).map(str::to_owned)).collect();
    assert_eq!(verbs, ["EHLO", "MAIL", "RCPT", "RCPT", "RSET", "QUIT"]);
}

#[tokio::test]
async fn hosts_are_tried_in_order_and_domains_without_mail_are_known() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let zone = "
        \n$ORIGIN .\nb.example MX 5 away.b.example\nb.example MX 10 mx.b.example
aside.example MX 1 gone.example\naway.b.example A 127.0.0.2\nmx.b.example A 127.0.0.1
null.example MX 0 .\nmx.a.example A 127.0.0.1\nbackup.example MX 5 mx.b.example\nbackup.example MX 10 mx.a.example
backup.example MX 20 away.b.example\nours.example MX 10 mx.a.example\nours.example MX 10 mx.b.example
text.example TXT x\n";
    let client = Client::new(world.settings(server.address.port()), world.resolver(zone));
    for name in ["b.example", "backup.example"] {
        let mut session = client.connect(&Destination::exchangers_of(domain(name))).await.unwrap();
        assert!(send(&mut session, &["bob@b.example"]).await.fates[0].is_accepted());
    }
    for (name, status) in [
        ("null.example", "5.1.10"),
        ("no.example", "5.1.2"),
        ("aside.example", "5.4.4"),
        ("text.example", "5.4.4"),
        ("ours.example", "5.4.6"),
    ] {
        let error = client.connect(&Destination::exchangers_of(domain(name))).await.err().unwrap();
        assert!(!error.temporary && error.status.to_string() == status, "{error:?}");
    }
    let nobody = Destination { route: Route::Host(domain("away.b.example"), server.address.port()), ..to_b() };
    let error = client.connect(&nobody).await.err().unwrap();
    assert!(
        error.temporary && error.status.to_string() == "4.4.1" && error.text.contains("away.b.example"),
        "{error:?}"
    );
    let missing = Destination { route: Route::Host(domain("no.example"), 25), ..to_b() };
    assert!(client.connect(&missing).await.err().unwrap().temporary);
}

#[tokio::test]
async fn hosts_that_refuse_for_good() {
    let world = World::new();
    let peer = Scripted::start(|_| "554 5.7.1 not you\r\n".to_owned()).await;
    let client = world.client(peer.address.port());
    let error = client.connect(&to_b()).await.err().unwrap();
    assert!(!error.temporary && error.status.to_string() == "5.7.1", "{error:?}");
    // A smart host's refusal returns no mail.
    let error = client.connect(&to(peer.address.port(), TlsPolicy::Off)).await.err().unwrap();
    assert!(error.temporary && error.status.to_string() == "4.7.1", "{error:?}");
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let world = World::new();
    // Says 421 to the second MAIL of each connection, as a server that has just lost its patience would.
    let count = std::sync::atomic::AtomicUsize::new(0);
    let peer = Scripted::start(move |line| match line.split(' ').next().unwrap_or_default() {
        "EHLO" => {
            count.store(0, Ordering::SeqCst);
            answers(line)
        }
        "MAIL" if count.fetch_add(1, Ordering::SeqCst) == 1 => "421 enough\r\n".to_owned(),
        _ => answers(line),
    })
    .await;
    let client = world.client(peer.address.port());
    for expected in 1..4 {
        let mut session = client.connect(&to_b()).await.unwrap();
        let done = send(&mut session, &["bob@b.example"]).await;
        assert!(done.fates[0].is_accepted(), "{done:?}");
        session.release();
        assert_eq!(peer.connects.load(Ordering::SeqCst), expected);
    }

    let server = Server::start(relay(&world.ca)).await;
    let client = world.client(server.address.port());
    let mut session = client.connect(&to_b()).await.unwrap();
    assert!(send(&mut session, &["bob@b.example"]).await.fates[0].is_accepted());
    session.release();
    let port = server.address.port();
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(client.connect(&to(port, TlsPolicy::Opportunistic)).await.is_err());
}

#[tokio::test]
async fn content_that_breaks_off_is_no_message() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let client = world.client(server.address.port());
    let failing = stream::iter([Ok(Bytes::from_static(b"A: b\r\n")), Err(io::Error::other("disk"))]);
    let mut session = client.connect(&to_b()).await.unwrap();
    let done = session.by_value(&envelope(&["bob@b.example", "no@b.example"]), Bytes::new(), failing, 100).await;
    assert_eq!(done.broken_content.unwrap().to_string(), "disk");
    assert!(matches!(done.fates[0], Fate::NotSent(_)) && refusal(&done.fates[1]).0 == Stage::Rcpt);
    for size in [MESSAGE.len() as u64 - 1, MESSAGE.len() as u64 + 1] {
        let mut session = client.connect(&to_b()).await.unwrap();
        let done = session.by_value(&envelope(&["bob@b.example"]), Bytes::new(), content(MESSAGE), size).await;
        assert!(done.broken_content.is_some() && matches!(done.fates[0], Fate::NotSent(_)));
    }
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(server.recorder.received().is_empty());
}

#[tokio::test]
async fn connections_are_counted_and_idle_ones_give_way() {
    let world = World::new();
    let (a, b) = (Server::start(relay(&world.ca)).await, Server::start(relay(&world.ca)).await);
    let mut settings = world.settings(25);
    settings.connections = 1;
    let client = world.client_with(settings);
    let (to_a, to_b) = (to(a.address.port(), TlsPolicy::Off), to(b.address.port(), TlsPolicy::Off));
    for _ in 0..3 {
        for (destination, other) in [(&to_a, &to_b), (&to_b, &to_a)] {
            let session = client.connect(destination).await.unwrap();
            let (client, other) = (client.clone(), other.clone());
            let waiting = tokio::spawn(async move { client.connect(&other).await.map(Session::release) });
            tokio::task::yield_now().await;
            session.release();
            waiting.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let world = World::new();
    let peer = Scripted::start(answers).await;
    let settings = Settings { idle: Duration::from_millis(1), ..world.settings(peer.address.port()) };
    let client = world.client_with(settings);
    client.connect(&to_b()).await.unwrap().release();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !peer.heard().iter().any(|line| line == "QUIT") {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn peers_that_take_too_long_or_talk_nonsense() {
    let world = World::new();
    let silent = Scripted::start(|line| match line.split(' ').next().unwrap_or_default() {
        "EHLO" => answers(line),
        // Nothing that ends a line.
        _ => "250-".to_owned(),
    })
    .await;
    let mut settings = world.settings(silent.address.port());
    settings.timeouts.mail = Duration::from_millis(50);
    let mut session = world.client_with(settings).connect(&to_b()).await.unwrap();
    let done = send(&mut session, &["bob@b.example"]).await;
    assert!(matches!(&done.fates[0], Fate::NotSent(Lost::Timeout)), "{done:?}");

    let odd = Scripted::start(|_| "hello there\r\n".to_owned()).await;
    let error = world.client(odd.address.port()).connect(&to_b()).await.err().unwrap();
    assert!(error.temporary && error.text.contains("no reply"), "{error:?}");
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let login = Login { user: "alice".into(), password: Secret::new("hush") };
    assert!(!format!("{login:?}").contains("hush"));
    assert_eq!(Route::Address("::1".parse().unwrap(), 25).to_string(), "[::1]:25");
}

/// A policy as it would lie on disk from an earlier run.
async fn with_policy(world: &World, mode: &str, mx: &str) -> Settings {
    let folder = world.ca.folder.path().join("policies");
    std::fs::create_dir_all(&folder).unwrap();
    let now = crate::wire::Clock::new().now();
    let fetched = serde_json::to_string(&now).unwrap();
    let policy = format!(r#"{{"mode":"{mode}","mx":["{mx}"],"max_age":86400}}"#);
    let entry = format!(r#"{{"domain":"b.example","id":"1","fetched":{fetched},"policy":{policy}}}"#);
    std::fs::write(folder.join("b.example.json"), entry).unwrap();
    let lookup = Arc::new(world.resolver(""));
    let tls = ClientTls::new(&crate::tls::Trust::CaFile(world.ca.ca_file())).unwrap();
    let client = crate::retrieval::Client::new(tls.verified, lookup.clone(), crate::retrieval::Config::default());
    let policies = MtaSts::new(lookup, client, Some(&folder), now).unwrap();
    Settings { mta_sts: Some(policies), ..world.settings(0) }
}

#[tokio::test]
async fn mta_sts_is_lived_up_to_where_it_is_enforced() {
    let world = World::new();
    let connect = async |mode: &str, mx: &str, certificate: &World| {
        let server = Server::start(relay(&certificate.ca)).await;
        let settings = Settings { mx_port: server.address.port(), ..with_policy(&world, mode, mx).await };
        let connected = world.client_with(settings).connect(&to_b()).await;
        (connected.map(|session| session.security().clone()), server.recorder.connects())
    };
    let (strange, host, other) = (World::new(), "*.b.example", "mx.c.example");
    assert_eq!(connect("enforce", host, &world).await.0, Ok(Security::WebPki));
    let (refused, connects) = connect("enforce", host, &strange).await;
    assert!(refused.as_ref().is_err_and(|e| e.temporary && e.text.contains("TLS cannot be negotiated")), "{refused:?}");
    assert_eq!(connects, 1, "there is no second try in clear");
    let (refused, connects) = connect("enforce", other, &world).await;
    assert!(refused.as_ref().is_err_and(|e| e.temporary && e.text.contains("not among the hosts")), "{refused:?}");
    assert_eq!(connects, 0);
    for (mode, mx) in [("testing", host), ("testing", other), ("none", other)] {
        assert_eq!(connect(mode, mx, &strange).await.0, Ok(Security::Opportunistic), "{mode} {mx}");
    }
}

/// What the records of `mx.b.example` make of a connection to it.
struct Signed {
    world: World,
    server: Server,
    records: Vec<String>,
    /// More of the zone.
    zone: String,
}

impl Signed {
    async fn new() -> Self {
        let world = World::new();
        let server = Server::start(relay(&world.ca)).await;
        Self { world, server, records: Vec::new(), zone: String::new() }
    }

    /// `3 1 1` of the server's certificate, or of another one.
    fn certificate(&self, usage: u8, ours: bool) -> String {
        let path = match ours {
            true => self.world.ca.folder.path().join("mx.pem"),
            false => self.world.ca.issue("mx.b.example", "other").certificate,
        };
        let der = crate::tls::certificates::end_entity(&path).unwrap();
        let parsed = rustls::server::ParsedCertificate::try_from(&der).unwrap();
        let key = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &parsed.subject_public_key_info());
        mail::tlsa::Tlsa { usage, selector: 1, matching: 1, data: key.as_ref().to_vec() }.to_string()
    }

    fn table(&self) -> Table {
        let port = self.server.address.port();
        let records: String =
            self.records.iter().map(|record| format!("_{port}._tcp.mx.b.example. TLSA {record}\n")).collect();
        let zone = format!("b.example. MX 10 mx.b.example.\nmx.b.example. A 127.0.0.1\n{}{records}", self.zone);
        Table::signed(&zone)
    }

    async fn connect(&self, table: Table) -> Result<Security, ConnectError> {
        self.connect_with(table, self.world.settings(0)).await
    }

    async fn connect_with(&self, table: Table, settings: Settings) -> Result<Security, ConnectError> {
        let settings = Settings { mx_port: self.server.address.port(), ..settings };
        let client = Client::new(settings, table.resolver());
        client.connect(&to_b()).await.map(|session| session.security().clone())
    }
}

fn word(security: &Result<Security, ConnectError>) -> String {
    match security {
        Ok(Security::Dane(_)) => "dane".to_owned(),
        Ok(security) => format!("{security:?}"),
        Err(error) => format!("{} {} {}", error.temporary, error.status, error.text),
    }
}

/// RFC 7672 §2.2, §3.1: what counts, and what it demands.
#[tokio::test]
async fn tlsa_records_say_what_certificate_there_must_be() {
    let mut site = Signed::new().await;
    let (ours, other, by_ca) = (site.certificate(3, true), site.certificate(3, false), site.certificate(1, true));
    let connects = |site: &Signed| site.server.recorder.connects();
    assert_eq!(word(&site.connect(site.table()).await), "Opportunistic");
    for records in [vec![ours.clone()], vec![other.clone(), ours.clone()], vec![by_ca.clone(), ours]] {
        site.records = records;
        assert_eq!(word(&site.connect(site.table()).await), "dane", "{:?}", site.records);
    }
    let before = connects(&site);
    site.records = vec![other];
    let refused = word(&site.connect(site.table()).await);
    assert!(refused.starts_with("true 4.7.5") && refused.contains("no TLSA record of mx.b.example"), "{refused}");
    assert_eq!(connects(&site), before + 1, "there is no second try in clear");
    // Nothing that can be used: TLS there must be.
    site.records = vec![by_ca];
    assert_eq!(word(&site.connect(site.table()).await), "Encrypted");
}

/// RFC 8460 §4.3.2.1, §4.4: under which policy and with which fault connections are told of where there are TLSA records.
#[tokio::test]
async fn what_comes_of_tlsa_records_is_told_by_its_kind() {
    let mut site = Signed::new().await;
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keeps = Arc::clone(&told);
    let observer = Observer::new(move |result: TlsResult| keeps.lock().unwrap().push((result.policy, result.fault)));
    let settings = Settings { tls_results: Some(observer), ..site.world.settings(0) };
    let heard = || std::mem::take(&mut *told.lock().unwrap());
    let tlsa = |records: &[&String]| {
        TlsPolicyFound::Tlsa(records.iter().map(|record| record.rsplit("TLSA ").next().unwrap().to_owned()).collect())
    };
    let (ours, other, by_ca) = (site.certificate(3, true), site.certificate(3, false), site.certificate(1, true));

    site.records = vec![ours.clone()];
    site.connect_with(site.table(), settings.clone()).await.unwrap();
    assert_eq!(heard(), [(tlsa(&[&ours]), None)]);
    site.records = vec![other.clone()];
    assert!(site.connect_with(site.table(), settings.clone()).await.is_err());
    assert_eq!(heard(), [(tlsa(&[&other]), Some(TlsFault::ValidationFailure))]);
    // The domain learns that its record says nothing; the connection itself then was under no policy.
    site.records = vec![by_ca.clone()];
    site.connect_with(site.table(), settings.clone()).await.unwrap();
    assert_eq!(heard(), [(tlsa(&[&by_ca]), Some(TlsFault::TlsaInvalid)), (TlsPolicyFound::NoPolicyFound, None)]);

    let name = format!("_{}._tcp.mx.b.example", site.server.address.port());
    let forged = DnsError::Bogus("no signature holds".into());
    assert!(site.connect_with(site.table().failing(&name, forged), settings.clone()).await.is_err());
    assert_eq!(heard(), [(TlsPolicyFound::Tlsa(Vec::new()), Some(TlsFault::DnssecInvalid))]);
    // Name servers that do not answer are no matter of TLS.
    let gone = DnsError::Temporary("SERVFAIL".into());
    assert!(site.connect_with(site.table().failing(&name, gone), settings).await.is_err());
    assert_eq!(heard(), []);
}

/// RFC 7672 §2.1.2, §2.2.1: without DNSSEC nothing counts; what fails is no absence.
#[tokio::test]
async fn forged_and_missing_answers_weaken_nothing() {
    let mut site = Signed::new().await;
    site.records = vec![site.certificate(3, false)];
    let name = format!("_{}._tcp.mx.b.example", site.server.address.port());
    assert_eq!(word(&site.connect(site.table().unsigned("b.example")).await), "Opportunistic");
    let before = site.server.recorder.connects();
    for failing in [name.as_str(), "mx.b.example"] {
        let gone = DnsError::Temporary("SERVFAIL".into());
        let deferred = word(&site.connect(site.table().failing(failing, gone)).await);
        assert!(deferred.starts_with("true 4.4.3"), "{failing}: {deferred}");
    }
    assert_eq!(site.server.recorder.connects(), before, "nobody is connected to meanwhile");
    // Of a forged exchanger nothing proves more than that it is itself.
    site.zone = "open.example. MX 5 mx.b.example.\n".to_owned();
    let settings = Settings { mx_port: site.server.address.port(), ..site.world.settings(0) };
    let client = Client::new(settings, site.table().unsigned("open.example").resolver());
    let session = client.connect(&Destination::exchangers_of(domain("open.example"))).await.unwrap();
    assert_eq!(session.security(), &Security::Opportunistic);
    let off = Settings { dane: false, ..site.world.settings(0) };
    assert_eq!(word(&site.connect_with(site.table(), off).await), "Opportunistic");
}

/// RFC 8461 §2; what DANE cannot say, MTA-STS may.
#[tokio::test]
async fn dane_comes_before_mta_sts() {
    let mut site = Signed::new().await;
    let (ours, other) = (site.certificate(3, true), site.certificate(3, false));
    let enforced = with_policy(&site.world, "enforce", "mx.b.example").await;
    let elsewhere = with_policy(&World::new(), "enforce", "mx.c.example").await;
    site.records = vec![ours];
    assert_eq!(word(&site.connect_with(site.table(), enforced.clone()).await), "dane");
    assert_eq!(word(&site.connect_with(site.table(), elsewhere).await), "dane");
    site.records = vec![other];
    let refused = word(&site.connect_with(site.table(), enforced.clone()).await);
    assert!(refused.contains("no TLSA record"), "{refused}");
    site.records = vec![site.certificate(0, true)];
    assert_eq!(word(&site.connect_with(site.table(), enforced).await), "WebPki");
}

/// RFC 7672 §8.1, §3.2.2: the server is asked for the base domain, and an issuer's word counts for the next hop too.
#[tokio::test]
async fn the_server_is_asked_for_the_name_of_its_records() {
    let mut site = Signed::new().await;
    site.records = vec![site.certificate(3, true)];
    site.zone = "b.example. MX 5 alias.b.example.\nalias.b.example. CNAME mx.b.example.\n".to_owned();
    let found = site.connect(site.table()).await.unwrap();
    let Security::Dane(dane) = found else { panic!("{found:?}") };
    assert_eq!(dane.base(), &domain("mx.b.example"));
}

#[tokio::test]
async fn a_peer_without_starttls_gets_nothing_where_records_stand() {
    let mut site = Signed::new().await;
    site.records = vec![site.certificate(3, true), site.certificate(0, true)];
    let bare = crate::smtp_server::Settings { tls: None, ..relay(&site.world.ca) };
    site.server = Server::start(bare).await;
    for record in std::mem::take(&mut site.records) {
        site.records = vec![record];
        let refused = word(&site.connect(site.table()).await);
        assert!(refused.starts_with("true 4.7.4"), "{refused}");
    }
    assert!(site.server.recorder.received().is_empty());
}

#[tokio::test]
async fn a_look_at_a_peer_tells_of_its_records() {
    let mut site = Signed::new().await;
    site.records = vec![site.certificate(3, true)];
    let settings = Settings { mx_port: site.server.address.port(), ..site.world.settings(0) };
    let examine = async |table: Table| {
        let client = Client::new(settings.clone(), table.resolver());
        let mut all = client.examine(&domain("b.example")).await.unwrap();
        all.remove(0)
    };
    let found = examine(site.table()).await;
    assert!(found.signed && found.tlsa == site.records, "{found:?}");
    assert!(matches!(found.demand, Ok(Security::Dane(_))) && matches!(found.met.unwrap().security, Security::Dane(_)));
    let found = examine(site.table().unsigned("b.example")).await;
    assert!(!found.signed && found.tlsa.is_empty(), "{found:?}");
}

/// A relay that offers REQUIRETLS, or does not.
async fn requiring(world: &World, offers: bool) -> Server {
    let mut settings = relay(&world.ca);
    settings.smtp.requiretls = offers;
    Server::start(settings).await
}

/// RFC 8689 §4.2.1: name, certificate and keyword, or nothing.
#[tokio::test]
async fn what_requires_tls_goes_to_proven_hosts_that_offer_it() {
    let mut site = Signed::new().await;
    let required = Destination { asks: MessageTls::Required, ..to_b() };
    let connect = async |site: &Signed, table: Table, mut settings: Settings| {
        settings.mx_port = site.server.address.port();
        let client = Client::new(settings, table.resolver());
        word(&client.connect(&required).await.map(|session| session.security().clone()))
    };
    let plain = || site.world.settings(0);
    let (plain, enforced) = (plain(), with_policy(&site.world, "enforce", "mx.b.example").await);
    let testing = with_policy(&site.world, "testing", "mx.b.example").await;

    site.server = requiring(&site.world, true).await;
    let unsigned = |site: &Signed| site.table().unsigned("b.example");
    // The exchanger's name: by DNSSEC or by an enforced policy.
    assert_eq!(connect(&site, site.table(), plain.clone()).await, "WebPki");
    assert_eq!(connect(&site, unsigned(&site), enforced.clone()).await, "WebPki");
    for settings in [plain.clone(), testing] {
        let refused = connect(&site, unsigned(&site), settings).await;
        assert!(refused.starts_with("false 5.7.30") && refused.contains("neither DNSSEC"), "{refused}");
    }
    site.records = vec![site.certificate(3, true)];
    assert_eq!(connect(&site, site.table(), plain.clone()).await, "dane");
    // The certificate.
    site.records = vec![site.certificate(3, false)];
    assert!(connect(&site, site.table(), plain.clone()).await.starts_with("false 5.7.10"));
    // What cannot be told now may be told later.
    let name = format!("_{}._tcp.mx.b.example", site.server.address.port());
    let failing = site.table().failing(&name, DnsError::Bogus("forged".into()));
    assert!(connect(&site, failing, plain.clone()).await.starts_with("true 4.4.3"));
    site.records.clear();
    // The keyword, and TLS itself.
    site.server = requiring(&site.world, false).await;
    let refused = connect(&site, site.table(), plain.clone()).await;
    assert!(refused.starts_with("false 5.7.30") && refused.contains("does not offer"), "{refused}");
    site.server = Server::start(crate::smtp_server::Settings { tls: None, ..relay(&site.world.ca) }).await;
    assert!(connect(&site, site.table(), plain).await.starts_with("false 5.7.10"));
    assert!(site.server.recorder.received().is_empty());
}

#[tokio::test]
async fn a_next_hop_of_the_operators_is_verified_for_what_requires_tls() {
    let world = World::new();
    let (with, without) = (requiring(&world, true).await, requiring(&world, false).await);
    let connect = async |world: &World, server: &Server, tls| {
        let destination = Destination { asks: MessageTls::Required, ..to(server.address.port(), tls) };
        word(&world.client(0).connect(&destination).await.map(|session| session.security().clone()))
    };
    for tls in [TlsPolicy::Off, TlsPolicy::Opportunistic, TlsPolicy::Required, TlsPolicy::Verified] {
        assert_eq!(connect(&world, &with, tls).await, "WebPki");
        let wrong = connect(&World::new(), &with, tls).await;
        assert!(wrong.starts_with("true 4.7.5"), "the operator can mend that: {wrong}");
        assert!(connect(&world, &without, tls).await.starts_with("false 5.7.30"));
    }
}

/// RFC 8689 §4.2.2: the author's word against the recipient's, but not against the operator's.
#[tokio::test]
async fn tls_is_optional_where_the_author_says_so() {
    let mut site = Signed::new().await;
    site.records = vec![site.certificate(3, false)];
    let enforced = with_policy(&World::new(), "enforce", "mx.c.example").await;
    let settings = Settings { mx_port: site.server.address.port(), ..enforced };
    let client = Client::new(settings, site.table().resolver());
    let optional = Destination { asks: MessageTls::Optional, ..to_b() };
    let session = client.connect(&optional).await.unwrap();
    assert!(session.is_tls() && *session.security() == Security::Opportunistic);
    let verified = Destination { asks: MessageTls::Optional, ..to(site.server.address.port(), TlsPolicy::Verified) };
    assert!(World::new().client(0).connect(&verified).await.is_err());
}

#[tokio::test]
async fn as_many_transactions_as_the_peer_announces() {
    let world = World::new();
    let mut settings = relay(&world.ca);
    settings.smtp.limits.transactions = Some(2);
    let server = Server::start(settings).await;
    let client = world.client(server.address.port());
    for expected in [1, 1, 2, 2, 3] {
        let mut session = client.connect(&to_b()).await.unwrap();
        assert_eq!(session.capabilities().limits.transactions, Some(2));
        assert!(send(&mut session, &["bob@b.example"]).await.fates[0].is_accepted());
        session.release();
        assert_eq!(server.recorder.connects(), expected);
    }
}
