//! A site's side: asks custodians what waits, by schedule and on demand, and has each offer judged (TBR §7.4); those by value it
//! asks by ETRN (RFC 1985) to send what they have, or by ATRN (RFC 2645) to send it on the same connection.
//!
//! What was taken is the queue's from then on: it retrieves, claims and reports. Judging is `receive`'s, HTTPS and SMTP `net`'s.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use mail::{Domain, Timestamp};
use net::retrieval::NoAnswer;
use net::smtp_client::Atrn;
use net::turned::Turned;
use net::{retrieval, smtp_server};
use queue::pending::{SMALL, URGENT};
use reference::message_signature::Signer;
use reference::pending::{Cursor, PendingList, PendingOffer};
use serde::{Deserialize, Serialize};
use smtp::Reply;
use smtp::command::Etrn;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Custodian, Relay, Way};
use crate::deliver::relay_destination;
use crate::receive::{FromCustodian, Reception, Taken, size_and_end};
use crate::request_keys::RequestKeys;
use crate::runtime::now;
use crate::settings;

/// Most pages that are read at one time; the rest is asked for the next time, from there on.
const MAX_PAGES: usize = 512;
/// How often a page is asked for that does not come, and the pause between.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);
/// Offers judged at a time: signatures cost little, each commit is shared.
const JUDGED_AT_ONCE: usize = 16;
/// Most offers of a list that are remembered while it is read.
const MAX_HEARD: usize = 100_000;
/// The answer to ATRN where nothing waits (RFC 2645 §5.2.2).
const NO_MAIL: u16 = 453;
/// Longest sleep, so that a changed schedule or clock is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What came of asking one custodian for one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// The custodian.
    pub custodian: Domain,
    /// For which domain it was asked.
    pub domain: Domain,
    /// Offers that are being fetched, claimed and delivered now.
    pub pending: u64,
    /// Octets of them, as the custodian says.
    pub octets: u64,
    /// Offers of which all is done; the custodian is told again.
    pub known: u64,
    /// Offers that cannot be judged now.
    pub later: u64,
    /// Offers that are not what they must be.
    pub refused: u64,
    /// The list goes on: it was not read to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// What a custodian by value answered: how much waits only it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// Why the custodian could not be asked, or not to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A wish to ask now, of one custodian or of all; where the outcome goes.
pub(crate) struct Wish {
    pub(crate) host: Option<Domain>,
    pub(crate) answer: oneshot::Sender<Vec<Fetched>>,
}

/// Asks custodians.
pub(crate) struct Custodians {
    client: retrieval::Client,
    keys: RequestKeys,
    reception: Arc<Reception>,
    end: CancellationToken,
    arrivals: Arrivals,
    /// One round at a time. Lists that were left before their end, when their link broke.
    round: Mutex<HashMap<(Domain, Domain), Rest>>,
}

impl Custodians {
    pub(crate) fn new(
        client: retrieval::Client,
        keys: RequestKeys,
        reception: Arc<Reception>,
        end: CancellationToken,
    ) -> Self {
        Self { client, keys, reception, end, arrivals: Arrivals::default(), round: Mutex::default() }
    }

    /// What is on its way by value.
    pub(crate) fn arrivals(&self) -> Arrivals {
        self.arrivals.clone()
    }

    /// Asks by schedule and whenever somebody wishes, until the end.
    pub(crate) async fn run(self, mut wishes: mpsc::Receiver<Wish>) {
        let end = self.end.clone();
        let this = Arc::new(self);
        let mut last: Vec<(Domain, &'static str, Timestamp)> = Vec::new();
        let started = now();
        loop {
            let at = now();
            let config = this.reception.config.get();
            let next = |custodian: &Custodian| custodian.schedule.next(asked(&last, custodian).unwrap_or(started));
            let due: Vec<Custodian> =
                config.custodians.iter().filter(|c| next(c).is_some_and(|next| next <= at)).cloned().collect();
            for custodian in due {
                last.retain(|(host, way, _)| (host, *way) != (&custodian.host, custodian.way.as_str()));
                last.push((custodian.host.clone(), custodian.way.as_str(), at));
                tokio::spawn(Arc::clone(&this).ask_all(vec![custodian]));
            }
            let next = |custodian: &Custodian| custodian.schedule.next(asked(&last, custodian).unwrap_or(started));
            let soonest = config.custodians.iter().filter_map(next).min();
            let sleep = soonest.map_or(LONGEST_SLEEP, |next| next.since(now())).min(LONGEST_SLEEP);
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(sleep) => {}
                wish = wishes.recv() => {
                    match wish {
                        Some(wish) => drop(tokio::spawn(Arc::clone(&this).grant(wish))),
                        None => return end.cancelled().await,
                    }
                }
            }
        }
    }

