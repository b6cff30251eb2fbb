//! The real binary on a host of its own, as an operator would set it up.

use std::fs;

use serde_json::Value;
use testbed::maildir::Maildir;
use testbed::{Host, Process, Record, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// For a domain whose mail ends in Maildirs.
pub(crate) const MAILDIRS: &str = "maildir = \"mail/{user}\"";

/// A running Restante for one domain.
pub(crate) struct Restante {
    process: Process,
    host: Host,
    config: String,
}

impl Restante {
    /// Starts `mx.<domain>` with mailboxes for alice and bob (password `secret`), a repository at `tbr.<domain>`, and all
    /// the records that peers look for. `domain` is added to the `[[domain]]` table, `more` to the end of the file.
    pub(crate) fn start(sandbox: &Sandbox, domain: &str, in_domain: &str, more: &str) -> Self {
        let (name, repository) = (format!("mx.{domain}"), format!("tbr.{domain}"));
        let host = sandbox.host(&name, &[]).unwrap();
        let room = host.room().to_owned();
        let identity = sandbox.ca().issue(&[&name, &repository]).unwrap();
        fs::write(room.join("cert.pem"), identity.certificate).unwrap();
        fs::write(room.join("key.pem"), identity.key).unwrap();
        let ca = sandbox.ca().certificate().display();
        let text = format!(
            "hostname = \"{name}\"\ndata_dir = \"data\"\n\
             [[listener]]\nkind = \"relay\"\naddress = \"0.0.0.0:25\"\n\
             [[listener]]\nkind = \"submissions\"\naddress = \"0.0.0.0:465\"\n\
             [[listener]]\nkind = \"submission\"\naddress = \"0.0.0.0:587\"\n\
             [[listener]]\nkind = \"repository\"\naddress = \"0.0.0.0:443\"\n\
             [[certificate]]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
             [outgoing]\nallow_private_addresses = true\nca_file = \"{ca}\"\n\
             [[domain]]\nname = \"{domain}\"\n{in_domain}\n\
             [domain.tbr]\nselector = \"k1\"\nkey = \"tbr.key\"\nrepository = \"{repository}\"\n{more}\n"
        );
        let config = room.join("restante.toml");
        fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap().to_owned();
        let key = room.join("tbr.key");
        let made =
            [PROGRAM, "keys", "generate", "--domain", domain, "--selector", "k1", "--out", key.to_str().unwrap()];
        host.run(&made).unwrap();
        for user in ["alice", "bob"] {
            let account = [PROGRAM, "--config", &config, "accounts", "add", &format!("{user}@{domain}")];
            host.run_with_input(&account, b"secret\n").unwrap();
        }
        let (v4, v6) = (host.ipv4(), host.ipv6());
        let records = [
            Record::Host(repository.clone(), v4, v6),
            Record::Txt(format!("_tbr.{domain}"), format!("v=TBR1; repo={repository}")),
            Record::Mx(domain.to_owned(), 10, name),
        ];
        sandbox.publish(&records).unwrap();
        let mut process = host.spawn("restante", &[PROGRAM, "--config", &config, "serve"]).unwrap();
        for port in [25, 443] {
            host.wait_for_port(port, &mut process).unwrap();
        }
        Self { process, host, config }
    }

    /// The mailbox of a user.
    pub(crate) fn maildir(&self, user: &str) -> Maildir {
        Maildir::new(self.host.room().join("mail").join(user))
    }

    /// Runs a command against the server; its JSON.
    pub(crate) fn json(&self, arguments: &[&str], input: &[u8]) -> Value {
        let all = [&[PROGRAM, "--config", &self.config, "--json"], arguments].concat();
        serde_json::from_str(&self.host.run_with_input(&all, input).unwrap()).unwrap()
    }

    /// Hands in a message; its queue id.
    pub(crate) fn send(&self, from: &str, to: &str, message: &[u8]) -> String {
        self.json(&["send", "-i", "-f", from, to], message)["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the only recipient of a message has reached a state, and returns the trace.
    pub(crate) fn wait_for_state(&self, id: &str, state: &str) -> Value {
        let look = || {
            let trace = self.json(&["trace", id], b"");
            (trace["entries"][0]["recipients"][0]["state"] == state).then_some(trace)
        };
        wait::until(&format!("message {id} to be {state}"), wait::LONG, look)
            .unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.json(&["trace", id], b""), self.process.log()))
    }

    /// Everything that it has written to its log.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}
