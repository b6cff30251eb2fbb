//! One message before one milter: what is said in which order, and how long an answer may take.
//!
//! What a verdict means for the message is its caller's. Whatever is not the protocol, takes too long or is too much ends the session
//! with a [`Failure`].

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::content::{Part, Splitter};
use super::packet::{Command, Decoder, Field, OLDEST, Options, PacketError, Refusal, Reply, VERSION, actions, steps};

/// Most fields that a milter may add to a message, and most octets of them together.
const MAX_FIELDS: usize = 100;
const MAX_FIELD_OCTETS: usize = 64 * 1024;

/// The verdict on a whole message may take so many times the patience with other answers, however often a milter says that it is
/// still at it.
const END_PATIENCE: u32 = 10;

/// This software (macro `v`).
const SOFTWARE: &str = concat!("Restante ", env!("CARGO_PKG_VERSION"));

/// What is known of a message's client.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// This server's name (macros `j` and `{daemon_name}`).
    pub server: &'a str,
    /// The client's address, where there is one.
    pub address: Option<SocketAddr>,
    /// A name of this address that leads back to it (macros `{client_name}` and `{client_ptr}`), where one is known.
    pub name: Option<&'a str>,
    /// What it called itself.
    pub helo: &'a str,
    /// What protected its connection; nothing in clear.
    pub tls: Option<Tls<'a>>,
}

/// TLS of a connection, in the words that milters know from other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls<'a> {
    /// Such as `TLSv1.3` (macro `{tls_version}`).
    pub version: &'a str,
    /// Such as `TLS_AES_256_GCM_SHA384` (macro `{cipher}`).
    pub cipher: &'a str,
}

impl Tls<'_> {
    /// Length of the key, in bits (macro `{cipher_bits}`).
    #[must_use]
    pub fn bits(&self) -> &'static str {
        if self.cipher.contains("AES_128") { "128" } else { "256" }
    }
}

/// What a milter says of a message so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against it.
    Continue,
    /// To be taken, and thrown away.
    Discard,
    /// To be refused: one recipient at RCPT, the message otherwise.
    Refuse(Refusal),
}

