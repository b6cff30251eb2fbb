//! Restante itself, as its operators run it: the real binary, a configuration file, keys and accounts made by its own commands.
//!
//! It leaves to the test which binary that is, what is sent, and what must come of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::dns::Record;
use crate::host::{Host, Process, feed};
use crate::maildir::Maildir;
use crate::packages::PackageSet;
use crate::powercut::{Loss, PowerCut};
use crate::sandbox::Sandbox;
use crate::wait;

/// The password of every account.
pub const PASSWORD: &str = "correct horse";

/// Section and field of a setting: `("transfer", "policy")`; `("", …)` is the top, `("domain", …)` every `[[domain]]`,
/// `("relay listener", …)` the listeners at port 25.
type Place = (String, String);

/// Tables whose fields tests may set, in the order of the file.
const SECTIONS: [&str; 12] = [
    "log",
    "tls",
    "transfer",
    "queue",
    "limits",
    "submission",
    "budgets",
    "budgets.domain",
    "budgets.network",
    "policy",
    "store",
    "resolver",
];

/// Hosts of each domain at which its server is known, beside its own name.
const LABELS: [&str; 2] = ["tbr", "mta-sts"];

/// What differs between one server and another.
#[derive(Debug, Clone)]
pub struct RestanteConfig {
    program: PathBuf,
    name: String,
    domains: Vec<String>,
    users: Vec<String>,
    data: Option<PathBuf>,
    preference: u16,
    signs: bool,
    sets: Vec<PackageSet>,
    selector: String,
    is_private: bool,
    is_certified: bool,
    names: Vec<String>,
    settings: BTreeMap<Place, String>,
    tables: String,
}

impl RestanteConfig {
    /// A server that is an MX of `domains` and signs for them: everything by reference, retries after seconds, Maildirs.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, name: &str, domains: &[&str]) -> Self {
        let config = Self {
            program: program.into(),
            name: name.to_owned(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            users: Vec::new(),
            data: None,
            preference: 10,
            signs: true,
            sets: Vec::new(),
            selector: "k1".to_owned(),
            is_private: false,
            is_certified: true,
            names: Vec::new(),
            settings: BTreeMap::new(),
            tables: String::new(),
        };
        config
            .with("transfer", "by_value_below", "0")
            .with("queue", "retry_first", "\"1s\"")
            .with("queue", "retry_longest", "\"2s\"")
            .with("queue", "retry_jitter", "0.0")
            // Tests look whether content is gone.
            .with("store", "grace", "\"0s\"")
            .with("outgoing", "allow_private_addresses", "true")
            // The sandbox's own name server knows no DNSSEC.
            .with("resolver", "dnssec", "\"off\"")
    }

    /// Local parts with an account, in each of the domains; they log in with their address and [`PASSWORD`].
    #[must_use]
    pub fn users(mut self, users: &[&str]) -> Self {
        self.users = users.iter().map(|user| (*user).to_owned()).collect();
        self
    }

    /// Sets a field, to a TOML value.
    #[must_use]
    pub fn with(mut self, section: &str, field: &str, value: &str) -> Self {
        self.settings.insert((section.to_owned(), field.to_owned()), value.to_owned());
        self
    }

    /// Adds whole tables, such as `[[lmtp]]`.
    #[must_use]
    pub fn tables(mut self, text: &str) -> Self {
        self.tables.push_str(text);
        self.tables.push('\n');
        self
    }

    /// Keeps its data in this folder (which must be mounted before the host is made), instead of in the host's room.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// Its preference as an MX, instead of 10. Servers of one domain share that domain's key, and nothing else.
    #[must_use]
    pub fn preference(mut self, preference: u16) -> Self {
        self.preference = preference;
        self
    }

    /// Packages that its host has besides the usual tools.
    #[must_use]
    pub fn packages(mut self, set: PackageSet) -> Self {
        self.sets.push(set);
        self
    }

