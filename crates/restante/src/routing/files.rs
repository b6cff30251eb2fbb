//! Lists of recipients and aliases in files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use mail::{Address, Domain};

use super::local_key;

/// All mistakes in the files. Displays them one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingErrors(pub Vec<FileMistake>);

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FileMistake {
    /// The file.
    pub file: PathBuf,
    /// From 1; `None`: the file as a whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for FileMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
        }
    }
}

impl fmt::Display for RoutingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for RoutingErrors {}

/// One local part or address a line, `#` begins a comment.
pub(super) fn recipients(path: &Path, domain: &Domain, mistakes: &mut Vec<FileMistake>) -> BTreeSet<String> {
    recipients_in(&read(path, mistakes), path, domain, mistakes)
}

/// The recipients in a text, by the keys of their local parts; `path` names it in mistakes.
pub fn recipients_in(text: &str, path: &Path, domain: &Domain, mistakes: &mut Vec<FileMistake>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (line, text) in lines(text) {
        match complete(&text, domain) {
            Ok(address) if address.host() == domain.as_str() => drop(names.insert(local_key(&address))),
            Ok(address) => note(mistakes, path, line, format!("`{address}` is not in {domain}")),
            Err(message) => note(mistakes, path, line, message),
        }
    }
    names
}

/// `name: target, target`, as in `aliases(5)`: lines that begin with white space continue the one before.
pub(super) fn aliases(path: &Path, domain: &Domain, mistakes: &mut Vec<FileMistake>) -> BTreeMap<String, Vec<Address>> {
    aliases_in(&read(path, mistakes), path, domain, mistakes)
}

/// The aliases in a text, by the keys of their local parts; `path` names it in mistakes.
pub fn aliases_in(
    text: &str,
    path: &Path,
    domain: &Domain,
    mistakes: &mut Vec<FileMistake>,
) -> BTreeMap<String, Vec<Address>> {
    let mut aliases = BTreeMap::new();
    for (line, text) in joined(lines(text)) {
        match alias(&text, domain) {
            Ok((name, targets)) => {
                if aliases.insert(name.clone(), targets).is_some() {
                    note(mistakes, path, line, format!("`{name}` is there twice"));
                }
            }
            Err(message) => note(mistakes, path, line, message),
        }
    }
    aliases
}

fn alias(text: &str, domain: &Domain) -> Result<(String, Vec<Address>), String> {
    let (name, targets) = text.split_once(':').ok_or("a line is: name: address, address")?;
    let name = complete(name.trim(), domain)?;
    if name.host() != domain.as_str() {
        return Err(format!("`{name}` is not in {domain}"));
    }
    let targets: Vec<_> =
        targets.split(',').map(|target| target_of(target.trim(), domain)).collect::<Result<_, _>>()?;
    Ok((local_key(&name), targets))
}

fn target_of(text: &str, domain: &Domain) -> Result<Address, String> {
    if text.starts_with(['|', '/', ':']) || text.starts_with("\"|") {
        return Err(format!("`{text}`: commands, files and :include: are not supported, only addresses"));
    }
    complete(text, domain)
}

/// An address whose domain may be left out.
fn complete(text: &str, domain: &Domain) -> Result<Address, String> {
    let address = if text.contains('@') { text.parse() } else { Address::new(text, domain) };
    address.map_err(|error| format!("`{text}` is no address: {error}"))
}

/// The text of a file; an empty one, and a mistake, where it cannot be read.
fn read(path: &Path, mistakes: &mut Vec<FileMistake>) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| {
        mistakes.push(FileMistake { file: path.to_owned(), line: None, message: error.to_string() });
        String::new()
    })
}

/// Lines with something on them, comments removed, numbered from 1; leading white space is kept.
fn lines(text: &str) -> Vec<(usize, String)> {
    let strip = |line: &str| match line.trim_start().starts_with('#') {
        true => String::new(),
        false => line.split(" #").next().unwrap_or_default().trim_end().to_owned(),
    };
    let numbered = text.lines().map(strip).enumerate().map(|(number, line)| (number + 1, line));
    numbered.filter(|(_, line)| !line.trim().is_empty()).collect()
}

fn joined(lines: Vec<(usize, String)>) -> Vec<(usize, String)> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    for (number, line) in lines {
        match joined.last_mut() {
            Some((_, before)) if line.starts_with([' ', '\t']) => before.push_str(&line),
            _ => joined.push((number, line)),
        }
    }
    joined
}

fn note(mistakes: &mut Vec<FileMistake>, path: &Path, line: usize, message: String) {
    mistakes.push(FileMistake { file: path.to_owned(), line: Some(line), message });
}
