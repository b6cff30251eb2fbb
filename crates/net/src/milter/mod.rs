//! Milters: filters of others (rspamd, OpenDKIM and many more) that are asked about messages, over the protocol of Sendmail's
//! libmilter, version 6.
//!
//! A milter may refuse recipients and messages, have them thrown away, and put header fields on top. It can change nothing else:
//! what was sent stays what it was. What happens to a message without a verdict is for the caller to say.

pub mod content;
pub mod packet;
mod session;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;

pub use packet::{Field, Refusal};
pub use session::{Client, Failure, Session, Tls, Verdict};

/// A connection to a milter, of either kind.
pub type Stream = Either<UnixStream, TcpStream>;

/// Where a milter listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A UNIX socket.
    Unix(PathBuf),
    /// Address and port.
    Tcp(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// A milter that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Milter {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Longest wait for an answer; ten times as long for the verdict on a whole message.
    pub patience: Duration,
}

impl Milter {
    /// Connects, for one message.
    ///
    /// # Errors
    /// When the milter cannot be reached or worked with.
    pub async fn open(&self) -> Result<Session<Stream>, Failure> {
        let connect = async {
            Ok::<_, std::io::Error>(match &self.endpoint {
                Endpoint::Unix(path) => Either::Left(UnixStream::connect(path).await?),
                Endpoint::Tcp(address) => Either::Right(TcpStream::connect(address).await?),
            })
        };
        let stream = timeout(self.patience, connect).await.map_err(|_| Failure::Silence)??;
        if let Either::Right(stream) = &stream {
            // Small packets, each of which waits for the one before.
            stream.set_nodelay(true)?;
        }
        Session::open(stream, self.patience).await
    }
}
