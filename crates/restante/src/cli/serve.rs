//! `restante serve`: runs the server until it is told to stop.
//!
//! SIGHUP reloads, SIGTERM and SIGINT stop gracefully; systemd is told of each.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Result;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::Server;
use crate::config::{Config, ListenerKind, Log};

/// Runs a server with this configuration file until a signal ends it.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(config: Config, json: bool) -> Result<()> {
    start_log(&config.log);
    let origin = config.origin.clone();
    let mut server = Server::start(config).await?;
    announce(server.listening(), json);
    tell_systemd(&[NotifyState::Ready]);
    run_until_told(&mut server, &origin).await?;
    info!("stopping: open transactions may end");
    tell_systemd(&[NotifyState::Stopping]);
    server.stop().await;
    info!("stopped");
    Ok(())
}

async fn run_until_told(server: &mut Server, origin: &Path) -> Result<()> {
    let (mut hangup, mut terminate) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        let hung_up = std::cell::Cell::new(false);
        let told = async {
            tokio::select! {
                _ = hangup.recv() => hung_up.set(true),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.run_until(told).await?;
        if !hung_up.get() {
            return Ok(());
        }
        if let Err(error) = server.reload().await {
            error!(config = %origin.display(), "not reloaded, everything stays as it was: {error:#}");
        }
    }
}

/// One line for each listener on standard output: port 0 has become a real one.
fn announce(listening: &[(ListenerKind, std::net::SocketAddr)], json: bool) {
    if json {
        let listeners =
            listening.iter().map(|(kind, address)| serde_json::json!({"kind": kind.as_str(), "address": address}));
        println!("{}", serde_json::json!({ "listening": listeners.collect::<Vec<_>>() }));
        return;
    }
    for (kind, address) in listening {
        println!("listening on {address} ({})", kind.as_str());
    }
}

fn start_log(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // A log that is already there (in tests) stays.
    let _ = if log.json { builder.json().try_init() } else { builder.try_init() };
}

fn tell_systemd(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(state);
}
