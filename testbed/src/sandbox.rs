//! A network of its own: a hub with the name server, a certificate authority, and any number of hosts.
//!
//! Addresses are those set aside for documentation (192.0.2.0/24, 2001:db8::/64) and exist only inside. It leaves to
//! [`crate::peers`] what runs on a host.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::ca::{Ca, Identity};
use crate::dns::{NameServer, Record};
use crate::host::{self, Host, Plan};
use crate::packages::PackageSet;

/// The hub's own number, and the first that is given to a host.
const HUB: u8 = 1;
const FIRST: u8 = 10;

/// The network; dropped after the hosts on it.
#[derive(Debug)]
pub struct Sandbox {
    shared: Mutex<Shared>,
    hub: Host,
    ca: Ca,
    folder: Arc<TempDir>,
}

#[derive(Debug)]
struct Shared {
    names: NameServer,
    next: u8,
}

impl Sandbox {
    /// Sets up the hub with its name server.
    ///
    /// # Errors
    /// When not run as root on Linux with the packages at hand; the message says what is missing.
    pub fn new() -> Result<Self> {
        ensure!(
            fs::metadata("/proc/self")?.uid() == 0,
            "tests with real peers must run as root: they make namespaces and mount folders"
        );
        let folder = tempfile::Builder::new().prefix("testbed-").tempdir()?;
        // Peers run as users of their own and must get through.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let folder = Arc::new(folder);
        let hub = Host::start(Plan {
            name: "hub.example",
            sandbox: Arc::clone(&folder),
            layers: vec![PackageSet::Tools.unpacked()?],
            number: HUB,
            hub: None,
        })?;
        let mut names = NameServer::new();
        names.add(&hub, &[])?;
        Ok(Self { shared: Mutex::new(Shared { names, next: FIRST }), hub, ca: Ca::new(folder.path())?, folder })
    }

    /// The sandbox's folder, on the real disk; gone afterwards.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The certificate authority that all peers here trust.
    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Adds a host with the tools and `sets` on it, known to the name server.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn host(&self, name: &str, sets: &[PackageSet]) -> Result<Host> {
        let number = self.take_number()?;
        let layers = sets.iter().chain(&[PackageSet::Tools]).map(|set| set.unpacked()).collect::<Result<_>>()?;
        let host =
            Host::start(Plan { name, sandbox: Arc::clone(&self.folder), layers, number, hub: Some(self.hub.init()) })?;
        let link = format!("link{number}");
        self.hub.run(&["ip", "link", "set", &link, "master", "eth0", "up"])?;
        self.publish(&[Record::Host(name.to_owned(), host::ipv4(number), host::ipv6(number))])?;
        Ok(host)
    }

    /// Makes records known to the name server.
    ///
    /// # Errors
    /// When the server does not take them.
    pub fn publish(&self, records: &[Record]) -> Result<()> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.names.add(&self.hub, records)
    }

    /// Makes the name server say this of `names`, and nothing else: as one who answers in its place would.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn lie(&self, names: &[&str], records: &[Record]) -> Result<()> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.names.forget(names);
        shared.names.add(&self.hub, records)
    }

    /// The name server's address.
    pub(crate) fn name_server(&self) -> Ipv4Addr {
        self.hub.ipv4()
    }

    /// Everything that was published so far.
    pub(crate) fn published(&self) -> Vec<Record> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).names.records().to_vec()
    }

    /// Makes `host` the only MX of `domain`.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn publish_mx(&self, domain: &str, host: &str) -> Result<()> {
        self.publish(&[Record::Mx(domain.to_owned(), 10, host.to_owned())])
    }

    /// Puts a certificate for `host` into its room: `tls/cert.pem` and `tls/key.pem`, the key readable by root only.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn certify(&self, host: &Host) -> Result<Identity> {
        let identity = self.ca.issue(&[host.name(), &host.ipv4().to_string()])?;
        let folder = host.room().join("tls");
        fs::write(folder.join("cert.pem"), &identity.certificate)?;
        fs::write(folder.join("key.pem"), &identity.key)?;
        fs::set_permissions(folder.join("key.pem"), Permissions::from_mode(0o600))?;
        Ok(identity)
    }

    fn take_number(&self) -> Result<u8> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let number = shared.next;
        shared.next = number.checked_add(1).context("too many hosts")?;
        Ok(number)
    }
}
