//! Mail from a site, at its custodian: taken as if it had been submitted here, once, however often it comes, and whether in a
//! bundle (TBR §7.5) or by upload (§7.4).
//!
//! What was taken is remembered by a row that wants nothing, as long as a bundle with it may come; of whom it was not taken
//! for the row tells the site. The site speaks for its own domain only: sender and authors are looked at.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use mail::ledger::{Action, Inbound, IndexState, Key, Leg, ObjectRef, Outcome, RowBody, Source, Target};
use mail::object::Checked;
use mail::trace::Reception;
use mail::{Address, Domain, EnhancedStatus, MailParams, QueueId, Recipient, ReferenceId, Timestamp};
use policy::scrub::trace_above;
use queue::port::{Acceptance, Reply, Request};
use reference::body::Text;
use reference::bundle::{MailEntry, NotTaken, TakenEntry};
use reference::pending::MAX_TRACE;
use smtp::command::{Command, Mail, Rcpt};
use store::StoreError;
use tokio::sync::Mutex;
use tracing::info;

use crate::compose;
use crate::deliver::facts;
use crate::receive;
use crate::remembered::Remembered;
use crate::repository::arguments;
use crate::runtime::now;

/// How long what was taken is remembered: a site carries a message for 30 days, and a bundle counts for 30 more.
const MEMORY: Duration = Duration::from_secs(62 * 24 * 3600);
/// Before the name in the row that remembers, however it came.
const MARK: &str = "bundle/";
/// Longest header that is looked at.
const MAX_HEADER: u64 = 256 * 1024;

/// Why an entry is not taken now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotNow {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the queue cannot take more now")]
    Queue,
    #[error("{0}")]
    Other(String),
}

/// An entry that can be read.
pub(crate) struct Letter {
    entry: MailEntry,
    queue_id: QueueId,
    memory: ReferenceId,
    mail_from: Option<Address>,
    params: MailParams,
    recipients: Vec<Recipient>,
}

/// How it came.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Carriage {
    /// In a file.
    Bundle,
    /// Over HTTPS.
    Upload,
}

impl Carriage {
    /// As a Received field has it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Bundle => "BUNDLE",
            Self::Upload => "HTTPS",
        }
    }
}

/// Takes it. Clones share what keeps them from taking one message twice.
#[derive(Clone)]
pub(crate) struct Letters {
    reception: Arc<receive::Reception>,
    /// One at a time is looked for and then taken.
    taking: Arc<Mutex<()>>,
}

/// Which recipients it is for, and which not, with the reason.
struct Sorted {
    taken: Vec<(Recipient, Vec<Target>)>,
    failed: Vec<(Recipient, EnhancedStatus, &'static str)>,
}

impl Letter {
    /// Reads an entry of a site's; `None` where it makes no sense.
    pub(crate) fn read(entry: MailEntry, site: &Domain) -> Option<Self> {
        let mail = Command::parse(format!("MAIL {}", entry.mail).as_bytes());
        let Ok(Command::Mail(Mail { from: mail_from, params })) = mail else { return None };
        let rcpt = |line: &String| match Command::parse(format!("RCPT {line}").as_bytes()) {
            Ok(Command::Rcpt(Rcpt(recipient))) => Some(recipient),
            _ => None,
        };
        let recipients: Vec<Recipient> = entry.rcpt.iter().map(rcpt).collect::<Option<_>>()?;
        // The same whenever it comes, and nobody else's.
        let name = digest(&SHA256, format!("{site} {}", entry.id).as_bytes());
        let (memory, rest) = name.as_ref().split_first_chunk::<16>()?;
        let queue_id = QueueId::generate(Timestamp::from_secs(entry.at), *rest.first_chunk()?);
        Some(Self { entry, queue_id, memory: ReferenceId(*memory), mail_from, params, recipients })
    }

    pub(crate) fn xuid(&self) -> mail::Xuid {
        self.entry.o
    }

    pub(crate) fn size(&self) -> u64 {
        self.entry.l
    }

    /// For how many.
    pub(crate) fn recipients(&self) -> usize {
        self.recipients.len()
    }