/// Why a milter gave no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It cannot be reached, or has closed the connection.
    #[error("the milter cannot be reached: {0}")]
    Connection(#[from] std::io::Error),
    /// It took too long.
    #[error("the milter does not answer")]
    Silence,
    /// It does not speak the protocol.
    #[error("the milter does not speak the protocol: {0}")]
    Protocol(#[from] PacketError),
    /// A reply that does not belong there.
    #[error("the milter said something else than a verdict")]
    OutOfPlace,
    /// It is too old, or too new.
    #[error("the milter speaks version {0} of the protocol")]
    Version(u32),
    /// It adds more than a header should have.
    #[error("the milter adds too many header fields")]
    TooMuch,
}

/// A milter with one message before it.
#[derive(Debug)]
pub struct Session<S> {
    stream: S,
    decoder: Decoder,
    steps: u32,
    patience: Duration,
    /// Names the message in the log, once it has a name.
    id: Option<String>,
    content: Option<Splitter>,
    /// DATA was said.
    has_begun: bool,
    /// It has said all that it has to say about this message.
    is_over: bool,
    skips_body: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Agrees on what will be said. `patience` is for each answer.
    ///
    /// # Errors
    /// When the milter cannot be worked with.
    pub async fn open(stream: S, patience: Duration) -> Result<Self, Failure> {
        let content = Some(Splitter::default());
        let decoder = Decoder::default();
        let (steps, has_begun, is_over, skips_body) = (0, false, false, false);
        let mut session = Self { stream, decoder, steps, patience, id: None, content, has_begun, is_over, skips_body };
        let offered =
            Options { version: VERSION, actions: actions::ADD_HEADERS | actions::CHANGE_HEADERS, steps: steps::ALL };
        match timeout(patience, session.exchange(&[Command::Negotiate(offered)]))
            .await
            .map_err(|_| Failure::Silence)??
        {
            Reply::Negotiated(wanted) if (OLDEST..=VERSION).contains(&wanted.version) => {
                // Some milters ask for every action there is; what was not offered is not done.
                session.steps = wanted.steps & offered.steps;
                Ok(session)
            }
            Reply::Negotiated(wanted) => Err(Failure::Version(wanted.version)),
            _ => Err(Failure::OutOfPlace),
        }
    }

    /// What names the message in the log (macro `i`), from the next command on.
    pub fn is_named(&mut self, id: &str) {
        self.id = Some(id.to_owned());
    }

    /// The client and its greeting.
    ///
    /// # Errors
    /// When there is no verdict.
    pub async fn greet(&mut self, client: Client<'_>) -> Result<Verdict, Failure> {
        let literal = client.address.map_or_else(|| "unknown".to_owned(), |address| format!("[{}]", address.ip()));
        let connect = Command::Connect(client.name.unwrap_or(&literal), client.address);
        let (address, port, both) = match client.address {
            Some(known) => {
                let (address, port) = (known.ip().to_string(), known.port().to_string());
                let both = client.name.map_or_else(|| literal.clone(), |name| format!("{name} {literal}"));
                (address, port, both)
            }
            None => ("unknown".to_owned(), "0".to_owned(), literal.clone()),
        };
        let name = client.name.unwrap_or("unknown");
        let macros = [
            ("j", client.server),
            ("_", &both),
            ("v", SOFTWARE),
            ("{daemon_name}", client.server),
            ("{client_addr}", &address),
            ("{client_port}", &port),
            ("{client_name}", name),
            ("{client_ptr}", name),
        ];
        match self.ask(&macros, connect, steps::NO_CONNECT, steps::MUTE_CONNECT).await? {
            Verdict::Continue => {
                let macros = client.tls.map(|tls| {
                    [("{tls_version}", tls.version), ("{cipher}", tls.cipher), ("{cipher_bits}", tls.bits())]
                });
                let macros = macros.as_ref().map_or(&[][..], |macros| &macros[..]);
                self.ask(macros, Command::Helo(client.helo), steps::NO_HELO, steps::MUTE_HELO).await
            }
            verdict => Ok(verdict),
        }
    }

    /// The sender; empty for the null sender.
    ///
    /// # Errors
    /// When there is no verdict.
    pub async fn mail(&mut self, from: &str) -> Result<Verdict, Failure> {
        let path = format!("<{from}>");
        self.ask_of_message(&[("{mail_addr}", from)], Command::Mail(&path), steps::NO_MAIL, steps::MUTE_MAIL).await
    }

    /// A recipient. A refusal concerns this one only.
    ///
    /// # Errors
    /// When there is no verdict.
    pub async fn rcpt(&mut self, to: &str) -> Result<Verdict, Failure> {
        let path = format!("<{to}>");
        self.ask_of_message(&[("{rcpt_addr}", to)], Command::Rcpt(&path), steps::NO_RCPT, steps::MUTE_RCPT).await
    }

    /// Some of the content, without dots added.
    ///
    /// # Errors
    /// When there is no verdict.
    pub async fn content(&mut self, octets: &[u8]) -> Result<Verdict, Failure> {
        let verdict = self.data().await?;
        let parts = match &mut self.content {
            Some(content) if !self.is_over && verdict == Verdict::Continue => content.push(octets),
            _ => return Ok(verdict),
        };
        self.parts(parts).await
    }

    /// The content is complete: the verdict, and fields that the milter wants on top of the header.
    ///
    /// # Errors
    /// When there is no verdict.
    pub async fn end(mut self) -> Result<(Verdict, Vec<Field>), Failure> {
        let verdict = self.data().await?;
        if verdict != Verdict::Continue {
            return Ok((verdict, Vec::new()));
        }
        let parts = self.content.take().filter(|_| !self.is_over).map(Splitter::finish).unwrap_or_default();
        let verdict = self.parts(parts).await?;
        if self.is_over || verdict != Verdict::Continue {
            return Ok((verdict, Vec::new()));
        }
        let last = timeout(self.patience * END_PATIENCE, self.last_word()).await.map_err(|_| Failure::Silence)??;
        // Its word is known; whether it hears this is its own business.
        let _ = timeout(self.patience, self.write(&[Command::Quit])).await;
        Ok(last)
    }

    /// The content is about to come; said once.
    async fn data(&mut self) -> Result<Verdict, Failure> {
        if std::mem::replace(&mut self.has_begun, true) {
            return Ok(Verdict::Continue);
        }
        self.ask_of_message(&[], Command::Data, steps::NO_DATA, steps::MUTE_DATA).await
    }

    async fn parts(&mut self, parts: Vec<Part>) -> Result<Verdict, Failure> {
        for part in parts {
            let verdict = match &part {
                Part::Field(name, value) => {
                    // Without the agreement to show it, the one space that everybody writes is left out.
                    let bare = value.strip_prefix(b" ").unwrap_or(value);
                    let value = if self.steps & steps::LEADING_SPACE == 0 { bare } else { value };
                    self.ask(&[], Command::Header(name, value), steps::NO_HEADERS, steps::MUTE_HEADER).await?
                }
                Part::EndOfHeader => {
                    let (unwanted, mute) = (steps::NO_END_OF_HEADER, steps::MUTE_END_OF_HEADER);
                    self.ask_of_message(&[], Command::EndOfHeader, unwanted, mute).await?
                }
                Part::Body(_) if self.skips_body => Verdict::Continue,
                Part::Body(octets) => self.ask(&[], Command::Body(octets), steps::NO_BODY, steps::MUTE_BODY).await?,
            };
            if verdict != Verdict::Continue {
                self.is_over = true;
                return Ok(verdict);
            }
        }
        Ok(Verdict::Continue)
    }

    /// As [`Session::ask`], with the message's name among the macros.
    async fn ask_of_message(
        &mut self,
        macros: &[(&str, &str)],
        command: Command<'_>,
        unwanted: u32,
        mute: u32,
    ) -> Result<Verdict, Failure> {
        let id = self.id.clone();
        let macros: Vec<_> = id.as_deref().map(|id| ("i", id)).into_iter().chain(macros.iter().copied()).collect();
        self.ask(&macros, command, unwanted, mute).await
    }

    /// Says one thing, unless the milter does not want to hear it, and takes the answer, unless it gives none.
    async fn ask(
        &mut self,
        macros: &[(&str, &str)],
        command: Command<'_>,
        unwanted: u32,
        mute: u32,
    ) -> Result<Verdict, Failure> {
        if self.is_over || self.steps & unwanted != 0 {
            return Ok(Verdict::Continue);
        }
        let macros = Some(Command::Macros(command.name(), macros)).filter(|_| !macros.is_empty());
        let commands: Vec<Command<'_>> = macros.into_iter().chain([command]).collect();
        if self.steps & mute != 0 {
            timeout(self.patience, self.write(&commands)).await.map_err(|_| Failure::Silence)??;
            return Ok(Verdict::Continue);
        }
        match timeout(self.patience, self.exchange(&commands)).await.map_err(|_| Failure::Silence)?? {
            Reply::Continue => Ok(Verdict::Continue),
            Reply::Accept => {
                self.is_over = true;
                Ok(Verdict::Continue)
            }
            Reply::Discard => {
                self.is_over = true;
                Ok(Verdict::Discard)
            }
            Reply::Refuse(refusal) => Ok(Verdict::Refuse(refusal)),
            Reply::Skip if matches!(command, Command::Body(_)) && self.steps & steps::SKIP != 0 => {
                self.skips_body = true;
                Ok(Verdict::Continue)
            }
            _ => Err(Failure::OutOfPlace),
        }
    }

    async fn last_word(&mut self) -> Result<(Verdict, Vec<Field>), Failure> {
        let mut fields = Vec::new();
        let mut octets = 0;
        let id = self.id.clone();
        let macros = id.as_deref().map(|id| [("i", id)]);
        let macros = macros.as_ref().map(|macros| Command::Macros(b'E', macros));
        let commands: Vec<Command<'_>> = macros.into_iter().chain([Command::EndOfBody]).collect();
        let mut reply = self.exchange(&commands).await?;
        loop {
            match reply {
                Reply::Continue | Reply::Accept => return Ok((Verdict::Continue, fields)),
                Reply::Discard => return Ok((Verdict::Discard, Vec::new())),
                Reply::Refuse(refusal) => return Ok((Verdict::Refuse(refusal), Vec::new())),
                Reply::Field(field) => {
                    octets += field.as_str().len();
                    fields.push(field);
                    if fields.len() > MAX_FIELDS || octets > MAX_FIELD_OCTETS {
                        return Err(Failure::TooMuch);
                    }
                }
                Reply::Removal => {}
                _ => return Err(Failure::OutOfPlace),
            }
            reply = self.answer().await?;
        }
    }

    async fn exchange(&mut self, commands: &[Command<'_>]) -> Result<Reply, Failure> {
        self.write(commands).await?;
        self.answer().await
    }

    async fn write(&mut self, commands: &[Command<'_>]) -> Result<(), Failure> {
        let mut octets = Vec::new();
        commands.iter().for_each(|command| command.encode(&mut octets));
        Ok(self.stream.write_all(&octets).await?)
    }

    /// The next reply that says something.
    async fn answer(&mut self) -> Result<Reply, Failure> {
        let mut octets = [0; 4096];
        loop {
            match self.decoder.reply()? {
                Some(Reply::Progress) => continue,
                Some(reply) => return Ok(reply),
                None => {}
            }
            match self.stream.read(&mut octets).await? {
                0 => return Err(Failure::Connection(std::io::ErrorKind::UnexpectedEof.into())),
                read => self.decoder.push(&octets[..read]),
            }
        }
    }
}
