//! From a place to a session that is ready: TCP, greeting, EHLO, TLS, AUTH.

use std::io;
use std::net::SocketAddr;

use mail::{EnhancedStatus, StatusClass};
use rustls::pki_types::ServerName;
use smtp::Reply;
use smtp::client::{Client as Smtp, Config, End, Event};
use smtp::command::HelloName;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::link::{Link, Turn};
use super::pool::{Grant, Kind, Known, Ticket, Where};
use super::results::Broken;
use super::route::{Place, Places};
use super::{ConnectError, Destination, Inner, Login, MessageTls, Protocol, Route, TlsPolicy};
use crate::tls::Security;
use crate::wire::{Clock, Stream, buffered};

/// Why a place gave no session.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// It could not be reached, or was lost.
    Unreachable(String),
    /// It turned us away.
    Refused(Reply),
    /// The handshake failed.
    Tls(Broken),
    /// STARTTLS is not to be had.
    NoTls,
    /// The message needs REQUIRETLS, which is not to be had.
    NoRequireTls,
    /// AUTH is not to be had, or name or password are wrong.
    Auth(String),
}

/// A connection that may be used, and where it leads.
pub(super) struct Obtained {
    pub(super) link: Box<Link>,
    pub(super) place: Place,
    /// It was used before, and may have been closed meanwhile.
    pub(super) reused: bool,
}

impl Inner {
    /// What the other end offers, where a connection is open that will do for this destination.
    pub(super) async fn known(&self, destination: &Destination, places: &Places) -> Option<(Place, Known)> {
        for place in places.best() {
            if let Some(known) = self.pool.known(&kind_of(destination, place)).await {
                return Some((place.clone(), known));
            }
        }
        None
    }

    /// A connection to the first place that can be had: one that waits to be used, or a new one. What is `eager` opens a
    /// new one rather than to wait.
    pub(super) async fn obtain(
        &self,
        destination: &Destination,
        mut places: Places,
        eager: bool,
    ) -> Result<Obtained, ConnectError> {
        for place in places.best() {
            if let Some(link) = self.pool.take(&kind_of(destination, place)).await {
                return Ok(Obtained { link, place: place.clone(), reused: true });
            }
        }
        // Of equally good ones that where we are already.
        places.prefer(|place| self.pool.is_open(&kind_of(destination, place)));
        let (mut last, mut is_final) = (None, !places.others_later);
        for place in &places.list {
            match self.enter(destination, place, eager).await {
                Ok((link, reused)) => return Ok(Obtained { link, place: place.clone(), reused }),
                Err(failure) => {
                    is_final &= failure.is_final(destination);
                    let error = failure.explain(&place.peer());
                    tracing::debug!(%error, "a host could not be used");
                    last = Some(error);
                }
            }
        }
        let mut error = last.unwrap_or_else(|| Failure::Unreachable("it has no address".into()).explain("the host"));
        error.temporary = !is_final;
        error.status = match (is_final, error.status.class()) {
            (false, _) => as_temporary(error.status),
            // RFC 8689 §4.2.1: encryption needed.
            (true, StatusClass::Temporary) => EnhancedStatus::permanent(7, 10),
            (true, _) => error.status,
        };
        Err(error)
    }

    /// A connection to this place, in turn with everybody else who wants one.
    async fn enter(&self, destination: &Destination, place: &Place, eager: bool) -> Result<(Box<Link>, bool), Failure> {
        let kind = kind_of(destination, place);
        loop {
            match self.pool.ask(&kind, eager).await {
                Grant::Failed(failure) => return Err(failure),
                Grant::Link(mut link) => {
                    if link.is_alive().await {
                        return Ok((link, true));
                    }
                }
                // Apart: hundreds may wait here for a connection, and few open one.
                Grant::Open(ticket) => match Box::pin(self.open_place(destination, place, ticket)).await {
                    Ok(Some(link)) => return Ok((Box::new(link), false)),
                    // There are others, which will do.
                    Ok(None) => {}
                    Err(failure) => return Err(failure),
                },
            }
        }
    }

