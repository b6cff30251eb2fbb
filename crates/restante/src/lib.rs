//! Restante: a mail server that sends messages by reference (TBR) to those who understand it, and by value to all others.
//!
//! This library is everything that the binary does: configuration, command line, and the edge where the protocol and
//! the queue, both pure, meet sockets and disks.

pub mod accounts;
pub mod admin;
pub mod cli;
pub mod config;
mod deliver;
pub mod keys;
mod receive;
mod repository;
pub mod routing;
mod runtime;
pub mod server;
mod settings;
pub mod verify;

pub use server::Server;
