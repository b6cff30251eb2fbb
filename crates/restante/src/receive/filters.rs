//! Filters of others: milters are asked about mail that comes to relay listeners, at RCPT and at the end of content; by reference
//! also between retrieval and claim.
//!
//! The protocol is `net::milter`'s. Here is who is asked, what an answer means for the message, and what happens without one.

use std::net::SocketAddr;
use std::sync::Arc;

use mail::{Address, Domain, EnhancedStatus};
use net::milter::{Client, Failure, Milter, Session, Stream, Tls, Verdict};
use serde::{Deserialize, Serialize};
use smtp::Reply;
use tracing::{info, warn};

use super::refusal;
use crate::config::{self, Config};

/// The configured milters, in the order in which they are asked.
#[derive(Clone)]
pub(crate) struct Filters {
    hostname: Domain,
    filters: Arc<[config::Milter]>,
}

/// The client of a message, as far as a milter wants to know it. Kept with a reference until its object is here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Caller {
    /// Address and port.
    pub(crate) address: SocketAddr,
    /// What it called itself.
    pub(crate) helo: String,
    /// A name of its address that leads back to it, where it was looked up and there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<Domain>,
    /// Version and cipher suite of its connection, as `net::smtp_server::Connection` has them; nothing in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<String>,
}

/// One message before all milters. Each sees it as it came, without what others add.
pub(crate) struct Filtering {
    filters: Filters,
    caller: Caller,
    mail_from: String,
    /// What names the message in the log, once it has a name.
    id: Option<String>,
    /// Connected with the first recipient; a milter without a session is not asked any more.
    sessions: Option<Vec<(config::Milter, Option<Session<Stream>>)>>,
    /// Nothing of this message is taken.
    refused: Option<Reply>,
    discards: bool,
}

/// A message that no milter has anything against.
pub(crate) struct Passed {
    /// Header fields to stand on top, with their CR LF.
    pub(crate) fields: String,
    /// It is to be thrown away.
    pub(crate) discards: bool,
}

