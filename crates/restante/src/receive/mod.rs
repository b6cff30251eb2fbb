//! Receiving: what SMTP sessions are allowed to do, and where what they bring goes.
//!
//! The protocol is `smtp`'s, sockets are `net`'s, addresses the router's, custody the queue's. Here the four meet, one
//! stage of a transaction after the other; nothing is accepted only to be bounced later.

mod credentials;
mod etrn;
mod filters;
mod gate;
mod hints;
mod offer;
mod on_demand;
mod pass_on;
mod pending;
mod probe;
mod sending;
mod session;
mod signing;
pub mod submission;

use std::sync::Arc;

use mail::EnhancedStatus;
use net::smtp_client;
use net::smtp_server::{Connection, Handler};
use smtp::Reply;
use store::Store;

use crate::config::Config;
use crate::deliver::Lines;
use crate::live::Live;
use crate::routing::Router;
use crate::runtime::Custody;

pub(crate) use credentials::AccountCredentials;
pub(crate) use etrn::AskedFor;
pub(crate) use filters::{Caller, Filtering, Filters, Passed};
pub(crate) use gate::{Approved, Gate, Memory, unreadable};
pub(crate) use hints::Hints;
pub(crate) use offer::{Carrier, OfferDesk, Verdict};
pub(crate) use pass_on::Exchangers;
pub(crate) use pending::{Taken, size_and_end};
pub(crate) use probe::Prober;
pub(crate) use sending::{Booked, Sending};
pub(crate) use session::Transactions;
pub(crate) use signing::{NotSigned, Signers, forwarder};

/// The router in force; replaced as a whole on reload.
pub(crate) type LiveRouter = Live<Router>;

/// The configuration in force, likewise.
pub(crate) type LiveConfig = Live<Config>;

/// What all sessions share.
pub(crate) struct Reception {
    pub(crate) config: LiveConfig,
    pub(crate) router: LiveRouter,
    pub(crate) store: Store,
    pub(crate) custody: Custody,
    pub(crate) desk: OfferDesk,
    pub(crate) prober: Prober,
    pub(crate) filters: Filters,
    pub(crate) gate: Gate,
    pub(crate) memory: Memory,
    pub(crate) signers: Signers,
    pub(crate) sending: Sending,
    pub(crate) hints: Hints,
    pub(crate) asked_for: AskedFor,
    /// Connections that customers have turned over.
    pub(crate) lines: Lines,
    /// For the sessions on them.
    pub(crate) smtp: Live<smtp_client::Client>,
}

/// What a session leaves with a reference for the judgement of its content. Plain data.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Left {
    /// For policy, where the session is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) evidence: Option<policy::Evidence>,
    /// For milters, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<Caller>,
}

/// Decisions about what a custodian sends on a connection that this server has opened and turned over (RFC 2645).
pub(crate) struct FromCustodian(Listener);

impl FromCustodian {
    pub(crate) fn new(reception: Arc<Reception>) -> Self {
        Self(Listener::new(reception))
    }
}

impl Handler for FromCustodian {
    type Session = Transactions;
    type Credentials = AccountCredentials;

    async fn connect(&self, _: &Connection) -> Result<Transactions, Reply> {
        Ok(Transactions::from_custodian(Arc::clone(&self.0.reception)))
    }

    fn credentials(&self) -> &AccountCredentials {
        &self.0.credentials
    }
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
