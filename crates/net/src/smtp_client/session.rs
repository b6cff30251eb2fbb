//! A session as callers use it: transactions, then back to the pool.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use mail::{EnhancedStatus, Envelope};
use smtp::client::{CannotSend, End, Event, Fate, Lost, Outcome, Refusal, Stage, Transfer};
use smtp::command::Tbr;
use smtp::{Capabilities, Reply};

use super::connect::Obtained;
use super::link::{Link, Turn};
use super::pool::Known;
use super::route::{Place, Places};
use super::{ConnectError, Destination, Inner};
use crate::tls::Security;

/// A peer that is ready for transactions. It has a connection to itself from the first transaction on, and others use
/// it until then. Dropped without [`Session::release`] that connection is closed.
pub struct Session {
    pub(super) inner: Arc<Inner>,
    pub(super) destination: Destination,
    /// Where it is, as was found when it was connected; a second connection looks again.
    pub(super) places: Option<Places>,
    /// None before the first transaction, and once the connection is lost.
    pub(super) link: Option<Box<Link>>,
    /// It was idle before, and may have been closed meanwhile.
    pub(super) reused: bool,
    pub(super) peer: String,
    pub(super) capabilities: Capabilities,
    pub(super) tls: bool,
    pub(super) security: Security,
}

/// What came of a transaction.
#[derive(Debug)]
pub struct Transaction {
    /// One for each recipient, in the order of the envelope. What the peer could not take at all (8-bit content,
    /// UTF-8 addresses, too many octets) is a permanent refusal in our words, at [`Stage::Mail`].
    pub fates: Vec<Fate>,
    /// Octets on the wire, both directions, from MAIL to the final reply, before TLS.
    pub octets: u64,
    /// The content could not be read to its end: the peer has nothing.
    pub broken_content: Option<io::Error>,
}

impl Session {
    pub(super) fn new(
        inner: Arc<Inner>,
        destination: Destination,
        places: Places,
        (place, known): (Place, Known),
    ) -> Self {
        let (peer, Known { capabilities, tls, security }) = (place.peer(), known);
        let places = Some(places);
        Self { inner, destination, places, link: None, reused: false, peer, capabilities, tls, security }
    }

    /// Host, address and port, for people.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// What the peer offers now.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Is the connection inside TLS?
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The demand that the connection's handshake met; [`Security::Off`] in clear.
    pub fn security(&self) -> &Security {
        &self.security
    }

    /// Sends a message: `prefix`, then exactly `size` octets of `content`; together they are lines with CR LF.
    /// Chunks of 64 to 256 KiB serve best. Nothing is read of `content` before the peer asks for it.
    ///
    /// An idle connection that turns out to be closed is replaced by another, before any content.
    pub async fn by_value<S>(&mut self, envelope: &Envelope, prefix: Bytes, content: S, size: u64) -> Transaction
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        let transfer = Transfer::Value { octets: size + prefix.len() as u64 };
        let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
        let mut body = Body { prefix, content: std::pin::pin!(content), left: size };
        self.transact(envelope, transfer, &mut body).await
    }

    /// Offers a reference: the arguments of the TBR line, and the block with its CR LFs, without the dot (TBR §3).
    /// A refusal of the offer itself has [`Stage::Offer`]; its reply 504 asks for the message by value. A peer that
    /// never said `TBR 1` counts as one that says 504.
    pub async fn offer(&mut self, envelope: &Envelope, line: Tbr, block: Bytes) -> Transaction {
        let mut body = Body { prefix: None, content: stream::empty(), left: 0 };
        self.transact(envelope, Transfer::Offer { line, block }, &mut body).await
    }

    /// Asks whether the recipients would be accepted, and sends nothing: MAIL, RCPT, RSET.
    pub async fn probe(&mut self, envelope: &Envelope) -> Vec<Fate> {
        let mut body = Body { prefix: None, content: stream::empty(), left: 0 };
        self.transact(envelope, Transfer::Probe, &mut body).await.fates
    }

    /// On a connection that was turned over: has it been lost?
    pub fn is_lost(&self) -> bool {
        self.link.is_none()
    }

    /// Ends the session.
    pub async fn quit(mut self) {
        if let Some(link) = self.link.take() {
            link.quit().await;
        }
    }

    /// Gives the connection back for the next message, if it is still good.
    pub fn release(mut self) {
        if let Some(link) = self.link.take()
            && link.smtp.is_ready()
            && link.uses < self.inner.settings.uses.min(self.capabilities.limits.transactions.unwrap_or(u32::MAX))
        {
            self.inner.pool.put(link);
        }
    }

    async fn transact(
        &mut self,
        envelope: &Envelope,
        transfer: Transfer,
        body: &mut Body<impl Stream<Item = io::Result<Bytes>> + Unpin + Send>,
    ) -> Transaction {
        // An offer is over in a round trip; what takes longer is worth a connection of its own.
        let eager = !matches!(transfer, Transfer::Offer { .. });
        loop {
            let link = match self.link(eager).await {
                Ok(link) => link,
                Err(error) => return Transaction::nothing(unreachable(error, envelope.recipients.len())),
            };
            let attempt = attempt(link, envelope, transfer.clone(), body).await;
            if !attempt.ready {
                self.link = None;
            }
            if !(std::mem::take(&mut self.reused) && attempt.went_unheard) {
                return attempt.transaction;
            }
        }
    }

    /// The connection, from now on only ours.
    pub(super) async fn link(&mut self, eager: bool) -> Result<&mut Link, ConnectError> {
        let link = match self.link.take() {
            Some(link) => link,
            None => {
                let places = match self.places.take() {
                    Some(places) => places,
                    None => Box::pin(self.inner.places(&self.destination)).await?,
                };
                let Obtained { link, place, reused } = self.inner.obtain(&self.destination, places, eager).await?;
                (self.peer, self.reused) = (place.peer(), reused);
                (self.tls, self.security) = (link.smtp.is_tls(), link.security.clone());
                self.capabilities = link.smtp.capabilities().clone();
                link
            }
        };
        let link = self.link.insert(link);
        link.occupy(eager);
        Ok(link)
    }
}

