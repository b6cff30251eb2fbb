//! The world: an agenda of events in virtual time, and what the servers' actions become.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

use mail::ledger::{Batch, Key, ObjectKey, ObjectRef, Phase, Row, RowBody, Source};
use mail::{Address, InstanceId, MailParams, Notify, QueueId, Recipient, Timestamp, Xuid};
use queue::Node;
use queue::port::{
    Acceptance, Action, CallId, ClaimAnswer, Command, Input, JobEvent, JobId, LedgerAnswer, Reply, Request, Selection,
    Token, Work,
};
use reference::DomainFacts;
use reference::keys::{KeyRecord, KeyState};

use crate::chance::Chance;
use crate::http;
use crate::judge::{Case, Judge, Violation};
use crate::mutation::Mutation;
use crate::scenario::{self, Channel, Mood, Order, SERVERS, START, Scenario, ServerId};
use crate::server::{At, Caller, Errand, Question, Server};
use crate::smtp;

/// How a world is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Tell everything that happens.
    pub verbose: bool,
    /// A seeded bug.
    pub mutation: Option<Mutation>,
}

/// What happened in a world that ended well.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// Events in it.
    pub events: u64,
    /// Messages that were accepted.
    pub messages: u64,
    /// Recipients whose custody was claimed.
    pub claimed: u64,
    /// Crashes.
    pub crashes: u64,
    /// Commits that lost against another.
    pub conflicts: u64,
    /// References that went over to by value.
    pub fall_backs: u64,
    /// Claims without an answer for an hour.
    pub acted: u64,
    /// Reports written.
    pub reports: u64,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.messages += other.messages;
        self.claimed += other.claimed;
        self.crashes += other.crashes;
        self.conflicts += other.conflicts;
        self.fall_backs += other.fall_backs;
        self.acted += other.acted;
        self.reports += other.reports;
    }
}

/// Runs the world of a seed to its end.
///
/// # Errors
/// The first thing seen that must never be.
pub fn run(seed: u64, options: Options) -> Result<Summary, Violation> {
    let mut world = World::new(seed, options);
    world.live()?;
    world.end()
}

/// NOTIFY=SUCCESS,FAILURE,DELAY.
const ALL_NEWS: Notify = Notify::On { success: true, failure: true, delay: true };
/// Nothing is left to do long before.
const END: Duration = Duration::from_secs(120 * 24 * 3600);
/// A world that does more than this runs in circles.
const MAX_EVENTS: u64 = 400_000;

pub(crate) enum Event {
    Input(At, Input),
    Commit(At, Token, Batch, Vec<(ObjectRef, Vec<u8>)>),
    /// Something has crossed the network.
    Arrive(ServerId, At, JobId, Question),
    /// The answer to a job has come back; it ends the job unless it asks how to go on.
    Answer(At, JobId, JobEvent),
    Timeout(At, JobId, u32),
    WriteMailbox(At, JobId),
    Crash(ServerId, Duration),
    Restart(ServerId),
    Submit(usize),
    Order(usize, Order),
}

struct Entry {
    at: Timestamp,
    number: u64,
    event: Event,
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    agenda: BinaryHeap<Reverse<Entry>>,
    number: u64,
    pub(crate) servers: Vec<Server>,
    pub(crate) scenario: Scenario,
    pub(crate) chance: Chance,
    pub(crate) judge: Judge,
    pub(crate) options: Options,
    /// By value transactions whose content has arrived: they count once they are durable.
    pub(crate) arriving: HashMap<QueueId, Arriving>,
    queue_ids: Vec<QueueId>,
    summary: Summary,
}

/// A transaction by value between two servers.
pub(crate) struct Arriving {
    pub(crate) from: At,
    pub(crate) key: Key,
    pub(crate) recipients: Vec<Address>,
    pub(crate) xuid: Xuid,
}

impl World {
    fn new(seed: u64, options: Options) -> Self {
        let mut chance = Chance::new(seed);
        let scenario = Scenario::new(&mut chance.fork());
        let mut world = Self {
            now: START,
            agenda: BinaryHeap::new(),
            number: 0,
            servers: Vec::new(),
            scenario,
            chance,
            judge: Judge::default(),
            options,
            arriving: HashMap::new(),
            queue_ids: Vec::new(),
            summary: Summary::default(),
        };
        for place in 0..SERVERS.len() {
            world.add_server(place);
        }
        world.plan();
        world
    }

