//! Responses without an object: refusals, JSON, `Retry-After`.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use reference::upload::UPLOAD_OFFSET;

use super::Busy;
use super::body::Body;

/// A status and nothing else.
pub(super) fn status<R: super::Repository>(status: StatusCode) -> Response<Body<R>> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The one answer to everybody who may not know whether there is something: no field of it depends on the request.
pub(super) fn not_found<R: super::Repository>() -> Response<Body<R>> {
    let mut response = status(StatusCode::NOT_FOUND);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Nothing was found: 404, or 503 where a signature that might have changed that could not be judged now.
pub(super) fn nothing<R: super::Repository>(put_off: Option<Busy>) -> Response<Body<R>> {
    put_off.map_or_else(not_found, |later| busy(StatusCode::SERVICE_UNAVAILABLE, later))
}

/// A refusal with a sentence for whoever debugs the client.
pub(super) fn refused<R: super::Repository>(code: StatusCode, sentence: String) -> Response<Body<R>> {
    let mut response = text(sentence);
    *response.status_mut() = code;
    response
}

/// A 429, 503 or 507.
pub(super) fn busy<R: super::Repository>(code: StatusCode, busy: Busy) -> Response<Body<R>> {
    let mut response = status(code);
    let seconds = busy.retry_after.as_millis().div_ceil(1000).clamp(1, 86_400);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(86_400)));
    response
}

/// Takes no part, or all of it: how much is here.
pub(super) fn offset<R: super::Repository>(code: StatusCode, at: u64) -> Response<Body<R>> {
    let mut response = status(code);
    response.headers_mut().insert(HeaderName::from_static(UPLOAD_OFFSET), HeaderValue::from(at));
    response
}

/// A text.
pub(super) fn text<R: super::Repository>(text: String) -> Response<Body<R>> {
    let mut response = Response::new(Body::whole(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A JSON answer; caches may keep it for so long.
pub(super) fn json<R: super::Repository>(body: Vec<u8>, max_age: Option<Duration>) -> Response<Body<R>> {
    let mut response = Response::new(Body::whole(Bytes::from(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let caching = max_age.map_or_else(|| "no-store".to_owned(), |age| format!("max-age={}", age.as_secs()));
    if let Ok(value) = HeaderValue::try_from(caching) {
        headers.insert(CACHE_CONTROL, value);
    }
    response
}
