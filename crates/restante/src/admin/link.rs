//! What sites need that are connected some of the time: ask custodians now, try everything again, see what is left.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use mail::ledger::{Inbound, IndexState, Key, Leg, Phase, RecipientState, Route, RowBody, by_held_object};
use mail::{Domain, QueueId};
use queue::pending::URGENT;
use queue::port::{Command, Request, Selection};
use serde::Deserialize;
use store::{Portion, Store, StoreError};
use tokio::sync::oneshot;

use super::api::{Fetched, LinkUp, UnderWay};
use super::server::{Office, Refused};
use super::submit::{self, OutboxNews};
use crate::custodians::Wish;
use crate::runtime::now;
use crate::waiting::{LegName, each, each_of, hurry, waits};

/// What is due this soon anyway is not hurried.
const SOON: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
pub(super) struct FetchQuery {
    custodian: Option<Domain>,
}

pub(super) async fn fetch(
    State(office): State<Office>,
    Query(query): Query<FetchQuery>,
) -> Result<Json<Vec<Fetched>>, Refused> {
    let config = office.config.get();
    if let Some(host) = query.custodian.as_ref().filter(|host| config.custodians.iter().all(|c| c.host != **host)) {
        return Err(Refused::new(StatusCode::NOT_FOUND, format!("the configuration has no [[custodian]] {host}")));
    }
    Ok(Json(ask(&office, query.custodian).await?))
}

/// The link is up. What was fetched before is claimed and reported first; then custodians are asked, so that what broke off
/// is gone on with over the same connection.
pub(super) async fn up(State(office): State<Office>) -> Result<Json<LinkUp>, Refused> {
    // Whoever has told it may go before the custodians have answered; the rest is done all the same.
    let done = tokio::spawn(is_up(office)).await;
    done.map_err(|_| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "an internal error broke it off"))?.map(Json)
}

async fn is_up(office: Office) -> Result<LinkUp, Refused> {
    office.repositories.link_is_new();
    office.smtp.get().link_is_new();
    office.arrivals.link_is_new();
    let OutboxNews { taken, refused } = submit::take_outbox(&office).await?;
    let waiting = Waiting::find(&office.store).await.map_err(|error| Refused::failed(&error))?;
    let retried = waiting.count();
    let Waiting { legs, posts, retrievals } = waiting;
    // What has become of them is not touched: a message that went into a bundle waits for the answer to that.
    retry(&office, posts.into_iter().map(Selection::Reference)).await;
    hurry(&office.custody, legs, Command::Retry).await;
    let fetched = ask(&office, None).await?;
    retry(&office, retrievals.into_iter().map(|(_, _, id)| Selection::Reference(id))).await;
    Ok(LinkUp { taken, refused, retried, fetched })
}

pub(super) async fn under_way(State(office): State<Office>) -> Result<Json<UnderWay>, Refused> {
    // Before what comes of it: what is over meanwhile is seen as a message.
    let arriving = office.arrivals.count();
    let found = count_all(&office.store).await.map_err(|error| Refused::failed(&error))?;
    Ok(Json(UnderWay { arriving, ..found }))
}

async fn ask(office: &Office, host: Option<Domain>) -> Result<Vec<Fetched>, Refused> {
    let stopping = || Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    let (answer, outcome) = oneshot::channel();
    office.wishes.send(Wish { host, answer }).await.map_err(|_| stopping())?;
    outcome.await.map_err(|_| stopping())
}

/// Everything that waits for its next attempt.
#[derive(Default)]
struct Waiting {
    legs: Vec<LegName>,
    /// Claims and receipts.
    posts: BTreeSet<QueueId>,
    /// By urgency and size.
    retrievals: BTreeSet<(bool, u64, QueueId)>,
}

