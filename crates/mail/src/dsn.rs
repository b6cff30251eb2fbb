//! Reports to authors: delivery status notifications (RFC 3464) as multipart/report messages (RFC 6522).
//!
//! A report has three parts: sentences for people (`dsn::words`), fields for programs, and the header of the message that it
//! is about. All of it is built from what peers said, so every value is reduced to what may stand in its place. The result
//! is always an *object* (TBR §2), and 7-bit unless the author's own address or a whole returned message is not.
//!
//! Written by hand rather than with a message builder, because a report must come out the same to the octet wherever it is
//! made: time and randomness are arguments here. Whether a report is due at all, and that it goes out with the null
//! sender, is left to the `queue` crate.

use std::fmt::Write as _;

use crate::address::Address;
use crate::envelope::{DsnReturn, MailParams};
use crate::id::QueueId;
use crate::ledger::Outcome;
use crate::object::Checker;
use crate::time::Timestamp;

use encode::{field, printable, quoted_printable, utf8_xtext, xtext_decode};

mod encode;
#[cfg(test)]
mod tests;
mod words;

/// Most octets of the original header that a report returns.
pub const MAX_RETURNED_HEADER: usize = 32 * 1024;

/// Longest value of a field that goes back to what a peer said.
const MAX_VALUE: usize = 500;

/// What a report says. A recipient's [`Outcome::action`] says more: a success is delivered, relayed or expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// The message has not reached these recipients and will not.
    Failed,
    /// Not yet; it is still being tried.
    Delayed,
    /// A peer has claimed the message and has not said since what became of it (TBR §6).
    Held,
    /// The author asked to hear of success (RFC 3461 §4.1).
    Succeeded,
}

/// What becomes a report.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// What it says.
    pub kind: ReportKind,
    /// This server's name.
    pub reporting_mta: &'a str,
    /// Whom the report is from: `MAILER-DAEMON` or `postmaster` of this server.
    pub from: &'a Address,
    /// The author: the reverse-path of the original.
    pub to: &'a Address,
    /// Now.
    pub at: Timestamp,
    /// 16 random octets, for the Message-ID and the boundary.
    pub unique: [u8; 16],
    /// This server's name for the original.
    pub queue_id: Option<&'a QueueId>,
    /// MAIL parameters of the original: ENVID, RET and SMTPUTF8 matter here.
    pub params: &'a MailParams,
    /// When the original arrived.
    pub arrived: Timestamp,
    /// For [`ReportKind::Delayed`]: when this server gives up.
    pub retry_until: Option<Timestamp>,
    /// At least one.
    pub recipients: Vec<RecipientReport<'a>>,
    /// The original, as far as it is at hand.
    pub original: Option<Original<'a>>,
}

/// What a report says of one recipient.
#[derive(Debug, Clone)]
pub struct RecipientReport<'a> {
    /// The address, as the author may know it: where an alias led elsewhere, the address that the author used.
    pub address: &'a Address,
    /// ORCPT as it was given: `type;xtext`.
    pub orcpt: Option<&'a str>,
    /// What became of it; the text is a peer's reply or a sentence of this server's.
    pub outcome: &'a Outcome,
    /// The host that said so.
    pub remote_mta: Option<&'a str>,
}

/// Octets of the original message.
#[derive(Debug, Clone, Copy)]
pub struct Original<'a> {
    /// The first octets: at least the header.
    pub octets: &'a [u8],
    /// Are these all? Only then, and if asked for with RET=FULL, a failure report returns the whole message.
    pub complete: bool,
}

