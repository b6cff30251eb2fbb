//! http-01 (RFC 8555 §8.3): an authority asks a name's port 80 for a token's key authorization. Served in clear, to everybody, and
//! nothing else is.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::challenges::Challenges;

/// Where tokens are (RFC 8555 §8.3).
const PATH: &str = "/.well-known/acme-challenge/";
/// Most connections at a time; further ones wait.
const CONNECTIONS: usize = 64;
/// Longest that one may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest header.
const MAX_HEADER: usize = 16 * 1024;

/// Answers until `shutdown`.
pub async fn serve(listener: TcpListener, challenges: Challenges, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let accepting = async {
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, most likely: others have to end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let challenges = challenges.clone();
            tokio::spawn(async move {
                let service =
                    service_fn(|request| std::future::ready(Ok::<_, Infallible>(respond(&challenges, &request))));
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).keep_alive(false).max_buf_size(MAX_HEADER);
                // Whoever asks badly gets nothing.
                let _ = timeout(PATIENCE, builder.serve_connection(TokioIo::new(stream), service)).await;
                drop(permit);
            });
        }
    };
    shutdown.run_until_cancelled(accepting).await;
}

fn respond<B>(challenges: &Challenges, request: &Request<B>) -> Response<Full<Bytes>> {
    let token = request.uri().path().strip_prefix(PATH).filter(|_| request.method() == Method::GET);
    let found = token.and_then(|token| challenges.text(token));
    let mut response = Response::new(Full::new(Bytes::from(found.clone().unwrap_or_default())));
    if found.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}
