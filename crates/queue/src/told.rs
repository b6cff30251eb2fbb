//! What an operator may want to read in the log: what became of recipients, or why they wait, once that is durable.
//!
//! Those of one leg with the same fate share a line. How it is written, and what of it, is the edge's.

use std::time::Duration;

use mail::ledger::{Action, Key, Leg, LegRecipient, Outcome, RecipientState, Route};
use mail::{Address, EnhancedStatus, Timestamp};

use crate::origin::leg;
use crate::origin::news::{Kind, News};

/// The fate of some recipients of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The leg.
    pub key: Key,
    /// Reverse-path.
    pub mail_from: Option<Address>,
    /// The first of them.
    pub first: Address,
    /// How many they are.
    pub recipients: usize,
    /// Where the leg goes.
    pub route: Route,
    /// The next hop, or the domain that took custody, where one of them said so.
    pub peer: Option<String>,
    /// It goes by reference; into a mailbox here: it came so.
    pub by_reference: bool,
    /// In one word: `delivered`, `relayed`, `expanded`, `failed`, `withdrawn`, or for now `deferred`, `delayed`.
    pub fate: &'static str,
    /// The status, where somebody gave one.
    pub status: Option<EnhancedStatus>,
    /// One plain sentence, or the peer's words; printable.
    pub text: String,
    /// Since this server accepted the message.
    pub delay: Duration,
}

/// What becomes known of recipients of a leg, in groups with one fate.
pub(crate) fn of_news(key: &Key, leg: &Leg, news: &[News], now: Timestamp) -> Vec<Told> {
    let mut groups: Vec<(&News, usize)> = Vec::new();
    for item in news {
        match groups.iter_mut().find(|(first, _)| shares_fate(first, item)) {
            Some((_, count)) => *count += 1,
            None => groups.push((item, 1)),
        }
    }
    let told = |(item, recipients): (&News, usize)| {
        let first = leg.recipients.get(usize::from(item.position))?;
        let Outcome { action, status, text, .. } = &item.outcome;
        let (fate, status) = match item.kind {
            Kind::Withdrawn => ("withdrawn", None),
            _ => (action.as_str(), Some(*status)),
        };
        let by_reference = is_by_reference(leg, item.position, action.is_final() && *action != Action::Failed);
        let peer = item.peer.clone();
        Some(Told { peer, by_reference, status, ..new(key, leg, first, recipients, fate, text, now) })
    };
    groups.into_iter().filter_map(told).collect()
}

/// An attempt has left recipients for another one; `positions` are those.
pub(crate) fn deferred(
    key: &Key,
    leg: &Leg,
    positions: &[u16],
    (status, text): (EnhancedStatus, &str),
    peer: Option<&str>,
    now: Timestamp,
) -> Option<Told> {
    let position = *positions.first()?;
    let first = leg.recipients.get(usize::from(position))?;
    let text = leg::outcome(Action::Delayed, status, text, now).text;
    let (peer, by_reference) = (peer.map(str::to_owned), is_by_reference(leg, position, false));
    let told = new(key, leg, first, positions.len(), "deferred", &text, now);
    Some(Told { peer, by_reference, status: Some(status), ..told })
}

fn new(
    key: &Key,
    leg: &Leg,
    first: &LegRecipient,
    recipients: usize,
    fate: &'static str,
    text: &str,
    now: Timestamp,
) -> Told {
    Told {
        key: key.clone(),
        mail_from: leg.mail_from.clone(),
        first: first.recipient.address.clone(),
        recipients,
        route: leg.route.clone(),
        peer: None,
        by_reference: false,
        fate,
        status: None,
        text: text.to_owned(),
        delay: now.since(leg.accepted),
    }
}

fn shares_fate(one: &News, other: &News) -> bool {
    let fate = |news: &News| (news.kind, news.outcome.action, news.outcome.status);
    fate(one) == fate(other) && one.outcome.text == other.outcome.text && one.peer == other.peer
}

/// What went well went by reference only if it was claimed; of what did not, the last attempt tells.
fn is_by_reference(leg: &Leg, position: u16, went_well: bool) -> bool {
    if is_here(&leg.route) {
        return leg.inbound.is_some();
    }
    let is_issued = || leg.issued.iter().any(|issued| issued.positions.contains(&position));
    match leg.recipients.get(usize::from(position)).map(|recipient| &recipient.state) {
        Some(RecipientState::Offered(_) | RecipientState::Claimed(_) | RecipientState::Done { claim: Some(_), .. }) => {
            true
        }
        _ => !went_well && !leg.by_value && is_issued(),
    }
}

/// Does it end on this machine?
fn is_here(route: &Route) -> bool {
    matches!(route, Route::Maildir(_) | Route::Lmtp(_) | Route::Discard | Route::Reports)
}
