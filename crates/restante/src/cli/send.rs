//! `restante send` and `sendmail`: a message from standard input to the running server.
//!
//! Line ends become CRLF, the header is completed by `compose`, the rest streams through in constant memory. Who may be
//! written to is the server's to decide.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::fd::AsFd as _;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use indicatif::ProgressBar;
use mail::id::XuidHasher;
use mail::object::Normaliser;
use mail::{Address, Domain, Envelope, MailParams, QueueId, Recipient};
use tokio::sync::mpsc;

use super::args::{Global, SendArgs};
use super::client::{self, Body, Client};
use super::humane;
use super::output::{Exit, Failure, Outcome, Output};
use crate::admin::api::{self, Accepted};
use crate::compose::{self, Additions, Composed};
use crate::config::Config;
use crate::outbox::Outbox;

/// Longest header that is looked into; what is longer is sent as it is.
const MAX_HEAD: usize = 1024 * 1024;
const CHUNK: usize = 64 * 1024;
/// Chunks that wait for the connection.
const WAITING: usize = 8;

/// Hands the message in.
pub(super) fn run(args: &SendArgs, global: &Global, output: Output) -> Outcome {
    let bar = bar(output);
    let accepted = hand_in(args, global, bar.wrap_read(io::stdin()));
    bar.finish_and_clear();
    let accepted = accepted?;
    output.print(&accepted, || match accepted.waits {
        true => format!("{} waits in the outbox, {} octets: no server is running here", accepted.id, accepted.size),
        false => format!("{} accepted, {} octets", accepted.id, accepted.size),
    });
    Ok(Exit::Done)
}

/// How much of standard input has been handed in. Whoever types the message is not disturbed.
fn bar(output: Output) -> ProgressBar {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return ProgressBar::hidden();
    }
    let file = stdin.as_fd().try_clone_to_owned().map(File::from);
    match file.and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => output.bar(metadata.len()),
        _ => output.count(),
    }
}

/// The same for any source of octets.
pub(super) fn hand_in(
    args: &SendArgs,
    global: &Global,
    source: impl Read + Send + 'static,
) -> Result<Accepted, Failure> {
    let client = Client::new(global)?;
    let mut place = Place { global, config: None };
    let mail_from = sender(args, &mut place)?;
    let mut content = Content::new(source, args.ignore_dots);
    let head = content.head()?;
    if head.is_empty() {
        return Err(Failure::usage("the message is empty"));
    }
    let composed = compose::compose(&head, args.read_recipients, &additions(args, mail_from.as_ref(), &mut place)?);
    let envelope = envelope(args, mail_from, &composed, &mut place)?;
    let header = api::encode_envelope(&envelope).map_err(|error| Failure::new(error.to_string()))?;
    let first = composed.assemble(&head);
    if !client.is_there() {
        return keep(global, &envelope, &mut content, &first);
    }
    client::runtime()?.block_on(async {
        let body = content.into_body(first);
        let response = client.send(Method::POST, api::MESSAGES, Some((api::ENVELOPE, header)), body).await?;
        client::answer(response).await
    })
}

/// Nobody is there to take it: it waits in the outbox for a server.
fn keep<R: Read + Send + 'static>(
    global: &Global,
    envelope: &Envelope,
    content: &mut Content<R>,
    first: &[u8],
) -> Result<Accepted, Failure> {
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    let mut random = [0; 8];
    let drawn = aws_lc_rs::rand::fill(&mut random);
    drawn.map_err(|_| Failure::new("the system has no randomness"))?;
    let id = QueueId::generate(humane::now(), random);
    let (mut hasher, mut size) = (XuidHasher::default(), 0_u64);
    let written = Outbox::new(config.outbox_dir()).put(&id, envelope, |to| {
        let (mut octets, mut more) = (first.to_vec(), true);
        loop {
            to.write_all(&octets)?;
            hasher.update(&octets);
            size += octets.len() as u64;
            octets.clear();
            if !more {
                return Ok(());
            }
            more = content.next(&mut octets)?;
        }
    });
    written.map_err(|error| {
        let folder = config.outbox_dir();
        let help = "start the server with `restante serve`, or become the user that runs it";
        let text = format!("no server is running here, and the outbox {} cannot be written: {error}", folder.display());
        Failure::new(text).help(help).exit(Exit::Unavailable)
    })?;
    Ok(Accepted { id, xuid: hasher.finish(), size, waits: true })
}

