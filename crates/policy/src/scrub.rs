//! Takes older results in this server's name out of what arrives (RFC 8601 §5): whoever sends a message could have written
//! them.
//!
//! A filter for content that streams past, in constant memory. The field is renamed, so that nothing is lost. Below a
//! TBR-Reference stands an object, which is changed by nobody: there only the topmost field of this server counts, which is
//! its own.

use mail::Domain;

use crate::results::FIELD;

/// What the field is called afterwards.
const RENAMED: &str = "X-Untrusted-";
/// Ends the part that may be changed.
const REFERENCE: &[u8] = b"tbr-reference:";
/// Longest beginning of a field that is looked at before it is taken for ours, in octets.
const MAX_HELD: usize = 2048;

/// The filter.
#[derive(Debug, Clone)]
pub struct Scrubber {
    authserv: String,
    state: State,
    renamed: u32,
}

#[derive(Debug, Clone)]
enum State {
    /// At the beginning of a line of the header; so much of it, and of the lines that continue it, is held back.
    Begin(Vec<u8>),
    /// Within a line that needs no more attention.
    Line,
    /// Below the part that may be changed.
    Below,
}

/// What can be said of the beginning of a line.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Unsure,
    Ours,
    Other,
    /// The field ended before its last octet, which begins the next one.
    Ended,
    Below,
}

impl Scrubber {
    /// For results in this name.
    pub fn new(authserv: &Domain) -> Self {
        Self { authserv: authserv.to_string(), state: State::Begin(Vec::new()), renamed: 0 }
    }

    /// How many fields were renamed.
    pub fn renamed(&self) -> u32 {
        self.renamed
    }

    /// Has everything that may be changed gone by? What comes then may go on without the filter.
    pub fn has_passed(&self) -> bool {
        matches!(self.state, State::Below)
    }

    /// Appends what may go on to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut rest = chunk;
        while !rest.is_empty() {
            match &mut self.state {
                State::Below => return out.extend_from_slice(rest),
                State::Line => {
                    let end = rest.iter().position(|octet| *octet == b'\n').map(|at| at + 1);
                    let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
                    out.extend_from_slice(line);
                    rest = after;
                    if end.is_some() {
                        self.state = State::Begin(Vec::new());
                    }
                }
                State::Begin(held) => {
                    held.push(rest[0]);
                    rest = &rest[1..];
                    self.look(out);
                }
            }
        }
    }

    /// The content has ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let State::Begin(held) = &mut self.state {
            let held = std::mem::take(held);
            // The name alone was read so far, or the identifier was not complete: then the field ends with it.
            let is_ours = judge(&held, &self.authserv, true) == Look::Ours;
            self.release(&held, is_ours, out);
        }
    }

    fn look(&mut self, out: &mut Vec<u8>) {
        let State::Begin(held) = &mut self.state else { return };
        let look = match judge(held, &self.authserv, false) {
            Look::Unsure if held.len() >= MAX_HELD => Look::Ours,
            Look::Unsure => return,
            Look::Ended => return self.begin_again(out),
            look => look,
        };
        let held = std::mem::take(held);
        self.release(&held, look == Look::Ours, out);
        let ends_line = held.ends_with(b"\n");
        self.state = match look {
            Look::Below => State::Below,
            _ if ends_line => State::Begin(Vec::new()),
            _ => State::Line,
        };
    }

    /// Lets a field go whose end has been seen in the first octet of the next.
    fn begin_again(&mut self, out: &mut Vec<u8>) {
        let State::Begin(held) = &mut self.state else { return };
        let next = held.pop();
        let held = std::mem::take(held);
        self.release(&held, false, out);
        self.state = State::Begin(next.into_iter().collect());
        self.look(out);
    }

    fn release(&mut self, held: &[u8], is_ours: bool, out: &mut Vec<u8>) {
        if is_ours {
            self.renamed += 1;
            out.extend_from_slice(RENAMED.as_bytes());
        }
        out.extend_from_slice(held);
    }
}

/// Looks at the beginning of a line; `is_all`: nothing comes after it.
fn judge(held: &[u8], authserv: &str, is_all: bool) -> Look {
    if matches!(held, b"\r\n" | b"\n") {
        return Look::Below;
    }
    if held == b"\r" && !is_all {
        return Look::Unsure;
    }
    match (begins(held, REFERENCE), begins(held, FIELD.as_bytes())) {
        (Some(true), _) => Look::Below,
        (_, Some(true)) => identifier(&held[FIELD.len()..], authserv, is_all),
        (None, _) | (_, None) if !is_all => Look::Unsure,
        _ => Look::Other,
    }
}

