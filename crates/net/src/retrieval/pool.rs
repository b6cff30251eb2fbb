//! Idle connections, to be used again for the same host.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
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
    most: usize,
    most_per_host: usize,
    idle_time: Duration,
    age: Duration,
}

struct Idle {
    connection: Connection,
    since: Instant,
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
            most: config.idle_connections,
            most_per_host: config.idle_per_host,
            idle_time: config.idle_time,
            age: config.connection_age,
        }
    }

    /// An idle connection that still works, or a new one.
    pub(super) async fn take(&self, host: &Domain, errand: Errand) -> Result<Taken, ConnectError> {
        while let Some(mut connection) = self.pop(host) {
            let place = self.connector.place(host, errand, connection.network).await?;
            if matches!(timeout(SETTLE, connection.sender.ready()).await, Ok(Ok(()))) {
                return Ok(Taken { connection, reused: true, place });
            }
        }
        self.connect(host, errand).await
    }

    /// A new connection.
    pub(super) async fn connect(&self, host: &Domain, errand: Errand) -> Result<Taken, ConnectError> {
        let (connection, place) = self.connector.connect(host, errand).await?;
        Ok(Taken { connection, reused: false, place })
    }

    /// Closes every idle connection.
    pub(super) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes back a connection whose last response was read to its end.
    pub(super) fn put(&self, host: &Domain, connection: Connection) {
        if connection.sender.is_closed() {
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
