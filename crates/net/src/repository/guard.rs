//! What keeps one peer from taking more than its share: a minimum rate at which responses must be taken. Its
//! connections are counted by [`crate::peers`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

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
