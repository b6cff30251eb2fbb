//! 8-bit MIME content made 7-bit, for a peer without 8BITMIME (RFC 6152 §3, RFC 2045 §6): text becomes quoted-printable,
//! everything else base64; what is 7-bit already stays as it is, octet by octet.
//!
//! A stream: lines with CR LF come in as chunks, lines with CR LF go out. Only the header of the part at hand is held. The result
//! is another message than the one that came, which is for the caller to say.

/// Longest header of a part, in octets.
pub const MAX_HEADER: usize = 256 * 1024;
/// Deepest nesting of multiparts and messages.
pub const MAX_DEPTH: usize = 32;

/// Why content cannot be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotConvert {
    /// Octets over 127 in a header, or between parts: no encoding covers them.
    #[error("a header field, or text between parts, has octets over 127")]
    Header,
    /// Over [`MAX_HEADER`] or [`MAX_DEPTH`].
    #[error("a part's header is too long, or parts are nested too deep")]
    TooMuch,
    /// 8-bit content within multipart/signed or multipart/encrypted: the signature would be broken.
    #[error("8-bit content is part of what was signed")]
    Signed,
    /// 8-bit octets under an encoding that has none.
    #[error("a part has octets over 127 under an encoding without them")]
    Mislabelled,
}

/// Converts a message. Give it all of it, then [`SevenBit::finish`].
#[derive(Debug)]
pub struct SevenBit {
    line: Vec<u8>,
    header: Vec<u8>,
    state: State,
    /// Enclosing multiparts, the outermost first.
    parts: Vec<Multipart>,
    depth: usize,
    top: bool,
}

#[derive(Debug)]
struct Multipart {
    boundary: Vec<u8>,
    sealed: bool,
}

#[derive(Debug)]
enum State {
    Header,
    /// Passed on; octets over 127 are this error.
    Plain(CannotConvert),
    Quoted,
    /// Octets that do not fill a line yet; a line end belongs to the boundary if one follows.
    Base64 {
        pending: Vec<u8>,
        line_end: bool,
    },
}

impl Default for SevenBit {
    fn default() -> Self {
        Self { line: Vec::new(), header: Vec::new(), state: State::Header, parts: Vec::new(), depth: 0, top: true }
    }
}

