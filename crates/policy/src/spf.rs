//! SPF (RFC 7208): may this client use this name? `check_host()` as a function of answers.
//!
//! Nothing is looked up here. [`check`] either knows the result or names the next question to DNS; the caller finds the
//! answer, adds it to what is known, and asks again. Ten terms may cause look-ups, so there are few rounds (§4.6.4). The
//! time limit of 20 s is the caller's. Reading records is `record`'s, expanding macros `macros`'s.

mod macros;
mod record;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;

use mail::Timestamp;

pub use crate::evidence::SpfVerdict as Verdict;
use macros::Scope;
use record::{Mechanism, Record, Spec};

/// Most terms that cause look-ups (RFC 7208 §4.6.4).
const MAX_LOOKUPS: u32 = 10;
/// Most look-ups without an answer.
const MAX_VOID: u32 = 2;
/// Most names of one MX or PTR answer.
const MAX_NAMES: usize = 10;

/// A question to DNS. Names are lower-case, without a final dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// The TXT records of a name.
    Txt(String),
    /// Its addresses, of the client's family.
    Addresses(String, Family),
    /// The hosts of its MX records, by preference.
    Exchanges(String),
    /// The names of an address.
    Names(IpAddr),
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// What DNS said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// TXT records, the strings of each joined.
    Texts(Vec<Vec<u8>>),
    /// Addresses.
    Addresses(Vec<IpAddr>),
    /// Hosts or names.
    Names(Vec<String>),
    /// No such name, or no such records.
    Nothing,
    /// Nobody could say.
    Temporary,
}

/// Answers known so far.
pub type Answers = HashMap<Question, Answer>;

/// Who wants to use which name.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The client's address; an IPv4-mapped one means the IPv4 address.
    pub client: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// MAIL FROM; empty for the null sender, which is judged by `postmaster@<helo>` (§2.4).
    pub mail_from: &'a str,
    /// This server's name, for explanations.
    pub receiver: &'a str,
    /// The time, for explanations.
    pub now: Timestamp,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In a word.
    pub verdict: Verdict,
    /// What the domain wants told to those it fails: a stranger's text, ASCII, at most 512 characters.
    pub explanation: Option<String>,
}

/// One step of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An answer is missing.
    Ask(Question),
    /// The result.
    Done(Outcome),
}

/// Why evaluation stops.
enum Stop {
    Ask(Question),
    Permanent,
    Temporary,
}

/// Checks MAIL FROM, or where it is empty the name in HELO (RFC 7208 §4).
pub fn check(query: &Query<'_>, answers: &Answers) -> Step {
    let helo_sender = format!("postmaster@{}", query.helo);
    let given = if query.mail_from.is_empty() { &helo_sender } else { query.mail_from };
    let (local, domain) = given.rsplit_once('@').unwrap_or(("", given));
    let local = if local.is_empty() { "postmaster" } else { local };
    let client = query.client.to_canonical();
    let mut check = Check { query, client, local, sender_domain: domain, answers, lookups: 0, voids: 0 };
    let outcome = |verdict, explanation| Step::Done(Outcome { verdict, explanation });
    match check.host(&name(domain), true) {
        Ok((verdict, explanation)) => outcome(verdict, explanation),
        Err(Stop::Ask(question)) => Step::Ask(question),
        Err(Stop::Permanent) => outcome(Verdict::PermError, None),
        Err(Stop::Temporary) => outcome(Verdict::TempError, None),
    }
}

/// A name as it is asked for.
fn name(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()
}

/// Can it be asked for, and does it have several labels (§4.3)?
fn is_usable(name: &str) -> bool {
    name.len() <= 253 && name.contains('.') && name.split('.').all(|label| (1..=63).contains(&label.len()))
}

struct Check<'a> {
    query: &'a Query<'a>,
    client: IpAddr,
    local: &'a str,
    sender_domain: &'a str,
    answers: &'a Answers,
    lookups: u32,
    voids: u32,
}

