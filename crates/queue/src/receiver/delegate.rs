//! Passing on by reference (TBR §7.3): which recipients are delegated at the origin, what is posted, what its answer means,
//! and how custody is taken instead.
//!
//! Custody and content stay where they are. The hop is durable before it is posted, and offered onward only once the origin
//! has recorded it. Offering it is [`crate::origin::onward`]'s.

use std::collections::BTreeMap;

use mail::ledger::{
    Inbound, IndexState, Key, LegRecipient, MAX_LEG_RECIPIENTS, Offered, Phase, RecipientState, Route, Target,
    UnsentHop, note,
};
use mail::{Address, Domain, ReferenceId};

use crate::config::{QueueConfig, ReferenceMode};
use crate::custody;
use crate::flow::{Change, Context, Otherwise, Plan, Rows, Sheet, Wants};
use crate::origin::accept::leg_recipient;
use crate::origin::issue::{self, Below, Drawn};
use crate::origin::leg;
use crate::port::{ClaimAnswer, Delegating};
use crate::receiver::handover;
use crate::receiver::inbound;
use crate::receiver::retrieval::begin_claim;

/// The hops by reference with which recipients of a new reference go on, where both sides may want that.
pub(crate) fn hops(inbound: &Inbound, context: &mut Context<'_>) -> Vec<UnsentHop> {
    let (config, now) = (context.config, context.now);
    let Some(signer) = config.signers.get(&inbound.to) else { return Vec::new() };
    let below = Below::of(inbound, now, &config.timers).filter(|below| below.can_be_delegated(now, &config.timers));
    let Some(below) = below else { return Vec::new() };
    let mut hops = Vec::new();
    for ((route, to), indexes) in by_next_domain(inbound, config) {
        for some in indexes.chunks(MAX_LEG_RECIPIENTS) {
            let recipients: Vec<&Address> = some.iter().filter_map(|n| Some(&target(inbound, *n)?.address)).collect();
            let (drawn, onward) = (Drawn::draw(context.random), (&to, recipients.as_slice()));
            // Without a hop its recipients are taken into custody.
            let made = issue::hop_by_reference(signer, &below, onward, &inbound.uri, drawn, now, &config.timers);
            hops.extend(made.ok().map(|issued| UnsentHop { route: route.clone(), issued, map: some.to_vec() }));
        }
    }
    hops
}

/// Indexes with exactly one destination in another domain, to which mail may be delegated.
fn by_next_domain(inbound: &Inbound, config: &QueueConfig) -> BTreeMap<(Route, Domain), Vec<u16>> {
    let mut groups: BTreeMap<_, Vec<u16>> = BTreeMap::new();
    for (recipient, index) in inbound.recipients.iter().zip(0u16..) {
        let Some(Target { route, address }) = target(inbound, index) else { continue };
        let Some(domain) = address.domain().filter(|domain| *domain != inbound.to) else { continue };
        let policy = config.policy(&domain);
        let takes_references = match route {
            // Its custodian takes custody: the site may come weeks later.
            Route::Site(_) | Route::OnDemand(_) => false,
            Route::Mx(_) => true,
            Route::Relay(name) => config.relays_by_reference.contains(name),
            Route::Lmtp(_) | Route::Maildir(_) | Route::Discard | Route::Reports => false,
        };
        let wanted = policy.delegate_to && policy.mode != ReferenceMode::Never && takes_references;
        if wanted && recipient.state == IndexState::Open {
            groups.entry((route.clone(), domain)).or_default().push(index);
        }
    }
    groups
}

