//! How jobs begin and end: places and limits, what the edge is told, and which change their news becomes.

use std::time::Duration;

use mail::ledger::{Action as Outcome, Inbound, Key, Leg, RecipientState, Route, Row, RowBody};
use mail::{EnhancedStatus, ReferenceId};

use crate::desk::{Fetched, Repository, Sender, Waited};
use crate::lanes::Rank;
use crate::node::{Node, companion};
use crate::origin::{attempt, end, leg};
use crate::port::{
    Action, Delivery, DeliveryEnd, JobEvent, JobId, Judgement, Peer, Post, Proceed, Retrieval, RetrieveFailure, Work,
};
use crate::receiver::inbound::{self, Task};
use crate::receiver::{claim, delegate, judgement, receipts, retrieval};
use crate::work::{JobKind, Mode};

/// Most entries in one post (TBR §8.2).
const MAX_ENTRIES: usize = 1000;

/// What ends this soon is retrieved before everything else of its origin; then the smallest.
const URGENT: Duration = Duration::from_secs(24 * 3600);

/// Most references that one retrieval serves.
const MAX_SHARED: usize = 1000;

impl Node {
    /// Gives free places to whoever waits for them.
    pub(crate) fn start_jobs(&mut self) {
        while let Some((route, sender, key)) = self.desk.deliveries.next() {
            match self.desk.take_waiting(&key) {
                Waited::Row(row) => self.deliver((route, sender), *row),
                waited => {
                    self.desk.deliveries.leave(&route, &sender);
                    self.recall(key, &waited);
                }
            }
        }
        while let Some((d, (), key)) = self.desk.retrievals.next() {
            match self.take_for(Task::Retrieve, key) {
                Some(row) => self.retrieve(row),
                None => self.desk.retrievals.leave(&d, &()),
            }
        }
        while let Some((d, (), key)) = self.desk.judgements.next() {
            match self.take_for(Task::Judge, key) {
                Some(row) => self.judge(row),
                None => self.desk.judgements.leave(&d, &()),
            }
        }
        while let Some((repository, (), key)) = self.desk.delegations.next() {
            match self.take_for(Task::Delegate, key) {
                Some(row) => self.post_delegation(repository, row),
                None => self.desk.delegations.leave(&repository, &()),
            }
        }
        while let Some((repository, (), key)) = self.desk.claims.next() {
            let keys = self.desk.claims.share(&repository, MAX_ENTRIES - 1);
            self.post_claims(repository, std::iter::once(key).chain(keys).collect());
        }
        while let Some((repository, (), key)) = self.desk.receipts.next() {
            let keys = self.desk.receipts.share(&repository, MAX_ENTRIES - 1);
            self.post_receipts(repository, std::iter::once(key).chain(keys).collect());
        }
    }

    /// The row that waits for this. A key that was left behind in a lane may stand for a row that waits in another by now, which gets
    /// in line there.
    fn take_for(&mut self, task: Task, key: Key) -> Option<Row> {
        match self.desk.take_waiting(&key) {
            Waited::Row(row) if wants(&row, task) => return Some(*row),
            Waited::Row(row) => self.consider(*row),
            waited => self.recall(key, &waited),
        }
        None
    }

    /// Only the key waited: the row has to be read first.
    fn recall(&mut self, key: Key, waited: &Waited) {
        if matches!(waited, Waited::Key) {
            self.look_again(vec![key]);
        }
    }

    /// A leg wants to be delivered.
    pub(crate) fn want_delivery(&mut self, row: Row) {
        let RowBody::Leg(leg) = &row.body else { return };
        let (route, sender, key) = (leg.route.clone(), Sender::of(leg), row.key.clone());
        let most = if self.desk.deliveries.has_room(&route) { usize::MAX } else { self.config.limits.waiting };
        self.desk.wait(row, most);
        self.desk.deliveries.queue(&route, sender, key);
    }

    /// A reference wants its object; a retrieval of it that is under way serves it too.
    pub(crate) fn want_retrieval(&mut self, row: Row) {
        let RowBody::Inbound(inbound) = &row.body else { return };
        if self.desk.is_busy(&row.key) {
            return self.desk.turn_away(&row.key);
        }
        if self.join(inbound, &row) {
            return;
        }
        let (d, key) = (inbound.d.clone(), row.key.clone());
        let rank = Rank { can_wait: inbound.expires > self.now.after(URGENT), octets: inbound.size };
        self.desk.wait(row, usize::MAX);
        self.desk.retrievals.queue_by(&d, (), rank, key);
    }

