//! Whose request is it? Signatures of a request, verified as far as some grant in it needs them (TBR §6.2).
//!
//! The ledger is asked first: keys are looked up only of domains that a grant in the request is bound to, so that
//! nobody without a grant makes this server ask anybody anything. Whether a grant is then good is the queue's word.

use std::time::Duration;

use futures_util::future::join_all;
use hyper::header::{HeaderMap, HeaderName};
use mail::{Domain, Grant, Holder, Timestamp};
use reference::message_signature::{self, Presented, Request, SignedBy};

use super::replays::{Freshness, Replays};
use super::{Busy, Repository};

const SIGNATURE_INPUT: HeaderName = HeaderName::from_static(message_signature::SIGNATURE_INPUT);
const SIGNATURE: HeaderName = HeaderName::from_static(message_signature::SIGNATURE);
const CONTENT_DIGEST: HeaderName = HeaderName::from_static(message_signature::CONTENT_DIGEST);

/// What of a request's header is signed, or says who signed.
pub(super) struct Head<'a> {
    pub(super) method: &'a str,
    /// By the `Host` field; without one no signature counts.
    pub(super) host: Option<&'a Domain>,
    pub(super) path_and_query: &'a str,
    pub(super) headers: &'a HeaderMap,
}

/// What beside method and target a site's signature covers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Covered<'a> {
    Nothing,
    /// A digest of the body, which is still to be compared with it.
    Digest(&'a str),
    /// Where a part begins.
    Offset(u64),
}

/// What came of the signatures of a request.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Those that verify.
    pub(super) signed: SignedBy,
    /// One at least could not be judged now: who finds nothing should come again then.
    pub(super) put_off: Option<Busy>,
}

/// What came of one signature.
enum One {
    Good(Holder),
    Bad,
    PutOff(Busy),
}

impl Head<'_> {
    /// Verifies what these grants need; `body` is that of a POST.
    ///
    /// # Errors
    /// The ledger cannot be asked now.
    pub(super) async fn verify<R: Repository>(
        &self,
        body: Option<&[u8]>,
        grants: Vec<Grant>,
        repository: &R,
        replays: &Replays,
        now: Timestamp,
    ) -> Result<Verdict, Busy> {
        let digest = body.map(message_signature::content_digest);
        let Some(host) = self.host else { return Ok(Verdict::default()) };
        let request = Request {
            method: self.method,
            host,
            path_and_query: self.path_and_query,
            content_digest: digest.as_deref(),
            upload_offset: None,
        };
        let presented = self.presented(&request, now);
        if presented.is_empty() {
            return Ok(Verdict::default());
        }
        let domains = repository.binding(grants).await?;
        let (needed, others): (Vec<_>, Vec<_>) = presented.iter().partition(|one| domains.contains(&one.id.domain));
        if let (true, Some(one)) = (needed.is_empty(), others.first()) {
            // A grant that does not exist costs as much time as one with a wrong signature.
            one.verify_in_vain(&request);
        }
        let judged = join_all(needed.into_iter().map(|one| judge(one, &request, repository, replays, now))).await;
        let mut verdict = Verdict::default();
        for one in judged {
            match one {
                One::Good(holder) => verdict.signed.add(holder, host.clone()),
                One::Bad => {}
                One::PutOff(busy) => verdict.put_off = Some(busy),
            }
        }
        Ok(verdict)
    }

    /// The site that has signed the request to this very host. Keys are looked up of sites only.
    pub(super) async fn site<R: Repository>(
        &self,
        covered: Covered<'_>,
        repository: &R,
        replays: &Replays,
        now: Timestamp,
    ) -> (Option<Holder>, Option<Busy>) {
        let Some(host) = self.host else { return (None, None) };
        let (content_digest, upload_offset) = match covered {
            Covered::Nothing => (None, None),
            Covered::Digest(digest) => (Some(digest), None),
            Covered::Offset(offset) => (None, Some(offset)),
        };
        let (method, path_and_query) = (self.method, self.path_and_query);
        let request = Request { method, host, path_and_query, content_digest, upload_offset };
        let mut put_off = None;
        for one in self.presented(&request, now) {
            let Some(site) = repository.site(&one.id, host) else { continue };
            match judge(&one, &request, repository, replays, now).await {
                // Whose a key is may change while it is asked for.
                One::Good(holder) if holder == site => return (Some(site), None),
                One::Good(_) | One::Bad => {}
                One::PutOff(busy) => put_off = Some(busy),
            }
        }
        (None, put_off)
    }

    /// Signatures of the right form and time for this request; none where the fields are malformed or the digest is
    /// not that of the body.
    fn presented(&self, request: &Request<'_>, now: Timestamp) -> Vec<Presented> {
        let said = self.field(&CONTENT_DIGEST);
        if request.content_digest.is_some() && said.as_deref() != request.content_digest {
            return Vec::new();
        }
        let (Some(input), Some(signature)) = (self.field(&SIGNATURE_INPUT), self.field(&SIGNATURE)) else {
            return Vec::new();
        };
        let mut presented = message_signature::parse(&input, &signature).unwrap_or_default();
        presented.retain(|one| one.check(request, now).is_ok());
        presented
    }

    /// The digest that the request claims to have.
    pub(super) fn digest(&self) -> Option<String> {
        self.field(&CONTENT_DIGEST)
    }

    /// A field's value, several lines joined (RFC 9110 §5.3).
    pub(super) fn field(&self, name: &HeaderName) -> Option<String> {
        let lines: Option<Vec<&str>> = self.headers.get_all(name).iter().map(|line| line.to_str().ok()).collect();
        lines.filter(|lines| !lines.is_empty()).map(|lines| lines.join(", "))
    }
}

async fn judge<R: Repository>(
    one: &Presented,
    request: &Request<'_>,
    repository: &R,
    replays: &Replays,
    now: Timestamp,
) -> One {
    let (holder, key) = match repository.key(&one.id).await {
        Ok(found) => found,
        Err(busy) => return One::PutOff(busy),
    };
    if one.verify(request, &key).is_err() {
        return One::Bad;
    }
    match replays.take(one, now) {
        Freshness::Fresh => One::Good(holder),
        Freshness::Repeated => One::Bad,
        Freshness::Unknown => One::PutOff(Busy { retry_after: Duration::from_secs(1) }),
    }
}
