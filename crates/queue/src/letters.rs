//! Mail of a site, at its custodian: what names a message so that it is taken once, however often it comes and whether in a bundle
//! (TBR §7.5) or by upload (§7.4); what the site is told of it; and what is answered to the list of an upload.
//!
//! Reads and decides. Taking one is [`crate::origin`]'s. Whose mail it may be, where it goes, and octets are the edge's.

use std::array;
use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use mail::ledger::{Action, ContentFacts, Inbound, IndexState, Key, ObjectRef, Outcome, Row, RowBody, Target};
use mail::{Address, EnhancedStatus, Holder, MailParams, QueueId, Recipient, ReferenceId, Timestamp, Xuid};
use reference::body::Text;
use reference::bundle::{NotTaken, TakenEntry};
use reference::upload::{MailAnswer, WantedObject};

use crate::remembered::Remembered;

/// How long what was taken is remembered: a site carries a message for 30 days, and a bundle counts for 30 more (TBR §7.5).
const MEMORY: Duration = Duration::from_secs(62 * 24 * 3600);
/// Before the site's name for it in the row that remembers, however it came.
const MARK: &str = "bundle/";

const TOO_LARGE: (EnhancedStatus, &str) = (EnhancedStatus::permanent(3, 4), "the message is too large");
const NO_OBJECT: (EnhancedStatus, &str) = (EnhancedStatus::permanent(6, 0), "the message is not well-formed");

/// A message as its site lists it.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The site's domain, or its user.
    pub site: Holder,
    /// The site's name for it.
    pub id: Key,
    /// When the site accepted it.
    pub at: Timestamp,
    /// Reverse-path.
    pub mail_from: Option<Address>,
    /// MAIL parameters.
    pub params: MailParams,
    /// For whom it is.
    pub recipients: Vec<Recipient>,
    /// Its object.
    pub xuid: Xuid,
    /// Octets of that.
    pub size: u64,
    /// Trace fields to stand above it.
    pub trace: String,
}

impl Letter {
    /// Its name here: the same whenever it comes, and nobody else's.
    pub fn queue_id(&self) -> QueueId {
        let digest = self.digest();
        QueueId::generate(self.at, array::from_fn(|place| digest[16 + place]))
    }

    /// The row that remembers it. While that is there, it has been taken: [`told`] reads it.
    pub fn key(&self) -> Key {
        Key::Inbound(self.memory(), self.site.domain().clone())
    }

    fn memory(&self) -> ReferenceId {
        memory(&self.site, &self.id.to_string())
    }

    fn digest(&self) -> [u8; 32] {
        digest(&self.site, &self.id.to_string())
    }

    /// What the site is told where nobody gets it. It is not remembered: the next time the answer is the same.
    fn refused(&self, (status, why): (EnhancedStatus, &str)) -> TakenEntry {
        let failed = |recipient: &Recipient| NotTaken { rcpt: recipient.address.clone(), status, text: Text::new(why) };
        TakenEntry { id: self.id.clone(), failed: self.recipients.iter().map(failed).collect() }
    }
}

/// Domains and their users have no name in common, so none remembers what another has sent.
fn memory(site: &Holder, id: &str) -> ReferenceId {
    let digest = digest(site, id);
    ReferenceId(array::from_fn(|place| digest[place]))
}

fn digest(site: &Holder, id: &str) -> [u8; 32] {
    *Xuid::of(format!("{site} {id}").as_bytes()).as_bytes()
}

/// A message all of whose octets are here, stored but not yet synced, and how it goes on.
#[derive(Debug, Clone)]
pub struct Taking {
    /// The message.
    pub letter: Letter,
    /// Its content as it goes on: signed here, perhaps.
    pub object: ObjectRef,
    /// What was found in that.
    pub facts: ContentFacts,
    /// Trace fields to stand above it, ours and the site's.
    pub prefix: String,
    /// Recipients whom it goes on to, and where they lead. Where there is none, the message is only remembered.
    pub recipients: Vec<(Recipient, Vec<Target>)>,
    /// The others, and why.
    pub failed: Vec<(Recipient, EnhancedStatus, String)>,
}

impl Taking {
    /// The row that remembers that it was taken, and for whom not.
    pub(crate) fn memory(&self, at: Timestamp) -> Inbound {
        let letter = &self.letter;
        let failed = self.failed.iter().map(|(recipient, status, why)| {
            let outcome = Outcome {
                action: Action::Failed,
                status: *status,
                text: why.clone(),
                at,
                reported: true,
                withdrawn: false,
            };
            (recipient.clone(), IndexState::Final { outcome, acknowledged: true, acted: false })
        });
        let taken = self.recipients.iter().map(|(recipient, _)| (recipient.clone(), IndexState::Refused));
        let memory = Remembered {
            queue_id: letter.queue_id(),
            d: letter.site.domain().clone(),
            i: letter.memory(),
            to: letter.site.domain().clone(),
            fingerprint: format!("{MARK}{}", letter.id),
            xuid: letter.xuid,
            size: letter.size,
            until: at.after(MEMORY),
            mail_from: letter.mail_from.clone(),
            recipients: failed.chain(taken).collect(),
        };
        memory.row(at)
    }
}

