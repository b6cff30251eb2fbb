//! `POST /messages`: a message handed in by a local user, as `restante send` and `sendmail` do; and what they have left in the
//! outbox while no server ran.

use std::io::Read as _;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use mail::ledger::{Key, Owner, Route, Source, Target};
use mail::object::Checked;
use mail::trace::Reception;
use mail::{Address, Envelope, QueueId};
use queue::port::{Acceptance, Reply, Request};
use store::Purpose;
use tracing::{info, warn};

use super::api::{self, Accepted, Problem};
use super::server::{Office, Refused};
use crate::deliver::facts;
use crate::fates;
use crate::outbox::Outbox;
use crate::receive::NotSigned;
use crate::runtime::{draw_queue_id, now};

/// Octets handed over by the outbox at a time.
const CHUNK: usize = 64 * 1024;

/// Takes the body as it is: line ends have been made CRLF by the client.
pub(super) async fn message(
    State(office): State<Office>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Accepted>, Refused> {
    let envelope = headers.get(api::ENVELOPE).and_then(|value| value.to_str().ok()).and_then(api::decode_envelope);
    let envelope = envelope.ok_or_else(|| bad("the envelope is missing or malformed"))?;
    let chunks = body.into_data_stream().map(|chunk| chunk.map_err(|_| bad("the message broke off")));
    take(&office, draw_queue_id(), envelope, chunks).await.map(Json)
}

/// What became of the outbox since somebody last heard of it. Its lock is held while the outbox is emptied.
#[derive(Debug, Default)]
pub(crate) struct OutboxNews {
    /// Messages taken.
    pub(super) taken: u64,
    /// Files of those that were set aside, and why.
    pub(super) refused: Vec<String>,
}

/// Takes all that was written while no server ran.
///
/// # Errors
/// One that need not stay so: what is left in the outbox is taken the next time.
pub(super) async fn take_outbox(office: &Office) -> Result<OutboxNews, Refused> {
    let mut news = office.outbox.lock().await;
    empty_outbox(office, &mut news).await?;
    Ok(std::mem::take(&mut *news))
}

/// The same; what became of it is told when the link comes up.
///
/// # Errors
/// As above.
pub(super) async fn settle_outbox(office: &Office) -> Result<(), Refused> {
    empty_outbox(office, &mut *office.outbox.lock().await).await
}

/// The same at the start. What cannot be taken now is taken when the link comes up, or at the next start.
pub(crate) async fn take_outbox_at_start(office: Office) {
    let mut news = office.outbox.lock().await;
    match empty_outbox(&office, &mut news).await {
        Ok(()) if news.taken == 0 => {}
        Ok(()) => info!(taken = news.taken, "messages of the outbox were taken"),
        Err(Refused(_, problem)) => warn!(error = problem.error, "the outbox is not empty"),
    }
}

async fn empty_outbox(office: &Office, news: &mut OutboxNews) -> Result<(), Refused> {
    let outbox = Outbox::new(office.config.get().outbox_dir());
    for id in outbox.list().map_err(|error| Refused::failed(&error))? {
        let outcome = match office.store.load(vec![Key::Leg(id.clone(), 0)]).await {
            // Its file outlived the server that took it.
            Ok(rows) if !rows.is_empty() => Ok(()),
            Ok(_) => take_waiting(office, &outbox, &id).await,
            Err(error) => Err(storage(&error)),
        };
        match outcome {
            Ok(()) => outbox.remove(&id).map_err(|error| Refused::failed(&error))?,
            Err(Refused(code, problem)) if code.is_client_error() => {
                let place = outbox.set_aside(&id, &why(&problem)).map_err(|error| Refused::failed(&error))?;
                warn!(file = %place.display(), error = why(&problem), "a message of the outbox is refused");
                news.refused.push(format!("{}: {}", place.display(), why(&problem)));
                continue;
            }
            Err(other) => return Err(other),
        }
        news.taken += 1;
    }
    Ok(())
}

async fn take_waiting(office: &Office, outbox: &Outbox, id: &QueueId) -> Result<(), Refused> {
    let waiting = outbox.open(id).map_err(|error| bad(&error.to_string()))?;
    let chunks = stream::unfold(waiting.content, |mut content| async move {
        let mut chunk = vec![0; CHUNK];
        match content.read(&mut chunk) {
            Ok(0) => None,
            Ok(length) => {
                chunk.truncate(length);
                Some((Ok(Bytes::from(chunk)), content))
            }
            Err(error) => Some((Err(Refused::failed(&error)), content)),
        }
    });
    take(office, waiting.id, waiting.envelope, Box::pin(chunks)).await.map(|_| ())
}

fn why(problem: &Problem) -> String {
    let recipients = problem.recipients.iter().map(|(address, why)| format!("; {address}: {why}"));
    problem.error.clone() + &recipients.collect::<String>()
}

fn bad(text: &str) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, text)
}

