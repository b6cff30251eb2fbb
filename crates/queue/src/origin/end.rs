//! What the end of a delivery attempt means for its leg.

use mail::ledger::{Action, Key, Leg, Outcome, RecipientState, note};
use mail::{EnhancedStatus, ReferenceId, Timestamp};

use crate::config::ReferenceMode;
use crate::custody::{self, turn};
use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};
use crate::origin::leg;
use crate::origin::news::{self, Kind, News};
use crate::origin::onward;
use crate::port::{DeliveryEnd, RecipientEnd};
use crate::stats::Count;
use crate::told;
use crate::work::Mode;

const NO_WORD: &str = "the session ended without a word on this recipient";

/// An attempt has ended. Whoever was claimed, withdrawn or reported meanwhile stays so.
pub(crate) struct Ended {
    pub(crate) key: Key,
    pub(crate) inbound: Option<Key>,
    pub(crate) mode: Mode,
    pub(crate) end: DeliveryEnd,
    /// The peer writes reports of success itself.
    pub(crate) peer_reports: bool,
    /// Spreads the next try.
    pub(crate) jitter: u32,
}

impl Change for Ended {
    fn wants(&self) -> Wants {
        Wants::keys(std::iter::once(&self.key).chain(&self.inbound).cloned())
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some((sheet, mut leg)) = rows.take_leg(&self.key) else { return plan };
        if leg.delegated {
            return onward::ended(self, (sheet, leg), &mut rows, context);
        }
        let was_by_value = leg.by_value;
        let result = self.judge(&mut leg, context);
        if let Some((status, why)) = &result.again {
            let delay = leg::pause(&leg, self.jitter, context.config);
            leg::defer(&mut leg, why, context.now, delay);
            plan.count(Count::Deferred);
            plan.effects.extend(self.deferred(&leg, (*status, why), context.now));
        }
        plan.stats.add(Count::OffersTaken, result.offers_taken);
        plan.stats.add(Count::FallBacks, u64::from(leg.by_value && !was_by_value));
        news::tell(&mut plan, &sheet.key, &mut leg, &result.news, &mut rows, context);
        leg::put(&mut plan, sheet, leg, context.now, context.config);
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}

/// What an attempt brought.
#[derive(Default)]
struct Verdict {
    news: Vec<News>,
    /// Why somebody has to be tried again after a pause.
    again: Option<(EnhancedStatus, String)>,
    offers_taken: u64,
}

impl Ended {
    /// For the log: somebody is tried again.
    pub(crate) fn deferred(&self, leg: &Leg, why: (EnhancedStatus, &str), now: Timestamp) -> Option<Effect> {
        let peer = match &self.end {
            DeliveryEnd::Transaction { peer, .. } => Some(peer.as_str()),
            DeliveryEnd::Unreachable { .. } | DeliveryEnd::Interrupted { .. } | DeliveryEnd::Impossible { .. } => None,
        };
        let told = told::deferred(&self.key, leg, &leg::open(leg, now), why, peer, now);
        told.map(|told| Effect::Tell(Box::new(told)))
    }

    fn judge(&self, leg: &mut Leg, context: &Context<'_>) -> Verdict {
        let now = context.now;
        match (&self.end, &self.mode) {
            (DeliveryEnd::Interrupted { text, status }, _) => {
                leg.attempts = 0;
                Verdict { again: Some((*status, text.clone())), ..Verdict::default() }
            }
            (DeliveryEnd::Unreachable { text, status }, _) => {
                Verdict { again: Some((*status, text.clone())), ..Verdict::default() }
            }
            (DeliveryEnd::Impossible { text, status }, _) => {
                Verdict { news: fail_all(leg, *status, text, now), ..Verdict::default() }
            }
            (_, Mode::Postponed(status, why)) => {
                Verdict { again: Some((*status, format!("{status} {why}"))), ..Verdict::default() }
            }
            (_, Mode::Idle) => Verdict::default(),
            (DeliveryEnd::Transaction { outcomes, peer, octets, .. }, Mode::Offer(id)) => {
                note(&mut leg.steps, now, "offered", format!("to {peer}"), Some(*octets));
                self.judge_offer(leg, id, outcomes, context)
            }
            (
                DeliveryEnd::Transaction { outcomes, peer, octets, .. },
                Mode::ByValue(tried) | Mode::Undecided(tried),
            ) => {
                note(&mut leg.steps, now, "sent", format!("to {peer}"), Some(*octets));
                self.judge_by_value(leg, tried, outcomes, peer, now)
            }
        }
    }

    fn judge_by_value(
        &self,
        leg: &mut Leg,
        tried: &[u16],
        outcomes: &[(u16, RecipientEnd)],
        peer: &str,
        now: Timestamp,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        for position in tried {
            let end = outcomes.iter().find(|(p, _)| p == position).map(|(_, end)| end);
            let outcome = match end {
                Some(RecipientEnd::Accepted { final_delivery, text }) => success(*final_delivery, text, now),
                Some(RecipientEnd::Permanent { status, text, .. }) => leg::outcome(Action::Failed, *status, text, now),
                Some(RecipientEnd::Temporary { status, text, .. }) => {
                    verdict.again = Some((*status, format!("{status} {text}")));
                    continue;
                }
                None => {
                    verdict.again = no_word();
                    continue;
                }
            };
            if let Some(mut news) = conclude(leg, *position, outcome) {
                news.reported_by_peer = self.peer_reports && news.outcome.action == Action::Relayed;
                news.peer = Some(peer.to_owned());
                verdict.news.push(news);
            }
        }
        verdict
    }