    async fn grant(self: Arc<Self>, wish: Wish) {
        let custodians = self.reception.config.get().custodians.clone();
        let wanted = custodians.into_iter().filter(|c| wish.host.as_ref().is_none_or(|host| *host == c.host));
        let fetched = Arc::clone(&self).ask_all(wanted.collect()).await;
        // Whoever asked may have gone.
        let _ = wish.answer.send(fetched);
    }

    async fn ask_all(self: Arc<Self>, custodians: Vec<Custodian>) -> Vec<Fetched> {
        let mut left = self.round.lock().await;
        let mut fetched = Vec::new();
        for custodian in &custodians {
            for domain in &custodian.domains {
                fetched.push(match &custodian.way {
                    Way::Reference => self.ask(&custodian.host, domain, &mut left).await,
                    Way::Etrn(server) => self.ask_by_etrn(&custodian.host, server, domain).await,
                    Way::Odmr(server) => self.ask_by_atrn(&custodian.host, server, domain).await,
                });
            }
        }
        fetched
    }

    /// Asks one custodian for one domain, and has everything judged that it lists, page by page: what is listed is fetched while the
    /// list goes on, and a break costs no more than a page of it.
    async fn ask(&self, host: &Domain, domain: &Domain, left: &mut HashMap<(Domain, Domain), Rest>) -> Fetched {
        let mut fetched = Fetched::nothing(host, domain);
        let Some(signer) = self.keys.of(domain) else {
            fetched.error = Some(format!("{domain} has no key here"));
            tell(&fetched);
            return fetched;
        };
        let pair = (host.clone(), domain.clone());
        let Rest { mut after, mut heard } = left.remove(&pair).unwrap_or_default();
        // Behind a kept cursor stands nothing that has come since and is small or urgent: once more from the start, then.
        let (mut is_rest, mut is_again) = (after.is_some(), false);
        fetched.more = true;
        for number in 0..MAX_PAGES {
            // Where nothing came nobody is there; later the page only had to share the link with what is fetched.
            let attempts = if number == 0 { 1 } else { ATTEMPTS };
            let page = match self.page(host, after.as_ref(), &signer, attempts).await {
                Ok(page) => page,
                Err(error) => {
                    fetched.error = Some(error.text);
                    // Where nothing came, nothing is known of a list.
                    fetched.more = number > 0;
                    break;
                }
            };
            let is_old = is_again && page.pending.iter().all(|offer| heard.has(offer) && !comes_first(offer));
            self.judge(host, page.pending, &mut heard, &mut fetched).await;
            let is_over = page.next.is_none() || page.next == after || is_old;
            after = page.next.filter(|_| !is_over);
            if is_over && !is_rest {
                fetched.more = false;
                break;
            }
            is_again |= is_over;
            is_rest &= !is_over;
        }
        if after.is_some() {
            left.insert(pair, Rest { after, heard });
        }
        tell(&fetched);
        fetched
    }

