//! OpenSMTPD: receives for its own domains into Maildirs, and sends by MX or to a fixed next hop.
//!
//! Debian 12's build offers no TLS that works (under OpenSSL 3 it loses the private key), so it receives in clear; it sends over TLS.
//! It stalls by itself now and then: send few messages and wait long ([`PATIENCE`]).

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::host::{Host, Process};
use crate::maildir::Maildir;
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;

/// How long to wait for one message through OpenSMTPD.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What differs between one OpenSMTPD and another.
#[derive(Debug, Clone, Default)]
pub struct OpenSmtpdConfig {
    /// The host's name.
    pub name: String,
    /// Domains that it receives for.
    pub domains: Vec<String>,
    /// Local parts that exist in each of the domains.
    pub users: Vec<String>,
    /// URL (`smtp://host:port`) of what takes all other mail, instead of the MX.
    pub relay_host: Option<String>,
}

/// A running OpenSMTPD.
#[derive(Debug)]
pub struct OpenSmtpd {
    process: Process,
    host: Host,
}

impl OpenSmtpd {
    /// Starts OpenSMTPD on a host of its own, which becomes the MX of its domains; it listens when this returns.
    ///
    /// # Errors
    /// When the packages cannot be had or OpenSMTPD does not start.
    pub fn start(sandbox: &Sandbox, config: &OpenSmtpdConfig) -> Result<Self> {
        let host = sandbox.host(&config.name, &[PackageSet::OpenSmtpd])?;
        for domain in &config.domains {
            sandbox.publish_mx(domain, &config.name)?;
        }
        host.put("/etc/smtpd.conf", configuration(sandbox, &host, config).as_bytes())?;
        // What the package's installation would have done.
        host.run(&["chgrp", "opensmtpq", "/usr/sbin/smtpctl"])?;
        host.run(&["chmod", "2555", "/usr/sbin/smtpctl"])?;
        let mut process = host.spawn("smtpd", &["/usr/sbin/smtpd", "-d", "-v"])?;
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
        let mut argv = vec!["/usr/sbin/sendmail", "-i", "-f", from, "--"];
        argv.extend_from_slice(to);
        self.host.run_with_input(&argv, message).map(|_| ())
    }

    /// The Maildir of a local part.
    #[must_use]
    pub fn maildir(&self, user: &str) -> Maildir {
        Maildir::new(self.host.room().join("mail").join(user))
    }
}

fn configuration(sandbox: &Sandbox, host: &Host, config: &OpenSmtpdConfig) -> String {
    let (name, room) = (&config.name, host.room().display());
    let mut mailboxes = Vec::new();
    for domain in &config.domains {
        for user in &config.users {
            mailboxes.push(format!("\"{user}@{domain}\" = \"vmail\""));
        }
    }
    let mut text = format!(
        "ca {name} cert \"{ca}\"\n\
         table mailboxes {{ {mailboxes} }}\n\
         listen on socket\n\
         listen on {ipv4} port 25 hostname {name}\n\
         listen on {ipv6} port 25 hostname {name}\n\
         action \"deliver\" maildir \"{room}/mail/%{{rcpt.user}}\" virtual <mailboxes>\n\
         action \"send\" relay helo {name}",
        ca = sandbox.ca().certificate().display(),
        mailboxes = mailboxes.join(", "),
        ipv4 = host.ipv4(),
        ipv6 = host.ipv6(),
    );
    if let Some(url) = &config.relay_host {
        // Writing to a String cannot fail.
        let _ = write!(text, " host {url}");
    }
    text.push('\n');
    for domain in &config.domains {
        let _ = writeln!(text, "match from any for domain \"{domain}\" action \"deliver\"");
    }
    text.push_str("match from local for any action \"send\"\n");
    text
}
