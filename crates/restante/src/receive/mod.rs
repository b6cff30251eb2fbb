//! Receiving: what SMTP sessions are allowed to do, and where what they bring goes.
//!
//! The protocol is `smtp`'s, sockets are `net`'s, addresses the router's, custody the queue's. Here the four meet, one
//! stage of a transaction after the other; nothing is accepted only to be bounced later.

mod credentials;
mod offer;
mod probe;
mod session;

use std::sync::{Arc, PoisonError, RwLock};

use mail::EnhancedStatus;
use net::smtp_server::{Connection, Handler};
use smtp::Reply;
use store::Store;

use crate::config::Config;
use crate::routing::Router;
use crate::runtime::Custody;

pub(crate) use credentials::AccountCredentials;
pub(crate) use offer::OfferDesk;
pub(crate) use probe::Prober;
pub(crate) use session::Transactions;

/// The router in force; replaced as a whole on reload.
#[derive(Clone)]
pub(crate) struct LiveRouter(Arc<RwLock<Arc<Router>>>);

impl LiveRouter {
    pub(crate) fn new(router: Router) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(router))))
    }

    pub(crate) fn get(&self) -> Arc<Router> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(router);
    }
}

/// What all sessions share.
pub(crate) struct Reception {
    pub(crate) config: Arc<Config>,
    pub(crate) router: LiveRouter,
    pub(crate) store: Store,
    pub(crate) custody: Custody,
    pub(crate) desk: OfferDesk,
    pub(crate) prober: Prober,
}

/// One listener's decisions.
pub(crate) struct Listener {
    reception: Arc<Reception>,
    credentials: AccountCredentials,
}

impl Listener {
    pub(crate) fn new(reception: Arc<Reception>) -> Self {
        let credentials = AccountCredentials::new(reception.router.clone());
        Self { reception, credentials }
    }
}

impl Handler for Listener {
    type Session = Transactions;
    type Credentials = AccountCredentials;

    async fn connect(&self, _: &Connection) -> Result<Transactions, Reply> {
        Ok(Transactions::new(Arc::clone(&self.reception)))
    }

    fn credentials(&self) -> &AccountCredentials {
        &self.credentials
    }
}

/// A refusal in one line.
fn refusal(code: u16, status: EnhancedStatus, text: impl Into<String>) -> Reply {
    Reply::new(code, status, text.into())
}
