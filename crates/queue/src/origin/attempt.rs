//! How to go on in an open session: by reference or by value, for whom (TBR §8).
//!
//! One session carries one transaction. First come references whose answer is missing, octet by octet as before; then
//! recipients that nothing is out for. Whatever leaves the record first wins it: an index that might be claimed is
//! never sent by value.

use std::collections::BTreeSet;

use mail::ledger::{Inbound, Key, Leg, Offered, RecipientState, note};
use mail::{Assurance, Domain, EnhancedStatus, ReferenceId, Timestamp};

use crate::config::{QueueConfig, ReferenceMode};
use crate::custody::{self, turn};
use crate::flow::{Change, Context, Effect, Otherwise, Plan, Rows, Wants};
use crate::origin::issue::{self, Below, Drawn, For, Signing};
use crate::origin::leg;
use crate::origin::onward;
use crate::port::{JobId, Peer, Proceed};
use crate::stats::Count;
use crate::work::Mode;

const NO_TBR: &str = "policy requires references for this domain, and the peer takes none";
const NO_KEYS: &str = "policy requires references for this domain, and whether it has keys cannot be looked up now";
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
        if leg.delegated {
            return onward::decide(self, (sheet, leg), &mut rows, context);
        }
        let mut after = leg.clone();
        if let Some(text) = &self.declined {
            declined(&mut after, text, context);
        }
        let tbr = (self.peer.tbr && self.declined.is_none()).then_some(&self.peer);
        let inbound = leg.inbound.as_ref().and_then(|key| rows.take_inbound(key));
        let inbound = inbound.as_ref().map(|(_, inbound)| &**inbound);
        let decision = decide(&mut after, inbound, tbr, &self.peer, context);
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
    /// For whom, and what stands above the content instead of the leg's own prefix.
    ByValue(Vec<u16>, Option<String>),
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

pub(crate) fn proceed(job: JobId, decision: Decision) -> Effect {
    match decision {
        Decision::ByValue(positions, prefix) => {
            let mode = Mode::ByValue(positions.clone());
            Effect::Proceed(job, Proceed::ByValue { positions, prefix }, mode)
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

/// Decides, and wins or issues what the decision needs. The caller commits before anybody acts on it. `inbound` is the
/// reference by which the message came, if it did; `tbr` the peer, if it takes references.
fn decide(
    leg: &mut Leg,
    inbound: Option<&Inbound>,
    tbr: Option<&Peer>,
    peer: &Peer,
    context: &mut Context<'_>,
) -> Decision {
    let open = leg::open(leg, context.now);
    let Some(first) = open.first().copied() else { return Decision::Idle };
    if !leg::is_smtp(&leg.route) {
        return Decision::ByValue(fitting(leg, open, peer), None);
    }
    if let Some((position, offered)) = first_unanswered(leg, &open) {
        match what_is_out(leg, position, &offered, tbr.is_some(), context.config) {
            Out::OfferAgain => return offer_again(leg, &offered.reference, context.now),
            Out::Wait => return postpone(NO_TBR),
            Out::WinBack => win_back(leg, &open),
        }
    }
    let queued: Vec<u16> = open.into_iter().filter(|p| is_queued(leg, *p)).collect();
    let queued = fitting(leg, queued, peer);
    match way(leg, inbound, queued.first().copied().unwrap_or(first), tbr, context) {
        Way::Reference(signing, bound) => issue_for(leg, &queued, &signing, bound, context),
        Way::Value => {
            let prefix = inbound.and_then(|inbound| with_hop(leg, inbound, &queued, context));
            Decision::ByValue(queued, prefix)
        }
        Way::Wait(why) => postpone(why),
    }
}

/// As many, from the first on, as the peer takes in one transaction (RFC 9422): the others follow in sessions of their own.
fn fitting(leg: &Leg, positions: Vec<u16>, peer: &Peer) -> Vec<u16> {
    let most_domains = peer.most_domains.unwrap_or(usize::MAX).max(1);
    let mut domains = BTreeSet::new();
    let mut fits = |position: &u16| {
        let recipient = leg.recipients.get(usize::from(*position));
        domains.insert(recipient.map_or("", |recipient| recipient.recipient.address.host()));
        domains.len() <= most_domains
    };
    let most = peer.most_recipients.unwrap_or(usize::MAX).max(1);
    positions.into_iter().take(most).take_while(|position| fits(position)).collect()
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

pub(crate) fn offer_again(leg: &Leg, id: &ReferenceId, now: Timestamp) -> Decision {
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
    /// How surely the keys are known that the grant is bound to.
    Reference(Box<Signing<'a>>, Option<Assurance>),
    Value,
    Wait(&'static str),
}

fn way<'a>(leg: &Leg, inbound: Option<&Inbound>, position: u16, tbr: Option<&Peer>, context: &Context<'a>) -> Way<'a> {
    let config = context.config;
    let Some(domain) = leg.recipients.get(usize::from(position)).and_then(|r| r.recipient.address.domain()) else {
        return Way::Value;
    };
    if leg::is_for_site(leg) {
        return to_site(leg, inbound, &domain, tbr, context);
    }
    let policy = config.policy(&domain);
    let elsewhere =
        matches!(&leg.route, mail::ledger::Route::Relay(name) if !config.relays_by_reference.contains(name));
    if policy.mode == ReferenceMode::Never || elsewhere || leg.by_value {
        return Way::Value;
    }
    let required = policy.mode == ReferenceMode::Require;
    let signing = signing(leg, inbound, context);
    let small = leg.object.as_ref().is_none_or(|object| object.size < policy.by_value_below);
    // Whoever could keep the domain's keys from being found must not so get a grant that needs none.
    let keys_unknown = tbr.is_some_and(|peer| peer.keys_unknown.contains(&domain));
    match (signing, tbr) {
        (Some(_), Some(_)) if required && keys_unknown => Way::Wait(NO_KEYS),
        (Some(signing), Some(peer)) if !keys_unknown && (required || !small) => {
            let bound = peer.keys.iter().find(|(of, _)| *of == domain).map(|(_, assurance)| *assurance);
            Way::Reference(Box::new(signing), bound)
        }
        (None, _) if required => Way::Wait(NO_SIGNER),
        (Some(_), _) if required => Way::Wait(NO_TBR),
        _ => Way::Value,
    }
}

/// A site has no way but the reference that it will ask for.
fn to_site<'a>(
    leg: &Leg,
    inbound: Option<&Inbound>,
    site: &Domain,
    tbr: Option<&Peer>,
    context: &Context<'a>,
) -> Way<'a> {
    let Some(signing) = signing(leg, inbound, context).or_else(|| vouching(leg, site, context)) else {
        return Way::Wait(NO_SIGNER);
    };
    let keys = tbr.and_then(|peer| peer.keys.iter().find(|(of, _)| of == site));
    keys.map_or(Way::Wait(NO_KEYS), |(_, assurance)| Way::Reference(Box::new(signing), Some(*assurance)))
}

/// The site's own domain, by the key that it has delegated to its custodian: for what came by value, or under fields
/// on which no hop can stand (TBR §7.4).
fn vouching<'a>(leg: &Leg, site: &Domain, context: &Context<'a>) -> Option<Signing<'a>> {
    let signer = context.config.signers.get(site).filter(|_| can_have_reference(leg, context))?;
    Some(Signing { signer, below: None })
}

