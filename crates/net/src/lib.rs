//! The only owner of sockets: SMTP drivers, TLS, DNS, the repository's HTTPS server, retrieval, discovery.
//!
//! Protocols and decisions are elsewhere (`smtp`, `reference`, `queue`), objects and rows too (`store`): callers hand
//! in traits and streams.

pub mod acme;
pub mod authentication;
pub mod discovery;
pub mod dns;
pub mod lookup;
pub mod milter;
pub mod mta_sts;
mod peers;
pub mod repository;
pub mod retrieval;
pub mod sasl;
pub mod smtp_client;
pub mod smtp_server;
pub mod tls;
pub mod turned;
mod wire;

#[cfg(test)]
mod loopback;
#[cfg(test)]
mod testing;
