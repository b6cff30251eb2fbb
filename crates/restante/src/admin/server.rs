//! Answers the admin API over its UNIX socket. Whoever may open the socket may do everything: its mode is 0600.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as Segments, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use mail::ledger::{Key, Row, RowBody};
use mail::{Address, QueueId, ReferenceId, Timestamp};
use net::{retrieval, smtp_client};
use queue::port::{Command, Commanded, LEGS_AT_ONCE, Reply, Request, Selection};
use serde::Deserialize;
use store::{Store, StoreError};
use tokio::net::UnixListener;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::api::{
    self, CheckLine, Done, DoneTo, Entry, KindSent, LIST_LIMITS, Listening, Message, Problem, QueueList, Reloaded,
    ReportsSent, Status, Verb,
};
use super::submit::{self, OutboxNews};
use super::{accounts, bundle, holds, link, objects, reputation};
use crate::bundle::Bundles;
use crate::config::ListenerKind;
use crate::custodians::{Arrivals, Wish};
use crate::live::Live;
use crate::receive::{LiveConfig, LiveRouter, Sending, Signers};
use crate::reports::Desk;
use crate::reputation::Reputation;
use crate::runtime::Custody;
use crate::waiting::each_of;

/// Rows read at a time while a list is put together.
pub(super) const PAGE: usize = 500;
/// For requests that are under way when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// A wish to reload, and where its outcome goes.
pub(crate) type ReloadRequest = oneshot::Sender<Result<Reloaded, String>>;

/// What the API answers from.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) custody: Custody,
    pub(crate) store: Store,
    pub(crate) router: LiveRouter,
    pub(crate) config: LiveConfig,
    pub(crate) signers: Signers,
    pub(crate) listening: Vec<(ListenerKind, SocketAddr)>,
    pub(crate) started: Timestamp,
    pub(crate) reloads: mpsc::Sender<ReloadRequest>,
    pub(crate) sending: Sending,
    pub(crate) reports: Desk,
    /// What became of the outbox.
    pub(crate) outbox: Arc<Mutex<OutboxNews>>,
    /// To ask custodians.
    pub(crate) wishes: mpsc::Sender<Wish>,
    /// What custodians by value send.
    pub(crate) arrivals: Arrivals,
    /// Whose connections are worth nothing over a new link.
    pub(crate) repositories: retrieval::Client,
    pub(crate) smtp: Live<smtp_client::Client>,
    pub(crate) reputation: Reputation,
    /// Writes and reads bundles.
    pub(crate) bundles: Arc<Bundles>,
}

/// Opens the socket; one that a dead server left is replaced. One that answers is not, nor is a file of another kind.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server is using it"));
        }
        fs::remove_file(path)?;
    }
    bind_privately(path)
}

/// A socket takes its mode from the umask, and would be everybody's for a moment: it is bound in a directory that nobody
/// else may enter, and comes out with its mode.
fn bind_privately(path: &Path) -> io::Result<UnixListener> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // No longer than `admin.sock`: the paths of sockets are bounded.
    let room = parent.join(format!(".{:x}", std::process::id()));
    let _ = fs::remove_dir_all(&room);
    fs::DirBuilder::new().mode(0o700).create(&room)?;
    let place = room.join("s");
    let bound = UnixListener::bind(&place).and_then(|socket| {
        fs::set_permissions(&place, fs::Permissions::from_mode(0o600))?;
        fs::rename(&place, path)?;
        Ok(socket)
    });
    fs::remove_dir_all(&room)?;
    bound
}

