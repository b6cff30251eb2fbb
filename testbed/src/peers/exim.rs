//! Exim 4 as a mail server: its configuration and its start.
//!
//! It leaves to the test what is sent.

use std::fs;
use std::os::unix::fs::chown;

use anyhow::Result;

use super::mail_server::{MailServer, Site};
use crate::host::{EXIM, Host};
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;

impl MailServer {
    /// Starts Exim 4.
    ///
    /// # Errors
    /// When the packages cannot be had or Exim does not start.
    pub fn exim(sandbox: &Sandbox, site: &Site) -> Result<Self> {
        let host = Self::prepare(sandbox, site, PackageSet::Exim)?;
        fs::create_dir_all(host.room().join("spool/exim4"))?;
        for path in ["spool/exim4", "log", "tls/key.pem"] {
            chown(host.room().join(path), Some(EXIM), Some(EXIM))?;
        }
        host.put("/etc/exim4/exim4.conf", configuration(sandbox, &host, site).as_bytes())?;
        // In the foreground, trying again what was deferred every second.
        Self::run(host, &["/usr/sbin/exim4", "-bdf", "-q1s"], "exim-mainlog")
    }
}

fn configuration(sandbox: &Sandbox, host: &Host, site: &Site) -> String {
    let mut text = main_section(sandbox, host, site);
    text.push_str(ACL);
    text.push_str("\nbegin routers\n");
    if let Some((name, port)) = &site.relay {
        text.push_str(&format!(
            "smarthost:\n  driver = manualroute\n  domains = ! +local_domains\n  transport = smtp\n  \
             route_list = * {name}::{port} byname\n  no_more\n"
        ));
    }
    text.push_str(ROUTERS);
    text.push_str(&format!(
        "\nbegin transports\n\
         smtp:\n  driver = smtp\n  tls_verify_certificates = {ca}\n  tls_try_verify_hosts = *\n\
         maildir:\n  driver = appendfile\n  directory = {room}/mail/$local_part_data\n  maildir_format\n  \
         create_directory\n  return_path_add\n  user = vmail\n  group = vmail\n",
        ca = sandbox.ca().certificate().display(),
        room = host.room().display(),
    ));
    text.push_str("\nbegin retry\n* * F,1h,1s\n");
    text
}

fn main_section(sandbox: &Sandbox, host: &Host, site: &Site) -> String {
    format!(
        "primary_hostname = {name}\n\
         domainlist local_domains = {domains}\n\
         hostlist relay_for = <, 127.0.0.1, ::1, {own}, {relays_for}\n\
         local_interfaces = <; 0.0.0.0; ::0\n\
         daemon_smtp_ports = 25\n\
         log_file_path = {room}/log/exim-%slog\n\
         keep_environment =\n\
         host_lookup =\n\
         rfc1413_query_timeout = 0s\n\
         trusted_users = root\n\
         acl_smtp_rcpt = rcpt\n\
         acl_smtp_data = data\n\
         tls_advertise_hosts = *\n\
         tls_certificate = {room}/tls/cert.pem\n\
         tls_privatekey = {room}/tls/key.pem\n\
         tls_verify_certificates = {ca}\n\
         LOCAL_PARTS = {users}\n\
         {lines}\n",
        name = site.name,
        domains = site.domains.join(" : "),
        own = host.ipv4(),
        relays_for = site.relays_for.join(", "),
        room = host.room().display(),
        ca = sandbox.ca().certificate().display(),
        users = site.users.join(" : "),
        lines = site.lines,
    )
}

const ACL: &str = "
begin acl
rcpt:
  accept hosts = +relay_for
  require message = relay not permitted
          domains = +local_domains
  require message = no such mailbox
          verify = recipient
  accept
data:
  accept
";

const ROUTERS: &str = "\
mx:
  driver = dnslookup
  domains = ! +local_domains
  transport = smtp
  no_more
mailboxes:
  driver = accept
  domains = +local_domains
  local_parts = LOCAL_PARTS
  transport = maildir
";
