//! One connection's transactions: sender, recipients, content or offer, in this order.

use std::sync::Arc;

use bytes::Bytes;
use mail::ledger::{Owner, Route, Source, Target};
use mail::object::{Checked, IN_A_LOOP};
use mail::trace::Reception as TraceFacts;
use mail::{Address, Domain, EnhancedStatus, MailParams, QueueId, Recipient};
use net::authentication::ClientEvidence;
use net::authentication::content::ContentReader;
use net::smtp_server::{Accepted, Connection, Session};
use net::turned::Turned;
use policy::allowance::{Spent, Unit};
use policy::budget::Prefix;
use policy::reputation::Event;
use policy::scrub::Scrubber;
use policy::tbr::TbrResult;
use policy::{Evidence, SessionEvidence};
use queue::Entropy as _;
use queue::port::{Acceptance, Reply as QueueReply, Request};
use queue::remembered::Remembered;
use reference::codes;
use smtp::Reply;
use smtp::command::{Etrn, Mail};
use smtp::server::{Offer, Role};
use store::{ObjectWriter, Purpose, Reservation};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::gate::Sender;
use super::offer::Transaction;
use super::submission::{self, Head, Refused, Step};
use super::{Booked, Caller, Filtering, NotSigned, Reception, forwarder, refusal, unreadable};
use crate::compose::{self, Additions};
use crate::deliver::facts;
use crate::fates;
use crate::routing::Resolution;
use crate::runtime::{SystemEntropy, draw_queue_id, now};

/// A connection that may open transactions, one after the other.
pub(crate) struct Transactions {
    reception: Arc<Reception>,
    open: Option<Open>,
    /// What is known of the client, once somebody has asked.
    client: Option<ClientEvidence>,
    /// The client is a custodian of ours, which has judged what it brings.
    is_custodian: bool,
    /// Whose mail was asked for by ATRN.
    on_demand: Vec<Domain>,
}

/// An open transaction.
struct Open {
    mail_from: Option<Address>,
    params: MailParams,
    /// Every RCPT in the order sent; those refused have no targets.
    recipients: Vec<(Recipient, Vec<Target>)>,
    content: Option<Content>,
    /// For the content; it is stored when this is given back.
    room: Room,
    /// Where milters are asked; from the first recipient on that would be taken.
    filtering: Option<Filtering>,
    /// What is known of the session, where it is judged; from the first RCPT on.
    evidence: Option<SessionEvidence>,
    /// Counts against the allowance of the account.
    booked: Option<Booked>,
}

impl Open {
    /// Will others fetch this message from here?
    fn is_to_be_served(&self, reception: &Reception) -> bool {
        let routes = self.recipients.iter().flat_map(|(_, targets)| targets.iter().map(|target| &target.route));
        reception.config.get().is_to_be_served(self.mail_from.as_ref(), routes)
    }
}

/// What is said of content that is taken.
#[derive(Default)]
struct Judged {
    /// To stand on top of it.
    results: String,
    /// To stand above the results, for where it is forwarded to.
    seal: String,
    /// The domain of From, where DMARC shows that the mail is its own.
    author: Option<Domain>,
    /// What makes it new, where the results say so.
    once: Option<Remembered>,
}

/// Room for a content in the store, as much as was announced or has come.
struct Room {
    reservation: Reservation,
    taken: u64,
}

impl Room {
    /// What comes without SIZE gets its room in steps of this.
    const STEP: u64 = 1 << 20;

    fn take(&mut self, octets: usize) -> Result<(), Reply> {
        self.taken += octets as u64;
        self.reservation
            .grow(self.taken.next_multiple_of(Self::STEP))
            .or_else(|_| self.reservation.grow(self.taken))
            .map_err(full)
    }
}

/// Content on its way into the store.
struct Content {
    queue_id: QueueId,
    writer: ObjectWriter,
    /// Takes results in our name out of what strangers send.
    scrubber: Option<Scrubber>,
    /// Reads along, where it is judged.
    reader: Option<ContentReader>,
    /// Fields above the content, where they are not part of it.
    prefix: String,
    /// Of a submission: its header, until it is complete.
    head: Option<Head>,
    account: Option<String>,
}