/// Serves until `shutdown`.
pub(crate) async fn serve(socket: UnixListener, path: PathBuf, office: Office, shutdown: CancellationToken) {
    let routes = Router::new()
        .route(api::STATUS, get(status))
        .route(api::QUEUE, get(list))
        .route(&format!("{}/{{id}}", api::QUEUE), get(show))
        .route(&format!("{}/{{id}}/{{verb}}", api::QUEUE), post(command))
        .route(&format!("{}/{{id}}", api::TRACE), get(show))
        .route(api::MESSAGES, post(submit::message))
        .route(api::RELOAD, post(reload))
        .route(api::ACCOUNTS, get(accounts::list))
        .route(api::RECALL, post(accounts::recall))
        .route(api::REPORTS_SEND, post(send_reports))
        .route(api::REPUTATION, get(reputation::list))
        .route(&format!("{}/{{event}}/{{domain}}", api::REPUTATION), post(reputation::note))
        .route(api::STORE_CHECK, post(check_store))
        .route(api::STORE_HOLDS, get(holds::list).post(holds::order))
        .route(&format!("{}/{{number}}/release", api::STORE_HOLDS), post(holds::release))
        .route(&format!("{}/{{id}}", api::STORE_OBJECTS), get(objects::read))
        .route(api::FETCH, post(link::fetch))
        .route(api::LINK_UP, post(link::up))
        .route(api::UNDER_WAY, get(link::under_way))
        .route(api::BUNDLE, get(bundle::export).post(bundle::import))
        .with_state(office);
    serve_until(socket, routes, shutdown, DRAIN).await;
    // Nobody can connect any more; a file that is left says so less clearly.
    let _ = fs::remove_file(path);
}

/// After `shutdown`, requests that are under way have `drain` to end: one whose client is silent must not keep the server
/// from stopping. What is cut off has had no answer.
async fn serve_until(socket: UnixListener, routes: Router, shutdown: CancellationToken, drain: Duration) {
    let stopping = shutdown.clone().cancelled_owned();
    let served = axum::serve(socket, routes).with_graceful_shutdown(stopping).into_future();
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        ended = served => {
            if let Err(error) = ended {
                tracing::warn!(%error, "the admin socket has failed");
            }
        }
        () = patience => tracing::info!("requests on the admin socket were cut off"),
    }
}

/// A problem with its HTTP status.
pub(super) struct Refused(pub(super) StatusCode, pub(super) Problem);

impl Refused {
    pub(super) fn new(code: StatusCode, error: impl Into<String>) -> Self {
        Self(code, Problem::new(error))
    }

    pub(super) fn failed(error: &impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

async fn status(State(office): State<Office>) -> Result<Json<Status>, Refused> {
    let counts = office.store.counts().await.map_err(|error| Refused::failed(&error))?;
    let listeners = office.listening.iter();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: office.config.get().hostname.clone(),
        pid: std::process::id(),
        started: office.started,
        instance: office.store.instance(),
        listeners: listeners
            .map(|(kind, address)| Listening { kind: kind.as_str().to_owned(), address: *address })
            .collect(),
        legs: counts.under_way,
        references: counts.inbound,
    }))
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    finished: bool,
    limit: Option<usize>,
}

async fn list(State(office): State<Office>, Query(query): Query<ListQuery>) -> Result<Json<QueueList>, Refused> {
    let limit = query.limit.unwrap_or(LIST_LIMITS.0).min(LIST_LIMITS.1);
    let list = oldest(&office.store, limit, query.finished).await.map_err(|error| Refused::failed(&error))?;
    Ok(Json(list))
}

/// The oldest entries of the whole ledger, however its keys are ordered. Never more than twice `limit` and a page in memory.
async fn oldest(store: &Store, limit: usize, with_finished: bool) -> Result<QueueList, StoreError> {
    let mut list = QueueList { entries: Vec::new(), more: false };
    for prefix in ["leg/", "in/"] {
        let mut after: Option<Key> = None;
        loop {
            let rows = store.list(prefix, after.as_ref(), PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.key.clone());
            list.entries.extend(rows.iter().map(Entry::of).filter(|entry| with_finished || !entry.finished));
            if list.entries.len() > limit.saturating_mul(2).max(PAGE) {
                cut(&mut list, limit);
            }
        }
    }
    cut(&mut list, limit);
    Ok(list)
}

fn cut(list: &mut QueueList, limit: usize) {
    list.entries.sort_by_key(|entry| entry.accepted);
    list.more |= list.entries.len() > limit;
    list.entries.truncate(limit);
}

