//! HTTPS to an authority: one connection for each request, by our own resolver and trust, with limits on all that comes.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use mail::Domain;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::lookup::Lookup;

/// Largest answer, in octets: certificates with their chain are some kilobytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// For one request, connecting included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends requests.
#[derive(Clone)]
pub(super) struct Client {
    lookup: Arc<dyn Lookup>,
    tls: TlsConnector,
}

impl Client {
    pub(super) fn new(lookup: Arc<dyn Lookup>, tls: Arc<ClientConfig>) -> Self {
        Self { lookup, tls: TlsConnector::from(tls) }
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, String> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(|never| never.to_string())?.to_bytes();
        let (host, port) = place(&head.uri)?;
        let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
        head.headers.insert(HOST, HeaderValue::try_from(authority).map_err(|error| error.to_string())?);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse().map_err(|_| "the authority's URL has no good path".to_owned())?;
        let stream = self.connect(&host, port).await?;
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|error| error.to_string())?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| format!("TLS with {host}: {error}"))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| format!("{host}: {error}"))?;
        // Ends with the response; its error is the request's.
        tokio::spawn(connection);
        let response = sender.send_request(Request::from_parts(head, Full::new(body))).await;
        read(&host, response.map_err(|error| format!("{host}: {error}"))?).await
    }

    async fn connect(&self, host: &Domain, port: u16) -> Result<TcpStream, String> {
        let addresses = self.lookup.addresses(host).await.map_err(|error| format!("{host}: {error}"))?;
        let mut last = format!("{host} has no address");
        for address in addresses {
            match TcpStream::connect(SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = format!("{host} [{address}]: {error}"),
            }
        }
        Err(last)
    }
}

async fn read(host: &Domain, response: Response<hyper::body::Incoming>) -> Result<BytesResponse, String> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| format!("{host}: {error}"))?;
    Ok(BytesResponse { parts, body: Box::new(body.to_bytes()) })
}

/// https only, whatever a directory says.
fn place(uri: &Uri) -> Result<(Domain, u16), String> {
    if uri.scheme_str() != Some("https") {
        return Err("the authority names a URL that is not https".to_owned());
    }
    let host = Domain::parse(uri.host().unwrap_or_default()).map_err(|error| error.to_string())?;
    Ok((host, uri.port_u16().unwrap_or(443)))
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async move {
            let answered = timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            answered.map_err(|text| Error::Other(text.into()))
        })
    }
}
