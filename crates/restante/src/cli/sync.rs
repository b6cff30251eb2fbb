//! `restante sync`: everything that waits comes into the mailboxes here, everything written goes out, and the program ends.
//!
//! Where a server runs, it is told that the link is up. Where none does, one runs for as long as that takes, without
//! listeners. Either can be broken off at any moment: what has come is in the ledger, and the next time goes on from there.

use std::thread;

use tokio::sync::oneshot;

use super::args::{Global, SyncArgs, WaitArgs};
use super::client::Client;
use super::link;
use super::output::{Failure, Outcome, Output};
use crate::Server;
use crate::config::Config;

/// Syncs.
pub(super) fn run(args: &SyncArgs, global: &Global, output: Output) -> Outcome {
    let wait = WaitArgs { wait: true, limit: args.limit };
    with_server(global, Deliveries::Begin, |client| link::link_up(client, &wait, output))
}

/// What a server that runs only for this does with mail that waits to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deliveries {
    /// Delivers it.
    Begin,
    /// Leaves it where it is: what is being delivered cannot be had otherwise.
    Wait,
}

/// Does something with the server that runs here, or with one that runs for as long as that takes, without listeners.
///
/// # Errors
/// What `work` says, or that no server can be started.
pub(super) fn with_server<T: Send>(
    global: &Global,
    deliveries: Deliveries,
    work: impl FnOnce(&Client) -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    let client = Client::new(global)?;
    if client.is_there() {
        return work(&client);
    }
    let mut config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    // Nobody is to find a server here that is gone in a minute.
    config.listeners.clear();
    if deliveries == Deliveries::Wait {
        // No place for any of them.
        config.outgoing.max_connections = 0;
    }
    if let Some(socket) = &global.socket {
        config.admin_socket.clone_from(socket);
    }
    let runtime = super::threads()?;
    let mut server = runtime.block_on(Server::start(config))?;
    let (stop, told) = oneshot::channel::<()>();
    let running = runtime.spawn(async move {
        let ended = server.run_until(async { drop(told.await) }).await;
        server.stop().await;
        ended
    });
    // This thread is none of the runtime's, and may wait.
    let outcome = thread::scope(|scope| scope.spawn(|| work(&client)).join());
    let _ = stop.send(());
    runtime.block_on(running).map_err(|error| Failure::new(error.to_string()))??;
    outcome.unwrap_or_else(|_| Err(Failure::new("an internal error broke it off")))
}
