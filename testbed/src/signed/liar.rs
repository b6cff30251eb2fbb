//! Somebody on the path to a name server: he hands questions on, and lies where he was told to.
//!
//! His answers claim to have been validated (AD), as those of a validating server do. He can sign nothing. It leaves to
//! the test which lies are told, and what must come of them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::dns::character_strings;
use crate::host::Host;
use crate::sandbox::Sandbox;

/// How long the true server has to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of a header (RFC 1035 §4.1.1).
const HEADER: usize = 12;
/// Types (RFC 1035 §3.2.2, RFC 3596).
const A: u16 = 1;
const CNAME: u16 = 5;
const MX: u16 = 15;
const TXT: u16 = 16;
/// Lifetime of what is made up, in seconds.
const TTL: u32 = 2;

/// What is answered about a name in the place of the truth.
#[derive(Debug, Clone)]
pub enum Lie {
    /// It does not exist. Nothing proves it.
    Nothing,
    /// The truth, its signatures and denials taken away. Of a zone's name: so with all names below it.
    Stripped,
    /// It has this text.
    Text(String),
    /// It has this address and no other.
    Address(Ipv4Addr),
    /// It is an alias of this name.
    Alias(String),
    /// This host takes its mail.
    Exchanger(String),
}

/// The one on the path.
#[derive(Debug)]
pub struct Liar {
    told: Arc<Told>,
}

#[derive(Debug)]
struct Told {
    host: Host,
    truth: SocketAddr,
    lies: Mutex<BTreeMap<String, Lie>>,
    number: AtomicUsize,
}

impl Liar {
    /// Starts one on a host of its own, before the name server `truth`, by UDP and TCP at port 53. He listens when this
    /// returns, and ends with the test process.
    ///
    /// # Errors
    /// When the host cannot be set up.
    pub fn start(sandbox: &Sandbox, name: &str, truth: SocketAddr) -> Result<Self> {
        let host = sandbox.host(name, &[])?;
        let (streams, address) = (host.listen(53)?, SocketAddr::from((host.ipv4(), 53)));
        let datagrams = Arc::new(host.inside(move || UdpSocket::bind(address))??);
        let told = Arc::new(Told { host, truth, lies: Mutex::default(), number: AtomicUsize::new(0) });
        let (by_udp, by_tcp) = (Arc::clone(&told), Arc::clone(&told));
        thread::spawn(move || by_udp.serve_datagrams(&datagrams));
        thread::spawn(move || by_tcp.serve_streams(&streams));
        Ok(Self { told })
    }

    /// Where he is asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (self.told.host.ipv4(), 53).into()
    }

    /// From now on this is what he says of a name (without a dot at the end).
    pub fn says(&self, name: &str, lie: Lie) {
        self.told.lies.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), lie);
    }

    /// From now on he says the truth.
    pub fn repents(&self) {
        self.told.lies.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many lies he told so far.
    #[must_use]
    pub fn lies_told(&self) -> usize {
        self.told.number.load(Ordering::SeqCst)
    }
}

