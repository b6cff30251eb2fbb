//! How to go on in an open session: by reference or by value, for whom (TBR §8).
//!
//! One session carries one transaction. First come references whose answer is missing, octet by octet as before; then
//! recipients that nothing is out for. Whatever leaves the record first wins it: an index that might be claimed is
//! never sent by value.

use mail::ledger::{Key, Leg, Offered, RecipientState, note};
use mail::{EnhancedStatus, ReferenceId, Timestamp};

use crate::config::{QueueConfig, ReferenceMode, Signer};
use crate::custody::{self, turn};
use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};
use crate::origin::issue::{self, Drawn};
use crate::origin::leg;
use crate::port::{JobId, Peer, Proceed};
use crate::stats::Count;
use crate::work::Mode;

const NO_TBR: &str = "policy requires references for this domain, and the peer takes none";
const NO_SIGNER: &str = "policy requires references for this domain, and this message cannot have one";

/// The session is open, or the peer has declined the offer in it: decide.
pub(crate) struct Decide {
    pub(crate) key: Key,
    pub(crate) job: JobId,
    pub(crate) peer: Peer,
    /// The peer answered 504 in this session.
    pub(crate) declined: Option<String>,
}

impl Change for Decide {
    fn wants(&self) -> Wants {
        Wants::keys([self.key.clone()])
    }

    fn apply(&mut self, mut rows: Rows, context: &mut Context<'_>) -> Plan {
        let Some((sheet, leg)) = rows.take_leg(&self.key) else {
            return Plan::only(proceed(self.job, Decision::Idle));
        };
        let mut after = leg.clone();
        if let Some(text) = &self.declined {
            declined(&mut after, text, context);
        }
        let tbr = self.peer.tbr && self.declined.is_none();
        let decision = decide(&mut after, tbr, context);
        let mut plan = Plan::default();
        if after != leg {
            plan.stats.add(Count::ReferencesIssued, (after.issued.len() - leg.issued.len()) as u64);
            plan.stats.add(Count::FallBacks, u64::from(after.by_value && !leg.by_value));
            leg::put(&mut plan, sheet, after, context.now, context.config);
        }
        plan.effects.push(proceed(self.job, decision));
        plan
    }

    fn otherwise(&self) -> Otherwise {
        Otherwise::Abandon(self.job)
    }
}

/// What to do in the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    ByValue(Vec<u16>),
    Offer(ReferenceId, Proposal),
    Postpone(EnhancedStatus, &'static str),
    Idle,
}

/// What an offer says on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    uri: String,
    block: String,
    positions: Vec<u16>,
}

fn proceed(job: JobId, decision: Decision) -> Effect {
    match decision {
        Decision::ByValue(positions) => {
            let mode = Mode::ByValue(positions.clone());
            Effect::Proceed(job, Proceed::ByValue { positions }, mode)
        }
        Decision::Offer(id, Proposal { uri, block, positions }) => {
            Effect::Proceed(job, Proceed::Offer { uri, block, positions }, Mode::Offer(id))
        }
        Decision::Postpone(status, why) => Effect::Proceed(job, Proceed::Abandon, Mode::Postponed(status, why)),
        Decision::Idle => Effect::Proceed(job, Proceed::Abandon, Mode::Idle),
    }
}

/// 504: whatever this leg offered goes by value, unless policy insists.
fn declined(leg: &mut Leg, text: &str, context: &Context<'_>) {
    let insists = |position: u16| leg::mode(leg, position, context.config) == ReferenceMode::Require;
    if !leg::open(leg, context.now).into_iter().any(insists) {
        leg::go_by_value(leg, text, context.now);
    }
}

/// Decides, and wins or issues what the decision needs. The caller commits before anybody acts on it.
pub(crate) fn decide(leg: &mut Leg, tbr: bool, context: &mut Context<'_>) -> Decision {
    let open = leg::open(leg, context.now);
    let Some(first) = open.first().copied() else { return Decision::Idle };
    if !leg::is_smtp(&leg.route) {
        return Decision::ByValue(open);
    }
    if let Some((position, offered)) = first_unanswered(leg, &open) {
        match what_is_out(leg, position, &offered, tbr, context.config) {
            Out::OfferAgain => return offer_again(leg, &offered.reference, context.now),
            Out::Wait => return postpone(NO_TBR),
            Out::WinBack => win_back(leg, &open),
        }
    }
    let queued: Vec<u16> = open.into_iter().filter(|p| is_queued(leg, *p)).collect();
    match way(leg, queued.first().copied().unwrap_or(first), tbr, context) {
        Way::Reference(signer) => issue_for(leg, &queued, signer.clone(), context),
        Way::Value => Decision::ByValue(queued),
        Way::Wait(why) => postpone(why),
    }
}

