//! Whether a repository can be reached: for people who want to know whether mail of a domain could be fetched.
//!
//! Connects as a retrieval would, to the same addresses and with the same demand on the certificate, and asks nothing.

use std::net::IpAddr;

use mail::Domain;

use super::Client;
use super::connect::{ConnectError, Errand};

/// A host that a retrieval could go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The address that answered.
    pub address: IpAddr,
    /// The version of TLS.
    pub tls: &'static str,
    /// Do TLSA records alone vouch for the certificate (DANE)? Otherwise a trusted CA does.
    pub by_dane: bool,
}

/// Why no retrieval could go there now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Unreached {
    /// One plain sentence.
    pub text: String,
    /// Where it ends.
    pub obstacle: Obstacle,
}

/// Where a connection comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Its name, or its TLSA records, cannot be looked up.
    Lookup,
    /// It has no address.
    NoAddress,
    /// It has only addresses that may not be connected to.
    Forbidden,
    /// Nobody answers there.
    Silence,
    /// TLS fails.
    Tls,
    /// Its certificate does not count.
    Certificate,
}

impl Client {
    /// Connects to a repository, and closes the connection. Whether it may be connected to is judged before.
    ///
    /// # Errors
    /// [`Unreached`].
    pub async fn reach(&self, host: &Domain) -> Result<Reached, Unreached> {
        let taken = self.shared().pool.connect(host, Errand::Other).await;
        let taken = taken.map_err(|error| Unreached { obstacle: obstacle(&error), text: error.to_string() })?;
        Ok(taken.connection.met)
    }
}

fn obstacle(error: &ConnectError) -> Obstacle {
    match error {
        ConnectError::Lookup(..) => Obstacle::Lookup,
        ConnectError::NoAddress(_) => Obstacle::NoAddress,
        ConnectError::Forbidden(_) => Obstacle::Forbidden,
        ConnectError::LeftAlone(_) | ConnectError::Failed(..) => Obstacle::Silence,
        ConnectError::Tls(..) => Obstacle::Tls,
        ConnectError::Certificate(..) => Obstacle::Certificate,
    }
}
