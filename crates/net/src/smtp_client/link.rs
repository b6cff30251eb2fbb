//! One connection: a stream and a session, and the octets that pass.

use std::time::Duration;

use mail::Timestamp;
use smtp::client::{Action, Client as Smtp, Event};
use tokio::time::{timeout, timeout_at};

use super::pool::Ticket;
use crate::tls::Security;
use crate::wire::{Clock, Stream};

/// Longest wait for the last words of a peer that does not take our octets any more, and how many reads.
const LAST_WORDS: (Duration, usize) = (Duration::from_secs(1), 4);

/// A connection. Dropped, it is closed.
pub(super) struct Link {
    pub(super) stream: Stream,
    pub(super) smtp: Smtp,
    pub(super) clock: Clock,
    /// Host and address, for people.
    pub(super) peer: String,
    /// The demand that the handshake met; [`Security::Off`] in clear.
    pub(super) security: Security,
    /// Longest that one write may take.
    pub(super) write_time: Duration,
    /// Octets sent and received, before TLS.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Transactions so far.
    pub(super) uses: u32,
    /// Its place among the others; none where it was opened for itself only.
    pub(super) ticket: Option<Ticket>,
}

/// Where the connection needs its driver.
pub(super) enum Turn {
    Ready,
    Content,
    StartTls,
    Event(Event),
    /// The peer is the client from now on.
    Over,
    Closed,
}

impl Link {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Reads and writes until something is to be decided. Errors of the socket become events of the session.
    pub(super) async fn next(&mut self) -> Turn {
        loop {
            match self.smtp.next_action(self.clock.now()) {
                Action::Write(octets) => self.write(&octets).await,
                Action::Idle { deadline } => self.read(deadline).await,
                Action::Event(event) => return Turn::Event(event),
                Action::Ready => return Turn::Ready,
                Action::Content => return Turn::Content,
                Action::StartTls => return Turn::StartTls,
                Action::Turn => return Turn::Over,
                Action::Close => return Turn::Closed,
            }
        }
    }

    async fn write(&mut self, octets: &[u8]) {
        match timeout(self.write_time, self.stream.write(octets)).await {
            Ok(Ok(())) => self.sent += octets.len() as u64,
            Ok(Err(_)) | Err(_) => self.hear_last_words().await,
        }
    }

    async fn read(&mut self, deadline: Timestamp) {
        let until = self.clock.instant(deadline);
        match timeout_at(until, self.feed()).await {
            Ok(true) | Err(_) => {}
            Ok(false) => self.smtp.lost(),
        }
    }

    /// Reads once; `false` at the end.
    async fn feed(&mut self) -> bool {
        let (smtp, clock) = (&mut self.smtp, self.clock);
        let read = self.stream.read_into(|octets| smtp.feed(clock.now(), octets)).await;
        let count = read.unwrap_or(0);
        self.received += count as u64;
        count > 0
    }

    /// A peer that closes amid a content often says why before.
    async fn hear_last_words(&mut self) {
        for _ in 0..LAST_WORDS.1 {
            if !matches!(timeout(LAST_WORDS.0, self.feed()).await, Ok(true)) {
                break;
            }
        }
        self.smtp.lost();
    }

    /// It is used for something that may take long, or not any more.
    pub(super) fn occupy(&mut self, long: bool) {
        self.ticket.iter_mut().for_each(|ticket| ticket.occupy(long));
    }

    /// Is the connection still good? An idle peer says nothing, and does not close.
    pub(super) async fn is_alive(&mut self) -> bool {
        self.smtp.is_ready() && self.stream.try_read_into(|_| {}).await.is_none()
    }

    /// Says QUIT, and closes.
    pub(super) async fn quit(mut self) {
        if self.smtp.quit(self.now()).is_ok() {
            while !matches!(self.next().await, Turn::Closed) {}
        }
        self.stream.shutdown().await;
    }
}
