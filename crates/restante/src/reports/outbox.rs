//! Reports that are made and not yet handed over: one small file each, written before what they were made of is removed.
//!
//! A report that was handed over just before a kill goes twice, under the same name: its readers tell that by its id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use mail::report_uri::ReportUri;
use mail::{Domain, Timestamp, base64url};
use serde::{Deserialize, Serialize};

use super::day::Period;
use super::letter::Draft;
use crate::private;

/// Most reports that wait; further ones are not made.
pub(super) const MAX_WAITING: usize = 20_000;
/// Largest file that is read.
const MAX_FILE: u64 = 32 * 1024 * 1024;
/// A report that nobody takes for so long is given up (RFC 8460 §5.5 asks for a day at least).
const PATIENCE: Duration = Duration::from_secs(2 * 24 * 3600);
/// Wait after the first failure; each further one is twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(15 * 60);
/// Longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 3600);
const SUFFIX: &str = ".json";

/// A report on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// The domain that it is for.
    pub(crate) domain: Domain,
    pub(crate) period: Period,
    pub(crate) draft: Draft,
    /// Where it still has to go; `None`: that could not be looked up yet.
    pub(crate) places: Option<Vec<ReportUri>>,
    /// Since when it waits.
    since: Timestamp,
    attempts: u32,
    /// Not attempted before then.
    pub(crate) due: Timestamp,
}

impl Waiting {
    pub(crate) fn new(
        domain: Domain,
        period: Period,
        draft: Draft,
        places: Option<Vec<ReportUri>>,
        now: Timestamp,
    ) -> Self {
        Self { domain, period, draft, places, since: now, attempts: 0, due: now }
    }

    /// An attempt has failed: when is the next? `None`: it is given up.
    fn postponed(mut self, now: Timestamp) -> Option<Self> {
        let wait = FIRST_WAIT.saturating_mul(1 << self.attempts.min(8)).min(LONGEST_WAIT);
        self.attempts += 1;
        self.due = now.after(wait);
        (now.since(self.since) < PATIENCE).then_some(self)
    }

    /// Is there nowhere to go any more?
    pub(crate) fn is_done(&self) -> bool {
        self.places.as_ref().is_some_and(Vec::is_empty)
    }

    /// The same for the same domain and period, whoever writes it.
    fn file_name(&self) -> String {
        let digest = digest(&SHA256, self.domain.as_str().as_bytes());
        format!("{}_{}{SUFFIX}", self.period.from.as_millis(), base64url::encode(&digest.as_ref()[..16]))
    }
}

/// A folder of them.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    folder: PathBuf,
}

impl Outbox {
    /// Makes the folder if need be.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        private::create_directory(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Writes a report, in the place of an earlier one for the same domain and period.
    pub(crate) fn put(&self, report: &Waiting) -> io::Result<()> {
        private::replace(&self.folder.join(report.file_name()), &serde_json::to_vec(report)?)
    }

    /// After an attempt: removes what is done or given up, else keeps it for later. Answers whether it waits on.
    pub(crate) fn settle(&self, report: Waiting, now: Timestamp) -> io::Result<bool> {
        let path = self.folder.join(report.file_name());
        let later = if report.is_done() { None } else { report.postponed(now) };
        match &later {
            Some(report) => self.put(report)?,
            None => fs::remove_file(path)?,
        }
        Ok(later.is_some())
    }

    /// How many wait.
    pub(crate) fn count(&self) -> io::Result<usize> {
        Ok(self.paths()?.len())
    }

    /// The files, oldest period first.
    pub(crate) fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder)?.filter_map(Result::ok).map(|entry| entry.path());
        let mut paths: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(SUFFIX)).collect();
        paths.sort();
        Ok(paths)
    }

    /// One of them; `None` for what is none of ours, or broken.
    pub(crate) fn read(path: &Path) -> Option<Waiting> {
        if fs::metadata(path).ok()?.len() > MAX_FILE {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(domain: &str) -> Waiting {
        let period = Period { from: Timestamp::from_secs(1000), to: Timestamp::from_secs(2000) };
        let places = Some(vec!["mailto:r@b.example".parse().unwrap()]);
        Waiting::new(Domain::parse(domain).unwrap(), period, Draft::default(), places, Timestamp::from_secs(3000))
    }

    #[test]
    fn reports_wait_until_they_are_done_or_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        outbox.put(&report("b.example")).unwrap();
        outbox.put(&report("b.example")).unwrap();
        outbox.put(&report("c.example")).unwrap();
        assert_eq!(outbox.count().unwrap(), 2, "the same report is one");
        let mut done = report("c.example");
        done.places = Some(Vec::new());
        assert!(!outbox.settle(done, Timestamp::from_secs(3000)).unwrap());
        let mut now = Timestamp::from_secs(3000);
        let mut attempts = 0;
        while let Some(path) = outbox.paths().unwrap().first() {
            let waiting = Outbox::read(path).unwrap();
            now = waiting.due;
            attempts += 1;
            outbox.settle(waiting, now).unwrap();
        }
        assert!((5..20).contains(&attempts), "{attempts}");
        assert!(now.since(Timestamp::from_secs(3000)) > Duration::from_secs(24 * 3600));
    }

    #[test]
    fn what_is_none_of_ours_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.json"), "{").unwrap();
        assert!(Outbox::read(&folder.path().join("x.json")).is_none());
        assert!(Outbox::read(&folder.path().join("y.json")).is_none());
    }
}
