//! Collects the block of a TBR offer up to the lone dot (TBR §3). Nothing is unstuffed: a line that
//! begins with a dot and is not the end makes the block malformed.

use bytes::{Bytes, BytesMut};

use crate::line::{find_crlf, has_line_end};

/// Longest line of a block, CR LF included (TBR §3: 998 octets and CR LF).
const MAX_LINE: usize = 1000;

/// What [`BlockReader::read`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BlockStep {
    /// The lone dot has not come yet.
    More,
    /// The block without the dot; `None` where it is malformed or was not to be kept.
    End(Option<Bytes>),
    /// More octets than the limit. The session can't go on.
    TooBig,
}

/// A block that is on its way.
#[derive(Debug)]
pub(crate) struct BlockReader {
    limit: usize,
    seen: usize,
    scanned: usize,
    /// The lines so far; `None` once it is certain that nobody will look at them.
    kept: Option<BytesMut>,
}

impl BlockReader {
    /// A block of at most `limit` octets, kept only if somebody will look at it.
    pub(crate) fn new(limit: usize, keep: bool) -> Self {
        Self { limit, seen: 0, scanned: 0, kept: keep.then(BytesMut::new) }
    }

    /// Takes whole lines from the front of `input`.
    pub(crate) fn read(&mut self, input: &mut BytesMut) -> BlockStep {
        while let Some(end) = find_crlf(input, &mut self.scanned) {
            let line = input.split_to(end + 2);
            if &line[..] == b".\r\n" {
                return BlockStep::End(self.kept.take().map(BytesMut::freeze));
            }
            self.seen += line.len();
            if self.seen > self.limit {
                return BlockStep::TooBig;
            }
            self.add(&line);
        }
        if self.seen + input.len() > self.limit + b".\r".len() { BlockStep::TooBig } else { BlockStep::More }
    }

    fn add(&mut self, line: &[u8]) {
        let body = &line[..line.len() - 2];
        if line.len() > MAX_LINE || body.first() == Some(&b'.') || has_line_end(body) {
            self.kept = None;
        } else if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(line);
        }
    }
}
