//! One connection: TLS, HTTP/1.1, and the way from a request to what answers it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mail::Domain;
use reference::claims::{
    BodyError, CLAIMS_PATH, ClaimsAnswer, ClaimsRequest, MAX_BODY, RECEIPTS_PATH, ReceiptsRequest,
};
use reference::{keys, uri};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::body::Body;
use super::guard::{Pace, Paced};
use super::object::Wanted;
use super::{Busy, Limits, Repository, answer};

/// Most octets that wait for the socket: one chunk goes out while the next is read.
const WRITE_BUFFER: usize = 256 * 1024;

/// What all connections of a listener share.
pub(super) struct Service<R> {
    pub(super) repository: Arc<R>,
    pub(super) acceptor: TlsAcceptor,
    pub(super) limits: Limits,
}

impl<R: Repository> Service<R> {
    /// Serves a connection to its end; after `shutdown` the response in progress is the last.
    pub(super) async fn run(&self, stream: TcpStream, shutdown: CancellationToken) {
        // Only a hint to the kernel: a failure here changes nothing.
        let _ = stream.set_nodelay(true);
        let handshake = timeout(self.limits.handshake_time, self.acceptor.accept(stream));
        let stream = tokio::select! {
            finished = handshake => match finished {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) | Err(_) => return,
            },
            () = shutdown.cancelled() => return,
        };
        let sni = stream.get_ref().1.server_name().and_then(|name| Domain::parse(name).ok());
        let requests = Arc::new(AtomicU32::new(0));
        let pace = Pace { minimum_rate: self.limits.minimum_rate, grace: self.limits.rate_grace };
        let io = TokioIo::new(Paced::new(stream, pace, Arc::clone(&requests)));
        let service = service_fn(|request| self.respond(request, sni.as_ref(), &requests));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_time)
            .max_header_size(self.limits.header_octets)
            .max_buf_size(WRITE_BUFFER)
            .serve_connection(io, service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a repository connection broke");
        }
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        sni: Option<&Domain>,
        requests: &AtomicU32,
    ) -> Result<Response<Body<R>>, Infallible> {
        let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
        let mut response = self.route(request, sni).await;
        if number >= self.limits.requests {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    async fn route(&self, request: Request<Incoming>, sni: Option<&Domain>) -> Response<Body<R>> {
        let reads = request.method() == Method::GET || request.method() == Method::HEAD;
        let posts = request.method() == Method::POST;
        match request.uri().path() {
            uri::PATH if reads => match Wanted::parse(request.uri().query(), request.method(), request.headers()) {
                Some(wanted) => wanted.answer(&self.repository, &self.limits).await,
                None => answer::not_found(),
            },
            keys::DOCUMENT_PATH if reads => self.document(&request, sni).await,
            CLAIMS_PATH if posts => self.claims(request).await,
            RECEIPTS_PATH if posts => self.receipts(request).await,
            _ => answer::not_found(),
        }
    }

    /// The document of the domain whose `tbr.` host was asked.
    async fn document(&self, request: &Request<Incoming>, sni: Option<&Domain>) -> Response<Body<R>> {
        let Some(host) = asked_host(request).filter(|host| sni.is_none_or(|name| name == host)) else {
            return answer::not_found();
        };
        let Some(domain) = host.as_str().strip_prefix("tbr.").and_then(|d| Domain::parse(d).ok()) else {
            return answer::not_found();
        };
        match timeout(self.limits.answer_time, self.repository.document(&domain)).await {
            Ok(Some(facts)) => match facts.to_document() {
                Ok(json) => answer::json(json, Some(facts.max_age)),
                Err(_) => answer::status(StatusCode::INTERNAL_SERVER_ERROR),
            },
            Ok(None) => answer::not_found(),
            Err(_) => self.too_late(),
        }
    }

    async fn claims(&self, request: Request<Incoming>) -> Response<Body<R>> {
        let claims = match self.read(request).await.map(|body| ClaimsRequest::parse(&body)) {
            Ok(Ok(claims)) => claims,
            Ok(Err(error)) => return malformed(&error),
            Err(code) => return answer::status(code),
        };
        match timeout(self.limits.answer_time, self.repository.claims(claims)).await {
            Ok(Ok(found)) if found.claims.is_empty() => answer::not_found(),
            Ok(Ok(found)) => encoded(encode_what_fits(found)),
            Ok(Err(busy)) => answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy),
            Err(_) => self.too_late(),
        }
    }

    async fn receipts(&self, request: Request<Incoming>) -> Response<Body<R>> {
        let receipts = match self.read(request).await.map(|body| ReceiptsRequest::parse(&body)) {
            Ok(Ok(receipts)) => receipts,
            Ok(Err(error)) => return malformed(&error),
            Err(code) => return answer::status(code),
        };
        match timeout(self.limits.answer_time, self.repository.receipts(receipts)).await {
            Ok(Ok(found)) if found.receipts.is_empty() => answer::not_found(),
            Ok(Ok(found)) => encoded(found.encode()),
            Ok(Err(busy)) => answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy),
            Err(_) => self.too_late(),
        }
    }

    /// The body of a POST, or the status that refuses it.
    async fn read(&self, request: Request<Incoming>) -> Result<bytes::Bytes, StatusCode> {
        if !is_json(&request) {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        let body = Limited::new(request.into_body(), MAX_BODY);
        match timeout(self.limits.body_time, body.collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
            Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
            Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
        }
    }

    fn too_late(&self) -> Response<Body<R>> {
        answer::busy(StatusCode::SERVICE_UNAVAILABLE, Busy { retry_after: self.limits.answer_time })
    }
}

/// The one Host field (RFC 9112 §3.2), without its port.
fn asked_host(request: &Request<Incoming>) -> Option<Domain> {
    let mut fields = request.headers().get_all(HOST).iter();
    let (field, None) = (fields.next()?, fields.next()) else { return None };
    let text = field.to_str().ok()?;
    let name = text.rsplit_once(':').map_or(text, |(name, _)| name);
    Domain::parse(name).ok()
}

fn is_json(request: &Request<Incoming>) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Answers are longer than claims. Entries that find no room are left out: no answer, to be claimed again.
fn encode_what_fits(mut answer: ClaimsAnswer) -> Result<Vec<u8>, BodyError> {
    loop {
        match answer.encode() {
            Err(BodyError::TooLong) if answer.claims.len() > 1 => answer.claims.truncate(answer.claims.len() * 3 / 4),
            done => return done,
        }
    }
}

fn malformed<R: Repository>(error: &BodyError) -> Response<Body<R>> {
    let code = if *error == BodyError::TooLong { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
    answer::refused(code, error.to_string())
}

fn encoded<R: Repository>(body: Result<Vec<u8>, BodyError>) -> Response<Body<R>> {
    match body {
        Ok(json) => answer::json(json, None),
        Err(_) => answer::status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
