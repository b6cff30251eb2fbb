//! Receipts of peers: only a claimant may report, only on its recipients (TBR §6).

use mail::InstanceId;
use mail::ledger::{Action, Outcome};
use reference::message_signature::SignedBy;

use crate::custody::{self, Claimant, ReceiptWord, turn};
use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};
use crate::origin::claims::{IssuingLeg, IssuingLegs, alternates};
use crate::origin::leg;
use crate::origin::news::{Kind, News};
use crate::port::{CallId, ReceiptEntry, Reply};
use crate::stats::Count;

/// Receipts of one store.
pub(crate) struct Receipts {
    pub(crate) call: CallId,
    pub(crate) instance: InstanceId,
    pub(crate) entries: Vec<ReceiptEntry>,
    pub(crate) signed: SignedBy,
}

impl Change for Receipts {
    fn wants(&self) -> Wants {
        Wants::alternates(alternates(self.entries.iter().map(|entry| &entry.id)))
    }

    fn apply(&mut self, rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let mut legs = IssuingLegs::new(rows);
        let answers = self.entries.iter().map(|entry| {
            let open = legs.find(&entry.id, &entry.to, &entry.grant, &self.signed)?;
            let recorded = self.record(entry, open, context);
            plan.stats.add(Count::ReceiptsRecorded, recorded.len() as u64);
            // A store that holds nothing of this reference learns nothing of it.
            (!recorded.is_empty()).then_some(recorded)
        });
        let answers = answers.collect();
        legs.put(&mut plan, context);
        plan.effects.push(Effect::Reply(self.call, Reply::Receipts(answers)));
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

impl Receipts {
    fn record(&self, entry: &ReceiptEntry, open: &mut IssuingLeg, context: &Context<'_>) -> Vec<u16> {
        let mut recorded = Vec::with_capacity(entry.outcomes.len());
        for (index, outcome) in &entry.outcomes {
            let by = Claimant { reference: entry.id, index: *index, instance: self.instance };
            // The peer's clock is its own affair.
            let at = outcome.at.min(context.now);
            let printable = leg::outcome(outcome.action, outcome.status, &outcome.text, at);
            let outcome = Outcome { reported: outcome.reported, ..printable };
            if open.receive(by, outcome) {
                recorded.push(*index);
            }
        }
        recorded
    }
}

impl IssuingLeg {
    /// Records one outcome; false if it is not this store's to report.
    fn receive(&mut self, by: Claimant, outcome: Outcome) -> bool {
        let acted = self.has_acted(&by);
        let Some(position) = self.position(&by) else { return false };
        let Some(recipient) = self.leg.recipients.get_mut(usize::from(position)) else { return false };
        let word = turn(&mut recipient.state, |state| custody::receipt(state, by, acted, outcome.clone()));
        let kind = match word {
            ReceiptWord::NotYours => return false,
            ReceiptWord::Known => return true,
            ReceiptWord::News if outcome.action == Action::Delayed => Kind::Delayed,
            ReceiptWord::News if self.leg.inbound.is_some() => Kind::Late,
            ReceiptWord::News => Kind::Final,
            ReceiptWord::Corrects { instead_of } => {
                if let Some(instance) = instead_of {
                    self.remember_acted(&Claimant { instance, ..by });
                }
                Kind::Corrected
            }
        };
        // One report of a delay is enough, whoever writes it.
        let told_already = kind == Kind::Delayed && std::mem::replace(&mut self.leg.delay_reported, true);
        if !told_already {
            self.changed = true;
            let peer = leg::issued(&self.leg, &by.reference).map(|issued| issued.to.to_string());
            self.news.push(News { peer, ..News::new(position, kind, outcome) });
        }
        true
    }
}
