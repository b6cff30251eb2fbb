//! One connection: a socket, a session, and what the handler decides.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mail::{EnhancedStatus, Timestamp};
use smtp::reply::{Reply, catalogue};
use smtp::server::{Action, AuthStep, Config, Decision, Event, Misuse, Server};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::guesses::Guesses;
use super::{Accepted, Connection, Handler, Limits, Session, Settings};
use crate::sasl::{Exchange, Failure, Step};
use crate::turned::Turned;
use crate::wire::{Clock, Stream, buffered};

/// What the connections of a listener share.
pub(super) struct Shared<H> {
    smtp: Arc<Config>,
    tls: Option<TlsAcceptor>,
    implicit_tls: bool,
    limits: Limits,
    guesses: Guesses,
    handler: Arc<H>,
    shutdown: CancellationToken,
}

impl<H> Shared<H> {
    pub(super) fn new(settings: Settings, handler: Arc<H>, shutdown: CancellationToken) -> Self {
        Self {
            smtp: Arc::new(settings.smtp),
            guesses: Guesses::new(settings.limits.auth_failures_per_hour),
            tls: settings.tls.map(TlsAcceptor::from),
            implicit_tls: settings.implicit_tls,
            limits: settings.limits,
            handler,
            shutdown,
        }
    }
}

/// Serves a client to its end.
pub(super) async fn run<H: Handler>(stream: TcpStream, peer: SocketAddr, shared: &Shared<H>) {
    if let Err(error) = attempt(stream, peer, shared).await {
        tracing::debug!(%peer, %error, "connection lost");
    }
}

async fn attempt<H: Handler>(stream: TcpStream, peer: SocketAddr, shared: &Shared<H>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let mut driver = Driver::new(shared, Stream::Tcp(stream), (peer, local), shared.implicit_tls);
    if shared.implicit_tls {
        driver.handshake().await?;
    }
    match driver.drive().await? {
        End::Closed => driver.close().await,
        End::Turned => driver.turn().await?,
    }
    Ok(())
}

/// Serves whoever was the server of a connection until now (RFC 2645), to the end. TLS stays as it is.
///
/// # Errors
/// The connection broke.
pub async fn serve_turned<H: Handler>(
    turned: Turned,
    settings: Settings,
    handler: Arc<H>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let (addresses, tls) = ((turned.peer(), turned.local()), turned.tls());
    let mut shared = Shared::new(settings, handler, shutdown);
    shared.tls = None;
    let mut driver = Driver::new(&shared, turned.stream, addresses, tls.is_some());
    driver.connection.tls = tls;
    driver.drive().await?;
    driver.close().await;
    Ok(())
}

/// How a session ends.
enum End {
    Closed,
    /// The client is the server now.
    Turned,
}

/// How long and for how many octets a client that still sends is listened to after the last reply: a connection
/// closed upon unread octets is reset, and the reply lost with it.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 1 << 20);

struct Driver<'a, H: Handler> {
    shared: &'a Shared<H>,
    stream: Stream,
    smtp: Server,
    clock: Clock,
    /// When the connection has lasted long enough.
    ends: Instant,
    connection: Connection,
    session: Option<H::Session>,
    /// The handler has refused the content that is on its way, in these words.
    refused: Option<Reply>,
    exchange: Option<Exchange>,
    auth_failures: u32,
    /// The session has been told to end.
    stopping: bool,
}

impl<'a, H: Handler> Driver<'a, H> {
    fn new(shared: &'a Shared<H>, stream: Stream, (peer, local): (SocketAddr, SocketAddr), tls: bool) -> Self {
        let connection =
            Connection { peer, local, role: shared.smtp.role, tls: None, helo: None, extended: false, account: None };
        let clock = Clock::new();
        Self {
            shared,
            stream,
            smtp: Server::new(Arc::clone(&shared.smtp), tls, clock.now()),
            clock,
            ends: Instant::now() + shared.limits.session,
            connection,
            session: None,
            refused: None,
            exchange: None,
            auth_failures: 0,
            stopping: false,
        }
    }

