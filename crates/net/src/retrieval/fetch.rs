//! A retrieval: attempts, resumption by range, and the checks that make octets an object (TBR §6.1).
//!
//! Octets may come under a content coding; ranges and lengths then mean the coded ones, and the sink decodes. What a response
//! says of itself is read in `represent`.

use std::mem;
use std::net::IpAddr;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, IF_RANGE, RANGE, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode};
use mail::ledger::{Coding, Representation};
use policy::budget::Prefix;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::connect::{Connection, Errand};
use super::exchange::{Answered, Broken, unwritable};
use super::link::{Link, is_ours};
use super::places::Turn;
use super::represent::{self, Unfit, retry_after};
use super::signed::signed;
use super::suspend::left_alone;
use super::{Client, Config, Fetch, Outcome, Shared, Sink, SinkError};

/// Attempts that brought this much, all together that share a link, are no failures, should they break: long objects come over
/// short-lived links.
const WORTHWHILE: u64 = 64 * 1024;
/// Times the size that is received at most over all attempts, and some for small objects.
const MOST_TIMES: u64 = 4;
const MOST_EXTRA: u64 = 64 * 1024;

impl Client {
    /// Fetches an object into `sink`, and checks it. The URI comes from a verified reference.
    pub async fn fetch(&self, fetch: Fetch<'_>, sink: &mut impl Sink) -> Outcome {
        let shared = self.shared();
        let (d, host) = (fetch.domain, &fetch.uri.host);
        if shared.suspensions.left(d, host, Instant::now()).is_some() {
            return Outcome::LeftAlone { text: left_alone(d, host) };
        }
        let mut retrieval = Retrieval::new(&shared, fetch);
        let outcome = timeout(fetch.budget, retrieval.run(sink)).await;
        let outcome = outcome.unwrap_or_else(|_| temporary("the retrieval takes too long"));
        let network = retrieval.network;
        match &outcome {
            Outcome::Done { .. } => shared.suspensions.worked(d, host, network),
            Outcome::NotFound => shared.turned_away(d, host, network),
            _ if retrieval.is_turned_away => shared.turned_away(d, host, network),
            _ => {}
        }
        outcome
    }
}

/// What is known while octets come in.
struct Retrieval<'a> {
    shared: &'a Shared,
    fetch: Fetch<'a>,
    /// Somebody was asked, or it was tried.
    is_begun: bool,
    /// TLS failed, or 403.
    is_turned_away: bool,
    /// Where an answer came from last.
    network: Option<Prefix>,
    /// Octets in the sink, and what they are octets of.
    held: u64,
    representation: Option<Representation>,
    /// Octets of body over all attempts.
    received: u64,
    /// Ranges of this host are not right: begin from zero after a break.
    no_ranges: bool,
    refetched: bool,
}

/// How one attempt ended.
enum Attempt {
    /// All octets are there.
    Complete,
    /// The repository sends something else than the reference names.
    Wrong(String),
    /// The connection, or the repository, gave up: go on where it stopped.
    Broken(String),
    /// Going on makes no sense.
    Final(Outcome),
}

impl<'a> Retrieval<'a> {
    fn new(shared: &'a Shared, fetch: Fetch<'a>) -> Self {
        Self {
            shared,
            fetch,
            is_begun: false,
            is_turned_away: false,
            network: None,
            held: 0,
            representation: None,
            received: 0,
            no_ranges: false,
            refetched: false,
        }
    }

