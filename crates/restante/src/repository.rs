//! The repository of the domains served here: HTTP requests become questions to the queue, objects come from the store.
//!
//! HTTP itself and ranges are `net`'s; who may fetch, claim and report is the queue's.

mod pending;
mod seats;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use mail::ledger::{Coding, ObjectRef, Outcome};
use mail::{Domain, Grant, Holder, Timestamp, Xuid};
use net::discovery::Discovery;
use net::repository::{Busy, Chunks, Located, NotTaken, Part, Repository, Uploaded};
use queue::port::{self, ClaimAnswer, Reply, Request};
use reference::body::Revision1;
use reference::bundle::MailList;
use reference::claims::{
    AnsweredClaim, ClaimsAnswer, ClaimsRequest, IndexAnswer, ReceiptsAnswer, ReceiptsRequest, RecordedReceipt,
    WireOutcome, Word,
};
use reference::delegate::{DelegateAnswer, DelegateRequest};
use reference::judge::judge_link;
use reference::message_signature::{KeyId, SignedBy};
use reference::pending::{Cursor, PendingList};
use reference::upload::MailAnswer;
use reference::{DomainFacts, Hop, KeyRecord, Link, SignatureVerdict};
use store::Store;
use tracing::{info, warn};

use crate::config::Config;
use crate::live::Live;
use crate::receive::LiveConfig;
use crate::runtime::{Custody, now};
use crate::settings::KEY_WINDOW;
use crate::uploads::Uploads;
pub(crate) use pending::{arguments, carried_offers};
use seats::{Full, Seat, Seats};

/// What a repository that has too much to do asks of its peers.
const COME_AGAIN: Busy = Busy { retry_after: Duration::from_secs(30) };
/// And of one that signs by a key that its domain does not publish: by then the domain may be asked again.
const LATER: Busy = Busy { retry_after: Duration::from_secs(300) };

/// How long a delegation waits to know whether the next domain has keys.
const KEY_PATIENCE: Duration = Duration::from_secs(5);

/// Facts of the domains that sign here, replaced as a whole on reload.
pub(crate) type Facts = Live<HashMap<Domain, DomainFacts>>;

/// MTA-STS policies of the domains that publish one, likewise.
pub(crate) type Policies = Live<HashMap<Domain, String>>;

/// Answers for the domains served here.
pub(crate) struct LocalRepository {
    custody: Custody,
    store: Store,
    facts: Facts,
    policies: Policies,
    seats: Seats,
    /// For the keys of recipient domains.
    discovery: Discovery,
    /// For the sites whose custodian this server is.
    config: LiveConfig,
    /// What they send.
    uploads: Uploads,
}

/// An object to be read, and the right to do so now.
pub(crate) struct Reading {
    object: ObjectRef,
    seat: Seat,
}

impl LocalRepository {
    /// Over the running queue and its store.
    pub(crate) fn new(
        custody: Custody,
        store: Store,
        facts: Facts,
        policies: Policies,
        discovery: Discovery,
        config: LiveConfig,
        uploads: Uploads,
    ) -> Self {
        let seats = Seats::new(config.get().limits.repository_reads);
        Self { custody, store, facts, policies, seats, discovery, config, uploads }
    }
}

impl LocalRepository {
    /// Has the hop's domain signed it, with a key that was good at the time?
    async fn is_signed(&self, hop: &Hop) -> Result<bool, Busy> {
        let stated = hop.statement();
        let id = KeyId { domain: stated.domain.clone(), selector: stated.selector.clone() };
        // A user's key signs requests: nothing in his domain's name.
        let record = self.published(&id).await?;
        Ok(judge_link(Link::Hop(hop), Some(&record)) == SignatureVerdict::Valid)
    }

    /// A key that its domain publishes.
    async fn published(&self, id: &KeyId) -> Result<KeyRecord, Busy> {
        if let Some(known) = self.facts.get().get(&id.domain).and_then(|facts| facts.key(&id.selector)) {
            return Ok(known.clone());
        }
        match self.discovery.find(&id.domain, &id.selector, now()).await {
            Ok(found) => found.facts.key(&id.selector).cloned().ok_or(LATER),
            Err(failure) => {
                info!(key = %id, %failure, "a signed request waits for the key");
                Err(COME_AGAIN)
            }
        }
    }
}