    fn add_server(&mut self, place: ServerId) {
        let (_, domain, tbr) = SERVERS[place];
        let domain = scenario::domain(domain);
        let twin = place == 2 && self.is_mutated(Mutation::SharedInstance);
        let instance = InstanceId([if twin { place as u8 } else { place as u8 + 1 }; 16]);
        let key = KeyState::Active {
            key: scenario::key(&domain).verifying_key(),
            not_before: Timestamp::default(),
            not_after: START.after(END),
        };
        let facts = DomainFacts {
            domain: domain.clone(),
            repo: vec![scenario::domain(&format!("tbr.{domain}"))],
            sub: false,
            keys: vec![KeyRecord { selector: scenario::selector(), state: key }],
            max_age: Duration::from_secs(3600),
        };
        let mut server = Server::new(domain, tbr, instance, facts);
        let crashes = self.scenario.crashes_at_action.iter().filter(|(who, ..)| *who == place);
        server.actions_left = crashes.map(|(_, actions, down)| (*actions, *down)).collect();
        self.servers.push(server);
    }

    fn plan(&mut self) {
        for place in 0..self.servers.len() {
            self.at(START, Event::Restart(place));
        }
        for (server, at, down) in self.scenario.crashes.clone() {
            self.at(at, Event::Crash(server, down));
        }
        for number in 0..self.scenario.mails.len() {
            let mail = &self.scenario.mails[number];
            let (at, orders) = (mail.at, mail.orders.clone());
            let xuid =
                Xuid::from_digest(std::array::from_fn(|i| if i < 8 { (number as u64).to_be_bytes()[i] } else { 1 }));
            let case = Case {
                server: mail.server,
                author: mail.author.clone(),
                recipients: mail.recipients.clone(),
                xuid,
                success: mail.success,
                acknowledged: false,
            };
            self.judge.open(case);
            self.queue_ids.push(QueueId::generate(at, self.chance.next().to_be_bytes()));
            self.at(at, Event::Submit(number));
            for (at, order) in orders {
                self.at(at, Event::Order(number, order));
            }
            // Nobody holds a message for ever.
            self.at(self.scenario.peace.after(Duration::from_secs(3600)), Event::Order(number, Order::Release));
        }
    }

    fn live(&mut self) -> Result<(), Violation> {
        let end = START.after(END);
        while let Some(Reverse(Entry { at, event, .. })) = self.agenda.pop() {
            if at > end {
                break;
            }
            self.now = at;
            self.summary.events += 1;
            if self.summary.events > MAX_EVENTS {
                return Err(Violation("the world runs in circles".into()));
            }
            self.happen(event)?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Input(at, input) => self.input(at, input),
            Event::Commit(at, token, batch, created) => self.commit(at, token, batch, created),
            Event::Arrive(to, from, job, question) => self.arrive(to, from, job, question),
            Event::Answer(at, job, event) => self.job_event(at, job, event),
            Event::Timeout(at, job, step) => self.time_out(at, job, step),
            Event::WriteMailbox(at, job) => self.write_mailbox(at, job),
            Event::Crash(server, down) => {
                self.crash(server, down);
                Ok(())
            }
            Event::Restart(server) => self.restart(server),
            Event::Submit(number) => self.submit(number),
            Event::Order(number, order) => self.order(number, order),
        }
    }

    pub(crate) fn is_mutated(&self, mutation: Mutation) -> bool {
        self.options.mutation == Some(mutation)
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.options.verbose {
            let since = self.now.since(START).as_secs_f64();
            println!("{since:>14.3} {}", what());
        }
    }

