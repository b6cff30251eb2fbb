//! The judge: sees everything in the world, and says what must never be.
//!
//! Custody is judged at every commit, on what is durable; releases are judged against what is durable when they leave;
//! outcomes are judged in the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mail::ledger::{Action, Inbound, IndexState, Key, Leg, Phase, RecipientState, Route, Row, RowBody, Source};
use mail::{Address, Domain, EnhancedStatus, ReferenceId, Timestamp, Xuid};
use queue::Timers;
use queue::letters::told;

use crate::scenario::{self, ServerId};
use crate::server::At;
use crate::topology::Topology;

/// What must never be, with what was seen instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// A message under judgement.
#[derive(Debug)]
pub struct Case {
    /// Where it was submitted.
    pub server: ServerId,
    /// Its author.
    pub author: Option<Address>,
    /// Its recipients.
    pub recipients: Vec<Address>,
    /// Its content.
    pub xuid: Xuid,
    /// The author wants to hear of success too.
    pub success: bool,
    /// The submitter was told that it is accepted.
    pub acknowledged: bool,
}

/// A copy that a next hop or an LMTP server took.
#[derive(Debug)]
struct Handed {
    /// The sender's life in which it did.
    epoch: u32,
    /// The sender has heard of it in that life.
    told: bool,
    /// Its ledger knows.
    settled: bool,
}

/// Custody was taken without an answer, and the receiver says so no more.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) id: ReferenceId,
    pub(crate) host: Domain,
    pub(crate) index: u16,
    /// From then on the origin may have forgotten.
    forgotten: Timestamp,
}

/// A recipient of a message, by number and address.
type Who = (usize, String);

/// What the judge has seen.
#[derive(Debug, Default)]
pub struct Judge {
    topology: Arc<Topology>,
    cases: Vec<Case>,
    by_xuid: HashMap<Xuid, usize>,
    /// Files and LMTP deliveries, by mailbox.
    copies: BTreeMap<Who, BTreeMap<String, u32>>,
    /// How often a next hop took it without the sender's ledger ever knowing: repetitions that no protocol can avoid
    /// (RFC 1047).
    unsettled: HashMap<Who, u32>,
    /// Somebody took custody without an answer: a second copy may be.
    acted: HashSet<usize>,
    /// Where it has, and says so still: from which server, reference, index.
    acting: HashSet<(ServerId, ReferenceId, u16)>,
    settled: Vec<Settled>,
    /// Failures that receivers have told their authors of by mail, because no origin had heard of them.
    mailed: HashSet<(ServerId, ReferenceId, u16)>,
    reports: HashMap<Who, Vec<String>>,
    /// What the origin has on disk, for each destination that a list among its own recipients leads to.
    recorded: HashMap<Who, BTreeMap<(Key, String), RecipientState>>,
    withdrawn: HashSet<Who>,
    /// Taken by a next hop: from which server, leg, for whom.
    handed: HashMap<(ServerId, Key, String), Handed>,
    /// Messages that custodians have taken from their sites, by the site's name.
    taken: HashSet<(ServerId, Key)>,
    /// For whom; and whether the site's ledger knows.
    uploaded: HashMap<(ServerId, Key, String), bool>,
    /// How many of those it does not know of. It may be told something else meanwhile, but no second copy may be.
    in_doubt: HashMap<Who, u32>,
    posted: BTreeSet<(ServerId, ReferenceId)>,
    /// Authors to whom a report could not be delivered in its lifetime: nobody is told of that.
    unreachable: HashSet<Address>,
}

impl Judge {
    /// Of a world in which these take mail.
    pub fn new(topology: Arc<Topology>) -> Self {
        Self { topology, ..Self::default() }
    }

    /// A message is about to be submitted.
    pub fn open(&mut self, case: Case) {
        self.by_xuid.insert(case.xuid, self.cases.len());
        self.cases.push(case);
    }

