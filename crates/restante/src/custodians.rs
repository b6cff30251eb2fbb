//! A site's side of TBR §7.4: asks custodians what waits, by schedule and on demand, and has each offer judged.
//!
//! What was taken is the queue's from then on: it retrieves, claims and reports. Judging is `receive`'s, HTTPS `net`'s.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use mail::{Domain, Timestamp};
use net::retrieval;
use reference::pending::PendingOffer;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Custodian;
use crate::receive::{Reception, Taken, size_and_end};
use crate::request_keys::RequestKeys;
use crate::runtime::now;

/// Most pages that are read at one time; the rest is asked for the next time, when these are done.
const MAX_PAGES: usize = 64;
/// Offers judged at a time: signatures cost little, each commit is shared.
const JUDGED_AT_ONCE: usize = 16;
/// What ends this soon is fetched before everything else.
pub(crate) const URGENT: Duration = Duration::from_secs(24 * 3600);
/// Longest sleep, so that a changed schedule or clock is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What came of asking one custodian for one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// The custodian.
    pub custodian: Domain,
    /// For which domain it was asked.
    pub domain: Domain,
    /// Offers that are being fetched, claimed and delivered now.
    pub pending: u64,
    /// Octets of them, as the custodian says.
    pub octets: u64,
    /// Offers of which all is done; the custodian is told again.
    pub known: u64,
    /// Offers that cannot be judged now.
    pub later: u64,
    /// Offers that are not what they must be.
    pub refused: u64,
    /// Why the custodian could not be asked, or not to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A wish to ask now, of one custodian or of all; where the outcome goes.
pub(crate) struct Wish {
    pub(crate) host: Option<Domain>,
    pub(crate) answer: oneshot::Sender<Vec<Fetched>>,
}

/// Asks custodians.
pub(crate) struct Custodians {
    client: retrieval::Client,
    keys: RequestKeys,
    reception: Arc<Reception>,
    /// One round at a time.
    round: Mutex<()>,
}

impl Custodians {
    pub(crate) fn new(client: retrieval::Client, keys: RequestKeys, reception: Arc<Reception>) -> Self {
        Self { client, keys, reception, round: Mutex::new(()) }
    }

    /// Asks by schedule and whenever somebody wishes, until the end.
    pub(crate) async fn run(self, mut wishes: mpsc::Receiver<Wish>, end: CancellationToken) {
        let this = Arc::new(self);
        let mut last: Vec<(Domain, Timestamp)> = Vec::new();
        let started = now();
        loop {
            let at = now();
            let config = this.reception.config.get();
            let asked = |host: &Domain| last.iter().find(|(of, _)| of == host).map_or(started, |(_, at)| *at);
            let next = |custodian: &Custodian| custodian.schedule.next(asked(&custodian.host));
            let due: Vec<Custodian> =
                config.custodians.iter().filter(|c| next(c).is_some_and(|next| next <= at)).cloned().collect();
            for custodian in due {
                last.retain(|(host, _)| *host != custodian.host);
                last.push((custodian.host.clone(), at));
                tokio::spawn(Arc::clone(&this).ask_all(vec![custodian]));
            }
            let asked = |host: &Domain| last.iter().find(|(of, _)| of == host).map_or(started, |(_, at)| *at);
            let soonest = config.custodians.iter().filter_map(|c| c.schedule.next(asked(&c.host))).min();
            let sleep = soonest.map_or(LONGEST_SLEEP, |next| next.since(now())).min(LONGEST_SLEEP);
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(sleep) => {}
                wish = wishes.recv() => {
                    match wish {
                        Some(wish) => drop(tokio::spawn(Arc::clone(&this).grant(wish))),
                        None => return end.cancelled().await,
                    }
                }
            }
        }
    }

    async fn grant(self: Arc<Self>, wish: Wish) {
        let custodians = self.reception.config.get().custodians.clone();
        let wanted = custodians.into_iter().filter(|c| wish.host.as_ref().is_none_or(|host| *host == c.host));
        let fetched = Arc::clone(&self).ask_all(wanted.collect()).await;
        // Whoever asked may have gone.
        let _ = wish.answer.send(fetched);
    }

    async fn ask_all(self: Arc<Self>, custodians: Vec<Custodian>) -> Vec<Fetched> {
        let _round = self.round.lock().await;
        let mut fetched = Vec::new();
        for custodian in &custodians {
            for domain in &custodian.domains {
                fetched.push(self.ask(&custodian.host, domain).await);
            }
        }
        fetched
    }

    /// Asks one custodian for one domain, and has everything judged that it lists.
    async fn ask(&self, host: &Domain, domain: &Domain) -> Fetched {
        let (mut offers, error) = self.list(host, domain).await;
        let soon = now().after(URGENT);
        offers.sort_by_key(|(_, size, end)| (*end > soon, *size));
        let mut fetched = Fetched {
            custodian: host.clone(),
            domain: domain.clone(),
            pending: 0,
            octets: 0,
            known: 0,
            later: 0,
            refused: 0,
            error,
        };
        let mut count = |taken: Taken, size: u64| match taken {
            Taken::Pending => {
                fetched.pending += 1;
                fetched.octets += size;
            }
            Taken::Known => fetched.known += 1,
            Taken::Later => fetched.later += 1,
            Taken::Refused => fetched.refused += 1,
        };
        let judge = |(offer, size, _): (PendingOffer, u64, Timestamp)| async move {
            (self.reception.pending(host, &offer).await, size)
        };
        // The first is fetched at once, so it is the one to begin with; the queue orders the others.
        let mut offers = offers.into_iter();
        if let Some(first) = offers.next() {
            let (taken, size) = judge(first).await;
            count(taken, size);
        }
        let mut judged = stream::iter(offers.map(judge)).buffer_unordered(JUDGED_AT_ONCE);
        while let Some((taken, size)) = judged.next().await {
            count(taken, size);
        }
        tell(&fetched);
        fetched
    }

    /// All pages, or those that came before an error. Each offer with what it says of its size and its end; what says
    /// nothing comes last, to be refused.
    async fn list(&self, host: &Domain, domain: &Domain) -> (Vec<(PendingOffer, u64, Timestamp)>, Option<String>) {
        let Some(signer) = self.keys.of(domain) else { return (Vec::new(), Some(format!("{domain} has no key here"))) };
        let (mut offers, mut after) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let page = match self.client.pending(host, after.as_ref(), &signer).await {
                Ok(page) => page,
                Err(error) => return (offers, Some(error.text)),
            };
            offers.extend(page.pending.into_iter().map(|offer| {
                let (size, end) = size_and_end(&offer).unwrap_or((u64::MAX, Timestamp::from_secs(u32::MAX.into())));
                (offer, size, end)
            }));
            match page.next {
                Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                _ => break,
            }
        }
        (offers, None)
    }
}

fn tell(fetched: &Fetched) {
    let Fetched { custodian, domain, pending, octets, known, later, refused, error } = fetched;
    match error {
        Some(error) => warn!(%custodian, %domain, pending, error, "a custodian could not be asked"),
        None => info!(%custodian, %domain, pending, octets, known, later, refused, "a custodian was asked"),
    }
}
