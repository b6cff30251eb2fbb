//! The content coding of stored objects: zstd (RFC 8878), one frame for each [`FRAME`] octets of the object.
//!
//! Frames on their own need no state between two chunks: neither whoever writes an object nor whoever reads one holds a
//! context, and a few of them in a pool serve all. Base64, which is what large messages are made of, is coded no
//! worse for it. What came from elsewhere under zstd may have any shape, and is decoded by a [`Stream`]; it is kept as it
//! came only if it has the shape that is read here. Whose digest is right is judged by the callers.

use std::fmt;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use mail::id::XuidHasher;
use mail::ledger::{Coded, Coding};
use zstd::bulk::{Compressor, Decompressor};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};
use zstd::zstd_safe::{compress_bound, find_frame_compressed_size};

/// Most octets of an object in one frame.
pub(crate) const FRAME: usize = 128 * 1024;
/// Most octets that such a frame takes: those that do not shrink take a few more than they are.
const MAX_CODED_FRAME: usize = FRAME + 4096;
/// Smaller objects are kept as they are.
const WORTHWHILE: usize = 4096;
/// The fastest level that codes literals: base64 has little else.
const LEVEL: i32 = 1;
/// Windows of more than 8 MiB are refused (TBR §6.1).
const MAX_WINDOW_LOG: u32 = 23;
/// Most contexts of either kind kept while nobody uses them.
const KEPT: usize = 16;

/// Octets that are no coding of an object, or of one that is too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCoding {
    /// They cannot be decoded, or ask for too large a window.
    #[error("the coded octets cannot be decoded: {0}")]
    Malformed(String),
    /// They decode to more than they should: no more than that is decoded.
    #[error("the coded octets decode to more than {0} octets")]
    TooLong(u64),
    /// They end within a frame.
    #[error("the coded octets end too early")]
    Incomplete,
}

fn malformed(error: impl fmt::Display) -> BadCoding {
    BadCoding::Malformed(error.to_string())
}

/// Is the coded form small enough to be worth decoding? It is not for what was compressed already and is in no
/// other clothes.
fn pays(octets: usize, coded: usize) -> bool {
    coded <= octets / 10 * 9
}

/// Codes objects and decodes what is stored of them, with contexts that nobody else uses at the moment.
#[derive(Default)]
pub struct Coders {
    compressors: Mutex<Vec<Compressor<'static>>>,
    decompressors: Mutex<Vec<Decompressor<'static>>>,
}

impl fmt::Debug for Coders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Coders")
    }
}

impl Coders {
    /// The coded form of a whole small object, if that pays.
    ///
    /// # Errors
    /// Those of the library, for want of memory.
    pub fn try_whole(&self, octets: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let (first, rest) = octets.split_at(octets.len().min(FRAME));
        let Some(mut coded) = self.try_first(first)? else { return Ok(None) };
        for part in rest.chunks(FRAME) {
            coded.extend(self.encode(part)?);
        }
        Ok(Some(coded))
    }

    /// The first frame of a large object, if coding it pays.
    pub(crate) fn try_first(&self, octets: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if octets.len() < WORTHWHILE {
            return Ok(None);
        }
        let coded = self.encode(octets)?;
        Ok(pays(octets.len(), coded.len()).then_some(coded))
    }

