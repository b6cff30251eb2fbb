//! Writing a bundle: what waits for a site with its objects, or what a site has to say of what it got.
//!
//! Reads only what is committed, and changes nothing: custody stays where it is until the answer has come, so a bundle that
//! is lost has lost nothing.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use mail::ledger::{Key, Leg, ObjectRef, RecipientState, Route, Row, RowBody, by_pending};
use mail::{Domain, Holder, InstanceId, ReferenceId, Timestamp};
use queue::bundle::{Recorded, heard, owed};
use queue::letters::told;
use queue::port::{self, Command, Reply, Request, Selection};
use reference::body::{JsonBody, MAX_ENTRIES, Revision1};
use reference::bundle::{
    End, Heard, HeardEntry, Kind, MAX_PARTS, MailEntry, MailList, Manifest, Part, RecordedIndex, TakenEntry, TakenList,
    seal,
};
use reference::claims::{ClaimsRequest, ReceiptsRequest};
use reference::message_signature::Nonce;
use reference::pending::{PAGE, Page};
use serde::Serialize;
use store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::archive::{self, Name};
use super::{Bundles, Exported, custodian_of};
use crate::config::{Config, LocalDomain};
use crate::deliver::{claim_entry, receipt_entry};
use crate::letters;
use crate::repository::carried_offers;
use crate::runtime::{SystemEntropy, now};
use crate::waiting::each_of;

/// Rows read at a time.
const ROWS: usize = 256;
/// References of which a bundle says that they were heard, the newest ones: 8 parts of them.
const MAX_HEARD: usize = 8 * MAX_ENTRIES;
/// Most outcomes in one entry: its texts must fit into a part.
const MAX_OUTCOMES: usize = 200;
/// Most parts with claims and receipts: what is sent gets the others.
const MAX_ANSWERS: usize = MAX_PARTS / 2;
/// Room for what stands around the objects and offers: manifest, signature, headers, the end.
const AROUND: u64 = 64 * 1024;
/// Chunks that wait for whoever takes the archive.
const WAITING: usize = 8;
/// How long a bundle waits in all for messages that are being sent otherwise: most attempts are over by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at one of them.
const PAUSE: Duration = Duration::from_millis(200);

