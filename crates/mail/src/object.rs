//! The rules of an *object* (TBR §2), checked while its octets stream past, and the normaliser that
//! turns a local file with LF line ends into one.
//!
//! Storing the octets is left to the store, refusing to the caller: content that breaks a rule can still
//! go by value to a peer that takes it, but never by reference.

use memchr::{memchr, memchr3_iter};

use crate::id::{Xuid, XuidHasher};
use crate::status::EnhancedStatus;

/// Longest line in octets, without its CRLF (RFC 5322 §2.1.1).
pub const MAX_LINE: u64 = 998;

/// The first rule that some content breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObjectFault {
    /// No octets at all.
    #[error("the message is empty")]
    Empty,
    /// The first octet begins no header field name (RFC 5322 §3.6.8).
    #[error("the message does not begin with a header field")]
    NoHeader,
    /// A CR without LF or LF without CR.
    #[error("the message has a bare CR or LF in line {line}")]
    BareLineEnd {
        /// Counted from 1.
        line: u64,
    },
    /// An octet zero.
    #[error("the message has a NUL octet in line {line}")]
    Nul {
        /// Counted from 1.
        line: u64,
    },
    /// A line over [`MAX_LINE`].
    #[error("line {line} of the message is longer than 998 octets")]
    LongLine {
        /// Counted from 1.
        line: u64,
    },
    /// The last line has no CRLF.
    #[error("the last line of the message does not end in CRLF")]
    NoFinalLineEnd,
}

/// What is said of a message that has passed more servers than a limit allows: it is in a loop (RFC 5321 §6.3, RFC 3463 §3.5).
pub const IN_A_LOOP: (EnhancedStatus, &str) =
    (EnhancedStatus::permanent(4, 6), "the message has passed too many servers");

/// What a [`Checker`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// The name of the octets.
    pub xuid: Xuid,
    /// How many there are.
    pub size: u64,
    /// Is there an octet over 127?
    pub eight_bit: bool,
    /// Received fields in the header: for loop detection (RFC 5321 §6.3).
    pub received_fields: u32,
    /// Its one TLS-Required field says `No` (RFC 8689 §5).
    pub tls_optional: bool,
    /// Whether this is an object.
    pub verdict: Result<(), ObjectFault>,
}

/// Hashes, counts and judges content that arrives in chunks of any size, in constant memory.
#[derive(Debug, Clone, Default)]
pub struct Checker {
    hasher: XuidHasher,
    size: u64,
    eight_bit: bool,
    received_fields: u32,
    tls_fields: u32,
    tls_optional: bool,
    fault: Option<ObjectFault>,
    lines: u64,
    line_length: u64,
    after_cr: bool,
    in_body: bool,
    /// The first [`LINE_START`] octets of the current header line, lower-cased.
    line_start: Vec<u8>,
}

const RECEIVED: &[u8] = b"received";
const TLS_REQUIRED: &[u8] = b"tls-required";
/// Enough of a header line for what is read of it.
const LINE_START: usize = 32;

impl Checker {
    /// Takes the next octets.
    pub fn update(&mut self, chunk: &[u8]) {
        let Some(first) = chunk.first() else { return };
        if self.size == 0 && !begins_field_name(*first) {
            self.note(ObjectFault::NoHeader);
        }
        self.hasher.update(chunk);
        self.size += chunk.len() as u64;
        self.eight_bit = self.eight_bit || !chunk.is_ascii();
        self.scan(chunk);
    }

    /// The verdict over all octets taken.
    pub fn finish(mut self) -> Checked {
        if self.size == 0 {
            self.note(ObjectFault::Empty);
        } else if self.after_cr {
            self.note(ObjectFault::BareLineEnd { line: self.lines + 1 });
        } else if self.line_length > 0 {
            self.note(ObjectFault::NoFinalLineEnd);
        }
        Checked {
            xuid: self.hasher.finish(),
            size: self.size,
            eight_bit: self.eight_bit,
            received_fields: self.received_fields,
            tls_optional: (self.tls_fields, self.tls_optional) == (1, true),
            verdict: self.fault.map_or(Ok(()), Err),
        }
    }

