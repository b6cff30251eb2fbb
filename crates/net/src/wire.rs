//! What SMTP server and client share below the session: the stream in clear or in TLS, reading without a buffer
//! of its own per connection, and a clock that never goes back.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mail::Timestamp;
use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::{client, server};

/// Most octets of one read.
const READ: usize = 64 << 10;
/// Read buffer below TLS: the library itself would read 4 KiB at a time.
const TLS_BUFFER: usize = 32 << 10;

/// A stream in clear, below TLS.
pub(crate) type Buffered = BufReader<TcpStream>;

/// A connection.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Server(Box<server::TlsStream<Buffered>>),
    Client(Box<client::TlsStream<Buffered>>),
    /// Between clear and TLS, and after a failed handshake.
    Gone,
}

/// The stream for a TLS handshake to take over.
pub(crate) fn buffered(stream: TcpStream) -> Buffered {
    BufReader::with_capacity(TLS_BUFFER, stream)
}

impl Stream {
    /// Takes the TCP stream out for a handshake; afterwards this is [`Stream::Gone`].
    pub(crate) fn take_tcp(&mut self) -> io::Result<TcpStream> {
        match std::mem::replace(self, Self::Gone) {
            Self::Tcp(stream) => Ok(stream),
            other => {
                *self = other;
                Err(io::Error::other("TLS needs a TCP connection in clear"))
            }
        }
    }

    /// The address that it comes from here; none for a UNIX socket.
    pub(crate) fn local_ip(&self) -> Option<IpAddr> {
        self.tcp()?.local_addr().ok().map(|address| address.ip())
    }

    /// The other side and ours.
    pub(crate) fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        let stream = self.tcp().ok_or(io::ErrorKind::NotConnected)?;
        Ok((stream.peer_addr()?, stream.local_addr()?))
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Server(stream) => Some(stream.get_ref().0.get_ref()),
            Self::Client(stream) => Some(stream.get_ref().0.get_ref()),
            Self::Unix(_) | Self::Gone => None,
        }
    }

    /// Version and cipher suite, inside TLS.
    pub(crate) fn tls(&self) -> Option<String> {
        let state: &CommonState = match self {
            Self::Server(stream) => stream.get_ref().1,
            Self::Client(stream) => stream.get_ref().1,
            Self::Tcp(_) | Self::Unix(_) | Self::Gone => return None,
        };
        let version = state.protocol_version().and_then(|v| v.as_str()).unwrap_or("TLS");
        let suite = state.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or_default();
        Some(format!("{version} {suite}"))
    }

    /// Waits for octets, as many as are there and fit, and hands them to `take`. How many; 0 is the end of the
    /// stream. Safe to be dropped: nothing is lost.
    pub(crate) async fn read_into(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read_into(cx, &mut take)).await
    }

    /// [`Stream::read_into`] for what is there already; `None`: nothing.
    pub(crate) async fn try_read_into(&mut self, mut take: impl FnMut(&[u8])) -> Option<io::Result<usize>> {
        poll_fn(|cx| match self.poll_read_into(cx, &mut take) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// The buffer lives on the stack of one poll, so a connection that waits costs none.
    fn poll_read_into(&mut self, cx: &mut Context<'_>, take: &mut impl FnMut(&[u8])) -> Poll<io::Result<usize>> {
        let mut octets = [const { MaybeUninit::uninit() }; READ];
        let mut buffer = ReadBuf::uninit(&mut octets);
        let end = loop {
            let before = buffer.filled().len();
            match self.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().len() > before && buffer.remaining() > 0 => {}
                other => break other,
            }
        };
        let read = buffer.filled().len();
        match end {
            // An end or error behind octets comes again with the next read.
            _ if read > 0 => {
                take(buffer.filled());
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(0)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Server(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Self::Client(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Writes all of it, out to the network.
    pub(crate) async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(octets).await,
            Self::Unix(stream) => stream.write_all(octets).await,
            Self::Server(stream) => write_flushed(stream, octets).await,
            Self::Client(stream) => write_flushed(stream, octets).await,
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Says that nothing more will be written. Errors do not matter any more.
    pub(crate) async fn shutdown(&mut self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Unix(stream) => stream.shutdown().await,
            Self::Server(stream) => stream.shutdown().await,
            Self::Client(stream) => stream.shutdown().await,
            Self::Gone => Ok(()),
        };
    }
}

async fn write_flushed(stream: &mut (impl AsyncWrite + Unpin), octets: &[u8]) -> io::Result<()> {
    stream.write_all(octets).await?;
    stream.flush().await
}

/// Tells the time: that of the system when it was made, and from then on steadily.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base: Timestamp,
    made: Instant,
}

/// The system's time.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { base: now(), made: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.base.after(self.made.elapsed())
    }

    /// When this clock will say `time`; a millisecond later, so that the deadline has then passed.
    pub(crate) fn instant(&self, time: Timestamp) -> Instant {
        self.made + time.since(self.base) + Duration::from_millis(1)
    }
}
