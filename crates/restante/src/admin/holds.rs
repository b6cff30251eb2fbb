//! `/store/holds`: legal holds, listed, ordered and released. What a hold is is the store's.

use axum::Json;
use axum::extract::{Path as Segments, State};
use axum::http::StatusCode;
use mail::QueueId;
use mail::ledger::{Batch, HoldOrder, ObjectRef, Row, RowBody};
use store::ReleaseError;

use super::api::{HoldList, HoldWish};
use super::server::{Office, Refused, lookup};
use crate::runtime::now;

/// Longest reason that is kept, in characters.
const MAX_WHY: usize = 500;

pub(super) async fn list(State(office): State<Office>) -> Result<Json<HoldList>, Refused> {
    let holds = office.store.holds().await.map_err(|error| Refused::failed(&error))?;
    Ok(Json(holds.into()))
}

/// Holds every object that a message still has here.
pub(super) async fn order(State(office): State<Office>, Json(wish): Json<HoldWish>) -> Result<Json<HoldList>, Refused> {
    if wish.until.is_some_and(|until| until <= now()) {
        return Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, "that date is past: nothing would be held"));
    }
    let rows = lookup(&office.store, &wish.id).await.map_err(|error| Refused::failed(&error))?;
    let mut found: Vec<(QueueId, ObjectRef)> = Vec::new();
    for (id, object) in rows.iter().filter_map(|row| Some((queue_id(row), row.object()?.clone()))) {
        if found.iter().all(|(_, known)| known.key != object.key) {
            found.push((id, object));
        }
    }
    if found.is_empty() {
        let text = format!("the content of {} is not here, or not any more", wish.id);
        return Err(Refused::new(StatusCode::NOT_FOUND, text));
    }
    let (at, why) = (now(), wish.why.chars().filter(|c| !c.is_control()).take(MAX_WHY).collect::<String>());
    let as_order =
        |(id, object): (QueueId, ObjectRef)| HoldOrder { object, id, until: wish.until, why: why.clone(), at };
    let holds = found.iter().cloned().map(as_order).collect();
    let ordered = office.store.commit(Batch { holds, ..Batch::default() }).await;
    ordered.map_err(|error| Refused::failed(&error))?;
    let mut all = office.store.holds().await.map_err(|error| Refused::failed(&error))?;
    all.holds.retain(|hold| found.iter().any(|(_, object)| object.key == hold.object.key));
    Ok(Json(all.into()))
}

pub(super) async fn release(
    State(office): State<Office>,
    Segments(number): Segments<u64>,
) -> Result<Json<HoldList>, Refused> {
    match office.store.release(number, "released", now()).await {
        Ok(()) => list(State(office)).await,
        Err(error @ ReleaseError::Unknown(_)) => Err(Refused::new(StatusCode::NOT_FOUND, error.to_string())),
        Err(error @ ReleaseError::NotBefore { .. }) => Err(Refused::new(StatusCode::CONFLICT, error.to_string())),
        Err(error) => Err(Refused::failed(&error)),
    }
}

fn queue_id(row: &Row) -> QueueId {
    match (&row.key, &row.body) {
        (mail::ledger::Key::Leg(id, _), _) => id.clone(),
        (_, RowBody::Inbound(inbound)) => inbound.queue_id.clone(),
        (mail::ledger::Key::Inbound(..), RowBody::Leg(_)) => crate::runtime::draw_queue_id(),
    }
}
