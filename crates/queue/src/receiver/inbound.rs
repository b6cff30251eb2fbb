//! An inbound reference as a whole: what is due for it, and when it has done its duty.

use mail::Timestamp;
use mail::ledger::{Action, Inbound, InboundRecipient, IndexState, Phase, Row, RowBody};

use crate::config::{QueueConfig, Timers};
use crate::custody;
use crate::desk::Repository;
use crate::flow::{Plan, Sheet};

/// What an inbound reference wants done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Post a delegation.
    Delegate,
    /// Find or fetch the object.
    Retrieve,
    /// Judge its content.
    Judge,
    /// Post its claims, or that it acted without an answer.
    Claim,
    /// Post its outcomes.
    Report,
}

/// The repository that it came from.
pub(crate) fn repository(inbound: &Inbound) -> Repository {
    Repository { host: inbound.host.clone(), d: inbound.d.clone() }
}

/// What it wants done, if anything; when is [`Inbound::next_attempt`].
pub(crate) fn task(inbound: &Inbound) -> Option<Task> {
    match inbound.phase {
        Phase::Delegating if inbound.hops.is_empty() => None,
        Phase::Delegating => Some(Task::Delegate),
        Phase::Waiting => Some(Task::Retrieve),
        Phase::Held if inbound.evidence.is_some() => Some(Task::Judge),
        Phase::Held | Phase::Claiming { .. } => Some(Task::Claim),
        Phase::Working if any(inbound, owes_acted) => Some(Task::Claim),
        Phase::Working if inbound.recipients.iter().any(|r| owes_receipt(&r.state) || is_delayed(r)) => {
            Some(Task::Report)
        }
        Phase::Working | Phase::Closed => None,
    }
}

fn any(inbound: &Inbound, wanted: impl Fn(&IndexState) -> bool) -> bool {
    inbound.recipients.iter().any(|recipient| wanted(&recipient.state))
}

/// Custody was taken without an answer, and the origin has not acknowledged that.
pub(crate) fn owes_acted(state: &IndexState) -> bool {
    matches!(state, IndexState::Mine { acted: true } | IndexState::Final { acted: true, .. })
}

/// The outcome is known here, and the origin may not know it.
pub(crate) fn owes_receipt(state: &IndexState) -> bool {
    matches!(
        state,
        IndexState::Final { acknowledged: false, acted: false, .. } | IndexState::Delegated { failed: Some(_) }
    )
}

/// The origin has not been told of a delay yet.
pub(crate) fn is_delayed(recipient: &InboundRecipient) -> bool {
    recipient.outcomes.iter().any(|outcome| outcome.action == Action::Delayed)
}

/// Is custody of every recipient that this transaction accepts here, or was it until its outcome? Then: are all outcomes
/// known? A recipient that was refused when the reference first came, and is accepted now, is not here.
pub(crate) fn is_all_here(known: &Inbound, offered: &Inbound) -> Option<bool> {
    let accepted = offered.recipients.iter().zip(&known.recipients).filter(|(now, _)| now.state != IndexState::Refused);
    let outcomes = accepted.map(|(_, known)| match &known.state {
        IndexState::Mine { .. } => Some(false),
        IndexState::Final { .. } => Some(true),
        IndexState::Refused
        | IndexState::Open
        | IndexState::Taken
        | IndexState::Gone
        | IndexState::Delegated { .. } => None,
    });
    let outcomes: Vec<bool> = outcomes.collect::<Option<_>>()?;
    (!outcomes.is_empty()).then(|| outcomes.into_iter().all(|is_known| is_known))
}

/// When the next clock runs out, whatever is tried meanwhile.
pub(crate) fn timer_due(inbound: &Inbound, config: &QueueConfig) -> Option<Timestamp> {
    let timers = &config.timers;
    match inbound.phase {
        Phase::Delegating | Phase::Waiting => Some(just_after(inbound.expires)),
        Phase::Held if inbound.evidence.is_some() => Some(just_after(inbound.expires)),
        Phase::Held => Some(inbound.accepted),
        Phase::Claiming { first_sent } if inbound.refusal.is_none() => Some(first_sent.after(timers.claim_patience)),
        Phase::Claiming { first_sent } => Some(first_sent.after(timers.unheard).max(just_after(inbound.expires))),
        Phase::Working => unheard_timer(inbound, timers),
        Phase::Closed => Some(remembered_until(inbound, timers)),
    }
}

