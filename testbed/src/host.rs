//! One machine of a sandbox: namespaces (mount, process, network, name) with packages laid over the system folders.
//!
//! Process 1 of a host lives as long as the [`Host`] holds its standard input open, so that nothing outlives a test,
//! even one that is killed. `/usr`, `/etc` and `/var` can be written without a trace; `/var/spool` and
//! [`Host::room`] are on the real disk. All other paths are the machine's own.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::{processor, wait};

/// Where programs are looked for on a host.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The user and group that own delivered mail on every host.
pub(crate) const VMAIL: u32 = 2008;

/// The user and group that Exim runs as.
pub(crate) const EXIM: u32 = 2003;

/// The same on every host, whatever the machine has: the users that the peers' packages would have made.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    daemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
    mail:x:8:8::/var/mail:/usr/sbin/nologin\n\
    www-data:x:33:33::/var/www:/usr/sbin/nologin\n\
    postfix:x:2001:2001::/var/spool/postfix:/usr/sbin/nologin\n\
    Debian-exim:x:2003:2003::/var/spool/exim4:/usr/sbin/nologin\n\
    opensmtpd:x:2004:2004::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n\
    opensmtpq:x:2005:2005::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n\
    dovecot:x:2006:2006::/usr/lib/dovecot:/usr/sbin/nologin\n\
    dovenull:x:2007:2007::/nonexistent:/usr/sbin/nologin\n\
    knot:x:2009:2009::/var/lib/knot:/usr/sbin/nologin\n\
    unbound:x:2010:2010::/var/lib/unbound:/usr/sbin/nologin\n\
    _rspamd:x:2011:2011::/var/lib/rspamd:/usr/sbin/nologin\n\
    nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n";

const GROUP: &str = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nmail:x:8:\nwww-data:x:33:\npostfix:x:2001:\n\
    postdrop:x:2002:\nDebian-exim:x:2003:\nopensmtpd:x:2004:\nopensmtpq:x:2005:\ndovecot:x:2006:\ndovenull:x:2007:\n\
    vmail:x:2008:\nknot:x:2009:\nunbound:x:2010:\n_rspamd:x:2011:\nnogroup:x:65534:\n";

/// What a host is made from.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// Fully qualified name.
    pub(crate) name: &'a str,
    /// The sandbox's folder; the host's room is made in it and keeps it alive.
    pub(crate) sandbox: Arc<TempDir>,
    /// Folders of unpacked packages, the first on top.
    pub(crate) layers: Vec<PathBuf>,
    /// Last part of the host's addresses.
    pub(crate) number: u8,
    /// Process 1 of the hub; `None` for the hub itself.
    pub(crate) hub: Option<u32>,
}

/// A running host.
#[derive(Debug)]
pub struct Host {
    name: String,
    room: PathBuf,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    holder: Child,
    lifeline: Option<ChildStdin>,
    init: u32,
    /// What keeps the host alive: process 1 and what it waits for.
    keepers: Vec<u32>,
    _sandbox: Arc<TempDir>,
}

pub(crate) fn ipv4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

pub(crate) fn ipv6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())
}

impl Host {
    pub(crate) fn start(plan: Plan<'_>) -> Result<Self> {
        let room = plan.sandbox.path().join(plan.name);
        ensure!(!room.exists(), "the sandbox already has a host {}", plan.name);
        write_room(&room, plan.name)?;
        let (ipv4, ipv6) = (ipv4(plan.number), ipv6(plan.number));
        let layers: Vec<&str> = plan
            .layers
            .iter()
            .map(|layer| layer.to_str().context("a folder's name is not UTF-8"))
            .collect::<Result<_>>()?;
        let mut holder = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--uts", "--ipc"])
            .args(["--fork", "--kill-child", "sh", "-c", include_str!("host.sh")])
            .env_clear()
            .env("PATH", PATH)
            .env("ROOM", &room)
            .env("LAYERS", layers.join(" "))
            .env("NAME", plan.name)
            .env("IPV4", ipv4.to_string())
            .env("IPV6", ipv6.to_string())
            .env("LINK", format!("link{}", plan.number))
            .env("HUB", plan.hub.map_or_else(String::new, |hub| hub.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(room.join("log/host.log"))?)
            .spawn()
            .context("unshare (of util-linux)")?;
        let lifeline = holder.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let mut host = Self {
            name: plan.name.to_owned(),
            init: line.trim().parse().unwrap_or(0),
            room,
            ipv4,
            ipv6,
            holder,
            lifeline,
            keepers: Vec::new(),
            _sandbox: plan.sandbox,
        };
        ensure!(
            host.init != 0,
            "the host {} could not be set up: {}",
            host.name,
            fs::read_to_string(host.room.join("log/host.log"))?
        );
        host.keepers = host.processes()?;
        Ok(host)
    }

    /// The fully qualified name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's folder on the real disk; the same path inside and outside. Process logs are in `log/` in it.
    #[must_use]
    pub fn room(&self) -> &Path {
        &self.room
    }

    /// The IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }

    /// The IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        self.ipv6
    }

