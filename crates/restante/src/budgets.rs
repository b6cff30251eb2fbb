//! Who uses how much of this server: the counts that `policy::budget` decides on, kept in bounds.
//!
//! Offers and failures are counted in memory, and forgotten by a restart: they are of the last minute and hour. What is
//! outstanding is derived from the ledger, at the start and with each commit, so that no crash resets or leaks it. What
//! became of a reference in the end is told to [`Readers`] here, too, when its row says so.
//!
//! Domains whose mail is ours are no strangers: what a site's custodian holds for it is signed in the site's own name, and a
//! link that breaks is not the sender's fault. They count at their network and in all, and have no points.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail::ledger::{Action, Batch, Inbound, IndexState, Key, Phase, RowBody};
use mail::{Domain, Timestamp};
use policy::budget::{self, Over, Prefix, Scope, Used, What};
use policy::reputation::{Event, Standing};
use reference::codes;
use store::{Store, StoreError};

use crate::readers::Readers;
use crate::receive::LiveConfig;
use crate::reputation::Reputation;
use crate::runtime::now;

/// Most holders of each kind whose offers and failures are counted apart; those beyond them share one count. Holders with
/// references outstanding come on top: those are limited in all.
const MAX_HOLDERS: usize = 50_000;
/// How often it is looked for counts that say nothing any more, where there are too many.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Rows read at a time at the start.
const PAGE: usize = 500;

/// An offer, as far as budgets are concerned.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Its row.
    pub(crate) key: Key,
    /// The domain that signs it; only claimed, until the signature is verified.
    pub(crate) domain: Domain,
    /// Where it comes from; nothing for clients that may relay.
    pub(crate) network: Option<Prefix>,
    /// Octets of the object.
    pub(crate) octets: u64,
    /// Its domain is ours, or a custodian of ours was asked for it: only its network and the limit in all count.
    pub(crate) is_own: bool,
}

/// The counts; clones share them.
#[derive(Clone)]
pub(crate) struct Budgets {
    config: LiveConfig,
    reputation: Reputation,
    readers: Readers,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    domains: Holders<Domain>,
    registrables: Holders<String>,
    networks: Holders<Prefix>,
    /// References whose duties are not all done.
    tracked: HashMap<Key, Tracked>,
    outstanding: u64,
}

/// A reference that was accepted.
struct Tracked {
    domain: Domain,
    /// It counts at its domain, which is not ours.
    at_domain: bool,
    network: Option<Prefix>,
    octets: u64,
    /// Its claim has no answer yet.
    is_outstanding: bool,
}

struct Holders<K> {
    used: HashMap<K, Used>,
    /// Those for which there is no room.
    rest: Used,
    swept: Timestamp,
}

impl<K> Default for Holders<K> {
    fn default() -> Self {
        Self { used: HashMap::new(), rest: Used::default(), swept: Timestamp::default() }
    }
}

impl<K: Eq + Hash + Clone> Holders<K> {
    fn get(&self, holder: &K) -> Used {
        let others = if self.used.len() < MAX_HOLDERS { Used::default() } else { self.rest };
        self.used.get(holder).copied().unwrap_or(others)
    }

    /// For counting what is forgotten after a while.
    fn count(&mut self, holder: &K, at: Timestamp) -> &mut Used {
        if !self.used.contains_key(holder) && self.used.len() >= MAX_HOLDERS {
            if at.since(self.swept) >= SWEEP_EVERY {
                self.swept = at;
                self.used.retain(|_, used| !used.is_idle(at));
            }
            if self.used.len() >= MAX_HOLDERS {
                return &mut self.rest;
            }
        }
        self.outstanding(holder)
    }

    /// For counting what is outstanding.
    fn outstanding(&mut self, holder: &K) -> &mut Used {
        self.used.entry(holder.clone()).or_default()
    }
}

impl Budgets {
    /// Counts against the budgets of this configuration.
    pub(crate) fn new(config: LiveConfig, reputation: Reputation, readers: Readers) -> Self {
        Self { config, reputation, readers, books: Arc::default() }
    }

