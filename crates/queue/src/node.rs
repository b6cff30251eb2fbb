//! The node: takes inputs and the time, runs changes through the ledger, starts jobs, and says what the edge must do.
//!
//! What a change means is [`crate::origin`]'s and [`crate::receiver`]'s; how it passes through the ledger is in
//! [`crate::engine`], how jobs begin and end in [`crate::jobs`].

use std::collections::{HashMap, VecDeque};

use mail::ledger::{Key, Leg, Row, RowBody};
use mail::{InstanceId, Timestamp};

use crate::config::QueueConfig;
use crate::desk::Desk;
use crate::flow::{Change, Flow, Random, Stage};
use crate::look::Look;
use crate::origin::{accept, claims, command, delegate, leg, letter, locate, receipts, served, taken, timers};
use crate::port::{Action, CallId, Entropy, Input, LedgerAnswer, Request, Token};
use crate::receiver;
use crate::receiver::inbound::Task;
use crate::stats::Stats;

/// Most rows leased at once; fewer where fewer may be in hand.
const LEASE: usize = 256;

/// The queue of one server.
pub struct Node {
    pub(crate) config: QueueConfig,
    pub(crate) instance: InstanceId,
    pub(crate) random: Random,
    pub(crate) desk: Desk,
    pub(crate) stats: Stats,
    pub(crate) now: Timestamp,
    /// When the first input came.
    started: Option<Timestamp>,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) pending: HashMap<Token, Stage>,
    /// Changes that the ledger could not take, and when to try again.
    pub(crate) stalled: Vec<(Timestamp, Flow)>,
    pub(crate) fresh: Fresh,
    next_token: u64,
    leasing: Option<Token>,
    next_due: Option<Timestamp>,
    woken: Option<Timestamp>,
}

/// Rows committed while another read of due rows is under way: what it brings may be older.
#[derive(Default)]
pub(crate) struct Fresh {
    reads: usize,
    versions: HashMap<Key, u64>,
}

impl Node {
    /// A node with an empty desk. Give it a `Tick` to begin: the ledger knows what is due.
    ///
    /// The instance id names the store in claims: it must be the same for the store's whole life, and no other
    /// store's.
    pub fn new(config: QueueConfig, entropy: Box<dyn Entropy>, instance: InstanceId) -> Self {
        Self {
            desk: Desk::new(&config.limits),
            config,
            instance,
            random: Random(entropy),
            stats: Stats::default(),
            now: Timestamp::default(),
            started: None,
            actions: VecDeque::new(),
            pending: HashMap::new(),
            stalled: Vec::new(),
            fresh: Fresh::default(),
            next_token: 0,
            leasing: None,
            next_due: Some(Timestamp::default()),
            woken: None,
        }
    }

    /// Takes one input. Actions wait in [`Node::poll_action`] afterwards.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.now = self.now.max(now);
        self.started.get_or_insert(self.now);
        match input {
            Input::Call { call, request } => self.call(call, request),
            Input::Ledger { token, answer } if self.leasing == Some(token) => self.leased(answer),
            Input::Ledger { token, answer } => self.answer(token, answer),
            Input::Job { job, event } => self.job_event(job, event),
            Input::Tick => self.woken = None,
        }
        self.retry_stalled();
        self.start_jobs();
        self.lease();
        self.wake();
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes a new configuration. Limits and lanes keep their old values until restart.
    pub fn reconfigure(&mut self, config: QueueConfig) {
        self.config = config;
    }

    /// Counters since the start.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Jobs under way.
    pub fn running_jobs(&self) -> usize {
        self.desk.jobs.len()
    }

    /// Rows in hand: with a job, waiting for a place, or being changed.
    pub fn rows_in_hand(&self) -> usize {
        self.desk.len()
    }

    /// When this node began.
    pub(crate) fn started(&self) -> Timestamp {
        self.started.unwrap_or_default()
    }

