//! Claims of peers: the first claimant of an index wins, and is told only when that is durable (TBR §6).

use std::collections::HashMap;

use mail::ledger::{Action, Issued, Leg, Outcome, RecipientState, Row, RowBody, by_reference, note};
use mail::{Domain, Grant, InstanceId, ReferenceId, Timestamp};
use reference::message_signature::SignedBy;

use crate::custody::{self, BY_REPLY, Claimant, turn};
use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Sheet, Wants};
use crate::origin::leg;
use crate::origin::locate::is_let_in;
use crate::origin::news::{self, Kind, News};
use crate::port::{CallId, ClaimAnswer, ClaimEntry, Reply};
use crate::stats::Count;

/// Most stores that may have acted on one index without an answer: two servers of one domain is usual.
const MAX_ACTED: usize = 16;

/// Claims of one store.
pub(crate) struct Claims {
    pub(crate) call: CallId,
    pub(crate) instance: InstanceId,
    pub(crate) entries: Vec<ClaimEntry>,
    pub(crate) signed: SignedBy,
}

impl Change for Claims {
    fn wants(&self) -> Wants {
        Wants::alternates(alternates(self.entries.iter().map(|entry| &entry.id)))
    }

    fn apply(&mut self, rows: Rows, context: &mut Context<'_>) -> Plan {
        let mut plan = Plan::default();
        let mut legs = IssuingLegs::new(rows);
        let answers = self.entries.iter().map(|entry| {
            let open = legs.find(&entry.id, &entry.to, &entry.grant, &self.signed)?;
            Some(self.answer(entry, open, &mut plan, context.now))
        });
        let answers = answers.collect();
        legs.put(&mut plan, context);
        plan.effects.push(Effect::Reply(self.call, Reply::Claims(answers)));
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Refuse(self.call)
    }
}

impl Claims {
    fn answer(
        &self,
        entry: &ClaimEntry,
        open: &mut IssuingLeg,
        plan: &mut Plan,
        now: Timestamp,
    ) -> Vec<(u16, ClaimAnswer)> {
        let mut answers = Vec::with_capacity(entry.indexes.len());
        for index in &entry.indexes {
            let by = Claimant { reference: entry.id, index: *index, instance: self.instance };
            let refusal = entry.failed.iter().find(|(n, _)| n == index).map(|(_, outcome)| outcome);
            let answer = if entry.acted { open.act(by, now) } else { open.claim(by, refusal, now) };
            let Some(answer) = answer else { continue };
            plan.count(match answer {
                ClaimAnswer::Granted => Count::ClaimsGranted,
                ClaimAnswer::Taken => Count::ClaimsTaken,
                ClaimAnswer::Gone => Count::ClaimsGone,
            });
            answers.push((*index, answer));
        }
        answers
    }
}

