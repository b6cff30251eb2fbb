//! Packets of the milter protocol, version 6 (libmilter's `mfdef.h`): commands to octets, octets to replies. Sans I/O.
//!
//! A packet is its length (4 octets, most significant first), one octet that names it, and its data; texts end with NUL. What
//! may be said when is [`super::session`]'s.

use std::net::{IpAddr, SocketAddr};

use mail::EnhancedStatus;

/// The version spoken here. Milters may answer with an older one, down to [`OLDEST`].
pub const VERSION: u32 = 6;

/// The oldest version that names all replies used here as version 6 does.
pub const OLDEST: u32 = 2;

/// Most octets of a chunk of the body.
pub const MAX_CHUNK: usize = 65_535;

/// Most octets of a reply, without its length.
pub const MAX_REPLY: usize = 64 * 1024;

/// Most octets of the words of a refusal.
pub const MAX_TEXT: usize = 400;

/// What a milter may do to a message (`SMFIF_…`).
pub mod actions {
    /// Add and insert header fields.
    pub const ADD_HEADERS: u32 = 0x01;
    /// Change header fields.
    pub const CHANGE_HEADERS: u32 = 0x10;
}

/// What a milter asks for (`SMFIP_…`).
pub mod steps {
    /// Not to be told of the connection.
    pub const NO_CONNECT: u32 = 0x01;
    /// Nor of HELO.
    pub const NO_HELO: u32 = 0x02;
    /// Nor of MAIL.
    pub const NO_MAIL: u32 = 0x04;
    /// Nor of RCPT.
    pub const NO_RCPT: u32 = 0x08;
    /// Nor of the body.
    pub const NO_BODY: u32 = 0x10;
    /// Nor of header fields.
    pub const NO_HEADERS: u32 = 0x20;
    /// Nor of the header's end.
    pub const NO_END_OF_HEADER: u32 = 0x40;
    /// It answers no header field.
    pub const MUTE_HEADER: u32 = 0x80;
    /// Not to be told of unknown commands.
    pub const NO_UNKNOWN: u32 = 0x100;
    /// Nor of DATA.
    pub const NO_DATA: u32 = 0x200;
    /// It may answer a chunk of the body with `Skip`.
    pub const SKIP: u32 = 0x400;
    /// It does not answer the connection.
    pub const MUTE_CONNECT: u32 = 0x1000;
    /// Nor HELO.
    pub const MUTE_HELO: u32 = 0x2000;
    /// Nor MAIL.
    pub const MUTE_MAIL: u32 = 0x4000;
    /// Nor RCPT.
    pub const MUTE_RCPT: u32 = 0x8000;
    /// Nor DATA.
    pub const MUTE_DATA: u32 = 0x1_0000;
    /// Nor the header's end.
    pub const MUTE_END_OF_HEADER: u32 = 0x4_0000;
    /// Nor chunks of the body.
    pub const MUTE_BODY: u32 = 0x8_0000;
    /// Values of header fields with the space in front.
    pub const LEADING_SPACE: u32 = 0x10_0000;
    /// All of the above: what is offered.
    pub const ALL: u32 = 0x1d_f7ff;
}

/// What both sides agree upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Version of the protocol.
    pub version: u32,
    /// Of [`actions`].
    pub actions: u32,
    /// Of [`steps`].
    pub steps: u32,
}

