//! One connection's transactions: sender, recipients, content or offer, in this order.

use std::sync::Arc;

use bytes::Bytes;
use mail::ledger::{Source, Target};
use mail::trace::Reception as TraceFacts;
use mail::{Address, EnhancedStatus, MailParams, QueueId, Recipient};
use net::smtp_server::{Accepted, Connection, Session};
use queue::port::{Acceptance, Reply as QueueReply, Request};
use smtp::Reply;
use smtp::command::Mail;
use smtp::server::{Offer, Role};
use store::ObjectWriter;
use tracing::{info, warn};

use super::offer::Transaction;
use super::{Reception, refusal};
use crate::deliver::facts;
use crate::routing::Resolution;
use crate::runtime::{draw_queue_id, now};

/// A connection that may open transactions, one after the other.
pub(crate) struct Transactions {
    reception: Arc<Reception>,
    open: Option<Open>,
}

/// An open transaction.
struct Open {
    mail_from: Option<Address>,
    params: MailParams,
    /// Every RCPT in the order sent; those refused have no targets.
    recipients: Vec<(Recipient, Vec<Target>)>,
    content: Option<Content>,
}

/// Content on its way into the store.
struct Content {
    queue_id: QueueId,
    writer: ObjectWriter,
    /// Fields above the content, where they are not part of it.
    prefix: String,
}

impl Transactions {
    pub(crate) fn new(reception: Arc<Reception>) -> Self {
        Self { reception, open: None }
    }

    /// Where a recipient goes, or why it is refused.
    async fn route(&self, connection: &Connection, address: &Address) -> Result<Vec<Target>, Reply> {
        let router = self.reception.router.get();
        match router.resolve(address) {
            Resolution::Local(targets) => Ok(targets),
            Resolution::Probe { targets, ask } => {
                self.reception.prober.ask(&ask).await?;
                Ok(targets)
            }
            Resolution::Unknown => {
                Err(refusal(550, EnhancedStatus::permanent(1, 1), "there is no such recipient here"))
            }
            Resolution::Loop => Err(refusal(451, EnhancedStatus::temporary(3, 5), "aliases lead in a circle")),
            Resolution::NotOurs if self.may_relay(connection) => router.outgoing(address).map_or_else(
                || Err(refusal(550, EnhancedStatus::permanent(1, 2), "mail cannot be sent to an address literal")),
                |target| Ok(vec![target]),
            ),
            Resolution::NotOurs => Err(refusal(550, EnhancedStatus::permanent(7, 1), "relaying is not permitted")),
        }
    }

    fn may_relay(&self, connection: &Connection) -> bool {
        match connection.role {
            Role::Submission => connection.account.is_some(),
            Role::Relay => self.reception.config.may_relay(connection.peer.ip()),
        }
    }

    /// Received above what is submitted; within what is relayed, so that every hop stays in it (RFC 5321 §4.4).
    fn received(&self, connection: &Connection, open: &Open, queue_id: &QueueId) -> String {
        let is_submission = connection.role == Role::Submission;
        let helo = connection.helo.as_ref().map(ToString::to_string).unwrap_or_default();
        let accepted: Vec<_> = open.recipients.iter().filter(|(_, targets)| !targets.is_empty()).collect();
        let only_recipient = match accepted.as_slice() {
            [(recipient, _)] => Some(&recipient.address),
            _ => None,
        };
        let facts = TraceFacts {
            // Where our own users sit is nobody's business.
            helo: if is_submission { "" } else { &helo },
            client: (!is_submission).then(|| connection.peer.ip()),
            by: self.reception.config.hostname.as_str(),
            with: connection.protocol(),
            id: queue_id,
            only_recipient,
            at: now(),
        };
        facts.field()
    }

