//! What an inbound reference does when a clock runs out: letting go at `e`, acting after an hour of silence, reporting by
//! mail after a day without hearing, resting, forgetting.

use mail::Timestamp;
use mail::dsn::ReportKind;
use mail::ledger::{Inbound, IndexState, Key, Phase, note};

use crate::config::QueueConfig;
use crate::custody;
use crate::flow::{Change, Context, Otherwise, Plan, Rows, Wants};
use crate::receiver::claim::indexes;
use crate::receiver::handover;
use crate::receiver::inbound;
use crate::receiver::retrieval::begin_claim;
use crate::report::{Report, ReportEntry};
use crate::stats::Count;

/// An inbound reference is due for something other than a try.
pub(crate) struct Clock {
    pub(crate) key: Key,
}

impl Change for Clock {
    fn wants(&self) -> Wants {
        Wants::keys([self.key.clone()])
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some((sheet, mut inbound)) = rows.take_inbound(&self.key) else { return plan };
        advance(&mut plan, &mut inbound, context);
        inbound::put(&mut plan, sheet, inbound, context.now, context.config);
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}

/// Applies the clock of the current phase, if it has run out.
pub(crate) fn advance(plan: &mut Plan, inbound: &mut Inbound, context: &Context<'_>) {
    if !has_run_out(inbound, context.now, context.config) {
        return;
    }
    match inbound.phase {
        Phase::Delegating | Phase::Waiting => inbound::give_up(inbound, context.now),
        Phase::Held if inbound.evidence.is_some() => inbound::give_up(inbound, context.now),
        Phase::Held => begin_claim(inbound, context.now),
        Phase::Claiming { .. } if inbound.refusal.is_some() => inbound::give_up(inbound, context.now),
        Phase::Claiming { .. } => act(plan, inbound, context),
        Phase::Working if inbound.recipients.iter().any(|r| inbound::is_unheard_failure(&r.state)) => {
            report_by_mail(plan, inbound, context);
        }
        Phase::Working => rest(inbound, context.now),
        // Forgotten by `put`.
        Phase::Closed => {}
    }
}

pub(crate) fn has_run_out(inbound: &Inbound, now: Timestamp, config: &QueueConfig) -> bool {
    inbound::timer_due(inbound, config).is_some_and(|due| due <= now)
}

/// An hour without an answer, or no answer where the object was carried here: custody is taken, durably, before anything is delivered; the origin is told until it
/// acknowledges that. A second copy is possible now, loss is not.
pub(crate) fn act(plan: &mut Plan, inbound: &mut Inbound, context: &Context<'_>) {
    let open = indexes(inbound, |state| *state == IndexState::Open);
    for recipient in &mut inbound.recipients {
        recipient.state = custody::acted(recipient.state.clone());
    }
    note(&mut inbound.steps, context.now, "acted", "no answer to the claim: custody is taken without one", None);
    handover::make_legs(plan, inbound, &open, context);
    inbound::enter(inbound, Phase::Working, context.now);
    plan.count(Count::ActedUnanswered);
}

/// Nobody at the origin has listened for a day: the verified sender is told of failures by mail (TBR §6).
fn report_by_mail(plan: &mut Plan, inbound: &mut Inbound, context: &Context<'_>) {
    let mut entries = Vec::new();
    for recipient in inbound.recipients.iter_mut().filter(|r| inbound::is_unheard_failure(&r.state)) {
        let IndexState::Final { outcome, .. } = &mut recipient.state else { continue };
        // The receipt is still posted when it can be: the origin then knows, and tells nobody twice.
        outcome.reported = true;
        if recipient.recipient.notify.failure() {
            let (recipient, outcome) = (recipient.recipient.clone(), outcome.clone());
            entries.push(ReportEntry { recipient, original: None, outcome, peer: None });
        }
    }
    note(&mut inbound.steps, context.now, "reported", "by mail: the origin hears no receipts", None);
    match inbound.mail_from.clone() {
        _ if entries.is_empty() => {}
        Some(author) => {
            plan.reports.push(Report::of_inbound(inbound, author, ReportKind::Failed, entries));
            plan.count(Count::ReportsWritten);
        }
        None => plan.count(Count::ReportsDropped),
    }
}

/// The origin has forgotten the reference: nothing more is posted.
fn rest(inbound: &mut Inbound, now: Timestamp) {
    for recipient in &mut inbound.recipients {
        recipient.state = match recipient.state.clone() {
            IndexState::Mine { .. } => IndexState::Mine { acted: false },
            IndexState::Final { outcome, .. } => IndexState::Final { outcome, acknowledged: true, acted: false },
            IndexState::Delegated { .. } => IndexState::Delegated { failed: None },
            state => state,
        };
    }
    inbound.unheard_since = None;
    note(&mut inbound.steps, now, "rested", "the origin has not listened, and has forgotten by now", None);
}
