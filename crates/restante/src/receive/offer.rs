//! Judging an offer: from the TBR line and its block to a row of the ledger, in the order of TBR §3.5.
//!
//! Syntax and session come first and cost nothing; then the keys of the signing domain (cached), then the signature,
//! then consent of the host. Only a verified reference reaches the queue, which commits it before anybody reads 250.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use mail::ledger::{Inbound, InboundRecipient, IndexState, Key, Owner, Phase, Target, note};
use mail::trace::Reception;
use mail::{Address, Domain, EnhancedStatus, MailParams, QueueId, Recipient, Timestamp};
use net::discovery::{Discovery, Failure, Found};
use policy::budget::{Over, Prefix, Scope};
use policy::tbr::{self, TbrResult};
use policy::{Evidence, Reason, SessionEvidence};
use queue::port::{OfferAnswer, Reply, Request};
use reference::codes::{self, Code};
use reference::verify::{self, Matched, Outcome, Parsed, Refusal, Verified};
use reference::{Assurance, DomainFacts, SignatureVerdict, Uri};
use store::{Purpose, Store};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::{Caller, Exchangers, Gate, Left, LiveConfig, Memory};
use crate::budgets::{self, Asked, Budgets};
use crate::fates;
use crate::request_keys::RequestKeys;
use crate::runtime::now;

/// The transaction in which an offer stands.
pub(crate) struct Transaction<'a> {
    /// Drawn by the session.
    pub(crate) queue_id: QueueId,
    /// Reverse-path.
    pub(crate) mail_from: Option<Address>,
    /// MAIL parameters.
    pub(crate) params: MailParams,
    /// Every RCPT in the order sent; those refused have no targets.
    pub(crate) recipients: Vec<(Recipient, Vec<Target>)>,
    /// What the client called itself.
    pub(crate) helo: &'a str,
    /// Its address; nothing where a custodian was asked.
    pub(crate) client: Option<IpAddr>,
    /// The protocol keyword of RFC 3848.
    pub(crate) with: &'static str,
    /// What milters will be told of the client, where they are asked once the object is here.
    pub(crate) caller: Option<Caller>,
    /// What is known of the session, where it is judged.
    pub(crate) evidence: Option<SessionEvidence>,
    /// There is no session: a custodian was asked what is pending, and these are the trace fields that it added.
    pub(crate) pending: Option<String>,
    /// And it was carried here: by whom.
    pub(crate) carrier: Option<&'a Carrier>,
    /// The client may relay: what it sends is not judged.
    pub(crate) is_trusted: bool,
}

/// Whose bundle an offer stands in: what the configuration knows of the domain that signs. There may be nobody to ask.
pub(crate) struct Carrier(pub(crate) DomainFacts);

impl Carrier {
    /// As sure as the configuration of this server is.
    fn found(&self) -> Found {
        Found { facts: Arc::new(self.0.clone()), assurance: Assurance::Webpki }
    }
}

/// When the time ends in which an offer is verified: one for all that is looked up for it (TBR §3.5). What is known already takes none.
#[derive(Debug, Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget)
    }

    /// The answer, if it is there in time.
    async fn within<T>(self, look_up: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.0, look_up).await.ok()
    }

    /// The same for what discovery is asked of this domain: the look-up goes on behind it.
    async fn keep<T>(self, domain: &Domain, look_up: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.within(look_up).await.unwrap_or_else(|| Err(Failure::StillLooking(domain.clone())))
    }
}

/// How long the object may take that is on its way in the same bundle, before it is fetched.
const CARRIED_WAIT: Duration = Duration::from_secs(60);

/// A reply: code, enhanced code, text.
pub(crate) type Verdict = (u16, EnhancedStatus, String);