    async fn run(&mut self, sink: &mut impl Sink) -> Outcome {
        let Ok(turn) = self.shared.places.turn(self.fetch.domain).await else {
            return temporary("no retrievals are made any more");
        };
        let config = &self.shared.config;
        let (mut breaks, mut wait) = (0, config.resumption_wait);
        self.go_on(sink);
        loop {
            let before = self.received;
            let wrong = match self.attempt(sink, &turn).await {
                Attempt::Final(outcome) => return outcome,
                Attempt::Complete => match sink.finish().await {
                    Ok(xuid) if xuid == self.fetch.uri.xuid => return Outcome::Done { octets: self.received },
                    Ok(_) => "the octets are not those that the reference names".to_owned(),
                    Err(SinkError::Wrong(text)) => text,
                    Err(SinkError::Ours(error)) => return ours(&error),
                },
                Attempt::Wrong(text) => text,
                Attempt::Broken(text) => {
                    debug!(host = %self.fetch.uri.host, octets = self.held, text, "a retrieval broke off");
                    if self.received - before < WORTHWHILE / turn.at_once() as u64 {
                        breaks += 1;
                    } else {
                        (breaks, wait) = (0, config.resumption_wait);
                    }
                    if breaks > config.resumptions || self.is_over_cap() {
                        return temporary(text);
                    }
                    self.shared.link.pause(wait).await;
                    wait *= 2;
                    continue;
                }
            };
            if self.refetched {
                return Outcome::Corrupt { text: wrong };
            }
            self.refetched = true;
            self.forget();
        }
    }

    /// Takes up what an earlier retrieval has left.
    fn go_on(&mut self, sink: &impl Sink) {
        if let Some((representation, held)) = sink.held()
            && held <= representation.size.unwrap_or_else(|| represent::most_coded(self.fetch.size))
        {
            (self.representation, self.held) = (Some(representation), held);
        }
    }

    /// From zero: the next 200 tells the sink so.
    fn forget(&mut self) {
        (self.held, self.representation) = (0, None);
    }

    /// After something wrong the object is asked for as it is.
    fn takes_codings(&self, sink: &impl Sink) -> bool {
        self.shared.config.codings && sink.takes_codings() && !self.refetched
    }

    fn tag(&self) -> Option<&str> {
        self.representation.as_ref()?.tag.as_deref()
    }

    fn is_over_cap(&self) -> bool {
        self.received > self.fetch.size.saturating_mul(MOST_TIMES).saturating_add(MOST_EXTRA)
    }

    async fn attempt(&mut self, sink: &mut impl Sink, turn: &Turn) -> Attempt {
        if self.held > 0 && (self.tag().is_none() || self.no_ranges) {
            self.forget();
        }
        let all = self.representation.as_ref().and_then(|r| r.size);
        if all.is_some_and(|all| self.held == all) {
            return Attempt::Complete;
        }
        let takes_codings = self.takes_codings(sink);
        let answered = self.exchange(takes_codings).await;
        let was_begun = mem::replace(&mut self.is_begun, true);
        let answered = match answered {
            Ok(answered) => answered,
            Err(broken) => {
                (self.is_turned_away, self.network) = (broken.is_tls, None);
                if broken.is_left_alone && !was_begun {
                    return Attempt::Final(Outcome::LeftAlone { text: broken.text });
                }
                if broken.is_lasting {
                    return Attempt::Final(temporary(broken.text));
                }
                return Attempt::Broken(broken.text);
            }
        };
        self.is_turned_away = answered.response.status() == StatusCode::FORBIDDEN;
        self.network = answered.connection.network;
        match answered.response.status() {
            StatusCode::OK => self.whole(answered, sink, turn).await,
            StatusCode::PARTIAL_CONTENT if self.held > 0 => self.part(answered, sink, turn).await,
            StatusCode::RANGE_NOT_SATISFIABLE if self.held > 0 => self.without_ranges(),
            StatusCode::NOT_FOUND => Attempt::Final(Outcome::NotFound),
            StatusCode::GONE => Attempt::Final(Outcome::Gone),
            _ => Attempt::Final(refused(&answered.response)),
        }
    }

    async fn exchange(&self, takes_codings: bool) -> Result<Answered, Broken> {
        self.shared.exchange(&self.fetch.uri.host, Errand::Fetch, || self.request(takes_codings)).await
    }

