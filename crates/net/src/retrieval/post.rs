//! Claims, receipts, delegations, what is pending, the domain document, MTA-STS policies: one small request, one small answer, or no answer at all.

use std::collections::HashSet;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode};
use mail::{Domain, ReferenceId, mta_sts};
use reference::body::{BodyError, JsonBody, MAX_BODY};
use reference::bundle::MailList;
use reference::claims::{
    CLAIMS_PATH, ClaimsAnswer, ClaimsRequest, RECEIPTS_PATH, ReceiptsAnswer, ReceiptsRequest, Word,
};
use reference::delegate::{DELEGATE_PATH, DelegateAnswer, DelegateRequest};
use reference::keys::{DOCUMENT_PATH, MAX_DOCUMENT};
use reference::message_signature::Signer;
use reference::pending::{self, Cursor, PendingList};
use reference::upload::{MAIL_PATH, MailAnswer};
use tokio::time::{Instant, timeout};

use super::connect::Errand;
use super::exchange::{Answered, Broken, unwritable};
use super::represent::retry_after;
use super::signed::signed;
use super::suspend::left_alone;
use super::{Client, NoAnswer, Repository, Shared};

/// Media type of everything that TBR exchanges beside objects.
const JSON: &str = "application/json";
const NOT_ASKED: &str = "the answer is not one to what was asked";

impl Client {
    /// Posts claims to a repository host, signed by each of these. Only what was asked, answered once, under a 200,
    /// counts (TBR §8); entries and indexes may be missing from the answer.
    ///
    /// # Errors
    /// [`NoAnswer`]: nothing may be concluded, least of all that the claim was not granted.
    pub async fn post_claims(
        &self,
        to: Repository<'_>,
        request: &ClaimsRequest,
        signers: &[Signer],
    ) -> Result<ClaimsAnswer, NoAnswer> {
        let body = request.encode().map_err(|error| malformed(&error))?;
        let answer = self.post_to(to, CLAIMS_PATH, body, signers).await?;
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
    pub async fn post_receipts(
        &self,
        to: Repository<'_>,
        request: &ReceiptsRequest,
        signers: &[Signer],
    ) -> Result<ReceiptsAnswer, NoAnswer> {
        let body = request.encode().map_err(|error| malformed(&error))?;
        let answer = self.post_to(to, RECEIPTS_PATH, body, signers).await?;
        let answer = ReceiptsAnswer::parse(&answer).map_err(|error| malformed(&error))?;
        let asked = request.receipts.iter().flat_map(|entry| entry.outcomes.iter().map(|o| (entry.i, o.n)));
        let said = answer.receipts.iter().flat_map(|entry| entry.recorded.iter().map(|n| (entry.i, *n)));
        check_answers(asked, said)?;
        Ok(answer)
    }

    /// Posts a delegation, signed by the relay's domain (TBR §7.3).
    ///
    /// # Errors
    /// [`NoAnswer`]: the origin may have recorded it or not; custody is taken instead.
    pub async fn post_delegation(
        &self,
        to: Repository<'_>,
        request: &DelegateRequest,
        signers: &[Signer],
    ) -> Result<Word, NoAnswer> {
        let body = request.encode().map_err(|error| malformed(&error))?;
        let answer = self.post_to(to, DELEGATE_PATH, body, signers).await?;
        Ok(DelegateAnswer::parse(&answer).map_err(|error| malformed(&error))?.is)
    }

    /// Asks a custodian for a page of what waits for a site, signed by the site's key (TBR §7.4).
    ///
    /// # Errors
    /// [`NoAnswer`]: ask again later.
    pub async fn pending(
        &self,
        host: &Domain,
        after: Option<&Cursor>,
        signer: &Signer,
    ) -> Result<PendingList, NoAnswer> {
        let path = pending::request_path(after);
        let build = || signed(get(&path)?, host, None, std::slice::from_ref(signer));
        let answer = self.exchange_small(host, Errand::Other, build, JSON, MAX_BODY).await?;
        PendingList::parse(&answer).map_err(|error| malformed(&error))
    }

    /// Posts a list of what a site sends to its custodian, signed by the site's key (TBR §7.4).
    ///
    /// # Errors
    /// [`NoAnswer`]: post it again later.
    pub async fn post_mail(&self, host: &Domain, list: &MailList, signer: &Signer) -> Result<MailAnswer, NoAnswer> {
        let body = list.encode().map_err(|error| malformed(&error))?;
        let signers = std::slice::from_ref(signer);
        let answer = self.post(host, Errand::Other, MAIL_PATH, body, signers).await?;
        let answer = MailAnswer::parse(&answer).map_err(|error| malformed(&error))?;
        if answer.answers(list) { Ok(answer) } else { Err(none(NOT_ASKED)) }
    }

    /// The octets of a domain document, from the host that publishes it.
    pub async fn document(&self, host: &Domain) -> Result<Bytes, NoAnswer> {
        self.exchange_small(host, Errand::Other, || get(DOCUMENT_PATH), JSON, MAX_DOCUMENT).await
    }

    /// The octets of an MTA-STS policy (RFC 8461 §3.3), from the host that publishes it.
    pub(crate) async fn policy(&self, host: &Domain) -> Result<Bytes, NoAnswer> {
        self.exchange_small(host, Errand::Other, || get(mta_sts::PATH), "text/plain", mta_sts::MAX_POLICY).await
    }

    /// Hands a report about mail to whoever asked for it (RFC 8460 §5.4): any 2xx takes it. Path and media type are the
    /// caller's to have checked.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn post_report(&self, host: &Domain, path: &str, media: &str, report: Vec<u8>) -> Result<(), NoAnswer> {
        let report = Bytes::from(report);
        let build = || {
            let request = Request::builder().method(Method::POST).uri(path).header(CONTENT_TYPE, media);
            request.body(Full::new(report.clone())).map_err(unwritable)
        };
        let shared = self.shared();
        let answered = timeout(shared.config.exchange_time, shared.exchange(host, Errand::Other, build)).await;
        let answered = answered.unwrap_or_else(|_| Err("no answer in time".to_owned().into()));
        let head = answered.map_err(unreached)?.response;
        if head.status().is_success() {
            return Ok(());
        }
        Err(refused(host, head.status(), head.headers()))
    }

