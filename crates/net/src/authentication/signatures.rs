//! DKIM (RFC 6376), ARC (RFC 8617) and DMARC (RFC 9989, whose records are those of RFC 7489), judged by the library
//! mail-auth from keys and records that are looked up here first.
//!
//! The library sees the header and the hashes of the body; it has no resolver of its own to ask. Ours to keep: how many
//! signatures are looked at, which algorithms are not believed any more (RFC 8301), and a From with several domains.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream;
use mail::Domain;
use mail_auth::arc::{Seal, Signature};
use mail_auth::common::crypto::Algorithm;
use mail_auth::common::headers::Header;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::{DomainKey, VerifySignature};
use mail_auth::dkim::DkimError;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::dmarc::{Alignment, Dmarc as DmarcRecord, Policy};
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::{
    AuthenticatedMessage, DkimOutput, DkimResult, DmarcResult, DnsError, Error, Parameters, ResolverCache, SpfOutput,
    SpfResult, Txt,
};
use policy::ContentEvidence;
use policy::evidence::{Arc as ArcEvidence, Dkim, Dmarc, DmarcPolicy, NoAuthor, Published, Spf, SpfVerdict, Verdict};
use policy::spf::{Answer, Question};

use super::Authenticator;
use super::content::Content;
use super::tags;

/// Most DKIM signatures that are looked at, from the top.
const MAX_SIGNATURES: usize = 10;
/// Most ARC sets (RFC 8617 §5.1.1.1.1).
const MAX_SETS: usize = 50;
/// Most domains of From that are judged; the strictest verdict holds.
const MAX_AUTHORS: usize = 4;
/// Look-ups at once.
const AT_ONCE: usize = 8;
/// Longest name that DMARC asks for, in labels, but for the domain itself (RFC 9989 §4.10).
const MAX_LABELS: usize = 7;

/// Judges content.
pub(super) async fn judge(authenticator: &Authenticator, content: &Content, spf: Option<&Spf>) -> ContentEvidence {
    let Some(mut message) = parse(&content.head) else {
        return ContentEvidence { no_author: Some(NoAuthor::Missing), ..ContentEvidence::default() };
    };
    prepare(&mut message, content);
    let mut texts = Texts { authenticator, known: Mutex::default(), until: tokio::time::Instant::now() };
    texts.until += authenticator.settings.patience;
    texts.fetch(signers(&message), |records| first(records, DomainKey::parse)).await;
    let library = &authenticator.library;
    let outputs = library.verify_dkim(Parameters::new(&message).with_txt_cache(&texts)).await;
    let authors_named = message.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"from")).count();
    let arc = arc(authenticator, &message, authors_named, &texts).await;
    let dkim = outputs.iter().map(|output| dkim(output, authors_named)).collect();
    // A signature that is not believed counts for nothing.
    let believed = outputs.into_iter().filter(|output| is_believed(output, authors_named));
    let believed: Vec<DkimOutput<'_>> = believed.collect();
    let (authors, are_readable) = authors(&message.from);
    let dmarc = dmarc(authenticator, &message, &authors, &believed, spf, &texts).await;
    let from = match authors.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    };
    let no_author = match authors_named {
        0 => Some(NoAuthor::Missing),
        1 if authors.is_empty() || !are_readable => Some(NoAuthor::Unreadable),
        1 => None,
        _ => Some(NoAuthor::Doubled),
    };
    ContentEvidence { from, no_author, dkim, arc, dmarc }
}

/// Reads a header. A field with blanks before its colon (RFC 5322 §4.5.8) is one of its name: readers show it, and a signature that
/// covers all fields of the name would otherwise not miss one that was added so.
pub(super) fn parse(head: &[u8]) -> Option<AuthenticatedMessage<'_>> {
    let mut message = AuthenticatedMessage::parse(head)?;
    let is_obsolete = |name: &[u8]| name.trim_ascii_end().len() < name.len();
    let obsolete = message.headers.iter().filter(|(name, _)| is_obsolete(name));
    let more: Vec<String> = obsolete.filter_map(|(name, value)| addresses(name, value)).flatten().collect();
    message.from.extend(more);
    message.headers.iter_mut().for_each(|(name, _)| *name = name.trim_ascii_end());
    Some(message)
}