impl Repository for LocalRepository {
    type Handle = Reading;

    async fn binding(&self, grants: Vec<Grant>) -> Result<Vec<Domain>, Busy> {
        match self.custody.ask(Request::Binding { grants }).await {
            Reply::Binding(domains) => Ok(domains),
            _ => Err(COME_AGAIN),
        }
    }

    async fn key(&self, id: &KeyId) -> Result<(Holder, KeyRecord), Busy> {
        if let Some(of_user) = user_key(&self.config.get(), id) {
            return Ok(of_user);
        }
        Ok((id.domain.clone().into(), self.published(id).await?))
    }

    async fn locate(&self, xuid: Xuid, grant: &Grant, signed: SignedBy) -> Located<Reading> {
        match self.custody.ask(Request::Locate { xuid, grant: grant.clone(), signed }).await {
            Reply::Object(port::Located::Object(object)) => match self.seats.take(grant) {
                Ok(seat) => {
                    let ObjectRef { xuid, size, coded, .. } = object;
                    Located::Object { xuid, size, coded, handle: Reading { object, seat } }
                }
                Err(Full) => Located::Unavailable(COME_AGAIN),
            },
            Reply::Object(port::Located::Unknown) => Located::Unknown,
            Reply::Object(port::Located::Gone) => Located::Gone,
            _ => Located::Unavailable(COME_AGAIN),
        }
    }

    async fn read(
        &self,
        Reading { object, seat }: Reading,
        coding: Option<Coding>,
        range: Range<u64>,
    ) -> io::Result<Chunks> {
        let reader = match coding {
            Some(_) => self.store.read_stored(&object, range).await,
            None => self.store.read(&object, range).await,
        };
        let reader = reader.map_err(io::Error::other)?;
        Ok(Box::pin(stream::try_unfold((reader, seat), |(mut reader, seat)| async move {
            if !seat.is_held() {
                return Err(io::Error::other("later requests with this grant have taken its place"));
            }
            let chunk: Option<Bytes> = reader.next_chunk().await.map_err(io::Error::other)?;
            Ok(chunk.map(|chunk| (chunk, (reader, seat))))
        })))
    }

    async fn claims(&self, request: ClaimsRequest, signed: SignedBy) -> Result<ClaimsAnswer, Busy> {
        let ids: Vec<_> = request.claims.iter().map(|entry| entry.i).collect();
        let claims = request.claims.into_iter().map(port_claim).collect();
        let asked = Request::Claims { instance: request.instance, claims, signed };
        let Reply::Claims(answers) = self.custody.ask(asked).await else { return Err(COME_AGAIN) };
        let answered = ids.into_iter().zip(answers).filter_map(|(i, answers)| {
            let answers = answers?.into_iter().map(|(n, word)| IndexAnswer { n, is: as_word(word) }).collect();
            Some(AnsweredClaim { i, answers })
        });
        Ok(ClaimsAnswer { v: Revision1, claims: answered.collect() })
    }

    async fn receipts(&self, request: ReceiptsRequest, signed: SignedBy) -> Result<ReceiptsAnswer, Busy> {
        let ids: Vec<_> = request.receipts.iter().map(|entry| entry.i).collect();
        let receipts = request.receipts.into_iter().map(port_receipt).collect();
        let asked = Request::Receipts { instance: request.instance, receipts, signed };
        let Reply::Receipts(answers) = self.custody.ask(asked).await else { return Err(COME_AGAIN) };
        let recorded =
            ids.into_iter().zip(answers).filter_map(|(i, recorded)| Some(RecordedReceipt { i, recorded: recorded? }));
        Ok(ReceiptsAnswer { v: Revision1, receipts: recorded.collect() })
    }