    /// Who looks for mail that was delivered.
    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Counts what the ledger says is outstanding. Nothing may be committed meanwhile.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn load(&self, store: &Store) -> Result<(), StoreError> {
        let mut after: Option<Key> = None;
        loop {
            let rows = store.list("in/", after.as_ref(), PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.key.clone());
            let config = self.config.get();
            let mut books = self.lock();
            for row in &rows {
                if let RowBody::Inbound(inbound) = &row.body
                    && inbound.phase != Phase::Closed
                {
                    books.track(&row.key, inbound, !config.is_ours(&inbound.d));
                }
            }
        }
    }

    /// An offer is here whose signature has not been looked at. It is counted at its network.
    ///
    /// # Errors
    /// The budget that is used up.
    pub(crate) fn arrives(&self, asked: &Asked) -> Result<(), Over> {
        let (at, config) = (now(), self.config.get());
        let Some(limits) = &config.budgets else { return Ok(()) };
        let standing = self.reputation.standing(&asked.domain, at);
        let mut books = self.lock();
        let octets = books.octets_of(asked);
        if let Some(network) = &asked.network {
            let used = books.networks.count(network, at);
            // Anybody can claim to be somebody: that is worth something, but not everything.
            let claimed = standing.min(Standing::Known);
            used.room(&limits.network, claimed, octets, at).map_err(|what| Over { scope: Scope::Network, what })?;
            used.offered(at);
        }
        books.room(asked, standing, octets, limits, at)
    }

    /// The signature of the offer is good: it is counted at its domain.
    ///
    /// # Errors
    /// The budget that is used up; it may have had room before the look-ups.
    pub(crate) fn is_verified(&self, asked: &Asked) -> Result<(), Over> {
        let (at, config) = (now(), self.config.get());
        let Some(limits) = &config.budgets else { return Ok(()) };
        let standing = self.reputation.standing(&asked.domain, at);
        let mut books = self.lock();
        let octets = books.octets_of(asked);
        books.room(asked, standing, octets, limits, at)?;
        if asked.is_own {
            return Ok(());
        }
        books.domains.count(&asked.domain, at).offered(at);
        books.registrables.count(&registrable(&asked.domain), at).offered(at);
        Ok(())
    }

    /// The signature of an offer does not verify, or the domain that it claims has no keys.
    pub(crate) fn is_forged(&self, asked: &Asked) {
        let at = now();
        if let Some(network) = &asked.network {
            self.lock().networks.count(network, at).failed(at);
        }
    }

    /// A retrieval has failed for a reference of this domain.
    pub(crate) fn retrieval_failed(&self, domain: &Domain) {
        if self.config.get().is_ours(domain) {
            return;
        }
        let at = now();
        let mut books = self.lock();
        books.domains.count(domain, at).failed(at);
        books.registrables.count(&registrable(domain), at).failed(at);
    }

    /// A batch is about to be committed: counts the references that are new in it. To be undone if it fails.
    pub(crate) fn begin(&self, batch: &Batch) -> Vec<Key> {
        let config = self.config.get();
        let mut books = self.lock();
        let mut added = Vec::new();
        for row in batch.put.iter().filter(|row| row.version == 0) {
            let RowBody::Inbound(inbound) = &row.body else { continue };
            if inbound.phase != Phase::Closed && books.track(&row.key, inbound, !config.is_ours(&inbound.d)) {
                added.push(row.key.clone());
            }
        }
        added
    }

    /// Nothing was written.
    pub(crate) fn undo(&self, added: &[Key]) {
        let mut books = self.lock();
        added.iter().for_each(|key| books.forget(key));
    }

    /// What a batch says of references that were there before; to be told once it is committed.
    pub(crate) fn news(batch: &Batch) -> Vec<News> {
        let put = batch.put.iter().filter(|row| row.version > 0).filter_map(|row| match &row.body {
            RowBody::Inbound(inbound) => News::of(&row.key, inbound),
            RowBody::Leg(_) => None,
        });
        let gone = batch.delete.iter().filter(|(key, _)| matches!(key, Key::Inbound(..)));
        put.chain(gone.map(|(key, _)| News { key: key.clone(), is_over: true, event: None })).collect()
    }