/// What judging an offer needs.
pub(crate) struct OfferDesk {
    /// The queue, keys and consent.
    pub(crate) memory: Memory,
    /// This server's name.
    pub(crate) hostname: Domain,
    /// For the largest object.
    pub(crate) config: LiveConfig,
    /// Is the mail of this domain ours?
    pub(crate) is_ours: Arc<dyn Fn(&Domain) -> bool + Send + Sync>,
    /// The keys of our domains that are here.
    pub(crate) keys: RequestKeys,
    /// Other exchangers of our domains, which have the keys that are not here.
    pub(crate) exchangers: Exchangers,
    /// Writes results.
    pub(crate) gate: Gate,
    /// What senders may take.
    pub(crate) budgets: Budgets,
    /// Has it room?
    pub(crate) store: Store,
}

/// What an offer is to become.
enum Judged {
    /// A row of ours.
    Verified(Box<Verified>),
    /// Another exchanger's: the relay to it.
    PassOn(String),
}

impl OfferDesk {
    /// Judges an offer; the reply is the one to its lone dot.
    pub(crate) async fn judge(&self, transaction: Transaction<'_>, line: &str, block: &[u8]) -> Verdict {
        let (id, from) = (transaction.queue_id.clone(), fates::sender(transaction.mail_from.as_ref()).to_owned());
        let recipients = transaction.recipients.iter().filter(|(_, targets)| !targets.is_empty()).count();
        let deadline = Deadline::after(self.config.get().transfer.verification_budget);
        let verdict = match self.verify(&transaction, line, block, deadline).await {
            Ok(Judged::Verified(verified)) => self.commit(transaction, &verified, deadline).await,
            Ok(Judged::PassOn(relay)) => self.exchangers.pass_on(&relay, &transaction, line, block).await,
            Err(verdict) => verdict,
        };
        let (code, status, text) = &verdict;
        info!(%id, from, recipients, code, %status, text, "offer judged");
        verdict
    }

    async fn verify(
        &self,
        transaction: &Transaction<'_>,
        line: &str,
        block: &[u8],
        deadline: Deadline,
    ) -> Result<Judged, Verdict> {
        let at = now();
        let matched = self.match_session(transaction, line, block, at).map_err(refuse)?;
        let asked = self.asked(transaction, &matched);
        self.budgets.arrives(&asked).map_err(|over| over_budget(&asked, over))?;
        if let Some(relay) = self.check_own_key(matched.to(), at, deadline).await? {
            return Ok(Judged::PassOn(relay));
        }
        self.check_room(&matched)?;
        let outcome = match transaction.carrier {
            Some(carrier) => {
                check_signatures(matched, &[(carrier.0.domain.clone(), carrier.found())]).map_err(refuse)?
            }
            None => self.check_signatures(matched, &asked, at, deadline).await?,
        };
        self.budgets.is_verified(&asked).map_err(|over| over_budget(&asked, over))?;
        if !asked.is_own {
            self.gate.welcome(&asked.domain).map_err(|reason| unwelcome(&asked, &reason))?;
        }
        let discovery = self.discovery(&asked.domain, asked.network);
        let verified = authorise_host(outcome, transaction.carrier, &discovery, at, deadline).await?;
        Ok(Judged::Verified(Box::new(verified)))
    }

    /// What an offer asks for, of which nothing is to be believed yet.
    fn asked(&self, transaction: &Transaction<'_>, matched: &Matched) -> Asked {
        Asked {
            key: Key::Inbound(matched.id(), matched.signer().clone()),
            domain: matched.signer().clone(),
            network: network(transaction),
            octets: matched.size(),
            is_own: transaction.pending.is_some() || (self.is_ours)(matched.signer()),
        }
    }

    /// Whom this domain is looked up for: names of strangers keep those of others waiting as little as may be.
    fn discovery(&self, domain: &Domain, network: Option<Prefix>) -> Discovery {
        match network {
            Some(_) if !(self.is_ours)(domain) && self.gate.is_stranger(domain) => {
                self.memory.discovery.for_stranger(network)
            }
            _ => self.memory.discovery.clone(),
        }
    }

