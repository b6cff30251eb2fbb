//! From an inbound reference to legs, and from the outcomes of legs back to its indexes.

use std::collections::BTreeMap;

use mail::ledger::{
    Action, Inbound, InboundRecipient, Key, Leg, LegRecipient, MAX_LEG_RECIPIENTS, Outcome, Route, Source, note,
};
use mail::{EnhancedStatus, Timestamp};

use crate::custody;
use crate::flow::{Context, Plan, Sheet};
use crate::origin::accept::{is_forwarded, leg_recipient};
use crate::origin::leg;
use crate::origin::news::{Kind, News};

const NOWHERE: &str = "the recipient leads nowhere here";

/// Makes legs for indexes whose custody has just come here, in the commit that takes it.
pub(crate) fn make_legs(plan: &mut Plan, inbound: &mut Inbound, fresh: &[u16], context: &Context<'_>) {
    let mut by_route: BTreeMap<Route, Vec<LegRecipient>> = BTreeMap::new();
    for index in fresh {
        let Some(recipient) = inbound.recipients.get_mut(usize::from(*index)) else { continue };
        if recipient.targets.is_empty() {
            let outcome = leg::outcome(Action::Failed, EnhancedStatus::permanent(1, 1), NOWHERE, context.now);
            recipient.state = custody::finished(recipient.state.clone(), outcome);
        }
        for target in &recipient.targets {
            let one = LegRecipient { inbound_index: Some(*index), ..leg_recipient(&recipient.recipient, target) };
            by_route.entry(target.route.clone()).or_default().push(one);
        }
    }
    for (route, recipients) in by_route {
        for some in recipients.chunks(MAX_LEG_RECIPIENTS) {
            let sheet = Sheet::new(Key::Leg(inbound.queue_id.clone(), inbound.legs));
            inbound.legs += 1;
            let leg = new_leg(inbound, route.clone(), some.to_vec(), context);
            leg::put(plan, sheet, leg, context.now, context.config);
        }
    }
}

/// A leg with the content of a reference, for some of its recipients.
pub(crate) fn new_leg(
    inbound: &Inbound,
    route: Route,
    recipients: Vec<LegRecipient>,
    context: &Context<'_>,
) -> Box<Leg> {
    let now = context.now;
    let mut steps = Vec::with_capacity(4);
    note(&mut steps, now, "handed-over", format!("from reference {} of {}", inbound.i, inbound.d), None);
    let seal = if is_forwarded(&route, &recipients) { inbound.seal.as_str() } else { "" };
    Box::new(Leg {
        expires: now.after(leg::lifetime(&route, &context.config.timers)),
        route,
        mail_from: inbound.mail_from.clone(),
        params: inbound.params.clone(),
        recipients,
        object: inbound.object.clone(),
        facts: inbound.facts.unwrap_or(mail::ledger::ContentFacts {
            is_object: true,
            eight_bit: true,
            tls_optional: false,
            received_fields: 0,
        }),
        prefix: [seal, &inbound.trace, &inbound.block].concat(),
        issued: Vec::new(),
        inbound: Some(Key::Inbound(inbound.i, inbound.d.clone())),
        source: Source::Reference,
        accepted: now,
        attempts: 0,
        next_attempt: now,
        by_value: false,
        refused_since: None,
        held: false,
        delegated: false,
        carried: None,
        delay_reported: false,
        steps,
    })
}

/// Writes what became of one target of an index, and ends the index when that was the last one.
pub(crate) fn record(inbound: &mut Inbound, index: Option<u16>, news: &News, now: Timestamp) {
    let Some(recipient) = index.and_then(|index| inbound.recipients.get_mut(usize::from(index))) else { return };
    let outcome = news.outcome.clone();
    match news.kind {
        Kind::Delayed if !recipient.outcomes.iter().any(|o| o.action == Action::Delayed) => {
            recipient.outcomes.push(outcome);
        }
        Kind::Final | Kind::PassedOn | Kind::Late | Kind::Withdrawn => {
            note_outcome(recipient, news.kind, outcome);
            if let Some(outcome) = summary(recipient, now) {
                recipient.state = custody::finished(recipient.state.clone(), outcome);
            }
        }
        Kind::Delayed | Kind::Held | Kind::Corrected => return,
    }
    // Receipts to post are due at once, whatever pause an earlier failure had earned.
    if inbound.unheard_since.is_none() {
        inbound.next_attempt = now;
    }
}

/// One outcome for each target: a late one takes the place of `relayed`.
fn note_outcome(recipient: &mut InboundRecipient, kind: Kind, outcome: Outcome) {
    let relayed = recipient.outcomes.iter_mut().find(|o| kind == Kind::Late && o.action == Action::Relayed);
    match relayed {
        Some(relayed) => *relayed = outcome,
        None => recipient.outcomes.push(outcome),
    }
}

/// One outcome for all targets of an index, once the last has one: its own where there is one target, `expanded` where
/// all of several took it (`relayed` while one of them is on its way elsewhere: it may still fail), `failed` where one of several did not: its author must learn of it.
fn summary(recipient: &InboundRecipient, now: Timestamp) -> Option<Outcome> {
    let known: Vec<&Outcome> = recipient.outcomes.iter().filter(|outcome| outcome.action.is_final()).collect();
    let (count, all) = (known.len(), recipient.targets.len());
    if count < all {
        return None;
    }
    if all <= 1 {
        return known.last().map(|outcome| (*outcome).clone());
    }
    let failed = known.iter().filter(|outcome| outcome.action == Action::Failed).count();
    let first = |action| known.iter().find(|outcome| outcome.action == action);
    Some(match first(Action::Failed) {
        None if first(Action::Relayed).is_some() => leg::outcome(
            Action::Relayed,
            EnhancedStatus::success(0, 0),
            "handed to several recipients, some elsewhere",
            now,
        ),
        None => leg::outcome(Action::Expanded, EnhancedStatus::success(0, 0), "handed to several recipients", now),
        Some(failure) => {
            let text = format!("failed for {failed} of {all} targets: {}", failure.text);
            leg::outcome(Action::Failed, failure.status, &text, now)
        }
    })
}