    pub(crate) fn at(&mut self, at: Timestamp, event: Event) {
        self.number += 1;
        let entry = Entry { at: at.max(self.now), number: self.number, event };
        self.agenda.push(Reverse(entry));
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now.after(delay), event);
    }

    pub(crate) fn here(&self, server: ServerId) -> At {
        At { server, epoch: self.servers[server].epoch }
    }

    pub(crate) fn is_alive(&self, at: At) -> bool {
        let server = &self.servers[at.server];
        server.epoch == at.epoch && server.node.is_some()
    }

    /// Time to cross the network, if it is crossed at all.
    pub(crate) fn cross(&mut self, one: ServerId, other: ServerId, channel: Channel) -> Option<Duration> {
        let peace = self.now >= self.scenario.peace;
        if !peace && (self.scenario.is_cut(one, other, channel, self.now) || self.chance.permille(self.scenario.loss)) {
            return None;
        }
        let slow = !peace && self.chance.permille(50);
        Some(if slow { self.chance.millis(1_000, 200_000) } else { self.chance.millis(1, 200) })
    }

    pub(crate) fn is_in_mood(&self, server: ServerId, mood: Mood) -> bool {
        self.scenario.is_in_mood(server, mood, self.now)
    }

    /// Feeds an input and carries out what the node says to it.
    pub(crate) fn input(&mut self, at: At, input: Input) -> Result<(), Violation> {
        if !self.is_alive(at) {
            return Ok(());
        }
        let Some(node) = self.servers[at.server].node.as_mut() else { return Ok(()) };
        node.handle(self.now, input);
        loop {
            let alive = self.is_alive(at);
            let node = self.servers[at.server].node.as_mut().filter(|_| alive);
            let Some(action) = node.and_then(Node::poll_action) else { return Ok(()) };
            if let Some(down) = self.dies_now(at.server) {
                self.crash(at.server, down);
                return Ok(());
            }
            self.act(at, action)?;
        }
    }

    /// Does power fail just before this action?
    fn dies_now(&mut self, server: ServerId) -> Option<Duration> {
        let (now, peace) = (self.now, self.scenario.peace);
        let server = &mut self.servers[server];
        server.actions_done += 1;
        let place = server.actions_left.iter().position(|(at, _)| *at == server.actions_done)?;
        (now < peace).then(|| server.actions_left.swap_remove(place).1)
    }

    fn act(&mut self, at: At, action: Action) -> Result<(), Violation> {
        let server = &mut self.servers[at.server];
        match action {
            Action::Reply { call, reply } => self.reply(at, call, reply),
            Action::Load { token, keys } => {
                let rows = server.disk.load(&keys);
                self.read(at, token, LedgerAnswer::Rows(rows))
            }
            Action::Find { token, alternates, limit } => {
                let rows = server.disk.find(&alternates, limit);
                self.read(at, token, LedgerAnswer::Rows(rows))
            }
            Action::Lease { token, now, limit, until } => {
                let answer = server.disk.lease(now, limit, until);
                self.read(at, token, answer)
            }
            Action::ReadHead { token, object, .. } => {
                let head = server.disk.object(&object.key).map(|_| b"Subject: test\r\n\r\n".to_vec());
                let answer = head.map_or_else(|| LedgerAnswer::Failed("no such object".into()), LedgerAnswer::Head);
                self.read(at, token, answer)
            }
            Action::Commit { token, batch, created } => self.begin_commit(at, token, batch, created),
            Action::Start { job, work } => self.start(at, job, work),
            Action::Proceed { job, how } => smtp::proceed(self, at, job, how),
            Action::Wake(time) => {
                self.at(time, Event::Input(at, Input::Tick));
                Ok(())
            }
        }
    }

    fn read(&mut self, at: At, token: Token, mut answer: LedgerAnswer) -> Result<(), Violation> {
        if self.is_in_mood(at.server, Mood::DiskFull) && self.chance.permille(300) {
            answer = LedgerAnswer::Failed("I/O error".into());
        }
        if self.is_mutated(Mutation::FirstSentForgotten) {
            forget_first_sent(&mut answer);
        }
        let delay = self.chance.millis(0, 3);
        self.after(delay, Event::Input(at, Input::Ledger { token, answer }));
        Ok(())
    }

    fn begin_commit(
        &mut self,
        at: At,
        token: Token,
        batch: Batch,
        created: Vec<(ObjectRef, Vec<u8>)>,
    ) -> Result<(), Violation> {
        if self.is_mutated(Mutation::CommittedTooSoon) {
            self.after(Duration::ZERO, Event::Input(at, Input::Ledger { token, answer: LedgerAnswer::Committed }));
        }
        // One writer: commits happen in the order in which they were asked for.
        let delay = self.chance.millis(1, 12);
        let done = self.servers[at.server].disk_free.max(self.now).after(delay);
        self.servers[at.server].disk_free = done;
        self.at(done, Event::Commit(at, token, batch, created));
        Ok(())
    }

    fn commit(
        &mut self,
        at: At,
        token: Token,
        batch: Batch,
        created: Vec<(ObjectRef, Vec<u8>)>,
    ) -> Result<(), Violation> {
        // A commit that was under way when power failed is durable or not: here it is not.
        if !self.is_alive(at) {
            return Ok(());
        }
        let full = self.is_in_mood(at.server, Mood::DiskFull) && self.chance.permille(700);
        let keys: Vec<Key> = batch.put.iter().map(|row| row.key.clone()).collect();
        let answer = if full {
            LedgerAnswer::Failed("no space left on device".into())
        } else {
            match self.servers[at.server].disk.commit(batch, created, self.options.mutation) {
                Ok(()) => {
                    self.check_objects(at.server, &keys)?;
                    self.judge_rows(at.server, &keys)?;
                    LedgerAnswer::Committed
                }
                Err(changed) => LedgerAnswer::Conflict(changed),
            }
        };
        // Sometimes the word that it is durable comes late, so that a crash can come between.
        let late = self.chance.permille(30);
        let delay = if late { self.chance.millis(100, 5_000) } else { self.chance.millis(0, 3) };
        self.after(delay, Event::Input(at, Input::Ledger { token, answer }));
        Ok(())
    }

    /// A durable row must never name an object that is not there.
    fn check_objects(&self, server: ServerId, keys: &[Key]) -> Result<(), Violation> {
        let disk = &self.servers[server].disk;
        for row in keys.iter().filter_map(|key| disk.row(key)) {
            if let Some(object) = row.object().filter(|object| disk.object(&object.key).is_none()) {
                return Err(Violation(format!("{} names an object that is gone: {:?}", row.key, object.key)));
            }
        }
        Ok(())
    }

    fn judge_rows(&mut self, server: ServerId, keys: &[Key]) -> Result<(), Violation> {
        let disk = &self.servers[server].disk;
        let touched: BTreeSet<usize> = self.judge.committed(server, keys.iter().filter_map(|key| disk.row(key)));
        if self.options.verbose {
            for row in keys.iter().filter_map(|key| disk.row(key)) {
                self.tell(|| format!("{} commits {}", SERVERS[server].0, brief(row)));
            }
        }
        self.note_handed(keys)?;
        if touched.is_empty() {
            return Ok(());
        }
        let rows: Vec<Vec<&Row>> = self.servers.iter().map(|server| server.disk.rows().collect()).collect();
        touched.into_iter().try_for_each(|number| self.judge.custody(number, &rows))
    }

    /// By value, custody has moved the moment that the next hop's rows are durable.
    fn note_handed(&mut self, keys: &[Key]) -> Result<(), Violation> {
        for key in keys {
            let Key::Leg(queue_id, _) = key else { continue };
            let Some(Arriving { from, key, recipients, xuid }) = self.arriving.remove(queue_id) else { continue };
            for to in recipients {
                self.judge.handed(from, &key, &to, &xuid)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, at: At, call: CallId, reply: Reply) -> Result<(), Violation> {
        let Some(caller) = self.servers[at.server].calls.remove(&call) else { return Ok(()) };
        match caller {
            Caller::Submitter { case } => {
                if matches!(reply, Reply::Accepted) {
                    self.check_accepted(at.server, case)?;
                    self.tell(|| format!("{} accepted m{case}", SERVERS[at.server].0));
                    self.judge.acknowledge(case);
                    self.summary.messages += 1;
                } else {
                    self.after(Duration::from_secs(300), Event::Submit(case));
                }
                Ok(())
            }
            Caller::Operator { case, recalls } => {
                self.note_recalled(case, recalls, &reply);
                Ok(())
            }
            Caller::Value { from, job, outcomes, open } => {
                smtp::value_answered(self, at.server, from, job, outcomes, &open, &reply);
                Ok(())
            }
            Caller::Offer { from, job, outcomes, open } => {
                smtp::offer_answered(self, at.server, from, job, outcomes, &open, &reply)
            }
            Caller::Fetch { from, job } => http::located(self, at.server, from, job, reply),
            Caller::Claims { from, job, post } => http::claimed(self, at.server, from, job, &post, reply),
            Caller::Receipts { from, job, post } => http::recorded(self, at.server, from, job, &post, reply),
        }
    }

    /// A reply before its commit is a lie that a crash brings to light.
    fn check_accepted(&self, server: ServerId, case: usize) -> Result<(), Violation> {
        let key = Key::Leg(self.queue_ids[case].clone(), 0);
        match self.servers[server].disk.row(&key) {
            Some(_) => Ok(()),
            None => Err(Violation(format!("m{case} was acknowledged before it was durable"))),
        }
    }

    fn note_recalled(&mut self, case: usize, recalls: bool, reply: &Reply) {
        let Reply::Commanded(commanded) = reply else { return };
        for (_, address, word) in &commanded.recipients {
            self.tell(|| format!("operator on m{case}: {address} {word}"));
            if recalls && word.contains("withdrawn") {
                self.judge.withdrawn(case, address);
            }
        }
    }

    fn start(&mut self, at: At, job: JobId, work: Work) -> Result<(), Violation> {
        self.servers[at.server].jobs.insert(job, Errand { work: work.clone(), peer: None, step: 0 });
        match work {
            Work::Deliver(delivery) => smtp::deliver(self, at, job, &delivery),
            Work::Retrieve(retrieval) => http::retrieve(self, at, job, &retrieval),
            Work::PostClaims(post) => http::post_claims(self, at, job, post),
            Work::PostReceipts(post) => http::post_receipts(self, at, job, post),
        }
    }

    /// Sends a question for a job; without an answer the job ends by itself.
    pub(crate) fn ask(&mut self, at: At, job: JobId, to: ServerId, channel: Channel, question: Question) {
        let Some(errand) = self.servers[at.server].jobs.get_mut(&job) else { return };
        errand.step += 1;
        let step = errand.step;
        let patience = self.chance.millis(60_000, 300_000);
        self.after(patience, Event::Timeout(at, job, step));
        if let Some(delay) = self.cross(at.server, to, channel) {
            self.after(delay, Event::Arrive(to, at, job, question));
        }
    }

    fn arrive(&mut self, to: ServerId, from: At, job: JobId, question: Question) -> Result<(), Violation> {
        if self.servers[to].node.is_none() {
            return Ok(());
        }
        match question {
            Question::Connect => smtp::connected(self, to, from, job),
            Question::Value(delivery, positions) => smtp::value_arrives(self, to, from, job, &delivery, &positions),
            Question::Offer(offer) => smtp::offer_arrives(self, to, from, job, &offer),
            question => http::arrives(self, to, from, job, question),
        }
    }

    /// An answer for a job of a server crosses the network back.
    pub(crate) fn answer(&mut self, from: ServerId, to: At, job: JobId, channel: Channel, event: JobEvent) -> bool {
        match self.cross(from, to.server, channel) {
            Some(delay) => {
                self.after(delay, Event::Answer(to, job, event));
                true
            }
            None => false,
        }
    }

    pub(crate) fn job_event(&mut self, at: At, job: JobId, mut event: JobEvent) -> Result<(), Violation> {
        if !self.is_alive(at) || !self.servers[at.server].jobs.contains_key(&job) {
            return Ok(());
        }
        if let JobEvent::Retrieved { object, .. } = &mut event {
            *object = self.servers[at.server].store(object, None);
        }
        let goes_on = matches!(event, JobEvent::Connected(_) | JobEvent::OfferDeclined { .. });
        let errand = self.servers[at.server].jobs.get_mut(&job);
        match errand {
            // The session is open: what it waited for has come.
            Some(errand) if goes_on => errand.step += 1,
            _ => {
                let errand = self.servers[at.server].jobs.remove(&job);
                smtp::note_told(self, at.server, errand.as_ref(), &event);
            }
        }
        self.tell(|| format!("{} job {}: {event:?}", SERVERS[at.server].0, job.0));
        self.input(at, Input::Job { job, event })
    }

    fn time_out(&mut self, at: At, job: JobId, step: u32) -> Result<(), Violation> {
        if !self.is_alive(at) {
            return Ok(());
        }
        let Some(errand) = self.servers[at.server].jobs.get(&job).filter(|errand| errand.step == step) else {
            return Ok(());
        };
        let event = match &errand.work {
            Work::Deliver(_) => smtp::unreachable("the peer does not answer"),
            Work::Retrieve(_) => http::no_object("the repository does not answer"),
            Work::PostClaims(_) | Work::PostReceipts(_) => JobEvent::PostFailed { text: "no answer".into() },
        };
        self.job_event(at, job, event)
    }

    fn write_mailbox(&mut self, at: At, job: JobId) -> Result<(), Violation> {
        if !self.is_alive(at) {
            return Ok(());
        }
        smtp::write_mailbox(self, at, job)
    }

    fn crash(&mut self, server: ServerId, down: Duration) {
        if self.servers[server].node.is_none() {
            return;
        }
        self.tell(|| format!("{} CRASHES", SERVERS[server].0));
        self.count_stats(server);
        self.summary.crashes += 1;
        self.servers[server].crash();
        if self.is_mutated(Mutation::MailboxNotSynced) {
            self.lose_files(server);
        }
        let back = self.now.after(down).min(self.scenario.peace.max(self.now.after(Duration::from_millis(10))));
        self.at(back, Event::Restart(server));
    }

    fn lose_files(&mut self, server: ServerId) {
        let recent = self.now.before(Duration::from_secs(1800));
        let files = std::mem::take(&mut self.servers[server].files);
        for ((mailbox, file), (written, xuid)) in files {
            if written < recent {
                self.servers[server].files.insert((mailbox, file), (written, xuid));
            } else {
                self.judge.file_lost(&xuid, &mailbox, &file);
            }
        }
    }

    fn restart(&mut self, place: ServerId) -> Result<(), Violation> {
        self.tell(|| format!("{} starts", SERVERS[place].0));
        if self.is_mutated(Mutation::NewInstanceAtRestart) {
            self.servers[place].instance = InstanceId(std::array::from_fn(|_| self.chance.next() as u8));
        }
        let config = self.scenario.config(place);
        let entropy = Box::new(self.chance.fork());
        let server = &mut self.servers[place];
        server.node = Some(Node::new(config, entropy, server.instance));
        server.disk_free = self.now;
        self.check_restarted(place)?;
        self.input(self.here(place), Input::Tick)
    }

    /// After a crash every row still finds its object.
    fn check_restarted(&self, place: ServerId) -> Result<(), Violation> {
        let keys: Vec<Key> = self.servers[place].disk.rows().map(|row| row.key.clone()).collect();
        self.check_objects(place, &keys)
    }

    fn submit(&mut self, number: usize) -> Result<(), Violation> {
        let mail = &self.scenario.mails[number];
        let server = mail.server;
        if self.servers[server].node.is_none() {
            self.after(Duration::from_secs(600), Event::Submit(number));
            return Ok(());
        }
        let xuid = self.judge.xuid(number);
        let content = ObjectRef { key: ObjectKey(String::new()), xuid, size: mail.size };
        let (own, success) = (self.servers[server].domain.clone(), mail.success);
        let recipients = mail.recipients.iter().filter_map(|to| {
            let targets = scenario::targets(&own, to)?;
            let notify = if success { ALL_NEWS } else { Notify::Unspecified };
            Some((Recipient { notify, ..Recipient::plain(to.clone()) }, targets))
        });
        let recipients: Vec<_> = recipients.collect();
        if recipients.len() < mail.recipients.len() {
            // Refused at RCPT: nothing was accepted.
            return Ok(());
        }
        let acceptance = Acceptance {
            queue_id: self.queue_ids[number].clone(),
            mail_from: mail.author.clone(),
            params: MailParams { envid: Some(format!("m{number}")), ..MailParams::default() },
            recipients,
            object: self.servers[server].store(&content, None),
            facts: mail::ledger::ContentFacts { is_object: true, eight_bit: false },
            prefix: String::new(),
            source: Source::Local,
        };
        let call = self.servers[server].call(Caller::Submitter { case: number });
        self.input(self.here(server), Input::Call { call, request: Request::Accept(Box::new(acceptance)) })
    }

    fn order(&mut self, number: usize, order: Order) -> Result<(), Violation> {
        let server = self.scenario.mails[number].server;
        if self.servers[server].node.is_none() {
            self.after(Duration::from_secs(900), Event::Order(number, order));
            return Ok(());
        }
        let selection = Selection::Message(self.queue_ids[number].clone());
        let command = match order {
            Order::Withdraw => Command::Withdraw(selection),
            Order::Fail => Command::Fail(selection),
            Order::Hold => Command::Hold(selection),
            Order::Release => Command::Release(selection),
            Order::Retry => Command::Retry(selection),
        };
        let caller = Caller::Operator { case: number, recalls: order == Order::Withdraw };
        let call = self.servers[server].call(caller);
        self.input(self.here(server), Input::Call { call, request: Request::Command(command) })
    }

    fn count_stats(&mut self, server: ServerId) {
        use queue::Count;
        let Some(node) = &self.servers[server].node else { return };
        let stats = node.stats();
        self.summary.claimed += stats.get(Count::ClaimsGranted);
        self.summary.conflicts += stats.get(Count::Conflicts);
        self.summary.fall_backs += stats.get(Count::FallBacks);
        self.summary.acted += stats.get(Count::ActedUnanswered);
        self.summary.reports += stats.get(Count::ReportsWritten);
    }

    fn end(mut self) -> Result<Summary, Violation> {
        for place in 0..self.servers.len() {
            self.count_stats(place);
        }
        self.judge.close()?;
        for (server, (name, ..)) in self.servers.iter().zip(SERVERS) {
            if let Some(row) = server.disk.rows().next() {
                return Err(Violation(format!("{name} never forgets {}", brief(row))));
            }
            if server.disk.object_count() > 0 && self.options.mutation.is_none() {
                return Err(Violation(format!(
                    "{name} keeps {} objects that nobody names",
                    server.disk.object_count()
                )));
            }
            if let Some(node) = server.node.as_ref().filter(|node| node.rows_in_hand() > 0) {
                return Err(Violation(format!("{name} still has {} rows in hand", node.rows_in_hand())));
            }
        }
        Ok(self.summary)
    }
}

fn forget_first_sent(answer: &mut LedgerAnswer) {
    let (LedgerAnswer::Rows(rows) | LedgerAnswer::Leased { rows, .. }) = answer else { return };
    for row in rows {
        if let RowBody::Inbound(inbound) = &mut row.body
            && matches!(inbound.phase, Phase::Claiming { .. })
        {
            inbound.phase = Phase::Held;
        }
    }
}

/// A row in one line.
fn brief(row: &Row) -> String {
    let due = row.due.map(|due| due.since(START).as_secs());
    match &row.body {
        RowBody::Leg(leg) => {
            let states: Vec<String> =
                leg.recipients.iter().map(|r| format!("{}={:?}", r.recipient.address, r.state)).collect();
            format!("{} v{} due {due:?} by_value={} {}", row.key, row.version, leg.by_value, states.join(" "))
        }
        RowBody::Inbound(inbound) => {
            let states: Vec<String> =
                inbound.recipients.iter().map(|r| format!("{}={:?}", r.recipient.address, r.state)).collect();
            format!("{} v{} due {due:?} {:?} {}", row.key, row.version, inbound.phase, states.join(" "))
        }
    }
}

/// What the edge does with answers to claims under seeded bugs.
pub(crate) fn mutate_answer(answer: ClaimAnswer, mutation: Option<Mutation>) -> ClaimAnswer {
    match (answer, mutation) {
        (ClaimAnswer::Taken, Some(Mutation::ClaimGrantedTwice)) => ClaimAnswer::Granted,
        (ClaimAnswer::Gone, Some(Mutation::FallBackWithoutWinning)) => ClaimAnswer::Granted,
        (answer, _) => answer,
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