    /// One frame of at most [`FRAME`] octets.
    pub(crate) fn encode(&self, octets: &[u8]) -> io::Result<Vec<u8>> {
        let kept = self.compressors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut compressor = kept.map_or_else(|| Compressor::new(LEVEL), Ok)?;
        let mut coded = Vec::with_capacity(compress_bound(octets.len()));
        compressor.compress_to_buffer(octets, &mut coded)?;
        let mut kept = self.compressors.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(compressor);
        }
        Ok(coded)
    }

    /// What a frame holds. The library refuses some frames as a whole that it takes in parts, such as one whose empty last block hides
    /// that there is less than was claimed. They may have come, and been kept, in parts.
    fn decode(&self, frame: &[u8]) -> Result<Vec<u8>, BadCoding> {
        self.decode_whole(frame).or_else(|_| decode_in_parts(frame))
    }

    fn decode_whole(&self, frame: &[u8]) -> Result<Vec<u8>, BadCoding> {
        let kept = self.decompressors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decompressor = kept.map_or_else(Decompressor::new, Ok).map_err(malformed)?;
        let mut octets = Vec::with_capacity(FRAME);
        decompressor.decompress_to_buffer(frame, &mut octets).map_err(malformed)?;
        let mut kept = self.decompressors.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(decompressor);
        }
        Ok(octets)
    }

    /// Passes the decoded octets of a stored object on.
    ///
    /// # Errors
    /// Outer: reading fails. Inner: what was read is no coded object.
    pub fn decode_all(&self, mut source: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<Result<(), BadCoding>> {
        let (mut frames, mut buffer) = (Frames::default(), vec![0; FRAME]);
        loop {
            let read = source.read(&mut buffer)?;
            frames.push(&buffer[..read]);
            loop {
                match frames.next(self) {
                    Ok(Some(octets)) => take(&octets),
                    Ok(None) => break,
                    Err(bad) => return Ok(Err(bad)),
                }
            }
            if read == 0 {
                return Ok(if frames.is_empty() { Ok(()) } else { Err(BadCoding::Incomplete) });
            }
        }
    }
}

fn decode_in_parts(frame: &[u8]) -> Result<Vec<u8>, BadCoding> {
    let (mut stream, mut octets) = (Stream::new(FRAME as u64)?, Vec::new());
    stream.push(frame, |part| octets.extend_from_slice(part))?;
    stream.finish().map(|_| octets)
}

/// Cuts the coded octets of a stored object into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    coded: Vec<u8>,
}

impl Frames {
    pub(crate) fn push(&mut self, coded: &[u8]) {
        self.coded.extend_from_slice(coded);
    }

    /// Nothing of a frame is left over.
    pub(crate) fn is_empty(&self) -> bool {
        self.coded.is_empty()
    }

    /// The octets of the next frame; `None` while it is not complete.
    pub(crate) fn next(&mut self, coders: &Coders) -> Result<Option<Vec<u8>>, BadCoding> {
        let too_long = || BadCoding::Malformed("a frame is too long".into());
        let Ok(length) = find_frame_compressed_size(&self.coded) else {
            return if self.coded.len() > MAX_CODED_FRAME { Err(too_long()) } else { Ok(None) };
        };
        if length > MAX_CODED_FRAME {
            return Err(too_long());
        }
        let octets = coders.decode(&self.coded[..length])?;
        self.coded.drain(..length);
        Ok(Some(octets))
    }
}

/// Counts and hashes the coded octets of an object while they are written.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    hasher: XuidHasher,
    size: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, coded: &[u8]) {
        self.hasher.update(coded);
        self.size += coded.len() as u64;
    }

    pub(crate) fn of(coded: &[u8]) -> Coded {
        let mut tally = Self::default();
        tally.add(coded);
        tally.finish()
    }

    pub(crate) fn finish(self) -> Coded {
        Coded { coding: Coding::Zstd, digest: self.hasher.finish(), size: self.size }
    }
}

/// Decodes octets that came from elsewhere, not an octet more than a limit (TBR §6.1).
///
/// Whether they decode, and to what, does not depend on how they are cut; which of two faults is named may.
pub struct Stream {
    decoder: Decoder<'static>,
    buffer: Vec<u8>,
    limit: u64,
    taken: u64,
    is_between_frames: bool,
    /// Decoded and coded octets of the frame under way.
    frame: (usize, usize),
    /// All frames so far are such as [`Frames`] reads.
    has_our_shape: bool,
}

