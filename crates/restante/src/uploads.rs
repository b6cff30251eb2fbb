//! What sites upload to their custodian here (TBR §7.4): a list of messages, the octets of those that are not here, the list once
//! more.
//!
//! Octets are kept as they come, by the store, so that neither a link that breaks nor a crash loses them ([`store::Intake`]: how
//! many there may be, and for how long, is said there). What lists have named is remembered in memory only: a site whose part is
//! refused as unknown posts its list again. Taking a message that is whole is `letters`'.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use mail::ledger::{Owner, Representation};
use mail::{Domain, EnhancedStatus, Timestamp, Xuid};
use net::repository::{Busy, Chunks, NotTaken, Part, Uploaded};
use reference::bundle::{MailEntry, MailList, TakenEntry};
use reference::upload::{MailAnswer, WantedObject};
use reference::verify::CLOCK_SKEW;
use store::{Intake, IntakeError, Purpose, Reservation, Store, Wanted};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::deliver::facts;
use crate::letters::{Carriage, Letter, Letters, NotNow};
use crate::receive::LiveConfig;
use crate::runtime::now;

/// Most objects of one site that wait for their octets; those of its older lists give way.
const MOST: usize = 64;
/// How long an object is waited for after a list has named it.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How long octets are kept that nobody goes on with.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// When to come again where something is in the way.
const COME_AGAIN: Duration = Duration::from_secs(30);
/// The same where there is no room.
const COME_LATER: Duration = Duration::from_secs(300);

const TOO_LARGE: (EnhancedStatus, &str) = (EnhancedStatus::permanent(3, 4), "the message is too large");
const NO_OBJECT: (EnhancedStatus, &str) = (EnhancedStatus::permanent(6, 0), "the message is not well-formed");

/// Takes what sites send.
#[derive(Clone)]
pub(crate) struct Uploads {
    letters: Letters,
    store: Store,
    config: LiveConfig,
    named: Named,
}

/// What came of one message of a list.
enum One {
    Taken(TakenEntry),
    /// So many octets of it are here.
    Wanted(u64),
}

impl Uploads {
    pub(crate) fn new(letters: Letters, store: Store, config: LiveConfig) -> Self {
        Self { letters, store, config, named: Named::default() }
    }

    /// Takes of a list what is here, and says how much is of the rest. Entries that make no sense are left out, and so are those
    /// that there is no room for beside the others.
    pub(crate) async fn list(&self, site: &Domain, list: MailList) -> Result<MailAnswer, NotTaken> {
        let (mut answer, mut wanted) = (MailAnswer::default(), HashSet::new());
        for letter in list.mail.into_iter().filter_map(|entry| read(entry, site)) {
            // Two messages of one content are taken one after the other.
            if wanted.len() >= MOST || wanted.contains(&letter.xuid()) {
                continue;
            }
            match self.one(site, &letter).await? {
                One::Taken(entry) => answer.taken.push(entry),
                One::Wanted(at) => {
                    wanted.insert(letter.xuid());
                    answer.wanted.push(WantedObject { o: letter.xuid(), at });
                }
            }
        }
        Ok(answer)
    }

    async fn one(&self, site: &Domain, letter: &Letter) -> Result<One, NotTaken> {
        if let Some(entry) = self.taken(site, letter).await? {
            return Ok(One::Taken(entry));
        }
        let refused = match letter.size() {
            0 => Some(NO_OBJECT),
            size if size > self.config.get().limits.message_size => Some(TOO_LARGE),
            _ => None,
        };
        if let Some(why) = refused {
            return self.refuse(site, letter, why).await;
        }
        let _room = self.reserve(site, letter.size())?;
        let place = self.named.name(site, letter.xuid(), letter.size());
        let _turn = place.turn.lock().await;
        let mut intake = self.intake(site, letter.xuid(), letter.size()).await?;
        match held(&intake) {
            at if at < letter.size() => Ok(One::Wanted(at)),
            at if at > letter.size() => self.begin_anew(&mut intake).await,
            _ => self.take(site, letter, &mut intake).await,
        }
    }