    async fn open_place(
        &self,
        destination: &Destination,
        place: &Place,
        mut ticket: Ticket,
    ) -> Result<Option<Link>, Failure> {
        let entered = ticket.enter().await;
        let opened = match entered {
            Some(()) => self.try_place(destination, place).await,
            None => Err(Failure::Unreachable("the server stops".into())),
        };
        match opened {
            Ok(mut link) => {
                ticket.opened(Known::of(&link));
                link.ticket = Some(ticket);
                Ok(Some(link))
            }
            Err(failure) if ticket.failed(&failure) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn try_place(&self, destination: &Destination, place: &Place) -> Result<Link, Failure> {
        let security = place.security();
        let result = self.attempt(destination, place, &security).await;
        self.tell(destination, place, result.as_ref()).await;
        match result {
            Err(Failure::Tls(why)) if security == Security::Opportunistic => {
                tracing::info!(peer = place.peer(), %why, "TLS cannot be negotiated, going on in clear");
                self.attempt(destination, place, &Security::Off).await
            }
            result => result,
        }
    }

    pub(super) async fn attempt(
        &self,
        destination: &Destination,
        place: &Place,
        security: &Security,
    ) -> Result<Link, Failure> {
        let mut link = self.dial(destination, place).await?;
        let implicit = destination.tls == TlsPolicy::Implicit;
        if implicit {
            self.handshake(&mut link, place, security).await?;
        }
        hello(&mut link).await?;
        let offered = link.smtp.capabilities().starttls;
        let wanted = security.needs_tls() || (*security == Security::Opportunistic && offered);
        if wanted && !implicit {
            let begun = self.start_tls(&mut link, place, security).await?;
            if security.needs_tls() && !begun {
                return Err(Failure::NoTls);
            }
        }
        let is_required = (destination.asks, destination.protocol) == (MessageTls::Required, Protocol::Smtp);
        if is_required && !(link.smtp.is_tls() && link.smtp.capabilities().requiretls) {
            return Err(Failure::NoRequireTls);
        }
        if let Some(login) = &destination.login {
            log_in(&mut link, login).await?;
        }
        Ok(link)
    }

    async fn dial(&self, destination: &Destination, place: &Place) -> Result<Link, Failure> {
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
        let security = Security::Off;
        Ok(Link { stream, smtp, clock, peer, security, write_time, sent: 0, received: 0, uses: 0, ticket: None })
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
    async fn start_tls(&self, link: &mut Link, place: &Place, security: &Security) -> Result<bool, Failure> {
        if link.smtp.start_tls(link.now()).is_err() {
            return Ok(false);
        }
        loop {
            match link.next().await {
                Turn::StartTls => break,
                Turn::Ready => return Ok(false),
                Turn::Event(Event::Ended(end)) => return Err(ended(end)),
                Turn::Event(_) | Turn::Content => {}
                Turn::Over | Turn::Closed => return Err(lost()),
            }
        }
        self.handshake(link, place, security).await?;
        link.smtp.tls_established(link.now()).map_err(|_| lost())?;
        hello(link).await?;
        Ok(true)
    }

    async fn handshake(&self, link: &mut Link, place: &Place, security: &Security) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::Tls(error.into());
        let stream = buffered(link.stream.take_tcp().map_err(failed)?);
        let connector = TlsConnector::from(self.settings.tls.config(security));
        let handshake = connector.connect(server_name(place), stream);
        let stream = timeout(self.settings.handshake, handshake).await;
        let stream = stream.map_err(|_| Failure::Tls(Broken::other("the handshake took too long")))?.map_err(failed)?;
        link.stream = Stream::Client(Box::new(stream));
        link.security = security.clone();
        Ok(())
    }
}

/// What a destination asks of a connection to this place. Where any certificate will do, the host's name says nothing.
fn kind_of(destination: &Destination, place: &Place) -> Kind {
    let security = place.security();
    let (at, name) = match place {
        Place::Tcp { address, name, .. } => (Where::Tcp(*address), Some(name.clone())),
        Place::Unix(path) => (Where::Unix(path.clone()), None),
    };
    Kind {
        at,
        protocol: destination.protocol,
        implicit_tls: destination.tls == TlsPolicy::Implicit,
        login: destination.login.clone(),
        requiretls: destination.asks == MessageTls::Required,
        name: name.filter(|_| security.authenticates()),
        security,
    }
}

fn server_name(place: &Place) -> ServerName<'static> {
    match place {
        Place::Tcp { name, .. } => name.clone(),
        Place::Unix(_) => ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into()),
    }
}

/// Waits for the answer to EHLO.
pub(super) async fn hello(link: &mut Link) -> Result<(), Failure> {
    loop {
        match link.next().await {
            Turn::Ready => return Ok(()),
            Turn::Event(Event::Ended(end)) => return Err(ended(end)),
            Turn::Event(_) | Turn::Content => {}
            Turn::StartTls | Turn::Over | Turn::Closed => return Err(lost()),
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
            Turn::StartTls | Turn::Over | Turn::Closed => return Err(lost()),
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
    /// Is there nothing to be hoped for from trying this place again? What the operator of a next hop may mend is no reason
    /// to return mail.
    fn is_final(&self, destination: &Destination) -> bool {
        let is_theirs = matches!(destination.route, Route::Exchangers(_));
        match self {
            Self::Refused(reply) => is_theirs && reply.code() >= 500,
            Self::Tls(_) | Self::NoTls => is_theirs && destination.asks == MessageTls::Required,
            Self::NoRequireTls => true,
            Self::Unreachable(_) | Self::Auth(_) => false,
        }
    }

    /// In a sentence.
    pub(super) fn explain(self, peer: &str) -> ConnectError {
        let (status, text) = match self {
            Self::Unreachable(why) => (EnhancedStatus::temporary(4, 1), why),
            Self::Refused(reply) => (reply.status_or_general(), format!("it said {reply}")),
            Self::Tls(why) => (EnhancedStatus::temporary(7, 5), format!("TLS cannot be negotiated: {why}")),
            Self::NoTls => (EnhancedStatus::temporary(7, 4), "STARTTLS is required here, but not offered".into()),
            Self::NoRequireTls => {
                (EnhancedStatus::permanent(7, 30), "the message needs REQUIRETLS, which it does not offer".into())
            }
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
