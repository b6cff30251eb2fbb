//! From a host name to an open HTTP connection: resolve, filter, connect, TLS, once, with no second look at the name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mail::Domain;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::Config;
use super::address::{is_public, is_unicast};
use crate::lookup::Lookup;

/// Most addresses of one host that are tried.
const MAX_ADDRESSES: usize = 6;
/// Largest response header.
const MAX_HEADER: usize = 32 * 1024;
/// Most fields of a response header.
const MAX_FIELDS: usize = 64;
/// Most octets read ahead of the reader.
const READ_BUFFER: usize = 256 * 1024;

/// Opens connections.
pub(super) struct Connector {
    tls: TlsConnector,
    lookup: Arc<dyn Lookup>,
    port: u16,
    allow_private: bool,
    connect_time: Duration,
}

/// An open connection, pinned to the address that it was made to. Dropping it closes it.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    pub(super) opened: Instant,
    _driver: AbortOnDropHandle<()>,
}

/// Why there is no connection. All of it may be better later.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the name {0} cannot be looked up: {1}")]
    Lookup(Domain, String),
    #[error("{0} has no address")]
    NoAddress(Domain),
    #[error("{0} has only addresses that may not be connected to")]
    Forbidden(Domain),
    #[error("no connection to {0}: {1}")]
    Failed(Domain, String),
}

impl Connector {
    pub(super) fn new(tls: Arc<ClientConfig>, lookup: Arc<dyn Lookup>, config: &Config) -> Self {
        let mut tls = ClientConfig::clone(&tls);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let Config { port, allow_private, connect_time, .. } = *config;
        Self { tls: TlsConnector::from(Arc::new(tls)), lookup, port, allow_private, connect_time }
    }

    /// Opens a connection to the first address of the host that answers with a certificate for its name.
    pub(super) async fn connect(&self, host: &Domain) -> Result<Connection, ConnectError> {
        let mut last = ConnectError::NoAddress(host.clone());
        for address in self.addresses(host).await? {
            match self.connect_to(host, address).await {
                Ok(connection) => return Ok(connection),
                Err(text) => last = ConnectError::Failed(host.clone(), text),
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &Domain) -> Result<Vec<IpAddr>, ConnectError> {
        let answer = timeout(self.connect_time, self.lookup.addresses(host)).await;
        let found = match answer {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(ConnectError::Lookup(host.clone(), error.to_string())),
            Err(_) => return Err(ConnectError::Lookup(host.clone(), "no answer in time".to_owned())),
        };
        if found.is_empty() {
            return Err(ConnectError::NoAddress(host.clone()));
        }
        let mut allowed = found;
        allowed.retain(|address| is_public(*address) || (self.allow_private && is_unicast(*address)));
        allowed.truncate(MAX_ADDRESSES);
        if allowed.is_empty() { Err(ConnectError::Forbidden(host.clone())) } else { Ok(allowed) }
    }

    async fn connect_to(&self, host: &Domain, address: IpAddr) -> Result<Connection, String> {
        let stream = timeout(self.connect_time, TcpStream::connect(SocketAddr::new(address, self.port)))
            .await
            .map_err(|_| format!("{address} does not answer"))?
            .map_err(|error| format!("{address}: {error}"))?;
        // Only a hint to the kernel: a failure here changes nothing.
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|error| error.to_string())?;
        let stream = timeout(self.connect_time, self.tls.connect(name, stream))
            .await
            .map_err(|_| format!("{address} does not finish TLS"))?
            .map_err(|error| format!("{address}: {error}"))?;
        self.speak_http(stream).await
    }

    async fn speak_http(&self, stream: TlsStream<TcpStream>) -> Result<Connection, String> {
        let (sender, driver) = http1::Builder::new()
            .max_headers(MAX_FIELDS)
            .max_header_size(MAX_HEADER)
            .max_buf_size(READ_BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // Its errors come out at the request that they break.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok(Connection { sender, opened: Instant::now(), _driver: AbortOnDropHandle::new(driver) })
    }
}