    /// Takes a message all of whose octets are here.
    async fn take(&self, site: &Domain, letter: &Letter, intake: &mut Intake) -> Result<One, NotTaken> {
        let (object, checked) = intake.finish().await.map_err(|error| broken(&error))?;
        if object.xuid != letter.xuid() || !facts(&checked).is_object {
            self.store.discard(&object);
            let is_wrong = object.xuid != letter.xuid();
            let anew = self.begin_anew(intake).await?;
            return if is_wrong { Ok(anew) } else { self.refuse(site, letter, NO_OBJECT).await };
        }
        self.letters.take(letter, (site, Carriage::Upload), object, checked).await.map_err(|error| later(&error))?;
        self.named.forget(site, &letter.xuid());
        if let Err(error) = intake.forget().await {
            info!(%error, "what has come of a message that was taken is kept for its time");
        }
        self.taken(site, letter).await?.map(One::Taken).ok_or_else(|| later(&NotNow::Queue))
    }

    async fn taken(&self, site: &Domain, letter: &Letter) -> Result<Option<TakenEntry>, NotTaken> {
        self.letters.taken(letter, site).await.map_err(|error| later(&error))
    }

    async fn refuse(
        &self,
        site: &Domain,
        letter: &Letter,
        why: (EnhancedStatus, &'static str),
    ) -> Result<One, NotTaken> {
        self.letters.refuse(letter, site, why).await.map_err(|error| later(&error))?;
        self.taken(site, letter).await?.map(One::Taken).ok_or_else(|| later(&NotNow::Queue))
    }

    async fn begin_anew(&self, intake: &mut Intake) -> Result<One, NotTaken> {
        intake.forget().await.map_err(|error| broken(&error.into()))?;
        Ok(One::Wanted(0))
    }

    /// Takes a part of an object that a list has named. What comes is kept, also where the connection breaks.
    pub(crate) async fn part(&self, site: &Domain, part: Part) -> Uploaded {
        self.take_part(site, part).await.unwrap_or_else(Uploaded::NotTaken)
    }

    async fn take_part(&self, site: &Domain, part: Part) -> Result<Uploaded, NotTaken> {
        let Some(place) = self.named.take_over(site, &part.xuid) else { return Ok(Uploaded::Unknown) };
        if part.length > place.size.saturating_sub(part.offset) {
            return Ok(Uploaded::TooLong);
        }
        // Whoever wrote before keeps what it has, and ends.
        let _turn = place.turn.lock().await;
        if place.stop.is_cancelled() {
            return Err(NotTaken::Busy(Busy { retry_after: COME_AGAIN }));
        }
        let _room = self.reserve(site, place.size)?;
        let mut intake = self.intake(site, part.xuid, place.size).await?;
        let at = held(&intake);
        if at != part.offset {
            return Ok(Uploaded::Elsewhere(at));
        }
        if at == 0 {
            intake.begin(representation(&part.xuid, place.size)).await.map_err(|error| broken(&error))?;
        }
        let came = receive(&mut intake, part.octets, &place.stop).await;
        self.end_part(site, &part.xuid, &place, intake, came).await
    }

    /// Keeps what has come of a part, unless it is known to be wrong.
    async fn end_part(
        &self,
        site: &Domain,
        xuid: &Xuid,
        place: &Place,
        mut intake: Intake,
        came: Result<(), Broken>,
    ) -> Result<Uploaded, NotTaken> {
        let at = held(&intake);
        match came {
            Err(Broken::Store(error)) => return Err(broken(&error)),
            Ok(()) if at == place.size && !intake.is_wanted().await.map_err(|error| broken(&error))? => {
                warn!(%site, %xuid, "the octets that a site has uploaded are not those that its list names");
                self.begin_anew(&mut intake).await?;
                return Ok(Uploaded::Wrong);
            }
            Ok(()) | Err(Broken::Connection(_) | Broken::Superseded) => {}
        }
        intake.secure().await.map_err(|error| broken(&error))?;
        match came {
            Ok(()) => Ok(Uploaded::At(at)),
            Err(error) => {
                info!(%site, %xuid, octets = at, %error, "an upload broke off");
                Ok(Uploaded::Elsewhere(at))
            }
        }
    }

    fn reserve(&self, site: &Domain, octets: u64) -> Result<Reservation, NotTaken> {
        let owner = Owner { account: None, domain: Some(site.clone()) };
        self.store.reserve(owner, Purpose::New, octets).map_err(|full| {
            info!(%site, %full, "no room for what a site sends");
            NotTaken::Full(Busy { retry_after: COME_LATER })
        })
    }

    /// What is here of an object, to be gone on with. Its place is the caller's: nobody else has it now.
    async fn intake(&self, site: &Domain, xuid: Xuid, size: u64) -> Result<Intake, NotTaken> {
        let now = now();
        let wanted = Wanted { origin: site.clone(), xuid, size, until: now.after(KEPT), now };
        let mut intake = self.store.intake(wanted).await.map_err(|error| broken(&error.into()))?;
        if !intake.is_alone() {
            return Err(NotTaken::Busy(Busy { retry_after: COME_AGAIN }));
        }
        if intake.held().is_some_and(|(held, _)| *held != representation(&xuid, size)) {
            self.begin_anew(&mut intake).await?;
        }
        Ok(intake)
    }
}

/// An entry that can be read, and is not of a time to come.
fn read(entry: MailEntry, site: &Domain) -> Option<Letter> {
    let is_of_the_future = Timestamp::from_secs(entry.at) > now().after(CLOCK_SKEW);
    if is_of_the_future { None } else { Letter::read(entry, site) }
}

/// Octets are uploaded as they are; there is no other representation.
fn representation(xuid: &Xuid, size: u64) -> Representation {
    Representation { coding: None, tag: Some(format!("\"{xuid}\"")), size: Some(size) }
}

fn held(intake: &Intake) -> u64 {
    intake.held().map_or(0, |(_, octets)| octets)
}

/// Why no more came.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the connection broke: {0}")]
    Connection(io::Error),
    #[error("it is gone on with over another connection")]
    Superseded,
    #[error(transparent)]
    Store(#[from] IntakeError),
}

/// Takes octets until they end.
async fn receive(intake: &mut Intake, mut octets: Chunks, stop: &CancellationToken) -> Result<(), Broken> {
    loop {
        let chunk: Option<io::Result<Bytes>> = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Broken::Superseded),
            chunk = octets.next() => chunk,
        };
        match chunk {
            Some(Ok(chunk)) => intake.write(&chunk).await?,
            Some(Err(error)) => return Err(Broken::Connection(error)),
            None => return Ok(()),
        }
    }
}

