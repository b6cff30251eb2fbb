//! Restante at both ends: what waits is asked for and fetched by reference.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Result;
use testbed::Host;
use testbed::peers::PartTime;

use super::Contender;
use crate::bench::under_test::program;

/// What the site runs when its link comes up; the one before is ended.
#[derive(Default)]
pub(super) struct Hook(Option<Child>);

impl Hook {
    pub(super) fn begin(&mut self, mut command: Command) -> Result<()> {
        self.end()?;
        self.0 = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some(mut hook) = self.0.take() {
            hook.kill()?;
            hook.wait()?;
        }
        Ok(())
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // Its host ends it if this fails.
        let _ = self.end();
    }
}

pub(super) struct Ours {
    hook: Hook,
    world: PartTime,
}

impl Ours {
    pub(super) fn start() -> Result<Self> {
        let world = PartTime::start(&program("restante")?, |_, config| config)?;
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
        let sent: Vec<String> =
            mail.iter().map(|message| self.world.send("bob@site.example", message)).collect::<Result<_>>()?;
        sent.iter().try_for_each(|id| self.world.until_kept(id))
    }

    fn link_is_up(&mut self) -> Result<()> {
        self.hook.begin(self.world.site.command(&["link", "up"]))
    }

    fn maildir(&self) -> PathBuf {
        self.world.site.maildir("bob@site.example").path().to_owned()
    }
}
