//! Certificates by ACME: which ones the server needs, when each is ordered anew, and where they lie.
//!
//! A certificate and its key are one file, replaced as a whole: listeners follow it as they follow those of the operator. Until
//! there is one, a certificate of our own making stands in, so that the server can start. An attempt counts as failed from its
//! beginning, on disk: a kill at any point, or many, does not hammer at the authority. The protocol is `net::acme`'s; when a
//! certificate is renewed is [`renewal`]'s.

pub mod renewal;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mail::{Domain, Timestamp, mta_sts};
use net::acme::challenges::{Challenges, Kind};
use net::acme::{Authority, Request};
use net::dns::Resolver;
use net::tls::{self, Trust, Versions};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use x509_parser::extensions::GeneralName;

use crate::config::{Acme, Config, ListenerKind};
use crate::private;
use crate::receive::LiveConfig;
use crate::runtime::now;
use renewal::Advice;

/// How often is looked whether something is due.
const ROUND: Duration = Duration::from_secs(15);
/// Wait after the first failure; each further one is twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(5 * 60);
/// Longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(12 * 3600);
/// Longest problem that is kept, in characters.
const MAX_PROBLEM: usize = 500;

/// A certificate that the server needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Wanted {
    /// What it is known by: the first of its names.
    pub(crate) name: Domain,
    /// All of its names.
    pub(crate) names: Vec<Domain>,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// It counts from then on.
    pub from: Timestamp,
    /// Until then.
    pub to: Timestamp,
    /// For these names.
    pub names: Vec<String>,
    /// It is of our own making, until there is another.
    pub stands_in: bool,
}

impl Standing {
    /// Reads a certificate (DER). Times before 1970 count as then.
    ///
    /// # Errors
    /// That is no certificate.
    pub fn of(certificate: &[u8]) -> Result<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).context("that is no certificate")?;
        let at = |time: i64| Timestamp::from_secs(u64::try_from(time).unwrap_or(0));
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        Ok(Self {
            from: at(parsed.validity().not_before.timestamp()),
            to: at(parsed.validity().not_after.timestamp()),
            names: names.collect(),
            stands_in: parsed.subject() == parsed.issuer(),
        })
    }
}

/// What is remembered of attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempts {
    /// Failed ones, one after the other.
    pub(crate) failures: u32,
    /// Not before then again.
    pub(crate) next: Timestamp,
    /// What was wrong.
    #[serde(default)]
    pub(crate) problem: String,
    /// An operator wants another one.
    #[serde(default)]
    pub(crate) wanted: bool,
}

/// The certificates that a configuration needs: one for the server's own name, and one for the hosts of each domain, so that a
/// domain whose records are gone keeps no other from its own. None without `[acme]`.
pub(crate) fn wanted(config: &Config) -> Vec<Wanted> {
    let Some(acme) = &config.acme else { return Vec::new() };
    let mut groups = vec![[vec![config.hostname.clone()], acme.names.clone()].concat()];
    for domain in config.domains.values() {
        let repository = domain.tbr.iter().map(|tbr| tbr.repository.clone());
        let document = domain.tbr.iter().filter_map(|_| reference::keys::default_host(&domain.name).ok());
        let policy = domain.mta_sts.iter().filter_map(|_| domain.name.child(mta_sts::HOST_LABEL).ok());
        groups.push(repository.chain(document).chain(policy).collect());
    }
    let mut seen = std::collections::BTreeSet::new();
    let fresh =
        groups.into_iter().map(|group| group.into_iter().filter(|name| seen.insert(name.clone())).collect::<Vec<_>>());
    let fresh: Vec<Vec<Domain>> = fresh.collect();
    fresh.into_iter().filter_map(|names| Some(Wanted { name: names.first()?.clone(), names })).collect()
}

/// How names are proven: at port 80 where there is a listener for it, else at port 443, by the repository's.
pub(crate) fn challenge(config: &Config) -> Kind {
    let at_port_80 = config.listeners.iter().any(|listener| listener.kind == ListenerKind::Acme);
    if at_port_80 { Kind::Http01 } else { Kind::TlsAlpn01 }
}

impl Wanted {
    /// Certificate and key: PEM, mode 0600.
    pub(crate) fn file(&self, config: &Config) -> PathBuf {
        config.acme_dir().join(format!("{}.pem", self.name))
    }

    fn attempts_file(&self, config: &Config) -> PathBuf {
        config.acme_dir().join(format!("{}.json", self.name))
    }

    /// What is remembered of attempts; nothing, if it cannot be read.
    pub(crate) fn attempts(&self, config: &Config) -> Attempts {
        let read = fs::read(self.attempts_file(config)).ok();
        read.and_then(|octets| serde_json::from_slice(&octets).ok()).unwrap_or_default()
    }