    /// It has these names too: they lead to it, and stand in its certificate.
    #[must_use]
    pub fn names(mut self, names: &[&str]) -> Self {
        self.names.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Nobody is told of it: it publishes nothing but its own name. It signs with a key of this selector, whose file
    /// ([`Restante::key`]) is there already.
    #[must_use]
    pub fn private(mut self, selector: &str) -> Self {
        (self.is_private, self.selector) = (true, selector.to_owned());
        self
    }

    /// It has no `[[certificate]]`: it is to get its certificates by itself.
    #[must_use]
    pub fn without_certificate(mut self) -> Self {
        self.is_certified = false;
        self
    }

    /// It does not sign for its domains, and publishes nothing for them but the MX.
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        self.signs = false;
        self
    }
}

/// A server on a host of its own, running or not.
#[derive(Debug)]
pub struct Restante {
    process: Option<Process>,
    config: RestanteConfig,
    starts: u32,
    ca: PathBuf,
    keys: PathBuf,
    host: Host,
}

impl Restante {
    /// Sets everything up and starts it; it listens when this returns.
    ///
    /// # Errors
    /// When a command fails or the server does not start; the message has its log.
    pub fn start(sandbox: &Sandbox, config: RestanteConfig) -> Result<Self> {
        let mut server = Self::prepare(sandbox, config)?;
        server.run()?;
        Ok(server)
    }

    /// Sets everything up, without starting it.
    ///
    /// # Errors
    /// When a command fails.
    pub fn prepare(sandbox: &Sandbox, config: RestanteConfig) -> Result<Self> {
        let host = sandbox.host(&config.name, &config.sets)?;
        let ca = sandbox.ca().certificate().to_owned();
        let keys = sandbox.folder().join("keys");
        fs::create_dir_all(&keys)?;
        let server = Self { process: None, config, starts: 0, ca, keys, host };
        server.publish(sandbox)?;
        server.certify(sandbox)?;
        fs::create_dir_all(server.data())?;
        server.write_configuration()?;
        for user in &server.config.users {
            for domain in &server.config.domains {
                let output = server.cli(&["accounts", "add", &format!("{user}@{domain}")], PASSWORD.as_bytes())?;
                ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
        }
        Ok(server)
    }

    /// MX records; and for a domain that has no key yet a key, its records and the names of its repository.
    fn publish(&self, sandbox: &Sandbox) -> Result<()> {
        let mut records: Vec<Record> = Vec::new();
        let address = |name: &String| Record::Host(name.clone(), self.host.ipv4(), self.host.ipv6());
        records.extend(self.config.names.iter().map(address));
        if self.config.is_private {
            return sandbox.publish(&records);
        }
        for domain in &self.config.domains {
            records.push(Record::Mx(domain.clone(), self.config.preference, self.config.name.clone()));
            let file = self.key(domain);
            if !self.config.signs || file.exists() {
                continue;
            }
            for label in LABELS {
                records.push(Record::Host(format!("{label}.{domain}"), self.host.ipv4(), self.host.ipv6()));
            }
            let path = file.to_str().context("a folder's name is not UTF-8")?;
            let made = self.json(&["keys", "generate", "--domain", domain, "--selector", "k1", "--out", path], b"")?;
            for record in made["records"].as_array().context("no records")? {
                let text = |field: &str| record[field].as_str().map(str::to_owned).context("a record without text");
                records.push(Record::Txt(text("name")?, text("text")?));
            }
        }
        sandbox.publish(&records)
    }

    fn certify(&self, sandbox: &Sandbox) -> Result<()> {
        let mut names = vec![self.config.name.clone()];
        let domains = self.config.domains.iter();
        names.extend(self.config.names.iter().cloned());
        names.extend(domains.flat_map(|domain| LABELS.map(|label| format!("{label}.{domain}"))));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let identity = sandbox.ca().issue(&names)?;
        fs::write(self.host.room().join("tls/cert.pem"), identity.certificate)?;
        let key = self.host.room().join("tls/key.pem");
        fs::write(&key, identity.key)?;
        Ok(fs::set_permissions(key, Permissions::from_mode(0o600))?)
    }

    /// Starts it (again); it listens when this returns.
    ///
    /// # Errors
    /// When it runs, or does not start; the message has its log.
    pub fn run(&mut self) -> Result<()> {
        self.spawn()?;
        let process = self.process.as_mut().context("not started")?;
        wait::until("restante to listen", wait::LONG, || {
            if process.log().contains("listening on ") {
                return Some(Ok(()));
            }
            (!process.is_alive()).then(|| bail!("restante ended:\n{}", process.log()))
        })
        .with_context(|| self.host.logs())?
    }

    /// Starts it, without waiting for anything.
    ///
    /// # Errors
    /// When it runs, or cannot be started.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(self.process.as_mut().is_none_or(|process| !process.is_alive()), "it runs already");
        self.starts += 1;
        let mut command = self.command(&["serve"]);
        command.env("RUST_BACKTRACE", "1");
        self.process = Some(self.host.spawn_command(&format!("restante-{}", self.starts), command)?);
        Ok(())
    }