    fn scan(&mut self, chunk: &[u8]) {
        let mut from = 0;
        for at in memchr3_iter(b'\r', b'\n', 0, chunk) {
            self.text(&chunk[from..at]);
            match chunk[at] {
                b'\n' => self.line_feed(),
                b'\r' => self.carriage_return(),
                _ => {
                    self.text(&chunk[at..=at]);
                    self.note(ObjectFault::Nul { line: self.lines + 1 });
                }
            }
            from = at + 1;
        }
        self.text(&chunk[from..]);
    }

    fn text(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.bare_cr_if_pending();
        if !self.in_body && self.line_start.len() < LINE_START {
            let wanted = (LINE_START - self.line_start.len()).min(text.len());
            self.line_start.extend(text[..wanted].iter().map(u8::to_ascii_lowercase));
        }
        self.line_length += text.len() as u64;
        if self.line_length > MAX_LINE {
            self.note(ObjectFault::LongLine { line: self.lines + 1 });
        }
    }

    fn carriage_return(&mut self) {
        self.bare_cr_if_pending();
        self.after_cr = true;
    }

    fn line_feed(&mut self) {
        if !self.after_cr {
            self.note(ObjectFault::BareLineEnd { line: self.lines + 1 });
        }
        if !self.in_body {
            self.in_body = self.line_length == 0;
            self.received_fields += u32::from(value_of(&self.line_start, RECEIVED).is_some());
            if let Some(value) = value_of(&self.line_start, TLS_REQUIRED) {
                self.tls_fields += 1;
                // Blanks around it may be many; who writes so many is not understood.
                self.tls_optional = value.trim_ascii() == b"no" && self.line_length <= LINE_START as u64;
            }
            self.line_start.clear();
        }
        self.after_cr = false;
        self.lines += 1;
        self.line_length = 0;
    }

    fn bare_cr_if_pending(&mut self) {
        if std::mem::take(&mut self.after_cr) {
            self.note(ObjectFault::BareLineEnd { line: self.lines + 1 });
        }
    }

    fn note(&mut self, fault: ObjectFault) {
        self.fault.get_or_insert(fault);
    }
}

/// What stands behind the colon of a line that begins with this field name. Blanks before the colon are obsolete, and still mean
/// the field (RFC 5322 §4.5.8): a loop of servers that write so is a loop.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(name)?.trim_ascii_start().strip_prefix(b":")
}

/// RFC 5322 §3.6.8 `ftext`.
fn begins_field_name(octet: u8) -> bool {
    matches!(octet, 33..=57 | 59..=126)
}

/// Turns LF line ends into CRLF and adds the final one: for local files and standard input, where LF is
/// the custom. Never for what arrives by SMTP.
#[derive(Debug, Clone, Default)]
pub struct Normaliser {
    last: Option<u8>,
}

impl Normaliser {
    /// Appends the normal form of the next octets to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut rest = chunk;
        while let Some(at) = memchr(b'\n', rest) {
            let before = if at == 0 { self.last } else { Some(rest[at - 1]) };
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(if before == Some(b'\r') { b"\n" } else { b"\r\n" });
            self.last = Some(b'\n');
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
        self.last = rest.last().copied().or(self.last);
    }

    /// Appends the final CRLF where it is missing.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self.last {
            None | Some(b'\n') => {}
            Some(b'\r') => out.push(b'\n'),
            Some(_) => out.extend_from_slice(b"\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(content: &[u8]) -> Checked {
        let mut checker = Checker::default();
        checker.update(content);
        checker.finish()
    }