    /// Looks each key up and checks what it signed, before the next one is looked up: whoever makes up a long chain causes one
    /// look-up. What is forged counts against where it came from.
    async fn check_signatures(
        &self,
        matched: Matched,
        asked: &Asked,
        at: Timestamp,
        deadline: Deadline,
    ) -> Result<Outcome, Verdict> {
        let forged = |refusal| {
            self.budgets.is_forged(asked);
            refuse(refusal)
        };
        let mut verifying = matched.begin();
        while let Some((domain, selector)) = verifying.wants() {
            let found =
                deadline.keep(&domain, self.discovery(&domain, asked.network).find(&domain, &selector, at)).await;
            if matches!(found, Err(Failure::NotPublished(_) | Failure::Unusable { .. })) {
                self.budgets.is_forged(asked);
            }
            let found = found.map_err(look_up_failed)?;
            verifying.check(&found.facts, found.assurance).map_err(forged)?;
        }
        verifying.finish().map_err(forged)
    }

    /// Everything that costs no look-up.
    fn match_session(&self, t: &Transaction<'_>, line: &str, block: &[u8], at: Timestamp) -> Result<Matched, Refusal> {
        let recipients: Vec<Address> = t.recipients.iter().map(|(r, _)| r.address.clone()).collect();
        let session = verify::Session { mail_from: t.mail_from.as_ref(), recipients: &recipients };
        let is_ours = |domain: &Domain| (self.is_ours)(domain);
        let receiver = verify::Receiver { now: at, max_size: self.config.get().limits.message_size, is_ours: &is_ours };
        let parsed = Parsed::new(line, block)?;
        match t.pending {
            None => parsed.match_session(&session, &receiver),
            Some(_) => parsed.match_pending(&session, &receiver),
        }
    }

    /// What could not be stored is not accepted. Its room is taken only when it comes, from what new mail does not get.
    fn check_room(&self, matched: &Matched) -> Result<(), Verdict> {
        let owner = Owner { account: None, domain: Some(matched.to().clone()) };
        let room = self.store.reserve(owner, Purpose::New, matched.size());
        room.map(drop).map_err(|full| (codes::FULL.reply, codes::FULL.status, full.to_string()))
    }

    /// A grant that is bound to our domain's keys could not be used here without one (TBR §6.2). Says to which relay such an
    /// offer is passed on.
    async fn check_own_key(&self, to: &Domain, at: Timestamp, deadline: Deadline) -> Result<Option<String>, Verdict> {
        if self.keys.of(to).is_some() {
            return Ok(None);
        }
        if let Some(relay) = self.config.get().domain(to).and_then(|domain| domain.pass_offers_to.clone()) {
            return Ok(Some(relay));
        }
        let (code, budget) = (&codes::KEY_NOT_HERE, self.config.get().transfer.verification_budget);
        match deadline.keep(to, self.memory.discovery.publishes(to, at, budget)).await {
            Ok(None) => Ok(None),
            Ok(Some(_)) => Err((code.reply, code.status, code.text.to_owned())),
            Err(failure) => Err(look_up_failed(failure)),
        }
    }

    async fn commit(&self, transaction: Transaction<'_>, verified: &Verified, deadline: Deadline) -> Verdict {
        let queue_id = transaction.queue_id.clone();
        let results = self.results(verified, network(&transaction), deadline).await;
        let inbound = self.row(transaction, verified, results);
        match self.memory.custody.ask(Request::Offer(Box::new(inbound))).await {
            Reply::Offer(OfferAnswer::Pending(id) | OfferAnswer::StillPending(id)) => accept(&id, &codes::ACCEPTED),
            Reply::Offer(OfferAnswer::Claimed(id)) => accept(&id, &codes::RETRIEVED),
            Reply::Offer(OfferAnswer::Done(id)) => accept(&id, &codes::DONE),
            Reply::Offer(OfferAnswer::Refused(id)) => {
                (codes::REFUSED.reply, codes::REFUSED.status, format!("{id} refused after retrieval"))
            }
            Reply::Offer(OfferAnswer::Mismatch) => refuse(Refusal::IdReused { domain: verified.signer().clone() }),
            _ => (codes::FULL.reply, codes::FULL.status, format!("{queue_id} the queue cannot take it now")),
        }
    }