    async fn page(
        &self,
        host: &Domain,
        after: Option<&Cursor>,
        signer: &Signer,
        attempts: u32,
    ) -> Result<PendingList, NoAnswer> {
        let mut attempt = 1;
        loop {
            match self.client.pending(host, after, signer).await {
                Err(error) if attempt < attempts => {
                    info!(custodian = %host, %error, "a page of what waits did not come")
                }
                answered => return answered,
            }
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Has the offers of a page judged, those first that are to be fetched first. What says nothing of its size and its end comes last, to be
    /// refused.
    async fn judge(&self, host: &Domain, offers: Vec<PendingOffer>, heard: &mut Heard, fetched: &mut Fetched) {
        let unknown = (u64::MAX, Timestamp::from_secs(u32::MAX.into()));
        let sized = |offer: PendingOffer| (size_and_end(&offer).unwrap_or(unknown), offer);
        let mut offers: Vec<_> = offers.into_iter().filter(|offer| !heard.has(offer)).map(sized).collect();
        let soon = now().after(URGENT);
        offers.sort_by_key(|((size, end), _)| (*end > soon, *size));
        let judge = |((size, _), offer): ((u64, Timestamp), PendingOffer)| async move {
            (self.reception.pending(host, &offer).await, size, offer)
        };
        // The first is fetched at once, so it is the one to begin with; the queue orders the others.
        let mut offers = offers.into_iter();
        if let Some(first) = offers.next() {
            let (taken, size, offer) = judge(first).await;
            fetched.count(taken, size);
            heard.note(&offer, taken);
        }
        let mut judged = stream::iter(offers.map(judge)).buffer_unordered(JUDGED_AT_ONCE);
        while let Some((taken, size, offer)) = judged.next().await {
            fetched.count(taken, size);
            heard.note(&offer, taken);
        }
    }

    /// Asks one custodian to send what it has for one domain. It comes to a listener, when it comes.
    async fn ask_by_etrn(&self, host: &Domain, server: &Relay, domain: &Domain) -> Fetched {
        let mut fetched = Fetched::nothing(host, domain);
        match self.etrn(server, domain).await {
            Ok(reply) if reply.is_success() => fetched.said = Some(reply.to_string()),
            Ok(reply) => fetched.error = Some(format!("it said {reply}")),
            Err(error) => fetched.error = Some(error),
        }
        tell(&fetched);
        fetched
    }

    async fn etrn(&self, server: &Relay, domain: &Domain) -> Result<Reply, String> {
        let destination = relay_destination(server)?;
        let mut session = self.reception.smtp.get().connect(&destination).await.map_err(|error| error.text)?;
        let said = session.etrn(&Etrn::Domain(domain.clone())).await.map_err(|error| error.text)?;
        session.release();
        Ok(said)
    }

    /// Asks one custodian for one domain, and takes what it sends on the same connection, while others are asked.
    async fn ask_by_atrn(&self, host: &Domain, server: &Relay, domain: &Domain) -> Fetched {
        let mut fetched = Fetched::nothing(host, domain);
        // Whoever asks again takes the connection from himself.
        let Some(arrival) = self.arrivals.begin(host, domain) else {
            fetched.said = Some("its mail is on its way already".to_owned());
            return fetched;
        };
        match self.atrn(server, domain).await {
            Ok(Atrn::Turned(reply, turned)) => {
                fetched.said = Some(reply.to_string());
                self.take_over(turned, arrival);
            }
            Ok(Atrn::Said(reply)) if reply.code() == NO_MAIL => fetched.said = Some(reply.to_string()),
            Ok(Atrn::Said(reply)) => fetched.error = Some(format!("it said {reply}")),
            Err(error) => fetched.error = Some(error),
        }
        tell(&fetched);
        fetched
    }

    async fn atrn(&self, server: &Relay, domain: &Domain) -> Result<Atrn, String> {
        let destination = relay_destination(server)?;
        let client = self.reception.smtp.get();
        let mut session = client.connect(&destination).await.map_err(|error| error.text)?;
        let said = session.atrn(std::slice::from_ref(domain)).await.map_err(|error| error.text)?;
        if matches!(said, Atrn::Said(_)) {
            session.quit().await;
        }
        Ok(said)
    }

    fn take_over(&self, turned: Turned, arrival: Arrival) {
        let settings = settings::turned_over(&self.reception.config.get());
        let handler = Arc::new(FromCustodian::new(Arc::clone(&self.reception)));
        let end = self.end.clone();
        tokio::spawn(async move {
            let custodian = arrival.host.clone();
            let serving = smtp_server::serve_turned(turned, settings, handler, end);
            match arrival.gone.run_until_cancelled(serving).await {
                Some(Ok(())) => info!(%custodian, "a custodian has sent what it had"),
                Some(Err(error)) => warn!(%custodian, %error, "a custodian was lost while it sent"),
                None => info!(%custodian, "the link to a custodian is new"),
            }
            drop(arrival);
        });
    }
}

/// Connections on which custodians send what they have: one for each custodian and domain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals(Arc<std::sync::Mutex<Underway>>);

#[derive(Debug, Default)]
struct Underway {
    by_name: BTreeMap<(Domain, Domain), (u64, CancellationToken)>,
    next: u64,
}

/// One of them, while it lasts.
struct Arrival {
    arrivals: Arrivals,
    number: u64,
    host: Domain,
    domain: Domain,
    /// Its link is gone.
    gone: CancellationToken,
}

impl Arrivals {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.lock().by_name.len() as u64
    }

    /// The connections of the link before are worth nothing: what was on its way is asked for again.
    pub(crate) fn link_is_new(&self) {
        let before = std::mem::take(&mut self.lock().by_name);
        before.values().for_each(|(_, gone)| gone.cancel());
    }

    fn begin(&self, host: &Domain, domain: &Domain) -> Option<Arrival> {
        let (pair, gone) = ((host.clone(), domain.clone()), CancellationToken::new());
        let mut underway = self.lock();
        if underway.by_name.contains_key(&pair) {
            return None;
        }
        let number = underway.next;
        underway.next += 1;
        underway.by_name.insert(pair, (number, gone.clone()));
        drop(underway);
        Some(Arrival { arrivals: self.clone(), number, host: host.clone(), domain: domain.clone(), gone })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Underway> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let pair = (self.host.clone(), self.domain.clone());
        let mut underway = self.arrivals.lock();
        // Over a new link another may have taken its place.
        if underway.by_name.get(&pair).is_some_and(|(number, _)| *number == self.number) {
            underway.by_name.remove(&pair);
        }
    }
}

/// Of a list that was left before its end.
#[derive(Default)]
struct Rest {
    /// Where it goes on.
    after: Option<Cursor>,
    /// What stood before that.
    heard: Heard,
}

/// Offers that have had their judgement since a list was begun: what is listed again is not judged again.
#[derive(Default)]
struct Heard {
    offers: HashSet<u64>,
    hash: RandomState,
}

impl Heard {
    fn name(&self, offer: &PendingOffer) -> u64 {
        self.hash.hash_one((&offer.mail, &offer.rcpt, &offer.tbr, &offer.block))
    }

