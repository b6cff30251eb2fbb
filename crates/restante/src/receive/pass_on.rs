//! Passing an offer on, unchanged, to another exchanger of its domain: one that has the domain's key (TBR §3.7, §6.2).
//!
//! Nothing of it is kept here, and custody stays with the origin: the other one's reply is ours, or else the origin is asked for
//! the message by value.

use bytes::Bytes;
use mail::ledger::Route;
use mail::{EnhancedStatus, Envelope};
use net::smtp_client::{Client, Fate, Stage};
use reference::codes;
use smtp::Reply;
use smtp::command::Tbr;
use tracing::info;

use super::offer::{Transaction, Verdict};
use crate::deliver::Hosts;
use crate::live::Live;

/// The way to other exchangers of our domains.
pub(crate) struct Exchangers {
    pub(crate) client: Live<Client>,
    pub(crate) hosts: Hosts,
}

impl Exchangers {
    /// Offers to this relay what was offered here, to every recipient in the same order, refused ones included: they are part of
    /// what was signed. The reply to the lone dot.
    pub(crate) async fn pass_on(
        &self,
        relay: &str,
        transaction: &Transaction<'_>,
        line: &str,
        block: &[u8],
    ) -> Verdict {
        let accepted: Vec<bool> = transaction.recipients.iter().map(|(_, targets)| !targets.is_empty()).collect();
        let said = match self.offer(relay, transaction, line, block).await {
            Ok(fates) => verdict(&fates, &accepted),
            Err(text) => Err(text),
        };
        said.unwrap_or_else(|text| {
            info!(id = %transaction.queue_id, relay, text, "the offer cannot be passed on: by value");
            let code = &codes::KEY_NOT_HERE;
            (code.reply, code.status, code.text.to_owned())
        })
    }

    async fn offer(
        &self,
        relay: &str,
        transaction: &Transaction<'_>,
        line: &str,
        block: &[u8],
    ) -> Result<Vec<Fate>, String> {
        let destination = self.hosts.destination(&Route::Relay(relay.to_owned()))?;
        let line = Tbr::parse(line).map_err(|error| error.to_string())?;
        let recipients = transaction.recipients.iter().map(|(recipient, _)| recipient.clone()).collect();
        let (mail_from, params) = (transaction.mail_from.clone(), transaction.params.clone());
        let mut session = self.client.get().connect(&destination).await.map_err(|error| error.text)?;
        let envelope = Envelope { mail_from, params, recipients };
        let said = session.offer(&envelope, line, Bytes::copy_from_slice(block)).await;
        session.release();
        Ok(said.fates)
    }
}

/// The reply to all recipients that were accepted here; an error where there is none: then nobody may think that the offer was
/// taken for all of them.
fn verdict(fates: &[Fate], accepted: &[bool]) -> Result<Verdict, String> {
    let mut said: Option<&Reply> = None;
    for (fate, _) in fates.iter().zip(accepted).filter(|(_, accepted)| **accepted) {
        match fate {
            Fate::Accepted(reply) => said = said.or(Some(reply)),
            Fate::Temporary(refusal) | Fate::Permanent(refusal) if refusal.stage == Stage::Offer => {
                return Ok(words(&refusal.reply));
            }
            Fate::Temporary(refusal) | Fate::Permanent(refusal) => return Err(refusal.reply.to_string()),
            Fate::NotSent(lost) | Fate::Unknown(lost) => return Err(lost.to_string()),
        }
    }
    said.map(words).ok_or_else(|| "there is no reply".to_owned())
}

fn words(reply: &Reply) -> Verdict {
    let general = EnhancedStatus::success(0, 0);
    let text = reply.lines().next().unwrap_or_default().to_owned();
    (reply.code(), reply.status().unwrap_or(general), text)
}

#[cfg(test)]
mod tests {
    use net::smtp_client::Refusal;

    use super::*;

    fn taken() -> Fate {
        Fate::Accepted(Reply::new(250, EnhancedStatus::success(5, 0), "q1 reference accepted, retrieval pending"))
    }

    fn refused(stage: Stage) -> Fate {
        Fate::Permanent(Refusal { stage, reply: Reply::new(550, EnhancedStatus::permanent(7, 77), "no") })
    }

    #[test]
    fn the_other_exchanger_s_reply_is_ours_if_it_is_one_for_everybody() {
        let said = verdict(&[taken(), taken()], &[true, true]).unwrap();
        assert_eq!((said.0, said.2.as_str()), (250, "q1 reference accepted, retrieval pending"));
        assert_eq!(verdict(&[refused(Stage::Offer)], &[true]).unwrap().0, 550);
        // Refused here, accepted there: the origin knows it as refused.
        assert_eq!(verdict(&[taken(), taken()], &[true, false]).unwrap().0, 250);
        // Accepted here, refused there: the origin must not think that it is on its way.
        let half = [taken(), refused(Stage::Rcpt)];
        assert!(verdict(&half, &[true, true]).is_err());
        assert!(verdict(&half, &[true, false]).is_ok());
    }
}
