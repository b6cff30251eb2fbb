//! Field folding and the codings of a report: quoted-printable (RFC 2045 §6.7), xtext (RFC 3461 §4) and the
//! 7-bit form of internationalised addresses (RFC 6533 §3).

/// Where lines are folded if they can be (RFC 5322 §2.1.1).
const FOLD_AT: usize = 76;

/// Appends a field, folded at its spaces. The value has no line ends and no word over 900 octets.
pub(super) fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push(':');
    let mut column = name.len() + 1;
    for word in value.trim().split(' ') {
        // Runs of spaces are kept: they may stand in a quoted local part. The first word stays beside the name where it fits on any line at all: some parsers want that.
        if column + 1 + word.len() > FOLD_AT && column > name.len() + 1 {
            out.push_str("\r\n");
            column = 0;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
    }
    out.push_str("\r\n");
}

/// One line of printable ASCII, single spaces, at most `limit` octets: for what peers say.
pub(super) fn printable(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for c in text.chars() {
        match c {
            '!'..='~' => line.push(c),
            _ if c.is_whitespace() || c.is_control() => {
                if !line.is_empty() && !line.ends_with(' ') {
                    line.push(' ');
                }
            }
            _ => line.push('?'),
        }
        if line.len() >= limit {
            break;
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// Decodes xtext (RFC 3461 §4) to printable ASCII; `None` for anything else.
pub(super) fn xtext_decode(xtext: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut rest = xtext;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let c = match c {
            '+' => {
                let code = rest.get(..2).filter(|hex| hex.bytes().all(|o| o.is_ascii_hexdigit()))?;
                rest = &rest[2..];
                char::from(u8::from_str_radix(code, 16).ok()?)
            }
            c => c,
        };
        if !matches!(c, ' '..='~') {
            return None;
        }
        decoded.push(c);
    }
    let trimmed = decoded.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// `utf-8-addr-xtext` (RFC 6533 §3), cut off where it would fit on no line.
pub(super) fn utf8_xtext(address: &str) -> String {
    let mut out = String::new();
    for c in address.chars() {
        if out.len() > 900 {
            break;
        }
        match c {
            '+' | '=' | '\\' => out.push_str(&format!("\\x{{{:02X}}}", u32::from(c))),
            '!'..='~' => out.push(c),
            c => out.push_str(&format!("\\x{{{:02X}}}", u32::from(c))),
        }
    }
    out
}

/// Quoted-printable of text: any octets become 7-bit lines of at most 76; line ends become CRLF, the last line has one.
pub(super) fn quoted_printable(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 8 + 2);
    for line in octets.split_inclusive(|o| *o == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        quote_line(line.strip_suffix(b"\r").unwrap_or(line), &mut out);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn quote_line(text: &[u8], out: &mut Vec<u8>) {
    let mut column = 0;
    for (at, octet) in text.iter().enumerate() {
        let literal = match octet {
            b' ' | b'\t' => at + 1 < text.len(),
            b'=' => false,
            octet => matches!(octet, b'!'..=b'~'),
        };
        let width = if literal { 1 } else { 3 };
        // One column is kept for the sign of a soft line break.
        if column + width > FOLD_AT - 1 {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        if literal {
            out.push(*octet);
        } else {
            out.extend_from_slice(format!("={octet:02X}").as_bytes());
        }
        column += width;
    }
}
