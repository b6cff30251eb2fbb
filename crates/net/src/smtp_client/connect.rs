//! From a place to a session that is ready: TCP, greeting, EHLO, TLS, AUTH.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mail::EnhancedStatus;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use smtp::Reply;
use smtp::client::{Client as Smtp, Config, End, Event};
use smtp::command::HelloName;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::link::{Link, Turn};
use super::route::Place;
use super::{ConnectError, Destination, Inner, Login, Route, TlsPolicy};
use crate::wire::{Clock, Stream, buffered};

/// Why a place gave no session.
enum Failure {
    /// It could not be reached, or was lost.
    Unreachable(String),
    /// It turned us away.
    Refused(Reply),
    /// The handshake failed.
    Tls(String),
    /// STARTTLS is not to be had.
    NoTls,
    /// AUTH is not to be had, or name or password are wrong.
    Auth(String),
}

impl Inner {
    /// A new connection to the first place that can be had.
    pub(super) async fn open(&self, destination: &Destination) -> Result<Box<Link>, ConnectError> {
        let places = self.places(&destination.route).await?;
        let (mut last, mut all_refused) = (None, true);
        for place in &places {
            match self.open_place(destination, place).await {
                Ok(link) => return Ok(Box::new(link)),
                Err(failure) => {
                    all_refused &= matches!(&failure, Failure::Refused(reply) if reply.code() >= 500);
                    let error = failure.explain(&place.peer());
                    tracing::debug!(%error, "a host could not be used");
                    last = Some(error);
                }
            }
        }
        let mut error = last.unwrap_or_else(|| Failure::Unreachable("it has no address".into()).explain("the host"));
        // A smart host's refusal is the operator's to mend, not a reason to return mail.
        error.temporary = !(all_refused && matches!(destination.route, Route::Exchangers(_)));
        if error.temporary {
            error.status = as_temporary(error.status);
        }
        Err(error)
    }

    async fn open_place(&self, destination: &Destination, place: &Place) -> Result<Link, Failure> {
        match self.attempt(destination, place, destination.tls).await {
            Err(Failure::Tls(why)) if destination.tls == TlsPolicy::Opportunistic => {
                tracing::info!(peer = place.peer(), why, "TLS cannot be negotiated, going on in clear");
                self.attempt(destination, place, TlsPolicy::Off).await
            }
            result => result,
        }
    }

    async fn attempt(&self, destination: &Destination, place: &Place, tls: TlsPolicy) -> Result<Link, Failure> {
        let permit = self.pool.permit().await.ok_or_else(|| Failure::Unreachable("the server stops".into()))?;
        let mut link = self.dial(destination, place, permit).await?;
        if tls == TlsPolicy::Implicit {
            self.handshake(&mut link, place, tls).await?;
        }
        hello(&mut link).await?;
        match tls {
            TlsPolicy::Off | TlsPolicy::Implicit => {}
            TlsPolicy::Opportunistic => {
                if link.smtp.capabilities().starttls {
                    self.start_tls(&mut link, place, tls).await?;
                }
            }
            TlsPolicy::Required | TlsPolicy::Verified => {
                if !self.start_tls(&mut link, place, tls).await? {
                    return Err(Failure::NoTls);
                }
            }
        }
        if let Some(login) = &destination.login {
            log_in(&mut link, login).await?;
        }
        Ok(link)
    }

    async fn dial(
        &self,
        destination: &Destination,
        place: &Place,
        permit: OwnedSemaphorePermit,
    ) -> Result<Link, Failure> {
        let stream = timeout(self.settings.connect, self.connect_to(place)).await;
        let stream = stream.map_err(|_| Failure::Unreachable("connecting took too long".into()))?;
        let stream = stream.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let name = HelloName::from(&self.settings.name);
        let timeouts = self.settings.timeouts.clone();
        let write_time = timeouts.write;
        let config = Config { timeouts, ..Config::new(name, destination.protocol) };
        let clock = Clock::new();
        let implicit = destination.tls == TlsPolicy::Implicit;
        let smtp = Smtp::new(config, implicit, clock.now());
        let peer = place.peer();
        Ok(Link { stream, smtp, clock, peer, write_time, sent: 0, received: 0, uses: 0, _permit: permit })
    }

