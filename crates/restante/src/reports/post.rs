//! Hands reports over: mail goes into this server's own queue, signed as its users' mail is; the rest by HTTPS.

use mail::ledger::Source;
use mail::report_uri::ReportUri;
use mail::{Address, Domain, MailParams, Recipient};
use net::retrieval;
use queue::port::{Acceptance, Reply, Request};
use store::Store;

use super::letter::{Draft, Letterhead};
use crate::deliver::facts;
use crate::receive::{LiveRouter, Signers};
use crate::runtime::{Custody, SystemEntropy, draw_queue_id, now};

/// Where reports leave from.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) store: Store,
    pub(crate) custody: Custody,
    pub(crate) router: LiveRouter,
    pub(crate) signers: Signers,
    pub(crate) https: retrieval::Client,
    /// Who writes them: its domain signs.
    pub(crate) from: Address,
    /// The domain of Message-IDs.
    pub(crate) domain: Domain,
}

/// A report was not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct NotTaken {
    /// May a later try succeed?
    pub(crate) temporary: bool,
    /// One plain sentence.
    pub(crate) text: String,
}

impl NotTaken {
    fn later(text: impl Into<String>) -> Self {
        Self { temporary: true, text: text.into() }
    }

    fn never(text: impl Into<String>) -> Self {
        Self { temporary: false, text: text.into() }
    }
}

impl Post {
    /// Hands a report over. By mail it is durable in the queue then, whose matter all the rest is.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub(crate) async fn deliver(&self, draft: &Draft, to: &ReportUri, source: Source) -> Result<(), NotTaken> {
        match to {
            ReportUri::Mail(address) => self.mail(draft, address, source).await,
            ReportUri::Https { host, path } => {
                let posted = self.https.post_report(host, path, &draft.media_type, draft.document.clone()).await;
                posted.map_err(|none| match none.status {
                    // RFC 8460 §5.5: whatever says that it will never be taken.
                    Some(400..=499) if !matches!(none.status, Some(408 | 425 | 429)) => NotTaken::never(none.text),
                    _ => NotTaken::later(none.text),
                })
            }
        }
    }

    async fn mail(&self, draft: &Draft, to: &Address, source: Source) -> Result<(), NotTaken> {
        let targets = self.router.get().targets(to);
        if targets.is_empty() {
            return Err(NotTaken::never(format!("there is no {to} here")));
        }
        let mut random = [0; 12];
        queue::Entropy::fill(&mut SystemEntropy::default(), &mut random);
        let letter = draft.letter(&Letterhead { from: &self.from, to, domain: &self.domain, at: now(), random });
        let mut writer = self.store.create();
        writer.write(&letter).await.map_err(|error| NotTaken::later(error.to_string()))?;
        let (object, checked) = writer.finish().await.map_err(|error| NotTaken::later(error.to_string()))?;
        let signed = self.signers.sign(&self.store, object, checked, false).await;
        let (object, checked) = signed.map_err(|error| NotTaken::later(error.to_string()))?;
        let recipient = Recipient::plain(to.clone());
        let acceptance = Acceptance {
            queue_id: draw_queue_id(),
            // No report about a report.
            mail_from: None,
            params: MailParams::default(),
            recipients: vec![(recipient, targets)],
            facts: facts(&checked),
            object,
            prefix: String::new(),
            seal: String::new(),
            source,
            once: None,
        };
        match self.custody.ask(Request::Accept(Box::new(acceptance))).await {
            Reply::Accepted => Ok(()),
            _ => Err(NotTaken::later("the queue cannot take it now")),
        }
    }
}
