//! Measures the repository server: `serve` offers one file by its grant, `load` fetches a path over and over and
//! counts octets. Load any other web server with the same client to compare; processor time is told for the serving
//! process by `/proc`.
//!
//! ```text
//! repository_throughput serve <file> <certificate.pem> <key.pem> <port>
//! repository_throughput load <port> <path> <connections> <requests each> <pid of the server>…
//! ```
//!
//! Certificates are not checked by `load`: it measures, nothing else.

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use mail::{Domain, Grant, Holder, Timestamp, Xuid};
use net::repository::{Busy, Chunks, Limits, Located, Replays, Repository, serve};
use reference::claims::{ClaimsAnswer, ClaimsRequest, ReceiptsAnswer, ReceiptsRequest};
use reference::delegate::{DelegateAnswer, DelegateRequest};
use reference::message_signature::{KeyId, SignedBy};
use reference::{DomainFacts, KeyRecord};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const CHUNK: usize = 128 * 1024;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", file, certificate, key, port] => serve_file(file, certificate, key, port.parse()?).await,
        ["load", port, path, connections, requests, pids @ ..] => {
            load(port.parse()?, path, connections.parse()?, requests.parse()?, pids).await
        }
        _ => Err("serve <file> <certificate> <key> <port> | load <port> <path> <connections> <requests> <pid>…".into()),
    }
}

/// One file, read in chunks on threads that may block, as a store on disk does.
struct OneFile {
    file: Arc<File>,
    xuid: Xuid,
    size: u64,
}

impl Repository for OneFile {
    type Handle = ();

    async fn binding(&self, _: Vec<Grant>) -> std::result::Result<Vec<Domain>, Busy> {
        Ok(Vec::new())
    }

    async fn key(&self, _: &KeyId) -> std::result::Result<(Holder, KeyRecord), Busy> {
        Err(Busy { retry_after: std::time::Duration::from_secs(1) })
    }

    async fn locate(&self, xuid: Xuid, _: &Grant, _: SignedBy) -> Located<()> {
        if xuid == self.xuid {
            Located::Object { xuid, size: self.size, coded: None, handle: () }
        } else {
            Located::Unknown
        }
    }

    async fn read(&self, (): (), _: Option<mail::ledger::Coding>, range: Range<u64>) -> io::Result<Chunks> {
        let file = Arc::clone(&self.file);
        Ok(Box::pin(stream::unfold(range, move |rest| {
            let file = Arc::clone(&file);
            async move {
                let length = usize::try_from(rest.end - rest.start).map_or(CHUNK, |left| left.min(CHUNK));
                if length == 0 {
                    return None;
                }
                let read = tokio::task::spawn_blocking(move || {
                    let mut octets = vec![0; length];
                    file.read_exact_at(&mut octets, rest.start).map(|()| Bytes::from(octets))
                });
                let chunk = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
                Some((chunk, rest.start + length as u64..rest.end))
            }
        })))
    }

    async fn claims(&self, _: ClaimsRequest, _: SignedBy) -> std::result::Result<ClaimsAnswer, Busy> {
        Err(Busy { retry_after: std::time::Duration::from_secs(1) })
    }

    async fn receipts(&self, _: ReceiptsRequest, _: SignedBy) -> std::result::Result<ReceiptsAnswer, Busy> {
        Err(Busy { retry_after: std::time::Duration::from_secs(1) })
    }

    async fn delegate(&self, _: DelegateRequest, _: SignedBy) -> std::result::Result<Option<DelegateAnswer>, Busy> {
        Ok(None)
    }

    fn document(&self, _: &Domain) -> impl Future<Output = Option<DomainFacts>> + Send {
        std::future::ready(None)
    }

    fn mta_sts(&self, _: &Domain) -> Option<String> {
        None
    }

    fn served(&self, _: &Grant, _: u64) {}
}

async fn serve_file(path: &str, certificate: &str, key: &str, port: u16) -> Result<()> {
    let octets = fs::read(path)?;
    let (xuid, size) = (Xuid::of(&octets), octets.len() as u64);
    let certificate = CertificateDer::from_pem_file(certificate)?;
    let config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]).with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], PrivateKeyDer::from_pem_file(key)?)?;
    let repository = OneFile { file: Arc::new(File::open(Path::new(path))?), xuid, size };
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let grant = Grant::new(&[0; 16]).ok_or("no grant")?;
    println!("/.well-known/tbr/m?XUID={xuid}&RCPT={}", grant.reveal());
    let (replays, repository) = (Arc::new(Replays::new(Timestamp::default())), Arc::new(repository));
    serve(listener, Arc::new(config), repository, replays, Limits::default(), CancellationToken::new()).await;
    Ok(())
}

async fn load(port: u16, path: &str, connections: usize, requests: usize, pids: &[&str]) -> Result<()> {
    let ticks = |pids: &[&str]| pids.iter().map(|pid| processor_ticks(pid)).sum::<Result<u64>>();
    let (before, start) = (ticks(pids)?, Instant::now());
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let path = path.to_owned();
        all.spawn(async move { fetch(port, &path, requests).await });
    }
    let mut octets = 0;
    while let Some(done) = all.join_next().await {
        octets += done??;
    }
    let (wall, used) = (start.elapsed().as_secs_f64(), (ticks(pids)? - before) as f64 / 100.0);
    let mebibytes = octets as f64 / 1_048_576.0;
    println!(
        "{mebibytes:.0} MiB in {wall:.2} s, {used:.2} s of processor time: {:.0} MiB per second of it",
        mebibytes / used
    );
    Ok(())
}

/// User and system time in hundredths of a second, threads included.
fn processor_ticks(pid: &str) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(") ").ok_or("no stat")?.1.split(' ').collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

async fn fetch(port: u16, path: &str, requests: usize) -> Result<u64> {
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect("localhost".try_into()?, stream).await?;
    let (mut buffer, mut octets) = (vec![0; 256 * 1024], 0);
    for _ in 0..requests {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
        stream.flush().await?;
        octets += read_response(&mut stream, &mut buffer).await?;
    }
    Ok(octets)
}

async fn read_response(stream: &mut (impl tokio::io::AsyncRead + Unpin), buffer: &mut [u8]) -> Result<u64> {
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
    let length = head.split("\r\n").find_map(|l| l.strip_prefix("content-length: ")).ok_or("no length")?;
    let length: u64 = length.parse()?;
    let mut left = length - (filled - end) as u64;
    while left > 0 {
        match stream.read(buffer).await? {
            0 => return Err("cut".into()),
            octets => left -= octets as u64,
        }
    }
    Ok(length)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
    }
}
