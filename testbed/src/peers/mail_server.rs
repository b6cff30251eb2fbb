//! A mail server of the world: what Postfix, Exim and OpenSMTPD have in common, from what they are told to what is asked of them.
//!
//! It leaves their configurations, and how each is started, to a file for each.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::host::{Host, Process};
use crate::maildir::Maildir;
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;
use crate::wait;

/// What a mail server is to be: it receives for its domains into Maildirs, and sends everything else by MX.
#[derive(Debug, Clone)]
pub struct Site {
    pub(super) name: String,
    pub(super) domains: Vec<String>,
    pub(super) users: Vec<String>,
    pub(super) relay: Option<(String, u16)>,
    pub(super) relays_for: Vec<String>,
    pub(super) has_stock_timers: bool,
    pub(super) lines: String,
    pub(super) sets: Vec<PackageSet>,
}

impl Site {
    /// A server on a host of this name, the MX of these domains, with the mailboxes of alice and bob in each.
    #[must_use]
    pub fn new(name: &str, domains: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            users: vec!["alice".to_owned(), "bob".to_owned()],
            relay: None,
            relays_for: Vec::new(),
            has_stock_timers: false,
            lines: String::new(),
            sets: Vec::new(),
        }
    }

    /// All mail for others goes to this host (a name or an IPv4 address) and port.
    #[must_use]
    pub fn relay(mut self, host: &str, port: u16) -> Self {
        self.relay = Some((host.to_owned(), port));
        self
    }

    /// A network that it relays for, besides itself (Postfix and Exim).
    #[must_use]
    pub fn relays_for(mut self, network: &str) -> Self {
        self.relays_for.push(network.to_owned());
        self
    }

    /// Leaves retry times as they come, for measuring (Postfix). Otherwise a deferred message is tried again within seconds.
    #[must_use]
    pub fn stock_timers(mut self) -> Self {
        self.has_stock_timers = true;
        self
    }

    /// Packages that its host has besides its own.
    #[must_use]
    pub fn packages(mut self, set: PackageSet) -> Self {
        self.sets.push(set);
        self
    }

    /// A line of the program's own: of main.cf, of Exim's main section, or of smtpd.conf. The last one counts.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push_str(line);
        self.lines.push('\n');
        self
    }
}

/// A running mail server on a host of its own.
#[derive(Debug)]
pub struct MailServer {
    process: Process,
    argv: Vec<String>,
    log: PathBuf,
    host: Host,
}

impl MailServer {
    /// A host for it, with a certificate, which is the MX of its domains.
    pub(super) fn prepare(sandbox: &Sandbox, site: &Site, packages: PackageSet) -> Result<Host> {
        let sets = [&[packages], site.sets.as_slice()].concat();
        let host = sandbox.host(&site.name, &sets)?;
        for domain in &site.domains {
            sandbox.publish_mx(domain, &site.name)?;
        }
        sandbox.certify(&host)?;
        Ok(host)
    }

    /// Starts it in the foreground; it listens when this returns. `log` is the file in the room's `log/` that it writes to.
    pub(super) fn run(host: Host, argv: &[&str], log: &str) -> Result<Self> {
        let process = spawn(&host, argv)?;
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        Ok(Self { process, argv, log: host.room().join("log").join(log), host })
    }

    /// Kills everything on its host (SIGKILL) and waits until nobody listens there any more.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        self.host.kill_all()?;
        self.process.kill()?;
        let is_gone = || self.host.connect((self.host.ipv4(), 25)).is_err().then_some(());
        wait::until("a mail server to be gone", wait::LONG, is_gone)
    }

    /// Starts it again after [`MailServer::kill`]; it listens when this returns.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run_again(&mut self) -> Result<()> {
        let argv: Vec<&str> = self.argv.iter().map(String::as_str).collect();
        self.process = spawn(&self.host, &argv)?;
        Ok(())
    }

    /// The machine it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Hands a message (LF line ends) to its `sendmail`.
    ///
    /// # Errors
    /// When it does not take the message.
    pub fn inject(&self, from: &str, to: &[&str], message: &[u8]) -> Result<()> {
        let argv = [&["/usr/sbin/sendmail", "-i", "-f", from, "--"], to].concat();
        self.host.run_with_input(&argv, message).map(|_| ())
    }

    /// The Maildir of a local part.
    #[must_use]
    pub fn maildir(&self, user: &str) -> Maildir {
        Maildir::new(self.host.room().join("mail").join(user))
    }

    /// Its log of mail.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits for a line of its log that contains `text`.
    ///
    /// # Errors
    /// When there is none by the deadline.
    pub fn wait_for_log(&self, text: &str, limit: Duration) -> Result<String> {
        wait::until(&format!("{text:?} in the log of {}", self.host.name()), limit, || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }
}

fn spawn(host: &Host, argv: &[&str]) -> Result<Process> {
    let mut process = host.spawn("mail-server", argv)?;
    host.wait_for_port(25, &mut process)?;
    Ok(process)
}
