//! `restante serve`: runs the server until it is told to stop.
//!
//! SIGHUP reloads, SIGTERM and SIGINT stop gracefully; systemd is told of each.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::Result;
use sd_notify::NotifyState;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::Server;
use crate::config::{Config, ListenerKind, Log};
use crate::confinement::Confinement;

/// Runs a server with this configuration file until a signal ends it.
///
/// # Errors
/// Whatever keeps it from starting.
pub(crate) async fn run(config: Config, confined: Confinement, json: bool) -> Result<()> {
    start_log(&config.log);
    tell_of(confined);
    if is_root() {
        warn!("this runs as root, and keeps all rights of root: give it a user of its own, as contrib/systemd does");
    }
    for gap in super::check::gaps(&config) {
        warn!("{gap}");
    }
    let origin = config.origin.clone();
    // Before anybody can know that it runs: until then the default of each would end it at once.
    let mut signals = Signals::listen()?;
    let mut server = Server::start(config).await?;
    announce(server.listening(), json);
    tell_systemd(&[NotifyState::Ready]);
    run_until_told(&mut server, &mut signals, &origin).await?;
    info!("stopping: open transactions may end");
    tell_systemd(&[NotifyState::Stopping]);
    server.stop().await;
    info!("stopped");
    Ok(())
}

/// One line, so that an operator knows.
fn tell_of(confined: Confinement) {
    match confined {
        Confinement::Full => info!("only the files that the configuration names can be opened (Landlock)"),
        Confinement::Partial => {
            info!("only the files that the configuration names can be opened, as far as this kernel's Landlock goes")
        }
        Confinement::Unsupported => {
            warn!("this kernel has no Landlock: every file that this user may open can be opened")
        }
        Confinement::Off => info!("Landlock is switched off"),
    }
}

/// Does the kernel take this process for root? It says so of whoever made a pair of sockets.
fn is_root() -> bool {
    let pair = UnixStream::pair().and_then(|(one, _other)| one.peer_cred());
    pair.is_ok_and(|user| user.uid() == 0)
}

/// What the server is told by.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

async fn run_until_told(server: &mut Server, signals: &mut Signals, origin: &Path) -> Result<()> {
    loop {
        let hung_up = std::cell::Cell::new(false);
        let told = async {
            tokio::select! {
                _ = signals.hangup.recv() => hung_up.set(true),
                _ = signals.terminate.recv() => {}
                _ = signals.interrupt.recv() => {}
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

/// One line for each listener on standard output: port 0 has become a real one. Whoever started the server may have read
/// enough of it.
fn announce(listening: &[(ListenerKind, std::net::SocketAddr)], json: bool) {
    if json {
        let listeners =
            listening.iter().map(|(kind, address)| serde_json::json!({"kind": kind.as_str(), "address": address}));
        let _ = writeln!(io::stdout(), "{}", serde_json::json!({ "listening": listeners.collect::<Vec<_>>() }));
        return;
    }
    for (kind, address) in listening {
        let _ = writeln!(io::stdout(), "listening on {address} ({})", kind.as_str());
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
