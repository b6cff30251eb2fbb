//! The server over real sockets, spoken to by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rsasl::prelude::{Mechname, SASLClient, SASLConfig};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::loopback::{Server, Talk, World, relay, submission};
use crate::tls::{ClientTls, Trust};

const HELLO: &str = "EHLO a.example";

async fn in_tls(world: &World, stream: TcpStream) -> Talk<tokio_rustls::client::TlsStream<TcpStream>> {
    let tls = ClientTls::new(&Trust::CaFile(world.ca.ca_file())).unwrap();
    let name = ServerName::try_from("mx.b.example").unwrap();
    Talk::new(TlsConnector::from(tls.verified).connect(name, stream).await.unwrap())
}

#[tokio::test]
async fn a_pipelined_message_is_taken() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let mut talk = server.talk().await;
    assert_eq!(talk.reply().await, "220 mx.b.example ESMTP Restante");
    talk.send(
        "EHLO a.example\r\nMAIL FROM:<x@a.example>\r\nRCPT TO:<bob@b.example>\r\nRCPT TO:<no@b.example>\r\nDATA\r\n",
    )
    .await;
    assert!(talk.reply().await.starts_with("250 "));
    for expected in ["250 2.1.0", "250 2.1.5", "550 5.1.1", "354"] {
        let reply = talk.reply().await;
        assert!(reply.starts_with(expected), "{reply}");
    }
    assert!(talk.say("Subject: x\r\n\r\n..dot\r\n.").await.starts_with("250 2.0.0 queued as "));
    assert!(talk.say("QUIT").await.starts_with("221"));
    assert_eq!(talk.line().await, "");
    let received = &server.recorder.received()[0];
    assert_eq!(
        (received.protocol.as_str(), received.recipients.as_slice()),
        ("ESMTP", &["bob@b.example".to_owned()][..])
    );
    assert_eq!(received.content, b"Subject: x\r\n\r\n.dot\r\n");
}

#[tokio::test]
async fn starttls_and_implicit_tls() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut talk = Talk::new(stream);
    talk.reply().await;
    talk.say(HELLO).await;
    assert!(talk.say("STARTTLS").await.starts_with("220"));
    let mut talk = in_tls(&world, talk.into_inner()).await;
    // Nothing is remembered of what was said in clear.
    assert!(talk.say("MAIL FROM:<>").await.starts_with("503"));

    let mut settings = submission(&world.ca);
    settings.implicit_tls = true;
    let server = Server::start(settings).await;
    let mut talk = in_tls(&world, TcpStream::connect(server.address).await.unwrap()).await;
    assert!(talk.reply().await.starts_with("220"));
    talk.send("EHLO a.example\r\n").await;
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| line.starts_with("250-")) {
        lines.push(talk.line().await);
    }
    assert!(!lines.iter().any(|line| line.contains("STARTTLS")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("AUTH SCRAM-SHA-256 PLAIN LOGIN")), "{lines:?}");
}

/// Logs in by hand, in base64 and all.
async fn auth(talk: &mut Talk<TcpStream>, mechanism: &str, password: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let config = SASLConfig::with_credentials(None, "alice".into(), password.into()).unwrap();
    let offered = [Mechname::parse(mechanism.as_bytes()).unwrap()];
    let mut client = SASLClient::new(config).start_suggested(&offered).unwrap();
    let mut reply = talk.say(&format!("AUTH {mechanism}")).await;
    let mut first = client.are_we_first();
    while let Some(challenge) = reply.strip_prefix("334").map(str::trim) {
        let challenge = STANDARD.decode(challenge).unwrap();
        let mut answer = Vec::new();
        let challenge = if std::mem::take(&mut first) { None } else { Some(challenge.as_slice()) };
        client.step(challenge, &mut answer).unwrap();
        reply = talk.say(&STANDARD.encode(answer)).await;
    }
    reply
}