impl Report<'_> {
    /// The report as a message, CRLF line ends.
    pub fn to_message(&self) -> Vec<u8> {
        let boundary = format!("=_{}", self.unique_text());
        let returned = Returned::of(self);
        let mut message = self.header(&boundary, &returned).into_bytes();
        for part in [Some(self.words_part()), Some(self.status_part()), returned.part].into_iter().flatten() {
            message.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
            message.extend_from_slice(&part);
        }
        message.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        message
    }

    fn header(&self, boundary: &str, returned: &Returned) -> String {
        let host = host_name(self.reporting_mta);
        let mut header = String::new();
        field(&mut header, "From", &format!("Mail Delivery System <{}>", self.mailbox(self.from)));
        field(&mut header, "To", &format!("<{}>", self.mailbox(self.to)));
        field(&mut header, "Subject", words::subject(self));
        field(&mut header, "Date", &self.at.to_rfc5322());
        field(&mut header, "Message-ID", &format!("<{}@{host}>", self.unique_text()));
        if let Some(id) = self.original.and_then(|original| message_id(original.octets)) {
            field(&mut header, "In-Reply-To", &id);
            field(&mut header, "References", &id);
        }
        field(&mut header, "Auto-Submitted", "auto-replied");
        field(&mut header, "MIME-Version", "1.0");
        let kind = format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\"");
        field(&mut header, "Content-Type", &kind);
        if returned.eight_bit {
            field(&mut header, "Content-Transfer-Encoding", "8bit");
        }
        header
    }

    fn words_part(&self) -> Vec<u8> {
        let text = words::text(self, self.original.and_then(|original| subject(original.octets)).as_deref());
        let mut part = String::new();
        if text.is_ascii() {
            field(&mut part, "Content-Type", "text/plain; charset=us-ascii");
            return [part.as_bytes(), b"\r\n", text.as_bytes()].concat();
        }
        field(&mut part, "Content-Type", "text/plain; charset=utf-8");
        field(&mut part, "Content-Transfer-Encoding", "quoted-printable");
        [part.as_bytes(), b"\r\n", &quoted_printable(text.as_bytes())].concat()
    }

    /// RFC 3464 §2.
    fn status_part(&self) -> Vec<u8> {
        let mut part = String::new();
        field(&mut part, "Content-Type", "message/delivery-status");
        part.push_str("\r\n");
        if let Some(envid) = self.params.envid.as_deref().and_then(xtext_decode) {
            field(&mut part, "Original-Envelope-Id", &envid);
        }
        field(&mut part, "Reporting-MTA", &format!("dns; {}", host_name(self.reporting_mta)));
        if let Some(id) = self.queue_id {
            field(&mut part, "X-Queue-Id", id.as_str());
        }
        field(&mut part, "Arrival-Date", &self.arrived.to_rfc5322());
        for recipient in &self.recipients {
            part.push_str("\r\n");
            self.recipient_fields(recipient, &mut part);
        }
        part.into_bytes()
    }

    /// RFC 3464 §2.3.
    fn recipient_fields(&self, recipient: &RecipientReport<'_>, part: &mut String) {
        if let Some(original) = recipient.orcpt.and_then(original_recipient) {
            field(part, "Original-Recipient", &original);
        }
        let outcome = recipient.outcome;
        field(part, "Final-Recipient", &typed_address(&self.mailbox(recipient.address)));
        field(part, "Action", &outcome.action.to_string());
        field(part, "Status", &outcome.status.to_string());
        if let Some(host) = recipient.remote_mta.map(host_name).filter(|host| !host.is_empty()) {
            field(part, "Remote-MTA", &format!("dns; {host}"));
        }
        let text = printable(&outcome.text, MAX_VALUE);
        if !text.is_empty() {
            let kind = if is_smtp_reply(&text) { "smtp" } else { "x-restante" };
            field(part, "Diagnostic-Code", &format!("{kind}; {text}"));
        }
        field(part, "Last-Attempt-Date", &outcome.at.to_rfc5322());
        if let Some(until) = self.retry_until.filter(|_| self.kind == ReportKind::Delayed) {
            field(part, "Will-Retry-Until", &until.to_rfc5322());
        }
    }

    /// An address as header fields want it: a bare postmaster is the one of this server.
    fn mailbox(&self, address: &Address) -> String {
        match address.host() {
            "" => format!("{address}@{}", host_name(self.reporting_mta)),
            _ => address.to_string(),
        }
    }

    fn unique_text(&self) -> String {
        self.unique.iter().fold(String::new(), |mut text, octet| {
            // Writing to a string cannot fail.
            write!(text, "{octet:02x}").unwrap_or_default();
            text
        })
    }
}

/// The third part: what comes back of the original.
struct Returned {
    /// `None` where nothing is at hand.
    part: Option<Vec<u8>>,
    eight_bit: bool,
}

impl Returned {
    fn of(report: &Report<'_>) -> Self {
        let octets = report.original.map_or(b"".as_slice(), |original| original.octets);
        let complete = report.original.is_some_and(|original| original.complete);
        // RFC 8689 §5: of a protected message the header alone goes back.
        let full = report.params.ret == Some(DsnReturn::Full) && !report.params.requiretls;
        if complete && report.kind == ReportKind::Failed && full {
            let checked = check(octets);
            if checked.0 {
                return Self::whole(octets, checked.1, report.params.smtputf8);
            }
        }
        Self::header(returned_header(octets), report.params.smtputf8)
    }

    /// RFC 6522 §3, third part; RFC 6532 §3.7 where its header may be UTF-8.
    fn whole(octets: &[u8], eight_bit: bool, smtputf8: bool) -> Self {
        let (kind, coding) = match (eight_bit, smtputf8) {
            (true, true) => ("message/global", "8bit"),
            (true, false) => ("message/rfc822", "8bit"),
            (false, _) => ("message/rfc822", "7bit"),
        };
        Self { part: Some(Self::part(kind, coding, octets)), eight_bit }
    }