impl SevenBit {
    /// Takes more content; what can go out is added to `out`.
    ///
    /// # Errors
    /// [`CannotConvert`]: throw away what came out.
    pub fn update(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        while let Some(end) = chunk.iter().position(|octet| *octet == b'\n') {
            let (head, rest) = chunk.split_at(end + 1);
            self.line.extend_from_slice(head);
            chunk = rest;
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, out)?;
        }
        self.line.extend_from_slice(chunk);
        if self.line.len() > MAX_HEADER { Err(CannotConvert::TooMuch) } else { Ok(()) }
    }

    /// The content has ended.
    ///
    /// # Errors
    /// [`CannotConvert`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line, out)?;
        }
        if matches!(self.state, State::Header) {
            self.end_header(out, b"")?;
        }
        self.end_part(out, true);
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), CannotConvert> {
        let content = line.strip_suffix(b"\r\n").unwrap_or(line);
        if let Some((level, closes)) = self.boundary(content) {
            return self.take_boundary(level, closes, line, out);
        }
        match &mut self.state {
            State::Header if content.is_empty() => self.end_header(out, line),
            State::Header => {
                self.header.extend_from_slice(line);
                if self.header.len() > MAX_HEADER { Err(CannotConvert::TooMuch) } else { Ok(()) }
            }
            State::Plain(fault) => {
                if !line.is_ascii() {
                    return Err(*fault);
                }
                out.extend_from_slice(line);
                Ok(())
            }
            State::Quoted => {
                quote_line(content, out);
                Ok(())
            }
            State::Base64 { pending, line_end } => {
                if std::mem::replace(line_end, line.len() > content.len()) {
                    pending.extend_from_slice(b"\r\n");
                }
                pending.extend_from_slice(content);
                drain_base64(pending, out, false);
                Ok(())
            }
        }
    }

    /// Is this the boundary of an enclosing multipart (RFC 2046 §5.1.1)? Says which, and whether it is the last one.
    fn boundary(&self, content: &[u8]) -> Option<(usize, bool)> {
        let name = content.strip_prefix(b"--")?.trim_ascii_end();
        let is = |part: &Multipart| match name.strip_prefix(part.boundary.as_slice())? {
            b"" => Some(false),
            b"--" => Some(true),
            _ => None,
        };
        self.parts.iter().enumerate().rev().find_map(|(level, part)| Some((level, is(part)?)))
    }

    fn take_boundary(
        &mut self,
        level: usize,
        closes: bool,
        line: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CannotConvert> {
        if !line.is_ascii() {
            return Err(CannotConvert::Header);
        }
        if matches!(self.state, State::Header) {
            // A part that ends within its header.
            self.end_header(out, b"")?;
        }
        self.end_part(out, false);
        self.parts.truncate(if closes { level } else { level + 1 });
        self.depth = self.parts.len();
        out.extend_from_slice(line);
        self.state = if closes { State::Plain(CannotConvert::Header) } else { State::Header };
        Ok(())
    }

    /// Ends the encoding of the part at hand.
    fn end_part(&mut self, out: &mut Vec<u8>, at_end: bool) {
        if let State::Base64 { pending, line_end } = &mut self.state {
            if at_end && *line_end {
                pending.extend_from_slice(b"\r\n");
            }
            drain_base64(pending, out, true);
        }
    }

    /// The header of a part is complete: decides on its body, and writes the header as it then is.
    fn end_header(&mut self, out: &mut Vec<u8>, blank: &[u8]) -> Result<(), CannotConvert> {
        let header = std::mem::take(&mut self.header);
        if !header.is_ascii() {
            return Err(CannotConvert::Header);
        }
        let kind = field(&header, "content-type").map_or_else(|| "text/plain".to_owned(), |value| essence(&value));
        let encoding = field(&header, "content-transfer-encoding").map(|value| essence(&value));
        let top = std::mem::replace(&mut self.top, false);
        let sealed = self.parts.iter().any(|part| part.sealed);
        let may_be_8bit = encoding.as_deref().is_none_or(|encoding| encoding == "8bit" || encoding == "binary");
        let composite = kind.starts_with("multipart/") || kind == "message/rfc822" || kind == "message/global";
        let written = match kind.as_str() {
            _ if composite => (may_be_8bit && encoding.is_some()).then_some("7bit"),
            // What says nothing of an encoding means 7-bit: it is converted only where that is not so, at the top.
            _ if !may_be_8bit || (encoding.is_none() && !top) || sealed => None,
            kind if kind.starts_with("text/") => Some("quoted-printable"),
            _ => Some("base64"),
        };
        write_header(&header, written, top, out);
        out.extend_from_slice(if blank.is_empty() && written.is_some() { b"\r\n" } else { blank });
        self.state = match written {
            _ if kind == "message/rfc822" || kind == "message/global" => return self.enter(None, sealed),
            _ if kind.starts_with("multipart/") => {
                let boundary = field(&header, "content-type").and_then(|value| parameter(&value, "boundary"));
                let seals = kind == "multipart/signed" || kind == "multipart/encrypted";
                return self.enter(Some(boundary.unwrap_or_default()), sealed || seals);
            }
            Some("quoted-printable") => State::Quoted,
            Some(_) => State::Base64 { pending: Vec::new(), line_end: false },
            None if sealed => State::Plain(CannotConvert::Signed),
            None => State::Plain(CannotConvert::Mislabelled),
        };
        Ok(())
    }

    /// Goes into a multipart (which begins with text that nobody reads), or into a message (which begins with its header).
    fn enter(&mut self, boundary: Option<String>, sealed: bool) -> Result<(), CannotConvert> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(CannotConvert::TooMuch);
        }
        match boundary {
            Some(boundary) => {
                self.parts.push(Multipart { boundary: boundary.into_bytes(), sealed });
                self.state = State::Plain(CannotConvert::Header);
            }
            None => self.state = State::Header,
        }
        Ok(())
    }
}

