//! Delivery over connections that their recipients have opened (RFC 2645): a customer has turned one over, and while it is there what
//! waits for its domains goes over it, one message after the other.
//!
//! Which connections are turned over to whom is decided in `receive`; when a message is tried is the queue's word.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mail::ledger::Key;
use mail::{Domain, EnhancedStatus};
use net::smtp_client::Session;
use queue::port::{Delivery, DeliveryEnd};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::smtp::SmtpCourier;
use crate::runtime::JobLine;

/// The connections that are turned over now, by domain: one for each.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<HashMap<Domain, Arc<Line>>>>);

/// One of them.
pub(crate) struct Line {
    /// None once it is lost, or over.
    session: AsyncMutex<Option<Session>>,
    end: CancellationToken,
    attempts: mpsc::UnboundedSender<Attempt>,
}

/// What happens on a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// This leg has the connection.
    Begun(Key),
    /// It has it no more, whatever came of it.
    Ended(Key),
}

/// A line's places among the others; given up on drop.
pub(crate) struct Open {
    lines: Lines,
    line: Arc<Line>,
}

impl Lines {
    /// Has this connection serve these domains from now on, and says what happens on it. One that served them before is over: its
    /// customer has come again, and only the broken connection does not know it yet.
    pub(crate) async fn open(&self, domains: &[Domain], session: Session) -> (Open, mpsc::UnboundedReceiver<Attempt>) {
        let (attempts, news) = mpsc::unbounded_channel();
        let line = Arc::new(Line { session: AsyncMutex::new(Some(session)), end: CancellationToken::new(), attempts });
        let before: Vec<Arc<Line>> = {
            let mut lines = self.lock();
            domains.iter().filter_map(|domain| lines.insert(domain.clone(), Arc::clone(&line))).collect()
        };
        for old in before {
            old.end.cancel();
            // Whatever is on it comes to its end first.
            *old.session.lock().await = None;
        }
        (Open { lines: self.clone(), line }, news)
    }

    fn of(&self, domain: &Domain) -> Option<Arc<Line>> {
        self.lock().get(domain).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Domain, Arc<Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// When the connection is lost, or another has taken its place.
    pub(crate) fn end(&self) -> &CancellationToken {
        &self.line.end
    }

    /// Says QUIT once nobody uses it any more.
    pub(crate) async fn close(self) {
        let session = self.line.session.lock().await.take();
        if let Some(session) = session {
            session.quit().await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.line.end.cancel();
        self.lines.lock().retain(|_, line| !Arc::ptr_eq(line, &self.line));
    }
}

/// Tells that an attempt is over, and that the connection is where it was broken off.
struct InHand<'a> {
    line: &'a Line,
    key: &'a Key,
    /// The connection can carry another message.
    is_good: bool,
}

impl<'a> InHand<'a> {
    fn new(line: &'a Line, key: &'a Key) -> Self {
        // Nobody listens where the line is over.
        let _ = line.attempts.send(Attempt::Begun(key.clone()));
        Self { line, key, is_good: false }
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if !self.is_good {
            self.line.end.cancel();
        }
        let _ = self.line.attempts.send(Attempt::Ended(self.key.clone()));
    }
}

/// One attempt: where a connection of the domain's account is there, over it.
pub(super) async fn deliver(
    courier: &SmtpCourier,
    lines: &Lines,
    domain: &Domain,
    delivery: &Delivery,
    mut job: JobLine,
) -> DeliveryEnd {
    let Some(line) = lines.of(domain) else { return waits(domain) };
    let mut place = line.session.lock().await;
    // Taken out: an attempt that is broken off amid a transaction takes the connection with it.
    let Some(mut session) = place.take() else { return waits(domain) };
    let mut in_hand = InHand::new(&line, &delivery.key);
    let ended = line.end.run_until_cancelled(courier.converse(delivery, &mut session, &mut job)).await;
    match ended {
        Some(end) if !session.is_lost() => {
            in_hand.is_good = true;
            *place = Some(session);
            end
        }
        ended => ended.unwrap_or_else(|| waits(domain)),
    }
}

fn waits(domain: &Domain) -> DeliveryEnd {
    DeliveryEnd::Unreachable {
        text: format!("waits until the account of {domain} asks for it"),
        status: EnhancedStatus::temporary(4, 1),
    }
}