impl Content {
    /// What of a chunk goes on, with results in our name renamed.
    fn scrub(&mut self, chunk: Bytes) -> Bytes {
        match &mut self.scrubber {
            Some(scrubber) if !scrubber.has_passed() => {
                let mut out = Vec::with_capacity(chunk.len() + 64);
                scrubber.push(&chunk, &mut out);
                Bytes::from(out)
            }
            _ => chunk,
        }
    }
}

impl Transactions {
    pub(crate) fn new(reception: Arc<Reception>) -> Self {
        Self { reception, open: None, client: None, is_custodian: false, on_demand: Vec::new() }
    }

    /// On a connection to a custodian that was turned over.
    pub(crate) fn from_custodian(reception: Arc<Reception>) -> Self {
        Self { is_custodian: true, ..Self::new(reception) }
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

    /// Is the mail of this client judged? Not that of users, of servers that may relay, and of custodians, which have judged it.
    fn is_judged(&self, connection: &Connection) -> bool {
        let is_custodian = self.is_custodian || self.reception.config.get().is_custodian(connection.peer.ip());
        self.reception.gate.enabled && !is_custodian && !self.may_relay(connection)
    }

    /// Looks at client and sender before the first recipient is taken.
    async fn admit(&mut self, connection: &Connection) -> Result<(), Reply> {
        if !self.is_judged(connection) {
            return Ok(());
        }
        let Some(open) = &mut self.open else { return Err(out_of_order()) };
        if open.evidence.is_none() {
            let helo = helo(connection);
            let sender = Sender { address: connection.peer.ip(), helo: &helo, mail_from: open.mail_from.as_ref() };
            open.evidence = Some(self.reception.gate.session(&sender, &mut self.client).await);
        }
        open.evidence.as_ref().map_or(Ok(()), |session| self.reception.gate.admit(session))
    }

    /// The decision on content that has been read to its end.
    async fn judge(&self, open: &Open, queue_id: &QueueId, reader: ContentReader) -> Result<Judged, Reply> {
        let content = reader.finish().map_err(unreadable)?;
        let Some(session) = open.evidence.clone() else { return Ok(Judged::default()) };
        let accepted = open.recipients.iter().filter(|(_, targets)| !targets.is_empty());
        let recipients: Vec<Address> = accepted.map(|(recipient, _)| recipient.address.clone()).collect();
        let (tbr, once) = match &content.on_top {
            None => (Vec::new(), None),
            Some(Err(error)) => (vec![TbrResult::unreadable(error.to_string())], None),
            Some(Ok(on_top)) => {
                let trusted = &self.reception.gate.rules.trusted_sealers;
                let network = Prefix::of(session.client);
                let session = reference::Session { mail_from: open.mail_from.as_ref(), recipients: &recipients };
                self.reception.memory.by_value(on_top, queue_id, &session, network, trusted).await
            }
        };
        let approved = self.reception.gate.judge(Evidence { session, content: None, tbr }, &content).await?;
        let seal = self.forwarder(open).map(|domain| self.reception.signers.seal(&domain, &content, &approved));
        Ok(Judged { results: approved.results, seal: seal.unwrap_or_default(), author: approved.author, once })
    }

    /// For which domain the message is forwarded, where that domain seals.
    fn forwarder(&self, open: &Open) -> Option<Domain> {
        let found = forwarder(open.recipients.iter().map(|(recipient, targets)| (&recipient.address, &targets[..])));
        found.filter(|domain| self.reception.signers.seals(domain))
    }

    fn may_relay(&self, connection: &Connection) -> bool {
        match connection.role {
            Role::Submission => connection.account.is_some(),
            // Takes no mail at all.
            Role::OnDemand => false,
            Role::Relay => self.reception.config.get().may_relay(connection.peer.ip()),
        }
    }

    /// Received above what is submitted; within what is relayed, so that every hop stays in it (RFC 5321 §4.4).
    fn received(&self, connection: &Connection, open: &Open, queue_id: &QueueId) -> String {
        let is_submission = connection.role == Role::Submission;
        let helo = helo(connection);
        let accepted: Vec<_> = open.recipients.iter().filter(|(_, targets)| !targets.is_empty()).collect();
        let only_recipient = match accepted.as_slice() {
            [(recipient, _)] => Some(&recipient.address),
            _ => None,
        };
        let config = self.reception.config.get();
        let facts = TraceFacts {
            // Where our own users sit is nobody's business.
            helo: if is_submission { "" } else { &helo },
            client: (!is_submission).then(|| connection.peer.ip()),
            by: config.hostname.as_str(),
            with: connection.protocol_of(open.params.smtputf8),
            id: queue_id,
            only_recipient,
            at: now(),
        };
        facts.field()
    }

    /// The header of a submission, checked and completed.
    fn complete(&self, head: &[u8]) -> Result<Bytes, Reply> {
        let open = self.open.as_ref().ok_or_else(out_of_order)?;
        let account = open.content.as_ref().and_then(|content| content.account.as_deref());
        let router = self.reception.router.get();
        let account = account.and_then(|name| router.accounts().get(name));
        let may_send_as = |address: &Address| account.is_some_and(|account| router.may_send_as(account, address));
        let additions = additions(open.mail_from.as_ref(), &self.reception.config.get().hostname);
        let whole = submission::complete(head, open.mail_from.as_ref(), &may_send_as, &additions);
        whole.map(Bytes::from).map_err(not_as_submitted)
    }

    async fn store(&mut self, octets: &[u8]) -> Result<(), Reply> {
        let content = self.open.as_mut().and_then(|open| open.content.as_mut()).ok_or_else(out_of_order)?;
        content.writer.write(octets).await.map_err(|error| storage_failed(&error))
    }

    /// Room for a message of the size that the client says, or for one at all.
    fn room(&self, connection: &Connection, mail: &Mail) -> Result<Room, Reply> {
        let is_ours = |domain: &Domain| self.reception.config.get().is_ours(domain);
        let domain = mail.from.as_ref().and_then(Address::domain).filter(is_ours);
        let account = connection.account.clone();
        let owner = Owner { domain: domain.filter(|_| account.is_some()), account };
        let size = mail.params.size.unwrap_or(1);
        let reservation = self.reception.store.reserve(owner, Purpose::New, size).map_err(full)?;
        Ok(Room { reservation, taken: 0 })
    }

    /// What milters are told of the client; nothing where none is asked.
    fn caller(&self, connection: &Connection) -> Option<Caller> {
        let helo = helo(connection);
        let is_asked = connection.role == Role::Relay && !self.reception.filters.is_empty();
        let name = self.client.as_ref().and_then(|client| client.reverse.name.clone());
        is_asked.then(|| Caller { address: connection.peer, helo, name, tls: connection.tls.clone() })
    }

    /// Counts a message of an account that may send it.
    fn book(&self, name: &str, sender: Option<&Address>) -> Result<Booked, Reply> {
        let router = self.reception.router.get();
        let account = router.accounts().get(name).filter(|account| !account.is_suspended()).ok_or_else(suspended)?;
        if sender.is_some_and(|sender| !router.may_send_as(account, sender)) {
            return Err(refusal(550, EnhancedStatus::permanent(7, 1), "this account may not send as that address"));
        }
        let allowance = account.limits().allowance(&self.reception.config.get().submission);
        self.reception.sending.begin(account.name(), allowance).map_err(|spent| over(&spent))
    }

    /// Notes what became of mail whose author's domain is certain.
    fn note(&self, connection: &Connection, author: Option<&Domain>, event: Event) {
        if let Some(author) = author {
            let network = Some(Prefix::of(connection.peer.ip()));
            self.reception.gate.reputation.note(author, event, network, now());
        }
    }

    fn note_refusal(&self, connection: &Connection, author: Option<&Domain>, reply: &Reply) {
        if reply.code() >= 500 {
            self.note(connection, author, Event::Refused);
        }
    }

    /// A stranger who sends by value where a reference would be taken is asked for one, once, and let in when he comes
    /// again (TBR §3.8).
    fn hint(&self, connection: &Connection) -> Result<(), Reply> {
        let config = self.reception.config.get();
        let takes_references = connection.tls.is_some() && config.listeners.iter().any(|listener| listener.tbr);
        let Some(Open { mail_from: Some(sender), recipients, evidence: Some(session), .. }) = &self.open else {
            return Ok(());
        };
        if !config.policy.hint || !takes_references || !self.reception.gate.is_strange(session) {
            return Ok(());
        }
        let accepted = recipients.iter().filter(|(_, targets)| !targets.is_empty());
        let accepted: Vec<&Address> = accepted.map(|(recipient, _)| &recipient.address).collect();
        if !self.reception.hints.ask(sender, &accepted) {
            return Ok(());
        }
        info!(client = %connection.peer, "a stranger is asked for a reference");
        let code = &codes::SEND_REFERENCE;
        Err(refusal(code.reply, code.status, code.text))
    }

    /// Was the account suspended while its message was under way?
    fn still_may_send(&self, connection: &Connection) -> Result<(), Reply> {
        let Some(name) = &connection.account else { return Ok(()) };
        let router = self.reception.router.get();
        router.accounts().get(name).filter(|account| !account.is_suspended()).map(|_| ()).ok_or_else(suspended)
    }

    /// Content that goes on nowhere: it has passed too many servers, or is for a site and cannot be an object.
    fn check(&self, open: &Open, content: &Checked) -> Result<(), Reply> {
        let hops = usize::try_from(content.received_fields).unwrap_or(usize::MAX);
        if hops > self.reception.config.get().limits.hops {
            let (status, text) = IN_A_LOOP;
            return Err(refusal(554, status, text));
        }
        let for_site = |target: &Target| matches!(target.route, Route::Site(_));
        if content.verdict.is_err() && open.recipients.iter().any(|(_, targets)| targets.iter().any(for_site)) {
            let text = "a recipient's domain takes messages by reference only, and this content cannot be one";
            return Err(refusal(554, EnhancedStatus::permanent(6, 0), text));
        }
        Ok(())
    }

    async fn accept(&self, connection: &Connection, mut open: Open, content: Content) -> Result<Accepted, Reply> {
        let Content { queue_id, mut writer, scrubber, reader, mut prefix, .. } = content;
        if let Some(mut scrubber) = scrubber {
            let mut rest = Vec::new();
            scrubber.finish(&mut rest);
            writer.write(&rest).await.map_err(|error| storage_failed(&error))?;
        }
        let Judged { results, seal, author, once } = match reader {
            Some(reader) => self.judge(&open, &queue_id, reader).await?,
            None => Judged::default(),
        };
        if let Some(filtering) = open.filtering.take() {
            let passed = filtering.end().await;
            let passed = passed.inspect_err(|reply| self.note_refusal(connection, author.as_ref(), reply))?;
            if passed.discards {
                return Ok(Accepted::Queued(queue_id));
            }
            prefix.insert_str(0, &passed.fields);
        }
        prefix.insert_str(0, &results);
        let (mut object, mut checked) = writer.finish().await.map_err(|error| storage_failed(&error))?;
        if let Err(reply) = self.check(&open, &checked) {
            self.reception.store.discard(&object);
            return Err(reply);
        }
        if connection.role == Role::Submission {
            let (store, is_coded) = (&self.reception.store, open.is_to_be_served(&self.reception));
            let signed = self.reception.signers.sign(store, object, checked, is_coded).await;
            (object, checked) = signed.map_err(|error| not_signed(&error))?;
        }
        if let Err(reply) = self.still_may_send(connection) {
            self.reception.store.discard(&object);
            return Err(reply);
        }
        let booked = open.booked.take();
        let recipients: Vec<_> = open.recipients.into_iter().filter(|(_, targets)| !targets.is_empty()).collect();
        let (from, accepted) = (fates::sender(open.mail_from.as_ref()).to_owned(), recipients.len());
        let acceptance = Acceptance {
            queue_id: queue_id.clone(),
            mail_from: open.mail_from,
            params: open.params,
            recipients,
            facts: facts(&checked),
            object,
            prefix,
            seal,
            source: source(connection),
            once,
        };
        let object = acceptance.object.clone();
        match self.reception.custody.ask(Request::Accept(Box::new(acceptance))).await {
            QueueReply::Accepted => {
                booked.into_iter().for_each(Booked::sent);
                self.note(connection, author.as_ref(), Event::Kept);
                let octets = checked.size;
                info!(id = %queue_id, client = %connection.peer, from, recipients = accepted, octets, "accepted by value");
                Ok(Accepted::Queued(queue_id))
            }
            QueueReply::Repeated => {
                self.reception.store.discard(&object);
                // Its results say that it is new. When it comes again they do not.
                Err(refusal(451, EnhancedStatus::temporary(3, 0), "the same message has just come on another way"))
            }
            _ => Err(refusal(452, EnhancedStatus::temporary(3, 1), "the queue cannot take the message now")),
        }
    }
}

impl Session for Transactions {
    async fn mail(&mut self, connection: &Connection, mail: Mail) -> Result<(), Reply> {
        let account = connection.account.as_deref();
        let booked = account.map(|name| self.book(name, mail.from.as_ref())).transpose()?;
        let room = self.room(connection, &mail)?;
        let (recipients, content, filtering, evidence) = (Vec::new(), None, None, None);
        let (mail_from, params) = (mail.from, mail.params);
        self.open = Some(Open { mail_from, params, recipients, content, room, filtering, evidence, booked });
        Ok(())
    }