/// What a row that remembers tells the site; `None` for every other row.
pub fn told(inbound: &Inbound, site: &Holder) -> Option<TakenEntry> {
    let id = inbound.fingerprint.strip_prefix(MARK).filter(|id| inbound.i == memory(site, id))?;
    let failed = inbound.recipients.iter().filter_map(|recipient| match &recipient.state {
        IndexState::Final { outcome, .. } => Some(NotTaken {
            rcpt: recipient.recipient.address.clone(),
            status: outcome.status,
            text: Text::new(&outcome.text),
        }),
        _ => None,
    });
    Some(TakenEntry { id: id.parse().ok()?, failed: failed.collect() })
}

/// An answer to a list, on its way: message by message it says what is to be found out or done next ([`Answering::step`]), and is
/// told. A message is called taken by the row that remembers it or by the queue, and by nothing else.
#[derive(Debug)]
pub struct Answering {
    letters: VecDeque<Letter>,
    stage: Stage,
    answer: MailAnswer,
    /// Most octets of a message.
    most_octets: u64,
    /// Most objects that are waited for.
    most_wanted: usize,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Recall,
    Look,
    Take,
}

/// What is next.
#[derive(Debug)]
pub enum Step<'a> {
    /// Is there the row [`Letter::key`]? Tell [`Answering::recalled`].
    Recall(&'a Letter),
    /// How many octets of its object are here? Nobody may add to them meanwhile. Tell [`Answering::looked`].
    Look(&'a Letter),
    /// All are here: make an object of them, and have the queue take it ([`Taking`]). Tell [`Answering::took`].
    Take(&'a Letter),
}

/// What becomes of the octets that are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Octets {
    /// They are kept.
    Kept,
    /// They are thrown away: nothing can come of them.
    Dropped,
    /// They are all of them: [`Step::Take`] follows, and nobody may add to them until then.
    Whole,
}

/// What came of all octets of a message.
#[derive(Debug)]
pub enum Whole {
    /// The queue has answered with this.
    Told(TakenEntry),
    /// They are of another object than the list names.
    Other,
    /// They are no object (TBR §2.2).
    NoObject,
}

impl Answering {
    /// To these messages, each of at most so many octets; no more than so many objects are waited for.
    pub fn new(letters: impl IntoIterator<Item = Letter>, most_octets: u64, most_wanted: usize) -> Self {
        let letters = letters.into_iter().collect();
        Self { letters, stage: Stage::Recall, answer: MailAnswer::default(), most_octets, most_wanted }
    }

    /// What is to be done now; `None`: the answer is complete.
    pub fn step(&mut self) -> Option<Step<'_>> {
        let wanted: HashSet<Xuid> = self.answer.wanted.iter().map(|wanted| wanted.o).collect();
        // Two messages of one content are taken one after the other, and of too many the rest comes with the next list.
        let is_left_out = |letter: &Letter| wanted.len() >= self.most_wanted || wanted.contains(&letter.xuid);
        while self.letters.front().is_some_and(is_left_out) {
            self.letters.pop_front();
        }
        let letter = self.letters.front()?;
        Some(match self.stage {
            Stage::Recall => Step::Recall(letter),
            Stage::Look => Step::Look(letter),
            Stage::Take => Step::Take(letter),
        })
    }

    /// The row that remembers the message, if there is one.
    pub fn recalled(&mut self, row: Option<&Row>) {
        let Some(letter) = self.letters.front() else { return };
        let taken = row.and_then(|row| match &row.body {
            RowBody::Inbound(inbound) => told(inbound, &letter.site),
            RowBody::Leg(_) => None,
        });
        let refused = match letter.size {
            0 => Some(NO_OBJECT),
            size if size > self.most_octets => Some(TOO_LARGE),
            _ => None,
        };
        match taken.or_else(|| refused.map(|why| letter.refused(why))) {
            Some(entry) => self.taken(entry),
            None => self.stage = Stage::Look,
        }
    }

    /// So many octets of it are here.
    pub fn looked(&mut self, held: u64) -> Octets {
        let Some(size) = self.letters.front().map(|letter| letter.size) else { return Octets::Kept };
        match held.cmp(&size) {
            Ordering::Less => {
                self.wanted(held);
                Octets::Kept
            }
            Ordering::Equal => {
                self.stage = Stage::Take;
                Octets::Whole
            }
            Ordering::Greater => {
                self.wanted(0);
                Octets::Dropped
            }
        }
    }

    /// This came of all its octets. What was kept of them besides the object is thrown away.
    pub fn took(&mut self, whole: Whole) {
        match whole {
            Whole::Other => self.wanted(0),
            Whole::NoObject => {
                let refused = self.letters.front().map(|letter| letter.refused(NO_OBJECT));
                refused.into_iter().for_each(|entry| self.taken(entry));
            }
            Whole::Told(entry) => self.taken(entry),
        }
    }

    /// The answer.
    pub fn finish(self) -> MailAnswer {
        self.answer
    }

    fn taken(&mut self, entry: TakenEntry) {
        self.letters.pop_front();
        self.stage = Stage::Recall;
        self.answer.taken.push(entry);
    }

    fn wanted(&mut self, at: u64) {
        self.stage = Stage::Recall;
        self.answer.wanted.extend(self.letters.pop_front().map(|letter| WantedObject { o: letter.xuid, at }));
    }
}