    /// Kills it (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// The machine loses power: kills it, and the disk that its data are on loses what was not synced.
    ///
    /// # Errors
    /// When it does not end.
    pub fn lose_power(&mut self, disk: &PowerCut, loss: Loss) -> Result<()> {
        disk.cut();
        let Some(mut process) = self.process.take() else {
            disk.restore(loss);
            return Ok(());
        };
        process.signal(Signal::KILL)?;
        disk.restore(loss);
        process.kill()
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::TERM)?;
        let status = process.wait(wait::LONG)?;
        ensure!(status.success(), "{status}\n{}", process.log());
        Ok(())
    }

    /// Changes a field, for the next start.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn set(&mut self, section: &str, field: &str, value: &str) -> Result<()> {
        self.config = self.config.clone().with(section, field, value);
        self.write_configuration()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_alive)
    }

    /// What the running server has logged since its start.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The machine it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The folder with its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.config.data.clone().unwrap_or_else(|| self.host.room().join("data"))
    }

    /// The file with a domain's key.
    #[must_use]
    pub fn key(&self, domain: &str) -> PathBuf {
        self.keys.join(format!("{domain}.pem"))
    }

    /// The Maildir of an address in one of its domains.
    #[must_use]
    pub fn maildir(&self, address: &str) -> Maildir {
        let (user, domain) = address.split_once('@').unwrap_or((address, ""));
        Maildir::new(self.data().join("mail").join(domain).join(user))
    }

    /// A command of the binary on this host, with this configuration.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(&self.config.program);
        command.args(arguments).env("RESTANTE_CONFIG", self.configuration_file()).env("NO_COLOR", "1");
        command
    }

    /// Runs a command of the binary, with `input` on standard input, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn cli(&self, arguments: &[&str], input: &[u8]) -> Result<Output> {
        feed(self.command(arguments), input)
    }

    /// Runs a command of the binary with `--json`.
    ///
    /// # Errors
    /// When it fails; the message has what it wrote.
    pub fn json(&self, arguments: &[&str], input: &[u8]) -> Result<Value> {
        let output = self.cli(&[arguments, &["--json"]].concat(), input)?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{arguments:?}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).with_context(|| format!("{arguments:?}: {text}"))
    }

    /// Hands a message in with `restante send`; its queue id.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn send(&self, from: &str, to: &[&str], message: &[u8]) -> Result<String> {
        let accepted = self.json(&[&["send", "-i", "-f", from], to].concat(), message)?;
        Ok(accepted["id"].as_str().context("no id")?.to_owned())
    }

    /// All that the server knows of a message, by queue id or reference id: what `restante trace` prints.
    ///
    /// # Errors
    /// When it knows nothing of it, or does not run.
    pub fn trace(&self, id: &str) -> Result<Value> {
        self.json(&["trace", id], b"")
    }

    /// Waits until every recipient of a message is in this state; what is known of it then.
    ///
    /// # Errors
    /// When they are not by the deadline; the message has what is known and the log.
    pub fn wait_for_state(&self, id: &str, state: &str, limit: Duration) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait::until(&format!("{id} to be {state}"), limit, || {
            last = self.trace(id).ok()?;
            states(&last).iter().all(|found| found == state).then(|| last.clone())
        });
        found.with_context(|| format!("{} knows {last:#}", self.config.name))
    }

    /// Waits for a step, such as `offered` or `retrieved`, in what is known of a message.
    ///
    /// # Errors
    /// When there is none by the deadline.
    pub fn wait_for_step(&self, id: &str, step: &str, limit: Duration) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait::until(&format!("the step {step} of {id}"), limit, || {
            last = self.trace(id).ok()?;
            steps(&last).iter().any(|found| found == step).then(|| last.clone())
        });
        found.with_context(|| format!("{} knows {last:#}", self.config.name))
    }

    fn configuration_file(&self) -> PathBuf {
        self.host.room().join("restante.toml")
    }

    fn write_configuration(&self) -> Result<()> {
        Ok(fs::write(self.configuration_file(), self.configuration())?)
    }

    fn configuration(&self) -> String {
        let (config, room) = (&self.config, self.host.room().display());
        let mut text = format!("hostname = \"{}\"\ndata_dir = \"{}\"\n", config.name, self.data().display());
        self.fields("", &mut text);
        text.push_str("[admin]\n");
        // A socket on a disk without power would hang whoever looks for it.
        let _ = writeln!(text, "socket = \"{room}/admin.sock\"");
        for (kind, port) in [("relay", 25), ("submission", 587), ("submissions", 465), ("repository", 443)] {
            for address in ["0.0.0.0", "[::]"] {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "[[listener]]\nkind = \"{kind}\"\naddress = \"{address}:{port}\"");
                self.fields(&format!("{kind} listener"), &mut text);
            }
        }
        if config.is_certified {
            let _ = writeln!(text, "[[certificate]]\ncert = \"{room}/tls/cert.pem\"\nkey = \"{room}/tls/key.pem\"");
        }
        for domain in &config.domains {
            let _ = writeln!(text, "[[domain]]\nname = \"{domain}\"");
            self.fields("domain", &mut text);
            if config.signs {
                let (selector, key) = (&config.selector, self.key(domain));
                let _ = writeln!(text, "[domain.tbr]\nselector = \"{selector}\"\nkey = \"{}\"", key.display());
                self.fields("domain.tbr", &mut text);
            }
        }
        let _ = writeln!(text, "[outgoing]\nca_file = \"{}\"", self.ca.display());
        self.fields("outgoing", &mut text);
        for section in SECTIONS {
            let _ = writeln!(text, "[{section}]");
            self.fields(section, &mut text);
        }
        text.push_str(&config.tables);
        text
    }

    fn fields(&self, section: &str, text: &mut String) {
        for ((_, field), value) in self.config.settings.iter().filter(|((found, _), _)| found == section) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{field} = {value}");
        }
    }
}

