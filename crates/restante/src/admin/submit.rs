//! `POST /messages`: a message handed in by a local user, as `restante send` and `sendmail` do.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt as _;
use mail::Envelope;
use mail::ledger::Source;
use mail::trace::Reception;
use queue::port::{Acceptance, Reply, Request};

use super::api::{self, Accepted, Problem};
use super::server::{Office, Refused};
use crate::deliver::facts;
use crate::runtime::{draw_queue_id, now};

/// Takes the body as it is: line ends have been made CRLF by the client.
pub(super) async fn message(
    State(office): State<Office>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Accepted>, Refused> {
    let bad = |text: &str| Refused::new(StatusCode::BAD_REQUEST, text);
    let envelope = headers.get(api::ENVELOPE).and_then(|value| value.to_str().ok()).and_then(api::decode_envelope);
    let envelope = envelope.ok_or_else(|| bad("the envelope is missing or malformed"))?;
    let recipients = route(&office, &envelope);
    let limit = office.config.limits.message_size;
    let mut writer = office.store.create();
    let (mut chunks, mut taken) = (body.into_data_stream(), 0_u64);
    while let Some(chunk) = chunks.next().await {
        if recipients.is_err() {
            // A client that is still writing would miss the answer: it is heard out first.
            continue;
        }
        let chunk = chunk.map_err(|_| bad("the message broke off"))?;
        taken += chunk.len() as u64;
        if taken > limit {
            let text = format!("the message is larger than the limit of {limit} octets");
            return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        writer.write(&chunk).await.map_err(|error| storage(&error))?;
    }
    let recipients = recipients?;
    let (object, checked) = writer.finish().await.map_err(|error| storage(&error))?;
    if taken == 0 {
        office.store.discard(&object);
        return Err(bad("the message is empty"));
    }
    let id = draw_queue_id();
    let by = office.config.hostname.as_str();
    let trace = Reception { helo: "", client: None, by, with: "local", id: &id, only_recipient: None, at: now() };
    let acceptance = Acceptance {
        queue_id: id.clone(),
        mail_from: envelope.mail_from,
        params: envelope.params,
        recipients,
        object,
        facts: facts(&checked),
        prefix: trace.field(),
        source: Source::Local,
    };
    match office.custody.ask(Request::Accept(Box::new(acceptance))).await {
        Reply::Accepted => Ok(Json(Accepted { id, xuid: checked.xuid, size: checked.size })),
        _ => Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the queue cannot take the message now, try again")),
    }
}

type Routed = Vec<(mail::Recipient, Vec<mail::ledger::Target>)>;

fn route(office: &Office, envelope: &Envelope) -> Result<Routed, Refused> {
    let router = office.router.get();
    let routed = envelope.recipients.iter().map(|r| (r.clone(), router.targets(&r.address)));
    let (routed, unknown): (Routed, Routed) = routed.partition(|(_, targets)| !targets.is_empty());
    if unknown.is_empty() && !routed.is_empty() {
        return Ok(routed);
    }
    let mut problem =
        Problem::new(if unknown.is_empty() { "there is no recipient" } else { "recipients are unknown here" });
    problem.recipients =
        unknown.into_iter().map(|(r, _)| (r.address, "there is no such recipient".to_owned())).collect();
    Err(Refused(StatusCode::UNPROCESSABLE_ENTITY, problem))
}

fn storage(error: &store::StoreError) -> Refused {
    Refused::new(StatusCode::INSUFFICIENT_STORAGE, format!("the message cannot be stored now: {error}"))
}
