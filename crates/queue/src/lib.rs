//! The queue: who holds custody of which message, what is to be done next, and when.
//!
//! Sans-I/O. [`Node`] takes [`port::Input`]s and the time, and answers with [`port::Action`]s. Every change of a row
//! is a pure function that can be applied again to a newer version of the row; nothing is answered, sent or
//! reported before the ledger has said that the change is durable.

pub mod bundle;
pub mod config;
pub mod custody;
mod desk;
mod engine;
mod flow;
mod jobs;
mod lanes;
pub mod letters;
mod look;
mod node;
mod origin;
pub mod pending;
pub mod port;
mod receiver;
pub mod remembered;
mod report;
mod stats;
pub mod told;
mod work;

pub use config::{Limits, Policy, QueueConfig, ReferenceMode, Retry, Router, Signer, Timers};
pub use node::Node;
pub use port::Entropy;
pub use stats::{Count, Stats};