    async fn delegate(&self, request: DelegateRequest, signed: SignedBy) -> Result<Option<DelegateAnswer>, Busy> {
        let hop = request.hop.hop().clone();
        // Only whoever has shown to be the relay may have keys looked up: its own, which are known by now, and the next
        // domain's.
        if !signed.is_by_domain(&request.to) || hop.statement().domain != request.to || !self.is_signed(&hop).await? {
            return Ok(None);
        }
        let bound = self.discovery.publishes(&hop.statement().to, now(), KEY_PATIENCE).await.map_err(|failure| {
            info!(domain = %hop.statement().to, %failure, "a delegation waits: whether the next domain has keys cannot be told");
            COME_AGAIN
        })?;
        let DelegateRequest { instance, to, i: id, grant, hop_grant, map, .. } = request;
        let delegation = Box::new(port::DelegationEntry { to, id, grant, hop, hop_grant, map, bound });
        match self.custody.ask(Request::Delegate { instance, delegation, signed }).await {
            Reply::Delegated(answer) => Ok(answer.map(|word| DelegateAnswer { v: Revision1, is: as_word(word) })),
            _ => Err(COME_AGAIN),
        }
    }

    fn site(&self, id: &KeyId, host: &Domain) -> Option<Holder> {
        site(&self.config.get(), id, host)
    }

    async fn pending(&self, site: &Holder, after: Option<Cursor>) -> Result<PendingList, Busy> {
        pending::page(&self.store, site, after, now()).await.map_err(|error| {
            warn!(%site, %error, "cannot list what is pending");
            COME_AGAIN
        })
    }

    async fn mail(&self, site: &Holder, list: MailList) -> Result<MailAnswer, NotTaken> {
        let (uploads, site) = (self.uploads.clone(), site.clone());
        // A task of its own: what was begun is ended, whatever becomes of the connection.
        let taking = tokio::spawn(async move { uploads.list(&site, list).await });
        taking.await.unwrap_or(Err(NotTaken::Busy(COME_AGAIN)))
    }

    async fn upload(&self, site: &Holder, part: Part) -> Uploaded {
        let (uploads, site) = (self.uploads.clone(), site.clone());
        let taking = tokio::spawn(async move { uploads.part(&site, part).await });
        taking.await.unwrap_or(Uploaded::NotTaken(NotTaken::Busy(COME_AGAIN)))
    }

    async fn document(&self, domain: &Domain) -> Option<DomainFacts> {
        self.facts.get().get(domain).cloned()
    }

    fn mta_sts(&self, domain: &Domain) -> Option<String> {
        self.policies.get().get(domain).cloned()
    }

    fn served(&self, grant: &Grant, octets: u64) {
        let (custody, grant) = (self.custody.clone(), grant.clone());
        tokio::spawn(async move { custody.tell(Request::Served { grant, octets }).await });
    }
}

/// Whose site a key of this name is, if this server is its custodian at this host.
fn site(config: &Config, id: &KeyId, host: &Domain) -> Option<Holder> {
    let domain = config.domain(&id.domain)?;
    domain.tbr.as_ref().filter(|tbr| tbr.repository == *host)?;
    let user = domain.user_of_key(&id.selector).map(|(user, _)| user.holder.clone());
    user.or_else(|| domain.site.as_ref().map(|_| domain.name.clone().into()))
}

/// The key, where it is one user's: the domain does not publish it, so it is known from the configuration alone.
fn user_key(config: &Config, id: &KeyId) -> Option<(Holder, KeyRecord)> {
    let (user, key) = config.domain(&id.domain)?.user_of_key(&id.selector)?;
    let (from, to) = (now().before(KEY_WINDOW), now().after(KEY_WINDOW));
    Some((user.holder.clone(), KeyRecord::active(id.selector.clone(), *key, from, to)))
}

/// A claim as the queue takes it.
pub(crate) fn port_claim(entry: reference::claims::ClaimEntry) -> port::ClaimEntry {
    let failed = entry.failed.into_iter().map(|failed| {
        let at = now();
        let text = failed.text.as_str().to_owned();
        (
            failed.n,
            Outcome {
                action: mail::ledger::Action::Failed,
                status: failed.status,
                text,
                at,
                reported: false,
                withdrawn: false,
            },
        )
    });
    let failed = failed.collect();
    port::ClaimEntry { to: entry.to, id: entry.i, grant: entry.grant, indexes: entry.n, failed, acted: entry.acted }
}