    fn call(&mut self, call: CallId, request: Request) {
        match request {
            // Both expect not to be in the ledger yet; the commit finds out.
            Request::Accept(acceptance) => self.begin_with(accept::Accept { call, acceptance }, Vec::new(), Vec::new()),
            Request::Offer(inbound) => {
                self.begin_with(receiver::offer::Offer { call, inbound }, Vec::new(), Vec::new())
            }
            Request::Binding { grants } => self.begin(locate::Binding { call, grants }),
            Request::Locate { xuid, grant, signed } => self.begin(locate::Locate { call, xuid, grant, signed }),
            Request::Claims { instance, claims: entries, signed } => {
                self.begin(claims::Claims { call, instance, entries, signed });
            }
            Request::Delegate { instance, delegation: entry, signed } => {
                self.begin(delegate::Delegate { call, instance, entry, signed });
            }
            Request::Receipts { instance, receipts: entries, signed } => {
                self.begin(receipts::Receipts { call, instance, entries, signed });
            }
            Request::Carried { keys, object, facts } => {
                self.begin(receiver::carried::Carried { call, keys, object, facts });
            }
            Request::Heard { entries } => self.begin(receiver::carried::Heard { call, entries }),
            Request::Taken { entries } => self.begin(taken::Taken { call, entries }),
            Request::Letter(taking) => self.begin(letter::Take { call, taking }),
            Request::Command(command) => self.begin(command::Order { call, command }),
            Request::Served { grant, octets } => self.begin(served::Served { grant, octets }),
        }
    }

    /// Begins whatever a row that was just committed is due for; where too much is in hand, the ledger keeps it in mind.
    /// What is new does not wait for what is already there, but for that.
    pub(crate) fn consider_fresh(&mut self, row: Row) {
        if self.desk.len() < 2 * self.config.limits.in_hand {
            return self.consider(row);
        }
        row.due.into_iter().for_each(|due| self.alarm(due));
    }

    /// Begins whatever a row is due for, unless something is under way for it already.
    pub(crate) fn consider(&mut self, row: Row) {
        if self.desk.is_busy(&row.key) {
            return self.desk.turn_away(&row.key);
        }
        match &row.body {
            // No clock ends what may have arrived: first it is looked for.
            RowBody::Leg(leg) if leg::is_in_doubt(leg, self.started()) => self.want_delivery(row),
            RowBody::Leg(leg) if leg::timer_due(leg, &self.config).is_some_and(|due| due <= self.now) => {
                let inbound = leg.inbound.clone();
                let change = timers::Clock { key: row.key.clone(), inbound };
                self.begin_holding(change, row);
            }
            RowBody::Leg(leg) => match leg::attempt_due(leg, self.now) {
                Some(due) if due <= self.now => self.want_delivery(row),
                _ => self.sleep(row),
            },
            RowBody::Inbound(inbound) if receiver::timers::has_run_out(inbound, self.now, &self.config) => {
                let change = receiver::timers::Clock { key: row.key.clone() };
                self.begin_holding(change, row);
            }
            RowBody::Inbound(inbound) => match receiver::inbound::task(inbound) {
                Some(task) if inbound.next_attempt <= self.now => self.want_task(task, row),
                _ => self.sleep(row),
            },
        }
    }

    /// Nothing to do for it before its due time. Finished legs come up once more, to be forgotten.
    fn sleep(&mut self, row: Row) {
        match row.due {
            Some(due) if due <= self.now => {
                let is_finished = matches!(&row.body, RowBody::Leg(leg) if is_finished(leg, self.now));
                if is_finished {
                    let change = timers::Clock { key: row.key.clone(), inbound: None };
                    self.begin_holding(change, row);
                }
            }
            Some(due) => self.alarm(due),
            None => {}
        }
    }

    fn want_task(&mut self, task: Task, row: Row) {
        let RowBody::Inbound(inbound) = &row.body else { return };
        let repository = receiver::inbound::repository(inbound);
        match task {
            Task::Delegate => {
                let key = row.key.clone();
                self.desk.wait(row, usize::MAX);
                self.desk.delegations.queue(&repository, (), key);
            }
            Task::Retrieve if self.desk.retrievals.is_closed() => {}
            // Whose client is looked at again takes nothing from others before.
            Task::Retrieve if receiver::retrieval::is_looked_at_again(inbound) => self.want_retrieval(row),
            Task::Retrieve => {
                let change = receiver::retrieval::Borrow::new(row.key.clone(), inbound);
                self.desk.settle(&row.key);
                self.start(Box::new(change), None, vec![row.key]);
            }
            Task::Judge => {
                let key = row.key.clone();
                self.desk.wait(row, usize::MAX);
                self.desk.judgements.queue(&repository.d, (), key);
            }
            Task::Claim => {
                let key = row.key.clone();
                self.desk.wait(row, usize::MAX);
                self.desk.claims.queue(&repository, (), key);
            }
            Task::Report => {
                let key = row.key.clone();
                self.desk.wait(row, usize::MAX);
                self.desk.receipts.queue(&repository, (), key);
            }
        }
    }

