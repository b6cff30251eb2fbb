//! Octets of what sites upload: kept as they come, by the store, and gone on with.
//!
//! Which objects lists have named is remembered in memory only, and limited. One writes to an object at a time: whoever comes
//! last, because of dead connections nobody tells.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use mail::ledger::{Owner, Representation};
use mail::{Holder, Timestamp, Xuid};
use net::repository::{Busy, Chunks, NotTaken, Part, Uploaded};
use store::{Intake, IntakeError, Purpose, Reservation, Store, Wanted};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::runtime::now;

/// Most objects of one site that wait for their octets; those of its older lists give way.
pub(super) const MOST: usize = 64;
/// How long an object is waited for after a list has named it.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How long octets are kept that nobody goes on with.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// When to come again where something is in the way.
const COME_AGAIN: Duration = Duration::from_secs(30);
/// The same where there is no room.
const COME_LATER: Duration = Duration::from_secs(300);

/// What is here of objects that are not whole.
#[derive(Clone)]
pub(super) struct Parts {
    store: Store,
    named: Named,
}

/// An object that is looked at: nobody writes to it meanwhile.
pub(super) struct Looked {
    pub(super) intake: Intake,
    _turn: OwnedMutexGuard<()>,
    _room: Reservation,
}

impl Looked {
    /// So many octets are here.
    pub(super) fn held(&self) -> u64 {
        held(&self.intake)
    }

    /// Throws them away.
    pub(super) async fn begin_anew(&mut self) -> Result<(), NotTaken> {
        begin_anew(&mut self.intake).await
    }
}

impl Parts {
    pub(super) fn new(store: Store) -> Self {
        Self { store, named: Named::default() }
    }

    /// A list has named an object: what is here of it. Whoever writes to it keeps what it has, and ends.
    pub(super) async fn look(&self, site: &Holder, xuid: Xuid, size: u64) -> Result<Looked, NotTaken> {
        let room = self.reserve(site, size)?;
        let place = self.named.name(site, xuid, size);
        let turn = place.turn.lock_owned().await;
        let intake = self.intake(site, xuid, size).await?;
        Ok(Looked { intake, _turn: turn, _room: room })
    }

    /// It is whole, and taken.
    pub(super) fn forget(&self, site: &Holder, xuid: &Xuid) {
        self.named.forget(site, xuid);
    }

    /// Takes a part of an object that a list has named. What comes is kept, also where the connection breaks.
    pub(super) async fn part(&self, site: &Holder, part: Part) -> Uploaded {
        self.take_part(site, part).await.unwrap_or_else(Uploaded::NotTaken)
    }