async fn show(State(office): State<Office>, Segments(id): Segments<String>) -> Result<Json<Message>, Refused> {
    let rows = lookup(&office.store, &id).await.map_err(|error| Refused::failed(&error))?;
    if rows.is_empty() { Err(unknown(&id)) } else { Ok(Json(Message::of(&rows))) }
}

/// All rows of a message by its queue id, or of both sides of a reference by its id.
pub(crate) async fn lookup(store: &Store, id: &str) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    if let Ok(queue_id) = id.parse::<QueueId>() {
        rows.extend(list_all(store, &format!("leg/{queue_id}/")).await?);
        rows.extend(store.find(&format!("id/{queue_id}"), PAGE).await?);
    }
    if let Ok(reference) = id.parse::<ReferenceId>() {
        rows.extend(store.find(&mail::ledger::by_reference(&reference), PAGE).await?);
        for inbound in list_all(store, &format!("in/{reference}/")).await? {
            let RowBody::Inbound(body) = &inbound.body else { continue };
            rows.extend(list_all(store, &format!("leg/{}/", body.queue_id)).await?);
            rows.push(inbound);
        }
    }
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows.dedup_by(|a, b| a.key == b.key);
    Ok(rows)
}

async fn list_all(store: &Store, prefix: &str) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    let mut after: Option<Key> = None;
    while rows.len() < LIST_LIMITS.1 {
        let page = store.list(prefix, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        rows.extend(page);
    }
    Ok(rows)
}

fn unknown(id: &str) -> Refused {
    let mut problem = Problem::new(format!("no message is known by the name {id}"));
    problem.help =
        Some("list the queue with `restante queue list`; finished messages are kept for a while only".to_owned());
    Refused(StatusCode::NOT_FOUND, problem)
}

/// There was nothing left for the command to do.
fn too_late(verb: Verb, recipients: Vec<(Key, Address, String)>) -> Refused {
    let text = format!("there is nothing left to {}: custody is not here, or not any more", verb.as_str());
    let mut problem = Problem::new(text);
    problem.recipients = recipients.into_iter().map(|(_, address, word)| (address, word)).collect();
    Refused(StatusCode::CONFLICT, problem)
}

#[derive(Deserialize)]
struct LegQuery {
    leg: Option<u32>,
}

async fn command(
    State(office): State<Office>,
    Segments((id, verb)): Segments<(String, String)>,
    Query(query): Query<LegQuery>,
) -> Result<Json<Done>, Refused> {
    let verb = Verb::from_path(&verb).ok_or_else(|| Refused::new(StatusCode::NOT_FOUND, "there is no such command"))?;
    let queue_id: QueueId = id.parse().map_err(|_| unknown(&id))?;
    let selections = match query.leg {
        Some(number) => vec![Selection::Leg(queue_id, number)],
        None => all_of(&office.store, queue_id).await.map_err(|error| Refused::failed(&error))?,
    };
    let mut done = Commanded::default();
    for selection in selections {
        let command = match verb {
            Verb::Retry => Command::Retry(selection),
            Verb::Hold => Command::Hold(selection),
            Verb::Release => Command::Release(selection),
            Verb::Fail => Command::Fail(selection),
            Verb::Withdraw => Command::Withdraw(selection),
        };
        let Reply::Commanded(more) = office.custody.ask(Request::Command(command)).await else {
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the queue cannot do that now, try again"));
        };
        done.carried_out |= more.carried_out;
        done.reached += more.reached;
        done.recipients.extend(more.recipients);
    }
    match done {
        done if done.recipients.is_empty() && !done.carried_out => Err(unknown(&id)),
        done if !done.carried_out => Err(too_late(verb, done.recipients)),
        Commanded { reached, recipients, .. } => {
            let recipients = recipients.into_iter().map(|(key, address, text)| DoneTo { key, address, text });
            Ok(Json(Done { reached, recipients: recipients.collect() }))
        }
    }
}

