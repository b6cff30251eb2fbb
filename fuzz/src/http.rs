//! HTTP: a repository that any client may ask anything, and what a client makes of a repository's answers.

use std::future::ready;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue};
use mail::ledger::{Coded, Coding, Representation};
use mail::{Domain, Grant, Holder, Timestamp, Xuid};
use net::repository::{Busy, Chunks, Limits, Located, Replays, Repository, serve_stream};
use net::retrieval::represent::{MAX_RETRY_AFTER, MAX_TAG, most_coded, part, retry_after, whole};
use reference::claims::{ClaimsAnswer, ClaimsRequest, ReceiptsAnswer, ReceiptsRequest};
use reference::delegate::{DelegateAnswer, DelegateRequest};
use reference::message_signature::{KeyId, SignedBy};
use reference::{DomainFacts, KeyRecord};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// The only object, and what it is under a coding, which nobody here looks into.
const OBJECT: &str = "Subject: the only one\r\n\r\nNobody without its grant may see a line of this.\r\n";
const CODED: &str = "these are coded octets";
/// Who may have it.
const GRANT: &str = "R0dHR0dHR0dHR0dHR0dHRw";

/// So often the server may go on before its client leaves: more often than it has to.
const ROUNDS: usize = 32;

/// Fields of a response, a line each, behind three octets: how much is held, of how much, and what was asked for. What is taken is what
/// was asked for, and can be asked for again.
pub fn http_answer(data: &[u8]) {
    let Some(([held, size, asked], fields)) = data.split_first_chunk() else { return };
    let headers = fields_of(fields);
    let (held, size) = (u64::from(*held), u64::from(*size));
    let takes_codings = asked & 1 != 0;
    let asked = Representation {
        coding: (asked & 2 != 0).then_some(Coding::Zstd),
        tag: (asked & 4 != 0).then(|| "\"x\"".to_owned()),
        size: (asked & 8 != 0 && held < size).then_some(size),
    };
    if let Ok(Representation { coding, tag, size: found }) = whole(&headers, size, takes_codings) {
        assert!(coding.is_none() || takes_codings);
        assert!(found.is_none_or(|found| found <= if coding.is_some() { most_coded(size) } else { size }));
        assert!(coding.is_some() || found == Some(size));
        let tag = tag.unwrap_or_else(|| "\"\"".to_owned());
        assert!(tag.starts_with('"') && tag.len() <= MAX_TAG && HeaderValue::try_from(tag).is_ok());
    }
    if let Some(all) = part(&headers, &asked, held, size) {
        let range = headers.get(CONTENT_RANGE).map(HeaderValue::as_bytes);
        assert_eq!(range, Some(format!("bytes {held}-{}/{all}", all - 1).as_bytes()));
        assert!(held < all && all <= asked.size.unwrap_or_else(|| most_coded(size)), "a part of nothing");
        assert_eq!(
            headers.get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| tag.starts_with('"')),
            asked.tag.as_deref()
        );
    }
    assert!(retry_after(&headers).is_none_or(|wait| wait <= MAX_RETRY_AFTER));
}

/// Lines that are fields.
fn fields_of(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// All that a client sends over a connection; the first octet says how it is cut. Nobody sees the object, or how much there is of it,
/// without its grant; what is sent is what the answer says it is, and our own client would take it.
pub fn http_repository(data: &[u8]) {
    let Some((piece, sent)) = data.split_first() else { return };
    let (once, in_pieces) = (converse(sent, sent.len().max(1)), converse(sent, usize::from(*piece).max(1)));
    // Where a connection ends may depend on what had come by then; what is answered may not.
    assert!(once.iter().zip(&in_pieces).all(|(one, other)| one == other), "{once:?}\n{in_pieces:?}");
    for answer in &once {
        answer.check(sent);
    }
}

/// An answer, without its date.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

fn converse(sent: &[u8], piece: usize) -> Vec<Answer> {
    let (runtime, shelf) = (waiter(), Arc::new(Shelf::default()));
    let replays = Arc::new(Replays::new(Timestamp::from_secs(0)));
    // Nobody waits here: what has not come by the end will not come.
    let received = runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let host = "tbr.a.example".parse::<Domain>().ok();
        let served = serve_stream(
            server,
            host.as_ref(),
            Arc::clone(&shelf),
            replays,
            Limits::default(),
            CancellationToken::new(),
        );
        let said = async {
            for piece in sent.chunks(piece) {
                // It may have been left.
                let _ = client.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            // A client that leaves is not answered any more.
            for _ in 0..ROUNDS {
                tokio::task::yield_now().await;
            }
            let _ = client.shutdown().await;
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.map(|_| received)
        };
        tokio::join!(served, said).1
    });
    let answers = answers(sent, &received.expect("octets in memory"));
    let bodies = answers.iter().filter(|answer| matches!(answer.status, 200 | 206) && answer.is_object());
    let octets: usize = bodies.map(|answer| answer.body.len()).sum();
    assert_eq!(shelf.served.load(Ordering::Relaxed), octets as u64, "what is said to be served is");
    answers
}