/// What the mail server says.
#[derive(Debug, Clone, Copy)]
pub enum Command<'a> {
    /// What is possible.
    Negotiate(Options),
    /// Values of macros for the command with this name.
    Macros(u8, &'a [(&'a str, &'a str)]),
    /// Name and address of the client; without an address where it is not known.
    Connect(&'a str, Option<SocketAddr>),
    /// HELO or EHLO.
    Helo(&'a str),
    /// MAIL: the path in angle brackets.
    Mail(&'a str),
    /// RCPT, likewise.
    Rcpt(&'a str),
    /// The content is about to come.
    Data,
    /// One header field; lines of the value end with LF.
    Header(&'a [u8], &'a [u8]),
    /// The header is complete.
    EndOfHeader,
    /// Some of the body, at most [`MAX_CHUNK`] octets.
    Body(&'a [u8]),
    /// The message is complete.
    EndOfBody,
    /// The connection ends.
    Quit,
}

impl Command<'_> {
    /// The octet that names it, in macros too.
    #[must_use]
    pub fn name(&self) -> u8 {
        match self {
            Self::Negotiate(_) => b'O',
            Self::Macros(..) => b'D',
            Self::Connect(..) => b'C',
            Self::Helo(_) => b'H',
            Self::Mail(_) => b'M',
            Self::Rcpt(_) => b'R',
            Self::Data => b'T',
            Self::Header(..) => b'L',
            Self::EndOfHeader => b'N',
            Self::Body(_) => b'B',
            Self::EndOfBody => b'E',
            Self::Quit => b'Q',
        }
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0, 0, 0, 0, self.name()]);
        match self {
            Self::Negotiate(options) => {
                for number in [options.version, options.actions, options.steps] {
                    out.extend(number.to_be_bytes());
                }
            }
            Self::Macros(of, values) => {
                out.push(*of);
                values.iter().flat_map(|(name, value)| [name, value]).for_each(|part| text(out, part.as_bytes()));
            }
            Self::Connect(name, address) => connect(out, name, *address),
            Self::Helo(words) | Self::Mail(words) | Self::Rcpt(words) => text(out, words.as_bytes()),
            Self::Header(name, value) => {
                text(out, name);
                text(out, value);
            }
            Self::Body(octets) => out.extend_from_slice(&octets[..octets.len().min(MAX_CHUNK)]),
            Self::Data | Self::EndOfHeader | Self::EndOfBody | Self::Quit => {}
        }
        let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// A text and its NUL; a NUL within would end it, and is left out.
fn text(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend(octets.iter().filter(|octet| **octet != 0));
    out.push(0);
}

fn connect(out: &mut Vec<u8>, name: &str, address: Option<SocketAddr>) {
    text(out, name.as_bytes());
    let Some(address) = address else { return out.push(b'U') };
    out.push(if address.is_ipv4() { b'4' } else { b'6' });
    out.extend(address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => text(out, ip.to_string().as_bytes()),
        IpAddr::V6(ip) => text(out, format!("IPv6:{ip}").as_bytes()),
    }
}

/// What a milter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// What of the possible it wants.
    Negotiated(Options),
    /// Go on.
    Continue,
    /// The message is good, whatever follows.
    Accept,
    /// 250 for the message, which is thrown away.
    Discard,
    /// Refuse, in these words.
    Refuse(Refusal),
    /// No more of the body is needed.
    Skip,
    /// It is still at it.
    Progress,
    /// Wants this field in the header.
    Field(Field),
    /// Wants a field taken away, which is not done.
    Removal,
}

/// A refusal of a recipient or a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400 to 599.
    pub code: u16,
    /// Of the same class.
    pub status: EnhancedStatus,
    /// Printable ASCII, at most [`MAX_TEXT`] octets.
    pub text: String,
}

/// A header field to be added, inserted, or to stand for one that is there. It is what [`Field::new`] lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field(String);

/// What came is not the milter protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Longer than any reply.
    #[error("a packet of {0} octets")]
    Length(usize),
    /// A reply that version 6 does not know, or that was not agreed upon.
    #[error("the reply {:?} is not known", char::from(*.0))]
    Unknown(u8),
    /// A reply whose data are not of its form.
    #[error("the data of the reply {:?} are not valid", char::from(*.0))]
    Data(u8),
}

/// Takes octets as they come, gives replies.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Takes what was read.
    pub fn push(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// The next reply, if it is complete.
    ///
    /// # Errors
    /// When it is none; nothing that follows makes sense then.
    pub fn reply(&mut self) -> Result<Option<Reply>, PacketError> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if !(1..=MAX_REPLY).contains(&length) {
            return Err(PacketError::Length(length));
        }
        let Some(packet) = rest.get(..length) else { return Ok(None) };
        let reply = parse(packet[0], &packet[1..])?;
        self.buffer.drain(..4 + length);
        Ok(Some(reply))
    }
}

fn parse(name: u8, data: &[u8]) -> Result<Reply, PacketError> {
    let valid = |reply: Option<Reply>| reply.ok_or(PacketError::Data(name));
    match name {
        b'c' => Ok(Reply::Continue),
        b'a' => Ok(Reply::Accept),
        b'd' => Ok(Reply::Discard),
        b's' => Ok(Reply::Skip),
        b'p' => Ok(Reply::Progress),
        b'r' => Ok(Reply::Refuse(Refusal::permanent())),
        b't' => Ok(Reply::Refuse(Refusal::temporary())),
        b'y' => valid(texts(data).first().and_then(|text| Refusal::parse(text)).map(Reply::Refuse)),
        b'O' => valid(options(data).map(Reply::Negotiated)),
        b'h' => valid(field(data)),
        // A field that is changed to nothing is one to be taken away.
        b'm' if is_removal(data) => Ok(Reply::Removal),
        b'i' | b'm' => valid(data.split_first_chunk::<4>().and_then(|(_, rest)| field(rest))),
        _ => Err(PacketError::Unknown(name)),
    }
}

