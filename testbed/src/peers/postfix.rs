//! Postfix: receives for its own domains into Maildirs, and sends by MX or to a fixed next hop.
//!
//! It leaves to the test what is sent. Also home of smtp-source and smtp-sink, run with [`Host::command`].

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::host::{Host, Process, VMAIL};
use crate::maildir::Maildir;
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;
use crate::wait;

/// The services that any Postfix has; none is confined to a folder, for the peers have machines of their own.
const MASTER: &str = "\
smtp       inet  n - n - - smtpd
pickup     unix  n - n 60 1 pickup
cleanup    unix  n - n - 0 cleanup
qmgr       unix  n - n 300 1 qmgr
tlsmgr     unix  - - n 1000? 1 tlsmgr
rewrite    unix  - - n - - trivial-rewrite
bounce     unix  - - n - 0 bounce
defer      unix  - - n - 0 bounce
trace      unix  - - n - 0 bounce
verify     unix  - - n - 1 verify
flush      unix  n - n 1000? 0 flush
proxymap   unix  - - n - - proxymap
proxywrite unix  - - n - 1 proxymap
smtp       unix  - - n - - smtp
relay      unix  - - n - - smtp
showq      unix  n - n - - showq
error      unix  - - n - - error
retry      unix  - - n - - error
discard    unix  - - n - - discard
local      unix  - n n - - local
virtual    unix  - n n - - virtual
lmtp       unix  - - n - - lmtp
anvil      unix  - - n - 1 anvil
scache     unix  - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
";

/// What differs between one Postfix and another.
#[derive(Debug, Clone, Default)]
pub struct PostfixConfig {
    /// The host's name.
    pub name: String,
    /// Domains that it receives for.
    pub domains: Vec<String>,
    /// Local parts that exist in each of the domains.
    pub users: Vec<String>,
    /// `[host]:port` that takes all other mail, instead of the MX.
    pub relay_host: Option<String>,
    /// Networks that it relays for, besides itself.
    pub relays_for: Vec<String>,
    /// Leaves retry times as they come, for measuring. Otherwise a deferred message is tried again within seconds.
    pub stock_timers: bool,
    /// Further parameters of main.cf, the last word.
    pub parameters: Vec<(String, String)>,
}

/// A running Postfix.
#[derive(Debug)]
pub struct Postfix {
    process: Process,
    host: Host,
}

impl Postfix {
    /// Starts Postfix on a host of its own, which becomes the MX of its domains; it listens when this returns.
    ///
    /// # Errors
    /// When the packages cannot be had or Postfix does not start.
    pub fn start(sandbox: &Sandbox, config: &PostfixConfig) -> Result<Self> {
        let host = sandbox.host(&config.name, &[PackageSet::Postfix])?;
        for domain in &config.domains {
            sandbox.publish_mx(domain, &config.name)?;
        }
        sandbox.certify(&host)?;
        write_users(&host, config)?;
        host.put("/etc/postfix/master.cf", MASTER.as_bytes())?;
        host.put("/etc/postfix/main.cf", main_cf(sandbox, &host, config).as_bytes())?;
        // What the package's installation would have done.
        let programs = ["/usr/sbin/postdrop", "/usr/sbin/postqueue"];
        host.run(&["chgrp", "postdrop", programs[0], programs[1]])?;
        host.run(&["chmod", "2555", programs[0], programs[1]])?;
        host.run(&["chown", "postfix:", "/var/lib/postfix"])?;
        host.put("/etc/postfix/dynamicmaps.cf", b"")?;
        let mut process = host.spawn("postfix", &["postfix", "start-fg"])?;
        host.wait_for_port(25, &mut process)?;
        Ok(Self { process, host })
    }

    /// The machine it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The process that has started all others.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Hands a message (LF line ends) to its `sendmail`.
    ///
    /// # Errors
    /// When it does not take the message.
    pub fn inject(&self, from: &str, to: &[&str], message: &[u8]) -> Result<()> {
        let mut argv = vec!["sendmail", "-i", "-f", from, "--"];
        argv.extend_from_slice(to);
        self.host.run_with_input(&argv, message).map(|_| ())
    }

    /// The Maildir of a local part.
    #[must_use]
    pub fn maildir(&self, user: &str) -> Maildir {
        Maildir::new(self.host.room().join("mail").join(user))
    }

    /// The log of all its services.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(log_file(&self.host)).unwrap_or_default()
    }

    /// Waits until its queue is empty.
    ///
    /// # Errors
    /// When it is not by the deadline.
    pub fn wait_for_empty_queue(&self) -> Result<()> {
        wait::until("Postfix's queue to be empty", wait::LONG, || {
            let queue = self.host.run(&["postqueue", "-p"]).ok()?;
            queue.contains("queue is empty").then_some(())
        })
    }
}

fn log_file(host: &Host) -> PathBuf {
    host.room().join("log/mail.log")
}

fn write_users(host: &Host, config: &PostfixConfig) -> Result<()> {
    let mut map = String::new();
    for domain in &config.domains {
        for user in &config.users {
            // Writing to a String cannot fail.
            let _ = writeln!(map, "{user}@{domain} {user}/");
        }
    }
    host.put("/etc/postfix/mailboxes", map.as_bytes())
}

fn main_cf(sandbox: &Sandbox, host: &Host, config: &PostfixConfig) -> String {
    let room = host.room().display();
    let mut text = format!(
        "compatibility_level = 3.6\n\
         myhostname = {name}\n\
         mydestination =\n\
         alias_maps =\n\
         alias_database =\n\
         inet_protocols = all\n\
         mynetworks = 127.0.0.0/8, [::1]/128, {own}/32, {relays_for}\n\
         relayhost = {relay_host}\n\
         virtual_mailbox_domains = {domains}\n\
         virtual_mailbox_base = {room}/mail\n\
         virtual_mailbox_maps = texthash:/etc/postfix/mailboxes\n\
         virtual_uid_maps = static:{VMAIL}\n\
         virtual_gid_maps = static:{VMAIL}\n\
         maillog_file = {log}\n\
         maillog_file_prefixes = /var, /dev, {room}\n\
         smtpd_tls_security_level = may\n\
         smtpd_tls_cert_file = {room}/tls/cert.pem\n\
         smtpd_tls_key_file = {room}/tls/key.pem\n\
         smtp_tls_security_level = may\n\
         smtp_tls_CAfile = {ca}\n\
         smtp_tls_loglevel = 1\n",
        name = config.name,
        own = host.ipv4(),
        relays_for = config.relays_for.join(", "),
        relay_host = config.relay_host.as_deref().unwrap_or_default(),
        domains = config.domains.join(", "),
        log = log_file(host).display(),
        ca = sandbox.ca().certificate().display(),
    );
    if !config.stock_timers {
        text.push_str("queue_run_delay = 1s\nminimal_backoff_time = 1s\nmaximal_backoff_time = 2s\n");
    }
    for (parameter, value) in &config.parameters {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{parameter} = {value}");
    }
    text
}