#[tokio::test]
async fn every_mechanism_logs_in() {
    let world = World::new();
    let mut settings = submission(&world.ca);
    settings.smtp.auth_in_clear = true;
    let server = Server::start(settings).await;
    for mechanism in crate::sasl::MECHANISMS {
        let mut talk = server.talk().await;
        talk.reply().await;
        talk.say(HELLO).await;
        assert!(talk.say("MAIL FROM:<alice@b.example>").await.starts_with("530"));
        assert!(auth(&mut talk, mechanism, "wrong").await.starts_with("535 5.7.8"), "{mechanism}");
        assert!(auth(&mut talk, mechanism, "secret").await.starts_with("235 2.7.0"), "{mechanism}");
        assert!(talk.say("MAIL FROM:<alice@b.example>").await.starts_with("250"));
        talk.say("RCPT TO:<bob@b.example>").await;
        talk.say("DATA").await;
        assert!(talk.say("Subject: x\r\n.").await.starts_with("250"));
    }
    let received = server.recorder.received();
    assert!(
        received.len() == 3 && received.iter().all(|r| r.account.as_deref() == Some("alice") && r.protocol == "ESMTPA")
    );

    let mut talk = server.talk().await;
    talk.reply().await;
    talk.say(HELLO).await;
    for expected in ["535", "535", "421"] {
        assert!(auth(&mut talk, "PLAIN", "wrong").await.starts_with(expected));
    }
}

#[tokio::test]
async fn who_guesses_passwords_over_many_connections_is_told_to_come_back_later() {
    let world = World::new();
    let mut settings = submission(&world.ca);
    (settings.smtp.auth_in_clear, settings.limits.auth_failures_per_hour) = (true, 4);
    let server = Server::start(settings).await;
    let say = async |password: &'static str, times: usize| {
        let mut talk = server.talk().await;
        talk.reply().await;
        talk.say(HELLO).await;
        let mut reply = String::new();
        for _ in 0..times {
            reply = auth(&mut talk, "PLAIN", password).await;
        }
        reply
    };
    assert!(say("wrong", 3).await.starts_with("421 4.7.0 too many failed AUTH attempts"));
    assert!(say("secret", 1).await.starts_with("235"), "not too many yet");
    assert!(say("wrong", 1).await.starts_with("535"));
    assert!(say("secret", 1).await.starts_with("421 4.7.0 too many failed logins from your address"));
}

#[tokio::test]
async fn outside_tls_there_is_no_auth() {
    let world = World::new();
    let server = Server::start(submission(&world.ca)).await;
    let mut talk = server.talk().await;
    talk.reply().await;
    talk.say(HELLO).await;
    assert!(talk.say("AUTH PLAIN AGFsaWNlAHNlY3JldA==").await.starts_with("538"));
}

#[tokio::test]
async fn connections_are_limited() {
    let world = World::new();
    let mut settings = relay(&world.ca);
    settings.limits.connections = 2;
    let server = Server::start(settings.clone()).await;
    let (mut a, mut b) = (server.talk().await, server.talk().await);
    assert!(a.reply().await.starts_with("220") && b.reply().await.starts_with("220"));
    assert!(server.talk().await.reply().await.starts_with("421 4.7.0 too many connections,"));
    a.say("QUIT").await;
    drop(a);
    // The place is free as soon as the server has seen the end.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !server.talk().await.reply().await.starts_with("220") {
        assert!(tokio::time::Instant::now() < deadline);
    }

    settings.limits.connections_per_peer = 1;
    let server = Server::start(settings).await;
    let mut a = server.talk().await;
    assert!(a.reply().await.starts_with("220"));
    assert!(server.talk().await.reply().await.contains("from your address"));
}

