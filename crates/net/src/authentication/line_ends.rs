//! White space at the ends of lines, taken away as a body streams past: what the relaxed canonicalisation asks for before anything else
//! (RFC 6376 §3.4.4).
//!
//! The library that does the rest takes lines of nothing but white space at a body's end for lines of the body. Without this, signatures of
//! others would not hold over such bodies, and ours not with others.

use memchr::memchr;

/// A body, line ends CR LF, of which some has passed.
#[derive(Debug, Default)]
pub(super) struct LineEnds {
    /// White space came last, and whether its line goes on is not known yet.
    held: bool,
}

impl LineEnds {
    /// Takes the next octets, and gives them on in parts. White space within a line may come out as one space, which is all the same in
    /// the relaxed form.
    pub(super) fn push(&mut self, chunk: &[u8], mut give: impl FnMut(&[u8])) {
        let mut start = 0;
        if self.held {
            let Some(next) = chunk.iter().position(|octet| !is_white(*octet)) else { return };
            if chunk[next] != b'\r' {
                give(b" ");
            }
            (start, self.held) = (next, false);
        }
        // Where a line begins, or the rest of one.
        let mut line = start;
        while let Some(length) = memchr(b'\r', &chunk[line..]) {
            let kept = line + trimmed(&chunk[line..line + length]);
            if kept < line + length {
                give(&chunk[start..kept]);
                start = line + length;
            }
            line += length + 1;
        }
        let kept = line + trimmed(&chunk[line..]);
        self.held = kept < chunk.len();
        give(&chunk[start..kept]);
    }
}

/// The length without white space at the end.
fn trimmed(line: &[u8]) -> usize {
    line.iter().rposition(|octet| !is_white(*octet)).map_or(0, |last| last + 1)
}

fn is_white(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_it_is_cut_no_line_ends_in_white_space() {
        for (body, expected) in [
            ("one \t\r\n two\r\n", "one\r\n two\r\n"),
            ("text\r\n \r\n\t\t\r\n", "text\r\n\r\n\r\n"),
            (" \r\nx", "\r\nx"),
            ("a \t b \r\n\r\n", "a b\r\n\r\n"),
            ("end \t", "end"),
            ("  ", ""),
            ("", ""),
        ] {
            for size in 1..=body.len().max(1) {
                let (mut lines, mut out) = (LineEnds::default(), Vec::new());
                body.as_bytes().chunks(size).for_each(|chunk| lines.push(chunk, |part| out.extend_from_slice(part)));
                // Within a line white space is one space sooner or later.
                let out = String::from_utf8(out).unwrap().replace(" \t ", " ");
                assert_eq!(out, expected, "{body:?} in parts of {size}");
            }
        }
    }
}
