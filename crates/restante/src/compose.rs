//! What a submission program does to a message's header (RFC 6409 §8): recipients out of To, Cc and Bcc, Bcc removed,
//! missing Date, Message-ID and From added, obsolete blanks before colons taken out. Pure; everything else in the message stays as it is.

use mail::{Address, Timestamp, base64url};
use mail_parser::{HeaderName, HeaderValue, MessageParser};

/// What is added where it is missing.
#[derive(Debug, Clone)]
pub struct Additions {
    /// Value of Date.
    pub date: String,
    /// Value of Message-ID, angle brackets included.
    pub message_id: String,
    /// Value of From.
    pub from: String,
}

/// A header ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// Ends before the blank line; lines end in CRLF.
    pub header: Vec<u8>,
    /// Octets of the head that belong to the header; what follows is the body, the blank line included if there is one.
    pub taken: usize,
    /// A blank line must be put between header and body.
    pub needs_blank: bool,
    /// Addresses in To, Cc and Bcc, as written.
    pub recipients: Vec<String>,
}

impl Composed {
    /// What takes the place of the head that it was made from.
    pub fn assemble(&self, head: &[u8]) -> Vec<u8> {
        let mut all = self.header.clone();
        if self.needs_blank {
            all.extend_from_slice(b"\r\n");
        }
        all.extend_from_slice(&head[self.taken..]);
        all
    }
}

/// A field of a header, line end included.
struct Field<'a> {
    name: &'a str,
    octets: &'a [u8],
}

/// Does this head hold the whole header? True at the first line that is no field, or that is blank.
pub fn is_complete(head: &[u8]) -> bool {
    let (_, rest) = split(head);
    // A line that is whole and no field, or a beginning that can become none.
    rest.contains(&b'\n') && !rest.is_empty()
}

/// Completes the header of a message whose beginning is `head`, lines ending in CRLF.
pub fn compose(head: &[u8], read_recipients: bool, additions: &Additions) -> Composed {
    let (fields, rest) = split(head);
    let mut header = Vec::with_capacity(head.len() + 256);
    let has = |name: &str| fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
    let Additions { date, message_id, from } = additions;
    for (name, value) in [("From", from), ("Date", date), ("Message-ID", message_id)] {
        if !has(name) {
            header.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    for field in &fields {
        if !(read_recipients && field.name.eq_ignore_ascii_case("Bcc")) {
            header.extend_from_slice(field.name.as_bytes());
            // Blanks before the colon must be understood, and must not be sent (RFC 5322 §4.5.8): what signs and what
            // verifies would not take the field for the same.
            header.extend_from_slice(field.octets[field.name.len()..].trim_ascii_start());
        }
    }
    let taken = head.len() - rest.len();
    let recipients = if read_recipients { recipients(&head[..taken]) } else { Vec::new() };
    Composed { header, taken, needs_blank: !rest.starts_with(b"\r\n"), recipients }
}

/// The fields at the beginning, and the rest. A first line `From …` of a mailbox file is no field and dropped.
fn split(head: &[u8]) -> (Vec<Field<'_>>, &[u8]) {
    let mut fields: Vec<Field<'_>> = Vec::new();
    let mut at = mbox_line(head);
    while let Some(length) = head[at..].iter().position(|o| *o == b'\n').map(|end| end + 1) {
        let line = &head[at..at + length];
        match (field_name(line), fields.last_mut()) {
            (Some(name), _) => fields.push(Field { name, octets: line }),
            (None, Some(last)) if line.starts_with(b" ") || line.starts_with(b"\t") => {
                let start = at - last.octets.len();
                last.octets = &head[start..at + length];
            }
            _ => break,
        }
        at += length;
    }
    (fields, &head[at..])
}

fn mbox_line(head: &[u8]) -> usize {
    let length = head.iter().position(|o| *o == b'\n').map_or(0, |end| end + 1);
    if head.starts_with(b"From ") { length } else { 0 }
}

/// RFC 5322 §3.6.8: printable, no colon; blanks before the colon are obsolete and let pass.
fn field_name(line: &[u8]) -> Option<&str> {
    let colon = line.iter().position(|o| *o == b':')?;
    let name = line[..colon].trim_ascii_end();
    let fine = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(name).ok().filter(|_| fine)
}

/// The authors: every address in From; `None` where there is no such field.
///
/// # Errors
/// Says what is wrong: two such fields, or one that is not a list of addresses. Programs read such headers differently.
pub fn authors(head: &[u8]) -> Result<Option<Vec<Address>>, &'static str> {
    const MALFORMED: &str = "the From field is not a list of addresses";
    let (fields, _) = split(head);
    let mut from = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("From"));
    let Some(field) = from.next() else { return Ok(None) };
    if from.next().is_some() {
        return Err("there are two From fields");
    }
    let message = MessageParser::default().parse_headers(field.octets).ok_or(MALFORMED)?;
    let header = message.headers().first().ok_or(MALFORMED)?;
    let HeaderValue::Address(list) = &header.value else { return Err(MALFORMED) };
    let parse = |address: &mail_parser::Addr<'_>| address.address.as_deref().and_then(|text| text.parse().ok());
    let authors: Option<Vec<Address>> = list.iter().map(parse).collect();
    authors.filter(|authors| !authors.is_empty()).map(Some).ok_or(MALFORMED)
}