/// Header fields without those of these names.
pub fn without_fields(header: &str, names: &[&str]) -> String {
    let kept = fields(header.as_bytes()).into_iter().filter(|field| !names.iter().any(|name| is_named(field, name)));
    kept.map(String::from_utf8_lossy).collect()
}

/// The fields of a header, each with its folded lines.
fn fields(header: &[u8]) -> Vec<&[u8]> {
    let (mut fields, mut start, mut at) = (Vec::new(), 0, 0);
    for line in header.split_inclusive(|octet| *octet == b'\n') {
        if at > start && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            fields.push(&header[start..at]);
            start = at;
        }
        at += line.len();
    }
    if at > start {
        fields.push(&header[start..at]);
    }
    fields
}

fn is_named(field: &[u8], name: &str) -> bool {
    let end = field.iter().position(|octet| *octet == b':');
    end.is_some_and(|end| field[..end].trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()))
}

/// The value of the first field of this name, unfolded.
fn field(header: &[u8], name: &str) -> Option<String> {
    let found = fields(header).into_iter().find(|field| is_named(field, name))?;
    let value = String::from_utf8_lossy(found).into_owned();
    Some(value.split_once(':')?.1.replace(['\r', '\n'], ""))
}

/// A value without its parameters and comments, lower case.
fn essence(value: &str) -> String {
    let plain = value.split([';', '(']).next().unwrap_or_default();
    plain.trim().to_ascii_lowercase()
}

fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once(';') {
        rest = after;
        let Some((found, text)) = rest.split_once('=') else { continue };
        if !found.trim().eq_ignore_ascii_case(name) {
            continue;
        }
        let text = text.trim_start();
        return match text.strip_prefix('"') {
            Some(quoted) => Some(unquote(quoted)),
            None => Some(text.split([';', ' ', '\t', '(']).next().unwrap_or_default().to_owned()),
        };
    }
    None
}

fn unquote(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => break,
            '\\' => plain.extend(characters.next()),
            c => plain.push(c),
        }
    }
    plain
}

/// Writes a header with another Content-Transfer-Encoding, if one is given; the message's own says that it is MIME.
fn write_header(header: &[u8], encoding: Option<&str>, top: bool, out: &mut Vec<u8>) {
    for field in fields(header) {
        if encoding.is_none() || !is_named(field, "content-transfer-encoding") {
            out.extend_from_slice(field);
        }
    }
    let Some(encoding) = encoding else { return };
    if top && field(header, "mime-version").is_none() {
        out.extend_from_slice(b"MIME-Version: 1.0\r\n");
        if field(header, "content-type").is_none() {
            out.extend_from_slice(b"Content-Type: text/plain; charset=unknown-8bit\r\n");
        }
    }
    out.extend_from_slice(format!("Content-Transfer-Encoding: {encoding}\r\n").as_bytes());
}

