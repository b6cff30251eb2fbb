//! The container of a bundle (TBR §7.5): a plain ustar archive of regular files, whose names and order are given.
//!
//! Everything else that tar archives may hold (links, directories, long names, sparse files, other names) is refused, so
//! that there is one way to read a bundle. Sans-I/O, in constant memory: octets in, entries out. What they say is left to
//! the reader of the parts.

use std::fmt;

use bytes::{Buf as _, Bytes};
use mail::Xuid;
use reference::bundle::{Kind, MAX_PARTS};
use tar::{EntryType, Header};

/// Octets of a header, and what everything is filled up to.
const BLOCK: usize = 512;
/// Zeros to fill a block.
const ZEROS: [u8; BLOCK] = [0; BLOCK];
/// What ends an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
const MANIFEST: &str = "bundle.json";
const SIGNATURE: &str = "bundle.sig";
const OBJECT: &str = ".eml";
const PART: &str = ".json";

/// The name of a file in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `bundle.json`.
    Manifest,
    /// `bundle.sig`.
    Signature,
    /// `003-pending.json`: number and kind.
    Part(u16, Kind),
    /// `003/<XUID>.eml`: an object that part 3 names.
    Object(u16, Xuid),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => f.write_str(MANIFEST),
            Self::Signature => f.write_str(SIGNATURE),
            Self::Part(number, kind) => write!(f, "{number:03}-{}{PART}", kind.as_str()),
            Self::Object(number, xuid) => write!(f, "{number:03}/{xuid}{OBJECT}"),
        }
    }
}

impl Name {
    /// Reads it; there is one form of each.
    fn parse(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let name = match text {
            MANIFEST => Self::Manifest,
            SIGNATURE => Self::Signature,
            _ => {
                let (number, rest) = text.split_at_checked(3)?;
                let number: u16 = number.parse().ok().filter(|number| usize::from(*number) < MAX_PARTS)?;
                if let Some(kind) = rest.strip_prefix('-').and_then(|rest| rest.strip_suffix(PART)) {
                    Self::Part(number, Kind::of(kind)?)
                } else {
                    let xuid = rest.strip_prefix('/')?.strip_suffix(OBJECT)?;
                    Self::Object(number, xuid.parse().ok()?)
                }
            }
        };
        (name.to_string() == text).then_some(name)
    }
}

/// The header of a file.
pub(super) fn header(name: Name, size: u64, modified: u64) -> Bytes {
    let mut header = Header::new_ustar();
    // All our names fit.
    let _ = header.set_path(name.to_string());
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(modified);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Bytes::copy_from_slice(header.as_bytes())
}

/// What stands behind the octets of a file.
pub(super) fn padding(size: u64) -> Bytes {
    Bytes::from_static(&ZEROS[..padding_len(size)])
}

fn padding_len(size: u64) -> usize {
    // Below a block.
    (BLOCK as u64 - size % BLOCK as u64) as usize % BLOCK
}

/// Octets that a file of this size takes.
pub(super) fn weight(size: u64) -> u64 {
    BLOCK as u64 + size + padding_len(size) as u64
}

/// Does a file that begins so claim to be a bundle?
pub(crate) fn is_bundle(head: &[u8]) -> bool {
    head.first_chunk::<BLOCK>().is_some_and(|block| matches!(entry(block), Ok((Name::Manifest, _))))
}

/// Why an archive is no bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A header that does not stand where one must.
    #[error("it is damaged: a header's checksum is wrong")]
    Checksum,
    /// A header of another kind.
    #[error("it holds something else than plain files with a bundle's names")]
    Foreign,
    /// It ends before its end.
    #[error("it ends too early")]
    Torn,
}

/// What is found, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file of so many octets begins.
    Begin(Name, u64),
    /// Its next octets.
    Octets(Bytes),
    /// All of them have come.
    Complete,
    /// The archive ends, as it must; nothing behind it is looked at.
    End,
}

enum State {
    /// A header is read.
    Header,
    /// So many octets of a file are to come.
    Body(u64),
    /// So many zeros are to be passed over.
    Padding(usize),
    /// The first of the two blocks of zeros was read.
    Ending,
    Ended,
}

/// Reads an archive.
pub struct Reader {
    state: State,
    block: Vec<u8>,
    padding: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self { state: State::Header, block: Vec::with_capacity(BLOCK), padding: 0 }
    }
}

impl Reader {
    /// Takes octets from the front; `None` where it needs more.
    ///
    /// # Errors
    /// [`Fault`], again and again.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Found>, Fault> {
        loop {
            match self.state {
                State::Ended => return Ok(Some(Found::End)),
                State::Body(0) => {
                    self.state = State::Padding(self.padding);
                    return Ok(Some(Found::Complete));
                }
                State::Padding(0) => self.state = State::Header,
                _ if input.is_empty() => return Ok(None),
                State::Body(left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    self.state = State::Body(left - length as u64);
                    return Ok(Some(Found::Octets(input.split_to(length))));
                }
                State::Padding(left) => {
                    let length = left.min(input.len());
                    input.advance(length);
                    self.state = State::Padding(left - length);
                }
                State::Header | State::Ending => {
                    if let Some(found) = self.block(input)? {
                        return Ok(Some(found));
                    }
                }
            }
        }
    }

    /// Collects a block, and reads it once it is whole.
    fn block(&mut self, input: &mut Bytes) -> Result<Option<Found>, Fault> {
        let length = (BLOCK - self.block.len()).min(input.len());
        self.block.extend_from_slice(&input.split_to(length));
        let Some(block) = self.block.first_chunk::<BLOCK>() else { return Ok(None) };
        let is_zero = *block == ZEROS;
        match (&self.state, is_zero) {
            (State::Ending, true) => {
                self.state = State::Ended;
                return Ok(Some(Found::End));
            }
            (State::Ending, false) => return Err(Fault::Foreign),
            (_, true) => {
                self.state = State::Ending;
                self.block.clear();
                return Ok(None);
            }
            (_, false) => {}
        }
        let (name, size) = entry(block)?;
        self.block.clear();
        (self.state, self.padding) = (State::Body(size), padding_len(size));
        Ok(Some(Found::Begin(name, size)))
    }
}

