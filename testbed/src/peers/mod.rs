//! The real peers: how each is configured, started and read from, one file each.
//!
//! They leave to [`crate::Host`] everything that concerns isolation and the end of processes.

mod postfix;

pub mod clients;

pub use postfix::{Postfix, PostfixConfig};
