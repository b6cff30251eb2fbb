//! A server in memory: a real node, a ledger that answers at once, and jobs that the test ends by hand.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mail::ledger::{
    Action as LedgerAction, Batch, ContentFacts, HoldOrder, Inbound, InboundRecipient, IndexState, Issued, Key, Leg,
    ObjectKey, ObjectRef, Outcome, Phase, RecipientState, Route, Row, RowBody, Source, Target,
};
use mail::{Address, Domain, Grant, InstanceId, MailParams, Notify, QueueId, Recipient, ReferenceId, Timestamp, Xuid};
use queue::port::{
    Acceptance, Action, CallId, ClaimAnswer, ClaimEntry, Command, Delivery, DeliveryEnd, Input, JobEvent, JobId,
    LedgerAnswer, Peer, Proceed, ReceiptEntry, RecipientEnd, Reply, Request, RetrieveFailure, Work,
};
use queue::told::Told;
use queue::{Entropy, Node, QueueConfig, Signer};
use reference::message_signature::SignedBy;
use reference::{Block, SigningKey, Uri};

pub fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

pub fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// Counts up: every draw is another one.
struct Counter(u64);

impl Entropy for Counter {
    fn fill(&mut self, octets: &mut [u8]) {
        for chunk in octets.chunks_mut(8) {
            self.0 += 1;
            chunk.copy_from_slice(&self.0.to_be_bytes()[..chunk.len()]);
        }
    }
}

/// A ledger that is never slow.
#[derive(Default)]
pub struct Ledger {
    pub rows: BTreeMap<Key, Row>,
    pub objects: HashMap<ObjectKey, Vec<u8>>,
    leased: HashMap<Key, Timestamp>,
    /// Answer this many commits with `Failed`.
    pub fail: usize,
    /// Answer this many commits with `Conflict`, as if somebody else had written all their rows.
    pub conflict: usize,
    /// Lease nothing: whatever is due waits.
    pub leases_nothing: bool,
    pub commits: usize,
    /// Objects that are to be kept whatever becomes of their rows.
    pub holds: Vec<HoldOrder>,
}

impl Ledger {
    fn commit(&mut self, batch: Batch, created: Vec<(ObjectRef, Vec<u8>)>) -> LedgerAnswer {
        if self.fail > 0 {
            self.fail -= 1;
            return LedgerAnswer::Failed("full".into());
        }
        if self.conflict > 0 {
            self.conflict -= 1;
            return LedgerAnswer::Conflict;
        }
        let version = |key: &Key| self.rows.get(key).map_or(0, |row| row.version);
        let read = batch.put.iter().map(|row| (&row.key, row.version));
        let mut read = read.chain(batch.delete.iter().map(|(key, version)| (key, *version)));
        if read.any(|(key, v)| version(key) != v) {
            return LedgerAnswer::Conflict;
        }
        self.commits += 1;
        self.holds.extend(batch.holds);
        self.objects.extend(created.into_iter().map(|(object, content)| (object.key, content)));
        for row in batch.put {
            self.leased.remove(&row.key);
            self.rows.insert(row.key.clone(), Row { version: row.version + 1, ..row });
        }
        for (key, _) in batch.delete {
            self.rows.remove(&key);
        }
        LedgerAnswer::Committed
    }

    fn lease(&mut self, now: Timestamp, limit: usize, until: Timestamp) -> LedgerAnswer {
        if self.leases_nothing {
            return LedgerAnswer::Failed("busy".into());
        }
        self.leased.retain(|_, end| *end > now);
        let free = |row: &&Row| !self.leased.contains_key(&row.key);
        let mut due: Vec<&Row> = self.rows.values().filter(free).filter(|row| row.due.is_some()).collect();
        due.sort_by_key(|row| row.due);
        let count = due.iter().take(limit).filter(|row| row.due <= Some(now)).count();
        let next_due = due.get(count).and_then(|row| row.due);
        let rows: Vec<Row> = due.into_iter().take(count).cloned().collect();
        self.leased.extend(rows.iter().map(|row| (row.key.clone(), until)));
        LedgerAnswer::Leased { rows, next_due }
    }
}