fn postpone(why: &'static str) -> Decision {
    Decision::Postpone(EnhancedStatus::temporary(7, 4), why)
}

fn is_queued(leg: &Leg, position: u16) -> bool {
    leg.recipients.get(usize::from(position)).is_some_and(|r| r.state == RecipientState::Queued)
}

fn first_unanswered(leg: &Leg, open: &[u16]) -> Option<(u16, Offered)> {
    let offered = |position: &u16| match &leg.recipients.get(usize::from(*position))?.state {
        RecipientState::Offered(offered) => Some((*position, offered.clone())),
        _ => None,
    };
    // What was won back comes first: its by value waits for the peer's word.
    let all: Vec<(u16, Offered)> = open.iter().filter_map(offered).collect();
    all.iter().find(|(_, offered)| offered.closed).or(all.first()).cloned()
}

/// What to do about a reference that is out and unanswered.
enum Out {
    OfferAgain,
    WinBack,
    Wait,
}

fn what_is_out(leg: &Leg, position: u16, offered: &Offered, tbr: bool, config: &QueueConfig) -> Out {
    match leg::mode(leg, position, config) {
        ReferenceMode::Never => Out::WinBack,
        _ if tbr && (offered.closed || !leg.by_value) => Out::OfferAgain,
        ReferenceMode::Require if !offered.closed => Out::Wait,
        _ => Out::WinBack,
    }
}

fn offer_again(leg: &Leg, id: &ReferenceId, now: Timestamp) -> Decision {
    // A reference is only ever dropped from a row together with the last state that names it.
    let Some(issued) = leg::issued(leg, id).filter(|issued| now <= issued.expires) else { return Decision::Idle };
    let proposal =
        Proposal { uri: issued.uri.clone(), block: issued.block.clone(), positions: issued.positions.clone() };
    Decision::Offer(*id, proposal)
}

fn win_back(leg: &mut Leg, open: &[u16]) {
    for position in open {
        let Some(recipient) = leg.recipients.get_mut(usize::from(*position)) else { continue };
        if let RecipientState::Offered(Offered { reference, .. }) = recipient.state {
            turn(&mut recipient.state, |state| custody::win_back(state, reference));
        }
    }
}

/// Which way a recipient that nothing is out for can go.
enum Way<'a> {
    Reference(&'a Signer),
    Value,
    Wait(&'static str),
}

fn way<'a>(leg: &Leg, position: u16, tbr: bool, context: &Context<'a>) -> Way<'a> {
    let config = context.config;
    let Some(domain) = leg.recipients.get(usize::from(position)).and_then(|r| r.recipient.address.domain()) else {
        return Way::Value;
    };
    let policy = config.policy(&domain);
    // A trace field above a submitted message stays here; one that came by reference has another origin.
    let relayed = leg.inbound.is_some();
    let elsewhere =
        matches!(&leg.route, mail::ledger::Route::Relay(name) if !config.relays_by_reference.contains(name));
    if policy.mode == ReferenceMode::Never || relayed || elsewhere || leg.by_value {
        return Way::Value;
    }
    let required = policy.mode == ReferenceMode::Require;
    let signer = config.signer(leg.mail_from.as_ref()).filter(|_| can_have_reference(leg, context));
    let small = leg.object.as_ref().is_none_or(|object| object.size < policy.by_value_below);
    match signer {
        Some(signer) if tbr && (required || !small) => Way::Reference(signer),
        None if required => Way::Wait(NO_SIGNER),
        Some(_) if required => Way::Wait(NO_TBR),
        _ => Way::Value,
    }
}

fn can_have_reference(leg: &Leg, context: &Context<'_>) -> bool {
    let lives = context.now.after(context.config.timers.shortest_reference) <= leg.expires;
    lives && leg.facts.is_object && leg.object.is_some()
}

/// Issues one reference for the recipients that share the first one's domain; the others follow in their own sessions.
fn issue_for(leg: &mut Leg, queued: &[u16], signer: Signer, context: &mut Context<'_>) -> Decision {
    let domain_of = |leg: &Leg, p: u16| leg.recipients.get(usize::from(p)).and_then(|r| r.recipient.address.domain());
    let Some(to) = queued.first().and_then(|p| domain_of(leg, *p)) else { return Decision::Idle };
    let positions: Vec<u16> = queued.iter().copied().filter(|p| domain_of(leg, *p).as_ref() == Some(&to)).collect();
    let drawn = Drawn::draw(context.random);
    let timers = &context.config.timers;
    match issue::issue(leg, &signer, to, positions, drawn, context.now, timers) {
        Ok(id) => offer_again(leg, &id, context.now),
        Err(error) => {
            note(&mut leg.steps, context.now, "unsigned", error.to_string(), None);
            Decision::ByValue(queued.to_vec())
        }
    }
}