/// A new Message-ID, angle brackets included (RFC 5322 §3.6.4).
pub fn message_id(now: Timestamp, random: [u8; 12], domain: &str) -> String {
    format!("<{}.{}@{domain}>", now.as_millis(), base64url::encode(&random))
}

fn recipients(header: &[u8]) -> Vec<String> {
    let Some(message) = MessageParser::default().parse_headers(header) else { return Vec::new() };
    let wanted = |name: &HeaderName<'_>| matches!(name, HeaderName::To | HeaderName::Cc | HeaderName::Bcc);
    let lists =
        message.headers().iter().filter(|header| wanted(&header.name)).filter_map(|header| match &header.value {
            HeaderValue::Address(list) => Some(list),
            _ => None,
        });
    // A bare name, as in `To: root`, is taken for a name without an address.
    let bare = |name: &&str| !name.is_empty() && !name.contains(char::is_whitespace);
    let addresses = lists.flat_map(mail_parser::Address::iter);
    let addresses = addresses.filter_map(|a| a.address.as_deref().or(a.name.as_deref().filter(bare)));
    let mut found: Vec<String> = Vec::new();
    for address in addresses {
        if !found.iter().any(|known| known == address) {
            found.push(address.to_owned());
        }
    }
    found
}

/// The value of a From field: `"Alice" <alice@a.example>`.
pub fn from_value(full_name: Option<&str>, address: Option<&Address>) -> String {
    let address = address.map_or_else(|| "MAILER-DAEMON".to_owned(), Address::to_string);
    match full_name.map(|name| name.replace(['\r', '\n', '\0'], " ")) {
        Some(name) if !name.trim().is_empty() => {
            format!("\"{}\" <{address}>", name.trim().replace('\\', "\\\\").replace('"', "\\\""))
        }
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn additions() -> Additions {
        Additions { date: "D".into(), message_id: "<m>".into(), from: "f@a.example".into() }
    }

    fn composed(head: &str, read: bool) -> (String, String, Composed) {
        let composed = compose(head.as_bytes(), read, &additions());
        let rest = head[composed.taken..].to_owned();
        (String::from_utf8(composed.header.clone()).unwrap(), rest, composed)
    }

    #[test]
    fn a_complete_header_stays_as_it_is() {
        let head =
            "From: x@a.example\r\nDATE: D\r\nMessage-Id: <1>\r\nSubject: a\r\n b\r\nBcc: y@a.example\r\n\r\nbody";
        let (header, rest, composed) = composed(head, false);
        assert_eq!(header + &rest, head);
        assert!(!composed.needs_blank && composed.recipients.is_empty());
    }

    #[test]
    fn what_is_missing_is_added_on_top() {
        let (header, rest, composed) = composed("Subject: a\r\n\r\nbody", false);
        assert_eq!(header, "From: f@a.example\r\nDate: D\r\nMessage-ID: <m>\r\nSubject: a\r\n");
        assert_eq!((rest.as_str(), composed.needs_blank), ("\r\nbody", false));
    }

    #[test]
    fn text_without_a_header_gets_one() {
        for text in ["hello there\r\nSubject: no\r\n", "\r\nhello", ""] {
            let (header, rest, composed) = composed(text, false);
            assert!(header.ends_with("Message-ID: <m>\r\n"), "{header}");
            assert_eq!((rest.as_str(), composed.needs_blank), (text, !text.starts_with("\r\n")));
        }
    }

    #[test]
    fn recipients_are_read_and_bcc_is_removed() {
        let head = "From nobody Thu Jan 1\r\nTo: Bob <bob@b.example>,\r\n \"C, D\" <c@c.example>\r\ncc: bob@b.example, root\r\n\
                    Bcc: secret@d.example,\r\n\tmore@d.example\r\nSubject: x\r\n\r\n";
        let (header, _, composed) = composed(head, true);
        assert_eq!(composed.recipients, ["bob@b.example", "c@c.example", "root", "secret@d.example", "more@d.example"]);
        assert!(!header.contains("d.example") && header.contains("Subject: x"), "{header}");
        assert!(!header.contains("nobody"), "{header}");
    }

    #[test]
    fn obsolete_blanks_before_a_colon_are_understood_and_not_sent() {
        let head = "Subject : x\r\nTo \t:bob@b.example\r\nBcc : secret@d.example\r\nDate : D :\r\n : folded\r\n\r\nbody : x\r\n";
        let (header, rest, composed) = composed(head, true);
        let kept = "Subject: x\r\nTo:bob@b.example\r\nDate: D :\r\n : folded\r\n";
        assert_eq!(header, format!("From: f@a.example\r\nMessage-ID: <m>\r\n{kept}"));
        assert_eq!((rest.as_str(), composed.recipients.len()), ("\r\nbody : x\r\n", 2));
    }

    #[test]
    fn the_end_of_the_header_is_seen_as_soon_as_it_is_there() {
        for (head, complete) in [
            ("", false),
            ("Subject: x\r\n", false),
            ("Subject: x\r\n\r", false),
            ("Subject: x\r\n\r\n", true),
            ("hello", false),
            ("hello\r\n", true),
            ("A: b\r\n hello\r\n", false),
        ] {
            assert_eq!(is_complete(head.as_bytes()), complete, "{head:?}");
        }
    }

    #[test]
    fn authors_are_read_where_all_programs_read_the_same() {
        let found = |head: &str| {
            authors(head.as_bytes()).map(|a| a.map(|a| a.iter().map(Address::to_string).collect::<Vec<_>>()))
        };
        assert_eq!(found("Subject: x\r\n\r\nFrom: a@a.example\r\n"), Ok(None));
        assert_eq!(found("from : \"A, B\" (c)\r\n <A@A.example>\r\n\r\n"), Ok(Some(vec!["A@a.example".into()])));
        let two = Ok(Some(vec!["a@a.example".into(), "b@b.example".into()]));
        assert_eq!(found("From: a@a.example, B <b@b.example>\r\n\r\n"), two);
        for bad in
            ["From:\r\n", "From: alice\r\n", "From: a@a.example, bob\r\n", "From: a@a.example\r\nFROM: b@b.example\r\n"]
        {
            assert!(found(bad).is_err(), "{bad}: {:?}", found(bad));
        }
    }

    #[test]
    fn names_cannot_break_out_of_from() {
        let alice = "alice@a.example".parse().unwrap();
        assert_eq!(from_value(Some("A \"B\"\r\nX: y"), Some(&alice)), "\"A \\\"B\\\"  X: y\" <alice@a.example>");
        assert_eq!(from_value(None, Some(&alice)), "alice@a.example");
        assert_eq!(from_value(Some(" "), None), "MAILER-DAEMON");
    }
}
