//! `GET /store/objects/{id}`: the octets of an object that is still here: on its way, in its grace, or held.

use axum::body::Body;
use axum::extract::{Path as Segments, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::try_unfold;
use mail::Xuid;
use mail::ledger::ObjectRef;
use store::StoreError;

use super::api::OBJECT_XUID;
use super::server::{Office, Refused, lookup};
use crate::waiting::each;

/// The octets; their reader verifies them.
pub(super) async fn read(State(office): State<Office>, Segments(id): Segments<String>) -> Result<Response, Refused> {
    let object = find(&office, &id).await?;
    let reader = office.store.read(&object, 0..object.size).await.map_err(|error| Refused::failed(&error))?;
    let octets = try_unfold(reader, |mut reader| async move {
        let chunk = reader.next_chunk().await?;
        Ok::<_, StoreError>(chunk.map(|chunk| (chunk, reader)))
    });
    let headers = [(header::CONTENT_LENGTH.as_str(), object.size.to_string()), (OBJECT_XUID, object.xuid.to_string())];
    Ok((headers, Body::from_stream(octets)).into_response())
}

async fn find(office: &Office, id: &str) -> Result<ObjectRef, Refused> {
    let failed = |error: StoreError| Refused::failed(&error);
    let mut found: Vec<ObjectRef> = Vec::new();
    let mut is_known = false;
    let mut add = |object: &ObjectRef| {
        if found.iter().all(|known| known.xuid != object.xuid) {
            found.push(object.clone());
        }
    };
    let holds = office.store.holds().await.map_err(failed)?.holds;
    if let Ok(xuid) = id.parse::<Xuid>() {
        let is_it = |object: &&ObjectRef| object.xuid == xuid;
        each(&office.store, |row| row.object().filter(is_it).into_iter().for_each(&mut add)).await.map_err(failed)?;
        holds.iter().map(|hold| &hold.object).filter(is_it).for_each(&mut add);
    } else {
        let rows = lookup(&office.store, id).await.map_err(failed)?;
        is_known = !rows.is_empty();
        rows.iter().filter_map(|row| row.object()).for_each(&mut add);
        holds.iter().filter(|hold| hold.id.as_str() == id).for_each(|hold| add(&hold.object));
    }
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] if is_known => Err(Refused::new(StatusCode::GONE, format!("the content of {id} is not here any more"))),
        [] => Err(Refused::new(StatusCode::NOT_FOUND, format!("no content is here by the name {id}"))),
        several => {
            let names: Vec<String> = several.iter().map(|object| object.xuid.to_string()).collect();
            let text = format!("{id} has more than one content: name one of {}", names.join(", "));
            Err(Refused::new(StatusCode::CONFLICT, text))
        }
    }
}
