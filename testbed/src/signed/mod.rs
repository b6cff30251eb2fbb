//! A tree of zones from the root down, signed with DNSSEC or not, some of it broken: signed and served by Knot, asked
//! through unbound, which is also the judge of what is secure.
//!
//! What was published in the sandbox can be taken over, so that servers find each other through signed names. It leaves
//! to the tests what is asked.

mod liar;
mod zone;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::dns::Record;
use crate::host::{Host, Process};
use crate::packages::PackageSet;
use crate::sandbox::Sandbox;
use crate::wait;

pub use liar::{Liar, Lie};
pub use zone::{Fault, Signing, Zone};

/// Where unbound listens that validates nothing, and where the one that does.
const PORTS: [u16; 2] = [53, 5353];

/// What stands in the place of what was published at a name.
#[derive(Debug, Clone)]
enum Instead {
    /// An alias to this name, where it is found.
    Moved(String),
    /// Type and data of a record; nothing where they are empty.
    Replaced(String),
}

/// The tree and its servers.
#[derive(Debug)]
pub struct SignedTree {
    running: Vec<Process>,
    zones: Vec<Zone>,
    /// What stands in the place of everything that was published at a name.
    instead: BTreeMap<String, Instead>,
    serves: usize,
    folder: PathBuf,
    host: Host,
}

