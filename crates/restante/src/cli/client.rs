//! The command line's side of the admin API: HTTP/1.1 over a UNIX socket, one connection for each request.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::args::Global;
use super::output::{Exit, Failure};
use crate::admin::api::Problem;
use crate::config::Config;

/// For connecting, and for an answer to anything but messages and long work.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest answer that is read, in octets.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// Bodies of requests.
pub(super) type Body = BoxBody<Bytes, io::Error>;

/// A running server's admin socket.
#[derive(Debug, Clone)]
pub(super) struct Client {
    socket: PathBuf,
}

impl Client {
    /// The server of this configuration, or of the socket named in the arguments.
    ///
    /// # Errors
    /// Mistakes in the configuration.
    pub(super) fn new(global: &Global) -> Result<Self, Failure> {
        let socket = match &global.socket {
            Some(socket) => socket.clone(),
            None => Config::load(&global.config).map_err(|errors| Failure::config(&errors))?.admin_socket,
        };
        Ok(Self::at(&socket))
    }

    /// The server at this socket.
    pub(super) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Does anybody listen at the socket? If it may not be told, a request will say why.
    pub(super) fn is_there(&self) -> bool {
        let gone = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        let connected = std::os::unix::net::UnixStream::connect(&self.socket);
        connected.map_or_else(|error| !gone.contains(&error.kind()), |_| true)
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// No server, a problem that it reports, or no answer in time.
    pub(super) fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, Failure> {
        self.ask_for(PATIENCE, method, path)
    }

    /// The same, for an answer that may take so long.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(super) fn ask_for<T: DeserializeOwned>(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
    ) -> Result<T, Failure> {
        runtime()?.block_on(async {
            let asked = timeout(patience, async { answer(self.send(method, path, None, empty()).await?).await });
            asked.await.map_err(|_| Failure::new("the server does not answer").exit(Exit::Later))?
        })
    }

    /// Asks with a body of JSON, and reads the answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(super) fn ask_with<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let json = serde_json::to_vec(body).map_err(|error| broken(&error))?;
        runtime()?.block_on(async {
            let header = Some(("content-type", "application/json".to_owned()));
            let body = Full::from(json).map_err(|never| match never {}).boxed();
            let asked = timeout(PATIENCE, async { answer(self.send(Method::POST, path, header, body).await?).await });
            asked.await.map_err(|_| Failure::new("the server does not answer").exit(Exit::Later))?
        })
    }

    /// Sends a request; the answer's body is still to be read.
    ///
    /// # Errors
    /// No server, or a connection that broke.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        header: Option<(&'static str, String)>,
        body: Body,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        // Ends with the request; its error is the request's.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "restante");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|error| broken(&error))?;
        sender.send_request(request).await.map_err(|error| broken(&error))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let socket = self.socket.display();
        let (message, help) = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => (
                format!("no server is running here: nobody answers at {socket}"),
                "start it with `restante serve`, or name another socket with --socket or another --config",
            ),
            io::ErrorKind::PermissionDenied => (
                format!("you may not talk to the server at {socket}"),
                "the socket belongs to the user that runs the server: become that user or root",
            ),
            _ => (format!("cannot connect to {socket}: {error}"), "is this the server's admin socket?"),
        };
        Failure::new(message).help(help).exit(Exit::Unavailable)
    }
}

/// A runtime for one request.
///
/// # Errors
/// Those of the operating system.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::new(format!("cannot start: {error}")))
}

/// No body.
pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// Reads an answer: what was asked for, or the problem.
///
/// # Errors
/// The problem, or a connection that broke.
pub(super) async fn answer<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Failure> {
    let status = response.status();
    let limited = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
    let octets = limited.collect().await.map_err(|error| broken(&error))?.to_bytes();
    if !status.is_success() {
        return Err(problem(status, &octets));
    }
    serde_json::from_slice(&octets).map_err(|error| {
        Failure::new(format!("the server's answer is not understood: {error}")).help("is it of the same version?")
    })
}

/// The failure that an answer reports.
pub(super) fn problem(status: StatusCode, octets: &[u8]) -> Failure {
    let exit = match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE | StatusCode::TOO_MANY_REQUESTS => {
            Exit::Later
        }
        _ => Exit::Failed,
    };
    match serde_json::from_slice::<Problem>(octets) {
        Ok(problem) => Failure::of(problem, exit),
        Err(_) => Failure::new(format!("the server answered {status}")).exit(exit),
    }
}

/// The connection broke on the way.
pub(super) fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("the connection to the server broke: {error}")).exit(Exit::Later)
}
