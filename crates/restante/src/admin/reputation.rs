//! `/reputation`: how mail of other domains has fared here, and what recipients and operators say of it.

use axum::Json;
use axum::extract::{Path as Segments, Query, State};
use axum::http::StatusCode;
use mail::{Domain, Timestamp};
use policy::reputation::{Event, Record};
use serde::Deserialize;

use super::api::{DomainStanding, LIST_LIMITS};
use super::server::{Office, Refused};
use crate::runtime::now;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    domain: Option<Domain>,
}

/// The best first; all of them, or the one that is asked for.
pub(super) async fn list(State(office): State<Office>, Query(query): Query<ListQuery>) -> Json<Vec<DomainStanding>> {
    let at = now();
    let mut list: Vec<DomainStanding> =
        office.reputation.list(query.domain.as_ref()).iter().map(|(name, record)| shown(name, record, at)).collect();
    list.sort_by_key(|entry| std::cmp::Reverse(entry.score));
    list.truncate(LIST_LIMITS.1);
    Json(list)
}

/// Welcome or not.
pub(super) async fn note(
    State(office): State<Office>,
    Segments((event, domain)): Segments<(String, Domain)>,
) -> Result<Json<DomainStanding>, Refused> {
    let event = match event.as_str() {
        "good" => Event::Praised,
        "bad" => Event::Complained,
        _ => return Err(Refused::new(StatusCode::NOT_FOUND, "mail is good or bad")),
    };
    let at = now();
    office.reputation.note(&domain, event, None, at);
    let (name, record) = office.reputation.list(Some(&domain)).pop().unwrap_or_default();
    Ok(Json(shown(&name, &record, at)))
}

fn shown(name: &str, record: &Record, at: Timestamp) -> DomainStanding {
    // A score has six digits at most.
    let score = record.score(at).round().clamp(-1e9, 1e9) as i32;
    DomainStanding { domain: name.to_owned(), standing: record.standing(at), score }
}