    /// Begins a change whose rows have to be read first.
    pub(crate) fn begin(&mut self, change: impl Change + 'static) {
        self.start(Box::new(change), None, Vec::new());
    }

    /// Begins a change with rows at hand.
    pub(crate) fn begin_with(&mut self, change: impl Change + 'static, rows: Vec<Row>, holds: Vec<Key>) {
        self.start(Box::new(change), Some(rows), holds);
    }

    /// Begins a change of a row at hand that nothing else may be started for until it is over.
    pub(crate) fn begin_holding(&mut self, change: impl Change + 'static, row: Row) {
        let key = row.key.clone();
        self.desk.settle(&key);
        // The outcome of an inbound leg changes two rows: those are read together.
        let rows = companion(&row).is_none().then(|| vec![row]);
        self.start(Box::new(change), rows, vec![key]);
    }

    /// Looks at rows again: they may be due, and nobody remembers.
    pub(crate) fn look_again(&mut self, keys: Vec<Key>) {
        if !keys.is_empty() {
            self.fresh.begin();
            self.begin(Look { keys });
        }
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Something will be due then.
    pub(crate) fn alarm(&mut self, due: Timestamp) {
        self.next_due = Some(self.next_due.map_or(due, |known| known.min(due)));
    }

    fn lease(&mut self) {
        let is_due = self.next_due.is_some_and(|due| due <= self.now);
        let limit = LEASE.min(self.config.limits.in_hand.div_ceil(2));
        if !is_due || self.leasing.is_some() || self.desk.len() + limit > self.config.limits.in_hand {
            return;
        }
        let token = self.token();
        self.next_due = None;
        self.leasing = Some(token);
        self.fresh.begin();
        let until = self.now.after(self.config.timers.lease);
        self.actions.push_back(Action::Lease { token, now: self.now, limit, until });
    }

    fn leased(&mut self, answer: LedgerAnswer) {
        self.leasing = None;
        match answer {
            LedgerAnswer::Leased { rows, next_due } => {
                // At least so often, whatever seems to be due: what came up while something else held it is not forgotten.
                let look = self.now.after(self.config.timers.lease);
                self.alarm(next_due.map_or(look, |due| due.min(look)));
                let rows: Vec<Row> = rows.into_iter().filter(|row| self.fresh.is_current(row)).collect();
                self.fresh.end();
                rows.into_iter().for_each(|row| self.consider(row));
            }
            _ => {
                self.fresh.end();
                self.alarm(self.now.after(self.config.timers.ledger_pause));
            }
        }
    }

    fn wake(&mut self) {
        let stalled = self.stalled.iter().map(|(at, _)| *at).min();
        let Some(next) = self.next_due.into_iter().chain(stalled).min() else { return };
        if next > self.now && self.woken != Some(next) {
            self.woken = Some(next);
            self.actions.push_back(Action::Wake(next));
        }
    }
}

impl Fresh {
    fn begin(&mut self) {
        self.reads += 1;
    }

    /// A read of due rows is over.
    pub(crate) fn end(&mut self) {
        self.reads = self.reads.saturating_sub(1);
        if self.reads == 0 {
            self.versions.clear();
        }
    }

    /// The row has this version now; deleted ones are newer than everything.
    pub(crate) fn committed(&mut self, key: &Key, version: u64) {
        if self.reads > 0 {
            self.versions.insert(key.clone(), version);
        }
    }

    /// Is nothing newer known than this row?
    pub(crate) fn is_current(&self, row: &Row) -> bool {
        self.versions.get(&row.key).is_none_or(|version| *version <= row.version)
    }
}

fn is_finished(leg: &Leg, now: Timestamp) -> bool {
    leg::open(leg, now).is_empty()
}

/// The row that changes together with this one.
pub(crate) fn companion(row: &Row) -> Option<&Key> {
    match &row.body {
        RowBody::Leg(leg) => leg.inbound.as_ref(),
        RowBody::Inbound(_) => None,
    }
}
