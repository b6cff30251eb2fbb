//! The receiver's side: offers, retrieval, judgement, claims, the hand-over to legs, receipts. Works on
//! [`mail::ledger::Inbound`] rows.
//!
//! What one index may become is [`crate::custody`]'s; delivery itself is the business of legs, in [`crate::origin`].

pub(crate) mod carried;
pub(crate) mod claim;
pub(crate) mod delegate;
pub(crate) mod handover;
pub(crate) mod inbound;
pub(crate) mod judgement;
pub(crate) mod offer;
pub(crate) mod receipts;
pub(crate) mod retrieval;
pub(crate) mod timers;
