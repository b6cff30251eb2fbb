//! What keeps one peer from taking more than its share: connections for each address, and a minimum rate at which
//! responses must be taken.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Counts connections by peer.
#[derive(Debug)]
pub(super) struct Peers {
    limit: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; given back on drop.
#[derive(Debug)]
pub(super) struct Seat {
    peers: Arc<Peers>,
    key: IpAddr,
}

impl Peers {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, counts: Mutex::default() })
    }

    /// A seat, unless this peer has as many as it may.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let key = peer_key(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Seat { peers: Arc::clone(self), key })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.peers.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// An IPv4 address, or the /64 of an IPv6 one: what one customer holds at least.
fn peer_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// How slowly a response may be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) minimum_rate: u64,
    pub(super) grace: Duration,
}

/// Longest single stop, in multiples of the grace: a large socket buffer drains that slowly over a slow link.
const MOST_GRACES: u32 = 10;

/// A stream whose writes fail once its peer is slower than the pace. Only time spent waiting for the peer counts,
/// and each response by itself: `responses` is counted up by whoever begins one.
pub(super) struct Paced<S> {
    inner: S,
    pace: Pace,
    responses: Arc<AtomicU32>,
    current: u32,
    written: u64,
    waited: Duration,
    stalled_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    pub(super) fn new(inner: S, pace: Pace, responses: Arc<AtomicU32>) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        Self { inner, pace, responses, current: 0, written: 0, waited: Duration::ZERO, stalled_at: None, timer }
    }

    /// Books the result of a write or flush.
    fn book<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
        octets: impl Fn(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        self.notice_new_response();
        match poll {
            Poll::Ready(Ok(value)) => {
                self.written += octets(&value) as u64;
                if let Some(since) = self.stalled_at.take() {
                    self.waited += since.elapsed();
                }
                Poll::Ready(Ok(value))
            }
            Poll::Pending => self.stall(cx).map(Err),
            failed => failed,
        }
    }

    fn notice_new_response(&mut self) {
        let current = self.responses.load(Ordering::Relaxed);
        if current != self.current {
            self.current = current;
            (self.written, self.waited, self.stalled_at) = (0, Duration::ZERO, None);
        }
    }

    /// Ready with an error when the time that the octets written so far may take is over.
    fn stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.stalled_at.is_none() {
            let since = Instant::now();
            self.stalled_at = Some(since);
            let earned = Duration::from_secs(self.written / self.pace.minimum_rate.max(1));
            let left = (self.pace.grace + earned).saturating_sub(self.waited);
            // Whoever was fast before may still not stop for hours.
            self.timer.as_mut().reset(since + left.min(self.pace.grace * MOST_GRACES));
        }
        self.timer.as_mut().poll(cx).map(|()| io::Error::new(io::ErrorKind::TimedOut, "the client is too slow"))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.book(cx, poll, |n| *n)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.book(cx, poll, |n| *n)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(cx);
        self.book(cx, poll, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.book(cx, poll, |()| 0)
    }
}
