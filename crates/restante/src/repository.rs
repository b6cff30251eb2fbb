//! The repository of the domains served here: HTTP requests become questions to the queue, objects come from the store.
//!
//! HTTP itself, ranges and limits are `net`'s; who may fetch, claim and report is the queue's.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use mail::ledger::{ObjectRef, Outcome};
use mail::{Domain, Grant, Timestamp, Xuid};
use net::repository::{Busy, Chunks, Located, Repository};
use queue::port::{self, ClaimAnswer, Reply, Request};
use reference::DomainFacts;
use reference::claims::{
    AnsweredClaim, ClaimsAnswer, ClaimsRequest, IndexAnswer, ReceiptsAnswer, ReceiptsRequest, RecordedReceipt,
    Revision1, WireOutcome, Word,
};
use store::Store;

use crate::runtime::Custody;

/// What a repository that has too much to do asks of its peers.
const COME_AGAIN: Busy = Busy { retry_after: Duration::from_secs(30) };

/// Facts of the domains that sign here, replaced as a whole on reload.
pub(crate) type Facts = Arc<RwLock<HashMap<Domain, DomainFacts>>>;

/// Answers for the domains served here.
pub(crate) struct LocalRepository {
    custody: Custody,
    store: Store,
    facts: Facts,
}

impl LocalRepository {
    /// Over the running queue and its store.
    pub(crate) fn new(custody: Custody, store: Store, facts: Facts) -> Self {
        Self { custody, store, facts }
    }
}

impl Repository for LocalRepository {
    type Handle = ObjectRef;

    async fn locate(&self, xuid: Xuid, grant: &Grant) -> Located<ObjectRef> {
        match self.custody.ask(Request::Locate { xuid, grant: grant.clone() }).await {
            Reply::Object(port::Located::Object(object)) => {
                Located::Object { xuid: object.xuid, size: object.size, handle: object }
            }
            Reply::Object(port::Located::Unknown) => Located::Unknown,
            Reply::Object(port::Located::Gone) => Located::Gone,
            _ => Located::Unavailable(COME_AGAIN),
        }
    }

    async fn read(&self, object: ObjectRef, range: Range<u64>) -> io::Result<Chunks> {
        let reader = self.store.read(&object, range).await.map_err(io::Error::other)?;
        Ok(Box::pin(stream::try_unfold(reader, |mut reader| async move {
            let chunk: Option<Bytes> = reader.next_chunk().await.map_err(io::Error::other)?;
            Ok(chunk.map(|chunk| (chunk, reader)))
        })))
    }

    async fn claims(&self, request: ClaimsRequest) -> Result<ClaimsAnswer, Busy> {
        let ids: Vec<_> = request.claims.iter().map(|entry| entry.i).collect();
        let claims = request.claims.into_iter().map(claim_entry).collect();
        let asked = Request::Claims { instance: request.instance, claims };
        let Reply::Claims(answers) = self.custody.ask(asked).await else { return Err(COME_AGAIN) };
        let answered = ids.into_iter().zip(answers).filter_map(|(i, answers)| {
            let answers = answers?.into_iter().map(|(n, word)| IndexAnswer { n, is: as_word(word) }).collect();
            Some(AnsweredClaim { i, answers })
        });
        Ok(ClaimsAnswer { v: Revision1, claims: answered.collect() })
    }

    async fn receipts(&self, request: ReceiptsRequest) -> Result<ReceiptsAnswer, Busy> {
        let ids: Vec<_> = request.receipts.iter().map(|entry| entry.i).collect();
        let receipts = request.receipts.into_iter().map(receipt_entry).collect();
        let asked = Request::Receipts { instance: request.instance, receipts };
        let Reply::Receipts(answers) = self.custody.ask(asked).await else { return Err(COME_AGAIN) };
        let recorded =
            ids.into_iter().zip(answers).filter_map(|(i, recorded)| Some(RecordedReceipt { i, recorded: recorded? }));
        Ok(ReceiptsAnswer { v: Revision1, receipts: recorded.collect() })
    }

    async fn document(&self, domain: &Domain) -> Option<DomainFacts> {
        self.facts.read().ok()?.get(domain).cloned()
    }

    fn served(&self, grant: &Grant, octets: u64) {
        let (custody, grant) = (self.custody.clone(), grant.clone());
        tokio::spawn(async move { custody.tell(Request::Served { grant, octets }).await });
    }
}

fn claim_entry(entry: reference::claims::ClaimEntry) -> port::ClaimEntry {
    let failed = entry.failed.into_iter().map(|failed| {
        let at = crate::runtime::now();
        let text = failed.text.as_str().to_owned();
        (failed.n, Outcome { action: mail::ledger::Action::Failed, status: failed.status, text, at, reported: false })
    });
    let failed = failed.collect();
    port::ClaimEntry { to: entry.to, id: entry.i, grant: entry.grant, indexes: entry.n, failed, acted: entry.acted }
}

fn receipt_entry(entry: reference::claims::ReceiptEntry) -> port::ReceiptEntry {
    let outcomes = entry.outcomes.into_iter().map(outcome).collect();
    port::ReceiptEntry { to: entry.to, id: entry.i, grant: entry.grant, outcomes }
}

fn outcome(wire: WireOutcome) -> (u16, Outcome) {
    let text = wire.text.as_str().to_owned();
    let at = Timestamp::from_secs(wire.at);
    (wire.n, Outcome { action: wire.action, status: wire.status, text, at, reported: wire.reported })
}

fn as_word(answer: ClaimAnswer) -> Word {
    match answer {
        ClaimAnswer::Granted => Word::Granted,
        ClaimAnswer::Taken => Word::Taken,
        ClaimAnswer::Gone => Word::Gone,
    }
}