fn options(data: &[u8]) -> Option<Options> {
    let (version, rest) = data.split_first_chunk()?;
    let (actions, rest) = rest.split_first_chunk()?;
    // Lists of macros may follow.
    let (steps, _) = rest.split_first_chunk()?;
    let [version, actions, steps] = [version, actions, steps].map(|octets| u32::from_be_bytes(*octets));
    Some(Options { version, actions, steps })
}

fn field(data: &[u8]) -> Option<Reply> {
    match texts(data)[..] {
        [name, value] => Some(Reply::Field(Field::new(name, value)?)),
        _ => None,
    }
}

fn is_removal(data: &[u8]) -> bool {
    data.split_first_chunk::<4>().is_some_and(|(_, rest)| matches!(texts(rest)[..], [_, b""]))
}

/// The texts that end with NUL; none if something follows the last.
fn texts(data: &[u8]) -> Vec<&[u8]> {
    let Some(inner) = data.strip_suffix(&[0]) else { return Vec::new() };
    inner.split(|octet| *octet == 0).collect()
}

impl Refusal {
    /// `550 5.7.1`, where the milter has no words.
    #[must_use]
    pub fn permanent() -> Self {
        Self { code: 550, status: EnhancedStatus::permanent(7, 1), text: "refused by a filter".to_owned() }
    }

    /// `451 4.7.1`, likewise.
    #[must_use]
    pub fn temporary() -> Self {
        Self { code: 451, status: EnhancedStatus::temporary(7, 1), text: "not now, says a filter".to_owned() }
    }

    /// A reply of SMTP in one or more lines: 4yz or 5yz, an enhanced code of the same class if there is one, and words.
    fn parse(reply: &[u8]) -> Option<Self> {
        let reply = String::from_utf8_lossy(reply);
        let digits = reply.get(..3).filter(|code| code.bytes().all(|octet| octet.is_ascii_digit()))?;
        let code: u16 = digits.parse().ok()?;
        let default = match code {
            400..=499 => Self::temporary(),
            500..=599 => Self::permanent(),
            _ => return None,
        };
        let mut status = default.status;
        let mut words = Vec::new();
        for line in reply.lines().map(|line| line.get(4..).unwrap_or_default().trim()) {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            match first.parse::<EnhancedStatus>() {
                Ok(stated) if stated.class() == default.status.class() => {
                    status = stated;
                    words.push(rest);
                }
                _ => words.push(line),
            }
        }
        let printable = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
        let text: String = words.join(" ").chars().map(printable).take(MAX_TEXT).collect();
        let text = match text.trim() {
            "" => default.text,
            text => text.to_owned(),
        };
        Some(Self { code, status, text })
    }
}

impl Field {
    /// A field of header from a milter's name and value. None where it could be taken for something else: a name or value that is
    /// no field by RFC 5322 §2.2, or a field that vouches for the message (`TBR-…`).
    #[must_use]
    pub fn new(name: &[u8], value: &[u8]) -> Option<Self> {
        let is_name = (1..=64).contains(&name.len()) && name.iter().all(|o| o.is_ascii_graphic() && *o != b':');
        let name = std::str::from_utf8(name).ok().filter(|_| is_name)?;
        let vouches = name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("tbr-"));
        let value = std::str::from_utf8(value).ok()?.replace("\r\n", "\n");
        let lines: Vec<&str> = value.trim_start_matches([' ', '\t']).split('\n').collect();
        let is_line =
            |line: &str| line.len() <= 900 && line.chars().all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic());
        let is_folded = |line: &str| line.starts_with([' ', '\t']) && !line.trim().is_empty();
        let (first, others) = lines.split_first()?;
        let valid = is_line(first) && others.iter().all(|line| is_line(line) && is_folded(line));
        (valid && !vouches).then(|| Self(format!("{name}: {}\r\n", lines.join("\r\n"))))
    }

    /// The field with its CR LF.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
