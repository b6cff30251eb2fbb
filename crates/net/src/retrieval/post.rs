//! Claims, receipts, and the domain document: one small request, one small JSON answer, or no answer at all.

use std::collections::HashSet;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode};
use mail::{Domain, ReferenceId};
use reference::claims::{
    BodyError, CLAIMS_PATH, ClaimsAnswer, ClaimsRequest, MAX_BODY, RECEIPTS_PATH, ReceiptsAnswer, ReceiptsRequest,
};
use reference::keys::{DOCUMENT_PATH, MAX_DOCUMENT};
use tokio::time::timeout;

use super::exchange::{Answered, retry_after};
use super::{Client, NoAnswer};

impl Client {
    /// Posts claims to a repository host. Only what was asked, answered once, under a 200, counts (TBR §8); entries
    /// and indexes may be missing from the answer.
    ///
    /// # Errors
    /// [`NoAnswer`]: nothing may be concluded, least of all that the claim was not granted.
    pub async fn post_claims(&self, host: &Domain, request: &ClaimsRequest) -> Result<ClaimsAnswer, NoAnswer> {
        let body = request.encode().map_err(|error| malformed(&error))?;
        let answer = self.post(host, CLAIMS_PATH, body).await?;
        let answer = ClaimsAnswer::parse(&answer).map_err(|error| malformed(&error))?;
        let asked = request.claims.iter().flat_map(|entry| entry.n.iter().map(|n| (entry.i, *n)));
        let said = answer.claims.iter().flat_map(|entry| entry.answers.iter().map(|a| (entry.i, a.n)));
        check_answers(asked, said)?;
        Ok(answer)
    }

    /// Posts receipts, likewise.
    ///
    /// # Errors
    /// [`NoAnswer`]: post them again later.
    pub async fn post_receipts(&self, host: &Domain, request: &ReceiptsRequest) -> Result<ReceiptsAnswer, NoAnswer> {
        let body = request.encode().map_err(|error| malformed(&error))?;
        let answer = self.post(host, RECEIPTS_PATH, body).await?;
        let answer = ReceiptsAnswer::parse(&answer).map_err(|error| malformed(&error))?;
        let asked = request.receipts.iter().flat_map(|entry| entry.outcomes.iter().map(|o| (entry.i, o.n)));
        let said = answer.receipts.iter().flat_map(|entry| entry.recorded.iter().map(|n| (entry.i, *n)));
        check_answers(asked, said)?;
        Ok(answer)
    }

    /// The octets of a domain document, from the host that publishes it.
    pub(crate) async fn document(&self, host: &Domain) -> Result<Bytes, NoAnswer> {
        let build = || Request::builder().method(Method::GET).uri(DOCUMENT_PATH).body(Full::default());
        self.exchange_json(host, build, MAX_DOCUMENT).await
    }

    async fn post(&self, host: &Domain, path: &'static str, body: Vec<u8>) -> Result<Bytes, NoAnswer> {
        let body = Bytes::from(body);
        let build = || {
            let request = Request::builder().method(Method::POST).uri(path);
            request.header(CONTENT_TYPE, "application/json").body(Full::new(body.clone()))
        };
        self.exchange_json(host, build, MAX_BODY).await
    }

    async fn exchange_json(
        &self,
        host: &Domain,
        build: impl Fn() -> Result<Request<Full<Bytes>>, hyper::http::Error>,
        limit: usize,
    ) -> Result<Bytes, NoAnswer> {
        let whole = async {
            let answered = self.shared.exchange(host, build).await.map_err(none)?;
            self.read_json(host, answered, limit).await
        };
        timeout(self.shared.config.exchange_time, whole).await.unwrap_or_else(|_| Err(none("no answer in time")))
    }

    async fn read_json(&self, host: &Domain, answered: Answered, limit: usize) -> Result<Bytes, NoAnswer> {
        let Answered { connection, response } = answered;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            let status = head.status.as_u16();
            let text = format!("{host} answers {status}");
            return Err(NoAnswer { text, status: Some(status), retry_after: retry_after(&head.headers) });
        }
        if !is_json(&head.headers) {
            return Err(none(format!("{host} does not answer with JSON")));
        }
        let body = Limited::new(body, limit).collect().await.map_err(|error| none(format!("{host}: {error}")))?;
        self.shared.pool.put(host, connection);
        Ok(body.to_bytes())
    }
}

/// Nothing that was not asked, nothing twice.
fn check_answers(
    asked: impl Iterator<Item = (ReferenceId, u16)>,
    said: impl Iterator<Item = (ReferenceId, u16)>,
) -> Result<(), NoAnswer> {
    let mut open: HashSet<_> = asked.collect();
    let mut said = said;
    if said.all(|pair| open.remove(&pair)) { Ok(()) } else { Err(none("the answer is not one to what was asked")) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn malformed(error: &BodyError) -> NoAnswer {
    none(error.to_string())
}

fn none(text: impl Into<String>) -> NoAnswer {
    NoAnswer { text: text.into(), status: None, retry_after: None }
}
