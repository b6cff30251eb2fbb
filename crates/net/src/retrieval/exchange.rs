//! One request and the header of its response.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, HOST, HeaderValue};
use hyper::{Request, Response};
use mail::Domain;
use tokio::time::timeout;

use super::Shared;
use super::connect::{ConnectError, Connection, Errand};
use super::places::Place;
use super::pool::Taken;

/// The body of a request: a whole, or octets that are read as they go out.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A response whose body is still to be read, and the connection that it comes over.
pub(super) struct Answered {
    pub(super) connection: Connection,
    pub(super) response: Response<Incoming>,
    /// Held until the response is read.
    pub(super) place: Option<Place>,
}

/// No response came.
#[derive(Debug)]
pub(super) struct Broken {
    /// One plain sentence.
    pub(super) text: String,
    /// It was TLS that failed.
    pub(super) is_tls: bool,
    /// TLS failed for the host's certificate.
    pub(super) is_certificate: bool,
    /// Nobody was asked: the network is left alone.
    pub(super) is_left_alone: bool,
    /// It will be the same within seconds.
    pub(super) is_lasting: bool,
}

impl From<ConnectError> for Broken {
    fn from(error: ConnectError) -> Self {
        let is_certificate = matches!(error, ConnectError::Certificate(..));
        let is_tls = is_certificate || matches!(error, ConnectError::Tls(..));
        let is_left_alone = matches!(error, ConnectError::LeftAlone(_));
        let is_lasting = is_certificate || is_left_alone;
        Self { text: error.to_string(), is_tls, is_certificate, is_left_alone, is_lasting }
    }
}

impl From<String> for Broken {
    fn from(text: String) -> Self {
        Self { text, is_tls: false, is_certificate: false, is_left_alone: false, is_lasting: false }
    }
}

impl Shared {
    /// Sends a request to a host and awaits the header. `build` may be called again, and signs anew: a kept connection
    /// that the host has closed meanwhile is replaced by a new one, as RFC 9112 §9.3.1 has it for idempotent requests, and so
    /// is one that hangs after the link was renewed.
    pub(super) async fn exchange(
        &self,
        host: &Domain,
        errand: Errand,
        build: impl Fn() -> Result<Request<Full<Bytes>>, String>,
    ) -> Result<Answered, Broken> {
        loop {
            if let Some(answered) = self.link.hold(self.exchange_once(host, errand, &build)).await {
                return answered;
            }
        }
    }

    async fn exchange_once(
        &self,
        host: &Domain,
        errand: Errand,
        build: impl Fn() -> Result<Request<Full<Bytes>>, String>,
    ) -> Result<Answered, Broken> {
        let request = || address(build()?, host);
        let taken = self.pool.take(host, errand).await?;
        let reused = taken.reused;
        match self.send(host, taken, request()?).await {
            Err(_) if reused => {
                let taken = self.pool.connect(host, errand).await?;
                Ok(self.send(host, taken, request()?).await?)
            }
            sent => Ok(sent?),
        }
    }

    async fn send(&self, host: &Domain, taken: Taken, request: Request<Full<Bytes>>) -> Result<Answered, String> {
        let Taken { mut connection, place, .. } = taken;
        let request = request.map(|whole| whole.map_err(|never| match never {}).boxed_unsync());
        let text = match timeout(self.config.head_time, connection.sender.send(host, request)).await {
            Ok(Ok(response)) => return Ok(Answered { connection, response, place }),
            Ok(Err(error)) => format!("the repository broke the connection: {error}"),
            Err(_) => "the repository does not answer the request".to_owned(),
        };
        self.pool.forget(host, &connection);
        Err(text)
    }
}

/// A request that could not be built. The error's own text could hold the URI, and that the grant.
pub(super) fn unwritable<E>(_: E) -> String {
    "the request cannot be written".to_owned()
}

/// Fields that every request has.
pub(super) fn address<B>(mut request: Request<B>, host: &Domain) -> Result<Request<B>, String> {
    let host = HeaderValue::try_from(host.as_str()).map_err(|error| error.to_string())?;
    request.headers_mut().insert(HOST, host);
    let plain = HeaderValue::from_static("identity");
    request.headers_mut().entry(ACCEPT_ENCODING).or_insert(plain);
    Ok(request)
}