impl Waiting {
    async fn find(store: &Store) -> Result<Self, StoreError> {
        let (now, mut found) = (now(), Self::default());
        let (soon, urgent) = (now.after(SOON), now.after(URGENT));
        each(store, |row| match (&row.key, &row.body) {
            (Key::Leg(id, number), RowBody::Leg(leg)) if waits(leg, soon) && !leg.route.is_asked_for() => {
                found.legs.push((id.clone(), *number));
            }
            (_, RowBody::Inbound(inbound)) if owes(inbound) && inbound.next_attempt > soon => {
                let id = inbound.queue_id.clone();
                match inbound.phase {
                    Phase::Waiting => found.retrievals.insert((inbound.expires > urgent, inbound.size, id)),
                    _ => found.posts.insert(id),
                };
            }
            _ => {}
        })
        .await?;
        Ok(found)
    }

    fn count(&self) -> u64 {
        u64::try_from(self.legs.len() + self.posts.len() + self.retrievals.len()).unwrap_or(u64::MAX)
    }
}

async fn retry(office: &Office, selections: impl Iterator<Item = Selection>) {
    for selection in selections {
        office.custody.ask(Request::Command(Command::Retry(selection))).await;
    }
}

/// Something is still to be fetched, claimed or reported.
fn owes(inbound: &Inbound) -> bool {
    matches!(inbound.phase, Phase::Waiting | Phase::Held | Phase::Delegating | Phase::Claiming { .. })
        || owes_report(inbound)
}

fn owes_report(inbound: &Inbound) -> bool {
    let unsaid = |state: &IndexState| {
        matches!(state, IndexState::Mine { acted: true } | IndexState::Final { acknowledged: false, .. })
    };
    inbound.phase == Phase::Working && inbound.recipients.iter().any(|recipient| unsaid(&recipient.state))
}

/// References that become messages are looked at before messages, and those that wait for the outcome of a message after them:
/// so that what goes on meanwhile is seen here or there.
async fn count_all(store: &Store) -> Result<UnderWay, StoreError> {
    let mut found = UnderWay::default();
    let portions = store.portions().await?;
    each_of(store, "in/", |row| match &row.body {
        RowBody::Inbound(inbound) => count_incoming(inbound, &portions, &mut found),
        RowBody::Leg(_) => {}
    })
    .await?;
    each_of(store, "leg/", |row| match &row.body {
        RowBody::Leg(leg) => count_leg(leg, &mut found),
        RowBody::Inbound(_) => {}
    })
    .await?;
    each_of(store, "in/", |row| match &row.body {
        RowBody::Inbound(inbound) => found.to_report += u64::from(owes_report(inbound) || owes_refusal(inbound)),
        RowBody::Leg(_) => {}
    })
    .await?;
    Ok(found)
}

fn count_incoming(inbound: &Inbound, portions: &HashMap<String, Portion>, found: &mut UnderWay) {
    match inbound.phase {
        Phase::Waiting => {
            let portion = portions.get(&by_held_object(&inbound.d, &inbound.xuid));
            found.to_retrieve += 1;
            found.octets_to_retrieve += portion.map_or(inbound.size, |portion| portion.left(inbound.size));
        }
        Phase::Held | Phase::Delegating | Phase::Claiming { .. } if !owes_refusal(inbound) => found.to_claim += 1,
        Phase::Held | Phase::Delegating | Phase::Claiming { .. } | Phase::Working | Phase::Closed => {}
    }
}

/// What was refused is claimed to say so: nothing comes of it here.
fn owes_refusal(inbound: &Inbound) -> bool {
    matches!(inbound.phase, Phase::Claiming { .. }) && inbound.refusal.is_some()
}

/// What waits for a site, or for somebody to claim it, is out of this server's hands.
fn count_leg(leg: &Leg, found: &mut UnderWay) {
    if leg.held
        || leg.carried.is_some()
        || !leg.recipients.iter().any(|recipient| recipient.state == RecipientState::Queued)
    {
        return;
    }
    match leg.route {
        Route::Maildir(_) | Route::Lmtp(_) | Route::Reports | Route::Discard => found.to_deliver += 1,
        Route::Site(_) | Route::OnDemand(_) => {}
        Route::Mx(_) | Route::Relay(_) => {
            found.to_send += 1;
            found.octets_to_send += leg.object.as_ref().map_or(0, |object| object.size);
        }
    }
}