/// Where bare names are at home: found when the first one is met.
struct Place<'a> {
    global: &'a Global,
    config: Option<Domain>,
}

impl Place<'_> {
    fn domain(&mut self) -> Result<Domain, Failure> {
        if let Some(domain) = &self.config {
            return Ok(domain.clone());
        }
        let config = Config::load(&self.global.config).map_err(|errors| Failure::config(&errors))?;
        let domain = config.mail_domain().clone();
        self.config = Some(domain.clone());
        Ok(domain)
    }

    /// An address; a name without `@` is at home here.
    fn address(&mut self, text: &str) -> Result<Address, Failure> {
        let text = text.trim().trim_start_matches('<').trim_end_matches('>');
        let parsed = if text.contains('@') { text.parse() } else { Address::new(text, &self.domain()?) };
        parsed.map_err(|error| Failure::usage(format!("`{text}` is no address: {error}")))
    }
}

fn login() -> String {
    let named = ["LOGNAME", "USER"].into_iter().find_map(|name| std::env::var(name).ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "root".to_owned())
}

/// `None` is the null sender.
fn sender(args: &SendArgs, place: &mut Place<'_>) -> Result<Option<Address>, Failure> {
    match args.from.as_deref().map(str::trim) {
        Some("<>" | "") => Ok(None),
        Some(text) => place.address(text).map(Some),
        None => place.address(&login()).map(Some),
    }
}

fn additions(args: &SendArgs, sender: Option<&Address>, place: &mut Place<'_>) -> Result<Additions, Failure> {
    let now = humane::now();
    let mut random = [0; 12];
    let drawn = aws_lc_rs::rand::fill(&mut random);
    drawn.map_err(|_| Failure::new("the system has no randomness"))?;
    let domain = match sender.and_then(Address::domain) {
        Some(domain) => domain,
        None => place.domain()?,
    };
    Ok(Additions {
        date: now.to_rfc5322(),
        message_id: compose::message_id(now, random, domain.as_str()),
        from: compose::from_value(args.full_name.as_deref(), sender),
    })
}

fn envelope(
    args: &SendArgs,
    mail_from: Option<Address>,
    composed: &Composed,
    place: &mut Place<'_>,
) -> Result<Envelope, Failure> {
    let mut recipients: Vec<Recipient> = Vec::new();
    for text in args.recipients.iter().chain(&composed.recipients) {
        let address = place.address(text)?;
        if !recipients.iter().any(|known| known.address == address) {
            recipients.push(Recipient::plain(address));
        }
    }
    if recipients.is_empty() {
        let help = "name recipients as arguments, or take them from To, Cc and Bcc with -t";
        return Err(Failure::usage("there is no recipient").help(help));
    }
    let all = recipients.iter().map(|recipient| &recipient.address).chain(mail_from.as_ref());
    let smtputf8 = all.into_iter().any(Address::needs_smtputf8);
    let params = MailParams { smtputf8, requiretls: args.require_tls, ..MailParams::default() };
    Ok(Envelope { mail_from, params, recipients })
}

/// The message as it comes in: line ends made CRLF, ended by a lone dot unless those are ignored.
struct Content<R> {
    source: R,
    normaliser: Option<Normaliser>,
    dots: Option<LoneDot>,
}