/// The one destination of an index.
fn target(inbound: &Inbound, index: u16) -> Option<&Target> {
    match inbound.recipients.get(usize::from(index))?.targets.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

/// What is posted for the next hop that the origin has not answered.
pub(crate) fn post(key: &Key, inbound: &Inbound, instance: mail::InstanceId) -> Option<Delegating> {
    let UnsentHop { issued, map, .. } = inbound.hops.first()?;
    Some(Delegating {
        key: key.clone(),
        host: inbound.host.clone(),
        d: inbound.d.clone(),
        instance,
        to: inbound.to.clone(),
        id: inbound.i,
        grant: inbound.grant.clone(),
        block: issued.block.clone(),
        hop_grant: issued.grant.clone(),
        map: map.clone(),
    })
}

/// A post of a delegation has ended.
pub(crate) struct Answered {
    pub(crate) key: Key,
    pub(crate) hop: ReferenceId,
    /// The error: nothing that counts as an answer.
    pub(crate) answer: Result<ClaimAnswer, String>,
}

impl Change for Answered {
    fn wants(&self) -> Wants {
        Wants::keys([self.key.clone()])
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some((sheet, mut inbound)) = rows.take_inbound(&self.key) else { return plan };
        let Some(place) = inbound.hops.iter().position(|hop| hop.issued.id == self.hop) else { return plan };
        let hop = inbound.hops.remove(place);
        let onward = format!("hop {} to {}", hop.issued.id, hop.issued.to);
        match &self.answer {
            Ok(ClaimAnswer::Granted) => {
                note(&mut inbound.steps, context.now, "delegated", onward, None);
                pass_on(&mut plan, &mut inbound, hop, context);
            }
            Ok(answer) => {
                let word = format!("{onward}: {answer:?}").to_lowercase();
                note(&mut inbound.steps, context.now, "not-delegated", word, None);
            }
            Err(text) => note(&mut inbound.steps, context.now, "not-delegated", format!("{onward}: {text}"), None),
        }
        if inbound.hops.is_empty() && inbound.phase == Phase::Delegating {
            // Custody of whatever is left is asked for.
            inbound::enter(&mut inbound, Phase::Waiting, context.now);
        }
        inbound::put(&mut plan, sheet, inbound, context.now, context.config);
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}

/// The origin has recorded the hop: from here it is offered onward.
fn pass_on(plan: &mut Plan, inbound: &mut Inbound, hop: UnsentHop, context: &Context<'_>) {
    let UnsentHop { route, issued, map } = hop;
    let mut recipients = Vec::with_capacity(map.len());
    for (n, index) in map.iter().zip(0u16..) {
        let Some(recipient) = inbound.recipients.get_mut(usize::from(*n)) else { continue };
        recipient.state = custody::delegated(recipient.state.clone());
        let Some(target) = recipient.targets.first() else { continue };
        let offered = Offered { reference: issued.id, index, accepted: None, closed: false, delegations: Vec::new() };
        recipients.push(LegRecipient {
            inbound_index: Some(*n),
            state: RecipientState::Offered(offered),
            ..leg_recipient(&recipient.recipient, target)
        });
    }
    let sheet = Sheet::new(Key::Leg(inbound.queue_id.clone(), inbound.legs));
    inbound.legs += 1;
    let mut onward = handover::new_leg(inbound, route, recipients, context);
    onward.delegated = true;
    onward.object = None;
    onward.expires = issued.expires;
    onward.issued.push(issued);
    leg::put(plan, sheet, onward, context.now, context.config);
}

/// It cannot be passed on by reference after all: custody is wanted, unless it is too late to claim.
pub(crate) fn recall(inbound: &mut Inbound, indexes: &[u16], context: &Context<'_>) {
    let now = context.now;
    if now > inbound.expires {
        return;
    }
    for n in indexes {
        if let Some(recipient) = inbound.recipients.get_mut(usize::from(*n)) {
            recipient.state = custody::recalled(recipient.state.clone());
        }
    }
    note(&mut inbound.steps, now, "recalled", "what was delegated is taken into custody instead", None);
    match inbound.phase {
        Phase::Delegating | Phase::Waiting | Phase::Held => {}
        // Nothing of what is claimed now has been claimed before: silence counts from here.
        Phase::Claiming { .. } | Phase::Working | Phase::Closed if inbound.object.is_some() => {
            begin_claim(inbound, now)
        }
        Phase::Claiming { .. } | Phase::Working | Phase::Closed => inbound::enter(inbound, Phase::Waiting, now),
    }
}

/// Puts a recalled reference into the plan, wherever it is at hand.
pub(crate) fn recall_in(plan: &mut Plan, key: &Key, rows: &mut Rows, indexes: &[u16], context: &Context<'_>) {
    let Some((sheet, mut inbound)) = plan.take_inbound(key).or_else(|| rows.take_inbound(key)) else { return };
    recall(&mut inbound, indexes, context);
    inbound::put(plan, sheet, inbound, context.now, context.config);
}