    /// The submitter was told that the message is accepted.
    pub fn acknowledge(&mut self, number: usize) {
        self.cases[number].acknowledged = true;
    }

    /// The operator was told that this recipient's copy was recalled.
    pub fn withdrawn(&mut self, number: usize, recipient: &Address) {
        self.withdrawn.insert((number, recipient.to_string()));
    }

    /// A copy in a mailbox. The same file again is no second copy.
    pub fn delivered(&mut self, xuid: &Xuid, mailbox: &str, file: String, is_file: bool) {
        let Some(number) = self.by_xuid.get(xuid) else { return };
        let count = self.copies.entry((*number, mailbox.to_owned())).or_default().entry(file).or_default();
        *count = if is_file { 1 } else { *count + 1 };
    }

    /// Power was lost before a mailbox file was synced (a seeded bug).
    pub fn file_lost(&mut self, xuid: &Xuid, mailbox: &str, file: &str) {
        let Some(number) = self.by_xuid.get(xuid) else { return };
        if let Some(files) = self.copies.get_mut(&(*number, mailbox.to_owned())) {
            files.remove(file);
        }
    }

    /// A next hop or an LMTP server has taken a copy from this leg.
    ///
    /// # Errors
    /// It had done so before, the sender knew, and has not crashed since.
    pub(crate) fn handed(&mut self, from: At, key: &Key, to: &Address, xuid: &Xuid) -> Result<(), Violation> {
        let now = Handed { epoch: from.epoch, told: false, settled: false };
        let before = self.handed.insert((from.server, key.clone(), to.to_string()), now);
        let Some(number) = self.by_xuid.get(xuid) else { return Ok(()) };
        *self.unsettled.entry((*number, to.to_string())).or_default() += 1;
        if before.is_some_and(|before| before.settled || before.told && before.epoch == from.epoch) {
            return Err(Violation(format!("{key} was sent to {to} twice, without a crash or a lost reply between")));
        }
        Ok(())
    }

    /// The sender has been told; until then it cannot know.
    pub fn told(&mut self, server: ServerId, key: &Key, to: &Address) {
        if let Some(handed) = self.handed.get_mut(&(server, key.clone(), to.to_string())) {
            handed.told = true;
        }
    }

    /// A custodian has taken a message of its site's, by upload or in a bundle.
    ///
    /// # Errors
    /// It had done so before: nothing excuses that.
    pub(crate) fn taken(
        &mut self,
        site: ServerId,
        id: &Key,
        recipients: &[String],
        xuid: &Xuid,
    ) -> Result<(), Violation> {
        if !self.taken.insert((site, id.clone())) {
            return Err(Violation(format!("{id} was taken from its site twice")));
        }
        let number = self.by_xuid.get(xuid).copied();
        for to in recipients {
            self.uploaded.insert((site, id.clone(), to.clone()), false);
            number.into_iter().for_each(|number| *self.in_doubt.entry((number, to.clone())).or_default() += 1);
        }
        Ok(())
    }

    /// Has its custodian taken this message?
    pub(crate) fn was_taken(&self, site: ServerId, id: &Key) -> bool {
        self.taken.contains(&(site, id.clone()))
    }

    /// The content of a message.
    pub fn xuid(&self, number: usize) -> Xuid {
        self.cases[number].xuid
    }

    /// A report arrives in the author's mailbox.
    pub fn reported(&mut self, content: &[u8]) {
        let text = String::from_utf8_lossy(content);
        let field = |line: &str, name: &str| {
            let value = line.strip_prefix(name)?.rsplit(';').next()?;
            Some(value.trim().to_owned())
        };
        let envelope = text.lines().find_map(|line| field(line, "Original-Envelope-Id:"));
        let Some(number) = envelope.and_then(|id| id.strip_prefix('m')?.parse::<usize>().ok()) else { return };
        let mut recipient = None;
        for line in text.lines() {
            recipient = field(line, "Final-Recipient:").or(recipient);
            if let (Some(action), Some(who)) = (field(line, "Action:"), &recipient) {
                self.reports.entry((number, who.clone())).or_default().push(action);
            }
        }
    }

