//! What was taken once and must not count as new again ([`queue::remembered`]): noted in the ledger by itself, where nothing else is
//! committed with it.
//!
//! A hop by value that was accepted. What is made of a repetition is the caller's.

use mail::Timestamp;
use queue::port::{OfferAnswer, Reply, Request};
use queue::remembered::Remembered;

use crate::runtime::Custody;

/// Notes it, durably. Says if it was not noted before; `None` where the ledger cannot tell now.
pub(crate) async fn note(what: Remembered, custody: &Custody, at: Timestamp) -> Option<bool> {
    match custody.ask(Request::Offer(Box::new(what.row(at)))).await {
        Reply::Offer(answer) => Some(matches!(answer, OfferAnswer::Pending(_))),
        _ => None,
    }
}