    /// Remembers it.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn remember(&self, config: &Config, attempts: &Attempts) -> io::Result<()> {
        private::create_directory(&config.acme_dir())?;
        private::replace(&self.attempts_file(config), &serde_json::to_vec(attempts)?)
    }

    /// The certificate in the file.
    fn certificate(&self, config: &Config) -> Result<CertificateDer<'static>> {
        Ok(tls::certificates::end_entity(&self.file(config))?)
    }

    /// What the certificate in the file says.
    ///
    /// # Errors
    /// It is not there, or no certificate.
    pub(crate) fn standing(&self, config: &Config) -> Result<Standing> {
        Standing::of(&self.certificate(config)?)
    }

    /// When another certificate is to be ordered: at once where it lacks a name, else as [`renewal`] has it.
    pub(crate) fn renew_at(&self, standing: &Standing, advice: &Advice) -> Timestamp {
        let lacks = |name: &Domain| !standing.names.iter().any(|known| known == name.as_str());
        if standing.stands_in || self.names.iter().any(lacks) {
            return Timestamp::default();
        }
        renewal::moment(&self.name, standing, advice)
    }

    /// Makes the one that stands in, if there is no file.
    fn prepare(&self, config: &Config) -> Result<()> {
        let file = self.file(config);
        if file.exists() {
            return Ok(());
        }
        private::create_directory(&config.acme_dir())?;
        let key = KeyPair::generate()?;
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names)?.self_signed(&key)?;
        private::replace(&file, (key.serialize_pem() + &certificate.pem()).as_bytes())?;
        Ok(())
    }
}

/// The files for the listeners, in order; those that are missing are made.
///
/// # Errors
/// They cannot be.
pub(crate) fn files(config: &Config) -> Result<Vec<tls::CertificateFiles>> {
    let mut files = Vec::new();
    for wanted in wanted(config) {
        let file = wanted.file(config);
        wanted.prepare(config).with_context(|| format!("cannot make {}", file.display()))?;
        files.push(tls::CertificateFiles { certificate: file.clone(), key: file });
    }
    Ok(files)
}

/// Orders what is due, until `end`.
pub(crate) async fn keep(config: LiveConfig, resolver: Resolver, challenges: Challenges, end: CancellationToken) {
    let keeping = async {
        loop {
            let current = config.get();
            for wanted in wanted(&current) {
                renewal::ask_if_due(&current, &wanted, &resolver, &challenges).await;
                attempt_if_due(&current, &wanted, &resolver, &challenges).await;
                // Files are read for each, and there may be a thousand.
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(ROUND).await;
        }
    };
    end.run_until_cancelled(keeping).await;
}

async fn attempt_if_due(config: &Config, wanted: &Wanted, resolver: &Resolver, challenges: &Challenges) {
    let (at, attempts) = (now(), wanted.attempts(config));
    let standing = wanted.standing(config);
    let due = standing.map_or(Timestamp::default(), |standing| wanted.renew_at(&standing, &wanted.advice(config)));
    if at < attempts.next || (at < due && !attempts.wanted) {
        return;
    }
    // Its failure is on disk before it begins.
    let mut failed = failed(attempts, at, "it was broken off");
    if let Err(error) = wanted.remember(config, &failed) {
        warn!(certificate = %wanted.name, %error, "attempts cannot be remembered, and so none is made");
        return;
    }
    match order(config, wanted, resolver, challenges).await {
        Ok(()) => {
            info!(certificate = %wanted.name, names = wanted.names.len(), "a certificate was issued");
            let _ = fs::remove_file(wanted.attempts_file(config));
            let _ = fs::remove_file(wanted.advice_file(config));
        }
        Err(error) => {
            failed.problem = format!("{error:#}").chars().take(MAX_PROBLEM).collect();
            warn!(certificate = %wanted.name, problem = failed.problem, "no certificate was issued");
            let _ = wanted.remember(config, &failed);
        }
    }
}

/// One more failure, and the wait that follows it.
fn failed(before: Attempts, at: Timestamp, problem: &str) -> Attempts {
    let wait = FIRST_WAIT.saturating_mul(1 << before.failures.min(10)).min(LONGEST_WAIT);
    // By the millisecond of the clock: not all servers that were refused together come again together.
    let jitter = wait / 5 * u32::try_from(at.as_millis() % 100).unwrap_or(0) / 100;
    Attempts {
        failures: before.failures + 1,
        next: at.after(wait).after(jitter),
        problem: problem.to_owned(),
        ..before
    }
}

async fn order(config: &Config, wanted: &Wanted, resolver: &Resolver, challenges: &Challenges) -> Result<()> {
    let Some(acme) = &config.acme else { bail!("there is no [acme] any more") };
    let authority = authority(acme, resolver, challenges)?;
    let account = account(config, acme, &authority).await?;
    let file = wanted.file(config);
    // The key stays: TLSA records that name it outlive the renewal.
    let key = KeyPair::from_pem(&private::read(&file)?).context("the key cannot be read")?;
    let mut params = CertificateParams::new(wanted.names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key)?;
    let issued = wanted.standing(config).is_ok_and(|standing| !standing.stands_in);
    let old = if issued { wanted.certificate(config).ok() } else { None };
    let request = Request { names: &wanted.names, csr: csr.der(), replaces: old.as_ref() };
    let chain = authority.issue(account, &request).await?;
    let (draft, both) = (file.with_extension("issued"), key.serialize_pem() + &chain);
    private::replace(&draft, both.as_bytes())?;
    // What cannot be used does not take the place of what can.
    tls::Certificates::load(&[tls::CertificateFiles { certificate: draft.clone(), key: draft.clone() }])?;
    private::replace(&file, both.as_bytes())?;
    let _ = fs::remove_file(draft);
    Ok(())
}

fn authority(acme: &Acme, resolver: &Resolver, challenges: &Challenges) -> Result<Authority> {
    let trust = acme.ca_file.clone().map_or(Trust::System, Trust::CaFile);
    let tls = tls::trust::client_config(&trust, Versions::From12, &[tls::HTTP_1])?;
    Ok(Authority::new(&acme.directory, Arc::new(resolver.clone()), tls, challenges.clone()))
}

fn account_file(config: &Config, acme: &Acme) -> PathBuf {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, acme.directory.as_bytes());
    config.acme_dir().join(format!("account-{}", mail::base64url::encode(&digest.as_ref()[..6])))
}

