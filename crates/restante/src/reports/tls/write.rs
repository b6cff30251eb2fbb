//! A TLS report as JSON (RFC 8460 §4.4), and what goes around it (§5).

use std::io;
use std::net::IpAddr;

use mail::Domain;
use net::smtp_client::{TlsFault, TlsPolicyFound};
use serde::Serialize;

use super::super::day::Period;
use super::super::letter::{Draft, gzip};
use super::{Counts, Detail, Submitter, Tally};

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report<'a> {
    organization_name: &'a str,
    date_range: Range,
    contact_info: String,
    report_id: &'a str,
    policies: Vec<Policy<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Range {
    start_datetime: String,
    end_datetime: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Policy<'a> {
    policy: Details<'a>,
    summary: Summary,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failure_details: Vec<Failure<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Details<'a> {
    policy_type: &'static str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    policy_string: &'a [String],
    policy_domain: &'a Domain,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mx_host: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Summary {
    total_successful_session_count: u64,
    total_failure_session_count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Failure<'a> {
    result_type: TlsFault,
    #[serde(skip_serializing_if = "Option::is_none")]
    sending_mta_ip: Option<IpAddr>,
    receiving_mx_hostname: &'a Domain,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiving_ip: Option<IpAddr>,
    failed_session_count: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    failure_reason_code: &'a str,
}

/// The report of a domain.
pub(super) fn draft(by: &Submitter, domain: &Domain, period: Period, tally: &Tally) -> io::Result<Draft> {
    let submitter = &by.domain;
    let (from, to) = (period.from.as_secs(), period.to.as_secs());
    // The same for the same domain and period: who gets it twice can tell.
    let id = format!("{from}.{to}.{domain}@{submitter}");
    let report = Report {
        organization_name: &by.organization,
        date_range: Range { start_datetime: moment(period.from), end_datetime: moment(period.to) },
        contact_info: by.contact.to_string(),
        report_id: &id,
        policies: tally.policies.iter().map(|(found, counts)| policy(domain, found, counts)).collect(),
    };
    Ok(Draft {
        document: gzip(&serde_json::to_vec(&report)?)?,
        media_type: "application/tlsrpt+gzip".to_owned(),
        file_name: format!("{submitter}!{domain}!{from}!{to}.json.gz"),
        report_type: Some("tlsrpt".to_owned()),
        subject: format!("Report Domain: {domain} Submitter: {submitter} Report-ID: <{id}>"),
        fields: vec![
            ("TLS-Report-Domain".to_owned(), domain.to_string()),
            ("TLS-Report-Submitter".to_owned(), submitter.to_string()),
        ],
        text: format!(
            "This is an aggregate report on TLS (RFC 8460) in mail sent to {domain},\nfrom {submitter}, between {} and {}.\n",
            moment(period.from),
            moment(period.to)
        ),
    })
}

/// RFC 3339, whole seconds.
fn moment(at: mail::Timestamp) -> String {
    at.to_rfc3339()
        .replace(".000Z", "Z")
        .split('.')
        .next()
        .map_or_else(String::new, |text| text.trim_end_matches('Z').to_owned() + "Z")
}

fn policy<'a>(domain: &'a Domain, found: &'a TlsPolicyFound, counts: &'a Counts) -> Policy<'a> {
    let (policy_type, policy_string): (_, &[String]) = match found {
        TlsPolicyFound::NoPolicyFound => ("no-policy-found", &[]),
        TlsPolicyFound::Sts(lines) => ("sts", lines),
        TlsPolicyFound::Tlsa(records) => ("tlsa", records),
    };
    let mx_host = match found {
        TlsPolicyFound::Sts(lines) => lines.iter().filter_map(|line| line.strip_prefix("mx: ")).collect(),
        _ => Vec::new(),
    };
    Policy {
        policy: Details { policy_type, policy_string, policy_domain: domain, mx_host },
        summary: Summary { total_successful_session_count: counts.good, total_failure_session_count: counts.bad },
        failure_details: counts.details.iter().map(|(detail, count)| failure(detail, *count)).collect(),
    }
}