/// Does it begin so, in any case? Nothing: it is too short to tell.
fn begins(held: &[u8], name: &[u8]) -> Option<bool> {
    let length = held.len().min(name.len());
    if !held[..length].eq_ignore_ascii_case(&name[..length]) {
        return Some(false);
    }
    (held.len() >= name.len()).then_some(true)
}

/// What stands behind the name of the field: `*WSP ":" [CFWS] authserv-id`, then anything.
fn identifier(after_name: &[u8], authserv: &str, is_all: bool) -> Look {
    let unfinished = if is_all { Look::Other } else { Look::Unsure };
    let mut at = after_name.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
    match after_name.get(at) {
        None => return unfinished,
        Some(b':') => at += 1,
        Some(_) => return Look::Other,
    }
    let value = &after_name[at..];
    let Some(start) = skip_space(value) else { return unfinished };
    if value[..start].ends_with(b"\n") {
        return Look::Ended;
    }
    let word = &value[start..];
    let (found, is_complete) = match word.first() {
        None => return unfinished,
        Some(b'"') => quoted(&word[1..]),
        Some(_) => token(word),
    };
    if !is_complete && !is_all {
        return Look::Unsure;
    }
    if found.trim_end_matches('.').eq_ignore_ascii_case(authserv) { Look::Ours } else { Look::Other }
}

/// Skips spaces, folds and comments; nothing where they do not end here. A line that is no continuation ends them.
fn skip_space(value: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        let octet = value.get(at)?;
        if value[..at].ends_with(b"\n") && !matches!(octet, b' ' | b'\t') {
            return Some(at);
        }
        match octet {
            b'\\' if depth > 0 => at += 1,
            b'(' => depth += 1,
            b')' if depth > 0 => depth -= 1,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if depth > 0 => {}
            _ => return Some(at),
        }
        at += 1;
    }
}

/// The text of a quoted string, and whether it ends here.
fn quoted(text: &[u8]) -> (String, bool) {
    let (mut found, mut octets) = (String::new(), text.iter());
    while let Some(octet) = octets.next() {
        match octet {
            b'"' | b'\n' => return (found, true),
            b'\\' => found.extend(octets.next().copied().map(char::from)),
            octet => found.push(char::from(*octet)),
        }
    }
    (found, false)
}

/// A word up to what cannot stand in one, and whether that was seen.
fn token(text: &[u8]) -> (String, bool) {
    let end = text.iter().position(|octet| matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b'/'));
    let word = &text[..end.unwrap_or(text.len())];
    (word.iter().copied().map(char::from).collect(), end.is_some())
}

/// Fields that decide what stands below them, or that only final delivery may write.
const NOT_TRACE: [&str; 3] = ["tbr-reference", "tbr-hop", "return-path"];

/// Trace fields of another server as they may stand above a message: whole header fields, results in our name renamed.
/// `None` where the text is anything else.
pub fn trace_above(text: &str, authserv: &Domain) -> Option<String> {
    let (mut rest, mut is_first) = (text, true);
    while !rest.is_empty() {
        let (line, after) = rest.split_once("\r\n")?;
        let is_folded = line.starts_with([' ', '\t']) && !line.trim().is_empty() && !is_first;
        let is_plain = line.len() <= 998 && !line.contains(['\r', '\n', '\0']);
        if !is_plain || !(is_folded || is_trace_field(line)) {
            return None;
        }
        (rest, is_first) = (after, false);
    }
    let (mut scrubber, mut out) = (Scrubber::new(authserv), Vec::with_capacity(text.len() + 64));
    scrubber.push(text.as_bytes(), &mut out);
    scrubber.finish(&mut out);
    String::from_utf8(out).ok()
}