    fn judge_offer(
        &self,
        leg: &mut Leg,
        id: &ReferenceId,
        outcomes: &[(u16, RecipientEnd)],
        context: &Context<'_>,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let waiting = leg::positions(leg, |r| matches!(&r.state, RecipientState::Offered(o) if o.reference == *id));
        for position in waiting {
            match outcomes.iter().find(|(p, _)| *p == position) {
                Some((_, end)) => judge_offered(leg, id, position, end, &mut verdict, context),
                None => verdict.again = no_word(),
            }
        }
        verdict
    }
}

/// What the reply to an offer means for one recipient whose index is still open (TBR §8).
fn judge_offered(
    leg: &mut Leg,
    id: &ReferenceId,
    position: u16,
    end: &RecipientEnd,
    verdict: &mut Verdict,
    context: &Context<'_>,
) {
    let now = context.now;
    let insists = leg::mode(leg, position, context.config) == ReferenceMode::Require;
    let Some(recipient) = leg.recipients.get_mut(usize::from(position)) else { return };
    let state = &mut recipient.state;
    let closed = matches!(state, RecipientState::Offered(o) if o.closed);
    match end {
        RecipientEnd::Accepted { final_delivery: true, text } => {
            let claimed = turn(state, |state| custody::claimed_by_reply(state, *id, now));
            verdict.news.extend(claimed.then(|| news::passed_on(leg, position, now)).flatten());
            note(&mut leg.steps, now, "claimed", format!("by the reply: {text}"), None);
        }
        RecipientEnd::Accepted { .. } if closed => {
            turn(state, |state| custody::win_back(state, *id));
            leg::go_by_value(leg, "nobody has claimed it in time", now);
        }
        RecipientEnd::Accepted { .. } => {
            turn(state, |state| custody::accepted(state, *id, now));
            leg.refused_since = None;
            verdict.offers_taken += 1;
        }
        RecipientEnd::Permanent { to_offer: true, text, .. } if closed || !insists => {
            turn(state, |state| custody::win_back(state, *id));
            leg::go_by_value(leg, text, now);
        }
        RecipientEnd::Permanent { status, text, .. } => {
            let outcome = leg::outcome(Action::Failed, *status, text, now);
            verdict.news.extend(conclude(leg, position, outcome));
        }
        RecipientEnd::Temporary { to_offer: true, status, text } => {
            put_off_offer(leg, id, position, (*status, text), verdict, context);
        }
        RecipientEnd::Temporary { status, text, .. } => {
            // Its index closes here and now: the next offer of it is another reference.
            turn(state, |state| custody::win_back(state, *id));
            leg.by_value |= closed;
            verdict.again = Some((*status, format!("{status} {text}")));
        }
    }
}

fn no_word() -> Option<(EnhancedStatus, String)> {
    Some((EnhancedStatus::temporary(4, 2), NO_WORD.to_owned()))
}

/// 4yz to TBR: the same offer again later, by value after an hour of it.
fn put_off_offer(
    leg: &mut Leg,
    id: &ReferenceId,
    position: u16,
    (status, text): (EnhancedStatus, &str),
    verdict: &mut Verdict,
    context: &Context<'_>,
) {
    let (now, config) = (context.now, context.config);
    let since = *leg.refused_since.get_or_insert(now);
    let long = now.since(since) >= config.timers.refused_fall_back;
    let insists = leg::mode(leg, position, config) == ReferenceMode::Require;
    let Some(recipient) = leg.recipients.get_mut(usize::from(position)) else { return };
    let closed = matches!(&recipient.state, RecipientState::Offered(o) if o.closed);
    if closed || (long && !insists) {
        turn(&mut recipient.state, |state| custody::win_back(state, *id));
        leg::go_by_value(leg, text, now);
    } else {
        verdict.again = Some((status, text.to_owned()));
    }
}

fn success(final_delivery: bool, text: &str, now: Timestamp) -> Outcome {
    let action = if final_delivery { Action::Delivered } else { Action::Relayed };
    leg::outcome(action, EnhancedStatus::success(0, 0), text, now)
}

/// Gives a recipient its outcome, if custody is still here.
pub(crate) fn conclude(leg: &mut Leg, position: u16, outcome: Outcome) -> Option<News> {
    let recipient = leg.recipients.get_mut(usize::from(position))?;
    let mattered = turn(&mut recipient.state, |state| custody::conclude(state, outcome.clone()));
    mattered.then(|| News::new(position, Kind::Final, outcome))
}

fn fail_all(leg: &mut Leg, status: EnhancedStatus, text: &str, now: Timestamp) -> Vec<News> {
    let open = leg::open(leg, now);
    let outcome = leg::outcome(Action::Failed, status, text, now);
    open.into_iter().filter_map(|position| conclude(leg, position, outcome.clone())).collect()
}