/// Which bundle is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// For this site, or from it.
    pub(crate) site: Domain,
    /// Which custodian, where the site has several.
    pub(crate) custodian: Option<Domain>,
    /// Most octets of the file.
    pub(crate) limit: Option<u64>,
    /// Where the last one ended.
    pub(crate) after: Option<String>,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotExported {
    /// The configuration has no such site here.
    #[error("{0}")]
    Unknown(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A limit of the format, or the library that signs.
    #[error("the bundle cannot be made: {0}")]
    Format(String),
}

/// A bundle that is ready to be written but for its objects, which are read as they go out.
pub(crate) struct Volume {
    store: Store,
    created: Timestamp,
    manifest: Vec<u8>,
    seal: String,
    parts: Vec<Drafted>,
}

/// A part, and the objects that follow it.
struct Drafted {
    kind: Kind,
    body: Vec<u8>,
    objects: Vec<ObjectRef>,
}

/// A bundle that is being put together.
struct Draft {
    parts: Vec<Drafted>,
    exported: Exported,
    limit: u64,
}

/// What became of a message that was to leave in a bundle.
enum Carried {
    Taken(Box<MailEntry>, ObjectRef),
    /// It is being sent otherwise.
    UnderWay,
    /// Nothing of it is left to send.
    Gone,
}

/// The two ends of a bundle.
struct Ends {
    from: End,
    site: Domain,
    host: Domain,
}

impl Bundles {
    /// Puts a bundle together.
    ///
    /// # Errors
    /// [`NotExported`].
    pub(crate) async fn export(&self, wanted: &Wanted) -> Result<(Exported, Option<Volume>), NotExported> {
        let ends = self.ends(wanted)?;
        let store = &self.reception.store;
        let mut draft = Draft::new(&ends, wanted.limit);
        match ends.from {
            End::Custodian => {
                if wanted.after.is_none() {
                    draft.add_heard(collect_heard(store, &ends.site).await?)?;
                    draft.add_taken(collect_taken(store, &ends.site).await?)?;
                }
                draft.add_pending(store, &ends.site, wanted.after.clone().unwrap_or_default(), now()).await?;
            }
            End::Site => {
                if wanted.after.is_none() {
                    let (claims, receipts) = collect_owed(store, &ends).await?;
                    draft.add_owed(store.instance(), claims, receipts)?;
                }
                let after = wanted.after.as_ref().and_then(|after| after.parse().ok());
                self.add_mail(&mut draft, &ends, after).await?;
            }
        }
        self.finish(&ends, draft)
    }

    /// Which end of whose link is this server?
    fn ends(&self, wanted: &Wanted) -> Result<Ends, NotExported> {
        let config = self.reception.config.get();
        let site = wanted.site.clone();
        if let Some(host) = custodian_of(&config, &site) {
            return Ok(Ends { from: End::Custodian, site, host });
        }
        if config.domain(&site).is_some_and(LocalDomain::is_of_one_user) {
            let text = format!("bundles are for whole domains: the mail of one user of {site} goes over a link");
            return Err(NotExported::Unknown(text));
        }
        let is_named = |host: &Domain| wanted.custodian.as_ref().is_none_or(|named| named == host);
        let custodians = config.custodians_by_reference(&site);
        let hosts: Vec<Domain> = custodians.map(|c| c.host.clone()).filter(|host| is_named(host)).collect();
        match hosts.as_slice() {
            [host] => Ok(Ends { from: End::Site, site, host: host.clone() }),
            [] => Err(NotExported::Unknown(format!(
                "{site} is neither a site whose custodian this server is, nor a domain of ours with a [[custodian]]"
            ))),
            _ => Err(NotExported::Unknown(format!("{site} has several custodians: name one with --custodian"))),
        }
    }

    /// Mail that users of the site send, from there on, as far as there is room. It waits for the custodian's word from now on.
    async fn add_mail(&self, draft: &mut Draft, ends: &Ends, mut after: Option<Key>) -> Result<(), NotExported> {
        let Some(outgoing) = Outgoing::of(&self.reception.config.get(), ends) else { return Ok(()) };
        let store = &self.reception.store;
        let until = Instant::now() + PATIENCE;
        let mut open = OpenMail::default();
        let mut taken = draft.weight();
        'rows: loop {
            let rows = store.list("leg/", after.as_ref(), ROWS).await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let RowBody::Leg(leg) = &row.body else { continue };
                let Some(entry) = outgoing.entry(&row.key, leg) else {
                    after = Some(row.key);
                    continue;
                };
                let needed = archive::weight(entry.l) + serde_json::to_vec(&entry).map_or(0, |json| json.len() as u64);
                if AROUND + needed > draft.limit {
                    draft.exported.too_large += 1;
                } else if taken.saturating_add(needed) > draft.limit || !open.has_room(draft, &entry)? {
                    draft.exported.next = Some(after.map_or_else(|| "leg/0/0".to_owned(), |after| after.to_string()));
                    break 'rows;
                } else if open.take(self.carry_by(&outgoing, &row.key, until).await?, &mut draft.exported) {
                    taken += needed;
                }
                after = Some(row.key);
            }
        }
        open.close(draft)
    }

    /// Lets a message leave in a bundle, until then: an attempt to send it otherwise has to be over first.
    async fn carry_by(&self, outgoing: &Outgoing, key: &Key, until: Instant) -> Result<Carried, NotExported> {
        loop {
            let carried = self.carry(outgoing, key).await?;
            if !matches!(carried, Carried::UnderWay) || Instant::now() >= until {
                return Ok(carried);
            }
            sleep(PAUSE).await;
        }
    }

    /// Lets a message leave in a bundle, if it may now; what of it does, once that is durable.
    async fn carry(&self, outgoing: &Outgoing, key: &Key) -> Result<Carried, NotExported> {
        let Key::Leg(id, number) = key else { return Ok(Carried::Gone) };
        let command = Command::Carry(Selection::Leg(id.clone(), *number));
        let Reply::Commanded(done) = self.reception.custody.ask(Request::Command(command)).await else {
            return Err(NotExported::Format("the queue does not answer".to_owned()));
        };
        let row = self.reception.store.load(vec![key.clone()]).await?.pop();
        let Some(Row { body: RowBody::Leg(leg), .. }) = row else { return Ok(Carried::Gone) };
        Ok(match (outgoing.entry(key, &leg), leg.object) {
            (Some(entry), Some(object)) if done.carried_out => Carried::Taken(Box::new(entry), object),
            (Some(_), _) => Carried::UnderWay,
            (None, _) => Carried::Gone,
        })
    }

    fn finish(&self, ends: &Ends, draft: Draft) -> Result<(Exported, Option<Volume>), NotExported> {
        let Draft { parts, mut exported, .. } = draft;
        if parts.is_empty() {
            return Ok((exported, None));
        }
        let objects = parts.iter().flat_map(|part| &part.objects);
        let manifest = Manifest {
            v: Revision1,
            from: ends.from,
            site: ends.site.clone(),
            host: ends.host.clone(),
            objects: objects.clone().count() as u64,
            octets: objects.map(|object| object.size).sum(),
            parts: parts.iter().map(|part| Part::of(part.kind, &part.body)).collect(),
        };
        let format = |error: &dyn ToString| NotExported::Format(error.to_string());
        let manifest = manifest.encode().map_err(|error| format(&error))?;
        let signer = self.keys.of(&ends.site);
        let signer = signer.ok_or_else(|| NotExported::Unknown(format!("{} has no key here", ends.site)))?;
        let (nonce, created) = (Nonce(SystemEntropy::octets()), now());
        let seal = seal(&manifest, &ends.host, &signer, nonce, created).map_err(|error| format(&error))?;
        exported.name = Some(nonce.to_string());
        let volume = Volume { store: self.reception.store.clone(), created, manifest, seal, parts };
        exported.octets = volume.octets();
        Ok((exported, Some(volume)))
    }
}