impl<'a> Check<'a> {
    /// `check_host()` for a name. Explanations are for the outermost record, or the one it redirects to.
    fn host(&mut self, domain: &str, explain: bool) -> Result<(Verdict, Option<String>), Stop> {
        if !is_usable(domain) {
            return Ok((Verdict::None, None));
        }
        let Some(record) = self.record(domain)? else { return Ok((Verdict::None, None)) };
        for directive in &record.directives {
            if self.matches(&directive.mechanism, domain)? {
                let verdict = directive.qualifier;
                let wanted = explain && verdict == Verdict::Fail;
                let explanation = if wanted { self.explanation(&record, domain)? } else { None };
                return Ok((verdict, explanation));
            }
        }
        let Some(redirect) = &record.redirect else { return Ok((Verdict::Neutral, None)) };
        self.count_lookup()?;
        let target = self.expand(redirect, domain)?;
        match self.host(&target, explain)? {
            (Verdict::None, _) => Err(Stop::Permanent),
            result => Ok(result),
        }
    }

    /// The name's only SPF record (§4.5).
    fn record(&mut self, domain: &str) -> Result<Option<Record>, Stop> {
        let texts = match self.ask(Question::Txt(domain.to_owned()))? {
            Answer::Texts(texts) => texts,
            _ => return Ok(None),
        };
        let mut records = texts.iter().filter(|text| record::is_record(text));
        match (records.next(), records.next()) {
            (None, _) => Ok(None),
            (Some(text), None) => Record::parse(text).map(Some).ok_or(Stop::Permanent),
            (Some(_), Some(_)) => Err(Stop::Permanent),
        }
    }

    fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<bool, Stop> {
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Network(network, prefix) => Ok(is_within(self.client, *network, *prefix)),
            Mechanism::Include(spec) => self.include(spec, domain),
            Mechanism::A(spec, prefixes) => {
                self.count_lookup()?;
                let target = self.target(spec.as_ref(), domain)?;
                self.has_address(&target, prefixes)
            }
            Mechanism::Mx(spec, prefixes) => self.exchange(spec.as_ref(), prefixes, domain),
            Mechanism::Ptr(spec) => {
                self.count_lookup()?;
                let target = self.target(spec.as_ref(), domain)?;
                Ok(self.validated_names()?.iter().any(|name| is_below(name, &target)))
            }
            Mechanism::Exists(spec) => {
                self.count_lookup()?;
                let target = self.expand(spec, domain)?;
                // Always A records, whatever the client's family (§5.7).
                Ok(matches!(self.ask_for(&target, Family::V4)?, Answer::Addresses(_)))
            }
        }
    }

    fn include(&mut self, spec: &Spec, domain: &str) -> Result<bool, Stop> {
        self.count_lookup()?;
        let target = self.expand(spec, domain)?;
        match self.host(&target, false)?.0 {
            Verdict::Pass => Ok(true),
            Verdict::Fail | Verdict::SoftFail | Verdict::Neutral => Ok(false),
            Verdict::TempError => Err(Stop::Temporary),
            Verdict::PermError | Verdict::None => Err(Stop::Permanent),
        }
    }

    fn exchange(&mut self, spec: Option<&Spec>, prefixes: &record::Prefixes, domain: &str) -> Result<bool, Stop> {
        self.count_lookup()?;
        let target = self.target(spec, domain)?;
        if !is_usable(&target) {
            return Ok(false);
        }
        let hosts = match self.ask_counted(Question::Exchanges(target))? {
            Answer::Names(hosts) => hosts.clone(),
            _ => return Ok(false),
        };
        if hosts.len() > MAX_NAMES {
            return Err(Stop::Permanent);
        }
        for host in &hosts {
            if self.has_address(&name(host), prefixes)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_address(&mut self, host: &str, prefixes: &record::Prefixes) -> Result<bool, Stop> {
        let prefix = if self.client.is_ipv4() { prefixes.v4 } else { prefixes.v6 };
        let answer = self.ask_for(host, self.family())?;
        let Answer::Addresses(addresses) = answer else { return Ok(false) };
        Ok(addresses.iter().any(|address| is_within(self.client, *address, prefix)))
    }

    /// The client's names that lead back to it (§5.5). Errors here only cost the match.
    fn validated_names(&mut self) -> Result<Vec<String>, Stop> {
        let names = match self.ask_counted(Question::Names(self.client)) {
            Ok(Answer::Names(names)) => names.clone(),
            Ok(_) | Err(Stop::Temporary) => return Ok(Vec::new()),
            Err(stop) => return Err(stop),
        };
        let mut validated = Vec::new();
        for candidate in names.iter().take(MAX_NAMES).map(|text| name(text)) {
            match self.ask_for(&candidate, self.family()) {
                Ok(Answer::Addresses(addresses)) if addresses.contains(&self.client) => validated.push(candidate),
                Ok(_) | Err(Stop::Temporary) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(validated)
    }

    /// The macro `p` (§7.3): the domain itself, else a name below it, else any.
    fn validated_name(&mut self, domain: &str) -> Result<String, Stop> {
        let names = self.validated_names()?;
        let best = names.iter().find(|name| *name == domain).or_else(|| names.iter().find(|n| is_below(n, domain)));
        Ok(best.or(names.first()).cloned().unwrap_or_else(|| "unknown".to_owned()))
    }

    /// What the record's `exp=` says. Whatever is wrong with it, there is no explanation (§6.2).
    fn explanation(&mut self, record: &Record, domain: &str) -> Result<Option<String>, Stop> {
        let Some(spec) = &record.explanation else { return Ok(None) };
        let target = self.expand(spec, domain)?;
        if !is_usable(&target) {
            return Ok(None);
        }
        let text = match self.ask(Question::Txt(target)) {
            Ok(Answer::Texts(texts)) if texts.len() == 1 => String::from_utf8(texts[0].clone()).ok(),
            Err(Stop::Ask(question)) => return Err(Stop::Ask(question)),
            _ => None,
        };
        let Some(parsed) = text.and_then(|text| Spec::explanation(&text)) else { return Ok(None) };
        let mut expanded = self.expand_text(&parsed, domain)?;
        expanded.retain(|c| matches!(c, ' '..='~'));
        expanded.truncate(512);
        Ok(Some(expanded))
    }

    fn target(&mut self, spec: Option<&Spec>, domain: &str) -> Result<String, Stop> {
        spec.map_or_else(|| Ok(domain.to_owned()), |spec| self.expand(spec, domain))
    }

    /// A domain-spec as a name. One that is too long loses labels on the left (§7.3).
    fn expand(&mut self, spec: &Spec, domain: &str) -> Result<String, Stop> {
        let mut target = name(&self.expand_text(spec, domain)?);
        while target.len() > 253 {
            match target.split_once('.') {
                Some((_, rest)) => target = rest.to_owned(),
                None => break,
            }
        }
        Ok(target)
    }

    fn expand_text(&mut self, spec: &Spec, domain: &str) -> Result<String, Stop> {
        let validated = if spec.needs_validated_name() { self.validated_name(domain)? } else { String::new() };
        let scope = Scope {
            query: self.query,
            client: self.client,
            local: self.local,
            sender_domain: self.sender_domain,
            domain,
            validated: &validated,
        };
        Ok(spec.expand(&scope))
    }

    fn family(&self) -> Family {
        if self.client.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn ask_for(&mut self, host: &str, family: Family) -> Result<&'a Answer, Stop> {
        if !is_usable(host) {
            return Ok(&Answer::Nothing);
        }
        self.ask_counted(Question::Addresses(host.to_owned(), family))
    }

    /// Asks what a mechanism wants to know: look-ups that find nothing are counted.
    fn ask_counted(&mut self, question: Question) -> Result<&'a Answer, Stop> {
        let answers = self.answers;
        let answer = answers.get(&question).ok_or(Stop::Ask(question))?;
        match answer {
            Answer::Temporary => return Err(Stop::Temporary),
            Answer::Nothing => self.voids += 1,
            _ => {}
        }
        if self.voids > MAX_VOID { Err(Stop::Permanent) } else { Ok(answer) }
    }

    fn ask(&self, question: Question) -> Result<&'a Answer, Stop> {
        match self.answers.get(&question) {
            None => Err(Stop::Ask(question)),
            Some(Answer::Temporary) => Err(Stop::Temporary),
            Some(answer) => Ok(answer),
        }
    }

    fn count_lookup(&mut self) -> Result<(), Stop> {
        self.lookups += 1;
        if self.lookups > MAX_LOOKUPS { Err(Stop::Permanent) } else { Ok(()) }
    }
}

/// Is `name` the domain or below it?
fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Does the network of `prefix` bits around `network` hold the address?
fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            a.to_bits() & mask == n.to_bits() & mask
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            a.to_bits() & mask == n.to_bits() & mask
        }
        _ => false,
    }
}