    fn has(&self, offer: &PendingOffer) -> bool {
        self.offers.contains(&self.name(offer))
    }

    /// What could not be judged is judged when it is listed again.
    fn note(&mut self, offer: &PendingOffer, taken: Taken) {
        if self.offers.len() >= MAX_HEARD {
            self.offers.clear();
        }
        if taken != Taken::Later {
            self.offers.insert(self.name(offer));
        }
    }
}

/// Would a custodian list it before all else (TBR §7.4)?
fn comes_first(offer: &PendingOffer) -> bool {
    size_and_end(offer).is_some_and(|(size, end)| size <= SMALL || end <= now().after(URGENT))
}

impl Fetched {
    fn nothing(host: &Domain, domain: &Domain) -> Self {
        let (custodian, domain) = (host.clone(), domain.clone());
        Self {
            custodian,
            domain,
            pending: 0,
            octets: 0,
            known: 0,
            later: 0,
            refused: 0,
            more: false,
            said: None,
            error: None,
        }
    }

    fn count(&mut self, taken: Taken, size: u64) {
        match taken {
            Taken::Pending => {
                self.pending += 1;
                self.octets += size;
            }
            Taken::Known => self.known += 1,
            Taken::Later => self.later += 1,
            Taken::Refused => self.refused += 1,
        }
    }
}

/// When a custodian was asked last.
fn asked(last: &[(Domain, &'static str, Timestamp)], custodian: &Custodian) -> Option<Timestamp> {
    let is_this =
        |(host, way, _): &&(Domain, &str, Timestamp)| (host, *way) == (&custodian.host, custodian.way.as_str());
    last.iter().find(is_this).map(|(.., at)| *at)
}

fn tell(fetched: &Fetched) {
    let Fetched { custodian, domain, pending, octets, known, later, refused, said, error, .. } = fetched;
    match (error, said) {
        (Some(error), _) => warn!(%custodian, %domain, pending, error, "a custodian could not be asked"),
        (None, Some(said)) => info!(%custodian, %domain, said, "a custodian was asked"),
        (None, None) => info!(%custodian, %domain, pending, octets, known, later, refused, "a custodian was asked"),
    }
}