impl Draft {
    fn new(ends: &Ends, limit: Option<u64>) -> Self {
        let exported = Exported::new(ends.site.clone(), ends.host.clone(), ends.from);
        Self { parts: Vec::new(), exported, limit: limit.unwrap_or(u64::MAX) }
    }

    fn add<T>(&mut self, kind: Kind, message: Result<Vec<u8>, T>) -> Result<(), NotExported>
    where
        T: ToString,
    {
        let body = message.map_err(|error| NotExported::Format(error.to_string()))?;
        self.parts.push(Drafted { kind, body, objects: Vec::new() });
        Ok(())
    }

    /// What the file has so far.
    fn weight(&self) -> u64 {
        AROUND + self.parts.iter().map(|part| archive::weight(part.body.len() as u64)).sum::<u64>()
    }

    /// What waits, from there on, as far as there is room.
    async fn add_pending(
        &mut self,
        store: &Store,
        site: &Domain,
        mut after: String,
        now: Timestamp,
    ) -> Result<(), NotExported> {
        let mut open = OpenPage::default();
        let mut taken = self.weight();
        'rows: loop {
            let rows = store.find_after(&by_pending(&site.clone().into()), &after, ROWS).await?;
            let is_last = rows.len() < ROWS;
            for row in rows {
                match self.take(&row, &mut open, &mut taken, now)? {
                    Room::Enough => after = row.key.to_string(),
                    Room::None => {
                        self.exported.next = Some(after);
                        break 'rows;
                    }
                }
            }
            if is_last {
                break;
            }
        }
        open.close(self)
    }

    /// Takes what waits of one leg, or says that there is no room.
    fn take(&mut self, row: &Row, open: &mut OpenPage, taken: &mut u64, now: Timestamp) -> Result<Room, NotExported> {
        let RowBody::Leg(leg) = &row.body else { return Ok(Room::Enough) };
        let Leg { object: Some(object), .. } = &**leg else { return Ok(Room::Enough) };
        let offers = carried_offers(leg, now);
        if offers.is_empty() {
            return Ok(Room::Enough);
        }
        let listed: usize = offers.iter().map(|offer| offer.encoded_len()).sum();
        let needed = archive::weight(object.size) + listed as u64;
        if AROUND + needed > self.limit {
            self.exported.too_large += 1;
            return Ok(Room::Enough);
        }
        if taken.saturating_add(needed) > self.limit {
            return Ok(Room::None);
        }
        let count = offers.len() as u64;
        if !open.page.add(offers.clone()) {
            open.close(self)?;
            if self.parts.len() >= MAX_PARTS {
                return Ok(Room::None);
            }
            open.page.add(offers);
        }
        open.add(object);
        *taken += needed;
        self.exported.messages += count;
        Ok(Room::Enough)
    }

    /// What is on disk here of the site's claims and receipts.
    fn add_heard(&mut self, all: Vec<Recorded>) -> Result<(), NotExported> {
        let mut by_store: BTreeMap<InstanceId, BTreeMap<ReferenceId, HeardEntry>> = BTreeMap::new();
        for Recorded { instance, reference, index, outcome } in all {
            let empty = HeardEntry { i: reference, n: Vec::new(), recorded: Vec::new() };
            let entry = by_store.entry(instance).or_default().entry(reference).or_insert(empty);
            if !entry.n.contains(&index) {
                entry.n.push(index);
            }
            entry.recorded.extend(outcome.map(|action| RecordedIndex { n: index, action }));
        }
        for (instance, entries) in by_store {
            self.exported.heard += entries.len() as u64;
            for heard in batches(entries.into_values()) {
                self.add(Kind::Heard, Heard { v: Revision1, instance, heard }.encode())?;
            }
        }
        Ok(())
    }

    /// What was taken here of the site's mail.
    fn add_taken(&mut self, all: Vec<TakenEntry>) -> Result<(), NotExported> {
        self.exported.taken = all.len() as u64;
        for taken in batches(all.into_iter()) {
            self.add(Kind::Taken, TakenList { v: Revision1, taken }.encode())?;
        }
        Ok(())
    }

    /// What a site has to say.
    fn add_owed(
        &mut self,
        instance: InstanceId,
        claims: Vec<port::ClaimEntry>,
        receipts: Vec<port::ReceiptEntry>,
    ) -> Result<(), NotExported> {
        let references = claims.iter().map(|claim| claim.id).chain(receipts.iter().map(|receipt| receipt.id));
        self.exported.answers = references.collect::<HashSet<_>>().len() as u64;
        // A receipt counts for what was claimed: claims come first.
        for claims in batches(claims.into_iter().flat_map(split_claim).map(claim_entry)) {
            self.add(Kind::Claims, ClaimsRequest { v: Revision1, instance, claims }.encode())?;
        }
        for receipts in batches(receipts.into_iter().flat_map(split_receipt).map(receipt_entry)) {
            self.add(Kind::Receipts, ReceiptsRequest { v: Revision1, instance, receipts }.encode())?;
        }
        // What found no room is said in the next one.
        self.parts.truncate(MAX_ANSWERS);
        Ok(())
    }
}

