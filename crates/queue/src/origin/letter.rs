//! A custodian takes a message of its site's (TBR §7.4, §7.5): once, however often it comes.
//!
//! Message and memory are one commit: there is no moment in which one is there without the other, so that neither a power cut nor what
//! is forgotten of the message later makes it new again.

use mail::ledger::{Source, note};
use reference::bundle::TakenEntry;

use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Sheet, Wants};
use crate::letters::{Taking, told};
use crate::origin::accept;
use crate::port::{Acceptance, CallId, Reply};
use crate::receiver::inbound;
use crate::stats::Count;

/// A message of a site's has come.
pub(crate) struct Take {
    pub(crate) call: CallId,
    pub(crate) taking: Box<Taking>,
}

impl Change for Take {
    fn wants(&self) -> Wants {
        Wants::keys([self.taking.letter.key()])
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let letter = &self.taking.letter;
        match rows.take_inbound(&letter.key()) {
            None => self.begin(context),
            Some((_, known)) => Plan::only(self.answer(told(&known, &letter.site), false)),
        }
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

impl Take {
    fn begin(&self, context: &Context<'_>) -> Plan {
        let (mut plan, taking) = (Plan::default(), &self.taking);
        // A recipient that leads nowhere would be lost: the edge has not done its work.
        if taking.recipients.iter().any(|(_, targets)| targets.is_empty()) {
            return Plan::only(self.answer(None, false));
        }
        let goes_on = !taking.recipients.is_empty();
        if goes_on {
            accept::put_legs(&self.acceptance(), &mut plan, context);
            plan.count(Count::MessagesAccepted);
        }
        let mut memory = Box::new(taking.memory(context.now));
        let answer = self.answer(told(&memory, &taking.letter.site), goes_on);
        let detail = format!("{} octets of {}, once", taking.letter.size, taking.letter.site);
        note(&mut memory.steps, context.now, "taken", detail, None);
        inbound::put(&mut plan, Sheet::new(taking.letter.key()), memory, context.now, context.config);
        plan.effects.push(answer);
        plan
    }

    fn answer(&self, told: Option<TakenEntry>, is_kept: bool) -> Effect {
        Effect::Reply(self.call, told.map_or(Reply::Unavailable, |told| Reply::Letter { told, is_kept }))
    }

    fn acceptance(&self) -> Acceptance {
        let Taking { letter, object, facts, prefix, recipients, .. } = &*self.taking;
        Acceptance {
            queue_id: letter.queue_id(),
            mail_from: letter.mail_from.clone(),
            params: letter.params.clone(),
            recipients: recipients.clone(),
            object: object.clone(),
            facts: *facts,
            prefix: prefix.clone(),
            seal: String::new(),
            source: Source::Relay,
            once: None,
        }
    }
}