    /// Posts to the repository of a domain, unless that pair is left alone.
    async fn post_to(
        &self,
        Repository { d, host }: Repository<'_>,
        path: &'static str,
        body: Vec<u8>,
        signers: &[Signer],
    ) -> Result<Bytes, NoAnswer> {
        let shared = self.shared();
        if let Some(left) = shared.suspensions.left(d, host, Instant::now()) {
            return Err(NoAnswer { retry_after: Some(left), ..none(left_alone(d, host)) });
        }
        let answer = self.post(host, Errand::Post, path, body, signers).await;
        match &answer {
            Ok(_) => shared.suspensions.worked(d, host, None),
            Err(no_answer) if no_answer.is_turned_away() => shared.turned_away(d, host, None),
            Err(_) => {}
        }
        answer
    }

    async fn post(
        &self,
        host: &Domain,
        errand: Errand,
        path: &'static str,
        body: Vec<u8>,
        signers: &[Signer],
    ) -> Result<Bytes, NoAnswer> {
        let body = Bytes::from(body);
        let build = || {
            let request = Request::builder().method(Method::POST).uri(path);
            let request = request.header(CONTENT_TYPE, JSON).body(Full::new(body.clone()));
            signed(request.map_err(unwritable)?, host, Some(&body), signers)
        };
        self.exchange_small(host, errand, build, JSON, MAX_BODY).await
    }

    async fn exchange_small(
        &self,
        host: &Domain,
        errand: Errand,
        build: impl Fn() -> Result<Request<Full<Bytes>>, String>,
        media: &str,
        limit: usize,
    ) -> Result<Bytes, NoAnswer> {
        let shared = self.shared();
        let whole = async {
            loop {
                let answered = shared.exchange(host, errand, &build).await.map_err(unreached)?;
                // An answer that hangs after the link was renewed is asked for again.
                if let Some(read) = shared.link.hold(shared.read_small(host, answered, media, limit)).await {
                    return read;
                }
            }
        };
        timeout(shared.config.exchange_time, whole).await.unwrap_or_else(|_| Err(none("no answer in time")))
    }
}

impl Shared {
    async fn read_small(
        &self,
        host: &Domain,
        answered: Answered,
        media: &str,
        limit: usize,
    ) -> Result<Bytes, NoAnswer> {
        let Answered { connection, response, .. } = answered;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(refused(host, head.status, &head.headers));
        }
        if !is_of_media(&head.headers, media) {
            return Err(none(format!("{host} does not answer with {media}")));
        }
        let body = Limited::new(body, limit).collect().await.map_err(|error| none(format!("{host}: {error}")))?;
        self.pool.put(host, connection);
        Ok(body.to_bytes())
    }
}

fn get(path: &str) -> Result<Request<Full<Bytes>>, String> {
    Request::builder().method(Method::GET).uri(path).body(Full::default()).map_err(unwritable)
}

/// Nothing that was not asked, nothing twice.
fn check_answers(
    asked: impl Iterator<Item = (ReferenceId, u16)>,
    said: impl Iterator<Item = (ReferenceId, u16)>,
) -> Result<(), NoAnswer> {
    let mut open: HashSet<_> = asked.collect();
    let mut said = said;
    if said.all(|pair| open.remove(&pair)) { Ok(()) } else { Err(none(NOT_ASKED)) }
}

fn is_of_media(headers: &HeaderMap, media: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(media))
}

fn malformed(error: &BodyError) -> NoAnswer {
    none(error.to_string())
}

pub(super) fn refused(host: &Domain, status: StatusCode, headers: &HeaderMap) -> NoAnswer {
    let status = status.as_u16();
    let refused = none(format!("{host} answers {status}"));
    NoAnswer { status: Some(status), retry_after: retry_after(headers), ..refused }
}

pub(super) fn unreached(broken: Broken) -> NoAnswer {
    NoAnswer { bad_tls: broken.is_tls, bad_certificate: broken.is_certificate, ..none(broken.text) }
}

pub(super) fn none(text: impl Into<String>) -> NoAnswer {
    NoAnswer { text: text.into(), status: None, retry_after: None, bad_tls: false, bad_certificate: false }
}