/// Is there room for more?
enum Room {
    Enough,
    None,
}

/// A page that is being filled, and the objects that its offers name.
#[derive(Default)]
struct OpenPage {
    page: Page,
    objects: Vec<ObjectRef>,
    named: HashSet<mail::Xuid>,
}

impl OpenPage {
    fn add(&mut self, object: &ObjectRef) {
        if self.named.insert(object.xuid) {
            self.objects.push(object.clone());
        }
    }

    fn close(&mut self, draft: &mut Draft) -> Result<(), NotExported> {
        let Self { page, objects, .. } = std::mem::take(self);
        let list = page.finish(None);
        if !list.pending.is_empty() {
            draft.add(Kind::Pending, list.encode())?;
            draft.parts.last_mut().into_iter().for_each(|part| part.objects.clone_from(&objects));
        }
        Ok(())
    }
}

/// Which mail of a site goes to this custodian.
struct Outgoing {
    relay: String,
    site: Domain,
    /// Reports, which have no sender, go with the mail of one domain.
    is_first: bool,
}

impl Outgoing {
    /// `None`: none does.
    fn of(config: &Config, ends: &Ends) -> Option<Self> {
        let custodian = config.custodians_by_reference(&ends.site).find(|custodian| custodian.host == ends.host)?;
        let is_first = custodian.domains.first() == Some(&ends.site);
        Some(Self { relay: custodian.relay.clone()?, site: ends.site.clone(), is_first })
    }