fn is_trace_field(line: &str) -> bool {
    let Some((name, _)) = line.split_once(':') else { return false };
    let is_name = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic());
    is_name && !NOT_TRACE.iter().any(|other| name.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scrub(content: &str, chunk: usize) -> (String, u32) {
        let mut scrubber = Scrubber::new(&"mx.b.example".parse().unwrap());
        let mut out = Vec::new();
        content.as_bytes().chunks(chunk).for_each(|part| scrubber.push(part, &mut out));
        scrubber.finish(&mut out);
        (String::from_utf8(out).unwrap(), scrubber.renamed())
    }

    #[test]
    fn results_in_our_name_are_renamed() {
        for field in [
            "Authentication-Results: mx.b.example; spf=pass",
            "authentication-RESULTS : MX.b.example; spf=pass",
            "Authentication-Results:mx.b.example",
            "Authentication-Results: (a (b\\)) c) mx.b.example 1; spf=pass",
            "Authentication-Results:\r\n\tmx.b.example;\r\n\tspf=pass",
            "Authentication-Results: \"mx.b.exa\\mple\"; spf=pass",
            "Authentication-Results: mx.b.example.; spf=pass",
            "Authentication-Results: mx.b.example/1; spf=pass",
            "Authentication-Results: mx.b.example(x); spf=pass",
            "Authentication-Results:\r\nAuthentication-Results: mx.b.example; spf=pass",
            "Authentication-Results: (\r\nAuthentication-Results: mx.b.example; spf=pass",
        ] {
            let content = format!("From: a\r\n{field}\r\nTo: b\r\n\r\nbody\r\n");
            let (before, ours) = field
                .rsplit_once("Auth")
                .or(field.rsplit_once("auth"))
                .map_or(("", field), |(b, _)| field.split_at(b.len()));
            let expected = format!("From: a\r\n{before}X-Untrusted-{ours}\r\nTo: b\r\n\r\nbody\r\n");
            for chunk in [1, 7, 4096] {
                assert_eq!(scrub(&content, chunk), (expected.clone(), 1), "{field}");
            }
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for content in [
            "Authentication-Results: mx.c.example; spf=pass\r\n\r\n",
            "Authentication-Results-X: mx.b.example\r\n\r\n",
            "Subject: x\r\n Authentication-Results: mx.b.example\r\n\r\n",
            "Subject: x\r\n\r\nAuthentication-Results: mx.b.example\r\n",
            "TBR-Reference: v=1\r\nAuthentication-Results: mx.b.example\r\n\r\n",
            "Authentication-Results:\r\n\r\nmx.b.example\r\n",
            "Authentication-Results:\r\n\r\nAuthentication-Results: mx.b.example\r\n",
            "Authentication-Results: (\nSubject: mx.b.example\r\n\r\n",
            "Authentication-Results",
            "\r",
            "",
        ] {
            for chunk in [1, 5, 4096] {
                assert_eq!(scrub(content, chunk), (content.to_owned(), 0), "{content:?}");
            }
        }
    }

    #[test]
    fn nothing_hides_below_what_is_no_reference() {
        let content = "TBR-Reference : v=1\r\nAuthentication-Results : mx.b.example; tbr=pass\r\n\r\n";
        let expected = content.replace("Authentication", "X-Untrusted-Authentication");
        assert_eq!(scrub(content, 3), (expected, 1));
    }

    #[test]
    fn a_beginning_without_end_is_not_trusted() {
        let content = format!("Authentication-Results: ({}) mx.b.example; spf=pass\r\n\r\n", "x".repeat(10_000));
        assert_eq!(scrub(&content, 100), (format!("X-Untrusted-{content}"), 1));
        assert_eq!(scrub("Authentication-Results: mx.b.example", 3).1, 1);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_chunks_do_not_matter(
            parts in proptest::collection::vec(prop::sample::select(&[
                "Authentication-Results", ":", " ", "\r\n", "\n", "(", ")", "\"", "\\", ";", "mx.b.example", "a", "\t", "TBR-Reference:",
            ][..]), 0..40),
            chunk in 1usize..20,
        ) {
            let content = parts.concat();
            let (out, renamed) = scrub(&content, chunk);
            prop_assert_eq!(&out, &scrub(&content, 4096).0);
            prop_assert_eq!(out.len(), content.len() + renamed as usize * RENAMED.len());
        }
    }

    #[test]
    fn only_whole_trace_fields_stand_above_a_message() {
        let ours: Domain = "mx.b.example".parse().unwrap();
        let good = "Authentication-Results: mx.cust.example;\r\n\tspf=pass\r\nReceived: by mx.cust.example\r\n";
        assert_eq!(trace_above(good, &ours).as_deref(), Some(good));
        assert_eq!(trace_above("", &ours).as_deref(), Some(""));
        for bad in [
            "Received: x",
            "Received: x\r\n\r\n",
            "Received: x\r\nno field\r\n",
            "\tfolded\r\n",
            "Received: x\r\n \r\n",
            "Received: a\nb\r\n",
            "tbr-reference: v=1\r\n",
            "TBR-Reference : v=1\r\n",
            "TBR-Hop: v=1\r\n",
            "Return-Path: <>\r\n",
            "Return-Path\t: <>\r\n",
        ] {
            assert_eq!(trace_above(bad, &ours), None, "{bad:?}");
        }
        let forged = "Authentication-Results: mx.b.example; tbr=pass\r\n";
        let scrubbed = trace_above(forged, &ours).unwrap();
        assert!(!scrubbed.starts_with("Authentication-Results:"), "{scrubbed}");
    }
}
