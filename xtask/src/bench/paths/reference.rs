//! Restantes: the first offers by reference, those in the middle relay in the three ways (TBR §7).

use std::path::PathBuf;

use anyhow::{Context, Result};
use testbed::peers::{Restante, RestanteConfig};
use testbed::{Host, PackageSet, Sandbox};

use super::{Chain, domain};
use crate::bench::under_test::program;

pub(super) struct Ours {
    servers: Vec<Restante>,
    to: String,
    _sandbox: Sandbox,
}

impl Ours {
    pub(super) fn start(length: usize) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let program = program("restante")?;
        let server = |number: usize| {
            let (here, next) = (domain(number), domain(number + 1));
            let name = if number + 2 == length { "bob" } else { "sales" };
            let config = RestanteConfig::new(&program, &format!("mx.{here}"), &[&here]).users(&["alice", "bob"]);
            let config = config.packages(PackageSet::Firewall);
            // The last before the mailbox sends by value, the one before delegates where the one before that lets it; all others take custody.
            let config = match length - number {
                2 if number > 0 => config.with("transfer", "policy", "\"never\""),
                3 if number > 1 => config.with("transfer", "delegation", "\"use\""),
                4 if number > 0 => config.with("transfer", "delegation", "\"accept\""),
                _ => config,
            };
            config.with("domain", "aliases", &format!("{{ sales = [\"{name}@{next}\"] }}"))
        };
        let servers: Vec<Restante> =
            (0..length).map(|number| Restante::start(&sandbox, server(number))).collect::<Result<_>>()?;
        let to = if length == 2 { "bob" } else { "sales" };
        Ok(Self { servers, to: format!("{to}@{}", domain(1)), _sandbox: sandbox })
    }

    fn first(&mut self) -> Result<&mut Restante> {
        self.servers.first_mut().context("a chain without servers")
    }
}

impl Chain for Ours {
    fn hosts(&self) -> Vec<&Host> {
        self.servers.iter().map(Restante::host).collect()
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        self.servers[0].send(&format!("alice@{}", domain(0)), &[&self.to], message).map(drop)
    }

    fn switch_off(&mut self) -> Result<()> {
        self.first()?.kill()
    }

    fn switch_on(&mut self) -> Result<()> {
        self.first()?.run()
    }

    fn maildir(&self) -> PathBuf {
        let last = self.servers.len() - 1;
        self.servers[last].maildir(&format!("bob@{}", domain(last))).path().to_owned()
    }
}
