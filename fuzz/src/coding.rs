//! Coded octets of a hostile repository, as a retrieval reads them, and as they are read again where they are kept as they came.

use std::io::{self, Read};

use store::BadCoding;
use store::coding::{Coders, Stream};

/// Octets of the signed size for one of the number in front of the input: the largest is that of several frames.
const UNIT: u64 = 8;

/// What they decode to, and whether they are kept as they came.
fn decoded(coded: &[u8], limit: u64, cut: usize) -> Result<(Vec<u8>, bool), BadCoding> {
    let (mut stream, mut octets) = (Stream::new(limit)?, Vec::new());
    let mut chunks = coded.chunks(cut);
    let taken = chunks.try_for_each(|chunk| stream.push(chunk, |part| octets.extend_from_slice(part)));
    assert!(octets.len() as u64 <= limit, "{} octets, and {limit} are signed", octets.len());
    taken.and_then(|()| stream.finish()).map(|is_kept| (octets, is_kept))
}

/// A source that gives little at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.1);
        self.0.read(&mut buffer[..most])
    }
}

/// What is kept is read again.
fn read_again(coders: &Coders, coded: &[u8], cut: usize) -> Result<Vec<u8>, BadCoding> {
    let mut octets = Vec::new();
    let read = coders.decode_all(Pieces(coded, cut), |part| octets.extend_from_slice(part));
    read.expect("octets in memory can be read").map(|()| octets)
}

/// The same octets and the same verdict however they are cut (the first octet says how), never more than the signed size (the next
/// two), and what is kept coded decodes again to the same. What is coded here is kept.
pub fn coding(data: &[u8]) {
    let [cut, high, low, coded @ ..] = data else { return };
    let (cut, limit) = (usize::from(*cut) + 1, u64::from(u16::from_be_bytes([*high, *low])) * UNIT);
    let whole = decoded(coded, limit, usize::MAX).ok();
    assert!(whole == decoded(coded, limit, cut).ok(), "it depends on the cut");
    let coders = Coders::default();
    // Whatever is on a disk is read alike, too.
    let again = read_again(&coders, coded, usize::MAX).ok();
    assert!(again == read_again(&coders, coded, cut).ok(), "what is stored depends on the cut");
    if let Some((octets, true)) = whole {
        assert!(again == Some(octets), "it is kept, and reads otherwise");
    }
    let ours = coders.try_whole(coded).expect("there is memory");
    if let Some(ours) = ours {
        let size = coded.len() as u64;
        assert!(decoded(&ours, size, cut) == Ok((coded.to_vec(), true)), "ours is not like ours");
    }
}