    /// Whoever joins has a signature of the same domain over the same octets at the same host. What is its own is not skipped: its grant
    /// is good or not when it is claimed, which says too whether it was withdrawn. Only a client that is to be looked at again is so
    /// before a retrieval, and goes alone.
    fn join(&mut self, inbound: &Inbound, row: &Row) -> bool {
        if retrieval::is_looked_at_again(inbound) {
            return false;
        }
        let Some(job) = self.desk.fetching.get(&Fetched::of(inbound)).copied() else { return false };
        let Some(JobKind::Retrieval { keys, .. }) = self.desk.jobs.get_mut(&job) else { return false };
        if keys.len() >= MAX_SHARED {
            return false;
        }
        keys.push(row.key.clone());
        self.desk.run(row.clone(), job);
        true
    }

    fn deliver(&mut self, place: (Route, Sender), row: Row) {
        let RowBody::Leg(leg) = &row.body else { return };
        let (key, leg) = (row.key.clone(), Leg::clone(leg));
        // What is held, or was to end before, is not delivered: it is only found out whether it was.
        let looks_only = leg::is_in_doubt(&leg, self.started()) && (leg.held || leg.expires <= self.now);
        let positions = match looks_only {
            true => leg::positions(&leg, |recipient| recipient.state == RecipientState::Queued),
            false => leg::open(&leg, self.now),
        };
        let mode = Mode::Undecided(positions.clone());
        let job = self.begin_job(JobKind::Delivery { key: key.clone(), place, mode, peer: None });
        self.desk.run(row, job);
        let budget = self.config.timers.attempt_budget;
        let work = Work::Deliver(Box::new(Delivery { key, leg, positions, looks_only, budget }));
        self.actions.push_back(Action::Start { job, work });
    }

    fn retrieve(&mut self, row: Row) {
        let RowBody::Inbound(inbound) = &row.body else { return };
        if self.join(inbound, &row) {
            return self.desk.retrievals.leave(&inbound.d, &());
        }
        let (d, xuid, fetched) = (inbound.d.clone(), inbound.xuid, Fetched::of(inbound));
        let goes_alone = retrieval::is_looked_at_again(inbound);
        let work = Work::Retrieve(Box::new(Retrieval {
            d: d.clone(),
            to: inbound.to.clone(),
            host: inbound.host.clone(),
            uri: inbound.uri.clone(),
            xuid,
            size: inbound.size,
            expires: inbound.expires,
            budget: self.config.timers.attempt_budget,
            recheck: inbound.client.filter(|_| goes_alone),
        }));
        let keys = vec![row.key.clone()];
        let job = self.begin_job(JobKind::Retrieval { d, fetched: fetched.clone(), keys });
        if !goes_alone {
            self.desk.fetching.insert(fetched, job);
        }
        self.desk.run(row, job);
        self.actions.push_back(Action::Start { job, work });
    }

    fn judge(&mut self, row: Row) {
        let RowBody::Inbound(inbound) = &row.body else { return };
        let (key, d) = (row.key.clone(), inbound.d.clone());
        let work = Work::Judge(Box::new(Judgement { key: key.clone(), inbound: Inbound::clone(inbound) }));
        let job = self.begin_job(JobKind::Judgement { d, key });
        self.desk.run(row, job);
        self.actions.push_back(Action::Start { job, work });
    }

    fn post_delegation(&mut self, repository: Repository, row: Row) {
        let RowBody::Inbound(inbound) = &row.body else { return };
        let hop = inbound.hops.first().map(|hop| hop.issued.id);
        let (Some(post), Some(hop)) = (delegate::post(&row.key, inbound, self.instance), hop) else {
            return self.desk.delegations.leave(&repository, &());
        };
        let job = self.begin_job(JobKind::Delegation { repository, key: row.key.clone(), hop });
        self.desk.run(row, job);
        self.actions.push_back(Action::Start { job, work: Work::PostDelegation(Box::new(post)) });
    }

    fn post_claims(&mut self, repository: Repository, waiting: Vec<Key>) {
        let rows = self.take_inbounds(waiting, Task::Claim);
        let entries = rows.iter().filter_map(inbound_of).map(claim::entry).collect();
        let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
        if keys.is_empty() {
            return self.desk.claims.leave(&repository, &());
        }
        let post = self.post(&repository, entries);
        let job = self.begin_job(JobKind::Claims { repository, keys });
        rows.into_iter().for_each(|row| self.desk.run(row, job));
        self.actions.push_back(Action::Start { job, work: Work::PostClaims(post) });
    }

