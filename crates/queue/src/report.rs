//! Reports to authors (RFC 3461, 3464): what is in them, and how they become messages of this server's own.
//!
//! The text of a report is [`mail::dsn`]'s. A report is durable in the same commit as what it reports.

use mail::dsn::{self, ReportKind};
use mail::ledger::{Inbound, Key, Leg, ObjectKey, ObjectRef, Outcome, Source};
use mail::{Address, MailParams, Notify, QueueId, Recipient, Timestamp, Xuid};

use crate::flow::{Context, Plan};
use crate::origin::accept;
use crate::port::Acceptance;
use crate::stats::Count;

/// Octets of the original that are read for a report.
pub(crate) const MAX_HEAD: u64 = 64 * 1024;

/// A report to be written.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) kind: ReportKind,
    author: Address,
    /// This server's name for the message that it is about.
    about: Option<QueueId>,
    params: MailParams,
    accepted: Timestamp,
    retry_until: Option<Timestamp>,
    /// The content, while it is still here.
    pub(crate) object: Option<ObjectRef>,
    entries: Vec<ReportEntry>,
}

/// What it says of one recipient.
#[derive(Debug, Clone)]
pub(crate) struct ReportEntry {
    pub(crate) recipient: Recipient,
    /// The address that the author used, where an alias led elsewhere.
    pub(crate) original: Option<Address>,
    pub(crate) outcome: Outcome,
    pub(crate) peer: Option<String>,
}

impl Report {
    pub(crate) fn of_leg(key: &Key, leg: &Leg, author: Address, kind: ReportKind, entries: Vec<ReportEntry>) -> Self {
        let about = match key {
            Key::Leg(id, _) => Some(id.clone()),
            Key::Inbound(..) => None,
        };
        Self {
            kind,
            author,
            about,
            params: leg.params.clone(),
            accepted: leg.accepted,
            retry_until: (kind == ReportKind::Delayed).then_some(leg.expires),
            object: leg.object.clone(),
            entries,
        }
    }

    pub(crate) fn of_inbound(inbound: &Inbound, author: Address, kind: ReportKind, entries: Vec<ReportEntry>) -> Self {
        Self {
            kind,
            author,
            about: Some(inbound.queue_id.clone()),
            params: inbound.params.clone(),
            accepted: inbound.accepted,
            retry_until: None,
            object: inbound.object.clone(),
            entries,
        }
    }

    /// Writes it, and puts its legs into the plan. Returns the message, to be stored with the commit.
    pub(crate) fn file(
        &self,
        head: Option<&[u8]>,
        plan: &mut Plan,
        context: &mut Context<'_>,
    ) -> Option<(ObjectRef, Vec<u8>)> {
        let targets = (context.config.route)(&self.author);
        if targets.is_empty() {
            plan.count(Count::ReportsDropped);
            return None;
        }
        let queue_id = QueueId::generate(context.now, context.random.octets());
        let sender = Address::new("MAILER-DAEMON", &context.config.hostname).ok()?;
        let mut content = self.compose(&sender, head, context);
        let signatures = (context.config.sign)(&content);
        content.splice(0..0, signatures.into_bytes());
        let object = ObjectRef {
            key: ObjectKey(format!("r-{}", queue_id.as_str())),
            xuid: Xuid::of(&content),
            size: content.len() as u64,
            coded: None,
        };
        let mut checker = mail::object::Checker::default();
        checker.update(&content);
        let checked = checker.finish();
        let author = Recipient { notify: Notify::Never, ..Recipient::plain(self.author.clone()) };
        let acceptance = Acceptance {
            queue_id,
            mail_from: None,
            // What is known of a protected message is protected likewise (RFC 8689 §5).
            params: MailParams {
                smtputf8: self.author.needs_smtputf8(),
                requiretls: self.params.requiretls,
                ..MailParams::default()
            },
            recipients: vec![(author, targets)],
            object: object.clone(),
            facts: mail::ledger::ContentFacts {
                is_object: checked.verdict.is_ok(),
                eight_bit: checked.eight_bit,
                tls_optional: false,
                received_fields: 0,
            },
            prefix: String::new(),
            seal: String::new(),
            source: Source::Report,
            once: None,
        };
        accept::put_legs(&acceptance, plan, context);
        Some((object, content))
    }

    fn compose(&self, sender: &Address, head: Option<&[u8]>, context: &mut Context<'_>) -> Vec<u8> {
        let complete = self.object.as_ref().map(|object| object.size);
        let original = head.map(|octets| dsn::Original { octets, complete: complete == Some(octets.len() as u64) });
        let report = dsn::Report {
            kind: self.kind,
            reporting_mta: context.config.hostname.as_str(),
            from: sender,
            to: &self.author,
            at: context.now,
            unique: context.random.octets(),
            queue_id: self.about.as_ref(),
            params: &self.params,
            arrived: self.accepted,
            retry_until: self.retry_until,
            recipients: self.entries.iter().map(ReportEntry::recipient_report).collect(),
            original: original.filter(|original| !original.octets.is_empty()),
        };
        report.to_message()
    }
}

impl ReportEntry {
    fn recipient_report(&self) -> dsn::RecipientReport<'_> {
        dsn::RecipientReport {
            address: self.original.as_ref().unwrap_or(&self.recipient.address),
            orcpt: self.recipient.orcpt.as_deref(),
            outcome: &self.outcome,
            remote_mta: self.peer.as_deref(),
        }
    }
}