    /// Process 1 of the host, as the outside counts.
    pub(crate) fn init(&self) -> u32 {
        self.init
    }

    /// A command that will run on this host, as root, with an environment that has only `PATH` and `LC_ALL`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg("--target")
            .arg(self.init.to_string())
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--"])
            .arg(program)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command on this host and returns its standard output.
    ///
    /// # Errors
    /// When it fails; the message has what it wrote.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        self.run_with_input(argv, b"")
    }

    /// As [`Host::run`], with `input` on standard input.
    ///
    /// # Errors
    /// When it fails; the message has what it wrote.
    pub fn run_with_input(&self, argv: &[&str], input: &[u8]) -> Result<String> {
        let output = self.output(argv, input)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("on {}: {argv:?}: {}\n{text}{}", self.name, output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }

    /// Runs a command on this host with `input` on standard input, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be run at all.
    pub fn output(&self, argv: &[&str], input: &[u8]) -> Result<Output> {
        let (program, arguments) = argv.split_first().context("an empty command")?;
        let mut command = self.command(program);
        command.args(arguments);
        feed(command, input)
    }

    /// Writes a file as the host sees it (`/etc/…` and the like, that only the host has).
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, path: &str, content: &[u8]) -> Result<()> {
        let script = "mkdir -p \"${0%/*}\" && cat > \"$0\"";
        self.run_with_input(&["sh", "-c", script, path], content).map(|_| ())
    }

    /// Starts a long-running process; what it writes goes to `log/<name>.log` in the room.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, argv: &[&str]) -> Result<Process> {
        let (program, arguments) = argv.split_first().context("an empty command")?;
        let mut command = self.command(program);
        command.args(arguments);
        self.spawn_command(name, command)
    }

    /// As [`Host::spawn`], for a command made with [`Host::command`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_command(&self, name: &str, mut command: Command) -> Result<Process> {
        let log = self.room.join("log").join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let mut child =
            command.stdout(file.try_clone()?).stderr(file).spawn().with_context(|| format!("{command:?}"))?;
        // `nsenter` forks to enter the process namespace; its one child becomes the program.
        let list = format!("/proc/{0}/task/{0}/children", child.id());
        let pid = wait::until("a process on a host", wait::LONG, || {
            let found = fs::read_to_string(&list).ok()?.trim().parse().ok();
            match (found, child.try_wait()) {
                (Some(pid), _) => Some(Ok(pid)),
                (None, Ok(Some(status))) => Some(Err(anyhow!("{name} ended at once: {status}"))),
                (None, _) => None,
            }
        })?
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Process { name: name.to_owned(), child, pid, log })
    }

    /// Opens a connection from this host; the test itself speaks over it.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(&self, to: impl Into<SocketAddr>) -> Result<TcpStream> {
        let to = to.into();
        self.inside(move || TcpStream::connect(to))?.with_context(|| format!("from {} to {to}", self.name))
    }

    /// Listens on this host; the test itself is the server.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        let address = SocketAddr::from((self.ipv4, port));
        Ok(self.inside(move || TcpListener::bind(address))??)
    }

    /// Waits until something listens on `port` of this host.
    ///
    /// # Errors
    /// When `process` ends before, or the deadline passes.
    pub fn wait_for_port(&self, port: u16, process: &mut Process) -> Result<()> {
        let what = format!("{} to listen on port {port} of {}", process.name, self.name);
        wait::until(&what, wait::LONG, || {
            if !process.is_alive() {
                return Some(Err(anyhow!("{} ended:\n{}", process.name, self.logs())));
            }
            self.connect((self.ipv4, port)).ok().map(|_| Ok(()))
        })
        .with_context(|| self.logs())?
    }

    /// Runs `work` in a thread that is in this host's network; sockets it makes stay there.
    ///
    /// # Errors
    /// When the network cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.init))?;
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                use std::os::fd::AsFd;
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            });
            thread.join().map_err(|_| anyhow!("the work panicked"))?
        })
    }

    /// Sends SIGKILL to everything that was started on the host, as when a machine loses power. It does not wait for their end.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn kill_all(&self) -> Result<()> {
        for id in self.processes()? {
            if !self.keepers.contains(&id)
                && let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw)
            {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        Ok(())
    }

    /// All processes of the host, as the outside counts.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = space(&self.init.to_string());
        ensure!(own.is_some(), "the host {} has ended", self.name);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if let Ok(pid) = name.parse()
                && space(&name) == own
            {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Processor time of everything that ever ran on the host, as exactly as [`processor::time`] tells it.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn cpu_time(&self) -> Result<Duration> {
        Ok(self.processes()?.into_iter().filter_map(processor::time).sum())
    }

    /// What all processes of the host hold in memory (proportional set size), in octets.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn resident_octets(&self) -> Result<u64> {
        Ok(self.processes()?.into_iter().filter_map(resident_octets).sum())
    }

    /// The ends of all logs in the room, for a failure's report.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut report = String::new();
        let Ok(entries) = fs::read_dir(self.room.join("log")) else {
            return report;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(60)..].join("\n");
            // Writing to a String cannot fail.
            let _ = writeln!(report, "--- {}\n{end}", path.display());
        }
        report
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.logs());
        }
        drop(self.lifeline.take());
        let holder = &mut self.holder;
        let ended = wait::until("a host to end", Duration::from_secs(10), || holder.try_wait().ok().flatten());
        if ended.is_err() {
            // `--kill-child` takes process 1 along, and that the whole host.
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

/// A process on a host; killed when dropped (what it started lives on until the host ends).
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// The process id, as the outside counts.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal; nothing happens if it has ended.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.is_alive()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            match kill_process(pid, signal) {
                // It has ended; whoever waits for it is only not told yet.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it has not by the deadline.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait::until(&what, limit, || self.child.try_wait().ok().flatten())
    }

    /// Kills it (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(wait::LONG).map(|_| ())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its host ends it if this fails.
        let _ = self.signal(Signal::KILL);
        let _ = self.wait(Duration::from_secs(10));
    }
}

