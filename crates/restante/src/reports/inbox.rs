//! Reports of others that come by mail to a domain's address for them: found in the message, read with limits, and kept for
//! `restante reports`.
//!
//! What a report says is its kind's to read. Everybody can write such mail: what it claims counts for no more than a hint, and
//! whether its author signed it stands beside it.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use flate2::read::GzDecoder;
use mail::{Address, Domain, Timestamp, base64url};
use mail_parser::{MessageParser, MimeHeaders as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::private;

/// Largest message in which a report is looked for, in octets.
pub(crate) const MAX_MESSAGE: u64 = 10 * 1024 * 1024;
/// Largest report, in octets after decompression.
pub(crate) const MAX_REPORT: usize = 10 * 1024 * 1024;
/// Most parts of one message that are looked at.
const MAX_PARTS: usize = 20;
/// Most reports of one kind that are kept; the oldest give way.
const MAX_KEPT: usize = 5_000;
/// Most octets of one kind that are kept.
const MAX_KEPT_OCTETS: u64 = 256 * 1024 * 1024;
const SUFFIX: &str = ".json";

/// A part of a message that may be a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `application/tlsrpt+gzip`, in lower case.
    pub media_type: String,
    /// What a file of it would be called, in lower case.
    pub file_name: String,
    /// Its octets, transfer encoding undone.
    pub octets: Vec<u8>,
}

/// Why a report cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Over [`MAX_REPORT`].
    #[error("the report is too large")]
    TooLarge,
    /// It is not compressed as it says.
    #[error("the report cannot be decompressed")]
    Compression,
    /// It is not what its kind demands.
    #[error("the report is malformed: {0}")]
    Malformed(String),
}

/// A reader of one kind: `None` where the part is no report of this kind.
type Reader = fn(&Part) -> Option<Result<Value, Unreadable>>;

/// All kinds.
const READERS: [(&str, Reader); 2] =
    [(super::tls::NAME, super::tls::read_part), (super::dmarc::NAME, super::dmarc::read_part)];

/// The attachments of a message, at most [`MAX_PARTS`].
pub fn parts(message: &[u8]) -> Vec<Part> {
    let Some(message) = MessageParser::new().parse(message) else { return Vec::new() };
    let parts = message.parts.iter().filter_map(|part| {
        let kind = part.content_type();
        let media_type = kind.map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()));
        let file_name = part.attachment_name().unwrap_or_default().to_ascii_lowercase();
        let media_type = media_type.unwrap_or_default().to_ascii_lowercase();
        let may_be = media_type.starts_with("application/") || !file_name.is_empty();
        may_be.then(|| Part { media_type, file_name, octets: part.contents().to_vec() })
    });
    parts.take(MAX_PARTS).collect()
}

/// Undoes gzip, up to [`MAX_REPORT`] octets.
///
/// # Errors
/// [`Unreadable`].
pub fn gunzip(octets: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut whole = Vec::new();
    let limit = MAX_REPORT as u64 + 1;
    GzDecoder::new(octets).take(limit).read_to_end(&mut whole).map_err(|_| Unreadable::Compression)?;
    if whole.len() > MAX_REPORT { Err(Unreadable::TooLarge) } else { Ok(whole) }
}

/// The first report in a message, with the name of its kind; `None` where there is none.
pub fn find(message: &[u8]) -> Option<Result<(&'static str, Value), Unreadable>> {
    let parts = parts(message);
    let mut found =
        parts.iter().flat_map(|part| READERS.iter().filter_map(move |(name, read)| Some((*name, read(part)?))));
    found.next().map(|(name, read)| read.map(|report| (name, report)))
}

/// A report as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Received<R = Value> {
    /// When it came.
    pub received: Timestamp,
    /// The address that it came to.
    pub to: Address,
    /// Who says that it is his: the envelope's sender.
    pub sender: Option<Address>,
    /// Domains whose DKIM signature of it was good, by our own word.
    pub signed_by: Vec<Domain>,
    /// What it says.
    pub report: R,
}

