//! Restante on a host of a sandbox, configured by file as any other, and what `/proc` tells of it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use testbed::{Host, Process, processor, wait};

use crate::run;

/// A running `restante serve`.
pub(super) struct UnderTest {
    process: Process,
    host: Host,
}

/// The program as it was just built.
pub(super) fn program(name: &str) -> Result<String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| run::root().join("target"), PathBuf::from);
    let path = target.join("release").join(name);
    Ok(path.to_str().context("the build's folder has a name that is not UTF-8")?.to_owned())
}

impl UnderTest {
    /// Starts it on `host` with `configuration` below the fields that all have (hostname, data, CA); it listens on
    /// `port` when this returns.
    pub(super) fn start(host: Host, configuration: &str, port: u16) -> Result<Self> {
        let mut text = String::new();
        let room = host.room().display();
        writeln!(text, "hostname = \"{}\"\ndata_dir = \"{room}/data\"", host.name())?;
        text.push_str(configuration);
        fs::create_dir_all(host.room().join("data"))?;
        let file = host.room().join("restante.toml");
        fs::write(&file, text)?;
        let file = file.display().to_string();
        let mut process = host.spawn("restante", &[&program("restante")?, "--config", &file, "serve"])?;
        host.wait_for_port(port, &mut process)?;
        Ok(Self { process, host })
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Its configuration file.
    pub(super) fn config(&self) -> String {
        self.host.room().join("restante.toml").display().to_string()
    }

    /// Its log so far.
    pub(super) fn log(&self) -> String {
        self.process.log()
    }

    /// User and system time of the server itself.
    fn processor_time(&self) -> Result<Duration> {
        processor::time(self.process.id()).context("the server has ended")
    }

    /// The most memory that it has held at once, in MiB.
    pub(super) fn peak_mebibytes(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak in /proc")?;
        let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes / 1024.0)
    }
}

/// Processor time that servers have used so far, once all are quiet; without what else runs on their hosts.
pub(super) fn processor_times<const N: usize>(servers: [&UnderTest; N]) -> Result<[Duration; N]> {
    settled(|| servers.iter().map(|server| server.processor_time()).sum())?;
    let mut times = [Duration::ZERO; N];
    for (time, server) in times.iter_mut().zip(servers) {
        *time = server.processor_time()?;
    }
    Ok(times)
}

/// Processor time that a host spends while `work` runs, and until it is quiet again.
pub(super) fn processor_time<T>(host: &Host, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let settled = || settled(|| host.cpu_time());
    let before = settled()?;
    let done = work()?;
    Ok((done, settled()?.saturating_sub(before)))
}

/// What a quiet server may use within [`LOOK`]: clocks tick.
const QUIET: Duration = Duration::from_millis(1);

const LOOK: Duration = Duration::from_millis(250);

/// What `read` tells once hardly anything has been added for a while.
fn settled(read: impl Fn() -> Result<Duration>) -> Result<Duration> {
    let mut last = read()?;
    wait::until("a server to be quiet", wait::LONG, || {
        std::thread::sleep(LOOK);
        let now = read();
        match now {
            Ok(now) if now > last + QUIET => {
                last = now;
                None
            }
            Ok(now) => Some(Ok(now)),
            Err(error) => Some(Err(error)),
        }
    })?
}

/// What all processes of a host, those that have ended included, have had written to disk, in octets.
pub(super) fn disk_writes(host: &Host) -> Result<u64> {
    let written = |process: u32| -> Option<u64> {
        let io = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
        io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
    };
    Ok(host.processes()?.into_iter().filter_map(written).sum())
}

/// Octets that a host has received from and sent to the network.
pub(super) fn wire_octets(host: &Host) -> Result<u64> {
    let table = host.run(&["cat", "/proc/net/dev"])?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("eth0:")).context("no eth0 on a host")?;
    let column = |number: usize| line.split_whitespace().nth(number).and_then(|field| field.parse::<u64>().ok());
    Ok(column(0).context("no count received")? + column(8).context("no count sent")?)
}
