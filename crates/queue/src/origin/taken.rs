//! Mail that left in a bundle (TBR §7.5): the custodian says that it has it, and custody ends here.

use mail::EnhancedStatus;
use mail::ledger::{Action, Leg, RecipientState, note};

use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};
use crate::origin::end::conclude;
use crate::origin::leg;
use crate::origin::news::{self, News};
use crate::port::{CallId, Reply, TakenEntry};

const TAKEN: &str = "taken by the custodian, says a bundle";

/// What the custodian has taken.
pub(crate) struct Taken {
    pub(crate) call: CallId,
    pub(crate) entries: Vec<TakenEntry>,
}

impl Change for Taken {
    fn wants(&self) -> Wants {
        Wants::keys(self.entries.iter().map(|entry| entry.key.clone()))
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let (mut plan, mut taken) = (Plan::default(), 0);
        for entry in &self.entries {
            let Some((sheet, mut leg)) = rows.take_leg(&entry.key) else { continue };
            let in_flight = context.desk.in_flight(&sheet.key);
            let here = leg::positions(&leg, |recipient| recipient.state == RecipientState::Queued);
            // What is on the wire this very moment comes to an end of its own.
            let here: Vec<u16> = here.into_iter().filter(|position| !in_flight.contains(position)).collect();
            if here.is_empty() {
                continue;
            }
            let news = end(&mut leg, &here, entry, context);
            leg.carried = None;
            note(&mut leg.steps, context.now, "relayed", TAKEN, None);
            news::tell(&mut plan, &sheet.key, &mut leg, &news, &mut rows, context);
            leg::put(&mut plan, sheet, leg, context.now, context.config);
            taken += 1;
        }
        plan.effects.push(Effect::Reply(self.call, Reply::Taken(taken)));
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

fn end(leg: &mut Leg, here: &[u16], entry: &TakenEntry, context: &Context<'_>) -> Vec<News> {
    let one = |position: &u16| {
        let address = &leg.recipients.get(usize::from(*position))?.recipient.address;
        let failed = entry.failed.iter().find(|(failed, ..)| failed == address);
        let outcome = match failed {
            Some((_, status, text)) => leg::outcome(Action::Failed, *status, text, context.now),
            None => leg::outcome(Action::Relayed, EnhancedStatus::success(0, 0), TAKEN, context.now),
        };
        conclude(leg, *position, outcome)
    };
    here.iter().filter_map(one).collect()
}
