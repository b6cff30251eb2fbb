//! Asking an LMTP server or a next hop at RCPT whether it knows a recipient, and remembering the answer.
//!
//! The probe is a transaction with the null sender that RSET ends after RCPT; the connection is kept for the next one
//! or for delivery. Sessions that ask for the same recipient at once share one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mail::ledger::Target;
use mail::{EnhancedStatus, Envelope, MailParams, Recipient};
use moka::Expiry;
use moka::future::Cache;
use net::smtp_client::{Client, Fate};
use smtp::Reply;

use super::refusal;
use crate::deliver::Hosts;
use crate::live::Live;

/// Most answers that are remembered.
const CAPACITY: u64 = 100_000;

/// By which a refusal is remembered for less long than a yes: a mailbox that was just made should not wait.
const SHORTER_FOR_REFUSALS: u32 = 6;

/// A yes, or the refusal.
type Answer = Option<Arc<Reply>>;

/// How long answers count.
struct Lifetime(Duration);

impl Expiry<Target, Answer> for Lifetime {
    fn expire_after_create(&self, _: &Target, answer: &Answer, _: Instant) -> Option<Duration> {
        Some(if answer.is_some() { self.0 / SHORTER_FOR_REFUSALS } else { self.0 })
    }
}

/// Asks and remembers.
#[derive(Clone)]
pub(crate) struct Prober {
    client: Live<Client>,
    hosts: Hosts,
    answers: Cache<Target, Answer>,
}

impl Prober {
    /// A yes counts for `lifetime`, a refusal for a sixth of it.
    pub(crate) fn new(client: Live<Client>, hosts: Hosts, lifetime: Duration) -> Self {
        let answers = Cache::builder().max_capacity(CAPACITY).expire_after(Lifetime(lifetime)).build();
        Self { client, hosts, answers }
    }

    /// Are all of these known to their servers? The error is what to tell the client.
    pub(crate) async fn ask(&self, targets: &[Target]) -> Result<(), Reply> {
        for target in targets {
            // Whoever asks first probes; if its session ends meanwhile, another that waits does.
            let answer = self.answers.try_get_with_by_ref(target, self.probe(target)).await;
            if let Some(refused) = answer.map_err(|later| Reply::clone(&later))? {
                return Err(Reply::clone(&refused));
            }
        }
        Ok(())
    }

    /// The error is a temporary one, which is not remembered.
    async fn probe(&self, target: &Target) -> Result<Answer, Reply> {
        let later = |text: String| refusal(451, EnhancedStatus::temporary(4, 1), text);
        let destination = self.hosts.destination(&target.route).map_err(later)?;
        let session = self.client.get().connect(&destination).await;
        let mut session = session.map_err(|_| later("the recipient cannot be checked now".to_owned()))?;
        let recipients = vec![Recipient::plain(target.address.clone())];
        let envelope = Envelope { mail_from: None, params: MailParams::default(), recipients };
        let fates = session.probe(&envelope).await;
        session.release();
        judge(fates).map_err(later)
    }
}

/// The error says why nothing is known.
fn judge(fates: Vec<Fate>) -> Result<Answer, String> {
    match fates.into_iter().next() {
        Some(Fate::Accepted(_)) => Ok(None),
        Some(Fate::Permanent(refused)) => {
            let status = refused.reply.status().unwrap_or(EnhancedStatus::permanent(1, 1));
            Ok(Some(Arc::new(refusal(550, status, "there is no such recipient here"))))
        }
        Some(Fate::Temporary(refused)) => Err(refused.reply.to_string()),
        _ => Err("the recipient cannot be checked now".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use mail::ledger::Route;

    use super::*;

    #[test]
    fn a_refusal_is_forgotten_sooner() {
        let (hour, at) = (Lifetime(Duration::from_secs(3600)), Instant::now());
        let target = Target { address: "a@a.example".parse().unwrap(), route: Route::Discard };
        let no = Some(Arc::new(refusal(550, EnhancedStatus::permanent(1, 1), "no")));
        assert_eq!(hour.expire_after_create(&target, &None, at), Some(Duration::from_secs(3600)));
        assert_eq!(hour.expire_after_create(&target, &no, at), Some(Duration::from_secs(600)));
    }
}
