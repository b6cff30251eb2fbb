//! Which object a grant may fetch, and whose signature it needs. Reads only.

use mail::ledger::{Issued, Leg, RecipientState, Route, RowBody, by_grant};
use mail::{Domain, Grant, Holder, Xuid};
use reference::Uri;
use reference::message_signature::SignedBy;

use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};
use crate::port::{CallId, Located, Reply};

/// Somebody asks the repository for an object.
pub(crate) struct Locate {
    pub(crate) call: CallId,
    pub(crate) xuid: Xuid,
    pub(crate) grant: Grant,
    pub(crate) signed: SignedBy,
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
        if Uri::parse(&issued.uri).ok()?.xuid != self.xuid || !is_let_in(leg, issued, &self.signed) {
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

/// Whose signature do these grants need?
pub(crate) struct Binding {
    pub(crate) call: CallId,
    pub(crate) grants: Vec<Grant>,
}

impl Change for Binding {
    fn wants(&self) -> Wants {
        Wants::alternates(self.grants.iter().map(by_grant).collect())
    }

    fn apply(&mut self, rows: Rows, _: &mut Context<'_>) -> Plan {
        let mut domains: Vec<Domain> = Vec::new();
        for row in rows.into_all() {
            let RowBody::Leg(leg) = row.body else { continue };
            let bound = leg.issued.into_iter().filter(|issued| issued.bound.is_some());
            domains.extend(bound.filter(|issued| self.grants.contains(&issued.grant)).map(|issued| issued.to));
        }
        domains.sort_unstable();
        domains.dedup();
        Plan::only(Effect::Reply(self.call, Reply::Binding(domains)))
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

/// Does a request with this reference's grant, signed by these, count? Where the grant is bound, its holder must have
/// signed the request to the very host that the reference named (TBR §6.2).
pub(crate) fn is_let_in(leg: &Leg, issued: &Issued, signed: &SignedBy) -> bool {
    issued.bound.is_none() || Uri::parse(&issued.uri).is_ok_and(|uri| signed.is_by(&holder(leg, issued), &uri.host))
}

/// To whom a grant is bound: the domain that the reference names, or the one user of it that the mail waits for (TBR §7.4).
fn holder(leg: &Leg, issued: &Issued) -> Holder {
    match &leg.route {
        Route::Site(site) if *site.domain() == issued.to && issued.delegated.is_none() => site.clone(),
        _ => issued.to.clone().into(),
    }
}

/// Does it wait for one user of a domain? His key signs for him, and no hop in his domain's name.
pub(crate) fn is_for_user(leg: &Leg) -> bool {
    matches!(&leg.route, Route::Site(site) if site.whole_domain().is_none())
}

/// Is an index of this reference open, or with a claimant that has not reported yet?
fn may_fetch(state: &RecipientState, issued: &Issued) -> bool {
    match state {
        RecipientState::Offered(offered) => {
            let is_hop = offered.delegations.iter().any(|delegation| delegation.hop == issued.id);
            (offered.reference == issued.id || is_hop) && !offered.closed
        }
        RecipientState::Claimed(claim) => claim.reference == issued.id,
        RecipientState::Queued | RecipientState::Done { .. } => false,
    }
}
