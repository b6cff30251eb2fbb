//! Commands: one file per verb, each with its type, its parser and its encoder.
//!
//! Parsing is about syntax only; what is allowed when is the sessions' business. Keywords are read in
//! any case and written in capitals. A line is given without its CR LF.

pub mod atrn;
pub mod auth;
pub mod bdat;
pub mod data;
pub mod ehlo;
pub mod etrn;
pub mod expn;
pub mod helo;
pub mod help;
pub mod lhlo;
pub mod mail;
pub mod noop;
mod parameters;
mod path;
pub mod quit;
pub mod rcpt;
pub mod rset;
pub mod starttls;
pub mod tbr;
pub mod vrfy;
mod xtext;

use ::mail::AddressError;
use ::mail::Domain;
use ::mail::EnhancedStatus;

use crate::line::has_line_end;
use crate::reply::{Reply, catalogue};

pub use auth::Auth;
pub use bdat::Bdat;
pub use etrn::Etrn;
pub use helo::HelloName;
pub use mail::Mail;
pub use rcpt::Rcpt;
pub use tbr::Tbr;

/// A command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// HELO (RFC 5321 §4.1.1.1).
    Helo(HelloName),
    /// EHLO (RFC 5321 §4.1.1.1).
    Ehlo(HelloName),
    /// LHLO (RFC 2033 §4.1).
    Lhlo(HelloName),
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth(Auth),
    /// MAIL (RFC 5321 §4.1.1.2).
    Mail(Mail),
    /// RCPT (RFC 5321 §4.1.1.3).
    Rcpt(Rcpt),
    /// DATA (RFC 5321 §4.1.1.4).
    Data,
    /// BDAT (RFC 3030).
    Bdat(Bdat),
    /// TBR (TBR §3).
    Tbr(Tbr),
    /// ETRN (RFC 1985).
    Etrn(Etrn),
    /// ATRN (RFC 2645) with its domains, no two of them the same; none: all that the customer may ask for.
    Atrn(Vec<Domain>),
    /// RSET (RFC 5321 §4.1.1.5).
    Rset,
    /// NOOP (RFC 5321 §4.1.1.9); its argument is ignored.
    Noop,
    /// QUIT (RFC 5321 §4.1.1.10).
    Quit,
    /// VRFY (RFC 5321 §4.1.1.6) with its argument, which nothing looks at.
    Vrfy(String),
    /// EXPN (RFC 5321 §4.1.1.7) with its argument.
    Expn(String),
    /// HELP (RFC 5321 §4.1.1.8); its argument is ignored.
    Help,
}

/// The verb of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the verbs are those of Command")]
pub enum Verb {
    Helo,
    Ehlo,
    Lhlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Tbr,
    Etrn,
    Atrn,
    Rset,
    Noop,
    Quit,
    Vrfy,
    Expn,
    Help,
}

/// Every verb and its word.
const VERBS: [(&str, Verb); 18] = [
    ("MAIL", Verb::Mail),
    ("RCPT", Verb::Rcpt),
    ("DATA", Verb::Data),
    ("BDAT", Verb::Bdat),
    ("TBR", Verb::Tbr),
    ("EHLO", Verb::Ehlo),
    ("HELO", Verb::Helo),
    ("LHLO", Verb::Lhlo),
    ("STARTTLS", Verb::StartTls),
    ("AUTH", Verb::Auth),
    ("ETRN", Verb::Etrn),
    ("ATRN", Verb::Atrn),
    ("RSET", Verb::Rset),
    ("NOOP", Verb::Noop),
    ("QUIT", Verb::Quit),
    ("VRFY", Verb::Vrfy),
    ("EXPN", Verb::Expn),
    ("HELP", Verb::Help),
];

impl Verb {
    /// The verb at the front of a line, which may be incomplete or broken behind it. A verb ends with
    /// the line, a space, a tab, or a stray CR or LF.
    pub fn of(line: &[u8]) -> Option<Self> {
        let end = line.iter().position(|o| matches!(o, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(line.len());
        let word = &line[..end];
        VERBS.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word)).map(|(_, verb)| *verb)
    }
}

/// Is this the first line of an HTTP request? Whoever sends one to a mail port, a browser that a page has misled or a
/// prober, goes on for many lines, some of which an attacker may choose.
pub fn is_http_request(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] =
        [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH", b"TRACE", b"PRI"];
    let word = line.split(|octet| *octet == b' ').next().unwrap_or_default();
    METHODS.contains(&word) && word.len() < line.len()
}

