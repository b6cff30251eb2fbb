//! Which object a grant may fetch. Reads only.

use mail::ledger::{Issued, Leg, RecipientState, RowBody, by_grant};
use mail::{Grant, Xuid};
use reference::Uri;

use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};
use crate::port::{CallId, Located, Reply};

/// Somebody asks the repository for an object.
pub(crate) struct Locate {
    pub(crate) call: CallId,
    pub(crate) xuid: Xuid,
    pub(crate) grant: Grant,
}

impl Change for Locate {
    fn wants(&self) -> Wants {
        Wants::alternates(vec![by_grant(&self.grant)])
    }

    fn apply(&mut self, rows: Rows, _: &mut Context<'_>) -> Plan {
        let located = rows.into_all().iter().find_map(|row| match &row.body {
            RowBody::Leg(leg) => self.locate(leg),
            RowBody::Inbound(_) => None,
        });
        Plan::only(Effect::Reply(self.call, Reply::Object(located.unwrap_or(Located::Unknown))))
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

impl Locate {
    fn locate(&self, leg: &Leg) -> Option<Located> {
        // Comparing grants takes the same time wherever they differ.
        let issued = leg.issued.iter().find(|issued| issued.grant == self.grant)?;
        if Uri::parse(&issued.uri).ok()?.xuid != self.xuid {
            return None;
        }
        match &leg.object {
            Some(object) if leg.recipients.iter().any(|r| may_fetch(&r.state, issued)) => {
                Some(Located::Object(object.clone()))
            }
            _ => Some(Located::Gone),
        }
    }
}

/// Is an index of this reference open, or with a claimant that has not reported yet?
fn may_fetch(state: &RecipientState, issued: &Issued) -> bool {
    match state {
        RecipientState::Offered(offered) => offered.reference == issued.id && !offered.closed,
        RecipientState::Claimed(claim) => claim.reference == issued.id,
        RecipientState::Queued | RecipientState::Done { .. } => false,
    }
}
