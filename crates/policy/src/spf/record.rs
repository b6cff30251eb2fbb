//! The grammar of SPF records (RFC 7208 §12): every term is read before any is evaluated, and one mistake spoils the record.
//!
//! What terms mean is the parent's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) use super::macros::Spec;
use crate::evidence::SpfVerdict as Verdict;

/// Longest record that is read, in octets.
const MAX_RECORD: usize = 8 * 1024;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) directives: Vec<Directive>,
    /// Not kept where `all` comes before it (§5.1).
    pub(super) redirect: Option<Spec>,
    pub(super) explanation: Option<Spec>,
}

/// What a match means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) qualifier: Verdict,
    pub(super) mechanism: Mechanism,
}

/// What can match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(Spec),
    A(Option<Spec>, Prefixes),
    Mx(Option<Spec>, Prefixes),
    Ptr(Option<Spec>),
    Network(IpAddr, u8),
    Exists(Spec),
}

/// How many bits must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefixes {
    pub(super) v4: u8,
    pub(super) v6: u8,
}

/// Does the text claim to be a record (§4.5)?
pub(super) fn is_record(text: &[u8]) -> bool {
    match text.split_at_checked(6) {
        Some((version, rest)) => version.eq_ignore_ascii_case(b"v=spf1") && matches!(rest.first(), None | Some(b' ')),
        None => false,
    }
}

impl Record {
    /// Reads a record; nothing where anything in it is wrong.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii() && text.len() <= MAX_RECORD)?;
        let mut record = Self { directives: Vec::new(), redirect: None, explanation: None };
        for term in text.get(6..)?.split(' ').filter(|term| !term.is_empty()) {
            record.take(term)?;
        }
        if record.directives.iter().any(|directive| directive.mechanism == Mechanism::All) {
            record.redirect = None;
        }
        Some(record)
    }

    fn take(&mut self, term: &str) -> Option<()> {
        let end = term.find(|c: char| !is_name_char(c)).unwrap_or(term.len());
        let (name, rest) = term.split_at(end);
        if let Some(value) = rest.strip_prefix('=').filter(|_| name.starts_with(|c: char| c.is_ascii_alphabetic())) {
            return self.modifier(name, value);
        }
        self.directives.push(directive(term)?);
        Some(())
    }

    fn modifier(&mut self, name: &str, value: &str) -> Option<()> {
        let slot = match name.to_ascii_lowercase().as_str() {
            "redirect" => &mut self.redirect,
            "exp" => &mut self.explanation,
            _ => return Spec::any(value).map(|_| ()),
        };
        // Twice is a mistake (§6).
        if slot.is_some() {
            return None;
        }
        *slot = Some(Spec::domain(value)?);
        Some(())
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn directive(term: &str) -> Option<Directive> {
    let (qualifier, rest) = match term.as_bytes().first()? {
        b'+' => (Verdict::Pass, &term[1..]),
        b'-' => (Verdict::Fail, &term[1..]),
        b'~' => (Verdict::SoftFail, &term[1..]),
        b'?' => (Verdict::Neutral, &term[1..]),
        _ => (Verdict::Pass, term),
    };
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (name, arguments) = rest.split_at(end);
    Some(Directive { qualifier, mechanism: mechanism(&name.to_ascii_lowercase(), arguments)? })
}

fn mechanism(name: &str, arguments: &str) -> Option<Mechanism> {
    let value = arguments.strip_prefix(':');
    match name {
        "all" if arguments.is_empty() => Some(Mechanism::All),
        "include" => Some(Mechanism::Include(Spec::domain(value?)?)),
        "exists" => Some(Mechanism::Exists(Spec::domain(value?)?)),
        "ptr" if arguments.is_empty() => Some(Mechanism::Ptr(None)),
        "ptr" => Some(Mechanism::Ptr(Some(Spec::domain(value?)?))),
        "a" => hosts(arguments).map(|(spec, prefixes)| Mechanism::A(spec, prefixes)),
        "mx" => hosts(arguments).map(|(spec, prefixes)| Mechanism::Mx(spec, prefixes)),
        "ip4" => network(value?, 32, |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)),
        "ip6" => network(value?, 128, |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)),
        _ => None,
    }
}

fn network(value: &str, most: u8, parse: impl Fn(&str) -> Option<IpAddr>) -> Option<Mechanism> {
    let (address, prefix) = match value.split_once('/') {
        Some((address, prefix)) => (address, number(prefix, most)?),
        None => (value, most),
    };
    Some(Mechanism::Network(parse(address)?, prefix))
}

/// `[":" domain-spec] [dual-cidr-length]`
fn hosts(arguments: &str) -> Option<(Option<Spec>, Prefixes)> {
    let mut prefixes = Prefixes { v4: 32, v6: 128 };
    let mut rest = arguments;
    if let Some((before, digits)) = rest.rsplit_once("//").filter(|(_, digits)| is_number(digits)) {
        (rest, prefixes.v6) = (before, number(digits, 128)?);
    }
    if let Some((before, digits)) = rest.rsplit_once('/').filter(|(_, digits)| is_number(digits)) {
        (rest, prefixes.v4) = (before, number(digits, 32)?);
    }
    if rest.is_empty() {
        return Some((None, prefixes));
    }
    Some((Some(Spec::domain(rest.strip_prefix(':')?)?), prefixes))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit())
}

/// Digits without a leading zero, at most `most`.
fn number(text: &str, most: u8) -> Option<u8> {
    let is_canonical = is_number(text) && (text == "0" || !text.starts_with('0'));
    is_canonical.then(|| text.parse().ok())?.filter(|value| *value <= most)
}
