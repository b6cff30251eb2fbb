//! Measures the SMTP server's and client's sockets, without queue and store: contents are thrown away.
//!
//! ```text
//! smtp_throughput serve                      prints its port; ends with standard input, then prints its own figures
//! smtp_throughput send PORT CONNECTIONS MESSAGES OCTETS [tls]
//! ```

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use mail::{Address, Domain, Envelope, MailParams, QueueId, Recipient, Timestamp};
use net::dns::{Dnssec, Resolver, Source};
use net::sasl::{Credentials, ScramVerifier, Unavailable};
use net::smtp_client::{Client, Destination, MessageTls, Protocol, Route, Settings as ClientSettings, TlsPolicy};
use net::smtp_server::{Accepted, Connection, Handler, Limits, Session, Settings, serve};
use net::tls::{CertificateFiles, Certificates, ClientTls, Trust, Versions, server_config};
use smtp::Reply;
use smtp::command::Mail;
use smtp::server::{Config, Offer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => server().await,
        ["send", port, connections, messages, octets] => {
            send(port.parse()?, connections.parse()?, messages.parse()?, octets.parse()?, TlsPolicy::Off).await
        }
        ["send", port, connections, messages, octets, "tls"] => {
            send(port.parse()?, connections.parse()?, messages.parse()?, octets.parse()?, TlsPolicy::Required).await
        }
        _ => Err("see the top of the file".into()),
    }
}

async fn server() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let key = rcgen::generate_simple_self_signed(vec!["mx.example".to_owned()])?;
    let files = CertificateFiles { certificate: folder.path().join("mx.pem"), key: folder.path().join("mx.key") };
    std::fs::write(&files.certificate, key.cert.pem())?;
    std::fs::write(&files.key, key.signing_key.serialize_pem())?;
    std::fs::set_permissions(&files.key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let tls = server_config(Certificates::load(&[files])?, Versions::From12, &[])?;
    let smtp = Config::relay(Domain::parse("mx.example")?);
    let limits = Limits { connections_per_peer: 1000, ..Limits::default() };
    let settings = Settings { smtp, tls: Some(tls), implicit_tls: false, limits };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, watch::channel(settings).1, Arc::new(Discard), shutdown.clone()));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    shutdown.cancel();
    serving.await?;
    for line in std::fs::read_to_string("/proc/self/status")?.lines().filter(|line| line.starts_with("VmHWM")) {
        println!("{line}");
    }
    println!("CPU {}", cpu()?);
    Ok(())
}

/// User and system time of this process, in ticks of 10 ms.
fn cpu() -> Result<String, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok(format!("user {} system {}", fields[11], fields[12]))
}

struct Discard;

impl Credentials for Discard {
    async fn verifier(&self, _: &str) -> Result<Option<ScramVerifier>, Unavailable> {
        Ok(None)
    }
}

impl Handler for Discard {
    type Session = Self;
    type Credentials = Self;

    async fn connect(&self, _: &Connection) -> Result<Self, Reply> {
        Ok(Self)
    }

    fn credentials(&self) -> &Self {
        self
    }
}

impl Session for Discard {
    async fn mail(&mut self, _: &Connection, _: Mail) -> Result<(), Reply> {
        Ok(())
    }

    async fn rcpt(&mut self, _: &Connection, _: Recipient) -> Result<(), Reply> {
        Ok(())
    }

    async fn begin_content(&mut self, _: &Connection) -> Result<(), Reply> {
        Ok(())
    }

    async fn content(&mut self, _: Bytes) -> Result<(), Reply> {
        Ok(())
    }

    async fn end_content(&mut self, _: &Connection) -> Result<Accepted, Reply> {
        Ok(Accepted::Queued(QueueId::generate(Timestamp::from_secs(1), [7; 8])))
    }

    async fn offer(&mut self, connection: &Connection, _: Offer) -> Result<Accepted, Reply> {
        self.end_content(connection).await
    }

    fn abort(&mut self) {}
}

async fn send(port: u16, connections: usize, messages: usize, octets: usize, tls: TlsPolicy) -> Result<(), Failure> {
    let settings = ClientSettings::new(Domain::parse("client.example")?, ClientTls::new(&Trust::System)?);
    let client =
        Client::new(settings, Resolver::new(&Source::NameServers(vec!["127.0.0.1:53".parse()?]), &Dnssec::Off)?);
    let route = Route::Address(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let destination = Destination { route, protocol: Protocol::Smtp, tls, login: None, asks: MessageTls::AsUsual };
    let envelope = Envelope {
        mail_from: Some(Address::parse("alice@a.example")?),
        params: MailParams::default(),
        recipients: vec![Recipient::plain(Address::parse("bob@b.example")?)],
    };
    let message: String = "Subject: x\r\n\r\n".to_owned() + &format!("{}\r\n", "x".repeat(76)).repeat(octets / 78);
    let message = Bytes::from(message);
    let started = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (client, destination) = (client.clone(), destination.clone());
            let (envelope, message) = (envelope.clone(), message.clone());
            tokio::spawn(async move {
                for _ in 0..messages / connections {
                    let mut session = client.connect(&destination).await?;
                    let size = message.len() as u64;
                    let chunks: Vec<_> = chunks(&message).map(Ok).collect();
                    let done = session.by_value(&envelope, Bytes::new(), stream::iter(chunks), size).await;
                    if !done.fates[0].is_accepted() {
                        return Err(format!("{done:?}").into());
                    }
                    session.release();
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let seconds = started.elapsed().as_secs_f64();
    let sent = messages / connections * connections;
    println!(
        "{:.0} messages/s, {:.0} MiB/s, client CPU {}",
        sent as f64 / seconds,
        sent as f64 * message.len() as f64 / seconds / f64::from(1 << 20),
        cpu()?
    );
    Ok(())
}

fn chunks(message: &Bytes) -> impl Iterator<Item = Bytes> {
    const CHUNK: usize = 128 << 10;
    (0..message.len().div_ceil(CHUNK)).map(|n| message.slice(n * CHUNK..((n + 1) * CHUNK).min(message.len())))
}
