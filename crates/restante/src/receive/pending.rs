//! An offer that a custodian was asked for (TBR §7.4), or that was carried here in a bundle (§7.5): judged like one that
//! comes by SMTP.
//!
//! Its lines are read by the same parsers, its recipients routed by the same router, its reference judged by the same
//! desk. What differs: nobody waits for a reply, so a recipient that is refused is taken, and refused by a receipt.

use mail::ledger::Target;
use mail::{Domain, EnhancedStatus, Recipient, Timestamp};
use policy::scrub::trace_above;
use reference::pending::PendingOffer;
use reference::verify::Parsed;
use smtp::command::{Command, Mail, Rcpt};
use tracing::info;

use super::offer::{Carrier, Transaction};
use super::{Reception, Verdict};
use crate::routing::Resolution;
use crate::runtime::draw_queue_id;

/// What became of an offer of a custodian's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the ledger now, or was before and is not done yet.
    Pending,
    /// All that it asks for is done: the custodian has not heard of it yet, and is told again.
    Known,
    /// Not now.
    Later,
    /// It is not what it must be; the custodian keeps it until it expires.
    Refused,
}

/// Octets of an offer's object and the end of its reference, as claimed: what to fetch first. Nothing is believed of it.
pub(crate) fn size_and_end(offer: &PendingOffer) -> Option<(u64, Timestamp)> {
    let parsed = Parsed::new(&offer.tbr, offer.block.as_bytes()).ok()?;
    Some((parsed.size(), parsed.expires()))
}

impl Reception {
    /// Judges an offer of this custodian's; whatever is taken is durable.
    pub(crate) async fn pending(&self, custodian: &Domain, offer: &PendingOffer) -> Taken {
        self.take(custodian, offer, None).await
    }

    /// The same for one in a bundle of this custodian's, whose object is about to come.
    pub(crate) async fn carried(&self, custodian: &Domain, offer: &PendingOffer, carrier: &Carrier) -> Taken {
        self.take(custodian, offer, Some(carrier)).await
    }

    async fn take(&self, custodian: &Domain, offer: &PendingOffer, carrier: Option<&Carrier>) -> Taken {
        let transaction = match self.transaction(custodian, offer, carrier).await {
            Ok(transaction) => transaction,
            Err((code, _, text)) => {
                info!(%custodian, text, "an offer of the custodian's is passed over");
                return if code < 500 { Taken::Later } else { Taken::Refused };
            }
        };
        let verdict = self.desk.judge(transaction, &offer.tbr, offer.block.as_bytes()).await;
        outcome(&verdict)
    }

    async fn transaction<'a>(
        &self,
        custodian: &'a Domain,
        offer: &PendingOffer,
        carrier: Option<&'a Carrier>,
    ) -> Result<Transaction<'a>, Verdict> {
        let Mail { from, params } = match Command::parse(format!("MAIL {}", offer.mail).as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            _ => return Err(malformed("MAIL")),
        };
        let mut recipients = Vec::with_capacity(offer.rcpt.len());
        for line in &offer.rcpt {
            let recipient = match Command::parse(format!("RCPT {line}").as_bytes()) {
                Ok(Command::Rcpt(Rcpt(recipient))) => recipient,
                _ => return Err(malformed("RCPT")),
            };
            let targets = self.targets(&recipient).await?;
            recipients.push((recipient, targets));
        }
        let trace = trace_above(&offer.trace, &self.desk.hostname).ok_or_else(|| malformed("trace"))?;
        Ok(Transaction {
            queue_id: draw_queue_id(),
            mail_from: from,
            params,
            recipients,
            helo: custodian.as_str(),
            client: None,
            with: if carrier.is_some() { "BUNDLE" } else { "HTTPS" },
            caller: None,
            evidence: None,
            pending: Some(trace),
            carrier,
            // It is asked because it is trusted.
            is_trusted: true,
        })
    }

    /// Where a recipient goes; nowhere, if it does not exist.
    async fn targets(&self, recipient: &Recipient) -> Result<Vec<Target>, Verdict> {
        let resolution = self.router.get().resolve(&recipient.address);
        match resolution {
            Resolution::Local(targets) => Ok(targets),
            Resolution::Probe { targets, ask } => match self.prober.ask(&ask).await {
                Ok(()) => Ok(targets),
                Err(reply) if reply.code() >= 500 => Ok(Vec::new()),
                Err(reply) => Err((reply.code(), EnhancedStatus::temporary(3, 5), reply.to_string())),
            },
            Resolution::Unknown | Resolution::NotOurs => Ok(Vec::new()),
            Resolution::Loop => Err((451, EnhancedStatus::temporary(3, 5), "aliases lead in a circle".to_owned())),
        }
    }
}

fn outcome((code, status, _): &Verdict) -> Taken {
    match code {
        250 if *status == reference::codes::DONE.status => Taken::Known,
        200..300 => Taken::Pending,
        400..500 => Taken::Later,
        _ => Taken::Refused,
    }
}

fn malformed(what: &str) -> Verdict {
    (501, EnhancedStatus::permanent(5, 4), format!("its {what} cannot be read"))
}