    /// RFC 6522 §4; RFC 6533 §5 where it is UTF-8. Whatever is no plain 7-bit text is made so.
    fn header(header: &[u8], smtputf8: bool) -> Self {
        if header.is_empty() {
            return Self { part: None, eight_bit: false };
        }
        let (fine, has_eight_bit) = check(header);
        let kind = if has_eight_bit && smtputf8 { "message/global-headers" } else { "text/rfc822-headers" };
        let part = if fine && !has_eight_bit {
            Self::part(kind, "7bit", header)
        } else {
            Self::part(kind, "quoted-printable", &quoted_printable(header))
        };
        Self { part: Some(part), eight_bit: false }
    }

    fn part(kind: &str, coding: &str, content: &[u8]) -> Vec<u8> {
        let mut part = String::new();
        field(&mut part, "Content-Type", kind);
        field(&mut part, "Content-Transfer-Encoding", coding);
        part.push_str("\r\n");
        [part.as_bytes(), content].concat()
    }
}

/// Is it an object, and has it octets over 127?
fn check(octets: &[u8]) -> (bool, bool) {
    let mut checker = Checker::default();
    checker.update(octets);
    let checked = checker.finish();
    (checked.verdict.is_ok(), checked.eight_bit)
}

/// The header in these first octets of a message, whole lines, at most [`MAX_RETURNED_HEADER`].
fn returned_header(octets: &[u8]) -> &[u8] {
    let octets = &octets[..octets.len().min(MAX_RETURNED_HEADER)];
    let mut end = 0;
    for line in octets.split_inclusive(|o| *o == b'\n') {
        if matches!(line, b"\r\n" | b"\n") || !line.ends_with(b"\n") {
            break;
        }
        end += line.len();
    }
    &octets[..end]
}

/// A field of the original that may be shown as it stands: one line of printable ASCII without encoded words.
fn plain_field(octets: &[u8], name: &str) -> Option<String> {
    let header = std::str::from_utf8(returned_header(octets)).ok()?;
    let mut lines = header.lines().skip_while(|line| !is_field(line, name));
    let mut value = lines.next()?[name.len() + 1..].trim().to_owned();
    for more in lines.take_while(|line| line.starts_with([' ', '\t'])) {
        value.push(' ');
        value.push_str(more.trim());
    }
    let plain = value.bytes().all(|o| matches!(o, b' '..=b'~')) && !value.contains("=?");
    (plain && !value.is_empty() && value.len() <= 250).then_some(value)
}

fn is_field(line: &str, name: &str) -> bool {
    let (head, rest) = (line.get(..name.len()), line.get(name.len()..));
    head.is_some_and(|head| head.eq_ignore_ascii_case(name)) && rest.is_some_and(|rest| rest.starts_with(':'))
}

fn subject(octets: &[u8]) -> Option<String> {
    plain_field(octets, "subject")
}

/// The Message-ID of the original, if it is one (RFC 5322 §3.6.4).
fn message_id(octets: &[u8]) -> Option<String> {
    let id = plain_field(octets, "message-id")?;
    let inner = id.strip_prefix('<')?.strip_suffix('>')?;
    let plain = !inner.contains([' ', '<', '>', '(', ')', ',', ';', '"', '\\']);
    (plain && inner.split('@').count() == 2 && !inner.starts_with('@') && !inner.ends_with('@')).then_some(id)
}

/// The name of a host, reduced to what may stand in one: a peer may have given it.
fn host_name(host: &str) -> String {
    let fine = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    host.chars().filter(fine).take(255).collect()
}

/// `rfc822; address`, or RFC 6533 §3 in its 7-bit form.
fn typed_address(address: &str) -> String {
    if address.is_ascii() { format!("rfc822; {address}") } else { format!("utf-8; {}", utf8_xtext(address)) }
}

/// ORCPT as Original-Recipient: decoded (RFC 3461 §5.2.1), left out where it is not what it should be.
fn original_recipient(orcpt: &str) -> Option<String> {
    let (kind, xtext) = orcpt.split_once(';')?;
    if kind.is_empty() || kind.len() > 30 || !kind.bytes().all(|o| o.is_ascii_alphanumeric() || o == b'-') {
        return None;
    }
    let address = if !kind.eq_ignore_ascii_case("utf-8") {
        xtext_decode(xtext)?
    } else if xtext.bytes().all(|o| matches!(o, b'!'..=b'~')) {
        xtext.to_owned()
    } else {
        utf8_xtext(xtext)
    };
    (!address.is_empty() && address.len() <= MAX_VALUE).then(|| format!("{kind}; {address}"))
}

/// Does the text begin like a reply: `550 …`, `550-…`?
fn is_smtp_reply(text: &str) -> bool {
    let (code, rest) = text.as_bytes().split_at(text.len().min(3));
    matches!(code, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']) && matches!(rest, [] | [b' ' | b'-', ..])
}
