//! Verdicts after the fact: on the signatures of a chain, on a mailbox copy, on a message that came by value.
//!
//! Nothing here lets an offer pass (`verify` does), and nothing is looked up: keys, digests and the time come in.

use mail::{Timestamp, Xuid};

use crate::hop::{Chain, HopMode, Link};
use crate::keys::{KeyRecord, KeyUse};
use crate::recipients::RecipientsHash;
use crate::stored::{LineEnds, Stored};
use crate::verify::{Session, check_clock};

/// What can be said of one signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureVerdict {
    /// By a key that could sign at that time.
    Valid,
    /// By no such key: the field was made up or changed.
    Invalid,
    /// By a key whose window does not hold the time of signing.
    OutsideWindow,
    /// The key has been revoked.
    Revoked,
    /// The key was not to be had: below a custodian this is a temporary error, never a refusal (TBR §7.2).
    Unknown,
}

/// Judges one signed field. `key` is its domain's record for its selector, where one was to be had.
pub fn judge_link(link: Link<'_>, key: Option<&KeyRecord>) -> SignatureVerdict {
    let Some(record) = key else { return SignatureVerdict::Unknown };
    match record.usable_at(link.issued()) {
        KeyUse::Revoked => SignatureVerdict::Revoked,
        KeyUse::Outside(key) | KeyUse::Usable(key) if !link.signed_by(key) => SignatureVerdict::Invalid,
        KeyUse::Outside(_) => SignatureVerdict::OutsideWindow,
        KeyUse::Usable(_) => SignatureVerdict::Valid,
    }
}

/// Judges every field of a chain, newest first.
pub fn judge_chain<'k>(chain: &Chain, key_of: &dyn Fn(Link<'_>) -> Option<&'k KeyRecord>) -> Vec<SignatureVerdict> {
    chain.links().map(|link| judge_link(link, key_of(link))).collect()
}

/// Was a message that came by value under a `TBR-Hop` sent to this session (TBR §7.3)? The topmost hop must carry an
/// opener and cover this sender and this one recipient, and its times must be those that an offer may have: nobody makes a
/// field that counts for ever, or one with an old key for a time long ago. Its signature is judged separately.
pub fn sent_by_value_to(chain: &Chain, session: &Session<'_>, now: Timestamp) -> bool {
    let link = chain.topmost();
    let (Some(HopMode::Value(opener)), [recipient]) = (link.mode(), session.recipients) else { return false };
    let computed = RecipientsHash::compute_opened(opener, &link.id(), [recipient]);
    computed == link.recipients() && link.mail_from() == session.mail_from && check_clock(chain, now).is_ok()
}

/// What can be said of a stored message, each point by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Is what stands below the reference, octet for octet, what the origin named?
    pub intact: bool,
    /// Did the origin sign the reference?
    pub signature: SignatureVerdict,
    /// Did the reference expire before now? It is then still a proof of what was sent, not a reason to accept.
    pub expired: bool,
    /// Was a copy with LF line ends judged, its object brought back to CRLF?
    pub lf_copy: bool,
}

impl Judgement {
    /// Is the message what the origin signed?
    pub fn holds(&self) -> bool {
        self.intact && self.signature == SignatureVerdict::Valid
    }
}

impl Stored {
    /// Judges the reference and the object that was found below it: its digest and number of octets, both over CRLF
    /// line ends. `key` is the origin's record for the reference's selector, where one was to be had.
    pub fn judge(&self, object: Xuid, octets: u64, key: Option<&KeyRecord>, now: Timestamp) -> Judgement {
        let reference = self.chain.reference();
        let stated = reference.statement();
        Judgement {
            intact: stated.xuid == object && stated.size == octets,
            signature: judge_link(Link::Reference(reference), key),
            expired: now >= stated.expires,
            lf_copy: self.line_ends == LineEnds::Lf,
        }
    }
}