    async fn rcpt(&mut self, connection: &Connection, recipient: Recipient) -> Result<(), Reply> {
        let mut routed = self.route(connection, &recipient.address).await;
        if routed.is_ok() {
            routed = self.admit(connection).await.and(routed);
        }
        // Its name has been looked up by now.
        let caller = self.caller(connection);
        let Some(open) = &mut self.open else { return Err(out_of_order()) };
        if let (Ok(_), Some(caller)) = (&routed, caller) {
            let begin = || self.reception.filters.begin(caller, open.mail_from.as_ref());
            let filtering = open.filtering.get_or_insert_with(begin);
            routed = filtering.rcpt(&recipient.address).await.and(routed);
        }
        if let (Ok(_), Some(booked)) = (&routed, &mut open.booked) {
            routed = booked.recipient().map_err(|spent| over(&spent)).and(routed);
        }
        // Refused ones keep their place: it is the recipient's index in an offer (TBR §4).
        open.recipients.push((recipient, routed.as_ref().cloned().unwrap_or_default()));
        routed.map(|_| ())
    }

    async fn begin_content(&mut self, connection: &Connection) -> Result<(), Reply> {
        self.hint(connection)?;
        let Some(open) = &self.open else { return Err(out_of_order()) };
        let queue_id = draw_queue_id();
        let received = self.received(connection, open, &queue_id);
        let mut writer = match open.is_to_be_served(&self.reception) {
            // What will be signed is written once more.
            true if self.reception.signers.is_empty() => self.reception.store.create_coded(),
            _ => self.reception.store.create(),
        };
        let head = (connection.role == Role::Submission).then(Head::default);
        let prefix = match connection.role {
            Role::Submission => received,
            Role::Relay | Role::OnDemand => {
                writer.write(received.as_bytes()).await.map_err(|error| storage_failed(&error))?;
                String::new()
            }
        };
        let judged = self.is_judged(connection);
        let scrubber = (!self.may_relay(connection)).then(|| Scrubber::new(&self.reception.config.get().hostname));
        let seals = self.forwarder(open).is_some();
        let reader = judged.then(|| self.reception.gate.content());
        let reader = reader.map(|reader| if seals { reader.to_be_sealed() } else { reader });
        if let Some(open) = &mut self.open {
            open.filtering.iter_mut().for_each(|filtering| filtering.is_named(queue_id.as_str()));
            let account = connection.account.clone();
            open.content = Some(Content { queue_id, writer, scrubber, reader, prefix, head, account });
        }
        Ok(())
    }

