//! An offer: a verified reference becomes durable before it is answered; a repeated one is recognised (TBR §3).

use mail::ledger::{Inbound, Key, Phase, Row, RowBody, note};

use crate::custody;
use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Sheet, Wants};
use crate::port::{CallId, OfferAnswer, Reply};
use crate::receiver::inbound;
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
    fn begin(&self, context: &Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let mut inbound = self.inbound.clone();
        inbound::enter(&mut inbound, Phase::Waiting, context.now);
        let detail = format!("reference {} of {} for {} octets", inbound.i, inbound.d, inbound.size);
        note(&mut inbound.steps, context.now, "offered", detail, None);
        let answer = OfferAnswer::Pending(inbound.queue_id.clone());
        let row = Row { due: Some(context.now), ..Sheet::new(self.key()).with(RowBody::Inbound(inbound)) };
        plan.batch.put.push(row);
        plan.count(Count::OffersReceived);
        plan.effects.push(Effect::Reply(self.call, Reply::Offer(answer)));
        plan
    }

    /// The same again: the origin waits for something, so whatever is owed is tried at once.
    fn repeat(&self, sheet: Sheet, mut known: Box<Inbound>, context: &Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let id = known.queue_id.clone();
        let here = inbound::is_all_here(&known, &self.inbound);
        for recipient in &mut known.recipients {
            recipient.state = custody::asked_again(recipient.state.clone());
        }
        known.next_attempt = context.now;
        note(&mut known.steps, context.now, "offered", "the same once more", None);
        inbound::put(&mut plan, sheet, known, context.now, context.config);
        let answer = match here {
            Some(true) => OfferAnswer::Done(id),
            Some(false) => OfferAnswer::Claimed(id),
            None => OfferAnswer::StillPending(id),
        };
        plan.effects.push(Effect::Reply(self.call, Reply::Offer(answer)));
        plan
    }
}
