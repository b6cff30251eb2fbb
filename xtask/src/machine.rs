//! Makes a fresh Debian 12 machine ready for the tests: programs that are missing, then the real peers.
//!
//! Rust with clippy and rustfmt and a C compiler must be there: without them this would not run. The peers are unpacked beside the build (crate `testbed`), only
//! what is missing of Debian's base is installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::run;

/// Programs that the tests run on the machine itself, and the Debian package of each.
const PROGRAMS: [(&str, &str); 7] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("hostname", "hostname"),
    ("git", "git"),
    ("dpkg-deb", "dpkg"),
];

/// Installs what is missing and fetches the peers.
///
/// # Errors
/// When not on Debian, not root, or something cannot be had; the message says what to do.
pub(crate) fn set_up() -> Result<()> {
    ensure!(
        is_program("apt-get"),
        "the tests talk to real mail servers from Debian 12's packages, and apt-get is not here: run them on Debian 12"
    );
    if !is_root()? {
        bail!(
            "the tests must run as root: they make network and mount namespaces for the real mail servers, and mount a file system that \
             loses power. Nothing but missing programs is installed; run them in a virtual machine if in doubt"
        );
    }
    ensure!(
        Path::new("/dev/fuse").exists(),
        "/dev/fuse is missing: load the kernel's FUSE module (modprobe fuse) or run with a kernel that has it"
    );
    install_missing()?;
    run::cargo(&["run", "--release", "--quiet", "--package", "testbed", "--bin", "fetch-peers"])
}

fn install_missing() -> Result<()> {
    let packages: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !is_program(program)).map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    println!("installing {}", packages.join(" "));
    // A package source that has nothing to do with this may fail; the installation tells.
    if let Err(why) = run::succeed(Command::new("apt-get").arg("update")) {
        println!("{why:#}");
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(&packages);
    run::succeed(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn is_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).exists()))
}

fn is_root() -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}
