//! Reads of many TLS records at once. rustls hands out one record (16 KiB) at a time; handed on like that, every one of
//! them would cost a turn of the task that reads and one of the task that it reads for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose reads take whatever has come already, as far as there is room for it.
pub(super) struct Batched<S>(pub(super) S);

impl<S: AsyncRead + Unpin> AsyncRead for Batched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            let had = buf.filled().len();
            let read = Pin::new(&mut self.0).poll_read(cx, buf);
            let has_more = matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() > had;
            if !has_more {
                // An end or an error comes again with the next read.
                return if had > before { Poll::Ready(Ok(())) } else { read };
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Batched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// One octet a read, then the end.
    struct Drops(u8);

    impl AsyncRead for Drops {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if self.0 > 0 {
                buf.put_slice(&[self.0]);
                self.0 -= 1;
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_read_takes_all_that_is_there_and_room_for() {
        let (mut stream, mut buffer) = (Batched(Drops(7)), [0; 5]);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 5);
        assert_eq!(buffer, [7, 6, 5, 4, 3]);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 2);
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0, "the end is told");
    }
}
