//! Delivery over SMTP and LMTP: to mail exchangers, next hops and LMTP servers, by reference or by value.
//!
//! Connections, TLS and the protocol are `net`'s; whether to offer is the queue's word in the middle of the session.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use mail::ledger::{Leg, Route};
use mail::{Envelope, Recipient};
use net::smtp_client::{Client, Destination, Fate, Login, Protocol, Session, Stage, TlsPolicy, Transaction};
use queue::port::{Delivery, DeliveryEnd, JobEvent, Peer, Proceed, RecipientEnd};
use reference::codes::{self, OfferReply};
use smtp::command::Tbr;
use smtp::{Reply, Secret};
use store::Store;

use crate::config::{Config, HostName, Lmtp, LmtpEndpoint, Relay, RelayTls};
use crate::runtime::JobLine;

/// The reply code that asks for the message by value (TBR §3).
const BY_VALUE_PLEASE: u16 = 504;

/// The configured next hops and LMTP servers in force; replaced as a whole on reload.
#[derive(Clone)]
pub(crate) struct Hosts(Arc<RwLock<Arc<Tables>>>);

struct Tables {
    relays: BTreeMap<String, Relay>,
    lmtp: BTreeMap<String, Lmtp>,
}

impl Hosts {
    pub(crate) fn new(config: &Config) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Tables::of(config)))))
    }

    pub(crate) fn replace(&self, config: &Config) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Tables::of(config));
    }

    /// Where a route leads; an error names what is missing.
    pub(crate) fn destination(&self, route: &Route) -> Result<Destination, String> {
        let tables = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        match route {
            Route::Mx(domain) => Ok(Destination::exchangers_of(domain.clone())),
            Route::Relay(name) => match tables.relays.get(name) {
                Some(relay) => relay_destination(relay),
                None => Err(format!("the configuration has no relay \"{name}\" any more")),
            },
            Route::Lmtp(name) => match tables.lmtp.get(name) {
                Some(lmtp) => Ok(Destination::lmtp(lmtp_route(lmtp))),
                None => Err(format!("the configuration has no LMTP server \"{name}\" any more")),
            },
            Route::Maildir(_) | Route::Discard => Err("that is no host".to_owned()),
        }
    }
}

impl Tables {
    fn of(config: &Config) -> Self {
        Self { relays: config.relays.clone(), lmtp: config.lmtp.clone() }
    }
}

fn relay_destination(relay: &Relay) -> Result<Destination, String> {
    let tls = match relay.tls {
        RelayTls::Opportunistic => TlsPolicy::Opportunistic,
        RelayTls::Required => TlsPolicy::Required,
        RelayTls::Verified => TlsPolicy::Verified,
        RelayTls::Implicit => TlsPolicy::Implicit,
        RelayTls::Off => TlsPolicy::Off,
    };
    let login = relay.login.as_ref().map(|login| {
        let file = &login.password_file;
        let text = fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let password = text.lines().next().unwrap_or_default();
        Ok::<_, String>(Login { user: login.username.clone(), password: Secret::new(password.as_bytes()) })
    });
    Ok(Destination {
        route: host_route(&relay.host, relay.port),
        protocol: Protocol::Smtp,
        tls,
        login: login.transpose()?,
    })
}

fn lmtp_route(lmtp: &Lmtp) -> net::smtp_client::Route {
    match &lmtp.endpoint {
        LmtpEndpoint::Tcp(host, port) => host_route(host, *port),
        LmtpEndpoint::Unix(path) => net::smtp_client::Route::Unix(path.clone()),
    }
}

fn host_route(host: &HostName, port: u16) -> net::smtp_client::Route {
    match host {
        HostName::Name(name) => net::smtp_client::Route::Host(name.clone(), port),
        HostName::Address(address) => net::smtp_client::Route::Address(*address, port),
    }
}

/// Delivers legs over SMTP and LMTP.
pub(super) struct SmtpCourier {
    pub(super) client: Client,
    pub(super) hosts: Hosts,
    pub(super) store: Store,
}

impl SmtpCourier {
    /// One attempt: connect, ask the queue how to go on, transact, and once more where the offer was declined.
    pub(super) async fn deliver(&self, delivery: &Delivery, mut line: JobLine) -> DeliveryEnd {
        let destination = match self.hosts.destination(&delivery.leg.route) {
            Ok(destination) => destination,
            Err(text) => return unreachable(text, mail::EnhancedStatus::temporary(3, 5)),
        };
        let mut session = match self.client.connect(&destination).await {
            Ok(session) => session,
            Err(error) if error.temporary => return unreachable(error.text, error.status),
            Err(error) => return DeliveryEnd::Impossible { text: error.text, status: error.status },
        };
        let end = self.converse(delivery, &mut session, &mut line).await;
        session.release();
        end
    }

    async fn converse(&self, delivery: &Delivery, session: &mut Session, line: &mut JobLine) -> DeliveryEnd {
        let mut event = JobEvent::Connected(peer(session));
        loop {
            match line.ask(event).await {
                Some(Proceed::ByValue { positions }) => return self.by_value(delivery, session, positions).await,
                Some(Proceed::Offer { uri, block, positions }) => {
                    match self.offer(delivery, session, &uri, block, positions).await {
                        Ok(end) => return end,
                        Err(text) => event = JobEvent::OfferDeclined { text },
                    }
                }
                Some(Proceed::Abandon) | None => return nothing(session),
            }
        }
    }

