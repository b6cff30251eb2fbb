//! A leg as a whole: who is still to be attempted, when it is due, and when it has done its duty.

use std::time::Duration;

use mail::ledger::{Action, Issued, Leg, LegRecipient, Offered, Outcome, RecipientState, Route, Row, RowBody, note};
use mail::{EnhancedStatus, ReferenceId, Timestamp};

use crate::config::{QueueConfig, ReferenceMode, Timers};
use crate::flow::{Plan, Sheet};

use RecipientState::{Claimed, Done, Offered as Out, Queued};

/// Most characters of a peer's words that are kept.
const MAX_TEXT: usize = 500;

/// An outcome, its text made printable and short.
pub(crate) fn outcome(action: Action, status: EnhancedStatus, text: &str, at: Timestamp) -> Outcome {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    Outcome { action, status, text: printable.take(MAX_TEXT).collect(), at, reported: false, withdrawn: false }
}

/// The reference of this id, if this leg issued it.
pub(crate) fn issued<'a>(leg: &'a Leg, id: &ReferenceId) -> Option<&'a Issued> {
    leg.issued.iter().find(|issued| issued.id == *id)
}

/// Recipients that an attempt would do something for now: nothing is out for them, or what is out was never answered,
/// or it was won back and only the peer's word is missing.
pub(crate) fn open(leg: &Leg, now: Timestamp) -> Vec<u16> {
    if leg.held || leg.carried.is_some() {
        return Vec::new();
    }
    let wanted = |recipient: &LegRecipient| match &recipient.state {
        Queued => true,
        Out(offered) => wants_answer(offered) && issued(leg, &offered.reference).is_none_or(|i| now <= i.expires),
        Claimed(_) | Done { .. } => false,
    };
    positions(leg, wanted)
}

fn wants_answer(offered: &Offered) -> bool {
    offered.closed || offered.accepted.is_none()
}

/// May an attempt that a crash broke off have written into these mailboxes? An attempt of this life ends by saying when
/// the next one is; whoever was due before this life began may have been under way, and may be in the mailbox. Nothing else
/// ends such a leg before an attempt has looked. What a next hop took, nobody can look for (RFC 1047).
pub(crate) fn is_in_doubt(leg: &Leg, started: Timestamp) -> bool {
    let is_mailbox = matches!(leg.route, Route::Maildir(_));
    is_mailbox && leg.next_attempt < started && leg.recipients.iter().any(|r| r.state == Queued)
}

/// Positions of the recipients for which this holds.
pub(crate) fn positions(leg: &Leg, wanted: impl Fn(&LegRecipient) -> bool) -> Vec<u16> {
    let numbered = leg.recipients.iter().zip(0u16..);
    numbered.filter(|(recipient, _)| wanted(recipient)).map(|(_, position)| position).collect()
}

/// When the next attempt is due, if anybody wants one.
pub(crate) fn attempt_due(leg: &Leg, now: Timestamp) -> Option<Timestamp> {
    (!open(leg, now).is_empty()).then_some(leg.next_attempt)
}

/// When the next clock runs out, whoever is attempted meanwhile.
pub(crate) fn timer_due(leg: &Leg, config: &QueueConfig) -> Option<Timestamp> {
    if leg.delegated {
        let is_open = leg.recipients.iter().any(|r| is_here(&r.state));
        return leg.issued.iter().map(|issued| issued.expires).max().filter(|_| is_open);
    }
    let clocks = leg.recipients.iter().filter_map(|recipient| recipient_timer(leg, &recipient.state, config));
    clocks.chain(delay_timer(leg, &config.timers)).chain(object_timer(leg, &config.timers)).min()
}

