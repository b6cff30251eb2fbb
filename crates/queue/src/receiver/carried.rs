//! Bundles (TBR §7.5): an object that was carried here instead of being retrieved, and the word of the custodian on what a
//! bundle of ours had told it.
//!
//! Both are what a job would have brought, in another way; from there on everything is as always.

use mail::ledger::{Action, ContentFacts, Key, ObjectRef, Phase, note};

use crate::custody;
use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};
use crate::port::{CallId, ClaimAnswer, HeardEntry, Reply};
use crate::receiver::inbound;
use crate::receiver::retrieval::{hold, keep_by_rule};

/// An object for references that wait for it.
pub(crate) struct Carried {
    pub(crate) call: CallId,
    pub(crate) keys: Vec<Key>,
    pub(crate) object: ObjectRef,
    pub(crate) facts: ContentFacts,
}

impl Change for Carried {
    fn wants(&self) -> Wants {
        Wants::keys(self.keys.iter().cloned())
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let (mut plan, mut taken) = (Plan::default(), 0);
        for key in &self.keys {
            let Some((sheet, mut inbound)) = rows.take_inbound(key) else { continue };
            let is_named = inbound.xuid == self.object.xuid && inbound.size == self.object.size;
            if inbound.phase != Phase::Waiting || !is_named {
                continue;
            }
            note(&mut inbound.steps, context.now, "retrieved", "from a bundle", Some(self.object.size));
            inbound.carried = true;
            keep_by_rule(&inbound, &self.object, &mut plan, context);
            hold(&mut inbound, self.object.clone(), self.facts, &mut plan, context);
            inbound::put(&mut plan, sheet, inbound, context.now, context.config);
            taken += 1;
        }
        if taken > 0 {
            plan.batch.objects.push(self.object.clone());
        }
        plan.effects.push(Effect::Reply(self.call, Reply::Carried(taken)));
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

/// What the custodian has on disk.
pub(crate) struct Heard {
    pub(crate) call: CallId,
    pub(crate) entries: Vec<HeardEntry>,
}

impl Change for Heard {
    fn wants(&self) -> Wants {
        Wants::keys(self.entries.iter().map(|entry| entry.key.clone()))
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let (mut plan, mut news) = (Plan::default(), 0);
        for entry in &self.entries {
            let Some((sheet, mut inbound)) = rows.take_inbound(&entry.key) else { continue };
            let before: Vec<_> = inbound.recipients.iter().map(|recipient| recipient.state.clone()).collect();
            for (recipient, index) in inbound.recipients.iter_mut().zip(0_u16..) {
                if entry.claimed.contains(&index) && inbound::owes_acted(&recipient.state) {
                    recipient.state = custody::answered(recipient.state.clone(), ClaimAnswer::Granted);
                }
                for (_, action) in entry.recorded.iter().filter(|(n, action)| *n == index && *action != Action::Delayed)
                {
                    recipient.state = custody::acknowledged(recipient.state.clone(), *action);
                }
            }
            if inbound.recipients.iter().map(|recipient| &recipient.state).eq(&before) {
                continue;
            }
            inbound.unheard_since = None;
            note(&mut inbound.steps, context.now, "receipt", "recorded, says a bundle of the custodian's", None);
            inbound::put(&mut plan, sheet, inbound, context.now, context.config);
            news += 1;
        }
        plan.effects.push(Effect::Reply(self.call, Reply::Heard(news)));
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}