    async fn drive(&mut self) -> io::Result<End> {
        loop {
            match self.smtp.next_action(self.clock.now()) {
                Action::Write(octets) => {
                    timeout(self.shared.limits.write, self.stream.write(&octets)).await??;
                }
                Action::Event(event) => {
                    if let Some(decision) = self.event(event).await {
                        self.decide(decision)?;
                    }
                }
                Action::Idle { deadline } => self.read(deadline).await?,
                Action::StartTls => {
                    self.handshake().await?;
                    self.smtp.tls_established(self.clock.now()).map_err(misuse)?;
                }
                Action::Close => return Ok(End::Closed),
                Action::Turn => return Ok(End::Turned),
                // Every question is answered where its event is handled.
                Action::Decide => return Err(misuse(Misuse::NotAsked)),
            }
        }
    }

    /// Whether the client hears the end is its own affair.
    async fn close(&mut self) {
        let _ = timeout(LINGER.0, self.linger()).await;
    }

    /// Hands the connection over to be a client's.
    async fn turn(self) -> io::Result<()> {
        let turned = Turned::new(self.stream)?;
        if let Some(session) = self.session {
            session.turned(turned, self.shared.shutdown.clone()).await;
        }
        Ok(())
    }

    /// Closes so that the last reply arrives.
    async fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown().await;
        // A client that is sent away by a shutdown was silent, and the shutdown should not wait for it.
        let mut left = if self.stopping { 0 } else { LINGER.1 };
        while left > 0 {
            match self.stream.read_into(|_| {}).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok(())
    }

    /// Waits for octets; not beyond the deadline, and not through a shutdown.
    async fn read(&mut self, deadline: Timestamp) -> io::Result<()> {
        if !self.stopping && (self.shared.shutdown.is_cancelled() || Instant::now() >= self.ends) {
            self.stopping = true;
            self.smtp.shut_down();
            return Ok(());
        }
        let (smtp, clock) = (&mut self.smtp, self.clock);
        let until = if self.stopping { clock.instant(deadline) } else { clock.instant(deadline).min(self.ends) };
        let read = self.stream.read_into(|octets| smtp.feed(clock.now(), octets));
        let read = tokio::select! {
            biased;
            read = read => Some(read?),
            () = self.shared.shutdown.cancelled(), if !self.stopping => None,
            () = sleep_until(until) => None,
        };
        if read == Some(0) {
            self.smtp.end_of_input();
        }
        Ok(())
    }

    async fn handshake(&mut self) -> io::Result<()> {
        let acceptor = self.shared.tls.as_ref().ok_or_else(|| io::Error::other("no certificate is configured"))?;
        let handshake = acceptor.accept(buffered(self.stream.take_tcp()?));
        let stream = timeout(self.shared.limits.handshake, handshake).await??;
        // RFC 3207 §4.2: what was said before does not count.
        (self.connection.helo, self.connection.extended, self.connection.account) = (None, false, None);
        self.stream = Stream::Server(Box::new(stream));
        self.connection.tls = self.stream.tls();
        Ok(())
    }

    fn decide(&mut self, decision: Decision) -> io::Result<()> {
        self.smtp.decide(self.clock.now(), decision).map_err(misuse)
    }

    /// Has the handler decide; `None` where nothing was asked.
    async fn event(&mut self, event: Event) -> Option<Decision> {
        if let Event::Connect = event {
            return Some(self.connect().await);
        }
        let (connection, session) = (&mut self.connection, self.session.as_mut()?);
        match event {
            Event::Connect => None,
            Event::Hello { name, extended } => {
                (connection.helo, connection.extended) = (Some(name), extended);
                Some(yes_or(session.hello(connection).await))
            }
            Event::Auth(step) => Some(self.auth(step).await),
            Event::AuthCancelled => {
                self.exchange = None;
                None
            }
            Event::Mail(mail) => Some(yes_or(session.mail(connection, mail).await)),
            Event::Rcpt(recipient) => Some(yes_or(session.rcpt(connection, recipient).await)),
            Event::ContentStart => {
                self.refused = None;
                Some(yes_or(session.begin_content(connection).await))
            }
            Event::Content(chunk) => {
                if self.refused.is_none()
                    && let Err(reply) = session.content(chunk).await
                {
                    self.refuse_content(reply);
                }
                None
            }
            Event::ContentEnd { .. } => match self.refused.take() {
                Some(reply) => Some(Decision::Reply(reply)),
                None => Some(accepted_or(session.end_content(connection).await)),
            },
            Event::Offer(offer) => Some(accepted_or(session.offer(connection, offer).await)),
            Event::Etrn(etrn) => Some(Decision::Reply(session.etrn(connection, etrn).await)),
            Event::Atrn(domains) => Some(yes_or(session.atrn(connection, domains).await)),
            Event::ContentDropped(_) | Event::Reset => {
                session.abort();
                None
            }
            Event::Quit => None,
        }
    }

