//! Offering onward what was delegated at the origin (TBR §7.3): by reference only, since neither custody nor content is here.
//!
//! Where the next server will not have it so, custody is taken instead; what it refuses for good, the origin is told. Once
//! it has taken the offer there is nothing left to do: claims and receipts go to the origin.

use mail::ledger::{Action, Leg, RecipientState, note};
use mail::{EnhancedStatus, Timestamp};

use crate::config::ReferenceMode;
use crate::flow::{Context, Plan, Rows, Sheet};
use crate::origin::attempt::{Decide, Decision, offer_again, proceed};
use crate::origin::end::{Ended, conclude};
use crate::origin::leg;
use crate::origin::news::{self, News};
use crate::port::{DeliveryEnd, RecipientEnd};
use crate::receiver::delegate::recall_in;
use crate::stats::Count;
use crate::work::Mode;

const OFFERED: &str = "offered onward; custody is with the origin until it is claimed";
const RECALLED: &str = "not delegated after all: taken into custody here";
const LET_GO: &str = "the delegated reference has expired; its origin decides";

/// The session is open: offer, or where that cannot be take custody instead.
pub(crate) fn decide(
    decide: &Decide,
    (sheet, mut leg): (Sheet, Box<Leg>),
    rows: &mut Rows,
    context: &Context<'_>,
) -> Plan {
    let mut plan = Plan::default();
    let open = leg::open(&leg, context.now);
    let tbr = decide.peer.tbr && decide.declined.is_none();
    let never = open.iter().any(|position| leg::mode(&leg, *position, context.config) == ReferenceMode::Never);
    let issued = leg.issued.first().map(|issued| issued.id);
    let decision = match issued.filter(|_| !open.is_empty()) {
        Some(id) if tbr && !never => offer_again(&leg, &id, context.now),
        Some(_) => {
            let why = decide.declined.as_deref().unwrap_or("the next server takes no references");
            take_custody(&mut plan, &mut leg, &open, why, rows, context);
            leg::put(&mut plan, sheet, leg, context.now, context.config);
            Decision::Idle
        }
        None => Decision::Idle,
    };
    plan.effects.push(proceed(decide.job, decision));
    plan
}

/// What an attempt brought.
#[derive(Default)]
struct Verdict {
    news: Vec<News>,
    recall: Vec<u16>,
    why: String,
    again: Option<(EnhancedStatus, String)>,
}

/// An attempt has ended.
pub(crate) fn ended(
    ended: &Ended,
    (sheet, mut leg): (Sheet, Box<Leg>),
    rows: &mut Rows,
    context: &mut Context<'_>,
) -> Plan {
    let mut plan = Plan::default();
    let verdict = judge(ended, &mut leg, &mut plan, context);
    if let Some((status, why)) = &verdict.again {
        let delay = context.config.retry.delay(leg.attempts.saturating_add(1), ended.jitter);
        leg::defer(&mut leg, why, context.now, delay);
        plan.count(Count::Deferred);
        plan.effects.extend(ended.deferred(&leg, (*status, why), context.now));
    }
    news::tell(&mut plan, &sheet.key, &mut leg, &verdict.news, rows, context);
    if !verdict.recall.is_empty() {
        take_custody(&mut plan, &mut leg, &verdict.recall, &verdict.why, rows, context);
    }
    leg::put(&mut plan, sheet, leg, context.now, context.config);
    plan
}

fn judge(ended: &Ended, leg: &mut Leg, plan: &mut Plan, context: &Context<'_>) -> Verdict {
    let now = context.now;
    match (&ended.end, &ended.mode) {
        (DeliveryEnd::Unreachable { text, status } | DeliveryEnd::Interrupted { text, status }, _) => {
            Verdict { again: Some((*status, text.clone())), ..Verdict::default() }
        }
        (DeliveryEnd::Impossible { text, status }, _) => {
            let outcome = leg::outcome(Action::Failed, *status, text, now);
            let open = leg::open(leg, now).into_iter();
            Verdict { news: open.filter_map(|p| conclude(leg, p, outcome.clone())).collect(), ..Verdict::default() }
        }
        (DeliveryEnd::Transaction { outcomes, peer, octets, .. }, Mode::Offer(_)) => {
            note(&mut leg.steps, now, "offered", format!("to {peer}"), Some(*octets));
            let mut verdict = Verdict::default();
            for (position, end) in outcomes {
                judge_one(leg, *position, end, &mut verdict, plan, context);
            }
            verdict
        }
        (DeliveryEnd::Transaction { .. }, _) => Verdict::default(),
    }
}

fn judge_one(
    leg: &mut Leg,
    position: u16,
    end: &RecipientEnd,
    verdict: &mut Verdict,
    plan: &mut Plan,
    context: &Context<'_>,
) {
    let now = context.now;
    match end {
        RecipientEnd::Accepted { .. } => {
            conclude(leg, position, leg::outcome(Action::Relayed, EnhancedStatus::success(0, 0), OFFERED, now));
            plan.count(Count::OffersTaken);
        }
        RecipientEnd::Permanent { to_offer: true, text, .. } => recall(verdict, position, text),
        RecipientEnd::Permanent { status, text, .. } => {
            verdict.news.extend(conclude(leg, position, leg::outcome(Action::Failed, *status, text, now)));
        }
        RecipientEnd::Temporary { to_offer: true, status, text } => {
            let since = *leg.refused_since.get_or_insert(now);
            match now.since(since) >= context.config.timers.refused_fall_back {
                true => recall(verdict, position, text),
                false => verdict.again = Some((*status, text.clone())),
            }
        }
        // The session broke: the same offer once more.
        RecipientEnd::Temporary { status, text, .. } if *status == EnhancedStatus::temporary(4, 2) => {
            verdict.again = Some((*status, text.clone()));
        }
        // Its index is refused there for as long as the hop lives.
        RecipientEnd::Temporary { text, .. } => recall(verdict, position, text),
    }
}

fn recall(verdict: &mut Verdict, position: u16, text: &str) {
    verdict.recall.push(position);
    verdict.why = text.to_owned();
}

/// These are not delegated any more: the claim of custody revokes it at the origin.
fn take_custody(plan: &mut Plan, leg: &mut Leg, positions: &[u16], why: &str, rows: &mut Rows, context: &Context<'_>) {
    let outcome = leg::outcome(Action::Relayed, EnhancedStatus::success(0, 0), RECALLED, context.now);
    let mut indexes = Vec::with_capacity(positions.len());
    for position in positions {
        if conclude(leg, *position, outcome.clone()).is_some() {
            let recipient = leg.recipients.get(usize::from(*position));
            indexes.extend(recipient.and_then(|recipient| recipient.inbound_index));
        }
    }
    note(&mut leg.steps, context.now, "recalled", why, None);
    plan.count(Count::FallBacks);
    if let Some(key) = leg.inbound.clone() {
        recall_in(plan, &key, rows, &indexes, context);
    }
}

/// Nothing can be claimed under the hop any more. Whoever has custody is the origin's to say.
pub(crate) fn let_go(leg: &mut Leg, now: Timestamp) {
    let is_over = leg.issued.iter().all(|issued| issued.expires <= now);
    for position in leg::positions(leg, |r| is_over && matches!(r.state, RecipientState::Offered(_))) {
        conclude(leg, position, leg::outcome(Action::Failed, EnhancedStatus::permanent(4, 7), LET_GO, now));
    }
}