    fn post_receipts(&mut self, repository: Repository, waiting: Vec<Key>) {
        let rows = self.take_inbounds(waiting, Task::Report);
        let entries: Vec<_> = rows.iter().filter_map(inbound_of).map(receipts::entry).collect();
        let said = |(row, entry): (&Row, &crate::port::ReceiptEntry)| {
            (row.key.clone(), entry.outcomes.iter().map(|(index, outcome)| (*index, outcome.action)).collect())
        };
        let posted: Vec<(Key, Vec<(u16, Outcome)>)> = rows.iter().zip(&entries).map(said).collect();
        if posted.is_empty() {
            return self.desk.receipts.leave(&repository, &());
        }
        let post = self.post(&repository, entries);
        let job = self.begin_job(JobKind::Receipts { repository, entries: posted });
        rows.into_iter().for_each(|row| self.desk.run(row, job));
        self.actions.push_back(Action::Start { job, work: Work::PostReceipts(post) });
    }

    fn post<T>(&self, repository: &Repository, entries: Vec<T>) -> Post<T> {
        Post { host: repository.host.clone(), d: repository.d.clone(), instance: self.instance, entries }
    }

    /// All of them references.
    fn take_inbounds(&mut self, keys: Vec<Key>, task: Task) -> Vec<Row> {
        keys.into_iter().filter_map(|key| self.take_for(task, key)).collect()
    }

    fn begin_job(&mut self, kind: JobKind) -> JobId {
        let job = self.desk.next_job();
        self.desk.jobs.insert(job, kind);
        job
    }

    /// Lets a delivery go on in its session.
    pub(crate) fn proceed(&mut self, job: JobId, how: Proceed, next: Mode) {
        if let Some(JobKind::Delivery { mode, .. }) = self.desk.jobs.get_mut(&job) {
            *mode = next;
            self.actions.push_back(Action::Proceed { job, how });
        }
    }

    /// A job has news.
    pub(crate) fn job_event(&mut self, job: JobId, event: JobEvent) {
        match event {
            JobEvent::Connected(peer) => self.decide(job, Some(peer), None),
            JobEvent::OfferDeclined { text } => self.decide(job, None, Some(text)),
            ended => {
                if let Some(kind) = self.desk.jobs.remove(&job) {
                    self.job_ended(job, kind, ended);
                }
            }
        }
    }

    fn decide(&mut self, job: JobId, said: Option<Peer>, declined: Option<String>) {
        let Some(JobKind::Delivery { key, peer, .. }) = self.desk.jobs.get_mut(&job) else { return };
        if said.is_some() {
            *peer = said;
        }
        let (key, peer) = (key.clone(), peer.clone().unwrap_or_default());
        let Some(row) = self.desk.running(&key).cloned() else { return };
        if declined.is_some() {
            self.expect_by_value(job, &row);
        }
        self.begin_with(attempt::Decide { key, job, peer, declined }, vec![row], Vec::new());
    }

    /// By value may begin any moment: from here nobody can withdraw what is still open.
    fn expect_by_value(&mut self, job: JobId, row: &Row) {
        let RowBody::Leg(leg) = &row.body else { return };
        if let Some(JobKind::Delivery { mode, .. }) = self.desk.jobs.get_mut(&job) {
            *mode = Mode::Undecided(leg::positions(leg, |r| leg::is_here(&r.state)));
        }
    }

    fn job_ended(&mut self, job: JobId, kind: JobKind, event: JobEvent) {
        match kind {
            JobKind::Delivery { key, place: (route, sender), mode, peer } => {
                self.desk.deliveries.leave(&route, &sender);
                let end = match event {
                    JobEvent::Delivered(end) => end,
                    _ => broken(),
                };
                self.delivered(key, mode, peer, end);
            }
            JobKind::Retrieval { d, fetched, keys } => {
                self.desk.retrievals.leave(&d, &());
                // Another of the same object may run, which more have joined.
                if self.desk.fetching.get(&fetched) == Some(&job) {
                    self.desk.fetching.remove(&fetched);
                }
                self.retrieved(keys, event);
            }
            JobKind::Judgement { d, key } => {
                self.desk.judgements.leave(&d, &());
                self.judged(key, event);
            }
            JobKind::Delegation { repository, key, hop } => {
                self.desk.delegations.leave(&repository, &());
                self.delegated(key, hop, event);
            }
            JobKind::Claims { repository, keys } => {
                self.desk.claims.leave(&repository, &());
                self.claimed(keys, event);
            }
            JobKind::Receipts { repository, entries } => {
                self.desk.receipts.leave(&repository, &());
                self.reported(entries, event);
            }
        }
    }

    fn delivered(&mut self, key: Key, mode: Mode, peer: Option<Peer>, end: DeliveryEnd) {
        let Some(row) = self.desk.take_running(&key, mode.reaches().to_vec()) else { return };
        let inbound = companion(&row).cloned();
        let peer_reports = peer.is_some_and(|peer| peer.dsn);
        let jitter = self.random.number();
        // The outcome of an inbound leg changes two rows: those are read together.
        let rows = inbound.is_none().then(|| vec![row]);
        let change = end::Ended { key: key.clone(), inbound, mode, end, peer_reports, jitter };
        self.start(Box::new(change), rows, vec![key]);
    }