impl SignedTree {
    /// A tree with a root, `example` (NSEC) and `net` (NSEC3 with opt-out), on a host of its own. Nothing is served
    /// before [`SignedTree::serve`].
    ///
    /// # Errors
    /// When the packages cannot be had or the host cannot be set up.
    pub fn new(sandbox: &Sandbox) -> Result<Self> {
        let host = sandbox.host("names.hub.example", &[PackageSet::Dnssec])?;
        let folder = sandbox.folder().join("signed");
        for name in ["zones", "kasp", "run"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let zones =
            vec![Zone::new("", Signing::Nsec), Zone::new("example", Signing::Nsec), Zone::new("net", Signing::OptOut)];
        Ok(Self { running: Vec::new(), zones, instead: BTreeMap::new(), serves: 0, folder, host })
    }

    /// Adds a zone, or puts another in its place.
    pub fn set(&mut self, zone: Zone) {
        self.zones.retain(|old| old.name != zone.name);
        self.zones.push(zone);
    }

    /// What was published at `name` is from now on at `target`, and `name` is an alias of it.
    pub fn moved(&mut self, name: &str, target: &str) {
        self.instead.insert(name.to_owned(), Instead::Moved(target.to_owned()));
    }

    /// In the place of what was published at `name` stands this record (type and data), or nothing.
    pub fn replaced(&mut self, name: &str, record: &str) {
        self.instead.insert(name.to_owned(), Instead::Replaced(record.to_owned()));
    }

    /// The zones.
    pub fn zones(&self) -> impl Iterator<Item = &str> {
        self.zones.iter().map(|zone| zone.name.as_str())
    }

    /// The name server that servers under test ask: it hands on everything, signatures too, and validates nothing.
    #[must_use]
    pub fn resolver(&self) -> SocketAddr {
        (self.host.ipv4(), PORTS[0]).into()
    }

    /// The validating name server.
    #[must_use]
    pub fn oracle(&self) -> SocketAddr {
        (self.host.ipv4(), PORTS[1]).into()
    }

    /// The validating name server, as programs on its own machine see it.
    #[must_use]
    pub fn oracle_at_home(&self) -> SocketAddr {
        ([127, 0, 0, 1], PORTS[1]).into()
    }

    /// The file with the root's keys.
    #[must_use]
    pub fn anchors(&self) -> PathBuf {
        self.folder.join("root.key")
    }

    /// The machine that all this runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Signs all zones and starts all servers, or does so anew; they answer, and have forgotten what was before, when
    /// this returns. Everything that was published in the sandbox below a zone of the tree but `hub.example` is in it.
    ///
    /// # Errors
    /// When a zone cannot be signed or a server does not start.
    pub fn serve(&mut self, sandbox: &Sandbox) -> Result<()> {
        for mut process in self.running.drain(..) {
            process.kill()?;
        }
        self.serves += 1;
        self.sign(&sandbox.published())?;
        for level in 0..3 {
            let file = self.write(&format!("knot{level}.conf"), &self.knot(Some(level)))?;
            self.host.run(&["mkdir", "-p", &format!("/run/knot{level}")])?;
            let name = format!("knot{level}-{}", self.serves);
            self.running.push(self.host.spawn(&name, &["/usr/sbin/knotd", "-c", &file])?);
        }
        fs::write(self.folder.join("hints"), format!(". 3600 NS ns.\nns. 3600 A {}\n", zone::address(0)))?;
        for port in PORTS {
            let file = self.write(&format!("unbound{port}.conf"), &self.unbound(port))?;
            let name = format!("unbound{port}-{}", self.serves);
            self.running.push(self.host.spawn(&name, &["/usr/sbin/unbound", "-c", &file])?);
        }
        self.wait_until_served()
    }

    /// Both resolvers know the deepest zones.
    fn wait_until_served(&mut self) -> Result<()> {
        let names: Vec<String> = self.zones.iter().map(Zone::fqdn).collect();
        for port in PORTS {
            for name in &names {
                wait::until(&format!("{name} to be served"), wait::LONG, || {
                    let (server, port) = (format!("@{}", self.host.ipv4()), port.to_string());
                    let asked = ["kdig", &server, "-p", &port, "+cdflag", "+timeout=1", "+retry=0", name, "SOA"];
                    let answer = self.host.output(&asked, b"").ok()?;
                    String::from_utf8_lossy(&answer.stdout).contains("SOA\tns.").then_some(())
                })
                .with_context(|| self.host.logs())?;
            }
        }
        Ok(())
    }

    /// The deepest zones first: a parent needs to know its children's keys.
    fn sign(&mut self, published: &[Record]) -> Result<()> {
        let mut order: Vec<usize> = (0..self.zones.len()).collect();
        order.sort_by_key(|index| {
            std::cmp::Reverse(
                self.zones[*index].fqdn().matches('.').count() + usize::from(!self.zones[*index].name.is_empty()),
            )
        });
        let config = self.write("sign.conf", &self.knot(None))?;
        let others = self.others(published)?;
        for index in order {
            let zone = &self.zones[index];
            let mut delegations = String::new();
            for child in self.zones.iter().filter(|child| self.parent(child).is_some_and(|name| name == zone.name)) {
                let ds = if child.has_ds() { self.ds(&config, child)? } else { String::new() };
                delegations.push_str(&child.delegation(&ds));
            }
            let text = zone.text(&delegations, &others[index]);
            fs::write(self.folder.join("zones").join(file_name(zone)), text)?;
            if zone.signing != Signing::Unsigned {
                self.sign_one(&config, zone)?;
            }
        }
        self.write_anchors()
    }

    fn sign_one(&self, config: &str, zone: &Zone) -> Result<()> {
        let (name, days) = (zone.fqdn(), if let Some(Fault::SignedAt(days)) = zone.fault { days } else { 0 });
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let out = self.folder.join("run");
        let (out, time) = (out.display().to_string(), (now + days * 86_400).to_string());
        let keys = self.host.run(&["keymgr", "-c", config, &name, "list"])?;
        if keys.trim().is_empty() {
            // Old enough for every time of signing.
            let times = ["created=1", "publish=1", "ready=1", "active=1"];
            let generate = ["keymgr", "-c", config, &name, "generate", "algorithm=13", "ksk=yes", "zsk=yes"];
            self.host.run(&[&generate[..], &times[..]].concat())?;
        }
        self.host.run(&["kzonesign", "-c", config, "-o", &out, "-t", &time, &name])?;
        let signed = self.folder.join("run").join(file_name(zone));
        let text = zone.spoil(fs::read_to_string(&signed)?)?;
        Ok(fs::write(signed, text)?)
    }

    fn ds(&self, config: &str, zone: &Zone) -> Result<String> {
        let all = self.host.run(&["keymgr", "-c", config, &zone.fqdn(), "ds"])?;
        let sha256 = all.lines().find(|line| line.split_whitespace().nth(4) == Some("2"));
        Ok(format!("{}\n", sha256.with_context(|| format!("{} has no DS: {all}", zone.name))?))
    }

    fn write_anchors(&self) -> Result<()> {
        let root = fs::read_to_string(self.folder.join("run").join(file_name(&self.zones[0])))?;
        let keys: Vec<String> = root.lines().filter_map(anchor).collect();
        ensure!(!keys.is_empty(), "the root has no key");
        Ok(fs::write(self.anchors(), keys.concat())?)
    }

    /// What was published elsewhere, for each zone.
    fn others(&self, published: &[Record]) -> Result<Vec<String>> {
        let mut others = vec![String::new(); self.zones.len()];
        let mut put = |name: &str, line: &str| -> Result<()> {
            let zone = zone::zone_of(&self.zones, name)?;
            let index = self.zones.iter().position(|other| other.name == zone.name).context("no zone")?;
            others[index].push_str(line);
            Ok(())
        };
        for record in published {
            let name = record.name();
            if name == "hub.example" || name.ends_with(".hub.example") {
                continue;
            }
            match self.instead.get(name) {
                None => put(name, &zone::line(record))?,
                Some(Instead::Moved(target)) => put(target, &zone::line(&record.at(target)))?,
                Some(Instead::Replaced(_)) => {}
            }
        }
        for (name, instead) in &self.instead {
            match instead {
                Instead::Moved(target) => put(name, &format!("{name}. CNAME {target}.\n"))?,
                Instead::Replaced(record) if record.is_empty() => {}
                Instead::Replaced(record) => put(name, &format!("{name}. {record}\n"))?,
            }
        }
        Ok(others)
    }

    fn parent(&self, zone: &Zone) -> Option<&str> {
        let (_, above) = zone.name.split_once('.').unwrap_or((&zone.name, ""));
        if zone.name.is_empty() {
            return None;
        }
        zone::zone_of(&self.zones, above).ok().map(|parent| parent.name.as_str())
    }

    /// Knot's configuration: to serve a level, or to sign everything.
    fn knot(&self, level: Option<usize>) -> String {
        let folder = self.folder.display();
        let run = level.map_or_else(|| format!("{folder}/run"), |level| format!("/run/knot{level}"));
        let storage = level.map_or_else(|| format!("{folder}/kasp"), |_| run.clone());
        let address = zone::address(level.unwrap_or(0));
        let mut text = format!(
            "server:\n  rundir: {run}\n  user: root\n  listen: {address}@53\ndatabase:\n  storage: {storage}\n\
             log:\n  - target: stderr\n    any: warning\npolicy:\n"
        );
        for (id, more) in [
            ("nsec", ""),
            ("nsec3", "    nsec3: on\n    nsec3-iterations: 0\n    nsec3-salt-length: 0\n"),
            ("optout", "    nsec3: on\n    nsec3-opt-out: on\n    nsec3-iterations: 0\n    nsec3-salt-length: 0\n"),
            ("iterated", "    nsec3: on\n    nsec3-iterations: 200\n"),
        ] {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "  - id: {id}\n    manual: on\n    single-type-signing: on\n    algorithm: ecdsap256sha256\n{more}"
            );
        }
        text.push_str("zone:\n");
        for zone in self.zones.iter().filter(|zone| level.is_none_or(|level| zone.level() == level)) {
            let signed = zone.signing != Signing::Unsigned && level.is_some();
            let file = self.folder.join(if signed { "run" } else { "zones" }).join(file_name(zone));
            let _ =
                write!(text, "  - domain: {}\n    file: {}\n    semantic-checks: off\n", zone.fqdn(), file.display());
            if let (None, Some(policy)) = (level, zone.signing.policy()) {
                let _ = write!(text, "    dnssec-signing: on\n    dnssec-policy: {policy}\n");
            }
        }
        text
    }