    async fn content(&mut self, chunk: Bytes) -> Result<(), Reply> {
        let open = self.open.as_mut().ok_or_else(out_of_order)?;
        open.room.take(chunk.len())?;
        if let Some(filtering) = &mut open.filtering {
            filtering.content(&chunk).await?;
        }
        let content = open.content.as_mut().ok_or_else(out_of_order)?;
        if let Some(reader) = &mut content.reader {
            reader.push(&chunk);
        }
        let chunk = content.scrub(chunk);
        let octets =
            match content.head.as_mut().map(|head| head.take(chunk.clone())).transpose().map_err(not_as_submitted)? {
                None => chunk,
                Some(Step::Body(chunk)) => chunk,
                Some(Step::Gather) => return Ok(()),
                Some(Step::Header(head)) => self.complete(&head)?,
            };
        self.store(&octets).await
    }

    async fn end_content(&mut self, connection: &Connection) -> Result<Accepted, Reply> {
        let head = self.open.as_mut().and_then(|open| open.content.as_mut()?.head.as_mut()?.end());
        if let Some(head) = head {
            let octets = self.complete(&head)?;
            self.store(&octets).await?;
        }
        let mut open = self.open.take().ok_or_else(out_of_order)?;
        let content = open.content.take().ok_or_else(out_of_order)?;
        self.accept(connection, open, content).await
    }