/// Who stands in a From with blanks before its colon, which the library takes for a field of another name.
fn addresses(name: &[u8], value: &[u8]) -> Option<Vec<String>> {
    let field = name.trim_ascii_end().eq_ignore_ascii_case(b"from").then(|| [b"From:", value, b"\r\n"].concat())?;
    AuthenticatedMessage::parse(&field).map(|message| message.from.clone())
}

/// Fills in what was hashed, and takes out what is not looked at.
fn prepare(message: &mut AuthenticatedMessage<'_>, content: &Content) {
    for (form, algorithm, _, hash) in &mut message.body_hashes {
        let hashed = content.hashes.iter().find(|(f, a, _)| f == form && a == algorithm);
        *hash = hashed.map(|(_, _, found)| found.clone()).unwrap_or_default();
    }
    // RFC 6376 §6.1.1: what is not written as it has to be is no signature.
    message.dkim_headers.retain(|field| tags::has_all(field.value, &["v", "a", "b", "bh", "d", "h", "s"]));
    message.dkim_headers.truncate(MAX_SIGNATURES);
    message.errors.truncate(MAX_SIGNATURES);
    for header in &mut message.dkim_headers {
        // No third-party signatures (RFC 6541), no reports of failures (RFC 6651).
        (header.header.atps, header.header.r) = (None, false);
    }
}

/// The names of all keys that are needed.
fn signers(message: &AuthenticatedMessage<'_>) -> Vec<String> {
    let dkim = message.dkim_headers.iter().map(|header| header.header.domain_key());
    let seals = message.as_headers.iter().take(MAX_SETS).map(|header| header.header.domain_key());
    let messages = message.ams_headers.iter().take(MAX_SETS).map(|header| header.header.domain_key());
    let mut names: Vec<String> = dkim.chain(seals).chain(messages).map(|name| name.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    names
}

/// RFC 8301 §3: rsa-sha1 is no proof of anything.
fn is_weak(output: &DkimOutput<'_>) -> bool {
    output.signature().is_some_and(|signature| signature.a == Algorithm::RsaSha1)
}

/// RFC 6376 §5.4, §8.15: a signature that does not cover every From there is says nothing of the author whom a reader sees.
fn covers_author(output: &DkimOutput<'_>, authors: usize) -> bool {
    output.signature().is_some_and(|signature| authors_covered(&signature.h) >= authors.max(1))
}

/// How many From the names of signed fields cover.
fn authors_covered(signed: &[String]) -> usize {
    signed.iter().filter(|name| name.eq_ignore_ascii_case("from")).count()
}

fn is_believed(output: &DkimOutput<'_>, authors: usize) -> bool {
    !is_weak(output) && (covers_author(output, authors) || *output.result() != DkimResult::Pass)
}

fn dkim(output: &DkimOutput<'_>, authors: usize) -> Dkim {
    let (verdict, reason) = match output.result() {
        DkimResult::Pass if is_weak(output) => (Verdict::Policy, "rsa-sha1 is not believed".to_owned()),
        DkimResult::Pass if !covers_author(output, authors) => (Verdict::Policy, "a From is not signed".to_owned()),
        result => verdict(result),
    };
    let (domain, selector) = output.signature().map(|s| (s.d.clone(), s.s.clone())).unwrap_or_default();
    Dkim { verdict, domain, selector, reason }
}

/// The library's result in the words of RFC 8601.
fn verdict(result: &DkimResult) -> (Verdict, String) {
    match result {
        DkimResult::Pass => (Verdict::Pass, String::new()),
        DkimResult::Neutral(error) if is_changed_body(error) => (Verdict::Fail, "the body was changed".to_owned()),
        DkimResult::Neutral(error) => (Verdict::Neutral, error.to_string()),
        DkimResult::Fail(error) => (Verdict::Fail, error.to_string()),
        DkimResult::PermError(error) => (Verdict::PermError, error.to_string()),
        DkimResult::TempError(error) => (Verdict::TempError, error.to_string()),
        DkimResult::None => (Verdict::None, String::new()),
    }
}

fn is_changed_body(error: &Error) -> bool {
    matches!(
        error,
        Error::Dkim(DkimError::FailedBodyHashMatch) | Error::Arc(mail_auth::arc::ArcError::FailedBodyHashMatch)
    )
}

async fn arc(
    authenticator: &Authenticator,
    message: &AuthenticatedMessage<'_>,
    authors: usize,
    texts: &Texts<'_>,
) -> ArcEvidence {
    let output = authenticator.library.verify_arc(Parameters::new(message).with_txt_cache(texts)).await;
    let last = output.sets().last();
    let sealer = last.and_then(|set| Domain::parse(&set.seal.header.d).ok());
    let dmarc_passed = last.is_some_and(|set| policy::sealed::says_dmarc_passed(set.results.value));
    let verdict = match verdict(output.result()).0 {
        // RFC 8617 §4.4 knows three results.
        Verdict::Neutral | Verdict::Policy | Verdict::PermError => Verdict::Fail,
        // The library takes sets by their signatures: seals and results without any are no whole chain.
        Verdict::None if !message.as_headers.is_empty() || !message.aar_headers.is_empty() => Verdict::Fail,
        Verdict::Pass if last.is_none_or(|set| authors_covered(&set.signature.header.h) < authors) => Verdict::Fail,
        Verdict::Pass if !are_sound(message) => Verdict::Fail,
        verdict => verdict,
    };
    ArcEvidence { verdict, sealer, dmarc_passed }
}

/// Are all fields of a chain written as they have to be (RFC 8617 §4.1)? The algorithm is one that is believed, and no set signs seals.
fn are_sound(message: &AuthenticatedMessage<'_>) -> bool {
    let is_sound_seal = |field: &Header<'_, Seal>| {
        field.header.a != Algorithm::RsaSha1 && tags::has_all(field.value, &["i", "a", "b", "cv", "d", "s"])
    };
    let is_sound_signature = |field: &Header<'_, Signature>| {
        let signs_seals = field.header.h.iter().any(|name| name.eq_ignore_ascii_case("arc-seal"));
        let has_tags = tags::has_all(field.value, &["i", "a", "b", "bh", "d", "h", "s"]);
        has_tags && !signs_seals && field.header.a != Algorithm::RsaSha1
    };
    message.as_headers.iter().all(is_sound_seal) && message.ams_headers.iter().all(is_sound_signature)
}

