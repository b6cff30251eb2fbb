//! What a site sends to its custodian (TBR §7.4): the list, the octets that the custodian has not got, the list once more.
//!
//! What follows which answer, and which break, is decided by `reference::handover`.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use mail::Domain;
use reference::body::Revision1;
use reference::bundle::{MailEntry, MailList, NotTaken};
use reference::handover::{Handover, Next, Patience};
use reference::message_signature::Signer;
use reference::upload::{PART_MEDIA, UPLOAD_OFFSET, upload_path};
use tokio::time::timeout;
use tracing::debug;

use super::connect::Errand;
use super::exchange::{Body, address, unwritable};
use super::post::{none, refused, unreached};
use super::signed::signed;
use super::{Client, NoAnswer, Shared};

/// Longest body of an answer to a part; it says nothing.
const MAX_WORDS: usize = 4096;

/// Octets of an object, in order.
pub type Octets = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Where an object's octets are read.
pub trait Source: Sync {
    /// All of them from this one on.
    fn read(&self, from: u64) -> impl Future<Output = io::Result<Octets>> + Send;
}

/// A message that the custodian has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// For whom it was not.
    pub failed: Vec<NotTaken>,
    /// Octets of the object that this brought, as the custodian says.
    pub octets: u64,
}

/// The custodian has not taken a message: try again later. What it has got by then it keeps for days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Why.
    pub why: NoAnswer,
    /// Octets of the object that this brought, as the custodian said last.
    pub octets: u64,
}

impl Client {
    /// Hands a message over to a custodian, signed by the site's key, and goes on where a break has stopped it.
    ///
    /// # Errors
    /// [`Stopped`]: try again later.
    pub async fn hand_over(
        &self,
        host: &Domain,
        entry: MailEntry,
        signer: &Signer,
        source: &impl Source,
    ) -> Result<HandedOver, Stopped> {
        let shared = self.shared();
        let stopped = |_| Stopped { why: none("nothing is uploaded any more"), octets: 0 };
        let _turn = shared.uploads.turn(host).await.map_err(stopped)?;
        let _place = shared.uploads.take(None).await.map_err(stopped)?;
        let config = &shared.config;
        let patience = Patience { breaks: config.resumptions, pause: config.resumption_wait };
        let (handover, list) = (Handover::new(entry.l, patience), MailList { v: Revision1, mail: vec![entry.clone()] });
        let why = none("it has not begun");
        Upload { client: self, shared: &shared, host, entry, list, signer, source, handover, why }.finish().await
    }
}

/// One message on its way.
struct Upload<'a, S> {
    client: &'a Client,
    shared: &'a Shared,
    host: &'a Domain,
    entry: MailEntry,
    list: MailList,
    signer: &'a Signer,
    source: &'a S,
    handover: Handover,
    /// What came last, if nothing comes after it.
    why: NoAnswer,
}

