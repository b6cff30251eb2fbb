//! Reading a bundle. It is hostile until its signature was verified by a key of the configuration, and what it holds is
//! after that as well: offers go to the desk that judges those of sessions, claims and receipts to the queue, as if they had
//! come over HTTPS.
//!
//! In one pass, in constant memory. Each message, claim and receipt is durable by itself: reading may break off anywhere, and
//! reading again changes nothing. A file that ends too early brings what stands before its end.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use mail::ledger::{Key, Owner, Phase, RowBody};
use mail::{Domain, Timestamp, Xuid};
use queue::letters::Letter;
use queue::port::{HeardEntry, Reply, Request, TakenEntry};
use reference::body::{BodyError, JsonBody};
use reference::bundle::{
    End, Heard, Kind, MAX_MANIFEST, MAX_SIGNATURE, MailEntry, MailList, Manifest, ManifestError, NotSealed, Sealed,
    TakenList, verify,
};
use reference::claims::{ClaimsRequest, ReceiptsRequest};
use reference::message_signature::{KeyId, SignedBy};
use reference::pending::{PendingList, PendingOffer};
use reference::verify::{CLOCK_SKEW, Parsed};
use reference::{DomainFacts, KeyRecord};
use store::{Full, Purpose, StoreError};
use tracing::{info, warn};

use super::archive::{Fault, Found, Name, Reader};
use super::{Bundles, Imported, custodian_of};
use crate::config::Config;
use crate::deliver::facts;
use crate::letters::{self, Carriage, NotNow};
use crate::receive::{Carrier, Taken};
use crate::repository::{port_claim, port_receipt};
use crate::runtime::now;
use crate::settings::KEY_WINDOW;

/// Offers judged at a time: signatures cost little, each commit is shared.
const JUDGED_AT_ONCE: usize = 16;

/// Why nothing of a file was taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotImported {
    /// It does not begin like a bundle.
    #[error("this is no bundle: {0}")]
    NoBundle(Fault),
    /// Its files are not what they must be.
    #[error("this is no bundle: its first files are not the manifest and its signature")]
    Order,
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The file or the connection broke.
    #[error("the bundle cannot be read: {0}")]
    Broken(String),
    /// It is for somebody else.
    #[error("{0}")]
    NotForUs(String),
    /// Its signature does not count.
    #[error(transparent)]
    NotSealed(#[from] NotSealed),
}

