//! What the rate of a peer means for its connection: a minimum at which responses must be taken, so that nobody takes more
//! than its share, and small TLS records while it is slow. Its connections are counted by [`crate::peers`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::peers::Seat;

/// How slowly a response may be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace<'a> {
    pub(super) minimum_rate: u64,
    pub(super) grace: Duration,
    /// Its place among the connections of its peer, which share a link.
    pub(super) seat: Option<&'a Seat>,
}

/// More connections than this excuse nothing more: whoever opens many and reads slowly takes places from others.
const MOST_SHARED: usize = 8;

impl Pace<'_> {
    /// The least rate, in octets a second, of a connection that shares its link with so many.
    pub(super) fn least(&self) -> u64 {
        (self.minimum_rate / self.shared() as u64).max(1)
    }

    /// Among how many the link is shared, as far as that excuses slowness.
    fn shared(&self) -> usize {
        self.seat.map_or(1, Seat::of_peer).clamp(1, MOST_SHARED)
    }
}

/// Longest single stop, in multiples of the grace: a large socket buffer drains that slowly over a slow link.
const MOST_GRACES: u32 = 10;

/// Slower peers, in octets a second, get small records: of a record that a break cuts off nothing can be used, and what came of
/// it comes again (one of 16 KiB takes two seconds at 64 kbit/s).
const FAST: u64 = 128 * 1024;
/// A small record, and the smallest where several connections share a link, from each of which a break cuts one off. Its 22 octets of
/// TLS are half a per cent, or two.
const SMALL_RECORD: usize = 4096;
const SMALLEST_RECORD: usize = 1024;
/// What TLS puts into one (RFC 8446 §5.1).
const LARGEST_RECORD: usize = 16 * 1024;
/// Octets that may only have gone into buffers, of TLS and of the kernel: they say nothing of the rate.
const BUFFERED: u64 = 256 * 1024;

/// What a connection and who answers on it tell each other.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Counted up by whoever begins a response, or several that are under way at a time.
    pub(super) responses: AtomicU32,
    /// Octets that the peer has taken.
    pub(super) written: AtomicU64,
    /// Octets of a record that suits it, header and all.
    pub(super) record: AtomicUsize,
}

/// A stream whose writes fail once its peer is slower than the pace. Only time spent waiting for the peer counts,
/// and each of [`Gauge::responses`] by itself.
pub(super) struct Paced<'a, S> {
    inner: S,
    pace: Pace<'a>,
    gauge: Arc<Gauge>,
    current: u32,
    written: u64,
    waited: Duration,
    stalled_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// When the response began.
    began: Instant,
    /// What this response has shown of the peer's rate, or the last one has.
    is_fast: bool,
}

impl<'a, S> Paced<'a, S> {
    pub(super) fn new(inner: S, pace: Pace<'a>, gauge: Arc<Gauge>) -> Self {
        let (began, waited) = (Instant::now(), Duration::ZERO);
        let timer = Box::pin(sleep_until(began));
        Self { inner, pace, gauge, current: 0, written: 0, waited, stalled_at: None, timer, began, is_fast: false }
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
                self.gauge.written.fetch_add(octets(&value) as u64, Ordering::Relaxed);
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
        let current = self.gauge.responses.load(Ordering::Relaxed);
        if current != self.current {
            self.current = current;
            (self.written, self.waited, self.stalled_at) = (0, Duration::ZERO, None);
            self.began = Instant::now();
        }
    }

    /// Most octets of the next write, which becomes one record.
    fn most(&mut self) -> usize {
        self.notice_new_response();
        self.is_fast = is_fast(self.written, self.began.elapsed()).unwrap_or(self.is_fast);
        let small = (SMALL_RECORD / self.pace.shared()).max(SMALLEST_RECORD);
        self.gauge.record.store(if self.is_fast { LARGEST_RECORD } else { small }, Ordering::Relaxed);
        if self.is_fast { usize::MAX } else { small }
    }