    /// It is committed.
    pub(crate) fn tell(&self, news: Vec<News>) {
        for News { key, is_over, event } in news {
            let Some((domain, network)) = self.lock().settle(&key, is_over) else { continue };
            // Whoever reads his own domain's mail must not be able to give it a bad name.
            let event = event.filter(|_| !self.config.get().is_ours(&domain));
            self.readers.concluded(&key, &domain, event, network);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a commit means for a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    key: Key,
    /// All its duties are done.
    is_over: bool,
    /// What became of it.
    event: Option<Event>,
}

impl News {
    /// Nothing: its claim still has no answer.
    fn of(key: &Key, inbound: &Inbound) -> Option<Self> {
        let is_over = inbound.phase == Phase::Closed;
        let event = is_over.then(|| event(inbound)).flatten();
        (!is_outstanding(inbound)).then(|| Self { key: key.clone(), is_over, event })
    }
}

impl Books {
    /// Nothing for a reference that is outstanding already.
    fn octets_of(&self, asked: &Asked) -> Option<u64> {
        (!self.tracked.contains_key(&asked.key)).then_some(asked.octets)
    }

    fn room(
        &self,
        asked: &Asked,
        standing: Standing,
        octets: Option<u64>,
        limits: &budget::Budgets,
        at: Timestamp,
    ) -> Result<(), Over> {
        if !asked.is_own {
            let domain = self.domains.get(&asked.domain).room(&limits.domain, standing, octets, at);
            domain.map_err(|what| Over { scope: Scope::Domain, what })?;
            let above = self.registrables.get(&registrable(&asked.domain));
            let above = above.room(&limits.registrable, standing, octets, at);
            above.map_err(|what| Over { scope: Scope::Registrable, what })?;
        }
        if octets.is_some() && self.outstanding >= limits.outstanding {
            return Err(Over { scope: Scope::All, what: What::Outstanding });
        }
        Ok(())
    }

    /// Says if it was not tracked before.
    fn track(&mut self, key: &Key, inbound: &Inbound, at_domain: bool) -> bool {
        if self.tracked.contains_key(key) {
            return false;
        }
        let tracked = Tracked {
            domain: inbound.d.clone(),
            at_domain,
            network: inbound.client.map(Prefix::of),
            octets: inbound.size,
            is_outstanding: is_outstanding(inbound),
        };
        if tracked.is_outstanding {
            self.outstanding += 1;
            self.each(&tracked, |used| used.accepted(tracked.octets));
        }
        self.tracked.insert(key.clone(), tracked);
        true
    }

    /// Its claim has its answer. Says whose it is, once it is over.
    fn settle(&mut self, key: &Key, is_over: bool) -> Option<(Domain, Option<Prefix>)> {
        let mut tracked = self.tracked.remove(key)?;
        if std::mem::replace(&mut tracked.is_outstanding, false) {
            self.outstanding = self.outstanding.saturating_sub(1);
            self.each(&tracked, |used| used.settled(tracked.octets));
        }
        if is_over {
            return Some((tracked.domain, tracked.network));
        }
        self.tracked.insert(key.clone(), tracked);
        None
    }

    fn forget(&mut self, key: &Key) {
        self.settle(key, true);
    }

    fn each(&mut self, tracked: &Tracked, change: impl Fn(&mut Used)) {
        if tracked.at_domain {
            change(self.domains.outstanding(&tracked.domain));
            change(self.registrables.outstanding(&registrable(&tracked.domain)));
        }
        if let Some(network) = &tracked.network {
            change(self.networks.outstanding(network));
        }
    }
}

/// Is its claim without an answer?
fn is_outstanding(inbound: &Inbound) -> bool {
    matches!(inbound.phase, Phase::Delegating | Phase::Waiting | Phase::Held | Phase::Claiming { .. })
}

/// What became of a reference, as far as it says something about its domain.
fn event(inbound: &Inbound) -> Option<Event> {
    if let Some(refusal) = &inbound.refusal {
        let is_forged = refusal.status == codes::OTHER_OBJECT.status;
        return Some(if is_forged { Event::Forged } else { Event::Refused });
    }
    let is_kept = |state: &IndexState| match state {
        IndexState::Final { outcome, .. } => {
            matches!(outcome.action, Action::Delivered | Action::Relayed | Action::Expanded)
        }
        _ => false,
    };
    inbound.recipients.iter().any(|recipient| is_kept(&recipient.state)).then_some(Event::Kept)
}

fn registrable(domain: &Domain) -> String {
    domain.registrable().to_owned()
}

/// The network of a client that is not trusted.
pub(crate) fn network(client: IpAddr, is_trusted: bool) -> Option<Prefix> {
    (!is_trusted).then(|| Prefix::of(client))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mail::ledger::{InboundRecipient, Row};
    use mail::{Grant, InstanceId, MailParams, Recipient, ReferenceId, Xuid};

    use super::*;
    use crate::config::Config;

    const TIGHT: &str =
        "[budgets.domain]\noffers_per_minute = 5\noutstanding = 2\n[budgets.network]\nfailures_per_hour = 3\n";

    fn budgets(limits: &str) -> Budgets {
        let text = format!("hostname = \"mx.b.example\"\n{limits}");
        let config = Config::parse(&text, Path::new("restante.toml")).unwrap();
        let (config, reputation) = (LiveConfig::new(config), Reputation::open(None).unwrap());
        let readers = Readers::open(None, config.clone(), reputation.clone()).unwrap();
        Budgets::new(config, reputation, readers)
    }

    fn asked(number: u8, domain: &str, client: [u8; 4]) -> Asked {
        let domain: Domain = domain.parse().unwrap();
        let key = Key::Inbound(ReferenceId([number; 16]), domain.clone());
        Asked { key, domain, network: network(client.into(), false), octets: 100, is_own: false }
    }

    fn over(result: Result<(), Over>) -> Option<&'static str> {
        result.err().map(Over::name)
    }

    fn outcome(action: Action, status: mail::EnhancedStatus) -> mail::ledger::Outcome {
        mail::ledger::Outcome { action, status, text: String::new(), at: now(), reported: false, withdrawn: false }
    }

    fn row(asked: &Asked, version: u64, phase: Phase) -> Row {
        let state = match phase {
            Phase::Closed => {
                let outcome = outcome(Action::Delivered, codes::DELIVERED.status);
                IndexState::Final { outcome, acknowledged: true, acted: false }
            }
            _ => IndexState::Open,
        };
        let recipient = Recipient::plain("bob@b.example".parse().unwrap());
        let inbound = Inbound {
            queue_id: "q".parse().unwrap(),
            d: asked.domain.clone(),
            i: ReferenceId([1; 16]),
            to: "b.example".parse().unwrap(),
            fingerprint: String::new(),
            uri: String::new(),
            grant: Grant::new(&[0; 16]).unwrap(),
            host: asked.domain.clone(),
            block: String::new(),
            xuid: Xuid::of(b"x"),
            size: asked.octets,
            expires: now(),
            mail_from: None,
            params: MailParams::default(),
            recipients: vec![InboundRecipient { recipient, targets: Vec::new(), outcomes: Vec::new(), state }],
            trace: String::new(),
            accepted: now(),
            client: Some([192, 0, 2, 1].into()),
            not_before: None,
            phase,
            object: None,
            facts: None,
            carried: false,
            evidence: None,
            refusal: None,
            legs: 0,
            attempts: 0,
            next_attempt: now(),
            unheard_since: None,
            hops: Vec::new(),
            seal: String::new(),
            steps: Vec::new(),
        };
        Row { key: asked.key.clone(), version, due: None, body: RowBody::Inbound(Box::new(inbound)) }
    }

    fn put(rows: Vec<Row>) -> Batch {
        Batch { put: rows, ..Batch::default() }
    }

    fn committed(budgets: &Budgets, batch: &Batch) {
        let news = Budgets::news(batch);
        budgets.begin(batch);
        budgets.tell(news);
    }

    #[test]
    fn whoever_forges_uses_up_the_budget_of_his_network_and_not_of_the_domain_that_he_names() {
        let budgets = budgets(TIGHT);
        for number in 0..3 {
            let forged = asked(number, "victim.example", [192, 0, 2, 1]);
            assert_eq!(over(budgets.arrives(&forged)), None);
            budgets.is_forged(&forged);
        }
        let again = asked(9, "other.example", [192, 0, 2, 99]);
        assert_eq!(over(budgets.arrives(&again)), Some("network-failures"), "from the same network, whatever the name");
        let genuine = asked(9, "victim.example", [198, 51, 100, 1]);
        assert_eq!((over(budgets.arrives(&genuine)), over(budgets.is_verified(&genuine))), (None, None));
        let trusted = Asked { network: None, ..again };
        assert_eq!(over(budgets.arrives(&trusted)), None, "clients that may relay have no such budget");
    }

    #[test]
    fn offers_of_a_domain_count_once_they_are_verified_and_whatever_comes_at_once_is_checked_again() {
        let budgets = budgets(TIGHT);
        let offer = |number, client| asked(number, "a.example", client);
        let at_once: Vec<Asked> = (0..8).map(|number| offer(number, [192, 0, number, 1])).collect();
        assert!(at_once.iter().all(|asked| budgets.arrives(asked).is_ok()), "nothing is verified yet");
        let verified: Vec<_> = at_once.iter().map(|asked| over(budgets.is_verified(asked))).collect();
        assert_eq!(verified.iter().filter(|name| name.is_none()).count(), 5);
        assert_eq!(over(budgets.arrives(&offer(9, [203, 0, 113, 1]))), Some("domain-offers"));
        assert_eq!(over(budgets.arrives(&asked(9, "b.a.example", [203, 0, 113, 1]))), None, "another signing domain");
    }

    #[tokio::test]
    async fn what_is_outstanding_is_derived_from_the_ledger() {
        let store = Store::memory(InstanceId([1; 16]));
        let offers: Vec<Asked> = (0..2).map(|number| asked(number, "a.example", [192, 0, 2, 1])).collect();
        let rows = offers.iter().map(|asked| row(asked, 0, Phase::Waiting)).collect();
        store.commit(put(rows)).await.unwrap();
        // A process that has just started.
        let budgets = budgets(TIGHT);
        budgets.load(&store).await.unwrap();
        let third = asked(3, "a.example", [198, 51, 100, 1]);
        assert_eq!(over(budgets.arrives(&third)), Some("domain-outstanding"));
        assert_eq!(over(budgets.arrives(&offers[0])), None, "being offered again, it takes nothing more");
        committed(&budgets, &put(vec![row(&offers[0], 1, Phase::Working)]));
        assert_eq!(over(budgets.arrives(&third)), None);
        // Nothing is given back twice.
        committed(&budgets, &put(vec![row(&offers[0], 2, Phase::Closed)]));
        committed(&budgets, &put(vec![row(&third, 0, Phase::Waiting)]));
        let fourth = asked(4, "a.example", [198, 51, 100, 1]);
        assert_eq!(over(budgets.arrives(&fourth)), Some("domain-outstanding"));
    }

    #[test]
    fn what_was_not_committed_is_not_outstanding() {
        let budgets = budgets(TIGHT);
        for number in 0..9 {
            let offer = asked(number, "a.example", [192, 0, 2, 1]);
            let added = budgets.begin(&put(vec![row(&offer, 0, Phase::Waiting)]));
            assert_eq!(added.len(), 1);
            budgets.undo(&added);
        }
        let offer = asked(1, "a.example", [192, 0, 2, 1]);
        committed(&budgets, &put(vec![row(&offer, 0, Phase::Waiting)]));
        // A conflict: it was there before, and stays.
        let added = budgets.begin(&put(vec![row(&offer, 0, Phase::Waiting)]));
        budgets.undo(&added);
        assert_eq!(budgets.lock().outstanding, 1);
    }

    #[test]
    fn mail_that_was_kept_gives_its_domain_a_better_name_once() {
        let budgets = budgets("");
        let offer = asked(1, "a.example", [192, 0, 2, 1]);
        committed(&budgets, &put(vec![row(&offer, 0, Phase::Waiting)]));
        committed(&budgets, &put(vec![row(&offer, 1, Phase::Working)]));
        assert_eq!(budgets.reputation.score(&offer.domain, now()), 0);
        for version in 2..5 {
            committed(&budgets, &put(vec![row(&offer, version, Phase::Closed)]));
        }
        assert_eq!(budgets.reputation.score(&offer.domain, now()), 1);
    }

    #[test]
    fn a_site_s_own_domain_is_no_stranger_however_often_its_link_breaks() {
        let site = "[budgets]\noutstanding = 9\n[budgets.domain]\noffers_per_minute = 5\noutstanding = 2\n\
                    failures_per_hour = 3\n[[domain]]\nname = \"b.example\"\nrecipients = { list = [\"bob\"] }\n";
        let budgets = budgets(site);
        let of = |number, domain| Asked { network: None, is_own: true, ..asked(number, domain, [192, 0, 2, 1]) };
        for number in 0..9 {
            let offer = of(number, "b.example");
            assert_eq!((over(budgets.arrives(&offer)), over(budgets.is_verified(&offer))), (None, None), "{number}");
            committed(&budgets, &put(vec![row(&offer, 0, Phase::Waiting)]));
            budgets.retrieval_failed(&offer.domain);
        }
        assert_eq!(over(budgets.arrives(&of(10, "b.example"))), Some("all-outstanding"), "there is a limit in all");
        let refused = |asked: &Asked| {
            let mut row = row(asked, 1, Phase::Closed);
            if let RowBody::Inbound(inbound) = &mut row.body {
                inbound.refusal = Some(outcome(Action::Failed, codes::REFUSED.status));
            }
            put(vec![row])
        };
        for number in 0..9 {
            committed(&budgets, &refused(&of(number, "b.example")));
        }
        assert_eq!(budgets.reputation.score(&"b.example".parse().unwrap(), now()), 0);
        // The same of a stranger counts.
        let stranger = asked(1, "a.example", [192, 0, 2, 1]);
        committed(&budgets, &put(vec![row(&stranger, 0, Phase::Waiting)]));
        committed(&budgets, &refused(&stranger));
        assert!(budgets.reputation.score(&stranger.domain, now()) < 0);
    }

    #[test]
    fn there_is_a_limit_in_all_and_one_for_what_is_remembered() {
        let budgets = budgets("[budgets]\noutstanding = 1\n");
        let offer = asked(1, "a.example", [192, 0, 2, 1]);
        committed(&budgets, &put(vec![row(&offer, 0, Phase::Waiting)]));
        let of_another = asked(2, "b.example", [198, 51, 100, 1]);
        assert_eq!(over(budgets.arrives(&of_another)), Some("all-outstanding"));

        let mut networks: Holders<u32> = Holders::default();
        let at = now();
        for holder in 0..MAX_HOLDERS as u32 + 10 {
            networks.count(&holder, at).failed(at);
        }
        assert_eq!(networks.used.len(), MAX_HOLDERS);
        let newcomer = networks.get(&u32::MAX);
        assert!(!newcomer.is_idle(at), "those beyond share one count");
    }

    #[test]
    fn without_budgets_everybody_is_welcome() {
        let budgets = budgets("[budgets]\nenabled = false\n");
        let offer = asked(1, "a.example", [192, 0, 2, 1]);
        for _ in 0..10_000 {
            budgets.is_forged(&offer);
        }
        assert!(budgets.arrives(&offer).is_ok() && budgets.is_verified(&offer).is_ok());
    }
}