    async fn by_value(&self, delivery: &Delivery, session: &mut Session, positions: Vec<u16>) -> DeliveryEnd {
        let leg = &delivery.leg;
        let Some(object) = &leg.object else {
            return unreachable("the content is gone".to_owned(), mail::EnhancedStatus::temporary(3, 0));
        };
        let reader = match self.store.read(object, 0..object.size).await {
            Ok(reader) => reader,
            Err(error) => return unreachable(error.to_string(), mail::EnhancedStatus::temporary(3, 0)),
        };
        let prefix = match leg.route {
            // LMTP is final delivery: the trace is complete here.
            Route::Lmtp(_) => format!("{}{}", mail::trace::return_path(leg.mail_from.as_ref()), leg.prefix),
            _ => leg.prefix.clone(),
        };
        let envelope = envelope(leg, &positions);
        let transaction = session.by_value(&envelope, Bytes::from(prefix), chunks(reader), object.size).await;
        if let Some(error) = transaction.broken_content {
            return unreachable(format!("cannot read the message: {error}"), mail::EnhancedStatus::temporary(3, 0));
        }
        let final_delivery = matches!(leg.route, Route::Lmtp(_));
        ended(session, transaction, positions, &|fate| value_end(fate, final_delivery), false)
    }

    /// `Err`: the peer asks for the message by value.
    async fn offer(
        &self,
        delivery: &Delivery,
        session: &mut Session,
        uri: &str,
        block: String,
        positions: Vec<u16>,
    ) -> Result<DeliveryEnd, String> {
        let hops =
            block.lines().filter(|line| line.get(..8).is_some_and(|l| l.eq_ignore_ascii_case("tbr-hop:"))).count();
        let line = Tbr::parse(&format!("{hops} {uri}")).map_err(|error| error.to_string())?;
        let envelope = envelope(&delivery.leg, &positions);
        let transaction = session.offer(&envelope, line, Bytes::from(block)).await;
        let declined = transaction.fates.iter().find_map(|fate| match fate {
            Fate::Permanent(refusal) if refusal.stage == Stage::Offer && refusal.reply.code() == BY_VALUE_PLEASE => {
                Some(refusal.reply.to_string())
            }
            _ => None,
        });
        match declined {
            Some(text) => Err(text),
            None => Ok(ended(session, transaction, positions, &offer_end, true)),
        }
    }
}

fn peer(session: &Session) -> Peer {
    let capabilities = session.capabilities();
    Peer { name: session.peer().to_owned(), tbr: capabilities.tbr, dsn: capabilities.dsn }
}

/// The envelope as it goes to this destination.
fn envelope(leg: &Leg, positions: &[u16]) -> Envelope {
    let chosen = positions.iter().filter_map(|position| leg.recipients.get(usize::from(*position)));
    let recipients: Vec<Recipient> = chosen.map(|recipient| recipient.recipient.clone()).collect();
    let mut params = leg.params.clone();
    if leg.facts.eight_bit {
        params.body = mail::Body::EightBit;
    }
    Envelope { mail_from: leg.mail_from.clone(), params, recipients }
}

/// The reader as a stream of chunks.
fn chunks(reader: store::ObjectReader) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    Box::pin(try_unfold(reader, |mut reader| async move {
        let chunk = reader.next_chunk().await.map_err(io::Error::other)?;
        Ok(chunk.map(|chunk| (chunk, reader)))
    }))
}

fn ended(
    session: &Session,
    transaction: Transaction,
    positions: Vec<u16>,
    end_of: &dyn Fn(Fate) -> RecipientEnd,
    offer: bool,
) -> DeliveryEnd {
    let octets = transaction.octets;
    let outcomes = positions.into_iter().zip(transaction.fates.into_iter().map(end_of)).collect();
    DeliveryEnd::Transaction { offer, outcomes, peer: session.peer().to_owned(), octets }
}

fn value_end(fate: Fate, final_delivery: bool) -> RecipientEnd {
    match fate {
        Fate::Accepted(reply) => RecipientEnd::Accepted { final_delivery, text: words(&reply) },
        other => refused(other),
    }
}

/// A 250 that says "claimed" or "done" counts as the claim (TBR §8).
fn offer_end(fate: Fate) -> RecipientEnd {
    match fate {
        Fate::Accepted(reply) => {
            let claimed = codes::classify(reply.code(), reply.status()) == OfferReply::Claimed;
            RecipientEnd::Accepted { final_delivery: claimed, text: words(&reply) }
        }
        other => refused(other),
    }
}

fn refused(fate: Fate) -> RecipientEnd {
    use mail::EnhancedStatus as Status;
    match fate {
        Fate::Accepted(reply) => RecipientEnd::Accepted { final_delivery: false, text: words(&reply) },
        Fate::Temporary(refusal) => RecipientEnd::Temporary {
            status: refusal.reply.status().unwrap_or(Status::temporary(0, 0)),
            text: words(&refusal.reply),
            to_offer: refusal.stage == Stage::Offer,
        },
        Fate::Permanent(refusal) => {
            let (code, status) = (refusal.reply.code(), refusal.reply.status());
            let to_offer = refusal.stage == Stage::Offer;
            RecipientEnd::Permanent {
                status: status.unwrap_or(Status::permanent(0, 0)),
                text: words(&refusal.reply),
                // Only what by value would not meet as well is held against the offer (TBR §8).
                to_offer: to_offer && codes::classify(code, status) == OfferReply::ByValue,
            }
        }
        Fate::NotSent(lost) | Fate::Unknown(lost) => {
            RecipientEnd::Temporary { status: Status::temporary(4, 2), text: lost.to_string(), to_offer: false }
        }
    }
}

fn words(reply: &Reply) -> String {
    reply.to_string()
}

fn unreachable(text: String, status: mail::EnhancedStatus) -> DeliveryEnd {
    DeliveryEnd::Unreachable { text, status }
}

fn nothing(session: &Session) -> DeliveryEnd {
    let peer = session.peer().to_owned();
    DeliveryEnd::Transaction { offer: false, outcomes: Vec::new(), peer, octets: 0 }
}
