//! How a change passes through the ledger: read, apply, commit, release; again after a conflict.

use mail::ledger::{Key, Row, RowBody};

use crate::desk::Known;
use crate::flow::{Change, Context, Effect, Flow, Heads, MAX_TRIES, Otherwise, Plan, Rows, Stage, Writing, Written};
use crate::node::Node;
use crate::port::{Action, LedgerAnswer, Proceed, Reply, Token};
use crate::report::MAX_HEAD;
use crate::stats::Count;
use crate::work::Mode;
use mail::EnhancedStatus;

/// Rows of one commit that are taken in hand at once. Of a message to more destinations than these the rest is read
/// from the ledger, when there is room.
const AT_ONCE: usize = 32;

impl Node {
    /// Begins a change, with its rows where they are at hand.
    pub(crate) fn start(&mut self, change: Box<dyn Change>, rows: Option<Vec<Row>>, holds: Vec<Key>) {
        let flow = Flow { change, holds, tries: 0, heads: Heads::new(), followed: false };
        match rows {
            Some(rows) => self.follow(flow, rows),
            None => self.read(flow),
        }
    }

    /// The ledger has answered.
    pub(crate) fn answer(&mut self, token: Token, answer: LedgerAnswer) {
        let Some(stage) = self.pending.remove(&token) else { return };
        match (stage, answer) {
            (Stage::Reading(flow, mut rows, alternates), LedgerAnswer::Rows(more)) => {
                rows.extend(more);
                if alternates.is_empty() { self.follow(flow, rows) } else { self.find(flow, rows, alternates) }
            }
            (Stage::Heading(mut flow, object), answer) => {
                // A report without the original's header is better than none.
                let head = if let LedgerAnswer::Head(head) = answer { head } else { Vec::new() };
                flow.heads.insert(object.key, head);
                self.read(flow);
            }
            (Stage::Writing(writing), LedgerAnswer::Committed) => self.committed(*writing),
            (Stage::Writing(writing), LedgerAnswer::Conflict) => self.conflicted(*writing),
            (Stage::Writing(writing), _) => {
                let flow = self.unwritten(*writing);
                self.give_up(flow);
            }
            (Stage::Reading(flow, ..), _) => self.give_up(flow),
        }
    }

    /// Tries changes again that the ledger could not take.
    pub(crate) fn retry_stalled(&mut self) {
        if self.stalled.iter().all(|(at, _)| *at > self.now) {
            return;
        }
        let (due, later) = std::mem::take(&mut self.stalled).into_iter().partition(|(at, _)| *at <= self.now);
        self.stalled = later;
        for (_, flow) in due {
            self.read(flow);
        }
    }

    fn read(&mut self, mut flow: Flow) {
        flow.followed = false;
        let wants = flow.change.wants();
        if wants.keys.is_empty() {
            return self.find(flow, Vec::new(), wants.alternates);
        }
        let token = self.token();
        self.actions.push_back(Action::Load { token, keys: wants.keys });
        self.pending.insert(token, Stage::Reading(flow, Vec::new(), wants.alternates));
    }

    fn find(&mut self, flow: Flow, rows: Vec<Row>, alternates: Vec<String>) {
        if alternates.is_empty() {
            return self.follow(flow, rows);
        }
        let token = self.token();
        self.actions.push_back(Action::Find { token, alternates, limit: 1 });
        self.pending.insert(token, Stage::Reading(flow, rows, Vec::new()));
    }

    /// Reads what the legs among the rows came by, once: what is not there then is not there any more.
    fn follow(&mut self, mut flow: Flow, rows: Vec<Row>) {
        let keys = if flow.followed { Vec::new() } else { origins(&rows) };
        if keys.is_empty() {
            return self.run(flow, rows);
        }
        flow.followed = true;
        let token = self.token();
        self.actions.push_back(Action::Load { token, keys });
        self.pending.insert(token, Stage::Reading(flow, rows, Vec::new()));
    }

    /// Applies the change. From here to the commit nothing can come between.
    fn run(&mut self, mut flow: Flow, mut rows: Vec<Row>) {
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        rows.dedup_by(|a, b| a.key == b.key);
        let mut context = Context {
            now: self.now,
            started: self.started(),
            config: &self.config,
            desk: &self.desk,
            random: &mut self.random,
        };
        let mut plan = flow.change.apply(Rows::new(rows), &mut context);
        let mut objects = plan.reports.iter().filter_map(|report| report.object.as_ref());
        if let Some(object) = objects.find(|object| !flow.heads.contains_key(&object.key)).cloned() {
            let token = self.token();
            self.actions.push_back(Action::ReadHead { token, object: object.clone(), limit: MAX_HEAD });
            self.pending.insert(token, Stage::Heading(flow, object));
            return;
        }
        let mut created = Vec::new();
        for report in std::mem::take(&mut plan.reports) {
            let head = report.object.as_ref().and_then(|object| flow.heads.get(&object.key));
            created.extend(report.file(head.map(Vec::as_slice), &mut plan, &mut context));
        }
        self.write(flow, plan, created);
    }

