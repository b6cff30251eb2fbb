//! The repository's HTTPS server (TBR §7): objects for grants, claims, receipts, delegations, what waits for sites and what they send, the domain document.
//!
//! What exists and who may have it is asked of a [`Repository`]; this module owns sockets, HTTP and limits. Without a
//! valid grant every request gets the same 404; nothing lists what there is; no grant is ever logged.

mod answer;
mod body;
#[cfg(test)]
mod bound_tests;
mod coding;
mod connection;
mod guard;
mod object;
mod range;
mod replays;
mod server;
mod signatures;
mod streams;
#[cfg(test)]
mod streams_tests;
#[cfg(test)]
mod tests;
mod turns;
mod upload;
#[cfg(test)]
mod upload_tests;

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use mail::ledger::{Coded, Coding};
use mail::{Domain, Grant, Holder, Xuid};
use reference::bundle::MailList;
use reference::claims::{ClaimsAnswer, ClaimsRequest, ReceiptsAnswer, ReceiptsRequest};
use reference::delegate::{DelegateAnswer, DelegateRequest};
use reference::message_signature::{KeyId, SignedBy};
use reference::pending::{Cursor, Page, PendingList};
use reference::upload::MailAnswer;
use reference::{DomainFacts, KeyRecord};

pub use replays::Replays;
pub use server::{serve, serve_stream};

/// Octets of an object, in order. Chunks of 64 to 256 KiB serve best; they are written without a copy up to TLS.
pub type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What the server asks of the rest of the system. Every method may be called from many connections at once.
pub trait Repository: Send + Sync + 'static {
    /// Whatever [`Repository::read`] needs to find an object again.
    type Handle: Send + 'static;

    /// The domains that those of these grants are bound to that exist and are bound. Asked about signed requests only.
    fn binding(&self, grants: Vec<Grant>) -> impl Future<Output = Result<Vec<Domain>, Busy>> + Send;

    /// A key that a domain publishes, surely enough, or that one of its users has told this server of; and whose it is. Asked only
    /// of domains that [`Repository::binding`] has named, and of sites. A key that is not known, now or at all, is [`Busy`]: it may
    /// have been published just now.
    fn key(&self, id: &KeyId) -> impl Future<Output = Result<(Holder, KeyRecord), Busy>> + Send;

    /// What may this grant fetch, in a request signed by these?
    fn locate(&self, xuid: Xuid, grant: &Grant, signed: SignedBy)
    -> impl Future<Output = Located<Self::Handle>> + Send;

    /// Reads a range of an object that was located, or of its octets under the coding that [`Located::Object`] named; it is
    /// not empty and lies within the size. The stream must yield exactly that many octets: more or fewer break the
    /// connection.
    fn read(
        &self,
        handle: Self::Handle,
        coding: Option<Coding>,
        range: Range<u64>,
    ) -> impl Future<Output = io::Result<Chunks>> + Send;

    /// Answers claims (TBR §8) in a request signed by these. Entries that match nothing are left out; an answer without
    /// entries becomes a 404. Whatever is answered is durable.
    fn claims(
        &self,
        request: ClaimsRequest,
        signed: SignedBy,
    ) -> impl Future<Output = Result<ClaimsAnswer, Busy>> + Send;

    /// Records receipts, likewise.
    fn receipts(
        &self,
        request: ReceiptsRequest,
        signed: SignedBy,
    ) -> impl Future<Output = Result<ReceiptsAnswer, Busy>> + Send;

    /// Records that a relay passes on by reference what was offered to it (TBR §7.3), in a request signed by these, whose
    /// hop this also checks. `None`: there is nothing that it could delegate here, the same 404 for everybody.
    fn delegate(
        &self,
        request: DelegateRequest,
        signed: SignedBy,
    ) -> impl Future<Output = Result<Option<DelegateAnswer>, Busy>> + Send;

    /// The site that a key of this name is of, where its custodian is here under this host: it may ask there for what is pending
    /// (TBR §7.4). A domain, or one user of it. By default there are no sites.
    fn site(&self, _id: &KeyId, _host: &Domain) -> Option<Holder> {
        None
    }

    /// A page of what waits for a site that has signed the request. Asked only where [`Repository::site`].
    fn pending(
        &self,
        _site: &Holder,
        _after: Option<Cursor>,
    ) -> impl Future<Output = Result<PendingList, Busy>> + Send {
        std::future::ready(Ok(Page::default().finish(None)))
    }

    /// Takes of a list what is here, and says how much of the rest is (TBR §7.4). Asked only where [`Repository::site`]. What it
    /// says that it has taken is durable.
    fn mail(&self, _site: &Holder, _list: MailList) -> impl Future<Output = Result<MailAnswer, NotTaken>> + Send {
        std::future::ready(Ok(MailAnswer::default()))
    }

    /// Takes a part of an object that a list of the site has named. Asked only where [`Repository::site`]. The part's octets
    /// come from the connection, and may break off.
    fn upload(&self, _site: &Holder, _part: Part) -> impl Future<Output = Uploaded> + Send {
        std::future::ready(Uploaded::Unknown)
    }

    /// The facts to publish at `https://tbr.<domain>/.well-known/tbr/domain`; `None` for a domain not served here.
    /// [`DomainFacts::max_age`] becomes the document's and the response's.
    fn document(&self, domain: &Domain) -> impl Future<Output = Option<DomainFacts>> + Send;

    /// The MTA-STS policy to publish at `https://mta-sts.<domain>/.well-known/mta-sts.txt` (RFC 8461 §3.3), if there is one.
    fn mta_sts(&self, domain: &Domain) -> Option<String>;

    /// So many octets of an object were handed to the connection of somebody with this grant: for `trace`.
    /// Called once for each retrieval, whole or broken off; must not block.
    fn served(&self, grant: &Grant, octets: u64);
}