    async fn connect(&mut self) -> Decision {
        match self.shared.handler.connect(&self.connection).await {
            Ok(session) => {
                self.session = Some(session);
                Decision::Accept
            }
            Err(reply) => Decision::Reply(refusal(reply)),
        }
    }

    fn refuse_content(&mut self, reply: Reply) {
        let reply = refusal(reply);
        self.refused = Some(reply.clone());
        // An error means that its end is known already: then the question that follows gets this answer.
        let _ = self.smtp.refuse_content(reply);
        if let Some(session) = &mut self.session {
            session.abort();
        }
    }

    async fn auth(&mut self, step: AuthStep) -> Decision {
        if self.shared.guesses.are_too_many(self.connection.peer.ip(), Instant::now()) {
            self.exchange = None;
            let text = "too many failed logins from your address, try again in an hour";
            return Decision::Reply(Reply::new(421, EnhancedStatus::temporary(7, 0), text));
        }
        let message = match step {
            AuthStep::Start { mechanism, initial } => {
                self.exchange = Exchange::new(&mechanism);
                initial
            }
            AuthStep::Response(response) => Some(response),
        };
        let Some(exchange) = &mut self.exchange else {
            return Decision::Reply(catalogue::unknown_mechanism());
        };
        let credentials = self.shared.handler.credentials();
        match exchange.step(credentials, message.as_ref().map(smtp::Secret::reveal)).await {
            Ok(Step::Challenge(challenge)) => Decision::Challenge(challenge),
            Ok(Step::Authenticated(account)) => {
                self.exchange = None;
                self.connection.account = Some(account);
                if let Some(session) = &mut self.session {
                    session.authenticated(&self.connection);
                }
                Decision::Accept
            }
            Err(failure) => {
                self.exchange = None;
                Decision::Reply(self.auth_failed(failure))
            }
        }
    }

    fn auth_failed(&mut self, failure: Failure) -> Reply {
        self.auth_failures += 1;
        if matches!(failure, Failure::Refused) {
            self.shared.guesses.failed(self.connection.peer.ip(), Instant::now());
        }
        tracing::info!(peer = %self.connection.peer, %failure, "AUTH failed");
        if self.auth_failures >= self.shared.limits.auth_failures {
            return Reply::new(421, EnhancedStatus::temporary(7, 0), "too many failed AUTH attempts, closing");
        }
        match failure {
            Failure::Malformed => Reply::new(501, EnhancedStatus::permanent(5, 2), "malformed SASL message"),
            Failure::Refused => catalogue::auth_failed(),
            Failure::Unavailable(_) => {
                Reply::new(454, EnhancedStatus::temporary(7, 0), "authentication is not possible now, try again later")
            }
        }
    }
}

fn yes_or(answer: Result<(), Reply>) -> Decision {
    match answer {
        Ok(()) => Decision::Accept,
        Err(reply) => Decision::Reply(refusal(reply)),
    }
}

fn accepted_or(answer: Result<Accepted, Reply>) -> Decision {
    match answer {
        Ok(Accepted::Queued(id)) => Decision::Queued(id),
        Ok(Accepted::Said(reply)) => Decision::Reply(reply),
        Err(reply) => Decision::Reply(refusal(reply)),
    }
}

/// What a handler gives as an error is never taken for a yes.
fn refusal(reply: Reply) -> Reply {
    if reply.code() >= 400 { reply } else { catalogue::local_error() }
}

fn misuse(misuse: Misuse) -> io::Error {
    io::Error::other(misuse)
}
