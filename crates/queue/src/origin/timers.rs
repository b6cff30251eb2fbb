//! What a leg does when a clock runs out: expiry, fall back, the delayed report, telling who holds a message.

use mail::ledger::{Action, Key, Leg, RecipientState, note};
use mail::{EnhancedStatus, Timestamp};

use crate::config::{QueueConfig, ReferenceMode};
use crate::custody::{self, turn};
use crate::flow::{Change, Context, Otherwise, Plan, Rows, Wants};
use crate::origin::end::conclude;
use crate::origin::leg;
use crate::origin::news::{self, Kind, News};
use crate::origin::onward;

const TOO_LATE: &str = "the message could not be delivered in time";
const UNCLAIMED: &str = "the reference expired before it was claimed";
const DELAYED: &str = "the message has not been delivered yet; it will be tried again";

/// A leg is due for something other than an attempt.
pub(crate) struct Clock {
    pub(crate) key: Key,
    pub(crate) inbound: Option<Key>,
}

impl Change for Clock {
    fn wants(&self) -> Wants {
        Wants::keys(std::iter::once(&self.key).chain(&self.inbound).cloned())
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some((sheet, mut leg)) = rows.take_leg(&self.key) else { return plan };
        let news = advance(&mut leg, context.now, context.config);
        news::tell(&mut plan, &sheet.key, &mut leg, &news, &mut rows, context);
        leg::put(&mut plan, sheet, leg, context.now, context.config);
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}

/// Applies every clock that has run out by now. Afterwards the next one lies in the future.
pub(crate) fn advance(leg: &mut Leg, now: Timestamp, config: &QueueConfig) -> Vec<News> {
    let mut news = Vec::new();
    if leg.delegated {
        onward::let_go(leg, now);
        return news;
    }
    for position in leg::positions(leg, |_| true) {
        news.extend(advance_recipient(leg, position, now, config));
    }
    news.extend(report_delay(leg, now, config));
    news
}

fn advance_recipient(leg: &mut Leg, position: u16, now: Timestamp, config: &QueueConfig) -> Option<News> {
    let timers = &config.timers;
    match leg.recipients.get(usize::from(position))?.state.clone() {
        RecipientState::Queued if !leg.held && leg.expires <= now => expire(leg, position, TOO_LATE, now),
        RecipientState::Offered(offered) if leg::reference_end(leg, &offered.reference, timers) <= now => {
            if leg.expires > now {
                change(leg, position, |state| custody::win_back(state, offered.reference));
                return None;
            }
            expire(leg, position, UNCLAIMED, now)
        }
        RecipientState::Offered(offered) if !offered.closed && !leg.held && !leg::is_for_site(leg) => {
            let unclaimed = offered.accepted.is_some_and(|at| at.after(timers.unclaimed_fall_back) <= now);
            if unclaimed {
                fall_back(leg, position, now, config);
            }
            None
        }
        RecipientState::Claimed(claim) if !claim.told && leg::overdue(leg, &claim.reference, timers) <= now => {
            tell_who_holds(leg, position, now)
        }
        _ => None,
    }
}

fn change(leg: &mut Leg, position: u16, transition: impl FnOnce(RecipientState) -> (RecipientState, bool)) {
    if let Some(recipient) = leg.recipients.get_mut(usize::from(position)) {
        turn(&mut recipient.state, transition);
    }
}

fn expire(leg: &mut Leg, position: u16, why: &str, now: Timestamp) -> Option<News> {
    let outcome = leg::outcome(Action::Failed, EnhancedStatus::permanent(4, 7), why, now);
    conclude(leg, position, outcome)
}

/// 250, and then nobody claimed for too long: win the record and ask once more, or where policy insists only ask.
fn fall_back(leg: &mut Leg, position: u16, now: Timestamp, config: &QueueConfig) {
    match leg::mode(leg, position, config) {
        ReferenceMode::Require => change(leg, position, custody::ask_again),
        ReferenceMode::Prefer | ReferenceMode::Never => change(leg, position, custody::close),
    }
    leg.next_attempt = now;
    note(&mut leg.steps, now, "unclaimed", format!("recipient {position}: the peer is asked once more"), None);
}

fn tell_who_holds(leg: &mut Leg, position: u16, now: Timestamp) -> Option<News> {
    let recipient = leg.recipients.get_mut(usize::from(position))?;
    let RecipientState::Claimed(claim) = &mut recipient.state else { return None };
    claim.told = true;
    let id = claim.reference;
    let at = claim.at.to_rfc3339();
    let host = leg::issued(leg, &id)?.to.clone();
    let text = format!("{host} took the message over at {at}, and has not said what became of it");
    let outcome = leg::outcome(Action::Delayed, EnhancedStatus::temporary(4, 7), &text, now);
    Some(News::new(position, Kind::Held, outcome))
}

fn report_delay(leg: &mut Leg, now: Timestamp, config: &QueueConfig) -> Vec<News> {
    let due = config.timers.delay_report.is_some_and(|delay| leg.accepted.after(delay) <= now);
    if leg.delay_reported || leg.held || leg::takes_its_time(leg) || !due {
        return Vec::new();
    }
    let waiting = leg::positions(leg, |r| leg::is_here(&r.state));
    leg.delay_reported = !waiting.is_empty();
    let outcome = leg::outcome(Action::Delayed, EnhancedStatus::temporary(4, 7), DELAYED, now);
    waiting.into_iter().map(|position| News::new(position, Kind::Delayed, outcome.clone())).collect()
}
