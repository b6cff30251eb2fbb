//! Postfix at both ends: what waits is deferred, and asked for by ETRN (RFC 1985).

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use testbed::peers::{MailServer, Site};
use testbed::{Host, Sandbox, wait};

use super::Contender;

pub(super) struct Etrn {
    site: MailServer,
    custodian: MailServer,
    _sandbox: Sandbox,
}

impl Etrn {
    pub(super) fn start() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let server = |name: &str, domains: &[&str]| {
            // One connection at a time, as on our side.
            Site::new(name, domains)
                .stock_timers()
                .line("message_size_limit = 50000000")
                .line("smtp_destination_concurrency_limit = 1")
                .line("inet_protocols = ipv4")
        };
        let site = MailServer::postfix(&sandbox, &server("mx.site.example", &["site.example"]))?;
        let custodian = server("mx.cust.example", &[]).line("relay_domains = site.example");
        let custodian = custodian.line("relay_destination_concurrency_limit = 1");
        let custodian = MailServer::postfix(&sandbox, &custodian)?;
        Ok(Self { site, custodian, _sandbox: sandbox })
    }
}

impl Contender for Etrn {
    fn site(&self) -> &Host {
        self.site.host()
    }

    fn far(&self) -> &Host {
        self.custodian.host()
    }

    fn put(&mut self, mail: &[Vec<u8>]) -> Result<()> {
        for message in mail {
            self.custodian.inject("alice@a.example", &["bob@site.example"], message)?;
        }
        let queued = || {
            let listed = self.custodian.host().run(&["postqueue", "-p"]).ok()?;
            let waiting = listed.lines().filter(|line| line.contains("alice@a.example")).count();
            let active = listed.lines().any(|line| line.split_whitespace().next().is_some_and(|id| id.ends_with('*')));
            (waiting == mail.len() && !active).then_some(())
        };
        wait::until("all to be deferred", Duration::from_secs(60), queued)
    }

    fn link_is_up(&mut self) -> Result<()> {
        let mut connection = self.site().connect((self.far().ipv4(), 25))?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut answered = Vec::new();
        for line in ["", "EHLO mx.site.example\r\n", "ETRN site.example\r\n", "QUIT\r\n"] {
            connection.write_all(line.as_bytes())?;
            let mut reply = [0; 4096];
            let length = connection.read(&mut reply)?;
            answered.extend_from_slice(&reply[..length]);
        }
        let answered = String::from_utf8_lossy(&answered).into_owned();
        if !answered.contains("250 Queuing started") {
            bail!("ETRN is not taken:\n{answered}");
        }
        Ok(())
    }

    fn maildir(&self) -> PathBuf {
        self.site.maildir("bob").path().to_owned()
    }
}