    async fn results(&self, verified: &Verified, network: Option<Prefix>, deadline: Deadline) -> Vec<TbrResult> {
        let chain = verified.block().chain();
        if verified.is_by_value_before() {
            return vec![TbrResult::by_value_before(verified.signer())];
        }
        // Its key may not be had in time: the reference is good without it (TBR §7.2).
        let discovery = self.discovery(&chain.reference().statement().domain, network);
        let origin = deadline.within(Memory::origin(chain, now(), &discovery)).await;
        let origin = origin.unwrap_or(SignatureVerdict::Unknown);
        tbr::by_reference(chain, verified.assurance(), origin, &self.gate.rules.trusted_sealers)
    }

    fn row(&self, mut transaction: Transaction<'_>, verified: &Verified, tbr: Vec<TbrResult>) -> Inbound {
        let (uri, topmost): (&Uri, _) = (verified.uri(), verified.topmost());
        let statement = verified.reference().statement();
        let accepted = now();
        let mut trace = self.received(&transaction, accepted);
        // Nobody is there to be told of a refused recipient: its refusal travels as a receipt.
        let refused = if transaction.pending.is_some() { IndexState::Open } else { IndexState::Refused };
        trace.push_str(transaction.pending.as_deref().unwrap_or_default());
        let score = self.gate.welcome(verified.signer()).ok();
        let evidence = transaction.evidence.take().map(|session| {
            let session = SessionEvidence { reputation: score, ..session };
            Evidence { session, content: None, tbr: tbr.clone() }
        });
        if evidence.is_none() {
            let client = transaction.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            trace.insert_str(0, &self.gate.bare_results(tbr, client));
        }
        let left = Left { evidence, caller: transaction.caller.take() };
        let is_judged = left.evidence.is_some() || left.caller.is_some();
        // Plain data: it always has a text.
        let evidence = is_judged.then(|| serde_json::to_string(&left).ok()).flatten();
        let how = transaction.carrier.map_or_else(|| verified.assurance().to_string(), |_| "configured".to_owned());
        let mut steps = Vec::new();
        note(&mut steps, accepted, "verified", format!("signed by {} ({how})", signers(verified)), None);
        let not_before = self.not_before(&transaction, verified, accepted);
        let recipients = transaction.recipients.into_iter().map(|(recipient, targets)| {
            let state = if targets.is_empty() { refused.clone() } else { IndexState::Open };
            InboundRecipient { recipient, targets, outcomes: Vec::new(), state }
        });
        Inbound {
            recipients: recipients.collect(),
            queue_id: transaction.queue_id,
            d: verified.signer().clone(),
            i: topmost.id(),
            to: topmost.to().clone(),
            fingerprint: mail::base64url::encode(verified.idempotence_key().as_bytes()),
            uri: uri.reveal(),
            grant: uri.grant.clone(),
            host: uri.host.clone(),
            block: verified.block().as_str().to_owned(),
            xuid: statement.xuid,
            size: statement.size,
            expires: topmost.expires(),
            mail_from: transaction.mail_from,
            params: transaction.params,
            trace,
            seal: String::new(),
            accepted,
            client: transaction.client.filter(|_| !transaction.is_trusted),
            not_before,
            phase: Phase::Waiting,
            hops: Vec::new(),
            object: None,
            facts: None,
            carried: false,
            evidence,
            refusal: None,
            legs: 0,
            attempts: 0,
            next_attempt: accepted,
            unheard_since: None,
            steps,
        }
    }

    /// Until when the retrieval of a stranger's reference waits, or of one whose object is being carried here; never so long that its end could come first.
    fn not_before(&self, transaction: &Transaction<'_>, verified: &Verified, at: Timestamp) -> Option<Timestamp> {
        let delay = self.config.get().policy.stranger_delay;
        if transaction.carrier.is_some() {
            return Some(at.after(CARRIED_WAIT));
        }
        let waits = !delay.is_zero() && !transaction.is_trusted && self.gate.is_stranger(verified.signer());
        waits.then(|| at.after(delay.min(verified.topmost().expires().since(at) / 2)))
    }

