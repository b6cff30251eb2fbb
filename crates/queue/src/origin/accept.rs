//! Accepting a message by value: recipients become legs, one for each route and hundred recipients, and legs and
//! content become durable in one commit.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use mail::ledger::{
    HoldOrder, Key, Leg, LegRecipient, MAX_LEG_RECIPIENTS, ObjectRef, RecipientState, Route, Source, Target, note,
};
use mail::{Address, QueueId, Recipient, Timestamp};

use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Sheet, Wants};
use crate::origin::leg;
use crate::port::{Acceptance, CallId, Reply};
use crate::receiver::inbound;
use crate::remembered::Remembered;
use crate::stats::Count;

/// A message wants in.
pub(crate) struct Accept {
    pub(crate) call: CallId,
    pub(crate) acceptance: Box<Acceptance>,
}

impl Change for Accept {
    fn wants(&self) -> Wants {
        Wants::keys(self.acceptance.once.iter().map(Remembered::key))
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let acceptance = &self.acceptance;
        // A recipient that leads nowhere would be lost: the session has not done its work.
        if acceptance.recipients.is_empty() || acceptance.recipients.iter().any(|(_, targets)| targets.is_empty()) {
            return Plan::only(Effect::Reply(self.call, Reply::Unavailable));
        }
        if acceptance.once.as_ref().is_some_and(|once| rows.take(&once.key()).is_some()) {
            return Plan::only(Effect::Reply(self.call, Reply::Repeated));
        }
        let mut plan = Plan::default();
        put_legs(acceptance, &mut plan, context);
        if let Some(once) = acceptance.once.clone() {
            remember(once, &mut plan, context);
        }
        plan.count(Count::MessagesAccepted);
        plan.effects.push(Effect::Reply(self.call, Reply::Accepted));
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

fn remember(once: Remembered, plan: &mut Plan, context: &Context<'_>) {
    let sheet = Sheet::new(once.key());
    let mut memory = Box::new(once.row(context.now));
    note(&mut memory.steps, context.now, "taken", format!("{} octets by value, once", memory.size), None);
    inbound::put(plan, sheet, memory, context.now, context.config);
}

/// Puts the legs of a message into the plan, with its content.
pub(crate) fn put_legs(acceptance: &Acceptance, plan: &mut Plan, context: &Context<'_>) {
    plan.batch.objects.push(acceptance.object.clone());
    hold_by_rule(acceptance, plan, context);
    for ((route, recipients), number) in by_route(&acceptance.recipients).into_iter().zip(0u32..) {
        let sheet = Sheet::new(Key::Leg(acceptance.queue_id.clone(), number));
        let leg = new_leg(acceptance, route, recipients, context);
        leg::put(plan, sheet, leg, context.now, context.config);
    }
}

/// In the commit that accepts it: there is no moment in which it could be gone.
fn hold_by_rule(acceptance: &Acceptance, plan: &mut Plan, context: &Context<'_>) {
    let account = match &acceptance.source {
        Source::Submission(account) => Some(account.as_str()),
        _ => None,
    };
    let recipients = acceptance.recipients.iter().filter_map(|(recipient, _)| recipient.address.domain());
    let domains = acceptance.mail_from.as_ref().and_then(Address::domain).into_iter().chain(recipients);
    let Some(period) = context.config.holds.of(account, domains) else { return };
    let (object, id) = (acceptance.object.clone(), acceptance.queue_id.clone());
    plan.batch.holds.push(by_rule(object, id, context.now, period));
}

/// An order that follows from the configuration.
pub(crate) fn by_rule(object: ObjectRef, id: QueueId, at: Timestamp, period: Duration) -> HoldOrder {
    HoldOrder { object, id, until: Some(at.after(period)), why: "by the configuration".to_owned(), at }
}

fn new_leg(acceptance: &Acceptance, route: Route, recipients: Vec<LegRecipient>, context: &Context<'_>) -> Box<Leg> {
    let now = context.now;
    let mut steps = Vec::with_capacity(4);
    note(&mut steps, now, "accepted", format!("{} octets", acceptance.object.size), Some(acceptance.object.size));
    let prefix = match is_forwarded(&route, &recipients) {
        true => [acceptance.seal.as_str(), &acceptance.prefix].concat(),
        false => acceptance.prefix.clone(),
    };
    Box::new(Leg {
        expires: now.after(leg::lifetime(&route, &context.config.timers)),
        route,
        mail_from: acceptance.mail_from.clone(),
        params: acceptance.params.clone(),
        recipients,
        object: Some(acceptance.object.clone()),
        facts: acceptance.facts,
        prefix,
        issued: Vec::new(),
        inbound: None,
        source: acceptance.source.clone(),
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

/// Does an alias of ours lead to other servers here?
pub(crate) fn is_forwarded(route: &Route, recipients: &[LegRecipient]) -> bool {
    leg::is_smtp(route) && recipients.iter().any(|recipient| recipient.original.is_some())
}

/// Groups of recipients with one destination, in the order in which destinations first appear. An address that two
/// recipients lead to is served once.
fn by_route(recipients: &[(Recipient, Vec<Target>)]) -> Vec<(Route, Vec<LegRecipient>)> {
    let mut groups: Vec<(Route, Vec<LegRecipient>)> = Vec::new();
    let mut open: HashMap<&Route, usize> = HashMap::new();
    let mut seen: HashSet<(&Route, &Address)> = HashSet::new();
    let pairs =
        recipients.iter().flat_map(|(recipient, targets)| targets.iter().map(move |target| (recipient, target)));
    for (recipient, target) in pairs.filter(|(_, target)| seen.insert((&target.route, &target.address))) {
        let leg_recipient = leg_recipient(recipient, target);
        let room = open.get(&target.route).and_then(|place| groups.get_mut(*place));
        match room.filter(|(_, group)| group.len() < MAX_LEG_RECIPIENTS) {
            Some((_, group)) => group.push(leg_recipient),
            None => {
                open.insert(&target.route, groups.len());
                groups.push((target.route.clone(), vec![leg_recipient]));
            }
        }
    }
    groups.iter_mut().for_each(|(_, recipients)| recipients.shrink_to_fit());
    groups
}

/// A recipient as one of its destinations sees it.
pub(crate) fn leg_recipient(recipient: &Recipient, target: &Target) -> LegRecipient {
    let original = (target.address != recipient.address).then(|| recipient.address.clone());
    let recipient = Recipient { address: target.address.clone(), ..recipient.clone() };
    LegRecipient { recipient, original, inbound_index: None, state: RecipientState::Queued }
}
