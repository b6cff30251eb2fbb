//! Load for measuring what hostile offers do to everybody else: floods of them from many addresses, and beside them, at a pace of their own, good
//! submissions and good offers whose times are taken.
//!
//! ```text
//! hostile_load attack <address:port> <good domain> <spent.pem> <spent domain> <recipient domain> <offers a second> <seconds> <from,from…>
//! hostile_load spend <address:port> <key.pem> <signing domain> <recipient domain> <octets of each>
//! hostile_load submit <address:port> <account> <password> <sender> <recipient> <octets> <messages a second> <seconds>
//! hostile_load offer <address:port> <key.pem> <signing domain> <recipient domain> <offers a second> <seconds>
//! ```
//!
//! `attack` sends, in turn: a signature that is not the domain's; a domain that does not exist; one of a domain whose budget is spent; a stranger
//! from a domain that nobody has heard of, another one each time; garbage. It prints how many were answered, how many of those were accepted, and how many
//! of each kind. `spend` offers until it is told that there is no more room. `submit` and `offer` print how many there were, how many of them failed,
//! and the median and 99th percentile in milliseconds, from the moment when each was to begin: a server that is late makes nobody wait
//! with the next. A submission is all of a session: TCP, TLS, password, message, reply.

mod author;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use author::{Author, Result, envelope};
use bytes::Bytes;
use mail::{Domain, Envelope};
use net::dns::{Dnssec, Resolver, Source};
use net::smtp_client::{
    Client, Destination, Fate, Login, MessageTls, Protocol, Route, Session, Settings, TlsPolicy, Transaction,
};
use net::tls::{ClientTls, Trust};
use reference::SigningKey;
use smtp::command::Tbr;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Sessions of an attacker from each of his addresses.
const SESSIONS: usize = 8;

/// What an offer says of the size of its object.
const OCTETS: u64 = 100_000;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["attack", to, good, spent_key, spent, recipient, rate, seconds, from] => {
            let from = from.split(',').map(str::parse).collect::<std::result::Result<Vec<Ipv4Addr>, _>>()?;
            let flood = Flood::new(good, Author::new(spent_key, spent, recipient)?, recipient)?;
            attack(to.parse()?, flood, &from, rate.parse()?, seconds.parse()?).await
        }
        ["spend", to, key, from, recipient, octets] => {
            spend(to.parse()?, &Author::new(key, from, recipient)?, octets.parse()?).await
        }
        ["submit", to, user, password, sender, recipient, octets, rate, seconds] => {
            let login = Login { user: (*user).to_owned(), password: smtp::Secret::new(*password) };
            let (client, destination) = towards(to.parse()?, Some(login))?;
            let envelope = envelope(sender.parse()?, recipient.parse()?);
            let message = message(sender, octets.parse()?);
            let one = move || submit(client.clone(), destination.clone(), envelope.clone(), message.clone());
            paced(one, rate.parse()?, seconds.parse()?).await
        }
        ["offer", to, key, from, recipient, rate, seconds] => {
            let (client, destination) = towards(to.parse()?, None)?;
            let author = Arc::new(Author::new(key, from, recipient)?);
            let one = move || offer(client.clone(), destination.clone(), Arc::clone(&author));
            paced(one, rate.parse()?, seconds.parse()?).await
        }
        _ => Err("see the top of the file".into()),
    }
}

fn towards(to: SocketAddr, login: Option<Login>) -> Result<(Client, Destination)> {
    let settings = Settings::new(Domain::parse("load.example")?, ClientTls::new(&Trust::System)?);
    with(to, settings, login)
}

fn with(to: SocketAddr, settings: Settings, login: Option<Login>) -> Result<(Client, Destination)> {
    let client = Client::new(settings, Resolver::new(&Source::NameServers(vec![to]), &Dnssec::Off)?);
    let destination = Destination {
        route: Route::Address(to.ip(), to.port()),
        protocol: Protocol::Smtp,
        tls: TlsPolicy::Required,
        login,
        asks: MessageTls::AsUsual,
    };
    Ok((client, destination))
}

fn message(sender: &str, octets: usize) -> Bytes {
    let mut message = format!("From: {sender}\r\nSubject: a letter\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n\r\n");
    while message.len() < octets {
        message.push_str("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod\r\n");
    }
    Bytes::from(message)
}

// ── Those who are welcome ──

async fn submit(client: Client, destination: Destination, envelope: Envelope, message: Bytes) -> Result<()> {
    let mut session = client.connect(&destination).await?;
    let size = message.len() as u64;
    let content = futures_util::stream::iter([Ok(message)]);
    accepted(&session.by_value(&envelope, Bytes::new(), content, size).await)
}

async fn offer(client: Client, destination: Destination, author: Arc<Author>) -> Result<()> {
    let (line, block) = author.offer(OCTETS)?;
    let mut session = client.connect(&destination).await?;
    let transaction = session.offer(&author.envelope, line, block).await;
    session.release();
    accepted(&transaction)
}

