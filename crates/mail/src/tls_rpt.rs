//! SMTP TLS reporting (RFC 8460): the record by which a domain asks for reports about the TLS that senders met.
//!
//! Text in, values out. Looking it up, and what a report says, are others'.

use crate::report_uri::ReportUri;

/// The labels of the record, below the domain (RFC 8460 §3).
pub const RECORD_LABELS: &str = "_smtp._tls";
/// Most places that are read of one record.
pub const MAX_PLACES: usize = 4;

/// Where a domain wants its reports, by the TXT records at `_smtp._tls.<domain>`; nowhere if there is no valid record, or if
/// there are several (RFC 8460 §3). Places that cannot be used are passed over, and so are those beyond [`MAX_PLACES`].
pub fn places<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<ReportUri> {
    let mut records = texts.into_iter().filter_map(fields);
    match (records.next(), records.next()) {
        (Some(record), None) => of_record(record),
        _ => Vec::new(),
    }
}

/// Is this text such a record?
pub fn is_record(text: &str) -> bool {
    fields(text).is_some()
}

/// What stands after the version, where that is ours.
fn fields(text: &str) -> Option<&str> {
    let (version, rest) = text.split_once(';')?;
    let (name, value) = version.split_once('=')?;
    (name.trim() == "v" && value.trim() == "TLSRPTv1").then_some(rest)
}

fn of_record(fields: &str) -> Vec<ReportUri> {
    let pairs = fields.split(';').filter_map(|field| field.split_once('='));
    let rua = pairs.into_iter().find(|(name, _)| name.trim() == "rua").map(|(_, value)| value);
    let places = rua.into_iter().flat_map(|value| value.split(',')).filter_map(|uri| uri.trim().parse().ok());
    places.take(MAX_PLACES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Vec<String> {
        places(texts.iter().copied()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(read(&["v=TLSRPTv1;rua=mailto:reports@example.com"]), ["mailto:reports@example.com"]);
        assert_eq!(
            read(&["v=spf1 -all", "v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt; x=y"]),
            ["https://reporting.example.com/v1/tlsrpt"]
        );
        assert_eq!(read(&["v=TLSRPTv1; rua=mailto:a@b.example , https://b.example/x,ftp://b.example/"]).len(), 2);
    }

    #[test]
    fn none_several_and_broken_records_are_nothing() {
        let one = "v=TLSRPTv1; rua=mailto:a@b.example";
        for texts in [
            &[][..],
            &[one, one],
            &["v=TLSRPTv2; rua=mailto:a@b.example"],
            &["v=TLSRPTv1"],
            &["rua=mailto:a@b.example"],
        ] {
            assert!(read(texts).is_empty(), "{texts:?}");
        }
        let many = format!("v=TLSRPTv1; rua={}", ["mailto:a@b.example"; 40].join(","));
        assert_eq!(read(&[&many]).len(), MAX_PLACES);
    }
}