    async fn connect_to(&self, place: &Place) -> io::Result<Stream> {
        match place {
            Place::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Place::Tcp { address, .. } => {
                let stream = self.connect_tcp(*address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let (socket, source) = match address {
            SocketAddr::V4(_) => (TcpSocket::new_v4()?, self.settings.bind_ipv4.map(Into::into)),
            SocketAddr::V6(_) => (TcpSocket::new_v6()?, self.settings.bind_ipv6.map(Into::into)),
        };
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        socket.connect(address).await
    }

    /// Asks for STARTTLS; `false` where it is not to be had, and the session goes on in clear.
    async fn start_tls(&self, link: &mut Link, place: &Place, tls: TlsPolicy) -> Result<bool, Failure> {
        if link.smtp.start_tls(link.now()).is_err() {
            return Ok(false);
        }
        loop {
            match link.next().await {
                Turn::StartTls => break,
                Turn::Ready => return Ok(false),
                Turn::Event(Event::Ended(end)) => return Err(ended(end)),
                Turn::Event(_) | Turn::Content => {}
                Turn::Closed => return Err(lost()),
            }
        }
        self.handshake(link, place, tls).await?;
        link.smtp.tls_established(link.now()).map_err(|_| lost())?;
        hello(link).await?;
        Ok(true)
    }

    async fn handshake(&self, link: &mut Link, place: &Place, tls: TlsPolicy) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::Tls(error.to_string());
        let stream = buffered(link.stream.take_tcp().map_err(failed)?);
        let connector = TlsConnector::from(self.tls_config(tls));
        let handshake = connector.connect(server_name(place), stream);
        let stream = timeout(self.settings.handshake, handshake).await;
        let stream = stream.map_err(|_| Failure::Tls("the handshake took too long".into()))?.map_err(failed)?;
        link.stream = Stream::Client(Box::new(stream));
        Ok(())
    }

    fn tls_config(&self, tls: TlsPolicy) -> Arc<ClientConfig> {
        let configs = &self.settings.tls;
        Arc::clone(match tls {
            TlsPolicy::Verified | TlsPolicy::Implicit => &configs.verified,
            TlsPolicy::Off | TlsPolicy::Opportunistic | TlsPolicy::Required => &configs.opportunistic,
        })
    }
}

fn server_name(place: &Place) -> ServerName<'static> {
    match place {
        Place::Tcp { name, .. } => name.clone(),
        Place::Unix(_) => ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into()),
    }
}

/// Waits for the answer to EHLO.
async fn hello(link: &mut Link) -> Result<(), Failure> {
    loop {
        match link.next().await {
            Turn::Ready => return Ok(()),
            Turn::Event(Event::Ended(end)) => return Err(ended(end)),
            Turn::Event(_) | Turn::Content => {}
            Turn::StartTls | Turn::Closed => return Err(lost()),
        }
    }
}

/// Passwords go over TLS only, or over a UNIX socket.
async fn log_in(link: &mut Link, login: &Login) -> Result<(), Failure> {
    if !link.smtp.is_tls() && !matches!(link.stream, Stream::Unix(_)) {
        return Err(Failure::Auth("the password would travel in clear".into()));
    }
    let ordered = link.smtp.authenticate(link.now(), &login.user, &login.password);
    ordered.map_err(|error| Failure::Auth(error.to_string()))?;
    loop {
        match link.next().await {
            Turn::Ready => return Ok(()),
            Turn::Event(Event::AuthRefused(reply)) => return Err(Failure::Auth(format!("AUTH was refused: {reply}"))),
            Turn::Event(Event::Ended(end)) => return Err(ended(end)),
            Turn::Event(_) | Turn::Content => {}
            Turn::StartTls | Turn::Closed => return Err(lost()),
        }
    }
}

fn ended(end: End) -> Failure {
    match end {
        End::Refused(reply) | End::Closing(reply) => Failure::Refused(reply),
        End::Lost(lost) => Failure::Unreachable(lost.to_string()),
        End::Quit => lost(),
    }
}

fn lost() -> Failure {
    Failure::Unreachable("the connection was lost".into())
}

impl Failure {
    fn explain(self, peer: &str) -> ConnectError {
        let (status, text) = match self {
            Self::Unreachable(why) => (EnhancedStatus::temporary(4, 1), why),
            Self::Refused(reply) => (reply.status_or_general(), format!("it said {reply}")),
            Self::Tls(why) => (EnhancedStatus::temporary(7, 5), format!("TLS cannot be negotiated: {why}")),
            Self::NoTls => (EnhancedStatus::temporary(7, 4), "STARTTLS is required here, but not offered".into()),
            Self::Auth(why) => (EnhancedStatus::temporary(7, 8), why),
        };
        ConnectError { temporary: true, text: format!("{peer}: {text}"), status }
    }
}

/// The same subject and detail in class 4.
fn as_temporary(status: EnhancedStatus) -> EnhancedStatus {
    let text = status.to_string();
    format!("4{}", &text[1..]).parse().unwrap_or(EnhancedStatus::temporary(0, 0))
}
