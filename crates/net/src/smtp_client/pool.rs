//! Connections by where they lead and how they are protected: those that wait for the next message, who waits for one,
//! and how many there may be.
//!
//! A connection serves every destination that asks for the same of it: domains with one exchanger share it as far as
//! their demands on its TLS are equal. What they demand, and opening connections, is left to others.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustls::pki_types::ServerName;
use smtp::Capabilities;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep};

use super::connect::Failure;
use super::link::Link;
use super::{Login, Protocol};
use crate::tls::Security;

/// How often idle connections are looked through.
const LOOK: Duration = Duration::from_millis(500);
/// Longest that a connection is seen off.
const FAREWELL: Duration = Duration::from_secs(10);
/// So many offers wait for each open connection to a host before there is another one: they take a round trip each.
const PATIENT: usize = 8;
/// A host that refused another connection is not asked for one more before this.
const CAUTION: Duration = Duration::from_secs(60);

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Where {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What is asked of a connection. Equal ones can be served by the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) at: Where,
    pub(super) protocol: Protocol,
    pub(super) implicit_tls: bool,
    pub(super) login: Option<Login>,
    /// Must it offer REQUIRETLS?
    pub(super) requiretls: bool,
    pub(super) security: Security,
    /// The name that the certificate is for; none where any certificate does.
    pub(super) name: Option<ServerName<'static>>,
}

/// What the other end said when the latest connection of a kind was opened.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) capabilities: Capabilities,
    pub(super) tls: bool,
    pub(super) security: Security,
}

/// What somebody who waited gets.
pub(super) enum Grant {
    /// A connection that was used before.
    Link(Box<Link>),
    /// The right to open one.
    Open(Ticket),
    /// Somebody else has just tried to open one, in vain.
    Failed(Failure),
}

pub(super) struct Pool {
    hosts: Mutex<HashMap<Where, Host>>,
    keep: Duration,
    /// Most connections to one host.
    each: usize,
    permits: Arc<Semaphore>,
    /// Those who wait for a permit.
    waiting: AtomicUsize,
}

/// The connections to one host.
#[derive(Default)]
struct Host {
    kinds: Vec<Shelf>,
    waiting: VecDeque<Waiter>,
    /// Connections, those that are being opened included.
    open: usize,
    opening: usize,
    /// Those of them that carry what may take long.
    long: usize,
    /// It would not let us have more than so many, lately.
    refused: Option<(usize, Instant)>,
}

/// The connections of one kind.
struct Shelf {
    kind: Kind,
    open: usize,
    /// The one used last comes last.
    idle: Vec<Idle>,
    known: Option<Known>,
}

struct Waiter {
    kind: Kind,
    /// Another connection is worth while.
    eager: bool,
    answer: oneshot::Sender<Grant>,
}

struct Idle {
    link: Box<Link>,
    since: Instant,
}

/// The right to have one connection of a kind. Dropped, it is free for the next.
pub(super) struct Ticket {
    pool: Arc<Pool>,
    kind: Kind,
    opening: bool,
    long: bool,
    permit: Option<OwnedSemaphorePermit>,
}

/// What must not be dropped before the pool is unlocked: each of it wants to lock it.
#[derive(Default)]
struct Remains {
    unwanted: Vec<Grant>,
    replaced: Option<Idle>,
}

impl Known {
    pub(super) fn of(link: &Link) -> Self {
        let capabilities = link.smtp.capabilities().clone();
        Self { capabilities, tls: link.smtp.is_tls(), security: link.security.clone() }
    }
}

