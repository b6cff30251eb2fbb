//! Two complete mail domains in one directory: configuration, signing key, certificate, zone file, account, each as an
//! operator would have them. Everything listens on loopback; nothing here is known to the servers but through files.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mail::Domain;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use reference::{KeyRecord, SigningKey};

use crate::config::Config;

/// Addresses of the two domains: each has its own, the ports are the same.
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

/// Selector of both domains' keys.
const SELECTOR: &str = "demo";

/// One of the two domains.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// `a.example` or `b.example`.
    pub(super) domain: Domain,
    /// Its directory, with everything below.
    pub(super) directory: PathBuf,
    /// Its configuration.
    pub(super) config: PathBuf,
    /// A copy of the document that it publishes: enough to verify its messages later.
    pub(super) document: PathBuf,
}

/// The two domains and what they share: an authority that stands for the public ones, and a zone.
#[derive(Debug)]
pub(super) struct World {
    /// The sending domain.
    pub(super) origin: Site,
    /// The receiving domain.
    pub(super) receiver: Site,
}

impl World {
    /// Writes everything below `directory`, for messages of up to `max_size` octets.
    ///
    /// # Errors
    /// Those of the file system, and no pair of free ports on loopback.
    pub(super) fn create(directory: &Path, max_size: u64) -> Result<Self> {
        let ports = Ports::find().context("no free ports on 127.0.0.2 and 127.0.0.3")?;
        let ca = Authority::create()?;
        let (ca_file, zone_file) = (directory.join("ca.pem"), directory.join("zone"));
        fs::write(&ca_file, &ca.pem)?;
        let mut zone = String::from("$ORIGIN example.\n$TTL 300\n");
        let mut sites = Vec::new();
        for (name, host) in ["a", "b"].into_iter().zip(HOSTS) {
            let site = Site::create(directory, name, &ca)?;
            zone.push_str(&site.records(host)?);
            fs::write(&site.config, site.configuration(host, &ports, max_size))?;
            site.write_document()?;
            sites.push(site);
        }
        fs::write(zone_file, zone)?;
        let [origin, receiver] = <[Site; 2]>::try_from(sites).map_err(|_| anyhow::anyhow!("two sites"))?;
        Ok(Self { origin, receiver })
    }
}

/// Ports that are free on both addresses.
struct Ports {
    smtp: u16,
    https: u16,
}

impl Ports {
    fn find() -> io::Result<Self> {
        // Both are held until both are known, so that they differ.
        let (smtp, _held) = Self::free_on_both()?;
        let (https, _held) = Self::free_on_both()?;
        Ok(Self { smtp, https })
    }

    fn free_on_both() -> io::Result<(u16, [TcpListener; 2])> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..64 {
            let first = TcpListener::bind((HOSTS[0], 0))?;
            let port = first.local_addr()?.port();
            match TcpListener::bind((HOSTS[1], port)) {
                Ok(second) => return Ok((port, [first, second])),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn create() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Restante demo authority");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    fn issue(&self, names: Vec<String>) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

impl Site {
    fn create(root: &Path, name: &str, ca: &Authority) -> Result<Self> {
        let domain = Domain::parse(&format!("{name}.example"))?;
        let directory = root.join(domain.as_str());
        fs::create_dir_all(directory.join("data"))?;
        let (certificate, key) = ca.issue(vec![format!("mx.{domain}"), format!("tbr.{domain}")])?;
        fs::write(directory.join("certificate.pem"), certificate)?;
        write_secret(&directory.join("certificate.key"), key.as_bytes())?;
        crate::keys::write(&directory.join("tbr.key"), &SigningKey::generate()?)?;
        let (config, document) = (directory.join("restante.toml"), directory.join("domain.json"));
        Ok(Self { domain, directory, config, document })
    }

    /// What the server will say of its domain, for later.
    fn write_document(&self) -> Result<()> {
        let config = Config::load(&self.config)?;
        let facts = crate::settings::facts(&config, crate::runtime::now())?;
        let facts = facts.get(&self.domain).context("the domain does not sign")?;
        Ok(fs::write(&self.document, facts.to_document()?)?)
    }

    /// What the domain publishes.
    fn records(&self, host: Ipv4Addr) -> Result<String> {
        let name = self.domain.as_str().trim_end_matches(".example");
        let key = crate::keys::read(&self.directory.join("tbr.key"))?;
        let now = crate::runtime::now();
        let year = std::time::Duration::from_secs(366 * 24 * 3600);
        let record = KeyRecord::active(SELECTOR.parse()?, key.verifying_key(), now.before(year / 366), now.after(year));
        Ok(format!(
            "{name} IN MX 10 mx.{name}\nmx.{name} IN A {host}\ntbr.{name} IN A {host}\n\
             _tbr.{name} IN TXT \"v=TBR1; repo=tbr.{}\"\n{SELECTOR}._tbr.{name} IN TXT \"{}\"\n",
            self.domain,
            record.to_txt()
        ))
    }

    fn configuration(&self, host: Ipv4Addr, ports: &Ports, max_size: u64) -> String {
        let (domain, Ports { smtp, https }) = (&self.domain, ports);
        let at = |port: u16| SocketAddr::new(IpAddr::V4(host), port);
        let (relay, repository, submissions) = (at(*smtp), at(*https), at(0));
        format!(
            r#"# One of the two mail servers of `restante demo`.
hostname = "mx.{domain}"
data_dir = "data"

[[listener]]
kind = "relay"
address = "{relay}"

[[listener]]
kind = "submissions"
address = "{submissions}"

[[listener]]
kind = "repository"
address = "{repository}"

[[certificate]]
cert = "certificate.pem"
key = "certificate.key"

[[domain]]
name = "{domain}"
deliver = "maildir"
maildir = "mail/{{user}}"

[domain.tbr]
selector = "{SELECTOR}"
key = "tbr.key"
repository = "tbr.{domain}"

[resolver]
zone_file = "../zone"

[outgoing]
smtp_port = {smtp}
https_port = {https}
allow_private_addresses = true
ca_file = "../ca.pem"

[transfer]
by_value_below = 0

# Any file is shown on its way, whoever wrote it.
[policy]
no_author = "mark"

[limits]
message_size = {max_size}

[store]
kind = "embedded"
"#
        )
    }
}

fn write_secret(path: &Path, octets: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(octets)
}