/// A server.
pub struct Server {
    pub node: Node,
    pub ledger: Ledger,
    pub now: Timestamp,
    pub jobs: VecDeque<(JobId, Work)>,
    pub words: VecDeque<(JobId, Proceed)>,
    pub replies: HashMap<CallId, Reply>,
    pub wake: Option<Timestamp>,
    /// What the log was told.
    pub told: Vec<Told>,
    /// Leave the ledger's questions in `held` instead of answering them.
    pub hold: bool,
    pub held: VecDeque<Action>,
    config: QueueConfig,
    instance: u8,
    next_call: u64,
}

pub const START: u64 = 1_800_000_000;

/// Configuration of a server that signs for its domain. Reports to its own domain go to a mailbox.
pub fn config(name: &str) -> QueueConfig {
    let own = domain(name);
    let route = move |to: &Address| {
        let route = match to.domain() {
            Some(d) if d == own => Route::Maildir(to.local().to_owned()),
            Some(d) => Route::Mx(d),
            None => return Vec::new(),
        };
        vec![Target { route, address: to.clone() }]
    };
    let mut config = QueueConfig::new(domain(&format!("mx.{name}")), Arc::new(route));
    config.retry.jitter_percent = 0;
    let signer = Signer {
        domain: domain(name),
        selector: "k1".parse().unwrap(),
        key: Arc::new(SigningKey::from_seed(&[7; 32]).unwrap()),
        repository: domain(&format!("tbr.{name}")),
        subdomains: false,
    };
    config.signers.insert(signer.domain.clone(), signer);
    config
}

pub fn object(content: &[u8]) -> ObjectRef {
    ObjectRef { key: ObjectKey("o1".into()), xuid: Xuid::of(content), size: content.len() as u64, coded: None }
}

pub const FACTS: ContentFacts =
    ContentFacts { is_object: true, eight_bit: false, tls_optional: false, received_fields: 0 };

impl Server {
    pub fn new(name: &str, instance: u8) -> Self {
        Self::with(config(name), instance)
    }

    pub fn with(config: QueueConfig, instance: u8) -> Self {
        let seed = u64::from(instance) << 56;
        let node = Node::new(config.clone(), Box::new(Counter(seed)), InstanceId([instance; 16]));
        let mut server = Self {
            node,
            ledger: Ledger::default(),
            now: Timestamp::from_secs(START),
            jobs: VecDeque::new(),
            words: VecDeque::new(),
            replies: HashMap::new(),
            wake: None,
            told: Vec::new(),
            hold: false,
            held: VecDeque::new(),
            config,
            instance,
            next_call: 0,
        };
        server.input(Input::Tick);
        server
    }

    /// Crash and restart: of what was under way only the ledger is left.
    pub fn restart(&mut self) {
        let seed = u64::from(self.instance) << 56 | self.now.as_millis() << 8 | self.next_call;
        self.node = Node::new(self.config.clone(), Box::new(Counter(seed)), InstanceId([self.instance; 16]));
        self.ledger.leased.clear();
        self.jobs.clear();
        self.words.clear();
        self.held.clear();
        self.hold = false;
        self.wake = None;
        self.input(Input::Tick);
    }

