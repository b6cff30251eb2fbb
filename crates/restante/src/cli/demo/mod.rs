//! `restante demo`: a real message goes by reference between two complete mail domains, and what happened is told.
//!
//! Both servers are started through ordinary configuration files, with keys, certificates, stores and a zone file of their
//! own; everything is on loopback. Nothing is taken from inside the servers but what the admin API would tell.

mod message;
mod story;
mod world;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use indicatif::ProgressBar;
use mail::{Address, Envelope, MailParams, QueueId, Recipient};
use net::sasl::ScramVerifier;
use tokio::io::AsyncReadExt as _;

use super::client::{self, Body, Client};
use super::output::Failure;
use crate::Server;
use crate::accounts::{Account, Accounts, Sender};
use crate::admin::api::{self, Accepted, EntryKind, Message as Traced};
use crate::config::Config;
use message::Message;
pub use story::Story;
use world::{Site, World};

/// How long a message of no size may take; each megabyte adds a second.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often the servers are asked how far they are.
const GLANCE: Duration = Duration::from_millis(10);

/// What the demo is asked for.
#[derive(Debug)]
pub struct Options {
    /// The message to send instead of the one that comes with the program.
    pub message: Option<PathBuf>,
    /// Keep the directory with both domains.
    pub keep: bool,
    /// Shows how far it is.
    pub bar: ProgressBar,
}

impl Default for Options {
    fn default() -> Self {
        Self { message: None, keep: false, bar: ProgressBar::hidden() }
    }
}

/// Runs the demo from beginning to end.
///
/// # Errors
/// A file that is no message; anything that keeps the two servers from starting; a message that does not arrive.
pub fn run(options: &Options) -> BoxFuture<'_, Result<Story>> {
    // Two whole servers are in it: that deep a future is for nobody else to compile.
    show(options).boxed()
}

async fn show(options: &Options) -> Result<Story> {
    let directory = tempfile::Builder::new().prefix("restante-demo-").tempdir().context("cannot make a directory")?;
    let message = message::prepare(options.message.as_deref(), directory.path().join("message.eml"), &options.bar)?;
    let world = World::create(directory.path(), message.checked.size + 64 * 1024)?;
    let story = play(&world, &message, &options.bar).await;
    if options.keep {
        let kept = directory.keep();
        return story.map(|story| story.kept_in(&kept));
    }
    story
}

async fn play(world: &World, message: &Message, bar: &ProgressBar) -> Result<Story> {
    let (alice, bob) = ("alice@a.example".parse()?, "bob@b.example".parse()?);
    add_account(&world.origin, &alice)?;
    add_account(&world.receiver, &bob)?;
    let config = Config::load(&world.origin.config)?;
    let door = Client::at(&config.admin_socket);
    let origin = Server::start(config).await.context("a.example does not start")?;
    let receiver = Server::start(Config::load(&world.receiver.config)?).await.context("b.example does not start")?;
    let told = async {
        let begun = Instant::now();
        let id = hand_in(&door, message, alice, bob, bar).await?;
        bar.set_message("handed in; b.example fetches it");
        let (sent, received) = wait(&origin, &receiver, &id, message).await?;
        Story::tell(world, message, &sent, &received, begun.elapsed())
    };
    let told = told.await;
    origin.stop().await;
    receiver.stop().await;
    told
}

/// Adds an account with a password that nobody has chosen.
fn add_account(site: &Site, address: &Address) -> Result<()> {
    let mut random = [0; 18];
    queue::Entropy::fill(&mut crate::runtime::SystemEntropy::default(), &mut random);
    let password = mail::base64url::encode(&random);
    let verifier = ScramVerifier::new(&password)?;
    let account = Account::new(address.local(), verifier, vec![Sender::Address(address.clone())])?;
    let config = Config::load(&site.config)?;
    Ok(Accounts::edit(&config.accounts_file(), |accounts| accounts.add(account))?)
}

/// Hands the message in as `restante send` does, and octet for octet: what a mail program submits must come from its own
/// account, and has missing fields added.
async fn hand_in(door: &Client, message: &Message, alice: Address, bob: Address, bar: &ProgressBar) -> Result<QueueId> {
    let envelope =
        Envelope { mail_from: Some(alice), params: MailParams::default(), recipients: vec![Recipient::plain(bob)] };
    let header = (api::ENVELOPE, api::encode_envelope(&envelope)?);
    bar.set_length(message.checked.size);
    bar.set_position(0);
    bar.set_message("to a.example");
    let body = content(tokio::fs::File::open(&message.path).await?, bar.clone());
    let accepted = async {
        let response = door.send(Method::POST, api::MESSAGES, Some(header), body).await?;
        client::answer::<Accepted>(response).await
    };
    let refused = |failure: Failure| anyhow::anyhow!("a.example did not take the message: {}", failure.message);
    Ok(accepted.await.map_err(refused)?.id)
}

fn content(file: tokio::fs::File, bar: ProgressBar) -> Body {
    let chunks = stream::try_unfold((file, bar), |(mut file, bar)| async move {
        let mut chunk = vec![0; 256 * 1024];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        bar.inc(read as u64);
        Ok::<_, io::Error>((read > 0).then(|| (Frame::data(Bytes::from(chunk)), (file, bar))))
    });
    BodyExt::boxed(StreamBody::new(Box::pin(chunks)))
}

/// Waits until the origin knows the outcome and the receiver has nothing left to do.
async fn wait(origin: &Server, receiver: &Server, id: &QueueId, message: &Message) -> Result<(Traced, Traced)> {
    let deadline = Instant::now() + PATIENCE + Duration::from_secs(message.checked.size >> 20);
    loop {
        let sent = origin.trace(id.as_str()).await?;
        let reference = sent.entries.iter().flat_map(|entry| &entry.references).next();
        let received = match reference {
            Some(reference) => receiver.trace(&reference.to_string()).await?,
            None => Traced { entries: Vec::new() },
        };
        let arrived = received.entries.iter().any(|entry| entry.kind == EntryKind::Reference && entry.finished);
        let by_value = sent.entries.iter().all(|entry| entry.finished) && reference.is_none();
        if by_value {
            bail!("the message went by value: {}", story::last_words(&sent, &received));
        }
        if arrived && sent.entries.iter().all(|entry| entry.finished) {
            return Ok((sent, received));
        }
        if Instant::now() > deadline {
            bail!("the message has not arrived: {}", story::last_words(&sent, &received));
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// The file that was delivered, from the receiver's own words.
fn delivered_to(received: &Traced) -> Option<PathBuf> {
    let leg = received.entries.iter().find(|entry| entry.kind == EntryKind::Leg)?;
    let sent = leg.steps.iter().rev().find(|step| step.what == "sent")?;
    let path = sent.detail.strip_prefix("to ")?;
    Path::new(path).is_absolute().then(|| PathBuf::from(path))
}
