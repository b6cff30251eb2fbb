//! Runs the queue: carries its actions out with the store, the couriers and the clock, and feeds back what happened.
//!
//! It decides nothing. One task owns the [`queue::Node`]; everything else talks to it through a [`Custody`] handle.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use futures_util::future::BoxFuture;
use mail::ledger::{Batch, ObjectRef};
use mail::{EnhancedStatus, QueueId, Timestamp};
use queue::port::{
    Action, CallId, DeliveryEnd, Entropy, Input, JobEvent, JobId, LedgerAnswer, Proceed, Reply, Request,
    RetrieveFailure, Token, Work,
};
use queue::{Node, QueueConfig};
use store::{CommitError, Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::budgets::Budgets;
use crate::fates;

/// Most inputs taken in one turn before actions are carried out.
const TURN: usize = 256;

/// Carries out the jobs that leave the machine or touch mailboxes.
pub(crate) trait Courier: Send + Sync + 'static {
    /// Does the work; sends interim events on `line`, waits there for the queue's word, and returns the final event.
    fn run(&self, work: Work, line: JobLine) -> BoxFuture<'_, JobEvent>;
}

/// A job's line to the queue.
pub(crate) struct JobLine {
    job: JobId,
    inputs: mpsc::Sender<Message>,
    words: mpsc::Receiver<Proceed>,
}

impl JobLine {
    /// Tells the queue an interim event and waits for its word. `None` when the server stops.
    pub(crate) async fn ask(&mut self, event: JobEvent) -> Option<Proceed> {
        self.inputs.send(Message::Input(Input::Job { job: self.job, event })).await.ok()?;
        self.words.recv().await
    }
}

/// A handle to the running queue.
#[derive(Clone)]
pub(crate) struct Custody {
    inputs: mpsc::Sender<Message>,
}

impl Custody {
    /// Asks the queue; the answer comes when what it says is durable.
    ///
    /// `Reply::Unavailable` also stands for a queue that has stopped.
    pub(crate) async fn ask(&self, request: Request) -> Reply {
        let (answer, reply) = oneshot::channel();
        if self.inputs.send(Message::Call(request, Some(answer))).await.is_err() {
            return Reply::Unavailable;
        }
        reply.await.unwrap_or(Reply::Unavailable)
    }

    /// Tells the queue something that has no answer.
    pub(crate) async fn tell(&self, request: Request) {
        // A queue that has stopped needs no news.
        let _ = self.inputs.send(Message::Call(request, None)).await;
    }

    /// Replaces what the queue was told at its start.
    pub(crate) async fn reconfigure(&self, config: QueueConfig) {
        let _ = self.inputs.send(Message::Reconfigure(Box::new(config))).await;
    }
}

/// What reaches the runtime's task.
enum Message {
    Input(Input),
    Call(Request, Option<oneshot::Sender<Reply>>),
    Reconfigure(Box<QueueConfig>),
}

/// The queue with everything it needs to act.
pub(crate) struct Runtime {
    node: Node,
    store: Store,
    budgets: Budgets,
    courier: Arc<dyn Courier>,
    sender: mpsc::Sender<Message>,
    inputs: mpsc::Receiver<Message>,
    calls: HashMap<CallId, oneshot::Sender<Reply>>,
    next_call: u64,
    jobs: HashMap<JobId, mpsc::Sender<Proceed>>,
    wake: Option<Timestamp>,
}

impl Runtime {
    /// A runtime and the handle to it; nothing happens before [`Runtime::run`].
    pub(crate) fn new(node: Node, store: Store, budgets: Budgets, courier: Arc<dyn Courier>) -> (Self, Custody) {
        let (sender, inputs) = mpsc::channel(4096);
        let custody = Custody { inputs: sender.clone() };
        let (calls, jobs) = (HashMap::new(), HashMap::new());
        (Self { node, store, budgets, courier, sender, inputs, calls, next_call: 0, jobs, wake: None }, custody)
    }