fn recipient_timer(leg: &Leg, state: &RecipientState, config: &QueueConfig) -> Option<Timestamp> {
    let timers = &config.timers;
    match state {
        Queued => (!leg.held).then_some(leg.expires),
        Out(offered) => {
            let end = reference_end(leg, &offered.reference, timers);
            let unclaimed = offered.accepted.filter(|_| !offered.closed && !leg.held && !is_for_site(leg));
            let fall_back = unclaimed.map(|at| at.after(timers.unclaimed_fall_back));
            Some(fall_back.map_or(end, |at| at.min(end)))
        }
        Claimed(claim) if claim.told => None,
        Claimed(claim) => Some(overdue(leg, &claim.reference, timers)),
        Done { .. } => None,
    }
}

/// When the end of a reference is recorded: `e` and a grace.
pub(crate) fn reference_end(leg: &Leg, id: &ReferenceId, timers: &Timers) -> Timestamp {
    issued(leg, id).map_or(leg.expires, |issued| issued.expires.after(timers.expiry_grace))
}

/// When the author is told who holds a message that no receipt came for.
pub(crate) fn overdue(leg: &Leg, id: &ReferenceId, timers: &Timers) -> Timestamp {
    issued(leg, id).map_or(leg.expires, |issued| issued.expires).after(timers.overdue)
}

fn delay_timer(leg: &Leg, timers: &Timers) -> Option<Timestamp> {
    // Whoever holds a message has a reason that the author need not hear of; a site comes when it comes.
    let delay = timers.delay_report.filter(|_| !leg.delay_reported && !leg.held && !takes_its_time(leg))?;
    leg.recipients.iter().any(|r| is_here(&r.state)).then(|| leg.accepted.after(delay))
}

/// Is custody of this recipient here?
pub(crate) fn is_here(state: &RecipientState) -> bool {
    matches!(state, Queued | Out(_))
}

/// When the content is let go of that only claimants may still fetch.
fn object_timer(leg: &Leg, timers: &Timers) -> Option<Timestamp> {
    if leg.object.is_none() || leg.recipients.iter().any(|r| is_here(&r.state)) {
        return None;
    }
    leg.recipients.iter().filter_map(|recipient| kept_until(leg, recipient, timers)).max()
}

/// Until when the content is kept for a recipient whose custody is not here: until nobody can fetch it any more, and where it was
/// in the repository for a grace after that.
fn kept_until(leg: &Leg, recipient: &LegRecipient, timers: &Timers) -> Option<Timestamp> {
    match &recipient.state {
        Queued | Out(_) => None,
        Claimed(claim) => Some(reference_end(leg, &claim.reference, timers).after(timers.object_grace)),
        Done { .. } => (!leg.issued.is_empty()).then(|| recorded(leg).after(timers.object_grace)),
    }
}

/// Since when the last outcome is known here: a site may tell it days after it happened, by a clock of its own.
fn recorded(leg: &Leg) -> Timestamp {
    leg.steps.last().map_or(leg.accepted, |step| step.at)
}

/// Does anybody still need the content: to deliver it, to fetch it, or in case that it is wanted after all?
fn needs_object(leg: &Leg, now: Timestamp, timers: &Timers) -> bool {
    let needs = |recipient: &LegRecipient| {
        is_here(&recipient.state) || kept_until(leg, recipient, timers).is_some_and(|until| now < until)
    };
    leg.recipients.iter().any(needs)
}

/// Until when a leg is remembered in which nothing is left to do; `None` while something is.
fn remembered_until(leg: &Leg, config: &QueueConfig) -> Option<Timestamp> {
    let timers = &config.timers;
    // An outcome may be old when it is told here: whoever tells it must find the answer when he asks again.
    let recorded = recorded(leg);
    let mut until = Timestamp::default();
    for recipient in &leg.recipients {
        until = until.max(match &recipient.state {
            Queued | Out(_) => return None,
            Claimed(claim) if !claim.told => return None,
            Claimed(claim) => long_memory(leg, &claim.reference, timers),
            Done { outcome, claim: Some(claim) } if outcome.action == Action::Relayed => {
                recorded.after(timers.retention).max(long_memory(leg, &claim.reference, timers))
            }
            Done { .. } => recorded.after(timers.retention),
        });
    }
    let answers = leg.issued.iter().map(|issued| issued.expires.after(timers.answer_memory)).max();
    let content = object_timer(leg, timers);
    Some(until.max(answers.unwrap_or_default()).max(content.unwrap_or_default()))
}