impl<S: Source> Upload<'_, S> {
    async fn finish(mut self) -> Result<HandedOver, Stopped> {
        let ended = self.run().await;
        let octets = self.handover.brought();
        ended.map(|failed| HandedOver { failed, octets }).map_err(|why| Stopped { why, octets })
    }

    /// For whom it was not taken.
    async fn run(&mut self) -> Result<Vec<NotTaken>, NoAnswer> {
        let mut next = Next::List;
        loop {
            next = match next {
                Next::List => self.list().await?,
                Next::ListAfter(pause) => {
                    self.shared.link.pause(pause).await;
                    self.list().await?
                }
                Next::Part(at) => self.part(at).await?,
                Next::Taken(failed) => return Ok(failed),
                Next::Stop => return Err(self.why.clone()),
            };
        }
    }

    async fn list(&mut self) -> Result<Next, NoAnswer> {
        match self.client.post_mail(self.host, &self.list, self.signer).await {
            Ok(answer) => {
                self.why = none(format!("{} takes neither the message nor its octets now", self.host));
                Ok(self.handover.listed(answer))
            }
            Err(no_answer) if no_answer.status.is_none() => Ok(self.broke(no_answer.text)),
            Err(no_answer) => Err(no_answer),
        }
    }

    /// All octets from there on.
    async fn part(&mut self, at: u64) -> Result<Next, NoAnswer> {
        let octets = self.source.read(at).await;
        let octets = octets.map_err(|error| none(format!("the message cannot be read here: {error}")))?;
        let request = match self.request(at, octets) {
            Ok(request) => request,
            Err(text) => return Ok(self.broke(text)),
        };
        match self.shared.send_part(self.host, request, self.entry.l - at).await {
            Ok(response) => Ok(self.answered(&response)),
            Err(Unsent::Broken(text)) => Ok(self.broke(text)),
            Err(Unsent::NoAnswer(no_answer)) => Err(no_answer),
        }
    }

    fn broke(&mut self, text: String) -> Next {
        debug!(host = %self.host, octets = self.handover.brought(), text, "an upload broke off");
        self.why = none(text);
        self.handover.broke()
    }

    fn answered(&mut self, response: &Response<()>) -> Next {
        self.why = match response.status() {
            status @ (StatusCode::CONFLICT | StatusCode::NOT_FOUND) => {
                none(format!("{} answers {} to a part", self.host, status.as_u16()))
            }
            status => refused(self.host, status, response.headers()),
        };
        self.handover.sent(response.status().as_u16())
    }

    fn request(&self, at: u64, octets: Octets) -> Result<Request<Body>, String> {
        let frames = octets.map(|chunk| chunk.map(Frame::data));
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(upload_path(&self.entry.o))
            .header(CONTENT_TYPE, PART_MEDIA)
            .header(CONTENT_LENGTH, self.entry.l - at)
            .header(UPLOAD_OFFSET, at)
            .body(StreamBody::new(frames).boxed_unsync())
            .map_err(unwritable)?;
        address(signed(request, self.host, None, std::slice::from_ref(self.signer))?, self.host)
    }
}

/// No answer to a part.
enum Unsent {
    Broken(String),
    NoAnswer(NoAnswer),
}

impl From<String> for Unsent {
    fn from(text: String) -> Self {
        Self::Broken(text)
    }
}

impl Shared {
    /// Sends a part of so many octets; the answer, without its body.
    async fn send_part(&self, host: &Domain, request: Request<Body>, length: u64) -> Result<Response<()>, Unsent> {
        let mut connection = match self.pool.take(host, Errand::Other).await {
            Ok(taken) => taken.connection,
            Err(error) => {
                let no_answer = unreached(error.into());
                let is_final = no_answer.bad_certificate;
                return Err(if is_final { Unsent::NoAnswer(no_answer) } else { Unsent::Broken(no_answer.text) });
            }
        };
        let local = connection.local;
        // The kernel gives a connection up on which nothing is acknowledged; this is for a custodian that goes on acknowledging.
        let seconds = length / self.config.minimum_rate.max(1);
        let limit = self.config.head_time + self.config.rate_grace + Duration::from_secs(seconds);
        let answered = async {
            let response = connection.sender.send(host, request).await;
            let response = response.map_err(|error| format!("the connection to the custodian broke: {error}"))?;
            let (head, body) = response.into_parts();
            let words = Limited::new(body, MAX_WORDS).collect().await;
            let is_read = words.is_ok();
            Ok::<_, String>((Response::from_parts(head, ()), is_read))
        };
        let (response, is_read) = tokio::select! {
            answered = timeout(limit, answered) => {
                answered.map_err(|_| "the custodian takes the octets too slowly".to_owned())??
            }
            () = self.link.lost(local) => return Err("the link is a new one".to_owned().into()),
        };
        if is_read && response.status() == StatusCode::NO_CONTENT {
            self.pool.put(host, connection);
        }
        Ok(response)
    }
}
