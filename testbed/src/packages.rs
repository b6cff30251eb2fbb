//! Debian packages as folders: downloaded with what they depend on, unpacked beside the build, not installed.
//!
//! Mail servers conflict with each other as packages; as folders they do not. Each set is laid over the machine's own
//! `/usr`, `/etc` and `/var` in the mount namespace of the host that uses it, which is the work of [`crate::Host`].

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Packages that are used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageSet {
    /// What every host has: `ip`, `dnsmasq`, `swaks`, `curl`, `msmtp`.
    Tools,
    /// nft, to lose packets.
    Firewall,
    /// Postfix, with smtp-source and smtp-sink.
    Postfix,
    /// Exim 4.
    Exim,
    /// OpenSMTPD.
    OpenSmtpd,
    /// Dovecot with LMTP and IMAP.
    Dovecot,
    /// mbsync, which copies mailboxes by IMAP.
    Isync,
    /// mutt, which reads Maildirs.
    Mutt,
    /// nginx, to measure against.
    Nginx,
    /// Knot (signs zones) and unbound (validates).
    Dnssec,
    /// `dkimsign` and `dkimverify`, and what ARC needs.
    Dkim,
    /// OpenDKIM, and faketime, which lets it sign at another time.
    OpenDkim,
    /// libmilter, from Python.
    Milter,
    /// rspamd.
    Rspamd,
    /// fetchmail, which asks by ETRN.
    Fetchmail,
    /// Pebble, the ACME server that Let's Encrypt tests with.
    Pebble,
    /// systemd's tools for units and sockets; it is not started.
    Systemd,
}

impl PackageSet {
    /// Every set.
    pub const ALL: &[Self] = &[
        Self::Tools,
        Self::Firewall,
        Self::Postfix,
        Self::Exim,
        Self::OpenSmtpd,
        Self::Dovecot,
        Self::Isync,
        Self::Mutt,
        Self::Nginx,
        Self::Dnssec,
        Self::Dkim,
        Self::OpenDkim,
        Self::Milter,
        Self::Rspamd,
        Self::Fetchmail,
        Self::Pebble,
        Self::Systemd,
    ];

    /// The name of the set's folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Firewall => "firewall",
            Self::Postfix => "postfix",
            Self::Exim => "exim",
            Self::OpenSmtpd => "opensmtpd",
            Self::Dovecot => "dovecot",
            Self::Isync => "isync",
            Self::Mutt => "mutt",
            Self::Nginx => "nginx",
            Self::Dnssec => "dnssec",
            Self::Dkim => "dkim",
            Self::OpenDkim => "opendkim",
            Self::Milter => "milter",
            Self::Rspamd => "rspamd",
            Self::Fetchmail => "fetchmail",
            Self::Pebble => "pebble",
            Self::Systemd => "systemd",
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Tools => &["iproute2", "dnsmasq-base", "swaks", "libnet-ssleay-perl", "curl", "msmtp"],
            Self::Firewall => &["nftables"],
            Self::Postfix => &["postfix"],
            Self::Exim => &["exim4-daemon-light"],
            Self::OpenSmtpd => &["opensmtpd"],
            Self::Dovecot => &["dovecot-core", "dovecot-lmtpd", "dovecot-imapd"],
            Self::Isync => &["isync"],
            Self::Mutt => &["mutt"],
            Self::Nginx => &["nginx-light"],
            Self::Dnssec => &["knot", "knot-dnsutils", "knot-dnssecutils", "unbound"],
            Self::Dkim => &["python3-dkim", "python3-authres"],
            Self::OpenDkim => &["opendkim", "faketime"],
            Self::Milter => &["python3-milter"],
            Self::Rspamd => &["rspamd"],
            Self::Fetchmail => &["fetchmail"],
            Self::Pebble => &["pebble"],
            Self::Systemd => &["systemd", "libsystemd-shared"],
        }
    }

    /// The folder with the unpacked set, fetched first if need be.
    ///
    /// # Errors
    /// When the packages cannot be had or unpacked.
    pub fn unpacked(self) -> Result<PathBuf> {
        let home = cache().join(self.name());
        let stamp = home.join("unpacked");
        let wanted = self.packages().join("\n");
        let is_ready = || fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
        if !is_ready() {
            let _lock = lock()?;
            if !is_ready() {
                self.fetch(&home).with_context(|| format!("the peer packages \"{}\"", self.name()))?;
                fs::write(&stamp, &wanted)?;
            }
        }
        Ok(home.join("root"))
    }

    fn fetch(self, home: &Path) -> Result<()> {
        ensure!(Path::new("/usr/bin/apt-get").exists(), "apt-get is needed: the peers come from Debian's packages");
        if home.exists() {
            fs::remove_dir_all(home)?;
        }
        let archives = home.join("archives");
        fs::create_dir_all(archives.join("partial"))?;
        self.download(&archives)?;
        unpack(&archives, &home.join("root"))
    }

    /// Downloads; an old package index is brought up to date once before giving up.
    fn download(self, archives: &Path) -> Result<()> {
        let attempt = || -> Result<()> {
            run(Command::new("apt-get")
                .args(["install", "--download-only", "--reinstall", "--yes"])
                .args(["--no-install-recommends", "-o"])
                .arg(format!("Dir::Cache::archives={}", archives.display()))
                .args(["-o", "APT::Sandbox::User=root"])
                .args(self.packages()))
        };
        if attempt().is_ok() {
            return Ok(());
        }
        // Its exit code also complains of package sources that have nothing to do with this.
        let update = run(Command::new("apt-get").arg("update"));
        attempt().with_context(|| match update {
            Ok(()) => "apt-get could not download them".to_owned(),
            Err(why) => format!("apt-get could not download them; before that: {why:#}"),
        })
    }
}

/// Where the sets are kept: `peers` in the build's target folder.
pub(crate) fn cache() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| own.parent().unwrap_or(own).join("target"), PathBuf::from);
    target.join("peers")
}

/// One fetch at a time, among all test processes.
pub(crate) fn lock() -> Result<File> {
    fs::create_dir_all(cache())?;
    let file = File::create(cache().join("lock"))?;
    file.lock()?;
    Ok(file)
}

fn unpack(archives: &Path, root: &Path) -> Result<()> {
    // As on the machine itself, or files of `/lib` would be missing from `/usr/lib`.
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    for name in ["etc", "var"] {
        fs::create_dir_all(root.join(name))?;
    }
    let mut count = 0;
    for entry in fs::read_dir(archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(root))?;
            count += 1;
        }
    }
    ensure!(count > 0, "apt-get downloaded nothing");
    Ok(())
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.env("DEBIAN_FRONTEND", "noninteractive").output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
