//! The round of one kind of report: what a day's journal holds becomes one report for each domain that wants it, and these are
//! handed over, again and again until somebody takes them.
//!
//! The reports of a journal are all in the outbox, on disk, before the journal is removed: a kill at any point repeats work,
//! and loses none.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use mail::ledger::Source;
use mail::report_uri::ReportUri;
use mail::{Domain, InstanceId, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::day::Period;
use super::journal::{self, Finished, Recorder};
use super::letter::Draft;
use super::outbox::{MAX_WAITING, Outbox, Waiting};
use super::post::Post;
use crate::runtime::now;

/// How often is looked what there is to do.
const ROUND: Duration = Duration::from_secs(5 * 60);
/// Most domains of one journal; what others did is not reported.
const MAX_DOMAINS: usize = 50_000;
/// Look-ups of places at a time.
const LOOK_UPS: usize = 16;

/// One kind of report.
pub(crate) trait Kind: Send + Sync + 'static {
    /// Its name: of folders, and in the log.
    const NAME: &'static str;
    /// What messages of it are in the ledger.
    const SOURCE: Source;
    /// What is written down as it happens.
    type Event: Serialize + DeserializeOwned + Send + 'static;
    /// What the events of one domain come to. Must not grow without limit.
    type Tally: Default + Send + 'static;

    /// Whose report the event belongs into.
    fn domain(event: &Self::Event) -> &Domain;

    /// Counts an event.
    fn count(tally: &mut Self::Tally, event: Self::Event);

    /// Where the domain wants its reports; nowhere is an answer.
    ///
    /// # Errors
    /// It cannot be told now: why.
    fn places(&self, domain: &Domain) -> impl Future<Output = Result<Vec<ReportUri>, String>> + Send;

    /// The report.
    ///
    /// # Errors
    /// It cannot be written: why.
    fn draft(&self, domain: &Domain, period: Period, tally: Self::Tally) -> Result<Draft, String>;
}

/// A wish to make reports of what there is so far, and how many were handed over.
pub(crate) type Wish = oneshot::Sender<Result<Sent, String>>;

/// What a round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Sent {
    /// Reports that were handed over.
    pub handed_over: usize,
    /// Reports that wait for another attempt.
    pub waiting: usize,
}

/// Makes and sends the reports of one kind.
pub(crate) struct Reporter<K: Kind> {
    kind: K,
    /// Where the journal is.
    folder: PathBuf,
    outbox: Outbox,
    recorder: Recorder<K::Event>,
    post: Post,
    server: InstanceId,
}

impl<K: Kind> Reporter<K> {
    /// Over the journal in this folder, whose recorder this is.
    ///
    /// # Errors
    /// The outbox cannot be made.
    pub(crate) fn new(kind: K, folder: PathBuf, recorder: Recorder<K::Event>, post: Post) -> io::Result<Self> {
        let outbox = Outbox::open(&folder.join("outbox"))?;
        let server = post.store.instance();
        Ok(Self { kind, folder, outbox, recorder, post, server })
    }

    /// Works until the wishes' other side is gone.
    pub(crate) async fn run(self, mut wishes: mpsc::Receiver<Wish>) {
        loop {
            let wish = tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(wish) => Some(wish),
                    None => return,
                },
                () = tokio::time::sleep(ROUND) => None,
            };
            let outcome = match &wish {
                Some(_) => self.at_once().await,
                None => self.round(now()).await,
            };
            if let Err(error) = &outcome {
                warn!(kind = K::NAME, %error, "reports cannot be made");
            }
            if let Some(wish) = wish {
                let _ = wish.send(outcome.map_err(|error| error.to_string()));
            }
        }
    }

    /// Reports of what there is so far, and attempts all that wait.
    async fn at_once(&self) -> io::Result<Sent> {
        self.recorder.end_file().await?;
        self.hasten()?;
        self.round(now()).await
    }

    fn hasten(&self) -> io::Result<()> {
        for path in self.outbox.paths()? {
            if let Some(mut waiting) = Outbox::read(&path) {
                waiting.due = now();
                self.outbox.put(&waiting)?;
            }
        }
        Ok(())
    }

    async fn round(&self, now: Timestamp) -> io::Result<Sent> {
        for file in journal::finished(&self.folder, now)? {
            if file.report_at(&self.server) <= now {
                self.make(&file, now).await?;
                fs::remove_file(&file.path)?;
            }
        }
        self.send(now).await
    }

    /// Writes the reports of a journal into the outbox.
    async fn make(&self, file: &Finished, now: Timestamp) -> io::Result<()> {
        let reading = file.clone();
        let counted = spawn_blocking(move || counted::<K>(&reading)).await.map_err(io::Error::other)?;
        let (period, tallies) = counted?;
        let asked =
            tallies.into_iter().map(|(domain, tally)| async move { (self.kind.places(&domain).await, domain, tally) });
        let mut answers = stream::iter(asked).buffer_unordered(LOOK_UPS);
        let mut made = self.outbox.count()?;
        while let Some((places, domain, tally)) = answers.next().await {
            if places.as_ref().is_ok_and(Vec::is_empty) {
                continue;
            }
            if made >= MAX_WAITING {
                warn!(kind = K::NAME, %domain, "no report: too many wait already");
                continue;
            }
            match self.kind.draft(&domain, period, tally) {
                Ok(draft) => self.outbox.put(&Waiting::new(domain, period, draft, places.ok(), now))?,
                Err(error) => warn!(kind = K::NAME, %domain, error, "a report cannot be written"),
            }
            made += 1;
        }
        Ok(())
    }

    async fn send(&self, now: Timestamp) -> io::Result<Sent> {
        let mut sent = Sent::default();
        for path in self.outbox.paths()? {
            let Some(mut waiting) = Outbox::read(&path) else { continue };
            if waiting.due <= now {
                self.attempt(&mut waiting).await;
                match self.outbox.settle(waiting, now)? {
                    true => sent.waiting += 1,
                    false => sent.handed_over += 1,
                }
            } else {
                sent.waiting += 1;
            }
        }
        Ok(sent)
    }

    /// Tries every place that has not taken it; those that have, or never will, are struck out.
    async fn attempt(&self, waiting: &mut Waiting) {
        let domain = waiting.domain.clone();
        if waiting.places.is_none() {
            waiting.places = self.kind.places(&domain).await.ok();
        }
        // What cannot be looked up waits as well.
        let Some(places) = waiting.places.take() else { return };
        let mut left = Vec::new();
        for place in places {
            match self.post.deliver(&waiting.draft, &place, K::SOURCE).await {
                Ok(()) => info!(kind = K::NAME, %domain, %place, "report handed over"),
                Err(error) if error.temporary => {
                    info!(kind = K::NAME, %domain, %place, %error, "report waits");
                    left.push(place);
                }
                Err(error) => info!(kind = K::NAME, %domain, %place, %error, "report given up"),
            }
        }
        waiting.places = Some(left);
    }
}

type Counted<K> = (Period, BTreeMap<Domain, <K as Kind>::Tally>);

fn counted<K: Kind>(file: &Finished) -> io::Result<Counted<K>> {
    let mut tallies: BTreeMap<Domain, K::Tally> = BTreeMap::new();
    let period = file.read(|event: K::Event| {
        let domain = K::domain(&event);
        if let Some(tally) = tallies.get_mut(domain) {
            K::count(tally, event);
        } else if tallies.len() < MAX_DOMAINS {
            let domain = domain.clone();
            K::count(tallies.entry(domain).or_default(), event);
        }
    })?;
    Ok((period, tallies))
}
