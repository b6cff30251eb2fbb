//! Fetches and unpacks everything from elsewhere that the tests use, so that no test has to wait for them.

use std::time::Instant;

use anyhow::Result;
use testbed::{PackageSet, Sdist};

fn main() -> Result<()> {
    for set in PackageSet::ALL {
        let start = Instant::now();
        let folder = set.unpacked()?;
        println!("{:<12} {:>6.1} s  {}", set.name(), start.elapsed().as_secs_f64(), folder.display());
    }
    for sdist in Sdist::ALL {
        let start = Instant::now();
        let folder = sdist.unpacked()?;
        println!("{:<12} {:>6.1} s  {}", sdist.name(), start.elapsed().as_secs_f64(), folder.display());
    }
    Ok(())
}