    /// What leaves of a leg, if anything may.
    fn entry(&self, key: &Key, leg: &Leg) -> Option<MailEntry> {
        let is_there = matches!(&leg.route, Route::Relay(relay) if *relay == self.relay);
        let is_ours = match &leg.mail_from {
            Some(sender) => sender.domain().is_some_and(|domain| domain == self.site),
            None => self.is_first,
        };
        let object = leg.object.as_ref().filter(|_| is_there && is_ours && !leg.held && leg.facts.is_object)?;
        let here = leg.recipients.iter().filter(|recipient| recipient.state == RecipientState::Queued);
        letters::entry(key, leg, object, here.map(|one| &one.recipient), &leg.prefix)
    }
}

/// A part with mail that is being filled: no two messages of one content, so that each object stands for one.
#[derive(Default)]
struct OpenMail {
    mail: Vec<MailEntry>,
    objects: Vec<ObjectRef>,
    octets: usize,
}

impl OpenMail {
    /// Is there room for one more, if need be in the next part?
    fn has_room(&mut self, draft: &mut Draft, entry: &MailEntry) -> Result<bool, NotExported> {
        let length = serde_json::to_vec(entry).map_or(PAGE, |json| json.len() + 1);
        let is_full = self.octets + length > PAGE || self.mail.len() >= MAX_ENTRIES;
        if is_full || self.mail.iter().any(|other| other.o == entry.o) {
            self.close(draft)?;
        }
        Ok(draft.parts.len() < MAX_PARTS)
    }

    /// Counts a message; whether it is in the bundle.
    fn take(&mut self, carried: Carried, exported: &mut Exported) -> bool {
        match carried {
            Carried::Taken(entry, object) => {
                self.add(*entry, object);
                exported.messages += 1;
                return true;
            }
            Carried::UnderWay => exported.under_way += 1,
            Carried::Gone => {}
        }
        false
    }

    fn add(&mut self, entry: MailEntry, object: ObjectRef) {
        self.octets += serde_json::to_vec(&entry).map_or(PAGE, |json| json.len() + 1);
        self.mail.push(entry);
        self.objects.push(object);
    }

    fn close(&mut self, draft: &mut Draft) -> Result<(), NotExported> {
        let Self { mail, objects, .. } = std::mem::take(self);
        if mail.is_empty() {
            return Ok(());
        }
        draft.add(Kind::Mail, MailList { v: Revision1, mail }.encode())?;
        draft.parts.last_mut().into_iter().for_each(|part| part.objects.clone_from(&objects));
        Ok(())
    }
}

/// Parts that each fit into their limits, entries in order.
fn batches<T: Serialize>(entries: impl Iterator<Item = T>) -> Vec<Vec<T>> {
    let (mut batches, mut octets): (Vec<Vec<T>>, usize) = (Vec::new(), 0);
    for entry in entries {
        let length = serde_json::to_vec(&entry).map_or(PAGE, |octets| octets.len() + 1);
        octets += length;
        match batches.last_mut() {
            Some(batch) if octets <= PAGE && batch.len() < MAX_ENTRIES => batch.push(entry),
            _ => {
                octets = length;
                batches.push(vec![entry]);
            }
        }
    }
    batches
}

fn split_claim(claim: port::ClaimEntry) -> Vec<port::ClaimEntry> {
    let of = |indexes: &[u16]| {
        let failed = claim.failed.iter().filter(|(index, _)| indexes.contains(index)).cloned().collect();
        port::ClaimEntry { indexes: indexes.to_vec(), failed, ..claim.clone() }
    };
    claim.indexes.chunks(MAX_OUTCOMES).map(of).collect()
}

fn split_receipt(receipt: port::ReceiptEntry) -> Vec<port::ReceiptEntry> {
    let of = |outcomes: &[_]| port::ReceiptEntry { outcomes: outcomes.to_vec(), ..receipt.clone() };
    receipt.outcomes.chunks(MAX_OUTCOMES).map(of).collect()
}