impl Stream {
    /// For an object of `limit` octets.
    ///
    /// # Errors
    /// [`BadCoding::Malformed`] where there is no memory for it.
    pub fn new(limit: u64) -> Result<Self, BadCoding> {
        let mut decoder = Decoder::new().map_err(malformed)?;
        decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG)).map_err(malformed)?;
        let (buffer, frame) = (vec![0; 64 * 1024], (0, 0));
        Ok(Self { decoder, buffer, limit, taken: 0, is_between_frames: true, frame, has_our_shape: true })
    }

    /// Passes on what the next octets decode to.
    ///
    /// # Errors
    /// [`BadCoding::Malformed`] and [`BadCoding::TooLong`]; nothing can be pushed after them.
    pub fn push(&mut self, coded: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), BadCoding> {
        let mut rest = coded;
        while !rest.is_empty() || !self.is_between_frames {
            // A small frame that is there as a whole is decoded by a short cut that does not look at its window. So none ever is.
            let part = if self.is_between_frames { &rest[..1] } else { rest };
            let (mut input, mut output) = (InBuffer::around(part), OutBuffer::around(self.buffer.as_mut_slice()));
            let hint = self.decoder.run(&mut input, &mut output).map_err(malformed)?;
            let (read, length, is_full) = (input.pos(), output.pos(), output.pos() == output.capacity());
            rest = &rest[read..];
            self.taken += length as u64;
            if self.taken > self.limit {
                return Err(BadCoding::TooLong(self.limit));
            }
            take(&self.buffer[..length]);
            self.note(length, read, hint == 0);
            if rest.is_empty() && !is_full {
                break;
            }
        }
        Ok(())
    }

    fn note(&mut self, decoded: usize, coded: usize, is_end: bool) {
        self.frame = (self.frame.0.saturating_add(decoded), self.frame.1.saturating_add(coded));
        self.has_our_shape &= self.frame.0 <= FRAME && self.frame.1 <= MAX_CODED_FRAME;
        self.is_between_frames = is_end;
        if is_end {
            self.frame = (0, 0);
        }
    }

    /// No more octets come. Says if they can be kept as they came: [`Coders::decode_all`] reads them.
    ///
    /// # Errors
    /// [`BadCoding::Incomplete`].
    pub fn finish(&self) -> Result<bool, BadCoding> {
        if self.is_between_frames { Ok(self.has_our_shape) } else { Err(BadCoding::Incomplete) }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("limit", &self.limit).field("taken", &self.taken).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters by chance, as base64 has them: five bits in each.
    fn text(octets: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut letter = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[(state >> 27) as usize]
        };
        (0..octets).map(|_| letter()).collect()
    }

    fn frames(octets: &[u8]) -> Vec<u8> {
        octets.chunks(FRAME).flat_map(|part| Coders::default().encode(part).unwrap()).collect()
    }

    fn stream(coded: &[u8], limit: u64, step: usize) -> Result<(Vec<u8>, bool), BadCoding> {
        let (mut stream, mut octets) = (Stream::new(limit)?, Vec::new());
        for part in coded.chunks(step) {
            stream.push(part, |decoded| octets.extend_from_slice(decoded))?;
        }
        stream.finish().map(|ours| (octets, ours))
    }

    #[test]
    fn what_is_coded_is_read_again_in_any_pieces() {
        for size in [0, 1, 4096, FRAME - 1, FRAME, FRAME + 1, 400_000] {
            let (octets, coded) = (text(size), frames(&text(size)));
            let mut decoded = Vec::new();
            Coders::default().decode_all(&coded[..], |part| decoded.extend_from_slice(part)).unwrap().unwrap();
            assert!(decoded == octets, "{size}");
            for step in [1000, 65_536, usize::MAX] {
                assert!(stream(&coded, size as u64, step) == Ok((octets.clone(), true)), "{size} by {step}");
            }
        }
    }

    #[test]
    fn what_does_not_shrink_stays_as_it_is() {
        let mut noise = vec![0u8; 200_000];
        aws_lc_rs::rand::fill(&mut noise).unwrap();
        let coders = Coders::default();
        assert_eq!(coders.try_first(&noise[..FRAME]).unwrap(), None);
        assert_eq!(coders.try_whole(&noise).unwrap(), None);
        assert_eq!(coders.try_whole(&text(4000)).unwrap(), None, "too small");
        let coded = coders.try_whole(&text(200_000)).unwrap().unwrap();
        assert!(coded == frames(&text(200_000)));
    }

    #[test]
    fn a_bomb_yields_no_more_than_the_limit() {
        let bomb = zstd::bulk::compress(&vec![b'A'; 50_000_000], 3).unwrap();
        assert!(bomb.len() < 10_000);
        let (mut stream, mut decoded) = (Stream::new(1_000_000).unwrap(), 0);
        assert_eq!(stream.push(&bomb, |part| decoded += part.len()), Err(BadCoding::TooLong(1_000_000)));
        assert!(decoded <= 1_000_000, "{decoded}");
    }

    #[test]
    fn a_window_of_more_than_8_mib_is_refused() {
        let of = |log| {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
            encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(log)).unwrap();
            std::io::Write::write_all(&mut encoder, &text(10_000)).unwrap();
            encoder.finish().unwrap()
        };
        assert!(stream(&of(23), 10_000, 99) == Ok((text(10_000), true)));
        assert!(matches!(stream(&of(24), 10_000, 99), Err(BadCoding::Malformed(_))));
    }

    /// It says how little it holds, and is there as a whole.
    #[test]
    fn nor_is_one_taken_of_a_small_frame() {
        for (window, is_taken) in [(13 << 3, true), (14 << 3, false)] {
            // The magic number, a content size in two octets, the window, and the size, which counts from 256 (RFC 8878 §3.1.1.1).
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x40, window, 0, 0];
            // The last block, of 256 times the same octet.
            frame.extend([0x03, 0x08, 0x00, b'A']);
            for step in [1, usize::MAX] {
                assert_eq!(stream(&frame, 256, step).is_ok(), is_taken, "window {window} by {step}");
            }
        }
    }

    #[test]
    fn what_is_taken_in_parts_can_be_read_again() {
        // An empty last block: beside a size of 2 that is not there, and of a kind that cannot be empty.
        for (claimed, block) in [(0, 0x01), (2, 0x01), (0, 0x05)] {
            let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, claimed, block, 0x00, 0x00];
            assert_eq!(stream(&frame, 99, 1), Ok((Vec::new(), true)), "{claimed}, {block}");
            assert_eq!(Coders::default().decode_all(&frame[..], |_| ()).unwrap(), Ok(()), "{claimed}, {block}");
        }
    }

    #[test]
    fn formats_from_before_the_standard_are_refused() {
        for version in [0x25, 0x26, 0x27] {
            let frame = [version, 0xb5, 0x2f, 0xfd, 0x20, 0x01];
            assert!(matches!(stream(&frame, 99, 99), Err(BadCoding::Malformed(_))), "{version:x}");
        }
    }

    #[test]
    fn frames_of_another_shape_are_told_apart() {
        let long = zstd::bulk::compress(&text(FRAME + 1), 1).unwrap();
        assert_eq!(stream(&long, 1 << 20, 5000).map(|(octets, ours)| (octets.len(), ours)), Ok((FRAME + 1, false)));
        let coded = frames(&text(300_000));
        assert!(stream(&coded[..coded.len() - 1], 1 << 20, 5000) == Err(BadCoding::Incomplete));
        assert!(matches!(stream(b"no frame at all, this", 99, 5), Err(BadCoding::Malformed(_))));
        let mut frames = Frames::default();
        frames.push(&coded[..200]);
        assert!(frames.next(&Coders::default()) == Ok(None), "more is to come");
        let mut endless = Frames::default();
        // Empty blocks, none of them the last.
        endless.push(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50]);
        endless.push(&vec![0; MAX_CODED_FRAME]);
        assert!(endless.next(&Coders::default()).is_err());
    }
}