/// What a grant may fetch.
#[derive(Debug)]
pub enum Located<H> {
    /// This object.
    Object {
        /// Its name, the one that was asked for: becomes digest and ETag.
        xuid: Xuid,
        /// Its size in octets.
        size: u64,
        /// What it is under the coding that it is stored in, if it is: served to who asks for that.
        coded: Option<Coded>,
        /// For [`Repository::read`].
        handle: H,
    },
    /// Nothing, for whatever reason: the same 404 for everybody.
    Unknown,
    /// The grant is right, but the reference was withdrawn or has expired: 410.
    Gone,
    /// It cannot be told or served now: 503.
    Unavailable(Busy),
}

/// Not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// When to come again, in whole seconds on the wire (rounded up, at least 1).
    pub retry_after: Duration,
}

/// A part of an object that a site uploads.
pub struct Part {
    /// Which object.
    pub xuid: Xuid,
    /// Where in it the part begins.
    pub offset: u64,
    /// Octets of it.
    pub length: u64,
    /// Those octets: exactly so many, unless the stream fails.
    pub octets: Chunks,
}

/// What came of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    /// So much of the object is here now, durably.
    At(u64),
    /// The part does not begin where the octets that are here end, or another one has taken its place: go on from there.
    Elsewhere(u64),
    /// No list of this site names the object: the same 404 for everybody.
    Unknown,
    /// More than the list says: nothing of the part is taken.
    TooLong,
    /// All octets are here, and they are not the object. They are thrown away.
    Wrong,
    /// Not taken now.
    NotTaken(NotTaken),
}

/// Why nothing is taken of a site's mail, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// 503.
    Busy(Busy),
    /// 429: the site has sent enough for now.
    TooMany(Busy),
    /// 507: there is no room for it.
    Full(Busy),
}

/// Limits on what peers can take. All apply to every listener by itself.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time; further ones wait unaccepted.
    pub connections: usize,
    /// Connections at a time from one IPv4 address or IPv6 /64; further ones are closed at once.
    pub connections_per_peer: usize,
    /// Time for the TLS handshake.
    pub handshake_time: Duration,
    /// Time from the handshake or the end of a response to the end of the next request's header: keep-alive ends so.
    pub header_time: Duration,
    /// Largest request header in octets, request line included.
    pub header_octets: usize,
    /// Time for the body of a POST.
    pub body_time: Duration,
    /// Longest time without an octet of a part that is uploaded.
    pub part_stall: Duration,
    /// Time for the [`Repository`] to answer; then 503.
    pub answer_time: Duration,
    /// Slowest rate, in octets a second, at which a client must take a response, averaged from the response's
    /// beginning and after `rate_grace`; a slower one is cut off.
    pub minimum_rate: u64,
    /// See `minimum_rate`.
    pub rate_grace: Duration,
    /// Requests on one connection; the last one is answered with `Connection: close`, or is the last one that is begun.
    pub requests: u32,
    /// Requests at a time on one connection, where it is HTTP/2.
    pub streams: u32,
    /// Time that open responses get after shutdown began.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_peer: 64,
            handshake_time: Duration::from_secs(10),
            header_time: Duration::from_secs(60),
            header_octets: 16 * 1024,
            body_time: Duration::from_secs(30),
            part_stall: Duration::from_secs(60),
            answer_time: Duration::from_secs(30),
            minimum_rate: 4 * 1024,
            rate_grace: Duration::from_secs(30),
            requests: 10_000,
            streams: 16,
            drain_time: Duration::from_secs(10),
        }
    }
}