/// What was received is whole answers. To HEAD there is no body.
fn answers(sent: &[u8], mut received: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !received.is_empty() {
        let end = received.windows(4).position(|window| window == b"\r\n\r\n").expect("a header with an end") + 4;
        let (head, rest) = received.split_at(end);
        let status =
            head.strip_prefix(b"HTTP/1.").and_then(|rest| std::str::from_utf8(rest.get(2..5)?).ok()?.parse().ok());
        let mut headers = fields_of(head);
        headers.remove("date");
        let length = headers
            .get(CONTENT_LENGTH)
            .map_or(0, |value| value.to_str().ok().and_then(|text| text.parse().ok()).expect("a length"));
        // Only who has sent HEAD can be answered without the body.
        let asked_for_none = sent.windows(4).any(|window| window == b"HEAD");
        let is_there = length <= rest.len() && !(asked_for_none && rest.starts_with(b"HTTP/1."));
        assert!(is_there || asked_for_none, "less than was promised");
        let (body, rest) = rest.split_at(if is_there { length } else { 0 });
        answers.push(Answer { status: status.expect("a status"), headers, body: body.to_vec() });
        received = rest;
    }
    answers
}

impl Answer {
    fn is_object(&self) -> bool {
        self.headers.get("content-type").is_some_and(|kind| kind == "message/rfc822")
    }

    fn check(&self, sent: &[u8]) {
        assert!(!matches!(self.status, 500 | 501), "{self:?}");
        if !self.is_object() {
            let hints = [CONTENT_RANGE, ETAG, CONTENT_ENCODING];
            assert!(self.status == 416 || hints.iter().all(|name| !self.headers.contains_key(name)), "{self:?}");
            return;
        }
        let asked = String::from_utf8_lossy(sent);
        assert!(asked.contains(GRANT), "no grant, and yet {self:?}");
        let (octets, coding) = match self.headers.get(CONTENT_ENCODING) {
            Some(coding) if coding == "zstd" => (CODED, Some(Coding::Zstd)),
            None => (OBJECT, None),
            Some(other) => panic!("{other:?} was not asked for"),
        };
        let (tag, all) = (format!("\"{}\"", Xuid::of(octets.as_bytes())), octets.len() as u64);
        let representation = Representation { coding, tag: Some(tag), size: Some(all) };
        assert!(coding.is_none() || asked.to_ascii_lowercase().contains("zstd"));
        let Range { start, end } = match self.status {
            200 => {
                assert_eq!(whole(&self.headers, OBJECT.len() as u64, true).as_ref(), Ok(&representation));
                0..all
            }
            206 => self.range(all),
            other => panic!("an object with {other}"),
        };
        // Our client asks for all that is missing.
        let is_taken =
            self.status == 206 && part(&self.headers, &representation, start, OBJECT.len() as u64) == Some(all);
        assert_eq!(is_taken, self.status == 206 && end == all);
        assert!(self.body.is_empty() || self.body == octets.as_bytes()[start as usize..end as usize], "{self:?}");
    }

    fn range(&self, all: u64) -> Range<u64> {
        let range = self.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).expect("a range");
        let range =
            range.strip_prefix("bytes ").and_then(|range| range.strip_suffix(&format!("/{all}"))).expect("of all");
        let (first, last) = range.split_once('-').expect("a range");
        let (first, last): (u64, u64) = (first.parse().expect("a number"), last.parse().expect("a number"));
        assert!(first <= last && last < all);
        first..last + 1
    }
}

