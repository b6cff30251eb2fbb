//! Telling whoever has to know: the author by a report, or the origin of the reference by a receipt.

use mail::dsn::ReportKind;
use mail::ledger::{Action, Key, Leg, LegRecipient, Outcome, note};
use mail::{EnhancedStatus, Timestamp};

use crate::flow::{Context, Effect, Plan, Rows};
use crate::origin::leg;
use crate::receiver::handover;
use crate::report::{Report, ReportEntry};
use crate::stats::Count;
use crate::told;

const PASSED_ON: &str = "custody has gone on to the next server";

/// Something that became known of one recipient of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) position: u16,
    pub(crate) kind: Kind,
    pub(crate) outcome: Outcome,
    /// The next hop, or the domain that took custody, where it was one of them that said so.
    pub(crate) peer: Option<String>,
    /// The next hop writes the report of success itself (RFC 3461 §5.2.2).
    pub(crate) reported_by_peer: bool,
}

/// What kind of news it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The outcome.
    Final,
    /// Custody has gone on to the next server, from where the message came by reference (TBR §7).
    PassedOn,
    /// The outcome, after custody had gone on.
    Late,
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

/// A leg of a message that came by reference was claimed: its origin's duty ends, and ours (TBR §7).
pub(crate) fn passed_on(leg: &Leg, position: u16, now: Timestamp) -> Option<News> {
    leg.inbound.as_ref()?;
    let outcome = leg::outcome(Action::Relayed, EnhancedStatus::success(0, 0), PASSED_ON, now);
    Some(News::new(position, Kind::PassedOn, outcome))
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
    let told = told::of_news(key, leg, news, context.now);
    plan.effects.extend(told.into_iter().map(|told| Effect::Tell(Box::new(told))));
    let origin = leg.inbound.as_ref();
    let inbound = origin.and_then(|key| plan.take_inbound(key).or_else(|| rows.take_inbound(key)));
    match inbound {
        Some((sheet, mut inbound)) => {
            for item in news {
                let Some(recipient) = leg.recipients.get(usize::from(item.position)) else { continue };
                let index = recipient.inbound_index;
                handover::record(&mut inbound, index, &without_target(leg, recipient, item), context.now);
            }
            crate::receiver::inbound::put(plan, sheet, inbound, context.now, context.config);
        }
        None => report(plan, key, leg, news, context),
    }
}

/// Where an alias leads elsewhere, nobody outside learns where: not even from the words of the server there (TBR §7).
fn without_target(leg: &Leg, recipient: &LegRecipient, news: &News) -> News {
    let mut news = news.clone();
    if hides_target(leg, recipient) {
        news.outcome.text = match news.outcome.action {
            Action::Delivered | Action::Expanded => "delivered where it was forwarded to",
            Action::Relayed => PASSED_ON,
            Action::Failed => "it could not be delivered where it was forwarded to",
            Action::Delayed => "not delivered yet where it was forwarded to",
        }
        .to_owned();
    }
    news
}

/// Does an alias lead elsewhere?
fn hides_target(leg: &Leg, recipient: &LegRecipient) -> bool {
    recipient.original.is_some() && leg::is_smtp(&leg.route)
}

fn count(plan: &mut Plan, news: &News) {
    match (news.kind, news.outcome.action) {
        (Kind::Final | Kind::Late | Kind::Corrected, Action::Delivered | Action::Expanded) => {
            plan.count(Count::Delivered)
        }
        (Kind::Final | Kind::Late | Kind::PassedOn | Kind::Corrected, Action::Relayed) => plan.count(Count::Relayed),
        (Kind::Final | Kind::Late | Kind::Withdrawn, Action::Failed) => plan.count(Count::Failed),
        _ => {}
    }
}

fn write_down(leg: &mut Leg, news: &News, now: Timestamp) {
    let Some(recipient) = leg.recipients.get(usize::from(news.position)) else { return };
    let (Outcome { action, status, text, .. }, address) = (&news.outcome, &recipient.recipient.address);
    match news.kind {
        Kind::Withdrawn => note(&mut leg.steps, now, "withdrawn", format!("{address}: {text}"), None),
        _ => note(&mut leg.steps, now, &action.to_string(), format!("{address}: {status} {text}"), None),
    }
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
        (Kind::Final | Kind::Late, Action::Failed) if news.outcome.reported => None,
        (Kind::Final | Kind::Late, Action::Failed) => notify.failure().then_some(ReportKind::Failed),
        (Kind::Final | Kind::Late, _) => (notify.success() && !news.reported_by_peer).then_some(ReportKind::Succeeded),
        (Kind::Delayed, _) => notify.delay().then_some(ReportKind::Delayed),
        (Kind::Held, _) => notify.failure().then_some(ReportKind::Held),
        (Kind::Corrected, _) => notify.failure().then_some(ReportKind::Succeeded),
        (Kind::Withdrawn | Kind::PassedOn, _) => None,
    };
    let is_hidden = hides_target(leg, recipient);
    (wanted == Some(kind)).then(|| ReportEntry {
        recipient: recipient.recipient.clone(),
        original: recipient.original.clone(),
        outcome: if is_hidden { without_target(leg, recipient, news).outcome } else { news.outcome.clone() },
        peer: news.peer.clone().filter(|_| !is_hidden),
    })
}
