//! One connection: TLS, HTTP/1.1, and the way from a request to what answers it. HTTP/2 is [`super::streams`]'s.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use mail::{Domain, Grant, Holder, mta_sts};
use reference::body::{BodyError, JsonBody, MAX_BODY};
use reference::claims::{CLAIMS_PATH, ClaimsRequest, RECEIPTS_PATH, ReceiptsRequest};
use reference::delegate::{DELEGATE_PATH, DelegateRequest};
use reference::{keys, pending, upload, uri};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::body::Body;
use super::guard::{Gauge, Pace, Paced};
use super::object::Wanted;
use super::signatures::{Covered, Head, Verdict};
use super::{Busy, Limits, Replays, Repository, answer};
use crate::acme::tls_alpn_01;
use crate::peers::Seat;
use crate::tls::HTTP_2;
use crate::wire::now;

/// A chunk goes out before the next is read: it is still in the processor's cache, and a slow client holds no more.
const WRITE_BUFFER: usize = 64 * 1024;

/// What all connections of a listener share.
pub(super) struct Service<R> {
    pub(super) repository: Arc<R>,
    pub(super) replays: Arc<Replays>,
    pub(super) limits: Limits,
}

impl<R: Repository> Service<R> {
    /// Serves a connection to its end; after `shutdown` the response in progress is the last.
    pub(super) async fn run(
        self: &Arc<Self>,
        acceptor: &TlsAcceptor,
        stream: TcpStream,
        seat: &Seat,
        shutdown: CancellationToken,
    ) {
        // Only a hint to the kernel: a failure here changes nothing.
        let _ = stream.set_nodelay(true);
        let handshake = timeout(self.limits.handshake_time, acceptor.accept(stream));
        let mut stream = tokio::select! {
            finished = handshake => match finished {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) | Err(_) => return,
            },
            () = shutdown.cancelled() => return,
        };
        if stream.get_ref().1.alpn_protocol() == Some(tls_alpn_01::PROTOCOL) {
            // All is said with the handshake (RFC 8737 §3).
            let _ = timeout(self.limits.handshake_time, stream.shutdown()).await;
            return;
        }
        let sni = stream.get_ref().1.server_name().and_then(|name| Domain::parse(name).ok());
        match stream.get_ref().1.alpn_protocol() {
            Some(HTTP_2) => self.converse_in_streams(stream, sni, Some(seat), shutdown).await,
            _ => self.converse(stream, sni.as_ref(), Some(seat), shutdown).await,
        }
    }

    /// Serves the requests of a client that asked TLS for this host.
    pub(super) async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        sni: Option<&Domain>,
        seat: Option<&Seat>,
        shutdown: CancellationToken,
    ) {
        let gauge = Arc::new(Gauge::default());
        let io = TokioIo::new(Paced::new(stream, self.pace(seat), Arc::clone(&gauge)));
        let service = service_fn(|request| self.respond(request, sni, &gauge));
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

    pub(super) fn pace<'a>(&self, seat: Option<&'a Seat>) -> Pace<'a> {
        Pace { minimum_rate: self.limits.minimum_rate, grace: self.limits.rate_grace, seat }
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        sni: Option<&Domain>,
        gauge: &Gauge,
    ) -> Result<Response<Body<R>>, Infallible> {
        let number = gauge.responses.fetch_add(1, Ordering::Relaxed) + 1;
        let mut response = self.route(request, sni).await;
        if number >= self.limits.requests {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    pub(super) async fn route(&self, request: Request<Incoming>, sni: Option<&Domain>) -> Response<Body<R>> {
        let reads = request.method() == Method::GET || request.method() == Method::HEAD;
        let posts = request.method() == Method::POST;
        let patches = request.method() == Method::PATCH;
        match request.uri().path() {
            uri::PATH if reads => self.object(&request).await,
            pending::PENDING_PATH if reads => self.pending(&request).await,
            keys::DOCUMENT_PATH if reads => self.document(&request, sni).await,
            mta_sts::PATH if reads => self.mta_sts(&request, sni),
            CLAIMS_PATH if posts => self.claims(request).await,
            RECEIPTS_PATH if posts => self.receipts(request).await,
            DELEGATE_PATH if posts => self.delegate(request).await,
            upload::MAIL_PATH if posts => self.mail(request).await,
            path if patches && path.starts_with(upload::UPLOAD_PATH) => self.upload(request).await,
            _ => answer::not_found(),
        }
    }

    async fn object(&self, request: &Request<Incoming>) -> Response<Body<R>> {
        let query = request.uri().query();
        let Some(wanted) = Wanted::parse(query, request.method(), request.headers()) else {
            return answer::not_found();
        };
        let asked = Asked::of(request);
        match self.verify(&asked, None, vec![wanted.grant.clone()]).await {
            Ok(verdict) => wanted.answer(&self.repository, verdict, &self.limits).await,
            Err(busy) => answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy),
        }
    }

    /// Whose signatures of a request verify, of those that its grants need.
    async fn verify(&self, asked: &Asked, body: Option<&[u8]>, grants: Vec<Grant>) -> Result<Verdict, Busy> {
        let head = asked.head();
        let verified = head.verify(body, grants, &*self.repository, &self.replays, now());
        let late = Err(Busy { retry_after: self.limits.answer_time });
        timeout(self.limits.answer_time, verified).await.unwrap_or(late)
    }

    /// The site that has signed the request; nobody else learns even that there is something to ask for.
    pub(super) async fn site(&self, head: &Head<'_>, covered: Covered<'_>) -> Result<Holder, Response<Body<R>>> {
        let verified = head.site(covered, &*self.repository, &self.replays, now());
        match timeout(self.limits.answer_time, verified).await {
            Ok((Some(site), _)) => Ok(site),
            Ok((None, put_off)) => Err(answer::nothing(put_off)),
            Err(_) => Err(self.too_late()),
        }
    }

    /// What waits for the site that has signed the request; nobody else learns even that there is such a thing.
    async fn pending(&self, request: &Request<Incoming>) -> Response<Body<R>> {
        let Ok(after) = pending::parse_query(request.uri().query()) else { return answer::not_found() };
        let asked = Asked::of(request);
        let head = asked.head();
        let site = match self.site(&head, Covered::Nothing).await {
            Ok(site) => site,
            Err(refusal) => return refusal,
        };
        match timeout(self.limits.answer_time, self.repository.pending(&site, after)).await {
            Ok(Ok(list)) => encoded(list.encode()),
            Ok(Err(busy)) => answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy),
            Err(_) => self.too_late(),
        }
    }

    /// The document of the domain whose `tbr.` host was asked.
    async fn document(&self, request: &Request<Incoming>, sni: Option<&Domain>) -> Response<Body<R>> {
        let Some(domain) = below(request, sni, "tbr") else {
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

    /// The policy of the domain whose `mta-sts.` host was asked.
    fn mta_sts(&self, request: &Request<Incoming>, sni: Option<&Domain>) -> Response<Body<R>> {
        let domain = below(request, sni, mta_sts::HOST_LABEL);
        domain.and_then(|domain| self.repository.mta_sts(&domain)).map_or_else(answer::not_found, answer::text)
    }

    async fn claims(&self, request: Request<Incoming>) -> Response<Body<R>> {
        let grants = |request: &ClaimsRequest| request.claims.iter().map(|entry| entry.grant.clone()).collect();
        let (claims, Verdict { signed, put_off }) = match self.posted(request, ClaimsRequest::parse, grants).await {
            Ok(posted) => posted,
            Err(refusal) => return refusal,
        };
        match timeout(self.limits.answer_time, self.repository.claims(claims, signed)).await {
            Ok(Ok(found)) if found.claims.is_empty() => answer::nothing(put_off),
            Ok(Ok(found)) => encoded(encode_what_fits(found, |answer| &mut answer.claims)),
            Ok(Err(busy)) => answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy),
            Err(_) => self.too_late(),
        }
    }

    async fn receipts(&self, request: Request<Incoming>) -> Response<Body<R>> {
        let grants = |request: &ReceiptsRequest| request.receipts.iter().map(|entry| entry.grant.clone()).collect();
        let (receipts, Verdict { signed, put_off }) = match self.posted(request, ReceiptsRequest::parse, grants).await {
            Ok(posted) => posted,
            Err(refusal) => return refusal,
        };
        match timeout(self.limits.answer_time, self.repository.receipts(receipts, signed)).await {
            Ok(Ok(found)) if found.receipts.is_empty() => answer::nothing(put_off),
            Ok(Ok(found)) => encoded(found.encode()),
            Ok(Err(busy)) => answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy),
            Err(_) => self.too_late(),
        }
    }

    async fn delegate(&self, request: Request<Incoming>) -> Response<Body<R>> {
        let grant = |request: &DelegateRequest| vec![request.grant.clone()];
        let (request, Verdict { signed, put_off }) = match self.posted(request, DelegateRequest::parse, grant).await {
            Ok(posted) => posted,
            Err(refusal) => return refusal,
        };
        match timeout(self.limits.answer_time, self.repository.delegate(request, signed)).await {
            Ok(Ok(Some(word))) => encoded(word.encode()),
            Ok(Ok(None)) => answer::nothing(put_off),
            Ok(Err(busy)) => answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy),
            Err(_) => self.too_late(),
        }
    }

    /// What was posted, and whose signatures of it verify, of those that its grants need; else the response.
    async fn posted<T>(
        &self,
        request: Request<Incoming>,
        parse: impl Fn(&[u8]) -> Result<T, BodyError>,
        grants: impl Fn(&T) -> Vec<Grant>,
    ) -> Result<(T, Verdict), Response<Body<R>>> {
        let asked = Asked::of(&request);
        let body = self.read(request).await.map_err(answer::status)?;
        let posted = parse(&body).map_err(|error| malformed(&error))?;
        match self.verify(&asked, Some(&body), grants(&posted)).await {
            Ok(verdict) => Ok((posted, verdict)),
            Err(busy) => Err(answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy)),
        }
    }

    /// The body of a POST, or the status that refuses it.
    pub(super) async fn read(&self, request: Request<Incoming>) -> Result<bytes::Bytes, StatusCode> {
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

    pub(super) fn too_late(&self) -> Response<Body<R>> {
        answer::busy(StatusCode::SERVICE_UNAVAILABLE, Busy { retry_after: self.limits.answer_time })
    }
}

