//! `GET` and `HEAD /.well-known/tbr/m`: an object for a grant (TBR §6.1), as it is or under the coding that it is stored in.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, VARY,
};
use hyper::{Method, Response, StatusCode};
use mail::ledger::{Coded, Coding};
use mail::{Grant, Xuid};
use reference::Uri;
use tokio::time::timeout;
use tracing::warn;

use super::body::Body;
use super::range::{Selection, select};
use super::signatures::Verdict;
use super::{Busy, Limits, Located, Repository, answer, coding};

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
    pub(super) async fn answer<R: Repository>(
        self,
        repository: &Arc<R>,
        verdict: Verdict,
        limits: &Limits,
    ) -> Response<Body<R>> {
        let busy = Busy { retry_after: limits.answer_time };
        let asked = repository.locate(self.xuid, &self.grant, verdict.signed);
        let Ok(located) = timeout(limits.answer_time, asked).await else {
            return answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy);
        };
        match located {
            Located::Object { xuid, size, coded, handle } if xuid == self.xuid => {
                let representation = self.representation(size, coded);
                self.found(repository, limits, representation, handle).await
            }
            Located::Object { .. } | Located::Unknown => answer::nothing(verdict.put_off),
            Located::Gone => answer::status(StatusCode::GONE),
            Located::Unavailable(busy) => answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy),
        }
    }

    /// The one that the client wants.
    fn representation(&self, size: u64, coded: Option<Coded>) -> Representation {
        match coded.filter(|coded| coding::is_wanted(self.headers, coded.coding)) {
            Some(Coded { coding, digest, size }) => Representation { coding: Some(coding), digest, size },
            None => Representation { coding: None, digest: self.xuid, size },
        }
    }

    async fn found<R: Repository>(
        self,
        repository: &Arc<R>,
        limits: &Limits,
        representation: Representation,
        handle: R::Handle,
    ) -> Response<Body<R>> {
        let (etag, size) = (representation.etag(), representation.size);
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
            match timeout(limits.answer_time, repository.read(handle, representation.coding, range.clone())).await {
                Ok(Ok(chunks)) => Body::object(chunks, length, Arc::clone(repository), self.grant),
                failed => {
                    warn!(xuid = %self.xuid, error = ?failed.err(), "an object could not be read");
                    return answer::busy(StatusCode::SERVICE_UNAVAILABLE, Busy { retry_after: limits.answer_time });
                }
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        representation.describe(response.headers_mut(), length);
        if status == StatusCode::PARTIAL_CONTENT {
            put(response.headers_mut(), CONTENT_RANGE, content_range(&range, size));
        }
        response
    }
}

/// The octets that a response is, or is a part of (RFC 9110 §3.2).
struct Representation {
    coding: Option<Coding>,
    /// SHA-256 of them: the XUID, where there is no coding.
    digest: Xuid,
    size: u64,
}

impl Representation {
    fn etag(&self) -> String {
        format!("\"{}\"", self.digest)
    }

    fn describe(&self, headers: &mut HeaderMap, length: u64) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("message/rfc822"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        headers.insert(VARY, HeaderValue::from(ACCEPT_ENCODING));
        if let Some(coding) = self.coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
        }
        put(headers, ETAG, self.etag());
        // RFC 9530 §3: of the whole representation, also where a part is sent.
        put(headers, REPR_DIGEST, format!("sha-256=:{}:", STANDARD.encode(self.digest.as_bytes())));
    }
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
