//! Pebble, the ACME server (RFC 8555) that Let's Encrypt tests with. It refuses one good nonce in twenty, waits for a random while before
//! it asks a name, and makes a new CA at each start.
//!
//! It asks http-01 at port 80 and tls-alpn-01 at port 443, at the addresses that the sandbox's name server gives. It leaves to the test
//! what is ordered, and by whom.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::host::{Host, Process};
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;

/// Where the CA's own certificate is asked for.
const MANAGEMENT: u16 = 15000;
/// Longest wait before a name is asked, in seconds; the authority's own default is 15.
const LONGEST_WAIT: &str = "2";

/// A running authority; its directory is at [`Pebble::directory`].
#[derive(Debug)]
pub struct Pebble {
    _process: Process,
    ca: PathBuf,
    host: Host,
}

impl Pebble {
    /// Starts it on a host of its own, with a certificate of the sandbox's CA; it listens when this returns.
    ///
    /// # Errors
    /// When the package cannot be had or it does not start.
    pub fn start(sandbox: &Sandbox, name: &str) -> Result<Self> {
        let host = sandbox.host(name, &[PackageSet::Pebble])?;
        sandbox.certify(&host)?;
        let file = host.room().join("pebble.json");
        fs::write(&file, configuration(&host))?;
        let mut command = host.command("/usr/bin/pebble");
        command.arg("-config").arg(&file).arg("-dnsserver").arg(format!("{}:53", sandbox.name_server()));
        command.env("PEBBLE_VA_SLEEPTIME", LONGEST_WAIT);
        let mut process = host.spawn_command("pebble", command)?;
        for port in [443, MANAGEMENT] {
            host.wait_for_port(port, &mut process)?;
        }
        Ok(Self { _process: process, ca: sandbox.ca().certificate().to_owned(), host })
    }

    /// The URL of its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.host.name())
    }

    /// The file with the certificate (PEM) of the CA that it issues by.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn root(&self) -> Result<PathBuf> {
        let (url, ca) = (format!("https://{}:{MANAGEMENT}/roots/0", self.host.name()), self.ca.display().to_string());
        let root = self.host.run(&["curl", "--silent", "--fail", "--cacert", &ca, &url])?;
        let file = self.host.room().join("root.pem");
        fs::write(&file, root)?;
        Ok(file)
    }
}

fn configuration(host: &Host) -> String {
    let tls = host.room().join("tls");
    let tls = tls.display();
    format!(
        r#"{{"pebble": {{"listenAddress": "0.0.0.0:443", "managementListenAddress": "0.0.0.0:{MANAGEMENT}",
"certificate": "{tls}/cert.pem", "privateKey": "{tls}/key.pem", "httpPort": 80, "tlsPort": 443}}}}
"#
    )
}