/// What is on disk here of a site's claims and receipts: of the newest messages, if there are too many.
async fn collect_heard(store: &Store, site: &Domain) -> Result<Vec<Recorded>, StoreError> {
    let mut newest: VecDeque<Recorded> = VecDeque::new();
    each_of(store, "leg/", |row| {
        let RowBody::Leg(leg) = &row.body else { return };
        newest.extend(heard(leg, site));
        while newest.len() > MAX_HEARD {
            newest.pop_front();
        }
    })
    .await?;
    Ok(newest.into())
}

/// What was taken of a site's mail: the newest, if there is too much.
async fn collect_taken(store: &Store, site: &Domain) -> Result<Vec<TakenEntry>, StoreError> {
    let mut all: Vec<(Timestamp, TakenEntry)> = Vec::new();
    let site = Holder::from(site.clone());
    each_of(store, "in/", |row| {
        let RowBody::Inbound(inbound) = &row.body else { return };
        all.extend(told(inbound, &site).map(|entry| (inbound.accepted, entry)));
        if all.len() > 2 * MAX_HEARD {
            all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            all.truncate(MAX_HEARD);
        }
    })
    .await?;
    all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    Ok(all.into_iter().take(MAX_HEARD).map(|(_, entry)| entry).collect())
}

/// What the custodian may not know.
async fn collect_owed(
    store: &Store,
    ends: &Ends,
) -> Result<(Vec<port::ClaimEntry>, Vec<port::ReceiptEntry>), StoreError> {
    let (mut claims, mut receipts) = (Vec::new(), Vec::new());
    each_of(store, "in/", |row| {
        let RowBody::Inbound(inbound) = &row.body else { return };
        if inbound.host == ends.host && inbound.to == ends.site {
            let (claim, receipt) = owed(inbound);
            claims.extend(claim);
            receipts.extend(receipt);
        }
    })
    .await?;
    Ok((claims, receipts))
}

impl Volume {
    /// Octets of the file, at most.
    pub(crate) fn octets(&self) -> u64 {
        let of_part = |part: &Drafted| {
            let objects = part.objects.iter().map(|object| archive::weight(object.size));
            archive::weight(part.body.len() as u64) + objects.sum::<u64>()
        };
        let around = archive::weight(self.manifest.len() as u64) + archive::weight(self.seal.len() as u64);
        around + self.parts.iter().map(of_part).sum::<u64>() + archive::END.len() as u64
    }

    /// The file. An object that its site has fetched meanwhile is left out.
    pub(crate) fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            if let Err(error) = self.write(&sender).await {
                // Whoever reads may have gone.
                let _ = sender.send(Err(error)).await;
            }
        });
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
    }

    async fn write(self, out: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
        let modified = self.created.as_secs();
        file(out, Name::Manifest, self.manifest, modified).await?;
        file(out, Name::Signature, self.seal.into_bytes(), modified).await?;
        for (part, number) in self.parts.into_iter().zip(0_u16..) {
            file(out, Name::Part(number, part.kind), part.body, modified).await?;
            for object in &part.objects {
                let name = Name::Object(number, object.xuid);
                let Ok(mut reader) = self.store.read(object, 0..object.size).await else { continue };
                put(out, archive::header(name, object.size, modified)).await?;
                while let Some(chunk) = reader.next_chunk().await.map_err(io::Error::other)? {
                    put(out, chunk).await?;
                }
                put(out, archive::padding(object.size)).await?;
            }
        }
        put(out, Bytes::from_static(&archive::END)).await
    }
}

async fn file(out: &mpsc::Sender<io::Result<Bytes>>, name: Name, body: Vec<u8>, modified: u64) -> io::Result<()> {
    let size = body.len() as u64;
    put(out, archive::header(name, size, modified)).await?;
    put(out, body.into()).await?;
    put(out, archive::padding(size)).await
}

async fn put(out: &mpsc::Sender<io::Result<Bytes>>, octets: Bytes) -> io::Result<()> {
    let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes it");
    out.send(Ok(octets)).await.map_err(gone)
}