impl<R: Read + Send + 'static> Content<R> {
    fn new(source: R, ignore_dots: bool) -> Self {
        let dots = if ignore_dots { None } else { Some(LoneDot::default()) };
        Self { source, normaliser: Some(Normaliser::default()), dots }
    }

    /// Appends the next octets; false at the end.
    fn next(&mut self, out: &mut Vec<u8>) -> io::Result<bool> {
        let Some(normaliser) = &mut self.normaliser else { return Ok(false) };
        let mut chunk = vec![0; CHUNK];
        let length = self.source.read(&mut chunk)?;
        let mut lines = Vec::with_capacity(length + length / 16);
        let ended = length == 0;
        if ended {
            self.normaliser.take().unwrap_or_default().finish(&mut lines);
        } else {
            normaliser.push(&chunk[..length], &mut lines);
        }
        let dot = match &mut self.dots {
            Some(dots) => dots.pass(&lines, ended, out),
            None => {
                out.extend_from_slice(&lines);
                false
            }
        };
        if dot {
            self.normaliser = None;
        }
        Ok(!ended && !dot)
    }

    /// Reads until the header is whole, or the message ends.
    fn head(&mut self) -> Result<Vec<u8>, Failure> {
        let mut head = Vec::new();
        loop {
            let more = self.next(&mut head).map_err(|error| Failure::new(format!("standard input: {error}")))?;
            if !more || head.len() > MAX_HEAD || compose::is_complete(&head) {
                return Ok(head);
            }
        }
    }

    /// A body that begins with `first`; the rest is read by a thread of its own.
    fn into_body(mut self, first: Vec<u8>) -> Body {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(WAITING);
        tokio::task::spawn_blocking(move || {
            let mut octets = first;
            let mut more = Ok(true);
            while let Ok(true) = more {
                if !octets.is_empty() && sender.blocking_send(Ok(std::mem::take(&mut octets).into())).is_err() {
                    return;
                }
                more = self.next(&mut octets);
            }
            // Nobody may be there any more to hear of it.
            let _ = match more {
                Ok(_) => sender.blocking_send(Ok(octets.into())),
                Err(error) => sender.blocking_send(Err(error)),
            };
        });
        let frames = stream::unfold(receiver, |mut receiver| async move {
            let chunk = receiver.recv().await?;
            Some((chunk.map(Frame::data), receiver))
        });
        BodyExt::boxed(StreamBody::new(frames))
    }
}

/// Finds a line that is a single dot, however the octets are cut.
#[derive(Debug, Default)]
struct LoneDot {
    /// The beginning of a line that may become one: a beginning of `.` CR LF.
    held: Vec<u8>,
    in_line: bool,
}

impl LoneDot {
    /// Passes octets on; true when the dot was met: what follows it is dropped.
    fn pass(&mut self, octets: &[u8], ended: bool, out: &mut Vec<u8>) -> bool {
        const DOT: &[u8] = b".\r\n";
        for &octet in octets {
            if !self.in_line {
                self.held.push(octet);
                if self.held == DOT {
                    return true;
                }
                if DOT.starts_with(&self.held) {
                    continue;
                }
                out.append(&mut self.held);
            } else {
                out.push(octet);
            }
            self.in_line = octet != b'\n';
        }
        if ended {
            out.append(&mut self.held);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, ignore_dots: bool) -> String {
        let mut content = Content::new(io::Cursor::new(text.to_owned()), ignore_dots);
        let mut out = Vec::new();
        while content.next(&mut out).unwrap() {}
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_end_in_crlf_and_a_lone_dot_ends_the_message() {
        assert_eq!(read("A: b\n\nx\n.\ny\n", false), "A: b\r\n\r\nx\r\n");
        assert_eq!(read("A: b\n\nx\n.\ny\n", true), "A: b\r\n\r\nx\r\n.\r\ny\r\n");
        assert_eq!(read(".x\n..\n .\n.", false), ".x\r\n..\r\n .\r\n");
        assert_eq!(read("x", false), "x\r\n");
        assert_eq!(read(".\r\nx", false), "");
    }

    #[test]
    fn a_dot_is_found_however_the_octets_are_cut() {
        let text = b"a\r\n..\r\n.x\r\n.\r\nrest";
        for cut in 0..text.len() {
            let (mut dots, mut out) = (LoneDot::default(), Vec::new());
            let met = dots.pass(&text[..cut], false, &mut out) || dots.pass(&text[cut..], true, &mut out);
            assert!(met, "{cut}");
            assert_eq!(out, b"a\r\n..\r\n.x\r\n");
        }
    }

    #[test]
    fn the_head_is_read_and_nothing_is_lost() {
        let text = format!("Subject: x\n\n{}", "line\n".repeat(50_000));
        let mut content = Content::new(io::Cursor::new(text.clone()), true);
        let head = content.head().unwrap();
        let additions = Additions { date: "D".into(), message_id: "<m>".into(), from: "f".into() };
        let composed = compose::compose(&head, false, &additions);
        let mut all = composed.assemble(&head);
        while content.next(&mut all).unwrap() {}
        let expected =
            text.replace('\n', "\r\n").replacen("Subject", "From: f\r\nDate: D\r\nMessage-ID: <m>\r\nSubject", 1);
        assert_eq!(String::from_utf8(all).unwrap(), expected);
    }
}