    /// Runs until `stop` resolves; then finishes nothing more: whatever is under way is repeated after the next start,
    /// which is what the ledger is for.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        self.feed(Message::Input(Input::Tick));
        loop {
            self.act();
            let timer = tokio::time::sleep_until(deadline(self.wake));
            tokio::select! {
                biased;
                () = &mut stop => return,
                Some(message) = self.inputs.recv() => self.turn(message),
                () = timer => {
                    self.wake = None;
                    self.feed(Message::Input(Input::Tick));
                }
            }
        }
    }

    fn turn(&mut self, first: Message) {
        self.feed(first);
        for _ in 1..TURN {
            let Ok(message) = self.inputs.try_recv() else { return };
            self.feed(message);
        }
    }

    fn feed(&mut self, message: Message) {
        let input = match message {
            Message::Input(input) => input,
            Message::Call(request, answer) => self.number(request, answer),
            Message::Reconfigure(config) => return self.node.reconfigure(*config),
        };
        if let Input::Job { job, event } = &input
            && is_final(event)
        {
            self.jobs.remove(job);
        }
        self.node.handle(now(), input);
    }

    fn number(&mut self, request: Request, answer: Option<oneshot::Sender<Reply>>) -> Input {
        self.next_call += 1;
        let call = CallId(self.next_call);
        if let Some(answer) = answer {
            self.calls.insert(call, answer);
        }
        Input::Call { call, request }
    }

    fn act(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Reply { call, reply } => {
                    if let Some(answer) = self.calls.remove(&call) {
                        // Whoever asked may have gone; what was committed stays committed.
                        let _ = answer.send(reply);
                    }
                }
                Action::Wake(at) => self.wake = Some(at),
                Action::Tell(told) => fates::write(&told),
                Action::Start { job, work } => self.start(job, work),
                Action::Proceed { job, how } => {
                    if let Some(words) = self.jobs.get(&job) {
                        let _ = words.try_send(how);
                    }
                }
                other => self.ask_ledger(other),
            }
        }
    }

    fn start(&mut self, job: JobId, work: Work) {
        let (words, receiver) = mpsc::channel(1);
        self.jobs.insert(job, words);
        let (courier, inputs) = (Arc::clone(&self.courier), self.sender.clone());
        let broken_off = broken_off(&work);
        tokio::spawn(async move {
            let line = JobLine { job, inputs: inputs.clone(), words: receiver };
            // A task of its own: should it panic, the queue still hears that the job has ended.
            let event = tokio::spawn(async move { courier.run(work, line).await }).await.unwrap_or(broken_off);
            let _ = inputs.send(Message::Input(Input::Job { job, event })).await;
        });
    }

    fn ask_ledger(&self, action: Action) {
        let (store, budgets, inputs) = (self.store.clone(), self.budgets.clone(), self.sender.clone());
        tokio::spawn(async move {
            if let Some((token, answer)) = consult(&store, &budgets, action).await {
                let _ = inputs.send(Message::Input(Input::Ledger { token, answer })).await;
            }
        });
    }
}

/// How a job ends whose courier has died: tried again.
fn broken_off(work: &Work) -> JobEvent {
    let text = "an internal error broke the job off".to_owned();
    match work {
        Work::Deliver(_) => {
            JobEvent::Delivered(DeliveryEnd::Unreachable { text, status: EnhancedStatus::temporary(3, 0) })
        }
        Work::Retrieve(_) => JobEvent::RetrieveFailed { failure: RetrieveFailure::Temporary, text },
        Work::Judge(_) => JobEvent::JudgeFailed { text },
        Work::PostClaims(_) | Work::PostReceipts(_) | Work::PostDelegation(_) => JobEvent::PostFailed { text },
    }
}

