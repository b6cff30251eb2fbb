//! Postfix as a mail server: its configuration and its start.
//!
//! It leaves to the test what is sent. Also home of smtp-source and smtp-sink, run with [`Host::command`].

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::mail_server::{MailServer, Site};
use crate::host::{Host, VMAIL};
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;

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

/// The log of all its services, in the room's `log/`.
const LOG: &str = "mail.log";

impl MailServer {
    /// Starts Postfix.
    ///
    /// # Errors
    /// When the packages cannot be had or Postfix does not start.
    pub fn postfix(sandbox: &Sandbox, site: &Site) -> Result<Self> {
        let host = Self::prepare(sandbox, site, PackageSet::Postfix)?;
        host.put("/etc/postfix/mailboxes", mailboxes(site).as_bytes())?;
        host.put("/etc/postfix/master.cf", MASTER.as_bytes())?;
        host.put("/etc/postfix/main.cf", main_cf(sandbox, &host, site).as_bytes())?;
        host.put("/etc/postfix/dynamicmaps.cf", b"")?;
        // What the package's installation would have done.
        let programs = ["/usr/sbin/postdrop", "/usr/sbin/postqueue"];
        host.run(&["chgrp", "postdrop", programs[0], programs[1]])?;
        host.run(&["chmod", "2555", programs[0], programs[1]])?;
        host.run(&["chown", "postfix:", "/var/lib/postfix"])?;
        Self::run(host, &["postfix", "start-fg"], LOG)
    }
}

fn mailboxes(site: &Site) -> String {
    let mut map = String::new();
    for domain in &site.domains {
        for user in &site.users {
            // Writing to a String cannot fail.
            let _ = writeln!(map, "{user}@{domain} {user}/");
        }
    }
    map
}

fn main_cf(sandbox: &Sandbox, host: &Host, site: &Site) -> String {
    let room = host.room().display();
    let relay = site.relay.as_ref().map(|(host, port)| format!("[{host}]:{port}")).unwrap_or_default();
    let mut text = format!(
        "compatibility_level = 3.6\n\
         myhostname = {name}\n\
         mydestination =\n\
         alias_maps =\n\
         alias_database =\n\
         inet_protocols = all\n\
         mynetworks = 127.0.0.0/8, [::1]/128, {own}/32, {relays_for}\n\
         relayhost = {relay}\n\
         virtual_mailbox_domains = {domains}\n\
         virtual_mailbox_base = {room}/mail\n\
         virtual_mailbox_maps = texthash:/etc/postfix/mailboxes\n\
         virtual_uid_maps = static:{VMAIL}\n\
         virtual_gid_maps = static:{VMAIL}\n\
         maillog_file = {room}/log/{LOG}\n\
         maillog_file_prefixes = /var, /dev, {room}\n\
         smtpd_tls_security_level = may\n\
         smtpd_tls_cert_file = {room}/tls/cert.pem\n\
         smtpd_tls_key_file = {room}/tls/key.pem\n\
         smtp_tls_security_level = may\n\
         smtp_tls_CAfile = {ca}\n\
         smtp_tls_loglevel = 1\n",
        name = site.name,
        own = host.ipv4(),
        relays_for = site.relays_for.join(", "),
        domains = site.domains.join(", "),
        ca = sandbox.ca().certificate().display(),
    );
    if !site.has_stock_timers {
        text.push_str("queue_run_delay = 1s\nminimal_backoff_time = 1s\nmaximal_backoff_time = 2s\n");
    }
    text.push_str(&site.lines);
    each_once(&text)
}

/// The last line of each parameter. Postfix would take it too, but every service warns of the others in the log, and the one that
/// writes the log waits for itself once too many warnings are on their way to it.
fn each_once(text: &str) -> String {
    let parameter = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let last: BTreeMap<String, &str> = text.lines().map(|line| (parameter(line), line)).collect();
    last.into_values().map(|line| format!("{line}\n")).collect()
}
