//! "Delivery" to a site that is connected some of the time: the reference is issued, and waits until the site asks.
//!
//! Nobody is connected to. The queue is told what it would learn from a session, and issues for it; that the reference is
//! durable before it can be asked for is the queue's doing.

use mail::{Assurance, EnhancedStatus, Holder};
use queue::port::{DeliveryEnd, JobEvent, Peer, Proceed, RecipientEnd};

use crate::runtime::JobLine;

/// Lets the queue issue, and answers in the site's stead.
pub(super) async fn keep(site: &Holder, mut line: JobLine) -> DeliveryEnd {
    // The site's keys stand in the configuration: grants are bound to its domain, or to its user.
    let keys = vec![(site.domain().clone(), Assurance::Webpki)];
    let peer = Peer { name: site.to_string(), tbr: true, keys, ..Peer::default() };
    match line.ask(JobEvent::Connected(peer)).await {
        Some(Proceed::Offer { positions, .. }) => ended(site, true, &positions),
        Some(Proceed::ByValue { .. }) => DeliveryEnd::Unreachable {
            text: "only references can wait for a site".to_owned(),
            status: EnhancedStatus::temporary(3, 5),
        },
        Some(Proceed::Abandon) | None => ended(site, false, &[]),
    }
}

fn ended(site: &Holder, offer: bool, positions: &[u16]) -> DeliveryEnd {
    let kept = || RecipientEnd::Accepted { final_delivery: false, text: format!("waits for {site}") };
    let outcomes = positions.iter().map(|position| (*position, kept())).collect();
    DeliveryEnd::Transaction { offer, outcomes, peer: format!("{site}, when it asks"), octets: 0 }
}
