//! One question to one name server: by UDP, and by TCP where the answer does not fit (RFC 1035 §4.2, RFC 7766).
//!
//! Every question leaves from a port of its own under a random id, so that nobody off the path can guess an answer in
//! (RFC 5452). What an answer is worth is left to others.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::rand;
use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Octets of a UDP answer that is asked for: below every MTU (RFC 9715).
const UDP_PAYLOAD: u16 = 1232;
/// Octets of a UDP answer that is read.
const UDP_LARGEST: usize = 4096;
/// Datagrams that are no answer to the question and are passed over.
const MAX_STRANGERS: usize = 64;

/// What is said in a question besides name and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags {
    /// DO: send signatures and denials along (RFC 3225).
    pub(super) dnssec_ok: bool,
    /// CD: the asker validates itself (RFC 4035 §3.2.2).
    pub(super) checking_disabled: bool,
    /// AD: the asker understands AD in the answer (RFC 6840 §5.7).
    pub(super) authentic_data: bool,
}

/// Asks, within `patience` for each transport. Returns the answer, whatever its code, and its size in octets.
///
/// # Errors
/// In words: nobody there, nobody answers, or nothing that could be read.
pub(super) async fn ask(
    server: SocketAddr,
    query: &Query,
    flags: Flags,
    patience: Duration,
) -> Result<(Message, usize), String> {
    let question = question(query, flags)?;
    let octets = question.to_vec().map_err(|error| error.to_string())?;
    let late = || format!("the name server {server} does not answer");
    let words = |error: std::io::Error| format!("the name server {server}: {error}");
    let answer = timeout(patience, by_udp(server, &question, &octets)).await.map_err(|_| late())?.map_err(words)?;
    if !answer.0.metadata.truncation {
        return Ok(answer);
    }
    timeout(patience, by_tcp(server, &question, &octets)).await.map_err(|_| late())?.map_err(words)
}

fn question(query: &Query, flags: Flags) -> Result<Message, String> {
    let mut id = [0; 2];
    rand::fill(&mut id).map_err(|_| "no randomness".to_owned())?;
    let mut message = Message::new(u16::from_be_bytes(id), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = flags.checking_disabled;
    message.metadata.authentic_data = flags.authentic_data;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(flags.dnssec_ok);
    message.set_edns(edns);
    Ok(message)
}

async fn by_udp(server: SocketAddr, question: &Message, octets: &[u8]) -> std::io::Result<(Message, usize)> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(octets).await?;
    let mut buffer = vec![0; UDP_LARGEST];
    for _ in 0..MAX_STRANGERS {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = Message::from_vec(&buffer[..length]).ok().filter(|answer| answers(answer, question)) {
            return Ok((answer, length));
        }
    }
    Err(std::io::Error::other("too many datagrams that are no answer"))
}

async fn by_tcp(server: SocketAddr, question: &Message, octets: &[u8]) -> std::io::Result<(Message, usize)> {
    let length = u16::try_from(octets.len()).map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&[&length.to_be_bytes(), octets].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(std::io::Error::other)?;
    if answers(&answer, question) {
        Ok((answer, length))
    } else {
        Err(std::io::Error::other("it answers another question"))
    }
}

fn answers(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.metadata.op_code == OpCode::Query
        && answer.queries == question.queries
}
