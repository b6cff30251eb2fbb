//! A zone file as the source of all answers: for machines without name service, for tests, for a demo.
//!
//! The grammar is hickory's (RFC 1035 §5: `$ORIGIN`, `$TTL`, `$INCLUDE`). Names that do not end in a dot are
//! relative to the last `$ORIGIN`, without one to the root, so that `b.example MX 10 mx.b.example` means what
//! it says. A TTL need not be given. One file may hold records of any number of domains. Wildcards and CNAMEs
//! work as in DNS (RFC 1034 §4.3.2).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hickory_resolver::proto::rr::{LowerName, Name, RData, RecordType};
use hickory_resolver::proto::serialize::txt::Parser;

use super::DnsError;

/// Longest chain of CNAMEs.
const MAX_ALIASES: usize = 8;
/// Largest zone file in octets.
const MAX_FILE: u64 = 16 << 20;
/// Longest file in lines for which the line of a mistake is searched: the search is quadratic.
const MAX_SEARCHED: usize = 2_000;

/// The records of a zone file.
#[derive(Debug, Default)]
pub struct Zone {
    records: BTreeMap<(LowerName, RecordType), Vec<RData>>,
    /// Every owner and every name above one: these exist, with records or without.
    names: BTreeSet<LowerName>,
}

/// What is wrong with a zone file.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// It cannot be read.
    #[error("cannot read the zone file {path}: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is over 16 MiB.
    #[error("the zone file {0} is over 16 MiB")]
    TooBig(PathBuf),
    /// A mistake in it.
    #[error("{}: {problem}", place(path, *line))]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Counted from 1, where it could be found out.
        line: Option<usize>,
        /// What is wrong.
        problem: String,
    },
}

fn place(path: &Path, line: Option<usize>) -> String {
    match line {
        Some(line) => format!("zone file {}, line {line}", path.display()),
        None => format!("zone file {}", path.display()),
    }
}

impl Zone {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ZoneError`] says where the mistake is.
    pub fn load(path: &Path) -> Result<Self, ZoneError> {
        let unreadable = |error| ZoneError::Unreadable { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE {
            return Err(ZoneError::TooBig(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text, path)
    }

    /// Reads a text. `path` names the file where something is wrong, and is what `$INCLUDE` goes by.
    ///
    /// # Errors
    /// [`ZoneError::Syntax`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ZoneError> {
        let parsed = parse(text, path).map_err(|problem| ZoneError::Syntax {
            path: path.to_owned(),
            line: line_of_mistake(text, path),
            problem,
        })?;
        let mut zone = Self::default();
        for ((name, kind), data) in parsed {
            zone.name_exists(&name);
            zone.records.insert((name, kind), data);
        }
        Ok(zone)
    }

    fn name_exists(&mut self, name: &LowerName) {
        let mut name = name.clone();
        while self.names.insert(name.clone()) && !name.is_root() {
            name = name.base_name();
        }
    }

    /// The records of one type at `name`, CNAMEs followed.
    ///
    /// # Errors
    /// [`DnsError::NoSuchDomain`] and [`DnsError::NoRecords`]; a chain of CNAMEs without end is
    /// [`DnsError::Temporary`].
    pub fn lookup(&self, name: &Name, kind: RecordType) -> Result<Vec<RData>, DnsError> {
        let mut name = LowerName::new(name);
        for _ in 0..MAX_ALIASES {
            let owner = self.owner(&name).ok_or(DnsError::NoSuchDomain)?;
            if let Some(found) = self.records.get(&(owner.clone(), kind)) {
                return Ok(found.clone());
            }
            match self.records.get(&(owner, RecordType::CNAME)).map(Vec::as_slice) {
                Some([RData::CNAME(alias), ..]) => name = LowerName::new(&alias.0),
                _ => return Err(DnsError::NoRecords),
            }
        }
        Err(DnsError::Temporary("a chain of CNAMEs is too long".into()))
    }

    /// The name itself, or the wildcard that covers it: that of the closest name above that exists
    /// (RFC 4592 §3.3.1).
    fn owner(&self, name: &LowerName) -> Option<LowerName> {
        if self.names.contains(name) {
            return Some(name.clone());
        }
        let mut above = name.base_name();
        while !self.names.contains(&above) {
            if above.is_root() {
                return None;
            }
            above = above.base_name();
        }
        let wildcard = Name::from_labels([&b"*"[..]]).ok()?.append_domain(&Name::from(above)).ok()?;
        Some(LowerName::new(&wildcard)).filter(|wildcard| self.names.contains(wildcard))
    }
}

type Records = BTreeMap<(LowerName, RecordType), Vec<RData>>;

fn parse(text: &str, path: &Path) -> Result<Records, String> {
    let parser = Parser::new(format!("$TTL 3600\n{text}"), Some(path.to_owned()), Some(Name::root()));
    let (_, sets) = parser.parse().map_err(|error| error.to_string())?;
    let sets = sets.into_iter().map(|(key, set)| {
        let data = set.records_without_rrsigs().map(|record| record.data.clone()).collect();
        ((key.name, key.record_type), data)
    });
    Ok(sets.collect())
}

/// The parser knows no lines: the mistake stands in the last line of the shortest beginning of the file from
/// which on no longer beginning can be read.
fn line_of_mistake(text: &str, path: &Path) -> Option<usize> {
    let ends: Vec<usize> = text
        .split_inclusive('\n')
        .scan(0, |at, line| {
            Some({
                *at += line.len();
                *at
            })
        })
        .collect();
    if ends.len() > MAX_SEARCHED {
        return None;
    }
    let good = ends.iter().rposition(|end| parse(&text[..*end], path).is_ok());
    Some(good.map_or(1, |index| index + 2).min(ends.len().max(1)))
}
