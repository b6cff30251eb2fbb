//! Delegation at the origin: a relay passes on by reference what it was offered (TBR §7.3).
//!
//! An entry that contends like a claim, in the same record: the first wins, all of its recipients or none, and a
//! repetition gets the same answer. From then on the relay's hop is claimed under its own id, grant and domain.

use mail::ledger::{DelegatedFrom, Issued, note};
use mail::{InstanceId, Timestamp};
use reference::message_signature::SignedBy;
use reference::{Block, HopMode, Uri};

use crate::custody::{self, Claimant, turn};
use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};
use crate::origin::claims::{IssuingLeg, IssuingLegs, alternates};
use crate::origin::leg;
use crate::origin::locate::is_for_user;
use crate::port::{CallId, ClaimAnswer, DelegationEntry, Reply};
use crate::stats::Count;

/// A relay's wish.
pub(crate) struct Delegate {
    pub(crate) call: CallId,
    pub(crate) instance: InstanceId,
    pub(crate) entry: Box<DelegationEntry>,
    pub(crate) signed: SignedBy,
}

impl Change for Delegate {
    fn wants(&self) -> Wants {
        let ids = [self.entry.id, self.entry.hop.statement().id];
        Wants::alternates(alternates(ids.iter()))
    }

    fn apply(&mut self, rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let mut legs = IssuingLegs::new(rows);
        let answer = self.answer(&mut legs, context);
        if answer == Some(ClaimAnswer::Granted) {
            plan.stats.add(Count::DelegationsRecorded, self.entry.map.len() as u64);
        }
        legs.put(&mut plan, context);
        plan.effects.push(Effect::Reply(self.call, Reply::Delegated(answer)));
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

impl Delegate {
    /// `None`: nobody may know whether there is anything here.
    fn answer(&self, legs: &mut IssuingLegs, context: &Context<'_>) -> Option<ClaimAnswer> {
        let DelegationEntry { to, id, grant, hop, .. } = &*self.entry;
        let is_known = legs.by_reference.contains_key(&hop.statement().id);
        let open = legs.find(id, to, grant, &self.signed)?;
        // A domain without keys has none to sign a hop with; where the grant is not bound, nobody has shown to be it.
        let below = leg::issued(&open.leg, id).filter(|below| below.bound.is_some())?.clone();
        if is_for_user(&open.leg) {
            return None;
        }
        if !context.config.policy(to).may_delegate {
            return None;
        }
        let issued = self.issued(&below)?;
        if is_known {
            let same = leg::issued(&open.leg, &issued.id).is_some_and(|known| is_same(known, &issued));
            return same.then_some(ClaimAnswer::Granted);
        }
        Some(self.record(open, issued, context.now))
    }

    /// The hop as a reference that is claimed here, if it continues the field below and leads to this object.
    fn issued(&self, below: &Issued) -> Option<Issued> {
        let DelegationEntry { hop, hop_grant, map, bound, .. } = &*self.entry;
        let (stated, block) = (hop.statement(), hop.encode() + &below.block);
        Block::parse(block.as_bytes()).ok()?;
        if stated.mode != HopMode::Reference || stated.expires > below.expires {
            return None;
        }
        let positions = map.iter().map(|n| below.positions.get(usize::from(*n)).copied()).collect::<Option<_>>()?;
        Some(Issued {
            id: stated.id,
            signer: stated.domain.clone(),
            to: stated.to.clone(),
            grant: hop_grant.clone(),
            uri: Uri { grant: hop_grant.clone(), ..Uri::parse(&below.uri).ok()? }.reveal(),
            block,
            positions,
            issued: stated.issued,
            expires: stated.expires,
            bound: *bound,
            acted: Vec::new(),
            delegated: Some(DelegatedFrom { below: below.id, by: self.instance, map: map.clone() }),
        })
    }

    /// All of its recipients or none: the relay asks for the others' custody otherwise.
    fn record(&self, open: &mut IssuingLeg, issued: Issued, now: Timestamp) -> ClaimAnswer {
        let mut recipients = open.leg.recipients.clone();
        let wanted = self.entry.map.iter().zip(&issued.positions).zip(0u16..);
        for ((below, position), index) in wanted {
            let by = Claimant { reference: self.entry.id, index: *below, instance: self.instance };
            let Some(recipient) = recipients.get_mut(usize::from(*position)) else { return ClaimAnswer::Gone };
            let answer = turn(&mut recipient.state, |state| custody::delegate(state, by, issued.id, index));
            if answer != ClaimAnswer::Granted {
                return answer;
            }
        }
        let detail = format!("by {} to {} for {} recipient(s)", issued.signer, issued.to, issued.positions.len());
        note(&mut open.leg.steps, now, "delegated", detail, None);
        open.leg.recipients = recipients;
        open.leg.issued.push(issued);
        open.changed = true;
        ClaimAnswer::Granted
    }
}

/// The same hop once more? How surely the next domain's keys are known may have changed meanwhile.
fn is_same(known: &Issued, again: &Issued) -> bool {
    known.delegated == again.delegated && known.block == again.block && known.grant == again.grant
}