async fn consult(store: &Store, budgets: &Budgets, action: Action) -> Option<(Token, LedgerAnswer)> {
    Some(match action {
        Action::Load { token, keys } => (token, rows(store.load(keys).await)),
        Action::Find { token, alternates, limit } => (token, find(store, &alternates, limit).await),
        Action::Lease { token, now, limit, until } => {
            let answer = match store.lease(now, limit, until).await {
                Ok(leased) => LedgerAnswer::Leased { rows: leased.rows, next_due: leased.next_due },
                Err(error) => LedgerAnswer::Failed(error.to_string()),
            };
            (token, answer)
        }
        Action::Commit { token, batch, created } => (token, commit(store, budgets, batch, created).await),
        Action::ReadHead { token, object, limit } => (token, read_head(store, &object, limit).await),
        Action::Reply { .. } | Action::Start { .. } | Action::Proceed { .. } | Action::Wake(_) | Action::Tell(_) => {
            return None;
        }
    })
}

fn rows(result: Result<Vec<mail::ledger::Row>, StoreError>) -> LedgerAnswer {
    match result {
        Ok(rows) => LedgerAnswer::Rows(rows),
        Err(error) => LedgerAnswer::Failed(error.to_string()),
    }
}

async fn commit(store: &Store, budgets: &Budgets, batch: Batch, created: Vec<(ObjectRef, Vec<u8>)>) -> LedgerAnswer {
    let mut staged = Vec::new();
    for (object, octets) in created {
        if let Err(error) = store.stage(&object, octets) {
            return LedgerAnswer::Failed(error.to_string());
        }
        staged.push(object);
    }
    // Before the commit: another one may follow it before this task goes on.
    let (added, news) = (budgets.begin(&batch), Budgets::news(&batch));
    let outcome = store.commit(batch).await;
    if outcome.is_err() {
        // The change will be applied again and write its reports anew.
        staged.iter().for_each(|object| store.discard(object));
        budgets.undo(&added);
    } else {
        budgets.tell(news);
    }
    match outcome {
        Ok(()) => LedgerAnswer::Committed,
        Err(CommitError::Conflict(_) | CommitError::Failed(StoreError::MissingObject(_))) => LedgerAnswer::Conflict,
        Err(error) => LedgerAnswer::Failed(error.to_string()),
    }
}

async fn read_head(store: &Store, object: &ObjectRef, limit: u64) -> LedgerAnswer {
    let octets = async { store.read(object, 0..limit.min(object.size)).await?.collect(limit).await };
    match octets.await {
        Ok(octets) => LedgerAnswer::Head(octets.to_vec()),
        Err(error) => LedgerAnswer::Failed(error.to_string()),
    }
}

async fn find(store: &Store, alternates: &[String], limit: usize) -> LedgerAnswer {
    let mut found = Vec::new();
    for alternate in alternates {
        match store.find(alternate, limit).await {
            Ok(rows) => found.extend(rows),
            Err(error) => return LedgerAnswer::Failed(error.to_string()),
        }
    }
    LedgerAnswer::Rows(found)
}

fn is_final(event: &JobEvent) -> bool {
    !matches!(event, JobEvent::Connected(_) | JobEvent::OfferDeclined { .. })
}

impl SystemEntropy {
    /// So many random octets.
    pub(crate) fn octets<const N: usize>() -> [u8; N] {
        let mut octets = [0; N];
        Self::default().fill(&mut octets);
        octets
    }
}

/// A new queue id, drawn by a session before there is anything to queue: it stands in the Received field.
pub(crate) fn draw_queue_id() -> QueueId {
    let mut random = [0; 8];
    SystemEntropy::default().fill(&mut random);
    QueueId::generate(now(), random)
}

/// The time, read at the edge.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn deadline(wake: Option<Timestamp>) -> Instant {
    // Without a wish, look again in a minute: a clock that was set back must not put the queue to sleep.
    let wait = wake.map_or(Duration::from_secs(60), |at| at.since(now()).min(Duration::from_secs(60)));
    Instant::now() + wait
}

/// Randomness of the operating system.
#[derive(Debug, Default)]
pub(crate) struct SystemEntropy(SystemRandom);

impl Entropy for SystemEntropy {
    fn fill(&mut self, octets: &mut [u8]) {
        // aws-lc's generator fails only where the operating system has no randomness to give; going on with
        // guessable grants would be worse than stopping.
        aws_lc_rs::rand::SecureRandom::fill(&self.0, octets).expect("the operating system gives randomness");
    }
}
