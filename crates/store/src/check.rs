//! Checking a store: is every object what its rows say, is every row whole, and is there anything that nobody names?
//!
//! Works beside normal operation: what looks wrong is looked at again before it is reported, because the row may have
//! changed meanwhile. What a repair does is said at each [`FaultKind`]. The SQL is left to `embedded::examine`.

use std::collections::HashMap;
use std::io::{self, Read};

use mail::Xuid;
use mail::id::XuidHasher;
use mail::ledger::{Coded, Key, ObjectKey, ObjectRef};

use crate::coding::{BadCoding, Coders, Tally};
use crate::embedded::Embedded;
use crate::embedded::examine::Examined;
use crate::error::StoreError;
use crate::files::{blocking, is_file_key};
use crate::object::CHUNK;

/// Most faults that a report lists; more are only counted.
const MAX_FAULTS: usize = 10_000;
/// Rows looked at between two calls of `progress`.
const PAGE: usize = 200;

/// What [`crate::Store::check`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Rows looked at.
    pub rows: u64,
    /// Objects whose digest was computed.
    pub objects: u64,
    /// Their octets.
    pub octets: u64,
    /// What is wrong; at most 10,000.
    pub faults: Vec<Fault>,
    /// Faults beyond those listed.
    pub more_faults: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing.
    pub kind: FaultKind,
    /// The key of the row or object.
    pub subject: String,
    /// In plain words.
    pub detail: String,
    /// What was done about it.
    pub done: Done,
}

/// What was done about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Done {
    /// Nothing.
    Nothing,
    /// It was put right: nothing is lost.
    Repaired,
    /// The damaged octets are out of the way, and what they were is lost.
    SetAside,
}

impl Done {
    fn repaired(is_repaired: bool) -> Self {
        if is_repaired { Self::Repaired } else { Self::Nothing }
    }
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An object has another digest or size than its row says. Repair: set aside in `damaged/`, which brings nothing back; its
    /// rows stay, and reading the object then fails, so that it is never sent.
    DamagedObject,
    /// A row names an object that is not there. Only reported.
    MissingObject,
    /// An object that no row names. Repair: removed.
    OrphanObject,
    /// A row that cannot be read. Only reported: it may be the last trace of a message.
    DamagedRow,
    /// Secondary keys or the object column of a row do not follow from its body. Repair: derived again.
    WrongIndex,
    /// The record of legal holds was changed, or a held object is not what it was. Only reported.
    Hold,
    /// The database file itself is damaged. Only reported: restore it from a backup.
    Database,
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows looked at.
    pub rows: u64,
    /// Rows there were at the beginning.
    pub of_rows: u64,
    /// Octets hashed.
    pub octets: u64,
}

impl CheckReport {
    /// Is nothing wrong, or nothing any more?
    pub fn is_clean(&self) -> bool {
        self.more_faults == 0 && self.faults.iter().all(|fault| fault.done == Done::Repaired)
    }

    pub(crate) fn note(&mut self, kind: FaultKind, subject: String, detail: String, done: Done) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { kind, subject, detail, done });
        } else {
            self.more_faults += 1;
        }
    }
}

