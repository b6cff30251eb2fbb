//! Telling whoever has to know: the author by a report, or the origin of the reference by a receipt.

use mail::Timestamp;
use mail::dsn::ReportKind;
use mail::ledger::{Action, Key, Leg, Outcome, note};

use crate::flow::{Context, Plan, Rows};
use crate::receiver::handover;
use crate::report::{Report, ReportEntry};
use crate::stats::Count;

/// Something that became known of one recipient of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) position: u16,
    pub(crate) kind: Kind,
    pub(crate) outcome: Outcome,
    /// The next hop, where it was one.
    pub(crate) peer: Option<String>,
    /// The next hop writes the report of success itself (RFC 3461 §5.2.2).
    pub(crate) reported_by_peer: bool,
}

/// What kind of news it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The outcome.
    Final,
    /// Not yet.
    Delayed,
    /// Claimed, and no receipt came: who holds it.
    Held,
    /// It has arrived, although the author was told otherwise.
    Corrected,
    /// Recalled by the author's side, which knows.
    Withdrawn,
}

impl News {
    pub(crate) fn new(position: u16, kind: Kind, outcome: Outcome) -> Self {
        Self { position, kind, outcome, peer: None, reported_by_peer: false }
    }
}

/// Counts the news, writes them down, and hands them to whoever has to know, in the commit of this plan.
pub(crate) fn tell(
    plan: &mut Plan,
    key: &Key,
    leg: &mut Leg,
    news: &[News],
    rows: &mut Rows,
    context: &mut Context<'_>,
) {
    for item in news {
        count(plan, item);
        write_down(leg, item, context.now);
    }
    if news.is_empty() {
        return;
    }
    let inbound = leg.inbound.as_ref().and_then(|key| rows.take_inbound(key));
    match inbound {
        Some((sheet, mut inbound)) => {
            for item in news {
                let index = leg.recipients.get(usize::from(item.position)).and_then(|r| r.inbound_index);
                handover::record(&mut inbound, index, item, context.now);
            }
            crate::receiver::inbound::put(plan, sheet, inbound, context.now, context.config);
        }
        None => report(plan, key, leg, news, context),
    }
}

fn count(plan: &mut Plan, news: &News) {
    match (news.kind, news.outcome.action) {
        (Kind::Final | Kind::Corrected, Action::Delivered | Action::Expanded) => plan.count(Count::Delivered),
        (Kind::Final | Kind::Corrected, Action::Relayed) => plan.count(Count::Relayed),
        (Kind::Final | Kind::Withdrawn, Action::Failed) => plan.count(Count::Failed),
        _ => {}
    }
}

fn write_down(leg: &mut Leg, news: &News, now: Timestamp) {
    let Some(recipient) = leg.recipients.get(usize::from(news.position)) else { return };
    let Outcome { action, status, text, .. } = &news.outcome;
    let detail = format!("{}: {status} {text}", recipient.recipient.address);
    note(&mut leg.steps, now, &action.to_string(), detail, None);
}

/// One report for each kind of news, if there is an author and he wants to know (RFC 3461 §5.2).
fn report(plan: &mut Plan, key: &Key, leg: &mut Leg, news: &[News], context: &Context<'_>) {
    for kind in [ReportKind::Failed, ReportKind::Delayed, ReportKind::Held, ReportKind::Succeeded] {
        let entries: Vec<ReportEntry> = news.iter().filter_map(|item| entry(leg, item, kind)).collect();
        if entries.is_empty() {
            continue;
        }
        let Some(author) = leg.mail_from.clone() else {
            note(&mut leg.steps, context.now, "no-report", "the null sender gets no reports", None);
            plan.count(Count::ReportsDropped);
            continue;
        };
        plan.reports.push(Report::of_leg(key, leg, author, kind, entries));
        plan.count(Count::ReportsWritten);
    }
}

fn entry(leg: &Leg, news: &News, kind: ReportKind) -> Option<ReportEntry> {
    let recipient = leg.recipients.get(usize::from(news.position))?;
    let notify = recipient.recipient.notify;
    let wanted = match (news.kind, news.outcome.action) {
        (Kind::Final, Action::Failed) if news.outcome.reported => None,
        (Kind::Final, Action::Failed) => notify.failure().then_some(ReportKind::Failed),
        (Kind::Final, _) => (notify.success() && !news.reported_by_peer).then_some(ReportKind::Succeeded),
        (Kind::Delayed, _) => notify.delay().then_some(ReportKind::Delayed),
        (Kind::Held, _) => notify.failure().then_some(ReportKind::Held),
        (Kind::Corrected, _) => notify.failure().then_some(ReportKind::Succeeded),
        (Kind::Withdrawn, _) => None,
    };
    (wanted == Some(kind)).then(|| ReportEntry {
        recipient: recipient.recipient.clone(),
        original: recipient.original.clone(),
        outcome: news.outcome.clone(),
        peer: news.peer.clone(),
    })
}
