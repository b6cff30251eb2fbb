//! `GET /bundle` and `POST /bundle`: bundles for and from sites (TBR §7.5). The files are the client's.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use mail::Domain;
use serde::Deserialize;

use super::api::{self, Exported, Imported};
use super::server::{Office, Refused};
use super::submit;
use crate::bundle::{NotExported, NotImported, Wanted};

#[derive(Deserialize)]
pub(super) struct ExportQuery {
    site: Domain,
    custodian: Option<Domain>,
    limit: Option<u64>,
    after: Option<String>,
}

/// The archive, with what is in it in the header; no content where there is nothing to write.
pub(super) async fn export(
    State(office): State<Office>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Refused> {
    let ExportQuery { site, custodian, limit, after } = query;
    // What was written while no server ran goes with it.
    submit::settle_outbox(&office).await?;
    let (exported, volume) =
        office.bundles.export(&Wanted { site, custodian, limit, after }).await.map_err(not_written)?;
    let header: [(&str, String); 1] = [(api::BUNDLE_SUMMARY, encode(&exported)?)];
    Ok(match volume {
        Some(volume) => (header, Body::from_stream(volume.into_stream())).into_response(),
        None => (StatusCode::NO_CONTENT, header).into_response(),
    })
}

fn encode(exported: &Exported) -> Result<String, Refused> {
    api::encode_summary(exported).map_err(|error| Refused::failed(&error))
}

fn not_written(error: NotExported) -> Refused {
    let code = match &error {
        NotExported::Unknown(_) => StatusCode::NOT_FOUND,
        NotExported::Store(_) | NotExported::Format(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refused::new(code, error.to_string())
}

pub(super) async fn import(State(office): State<Office>, body: Body) -> Result<Json<Imported>, Refused> {
    let mut chunks = body.into_data_stream();
    let imported = office.bundles.import(&mut chunks).await;
    // A client that is still writing would miss the answer.
    while let Some(Ok(_)) = chunks.next().await {}
    imported.map(Json).map_err(|error| not_read(&error))
}

fn not_read(error: &NotImported) -> Refused {
    let code = match error {
        NotImported::NoBundle(_) | NotImported::Order | NotImported::Manifest(_) | NotImported::Broken(_) => {
            StatusCode::BAD_REQUEST
        }
        NotImported::NotForUs(_) => StatusCode::NOT_FOUND,
        NotImported::NotSealed(_) => StatusCode::FORBIDDEN,
    };
    Refused::new(code, error.to_string())
}