#[tokio::test]
async fn silent_clients_are_sent_away() {
    let world = World::new();
    let mut settings = relay(&world.ca);
    settings.smtp.limits.idle = Duration::from_millis(50);
    let server = Server::start(settings.clone()).await;
    let mut talk = server.talk().await;
    assert!(talk.reply().await.starts_with("220"));
    assert!(talk.reply().await.starts_with("421 4.4.2"));
    assert_eq!(talk.line().await, "");

    settings.smtp.limits.idle = Duration::from_secs(20);
    settings.limits.session = Duration::from_millis(50);
    let server = Server::start(settings.clone()).await;
    let mut talk = server.talk().await;
    assert!(talk.reply().await.starts_with("220"));
    assert!(talk.reply().await.starts_with("421"));

    settings.implicit_tls = true;
    settings.limits.handshake = Duration::from_millis(50);
    let server = Server::start(settings).await;
    assert_eq!(server.talk().await.line().await, "");
}

#[tokio::test]
async fn a_shutdown_lets_the_message_end() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let (mut idle, mut busy) = (server.talk().await, server.talk().await);
    idle.reply().await;
    busy.reply().await;
    busy.send("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\nSubject: x\r\n").await;
    while !busy.reply().await.starts_with("354") {}
    server.shutdown.cancel();
    assert!(idle.reply().await.starts_with("421 4.3.2"));
    assert!(!server.task.is_finished());
    assert!(busy.say("\r\nbody\r\n.").await.starts_with("250 2.0.0 queued"));
    assert!(busy.reply().await.starts_with("421 4.3.2"));
    server.task.await.unwrap();
    assert_eq!(server.recorder.received().len(), 1);
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_forever() {
    let world = World::new();
    let mut settings = relay(&world.ca);
    settings.limits.drain = Duration::from_millis(50);
    let server = Server::start(settings).await;
    let mut talk = server.talk().await;
    talk.send("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\nSubject: x\r\n").await;
    while !talk.reply().await.starts_with("354") {}
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(server.recorder.received().is_empty());
}

#[tokio::test]
async fn content_refused_on_its_way_is_answered_at_its_end() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let mut talk = server.talk().await;
    talk.reply().await;
    talk.say(HELLO).await;
    server.recorder.refuse_content.store(true, Ordering::SeqCst);
    for big in [false, true] {
        talk.say("MAIL FROM:<>").await;
        talk.say("RCPT TO:<bob@b.example>").await;
        talk.say("DATA").await;
        let body = format!("{}\r\n", "x".repeat(70)).repeat(if big { 10_000 } else { 1 });
        assert_eq!(talk.say(&format!("Subject: x\r\n\r\n{body}.")).await, "452 4.3.1 disk full");
    }
    server.recorder.refuse_content.store(false, Ordering::SeqCst);
    talk.say("MAIL FROM:<>").await;
    talk.say("RCPT TO:<bob@b.example>").await;
    assert!(talk.say("BDAT 12 LAST\r\nSubject: x").await.starts_with("250"));
    assert_eq!(server.recorder.received()[0].content, b"Subject: x\r\n");
}

#[tokio::test]
async fn a_lost_connection_leaves_nothing() {
    let world = World::new();
    let server = Server::start(relay(&world.ca)).await;
    let mut talk = server.talk().await;
    talk.send("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\nSubject: x\r\n").await;
    while !talk.reply().await.starts_with("354") {}
    drop(talk);
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(server.recorder.received().is_empty());
    assert_eq!(Arc::strong_count(&server.recorder), 1);
}

/// A client that goes on sending still hears why it was cut off.
#[tokio::test]
async fn the_last_reply_arrives_though_the_client_goes_on() {
    let world = World::new();
    let mut settings = relay(&world.ca);
    settings.smtp.limits.message = 1000;
    settings.smtp.limits.overrun = 1000;
    let server = Server::start(settings).await;
    let mut talk = server.talk().await;
    talk.send("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n").await;
    while !talk.reply().await.starts_with("354") {}
    talk.send(&format!("{}\r\n", "x".repeat(70)).repeat(10_000)).await;
    assert!(talk.reply().await.starts_with("421 4.3.4"));
    assert!(server.recorder.received().is_empty());
}
