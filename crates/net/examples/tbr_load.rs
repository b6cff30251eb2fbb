//! Load for measuring servers that speak TBR: offers with references signed one by one, and fetches of one object.
//!
//! ```text
//! tbr_load offers <address:port> <key.pem> <signing domain> <recipient domain> <sessions> <offers each>
//! tbr_load refused-offers <as offers>
//! tbr_load refused-messages <address:port> <sender> <recipient> <octets> <sessions> <messages each>
//! tbr_load sessions <address:port> <clear|full|resumed> <sessions at once> <sessions each>
//! tbr_load fetch <address:port> <host name> <path[,path…]> <connections> <requests each>
//! ```
//!
//! `offers` draws a new reference id and grant for each offer, and fails unless every one is answered 250; the two that are to be refused
//! fail unless every one is answered 5yz. `sessions` opens and ends one SMTP session after the other: in clear, with a whole TLS
//! handshake each, or with one that resumes what an earlier one has agreed upon. `fetch` gives its paths to connections in turn, and prints how many octets of content came. Certificates are not checked: it measures, nothing else.

mod author;

use std::net::SocketAddr;
use std::sync::Arc;

use author::{Author, Result, envelope};
use bytes::Bytes;
use mail::{Domain, Envelope};
use net::dns::{Dnssec, Resolver, Source};
use net::smtp_client::{Client, Destination, Fate, MessageTls, Protocol, Route, Settings, TlsPolicy};
use net::tls::{ClientTls, Trust};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const USAGE: &str =
    "tbr_load offers <address:port> <key.pem> <signing domain> <recipient domain> <sessions> <offers each>
tbr_load refused-offers <as offers>
tbr_load refused-messages <address:port> <sender> <recipient> <octets> <sessions> <messages each>
tbr_load sessions <address:port> <clear|full|resumed> <sessions at once> <sessions each>
tbr_load fetch <address:port> <host name> <path[,path…]> <connections> <requests each>";

