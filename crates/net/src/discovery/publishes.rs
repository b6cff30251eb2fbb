//! Does a domain publish keys at all? Then grants for its recipients are bound to it (TBR §6.2).
//!
//! The same answers count as for a key: validated DNS, or the document, pinned for some days. That nothing is known now
//! is never taken for an absence of keys: whoever can keep an answer away must gain nothing by it.

use std::sync::Arc;
use std::time::Duration;

use mail::{Assurance, Domain, Timestamp};
use reference::KeyState;
use tokio::time::timeout;

use super::plan::{Pin, Record, View};
use super::{Discovery, Failure, Shared, busy};

type Answer = Result<Option<Assurance>, Failure>;

/// What comes next.
enum Step {
    Done(Answer),
    AskRecord,
    AskDocument,
}

impl Discovery {
    /// How surely it is known that this domain publishes keys; `None`: it does not. Answers within `patience`; a slower
    /// look-up goes on in the background.
    ///
    /// # Errors
    /// [`Failure`], but never [`Failure::NotPublished`].
    pub async fn publishes(&self, domain: &Domain, now: Timestamp, patience: Duration) -> Answer {
        if let Step::Done(answer) = plan(domain, &self.shared.memory.view_of_domain(domain, now), now) {
            return answer;
        }
        let (shared, asked) = (Arc::clone(&self.shared), domain.clone());
        let flight = self
            .shared
            .publishing
            .join(self.asker, domain, domain, async move { shared.ask_publishes(&asked, now).await });
        match timeout(patience, flight).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(busy(domain)),
            Err(_) => Err(Failure::StillLooking(domain.clone())),
        }
    }
}

impl Shared {
    /// Asks until there is an answer. Every question is asked at most once.
    async fn ask_publishes(&self, domain: &Domain, now: Timestamp) -> Answer {
        let mut view = self.memory.view_of_domain(domain, now);
        loop {
            match plan(domain, &view, now) {
                Step::Done(answer) => return answer,
                Step::AskRecord => view.record = Some(self.ask_record(domain, now).await),
                Step::AskDocument => self.ask_document(domain, now, &mut view).await,
            }
        }
    }
}

/// The decision. A validated record says that there are keys: only signing domains have one.
fn plan(domain: &Domain, view: &View, now: Timestamp) -> Step {
    let pinned_or = |answer: Answer| Step::Done(view.pin.as_ref().map_or(answer, |pin| Ok(in_document(pin))));
    let unusable = |text: &str| Err(Failure::Unusable { domain: domain.clone(), text: text.to_owned() });
    match &view.record {
        None => Step::AskRecord,
        Some(Record::Published { secure: true, .. }) => Step::Done(Ok(Some(Assurance::Dnssec))),
        Some(Record::Published { secure: false, .. }) => by_document(domain, view, now),
        Some(Record::Absent { secure: true }) => Step::Done(Ok(None)),
        Some(Record::Absent { secure: false }) => pinned_or(Ok(None)),
        Some(Record::Unusable { text, secure: true }) => Step::Done(unusable(text)),
        Some(Record::Unusable { text, secure: false }) => pinned_or(unusable(text)),
        Some(Record::Failed(bogus @ Failure::Bogus { .. })) => Step::Done(Err(bogus.clone())),
        Some(Record::Failed(failure)) => pinned_or(Err(failure.clone())),
    }
}

fn by_document(domain: &Domain, view: &View, now: Timestamp) -> Step {
    if domain.is_public_suffix() {
        // Nobody can vouch for its keys, so there are none.
        return Step::Done(Ok(None));
    }
    match (&view.pin, &view.failure) {
        (Some(pin), _) if now.since(pin.fetched) < pin.facts.max_age => Step::Done(Ok(in_document(pin))),
        (Some(pin), Some(_)) => Step::Done(Ok(in_document(pin))),
        (None, Some(failure)) => Step::Done(Err(failure.clone())),
        (_, None) => Step::AskDocument,
    }
}

fn in_document(pin: &Pin) -> Option<Assurance> {
    let usable = pin.facts.keys.iter().any(|key| key.state != KeyState::Revoked);
    usable.then_some(Assurance::Webpki)
}