fn failure(detail: &Detail, count: u64) -> Failure<'_> {
    Failure {
        result_type: detail.fault,
        sending_mta_ip: detail.local,
        receiving_mx_hostname: &detail.host,
        receiving_ip: detail.peer,
        failed_session_count: count,
        failure_reason_code: &detail.reason,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::inbox::{Part, gunzip};
    use super::super::super::reporter::Kind;
    use super::super::{MAX_DETAILS, TlsReports, read_part};
    use super::*;
    use mail::Timestamp;
    use mail_auth::report::tlsrpt::{PolicyType, ResultType, TlsReport};
    use net::smtp_client::TlsResult;

    fn event(policy: TlsPolicyFound, fault: Option<TlsFault>, text: &str) -> TlsResult {
        TlsResult {
            domain: "b.example".parse().unwrap(),
            policy,
            host: "mx.b.example".parse().unwrap(),
            peer: Some([192, 0, 2, 1].into()),
            local: None,
            fault,
            text: text.to_owned(),
        }
    }

    fn written(tally: &Tally) -> Draft {
        let by = Submitter {
            domain: "a.example".parse().unwrap(),
            organization: "A & sons".into(),
            contact: "postmaster@a.example".parse().unwrap(),
        };
        let period = Period { from: Timestamp::from_secs(1_795_824_000), to: Timestamp::from_secs(1_795_910_400) };
        draft(&by, &"b.example".parse().unwrap(), period, tally).unwrap()
    }

    #[test]
    fn what_is_written_is_what_another_program_reads() {
        let sts = TlsPolicyFound::Sts(vec![
            "version: STSv1".into(),
            "mode: testing".into(),
            "mx: mx.b.example".into(),
            "max_age: 86400".into(),
        ]);
        let mut tally = Tally::default();
        TlsReports::count(&mut tally, event(TlsPolicyFound::NoPolicyFound, None, ""));
        for _ in 0..3 {
            TlsReports::count(&mut tally, event(sts.clone(), Some(TlsFault::CertificateExpired), "it has\r\nended"));
        }
        TlsReports::count(&mut tally, event(sts, None, ""));
        let draft = written(&tally);
        let report = TlsReport::parse_json(&gunzip(&draft.document).unwrap()).unwrap();
        assert_eq!(report.date_range.start_datetime.to_timestamp(), 1_795_824_000);
        assert_eq!(report.contact_info.as_deref(), Some("postmaster@a.example"));
        let [none, sts] = &report.policies[..] else { panic!("{report:?}") };
        assert_eq!((none.policy.policy_type, none.summary.total_success), (PolicyType::NoPolicyFound, 1));
        assert_eq!(
            (sts.policy.policy_type, sts.policy.mx_host.as_slice()),
            (PolicyType::Sts, &["mx.b.example".to_owned()][..])
        );
        assert_eq!((sts.summary.total_success, sts.summary.total_failure), (1, 3));
        let [detail] = &sts.failure_details[..] else { panic!("{sts:?}") };
        assert_eq!((detail.result_type, detail.failed_session_count), (ResultType::CertificateExpired, 3));
        assert_eq!(detail.failure_reason_code.as_deref(), Some("it hasended"));
        assert_eq!(draft.file_name, "a.example!b.example!1795824000!1795910400.json.gz");
        let part = Part { media_type: draft.media_type, file_name: String::new(), octets: draft.document };
        assert!(read_part(&part).unwrap().is_ok());
    }

    #[test]
    fn what_is_written_of_dane_is_what_another_program_reads() {
        let records = vec!["1 1 1 00ff".to_owned()];
        let mut tally = Tally::default();
        TlsReports::count(&mut tally, event(TlsPolicyFound::Tlsa(records.clone()), None, ""));
        TlsReports::count(&mut tally, event(TlsPolicyFound::Tlsa(records), Some(TlsFault::TlsaInvalid), "of no use"));
        TlsReports::count(&mut tally, event(TlsPolicyFound::Tlsa(Vec::new()), Some(TlsFault::DnssecInvalid), "forged"));
        let report = TlsReport::parse_json(&gunzip(&written(&tally).document).unwrap()).unwrap();
        let kinds = report.policies.iter().map(|policy| (policy.policy.policy_type, &policy.policy.policy_string[..]));
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            [(PolicyType::Tlsa, &[][..]), (PolicyType::Tlsa, &["1 1 1 00ff".to_owned()][..])]
        );
        let faults: Vec<_> = report.policies.iter().map(|policy| policy.failure_details[0].result_type).collect();
        assert_eq!(faults, [ResultType::DnssecInvalid, ResultType::TlsaInvalid]);
        assert_eq!((report.policies[1].summary.total_success, report.policies[1].summary.total_failure), (1, 1));
    }

    #[test]
    fn failures_of_all_kinds_do_not_make_a_report_endless() {
        let mut tally = Tally::default();
        for n in 0..5_000 {
            let policy = TlsPolicyFound::Sts(vec![(n % 20).to_string()]);
            TlsReports::count(&mut tally, event(policy, Some(TlsFault::ValidationFailure), &n.to_string()));
        }
        let details: usize = tally.policies.values().map(|counts| counts.details.len()).sum();
        assert!(details <= super::super::MAX_POLICIES * MAX_DETAILS);
        assert!(gunzip(&written(&tally).document).unwrap().len() < 1_000_000);
    }
}
