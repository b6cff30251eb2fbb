//! Fetches and unpacks all Debian packages that the tests use, so that no test has to wait for them.

use std::time::Instant;

use anyhow::Result;
use testbed::PackageSet;

fn main() -> Result<()> {
    for set in PackageSet::ALL {
        let start = Instant::now();
        let folder = set.unpacked()?;
        println!("{:<10} {:>6.1} s  {}", set.name(), start.elapsed().as_secs_f64(), folder.display());
    }
    Ok(())
}