    /// What the site is told where nobody gets it. It is not remembered: the next time the answer is the same.
    pub(crate) fn refused(&self, (status, why): (EnhancedStatus, &str)) -> TakenEntry {
        let failed = |recipient: &Recipient| NotTaken { rcpt: recipient.address.clone(), status, text: Text::new(why) };
        TakenEntry { id: self.entry.id.clone(), failed: self.recipients.iter().map(failed).collect() }
    }

    /// The row that remembers it.
    fn key(&self, site: &Domain) -> Key {
        Key::Inbound(self.memory, site.clone())
    }
}

impl Letters {
    pub(crate) fn new(reception: Arc<receive::Reception>) -> Self {
        Self { reception, taking: Arc::default() }
    }

    /// Is it here already? Then it is remembered from now on, should that have been cut off.
    pub(crate) async fn knows(&self, letter: &Letter, site: &Domain) -> Result<bool, NotNow> {
        let store = &self.reception.store;
        let rows = store.load(vec![letter.key(site), Key::Leg(letter.queue_id.clone(), 0)]).await?;
        if rows.iter().any(|row| row.key == letter.key(site)) {
            return Ok(true);
        }
        if !rows.is_empty() {
            let sorted = self.sort(letter, None);
            self.remember(letter, site, &sorted).await?;
        }
        Ok(!rows.is_empty())
    }

    /// What the site is told of it, if it is here.
    pub(crate) async fn taken(&self, letter: &Letter, site: &Domain) -> Result<Option<TakenEntry>, NotNow> {
        if !self.knows(letter, site).await? {
            return Ok(None);
        }
        let row = self.reception.store.load(vec![letter.key(site)]).await?.pop();
        Ok(row.and_then(|row| match row.body {
            RowBody::Inbound(inbound) => taken(&inbound, site),
            RowBody::Leg(_) => None,
        }))
    }

    /// Takes a message whose content has come, unless it is here already. Says if it went anywhere.
    pub(crate) async fn take(
        &self,
        letter: &Letter,
        (site, carriage): (&Domain, Carriage),
        object: ObjectRef,
        checked: Checked,
    ) -> Result<bool, NotNow> {
        let _one_at_a_time = self.taking.lock().await;
        if self.knows(letter, site).await? {
            self.reception.store.discard(&object);
            return Ok(false);
        }
        let store = &self.reception.store;
        let refused = self.refusal(letter, site, &object, &checked).await?;
        let sorted = self.sort(letter, refused);
        if sorted.taken.is_empty() {
            store.discard(&object);
            self.remember(letter, site, &sorted).await?;
            return Ok(false);
        }
        let config = self.reception.config.get();
        let routes = sorted.taken.iter().flat_map(|(_, targets)| targets.iter().map(|target| &target.route));
        let is_coded = config.is_to_be_served(letter.mail_from.as_ref(), routes);
        let signed = self.reception.signers.sign(store, object, checked, is_coded).await;
        let (object, checked) = signed.map_err(|error| NotNow::Other(error.to_string()))?;
        let acceptance = Acceptance {
            queue_id: letter.queue_id.clone(),
            mail_from: letter.mail_from.clone(),
            params: letter.params.clone(),
            recipients: sorted.taken.clone(),
            facts: facts(&checked),
            object: object.clone(),
            prefix: self.prefix(letter, site, carriage),
            seal: String::new(),
            source: Source::Relay,
        };
        match self.reception.custody.ask(Request::Accept(Box::new(acceptance))).await {
            Reply::Accepted => {
                info!(id = %letter.queue_id, %site, octets = checked.size, by = carriage.as_str(), "accepted from a site")
            }
            _ => {
                store.discard(&object);
                return Err(NotNow::Queue);
            }
        }
        self.remember(letter, site, &sorted).await?;
        Ok(true)
    }

    /// Why nobody gets it.
    async fn refusal(
        &self,
        letter: &Letter,
        site: &Domain,
        object: &ObjectRef,
        checked: &Checked,
    ) -> Result<Option<(EnhancedStatus, &'static str)>, StoreError> {
        let is_own = |address: &Address| address.domain().is_some_and(|domain| domain.is_within(site));
        if letter.mail_from.as_ref().is_some_and(|sender| !is_own(sender)) {
            return Ok(Some((EnhancedStatus::permanent(7, 1), "the sender is not of the site's domain")));
        }
        let hops = usize::try_from(checked.received_fields).unwrap_or(usize::MAX);
        if hops > self.reception.config.get().limits.hops {
            return Ok(Some((EnhancedStatus::permanent(4, 6), "the message has passed too many servers")));
        }
        let begin = object.size.min(MAX_HEADER);
        let head = self.reception.store.read(object, 0..begin).await?.collect(begin).await?;
        let authors = compose::authors(&head).ok().flatten();
        let are_own = authors.is_some_and(|authors| authors.iter().all(is_own));
        Ok((!are_own).then_some((EnhancedStatus::permanent(7, 1), "the author is not of the site's domain")))
    }

