//! What a report says to people: what happened, to whom, why, and what can be done. Short sentences, no jargon; the
//! fields in the next part are for programs and for whoever is asked for help.

use super::encode::printable;
use super::{MAX_VALUE, RecipientReport, Report, ReportKind, host_name};
use crate::ledger::Action;
use crate::status::{EnhancedStatus, StatusClass};

/// Lines of the text are no longer than this where words allow.
const WIDTH: usize = 72;

/// The subject of the report.
pub(super) fn subject(report: &Report<'_>) -> &'static str {
    let all = |action| report.recipients.iter().all(|recipient| recipient.outcome.action == action);
    match report.kind {
        ReportKind::Failed => "Your message could not be delivered",
        ReportKind::Delayed => "Your message is delayed",
        ReportKind::Held => "No word yet of what became of your message",
        ReportKind::Succeeded if all(Action::Relayed) => "Your message has been passed on",
        ReportKind::Succeeded => "Your message has been delivered",
    }
}

/// The whole text.
pub(super) fn text(report: &Report<'_>, subject: Option<&str>) -> String {
    let mut text = Text::default();
    text.paragraph(&format!("This is the mail system at {}.", host_name(report.reporting_mta)), 0);
    text.paragraph(&opening(report), 0);
    if let Some(subject) = subject {
        text.paragraph(&format!("Subject: {subject}"), 4);
    }
    for recipient in &report.recipients {
        text.line(&report.mailbox(recipient.address), 4);
        for sentence in sentences(report.kind, recipient) {
            text.line(&sentence, 8);
        }
        text.end_paragraph();
    }
    text.paragraph(&closing(report), 0);
    text.0
}

fn opening(report: &Report<'_>) -> String {
    let (arrived, one) = (report.arrived.to_rfc5322(), report.recipients.len() == 1);
    let whom = if one { "this recipient" } else { "these recipients" };
    match report.kind {
        ReportKind::Failed => {
            format!(
                "I am sorry: your message of {arrived} could not be delivered to {whom}, and will not be tried again."
            )
        }
        ReportKind::Delayed => format!(
            "Your message of {arrived} has not been delivered to {whom} yet. You need not do anything: it is still being tried."
        ),
        ReportKind::Held => format!(
            "Your message of {arrived} was collected by the recipient's mail system, which has not said since what became \
             of it. It may well have arrived for {whom}."
        ),
        ReportKind::Succeeded => {
            format!("You asked to be told: here is what became of your message of {arrived} for {whom}.")
        }
    }
}

fn closing(report: &Report<'_>) -> String {
    let returned = "The details below help whoever looks into it.";
    match (report.kind, report.retry_until) {
        (ReportKind::Failed, _) => format!("{} {returned}", advice(report)),
        (ReportKind::Delayed, Some(until)) => {
            format!("Should it not succeed before {}, you will be told.", until.to_rfc5322())
        }
        (ReportKind::Delayed, None) => "Should it not succeed, you will be told.".into(),
        (ReportKind::Held, _) => {
            format!("If you need to be sure, ask the recipient in another way whether it has arrived. {returned}")
        }
        (ReportKind::Succeeded, _) => "Nothing needs to be done.".into(),
    }
}

/// One advice for all: that of the first recipient.
fn advice(report: &Report<'_>) -> &'static str {
    report.recipients.first().map_or("", |recipient| reason(recipient).1)
}

fn sentences(kind: ReportKind, recipient: &RecipientReport<'_>) -> Vec<String> {
    let outcome = recipient.outcome;
    let first = match (kind, outcome.action) {
        (ReportKind::Held, _) => "It is in the hands of the recipient's mail system.",
        (_, Action::Delivered) => "It is in the mailbox.",
        (_, Action::Relayed) => "It was passed on to a mail system that sends no further reports.",
        (_, Action::Expanded) => "It was passed on to several recipients behind this address.",
        (_, Action::Failed | Action::Delayed) => reason(recipient).0,
    };
    let mut sentences = vec![first.to_owned()];
    let said = printable(&outcome.text, MAX_VALUE);
    if !said.is_empty() && matches!(outcome.action, Action::Failed | Action::Delayed) {
        let host = recipient.remote_mta.map(host_name).filter(|host| !host.is_empty());
        sentences.push(host.map_or_else(|| format!("Details: {said}"), |host| format!("{host} said: {said}")));
    }
    sentences
}

/// What happened, and what an author can do about it. Where nobody else said so, nobody else is blamed.
fn reason(recipient: &RecipientReport<'_>) -> (&'static str, &'static str) {
    let status = recipient.outcome.status;
    match (recipient.remote_mta, status.class(), status.subject(), status.detail()) {
        (None, StatusClass::Permanent, 0, 0) => {
            ("It was given up before it could be delivered.", "Please ask your postmaster why, or send it again.")
        }
        _ => meaning(status),
    }
}

/// What an enhanced status (RFC 3463 and the IANA registry) means, and what an author can do about it.
fn meaning(status: EnhancedStatus) -> (&'static str, &'static str) {
    const SPELLING: &str = "Please check the spelling of the address, and send the message again.";
    const ASK: &str = "Please ask the recipient in another way, or send the message again later.";
    const SMALLER: &str = "Please send it in smaller pieces, or offer a link instead.";
    const OTHER_WAY: &str = "Please contact the recipient in another way, or ask your postmaster for help.";
    match (status.subject(), status.detail()) {
        (1, 1 | 3 | 6) => ("There is no mailbox of this name.", SPELLING),
        (1, 2) => ("There is no mail system for the part behind the @.", SPELLING),
        (1, 10) => ("The domain behind the @ accepts no mail at all.", SPELLING),
        (1, _) => ("The address is not accepted there.", SPELLING),
        (2, 1) => ("The mailbox accepts no mail at present.", ASK),
        (2, 2) => ("The mailbox is full.", ASK),
        (2, 3) | (3, 4) => ("The message is too large for the recipient's mail system.", SMALLER),
        (2, _) => ("The mailbox cannot take the message.", ASK),
        (4, 1 | 2) => ("The recipient's mail system could not be reached.", ASK),
        (4, 4 | 3) => ("It could not be found out where mail for this address goes.", SPELLING),
        (4, 6) => ("The message went round in circles between mail systems.", OTHER_WAY),
        (4, 7) => ("It could not be delivered in the time there was for it.", ASK),
        (6, 7) => ("The recipient's mail system cannot handle international addresses.", OTHER_WAY),
        (6, _) => ("The recipient's mail system cannot handle a message of this form.", OTHER_WAY),
        (7, _) => ("The recipient's mail system refuses the message by its rules.", OTHER_WAY),
        _ if status.class() == StatusClass::Permanent => {
            ("The recipient's mail system refuses the message.", OTHER_WAY)
        }
        _ => ("The recipient's mail system could not take the message so far.", ASK),
    }
}

/// Text in paragraphs, wrapped, CRLF line ends.
#[derive(Default)]
struct Text(String);

impl Text {
    fn paragraph(&mut self, text: &str, indent: usize) {
        self.line(text, indent);
        self.end_paragraph();
    }

    fn end_paragraph(&mut self) {
        self.0.push_str("\r\n");
    }

    fn line(&mut self, text: &str, indent: usize) {
        let mut column = 0;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let width = word.chars().count();
            if column > 0 && column + 1 + width > WIDTH {
                self.0.push_str("\r\n");
                column = 0;
            }
            if column == 0 {
                self.0.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            } else {
                self.0.push(' ');
                column += 1;
            }
            self.0.push_str(word);
            column += width;
        }
        self.0.push_str("\r\n");
    }
}