async fn take(
    office: &Office,
    id: QueueId,
    envelope: Envelope,
    mut chunks: impl Stream<Item = Result<Bytes, Refused>> + Unpin,
) -> Result<Accepted, Refused> {
    let recipients = route(office, &envelope);
    let config = office.config.get();
    let limit = config.limits.message_size;
    let domain = envelope.mail_from.as_ref().and_then(Address::domain).filter(|domain| config.is_ours(domain));
    let owner = Owner { account: None, domain };
    let mut room = office.store.reserve(owner, Purpose::New, 1).map_err(|full| no_room(&full));
    let routes = recipients.iter().flatten().flat_map(|(_, targets)| targets.iter().map(|target| &target.route));
    let is_coded = config.is_to_be_served(envelope.mail_from.as_ref(), routes);
    let mut writer = match is_coded {
        // What is signed is written once more.
        true if office.signers.is_empty() => office.store.create_coded(),
        _ => office.store.create(),
    };
    let mut taken = 0_u64;
    while let Some(chunk) = chunks.next().await {
        // A client that is still writing would miss the answer: it is heard out first.
        let (Ok(_), Ok(room)) = (&recipients, &mut room) else { continue };
        let chunk = chunk?;
        taken += chunk.len() as u64;
        if taken > limit {
            let text = format!("the message is larger than the limit of {limit} octets");
            return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        room.grow(taken).map_err(|full| no_room(&full))?;
        writer.write(&chunk).await.map_err(|error| storage(&error))?;
    }
    let (recipients, _room) = (recipients?, room?);
    let (object, checked) = writer.finish().await.map_err(|error| storage(&error))?;
    if let Some(text) = unfit(taken, &checked, &recipients) {
        office.store.discard(&object);
        return Err(bad(text));
    }
    let signed = office.signers.sign(&office.store, object, checked, is_coded).await;
    let (object, checked) = signed.map_err(|error| not_signed(&error))?;
    let by = config.hostname.as_str();
    let trace = Reception { helo: "", client: None, by, with: "local", id: &id, only_recipient: None, at: now() };
    let (from, accepted) = (fates::sender(envelope.mail_from.as_ref()).to_owned(), recipients.len());
    let acceptance = Acceptance {
        queue_id: id.clone(),
        mail_from: envelope.mail_from,
        params: envelope.params,
        recipients,
        object,
        facts: facts(&checked),
        prefix: trace.field(),
        seal: String::new(),
        source: Source::Local,
        once: None,
    };
    match office.custody.ask(Request::Accept(Box::new(acceptance))).await {
        Reply::Accepted => {
            info!(%id, from, recipients = accepted, octets = checked.size, "accepted from a user of this machine");
            Ok(Accepted { id, xuid: checked.xuid, size: checked.size, waits: false })
        }
        _ => Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the queue cannot take the message now, try again")),
    }
}

/// Why this content cannot go to these recipients.
fn unfit(octets: u64, checked: &Checked, recipients: &Routed) -> Option<&'static str> {
    let for_site = |target: &Target| matches!(target.route, Route::Site(_));
    if octets == 0 {
        return Some("the message is empty");
    }
    let asks_for_object = recipients.iter().any(|(_, targets)| targets.iter().any(for_site));
    (asks_for_object && checked.verdict.is_err())
        .then_some("a recipient's domain takes messages by reference only, and this content cannot be one")
}

type Routed = Vec<(mail::Recipient, Vec<Target>)>;

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

fn not_signed(error: &NotSigned) -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, format!("the message cannot be signed now: {error}"))
}

fn no_room(full: &store::Full) -> Refused {
    Refused::new(StatusCode::INSUFFICIENT_STORAGE, format!("{full}: the message cannot be stored now"))
}

fn storage(error: &store::StoreError) -> Refused {
    Refused::new(StatusCode::INSUFFICIENT_STORAGE, format!("the message cannot be stored now: {error}"))
}