    async fn take_part(&self, site: &Holder, part: Part) -> Result<Uploaded, NotTaken> {
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
        site: &Holder,
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
                begin_anew(&mut intake).await?;
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

    fn reserve(&self, site: &Holder, octets: u64) -> Result<Reservation, NotTaken> {
        let owner = Owner { account: None, domain: Some(site.domain().clone()) };
        self.store.reserve(owner, Purpose::New, octets).map_err(|full| {
            info!(%site, %full, "no room for what a site sends");
            NotTaken::Full(Busy { retry_after: COME_LATER })
        })
    }

    /// What is here of an object, to be gone on with. Its place is the caller's: nobody else has it now.
    async fn intake(&self, site: &Holder, xuid: Xuid, size: u64) -> Result<Intake, NotTaken> {
        let now = now();
        let wanted = Wanted { origin: site.clone(), xuid, size, until: now.after(KEPT), now };
        let mut intake = self.store.intake(wanted).await.map_err(|error| broken(&error.into()))?;
        if !intake.is_alone() {
            return Err(NotTaken::Busy(Busy { retry_after: COME_AGAIN }));
        }
        if intake.held().is_some_and(|(held, _)| *held != representation(&xuid, size)) {
            begin_anew(&mut intake).await?;
        }
        Ok(intake)
    }
}

/// Octets are uploaded as they are; there is no other representation.
fn representation(xuid: &Xuid, size: u64) -> Representation {
    Representation { coding: None, tag: Some(format!("\"{xuid}\"")), size: Some(size) }
}

fn held(intake: &Intake) -> u64 {
    intake.held().map_or(0, |(_, octets)| octets)
}

async fn begin_anew(intake: &mut Intake) -> Result<(), NotTaken> {
    intake.forget().await.map_err(|error| broken(&error.into()))
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

pub(super) fn broken(error: &IntakeError) -> NotTaken {
    warn!(%error, "what a site sends cannot be kept");
    NotTaken::Busy(Busy { retry_after: COME_AGAIN })
}

/// The objects that lists have named, by site.
#[derive(Debug, Clone, Default)]
struct Named(Arc<Mutex<HashMap<Holder, HashMap<Xuid, Entry>>>>);

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
    fn name(&self, site: &Holder, xuid: Xuid, size: u64) -> Place {
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
    fn take_over(&self, site: &Holder, xuid: &Xuid) -> Option<Place> {
        Some(self.lock().get_mut(site)?.get_mut(xuid)?.take_over())
    }

    fn forget(&self, site: &Holder, xuid: &Xuid) {
        let mut sites = self.lock();
        if let Some(objects) = sites.get_mut(site) {
            objects.remove(xuid);
            if objects.is_empty() {
                sites.remove(site);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Holder, HashMap<Xuid, Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn take_over(&mut self) -> Place {
        std::mem::take(&mut self.place.stop).cancel();
        self.place.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use mail::InstanceId;
    use store::Quotas;
    use tokio::sync::mpsc;

    use super::*;

    const OBJECT: &[u8] = b"From: bob@site.example\r\n\r\nSome octets, and then some more.\r\n";

    fn site() -> Holder {
        "site.example".parse().unwrap()
    }

    fn parts() -> Parts {
        Parts::new(Store::memory(InstanceId([1; 16])))
    }

    /// How many octets are here of an object that a list names.
    async fn look(parts: &Parts, object: &[u8]) -> u64 {
        parts.look(&site(), Xuid::of(object), object.len() as u64).await.unwrap().held()
    }

    /// A part whose octets come at once; it breaks where they are fewer than it says.
    fn part(xuid: Xuid, offset: u64, length: usize, octets: &[u8]) -> Part {
        let broken = octets.len() < length;
        let chunk = Ok(Bytes::copy_from_slice(octets));
        let end = broken.then(|| Err(io::ErrorKind::UnexpectedEof.into()));
        let octets: Chunks = Box::pin(stream::iter([chunk].into_iter().chain(end)));
        Part { xuid, offset, length: length as u64, octets }
    }

    async fn send(parts: &Parts, offset: u64, octets: &[u8]) -> Uploaded {
        parts.part(&site(), part(Xuid::of(OBJECT), offset, octets.len(), octets)).await
    }

    #[tokio::test]
    async fn what_came_before_a_break_is_gone_on_with() {
        let parts = parts();
        assert_eq!(look(&parts, OBJECT).await, 0);
        let torn = part(Xuid::of(OBJECT), 0, OBJECT.len(), &OBJECT[..7]);
        assert_eq!(parts.part(&site(), torn).await, Uploaded::Elsewhere(7));
        assert_eq!(look(&parts, OBJECT).await, 7);
        assert_eq!(send(&parts, 7, &OBJECT[7..20]).await, Uploaded::At(20));
        assert_eq!(send(&parts, 20, &OBJECT[20..]).await, Uploaded::At(OBJECT.len() as u64));
        let mut looked = parts.look(&site(), Xuid::of(OBJECT), OBJECT.len() as u64).await.unwrap();
        assert_eq!(looked.intake.finish().await.unwrap().0.xuid, Xuid::of(OBJECT));
    }

    #[tokio::test]
    async fn only_what_a_list_of_this_site_has_named_is_taken() {
        let parts = parts();
        assert_eq!(send(&parts, 0, OBJECT).await, Uploaded::Unknown);
        assert_eq!(look(&parts, OBJECT).await, 0);
        let other: Holder = "bob@site.example".parse().unwrap();
        let theirs = part(Xuid::of(OBJECT), 0, OBJECT.len(), OBJECT);
        assert_eq!(parts.part(&other, theirs).await, Uploaded::Unknown);
        // What one site has sent is nothing to another.
        assert_eq!(send(&parts, 0, OBJECT).await, Uploaded::At(OBJECT.len() as u64));
        let theirs = parts.look(&other, Xuid::of(OBJECT), OBJECT.len() as u64).await.unwrap();
        assert_eq!(theirs.held(), 0);
        parts.forget(&site(), &Xuid::of(OBJECT));
        assert_eq!(send(&parts, OBJECT.len() as u64, b"").await, Uploaded::Unknown);
    }

    #[tokio::test]
    async fn a_wrong_offset_more_than_announced_and_other_octets_change_nothing() {
        let parts = parts();
        look(&parts, OBJECT).await;
        assert_eq!(send(&parts, 1, &OBJECT[1..]).await, Uploaded::Elsewhere(0));
        assert_eq!(send(&parts, 0, &OBJECT[..10]).await, Uploaded::At(10));
        for offset in [0, 9, 11, OBJECT.len() as u64] {
            assert_eq!(send(&parts, offset, b"").await, Uploaded::Elsewhere(10), "{offset}");
        }
        let more = [&OBJECT[10..], b"x"].concat();
        assert_eq!(send(&parts, 10, &more).await, Uploaded::TooLong);
        for offset in [OBJECT.len() as u64 + 1, u64::MAX] {
            assert_eq!(send(&parts, offset, b"x").await, Uploaded::TooLong, "{offset}");
        }
        assert_eq!(look(&parts, OBJECT).await, 10);
        let mut wrong = OBJECT[10..].to_vec();
        wrong[3] ^= 1;
        assert_eq!(send(&parts, 10, &wrong).await, Uploaded::Wrong);
        assert_eq!(look(&parts, OBJECT).await, 0, "wrong octets were kept");
        assert_eq!(send(&parts, 0, OBJECT).await, Uploaded::At(OBJECT.len() as u64));
    }

    #[tokio::test]
    async fn of_two_writers_the_later_goes_on_behind_the_first() {
        let parts = parts();
        look(&parts, OBJECT).await;
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
        let octets: Chunks = Box::pin(stream::unfold(receiver, |mut receiver| async move {
            let chunk = receiver.recv().await?;
            Some((chunk, receiver))
        }));
        let first = Part { xuid: Xuid::of(OBJECT), offset: 0, length: OBJECT.len() as u64, octets };
        let writing = tokio::spawn({
            let parts = parts.clone();
            async move { parts.part(&site(), first).await }
        });
        sender.send(Ok(Bytes::from_static(&OBJECT[..12]))).await.unwrap();
        // There is room for the next one when the first has been taken out, before it is waited for the next.
        sender.send(Ok(Bytes::new())).await.unwrap();
        sender.send(Ok(Bytes::new())).await.unwrap();
        // Its connection is dead, and nobody knows; the site asks how much has come.
        let looking = tokio::time::timeout(Duration::from_secs(20), look(&parts, OBJECT));
        assert_eq!(looking.await, Ok(12), "the first writer stays");
        assert_eq!(writing.await.unwrap(), Uploaded::Elsewhere(12));
        assert_eq!(send(&parts, 12, &OBJECT[12..]).await, Uploaded::At(OBJECT.len() as u64));
    }

    #[tokio::test]
    async fn objects_that_are_waited_for_are_limited_and_older_lists_give_way() {
        let parts = parts();
        for number in 0..=MOST {
            look(&parts, number.to_string().as_bytes()).await;
        }
        let count = || parts.named.lock().values().map(HashMap::len).sum::<usize>();
        assert_eq!(count(), MOST);
        let last = MOST.to_string();
        let named = part(Xuid::of(last.as_bytes()), 0, 1, b"x");
        assert_eq!(parts.part(&site(), named).await, Uploaded::At(1));
        parts.named.lock().get_mut(&site()).unwrap().values_mut().for_each(|entry| {
            entry.at = entry.at.before(PATIENCE + Duration::from_secs(1));
        });
        look(&parts, OBJECT).await;
        assert_eq!(count(), 1, "nobody came for a day");
        parts.forget(&site(), &Xuid::of(OBJECT));
        assert!(parts.named.lock().is_empty());
    }

    #[tokio::test]
    async fn where_there_is_no_room_nothing_is_asked_for_or_taken() {
        let parts = parts();
        look(&parts, OBJECT).await;
        parts.store.set_quotas(Quotas { total: Some(10), ..Quotas::default() });
        let full = NotTaken::Full(Busy { retry_after: COME_LATER });
        assert_eq!(send(&parts, 0, OBJECT).await, Uploaded::NotTaken(full));
        let looked = parts.look(&site(), Xuid::of(OBJECT), OBJECT.len() as u64).await;
        assert_eq!(looked.err(), Some(full));
    }
}