    fn retrieved(&mut self, keys: Vec<Key>, event: JobEvent) {
        let rows: Vec<Row> = keys.iter().filter_map(|key| self.desk.take_running(key, Vec::new())).collect();
        let (failure, text) = match event {
            JobEvent::Retrieved { object, facts, octets } => {
                let change = retrieval::Retrieved { keys: keys.clone(), object, facts, octets };
                return self.begin_with(change, rows, keys);
            }
            JobEvent::RetrieveFailed { failure, text } => (failure, text),
            _ => (RetrieveFailure::Temporary, "the retrieval broke off".to_owned()),
        };
        for (row, place) in rows.into_iter().zip(0..) {
            let (key, text, jitter) = (row.key.clone(), text.clone(), self.random.number());
            // It was the first whose grant was used, and who was refused or is gone; the others only shared its retrieval.
            let is_its_own = matches!(failure, RetrieveFailure::Refused | RetrieveFailure::Gone);
            let failure = if is_its_own && place > 0 { RetrieveFailure::Temporary } else { failure };
            let change = retrieval::NotRetrieved { key: key.clone(), failure, text, jitter };
            self.begin_with(change, vec![row], vec![key]);
        }
    }

    fn judged(&mut self, key: Key, event: JobEvent) {
        let Some(row) = self.desk.take_running(&key, Vec::new()) else { return };
        let decision = match event {
            JobEvent::Judged(decision) => Ok(decision),
            JobEvent::JudgeFailed { text } => Err(text),
            _ => Err("the judgement broke off".to_owned()),
        };
        let jitter = self.random.number();
        let change = judgement::Judged { key: key.clone(), decision, jitter };
        self.begin_with(change, vec![row], vec![key]);
    }

    fn delegated(&mut self, key: Key, hop: ReferenceId, event: JobEvent) {
        let Some(row) = self.desk.take_running(&key, Vec::new()) else { return };
        let answer = match event {
            JobEvent::Delegated(answer) => Ok(answer),
            JobEvent::PostFailed { text } => Err(text),
            _ => Err("the post broke off".to_owned()),
        };
        self.begin_with(delegate::Answered { key: key.clone(), hop, answer }, vec![row], vec![key]);
    }

    fn claimed(&mut self, keys: Vec<Key>, event: JobEvent) {
        let (mut answers, text) = match event {
            JobEvent::Claimed(answers) => (answers, "the answer leaves this reference out".to_owned()),
            JobEvent::PostFailed { text } => (Vec::new(), text),
            _ => (Vec::new(), "the post broke off".to_owned()),
        };
        answers.resize_with(keys.len(), || None);
        for (key, answers) in keys.into_iter().zip(answers) {
            let Some(row) = self.desk.take_running(&key, Vec::new()) else { continue };
            let (text, jitter) = (text.clone(), self.random.number());
            let change = claim::Answered { key: key.clone(), answers, text, jitter };
            self.begin_with(change, vec![row], vec![key]);
        }
    }

    fn reported(&mut self, entries: Vec<(Key, Vec<(u16, Outcome)>)>, event: JobEvent) {
        let (mut answers, text) = match event {
            JobEvent::Reported(answers) => (answers, "the answer leaves this reference out".to_owned()),
            JobEvent::PostFailed { text } => (Vec::new(), text),
            _ => (Vec::new(), "the post broke off".to_owned()),
        };
        answers.resize_with(entries.len(), || None);
        for ((key, posted), recorded) in entries.into_iter().zip(answers) {
            let Some(row) = self.desk.take_running(&key, Vec::new()) else { continue };
            let (text, jitter) = (text.clone(), self.random.number());
            let change = receipts::Reported { key: key.clone(), posted, recorded, text, jitter };
            self.begin_with(change, vec![row], vec![key]);
        }
    }
}

/// Is this what the row waits for? Only a reference waits for a task.
fn wants(row: &Row, task: Task) -> bool {
    inbound_of(row).is_some_and(|inbound| inbound::task(inbound) == Some(task))
}

fn inbound_of(row: &Row) -> Option<&Inbound> {
    match &row.body {
        RowBody::Inbound(inbound) => Some(inbound),
        RowBody::Leg(_) => None,
    }
}

/// The end of a delivery whose job said something else.
fn broken() -> DeliveryEnd {
    DeliveryEnd::Unreachable { text: "the delivery broke off".to_owned(), status: EnhancedStatus::temporary(3, 0) }
}
