//! Notes for `trace` that a repository has served an object.

use mail::Grant;
use mail::ledger::{RowBody, by_grant, note};

use crate::flow::{Change, Context, Otherwise, Plan, Rows, Wants};

/// Notes kept per leg: a peer that fetches a thousand times must not make the ledger write a thousand times.
const MAX_NOTES: usize = 4;

/// Octets went out for this grant.
pub(crate) struct Served {
    pub(crate) grant: Grant,
    pub(crate) octets: u64,
}

impl Change for Served {
    fn wants(&self) -> Wants {
        Wants::alternates(vec![by_grant(&self.grant)])
    }

    fn apply(&mut self, rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        for mut row in rows.into_all() {
            let RowBody::Leg(leg) = &mut row.body else { continue };
            if leg.steps.iter().filter(|step| step.what == "served").count() < MAX_NOTES {
                note(&mut leg.steps, context.now, "served", "to a holder of the grant", Some(self.octets));
                plan.batch.put.push(row);
            }
        }
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::TryAgain
    }
}
