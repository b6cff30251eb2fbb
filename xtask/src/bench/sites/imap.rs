//! Dovecot at the far end, mbsync at the site: whole messages are copied by IMAP.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::PathBuf;

use anyhow::Result;
use testbed::peers::Dovecot;
use testbed::{Host, PackageSet, Process, Sandbox};

use super::Contender;

pub(super) struct Imap {
    dovecot: Dovecot,
    site: Host,
    hook: Option<Process>,
    put: usize,
    _sandbox: Sandbox,
}

impl Imap {
    pub(super) fn start() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let dovecot = Dovecot::start(&sandbox, "imap.cust.example", &[("bob", "secret")])?;
        let site = sandbox.host("mx.site.example", &[PackageSet::Isync])?;
        let room = site.room().display();
        // Debian's mbsync says SSL where newer ones say TLS, and takes both.
        let configuration = format!(
            "IMAPAccount far\nHost {}\nUser bob\nPass secret\nSSLType STARTTLS\nCertificateFile {}\n\n\
             IMAPStore far\nAccount far\n\nMaildirStore near\nPath {room}/near/\nInbox {room}/near/INBOX\n\n\
             Channel mail\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSync Pull\nSyncState {room}/state/\n",
            dovecot.host().name(),
            sandbox.ca().certificate().display(),
        );
        fs::create_dir_all(site.room().join("near"))?;
        fs::create_dir_all(site.room().join("state"))?;
        fs::write(site.room().join("mbsyncrc"), configuration)?;
        Ok(Self { dovecot, site, hook: None, put: 0, _sandbox: sandbox })
    }
}

impl Contender for Imap {
    fn site(&self) -> &Host {
        &self.site
    }

    fn far(&self) -> &Host {
        self.dovecot.host()
    }

    fn put(&mut self, mail: &[Vec<u8>]) -> Result<()> {
        let maildir = self.dovecot.maildir("bob").path().to_owned();
        let owner = fs::metadata(self.dovecot.host().room().join("mail"))?;
        let (user, group) = (Some(owner.uid()), Some(owner.gid()));
        for folder in [&maildir, &maildir.join("tmp"), &maildir.join("new"), &maildir.join("cur")] {
            fs::create_dir_all(folder)?;
            chown(folder, user, group)?;
        }
        for message in mail {
            self.put += 1;
            let file = maildir.join(format!("new/{}.put.far", 1_700_000_000 + self.put));
            fs::write(&file, message)?;
            chown(&file, user, group)?;
        }
        Ok(())
    }

    fn link_is_up(&mut self) -> Result<()> {
        // One that hangs is ended.
        self.hook = None;
        let file = self.site.room().join("mbsyncrc").display().to_string();
        let mut command = self.site.command("mbsync");
        command.args(["-c", &file, "-a"]).env("HOME", self.site.room());
        self.hook = Some(self.site.spawn_command("mbsync", command)?);
        Ok(())
    }

    fn maildir(&self) -> PathBuf {
        self.site.room().join("near/INBOX")
    }
}
