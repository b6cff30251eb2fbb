//! A connection whose roles are turned over (RFC 2645): who has opened it is the server from now on.

use std::io;
use std::net::SocketAddr;

use crate::wire::Stream;

/// Such a connection, in clear or in TLS, before the new server's greeting.
pub struct Turned {
    pub(crate) stream: Stream,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Turned {
    pub(crate) fn new(stream: Stream) -> io::Result<Self> {
        let (peer, local) = stream.addresses()?;
        Ok(Self { stream, peer, local })
    }

    /// The other side.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our side.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Its TLS: version and cipher suite.
    pub fn tls(&self) -> Option<String> {
        self.stream.tls()
    }
}
