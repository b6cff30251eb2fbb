//! On-Demand Mail Relay (RFC 2645): an account asks by ATRN for what waits for its domains, and gets it on the same connection.
//!
//! The protocol is `smtp`'s, the delivery of each message the queue's and `deliver`'s: here is who may ask for what, and which messages are
//! tried while the connection is there.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use mail::Domain;
use mail::ledger::{Key, RowBody, by_on_demand};
use net::turned::Turned;
use queue::port::{Command, Reply as QueueReply, Request, Selection};
use smtp::Reply;
use smtp::reply::catalogue;
use store::StoreError;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Reception;
use crate::config::Deliver;
use crate::deliver::{Attempt, Open};
use crate::waiting::{self, LegName};

/// Rows that are read at a time.
const PAGE: usize = 500;
/// Longest that the queue may take to begin with a message that it was told to try. It was nothing that could be tried then.
const PATIENCE: Duration = Duration::from_secs(10);
/// So often it is told.
const TRIES: usize = 2;

impl Reception {
    /// The domains that an account gets mail for, among those that it asks for; none asked for: all of its own.
    pub(super) async fn atrn(&self, account: &str, asked: Vec<Domain>) -> Result<Vec<Domain>, Reply> {
        let own = self.fetched_by(account);
        let domains = if asked.is_empty() { own.clone() } else { asked };
        if domains.is_empty() || domains.iter().any(|domain| !own.contains(domain)) {
            return Err(catalogue::atrn_refused("mail of these domains does not wait here for this account"));
        }
        let waiting = self.waiting_for(&domains, &HashSet::new()).await;
        match waiting {
            Err(error) => {
                warn!(%error, "cannot look up what waits for an account");
                Err(catalogue::atrn_impossible())
            }
            Ok(legs) if legs.is_empty() => Err(catalogue::no_mail()),
            Ok(_) => Ok(domains),
        }
    }

    /// Those that wait here, and that the account speaks for as a whole.
    fn fetched_by(&self, account: &str) -> Vec<Domain> {
        let (config, router) = (self.config.get(), self.router.get());
        let account = router.accounts().get(account).filter(|account| !account.is_suspended());
        let waits = config.domains.values().filter(|domain| domain.deliver == Deliver::OnDemand);
        let names = waits.map(|domain| domain.name.clone());
        names.filter(|name| account.is_some_and(|account| account.speaks_for(name))).collect()
    }

    /// What waits for these domains, but for `tried`.
    async fn waiting_for(&self, domains: &[Domain], tried: &HashSet<LegName>) -> Result<VecDeque<LegName>, StoreError> {
        let mut found = VecDeque::new();
        for domain in domains {
            let (alternate, mut after) = (by_on_demand(domain), String::new());
            loop {
                let rows = self.store.find_after(&alternate, &after, PAGE).await?;
                let Some(last) = rows.last() else { break };
                after = last.key.to_string();
                found.extend(rows.iter().filter_map(|row| match (&row.key, &row.body) {
                    (Key::Leg(id, number), RowBody::Leg(leg)) if waiting::is_open(leg) => Some((id.clone(), *number)),
                    _ => None,
                }));
            }
        }
        found.retain(|leg| !tried.contains(leg));
        Ok(found)
    }

    /// Sends all that waits over a connection that was turned over, message by message, what comes meanwhile included.
    pub(super) async fn send_over(&self, domains: &[Domain], turned: Turned, shutdown: CancellationToken) {
        let peer = turned.peer();
        let session = match self.smtp.get().over(turned).await {
            Ok(session) => session,
            Err(error) => return info!(%peer, %error, "a customer asked for mail, and did not take it"),
        };
        let (open, mut news) = self.lines.open(domains, session).await;
        let mut round = Round::default();
        while !open.end().is_cancelled() && !shutdown.is_cancelled() {
            let Some(leg) = self.next(domains, &mut round).await else { break };
            self.send_one(leg, &open, &mut news).await;
        }
        info!(%peer, messages = round.tried.len(), whole = !open.end().is_cancelled(), "a customer has asked for its mail");
        open.close().await;
    }

    /// The next message that was not tried yet.
    async fn next(&self, domains: &[Domain], round: &mut Round) -> Option<LegName> {
        if round.ahead.is_empty() {
            let found = self.waiting_for(domains, &round.tried).await;
            round.ahead = found.inspect_err(|error| warn!(%error, "cannot look up what waits for an account")).ok()?;
        }
        let next = round.ahead.pop_front()?;
        round.tried.insert(next.clone());
        Some(next)
    }

    /// Has the queue try one message, and waits until that is over.
    async fn send_one(&self, leg: LegName, open: &Open, news: &mut UnboundedReceiver<Attempt>) {
        let key = Key::Leg(leg.0.clone(), leg.1);
        let (begun, ended) = (Attempt::Begun(key.clone()), Attempt::Ended(key));
        // It may have come this moment, and be gone already.
        let mut has_begun = false;
        while let Ok(attempt) = news.try_recv() {
            if attempt == ended {
                return;
            }
            has_begun |= attempt == begun;
        }
        for _ in 0..TRIES {
            let selection = Selection::Leg(leg.0.clone(), leg.1);
            let said = self.custody.ask(Request::Command(Command::AskedFor(selection))).await;
            if !matches!(said, QueueReply::Commanded(said) if said.carried_out) {
                return;
            }
            if has_begun || timeout(PATIENCE, until(news, &begun)).await.is_ok() {
                open.end().run_until_cancelled(until(news, &ended)).await;
                return;
            }
        }
    }
}

/// What is sent over one connection.
#[derive(Default)]
struct Round {
    ahead: VecDeque<LegName>,
    tried: HashSet<LegName>,
}

/// Waits for this to happen.
async fn until(news: &mut UnboundedReceiver<Attempt>, wanted: &Attempt) {
    while let Some(attempt) = news.recv().await {
        if attempt == *wanted {
            return;
        }
    }
}
