//! An offer: a verified reference becomes durable before it is answered; a repeated one is recognised (TBR §3).

use mail::ledger::{Inbound, Key, Phase, Step, note};

use crate::custody;
use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Sheet, Wants};
use crate::port::{CallId, OfferAnswer, Reply};
use crate::receiver::{delegate, inbound};
use crate::stats::Count;

/// A peer offers a verified reference.
pub(crate) struct Offer {
    pub(crate) call: CallId,
    pub(crate) inbound: Box<Inbound>,
}

impl Offer {
    pub(crate) fn key(&self) -> Key {
        Key::Inbound(self.inbound.i, self.inbound.d.clone())
    }
}

impl Change for Offer {
    fn wants(&self) -> Wants {
        Wants::keys([self.key()])
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        match rows.take_inbound(&self.key()) {
            None => self.begin(context),
            Some((_, known)) if known.fingerprint != self.inbound.fingerprint => {
                Plan::only(Effect::Reply(self.call, Reply::Offer(OfferAnswer::Mismatch)))
            }
            Some((sheet, known)) => self.repeat(sheet, known, context),
        }
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

impl Offer {
    fn begin(&self, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let mut inbound = self.inbound.clone();
        inbound.hops = delegate::hops(&inbound, context);
        let phase = if inbound.hops.is_empty() { Phase::Waiting } else { Phase::Delegating };
        inbound::enter(&mut inbound, phase, context.now);
        let detail = format!("reference {} of {} for {} octets", inbound.i, inbound.d, inbound.size);
        // What was found of it by now stands behind what it was found of, and at no earlier time.
        let found = std::mem::take(&mut inbound.steps);
        note(&mut inbound.steps, context.now, "offered", detail, None);
        inbound.steps.extend(found.into_iter().map(|step| Step { at: context.now, ..step }));
        let answer = OfferAnswer::Pending(inbound.queue_id.clone());
        // One of which nobody here takes anything is only remembered.
        inbound::put(&mut plan, Sheet::new(self.key()), inbound, context.now, context.config);
        plan.count(Count::OffersReceived);
        plan.effects.push(Effect::Reply(self.call, Reply::Offer(answer)));
        plan
    }

    /// The same again: the origin waits for something, so whatever is owed is tried at once.
    fn repeat(&self, sheet: Sheet, mut known: Box<Inbound>, context: &Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let id = known.queue_id.clone();
        let here = inbound::is_all_here(&known, &self.inbound);
        let is_refused = known.refusal.is_some();
        for recipient in &mut known.recipients {
            recipient.state = custody::asked_again(recipient.state.clone());
        }
        inbound::try_now(&mut known, context.now);
        note(&mut known.steps, context.now, "offered", "the same once more", None);
        inbound::put(&mut plan, sheet, known, context.now, context.config);
        let answer = match here {
            Some(true) => OfferAnswer::Done(id),
            Some(false) => OfferAnswer::Claimed(id),
            None if is_refused => OfferAnswer::Refused(id),
            None => OfferAnswer::StillPending(id),
        };
        plan.effects.push(Effect::Reply(self.call, Reply::Offer(answer)));
        plan
    }
}
