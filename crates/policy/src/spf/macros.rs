//! Macros (RFC 7208 §7): reading them, and expanding them for one check.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::Query;

/// A domain-spec or a text with macros, read and valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Macro(Macro),
}

/// `%{` letter, digits, `r`, delimiters `}`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Macro {
    /// Lower-case.
    letter: char,
    /// Upper-case: what it becomes is escaped for URLs.
    escaped: bool,
    /// How many parts are kept, from the right.
    keep: Option<usize>,
    reversed: bool,
    delimiters: String,
}

/// What macros stand for in one check.
pub(super) struct Scope<'a> {
    pub(super) query: &'a Query<'a>,
    pub(super) client: IpAddr,
    pub(super) local: &'a str,
    pub(super) sender_domain: &'a str,
    pub(super) domain: &'a str,
    pub(super) validated: &'a str,
}

/// The letters of names; explanations have three more.
const LETTERS: &str = "slodiphv";
const LETTERS_OF_EXPLANATIONS: &str = "slodiphvcrt";
const DELIMITERS: &str = ".-+,/_=";

impl Spec {
    /// `domain-spec`: a macro-string that ends in a top label or a macro.
    pub(super) fn domain(text: &str) -> Option<Self> {
        let spec = Self::read(text, LETTERS, |c| matches!(c, '!'..='~'))?;
        let ends_well = match spec.0.last()? {
            Part::Macro(_) => true,
            Part::Literal(literal) if spec.0.len() == 1 || literal.contains('.') => ends_in_top_label(literal),
            Part::Literal(_) => false,
        };
        ends_well.then_some(spec)
    }

    /// `macro-string`: the value of a modifier that nobody knows.
    pub(super) fn any(text: &str) -> Option<Self> {
        Self::read(text, LETTERS, |c| matches!(c, '!'..='~'))
    }

    /// `explain-string`: spaces too, and three more letters.
    pub(super) fn explanation(text: &str) -> Option<Self> {
        Self::read(text, LETTERS_OF_EXPLANATIONS, |c| matches!(c, ' '..='~'))
    }

    fn read(text: &str, letters: &str, is_literal: impl Fn(char) -> bool) -> Option<Self> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            if c != '%' {
                literal.push(Some(c).filter(|c| is_literal(*c))?);
                continue;
            }
            let kind = rest.chars().next()?;
            rest = &rest[kind.len_utf8()..];
            match kind {
                '%' => literal.push('%'),
                '_' => literal.push(' '),
                '-' => literal.push_str("%20"),
                '{' => {
                    let (inside, after) = rest.split_once('}')?;
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Macro(Macro::read(inside, letters)?));
                    rest = after;
                }
                _ => return None,
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Some(Self(parts))
    }

    /// Does it hold the macro `p`, which costs look-ups?
    pub(super) fn needs_validated_name(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Macro(Macro { letter: 'p', .. })))
    }

    /// The text that it stands for.
    pub(super) fn expand(&self, scope: &Scope<'_>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => out.push_str(literal),
                Part::Macro(one) => out.push_str(&one.expand(scope)),
            }
        }
        out
    }
}

/// `"." toplabel [ "." ]`, or a name that is nothing but a literal.
fn ends_in_top_label(literal: &str) -> bool {
    let name = literal.strip_suffix('.').unwrap_or(literal);
    let Some((_, label)) = name.rsplit_once('.') else { return false };
    let is_word = label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let is_number = label.bytes().all(|octet| octet.is_ascii_digit());
    is_word && !is_number && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
}

impl Macro {
    fn read(inside: &str, letters: &str) -> Option<Self> {
        let first = inside.chars().next()?;
        let letter = first.to_ascii_lowercase();
        let rest = inside.get(1..).filter(|_| letters.contains(letter))?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let keep = match &rest[..digits] {
            "" => None,
            number => Some(number.parse().unwrap_or(usize::MAX)).filter(|keep| *keep > 0).map(Some)?,
        };
        let rest = &rest[digits..];
        let (reversed, delimiters) = match rest.strip_prefix(['r', 'R']) {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let known = delimiters.chars().all(|c| DELIMITERS.contains(c));
        let delimiters = delimiters.to_owned();
        known.then(|| Self { letter, escaped: first.is_ascii_uppercase(), keep, reversed, delimiters })
    }

    fn expand(&self, scope: &Scope<'_>) -> String {
        let value = self.value(scope);
        let delimiters = if self.delimiters.is_empty() { "." } else { &self.delimiters };
        let mut parts: Vec<&str> = value.split(|c| delimiters.contains(c)).collect();
        if self.reversed {
            parts.reverse();
        }
        let from = parts.len().saturating_sub(self.keep.unwrap_or(usize::MAX));
        let text = parts[from..].join(".");
        if self.escaped { escape(&text) } else { text }
    }

    fn value(&self, scope: &Scope<'_>) -> String {
        match self.letter {
            's' => format!("{}@{}", scope.local, scope.sender_domain),
            'l' => scope.local.to_owned(),
            'o' => scope.sender_domain.to_owned(),
            'd' => scope.domain.to_owned(),
            'i' => dotted(scope.client),
            'p' => scope.validated.to_owned(),
            'v' if scope.client.is_ipv4() => "in-addr".to_owned(),
            'v' => "ip6".to_owned(),
            'h' => scope.query.helo.to_owned(),
            'c' => scope.client.to_string(),
            'r' => scope.query.receiver.to_owned(),
            _ => scope.query.now.as_secs().to_string(),
        }
    }
}

/// IPv4 as it is written, IPv6 as 32 digits with dots between (§7.3).
fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let digits: Vec<String> = format!("{:032X}", v6.to_bits()).chars().map(String::from).collect();
            digits.join(".")
        }
    }
}

/// Everything but the unreserved characters of RFC 3986 as `%XX`.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(octet));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}
