//! Listening sockets: taken over from the service manager where it has opened them (`LISTEN_FDS`), or bound here.
//!
//! With sockets of the service manager the server needs no right to bind low ports, and nobody is refused while it
//! restarts.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The sockets that this process was started with.
pub(crate) struct Sockets {
    inherited: Vec<(SocketAddr, StdListener)>,
}

impl Sockets {
    /// Takes every TCP socket that was handed over; a second call finds none.
    ///
    /// # Errors
    /// What was handed over is no listening TCP socket.
    pub(crate) fn from_environment() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        let mut inherited = Vec::new();
        for number in 0..handed.len() {
            if let Some(listener) = handed.take_tcp_listener(number)? {
                inherited.push((listener.local_addr()?, listener));
            }
        }
        Ok(Self { inherited })
    }

    /// The socket that was handed over for this address, or a new one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) fn listen(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let Some(place) = self.inherited.iter().position(|(of, _)| *of == address) else { return bind(address) };
        let (_, listener) = self.inherited.swap_remove(place);
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    /// Addresses of sockets that nobody asked for.
    pub(crate) fn unused(&self) -> Vec<SocketAddr> {
        self.inherited.iter().map(|(address, _)| *address).collect()
    }
}

/// `[::]` is IPv6 alone, so that it stands beside `0.0.0.0` whatever the system's default is.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if address.is_ipv6() {
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    // A restarted server does not wait for the last connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_handed_over_is_taken_once_for_its_address() {
        let handed = StdListener::bind("127.0.0.1:0").unwrap();
        let (address, other) = (handed.local_addr().unwrap(), StdListener::bind("127.0.0.1:0").unwrap());
        let unasked = other.local_addr().unwrap();
        let mut sockets = Sockets { inherited: vec![(unasked, other), (address, handed)] };
        // The address is in use by the socket itself: it can only be that one.
        let taken = sockets.listen(address).unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        assert_eq!(sockets.listen(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(sockets.unused(), [unasked]);
        let fresh = sockets.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(fresh.local_addr().unwrap().port(), 0);
    }
}
