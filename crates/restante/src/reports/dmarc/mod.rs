//! DMARC aggregate reports (RFC 7489 §7.2, RFC 9990): what was found of mail in the name of other domains, told to those who ask for
//! it, and what others found of mail in the name of ours.
//!
//! What was found comes from the inbound policy, message by message; when and how reports go is the same for all kinds. A place
//! outside of the domain gets reports only if it says that it wants them (RFC 7489 §7.1).

mod read;
mod write;

use std::collections::BTreeMap;
use std::net::IpAddr;

use mail::Domain;
use mail::ledger::Source;
use mail::report_uri::ReportUri;
use mail_auth::common::parse::TxtRecordParser as _;
use mail_auth::dmarc::Dmarc;
use net::dns::{DnsError, Resolver};
use policy::evidence::{DmarcPolicy, Identity, Published, SpfVerdict, Verdict};
use policy::{Decision, Disposition, Evidence, Reason};
use serde::{Deserialize, Serialize};

use super::day::Period;
use super::letter::Draft;
use super::reporter::Kind;
use super::tls::Submitter;

pub use read::{DmarcSummary, read_part};

/// The name of the kind.
pub const NAME: &str = "dmarc";
/// Most rows of one report: messages that look the same are one row, what is beyond is left out.
const MAX_ROWS: usize = 2_000;
/// Most places of one domain (RFC 7489 §6.2 asks for two at least).
const MAX_PLACES: usize = 4;
/// A place that takes no message of this size gets none: all reports stay below it, octets.
const LARGEST: usize = 1024 * 1024;
/// Most signatures of one message that are told.
const MAX_SIGNATURES: usize = 4;

/// The kind.
#[derive(Debug, Clone)]
pub(crate) struct DmarcReports {
    pub(crate) resolver: Resolver,
    pub(crate) by: Submitter,
}

/// What was found of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmarcResult {
    published: Published,
    row: Row,
}

/// What makes messages look the same in a report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Row {
    source: IpAddr,
    header_from: Domain,
    /// Of the reverse-path, where SPF was asked for that.
    envelope_from: Option<String>,
    done: Done,
    dkim_aligned: bool,
    spf_aligned: bool,
    /// Why something else was done than the domain asks for.
    reason: Option<Override>,
    /// Domain, selector and result.
    dkim: Vec<(String, String, String)>,
    /// Domain and result.
    spf: Option<(String, String)>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Done {
    /// Nothing because of DMARC.
    None,
    /// It was marked.
    Quarantine,
    /// It was refused.
    Reject,
}

/// Whose word counted more than the domain's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Override {
    /// A forwarder that is trusted here.
    TrustedForwarder,
    /// The configuration.
    LocalPolicy,
}

impl DmarcResult {
    /// What is reported of a message; nothing where nobody wants to know.
    pub(crate) fn of(evidence: &Evidence, decision: &Decision) -> Option<Self> {
        let content = evidence.content.as_ref()?;
        let dmarc = &content.dmarc;
        let published = dmarc.published.clone().filter(|published| published.wants_reports)?;
        let spf = evidence.session.spf.as_ref();
        let by_sender = spf.filter(|spf| spf.identity == Identity::MailFrom);
        let told = content.dkim.iter().filter(|dkim| !dkim.domain.is_empty()).take(MAX_SIGNATURES);
        let done = match (&decision.reason, decision.disposition) {
            (Reason::DmarcReject(_) | Reason::DmarcQuarantine(_), Disposition::Refuse) => Done::Reject,
            (Reason::DmarcReject(_) | Reason::DmarcQuarantine(_), Disposition::Mark) => Done::Quarantine,
            _ => Done::None,
        };
        let row = Row {
            source: evidence.session.client.to_canonical(),
            header_from: Domain::parse(&dmarc.domain).ok()?,
            envelope_from: by_sender.map(|spf| spf.domain.clone()),
            done,
            dkim_aligned: dmarc.dkim_aligned,
            spf_aligned: dmarc.spf_aligned,
            reason: reason(dmarc.verdict, dmarc.policy, done, &decision.reason),
            dkim: told.map(|dkim| (dkim.domain.clone(), dkim.selector.clone(), dkim.verdict.to_string())).collect(),
            spf: by_sender
                .filter(|spf| spf.verdict != SpfVerdict::None)
                .map(|s| (s.domain.clone(), s.verdict.to_string())),
        };
        Some(Self { published, row })
    }
}