/// A repository with one object.
#[derive(Default)]
struct Shelf {
    served: AtomicU64,
}

impl Repository for Shelf {
    type Handle = ();

    async fn binding(&self, grants: Vec<Grant>) -> Result<Vec<Domain>, Busy> {
        let known = grants.iter().any(|grant| grant.reveal() == GRANT);
        Ok(known.then(|| "b.example".parse().expect("a name")).into_iter().collect())
    }

    async fn key(&self, id: &KeyId) -> Result<(Holder, KeyRecord), Busy> {
        assert!(matches!(id.domain.as_str(), "b.example" | "site.example"), "{id} is nobody's that is bound");
        Err(Busy { retry_after: Duration::ZERO })
    }

    async fn locate(&self, xuid: Xuid, grant: &Grant, _: SignedBy) -> Located<()> {
        if xuid != Xuid::of(OBJECT.as_bytes()) || grant.reveal() != GRANT {
            return Located::Unknown;
        }
        let coded = Coded { coding: Coding::Zstd, digest: Xuid::of(CODED.as_bytes()), size: CODED.len() as u64 };
        Located::Object { xuid, size: OBJECT.len() as u64, coded: Some(coded), handle: () }
    }

    async fn read(&self, (): (), coding: Option<Coding>, range: Range<u64>) -> io::Result<Chunks> {
        assert!(!range.is_empty());
        let octets = if coding.is_some() { CODED } else { OBJECT };
        let octets = Bytes::from_static(&octets.as_bytes()[range.start as usize..range.end as usize]);
        Ok(Box::pin(futures_util::stream::once(ready(Ok(octets)))))
    }

    async fn claims(&self, _: ClaimsRequest, _: SignedBy) -> Result<ClaimsAnswer, Busy> {
        Err(Busy { retry_after: Duration::MAX })
    }

    async fn receipts(&self, _: ReceiptsRequest, _: SignedBy) -> Result<ReceiptsAnswer, Busy> {
        Err(Busy { retry_after: Duration::ZERO })
    }

    async fn delegate(&self, _: DelegateRequest, _: SignedBy) -> Result<Option<DelegateAnswer>, Busy> {
        Ok(None)
    }

    fn site(&self, id: &KeyId, _: &Domain) -> Option<Holder> {
        (id.domain.as_str() == "site.example").then(|| id.domain.clone().into())
    }

    async fn document(&self, domain: &Domain) -> Option<DomainFacts> {
        assert_eq!(domain.as_str(), "a.example", "TLS was asked for another name");
        None
    }

    fn mta_sts(&self, domain: &Domain) -> Option<String> {
        panic!("TLS was not asked for the policy of {domain}")
    }

    fn served(&self, grant: &Grant, octets: u64) {
        assert_eq!(grant.reveal(), GRANT);
        self.served.fetch_add(octets, Ordering::Relaxed);
    }
}

fn waiter() -> &'static Runtime {
    static WAITER: LazyLock<Option<Runtime>> =
        LazyLock::new(|| Builder::new_current_thread().enable_time().build().ok());
    WAITER.as_ref().expect("a runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever mutates these begins at answers of every kind.
    #[test]
    fn the_requests_of_the_corpus_are_answered() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/http_repository");
        let statuses = |name: &str, piece: usize| {
            let data = std::fs::read(corpus.join(name)).unwrap();
            converse(&data[1..], piece).iter().map(|answer| answer.status).collect::<Vec<_>>()
        };
        for piece in [4096, 1] {
            assert_eq!(statuses("whole", piece), [200, 200, 200]);
            assert_eq!(statuses("ranges", piece), [206, 206, 206, 200, 416, 200, 206]);
            assert_eq!(statuses("coded-ranges", piece), [206, 200, 206, 206]);
            assert_eq!(statuses("guesses", piece), [404, 404, 404]);
            assert_eq!(statuses("claims", piece), [400, 400]);
            assert_eq!(statuses("document", piece), [404, 404, 404]);
        }
    }
}