/// What goes over the wire after 354.
struct Body<S> {
    prefix: Option<Bytes>,
    content: S,
    /// Octets of the content that are still to come.
    left: u64,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Body<S> {
    /// The next chunk; the end only when nothing is left.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(prefix) = self.prefix.take() {
            return Ok(Some(prefix));
        }
        match self.content.next().await.transpose()? {
            None if self.left == 0 => Ok(None),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the content ends too early")),
            Some(chunk) => {
                let left = self.left.checked_sub(chunk.len() as u64);
                self.left =
                    left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the content is too long"))?;
                Ok(Some(chunk))
            }
        }
    }
}

struct Attempt {
    transaction: Transaction,
    /// Is the connection good for another?
    ready: bool,
    /// The peer closed, or said 421, before it can have heard anything of this transaction.
    went_unheard: bool,
}

async fn attempt(
    link: &mut Link,
    envelope: &Envelope,
    transfer: Transfer,
    body: &mut Body<impl Stream<Item = io::Result<Bytes>> + Unpin + Send>,
) -> Attempt {
    let (sent, received) = (link.sent, link.received);
    if let Err(error) = link.smtp.begin(link.now(), envelope, transfer) {
        let fates = vec![in_our_words(error); envelope.recipients.len()];
        let ready = link.smtp.is_ready();
        return Attempt { transaction: Transaction::nothing(fates), ready, went_unheard: false };
    }
    link.uses += 1;
    let (mut fates, mut broken_content, mut end, mut content_begun) = (Vec::new(), None, None, false);
    let ready = loop {
        match link.next().await {
            Turn::Content => {
                content_begun = true;
                match body.next().await {
                    Ok(Some(chunk)) => link.smtp.content(chunk),
                    Ok(None) => link.smtp.content_end(link.now()),
                    Err(error) => {
                        broken_content = Some(error);
                        link.smtp.lost();
                    }
                }
            }
            Turn::Event(Event::Done(Outcome { fates: done })) => fates = done,
            Turn::Event(Event::Ended(ended)) => end = Some(ended),
            Turn::Event(_) => {}
            Turn::Ready => break true,
            Turn::StartTls | Turn::Over | Turn::Closed => break false,
        }
    };
    let heard_nothing = match end {
        Some(End::Lost(_)) => link.received == received,
        Some(End::Closing(_)) => !content_begun && fates.iter().all(said_421),
        _ => false,
    };
    let octets = (link.sent - sent) + (link.received - received);
    Attempt { transaction: Transaction { fates, octets, broken_content }, ready, went_unheard: heard_nothing }
}

fn said_421(fate: &Fate) -> bool {
    matches!(fate, Fate::Temporary(Refusal { stage: Stage::Mail, reply }) if reply.code() == 421)
}

impl Transaction {
    /// Nothing went over the wire.
    fn nothing(fates: Vec<Fate>) -> Self {
        Self { fates, octets: 0, broken_content: None }
    }
}

/// What the session refuses for the peer.
fn in_our_words(error: CannotSend) -> Fate {
    let text = error.to_string();
    match (error, error.status()) {
        (_, Some(status)) => Fate::Permanent(Refusal { stage: Stage::Mail, reply: Reply::new(554, status, text) }),
        (CannotSend::NoTbr, _) => {
            let reply = Reply::new(504, EnhancedStatus::permanent(5, 4), text);
            Fate::Permanent(Refusal { stage: Stage::Offer, reply })
        }
        (CannotSend::NotReady, _) => Fate::NotSent(Lost::Closed),
        _ => {
            let reply = Reply::new(451, EnhancedStatus::temporary(3, 0), text);
            Fate::Temporary(Refusal { stage: Stage::Mail, reply })
        }
    }
}

fn unreachable(error: ConnectError, recipients: usize) -> Vec<Fate> {
    let reply = Reply::new(451, Some(error.status), error.text);
    vec![Fate::Temporary(Refusal { stage: Stage::Mail, reply }); recipients]
}