impl Told {
    fn serve_datagrams(self: &Arc<Self>, socket: &Arc<UdpSocket>) {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let (this, socket, question) = (Arc::clone(self), Arc::clone(socket), buffer[..length].to_vec());
            thread::spawn(move || {
                let answer = this.answer(&question, |question| this.ask_by_udp(question));
                // Whoever asked asks again.
                let _ = answer.and_then(|answer| Ok(socket.send_to(&answer, from)?));
            });
        }
    }

    fn serve_streams(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            let this = Arc::clone(self);
            thread::spawn(move || this.serve_stream(stream));
        }
    }

    /// One question of a connection.
    fn serve_stream(&self, mut stream: TcpStream) -> Result<()> {
        let question = read(&mut stream)?;
        let answer = self.answer(&question, |question| {
            let mut truth = self.host.connect(self.truth)?;
            truth.set_read_timeout(Some(PATIENCE))?;
            write(&mut truth, question)?;
            read(&mut truth)
        })?;
        write(&mut stream, &answer)
    }

    fn ask_by_udp(&self, question: &[u8]) -> Result<Vec<u8>> {
        let socket = self.host.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(self.truth)?;
        socket.send(question)?;
        let mut buffer = vec![0; 4096];
        let length = socket.recv(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    }

    fn answer(&self, question: &[u8], truth: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let (name, end) = name(question)?;
        let kind =
            u16::from_be_bytes(question.get(end..end + 2).and_then(|two| two.try_into().ok()).context("no type")?);
        let asked = question.get(..end + 4).context("no class")?;
        let Some(lie) = self.lie(&name) else { return truth(question) };
        let Some(answer) = made_up(asked, kind, &lie)? else {
            // Without EDNS nobody asks for signatures.
            let mut plain = asked.to_vec();
            plain[10..HEADER].copy_from_slice(&[0, 0]);
            let stripped = matches!(lie, Lie::Stripped);
            self.number.fetch_add(usize::from(stripped), Ordering::SeqCst);
            return truth(if stripped { &plain } else { question });
        };
        self.number.fetch_add(1, Ordering::SeqCst);
        Ok(answer)
    }

    /// About this name, or all of a zone that it is in.
    fn lie(&self, name: &str) -> Option<Lie> {
        let lies = self.lies.lock().unwrap_or_else(PoisonError::into_inner);
        let within = |zone: &str| zone.is_empty() || name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'));
        let of_zone = || lies.iter().find(|(zone, lie)| matches!(lie, Lie::Stripped) && within(zone));
        lies.get(name).or_else(|| of_zone().map(|(_, lie)| lie)).cloned()
    }
}

/// The name that is asked for, in lower case, and where it ends.
fn name(question: &[u8]) -> Result<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), HEADER);
    loop {
        let length = usize::from(*question.get(at).context("no name")?);
        let label = question.get(at + 1..at + 1 + length).context("no label")?;
        at += 1 + length;
        if length == 0 {
            return Ok((labels.join("."), at));
        }
        ensure!(length < 64, "a compressed question");
        labels.push(String::from_utf8_lossy(label).to_lowercase());
    }
}

/// The answer to a question (header and question section), if this lie is about its type.
fn made_up(asked: &[u8], kind: u16, lie: &Lie) -> Result<Option<Vec<u8>>> {
    let record = match lie {
        Lie::Stripped => return Ok(None),
        Lie::Nothing => None,
        Lie::Text(text) => (kind == TXT).then(|| (TXT, character_strings(text))),
        Lie::Address(address) => (kind == A).then(|| (A, address.octets().to_vec())),
        Lie::Alias(target) => Some((CNAME, wire(target)?)),
        Lie::Exchanger(host) => (kind == MX).then_some((MX, [vec![0, 1], wire(host)?].concat())),
    };
    // About other types the truth is told; an address of the other kind would be a way round.
    if record.is_none() && !matches!(lie, Lie::Nothing | Lie::Address(_)) {
        return Ok(None);
    }
    let mut answer = asked.to_vec();
    // QR, RD; RA, AD, CD, and NXDOMAIN where there is nothing.
    let code = if matches!(lie, Lie::Nothing) { 3 } else { 0 };
    answer[2..4].copy_from_slice(&[0x81, 0xb0 | code]);
    answer[6..HEADER].fill(0);
    if let Some((kind, data)) = record {
        answer[7] = 1;
        // The name is that of the question.
        answer.extend_from_slice(&[0xc0, 12]);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&[0, 1]);
        answer.extend_from_slice(&TTL.to_be_bytes());
        answer.extend_from_slice(&u16::try_from(data.len())?.to_be_bytes());
        answer.extend_from_slice(&data);
    }
    Ok(Some(answer))
}

fn wire(name: &str) -> Result<Vec<u8>> {
    let mut octets = Vec::new();
    for label in name.split('.') {
        octets.push(u8::try_from(label.len())?);
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    Ok(octets)
}

/// A message over TCP (RFC 1035 §4.2.2).
fn read(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    let length = u16::try_from(message.len())?.to_be_bytes();
    Ok(stream.write_all(&[&length[..], message].concat())?)
}
