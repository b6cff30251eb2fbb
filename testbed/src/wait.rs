//! Waiting for observed state, with a deadline and a message that says what was missing.
//!
//! It leaves to the caller how the state is observed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Enough for anything that takes seconds on a loaded machine.
pub const LONG: Duration = Duration::from_secs(120);

/// Looks until `probe` finds something; an error that names `what` once `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {limit:?} in vain for {what}");
        }
        thread::sleep(PAUSE);
    }
}
