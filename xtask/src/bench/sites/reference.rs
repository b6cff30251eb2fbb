//! Restante at both ends: what waits is asked for and fetched by reference.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::Result;
use testbed::Host;
use testbed::peers::PartTime;

use super::Contender;
use crate::bench::under_test::program;

pub(super) struct Ours {
    world: PartTime,
    hook: Option<Child>,
}

impl Ours {
    pub(super) fn start() -> Result<Self> {
        let world = PartTime::start(&program("restante")?, |name, config| match name {
            // As docs/offline.md says for slow links.
            "site" => config.with("transfer", "max_retrievals_per_domain", "1"),
            _ => config,
        })?;
        Ok(Self { world, hook: None })
    }

    fn end_hook(&mut self) -> Result<()> {
        if let Some(mut hook) = self.hook.take() {
            hook.kill()?;
            hook.wait()?;
        }
        Ok(())
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
        let sent: Vec<String> =
            mail.iter().map(|message| self.world.send("bob@site.example", message)).collect::<Result<_>>()?;
        sent.iter().try_for_each(|id| self.world.until_kept(id))
    }

    fn link_is_up(&mut self) -> Result<()> {
        self.end_hook()?;
        let mut command = self.world.site.command(&["link", "up"]);
        self.hook = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        Ok(())
    }

    fn maildir(&self) -> PathBuf {
        self.world.site.maildir("bob@site.example").path().to_owned()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // Its host ends it if this fails.
        let _ = self.end_hook();
    }
}
