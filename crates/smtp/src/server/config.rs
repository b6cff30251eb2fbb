//! What a server session is told once: its name, its role, what it offers, and its limits.

use std::time::Duration;

use mail::Domain;

/// The settings that sessions of one listener share.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our name in the greeting and in the answer to EHLO.
    pub host: Domain,
    /// What the listener is for.
    pub role: Role,
    /// Is there a certificate, so that STARTTLS can be offered?
    pub starttls: bool,
    /// Offer CHUNKING?
    pub chunking: bool,
    /// Offer ETRN (RFC 1985)? Whose mail may be asked for is the driver's word.
    pub etrn: bool,
    /// Offer SMTPUTF8?
    pub smtputf8: bool,
    /// Offer REQUIRETLS (inside TLS only, RFC 8689 §4.1)?
    pub requiretls: bool,
    /// When to offer TBR; never on a submission listener.
    pub tbr: Tbr,
    /// SASL mechanisms in capitals, the preferred one first; empty: no AUTH.
    pub mechanisms: Vec<String>,
    /// Offer AUTH outside TLS? Passwords would travel in clear: for loopback and tests.
    pub auth_in_clear: bool,
    /// What a client may use up.
    pub limits: Limits,
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes mail from other servers (port 25): no AUTH needed.
    Relay,
    /// Takes mail from its own users (ports 465 and 587): MAIL needs AUTH (RFC 6409 §4.3).
    Submission,
    /// Takes no mail, but gives what waits to customers that ask by ATRN, after AUTH (port 366, RFC 2645).
    OnDemand,
}

/// When `TBR 1` stands in the answer to EHLO (TBR §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tbr {
    /// Not at all.
    Never,
    /// Inside TLS.
    InsideTls,
    /// Outside TLS too.
    Always,
}

/// What a client may use up. Lines count with their CR LF, all sizes are octets.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A command line (RFC 5321 §4.5.3.1.4).
    pub command_line: usize,
    /// A line of MAIL, RCPT or TBR: extensions lengthen them (RFC 5321 §4.5.3.1.4, RFC 3461 §4).
    pub parameter_line: usize,
    /// AUTH and the lines of its exchange (RFC 4954 §4).
    pub auth_line: usize,
    /// A line of a message (RFC 5321 §4.5.3.1.6).
    pub text_line: usize,
    /// A message; announced as SIZE.
    pub message: u64,
    /// How far a client may go on behind the limit of a message before it is cut off.
    pub overrun: u64,
    /// The block of an offer (TBR §3).
    pub block: usize,
    /// Input that is kept while a decision is outstanding; see `Server::wants_input`.
    pub input: usize,
    /// Accepted recipients of one transaction (RFC 5321 §4.5.3.1.8); announced as RCPTMAX (RFC 9422), at most 999,999.
    pub recipients: usize,
    /// Transactions of one connection, announced as MAILMAX (RFC 9422); `None`: as many as the client likes.
    pub transactions: Option<u32>,
    /// Refused commands since the start or the last accepted message.
    pub errors: u32,
    /// Commands since the start or the last accepted message.
    pub commands: u32,
    /// For a command to arrive, and between two octets of a message (RFC 5321 §4.5.3.2.7).
    pub idle: Duration,
    /// What every message may take, at whatever pace.
    pub content_grace: Duration,
    /// Octets per second that a message must come at once the grace is over.
    pub content_pace: u64,
}

impl Config {
    /// A relay with the defaults: STARTTLS and CHUNKING on offer, TBR inside TLS.
    pub fn relay(host: Domain) -> Self {
        Self {
            host,
            role: Role::Relay,
            starttls: true,
            chunking: true,
            etrn: false,
            smtputf8: false,
            requiretls: false,
            tbr: Tbr::InsideTls,
            mechanisms: Vec::new(),
            auth_in_clear: false,
            limits: Limits::default(),
        }
    }

    /// A submission listener with the defaults: the same without TBR, and with these mechanisms.
    pub fn submission(host: Domain, mechanisms: impl IntoIterator<Item = &'static str>) -> Self {
        let mechanisms = mechanisms.into_iter().map(str::to_owned).collect();
        Self { role: Role::Submission, tbr: Tbr::Never, mechanisms, ..Self::relay(host) }
    }

    /// A listener for On-Demand Mail Relay with the defaults, and with these mechanisms.
    pub fn on_demand(host: Domain, mechanisms: impl IntoIterator<Item = &'static str>) -> Self {
        Self { role: Role::OnDemand, chunking: false, ..Self::submission(host, mechanisms) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_line: 512,
            parameter_line: 2048,
            auth_line: 12_288,
            text_line: 1000,
            message: 50 << 20,
            overrun: 1 << 30,
            block: 64 << 10,
            input: 64 << 10,
            recipients: 1000,
            transactions: None,
            errors: 20,
            commands: 5000,
            idle: Duration::from_secs(300),
            content_grace: Duration::from_secs(600),
            content_pace: 100,
        }
    }
}