/// The domains of From, each once, and whether all of them could be read. What has no `@` is no address: names with a comma in them are
/// common.
fn authors(from: &[String]) -> (Vec<Domain>, bool) {
    let (mut domains, mut are_readable) = (Vec::new(), true);
    for (_, domain) in from.iter().filter_map(|address| address.rsplit_once('@')) {
        // The final dot of a full name says nothing else (RFC 1034 §3.1), and readers do not see it.
        match Domain::parse(domain.strip_suffix('.').unwrap_or(domain)) {
            Ok(domain) if domains.contains(&domain) => {}
            Ok(domain) => domains.push(domain),
            Err(_) => are_readable = false,
        }
    }
    (domains, are_readable)
}

/// DMARC for every domain of From: whoever names several is judged by the strictest (RFC 7489 §6.6.1).
async fn dmarc(
    authenticator: &Authenticator,
    message: &AuthenticatedMessage<'_>,
    authors: &[Domain],
    signatures: &[DkimOutput<'_>],
    spf: Option<&Spf>,
    texts: &Texts<'_>,
) -> Dmarc {
    if authors.len() > MAX_AUTHORS {
        let domain = authors[0].to_string();
        return Dmarc { verdict: Verdict::Fail, policy: DmarcPolicy::Reject, domain, ..Dmarc::default() };
    }
    let mut strictest = Dmarc::default();
    for author in authors {
        let names = policy_names(author, signatures, spf);
        texts.fetch(names, |records| only(records, b"v=DMARC1", DmarcRecord::parse)).await;
        let alone = AuthenticatedMessage { from: vec![format!("x@{author}")], ..message.clone() };
        let found = judge_author(authenticator, &alone, author, signatures, spf, texts).await;
        if severity(&found) >= severity(&strictest) {
            strictest = found;
        }
    }
    strictest
}

fn severity(dmarc: &Dmarc) -> (u8, u8) {
    let verdict = match dmarc.verdict {
        Verdict::None => 0,
        Verdict::Pass => 1,
        Verdict::TempError => 2,
        Verdict::PermError | Verdict::Neutral | Verdict::Policy => 3,
        Verdict::Fail => 4,
    };
    (verdict, dmarc.policy as u8)
}

/// Where the records may be that the library will look for: above the author, and above whoever could be aligned.
fn policy_names(author: &Domain, signatures: &[DkimOutput<'_>], spf: Option<&Spf>) -> Vec<String> {
    let signed = signatures.iter().filter_map(|output| Domain::parse(&output.signature()?.d).ok());
    let sent = spf.and_then(|spf| Domain::parse(&spf.domain).ok());
    let related = signed.chain(sent).filter(|domain| domain.registrable() == author.registrable());
    let mut names = Vec::new();
    for domain in related.chain([author.clone()]) {
        let labels = domain.as_str().split('.').count();
        let ancestors = std::iter::successors(Some(domain), Domain::parent).enumerate();
        let asked = ancestors.filter(|(above, _)| *above == 0 || labels - above <= MAX_LABELS);
        names.extend(asked.map(|(_, name)| format!("_dmarc.{name}.")));
    }
    names.sort();
    names.dedup();
    names
}

async fn judge_author(
    authenticator: &Authenticator,
    message: &AuthenticatedMessage<'_>,
    author: &Domain,
    signatures: &[DkimOutput<'_>],
    spf: Option<&Spf>,
    texts: &Texts<'_>,
) -> Dmarc {
    let spf_domain = spf.map(|spf| spf.domain.as_str()).unwrap_or_default();
    let spf_output = SpfOutput::new(spf_domain.to_owned()).with_result(spf.map_or(SpfResult::None, as_result));
    let parameters = DmarcParameters {
        message,
        dkim_output: signatures,
        dkim2_output: None,
        rfc5321_mail_from_domain: spf_domain,
        spf_output: &spf_output,
    };
    let output = authenticator.library.verify_dmarc(Parameters::new(parameters).with_txt_cache(texts)).await;
    let verdict = match output.result() {
        DmarcResult::Pass => Verdict::Pass,
        DmarcResult::Fail(_) => Verdict::Fail,
        DmarcResult::TempError(_) => Verdict::TempError,
        DmarcResult::PermError(_) => Verdict::PermError,
        DmarcResult::None => Verdict::None,
    };
    let mut policy = output.policy();
    if let Some(record) = output.dmarc_record()
        && record.np != record.sp
        && !texts.has(&format!("_dmarc.{author}."))
        && texts.is_missing(author).await
    {
        policy = if record.t { weaker(record.np) } else { record.np };
    }
    Dmarc {
        verdict,
        policy: as_policy(policy),
        domain: author.to_string(),
        dkim_aligned: *output.dkim_result() == DmarcResult::Pass,
        spf_aligned: *output.spf_result() == DmarcResult::Pass,
        published: output.dmarc_record().and_then(|record| published(record, author, texts)),
    }
}

/// The record, and where it stands: at the author's domain, or the nearest above.
fn published(record: &DmarcRecord, author: &Domain, texts: &Texts<'_>) -> Option<Published> {
    let stands_at = |domain: &Domain| match texts.get(format!("_dmarc.{domain}.").as_str()) {
        Some(Txt::Dmarc(found)) => *found == *record,
        _ => false,
    };
    let domain = std::iter::successors(Some(author.clone()), Domain::parent).find(stands_at)?;
    Some(Published {
        domain,
        strict_dkim: record.adkim == Alignment::Strict,
        strict_spf: record.aspf == Alignment::Strict,
        policy: as_policy(record.p),
        subdomains: as_policy(record.sp),
        missing: as_policy(record.np),
        testing: record.t,
        wants_reports: !record.rua.is_empty(),
    })
}

/// Test mode (RFC 9989 §4.7, `t=y`).
fn weaker(policy: Policy) -> Policy {
    match policy {
        Policy::Reject => Policy::Quarantine,
        _ => Policy::None,
    }
}

fn as_policy(policy: Policy) -> DmarcPolicy {
    match policy {
        Policy::Reject => DmarcPolicy::Reject,
        Policy::Quarantine => DmarcPolicy::Quarantine,
        Policy::None | Policy::Unspecified => DmarcPolicy::None,
    }
}

fn as_result(spf: &Spf) -> SpfResult {
    match spf.verdict {
        SpfVerdict::None => SpfResult::None,
        SpfVerdict::Neutral => SpfResult::Neutral,
        SpfVerdict::Pass => SpfResult::Pass,
        SpfVerdict::Fail => SpfResult::Fail,
        SpfVerdict::SoftFail => SpfResult::SoftFail,
        SpfVerdict::TempError => SpfResult::TempError,
        SpfVerdict::PermError => SpfResult::PermError,
    }
}

/// TXT records in the library's form: what it is given instead of a resolver.
struct Texts<'a> {
    authenticator: &'a Authenticator,
    known: Mutex<HashMap<Box<str>, Txt>>,
    /// When patience ends.
    until: tokio::time::Instant,
}

impl Texts<'_> {
    /// Looks up names that are not known yet. They end in a dot.
    async fn fetch<T: Into<Txt>>(&self, names: Vec<String>, parse: impl Fn(&[Vec<u8>]) -> mail_auth::Result<T>) {
        let wanted: Vec<String> = names.into_iter().filter(|name| self.get(name.as_str()).is_none()).collect();
        let (authenticator, until) = (self.authenticator, self.until);
        let ask = |name: String| async move {
            let question = Question::Txt(name.trim_end_matches('.').to_owned());
            let answer = tokio::time::timeout_at(until, authenticator.ask(&question)).await;
            (name, answer.unwrap_or(Answer::Temporary))
        };
        let answers: Vec<(String, Answer)> = stream::iter(wanted).map(ask).buffer_unordered(AT_ONCE).collect().await;
        for (name, answer) in answers {
            let text = match answer {
                Answer::Texts(records) => parse(&records).map_or_else(Txt::Error, Into::into),
                Answer::Temporary => Txt::Error(Error::Dns(DnsError::Resolver("no answer".to_owned()))),
                _ => Txt::Error(not_found()),
            };
            self.known().insert(name.into_boxed_str(), text);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Box<str>, Txt>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is there a record of this name?
    fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|text| !matches!(text, Txt::Error(_)))
    }

    /// Does the domain not exist? It is asked for as RFC 9989 §4.10.1 does, by its addresses.
    async fn is_missing(&self, domain: &Domain) -> bool {
        let answer = tokio::time::timeout_at(self.until, self.authenticator.exists(domain.as_str())).await;
        answer.is_ok_and(|exists| exists == Some(false))
    }
}

impl ResolverCache<Box<str>, Txt> for Texts<'_> {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.known().get(name).cloned()
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

fn not_found() -> Error {
    Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain))
}

/// The first record that can be read, else the first mistake.
fn first<T>(records: &[Vec<u8>], parse: impl Fn(&[u8]) -> mail_auth::Result<T>) -> mail_auth::Result<T> {
    let mut mistake = None;
    for record in records {
        match parse(record) {
            Ok(found) => return Ok(found),
            Err(error) => mistake = mistake.or(Some(error)),
        }
    }
    Err(mistake.unwrap_or_else(not_found))
}

/// The only record that begins so; several are as good as none (RFC 9989 §4.10).
fn only<T>(records: &[Vec<u8>], begin: &[u8], parse: impl Fn(&[u8]) -> mail_auth::Result<T>) -> mail_auth::Result<T> {
    let mut fitting = records.iter().filter(|record| record.starts_with(begin));
    match (fitting.next(), fitting.next()) {
        (Some(record), None) => parse(record).map_err(|_| not_found()),
        _ => Err(not_found()),
    }
}
