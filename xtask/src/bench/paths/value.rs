//! Postfixes: each takes the whole message, and sends it on to where an alias leads.

use std::path::PathBuf;

use anyhow::{Context, Result};
use testbed::peers::{MailServer, Site};
use testbed::{Host, PackageSet, Sandbox};

use super::{Chain, domain};

pub(super) struct Postfixes {
    servers: Vec<MailServer>,
    to: String,
    _sandbox: Sandbox,
}

impl Postfixes {
    pub(super) fn start(length: usize) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let server = |number: usize| {
            let (here, next) = (domain(number), domain(number + 1));
            let name = if number + 2 == length { "bob" } else { "sales" };
            let alias = format!("virtual_alias_maps = inline:{{{{sales@{here}={name}@{next}}}}}");
            Site::new(&format!("mx.{here}"), &[&here]).packages(PackageSet::Firewall).line(&alias)
        };
        let servers: Vec<MailServer> =
            (0..length).map(|number| MailServer::postfix(&sandbox, &server(number))).collect::<Result<_>>()?;
        let to = if length == 2 { "bob" } else { "sales" };
        Ok(Self { servers, to: format!("{to}@{}", domain(1)), _sandbox: sandbox })
    }

    fn first(&mut self) -> Result<&mut MailServer> {
        self.servers.first_mut().context("a chain without servers")
    }
}

impl Chain for Postfixes {
    fn hosts(&self) -> Vec<&Host> {
        self.servers.iter().map(MailServer::host).collect()
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        self.servers[0].inject(&format!("alice@{}", domain(0)), &[&self.to], message)
    }

    fn switch_off(&mut self) -> Result<()> {
        self.first()?.kill()
    }

    fn switch_on(&mut self) -> Result<()> {
        self.first()?.run_again()
    }

    fn maildir(&self) -> PathBuf {
        self.servers[self.servers.len() - 1].maildir("bob").path().to_owned()
    }
}