    /// Ready with an error when the time that the octets written so far may take is over.
    fn stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.stalled_at.is_none() {
            let since = Instant::now();
            self.stalled_at = Some(since);
            let earned = Duration::from_secs(self.written / self.pace.least());
            let left = (self.pace.grace + earned).saturating_sub(self.waited);
            // Whoever was fast before may still not stop for hours.
            self.timer.as_mut().reset(since + left.min(self.pace.grace * MOST_GRACES));
        }
        self.timer.as_mut().poll(cx).map(|()| io::Error::new(io::ErrorKind::TimedOut, "the client is too slow"))
    }
}

impl<S: AsyncWrite + Unpin> Paced<'_, S> {
    /// Writes what becomes one record. TLS takes a small one as a whole only if nothing waits there before it: else it would become two.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let room = if self.is_fast { Poll::Ready(Ok(())) } else { Pin::new(&mut self.inner).poll_flush(cx) };
        let poll = match room {
            Poll::Ready(Ok(())) => write(Pin::new(&mut self.inner), cx),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        self.book(cx, poll, |n| *n)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.most().min(buf.len());
        self.write(cx, |inner, cx| inner.poll_write(cx, &buf[..most]))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let most = self.most();
        if bufs.iter().map(|buf| buf.len()).sum::<usize>() > most {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &buf[..most.min(buf.len())]);
            return self.poll_write(cx, first);
        }
        self.write(cx, |inner, cx| inner.poll_write_vectored(cx, bufs))
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

/// What so many octets in that time say of a peer's rate.
fn is_fast(written: u64, took: Duration) -> Option<bool> {
    let gone = written.checked_sub(BUFFERED).filter(|gone| *gone > 0)?;
    Some(gone as f64 >= took.as_secs_f64() * FAST as f64)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::peers::Peers;

    #[test]
    fn a_rate_is_what_must_have_left_the_buffers() {
        assert_eq!(is_fast(BUFFERED, Duration::from_millis(1)), None, "it may only have been buffered");
        assert_eq!(is_fast(BUFFERED + 2 * FAST, Duration::from_secs(1)), Some(true));
        assert_eq!(is_fast(BUFFERED + FAST / 2, Duration::from_secs(1)), Some(false));
    }

    /// Notes the sizes of writes.
    struct Line(Vec<usize>);

    impl AsyncWrite for Line {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(buf.len());
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn connections_that_share_a_link_may_each_be_slower_as_far_as_that_excuses() {
        let peers = Peers::new(64);
        let seats: Vec<Seat> = (0..20).map(|_| peers.admit([192, 0, 2, 1].into()).unwrap()).collect();
        let pace = |seat| Pace { minimum_rate: 4096, grace: Duration::ZERO, seat };
        assert_eq!([None, Some(&seats[0])].map(|seat| pace(seat).shared()), [1, MOST_SHARED]);
        let other = peers.admit([192, 0, 2, 2].into()).unwrap();
        assert_eq!(pace(Some(&other)).shared(), 1);
    }

    #[tokio::test]
    async fn records_are_small_until_a_peer_has_shown_that_it_is_fast() {
        let (gauge, pace) =
            (Arc::new(Gauge::default()), Pace { minimum_rate: 1, grace: Duration::from_secs(60), seat: None });
        let mut paced = Paced::new(Line(Vec::new()), pace, Arc::clone(&gauge));
        let octets = vec![0; 16 * 1024];
        while paced.written < BUFFERED {
            paced.write_all(&octets).await.unwrap();
        }
        assert!(paced.inner.0.iter().all(|size| *size == SMALL_RECORD));
        paced.is_fast = true;
        gauge.responses.store(2, Ordering::Relaxed);
        paced.write_all(&octets).await.unwrap();
        assert_eq!(paced.inner.0.last(), Some(&octets.len()), "also at the beginning of its next response");
    }
}
