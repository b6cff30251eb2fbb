//! Records as the text of a zone file (RFC 1035 §5), with a word on each group.

use super::{Data, Missing, Purpose, Record};

/// Longest string of a TXT record (RFC 1035 §3.3).
const STRING: usize = 255;

/// Everything, grouped by purpose, and in comments what there is no setting for.
pub fn text(records: &[Record], missing: &[Missing]) -> String {
    let mut text = String::new();
    let mut last = None;
    for record in records {
        if last != Some(record.purpose) {
            last = Some(record.purpose);
            text.push_str(if text.is_empty() { "" } else { "\n" });
            text.push_str(&format!("; {}\n", heading(record.purpose)));
        }
        text.push_str(&lines(record));
    }
    if !missing.is_empty() {
        text.push_str("\n; Missing:\n");
    }
    text.extend(missing.iter().map(|missing| format!("; {}\n", missing.advice)));
    text
}

fn heading(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Host => "This server. Its addresses should lead back to its name (PTR): many receivers check.",
        Purpose::Mail => "Mail arrives.",
        Purpose::Spf => "Who may send for the name. Add whoever else does.",
        Purpose::Dmarc => "What others should do with mail that is not genuine: watch first (p=none), then p=reject.",
        Purpose::Dkim => "Keys that sign what users send (DKIM).",
        Purpose::Tbr => "Sending by reference.",
        Purpose::MtaSts => "Senders insist on TLS (MTA-STS). A certificate for mta-sts.… must be configured.",
        Purpose::TlsRpt => "Senders report how TLS went, once a day (TLSRPT).",
        Purpose::Dane => "DANE: only of use in a zone that is signed with DNSSEC; leave it out otherwise.",
    }
}

/// One record; addresses make one line each.
pub(super) fn lines(record: &Record) -> String {
    let name = &record.name;
    match &record.data {
        Data::Mx { preference, host } => format!("{name}. IN MX {preference} {host}.\n"),
        Data::Txt { text } => format!("{name}. IN TXT {}\n", quoted(text)),
        Data::Tlsa { text } => format!("{name}. IN TLSA {text}\n"),
        Data::Alias { target } => format!("{name}. IN CNAME {target}.\n"),
        Data::Addresses { addresses } if addresses.is_empty() => {
            format!(
                "; {name}. IN A …    (and AAAA: the addresses of this server, which its configuration does not name)\n"
            )
        }
        Data::Addresses { addresses } => {
            let line = |address: &std::net::IpAddr| {
                let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                format!("{name}. IN {kind} {address}\n")
            };
            addresses.iter().map(line).collect()
        }
    }
}

/// In strings of at most 255 octets, each in quotes. The texts made here are ASCII.
fn quoted(text: &str) -> String {
    let chunks = text.as_bytes().chunks(STRING);
    let strings = chunks.map(|chunk| {
        let escaped = String::from_utf8_lossy(chunk).replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    });
    strings.collect::<Vec<_>>().join(" ")
}
