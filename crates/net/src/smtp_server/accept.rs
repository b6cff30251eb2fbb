//! Accepting connections, counting them, and stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use smtp::reply::Reply;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Shared};
use super::{Handler, Settings};
use crate::peers::{Peers, Seat};

/// Wait after a failed accept (out of descriptors): others must get a chance to close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest that a client which is turned away is spoken to.
const FAREWELL: Duration = Duration::from_secs(1);
/// Most clients at a time that are told why they are turned away; others are just closed.
const FAREWELLS: usize = 64;

/// Serves SMTP until `shutdown` is cancelled. Then nobody is accepted any more, transactions on their way get
/// [`Limits::drain`](super::Limits::drain), clients that wait hear 421, and all that is left is closed. Dropping
/// the future closes everything at once.
///
/// New settings hold for connections that are made from then on; how many there may be was settled at the beginning.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    mut settings: watch::Receiver<Settings>,
    handler: Arc<H>,
    shutdown: CancellationToken,
) {
    let in_force = settings.borrow_and_update().clone();
    let drain = in_force.limits.drain;
    let mut door = Door::new(&in_force);
    let mut shared = share(in_force, &handler, &shutdown);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if settings.has_changed().unwrap_or(false) {
                    shared = share(settings.borrow_and_update().clone(), &handler, &shutdown);
                }
                if let Some((stream, seat)) = door.admit(stream, peer) {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        connection::run(stream, peer, &shared).await;
                        drop(seat);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(drain, drained).await.is_err() {
        tracing::warn!(left = connections.len(), "transactions are cut off by the shutdown");
        connections.shutdown().await;
    }
}

fn share<H>(mut settings: Settings, handler: &Arc<H>, shutdown: &CancellationToken) -> Arc<Shared<H>> {
    settings.smtp.starttls &= settings.tls.is_some() && !settings.implicit_tls;
    Arc::new(Shared::new(settings, Arc::clone(handler), shutdown.clone()))
}

/// Keeps the numbers of connections.
struct Door {
    slots: Arc<Semaphore>,
    peers: Arc<Peers>,
    farewells: Arc<Semaphore>,
    in_clear: bool,
}

impl Door {
    fn new(settings: &Settings) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(settings.limits.connections)),
            peers: Peers::new(settings.limits.connections_per_peer),
            farewells: Arc::new(Semaphore::new(FAREWELLS)),
            in_clear: !settings.implicit_tls,
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) -> Option<(TcpStream, (OwnedSemaphorePermit, Seat))> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok();
        let seat = self.peers.admit(peer.ip());
        match (slot, seat) {
            (Some(slot), Some(seat)) => Some((stream, (slot, seat))),
            (None, _) => {
                tracing::info!(%peer, "turned away: too many connections");
                self.turn_away(stream, "too many connections, try again later");
                None
            }
            (_, None) => {
                tracing::info!(%peer, "turned away: too many connections from this address");
                self.turn_away(stream, "too many connections from your address, try again later");
                None
            }
        }
    }

    fn turn_away(&mut self, mut stream: TcpStream, why: &'static str) {
        let Ok(permit) = Arc::clone(&self.farewells).try_acquire_owned() else { return };
        if !self.in_clear {
            return;
        }
        tokio::spawn(async move {
            let mut line = Vec::new();
            Reply::new(421, mail::EnhancedStatus::temporary(7, 0), why).write_to(&mut line);
            // Whether the client hears it is its own affair.
            let _ = timeout(FAREWELL, stream.write_all(&line)).await;
            drop(permit);
        });
    }
}