impl Pool {
    pub(super) fn new(connections: usize, each: usize, keep: Duration) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(connections.max(1)));
        let (hosts, each, waiting) = (Mutex::default(), each.max(1), AtomicUsize::new(0));
        let pool = Arc::new(Self { hosts, keep, each, permits, waiting });
        tokio::spawn(close_old(Arc::downgrade(&pool)));
        pool
    }

    /// What the other end offers, while a connection of this kind is open.
    pub(super) async fn known(self: &Arc<Self>, kind: &Kind) -> Option<Known> {
        // One that was closed meanwhile says nothing any more.
        if let Some(link) = self.take(kind).await {
            let known = Known::of(&link);
            self.put(link);
            return Some(known);
        }
        self.lock().get(&kind.at)?.shelf(kind)?.known.clone()
    }

    /// Is there a connection of this kind, or will there be in a moment?
    pub(super) fn is_open(&self, kind: &Kind) -> bool {
        self.lock().get(&kind.at).is_some_and(|host| host.shelf(kind).is_some())
    }

    /// A living connection that waits, the one used last.
    pub(super) async fn take(&self, kind: &Kind) -> Option<Box<Link>> {
        loop {
            let mut link = self.lock().get_mut(&kind.at)?.take(kind, self.keep)?;
            if link.is_alive().await {
                return Some(link);
            }
        }
    }

    /// A connection of this kind or the right to open one, first come first served. One that is `eager` opens another
    /// wherever there may be one; others wait a while for those that there are.
    pub(super) async fn ask(self: &Arc<Self>, kind: &Kind, eager: bool) -> Grant {
        let (answer, grant) = oneshot::channel();
        self.change(&kind.at, |host| host.waiting.push_back(Waiter { kind: kind.clone(), eager, answer }));
        // The pool drops nobody's place.
        grant.await.unwrap_or_else(|_| Grant::Failed(Failure::Unreachable("the server stops".into())))
    }

    /// Keeps a connection that is ready.
    pub(super) fn put(self: &Arc<Self>, link: Box<Link>) {
        let Some(kind) = link.ticket.as_ref().map(|ticket| ticket.kind.clone()) else { return };
        let mut idle = Idle { link, since: Instant::now() };
        idle.link.occupy(false);
        self.change(&kind.at, |host| host.shelf_mut(&kind).idle.push(idle));
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.make_room();
        }
    }

    /// The right to open a connection to anybody. Waits for one to close where there are too many; idle ones give way.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        // Counted first: whoever puts a connection back from now on sees us, and what is there already we see.
        let _waiter = Counted::new(&self.waiting);
        self.make_room();
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Closes the connection that has been idle for longest.
    fn make_room(&self) {
        let mut hosts = self.lock();
        let shelves = hosts.values_mut().flat_map(|host| &mut host.kinds).filter(|shelf| !shelf.idle.is_empty());
        let oldest = shelves.min_by_key(|shelf| shelf.idle.first().map(|idle| idle.since));
        let idle = oldest.map(|shelf| shelf.idle.remove(0));
        drop(hosts);
        idle.into_iter().for_each(see_off);
    }

    /// Lets all idle connections go, without a farewell that nobody may hear.
    pub(super) fn clear(&self) {
        // Each wants to lock the pool when it goes.
        drop(self.take_idle_for(Duration::ZERO));
    }

    /// Those that have been idle for so long.
    fn take_idle_for(&self, time: Duration) -> Vec<Idle> {
        let mut old = Vec::new();
        for shelf in self.lock().values_mut().flat_map(|host| &mut host.kinds) {
            let fresh = shelf.idle.partition_point(|idle| idle.since.elapsed() >= time);
            old.extend(shelf.idle.drain(..fresh));
        }
        old
    }

    /// Changes what is known of a host, and gives whoever waits there what he can have now.
    fn change(self: &Arc<Self>, at: &Where, change: impl FnOnce(&mut Host)) {
        let mut hosts = self.lock();
        let host = hosts.entry(at.clone()).or_default();
        change(host);
        let remains = host.serve(self);
        if host.is_forgotten() {
            hosts.remove(at);
        }
        drop(hosts);
        drop(remains.unwanted);
        remains.replaced.into_iter().for_each(see_off);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Where, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    /// Most connections that there may be.
    fn most(&self, pool: &Pool) -> usize {
        let refused = self.refused.filter(|(_, since)| since.elapsed() < CAUTION);
        refused.map_or(pool.each, |(most, _)| most.min(pool.each))
    }

    fn shelf(&self, kind: &Kind) -> Option<&Shelf> {
        self.kinds.iter().find(|shelf| shelf.kind == *kind)
    }

    fn shelf_mut(&mut self, kind: &Kind) -> &mut Shelf {
        let place = self.kinds.iter().position(|shelf| shelf.kind == *kind).unwrap_or_else(|| {
            self.kinds.push(Shelf { kind: kind.clone(), open: 0, idle: Vec::new(), known: None });
            self.kinds.len() - 1
        });
        &mut self.kinds[place]
    }

    fn take(&mut self, kind: &Kind, keep: Duration) -> Option<Box<Link>> {
        let shelf = self.kinds.iter_mut().find(|shelf| shelf.kind == *kind)?;
        // Those too old are seen off by and by.
        let idle = shelf.idle.pop_if(|idle| idle.since.elapsed() < keep)?;
        Some(idle.link)
    }

    /// First the connections that are there, then new ones.
    fn serve(&mut self, pool: &Arc<Pool>) -> Remains {
        let mut remains = Remains::default();
        for waiter in std::mem::take(&mut self.waiting) {
            if waiter.answer.is_closed() {
                continue;
            }
            match self.take(&waiter.kind, pool.keep) {
                Some(link) => remains.unwanted.extend(waiter.answer.send(Grant::Link(link)).err()),
                None => self.waiting.push_back(waiter),
            }
        }
        let most = self.most(pool);
        while let Some(waiter) = self.next_to_open(most) {
            self.open += 1;
            self.opening += 1;
            self.shelf_mut(&waiter.kind).open += 1;
            let ticket = Ticket { pool: Arc::clone(pool), kind: waiter.kind, opening: true, long: false, permit: None };
            remains.unwanted.extend(waiter.answer.send(Grant::Open(ticket)).err());
        }
        // What is idle now is of a kind that nobody waits for.
        if self.open >= most && !self.waiting.is_empty() {
            let idle = self.kinds.iter_mut().find(|shelf| !shelf.idle.is_empty());
            remains.replaced = idle.map(|shelf| shelf.idle.remove(0));
        }
        remains
    }

    /// Who may open a connection: as many at a time as there are already, so that a host that is down is tried once, and
    /// one that is not has what it needs after a few handshakes.
    fn next_to_open(&mut self, most: usize) -> Option<Waiter> {
        if self.open >= most || self.opening >= (self.open - self.opening).max(1) {
            return None;
        }
        let crowded = self.waiting.len() > PATIENT * (self.open - self.long);
        let is_next = |waiter: &Waiter| crowded || waiter.eager || self.shelf(&waiter.kind).is_none_or(|s| s.open == 0);
        let place = self.waiting.iter().position(is_next)?;
        self.waiting.remove(place)
    }

    fn close(&mut self, ticket: &Ticket) {
        self.open -= 1;
        self.opening -= usize::from(ticket.opening);
        self.long -= usize::from(ticket.long);
        self.shelf_mut(&ticket.kind).open -= 1;
        self.kinds.retain(|shelf| shelf.open > 0);
        if self.open == 0 {
            self.refused = None;
        }
    }

    fn is_forgotten(&self) -> bool {
        self.open == 0 && self.waiting.is_empty()
    }
}

