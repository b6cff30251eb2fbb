//! TLS reports of others, read with limits.

use mail_auth::report::Error;
use mail_auth::report::tlsrpt::TlsReport;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::inbox::{Part, Unreadable, gunzip};

/// Largest report that is read, in octets of JSON.
const MAX_JSON: usize = 2 * 1024 * 1024;
/// Most policies, and most failures, that are kept of one report.
const MAX_ENTRIES: usize = 1_000;
/// Longest text that is kept, in characters.
const MAX_TEXT: usize = 500;

/// A report, as it is shown. Its texts hold no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSummary {
    /// Who says that it is his.
    pub organization: String,
    /// Whom to ask about it.
    pub contact: String,
    /// Its name.
    pub id: String,
    /// What it covers: RFC 3339.
    pub from: String,
    /// Until then.
    pub to: String,
    /// Policy by policy.
    pub policies: Vec<PolicySummary>,
}

/// Connections under one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySummary {
    /// `sts`, `tlsa`, `no-policy-found` or `other`.
    pub kind: String,
    /// The domain that it is about.
    pub domain: String,
    /// Connections that were well.
    pub good: u64,
    /// Connections that were not.
    pub bad: u64,
    /// How they failed.
    pub failures: Vec<FailureSummary>,
}

/// Failures that look the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureSummary {
    /// In the words of RFC 8460 §4.3.
    pub kind: String,
    /// The exchanger.
    pub host: String,
    /// How many.
    pub count: u64,
    /// More about it.
    pub reason: String,
}

/// Reads a part; `None` where it is no TLS report by its type and name (RFC 8460 §5.1, §6.4).
pub fn read_part(part: &Part) -> Option<Result<Value, Unreadable>> {
    let by_type = part.media_type.as_str();
    let is_gzip = by_type == "application/tlsrpt+gzip" || part.file_name.ends_with(".json.gz");
    let is_plain = by_type == "application/tlsrpt+json" || part.file_name.ends_with(".json");
    match (is_gzip, is_plain) {
        (true, _) => Some(gunzip(&part.octets).and_then(|json| read(&json))),
        (_, true) => Some(read(&part.octets)),
        _ => None,
    }
}

fn read(json: &[u8]) -> Result<Value, Unreadable> {
    if json.len() > MAX_JSON {
        return Err(Unreadable::TooLarge);
    }
    let report = TlsReport::parse_json(json).map_err(|error| match error {
        Error::ReportParseError(why) => Unreadable::Malformed(plain(&why)),
        _ => Unreadable::Malformed("it is no report".to_owned()),
    })?;
    serde_json::to_value(summary(&report)).map_err(|error| Unreadable::Malformed(error.to_string()))
}

fn summary(report: &TlsReport) -> TlsSummary {
    let policies = report.policies.iter().take(MAX_ENTRIES).map(|policy| PolicySummary {
        kind: word(&policy.policy.policy_type),
        domain: plain(&policy.policy.policy_domain),
        good: policy.summary.total_success.into(),
        bad: policy.summary.total_failure.into(),
        failures: policy.failure_details.iter().take(MAX_ENTRIES).map(failure).collect(),
    });
    TlsSummary {
        organization: plain(report.organization_name.as_deref().unwrap_or_default()),
        contact: plain(report.contact_info.as_deref().unwrap_or_default()),
        id: plain(&report.report_id),
        from: report.date_range.start_datetime.to_rfc3339(),
        to: report.date_range.end_datetime.to_rfc3339(),
        policies: policies.collect(),
    }
}

fn failure(detail: &mail_auth::report::tlsrpt::FailureDetails) -> FailureSummary {
    FailureSummary {
        kind: word(&detail.result_type),
        host: plain(detail.receiving_mx_hostname.as_deref().unwrap_or_default()),
        count: detail.failed_session_count.into(),
        reason: plain(detail.failure_reason_code.as_deref().unwrap_or_default()),
    }
}

/// The word of the RFC, which is how it is written in JSON.
fn word(value: &impl Serialize) -> String {
    let written = serde_json::to_value(value).ok();
    written.as_ref().and_then(Value::as_str).unwrap_or("other").to_lowercase()
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8460 appendix B.
    const EXAMPLE: &str = r#"{"organization-name": "Company-X",
        "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
        "contact-info": "sts-reporting@company-x.example",
        "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
        "policies": [{
            "policy": {"policy-type": "sts", "policy-string": ["version: STSv1","mode: testing","mx: *.mail.company-y.example","max_age: 86400"],
                       "policy-domain": "company-y.example", "mx-host": ["*.mail.company-y.example"]},
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
            "failure-details": [
              {"result-type": "certificate-expired", "sending-mta-ip": "2001:db8:abcd:0012::1",
               "receiving-mx-hostname": "mx1.mail.company-y.example", "failed-session-count": 100},
              {"result-type": "validation-failure", "sending-mta-ip": "198.51.100.62", "receiving-ip": "203.0.113.58",
               "receiving-mx-hostname": "mx-backup.mail.company-y.example", "failed-session-count": 3,
               "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"}]}]}"#;

    fn part(media_type: &str, file_name: &str, octets: &[u8]) -> Part {
        Part { media_type: media_type.into(), file_name: file_name.into(), octets: octets.to_vec() }
    }

    #[test]
    fn the_example_of_the_rfc() {
        let read = read_part(&part("application/tlsrpt+json", "", EXAMPLE.as_bytes())).unwrap().unwrap();
        let summary: TlsSummary = serde_json::from_value(read).unwrap();
        assert_eq!((summary.organization.as_str(), summary.from.as_str()), ("Company-X", "2016-04-01T00:00:00Z"));
        let policy = &summary.policies[0];
        assert_eq!((policy.kind.as_str(), policy.good, policy.bad), ("sts", 5326, 303));
        let failure = &policy.failures[1];
        assert_eq!((failure.kind.as_str(), failure.count), ("validation-failure", 3));
        assert_eq!(failure.reason, "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED");
    }

    #[test]
    fn other_parts_and_broken_ones() {
        assert_eq!(read_part(&part("application/pdf", "x.pdf", b"x")), None);
        for (kind, name) in
            [("application/tlsrpt+gzip", ""), ("application/gzip", "r.json.gz"), ("application/tlsrpt+json", "")]
        {
            assert!(read_part(&part(kind, name, b"{}")).unwrap().is_err(), "{kind}");
        }
        let deep = "[".repeat(10_000);
        assert!(read_part(&part("application/tlsrpt+json", "", deep.as_bytes())).unwrap().is_err());
        let long = format!("{EXAMPLE}{}", " ".repeat(MAX_JSON));
        assert_eq!(read_part(&part("application/tlsrpt+json", "", long.as_bytes())), Some(Err(Unreadable::TooLarge)));
        let escapes = EXAMPLE.replace("Company-X", "\\u001b[2J\\nX");
        let read = read_part(&part("application/tlsrpt+json", "", escapes.as_bytes())).unwrap().unwrap();
        assert_eq!(read["organization"], "[2JX");
    }
}