    /// A range only of a representation that can be told from others.
    fn request(&self, takes_codings: bool) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder().method(Method::GET).uri(self.fetch.uri.path_and_query());
        let is_coded = match self.representation.as_ref().filter(|_| self.held > 0) {
            Some(representation) => representation.coding.is_some(),
            None => takes_codings,
        };
        if is_coded {
            request = request.header(ACCEPT_ENCODING, Coding::Zstd.token());
        }
        if let (true, Some(tag)) = (self.held > 0, self.tag()) {
            request = request.header(RANGE, format!("bytes={}-", self.held)).header(IF_RANGE, tag);
        }
        let request = request.body(Full::default()).map_err(unwritable)?;
        signed(request, &self.fetch.uri.host, None, self.fetch.signer.map_or(&[], slice::from_ref))
    }

    /// 200: from zero, also where a range was asked for (another representation, or no ranges there).
    async fn whole(&mut self, answered: Answered, sink: &mut impl Sink, turn: &Turn) -> Attempt {
        let takes_codings = self.takes_codings(sink);
        let representation = match represent::whole(answered.response.headers(), self.fetch.size, takes_codings) {
            Ok(representation) => representation,
            Err(Unfit::Unasked(text)) => return Attempt::Final(temporary(text)),
            Err(Unfit::Wrong(text)) => return Attempt::Wrong(text),
        };
        if let Err(error) = sink.begin(representation.clone()).await {
            return refused_by_sink(error);
        }
        (self.held, self.representation) = (0, Some(representation));
        self.body(answered, sink, turn).await
    }

    /// 206: exactly what was asked for, of the same representation.
    async fn part(&mut self, answered: Answered, sink: &mut impl Sink, turn: &Turn) -> Attempt {
        let Some(representation) = &mut self.representation else { return self.without_ranges() };
        let all = represent::part(answered.response.headers(), representation, self.held, self.fetch.size);
        let Some(all) = all else { return self.without_ranges() };
        representation.size = Some(all);
        self.body(answered, sink, turn).await
    }

    fn without_ranges(&mut self) -> Attempt {
        self.no_ranges = true;
        Attempt::Broken("the repository does not serve the range that was asked for".to_owned())
    }

    /// Takes the rest of the representation, not an octet more.
    async fn body(&mut self, answered: Answered, sink: &mut impl Sink, turn: &Turn) -> Attempt {
        let Answered { connection, response, place: _place } = answered;
        let (head, mut body) = response.into_parts();
        let all = self.representation.as_ref().and_then(|r| r.size);
        let most = all.unwrap_or_else(|| represent::most_coded(self.fetch.size));
        let mut pace = Pace::new(self.shared, &connection, turn);
        loop {
            let chunk = match pace.next(&mut body).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(text) => {
                    self.shared.pool.forget(&self.fetch.uri.host, &connection);
                    return Attempt::Broken(text);
                }
            };
            let length = chunk.len() as u64;
            self.received += length;
            if length > most - self.held {
                return Attempt::Wrong(format!("the repository sends more than {most} octets"));
            }
            self.held += length;
            if let Err(error) = sink.write(chunk).await {
                return refused_by_sink(error);
            }
        }
        if let Some(all) = all.filter(|all| self.held < *all) {
            return self.too_short(&head.headers, all);
        }
        self.shared.pool.put(&self.fetch.uri.host, connection);
        Attempt::Complete
    }

    /// Where the end of the body is only the end of the connection, it may just have broken (RFC 9112 §6.3).
    fn too_short(&self, headers: &HeaderMap, all: u64) -> Attempt {
        let text = format!("the repository sends {} of {all} octets", self.held);
        let framed = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
        if framed { Attempt::Wrong(text) } else { Attempt::Broken(text) }
    }
}

fn refused_by_sink(error: SinkError) -> Attempt {
    match error {
        SinkError::Ours(error) => Attempt::Final(ours(&error)),
        SinkError::Wrong(text) => Attempt::Wrong(text),
    }
}