    #[test]
    fn every_rule_has_its_fault() {
        let long = [b"A: ", vec![b'x'; 996].as_slice(), b"\r\n"].concat();
        let longest = [b"A: ", vec![b'x'; 995].as_slice(), b"\r\n"].concat();
        for (content, verdict) in [
            (b"A: b\r\n".as_slice(), Ok(())),
            (b"A: b\r\n\r\n.\r\n", Ok(())),
            (&longest, Ok(())),
            (b"", Err(ObjectFault::Empty)),
            (b" A: b\r\n", Err(ObjectFault::NoHeader)),
            (b":\r\n", Err(ObjectFault::NoHeader)),
            (b"\r\n", Err(ObjectFault::NoHeader)),
            (b"A: b\r\nc\nd\r\n", Err(ObjectFault::BareLineEnd { line: 2 })),
            (b"A: b\rc\r\n", Err(ObjectFault::BareLineEnd { line: 1 })),
            (b"A: b\r\r\n", Err(ObjectFault::BareLineEnd { line: 1 })),
            (b"A: b\r", Err(ObjectFault::BareLineEnd { line: 1 })),
            (b"A: b\0\r\n", Err(ObjectFault::Nul { line: 1 })),
            (b"A: b", Err(ObjectFault::NoFinalLineEnd)),
            (&long, Err(ObjectFault::LongLine { line: 1 })),
        ] {
            assert_eq!(check(content).verdict, verdict, "{:?}", String::from_utf8_lossy(content));
        }
    }

    #[test]
    fn received_fields_of_the_header_are_counted() {
        let content = b"Received: a\r\n b\r\nRECEIVED: c\r\nReceived-SPF: d\r\n\r\nReceived: no\r\n";
        assert_eq!(check(content).received_fields, 2);
        let obsolete = b"Received : a\r\nRECEIVED\t : b\r\nReceived by : c\r\n Received : d\r\n\r\n";
        assert_eq!(check(obsolete).received_fields, 2, "RFC 5322 4.5.8");
    }

    #[test]
    fn local_files_become_objects() {
        for (file, object) in [
            ("A: b\n\nc", "A: b\r\n\r\nc\r\n"),
            ("A: b\r\n\r\nc\r\n", "A: b\r\n\r\nc\r\n"),
            ("A: b\n\r\nc\r", "A: b\r\n\r\nc\r\n"),
            ("", ""),
        ] {
            let (mut normaliser, mut out) = (Normaliser::default(), Vec::new());
            for octet in file.as_bytes() {
                normaliser.push(&[*octet], &mut out);
            }
            normaliser.finish(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), object);
        }
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: &[&str] = &["\r", "\n", "\r\n", "A", ": ", "\0", "é", "Received:", "received"];
        proptest::collection::vec(prop::sample::select(PIECES), 0..60).prop_map(|p| p.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(content in content(), cut in 0usize..200) {
            let cut = cut.min(content.len());
            let mut checker = Checker::default();
            checker.update(&content[..cut]);
            checker.update(&content[cut..]);
            prop_assert_eq!(checker.finish(), check(&content));
        }
    }

    /// RFC 8689 §5.
    #[test]
    fn tls_is_optional_only_where_one_field_says_no() {
        let optional = |text: &str| {
            let whole = {
                let mut checker = Checker::default();
                checker.update(text.as_bytes());
                checker.finish().tls_optional
            };
            let mut checker = Checker::default();
            text.as_bytes().chunks(1).for_each(|octet| checker.update(octet));
            assert_eq!(checker.finish().tls_optional, whole, "{text}");
            whole
        };
        for yes in [
            "A: b\r\nTLS-Required: No\r\n\r\n",
            "tls-required:no\r\nA: b\r\n\r\nx\r\n",
            "TLS-REQUIRED:  NO \r\n\r\n",
            "TLS-Required : No\r\n\r\n",
        ] {
            assert!(optional(yes), "{yes}");
        }
        for no in [
            "A: b\r\n\r\nTLS-Required: No\r\n",
            "TLS-Required: Yes\r\n\r\n",
            "TLS-Required: No\r\nTLS-Required : Yes\r\n\r\n",
            "TLS-Required: Nope\r\n\r\n",
            "TLS-Required:\r\n\r\n",
            "TLS-Required: No                    x\r\n\r\n",
            "X-TLS-Required: No\r\n\r\n",
            "A: b\r\n TLS-Required: No\r\n\r\n",
            "TLS-Required: No\r\nTLS-Required: No\r\n\r\n",
            "TLS-Required: No\r\nTLS-Required: Yes\r\n\r\n",
        ] {
            assert!(!optional(no), "{no}");
        }
    }
}