    fn unbound(&self, port: u16) -> String {
        let modules = if port == PORTS[0] { "iterator" } else { "validator iterator" };
        let (folder, address) = (self.folder.display(), self.host.ipv4());
        format!(
            "server:\n  interface: {address}\n  interface: 127.0.0.1\n  port: {port}\n  username: \"\"\n  chroot: \"\"\n  directory: \"/run\"\n  \
             pidfile: \"\"\n  use-syslog: no\n  logfile: \"\"\n  do-daemonize: no\n  num-threads: 1\n  do-ip6: no\n  \
             do-not-query-localhost: no\n  module-config: \"{modules}\"\n  trust-anchor-file: \"{folder}/root.key\"\n  \
             root-hints: \"{folder}/hints\"\n  val-log-level: 2\n  qname-minimisation: no\n  aggressive-nsec: no\n  \
             access-control: 0.0.0.0/0 allow\nremote-control:\n  control-enable: no\n"
        )
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let file = self.folder.join(name);
        fs::write(&file, text)?;
        Ok(file.display().to_string())
    }
}

/// A DNSKEY record of Knot's file, with its class.
fn anchor(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [name, ttl, "DNSKEY", rest @ ..] => Some(format!("{name} {ttl} IN DNSKEY {}\n", rest.join(" "))),
        _ => None,
    }
}

fn file_name(zone: &Zone) -> String {
    format!("{}zone", zone.fqdn())
}
