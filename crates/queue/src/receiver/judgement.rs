//! The judgement of content between retrieval and claim (TBR §6): what it changes in the row.
//!
//! What is judged, and how, is the edge's; a refusal is a claim with the outcome `failed`.

use mail::ledger::{Action, Key, Phase, note};

use crate::flow::{Change, Context, Otherwise, Plan, Rows, Wants};
use crate::origin::leg;
use crate::port;
use crate::receiver::inbound;
use crate::receiver::retrieval::begin_claim;
use crate::stats::Count;

/// A judgement has ended.
pub(crate) struct Judged {
    pub(crate) key: Key,
    /// The error: why there is no decision yet.
    pub(crate) decision: Result<port::Judged, String>,
    pub(crate) jitter: u32,
}

impl Change for Judged {
    fn wants(&self) -> Wants {
        Wants::keys([self.key.clone()])
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some((sheet, mut inbound)) = rows.take_inbound(&self.key) else { return plan };
        if inbound.phase != Phase::Held || inbound.evidence.is_none() {
            return plan;
        }
        match &self.decision {
            Ok(decision) => {
                inbound.evidence = None;
                inbound.trace.insert_str(0, &decision.results);
                inbound.seal.clone_from(&decision.seal);
                if let Some((status, text)) = &decision.refusal {
                    note(&mut inbound.steps, context.now, "refused", text.clone(), None);
                    inbound.refusal = Some(leg::outcome(Action::Failed, *status, text, context.now));
                    plan.count(Count::ContentsRefused);
                } else {
                    note(&mut inbound.steps, context.now, "judged", decision.verdict.clone(), None);
                }
                begin_claim(&mut inbound, context.now);
            }
            Err(text) => {
                note(&mut inbound.steps, context.now, "not-judged", text.clone(), None);
                inbound::pause(&mut inbound, self.jitter, context.now, context.config);
            }
        }
        inbound::put(&mut plan, sheet, inbound, context.now, context.config);
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}