    fn sort(&self, letter: &Letter, refused: Option<(EnhancedStatus, &'static str)>) -> Sorted {
        let router = self.reception.router.get();
        let mut sorted = Sorted { taken: Vec::new(), failed: Vec::new() };
        for recipient in &letter.recipients {
            let targets = router.targets(&recipient.address);
            match refused {
                Some((status, why)) => sorted.failed.push((recipient.clone(), status, why)),
                None if targets.is_empty() => {
                    let status = EnhancedStatus::permanent(1, 1);
                    sorted.failed.push((recipient.clone(), status, "there is no such recipient"));
                }
                None => sorted.taken.push((recipient.clone(), targets)),
            }
        }
        sorted
    }

    /// Fields to stand above it: ours, and the site's.
    fn prefix(&self, letter: &Letter, site: &Domain, carriage: Carriage) -> String {
        let by = &self.reception.desk.hostname;
        let only_recipient = match letter.recipients.as_slice() {
            [recipient] => Some(&recipient.address),
            _ => None,
        };
        let (helo, by_name) = (site.as_str(), by.as_str());
        let id = &letter.queue_id;
        let with = carriage.as_str();
        let received = Reception { helo, client: None, by: by_name, with, id, only_recipient, at: now() };
        // What is no trace is left out.
        received.field() + &trace_above(&letter.entry.trace, by).unwrap_or_default()
    }

    /// Notes that it was taken, and for whom not.
    async fn remember(&self, letter: &Letter, site: &Domain, sorted: &Sorted) -> Result<(), NotNow> {
        let at = now();
        let failed = sorted.failed.iter().map(|(recipient, status, why)| {
            let outcome =
                Outcome { action: Action::Failed, status: *status, text: (*why).to_owned(), at, reported: true };
            (recipient.clone(), IndexState::Final { outcome, acknowledged: true, acted: false })
        });
        let taken = sorted.taken.iter().map(|(recipient, _)| (recipient.clone(), IndexState::Refused));
        let note = Remembered {
            queue_id: letter.queue_id.clone(),
            d: site.clone(),
            i: letter.memory,
            to: site.clone(),
            fingerprint: format!("{MARK}{}", letter.entry.id),
            xuid: letter.entry.o,
            size: letter.entry.l,
            until: at.after(MEMORY),
            mail_from: letter.mail_from.clone(),
            recipients: failed.chain(taken).collect(),
        };
        note.note(&self.reception.custody, at).await.map(drop).ok_or(NotNow::Queue)
    }
}

/// What leaves a site of one of its messages, for these recipients and under this trace; `None` where a limit is in the way.
pub(crate) fn entry<'a>(
    key: &Key,
    leg: &Leg,
    object: &ObjectRef,
    recipients: impl Iterator<Item = &'a Recipient>,
    trace: &str,
) -> Option<MailEntry> {
    let mut params = leg.params.clone();
    if leg.facts.eight_bit {
        params.body = mail::Body::EightBit;
    }
    let entry = MailEntry {
        id: key.clone(),
        at: leg.accepted.as_secs(),
        mail: arguments(&Command::Mail(Mail { from: leg.mail_from.clone(), params })),
        rcpt: recipients.map(|one| arguments(&Command::Rcpt(Rcpt(one.clone())))).collect(),
        o: object.xuid,
        l: object.size,
        trace: if trace.len() <= MAX_TRACE { trace.to_owned() } else { String::new() },
    };
    entry.check().is_ok().then_some(entry)
}

/// What a row that remembers tells the site.
pub(crate) fn taken(inbound: &Inbound, site: &Domain) -> Option<TakenEntry> {
    let id = inbound.fingerprint.strip_prefix(MARK).filter(|_| inbound.d == *site)?;
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
