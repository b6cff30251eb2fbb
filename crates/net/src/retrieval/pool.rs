//! Connections to be used again for the same host: idle ones, and those that carry several requests at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail::Domain;
use tokio::time::{Instant, timeout};

use super::Config;
use super::connect::{ConnectError, Connection, Connector, Errand};
use super::places::Place;

/// How long to wait until a connection has noticed the end of its last response.
const SETTLE: Duration = Duration::from_millis(100);

/// Keeps connections, within limits on their number and age.
pub(super) struct Pool {
    connector: Connector,
    idle: Mutex<HashMap<Domain, Vec<Idle>>>,
    /// Of the hosts that are asked for such.
    shared: HashMap<Domain, Shared>,
    most: usize,
    most_per_host: usize,
    idle_time: Duration,
    age: Duration,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// The connection to a host over which several objects come at a time. What is said beside, claims and lists, would wait behind them in the
/// kernel: it has a connection of its own.
#[derive(Default)]
struct Shared {
    kept: Mutex<Option<Connection>>,
    /// Held while one is opened, so that no second one is.
    opening: tokio::sync::Mutex<()>,
    /// The host did not want that the last time: its idle connections serve for objects too.
    is_http1: AtomicBool,
}

/// A connection, and whether it has served before: then it may break without anybody's fault.
pub(super) struct Taken {
    pub(super) connection: Connection,
    pub(super) reused: bool,
    /// To be given back once the errand is done.
    pub(super) place: Option<Place>,
}

impl Pool {
    pub(super) fn new(connector: Connector, config: &Config) -> Self {
        Self {
            connector,
            idle: Mutex::default(),
            shared: config.several_at_once.iter().map(|host| (host.clone(), Shared::default())).collect(),
            most: config.idle_connections,
            most_per_host: config.idle_per_host,
            idle_time: config.idle_time,
            age: config.connection_age,
        }
    }

    /// An idle connection that still works or one that carries more, or a new one.
    pub(super) async fn take(&self, host: &Domain, errand: Errand) -> Result<Taken, ConnectError> {
        while let Some(mut connection) = self.kept(host, errand) {
            let place = self.connector.place(host, errand, connection.network).await?;
            if matches!(timeout(SETTLE, connection.sender.is_ready()).await, Ok(true)) {
                return Ok(Taken { connection, reused: true, place });
            }
            self.forget(host, &connection);
        }
        self.connect(host, errand).await
    }

    /// A new connection; or one that somebody else has opened meanwhile for the same host, if it carries several requests.
    pub(super) async fn connect(&self, host: &Domain, errand: Errand) -> Result<Taken, ConnectError> {
        let Some(shared) = self.shared(host, errand) else {
            let (connection, place) = self.connector.connect(host, errand, false).await?;
            return Ok(Taken { connection, reused: false, place });
        };
        let connection = {
            let _opening = shared.opening.lock().await;
            match self.share(shared) {
                Some(connection) => connection,
                None => {
                    // It is for everybody: each waits for a place of its own afterwards.
                    let (connection, _) = self.connector.connect(host, Errand::Post, true).await?;
                    *shared.kept() = connection.share();
                    shared.is_http1.store(!connection.sender.carries_several(), Ordering::Relaxed);
                    connection
                }
            }
        };
        let place = self.connector.place(host, errand, connection.network).await?;
        Ok(Taken { connection, reused: false, place })
    }

    /// Closes every idle connection, and begins no further request over others.
    pub(super) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.values().for_each(|shared| *shared.kept() = None);
    }

    /// Takes back a connection whose last response was read to its end.
    pub(super) fn put(&self, host: &Domain, connection: Connection) {
        if connection.sender.is_closed() || connection.sender.carries_several() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, kept| {
            kept.retain(|i| self.is_fresh(i));
            !kept.is_empty()
        });
        let total: usize = idle.values().map(Vec::len).sum();
        let kept = idle.entry(host.clone()).or_default();
        if total < self.most && kept.len() < self.most_per_host {
            kept.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Over this connection nothing came any more: no further request is to begin on it.
    pub(super) fn forget(&self, host: &Domain, connection: &Connection) {
        if let Some(shared) = self.shared.get(host) {
            let mut kept = shared.kept();
            *kept = kept.take().filter(|kept| kept.opened != connection.opened);
        }
    }

    fn kept(&self, host: &Domain, errand: Errand) -> Option<Connection> {
        match self.shared(host, errand) {
            Some(shared) if !shared.is_http1.load(Ordering::Relaxed) => self.share(shared),
            _ => self.pop(host),
        }
    }

    fn shared(&self, host: &Domain, errand: Errand) -> Option<&Shared> {
        self.shared.get(host).filter(|_| errand == Errand::Fetch)
    }

    fn share(&self, shared: &Shared) -> Option<Connection> {
        let mut kept = shared.kept();
        *kept = kept.take().filter(|kept| !kept.sender.is_closed() && kept.opened.elapsed() < self.age);
        kept.as_ref()?.share()
    }

    fn pop(&self, host: &Domain) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(host)?;
        while let Some(last) = kept.pop() {
            if self.is_fresh(&last) {
                return Some(last.connection);
            }
        }
        idle.remove(host);
        None
    }

    fn is_fresh(&self, idle: &Idle) -> bool {
        let Idle { connection, since } = idle;
        !connection.sender.is_closed() && since.elapsed() < self.idle_time && connection.opened.elapsed() < self.age
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Option<Connection>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
