//! `restante keys rotate`: makes the key after the one in use, and says what to do when.
//!
//! Nothing is changed but the new file: publishing and configuring are the operator's, who may undo both.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use mail::{Domain, Timestamp};
use reference::keys::key_name;
use reference::{KeyRecord, Selector, SigningKey};
use serde::Serialize;

use super::args::{Global, RotateArgs};
use super::humane::{date, now};
use super::output::{Exit, Failure, Outcome, Output};
use crate::config::{Config, DomainTbr, LocalDomain, NextKey};
use crate::keys::{self, KeyFileError, KeyFileReason, TxtRecord};

const DAY: Duration = Duration::from_secs(86_400);
/// Length of the new key's window, beyond its beginning.
const YEAR: Duration = Duration::from_secs(366 * 86_400);
/// A record that nobody has seen yet helps nobody.
const SHORTEST: Duration = Duration::from_secs(3_600);

/// What was made, and what is to be done.
#[derive(Debug, Serialize)]
struct Rotation {
    domain: Domain,
    /// The key in use.
    selector: Selector,
    next_selector: Selector,
    next_key: PathBuf,
    /// When the next key takes over.
    next_from: Timestamp,
    /// When the old record may go.
    retire_after: Timestamp,
    /// To publish now.
    records: Vec<TxtRecord>,
}

/// Carries the command out.
pub(super) fn run(args: &RotateArgs, global: &Global, output: Output) -> Outcome {
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    let domain = config.domain(&args.domain);
    if domain.is_some_and(LocalDomain::is_of_one_user) {
        let failure = Failure::usage("the key of one user is published nowhere: there is nothing to wait for");
        return Err(failure.help(
            "make another with `restante keys generate --user`, and have its custodian add it beside the old one",
        ));
    }
    let tbr = domain.and_then(|domain| domain.tbr.as_ref());
    let Some(tbr) = tbr else {
        let failure = Failure::usage(format!("{} has no key in the configuration", args.domain));
        return Err(failure.help("make its first one with `restante keys generate`"));
    };
    let rotation = rotate(args, tbr)?;
    output.print(&rotation, || text(&rotation, tbr));
    Ok(Exit::Done)
}

fn rotate(args: &RotateArgs, tbr: &DomainTbr) -> Result<Rotation, Failure> {
    if let Some(next) = &tbr.next {
        let failure =
            Failure::usage(format!("{} already follows {}, on {}", next.selector, tbr.selector, moment(next.from)));
        return Err(failure
            .help("when the old key is done with, put the new one in its place in [domain.tbr]; then rotate again"));
    }
    if args.after < SHORTEST {
        return Err(Failure::usage("a record needs an hour at least to be seen, and usually a day or two"));
    }
    let selector = args.selector.clone().or_else(|| following(&tbr.selector));
    let selector = selector.filter(|selector| *selector != tbr.selector);
    let selector = selector.ok_or_else(|| Failure::usage("the next key needs a name of its own: --selector"))?;
    let file = args.out.clone().unwrap_or_else(|| tbr.key.with_file_name(keys::file_name(&args.domain, &selector)));
    let key = SigningKey::generate().map_err(|error| Failure::new(error.to_string()))?;
    let next_from = whole_minute(now().after(args.after));
    let record = KeyRecord::active(selector.clone(), key.verifying_key(), now().before(DAY), next_from.after(YEAR));
    let name = key_name(&selector, &args.domain).map_err(|error| Failure::new(error.to_string()))?;
    keys::write(&file, &key).map_err(|error| not_written(&error, &args.domain, &selector))?;
    Ok(Rotation {
        domain: args.domain.clone(),
        selector: tbr.selector.clone(),
        next_selector: selector,
        next_key: file.canonicalize().unwrap_or(file),
        next_from,
        retire_after: next_from.after(NextKey::STAYS),
        records: vec![TxtRecord { name, text: record.to_txt() }],
    })
}

/// What is there was made by a rotation that is not over, most likely.
fn not_written(error: &KeyFileError, domain: &Domain, selector: &Selector) -> Failure {
    let KeyFileError { path, reason } = error;
    let file = path.display();
    let is_there = matches!(reason, KeyFileReason::Io(io) if io.kind() == ErrorKind::AlreadyExists);
    if !is_there {
        return Failure::new(error.to_string());
    }
    Failure::new(format!("{file} is there: a rotation to {selector} has begun")).help(format!(
        "go on with it: add next_selector = \"{selector}\", next_key = \"{file}\" and next_from to [domain.tbr] of {domain}, \
         at least an hour ahead, and publish what `restante dns print {domain}` then says; \
         or begin anew: delete the file if its record was never published, or give another --selector"
    ))
}

/// `k1` is followed by `k2`; what has no number at its end, by itself with a 2.
fn following(selector: &Selector) -> Option<Selector> {
    let stem = selector.as_str().trim_end_matches(|c: char| c.is_ascii_digit());
    let number = selector.as_str()[stem.len()..].parse::<u64>().ok();
    format!("{stem}{}", number.map_or(Some(2), |number| number.checked_add(1))?).parse().ok()
}

fn whole_minute(at: Timestamp) -> Timestamp {
    Timestamp::from_secs(at.as_secs().div_ceil(60) * 60)
}

/// As the configuration has it.
fn moment(at: Timestamp) -> String {
    date(at)[..16].to_owned()
}

fn text(rotation: &Rotation, tbr: &DomainTbr) -> String {
    let Rotation { domain, selector, next_selector, next_key, next_from, retire_after, records } = rotation;
    let lines: Vec<String> = records.iter().map(TxtRecord::zone_line).collect();
    let (from, file, old) = (moment(*next_from), next_key.display(), tbr.key.display());
    format!(
        "The next key of {domain} is in {file}.\n\n\
         1. Now: publish in DNS\n\n{}\n\n   and add to [domain.tbr] of {domain}, then reload:\n\n\
         next_selector = \"{next_selector}\"\nnext_key = \"{file}\"\nnext_from = \"{from}\"\n\n\
         2. On {from} UTC the server signs with {next_selector}, by itself; every server of the domain needs the same lines.\n   \
         `restante dns check {domain}` should be content before that. Leave the record of {selector} where it is.\n\n\
         3. After {} UTC: make them selector = \"{next_selector}\" and key = \"{file}\", remove the three lines and\n   \
         the record {selector}._tbr.{domain}, and delete {old}.\n",
        lines.join("\n"),
        moment(*retire_after),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_rotates_twice_is_told_how_to_go_on() {
        let (domain, selector) = ("a.example".parse().unwrap(), "k2".parse().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("k2.pem");
        let write = || keys::write(&file, &SigningKey::generate().unwrap());
        write().unwrap();
        let told = not_written(&write().unwrap_err(), &domain, &selector);
        assert!(told.message.ends_with("k2.pem is there: a rotation to k2 has begun"), "{}", told.message);
    }

    #[test]
    fn names_go_on() {
        let next = |name: &str| following(&name.parse().unwrap()).unwrap().to_string();
        assert_eq!(["k1", "k9", "2027", "key"].map(next), ["k2", "k10", "2028", "key2"]);
    }
}
