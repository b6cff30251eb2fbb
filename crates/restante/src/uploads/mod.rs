//! What sites upload to their custodian here (TBR §7.4): a list of messages, the octets of those that are not here, the list once
//! more.
//!
//! Octets are kept as they come ([`parts`]). Taking a message that is whole is `letters`'.

mod parts;

use std::collections::HashSet;
use std::time::Duration;

use mail::{Domain, EnhancedStatus, Timestamp};
use net::repository::{Busy, NotTaken, Part, Uploaded};
use reference::bundle::{MailEntry, MailList, TakenEntry};
use reference::upload::{MailAnswer, WantedObject};
use reference::verify::CLOCK_SKEW;
use store::Store;
use tracing::{info, warn};

use crate::deliver::facts;
use crate::letters::{Carriage, Letter, Letters, NotNow};
use crate::receive::{Booked, LiveConfig, Sending};
use crate::runtime::now;
use parts::{Looked, MOST, Parts, broken};

/// When to come again where a message cannot be taken now.
const COME_AGAIN: Duration = Duration::from_secs(30);

const TOO_LARGE: (EnhancedStatus, &str) = (EnhancedStatus::permanent(3, 4), "the message is too large");
const NO_OBJECT: (EnhancedStatus, &str) = (EnhancedStatus::permanent(6, 0), "the message is not well-formed");

/// Takes what sites send.
#[derive(Clone)]
pub(crate) struct Uploads {
    letters: Letters,
    store: Store,
    config: LiveConfig,
    sending: Sending,
    parts: Parts,
}

/// What came of one message of a list.
enum One {
    Taken(TakenEntry),
    /// So many octets of it are here.
    Wanted(u64),
}

impl Uploads {
    pub(crate) fn new(letters: Letters, store: Store, config: LiveConfig, sending: Sending) -> Self {
        Self { letters, parts: Parts::new(store.clone()), store, config, sending }
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
            return Ok(One::Taken(letter.refused(why)));
        }
        let booked = self.book(site, letter)?;
        let mut looked = self.parts.look(site, letter.xuid(), letter.size()).await?;
        match looked.held() {
            at if at < letter.size() => Ok(One::Wanted(at)),
            at if at > letter.size() => looked.begin_anew().await.map(|()| One::Wanted(0)),
            _ => self.take(site, letter, &mut looked, booked).await,
        }
    }

    /// Takes a message all of whose octets are here.
    async fn take(&self, site: &Domain, letter: &Letter, looked: &mut Looked, booked: Booked) -> Result<One, NotTaken> {
        let (object, checked) = looked.intake.finish().await.map_err(|error| broken(&error))?;
        if object.xuid != letter.xuid() || !facts(&checked).is_object {
            self.store.discard(&object);
            let is_wrong = object.xuid != letter.xuid();
            looked.begin_anew().await?;
            return Ok(if is_wrong { One::Wanted(0) } else { One::Taken(letter.refused(NO_OBJECT)) });
        }
        self.letters.take(letter, (site, Carriage::Upload), object, checked).await.map_err(|error| later(&error))?;
        booked.sent();
        self.parts.forget(site, &letter.xuid());
        if let Err(error) = looked.intake.forget().await {
            info!(%error, "what has come of a message that was taken is kept for its time");
        }
        self.taken(site, letter).await?.map(One::Taken).ok_or_else(|| later(&NotNow::Queue))
    }

    async fn taken(&self, site: &Domain, letter: &Letter) -> Result<Option<TakenEntry>, NotTaken> {
        self.letters.taken(letter, site).await.map_err(|error| later(&error))
    }

    /// Counts a message of a site against what it may send. What comes to nothing is given back.
    fn book(&self, site: &Domain, letter: &Letter) -> Result<Booked, NotTaken> {
        let config = self.config.get();
        let keys = config.domain(site).and_then(|domain| domain.site.as_ref());
        let allowance = keys.map(|site| site.allowance).unwrap_or_default();
        let booked = self.sending.begin(&format!("@{site}"), allowance).and_then(|mut booked| {
            for _ in 0..letter.recipients() {
                booked.recipient()?;
            }
            Ok(booked)
        });
        booked.map_err(|spent| NotTaken::TooMany(Busy { retry_after: spent.wait }))
    }

    /// Takes a part of an object that a list has named. What comes is kept, also where the connection breaks.
    pub(crate) async fn part(&self, site: &Domain, part: Part) -> Uploaded {
        self.parts.part(site, part).await
    }
}

/// An entry that can be read, and is not of a time to come.
fn read(entry: MailEntry, site: &Domain) -> Option<Letter> {
    let is_of_the_future = Timestamp::from_secs(entry.at) > now().after(CLOCK_SKEW);
    if is_of_the_future { None } else { Letter::read(entry, site) }
}

fn later(error: &NotNow) -> NotTaken {
    warn!(%error, "what a site sends is not taken now");
    NotTaken::Busy(Busy { retry_after: COME_AGAIN })
}
