//! Puts the dots on (RFC 5321 §4.5.2).

use bytes::{Bytes, BytesMut};
use memchr::memchr_iter;
use memchr::memmem::Finder;

/// Prepares a message for DATA, chunk by chunk.
///
/// A dot behind *any* LF is doubled, a bare one included: whatever a lenient receiver takes for a line
/// end, no dot of ours stands alone behind it.
#[derive(Debug, Clone)]
pub struct Stuffer {
    line_dot: Finder<'static>,
    /// The last two octets.
    tail: [u8; 2],
}

impl Default for Stuffer {
    fn default() -> Self {
        Self { line_dot: Finder::new(b"\n."), tail: *b"\r\n" }
    }
}

impl Stuffer {
    /// The chunk as it goes on the wire; the very same octets where there is nothing to do.
    pub fn stuff(&mut self, chunk: Bytes) -> Bytes {
        let Some(&last) = chunk.last() else {
            return chunk;
        };
        let dot_first = self.tail[1] == b'\n' && chunk[0] == b'.';
        self.tail = [if chunk.len() > 1 { chunk[chunk.len() - 2] } else { self.tail[1] }, last];
        let first = self.line_dot.find(&chunk);
        if !dot_first && first.is_none() {
            return chunk;
        }
        let mut stuffed = BytesMut::with_capacity(chunk.len() + chunk.len() / 8 + 2);
        if dot_first {
            stuffed.extend_from_slice(b".");
        }
        let mut copied = 0;
        for at in memchr_iter(b'\n', &chunk) {
            if chunk.get(at + 1) == Some(&b'.') {
                stuffed.extend_from_slice(&chunk[copied..=at]);
                stuffed.extend_from_slice(b".");
                copied = at + 1;
            }
        }
        stuffed.extend_from_slice(&chunk[copied..]);
        stuffed.freeze()
    }

    /// What ends the content: the lone dot, behind a CR LF that is supplied where the message has none.
    pub fn end(self) -> Bytes {
        Bytes::from_static(if &self.tail == b"\r\n" { b".\r\n" } else { b"\r\n.\r\n" })
    }
}