/// What milters are told.
#[derive(Clone, Copy)]
enum Step<'a> {
    Greeting,
    Rcpt(&'a str),
    Content(&'a [u8]),
}

impl Filters {
    pub(crate) fn new(config: &Config) -> Self {
        Self { hostname: config.hostname.clone(), filters: config.milters.clone().into() }
    }

    /// Whether anybody is to be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// A message; nobody is told of it before its first recipient.
    pub(crate) fn begin(&self, caller: Caller, mail_from: Option<&Address>) -> Filtering {
        let mail_from = mail_from.map(|address| address.as_str().to_owned()).unwrap_or_default();
        Filtering { filters: self.clone(), caller, mail_from, id: None, sessions: None, refused: None, discards: false }
    }
}

impl Filtering {
    /// What names the message in the log from now on.
    pub(crate) fn is_named(&mut self, id: &str) {
        self.id = Some(id.to_owned());
        self.sessions.iter_mut().flatten().filter_map(|(_, session)| session.as_mut()).for_each(|it| it.is_named(id));
    }

    /// A recipient that would be taken.
    ///
    /// # Errors
    /// The reply to RCPT.
    pub(crate) async fn rcpt(&mut self, to: &Address) -> Result<(), Reply> {
        if self.sessions.is_none() && self.refused.is_none() {
            let filters = Arc::clone(&self.filters.filters);
            self.sessions = Some(filters.iter().map(|filter| (filter.clone(), None)).collect());
            let begun = self.ask(Step::Greeting).await;
            // Whoever does not want the sender wants none of its recipients.
            self.refused = self.refused.take().or(begun.err());
        }
        self.ask(Step::Rcpt(to.as_str())).await
    }

    /// Some of the content, without dots added.
    ///
    /// # Errors
    /// The reply to the content.
    pub(crate) async fn content(&mut self, octets: &[u8]) -> Result<(), Reply> {
        self.ask(Step::Content(octets)).await
    }

    /// The content is complete.
    ///
    /// # Errors
    /// The reply to the content.
    pub(crate) async fn end(mut self) -> Result<Passed, Reply> {
        if let Some(reply) = self.refused {
            return Err(reply);
        }
        let mut passed = Passed { fields: String::new(), discards: self.discards };
        for (filter, session) in self.sessions.take().unwrap_or_default() {
            let Some(session) = session else { continue };
            let (answer, fields) = match session.end().await {
                Ok((verdict, fields)) => (Ok(verdict), fields),
                Err(failure) => (Err(failure), Vec::new()),
            };
            passed.discards |= settle(&filter, answer)? == Some(Verdict::Discard);
            fields.iter().for_each(|field| passed.fields.push_str(field.as_str()));
        }
        if passed.discards {
            info!(id = self.id.unwrap_or_default(), "a milter throws the message away");
        }
        Ok(passed)
    }

    async fn ask(&mut self, step: Step<'_>) -> Result<(), Reply> {
        if let Some(reply) = &self.refused {
            return Err(reply.clone());
        }
        for (filter, session) in self.sessions.iter_mut().flatten() {
            let answer = match (step, &mut *session) {
                (Step::Greeting, _) => {
                    begin(filter, &self.filters.hostname, &self.caller, self.id.as_deref(), &self.mail_from).await.map(
                        |(begun, verdict)| {
                            *session = Some(begun);
                            verdict
                        },
                    )
                }
                (Step::Rcpt(to), Some(session)) => session.rcpt(to).await,
                (Step::Content(octets), Some(session)) => session.content(octets).await,
                (_, None) => continue,
            };
            let has_failed = answer.is_err();
            match settle(filter, answer) {
                Ok(None) => *session = None,
                Ok(Some(verdict)) => self.discards |= verdict == Verdict::Discard,
                Err(reply) => {
                    self.refused = has_failed.then(|| reply.clone());
                    return Err(reply);
                }
            }
        }
        Ok(())
    }
}

async fn begin(
    filter: &config::Milter,
    hostname: &Domain,
    caller: &Caller,
    id: Option<&str>,
    mail_from: &str,
) -> Result<(Session<Stream>, Verdict), Failure> {
    let milter = Milter { endpoint: filter.endpoint.clone(), patience: filter.timeout };
    let mut session = milter.open().await?;
    id.into_iter().for_each(|id| session.is_named(id));
    let tls = caller.tls.as_deref().map(tls_names);
    let client = Client {
        server: hostname.as_str(),
        address: Some(caller.address),
        name: caller.name.as_ref().map(Domain::as_str),
        helo: &caller.helo,
        tls: tls.as_ref().map(|(version, cipher)| Tls { version, cipher }),
    };
    let verdict = match session.greet(client).await? {
        Verdict::Continue => session.mail(mail_from).await?,
        verdict => verdict,
    };
    Ok((session, verdict))
}

/// Version and cipher suite as OpenSSL names them, which is what milters know: `TLSv1.3` and `TLS_AES_256_GCM_SHA384`.
fn tls_names(tls: &str) -> (String, String) {
    let (version, cipher) = tls.split_once(' ').unwrap_or((tls, ""));
    (version.replace('_', "."), cipher.replace("TLS13_", "TLS_"))
}

/// What an answer means. `None`: there is none, and the message is taken without.
fn settle(filter: &config::Milter, answer: Result<Verdict, Failure>) -> Result<Option<Verdict>, Reply> {
    match answer {
        Ok(Verdict::Refuse(words)) => {
            info!(milter = %filter.endpoint, code = words.code, text = words.text, "refused by a milter");
            Err(refusal(words.code, words.status, words.text))
        }
        Ok(verdict) => Ok(Some(verdict)),
        Err(failure) if filter.without_verdict == config::WithoutVerdict::Accept => {
            warn!(milter = %filter.endpoint, %failure, "taken without the verdict of a milter");
            Ok(None)
        }
        Err(failure) => {
            warn!(milter = %filter.endpoint, %failure, "deferred for want of a milter's verdict");
            Err(refusal(451, EnhancedStatus::temporary(7, 1), "a filter gives no verdict now"))
        }
    }
}