    async fn offer(&mut self, connection: &Connection, offer: Offer) -> Result<Accepted, Reply> {
        let open = self.open.take().ok_or_else(out_of_order)?;
        let helo = helo(connection);
        let transaction = Transaction {
            with: connection.protocol_of(open.params.smtputf8),
            queue_id: draw_queue_id(),
            mail_from: open.mail_from,
            params: open.params,
            recipients: open.recipients,
            helo: &helo,
            client: Some(connection.peer.ip()),
            pending: None,
            carrier: None,
            caller: self.caller(connection),
            evidence: open.evidence,
            is_trusted: self.may_relay(connection),
        };
        let (code, status, text) = self.reception.desk.judge(transaction, offer.line.reveal(), &offer.block).await;
        let reply = refusal(code, status, text);
        if (200..300).contains(&code) { Ok(Accepted::Said(reply)) } else { Err(reply) }
    }

    async fn etrn(&mut self, connection: &Connection, etrn: Etrn) -> Reply {
        self.reception.etrn(connection.peer.ip(), &etrn).await
    }

    async fn atrn(&mut self, connection: &Connection, domains: Vec<Domain>) -> Result<(), Reply> {
        let account = connection.account.as_deref().unwrap_or_default();
        self.on_demand = self.reception.atrn(account, domains).await?;
        Ok(())
    }

