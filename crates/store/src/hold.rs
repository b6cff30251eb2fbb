//! Legal hold (draft-otis-smtp-tbr-ext-00, appendix C): an object that is kept until its date whatever becomes of its message, and the
//! record of it, in which nothing can be changed or left out unseen.
//!
//! Every hold and every end of one is a link of a chain: its digest covers its own text and the digest before it. Whoever notes
//! the newest digest elsewhere can tell later that nothing up to there was changed. Where the links are kept is left to the
//! backends; what is served to peers follows from grants alone, never from a hold.

use mail::id::XuidHasher;
use mail::ledger::{HoldOrder, ObjectRef};
use mail::{QueueId, Timestamp, Xuid};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// What every digest of the chain begins with.
const LABEL: &[u8] = b"restante hold 1\0";

/// An object that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its place in the chain, from 1.
    pub number: u64,
    /// The message whose object it is.
    pub id: QueueId,
    /// The object.
    pub object: ObjectRef,
    /// It ends then by itself, and nothing ends it before; `None`: until it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why.
    pub why: String,
    /// Since when.
    pub at: Timestamp,
}

/// The end of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldEnd {
    /// Its place in the chain.
    pub number: u64,
    /// Of which hold.
    pub hold: u64,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// All holds in force, and where the chain ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// Oldest first.
    pub holds: Vec<Hold>,
    /// Links of the chain.
    pub links: u64,
    /// The digest of the newest; nothing where there is none.
    pub head: String,
}

/// A hold could not be released.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReleaseError {
    /// No hold of this number is in force.
    #[error("there is no hold {0} in force")]
    Unknown(u64),
    /// Its date has not come.
    #[error("hold {number} cannot be released before {}", .until.to_rfc3339())]
    NotBefore {
        /// Which.
        number: u64,
        /// Its date.
        until: Timestamp,
    },
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// One link as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Entry {
    Held(Hold),
    Ended(HoldEnd),
}

impl Entry {
    pub(crate) fn held(number: u64, order: &HoldOrder) -> Self {
        let HoldOrder { object, id, until, why, at } = order.clone();
        Self::Held(Hold { number, id, object, until, why, at })
    }

    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Held(hold) => hold.number,
            Self::Ended(end) => end.number,
        }
    }
}

/// A link with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) entry: Entry,
    pub(crate) text: String,
    pub(crate) digest: String,
}

impl Link {
    /// The one that follows on `before`, the newest digest.
    pub(crate) fn new(entry: Entry, before: &str) -> Result<Self, StoreError> {
        let text = serde_json::to_string(&entry).map_err(|_| StoreError::Misuse("a hold cannot be written"))?;
        Ok(Self { digest: digest(before, &text), text, entry })
    }
}

fn digest(before: &str, text: &str) -> String {
    let mut hasher = XuidHasher::default();
    for part in [LABEL, before.as_bytes(), b"\0", text.as_bytes()] {
        hasher.update(part);
    }
    let digest: Xuid = hasher.finish();
    digest.to_string()
}

/// Follows a chain from its beginning.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    links: u64,
    head: String,
}

impl Chain {
    /// The next link, as it is stored. Says what is wrong with it.
    pub(crate) fn follow(&mut self, text: &str, stored: &str) -> Result<Entry, String> {
        self.links += 1;
        let expected = digest(&self.head, text);
        self.head = stored.to_owned();
        if expected != stored {
            return Err("its text or the digest before it was changed".into());
        }
        match serde_json::from_str::<Entry>(text) {
            Ok(entry) if entry.number() == self.links => Ok(entry),
            Ok(_) => Err("a link before it is missing".into()),
            Err(error) => Err(format!("it cannot be read: {error}")),
        }
    }
}

/// May this hold end at this time, if somebody asks for it?
pub(crate) fn may_end(hold: &Hold, now: Timestamp) -> Result<(), ReleaseError> {
    match hold.until {
        Some(until) if now < until => Err(ReleaseError::NotBefore { number: hold.number, until }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use mail::ledger::ObjectKey;

    use super::*;

    fn chain() -> Vec<Link> {
        let object = ObjectRef { key: ObjectKey("f-1".into()), xuid: Xuid::of(b"x"), size: 1, coded: None };
        let at = Timestamp::from_secs(9);
        let order = HoldOrder { object, id: "q1".parse().unwrap(), until: None, why: "w".into(), at };
        let mut links: Vec<Link> = Vec::new();
        for entry in [
            Entry::held(1, &order),
            Entry::held(2, &order),
            Entry::Ended(HoldEnd { number: 3, hold: 1, why: "released".into(), at }),
        ] {
            let before = links.last().map(|link| link.digest.clone()).unwrap_or_default();
            links.push(Link::new(entry, &before).unwrap());
        }
        links
    }

    fn faults(links: &[Link]) -> usize {
        let mut chain = Chain::default();
        links.iter().filter(|link| chain.follow(&link.text, &link.digest).is_err()).count()
    }

    #[test]
    fn nothing_in_the_chain_can_be_changed_or_left_out() {
        assert_eq!(faults(&chain()), 0);
        let mut changed = chain();
        changed[1].text = changed[1].text.replace("q1", "q2");
        assert_eq!(faults(&changed), 1);
        for left_out in 0..2 {
            let mut shorter = chain();
            shorter.remove(left_out);
            assert!(faults(&shorter) > 0, "{left_out}");
        }
        let mut forged = chain();
        // A link that is right by itself, but not the one that the next one stands on.
        forged[0] =
            Link::new(Entry::Ended(HoldEnd { number: 1, hold: 1, why: String::new(), at: Timestamp::default() }), "")
                .unwrap();
        assert_eq!(faults(&forged), 1);
    }

    #[test]
    fn a_date_binds_everybody() {
        let Entry::Held(mut hold) = chain().remove(0).entry else { panic!("no hold") };
        assert!(may_end(&hold, Timestamp::default()).is_ok());
        hold.until = Some(Timestamp::from_secs(100));
        assert!(matches!(may_end(&hold, Timestamp::from_secs(99)), Err(ReleaseError::NotBefore { .. })));
        assert!(may_end(&hold, Timestamp::from_secs(100)).is_ok());
    }
}
