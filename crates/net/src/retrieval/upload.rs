//! What a site sends to its custodian (TBR §7.4): the list, the octets that the custodian has not got, the list once more.
//! After a break it goes on from what the custodian says that it has.

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
use reference::message_signature::Signer;
use reference::upload::{PART_MEDIA, UPLOAD_OFFSET, upload_path};
use tokio::time::timeout;
use tracing::debug;

use super::exchange::{Body, address, unwritable};
use super::post::{none, refused, unreached};
use super::signed::signed;
use super::{Client, NoAnswer, Shared};

/// Attempts that together brought this much are no failures, should they break: long objects go over short-lived links. It is
/// what the custodian says that it has: what was written may still lie in the kernel.
const WORTHWHILE: u64 = 64 * 1024;
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

impl Client {
    /// Hands a message over to a custodian, signed by the site's key, and goes on where a break has stopped it.
    ///
    /// # Errors
    /// [`NoAnswer`]: try again later. What the custodian has got by then it keeps for days.
    pub async fn hand_over(
        &self,
        host: &Domain,
        entry: MailEntry,
        signer: &Signer,
        source: &impl Source,
    ) -> Result<HandedOver, NoAnswer> {
        let shared = self.shared();
        let Ok(_place) = shared.uploads.take(host).await else { return Err(none("nothing is uploaded any more")) };
        let list = MailList { v: Revision1, mail: vec![entry.clone()] };
        let (began, brought) = (None, 0);
        Upload { client: self, shared: &shared, host, entry, list, signer, source, began, brought, is_second: false }
            .run()
            .await
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
    /// Where the last part began.
    began: Option<u64>,
    /// Octets that the custodian has got by the parts before it.
    brought: u64,
    /// The octets were found to be wrong once.
    is_second: bool,
}

/// How one step ended.
enum Step {
    Taken(Vec<NotTaken>),
    /// The custodian has all octets: it is asked once more.
    Whole,
    /// It has so many at least, and the rest did not get there.
    Broken(String),
    /// Going on makes no sense now.
    Final(NoAnswer),
}

impl<S: Source> Upload<'_, S> {
    async fn run(mut self) -> Result<HandedOver, NoAnswer> {
        let config = &self.shared.config;
        let (mut breaks, mut wait, mut mark) = (0, config.resumption_wait, 0);
        loop {
            let text = match self.step().await {
                Step::Taken(failed) => return Ok(HandedOver { failed, octets: self.brought }),
                Step::Final(no_answer) => return Err(no_answer),
                Step::Whole => continue,
                Step::Broken(text) => text,
            };
            debug!(host = %self.host, octets = self.brought, text, "an upload broke off");
            if self.brought < mark + WORTHWHILE {
                breaks += 1;
            } else {
                (breaks, wait, mark) = (0, config.resumption_wait, self.brought);
            }
            if breaks > config.resumptions {
                return Err(none(text));
            }
            self.shared.link.pause(wait).await;
            wait *= 2;
        }
    }

    /// The custodian says that it has so much.
    fn has(&mut self, at: u64) {
        self.brought += self.began.take().map_or(0, |began| at.saturating_sub(began));
    }

    /// The list, and then as much as it takes.
    async fn step(&mut self) -> Step {
        let answer = match self.client.post_mail(self.host, &self.list, self.signer).await {
            Ok(answer) => answer,
            Err(no_answer) if no_answer.status.is_none() => return Step::Broken(no_answer.text),
            Err(no_answer) => return Step::Final(no_answer),
        };
        if let Some(taken) = answer.taken.into_iter().next() {
            self.has(self.entry.l);
            return Step::Taken(taken.failed);
        }
        match answer.wanted.first() {
            Some(wanted) => {
                self.has(wanted.at);
                self.part(wanted.at).await
            }
            None => Step::Final(none(format!("{} takes neither the message nor its octets now", self.host))),
        }
    }

    /// All octets from there on.
    async fn part(&mut self, at: u64) -> Step {
        let octets = match self.source.read(at).await {
            Ok(octets) => octets,
            Err(error) => return Step::Final(none(format!("the message cannot be read here: {error}"))),
        };
        self.began = Some(at);
        let request = self.request(at, octets);
        let sent = async { self.shared.send_part(self.host, request?, self.entry.l - at).await };
        match sent.await {
            Ok(response) => self.judge(&response),
            Err(Unsent::Broken(text)) => Step::Broken(text),
            Err(Unsent::NoAnswer(no_answer)) => Step::Final(no_answer),
        }
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

    fn judge(&mut self, response: &Response<()>) -> Step {
        match response.status() {
            StatusCode::NO_CONTENT => Step::Whole,
            // Another connection has got further, or the custodian has forgotten the list: both come out at the next one.
            status @ (StatusCode::CONFLICT | StatusCode::NOT_FOUND) => {
                Step::Broken(format!("{} answers {} to a part", self.host, status.as_u16()))
            }
            StatusCode::UNPROCESSABLE_ENTITY if !self.is_second => {
                self.is_second = true;
                Step::Broken(format!("{} has got other octets than were sent", self.host))
            }
            status => Step::Final(refused(self.host, status, response.headers())),
        }
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
        let mut connection = match self.pool.take(host).await {
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
            let response = connection.sender.send_request(request).await;
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