/// Why reading ends before the end.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("the file is damaged: {0}")]
    Fault(#[from] Fault),
    #[error("the file cannot be read: {0}")]
    Broken(String),
    #[error("the file is damaged: it does not hold what its manifest says")]
    Order,
    #[error("a part of it cannot be read: {0}")]
    Part(#[from] BodyError),
    #[error("there is no room for more: {0}")]
    Full(#[from] Full),
    #[error("it cannot be stored: {0}")]
    Store(#[from] StoreError),
    #[error("the queue cannot take more now")]
    Queue,
    #[error("a message from the site is not taken now: {0}")]
    Letter(#[from] NotNow),
}

/// The files of an archive as its octets arrive.
struct Files<S> {
    chunks: S,
    input: Bytes,
    reader: Reader,
}

impl<S, E> Files<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: ToString,
{
    async fn found(&mut self) -> Result<Found, Stop> {
        loop {
            if let Some(found) = self.reader.next(&mut self.input)? {
                return Ok(found);
            }
            self.input = match self.chunks.next().await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Err(Stop::Broken(error.to_string())),
                None => return Err(Fault::Torn.into()),
            };
        }
    }

    /// The next file; `None` at the end of the archive.
    async fn next(&mut self) -> Result<Option<(Name, u64)>, Stop> {
        match self.found().await? {
            Found::Begin(name, size) => Ok(Some((name, size))),
            Found::End => Ok(None),
            // Whoever reads a file reads it to its end.
            Found::Octets(_) | Found::Complete => Err(Stop::Order),
        }
    }

    /// The next octets of the file; `None` once all have come.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Stop> {
        match self.found().await? {
            Found::Octets(octets) => Ok(Some(octets)),
            _ => Ok(None),
        }
    }

    /// A small file.
    async fn whole(&mut self, size: u64, most: usize) -> Result<Vec<u8>, Stop> {
        if size > most as u64 {
            return Err(Stop::Order);
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn skip(&mut self) -> Result<(), Stop> {
        while self.chunk().await?.is_some() {}
        Ok(())
    }
}

/// What waits for one object.
struct Waiting {
    size: u64,
    who: Who,
}

/// Who waits for it.
enum Who {
    /// References that are in the ledger.
    References(Vec<Key>),
    /// A message from the site.
    Letter(Box<Letter>),
}

impl Waiting {
    fn count(&self) -> u64 {
        match &self.who {
            Who::References(keys) => keys.len() as u64,
            Who::Letter(_) => 1,
        }
    }
}

/// A bundle that is being read.
struct Import<'a> {
    bundles: &'a Bundles,
    manifest: Manifest,
    carrier: Carrier,
    imported: Imported,
}

impl Bundles {
    /// Reads a bundle, and takes what is good in it.
    ///
    /// # Errors
    /// [`NotImported`]: nothing was taken. What went wrong later stands in the result.
    pub(crate) async fn import<S, E>(&self, chunks: S) -> Result<Imported, NotImported>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: ToString,
    {
        let _one_at_a_time = self.reading.lock().await;
        let mut files = Files { chunks, input: Bytes::new(), reader: Reader::default() };
        let body = begin(&mut files, Name::Manifest, MAX_MANIFEST).await?;
        let manifest = Manifest::parse(&body)?;
        let signature = begin(&mut files, Name::Signature, MAX_SIGNATURE).await?;
        let config = self.reception.config.get();
        let carrier = carrier(&config, &manifest)?;
        let sealed = verify(&body, &manifest.host, &signature, |id| key(id, &carrier), now())?;
        let imported = Imported::new(&manifest, &sealed);
        let mut import = Import { bundles: self, manifest, carrier, imported };
        match import.read(&mut files).await {
            Ok(()) => import.imported.whole = true,
            Err(stop) => import.imported.error = Some(stop.to_string()),
        }
        tell(&import.imported);
        Ok(import.imported)
    }
}

impl Imported {
    fn new(manifest: &Manifest, sealed: &Sealed) -> Self {
        Self {
            name: sealed.name.to_string(),
            site: manifest.site.clone(),
            custodian: manifest.host.clone(),
            from: manifest.from,
            whole: false,
            error: None,
            messages: 0,
            octets: 0,
            known: 0,
            missing: 0,
            later: 0,
            refused: 0,
            claims: 0,
            receipts: 0,
            unknown: 0,
            heard: 0,
            taken: 0,
        }
    }
}

/// One of the two files with which a bundle begins.
async fn begin<S, E>(files: &mut Files<S>, wanted: Name, most: usize) -> Result<Vec<u8>, NotImported>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: ToString,
{
    let body = async {
        match files.next().await? {
            Some((name, size)) if name == wanted => files.whole(size, most).await,
            _ => Err(Stop::Order),
        }
    };
    body.await.map_err(|stop| match stop {
        Stop::Fault(fault) => NotImported::NoBundle(fault),
        Stop::Broken(text) => NotImported::Broken(text),
        _ => NotImported::Order,
    })
}

/// Who has written it, as far as the configuration knows them: what their keys are is known without asking anybody.
fn carrier(config: &Config, manifest: &Manifest) -> Result<Carrier, NotImported> {
    let Manifest { from, site, host, .. } = manifest;
    let is_here = |text: &str| NotImported::NotForUs(format!("the bundle is {text}"));
    let keys = match from {
        End::Site => {
            let known = custodian_of(config, site).filter(|ours| ours == host);
            let site_keys = config.domain(site).and_then(|domain| domain.site.as_ref());
            let both = known.and(site_keys);
            &both.ok_or_else(|| is_here(&format!("from {site}, whose custodian at {host} this server is not")))?.keys
        }
        End::Custodian => {
            let ours = config.custodians_by_reference(site).find(|custodian| custodian.host == *host);
            let ours = ours.ok_or_else(|| {
                is_here(&format!("for {site}, from {host}; the configuration has no such [[custodian]] here"))
            })?;
            if ours.keys.is_empty() {
                let text = "the configuration does not say by which `keys` this [[custodian]] signs";
                return Err(NotImported::NotForUs(text.to_owned()));
            }
            &ours.keys
        }
    };
    let (from, to) = (now().before(KEY_WINDOW), now().after(KEY_WINDOW));
    let record = |(selector, key): (&reference::Selector, &reference::VerifyingKey)| {
        KeyRecord::active(selector.clone(), *key, from, to)
    };
    let sub = config.domain(site).and_then(|domain| domain.tbr.as_ref()).is_some_and(|tbr| tbr.subdomains);
    let facts = DomainFacts {
        domain: site.clone(),
        repo: vec![host.clone()],
        sub,
        keys: keys.iter().map(record).collect(),
        max_age: Duration::ZERO,
    };
    Ok(Carrier(facts))
}

fn key(id: &KeyId, carrier: &Carrier) -> Option<KeyRecord> {
    carrier.0.key(&id.selector).filter(|_| id.domain == carrier.0.domain).cloned()
}

impl Import<'_> {
    async fn read<S, E>(&mut self, files: &mut Files<S>) -> Result<(), Stop>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: ToString,
    {
        let parts = self.manifest.parts.clone();
        let mut next = files.next().await?;
        for (part, number) in parts.iter().zip(0_u16..) {
            match next {
                Some((name, size)) if name == Name::Part(number, part.kind) && size == part.size => {}
                _ => return Err(Stop::Order),
            }
            // The manifest has limited its size.
            let body = files.whole(part.size, reference::body::MAX_BODY).await?;
            if Xuid::of(&body) != part.sha256 {
                return Err(Stop::Order);
            }
            let mut waiting = self.part(part.kind, &body).await?;
            next = files.next().await?;
            while let Some((Name::Object(of, xuid), size)) = next
                && of == number
            {
                let read = self.object(files, waiting.remove(&xuid), xuid, size).await;
                if read.is_err() {
                    self.imported.missing += count(&waiting);
                }
                read?;
                next = files.next().await?;
            }
            self.imported.missing += count(&waiting);
        }
        if next.is_some() { Err(Stop::Order) } else { Ok(()) }
    }

    async fn part(&mut self, kind: Kind, body: &[u8]) -> Result<HashMap<Xuid, Waiting>, Stop> {
        match kind {
            Kind::Pending => return self.pending(PendingList::parse(body)?.pending).await,
            Kind::Claims => self.claims(ClaimsRequest::parse(body)?).await?,
            Kind::Receipts => self.receipts(ReceiptsRequest::parse(body)?).await?,
            Kind::Heard => self.heard(Heard::parse(body)?).await?,
            Kind::Mail => return self.mail(MailList::parse(body)?.mail).await,
            Kind::Taken => self.taken(TakenList::parse(body)?).await?,
        }
        Ok(HashMap::new())
    }

    /// Has offers judged; which objects are wanted for them.
    async fn pending(&mut self, offers: Vec<PendingOffer>) -> Result<HashMap<Xuid, Waiting>, Stop> {
        let (reception, host, carrier) = (&self.bundles.reception, &self.manifest.host, &self.carrier);
        let judge = |offer: PendingOffer| async move {
            // Boxed: judging is a deep future, and this one stands in deep ones.
            let taken = Box::pin(reception.carried(host, &offer, carrier)).await;
            (taken, Parsed::new(&offer.tbr, offer.block.as_bytes()).ok())
        };
        let judged: Vec<_> = stream::iter(offers.into_iter().map(judge)).buffered(JUDGED_AT_ONCE).collect().await;
        let mut here = Vec::new();
        for (taken, parsed) in judged {
            match (taken, parsed) {
                (Taken::Pending, Some(parsed)) => here.push(Key::Inbound(parsed.id(), parsed.signer().clone())),
                (Taken::Known, _) => self.imported.known += 1,
                (Taken::Later, _) => self.imported.later += 1,
                (Taken::Refused | Taken::Pending, _) => self.imported.refused += 1,
            }
        }
        let (taken, mut waiting) = (here.len() as u64, HashMap::<Xuid, Waiting>::new());
        for row in self.bundles.reception.store.load(here).await? {
            match row.body {
                RowBody::Inbound(inbound) if inbound.phase == Phase::Waiting => {
                    let empty = Waiting { size: inbound.size, who: Who::References(Vec::new()) };
                    let waiting = waiting.entry(inbound.xuid).or_insert(empty);
                    if let Who::References(keys) = &mut waiting.who {
                        keys.push(row.key);
                    }
                }
                _ => {}
            }
        }
        // The others have been fetched meanwhile, or claimed elsewhere.
        self.imported.known += taken - count(&waiting);
        Ok(waiting)
    }

    /// Takes an object for whom it is wanted. What nobody wants is passed over, as is what is not what they want.
    async fn object<S, E>(
        &mut self,
        files: &mut Files<S>,
        wanted: Option<Waiting>,
        xuid: Xuid,
        size: u64,
    ) -> Result<(), Stop>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: ToString,
    {
        let Some(wanted) = wanted else { return files.skip().await };
        let all = wanted.count();
        if size != wanted.size {
            self.imported.missing += all;
            return files.skip().await;
        }
        let taken = self.take(files, wanted.who, xuid, size).await;
        let brought = *taken.as_ref().unwrap_or(&0);
        self.imported.messages += brought;
        self.imported.missing += all - brought;
        self.imported.octets += if brought > 0 { size } else { 0 };
        taken.map(drop)
    }

    /// Stores an object and hands it to the queue; for how many messages that was.
    async fn take<S, E>(&self, files: &mut Files<S>, who: Who, xuid: Xuid, size: u64) -> Result<u64, Stop>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: ToString,
    {
        let store = &self.bundles.reception.store;
        let owner = Owner { account: None, domain: Some(self.manifest.site.clone()) };
        // A reference was accepted: new mail has left room for it.
        let purpose = if matches!(who, Who::Letter(_)) { Purpose::New } else { Purpose::Custody };
        let _room = store.reserve(owner, purpose, size)?;
        let mut writer = store.create();
        while let Some(chunk) = files.chunk().await? {
            writer.write(&chunk).await?;
        }
        let (object, checked) = writer.finish().await?;
        let facts = facts(&checked);
        if object.xuid != xuid || object.size != size || !facts.is_object {
            warn!(%xuid, "an object in a bundle is not the one that was signed");
            store.discard(&object);
            return Ok(0);
        }
        let keys = match who {
            Who::References(keys) => keys,
            Who::Letter(letter) => {
                // One that goes nowhere is known as well: its author is told.
                self.bundles.letters.take(&letter, Carriage::Bundle, object, checked).await?;
                return Ok(1);
            }
        };
        match self.bundles.reception.custody.ask(Request::Carried { keys, object: object.clone(), facts }).await {
            Reply::Carried(taken) if taken > 0 => Ok(taken),
            other => {
                store.discard(&object);
                if matches!(other, Reply::Carried(_)) { Ok(0) } else { Err(Stop::Queue) }
            }
        }
    }

    fn signed(&self) -> SignedBy {
        let mut signed = SignedBy::default();
        signed.add(self.manifest.site.clone(), self.manifest.host.clone());
        signed
    }

    async fn claims(&mut self, request: ClaimsRequest) -> Result<(), Stop> {
        let claims = request.claims.into_iter().map(port_claim).collect();
        let asked = Request::Claims { instance: request.instance, claims, signed: self.signed() };
        let Reply::Claims(answers) = self.bundles.reception.custody.ask(asked).await else { return Err(Stop::Queue) };
        let heard = answers.iter().filter(|answer| answer.is_some()).count();
        self.imported.claims += heard as u64;
        self.imported.unknown += (answers.len() - heard) as u64;
        Ok(())
    }

    async fn receipts(&mut self, request: ReceiptsRequest) -> Result<(), Stop> {
        let receipts = request.receipts.into_iter().map(port_receipt).collect();
        let asked = Request::Receipts { instance: request.instance, receipts, signed: self.signed() };
        let Reply::Receipts(answers) = self.bundles.reception.custody.ask(asked).await else { return Err(Stop::Queue) };
        let heard = answers.iter().filter(|answer| answer.is_some()).count();
        self.imported.receipts += heard as u64;
        self.imported.unknown += (answers.len() - heard) as u64;
        Ok(())
    }

    /// Reads the site's mail; which objects are wanted for it.
    async fn mail(&mut self, entries: Vec<MailEntry>) -> Result<HashMap<Xuid, Waiting>, Stop> {
        let mut waiting = HashMap::new();
        for entry in entries {
            let is_of_the_future = Timestamp::from_secs(entry.at) > now().after(CLOCK_SKEW);
            let too_large = entry.l > self.bundles.reception.config.get().limits.message_size;
            let letter =
                letters::read(entry, &self.manifest.site.clone().into()).filter(|_| !is_of_the_future && !too_large);
            let Some(letter) = letter else {
                self.imported.refused += 1;
                continue;
            };
            if self.bundles.letters.knows(&letter).await? {
                self.imported.known += 1;
                continue;
            }
            let (xuid, size) = (letter.xuid, letter.size);
            let before = waiting.insert(xuid, Waiting { size, who: Who::Letter(Box::new(letter)) });
            // Two messages of one content come in two parts.
            self.imported.missing += before.map_or(0, |before| before.count());
        }
        Ok(waiting)
    }

    async fn taken(&mut self, list: TakenList) -> Result<(), Stop> {
        let entries = list.taken.into_iter().map(|entry| TakenEntry {
            key: entry.id,
            failed: entry.failed.into_iter().map(|one| (one.rcpt, one.status, one.text.into())).collect(),
        });
        let asked = Request::Taken { entries: entries.collect() };
        let Reply::Taken(news) = self.bundles.reception.custody.ask(asked).await else { return Err(Stop::Queue) };
        self.imported.taken += news;
        Ok(())
    }

    async fn heard(&mut self, heard: Heard) -> Result<(), Stop> {
        if heard.instance != self.bundles.reception.store.instance() {
            return Ok(());
        }
        let site: &Domain = &self.manifest.site;
        let entries = heard.heard.into_iter().map(|entry| HeardEntry {
            key: Key::Inbound(entry.i, site.clone()),
            claimed: entry.n,
            recorded: entry.recorded.iter().map(|one| (one.n, one.action)).collect(),
        });
        let asked = Request::Heard { entries: entries.collect() };
        let Reply::Heard(news) = self.bundles.reception.custody.ask(asked).await else { return Err(Stop::Queue) };
        self.imported.heard += news;
        Ok(())
    }
}

fn count(waiting: &HashMap<Xuid, Waiting>) -> u64 {
    waiting.values().map(Waiting::count).sum()
}

fn tell(imported: &Imported) {
    let Imported { name, site, custodian, messages, octets, known, missing, later, refused, .. } = imported;
    let Imported { claims, receipts, unknown, heard, taken, .. } = imported;
    info!(name, %site, %custodian, messages, octets, known, missing, later, refused, claims, receipts, unknown, heard, taken, "a bundle was read");
    if let Some(error) = &imported.error {
        warn!(name, error, "the bundle was not read to its end");
    }
}