/// The account at this directory, made if need be.
async fn account(config: &Config, acme: &Acme, authority: &Authority) -> Result<net::acme::Credentials> {
    let file = account_file(config, acme);
    if let Some(known) = read_account(&file)? {
        return Ok(known);
    }
    let contact = acme.contact.as_ref().map(|address| format!("mailto:{address}"));
    let made = authority.new_account(contact.as_deref()).await?;
    private::replace(&file, &serde_json::to_vec(&made)?)?;
    Ok(made)
}

fn read_account(file: &Path) -> Result<Option<net::acme::Credentials>> {
    match private::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => {
            let text = read.with_context(|| format!("cannot read {}", file.display()))?;
            Ok(Some(serde_json::from_str(&text).with_context(|| format!("{} is no account", file.display()))?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    pub(super) fn config(folder: &Path, more: &str) -> Config {
        let text = format!(
            "hostname = \"mx.a.example\"\ndata_dir = \".\"\n[acme]\naccept_terms = true\nnames = [\"imap.a.example\"]\n\
             [[listener]]\nkind = \"acme\"\naddress = \"127.0.0.1:0\"\n\
             [[listener]]\nkind = \"repository\"\naddress = \"127.0.0.1:0\"\n\
             [[domain]]\nname = \"a.example\"\n[domain.tbr]\nselector = \"k1\"\nkey = \"k1.pem\"\n{more}"
        );
        Config::parse(&text, &folder.join("restante.toml")).unwrap()
    }

    #[test]
    fn what_the_server_and_each_domain_need_is_asked_for_apart() {
        let all = wanted(&config(Path::new("/x"), "[domain.mta_sts]\nmode = \"testing\"\n"));
        let names: Vec<Vec<&str>> = all.iter().map(|w| w.names.iter().map(Domain::as_str).collect()).collect();
        assert_eq!(names, [vec!["mx.a.example", "imap.a.example"], vec!["tbr.a.example", "mta-sts.a.example"]]);
    }

    #[test]
    fn the_listeners_say_how_names_are_proven() {
        let mut config = config(Path::new("/x"), "");
        assert_eq!(challenge(&config), Kind::Http01);
        config.listeners.retain(|listener| listener.kind != ListenerKind::Acme);
        assert_eq!(challenge(&config), Kind::TlsAlpn01);
    }

    #[test]
    fn another_certificate_is_ordered_before_the_end_or_for_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "");
        assert_eq!(files(&config).unwrap().len(), 2);
        let wanted = &wanted(&config)[0];
        let mut standing = wanted.standing(&config).unwrap();
        assert!(standing.stands_in && wanted.renew_at(&standing, &Advice::default()) == Timestamp::default());
        let start = Timestamp::from_secs(1_800_000_000);
        (standing.stands_in, standing.from, standing.to) = (false, start, start.after(90 * DAY));
        let at = wanted.renew_at(&standing, &Advice::default());
        assert!(at >= start.after(60 * DAY) && at < start.after(64 * DAY), "{at}");
        standing.names.pop();
        assert_eq!(wanted.renew_at(&standing, &Advice::default()), Timestamp::default());
    }

    #[test]
    fn failures_wait_longer_each_time_also_across_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "");
        let wanted = &wanted(&config)[0];
        let (mut at, mut last) = (Timestamp::from_secs(1_800_000_000), Duration::ZERO);
        for _ in 0..12 {
            wanted.remember(&config, &failed(wanted.attempts(&config), at, "x")).unwrap();
            let wait = wanted.attempts(&config).next.since(at);
            assert!(wait >= last.min(LONGEST_WAIT) && wait <= LONGEST_WAIT + LONGEST_WAIT / 5, "{wait:?}");
            (at, last) = (wanted.attempts(&config).next, wait.mul_f32(0.8));
        }
        assert!(last > LONGEST_WAIT / 2);
    }
}