    async fn turned(self, turned: Turned, shutdown: CancellationToken) {
        self.reception.send_over(&self.on_demand, turned, shutdown).await;
    }

    fn abort(&mut self) {
        self.open = None;
    }
}

/// What the client called itself; empty where it has not yet.
fn helo(connection: &Connection) -> String {
    connection.helo.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Who hands messages in on this connection.
fn source(connection: &Connection) -> Source {
    match (&connection.account, connection.role) {
        (Some(account), Role::Submission) => Source::Submission(account.clone()),
        _ => Source::Relay,
    }
}

fn additions(mail_from: Option<&Address>, hostname: &Domain) -> Additions {
    let (at, mut random) = (now(), [0; 12]);
    SystemEntropy::default().fill(&mut random);
    let domain = mail_from.and_then(Address::domain);
    Additions {
        date: at.to_rfc5322(),
        message_id: compose::message_id(at, random, domain.as_ref().unwrap_or(hostname).as_str()),
        from: compose::from_value(None, mail_from),
    }
}

fn not_as_submitted(refused: Refused) -> Reply {
    let status = match refused {
        Refused::Foreign(_) | Refused::Anonymous => EnhancedStatus::permanent(7, 1),
        Refused::TooLong | Refused::Malformed(_) => EnhancedStatus::permanent(6, 0),
    };
    refusal(550, status, refused.to_string())
}

fn out_of_order() -> Reply {
    refusal(503, EnhancedStatus::permanent(5, 1), "send MAIL and RCPT first")
}

fn suspended() -> Reply {
    refusal(550, EnhancedStatus::permanent(7, 1), "this account is suspended")
}

/// Not now: a mail program shows the sentence and keeps the message.
fn over(spent: &Spent) -> Reply {
    match spent.unit {
        Unit::Message => refusal(451, EnhancedStatus::temporary(7, 1), spent.to_string()),
        Unit::Recipient => refusal(452, EnhancedStatus::temporary(5, 3), spent.to_string()),
    }
}

fn not_signed(error: &NotSigned) -> Reply {
    warn!(%error, "cannot sign a message");
    refusal(451, EnhancedStatus::temporary(3, 0), "the message cannot be signed now")
}

fn full(full: store::Full) -> Reply {
    refusal(452, EnhancedStatus::temporary(3, 1), format!("{full}, try again later"))
}

fn storage_failed(error: &store::StoreError) -> Reply {
    warn!(%error, "cannot store a message");
    refusal(452, EnhancedStatus::temporary(3, 1), "the message cannot be stored now")
}
