//! For tests: a server of ours on loopback that remembers what it was given, clients for it, and peers that
//! follow a script.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mail::{Address, Domain, EnhancedStatus, Envelope, MailParams, QueueId, Recipient, Timestamp};
use smtp::Reply;
use smtp::command::Mail;
use smtp::reply::catalogue;
use smtp::server::{Config, Offer, OfferTbr};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::dns::{Dnssec, Resolver, Source};
use crate::sasl::{Credentials, ScramVerifier, Unavailable};
use crate::smtp_client::{Client, Settings as ClientSettings};
use crate::smtp_server::{Accepted, Connection, Handler, Limits, Session, Settings, serve};
use crate::tls::tests::Ca;
use crate::tls::{Certificates, ClientTls, Trust, Versions, server_config};

pub(crate) fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(crate) fn envelope(recipients: &[&str]) -> Envelope {
    let recipients = recipients.iter().map(|text| Recipient::plain(address(text))).collect();
    Envelope { mail_from: Some(address("alice@a.example")), params: MailParams::default(), recipients }
}

/// One message or offer, as the handler saw it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) protocol: String,
    pub(crate) account: Option<String>,
    pub(crate) recipients: Vec<String>,
    pub(crate) content: Vec<u8>,
    /// Arguments of the TBR line, and the block.
    pub(crate) offer: Option<(String, Vec<u8>)>,
}

/// A handler that takes everything but recipients called `no`, and remembers it.
pub(crate) struct Recorder {
    pub(crate) connects: AtomicUsize,
    pub(crate) aborts: AtomicUsize,
    pub(crate) contents_begun: AtomicUsize,
    pub(crate) received: Mutex<Vec<Received>>,
    pub(crate) refuse_content: AtomicBool,
    /// Contents are committed when there is a permit here.
    pub(crate) commits: Semaphore,
    book: Book,
}

pub(crate) struct Book(ScramVerifier);

impl Credentials for Book {
    async fn verifier(&self, name: &str) -> Result<Option<ScramVerifier>, Unavailable> {
        Ok(Some(self.0.clone()).filter(|_| name == "alice"))
    }
}

impl Recorder {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            connects: AtomicUsize::new(0),
            aborts: AtomicUsize::new(0),
            contents_begun: AtomicUsize::new(0),
            received: Mutex::default(),
            refuse_content: AtomicBool::new(false),
            commits: Semaphore::new(Semaphore::MAX_PERMITS),
            book: Book(ScramVerifier::new("secret").unwrap()),
        })
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }
}

pub(crate) struct Recording {
    recorder: Arc<Recorder>,
    current: Received,
}

/// The handler itself, so that sessions can hold it.
pub(crate) struct Shared(pub(crate) Arc<Recorder>);

impl Handler for Shared {
    type Session = Recording;
    type Credentials = Book;

    async fn connect(&self, _: &Connection) -> Result<Recording, Reply> {
        self.0.connects.fetch_add(1, Ordering::SeqCst);
        Ok(Recording { recorder: Arc::clone(&self.0), current: Received::default() })
    }

    fn credentials(&self) -> &Book {
        &self.0.book
    }
}

impl Recording {
    fn take(&mut self, connection: &Connection) -> Accepted {
        let mut received = std::mem::take(&mut self.current);
        received.protocol = connection.protocol().to_owned();
        received.account.clone_from(&connection.account);
        self.recorder.received.lock().unwrap().push(received);
        Accepted::Queued(QueueId::generate(Timestamp::from_secs(1), [7; 8]))
    }
}

impl Session for Recording {
    async fn mail(&mut self, _: &Connection, _: Mail) -> Result<(), Reply> {
        self.current = Received::default();
        Ok(())
    }

    async fn rcpt(&mut self, _: &Connection, recipient: Recipient) -> Result<(), Reply> {
        if recipient.address.local() == "no" {
            return Err(catalogue::no_such_mailbox());
        }
        self.current.recipients.push(recipient.address.to_string());
        Ok(())
    }