/// Why less, or more, was done than the domain asks for.
fn reason(verdict: Verdict, wanted: DmarcPolicy, done: Done, why: &Reason) -> Option<Override> {
    let asked = match wanted {
        _ if verdict != Verdict::Fail => Done::None,
        DmarcPolicy::None => Done::None,
        DmarcPolicy::Quarantine => Done::Quarantine,
        DmarcPolicy::Reject => Done::Reject,
    };
    match why {
        _ if asked == done => None,
        Reason::TrustedSealer(_) | Reason::TrustedRelays(_) => Some(Override::TrustedForwarder),
        _ => Some(Override::LocalPolicy),
    }
}

/// Messages of one domain.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// As it was published last.
    published: Option<Published>,
    rows: BTreeMap<Row, u32>,
}

impl Kind for DmarcReports {
    const NAME: &'static str = NAME;
    const SOURCE: Source = Source::DmarcReport;
    type Event = DmarcResult;
    type Tally = Tally;

    fn domain(event: &DmarcResult) -> &Domain {
        &event.published.domain
    }

    fn count(tally: &mut Tally, event: DmarcResult) {
        tally.published = Some(event.published);
        if tally.rows.len() < MAX_ROWS || tally.rows.contains_key(&event.row) {
            let count = tally.rows.entry(event.row).or_default();
            *count = count.saturating_add(1);
        }
    }

    async fn places(&self, domain: &Domain) -> Result<Vec<ReportUri>, String> {
        let Ok(name) = domain.child("_dmarc") else { return Ok(Vec::new()) };
        let mut places = Vec::new();
        for place in wanted(&self.texts(&name).await?) {
            if self.is_willing(domain, &place).await? {
                places.push(place);
            }
        }
        Ok(places)
    }

    fn draft(&self, domain: &Domain, period: Period, tally: Tally) -> Result<Draft, String> {
        write::draft(self, domain, period, &tally).map_err(|error| error.to_string())
    }
}

impl DmarcReports {
    async fn texts(&self, name: &Domain) -> Result<Vec<String>, String> {
        match self.resolver.txt(name).await {
            Ok(answer) => Ok(answer.value),
            Err(DnsError::NoSuchDomain | DnsError::NoRecords) => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Does the place take reports about the domain? Outside of it, only with its own record (RFC 7489 §7.1).
    async fn is_willing(&self, domain: &Domain, place: &ReportUri) -> Result<bool, String> {
        let ReportUri::Mail(address) = place else { return Ok(false) };
        let Some(host) = address.domain() else { return Ok(false) };
        if host.registrable() == domain.registrable() {
            return Ok(true);
        }
        let Ok(name) = Domain::parse(&format!("{domain}._report._dmarc.{host}")) else { return Ok(false) };
        Ok(self.texts(&name).await?.iter().any(|text| is_record(text)))
    }
}

fn is_record(text: &str) -> bool {
    text.split(';').next().is_some_and(|version| version.split_ascii_whitespace().collect::<String>() == "v=DMARC1")
}

/// Where the record of a domain wants reports; of several records none counts (RFC 7489 §6.6.3).
fn wanted(texts: &[String]) -> Vec<ReportUri> {
    let mut records = texts.iter().filter(|text| is_record(text));
    let (Some(record), None) = (records.next(), records.next()) else { return Vec::new() };
    let Ok(record) = Dmarc::parse(record.as_bytes()) else { return Vec::new() };
    let large = record.rua.iter().filter(|uri| uri.max_size == 0 || uri.max_size >= LARGEST);
    large.filter_map(|uri| format!("mailto:{}", uri.uri).parse().ok()).take(MAX_PLACES).collect()
}

#[cfg(test)]
mod tests;
