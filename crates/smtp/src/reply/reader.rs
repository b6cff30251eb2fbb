//! Collects a peer's reply from octets as they arrive, strictly and within limits (RFC 5321 §4.2.1).

use std::borrow::Cow;

use bytes::BytesMut;
use mail::EnhancedStatus;

use super::{MAX_LINES, Reply, clean_line};
use crate::line::find_crlf;

/// Longest line that is read, CR LF included. RFC 5321 allows 512; longer ones are in use.
const MAX_LINE: usize = 2048;

/// How a peer breaks the rules of replies. The session cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Over 2048 octets without CR LF.
    #[error("the peer sent a reply line of over {MAX_LINE} octets")]
    LongLine,
    /// Over 100 lines.
    #[error("the peer sent a reply of over {MAX_LINES} lines")]
    ManyLines,
    /// No three digits from 200 to 599, or not followed by space, hyphen or the line's end.
    #[error("the peer sent a line that is no reply")]
    Malformed,
    /// Lines of one reply bear different codes.
    #[error("the peer changed its code within a reply")]
    CodeChanged,
}

/// The lines of a reply that is not complete yet.
#[derive(Debug, Default)]
pub struct ReplyReader {
    /// Octets at the start of the input that hold no CR LF.
    scanned: usize,
    code: u16,
    status: Option<EnhancedStatus>,
    text: String,
    lines: usize,
}

impl ReplyReader {
    /// Takes lines from the front of `input` until a reply is complete; `None` where more octets are
    /// needed.
    ///
    /// # Errors
    /// [`ReplyError`]: the stream can't be trusted any more.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        while let Some(end) = find_crlf(input, &mut self.scanned) {
            if end + 2 > MAX_LINE {
                return Err(ReplyError::LongLine);
            }
            let line = input.split_to(end + 2);
            if self.add(&line[..end])? {
                return Ok(Some(self.finish()));
            }
        }
        if input.len() >= MAX_LINE { Err(ReplyError::LongLine) } else { Ok(None) }
    }

    /// Has a part of a reply been taken?
    pub fn is_amid(&self) -> bool {
        self.lines > 0
    }

    /// Takes one line; was it the last of its reply?
    fn add(&mut self, line: &[u8]) -> Result<bool, ReplyError> {
        let (code, last, rest) = split_line(line).ok_or(ReplyError::Malformed)?;
        if self.lines == MAX_LINES {
            return Err(ReplyError::ManyLines);
        }
        if self.lines > 0 && code != self.code {
            return Err(ReplyError::CodeChanged);
        }
        let text = String::from_utf8_lossy(rest).into_owned();
        let (status, text) = split_status(code, &text);
        if self.lines == 0 {
            (self.code, self.status) = (code, status);
        } else {
            self.text.push('\n');
        }
        // A later line keeps its words where its status is another: nothing is lost, one status counts.
        let text = if status == self.status { text } else { Cow::Owned(String::from_utf8_lossy(rest).into_owned()) };
        self.text.push_str(&clean_line(Cow::Owned(text.into_owned())));
        self.lines += 1;
        Ok(last)
    }

    fn finish(&mut self) -> Reply {
        let reader = std::mem::take(self);
        Reply { code: reader.code, status: reader.status, text: Cow::Owned(reader.text) }
    }
}

/// Code, whether it is the last line, and the text.
fn split_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(digits[0], b'2'..=b'5') {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

/// The enhanced status at the front of the text, where there is one that agrees with the code.
fn split_status(code: u16, text: &str) -> (Option<EnhancedStatus>, Cow<'_, str>) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let agrees = |s: &EnhancedStatus| Reply::new(code, None, "").agrees_with(*s);
    match first.parse::<EnhancedStatus>().ok().filter(agrees) {
        Some(status) => (Some(status), Cow::Borrowed(rest)),
        None => (None, Cow::Borrowed(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Result<Option<Reply>, ReplyError> {
        ReplyReader::default().read(&mut BytesMut::from(octets))
    }

    #[test]
    fn replies_of_all_forms() {
        let reply = read(b"250-2.1.5 a\r\n250 2.1.5 b\r\nrest").unwrap().unwrap();
        assert_eq!(reply, Reply::multiline(250, Some(EnhancedStatus::success(1, 5)), ["a", "b"]));
        assert_eq!(read(b"250\r\n").unwrap(), Some(Reply::new(250, None, "")));
        assert_eq!(read(b"250 2.0.0\r\n").unwrap(), Some(Reply::new(250, EnhancedStatus::success(0, 0), "")));
        assert_eq!(read(b"550 2.0.0 x\r\n").unwrap(), Some(Reply::new(550, None, "2.0.0 x")));
        assert_eq!(read(b"250-a\r\n").unwrap(), None);
        assert_eq!(read(b"250 a\n").unwrap(), None);
        assert_eq!(read(b"250 a\nb\rc\xff\r\n").unwrap(), Some(Reply::new(250, None, "a b c\u{fffd}")));
    }

    #[test]
    fn broken_replies() {
        assert_eq!(read(b"250-a\r\n251 b\r\n"), Err(ReplyError::CodeChanged));
        for bad in [&b"hello\r\n"[..], b"199 x\r\n", b"600 x\r\n", b"25\r\n", b"\r\n", b"250x\r\n", b"+50 x\r\n"] {
            assert_eq!(read(bad), Err(ReplyError::Malformed), "{bad:?}");
        }
        assert_eq!(read(&[b'2'; MAX_LINE]), Err(ReplyError::LongLine));
        let line = |octets: usize| format!("250 {}\r\n", "x".repeat(octets - 6)).into_bytes();
        assert!(read(&line(MAX_LINE)).is_ok());
        assert_eq!(read(&line(MAX_LINE + 1)), Err(ReplyError::LongLine));
        assert_eq!(read(&b"250-a\r\n".repeat(101)), Err(ReplyError::ManyLines));
    }
}
