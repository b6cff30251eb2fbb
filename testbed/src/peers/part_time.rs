//! A site that is connected some of the time, its custodian, and a server that writes to it (TBR §7.4).
//!
//! It leaves what is sent, and when the site asks, to the test.

use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::restante::{Restante, RestanteConfig, references, states};
use crate::dns::Record;
use crate::sandbox::Sandbox;
use crate::wait;

/// `a.example`, and the site `site.example` with its custodian, which is its only mail exchanger. The site runs, and nobody can
/// reach it: it has no record.
#[derive(Debug)]
pub struct PartTime {
    /// Its mail exchanger is `mx.a.example`.
    pub origin: Restante,
    /// `mx.cust.example`, known as `tbr.site.example` too.
    pub custodian: Restante,
    /// `mx.site.example`.
    pub site: Restante,
    /// Around them all.
    pub sandbox: Sandbox,
}

impl PartTime {
    /// Starts all three, with the mailboxes of alice and bob, after each configuration was changed by its name.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start(program: &str, change: impl Fn(&str, RestanteConfig) -> RestanteConfig) -> Result<Self> {
        Self::start_in(Sandbox::new()?, program, change)
    }

    /// The same in a sandbox that was prepared.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start_in(
        sandbox: Sandbox,
        program: &str,
        change: impl Fn(&str, RestanteConfig) -> RestanteConfig,
    ) -> Result<Self> {
        let config = |name: &str, domain: &str| RestanteConfig::new(program, name, &[domain]).users(&["alice", "bob"]);
        let origin = change("origin", config("mx.a.example", "a.example"));
        let origin = Restante::start(&sandbox, origin)?;
        let mut records = vec![Record::Mx("site.example".to_owned(), 10, "mx.cust.example".to_owned())];
        // The site's own key, and the one that it lets its custodian use.
        let own = origin.key("site.example");
        let home = generate(&origin, "home", &own, &mut records)?;
        let delegated = own.with_file_name("delegated.pem");
        generate(&origin, "cust", &delegated, &mut records)?;
        sandbox.publish(&records)?;
        let tables = format!(
            "[[domain]]\nname = \"site.example\"\ndeliver = \"site\"\nrecipients = \"any\"\n\
             [domain.tbr]\nselector = \"cust\"\nkey = \"{}\"\n[domain.site]\nkeys = {{ home = \"{home}\" }}\n",
            delegated.display()
        );
        let custodian = config("mx.cust.example", "cust.example").names(&["tbr.site.example"]).tables(&tables);
        let custodian = Restante::start(&sandbox, change("custodian", custodian))?;
        let site = config("mx.site.example", "site.example").private("home").with("domain.tbr", "offers", "false");
        let site = change("site", site.tables("[[custodian]]\nhost = \"tbr.site.example\"\n"));
        let site = Restante::start(&sandbox, site)?;
        Ok(Self { origin, custodian, site, sandbox })
    }

    /// Has the site ask its custodian, and waits until it has everything.
    ///
    /// # Errors
    /// When the site's server does not run, or the custodian does not answer.
    pub fn fetch(&self) -> Result<Value> {
        self.site.json(&["fetch", "--wait"], b"")
    }

    /// Sends from alice at the origin; the message's queue id there.
    ///
    /// # Errors
    /// When the origin does not take it.
    pub fn send(&self, to: &str, message: &[u8]) -> Result<String> {
        self.origin.send("alice@a.example", &[to], message)
    }

    /// Waits until the custodian has a message of the origin's, and a reference of its own for it that the site can ask for.
    ///
    /// # Errors
    /// When it has not by the deadline.
    pub fn until_kept(&self, id: &str) -> Result<()> {
        let sent = self.origin.wait_for_state(id, "claimed", wait::LONG)?;
        let reference = references(&sent).into_iter().next().context("no reference")?;
        let waits = || states(&self.custodian.trace(&reference).ok()?).contains(&"offered".to_owned()).then_some(());
        wait::until("the custodian to keep it for the site", wait::LONG, waits)
    }

    /// `restante link up` at the site, as a hook of the system does it: nobody waits for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn link_up(&self) -> Result<Child> {
        Ok(self.site.command(&["link", "up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Lets the site's link come up again and again, under another address each time, for so many octets more than are `counted` then, until
    /// `is_done`. How often it did.
    ///
    /// # Errors
    /// When it is not done within `limit`, or a hundred times.
    pub fn break_after(
        &self,
        octets: u64,
        counted: impl Fn() -> u64,
        limit: Duration,
        is_done: impl Fn() -> bool,
    ) -> Result<u8> {
        let end = Instant::now() + limit;
        for number in 0..100 {
            self.site.host().dial_in(100 + number)?;
            let begun = counted();
            let mut hook = self.link_up()?;
            let closes = || (is_done() || counted() - begun > octets).then_some(());
            wait::until("the window to close", limit, closes)?;
            if is_done() {
                hook.wait()?;
                return Ok(number + 1);
            }
            ensure!(Instant::now() < end, "{number} windows were not enough");
            self.site.host().unplug()?;
            thread::sleep(Duration::from_millis(500));
            hook.kill()?;
            hook.wait()?;
        }
        bail!("a hundred windows were not enough")
    }

    /// What is in a mailbox of the site's.
    #[must_use]
    pub fn copies(&self, address: &str) -> Vec<Vec<u8>> {
        self.site.maildir(address).messages()
    }
}

/// Makes a key of site.example and notes its records; answers with the public key.
fn generate(by: &Restante, selector: &str, file: &Path, records: &mut Vec<Record>) -> Result<String> {
    let path = file.to_str().context("a folder's name is not UTF-8")?;
    let made =
        by.json(&["keys", "generate", "--domain", "site.example", "--selector", selector, "--out", path], b"")?;
    let mut public = String::new();
    for record in made["records"].as_array().context("no records")? {
        let text = |field: &str| record[field].as_str().map(str::to_owned).context("a record without text");
        let (name, text) = (text("name")?, text("text")?);
        if let Some(key) = text.split("; ").find_map(|tag| tag.strip_prefix("p=")) {
            public = key.to_owned();
        }
        if !records.iter().any(|known| matches!(known, Record::Txt(of, _) if *of == name)) {
            records.push(Record::Txt(name, text));
        }
    }
    Ok(public)
}
