//! Takes the dots off and finds the end of a DATA content (RFC 5321 §4.5.2). Only CR LF `.` CR LF ends
//! it, or `.` CR LF at its very beginning.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// What [`Unstuffer::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Unstuffed {
    /// Octets of the message, not empty; more may be in the buffer.
    Chunk(Bytes),
    /// The lone dot. It has been taken from the buffer; what is left there is not content.
    End,
    /// Nothing certain in the buffer: more octets are needed.
    More,
}

/// The state between chunks.
#[derive(Debug, Clone)]
pub struct Unstuffer {
    /// Finds the only places where something happens.
    dot_line: Finder<'static>,
    /// Does the buffer begin at the start of a line?
    line_start: bool,
}

impl Default for Unstuffer {
    fn default() -> Self {
        Self { dot_line: Finder::new(b"\r\n."), line_start: true }
    }
}

impl Unstuffer {
    /// Takes what it can from the front of `input`, which holds the octets as they came. At most four
    /// octets are left in it when it asks for more.
    pub fn take(&mut self, input: &mut BytesMut) -> Unstuffed {
        let (mut read, mut write) = (0, 0);
        loop {
            if self.line_start {
                match dot_at(&input[read..]) {
                    Dot::Lone if write == 0 => {
                        let _dot = input.split_to(b".\r\n".len());
                        return Unstuffed::End;
                    }
                    // The octets before the dot first; the dot is found again with the next call.
                    Dot::Lone | Dot::Unsure => break,
                    // At least one certain octet follows, so something is written below.
                    Dot::Stuffed => read += 1,
                    Dot::None => {}
                }
            }
            let end = self.segment_end(&input[read..]);
            if read != write {
                input.copy_within(read..read + end, write);
            }
            (read, write) = (read + end, write + end);
            if !self.line_start || read == input.len() {
                break;
            }
        }
        if write == 0 {
            return Unstuffed::More;
        }
        let mut chunk = input.split_to(read);
        chunk.truncate(write);
        Unstuffed::Chunk(chunk.freeze())
    }

    /// How many octets from here on are content without a dot to take off; says in `line_start`
    /// whether a line begins behind them.
    fn segment_end(&mut self, rest: &[u8]) -> usize {
        let found = self.dot_line.find(rest);
        self.line_start = found.is_some() || rest.ends_with(b"\r\n");
        match found {
            Some(at) => at + 2,
            // A CR at the end may be the first octet of the dot line.
            None if rest.last() == Some(&b'\r') => rest.len() - 1,
            None => rest.len(),
        }
    }
}

/// What stands at the start of a line.
enum Dot {
    /// No dot.
    None,
    /// A dot and something else than CR LF: the dot is to be taken off.
    Stuffed,
    /// The end.
    Lone,
    /// Too few octets to tell.
    Unsure,
}

fn dot_at(line: &[u8]) -> Dot {
    match line {
        [] | b"." | b".\r" => Dot::Unsure,
        [b'.', b'\r', b'\n', ..] => Dot::Lone,
        [b'.', ..] => Dot::Stuffed,
        [..] => Dot::None,
    }
}
