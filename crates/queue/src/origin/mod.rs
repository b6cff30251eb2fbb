//! The origin's side: accepting by value, delivering, issuing references, answering claims and receipts, telling
//! authors. Works on [`mail::ledger::Leg`] rows.
//!
//! What one recipient may become is [`crate::custody`]'s; the receiver's rows are [`crate::receiver`]'s.

pub(crate) mod accept;
pub(crate) mod attempt;
pub(crate) mod claims;
pub(crate) mod command;
pub(crate) mod delegate;
pub(crate) mod end;
pub(crate) mod issue;
pub(crate) mod leg;
pub(crate) mod letter;
pub(crate) mod locate;
pub(crate) mod news;
pub(crate) mod onward;
pub(crate) mod receipts;
pub(crate) mod served;
pub(crate) mod taken;
pub(crate) mod timers;
