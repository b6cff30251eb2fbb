//! A connection that carries several requests at a time (HTTP/2, RFC 9113): what a part-time site fetches all of its mail over.
//!
//! Here a peer can ask and take nothing without stopping to read, by giving no window: so each connection is looked at now and then.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mail::Domain;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Repository;
use super::body::Body;
use super::connection::Service;
use super::guard::{Gauge, Pace, Paced};
use super::turns::{Turn, Turns};
use crate::peers::Seat;

/// Octets of a frame's header. A frame fills a record of TLS: of either nothing can be used that a break cuts off.
const FRAME_HEADER: usize = 9;
/// The smallest frame that is made.
const SMALLEST_FRAME: usize = 512;
/// Octets that wait in a stream for their turn; and that a peer may send of a request's body before somebody reads.
const STREAM_BUFFER: usize = 16 * 1024;
const RECEIVE_WINDOW: u32 = 64 * 1024;
/// Streams that were begun and reset before they were looked at, and that were reset here for what is wrong with them: more end the connection.
const RESET_STREAMS: usize = 16;

impl<R: Repository> Service<R> {
    /// Serves the requests of a client, several at a time; after `shutdown` those in progress are the last.
    pub(super) async fn converse_in_streams(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        sni: Option<Domain>,
        seat: Option<&Seat>,
        shutdown: CancellationToken,
    ) {
        let (limits, pace) = (&self.limits, self.pace(seat));
        let traffic = Arc::new(Traffic::default());
        let io = TokioIo::new(Paced::new(stream, pace, Arc::clone(&traffic.gauge)));
        let (service, begun) = (Arc::clone(self), Arc::clone(&traffic));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.header_octets).unwrap_or(u32::MAX))
            .max_send_buf_size(STREAM_BUFFER)
            .initial_stream_window_size(RECEIVE_WINDOW)
            .initial_connection_window_size(RECEIVE_WINDOW)
            .max_pending_accept_reset_streams(RESET_STREAMS)
            .max_local_error_reset_streams(RESET_STREAMS)
            .serve_connection(
                io,
                service_fn(move |request| {
                    let (service, sni) = (Arc::clone(&service), sni.clone());
                    let open = Open::new(&begun, service.limits.requests);
                    async move {
                        let response = service.route(request, sni.as_ref()).await;
                        let open = open.answered();
                        Ok::<_, Infallible>(response.map(|body| Streamed::new(body, open)))
                    }
                }),
            );
        tokio::pin!(connection);
        let (mut watch, mut looks) = (Watch::default(), interval(limits.rate_grace));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_last = false;
        loop {
            let is_idle = tokio::select! {
                ended = connection.as_mut() => {
                    return ended.unwrap_or_else(|error| debug!(%error, "a repository connection broke"));
                }
                () = shutdown.cancelled(), if !is_last => false,
                () = traffic.spent.notified(), if !is_last => false,
                _ = looks.tick() => match watch.look(&traffic, pace, limits.header_time) {
                    Found::InOrder => continue,
                    Found::TooSlow => return debug!("a client takes too slowly what it has asked for"),
                    Found::Idle => true,
                }
            };
            if is_idle && is_last {
                return debug!("a client does not leave");
            }
            connection.as_mut().graceful_shutdown();
            is_last = true;
        }
    }
}

/// What is under way on a connection.
#[derive(Debug, Default)]
struct Traffic {
    /// [`Gauge::responses`] counts times without a pause in which something is answered.
    gauge: Arc<Gauge>,
    /// Requests so far, those under way, and those whose response is on its way.
    begun: AtomicU32,
    open: AtomicU32,
    answered: AtomicU32,
    /// No more requests are taken.
    spent: Notify,
    turns: Arc<Turns>,
}

/// A request from its beginning to the end of its response.
struct Open {
    traffic: Arc<Traffic>,
    is_answered: bool,
}

impl Open {
    fn new(traffic: &Arc<Traffic>, most: u32) -> Self {
        traffic.open.fetch_add(1, Ordering::Relaxed);
        if traffic.begun.fetch_add(1, Ordering::Relaxed) + 1 >= most {
            traffic.spent.notify_one();
        }
        Self { traffic: Arc::clone(traffic), is_answered: false }
    }

    fn answered(mut self) -> Self {
        self.is_answered = true;
        if self.traffic.answered.fetch_add(1, Ordering::Relaxed) == 0 {
            self.traffic.gauge.responses.fetch_add(1, Ordering::Relaxed);
        }
        self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.traffic.open.fetch_sub(1, Ordering::Relaxed);
        if self.is_answered {
            self.traffic.answered.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What was seen of a connection at the last look.
#[derive(Debug, Default)]
struct Watch {
    begun: u32,
    written: u64,
    /// When it was idle first, if it still is.
    idle_since: Option<Instant>,
    /// The time without a pause that was going on, and when the look was.
    answering: Option<(u32, Instant)>,
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    InOrder,
    /// Since the last look less was taken of what was there to take than the least rate.
    TooSlow,
    /// Nothing was asked for in all the time that there is for that.
    Idle,
}

impl Watch {
    fn look(&mut self, traffic: &Traffic, pace: Pace<'_>, patience: Duration) -> Found {
        let now = Instant::now();
        let load = |number: &AtomicU32| number.load(Ordering::Relaxed);
        let (begun, written) = (load(&traffic.begun), traffic.gauge.written.load(Ordering::Relaxed));
        let answering = (load(&traffic.answered) > 0).then(|| (load(&traffic.gauge.responses), now));
        let taken = written - self.written;
        let is_too_slow = match (self.answering, answering) {
            (Some((before, since)), Some((period, _))) if before == period => {
                (taken as f64) < pace.least() as f64 * (now - since).as_secs_f64()
            }
            _ => false,
        };
        let is_idle = load(&traffic.open) == 0 && begun == self.begun;
        self.idle_since = is_idle.then(|| self.idle_since.unwrap_or(now));
        (self.begun, self.written, self.answering) = (begun, written, answering);
        match self.idle_since {
            _ if is_too_slow => Found::TooSlow,
            Some(since) if now - since >= patience => Found::Idle,
            _ => Found::InOrder,
        }
    }
}

/// A body in frames that suit the rate of its peer. Objects go in turn, small answers between them.
struct Streamed<R: Repository> {
    body: Body<R>,
    turn: Option<Turn>,
    /// What is left of the last chunk.
    rest: Bytes,
    open: Open,
}

impl<R: Repository> Streamed<R> {
    fn new(body: Body<R>, open: Open) -> Self {
        let turn = body.left().map(|left| open.traffic.turns.take(left));
        Self { body, turn, rest: Bytes::new(), open }
    }

    /// The next octets, or the end.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<()>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(())));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(turn) = &self.turn {
            turn.goes_on(if polled.is_pending() { None } else { self.body.left() });
        }
        Poll::Ready(match ready!(polled) {
            Some(Ok(frame)) => {
                self.rest = frame.into_data().unwrap_or_default();
                Some(Ok(()))
            }
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }
}

impl<R: Repository> HttpBody for Streamed<R> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(turn) = &self.turn {
            ready!(turn.poll(cx));
        }
        match ready!(self.poll_rest(cx)) {
            Some(Ok(())) => {}
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(None),
        }
        let record = self.open.traffic.gauge.record.load(Ordering::Relaxed);
        let length = self.rest.len().min(record.saturating_sub(FRAME_HEADER).max(SMALLEST_FRAME));
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64 + self.body.size_hint().exact().unwrap_or_default())
    }
}