fn broken(error: &IntakeError) -> NotTaken {
    warn!(%error, "what a site sends cannot be kept");
    NotTaken::Busy(Busy { retry_after: COME_AGAIN })
}

fn later(error: &NotNow) -> NotTaken {
    warn!(%error, "what a site sends is not taken now");
    NotTaken::Busy(Busy { retry_after: COME_AGAIN })
}

/// The objects that lists have named, by site.
#[derive(Debug, Clone, Default)]
struct Named(Arc<Mutex<HashMap<Domain, HashMap<Xuid, Entry>>>>);

#[derive(Debug)]
struct Entry {
    at: Timestamp,
    place: Place,
}

/// The place of whoever writes to an object, or looks what is here of it.
#[derive(Debug, Clone)]
struct Place {
    /// Octets of the object, as the list says.
    size: u64,
    /// Another one has come.
    stop: CancellationToken,
    /// One at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Named {
    /// A list has named it. Whoever writes to it ends: the connection that the list came over is the newest.
    fn name(&self, site: &Domain, xuid: Xuid, size: u64) -> Place {
        let mut sites = self.lock();
        let objects = sites.entry(site.clone()).or_default();
        let at = now();
        objects.retain(|_, entry| at.since(entry.at) <= PATIENCE);
        if objects.len() >= MOST
            && !objects.contains_key(&xuid)
            && let Some(oldest) = objects.iter().min_by_key(|(_, entry)| entry.at).map(|(xuid, _)| *xuid)
            && let Some(gone) = objects.remove(&oldest)
        {
            gone.place.stop.cancel();
        }
        let empty = || Entry { at, place: Place { size, stop: CancellationToken::new(), turn: Arc::default() } };
        let entry = objects.entry(xuid).or_insert_with(empty);
        (entry.at, entry.place.size) = (at, size);
        entry.take_over()
    }

    /// Somebody is about to write to it; `None` where no list has named it.
    fn take_over(&self, site: &Domain, xuid: &Xuid) -> Option<Place> {
        Some(self.lock().get_mut(site)?.get_mut(xuid)?.take_over())
    }

    fn forget(&self, site: &Domain, xuid: &Xuid) {
        let mut sites = self.lock();
        if let Some(objects) = sites.get_mut(site) {
            objects.remove(xuid);
            if objects.is_empty() {
                sites.remove(site);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Domain, HashMap<Xuid, Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn take_over(&mut self) -> Place {
        std::mem::take(&mut self.place.stop).cancel();
        self.place.clone()
    }
}