fn long_memory(leg: &Leg, id: &ReferenceId, timers: &Timers) -> Timestamp {
    issued(leg, id).map_or(leg.accepted, |issued| issued.issued).after(timers.long_memory)
}

/// Puts a changed leg into the plan: lets go of what nobody needs, says when it is due, or deletes it.
pub(crate) fn put(plan: &mut Plan, sheet: Sheet, mut leg: Box<Leg>, now: Timestamp, config: &QueueConfig) {
    if leg.object.is_some() && !needs_object(&leg, now, &config.timers) {
        leg.object = None;
    }
    let memory = remembered_until(&leg, config);
    if memory.is_some_and(|until| until <= now) {
        if sheet.version > 0 {
            plan.batch.delete.push((sheet.key, sheet.version));
        }
        return;
    }
    let due = [attempt_due(&leg, now), timer_due(&leg, config), memory].into_iter().flatten().min();
    plan.batch.put.push(Row { due, ..sheet.with(RowBody::Leg(leg)) });
}

/// Writes down a failed try, and when the next one is due.
pub(crate) fn defer(leg: &mut Leg, text: &str, now: Timestamp, delay: Duration) {
    leg.attempts = leg.attempts.saturating_add(1);
    leg.next_attempt = now.after(delay);
    note(
        &mut leg.steps,
        now,
        "deferred",
        outcome(Action::Delayed, EnhancedStatus::temporary(0, 0), text, now).text,
        None,
    );
}

/// From now on by value, at once.
pub(crate) fn go_by_value(leg: &mut Leg, why: &str, now: Timestamp) {
    leg.by_value = true;
    leg.next_attempt = leg.next_attempt.min(now);
    note(&mut leg.steps, now, "by-value", why, None);
}

/// Whether references are offered to the domain of this recipient. What waits for a site has no other way.
pub(crate) fn mode(leg: &Leg, position: u16, config: &QueueConfig) -> ReferenceMode {
    if is_for_site(leg) {
        return ReferenceMode::Require;
    }
    let domain = leg.recipients.get(usize::from(position)).and_then(|r| r.recipient.address.domain());
    domain.map_or(ReferenceMode::Never, |domain| config.policy(&domain).mode)
}

/// Does it wait until a site asks for it? Then silence means nothing.
pub(crate) fn is_for_site(leg: &Leg) -> bool {
    matches!(leg.route, Route::Site(_))
}

/// Does it come when it comes, and no sooner for telling its author?
pub(crate) fn takes_its_time(leg: &Leg) -> bool {
    leg.route.is_asked_for() || leg.carried.is_some()
}

/// The pause after a failed try. What goes over a connection that its recipient opens is tried when that is there.
pub(crate) fn pause(leg: &Leg, jitter: u32, config: &QueueConfig) -> Duration {
    match leg.route {
        Route::OnDemand(_) => lifetime(&leg.route, &config.timers),
        _ => config.retry.delay(leg.attempts.saturating_add(1), jitter),
    }
}

/// How long a message is tried on this way before it fails.
pub(crate) fn lifetime(route: &Route, timers: &Timers) -> Duration {
    if route.is_asked_for() { timers.site_lifetime } else { timers.message_lifetime }
}

/// Does this route lead to a server that greets, or to a site that will ask, so that the queue says how to go on?
pub(crate) fn is_smtp(route: &Route) -> bool {
    matches!(route, Route::Mx(_) | Route::Relay(_) | Route::Site(_))
}
