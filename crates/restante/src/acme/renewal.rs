//! When a certificate is renewed: at a moment that the authority suggests (ACME Renewal Information, RFC 9773), within bounds of our own,
//! or else a third of its lifetime before its end.
//!
//! What the authority said lies beside the certificate, so that no start asks anew. Orders are not made here.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use aws_lc_rs::digest::{SHA256, digest};
use mail::{Domain, Timestamp, base64url};
use net::acme::challenges::Challenges;
use net::acme::renewal::{LONGEST_PAUSE, Suggestion, Window};
use net::dns::Resolver;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Standing, Wanted, account_file, authority, read_account};
use crate::config::Config;
use crate::private;
use crate::runtime::now;

/// Wait after an authority could not be asked (RFC 9773 §4.3.3).
const AFTER_FAILURE: Duration = Duration::from_secs(6 * 3600);
/// No certificate is renewed for a suggestion before it is so old (or an eighth of its lifetime): an authority that always suggests the
/// past would have one ordered after the other.
pub const LEAST_AGE: Duration = Duration::from_secs(6 * 3600);

/// What is remembered of an authority's suggestions for one certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// Which one: its SHA-256, in base64url.
    certificate: String,
    /// Not asked again before then.
    next: Timestamp,
    /// When the authority would like it renewed, if it has said so.
    pub window: Option<Window>,
}

impl Wanted {
    /// Where it is remembered what the authority suggests.
    pub(super) fn advice_file(&self, config: &Config) -> PathBuf {
        config.acme_dir().join(format!("{}.renewal", self.name))
    }

    /// What the authority suggests for the certificate that is there; nothing, if it was asked about another one, or it cannot be read.
    pub(crate) fn advice(&self, config: &Config) -> Advice {
        let fresh = || Advice { certificate: self.fingerprint(config).unwrap_or_default(), ..Advice::default() };
        let read = fs::read(self.advice_file(config)).ok();
        let read = read.and_then(|octets| serde_json::from_slice::<Advice>(&octets).ok());
        read.filter(|advice| advice.certificate == fresh().certificate).unwrap_or_else(fresh)
    }

    fn take_advice(&self, config: &Config, advice: &Advice) -> io::Result<()> {
        private::create_directory(&config.acme_dir())?;
        private::replace(&self.advice_file(config), &serde_json::to_vec(advice)?)
    }

    fn fingerprint(&self, config: &Config) -> Result<String> {
        Ok(base64url::encode(digest(&SHA256, &self.certificate(config)?).as_ref()))
    }
}

/// When the certificate that stands there is renewed.
pub fn moment(name: &Domain, standing: &Standing, advice: &Advice) -> Timestamp {
    let lifetime = standing.to.since(standing.from);
    let Some(window) = &advice.window else {
        // For each name a bit later, so that not all are ordered at once.
        let third = lifetime / 3;
        return standing.to.before(third).after(share(third / 8, name.as_str()));
    };
    let earliest = standing.from.after(LEAST_AGE.min(lifetime / 8));
    let latest = standing.to.before(lifetime / 10);
    let (length, seed) = (window.end.since(window.start), format!("{}{window:?}", advice.certificate));
    // A certificate may end before it begins: no bounds are taken for granted.
    window.start.after(share(length, &seed)).max(earliest).min(latest)
}

/// Some part of it, always the same for the same seed, evenly spread over all seeds (RFC 9773 §4.2 wants it random).
fn share(of: Duration, seed: &str) -> Duration {
    let digest = digest(&SHA256, seed.as_bytes());
    let number = digest.as_ref()[..4].iter().fold(0u128, |number, octet| number << 8 | u128::from(*octet));
    // It is no longer than `of`.
    Duration::from_millis(u64::try_from((of.as_millis() * number) >> 32).unwrap_or(u64::MAX))
}

/// Asks the authority when it would like a certificate of its own renewed, if it is time to.
pub(super) async fn ask_if_due(config: &Config, wanted: &Wanted, resolver: &Resolver, challenges: &Challenges) {
    let (at, before) = (now(), wanted.advice(config));
    if at < before.next || wanted.standing(config).map_or(true, |standing| standing.stands_in) {
        return;
    }
    // Asking has failed before it begins, on disk: whoever cannot remember does not ask.
    let mut advice = Advice { next: at.after(AFTER_FAILURE), ..before.clone() };
    if let Err(error) = wanted.take_advice(config, &advice) {
        return warn!(certificate = %wanted.name, %error, "what the authority suggests cannot be remembered, and so it is not asked");
    }
    match ask(config, wanted, resolver, challenges).await {
        Ok(found) => advice = Advice::of(advice.certificate, at, found),
        Err(error) => return warn!(certificate = %wanted.name, %error, "the authority does not say when to renew it"),
    }
    if let Some(window) = advice.window.as_ref().filter(|_| advice.window != before.window) {
        let (start, end) = (window.start.to_rfc3339(), window.end.to_rfc3339());
        info!(certificate = %wanted.name, start, end, why = window.explanation, "the authority suggests a time for renewal");
    }
    if let Err(error) = wanted.take_advice(config, &advice) {
        warn!(certificate = %wanted.name, %error, "what the authority suggests cannot be remembered");
    }
}