/// Failures that find no hearing are reported by mail after a day; everything else rests when the origin has forgotten
/// the reference too.
fn unheard_timer(inbound: &Inbound, timers: &Timers) -> Option<Timestamp> {
    let patience = inbound.unheard_since?.after(timers.unheard);
    // What was carried here is answered in the same way, and that takes its time.
    let mail = if inbound.carried { patience.max(just_after(inbound.expires)) } else { patience };
    let rest = mail.max(inbound.expires.after(timers.answer_memory));
    Some(if any(inbound, is_unheard_failure) { mail } else { rest })
}

/// A failure that neither the origin nor its author knows of.
pub(crate) fn is_unheard_failure(state: &IndexState) -> bool {
    match state {
        IndexState::Final { outcome, acknowledged: false, .. } => outcome.action == Action::Failed && !outcome.reported,
        _ => false,
    }
}

fn just_after(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis() + 1)
}

/// Until when a closed reference is remembered: against replays, and after `relayed` for a late failure.
fn remembered_until(inbound: &Inbound, timers: &Timers) -> Timestamp {
    let relayed = any(inbound, |s| matches!(s, IndexState::Final { outcome, .. } if outcome.action == Action::Relayed));
    let replays = inbound.expires.after(timers.replay_memory);
    if relayed { replays.max(inbound.accepted.after(timers.long_memory)) } else { replays }
}

/// Begins a phase: its tries count anew.
pub(crate) fn enter(inbound: &mut Inbound, phase: Phase, now: Timestamp) {
    inbound.phase = phase;
    inbound.attempts = 0;
    try_now(inbound, now);
}

/// The next try is made at once; but no retrieval begins before policy lets it.
pub(crate) fn try_now(inbound: &mut Inbound, now: Timestamp) {
    let not_before = inbound.not_before.filter(|_| inbound.phase == Phase::Waiting);
    inbound.next_attempt = not_before.map_or(now, |begin| begin.max(now));
}

/// A try has failed; the next one comes after a pause.
pub(crate) fn pause(inbound: &mut Inbound, jitter: u32, now: Timestamp, config: &QueueConfig) {
    inbound.attempts = inbound.attempts.saturating_add(1);
    inbound.next_attempt = now.after(config.retry.delay(inbound.attempts, jitter));
}

/// Lets go of every index that nobody has claimed: `e` has passed, or the origin said 410.
pub(crate) fn give_up(inbound: &mut Inbound, now: Timestamp) {
    inbound.hops.clear();
    for recipient in &mut inbound.recipients {
        recipient.state = custody::given_up(recipient.state.clone());
    }
    mail::ledger::note(&mut inbound.steps, now, "gone", "nothing can be claimed any more", None);
}

/// Puts a changed reference into the plan: moves it on to its last phases, lets go of what nobody needs, says when it
/// is due, or deletes it.
pub(crate) fn put(plan: &mut Plan, sheet: Sheet, mut inbound: Box<Inbound>, now: Timestamp, config: &QueueConfig) {
    move_on(&mut inbound, now);
    let timer = timer_due(&inbound, config);
    if inbound.phase == Phase::Closed && timer.is_some_and(|due| due <= now) {
        if sheet.version > 0 {
            plan.batch.delete.push((sheet.key, sheet.version));
        }
        return;
    }
    let attempt = task(&inbound).map(|_| inbound.next_attempt);
    let due = [attempt, timer].into_iter().flatten().min();
    plan.batch.put.push(Row { due, ..sheet.with(RowBody::Inbound(inbound)) });
}

/// Once no index is open the answers are complete; once nothing is owed the reference is closed.
fn move_on(inbound: &mut Inbound, now: Timestamp) {
    let open = any(inbound, |state| *state == IndexState::Open);
    let mine = any(inbound, |state| matches!(state, IndexState::Mine { .. }));
    if !open && !matches!(inbound.phase, Phase::Working | Phase::Closed) {
        enter(inbound, Phase::Working, now);
    }
    if !open && !mine {
        inbound.object = None;
    }
    let owes = any(inbound, |state| owes_acted(state) || owes_receipt(state));
    match inbound.phase {
        Phase::Working if !mine && !owes => enter(inbound, Phase::Closed, now),
        Phase::Closed if mine || owes => enter(inbound, Phase::Working, now),
        _ => {}
    }
}
