//! What users of a site send, to the custodian: Restante by upload (TBR §7.4), Postfix by SMTP to its relay host, flushed when the link
//! comes up.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use testbed::peers::{MailServer, PartTime, Site};
use testbed::{Host, Sandbox, wait};

use super::Contender;
use super::reference::Hook;
use crate::bench::under_test::program;

/// Its mailbox is at the custodian: when a message is readable there, it has arrived.
const TO: &str = "alice@cust.example";
const FROM: &str = "bob@site.example";

pub(super) struct Ours {
    hook: Hook,
    world: PartTime,
}

impl Ours {
    pub(super) fn start() -> Result<Self> {
        let relay = "[[relay]]\nname = \"custodian\"\ncustodian = \"tbr.site.example\"\n";
        let world = PartTime::start(&program("restante")?, |name, config| match name {
            // One at a time, as docs/offline.md says for slow links; and nothing is tried before the hook.
            "site" => config
                .tables(relay)
                .with("", "smart_host", "\"custodian\"")
                .with("transfer", "max_retrievals_per_domain", "1")
                .with("queue", "retry_first", "\"10m\"")
                .with("queue", "retry_longest", "\"10m\""),
            _ => config,
        })?;
        Ok(Self { hook: Hook::default(), world })
    }
}

impl Contender for Ours {
    fn site(&self) -> &Host {
        self.world.site.host()
    }

    fn far(&self) -> &Host {
        self.world.custodian.host()
    }

    fn put(&mut self, mail: &[Vec<u8>]) -> Result<()> {
        mail.iter().try_for_each(|message| self.world.site.send(FROM, &[TO], &from_bob(message)).map(drop))
    }

    fn link_is_up(&mut self) -> Result<()> {
        self.hook.begin(self.world.site.command(&["link", "up"]))
    }

    fn maildir(&self) -> PathBuf {
        self.world.custodian.maildir(TO).path().to_owned()
    }
}

pub(super) struct Relayed {
    site: MailServer,
    custodian: MailServer,
    _sandbox: Sandbox,
}

impl Relayed {
    pub(super) fn start() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let server = |name: &str, domain: &str| {
            Site::new(name, &[domain])
                .stock_timers()
                .line("message_size_limit = 50000000")
                .line("inet_protocols = ipv4")
        };
        let custodian = MailServer::postfix(&sandbox, &server("mx.cust.example", "cust.example"))?;
        let site = server("mx.site.example", "site.example").relay("mx.cust.example", 25);
        // One connection at a time, as on our side.
        let site = MailServer::postfix(&sandbox, &site.line("smtp_destination_concurrency_limit = 1"))?;
        Ok(Self { site, custodian, _sandbox: sandbox })
    }
}

impl Contender for Relayed {
    fn site(&self) -> &Host {
        self.site.host()
    }

    fn far(&self) -> &Host {
        self.custodian.host()
    }

    fn put(&mut self, mail: &[Vec<u8>]) -> Result<()> {
        mail.iter().try_for_each(|message| self.site.inject(FROM, &[TO], &from_bob(message)))?;
        let queued = || {
            let listed = self.site.host().run(&["postqueue", "-p"]).ok()?;
            let waiting = listed.lines().filter(|line| line.contains(FROM)).count();
            let active = listed.lines().any(|line| line.split_whitespace().next().is_some_and(|id| id.ends_with('*')));
            (waiting == mail.len() && !active).then_some(())
        };
        wait::until("all to be deferred", Duration::from_secs(60), queued)
    }

    fn link_is_up(&mut self) -> Result<()> {
        self.site.host().run(&["postqueue", "-f"]).map(drop)
    }

    fn maildir(&self) -> PathBuf {
        self.custodian.maildir("alice").path().to_owned()
    }
}

/// A custodian sends on what its site's own users have written only.
fn from_bob(message: &[u8]) -> Vec<u8> {
    let rest = message.strip_prefix(b"From: Alice <alice@a.example>").unwrap_or(message);
    [b"From: Bob <bob@site.example>", rest].concat()
}
