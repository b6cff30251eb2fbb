//! Receipts: what is posted, what its acknowledgement means, and the report by mail when nobody listens (TBR §6).

use mail::ledger::{Action, Inbound, IndexState, Key, note};

use crate::custody;
use crate::flow::{Change, Context, Otherwise, Plan, Rows, Wants};
use crate::port::ReceiptEntry;
use crate::receiver::inbound;

/// The receipt of a reference as it stands: every outcome that the origin may not know.
pub(crate) fn entry(inbound: &Inbound) -> ReceiptEntry {
    let mut outcomes = Vec::new();
    for (recipient, index) in inbound.recipients.iter().zip(0u16..) {
        match &recipient.state {
            IndexState::Final { outcome, .. } if inbound::owes_receipt(&recipient.state) => {
                outcomes.push((index, outcome.clone()));
            }
            IndexState::Delegated { failed: Some(outcome) } => outcomes.push((index, outcome.clone())),
            IndexState::Mine { .. } => {
                let delayed = recipient.outcomes.iter().find(|outcome| outcome.action == Action::Delayed);
                outcomes.extend(delayed.map(|outcome| (index, outcome.clone())));
            }
            _ => {}
        }
    }
    ReceiptEntry { to: inbound.to.clone(), id: inbound.i, grant: inbound.grant.clone(), outcomes }
}

/// A post of receipts has ended, for this reference.
pub(crate) struct Reported {
    pub(crate) key: Key,
    /// What was posted.
    pub(crate) posted: Vec<(u16, Action)>,
    /// Indexes that the origin recorded; `None`: nothing that counts as an answer.
    pub(crate) recorded: Option<Vec<u16>>,
    pub(crate) text: String,
    pub(crate) jitter: u32,
}

impl Change for Reported {
    fn wants(&self) -> Wants {
        Wants::keys([self.key.clone()])
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some((sheet, mut inbound)) = rows.take_inbound(&self.key) else { return plan };
        let now = context.now;
        // A delay is told once. If nobody listened, the outcome will tell more.
        for recipient in &mut inbound.recipients {
            recipient.outcomes.retain(|outcome| outcome.action != Action::Delayed);
        }
        match &self.recorded {
            Some(recorded) => {
                self.acknowledge(&mut inbound, recorded);
                inbound.unheard_since = None;
                note(&mut inbound.steps, now, "receipt", format!("recorded by {}", inbound.d), None);
            }
            None => {
                inbound.unheard_since.get_or_insert(now);
                note(&mut inbound.steps, now, "unheard", self.text.clone(), None);
            }
        }
        if inbound::task(&inbound) == Some(inbound::Task::Report) {
            inbound.unheard_since.get_or_insert(now);
            inbound::pause(&mut inbound, self.jitter, now, context.config);
        }
        inbound::put(&mut plan, sheet, inbound, now, context.config);
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}

impl Reported {
    fn acknowledge(&self, inbound: &mut Inbound, recorded: &[u16]) {
        for (index, action) in self.posted.iter().filter(|(index, _)| recorded.contains(index)) {
            if let Some(recipient) = inbound.recipients.get_mut(usize::from(*index)) {
                recipient.state = custody::acknowledged(recipient.state.clone(), *action);
            }
        }
    }
}
