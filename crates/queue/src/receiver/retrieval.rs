//! Getting the object: from what is held already, or by retrieval, one for all who want it.

use mail::ledger::{Action, ContentFacts, Inbound, Key, ObjectRef, Phase, Row, RowBody, by_held_object, note};
use mail::object::IN_A_LOOP;
use mail::{Address, EnhancedStatus, Timestamp};
use reference::Block;

use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};
use crate::origin::accept::by_rule;
use crate::origin::leg;
use crate::port::RetrieveFailure;
use crate::receiver::inbound;
use crate::stats::Count;

/// Is the client that brought this looked at once more before anything is fetched? It may stand on a list by now.
pub(crate) fn is_looked_at_again(inbound: &Inbound) -> bool {
    inbound.client.is_some() && inbound.not_before.is_some()
}

/// A reference is due for retrieval: is its object here already, from the same origin?
pub(crate) struct Borrow {
    pub(crate) key: Key,
    pub(crate) held: String,
}

impl Borrow {
    pub(crate) fn new(key: Key, inbound: &Inbound) -> Self {
        Self { key, held: by_held_object(&inbound.d, &inbound.xuid) }
    }
}

impl Change for Borrow {
    fn wants(&self) -> Wants {
        Wants { keys: vec![self.key.clone()], alternates: vec![self.held.clone()] }
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let Some((sheet, mut inbound)) = rows.take_inbound(&self.key) else { return Plan::default() };
        if inbound.phase != Phase::Waiting {
            return Plan::default();
        }
        let Some((object, facts)) = rows.into_all().iter().find_map(lends) else {
            return Plan::only(Effect::Retrieve(Box::new(sheet.with(RowBody::Inbound(inbound)))));
        };
        let mut plan = Plan::default();
        // Should everybody have let go of the object meanwhile, this commit is refused.
        note(&mut inbound.steps, context.now, "retrieved", "the object was here already", Some(0));
        keep_by_rule(&inbound, &object, &mut plan, context);
        hold(&mut inbound, object, facts, &mut plan, context);
        inbound::put(&mut plan, sheet, inbound, context.now, context.config);
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}

fn lends(row: &Row) -> Option<(ObjectRef, ContentFacts)> {
    let RowBody::Inbound(inbound) = &row.body else { return None };
    Some((inbound.object.clone()?, inbound.facts?))
}

/// Legal hold by the configuration, in the commit that brings the object.
pub(crate) fn keep_by_rule(inbound: &Inbound, object: &ObjectRef, plan: &mut Plan, context: &Context<'_>) {
    let domains = std::iter::once(inbound.to.clone()).chain(inbound.mail_from.as_ref().and_then(Address::domain));
    if let Some(period) = context.config.holds.of(None, domains) {
        plan.batch.holds.push(by_rule(object.clone(), inbound.queue_id.clone(), context.now, period));
    }
}

/// The object is here. From now on it may be claimed, but never first after `e`; where there is something to judge, not
/// before that is done. One that is in a loop is claimed only to say so; others that share its object may have fewer
/// hops.
pub(crate) fn hold(
    inbound: &mut Inbound,
    object: ObjectRef,
    facts: ContentFacts,
    plan: &mut Plan,
    context: &Context<'_>,
) {
    inbound.object = Some(object);
    inbound.facts = Some(facts);
    if servers_passed(inbound, facts) > context.config.limits.hops {
        let (status, text) = IN_A_LOOP;
        note(&mut inbound.steps, context.now, "refused", text, None);
        refuse(inbound, status, text, context.now);
        plan.count(Count::ContentsRefused);
    } else if inbound.evidence.is_some() {
        inbound::enter(inbound, Phase::Held, context.now);
    } else {
        begin_claim(inbound, context.now);
    }
}

/// Hops by reference and Received fields together (TBR §3.4).
fn servers_passed(inbound: &Inbound, facts: ContentFacts) -> usize {
    // Only a verified block gets into a row.
    let hops = Block::parse(inbound.block.as_bytes()).map_or(0, |block| block.chain().hops().len());
    hops.saturating_add(usize::try_from(facts.received_fields).unwrap_or(usize::MAX))
}

/// Nobody here gets it: the claim will say why. There is nothing to judge any more.
fn refuse(inbound: &mut Inbound, status: EnhancedStatus, text: &str, now: Timestamp) {
    inbound.evidence = None;
    inbound.refusal = Some(leg::outcome(Action::Failed, status, text, now));
    begin_claim(inbound, now);
}

/// Records that a claim is about to be sent, before it is; or lets go when it is too late for that.
pub(crate) fn begin_claim(inbound: &mut Inbound, now: Timestamp) {
    if now <= inbound.expires {
        inbound::enter(inbound, Phase::Claiming { first_sent: now }, now);
    } else {
        inbound::give_up(inbound, now);
    }
}

/// An object has arrived for these references.
pub(crate) struct Retrieved {
    pub(crate) keys: Vec<Key>,
    pub(crate) object: ObjectRef,
    pub(crate) facts: ContentFacts,
    pub(crate) octets: u64,
}

impl Change for Retrieved {
    fn wants(&self) -> Wants {
        Wants::keys(self.keys.iter().cloned())
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        plan.batch.objects.push(self.object.clone());
        let mut octets = Some(self.octets);
        for key in &self.keys {
            let Some((sheet, mut inbound)) = rows.take_inbound(key) else { continue };
            if inbound.phase != Phase::Waiting {
                // It was carried here meanwhile.
                plan.effects.push(Effect::Consider(Box::new(sheet.with(RowBody::Inbound(inbound)))));
                continue;
            }
            let share = if octets.is_some() { "from the repository" } else { "together with another reference" };
            note(&mut inbound.steps, context.now, "retrieved", share, octets.take());
            keep_by_rule(&inbound, &self.object, &mut plan, context);
            hold(&mut inbound, self.object.clone(), self.facts, &mut plan, context);
            inbound::put(&mut plan, sheet, inbound, context.now, context.config);
        }
        plan.count(Count::ObjectsRetrieved);
        plan.stats.add(Count::OctetsRetrieved, self.octets);
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}

/// A retrieval has failed for this reference.
pub(crate) struct NotRetrieved {
    pub(crate) key: Key,
    pub(crate) failure: RetrieveFailure,
    pub(crate) text: String,
    pub(crate) jitter: u32,
}

impl Change for NotRetrieved {
    fn wants(&self) -> Wants {
        Wants::keys([self.key.clone()])
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some((sheet, mut inbound)) = rows.take_inbound(&self.key) else { return plan };
        if inbound.phase != Phase::Waiting {
            return Plan::only(Effect::Consider(Box::new(sheet.with(RowBody::Inbound(inbound)))));
        }
        note(&mut inbound.steps, context.now, "not-retrieved", self.text.clone(), None);
        match self.failure {
            // 404 says nothing: the origin may be restoring a backup. `e` ends the patience.
            RetrieveFailure::Temporary
            | RetrieveFailure::Interrupted
            | RetrieveFailure::NotMade
            | RetrieveFailure::NotFound => {
                if self.failure == RetrieveFailure::Interrupted {
                    inbound.attempts = 0;
                }
                inbound::pause(&mut inbound, self.jitter, context.now, context.config);
            }
            RetrieveFailure::Gone => inbound::give_up(&mut inbound, context.now),
            RetrieveFailure::Corrupt | RetrieveFailure::Refused => {
                let is_corrupt = self.failure == RetrieveFailure::Corrupt;
                let status = EnhancedStatus::permanent(7, if is_corrupt { 7 } else { 1 });
                refuse(&mut inbound, status, &self.text, context.now);
            }
        }
        plan.count(Count::RetrievalsFailed);
        inbound::put(&mut plan, sheet, inbound, context.now, context.config);
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}
