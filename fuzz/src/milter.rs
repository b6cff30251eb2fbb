//! What milters say, and what they are shown of content.

use net::milter::content::{Part, Splitter};
use net::milter::packet::{Decoder, MAX_CHUNK, MAX_TEXT, PacketError, Reply};

/// Replies do not depend on how they come, and cannot become anything but a field of a header or a line of a reply.
pub fn milter_reply(data: &[u8]) {
    let whole = replies(&[data]);
    let octets: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(whole, replies(&octets));
    for reply in whole.0 {
        match reply {
            Reply::Field(field) => {
                let field = field.as_str();
                let lines: Vec<&str> = field.strip_suffix("\r\n").expect("a line end").split("\r\n").collect();
                assert!(lines[0].contains(':') && !lines[0].starts_with([' ', '\t', ':']));
                assert!(!lines[0].to_ascii_lowercase().starts_with("tbr-"));
                assert!(lines[1..].iter().all(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty()));
                assert!(lines.iter().all(|line| line.len() <= 998 && !line.contains(['\r', '\n', '\0'])));
            }
            Reply::Refuse(refusal) => {
                assert!((400..600).contains(&refusal.code) && refusal.text.len() <= MAX_TEXT);
                assert!(refusal.text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic()));
            }
            _ => {}
        }
    }
}

fn replies(pieces: &[&[u8]]) -> (Vec<Reply>, Option<PacketError>) {
    let (mut decoder, mut replies) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

/// The parts of content do not depend on how it comes. The first octet says where it is cut.
pub fn milter_content(data: &[u8]) {
    let Some((cut, content)) = data.split_first() else { return };
    let (one, two) = content.split_at(usize::from(*cut).min(content.len()));
    let octets: Vec<&[u8]> = one.chunks(1).chain([two]).collect();
    let parts = parts(&[content]);
    assert_eq!(parts, self::parts(&octets));
    assert_eq!(parts.iter().filter(|part| **part == Part::EndOfHeader).count(), 1);
    assert!(parts.iter().all(|part| !matches!(part, Part::Body(octets) if octets.len() > MAX_CHUNK)));
}

fn parts(pieces: &[&[u8]]) -> Vec<Part> {
    let mut splitter = Splitter::default();
    let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| splitter.push(piece)).collect();
    parts.extend(splitter.finish());
    parts
}
