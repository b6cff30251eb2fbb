//! Dovecot: takes mail by LMTP and lets it be read by IMAP.
//!
//! It leaves reading to [`super::clients::Imap`], a real client, or to [`Maildir`], past the server.

use std::fmt::Write as _;

use anyhow::Result;

use super::clients::Imap;
use crate::host::{Host, Process, VMAIL};
use crate::maildir::Maildir;
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;

/// Where it listens for LMTP.
pub const LMTP_PORT: u16 = 24;

const IMAP_PORT: u16 = 143;

/// A running Dovecot.
#[derive(Debug)]
pub struct Dovecot {
    _process: Process,
    host: Host,
}

impl Dovecot {
    /// Starts Dovecot on a host of its own with `users` (local part, password); it listens for LMTP (port 24) and IMAP when
    /// this returns.
    ///
    /// # Errors
    /// When the packages cannot be had or Dovecot does not start.
    pub fn start(sandbox: &Sandbox, name: &str, users: &[(&str, &str)]) -> Result<Self> {
        let host = sandbox.host(name, &[PackageSet::Dovecot])?;
        sandbox.certify(&host)?;
        let process = Self::serve(&host, users, "")?;
        Ok(Self { _process: process, host })
    }

    /// Starts Dovecot beside what else runs on a host, which has [`PackageSet::Dovecot`] and a certificate; `lines` of its configuration come
    /// after ours, and overrule them.
    ///
    /// # Errors
    /// When Dovecot does not start.
    pub fn serve(host: &Host, users: &[(&str, &str)], lines: &str) -> Result<Process> {
        let mut passwd = String::new();
        for (user, password) in users {
            // Writing to a String cannot fail.
            let _ = writeln!(passwd, "{user}:{{PLAIN}}{password}::::::");
        }
        host.put("/etc/dovecot/users", passwd.as_bytes())?;
        let configuration = format!("{}{lines}\n", configuration(host));
        host.put("/etc/dovecot/dovecot.conf", configuration.as_bytes())?;
        let mut process = host.spawn("dovecot", &["/usr/sbin/dovecot", "-F"])?;
        host.wait_for_port(LMTP_PORT, &mut process)?;
        host.wait_for_port(IMAP_PORT, &mut process)?;
        Ok(process)
    }

    /// The machine it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// A user's mailbox, for a client on any host of the sandbox.
    #[must_use]
    pub fn imap(&self, user: &str, password: &str) -> Imap {
        Imap { url: format!("imap://{}", self.host.name()), user: user.to_owned(), password: password.to_owned() }
    }

    /// A user's Maildir on the disk.
    #[must_use]
    pub fn maildir(&self, user: &str) -> Maildir {
        Maildir::new(self.host.room().join("mail").join(user))
    }
}

fn configuration(host: &Host) -> String {
    let room = host.room().display();
    let name = host.name();
    format!(
        "protocols = imap lmtp\n\
         hostname = {name}\n\
         postmaster_address = postmaster@{name}\n\
         log_path = {room}/log/mail.log\n\
         ssl = yes\n\
         ssl_cert = <{room}/tls/cert.pem\n\
         ssl_key = <{room}/tls/key.pem\n\
         disable_plaintext_auth = no\n\
         auth_username_format = %Ln\n\
         first_valid_uid = 100\n\
         mail_location = maildir:{room}/mail/%n\n\
         passdb {{\n  driver = passwd-file\n  args = /etc/dovecot/users\n}}\n\
         userdb {{\n  driver = passwd-file\n  args = /etc/dovecot/users\n  \
         default_fields = uid={VMAIL} gid={VMAIL} home={room}/mail/%n\n}}\n\
         service lmtp {{\n  inet_listener lmtp {{\n    port = {LMTP_PORT}\n  }}\n}}\n\
         service imap-login {{\n  inet_listener imap {{\n    port = {IMAP_PORT}\n  }}\n}}\n"
    )
}
