//! `restante reports`: what others report of mail with this server, and a push for what it reports to others.

use hyper::Method;
use serde::de::DeserializeOwned;

use super::args::{Global, ListReportsArgs, ReportsCommand};
use super::client::Client;
use super::output::{Exit, Failure, Outcome, Output};
use crate::admin::api::{self, ReportsSent};
use crate::config::Config;
use crate::reports::dmarc::{self, DmarcSummary};
use crate::reports::inbox::{Archive, Received};
use crate::reports::received_dir;
use crate::reports::tls::{self, TlsSummary};

/// Carries a command out.
pub(super) fn run(command: &ReportsCommand, global: &Global, output: Output) -> Outcome {
    match command {
        ReportsCommand::Tls(args) => of_tls(args, global, output),
        ReportsCommand::Dmarc(args) => of_dmarc(args, global, output),
        ReportsCommand::Send => send(global, output),
    }
}

/// All reports of a kind, newest first.
fn all<R: DeserializeOwned>(kind: &str, global: &Global) -> Result<Vec<Received<R>>, Failure> {
    let config = Config::load(&global.config).map_err(|errors| Failure::config(&errors))?;
    let archive = Archive::new(received_dir(&config.reports_dir()));
    archive.list(kind, usize::MAX).map_err(|error| {
        let folder = config.reports_dir();
        Failure::new(format!("cannot read the reports in {}: {error}", folder.display()))
    })
}

fn of_dmarc(args: &ListReportsArgs, global: &Global, output: Output) -> Outcome {
    let all: Vec<Received<DmarcSummary>> = all(dmarc::NAME, global)?;
    let about = |report: &DmarcSummary| {
        let wanted = args.domain.as_ref();
        wanted.is_none_or(|domain| report.domain.eq_ignore_ascii_case(domain.as_str()))
    };
    let reports: Vec<_> = all.into_iter().filter(|received| about(&received.report)).take(args.limit).collect();
    output.print(&reports, || dmarc_text(&reports));
    Ok(Exit::Done)
}

fn dmarc_text(reports: &[Received<DmarcSummary>]) -> String {
    if reports.is_empty() {
        return "There are no reports. They come to the `report_address` of a domain, once its DMARC record asks for them."
            .to_owned();
    }
    reports.iter().flat_map(dmarc_lines).collect::<Vec<_>>().join("\n")
}

fn dmarc_lines(received: &Received<DmarcSummary>) -> Vec<String> {
    let report = &received.report;
    let signed = signed(received);
    let mut lines =
        vec![format!("{} to {}  {} on {} ({signed})", report.from, report.to, report.organization, report.domain)];
    for row in &report.rows {
        let yes = |passed| if passed { "pass" } else { "fail" };
        let (dkim, spf, from) = (yes(row.dkim), yes(row.spf), &row.header_from);
        lines.push(format!("  {} from {}: DKIM {dkim}, SPF {spf}, {} ({from})", row.count, row.source, row.done));
    }
    lines
}

