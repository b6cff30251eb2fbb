//! One zone of a signed tree: what is in it, how it is signed, what is wrong with it, and how it is written.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use crate::dns::{Record, character_strings};

/// Lifetime of every record in seconds: a change is soon seen.
const TTL: u32 = 2;

/// How a zone is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// Not at all, and its parent says so.
    Unsigned,
    /// Denials by NSEC.
    Nsec,
    /// Denials by NSEC3 without iterations (RFC 9276).
    Nsec3,
    /// NSEC3 that passes unsigned delegations over (RFC 5155 §6).
    OptOut,
    /// NSEC3 with more iterations than validators do.
    Iterated,
}

impl Signing {
    /// The policy's name in Knot's configuration.
    pub(super) fn policy(self) -> Option<&'static str> {
        match self {
            Self::Unsigned => None,
            Self::Nsec => Some("nsec"),
            Self::Nsec3 => Some("nsec3"),
            Self::OptOut => Some("optout"),
            Self::Iterated => Some("iterated"),
        }
    }
}

/// What is wrong with a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Signed, but the parent has no DS: an island.
    NoDs,
    /// The parent's DS is of no key that there is. Without signing: the signatures were stripped.
    WrongDs,
    /// The parent's DS is of an algorithm that nobody knows.
    UnknownDs,
    /// Signed at another time: so many days from now.
    SignedAt(i64),
    /// The first text became the second after the signing.
    Forged(String, String),
    /// Denials are missing.
    NoDenials,
    /// One of the denials is missing: the one with this number in the order of the file, counted round.
    NoDenial(usize),
}

/// A zone.
#[derive(Debug, Clone)]
pub struct Zone {
    pub(super) name: String,
    pub(super) signing: Signing,
    pub(super) fault: Option<Fault>,
    pub(super) records: String,
}

impl Zone {
    /// An empty zone; the name without a dot at the end.
    #[must_use]
    pub fn new(name: &str, signing: Signing) -> Self {
        Self { name: name.to_owned(), signing, fault: None, records: String::new() }
    }

    /// Makes something wrong with it.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Adds records in master format, relative to the zone.
    #[must_use]
    pub fn with_records(mut self, lines: &str) -> Self {
        self.records.push_str(lines);
        self.records.push('\n');
        self
    }

    /// Its name with a dot at the end.
    pub(super) fn fqdn(&self) -> String {
        format!("{}.", self.name)
    }

    /// 0 for the root, 1 for what is below it, 2 for everything else: name servers of their own.
    pub(super) fn level(&self) -> usize {
        if self.name.is_empty() { 0 } else { (self.name.matches('.').count() + 1).min(2) }
    }

    pub(super) fn has_ds(&self) -> bool {
        self.signing != Signing::Unsigned
            && !matches!(self.fault, Some(Fault::NoDs | Fault::WrongDs | Fault::UnknownDs))
    }

    /// Is `name` in it, or in a zone below it?
    pub(super) fn is_above(&self, name: &str) -> bool {
        self.name.is_empty() || name == self.name || name.ends_with(&format!(".{}", self.name))
    }

    /// The file before it is signed.
    pub(super) fn text(&self, delegations: &str, others: &str) -> String {
        let (records, address) = (&self.records, address(self.level()));
        format!(
            "$ORIGIN {}\n$TTL {TTL}\n@ SOA ns hostmaster 1 3600 600 86400 {TTL}\n@ NS ns\nns A {address}\n{records}\n\
             {delegations}{others}",
            self.fqdn()
        )
    }

    /// What its parent says of it; `ds` is of its real key.
    pub(super) fn delegation(&self, ds: &str) -> String {
        let fqdn = self.fqdn();
        let made_up =
            |algorithm| format!("{fqdn} DS 12345 {algorithm} 2 {}\n", "00112233445566778899aabbccddeeff".repeat(2));
        let ds = match self.fault {
            Some(Fault::WrongDs) => made_up(13),
            Some(Fault::UnknownDs) => made_up(200),
            _ if self.has_ds() => ds.to_owned(),
            _ => String::new(),
        };
        format!("{fqdn} NS ns.{fqdn}\nns.{fqdn} A {}\n{ds}", address(self.level()))
    }

    /// Spoils the signed file.
    pub(super) fn spoil(&self, signed: String) -> Result<String> {
        match &self.fault {
            Some(Fault::Forged(from, to)) => {
                ensure!(signed.contains(from), "{} has no {from}", self.name);
                Ok(signed.replace(from, to))
            }
            // A server that is to make denials and has none for them would not survive the first question.
            Some(Fault::NoDenials) => Ok(lines_of(&signed, |line| !is_denial(line) && !promises_denials(line))),
            Some(Fault::NoDenial(number)) => {
                let mut owners: Vec<&str> = signed.lines().filter(|line| is_denial(line)).map(owner).collect();
                owners.dedup();
                ensure!(!owners.is_empty(), "{} has no denials", self.name);
                let missing = owners[number % owners.len()];
                Ok(lines_of(&signed, |line| !is_denial(line) || owner(line) != missing))
            }
            _ => Ok(signed),
        }
    }
}

/// Where the zones of a level are served, on the name servers' own host.
pub(super) fn address(level: usize) -> &'static str {
    ["127.0.0.11", "127.0.0.12", "127.0.0.13"][level]
}

fn is_denial(line: &str) -> bool {
    const DENIALS: [&str; 2] = ["NSEC", "NSEC3"];
    let mut words = line.split_whitespace().skip(2);
    match (words.next(), words.next()) {
        (Some("RRSIG"), Some(covered)) => DENIALS.contains(&covered),
        (Some(kind), _) => DENIALS.contains(&kind),
        _ => false,
    }
}

/// NSEC3PARAM, and its signature.
fn promises_denials(line: &str) -> bool {
    line.split_whitespace().skip(2).take(2).any(|word| word == "NSEC3PARAM")
}

fn owner(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

fn lines_of(text: &str, is_kept: impl Fn(&str) -> bool) -> String {
    text.lines().filter(|line| is_kept(line)).fold(String::new(), |mut kept, line| {
        // Writing to a String cannot fail.
        let _ = writeln!(kept, "{line}");
        kept
    })
}

/// What was published in the sandbox, as a line of a zone file. Names of addresses are left out.
pub(super) fn line(record: &Record) -> String {
    match record {
        Record::Host(name, v4, v6) => format!("{name}. A {v4}\n{name}. AAAA {v6}\n"),
        Record::Mx(domain, preference, host) => format!("{domain}. MX {preference} {host}.\n"),
        Record::NullMx(domain) => format!("{domain}. MX 0 .\n"),
        Record::Txt(name, text) => generic(name, 16, &character_strings(text)),
        Record::Cname(alias, target) => format!("{alias}. CNAME {target}.\n"),
        Record::Raw(name, kind, data) => generic(name, *kind, data),
    }
}

/// RFC 3597 §5.
fn generic(name: &str, kind: u16, data: &[u8]) -> String {
    let mut line = format!("{name}. TYPE{kind} \\# {} ", data.len());
    for octet in data {
        // Writing to a String cannot fail.
        let _ = write!(line, "{octet:02x}");
    }
    line.push('\n');
    line
}

/// The deepest zone that a name is in.
pub(super) fn zone_of<'a>(zones: &'a [Zone], name: &str) -> Result<&'a Zone> {
    let above = zones.iter().filter(|zone| zone.is_above(name));
    above.max_by_key(|zone| zone.name.len()).with_context(|| format!("{name} is in no zone"))
}
