//! What waits for a site (TBR §7.4): references that are out for it and that nobody has claimed.
//!
//! Reads only. Who may ask is the repository's business, how it is written down `reference::pending`'s.

use mail::ledger::{Issued, Leg, RecipientState};
use mail::{Recipient, Timestamp};

/// A reference that waits, with the recipients of its offer in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// The reference.
    pub issued: &'a Issued,
    /// Every recipient of it; the position is the index.
    pub recipients: Vec<&'a Recipient>,
}

/// The references of a leg that its site may still claim something of.
pub fn waiting(leg: &Leg, now: Timestamp) -> Vec<Waiting<'_>> {
    let is_open = |issued: &&Issued| {
        let is_out = |state: &RecipientState| matches!(state, RecipientState::Offered(offered) if offered.reference == issued.id && !offered.closed);
        now < issued.expires && leg.recipients.iter().any(|recipient| is_out(&recipient.state))
    };
    let recipients_of = |issued: &Issued| {
        let places = issued.positions.iter().filter_map(|position| leg.recipients.get(usize::from(*position)));
        places.map(|recipient| &recipient.recipient).collect()
    };
    let open = leg
        .issued
        .iter()
        .filter(|issued| leg.waits_for().is_some_and(|site| *site.domain() == issued.to))
        .filter(is_open);
    open.map(|issued| Waiting { issued, recipients: recipients_of(issued) }).collect()
}
