//! Delegation as it travels: JSON bodies of `POST /.well-known/tbr/delegate` (TBR §7.3).
//!
//! Form and limits only, for both sides. Whether the hop continues the field below and who wins is the queue's; its
//! signature is checked by whoever serves the resource.

use mail::{Domain, Grant, InstanceId, ReferenceId};
use serde::{Deserialize, Serialize};

use crate::body::{BodyError, JsonBody, MAX_RECIPIENTS, Revision1};
use crate::claims::Word;
use crate::hop::{Hop, HopMode};

/// Path of the resource.
pub const DELEGATE_PATH: &str = "/.well-known/tbr/delegate";

/// A relay passes on by reference what it was offered: `POST /.well-known/tbr/delegate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegateRequest {
    /// Revision.
    pub v: Revision1,
    /// The delegating store.
    pub instance: InstanceId,
    /// The recipient domain of the field below, tag `to`: the relay's.
    pub to: Domain,
    /// The field below, tag `i`.
    pub i: ReferenceId,
    /// Its grant.
    pub grant: Grant,
    /// The relay's hop by reference.
    pub hop: HopText,
    /// The grant under which the hop will be claimed.
    pub hop_grant: Grant,
    /// For each index of the hop the index below, none twice.
    pub map: Vec<u16>,
}

/// A hop by reference as one text: its canonical text, `;b=` and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HopText(Hop);

impl HopText {
    /// Of a hop by reference; others have nothing to delegate.
    pub fn new(hop: Hop) -> Option<Self> {
        (hop.statement().mode == HopMode::Reference).then_some(Self(hop))
    }

    /// The hop.
    pub fn hop(&self) -> &Hop {
        &self.0
    }
}

impl TryFrom<String> for HopText {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hop = Hop::parse(text.as_bytes()).map_err(|_| "not a hop")?;
        // One text for one hop: folded or spaced ones are none.
        if hop.canonical() != text {
            return Err("not the canonical text of a hop");
        }
        Self::new(hop).ok_or("not a hop by reference")
    }
}

impl From<HopText> for String {
    fn from(text: HopText) -> Self {
        text.0.canonical()
    }
}

impl JsonBody for DelegateRequest {
    fn check(&self) -> Result<(), BodyError> {
        let mut seen = std::collections::BTreeSet::new();
        let each_once = self.map.iter().all(|n| *n < MAX_RECIPIENTS && seen.insert(*n));
        if each_once && !self.map.is_empty() { Ok(()) } else { Err(BodyError::Indexes) }
    }
}

/// The answer to a [`DelegateRequest`]: one word for all of the hop's recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegateAnswer {
    /// Revision.
    pub v: Revision1,
    /// The word. One of a later revision is no answer, and is not read.
    pub is: Word,
}

impl JsonBody for DelegateAnswer {
    fn check(&self) -> Result<(), BodyError> {
        match self.is {
            Word::Unknown => Err(BodyError::Json("a word of another revision".to_owned())),
            _ => Ok(()),
        }
    }
}
