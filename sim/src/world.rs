//! The world: an agenda of events in virtual time, the network between the servers, their crashes and restarts.
//!
//! What a server does with its node's actions is in `edge`, what crosses the network in `smtp` and `http`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mail::ledger::{Batch, Key, Leg, ObjectRef, Route};
use mail::{Address, Domain, InstanceId, QueueId, Timestamp, Xuid};
use queue::Node;
use queue::port::{ClaimAnswer, Input, JobEvent, JobId, Proceed, Token, Work};
use reference::DomainFacts;
use reference::keys::{KeyRecord, KeyState};

use crate::chance::Chance;
use crate::delegation;
use crate::edge::brief;
use crate::http;
use crate::judge::{Case, Judge, Violation};
use crate::mutation::Mutation;
use crate::scenario::{self, Channel, Mood, Order, SERVERS, START, Scenario, ServerId, Shape};
use crate::server::{At, Errand, Question, Server};
use crate::site::{self, List, SiteEvent};
use crate::smtp;
use crate::stick::StickEvent;
use crate::topology::{Link, Topology};
use crate::upload::{self, Heard, Listed};

/// How a world is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Tell everything that happens.
    pub verbose: bool,
    /// A seeded bug.
    pub mutation: Option<Mutation>,
    /// How wide it is.
    pub shape: Shape,
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
    /// Recipients whose mail was delegated at its origin.
    pub delegated: u64,
    /// Transactions by which relays passed on what had come by reference: by custody, by reference, by value.
    pub passed_on: [u64; 3],
    /// Pages of what was pending that custodians told their sites.
    pub pages: u64,
    /// Retrievals that went on where the last link had broken off.
    pub resumed: u64,
    /// Messages that sites handed over to their custodians by upload.
    pub uploaded: u64,
    /// Parts of uploads that went on where an earlier one had broken off.
    pub uploads_resumed: u64,
    /// References that backup exchangers offered to the primary.
    pub backed_up: u64,
    /// References that were offered to sites behind sites.
    pub behind: u64,
    /// Messages that left a site in a bundle.
    pub carried: u64,
    /// References whose object came to a site in a bundle.
    pub unpacked: u64,
    /// References of which a bundle told a site that its custodian has heard.
    pub heard: u64,
    /// Failures that receivers told authors of by mail, because the origin did not hear of them.
    pub mailed: u64,
    /// Crossings of the network that a partition has swallowed.
    pub cut_off: u64,
    /// Crossings that were lost by chance.
    pub lost: u64,
    /// Recipients whose mail was withdrawn in time.
    pub withdrawn: u64,
    /// Recipients for whom a withdrawal came too late.
    pub withdrawn_late: u64,
    /// Claims that came too late because of a withdrawal.
    pub lost_to_withdrawal: u64,
    /// Claims that came too late because the reference had expired.
    pub lost_to_expiry: u64,
    /// Claims that came too late because another store had claimed before.
    pub lost_to_another: u64,
}

impl Summary {
    /// A relay passes on.
    pub(crate) fn count_way(&mut self, leg: &Leg, how: &Proceed) {
        let way = match how {
            Proceed::Offer { .. } if leg.delegated => 1,
            Proceed::Offer { .. } => 0,
            Proceed::ByValue { .. } if matches!(leg.route, Route::Mx(_) | Route::Relay(_)) => 2,
            Proceed::ByValue { .. } | Proceed::Abandon => return,
        };
        self.passed_on[way] += u64::from(leg.inbound.is_some());
    }
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
        self.delegated += other.delegated;
        self.passed_on = std::array::from_fn(|way| self.passed_on[way] + other.passed_on[way]);
        self.pages += other.pages;
        self.resumed += other.resumed;
        self.uploaded += other.uploaded;
        self.uploads_resumed += other.uploads_resumed;
        self.backed_up += other.backed_up;
        self.behind += other.behind;
        self.carried += other.carried;
        self.unpacked += other.unpacked;
        self.heard += other.heard;
        self.mailed += other.mailed;
        self.cut_off += other.cut_off;
        self.lost += other.lost;
        self.withdrawn += other.withdrawn;
        self.withdrawn_late += other.withdrawn_late;
        self.lost_to_withdrawal += other.lost_to_withdrawal;
        self.lost_to_expiry += other.lost_to_expiry;
        self.lost_to_another += other.lost_to_another;
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

/// Nothing is left to do long before.
const END: Duration = Duration::from_secs(200 * 24 * 3600);
/// So long after the last fault nothing is left that a ledger would not take.
const QUIET: Duration = Duration::from_secs(24 * 3600);
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
    Site(ServerId, SiteEvent),
    Submit(usize),
    Order(usize, Order),
}