/// The states of all recipients in what `restante trace` printed.
#[must_use]
pub fn states(trace: &Value) -> Vec<String> {
    let entries = trace["entries"].as_array().into_iter().flatten();
    let recipients = entries.flat_map(|entry| entry["recipients"].as_array().into_iter().flatten());
    recipients.filter_map(|recipient| recipient["state"].as_str().map(str::to_owned)).collect()
}

/// The names of all steps in what `restante trace` printed.
#[must_use]
pub fn steps(trace: &Value) -> Vec<String> {
    let entries = trace["entries"].as_array().into_iter().flatten();
    let steps = entries.flat_map(|entry| entry["steps"].as_array().into_iter().flatten());
    steps.filter_map(|step| step["what"].as_str().map(str::to_owned)).collect()
}

/// The ids of all references in what `restante trace` printed.
#[must_use]
pub fn references(trace: &Value) -> Vec<String> {
    let entries = trace["entries"].as_array().into_iter().flatten();
    let ids = entries.flat_map(|entry| entry["references"].as_array().into_iter().flatten());
    ids.filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

/// What stands below the topmost TBR-Reference field of a delivered message: the object.
#[must_use]
pub fn object(message: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"TBR-Reference:";
    let mut rest = message;
    let mut within = false;
    loop {
        let length = rest.iter().position(|octet| *octet == b'\n')? + 1;
        let (line, after) = rest.split_at(length);
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        match within {
            true if !folded => return Some(rest),
            false if line == b"\r\n" || line == b"\n" => return None,
            _ => within |= line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME),
        }
        rest = after;
    }
}