/// What of a request outlives the reading of its body.
pub(super) struct Asked {
    method: Method,
    host: Option<Domain>,
    path_and_query: String,
    headers: HeaderMap,
}

impl Asked {
    pub(super) fn of(request: &Request<Incoming>) -> Self {
        let path_and_query = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let (method, headers) = (request.method().clone(), request.headers().clone());
        Self { method, host: asked_host(request), path_and_query, headers }
    }

    pub(super) fn head(&self) -> Head<'_> {
        Head {
            method: self.method.as_str(),
            host: self.host.as_ref(),
            path_and_query: &self.path_and_query,
            headers: &self.headers,
        }
    }
}

/// The authority (RFC 9113 §8.3.1), or the one Host field (RFC 9112 §3.2), without its port.
fn asked_host(request: &Request<Incoming>) -> Option<Domain> {
    let mut fields = request.headers().get_all(HOST).iter();
    let text = match (request.version(), fields.next(), fields.next()) {
        (Version::HTTP_2, None, None) => request.uri().authority()?.as_str(),
        (Version::HTTP_2, ..) => return None,
        (_, Some(field), None) => field.to_str().ok()?,
        _ => return None,
    };
    let name = text.rsplit_once(':').map_or(text, |(name, _)| name);
    Domain::parse(name).ok()
}