/// Runs a command with `input` on standard input, whatever its exit code.
pub(crate) fn feed(mut command: Command, input: &[u8]) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                // A command need not read its input; its exit code says how it went.
                let _ = stdin.write_all(input);
            }
        });
        child.wait_with_output()
    });
    Ok(output?)
}

/// Makes a host's folders and the files that go over its `/etc`.
fn write_room(room: &Path, name: &str) -> Result<()> {
    for folder in ["etc", "log", "mail", "spool", "tls", "volatile"] {
        fs::create_dir_all(room.join(folder))?;
    }
    std::os::unix::fs::chown(room.join("mail"), Some(VMAIL), Some(VMAIL))?;
    let etc = room.join("etc");
    // OpenSMTPD looks for forwarding in the home of whom it delivers as.
    let vmail = format!("vmail:x:{VMAIL}:{VMAIL}::{}:/usr/sbin/nologin\n", room.join("mail").display());
    fs::write(etc.join("passwd"), format!("{PASSWD}{vmail}"))?;
    fs::write(etc.join("group"), GROUP)?;
    fs::write(etc.join("hostname"), format!("{name}\n"))?;
    fs::write(etc.join("mailname"), format!("{name}\n"))?;
    fs::write(etc.join("hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    fs::write(etc.join("resolv.conf"), format!("nameserver {}\n", ipv4(1)))?;
    fs::write(
        etc.join("nsswitch.conf"),
        "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    )?;
    Ok(())
}

fn resident_octets(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
