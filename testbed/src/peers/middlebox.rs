//! A box in the way of SMTP, as some networks have: it hides STARTTLS, so that it can read and change what the client says.
//!
//! It leaves to the test what is changed, and which names lead to it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::Result;

use crate::host::Host;
use crate::sandbox::Sandbox;

/// What the client is shown for `STARTTLS`: a keyword that nobody knows.
const HIDDEN: &[u8; 8] = b"XXXXXXXX";

/// What becomes of one line of the client, line end included.
type Change = fn(Vec<u8>) -> Vec<u8>;

/// A running box.
#[derive(Debug)]
pub struct Middlebox {
    host: Arc<Host>,
}

impl Middlebox {
    /// Starts one on a host of its own: what comes to its port 25 goes on to `server`. It listens when this returns, and ends with
    /// the test process.
    ///
    /// # Errors
    /// When the host cannot be set up.
    pub fn start(sandbox: &Sandbox, name: &str, server: SocketAddr, change: Change) -> Result<Self> {
        let host = Arc::new(sandbox.host(name, &[])?);
        let (listener, inside) = (host.listen(25)?, Arc::clone(&host));
        thread::spawn(move || serve(&listener, &inside, server, change));
        Ok(Self { host })
    }

    /// The machine it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }
}

fn serve(listener: &TcpListener, host: &Host, server: SocketAddr, change: Change) {
    while let Ok((client, _)) = listener.accept() {
        if let Ok(server) = host.connect(server) {
            pass_on(&server, &client, hide);
            pass_on(&client, &server, change);
        }
    }
}

/// Passes lines on in a thread, until either end is closed.
fn pass_on(from: &TcpStream, to: &TcpStream, change: Change) {
    let (Ok(from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|octets| octets > 0) {
            if to.write_all(&change(std::mem::take(&mut line))).is_err() {
                break;
            }
        }
        // Whoever waits at the other end sees it closed; it may be closed already.
        let _ = to.shutdown(Shutdown::Both);
    });
}

fn hide(mut line: Vec<u8>) -> Vec<u8> {
    if line.starts_with(b"250")
        && let Some(at) = line.windows(HIDDEN.len()).position(|part| part == b"STARTTLS")
    {
        line[at..at + HIDDEN.len()].copy_from_slice(HIDDEN);
    }
    line
}
