//! A DMARC report as XML (RFC 7489 appendix C, RFC 9990 §3), and what goes around it (RFC 7489 §7.2.1.1).

use std::io;

use mail::Domain;
use mail_auth::report::{
    ActionDisposition, Alignment, AuthResult, DKIMAuthResult, DateRange, Discovery, Disposition, DkimResult,
    DmarcResult, Identifier, PolicyEvaluated, PolicyOverride, PolicyOverrideReason, PolicyPublished, Record, Report,
    ReportMetadata, Row as ReportRow, SPFAuthResult, SPFDomainScope, SpfResult,
};
use policy::evidence::{DmarcPolicy, Published};

use super::super::day::Period;
use super::super::letter::{Draft, gzip};
use super::{DmarcReports, Done, Override, Row, Tally};

/// The report of a domain.
pub(super) fn draft(by: &DmarcReports, domain: &Domain, period: Period, tally: &Tally) -> io::Result<Draft> {
    let submitter = &by.by.domain;
    let (begin, end) = (period.from.as_secs(), period.to.as_secs());
    // The same for the same domain and period: who gets it twice can tell.
    let id = format!("{begin}.{end}.{domain}@{submitter}");
    let report = Report {
        version: 1.0,
        report_metadata: ReportMetadata {
            org_name: by.by.organization.clone(),
            email: by.by.contact.to_string(),
            report_id: id.clone(),
            // Both ends are within (RFC 7489 appendix C).
            date_range: DateRange { begin, end: end.saturating_sub(1).max(begin) },
            generator: Some(format!("Restante {}", env!("CARGO_PKG_VERSION"))),
            ..ReportMetadata::default()
        },
        policy_published: tally.published.as_ref().map(|published| policy(domain, published)).unwrap_or_default(),
        record: tally.rows.iter().map(|(row, count)| record(row, *count)).collect(),
        extensions: Vec::new(),
    };
    Ok(Draft {
        document: gzip(report.to_xml().as_bytes())?,
        media_type: "application/gzip".to_owned(),
        file_name: format!("{submitter}!{domain}!{begin}!{end}.xml.gz"),
        report_type: None,
        subject: format!("Report Domain: {domain} Submitter: {submitter} Report-ID: <{id}>"),
        fields: Vec::new(),
        text: format!(
            "This is a DMARC aggregate report (RFC 7489) on mail in the name of {domain}\nthat came to {submitter}, \
             between {} and {}.\n",
            period.from.to_rfc3339(),
            period.to.to_rfc3339()
        ),
    })
}

fn policy(domain: &Domain, published: &Published) -> PolicyPublished {
    let alignment = |strict| if strict { Alignment::Strict } else { Alignment::Relaxed };
    PolicyPublished {
        domain: domain.to_string(),
        adkim: alignment(published.strict_dkim),
        aspf: alignment(published.strict_spf),
        p: disposition(published.policy),
        sp: disposition(published.subdomains),
        np: disposition(published.missing),
        testing: published.testing,
        discovery_method: Discovery::Treewalk,
        ..PolicyPublished::default()
    }
}

fn disposition(policy: DmarcPolicy) -> Disposition {
    match policy {
        DmarcPolicy::None => Disposition::None,
        DmarcPolicy::Quarantine => Disposition::Quarantine,
        DmarcPolicy::Reject => Disposition::Reject,
    }
}

fn record(row: &Row, count: u32) -> Record {
    let aligned = |passed| if passed { DmarcResult::Pass } else { DmarcResult::Fail };
    let disposition = match row.done {
        Done::None if row.dkim_aligned || row.spf_aligned => ActionDisposition::Pass,
        Done::None => ActionDisposition::None,
        Done::Quarantine => ActionDisposition::Quarantine,
        Done::Reject => ActionDisposition::Reject,
    };
    let policy_evaluated = PolicyEvaluated {
        disposition,
        dkim: aligned(row.dkim_aligned),
        spf: aligned(row.spf_aligned),
        reason: row.reason.iter().map(|reason| PolicyOverrideReason { type_: word(*reason), comment: None }).collect(),
    };
    Record {
        row: ReportRow { source_ip: Some(row.source), count, policy_evaluated },
        identifiers: Identifier {
            envelope_to: None,
            envelope_from: row.envelope_from.clone().unwrap_or_default(),
            header_from: row.header_from.to_string(),
        },
        auth_results: AuthResult { dkim: row.dkim.iter().map(dkim).collect(), spf: row.spf.iter().map(spf).collect() },
        extensions: Vec::new(),
    }
}

fn word(reason: Override) -> PolicyOverride {
    match reason {
        Override::TrustedForwarder => PolicyOverride::TrustedForwarder,
        Override::LocalPolicy => PolicyOverride::LocalPolicy,
    }
}

fn dkim((domain, selector, result): &(String, String, String)) -> DKIMAuthResult {
    // The words of both are those of RFC 8601; another one reads as `none`.
    let result = result.parse().unwrap_or(DkimResult::None);
    DKIMAuthResult { domain: domain.clone(), selector: selector.clone(), result, human_result: None }
}

fn spf((domain, result): &(String, String)) -> SPFAuthResult {
    let result = result.parse().unwrap_or(SpfResult::None);
    SPFAuthResult { domain: domain.clone(), scope: SPFDomainScope::MailFrom, result, human_result: None }
}
