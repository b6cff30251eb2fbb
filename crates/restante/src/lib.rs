//! Restante: a mail server that sends messages by reference (TBR) to those who understand it, and by value to all others.
//!
//! This library is everything that the binary does: configuration, command line, and the edge where the protocol and
//! the queue, both pure, meet sockets and disks.

pub mod accounts;
pub mod acme;
pub mod admin;
mod budgets;
pub mod bundle;
pub mod cli;
pub mod compose;
pub mod config;
mod confinement;
pub mod custodians;
mod deliver;
mod fates;
mod kept;
pub mod keys;
mod letters;
mod live;
mod outbox;
mod private;
mod readers;
pub mod receive;
pub mod records;
pub mod reports;
mod repository;
mod reputation;
mod request_keys;
pub mod routing;
mod runtime;
pub mod server;
mod settings;
mod sockets;
mod uploads;
pub mod verify;
mod waiting;

pub use server::Server;