    async fn accept(&self, connection: &Connection, open: Open, content: Content) -> Result<Accepted, Reply> {
        let Content { queue_id, writer, prefix } = content;
        let (object, checked) = writer.finish().await.map_err(|error| storage_failed(&error))?;
        let hops = usize::try_from(checked.received_fields).unwrap_or(usize::MAX);
        if hops > self.reception.config.limits.hops {
            self.reception.store.discard(&object);
            return Err(refusal(554, EnhancedStatus::permanent(4, 6), "the message has passed too many servers"));
        }
        let source = match (&connection.account, connection.role) {
            (Some(account), Role::Submission) => Source::Submission(account.clone()),
            _ => Source::Relay,
        };
        let acceptance = Acceptance {
            queue_id: queue_id.clone(),
            mail_from: open.mail_from,
            params: open.params,
            recipients: open.recipients.into_iter().filter(|(_, targets)| !targets.is_empty()).collect(),
            facts: facts(&checked),
            object,
            prefix,
            source,
        };
        match self.reception.custody.ask(Request::Accept(Box::new(acceptance))).await {
            QueueReply::Accepted => {
                info!(id = %queue_id, client = %connection.peer, octets = checked.size, "accepted by value");
                Ok(Accepted::Queued(queue_id))
            }
            _ => Err(refusal(452, EnhancedStatus::temporary(3, 1), "the queue cannot take the message now")),
        }
    }
}

impl Session for Transactions {
    async fn mail(&mut self, connection: &Connection, mail: Mail) -> Result<(), Reply> {
        if let (Some(name), Some(sender)) = (&connection.account, &mail.from) {
            let router = self.reception.router.get();
            let allowed = router.accounts().get(name).is_some_and(|account| router.may_send_as(account, sender));
            if !allowed {
                return Err(refusal(550, EnhancedStatus::permanent(7, 1), "this account may not send as that address"));
            }
        }
        self.open = Some(Open { mail_from: mail.from, params: mail.params, recipients: Vec::new(), content: None });
        Ok(())
    }

    async fn rcpt(&mut self, connection: &Connection, recipient: Recipient) -> Result<(), Reply> {
        let routed = self.route(connection, &recipient.address).await;
        let Some(open) = &mut self.open else { return Err(out_of_order()) };
        // Refused ones keep their place: it is the recipient's index in an offer (TBR §4).
        open.recipients.push((recipient, routed.as_ref().cloned().unwrap_or_default()));
        routed.map(|_| ())
    }

    async fn begin_content(&mut self, connection: &Connection) -> Result<(), Reply> {
        let Some(open) = &self.open else { return Err(out_of_order()) };
        let queue_id = draw_queue_id();
        let received = self.received(connection, open, &queue_id);
        let mut writer = self.reception.store.create();
        let prefix = match connection.role {
            Role::Submission => received,
            Role::Relay => {
                writer.write(received.as_bytes()).await.map_err(|error| storage_failed(&error))?;
                String::new()
            }
        };
        if let Some(open) = &mut self.open {
            open.content = Some(Content { queue_id, writer, prefix });
        }
        Ok(())
    }

    async fn content(&mut self, chunk: Bytes) -> Result<(), Reply> {
        let content = self.open.as_mut().and_then(|open| open.content.as_mut()).ok_or_else(out_of_order)?;
        content.writer.write(&chunk).await.map_err(|error| storage_failed(&error))
    }

    async fn end_content(&mut self, connection: &Connection) -> Result<Accepted, Reply> {
        let mut open = self.open.take().ok_or_else(out_of_order)?;
        let content = open.content.take().ok_or_else(out_of_order)?;
        self.accept(connection, open, content).await
    }

    async fn offer(&mut self, connection: &Connection, offer: Offer) -> Result<Accepted, Reply> {
        let open = self.open.take().ok_or_else(out_of_order)?;
        let helo = connection.helo.as_ref().map(ToString::to_string).unwrap_or_default();
        let transaction = Transaction {
            queue_id: draw_queue_id(),
            mail_from: open.mail_from,
            params: open.params,
            recipients: open.recipients,
            helo: &helo,
            client: connection.peer.ip(),
            with: connection.protocol(),
        };
        let (code, status, text) = self.reception.desk.judge(transaction, offer.line.reveal(), &offer.block).await;
        let reply = refusal(code, status, text);
        if (200..300).contains(&code) { Ok(Accepted::Said(reply)) } else { Err(reply) }
    }

    fn abort(&mut self) {
        self.open = None;
    }
}

fn out_of_order() -> Reply {
    refusal(503, EnhancedStatus::permanent(5, 1), "send MAIL and RCPT first")
}

fn storage_failed(error: &store::StoreError) -> Reply {
    warn!(%error, "cannot store a message");
    refusal(452, EnhancedStatus::temporary(3, 1), "the message cannot be stored now")
}