/// What reaches all of a message: a list may have more legs than one command does.
async fn all_of(store: &Store, id: QueueId) -> Result<Vec<Selection>, StoreError> {
    let mut firsts = BTreeSet::new();
    each_of(store, &format!("leg/{id}/"), |row| {
        if let Key::Leg(_, number) = row.key {
            firsts.insert(number - number % LEGS_AT_ONCE);
        }
    })
    .await?;
    let others = firsts.into_iter().filter(|first| *first > 0).map(|first| Selection::From(id.clone(), first));
    Ok([Selection::Message(id.clone())].into_iter().chain(others).collect())
}

async fn reload(State(office): State<Office>) -> Result<Json<Reloaded>, Refused> {
    let (answer, outcome) = oneshot::channel();
    let stopping = || Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    office.reloads.send(answer).await.map_err(|_| stopping())?;
    match outcome.await {
        Ok(Ok(reloaded)) => Ok(Json(reloaded)),
        Ok(Err(error)) => Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, error)),
        Err(_) => Err(stopping()),
    }
}

async fn send_reports(State(office): State<Office>) -> Result<Json<ReportsSent>, Refused> {
    let sent = office.reports.send_all().await.map_err(|error| Refused::failed(&error))?;
    let kinds = sent.into_iter().map(|(kind, sent)| KindSent { kind: kind.to_owned(), sent });
    Ok(Json(ReportsSent { kinds: kinds.collect() }))
}

#[derive(Deserialize)]
struct CheckQuery {
    #[serde(default)]
    repair: bool,
}

async fn check_store(State(office): State<Office>, Query(query): Query<CheckQuery>) -> Response {
    let (lines, received) = mpsc::channel::<CheckLine>(64);
    tokio::spawn(async move {
        let progress = lines.clone();
        let report = office.store.check(query.repair, move |p| {
            // A slow reader misses steps, not the report.
            let _ = progress.try_send(CheckLine::Progress { rows: p.rows, of_rows: p.of_rows, octets: p.octets });
        });
        let last = match report.await {
            Ok(report) => CheckLine::Report(report.into()),
            Err(error) => CheckLine::Failed(error.to_string()),
        };
        let _ = lines.send(last).await;
    });
    Body::from_stream(stream::unfold(received, |mut received| async move {
        let line = received.recv().await?;
        let text = serde_json::to_string(&line).map(|json| json + "\n");
        Some((text, received))
    }))
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let first = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the private directory is gone");
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_short_list_has_the_oldest_of_the_whole_ledger() {
        let store = Store::memory(mail::InstanceId([1; 16]));
        // The keys are in the other order than the times, and there are more rows than one page has.
        let rows = (0..PAGE as u64 + 20).map(|n| api::tests::leg(&format!("m{:06}", 900_000 - n), n));
        let batch = mail::ledger::Batch { put: rows.collect(), ..Default::default() };
        store.commit(batch).await.unwrap();
        let list = oldest(&store, 3, true).await.unwrap();
        let names: Vec<_> = list.entries.iter().map(|entry| entry.id.clone().unwrap().to_string()).collect();
        assert_eq!(names, ["m900000", "m899999", "m899998"]);
        assert!(list.more && oldest(&store, 3, false).await.unwrap().entries.is_empty(), "all are finished");
        assert!(!oldest(&store, PAGE + 20, true).await.unwrap().more);
    }

    #[tokio::test]
    async fn a_silent_client_does_not_keep_the_server_from_stopping() {
        use tokio::io::AsyncWriteExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let (socket, shutdown) = (bind(&path).unwrap(), CancellationToken::new());
        let drain = Duration::from_millis(50);
        let serving = tokio::spawn(serve_until(socket, Router::new(), shutdown.clone(), drain));
        let mut silent = tokio::net::UnixStream::connect(&path).await.unwrap();
        silent.write_all(b"POST /messages HTTP/1.1\r\n").await.unwrap();
        tokio::time::sleep(drain).await;
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), serving).await.unwrap().unwrap();
    }
}
