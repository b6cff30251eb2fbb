//! A site without network, its custodian, and somebody who writes to it: what travels between the two on a stick.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testbed::peers::restante::{references, states};
use testbed::peers::{Restante, RestanteConfig};
use testbed::{Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");
pub(crate) const SITE: &str = "site.example";

pub(crate) fn config(name: &str, domains: &[&str]) -> RestanteConfig {
    RestanteConfig::new(PROGRAM, name, domains).users(&["alice", "bob"])
}

/// a.example, the custodian of site.example, and the site, whose link is down.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) origin: Restante,
    pub(crate) custodian: Restante,
    pub(crate) site: Restante,
}

impl World {
    pub(crate) fn with(
        sandbox: Sandbox,
        of_site: impl Fn(RestanteConfig) -> RestanteConfig,
        of_custodian: impl Fn(RestanteConfig) -> RestanteConfig,
    ) -> Self {
        fs::create_dir(sandbox.folder().join("stick")).unwrap();
        let origin = Restante::start(&sandbox, config("mx.a.example", &["a.example"])).unwrap();
        let mut records = vec![Record::Mx(SITE.to_owned(), 10, "mx.cust.example".to_owned())];
        let home = generate(&origin, "home", &origin.key(SITE), &mut records);
        let delegated = origin.key(SITE).with_file_name("delegated.pem");
        let cust = generate(&origin, "cust", &delegated, &mut records);
        sandbox.publish(&records).unwrap();
        let tables = format!(
            "[[domain]]\nname = \"{SITE}\"\ndeliver = \"site\"\nrecipients = \"any\"\n\
             [domain.tbr]\nselector = \"cust\"\nkey = \"{}\"\n[domain.site]\nkeys = {{ home = \"{home}\" }}\n",
            delegated.display()
        );
        let custodian = config("mx.cust.example", &["cust.example"]).names(&["tbr.site.example"]).tables(&tables);
        let custodian = Restante::start(&sandbox, of_custodian(custodian)).unwrap();
        let tables = format!(
            "[[custodian]]\nhost = \"tbr.{SITE}\"\nrelay = \"custodian\"\nkeys = {{ cust = \"{cust}\" }}\n\
             [[relay]]\nname = \"custodian\"\nhost = \"mx.cust.example\"\ntls = \"required\"\n"
        );
        let site = config("mx.site.example", &[SITE]).private("home").with("domain.tbr", "offers", "false");
        let site = site.with("", "smart_host", "\"custodian\"").with("queue", "retry_first", "\"10m\"");
        let site = site.with("queue", "retry_longest", "\"10m\"");
        let site = Restante::start(&sandbox, of_site(site.tables(&tables))).unwrap();
        site.host().unplug().unwrap();
        Self { sandbox, origin, custodian, site }
    }

    /// Sends a message, and waits until the custodian has a reference of its own for it.
    pub(crate) fn send(&self, to: &str, message: &[u8]) -> String {
        let id = self.origin.send("alice@a.example", &[to], message).unwrap();
        let sent = self.origin.wait_for_state(&id, "claimed", wait::LONG).unwrap();
        let reference = references(&sent).remove(0);
        let waits = || states(&self.custodian.trace(&reference).ok()?).contains(&"offered".to_owned()).then_some(());
        wait::until("the custodian to keep it for the site", wait::LONG, waits).unwrap();
        id
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.sandbox.folder().join("stick").join(name)
    }

    pub(crate) fn copies(&self, address: &str) -> Vec<Vec<u8>> {
        self.site.maildir(address).messages()
    }
}

/// Makes a key of the site and notes its records; answers with the public key.
fn generate(by: &Restante, selector: &str, file: &Path, records: &mut Vec<Record>) -> String {
    let path = file.to_str().unwrap();
    let made = by.json(&["keys", "generate", "--domain", SITE, "--selector", selector, "--out", path], b"").unwrap();
    let mut public = String::new();
    for record in made["records"].as_array().unwrap() {
        let (name, text) = (record["name"].as_str().unwrap().to_owned(), record["text"].as_str().unwrap().to_owned());
        if let Some(key) = text.split("; ").find_map(|tag| tag.strip_prefix("p=")) {
            public = key.to_owned();
        }
        if !records.iter().any(|known| matches!(known, Record::Txt(of, _) if *of == name)) {
            records.push(Record::Txt(name, text));
        }
    }
    public
}

/// Writes a bundle; what was said of it.
pub(crate) fn export(by: &Restante, out: &Path, more: &[&str]) -> Value {
    by.json(&[&["bundle", "export", SITE, "--out", out.to_str().unwrap()], more].concat(), b"").unwrap()
}

/// Reads a bundle that is good; what was said of it.
pub(crate) fn import(by: &Restante, file: &Path) -> Value {
    let report = by.json(&["bundle", "import", file.to_str().unwrap()], b"").unwrap();
    assert_eq!(report["bundles"][0]["whole"], true, "{report:#}");
    report["bundles"][0].clone()
}

/// The same message, written by somebody at the site.
pub(crate) fn by_bob(message: &[u8]) -> Vec<u8> {
    let rest = message.strip_prefix(b"From: Alice <alice@a.example>").unwrap();
    [b"From: Bob <bob@site.example>", rest].concat()
}

/// Hands a message in at the site, and waits until nobody tries to send it any more.
pub(crate) fn write_at_site(world: &World, to: &[&str], message: &[u8]) -> String {
    let id = world.site.send("bob@site.example", to, message).unwrap();
    world.site.wait_for_step(&id, "deferred", wait::LONG).unwrap();
    id
}

/// What the custodian has to say reaches the site.
pub(crate) fn hear_custodian(world: &World) -> Value {
    let file = world.file("heard.tar");
    export(&world.custodian, &file, &[]);
    import(&world.site, &file)
}