    /// A claim is posted.
    ///
    /// # Errors
    /// It is the first one, and `e` has passed.
    pub fn posted(&mut self, server: ServerId, id: ReferenceId, e: Timestamp, now: Timestamp) -> Result<(), Violation> {
        let slack = std::time::Duration::from_secs(60);
        if self.posted.insert((server, id)) && now > e.after(slack) {
            return Err(Violation(format!("the claim of {id} was first sent after its e")));
        }
        Ok(())
    }

    /// Rows have become durable at a server.
    pub fn committed<'a>(&mut self, server: ServerId, rows: impl Iterator<Item = &'a Row>) -> BTreeSet<usize> {
        let mut touched = BTreeSet::new();
        for row in rows {
            match &row.body {
                RowBody::Leg(leg) => touched.extend(self.note_leg(server, &row.key, leg)),
                RowBody::Inbound(inbound) => touched.extend(self.note_inbound(server, inbound)),
            }
        }
        touched
    }

    fn note_leg(&mut self, server: ServerId, key: &Key, leg: &Leg) -> Option<usize> {
        self.note_report(leg);
        let number = self.number_of(leg, server)?;
        for recipient in &leg.recipients {
            let by_value = |state: &RecipientState| match state {
                RecipientState::Done { outcome, claim: None } => outcome.action != Action::Failed,
                _ => false,
            };
            let concluded = by_value(&recipient.state);
            let to = recipient.recipient.address.to_string();
            if let Some(settled) = self.uploaded.get_mut(&(server, key.clone(), to.clone())).filter(|_| concluded)
                && !std::mem::replace(settled, true)
            {
                self.in_doubt.entry((number, to.clone())).and_modify(|count| *count -= 1);
            }
            let Some(handed) = self.handed.get_mut(&(server, key.clone(), to.clone())) else { continue };
            if concluded && !std::mem::replace(&mut handed.settled, true) {
                self.unsettled.entry((number, to)).and_modify(|count| *count -= 1);
            }
        }
        if leg.source == Source::Local {
            for recipient in &leg.recipients {
                let asked = recipient.original.as_ref().unwrap_or(&recipient.recipient.address);
                let states = self.recorded.entry((number, asked.to_string())).or_default();
                let destination = (key.clone(), recipient.recipient.address.to_string());
                states.insert(destination, recipient.state.clone());
            }
        }
        Some(number)
    }

    fn note_report(&mut self, leg: &Leg) {
        for recipient in leg.recipients.iter().filter(|_| leg.mail_from.is_none() && leg.params.envid.is_none()) {
            if matches!(&recipient.state, RecipientState::Done { outcome, .. } if outcome.action == Action::Failed) {
                self.unreachable.insert(recipient.recipient.address.clone());
            }
        }
    }

    /// Legs let go of their object in the end; the envelope id stays.
    fn number_of(&self, leg: &Leg, server: ServerId) -> Option<usize> {
        let number: usize = leg.params.envid.as_deref()?.strip_prefix('m')?.parse().ok()?;
        (leg.source != Source::Local || self.cases[number].server == server).then_some(number)
    }

    fn note_inbound(&mut self, server: ServerId, inbound: &Inbound) -> Option<usize> {
        self.note_acts(server, inbound);
        let number = *self.by_xuid.get(&inbound.xuid)?;
        let acted = |state: &IndexState| {
            matches!(state, IndexState::Mine { acted: true } | IndexState::Final { acted: true, .. })
        };
        if inbound.recipients.iter().any(|recipient| acted(&recipient.state)) {
            self.acted.insert(number);
        }
        Some(number)
    }

    fn note_acts(&mut self, server: ServerId, inbound: &Inbound) {
        let is_memory = remembers(inbound);
        for (recipient, index) in inbound.recipients.iter().zip(0u16..).filter(|_| !is_memory) {
            let one = (server, inbound.i, index);
            if matches!(&recipient.state, IndexState::Final { outcome, .. } if outcome.reported) {
                self.mailed.insert(one);
            }
            if matches!(&recipient.state, IndexState::Mine { acted: true } | IndexState::Final { acted: true, .. }) {
                self.acting.insert(one);
            } else if self.acting.remove(&one) {
                let forgotten = inbound.expires.after(Timers::default().answer_memory);
                self.settled.push(Settled { id: inbound.i, host: inbound.host.clone(), index, forgotten });
            }
        }
    }

    /// What was settled since this was last asked, as long as its origin remembers it.
    pub(crate) fn settled(&mut self, now: Timestamp) -> Vec<Settled> {
        let mut settled = std::mem::take(&mut self.settled);
        settled.retain(|one| now < one.forgotten);
        settled
    }

    /// How many failures receivers have told authors of by mail.
    pub(crate) fn mailed(&self) -> u64 {
        self.mailed.len() as u64
    }

    /// Judges custody of a message on all durable rows.
    ///
    /// # Errors
    /// Custody of a recipient is held by nobody, or by two who do not know of each other.
    pub fn custody(&self, number: usize, disks: &[Vec<&Row>]) -> Result<(), Violation> {
        let case = &self.cases[number];
        if !case.acknowledged {
            return Ok(());
        }
        for recipient in &case.recipients {
            self.custody_of(number, recipient, disks)?;
        }
        Ok(())
    }

    /// What the origin has on disk of a recipient: of several destinations that one which is worst.
    fn state(&self, who: &Who) -> Option<&RecipientState> {
        let badness = |state: &&RecipientState| match state {
            RecipientState::Done { outcome, .. } if outcome.action != Action::Failed => 0,
            RecipientState::Done { outcome, .. } if outcome.withdrawn => 1,
            RecipientState::Done { .. } => 2,
            RecipientState::Claimed(_) => 3,
            RecipientState::Queued | RecipientState::Offered(_) => 4,
        };
        self.recorded.get(who)?.values().max_by_key(badness)
    }

    fn custody_of(&self, number: usize, recipient: &Address, disks: &[Vec<&Row>]) -> Result<(), Violation> {
        let who = (number, recipient.to_string());
        let state = self.state(&who);
        let names = scenario::names(recipient);
        let holders = disks.iter().flatten().filter(|row| holds(row, &names, state)).count();
        let concluded = matches!(state, Some(RecipientState::Done { .. }));
        let arrived = scenario::mailboxes(recipient).iter().all(|name| self.copies_in(number, name) > 0);
        // A holder that the origin does not hear reports failures to the author itself.
        let reported = self.was_told(number, recipient, "failed");
        if holders == 0 && !concluded && !arrived && !reported {
            return Err(Violation(format!(
                "custody of m{number} for {recipient} is held by nobody; origin: {state:?}"
            )));
        }
        self.two_custodians(number, recipient, state, disks)
    }

    /// What a claim was granted for must not be claimable any more, and nobody else's.
    fn two_custodians(
        &self,
        number: usize,
        recipient: &Address,
        state: Option<&RecipientState>,
        disks: &[Vec<&Row>],
    ) -> Result<(), Violation> {
        if self.acted.contains(&number) {
            return Ok(());
        }
        let granted = |row: &&&Row| {
            let RowBody::Inbound(inbound) = &row.body else { return false };
            !remembers(inbound)
                && inbound.recipients.iter().any(|r| r.recipient.address == *recipient && is_granted(&r.state))
        };
        // A custodian and its site, a backup exchanger and the primary know the recipient by the same address: one may hold after
        // the other, and two of the same rank may not.
        let mut holders: BTreeMap<Option<usize>, usize> = BTreeMap::new();
        for (server, rows) in disks.iter().enumerate() {
            let rank = self.topology.stations_left(server, recipient.host());
            *holders.entry(rank).or_default() += rows.iter().filter(granted).count();
        }
        let count = holders.into_values().max().unwrap_or_default();
        // What was sent by value before, and its sender does not know, is a message of its own (RFC 1047).
        let most = self.repeats(number, recipient) as usize;
        let unclaimed = matches!(state, Some(RecipientState::Queued | RecipientState::Offered(_)));
        let is_sure = most == 1 && !self.is_doubtful(number, recipient);
        if count > most || (count > 0 && unclaimed && is_sure) {
            return Err(Violation(format!("custody of m{number} for {recipient} is held twice ({count}): {state:?}")));
        }
        Ok(())
    }

    fn copies_in(&self, number: usize, mailbox: &str) -> u32 {
        self.copies.get(&(number, mailbox.to_owned())).map_or(0, |files| files.values().sum())
    }

    /// Judges how everything ended.
    ///
    /// # Errors
    /// A message was lost, doubled, or its author was told something untrue.
    pub fn close(&self) -> Result<(), Violation> {
        for (number, case) in self.cases.iter().enumerate().filter(|(_, case)| case.acknowledged) {
            for recipient in &case.recipients {
                self.close_recipient(number, case, recipient)?;
            }
        }
        Ok(())
    }

    fn close_recipient(&self, number: usize, case: &Case, recipient: &Address) -> Result<(), Violation> {
        let wrong = self.doubled(number, recipient).or_else(|| self.untruth(number, case, recipient));
        let Some(wrong) = wrong else { return Ok(()) };
        let who = (number, recipient.to_string());
        let (state, reports) = (self.state(&who), self.reports.get(&who));
        let mailboxes = scenario::mailboxes(recipient).into_iter();
        let copies: Vec<_> = mailboxes.map(|mailbox| (self.copies_in(number, &mailbox), mailbox)).collect();
        Err(Violation(format!(
            "m{number} for {recipient}: {wrong}\n  origin: {state:?}\n  reports: {reports:?}\n  copies: {copies:?}"
        )))
    }

    /// How often a message may come to this recipient: every repetition on the way to an alias repeats what comes after it.
    fn repeats(&self, number: usize, recipient: &Address) -> u32 {
        scenario::names(recipient).iter().map(|name| 1 + self.unsettled_for(number, name)).product()
    }

    /// A second copy, where none may be.
    fn doubled(&self, number: usize, recipient: &Address) -> Option<&'static str> {
        let repeats = self.repeats(number, recipient);
        let mut mailboxes = scenario::mailboxes(recipient).into_iter();
        let doubled = mailboxes.any(|mailbox| self.copies_in(number, &mailbox) > repeats);
        (doubled && !self.acted.contains(&number)).then_some("a second copy")
    }

    /// What the origin recorded or told its author, and is not so.
    fn untruth(&self, number: usize, case: &Case, recipient: &Address) -> Option<&'static str> {
        let who = (number, recipient.to_string());
        let mailboxes = scenario::mailboxes(recipient);
        let has_copy = |mailbox: &String| self.copies_in(number, mailbox) > 0;
        let arrived = !mailboxes.is_empty() && mailboxes.iter().all(has_copy);
        let doubtful = self.is_doubtful(number, recipient);
        let told = |action: &str| self.was_told(number, recipient, action);
        let told_good = told("delivered") || told("relayed") || told("expanded");
        let listens = case.author.as_ref().is_some_and(|author| !self.unreachable.contains(author));
        let Some(RecipientState::Done { outcome, .. }) = self.state(&who) else {
            return (!told("failed") || arrived).then_some("never concluded");
        };
        if outcome.action == Action::Failed {
            // Whoever recalls a message is no stranger to its end.
            let recalled = outcome.text.starts_with("withdrawn");
            let untrue_recall = self.withdrawn.contains(&who) && mailboxes.iter().any(has_copy);
            return match () {
                () if arrived && !doubtful => Some("recorded as failed, and arrived"),
                () if untrue_recall && !doubtful => Some("recalled, and arrived"),
                () if listens && !recalled && !told("failed") => Some("failed, and nobody told the author"),
                () => None,
            };
        }
        let surely = listens && arrived && !doubtful && !self.acted.contains(&number);
        match () {
            () if listens && !arrived && !told("failed") => Some("recorded as delivered, and did not arrive"),
            () if surely && told("failed") && !told_good => Some("the author was told that it failed, and it arrived"),
            () if surely && case.success && !told_good => Some("the author asked to hear of success, and did not"),
            () => None,
        }
    }

    /// Has somebody on the way taken it, and whoever sent it does not know?
    fn is_doubtful(&self, number: usize, recipient: &Address) -> bool {
        let uploaded = |name: &String| self.in_doubt.get(&(number, name.clone())).is_some_and(|count| *count > 0);
        scenario::names(recipient).iter().any(|name| uploaded(name) || self.unsettled_for(number, name) > 0)
    }

    fn unsettled_for(&self, number: usize, name: &str) -> u32 {
        self.unsettled.get(&(number, name.to_owned())).copied().unwrap_or(0)
    }

    fn was_told(&self, number: usize, recipient: &Address, action: &str) -> bool {
        let names = scenario::names(recipient).into_iter();
        let mut reports = names.filter_map(|name| self.reports.get(&(number, name)));
        reports.any(|actions| actions.iter().any(|a| a == action))
    }
}

