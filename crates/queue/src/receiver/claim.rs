//! Claims: what is posted, and what the answers mean (TBR §6).

use mail::Timestamp;
use mail::ledger::{Inbound, IndexState, Key, Phase, note};

use crate::custody;
use crate::flow::{Change, Context, Otherwise, Plan, Rows, Wants};
use crate::port::{ClaimAnswer, ClaimEntry};
use crate::receiver::handover;
use crate::receiver::inbound;
use crate::receiver::timers;

/// The claim of a reference as it stands: every open index, or those that were acted on without an answer.
pub(crate) fn entry(inbound: &Inbound) -> ClaimEntry {
    let acted = inbound.phase == Phase::Working;
    let wanted = |state: &IndexState| if acted { inbound::owes_acted(state) } else { *state == IndexState::Open };
    let indexes: Vec<u16> = indexes(inbound, wanted);
    let refused = inbound.refusal.iter().filter(|_| !acted);
    let failed = refused.flat_map(|outcome| indexes.iter().map(move |n| (*n, outcome.clone()))).collect();
    ClaimEntry { to: inbound.to.clone(), id: inbound.i, grant: inbound.grant.clone(), indexes, failed, acted }
}

/// Indexes in a state.
pub(crate) fn indexes(inbound: &Inbound, wanted: impl Fn(&IndexState) -> bool) -> Vec<u16> {
    let numbered = inbound.recipients.iter().zip(0u16..);
    numbered.filter(|(recipient, _)| wanted(&recipient.state)).map(|(_, index)| index).collect()
}

/// A post of claims has ended, for this reference with these answers.
pub(crate) struct Answered {
    pub(crate) key: Key,
    /// `None`: nothing that counts as an answer.
    pub(crate) answers: Option<Vec<(u16, ClaimAnswer)>>,
    pub(crate) text: String,
    pub(crate) jitter: u32,
}

impl Change for Answered {
    fn wants(&self) -> Wants {
        Wants::keys([self.key.clone()])
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some((sheet, mut inbound)) = rows.take_inbound(&self.key) else { return plan };
        let now = context.now;
        match &self.answers {
            Some(answers) => {
                (inbound.attempts, inbound.next_attempt, inbound.unheard_since) = (0, now, None);
                let fresh: Vec<u16> =
                    answers.iter().filter_map(|(n, answer)| take(&mut inbound, *n, *answer, now)).collect();
                note(&mut inbound.steps, now, "claimed", describe(answers), None);
                handover::make_legs(&mut plan, &mut inbound, &fresh, context);
            }
            None => {
                // Whoever acted is as unheard as whoever reports.
                if inbound.phase == Phase::Working {
                    inbound.unheard_since.get_or_insert(now);
                }
                note(&mut inbound.steps, now, "unanswered", self.text.clone(), None);
                if inbound.carried && inbound.refusal.is_none() && matches!(inbound.phase, Phase::Claiming { .. }) {
                    // There may be no link at all; and of those who could claim it, it was carried to this one.
                    timers::act(&mut plan, &mut inbound, context);
                }
            }
        }
        if inbound::task(&inbound) == Some(inbound::Task::Claim) {
            inbound::pause(&mut inbound, self.jitter, now, context.config);
        }
        inbound::put(&mut plan, sheet, inbound, now, context.config);
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}

/// Takes one answer; says if it brought custody of something to be delivered.
fn take(inbound: &mut Inbound, index: u16, answer: ClaimAnswer, now: Timestamp) -> Option<u16> {
    let refusal = inbound.refusal.clone();
    let recipient = inbound.recipients.get_mut(usize::from(index))?;
    let granted = recipient.state == IndexState::Open && answer == ClaimAnswer::Granted;
    recipient.state = custody::answered(recipient.state.clone(), answer);
    match refusal {
        _ if !granted => None,
        None => Some(index),
        Some(outcome) => {
            // The claim has carried the outcome: the origin knows it.
            let outcome = mail::ledger::Outcome { at: now, ..outcome };
            recipient.state = IndexState::Final { outcome, acknowledged: true, acted: false };
            None
        }
    }
}

fn describe(answers: &[(u16, ClaimAnswer)]) -> String {
    let words: Vec<String> = answers.iter().map(|(n, answer)| format!("{n}: {answer:?}").to_lowercase()).collect();
    words.join(", ")
}