    async fn begin_content(&mut self, _: &Connection) -> Result<(), Reply> {
        self.recorder.contents_begun.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn content(&mut self, chunk: Bytes) -> Result<(), Reply> {
        if self.recorder.refuse_content.load(Ordering::SeqCst) {
            return Err(Reply::new(452, EnhancedStatus::temporary(3, 1), "disk full"));
        }
        self.current.content.extend_from_slice(&chunk);
        Ok(())
    }

    async fn end_content(&mut self, connection: &Connection) -> Result<Accepted, Reply> {
        self.recorder.commits.acquire().await.unwrap().forget();
        Ok(self.take(connection))
    }

    async fn offer(&mut self, connection: &Connection, offer: Offer) -> Result<Accepted, Reply> {
        self.current.offer = Some((offer.line.reveal().to_owned(), offer.block.to_vec()));
        Ok(self.take(connection))
    }

    fn abort(&mut self) {
        self.current = Received::default();
        self.recorder.aborts.fetch_add(1, Ordering::SeqCst);
    }
}

/// A server of ours.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

/// A relay with TLS for `mx.b.example`, TBR and no chance to wait for hours.
pub(crate) fn relay(ca: &Ca) -> Settings {
    let certificates = Certificates::load(&[ca.issue("mx.b.example", "mx")]).unwrap();
    let mut smtp = Config::relay(domain("mx.b.example"));
    smtp.limits.idle = Duration::from_secs(20);
    Settings {
        smtp,
        tls: Some(server_config(certificates, Versions::From12, &[]).unwrap()),
        implicit_tls: false,
        limits: Limits { drain: Duration::from_secs(20), ..Limits::default() },
    }
}

/// The same for submission.
pub(crate) fn submission(ca: &Ca) -> Settings {
    let smtp = Config::submission(domain("mx.b.example"), crate::sasl::MECHANISMS);
    Settings { smtp: Config { tbr: OfferTbr::Never, ..smtp }, ..relay(ca) }
}

impl Server {
    pub(crate) async fn start(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, recorder, shutdown) = (listener.local_addr().unwrap(), Recorder::new(), CancellationToken::new());
        let handler = Arc::new(Shared(Arc::clone(&recorder)));
        let task = tokio::spawn(serve(listener, watch::channel(settings).1, handler, shutdown.clone()));
        Self { address, recorder, shutdown, task }
    }

    pub(crate) async fn talk(&self) -> Talk<TcpStream> {
        Talk::new(TcpStream::connect(self.address).await.unwrap())
    }
}

/// A world with names, and a client in it.
pub(crate) struct World {
    pub(crate) ca: Ca,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { ca: Ca::new() }
    }

    pub(crate) fn settings(&self, mx_port: u16) -> ClientSettings {
        let tls = ClientTls::new(&Trust::CaFile(self.ca.ca_file())).unwrap();
        ClientSettings { mx_port, ..ClientSettings::new(domain("mx.a.example"), tls) }
    }

    pub(crate) fn resolver(&self, zone: &str) -> Resolver {
        let path = self.ca.folder.path().join("zone");
        std::fs::write(&path, zone).unwrap();
        Resolver::new(&Source::ZoneFile(path), &Dnssec::Off).unwrap()
    }

    /// A client for which all mail of b.example goes to loopback, this port.
    pub(crate) fn client(&self, port: u16) -> Client {
        self.client_with(self.settings(port))
    }

    pub(crate) fn client_with(&self, settings: ClientSettings) -> Client {
        Client::new(settings, self.resolver("b.example MX 10 mx.b.example\nmx.b.example A 127.0.0.1\n"))
    }
}

/// A conversation by hand.
pub(crate) struct Talk<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub(crate) fn into_inner(self) -> S {
        self.0.into_inner()
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// One line without its end; empty at the end of the stream.
    pub(crate) async fn line(&mut self) -> String {
        self.next_line().await.unwrap_or_default()
    }

    async fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(Duration::from_secs(20), self.0.read_line(&mut line)).await.unwrap();
        // A peer that closes hard has ended too.
        if read.unwrap_or(0) == 0 { None } else { Some(line.trim_end().to_owned()) }
    }

    /// The last line of a reply.
    pub(crate) async fn reply(&mut self) -> String {
        loop {
            let line = self.line().await;
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    pub(crate) async fn say(&mut self, text: &str) -> String {
        self.send(&format!("{text}\r\n")).await;
        self.reply().await
    }
}

/// A peer that greets and answers every line as `answer` says, `""`: closes; after 354 it reads up to the lone dot.
/// Keeps count of its connections.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    pub(crate) connects: Arc<AtomicUsize>,
    /// What came, lines of contents included.
    pub(crate) heard: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub(crate) async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connects, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (answer, counter, ears) = (Arc::new(answer), Arc::clone(&connects), Arc::clone(&heard));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(stream, Arc::clone(&answer), Arc::clone(&ears)));
            }
        });
        Self { address, connects, heard }
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

pub(crate) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    answer: Arc<impl Fn(&str) -> String>,
    heard: Arc<Mutex<Vec<String>>>,
) {
    let mut talk = Talk::new(stream);
    talk.send("220 peer.example\r\n").await;
    loop {
        let line = talk.line().await;
        heard.lock().unwrap().push(line.clone());
        let reply = answer(&line);
        if line.is_empty() || reply.is_empty() {
            return;
        }
        talk.send(&reply).await;
        if reply.starts_with("354") {
            loop {
                let Some(line) = talk.next_line().await else { return };
                heard.lock().unwrap().push(line.clone());
                if line == "." {
                    break;
                }
            }
            talk.send(&answer(".")).await;
        }
    }
}
