//! What a site sends (TBR §7.4): its list, and parts of the objects that the list names. Both are answered only to the site's
//! own signature; everybody else gets the 404 of everybody before an octet of the body is read.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName};
use hyper::{Request, Response, StatusCode};
use reference::body::JsonBody as _;
use reference::bundle::MailList;
use reference::message_signature::content_digest;
use reference::upload::{self, PART_MEDIA};
use tokio::time::timeout;

use super::body::Body;
use super::connection::{Asked, Service, encode_what_fits, encoded, malformed};
use super::signatures::Covered;
use super::{Chunks, NotTaken, Part, Repository, Uploaded, answer};

const UPLOAD_OFFSET: HeaderName = HeaderName::from_static(upload::UPLOAD_OFFSET);

impl<R: Repository> Service<R> {
    /// A site's list of what it sends.
    pub(super) async fn mail(&self, request: Request<Incoming>) -> Response<Body<R>> {
        let asked = Asked::of(&request);
        let head = asked.head();
        let Some(digest) = head.digest() else { return answer::not_found() };
        let site = match self.site(&head, Covered::Digest(&digest)).await {
            Ok(site) => site,
            Err(refusal) => return refusal,
        };
        let body = match self.read(request).await {
            Ok(body) => body,
            Err(code) => return answer::status(code),
        };
        // The signature was one of this digest, not yet one of this body.
        if content_digest(&body) != digest {
            return answer::not_found();
        }
        let list = match MailList::parse(&body) {
            Ok(list) => list,
            Err(error) => return malformed(&error),
        };
        match timeout(self.limits.answer_time, self.repository.mail(&site, list)).await {
            Ok(Ok(found)) => encoded(encode_what_fits(found, |answer| &mut answer.taken)),
            Ok(Err(not_taken)) => refused(not_taken),
            Err(_) => self.too_late(),
        }
    }

    /// A part of an object.
    pub(super) async fn upload(&self, request: Request<Incoming>) -> Response<Body<R>> {
        let asked = Asked::of(&request);
        let head = asked.head();
        let offset = head.field(&UPLOAD_OFFSET).and_then(|text| upload::parse_offset(&text));
        // A query would be signed and mean nothing.
        let xuid = upload::parse_path(head.path_and_query);
        let Some((xuid, offset)) = xuid.zip(offset) else { return answer::not_found() };
        let site = match self.site(&head, Covered::Offset(offset)).await {
            Ok(site) => site,
            Err(refusal) => return refusal,
        };
        if !is_part(&request) {
            return answer::status(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        let Some(length) = request.body().size_hint().exact() else {
            return answer::status(StatusCode::LENGTH_REQUIRED);
        };
        let octets = chunks(request.into_body(), length, self.limits.part_stall);
        match self.repository.upload(&site, Part { xuid, offset, length, octets }).await {
            Uploaded::At(at) => answer::offset(StatusCode::NO_CONTENT, at),
            Uploaded::Elsewhere(at) => answer::offset(StatusCode::CONFLICT, at),
            Uploaded::Unknown => answer::not_found(),
            Uploaded::TooLong => answer::status(StatusCode::PAYLOAD_TOO_LARGE),
            Uploaded::Wrong => answer::status(StatusCode::UNPROCESSABLE_ENTITY),
            Uploaded::NotTaken(not_taken) => refused(not_taken),
        }
    }
}

fn is_part(request: &Request<Incoming>) -> bool {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.eq_ignore_ascii_case(PART_MEDIA)
}

fn refused<R: Repository>(not_taken: NotTaken) -> Response<Body<R>> {
    match not_taken {
        NotTaken::Busy(busy) => answer::busy(StatusCode::SERVICE_UNAVAILABLE, busy),
        NotTaken::TooMany(busy) => answer::busy(StatusCode::TOO_MANY_REQUESTS, busy),
        NotTaken::Full(busy) => answer::busy(StatusCode::INSUFFICIENT_STORAGE, busy),
    }
}

/// The octets of a body, until it ends as it should; one that stalls or ends too early fails.
fn chunks(body: Incoming, length: u64, stall: Duration) -> Chunks {
    Box::pin(stream::try_unfold((body, length), move |(body, left)| next(body, left, stall)))
}

async fn next(mut body: Incoming, left: u64, stall: Duration) -> io::Result<Option<(Bytes, (Incoming, u64))>> {
    loop {
        let frame = match timeout(stall, body.frame()).await {
            Ok(Some(frame)) => frame.map_err(io::Error::other)?,
            Ok(None) if left == 0 => return Ok(None),
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        // Trailers say nothing here.
        if let Ok(chunk) = frame.into_data() {
            let left = left.checked_sub(chunk.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
            return Ok(Some((chunk, (body, left))));
        }
    }
}
