//! What goes into a bundle (TBR §7.5) besides what waits: what a site has to say of references, and what its custodian has
//! heard of that.
//!
//! Reads only. What waits is [`crate::pending`]'s; how it is written down `reference::bundle`'s.

use mail::ledger::{Action, Inbound, IndexState, Leg, Phase, RecipientState};
use mail::{Domain, InstanceId, ReferenceId};

use crate::port::{ClaimEntry, ReceiptEntry};
use crate::receiver::claim;

/// What the origin of a reference may not know yet. A post says first that custody was taken, and the outcome once that is
/// acknowledged; a bundle says both.
pub fn owed(inbound: &Inbound) -> (Option<ClaimEntry>, Option<ReceiptEntry>) {
    if !matches!(inbound.phase, Phase::Claiming { .. } | Phase::Working) {
        return (None, None);
    }
    let claim = Some(claim::entry(inbound)).filter(|claim| !claim.indexes.is_empty());
    let outcomes = inbound.recipients.iter().zip(0_u16..).filter_map(|(recipient, index)| match &recipient.state {
        IndexState::Final { outcome, acknowledged: false, .. } => Some((index, outcome.clone())),
        IndexState::Delegated { failed: Some(outcome) } => Some((index, outcome.clone())),
        _ => None,
    });
    let outcomes: Vec<_> = outcomes.collect();
    let receipt = ReceiptEntry { to: inbound.to.clone(), id: inbound.i, grant: inbound.grant.clone(), outcomes };
    (claim, Some(receipt).filter(|receipt| !receipt.outcomes.is_empty()))
}

/// What is recorded of one recipient of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The store that claimed it.
    pub instance: InstanceId,
    /// The reference.
    pub reference: ReferenceId,
    /// The recipient.
    pub index: u16,
    /// Its outcome, where that is known.
    pub outcome: Option<Action>,
}

/// What a leg knows of claims and receipts for references to a site. An index may stand there twice.
pub fn heard(leg: &Leg, site: &Domain) -> Vec<Recorded> {
    let is_to_site = |id: &ReferenceId| leg.issued.iter().any(|issued| issued.id == *id && issued.to == *site);
    let mut all: Vec<Recorded> = Vec::new();
    for recipient in &leg.recipients {
        let (claim, outcome) = match &recipient.state {
            RecipientState::Claimed(claim) => (claim, None),
            RecipientState::Done { outcome, claim: Some(claim) } => (claim, Some(outcome.action)),
            RecipientState::Queued | RecipientState::Offered(_) | RecipientState::Done { claim: None, .. } => continue,
        };
        all.push(Recorded { instance: claim.instance, reference: claim.reference, index: claim.index, outcome });
    }
    for issued in &leg.issued {
        let acted = issued.acted.iter();
        all.extend(acted.map(|(index, instance)| Recorded {
            instance: *instance,
            reference: issued.id,
            index: *index,
            outcome: None,
        }));
    }
    all.retain(|one| is_to_site(&one.reference));
    all
}