/// Secondary keys of the legs that issued these references, each once.
pub(crate) fn alternates<'a>(ids: impl Iterator<Item = &'a ReferenceId>) -> Vec<String> {
    let mut all: Vec<String> = ids.map(by_reference).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The legs that a batch of claims or receipts is about, each changed once however many entries name it.
pub(crate) struct IssuingLegs {
    legs: Vec<IssuingLeg>,
    /// The references by which their messages came.
    origins: Vec<Row>,
    pub(crate) by_reference: HashMap<ReferenceId, usize>,
}

/// A leg with what a batch has brought for it so far.
pub(crate) struct IssuingLeg {
    pub(crate) sheet: Sheet,
    pub(crate) leg: Box<Leg>,
    pub(crate) news: Vec<News>,
    pub(crate) changed: bool,
}

impl IssuingLegs {
    pub(crate) fn new(rows: Rows) -> Self {
        let (mut legs, mut origins): (Vec<IssuingLeg>, _) = (Vec::new(), Vec::new());
        let mut by_reference = HashMap::new();
        for row in rows.into_all() {
            let RowBody::Leg(leg) = row.body else {
                origins.push(row);
                continue;
            };
            by_reference.extend(leg.issued.iter().map(|issued| (issued.id, legs.len())));
            let sheet = Sheet { key: row.key, version: row.version, due: row.due };
            legs.push(IssuingLeg { sheet, leg, news: Vec::new(), changed: false });
        }
        Self { legs, origins, by_reference }
    }

    /// The leg of an entry, if reference, grant and domain belong together, and where the grant is bound its holder has
    /// signed the request. Whoever guesses learns nothing.
    pub(crate) fn find(
        &mut self,
        id: &ReferenceId,
        to: &Domain,
        grant: &Grant,
        signed: &SignedBy,
    ) -> Option<&mut IssuingLeg> {
        let open = self.legs.get_mut(*self.by_reference.get(id)?)?;
        let issued = leg::issued(&open.leg, id)?;
        (issued.grant == *grant && issued.to == *to && is_let_in(&open.leg, issued, signed)).then_some(open)
    }

    /// Puts what changed into the plan.
    pub(crate) fn put(self, plan: &mut Plan, context: &mut Context<'_>) {
        let mut origins = Rows::new(self.origins);
        for mut open in self.legs.into_iter().filter(|open| open.changed) {
            news::tell(plan, &open.sheet.key, &mut open.leg, &open.news, &mut origins, context);
            leg::put(plan, open.sheet, open.leg, context.now, context.config);
        }
    }
}

impl IssuingLeg {
    /// Position in the leg of an index of a reference.
    pub(crate) fn position(&self, by: &Claimant) -> Option<u16> {
        leg::issued(&self.leg, &by.reference)?.positions.get(usize::from(by.index)).copied()
    }

    /// Has this store once taken custody of this index without an answer?
    pub(crate) fn has_acted(&self, by: &Claimant) -> bool {
        leg::issued(&self.leg, &by.reference).is_some_and(|issued| issued.acted.contains(&(by.index, by.instance)))
    }

    /// Receipts of this store count beside the claimant's from now on.
    pub(crate) fn remember_acted(&mut self, by: &Claimant) {
        let issued = self.leg.issued.iter_mut().find(|issued| issued.id == by.reference);
        let Some(Issued { acted, .. }) = issued else { return };
        let stores = acted.iter().filter(|(index, _)| *index == by.index).count();
        if by.instance != BY_REPLY && stores < MAX_ACTED && !acted.contains(&(by.index, by.instance)) {
            acted.push((by.index, by.instance));
        }
    }

    fn claim(&mut self, by: Claimant, refusal: Option<&Outcome>, now: Timestamp) -> Option<ClaimAnswer> {
        let position = self.position(&by)?;
        let recipient = self.leg.recipients.get_mut(usize::from(position))?;
        let before = recipient.state.clone();
        let answer = match refusal {
            None => turn(&mut recipient.state, |state| custody::claim(state, by, now)),
            Some(outcome) => {
                let outcome = leg::outcome(Action::Failed, outcome.status, &outcome.text, now);
                let refuse = |state| custody::refuse(state, by, outcome.clone(), now);
                let (answer, is_news) = turn(&mut recipient.state, refuse);
                let peer = leg::issued(&self.leg, &by.reference).map(|issued| issued.to.to_string());
                self.news.extend(is_news.then(|| News { peer, ..News::new(position, Kind::Final, outcome) }));
                answer
            }
        };
        self.settle(&by, &before, position, now);
        Some(answer)
    }

    fn act(&mut self, by: Claimant, now: Timestamp) -> Option<ClaimAnswer> {
        let position = self.position(&by)?;
        let recipient = self.leg.recipients.get_mut(usize::from(position))?;
        let before = recipient.state.clone();
        let answer = turn(&mut recipient.state, |state| custody::act(state, by, now));
        if answer != ClaimAnswer::Granted && !self.has_acted(&by) {
            self.remember_acted(&by);
            self.changed = true;
        }
        self.settle(&by, &before, position, now);
        Some(answer)
    }

    /// Writes down what has changed. Where custody has just gone on from here, whoever it came from has to know.
    fn settle(&mut self, by: &Claimant, before: &RecipientState, position: u16, now: Timestamp) {
        let Some(recipient) = self.leg.recipients.get(usize::from(position)) else { return };
        if recipient.state == *before {
            return;
        }
        let claimed = |state: &RecipientState| matches!(state, RecipientState::Claimed(_));
        if claimed(&recipient.state) && !claimed(before) {
            self.news.extend(news::passed_on(&self.leg, position, now));
        }
        self.changed = true;
        note(&mut self.leg.steps, now, "claimed", format!("recipient {position} by store {}", by.instance), None);
    }
}
