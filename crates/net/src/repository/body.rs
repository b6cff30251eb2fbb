//! Response bodies: nothing, a small whole, or a stream of an object that is held to its length.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use mail::Grant;

use super::{Chunks, Repository};

/// The body of a response.
pub(super) struct Body<R: Repository>(Kind<R>);

enum Kind<R: Repository> {
    Whole(Option<Bytes>),
    Object(Streamed<R>),
}

/// Octets of an object on their way.
struct Streamed<R: Repository> {
    chunks: Chunks,
    left: u64,
    sent: u64,
    repository: Arc<R>,
    grant: Grant,
}

impl<R: Repository> Body<R> {
    pub(super) fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    pub(super) fn whole(octets: Bytes) -> Self {
        Self(Kind::Whole(Some(octets).filter(|o| !o.is_empty())))
    }

    /// Octets of an object that are still to come; `None` for other bodies.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.0 {
            Kind::Whole(_) => None,
            Kind::Object(streamed) => Some(streamed.left),
        }
    }

    /// Exactly `length` octets of `chunks`; what was handed on is told to the repository at the end.
    pub(super) fn object(chunks: Chunks, length: u64, repository: Arc<R>, grant: Grant) -> Self {
        Self(Kind::Object(Streamed { chunks, left: length, sent: 0, repository, grant }))
    }
}

// Nothing in it is ever pinned: the stream is behind its own pointer.
impl<R: Repository> Unpin for Body<R> {}

impl<R: Repository> HttpBody for Body<R> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.0 {
            Kind::Whole(octets) => octets.take().map(Ok),
            Kind::Object(streamed) => ready!(streamed.poll_next(cx)),
        };
        Poll::Ready(next.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(octets) => octets.is_none(),
            Kind::Object(streamed) => streamed.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Kind::Whole(octets) => octets.as_ref().map_or(0, |o| o.len() as u64),
            Kind::Object(streamed) => streamed.left,
        })
    }
}

impl<R: Repository> Streamed<R> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = match ready!(self.chunks.as_mut().poll_next(cx)) {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
        };
        let length = chunk.len() as u64;
        if length > self.left {
            return Poll::Ready(Some(Err(io::Error::other("the object is longer than its row says"))));
        }
        self.left -= length;
        self.sent += length;
        Poll::Ready(Some(Ok(chunk)))
    }
}

impl<R: Repository> Drop for Streamed<R> {
    fn drop(&mut self) {
        self.repository.served(&self.grant, self.sent);
    }
}