fn accepted(transaction: &Transaction) -> Result<()> {
    match transaction.fates.as_slice() {
        [Fate::Accepted(_)] => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// Does something so often a second, whether or not what was begun before is done.
async fn paced<F: Future<Output = Result<()>> + Send + 'static>(
    one: impl Fn() -> F,
    rate: u32,
    seconds: u32,
) -> Result<()> {
    let (mut all, start) = (JoinSet::new(), Instant::now());
    for number in 0..rate * seconds {
        let begin = start + Duration::from_secs(1) * number / rate;
        sleep_until(begin).await;
        let one = one();
        all.spawn(async move { one.await.map(|()| begin.elapsed()) });
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    while let Some(done) = all.join_next().await {
        match done? {
            Ok(time) => times.push(time),
            Err(error) => {
                eprintln!("{error}");
                failed += 1;
            }
        }
    }
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    let millis = |percent| at(percent).map_or(f64::NAN, |time: &Duration| time.as_secs_f64() * 1000.0);
    println!("{} {failed} {} {}", times.len(), millis(50), millis(99));
    Ok(())
}

// ── Those who are not ──

/// What an attacker sends.
struct Flood {
    /// A domain that exists, without its key.
    forged: Author,
    /// A domain that does not exist.
    missing: Author,
    /// A domain with good keys that has used up its budget.
    spent: Author,
    recipient: String,
    number: AtomicU64,
    answered: [AtomicU64; 5],
    accepted: AtomicU64,
}

impl Flood {
    fn new(good: &str, spent: Author, recipient: &str) -> Result<Self> {
        Ok(Self {
            forged: Author::with(stranger()?, good, recipient)?,
            missing: Author::with(stranger()?, "missing.example", recipient)?,
            spent,
            recipient: recipient.to_owned(),
            number: AtomicU64::new(0),
            answered: Default::default(),
            accepted: AtomicU64::new(0),
        })
    }

    /// The next one, and which kind it is.
    fn next(&self) -> Result<(usize, Envelope, Tbr, Bytes)> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (fresh, kind) = (number / 5, (number % 5) as usize);
        let new;
        let author = match kind {
            0 => &self.forged,
            1 => &self.missing,
            2 => &self.spent,
            3 => {
                let process = std::process::id();
                new = Author::with(stranger()?, &format!("x{process}-{fresh}.example"), &self.recipient)?;
                &new
            }
            _ => &self.forged,
        };
        let (line, block) = author.offer(OCTETS)?;
        let block = if kind == 4 { garbage()? } else { block };
        Ok((kind, author.envelope.clone(), line, block))
    }
}

/// A key that nobody publishes.
fn stranger() -> Result<SigningKey> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed)?;
    Ok(SigningKey::from_seed(&seed)?)
}

/// 4 KiB of lines that begin like a block and are none.
fn garbage() -> Result<Bytes> {
    use base64::Engine as _;
    let mut noise = [0; 48];
    let mut block = String::from("TBR-Reference: v=1; d=a.example; s=k1;\r\n");
    while block.len() < 4096 {
        aws_lc_rs::rand::fill(&mut noise)?;
        block.push_str(&format!(" {}\r\n", base64::engine::general_purpose::STANDARD.encode(noise)));
    }
    Ok(Bytes::from(block))
}

async fn attack(to: SocketAddr, flood: Flood, from: &[Ipv4Addr], rate: u32, seconds: u32) -> Result<()> {
    let (flood, mut all) = (Arc::new(flood), JoinSet::new());
    let sessions = u32::try_from(from.len() * SESSIONS)?;
    // Reading the certificates that a system trusts takes its time: once.
    let tls = ClientTls::new(&Trust::System)?;
    let (start, pause) = (Instant::now(), Duration::from_secs(1) * sessions / rate);
    let end = start + Duration::from_secs(seconds.into());
    for (number, from) in (0..sessions).zip(from.iter().cycle()) {
        let settings = Settings::new(Domain::parse("load.example")?, tls.clone());
        let (client, destination) = with(to, Settings { bind_ipv4: Some(*from), ..settings }, None)?;
        let begin = start + pause * number / sessions;
        let flood = Arc::clone(&flood);
        all.spawn(async move { attack_by_one(&client, &destination, &flood, begin, pause, end).await });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    let answered: Vec<u64> = flood.answered.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let kinds: Vec<String> = answered.iter().map(u64::to_string).collect();
    let (total, accepted) = (answered.iter().sum::<u64>(), flood.accepted.load(Ordering::Relaxed));
    println!("{total} {accepted} {}", kinds.join(" "));
    Ok(())
}

/// One session after another: a server sends those away who do nothing right.
async fn attack_by_one(
    client: &Client,
    destination: &Destination,
    flood: &Flood,
    mut due: Instant,
    pause: Duration,
    end: Instant,
) -> Result<()> {
    let mut session: Option<Session> = None;
    while due < end && Instant::now() < end {
        sleep_until(due).await;
        due += pause;
        let mut open = match session.take() {
            Some(open) => open,
            None => match client.connect(destination).await {
                Ok(open) => open,
                Err(_) => continue,
            },
        };
        let (kind, envelope, line, block) = flood.next()?;
        match open.offer(&envelope, line, block).await.fates.as_slice() {
            [Fate::Accepted(_)] => {
                flood.answered[kind].fetch_add(1, Ordering::Relaxed);
                flood.accepted.fetch_add(1, Ordering::Relaxed);
            }
            [Fate::Permanent(_) | Fate::Temporary(_)] => {
                flood.answered[kind].fetch_add(1, Ordering::Relaxed);
            }
            _ => continue,
        }
        session = Some(open);
    }
    Ok(())
}

/// Takes all the room that a domain has, with references that nobody fetches.
async fn spend(to: SocketAddr, author: &Author, octets: u64) -> Result<()> {
    let (client, destination) = towards(to, None)?;
    let mut session = client.connect(&destination).await?;
    for taken in 0.. {
        let (line, block) = author.offer(octets)?;
        match session.offer(&author.envelope, line, block).await.fates.as_slice() {
            [Fate::Accepted(_)] => {}
            [Fate::Temporary(refusal)] => {
                println!("{taken} {refusal:?}");
                return Ok(());
            }
            other => return Err(format!("not the answer that was to be: {other:?}").into()),
        }
    }
    Ok(())
}
