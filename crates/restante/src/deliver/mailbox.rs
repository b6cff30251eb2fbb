//! Final delivery on this machine: into a Maildir, or into nothing.
//!
//! What a file name is and how it becomes durable is `maildir`'s; when to deliver is the queue's.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use mail::ledger::{Key, Leg, LegRecipient, Route};
use mail::{Domain, EnhancedStatus, Timestamp, base64url, trace};
use queue::port::{Delivery, DeliveryEnd, RecipientEnd};
use store::Store;
use tokio::task::{JoinHandle, spawn_blocking};

use super::maildir::{self, Slot};
use crate::readers::{Placed, Readers};
use crate::runtime::now;

/// Where Maildirs are, and what their files are named after.
#[derive(Debug, Clone)]
pub(super) struct Mailboxes {
    pub(super) store: Store,
    pub(super) hostname: Domain,
    /// Rows accepted before this may have been delivered by an earlier process: their mailboxes are searched first.
    pub(super) started: Timestamp,
    /// Will look for it some day.
    pub(super) readers: Readers,
}

const NOT_THERE: &str = "no earlier attempt has left it there";

/// Counts octets and forgets them.
pub(super) fn discard(delivery: &Delivery) -> DeliveryEnd {
    let octets = delivery.leg.object.as_ref().map_or(0, |object| object.size);
    let outcomes = delivery.positions.iter().map(|p| (*p, accepted("discarded"))).collect();
    DeliveryEnd::Transaction { offer: false, outcomes, peer: Route::Discard.to_string(), octets }
}

impl Mailboxes {
    /// Delivers to every recipient of the attempt, one file each.
    pub(super) async fn deliver(&self, delivery: &Delivery, maildir: PathBuf) -> DeliveryEnd {
        let mut outcomes = Vec::with_capacity(delivery.positions.len());
        let (mut octets, mut last) = (0, maildir.clone());
        for position in &delivery.positions {
            let Some(recipient) = delivery.leg.recipients.get(usize::from(*position)) else { continue };
            let end = match self.one(delivery, recipient, *position, &maildir).await {
                Ok((path, written)) => {
                    self.tell_readers(&delivery.leg, &maildir, &path);
                    octets += written;
                    last = path;
                    accepted("in the mailbox")
                }
                Err(error) => trouble(&error),
            };
            outcomes.push((*position, end));
        }
        // Where files are is for our own trace; the outcomes' texts travel to the origin.
        DeliveryEnd::Transaction { offer: false, outcomes, peer: last.display().to_string(), octets }
    }

    fn tell_readers(&self, leg: &Leg, maildir: &Path, path: &Path) {
        let name = path.file_name().and_then(OsStr::to_str).and_then(|name| name.split([':', ',']).next());
        if let (Some(reference), Some(name)) = (&leg.inbound, name) {
            let (maildir, name) = (maildir.to_owned(), name.to_owned());
            self.readers.delivered(reference, Placed { maildir, name, at: now() });
        }
    }

    async fn one(&self, delivery: &Delivery, to: &LegRecipient, n: u16, maildir: &Path) -> io::Result<(PathBuf, u64)> {
        let leg = &delivery.leg;
        let object = leg.object.as_ref().ok_or_else(|| io::Error::other("the leg has lost its content"))?;
        let slot = Slot { maildir: maildir.to_owned(), name: self.name(&delivery.key, leg, to, n) };
        let look_first = delivery.looks_only || leg.attempts > 0 || leg.accepted < self.started;
        let prepared = slot.clone();
        let existing = blocking(move || {
            maildir::prepare(&prepared.maildir)?;
            if look_first { prepared.existing() } else { Ok(None) }
        });
        if let Some(path) = existing.await? {
            return Ok((path, 0));
        }
        if delivery.looks_only {
            return Err(io::Error::new(io::ErrorKind::NotFound, NOT_THERE));
        }
        let head = format!("{}{}", trace::return_path(leg.mail_from.as_ref()), leg.prefix);
        let written = head.len() as u64 + object.size;
        let mut reader = self.store.read(object, 0..object.size).await.map_err(io::Error::other)?;
        let begin = move || {
            let mut writer = slot.create()?;
            writer.write(head.as_bytes())?;
            Ok(writer)
        };
        // The next octets are read, and decoded, while the last ones are written.
        let mut writing = spawn_blocking(begin);
        let read = loop {
            let chunk = match reader.next_chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(error) => break Err(io::Error::other(error)),
            };
            let mut writer = ended(writing).await?;
            writing = spawn_blocking(move || {
                writer.write(&chunk)?;
                Ok(writer)
            });
        };
        // Also where reading failed: the next try writes under the same name.
        let writer = ended(writing).await?;
        read?;
        Ok((blocking(move || writer.finish()).await?, written))
    }

    /// The same at every try of this store, after a crash, too: by reference from its id, by value from the queue id. Another store that
    /// accepted the same reference has a name of its own for it, with its host and the time at which it did: that one of them
    /// delivers is what the claim sees to (TBR §6.3).
    fn name(&self, key: &Key, leg: &Leg, to: &LegRecipient, position: u16) -> String {
        let (message, index) = match (&leg.inbound, key) {
            (Some(Key::Inbound(id, _)), _) => (id.to_string(), to.inbound_index.unwrap_or(position)),
            (_, Key::Leg(queue_id, number)) => (format!("{queue_id}-{number}"), position),
            (_, Key::Inbound(id, _)) => (id.to_string(), position),
        };
        let recipient = base64url::encode(&digest(&SHA256, to.recipient.address.as_str().as_bytes()).as_ref()[..6]);
        format!("{}.R{message}_{index}_{recipient}.{}", leg.accepted.as_secs(), self.hostname)
    }
}

fn accepted(text: &str) -> RecipientEnd {
    RecipientEnd::Accepted { final_delivery: true, text: text.to_owned() }
}

/// A mailbox that cannot be written is tried again: an operator can mend it, and a report would be final.
fn trouble(error: &io::Error) -> RecipientEnd {
    let status = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EnhancedStatus::temporary(2, 2),
        _ => EnhancedStatus::temporary(2, 0),
    };
    RecipientEnd::Temporary { status, text: format!("cannot write the mailbox: {error}"), to_offer: false }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    ended(spawn_blocking(work)).await
}

async fn ended<T>(work: JoinHandle<io::Result<T>>) -> io::Result<T> {
    work.await.map_err(io::Error::other)?
}
