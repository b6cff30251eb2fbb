//! The simulated world: the real queue of five or thirteen servers over a virtual network, virtual disks and a virtual clock, with
//! everything going wrong that a seed says. It covers the code that could lose mail.
//!
//! SMTP and HTTPS are modelled by what they mean: a transaction arrives, its reply is lost, a claim is answered twice, an upload
//! breaks off.
//! References are really signed and verified. What must hold is in [`judge`]; that the judge is awake is shown by
//! seeding bugs, [`mutation`].

mod bundle;
pub mod chance;
mod delegation;
pub mod disk;
mod edge;
mod http;
pub mod judge;
pub mod mutation;
pub mod network;
mod people;
pub mod scenario;
mod server;
mod site;
mod smtp;
mod stick;
pub mod topology;
mod upload;
mod world;

pub use judge::Violation;
pub use mutation::Mutation;
pub use scenario::Shape;
pub use world::{Options, Summary, run};
