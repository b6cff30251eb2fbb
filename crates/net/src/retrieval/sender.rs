//! How requests go over a connection: one at a time (HTTP/1.1), or several beside each other (HTTP/2).

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::HOST;
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mail::Domain;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use super::exchange::Body;

/// Largest response header.
const MAX_HEADER: usize = 32 * 1024;
/// Most fields of a response header.
const MAX_FIELDS: usize = 64;
/// Most octets read ahead of the reader: of a response, and of all that come at a time.
const READ_BUFFER: usize = 256 * 1024;
const ALL_BUFFERS: u32 = 1024 * 1024;

/// Sends requests.
pub(super) enum Sender {
    One(http1::SendRequest<Body>),
    Several(http2::SendRequest<Body>),
}

/// What moves octets as long as somebody holds it.
pub(super) type Driver = AbortOnDropHandle<()>;

impl Sender {
    /// Speaks HTTP over a stream, for one request at a time or for several.
    pub(super) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        several: bool,
    ) -> hyper::Result<(Self, Driver)> {
        let io = TokioIo::new(stream);
        // Errors of a driver come out at the requests that they break.
        if several {
            let (sender, driver) = http2::Builder::new(TokioExecutor::new())
                .max_header_list_size(MAX_HEADER as u32)
                .initial_stream_window_size(READ_BUFFER as u32)
                .initial_connection_window_size(ALL_BUFFERS)
                .handshake(io)
                .await?;
            let driver = tokio::spawn(async move { drop(driver.await) });
            return Ok((Self::Several(sender), AbortOnDropHandle::new(driver)));
        }
        let (sender, driver) = http1::Builder::new()
            .max_headers(MAX_FIELDS)
            .max_header_size(MAX_HEADER)
            .max_buf_size(READ_BUFFER)
            .handshake(io)
            .await?;
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok((Self::One(sender), AbortOnDropHandle::new(driver)))
    }

    /// Waits until a request can be sent. False: never again.
    pub(super) async fn is_ready(&mut self) -> bool {
        match self {
            Self::One(sender) => sender.ready().await.is_ok(),
            Self::Several(sender) => sender.ready().await.is_ok(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Several(sender) => sender.is_closed(),
        }
    }

    /// Does it carry several requests at a time?
    pub(super) fn carries_several(&self) -> bool {
        matches!(self, Self::Several(_))
    }

    /// Another one for requests beside those of this one, where that can be.
    pub(super) fn share(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Several(sender) => Some(Self::Several(sender.clone())),
        }
    }

    /// Sends a request to the host; its response, as soon as its header is there.
    pub(super) async fn send(&mut self, host: &Domain, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => sender.send_request(request).await,
            Self::Several(sender) => sender.send_request(with_authority(request, host)).await,
        }
    }
}

/// HTTP/2 has the host in the target (RFC 9113 §8.3.1).
fn with_authority(mut request: Request<Body>, host: &Domain) -> Request<Body> {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(Scheme::HTTPS).authority(host.as_str()).path_and_query(path).build();
    // A domain is an authority. Without one the request would be refused here.
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
    request.headers_mut().remove(HOST);
    request
}