/// The reports that were received, a folder for each kind.
#[derive(Debug, Clone)]
pub struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Over this folder; it is made when the first report comes.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keeps a report; one that is there already is not kept twice. Whatever is over the limits gives way, oldest first.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn keep(&self, kind: &str, received: &Received) -> io::Result<()> {
        let folder = self.folder.join(kind);
        private::create_directory(&folder)?;
        let name = base64url::encode(&digest(&SHA256, received.report.to_string().as_bytes()).as_ref()[..16]);
        let known =
            files(&folder)?.iter().any(|(path, _)| stem(path).split_once('_').is_some_and(|(_, end)| end == name));
        if known {
            return Ok(());
        }
        let path = folder.join(format!("{}_{name}{SUFFIX}", received.received.as_millis()));
        private::replace(&path, &serde_json::to_vec(received)?)?;
        make_room(&folder)
    }

    /// The reports of a kind, newest first, at most so many. Broken files are passed over.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list<R: serde::de::DeserializeOwned>(&self, kind: &str, limit: usize) -> io::Result<Vec<Received<R>>> {
        let files = match files(&self.folder.join(kind)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files?,
        };
        let read = |(path, _): &(PathBuf, u64)| serde_json::from_slice(&fs::read(path).ok()?).ok();
        Ok(files.iter().rev().filter_map(read).take(limit).collect())
    }
}

/// Files with their lengths, oldest first: their names begin with the time.
fn files(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let entries = fs::read_dir(folder)?.filter_map(Result::ok);
    let mut files: Vec<_> = entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len()))).collect();
    files.retain(|(path, _)| path.to_string_lossy().ends_with(SUFFIX));
    files.sort();
    Ok(files)
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn make_room(folder: &Path) -> io::Result<()> {
    let files = files(folder)?;
    let (mut count, mut octets) = (files.len(), files.iter().map(|(_, length)| length).sum::<u64>());
    for (path, length) in files {
        if count <= MAX_KEPT && octets <= MAX_KEPT_OCTETS {
            break;
        }
        fs::remove_file(path)?;
        count -= 1;
        octets -= length;
    }
    Ok(())
}

/// Domains whose signatures are good by the Authentication-Results that this server wrote on top: only its own field is there.
pub(crate) fn signed_by(prefix: &str) -> Vec<Domain> {
    let unfolded = prefix.replace("\r\n\t", " ").replace("\r\n ", " ");
    let results = unfolded.lines().filter(|line| line.to_ascii_lowercase().starts_with("authentication-results:"));
    let good = results.flat_map(|line| line.split(';')).filter(|result| result.trim_start().starts_with("dkim=pass"));
    let domains = good.filter_map(|result| {
        let domain = result.split_ascii_whitespace().find_map(|word| word.strip_prefix("header.d="))?;
        Domain::parse(domain).ok()
    });
    let mut domains: Vec<Domain> = domains.collect();
    domains.sort();
    domains.dedup();
    domains
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::letter::gzip;

    fn received(n: u64) -> Received {
        let to = "reports@a.example".parse().unwrap();
        let report = serde_json::json!({ "n": n });
        Received { received: Timestamp::from_millis(n), to, sender: None, signed_by: Vec::new(), report }
    }

    #[test]
    fn a_bomb_is_not_inflated() {
        let bomb = gzip(&vec![0; MAX_REPORT + 1]).unwrap();
        assert!(bomb.len() < 20_000);
        assert_eq!(gunzip(&bomb), Err(Unreadable::TooLarge));
        assert_eq!(gunzip(&gzip(b"x").unwrap()), Ok(b"x".to_vec()));
        assert_eq!(gunzip(b"x"), Err(Unreadable::Compression));
    }

    #[test]
    fn the_newest_reports_are_kept_and_none_twice() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::new(folder.path().join("received"));
        assert_eq!(archive.list::<Value>("x", 10).unwrap(), []);
        for n in [1_000_000_000_001, 1_000_000_000_002, 1_000_000_000_003] {
            archive.keep("x", &received(n)).unwrap();
        }
        let mut again = received(1_000_000_000_001);
        again.received = Timestamp::from_millis(1_000_000_000_009);
        archive.keep("x", &again).unwrap();
        let list: Vec<Received> = archive.list("x", 2).unwrap();
        assert_eq!(list, [received(1_000_000_000_003), received(1_000_000_000_002)]);
        assert_eq!(archive.list::<Value>("x", 10).unwrap().len(), 3);
    }

    #[test]
    fn the_oldest_give_way() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..MAX_KEPT + 3 {
            fs::write(folder.path().join(format!("{n:06}_x.json")), "{}").unwrap();
        }
        make_room(folder.path()).unwrap();
        let left = files(folder.path()).unwrap();
        assert_eq!((left.len(), stem(&left[0].0).as_str()), (MAX_KEPT, "000003_x"));
    }

    #[test]
    fn signatures_count_by_our_own_word() {
        let prefix = "Authentication-Results: mx.a.example;\r\n\tdkim=pass header.d=b.example header.s=s1;\r\n\tdkim=fail header.d=c.example;\r\n\
                      \tspf=none\r\nReceived: from dkim=pass header.d=d.example\r\n";
        assert_eq!(signed_by(prefix), ["b.example".parse().unwrap()]);
        assert!(signed_by("").is_empty());
    }
}
