//! Headers of what users and programs submit: completed, read for recipients and authors.

use bytes::Bytes;
use mail::Address;
use mail::object::Normaliser;
use mail_parser::{HeaderName, HeaderValue, MessageParser};
use restante::compose::{self, Additions};
use restante::receive::submission::{Head, Step, complete};

/// What is added where it is missing.
fn additions() -> Additions {
    let [date, message_id, from] =
        ["Fri, 27 Nov 2026 10:00:00 +0000", "<1@a.example>", "alice@a.example"].map(str::to_owned);
    Additions { date, message_id, from }
}

/// A message as `restante send` takes it: line ends become CR LF. What is completed once needs nothing more, and names nobody of Bcc; the
/// body stays as it is.
pub fn compose(data: &[u8]) {
    let (mut normaliser, mut message) = (Normaliser::default(), Vec::new());
    normaliser.push(data, &mut message);
    for read_recipients in [false, true] {
        let composed = compose::compose(&message, read_recipients, &additions());
        let whole = composed.assemble(&message);
        assert!(composed.header.ends_with(b"\r\n") && whole.ends_with(&message[composed.taken..]));
        assert!(read_recipients || composed.recipients.is_empty());
        let fields = fields(&composed.header);
        for name in ["from", "date", "message-id"] {
            assert!(fields.iter().any(|field| field.starts_with(name)), "{name} is missing");
        }
        assert!(!read_recipients || !fields.iter().any(|field| field.starts_with("bcc:")), "{fields:?}");
        let again = compose::compose(&whole, read_recipients, &additions());
        assert_eq!(again.assemble(&whole), whole, "it is changed once more");
        assert!(again.recipients.iter().all(|known| composed.recipients.contains(known)));
        // Whoever reads less of it must know that there is more.
        let is_seen_at = (0..=message.len()).find(|end| compose::is_complete(&message[..*end]));
        if let Some(end) = is_seen_at {
            assert!(end >= composed.taken && compose::is_complete(&message));
            let early = compose::compose(&message[..end], read_recipients, &additions());
            assert_eq!((early.header, early.taken), (composed.header, composed.taken));
        }
    }
}

/// The names of fields and their colons, in lower case, without blanks.
fn fields(header: &[u8]) -> Vec<String> {
    let lines = header
        .split_inclusive(|octet| *octet == b'\n')
        .filter(|line| !line.starts_with(b" ") && !line.starts_with(b"\t"));
    let names = lines.map(|line| line.split_inclusive(|octet| *octet == b':').next().unwrap_or_default());
    names.map(|name| String::from_utf8_lossy(name).to_lowercase().replace([' ', '\t'], "")).collect()
}

/// A message as it comes by SMTP from a user of `a.example`; the first octet says how it is cut. However it comes it is the same, and who
/// reads it finds authors of that domain only.
pub fn submission(data: &[u8]) {
    let Some((piece, sent)) = data.split_first() else { return };
    let (mut normaliser, mut message) = (Normaliser::default(), Vec::new());
    normaliser.push(sent, &mut message);
    let (mut head, mut passed) = (Head::default(), Vec::new());
    for chunk in message.chunks(usize::from(*piece).max(1)) {
        match head.take(Bytes::copy_from_slice(chunk)).expect("it is short") {
            Step::Gather => {}
            Step::Header(octets) => passed.extend(octets),
            Step::Body(octets) => passed.extend_from_slice(&octets),
        }
    }
    passed.extend(head.end().unwrap_or_default());
    assert_eq!(passed, message);
    let own = |address: &Address| address.host() == "a.example";
    let sender = "alice@a.example".parse().expect("an address");
    for sender in [Some(&sender), None] {
        let Ok(whole) = complete(&message, sender, &own, &additions()) else { continue };
        let read = MessageParser::default().parse(&whole).expect("a header");
        let from: Vec<_> = read.headers().iter().filter(|header| header.name == HeaderName::From).collect();
        let [header] = from.as_slice() else {
            panic!("{} From fields in {:?}", from.len(), String::from_utf8_lossy(&whole))
        };
        let HeaderValue::Address(list) = &header.value else { panic!("{:?}", header.value) };
        for author in list.iter() {
            let address = author.address.as_deref().and_then(|text| text.parse().ok());
            assert!(address.is_some_and(|address: Address| own(&address)), "{author:?}");
        }
    }
}

/// A stored message, as `verify` reads a file: the same however its octets come, and nothing passes without a key. With LF for CR LF it is
/// the same message.
pub fn verify(data: &[u8]) {
    let read = |reader: &mut dyn std::io::Read| {
        restante::verify::StoredMessage::read(reader).map_err(|error| error.to_string())
    };
    let whole = read(&mut &data[..]);
    let pieces = read(&mut OneByOne(data));
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    let Ok(message) = whole else { return };
    let judgement = message.judge(None, mail::Timestamp::from_secs(1_800_000_000));
    assert_eq!(judgement.signature, reference::SignatureVerdict::Unknown, "{judgement:?}");
    let lf: Vec<u8> = data.split(|octet| *octet == b'\r').flatten().copied().collect();
    let is_crlf =
        data.iter().filter(|octet| **octet == b'\n').count() == data.windows(2).filter(|pair| pair == b"\r\n").count();
    if is_crlf && lf.len() + data.windows(2).filter(|pair| pair == b"\r\n").count() == data.len() {
        let copy = read(&mut &lf[..]).expect("a copy");
        assert_eq!((copy.xuid, copy.octets), (message.xuid, message.octets));
    }
}

/// Gives an octet at a time.
struct OneByOne<'a>(&'a [u8]);

impl std::io::Read for OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(1).min(self.0.len());
        self.0.split_at(length).0.iter().zip(buffer).for_each(|(octet, place)| *place = *octet);
        self.0 = &self.0[length..];
        Ok(length)
    }
}