/// Checks everything.
pub(crate) async fn run(
    store: &Embedded,
    repair: bool,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<CheckReport, StoreError> {
    let counts = store.counts().await?;
    let of_rows = counts.legs + counts.inbound;
    let mut check = Check { store, repair, report: CheckReport::default(), judged: HashMap::new() };
    for line in store.database_faults().await? {
        check.report.note(FaultKind::Database, "ledger.sqlite".into(), line, Done::Nothing);
    }
    let mut after = 0;
    loop {
        let page = store.examine(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for row in page {
            check.row(row).await?;
        }
        progress(Progress { rows: check.report.rows, of_rows, octets: check.report.octets });
    }
    check.holds().await?;
    check.orphans().await?;
    Ok(check.report)
}

struct Check<'a> {
    store: &'a Embedded,
    repair: bool,
    report: CheckReport,
    /// Objects looked at already: several rows may name one. `None`: as it should be.
    judged: HashMap<ObjectKey, Option<Finding>>,
}

/// What is wrong with an object.
#[derive(Debug, Clone)]
enum Finding {
    Missing,
    Damaged(String),
}

impl Check<'_> {
    async fn row(&mut self, examined: Examined) -> Result<(), StoreError> {
        self.report.rows += 1;
        let row = match examined.raw.row() {
            Ok(row) => row,
            Err(error) => {
                self.report.note(FaultKind::DamagedRow, examined.raw.key, error.to_string(), Done::Nothing);
                return Ok(());
            }
        };
        if !examined.indexed(&row) {
            let repaired = Done::repaired(self.repair && self.store.index_again(examined.id, &row).await?);
            let detail = "its secondary keys or its object column do not follow from its body";
            self.report.note(FaultKind::WrongIndex, row.key.to_string(), detail.into(), repaired);
        }
        match row.object() {
            Some(object) => self.object(&row.key, object).await,
            None => Ok(()),
        }
    }

    async fn object(&mut self, row: &Key, object: &ObjectRef) -> Result<(), StoreError> {
        let first_time = !self.judged.contains_key(&object.key);
        if first_time {
            let finding = self.judge(object).await?;
            self.judged.insert(object.key.clone(), finding);
        }
        let Some(Some(finding)) = self.judged.get(&object.key).cloned() else { return Ok(()) };
        if !self.still_names(row, object).await? {
            return Ok(());
        }
        match finding {
            Finding::Missing => {
                let detail = format!("its object {} is not there", object.key.0);
                self.report.note(FaultKind::MissingObject, row.to_string(), detail, Done::Nothing);
            }
            Finding::Damaged(detail) => {
                if self.repair && first_time {
                    self.store.set_aside(&object.key).await?;
                }
                let detail = format!("its object {} {detail}", object.key.0);
                let done = if self.repair { Done::SetAside } else { Done::Nothing };
                self.report.note(FaultKind::DamagedObject, row.to_string(), detail, done);
            }
        }
        Ok(())
    }

    async fn still_names(&self, row: &Key, object: &ObjectRef) -> Result<bool, StoreError> {
        let rows = self.store.load(vec![row.clone()]).await?;
        Ok(rows.first().is_some_and(|row| row.object() == Some(object)))
    }

    async fn judge(&mut self, object: &ObjectRef) -> Result<Option<Finding>, StoreError> {
        let Some(found) = self.find(object).await? else { return Ok(Some(Finding::Missing)) };
        self.report.objects += 1;
        self.report.octets += found.size;
        let (size, damaged) = (object.size, |detail: String| Some(Finding::Damaged(detail)));
        Ok(match found {
            Found { bad: Some(bad), .. } => damaged(format!("is no object: {bad}")),
            Found { size: other, .. } if other != size => damaged(format!("has {other} octets instead of {size}")),
            Found { xuid, .. } if xuid != object.xuid => damaged("has another digest than it should".into()),
            Found { coded, .. } if coded != object.coded => damaged("is coded in other octets than it was".into()),
            _ => None,
        })
    }

    async fn find(&self, object: &ObjectRef) -> Result<Option<Found>, StoreError> {
        let (coders, is_coded) = (self.store.objects.coders.clone(), object.coded.is_some());
        if !is_file_key(&object.key) {
            let octets = self.store.stored_blob(&object.key).await?;
            return octets.map(|octets| digest(&octets[..], is_coded, &coders)).transpose();
        }
        match self.store.files()?.open_object(&object.key).await {
            Ok(file) => blocking(move || digest(file, is_coded, &coders)).await?.map(Some),
            Err(StoreError::MissingObject(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn holds(&mut self) -> Result<(), StoreError> {
        for (place, detail) in self.store.hold_faults().await? {
            self.report.note(FaultKind::Hold, format!("hold/{place}"), detail, Done::Nothing);
        }
        for hold in self.store.holds().await?.holds {
            // Those that a row names were judged with it.
            if self.judged.contains_key(&hold.object.key) {
                continue;
            }
            let detail = match self.judge(&hold.object).await? {
                None => continue,
                Some(Finding::Missing) => format!("its object {} is not there", hold.object.key.0),
                Some(Finding::Damaged(detail)) => format!("its object {} {detail}", hold.object.key.0),
            };
            self.report.note(FaultKind::Hold, format!("hold/{}", hold.number), detail, Done::Nothing);
        }
        Ok(())
    }

    async fn orphans(&mut self) -> Result<(), StoreError> {
        let files = self.store.files()?;
        for key in files.list()? {
            // Asked in this order: an object leaves the stage only when its row is written.
            let staged = self.store.objects.staged.waiting(&key).is_some();
            if staged || self.store.is_being_written(&key) || self.store.is_kept(&key).await? {
                continue;
            }
            if self.repair {
                files.remove_now(&key)?;
            }
            self.report.note(FaultKind::OrphanObject, key.0, "no row names it".into(), Done::repaired(self.repair));
        }
        for key in self.store.orphan_blobs(self.repair, MAX_FAULTS).await? {
            self.report.note(FaultKind::OrphanObject, key, "no row names it".into(), Done::repaired(self.repair));
        }
        for subject in self.store.orphan_alternates(self.repair, MAX_FAULTS).await? {
            let detail = "a secondary key leads to a row that does not have it";
            self.report.note(FaultKind::WrongIndex, subject, detail.into(), Done::repaired(self.repair));
        }
        Ok(())
    }
}

/// An object as it was found.
struct Found {
    xuid: Xuid,
    size: u64,
    coded: Option<Coded>,
    bad: Option<BadCoding>,
}

fn digest(source: impl Read, is_coded: bool, coders: &Coders) -> Result<Found, StoreError> {
    let failed = StoreError::io("read an object file");
    let (mut hasher, mut size) = (XuidHasher::default(), 0);
    let take = |octets: &[u8]| {
        hasher.update(octets);
        size += octets.len() as u64;
    };
    let (coded, bad) = match is_coded {
        true => {
            let mut source = Tallied { source, tally: Tally::default() };
            let bad = coders.decode_all(&mut source, take).map_err(failed)?.err();
            (Some(source.tally.finish()), bad)
        }
        false => read_all(source, take).map(|()| (None, None)).map_err(failed)?,
    };
    Ok(Found { xuid: hasher.finish(), size, coded, bad })
}

fn read_all(mut source: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(()),
            read => take(&buffer[..read]),
        }
    }
}

/// Counts and hashes what is read.
struct Tallied<R> {
    source: R,
    tally: Tally,
}

impl<R: Read> Read for Tallied<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.tally.add(&buffer[..read]);
        Ok(read)
    }
}