/// Quoted-printable (RFC 2045 §6.7): one line of text, in lines of at most 76.
fn quote_line(content: &[u8], out: &mut Vec<u8>) {
    let mut column = 0;
    for (place, octet) in content.iter().enumerate() {
        let last = place + 1 == content.len();
        // A dot, or "From ", at the beginning of a line would not survive everywhere.
        let risky = column == 0 && matches!(octet, b'.' | b'F');
        let plain = matches!(octet, b'!'..=b'<' | b'>'..=b'~') && !risky || (matches!(octet, b' ' | b'\t') && !last);
        let width = if plain { 1 } else { 3 };
        if column + width > 75 {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        match plain {
            true => out.push(*octet),
            false => out.extend_from_slice(format!("={octet:02X}").as_bytes()),
        }
        column += width;
    }
    out.extend_from_slice(b"\r\n");
}

/// Base64 in lines of 76 characters, 57 octets each.
fn drain_base64(pending: &mut Vec<u8>, out: &mut Vec<u8>, all: bool) {
    const LINE: usize = 57;
    let whole = pending.len() / LINE * LINE;
    let take = if all { pending.len() } else { whole };
    for line in pending[..take].chunks(LINE) {
        encode_base64(line, out);
        out.extend_from_slice(b"\r\n");
    }
    pending.drain(..take);
}

fn encode_base64(octets: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in octets.chunks(3) {
        let at = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place) & 63) as usize;
            out.push(if place > three.len() { b'=' } else { ALPHABET[index] });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(message: &str) -> Result<String, CannotConvert> {
        let mut whole = Vec::new();
        let mut converter = SevenBit::default();
        converter.update(message.as_bytes(), &mut whole)?;
        converter.finish(&mut whole)?;
        // However it is cut, the same comes out.
        for size in [1, 7] {
            let (mut parts, mut converter) = (Vec::new(), SevenBit::default());
            message.as_bytes().chunks(size).try_for_each(|chunk| converter.update(chunk, &mut parts))?;
            converter.finish(&mut parts)?;
            assert_eq!(parts, whole);
        }
        assert!(whole.is_ascii());
        Ok(String::from_utf8(whole).unwrap())
    }

    #[test]
    fn text_becomes_quoted_printable() {
        let message = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                       Content-Transfer-Encoding: 8bit\r\n\r\nGrüße = gut \r\n.\r\n";
        let expected = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                        Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe =3D gut=20\r\n=2E\r\n";
        assert_eq!(convert(message).as_deref(), Ok(expected));
        let long = convert(&message.replace("Gr", &"ü".repeat(200))).unwrap();
        assert!(long.lines().all(|line| line.len() <= 76), "{long}");
    }

    #[test]
    fn parts_are_converted_one_by_one() {
        let message = "Content-Type: multipart/mixed;\r\n boundary=\"b 1\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\npreamble\r\n\
                       --b 1\r\n\r\nplain\r\n\
                       --b 1\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: 8BIT (really)\r\n\r\nä\r\n\
                       --b 1\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\nÿÿ\r\n\r\n\
                       --b 1\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\nContent-Transfer-Encoding: 8bit\r\n\r\nö\r\n\
                       --b 1--\r\nepilogue\r\n";
        let converted = convert(message).unwrap();
        for piece in [
            "boundary=\"b 1\"\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 7bit\r\n\r\npreamble\r\n",
            "--b 1\r\n\r\nplain\r\n--b 1\r\n",
            "Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A4\r\n--b 1\r\n",
            // The octets and their first line end; the second one belongs to the boundary.
            "Content-Transfer-Encoding: base64\r\n\r\nw7/Dvw0K\r\n--b 1\r\n",
            "Subject: y\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=B6\r\n--b 1--\r\nepilogue\r\n",
        ] {
            assert!(converted.contains(piece), "{piece}\n----\n{converted}");
        }
    }

    #[test]
    fn what_says_nothing_of_mime_is_said_to_be_it() {
        let converted = convert("Subject: x\r\n\r\nä\r\n").unwrap();
        assert!(
            converted.contains("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"),
            "{converted}"
        );
    }

    #[test]
    fn seven_bit_parts_stay_as_they_are() {
        let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n/w==\r\n--b--\r\n";
        assert_eq!(convert(message).as_deref(), Ok(message));
    }

    #[test]
    fn fields_are_left_out_with_their_folds() {
        let header = "Received: x\r\n\ty\r\nTBR-Hop: v=1;\r\n n=1\r\nTBR-Reference: v=1\r\n";
        assert_eq!(without_fields(header, &["TBR-Hop", "tbr-reference"]), "Received: x\r\n\ty\r\n");
    }

    #[test]
    fn what_no_encoding_covers_is_refused() {
        assert_eq!(convert("Subject: ä\r\n\r\nx\r\n"), Err(CannotConvert::Header));
        let signed = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\nä\r\n--b--\r\n";
        assert_eq!(convert(signed), Err(CannotConvert::Signed));
        assert_eq!(convert("Content-Transfer-Encoding: 7bit\r\n\r\nä\r\n"), Err(CannotConvert::Mislabelled));
        let deep = (0..40)
            .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"))
            .collect::<String>();
        assert_eq!(convert(&deep), Err(CannotConvert::TooMuch));
    }
}