impl Advice {
    /// What was found at this time for the certificate of this SHA-256 in base64url; nothing, where the authority has no such service.
    pub fn of(certificate: String, at: Timestamp, found: Option<Suggestion>) -> Self {
        let pause = found.as_ref().map_or(LONGEST_PAUSE, |suggestion| suggestion.pause);
        Self { certificate, next: at.after(pause), window: found.map(|suggestion| suggestion.window) }
    }
}

async fn ask(
    config: &Config,
    wanted: &Wanted,
    resolver: &Resolver,
    challenges: &Challenges,
) -> Result<Option<Suggestion>> {
    let Some(acme) = &config.acme else { bail!("there is no [acme] any more") };
    // Without an account at this authority the certificate is another's.
    let Some(account) = read_account(&account_file(config, acme))? else { return Ok(None) };
    let authority = authority(acme, resolver, challenges)?;
    Ok(authority.suggestion(account, &wanted.certificate(config)?).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn standing() -> Standing {
        let from = Timestamp::from_secs(1_800_000_000);
        Standing { from, to: from.after(90 * DAY), names: Vec::new(), stands_in: false }
    }

    fn at(window: Option<(Timestamp, Timestamp)>, certificate: &str) -> Timestamp {
        let window = window.map(|(start, end)| Window { start, end, explanation: None });
        let advice = Advice { certificate: certificate.to_owned(), next: Timestamp::default(), window };
        moment(&Domain::parse("mx.a.example").unwrap(), &standing(), &advice)
    }

    #[test]
    fn a_moment_in_the_window_that_stays_and_is_another_for_each_certificate() {
        let start = standing().from.after(30 * DAY);
        let window = Some((start, start.after(DAY)));
        let moments: Vec<_> = (0..100).map(|n| at(window, &n.to_string())).collect();
        assert!(moments.iter().all(|moment| *moment >= start && *moment < start.after(DAY)), "{moments:?}");
        let early = moments.iter().filter(|moment| **moment < start.after(DAY / 2)).count();
        assert!((25..75).contains(&early), "{early} of 100 in the first half");
        assert_eq!(moments[7], at(window, "7"));
    }

    #[test]
    fn without_a_suggestion_it_is_a_third_of_the_lifetime() {
        let at = at(None, "x");
        let start = standing().from;
        assert!(at >= start.after(60 * DAY) && at < start.after(64 * DAY), "{at:?}");
    }

    #[test]
    fn an_authority_that_always_suggests_the_past_or_never_an_end_is_kept_within_bounds() {
        let Standing { from, to, .. } = standing();
        assert_eq!(at(Some((Timestamp::default(), from)), "x"), from.after(LEAST_AGE));
        let never = Timestamp::from_secs(u64::from(u32::MAX) * 8);
        assert_eq!(at(Some((to, never)), "x"), to.before(9 * DAY));
        // However short it lives.
        let short = Standing { to: from.after(LEAST_AGE), ..standing() };
        let window = Some(Window { start: Timestamp::default(), end: from, explanation: None });
        let advice = Advice { window, ..Advice::default() };
        assert_eq!(moment(&Domain::parse("x.example").unwrap(), &short, &advice), from.after(LEAST_AGE / 8));
    }

    #[test]
    fn a_suggestion_is_remembered_for_its_certificate_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let config = crate::acme::tests::config(folder.path(), "");
        crate::acme::files(&config).unwrap();
        let wanted = &crate::acme::wanted(&config)[0];
        let fresh = wanted.advice(&config);
        assert!(fresh.window.is_none() && fresh.next == Timestamp::default() && !fresh.certificate.is_empty());
        let (start, pause) = (standing().from, Duration::from_secs(3600));
        let window = Window { start, end: start.after(DAY), explanation: Some("https://x.example/why".to_owned()) };
        let known = Advice::of(fresh.certificate.clone(), start, Some(Suggestion { window, pause }));
        assert_eq!(known.next, start.after(pause));
        wanted.take_advice(&config, &known).unwrap();
        assert_eq!(wanted.advice(&config), known);
        fs::remove_file(wanted.file(&config)).unwrap();
        crate::acme::files(&config).unwrap();
        assert_eq!(wanted.advice(&config).window, None, "another certificate is in its place");
        assert_eq!(Advice::of(String::new(), start, None).next, start.after(LONGEST_PAUSE));
    }
}
