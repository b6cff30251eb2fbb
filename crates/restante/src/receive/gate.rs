//! Judging mail of strangers: evidence from `net::authentication`, the decision from `policy`, here put together.
//!
//! Sessions ask at RCPT and at the end of content, the judgement of a reference between retrieval and claim. What came with
//! a reference on top is looked at here too: whose it is, whether it is this session's, and whether it came before.

use std::net::IpAddr;
use std::sync::Arc;

use mail::ledger::IndexState;
use mail::{Address, Domain, EnhancedStatus, QueueId, Recipient, Timestamp};
use net::authentication::content::{Content, ContentFault, ContentReader, OnTop};
use net::authentication::{Authenticator, ClientEvidence};
use net::discovery::Discovery;
use policy::budget::Prefix;
use policy::evidence::{Dmarc, ListKind, Spf, SpfVerdict, Verdict};
use policy::reputation::Standing;
use policy::tbr::{self, ByValue, TbrResult};
use policy::{Decision, Disposition, Evidence, Reason, Rules, SessionEvidence, decide, results};
use queue::remembered::Remembered;
use reference::judge::{judge_link, sent_by_value_to};
use reference::{Assurance, Chain, HopMode, Link, Session, SignatureVerdict};
use smtp::Reply;
use store::Store;
use tracing::info;

use super::refusal;
use crate::reports::Recorder;
use crate::reports::dmarc::DmarcResult;
use crate::reputation::Reputation;
use crate::runtime::{Custody, now};

/// Judges mail of strangers.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) authenticator: Authenticator,
    pub(crate) rules: Arc<Rules>,
    pub(crate) hostname: Domain,
    /// Whether anything is looked up.
    pub(crate) enabled: bool,
    /// How mail of others has fared here.
    pub(crate) reputation: Reputation,
    /// Hears what was found of mail in the name of other domains.
    pub(crate) found: Option<Recorder<DmarcResult>>,
}

/// What is said of a message that is taken.
pub(crate) struct Approved {
    /// Authentication-Results, to stand on top of it.
    pub(crate) results: String,
    /// What its ARC chain is.
    pub(crate) chain: Verdict,
    /// The decision and its ground, in a few words.
    pub(crate) verdict: String,
    /// The domain of From, where DMARC shows that the mail is its own.
    pub(crate) author: Option<Domain>,
}

/// A session, as far as it is judged.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub(crate) address: IpAddr,
    pub(crate) helo: &'a str,
    pub(crate) mail_from: Option<&'a Address>,
}

/// What keeps, and knows, the keys of domains and the references that came by value.
#[derive(Clone)]
pub(crate) struct Memory {
    pub(crate) discovery: Discovery,
    pub(crate) custody: Custody,
    pub(crate) store: Store,
}

impl Gate {
    /// What is known of a session before content. `client` is kept for the connection.
    pub(crate) async fn session(&self, sender: &Sender<'_>, client: &mut Option<ClientEvidence>) -> SessionEvidence {
        let known = client.take();
        let of_client = async {
            match known {
                Some(known) => known,
                None => self.authenticator.client(sender.address).await,
            }
        };
        let of_sender = self.authenticator.spf(sender.address, sender.helo, sender.mail_from, now());
        let (found, spf) = futures_util::future::join(of_client, of_sender).await;
        *client = Some(found.clone());
        let ClientEvidence { reverse, listings } = found;
        let reputation = spf.as_ref().and_then(|spf| self.score_of(spf));
        SessionEvidence { client: sender.address, reverse, listings, spf, reputation }
    }

    /// The score of the sender's domain, where SPF shows that it is not somebody else's name.
    fn score_of(&self, spf: &Spf) -> Option<i32> {
        let domain: Domain = spf.domain.parse().ok().filter(|_| spf.verdict == SpfVerdict::Pass)?;
        Some(self.reputation.score(&domain, now()))
    }

    /// Is mail of this domain, which has signed for it, so unwelcome that none is taken?
    ///
    /// # Errors
    /// Why.
    pub(crate) fn welcome(&self, domain: &Domain) -> Result<i32, Reason> {
        let score = self.reputation.score(domain, now());
        match self.rules.least_reputation {
            Some(least) if score < least => Err(Reason::Reputation(score)),
            _ => Ok(score),
        }
    }