/// Name and size of a plain file.
fn entry(block: &[u8; BLOCK]) -> Result<(Name, u64), Fault> {
    let header = Header::from_byte_slice(block);
    let mut summed = header.clone();
    summed.set_cksum();
    match header.cksum() {
        Ok(sum) if summed.cksum().ok() == Some(sum) => {}
        _ => return Err(Fault::Checksum),
    }
    let ustar = header.as_ustar().ok_or(Fault::Foreign)?;
    // Sizes are octal: no extension of a later day says otherwise.
    let is_octal = ustar.size[0].is_ascii_digit();
    let is_plain = header.entry_type() == EntryType::Regular && ustar.prefix[0] == 0 && ustar.linkname[0] == 0;
    let name = Name::parse(&header.path_bytes()).filter(|_| is_plain && is_octal).ok_or(Fault::Foreign)?;
    Ok((name, header.entry_size().map_err(|_| Fault::Foreign)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(Name, &[u8])]) -> Vec<u8> {
        let mut octets = Vec::new();
        for (name, body) in files {
            let size = body.len() as u64;
            octets.extend_from_slice(&header(*name, size, 1_800_000_000));
            octets.extend_from_slice(body);
            octets.extend_from_slice(&padding(size));
        }
        octets.extend_from_slice(&END);
        octets
    }

    fn read(octets: &[u8], cut: usize) -> Result<Vec<(Name, Vec<u8>)>, Fault> {
        let (mut reader, mut files) = (Reader::default(), Vec::<(Name, Vec<u8>)>::new());
        for chunk in octets.chunks(cut) {
            let mut input = Bytes::copy_from_slice(chunk);
            while let Some(found) = reader.next(&mut input)? {
                match found {
                    Found::Begin(name, _) => files.push((name, Vec::new())),
                    Found::Octets(octets) => files.last_mut().unwrap().1.extend_from_slice(&octets),
                    Found::Complete => {}
                    Found::End => return Ok(files),
                }
            }
        }
        Err(Fault::Torn)
    }

    fn sample() -> Vec<(Name, &'static [u8])> {
        let xuid = Xuid::of(b"x");
        vec![
            (Name::Manifest, b"{}"),
            (Name::Signature, b""),
            (Name::Part(0, Kind::Pending), &[7; 512]),
            (Name::Object(0, xuid), &[8; 1025]),
        ]
    }

    #[test]
    fn what_is_written_is_read_however_it_comes() {
        let files = sample();
        let octets = archive(&files);
        assert!(is_bundle(&octets) && !is_bundle(&octets[512..]));
        let wanted: Vec<_> = files.iter().map(|(name, body)| (*name, body.to_vec())).collect();
        for cut in [1, 7, 511, 512, 513, octets.len()] {
            assert_eq!(read(&octets, cut), Ok(wanted.clone()), "{cut}");
        }
        for length in 0..octets.len() {
            assert_eq!(read(&octets[..length], 512), Err(Fault::Torn), "{length}");
        }
    }

    /// The program `tar` and its readers agree.
    #[test]
    fn tar_reads_it_too() {
        let files = sample();
        let octets = archive(&files);
        let mut read = tar::Archive::new(octets.as_slice());
        for (entry, (name, body)) in read.entries().unwrap().zip(files) {
            let entry = entry.unwrap();
            assert_eq!(entry.path().unwrap().to_str(), Some(name.to_string().as_str()));
            assert_eq!(entry.size(), body.len() as u64);
        }
    }

    #[test]
    fn nothing_but_plain_files_of_these_names_is_taken() {
        let with = |change: &dyn Fn(&mut Header)| {
            let mut octets = archive(&sample());
            let mut header = Header::from_byte_slice(&octets[..512]).clone();
            change(&mut header);
            header.set_cksum();
            octets[..512].copy_from_slice(header.as_bytes());
            read(&octets, 512).map(|_| ())
        };
        assert_eq!(with(&|_| {}), Ok(()));
        for kind in [EntryType::Symlink, EntryType::Directory, EntryType::XHeader, EntryType::GNULongName] {
            assert_eq!(with(&|header| header.set_entry_type(kind)), Err(Fault::Foreign), "{kind:?}");
        }
        for name in ["x", "00-pending.json", "064-pending.json", "000-other.json", "+00-pending.json", "000/x.eml"] {
            assert_eq!(with(&|header| header.set_path(name).unwrap()), Err(Fault::Foreign), "{name}");
        }
        assert_eq!(with(&|header| header.as_ustar_mut().unwrap().prefix[0] = b'a'), Err(Fault::Foreign));
        assert_eq!(with(&|header| header.as_ustar_mut().unwrap().magic = *b"ustar "), Err(Fault::Foreign));
        assert_eq!(with(&|header| header.as_old_mut().size = [0xff; 12]), Err(Fault::Foreign));
        let mut damaged = archive(&sample());
        damaged[3] ^= 1;
        assert_eq!(read(&damaged, 512), Err(Fault::Checksum));
        let mut ends_badly = archive(&sample());
        let last = ends_badly.len() - 1;
        ends_badly[last] = 1;
        assert_eq!(read(&ends_badly, 512), Err(Fault::Foreign));
    }
}
