//! Exim 4: receives for its own domains into Maildirs, and sends by MX or to a fixed next hop.
//!
//! It leaves to the test what is sent.

use std::fs;
use std::os::unix::fs::chown;

use anyhow::Result;

use crate::host::{EXIM, Host, Process};
use crate::maildir::Maildir;
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;

/// What differs between one Exim and another.
#[derive(Debug, Clone, Default)]
pub struct EximConfig {
    /// The host's name.
    pub name: String,
    /// Domains that it receives for.
    pub domains: Vec<String>,
    /// Local parts that exist in each of the domains.
    pub users: Vec<String>,
    /// Host, with `::port` if it is not 25, that takes all other mail, instead of the MX.
    pub relay_host: Option<String>,
    /// Networks that it relays for, besides itself.
    pub relays_for: Vec<String>,
    /// Further lines for the main section of the configuration.
    pub main: String,
}

/// A running Exim.
#[derive(Debug)]
pub struct Exim {
    process: Process,
    host: Host,
}

impl Exim {
    /// Starts Exim on a host of its own, which becomes the MX of its domains; it listens when this returns.
    ///
    /// # Errors
    /// When the packages cannot be had or Exim does not start.
    pub fn start(sandbox: &Sandbox, config: &EximConfig) -> Result<Self> {
        let host = sandbox.host(&config.name, &[PackageSet::Exim])?;
        for domain in &config.domains {
            sandbox.publish_mx(domain, &config.name)?;
        }
        sandbox.certify(&host)?;
        chown(host.room().join("tls/key.pem"), Some(EXIM), Some(EXIM))?;
        fs::create_dir_all(host.room().join("spool/exim4"))?;
        for folder in ["spool/exim4", "log"] {
            chown(host.room().join(folder), Some(EXIM), Some(EXIM))?;
        }
        host.put("/etc/exim4/exim4.conf", configuration(sandbox, &host, config).as_bytes())?;
        // In the foreground, trying again what was deferred every second.
        let mut process = host.spawn("exim", &["/usr/sbin/exim4", "-bdf", "-q1s"])?;
        host.wait_for_port(25, &mut process)?;
        Ok(Self { process, host })
    }

    /// The machine it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The listening process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Hands a message (LF line ends) to it as a local program would.
    ///
    /// # Errors
    /// When it does not take the message.
    pub fn inject(&self, from: &str, to: &[&str], message: &[u8]) -> Result<()> {
        let mut argv = vec!["/usr/sbin/exim4", "-i", "-f", from, "--"];
        argv.extend_from_slice(to);
        self.host.run_with_input(&argv, message).map(|_| ())
    }

    /// The Maildir of a local part.
    #[must_use]
    pub fn maildir(&self, user: &str) -> Maildir {
        Maildir::new(self.host.room().join("mail").join(user))
    }
}

fn configuration(sandbox: &Sandbox, host: &Host, config: &EximConfig) -> String {
    let mut text = main_section(sandbox, host, config);
    text.push_str(ACL);
    text.push_str("\nbegin routers\n");
    if let Some(relay_host) = &config.relay_host {
        text.push_str(&format!(
            "smarthost:\n  driver = manualroute\n  domains = ! +local_domains\n  transport = smtp\n  \
             route_list = * {relay_host} byname\n  no_more\n"
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

fn main_section(sandbox: &Sandbox, host: &Host, config: &EximConfig) -> String {
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
         {main}\n",
        name = config.name,
        domains = config.domains.join(" : "),
        own = host.ipv4(),
        relays_for = config.relays_for.join(", "),
        room = host.room().display(),
        ca = sandbox.ca().certificate().display(),
        users = config.users.join(" : "),
        main = config.main,
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