/// The domain whose host of this label was asked, by both the request and TLS.
fn below(request: &Request<Incoming>, sni: Option<&Domain>, label: &str) -> Option<Domain> {
    let host = asked_host(request).filter(|host| sni.is_none_or(|name| name == host))?;
    Domain::parse(host.as_str().strip_prefix(label)?.strip_prefix('.')?).ok()
}

fn is_json(request: &Request<Incoming>) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Answers may be longer than what they answer. Entries that find no room are left out: no answer, to be asked for again.
pub(super) fn encode_what_fits<A: JsonBody, E>(
    mut answer: A,
    entries: impl Fn(&mut A) -> &mut Vec<E>,
) -> Result<Vec<u8>, BodyError> {
    loop {
        let encoded = answer.encode();
        let entries = entries(&mut answer);
        if encoded != Err(BodyError::TooLong) || entries.len() <= 1 {
            return encoded;
        }
        entries.truncate(entries.len() * 3 / 4);
    }
}

pub(super) fn malformed<R: Repository>(error: &BodyError) -> Response<Body<R>> {
    let code = if *error == BodyError::TooLong { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
    answer::refused(code, error.to_string())
}

pub(super) fn encoded<R: Repository>(body: Result<Vec<u8>, BodyError>) -> Response<Body<R>> {
    match body {
        Ok(json) => answer::json(json, None),
        Err(_) => answer::status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
