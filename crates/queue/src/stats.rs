//! Counters for metrics. They count only what is durable, and start at 0 with the process.

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Messages accepted by value.
    MessagesAccepted,
    /// References accepted from others.
    OffersReceived,
    /// References issued.
    ReferencesIssued,
    /// Recipients for whom a peer answered 250 to an offer.
    OffersTaken,
    /// Indexes granted to claimants, repetitions included.
    ClaimsGranted,
    /// Indexes refused to claimants: another store had them.
    ClaimsTaken,
    /// Indexes refused to claimants: nothing to be claimed any more.
    ClaimsGone,
    /// Recipients whose mail was delegated by a relay here, at their origin.
    DelegationsRecorded,
    /// Outcomes recorded from receipts, repetitions included.
    ReceiptsRecorded,
    /// Objects retrieved.
    ObjectsRetrieved,
    /// Octets received for them.
    OctetsRetrieved,
    /// Retrievals that failed.
    RetrievalsFailed,
    /// References refused for their content.
    ContentsRefused,
    /// Recipients delivered to mailboxes, here or by receipt.
    Delivered,
    /// Recipients handed to next hops, here or by receipt.
    Relayed,
    /// Recipients failed, here or by receipt.
    Failed,
    /// Delivery attempts that will be repeated.
    Deferred,
    /// Legs that went over from reference to value.
    FallBacks,
    /// Inbound references whose custody was taken without an answer.
    ActedUnanswered,
    /// Reports written.
    ReportsWritten,
    /// Reports that had no one to go to.
    ReportsDropped,
    /// Commits refused because a row had changed.
    Conflicts,
    /// Times the ledger failed.
    LedgerFailures,
}

use Count as C;

impl Count {
    /// All of them, in order, with their names in metrics.
    pub const ALL: [(Count, &'static str); 23] = [
        (C::MessagesAccepted, "messages_accepted"),
        (C::OffersReceived, "offers_received"),
        (C::ReferencesIssued, "references_issued"),
        (C::OffersTaken, "offers_taken"),
        (C::ClaimsGranted, "claims_granted"),
        (C::ClaimsTaken, "claims_taken"),
        (C::ClaimsGone, "claims_gone"),
        (C::DelegationsRecorded, "delegations_recorded"),
        (C::ReceiptsRecorded, "receipts_recorded"),
        (C::ObjectsRetrieved, "objects_retrieved"),
        (C::OctetsRetrieved, "octets_retrieved"),
        (C::RetrievalsFailed, "retrievals_failed"),
        (C::ContentsRefused, "contents_refused"),
        (C::Delivered, "delivered"),
        (C::Relayed, "relayed"),
        (C::Failed, "failed"),
        (C::Deferred, "deferred"),
        (C::FallBacks, "fall_backs"),
        (C::ActedUnanswered, "acted_unanswered"),
        (C::ReportsWritten, "reports_written"),
        (C::ReportsDropped, "reports_dropped"),
        (C::Conflicts, "conflicts"),
        (C::LedgerFailures, "ledger_failures"),
    ];
}

/// What a node has done since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats([u64; Count::ALL.len()]);

impl Stats {
    /// One counter.
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    pub(crate) fn add(&mut self, count: Count, more: u64) {
        self.0[count as usize] += more;
    }

    pub(crate) fn merge(&mut self, more: &Self) {
        for (count, extra) in self.0.iter_mut().zip(more.0) {
            *count += extra;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_listed_in_order() {
        assert!(Count::ALL.iter().enumerate().all(|(place, (count, _))| *count as usize == place));
    }
}
