//! Source distributions from the Python package index: test suites and independent implementations to compare with.
//!
//! Fetched by pip and unpacked beside the build, not installed. What is done with them is the test's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::packages::{cache, lock, run};

/// A source distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdist {
    /// The SPF implementation that carries the test suite of RFC 7208.
    Pyspf,
    /// DKIM and ARC.
    Dkimpy,
}

impl Sdist {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Pyspf, Self::Dkimpy];

    /// Its name and version, as its folder is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pyspf => "pyspf-2.0.14",
            Self::Dkimpy => "dkimpy-1.1.8",
        }
    }

    /// The folder with its files, fetched first if need be.
    ///
    /// # Errors
    /// When it cannot be had or unpacked.
    pub fn unpacked(self) -> Result<PathBuf> {
        let home = cache().join("pypi");
        let folder = home.join(self.name());
        if !folder.exists() {
            let _lock = lock()?;
            if !folder.exists() {
                fs::create_dir_all(&home)?;
                self.fetch(&home).with_context(|| format!("the source distribution {}", self.name()))?;
            }
        }
        Ok(folder)
    }

    fn fetch(self, home: &std::path::Path) -> Result<()> {
        let partial = tempfile::tempdir_in(home)?;
        let wanted = self.name().replacen('-', "==", 1);
        let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest"];
        run(Command::new("python3").args(pip).arg(partial.path()).arg(wanted))?;
        let archive = partial.path().join(format!("{}.tar.gz", self.name()));
        ensure!(archive.exists(), "pip downloaded something else");
        run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(partial.path()))?;
        fs::rename(partial.path().join(self.name()), home.join(self.name()))?;
        Ok(())
    }
}