/// Why a line is no command. The fault is always the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// No verb that is known here.
    #[error("command not recognised")]
    Unrecognised,
    /// A bare CR or LF in the line.
    #[error("bare CR or LF in command")]
    BareLineEnd,
    /// A control character, or octets that are not UTF-8.
    #[error("command holds octets that are not text")]
    NotText,
    /// Longer than the limit for its verb.
    #[error("command line is too long")]
    TooLong,
    /// The arguments are not of this form.
    #[error("syntax: {0}")]
    Arguments(&'static str),
    /// The reverse-path is no address.
    #[error("sender: {0}")]
    Sender(AddressError),
    /// The forward-path is no address.
    #[error("recipient: {0}")]
    Recipient(AddressError),
    /// A parameter occurs twice or has a value that it can't have.
    #[error("bad value, or a second one, for the parameter {0}")]
    Parameter(&'static str),
    /// A parameter that is not known here.
    #[error("parameter not recognised")]
    UnknownParameter,
    /// A SASL message that is not base64.
    #[error("not valid base64")]
    Base64,
}

impl SyntaxError {
    /// What a server answers.
    pub fn reply(self) -> Reply {
        let (code, status) = match self {
            Self::Unrecognised => return catalogue::unrecognised(),
            Self::BareLineEnd | Self::NotText | Self::TooLong => (500, EnhancedStatus::permanent(5, 2)),
            Self::Arguments(_) | Self::Parameter(_) => (501, EnhancedStatus::permanent(5, 4)),
            Self::Sender(_) => (501, EnhancedStatus::permanent(1, 7)),
            Self::Recipient(_) => (501, EnhancedStatus::permanent(1, 3)),
            Self::UnknownParameter => (555, EnhancedStatus::permanent(5, 4)),
            Self::Base64 => (501, EnhancedStatus::permanent(5, 2)),
        };
        Reply::new(code, status, self.to_string())
    }
}

impl Command {
    /// Parses a line without its CR LF.
    ///
    /// # Errors
    /// [`SyntaxError`] says what is wrong and what to answer.
    pub fn parse(line: &[u8]) -> Result<Self, SyntaxError> {
        let line = text_of(line)?;
        let verb = Verb::of(line.as_bytes()).ok_or(SyntaxError::Unrecognised)?;
        let arguments = line.split_once(' ').map_or("", |(_, rest)| rest).trim_end_matches(' ');
        match verb {
            Verb::Helo => helo::parse(arguments).map(Self::Helo),
            Verb::Ehlo => ehlo::parse(arguments).map(Self::Ehlo),
            Verb::Lhlo => lhlo::parse(arguments).map(Self::Lhlo),
            Verb::StartTls => starttls::parse(arguments),
            Verb::Auth => Auth::parse(arguments).map(Self::Auth),
            Verb::Mail => Mail::parse(arguments).map(Self::Mail),
            Verb::Rcpt => Rcpt::parse(arguments).map(Self::Rcpt),
            Verb::Data => data::parse(arguments),
            Verb::Bdat => Bdat::parse(arguments).map(Self::Bdat),
            Verb::Tbr => Tbr::parse(arguments).map(Self::Tbr),
            Verb::Etrn => etrn::parse(arguments),
            Verb::Atrn => atrn::parse(arguments),
            Verb::Rset => rset::parse(arguments),
            Verb::Noop => Ok(noop::parse(arguments)),
            Verb::Quit => quit::parse(arguments),
            Verb::Vrfy => vrfy::parse(arguments),
            Verb::Expn => expn::parse(arguments),
            Verb::Help => Ok(help::parse(arguments)),
        }
    }

    /// Appends the line, CR LF included.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Helo(name) => helo::write(name, out),
            Self::Ehlo(name) => ehlo::write(name, out),
            Self::Lhlo(name) => lhlo::write(name, out),
            Self::StartTls => starttls::write(out),
            Self::Auth(auth) => auth.write(out),
            Self::Mail(mail) => mail.write(out),
            Self::Rcpt(rcpt) => rcpt.write(out),
            Self::Data => data::write(out),
            Self::Bdat(bdat) => bdat.write(out),
            Self::Tbr(tbr) => tbr.write(out),
            Self::Etrn(etrn) => etrn::write(etrn, out),
            Self::Atrn(domains) => atrn::write(domains, out),
            Self::Rset => rset::write(out),
            Self::Noop => noop::write(out),
            Self::Quit => quit::write(out),
            Self::Vrfy(word) => vrfy::write(word, out),
            Self::Expn(word) => expn::write(word, out),
            Self::Help => help::write(out),
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The line as text: UTF-8 without control characters.
fn text_of(line: &[u8]) -> Result<&str, SyntaxError> {
    if has_line_end(line) {
        return Err(SyntaxError::BareLineEnd);
    }
    let text = std::str::from_utf8(line).map_err(|_| SyntaxError::NotText)?;
    if text.chars().any(char::is_control) { Err(SyntaxError::NotText) } else { Ok(text) }
}

/// For verbs that take no argument.
fn no_arguments(arguments: &str, syntax: &'static str, command: Command) -> Result<Command, SyntaxError> {
    if arguments.is_empty() { Ok(command) } else { Err(SyntaxError::Arguments(syntax)) }
}

#[cfg(test)]
mod tests;