/// Who signed it, in words.
fn signed<R>(received: &Received<R>) -> String {
    match received.signed_by.as_slice() {
        [] => "not signed".to_owned(),
        domains => format!("signed by {}", domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn of_tls(args: &ListReportsArgs, global: &Global, output: Output) -> Outcome {
    let all: Vec<Received<TlsSummary>> = all(tls::NAME, global)?;
    let about = |report: &TlsSummary| {
        let wanted = args.domain.as_ref();
        wanted.is_none_or(|domain| report.policies.iter().any(|p| p.domain.eq_ignore_ascii_case(domain.as_str())))
    };
    let reports: Vec<_> = all.into_iter().filter(|received| about(&received.report)).take(args.limit).collect();
    output.print(&reports, || tls_text(&reports));
    Ok(Exit::Done)
}

fn tls_text(reports: &[Received<TlsSummary>]) -> String {
    if reports.is_empty() {
        return "There are no reports. They come to the `report_address` of a domain, once its TLSRPT record asks for them."
            .to_owned();
    }
    reports.iter().flat_map(report_lines).collect::<Vec<_>>().join("\n")
}

fn report_lines(received: &Received<TlsSummary>) -> Vec<String> {
    let report = &received.report;
    let signed = signed(received);
    let mut lines = vec![format!("{} to {}  {} ({signed})", report.from, report.to, report.organization)];
    for policy in &report.policies {
        let (good, bad) = (policy.good, policy.bad);
        lines.push(format!("  {} {}: {good} good, {bad} failed", policy.domain, policy.kind));
        let failures = policy.failures.iter();
        lines.extend(
            failures.map(|f| format!("    {} {} at {} {}", f.count, f.kind, f.host, f.reason).trim_end().to_owned()),
        );
    }
    lines
}

fn send(global: &Global, output: Output) -> Outcome {
    let sent: ReportsSent = Client::new(global)?.ask(Method::POST, api::REPORTS_SEND)?;
    output.print(&sent, || {
        let line = |kind: &api::KindSent| {
            format!("{}: {} handed over, {} waiting", kind.kind, kind.sent.handed_over, kind.sent.waiting)
        };
        match sent.kinds.is_empty() {
            true => "No kind of report is configured.".to_owned(),
            false => sent.kinds.iter().map(line).collect::<Vec<_>>().join("\n"),
        }
    });
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::inbox::Part;

    #[test]
    fn a_report_is_shown_in_a_few_lines() {
        let json = br#"{"organization-name":"X","date-range":{"start-datetime":"2026-11-28T00:00:00Z","end-datetime":"2026-11-29T00:00:00Z"},
            "report-id":"1","policies":[{"policy":{"policy-type":"sts","policy-domain":"a.example"},
            "summary":{"total-successful-session-count":5,"total-failure-session-count":2},
            "failure-details":[{"result-type":"certificate-expired","receiving-mx-hostname":"mx.a.example","failed-session-count":2}]}]}"#;
        let part =
            Part { media_type: "application/tlsrpt+json".into(), file_name: String::new(), octets: json.to_vec() };
        let report = serde_json::from_value(tls::read_part(&part).unwrap().unwrap()).unwrap();
        let to = "reports@a.example".parse().unwrap();
        let signed_by = vec!["x.example".parse().unwrap()];
        let received = Received { received: mail::Timestamp::from_secs(1), to, sender: None, signed_by, report };
        assert_eq!(
            tls_text(&[received]),
            "2026-11-28T00:00:00Z to 2026-11-29T00:00:00Z  X (signed by x.example)\n  a.example sts: 5 good, 2 failed\n    \
             2 certificate-expired at mx.a.example"
        );
        assert!(tls_text(&[]).starts_with("There are no reports."));
    }

    #[test]
    fn who_uses_a_domain_is_shown_row_by_row() {
        let xml = b"<feedback><report_metadata><org_name>X</org_name><date_range><begin>0</begin><end>86399</end></date_range>\
            </report_metadata><policy_published><domain>a.example</domain><p>reject</p></policy_published><record><row>\
            <source_ip>192.0.2.66</source_ip><count>3</count><policy_evaluated><disposition>reject</disposition>\
            <dkim>fail</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>a.example</header_from>\
            </identifiers></record></feedback>";
        let part = Part { media_type: "text/xml".into(), file_name: String::new(), octets: xml.to_vec() };
        let report = serde_json::from_value(dmarc::read_part(&part).unwrap().unwrap()).unwrap();
        let to = "reports@a.example".parse().unwrap();
        let received =
            Received { received: mail::Timestamp::from_secs(1), to, sender: None, signed_by: Vec::new(), report };
        assert_eq!(
            dmarc_text(&[received]),
            "1970-01-01T00:00:00.000Z to 1970-01-01T23:59:59.000Z  X on a.example (not signed)\n  \
             3 from 192.0.2.66: DKIM fail, SPF fail, reject (a.example)"
        );
        assert!(dmarc_text(&[]).starts_with("There are no reports."));
    }
}