/// A receipt as the queue takes it.
pub(crate) fn port_receipt(entry: reference::claims::ReceiptEntry) -> port::ReceiptEntry {
    let outcomes = entry.outcomes.into_iter().map(outcome).collect();
    port::ReceiptEntry { to: entry.to, id: entry.i, grant: entry.grant, outcomes }
}

fn outcome(wire: WireOutcome) -> (u16, Outcome) {
    let text = wire.text.as_str().to_owned();
    let at = Timestamp::from_secs(wire.at);
    (wire.n, Outcome { action: wire.action, status: wire.status, text, at, reported: wire.reported, withdrawn: false })
}

fn as_word(answer: ClaimAnswer) -> Word {
    match answer {
        ClaimAnswer::Granted => Word::Granted,
        ClaimAnswer::Taken => Word::Taken,
        ClaimAnswer::Gone => Word::Gone,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn id(text: &str) -> KeyId {
        text.parse().unwrap()
    }

    /// One user's key is his wherever a key is asked for, and no other is.
    #[test]
    fn a_user_s_key_is_his_and_he_is_a_site_at_his_domain_s_host() {
        let text = "hostname = \"mx.b.example\"\ndata_dir = \"/nowhere\"\n\
            [[listener]]\nkind = \"repository\"\naddress = \"127.0.0.1:0\"\n[[certificate]]\ncert = \"c\"\nkey = \"k\"\n\
            [[domain]]\nname = \"b.example\"\n[domain.tbr]\nselector = \"k1\"\nkey = \"k\"\n\
            [[domain.user]]\nname = \"alice\"\nkeys = { laptop = \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\" }\n";
        let config = Config::parse(text, Path::new("restante.toml")).unwrap();
        let (alice, host): (Holder, Domain) = ("alice@b.example".parse().unwrap(), "tbr.b.example".parse().unwrap());
        assert_eq!(site(&config, &id("laptop._tbr.b.example"), &host), Some(alice.clone()));
        assert_eq!(site(&config, &id("laptop._tbr.b.example"), &"tbr.x.example".parse().unwrap()), None);
        assert_eq!(site(&config, &id("k1._tbr.b.example"), &host), None, "the domain itself is always there");
        assert_eq!(user_key(&config, &id("laptop._tbr.b.example")).map(|(holder, _)| holder), Some(alice));
        assert_eq!(user_key(&config, &id("k1._tbr.b.example")), None);
        assert_eq!(user_key(&config, &id("laptop._tbr.x.example")), None);
    }

    #[test]
    fn a_site_is_one_at_its_own_host_only() {
        let text = "hostname = \"mx.cust.example\"\ndata_dir = \"/nowhere\"\n\
            [[listener]]\nkind = \"repository\"\naddress = \"127.0.0.1:0\"\n[[certificate]]\ncert = \"c\"\nkey = \"k\"\n\
            [[domain]]\nname = \"cust.example\"\n[domain.tbr]\nselector = \"k1\"\nkey = \"k\"\n\
            [[domain]]\nname = \"site.example\"\ndeliver = \"site\"\nrecipients = \"any\"\n\
            [domain.tbr]\nselector = \"cust\"\nkey = \"k\"\n\
            [domain.site]\nkeys = { home = \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\" }\n";
        let config = Config::parse(text, Path::new("restante.toml")).unwrap();
        let is_site = |domain: &str, host: &str| {
            site(&config, &id(&format!("home._tbr.{domain}")), &host.parse().unwrap()).is_some()
        };
        assert!(is_site("site.example", "tbr.site.example"));
        assert!(!is_site("site.example", "tbr.cust.example"));
        assert!(!is_site("cust.example", "tbr.cust.example"), "it is always there");
        assert!(!is_site("z.example", "tbr.site.example"));
    }
}