    /// Feeds one input and everything that the ledger answers to it.
    pub fn input(&mut self, input: Input) {
        self.node.handle(self.now, input);
        self.drain();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Reply { .. }
            | Action::Start { .. }
            | Action::Proceed { .. }
            | Action::Wake(_)
            | Action::Tell(_) => {}
            question if self.hold => return self.held.push_back(question),
            _ => {}
        }
        if let Action::Commit { batch, .. } = &action {
            self.assert_silence(batch.put.iter().map(|row| &row.key));
        }
        let (token, answer) = match action {
            Action::Reply { call, reply } => {
                assert!(self.replies.insert(call, reply).is_none(), "answered twice");
                return;
            }
            Action::Start { job, work } => return self.jobs.push_back((job, work)),
            Action::Proceed { job, how } => return self.words.push_back((job, how)),
            Action::Wake(at) => {
                self.wake = Some(at);
                return;
            }
            Action::Tell(told) => return self.told.push(*told),
            Action::Load { token, keys } => {
                let rows = keys.iter().filter_map(|key| self.ledger.rows.get(key).cloned()).collect();
                (token, LedgerAnswer::Rows(rows))
            }
            Action::Find { token, alternates, .. } => {
                let found = |row: &&Row| row.alternates().iter().any(|a| alternates.contains(a));
                (token, LedgerAnswer::Rows(self.ledger.rows.values().filter(found).cloned().collect()))
            }
            Action::Lease { token, now, limit, until } => (token, self.ledger.lease(now, limit, until)),
            Action::Commit { token, batch, created } => (token, self.ledger.commit(batch, created)),
            Action::ReadHead { token, .. } => (token, LedgerAnswer::Head(b"Subject: test\r\n\r\n".to_vec())),
        };
        self.node.handle(self.now, Input::Ledger { token, answer });
    }

    /// Nothing that speaks of these rows may come out while their commit is not answered.
    fn assert_silence<'a>(&mut self, written: impl Iterator<Item = &'a Key> + Clone) {
        let mut meanwhile = Vec::new();
        while let Some(action) = self.node.poll_action() {
            let early = match &action {
                Action::Reply { .. } => true,
                Action::Start { work: Work::Deliver(delivery), .. } => written.clone().any(|key| *key == delivery.key),
                Action::Start { work: Work::PostDelegation(post), .. } => written.clone().any(|key| *key == post.key),
                Action::Start { work: Work::Judge(judgement), .. } => written.clone().any(|key| *key == judgement.key),
                Action::Start { work: Work::PostClaims(post), .. } => {
                    post.entries.iter().any(|entry| written.clone().any(|key| is_inbound(key, entry.id)))
                }
                Action::Start { work: Work::PostReceipts(post), .. } => {
                    post.entries.iter().any(|entry| written.clone().any(|key| is_inbound(key, entry.id)))
                }
                _ => false,
            };
            assert!(!early, "before its commit: {action:?}");
            meanwhile.push(action);
        }
        meanwhile.into_iter().for_each(|action| self.act(action));
    }

    /// Feeds an input, answers the ledger's questions one at a time, and checks that the world sees nothing before the
    /// first commit is answered. Says how many commits there were in all.
    pub fn nothing_leaves_before_its_commit(&mut self, input: Input) -> usize {
        let seen = |s: &Self| (s.replies.len(), s.jobs.len(), s.words.len());
        let (before, commits) = (seen(self), self.ledger.commits);
        self.hold = true;
        self.input(input);
        while let Some(question) = self.held.pop_front() {
            assert_eq!(seen(self), before, "before the answer to {question:?}");
            let is_commit = matches!(question, Action::Commit { .. });
            self.hold = false;
            self.act(question);
            self.hold = true;
            self.drain();
            if is_commit {
                break;
            }
        }
        self.answer_all();
        self.ledger.commits - commits
    }

    /// Is a commit what was asked for last, and held back?
    pub fn wants_to_commit(&self) -> bool {
        matches!(self.held.back(), Some(Action::Commit { .. }))
    }

    /// Answers the latest question that was held back, before those that came earlier, and leaves what is asked next.
    pub fn answer_the_last(&mut self) {
        let question = self.held.pop_back().expect("a question");
        self.hold = false;
        self.act(question);
        self.hold = true;
        self.drain();
    }

    /// Answers what was held back, the oldest first, and holds back nothing more.
    pub fn answer_all(&mut self) {
        self.hold = false;
        while let Some(question) = self.held.pop_front() {
            self.act(question);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.node.poll_action() {
            self.act(action);
        }
    }

    pub fn next_call(&mut self) -> CallId {
        self.next_call += 1;
        CallId(self.next_call)
    }

    /// Asks and returns the reply.
    pub fn ask(&mut self, request: Request) -> Reply {
        let call = self.next_call();
        self.input(Input::Call { call, request });
        self.replies.remove(&call).expect("a reply")
    }

    /// Lets time pass, step by step as the node wants to be woken.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(at) = self.wake.take().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Tick);
        }
        self.now = end;
        self.input(Input::Tick);
    }

    pub fn event(&mut self, job: JobId, event: JobEvent) {
        self.input(Input::Job { job, event });
    }

    /// Lets time pass while nobody can be reached: neither next hops nor repositories. Mailboxes can.
    pub fn pass_unreachable(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            self.fail_jobs();
            let Some(at) = self.wake.take().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.input(Input::Tick);
        }
        self.now = end;
        self.input(Input::Tick);
        self.fail_jobs();
    }

    /// Ends all jobs without success; mailboxes take what they get.
    pub fn fail_jobs(&mut self) {
        while let Some((job, work)) = self.jobs.pop_front() {
            let text = "nobody there".to_owned();
            match work {
                Work::Deliver(delivery) if matches!(delivery.leg.route, Route::Maildir(_)) => {
                    self.finish(job, false, delivery.positions.iter().map(|p| (*p, done())).collect());
                }
                Work::Deliver(_) => self.unreachable(job),
                Work::Retrieve(_) => {
                    let failure = RetrieveFailure::Temporary;
                    self.event(job, JobEvent::RetrieveFailed { failure, text });
                }
                Work::Judge(_) => self.event(job, JobEvent::JudgeFailed { text }),
                Work::PostClaims(_) | Work::PostReceipts(_) | Work::PostDelegation(_) => {
                    self.event(job, JobEvent::PostFailed { text })
                }
            }
        }
    }

    pub fn unreachable(&mut self, job: JobId) {
        let (text, status) = ("nobody there".to_owned(), "4.4.1".parse().unwrap());
        self.event(job, JobEvent::Delivered(DeliveryEnd::Unreachable { text, status }));
    }

    /// A message from elsewhere for one mailbox here; its delivery has begun.
    pub fn submit_to_mailbox(&mut self, from: &str, mailbox: &str) -> QueueId {
        self.next_call += 1;
        let queue_id: QueueId = format!("q{}", self.next_call).parse().unwrap();
        let to = address(mailbox);
        let target = Target { route: Route::Maildir(to.local().to_owned()), address: to.clone() };
        let acceptance = Acceptance {
            queue_id: queue_id.clone(),
            mail_from: Some(address(from)),
            params: MailParams::default(),
            recipients: vec![(Recipient::plain(to), vec![target])],
            object: object(b"A: b\r\n\r\nc\r\n"),
            facts: FACTS,
            prefix: String::new(),
            seal: String::new(),
            source: Source::Local,
            once: None,
        };
        let reply = self.ask(Request::Accept(Box::new(acceptance)));
        assert!(matches!(reply, Reply::Accepted), "{reply:?}");
        queue_id
    }

    /// Submits a message to these recipients, each to the route of its own name.
    pub fn submit(&mut self, from: &str, to: &[&str]) -> QueueId {
        self.submit_with(from, to, Notify::Unspecified)
    }

    pub fn submit_with(&mut self, from: &str, to: &[&str], notify: Notify) -> QueueId {
        let recipients = to.iter().map(|to| {
            let to = address(to);
            let target = Target { route: Route::Mx(to.domain().unwrap()), address: to.clone() };
            (Recipient { notify, ..Recipient::plain(to) }, vec![target])
        });
        self.accept(from, recipients.collect())
    }

    pub fn accept(&mut self, from: &str, recipients: Vec<(Recipient, Vec<Target>)>) -> QueueId {
        self.next_call += 1;
        let queue_id: QueueId = format!("q{}", self.next_call).parse().unwrap();
        let acceptance = Acceptance {
            queue_id: queue_id.clone(),
            mail_from: (!from.is_empty()).then(|| address(from)),
            params: MailParams::default(),
            recipients,
            object: object(b"A: b\r\n\r\nc\r\n"),
            facts: FACTS,
            prefix: String::new(),
            seal: String::new(),
            source: Source::Local,
            once: None,
        };
        let reply = self.ask(Request::Accept(Box::new(acceptance)));
        assert!(matches!(reply, Reply::Accepted), "{reply:?}");
        queue_id
    }

    pub fn delivery(&mut self) -> (JobId, Delivery) {
        match self.jobs.pop_front() {
            Some((job, Work::Deliver(delivery))) => (job, *delivery),
            other => panic!("no delivery: {other:?}"),
        }
    }

    /// Connects the next delivery to a peer, and returns what the queue says.
    pub fn connect(&mut self, tbr: bool) -> (JobId, Proceed) {
        self.connect_to(Peer { tbr, ..Peer::default() })
    }

    pub fn connect_to(&mut self, peer: Peer) -> (JobId, Proceed) {
        let (job, _) = self.delivery();
        let peer = Peer { name: "mx.peer.example".into(), ..peer };
        self.event(job, JobEvent::Connected(peer));
        let (named, word) = self.words.pop_front().expect("a word");
        assert_eq!(named, job);
        (job, word)
    }

    pub fn finish(&mut self, job: JobId, offer: bool, outcomes: Vec<(u16, RecipientEnd)>) {
        let end = DeliveryEnd::Transaction { offer, outcomes, peer: "mx.peer.example".into(), octets: 500 };
        self.event(job, JobEvent::Delivered(end));
    }

    /// Submits to recipients of one domain and connects to a peer with TBR: an offer is about to be sent.
    pub fn offer(&mut self, to: &[&str]) -> (QueueId, JobId, Issued) {
        let id = self.submit("alice@a.example", to);
        let (job, word) = self.connect(true);
        assert!(matches!(word, Proceed::Offer { .. }), "{word:?}");
        let issued = self.issued(&id);
        (id, job, issued)
    }

    /// The same, and the peer takes it for everybody.
    pub fn offered(&mut self, to: &[&str]) -> (QueueId, Issued) {
        let (id, job, issued) = self.offer(to);
        self.finish(job, true, issued.positions.iter().map(|p| (*p, taken())).collect());
        (id, issued)
    }

    /// The newest reference of the first leg.
    pub fn issued(&self, id: &QueueId) -> Issued {
        self.leg(id, 0).issued.last().expect("a reference").clone()
    }

    /// A claim of store `by`.
    pub fn claim(&mut self, by: u8, issued: &Issued, indexes: &[u16]) -> Option<Vec<ClaimAnswer>> {
        let answers = self.claim_as(by, claim_of(issued, indexes))?;
        assert_eq!(answers.iter().map(|(n, _)| *n).collect::<Vec<_>>(), indexes);
        Some(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    pub fn claim_as(&mut self, by: u8, entry: ClaimEntry) -> Option<Vec<(u16, ClaimAnswer)>> {
        let request =
            Request::Claims { instance: InstanceId([by; 16]), claims: vec![entry], signed: SignedBy::default() };
        let Reply::Claims(mut answers) = self.ask(request) else { panic!("no answer to claims") };
        answers.pop().expect("one entry")
    }

    /// A receipt of store `by` for one index.
    pub fn receipt(&mut self, by: u8, issued: &Issued, index: u16, action: LedgerAction) -> Option<Vec<u16>> {
        self.receipt_of(by, issued, index, outcome(action, self.now))
    }

    /// The same with an outcome of its own.
    pub fn receipt_of(&mut self, by: u8, issued: &Issued, index: u16, outcome: Outcome) -> Option<Vec<u16>> {
        let outcomes = vec![(index, outcome)];
        let entry = ReceiptEntry { to: issued.to.clone(), id: issued.id, grant: issued.grant.clone(), outcomes };
        let request =
            Request::Receipts { instance: InstanceId([by; 16]), receipts: vec![entry], signed: SignedBy::default() };
        let Reply::Receipts(mut answers) = self.ask(request) else { panic!("no answer to receipts") };
        answers.pop().expect("one entry")
    }

    /// An operator's command; returns the words on each recipient.
    pub fn command(&mut self, command: Command) -> Vec<String> {
        let Reply::Commanded(said) = self.ask(Request::Command(command)) else { panic!("no answer") };
        said.recipients.into_iter().map(|(_, _, word)| word).collect()
    }

    /// Was anything left for this command to do?
    pub fn carries_out(&mut self, command: Command) -> bool {
        let Reply::Commanded(said) = self.ask(Request::Command(command)) else { panic!("no answer") };
        said.carried_out
    }

    /// What every report ever written says, oldest first.
    pub fn report_texts(&self) -> Vec<String> {
        let mut reports: Vec<_> = self.ledger.objects.iter().filter(|(key, _)| key.0.starts_with("r-")).collect();
        reports.sort_by_key(|(key, _)| key.0.clone());
        reports.into_iter().map(|(_, content)| String::from_utf8_lossy(content).into_owned()).collect()
    }

    pub fn leg(&self, id: &QueueId, number: u32) -> &Leg {
        match &self.ledger.rows[&Key::Leg(id.clone(), number)].body {
            RowBody::Leg(leg) => leg,
            RowBody::Inbound(_) => panic!("no leg"),
        }
    }

    pub fn state(&self, id: &QueueId, number: u32, position: usize) -> &RecipientState {
        &self.leg(id, number).recipients[position].state
    }

    pub fn inbound(&self) -> &Inbound {
        let inbound = self.ledger.rows.values().find_map(|row| match &row.body {
            RowBody::Inbound(inbound) => Some(inbound),
            RowBody::Leg(_) => None,
        });
        inbound.expect("an inbound row")
    }

    /// Legs that are reports.
    pub fn reports(&self) -> Vec<&Leg> {
        let legs = self.ledger.rows.values().filter_map(|row| match &row.body {
            RowBody::Leg(leg) if leg.source == Source::Report => Some(&**leg),
            _ => None,
        });
        legs.collect()
    }
}

fn is_inbound(key: &Key, id: ReferenceId) -> bool {
    matches!(key, Key::Inbound(i, _) if *i == id)
}

pub fn claim_of(issued: &Issued, indexes: &[u16]) -> ClaimEntry {
    ClaimEntry {
        to: issued.to.clone(),
        id: issued.id,
        grant: issued.grant.clone(),
        indexes: indexes.to_vec(),
        failed: Vec::new(),
        acted: false,
    }
}

/// An outcome as a peer would tell it.
pub fn outcome(action: LedgerAction, at: Timestamp) -> Outcome {
    let status = match action {
        LedgerAction::Failed => "5.2.2",
        LedgerAction::Delayed => "4.2.2",
        _ => "2.0.0",
    };
    Outcome { action, status: status.parse().unwrap(), text: "so it is".into(), at, reported: false, withdrawn: false }
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn taken() -> RecipientEnd {
    RecipientEnd::Accepted { final_delivery: false, text: "ok".into() }
}

pub fn done() -> RecipientEnd {
    RecipientEnd::Accepted { final_delivery: true, text: "ok".into() }
}

pub fn later(to_offer: bool) -> RecipientEnd {
    RecipientEnd::Temporary { status: "4.3.0".parse().unwrap(), text: "later".into(), to_offer }
}

pub fn never(to_offer: bool) -> RecipientEnd {
    RecipientEnd::Permanent { status: "5.1.1".parse().unwrap(), text: "no".into(), to_offer }
}

/// What a session at the receiver makes of an offer, every recipient into its own mailbox.
pub fn inbound_of(uri: &str, block: &str, to: &[&str], queue_id: &str, now: Timestamp) -> Inbound {
    let (uri_parsed, parsed) = (Uri::parse(uri).unwrap(), Block::parse(block.as_bytes()).unwrap());
    let topmost = parsed.chain().topmost();
    let statement = parsed.chain().reference().statement();
    let grant: Grant = uri_parsed.grant.clone();
    let recipients = to.iter().map(|to| InboundRecipient {
        recipient: Recipient::plain(address(to)),
        targets: vec![Target { route: Route::Maildir(address(to).local().to_owned()), address: address(to) }],
        outcomes: Vec::new(),
        state: IndexState::Open,
    });
    Inbound {
        queue_id: queue_id.parse().unwrap(),
        d: topmost.domain().clone(),
        i: topmost.id(),
        to: topmost.to().clone(),
        fingerprint: mail::base64url::encode(topmost.idempotence_key(&uri_parsed).as_bytes()),
        uri: uri.to_owned(),
        grant,
        host: uri_parsed.host.clone(),
        block: block.to_owned(),
        xuid: statement.xuid,
        size: statement.size,
        expires: topmost.expires(),
        mail_from: statement.mail_from.clone(),
        params: MailParams::default(),
        recipients: recipients.collect(),
        trace: "Received: x\r\n".into(),
        seal: String::new(),
        accepted: now,
        client: None,
        not_before: None,
        phase: Phase::Waiting,
        hops: Vec::new(),
        object: None,
        facts: None,
        carried: false,
        evidence: None,
        refusal: None,
        legs: 0,
        attempts: 0,
        next_attempt: now,
        unheard_since: None,
        steps: Vec::new(),
    }
}
