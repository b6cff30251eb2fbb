//! A retrieval: attempts, resumption by range, and the checks that make octets an object (TBR §7.1).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE, TRANSFER_ENCODING,
};
use hyper::{Method, Request, Response, StatusCode};
use mail::id::XuidHasher;
use tokio::time::{Instant, sleep, timeout};

use super::exchange::{Answered, retry_after};
use super::{Client, Fetch, Outcome, Shared, Sink};

/// An attempt that brought this much is no failure, should it break: long objects come over short-lived links.
const WORTHWHILE: u64 = 64 * 1024;
/// Times the size that is received at most over all attempts, and some for small objects.
const MOST_TIMES: u64 = 4;
const MOST_EXTRA: u64 = 64 * 1024;

impl Client {
    /// Fetches an object into `sink`, and checks it. The URI comes from a verified reference.
    pub async fn fetch(&self, fetch: Fetch<'_>, sink: &mut impl Sink) -> Outcome {
        let mut retrieval = Retrieval::new(&self.shared, fetch);
        match timeout(fetch.budget, retrieval.run(sink)).await {
            Ok(outcome) => outcome,
            Err(_) => temporary("the retrieval takes too long"),
        }
    }
}

/// What is known while octets come in.
struct Retrieval<'a> {
    shared: &'a Shared,
    fetch: Fetch<'a>,
    /// Octets in the sink.
    held: u64,
    hasher: XuidHasher,
    /// The strong ETag that they came under.
    etag: Option<HeaderValue>,
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
            held: 0,
            hasher: XuidHasher::default(),
            etag: None,
            received: 0,
            no_ranges: false,
            refetched: false,
        }
    }

    async fn run(&mut self, sink: &mut impl Sink) -> Outcome {
        let Ok(_place) = self.shared.places.take(self.fetch.domain).await else {
            return temporary("no retrievals are made any more");
        };
        let config = &self.shared.config;
        let (mut breaks, mut wait) = (0, config.resumption_wait);
        loop {
            let before = self.received;
            let wrong = match self.attempt(sink).await {
                Attempt::Final(outcome) => return outcome,
                Attempt::Complete if self.hasher.clone().finish() == self.fetch.uri.xuid => {
                    return Outcome::Done { octets: self.received };
                }
                Attempt::Complete => "the octets are not those that the reference names".to_owned(),
                Attempt::Wrong(text) => text,
                Attempt::Broken(text) => {
                    if self.received - before < WORTHWHILE {
                        breaks += 1;
                    } else {
                        wait = config.resumption_wait;
                    }
                    if breaks > config.resumptions || self.is_over_cap() {
                        return temporary(text);
                    }
                    sleep(wait).await;
                    wait *= 2;
                    continue;
                }
            };
            if self.refetched {
                return Outcome::Corrupt { text: wrong };
            }
            self.refetched = true;
            if let Err(outcome) = self.restart(sink).await {
                return outcome;
            }
        }
    }

    fn is_over_cap(&self) -> bool {
        self.received > self.fetch.size.saturating_mul(MOST_TIMES).saturating_add(MOST_EXTRA)
    }

    async fn attempt(&mut self, sink: &mut impl Sink) -> Attempt {
        if self.held > 0
            && (self.etag.is_none() || self.no_ranges)
            && let Err(outcome) = self.restart(sink).await
        {
            return Attempt::Final(outcome);
        }
        let answered = match self.shared.exchange(&self.fetch.uri.host, || self.request()).await {
            Ok(answered) => answered,
            Err(text) => return Attempt::Broken(text),
        };
        match answered.response.status() {
            StatusCode::OK => self.whole(answered, sink).await,
            StatusCode::PARTIAL_CONTENT if self.held > 0 => self.part(answered, sink).await,
            StatusCode::RANGE_NOT_SATISFIABLE if self.held > 0 => self.without_ranges(),
            StatusCode::NOT_FOUND => Attempt::Final(Outcome::NotFound),
            StatusCode::GONE => Attempt::Final(Outcome::Gone),
            _ => Attempt::Final(refused(&answered.response)),
        }
    }

    /// A range only of a representation that can be told from others.
    fn request(&self) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder().method(Method::GET).uri(self.fetch.uri.path_and_query());
        if let (true, Some(etag)) = (self.held > 0, &self.etag) {
            request = request.header(RANGE, format!("bytes={}-", self.held)).header(IF_RANGE, etag);
        }
        request.body(Full::default())
    }

    /// 200: from zero, also where a range was asked for (another representation, or no ranges there).
    async fn whole(&mut self, answered: Answered, sink: &mut impl Sink) -> Attempt {
        if self.held > 0
            && let Err(outcome) = self.restart(sink).await
        {
            return Attempt::Final(outcome);
        }
        self.etag = strong_etag(answered.response.headers());
        self.body(answered, sink).await
    }

    /// 206: exactly what was asked for, of the same representation.
    async fn part(&mut self, answered: Answered, sink: &mut impl Sink) -> Attempt {
        let headers = answered.response.headers();
        let wanted = format!("bytes {}-{}/{}", self.held, self.fetch.size - 1, self.fetch.size);
        let right_range = headers.get(CONTENT_RANGE).is_some_and(|v| v.as_bytes() == wanted.as_bytes());
        if !right_range || strong_etag(headers) != self.etag {
            return self.without_ranges();
        }
        self.body(answered, sink).await
    }

    fn without_ranges(&mut self) -> Attempt {
        self.no_ranges = true;
        Attempt::Broken("the repository does not serve the range that was asked for".to_owned())
    }

    /// Takes the rest of the object, not an octet more.
    async fn body(&mut self, Answered { connection, response }: Answered, sink: &mut impl Sink) -> Attempt {
        let (head, mut body) = response.into_parts();
        if let Err(attempt) = self.check_head(&head.headers) {
            return attempt;
        }
        let mut pace = Pace::new(self.shared);
        loop {
            let chunk = match pace.next(&mut body).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(text) => return Attempt::Broken(text),
            };
            let length = chunk.len() as u64;
            self.received += length;
            if length > self.fetch.size - self.held {
                return Attempt::Wrong(format!("the repository sends more than {} octets", self.fetch.size));
            }
            self.hasher.update(&chunk);
            self.held += length;
            if let Err(error) = sink.write(chunk).await {
                return Attempt::Final(ours(&error));
            }
        }
        if self.held < self.fetch.size {
            return self.too_short(&head.headers);
        }
        self.shared.pool.put(&self.fetch.uri.host, connection);
        Attempt::Complete
    }

    fn check_head(&self, headers: &HeaderMap) -> Result<(), Attempt> {
        if headers.get_all(CONTENT_ENCODING).iter().any(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Attempt::Final(temporary("the repository uses a content coding that was not asked for")));
        }
        match length_of(headers) {
            Some(length) if length != self.fetch.size - self.held => {
                let (expected, all) = (self.fetch.size - self.held, self.fetch.size);
                Err(Attempt::Wrong(format!("the repository has {length} octets for {expected} of an object of {all}")))
            }
            _ => Ok(()),
        }
    }

    /// Where the end of the body is only the end of the connection, it may just have broken (RFC 9112 §6.3).
    fn too_short(&self, headers: &HeaderMap) -> Attempt {
        let text = format!("the repository sends {} of {} octets", self.held, self.fetch.size);
        let framed = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
        if framed { Attempt::Wrong(text) } else { Attempt::Broken(text) }
    }

    async fn restart(&mut self, sink: &mut impl Sink) -> Result<(), Outcome> {
        sink.restart().await.map_err(|error| ours(&error))?;
        (self.held, self.hasher, self.etag) = (0, XuidHasher::default(), None);
        Ok(())
    }
}

/// Holds a body to the minimum rate. Only time spent waiting for the repository counts.
struct Pace {
    minimum_rate: u64,
    left: Duration,
}

impl Pace {
    fn new(shared: &Shared) -> Self {
        Self { minimum_rate: shared.config.minimum_rate.max(1), left: shared.config.rate_grace }
    }

    /// The next octets; `None` at the end.
    async fn next(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, String> {
        loop {
            let since = Instant::now();
            let frame = timeout(self.left, body.frame()).await.map_err(|_| "the repository is too slow".to_owned())?;
            self.left = self.left.saturating_sub(since.elapsed());
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| format!("the connection to the repository broke: {error}"))?;
            // Trailers say nothing here.
            if let Ok(chunk) = frame.into_data() {
                self.left += Duration::from_secs_f64(chunk.len() as f64 / self.minimum_rate as f64);
                return Ok(Some(chunk));
            }
        }
    }
}

fn strong_etag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned()
}

fn length_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
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
