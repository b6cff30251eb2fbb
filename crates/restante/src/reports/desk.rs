//! Assembly of all kinds: journals open before anything happens, reporters start once there is a queue.

use std::io;
use std::path::Path;

use mail::Address;
use net::dns::Resolver;
use net::smtp_client::{Observer, TlsResult};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::dmarc::{self, DmarcReports, DmarcResult};
use super::journal::{Journal, Recorder};
use super::post::Post;
use super::reporter::{Kind, Reporter, Sent, Wish};
use super::tls::{self, Submitter, TlsReports};
use crate::config::Config;

/// What is written down; nothing where it is not reported.
pub(crate) struct Journals {
    tls: Option<(Journal<TlsResult>, Recorder<TlsResult>)>,
    dmarc: Option<(Journal<DmarcResult>, Recorder<DmarcResult>)>,
}

impl Journals {
    /// Opens those of the kinds that are reported.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        let (folder, can_report) = (config.reports_dir(), config.reports_from().is_some());
        let tls = match config.reports.tls && can_report {
            true => Some(Journal::open(&folder.join(tls::NAME))?),
            false => None,
        };
        let dmarc = match config.reports.dmarc && config.policy.enabled && can_report {
            true => Some(Journal::open(&folder.join(dmarc::NAME))?),
            false => None,
        };
        Ok(Self { tls, dmarc })
    }

    /// Hears what was found of mail.
    pub(crate) fn dmarc_results(&self) -> Option<Recorder<DmarcResult>> {
        self.dmarc.as_ref().map(|(_, recorder)| recorder.clone())
    }

    /// Hears how TLS went.
    pub(crate) fn tls_results(&self) -> Option<Observer> {
        let recorder = self.tls.as_ref().map(|(_, recorder)| recorder.clone())?;
        Some(Observer::new(move |result| recorder.record(result)))
    }
}

/// Where wishes for reports go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desk {
    kinds: Vec<(&'static str, mpsc::Sender<Wish>)>,
}

impl Desk {
    /// Starts writing down and reporting, until `end`.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub(crate) fn start(
        journals: Journals,
        config: &Config,
        resolver: &Resolver,
        post: &Post,
        tasks: &mut JoinSet<()>,
        end: &CancellationToken,
    ) -> io::Result<Self> {
        let mut desk = Self::default();
        if let Some((journal, recorder)) = journals.tls {
            spawn_journal(journal, tasks, end);
            let kind = TlsReports { resolver: resolver.clone(), by: submitter(config, &post.from) };
            let reporter = Reporter::new(kind, config.reports_dir().join(tls::NAME), recorder, post.clone())?;
            desk.add(reporter, tasks, end);
        }
        if let Some((journal, recorder)) = journals.dmarc {
            spawn_journal(journal, tasks, end);
            let kind = DmarcReports { resolver: resolver.clone(), by: submitter(config, &post.from) };
            let reporter = Reporter::new(kind, config.reports_dir().join(dmarc::NAME), recorder, post.clone())?;
            desk.add(reporter, tasks, end);
        }
        Ok(desk)
    }

    fn add<K: Kind>(&mut self, reporter: Reporter<K>, tasks: &mut JoinSet<()>, end: &CancellationToken) {
        let (sender, wishes) = mpsc::channel(4);
        self.kinds.push((K::NAME, sender));
        let end = end.clone();
        tasks.spawn(async move {
            // What it has not finished is on disk, and taken up again by the next start.
            end.run_until_cancelled(reporter.run(wishes)).await;
        });
    }

    /// Makes reports of what there is so far, and attempts all that wait: how many of each kind.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn send_all(&self) -> Result<Vec<(&'static str, Sent)>, String> {
        let mut all = Vec::new();
        for (name, wishes) in &self.kinds {
            let (wish, answer) = oneshot::channel();
            let stopping = "the server is stopping";
            wishes.send(wish).await.map_err(|_| stopping)?;
            all.push((*name, answer.await.map_err(|_| stopping)??));
        }
        Ok(all)
    }
}

fn spawn_journal<E: serde::Serialize + Send + 'static>(
    journal: Journal<E>,
    tasks: &mut JoinSet<()>,
    end: &CancellationToken,
) {
    let end = end.clone();
    tasks.spawn(journal.run(async move { end.cancelled().await }));
}

fn submitter(config: &Config, from: &Address) -> Submitter {
    let domain = from.domain().unwrap_or_else(|| config.mail_domain().clone());
    let organization = config.reports.organization.clone().unwrap_or_else(|| domain.to_string());
    Submitter { domain, organization, contact: from.clone() }
}

/// Where reports of others are kept.
pub(crate) fn received_dir(reports: &Path) -> std::path::PathBuf {
    reports.join("received")
}