struct Entry {
    at: Timestamp,
    number: u64,
    /// Boxed: the agenda moves its entries about, and events are large.
    event: Box<Event>,
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    agenda: BinaryHeap<Reverse<Entry>>,
    number: u64,
    pub(crate) servers: Vec<Server>,
    /// What domains publish.
    pub(crate) facts: BTreeMap<Domain, DomainFacts>,
    pub(crate) scenario: Scenario,
    pub(crate) chance: Chance,
    pub(crate) judge: Judge,
    pub(crate) options: Options,
    /// By value transactions whose content has arrived: they count once they are durable.
    pub(crate) arriving: HashMap<QueueId, Arriving>,
    /// Messages that custodians are to take from their sites, by the row that will remember them.
    pub(crate) letters: HashMap<Key, Listed>,
    /// Lists of what waits that are under way.
    pub(crate) lists: HashMap<Link, List>,
    /// What was served, where somebody reads it.
    pub(crate) contents: HashMap<Xuid, Rc<[u8]>>,
    pub(crate) queue_ids: Vec<QueueId>,
    pub(crate) summary: Summary,
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
        let scenario = Scenario::new(options.shape, &mut chance.fork());
        let judge = Judge::new(scenario.topology.clone());
        let mut world = Self {
            now: START,
            agenda: BinaryHeap::new(),
            number: 0,
            servers: Vec::new(),
            facts: BTreeMap::new(),
            scenario,
            chance,
            judge,
            options,
            arriving: HashMap::new(),
            letters: HashMap::new(),
            lists: HashMap::new(),
            contents: HashMap::new(),
            queue_ids: Vec::new(),
            summary: Summary::default(),
        };
        for place in 0..options.shape.servers() {
            world.add_server(place);
        }
        world.plan();
        world
    }

    fn add_server(&mut self, place: ServerId) {
        let (_, domain, _) = SERVERS[place];
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
            repo: self.scenario.topology.hosts(domain.as_str()),
            sub: false,
            keys: vec![KeyRecord { selector: scenario::selector(), state: key }],
            max_age: Duration::from_secs(3600),
        };
        self.facts.insert(domain.clone(), facts);
        let mut server = Server::new(domain, self.scenario.speaks_tbr(place), instance);
        let crashes = self.scenario.crashes_at_action.iter().filter(|(who, ..)| *who == place);
        server.actions_left = crashes.map(|(_, actions, down)| (*actions, *down)).collect();
        self.servers.push(server);
    }

    fn plan(&mut self) {
        for place in 0..self.servers.len() {
            self.at(START, Event::Restart(place));
        }
        for (site, custodian, at) in self.scenario.links() {
            self.at(at, Event::Site(site, SiteEvent::LinkUp(custodian)));
        }
        for (link, at) in self.scenario.sticks().collect::<Vec<_>>() {
            self.at(at, Event::Site(link.site, SiteEvent::Stick(link, StickEvent::Begins(60))));
        }
        for (link, at) in self.scenario.bundles() {
            self.at(at, Event::Site(link.site, SiteEvent::Stick(link, StickEvent::Answers)));
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
            self.happen(*event)?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Input(at, Input::Tick) => self.tick(at),
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
            Event::Site(site, event) => site::happens(self, site, event),
            Event::Submit(number) => self.submit(number),
            Event::Order(number, order) => self.order(number, order),
        }
    }

    pub(crate) fn is_mutated(&self, mutation: Mutation) -> bool {
        self.options.mutation == Some(mutation)
    }

    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.scenario.topology.clone()
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.options.verbose {
            let since = self.now.since(START).as_secs_f64();
            println!("{since:>14.3} {}", what());
        }
    }

    pub(crate) fn at(&mut self, at: Timestamp, event: Event) {
        self.number += 1;
        let entry = Entry { at: at.max(self.now), number: self.number, event: Box::new(event) };
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
        let up = self.scenario.linked_until(one, other, self.now)?;
        let peace = self.now >= self.scenario.peace;
        if !peace && self.scenario.is_cut(one, other, channel, self.now) {
            self.summary.cut_off += 1;
            return None;
        }
        if !peace && self.chance.permille(self.scenario.loss) {
            self.summary.lost += 1;
            return None;
        }
        let slow = !peace && self.chance.permille(50);
        let delay = if slow { self.chance.millis(1_000, 200_000) } else { self.chance.millis(1, 200) };
        (self.now.after(delay) < up).then_some(delay)
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

    /// Time has passed. A node without anything in hand would find nothing due, and look again ten minutes later, for months: it is asked when
    /// something is. Before that whatever else comes lets it look.
    fn tick(&mut self, at: At) -> Result<(), Violation> {
        let server = &self.servers[at.server];
        let quiet = self.now > self.scenario.peace.after(QUIET) && server.jobs.is_empty() && server.calls.is_empty();
        let idle = server.node.as_ref().is_some_and(|node| quiet && node.rows_in_hand() == 0);
        match server.disk.next_due() {
            Some(due) if idle && due > self.now => {
                self.at(due, Event::Input(at, Input::Tick));
                Ok(())
            }
            None if idle => Ok(()),
            _ => self.input(at, Input::Tick),
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

    pub(crate) fn start(&mut self, at: At, job: JobId, work: Work) -> Result<(), Violation> {
        self.servers[at.server]
            .jobs
            .insert(job, Errand { work: work.clone(), peer: None, step: 0, brought: None, upload: None });
        match work {
            Work::Deliver(delivery) => smtp::deliver(self, at, job, &delivery),
            Work::Retrieve(retrieval) => http::retrieve(self, at, job, &retrieval),
            Work::Judge(judgement) => http::judge(self, at, job, &judgement),
            Work::PostClaims(post) => http::post_claims(self, at, job, post),
            Work::PostReceipts(post) => http::post_receipts(self, at, job, post),
            Work::PostDelegation(post) => delegation::post(self, at, job, post),
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
            Question::Delegation(post) => delegation::arrives(self, to, from, job, &post),
            Question::List(letter, step) => upload::list_arrives(self, to, (from, job, step), *letter),
            Question::Part(letter, at, step) => upload::part_arrives(self, to, (from, job, step), &letter, at),
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
        delegation::mutate(self, at, job, &mut event);
        if let JobEvent::Retrieved { object, .. } = &mut event {
            let content = self.contents.get(&object.xuid).cloned();
            let server = &mut self.servers[at.server];
            *object = match server.jobs.get(&job).and_then(|errand| errand.brought) {
                Some(octets) => server.store_part(object, octets),
                None => server.store(object, content),
            };
            server.partials.remove(&object.xuid);
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
        if errand.upload.is_some() {
            return upload::hear(self, at, job, Heard::Broken);
        }
        let event = match &errand.work {
            Work::Deliver(_) => smtp::unreachable("the peer does not answer"),
            Work::Retrieve(_) => http::no_object("the repository does not answer"),
            Work::Judge(_) => JobEvent::JudgeFailed { text: "no decision".into() },
            Work::PostClaims(_) | Work::PostReceipts(_) | Work::PostDelegation(_) => {
                JobEvent::PostFailed { text: "no answer".into() }
            }
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
        self.servers[server].crash(self.now);
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

    fn count_stats(&mut self, server: ServerId) {
        use queue::Count;
        let Some(node) = &self.servers[server].node else { return };
        let stats = node.stats();
        self.summary.claimed += stats.get(Count::ClaimsGranted);
        self.summary.conflicts += stats.get(Count::Conflicts);
        self.summary.fall_backs += stats.get(Count::FallBacks);
        self.summary.acted += stats.get(Count::ActedUnanswered);
        self.summary.reports += stats.get(Count::ReportsWritten);
        self.summary.delegated += stats.get(Count::DelegationsRecorded);
    }

    fn end(mut self) -> Result<Summary, Violation> {
        for place in 0..self.servers.len() {
            self.count_stats(place);
        }
        self.summary.mailed = self.judge.mailed();
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
