//! What sites upload to their custodian here (TBR §7.4): a list of messages, the octets of those that are not here, the list once
//! more.
//!
//! What is answered, and when a message counts as taken, is `queue::letters`'. Octets are kept as they come ([`parts`]); taking a
//! message that is whole begins in `letters`.

mod parts;

use std::time::Duration;

use mail::ledger::ObjectRef;
use mail::object::Checked;
use mail::{Holder, Timestamp};
use net::repository::{Busy, NotTaken, Part, Uploaded};
use queue::letters::{Answering, Letter, Octets, Step, Whole};
use reference::bundle::{MailEntry, MailList};
use reference::upload::MailAnswer;
use reference::verify::CLOCK_SKEW;
use store::Store;
use tracing::{info, warn};

use crate::deliver::facts;
use crate::letters::{self, Carriage, Letters, NotNow};
use crate::receive::{Booked, LiveConfig, Sending};
use crate::runtime::now;
use parts::{Looked, MOST, Parts, broken};

/// When to come again where a message cannot be taken now.
const COME_AGAIN: Duration = Duration::from_secs(30);

/// Takes what sites send.
#[derive(Clone)]
pub(crate) struct Uploads {
    letters: Letters,
    store: Store,
    config: LiveConfig,
    sending: Sending,
    parts: Parts,
}

/// A message whose octets are looked at: nobody adds to them meanwhile, and it is counted against what its site may send.
struct InHand {
    looked: Looked,
    booked: Booked,
}

impl Uploads {
    pub(crate) fn new(letters: Letters, store: Store, config: LiveConfig, sending: Sending) -> Self {
        Self { letters, parts: Parts::new(store.clone()), store, config, sending }
    }

    /// Takes of a list what is here, and says how much is of the rest. Entries that make no sense are left out, and so are those
    /// that there is no room for beside the others.
    pub(crate) async fn list(&self, site: &Holder, list: MailList) -> Result<MailAnswer, NotTaken> {
        let letters = list.mail.into_iter().filter_map(|entry| read(entry, site));
        let mut answering = Answering::new(letters, self.config.get().limits.message_size, MOST);
        let mut in_hand = None;
        while let Some(step) = answering.step() {
            match step {
                Step::Recall(letter) => {
                    let row = self.store.load(vec![letter.key()]).await.map_err(|error| later(&error.into()))?.pop();
                    answering.recalled(row.as_ref());
                }
                Step::Look(letter) => {
                    let mut found = self.look(letter).await?;
                    match answering.looked(found.looked.held()) {
                        Octets::Kept => {}
                        Octets::Dropped => found.looked.begin_anew().await?,
                        Octets::Whole => in_hand = Some(found),
                    }
                }
                Step::Take(letter) => {
                    let Some(found) = in_hand.take() else { return Err(later(&NotNow::Queue)) };
                    let whole = self.take(letter, found).await?;
                    answering.took(whole);
                }
            }
        }
        Ok(answering.finish())
    }

    async fn look(&self, letter: &Letter) -> Result<InHand, NotTaken> {
        let booked = self.book(letter)?;
        let looked = self.parts.look(&letter.site, letter.xuid, letter.size).await?;
        Ok(InHand { looked, booked })
    }

    /// Takes a message all of whose octets are here.
    async fn take(&self, letter: &Letter, InHand { mut looked, booked }: InHand) -> Result<Whole, NotTaken> {
        let (object, checked) = looked.intake.finish().await.map_err(|error| broken(&error))?;
        if let Some(wrong) = unfit(letter, &object, &checked) {
            self.store.discard(&object);
            looked.begin_anew().await?;
            return Ok(wrong);
        }
        let told = self.letters.take(letter, Carriage::Upload, object, checked).await.map_err(|error| later(&error))?;
        booked.sent();
        self.parts.forget(&letter.site, &letter.xuid);
        if let Err(error) = looked.intake.forget().await {
            info!(%error, "what has come of a message that was taken is kept for its time");
        }
        Ok(Whole::Told(told))
    }

    /// Counts a message of a site against what it may send. What comes to nothing is given back.
    fn book(&self, letter: &Letter) -> Result<Booked, NotTaken> {
        let (config, site) = (self.config.get(), &letter.site);
        let allowance = config.site(site).map(|site| site.allowance).unwrap_or_default();
        let booked = self.sending.begin(&format!("@{site}"), allowance).and_then(|mut booked| {
            for _ in &letter.recipients {
                booked.recipient()?;
            }
            Ok(booked)
        });
        booked.map_err(|spent| NotTaken::TooMany(Busy { retry_after: spent.wait }))
    }

    /// Takes a part of an object that a list has named. What comes is kept, also where the connection breaks.
    pub(crate) async fn part(&self, site: &Holder, part: Part) -> Uploaded {
        self.parts.part(site, part).await
    }
}

/// Why these octets are not the message.
fn unfit(letter: &Letter, object: &ObjectRef, checked: &Checked) -> Option<Whole> {
    match () {
        () if object.xuid != letter.xuid => Some(Whole::Other),
        () if !facts(checked).is_object => Some(Whole::NoObject),
        () => None,
    }
}

/// An entry that can be read, and is not of a time to come.
fn read(entry: MailEntry, site: &Holder) -> Option<Letter> {
    let is_of_the_future = Timestamp::from_secs(entry.at) > now().after(CLOCK_SKEW);
    if is_of_the_future { None } else { letters::read(entry, site) }
}

fn later(error: &NotNow) -> NotTaken {
    warn!(%error, "what a site sends is not taken now");
    NotTaken::Busy(Busy { retry_after: COME_AGAIN })
}