    /// Received, to stand above the block.
    fn received(&self, transaction: &Transaction<'_>, at: Timestamp) -> String {
        let only_recipient = match transaction.recipients.as_slice() {
            [(recipient, _)] => Some(&recipient.address),
            _ => None,
        };
        let reception = Reception {
            helo: transaction.helo,
            client: transaction.client,
            by: self.hostname.as_str(),
            with: transaction.with,
            id: &transaction.queue_id,
            only_recipient,
            at,
        };
        reception.field()
    }
}

/// Where an offer comes from; nothing for clients that may relay, and where a custodian was asked.
fn network(transaction: &Transaction<'_>) -> Option<Prefix> {
    transaction.client.and_then(|client| budgets::network(client, transaction.is_trusted))
}

fn unwelcome(asked: &Asked, reason: &Reason) -> Verdict {
    info!(domain = %asked.domain, reason = reason.name(), "refused by policy");
    (codes::REFUSED.reply, codes::REFUSED.status, reason.to_string())
}

fn over_budget(asked: &Asked, over: Over) -> Verdict {
    let network = asked.network.map(|network| network.to_string()).unwrap_or_default();
    info!(domain = %asked.domain, network, reason = over.name(), "over budget");
    let code = if over.scope == Scope::All { &codes::FULL } else { &codes::TOO_MANY_PENDING };
    (code.reply, code.status, over.to_string())
}

/// Which domains vouch for it, and with which keys: `b.example with key k1 over a.example with key k1`.
fn signers(verified: &Verified) -> String {
    let keys = verified.keys().into_iter().map(|(domain, selector)| format!("{domain} with key {selector}"));
    keys.collect::<Vec<_>>().join(" over ")
}

fn check_signatures(matched: Matched, known: &[(Domain, Found)]) -> Result<Outcome, Refusal> {
    matched.verify_with(&|domain| {
        let (_, found) = known.iter().find(|(known, _)| known == domain)?;
        Some((&*found.facts, found.assurance))
    })
}

async fn authorise_host(
    outcome: Outcome,
    carrier: Option<&Carrier>,
    discovery: &Discovery,
    at: Timestamp,
    deadline: Deadline,
) -> Result<Verified, Verdict> {
    let consent = match outcome {
        Outcome::Verified(verified) => return Ok(verified),
        Outcome::NeedsConsent(consent) => consent,
    };
    if carrier.is_some() {
        // It is the only host among the facts: the custodian of the configuration.
        return consent.answer(true).map_err(refuse);
    }
    let consents = match consent.name() {
        Some(name) => deadline.keep(&name, discovery.consents(&name, at)).await.map_err(look_up_failed)?,
        None => false,
    };
    consent.answer(consents).map_err(refuse)
}

fn refuse(refusal: Refusal) -> Verdict {
    refusal.reply()
}

fn accept(id: &QueueId, code: &Code) -> Verdict {
    (code.reply, code.status, format!("{id} {}", code.text))
}

fn look_up_failed(failure: Failure) -> Verdict {
    let code = match &failure {
        Failure::NotPublished(_) | Failure::Unusable { .. } | Failure::Bogus { lasting: true, .. } => {
            &codes::NO_ASSURANCE
        }
        Failure::Bogus { lasting: false, .. } => &codes::NO_ASSURANCE_NOW,
        Failure::Temporary { .. } => &codes::LOOKUP_FAILED,
        Failure::StillLooking(_) => &codes::VERIFYING,
    };
    (code.reply, code.status, failure.to_string())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn everything_that_is_looked_up_for_an_offer_shares_one_deadline() {
        let (begun, budget) = (Instant::now(), Duration::from_millis(200));
        let (deadline, name) = (Deadline::after(budget), Domain::parse("slow.example").unwrap());
        let one_after_the_other = async {
            for _ in 0..5 {
                let never = pending::<Result<(), Failure>>();
                assert_eq!(deadline.keep(&name, never).await, Err(Failure::StillLooking(name.clone())));
            }
            assert_eq!(deadline.keep(&name, ready(Ok(7))).await, Ok(7), "what is known takes no time");
        };
        tokio::time::timeout(Duration::from_secs(60), one_after_the_other).await.unwrap();
        assert!(begun.elapsed() < 3 * budget, "{:?}", begun.elapsed());
    }
}