    /// Is nothing good known of this domain?
    pub(crate) fn is_stranger(&self, domain: &Domain) -> bool {
        self.reputation.standing(domain, now()) <= Standing::Stranger
    }

    /// Is nobody known who vouches for this sender: neither a list for the client, nor SPF for a domain that is known here?
    pub(crate) fn is_strange(&self, session: &SessionEvidence) -> bool {
        let is_listed = session.listings.iter().any(|listing| listing.kind == ListKind::Allow);
        let spf = session.spf.as_ref().filter(|spf| spf.verdict == SpfVerdict::Pass);
        let is_known = spf.and_then(|spf| spf.domain.parse().ok()).is_some_and(|domain| !self.is_stranger(&domain));
        !is_listed && !is_known
    }

    /// The decision on the client of a reference that has waited: it may stand on a list by now.
    pub(crate) async fn look_again(&self, client: IpAddr) -> Result<(), Reason> {
        let ClientEvidence { reverse, listings } = self.authenticator.client(client).await;
        let session = SessionEvidence { client, reverse, listings, spf: None, reputation: None };
        let decision = decide(&Evidence { session, content: None, tbr: Vec::new() }, &self.rules);
        if decision.is_refusal() { Err(decision.reason) } else { Ok(()) }
    }

    /// The decision on a session, before content.
    ///
    /// # Errors
    /// The reply to RCPT.
    pub(crate) fn admit(&self, session: &SessionEvidence) -> Result<(), Reply> {
        let evidence = Evidence { session: session.clone(), content: None, tbr: Vec::new() };
        self.act(&evidence, "session").map(|_| ())
    }

    /// The decision on a message as a whole, which is reported.
    ///
    /// # Errors
    /// The reply to its content.
    pub(crate) async fn judge(&self, mut evidence: Evidence, content: &Content) -> Result<Approved, Reply> {
        self.examine(&mut evidence, content).await;
        self.report(&evidence);
        self.conclude(&evidence)
    }

    /// Adds what is found of the content.
    pub(crate) async fn examine(&self, evidence: &mut Evidence, content: &Content) {
        evidence.content = Some(self.authenticator.judge(content, evidence.session.spf.as_ref()).await);
    }

    /// The decision on a message whose content was examined.
    ///
    /// # Errors
    /// The reply to its content.
    pub(crate) fn conclude(&self, evidence: &Evidence) -> Result<Approved, Reply> {
        let decision = self.act(evidence, "content")?;
        let chain = evidence.content.as_ref().map(|content| content.arc.verdict).unwrap_or_default();
        let dmarc = evidence.content.as_ref().map(|content| &content.dmarc);
        let verdict = verdict(&decision, dmarc);
        let dmarc = dmarc.filter(|dmarc| dmarc.verdict == Verdict::Pass);
        let author = dmarc.and_then(|dmarc| dmarc.domain.parse().ok());
        Ok(Approved { results: results::field(&self.hostname, evidence, &decision), chain, verdict, author })
    }

    /// Notes for the domain of From what was found, and what becomes of it: once for each message.
    pub(crate) fn report(&self, evidence: &Evidence) {
        let Some(recorder) = &self.found else { return };
        DmarcResult::of(evidence, &decide(evidence, &self.rules))
            .into_iter()
            .for_each(|result| recorder.record(result));
    }

    fn act(&self, evidence: &Evidence, stage: &str) -> Result<Decision, Reply> {
        let decision = decide(evidence, &self.rules);
        let (client, reason) = (evidence.session.client, decision.reason.name());
        if decision.is_refusal() {
            let (code, status, text) = results::reply(&decision);
            info!(%client, stage, reason, %status, "refused by policy");
            return Err(refusal(code, status, text));
        }
        if decision.reason != policy::Reason::Clean {
            info!(%client, stage, reason, "taken by policy");
        }
        Ok(decision)
    }

    /// Begins to read content.
    pub(crate) fn content(&self) -> ContentReader {
        self.authenticator.content()
    }

    /// Authentication-Results where nothing was looked up: only how a message came by reference.
    pub(crate) fn bare_results(&self, tbr: Vec<TbrResult>, client: IpAddr) -> String {
        let session = SessionEvidence {
            client,
            reverse: policy::evidence::Reverse::default(),
            listings: Vec::new(),
            spf: None,
            reputation: None,
        };
        let evidence = Evidence { session, content: None, tbr };
        results::field(&self.hostname, &evidence, &decide(&evidence, &Rules::default()))
    }
}

