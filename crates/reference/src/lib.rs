//! TBR's own formats and rules, pure: the reference URI, `TBR-Reference` and `TBR-Hop`, the block of an offer, key
//! records, the ordered checks of an offer, claims, receipts and delegations, signed requests, uploads, bundles of all
//! these, and the table of codes. The specification is
//! `docs/spec/tbr.md`; section numbers in this crate mean that document.
//!
//! Keys and the time are arguments. Nothing is looked up, sent or stored here: DNS and HTTPS are `net`'s, custody is
//! `queue`'s, the ledger is `store`'s.

pub mod block;
pub mod body;
pub mod bundle;
pub mod claims;
pub mod codes;
pub mod delegate;
pub mod handover;
pub mod hop;
pub mod judge;
pub mod keys;
pub mod message_signature;
pub mod pending;
pub mod recipients;
pub mod reference;
pub mod sign;
pub mod stored;
pub mod taglist;
pub mod upload;
pub mod uri;
pub mod verify;

pub use block::{Block, OfferLine};
pub use body::{BodyError, JsonBody};
pub use hop::{Chain, Hop, HopMode, HopStatement, Link};
pub use judge::{Judgement, SignatureVerdict};
pub use keys::{Assurance, DomainFacts, DomainRecord, KeyRecord, KeyState};
pub use recipients::RecipientsHash;
pub use reference::{IdempotenceKey, Reference, Statement};
pub use sign::{Algorithm, Selector, Signature, SigningKey, VerifyingKey};
pub use stored::{LineEnds, Stored, split_stored, split_stored_lf};
pub use taglist::SyntaxError;
pub use uri::Uri;
pub use verify::{Matched, Outcome, Parsed, Receiver, Refusal, Session, Verified, Verifying};

#[cfg(test)]
mod tests;