/// Holds a body to the minimum rate, and notices when nothing comes any more. Only time spent waiting for the repository
/// counts. All retrievals of the domain together have to be that fast: they may share a slow link, or a connection over which one
/// object comes after the other.
struct Pace<'a> {
    minimum_rate: u64,
    turn: &'a Turn,
    left: Duration,
    stall_time: Duration,
    /// For the next octets.
    patience: Duration,
    /// Where the connection comes from here.
    local: Option<IpAddr>,
    /// What has come over the connection, and how much of that is known here.
    taken: &'a AtomicU64,
    seen: u64,
    link: &'a Link,
    renewals: watch::Receiver<u64>,
}

impl<'a> Pace<'a> {
    fn new(shared: &'a Shared, connection: &'a Connection, turn: &'a Turn) -> Self {
        let Config { minimum_rate, rate_grace, stall_time, .. } = shared.config;
        let (minimum_rate, renewals) = (minimum_rate.max(1), shared.link.watch());
        let (left, patience, link) = (rate_grace, stall_time, &shared.link);
        let (local, taken) = (connection.local, &*connection.taken);
        let seen = taken.load(Ordering::Relaxed);
        Self { minimum_rate, turn, left, stall_time, patience, local, taken, seen, link, renewals }
    }

    /// The next octets; `None` at the end.
    async fn next(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, String> {
        loop {
            let since = Instant::now();
            let frame = tokio::select! {
                frame = timeout(self.left.min(self.patience), body.frame()) => match frame {
                    Ok(frame) => frame,
                    Err(_) => {
                        self.wait_less(since.elapsed());
                        self.others_came_first()?;
                        continue;
                    }
                },
                _ = self.renewals.changed() => {
                    self.wait_less(since.elapsed());
                    if self.local.is_some_and(|address| !is_ours(address)) {
                        // What has come already is taken, and nothing is waited for.
                        self.stall_time = Duration::ZERO;
                    }
                    self.patience = self.patience.min(self.link.sign_of_life()).min(self.stall_time);
                    continue;
                }
            };
            self.wait_less(since.elapsed());
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| format!("the connection to the repository broke: {error}"))?;
            // Trailers say nothing here.
            if let Ok(chunk) = frame.into_data() {
                let octets = chunk.len() as u64;
                self.taken.fetch_add(octets, Ordering::Relaxed);
                self.seen += octets;
                self.heard(octets, self.turn.at_once());
                return Ok(Some(chunk));
            }
        }
    }

    /// Nothing of this object came in time. Of others over the same connection something may have: the smaller ones come first.
    fn others_came_first(&mut self) -> Result<(), String> {
        let all = self.taken.load(Ordering::Relaxed);
        let others = all - mem::replace(&mut self.seen, all);
        if others == 0 {
            return Err("the repository is too slow, or cannot be reached any more".to_owned());
        }
        self.heard(others, 1);
        Ok(())
    }

    /// So much came, of one of so many.
    fn heard(&mut self, octets: u64, at_once: usize) {
        let share = self.minimum_rate as f64 / at_once as f64;
        self.left += Duration::from_secs_f64(octets as f64 / share);
        self.patience = self.stall_time;
    }

    fn wait_less(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
        self.patience = self.patience.saturating_sub(waited);
    }
}

/// Any other status: a redirect, an overload, a fault. The object may well be there later.
fn refused(response: &Response<Incoming>) -> Outcome {
    let status = response.status();
    let text = if status.is_redirection() {
        format!("the repository answers {} and redirects are not followed", status.as_u16())
    } else {
        format!("the repository answers {}", status.as_u16())
    };
    Outcome::Temporary { text, retry_after: retry_after(response.headers()) }
}

fn ours(error: &std::io::Error) -> Outcome {
    temporary(format!("the object cannot be written here: {error}"))
}

fn temporary(text: impl Into<String>) -> Outcome {
    Outcome::Temporary { text: text.into(), retry_after: None }
}