    fn write(&mut self, flow: Flow, plan: Plan, created: Vec<(mail::ledger::ObjectRef, Vec<u8>)>) {
        if plan.writes_nothing() {
            self.stats.merge(&plan.stats);
            self.end(&flow);
            return self.release(plan.effects);
        }
        let Plan { batch, effects, stats, .. } = plan;
        let mut displaced = Vec::new();
        let mut written = Vec::with_capacity(batch.put.len() + batch.delete.len());
        for key in batch.put.iter().map(|row| &row.key).chain(batch.delete.iter().map(|(key, _)| key)) {
            if self.desk.displace(key) {
                displaced.push(key.clone());
            }
            self.desk.writing(key);
        }
        let mut at_once = AT_ONCE;
        for row in &batch.put {
            let is_due = row.due.is_some_and(|due| due <= self.now) && at_once > 0;
            at_once -= usize::from(is_due);
            written.push(match is_due || self.desk.is_running(&row.key) {
                true => Written::Row(Box::new(Row { version: row.version + 1, ..row.clone() })),
                false => Written::Due(row.key.clone(), row.version + 1, row.due),
            });
        }
        written.extend(batch.delete.iter().map(|(key, _)| Written::Deleted(key.clone())));
        let token = self.token();
        self.actions.push_back(Action::Commit { token, batch, created });
        let writing = Writing { flow, effects, stats, written, displaced };
        self.pending.insert(token, Stage::Writing(Box::new(writing)));
    }

    /// Durable: now the world may see it.
    fn committed(&mut self, writing: Writing) {
        let Writing { flow, effects, stats, written, .. } = writing;
        self.stats.merge(&stats);
        let (mut due, mut unknown) = (Vec::new(), Vec::new());
        for written in written {
            let (key, version) = (written.key(), written.version());
            self.fresh.committed(key, version);
            if let Written::Row(row) = &written {
                self.desk.renew(row);
            }
            match (self.desk.written(key, Some(version)), written) {
                (Known::Older, written) => unknown.push(written.key().clone()),
                (known, Written::Row(row)) => due.extend((known == Known::Newest).then_some(*row)),
                (_, Written::Due(_, _, at)) => at.into_iter().for_each(|at| self.alarm(at)),
                (_, Written::Deleted(_)) => {}
            }
        }
        self.end(&flow);
        self.release(effects);
        due.into_iter().for_each(|row| self.consider_fresh(row));
        self.look_again(unknown);
    }

    fn conflicted(&mut self, writing: Writing) {
        self.stats.add(Count::Conflicts, 1);
        let mut flow = self.unwritten(writing);
        flow.tries += 1;
        if flow.tries < MAX_TRIES { self.read(flow) } else { self.give_up(flow) }
    }

    /// Nothing was written.
    fn unwritten(&mut self, writing: Writing) -> Flow {
        let mut unknown = writing.displaced;
        for written in &writing.written {
            // A commit that was answered before has left the row to this one.
            if self.desk.written(written.key(), None) == Known::Older {
                unknown.push(written.key().clone());
            }
        }
        self.look_again(unknown);
        writing.flow
    }

    fn give_up(&mut self, mut flow: Flow) {
        self.stats.add(Count::LedgerFailures, 1);
        match flow.change.otherwise() {
            Otherwise::Refuse(call) => {
                self.end(&flow);
                self.release(vec![Effect::Reply(call, Reply::Unavailable)]);
            }
            Otherwise::Abandon(job) => {
                self.end(&flow);
                let mode = Mode::Postponed(EnhancedStatus::temporary(3, 0), "the ledger cannot take changes now");
                self.release(vec![Effect::Proceed(job, Proceed::Abandon, mode)]);
            }
            Otherwise::TryAgain => {
                flow.tries = 0;
                self.stalled.push((self.now.after(self.config.timers.ledger_pause), flow));
            }
        }
    }

    fn end(&mut self, flow: &Flow) {
        let wanted = flow.holds.iter().filter(|key| self.desk.release(key)).cloned().collect();
        self.look_again(wanted);
    }

    fn release(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply(call, reply) => self.actions.push_back(Action::Reply { call, reply }),
                Effect::Proceed(job, how, mode) => self.proceed(job, how, mode),
                Effect::Retrieve(row) => self.want_retrieval(*row),
                Effect::Consider(row) if self.fresh.is_current(&row) => self.consider(*row),
                Effect::Consider(_) => {}
                Effect::Look(key) => self.look_again(vec![key]),
                Effect::Looked => self.fresh.end(),
                Effect::Tell(told) => self.actions.push_back(Action::Tell(told)),
            }
        }
    }
}

/// The references by which messages of these legs came, as far as their rows are not among these.
fn origins(rows: &[Row]) -> Vec<Key> {
    let origin = |row: &Row| match &row.body {
        RowBody::Leg(leg) => leg.inbound.clone(),
        RowBody::Inbound(_) => None,
    };
    let mut keys: Vec<Key> = rows.iter().filter_map(origin).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|key| rows.iter().all(|row| row.key != *key));
    keys
}

impl Written {
    fn key(&self) -> &Key {
        match self {
            Self::Row(row) => &row.key,
            Self::Due(key, ..) | Self::Deleted(key) => key,
        }
    }

    /// The version that the row has now; a deleted one is newer than everything.
    fn version(&self) -> u64 {
        match self {
            Self::Row(row) => row.version,
            Self::Due(_, version, _) => *version,
            Self::Deleted(_) => u64::MAX,
        }
    }
}