/// A site comes again and again: what waits for it must not expire.
///
/// # Errors
/// It has.
pub(crate) fn waited(row: &Row) -> Result<(), Violation> {
    let RowBody::Leg(leg) = &row.body else { return Ok(()) };
    let expired = |state: &RecipientState| match state {
        RecipientState::Done { outcome, claim: None } => outcome.status == EnhancedStatus::permanent(4, 7),
        _ => false,
    };
    let is_for_site = matches!(leg.route, Route::Site(_));
    if is_for_site && leg.recipients.iter().any(|recipient| expired(&recipient.state)) {
        return Err(Violation(format!("{} waited for a site that came, and expired", row.key)));
    }
    Ok(())
}

/// Does this row hold custody of the recipient, by whatever name on the way?
fn holds(row: &Row, names: &[String], origin: Option<&RecipientState>) -> bool {
    let is_one = |address: &Address| names.contains(&address.to_string());
    match &row.body {
        // Whoever offers on what it has delegated holds nothing.
        RowBody::Leg(leg) if leg.delegated => false,
        RowBody::Leg(leg) => leg.recipients.iter().any(|r| {
            let is_his = is_one(&r.recipient.address) || r.original.as_ref().is_some_and(is_one);
            is_his && matches!(r.state, RecipientState::Queued | RecipientState::Offered(_))
        }),
        RowBody::Inbound(inbound) if remembers(inbound) => false,
        RowBody::Inbound(inbound) => {
            inbound.recipients.iter().any(|r| is_one(&r.recipient.address) && inbound_holds(inbound, &r.state, origin))
        }
    }
}

/// A row that only remembers what was taken from a site holds nothing.
fn remembers(inbound: &Inbound) -> bool {
    told(inbound, &inbound.d.clone().into()).is_some()
}

/// At the receiver custody is here, or the origin has granted it and the answer is still on its way.
fn inbound_holds(inbound: &Inbound, state: &IndexState, origin: Option<&RecipientState>) -> bool {
    match state {
        IndexState::Mine { .. } | IndexState::Final { .. } => true,
        IndexState::Open => {
            let claiming = matches!(inbound.phase, Phase::Claiming { .. }) && inbound.object.is_some();
            claiming && matches!(origin, Some(RecipientState::Claimed(claim)) if claim.reference == inbound.i)
        }
        IndexState::Refused | IndexState::Taken | IndexState::Gone | IndexState::Delegated { .. } => false,
    }
}

fn is_granted(state: &IndexState) -> bool {
    matches!(state, IndexState::Mine { acted: false } | IndexState::Final { acted: false, .. })
}