/// Such as `taken: clean, dmarc=pass`.
fn verdict(decision: &Decision, dmarc: Option<&Dmarc>) -> String {
    let done = if decision.disposition == Disposition::Mark { "marked" } else { "taken" };
    let dmarc = dmarc.map(|dmarc| format!(", dmarc={}", dmarc.verdict)).unwrap_or_default();
    format!("{done}: {}{dmarc}", decision.reason.name())
}

/// The reply to content that cannot be read.
pub(crate) fn unreadable(fault: ContentFault) -> Reply {
    match fault {
        ContentFault::LongHeader => refusal(552, EnhancedStatus::permanent(3, 4), fault.to_string()),
        ContentFault::Busy => refusal(452, EnhancedStatus::temporary(3, 1), fault.to_string()),
    }
}

impl Memory {
    /// What the origin's signature is, under the hops of a verified offer: whoever delegated only has vouched for it.
    pub(crate) async fn origin(chain: &Chain, at: Timestamp, discovery: &Discovery) -> SignatureVerdict {
        if chain.only_delegated() {
            return SignatureVerdict::Valid;
        }
        signature(Link::Reference(chain.reference()), at, discovery).await.0
    }

    /// What a reference on top of content says that came by value (TBR §9); and what is to be remembered with the message of this
    /// name if it is accepted, where it is new. It came from this network.
    pub(crate) async fn by_value(
        &self,
        on_top: &OnTop,
        queue_id: &QueueId,
        session: &Session<'_>,
        network: Prefix,
        trusted: &[Domain],
    ) -> (Vec<TbrResult>, Option<Remembered>) {
        let (chain, at) = (&on_top.chain, now());
        let mut facts = ByValue {
            chain,
            object_intact: on_top.object_intact,
            matches_session: sent_by_value_to(chain, session, at),
            accepted_before: true,
            topmost: SignatureVerdict::Unknown,
            origin: SignatureVerdict::Unknown,
            assurance: None,
            trusted,
        };
        if on_top.object_intact {
            let discovery = self.discovery.for_stranger(Some(network));
            facts.origin = signature(Link::Reference(chain.reference()), at, &discovery).await.0;
            let topmost = chain.topmost();
            if matches!(topmost.mode(), Some(HopMode::Value(_))) {
                let discovery = if trusted.contains(topmost.domain()) { &self.discovery } else { &discovery };
                (facts.topmost, facts.assurance) = signature(topmost, at, discovery).await;
            }
        }
        let mut once = None;
        if facts.matches_session && facts.topmost == SignatureVerdict::Valid {
            once = self.if_new(memory_of(chain, queue_id, session.recipients)).await;
            facts.accepted_before = once.is_none();
        }
        (tbr::by_value(&facts), once)
    }

    /// Gives it back if nothing is known of it. Whether that is still so is for the commit to say that accepts the message.
    async fn if_new(&self, once: Remembered) -> Option<Remembered> {
        let known = self.store.load(vec![once.key()]).await;
        known.is_ok_and(|rows| rows.is_empty()).then_some(once)
    }
}

async fn signature(link: Link<'_>, at: Timestamp, discovery: &Discovery) -> (SignatureVerdict, Option<Assurance>) {
    match discovery.find(link.domain(), link.selector(), at).await {
        Ok(found) => (judge_link(link, found.facts.key(link.selector())), Some(found.assurance)),
        Err(_) => (SignatureVerdict::Unknown, None),
    }
}

/// The topmost field as accepted, until it and the skew of clocks have expired: 30 days at most, or it would not have matched its
/// session. A hop by value covers one recipient, so its domain and id are enough.
fn memory_of(chain: &Chain, queue_id: &QueueId, recipients: &[Address]) -> Remembered {
    let (topmost, stated) = (chain.topmost(), chain.reference().statement());
    let refused = |address: &Address| (Recipient::plain(address.clone()), IndexState::Refused);
    Remembered {
        queue_id: queue_id.clone(),
        d: topmost.domain().clone(),
        i: topmost.id(),
        to: topmost.to().clone(),
        fingerprint: mail::base64url::encode(&topmost.signature_hash()),
        xuid: stated.xuid,
        size: stated.size,
        until: topmost.expires(),
        mail_from: topmost.mail_from().cloned(),
        recipients: recipients.iter().map(refused).collect(),
    }
}