impl Ticket {
    /// Waits until there are few enough connections in all.
    pub(super) async fn enter(&mut self) -> Option<()> {
        self.permit = Some(self.pool.permit().await?);
        Some(())
    }

    /// The connection is open, and this is what the other end said.
    pub(super) fn opened(&mut self, known: Known) {
        let kind = self.kind.clone();
        self.pool.change(&kind.at, |host| {
            host.opening -= usize::from(std::mem::take(&mut self.opening));
            host.shelf_mut(&kind).known = Some(known);
        });
    }

    /// What the connection carries now may take long, or not any more.
    pub(super) fn occupy(&mut self, long: bool) {
        if std::mem::replace(&mut self.long, long) != long {
            let change = |host: &mut Host| if long { host.long += 1 } else { host.long -= 1 };
            self.pool.change(&self.kind.at, change);
        }
    }

    /// No connection came of it. Says if there are others of its kind, which have to do; those who wait hear of it where
    /// there are none.
    pub(super) fn failed(self, failure: &Failure) -> bool {
        let (pool, kind) = (Arc::clone(&self.pool), self.kind.clone());
        let (mut have_others, mut hearers) = (false, VecDeque::new());
        pool.change(&kind.at, |host| {
            have_others = host.shelf(&kind).is_some_and(|shelf| shelf.open > 1);
            if have_others {
                host.refused = Some(((host.open - host.opening).max(1), Instant::now()));
                return;
            }
            let (hear, wait) = std::mem::take(&mut host.waiting).into_iter().partition(|waiter| waiter.kind == kind);
            (hearers, host.waiting) = (hear, wait);
        });
        for Waiter { answer, .. } in hearers {
            // Who has gone does not want to know.
            let _ = answer.send(Grant::Failed(failure.clone()));
        }
        have_others
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let pool = Arc::clone(&self.pool);
        pool.change(&self.kind.at, |host| host.close(self));
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn close_old(pool: Weak<Pool>) {
    loop {
        sleep(LOOK).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.take_idle_for(pool.keep).into_iter().for_each(see_off);
    }
}

fn see_off(idle: Idle) {
    tokio::spawn(tokio::time::timeout(FAREWELL, idle.link.quit()));
}
