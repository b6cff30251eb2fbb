//! OpenSMTPD as a mail server: its configuration and its start.
//!
//! Debian 12's build offers no TLS that works (under OpenSSL 3 it loses the private key), so it receives in clear; it sends over TLS.
//! It stalls by itself now and then: send few messages and wait long ([`PATIENCE`]).

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use super::mail_server::{MailServer, Site};
use crate::host::Host;
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;

/// How long to wait for one message through OpenSMTPD.
pub const PATIENCE: Duration = Duration::from_secs(300);

impl MailServer {
    /// Starts OpenSMTPD.
    ///
    /// # Errors
    /// When the packages cannot be had or OpenSMTPD does not start.
    pub fn opensmtpd(sandbox: &Sandbox, site: &Site) -> Result<Self> {
        let host = Self::prepare(sandbox, site, PackageSet::OpenSmtpd)?;
        host.put("/etc/smtpd.conf", configuration(sandbox, &host, site).as_bytes())?;
        // What the package's installation would have done.
        host.run(&["chgrp", "opensmtpq", "/usr/sbin/smtpctl"])?;
        host.run(&["chmod", "2555", "/usr/sbin/smtpctl"])?;
        Self::run(host, &["/usr/sbin/smtpd", "-d", "-v"], "mail-server.log")
    }
}

fn configuration(sandbox: &Sandbox, host: &Host, site: &Site) -> String {
    let (name, room) = (&site.name, host.room().display());
    let mut mailboxes = Vec::new();
    for domain in &site.domains {
        for user in &site.users {
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
    if let Some((host, port)) = &site.relay {
        // Writing to a String cannot fail.
        let _ = write!(text, " host smtp://{host}:{port}");
    }
    text.push('\n');
    for domain in &site.domains {
        let _ = writeln!(text, "match from any for domain \"{domain}\" action \"deliver\"");
    }
    text.push_str("match from local for any action \"send\"\n");
    text.push_str(&site.lines);
    text
}
