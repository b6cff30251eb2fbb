//! The decision: from what is remembered of a domain to an answer, or to the next question (TBR §6). Pure.
//!
//! Validated DNS decides alone where there is any: a key that it denies is not looked for elsewhere, and a forged
//! answer never leads to a weaker level. Without DNSSEC the record only says that a document exists; the document
//! counts, and for as long as it is pinned unsigned DNS cannot talk it away.

use std::sync::Arc;
use std::time::Duration;

use mail::{Domain, Timestamp};
use reference::keys::DomainRecord;
use reference::{Assurance, DomainFacts, KeyRecord, Selector};

use super::{Failure, Found};

/// What was found at `_tbr.<domain>`.
#[derive(Debug, Clone)]
pub(super) enum Record {
    Published { record: DomainRecord, secure: bool },
    Absent { secure: bool },
    Unusable { text: String, secure: bool },
    Failed(Failure),
}

/// What was found at `<s>._tbr.<domain>`, for a domain whose record is validated.
#[derive(Debug, Clone)]
pub(super) enum Key {
    /// A validated answer, a denial too.
    Secure(Option<KeyRecord>),
    /// A selector that leads into an unsigned zone.
    Insecure,
    Failed(Failure),
}

/// A document, as it was fetched.
#[derive(Debug, Clone)]
pub(super) struct Pin {
    pub(super) facts: Arc<DomainFacts>,
    /// When it was fetched.
    pub(super) fetched: Timestamp,
    /// When it was last asked for, with or without success.
    pub(super) asked: Timestamp,
}

/// What is remembered and still counts.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) record: Option<Record>,
    pub(super) key: Option<Key>,
    pub(super) pin: Option<Arc<Pin>>,
    /// Why the document could not be had lately.
    pub(super) failure: Option<Failure>,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    Done(Result<Found, Failure>),
    AskRecord,
    AskKey,
    AskDocument,
}

/// Who asks for what, when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) domain: &'a Domain,
    pub(super) selector: &'a Selector,
    pub(super) now: Timestamp,
    /// Shortest time between fetches that unknown selectors cause.
    pub(super) refetch: Duration,
}

impl Question<'_> {
    pub(super) fn plan(&self, view: &View) -> Step {
        match &view.record {
            None => Step::AskRecord,
            Some(Record::Published { record, secure: true }) => self.by_dns(record, view),
            Some(Record::Published { secure: false, .. }) => self.by_document(view),
            Some(Record::Absent { secure: true }) => Step::Done(Err(self.not_published())),
            Some(Record::Absent { secure: false }) => self.pinned_or(view, self.not_published()),
            Some(Record::Unusable { text, secure: true }) => Step::Done(Err(self.unusable(text))),
            Some(Record::Unusable { text, secure: false }) => self.pinned_or(view, self.unusable(text)),
            Some(Record::Failed(bogus @ Failure::Bogus { .. })) => Step::Done(Err(bogus.clone())),
            Some(Record::Failed(failure)) => self.pinned_or(view, failure.clone()),
        }
    }

    fn by_dns(&self, record: &DomainRecord, view: &View) -> Step {
        let key = match &view.key {
            None => return Step::AskKey,
            Some(Key::Failed(failure)) => return Step::Done(Err(failure.clone())),
            Some(Key::Insecure) => return self.by_document(view),
            Some(Key::Secure(key)) => key,
        };
        let facts = DomainFacts {
            domain: self.domain.clone(),
            repo: record.repo.clone(),
            sub: record.sub,
            keys: key.iter().cloned().collect(),
            max_age: Duration::ZERO,
        };
        Step::Done(Ok(Found { facts: Arc::new(facts), assurance: Assurance::Dnssec }))
    }

    fn by_document(&self, view: &View) -> Step {
        if self.domain.is_public_suffix() {
            return Step::Done(Err(self.unusable("strangers can own names below it, so only DNSSEC can vouch for it")));
        }
        match (&view.pin, &view.failure) {
            (Some(pin), _) if self.suffices(pin) => found(pin),
            (Some(pin), Some(_)) => found(pin),
            (None, Some(failure)) => Step::Done(Err(failure.clone())),
            (_, None) => Step::AskDocument,
        }
    }

    /// Fresh, and with the key; or without, but it was only just asked for.
    fn suffices(&self, pin: &Pin) -> bool {
        let fresh = self.now.since(pin.fetched) < pin.facts.max_age;
        fresh && (pin.facts.key(self.selector).is_some() || self.now.since(pin.asked) < self.refetch)
    }

    fn pinned_or(&self, view: &View, failure: Failure) -> Step {
        view.pin.as_ref().map_or(Step::Done(Err(failure)), found)
    }

    fn not_published(&self) -> Failure {
        Failure::NotPublished(self.domain.clone())
    }

    fn unusable(&self, text: &str) -> Failure {
        Failure::Unusable { domain: self.domain.clone(), text: text.to_owned() }
    }
}

fn found(pin: &Arc<Pin>) -> Step {
    Step::Done(Ok(Found { facts: Arc::clone(&pin.facts), assurance: Assurance::Webpki }))
}
