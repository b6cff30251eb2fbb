//! TLS reports (RFC 8460): how TLS went with the exchangers of other domains, told to those who ask for it, and what others tell
//! of ours.
//!
//! What happened comes from the SMTP client; when and how reports go is the same for all kinds.

mod read;
mod write;

use std::collections::BTreeMap;
use std::net::IpAddr;

use mail::ledger::Source;
use mail::report_uri::ReportUri;
use mail::{Address, Domain, tls_rpt};
use net::dns::{DnsError, Resolver};
use net::smtp_client::{TlsFault, TlsPolicyFound, TlsResult};

use super::day::Period;
use super::letter::Draft;
use super::reporter::Kind;

pub use read::{TlsSummary, read_part};

/// The name of the kind.
pub const NAME: &str = "tls";
/// Most policies of one domain in one report: they change seldom.
const MAX_POLICIES: usize = 8;
/// Most different failures under one policy; further ones count as failures without details.
const MAX_DETAILS: usize = 200;
/// Longest reason that is reported, in characters.
const MAX_REASON: usize = 200;

/// The kind.
#[derive(Debug, Clone)]
pub(crate) struct TlsReports {
    pub(crate) resolver: Resolver,
    pub(crate) by: Submitter,
}

/// Who reports.
#[derive(Debug, Clone)]
pub(crate) struct Submitter {
    /// The domain in whose name.
    pub(crate) domain: Domain,
    /// For people.
    pub(crate) organization: String,
    /// Whom readers may ask.
    pub(crate) contact: Address,
}

/// Connections under one policy.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    policies: BTreeMap<TlsPolicyFound, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    good: u64,
    bad: u64,
    details: BTreeMap<Detail, u64>,
}

/// Failures that look the same.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Detail {
    fault: TlsFault,
    host: Domain,
    peer: Option<IpAddr>,
    local: Option<IpAddr>,
    reason: String,
}

impl Kind for TlsReports {
    const NAME: &'static str = NAME;
    const SOURCE: Source = Source::TlsReport;
    type Event = TlsResult;
    type Tally = Tally;

    fn domain(event: &TlsResult) -> &Domain {
        &event.domain
    }

    fn count(tally: &mut Tally, event: TlsResult) {
        let TlsResult { policy, host, peer, local, fault, text, .. } = event;
        if tally.policies.len() >= MAX_POLICIES && !tally.policies.contains_key(&policy) {
            return;
        }
        let counts = tally.policies.entry(policy).or_default();
        let Some(fault) = fault else {
            counts.good += 1;
            return;
        };
        counts.bad += 1;
        let reason = text.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
        let detail = Detail { fault, host, peer, local, reason };
        if counts.details.len() < MAX_DETAILS || counts.details.contains_key(&detail) {
            *counts.details.entry(detail).or_default() += 1;
        }
    }

    async fn places(&self, domain: &Domain) -> Result<Vec<ReportUri>, String> {
        let Ok(name) = Domain::parse(&format!("{}.{domain}", tls_rpt::RECORD_LABELS)) else { return Ok(Vec::new()) };
        match self.resolver.txt(&name).await {
            Ok(answer) => Ok(tls_rpt::places(answer.value.iter().map(String::as_str))),
            Err(DnsError::NoSuchDomain | DnsError::NoRecords) => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn draft(&self, domain: &Domain, period: Period, tally: Tally) -> Result<Draft, String> {
        write::draft(&self.by, domain, period, &tally).map_err(|error| error.to_string())
    }
}
