//! The listener: who is let in, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use mail::Domain;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::connection::Service;
use super::{Limits, Replays, Repository};
use crate::peers::Peers;

/// Wait after a failed accept (out of descriptors): others must get a chance to close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a repository, its nonces shared with its other listeners, until `shutdown` is cancelled; then no connection is accepted any more, responses in progress
/// get [`Limits::drain_time`], and all that is left is closed. Dropping the future closes everything at once.
pub async fn serve<R: Repository>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    repository: Arc<R>,
    replays: Arc<Replays>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let peers = Peers::new(limits.connections_per_peer);
    let drain_time = limits.drain_time;
    let (service, acceptor) = (Arc::new(Service { repository, replays, limits }), TlsAcceptor::from(tls));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else { continue };
        let Some(seat) = stream.peer_addr().ok().and_then(|peer| peers.admit(peer.ip())) else {
            debug!("a repository connection is one too many for its peer");
            continue;
        };
        let (service, acceptor, shutdown) = (Arc::clone(&service), acceptor.clone(), shutdown.clone());
        connections.spawn(async move {
            service.run(&acceptor, stream, &seat, shutdown).await;
            drop((slot, seat));
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(drain_time, drained).await.is_err() {
        connections.shutdown().await;
    }
}

/// Serves one client over a stream that is open already, as [`serve`] does inside TLS: until it leaves, or until the response in progress
/// after `shutdown` was cancelled. `sni`: the host that TLS was asked for, if there was TLS.
pub async fn serve_stream<R: Repository>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    sni: Option<&Domain>,
    repository: Arc<R>,
    replays: Arc<Replays>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    Service { repository, replays, limits }.converse(stream, sni, None, shutdown).await;
}

/// The next connection, once there is room for it. Safe to be dropped and called again.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            warn!(%error, "the repository cannot accept connections");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