/// What an offer says of the size of its object.
const OCTETS: u64 = 100_000;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [what @ ("offers" | "refused-offers"), to, key, from, recipient, sessions, each] => {
            let load = Load::Offers(Author::new(key, from, recipient)?);
            send_all(to.parse()?, load, *what == "offers", sessions.parse()?, each.parse()?).await
        }
        ["refused-messages", to, sender, recipient, octets, sessions, each] => {
            let load = Load::Messages(envelope(sender.parse()?, recipient.parse()?), message(octets.parse()?));
            send_all(to.parse()?, load, false, sessions.parse()?, each.parse()?).await
        }
        ["sessions", to, kind @ ("clear" | "full" | "resumed"), sessions, each] => {
            open_all(to.parse()?, kind, sessions.parse()?, each.parse()?).await
        }
        ["fetch", from, name, paths, connections, each] => {
            let octets = fetch_all(from.parse()?, name, paths, connections.parse()?, each.parse()?).await?;
            println!("{octets}");
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

/// What sessions send.
enum Load {
    Offers(Author),
    Messages(Envelope, Bytes),
}

fn message(octets: usize) -> Bytes {
    let mut message = String::from("From: alice@a.example\r\nSubject: not wanted\r\n\r\n");
    while message.len() < octets {
        message.push_str("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod\r\n");
    }
    Bytes::from(message)
}

async fn open_all(to: SocketAddr, kind: &str, sessions: usize, each: usize) -> Result<()> {
    let anybody = ClientTls::new(&Trust::System)?.opportunistic;
    let mut all = JoinSet::new();
    for _ in 0..sessions {
        let mut config = ClientConfig::clone(&anybody);
        config.resumption = if kind == "resumed" { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
        let tls = (kind != "clear").then(|| TlsConnector::from(Arc::new(config)));
        all.spawn(async move {
            for _ in 0..each {
                open(to, tls.as_ref()).await?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    Ok(())
}

/// One session, until the server has ended it.
async fn open(to: SocketAddr, tls: Option<&TlsConnector>) -> Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    reply(&mut stream).await?;
    say(&mut stream, "EHLO load.example").await?;
    let Some(tls) = tls else { return quit(&mut stream).await };
    say(&mut stream, "STARTTLS").await?;
    let mut stream = tls.connect(ServerName::IpAddress(to.ip().into()), stream).await?;
    say(&mut stream, "EHLO load.example").await?;
    quit(&mut stream).await
}

async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), command: &str) -> Result<()> {
    stream.write_all(format!("{command}\r\n").as_bytes()).await?;
    stream.flush().await?;
    reply(stream).await
}

async fn quit(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<()> {
    say(stream, "QUIT").await?;
    // Some servers end TLS without a word.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    Ok(())
}

/// Reads a reply, which must be a good one.
async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    let mut octets = Vec::new();
    loop {
        if stream.read_buf(&mut octets).await? == 0 {
            return Err("the server has ended the session".into());
        }
        let text = String::from_utf8_lossy(&octets);
        match text.strip_suffix("\r\n").and_then(|lines| lines.lines().last()) {
            Some(last) if last.starts_with('2') && last.get(3..4) == Some(" ") => return Ok(()),
            Some(last) if !last.starts_with('2') => return Err(format!("not a good reply: {last}").into()),
            _ => {}
        }
    }
}

/// `accepted`: whether each of them is to be.
async fn send_all(to: SocketAddr, load: Load, accepted: bool, sessions: usize, each: usize) -> Result<()> {
    let settings = Settings::new(Domain::parse("load.example")?, ClientTls::new(&Trust::System)?);
    let client = Client::new(settings, Resolver::new(&Source::NameServers(vec![to]), &Dnssec::Off)?);
    let destination = Destination {
        route: Route::Address(to.ip(), to.port()),
        protocol: Protocol::Smtp,
        tls: TlsPolicy::Required,
        login: None,
        asks: MessageTls::AsUsual,
    };
    let (mut all, load) = (JoinSet::new(), Arc::new(load));
    for _ in 0..sessions {
        let (client, destination, load) = (client.clone(), destination.clone(), Arc::clone(&load));
        all.spawn(async move { send_many(&client, &destination, &load, accepted, each).await });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    Ok(())
}

async fn send_many(
    client: &Client,
    destination: &Destination,
    load: &Load,
    accepted: bool,
    count: usize,
) -> Result<()> {
    let mut session = client.connect(destination).await?;
    for _ in 0..count {
        let transaction = match load {
            Load::Offers(author) => {
                let (line, block) = author.offer(OCTETS)?;
                session.offer(&author.envelope, line, block).await
            }
            Load::Messages(envelope, octets) => {
                let content = futures_util::stream::iter([Ok(octets.clone())]);
                session.by_value(envelope, Bytes::new(), content, octets.len() as u64).await
            }
        };
        match transaction.fates.as_slice() {
            [Fate::Accepted(_)] if accepted => {}
            [Fate::Permanent(_)] if !accepted => {}
            other => return Err(format!("not the answer that was to be: {other:?}").into()),
        }
    }
    Ok(())
}

async fn fetch_all(from: SocketAddr, name: &str, paths: &str, connections: usize, each: usize) -> Result<u64> {
    let tls = TlsConnector::from(ClientTls::new(&Trust::System)?.opportunistic);
    let mut all = JoinSet::new();
    for path in paths.split(',').cycle().take(connections) {
        let (tls, name, path) = (tls.clone(), name.to_owned(), path.to_owned());
        all.spawn(async move { fetch_many(tls, from, &name, &path, each).await });
    }
    let mut octets = 0;
    while let Some(done) = all.join_next().await {
        octets += done??;
    }
    Ok(octets)
}

async fn fetch_many(tls: TlsConnector, from: SocketAddr, name: &str, path: &str, count: usize) -> Result<u64> {
    let stream = TcpStream::connect(from).await?;
    let mut stream = tls.connect(ServerName::try_from(name.to_owned())?, stream).await?;
    let (mut buffer, mut octets) = (vec![0; 256 * 1024], 0);
    for _ in 0..count {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).await?;
        stream.flush().await?;
        octets += read_response(&mut stream, &mut buffer).await?;
    }
    Ok(octets)
}

/// Reads a response of a known length, and throws its content away.
async fn read_response(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<u64> {
    let mut filled = 0;
    let end = loop {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Err("cut before the end of the header".into()),
            octets => filled += octets,
        }
        if let Some(end) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(format!("not a whole object: {head}").into());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).ok_or("no length")?;
    let length: u64 = length.trim().parse()?;
    let mut left = length.saturating_sub((filled - end) as u64);
    while left > 0 {
        match stream.read(buffer).await? {
            0 => return Err("cut before the end of the content".into()),
            octets => left = left.saturating_sub(octets as u64),
        }
    }
    Ok(length)
}
