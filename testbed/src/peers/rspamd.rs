//! rspamd as operators run it beside a mail server: its proxy worker speaks the milter protocol and scans by itself.
//!
//! The package's own configuration, without what asks the world outside of the sandbox. It leaves to the test what is sent through
//! it, and what must come of it.

use std::fs;

use anyhow::Result;

use crate::host::{Host, Process};
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;

/// Where the milter listens.
const PORT: u16 = 11332;

/// Modules that ask servers of rspamd's authors, or of others.
const WORLDLY: [&str; 8] = ["asn", "fuzzy_check", "greylist", "mx_check", "phishing", "rbl", "rspamd_update", "surbl"];

/// Says which of a message's circumstances the filter has learned (in Lua, its own language), and how it authenticated.
const HEADERS: &str = r#"
use = ["authentication-results", "x-seen"];
skip_local = false;
skip_authenticated = false;
custom {
  x-seen = <<EOD
return function(task)
  local asked = function(name) return tostring(task:get_request_header(name)) end
  local seen = {
    'ip=' .. tostring(task:get_from_ip()), 'name=' .. tostring(task:get_hostname()), 'helo=' .. tostring(task:get_helo()),
    'id=' .. asked('Queue-Id'), 'tls=' .. asked('TLS-Version'), 'cipher=' .. asked('TLS-Cipher'),
    'server=' .. asked('MTA-Name'), 'from=' .. task:get_from('smtp')[1].addr, 'to=' .. task:get_recipients('smtp')[1].addr,
  }
  return nil, {['X-Seen'] = table.concat(seen, ' ')}, {}, {}
end
EOD;
}
"#;

/// A running rspamd.
#[derive(Debug)]
pub struct Rspamd {
    _process: Process,
    host: Host,
}

impl Rspamd {
    /// Starts it on a host of its own; it listens when this returns.
    ///
    /// # Errors
    /// When the packages cannot be had or it does not start.
    pub fn start(sandbox: &Sandbox, name: &str) -> Result<Self> {
        let host = sandbox.host(name, &[PackageSet::Rspamd])?;
        let put = |name: &str, content: &str| host.put(&format!("/etc/rspamd/override.d/{name}"), content.as_bytes());
        for module in WORLDLY {
            put(&format!("{module}.conf"), "enabled = false;\n")?;
        }
        for worker in ["normal", "controller", "fuzzy"] {
            put(&format!("worker-{worker}.inc"), "enabled = false;\ncount = 0;\n")?;
        }
        let upstream = "upstream \"local\" { default = yes; self_scan = yes; }\n";
        put("worker-proxy.inc", &format!("bind_socket = \"0.0.0.0:{PORT}\";\n{upstream}"))?;
        // Thousands of suffixes and patterns are compiled at every start otherwise.
        host.put("/etc/rspamd/suffixes", b"example\n")?;
        put("options.inc", "url_tld = \"/etc/rspamd/suffixes\";\ndisable_hyperscan = true;\n")?;
        put("logging.inc", "type = \"console\";\nlevel = \"info\";\n")?;
        put("milter_headers.conf", HEADERS)?;
        host.run(&["install", "-d", "-o", "_rspamd", "-g", "_rspamd", "/run/rspamd", "/var/lib/rspamd"])?;
        let argv = ["/usr/bin/rspamd", "--no-fork", "--user=_rspamd", "--group=_rspamd"];
        let mut process = host.spawn("rspamd", &argv)?;
        host.wait_for_port(PORT, &mut process)?;
        Ok(Self { _process: process, host })
    }

    /// Where it listens, as `[[milter]]` has it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{PORT}", self.host.ipv4())
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.host.room().join("log/rspamd.log")).unwrap_or_default()
    }
}
