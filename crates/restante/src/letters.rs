//! Mail from a site, at its custodian: taken as if it had been submitted here, once, however often it comes, and whether in a
//! bundle (TBR §7.5) or by upload (§7.4).
//!
//! That it is taken once is `queue::letters`'. Here is whose mail it may be: the site speaks for its own domain only, a user for himself alone, so sender and
//! authors are looked at; for whom it goes on; and how it is read and written on the wire.

use std::sync::Arc;

use mail::ledger::{Key, Leg, ObjectRef, Target};
use mail::object::{Checked, IN_A_LOOP};
use mail::trace::Reception;
use mail::{Address, EnhancedStatus, Holder, Recipient, Timestamp};
use policy::scrub::trace_above;
use queue::letters::{Letter, Taking};
use queue::port::{Reply, Request};
use reference::bundle::{MailEntry, TakenEntry};
use reference::pending::MAX_TRACE;
use smtp::command::{Command, Mail, Rcpt};
use store::StoreError;
use tracing::info;

use crate::compose;
use crate::deliver::facts;
use crate::receive;
use crate::repository::arguments;
use crate::runtime::now;

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

/// Takes it.
#[derive(Clone)]
pub(crate) struct Letters {
    reception: Arc<receive::Reception>,
}

/// Which recipients it is for, and which not, with the reason.
#[derive(Default)]
struct Sorted {
    taken: Vec<(Recipient, Vec<Target>)>,
    failed: Vec<(Recipient, EnhancedStatus, String)>,
}

/// Reads an entry of a site's; `None` where it makes no sense.
pub(crate) fn read(entry: MailEntry, site: &Holder) -> Option<Letter> {
    let mail = Command::parse(format!("MAIL {}", entry.mail).as_bytes());
    let Ok(Command::Mail(Mail { from: mail_from, params })) = mail else { return None };
    let rcpt = |line: &String| match Command::parse(format!("RCPT {line}").as_bytes()) {
        Ok(Command::Rcpt(Rcpt(recipient))) => Some(recipient),
        _ => None,
    };
    Some(Letter {
        site: site.clone(),
        at: Timestamp::from_secs(entry.at),
        mail_from,
        params,
        recipients: entry.rcpt.iter().map(rcpt).collect::<Option<_>>()?,
        id: entry.id,
        xuid: entry.o,
        size: entry.l,
        trace: entry.trace,
    })
}

impl Letters {
    pub(crate) fn new(reception: Arc<receive::Reception>) -> Self {
        Self { reception }
    }

    /// Was it taken before?
    pub(crate) async fn knows(&self, letter: &Letter) -> Result<bool, NotNow> {
        Ok(!self.reception.store.load(vec![letter.key()]).await?.is_empty())
    }

    /// Takes a message whose content has come, unless it is here already; what its site is told.
    pub(crate) async fn take(
        &self,
        letter: &Letter,
        carriage: Carriage,
        object: ObjectRef,
        checked: Checked,
    ) -> Result<TakenEntry, NotNow> {
        let store = &self.reception.store;
        let refused = self.refusal(letter, &object, &checked).await.inspect_err(|_| store.discard(&object))?;
        let Sorted { taken: recipients, failed } = self.sort(letter, refused);
        let config = self.reception.config.get();
        let routes = recipients.iter().flat_map(|(_, targets)| targets.iter().map(|target| &target.route));
        let is_coded = config.is_to_be_served(letter.mail_from.as_ref(), routes);
        let (object, checked) = match recipients.is_empty() {
            // It goes nowhere: there is nothing to sign.
            true => (object, checked),
            false => {
                let signed = self.reception.signers.sign(store, object, checked, is_coded).await;
                signed.map_err(|error| NotNow::Other(error.to_string()))?
            }
        };
        let taking = Taking {
            letter: letter.clone(),
            facts: facts(&checked),
            object: object.clone(),
            prefix: self.prefix(letter, carriage),
            recipients,
            failed,
        };
        let reply = self.reception.custody.ask(Request::Letter(Box::new(taking))).await;
        if !matches!(reply, Reply::Letter { is_kept: true, .. }) {
            store.discard(&object);
        }
        let Reply::Letter { told, is_kept } = reply else { return Err(NotNow::Queue) };
        let (id, site, by) = (letter.queue_id(), &letter.site, carriage.as_str());
        match is_kept {
            true => info!(%id, %site, octets = checked.size, by, "accepted from a site"),
            false => {
                info!(%id, %site, failed = told.failed.len(), by, "of what a site has sent nothing new goes on from here")
            }
        }
        Ok(told)
    }

    /// Why nobody gets it.
    async fn refusal(
        &self,
        letter: &Letter,
        object: &ObjectRef,
        checked: &Checked,
    ) -> Result<Option<(EnhancedStatus, &'static str)>, StoreError> {
        let router = self.reception.router.get();
        let is_own = |address: &Address| router.is_of_site(address, &letter.site);
        let (of_sender, of_author) = match letter.site.user_name() {
            None => ("the sender is not of the site's domain", "the author is not of the site's domain"),
            Some(_) => ("the sender is not the user whose key this is", "the author is not the user whose key this is"),
        };
        if letter.mail_from.as_ref().is_some_and(|sender| !is_own(sender)) {
            return Ok(Some((EnhancedStatus::permanent(7, 1), of_sender)));
        }
        let hops = usize::try_from(checked.received_fields).unwrap_or(usize::MAX);
        if hops > self.reception.config.get().limits.hops {
            return Ok(Some(IN_A_LOOP));
        }
        let begin = object.size.min(MAX_HEADER);
        let head = self.reception.store.read(object, 0..begin).await?.collect(begin).await?;
        let authors = compose::authors(&head).ok().flatten();
        let are_own = authors.is_some_and(|authors| authors.iter().all(is_own));
        Ok((!are_own).then_some((EnhancedStatus::permanent(7, 1), of_author)))
    }

    fn sort(&self, letter: &Letter, refused: Option<(EnhancedStatus, &'static str)>) -> Sorted {
        let (router, mut sorted) = (self.reception.router.get(), Sorted::default());
        for recipient in &letter.recipients {
            let targets = router.targets(&recipient.address);
            let unknown = (EnhancedStatus::permanent(1, 1), "there is no such recipient");
            match refused.or(targets.is_empty().then_some(unknown)) {
                Some((status, why)) => sorted.failed.push((recipient.clone(), status, why.to_owned())),
                None => sorted.taken.push((recipient.clone(), targets)),
            }
        }
        sorted
    }

    /// Fields to stand above it: ours, and the site's.
    fn prefix(&self, letter: &Letter, carriage: Carriage) -> String {
        let by = &self.reception.desk.hostname;
        let only_recipient = match letter.recipients.as_slice() {
            [recipient] => Some(&recipient.address),
            _ => None,
        };
        let (helo, by_name) = (letter.site.domain().as_str(), by.as_str());
        let id = &letter.queue_id();
        let with = carriage.as_str();
        let received = Reception { helo, client: None, by: by_name, with, id, only_recipient, at: now() };
        // What is no trace is left out.
        received.field() + &trace_above(&letter.trace, by).unwrap_or_default()
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
