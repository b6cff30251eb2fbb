//! `GET` and `HEAD /.well-known/tbr/m`: an object for a grant (TBR §7.1).

use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
};
use hyper::{Method, Response, StatusCode};
use mail::{Grant, Xuid};
use reference::Uri;
use tokio::time::timeout;
use tracing::warn;

use super::body::Body;
use super::range::{Selection, select};
use super::{Busy, Limits, Located, Repository, answer};

const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// A request for an object whose query is well-formed.
pub(super) struct Wanted<'a> {
    pub(super) xuid: Xuid,
    pub(super) grant: Grant,
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
}

impl<'a> Wanted<'a> {
    /// `None` for anything but the exact query of a reference URI.
    pub(super) fn parse(query: Option<&str>, method: &'a Method, headers: &'a HeaderMap) -> Option<Self> {
        let (xuid, grant) = Uri::parse_request(query?).ok()?;
        Some(Self { xuid, grant, method, headers })
    }

    /// Asks the repository and answers.
    pub(super) async fn answer<R: Repository>(self, repository: &Arc<R>, limits: &Limits) -> Response<Body<R>> {
        let busy = Busy { retry_after: limits.answer_time };
        let Ok(located) = timeout(limits.answer_time, repository.locate(self.xuid, &self.grant)).await else {
            return answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy);
        };
        match located {
            Located::Object { xuid, size, handle } if xuid == self.xuid => {
                self.found(repository, limits, size, handle).await
            }
            Located::Object { .. } | Located::Unknown => answer::not_found(),
            Located::Gone => answer::status(StatusCode::GONE),
            Located::Unavailable(busy) => answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy),
            Located::TooMany(busy) => answer::busy(StatusCode::TOO_MANY_REQUESTS, busy),
        }
    }

    async fn found<R: Repository>(
        self,
        repository: &Arc<R>,
        limits: &Limits,
        size: u64,
        handle: R::Handle,
    ) -> Response<Body<R>> {
        let etag = format!("\"{}\"", self.xuid);
        // A range means something for GET only (RFC 9110 §14.2).
        let selection = if self.method == Method::GET { select(self.headers, &etag, size) } else { Selection::Whole };
        let (status, range) = match selection {
            Selection::Whole => (StatusCode::OK, 0..size),
            Selection::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Selection::Unsatisfiable => return unsatisfiable(size),
        };
        let length = range.end - range.start;
        let body = if self.method == Method::HEAD || length == 0 {
            Body::empty()
        } else {
            match timeout(limits.answer_time, repository.read(handle, range.clone())).await {
                Ok(Ok(chunks)) => Body::object(chunks, length, Arc::clone(repository), self.grant),
                failed => {
                    warn!(xuid = %self.xuid, error = ?failed.err(), "an object could not be read");
                    return answer::busy(StatusCode::SERVICE_UNAVAILABLE, Busy { retry_after: limits.answer_time });
                }
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        describe(response.headers_mut(), self.xuid, &etag, length);
        if status == StatusCode::PARTIAL_CONTENT {
            put(response.headers_mut(), CONTENT_RANGE, content_range(&range, size));
        }
        response
    }
}

fn describe(headers: &mut HeaderMap, xuid: Xuid, etag: &str, length: u64) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("message/rfc822"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    put(headers, ETAG, etag.to_owned());
    // RFC 9530 §3: of the whole object, also where a part is sent.
    put(headers, REPR_DIGEST, format!("sha-256=:{}:", STANDARD.encode(xuid.as_bytes())));
}

fn unsatisfiable<R: Repository>(size: u64) -> Response<Body<R>> {
    let mut response = answer::status(StatusCode::RANGE_NOT_SATISFIABLE);
    put(response.headers_mut(), CONTENT_RANGE, format!("bytes */{size}"));
    response
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

/// Our own texts are always valid field values.
fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
