//! The questions: to DNS, and to `https://tbr.<domain>`. Every answer, a failure too, is remembered.

use std::sync::Arc;
use std::time::Duration;

use mail::{Domain, Timestamp};
use reference::keys::{self, DomainRecord};
use reference::{DomainFacts, KeyRecord, Selector};
use tokio::time::timeout;

use super::plan::{Key, Pin, Question, Record, Step, View};
use super::{Failure, Found, Shared};
use crate::lookup::{LookupError, Txt};

impl Shared {
    /// What follows from what is remembered.
    pub(super) fn plan(&self, domain: &Domain, selector: &Selector, now: Timestamp) -> Step {
        self.question(domain, selector, now).plan(&self.memory.view(domain, selector, now))
    }

    /// Asks until there is an answer. Every question is asked at most once.
    pub(super) async fn look_up(&self, domain: &Domain, selector: &Selector, now: Timestamp) -> Result<Found, Failure> {
        let question = self.question(domain, selector, now);
        let mut view = self.memory.view(domain, selector, now);
        loop {
            match question.plan(&view) {
                Step::Done(result) => return result,
                Step::AskRecord => view.record = Some(self.ask_record(domain, now).await),
                Step::AskKey => view.key = Some(self.ask_key(domain, selector, now).await),
                Step::AskDocument => self.ask_document(domain, now, &mut view).await,
            }
        }
    }

    /// Is there a consent at this name?
    pub(super) async fn ask_consent(&self, name: &Domain, now: Timestamp) -> Result<bool, Failure> {
        let (answer, ttl) = match self.txt(name).await {
            Ok(txt) => {
                self.memory.is_not_bogus(name);
                (Ok(keys::is_consent(texts(&txt))), txt.ttl)
            }
            Err(error) => (Err(self.failure(name, name, error, now)), Duration::ZERO),
        };
        self.memory.keep_consent(name, &answer, ttl, now);
        answer
    }

    fn question<'a>(&self, domain: &'a Domain, selector: &'a Selector, now: Timestamp) -> Question<'a> {
        Question { domain, selector, now, refetch: self.config.refetch }
    }

    pub(super) async fn ask_record(&self, domain: &Domain, now: Timestamp) -> Record {
        let (record, ttl) = match self.txt_at(keys::record_name(domain).ok()).await {
            Ok(txt) => {
                self.memory.is_not_bogus(domain);
                (read_record(domain, &txt), txt.ttl)
            }
            Err(error) => (Record::Failed(self.failure(domain, domain, error, now)), Duration::ZERO),
        };
        self.memory.keep_record(domain, &record, ttl, now);
        record
    }

    async fn ask_key(&self, domain: &Domain, selector: &Selector, now: Timestamp) -> Key {
        let name = keys::key_name(selector, domain).ok();
        let (key, ttl) = match self.txt_at(name.clone()).await {
            Ok(txt) => {
                name.iter().for_each(|name| self.memory.is_not_bogus(name));
                (read_key(domain, selector, &txt), txt.ttl)
            }
            Err(error) => {
                (Key::Failed(self.failure(domain, &name.unwrap_or_else(|| domain.clone()), error, now)), Duration::ZERO)
            }
        };
        self.memory.keep_key(domain, selector, &key, ttl, now);
        key
    }

    /// Fetches the document and pins it; a failure leaves what was pinned before.
    pub(super) async fn ask_document(&self, domain: &Domain, now: Timestamp, view: &mut View) {
        match self.fetch_document(domain).await {
            Ok(facts) => {
                let pin = Pin { facts: Arc::new(facts), fetched: now, asked: now };
                self.put_on_shelf(domain, &pin).await;
                view.pin = Some(Arc::new(pin));
            }
            Err(failure) => {
                self.memory.keep_failure(domain, &failure, now);
                view.failure = Some(failure);
                view.pin = view.pin.take().map(|pin| Arc::new(Pin { asked: now, ..Pin::clone(&pin) }));
            }
        }
        if let Some(pin) = &view.pin {
            self.memory.keep_pin(domain, pin);
        }
    }

    /// A pin that is lost with the next restart still counts until then.
    async fn put_on_shelf(&self, domain: &Domain, pin: &Pin) {
        let Some(shelf) = &self.shelf else { return };
        if let Err(error) = shelf.put(domain, pin).await {
            tracing::warn!(%domain, %error, "the domain's document is not kept on disk");
        }
    }

    /// Neither pins it nor remembers a failure.
    pub(super) async fn fetch_document(&self, domain: &Domain) -> Result<DomainFacts, Failure> {
        let temporary = |text: String| Failure::Temporary { domain: domain.clone(), text };
        let host = keys::default_host(domain)
            .map_err(|error| Failure::Unusable { domain: domain.clone(), text: error.to_string() })?;
        let document = match timeout(self.config.step_time, self.client.document(&host)).await {
            Ok(answer) => answer.map_err(|none| temporary(none.text))?,
            Err(_) => return Err(temporary(format!("{host} does not answer in time"))),
        };
        DomainFacts::from_document(domain, &document)
            .map_err(|error| Failure::Unusable { domain: domain.clone(), text: error.to_string() })
    }

    /// A name that would be too long does not exist.
    async fn txt_at(&self, name: Option<Domain>) -> Result<Txt, LookupError> {
        match name {
            Some(name) => self.txt(&name).await,
            None => Ok(Txt { records: Vec::new(), secure: true, ttl: Duration::MAX }),
        }
    }

    /// Of a look-up for `domain`, of which `asked` was the name.
    fn failure(&self, domain: &Domain, asked: &Domain, error: LookupError, now: Timestamp) -> Failure {
        let domain = domain.clone();
        match error {
            LookupError::Temporary(text) => Failure::Temporary { domain, text },
            LookupError::Bogus(text) => Failure::Bogus { domain, text, lasting: self.memory.lasts(asked, now) },
        }
    }

    async fn txt(&self, name: &Domain) -> Result<Txt, LookupError> {
        let late = || LookupError::Temporary(format!("no answer about {name} in time"));
        timeout(self.config.step_time, self.lookup.txt(name)).await.unwrap_or_else(|_| Err(late()))
    }
}

fn read_record(domain: &Domain, txt: &Txt) -> Record {
    let secure = txt.secure;
    match DomainRecord::from_txt(domain, texts(txt)) {
        Ok(Some(record)) => Record::Published { record, secure },
        Ok(None) => Record::Absent { secure },
        Err(error) => Record::Unusable { text: error.to_string(), secure },
    }
}

fn read_key(domain: &Domain, selector: &Selector, txt: &Txt) -> Key {
    if !txt.secure {
        return Key::Insecure;
    }
    match KeyRecord::from_txt(selector, texts(txt)) {
        Ok(key) => Key::Secure(key),
        Err(error) => Key::Failed(Failure::Unusable { domain: domain.clone(), text: error.to_string() }),
    }
}

fn texts(txt: &Txt) -> impl Iterator<Item = &str> {
    txt.records.iter().map(String::as_str)
}