/// Who signs, and what the new field stands on: at the origin nothing; at a relay, which takes custody, the fields by
/// which the message came (TBR §7).
fn signing<'a>(leg: &Leg, inbound: Option<&Inbound>, context: &Context<'a>) -> Option<Signing<'a>> {
    if !can_have_reference(leg, context) {
        return None;
    }
    match (&leg.inbound, inbound) {
        (None, _) => Some(Signing { signer: context.config.signer(leg.mail_from.as_ref())?, below: None }),
        (Some(_), Some(inbound)) => {
            // A hop is signed by exactly the domain that the field below it names.
            let signer = context.config.signers.get(&inbound.to)?;
            let below = Below::of(inbound, context.now, &context.config.timers)?;
            Some(Signing { signer, below: Some(below) })
        }
        // Its fields are forgotten: by value it still has them.
        (Some(_), None) => None,
    }
}

/// What stands above the content for a single recipient in another domain, of a message that came by reference: a hop by
/// value more. Several recipients go without.
fn with_hop(leg: &Leg, inbound: &Inbound, queued: &[u16], context: &mut Context<'_>) -> Option<String> {
    let [only] = queued else { return None };
    let to = &leg.recipients.get(usize::from(*only))?.recipient.address;
    let signer =
        context.config.signers.get(&inbound.to).filter(|signer| to.domain().as_ref() != Some(&signer.domain))?;
    let timers = &context.config.timers;
    let below = Below::of(inbound, context.now, timers)?;
    let block = issue::above_value(signer, &below, to, context.random, context.now, timers).ok()??;
    Some([inbound.seal.as_str(), &inbound.trace, &block].concat())
}

fn can_have_reference(leg: &Leg, context: &Context<'_>) -> bool {
    let lives = context.now.after(context.config.timers.shortest_reference) <= leg.expires;
    lives && leg.facts.is_object && leg.object.is_some()
}

/// Issues one reference for the recipients that share the first one's domain; the others follow in their own sessions.
fn issue_for(
    leg: &mut Leg,
    queued: &[u16],
    signing: &Signing<'_>,
    bound: Option<Assurance>,
    context: &mut Context<'_>,
) -> Decision {
    let domain_of = |leg: &Leg, p: u16| leg.recipients.get(usize::from(p)).and_then(|r| r.recipient.address.domain());
    let Some(to) = queued.first().and_then(|p| domain_of(leg, *p)) else { return Decision::Idle };
    let positions: Vec<u16> = queued.iter().copied().filter(|p| domain_of(leg, *p).as_ref() == Some(&to)).collect();
    let drawn = Drawn::draw(context.random);
    let timers = &context.config.timers;
    match issue::issue(leg, signing, For { to, positions, bound }, drawn, context.now, timers) {
        Ok(id) => offer_again(leg, &id, context.now),
        Err(error) => {
            note(&mut leg.steps, context.now, "unsigned", error.to_string(), None);
            Decision::ByValue(queued.to_vec(), None)
        }
    }
}
